"""The loss of three arrays: what the tests of `cases` hold for the others, and what is its own."""

import itertools
import math
import pickle

import mpmath as mp
import numpy as np
import pytest

import fastloss
from fastloss import GaussianNLLLoss, _kernels, bounds, reference
from tests.support import oracle
from tests.support.cases import LAYOUTS, fixture_of, same_bits
from tests.support.oracle import assert_within

DTYPES = [np.float32, np.float64]
dtype = fixture_of(DTYPES)
inf, nan = math.inf, math.nan
WRT = ["input", "var"]


def arguments(rng, shape, dtype, var_shape=None):
    x, y = rng.standard_normal((2, *shape)).astype(dtype)
    var = np.asarray(0.1 + rng.random(shape if var_shape is None else var_shape)).astype(dtype)
    return x, y, var


def test_hand_values(isa):
    assert fastloss.gaussian_nll_loss([3.0], [1.0], [4.0]) == pytest.approx(math.log(2) + 0.5)
    assert fastloss.gaussian_nll_loss([3.0], [1.0], 1.0, full=True) == pytest.approx(
        2 + math.log(2 * math.pi) / 2
    )
    value, grads = GaussianNLLLoss(reduction="none").value_and_grad(
        [3.0, 0.0], [1.0, 0.0], [4.0, 1e-9], wrt=WRT
    )
    assert value == pytest.approx([math.log(2) + 0.5, math.log(1e-6) / 2])
    assert grads[0].tolist() == [0.5, 0]
    assert grads[1] == pytest.approx([0.125 - 0.125, 0.5e6])


def test_against_mpmath(dtype, isa):
    rng = np.random.default_rng(41)
    n = 400
    x, y = rng.standard_normal((2, n)) * 10 ** rng.uniform(-3, 4, (2, n))
    var = 10 ** rng.uniform(-8, 8, n)
    y[:5], var[5:9] = x[:5], [1, 1.0000001, 1e-30, 0]
    x, y, var = (a.astype(dtype) for a in (x, y, var))
    for full in (False, True):
        exact = [
            oracle.gaussian_nll_loss(*(mp.mpf(float(v)) for v in row), full=full)
            for row in zip(x, y, var, strict=True)
        ]
        made = GaussianNLLLoss(full=full, reduction="none")
        value, grads = made.value_and_grad(x, y, var, wrt=WRT)
        for wrt, grad, slope in zip(WRT, grads, (1, 2), strict=True):
            options = {"full": full, "reduction": "none", "wrt": wrt}
            allowed = bounds.loss("gaussian_nll_loss", x, y, var=var, dtype=dtype, **options)
            assert_within(value, oracle.array([e[0] for e in exact]), allowed.value, dtype)
            assert_within(grad, oracle.array([e[slope] for e in exact]), allowed.grad, dtype)


@pytest.mark.parametrize("var_shape", [(3, 40, 9), (3, 40), (3, 40, 1), (3, 1, 9), (1, 1, 1), ()])
def test_options_against_the_reference(var_shape, dtype, isa, threads):
    rng = np.random.default_rng(42)
    x, y, var = arguments(rng, (3, 40, 9), dtype, var_shape)
    mask = rng.random((3, 40, 9)) < 0.7
    weight = (0.5 + rng.random((40, 1))).astype(dtype)
    with fastloss.checking():
        for reduction, given in itertools.product(
            ["mean", "sum", "none"],
            [{}, {"mask": mask}, {"sample_weight": weight}, {"mask": mask, "sample_weight": weight}],
        ):
            made = GaussianNLLLoss(full=True, eps=0.25, reduction=reduction)
            value, grads = made.value_and_grad(x, y, var, wrt=("var", "input"), grad_output=-1.5, **given)
            assert grads[0].shape == var.shape
            assert grads[0].dtype == grads[1].dtype == dtype
            same = made.value_and_grad(x, y, var, grad_output=-1.5, **given)
            assert same_bits(value, same[0])
            assert same_bits(grads[1], same[1])
            assert same_bits(value, made(x, y, var, **given))
            full = np.broadcast_to(var[..., None] if var_shape == (3, 40) else var, x.shape)
            assert same_bits(grads[1], made.value_and_grad(x, y, full, grad_output=-1.5, **given)[1])
            by_element = made.value_and_grad(x, y, full, grad_output=-1.5, wrt="var", **given)[1]
            wanted = by_element.astype(np.float64)
            for axis, n in enumerate(full.shape if var_shape else ()):
                if len(var_shape) <= axis or var_shape[axis] != n:
                    wanted = wanted.sum(axis, keepdims=True)
            wanted = (wanted if var_shape else wanted.sum()).reshape(var_shape)
            np.testing.assert_allclose(grads[0], wanted, rtol=4 * np.finfo(dtype).eps, atol=0)


