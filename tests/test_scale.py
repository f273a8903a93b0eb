"""What the losses of softmax read logits as, scale x + bias, and derivatives by these from the same pass."""

import itertools
import math
import tracemalloc

import mpmath as mp
import numpy as np
import pytest

import fastloss
from fastloss import CrossEntropyLoss, FocalLoss, MultinomialNLLLoss, NLLLoss, _kernels, bounds, reference
from tests.support import oracle
from tests.support.cases import fixture_of, loss, same_bits
from tests.support.oracle import assert_within

inf, nan = math.inf, math.nan
DTYPES = [np.float32, np.float64]
dtype = fixture_of(DTYPES)
LOGITS = ["cross_entropy", "focal_loss", "generalized_cross_entropy", "poly_loss", "multinomial_nll_loss"]
#: Shapes and class axes: few classes, short rows, rows, rows of several blocks, strided classes.
SHAPES = [((70, 3), 1), ((9, 40), 1), ((5, 200), 1), ((2, 4200), 1), ((3, 7, 33), 1), ((2, 150, 3), 1)]
WRT = ("input", "scale", "bias")


def numbers(kind, classes, dtype):
    """Scale and bias of a kind."""
    rng = np.random.default_rng(3)
    if kind == "number":
        return 0.75, None
    if kind == "negative":
        return -1.25, None
    scale = (rng.random(classes) + 0.25).astype(dtype)
    bias = rng.standard_normal(classes).astype(dtype)
    return {"vector": (scale, None), "bias": (1.0, bias), "both": (scale, bias)}[kind]


KINDS = ["number", "negative", "vector", "bias", "both"]


def problem(name, shape, axis, dtype, masked=True):
    """Logits, some of them -inf, and a target."""
    rng = np.random.default_rng(5)
    x = (4 * rng.standard_normal(shape)).astype(dtype)
    samples = shape[:axis] + shape[axis + 1 :]
    if name == "multinomial_nll_loss":
        return x, rng.integers(0, 3, shape).astype(dtype)
    if masked:
        np.moveaxis(x, axis, -1)[0, ..., -1] = -inf
    return x, rng.integers(0, shape[axis] - 1, samples)


def truth(name, x, y, axis, scale, bias, softcap=None, z_loss=0.0):
    """Of each sample value, gradient by scale x + bias, and gradient by x, in 50 digits."""
    rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    classes = range(rows.shape[1])
    a = [mp.mpf(float(v)) for v in np.broadcast_to(scale, rows.shape[1])]
    b = [mp.mpf(float(v)) for v in np.broadcast_to(0.0 if bias is None else bias, rows.shape[1])]
    values, inner, outer = [], [], []
    for row, t in zip(rows, y.ravel(), strict=True):
        z = [mp.mpf(float(v)) for v in row]
        z = [v if v == -mp.inf else a[j] * v + b[j] for j, v in enumerate(z)]
        slope = [1] * len(z)
        if softcap is not None:
            slope = [mp.mpf(0) if mp.isinf(v) else mp.sech(v / softcap) ** 2 for v in z]
            z = [v if mp.isinf(v) else softcap * mp.tanh(v / softcap) for v in z]
        read = oracle.Row([0.0])
        read.x, read.m = z, max(z)
        read.d = [v - read.m for v in z]
        e = [mp.exp(v) for v in read.d]
        total = mp.fsum(e)
        read.L, read.p = mp.log(total), [v / total for v in e]
        read.not_p = [mp.fsum(e[:j] + e[j + 1 :]) / total for j in classes] if len(z) < 500 else [
            (total - v) / total for v in e
        ]  # fmt: skip
        value, grad = oracle.loss_of_label(read, int(t), name, z_loss=z_loss)
        grad = [g * s for g, s in zip(grad, slope, strict=True)]
        values.append(value)
        inner.append(grad)
        outer.append([g * a[j] for j, g in enumerate(grad)])
    return values, inner, outer


