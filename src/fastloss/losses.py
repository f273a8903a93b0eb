"""The losses: for each one a class that holds its options, and a function.

Design:
a) `_Loss` is the plan that all share: arguments in, one kernel call, value and gradient out.
b) `_ClassLoss` adds the class axis, `_PointwiseLoss` the elementwise ones. A loss says which kernel it runs
   with which arguments; the formulas are in `_kernels`, and once more, in NumPy, in `reference`.
c) The kernels receive one factor for the gradient, grad_output / divisor: value and gradient of a mean come
   out of the same pass.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from . import _checking, _kernels
from ._arguments import (
    Array,
    Output,
    Shape,
    as_array,
    broadcast,
    class_axis,
    compute_dtype,
    element_operand,
    flag,
    native,
    real_operand,
    scalar,
    stored_dtype,
    target_operand,
    widened,
    with_class_axis,
)
from ._runtime import threads_for

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "KLDivLoss",
    "MSELoss",
    "MultinomialNLLLoss",
    "NLLLoss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "kl_div",
    "mse_loss",
    "multinomial_nll_loss",
    "nll_loss",
]

Value = float | Array


class _Call:
    """One evaluation: what was passed, and what is known about it so far."""

    def __init__(
        self,
        loss: _Loss,
        input: Any,
        target: Any,
        sample_weight: Any,
        grad_output: Any,
        out: Any,
        grad_out: Any,
        with_grad: bool,
    ) -> None:
        self.x = as_array(input, "input")
        self.y = as_array(target, "target")
        self.dtype = compute_dtype(self.x, "input")
        self.stored = stored_dtype(self.x, self.dtype)
        self.sample_weight = None if sample_weight is None else as_array(sample_weight, "sample_weight")
        self.grad_output = None if grad_output is None else as_array(grad_output, "grad_output")
        self.out = out
        self.grad_out = grad_out
        self.with_grad = with_grad
        self.reduction = loss.reduction
        self.arrays: list[tuple[str, Array | None]] = [
            ("input", self.x),
            ("target", self.y),
            ("sample_weight", self.sample_weight),
            ("grad_output", self.grad_output),
        ]
        self.arrays += [(k, v) for k, v in vars(loss).items() if isinstance(v, np.ndarray)]

    def outputs(self, shape: Shape, *, zeros: bool = False) -> tuple[Output | None, Output | None]:
        """The arrays to fill: the values under "none", and the gradient."""
        value = grad = None
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
            )
        return value, grad

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


class _Loss:
    """What every loss has: options, a value, and a value with its gradient."""

    _function: ClassVar[str]
    _reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")

    reduction: str

    def __init__(self, reduction: str) -> None:
        if not isinstance(reduction, str):
            raise TypeError(f"reduction: got {type(reduction).__name__}, wanted a string")
        if reduction not in self._reductions:
            *most, last = map(repr, self._reductions)
            raise ValueError(f"reduction: got {reduction!r}, wanted {', '.join(most)} or {last}")
        self.reduction = reduction

    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        out: Array | None = None,
    ) -> Any:
        """Return the value.

        Parameters:
            input: array of the shape and meaning that the class describes.
            target: array as the class describes.
            sample_weight: factor of each sample's loss, broadcastable to the value under "none"; the weighted
                mean divides by the weights' sum.
            out: under "none", array of the value's shape and dtype to fill.

        Returns:
            A float, in nats (squared units for MSELoss), or the array of values under "none".
        """
        if sample_weight is out is None and not _checking.enabled():
            value = self._short_way(input, target, False, None)
            if value is not None:
                return value
        return self._evaluate(_Call(self, input, target, sample_weight, None, out, None, False))[0]

    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
        grad_out: Array | None = None,
    ) -> tuple[Any, Array]:
        """Return the value and its derivative with respect to `input`, from one pass.

        Parameters:
            input: array of the shape and meaning that the class describes.
            target: array as the class describes.
            sample_weight: factor of each sample's loss, broadcastable to the value under "none"; the weighted
                mean divides by the weights' sum.
            grad_output: factor of the gradient, a number; under "none" also an array shaped as the value.
            out: under "none", array of the value's shape and dtype to fill.
            grad_out: array of input's shape and dtype to fill; it may be `input` itself.

        Returns:
            (value, gradient); the gradient has the shape of `input`, and its dtype if that is a float. Under
            "none" it is the derivative of the sum of the values.
        """
        if sample_weight is grad_output is out is None and not _checking.enabled():
            both: tuple[Any, Array] | None = self._short_way(input, target, True, grad_out)
            if both is not None:
                return both
        value, grad = self._evaluate(
            _Call(self, input, target, sample_weight, grad_output, out, grad_out, True)
        )
        assert grad is not None
        return value, grad

    def _evaluate(self, call: _Call) -> tuple[Value, Array | None]:
        if not _checking.enabled():
            return self._run(call)
        try:  # before the call, whose gradient may overwrite the input
            expected = _checking.expected_loss(self, call)
        except Exception:
            self._run(call)  # raises the error that names the argument
            raise
        result = self._run(call)
        _checking.compare_loss(self._function, expected, result)
        return result

    def _short_way(self, input: Any, target: Any, with_grad: bool, grad_out: Any) -> Any:
        """Value, or value and gradient, of a plain call, in one step; None where that will not do."""
        return None

    def _run(self, call: _Call) -> tuple[Value, Array | None]:
        raise AssertionError  # each family has its own

    def options(self) -> dict[str, Any]:
        """Return the options by name, as the function takes them."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.options().items() if v is not None)
        return f"{type(self).__name__}({shown})"


