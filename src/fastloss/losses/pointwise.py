"""The losses of one element of the input and one of the target: a class for each, and its function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import _kernels, _remedies
from .._arguments import (
    Array,
    Shape,
    at_least_0,
    choices_of,
    class_axis,
    compute_dtype,
    convert,
    element_operand,
    flag,
    mask_operand,
    native,
    sample_operand,
    scalar,
    stored_dtype,
    target_operand,
    widened,
)
from .._call import Call
from .._errors import shortening
from .._kernels import BFLOAT16
from .._runtime import threads_for
from .._types import CheckedCall, CheckedOptions, Each, Empty, LossCall, LossOptions, Reduced
from ..totals import Exact, Total
from . import _targets
from ._plan import (
    Loss,
    Result,
    V,
    Value,
    first_wrong,
    is_moderate,
    kept,
    rescaled,
    sum_of_weights,
    weight_option,
)
from ._targets import Wrong

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "GaussianNLLLoss",
    "KLDivLoss",
    "MSELoss",
    "MultiLabelSoftMarginLoss",
    "PoissonNLLLoss",
    "SigmoidFocalLoss",
    "SoftMarginLoss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gaussian_nll_loss",
    "kl_div",
    "mse_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
    "sigmoid_focal_loss",
    "soft_margin_loss",
]


def _kept(x: Any, grad_out: Any) -> Any:
    """x, or a copy of it where the gradient may take its place."""
    if grad_out is None or not isinstance(x, np.ndarray):
        return x
    if isinstance(grad_out, np.ndarray) and not np.may_share_memory(x, grad_out):
        return x
    return x.copy()


class _PointwiseLoss(Loss[V]):
    """Losses of one element of the input and one of the target."""

    _weighted_op: ClassVar[str | None] = None  # with pos_weight
    _of_variances: ClassVar[bool] = False

    unchecked: bool = False

    def _op(self) -> str:
        raise AssertionError

    def _numbers(self) -> tuple[float, ...]:
        """The options that the kernel takes as numbers, two or none."""
        return ()

    def _value_shape(self, shape: Shape) -> Shape:
        """The shape of the value under "none"."""
        if self._averaged:
            class_axis(shape, -1, "input")
        return shape[: len(shape) - self._averaged]

    def _extra(self, call: Call) -> tuple[str, Array | None]:
        """What the kernel reads for each element beside input and target, broadcastable to the input."""
        return "pos_weight", self.pos_weight

    def _plain_op(self) -> tuple[Any, ...]:
        op = self._op()
        return (
            False,
            _kernels.REDUCTIONS[self.reduction],
            self._of_nothing(),
            _kernels.POINT_OPS[op],
            _kernels.POINT_OPS[self._weighted_op or op],
            *(self._numbers() or (0.0, 0.0)),
            self._averaged,
            self._of_variances,
            not self.unchecked,
        )

    def _run(self, call: Call) -> Result:
        shape, dtype = call.x.shape, call.dtype
        call.samples = samples = self._value_shape(shape)
        each = 1 if samples == shape else shape[-1]  # elements of a sample

        def spread(array: Array | None) -> Array | None:
            """One for each sample as one for each element."""
            return array if array is None or samples == shape else np.broadcast_to(array[..., None], shape)

        mask = mask_operand(call.mask, samples, whole=False)
        run, given = self._pass(call, spread(mask))
        weights = call.sample_weight
        if weights is not None:
            weights = sample_operand(weights, samples, dtype)
        call.kernel = {"mask": mask, "sample_weight": weights}
        factor, upstream = call.upstream()
        value, grad, hess = call.outputs()
        if call.second_order:
            call.check_convex(factor, upstream)
        divisor = call.normalizer or self._divisor(samples, weights, mask)
        x = _kept(call.x, call.grad_out) if value and samples != shape else call.x
        if call.normalizer is None and self.reduction == "mean" and not is_moderate(divisor):
            weights = rescaled(weights, samples, dtype)
            divisor = self._divisor(samples, weights, mask)
        for key, array in (("sample_weight", spread(weights)), ("grad_output", spread(upstream))):
            if array is not None:
                given[key] = element_operand(array)
        values = value.buffer if value and samples == shape else np.empty(shape, dtype) if value else None
        if hess:
            given["hess"], given["rule"] = hess.buffer, call.rule(1.0, 1.0)
        run = partial(
            run,
            options=self._numbers() or (0.0, 0.0),
            value=values,
            grad=grad.buffer if grad else None,
            factor=factor if divisor else 0.0,
            divisor=divisor * each or 1.0,
            first=call.fills,
            exact=call.exact,
            **given,
        )
        total = run(checked=not self.unchecked)
        if total is None:
            self._raise_outside(call, spread(mask), spread(weights))
            total = run()  # what rounding of distributions adds up to, the kernel does not know
        if divisor == 0 and grad:
            grad.buffer.fill(0)
        if grad and hess and (divisor == 0 or call.hessian == "residual"):
            size = np.maximum(np.abs(grad.buffer), np.float64(call.floor))
            counted = spread(mask)
            hess.fill(size if counted is None else np.where(counted, size, 0))
        if value and values is not None and values is not value.buffer:
            _kernels.module.row_means(convert(values, value.buffer.dtype), value.buffer)
            self._mean_anew(call, x, weights, value.buffer)
        return self._finished((value, grad, hess), total, divisor)

    @np.errstate(all="ignore")
    def _mean_anew(self, call: Call, x: Array, weights: Array | None, means: Array) -> None:
        """Means whose terms, or the sum of these, are beyond the numbers that they were computed in."""
        rows = ~np.isfinite(means)
        if not rows.any():
            return
        step = int(np.frexp(x.shape[-1])[1])  # without it the sum of float64 may be too large as well
        weight = np.ones(()) if self.weight is None else self.weight.astype(np.float64)
        weight = np.broadcast_to(np.ldexp(weight, -step), x.shape)[rows]
        own = None if weights is None else np.broadcast_to(weights, rows.shape)[rows][:, None]
        x, y = (widened(array)[rows].astype(np.float64) for array in (x, call.y))
        terms = BCEWithLogitsLoss(weight, reduction="none", unchecked=True)(x, y, sample_weight=own)
        anew = np.empty(len(terms))
        _kernels.module.row_means(terms, anew)
        means[rows] = np.ldexp(anew, step)

    def _weight_of(
        self, input: Array, target: Any, /, sample_weight: Any = None, mask: Any = None, **more: Any
    ) -> Exact:
        call = Call(self._options, input, target, sample_weight, mask, with_grad=False)
        samples, weights = self._value_shape(input.shape), call.sample_weight
        if weights is not None:
            weights = sample_operand(weights, samples, call.dtype)
        return self._weighed({"mask": mask_operand(call.mask, samples), "sample_weight": weights}, samples)[0]

    def _run_hessp(self, call: Call, vector: Array, out: Array | None) -> Array:
        result = call.like_input(out, "out")
        call.stored = call.dtype  # only the product is rounded
        call.x = convert(widened(call.x), call.dtype)
        hess = self._run(call)[2]
        assert hess is not None
        with np.errstate(all="ignore"):
            if np.isinf(hess).any():  # the product may be a number
                np.copyto(result.result, self._slow_hessp(call, vector), casting="unsafe")
            else:
                np.multiply(hess, vector, out=result.result, casting="unsafe")
        mask = call.kernel["mask"]
        if mask is not None:  # where the vector may be NaN
            np.copyto(result.result, 0, where=~(mask if call.samples == call.x.shape else mask[..., None]))
        return result.result

    def _pass(self, call: Call, mask: Array | None) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The kernel with the arrays that every call has, and the weights that it takes for each element."""
        shape = call.x.shape
        y = target_operand(call.y, call.dtype)
        if y.shape != shape:
            hint = _remedies.for_element_shape(shape, y.shape)
            raise ValueError(f"target: got shape {y.shape}, wanted {shape} as input{hint}")
        extra_name, extra = self._extra(call)
        given = {}
        for name, key, array in (("weight", "weight", self.weight), (extra_name, "extra", extra)):
            if array is not None:
                given[key] = element_operand(call.beside_input(array, name))
        counted = None if mask is None else element_operand(mask.view(np.uint8))
        op = _kernels.POINT_OPS[(self._weighted_op if extra is not None else None) or self._op()]
        x = native(call.x, call.stored)
        return partial(_kernels.module.point_pass, op, x, y, threads_for(x.size), mask=counted), given

    def _wrong(self, x: Array, y: Array) -> Iterator[Wrong]:
        """What of input and target the loss is not defined on, or cannot be meant."""
        raise AssertionError

    def _raise_outside(self, call: Call, mask: Array | None, weights: Array | None) -> None:
        """Name the element for which a kernel has returned None."""
        x, y = (convert(widened(array), call.dtype) for array in (call.x, call.y))
        weighted = np.ones(x.shape, np.bool_) if weights is None else weights != 0
        if self.weight is not None:
            weighted = weighted & (call.beside_input(self.weight, "weight") != 0)
        with np.errstate(all="ignore"):  # NaN is nowhere outside
            _targets.raise_wrong(self._wrong(x, y), mask, weighted)

    def _divisor(self, shape: Shape, weights: Array | None, mask: Array | None) -> float:
        if self.reduction == "batchmean":
            return float(shape[0]) if shape else 1.0
        return sum_of_weights(shape, weights, mask) if self.reduction == "mean" else 1.0


