"""The functions of `scipy.special` that fastloss computes, with SciPy's signatures, defaults and edges.

    logsumexp, softmax, log_softmax                      functions, over all axes by default
    expit, log_expit, entr, rel_entr, kl_div, xlogy      elementwise functions of NumPy's kind, numpy.ufunc
    softplus                                             a function around one

What fastloss does not compute goes to SciPy, which is imported then: of the first three complex numbers, long
double, masked arrays, matrices, and arrays of other libraries; of softmax and log_softmax bools and integers
of less than 32 bits, too. `patched` puts
all of them in the place of SciPy's, for code that was not written for it.
"""

from __future__ import annotations

import importlib
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import ArrayLike

from . import _checking, _docs, _kernels, arrays
from ._arguments import FLOAT32, FLOAT64, Array, Shape, as_double, convert
from ._runtime import threads_for
from ._types import Axis

__all__ = [
    "entr",
    "expit",
    "kl_div",
    "log_expit",
    "log_softmax",
    "logsumexp",
    "patch",
    "patched",
    "rel_entr",
    "softmax",
    "softplus",
    "unpatch",
    "xlogy",
]

# ------------------------------------------------------------------------------- over classes


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    """Logarithm of the sum of exponentials: log Σ_j b_j exp(a_j), as `scipy.special.logsumexp`.

    Parameters
    ----------
    a : array_like
        Array of any shape.
    axis : int, tuple of int or None, default: None
        What is summed over; None is all.
    b : array_like, optional
        Factors of the exponentials, broadcastable with `a`, of either sign. Where one is 0 the entry of `a`
        counts for nothing, even if it is inf or NaN.
    keepdims : bool, default: False
        Keep the summed axes, with length 1.
    return_sign : bool, default: False
        Return the sum's sign besides, and the logarithm of its magnitude; otherwise a negative sum is NaN.

    Returns
    -------
    res : ndarray or scalar
        The logarithm, in nats, in the dtype of `a` and `b`, or float64 for integers; -inf of nothing.
    sgn : ndarray or scalar
        Only with ``return_sign``: 1, 0 or -1.

    Raises
    ------
    ValueError
        An axis out of range, or shapes that do not broadcast.

    See Also
    --------
    fastloss.logsumexp : The same of the last axis by default, with `out` and `where`.

    References
    ----------
    `scipy.special.logsumexp`.

    Examples
    --------
    >>> from fastloss import special
    >>> float(special.logsumexp([[1000.0, 1000.0]]))
    1000.6931471805599
    >>> value, sign = special.logsumexp([1.0, 2.0], b=[1.0, -1.0], return_sign=True)
    >>> f"{value:.6f} {sign}"
    '1.541325 -1.0'
    """
    if b is None and not return_sign and not _checking.enabled():
        plain = _kernels.module.plain_array_pass(_LOGSUMEXP, a, axis, keepdims, threads_for)
        if plain is not None:
            return plain
    operands = [a] if b is None else [a, b]
    given = [array for array in map(_real, operands) if array is not None]
    if len(given) < len(operands):
        return _theirs("logsumexp")(a, axis=axis, b=b, keepdims=keepdims, return_sign=return_sign)
    weak = [
        value if type(value) in (int, float) else array for value, array in zip(operands, given, strict=True)
    ]
    dtype = np.result_type(*weak)
    dtype = dtype.newbyteorder("=") if dtype.kind == "f" else FLOAT64
    computed = FLOAT32 if dtype.itemsize == 2 else dtype
    x, *weights = np.broadcast_arrays(*(convert(np.atleast_1d(array), computed) for array in given))
    axes = _axes(axis, x.ndim)
    if weights and x.size:
        result, sign = _weighted(x, weights[0], axes, return_sign)
    else:
        result = np.asarray(arrays.logsumexp(x, axes, keepdims=True))
        sign = np.where(np.isfinite(result), 1.0, np.sign(result))
        if x.size:
            sign[result == -np.inf] = 0
    if not keepdims:
        result, sign = result.squeeze(axes), sign.squeeze(axes)
    result, sign = result.astype(dtype, copy=False)[()], sign.astype(dtype, copy=False)[()]
    return (result, sign) if return_sign else result