def _weight(value: ArrayLike | None, name: str) -> Array | None:
    """A weight option: checked once, converted to the input's dtype when it is used."""
    if value is None:
        return None
    array = as_array(value, name)
    compute_dtype(array, name)
    return widened(array)


def _axis(value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
        raise TypeError(f"axis: got {type(value).__name__}, wanted an integer or None")
    return value


class _ClassLoss(_Loss):
    """Losses whose input has a class axis."""

    axis: int | None

    def _kernel(self, call: _Call, axis: int) -> dict[str, Any]:
        """Arguments of `class_pass` that say which loss it is; `labels` among them for class indices."""
        raise AssertionError

    def _run(self, call: _Call) -> tuple[Value, Array | None]:
        axis = class_axis(call.x.shape, self.axis, "input")
        shape = call.x.shape[:axis] + call.x.shape[axis + 1 :]
        kernel = self._kernel(call, axis)
        nll = kernel["op"] == "nll"
        weights = None
        if call.sample_weight is not None:
            weights = native(broadcast(call.sample_weight, "sample_weight", shape, call.dtype), call.dtype)
        factor, upstream = call.upstream(shape)
        value, grad = call.outputs(shape, zeros=nll)
        divisor = self._divisor(call, kernel, weights, math.prod(shape), shape)
        if self.reduction != "mean":
            divisor = 1.0
        elif not _is_moderate(divisor):
            weights = _rescaled(weights, shape, call.dtype, kernel.get("class_weight"))
            divisor = self._divisor(call, kernel, weights, math.prod(shape), shape)
        kernel.pop("classes", None)
        x, outer, classes, inner, step = with_class_axis(call.x, axis, call.stored)
        place = (x, outer, classes, inner, step, threads_for(call.x.size))
        kernel["sample_weight"] = weights
        op = _kernels.OPS[kernel.pop("op")]
        run = _kernels.module.class_pass
        gradient = {
            "grad": grad.buffer if grad else None,
            "grad_output": None if upstream is None else native(upstream, call.dtype),
            "factor": factor if divisor else 0.0,
            "divisor": divisor or 1.0,
        }
        # The value comes first where the gradient takes its place.
        first = {**gradient, "grad": None} if nll else gradient
        total = run(op, *place, **kernel, value=value.buffer if value else None, **first)
        if nll and grad:
            if grad.given or grad.buffer is not grad.result:
                grad.buffer.fill(0)
            run(op, *place, **kernel, **gradient)
        gradient_array = grad.finish() if grad else None
        if value:
            return value.finish(), gradient_array
        if not divisor:  # nothing counts
            if gradient_array is not None:
                gradient_array.fill(0)
            total = math.nan
        return total, gradient_array

    def _labels(self, call: _Call, shape: Shape) -> Array:
        """Class indices, of any integer type."""
        y = call.y
        if y.shape != shape:
            or_more = f", or {call.x.shape} for probabilities" if self._function == "cross_entropy" else ""
            raise ValueError(f"target: got shape {y.shape}, wanted {shape} for class indices{or_more}")
        if y.dtype.kind not in "biu":
            raise TypeError(f"target: got dtype {y.dtype}, wanted integer class indices")
        return native(y, y.dtype.newbyteorder("="))

    def _divisor(
        self, call: _Call, kernel: dict[str, Any], weights: Array | None, samples: int, shape: Shape
    ) -> float:
        """Sum of the weights in force, once the labels are known to be valid."""
        labels = kernel.get("labels")
        if labels is None:
            return float(samples) if weights is None else _sum(weights)
        classes = kernel["classes"]
        position, divisor = _kernels.module.check_labels(
            labels, classes, kernel["ignore_index"], kernel["class_weight"], weights, threads_for(samples)
        )
        if position < 0 and labels.dtype == np.uint64 and np.any(labels > np.uint64(2**63 - 1)):
            position = int(np.argmax(labels.ravel() > np.uint64(2**63 - 1)))
        if position >= 0:
            where = ", ".join(map(str, np.unravel_index(position, shape)))
            label = int(labels.ravel()[position])
            place = f"target[{where}]" if where else "target"
            raise IndexError(f"{place} = {label} is out of range for {classes} classes")
        return float(divisor)

    def _class_weight(self, weight: Array | None, call: _Call, classes: int) -> Array | None:
        if weight is None:
            return None
        if weight.shape != (classes,):
            raise ValueError(f"weight: got shape {weight.shape}, wanted ({classes},), one for each class")
        return native(weight, call.dtype)


class _IndexedLoss(_ClassLoss):
    """Losses whose target is a class index."""

    weight: Array | None
    ignore_index: int

    def __init__(self, weight: ArrayLike | None, ignore_index: int, reduction: str, axis: int | None) -> None:
        super().__init__(reduction)
        self.weight = _weight(weight, "weight")
        if self.weight is not None and self.weight.ndim != 1:
            raise ValueError(f"weight: got shape {self.weight.shape}, wanted one dimension")
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer):
            raise TypeError(f"ignore_index: got {type(ignore_index).__name__}, wanted an integer")
        if not -(2**63) <= ignore_index < 2**63:
            raise ValueError(f"ignore_index: got {ignore_index}, wanted a 64-bit integer")
        self.ignore_index = int(ignore_index)
        self.axis = _axis(axis)

    def _op(self) -> str:
        raise AssertionError

    def _short_way(self, input: Any, target: Any, with_grad: bool, grad_out: Any) -> Any:
        op = self._op()
        if op == "loss_linear" or self.axis not in (None, 1, -1):
            return None
        return _kernels.module.plain_class_loss(
            _kernels.OPS[op],
            input,
            target,
            self.weight,
            self.ignore_index,
            self.reduction,
            with_grad,
            grad_out,
            threads_for,
        )

    def _indexed(self, call: _Call, axis: int) -> dict[str, Any]:
        shape = call.x.shape
        return {
            "op": self._op(),
            "labels": self._labels(call, shape[:axis] + shape[axis + 1 :]),
            "classes": shape[axis],
            "ignore_index": self.ignore_index,
            "class_weight": self._class_weight(self.weight, call, shape[axis]),
        }


