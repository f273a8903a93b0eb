"""Every call recomputed by its NumPy reference, on request.

The tolerance follows from rounding alone. With u half an ulp of 1 in the computing dtype, each logit's
distance d_j to its row's maximum is rounded once, which moves a log-sum-exp by at most u Σ p_k |d_k|; the
rest is a small number of roundings of terms that do not cancel. FACTOR leaves room for the reference's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from . import reference
from ._arguments import Array, real_operand, widened
from ._kernels import BFLOAT16

if TYPE_CHECKING:
    from .losses import _Call, _Loss

FACTOR = 64.0

_process = os.environ.get("FASTLOSS_CHECK", "") not in ("", "0")
_scope: ContextVar[bool] = ContextVar("fastloss_checking", default=_process)


class CheckError(AssertionError):
    """A result differs from its reference by more than rounding explains."""


enabled = _scope.get
"""Whether calls are being checked in this context."""


@contextmanager
def checking() -> Iterator[None]:
    """Recompute every call inside the `with` block by its NumPy reference.

    Raises:
        CheckError: a result disagrees; the message names the function, the worst position, both numbers
            and their distance in ulp.

    Example:
        >>> import fastloss
        >>> with fastloss.checking():
        ...     fastloss.cross_entropy([[0.0, 0.0]], [0])
        0.6931471805599453
    """
    token = _scope.set(True)
    try:
        yield
    finally:
        _scope.reset(token)


@np.errstate(all="ignore")
def _rounding(x: Array, axis: int, unit: float) -> tuple[Array, Array, Array]:
    """softmax p of a float64 array, |d| where p is not 0, and Σ p |d| along the axis.

    p is at least the number whose rounding is as large as what flushing it to zero costs.
    """
    p = reference.softmax(x, axis)
    d = np.where(p > 0, np.abs(x - x.max(axis, keepdims=True)), 0.0)
    p = np.maximum(p, _smallest(unit) / unit)
    return p, d, (p * d).sum(axis, keepdims=True)


def _compare(
    name: str, what: str, got: Any, want: Any, tolerance: Any, computed: np.dtype[Any] | None = None
) -> None:
    """Raise CheckError unless |got - want| <= tolerance everywhere; equal infinities and NaNs agree."""
    got_array = np.atleast_1d(np.asarray(got))
    dtype = got_array.dtype if got_array.dtype.kind == "f" else np.dtype(np.float32)
    bfloat16 = got_array.dtype == BFLOAT16 or got_array.dtype.name == "bfloat16"
    exact = widened(got_array).astype(np.float64)
    want_array = np.broadcast_to(np.asarray(want, np.float64), exact.shape)
    info = np.finfo(dtype)
    unit = 2.0**-8 if bfloat16 else float(info.eps) / 2
    tiny = float(info.tiny)
    with np.errstate(all="ignore"):
        limit = np.nan_to_num(np.broadcast_to(tolerance, exact.shape), nan=0.0)
        limit = limit + 2 * unit * np.abs(want_array) + tiny
        distance = np.abs(exact - want_array)
        same = (exact == want_array) | (np.isnan(exact) & np.isnan(want_array))
        largest = min(float(info.max), float(np.finfo(computed or dtype).max))
        overflow = np.isinf(exact) & (np.abs(want_array) >= largest * (1 - unit))
        wrong = ~(same | (distance <= limit) | overflow)
        if not wrong.any():
            return
        excess = np.where(wrong, np.nan_to_num(distance / limit, nan=np.inf, posinf=np.inf), -1)
        worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), excess.shape))
        ulp = distance[worst] / max(
            2 * unit * 2.0 ** np.floor(np.log2(abs(want_array[worst]))), tiny * 2 * unit
        )
    place = f"[{', '.join(map(str, worst))}]" if np.ndim(got) else ""
    raise CheckError(
        f"{name}: {what}{place} is {exact[worst]!r}, its reference {want_array[worst]!r}: {ulp:.3g} ulp apart"
        f" ({int(wrong.sum())} of {wrong.size} numbers disagree)"
    )


@np.errstate(all="ignore")
def check_array_function(name: str, args: tuple[Any, ...], options: dict[str, Any], got: Array) -> None:
    """Compare the result of an array function with its reference."""
    args = (widened(args[0]), *args[1:])
    want = getattr(reference, name)(*args, **options)
    x = np.asarray(args[0]).astype(np.float64)
    if "where" in options:
        x = np.where(options["where"], x, 0.0 if name == "entropy" else -np.inf)
    unit = FACTOR * _unit(args[0])
    if name in ("sigmoid", "logsigmoid"):
        tolerance = unit * np.abs(want)
    elif name == "entropy":
        tolerance = unit * np.abs(x * np.log(np.where(x > 0, x, 1.0))).sum(args[1])
    else:
        axis = args[1]
        p, d, spread = _rounding(x, axis, unit / FACTOR)
        if name == "softmax":
            tolerance = unit * p * (1 + d + spread)
        elif name == "log_softmax":
            tolerance = unit * (np.abs(want) + spread)
        else:
            top = (
                np.abs(x.max(axis, keepdims=True))
                if name == "logsumexp"
                else (p * d * d).sum(axis, keepdims=True)
            )
            tolerance = unit * (np.nan_to_num(top, posinf=0.0) + spread)
            tolerance = unit * np.abs(want) + tolerance.reshape(np.shape(want))
    _compare(name, "result", got, want, tolerance)


def _smallest(unit: float) -> float:
    """The smallest normal number of the dtype with this unit."""
    return float(np.finfo(np.float64 if unit == 2.0**-53 else np.float32).tiny)


def _unit(array: Any) -> float:
    """Half an ulp of 1 in the dtype that the array is computed in."""
    dtype = np.asarray(array).dtype
    return 2.0**-53 if dtype.kind in "biu" or dtype.itemsize == 8 else 2.0**-24


@np.errstate(all="ignore")
def expected_loss(loss: _Loss, call: _Call) -> tuple[Any, Array, Any, Any, np.dtype[Any]]:
    """(value, gradient, tolerance of each, dtype) by the reference, before a call may overwrite its input."""
    name = loss._function
    function = getattr(reference, name)
    options = loss.options()
    for option in ("weight", "pos_weight", "sample_weight"):
        value = call.sample_weight if option == "sample_weight" else options.get(option)
        if value is not None:
            options[option] = real_operand(value, option, call.dtype)
    target = call.y
    if name not in ("cross_entropy", "nll_loss") or target.shape == call.x.shape:
        target = real_operand(target, "target", call.dtype)
    upstream = None
    if call.grad_output is not None:
        upstream = real_operand(call.grad_output, "grad_output", call.dtype)
    x = widened(call.x).astype(np.float64)
    options["mask"], options["normalizer"] = call.mask, call.normalizer
    value, grad = function(x, target, **options, grad_output=upstream)
    unit = FACTOR * _unit(call.x)
    if name in ("cross_entropy", "multinomial_nll_loss"):
        value_bound, grad_bound = _class_bounds(function, x, target, options, unit / FACTOR)
    else:
        value_bound, grad_bound = _point_bounds(name, function, x, target, options)
    if call.mask is not None and value_bound.ndim:  # elsewhere may be NaN
        value_bound = np.where(np.broadcast_to(call.mask, value_bound.shape), value_bound, 0.0)
    if options["reduction"] != "none":
        value_bound = value_bound.sum()
    if upstream is not None:
        scale = np.abs(upstream.astype(np.float64))
        if scale.ndim and grad_bound.ndim > scale.ndim:
            scale = np.expand_dims(scale, reference._class_axis(x, options["axis"]))
        grad_bound = grad_bound * scale
    # What flushing one term below the smallest normal number to zero can cost.
    flushed = _smallest(unit / FACTOR)
    for option in ("weight", "pos_weight", "sample_weight"):
        if isinstance(options.get(option), np.ndarray):
            flushed *= max(1.0, float(np.nan_to_num(np.abs(options[option])).max(initial=0.0)))
    terms = x.size if options["reduction"] == "sum" else 1
    value_tolerance = unit * value_bound + flushed * terms
    if upstream is not None:
        flushed *= max(1.0, float(np.nan_to_num(np.abs(upstream)).max(initial=0.0)))
    return value, grad, value_tolerance, unit * grad_bound + flushed, call.dtype


def _class_bounds(
    function: Any, x: Array, target: Array, options: dict[str, Any], unit: float
) -> tuple[Array, Array]:
    """Size of the terms of each row's value Σ c_j (L - d_j) and gradient (a - c_j) p_j - c_j (1 - p_j)."""
    axis = reference._class_axis(x, options["axis"])
    # c_j is minus the gradient where another class has all the probability.
    first = np.arange(x.shape[axis]).reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]) == 0
    one = function(np.broadcast_to(np.where(first, 0.0, -np.inf), x.shape), target, **options)[1]
    other = function(np.broadcast_to(np.where(first, -np.inf, 0.0), x.shape), target, **options)[1]
    c = -np.where(first, other, one)
    a = np.abs(c.sum(axis, keepdims=True))
    row = reference._shift(np.moveaxis(x, axis, -1))
    log_sum, d, p, not_p = (np.moveaxis(part, -1, axis) for part in (row.L, row.d, row.p, row.not_p))
    far = np.where(c != 0, np.abs(d), 0.0)
    d = np.where(p > 0, np.abs(d), 0.0)
    p = np.maximum(p, _smallest(unit) / unit)
    spread = (p * d).sum(axis, keepdims=True)
    c = np.abs(c)
    value = (c * (log_sum + far)).sum(axis) + (a * spread).sum(axis)
    if options.get("full"):
        n = target.sum(axis, dtype=np.float64)
        value = value + n * np.log1p(n)
    value = np.where(a.squeeze(axis) == 0, 0.0, value)  # an ignored row, even if it holds NaN
    # The kernels know the sum of the other classes' c as a difference of float64 numbers.
    others = np.count_nonzero(c, axis, keepdims=True) > (c != 0)
    rest = np.abs(a - c) + np.where(others, a, 0.0) * 2.0**-53 / unit
    return value, rest * p * (1 + d + spread) + c * (not_p + spread)


