"""A float64 NumPy twin of every function of fastloss.

Short, plain and slow: the formulas as they stand in the literature, written so that no digits
cancel. Tests, ``fastloss.checking()`` and ``python -m fastloss`` compare the kernels with it.

The array functions take the arguments of their twins, without ``out``, and return float64 arrays.
The losses take the options of their class as keywords, with ``sample_weight``, ``mask``,
``normalizer`` and ``grad_output``, and return ``(value, grad)``; with ``hessian`` ``(value, grad, hess)``.

Numbers so large or small that float64 may not hold what comes on the way to a loss, such as the square of
1e200, are taken as ``numpy.longdouble``, whose range is far larger on most machines. A weight of exactly 0
drops an infinite term and keeps NaN.

Notation: along the class axis m is the maximum, d_j = x_j - m, s the sum of exp(d_j) without one
maximum's own 1, and L = log1p(s). Then logsumexp(x) = m + L, log p_j = d_j - L, and every term of a
loss, L - d_j = -log p_j, is at least 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]
Result: TypeAlias = "tuple[Any, ...]"  # value, gradient and, where it is wanted, the Hessian's diagonal
Axis: TypeAlias = "int | tuple[int, ...] | None"
Rule: TypeAlias = "str | float | Array | None"  # for the diagonal; or a vector that the Hessian multiplies

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "entropy",
    "entropy_from_logits",
    "focal_loss",
    "gaussian_nll_loss",
    "generalized_cross_entropy",
    "hessp",
    "kl_div",
    "kl_div_with_logits",
    "linear_cross_entropy",
    "log_softmax",
    "log_softmax_vjp",
    "logsigmoid",
    "logsumexp",
    "mse_loss",
    "multilabel_soft_margin_loss",
    "multinomial_nll_loss",
    "nll_loss",
    "poisson_nll_loss",
    "poly_loss",
    "scaling_grad",
    "sigmoid",
    "sigmoid_focal_loss",
    "sigmoid_vjp",
    "soft_margin_loss",
    "softmax",
    "softmax_vjp",
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
        value, *derivatives = function(*args, **options)
        value = np.asarray(value, np.float64) if isinstance(value, np.ndarray) else float(value)
        return value, *(np.asarray(derivative, np.float64) for derivative in derivatives)

    return evaluate


def _is_extreme(a: NDArray[Any]) -> bool:
    size = np.abs(a[np.isfinite(a) & (a != 0)])
    return bool(np.any((size < 1e-30) | (size > 1e30)))


def _wide(a: Any) -> Any:
    return np.asarray(a, np.longdouble) if np.asarray(a).dtype.kind == "f" else a


# ---------------------------------------------------------------------------------- array functions


@_quiet
def logsumexp(
    x: ArrayLike, axis: Axis = -1, *, keepdims: bool = False, where: ArrayLike | None = None
) -> Array:
    """Log of the sum of exponentials along ``axis``: m + log1p(s).

    Parameters
    ----------
    %(twin.x)s
    %(keepdims)s
    %(where)s

    Returns
    -------
    %(twin.reduced)s

    Examples
    --------
    >>> from fastloss import reference
    >>> float(reference.logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    row = _shift(_classes_together(_where(where, x), axis))
    result: Array = np.where(np.isinf(row.m), row.m, row.m + row.L)[..., 0]
    return result.reshape(_reduced_shape(np.shape(x), axis)) if keepdims else result


@_quiet
def softmax(x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None) -> Array:
    """Softmax along ``axis``: p_j = exp(d_j) / (1 + s).

    Parameters
    ----------
    %(twin.x)s
    %(where_of_softmax)s

    Returns
    -------
    %(twin.array)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.softmax([0.0, 0.0])
    array([0.5, 0.5])
    """
    row = _shift(_classes_together(_where(where, x), axis))
    return _where(where, _classes_apart(row.p, np.shape(x), axis), 0.0)


@_quiet
def log_softmax(x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None) -> Array:
    """Logarithm of softmax along ``axis``: log p_j = d_j - L.

    Parameters
    ----------
    %(twin.x)s
    %(where)s

    Returns
    -------
    %(twin.array)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.log_softmax([0.0, -1000.0])
    array([    0., -1000.])
    """
    row = _shift(_classes_together(_where(where, x), axis))
    return _where(where, _classes_apart(row.d - row.L, np.shape(x), axis))


@_quiet
def sigmoid(x: ArrayLike, *, where: ArrayLike | None = None) -> Array:
    """Logistic function: 1 / (1 + exp(-x)), as exp(x) / (1 + exp(x)) for negative x.

    Parameters
    ----------
    %(twin.x_of_elements)s
    %(where)s

    Returns
    -------
    %(twin.array)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.sigmoid([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])
    """
    x = _where(where, x)
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1.0) / (1 + e))


@_quiet
def logsigmoid(x: ArrayLike, *, where: ArrayLike | None = None) -> Array:
    """Log of the logistic function: min(x, 0) - log1p(exp(-abs(x))).

    Parameters
    ----------
    %(twin.x_of_elements)s
    %(where)s

    Returns
    -------
    %(twin.array)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.logsigmoid([-1000.0, 40.0])
    array([-1.00000000e+03, -4.24835426e-18])
    """
    return np.asarray(-_softplus(-_where(where, x)))


@_quiet
def softmax_vjp(p: ArrayLike, grad_output: ArrayLike, axis: Axis = -1) -> Array:
    """Derivative of softmax times a vector, from its result: p_j (g_j - s), s the sum of p_k g_k.

    Parameters
    ----------
    p : array_like
        What `softmax` gave; taken as float64. Where it is 0, an infinite g does not count.
    %(twin.grad_output)s
    axis : int, tuple of int or None, default: -1
        The class axis, or several; None is all of them.

    Returns
    -------
    %(twin.array_of_result)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.softmax_vjp([0.5, 0.5], [1.0, 0.0])
    array([ 0.25, -0.25])
    """
    shape = np.shape(p)
    g = _classes_together(_like("grad_output", grad_output, shape), axis)
    p = _classes_together(_float64(p), axis)
    s = _times(p, g * 2.0**-40).sum(axis=-1, keepdims=True)  # of finite numbers it is finite
    return _classes_apart(_times(2 * p, g / 2 - s * 2.0**39), shape, axis)


@_quiet
def log_softmax_vjp(log_p: ArrayLike, grad_output: ArrayLike, axis: Axis = -1) -> Array:
    """Derivative of log_softmax times a vector, from its result: g_j - exp(log p_j) times the sum of g.

    Parameters
    ----------
    log_p : array_like
        What `log_softmax` gave; taken as float64. Where it is -inf the result is 0.
    %(twin.grad_output)s
    axis : int, tuple of int or None, default: -1
        The class axis, or several; None is all of them.

    Returns
    -------
    %(twin.array_of_result)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.log_softmax_vjp([-0.6931471805599453, -0.6931471805599453], [1.0, 0.0])
    array([ 0.5, -0.5])
    """
    shape = np.shape(log_p)
    g = _classes_together(_like("grad_output", grad_output, shape), axis)
    log_p = _classes_together(_float64(log_p), axis)
    s = (g * 2.0**-40).sum(axis=-1, keepdims=True)
    result = np.where(log_p == -np.inf, 0 * s, (g / 2 - np.exp(log_p) * 2.0**39 * s) * 2)
    return _classes_apart(result, shape, axis)


