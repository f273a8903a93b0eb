"""Calls of the kernels from compiled code: `python -m bench compiled`.

Prints, for each number of classes, the microseconds that softmax takes for each of 10,000 rows, one call a
row: from a loop in C, from one that Numba compiles, and from Python with `fastloss.softmax`.
All compute on one thread. The exit status is 1 where Numba takes more than 1.2 times what C does.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

import fastloss
from fastloss import cython_api

from .options import shared

ROWS, CLASSES, MOST = 10_000, (3, 10, 100, 1000), 1.2
SIZE, POINTER = ctypes.c_ssize_t, ctypes.c_void_p
ADDRESS = cython_api.address("softmax_float")
softmax = ctypes.CFUNCTYPE(SIZE, SIZE, SIZE, POINTER, SIZE, POINTER)(ADDRESS)


@numba.njit
def one_by_one(x: Any, out: Any) -> int:
    """The loop of compiled.c."""
    status = 0
    classes = x.shape[1]
    for i in range(len(x)):
        status |= softmax(1, classes, x[i].ctypes, classes, out[i].ctypes)
    return status


def c_loop() -> Callable[..., int]:
    """compiled.c, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "compiled.so"
        source = Path(__file__).with_name("compiled.c")
        command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", library, source]
        subprocess.run(command, check=True)
        function = ctypes.CDLL(str(library)).one_by_one
    function.argtypes, function.restype = [POINTER, SIZE, SIZE, POINTER, POINTER], SIZE
    return function  # type: ignore[no-any-return]


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, seconds=1.0)


def medians(in_c: Callable[..., int], classes: int, seconds: float) -> list[float]:
    """Microseconds for a row in C, Numba and Python, which take turns."""
    x = np.random.default_rng(0).standard_normal((ROWS, classes), np.float32)
    out, few = np.empty_like(x), 200
    calls = [
        (lambda: in_c(ADDRESS, ROWS, classes, x.ctypes.data, out.ctypes.data), ROWS),
        (lambda: one_by_one(x, out), ROWS),
        (lambda: [fastloss.softmax(x[i], out=out[i]) for i in range(few)], few),
    ]
    assert in_c(ADDRESS, ROWS, classes, x.ctypes.data, out.ctypes.data) == one_by_one(x, out) == 0
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end:
        for (call, rows), spent in zip(calls, times, strict=True):
            begun = time.perf_counter()
            call()
            spent.append((time.perf_counter() - begun) / rows)
    return [1e6 * statistics.median(spent) for spent in times]


def main(options: argparse.Namespace) -> int:
    """Run the comparison."""
    fastloss.show_config()
    in_c, worst = c_loop(), 0.0
    print(f"\n{'classes':>8}{'C':>9}{'Numba':>9}{'ratio':>9}{'Python':>9}   microseconds for a row")
    for classes in CLASSES:
        c, in_numba, python = medians(in_c, classes, options.seconds)
        worst = max(worst, in_numba / c)
        print(f"{classes:8}{c:9.3f}{in_numba:9.3f}{in_numba / c:9.2f}{python:9.2f}", flush=True)
    return int(worst > MOST)
