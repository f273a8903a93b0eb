"""A float64 NumPy twin of every function of fastloss.

Short, plain and slow: the formulas as they stand in the literature, written so that no digits
cancel. Tests, ``fastloss.checking()`` and ``python -m fastloss`` compare the kernels with it.

The array functions take the arguments of their twins, without ``out``, and return float64 arrays.
The losses take the options of their class as keywords, with ``sample_weight`` and ``grad_output``,
and return ``(value, grad)``.

Numbers so large or small that float64 may not hold what comes on the way to a loss, such as the square of
1e200, are taken as ``numpy.longdouble``, whose range is far larger on most machines. A weight of exactly 0
drops an infinite term and keeps NaN.

Notation: along the class axis m is the maximum, d_j = x_j - m, s the sum of exp(d_j) without one
maximum's own 1, and L = log1p(s). Then logsumexp(x) = m + L, log p_j = d_j - L, and every term of a
loss, L - d_j = -log p_j, is at least 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]
Result: TypeAlias = "tuple[float | Array, Array]"

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "entropy",
    "entropy_from_logits",
    "kl_div",
    "log_softmax",
    "logsigmoid",
    "logsumexp",
    "mse_loss",
    "multinomial_nll_loss",
    "nll_loss",
    "sigmoid",
    "softmax",
]

# infinities and NaN are answers here, not accidents
_quiet = np.errstate(all="ignore")

_P = ParamSpec("_P")


def _loss(function: Callable[_P, Result]) -> Callable[_P, Result]:
    """In long double where an argument is far from 1, otherwise in float64; float64 results."""

    @wraps(function)
    @_quiet
    def evaluate(*args: _P.args, **options: _P.kwargs) -> Result:
        arrays = [np.asarray(a) for a in (*args, *options.values()) if a is not None]
        if any(_is_extreme(a) for a in arrays if a.dtype.kind == "f"):
            args = tuple(_wide(a) for a in args)  # type: ignore[assignment]
            options = {name: _wide(a) for name, a in options.items()}  # type: ignore[assignment]
        value, grad = function(*args, **options)
        value = np.asarray(value, np.float64) if isinstance(value, np.ndarray) else float(value)
        return value, np.asarray(grad, np.float64)

    return evaluate


def _is_extreme(a: NDArray[Any]) -> bool:
    size = np.abs(a[np.isfinite(a) & (a != 0)])
    return bool(np.any((size < 1e-30) | (size > 1e30)))


def _wide(a: Any) -> Any:
    return np.asarray(a, np.longdouble) if np.asarray(a).dtype.kind == "f" else a


# ---------------------------------------------------------------------------------- array functions


@_quiet
def logsumexp(x: ArrayLike, axis: int = -1, *, keepdims: bool = False) -> Array:
    """Log of the sum of exponentials along ``axis``: m + log1p(s)."""
    row = _shift(_classes_last("x", x, axis))
    result: Array = np.where(np.isinf(row.m), row.m, row.m + row.L)
    result = np.moveaxis(result, -1, axis)
    return result if keepdims else np.asarray(result.squeeze(axis))


@_quiet
def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """Probabilities along ``axis``: p_j = exp(d_j) / (1 + s)."""
    row = _shift(_classes_last("x", x, axis))
    return np.moveaxis(row.p, -1, axis)


@_quiet
def log_softmax(x: ArrayLike, axis: int = -1) -> Array:
    """Log-probabilities along ``axis``: log p_j = d_j - L."""
    row = _shift(_classes_last("x", x, axis))
    return np.moveaxis(row.d - row.L, -1, axis)


@_quiet
def sigmoid(x: ArrayLike) -> Array:
    """Logistic function: 1 / (1 + exp(-x)), as exp(x) / (1 + exp(x)) for negative x."""
    x = _float64(x)
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1.0) / (1 + e))


@_quiet
def logsigmoid(x: ArrayLike) -> Array:
    """Log of the logistic function: min(x, 0) - log1p(exp(-abs(x)))."""
    return np.asarray(-_softplus(-_float64(x)))


@_quiet
def entropy(p: ArrayLike, axis: int = -1) -> Array:
    """Shannon entropy of probabilities in nats: the sum of -p_j log p_j, where 0 log 0 = 0."""
    p = _classes_last("p", p, axis)
    return np.asarray((-p * np.log(np.where(p == 0, 1.0, p))).sum(axis=-1))


@_quiet
def entropy_from_logits(x: ArrayLike, axis: int = -1) -> Array:
    """Shannon entropy of softmax(x) in nats: the sum of p_j (L - d_j)."""
    row = _shift(_classes_last("x", x, axis))
    return np.asarray(_times(row.p, row.L - row.d).sum(axis=-1))


# ------------------------------------------------------------------------------ losses with classes


@_loss
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
    grad_output: ArrayLike | None = None,
) -> Result:
    """Cross-entropy of softmax(input) with class indices or class probabilities.

    A row's loss is the sum of c_j (L - d_j), its gradient c.sum() p_j - c_j. With smoothing eps
    and class weights w, c_j = w_j ((1 - eps) q_j + eps / C) for probabilities q, and
    c_j = (1 - eps) w_t [j = t] + eps w_j / C for the index t. The mean divides by the sum of w_t,
    or the number of rows for probabilities, both weighted by ``sample_weight``.
    """
    axis = _class_axis(input, axis)
    x = _classes_last("input", input, axis)
    w = _class_weight(weight, x.shape[-1])
    spread = label_smoothing * w / x.shape[-1] if label_smoothing else 0.0
    if np.shape(target) == np.shape(input):
        c = (1 - label_smoothing) * w * _classes_last("target", target, axis) + spread
        divisor, used = np.ones(x.shape[:-1]), None
    else:
        hot, ignored = _one_hot(target, x.shape, ignore_index)
        x = np.where(ignored, 0.0, x)
        c = np.where(ignored, 0.0, np.where(hot, (1 - label_smoothing) * w, 0.0) + spread)
        divisor, used = np.where(hot, w, 0.0).sum(axis=-1), ~ignored[..., 0]
    rows, grad = _softmax_loss(x, c)
    value, grad = _reduce(rows, grad, reduction, sample_weight, grad_output, divisor, used)
    return value, np.moveaxis(grad, -1, axis)


@_loss
def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int | None = None,
    sample_weight: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
) -> Result:
    """Negative log likelihood of class indices under log-probabilities.

    A row's loss is -w_t x_t, its gradient -w_t at the target t and 0 elsewhere. The mean
    divides by the sum of w_t, weighted by ``sample_weight``.
    """
    axis = _class_axis(input, axis)
    x = _classes_last("input", input, axis)
    w = _class_weight(weight, x.shape[-1])
    hot, ignored = _one_hot(target, x.shape, ignore_index)
    c = np.where(hot, w, 0.0)
    rows = -_times(c, np.where(hot, x, 0.0)).sum(axis=-1)
    used = ~ignored[..., 0]
    value, grad = _reduce(rows, -c, reduction, sample_weight, grad_output, c.sum(axis=-1), used)
    return value, np.moveaxis(np.where(hot, grad, 0.0), -1, axis)


@_loss
def multinomial_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    full: bool = False,
    reduction: str = "mean",
    axis: int | None = None,
    sample_weight: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
) -> Result:
    """Negative log likelihood of counts k under softmax(input).

    A row's loss is the sum of k_j (L - d_j), its gradient n p_j - k_j, n the sum of the counts.
    ``full=True`` adds the constant -log(n! / prod k_j!).
    """
    axis = _class_axis(input, axis)
    x = _classes_last("input", input, axis)
    k = _classes_last("target", _like("target", target, np.shape(input)), axis)
    rows, grad = _softmax_loss(x, k)
    if full:
        lgamma = np.vectorize(math.lgamma, otypes=[np.float64])
        rows = rows + lgamma(k + 1).sum(axis=-1) - lgamma(k.sum(axis=-1) + 1)
    value, grad = _reduce(rows, grad, reduction, sample_weight, grad_output)
    return value, np.moveaxis(grad, -1, axis)


# --------------------------------------------------------------------------------- pointwise losses


@_loss
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
) -> Result:
    """Binary cross-entropy of sigmoid(x) with targets y, class 1 weighted by b = ``pos_weight``.

    weight * (b y softplus(-x) + (1 - y) softplus(x)), gradient
    weight * ((1 - y) sigmoid(x) - b y sigmoid(-x)).
    """
    x = _float64(input)
    y = _like("target", target, x.shape)
    w = _broadcast("weight", weight, x.shape)
    b = _broadcast("pos_weight", pos_weight, x.shape)
    values = _times(w, _times(b * y, _softplus(-x)) + _times(1 - y, _softplus(x)))
    grad = _times(w, (1 - y) * sigmoid(x) - b * y * sigmoid(-x))
    return _reduce(values, grad, reduction, sample_weight, grad_output)


@_loss
def binary_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
) -> Result:
    """Binary cross-entropy of probabilities p with targets y.

    -weight * (y log p + (1 - y) log(1 - p)), the logarithms clamped at -100 as in PyTorch; gradient
    weight * (p - y) / max(p (1 - p), 1e-12).
    """
    p = _float64(input)
    y = _like("target", target, p.shape)
    w = _broadcast("weight", weight, p.shape)
    outside = (p < 0) | (p > 1)
    if outside.any():
        where = tuple(np.argwhere(outside)[0])
        raise ValueError(f"input{_at(where)} = {p[where]} is outside [0, 1]")
    values = -_times(w, y * np.maximum(np.log(p), -100.0) + (1 - y) * np.maximum(np.log1p(-p), -100.0))
    grad = _times(w, (p - y) / np.maximum(p * (1 - p), 1e-12))
    return _reduce(values, grad, reduction, sample_weight, grad_output)


@_loss
def kl_div(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    log_target: bool = False,
    sample_weight: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
) -> Result:
    """Kullback-Leibler divergence of log-probabilities x from targets y: y (log y - x).

    The gradient is -y. With ``log_target`` the target is log y. ``"batchmean"`` divides the sum by
    ``input.shape[0]``.
    """
    x = _float64(input)
    target = _like("target", target, x.shape)
    y, log_y = target, np.log(target)
    if log_target:
        y, log_y = np.exp(target), target
    values = _times(y, np.where(y == 0, 0.0, log_y) - x)
    if log_target:  # no probability is 0 but that of -inf
        values = np.where(np.isinf(target - x) & (target > -np.inf), target - x, values)
    batch = x.shape[0] if x.ndim else 1
    return _reduce(values, -y, reduction, sample_weight, grad_output, batch=batch)


@_loss
def mse_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
) -> Result:
    """Squared error: (x - y)**2, gradient 2 (x - y)."""
    x = _float64(input)
    d = x - _like("target", target, x.shape)
    return _reduce(d * d, 2 * d, reduction, sample_weight, grad_output)


# ------------------------------------------------------------------------------------------ helpers


class _Row(NamedTuple):
    """What every softmax formula is made of; arrays keep the class axis, last."""

    m: Array  # the maximum
    d: Array  # x - m
    L: Array  # log1p(s)
    p: Array  # softmax(x)
    not_p: Array  # 1 - p, the sum of the other classes' probabilities


def _shift(x: Array) -> _Row:
    m = x.max(axis=-1, keepdims=True)
    d = x - m
    e = np.exp(d)
    top = np.arange(x.shape[-1]) == x.argmax(axis=-1)[..., None]
    # 0 * m: 0 for the one maximum left out, and nan where the maximum is NaN or infinite
    s = np.where(top, 0.0 * m, e).sum(axis=-1, keepdims=True)
    return _Row(m, d, np.log1p(s), e / (1 + s), np.where(top, s, 1 + s - e) / (1 + s))


def _softmax_loss(x: Array, c: Array) -> tuple[Array, Array]:
    """Each row's sum of -c_j log p_j and its gradient, c.sum() p_j - c_j without cancellation."""
    row = _shift(x)
    rows = _times(c, row.L - row.d).sum(axis=-1)
    largest = np.arange(c.shape[-1]) == np.abs(c).argmax(axis=-1)[..., None]
    others = np.where(largest, np.where(largest, 0.0, c).sum(-1, keepdims=True), c.sum(-1, keepdims=True) - c)
    return rows, others * row.p - c * row.not_p


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _times(c: Array, t: Array) -> Array:
    """C * t, where a coefficient of 0 makes 0 even of an infinite term."""
    return np.where((c == 0) & np.isinf(t), 0.0, c * t)