@_quiet
def sigmoid_vjp(p: ArrayLike, grad_output: ArrayLike) -> Array:
    """Derivative of the logistic function times a gradient, from its result: p (1 - p) g.

    Parameters
    ----------
    p : array_like
        What `sigmoid` gave; taken as float64. Where it is 0 or 1, an infinite g does not count.
    %(twin.grad_output)s

    Returns
    -------
    %(twin.array_of_result)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.sigmoid_vjp([0.5, 1.0], [2.0, 2.0])
    array([0.5, 0. ])
    """
    p = _float64(p)
    return _times(p * (1 - p), _like("grad_output", grad_output, p.shape))


@_quiet
def entropy(p: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None) -> Array:
    """Shannon entropy of probabilities in nats: the sum of -p_j log p_j, where 0 log 0 = 0.

    Parameters
    ----------
    p : array_like
        Probabilities; taken as float64.
    axis : int, tuple of int or None, default: -1
        The class axis, or several; None is all of them.
    %(where_of_p)s

    Returns
    -------
    %(twin.reduced)s

    Examples
    --------
    >>> from fastloss import reference
    >>> float(reference.entropy([0.5, 0.5, 0.0]))
    0.6931471805599453
    """
    p = _classes_together(_where(where, p, 0.0), axis, 0.0)
    return np.asarray((-p * np.log(np.where(p == 0, 1.0, p))).sum(axis=-1))


@_quiet
def entropy_from_logits(x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None) -> Array:
    """Shannon entropy of softmax(x) in nats: the sum of p_j (L - d_j).

    Parameters
    ----------
    %(twin.x)s
    %(where)s

    Returns
    -------
    %(twin.reduced)s

    Examples
    --------
    >>> from fastloss import reference
    >>> float(reference.entropy_from_logits([0.0, 0.0]))
    0.6931471805599453
    """
    row = _shift(_classes_together(_where(where, x), axis))
    return np.asarray(_times(row.p, row.L - row.d).sum(axis=-1))


# ------------------------------------------------------------------------------ losses with classes


