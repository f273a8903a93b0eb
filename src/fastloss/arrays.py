"""Array functions: log-sum-exp, softmax, sigmoid, their logarithms, and entropy.

They follow `scipy.special` (logsumexp, softmax, log_softmax, expit, log_expit, entr), in nats.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _checking, _kernels
from ._arguments import (
    Array,
    Axes,
    OneAxis,
    Output,
    as_array,
    class_axes,
    compute_dtype,
    element_axes,
    flag,
    mask_operand,
    memory_axes,
    moved,
    native,
    real_operand,
    stored_dtype,
    target_operand,
    with_class_axis,
)
from ._errors import shortening
from ._runtime import threads_for
from ._types import Axis

__all__ = [
    "entropy",
    "entropy_from_logits",
    "log_softmax",
    "log_softmax_vjp",
    "logsigmoid",
    "logsumexp",
    "sigmoid",
    "sigmoid_vjp",
    "softmax",
    "softmax_vjp",
]


@shortening
def _over_classes(
    op: str,
    x: Any,
    axis: Any,
    *,
    reduces: bool,
    keepdims: bool = False,
    out: Any = None,
    where: Any = None,
    name: str = "x",
    uncounted: float = -math.inf,
) -> Any:
    """One value for each sample (`reduces`), or for each entry; `uncounted` replaces what does not count."""
    if out is where is None and type(keepdims) is bool and not _checking.enabled():
        result = _kernels.module.plain_array_pass(_kernels.OPS[op], x, axis, keepdims, threads_for)
        if result is not None:
            return result
    array = as_array(x, name)
    dtype = compute_dtype(array, name)
    stored = stored_dtype(array, dtype)
    counted = None if where is None else _counted(where, array)
    axes = class_axes(array.shape, axis, name)
    shape = array.shape
    keepdims = flag(keepdims, "keepdims")
    kind = dtype if reduces else stored
    apart_from = [(name, array), ("where", counted)]
    memory: Axes = (), axes[0] if len(axes) == 1 else 0
    if len(axes) == 1 and counted is None:
        memory = memory_axes(array, axes[0], any_order=True)
    places = memory
    if reduces:
        shape = tuple(1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes)
        if not keepdims:
            places = tuple(a - (a > axes[0]) for a in memory[0] if a != axes[0]), 0
    output = Output(out, "out", shape, kind, apart_from=apart_from, axes=places)
    data = array if counted is None else _replaced(array, counted, stored, uncounted)
    if math.prod(array.shape[i] for i in axes) == 0:
        output.buffer.fill(_OF_NOTHING.get(op, 0.0))
    elif len(axes) == 1:
        _pass(op, data, memory, stored, output.buffer, reduces)
    else:
        one = OneAxis(data, axes)
        data = one.of(data)
        result = np.empty(
            data.shape[: one.place] + data.shape[one.place + 1 :] if reduces else data.shape, kind
        )
        _pass(op, data, ((), one.place), stored, result, reduces)
        np.copyto(output.buffer, one.back(result, shape, reduces))
    if counted is not None and not reduces:  # also where the row holds NaN
        nothing = output.buffer.dtype.type(0 if op == "softmax" else -math.inf)
        np.copyto(output.buffer, nothing, where=~counted)
    given = axes[0] if len(axes) == 1 else axes
    return _finish(op, output, (array, given), {"keepdims": keepdims} if keepdims else {}, counted)


# What is reduced of no classes: as the limit of classes that are masked, or left out of a sum.
_OF_NOTHING = {"logsumexp": -math.inf, "entropy_from_logits": math.nan}


def _pass(op: str, x: Array, axes: Axes, stored: np.dtype[Any], result: Array, reduces: bool) -> None:
    """Fill the result over one class axis, which is where `axes` say."""
    data, outer, classes, inner, step = with_class_axis(x, axes, stored)
    _kernels.module.class_pass(
        _kernels.OPS[op],
        data,
        outer,
        classes,
        inner,
        step,
        threads_for(x.size),
        **{"value" if reduces else "grad": result},
    )


@shortening
def _over_elements(op: str, x: Any, out: Any, where: Any) -> Any:
    array = as_array(x, "x")
    stored = stored_dtype(array, compute_dtype(array, "x"))
    counted = None if where is None else _counted(where, array)
    apart_from = [("x", array), ("where", counted)]
    axes = element_axes(array) if counted is None else ((), 0)
    output = Output(out, "out", array.shape, stored, apart_from=apart_from, axes=axes)
    data = array if counted is None else _replaced(array, counted, stored, -math.inf)
    data = native(moved(data, axes), stored)
    threads = threads_for(array.size)
    _kernels.module.point_pass(_kernels.POINT_OPS[op], data, None, threads, value=output.buffer)
    return _finish(op, output, (array,), {}, counted)


def _vjp(name: str, result: Any, grad_output: Any, along: tuple[Any, ...], out: Any) -> Any:
    """The derivative of `name` from its result, by what arrives; `along` is (axis,), or () of elements."""
    result_name = "log_p" if name.startswith("log") else "p"
    array, upstream = as_array(result, result_name), as_array(grad_output, "grad_output")
    dtype = compute_dtype(array, result_name)
    stored = stored_dtype(array, dtype)
    if upstream.shape != array.shape:
        raise ValueError(f"grad_output: got shape {upstream.shape}, wanted {array.shape} as {result_name}")
    classes = [class_axes(array.shape, axis, result_name) for axis in along]
    one = OneAxis(array, classes[0]) if classes and len(classes[0]) != 1 else None
    axes: Axes = ((), 0) if one else element_axes(array)
    if classes and not one:
        axes = memory_axes(array, classes[0][0], any_order=True)
    apart_from, either = [(result_name, array), ("grad_output", upstream)], (result_name, "grad_output")
    output = Output(out, "out", array.shape, stored, apart_from=apart_from, in_place=either, axes=axes)
    args: tuple[Any, ...] = ()
    if _checking.enabled():  # before one of them is overwritten
        args = array.copy(), real_operand(upstream.copy(), "grad_output", dtype), *classes
    data, buffer = array, output.buffer
    if one:
        data, upstream = one.of(array), one.of(upstream)
        axes, buffer = ((), one.place), np.empty(data.shape, stored)
    threads = threads_for(array.size)
    upstream = target_operand(upstream, dtype, axes, name="grad_output")
    if not classes:
        op = _kernels.POINT_OPS["sigmoid_backward"]
        _kernels.module.point_pass(op, native(moved(data, axes), stored), upstream, threads, value=buffer)
    elif array.size:
        op = _kernels.OPS[name.replace("vjp", "backward")]
        place = with_class_axis(data, axes, stored)
        _kernels.module.class_pass(op, *place, threads, coefficient=upstream, grad=buffer)
    if one:
        np.copyto(output.buffer, one.back(buffer, array.shape, False))
    return _finish(name, output, args, {}, None)


def _counted(where: Any, array: Array) -> Array | None:
    """`where` as bools of the array's shape."""
    return mask_operand(as_array(where, "where"), array.shape, "where", whole=False)


