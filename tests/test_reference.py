"""The kernels against the float64 NumPy reference, over sizes, axes, dtypes and options."""

import itertools
import math

import numpy as np
import pytest

import fastloss
from fastloss import _kernels, bounds, reference
from tests.support.cases import POINTWISE, REDUCED, WITH_CLASSES, loss, make, refer, run
from tests.support.oracle import assert_within

DTYPES = [np.float32, np.float64]


def around(*blocks):
    return sorted({n for b in blocks for n in (b - 1, b, b + 1) if n > 0})


#: Classes around every boundary of the rows kernel.
CLASSES = [
    1,
    2,
    15,
    31,
    32,
    33,
    *around(_kernels.ROWS_MIN_CLASSES, _kernels.SHORT_ROWS_BYTES // 4, _kernels.ROWS_BLOCK),
]
CLASSES += [2 * _kernels.ROWS_BLOCK + 1]
#: (classes, samples) around every boundary of tiles.
LANES = [(c, n) for c in (1, 2, 5, 12, 13, 127) for n in (1, *around(_kernels.LANES))]
LANES += [(c, n) for c in (3, 6, 40) for n in around(_kernels.PLANE_SAMPLES)]
#: Element counts around every boundary of the pointwise kernel.
COUNTS = [
    0,
    1,
    7,
    8,
    9,
    31,
    33,
    *around(_kernels.POINTWISE_BLOCK),
    3 * _kernels.POINTWISE_BLOCK + 5,
]

SHAPES = [((3, c), 1) for c in CLASSES]
SHAPES += [((n, c), 1) for c, n in LANES]
SHAPES += [((c, n), 0) for c, n in LANES[::3]]
SHAPES += [((2, 5, 3, 7), 1), ((2, 3, 4, 70), -1), ((2, 70, 9), 1), ((4,), 0), ((70,), 0)]


def allowed_of(case, dtype, reduction, **arguments):
    """What value and gradient may differ from the reference's."""
    options = {**case.options, **arguments, "reduction": reduction}
    return bounds.against_reference(bounds.loss, dtype, case.name, case.input, case.target, **options)


def agree(case, dtype, reduction, sample_weight=None, grad_output=None):
    arguments = {"sample_weight": sample_weight, "grad_output": grad_output}
    value, grad = run(case, reduction, **arguments)
    wanted, slope = refer(case, reduction, **arguments)
    assert (type(value) is float) == (reduction != "none")
    assert grad.dtype == dtype
    allowed = allowed_of(case, dtype, reduction, **arguments)
    assert_within(value, wanted, allowed.value, dtype)
    assert_within(grad, slope, allowed.grad, dtype)


# -------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", WITH_CLASSES)
def test_class_losses_at_block_boundaries(variant, dtype, isa, threads, rng):
    for shape, axis in SHAPES:
        agree(make(variant, rng, shape, dtype, axis, ignored=0.2), dtype, "sum")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", POINTWISE)
def test_pointwise_losses_at_block_boundaries(variant, dtype, isa, threads, rng):
    for n in COUNTS[variant.startswith("multilabel") :]:  # which has no classes then
        agree(make(variant, rng, (n,), dtype), dtype, "none" if n % 2 else "sum")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["logsumexp", "softmax", "log_softmax", "entropy_from_logits"])
def test_array_functions_at_block_boundaries(function, dtype, isa, threads, rng):
    for shape, axis in SHAPES:
        x = (3 * rng.standard_normal(shape)).astype(dtype)
        wanted = getattr(reference, function)(x, axis)
        allowed = bounds.against_reference(bounds.array_function, dtype, function, x, axis)
        got = getattr(fastloss, function)(x, axis)
        assert_within(got, wanted, allowed, dtype)
        if function == "logsumexp":
            kept = fastloss.logsumexp(x, axis, keepdims=True)
            assert np.array_equal(kept, np.expand_dims(got, axis))


@pytest.mark.parametrize("dtype", DTYPES)
def test_entropy_and_sigmoids_at_block_boundaries(dtype, isa, threads, rng):
    for shape, axis in SHAPES:
        p = reference.softmax(3 * rng.standard_normal(shape), axis).astype(dtype)
        allowed = bounds.against_reference(bounds.array_function, dtype, "entropy", p, axis)
        assert_within(fastloss.entropy(p, axis), reference.entropy(p, axis), allowed, dtype)
    for n, function in itertools.product(COUNTS, ("sigmoid", "logsigmoid")):
        x = (20 * rng.standard_normal(n)).astype(dtype)
        allowed = bounds.against_reference(bounds.array_function, dtype, function, x)
        assert_within(getattr(fastloss, function)(x), getattr(reference, function)(x), allowed, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("variant", "reduction"), REDUCED)
