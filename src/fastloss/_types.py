"""Types of options, for those who check theirs: what is the same for several losses, written once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, TypedDict

from numpy.typing import ArrayLike

from ._arguments import Array

Each = Literal["none"]
Reduced = Literal["mean", "sum"]
Empty = Literal["nan", "zero"]
Axis: TypeAlias = "int | tuple[int, ...] | None"


class CallOptions(TypedDict, total=False):
    """What a call may take beside input and target."""

    sample_weight: ArrayLike | None
    mask: ArrayLike | None
    normalizer: float | None
    out: Array | None


class LossOptions(TypedDict, total=False):
    """What every loss may take beside `reduction`."""

    empty: Empty


class LossCall(LossOptions, CallOptions, total=False):
    """The same of a function."""


class CheckedOptions(LossOptions, total=False):
    """What every loss may take beside `reduction` whose targets are checked."""

    unchecked: bool


class CheckedCall(CheckedOptions, CallOptions, total=False):
    """The same of a function."""


class IndexOptions(LossOptions, total=False):
    """What every loss of class indices may take."""

    ignore_index: int | Sequence[int]
    axis: int | None


class IndexCall(IndexOptions, CallOptions, total=False):
    """The same of a function."""


class SoftmaxOptions(IndexOptions, total=False):
    """What every loss of class indices may take from logits."""

    z_loss: float
    softcap: float | None
    scale: ArrayLike
    bias: ArrayLike | None


class SoftmaxCall(SoftmaxOptions, CallOptions, total=False):
    """The same of a function."""


class LinearOptions(LossOptions, total=False):
    """What linear cross-entropy may take beside `weight` and `reduction`."""

    ignore_index: int | Sequence[int]
    label_smoothing: float
    z_loss: float
    softcap: float | None
    unchecked: bool
    chunk: int | None


class LinearCall(LinearOptions, CallOptions, total=False):
    """The same of the function."""

    linear_bias: ArrayLike | None
    weight: ArrayLike | None
