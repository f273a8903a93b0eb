"""Choice of the compiled kernels: the same source, one extension for each instruction set."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import numpy as np

from . import _base  # type: ignore[attr-defined]

ISAS = ("base", "avx2", "avx512")
supported: tuple[str, ...] = tuple(_base.supported())


built: tuple[str, ...] = tuple(
    name for name in ISAS if importlib.util.find_spec(f"{__name__}._{name}") is not None
)
available: tuple[str, ...] = tuple(name for name in built if name in supported)

active: str
module: Any
"""The extension in use; `use` replaces it."""

ROWS_BLOCK: int = _base.BLOCKS["ROWS_BLOCK"]
ROWS_MIN_CLASSES: int = _base.BLOCKS["ROWS_MIN_CLASSES"]
LANES: int = _base.BLOCKS["LANES"]
LANES_BLOCK: int = _base.BLOCKS["LANES_BLOCK"]
POINTWISE_BLOCK: int = _base.BLOCKS["POINTWISE_BLOCK"]
SERIAL_ELEMENTS: int = _base.SERIAL_ELEMENTS
BFLOAT16: np.dtype[Any] = _base.BFLOAT16_DTYPE
"""bfloat16 for who has no NumPy dtype of that name, as PyTorch: its bits."""
OPS: dict[str, int] = _base.OPS


def use(name: str) -> None:
    """Switch to the kernels of one instruction set; ImportError says why it cannot be."""
    global active, module
    if name not in ISAS:
        raise ImportError(f"FASTLOSS_ISA: got {name!r}, wanted one of {', '.join(ISAS)}")
    if name not in built:
        raise ImportError(f"FASTLOSS_ISA={name}: not in this build, which has {', '.join(built)}")
    if name not in supported:
        raise ImportError(
            f"FASTLOSS_ISA={name}: this processor does not have it; usable are {', '.join(available)}"
        )
    module = importlib.import_module(f"{__name__}._{name}")
    active = name


use(os.environ.get("FASTLOSS_ISA") or available[-1])
