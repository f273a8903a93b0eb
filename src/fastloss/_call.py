"""One evaluation of a loss: what was passed, and where results go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._arguments import (
    Array,
    Axes,
    Output,
    Shape,
    as_array,
    choice,
    compute_dtype,
    real_operand,
    scalar,
    stored_dtype,
)

HESSIANS = ("exact", "bound", "friedman", "residual")


class Call:
    """One evaluation: what was passed, and what is known about it so far."""

    def __init__(
        self,
        options: Mapping[str, Any],
        input: Any,
        target: Any,
        sample_weight: Any = None,
        mask: Any = None,
        normalizer: Any = None,
        grad_output: Any = None,
        out: Any = None,
        grad_out: Any = None,
        *,
        with_grad: bool,
        hessian: Any = None,
        floor: Any = -math.inf,
        hess_out: Any = None,
        **more: Any,
    ) -> None:
        self.options = options
        self.reduction: str = options["reduction"]
        self.x = as_array(input, "input")
        self.y = as_array(target, "target")
        self.dtype = compute_dtype(self.x, "input")
        self.stored = stored_dtype(self.x, self.dtype)
        self.sample_weight = None if sample_weight is None else as_array(sample_weight, "sample_weight")
        if self.sample_weight is not None and self.sample_weight.shape == (0,) and self.x.size:
            self.sample_weight = None  # as XGBoost says that there are none
        self.mask = None if mask is None else as_array(mask, "mask")
        self.normalizer = None if normalizer is None else _checked_normalizer(normalizer, self.reduction)
        self.grad_output = None if grad_output is None else as_array(grad_output, "grad_output")
        self.out = out
        self.grad_out = grad_out
        self.with_grad = with_grad
        self.hess_out = hess_out
        self.with_hess = hessian is not None
        self.second_order = self.with_hess or "vector" in more
        self.sums: dict[str, Any] = {}  # by scale and bias, where these are wanted
        self.axes: Axes = (0, 0)
        self.arrays: list[tuple[str, Array | None]] = [
            ("input", self.x),
            ("target", self.y),
            ("sample_weight", self.sample_weight),
            ("mask", self.mask),
            ("grad_output", self.grad_output),
        ]
        self.more = {name: as_array(value, name) for name, value in more.items()}
        self.arrays += self.more.items()
        self.arrays += [(k, v) for k, v in options.items() if isinstance(v, np.ndarray)]
        self.hessian: str | float = checked_rule(hessian) if self.with_hess else 1.0
        self.floor = _checked_floor(floor)

    def outputs(self, shape: Shape, *, zeros: bool = False) -> tuple[Output | None, ...]:
        """The arrays to fill: the values under "none", the gradient, and the Hessian's diagonal."""
        value = grad = hess = None
        if self.reduction == "none":
            value = Output(self.out, "out", shape, self.dtype, self.dtype, apart_from=self.arrays)
        elif self.out is not None:
            raise ValueError(f"out: the value under reduction {self.reduction!r} is a float")
        if self.with_grad:
            apart_from = [*self.arrays, ("out", self.out if value else None)]
            grad = Output(
                self.grad_out,
                "grad_out",
                self.x.shape,
                self.stored,
                self.stored,
                apart_from=apart_from,
                in_place="input",
                zeros=zeros,
                axes=self.axes,
            )
        if self.with_hess:
            apart_from = [*self.arrays, ("out", self.out if value else None), ("grad_out", self.grad_out)]
            hess = Output(
                self.hess_out,
                "hess_out",
                self.x.shape,
                self.stored,
                self.stored,
                apart_from=apart_from,
                axes=self.axes,
            )
        return value, grad, hess

    def rule(self, bound: float, friedman: float) -> tuple[bool, float, float]:
        """How the kernels compute the Hessian's diagonal: without negative terms, its factor, and its floor.

        The factors are those of the rules that have one.
        """
        factors = {"bound": bound, "friedman": friedman}
        factor = factors.get(self.hessian, 1.0) if isinstance(self.hessian, str) else self.hessian
        return self.hessian == "bound", factor, self.floor

    def upstream(self, shape: Shape) -> tuple[float, Array | None]:
        """grad_output as one number, or as an array shaped as the value under "none"."""
        if self.grad_output is None:
            return 1.0, None
        if self.reduction == "none":
            array = real_operand(self.grad_output, "grad_output", self.dtype)
            if array.shape == shape and array.ndim:
                return 1.0, array
            if array.shape != ():
                raise ValueError(f"grad_output: got shape {array.shape}, wanted a number or shape {shape}")
        return scalar(self.grad_output, "grad_output"), None

    def check_convex(self, factor: float, array: Array | None) -> None:
        """Refuse what would turn the Hessian's sign."""
        if factor < 0:
            raise ValueError(f"grad_output: got {factor}, wanted at least 0 beside a Hessian")
        if array is not None and (array < 0).any():
            where = np.unravel_index(int(np.argmax(array < 0)), array.shape)
            place = ", ".join(map(str, where))
            raise ValueError(f"grad_output[{place}] = {array[where]}, wanted at least 0 beside a Hessian")


def checked_rule(value: Any) -> str | float:
    """Which second derivatives: a word, or a factor of the exact ones."""
    if isinstance(value, str):
        return choice(value, "hessian", HESSIANS)
    factor = scalar(value, "hessian")
    if not 2.0**-20 <= factor <= 2.0**20:
        raise ValueError(f"hessian: got {value}, wanted a factor in [2**-20, 2**20] or one of {HESSIANS}")
    return factor


def _checked_floor(value: Any) -> float:
    floor = scalar(value, "floor")
    if not floor < math.inf:
        raise ValueError(f"floor: got {value}, wanted a finite number, or -inf for none")
    return floor


def _checked_normalizer(value: Any, reduction: str) -> float:
    if reduction not in ("mean", "batchmean"):
        raise ValueError(f"normalizer: it is what a mean is divided by, and the reduction is {reduction!r}")
    result = scalar(value, "normalizer")
    if not 0 < result < math.inf:
        raise ValueError(f"normalizer: got {value}, wanted a positive number")
    return result
