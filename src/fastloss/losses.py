"""The losses: for each one a class that holds its options, and a function.

Design:
a) `_Loss` is the plan that all share: arguments in, one kernel call, value and gradient out.
b) `_ClassLoss` adds the class axis, `_PointwiseLoss` the elementwise ones. A loss says which kernel it runs
   with which arguments; the formulas are in `_kernels`, and once more, in NumPy, in `reference`.
c) The kernels receive one factor for the gradient, grad_output / divisor: value and gradient of a mean come
   out of the same pass.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence, Set
from functools import lru_cache
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
    convert,
    element_operand,
    flag,
    mask_operand,
    native,
    number,
    read_only,
    real_operand,
    scalar,
    stored_dtype,
    target_operand,
    unchanging,
    widened,
    with_class_axis,
)
from ._kernels import BFLOAT16
from ._runtime import threads_for

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "GaussianNLLLoss",
    "GeneralizedCrossEntropyLoss",
    "KLDivLoss",
    "MSELoss",
    "MultiLabelSoftMarginLoss",
    "MultinomialNLLLoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "PolyLoss",
    "SigmoidFocalLoss",
    "SoftMarginLoss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "focal_loss",
    "gaussian_nll_loss",
    "generalized_cross_entropy",
    "kl_div",
    "mse_loss",
    "multilabel_soft_margin_loss",
    "multinomial_nll_loss",
    "nll_loss",
    "poisson_nll_loss",
    "poly_loss",
    "sigmoid_focal_loss",
    "soft_margin_loss",
]

Value = float | Array

NO_LABEL = -(2**63)  # what is ignored where no label is
#: Defaults of `cross_entropy`, by which it knows a plain call.
MEAN, NAN, NONE, IGNORED = "mean", "nan", 0.0, -100
LOSS = _kernels.OPS["loss"]


class _Call:
    """One evaluation: what was passed, and what is known about it so far."""

    def __init__(
        self,
        loss: _Loss,
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
        **more: Any,
    ) -> None:
        self.x = as_array(input, "input")
        self.y = as_array(target, "target")
        self.dtype = compute_dtype(self.x, "input")
        self.stored = stored_dtype(self.x, self.dtype)
        self.sample_weight = None if sample_weight is None else as_array(sample_weight, "sample_weight")
        self.mask = None if mask is None else as_array(mask, "mask")
        self.normalizer = None if normalizer is None else _normalizer(normalizer, loss.reduction)
        self.grad_output = None if grad_output is None else as_array(grad_output, "grad_output")
        self.out = out
        self.grad_out = grad_out
        self.with_grad = with_grad
        self.reduction = loss.reduction
        self.arrays: list[tuple[str, Array | None]] = [
            ("input", self.x),
            ("target", self.y),
            ("sample_weight", self.sample_weight),
            ("mask", self.mask),
            ("grad_output", self.grad_output),
        ]
        self.more = {name: as_array(value, name) for name, value in more.items()}
        self.arrays += self.more.items()
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


def _choice(value: str, name: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: got {type(value).__name__}, wanted a string")
    if value not in choices:
        *most, last = map(repr, choices)
        raise ValueError(f"{name}: got {value!r}, wanted {', '.join(most)} or {last}")
    return value


class _Loss:
    """What every loss has: options, a value, and a value with its gradient.

    The options are checked and set once, by `__init__`; losses with equal options are equal.
    """

    _function: ClassVar[str]
    _reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")

    reduction: str
    empty: str
    _plain: Any

    def __init__(self, *, reduction: str, empty: str, **options: Any) -> None:
        _choice(reduction, "reduction", self._reductions)
        _choice(empty, "empty", ("nan", "zero"))
        self.__dict__.update(options, reduction=reduction, empty=empty)
        self.__dict__["_plain"] = self._plain_op()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: a {type(self).__name__} does not change; make another one")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        out: Array | None = None,
    ) -> Any:
        """Return the value.

        Parameters:
            input: array of the shape and meaning that the class describes.
            target: array as the class describes.
            sample_weight: factor of each sample's loss, broadcastable to the value under "none"; the weighted
                mean divides by the weights' sum. A factor of exactly 0 drops an infinite loss, and keeps NaN.
            mask: bools, broadcastable to the value under "none". Where it is False the sample counts nowhere:
                not in the value, the mean's divisor or the gradient, whatever its numbers and its label are.
            normalizer: what a mean is divided by in place of the weights' sum, a positive number: with the
                count of a whole batch, the values and gradients of its parts add up to those of the whole.
            out: under "none", array of the value's shape and dtype to fill.

        Returns:
            A float, in nats (squared units for MSELoss), or the array of values under "none".
        """
        if sample_weight is mask is out is None and normalizer is None and not _checking.enabled():
            value = self._short_way(input, target, False, None)
            if value is not None:
                return value
        call = _Call(self, input, target, sample_weight, mask, normalizer, out=out, with_grad=False)
        return self._evaluate(call)[0]

    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
        grad_out: Array | None = None,
    ) -> tuple[Any, Array]:
        """Return the value and its derivative with respect to `input`, from one pass.

        Parameters:
            input: array of the shape and meaning that the class describes.
            target: array as the class describes.
            sample_weight: factor of each sample's loss, broadcastable to the value under "none"; the weighted
                mean divides by the weights' sum. A factor of exactly 0 drops an infinite loss, and keeps NaN.
            mask: bools, broadcastable to the value under "none". Where it is False the sample counts nowhere,
                and its gradient is 0, whatever its numbers and its label are.
            normalizer: what a mean is divided by in place of the weights' sum, a positive number.
            grad_output: factor of the gradient, a number; under "none" also an array shaped as the value.
            out: under "none", array of the value's shape and dtype to fill.
            grad_out: array of input's shape and dtype to fill; it may be `input` itself.

        Returns:
            (value, gradient); the gradient has the shape of `input`, and its dtype if that is a float. Under
            "none" it is the derivative of the sum of the values.
        """
        plain = sample_weight is mask is grad_output is out is None and normalizer is None
        if plain and not _checking.enabled():
            both: tuple[Any, Array] | None = self._short_way(input, target, True, grad_out)
            if both is not None:
                return both
        call = _Call(
            self, input, target, sample_weight, mask, normalizer, grad_output, out, grad_out, with_grad=True
        )
        value, grad = self._evaluate(call)
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

    def _plain_op(self) -> Any:
        """What `_short_way` tells its kernel, or None if the options need the general way."""
        return None

    def _short_way(self, input: Any, target: Any, with_grad: bool, grad_out: Any) -> Any:
        """Value, or value and gradient, of a plain call, in one step; None where that will not do."""
        return None

    def _run(self, call: _Call) -> tuple[Value, Array | None]:
        raise AssertionError  # each family has its own

    def _of_nothing(self) -> float:
        """The mean of no samples, or of samples without weight."""
        return 0.0 if self.empty == "zero" else math.nan

    def options(self) -> dict[str, Any]:
        """Return the options by name, as the class and the function take them."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def _key(self) -> tuple[Any, ...]:
        """Type and options, arrays as their bytes."""
        options = (
            (
                name,
                (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value,
            )
            for name, value in self.options().items()
        )
        return type(self), *options

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, _Loss) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.options())

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.options().items() if v is not None)
        return f"{type(self).__name__}({shown})"