class BCEWithLogitsLoss(_PointwiseLoss[V]):
    """Binary cross-entropy between sigmoid(input) and the target, from logits.

    w (pos_weight y softplus(-x) + (1 - y) softplus(x)) with softplus(x) = max(x, 0) + log1p(exp(-|x|)).

    Calling it:

    input : array_like
        Logits of any shape; %(dtypes)s. +inf and -inf are right for
        hard targets.
    %(probabilities)s

    Parameters
    ----------
    %(weight)s
    %(reduction)s
    pos_weight : array_like, optional
        Factor of the positive part, broadcastable to the input.
    %(empty)s
    %(unchecked)s

    Raises
    ------
    %(raises_of_targets)s

    See Also
    --------
    binary_cross_entropy_with_logits : The function.
    BCELoss : The same from probabilities.
    SigmoidFocalLoss : The same with less weight for what is sure.

    Notes
    -----
    The derivative is w ((1 - y) sigmoid(x) - pos_weight y sigmoid(-x)).

    References
    ----------
    `torch.nn.BCEWithLogitsLoss`.

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.BCEWithLogitsLoss()([-30.0, 0.0], [0, 1]), 12)
    0.34657359028
    """

    _function = "binary_cross_entropy_with_logits"
    _weighted_op = "bce_with_logits_pos_weight"

    @overload
    def __init__(
        self: BCEWithLogitsLoss[Array],
        weight: ArrayLike | None = None,
        *,
        reduction: Each,
        pos_weight: ArrayLike | None = None,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: BCEWithLogitsLoss[float],
        weight: ArrayLike | None = None,
        *,
        reduction: Reduced = "mean",
        pos_weight: ArrayLike | None = None,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        reduction: Each | Reduced = "mean",
        pos_weight: ArrayLike | None = None,
        empty: Empty = "nan",
        unchecked: bool = False,
    ) -> None:
        super().__init__(
            weight=weight_option(weight, "weight"),
            pos_weight=weight_option(pos_weight, "pos_weight"),
            reduction=reduction,
            empty=empty,
            unchecked=flag(unchecked, "unchecked"),
        )

    def _op(self) -> str:
        return "bce_with_logits"

    def _wrong(self, x: Array, y: Array) -> Iterator[Wrong]:
        return _targets.probability(x, y)


