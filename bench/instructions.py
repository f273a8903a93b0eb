"""Instructions for each element, counted by callgrind: `python -m bench instructions`.

A guard against slower kernels that needs no quiet machine: the count does not depend on what else runs.
Valgrind knows no AVX-512, so the avx2 and base kernels are measured. Each call is made with two sizes, whose
difference leaves out the Python around the kernel. The bounds stand in instructions.json, a tenth above what
was measured when they were written (`--write`); the exit status is 1 when one is exceeded.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastloss

BOUNDS = Path(__file__).with_name("instructions.json")
ISAS = ("avx2", "base")
ROOM = 1.1  # another compiler version may need a few more


def kernels(scale: int) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Name, number of elements, and the call."""
    rng = np.random.default_rng(0)
    shapes = ((2048, 2), (512, 10), (48, 100), (8, 1000), (1, 19, 8, 64), (1, 8192))
    for shape in ((n * scale, *others) for n, *others in shapes):
        x = rng.standard_normal(shape, np.float32)
        target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        grad = np.zeros_like(x)
        name = "×".join(str(n) for n in shape[1:])
        cases: list[tuple[dict[str, Any], Any]] = [({}, target)]
        if name not in ("2", "8192"):
            cases.append(({"label_smoothing": 0.1}, target))
        if name == "100":
            cases += [({"softcap": 30.0}, target), ({}, fastloss.softmax(x))]
        for options, y in cases:
            loss = fastloss.CrossEntropyLoss(**options)
            label = "".join(f", {key}" for key in options) + ", probabilities" * (y is not target)
            yield f"cross_entropy {name}{label}", x.size, lambda a=loss, x=x, y=y: a(x, y)
            yield (
                f"cross_entropy {name}{label}, gradient",
                x.size,
                lambda a=loss, x=x, y=y, g=grad: a.value_and_grad(x, y, grad_out=g),
            )
    yield from labelled(scale, rng)
    n = 4096 * scale
    x, y = rng.standard_normal(n, np.float32), rng.random(n, np.float32)
    p, log_p, out = fastloss.sigmoid(x), fastloss.logsigmoid(x), np.zeros(n, np.float32)
    for loss, a, b in (
        (fastloss.MSELoss(), x, y),
        (fastloss.BCEWithLogitsLoss(), x, y),
        (fastloss.BCELoss(), p, y),
        (fastloss.KLDivLoss(), log_p, y),
        (fastloss.KLDivLoss(log_target=True), log_p, log_p),
    ):
        named = type(loss).__name__ + ", log_target" * bool(loss.options().get("log_target"))
        yield named, n, lambda loss=loss, a=a, b=b: loss(a, b)
        yield (
            f"{named}, gradient",
            n,
            lambda loss=loss, a=a, b=b: loss.value_and_grad(a, b, grad_out=out),
        )
    for function in (fastloss.sigmoid, fastloss.logsigmoid):
        yield function.__name__, n, lambda function=function: function(x, out=out)


def labelled(scale: int, rng: np.random.Generator) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """What depends on the labels: their type, those that are ignored, confident predictions."""
    x = rng.standard_normal((512 * scale, 10), np.float32)
    target, grad = rng.integers(0, 10, len(x)), np.zeros_like(x)
    loss, nll, focal = fastloss.CrossEntropyLoss(), fastloss.NLLLoss(), fastloss.FocalLoss()
    narrow, ignored, half = target.astype(np.uint8), np.where(target > 6, -100, target), x.astype(np.float16)
    sure = x + 30 * (np.arange(10) == target[:, None]).astype(np.float32)
    rows, none = x[: 50 * scale].reshape(-1, 500), np.full(scale, -100)
    yield "cross_entropy 10, uint8", x.size, lambda: loss(x, narrow)
    yield "cross_entropy 10, ignored", x.size, lambda: loss.value_and_grad(x, ignored, grad_out=grad)
    yield "focal_loss 10, ignored", x.size, lambda: focal(x, ignored)
    yield "poly_loss 10, confident", x.size, lambda: fastloss.poly_loss(sure, target)
    yield "nll_loss 10", x.size, lambda: nll(x, target)
    yield "nll_loss 10, float16", x.size, lambda: nll(half, target)
    yield (
        "cross_entropy 500, all ignored, gradient",
        rows.size,
        lambda: loss.value_and_grad(rows, none, grad_out=grad[: 50 * scale].reshape(-1, 500)),
    )


def run_under_callgrind(library: str) -> None:
    """Make every call with both sizes, each in a dump of its own."""
    callgrind = ctypes.CDLL(library)
    fastloss.set_num_threads(1)
    for scale in (9, 16):
        for name, elements, call in kernels(scale):
            for _ in range(20):  # until the interpreter has specialised and cached what it will
                call()
            callgrind.zero()
            call()
            callgrind.dump(f"{elements} {name}".encode())


def measure(isa: str) -> dict[str, float]:
    """Instructions for each element, by kernel."""
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/instructions.so"
        source = Path(__file__).with_name("instructions.c")
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source], check=True)
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        subprocess.run(
            [*command, sys.executable, "-m", "bench", "instructions", "--under-callgrind", library],
            env={**os.environ, "FASTLOSS_ISA": isa, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            check=True,
            stderr=subprocess.DEVNULL,
        )
        counts: dict[str, list[tuple[int, int]]] = {}
        for path in Path(folder).glob("out.*"):
            text = path.read_text(errors="replace")
            called = re.search(r"Trigger: Client Request: (\d+) (.*)", text)
            total = re.search(r"(?:totals|summary): (\d+)", text)
            if called and total:
                counts.setdefault(called[2], []).append((int(called[1]), int(total[1])))
    found = {}
    for name, of_sizes in counts.items():
        (small, fewer), (large, more) = sorted(of_sizes)
        found[name] = (more - fewer) / (large - small)
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", action="store_true", help=f"write the bounds, {BOUNDS.name}")
    parser.add_argument("--under-callgrind", help=argparse.SUPPRESS)


def main(options: argparse.Namespace) -> int:
    """Compare with the bounds, or write them."""
    if options.under_callgrind:
        run_under_callgrind(options.under_callgrind)
        return 0
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: instructions are NOT counted")
        return 0
    found = {isa: measure(isa) for isa in ISAS}
    if options.write:
        bounds = {isa: {name: round(n * ROOM, 2) for name, n in sorted(found[isa].items())} for isa in ISAS}
        BOUNDS.write_text(json.dumps(bounds, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    bounds = json.loads(BOUNDS.read_text(encoding="utf-8"))
    exceeded = 0
    for isa in ISAS:
        if found[isa].keys() != bounds[isa].keys():
            print(f"{isa}: the kernels are not those of {BOUNDS.name}; write it again")
            exceeded += 1
        for name, n in sorted(found[isa].items()):
            bound = bounds[isa].get(name, 0)
            exceeded += n > bound
            print(f"{isa:5} {name:52} {n:7.2f} of {bound:7.2f}{'  EXCEEDED' * (n > bound)}")
    return int(exceeded > 0)
