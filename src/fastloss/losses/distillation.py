"""Distillation: a student's logits against a teacher's, in one pass over both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import _remedies
from .._arguments import (
    Array,
    as_array,
    class_axis,
    compute_dtype,
    convert,
    mask_operand,
    moved,
    scalar,
    target_operand,
    widened,
)
from .._call import Call, friedman
from .._types import Each, Empty, IndexCall, IndexOptions, Reduced
from ..totals import Total
from ._plan import Loss, Result, V, counted, kept, labels_key
from .classes import CrossEntropyLoss, _axis, _ClassLoss, _IndexedLoss, _labels_ignored

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["KLDivWithLogitsLoss", "kl_div_with_logits"]


class KLDivWithLogitsLoss(_ClassLoss[V]):
    """Distillation: the divergence of a student's softmax from a teacher's, and the labels' cross-entropy.

    (1 - α) T² Σ_j p_j log(p_j / q_j) - α log softmax(x)_t, with q = softmax(x / T) of the student's logits x,
    p = softmax(y / T) of the teacher's logits y, and labels t.

    No term is a difference of larger ones, so that the divergence is exact where student and teacher nearly
    agree: it is log1p(f) with f = Σ_j p_j (exp(u_j) - 1 - u_j), where u is (x - y) / T less its mean under p.

    Calling it:

    input : array_like of shape (N, C) or (..., C, ...)
        The student's logits with C classes on `axis`; float64, float32, float16, bfloat16, integer or bool.
    teacher : array_like of input's shape
        The teacher's logits, any real dtype. A class that both mask with -inf is no class.
    target : array_like of int, of shape (N,) or input's without `axis`, optional
        %(indices)s. Without `alpha`
        they only say which samples are ignored.

    Parameters
    ----------
    temperature : float, default: 1.0
        The T above, in [1e-6, 1e6]. T² keeps the gradient's size where the temperature changes.
    alpha : float, default: 0.0
        The α above, in [0, 1]: the weight of the labels, whose cross-entropy has no temperature.
    %(ignore_index)s
    %(reduction_of_samples)s
    %(axis)s
    %(empty)s

    Raises
    ------
    %(raises_of_labels)s

    See Also
    --------
    kl_div_with_logits : The function.
    KLDivLoss : The same of log-probabilities, element by element.
    CrossEntropyLoss : With probabilities as target, the same up to the teacher's entropy.

    Notes
    -----
    The gradient for the student's logits is (1 - α) T (q_j - p_j) + α (softmax(x)_j - [j = t]). The teacher
    is a constant. A class that the student alone masks makes the value inf.

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015), section 2.

    Examples
    --------
    >>> import fastloss
    >>> loss = fastloss.KLDivWithLogitsLoss(temperature=2.0)
    >>> value, grad = loss.value_and_grad([[2.0, 0.0]], [[1.0, 0.0]])
    >>> print(f"{value:.12f}")
    0.111820150949
    >>> grad.round(6)
    array([[ 0.217198, -0.217198]])
    """

    _function = "kl_div_with_logits"

    temperature: float
    alpha: float
    ignore_index: int | tuple[int, ...]

    @overload
    def __init__(
        self: KLDivWithLogitsLoss[Array],
        *,
        temperature: float = 1.0,
        alpha: float = 0.0,
        reduction: Each,
        **options: Unpack[IndexOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: KLDivWithLogitsLoss[float],
        *,
        temperature: float = 1.0,
        alpha: float = 0.0,
        reduction: Reduced = "mean",
        **options: Unpack[IndexOptions],
    ) -> None: ...

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        alpha: float = 0.0,
        ignore_index: int | Sequence[int] = -100,
        reduction: Each | Reduced = "mean",
        axis: int | None = None,
        empty: Empty = "nan",
    ) -> None:
        degree, share = scalar(temperature, "temperature"), scalar(alpha, "alpha")
        if not 1e-6 <= degree <= 1e6:
            raise ValueError(f"temperature: got {temperature}, wanted a number in [1e-6, 1e6]")
        if not 0 <= share <= 1:
            raise ValueError(f"alpha: got {alpha}, wanted one in [0, 1]")
        super().__init__(
            temperature=degree,
            alpha=share,
            ignore_index=_labels_ignored(ignore_index),
            axis=_axis(axis),
            reduction=reduction,
            empty=empty,
        )

    @property
    def _beside_target(self) -> str | None:
        return "labels" if self.alpha else None

    def _head_of_label(self) -> tuple[int, float]:
        return 0, 1 / self.temperature

    def _kernel(self, call: Call, axis: int) -> tuple[str, dict[str, Any]]:
        if call.y.shape != call.x.shape:
            hint = _remedies.for_element_shape(call.x.shape, call.y.shape, "teacher")
            raise ValueError(f"teacher: got shape {call.y.shape}, wanted {call.x.shape} as input{hint}")
        kernel: dict[str, Any] = {
            "coefficient": target_operand(call.y, call.dtype, call.axes),
            "scale": (1 - self.alpha) * self.temperature**2,
        }
        if "target" in call.more:
            of_labels = copy(call)
            of_labels.y = call.more["target"]
            kernel |= _IndexedLoss._indexed(cast(Any, self), of_labels, axis)
            kernel["index_scale"] = self.alpha
        else:
            kernel["mask"] = mask_operand(call.mask, call.samples)
        return "distilled", kernel

    def _plain_op(self) -> None:
        return None

    def _run_in_place(self, call: Call) -> Result:
        return self._run(call)

    def _sample_call(self, input: Any, teacher: Any, *rest: Any, target: Any = None, **more: Any) -> Call:
        array = as_array(teacher, "teacher")
        compute_dtype(array, "teacher")
        call = Call(self._options, input, array, *rest, **more)
        call.arrays = [("teacher" if name == "target" else name, value) for name, value in call.arrays]
        if self._labels_of(target) is not None:
            call.more["target"] = as_array(target, "target")
            call.arrays.append(("target", call.more["target"]))
        return call

    def _labels_of(self, target: Any = None) -> Any:
        if target is None and self.alpha:
            raise ValueError(f"target: got None, wanted class indices, whose weight is alpha={self.alpha}")
        return target

    def _with(self, weight: Any, extra: Any) -> tuple[Loss[V], dict[str, Any]]:
        return self, {"target": extra}

    def total(  # type: ignore[override]
        self,
        input: ArrayLike,
        teacher: ArrayLike,
        target: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Total:
        """Return sum, weight and count over the samples, which add up without rounding.

        Parameters
        ----------
        %(student)s
        %(student.labels)s
        %(counted)s

        Returns
        -------
        %(total)s

        Raises
        ------
        %(raises_of_labels)s

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.KLDivWithLogitsLoss(alpha=0.5)
        >>> total = loss.total([[0.0, 0.0]], [[0.0, 0.0]], [1]) + loss.total([[0.0, 0.0]], [[0.0, 0.0]], [0])
        >>> print(f"{total.mean:.12f} {total.count}")
        0.346573590280 2
        """
        return self._total(input, teacher, sample_weight, mask, target=target)

    def __call__(  # type: ignore[override]
        self,
        input: ArrayLike,
        teacher: ArrayLike,
        target: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        out: Array | None = None,
    ) -> V:
        """Return the value.

        Parameters
        ----------
        %(student)s
        %(student.labels)s
        %(samples)s
        %(out)s

        Returns
        -------
        %(value)s

        Raises
        ------
        %(raises_of_labels)s

        Examples
        --------
        >>> import fastloss
        >>> print(f"{fastloss.KLDivWithLogitsLoss()([[1.0, 0.0]], [[0.0, 0.0]]):.12f}")
        0.120114506958
        """
        weights = (sample_weight, mask, normalizer, None)
        value: V = self._evaluated(input, teacher, (None, target), *weights, out, None, False)
        return value

    def value_and_grad(  # type: ignore[override]
        self,
        input: ArrayLike,
        teacher: ArrayLike,
        target: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
        grad_out: Array | None = None,
    ) -> tuple[V, Array]:
        """Return the value and its derivative with respect to the student's logits, from one pass.

        Parameters
        ----------
        %(student)s
        %(student.labels)s
        %(samples)s
        %(grad_output)s
        %(out)s
        %(grad_out)s

        Returns
        -------
        %(value_and_grad)s

        Raises
        ------
        %(raises_of_labels)s

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.KLDivWithLogitsLoss(alpha=0.5)
        >>> value, grad = loss.value_and_grad([[0.0, 0.0]], [[0.0, 0.0]], [1])
        >>> print(f"{value:.12f}", grad)
        0.346573590280 [[ 0.25 -0.25]]
        """
        weights = (sample_weight, mask, normalizer, grad_output)
        both: tuple[V, Array] = self._evaluated(input, teacher, (None, target), *weights, out, grad_out, True)
        return both

    def value_grad_hess(  # type: ignore[override]
        self,
        input: ArrayLike,
        teacher: ArrayLike,
        target: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        hessian: Literal["exact", "bound", "friedman", "residual"] | float = "exact",
        floor: float = 0.0,
        out: Array | None = None,
        grad_out: Array | None = None,
        hess_out: Array | None = None,
    ) -> tuple[V, Array, Array]:
        """Return the value, and its first and second derivatives by the student's logits.

        Parameters
        ----------
        %(student)s
        %(student.labels)s
        %(samples)s
        %(grad_output)s It multiplies the second derivatives as well, and must not be negative.
        %(hessian)s
        %(out)s
        %(grad_out)s
        %(hess_out)s

        Returns
        -------
        %(value_and_grad)s
        hess : ndarray
            The second derivative by each entry of `input`; shape and dtype of the gradient.

        Raises
        ------
        %(raises_of_labels)s

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.KLDivWithLogitsLoss()
        >>> loss.value_grad_hess([[0.0, 0.0]], [[0.0, 0.0]])[2]
        array([[0.25, 0.25]])
        """
        weights = (sample_weight, mask, normalizer, grad_output)
        second = (hessian, floor, hess_out)
        three: tuple[V, Array, Array] = self._evaluated(
            input, teacher, (None, target), *weights, out, grad_out, True, second
        )
        return three

    def hessp(  # type: ignore[override]
        self,
        input: ArrayLike,
        teacher: ArrayLike,
        vector: ArrayLike,
        target: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
    ) -> Array:
        """Return the Hessian, by the student's logits, times a vector.

        Parameters
        ----------
        %(student)s
        vector : array_like of input's shape
            What the Hessian is multiplied by.
        %(student.labels)s
        %(samples)s
        %(grad_output)s It multiplies the second derivatives as well, and must not be negative.
        out : ndarray, optional
            Array of input's shape and dtype to fill, apart from all others.

        Returns
        -------
        ndarray
            The product; shape of `input`, and its dtype if that is a float.

        Raises
        ------
        %(raises_of_labels)s

        Examples
        --------
        >>> import fastloss
        >>> fastloss.KLDivWithLogitsLoss().hessp([[0.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]])
        array([[ 0.25, -0.25]])
        """
        weights = (sample_weight, mask, normalizer, grad_output)
        return self._times(out, input, teacher, *weights, target=target, vector=vector)

    def _hessians(self, call: Call, axis: int) -> list[tuple[float, Array, Array, dict[str, Any]]]:
        """Cross-entropies whose Hessians add up to this one's: shares, logits, labels and arguments."""
        labels = call.more.get("target", np.zeros(call.samples, np.int8))
        given = {
            "sample_weight": call.sample_weight,
            "mask": call.mask,
            "normalizer": call.normalizer,
            "grad_output": call.grad_output,
        }
        x = convert(widened(call.x), call.dtype)  # so that half precision is rounded once
        parts = (1 - self.alpha, 1 / self.temperature), (self.alpha, 1.0)
        return [(share, _scaled(x, scale, axis), labels, given) for share, scale in parts if share]

    def _of_labels(self, call: Call, axis: int) -> CrossEntropyLoss[Any]:
        """The cross-entropy that these are."""
        ignored = self.ignore_index if "target" in call.more else ()
        reduction, empty = cast(Any, self.reduction), cast(Any, self.empty)
        return CrossEntropyLoss(ignore_index=ignored, reduction=reduction, axis=axis, empty=empty)

    @np.errstate(all="ignore")
    def _run(self, call: Call) -> Result:
        if not call.with_hess:
            return super()._run(call)
        axis = class_axis(call.x.shape, self.axis, "input")
        kernel = self._prepared(call, axis)[1]
        hess = call.outputs()[2]
        assert hess is not None
        curve: Any = 0.0
        if call.hessian != "residual":  # before the gradient, which may overwrite the input
            loss = self._of_labels(call, axis)
            for share, x, labels, given in self._hessians(call, axis):
                curve = curve + share * loss.value_grad_hess(x, labels, floor=-math.inf, **given)[2]
            curve = curve * call.rule(2.0, friedman(call.x.shape[axis]))[1]
        call.with_hess = False
        value, grad, _ = super()._run(call)
        assert grad is not None
        curve = np.maximum(np.abs(grad) if call.hessian == "residual" else curve, call.floor)
        curve = np.where(np.expand_dims(counted(kernel, call.samples), axis), curve, 0)
        hess.fill(moved(curve, call.axes))
        return value, grad, hess.finish()

    @np.errstate(all="ignore")
    def _run_hessp(self, call: Call, vector: Array, out: Array | None) -> Array:
        axis = class_axis(call.x.shape, self.axis, "input")
        kernel = self._prepared(call, axis)[1]
        counts = counted(kernel, call.samples)
        result = call.like_input(out, "out")
        product: Any = 0.0
        loss = self._of_labels(call, axis)
        for share, x, labels, given in self._hessians(call, axis):
            product = product + share * loss.hessp(x, labels, vector, **given)
        product = np.where(np.expand_dims(counts, axis), product, 0)  # where the vector may be NaN
        result.fill(moved(product, call.axes))
        return result.finish()