@np.errstate(all="ignore")
def _weighted(a: Array, b: Array, axes: Shape, return_sign: bool) -> tuple[Array, Array]:
    """Logarithm of |Σ b exp a| as that of Σ exp a plus that of |Σ b softmax a|, and the sum's sign.

    Near 1 the latter is 1 + Σ (b - 1) softmax a, which keeps small terms. What is not finite is computed as
    it stands, as by SciPy.
    """
    x = np.where(b == 0, -np.inf, a)
    p = arrays.softmax(x, axes)
    total = (b * p).sum(axes, keepdims=True)
    rest = ((b - 1) * p).sum(axes, keepdims=True)
    near = (total > 0.5) & (total < 2)
    log = np.where(near, np.log1p(rest), np.log(np.abs(total)))
    result, sign = arrays.logsumexp(x, axes, keepdims=True) + log, np.sign(total)
    if not return_sign:
        result = np.where(sign < 0, np.nan, result)
    odd = ~np.isfinite(result)
    if odd.any():
        total = (b * np.exp(a)).sum(axes, keepdims=True)
        sign = np.where(odd, np.sign(total), sign)
        result = np.where(odd, np.log(np.abs(total) if return_sign else total), result)
    return result, sign


def softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """Softmax: exp(x_j) / Σ_k exp(x_k), as `scipy.special.softmax`.

    Parameters
    ----------
    x : array_like
        Array of any shape.
    axis : int, tuple of int or None, default: None
        What is summed over; None is all.

    Returns
    -------
    ndarray or scalar
        Array of x's shape and dtype, or float64 for integers of 32 bits or more.

    Raises
    ------
    ValueError
        An axis out of range, or no entries.

    See Also
    --------
    fastloss.softmax : The same of the last axis by default, with `out` and `where`.

    References
    ----------
    `scipy.special.softmax`.

    Examples
    --------
    >>> from fastloss import special
    >>> special.softmax([[0.0, 0.0], [0.0, 0.0]])
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    if not _checking.enabled():
        plain = _kernels.module.plain_array_pass(_SOFTMAX, x, axis, False, threads_for)
        if plain is not None:
            return plain
    return _of_each("softmax", x, axis)


def log_softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """Logarithm of softmax: x_j - log Σ_k exp(x_k), as `scipy.special.log_softmax`.

    Parameters
    ----------
    x : array_like
        Array of any shape.
    axis : int, tuple of int or None, default: None
        What is summed over; None is all.

    Returns
    -------
    ndarray or scalar
        Array of x's shape and dtype, or float64 for integers of 32 bits or more. Beside inf, which gives NaN,
        others give -inf.

    Raises
    ------
    ValueError
        An axis out of range, or no entries.

    See Also
    --------
    fastloss.log_softmax : The same of the last axis by default, with `out` and `where`.

    References
    ----------
    `scipy.special.log_softmax`.

    Examples
    --------
    >>> from fastloss import special
    >>> special.log_softmax([0.0, -1000.0])
    array([    0., -1000.])
    """
    if not _checking.enabled():
        plain = _kernels.module.plain_array_pass(_LOG_SOFTMAX, x, axis, False, threads_for)
        if plain is not None:
            return _beside_infinity(plain, x, axis)
    return _of_each("log_softmax", x, axis)


def _beside_infinity(result: Array, x: Any, axis: Any) -> Array:
    """The result; in a row with inf, where all are NaN, -inf beside it, as x - log inf is."""
    axes = _axes(axis, result.ndim)
    firsts = result[tuple(0 if i in axes else slice(None) for i in range(result.ndim))]
    if np.isnan(firsts).any():
        x = np.asarray(x)
        np.copyto(result, -np.inf, where=(x.max(axes, keepdims=True) == np.inf) & (x < np.inf))
    return result


def _of_each(name: str, x: Any, axis: Any) -> Any:
    array = _real(x)
    small = array is not None and array.dtype.kind in "biu" and array.dtype.itemsize < 4
    if array is None or small:  # of which SciPy makes half precision
        return _theirs(name)(x, axis=axis)
    axes = _axes(axis, array.ndim)
    if array.size == 0:
        array.max(axis=axes, keepdims=True)  # the error of NumPy, if there is nothing to take the maximum of
        return np.empty(array.shape, array.dtype.newbyteorder("=") if array.dtype.kind == "f" else FLOAT64)
    result = np.asarray(getattr(arrays, name)(array, axes))
    if name == "log_softmax":
        _beside_infinity(result, array, axes)
    return result[()]


def _real(value: Any) -> Array | None:
    """An array of real numbers that fastloss computes with, or None for all that SciPy takes otherwise."""
    known = list, tuple, int, float, np.generic
    if not isinstance(value, known) and type(value) not in (np.ndarray, np.memmap):
        theirs = "__array_namespace__", "__dlpack__", "__dask_graph__"
        foreign = isinstance(value, np.ndarray) or any(hasattr(value, name) for name in theirs)
        if foreign or not hasattr(value, "__array__"):
            return None
    array = as_double(np.asarray(value))
    return array if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8 else None


def _axes(axis: Any, ndim: int) -> Shape:
    """Axes from 0, with NumPy's errors; 0 and -1, by themselves, are of no dimensions too."""
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, bool):
        raise TypeError("axis: got bool, wanted an integer, a tuple of integers or None")
    if ndim == 0 and not isinstance(axis, tuple):
        normalize_axis_tuple(operator.index(axis), 1)
        return ()
    return normalize_axis_tuple(axis if isinstance(axis, tuple) else operator.index(axis), ndim)