class BCELoss(_PointwiseLoss[V]):
    """Binary cross-entropy of probabilities: -w (y log x + (1 - y) log(1 - x)), each logarithm at least -100.

    From logits, `BCEWithLogitsLoss` loses nothing.

    Calling it:

    input : array_like
        Probabilities in [0, 1], any shape; %(dtypes)s. NaN gives NaN.
    target : array_like of input's shape
        Probabilities in [0, 1], any real dtype.

    Parameters
    ----------
    %(weight)s
    %(reduction)s
    %(empty)s
    %(unchecked)s

    Raises
    ------
    ValueError
        An input outside [0, 1], or a target unless `unchecked`, named with its position; or a shape or option
        that does not fit.
    TypeError
        A dtype that does not fit.

    See Also
    --------
    binary_cross_entropy : The function.
    BCEWithLogitsLoss : The same from logits.

    Notes
    -----
    The derivative is w (x - y) / max(x (1 - x), 1e-12).

    References
    ----------
    `torch.nn.BCELoss`.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.BCELoss()([0.5, 1.0], [1.0, 1.0])
    0.34657359027997264
    """

    _function = "binary_cross_entropy"

    @overload
    def __init__(
        self: BCELoss[Array],
        weight: ArrayLike | None = None,
        *,
        reduction: Each,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: BCELoss[float],
        weight: ArrayLike | None = None,
        *,
        reduction: Reduced = "mean",
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        reduction: Each | Reduced = "mean",
        empty: Empty = "nan",
        unchecked: bool = False,
    ) -> None:
        super().__init__(
            weight=weight_option(weight, "weight"),
            reduction=reduction,
            empty=empty,
            unchecked=flag(unchecked, "unchecked"),
        )

    def _op(self) -> str:
        return "bce"

    def _wrong(self, x: Array, y: Array) -> Iterator[Wrong]:
        return _targets.unit_input(x, y)