def test_central_differences(isa):
    rng = np.random.default_rng(43)
    x, y, var = arguments(rng, (4, 3), np.float64, (4, 1))
    made = GaussianNLLLoss(reduction="sum")
    by_var = made.value_and_grad(x, y, var, wrt="var")[1]
    for i in range(4):
        h = np.zeros((4, 1))
        h[i] = 2.0**-12
        slope = (made(x, y, var + h) - made(x, y, var - h)) / 2.0**-11
        assert slope == pytest.approx(by_var[i, 0], rel=1e-4)


def test_infinities_and_nan(dtype, isa):
    for n in (1, 300):
        x = np.repeat([inf, 0, 1, nan, 0, 1], n).astype(dtype)
        y = np.repeat([0, -inf, 1, 0, nan, 0], n).astype(dtype)
        var = np.repeat([1, 1, inf, 1, 1, nan], n).astype(dtype)
        value, grad = GaussianNLLLoss(reduction="none").value_and_grad(x, y, var)
        assert same_bits(value, np.repeat([inf, inf, inf, nan, nan, nan], n).astype(dtype))
        assert same_bits(grad, np.repeat([inf, inf, 0, nan, nan, nan], n).astype(dtype))


def test_infinities_of_both_signs_beside_one_variance(dtype, isa):
    """Warnings are errors here."""
    x, y, var = np.array([inf, inf], dtype), np.zeros(2, dtype), np.array(1.0, dtype)
    made, signs = GaussianNLLLoss(reduction="none"), np.array([1, -1], dtype)
    assert math.isnan(made.value_and_grad(x, y, var, grad_output=signs, wrt="var")[1])


@pytest.mark.parametrize("samples", [1, 300])
def test_what_leaves_the_range_on_the_way(samples, dtype, isa):
    """A square that overflows or vanishes, with a weight that brings it back."""
    big = dtype(1e25) if dtype == np.float32 else dtype(1e200)
    for x, var, weight in [
        (big, 1, 1 / big),
        (1 / big, 1, big),
        (big, big, 1),
        (1, big, big),
        (1, 1 / big, 1),
    ]:
        xs, ys, vs = (np.zeros(samples, dtype) for _ in range(3))
        vs += 1
        weights = np.ones(samples, dtype)
        xs[-1], vs[-1], weights[-1] = x, var, weight
        made = GaussianNLLLoss(eps=1e-300, reduction="none")
        value, grads = made.value_and_grad(xs, ys, vs, sample_weight=weights, wrt=WRT)
        exact = oracle.gaussian_nll_loss(*(mp.mpf(float(a[-1])) for a in (xs, ys, vs)), eps=0)
        for got, e in zip((value, *grads), exact, strict=True):
            e = e * mp.mpf(float(weights[-1]))
            if abs(e) > float(np.finfo(dtype).max):
                assert abs(got[-1]) == inf
            else:
                allowed = 16 * bounds.unit(dtype) * abs(e) + mp.mpf(float(np.finfo(dtype).tiny))
                assert abs(mp.mpf(float(got[-1])) - e) <= allowed


def test_bits(dtype, isa):
    """Alone, in any batch and layout, on any threads, in place."""
    rng = np.random.default_rng(44)
    x, y, var = arguments(rng, (70, 999), dtype)
    made = GaussianNLLLoss(reduction="none")
    with fastloss.threads(1):
        value, grad = made.value_and_grad(x, y, var)
    with fastloss.threads(2):
        again = made.value_and_grad(x, y, var)
    assert same_bits(value, again[0])
    assert same_bits(grad, again[1])
    for i in (0, 31):
        alone = made.value_and_grad(x[i, 3:17], y[i, 3:17], var[i, 3:17])
        assert same_bits(alone[0], value[i, 3:17])
        assert same_bits(alone[1], grad[i, 3:17])
    for layout in LAYOUTS.values():
        other = made.value_and_grad(*(layout(a) for a in (x, y, var)))
        assert same_bits(other[0], value)
        assert same_bits(other[1], grad)
    out, given = np.empty_like(x), x.copy()
    other = made.value_and_grad(given, y, var, out=out, grad_out=given, wrt=WRT)
    assert other[0] is out
    assert other[1][0] is given
    assert same_bits(out, value)
    assert same_bits(given, grad)
    total, slope = GaussianNLLLoss(reduction="sum").value_and_grad(x, y, 0.5)
    assert total == GaussianNLLLoss(reduction="sum")(x, y, np.full_like(x, 0.5))
    assert same_bits(slope, made.value_and_grad(x, y, dtype(0.5))[1])


@pytest.mark.parametrize("name", sorted({"avx2", "avx512"} & {*_kernels.available}))
def test_bits_of_instruction_sets(name, dtype):
    rng = np.random.default_rng(45)
    x, y, var = arguments(rng, (1000,), dtype)
    before, results = _kernels.active, []
    try:
        for isa in ("avx2", name):
            _kernels.use(isa)
            value, grads = GaussianNLLLoss(reduction="none").value_and_grad(x, y, var, wrt=WRT)
            results.append((value, *grads))
    finally:
        _kernels.use(before)
    for a, b in zip(*results, strict=True):
        assert same_bits(a, b)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half(half, isa):
    half = np.dtype(getattr(pytest.importorskip("ml_dtypes"), half) if half == "bfloat16" else half)
    rng = np.random.default_rng(46)
    x, y, var = (a.astype(half) for a in arguments(rng, (9, 40), np.float32))
    made = GaussianNLLLoss(reduction="none")
    value, grads = made.value_and_grad(x, y, var, wrt=WRT)
    wanted, slopes = made.value_and_grad(*(a.astype(np.float32) for a in (x, y, var)), wrt=WRT)
    assert same_bits(value, wanted)
    for grad, slope in zip(grads, slopes, strict=True):
        assert same_bits(grad, slope.astype(half))


