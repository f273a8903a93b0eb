"""The compiled kernels, and which of their instruction sets is in use."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np


def _forked_before() -> bool:
    """Whether this process was forked, and has not run another program since.

    Its parent may have used the OpenMP runtime that the kernels share, as PyTorch's. A child of
    multiprocessing's forkserver is such a process too, but its parent does nothing: if no runtime is
    loaded, none was used.
    """
    if not hasattr(os, "fork"):
        return False
    process = Path("/proc/self")
    try:
        flags = int((process / "stat").read_bytes().rpartition(b")")[2].split()[6])
        if not flags & 0x40:  # PF_FORKNOEXEC of Linux
            return False
        runtimes = (b"/libgomp", b"/libomp", b"/libiomp")
        used = any(name in (process / "maps").read_bytes() for name in runtimes)
        return used or b"multiprocessing.forkserver" not in (process / "cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return False


def _load() -> Any:
    """The kernels, with which the OpenMP runtime is loaded unless another library has done so.

    gcc's reads its settings then. Its threads wait for the next call in a loop of 300,000 turns, 5 ms or
    more, in the way of whoever wants their core; 2,000, some tens of microseconds, are enough for the next
    call in a row. What the user has set is left alone.
    """
    forked = _forked_before()
    mine = not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if mine:
        os.environ["GOMP_SPINCOUNT"] = "2000"
    try:
        kernels: Any = importlib.import_module(f"{__name__}._entry")
    finally:
        if mine:
            del os.environ["GOMP_SPINCOUNT"]
    if forked:
        kernels.leave_openmp()
    return kernels


module = _load()

ISAS = ("base", "avx2", "avx512")
supported: tuple[str, ...] = tuple(module.supported())
built: tuple[str, ...] = tuple(module.BUILT)
available: tuple[str, ...] = tuple(name for name in built if name in supported)

active: str
features: set[str]
"""What the compiler was told of the instruction set in use."""

ROWS_BLOCK: int = module.BLOCKS["ROWS_BLOCK"]
ROWS_MIN_CLASSES: int = module.BLOCKS["ROWS_MIN_CLASSES"]
SHORT_ROWS_BYTES: int = module.BLOCKS["SHORT_ROWS_BYTES"]
LANES: int = module.BLOCKS["LANES"]
PLANE_SAMPLES: int = module.BLOCKS["PLANE_SAMPLES"]
POINTWISE_BLOCK: int = module.BLOCKS["POINTWISE_BLOCK"]
SERIAL_ELEMENTS: int = module.BLOCKS["SERIAL_ELEMENTS"]
BFLOAT16: np.dtype[Any] = module.BFLOAT16_DTYPE
"""bfloat16 for who has no NumPy dtype of that name, as PyTorch: its bits."""
OPS: dict[str, int] = module.OPS
HEADS: dict[str, int] = module.HEADS
EXACT: tuple[int, int] = module.EXACT
POINT_OPS: dict[str, int] = module.POINT_OPS
CHECKED: dict[str, int] = module.CHECKED
REDUCTIONS: dict[str, int] = module.REDUCTIONS
TARGETS: dict[str, int] = module.TARGETS
CALLERS: int = module.address_for_callers()
"""Where compiled callers find the functions; see callers.pxd."""


def use(name: str) -> None:
    """Switch to the kernels of one instruction set; ImportError says why it cannot be."""
    global active, features
    if name not in ISAS:
        raise ImportError(f"FASTLOSS_ISA: got {name!r}, wanted one of {', '.join(ISAS)}")
    if name not in built:
        raise ImportError(f"FASTLOSS_ISA={name}: not in this build, which has {', '.join(built)}")
    if name not in supported:
        raise ImportError(
            f"FASTLOSS_ISA={name}: this processor does not have it; usable are {', '.join(available)}"
        )
    features = module.use(built.index(name))
    active = name


if not available:
    raise ImportError(f"fastloss was built for {', '.join(built)}, none of which this processor has")
use(os.environ.get("FASTLOSS_ISA") or available[-1])