class KLDivLoss(_PointwiseLoss[V]):
    """Kullback-Leibler divergence of the input's distribution from the target's, from log-probabilities.

    y (log y - x), or exp(y) (y - x) with `log_target`, in nats; a target of probability 0 contributes 0.

    Calling it:

    input : array_like
        Log-probabilities of any shape, as from `log_softmax`, and not the probabilities that
        `scipy.special.kl_div` takes, in the other order: an entry above 0, rounding aside, is a ValueError
        unless `unchecked`; %(dtypes)s.
    target : array_like of input's shape
        Probabilities, or their logarithms, which are not above 0. Classes may be on any axis, or several, but
        the first, which is that of samples if there are others; all of the targets add up to a whole number
        of distributions, where neither mask nor sample_weight says what counts.

    Parameters
    ----------
    reduction : {"mean", "batchmean", "sum", "none"}, default: "mean"
        "mean" divides by the sum of sample_weight, the number of elements when there is none; "batchmean" by
        the first axis' length, which is the divergence per sample; "none" gives one value for each element.
    log_target : bool, default: False
        The target holds log-probabilities.
    %(empty)s
    %(unchecked)s

    Raises
    ------
    %(raises_of_targets)s

    See Also
    --------
    kl_div : The function.
    log_softmax : What makes log-probabilities of logits.
    fastloss.special.kl_div : SciPy's kl_div(p, q), of two arrays of probabilities.
    CrossEntropyLoss : The same from logits, up to the target's entropy.

    Notes
    -----
    The derivative is -y, or -exp(y) with `log_target`.

    References
    ----------
    `torch.nn.KLDivLoss`; Kullback and Leibler, "On information and sufficiency" (1951).

    Examples
    --------
    >>> import fastloss
    >>> x = fastloss.log_softmax([[0.0, 0.0]])
    >>> fastloss.KLDivLoss(reduction="batchmean")(x, [[1.0, 0.0]])
    0.6931471805599453
    """

    _function = "kl_div"
    _reductions = ("mean", "batchmean", "sum", "none")

    log_target: bool

    @overload
    def __init__(
        self: KLDivLoss[Array],
        *,
        reduction: Each,
        log_target: bool = False,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: KLDivLoss[float],
        *,
        reduction: Reduced | Literal["batchmean"] = "mean",
        log_target: bool = False,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    def __init__(
        self,
        *,
        reduction: Each | Reduced | Literal["batchmean"] = "mean",
        log_target: bool = False,
        empty: Empty = "nan",
        unchecked: bool = False,
    ) -> None:
        super().__init__(
            log_target=flag(log_target, "log_target"),
            reduction=reduction,
            empty=empty,
            unchecked=flag(unchecked, "unchecked"),
        )

    def _op(self) -> str:
        return "kl_div_log_target" if self.log_target else "kl_div"

    def _wrong(self, x: Array, y: Array) -> Iterator[Wrong]:
        return (_targets.log_target if self.log_target else _targets.divergence)(x, y)

    def _raise_outside(self, call: Call, mask: Array | None, weights: Array | None) -> None:
        super()._raise_outside(call, mask, weights)
        if not self.log_target:
            _targets.raise_sums(convert(widened(call.y), call.dtype), call.y)


class MSELoss(_PointwiseLoss[V]):
    """Squared error: (x - y)², with derivative 2 (x - y).

    With unit variance, half of it is the Gaussian negative log likelihood up to a constant.

    Calling it:

    input : array_like
        Numbers, of any shape; %(dtypes)s.
    target : array_like of input's shape
        Numbers, any real dtype.

    Parameters
    ----------
    %(reduction)s
    %(empty)s

    Raises
    ------
    %(raises)s

    See Also
    --------
    mse_loss : The function.
    GaussianNLLLoss : The likelihood, with variances.

    References
    ----------
    `torch.nn.MSELoss`.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.MSELoss()([1.0, 2.0], [0.0, 0.0])
    2.5
    """

    _function = "mse_loss"

    @overload
    def __init__(self: MSELoss[Array], *, reduction: Each, **options: Unpack[LossOptions]) -> None: ...

    @overload
    def __init__(
        self: MSELoss[float], *, reduction: Reduced = "mean", **options: Unpack[LossOptions]
    ) -> None: ...

    def __init__(self, *, reduction: Each | Reduced = "mean", empty: Empty = "nan") -> None:
        super().__init__(reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "mse"


class SigmoidFocalLoss(_PointwiseLoss[V]):
    """Focal loss of sigmoid(input), from logits: α_t (1 - p_t)^γ times the binary cross-entropy.

    With p = sigmoid(x), 1 - p_t = y (1 - p) + (1 - y) p, which is computed as that, and
    α_t = α y + (1 - α) (1 - y).

    Calling it:

    input : array_like
        Logits of any shape; %(dtypes)s.
    %(probabilities)s

    Parameters
    ----------
    gamma : float, default: 2.0
        The exponent γ ≥ 0; 0 gives the binary cross-entropy.
    alpha : float, optional
        The weight α of the positive class, in [0, 1], or None for ones (not 0.25 as in torchvision).
    reduction : {"mean", "sum", "none"}, default: "mean"
        "mean" divides by the sum of sample_weight, the number of elements when there is none; "none", which
        is torchvision's default, gives one value for each element.
    %(empty)s
    %(unchecked)s

    Raises
    ------
    %(raises_of_targets)s

    See Also
    --------
    sigmoid_focal_loss : The function.
    FocalLoss : The same of softmax(x).

    Notes
    -----
    The derivative, with the binary cross-entropy l, is
    α_t (1 - p_t)^γ (p - y + γ l p (1 - p) (1 - 2 y) / (1 - p_t)), -α (1 - p)^γ (1 - p - γ p log p) for y = 1.

    References
    ----------
    Lin et al., "Focal loss for dense object detection" (2017); `torchvision.ops.sigmoid_focal_loss`.

    Examples
    --------
    >>> import fastloss
    >>> print(f"{fastloss.SigmoidFocalLoss(alpha=0.25)([-30.0, 2.0], [0, 1]):.12e}")
    2.254453544050e-04
    """

    _function = "sigmoid_focal_loss"

    gamma: float
    alpha: float | None

    @overload
    def __init__(
        self: SigmoidFocalLoss[Array],
        gamma: float = 2.0,
        alpha: float | None = None,
        *,
        reduction: Each,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: SigmoidFocalLoss[float],
        gamma: float = 2.0,
        alpha: float | None = None,
        *,
        reduction: Reduced = "mean",
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = None,
        *,
        reduction: Each | Reduced = "mean",
        empty: Empty = "nan",
        unchecked: bool = False,
    ) -> None:
        share = None if alpha is None else scalar(alpha, "alpha")
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"alpha: got {alpha}, wanted one in [0, 1] or None")
        super().__init__(
            gamma=at_least_0(gamma, "gamma"),
            alpha=share,
            reduction=reduction,
            empty=empty,
            unchecked=flag(unchecked, "unchecked"),
        )

    def _op(self) -> str:
        return "sigmoid_focal"

    def _wrong(self, x: Array, y: Array) -> Iterator[Wrong]:
        return _targets.probability(x, y)

    def _numbers(self) -> tuple[float, float]:
        return self.gamma, -1.0 if self.alpha is None else self.alpha


class SoftMarginLoss(_PointwiseLoss[V]):
    """Logistic loss of labels of 1 and -1: log(1 + exp(-y x)), with derivative -y sigmoid(-y x).

    Calling it:

    input : array_like
        Logits of any shape; %(dtypes)s.
    target : array_like of input's shape
        The labels 1 or -1, or any other numbers, any real dtype.

    Parameters
    ----------
    %(reduction)s
    %(empty)s

    Raises
    ------
    %(raises)s

    See Also
    --------
    soft_margin_loss : The function.
    BCEWithLogitsLoss : The same of labels of 1 and 0.

    References
    ----------
    `torch.nn.SoftMarginLoss`.

    Examples
    --------
    >>> import fastloss
    >>> print(f"{fastloss.SoftMarginLoss()([30.0, 0.0], [1, -1]):.12f}")
    0.346573590280
    """

    _function = "soft_margin_loss"

    @overload
    def __init__(self: SoftMarginLoss[Array], *, reduction: Each, **options: Unpack[LossOptions]) -> None: ...

    @overload
    def __init__(
        self: SoftMarginLoss[float], *, reduction: Reduced = "mean", **options: Unpack[LossOptions]
    ) -> None: ...

    def __init__(self, *, reduction: Each | Reduced = "mean", empty: Empty = "nan") -> None:
        super().__init__(reduction=reduction, empty=empty)

    def _op(self) -> str:
        return "soft_margin"


class MultiLabelSoftMarginLoss(_PointwiseLoss[V]):
    """Binary cross-entropy from logits, averaged over the classes: a sample may have any number of labels.

    1/C Σ_j w_j (y_j softplus(-x_j) + (1 - y_j) softplus(x_j)) with softplus(x) = log(1 + exp(x)).

    Calling it:

    input : array_like of shape (N, C), (C,) or (..., C)
        Logits; %(dtypes)s.
    target : array_like of input's shape
        Probabilities in [0, 1], any real dtype. The value under "none", sample_weight and mask have the shape
        (N,), that of the input without its last axis.

    Parameters
    ----------
    weight : array_like, optional
        Factor w, broadcastable to the input, as (C,) for the classes; it enters no divisor.
    %(reduction_of_samples)s
    %(empty)s
    %(unchecked)s

    Raises
    ------
    TypeError, ValueError
        A shape, dtype or option that does not fit; no classes; a target that cannot be meant, named with its
        position, unless `unchecked`.

    See Also
    --------
    multilabel_soft_margin_loss : The function.
    BCEWithLogitsLoss : The same, one value for each element.

    Notes
    -----
    The derivative is w_j (sigmoid(x_j) - y_j) / C.

    References
    ----------
    `torch.nn.MultiLabelSoftMarginLoss`.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.MultiLabelSoftMarginLoss(reduction="none")([[0.0, 0.0], [0.0, 800.0]], [[1, 0], [1, 1]])
    array([0.69314718, 0.34657359])
    """

    _function = "multilabel_soft_margin_loss"
    _averaged = 1

    @overload
    def __init__(
        self: MultiLabelSoftMarginLoss[Array],
        weight: ArrayLike | None = None,
        *,
        reduction: Each,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: MultiLabelSoftMarginLoss[float],
        weight: ArrayLike | None = None,
        *,
        reduction: Reduced = "mean",
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        reduction: Each | Reduced = "mean",
        empty: Empty = "nan",
        unchecked: bool = False,
    ) -> None:
        super().__init__(
            weight=weight_option(weight, "weight"),
            reduction=reduction,
            empty=empty,
            unchecked=flag(unchecked, "unchecked"),
        )

    def _run_in_place(self, call: Call) -> Result:
        return self._run(call)  # whose last axis is one

    @shortening
    def _evaluated(self, input: Any, *arguments: Any) -> Any:
        if self.reduction != "none" or self._plain is None:
            return super()._evaluated(input, *arguments)
        kept = _kept(input, arguments[7])
        result = super()._evaluated(input, *arguments)
        if np.isfinite(result[0] if isinstance(result, tuple) else result).all():
            return result
        loss = self._changed()
        loss.__dict__["_plain"] = None  # the short way leaves means of infinite terms as they are
        return loss._evaluated(kept, *arguments)

    def _op(self) -> str:
        return "bce_with_logits"

    def _wrong(self, x: Array, y: Array) -> Iterator[Wrong]:
        return _targets.probability(x, y)


class PoissonNLLLoss(_PointwiseLoss[V]):
    """Negative log likelihood of counts under Poisson distributions, up to log y!.

    exp(x) - y x; or x - y log(x + eps) where the input is the rate itself.

    Calling it:

    input : array_like
        Rates or their logarithms, of any shape; %(dtypes)s.
    target : array_like of input's shape
        Counts, any real dtype.

    Parameters
    ----------
    log_input : bool, default: True
        The input is the logarithm of the rate.
    full : bool, default: False
        Add Stirling's approximation of log y!, y log y - y + log(2 π y) / 2, where y > 1.
    eps : float, default: 1e-8
        What is added to the rate in the logarithm, without `log_input`.
    %(reduction)s
    %(empty)s
    %(unchecked)s

    Raises
    ------
    %(raises_of_targets)s

    See Also
    --------
    poisson_nll_loss : The function.

    Notes
    -----
    The derivative is exp(x) - y; or 1 - y / (x + eps) where the input is the rate itself.

    References
    ----------
    `torch.nn.PoissonNLLLoss`.

    Examples
    --------
    >>> import fastloss
    >>> round(fastloss.PoissonNLLLoss()([0.0, 1.0], [1, 0]), 12)
    1.85914091423
    """

    _function = "poisson_nll_loss"

    log_input: bool
    full: bool
    eps: float

    @overload
    def __init__(
        self: PoissonNLLLoss[Array],
        *,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-8,
        reduction: Each,
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: PoissonNLLLoss[float],
        *,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-8,
        reduction: Reduced = "mean",
        **options: Unpack[CheckedOptions],
    ) -> None: ...

    def __init__(
        self,
        *,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-8,
        reduction: Each | Reduced = "mean",
        empty: Empty = "nan",
        unchecked: bool = False,
    ) -> None:
        super().__init__(
            log_input=flag(log_input, "log_input"),
            full=flag(full, "full"),
            eps=at_least_0(eps, "eps"),
            reduction=reduction,
            empty=empty,
            unchecked=flag(unchecked, "unchecked"),
        )

    def _op(self) -> str:
        return "poisson_nll_log_input" if self.log_input else "poisson_nll"

    def _wrong(self, x: Array, y: Array) -> Iterator[Wrong]:
        return _targets.count(x, y)

    def _numbers(self) -> tuple[float, float]:
        return self.eps, float(self.full)


class GaussianNLLLoss(_PointwiseLoss[V]):
    """Negative log likelihood of the target under normal distributions of mean `input` and variance `var`.

    (log v + (x - y)² / v) / 2 with v = max(var, eps), and with `full` also log(2 π) / 2.

    Calling it:

    input : array_like
        Expectations, of any shape; %(dtypes)s.
    target : array_like of input's shape
        Observations, any real dtype.
    %(var)s

    Parameters
    ----------
    full : bool, default: False
        Add the constant log(2 π) / 2.
    eps : float, default: 1e-6
        What a smaller variance counts as, a positive number.
    %(reduction)s
    %(empty)s

    Raises
    ------
    ValueError
        A negative variance, named with its position; or a shape or option that does not fit.
    TypeError
        A dtype that does not fit.

    See Also
    --------
    gaussian_nll_loss : The function.
    MSELoss : Half of which this is with unit variance, up to a constant.

    Notes
    -----
    The derivative is (x - y) / v; with respect to the variance (1 / v - (x - y)² / v²) / 2, as in PyTorch
    also below eps.

    References
    ----------
    `torch.nn.GaussianNLLLoss`; Nix and Weigend, "Estimating the mean and variance of the target probability
    distribution" (1994).

    Examples
    --------
    >>> import fastloss
    >>> loss = fastloss.GaussianNLLLoss()
    >>> loss([1.0, 2.0], [0.0, 0.0], 4.0)
    1.0056471805599454
    >>> value, grads = loss.value_and_grad([1.0, 2.0], [0.0, 0.0], [4.0, 4.0], wrt=("input", "var"))
    >>> grads
    (array([0.125, 0.25 ]), array([0.046875, 0.      ]))
    """

    _function = "gaussian_nll_loss"
    _of_variances = True

    full: bool
    eps: float

    @overload
    def __init__(
        self: GaussianNLLLoss[Array],
        *,
        full: bool = False,
        eps: float = 1e-6,
        reduction: Each,
        **options: Unpack[LossOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: GaussianNLLLoss[float],
        *,
        full: bool = False,
        eps: float = 1e-6,
        reduction: Reduced = "mean",
        **options: Unpack[LossOptions],
    ) -> None: ...

    def __init__(
        self,
        *,
        full: bool = False,
        eps: float = 1e-6,
        reduction: Each | Reduced = "mean",
        empty: Empty = "nan",
    ) -> None:
        least = at_least_0(eps, "eps")
        if least == 0:
            raise ValueError(f"eps: got {eps}, wanted a positive number")
        super().__init__(full=flag(full, "full"), eps=least, reduction=reduction, empty=empty)

    @property
    def _beside_target(self) -> str | None:
        return "variances"

    def _op(self) -> str:
        return "gaussian_nll"

    def _numbers(self) -> tuple[float, float]:
        return self.eps, math.log(2 * math.pi) / 2 if self.full else 0.0

    def _extra(self, call: Call) -> tuple[str, Array | None]:
        var, shape = call.more["var"], call.x.shape
        compute_dtype(var, "var")
        return "var", _aligned_var(var, shape)

    def _raise_outside(self, call: Call, mask: Array | None, weights: Array | None) -> None:
        given: Any = dict(call.arrays)["var"]  # in its own shape
        var = widened(given)
        if mask is not None:  # one of the elements that share it counts
            shared = _shared(_aligned_var(var, call.x.shape), call.x.shape)
            mask = np.asarray(mask.any(axis=shared, keepdims=True)).reshape(var.shape)
        with np.errstate(all="ignore"):
            negative = var < 0
        raise ValueError(f"{first_wrong(negative, mask, var, 'var')} is negative, wanted variances")

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
    ) -> V:
        """Return the value.

        Parameters
        ----------
        input : array_like
            Expectations, of any shape; %(dtypes)s.
        target : array_like of input's shape
            Observations, any real dtype.
        %(var)s
        %(samples)s
        %(out)s

        Returns
        -------
        %(value)s

        Raises
        ------
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> fastloss.GaussianNLLLoss()([2.0], [0.0], 1.0)
        2.0
        """
        weights = (sample_weight, mask, normalizer, None)
        value: V = self._evaluated(input, target, (None, var), *weights, out, None, False)
        return value

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
    ) -> tuple[V, Any]:
        """Return the value and its derivative with respect to `input`, the variances, or both.

        Parameters
        ----------
        input : array_like
            Expectations, of any shape; %(dtypes)s.
        target : array_like of input's shape
            Observations, any real dtype.
        %(var)s
        wrt : {"input", "var"} or sequence of these, default: "input"
            What to differentiate by; several of them give a tuple of gradients. That by the variance has the
            shape of `var`, and its dtype if that is a float; it takes a pass of its own.
        %(samples)s
        %(grad_output)s
        %(out)s
        grad_out : ndarray, optional
            Array for the gradient by `input`, which has to be among what is differentiated by.

        Returns
        -------
        value : float or ndarray
            The value, in nats: a float, or under "none" the array of values.
        grad : ndarray or tuple of ndarray
            The gradient, in the shape of what is differentiated by; a tuple where `wrt` is a sequence. Under
            "none" it is the derivative of the sum of the values.

        Raises
        ------
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> fastloss.GaussianNLLLoss().value_and_grad([2.0], [0.0], 1.0, wrt="var")
        (2.0, array(-1.5))
        """
        names = choices_of(wrt, "wrt", ("input", "var"))
        if grad_out is not None and "input" not in names:
            raise ValueError("grad_out: it is for the gradient by 'input', which wrt does not name")
        weights = (sample_weight, mask, normalizer, grad_output)
        value: Any = None
        grads: dict[str, Any] = {}
        if "var" in names:  # first: the other may overwrite the input
            by_var = _GaussianNLLOfVar(self)
            value, grads["var"] = by_var._reduced(input, target, *weights, out, with_grad=True, var=var)
        if "input" in names:
            value, grads["input"] = self._evaluated(input, target, (None, var), *weights, out, grad_out, True)
        if not names:
            value = self._evaluated(input, target, (None, var), *weights, out, None, False)
        return value, grads[wrt] if isinstance(wrt, str) else tuple(grads[name] for name in names)

    def value_grad_hess(  # type: ignore[override]
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
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
        """Return the value, its derivative by `input`, and the diagonal of its Hessian, from one pass.

        Parameters
        ----------
        input : array_like
            Expectations, of any shape; %(dtypes)s.
        target : array_like of input's shape
            Observations, any real dtype.
        %(var)s
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
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> fastloss.GaussianNLLLoss().value_grad_hess([2.0], [0.0], 4.0)[2]
        array([0.25])
        """
        weights = (sample_weight, mask, normalizer, grad_output)
        second = (hessian, floor, hess_out)
        three: tuple[V, Array, Array] = self._evaluated(
            input, target, (None, var), *weights, out, grad_out, True, second
        )
        return three

    def total(  # type: ignore[override]
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Total:
        """Return sum, weight and count over the samples, which add up without rounding.

        Parameters
        ----------
        input : array_like
            Expectations, of any shape; %(dtypes)s.
        target : array_like of input's shape
            Observations, any real dtype.
        %(var)s
        %(counted)s

        Returns
        -------
        %(total)s

        Raises
        ------
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> fastloss.GaussianNLLLoss().total([2.0], [0.0], 1.0).sum
        2.0
        """
        return self._total(input, target, sample_weight, mask, var=var)

    def hessp(  # type: ignore[override]
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        vector: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
    ) -> Array:
        """Return the Hessian times a vector, for Newton-CG and methods of trust regions.

        Parameters
        ----------
        input : array_like
            Expectations, of any shape; %(dtypes)s.
        target : array_like of input's shape
            Observations, any real dtype.
        %(var)s
        vector : array_like of input's shape
            What the Hessian is multiplied by.
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
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> fastloss.GaussianNLLLoss().hessp([2.0], [0.0], 4.0, [2.0])
        array([0.5])
        """
        weights = (sample_weight, mask, normalizer, grad_output)
        return self._times(out, input, target, *weights, var=var, vector=vector)

    def _with(self, weight: Any, extra: Any) -> tuple[Loss[V], dict[str, Any]]:
        return self, {"var": extra}


class _GaussianNLLOfVar(GaussianNLLLoss[V]):
    """The same loss, whose gradient is that by variances of input's shape."""

    def __init__(self, loss: GaussianNLLLoss[V]) -> None:
        self.__dict__.update(vars(loss), _options={**loss._options, "wrt": "var"})

    def _op(self) -> str:
        return "gaussian_nll_of_var"

    @shortening
    @np.errstate(all="ignore")
    def _reduced(self, *arguments: Any, **more: Any) -> tuple[Value, Array]:
        """Value and gradient by the variances: elementwise, then added up where they are broadcast."""
        call = Call(self._options, *arguments, **more)
        var, shape = call.more["var"], call.x.shape
        compute_dtype(var, "var")
        aligned = _aligned_var(var, shape)
        call.x, call.stored = convert(widened(call.x), call.dtype), call.dtype
        full: Array = np.broadcast_to(widened(aligned), shape)
        call.more["var"] = full
        value, grad, _ = self._evaluate(call)
        assert grad is not None
        shared = _shared(aligned, shape)
        total = grad.sum(axis=shared, dtype=np.float64, keepdims=True) if shared else grad
        dtype = stored_dtype(var, compute_dtype(var, "var"))
        return value, convert(total.reshape(var.shape), call.dtype if dtype == BFLOAT16 else dtype)


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


@overload
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Each,
    pos_weight: ArrayLike | None = None,
    **options: Unpack[CheckedCall],
) -> Array: ...


@overload
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Reduced = "mean",
    pos_weight: ArrayLike | None = None,
    **options: Unpack[CheckedCall],
) -> float: ...


