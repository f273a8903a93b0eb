"""The losses with a class axis: a class for each, and its function."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import _checking, _kernels, _remedies
from .._arguments import (
    Array,
    Shape,
    as_array,
    at_least_0,
    choices_of,
    class_axis,
    convert,
    flag,
    integer,
    mask_operand,
    memory_axes,
    moved,
    native,
    number,
    sample_operand,
    scalar,
    target_operand,
    widened,
    with_class_axis,
)
from .._call import Call, friedman
from .._errors import place, shortening
from .._runtime import threads_for
from .._types import (
    CheckedCall,
    CheckedOptions,
    Each,
    Empty,
    IndexCall,
    IndexOptions,
    Reduced,
    SoftmaxCall,
    SoftmaxOptions,
)
from ..totals import Exact
from ._plan import (
    Loss,
    Result,
    V,
    counted,
    first_wrong,
    is_moderate,
    kept,
    labels_key,
    rescaled,
    sum_of,
    sum_of_weights,
    weight_option,
)
from ._targets import raise_of_classes
from .partials import Partial, part_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "CrossEntropyLoss",
    "FocalLoss",
    "GeneralizedCrossEntropyLoss",
    "MultinomialNLLLoss",
    "NLLLoss",
    "PolyLoss",
    "cross_entropy",
    "focal_loss",
    "generalized_cross_entropy",
    "multinomial_nll_loss",
    "nll_loss",
    "poly_loss",
]

NO_LABEL = -(2**63)  # what is ignored where no label is
MOST_CLASSES = 2**32  # an option that has more numbers fits no input
MOST_IGNORED = 2**20
LOSS, NLL = _kernels.OPS["loss"], _kernels.OPS["nll"]


class _ClassLoss(Loss[V]):
    """Losses whose input has a class axis."""

    _factors_of_rules: ClassVar[dict[Any, float]] = {"exact": 1.0, "bound": 2.0}

    _target: ClassVar[str] = "indices"  # what it is: these, or also "probabilities", or "counts"
    _meaning: ClassVar[str] = ""  # what is checked of coefficients

    axis: int | None
    ignore_index: int | tuple[int, ...] = ()
    label_smoothing: float = 0.0
    full: bool = False
    unchecked: bool = False
    z_loss: float = 0.0
    softcap: float | None = None
    scale: float | Array = 1.0
    bias: Array | None = None
    _head: tuple[int, float, float, float, float] | None  # beyond cross-entropy, as `class_pass` takes it

    def __init__(self, **options: Any) -> None:
        self.__dict__.update(options)
        scale = self.scale if isinstance(self.scale, float) else 1.0
        head = *self._head_of_label(), self.z_loss, self.softcap or 0.0, scale
        self.__dict__["_head"] = head if any(head[:4]) or scale != 1 else None
        super().__init__(**options)

    @property
    def _by_class(self) -> bool:
        """Whether logits are read with numbers of their classes."""
        return self.bias is not None or isinstance(self.scale, np.ndarray)

    def _head_of_label(self) -> tuple[int, float]:
        """What becomes of the cross-entropy of a label, by its number, and its parameter; 0 for itself."""
        return 0, 0.0

    def _plain_op(self) -> tuple[Any, ...] | None:
        if self._by_class:
            return None
        return (
            True,
            _kernels.REDUCTIONS[self.reduction],
            self._of_nothing(),
            _kernels.TARGETS[self._target],
            NLL if self._function == "nll_loss" else LOSS,
            self._head,
            self.ignore_index if isinstance(self.ignore_index, tuple) else (self.ignore_index,),
            self.label_smoothing,
            None if self.axis is None else max(-99, min(self.axis, 99)),  # which no array has
            self.full,
            _kernels.CHECKED["" if self.unchecked else self._meaning],
        )

    def _kernel(self, call: Call, axis: int) -> tuple[str, dict[str, Any]]:
        """Operation, and arguments of `class_pass` that say which loss it is; `labels` for class indices."""
        raise AssertionError

    def _prepared(
        self, call: Call, axis: int, ahead: bool = False
    ) -> tuple[str, dict[str, Any], dict[str, Any], float]:
        """Operation, what `class_pass` takes for it and for derivatives, and what a mean is divided by.

        Targets are checked `ahead`, or where something is to be filled, and otherwise as they are read.
        """
        call.axes = memory_axes(call.x, axis)
        call.samples = shape = call.x.shape[:axis] + call.x.shape[axis + 1 :]
        classes = call.x.shape[axis]
        op, kernel = self._kernel(call, axis)
        if self._head:
            names = ("head", "head_parameter", "z_loss", "softcap", "input_scale")
            kernel.update(zip(names, self._head, strict=True))
        if call.with_hess and kernel.get("input_scale", 1) != 1:  # whose square second derivatives have
            kernel["class_scale"] = np.full(classes, kernel.pop("input_scale"), call.dtype)
        if isinstance(self.scale, np.ndarray):
            kernel["class_scale"] = self._class_weight(self.scale, call, classes, "scale")
        if self.bias is not None:
            kernel["class_bias"] = self._class_weight(self.bias, call, classes, "bias")
        weights = None
        if call.sample_weight is not None:
            weights = native(sample_operand(call.sample_weight, shape, call.dtype), call.dtype)
        factor, upstream = call.upstream()
        if call.second_order:
            call.check_convex(factor, upstream)
        divisor = self._divisor(call, kernel, weights, shape, classes)
        if self.reduction != "mean":
            divisor = 1.0
        elif call.normalizer is None and not is_moderate(divisor):
            weights = rescaled(weights, shape, call.dtype, kernel.get("class_weight"))
            divisor = self._divisor(call, kernel, weights, shape, classes)
        kernel["sample_weight"] = weights
        call.kernel = kernel
        if not self.unchecked and "coefficient" in kernel and self._meaning:
            kernel["targets"] = _kernels.CHECKED[self._meaning]
            kernel["tolerance"] = _kernels.module.tolerance_of(call.y, classes)
            if ahead or call.fills:
                self._check_targets(call, axis)
                kernel["targets"] = 0
        derivatives = {
            "grad_output": None if upstream is None else native(upstream, call.dtype),
            "factor": factor if divisor else 0.0,
            "divisor": divisor or 1.0,
        }
        return op, kernel, derivatives, divisor

    def _class_axis_of(self, call: Call) -> int:
        return class_axis(call.x.shape, self.axis if call.class_axis is None else call.class_axis, "input")

    def _run(self, call: Call) -> Result:
        axis = self._class_axis_of(call)
        op, kernel, gradient, divisor = self._prepared(call, axis)
        nll = op == "nll"
        value, grad, hess = call.outputs(zeros=nll)
        place = (*with_class_axis(call.x, call.axes, call.stored), threads_for(call.x.size))
        run = partial(_kernels.module.class_pass, _kernels.OPS[op], *place, **kernel)
        gradient["grad"] = grad.buffer if grad else None
        for name in call.sums:
            by_class = name == "bias" or isinstance(self.scale, np.ndarray)
            call.sums[name] = np.zeros(call.x.shape[axis] if by_class else 1)
        gradient.update({f"by_{name}": array for name, array in call.sums.items()})
        curved = not nll and call.hessian != "residual"
        if hess and curved:
            classes = call.x.shape[axis]
            gradient["hess"], gradient["rule"] = hess.buffer, call.rule(2.0, friedman(classes))
        # The value comes first where the gradient takes its place.
        first = {**gradient, "grad": None} if nll else gradient
        first |= {"value": value.buffer if value else None, "exact": call.exact}
        if (total := run(**first)) is None:
            self._check_targets(call, axis)
        if nll and grad:
            if grad.given or not grad.direct:
                grad.buffer.fill(0)
            run(**gradient)
        if not divisor and grad:  # nothing counts
            grad.buffer.fill(0)
        for array in call.sums.values() if not divisor else ():
            array.fill(0)
        if grad and hess and not (curved and divisor):
            slope = np.abs(grad.buffer) if call.hessian == "residual" else 0.0
            counts = np.expand_dims(counted(kernel, call.samples), call.axes[1])
            hess.fill(np.where(counts, np.maximum(slope, np.float64(call.floor)), 0))
        return self._finished((value, grad, hess), total, divisor)

    def _weight_of(
        self, input: Array, target: Any, /, sample_weight: Any = None, mask: Any = None, **more: Any
    ) -> Exact:
        loss = cast("_ClassLoss[V]", self._changed(reduction="none"))  # a mean may rescale the weights
        call = loss._sample_call(input, target, sample_weight, mask, with_grad=False, **more)
        axis = class_axis(input.shape, self.axis, "input")
        loss._prepared(call, axis)
        return self._weighed(call.kernel, call.samples)[0]

    def _check_targets(self, call: Call, axis: int) -> None:
        """Raise the error of the first sample with a target that cannot be meant, if there is one."""
        kernel, x = call.kernel, widened(call.x)
        y, there = kernel["coefficient"], call.axes[1]
        outer, inner = math.prod(y.shape[:there]), math.prod(y.shape[there + 1 :])
        names = ("targets", "tolerance", "sample_weight", "mask")
        position = _kernels.module.check_targets(
            native(call.x[:0], call.stored),
            y,
            outer,
            y.shape[there],
            inner,
            *(kernel[name] for name in names),
            threads_for(y.size),
        )
        if position >= 0:
            sample = tuple(map(int, np.unravel_index(position, call.samples)))
            raise_of_classes(x, widened(call.y), axis, sample, self._meaning)

    @np.errstate(all="ignore")
    def _run_hessp(self, call: Call, vector: Array, out: Array | None) -> Array:
        axis = self._class_axis_of(call)
        op, kernel, derivatives, divisor = self._prepared(call, axis, ahead=True)
        result = call.like_input(out, "out")
        if not divisor or op == "nll":
            result.buffer.fill(0)
            return result.finish()
        factors, weights = self._factors(kernel, call.axes[1]), kernel["sample_weight"]
        scale = self._head[4] if self._head else 1.0
        derivatives["factor"] *= float(call.dtype.type(scale))  # and once more, as what is read has it
        given = (weights, derivatives["grad_output"], derivatives["factor"], derivatives["divisor"])
        moderate = _multiply(factors, *(factor for factor in given if factor is not None))
        if self._by_class or (self._head and any(self._head[:4])) or not moderate:
            result.fill(moved(self._slow_hessp(call, vector), call.axes))
        else:
            counts = counted(kernel, call.samples)
            if weights is not None:
                factors = factors * weights
            _kernels.module.class_pass(
                _kernels.OPS["softmax_vjp"],
                *with_class_axis(call.x, call.axes, call.stored),
                threads_for(call.x.size),
                grad=result.buffer,
                coefficient=native(moved(vector, call.axes), call.dtype),
                sample_weight=native(np.broadcast_to(factors, call.samples), call.dtype),
                mask=native(counts, np.dtype(np.bool_)),
                input_scale=scale,
                **derivatives,
            )
            if not counts.all():  # where the vector may be NaN
                np.copyto(result.buffer, 0, where=~np.expand_dims(counts, call.axes[1]))
        return result.finish()

    @staticmethod
    def _factors(kernel: dict[str, Any], axis: int) -> Array:
        """Σ c_j + k of each sample, which its softmax has in the gradient; of what is ignored any number."""
        weight, labels = kernel.get("class_weight"), kernel.get("labels")
        if labels is not None:
            of_class = kernel.get("index_scale", 1.0) * np.float64(1 if weight is None else weight)
            of_class = np.asarray(of_class + kernel.get("shared_sum", 0.0))
            return of_class if weight is None else of_class[np.clip(labels, 0, weight.size - 1)]
        coefficients = widened(kernel["coefficient"])
        weight = kernel.get("linear_weight")
        weight = np.ones(coefficients.shape[axis]) if weight is None else weight.astype(np.float64)
        total = np.tensordot(coefficients, weight, (axis, 0)) * kernel.get("scale", 1.0)
        return np.asarray(total + kernel.get("shift", 0.0) * weight.sum())

    def _labels(self, call: Call, axis: int) -> Array:
        """Class indices, of any integer type."""
        x, y, shape = call.x, call.y, call.samples
        if y.shape != shape:
            or_more = f", or {x.shape} for probabilities" if self._function == "cross_entropy" else ""
            hint = _remedies.for_label_shape(x, y, axis)
            raise ValueError(f"target: got shape {y.shape}, wanted {shape} for class indices{or_more}{hint}")
        if y.dtype.kind in "biu":
            return native(y, y.dtype.newbyteorder("="))
        if y.dtype.kind == "f" or y.dtype.name == "bfloat16":
            return _whole_labels(widened(y), call.mask, x.shape[axis])
        hint = _remedies.for_dtype(y, "target")
        raise TypeError(f"target: got dtype {y.dtype}, wanted class indices, whole numbers{hint}")

    def _divisor(
        self, call: Call, kernel: dict[str, Any], weights: Array | None, shape: Shape, classes: int
    ) -> float:
        """What a mean is divided by, once the labels are known to be valid."""
        labels = kernel.get("labels")
        if labels is None:
            return call.normalizer or sum_of_weights(shape, weights, kernel["mask"])
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
            label = int(labels.ravel()[position])
            where = place("target", tuple(map(int, np.unravel_index(position, shape))))
            hint = _remedies.for_label(labels.reshape(shape), label, classes, counted(kernel, shape))
            raise IndexError(f"{where} = {label} is out of range for {classes} classes{hint}")
        return call.normalizer or float(divisor)

    def _class_weight(
        self, weight: Array | None, call: Call, classes: int, name: str = "weight"
    ) -> Array | None:
        if weight is None:
            return None
        if weight.shape != (classes,):
            raise ValueError(f"{name}: got shape {weight.shape}, wanted ({classes},), one for each class")
        return native(weight, call.dtype)


class _LogitLoss(_ClassLoss[V]):
    """Losses of softmax, which have derivatives by scale and bias."""

    @overload
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
    ) -> tuple[V, Array]: ...

    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        wrt: str | Sequence[str],
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
        grad_out: Array | None = None,
    ) -> tuple[V, Any]: ...

    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        wrt: str | Sequence[str] = "input",
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
        grad_out: Array | None = None,
    ) -> tuple[V, Any]:
        """Return the value and its derivative with respect to `input`, `scale`, `bias`, or several of them.

        All come from one pass. Where `input` is not among what is differentiated by, no gradient is stored.

        Parameters
        ----------
        input : array_like
            Array of the shape and meaning that the class describes.
        target : array_like
            Array as the class describes.
        wrt : {"input", "scale", "bias"} or sequence of these, default: "input"
            What to differentiate by; a sequence gives a tuple of derivatives in its order. That by a scale of
            one number is a float, those by numbers for each class are float64 arrays of shape (C,); a bias
            of None counts as zeros.
        %(samples)s
        %(grad_output)s
        %(out)s
        grad_out : ndarray, optional
            Array of input's shape and dtype to fill, which may be `input`; only where `wrt` names that.

        Returns
        -------
        %(value_and_grad)s Other derivatives are those of the sum as well; a tuple where `wrt` is a sequence.

        Raises
        ------
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.CrossEntropyLoss(scale=0.5)
        >>> value, by_scale = loss.value_and_grad([[2.0, -2.0]], [1], wrt="scale")
        >>> round(by_scale, 12)
        3.523188311912
        """
        arguments = sample_weight, mask, normalizer, grad_output, out, grad_out
        if isinstance(wrt, str) and wrt == "input":
            own = self.weight, self.pos_weight
            both: tuple[V, Array] = self._evaluated(input, target, own, *arguments, True)
            return both
        return self._derivatives(wrt, input, target, *arguments)

    @shortening
    def _derivatives(self, wrt: str | Sequence[str], *arguments: Any) -> tuple[V, Any]:
        """The value, and its derivatives by input, scale and bias."""
        names = choices_of(wrt, "wrt", ("input", "scale", "bias"))
        if arguments[-1] is not None and "input" not in names:
            raise ValueError("grad_out: it is for the gradient by 'input', which wrt does not name")
        call = Call(self._options, *arguments, with_grad="input" in names)
        call.sums = {name: None for name in names if name != "input"}
        value, grad, _ = self._evaluate(call)
        found: dict[str, Any] = {"input": grad, **call.sums}
        if "scale" in found and not isinstance(self.scale, np.ndarray):
            found["scale"] = float(found["scale"][0])
        return cast(V, value), found[wrt] if isinstance(wrt, str) else tuple(found[name] for name in names)

    def _evaluate(self, call: Call) -> Result:
        if not (call.sums and _checking.enabled()):
            return super()._evaluate(call)
        before = Call(
            self._options,
            call.x.copy(),
            call.y,
            call.sample_weight,
            call.mask,
            call.normalizer,
            call.grad_output,
            with_grad=False,
        )
        result = super()._evaluate(call)
        _checking.check_sums(self._function, before, {k: v for k, v in call.sums.items() if v is not None})
        return result


def _multiply(*factors: Array | float) -> bool:
    """Whether all of them but zeros are so near 1 that float32 holds the product of some such."""
    sizes = [np.abs(factor) for factor in factors]
    return all(bool(((size == 0) | (size >= 1e-18) & (size <= 1e18)).all()) for size in sizes)


def _whole_labels(y: Array, mask: Array | None, classes: int) -> Array:
    """Class indices that are stored as floats, as libraries of trees do."""
    with np.errstate(all="ignore"):
        labels = y.astype(np.int64, order="C")
        wrong = labels != y
    if wrong.any():
        counts = mask_operand(mask, y.shape)
        wrong = wrong if counts is None else wrong & counts
        no_label = wrong & (~np.isfinite(y) | (y != np.rint(y)))
        if no_label.any():
            where, hint = first_wrong(no_label, None, y, "target"), _remedies.for_no_label(y[no_label])
            raise ValueError(f"{where} is no class index, wanted whole numbers{hint}")
        if wrong.any():  # beyond 64 bits
            where = first_wrong(wrong, None, y, "target")
            raise IndexError(f"{where} is out of range for {classes} classes")
    return labels


def _axis(value: int | None) -> int | None:
    return None if value is None else integer(value, "axis", "an integer or None")


def _softmax_options(
    z_loss: float, softcap: float | None, scale: ArrayLike, bias: ArrayLike | None
) -> dict[str, Any]:
    z = at_least_0(z_loss, "z_loss")
    cap = None if softcap is None else scalar(softcap, "softcap")
    if cap is not None and not 1e-30 <= cap <= 1e30:
        raise ValueError(f"softcap: got {softcap}, wanted a number in [1e-30, 1e30], or None")
    return {"z_loss": z, "softcap": cap, "scale": _scale(scale), "bias": _of_classes(bias, "bias")}


def _scale(value: ArrayLike) -> float | Array:
    """A number, or one for each class."""
    array = None if type(value) is float else as_array(value, "scale")
    if array is not None and array.ndim > 0:
        return cast(Array, _of_classes(array, "scale"))
    factor = scalar(value, "scale")
    if not abs(factor) <= 1e30:
        raise ValueError(f"scale: got {value!r}, wanted a number in [-1e30, 1e30], or one for each class")
    return factor


def _of_classes(value: ArrayLike | None, name: str) -> Array | None:
    """Finite numbers, one for each class."""
    array = weight_option(value, name)
    if array is None:
        return None
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}, wanted one dimension, a number for each class")
    if array.size < MOST_CLASSES and not np.isfinite(array).all():
        raise ValueError(f"{first_wrong(~np.isfinite(array), None, array, name)}, wanted finite numbers")
    return array


def _labels_ignored(value: Any) -> int | tuple[int, ...]:
    """`ignore_index`: a label, or several as a tuple."""
    wanted = "an integer or a sequence of integers"
    if (isinstance(value, Sequence | Set) and not isinstance(value, str | bytes)) or np.ndim(value) == 1:
        if len(value) > MOST_IGNORED:
            raise ValueError(f"ignore_index: got {len(value)} labels, wanted at most {MOST_IGNORED}")
        return tuple(number(label, "ignore_index", wanted) for label in value)
    return number(value, "ignore_index", wanted)


class _IndexedLoss(_ClassLoss[V]):
    """Losses whose target is a class index."""

    ignore_index: int | tuple[int, ...]

    def __init__(
        self,
        weight: ArrayLike | None,
        ignore_index: int | Sequence[int],
        axis: int | None,
        **options: Any,
    ) -> None:
        weight = weight_option(weight, "weight")
        if weight is not None and weight.ndim != 1:
            raise ValueError(f"weight: got shape {weight.shape}, wanted one dimension")
        super().__init__(
            weight=weight, ignore_index=_labels_ignored(ignore_index), axis=_axis(axis), **options
        )

    def _op(self) -> str:
        raise AssertionError

    def _kernel(self, call: Call, axis: int) -> tuple[str, dict[str, Any]]:
        return self._op(), self._indexed(call, axis)

    def _indexed(self, call: Call, axis: int) -> dict[str, Any]:
        labels, ignored = self._labels(call, axis), self.ignore_index
        mask = mask_operand(call.mask, call.samples)
        if isinstance(ignored, tuple):
            if len(ignored) > 1:
                mask = np.asarray(~np.isin(labels, ignored) & (True if mask is None else mask))
            ignored = ignored[0] if ignored else NO_LABEL
        return {
            "labels": labels,
            "mask": mask,
            "ignore_index": ignored,
            "class_weight": self._class_weight(self.weight, call, call.x.shape[axis]),
        }


class _LabelLoss(_LogitLoss[V], _IndexedLoss[V]):
    """Losses of softmax and a class index, of which there are parts."""

    def partial(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        start: int = 0,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Partial[V]:
        """Return what the loss needs of a slice of the classes, to be merged with that of the others.

        Parameters
        ----------
        input : array_like
            Logits of the classes [start, start + C), C as many as there are on the class axis.
        target : array_like
            Class indices, counted from the first of all classes; those of other slices belong to their parts.
        start : int, default: 0
            The first class.
        %(counted)s

        Returns
        -------
        Partial
            The part. The loss's `weight`, and `scale` and `bias` of classes, are those of all classes.

        Raises
        ------
        TypeError, ValueError
            Arguments that do not fit. A label that no part has is an IndexError of the merged part's value.

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.CrossEntropyLoss()
        >>> part = loss.partial([[0.0, 0.0]], [3])
        >>> part.merge(loss.partial([[0.0, 0.0]], [3], start=2)).value()
        1.3862943611198906
        """
        return part_of(self, input, target, start, sample_weight, mask)

    def _smoothed(self, classes: int, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Arguments of `class_pass` for label smoothing, if there is any."""
        smoothing = self.label_smoothing
        if not smoothing:
            return {}
        share = smoothing / classes
        weight = None if self.weight is None else native(self.weight, dtype)
        if weight is None:
            shared = np.full(classes, share, dtype)
        else:
            shared = convert(share * weight.astype(np.float64), dtype)
        return {
            "shared": shared,
            "shared_sum": sum_of(shared),
            "uniform": weight is None and shared[0] != 0,
            "shift": share,
            "linear_weight": weight,
            "index_scale": 1 - smoothing,
        }

    def _op(self) -> str:
        return "loss"