class CrossEntropyLoss(_IndexedLoss):
    """Cross-entropy between softmax(input) and the target, from logits.

    For a class index t:         -w_t log p_t
    with label smoothing ε:      -(1 - ε) w_t log p_t - ε/C Σ_j w_j log p_j
    for class probabilities q:   -Σ_j w_j ((1 - ε) q_j + ε/C) log p_j

    with p = softmax(x), -log p_j = L - d_j, d_j = x_j - max x and L = log1p(Σ exp(d_j) - 1). The gradient of
    the first is w_t (p_j - [j = t]).

    Parameters:
        weight: factor w of each class, shape (C,), or None for ones.
        ignore_index: a label whose samples have value 0 and gradient 0 and do not count.
        reduction: "mean" divides by the sum of the weights in force: w_t times sample_weight for class
            indices, sample_weight for class probabilities; "sum"; or "none", one value for each sample.
        label_smoothing: ε in [0, 1].
        axis: the class axis of the input; None is 1, or 0 for one dimension.

    Calling it:
        input: logits, float64, float32, float16, bfloat16, integer or bool, with C classes on `axis`.
        target: class indices of any integer type, of input's shape without `axis`; or class probabilities of
            input's shape.

    Raises:
        IndexError: a label outside [0, C) that is not `ignore_index`.
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> loss = fastloss.CrossEntropyLoss(label_smoothing=0.1)
        >>> round(loss([[2.0, 0.0], [0.0, 2.0]], [0, 1]), 12)
        0.226928011043
        >>> value, grad = loss.value_and_grad([[2.0, 0.0], [0.0, 2.0]], [0, 1])
        >>> grad
        array([[-0.03460146,  0.03460146],
               [ 0.03460146, -0.03460146]])

    Source: `torch.nn.CrossEntropyLoss`; Szegedy et al., "Rethinking the Inception architecture" (2016).
    """

    _function = "cross_entropy"

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        axis: int | None = None,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, axis)
        self.label_smoothing = scalar(label_smoothing, "label_smoothing")
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"label_smoothing: got {label_smoothing}, wanted one in [0, 1]")

    def _kernel(self, call: _Call, axis: int) -> dict[str, Any]:
        classes = call.x.shape[axis]
        smoothing = self.label_smoothing
        if call.y.shape == call.x.shape:
            return {
                "op": "loss_linear",
                "coefficient": target_operand(call.y, call.dtype),
                "scale": 1 - smoothing,
                "shift": smoothing / classes,
                "linear_weight": self._class_weight(self.weight, call, classes),
            }
        kernel = self._indexed(call, axis)
        if smoothing:
            share = smoothing / classes
            if self.weight is None:
                shared = np.full(classes, share, call.dtype)
            else:
                with np.errstate(all="ignore"):
                    shared = (share * self.weight.astype(np.float64)).astype(call.dtype)
            kernel["shared"], kernel["shared_sum"] = shared, _sum(shared)
            kernel["uniform"] = self.weight is None and shared[0] != 0
            kernel["shift"], kernel["linear_weight"] = share, kernel["class_weight"]
            kernel["index_scale"] = 1 - smoothing
        return kernel

    def _op(self) -> str:
        return "loss_linear" if self.label_smoothing else "loss"