def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Each | Reduced = "mean",
    pos_weight: ArrayLike | None = None,
    empty: Empty = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Binary cross-entropy from logits: y softplus(-x) + (1 - y) softplus(x).

    %(BCEWithLogitsLoss)s

    Examples
    --------
    >>> import fastloss
    >>> print(f"{fastloss.binary_cross_entropy_with_logits(-30.0, 0.0):.12e}")
    9.357622968840e-14
    """
    loss = kept(BCEWithLogitsLoss, reduction, empty, unchecked)
    own = weight, pos_weight
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def binary_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Each,
    **options: Unpack[CheckedCall],
) -> Array: ...


@overload
def binary_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Reduced = "mean",
    **options: Unpack[CheckedCall],
) -> float: ...


def binary_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Each | Reduced = "mean",
    empty: Empty = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Binary cross-entropy of probabilities: -w (y log x + (1 - y) log(1 - x)), each logarithm at least -100.

    %(BCELoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.binary_cross_entropy([0.5], [1.0])
    0.6931471805599453
    """
    loss = kept(BCELoss, reduction, empty, unchecked)
    own = weight, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def kl_div(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Each,
    log_target: bool = False,
    **options: Unpack[CheckedCall],
) -> Array: ...


@overload
def kl_div(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Reduced | Literal["batchmean"] = "mean",
    log_target: bool = False,
    **options: Unpack[CheckedCall],
) -> float: ...