_LOGSUMEXP, _SOFTMAX, _LOG_SOFTMAX = (_kernels.OPS[op] for op in ("logsumexp", "softmax", "log_softmax"))

# ------------------------------------------------------------------------------- of each element


def _ufunc(op: str, name: str, inputs: int, types: str, doc: str) -> np.ufunc:
    """An elementwise function of the kernels in use, with loops in the order of SciPy's."""
    made: np.ufunc = _kernels.module.ufunc(op, name, inputs, types, _docs.filled(doc), threads_for)
    return made


expit = _ufunc(
    "sigmoid",
    "expit",
    1,
    "dfg",
    """Logistic function of each element: 1 / (1 + exp(-x)), as `scipy.special.expit`; within 2 ulp.

    %(ufunc.logits)s
    %(ufunc.out)s

    References
    ----------
    `scipy.special.expit`.

    Examples
    --------
    >>> from fastloss import special
    >>> special.expit([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])
    """,
)

log_expit = _ufunc(
    "logsigmoid",
    "log_expit",
    1,
    "dfg",
    """Logarithm of the logistic function of each element, as `scipy.special.log_expit`; within 2 ulp.

    %(ufunc.logits)s
    %(ufunc.out)s

    References
    ----------
    `scipy.special.log_expit`.

    Examples
    --------
    >>> from fastloss import special
    >>> special.log_expit([-1000.0, 40.0])
    array([-1.00000000e+03, -4.24835426e-18])
    """,
)

entr = _ufunc(
    "entr",
    "entr",
    1,
    "fd",
    """-x log(x) in nats, 0 at 0 and -inf below, as `scipy.special.entr`; within 4 ulp.

    Parameters
    ----------
    x : array_like
        Of any shape: numbers of at least 0.
    %(ufunc.out)s

    References
    ----------
    `scipy.special.entr`.

    Examples
    --------
    >>> from fastloss import special
    >>> special.entr([-1.0, 0.0, 1.0])
    array([-inf,   0.,   0.])
    """,
)

rel_entr = _ufunc(
    "rel_entr",
    "rel_entr",
    2,
    "fd",
    """x log(x / y); 0 where x is 0 and y at least that, and inf elsewhere, as `scipy.special.rel_entr`.

    %(ufunc.masses)s
    %(ufunc.out)s

    References
    ----------
    `scipy.special.rel_entr`.

    Examples
    --------
    >>> from fastloss import special
    >>> special.rel_entr([0.0, 1.0, 1.0], [0.0, 1.0, 0.0])
    array([ 0.,  0., inf])
    """,
)

