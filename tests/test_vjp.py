"""Derivatives of the array functions from their results, times a gradient that arrives."""

import itertools

import numpy as np
import pytest
from mpmath import mp

import fastloss
from fastloss import _kernels, bounds, reference
from tests.support.cases import LAYOUTS, same_bits
from tests.support.oracle import assert_within
from tests.test_reference import COUNTS, SHAPES

inf, nan = np.inf, np.nan
ALONG_CLASSES = ["softmax_vjp", "log_softmax_vjp"]
NAMES = [*ALONG_CLASSES, "sigmoid_vjp"]


def computed(dtype):
    return np.float64 if dtype == np.float64 else np.float32


def result_of(name, x, axis, dtype):
    """What the function gives, as the argument of its derivative."""
    along = () if name == "sigmoid_vjp" else (axis,)
    return getattr(reference, name.removesuffix("_vjp"))(x, *along).astype(dtype, "C")


def inputs(name, rng, shape, axis, dtype):
    g = rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 3, shape)
    return result_of(name, 3 * rng.standard_normal(shape), axis, dtype), g.astype(computed(dtype))


def call(name, p, g, axis, **arguments):
    return getattr(fastloss, name)(p, g, *() if name == "sigmoid_vjp" else (axis,), **arguments)


def agree(name, got, p, g, axis, dtype):
    along = () if name == "sigmoid_vjp" else (axis,)
    p = p.astype(np.float64)
    wanted = getattr(reference, name)(p, g, *along)
    allowed = bounds.against_reference(bounds.vjp, computed(dtype), name, p, g, *along)
    if dtype.itemsize == 2:
        allowed = bounds.rounded(allowed, wanted, dtype)
    assert got.dtype == dtype
    assert_within(got, wanted, allowed, dtype)


@pytest.mark.parametrize("name", ALONG_CLASSES)
def test_at_block_boundaries(name, dtype, isa, threads, rng):
    for shape, axis in SHAPES:
        p, g = inputs(name, rng, shape, axis, dtype)
        agree(name, call(name, p, g, axis), p, g, axis, dtype)