def _unpickled(kind: type[_Loss], options: dict[str, Any]) -> _Loss:
    return kind(**options)


def _weight(value: ArrayLike | None, name: str) -> Array | None:
    """A weight option: checked once, kept from change, converted to the input's dtype when it is used."""
    if value is None:
        return None
    array = as_array(value, name)
    compute_dtype(array, name)
    return unchanging(widened(array))


def _normalizer(value: Any, reduction: str) -> float:
    if reduction not in ("mean", "batchmean"):
        raise ValueError(f"normalizer: it is what a mean is divided by, and the reduction is {reduction!r}")
    result = scalar(value, "normalizer")
    if not 0 < result < math.inf:
        raise ValueError(f"normalizer: got {value}, wanted a positive number")
    return result


def _axis(value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
        raise TypeError(f"axis: got {type(value).__name__}, wanted an integer or None")
    return value


class _ClassLoss(_Loss):
    """Losses whose input has a class axis."""

    axis: int | None
    z_loss: float = 0.0
    softcap: float | None = None
    _head: tuple[int, float, float, float] | None  # beyond cross-entropy, as `class_pass` takes it

    def __init__(self, **options: Any) -> None:
        self.__dict__.update(options)
        head = *self._head_of_label(), self.z_loss, self.softcap or 0.0
        self.__dict__["_head"] = head if any(head) else None
        super().__init__(**options)

    def _head_of_label(self) -> tuple[int, float]:
        """What becomes of the cross-entropy of a label, by its number, and its parameter; 0 for itself."""
        return 0, 0.0

    def _kernel(self, call: _Call, axis: int) -> dict[str, Any]:
        """Arguments of `class_pass` that say which loss it is; `labels` among them for class indices."""
        raise AssertionError

    def _run(self, call: _Call) -> tuple[Value, Array | None]:
        axis = class_axis(call.x.shape, self.axis, "input")
        shape = call.x.shape[:axis] + call.x.shape[axis + 1 :]
        kernel = self._kernel(call, axis)
        if self._head:
            names = ("head", "head_parameter", "z_loss", "softcap")
            kernel.update(zip(names, self._head, strict=True))
        nll = kernel["op"] == "nll"
        weights = None
        if call.sample_weight is not None:
            weights = native(broadcast(call.sample_weight, "sample_weight", shape, call.dtype), call.dtype)
        factor, upstream = call.upstream(shape)
        value, grad = call.outputs(shape, zeros=nll)
        divisor = self._divisor(call, kernel, weights, shape)
        if self.reduction != "mean":
            divisor = 1.0
        elif call.normalizer is None and not _is_moderate(divisor):
            weights = _rescaled(weights, shape, call.dtype, kernel.get("class_weight"))
            divisor = self._divisor(call, kernel, weights, shape)
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
            total = self._of_nothing()
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

    def _divisor(self, call: _Call, kernel: dict[str, Any], weights: Array | None, shape: Shape) -> float:
        """What a mean is divided by, once the labels are known to be valid."""
        labels = kernel.get("labels")
        if labels is None:
            return call.normalizer or _sum_of_weights(shape, weights, kernel["mask"])
        classes = kernel["classes"]
        position, divisor = _kernels.module.check_labels(
            labels,
            classes,
            kernel["ignore_index"],
            kernel["class_weight"],
            weights,
            kernel["mask"],
            threads_for(labels.size),
        )
        if position < 0 and labels.dtype == np.uint64:  # the kernel reads signed numbers
            wrong = (labels > np.uint64(2**63 - 1)) & (True if kernel["mask"] is None else kernel["mask"])
            position = int(np.argmax(wrong)) if wrong.any() else -1
        if position >= 0:
            where = ", ".join(map(str, np.unravel_index(position, shape)))
            label = int(labels.ravel()[position])
            place = f"target[{where}]" if where else "target"
            raise IndexError(f"{place} = {label} is out of range for {classes} classes")
        return call.normalizer or float(divisor)

    def _class_weight(self, weight: Array | None, call: _Call, classes: int) -> Array | None:
        if weight is None:
            return None
        if weight.shape != (classes,):
            raise ValueError(f"weight: got shape {weight.shape}, wanted ({classes},), one for each class")
        return native(weight, call.dtype)


def _softmax_options(z_loss: float, softcap: float | None) -> dict[str, Any]:
    z = scalar(z_loss, "z_loss")
    if not 0 <= z < math.inf:
        raise ValueError(f"z_loss: got {z_loss}, wanted a finite number of at least 0")
    if softcap is None:
        return {"z_loss": z, "softcap": None}
    cap = scalar(softcap, "softcap")
    if not 1e-30 <= cap <= 1e30:
        raise ValueError(f"softcap: got {softcap}, wanted a number in [1e-30, 1e30], or None")
    return {"z_loss": z, "softcap": cap}


def _labels_ignored(value: Any) -> int | tuple[int, ...]:
    """`ignore_index`: a label, or several as a tuple."""
    wanted = "an integer or a sequence of integers"
    if (isinstance(value, Sequence | Set) and not isinstance(value, str | bytes)) or np.ndim(value) == 1:
        return tuple(number(label, "ignore_index", wanted) for label in value)
    return number(value, "ignore_index", wanted)


class _IndexedLoss(_ClassLoss):
    """Losses whose target is a class index."""

    weight: Array | None
    ignore_index: int | tuple[int, ...]

    def __init__(
        self,
        weight: ArrayLike | None,
        ignore_index: int | Sequence[int],
        axis: int | None,
        **options: Any,
    ) -> None:
        weight = _weight(weight, "weight")
        if weight is not None and weight.ndim != 1:
            raise ValueError(f"weight: got shape {weight.shape}, wanted one dimension")
        super().__init__(
            weight=weight, ignore_index=_labels_ignored(ignore_index), axis=_axis(axis), **options
        )

    def _op(self) -> str:
        raise AssertionError

    def _plain_op(self) -> int | tuple[float, ...] | None:
        op = self._op()
        plain = op != "loss_linear" and self.axis in (None, 1, -1) and isinstance(self.ignore_index, int)
        if not plain:
            return None
        return _kernels.OPS[op] if self._head is None else (_kernels.OPS[op], *self._head)

    def _short_way(self, input: Any, target: Any, with_grad: bool, grad_out: Any) -> Any:
        op = self._plain
        if op is None:
            return None
        return _kernels.module.plain_class_loss(
            op,
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
        samples = shape[:axis] + shape[axis + 1 :]
        labels, ignored = self._labels(call, samples), self.ignore_index
        mask = mask_operand(call.mask, samples)
        if isinstance(ignored, tuple):
            if len(ignored) > 1:
                mask = np.asarray(~np.isin(labels, ignored) & (True if mask is None else mask))
            ignored = ignored[0] if ignored else NO_LABEL
        return {
            "op": self._op(),
            "labels": labels,
            "mask": mask,
            "classes": shape[axis],
            "ignore_index": ignored,
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
        weight: factor w of each class, shape (C,), or None for ones. It never weights samples, not even
            where there are as many as classes: `sample_weight` does.
        ignore_index: a label, or a sequence of labels, whose samples have value 0 and gradient 0 and do not
            count.
        reduction: "mean" divides by the sum of the weights in force: w_t times sample_weight for class
            indices, sample_weight for class probabilities; "sum"; or "none", one value for each sample.
        label_smoothing: ε in [0, 1].
        axis: the class axis of the input; None is 1, or 0 for one dimension.
        empty: what the mean of nothing is, "nan" or "zero".
        z_loss: λ, at least 0, of λ (logsumexp x)² added to the loss of each sample that counts; sample_weight
            is its factor, `weight` is not. It adds 2 λ logsumexp(x) p_j to the gradient.
        softcap: None, or a cap a in [1e-30, 1e30]: a tanh(x / a) takes the place of x, but for -inf, which
            remains a masked class.

    Calling it:
        input: logits, float64, float32, float16, bfloat16, integer or bool, with C classes on `axis`.
        target: class indices of any integer type, of input's shape without `axis`; or class probabilities of
            input's shape, in a floating dtype: integers and bools of that shape could be meant as either.

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

    Source: `torch.nn.CrossEntropyLoss`; Szegedy et al., "Rethinking the Inception architecture" (2016); for
    z_loss Chowdhery et al., "PaLM" (2022), section 5; for softcap Gemma Team, "Gemma 2" (2024), section 2.
    """

    _function = "cross_entropy"

    label_smoothing: float

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        axis: int | None = None,
        empty: str = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
    ) -> None:
        smoothing = scalar(label_smoothing, "label_smoothing")
        if not 0 <= smoothing <= 1:
            raise ValueError(f"label_smoothing: got {label_smoothing}, wanted one in [0, 1]")
        options = _softmax_options(z_loss, softcap)
        super().__init__(
            weight, ignore_index, axis, reduction=reduction, label_smoothing=smoothing, empty=empty, **options
        )

    def _kernel(self, call: _Call, axis: int) -> dict[str, Any]:
        classes = call.x.shape[axis]
        smoothing = self.label_smoothing
        if call.y.shape == call.x.shape:
            if call.y.dtype.kind in "biu":  # counts, a one-hot array, or labels that lack or have an axis
                rest = call.x.shape[:axis] + call.x.shape[axis + 1 :]
                raise TypeError(
                    f"target: got dtype {call.y.dtype} in input's shape {call.x.shape}, wanted class indices "
                    f"of shape {rest}, or class probabilities in a floating dtype"
                )
            return {
                "op": "loss_linear",
                "coefficient": target_operand(call.y, call.dtype),
                "scale": 1 - smoothing,
                "shift": smoothing / classes,
                "linear_weight": self._class_weight(self.weight, call, classes),
                "mask": mask_operand(call.mask, call.x.shape[:axis] + call.x.shape[axis + 1 :]),
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


class _HeadLoss(_IndexedLoss):
    """Losses of a label that are functions of its cross-entropy."""

    _kind: ClassVar[str]
    _parameter: ClassVar[str]

    def __init__(
        self,
        parameter: float,
        weight: ArrayLike | None,
        ignore_index: int | Sequence[int],
        axis: int | None,
        z_loss: float,
        softcap: float | None,
        **options: Any,
    ) -> None:
        options = {self._parameter: parameter, **options, **_softmax_options(z_loss, softcap)}
        super().__init__(weight, ignore_index, axis, **options)

    def _op(self) -> str:
        return "loss"

    def _head_of_label(self) -> tuple[int, float]:
        return _kernels.HEADS[self._kind], vars(self)[self._parameter]

    def _kernel(self, call: _Call, axis: int) -> dict[str, Any]:
        return self._indexed(call, axis)


class FocalLoss(_HeadLoss):
    """Focal loss of class indices, from logits: -w_t (1 - p_t)^γ log p_t with p = softmax(x).

    Samples of which the model is sure count less; γ = 0 is cross-entropy. With ℓ = -log p_t the gradient is
    w_t (1 - p_t)^γ (1 + γ p_t ℓ / (1 - p_t)) (p_j - [j = t]).

    Parameters:
        gamma: γ, a finite number of at least 0.
        weight: factor w of each class, shape (C,), or None for ones, often called α. It never weights
            samples: `sample_weight` does.
        ignore_index: a label, or a sequence of labels, whose samples have value 0 and gradient 0 and do not
            count.
        reduction: "mean" divides by the sum of w_t times sample_weight; "sum"; or "none".
        axis: the class axis of the input; None is 1, or 0 for one dimension.
        empty: what the mean of nothing is, "nan" or "zero".
        z_loss, softcap: as of CrossEntropyLoss.

    Calling it:
        input: logits, float64, float32, float16, bfloat16, integer or bool, with C classes on `axis`.
        target: class indices of any integer type, of input's shape without `axis`.

    Raises:
        IndexError: a label outside [0, C) that is not `ignore_index`.
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> loss = fastloss.FocalLoss(gamma=2.0)
        >>> round(loss([[2.0, 0.0], [0.0, 2.0]], [0, 1]), 12)
        0.001803562835
        >>> value, grad = loss.value_and_grad([[2.0, 0.0], [0.0, 2.0]], [0, 1])
        >>> grad.round(8)
        array([[-0.00243547,  0.00243547],
               [ 0.00243547, -0.00243547]])

    Source: Lin et al., "Focal loss for dense object detection" (2017), with softmax in place of the sigmoid.
    """

    _function = "focal_loss"
    _kind = "focal"
    _parameter = "gamma"

    gamma: float

    def __init__(
        self,
        gamma: float = 2.0,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: str = "mean",
        axis: int | None = None,
        empty: str = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
    ) -> None:
        number = scalar(gamma, "gamma")
        if not 0 <= number < math.inf:
            raise ValueError(f"gamma: got {gamma}, wanted a finite number of at least 0")
        super().__init__(
            number, weight, ignore_index, axis, z_loss, softcap, reduction=reduction, empty=empty
        )


class GeneralizedCrossEntropyLoss(_HeadLoss):
    """Generalized cross-entropy of class indices, from logits: w_t (1 - p_t^q) / q with p = softmax(x).

    Between cross-entropy, its limit at q = 0, and the mean absolute error 1 - p_t, which q = 1 gives and
    which wrong labels disturb less. The gradient is w_t p_t^q (p_j - [j = t]).

    Parameters:
        q: the exponent, in (0, 1].
        weight: factor w of each class, shape (C,), or None for ones. It never weights samples:
            `sample_weight` does.
        ignore_index: a label, or a sequence of labels, whose samples have value 0 and gradient 0 and do not
            count.
        reduction: "mean" divides by the sum of w_t times sample_weight; "sum"; or "none".
        axis: the class axis of the input; None is 1, or 0 for one dimension.
        empty: what the mean of nothing is, "nan" or "zero".
        z_loss, softcap: as of CrossEntropyLoss.

    Calling it:
        input: logits, float64, float32, float16, bfloat16, integer or bool, with C classes on `axis`.
        target: class indices of any integer type, of input's shape without `axis`.

    Raises:
        IndexError: a label outside [0, C) that is not `ignore_index`.
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> loss = fastloss.GeneralizedCrossEntropyLoss(q=0.5)
        >>> round(loss([[2.0, 0.0], [0.0, 2.0]], [0, 1]), 12)
        0.12298420041

    Source: Zhang and Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy
    labels" (2018).
    """

    _function = "generalized_cross_entropy"
    _kind = "generalized"
    _parameter = "q"

    q: float

    def __init__(
        self,
        q: float = 0.7,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: str = "mean",
        axis: int | None = None,
        empty: str = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
    ) -> None:
        number = scalar(q, "q")
        if not 0 < number <= 1:
            raise ValueError(f"q: got {q}, wanted a number in (0, 1]")
        super().__init__(
            number, weight, ignore_index, axis, z_loss, softcap, reduction=reduction, empty=empty
        )


class PolyLoss(_HeadLoss):
    """Poly-1 loss of class indices, from logits: w_t (-log p_t + ε (1 - p_t)) with p = softmax(x).

    Cross-entropy is a series in 1 - p_t, Σ_n (1 - p_t)^n / n, of which this changes the first coefficient.
    The gradient is w_t (1 + ε p_t) (p_j - [j = t]).

    Parameters:
        epsilon: ε, a finite number.
        weight: factor w of each class, shape (C,), or None for ones. It never weights samples:
            `sample_weight` does.
        ignore_index: a label, or a sequence of labels, whose samples have value 0 and gradient 0 and do not
            count.
        reduction: "mean" divides by the sum of w_t times sample_weight; "sum"; or "none".
        axis: the class axis of the input; None is 1, or 0 for one dimension.
        empty: what the mean of nothing is, "nan" or "zero".
        z_loss, softcap: as of CrossEntropyLoss.

    Calling it:
        input: logits, float64, float32, float16, bfloat16, integer or bool, with C classes on `axis`.
        target: class indices of any integer type, of input's shape without `axis`.

    Raises:
        IndexError: a label outside [0, C) that is not `ignore_index`.
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> round(fastloss.PolyLoss(epsilon=1.0)([[2.0, 0.0], [0.0, 2.0]], [0, 1]), 12)
        0.246130933065

    Source: Leng et al., "PolyLoss: a polynomial expansion perspective of classification loss functions"
    (2022).
    """

    _function = "poly_loss"
    _kind = "poly"
    _parameter = "epsilon"

    epsilon: float

    def __init__(
        self,
        epsilon: float = 1.0,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: str = "mean",
        axis: int | None = None,
        empty: str = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
    ) -> None:
        number = scalar(epsilon, "epsilon")
        if not math.isfinite(number):
            raise ValueError(f"epsilon: got {epsilon}, wanted a finite number")
        super().__init__(
            number, weight, ignore_index, axis, z_loss, softcap, reduction=reduction, empty=empty
        )


class NLLLoss(_IndexedLoss):
    """Negative log likelihood of class indices, from log-probabilities: -w_t x_t.

    Parameters:
        weight: factor w of each class, shape (C,), or None for ones. It never weights samples, not even
            where there are as many as classes: `sample_weight` does.
        ignore_index: a label, or a sequence of labels, whose samples have value 0 and gradient 0 and do not
            count.
        reduction: "mean" divides by the sum of w_t times sample_weight; "sum"; or "none".
        axis: the class axis of the input; None is 1, or 0 for one dimension.
        empty: what the mean of nothing is, "nan" or "zero".

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
        ignore_index: int | Sequence[int] = -100,
        reduction: str = "mean",
        axis: int | None = None,
        empty: str = "nan",
    ) -> None:
        super().__init__(weight, ignore_index, axis, reduction=reduction, empty=empty)

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
        empty: what the mean of nothing is, "nan" or "zero".
        z_loss, softcap: as of CrossEntropyLoss.

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

    full: bool

    def __init__(
        self,
        *,
        full: bool = False,
        reduction: str = "mean",
        axis: int | None = None,
        empty: str = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
    ) -> None:
        options = _softmax_options(z_loss, softcap)
        super().__init__(
            full=flag(full, "full"), axis=_axis(axis), reduction=reduction, empty=empty, **options
        )

    def _kernel(self, call: _Call, axis: int) -> dict[str, Any]:
        if call.y.shape != call.x.shape:
            raise ValueError(f"target: got shape {call.y.shape}, wanted {call.x.shape}")
        counts = target_operand(call.y, call.dtype)
        mask = mask_operand(call.mask, call.x.shape[:axis] + call.x.shape[axis + 1 :])
        kernel: dict[str, Any] = {"op": "loss_linear", "coefficient": counts, "mask": mask}
        if self.full:
            shape = counts.shape
            outer, classes, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
            kernel["offset"] = np.empty(outer * inner, np.float64)
            position = _kernels.module.log_multinomial(counts, outer, classes, inner, mask, kernel["offset"])
            if position >= 0:
                where = np.unravel_index(position, shape)
                index = ", ".join(map(str, where))
                raise ValueError(f"target[{index}] = {counts[where]} is negative, wanted counts")
        return kernel


class _PointwiseLoss(_Loss):
    """Losses of one element of the input and one of the target."""

    _everywhere: ClassVar[bool] = True  # defined, or an element may be an error

    weight: Array | None = None
    pos_weight: Array | None = None

    def _op(self) -> str:
        raise AssertionError

    def _numbers(self) -> tuple[float, ...]:
        """The options that the kernel takes as numbers, two or none."""
        return ()

    def _value_shape(self, shape: Shape) -> Shape:
        """The shape of the value under "none", which may lack the last axis."""
        return shape

    def _extra(self, call: _Call) -> tuple[str, Array | None]:
        """What the kernel reads for each element beside input and target, broadcastable to the input."""
        return "pos_weight", self.pos_weight

    def _plain_op(self) -> Any:
        plain = self.weight is self.pos_weight is None
        return (_kernels.POINT_OPS[self._op()], *self._numbers()) if plain else None

    def _short_way(self, input: Any, target: Any, with_grad: bool, grad_out: Any, extra: Any = None) -> Any:
        plain = self._plain
        if plain is None:
            return None
        return _kernels.module.plain_pointwise(
            plain, input, target, extra, self.reduction, with_grad, grad_out, threads_for
        )

    def _run(self, call: _Call) -> tuple[Value, Array | None]:
        shape, dtype = call.x.shape, call.dtype
        samples = self._value_shape(shape)
        each = 1 if samples == shape else shape[-1]  # elements of a sample
        mask = mask_operand(call.mask, samples, whole=False)
        y = target_operand(call.y, dtype)
        if y.shape != shape:
            raise ValueError(f"target: got shape {y.shape}, wanted {shape} as input")

        def spread(array: Array | None) -> Array | None:
            """One for each sample as one for each element."""
            return array if array is None or samples == shape else np.broadcast_to(array[..., None], shape)

        given: dict[str, Array] = {}
        extra_name, extra = self._extra(call)
        for name, key, array in (("weight", "weight", self.weight), (extra_name, "extra", extra)):
            if array is not None:
                given[key] = broadcast(array, name, shape, dtype)
        weights = call.sample_weight
        if weights is not None:
            weights = broadcast(weights, "sample_weight", samples, dtype)
        factor, upstream = call.upstream(samples)
        value, grad = call.outputs(samples)
        x = native(call.x, call.stored)
        threads = threads_for(x.size)
        run, op = _kernels.module.point_pass, _kernels.POINT_OPS[self._op()]
        counted = spread(mask)
        place = None if counted is None else element_operand(counted.view(np.uint8))
        given_outputs = call.out is not None or call.grad_out is not None
        if given_outputs and not self._everywhere:  # before anything is written
            kept = {"extra": element_operand(given["extra"])} if extra is not None else {}
            if run(op, x, y, threads, check=True, mask=place, **kept) is None:
                self._raise_outside(call, counted)
        divisor = call.normalizer or self._divisor(samples, weights, mask)
        if call.normalizer is None and self.reduction == "mean" and not _is_moderate(divisor):
            weights = _rescaled(weights, samples, dtype)
            divisor = self._divisor(samples, weights, mask)
        for key, array in (("sample_weight", weights), ("grad_output", upstream)):
            spreaded = spread(array)
            if spreaded is not None:
                given[key] = spreaded
        values = value.buffer if value and samples == shape else np.empty(shape, dtype) if value else None
        total = run(
            op,
            x,
            y,
            threads,
            options=self._numbers() or (0.0, 0.0),
            value=values,
            grad=grad.buffer if grad else None,
            factor=factor if divisor else 0.0,
            divisor=divisor * each or 1.0,
            mask=place,
            **{key: element_operand(array) for key, array in given.items()},
        )
        if total is None:
            self._raise_outside(call, counted)
        if value and values is not value.buffer:
            _kernels.module.row_means(values, value.buffer)
        gradient = grad.finish() if grad else None
        if divisor == 0 and gradient is not None:
            gradient.fill(0)
        if value:
            return value.finish(), gradient
        return total if divisor else self._of_nothing(), gradient

    def _raise_outside(self, call: _Call, mask: Array | None) -> None:
        """Name the element for which a kernel has returned None."""
        raise AssertionError

    def _divisor(self, shape: Shape, weights: Array | None, mask: Array | None) -> float:
        if self.reduction == "batchmean":
            return float(shape[0]) if shape else 1.0
        return _sum_of_weights(shape, weights, mask) if self.reduction == "mean" else 1.0


def _first(wrong: Array, mask: Array | None, array: Array, name: str) -> str:
    """Name the first element of an array that is wrong and counts, and what it is."""
    wrong = wrong if mask is None else wrong & mask
    where = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    place = f"{name}[{', '.join(map(str, where))}]" if where else name
    return f"{place} = {array[where]}"


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
    total = _kernels.module.point_pass(_kernels.POINT_OPS["identity"], array, None, threads_for(array.size))
    return float(total)


def _sum_of_weights(shape: Shape, weights: Array | None, mask: Array | None) -> float:
    """Sum of the weights, or the number, of the samples that count; what is broadcast is added up once."""
    shown = [
        array[tuple(slice(None) if step else slice(0, 1) for step in array.strides)]
        for array in (mask, weights)
        if array is not None
    ]
    size = math.prod(shape)
    if not shown or not size:
        return float(size)
    if weights is None:
        return int(np.count_nonzero(shown[0])) * (size / shown[0].size)
    once = shown[0] if mask is None else np.where(shown[0], shown[1], weights.dtype.type(0))
    return _sum(native(once, weights.dtype)) * (size / once.size)


class BCEWithLogitsLoss(_PointwiseLoss):
    """Binary cross-entropy between sigmoid(input) and the target, from logits.

    w (pos_weight y softplus(-x) + (1 - y) softplus(x)) with softplus(x) = max(x, 0) + log1p(exp(-|x|)). Its
    derivative is w ((1 - y) sigmoid(x) - pos_weight y sigmoid(-x)).

    Parameters:
        weight: factor w, broadcastable to the input; it does not enter the mean's divisor. Shape (C,) goes
            along the last axis, also of an (N, C) input with N = C; a `sample_weight` (N, 1) weights rows.
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none".
        pos_weight: factor of the positive part, broadcastable to the input.
        empty: what the mean of nothing is, "nan" or "zero".

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
        empty: str = "nan",
    ) -> None:
        super().__init__(
            weight=_weight(weight, "weight"),
            pos_weight=_weight(pos_weight, "pos_weight"),
            reduction=reduction,
            empty=empty,
        )

    def _op(self) -> str:
        return "bce_with_logits" if self.pos_weight is None else "bce_with_logits_pos_weight"


class BCELoss(_PointwiseLoss):
    """Binary cross-entropy of probabilities: -w (y log x + (1 - y) log(1 - x)), each logarithm at least -100.

    Its derivative is w (x - y) / max(x (1 - x), 1e-12). From logits, BCEWithLogitsLoss loses nothing.

    Parameters:
        weight: factor w, broadcastable to the input; it does not enter the mean's divisor. Shape (C,) goes
            along the last axis, also of an (N, C) input with N = C; a `sample_weight` (N, 1) weights rows.
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none".
        empty: what the mean of nothing is, "nan" or "zero".

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
    _everywhere = False

    def __init__(
        self, weight: ArrayLike | None = None, *, reduction: str = "mean", empty: str = "nan"
    ) -> None:
        super().__init__(weight=_weight(weight, "weight"), reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "bce"

    def _raise_outside(self, call: _Call, mask: Array | None) -> None:
        x = widened(call.x)
        with np.errstate(all="ignore"):  # NaN is not outside
            outside = (x < 0) | (x > 1)
        raise ValueError(f"{_first(outside, mask, x, 'input')} is outside [0, 1]")


class KLDivLoss(_PointwiseLoss):
    """Kullback-Leibler divergence of the input's distribution from the target's, from log-probabilities.

    y (log y - x), or exp(y) (y - x) with `log_target`, in nats; a target of probability 0 contributes 0. Its
    derivative is -y, or -exp(y).

    Parameters:
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "batchmean" by the first axis' length, which is the divergence per sample; "sum"; or "none".
        log_target: the target holds log-probabilities.
        empty: what the mean of nothing is, "nan" or "zero".

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

    log_target: bool

    def __init__(self, *, reduction: str = "mean", log_target: bool = False, empty: str = "nan") -> None:
        super().__init__(log_target=flag(log_target, "log_target"), reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "kl_div_log_target" if self.log_target else "kl_div"


class MSELoss(_PointwiseLoss):
    """Squared error: (x - y)², with derivative 2 (x - y).

    With unit variance, half of it is the Gaussian negative log likelihood up to a constant.

    Parameters:
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none".
        empty: what the mean of nothing is, "nan" or "zero".

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

    def __init__(self, *, reduction: str = "mean", empty: str = "nan") -> None:
        super().__init__(reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "mse"


def _at_least_0(value: float, name: str) -> float:
    result = scalar(value, name)
    if not 0 <= result < math.inf:
        raise ValueError(f"{name}: got {value}, wanted a number of at least 0")
    return result


class SigmoidFocalLoss(_PointwiseLoss):
    """Focal loss of sigmoid(input), from logits: α_t (1 - p_t)^γ times the binary cross-entropy.

    With p = sigmoid(x), 1 - p_t = y (1 - p) + (1 - y) p, which is computed as that, and
    α_t = α y + (1 - α) (1 - y). Its derivative, with the binary cross-entropy l, is
    α_t (1 - p_t)^γ (p - y + γ l p (1 - p) (1 - 2 y) / (1 - p_t)), -α (1 - p)^γ (1 - p - γ p log p) for y = 1.

    Parameters:
        gamma: γ ≥ 0; 0 gives the binary cross-entropy.
        alpha: α in [0, 1], the weight of the positive class, or None for ones (not 0.25 as in torchvision).
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none" (torchvision's default).
        empty: what the mean of nothing is, "nan" or "zero".

    Calling it:
        input: logits of any shape, float64, float32, float16, bfloat16, integer or bool.
        target: probabilities in [0, 1] of input's shape, any real dtype.

    Raises:
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> print(f"{fastloss.SigmoidFocalLoss(alpha=0.25)([-30.0, 2.0], [0, 1]):.12e}")
        2.254453544050e-04

    Source: Lin et al., "Focal loss for dense object detection" (2017); `torchvision.ops.sigmoid_focal_loss`.
    """

    _function = "sigmoid_focal_loss"

    gamma: float
    alpha: float | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = None,
        *,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        share = None if alpha is None else scalar(alpha, "alpha")
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"alpha: got {alpha}, wanted one in [0, 1] or None")
        super().__init__(gamma=_at_least_0(gamma, "gamma"), alpha=share, reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "sigmoid_focal"

    def _numbers(self) -> tuple[float, float]:
        return self.gamma, -1.0 if self.alpha is None else self.alpha


class SoftMarginLoss(_PointwiseLoss):
    """Logistic loss of labels of 1 and -1: log(1 + exp(-y x)), with derivative -y sigmoid(-y x).

    Parameters:
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none".
        empty: what the mean of nothing is, "nan" or "zero".

    Calling it:
        input: logits of any shape.
        target: 1 or -1, or any other numbers, of input's shape and any real dtype.

    Raises:
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> print(f"{fastloss.SoftMarginLoss()([30.0, 0.0], [1, -1]):.12f}")
        0.346573590280

    Source: `torch.nn.SoftMarginLoss`.
    """

    _function = "soft_margin_loss"

    def __init__(self, *, reduction: str = "mean", empty: str = "nan") -> None:
        super().__init__(reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "soft_margin"


class MultiLabelSoftMarginLoss(_PointwiseLoss):
    """Binary cross-entropy from logits, averaged over the classes: a sample may have any number of labels.

    1/C Σ_j w_j (y_j softplus(-x_j) + (1 - y_j) softplus(x_j)), with derivative w_j (sigmoid(x_j) - y_j) / C.

    Parameters:
        weight: factor w, broadcastable to the input, as (C,) for the classes; it enters no divisor.
        reduction: "mean" divides by the sum of sample_weight, the number of samples when there is none;
            "sum"; or "none", one value for each sample.
        empty: what the mean of nothing is, "nan" or "zero".

    Calling it:
        input: logits (N, C) or (C,), or with more axes before the classes.
        target: probabilities in [0, 1] of input's shape, any real dtype. The value under "none",
            sample_weight and mask have the shape (N,), that of the input without its last axis.

    Raises:
        TypeError, ValueError: a shape, dtype or option that does not fit; no classes.

    Example:
        >>> import fastloss
        >>> fastloss.MultiLabelSoftMarginLoss(reduction="none")([[0.0, 0.0], [0.0, 800.0]], [[1, 0], [1, 1]])
        array([0.69314718, 0.34657359])

    Source: `torch.nn.MultiLabelSoftMarginLoss`.
    """

    _function = "multilabel_soft_margin_loss"

    def __init__(
        self, weight: ArrayLike | None = None, *, reduction: str = "mean", empty: str = "nan"
    ) -> None:
        super().__init__(weight=_weight(weight, "weight"), reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "bce_with_logits"

    def _plain_op(self) -> Any:
        return super()._plain_op() if self.reduction == "mean" else None  # others divide by the classes

    def _short_way(self, input: Any, target: Any, with_grad: bool, grad_out: Any, extra: Any = None) -> Any:
        axes = getattr(input, "ndim", 0)
        return super()._short_way(input, target, with_grad, grad_out) if axes else None

    def _value_shape(self, shape: Shape) -> Shape:
        class_axis(shape, -1, "input")
        return shape[:-1]


class PoissonNLLLoss(_PointwiseLoss):
    """Negative log likelihood of counts under Poisson distributions, up to log y!.

    exp(x) - y x, with derivative exp(x) - y; or x - y log(x + eps), with derivative 1 - y / (x + eps), where
    the input is the rate itself.

    Parameters:
        log_input: the input is the logarithm of the rate.
        full: add Stirling's approximation of log y!, y log y - y + log(2 π y) / 2, where y > 1.
        eps: added to the rate in the logarithm, without log_input.
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none".
        empty: what the mean of nothing is, "nan" or "zero".

    Calling it:
        input: rates or their logarithms, of any shape.
        target: counts of input's shape, any real dtype.

    Raises:
        TypeError, ValueError: a shape, dtype or option that does not fit.

    Example:
        >>> import fastloss
        >>> round(fastloss.PoissonNLLLoss()([0.0, 1.0], [1, 0]), 12)
        1.85914091423

    Source: `torch.nn.PoissonNLLLoss`.
    """

    _function = "poisson_nll_loss"

    log_input: bool
    full: bool
    eps: float

    def __init__(
        self,
        *,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-8,
        reduction: str = "mean",
        empty: str = "nan",
    ) -> None:
        super().__init__(
            log_input=flag(log_input, "log_input"),
            full=flag(full, "full"),
            eps=_at_least_0(eps, "eps"),
            reduction=reduction,
            empty=empty,
        )

    def _op(self) -> str:
        return "poisson_nll_log_input" if self.log_input else "poisson_nll"

    def _numbers(self) -> tuple[float, float]:
        return self.eps, float(self.full)


class GaussianNLLLoss(_PointwiseLoss):
    """Negative log likelihood of the target under normal distributions of mean `input` and variance `var`.

    (log v + (x - y)² / v) / 2 with v = max(var, eps), and with `full` also log(2 π) / 2. Its derivative is
    (x - y) / v; with respect to the variance (1 / v - (x - y)² / v²) / 2, as in PyTorch also below eps.

    Parameters:
        full: add the constant log(2 π) / 2.
        eps: what a smaller variance counts as, a positive number.
        reduction: "mean" divides by the sum of sample_weight, the number of elements when there is none;
            "sum"; or "none".
        empty: what the mean of nothing is, "nan" or "zero".

    Calling it:
        input: expectations, of any shape.
        target: observations of input's shape, any real dtype.
        var: variances of at least 0: a number, or an array of input's shape, or of that without its last
            axis, or with 1 in place of some of its lengths.

    Raises:
        ValueError: a negative variance, named with its position; or a shape or option that does not fit.
        TypeError: a dtype that does not fit.

    Example:
        >>> import fastloss
        >>> loss = fastloss.GaussianNLLLoss()
        >>> loss([1.0, 2.0], [0.0, 0.0], 4.0)
        1.0056471805599454
        >>> value, grads = loss.value_and_grad([1.0, 2.0], [0.0, 0.0], [4.0, 4.0], wrt=("input", "var"))
        >>> grads
        (array([0.125, 0.25 ]), array([0.046875, 0.      ]))

    Source: `torch.nn.GaussianNLLLoss`; Nix and Weigend, "Estimating the mean and variance of the target
    probability distribution" (1994).
    """

    _function = "gaussian_nll_loss"
    _everywhere = False

    full: bool
    eps: float

    def __init__(
        self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean", empty: str = "nan"
    ) -> None:
        least = _at_least_0(eps, "eps")
        if least == 0:
            raise ValueError(f"eps: got {eps}, wanted a positive number")
        super().__init__(full=flag(full, "full"), eps=least, reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "gaussian_nll"

    def _numbers(self) -> tuple[float, float]:
        return self.eps, math.log(2 * math.pi) / 2 if self.full else 0.0

    def _extra(self, call: _Call) -> tuple[str, Array | None]:
        var, shape = call.more["var"], call.x.shape
        compute_dtype(var, "var")
        return "var", _aligned_var(var, shape)

    def _raise_outside(self, call: _Call, mask: Array | None) -> None:
        given: Any = dict(call.arrays)["var"]  # in its own shape
        var = widened(given)
        if mask is not None:  # one of the elements that share it counts
            shared = _shared(_aligned_var(var, call.x.shape), call.x.shape)
            mask = np.asarray(mask.any(axis=shared, keepdims=True)).reshape(var.shape)
        with np.errstate(all="ignore"):
            negative = var < 0
        raise ValueError(f"{_first(negative, mask, var, 'var')} is negative, wanted variances")

    def __call__(  # type: ignore[override]
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        out: Array | None = None,
    ) -> Any:
        """Return the value, as every loss does; `var` is described above."""
        plain = sample_weight is mask is out is None and normalizer is None and var is not None
        if plain and not _checking.enabled():
            value = self._short_way(input, target, False, None, var)
            if value is not None:
                return value
        call = _Call(self, input, target, sample_weight, mask, normalizer, out=out, with_grad=False, var=var)
        return self._evaluate(call)[0]

    def value_and_grad(  # type: ignore[override]
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        *,
        wrt: str | Sequence[str] = "input",
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
        grad_out: Array | None = None,
    ) -> tuple[Any, Any]:
        """Return the value and its derivative, as every loss does.

        Parameters:
            var: as the class describes.
            wrt: what to differentiate by, "input" or "var", or several of them, for a tuple of gradients.
                That by the variance has the shape of `var`, and its dtype if that is a float; it takes a pass
                of its own.
            grad_out: array for the gradient by `input`, which has to be among what is differentiated by.
        """
        names = (wrt,) if isinstance(wrt, str) else tuple(wrt)
        for name in names:
            _choice(name, "wrt", ("input", "var"))
        if grad_out is not None and "input" not in names:
            raise ValueError("grad_out: it is for the gradient by 'input', which wrt does not name")
        weights = (sample_weight, mask, normalizer, grad_output)
        value: Any = None
        grads: dict[str, Any] = {}
        if "var" in names:  # first: the other may overwrite the input
            call = _Call(self, input, target, *weights, out, with_grad=True, var=var)
            value, grads["var"] = self._by_var(call)
        plain = sample_weight is mask is grad_output is out is None and normalizer is None and var is not None
        if plain and wrt == "input" and not _checking.enabled():
            both: tuple[Any, Any] | None = self._short_way(input, target, True, grad_out, var)
            if both is not None:
                return both
        if "input" in names:
            call = _Call(self, input, target, *weights, out, grad_out, with_grad=True, var=var)
            value, grads["input"] = self._evaluate(call)
        return value, grads[wrt] if isinstance(wrt, str) else tuple(grads[name] for name in names)

    def _by_var(self, call: _Call) -> tuple[Value, Array]:
        """Value and gradient by the variances: elementwise, then added up where they are broadcast."""
        var, shape = call.more["var"], call.x.shape
        compute_dtype(var, "var")
        aligned = _aligned_var(var, shape)
        call.x, call.stored = convert(widened(call.x), call.dtype), call.dtype
        full: Array = np.broadcast_to(widened(aligned), shape)
        call.more["var"] = full
        value, grad = _GaussianNLLOfVar(self)._evaluate(call)
        assert grad is not None
        shared = _shared(aligned, shape)
        total = grad.sum(axis=shared, dtype=np.float64, keepdims=True) if shared else grad
        dtype = stored_dtype(var, compute_dtype(var, "var"))
        return value, convert(total.reshape(var.shape), call.dtype if dtype == BFLOAT16 else dtype)


class _GaussianNLLOfVar(GaussianNLLLoss):
    """The same loss, whose gradient is that by variances of input's shape."""

    def __init__(self, loss: GaussianNLLLoss) -> None:
        self.__dict__.update(vars(loss), wrt="var")

    def _op(self) -> str:
        return "gaussian_nll_of_var"


def _shared(array: Array, shape: Shape) -> tuple[int, ...]:
    """The axes along which an array, of as many or none, is broadcast to `shape`."""
    return tuple(i for i, n in enumerate(shape) if not array.ndim or array.shape[i] != n)


def _aligned_var(var: Array, shape: Shape) -> Array:
    """Variances in a shape that broadcasts to the input's, by PyTorch's rule."""
    if var.shape in ((), shape):
        return var
    if var.shape == shape[:-1]:
        return var[..., None]
    if var.ndim == len(shape) and all(n in (1, m) for n, m in zip(var.shape, shape, strict=True)):
        return var
    raise ValueError(
        f"var: got shape {var.shape}, wanted (), {shape}, or that without its last axis or with 1 for some"
    )


def _made(kind: Any, *options: Any, **weights: Any) -> Any:
    """A loss of its options in the order of its signature, without the weights, which are not copied."""
    names = [name for name in inspect.signature(kind).parameters if name not in ("weight", "pos_weight")]
    weights = {name: None if value is None else read_only(value, name) for name, value in weights.items()}
    return kind(**dict(zip(names, options, strict=True)), **weights)


_cached = lru_cache(typed=True)(_made)


def _kept(kind: type[_Loss], *options: Any) -> Any:
    """The loss without weights of a function: one for all calls with the same options."""
    try:
        return _cached(kind, *options)  # type: ignore[arg-type]  # a class is a key
    except TypeError:  # no key, such as a list of labels; or an error, which comes again
        return _made(kind, *options)


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = IGNORED,
    reduction: str = MEAN,
    label_smoothing: float = NONE,
    axis: int | None = None,
    empty: str = NAN,
    z_loss: float = NONE,
    softcap: float | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Cross-entropy from logits: -w_t log softmax(x)_t. See `CrossEntropyLoss` for all of it.

    Example:
        >>> import fastloss
        >>> print(f"{fastloss.cross_entropy([[20.0, 0.0]], [0]):.12e}")
        2.061153620314e-09
    """
    plain = weight is sample_weight is mask is out is None and normalizer is axis is softcap is None
    defaults = (
        reduction is MEAN and label_smoothing is z_loss is NONE and ignore_index is IGNORED and empty is NAN
    )
    if plain and defaults and not _checking.enabled():  # the same objects: of the same type as well
        value = _kernels.module.plain_class_loss(
            LOSS, input, target, None, IGNORED, MEAN, False, None, threads_for
        )
        if value is not None:
            return value
    options = (CrossEntropyLoss, ignore_index, reduction, label_smoothing, axis, empty, z_loss, softcap)
    loss = _kept(*options) if weight is None else _made(*options, weight=weight)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: str = "mean",
    axis: int | None = None,
    empty: str = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Focal loss from logits: -w_t (1 - p_t)^gamma log p_t, p = softmax(x). See `FocalLoss` for all of it.

    Example:
        >>> import fastloss
        >>> print(f"{fastloss.focal_loss([[1.0, 0.0]], [1]):.12f}")
        0.701868303411
    """
    options = (FocalLoss, gamma, ignore_index, reduction, axis, empty, z_loss, softcap)
    loss = _kept(*options) if weight is None else _made(*options, weight=weight)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def generalized_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    q: float = 0.7,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: str = "mean",
    axis: int | None = None,
    empty: str = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Generalized cross-entropy from logits: w_t (1 - p_t^q) / q. See `GeneralizedCrossEntropyLoss`.

    Example:
        >>> import fastloss
        >>> print(f"{fastloss.generalized_cross_entropy([[1.0, 0.0]], [1]):.12f}")
        0.858850272271
    """
    options = (GeneralizedCrossEntropyLoss, q, ignore_index, reduction, axis, empty, z_loss, softcap)
    loss = _kept(*options) if weight is None else _made(*options, weight=weight)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def poly_loss(
    input: ArrayLike,
    target: ArrayLike,
    epsilon: float = 1.0,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: str = "mean",
    axis: int | None = None,
    empty: str = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Poly-1 loss from logits: w_t (-log p_t + epsilon (1 - p_t)). See `PolyLoss` for all of it.

    Example:
        >>> import fastloss
        >>> print(f"{fastloss.poly_loss([[1.0, 0.0]], [1]):.12f}")
        2.044320266148
    """
    options = (PolyLoss, epsilon, ignore_index, reduction, axis, empty, z_loss, softcap)
    loss = _kept(*options) if weight is None else _made(*options, weight=weight)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: str = "mean",
    axis: int | None = None,
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Negative log likelihood from log-probabilities: -w_t x_t. See `NLLLoss` for all of it.

    Example:
        >>> import fastloss
        >>> fastloss.nll_loss([[-0.5, -1.0]], [1])
        1.0
    """
    options = (NLLLoss, ignore_index, reduction, axis, empty)
    loss = _kept(*options) if weight is None else _made(*options, weight=weight)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def multinomial_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    full: bool = False,
    reduction: str = "mean",
    axis: int | None = None,
    empty: str = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Likelihood of counts: n logsumexp(x) - Σ_j k_j x_j. See `MultinomialNLLLoss` for all of it.

    Example:
        >>> import fastloss
        >>> fastloss.multinomial_nll_loss([[0.0, 0.0]], [[3, 1]])
        2.772588722239781
    """
    loss = _kept(MultinomialNLLLoss, full, reduction, axis, empty, z_loss, softcap)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Binary cross-entropy from logits: y softplus(-x) + (1 - y) softplus(x). See `BCEWithLogitsLoss`.

    Example:
        >>> import fastloss
        >>> print(f"{fastloss.binary_cross_entropy_with_logits(-30.0, 0.0):.12e}")
        9.357622968840e-14
    """
    options = (BCEWithLogitsLoss, reduction, empty)
    weighted = weight is not None or pos_weight is not None
    loss = _made(*options, weight=weight, pos_weight=pos_weight) if weighted else _kept(*options)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def binary_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Binary cross-entropy of probabilities: -(y log x + (1 - y) log(1 - x)). See `BCELoss`.

    Example:
        >>> import fastloss
        >>> fastloss.binary_cross_entropy([0.5], [1.0])
        0.6931471805599453
    """
    options = (BCELoss, reduction, empty)
    loss = _kept(*options) if weight is None else _made(*options, weight=weight)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def kl_div(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    log_target: bool = False,
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Kullback-Leibler divergence from log-probabilities: y (log y - x). See `KLDivLoss`.

    Example:
        >>> import fastloss
        >>> fastloss.kl_div([-1.0], [1.0])
        1.0
    """
    loss = _kept(KLDivLoss, reduction, log_target, empty)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def mse_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Squared error: (x - y)². See `MSELoss`.

    Example:
        >>> import fastloss
        >>> fastloss.mse_loss([1.0, 2.0], [0.0, 0.0])
        2.5
    """
    loss = _kept(MSELoss, reduction, empty)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def sigmoid_focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    gamma: float = 2.0,
    alpha: float | None = None,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Focal loss from logits: α_t (1 - p_t)^γ times the binary cross-entropy. See `SigmoidFocalLoss`.

    Example:
        >>> import fastloss
        >>> fastloss.sigmoid_focal_loss([0.0], [1.0])
        0.17328679513998632
    """
    loss = _kept(SigmoidFocalLoss, gamma, alpha, reduction, empty)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def soft_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Logistic loss of labels of 1 and -1: log(1 + exp(-y x)). See `SoftMarginLoss`.

    Example:
        >>> import fastloss
        >>> fastloss.soft_margin_loss([0.0], [-1])
        0.6931471805599453
    """
    loss = _kept(SoftMarginLoss, reduction, empty)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def multilabel_soft_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Binary cross-entropy from logits, averaged over the classes. See `MultiLabelSoftMarginLoss`.

    Example:
        >>> import fastloss
        >>> fastloss.multilabel_soft_margin_loss([[0.0, 0.0]], [[1, 0]])
        0.6931471805599453
    """
    options = (MultiLabelSoftMarginLoss, reduction, empty)
    loss = _kept(*options) if weight is None else _made(*options, weight=weight)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Likelihood of counts under Poisson distributions: exp(x) - y x. See `PoissonNLLLoss`.

    Example:
        >>> import fastloss
        >>> fastloss.poisson_nll_loss([0.0], [3])
        1.0
    """
    loss = _kept(PoissonNLLLoss, log_input, full, eps, reduction, empty)
    return loss(input, target, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)


def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Likelihood under normal distributions: (log var + (x - y)² / var) / 2. See `GaussianNLLLoss`.

    Example:
        >>> import fastloss
        >>> fastloss.gaussian_nll_loss([2.0], [0.0], 1.0)
        2.0
    """
    loss = _kept(GaussianNLLLoss, full, eps, reduction, empty)
    return loss(input, target, var, sample_weight=sample_weight, mask=mask, normalizer=normalizer, out=out)
