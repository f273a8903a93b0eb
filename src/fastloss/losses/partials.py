"""Losses of logits whose classes are in several arrays: what each has of a sample, merged, and the rest.

Design:
a) A part is what the kernels collect of a sample in one pass, its statistics, over some of the classes.
   Merged in the order of the classes they are those of all; the kernels go on from there as after a pass.
b) The gradient is a second pass over each part, with the statistics of all.
c) What is known of the samples alone, weights and what is ignored, each part has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from .. import _kernels
from .._arguments import (
    Array,
    Shape,
    class_axis,
    memory_axes,
    native,
    number,
    sample_operand,
    with_class_axis,
)
from .._call import Call
from .._errors import shortening
from .._runtime import threads_for
from ..totals import COUNTS, Exact, Total
from ._plan import V, counted, exponent, is_moderate, rescaled, sum_of

if TYPE_CHECKING:
    from .classes import _LabelLoss

__all__ = ["Partial"]

NONE = -1.0  # the sum, less 1, of a sample that does not count


class Parts(NamedTuple):
    """Arrays of `Parts` in job.pxd."""

    top: Array
    others: Array
    label: Array
    dot: Array | None

    @classmethod
    def of(cls, samples: int, dtype: np.dtype[Any], dot: bool) -> Parts:
        """Arrays to fill."""
        terms = dtype.itemsize // 4
        sums = [np.empty((samples, terms)) for _ in range(1 + dot)]
        return cls(np.empty(samples, dtype), sums[0], np.empty(samples, dtype), sums[1] if dot else None)

    def clear(self, counts: Array) -> None:
        """What there is of no classes."""
        self.top.fill(-math.inf)
        self.others.fill(0)
        self.others[~counts, 0] = NONE
        self.label[:] = np.where(counts, math.nan, 0)
        if self.dot is not None:
            self.dot.fill(0)

    @property
    def counts(self) -> Array:
        """Which samples count."""
        return np.asarray(self.others[:, 0] != NONE)


class Partial(Generic[V]):
    """What a loss needs of a slice of the classes: for logits that are in several arrays or processes.

    Of each sample it has the maximum, the sum of exponentials without the maximum's own 1, and the logit of
    the label, if that is in the slice: 16 bytes where float32 is computed in, 32 in float64; with label
    smoothing 8 or 16 more, and the weights. Parts side by side merge; that of all classes has the value.
    ``loss.partial(input, target, start=...)`` makes one. It can be pickled.

    See Also
    --------
    fastloss.CrossEntropyLoss.partial : The part of a slice of the logits.
    Total : The same for parts of the samples.

    Notes
    -----
    Two parts with maxima m ≥ n and sums 1 + s and 1 + t make m and 1 + s + (1 + t) exp(n − m). The merged
    numbers are within the same bounds as those of one array, for any partition; the same parts, merged in the
    order of the classes, give the same bits.

    References
    ----------
    Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); Shoeybi et al., "Megatron-LM"
    (2019), section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss
    >>> logits, labels = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), np.array([0, 2])
    >>> loss = fastloss.CrossEntropyLoss()
    >>> left = loss.partial(logits[:, :2], labels)
    >>> right = loss.partial(logits[:, 2:], labels, start=2)
    >>> whole = left.merge(right)
    >>> round(whole.value(), 12) == round(loss(logits, labels), 12)
    True
    >>> whole.grad(logits[:, 2:], labels, start=2).round(3)
    array([[ 0.021],
           [-0.071]])
    """

    __slots__ = (
        "_class_weight",
        "_loss",
        "_of_classes",
        "_parts",
        "_sample_weight",
        "shape",
        "start",
        "stop",
    )

    start: int
    """The first class,"""
    stop: int
    """and the one behind the last."""
    shape: Shape
    """That of the samples, as the value has it under "none"."""
    _loss: _LabelLoss[V]
    _parts: Parts
    _of_classes: float
    _sample_weight: Array | None
    _class_weight: Array | None

    def __init__(self) -> None:
        raise TypeError("Partial: wanted loss.partial(input, target, start=...), which makes one")

    @classmethod
    def _of(
        cls,
        loss: _LabelLoss[V],
        classes: tuple[int, int],
        shape: Shape,
        parts: Parts,
        weights: tuple[Array | None, Array | None],
    ) -> Partial[V]:
        """Of these classes; `weights` of the samples, and of their labels."""
        part: Partial[V] = object.__new__(cls)
        part._loss, part._parts, part.shape = loss, parts, shape
        part._sample_weight, part._class_weight = weights
        part.start, part.stop = classes
        shared = _shared(loss, *classes, parts.top.dtype)
        part._of_classes = 0.0 if shared is None else sum_of(shared)
        return part

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers of all samples, without their weights."""
        return sum(array.nbytes for array in self._parts if array is not None)

    def merge(self, other: Partial[V]) -> Partial[V]:
        """Return the part of the classes of both, which stand side by side.

        Parameters
        ----------
        other : Partial
            Of the same loss, samples and weights; its classes begin where these end, or end where they begin.

        Returns
        -------
        Partial
            A new one.

        Raises
        ------
        TypeError, ValueError
            No part, one of another loss, other samples or another dtype, or classes between or in common.

        Examples
        --------
        >>> import functools
        >>> import fastloss
        >>> loss = fastloss.CrossEntropyLoss()
        >>> parts = [loss.partial([[0.0]], [1], start=k) for k in range(4)]
        >>> functools.reduce(fastloss.Partial.merge, parts).value()
        1.3862943611198906
        """
        if not isinstance(other, Partial):
            raise TypeError(f"other: got {type(other).__name__}, wanted a Partial")
        first, second = sorted((self, other), key=lambda part: (part.start, part.stop))
        if first.stop != second.start:
            classes = f"{other._classes()} beside {self._classes()}"
            raise ValueError(f"other: got {classes}, wanted classes that end or begin where these do")
        for name, mine, its in (
            ("loss", self._loss, other._loss),
            ("samples of shape", self.shape, other.shape),
            ("dtype", self._parts.top.dtype, other._parts.top.dtype),
        ):
            if mine != its:
                raise ValueError(f"other: got {name} {its}, wanted {mine} as this part has")
        differs = self._parts.counts != other._parts.counts
        if differs.any():
            at = self._named(differs)
            raise ValueError(f"other: {at} counts in one of the parts and not in the other")
        a, b = first._parts, second._parts
        twice = self._parts.counts & ~np.isnan(a.label) & ~np.isnan(b.label)
        if twice.any():
            raise ValueError(f"other: {self._named(twice)} is a label of both parts, whose targets differ")
        if not _equal(self._sample_weight, other._sample_weight):
            raise ValueError("other: got another sample_weight than this part has")
        merged = Parts.of(len(a.top), a.top.dtype, a.dot is not None)
        _kernels.module.merge_parts(tuple(a), tuple(b), first._of_classes, second._of_classes, tuple(merged))
        weights = self._sample_weight, self._class_weight
        return Partial._of(self._loss, (first.start, second.stop), self.shape, merged, weights)

    def _gathered(self, gather: Callable[[Array], list[Array]], classes: list[int]) -> Partial[V]:
        """The part of all classes, by `gather`, which sends bytes between processes of so many classes."""
        arrays = [array for array in self._parts if array is not None]
        sent = np.concatenate([array.reshape(-1).view(np.uint8) for array in arrays])
        whole: Partial[V] | None = None
        stop = 0
        for received, n in zip(gather(sent), classes, strict=True):
            ends = np.cumsum([array.nbytes for array in arrays])[:-1]
            pieces = np.split(received, ends)
            views: list[Any] = [
                np.frombuffer(piece.tobytes(), array.dtype).reshape(array.shape)
                for piece, array in zip(pieces, arrays, strict=True)
            ]
            parts = Parts(*views, *[None] * (4 - len(views)))
            weights = self._sample_weight, self._class_weight
            part = Partial._of(self._loss, (stop, stop + n), self.shape, parts, weights)
            whole = part if whole is None else whole.merge(part)
            stop += n
        assert whole is not None
        return whole

    def value(self) -> V:
        """Return the value, of the part of all classes.

        Returns
        -------
        float or ndarray
            The value, in nats: a float, or under "none" the array of values.

        Raises
        ------
        IndexError
            A label that no part has.
        ValueError
            The classes do not begin with 0, or are not as many as the loss has weights.

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.CrossEntropyLoss(reduction="none")
        >>> loss.partial([[0.0, 0.0], [0.0, 0.0]], [0, 1]).value()
        array([0.69314718, 0.69314718])
        """
        return cast(V, self._value())

    @shortening
    def _value(self) -> Any:
        call, divisor = self._whole()
        none = self._loss.reduction == "none"
        values = np.empty(self.shape, self._parts.top.dtype) if none else None
        total = self._run(call, value=values, divisor=divisor or 1.0)
        if none:
            return values
        return total if divisor else self._loss._of_nothing()

    def total(self) -> Total:
        """Return sum, weight and count over the samples, of the part of all classes.

        Returns
        -------
        Total
            As ``loss.total`` gives it; totals of other samples are added to it without rounding.

        Raises
        ------
        IndexError, ValueError
            As of `value`.

        Examples
        --------
        >>> import fastloss
        >>> part = fastloss.CrossEntropyLoss().partial([[0.0, 0.0], [0.0, 0.0]], [0, 1])
        >>> part.total().count
        2
        """
        return self._total()

    @shortening
    def _total(self) -> Total:
        call, _ = self._whole(moderate=False)
        digits, counts = np.zeros(COUNTS, np.int64), self._parts.counts
        self._run(call, exact=digits)
        return Total._of(
            Exact.of_state(digits),
            Exact.of(_weights(counts, self._sample_weight, self._class_weight)),
            int(counts.sum()),
        )

    def grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        start: int = 0,
        grad_output: ArrayLike | None = None,
        grad_out: Array | None = None,
    ) -> Array:
        """Return the derivative of the value with respect to a slice of the logits.

        Parameters
        ----------
        input : array_like
            The slice, as it was given to ``partial``.
        target : array_like
            The class indices, as they were given.
        start : int, default: 0
            The slice's first class.
        %(grad_output)s
        grad_out : ndarray, optional
            Array of input's shape and dtype to fill, which may be `input`.

        Returns
        -------
        ndarray
            The gradient; shape of `input`, and its dtype if that is a float.

        Raises
        ------
        IndexError, TypeError, ValueError
            As of `value`; or a slice of other samples or classes.

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.CrossEntropyLoss()
        >>> whole = loss.partial([[0.0]], [1]).merge(loss.partial([[0.0]], [1], start=1))
        >>> whole.grad([[0.0]], [1], start=1)
        array([[-0.5]])
        """
        return self._grad(input, target, start, grad_output, grad_out)

    @shortening
    def _grad(self, input: Any, target: Any, start: Any, grad_output: Any, grad_out: Any) -> Array:
        kernel, divisor = self._whole()
        loss = self._loss
        call = Call(
            loss._options, input, target, None, None, None, grad_output, None, grad_out, with_grad=True
        )
        found = Slice(loss, call, start)
        if found.shape != self.shape or call.dtype != self._parts.top.dtype:
            got, wanted = (f"{d} of samples {s}" for d, s in ((call.dtype, found.shape), self._samples()))
            raise ValueError(f"input: got {got}, wanted {wanted} as the parts have")
        if found.stop > self.stop:
            raise ValueError(f"start: got classes {found.classes()}, wanted a slice of {self._classes()}")
        factor, upstream = call.upstream()
        grad = call.outputs()[1]
        assert grad is not None
        if not divisor or found.start == found.stop:
            grad.buffer.fill(0)
            return grad.finish()
        if "shared" in kernel:
            kernel["shared"] = kernel["shared"][found.start : found.stop]
            if kernel["linear_weight"] is not None:
                kernel["linear_weight"] = kernel["linear_weight"][found.start : found.stop]
        _kernels.module.class_pass(
            kernel.pop("op"),
            *found.place,
            threads_for(call.x.size),
            grad=grad.buffer,
            grad_output=None if upstream is None else native(upstream, call.dtype),
            factor=factor,
            divisor=divisor,
            **{**kernel, **found.read, "labels": found.labels},
        )
        return grad.finish()

    def _samples(self) -> tuple[np.dtype[Any], Shape]:
        return self._parts.top.dtype, self.shape

    def _classes(self) -> str:
        return f"[{self.start}, {self.stop})"

    def _named(self, which: Array) -> str:
        """The first sample of which that is true."""
        where = ", ".join(map(str, np.unravel_index(int(np.argmax(which)), self.shape)))
        return f"target[{where}]" if where else "target"

    def _whole(self, moderate: bool = True) -> tuple[dict[str, Any], float]:
        """What the kernels take for all classes, and what the value is divided by: 0 if nothing counts.

        That is `moderate`, by other weights if it must be.
        """
        loss, classes, dtype = self._loss, self.stop, self._parts.top.dtype
        if self.start:
            raise ValueError(f"the parts have classes {self._classes()}, wanted all from 0 on")
        for name in ("weight", "scale", "bias"):
            array = getattr(loss, name)
            if isinstance(array, np.ndarray) and array.shape != (classes,):
                raise ValueError(f"{name}: got shape {array.shape}, and the parts have {classes} classes")
        counts = self._parts.counts
        nowhere = counts & np.isnan(self._parts.label)
        if nowhere.any():
            at = self._named(nowhere)
            raise IndexError(f"{at}: its label is in no part, wanted one in [0, {classes}) or ignore_index")
        divisor, weights = 1.0, self._sample_weight
        if loss.reduction == "mean":
            divisor = sum_of(_weights(counts, self._sample_weight, self._class_weight))
            if moderate and not is_moderate(divisor):
                weights = rescaled(weights, self.shape, dtype, self._class_weight)
                divisor = sum_of(_weights(counts, weights, self._class_weight))
        kernel: dict[str, Any] = {
            "op": _kernels.OPS[loss._op()],
            "parts": tuple(self._parts),
            "class_weight": self._class_weight,
            "sample_weight": weights,
            **loss._smoothed(classes, dtype),
        }
        if loss.label_smoothing:  # the kernels multiply `_shared` by the one, and the other
            kernel["shift"] = math.ldexp(kernel["shift"], _step(loss))
            if loss.weight is not None:
                kernel["linear_weight"] = np.ldexp(kernel["linear_weight"], -_step(loss))
        if loss._head:
            kernel.update(zip(("head", "head_parameter", "z_loss"), loss._head, strict=False))
        return kernel, divisor

    def _run(self, kernel: dict[str, Any], **results: Any) -> float:
        """The values, from the statistics alone."""
        top = self._parts.top
        place = top, top.size, 1, 1, 1, threads_for(top.size)
        return cast(float, _kernels.module.class_pass(kernel.pop("op"), *place, **kernel, **results))