def test_sigmoid_at_block_boundaries(dtype, isa, threads, rng):
    for n in COUNTS:
        p, g = inputs("sigmoid_vjp", rng, (n,), 0, dtype)
        agree("sigmoid_vjp", fastloss.sigmoid_vjp(p, g), p, g, 0, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_true_values(name, dtype, isa, rng):
    """Against 60 digits, from the stored numbers; sums that cancel, and small and large ones."""
    for classes, size in itertools.product((1, 2, 7, 40), (1e-30, 1.0, 1e30)):
        p, g = inputs(name, rng, (6, classes), 1, dtype)
        g *= computed(dtype)(size)
        g[0] = g[0, 0]  # whose derivative is 0 but for what the sum of p is off
        truth = np.empty(p.shape, object)
        with mp.workdps(60):
            for row, a, b in zip(truth, p.astype(np.float64), g.astype(np.float64), strict=True):
                a, b = [mp.mpf(v) for v in a], [mp.mpf(v) for v in b]
                if name == "sigmoid_vjp":
                    row[:] = [q * (1 - q) * v for q, v in zip(a, b, strict=True)]
                elif name == "softmax_vjp":
                    total = mp.fsum(q * v for q, v in zip(a, b, strict=True))
                    row[:] = [q * (v - total) for q, v in zip(a, b, strict=True)]
                else:
                    row[:] = [v - mp.exp(q) * mp.fsum(b) for q, v in zip(a, b, strict=True)]
        along = () if name == "sigmoid_vjp" else (1,)
        allowed = bounds.vjp(name, p.astype(np.float64), g, *along, dtype=computed(dtype))
        if dtype.itemsize == 2:
            allowed = bounds.rounded(allowed, truth.astype(np.float64), dtype)
        assert_within(call(name, p, g, 1), truth, allowed, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_same_bits(name, dtype, rng, isa):
    """Any threads, batch, memory and output."""
    for shape, axis in (((200, 10), 1), ((40, 333), 1), ((5, 3000), 1), ((3, 20, 300), 1), ((3000, 19), 1)):
        p, g = inputs(name, rng, shape, axis, dtype)
        wanted = call(name, p, g, axis)
        for n in (1, 2, 3):
            with fastloss.threads(n):
                assert same_bits(call(name, p, g, axis), wanted)
        for rows in (slice(0, 1), slice(1, 3), slice(shape[0] - 1, None)):
            assert same_bits(call(name, p[rows], g[rows], axis), wanted[rows])
        for kind, lay in LAYOUTS.items():
            if kind in ("Fortran order", "transposed") and name != "sigmoid_vjp":
                continue  # the class axis moves
            swapped = kind == "byte-swapped" and dtype.name == "bfloat16"
            assert same_bits(call(name, p if swapped else lay(p), lay(g), axis), wanted), kind
        out = np.full_like(wanted, 7)
        assert call(name, p, g, axis, out=out) is out
        assert same_bits(out, wanted)
        for place in (p.copy(), g.astype(dtype)):
            first, second = (place, g) if same_bits(place, p) else (p, place)
            expected = call(name, first.copy(), second.copy(), axis)
            assert call(name, first, second, axis, out=place) is place
            assert same_bits(place, expected)


@pytest.mark.parametrize("name", ALONG_CLASSES)
def test_large_results_pass_the_caches(name, rng, isa):
    p, g = inputs(name, rng, (9000, 1000), 1, np.dtype(np.float32))
    got = call(name, p, g, 1)
    assert same_bits(got[::1000], call(name, p[::1000], g[::1000], 1))
    p, g = p.reshape(3, 100, 30000), g.reshape(3, 100, 30000)
    got = call(name, p, g, 1)
    assert same_bits(got[:, :, 20000:20100], call(name, p[:, :, 20000:20100], g[:, :, 20000:20100], 1))


@pytest.mark.parametrize("shape", [(2, 3), (3, 150), (2, 3, 40)])
def test_edges(shape, dtype, isa):
    """Classes that are masked, infinite gradients there, and NaN, which stays in its sample."""
    x = np.zeros(shape)
    x[:, -1] = -inf
    p, log_p = result_of("softmax_vjp", x, 1, dtype), result_of("log_softmax_vjp", x, 1, dtype)
    g = np.ones(shape, computed(dtype))
    g[:, 0] = 2
    plain = fastloss.softmax_vjp(p, g, 1)
    assert (plain[:, -1] == 0).all()
    g[:, -1] = inf
    assert same_bits(fastloss.softmax_vjp(p, g, 1), plain)
    g[:, -1] = 5
    by_log = fastloss.log_softmax_vjp(log_p, g, 1)
    assert (by_log[:, -1] == 0).all()
    assert np.isfinite(by_log.astype(np.float64)).all()
    g[0, 0] = nan
    for got in (fastloss.softmax_vjp(p, g, 1), fastloss.log_softmax_vjp(log_p, g, 1)):
        assert np.isnan(got[0].astype(np.float64)).all()
        assert not np.isnan(got[1:].astype(np.float64)).any()
    p[0] = nan
    g[0, 0] = 1
    assert np.isnan(fastloss.softmax_vjp(p, g, 1)[0].astype(np.float64)).all()
    log_p[0] = nan
    assert np.isnan(fastloss.log_softmax_vjp(log_p, g, 1)[0].astype(np.float64)).all()


def test_edges_of_sigmoid(dtype, isa):
    p, g = np.array([0, 1, 0.5, 0, 0.5, nan], dtype), np.array([inf, -inf, inf, nan, 1, 1], computed(dtype))
    got = fastloss.sigmoid_vjp(p, g).astype(np.float64)
    assert np.array_equal(got, [0, 0, inf, nan, 0.25, nan], equal_nan=True)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_no_sum_of_finite_numbers_overflows(kind, isa):
    g = np.full((1, 64), np.finfo(kind).max, kind)
    p, log_p = np.full((1, 64), 1 / 64, kind), np.full((1, 64), -np.log(64), kind)
    assert np.isfinite(fastloss.softmax_vjp(p, g)).all()
    assert np.isfinite(fastloss.log_softmax_vjp(log_p, g)).all()
    g[0, 0] *= -1
    assert np.isfinite(fastloss.softmax_vjp(p, g)).all()


def test_derivatives_of_losses(rng):
    """Of losses that fastloss has itself, through the probabilities."""
    x, labels = rng.standard_normal((30, 7)), rng.integers(0, 7, 30)
    q = np.eye(7)[labels]
    wanted = fastloss.CrossEntropyLoss(reduction="sum").value_and_grad(x, labels)[1]
    p = fastloss.softmax(x)
    np.testing.assert_allclose(fastloss.softmax_vjp(p, -q / p), wanted, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(
        fastloss.log_softmax_vjp(fastloss.log_softmax(x), -q), wanted, rtol=1e-13, atol=1e-15
    )
    y, p = rng.random(x.shape), fastloss.sigmoid(x)
    of_bits = fastloss.BCEWithLogitsLoss(reduction="sum").value_and_grad(x, y)[1]
    np.testing.assert_allclose(
        fastloss.sigmoid_vjp(p, (p - y) / (p * (1 - p))), of_bits, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("name", NAMES)
def test_arguments_of_any_kind(name):
    result = "log_p" if name.startswith("log") else "p"
    function = getattr(fastloss, name)
    assert function([0, 1], [1, 1]).dtype == np.float64
    assert function(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
    p, g = np.full((2, 3), 0.25, np.float32), np.ones((2, 3))
    assert function(p, g).dtype == np.float32
    assert same_bits(function(p.astype(np.float64), g.astype(np.float32)), function(p.astype(np.float64), g))
    for bad, error, named in [
        ((None, g), TypeError, result),
        ((p, None), TypeError, "grad_output"),
        ((p + 0j, g), TypeError, result),
        ((p, g + 0j), TypeError, "grad_output"),
        ((p, g[0]), ValueError, "grad_output"),
        ((p, 1.0), ValueError, "grad_output"),
        ((p, ["a"] * 3), (TypeError, ValueError), "grad_output"),
    ]:
        out = np.full((2, 3), 7, np.float32)
        with pytest.raises(error, match=rf"^{named}\b"):
            function(*bad, out=out)
        assert (out == 7).all()
    for out in (np.empty((3, 2), np.float32), np.empty((2, 3)), [1]):
        with pytest.raises((TypeError, ValueError), match=r"^out\b"):
            function(p, g, out=out)
    memory = np.ones(9, np.float32)
    with pytest.raises(ValueError, match=rf"^out: overlaps {result} "):
        function(memory[:6].reshape(2, 3), g, out=memory[3:].reshape(2, 3))
    with pytest.raises(ValueError, match=r"^out: overlaps grad_output "):
        function(p, memory[:6].reshape(2, 3), out=memory[3:].reshape(2, 3))
    if name != "sigmoid_vjp":
        for axis in (2, -3, 1.0, True):
            with pytest.raises((TypeError, ValueError), match=r"^axis\b"):
                function(p, g, axis)
        for axis in ((0, 0), (0, 2), (0, 1.0)):
            with pytest.raises((TypeError, ValueError), match=r"^axis\b"):
                function(p, g, axis)


@pytest.mark.parametrize("name", ALONG_CLASSES)
def test_several_axes_are_one(name, dtype, rng):
    shape = (3, 4, 5, 2)
    p, g = inputs(name, rng, shape, -1, dtype)
    for axis in ((1, 2), (-1, 0), (0, 1, 2, 3), None, (1,), ()):
        axes = range(4) if axis is None else sorted(a % 4 for a in axis)
        others = [a for a in range(4) if a not in axes]
        order = [*others, *axes]
        flat = [shape[a] for a in others]
        rows = (np.ascontiguousarray(a.transpose(order)).reshape(*flat, -1) for a in (p, g))
        wanted = getattr(fastloss, name)(*rows, -1).reshape([shape[a] for a in order])
        wanted = wanted.transpose(np.argsort(order))
        got = getattr(fastloss, name)(p, g, axis)
        assert got.dtype == dtype
        agree(name, got, p, g, axis, dtype)
        agree(name, wanted, p, g, axis, dtype)
        out = p.copy()
        assert getattr(fastloss, name)(out, g, axis, out=out) is out
        assert same_bits(out, got)
        with fastloss.checking():
            getattr(fastloss, name)(p, g, axis)
    empty = np.empty((2, 0, 3), dtype)
    for axis in (1, (0, 1), None, 2):
        assert getattr(fastloss, name)(empty, empty, axis).shape == empty.shape
    for axis in (-1, 0, None, ()):  # one class, whose probability is 1
        assert getattr(fastloss, name)(dtype.type(name == "softmax_vjp"), 3.0, axis) == 0


@pytest.mark.parametrize("name", NAMES)
def test_checking(name, dtype, rng, monkeypatch):
    with fastloss.checking():
        for shape, axis in (((7, 10), 1), ((4, 300), 1), ((3, 5, 20), 1)):
            p, g = inputs(name, rng, shape, axis, dtype)
            call(name, p, g, axis)
            call(name, p, g, axis, out=p)
        monkeypatch.setattr(reference, name, lambda p, g, axis=-1: 0 * g + 1.0)
        with pytest.raises(fastloss.CheckError, match=name):
            call(name, p, g, axis)


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs both avx2 and avx512")
@pytest.mark.parametrize("name", NAMES)
def test_avx2_and_avx512_agree_in_every_bit(name, dtype):
    before = _kernels.active
    try:
        for shape, axis in SHAPES[::3]:
            p, g = inputs(name, np.random.default_rng(5), shape, axis, dtype)
            _kernels.use("avx2")
            wanted = call(name, p, g, axis)
            _kernels.use("avx512")
            assert same_bits(call(name, p, g, axis), wanted)
    finally:
        _kernels.use(before)