class NLLLoss(_IndexedLoss):
    """Negative log likelihood of class indices, from log-probabilities: -w_t x_t.

    Parameters:
        weight: factor w of each class, shape (C,), or None for ones.
        ignore_index: a label whose samples have value 0 and gradient 0 and do not count.
        reduction: "mean" divides by the sum of w_t times sample_weight; "sum"; or "none".
        axis: the class axis of the input; None is 1, or 0 for one dimension.

    Calling it:
        input: log-probabilities, as from `log_softmax`, with C classes on `axis`.
        target: class indices of any integer type, of input's shape without `axis`.

    Raises:
        IndexError: a label outside [0, C) that is not `ignore_index`.
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> fastloss.NLLLoss()([[-0.5, -1.0], [-2.0, -0.25]], [0, 1])
        0.375

    Source: `torch.nn.NLLLoss`.
    """

    _function = "nll_loss"

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        axis: int | None = None,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, axis)

    def _op(self) -> str:
        return "nll"

    def _kernel(self, call: _Call, axis: int) -> dict[str, Any]:
        return self._indexed(call, axis)


class MultinomialNLLLoss(_ClassLoss):
    """Negative log likelihood of counts under softmax(input), from logits.

    n logsumexp(x) - Σ_j k_j x_j for counts k with n = Σ_j k_j, computed as Σ_j k_j (L - d_j), in which no
    term cancels another. With one-hot counts it is cross-entropy.

    Parameters:
        full: add the constant -log(n! / Π_j k_j!), which makes exp(-value) a probability.
        reduction: "mean" divides by the sum of sample_weight, the number of samples when there is none;
            "sum"; or "none".
        axis: the class axis of the input; None is 1, or 0 for one dimension.

    Calling it:
        input: logits with C classes on `axis`.
        target: counts of input's shape, any real dtype.

    Raises:
        TypeError, ValueError: a shape, dtype or option that does not fit; with `full`, a negative count.

    Example:
        >>> import fastloss
        >>> fastloss.MultinomialNLLLoss(full=True)([[0.0, 0.0]], [[1, 1]])
        0.6931471805599453

    Source: Bishop, "Pattern recognition and machine learning" (2006), section 2.2.
    """

    _function = "multinomial_nll_loss"

    def __init__(self, *, full: bool = False, reduction: str = "mean", axis: int | None = None) -> None:
        super().__init__(reduction)
        self.full = flag(full, "full")
        self.axis = _axis(axis)

    def _kernel(self, call: _Call, axis: int) -> dict[str, Any]:
        if call.y.shape != call.x.shape:
            raise ValueError(f"target: got shape {call.y.shape}, wanted {call.x.shape}")
        counts = target_operand(call.y, call.dtype)
        kernel: dict[str, Any] = {"op": "loss_linear", "coefficient": counts}
        if self.full:
            shape = counts.shape
            outer, classes, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
            kernel["offset"] = np.empty(outer * inner, np.float64)
            position = _kernels.module.log_multinomial(counts, outer, classes, inner, kernel["offset"])
            if position >= 0:
                where = np.unravel_index(position, shape)
                index = ", ".join(map(str, where))
                raise ValueError(f"target[{index}] = {counts[where]} is negative, wanted counts")
        return kernel