def _reduce(
    values: Array,
    grad: Array,
    reduction: str,
    sample_weight: ArrayLike | None,
    grad_output: ArrayLike | None,
    divisor: Array | None = None,
    used: NDArray[np.bool_] | None = None,
    batch: int | None = None,
) -> Result:
    """Weight, reduce and scale: one value per sample, ``grad`` with or without a class axis, last.

    ``divisor``: each sample's share of the mean's divisor before ``sample_weight``, by default 1.
    ``used``: False for samples that are ignored, whatever their weights are.
    ``batch``: the divisor of "batchmean", for the loss that has it.
    """
    used = np.ones(values.shape, bool) if used is None else used
    scale = np.where(used, _broadcast("sample_weight", sample_weight, values.shape), 0.0)
    values = np.asarray(_times(scale, values))
    total = values.sum()
    value: Any
    if reduction == "none":
        value, n = values, 1.0
    elif reduction == "sum":
        value, n = total, 1.0
    elif reduction == "mean" or (reduction == "batchmean" and batch is not None):
        share = scale if divisor is None else divisor * scale
        n = share.sum() if reduction == "mean" else float(batch or 0)
        value = total / n if n else math.nan
    else:
        more = "" if batch is None else "'batchmean', "
        known = f"'mean', {more}'sum' or 'none'"
        raise ValueError(f"reduction: got {reduction!r}, wanted {known}")
    if n == 0:
        return value, np.zeros_like(grad)
    scale = np.where(used, _times(scale, _broadcast("grad_output", grad_output, values.shape)) / n, 0.0)
    return value, _times(scale[..., None] if grad.ndim > scale.ndim else scale, grad)