def _equal(a: Array | None, b: Array | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b, equal_nan=True))


@np.errstate(all="ignore")
def _weights(counts: Array, *given: Array | None) -> Array:
    """Of each sample, 0 where it does not count."""
    weights: Any = counts.astype(np.float64)
    for array in given:
        if array is not None:
            weights = np.where(counts, weights * array.ravel(), 0.0)
    return np.asarray(weights)


class Slice:
    """A slice of the logits, as the kernels take it, and the labels of its samples."""

    def __init__(self, loss: _LabelLoss[Any], call: Call, start: Any) -> None:
        self.start = number(start, "start", "an integer")
        if not 0 <= self.start < 2**62:
            raise ValueError(f"start: got {start}, wanted the slice's first class, at least 0")
        x = call.x
        axis = class_axis(tuple(max(n, 1) for n in x.shape), loss.axis, "input")  # there may be no classes
        if call.y.shape == x.shape:
            raise ValueError(f"target: got input's shape {x.shape}, wanted class indices, as parts take them")
        self.shape = call.samples = x.shape[:axis] + x.shape[axis + 1 :]
        self.stop = self.start + x.shape[axis]
        for name in ("weight", "scale", "bias"):
            array = getattr(loss, name)
            if isinstance(array, np.ndarray) and array.size < self.stop:
                raise ValueError(
                    f"{name}: got shape {array.shape}, wanted a number for each class, with {self.classes()}"
                )
        call.axes = memory_axes(x, axis)
        self.place = with_class_axis(x, call.axes, call.stored)
        indexed = cast(Any, loss._changed(weight=None))._indexed(call, axis)
        self.labels, self.mask = indexed["labels"], indexed["mask"]
        if self.labels.dtype == np.uint64:  # the kernel reads signed numbers
            self.labels = np.minimum(self.labels, np.uint64(2**63 - 1)).astype(np.int64)
        own = slice(self.start, self.stop)
        self.read: dict[str, Any] = {"first_class": self.start, "ignore_index": indexed["ignore_index"]}
        if loss._head:
            self.read["softcap"], self.read["input_scale"] = loss._head[3:]
        for name, array in (("class_scale", loss.scale), ("class_bias", loss.bias)):
            if isinstance(array, np.ndarray):
                self.read[name] = native(array[own], call.dtype)

    def classes(self) -> str:
        """The classes, for a message."""
        return f"[{self.start}, {self.stop})"