class CrossEntropyLoss(_LabelLoss[V]):
    """Cross-entropy between softmax(input) and the target, from logits.

    For a class index t:         -w_t log p_t
    with label smoothing ε:      -(1 - ε) w_t log p_t - ε/C Σ_j w_j log p_j
    for class probabilities q:   -Σ_j w_j ((1 - ε) q_j + ε/C) log p_j

    with p = softmax(x), -log p_j = L - d_j, d_j = x_j - max x and L = log1p(Σ exp(d_j) - 1).

    Calling it:

    %(logits)s
    target : array_like of shape (N,) or input's without `axis`, or of input's shape
        %(indices)s; or, in input's shape,
        class probabilities in a floating dtype: integers and bools of that shape could be meant as either.
        Probabilities are not negative and add up to 1, within 1e-3 and what half precision rounds.

    Parameters
    ----------
    %(class_weight)s
    %(ignore_index)s
    reduction : {"mean", "sum", "none"}, default: "mean"
        "mean" divides by the sum of the weights in force: w_t times sample_weight for class indices,
        sample_weight for class probabilities; "none" gives one value for each sample.
    label_smoothing : float, default: 0.0
        The ε above, in [0, 1].
    %(axis)s
    %(empty)s
    %(softmax)s
    %(unchecked)s

    Raises
    ------
    IndexError
        A label outside [0, C) that is not `ignore_index`.
    TypeError, ValueError
        A shape, dtype or option that does not fit; probabilities that cannot be meant, unless `unchecked`.

    See Also
    --------
    cross_entropy : The function.
    NLLLoss : The same from log-probabilities.

    Notes
    -----
    The gradient for a class index is w_t (p_j - [j = t]).

    References
    ----------
    `torch.nn.CrossEntropyLoss`; Szegedy et al., "Rethinking the Inception architecture" (2016); for z_loss
    Chowdhery et al., "PaLM" (2022), section 5; for softcap Gemma Team, "Gemma 2" (2024), section 2.

    Examples
    --------
    >>> import fastloss
    >>> loss = fastloss.CrossEntropyLoss(label_smoothing=0.1)
    >>> round(loss([[2.0, 0.0], [0.0, 2.0]], [0, 1]), 12)
    0.226928011043
    >>> value, grad = loss.value_and_grad([[2.0, 0.0], [0.0, 2.0]], [0, 1])
    >>> grad
    array([[-0.03460146,  0.03460146],
           [ 0.03460146, -0.03460146]])
    """

    _function = "cross_entropy"
    _target = _meaning = "probabilities"

    @overload
    def __init__(
        self: CrossEntropyLoss[Array],
        weight: ArrayLike | None = None,
        *,
        reduction: Each,
        label_smoothing: float = 0.0,
        unchecked: bool = False,
        **options: Unpack[SoftmaxOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: CrossEntropyLoss[float],
        weight: ArrayLike | None = None,
        *,
        reduction: Reduced = "mean",
        label_smoothing: float = 0.0,
        unchecked: bool = False,
        **options: Unpack[SoftmaxOptions],
    ) -> None: ...

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: Each | Reduced = "mean",
        label_smoothing: float = 0.0,
        axis: int | None = None,
        empty: Empty = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
        scale: ArrayLike = 1.0,
        bias: ArrayLike | None = None,
        unchecked: bool = False,
    ) -> None:
        smoothing = scalar(label_smoothing, "label_smoothing")
        if not 0 <= smoothing <= 1:
            raise ValueError(f"label_smoothing: got {label_smoothing}, wanted one in [0, 1]")
        options = {
            **_softmax_options(z_loss, softcap, scale, bias),
            "unchecked": flag(unchecked, "unchecked"),
        }
        super().__init__(
            weight, ignore_index, axis, reduction=reduction, label_smoothing=smoothing, empty=empty, **options
        )

    def _kernel(self, call: Call, axis: int) -> tuple[str, dict[str, Any]]:
        classes = call.x.shape[axis]
        smoothing = self.label_smoothing
        if call.y.shape == call.x.shape:
            if call.y.dtype.kind in "biu":  # counts, a one-hot array, or labels that lack or have an axis
                raise TypeError(
                    f"target: got dtype {call.y.dtype} in input's shape {call.x.shape}, wanted class indices "
                    f"of shape {call.samples}, as of one-hot numbers argmax({axis}) gives them, or class "
                    "probabilities in a floating dtype, .astype(float)"
                )
            return "loss_linear", {
                "coefficient": target_operand(call.y, call.dtype, call.axes),
                "scale": 1 - smoothing,
                "shift": smoothing / classes,
                "linear_weight": self._class_weight(self.weight, call, classes),
                "mask": mask_operand(call.mask, call.samples),
            }
        return self._op(), {**self._indexed(call, axis), **self._smoothed(classes, call.dtype)}

    def _op(self) -> str:
        return "loss_linear" if self.label_smoothing else "loss"