def _one_hot(
    target: ArrayLike, shape: tuple[int, ...], ignore_index: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the target class is, shape (..., C), and which rows are ignored, shape (..., 1)."""
    label = np.asarray(target)
    if label.shape != shape[:-1]:
        raise ValueError(f"target: got shape {label.shape}, wanted {shape[:-1]}")
    if label.dtype.kind not in "bui":
        raise TypeError(f"target: got dtype {label.dtype}, wanted integer or bool class indices")
    if label.dtype.kind == "b":
        label = label.astype(np.uint8)
    ignored = label == ignore_index
    wrong = ~ignored & ((label < 0) | (label >= shape[-1]))
    if wrong.any():
        where = tuple(np.argwhere(wrong)[0])
        raise IndexError(f"target{_at(where)} = {label[where]} is out of range for {shape[-1]} classes")
    hot = (label[..., None] == np.arange(shape[-1])) & ~ignored[..., None]
    return hot, ignored[..., None]


def _class_axis(input: ArrayLike, axis: int | None) -> int:
    if axis is None:
        return 1 if np.ndim(input) > 1 else 0
    return axis


def _classes_last(name: str, x: ArrayLike, axis: int) -> Array:
    x = np.ascontiguousarray(np.moveaxis(_float64(x), axis, -1))  # whose sums NumPy adds in pairs
    if x.shape[-1] == 0:
        raise ValueError(f"{name}: got no classes, axis {axis} has length 0")
    return x


def _class_weight(weight: ArrayLike | None, classes: int) -> Array:
    return np.ones(classes) if weight is None else _like("weight", weight, (classes,))


def _like(name: str, a: ArrayLike, shape: tuple[int, ...]) -> Array:
    array = _float64(a)
    if array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, wanted {shape}")
    return array


def _broadcast(name: str, a: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    array = _float64(1.0 if a is None else a)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        wanted = f"one that broadcasts to {shape}"
        raise ValueError(f"{name}: got shape {array.shape}, wanted {wanted}") from None


def _float64(a: Any) -> Array:
    array = np.asarray(a)
    return array if array.dtype == np.longdouble else array.astype(np.float64)


def _at(where: tuple[int, ...]) -> str:
    return f"[{', '.join(str(i) for i in where)}]" if where else ""
