"""fastloss.special beside scipy.special: signatures, edges, dtypes, accuracy, and the switch."""

import contextlib
import doctest
import inspect
import itertools
import pickle
import re
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

import fastloss
from fastloss import _kernels, bounds, special
from fastloss._runtime import threads_for
from tests.support.oracle import assert_within
from tests.support.process import answers

scipy_special = pytest.importorskip("scipy.special", reason="needs scipy")
inf, nan = np.inf, np.nan

ONE, TWO = ("expit", "log_expit", "entr"), ("rel_entr", "kl_div", "xlogy")
OVER_CLASSES = ("logsumexp", "softmax", "log_softmax")


def theirs(name, *args, **keywords):
    with np.errstate(all="ignore"):
        return getattr(scipy_special, name)(*args, **keywords)


def same_kind(a, b):
    assert type(a) is type(b)
    assert a.dtype == b.dtype
    assert a.shape == b.shape


def outcome(function, *args, **keywords):
    """What a call returns, or the kind of error that it raises."""
    with np.errstate(all="ignore"):
        try:
            return function(*args, **keywords)
        except Exception as error:
            return type(error)


def close(a, b, ulps=8):
    """Equal within some units of the larger of 1 and the numbers, which SciPy itself rounds at."""
    a, b = np.asarray(a), np.asarray(b)
    scale = np.where(np.isfinite(b), np.maximum(np.abs(b), 1), 1)
    np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=ulps * np.finfo(b.dtype).eps)


# ------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize("name", [*OVER_CLASSES, "softplus"])
def test_signature(name):
    ours, other = (inspect.signature(getattr(module, name)) for module in (special, scipy_special))
    assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default) for p in other.parameters.values()
    ]


#: From SciPy 1.18 on expit and some others give float32 of what is smaller.
FLOAT32_FIRST = scipy_special.expit.types[0] == "f->f"


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_ufunc(name):
    ours, other = getattr(special, name), getattr(scipy_special, name)
    assert isinstance(ours, np.ufunc)
    assert (ours.__name__, ours.nin, ours.nout) == (name, other.nin, 1)
    assert sorted(ours.types) == sorted(other.types)
    assert ours.types == other.types or FLOAT32_FIRST
    assert "Examples" in ours.__doc__
    assert pickle.loads(pickle.dumps(ours)) is ours


# ------------------------------------------------------------------------------- over classes

SHAPES = [(), (1,), (7,), (3, 4), (2, 3, 4), (0,), (0, 3), (3, 0), (2, 0, 3)]
AXES = [None, 0, 1, -1, (0,), (0, 1), (1, 0), (0, -1), (), 5, (0, 0), (0, 7), 1.0, "0", [0], np.intp(0)]


