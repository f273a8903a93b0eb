"""Every call recomputed by its NumPy reference, on request, and compared within `bounds`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from . import bounds, reference
from ._arguments import Array, compute_dtype, real_operand, widened
from ._call import Call
from ._errors import place

SWITCH = {"": False, "0": False, "false": False, "no": False, "off": False}
SWITCH |= {"1": True, "true": True, "yes": True, "on": True}


def _switched_on(value: str) -> bool:
    """Whether FASTLOSS_CHECK says that every call is to be checked."""
    try:
        return SWITCH[value.strip().lower()]
    except KeyError:
        raise ValueError(
            f"FASTLOSS_CHECK: got {value!r}, wanted 1, true, yes, on, 0, false, no or off"
        ) from None


_process = _switched_on(os.environ.get("FASTLOSS_CHECK", ""))
_scope: ContextVar[bool] = ContextVar("fastloss_checking", default=_process)


class CheckError(AssertionError):
    """A result differs from its reference by more than rounding explains.

    See Also
    --------
    checking : What raises it.

    Examples
    --------
    >>> import fastloss
    >>> issubclass(fastloss.CheckError, AssertionError)
    True
    """


enabled = _scope.get
"""Whether calls are being checked in this context."""


@contextmanager
def checking() -> Iterator[None]:
    """Recompute every loss and array function that is called inside the `with` block by its NumPy reference.

    In this Python thread or task only; the environment variable FASTLOSS_CHECK=1 is for all. Parts of
    classes, metrics, calibration and the elementwise functions of `special` are not recomputed.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    CheckError
        A result disagrees; the message names the function, the worst position, both numbers and their
        distance in ulp.

    See Also
    --------
    reference : The functions that calls are compared with.

    Examples
    --------
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


def _compare(name: str, what: str, got: Any, want: Any, bound: Any, dtype: np.dtype[Any]) -> None:
    """Raise CheckError unless each |got - want| is within its bound; `dtype` is what was computed in."""
    stored = np.asarray(got).dtype
    result = np.atleast_1d(widened(np.asarray(got)).astype(np.float64))
    expected = np.broadcast_to(np.asarray(want, np.float64), result.shape)
    bound = np.broadcast_to(bound, result.shape)
    if stored.itemsize < dtype.itemsize:
        bound = bounds.rounded(bound, expected, stored)
    overflow = min(bounds.largest(stored), bounds.largest(dtype)) * (1 - bounds.unit(stored))
    share = bounds.shares(result, expected, bound, overflow)
    wrong = share > 1
    if not wrong.any():
        return
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(share)), share.shape))
    with np.errstate(all="ignore"):
        apart = abs(result[worst] - expected[worst]) / bounds.ulp(expected[worst], stored)
    what = place(what, worst if np.ndim(got) else ())
    raise CheckError(
        f"{name}: {what} is {result[worst]!r}, its reference {expected[worst]!r}: {apart:.3g} ulp"
        f" apart, {share[worst]:.3g} times the bound ({int(wrong.sum())} of {wrong.size} numbers disagree)"
    )


@np.errstate(all="ignore")
def check_array_function(name: str, args: tuple[Any, ...], options: dict[str, Any], got: Array) -> None:
    """Compare the result of an array function with its reference."""
    dtype = compute_dtype(args[0], "x")
    args = (widened(args[0]), *args[1:])
    want = getattr(reference, name)(*args, **options)
    of = bounds.vjp if name.endswith("_vjp") else bounds.array_function
    bound = bounds.against_reference(of, dtype, name, *args, **options)
    _compare(name, "result", got, want, bound, dtype)


class Expected(NamedTuple):
    """What a loss should be, and what it may be off."""

    value: Any
    grad: Array
    hess: Array | None
    bound: bounds.Bounds
    dtype: np.dtype[Any]