class _HeadLoss(_LabelLoss[V]):
    """Losses of a label that are functions of its cross-entropy."""

    _kind: ClassVar[str]
    _parameter: ClassVar[str]

    def __init__(
        self,
        parameter: float,
        weight: ArrayLike | None,
        ignore_index: int | Sequence[int],
        axis: int | None,
        softmax: dict[str, Any],
        **options: Any,
    ) -> None:
        options = {self._parameter: parameter, **options, **softmax}
        super().__init__(weight, ignore_index, axis, **options)

    def _head_of_label(self) -> tuple[int, float]:
        return _kernels.HEADS[self._kind], vars(self)[self._parameter]


class FocalLoss(_HeadLoss[V]):
    """Focal loss of class indices, from logits: -w_t (1 - p_t)^γ log p_t with p = softmax(x).

    Samples of which the model is sure count less; γ = 0 is cross-entropy. The factors w are often called α.

    Calling it:

    %(logits)s
    %(labels)s

    Parameters
    ----------
    gamma : float, default: 2.0
        The exponent γ, a finite number of at least 0.
    %(class_weight)s
    %(ignore_index)s
    %(reduction_of_labels)s
    %(axis)s
    %(empty)s
    %(softmax)s

    Raises
    ------
    %(raises_of_labels)s

    See Also
    --------
    focal_loss : The function.
    SigmoidFocalLoss : The same of sigmoid(x).

    Notes
    -----
    With ℓ = -log p_t the gradient is w_t (1 - p_t)^γ (1 + γ p_t ℓ / (1 - p_t)) (p_j - [j = t]).

    References
    ----------
    Lin et al., "Focal loss for dense object detection" (2017), with softmax in place of the sigmoid.

    Examples
    --------
    >>> import fastloss
    >>> loss = fastloss.FocalLoss(gamma=2.0)
    >>> round(loss([[2.0, 0.0], [0.0, 2.0]], [0, 1]), 12)
    0.001803562835
    >>> value, grad = loss.value_and_grad([[2.0, 0.0], [0.0, 2.0]], [0, 1])
    >>> grad.round(8)
    array([[-0.00243547,  0.00243547],
           [ 0.00243547, -0.00243547]])
    """

    _function = "focal_loss"
    _kind = "focal"
    _parameter = "gamma"

    gamma: float

    @overload
    def __init__(
        self: FocalLoss[Array],
        gamma: float = 2.0,
        weight: ArrayLike | None = None,
        *,
        reduction: Each,
        **options: Unpack[SoftmaxOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: FocalLoss[float],
        gamma: float = 2.0,
        weight: ArrayLike | None = None,
        *,
        reduction: Reduced = "mean",
        **options: Unpack[SoftmaxOptions],
    ) -> None: ...

    def __init__(
        self,
        gamma: float = 2.0,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: Each | Reduced = "mean",
        axis: int | None = None,
        empty: Empty = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
        scale: ArrayLike = 1.0,
        bias: ArrayLike | None = None,
    ) -> None:
        parameter = at_least_0(gamma, "gamma")
        softmax = _softmax_options(z_loss, softcap, scale, bias)
        super().__init__(parameter, weight, ignore_index, axis, softmax, reduction=reduction, empty=empty)


class GeneralizedCrossEntropyLoss(_HeadLoss[V]):
    """Generalized cross-entropy of class indices, from logits: w_t (1 - p_t^q) / q with p = softmax(x).

    Between cross-entropy, its limit at q = 0, and the mean absolute error 1 - p_t, which q = 1 gives and
    which wrong labels disturb less.

    Calling it:

    %(logits)s
    %(labels)s

    Parameters
    ----------
    q : float, default: 0.7
        The exponent, in (0, 1].
    %(class_weight)s
    %(ignore_index)s
    %(reduction_of_labels)s
    %(axis)s
    %(empty)s
    %(softmax)s

    Raises
    ------
    %(raises_of_labels)s

    See Also
    --------
    generalized_cross_entropy : The function.

    Notes
    -----
    The gradient is w_t p_t^q (p_j - [j = t]).

    References
    ----------
    Zhang and Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy labels"
    (2018).

    Examples
    --------
    >>> import fastloss
    >>> loss = fastloss.GeneralizedCrossEntropyLoss(q=0.5)
    >>> round(loss([[2.0, 0.0], [0.0, 2.0]], [0, 1]), 12)
    0.12298420041
    """

    _function = "generalized_cross_entropy"
    _kind = "generalized"
    _parameter = "q"

    q: float

    @overload
    def __init__(
        self: GeneralizedCrossEntropyLoss[Array],
        q: float = 0.7,
        weight: ArrayLike | None = None,
        *,
        reduction: Each,
        **options: Unpack[SoftmaxOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: GeneralizedCrossEntropyLoss[float],
        q: float = 0.7,
        weight: ArrayLike | None = None,
        *,
        reduction: Reduced = "mean",
        **options: Unpack[SoftmaxOptions],
    ) -> None: ...

    def __init__(
        self,
        q: float = 0.7,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: Each | Reduced = "mean",
        axis: int | None = None,
        empty: Empty = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
        scale: ArrayLike = 1.0,
        bias: ArrayLike | None = None,
    ) -> None:
        parameter = scalar(q, "q")
        if not 0 < parameter <= 1:
            raise ValueError(f"q: got {q}, wanted a number in (0, 1]")
        softmax = _softmax_options(z_loss, softcap, scale, bias)
        super().__init__(parameter, weight, ignore_index, axis, softmax, reduction=reduction, empty=empty)


class PolyLoss(_HeadLoss[V]):
    """Poly-1 loss of class indices, from logits: w_t (-log p_t + ε (1 - p_t)) with p = softmax(x).

    Cross-entropy is a series in 1 - p_t, Σ_n (1 - p_t)^n / n, of which this changes the first coefficient.

    Calling it:

    %(logits)s
    %(labels)s

    Parameters
    ----------
    epsilon : float, default: 1.0
        The ε above, a finite number.
    %(class_weight)s
    %(ignore_index)s
    %(reduction_of_labels)s
    %(axis)s
    %(empty)s
    %(softmax)s

    Raises
    ------
    %(raises_of_labels)s

    See Also
    --------
    poly_loss : The function.

    Notes
    -----
    The gradient is w_t (1 + ε p_t) (p_j - [j = t]).

    References
    ----------
    Leng et al., "PolyLoss: a polynomial expansion perspective of classification loss functions" (2022).

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.PolyLoss(epsilon=1.0)([[2.0, 0.0], [0.0, 2.0]], [0, 1]), 12)
    0.246130933065
    """

    _function = "poly_loss"
    _kind = "poly"
    _parameter = "epsilon"

    epsilon: float

    @overload
    def __init__(
        self: PolyLoss[Array],
        epsilon: float = 1.0,
        weight: ArrayLike | None = None,
        *,
        reduction: Each,
        **options: Unpack[SoftmaxOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: PolyLoss[float],
        epsilon: float = 1.0,
        weight: ArrayLike | None = None,
        *,
        reduction: Reduced = "mean",
        **options: Unpack[SoftmaxOptions],
    ) -> None: ...

    def __init__(
        self,
        epsilon: float = 1.0,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: Each | Reduced = "mean",
        axis: int | None = None,
        empty: Empty = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
        scale: ArrayLike = 1.0,
        bias: ArrayLike | None = None,
    ) -> None:
        parameter = scalar(epsilon, "epsilon")
        if not math.isfinite(parameter):
            raise ValueError(f"epsilon: got {epsilon}, wanted a finite number")
        softmax = _softmax_options(z_loss, softcap, scale, bias)
        super().__init__(parameter, weight, ignore_index, axis, softmax, reduction=reduction, empty=empty)


class NLLLoss(_IndexedLoss[V]):
    """Negative log likelihood of class indices, from log-probabilities: -w_t x_t.

    Calling it:

    input : array_like of shape (N, C) or (..., C, ...)
        Log-probabilities, as from `log_softmax`, with C classes on `axis`;
        %(dtypes)s.
    %(labels)s

    Parameters
    ----------
    %(class_weight)s
    %(ignore_index)s
    %(reduction_of_labels)s
    %(axis)s
    %(empty)s

    Raises
    ------
    %(raises_of_labels)s

    See Also
    --------
    nll_loss : The function.
    CrossEntropyLoss : The same from logits.

    Notes
    -----
    The gradient is -w_t at t and 0 elsewhere.

    References
    ----------
    `torch.nn.NLLLoss`.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.NLLLoss()([[-0.5, -1.0], [-2.0, -0.25]], [0, 1])
    0.375
    """

    _function = "nll_loss"

    @overload
    def __init__(
        self: NLLLoss[Array],
        weight: ArrayLike | None = None,
        *,
        reduction: Each,
        **options: Unpack[IndexOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: NLLLoss[float],
        weight: ArrayLike | None = None,
        *,
        reduction: Reduced = "mean",
        **options: Unpack[IndexOptions],
    ) -> None: ...

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: Each | Reduced = "mean",
        axis: int | None = None,
        empty: Empty = "nan",
    ) -> None:
        super().__init__(weight, ignore_index, axis, reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "nll"


class MultinomialNLLLoss(_LogitLoss[V]):
    """Negative log likelihood of counts under softmax(input), from logits.

    n logsumexp(x) - Σ_j k_j x_j for counts k with n = Σ_j k_j, computed as Σ_j k_j (L - d_j), in which no
    term cancels another. With one-hot counts it is cross-entropy.

    Calling it:

    %(logits)s
    target : array_like of input's shape
        Counts, any real dtype.

    Parameters
    ----------
    full : bool, default: False
        Add the constant -log(n! / Π_j k_j!), which makes exp(-value) a probability.
    %(reduction_of_samples)s
    %(axis)s
    %(empty)s
    %(softmax)s
    %(unchecked)s

    Raises
    ------
    TypeError, ValueError
        A shape, dtype or option that does not fit; a negative count, unless `unchecked` without `full`.

    See Also
    --------
    multinomial_nll_loss : The function.

    Notes
    -----
    The gradient is n p_j - k_j with p = softmax(x).

    References
    ----------
    Bishop, "Pattern recognition and machine learning" (2006), section 2.2.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.MultinomialNLLLoss(full=True)([[0.0, 0.0]], [[1, 1]])
    0.6931471805599453
    """

    _function = "multinomial_nll_loss"
    _target = _meaning = "counts"

    full: bool

    @overload
    def __init__(
        self: MultinomialNLLLoss[Array],
        *,
        full: bool = False,
        reduction: Each,
        axis: int | None = None,
        z_loss: float = 0.0,
        softcap: float | None = None,
        scale: ArrayLike = 1.0,
        bias: ArrayLike | None = None,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: MultinomialNLLLoss[float],
        *,
        full: bool = False,
        reduction: Reduced = "mean",
        axis: int | None = None,
        z_loss: float = 0.0,
        softcap: float | None = None,
        scale: ArrayLike = 1.0,
        bias: ArrayLike | None = None,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    def __init__(
        self,
        *,
        full: bool = False,
        reduction: Each | Reduced = "mean",
        axis: int | None = None,
        empty: Empty = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
        scale: ArrayLike = 1.0,
        bias: ArrayLike | None = None,
        unchecked: bool = False,
    ) -> None:
        options = {
            **_softmax_options(z_loss, softcap, scale, bias),
            "unchecked": flag(unchecked, "unchecked"),
        }
        super().__init__(
            full=flag(full, "full"), axis=_axis(axis), reduction=reduction, empty=empty, **options
        )

    def _kernel(self, call: Call, axis: int) -> tuple[str, dict[str, Any]]:
        if call.y.shape != call.x.shape:
            hint = _remedies.for_element_shape(call.x.shape, call.y.shape)
            raise ValueError(f"target: got shape {call.y.shape}, wanted {call.x.shape}{hint}")
        counts = target_operand(call.y, call.dtype, call.axes)
        mask = mask_operand(call.mask, call.samples)
        kernel: dict[str, Any] = {"coefficient": counts, "mask": mask}
        if self.full:
            shape, there = counts.shape, call.axes[1]
            outer, classes, inner = math.prod(shape[:there]), shape[there], math.prod(shape[there + 1 :])
            kernel["offset"] = np.empty(outer * inner, np.float64)
            position = _kernels.module.log_multinomial(counts, outer, classes, inner, mask, kernel["offset"])
            if position >= 0:
                where = np.unravel_index(position, shape)
                own = [*where]  # of the caller's axes
                own.insert(axis, own.pop(there))
                raise ValueError(f"{place('target', own)} = {counts[where]} is negative, wanted counts")
        return "loss_linear", kernel


@overload
def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Each,
    label_smoothing: float = 0.0,
    unchecked: bool = False,
    **options: Unpack[SoftmaxCall],
) -> Array: ...


@overload
def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Reduced = "mean",
    label_smoothing: float = 0.0,
    unchecked: bool = False,
    **options: Unpack[SoftmaxCall],
) -> float: ...


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: Each | Reduced = "mean",
    label_smoothing: float = 0.0,
    axis: int | None = None,
    empty: Empty = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Cross-entropy from logits: -w_t log softmax(x)_t.

    %(CrossEntropyLoss)s

    Examples
    --------
    >>> import fastloss
    >>> print(f"{fastloss.cross_entropy([[20.0, 0.0]], [0]):.12e}")
    2.061153620314e-09
    """
    ignored = labels_key(ignore_index)
    options = (ignored, reduction, label_smoothing, axis, empty, z_loss, softcap, scale, bias, unchecked)
    loss = kept(CrossEntropyLoss, *options)
    own = weight, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    *,
    reduction: Each,
    **options: Unpack[SoftmaxCall],
) -> Array: ...


@overload
def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    *,
    reduction: Reduced = "mean",
    **options: Unpack[SoftmaxCall],
) -> float: ...


def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: Each | Reduced = "mean",
    axis: int | None = None,
    empty: Empty = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Focal loss from logits: -w_t (1 - p_t)^γ log p_t with p = softmax(x).

    %(FocalLoss)s

    Examples
    --------
    >>> import fastloss
    >>> print(f"{fastloss.focal_loss([[1.0, 0.0]], [1]):.12f}")
    0.701868303411
    """
    ignored = labels_key(ignore_index)
    loss = kept(FocalLoss, gamma, ignored, reduction, axis, empty, z_loss, softcap, scale, bias)
    own = weight, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def generalized_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    q: float = 0.7,
    weight: ArrayLike | None = None,
    *,
    reduction: Each,
    **options: Unpack[SoftmaxCall],
) -> Array: ...


@overload
def generalized_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    q: float = 0.7,
    weight: ArrayLike | None = None,
    *,
    reduction: Reduced = "mean",
    **options: Unpack[SoftmaxCall],
) -> float: ...


def generalized_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    q: float = 0.7,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: Each | Reduced = "mean",
    axis: int | None = None,
    empty: Empty = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Generalized cross-entropy from logits: w_t (1 - p_t^q) / q with p = softmax(x).

    %(GeneralizedCrossEntropyLoss)s

    Examples
    --------
    >>> import fastloss
    >>> print(f"{fastloss.generalized_cross_entropy([[1.0, 0.0]], [1]):.12f}")
    0.858850272271
    """
    ignored = labels_key(ignore_index)
    loss = kept(GeneralizedCrossEntropyLoss, q, ignored, reduction, axis, empty, z_loss, softcap, scale, bias)
    own = weight, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def poly_loss(
    input: ArrayLike,
    target: ArrayLike,
    epsilon: float = 1.0,
    weight: ArrayLike | None = None,
    *,
    reduction: Each,
    **options: Unpack[SoftmaxCall],
) -> Array: ...


@overload
def poly_loss(
    input: ArrayLike,
    target: ArrayLike,
    epsilon: float = 1.0,
    weight: ArrayLike | None = None,
    *,
    reduction: Reduced = "mean",
    **options: Unpack[SoftmaxCall],
) -> float: ...


def poly_loss(
    input: ArrayLike,
    target: ArrayLike,
    epsilon: float = 1.0,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: Each | Reduced = "mean",
    axis: int | None = None,
    empty: Empty = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Poly-1 loss from logits: w_t (-log p_t + ε (1 - p_t)) with p = softmax(x).

    %(PolyLoss)s

    Examples
    --------
    >>> import fastloss
    >>> print(f"{fastloss.poly_loss([[1.0, 0.0]], [1]):.12f}")
    2.044320266148
    """
    ignored = labels_key(ignore_index)
    loss = kept(PolyLoss, epsilon, ignored, reduction, axis, empty, z_loss, softcap, scale, bias)
    own = weight, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Each,
    **options: Unpack[IndexCall],
) -> Array: ...


