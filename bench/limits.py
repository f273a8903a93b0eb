"""What the memory system allows: compiled loops that only read or copy a case's arrays (limits.c)."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import fastloss
from fastloss import _kernels

from .rows import Calls, Case


@cache
def _library() -> Any:
    """Compile limits.c for the instruction set of the kernels in use."""
    march = {"avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}
    compiler = [os.environ.get("CC", "cc"), "-O3", *march.get(_kernels.active, [])]
    compiler += ["-fopenmp", "-shared", "-fPIC"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "limits.so"
        subprocess.run([*compiler, "-o", path, Path(__file__).with_name("limits.c")], check=True)
        return ctypes.CDLL(str(path))


def calls(case: Case, limit: str) -> Calls:
    """The loops that measure a limit, "read" or "copy".

    A copy is made with ordinary stores, and for comparison with stores that pass the caches by.
    """
    count = len(case.inputs)
    arrays = (ctypes.c_void_p * count)(*(a.ctypes.data for a in case.inputs))
    words = (ctypes.c_size_t * count)(*(a.nbytes // 8 for a in case.inputs))
    loop = partial(_library().sweep, arrays, words, count)
    threads = fastloss.get_num_threads()
    if limit == "read":
        return {"read": partial(loop, None, 0, threads)}
    result = ctypes.c_void_p(case.result.ctypes.data)
    return {"copy": partial(loop, result, 0, threads), "streaming copy": partial(loop, result, 1, threads)}