def _scaled(x: Array, scale: float, axis: int) -> Array:
    """Logits times a number; less their maximum where the product is no number."""
    if scale == 1:
        return x
    scaled: Array = x * x.dtype.type(scale)
    lost = (np.isinf(scaled) & np.isfinite(x)).any(axis, keepdims=True)
    if lost.any():
        scaled = np.where(lost, (x - x.max(axis, keepdims=True)) * x.dtype.type(scale), scaled)
    return scaled


@overload
def kl_div_with_logits(
    input: ArrayLike,
    teacher: ArrayLike,
    target: ArrayLike | None = None,
    *,
    temperature: float = 1.0,
    alpha: float = 0.0,
    reduction: Each,
    **options: Unpack[IndexCall],
) -> Array: ...


@overload
def kl_div_with_logits(
    input: ArrayLike,
    teacher: ArrayLike,
    target: ArrayLike | None = None,
    *,
    temperature: float = 1.0,
    alpha: float = 0.0,
    reduction: Reduced = "mean",
    **options: Unpack[IndexCall],
) -> float: ...


def kl_div_with_logits(
    input: ArrayLike,
    teacher: ArrayLike,
    target: ArrayLike | None = None,
    *,
    temperature: float = 1.0,
    alpha: float = 0.0,
    ignore_index: int | Sequence[int] = -100,
    reduction: Each | Reduced = "mean",
    axis: int | None = None,
    empty: Empty = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Distillation: T² KL(softmax(teacher / T) ‖ softmax(input / T)), and the labels' cross-entropy.

    %(KLDivWithLogitsLoss)s

    Examples
    --------
    >>> import fastloss
    >>> print(f"{fastloss.kl_div_with_logits([[1.0, 0.0]], [[0.0, 0.0]]):.12f}")
    0.120114506958
    """
    ignored = labels_key(ignore_index)
    loss = kept(KLDivWithLogitsLoss, temperature, alpha, ignored, reduction, axis, empty)
    own = None, target
    return loss._evaluated(input, teacher, own, sample_weight, mask, normalizer, None, out, None, False)