@pytest.mark.parametrize("options", [{}, {"softcap": 6.0, "z_loss": 0.125}], ids=["plain", "softcap"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["cross_entropy", "focal_loss"])
def test_against_mpmath(name, kind, options, dtype, isa):
    for shape, axis in [((6, 3), 1), ((5, 17), 1), ((3, 140), 1), ((2, 5, 3), 1)]:
        classes = shape[axis]
        x, y = problem(name, shape, axis, dtype)
        scale, bias = numbers(kind, classes, dtype)
        values, inner, outer = truth(name, x, y, axis, scale, bias, **options)
        given = {**options, "scale": scale, "bias": bias, "axis": axis}
        made = loss(name, reduction="none", **given)
        value, grad = made.value_and_grad(x, y)
        allowed = bounds.loss(name, x, y, dtype=dtype, reduction="none", **given)
        assert_within(value, oracle.array(values).reshape(y.shape), allowed.value, dtype)
        exact = np.moveaxis(oracle.array(outer).reshape(*y.shape, classes), -1, axis)
        assert_within(grad, exact, allowed.grad, dtype)
        again, (by_input, by_scale, by_bias) = made.value_and_grad(x, y, wrt=WRT)
        assert same_bits(again, value)
        assert_within(by_input, exact, allowed.grad, dtype)
        rows = np.moveaxis(x, axis, -1).reshape(-1, classes)
        exact_bias = [mp.fsum(g) for g in zip(*inner, strict=True)]
        exact_scale = [
            mp.fsum(g[j] * mp.mpf(float(v[j])) for g, v in zip(inner, rows, strict=True) if g[j])
            for j in range(classes)
        ]
        if np.ndim(scale) == 0:
            exact_scale = mp.fsum(exact_scale)
        of_scale, of_bias = bounds.scaling_grad(name, x, y, dtype=dtype, reduction="none", **given)
        assert_within(by_scale, oracle.array(exact_scale), of_scale, np.float64)
        assert_within(by_bias, oracle.array(exact_bias), of_bias, np.float64)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOGITS)