def kl_div(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Each | Reduced | Literal["batchmean"] = "mean",
    log_target: bool = False,
    empty: Empty = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Kullback-Leibler divergence from log-probabilities: y (log y - x).

    %(KLDivLoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.kl_div([-1.0], [1.0])
    1.0
    """
    loss = kept(KLDivLoss, reduction, log_target, empty, unchecked)
    own = None, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def mse_loss(
    input: ArrayLike, target: ArrayLike, *, reduction: Each, **options: Unpack[LossCall]
) -> Array: ...


@overload
def mse_loss(
    input: ArrayLike, target: ArrayLike, *, reduction: Reduced = "mean", **options: Unpack[LossCall]
) -> float: ...


def mse_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Each | Reduced = "mean",
    empty: Empty = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Squared error: (x - y)², with derivative 2 (x - y).

    %(MSELoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.mse_loss([1.0, 2.0], [0.0, 0.0])
    2.5
    """
    loss = kept(MSELoss, reduction, empty)
    own = None, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def sigmoid_focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    gamma: float = 2.0,
    alpha: float | None = None,
    *,
    reduction: Each,
    **options: Unpack[CheckedCall],
) -> Array: ...


@overload
def sigmoid_focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    gamma: float = 2.0,
    alpha: float | None = None,
    *,
    reduction: Reduced = "mean",
    **options: Unpack[CheckedCall],
) -> float: ...