class _PointwiseLoss(_Loss):
    """Losses of one element of the input and one of the target."""

    weight: Array | None = None
    pos_weight: Array | None = None

    def _op(self) -> str:
        raise AssertionError

    def _short_way(self, input: Any, target: Any, with_grad: bool, grad_out: Any) -> Any:
        if self.weight is not None or self.pos_weight is not None:
            return None
        op = _kernels.OPS[self._op()]
        return _kernels.module.plain_pointwise(
            op, input, target, self.reduction, with_grad, grad_out, threads_for
        )

    def _run(self, call: _Call) -> tuple[Value, Array | None]:
        shape = call.x.shape
        y = target_operand(call.y, call.dtype)
        if y.shape != shape:
            raise ValueError(f"target: got shape {y.shape}, wanted {shape} as input")
        operands: dict[str, Array | None] = {
            "weight": self.weight,
            "pos_weight": self.pos_weight,
            "sample_weight": call.sample_weight,
        }
        given = {
            name: broadcast(operand, name, shape, call.dtype)
            for name, operand in operands.items()
            if operand is not None
        }
        factor, upstream = call.upstream(shape)
        if upstream is not None:
            given["grad_output"] = upstream
        value, grad = call.outputs(shape)
        x = native(call.x, call.stored)
        threads = threads_for(x.size)
        run = _kernels.module.point_pass
        given_outputs = call.out is not None or call.grad_out is not None
        if self._op() == "bce" and given_outputs:  # before anything is written
            _raise_if_outside(run(_kernels.OPS["unit_interval"], x, None, threads), x)
        divisor = self._divisor(shape, given.get("sample_weight"))
        if not _is_moderate(divisor) and self.reduction == "mean":
            given["sample_weight"] = _rescaled(given.get("sample_weight"), shape, call.dtype)
            divisor = self._divisor(shape, given["sample_weight"])
        total = run(
            _kernels.OPS[self._op()],
            x,
            y,
            threads,
            value=value.buffer if value else None,
            grad=grad.buffer if grad else None,
            factor=factor if divisor else 0.0,
            divisor=divisor or 1.0,
            **{name: element_operand(array) for name, array in given.items()},
        )
        _raise_if_outside(total, x)
        gradient = grad.finish() if grad else None
        if divisor == 0 and gradient is not None:
            gradient.fill(0)
        if value:
            return value.finish(), gradient
        return total if divisor else math.nan, gradient

    def _divisor(self, shape: Shape, weights: Array | None) -> float:
        if self.reduction == "batchmean":
            return float(shape[0]) if shape else 1.0
        if self.reduction != "mean":
            return 1.0
        if weights is None:
            return float(math.prod(shape))
        shown = tuple(slice(None) if step else slice(0, 1) for step in weights.strides)
        once = native(weights[shown], weights.dtype)
        return _sum(once) * (weights.size / once.size) if once.size else 0.0


def _raise_if_outside(total: float | None, x: Array) -> None:
    """Name the element outside [0, 1] for which a kernel has returned None."""
    if total is None:
        x = widened(x)
        with np.errstate(all="ignore"):  # NaN is not outside
            where = np.unravel_index(int(np.argmax((x < 0) | (x > 1))), x.shape)
        place = f"input[{', '.join(map(str, where))}]" if where else "input"
        raise ValueError(f"{place} = {x[where]} is outside [0, 1]")


def _is_moderate(divisor: float) -> bool:
    """Whether it and its reciprocal are normal numbers, with room for what they are multiplied by."""
    return 2.0**-1000 <= abs(divisor) <= 2.0**1000