@overload
def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Reduced = "mean",
    **options: Unpack[IndexCall],
) -> float: ...


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: Each | Reduced = "mean",
    axis: int | None = None,
    empty: Empty = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Negative log likelihood from log-probabilities: -w_t x_t.

    %(NLLLoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.nll_loss([[-0.5, -1.0]], [1])
    1.0
    """
    ignored = labels_key(ignore_index)
    loss = kept(NLLLoss, ignored, reduction, axis, empty)
    own = weight, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def multinomial_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    full: bool = False,
    reduction: Each,
    axis: int | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    **options: Unpack[CheckedCall],
) -> Array: ...


@overload
def multinomial_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    full: bool = False,
    reduction: Reduced = "mean",
    axis: int | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    **options: Unpack[CheckedCall],
) -> float: ...


def multinomial_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    full: bool = False,
    reduction: Each | Reduced = "mean",
    axis: int | None = None,
    empty: Empty = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Likelihood of counts: n logsumexp(x) - Σ_j k_j x_j.

    %(MultinomialNLLLoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.multinomial_nll_loss([[0.0, 0.0]], [[3, 1]])
    2.772588722239781
    """
    loss = kept(MultinomialNLLLoss, full, reduction, axis, empty, z_loss, softcap, scale, bias, unchecked)
    own = None, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)
