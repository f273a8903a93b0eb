"""One evaluation of a loss: what was passed, and where results go."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._arguments import (
    FLOAT32,
    FLOAT64,
    Array,
    Axes,
    Output,
    Shape,
    as_array,
    broadcast,
    choice,
    compute_dtype,
    element_axes,
    memory_axes,
    one_for_each,
    real_operand,
    scalar,
    stored_dtype,
)
from ._errors import place

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
        self.value_dtype = self.dtype  # under "none"
        self.sample_weight = None if sample_weight is None else as_array(sample_weight, "sample_weight")
        if self.sample_weight is not None and self.sample_weight.shape == (0,) and self.x.size:
            self.sample_weight = None  # as XGBoost says that there are none
        self.mask = None if mask is None else as_array(mask, "mask")
        self.normalizer = None if normalizer is None else checked_normalizer(normalizer, self.reduction)
        self.grad_output = None if grad_output is None else as_array(grad_output, "grad_output")
        self.out = out
        self.grad_out = grad_out
        self.with_grad = with_grad
        self.hess_out = hess_out
        self.fills = any(given is not None for given in (out, grad_out, hess_out))  # arrays of the caller's
        self.with_hess = hessian is not None
        self.second_order = self.with_hess or "vector" in more
        self.sums: dict[str, Any] = {}  # by scale and bias, where these are wanted
        self.axes: Axes = (), 0
        self.order: tuple[int, ...] = ()  # in which arrays have the caller's axes, if that is another
        self.class_axis: int | None = None  # where the classes are then
        self.exact: Array | None = None  # for the digits of the sum
        self.samples: Shape = ()  # their shape, that of the value under "none",
        self.kernel: dict[str, Any] = {}  # and what a kernel was told of them
        self.more = {name: as_array(value, name) for name, value in more.items()}
        self.arrays = self._arrays()
        self.hessian: str | float = checked_rule(hessian) if self.with_hess else 1.0
        self.floor = _checked_floor(floor)

    def _arrays(self) -> list[tuple[str, Array | None]]:
        """What results must not overlap."""
        return [
            ("input", self.x),
            ("target", self.y),
            ("sample_weight", self.sample_weight),
            ("mask", self.mask),
            ("grad_output", self.grad_output),
            *self.more.items(),
            *((k, v) for k, v in self.options.items() if isinstance(v, np.ndarray)),
        ]

    def in_memory_order(self, axis: int | None) -> Call | None:
        """The call with all arrays' axes in the order in which input has them in memory.

        None where that is the order that they have, or where something does not fit. `axis` is that of the
        classes, which has to stand elsewhere in memory, or None: then nothing is added up, for a sum depends
        on the order.
        """
        x, shape = self.x, self.x.shape
        if x.flags.c_contiguous or self.more or (axis is None and self.reduction != "none"):
            return None
        order, place = element_axes(x) if axis is None else memory_axes(x, axis, any_order=True)
        kept = [a for a in range(x.ndim) if a != axis]
        samples = [kept.index(a) for a in order if a != axis]
        if samples == sorted(samples):
            return None
        of_samples = tuple(shape[a] for a in kept)

        def turned(array: Any) -> Any:
            if array is None or np.shape(array) == ():
                return array
            if array.shape != shape and array.shape != of_samples:
                raise ValueError
            return array.transpose(order if array.shape == shape else samples)

        call = copy.copy(self)
        call.order, call.class_axis = order, place
        try:
            for name in ("x", "y", "grad_output", "out", "grad_out", "hess_out"):
                setattr(call, name, turned(getattr(self, name)))
            for name in ("sample_weight", "mask"):
                array = getattr(self, name)
                if array is not None:
                    each = one_for_each(array, of_samples)
                    setattr(call, name, turned(np.broadcast_to(each, of_samples)))
        except (AttributeError, ValueError):  # not arrays, or not of these shapes
            return None
        call.arrays = call._arrays()
        return call

    def turned_back(self, result: Any, given: Any) -> Any:
        """A result of such a call, or what was given for it, as the caller has the axes."""
        if given is not None or result is None or np.ndim(result) == 0:
            return result if given is None else given
        order = list(self.order)
        if result.ndim < len(order):
            del order[self.class_axis or 0]
        return np.transpose(result, np.argsort(order))

    def beside_input(self, array: Array, name: str) -> Array:
        """An array broadcast to input's shape, the caller's."""
        if not self.order:
            return broadcast(array, name, self.x.shape, self.dtype)
        shape = tuple(self.x.shape[i] for i in np.argsort(self.order))
        beside: Array = broadcast(array, name, shape, self.dtype).transpose(self.order)
        return beside

    def outputs(self, *, zeros: bool = False) -> tuple[Output | None, ...]:
        """The arrays to fill: the values under "none", the gradient, and the Hessian's diagonal."""
        value = grad = hess = None
        also = (FLOAT32,) if self.stored == FLOAT64 else ()
        if self.reduction == "none":
            value = Output(self.out, "out", self.samples, self.value_dtype, apart_from=self.arrays)
        elif self.out is not None:
            raise ValueError(f"out: the value under reduction {self.reduction!r} is a float")
        if self.with_grad:
            given = self.grad_out, "grad_out", ("out", self.out)
            grad = self.like_input(*given, also=also, in_place=("input",), zeros=zeros)
        if self.with_hess:
            given = self.hess_out, "hess_out", ("out", self.out)
            hess = self.like_input(*given, ("grad_out", self.grad_out), also=also)
        return value, grad, hess

    def like_input(self, given: Any, name: str, *others: tuple[str, Any], **options: Any) -> Output:
        """An array of input's shape and dtype to fill, apart from what was passed and from others to fill."""
        apart_from = [*self.arrays, *others]
        return Output(
            given, name, self.x.shape, self.stored, apart_from=apart_from, axes=self.axes, **options
        )

    def rule(self, bound: float, friedman: float) -> tuple[bool, float, float]:
        """How the kernels compute the Hessian's diagonal: without negative terms, its factor, and its floor.

        The factors are those of the rules that have one.
        """
        factors = {"bound": bound, "friedman": friedman}
        factor = factors.get(self.hessian, 1.0) if isinstance(self.hessian, str) else self.hessian
        return self.hessian == "bound", factor, self.floor

    def upstream(self) -> tuple[float, Array | None]:
        """grad_output as one number, or as an array shaped as the value under "none"."""
        shape = self.samples
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
            got = f"{place('grad_output', where)} = {array[where]}"
            raise ValueError(f"{got}, wanted at least 0 beside a Hessian")


def friedman(classes: int) -> float:
    """What Friedman's rule multiplies the Hessian's diagonal by; one class has none."""
    return classes / (classes - 1) if classes > 1 else 0.0


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


def checked_normalizer(value: Any, reduction: str) -> float:
    """What a mean is to be divided by."""
    if reduction not in ("mean", "batchmean"):
        raise ValueError(f"normalizer: it is what a mean is divided by, and the reduction is {reduction!r}")
    result = scalar(value, "normalizer")
    if not 0 < result < math.inf:
        raise ValueError(f"normalizer: got {value}, wanted a positive number")
    return result