def _rescaled(
    weights: Array | None, shape: Shape, dtype: np.dtype[Any], class_weight: Array | None = None
) -> Array:
    """Sample weights that give the same mean: the largest, times the largest class weight, about 2^900."""
    weights = np.ones(shape, dtype) if weights is None else weights
    size = _exponent(weights)
    step = 900 - size - (0 if class_weight is None else _exponent(class_weight))
    with np.errstate(all="ignore"):
        return native(np.ldexp(weights, min(step, 1000 - size)), dtype)


def _exponent(array: Array) -> int:
    """2 to this power is about the largest finite number."""
    with np.errstate(all="ignore"):
        magnitude = np.abs(array, where=np.isfinite(array), out=np.zeros(array.shape, array.dtype))
        return int(np.frexp(magnitude.max(initial=0.0))[1])


def _sum(array: Array) -> float:
    """Sum in float64, correct to the last digit."""
    total = _kernels.module.point_pass(_kernels.OPS["identity"], array, None, threads_for(array.size))
    return float(total)


class BCEWithLogitsLoss(_PointwiseLoss):
    """Binary cross-entropy between sigmoid(input) and the target, from logits.

    w (pos_weight y softplus(-x) + (1 - y) softplus(x)) with softplus(x) = max(x, 0) + log1p(exp(-|x|)). Its
    derivative is w ((1 - y) sigmoid(x) - pos_weight y sigmoid(-x)).

    Parameters:
        weight: factor w, broadcastable to the input; it does not enter the mean's divisor.
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none".
        pos_weight: factor of the positive part, broadcastable to the input.

    Calling it:
        input: logits of any shape. +inf and -inf are right for hard targets.
        target: probabilities in [0, 1] of input's shape, any real dtype.

    Raises:
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> round(fastloss.BCEWithLogitsLoss()([-30.0, 0.0], [0, 1]), 12)
        0.34657359028

    Source: `torch.nn.BCEWithLogitsLoss`.
    """

    _function = "binary_cross_entropy_with_logits"

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        reduction: str = "mean",
        pos_weight: ArrayLike | None = None,
    ) -> None:
        super().__init__(reduction)
        self.weight = _weight(weight, "weight")
        self.pos_weight = _weight(pos_weight, "pos_weight")

    def _op(self) -> str:
        return "bce_with_logits" if self.pos_weight is None else "bce_with_logits_pos_weight"