kl_div = _ufunc(
    "kl_div_of_masses",
    "kl_div",
    2,
    "fd",
    """x log(x / y) - x + y; y where x is 0 and y at least that, and inf elsewhere, as `scipy.special.kl_div`.

    Where x and y nearly agree it has its digits, other than that difference written out. `fastloss.kl_div` is
    another function, PyTorch's: the loss of log-probabilities.

    %(ufunc.masses)s
    %(ufunc.out)s

    References
    ----------
    `scipy.special.kl_div`.

    Examples
    --------
    >>> from fastloss import special
    >>> special.kl_div([0.0, 1.0, 1.0], [0.5, 1.0, 0.0])
    array([0.5, 0. , inf])
    """,
)

xlogy = _ufunc(
    "xlogy",
    "xlogy",
    2,
    "dfDF",
    """x log(y), 0 where x is 0 and y not NaN, as `scipy.special.xlogy`.

    Parameters
    ----------
    x, y : array_like
        Of shapes that broadcast; real or complex.
    %(ufunc.out)s

    References
    ----------
    `scipy.special.xlogy`.

    Examples
    --------
    >>> from fastloss import special
    >>> special.xlogy([0.0, 1.0], [0.0, 1.0])
    array([0., 0.])
    """,
)

_softplus = _ufunc("softplus", "softplus", 1, "efdg", "log(1 + exp(x)).")


def softplus(x: ArrayLike, **kwargs: Any) -> Any:
    """Logarithm of 1 + exp(x), the softplus of each element, as `scipy.special.softplus`.

    Parameters
    ----------
    x : array_like
        Array of any shape.
    **kwargs
        Keywords of a ufunc: `out`, `where`, `dtype`, ...

    Returns
    -------
    ndarray or scalar
        Array of x's shape and dtype, or float64 for integers of 32 bits or more; within 2 ulp.

    Raises
    ------
    TypeError
        Complex numbers, or a keyword that a ufunc does not have.

    See Also
    --------
    log_expit : The negative of it at -x.

    References
    ----------
    `scipy.special.softplus`.

    Examples
    --------
    >>> from fastloss import special
    >>> special.softplus([-1000.0, 0.0, 1000.0])
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    if isinstance(x, list | tuple | bool):
        x = np.asarray(x)
    elif type(x) is int:
        x = float(x)  # of any size
    added = getattr(getattr(x, "dtype", None), "kind", "") == "V"  # a dtype such as bfloat16
    table = not isinstance(x, np.ndarray | np.generic)  # whose bools our loops take as half precision
    bools = table and "bool" in str(getattr(x, "dtypes", getattr(x, "dtype", "")))
    if added or bools or {"sig", "signature"} & kwargs.keys():
        return np.logaddexp(0, x, **kwargs)  # which SciPy's is, and whose signatures are of two arguments
    if getattr(x, "dtype", None) == np.bool_:
        x = np.asarray(x, np.int64)  # beside the integer 0
    return _softplus(x, **kwargs)


# ------------------------------------------------------------------------------- the switch

_lock = Lock()
_uses = 0
_replaced: dict[str, tuple[Any, Any]] = {}  # of each function theirs and ours, from the first `patch` on
_own: set[tuple[int, str]] = set()  # where ours stood before: module and name


def _theirs(name: str) -> Callable[..., Any]:
    """SciPy's own function, also where ours is in its place."""
    if found := _replaced.get(f"scipy.special.{name}"):
        return found[0]  # type: ignore[no-any-return]
    return getattr(importlib.import_module("scipy.special"), name)  # type: ignore[no-any-return]


def _sklearns_softmax(X: Any, copy: bool = True) -> Any:
    if type(X) is np.ndarray and X.ndim == 2 and X.size and X.dtype in (FLOAT32, FLOAT64):
        result = arrays.softmax(X, 1)
        if copy:
            return result
        X[...] = result
        return X
    return _replaced["sklearn.utils.extmath.softmax"][0](X, copy=copy)