def test_options(variant, reduction, dtype, isa, threads, rng):
    """Every reduction with and without sample_weight and grad_output, in both kernels."""
    if variant in WITH_CLASSES:
        shapes = [((9, 5), 1), ((3, 70), 1), ((3, 7, 4), 1), ((6,), 0)]
    else:
        shapes = [((5, 7), 1), ((2, 3, 4), 1), ((6,), 0), ((1030,), 0)]
    for shape, axis in shapes:
        case = make(variant, rng, shape, dtype, axis, ignored=0.3)
        for weighted, scaled in itertools.product([False, True], repeat=2):
            sample_weight = (0.5 + rng.random(case.value_shape)).astype(dtype) if weighted else None
            grad_output = -1.75 if scaled else None
            if scaled and reduction == "none":
                grad_output = rng.standard_normal(case.value_shape).astype(dtype)
            agree(case, dtype, reduction, sample_weight, grad_output)


@pytest.mark.parametrize("variant", ["cross_entropy", "mse_loss"])
def test_sample_weight_broadcasts(variant, isa, rng):
    case = make(variant, rng, (4, 5, 6))
    for shape in [(), (1,), (6,), (4, 1)] if variant == "cross_entropy" else [(), (6,), (4, 1, 1)]:
        agree(case, np.float64, "mean", sample_weight=rng.random(shape))


def test_value_alone_is_the_value_with_gradient(isa, rng):
    for variant, reduction in REDUCED:
        case = make(variant, rng, (9, 70), np.float32)
        value = run(case, reduction)[0]
        function = getattr(fastloss, case.name)
        alone = function(case.input, case.target, **case.options, reduction=reduction)
        # the value's own sums may be ordered otherwise without a gradient: both are within bounds
        allowed = 2 * allowed_of(case, np.float32, reduction).value
        assert_within(alone, np.asarray(value, np.float64), allowed, np.float32)


def test_two_threads_share_large_work(isa, threads, rng):
    for variant, shape in [
        ("cross_entropy", (700, 300)),
        ("cross_entropy", (60000, 5)),
        ("cross_entropy", (2, 11, 9000)),
        ("binary_cross_entropy_with_logits", (300000,)),
    ]:
        case = make(variant, rng, shape, np.float32, ignored=0.1)
        agree(case, np.float32, "mean")


def test_long_sums_along_any_axis():
    """The class axis may be strided; the sum of 2049 equal terms is right to a few ulp all the same."""
    p = np.full((2049, 3), 0.25)
    exact = 2049 * (0.25 * math.log(4))
    assert np.abs(reference.entropy(p, 0) - exact).max() <= 8 * math.ulp(exact)


def test_a_weight_of_nan_counts_where_it_is_used():
    x, weight = np.zeros((2, 3)), np.array([1.0, 2.0, np.nan])
    value, grad = reference.cross_entropy(x, [0, 1], weight, reduction="none")
    assert np.isfinite(value).all()
    assert np.isfinite(grad).all()
    grad = reference.nll_loss(x, [0, 1], reduction="none", sample_weight=[np.inf, 1.0])[1]
    assert np.array_equal(grad, [[-np.inf, 0, 0], [0, -1, 0]])


def test_an_ignored_sample_has_no_weight_of_nan(isa):
    x, nan = np.zeros((2, 3)), np.array([np.nan, 1.0])
    for name in ("cross_entropy", "nll_loss"):
        value, grad = getattr(reference, name)(
            x, [-100, 1], sample_weight=nan, grad_output=nan, reduction="sum"
        )
        got = loss(name, reduction="none").value_and_grad(x, [-100, 1], sample_weight=nan, grad_output=nan)
        assert value == pytest.approx(got[0].sum())
        assert grad == pytest.approx(got[1])
        assert np.isfinite(grad).all()


def test_the_gradient_of_the_likeliest_class_does_not_cancel():
    """p of about 1, and nearly all the target's mass there too: what is left is the other classes' mass."""
    grad = reference.cross_entropy([[1000.0, 0.0, 0.0]], [0], label_smoothing=2.0**-40)[1]
    assert grad[0, 0] == pytest.approx(2.0**-40 * 2 / 3, rel=2.0**-50)