def _point_bounds(
    name: str, function: Any, x: Array, target: Array, options: dict[str, Any]
) -> tuple[Array, Array]:
    """Size of the terms of each element's value and derivative."""
    size = {k: np.abs(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    grad = np.abs(function(x, target, **size)[1])
    if name == "kl_div":  # y log y and y x
        log_y = target if options["log_target"] else np.log(target)
        return grad * np.where(log_y > -np.inf, np.abs(log_y) + np.abs(x), 0.0), grad
    if name == "binary_cross_entropy_with_logits":  # the positive part and the negative part
        ones = np.ones_like(x)
        grad = np.abs(function(x, ones, **size)[1]) * np.abs(target)
        grad = grad + np.abs(function(x, 0 * ones, **size)[1]) * np.abs(1 - target)
    elif name == "nll_loss":  # log-probabilities are not positive; other input must not cancel here
        x = -np.abs(x)
    value = np.abs(np.asarray(function(x, target, **size)[0]))
    return value, grad


def compare_loss(
    name: str, expected: tuple[Any, Array, Any, Any, np.dtype[Any]], got: tuple[Any, Array | None]
) -> None:
    """Compare a loss's value, and its gradient where there is one, with what the reference expects."""
    value, grad, value_tolerance, grad_tolerance, dtype = expected
    _compare(name, "value", got[0], value, value_tolerance, dtype)
    if got[1] is not None:
        _compare(name, "gradient", got[1], grad, grad_tolerance, dtype)