@pytest.mark.parametrize("dtype", ["?", "b", "B", "h", "i", "q", "e", "f", "d", "g", "F", "D", ">f4", ">f8"])
@pytest.mark.parametrize("name", OVER_CLASSES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_shapes_axes_and_dtypes(name, dtype, rng):
    for shape, axis in itertools.product(SHAPES, AXES):
        x = np.asarray(3 * rng.standard_normal(shape)).astype(dtype)
        if x.size == 0 and repr(axis) in (
            "[0]",
            "()",
        ):  # SciPy's takes the one, and of the other makes all lengths 1
            continue
        for keepdims in ({}, {"keepdims": True}) if name == "logsumexp" else ({},):
            ours = outcome(getattr(special, name), x, axis=axis, **keepdims)
            other = outcome(getattr(scipy_special, name), x, axis=axis, **keepdims)
            if isinstance(other, type):
                if x.size:  # of nothing SciPy's logsumexp has errors that it does not mean
                    assert isinstance(ours, type), (shape, axis)
                    assert issubclass(ours, other) or issubclass(other, ours), (shape, axis)
                continue
            same_kind(ours, other)
            if x.size:
                close(ours, other, 16)
            else:
                np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("name", OVER_CLASSES)
def test_layouts(name, rng):
    x = rng.standard_normal((4, 5, 6))
    views = [
        x,
        x.T,
        x[::-1, ::2],
        x[:, :, 1],
        np.asfortranarray(x),
        x.transpose(1, 0, 2),
        x[1:2],
        np.moveaxis(x, 1, 2),
    ]
    views += [
        np.broadcast_to(x[:1], (3, 5, 6)),
        x.tolist(),
        np.tile(x, (40, 10, 1)).T,
        np.tile(x, (40, 10, 1))[:, ::2],
    ]
    for view in views:
        for axis in (None, 0, -1, (0, 1), (0, np.ndim(view) - 1)):
            ours = getattr(special, name)(view, axis)
            same_kind(ours, theirs(name, view, axis))
            close(ours, theirs(name, view, axis), 32)


@pytest.mark.parametrize("name", OVER_CLASSES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinite_and_missing(name):
    for row in itertools.product([1.0, -3.0, inf, -inf, nan], repeat=3):
        for x in (np.array(row), np.array([row, [0.0, 1, 2]]), np.array(row, "f"), np.array([row], "e")):
            ours = getattr(special, name)(x, axis=-1)
            close(ours, theirs(name, x, axis=-1))
    big = np.zeros((3, 40_000))
    big[1, 7] = inf
    np.testing.assert_array_equal(
        np.isnan(special.log_softmax(big, 1)), np.isnan(theirs("log_softmax", big, 1))
    )
    np.testing.assert_array_equal(special.log_softmax(big, 1)[1], theirs("log_softmax", big, 1)[1])


@pytest.mark.parametrize("name", OVER_CLASSES)
def test_what_is_not_ours_goes_to_scipy(name, monkeypatch):
    asked = []
    monkeypatch.setattr(special, "_theirs", lambda name: asked.append(name) or getattr(scipy_special, name))
    for x in (np.ones(3, "D"), np.ones(3, "g"), np.ma.array([1.0, 2]), [1j]):
        same_kind(getattr(special, name)(x), theirs(name, x))
    assert asked == [name] * 4
    for x in (np.ones(3), [1, 2], 1.0, np.float32(2), range(3), np.ones((3, 2), "f").T):
        if not isinstance(x, range):
            same_kind(getattr(special, name)(x), theirs(name, x))
    assert asked == [name] * 4


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("dtype", ["d", "f"])
def test_weights(dtype, sign, rng):
    """Also of either sign; where they cancel the sum's rounding is what SciPy's is, or less."""
    a, b = (4 * rng.standard_normal((3, 4, 5))).astype(dtype), rng.standard_normal((3, 4, 5)).astype(dtype)
    b[0, 1, 2], a[0, 1, 2] = 0, inf
    b[1, 1] = 0
    for axis, keepdims, weights in itertools.product(
        (None, 0, -1, (0, 2), ()), (False, True), (b, np.abs(b), b[:, :1], b[0, 0], 2.0, -1)
    ):
        every = np.broadcast_to(weights, a.shape)
        x = np.where((every != 0) & np.isinf(a), 0, a).astype(dtype)
        ours = special.logsumexp(x, axis, weights, keepdims, sign)
        other = theirs("logsumexp", x, axis, weights, keepdims, sign)
        for one, two in zip(ours, other, strict=True) if sign else [(ours, other)]:
            same_kind(one, two)
        exact = every.astype("g") * np.exp(np.where(every == 0, 0, x).astype("g"))
        places = tuple(range(3)) if axis is None else axis
        total, size = exact.sum(places, keepdims=keepdims), np.abs(exact).sum(places, keepdims=keepdims)
        with np.errstate(all="ignore"):
            wanted = np.log(np.abs(total) if sign else np.where(total < 0, nan, total))
            # each term is rounded some times, as is its probability
            error = 64 * np.finfo(dtype).eps * (size / np.abs(total) + np.abs(wanted))
            off = np.abs(np.asarray(ours[0] if sign else ours) - wanted)
        result = ours[0] if sign else ours
        finite = np.isfinite(wanted)
        np.testing.assert_array_equal(
            np.asarray(result)[~finite], np.asarray(other[0] if sign else other)[~finite]
        )
        assert (off[finite] <= error[finite]).all()
        if sign:
            np.testing.assert_array_equal(ours[1], other[1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_at_the_edges():
    numbers = [0.0, 800.0, -800.0, inf, -inf, nan]
    factors = [1.0, -1.0, 0.0, 1e-300, inf, nan]
    for a, b in itertools.product(itertools.product(numbers, repeat=2), itertools.product(factors, repeat=2)):
        for sign in (False, True):
            ours = special.logsumexp(a, b=b, return_sign=sign)
            other = theirs("logsumexp", a, b=b, return_sign=sign)
            for one, two in zip(ours, other, strict=True) if sign else [(ours, other)]:
                close(one, two)
    for a, b in (
        ([], []),
        (np.zeros((3, 0)), np.ones((3, 1))),
        (1.0, None),
        (np.float32(2), None),
        ([inf], None),
    ):
        for keywords in itertools.product((False, True), repeat=2):
            keywords = dict(zip(("keepdims", "return_sign"), keywords, strict=True))
            ours, other = special.logsumexp(a, -1, b, **keywords), theirs("logsumexp", a, -1, b, **keywords)
            np.testing.assert_array_equal(ours, other)
    assert special.logsumexp([0.0, -40.0], b=[1, 3]) == pytest.approx(4 * 0 + 3 * np.exp(-40.0), rel=1e-15)
    with pytest.raises(ValueError, match="broadcast"):
        special.logsumexp([1.0, 2.0, 3.0], b=[1.0, 2.0])


@pytest.mark.parametrize("a", "efdi")
@pytest.mark.parametrize("b", "efdi")
def test_dtypes_of_weights(a, b):
    for x, y in (
        (np.ones(2, a), np.ones(2, b)),
        (np.ones(2, a), 2.0),
        (np.ones(2, a), 2),
        (3, np.ones(2, b)),
    ):
        same_kind(special.logsumexp(x, b=y), theirs("logsumexp", x, b=y))


# ------------------------------------------------------------------------------- of each element


def edges(dtype):
    info = np.finfo(dtype)
    near = np.array([-1e-3, 1e-3, 88, 100, 103.5, 709, 730, 744, 746])
    sizes = [0, 0.5, 1, 2, inf, nan, info.tiny, info.tiny / 4, info.smallest_subnormal, info.max, 1e-30, 1e30]
    sizes = np.array([*sizes, *near], dtype)
    return np.concatenate([sizes, -sizes])


def made(name):
    """The function of the instruction set in use."""
    op = {"expit": "sigmoid", "log_expit": "logsigmoid", "kl_div": "kl_div_of_masses"}.get(name, name)
    types = "efd" if name == "softplus" else "fd"
    return _kernels.module.ufunc(op, name, 2 if name in TWO else 1, types, "", threads_for)


def in_long_double(name, x, y=None):
    """The formula where x and y are positive and finite, and elsewhere SciPy's value."""
    with np.errstate(all="ignore"):
        wanted = _in_long_double(name, x, y)
        return np.where(np.abs(wanted) > np.finfo(x.dtype).max, np.sign(wanted) * inf, wanted)


def _in_long_double(name, x, y):
    if name not in (*TWO, "entr"):
        return theirs(name, x.astype("g"))
    args = (x,) if y is None else (x, y)
    other = theirs(name, *(a.astype("d") for a in args)).astype("g")
    y = x if y is None else y
    usual = (x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)
    x, y = (np.where(usual, a, 1).astype("g") for a in (x, y))
    if name in ("entr", "xlogy"):
        return np.where(usual, (-1 if name == "entr" else 1) * x * np.log(y), other)
    near = np.abs(x - y) < 0.5 * y
    log = np.where(near, np.log1p(np.where(near, x - y, 0) / y), np.log(x / y))
    return np.where(usual, x * log - (x - y if name == "kl_div" else 0), other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*ONE, "softplus"])
def test_of_one(name, dtype, rng, isa):
    """Within 2 ulp of what is one term; entr 2 more for its product. Subnormal results are right, too."""
    info = np.finfo(dtype)
    sizes = np.exp(rng.uniform(np.log(info.tiny), np.log(info.max), 3000))
    x = np.concatenate([edges(dtype), rng.standard_normal(3000), 40 * rng.standard_normal(3000), sizes])
    x = np.concatenate([x, np.linspace(-104, -87, 500), np.linspace(-746, -707, 500)]).astype(dtype)
    wanted = in_long_double(name, x)
    with np.errstate(over="ignore"):
        spacing = bounds.ulp(np.where(np.isfinite(wanted), wanted, 1).astype(np.float64), dtype)
    allowed = (4 if name == "entr" else 2) * spacing + info.smallest_subnormal
    assert_within(made(name)(x), wanted, allowed, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TWO)
def test_of_two(name, dtype, rng, isa):
    """The logarithm within 4 ulp, and a product; of x log(x / y) - x + y the terms, unless x is near y."""
    info = np.finfo(dtype)
    sizes = np.exp(rng.uniform(np.log(info.tiny), np.log(info.max), (2, 4000)))
    p, q = rng.random((2, 4000))
    pairs = [np.meshgrid(edges(dtype), edges(dtype)), sizes, (p, q), (p, p * (1 + 1e-3 * q)), (p, p)]
    x, y = (np.concatenate([np.ravel(pair[i]) for pair in pairs]).astype(dtype) for i in (0, 1))
    with np.errstate(all="ignore"):
        wanted = in_long_double(name, x, y)
        size = np.abs(wanted)
        if name == "kl_div":
            size = size + np.where(np.abs(x - y) < 0.25 * y, 0, np.abs(x) + np.abs(y))
        spacing = bounds.ulp(np.where(np.isfinite(size), size, 1).astype(np.float64), dtype)
    allowed = 5 * spacing + info.smallest_subnormal
    if name == "kl_div":  # what the long double has lost
        allowed = allowed + 8 * np.finfo("g").eps * np.nan_to_num(np.abs(x.astype("g")) + np.abs(y), posinf=0)
    assert_within(made(name)(x, y), wanted, allowed, dtype)


def test_kl_div_of_nearly_equal_masses():
    """Where x log(x / y) - x + y written out keeps no digit: (x - y)² / 2 y, and more."""
    x, y = np.float64(0.3), np.float64(0.3 * (1 + 1e-9))
    f = (x - y) / y
    wanted = y * f * f / 2 * (1 - f / 3)
    assert special.kl_div(x, y) == pytest.approx(wanted, rel=8 * sys.float_info.epsilon)
    assert special.kl_div(0.3, 0.3) == 0


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_calls_of_a_ufunc(name, rng):
    """Layouts, dtypes, places for results, masks and numbers, as SciPy's."""
    ours, other = getattr(special, name), getattr(scipy_special, name)
    x = np.abs(rng.standard_normal((40, 33)))
    args = (x,) if name in ONE else (x, x[::-1])
    tolerance = {"rtol": 64 * np.finfo(float).eps, "atol": 64 * np.finfo(float).eps}

    def alike(one, two):
        wide = np.asarray(two).dtype == np.float64
        np.testing.assert_allclose(one, two, **tolerance if wide else {"rtol": 1e-5, "atol": 1e-6})
        same_kind(one, two)

    for view in (
        lambda v: v, lambda v: v.T, lambda v: v[:, ::2], lambda v: v[::-1, ::-3], lambda v: v[0],
        np.asfortranarray, lambda v: v.astype("f"), lambda v: v.astype("e"), lambda v: v.astype(">f8"),
        lambda v: (9 * v).astype(int), lambda v: (9 * v).astype("b"), lambda v: v > 1, lambda v: v[3, 3],
        lambda v: v[:0], lambda v: np.broadcast_to(v[0], (7, 33)), lambda v: float(v[1, 1]),
        lambda v: v.tolist(),
    ):  # fmt: skip
        if not FLOAT32_FIRST or np.asarray(view(x)).dtype.itemsize >= 4:
            alike(ours(*map(view, args)), other(*map(view, args)))
    for dtype in ("f", "d"):
        alike(ours(*args, dtype=dtype, casting="same_kind"), other(*args, dtype=dtype, casting="same_kind"))
    out = x.copy()
    assert ours(out, *args[1:], out=out) is out
    alike(out, other(*args))
    shifted, wanted = x.copy(), x.copy()
    ours(shifted[1:], *(a[1:] for a in args[1:]), shifted[:-1])
    other(wanted[1:], *(a[1:] for a in args[1:]), wanted[:-1])
    alike(shifted, wanted)
    out = x.copy()  # SciPy 1.17 itself writes elsewhere, or crashes, with `where`
    alike(ours(*args, out=out, where=x > 1), np.where(x > 1, other(*args), x))
    if name in TWO:
        alike(ours.outer(x[0], x[1]), other.outer(x[0], x[1]))
        with pytest.raises(ValueError, match="broadcast"):
            ours(x, x[:3])
    masked = np.ma.array([1.0, 2.0], mask=[True, False])
    of_masked = ours(*[masked] * len(args))
    alike(of_masked[1:].data, other(*[masked] * len(args))[1:].data)
    assert of_masked.mask.tolist() == [True, False]
    for bad in ("text", [object()], np.ones(2, "M8[s]")):
        assert outcome(ours, *[bad] * len(args)) is outcome(other, *[bad] * len(args))


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_large_calls(name, rng, threads):
    """The same bits on any number of threads, in any memory, and in place, with elements in doubt."""
    function = getattr(special, name)
    x = np.abs(rng.standard_normal((3, 70_001)))
    x[:, ::1000], x[:, 1::1000] = 0, 5e-310
    args = (x,) if name in ONE else (x, x[::-1].copy())
    wanted = np.stack(
        [[function(*(a[i, k : k + 1] for a in args))[0] for k in range(0, 70_001, 997)] for i in range(3)]
    )
    got = function(*args)
    np.testing.assert_array_equal(got[:, ::997], wanted)
    np.testing.assert_array_equal(function(*(np.asfortranarray(a) for a in args)), got)
    place = x.copy()
    np.testing.assert_array_equal(function(place, *args[1:], out=place), got)


def test_long_double_and_complex(rng):
    x = 50 * rng.standard_normal(200).astype("g")
    for name in ("expit", "log_expit", "softplus"):
        ours, other = getattr(special, name)(x), theirs(name, x)
        same_kind(ours, other)
        np.testing.assert_allclose(ours, other, rtol=8 * np.finfo("g").eps)
    z = rng.standard_normal(60) + 1j * rng.standard_normal(60)
    for kind in "DF":
        ours, other = (
            special.xlogy(z.astype(kind), z[::-1].astype(kind)),
            theirs("xlogy", z.astype(kind), z[::-1].astype(kind)),
        )
        same_kind(ours, other)
        assert (np.abs(ours - other) <= 16 * np.finfo(kind).eps * np.abs(other)).all()
    assert special.xlogy(0j, 0j) == 0
    assert np.isnan(special.xlogy(0j, complex(nan, 0)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_softplus_keeps_the_dtype(dtype):
    x = np.linspace(-5, 5, 50).astype(getattr(pytest.importorskip("ml_dtypes"), dtype))
    for given in ({}, {"out": np.empty(50, x.dtype)}, {"dtype": "f"}, {"dtype": x.dtype}):
        result, wanted = special.softplus(x, **given), theirs("softplus", x, **given)
        assert result.dtype == wanted.dtype
        np.testing.assert_array_equal(result, wanted)


def test_softplus_of_bools_of_pandas():
    pandas = pytest.importorskip("pandas")
    for x in (
        pandas.Series([True, False]),
        pandas.Series([True, None], dtype="boolean"),
        pandas.array([True, None], dtype="boolean"),
        pandas.Index([True, False]),
        pandas.DataFrame({"a": [True], "b": [False]}),
    ):
        result, wanted = special.softplus(x), theirs("softplus", x)
        assert type(result) is type(wanted)
        assert repr(result) == repr(wanted)


def test_softplus_calls():
    for x in (
        1,
        2**70,
        1.5,
        True,
        [True, False],
        [1, 2],
        np.int8([1, 2]),
        np.float16([1, 2]),
        np.float32(3),
        np.ones(3, bool),
    ):
        same_kind(special.softplus(x), theirs("softplus", x))
        np.testing.assert_allclose(special.softplus(x), theirs("softplus", x), rtol=1e-3)
    out = np.ones(5)
    special.softplus(np.arange(5.0), out=out, where=np.arange(5) > 2)
    np.testing.assert_array_equal(out[:3], 1)
    assert special.softplus(np.ones(2), dtype=np.float32).dtype == np.float32
    assert special.softplus(np.ones(2), signature="ff->f").dtype == np.float32
    for bad in (1j, "x"):
        with pytest.raises(TypeError):
            special.softplus(bad)


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_no_warnings(name):
    with np.errstate(all="raise"):
        x = np.array([0.0, -1, inf, nan, 1e-310, 5])
        getattr(special, name)(*[x] * (2 if name in TWO else 1))


# ------------------------------------------------------------------------------- the switch


def test_scipy_is_not_imported():
    code = (
        "import sys, numpy as np, fastloss\n"
        "fastloss.special.logsumexp([[1.0, 2]], b=[1, -0.5]); fastloss.special.xlogy(1, 2)\n"
        "fastloss.special.softmax(np.ones((2, 3), 'e')); fastloss.special.softplus([1.0])\n"
        "print('scipy' in sys.modules)\n"
    )
    assert answers(code) == "False"


def test_without_scipy():
    code = (
        "import sys, numpy as np\nsys.modules['scipy'] = None\nimport fastloss\n"
        "for call in (fastloss.special.patch, lambda: fastloss.special.softmax([1j])):\n"
        "    try: call()\n    except ImportError: print('ok')\n"
    )
    assert answers(code).split() == ["ok", "ok"]


def test_patched():
    own = {name: getattr(scipy_special, name) for name in special._OF_SCIPY}
    module = types.ModuleType("module_that_knows_scipy")
    exec("from scipy.special import logsumexp, expit as sigmoid\nfrom scipy import special", module.__dict__)
    mine = types.ModuleType("module_that_knows_fastloss")
    exec("from fastloss.special import softmax", mine.__dict__)
    late = types.ModuleType("module_that_comes_later")
    sys.modules |= {m.__name__: m for m in (module, mine)}
    try:
        with special.patched():
            for name in special._OF_SCIPY:
                assert getattr(scipy_special, name) is getattr(special, name)
            assert module.logsumexp is special.logsumexp
            assert module.sigmoid is special.expit
            sys.modules[late.__name__] = late
            exec("from scipy.special import softmax", late.__dict__)
            with special.patched():
                assert late.softmax is special.softmax
            assert module.logsumexp is special.logsumexp
            assert scipy_special.logsumexp([1j]) == own["logsumexp"]([1j])  # SciPy's, not ours again
        assert {name: getattr(scipy_special, name) for name in own} == own
        assert (module.logsumexp, module.sigmoid) == (own["logsumexp"], own["expit"])
        assert late.softmax is own["softmax"]
        assert mine.softmax is special.softmax
        special.unpatch()
        assert scipy_special.softmax is own["softmax"]
    finally:
        for m in (module, mine, late):
            sys.modules.pop(m.__name__, None)


@pytest.mark.parametrize("mode", ["0", "1"])
def test_scipys_mode_of_array_libraries(mode):
    """Dask arrays are SciPy's; its elementwise functions stay where they take arrays of other libraries."""
    pytest.importorskip("dask.array")
    code = (
        "import numpy as np, dask.array as da, scipy.special as theirs\n"
        "from fastloss import special\n"
        "own, lazy = {name: getattr(theirs, name) for name in special._OF_SCIPY}, da.ones((2, 3), chunks=1)\n"
        "same = [type(getattr(special, n)(lazy)) is type(own[n](lazy)) for n in ('logsumexp', 'softmax')]\n"
        "same.append(type(special.logsumexp(lazy, b=lazy)) is type(own['logsumexp'](lazy, b=lazy)))\n"
        "with special.patched():\n"
        "    bare = [n for n in own if isinstance(getattr(theirs, n), np.ufunc)]\n"
        "    mine = [n for n in own if getattr(theirs, n) is getattr(special, n)]\n"
        "print(all(same))\n"
        "print(set(bare) == {n for n in own if isinstance(own[n], np.ufunc)})\n"
        "print(set(mine) == {n for n in own if n in bare or not isinstance(getattr(special, n), np.ufunc)})\n"
        "print(own == {name: getattr(theirs, name) for name in own})\n"
    )
    assert answers(code, SCIPY_ARRAY_API=mode).split() == ["True"] * 4


def test_patched_ends_with_an_exception():
    own = scipy_special.softmax
    with contextlib.suppress(KeyError), special.patched():
        raise KeyError
    assert scipy_special.softmax is own


def test_what_was_replaced_since_stays(monkeypatch):
    other = object()
    with special.patched():
        monkeypatch.setattr(scipy_special, "entr", other)
    assert scipy_special.entr is other


def test_patched_in_threads():
    own, wrong = scipy_special.softmax, []

    def work():
        for _ in range(5):
            with special.patched():
                wrong.append(scipy_special.softmax is not special.softmax)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not any(wrong)
    assert len(wrong) == 20
    assert scipy_special.softmax is own


@pytest.mark.filterwarnings("ignore:lbfgs failed")
def test_scikit_learn(rng):
    """Its mixtures and naive Bayes, whose results are the same within rounding."""
    mixture = pytest.importorskip("sklearn.mixture", reason="needs scikit-learn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.utils import extmath

    x = np.concatenate([rng.standard_normal((150, 4)) + 3 * k for k in range(4)])
    counts, labels = rng.poisson(np.abs(x)), np.repeat(np.arange(4), 150)
    models = [mixture.GaussianMixture(4, random_state=0), MultinomialNB(), LogisticRegression(max_iter=50)]

    def results():
        found = [models[0].fit(x).predict_proba(x), models[1].fit(counts, labels).predict_log_proba(counts)]
        return [
            *found,
            models[2].fit(x, labels).predict_proba(x),
            extmath.softmax(x),
            extmath.softmax(x[:, ::2]),
        ]

    with pytest.MonkeyPatch.context() as patch:
        calls = []
        true = special.arrays._over_classes
        patch.setattr(
            special.arrays, "_over_classes", lambda op, *a, **k: calls.append(op) or true(op, *a, **k)
        )
        with special.patched():
            ours = results()
            place = x.copy()
            assert extmath.softmax(place, copy=False) is place
    assert {"logsumexp", "softmax"} <= {*calls}
    for one, other in zip([*ours, place], [*results(), extmath.softmax(x)], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_reachable_after_import():
    assert fastloss.special is special
    assert "special" in dir(fastloss)
    code = "import fastloss; print(fastloss.special.softmax([0.0, 0.0]))"
    run = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[0.5 0.5]\n"


@pytest.mark.parametrize("name", ONE + TWO)
def test_docstring(name):
    doc = getattr(special, name).__doc__
    sections = re.findall(r"\n(\w+)\n-+\n", doc)
    assert sections == ["Parameters", "Returns", "Raises", "References", "Examples"]
    example = doctest.DocTestParser().get_doctest(doc, {}, name, None, None)
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0
    assert example.examples


@pytest.mark.parametrize("name", ["entr", "rel_entr", "kl_div", "xlogy", "expit", "log_expit"])
def test_identity(name):
    """SciPy's: with one, a reduction takes several axes, and nothing at all."""
    ours = getattr(special, name)
    assert ours.identity == getattr(pytest.importorskip("scipy.special"), name).identity
    if ours.identity is not None and ours.nin == 2:
        assert ours.reduce(np.ones((2, 3, 4)), axis=(0, 2)).shape == (3,)
        assert ours.reduce(np.ones((2, 0))).tolist() == []
        assert ours.reduce([]) == 0


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("dtype", ["f", "d"])
def test_reductions(name, dtype):
    """Each result is an argument of the next one: as the function itself, step by step."""
    ours = getattr(special, name)
    x = (np.random.default_rng(3).random((6, 700)) + 0.1).astype(dtype)
    steps = [x[:, 0]]
    for column in x.T[1:]:
        steps.append(ours(steps[-1], column))
    np.testing.assert_array_equal(ours.accumulate(x, axis=1), np.stack(steps, axis=1))
    total = steps[-1]
    if ours.identity is not None:  # which is the first argument, as in SciPy
        total = np.full_like(total, ours.identity)
        for column in x.T:
            total = ours(total, column)
    np.testing.assert_array_equal(ours.reduce(x, axis=1), total)
    np.testing.assert_array_equal(ours.accumulate(x[0]), [step[0] for step in steps])
    np.testing.assert_array_equal(ours.reduceat(x[0], [0, 3]), [steps[2][0], ours.accumulate(x[0, 3:])[-1]])
    out = x.copy()
    np.testing.assert_array_equal(ours(out, x[::-1], out=out), ours(x, x[::-1]))