def _step(loss: _LabelLoss[Any]) -> int:
    """2 to this power is what `_shared` is divided by, so that no product with logits leaves the range."""
    return 32 + (0 if loss.weight is None else max(exponent(loss.weight) - 1, -900))


def _shared(loss: _LabelLoss[Any], start: int, stop: int, dtype: np.dtype[Any]) -> Array | None:
    """What all samples multiply the classes by, with label smoothing."""
    if not loss.label_smoothing:
        return None
    weight = np.ones(stop - start, dtype) if loss.weight is None else native(loss.weight[start:stop], dtype)
    return np.ldexp(weight, -_step(loss))


@shortening
def part_of(
    loss: _LabelLoss[V], input: Any, target: Any, start: Any, sample_weight: Any, mask: Any
) -> Partial[V]:
    """The part of a slice of the classes."""
    call = Call(loss._options, input, target, sample_weight, mask, with_grad=False)
    found = Slice(loss, call, start)
    dtype, labels, shape = call.dtype, found.labels, found.shape
    weights, of_labels = None, None
    if call.sample_weight is not None:
        weights = native(sample_operand(call.sample_weight, shape, dtype), dtype)
    kernel = {**found.read, "labels": labels, "mask": found.mask}
    weight = None if loss.weight is None else native(loss.weight, dtype)
    if weight is not None:
        of_labels = np.asarray(weight[np.clip(labels, 0, weight.size - 1)])
    shared = _shared(loss, found.start, found.stop, dtype)
    if shared is not None:
        kernel.update(shared=shared, shared_sum=sum_of(shared), uniform=weight is None)
    parts = Parts.of(math.prod(shape), dtype, bool(loss.label_smoothing))
    if found.start < found.stop:
        run = _kernels.module.class_pass
        run(_kernels.OPS["partial"], *found.place, threads_for(call.x.size), parts=tuple(parts), **kernel)
    else:
        parts.clear(counted(kernel, shape).ravel())
    return Partial._of(loss, (found.start, found.stop), shape, parts, (weights, of_labels))