def test_every_layout_and_option_agrees_with_the_reference(name, kind, reduction, isa):
    for (shape, axis), dtype in itertools.product(SHAPES, [np.float32, np.float64, np.float16]):
        wide = np.float64 if dtype == np.float64 else np.float32
        x, y = problem(name, shape, axis, dtype)
        scale, bias = numbers(kind, shape[axis], wide)
        rng = np.random.default_rng(6)
        samples = shape[:axis] + shape[axis + 1 :]
        weights = (rng.random(samples) + 0.1).astype(wide)
        mask = rng.random(samples) < 0.8
        options = {"scale": scale, "bias": bias, "axis": axis, "reduction": reduction}
        call = {"sample_weight": weights, "mask": mask, "grad_output": 1.5}
        every = {**options, **call}
        made = loss(name, **options)
        want = getattr(reference, name)(x, y, **every)
        want_sums = reference.scaling_grad(name, x, y, **every)
        allowed = bounds.against_reference(bounds.loss, wide, name, x, y, **every)
        of_sums = bounds.against_reference(bounds.scaling_grad, wide, name, x, y, **every)
        for wrt in (WRT, ("bias", "scale"), ("scale",), ("bias", "input")):
            value, grads = made.value_and_grad(x, y, wrt=wrt, **call)
            assert_within(value, want[0], allowed.value, wide)
            for by, grad in zip(wrt, grads, strict=True):
                if by == "input":
                    assert grad.dtype == dtype
                    off = (
                        bounds.rounded(allowed.grad, want[1], dtype) if dtype == np.float16 else allowed.grad
                    )
                    assert_within(grad, want[1], off, dtype)
                else:
                    at = ("scale", "bias").index(by)
                    assert np.asarray(grad).dtype == np.float64
                    assert_within(grad, want_sums[at], of_sums[at], np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_smoothing_and_weights(kind, dtype, isa):
    rng = np.random.default_rng(7)
    for shape in [(60, 6), (5, 300)]:
        x, _ = problem("multinomial_nll_loss", shape, 1, dtype)
        q = rng.dirichlet(np.ones(shape[1]), shape[0]).astype(dtype)
        scale, bias = numbers(kind, shape[1], dtype)
        for target in (q, rng.integers(0, shape[1], shape[0])):
            options = {"scale": scale, "bias": bias, "label_smoothing": 0.125, "z_loss": 0.25}
            options["weight"] = (0.5 + rng.random(shape[1])).astype(dtype)
            want = reference.cross_entropy(x, target, **options)
            sums = reference.scaling_grad("cross_entropy", x, target, **options)
            allowed = bounds.against_reference(bounds.loss, dtype, "cross_entropy", x, target, **options)
            of_sums = bounds.against_reference(
                bounds.scaling_grad, dtype, "cross_entropy", x, target, **options
            )
            value, grads = CrossEntropyLoss(**options).value_and_grad(x, target, wrt=WRT)
            assert_within(value, want[0], allowed.value, dtype)
            assert_within(grads[0], want[1], allowed.grad, dtype)
            assert_within(grads[1], sums[0], of_sums[0], np.float64)
            assert_within(grads[2], sums[1], of_sums[1], np.float64)


@pytest.mark.parametrize("name", LOGITS)
def test_derivatives_are_those_of_the_value(name):
    """By central differences of the reference, whose error is that of the third derivative."""
    x, y = problem(name, (8, 5), 1, np.float64)
    scale, bias = numbers("both", 5, np.float64)
    by_scale, by_bias = loss(name, scale=scale, bias=bias).value_and_grad(x, y, wrt=("scale", "bias"))[1]
    step = 1e-5
    for by, at, grad in (("scale", scale, by_scale), ("bias", bias, by_bias)):
        for j in range(5):
            ends = []
            for sign in (1, -1):
                moved = at.copy()
                moved[j] += sign * step
                given = {"scale": scale, "bias": bias, by: moved}
                ends.append(getattr(reference, name)(x, y, **given)[0])
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(grad[j], rel=1e-7, abs=1e-8)


def test_one_number_is_that_number_for_each_class(dtype, isa):
    for (shape, axis), name in itertools.product(SHAPES, ["cross_entropy", "focal_loss"]):
        x, y = problem(name, shape, axis, dtype)
        one = loss(name, scale=0.5, axis=axis, reduction="none")
        each = loss(name, scale=np.full(shape[axis], 0.5), axis=axis, reduction="none")
        plain = loss(name, axis=axis, reduction="none")
        half = x * dtype(0.5)  # exactly
        want, wanted = plain.value_and_grad(half, y)
        allowed = bounds.loss(name, half, y, dtype=dtype, reduction="none", axis=axis)
        for made in (one, each):
            value, grad = made.value_and_grad(x, y)
            assert_within(value, want.astype(np.float64), 2 * allowed.value, dtype)
            assert_within(grad, wanted.astype(np.float64) / 2, 2 * allowed.grad, dtype)
        by_one, by_each = (made.value_and_grad(x, y, wrt="scale")[1] for made in (one, each))
        assert isinstance(by_one, float)
        assert by_each.sum() == pytest.approx(by_one, rel=1e-4 if dtype == np.float32 else 1e-12)


def test_second_order(dtype, isa):
    """value_grad_hess and hessp, with every kind."""
    rng = np.random.default_rng(8)
    for (shape, axis), name, kind in itertools.product(SHAPES, ["cross_entropy", "focal_loss"], KINDS):
        x, y = problem(name, shape, axis, dtype)
        scale, bias = numbers(kind, shape[axis], dtype)
        options = {"scale": scale, "bias": bias, "axis": axis, "reduction": "sum"}
        made = loss(name, **options)
        value, grad, hess = made.value_grad_hess(x, y, floor=-inf)
        want = getattr(reference, name)(x, y, **options, hessian="exact", floor=-inf)
        allowed = bounds.against_reference(
            bounds.loss, dtype, name, x, y, **options, hessian="exact", floor=-inf
        )
        assert_within(value, want[0], allowed.value, dtype)
        assert_within(grad, want[1], allowed.grad, dtype)
        assert_within(hess, want[2], allowed.hess, dtype)
        v = rng.standard_normal(shape).astype(dtype)
        product = reference.hessp(name, x, y, v, **options)
        off = bounds.against_reference(bounds.hessp, dtype, name, x, y, v, **options)
        assert_within(made.hessp(x, y, v), product, off, dtype)


def test_masked_classes_remain_masked(isa):
    x = np.array([[-inf, 1.0, 2.0], [0.0, -inf, 1.0]])
    for scale, bias in ((2.0, None), (-2.0, None), (0.0, None), ([1.0, -1.0, 0.0], [5.0, 6.0, 7.0])):
        value, grads = CrossEntropyLoss(scale=scale, bias=bias).value_and_grad(x, [2, 2], wrt=WRT)
        assert np.isfinite(value)
        assert grads[0][0, 0] == grads[0][1, 1] == 0
        assert np.isfinite(grads[1]).all()
        assert np.isfinite(grads[2]).all()
    assert CrossEntropyLoss(scale=-1.0)([[-inf, 0.0]], [0]) == inf


def test_odd_samples(dtype, isa):
    """NaN and inf stay in their rows, but not in sums; ignored and masked samples are in neither."""
    for classes in (3, 40, 300):
        x = np.ones((4, classes), dtype)
        x[1, 0], x[2, 1] = nan, inf
        made = CrossEntropyLoss(scale=0.5, reduction="none")
        value, (grad, by_scale) = made.value_and_grad(x, [0, 0, 0, 0], wrt=("input", "scale"))
        assert np.isnan(value).tolist() == [False, True, True, False]
        assert np.isnan(grad).any(1).tolist() == [False, True, True, False]
        assert np.isnan(by_scale)
        for given in ({"mask": [True, False, False, True]}, {"target": [0, -100, -100, 0]}):
            target = given.pop("target", [0, 0, 0, 0])
            value, (by_bias, by_scale) = made.value_and_grad(x, target, wrt=("bias", "scale"), **given)
            assert value[1] == value[2] == 0
            assert by_scale == pytest.approx(0, abs=1e-6)
            assert by_bias[0] == pytest.approx(2 * (1 / classes - 1))


def test_nothing_counts(isa):
    for x, y in ((np.zeros((2, 3)), [-100, -100]), (np.zeros((0, 3)), np.zeros(0, int))):
        for reduction in ("mean", "sum", "none"):
            made = CrossEntropyLoss(scale=0.5, reduction=reduction)
            value, (by_scale, by_bias) = made.value_and_grad(x, y, wrt=("scale", "bias"))
            assert by_scale == 0.0
            assert by_bias.tolist() == [0.0] * 3
            assert np.isnan(value) if reduction == "mean" else np.all(np.asarray(value) == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_on_any_threads(kind, isa):
    for shape, axis in (((3000, 30), 1), ((700, 150), 1), ((40, 9, 300), 1)):
        x, y = problem("cross_entropy", shape, axis, np.float32)
        scale, bias = numbers(kind, shape[axis], np.float32)
        made = CrossEntropyLoss(scale=scale, bias=bias, axis=axis)
        found = []
        for n in (1, 2, 3):
            with fastloss.threads(n):
                value, grads = made.value_and_grad(x, y, wrt=WRT)
                found.append((value, *grads))
        for others in found[1:]:
            assert all(same_bits(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs both")
def test_the_same_bits_with_avx2_and_avx512():
    for (shape, axis), kind in itertools.product(SHAPES, KINDS):
        x, y = problem("cross_entropy", shape, axis, np.float32)
        scale, bias = numbers(kind, shape[axis], np.float32)
        found, before = [], _kernels.active
        try:
            for name in ("avx2", "avx512"):
                _kernels.use(name)
                made = CrossEntropyLoss(scale=scale, bias=bias, axis=axis, reduction="none")
                value, grads = made.value_and_grad(x, y, wrt=WRT)
                found.append((value, *grads, *made.value_and_grad(x, y)))
        finally:
            _kernels.use(before)
        assert all(same_bits(a, b) for a, b in zip(*found, strict=True))


def test_no_gradient_is_stored_for_a_scale(isa):
    x, y = problem("cross_entropy", (4000, 200), 1, np.float32)
    for kind, name in itertools.product(("number", "both"), ("cross_entropy", "focal_loss")):
        scale, bias = numbers(kind, 200, np.float32)
        made = loss(name, scale=scale, bias=bias)
        tracemalloc.start()
        try:
            made.value_and_grad(x, y, wrt=("scale",))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < x.nbytes / 10


def test_the_gradient_may_take_the_place_of_the_logits(dtype, isa):
    for (shape, axis), kind in itertools.product(SHAPES, KINDS):
        x, y = problem("cross_entropy", shape, axis, dtype)
        scale, bias = numbers(kind, shape[axis], dtype)
        made = CrossEntropyLoss(scale=scale, bias=bias, axis=axis)
        for wrt in ("input", WRT):
            want = made.value_and_grad(x, y, wrt=wrt)[1]
            own = x.copy()
            got = made.value_and_grad(own, y, wrt=wrt, grad_out=own)[1]
            both = zip(got, want, strict=True) if wrt == WRT else [(got, want)]
            assert all(same_bits(a, b) for a, b in both)


def test_temperature_has_no_slope_left(isa):
    """What `temperature` finds is where the derivative by the scale is 0."""
    x, y = problem("cross_entropy", (500, 10), 1, np.float64, masked=False)
    x[np.arange(500), y] += 3
    scale = 1 / fastloss.temperature(x, y)
    slope = CrossEntropyLoss(scale=scale).value_and_grad(x, y, wrt="scale")[1]
    assert abs(slope) < 1e-9


def test_checking(isa):
    x, y = problem("cross_entropy", (30, 8), 1, np.float32)
    for kind in KINDS:
        scale, bias = numbers(kind, 8, np.float32)
        with fastloss.checking():
            FocalLoss(scale=scale, bias=bias).value_and_grad(x, y, wrt=WRT)
            fastloss.cross_entropy(x, y, scale=scale, bias=bias)


def test_what_does_not_fit():
    x, y = np.zeros((2, 3)), [0, 1]
    made = CrossEntropyLoss(scale=0.5)
    for wrt in ("weight", ("input", "target")):
        with pytest.raises(ValueError, match=r"^wrt: got"):
            made.value_and_grad(x, y, wrt=wrt)
    with pytest.raises(ValueError, match=r"^grad_out: it is for the gradient by 'input'"):
        made.value_and_grad(x, y, wrt="scale", grad_out=np.zeros((2, 3)))
    for option in ("scale", "bias"):
        with pytest.raises(ValueError, match=rf"^{option}: got shape \(2,\), wanted \(3,\)"):
            CrossEntropyLoss(**{option: [1.0, 2.0]})(x, y)
        with pytest.raises(ValueError, match=rf"^{option}\[1\] = nan, wanted finite numbers"):
            CrossEntropyLoss(**{option: [1.0, nan]})
        with pytest.raises(TypeError, match=option):
            NLLLoss(**{option: [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"^scale: got inf"):
        MultinomialNLLLoss(scale=inf)
