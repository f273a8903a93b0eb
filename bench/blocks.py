"""Block sizes and thresholds, measured: `python -m bench blocks` builds the kernels with each.

Writes blocks.md: for each constant and each of its values the microseconds, on one thread, of the calls that
it concerns; for the serial threshold those on one and on two threads. With --rows only the sections of those
constants are measured and written again. It builds in a temporary folder.
"""

from __future__ import annotations

import argparse
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

from .options import ROOT, rows_of, shared

# constant: its values, and the (rows, classes), or elements, that show it
CONSTANTS: dict[str, tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]] = {
    "SHORT_ROWS_BYTES": (
        ("512", "1024", "2048"),
        ((2048, 100), (2048, 129), (2048, 200), (2048, 300), (2048, 400)),
    ),
    "SHORT_ROWS_MIN_CLASSES": (("1", "5", "12"), ((65536, 2), (65536, 3), (65536, 5), (65536, 10))),
    "PLANE_SAMPLES": (("256", "512", "1024"), ((4, 4, 65536), (4, 19, 65536), (1, 100, 65536))),
    "TILE_BYTES": (("8192", "16384", "32768"), ((65536, 3), (65536, 10), (8192, 100), (4, 19, 65536))),
    "ROWS_BLOCK": (("1024", "2048", "4096"), ((512, 1000), (512, 4000), (16, 128256))),
    "POINTWISE_STEPS": (("16", "32", "64"), ((65536,), (2**22,), (2**24,))),
    "STREAM_BYTES": (("16", "64", "1024"), tuple((2**k, 1000) for k in range(10, 15))),
    "LINE_MIN_INNER": (
        ("1", "16", "64", "65536"),
        ((128, 19, 128), (16, 19, 1024), (4, 19, 4096), (2, 19, 8192), (1, 19, 2**17)),
    ),
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


def beyond_a_line(a: Any) -> Any:
    """The array in memory that begins 16 bytes beyond a cache line, as that of large arrays does."""
    memory = np.empty(a.nbytes + 80, np.uint8)
    first = -memory.ctypes.data % 64 + 16
    moved = memory[first : first + a.nbytes].view(a.dtype).reshape(a.shape)
    moved[...] = a
    return moved


def time_shapes(shapes: list[list[int]], threads: list[int]) -> list[list[float]]:
    """Value and gradient in place of each shape, float32 and float64, on each number of threads."""
    import fastloss

    rng = np.random.default_rng(0)
    found = []
    for shape in shapes:
        times = []
        for dtype in (np.float32, np.float64):
            x = beyond_a_line(rng.standard_normal(shape, dtype))
            classes = len(shape) > 1
            y = rng.integers(0, shape[1], (shape[0], *shape[2:])) if classes else rng.random(shape, dtype)
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
        path = folder / "src/fastloss/_kernels/tuning.pxi"
        text = path.read_text(encoding="utf-8")
        changed, count = re.subn(rf"\b({constant} =) \w+", rf"\1 {value}", text, count=1)
        assert count == 1, constant
        path.write_text(changed, encoding="utf-8")
    command = [sys.executable, "setup.py", "build_ext", "--inplace", "-j2"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    if constant:
        path.write_text(text, encoding="utf-8")
    program = "import json; from bench.blocks import time_shapes; "
    program += f"print(json.dumps(time_shapes({json.dumps(shapes)}, {threads})))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder)])}
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(printed)


def section(folder: Path, constant: str) -> list[str]:
    """The table of one constant."""
    values, shapes = CONSTANTS[constant]
    threads = "[2]" if constant == "STREAM_BYTES" else "[1]"
    columns = {value: measure(folder, shapes, constant, value, threads) for value in values}
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for i, shape in enumerate(shapes):
        cells = ["{:.0f} / {:.0f}, {:.0f} / {:.0f}".format(*columns[value][i]) for value in columns]
        lines.append(f"| {'×'.join(f'{n:,}' for n in shape)} | {' | '.join(cells)} |")
    return lines


def serial_section(folder: Path) -> list[str]:
    """The table of the serial threshold."""
    found = measure(folder, tuple((n // 10, 10) for n in SERIAL), "SERIAL_ELEMENTS", "1", "[1, 2]")
    return [
        "With 1 in its place, value / gradient in place of 10 classes on one and on two threads, float32:",
        "",
        "| elements | one thread | two threads |",
        "|---|---|---|",
    ] + [
        f"| {n:,} | {times[0]:.1f} / {times[1]:.1f} | {times[2]:.1f} / {times[3]:.1f} |"
        for n, times in zip(SERIAL, found, strict=True)
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", output=Path("bench"))


def main(options: argparse.Namespace) -> None:
    """Build, time and write."""
    import fastloss

    names = rows_of(options.rows, [*CONSTANTS, "SERIAL_ELEMENTS"])
    path = options.output / "blocks.md"
    _, *written = path.read_text(encoding="utf-8").split("\n## ") if path.exists() else [""]
    sections = {text.partition("\n")[0]: text.partition("\n")[2].strip().splitlines() for text in written}
    about = f"{platform.machine()}, {fastloss._kernels.active}, {datetime.date.today().isoformat()}."
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "fastloss"
        ignored = shutil.ignore_patterns(".git", "build", "*.so", "_*.c", ".*cache")
        shutil.copytree(ROOT, folder, ignore=ignored)
        for name in names:
            lines = section(folder, name) if name in CONSTANTS else serial_section(folder)
            sections[name] = [about, "", *lines]
            print("\n".join(["", f"## {name}", "", about, "", *lines]), flush=True)
    text = [
        "# Block sizes and thresholds",
        "",
        "Median microseconds of cross_entropy on one thread for rows×classes, or ×neighbours of a",
        "strided class axis too, and of binary_cross_entropy_with_logits for a number of elements:",
        "value / gradient in place, float32, then float64. STREAM_BYTES is in MiB, and measured on",
        "two threads; LINE_MIN_INNER in tiles of 64 neighbours.",
        "Written by `python -m bench blocks`.",
    ]
    for name, lines in sections.items():
        text += ["", f"## {name}", "", *lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