def as_computed(call: Call) -> tuple[Array, Array, dict[str, Any]]:
    """Input, target and options of the reference: numbers as the kernels read them."""
    options = {**call.options, "sample_weight": call.sample_weight, "grad_output": call.grad_output}
    for option in ("weight", "pos_weight", "sample_weight", "grad_output", "scale", "bias"):
        if options.get(option) is not None:
            options[option] = real_operand(options[option], option, call.dtype)
    target = call.y
    if "ignore_index" not in call.options or target.shape == call.x.shape:
        target = real_operand(target, "target", call.dtype)
    x = widened(call.x).astype(np.float64)
    options |= {option: real_operand(array, option, call.dtype) for option, array in call.more.items()}
    options["mask"], options["normalizer"] = call.mask, call.normalizer
    if "unchecked" in options:  # the call itself looks at targets, as they were given
        options["unchecked"] = True
    return x, target, options


@np.errstate(all="ignore")
def expected_loss(name: str, call: Call) -> Expected:
    """Value and derivatives by the reference, before a call may overwrite its input."""
    x, target, options = as_computed(call)
    if call.with_hess:
        options["hessian"], options["floor"] = call.hessian, call.floor
    value, grad, *hess = getattr(reference, name)(x, target, **options)
    bound = bounds.against_reference(bounds.loss, call.dtype, name, x, target, **options)
    return Expected(value, grad, hess[0] if hess else None, bound, call.dtype)


def compare_loss(name: str, expected: Expected, got: tuple[Any, ...]) -> None:
    """Compare value, gradient and Hessian's diagonal, as far as a call had them, with the reference's."""
    for what, result in zip(("value", "grad", "hess"), got, strict=False):
        if result is not None:
            want, bound = getattr(expected, what), getattr(expected.bound, what)
            _compare(name, _NAMES[what], result, want, bound, expected.dtype)


_NAMES = {"value": "value", "grad": "gradient", "hess": "Hessian's diagonal"}


@np.errstate(all="ignore")
def check_hessp(name: str, call: Call, vector: Array, got: Array) -> None:
    """Compare the product of a loss's Hessian and a vector with its reference."""
    x, target, options = as_computed(call)
    vector = real_operand(vector, "vector", call.dtype)
    want = reference.hessp(name, x, target, vector, **options)
    bound = bounds.against_reference(bounds.hessp, call.dtype, name, x, target, vector, **options)
    _compare(name, "Hessian times vector", got, want, bound, call.dtype)


@np.errstate(all="ignore")
def check_sums(name: str, call: Call, got: dict[str, Array]) -> None:
    """Compare derivatives by scale and bias with their reference."""
    x, target, options = as_computed(call)
    want = reference.scaling_grad(name, x, target, **options)
    bound = bounds.against_reference(bounds.scaling_grad, call.dtype, name, x, target, **options)
    for k, by in enumerate(("scale", "bias")):
        if by in got:
            _compare(name, f"derivative by {by}", got[by], want[k], bound[k], np.dtype(np.float64))


@np.errstate(all="ignore")
def expected_linear(call: Call, arrays: dict[str, Array | None], starts: dict[str, Array]) -> dict[str, Any]:
    """What linear cross-entropy and its gradients should be, with bounds, and the dtype of the logits.

    `call` is that of the logits; `starts` is what gradients are added to.
    """
    _, target, options = as_computed(call)
    for name in ("axis", "scale", "bias"):  # of the loss, not of the layer
        options.pop(name, None)
    wide = {name: widened(array).astype(np.float64) for name, array in arrays.items() if array is not None}
    options["linear_bias"] = wide.get("linear_bias")
    given = wide["input"], wide["linear_weight"], target
    wants = reference.linear_cross_entropy(*given, **options)
    off = bounds.against_reference(bounds.linear, call.dtype, *given, **options)
    found = dict(zip(("value", *arrays), zip(wants, off, strict=True), strict=True))
    for name, start in starts.items():
        want, bound = found[name]
        start = widened(start).astype(np.float64)
        chunks = call.x.size // call.x.shape[-1]  # at most
        bound = bound + chunks * bounds.unit(call.dtype) * np.abs(start)
        found[name] = want + start, bounds.rounded(bound, want + start, call.dtype)
    return {"dtype": call.dtype, **found}


def compare_linear(expected: dict[str, Any], value: Any, grads: dict[str, Array]) -> None:
    """Compare them with what a call gave."""
    for name, got in {"value": value, **grads}.items():
        want, bound = expected[name]
        what = name if name == "value" else f"gradient by {name}"
        _compare("linear_cross_entropy", what, got, want, bound, expected["dtype"])