def sigmoid_focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    gamma: float = 2.0,
    alpha: float | None = None,
    *,
    reduction: Each | Reduced = "mean",
    empty: Empty = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Focal loss from logits: α_t (1 - p_t)^γ times the binary cross-entropy.

    %(SigmoidFocalLoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.sigmoid_focal_loss([0.0], [1.0])
    0.17328679513998632
    """
    loss = kept(SigmoidFocalLoss, gamma, alpha, reduction, empty, unchecked)
    own = None, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def soft_margin_loss(
    input: ArrayLike, target: ArrayLike, *, reduction: Each, **options: Unpack[LossCall]
) -> Array: ...


@overload
def soft_margin_loss(
    input: ArrayLike, target: ArrayLike, *, reduction: Reduced = "mean", **options: Unpack[LossCall]
) -> float: ...


def soft_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Each | Reduced = "mean",
    empty: Empty = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Logistic loss of labels of 1 and -1: log(1 + exp(-y x)), with derivative -y sigmoid(-y x).

    %(SoftMarginLoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.soft_margin_loss([0.0], [-1])
    0.6931471805599453
    """
    loss = kept(SoftMarginLoss, reduction, empty)
    own = None, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def multilabel_soft_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Each,
    **options: Unpack[CheckedCall],
) -> Array: ...