def _replaced(array: Array, counted: Array, dtype: np.dtype[Any], uncounted: float) -> Array:
    """The array with a number in place of what does not count."""
    with np.errstate(all="ignore"):
        return np.where(counted, array, dtype.type(uncounted)).astype(dtype, copy=False)


def _finish(
    op: str, output: Output, args: tuple[Any, ...], options: dict[str, Any], counted: Array | None
) -> Any:
    result = output.finish()
    if _checking.enabled():
        if counted is not None:
            options = {**options, "where": counted}
        _checking.check_array_function(op, args, options, result)
    return result if output.given or result.ndim else result[()]


def logsumexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    keepdims: bool = False,
    out: Array | None = None,
    where: ArrayLike | None = None,
) -> Any:
    """Logarithm of the sum of exponentials along an axis: log Σ_j exp(x_j).

    Computed as m + log1p(Σ exp(x_j - m) - 1) with m the maximum, so nothing overflows.

    Parameters
    ----------
    %(x)s
    %(keepdims)s
    %(result)s
    %(where)s

    Returns
    -------
    ndarray or scalar
        Array of x's shape without `axis`, in nats: float64, or float32 for float32 and half precision. A row
        of -inf gives -inf, and so do no classes; a row with +inf gives +inf.

    Raises
    ------
    %(raises_of_axis)s

    See Also
    --------
    log_softmax : What is left of each entry without it.

    References
    ----------
    Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J. Numer.
    Anal. 41 (2021); `scipy.special.logsumexp`.

    Examples
    --------
    >>> import fastloss
    >>> float(fastloss.logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    return _over_classes("logsumexp", x, axis, reduces=True, keepdims=keepdims, out=out, where=where)


def softmax(
    x: ArrayLike, axis: Axis = -1, *, out: Array | None = None, where: ArrayLike | None = None
) -> Array:
    """Softmax along an axis: exp(x_j) / Σ_k exp(x_k).

    Parameters
    ----------
    %(x)s
    %(result)s
    %(where_of_softmax)s

    Returns
    -------
    ndarray
        Array of x's shape: x's dtype, or float64 for integers. -inf gives 0. A row with NaN, with +inf, or of
        -inf only gives NaN in that row.

    Raises
    ------
    %(raises_of_axis)s

    See Also
    --------
    log_softmax : Its logarithm.
    cross_entropy : The loss from logits, which needs no softmax.

    References
    ----------
    `scipy.special.softmax`, `torch.nn.functional.softmax`.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.softmax([0.0, 0.0, -float("inf")])
    array([0.5, 0.5, 0. ])
    """
    result: Array = _over_classes("softmax", x, axis, reduces=False, out=out, where=where)
    return result


def log_softmax(
    x: ArrayLike, axis: Axis = -1, *, out: Array | None = None, where: ArrayLike | None = None
) -> Array:
    """Logarithm of softmax along an axis: x_j - log Σ_k exp(x_k), in nats.

    Parameters
    ----------
    %(x)s
    %(result)s
    %(where)s

    Returns
    -------
    ndarray
        Array of x's shape: x's dtype, or float64 for integers. A row with NaN, with +inf, or of -inf only
        gives NaN in that row.

    Raises
    ------
    %(raises_of_axis)s

    See Also
    --------
    softmax : The probabilities.
    cross_entropy : The loss from logits, which needs no log-probabilities.

    References
    ----------
    `scipy.special.log_softmax`, `torch.nn.functional.log_softmax`.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.log_softmax([0.0, -1000.0])
    array([    0., -1000.])
    """
    result: Array = _over_classes("log_softmax", x, axis, reduces=False, out=out, where=where)
    return result


def sigmoid(x: ArrayLike, *, out: Array | None = None, where: ArrayLike | None = None) -> Any:
    """Logistic function of each element: 1 / (1 + exp(-x)).

    Parameters
    ----------
    %(x_of_elements)s
    %(result)s
    %(where)s

    Returns
    -------
    ndarray or scalar
        Array of x's shape: x's dtype, or float64 for integers; within 2 ulp.

    Raises
    ------
    %(raises_of_elements)s

    See Also
    --------
    logsigmoid : Its logarithm.

    References
    ----------
    `scipy.special.expit`, `torch.sigmoid`.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.sigmoid([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])
    """
    return _over_elements("sigmoid", x, out, where)


def logsigmoid(x: ArrayLike, *, out: Array | None = None, where: ArrayLike | None = None) -> Any:
    """Logarithm of the logistic function of each element: min(x, 0) - log1p(exp(-|x|)), in nats.

    Parameters
    ----------
    %(x_of_elements)s
    %(result)s
    %(where)s

    Returns
    -------
    ndarray or scalar
        Array of x's shape: x's dtype, or float64 for integers; within 2 ulp.

    Raises
    ------
    %(raises_of_elements)s

    See Also
    --------
    sigmoid : The probability.

    References
    ----------
    `scipy.special.log_expit`, `torch.nn.functional.logsigmoid`.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.logsigmoid([-1000.0, 40.0])
    array([-1.00000000e+03, -4.24835426e-18])
    """
    return _over_elements("logsigmoid", x, out, where)


def softmax_vjp(p: ArrayLike, grad_output: ArrayLike, axis: Axis = -1, *, out: Array | None = None) -> Array:
    """Derivative of softmax from its result, times a gradient that arrives: p_j (g_j - Σ_k p_k g_k).

    The vector-Jacobian product of `softmax`, for losses that are functions of probabilities.

    Parameters
    ----------
    p : array_like
        What `softmax` gave: any shape; dtypes as for `softmax`.
    %(grad_output_of_result)s
    axis : int, tuple of int or None, default: -1
        The class axis, or several; None is all of them.
    %(out_of_vjp)s

    Returns
    -------
    ndarray
        The derivative by softmax's argument: p's shape and dtype, or float64 for integers. Where p is 0, it
        is 0, and an infinite g does not count. A row with NaN is NaN, and no other row.

    Raises
    ------
    %(raises_of_vjp)s

    See Also
    --------
    softmax : The function.
    log_softmax_vjp : The same of its logarithm.

    References
    ----------
    `torch.nn.functional.softmax`, whose backward pass it is; Griewank and Walther, "Evaluating derivatives"
    (2008), chapter 3.

    Examples
    --------
    >>> import fastloss
    >>> p = fastloss.softmax([0.0, 0.0])
    >>> fastloss.softmax_vjp(p, [1.0, 0.0])
    array([ 0.25, -0.25])
    """
    result: Array = _vjp("softmax_vjp", p, grad_output, (axis,), out)
    return result


def log_softmax_vjp(
    log_p: ArrayLike, grad_output: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Array:
    """Derivative of log_softmax from its result, times a gradient that arrives: g_j - p_j Σ_k g_k.

    The vector-Jacobian product of `log_softmax`, for losses that are functions of log-probabilities.

    Parameters
    ----------
    log_p : array_like
        What `log_softmax` gave: any shape; dtypes as for `log_softmax`.
    %(grad_output_of_result)s
    axis : int, tuple of int or None, default: -1
        The class axis, or several; None is all of them.
    %(out_of_vjp)s

    Returns
    -------
    ndarray
        The derivative by log_softmax's argument: the shape of `log_p` and its dtype, or float64 for integers.
        A class is masked where `log_p` is -inf, and its derivative is 0. NaN in g makes its row NaN, and no
        other row.

    Raises
    ------
    %(raises_of_vjp)s

    See Also
    --------
    log_softmax : The function.
    softmax_vjp : The same of the probabilities.

    References
    ----------
    `torch.nn.functional.log_softmax`, whose backward pass it is; Griewank and Walther, "Evaluating
    derivatives" (2008), chapter 3.

    Examples
    --------
    >>> import fastloss
    >>> log_p = fastloss.log_softmax([0.0, 0.0])
    >>> fastloss.log_softmax_vjp(log_p, [-1.0, 0.0]).round(6)                # of the cross-entropy of class 0
    array([-0.5,  0.5])
    """
    result: Array = _vjp("log_softmax_vjp", log_p, grad_output, (axis,), out)
    return result


def sigmoid_vjp(p: ArrayLike, grad_output: ArrayLike, *, out: Array | None = None) -> Any:
    """Derivative of sigmoid from its result, times a gradient that arrives: p (1 - p) g, of each element.

    The vector-Jacobian product of `sigmoid`, for losses that are functions of probabilities.

    Parameters
    ----------
    p : array_like
        What `sigmoid` gave, of any shape; dtypes as for `sigmoid`.
    %(grad_output_of_result)s
    %(out_of_vjp)s

    Returns
    -------
    ndarray or scalar
        The derivative by sigmoid's argument: p's shape and dtype, or float64 for integers. Where p is 0 or 1,
        it is 0, also for an infinite g.

    Raises
    ------
    %(raises_of_vjp)s

    See Also
    --------
    sigmoid : The function.

    References
    ----------
    `torch.sigmoid`, whose backward pass it is; Griewank and Walther, "Evaluating derivatives" (2008),
    chapter 3.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.sigmoid_vjp([0.5, 1.0], [2.0, 2.0])
    array([0.5, 0. ])
    """
    return _vjp("sigmoid_vjp", p, grad_output, (), out)


def entropy(p: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None) -> Any:
    """Shannon entropy of probabilities along an axis: -Σ_j p_j log p_j, in nats, with 0 log 0 = 0.

    Parameters
    ----------
    p : array_like
        Probabilities, array of any shape; dtypes as for `logsumexp`. They are not normalised, and need not
        sum to 1. A negative one gives NaN. No classes give 0.
    axis : int, tuple of int or None, default: -1
        The class axis, or several; None is all of them.
    %(where_of_p)s

    Returns
    -------
    ndarray or scalar
        Array of p's shape without `axis`: float64, or float32 for float32 and half precision.

    Raises
    ------
    %(raises_of_axis)s

    See Also
    --------
    entropy_from_logits : The same of softmax(x), without forming it.

    References
    ----------
    Shannon, "A mathematical theory of communication" (1948); `scipy.special.entr`.

    Examples
    --------
    >>> import fastloss
    >>> float(fastloss.entropy([0.5, 0.5, 0.0]))
    0.6931471805599453
    """
    return _over_classes("entropy", p, axis, reduces=True, where=where, name="p", uncounted=0.0)


def entropy_from_logits(x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None) -> Any:
    """Shannon entropy of softmax(x) along an axis, in nats, without forming the probabilities.

    H = L - Σ_j p_j d_j with d_j = x_j - max x, L = log Σ_j exp(d_j) and p = softmax(x): both terms are
    positive, so a confident row keeps its last digits.

    Parameters
    ----------
    %(x)s
    %(where)s

    Returns
    -------
    ndarray or scalar
        Array of x's shape without `axis`: float64, or float32 for float32 and half precision. A row with NaN,
        with +inf, or of -inf only gives NaN.

    Raises
    ------
    %(raises_of_axis)s

    See Also
    --------
    entropy : The same of probabilities.

    References
    ----------
    `torch.distributions.Categorical.entropy`.

    Examples
    --------
    >>> import fastloss
    >>> float(fastloss.entropy_from_logits([0.0, 0.0]))
    0.6931471805599453
    """
    return _over_classes("entropy_from_logits", x, axis, reduces=True, where=where)