@_loss
def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int | Sequence[int] = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    axis: int | None = None,
    empty: str = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Cross-entropy of softmax(input) with class indices or class probabilities.

    A row's loss is the sum of c_j (L - d_j), its gradient c.sum() p_j - c_j. With smoothing eps
    and class weights w, c_j = w_j ((1 - eps) q_j + eps / C) for probabilities q, and
    c_j = (1 - eps) w_t [j = t] + eps w_j / C for the index t. The mean divides by the sum of w_t,
    or the number of rows for probabilities, both weighted by ``sample_weight``. ``z_loss`` adds
    z_loss logsumexp(x)**2 to a row; ``softcap`` puts softcap tanh(x / softcap) in the place of x.

    Parameters
    ----------
    %(CrossEntropyLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.cross_entropy([[0.0, 0.0]], [0])
    (0.6931471805599453, array([[-0.5,  0.5]]))
    """
    axis = _class_axis(input, axis)
    x = _classes_last("input", input, axis)
    w = _class_weight(weight, x.shape[-1])
    spread = label_smoothing * w / x.shape[-1] if label_smoothing else 0.0
    used = _mask(mask, x.shape[:-1])
    if np.shape(target) == np.shape(input):
        if np.asarray(target).dtype.kind in "biu":
            raise TypeError("target: wanted class indices, or probabilities in a floating dtype")
        c = (1 - label_smoothing) * _times(_classes_last("target", target, axis), w) + spread
        divisor = np.ones(x.shape[:-1])
        if not unchecked:
            q = _classes_last("target", target, axis)
            _check_probabilities(q, _tolerance(target, x.shape[-1]), used, sample_weight)
    else:
        hot, used = _one_hot(target, x.shape, ignore_index, used)
        c = np.where(hot, (1 - label_smoothing) * w, 0.0) + spread
        divisor = np.where(hot, w, 0.0).sum(axis=-1)
    x, c = np.where(used[..., None], x, 0.0), np.where(used[..., None], c, 0.0)
    terms = _softmax_loss(_read(x, softcap, scale, bias), c, axis, hessian, z_loss)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(terms, weights, divisor, axis=axis)


@_loss
def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    ignore_index: int | Sequence[int] = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    empty: str = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    unchecked: bool = False,
    chunk: int | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
) -> Result:
    """Cross-entropy of the logits x @ W.T + b, with the gradients by x, W and b.

    With G, the gradient of ``cross_entropy`` by the logits, they are G @ W, G.T @ x and the sum of G's rows.

    Parameters
    ----------
    %(LinearCrossEntropyLoss.parameters)s
    %(samples)s
    %(grad_output)s

    Returns
    -------
    value : float or ndarray
        The value, in nats: a float, or under "none" the float64 array of values.
    grad_input, grad_weight, grad_bias : ndarray
        Its derivatives, float64, times `grad_output`; under "none" those of the sum.

    Examples
    --------
    >>> from fastloss import reference
    >>> value, *grads = reference.linear_cross_entropy([[1.0]], [[0.0], [0.0]], [0])
    >>> grads[1]
    array([[-0.5],
           [ 0.5]])
    """
    x, w = _float64(input), _float64(linear_weight)
    logits = x @ w.T + (0.0 if linear_bias is None else _float64(linear_bias))
    value, g = cross_entropy(
        logits,
        target,
        weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        axis=-1,
        empty=empty,
        z_loss=z_loss,
        softcap=softcap,
        unchecked=unchecked,
        sample_weight=sample_weight,
        mask=mask,
        normalizer=normalizer,
        grad_output=grad_output,
    )
    counted = g.any(axis=-1)
    rows, used = g[counted], x[counted]  # an ignored one may hold NaN
    by_input = np.zeros_like(x)
    by_input[counted] = rows @ w
    return value, by_input, rows.T @ used, rows.sum(axis=0)


@_loss
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
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Focal loss of class indices: w_t (1 - p_t)**gamma l with l = -log p_t.

    The gradient is the derivative with respect to l, w_t (1 - p_t)**gamma (1 + gamma p_t l / (1 - p_t)),
    times p_j - [j = t].

    Parameters
    ----------
    %(FocalLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.focal_loss([[0.0, 0.0]], [0], gamma=1.0)
    (0.34657359027997264, array([[-0.4232868,  0.4232868]]))
    """

    def head(ce: Array, p: Array, not_p: Array) -> tuple[Array, Array, Array]:
        ratio = np.where(not_p == 0, 1.0, ce / not_p)  # its limit
        slope = not_p**gamma * (1 + gamma * np.where(np.isinf(ce), 0.0, p * ratio))
        p_ce = np.where(np.isinf(ce), 0.0, p * ce)
        bend = gamma * not_p**gamma * ((2 * p - p_ce) * not_p + (gamma - 1) * p_ce * p)
        return not_p**gamma * ce, slope, bend

    weights = reduction, empty, sample_weight, mask, normalizer, grad_output, hessian, floor
    read = softcap, scale, bias
    return _label_loss(head, input, target, weight, ignore_index, axis, z_loss, read, *weights)


@_loss
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
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Generalized cross-entropy of class indices: w_t (1 - p_t**q) / q.

    The gradient is the derivative with respect to l = -log p_t, w_t p_t**q, times p_j - [j = t].

    Parameters
    ----------
    %(GeneralizedCrossEntropyLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> value, grad = reference.generalized_cross_entropy([[0.0, 0.0]], [0], q=1.0)
    >>> print(f"{value:.4f}")
    0.5000
    """

    def head(ce: Array, p: Array, not_p: Array) -> tuple[Array, Array, Array]:
        power = np.exp(-q * ce)
        return -np.expm1(-q * ce) / q, power, -q * power * not_p**2

    weights = reduction, empty, sample_weight, mask, normalizer, grad_output, hessian, floor
    read = softcap, scale, bias
    return _label_loss(head, input, target, weight, ignore_index, axis, z_loss, read, *weights)


@_loss
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
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Poly-1 loss of class indices: w_t (l + epsilon (1 - p_t)) with l = -log p_t.

    The gradient is the derivative with respect to l, w_t (1 + epsilon p_t), times p_j - [j = t].

    Parameters
    ----------
    %(PolyLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.poly_loss([[0.0, 0.0]], [0])
    (1.1931471805599454, array([[-0.75,  0.75]]))
    """

    def head(ce: Array, p: Array, not_p: Array) -> tuple[Array, Array, Array]:
        return ce + epsilon * not_p, 1 + epsilon * p, -epsilon * p * not_p**2

    weights = reduction, empty, sample_weight, mask, normalizer, grad_output, hessian, floor
    read = softcap, scale, bias
    return _label_loss(head, input, target, weight, ignore_index, axis, z_loss, read, *weights)


@_loss
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
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Negative log likelihood of class indices under log-probabilities.

    A row's loss is -w_t x_t, its gradient -w_t at the target t and 0 elsewhere. The mean
    divides by the sum of w_t, weighted by ``sample_weight``.

    Parameters
    ----------
    %(NLLLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.nll_loss([[-0.5, -1.0]], [1])
    (1.0, array([[ 0., -1.]]))
    """
    axis = _class_axis(input, axis)
    x = _classes_last("input", input, axis)
    w = _class_weight(weight, x.shape[-1])
    hot, used = _one_hot(target, x.shape, ignore_index, _mask(mask, x.shape[:-1]))
    c = np.where(hot, w, 0.0)
    rows = -_times(c, np.where(hot, x, 0.0)).sum(axis=-1)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    value, grad, *hess = _reduce(
        _Terms(rows, -c, 0 * c, classes=x.shape[-1]), weights, c.sum(axis=-1), axis=axis
    )
    return value, np.where(np.moveaxis(hot, -1, axis), grad, 0.0), *hess


@_loss
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
    scale: ArrayLike = 1.0,
    bias: ArrayLike | None = None,
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Negative log likelihood of counts k under softmax(input).

    A row's loss is the sum of k_j (L - d_j), its gradient n p_j - k_j, n the sum of the counts.
    ``full=True`` adds the constant -log(n! / prod k_j!). ``z_loss`` and ``softcap`` are as in
    ``cross_entropy``.

    Parameters
    ----------
    %(MultinomialNLLLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.multinomial_nll_loss([[0.0, 0.0]], [[3, 1]])
    (2.772588722239781, array([[-1.,  1.]]))
    """
    axis = _class_axis(input, axis)
    x = _classes_last("input", input, axis)
    k = _classes_last("target", _like("target", target, np.shape(input)), axis)
    used = _mask(mask, x.shape[:-1])
    if not unchecked:
        weighted = _samples("sample_weight", sample_weight, x.shape[:-1])[..., None]
        _check("target", k, k < 0, "is negative, wanted counts", used[..., None], weighted)
    x, k = np.where(used[..., None], x, 0.0), np.where(used[..., None], k, 0.0)
    terms = _softmax_loss(_read(x, softcap, scale, bias), k, axis, hessian, z_loss)
    if full:
        constant = _lgamma(k + 1).sum(axis=-1) - _lgamma(k.sum(axis=-1) + 1)
        terms = terms._replace(values=terms.values + constant)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(terms, weights, axis=axis)


@_loss
def kl_div_with_logits(
    input: ArrayLike,
    teacher: ArrayLike,
    target: ArrayLike | None = None,
    *,
    temperature: float = 1.0,
    alpha: float = 0.0,
    ignore_index: int | Sequence[int] = -100,
    reduction: str = "mean",
    axis: int | None = None,
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Distillation: (1 - alpha) T**2 KL(p, q) of p = softmax(teacher / T) and q = softmax(input / T).

    With labels t, -alpha log softmax(input)_t more. The divergence is log1p(f) with f = sum p_j (exp(u_j) - 1
    - u_j), u = (input - teacher) / T less its mean under p, its gradient T (q_j - p_j).

    Parameters
    ----------
    %(KLDivWithLogitsLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> value, grad = reference.kl_div_with_logits([[1.0, 0.0]], [[0.0, 0.0]])
    >>> print(f"{value:.12f}")
    0.120114506958
    """
    axis = _class_axis(input, axis)
    x = _classes_last("input", input, axis)
    y = _classes_last("teacher", _like("teacher", teacher, np.shape(input)), axis)
    used, hot = _mask(mask, x.shape[:-1]), np.zeros(x.shape, np.bool_)
    if target is not None:
        hot, used = _one_hot(target, x.shape, ignore_index, used)
    elif alpha:
        raise ValueError("target: wanted class indices")
    x, y = np.where(used[..., None], x, 0.0), np.where(used[..., None], y, 0.0)
    share, labels = np.asarray((1 - alpha) * temperature**2), np.asarray(alpha)
    soft = _divergence(x, y, temperature, axis, hessian)
    hard = _softmax_loss((x, 1.0, 0.0), np.where(hot, 1.0, 0.0), axis, hessian)
    hess, upper = (
        None if a is None or b is None else _times(share, a) + _times(labels, b)
        for a, b in ((soft.hess, hard.hess), (soft.upper, hard.upper))
    )
    values = _times(share, soft.values) + _times(labels, hard.values)
    grad = _times(share, soft.grad) + _times(labels, hard.grad)
    terms = _Terms(values, grad, hess, upper, classes=x.shape[-1])
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(terms, weights, axis=axis)


def _divergence(x: Array, y: Array, temperature: float, axis: int, hessian: Rule) -> _Terms:
    """Each row's divergence of softmax(x / T) from softmax(y / T), and its derivatives by x."""
    p, q = _shift(y / temperature), _shift(x / temperature)
    d = _differences(x, y) / temperature
    u = d - (p.p * d).sum(-1, keepdims=True)
    small = u * u / 2 * (1 + u / 3 * (1 + u / 4 * (1 + u / 5 * (1 + u / 6 * (1 + u / 7 * (1 + u / 8))))))
    phi = np.where(np.abs(u) < 0.01, small, np.expm1(u) - u)
    f = (p.p * phi).sum(-1, keepdims=True)
    value, grad = np.log1p(f), p.p * (np.expm1(u) - f) / (1 + f)
    log_ratio = np.where(np.isneginf(p.d), 0.0, (p.d - p.L) - (q.d - q.L))  # p is 0, q may be as well
    plain = _times(p.p, log_ratio).sum(-1, keepdims=True)
    masked = np.isneginf(q.d) & ~np.isneginf(p.d)  # by the student alone, whatever p rounds to
    plain = np.where(masked.any(-1, keepdims=True), plain + math.inf, plain)
    far = ~np.isfinite(f) | (np.abs(u).max(-1, keepdims=True) > 20)  # where nothing cancels, and f may be inf
    value, grad = np.where(far, plain, value)[..., 0], np.where(far, q.p - p.p, grad) / temperature
    if hessian is None:
        return _Terms(value, grad, None)
    if np.ndim(hessian):
        v = _classes_last("vector", hessian, axis)
        one, none = np.ones_like(value)[..., None], np.zeros_like(q.p)
        product = _Curvature(q.p, q.not_p, one, 0.0, none, none > 0).times(v) / temperature**2
        return _Terms(value, grad, product, product)
    hess = q.p * q.not_p / temperature**2
    return _Terms(value, grad, hess, 2 * hess)


def _differences(x: Array, y: Array) -> Array:
    """X - y less the same of the maxima, rounded once: 0 where both are -inf, classes last."""

    def parts(a: Array, b: Array) -> tuple[Array, Array]:
        d = a - b
        z = d - a
        return d, (a - (d - z)) - (b + z)  # what rounding lost (Knuth)

    high, low = parts(x, y)
    most, least = parts(x.max(-1, keepdims=True), y.max(-1, keepdims=True))
    exact = (high - most) + np.where(np.isfinite(high), low - least, 0.0)
    return np.asarray(np.where((x == y) & np.isinf(x), 0.0, exact))


# --------------------------------------------------------------------------------- pointwise losses


@_loss
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
    empty: str = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Binary cross-entropy of sigmoid(x) with targets y, class 1 weighted by b = ``pos_weight``.

    weight * (b y softplus(-x) + (1 - y) softplus(x)), gradient
    weight * ((1 - y) sigmoid(x) - b y sigmoid(-x)).

    Parameters
    ----------
    %(BCEWithLogitsLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.binary_cross_entropy_with_logits([0.0], [1.0])
    (0.6931471805599453, array([-0.5]))
    """
    x = _float64(input)
    y = _like("target", target, x.shape)
    w = _broadcast("weight", weight, x.shape)
    b = _broadcast("pos_weight", pos_weight, x.shape)
    values = _times(w, _times(b * y, _softplus(-x)) + _times(1 - y, _softplus(x)))
    grad = _times(w, (1 - y) * sigmoid(x) - b * y * sigmoid(-x))
    both = 1.0 if pos_weight is None else b * y + (1 - y)
    hess = _times(w, both * sigmoid(x) * sigmoid(-x))
    used = _mask(mask, x.shape)
    if not unchecked:
        weighted = _samples("sample_weight", sample_weight, x.shape) * w
        _check("target", y, (y < 0) | (y > 1), "is outside [0, 1]", used, weighted)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(_Terms(values, grad, hess), weights)


@_loss
def binary_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Binary cross-entropy of probabilities p with targets y.

    -weight * (y log p + (1 - y) log(1 - p)), the logarithms clamped at -100 as in PyTorch; gradient
    weight * (p - y) / max(p (1 - p), 1e-12).

    Parameters
    ----------
    %(BCELoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.binary_cross_entropy([0.5], [1.0])
    (0.6931471805599453, array([-2.]))
    """
    p = _float64(input)
    y = _like("target", target, p.shape)
    w = _broadcast("weight", weight, p.shape)
    used = _mask(mask, p.shape)
    outside = used & ((p < 0) | (p > 1))
    if outside.any():
        where = tuple(np.argwhere(outside)[0])
        raise ValueError(f"input{_at(where)} = {p[where]} is outside [0, 1]")
    values = -_times(w, y * np.maximum(np.log(p), -100.0) + (1 - y) * np.maximum(np.log1p(-p), -100.0))
    clipped = p * (1 - p) < 1e-12
    grad = _times(w, (p - y) / np.where(clipped, 1e-12, p * (1 - p)))
    hess = _times(w, np.where(clipped, 1 / 1e-12, ((p - y) ** 2 + y * (1 - y)) / (p * (1 - p)) ** 2))
    if not unchecked:
        weighted = _samples("sample_weight", sample_weight, p.shape) * w
        _check("target", y, (y < 0) | (y > 1), "is outside [0, 1]", used, weighted)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(_Terms(values, grad, hess), weights)


@_loss
def kl_div(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    log_target: bool = False,
    empty: str = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Kullback-Leibler divergence of log-probabilities x from targets y: y (log y - x).

    The gradient is -y. With ``log_target`` the target is log y. ``"batchmean"`` divides the sum by
    ``input.shape[0]``.

    Parameters
    ----------
    %(KLDivLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.kl_div([-1.0], [1.0])
    (1.0, array([-1.]))
    """
    x = _float64(input)
    tolerance = _tolerance(target, np.size(target))
    target = _like("target", target, x.shape)
    y, log_y = target, np.log(target)
    if log_target:
        y, log_y = np.exp(target), target
    values = _times(y, np.where(y == 0, 0.0, log_y) - x)
    if log_target:  # no probability is 0 but that of -inf
        values = np.where(np.isinf(target - x) & (target > -np.inf), target - x, values)
    used = _mask(mask, x.shape)
    if not unchecked and x.size > 1:  # an element is no distribution
        weighted = _samples("sample_weight", sample_weight, x.shape)
        _check("input", x, x > 1e-3, "is above 0, wanted log-probabilities", used, weighted)
        if log_target:
            _check("target", target, target > 1e-3, "is above 0, wanted log-probabilities", used, weighted)
        else:
            _check("target", y, y < 0, "is negative, wanted probabilities", used, weighted)
        if not log_target and mask is sample_weight is None:
            _check_distributions(y, tolerance)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(_Terms(values, -y, np.zeros_like(x)), weights, batch=x.shape[0] if x.ndim else 1)


@_loss
def mse_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Squared error: (x - y)**2, gradient 2 (x - y).

    Parameters
    ----------
    %(MSELoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.mse_loss([1.0, 2.0], [0.0, 0.0])
    (2.5, array([1., 2.]))
    """
    x = _float64(input)
    d = x - _like("target", target, x.shape)
    used = _mask(mask, x.shape)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(_Terms(d * d, 2 * d, np.full(x.shape, 2.0)), weights)


@_loss
def sigmoid_focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    gamma: float = 2.0,
    alpha: float | None = None,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Focal loss of sigmoid(x) with targets y: a m**gamma l, l the binary cross-entropy.

    p = sigmoid(x), q = sigmoid(-x), m = y q + (1 - y) p, a = alpha y + (1 - alpha) (1 - y) or 1. The gradient
    is a m**gamma ((1 - y) p - y q + gamma l (1 - 2 y) p q / m), where p q / m is p for y = 1 and q for y = 0.

    Parameters
    ----------
    %(SigmoidFocalLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.sigmoid_focal_loss([0.0], [1.0], gamma=1.0)
    (0.34657359027997264, array([-0.4232868]))
    """
    x = _float64(input)
    y = _like("target", target, x.shape)
    p, q = sigmoid(x), sigmoid(-x)
    m = y * q + (1 - y) * p
    rest = np.where(y == 1, p, np.where(y == 0, q, p * q / m))
    a = 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    power = a * np.power(m, gamma)
    plain = _times(y, _softplus(-x)) + _times(1 - y, _softplus(x))
    slope = (1 - y) * p - y * q + _times(gamma * (1 - 2 * y) * rest, plain)
    ratio = (1 - 2 * y) * rest  # the derivative of log m; and its own derivative
    bend = np.where((y == 0) | (y == 1), -p * q, ratio * (y * q * q - (1 - y) * p * p) / m)
    parts = p * q, 2 * gamma * ((1 - y) * p - y * q) * ratio, _times(gamma * bend, plain)
    curve = parts[0] + parts[1] + _times((gamma * ratio) ** 2, plain) + parts[2]
    upper = curve - np.minimum(parts[1], 0.0) - np.minimum(parts[2], 0.0)
    used = _mask(mask, x.shape)
    if not unchecked:
        weighted = _samples("sample_weight", sample_weight, x.shape)
        _check("target", y, (y < 0) | (y > 1), "is outside [0, 1]", used, weighted)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(_Terms(_times(power, plain), power * slope, power * curve, power * upper), weights)


@_loss
def soft_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Logistic loss of targets y of 1 and -1: softplus(-y x), gradient -y sigmoid(-y x).

    Parameters
    ----------
    %(SoftMarginLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.soft_margin_loss([0.0], [-1])
    (0.6931471805599453, array([0.5]))
    """
    x = _float64(input)
    y = _like("target", target, x.shape)
    used = _mask(mask, x.shape)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    z = y * x
    return _reduce(_Terms(_softplus(-z), -y * sigmoid(-z), y * y * sigmoid(z) * sigmoid(-z)), weights)


@_loss
def multilabel_soft_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    empty: str = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Binary cross-entropy of sigmoid(x) with targets y, averaged over the last axis.

    Parameters
    ----------
    %(MultiLabelSoftMarginLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.multilabel_soft_margin_loss([[0.0, 0.0]], [[1, 0]])
    (0.6931471805599453, array([[-0.25,  0.25]]))
    """
    x = _float64(input)
    y = _like("target", target, x.shape)
    w = _broadcast("weight", weight, x.shape)
    values = _times(w, _times(y, _softplus(-x)) + _times(1 - y, _softplus(x)))
    used = _mask(mask, x.shape[:-1])
    values = np.where(used[..., None], values, 0.0).mean(axis=-1)
    grad = _times(w, (1 - y) * sigmoid(x) - y * sigmoid(-x)) / x.shape[-1]
    hess = _times(w, sigmoid(x) * sigmoid(-x)) / x.shape[-1]
    if not unchecked:
        weighted = _samples("sample_weight", sample_weight, x.shape[:-1])[..., None] * w
        _check("target", y, (y < 0) | (y > 1), "is outside [0, 1]", used[..., None], weighted)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(_Terms(values, grad, hess), weights)


@_loss
def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
    empty: str = "nan",
    unchecked: bool = False,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    grad_output: ArrayLike | None = None,
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Poisson likelihood of counts y: exp(x) - y x, gradient exp(x) - y.

    Without ``log_input`` x - y log(x + eps), gradient 1 - y / (x + eps). ``full=True`` adds
    y log y - y + log(2 pi y) / 2, Stirling's approximation of log y!, where y > 1.

    Parameters
    ----------
    %(PoissonNLLLoss.parameters)s
    %(samples)s
    %(grad_output)s
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.poisson_nll_loss([0.0], [3])
    (1.0, array([-2.]))
    """
    x = _float64(input)
    y = _like("target", target, x.shape)
    rate, log_rate = (np.exp(x), x) if log_input else (x, np.log(x + eps))
    values = rate - _times(y, log_rate)
    values = np.where(np.isposinf(x), x + 0 * y, values)
    grad = rate - y if log_input else 1 - np.where(y == 0, _times(y, rate), y / (x + eps))
    hess = rate if log_input else np.where(y == 0, _times(y, rate), y / (x + eps) ** 2)
    if full:
        stirling = (y + 0.5) * np.log(np.where(y > 1, y, 1.0)) - y + 0.5 * math.log(2 * math.pi)
        values = values + np.where(y > 1, stirling, 0.0)
    used = _mask(mask, x.shape)
    if not unchecked:
        weighted = _samples("sample_weight", sample_weight, x.shape)
        _check("target", y, y < 0, "is negative, wanted counts", used, weighted)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(_Terms(values, grad, hess), weights)


@_loss
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
    grad_output: ArrayLike | None = None,
    wrt: str = "input",
    hessian: Rule = None,
    floor: float = 0.0,
) -> Result:
    """Gaussian likelihood: (log v + d**2 / v) / 2 with d = x - y, v = max(var, eps); gradient d / v.

    ``full=True`` adds log(2 pi) / 2. ``wrt="var"`` takes the gradient by the variance of each element,
    (1 / v - d**2 / v**2) / 2.

    Parameters
    ----------
    %(GaussianNLLLoss.parameters)s
    %(samples)s
    %(grad_output)s
    wrt : {"input", "var"}, default: "input"
        What to differentiate by.
    %(twin.hessian)s

    %(twin)s

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.gaussian_nll_loss([2.0], [0.0], 1.0)
    (2.0, array([2.]))
    """
    x = _float64(input)
    d = x - _like("target", target, x.shape)
    var = np.where(_mask(mask, x.shape), _var("var", var, x.shape), 1.0)
    if (var < 0).any():
        where = tuple(np.argwhere(var < 0)[0])
        raise ValueError(f"var{_at(where)} = {var[where]} is negative")
    v = np.maximum(var, eps)
    values = 0.5 * (np.log(v) + np.where(d == 0, d, d / v * d)) + (
        0.5 * math.log(2 * math.pi) if full else 0.0
    )
    grad = d / v if wrt == "input" else 0.5 * (1 / v - (d / v) ** 2)
    used = _mask(mask, x.shape)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(_Terms(values, grad, 1 / v), weights)


# ----------------------------------------------------------------------------------- second order


def hessp(
    function: str, input: ArrayLike, target: ArrayLike, vector: ArrayLike, /, **arguments: Any
) -> Array:
    """Product of the Hessian of a loss, with respect to `input`, and a vector.

    Of a loss of softmax A p (v - p.v) + 2 z_loss p (p.v), with A = sum c + 2 z_loss s, and for a function phi
    of l = -log p_t w_t phi'' (p - e_t) ((p - e_t).v) more; of a loss without classes the diagonal times v.

    Parameters
    ----------
    function : str
        The name of a loss, such as "cross_entropy".
    input : array_like
        As of that loss.
    target : array_like
        As of that loss.
    vector : array_like of input's shape
        The vector.
    **arguments : dict
        The keywords of that loss, but for ``hessian`` and ``floor``.

    Returns
    -------
    ndarray
        Float64 array of input's shape, times `grad_output`.

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.hessp("cross_entropy", [[0.0, 0.0]], [0], [[1.0, -1.0]])
    array([[ 0.5, -0.5]])
    """
    loss: Callable[..., Result] = globals()[function]
    v = _like("vector", vector, np.shape(input))
    product: Array = loss(input, target, **arguments, hessian=v, floor=-math.inf)[2]
    return product


@_quiet
def scaling_grad(
    function: str, input: ArrayLike, target: ArrayLike, **arguments: Any
) -> tuple[float | Array, Array]:
    """Gradient of a loss of softmax, reduced, by its ``scale`` and ``bias``.

    With g the gradient by what logits are read as, scale x + bias, the sums of g_ij x_ij and g_ij over the
    samples i, the first over the classes j too if ``scale`` is a number. Where g is 0, x may be anything.

    Parameters
    ----------
    function : str
        The name of a loss, such as "cross_entropy".
    input : array_like
        As of that loss.
    target : array_like
        As of that loss.
    **arguments : dict
        The keywords of that loss, but for ``hessian`` and ``floor``.

    Returns
    -------
    by_scale : float or ndarray of shape (C,)
        Shaped as `scale`, times `grad_output`.
    by_bias : ndarray of shape (C,)
        Float64 array.

    Examples
    --------
    >>> from fastloss import reference
    >>> reference.scaling_grad("cross_entropy", [[1.0, -1.0]], [1], scale=0.0)
    (1.0, array([ 0.5, -0.5]))
    """
    axis = _class_axis(input, arguments.get("axis"))
    x = _classes_last("input", input, axis)
    scale, bias = arguments.pop("scale", 1.0), arguments.pop("bias", None)
    z = np.moveaxis(_scaled(x, scale, bias), -1, axis)
    g = _classes_last("gradient", globals()[function](z, target, **arguments)[1], axis)
    samples = tuple(range(x.ndim - 1))
    by_class = np.where(g == 0, 0.0, g * x).sum(samples)
    return by_class if np.ndim(scale) else float(by_class.sum()), g.sum(samples)


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


Head: TypeAlias = "Callable[[Array, Array, Array], tuple[Array, Array, Array]]"


class _Terms(NamedTuple):
    """Of each sample the value; of each element, classes last, its derivatives, all before weights."""

    values: Array
    grad: Array
    hess: Array | None  # the diagonal of the Hessian, or of a softmax its product with a vector
    upper: Array | None = None  # the diagonal without parts that may be negative, where there are some
    classes: int | None = None  # of a softmax


def _softmax_loss(
    read: tuple[Array, Array | float, Array | float],
    c: Array,
    axis: int,
    hessian: Rule,
    z_loss: float = 0.0,
    head: Head | None = None,
) -> _Terms:
    """Each row's sum of -c_j log p_j and its gradient, c.sum() p_j - c_j without cancellation.

    With a ``head``, c has one coefficient k a row, and the row is k times its function of -log p_t.
    """
    x, cap_slope, cap_bend = read
    row = _shift(x)
    terms, k, bend = row.L - row.d, c, np.zeros_like(c)
    if head is not None:
        terms, slope, bend = head(terms, row.p, row.not_p)
        c, bend = _times(k, slope), _times(k, bend)
    rows = _times(k, terms).sum(axis=-1)
    largest = np.arange(c.shape[-1]) == np.abs(c).argmax(axis=-1)[..., None]
    others = np.where(largest, np.where(largest, 0.0, c).sum(-1, keepdims=True), c.sum(-1, keepdims=True) - c)
    square: Any = 0.0
    if z_loss:
        s = row.m + row.L
        square = 2 * z_loss * s
        rows, others = rows + (z_loss * s * s)[..., 0], others + square
    grad = others * row.p - c * row.not_p
    if hessian is None:
        return _Terms(rows, cap_slope * grad, None)
    curvature = _Curvature(row.p, row.not_p, c.sum(-1, keepdims=True) + square, 2 * z_loss, bend, k != 0)
    if np.ndim(hessian):
        v = _classes_last("vector", hessian, axis)
        product = cap_slope * curvature.times(cap_slope * v) + cap_bend * grad * v
        return _Terms(rows, cap_slope * grad, product, classes=c.shape[-1])
    convex = curvature._replace(total=np.maximum(curvature.total, 0.0), bend=np.maximum(bend, 0.0))
    hess, upper = (cap_slope**2 * each.diagonal() for each in (curvature, convex))
    capped = cap_bend * grad
    upper = 2 * (upper + np.maximum(capped, 0.0))
    return _Terms(rows, cap_slope * grad, hess + capped, upper, classes=c.shape[-1])


class _Curvature(NamedTuple):
    """A row's Hessian, by its capped logits.

    total (diag(p) - p p') + square p p' + bend r r'. Of a function phi of l = -log p_t, the derivative phi''
    multiplies (p - e_t) (p - e_t)'; bend is phi'' (1 - p_t)**2 at t, and r, which is (p - e_t) / (1 - p_t),
    is -1 there and elsewhere the probability of a class among all but t. So all is finite at p_t = 1.
    """

    p: Array
    not_p: Array
    total: Array
    square: float
    bend: Array
    own: NDArray[np.bool_]  # where t is

    def ratio(self) -> Array:
        rest = np.where(self.own, self.not_p, 0.0).sum(-1, keepdims=True)
        return np.asarray(np.where(self.own, -1.0, np.where(rest == 0, 0.0, self.p / rest)))

    def diagonal(self) -> Array:
        curve = self.bend.sum(-1, keepdims=True) * self.ratio() ** 2
        return np.asarray(self.total * self.p * self.not_p + self.square * self.p**2 + curve)

    def times(self, v: Array) -> Array:
        """Where p_j is the largest, v_j - p.v is v_j (1 - p_j) without the others' p_k v_k."""
        top = np.arange(v.shape[-1]) == self.p.argmax(-1)[..., None]
        mean = (self.p * v).sum(-1, keepdims=True)
        rest = np.where(top, 0.0, self.p * v).sum(-1, keepdims=True)
        product = self.total * self.p * np.where(top, self.not_p * v - rest, v - mean)
        ratio = self.ratio()
        along = self.bend.sum(-1, keepdims=True) * (ratio * v).sum(-1, keepdims=True)
        return np.asarray(product + self.square * self.p * mean + ratio * along)


def _read(
    x: Array, softcap: float | None, scale: ArrayLike = 1.0, bias: ArrayLike | None = None
) -> tuple[Array, Array | float, Array | float]:
    """What logits, classes last, are read as, scale x + bias and then the cap, and its derivatives by x."""
    y, slope, bend = _capped(_scaled(x, scale, bias), softcap)
    factor = _float64(scale)
    return y, factor * slope, factor**2 * bend


def _scaled(x: Array, scale: ArrayLike, bias: ArrayLike | None) -> Array:
    """Scale x + bias, numbers or one for each class, classes last; -inf as it is."""
    classes = x.shape[-1:]
    factor = _float64(scale) if np.ndim(scale) == 0 else _like("scale", scale, classes)
    z = factor * x + (0.0 if bias is None else _like("bias", bias, classes))
    return np.where(x == -np.inf, x, z)


def _capped(x: Array, softcap: float | None) -> tuple[Array, Array | float, Array | float]:
    """softcap tanh(x / softcap), -inf and inf as they are, and its derivatives.

    The first is 1 / cosh(x / softcap)**2, the second that times -2 tanh(x / softcap) / softcap.
    """
    if softcap is None:
        return x, 1.0, 0.0
    e, tanh = np.exp(-2 * np.abs(x) / softcap), np.tanh(x / softcap)
    slope = 4 * e / (1 + e) ** 2
    return np.where(np.isinf(x), x, softcap * tanh), slope, -2 * tanh / softcap * slope


def _label_loss(
    head: Head,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    ignore_index: int | Sequence[int],
    axis: int | None,
    z_loss: float,
    read: tuple[float | None, ArrayLike, ArrayLike | None],
    reduction: str,
    empty: str,
    sample_weight: ArrayLike | None,
    mask: ArrayLike | None,
    normalizer: float | None,
    grad_output: ArrayLike | None,
    hessian: Rule,
    floor: float,
) -> Result:
    """w_t phi(l) for l = -log p_t; from l, p_t and 1 - p_t ``head`` gives phi, phi' and phi'' (1 - p_t)**2.

    The gradient is w_t phi'(l) (p_j - [j = t]). The mean divides by the sum of w_t, weighted by
    ``sample_weight``. ``z_loss`` and ``softcap`` are as in ``cross_entropy``.
    """
    axis = _class_axis(input, axis)
    x = _classes_last("input", input, axis)
    w = _class_weight(weight, x.shape[-1])
    hot, used = _one_hot(target, x.shape, ignore_index, _mask(mask, x.shape[:-1]))
    c = np.where(hot, w, 0.0)
    x = np.where(used[..., None], x, 0.0)
    terms = _softmax_loss(_read(x, *read), c, axis, hessian, z_loss, head)
    weights = _Weights(reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor)
    return _reduce(terms, weights, c.sum(axis=-1), axis=axis)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


@partial(np.vectorize, otypes=[np.float64])
def _lgamma(x: float) -> float:
    """The logarithm of the gamma function."""
    try:
        return math.lgamma(x)
    except OverflowError:
        return math.inf


def _times(c: Array, t: Array) -> Array:
    """C * t, where a coefficient of 0 makes 0 even of an infinite term."""
    return np.where((c == 0) & np.isinf(t), 0.0, c * t)


class _Weights(NamedTuple):
    """How samples are weighted and reduced, and what second derivatives are wanted."""

    reduction: str
    empty: str  # what a mean of nothing is
    sample_weight: ArrayLike | None
    used: NDArray[np.bool_]  # False for samples that do not count, whatever stands there
    normalizer: float | None  # what a mean is divided by in place of the weights in force
    grad_output: ArrayLike | None
    hessian: Rule
    floor: float


def _reduce(
    terms: _Terms,
    weights: _Weights,
    divisor: Array | None = None,
    batch: int | None = None,
    axis: int | None = None,
) -> Result:
    """Weight, reduce and scale: one value per sample, the derivatives with or without a class axis.

    ``divisor``: each sample's share of the mean's divisor before ``sample_weight``, by default 1.
    ``batch``: the divisor of "batchmean", for the loss that has it. ``axis``: where the classes go.
    """
    reduction, empty, sample_weight, used, normalizer, grad_output, hessian, floor = weights
    scale = np.where(used, _samples("sample_weight", sample_weight, terms.values.shape), 0.0)
    values = np.where(used, _times(scale, terms.values), 0.0)
    total = values.sum()
    value: Any
    if reduction == "none":
        value, n = values, 1.0
    elif reduction == "sum":
        value, n = total, 1.0
    elif reduction == "mean" or (reduction == "batchmean" and batch is not None):
        share = scale if divisor is None else divisor * scale
        n = normalizer or (np.where(used, share, 0.0).sum() if reduction == "mean" else float(batch or 0))
        value = total / n if n else 0.0 if empty == "zero" else math.nan
    else:
        more = "" if batch is None else "'batchmean', "
        known = f"'mean', {more}'sum' or 'none'"
        raise ValueError(f"reduction: got {reduction!r}, wanted {known}")
    upstream = _broadcast("grad_output", grad_output, values.shape)
    scale = _times(scale, upstream) / n if n else 0.0 * scale
    if terms.grad.ndim > scale.ndim:
        scale, used = scale[..., None], used[..., None]

    def scaled(part: Array) -> Array:
        return np.where(used, _times(scale, part), 0.0) if n else np.zeros_like(part)

    derivatives = [scaled(terms.grad)]
    if hessian is not None:
        if not np.ndim(hessian) and (upstream < 0).any():
            raise ValueError(
                f"grad_output: got {upstream.min()}, wanted at least 0 for the Hessian's diagonal"
            )
        residual = isinstance(hessian, str) and hessian == "residual"
        hess = np.abs(derivatives[0]) if residual else scaled(_by_rule(terms, hessian))
        derivatives.append(np.where(used, np.maximum(hess, floor), 0.0))
    return value, *(part if axis is None else np.moveaxis(part, -1, axis) for part in derivatives)


def _by_rule(terms: _Terms, hessian: str | float | Array) -> Array:
    """The Hessian's diagonal as the rule has it, or its product with a vector."""
    exact, upper, classes = terms.hess, terms.upper, terms.classes
    assert exact is not None
    if not isinstance(hessian, str):
        return exact if classes and np.ndim(hessian) else np.asarray(hessian * exact)
    times = 1.0 if not classes else classes / (classes - 1) if classes > 1 else 0.0
    known = {"exact": exact, "friedman": times * exact, "bound": exact if upper is None else upper}
    if hessian not in known:
        wanted = "'exact', 'bound', 'friedman', 'residual' or a positive number"
        raise ValueError(f"hessian: got {hessian!r}, wanted {wanted}")
    return known[hessian]


def _mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.broadcast_to(_one_for_each(np.asarray(True if mask is None else mask), shape), shape)


def _one_hot(
    target: ArrayLike, shape: tuple[int, ...], ignore_index: int | Sequence[int], used: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the target class is, shape (..., C), and which of the rows ``used`` are not ignored."""
    label = np.asarray(target)
    if label.shape != shape[:-1]:
        raise ValueError(f"target: got shape {label.shape}, wanted {shape[:-1]}")
    if label.dtype.kind == "f" or label.dtype.name == "bfloat16":
        whole = label.astype(np.int64)
        if (used & (whole != label)).any():
            where = tuple(np.argwhere(used & (whole != label))[0])
            raise ValueError(f"target{_at(where)} = {label[where]} is no class index: not a whole number")
        label = whole
    if label.dtype.kind not in "bui":
        raise TypeError(f"target: got dtype {label.dtype}, wanted class indices, integers or whole numbers")
    if label.dtype.kind == "b":
        label = label.astype(np.uint8)
    for ignored in ignore_index if np.iterable(ignore_index) else (ignore_index,):
        used = used & (label != ignored)
    wrong = used & ((label < 0) | (label >= shape[-1]))
    if wrong.any():
        where = tuple(np.argwhere(wrong)[0])
        raise IndexError(f"target{_at(where)} = {label[where]} is out of range for {shape[-1]} classes")
    return (label[..., None] == np.arange(shape[-1])) & used[..., None], used


def _class_axis(input: ArrayLike, axis: int | None) -> int:
    if axis is None:
        return 1 if np.ndim(input) > 1 else 0
    return axis


def _axes(ndim: int, axis: Axis) -> tuple[int, ...]:
    """The axes as numbers from 0, in order; 0 and -1 are of no dimensions too."""
    axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(sorted({i % ndim for i in axes})) if ndim else ()


def _classes_together(x: Array, axis: Axis, nothing: float = -math.inf) -> Array:
    """The classes of all these axes as one, last; of no classes one that is `nothing`."""
    axes = _axes(x.ndim, axis)
    x = np.moveaxis(x, axes, range(-len(axes), 0))
    shape = x.shape[: x.ndim - len(axes)]
    classes = math.prod(x.shape[len(shape) :])
    if classes == 0:
        return np.full((*shape, 1), nothing)
    return np.ascontiguousarray(x.reshape(*shape, classes))  # whose sums NumPy adds in pairs


def _classes_apart(result: Array, shape: tuple[int, ...], axis: Axis) -> Array:
    """What was computed of each class, where it was before `_classes_together`."""
    axes = _axes(len(shape), axis)
    if math.prod(shape) == 0:
        return np.empty(shape)
    result = result.reshape((*result.shape[:-1], *(shape[i] for i in axes)))
    return np.moveaxis(result, range(-len(axes), 0), axes)


def _reduced_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    axes = _axes(len(shape), axis)
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _classes_last(name: str, x: ArrayLike, axis: int) -> Array:
    x = np.ascontiguousarray(np.moveaxis(_float64(x), axis, -1))  # whose sums NumPy adds in pairs
    if x.shape[-1] == 0:
        raise ValueError(f"{name}: got no classes, axis {axis} has length 0")
    return x


def _class_weight(weight: ArrayLike | None, classes: int) -> Array:
    return np.ones(classes) if weight is None else _like("weight", weight, (classes,))


def _where(where: ArrayLike | None, x: ArrayLike, other: float = -math.inf) -> Array:
    return _float64(x) if where is None else np.where(where, _float64(x), other)


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


def _one_for_each(a: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """With fewer dimensions than the value and the lengths of its first ones: one for each sample."""
    if 0 < a.ndim < len(shape) and all(n in (1, m) for n, m in zip(a.shape, shape, strict=False)):
        return a.reshape(a.shape + (1,) * (len(shape) - a.ndim))
    return a


def _samples(name: str, a: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """Sample weights in the value's shape."""
    return _broadcast(name, _one_for_each(_float64(1.0 if a is None else a), shape), shape)


def _check(name: str, a: Array, wrong: NDArray[np.bool_], problem: str, used: Any, weighted: Any) -> None:
    """Raise the error about the first number that is wrong, where it counts and has a weight."""
    wrong = wrong & used & (weighted != 0)
    if wrong.any():
        where = tuple(np.argwhere(wrong)[0])
        raise ValueError(f"{name}{_at(where)} = {a[where]} {problem}")


def _tolerance(target: ArrayLike, classes: int) -> float:
    """What a sum of probabilities may be off 1: 1e-3, and what half precision rounds three times, or to 0."""
    dtype = np.asarray(target).dtype
    if dtype == np.float16:
        return 1e-3 + 3 * 2.0**-11 + classes * 2.98e-8
    return 1e-3 + 3 * 2.0**-9 if dtype.itemsize == 2 else 1e-3


def _check_probabilities(
    q: Array, tolerance: float, used: NDArray[np.bool_], sample_weight: ArrayLike | None
) -> None:
    """Raise the error about class probabilities, which are last, that are negative or do not add up to 1."""
    weighted = _samples("sample_weight", sample_weight, q.shape[:-1])
    _check(
        "target", q, q < 0, "is negative, wanted class probabilities", used[..., None], weighted[..., None]
    )
    total = q.sum(axis=-1)
    _check("the sum of target", total, np.abs(total - 1) > tolerance, "is not 1", used, weighted)


def _check_distributions(y: Array, tolerance: float) -> None:
    """Raise the error about probabilities that are no distributions over any axes; one may be the samples."""
    own = range(1, y.ndim)
    several = [over for n in range(1, len(own) + 1) for over in itertools.combinations(own, n)]
    sums = [y.sum(over) for over in [*several, tuple(range(y.ndim))]]
    if own and all(((np.abs(s - 1) > tolerance) & (s != 0)).any() for s in sums):
        raise ValueError(f"target: adds up to {y.sum()}, wanted distributions, which add up to 1")


def _var(name: str, var: ArrayLike, shape: tuple[int, ...]) -> Array:
    array = _float64(var)
    return _broadcast(
        name, array[..., None] if array.ndim > 0 and array.shape == shape[:-1] else array, shape
    )


def _float64(a: Any) -> Array:
    array = np.asarray(a)
    return array if array.dtype == np.longdouble else array.astype(np.float64)


def _at(where: tuple[int, ...]) -> str:
    return f"[{', '.join(str(i) for i in where)}]" if where else ""