@overload
def multilabel_soft_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Reduced = "mean",
    **options: Unpack[CheckedCall],
) -> float: ...


def multilabel_soft_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: Each | Reduced = "mean",
    empty: Empty = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Binary cross-entropy from logits, averaged over the classes.

    %(MultiLabelSoftMarginLoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.multilabel_soft_margin_loss([[0.0, 0.0]], [[1, 0]])
    0.6931471805599453
    """
    loss = kept(MultiLabelSoftMarginLoss, reduction, empty, unchecked)
    own = weight, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Each,
    **options: Unpack[CheckedCall],
) -> Array: ...


@overload
def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduced = "mean",
    **options: Unpack[CheckedCall],
) -> float: ...


def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Each | Reduced = "mean",
    empty: Empty = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Likelihood of counts under Poisson distributions: exp(x) - y x.

    %(PoissonNLLLoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.poisson_nll_loss([0.0], [3])
    1.0
    """
    loss = kept(PoissonNLLLoss, log_input, full, eps, reduction, empty, unchecked)
    own = None, None
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)


@overload
def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Each,
    **options: Unpack[LossCall],
) -> Array: ...


@overload
def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduced = "mean",
    **options: Unpack[LossCall],
) -> float: ...


def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Each | Reduced = "mean",
    empty: Empty = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Likelihood under normal distributions: (log v + (x - y)² / v) / 2 with v = max(var, eps).

    %(GaussianNLLLoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.gaussian_nll_loss([2.0], [0.0], 1.0)
    2.0
    """
    loss = kept(GaussianNLLLoss, full, eps, reduction, empty)
    own = None, var
    return loss._evaluated(input, target, own, sample_weight, mask, normalizer, None, out, None, False)