def _sklearns_logsumexp(array: Any, axis: Any = None, xp: Any = None) -> Any:
    if type(array) is np.ndarray and array.size and array.dtype in (FLOAT32, FLOAT64):
        return arrays.logsumexp(array, axis)
    return _replaced["sklearn.utils._array_api._logsumexp"][0](array, axis=axis, xp=xp)


_OF_SCIPY = (
    *("entr", "expit", "kl_div", "log_expit", "log_softmax", "logsumexp", "rel_entr", "softmax", "softplus"),
    "xlogy",
)
_OF_SKLEARN = {
    "sklearn.utils.extmath.softmax": _sklearns_softmax,
    "sklearn.utils._array_api._logsumexp": _sklearns_logsumexp,
}


def _names_of(functions: dict[int, Any]) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Names in loaded modules whose value is one of these, by id; not where SciPy defines its own."""
    for module_name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or module_name.startswith(("scipy.special._", "fastloss.")):
            continue
        names = object.__getattribute__(module, "__dict__")  # without loading what is lazy
        for name, value in list(names.items()):
            other = functions.get(id(value))
            if other is not None:
                yield names, name, other


def patch() -> None:
    """Put these functions into `scipy.special`, and wherever SciPy's are known by name.

    Each `patch` looks through the names of all loaded modules, as there are from ``from scipy.special import
    logsumexp``; where scikit-learn is loaded, its own softmax and logsumexp are replaced too. It holds for
    the process, for all threads, until as many `unpatch` have been called. What it cannot reach is compiled
    code, and a function that an object keeps. With SCIPY_ARRAY_API=1 SciPy's elementwise functions stay, but
    for those that are ufuncs even so: they take arrays of other libraries, which a ufunc does not.

    Raises
    ------
    ModuleNotFoundError
        There is no SciPy.

    See Also
    --------
    patched : The same for a block.

    Examples
    --------
    >>> import scipy.special
    >>> from fastloss import special
    >>> special.patch()
    >>> scipy.special.softmax is special.softmax
    True
    >>> special.unpatch()
    >>> scipy.special.softmax is special.softmax
    False
    """
    global _uses
    places = [(f"scipy.special.{name}", globals()[name]) for name in _OF_SCIPY]
    importlib.import_module("scipy.special")
    with _lock:
        if _uses == 0:
            mine = {id(ours): ours for _, ours in places}
            _own.update((id(names), name) for names, name, _ in _names_of(mine))
        _uses += 1
        for place, ours in (*places, *_OF_SKLEARN.items()):
            module_name, _, name = place.rpartition(".")
            module = sys.modules.get(module_name)
            found = getattr(module, name, None)
            bare = isinstance(ours, np.ufunc) and not isinstance(found, np.ufunc)
            if found is not None and found is not ours and not bare:
                _replaced[place] = found, ours
        for names, name, ours in _names_of({id(theirs): ours for theirs, ours in _replaced.values()}):
            names[name] = ours


def unpatch() -> None:
    """Undo one `patch`; the last one puts back what the first one found. Without one it does nothing.

    Modules that were loaded in between have SciPy's functions then, too: also where they took them from
    `fastloss.special` by name, for that cannot be told.

    See Also
    --------
    patch : What it undoes.

    Examples
    --------
    >>> import scipy.special
    >>> from fastloss import special
    >>> special.patch()
    >>> special.unpatch()
    >>> scipy.special.softmax is special.softmax
    False
    """
    global _uses
    with _lock:
        _uses = max(0, _uses - 1)
        if _uses == 0:
            for names, name, theirs in _names_of({id(ours): theirs for theirs, ours in _replaced.values()}):
                if (id(names), name) not in _own:
                    names[name] = theirs
            _own.clear()


@contextmanager
def patched() -> Iterator[None]:
    """Put these functions in the place of SciPy's, as `patch` does, inside the `with` block.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    ModuleNotFoundError
        There is no SciPy.

    See Also
    --------
    patch : The same for the process.

    Examples
    --------
    >>> import scipy.special
    >>> from fastloss import special
    >>> with special.patched():
    ...     value = scipy.special.logsumexp([0.0, 0.0])
    >>> f"{value:.6f}"
    '0.693147'
    """
    patch()
    try:
        yield
    finally:
        unpatch()
