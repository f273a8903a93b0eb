"""Block sizes and thresholds, measured: `python bench/blocks.py` builds the kernels with each and times them.

Writes blocks.md: for each constant and each of its values the microseconds, on one thread, of the calls that
it concerns; for the serial threshold those on one and on two threads. It builds in a temporary folder.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
# constant: the file that defines it, its values, and the (rows, classes), or elements, that show it
CONSTANTS: dict[str, tuple[str, tuple[str, ...], tuple[tuple[int, ...], ...]]] = {
    "ROWS_MIN_CLASSES_": (
        "driver",
        ("64", "128", "256"),
        ((2048, 33), (2048, 97), (2048, 129), (2048, 200)),
    ),
    "LANES_BLOCK": ("lanes", ("32", "64", "128"), ((2048, 10), (2048, 60), (2048, 97), (2048, 127))),
    "FEW_CLASSES": ("lanes", ("1", "4", "8"), ((65536, 2), (65536, 3), (65536, 4), (65536, 7))),
    "ROWS_BLOCK": ("rows", ("1024", "2048", "4096"), ((512, 1000), (512, 4000), (16, 128256))),
    "POINTWISE_BLOCK": ("pointwise", ("128", "256", "512"), ((65536,), (2**22,), (2**24,))),
    "STREAM_BYTES": ("driver", ("16", "64", "1024"), tuple((2**k, 1000) for k in range(10, 15))),
}
SERIAL = [2**k for k in range(11, 21)]


def microseconds(call: Callable[[], object]) -> float:
    """The median of many calls: 0.2 s of them."""
    times = []
    start = time.perf_counter()
    while time.perf_counter() - start < 0.2 or len(times) < 5:
        begin = time.perf_counter()
        call()
        times.append(1e6 * (time.perf_counter() - begin))
    return float(np.median(times[len(times) // 10 :]))


def time_shapes(shapes: list[list[int]], threads: list[int]) -> list[list[float]]:
    """Value and gradient in place of each shape, float32 and float64, on each number of threads."""
    import fastloss

    rng = np.random.default_rng(0)
    found = []
    for shape in shapes:
        times = []
        for dtype in (np.float32, np.float64):
            x = rng.standard_normal(shape, dtype)
            classes = len(shape) > 1
            y = rng.integers(0, shape[1], shape[0]) if classes else rng.random(shape, dtype)
            loss: Any = fastloss.CrossEntropyLoss() if classes else fastloss.BCEWithLogitsLoss()
            grad = np.zeros_like(x)
            for n in threads:
                fastloss.set_num_threads(n)
                times.append(microseconds(lambda x=x, y=y, loss=loss: loss(x, y)))
                times.append(
                    microseconds(
                        lambda x=x, y=y, loss=loss, grad=grad: loss.value_and_grad(x, y, grad_out=grad)
                    )
                )
        found.append(times)
    return found


def measure(
    folder: Path,
    shapes: tuple[tuple[int, ...], ...],
    constant: str = "",
    value: str = "",
    threads: str = "[1]",
) -> list[list[float]]:
    """`time_shapes` in a process of its own, with kernels that are built with one constant changed."""
    if constant:
        path = folder / f"src/fastloss/_kernels/{CONSTANTS.get(constant, ('driver',))[0]}.pxi"
        text = path.read_text(encoding="utf-8")
        changed, count = re.subn(rf"\b({constant} =) \w+", rf"\1 {value}", text, count=1)
        assert count == 1, constant
        path.write_text(changed, encoding="utf-8")
    command = [sys.executable, "setup.py", "build_ext", "--inplace", "-j2"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    if constant:
        path.write_text(text, encoding="utf-8")
    program = f"import blocks, json; print(json.dumps(blocks.time_shapes({json.dumps(shapes)}, {threads})))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(HERE)])}
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(printed)


def main() -> None:
    """Build, time and write."""
    import fastloss

    text = [
        "# Block sizes and thresholds",
        "",
        "Median microseconds of cross_entropy on one thread for rows×classes, and of",
        "binary_cross_entropy_with_logits for a number of elements: value / gradient in place, float32, then",
        "float64. STREAM_BYTES is in MiB, and measured on two threads.",
        f"{platform.machine()}, {fastloss._kernels.active}, {datetime.date.today().isoformat()}; "
        "written by `python bench/blocks.py`.",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "fastloss"
        ignored = shutil.ignore_patterns(".git", "build", "*.so", "_*.c", ".*cache")
        shutil.copytree(HERE.parent, folder, ignore=ignored)
        for constant, (_, values, shapes) in CONSTANTS.items():
            threads = "[2]" if constant == "STREAM_BYTES" else "[1]"
            columns = {value: measure(folder, shapes, constant, value, threads) for value in values}
            text += [
                "",
                f"## {constant.strip('_')}",
                "",
                f"| | {' | '.join(columns)} |",
                "|---" * (len(columns) + 1) + "|",
            ]
            for i, shape in enumerate(shapes):
                cells = ["{:.0f} / {:.0f}, {:.0f} / {:.0f}".format(*columns[value][i]) for value in columns]
                text.append(f"| {'×'.join(f'{n:,}' for n in shape)} | {' | '.join(cells)} |")
                print(text[-1], flush=True)
        sizes = tuple((n // 10, 10) for n in SERIAL)
        found = measure(folder, sizes, "SERIAL_ELEMENTS_", "1", "[1, 2]")
    text += [
        "",
        "## SERIAL_ELEMENTS",
        "",
        "With 1 in its place, value / gradient in place of 10 classes on one and on two threads, float32:",
        "",
        "| elements | one thread | two threads |",
        "|---|---|---|",
    ]
    for n, times in zip(SERIAL, found, strict=True):
        text.append(f"| {n:,} | {times[0]:.1f} / {times[1]:.1f} | {times[2]:.1f} / {times[3]:.1f} |")
    (HERE / "blocks.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