def test_negative_variances(dtype, isa):
    for n in (7, 1500):
        x, y, var = np.zeros((3, 2, n)).astype(dtype)
        var[1, n - 2] = -0.25
        out, grad_out = np.full_like(x, 7), np.full_like(x, 7)
        made = GaussianNLLLoss(reduction="none")
        wanted = rf"var\[1, {n - 2}\] = -0.25 is negative"
        for wrt in ("input", WRT):
            with pytest.raises(ValueError, match=wanted):
                made.value_and_grad(x, y, var, out=out, grad_out=grad_out, wrt=wrt)
        assert (out == 7).all()
        assert (grad_out == 7).all()
        with pytest.raises(ValueError, match=wanted):
            made.value_and_grad(x, y, var, wrt="var")
        with pytest.raises(ValueError, match=wanted):
            fastloss.gaussian_nll_loss(x, y, var)
        with pytest.raises(ValueError, match=wanted):
            reference.gaussian_nll_loss(x, y, var)
        counts = var >= 0
        assert made(x, y, var, mask=counts).shape == x.shape
        with pytest.raises(ValueError, match=r"var\[1\] = -1.0 is negative"):
            made(x, y, np.array([1, -1], dtype))
        with pytest.raises(ValueError, match=r"var\[1, 0\] = -1.0 is negative"):
            made(x, y, np.array([[1], [-1]], dtype), mask=counts)
        with pytest.raises(ValueError, match=r"var = -1.0 is negative"):
            made(x, y, -1.0)
        assert made(x, y, np.array([1, -1], dtype), mask=[[True], [False]])[1].tolist() == [0] * n


def test_arguments(isa):
    x = np.zeros((4, 3))
    made = GaussianNLLLoss(reduction="none")
    for var in (np.ones(3), np.ones((4, 3, 1)), np.ones((1, 4, 3)), np.ones((2, 3)), [1.0]):
        with pytest.raises(ValueError, match=r"^var: got shape"):
            made(x, x, var)
    for var in ("a", 1j, None, object()):
        with pytest.raises(TypeError, match=r"^var: "):
            made(x, x, var)
    for wrt in ("target", ("input", "x")):
        with pytest.raises(ValueError, match=r"^wrt: got"):
            made.value_and_grad(x, x, 1.0, wrt=wrt)
    with pytest.raises(ValueError, match=r"^grad_out: "):
        made.value_and_grad(x, x, 1.0, wrt="var", grad_out=x.copy())
    for eps in (0, -1, inf, nan):
        with pytest.raises(ValueError, match=r"^eps: got"):
            GaussianNLLLoss(eps=eps)
    memory = np.ones((5, 3))
    for name in ("out", "grad_out"):
        with pytest.raises(ValueError, match=rf"^{name}: overlaps var"):
            made.value_and_grad(x, x, memory[:4], **{name: memory[1:]})
    assert (memory == 1).all()
    assert made(x, x, np.ones((4, 3), int)).dtype == np.float64
    assert made.value_and_grad(x, x, np.ones((4, 3), int), wrt="var")[1].dtype == np.float64


def test_nothing_and_what_is_masked(isa):
    made = GaussianNLLLoss()
    assert math.isnan(made(np.zeros((0, 3)), np.zeros((0, 3)), np.ones((0, 3))))
    assert GaussianNLLLoss(empty="zero")(np.zeros(0), np.zeros(0), 1.0) == 0
    x = np.array([nan, 1.0])
    value, grads = made.value_and_grad(x, [0.0, 0.0], [nan, 4.0], mask=[False, True], wrt=WRT)
    assert value == made([1.0], [0.0], [4.0])
    assert grads[0].tolist() == [0, 0.25]
    assert grads[1].tolist() == [0, 0.5 * (0.25 - 1 / 16)]
    assert made(x, [0.0, 0.0], 1.0, sample_weight=[0, 1], mask=[False, True], normalizer=4) == 0.125


def test_a_loss_is_its_options():
    made = GaussianNLLLoss(full=True, eps=0.5)
    assert made == pickle.loads(pickle.dumps(made)) == GaussianNLLLoss(full=True, eps=0.5)
    assert hash(made) == hash(GaussianNLLLoss(full=True, eps=0.5))
    assert made != GaussianNLLLoss(eps=0.5)
    made.value_and_grad([1.0], [0.0], 1.0, wrt="var")
    assert repr(made) == "GaussianNLLLoss(full=True, eps=0.5, reduction='mean', empty='nan')"