class BCELoss(_PointwiseLoss):
    """Binary cross-entropy of probabilities: -w (y log x + (1 - y) log(1 - x)), each logarithm at least -100.

    Its derivative is w (x - y) / max(x (1 - x), 1e-12). From logits, BCEWithLogitsLoss loses nothing.

    Parameters:
        weight: factor w, broadcastable to the input; it does not enter the mean's divisor.
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none".

    Calling it:
        input: probabilities in [0, 1], any shape. NaN gives NaN.
        target: probabilities of input's shape, any real dtype.

    Raises:
        ValueError: an input outside [0, 1], named with its position; or a shape or option that does not fit.
        TypeError: a dtype that does not fit.

    Example:
        >>> import fastloss
        >>> fastloss.BCELoss()([0.5, 1.0], [1.0, 1.0])
        0.34657359027997264

    Source: `torch.nn.BCELoss`.
    """

    _function = "binary_cross_entropy"

    def __init__(self, weight: ArrayLike | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = _weight(weight, "weight")

    def _op(self) -> str:
        return "bce"


class KLDivLoss(_PointwiseLoss):
    """Kullback-Leibler divergence of the input's distribution from the target's, from log-probabilities.

    y (log y - x), or exp(y) (y - x) with `log_target`, in nats; a target of probability 0 contributes 0. Its
    derivative is -y, or -exp(y).

    Parameters:
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "batchmean" by the first axis' length, which is the divergence per sample; "sum"; or "none".
        log_target: the target holds log-probabilities.

    Calling it:
        input: log-probabilities of any shape.
        target: probabilities, or their logarithms, of input's shape.

    Raises:
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> x = fastloss.log_softmax([[0.0, 0.0]])
        >>> fastloss.KLDivLoss(reduction="batchmean")(x, [[1.0, 0.0]])
        0.6931471805599453

    Source: `torch.nn.KLDivLoss`; Kullback and Leibler, "On information and sufficiency" (1951).
    """

    _function = "kl_div"
    _reductions = ("mean", "batchmean", "sum", "none")

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = flag(log_target, "log_target")

    def _op(self) -> str:
        return "kl_div_log_target" if self.log_target else "kl_div"


class MSELoss(_PointwiseLoss):
    """Squared error: (x - y)², with derivative 2 (x - y).

    With unit variance, half of it is the Gaussian negative log likelihood up to a constant.

    Parameters:
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none".

    Calling it:
        input: array of any shape.
        target: array of input's shape, any real dtype.

    Raises:
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> fastloss.MSELoss()([1.0, 2.0], [0.0, 0.0])
        2.5

    Source: `torch.nn.MSELoss`.
    """

    _function = "mse_loss"

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def _op(self) -> str:
        return "mse"


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    axis: int | None = None,
    sample_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    """Cross-entropy from logits: -w_t log softmax(x)_t. See `CrossEntropyLoss` for all of it.

    Example:
        >>> import fastloss
        >>> print(f"{fastloss.cross_entropy([[20.0, 0.0]], [0]):.12e}")
        2.061153620314e-09
    """
    plain = weight is None and sample_weight is None and out is None and axis is None
    simple = type(reduction) is str and type(label_smoothing) is float and type(ignore_index) is int
    defaults = simple and reduction == "mean" and label_smoothing == 0 and ignore_index == -100
    if plain and defaults and not _checking.enabled():
        value = _kernels.module.plain_class_loss(
            _kernels.OPS["loss"], input, target, None, ignore_index, "mean", False, None, threads_for
        )
        if value is not None:
            return value
    loss = CrossEntropyLoss(
        weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        axis=axis,
    )
    return loss(input, target, sample_weight=sample_weight, out=out)


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int | None = None,
    sample_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    """Negative log likelihood from log-probabilities: -w_t x_t. See `NLLLoss` for all of it.

    Example:
        >>> import fastloss
        >>> fastloss.nll_loss([[-0.5, -1.0]], [1])
        1.0
    """
    loss = NLLLoss(weight, ignore_index=ignore_index, reduction=reduction, axis=axis)
    return loss(input, target, sample_weight=sample_weight, out=out)


def multinomial_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    full: bool = False,
    reduction: str = "mean",
    axis: int | None = None,
    sample_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    """Likelihood of counts: n logsumexp(x) - Σ_j k_j x_j. See `MultinomialNLLLoss` for all of it.

    Example:
        >>> import fastloss
        >>> fastloss.multinomial_nll_loss([[0.0, 0.0]], [[3, 1]])
        2.772588722239781
    """
    loss = MultinomialNLLLoss(full=full, reduction=reduction, axis=axis)
    return loss(input, target, sample_weight=sample_weight, out=out)


def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    """Binary cross-entropy from logits: y softplus(-x) + (1 - y) softplus(x). See `BCEWithLogitsLoss`.

    Example:
        >>> import fastloss
        >>> print(f"{fastloss.binary_cross_entropy_with_logits(-30.0, 0.0):.12e}")
        9.357622968840e-14
    """
    loss = BCEWithLogitsLoss(weight, reduction=reduction, pos_weight=pos_weight)
    return loss(input, target, sample_weight=sample_weight, out=out)


def binary_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    """Binary cross-entropy of probabilities: -(y log x + (1 - y) log(1 - x)). See `BCELoss`.

    Example:
        >>> import fastloss
        >>> fastloss.binary_cross_entropy([0.5], [1.0])
        0.6931471805599453
    """
    loss = BCELoss(weight, reduction=reduction)
    return loss(input, target, sample_weight=sample_weight, out=out)


def kl_div(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    log_target: bool = False,
    sample_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    """Kullback-Leibler divergence from log-probabilities: y (log y - x). See `KLDivLoss`.

    Example:
        >>> import fastloss
        >>> fastloss.kl_div([-1.0], [1.0])
        1.0
    """
    loss = KLDivLoss(reduction=reduction, log_target=log_target)
    return loss(input, target, sample_weight=sample_weight, out=out)


def mse_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    """Squared error: (x - y)². See `MSELoss`.

    Example:
        >>> import fastloss
        >>> fastloss.mse_loss([1.0, 2.0], [0.0, 0.0])
        2.5
    """
    return MSELoss(reduction=reduction)(input, target, sample_weight=sample_weight, out=out)
