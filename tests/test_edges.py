"""Each row of the contract's table of edges: every reduction, value and gradient, both kernels."""

import math

import numpy as np
import pytest

import fastloss
from fastloss import bounds
from fastloss.bounds import ulp
from tests.support.cases import (
    INDEXED,
    POINTWISE,
    REDUCED,
    REDUCTIONS,
    VARIANTS,
    WITH_CLASSES,
    fixture_of,
    free,
    loss,
    make,
    refer,
    run,
    same_bits,
    unchecked,
)
from tests.support.oracle import assert_within

inf, nan = math.inf, math.nan
SOFTMAX_LOSSES = [v for v in WITH_CLASSES if not v.startswith("nll")]
#: Shape and class axis for tiles, for rows and a strided class axis.
LAYOUTS = [((6, 5), 1), ((6, 70), 1), ((70, 6), 0), ((2, 5, 3), 1)]


dtype = fixture_of([np.float32, np.float64])


@pytest.fixture(params=LAYOUTS, ids=["lanes", "rows", "strided", "spatial"])
def layout(request):
    return request.param


def row(case, i):
    """Index of the i-th sample's logits, for writing."""
    at = [*np.unravel_index(i, case.value_shape)]
    if case.input.ndim > len(at):
        at.insert(case.options["axis"], slice(None))
    return tuple(at)


def sample(case, i):
    return tuple(np.unravel_index(i, case.value_shape))


# ------------------------------------------------------------------------------- labels and ignored


@pytest.mark.parametrize("label", [-1, 5, -99, 2**31, 2**62, -(2**63)])
@pytest.mark.parametrize("variant", INDEXED)
def test_wrong_label(variant, label, rng, isa):
    case = make(variant, rng, (4, 5, 3))
    case.target[2, 1] = label
    out, grad_out = np.full((4, 3), 7.0), np.full((4, 5, 3), 7.0)
    made = loss(case.name, **case.options, reduction="none")
    with pytest.raises(IndexError, match=rf"target\[2, 1\] = {label} .*5 classes"):
        made.value_and_grad(case.input, case.target, out=out, grad_out=grad_out)
    with pytest.raises(IndexError, match="target"):
        made(case.input, case.target, out=out)
    assert (out == 7).all()
    assert (grad_out == 7).all()


def test_wrong_label_of_one_sample():
    with pytest.raises(IndexError, match=r"target = 3 .*3 classes"):
        fastloss.cross_entropy([0.0, 1.0, 2.0], 3)


@pytest.mark.parametrize("ignore_index", [-100, 2, 255, -1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("variant", INDEXED)
def test_ignored_rows(variant, reduction, ignore_index, layout, dtype, rng, isa):
    """They add nothing, whatever they hold, and the others do not notice."""
    case = make(variant, rng, *layout[:1], dtype, layout[1])
    case.options["ignore_index"] = ignore_index
    case.target[case.target == ignore_index] = 1
    for i, bad in enumerate([nan, inf, -inf]):
        case.input[row(case, 2 * i)] = bad
        case.target[sample(case, 2 * i)] = ignore_index
    value, grad = run(case, reduction)
    clean = case.input.copy()
    case.input[~np.isfinite(case.input)] = 0
    value_2, grad_2 = run(case, reduction)
    assert same_bits(value, value_2)
    assert same_bits(grad, grad_2)
    assert np.isfinite(value).all()
    assert (grad[~np.isfinite(clean)] == 0).all()
    if reduction == "none":
        assert all(value[sample(case, i)] == 0 for i in (0, 2, 4))


def empty_answer(reduction, value, shape, dtype):
    if reduction == "none":
        assert value.shape == shape
        assert value.dtype == dtype
        assert (value == 0).all()
    else:
        assert type(value) is float
        assert value == 0 if reduction == "sum" else math.isnan(value)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("variant", INDEXED)
def test_everything_ignored(variant, reduction, layout, dtype, rng, isa):
    case = make(variant, rng, *layout[:1], dtype, layout[1], ignored=1.0)
    value, grad = run(case, reduction)
    empty_answer(reduction, value, case.value_shape, dtype)
    assert grad.shape == case.input.shape
    assert (grad == 0).all()


@pytest.mark.parametrize(("variant", "reduction"), REDUCED)
def test_empty_batch(variant, reduction, dtype, rng, isa):
    shapes = [(0, 5), (0, 70), (0, 5, 3), (3, 5, 0)]
    for shape in shapes[: 3 if variant.startswith("multilabel") else 4]:  # whose classes come last
        case = make(variant, rng, shape, dtype)
        value, grad = run(case, reduction)
        if reduction == "batchmean" and shape[0]:
            assert value == 0
        else:
            empty_answer(reduction, value, case.value_shape, dtype)
        assert grad.shape == shape
        assert grad.dtype == dtype


def test_empty_array_functions(dtype, isa):
    for shape in [(0, 5), (0, 70), (3, 5, 0)]:
        x = np.zeros(shape, dtype)
        for function in ("softmax", "log_softmax"):
            assert getattr(fastloss, function)(x, 1).shape == shape
        for function in ("logsumexp", "entropy", "entropy_from_logits"):
            assert getattr(fastloss, function)(x, 1).shape == shape[:1] + shape[2:]
    assert fastloss.sigmoid(np.zeros(0, dtype)).shape == (0,)
    assert fastloss.logsigmoid(np.zeros((0, 3), dtype)).shape == (0, 3)


@pytest.mark.parametrize("shape", [(3, 0), (0, 0), (2, 0, 3), (0,)])
def test_no_classes(shape, isa):
    x = np.zeros(shape)
    axis = 1 if len(shape) > 1 else 0
    labels = np.zeros(shape[:axis] + shape[axis + 1 :], int)
    reduced = {"logsumexp": -np.inf, "entropy": 0.0, "entropy_from_logits": np.nan}
    for function, nothing in reduced.items():
        result = getattr(fastloss, function)(x, axis)
        np.testing.assert_array_equal(result, np.full(labels.shape, nothing))
        np.testing.assert_array_equal(getattr(fastloss.reference, function)(x, axis), result)
        assert np.array_equal(getattr(fastloss, function)(x, None), nothing, equal_nan=True)
    for function in ("softmax", "log_softmax"):
        for axes in (axis, None, ()):
            assert getattr(fastloss, function)(x, axes).shape == shape
            assert getattr(fastloss.reference, function)(x, axes).shape == shape
    for function in ("cross_entropy", "nll_loss"):
        with pytest.raises(ValueError, match="class"):
            getattr(fastloss, function)(x, labels)
    for function in ("cross_entropy", "multinomial_nll_loss"):
        with pytest.raises(ValueError, match="class"):
            getattr(fastloss, function)(x, x)


# ------------------------------------------------------------------------------- infinities and NaN


def masked(variant, rng, layout, dtype):
    """A case whose last class is masked everywhere and has no mass, and the same without it."""
    shape, axis = layout
    case = make(variant, rng, shape, dtype, axis)
    last = [slice(None)] * len(shape)
    last[axis] = slice(-1, None)
    case.input[tuple(last)] = -inf
    if variant in INDEXED:
        case.target = np.minimum(case.target, shape[axis] - 2)
    else:
        case.target[tuple(last)] = 0
        if case.name == "cross_entropy":
            case.target /= case.target.sum(axis, keepdims=True)
    return case, tuple(last)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("variant", [v for v in SOFTMAX_LOSSES if "smoothed" not in v])
def test_masked_class(variant, reduction, layout, dtype, rng, isa):
    """Probability 0, gradient 0, and the loss as if the class did not exist."""
    case, last = masked(variant, rng, layout, dtype)
    value, grad = run(case, reduction)
    assert (grad[last] == 0).all()
    axis = layout[1]
    without = make(variant, rng, *layout[:1], dtype, axis)
    without.input = np.delete(case.input, -1, axis)
    without.target = case.target if variant in INDEXED else np.delete(case.target, -1, axis)
    without.options = dict(case.options)
    for option in ("weight", "scale", "bias"):
        if np.ndim(case.options.get(option)) == 1:
            without.options[option] = case.options[option][:-1]
    value_2, grad_2 = run(without, reduction)
    options = {**without.options, "reduction": reduction}
    allowed = bounds.loss(without.name, without.input, without.target, dtype=dtype, **options)
    assert_within(value, np.float64(value_2), 2 * allowed.value, dtype)
    assert_within(np.delete(grad, -1, axis), np.float64(grad_2), 2 * allowed.grad, dtype)


def test_masked_class_in_array_functions(layout, dtype, rng, isa):
    case, last = masked("cross_entropy", rng, layout, dtype)
    axis = layout[1]
    assert (fastloss.softmax(case.input, axis)[last] == 0).all()
    assert (fastloss.log_softmax(case.input, axis)[last] == -inf).all()
    for function in ("logsumexp", "entropy_from_logits"):
        with_it = getattr(fastloss, function)(case.input, axis)
        without = getattr(fastloss, function)(np.delete(case.input, -1, axis), axis)
        assert_within(with_it, np.float64(without), 4 * ulp(without, dtype), dtype)


@pytest.mark.parametrize("variant", SOFTMAX_LOSSES)
def test_mass_on_a_masked_class_is_infinite(variant, layout, dtype, rng, isa):
    """As the target, as a part of it, or by smoothing; in that row alone."""
    shape, axis = layout
    case = make(variant, rng, shape, dtype, axis)
    case.options |= unchecked(case.name)
    good = run(case, "none")[0]
    at = list(row(case, 3))
    at[axis] = 2
    case.input[tuple(at)] = -inf
    if variant in INDEXED:
        case.target[sample(case, 3)] = 2 if "smoothed" not in variant else 1
    else:
        case.target[tuple(at)] = 1
    value, grad = run(case, "none")
    bounded = case.name == "generalized_cross_entropy"  # by 1 / q
    wanted = refer(case, "none")[0][sample(case, 3)] if bounded else inf
    assert value[sample(case, 3)] == pytest.approx(wanted, rel=float(8 * np.finfo(value.dtype).eps))
    assert not np.isnan(grad).any()
    others = np.arange(value.size) != 3
    assert same_bits(value.ravel()[others], good.ravel()[others])
    for reduction in ("sum", "mean"):
        assert (run(case, reduction)[0] == inf) != bounded


def alone(case, i, value, grad, wanted):
    """Sample i has ``wanted`` for value and gradient, the others what they have without it."""
    changed = value[sample(case, i)]
    assert np.isnan(changed) if np.isnan(wanted) else changed == wanted
    assert np.isnan(grad[row(case, i)]).all()
    clean = case.input.copy()
    case.input[row(case, i)] = 0.5
    value_2, grad_2 = run(case, "none")
    others = np.ones(case.value_shape, bool)
    others[sample(case, i)] = False
    assert same_bits(value[others], value_2[others])
    spread = np.ones(case.input.shape, bool)
    spread[row(case, i)] = False
    assert same_bits(grad[spread], grad_2[spread])
    case.input = clean


@pytest.mark.parametrize("variant", SOFTMAX_LOSSES)
def test_bad_row_is_nan_alone(variant, layout, dtype, rng, isa):
    """NaN in a row, +inf in a row, a row of -inf."""
    shape, axis = layout
    for i, (value, where) in enumerate([(nan, 0), (nan, -1), (inf, 2), (-inf, slice(None))]):
        case = make(variant, rng, shape, dtype, axis)
        at = list(row(case, i))
        at[axis] = where
        case.input[tuple(at)] = value
        alone(case, i, *run(case, "none"), nan)
        assert math.isnan(run(case, "sum")[0])
        assert math.isnan(run(case, "mean")[0])


@pytest.mark.parametrize("dense", [False, True], ids=["label", "probabilities"])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"softcap": 5.0}, {"z_loss": 0.1}], ids=str
)
def test_every_position_of_nan_is_found(options, dense, dtype, isa):
    """Whatever the lane or block, first, last or in between, and where the target is 0."""
    for classes in (3, 13, 33, 64, 100, 150, 1030):
        x = np.zeros((classes, classes if classes < 200 else 12), dtype).T.copy()
        for i in range(len(x)):
            x[i, (i * 97 + classes - 1) % classes] = nan
        x = np.concatenate([x, np.zeros((1, classes), dtype)])
        target = np.eye(1, classes, dtype=dtype).repeat(len(x), 0) if dense else np.zeros(len(x), int)
        value, grad = loss("cross_entropy", reduction="none", **options).value_and_grad(x, target)
        assert np.isnan(value).tolist() == [True] * (len(x) - 1) + [False]
        assert np.isnan(grad).all(1).tolist() == [True] * (len(x) - 1) + [False]


def test_nan_of_one_class(dtype, isa):
    x = np.array([nan, -inf, inf, 0.5], dtype)
    for shape, axis in [((4, 1), 1), ((1, 4), 0)]:
        assert np.array_equal(fastloss.logsumexp(x.reshape(shape), axis), x, equal_nan=True)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "focal_loss"])
def test_class_weights_of_0_leave_nothing(name, dtype, isa):
    for options in ({}, {"empty": "zero"}):
        made = loss(name, weight=np.zeros(3, dtype), **options)
        value, grad = made.value_and_grad(np.arange(6).reshape(2, 3).astype(dtype), [0, 2])
        assert value == 0 if options else np.isnan(value)
        assert not grad.any()


def test_nan_in_nll_is_the_targets_own(layout, dtype, rng, isa):
    shape, axis = layout
    case = make("nll_loss", rng, shape, dtype, axis)
    case.input[row(case, 1)] = nan
    value = run(case, "none")[0]
    assert np.flatnonzero(np.isnan(value)).tolist() == [1]


def test_array_functions_of_bad_rows(layout, dtype, rng, isa):
    shape, axis = layout
    case = make("cross_entropy", rng, shape, dtype, axis)
    good = case.input.copy()
    at = [list(row(case, i)) for i in range(4)]
    for index, place, bad in zip(at, [1, 3, slice(None), 4], [nan, inf, -inf, nan], strict=True):
        index[axis] = place
        case.input[tuple(index)] = bad
    index[axis] = 0
    case.input[tuple(index)] = inf  # the fourth row has NaN and inf
    lse = fastloss.logsumexp(case.input, axis).ravel()
    assert np.array_equal(lse[:4], [nan, inf, -inf, nan], equal_nan=True)
    assert same_bits(lse[4:], fastloss.logsumexp(good, axis).ravel()[4:])
    for function in ("softmax", "log_softmax"):
        got = np.moveaxis(getattr(fastloss, function)(case.input, axis), axis, -1)
        fine = np.moveaxis(getattr(fastloss, function)(good, axis), axis, -1)
        got, fine = (a.reshape(-1, shape[axis]) for a in (got, fine))
        assert np.isnan(got[:4]).all()
        assert same_bits(got[4:], fine[4:])
    got = fastloss.entropy_from_logits(case.input, axis).ravel()
    assert np.isnan(got[:4]).all()
    assert np.isfinite(got[4:]).all()


@pytest.mark.parametrize("variant", POINTWISE)
def test_nan_in_pointwise_losses_is_the_elements_own(variant, dtype, rng, isa):
    for n in (3, 520):
        case = make(variant, rng, (n, 1), dtype)
        case.input[1] = nan
        value, grad = run(case, "none")
        if case.target[1] != 0 or "kl_div" not in variant:
            assert np.flatnonzero(np.isnan(value)).tolist() == [1]
        if "kl_div" not in variant:  # its gradient does not depend on the input
            assert np.flatnonzero(np.isnan(grad)).tolist() == [1]


# ------------------------------------------------------------------------------------ binary and KL


@pytest.mark.parametrize("n", [1, 600])
def test_binary_cross_entropy_with_logits_at_infinity(n, dtype, isa):
    x = np.repeat([inf, -inf, inf, -inf, inf, -inf], n).astype(dtype)
    y = np.repeat([1, 0, 0, 1, 0.5, 0.25], n).astype(dtype)
    value, grad = loss("binary_cross_entropy_with_logits", reduction="none").value_and_grad(x, y)
    assert value.tolist() == np.repeat([0, 0, inf, inf, inf, inf], n).tolist()
    assert grad.tolist() == np.repeat([0, 0, 1, -1, 0.5, -0.25], n).tolist()


@pytest.mark.parametrize("n", [1, 600])
def test_binary_cross_entropy_at_0_and_1(n, dtype, isa):
    tiny = np.finfo(dtype).smallest_subnormal
    p = np.repeat([0, 1, 0, 1, tiny], n).astype(dtype)
    y = np.repeat([0, 1, 1, 0, 1], n).astype(dtype)
    value, grad = loss("binary_cross_entropy", reduction="none").value_and_grad(p, y)
    assert value.tolist() == np.repeat([0, 0, 100, 100, 100], n).tolist()
    wanted = np.repeat([0, 0, -1e12, 1e12, -1e12], n)
    assert_within(grad, wanted, 2 * ulp(wanted, dtype), dtype)


@pytest.mark.parametrize("place", [0, 130, 511, 700, 1100])
@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("binary_cross_entropy", 0.0, 1.0),
        ("binary_cross_entropy", 1.0, 0.0),
        ("binary_cross_entropy", 1e-44, 1.0),
        ("binary_cross_entropy", 1e-39, 1.0),
        ("binary_cross_entropy", nan, 1.0),
        ("binary_cross_entropy", 0.3, 0.4),
        ("binary_cross_entropy_with_logits", inf, 1.0),
        ("binary_cross_entropy_with_logits", inf, 0.0),
        ("binary_cross_entropy_with_logits", -1e30, 1.0),
        ("binary_cross_entropy_with_logits", -100.0, 0.0),
        ("binary_cross_entropy_with_logits", nan, 1.0),
        ("binary_cross_entropy_with_logits", 1.0, nan),
        ("soft_margin_loss", inf, 1.0),
        ("soft_margin_loss", -inf, 1.0),
        ("soft_margin_loss", 100.0, 1.0),
        ("soft_margin_loss", 3.0, nan),
    ],
)
def test_what_is_rare_among_many(name, x, y, place, dtype, rng, isa):
    """Sums of whole blocks, with and without a gradient, where one element is not like the others."""
    a, labels = rng.random(1200).astype(dtype), rng.integers(0, 2, 1200).astype(dtype)
    if name != "binary_cross_entropy":
        a = (8 * a - 4).astype(dtype)
    if name == "soft_margin_loss":
        labels = 2 * labels - 1
    a[place], labels[place] = x, y
    want, _ = getattr(fastloss.reference, name)(a, labels, reduction="sum")
    allowed = bounds.loss(name, a, labels, dtype=dtype, reduction="sum").value
    got, grad = free(name, reduction="sum").value_and_grad(a, labels)
    assert bounds.shares(got, want, allowed) <= 1
    assert same_bits(got, free(name, reduction="sum")(a, labels))
    _, each_grad = free(name, reduction="none").value_and_grad(a, labels)
    assert same_bits(grad, each_grad)


@pytest.mark.parametrize("n", [1, 600])
def test_binary_cross_entropy_at_minus_0(n, dtype, isa):
    """What relu or clip leaves of it is the probability 0."""
    y = np.repeat([0, 1, 0.5], n).astype(dtype)
    found = [
        loss("binary_cross_entropy", reduction="none").value_and_grad(np.full(3 * n, zero, dtype), y)
        for zero in (0.0, -0.0)
    ]
    assert all(same_bits(abs(a), abs(b)) for a, b in zip(*found, strict=True))
    assert found[0][0].tolist() == np.repeat([0, 100, 50], n).tolist()


def test_poisson_at_infinity_of_target_0(dtype, isa):
    x, y = np.array([inf, inf, 1], dtype), np.array([0, 1, 0], dtype)
    with fastloss.checking():
        value, grad, hess = loss("poisson_nll_loss", log_input=False, reduction="none").value_grad_hess(x, y)
    assert (value.tolist(), grad.tolist(), hess.tolist()) == ([inf, inf, 1], [1, 1, 1], [0, 0, 0])


@pytest.mark.parametrize("bad", [-0.001, 1.5, inf, -inf])
def test_binary_cross_entropy_outside_0_and_1(bad, dtype, isa):
    for n in (7, 1500):
        p = np.full((2, n), 0.5, dtype)
        p[1, n - 2] = bad
        out, grad_out = np.full_like(p, 7), np.full_like(p, 7)
        made = loss("binary_cross_entropy", reduction="none")
        with pytest.raises(ValueError, match=rf"input\[1, {n - 2}\] = {str(bad)[:5]}.*\[0, 1\]"):
            made.value_and_grad(p, np.zeros_like(p), out=out, grad_out=grad_out)
        assert (out == 7).all()
        assert (grad_out == 7).all()
        with pytest.raises(ValueError, match="input"):
            fastloss.binary_cross_entropy(p, np.zeros_like(p))


def test_kl_div_of_target_0(dtype, isa):
    x = np.array([-inf, -1, 0, -inf, -1], dtype)
    y = np.array([0, 0, 0, 0.5, 1], dtype)
    value, grad = loss("kl_div", reduction="none", unchecked=True).value_and_grad(x, y)
    assert value.tolist() == [0, 0, 0, inf, 1]
    assert grad.tolist() == [0, 0, 0, -0.5, -1]
    t = np.array([-inf, -inf, -inf, 0, 0], dtype)
    value, grad = loss("kl_div", reduction="none", log_target=True).value_and_grad(x, t)
    assert value.tolist() == [0, 0, 0, inf, 1]
    assert grad.tolist() == [0, 0, 0, -1, -1]


def test_entropy_of_0_and_1(dtype, isa):
    for classes in (3, 70):
        p = np.zeros((2, classes), dtype)
        p[:, 1] = 1
        p[1, 2] = nan
        got = fastloss.entropy(p)
        assert got[0] == 0
        assert np.isnan(got[1])


# ----------------------------------------------------------------------------- numbers in the table


def test_confident_rows(dtype, isa):
    """Alone, and in the middle of masked classes."""
    loss_value, slope = 2.061153620314381e-09, 2.0611536181902037e-09
    for width in (2, 70):
        x = np.full(width, -inf, dtype)
        x[:2] = 20, 0
        assert_within(fastloss.cross_entropy(x, 0), loss_value, 2 * ulp(loss_value, dtype), dtype)
        value, grad = loss("cross_entropy").value_and_grad(x, 0)
        assert_within(value, loss_value, 2 * ulp(loss_value, dtype), dtype)
        assert_within(grad[:2], np.array([-slope, slope]), 4 * ulp(slope, dtype), dtype)
    x = np.array([-30], dtype)
    got = fastloss.binary_cross_entropy_with_logits(x, np.zeros_like(x))
    assert_within(got, 9.357622968839737e-14, 2 * ulp(got, dtype), dtype)


def test_large_common_offset(dtype, isa):
    for width in (2, 70):
        x = np.full(width, -inf, dtype)
        x[:2] = 1e8
        got = fastloss.cross_entropy(x, 0, reduction="none")
        assert_within(got, math.log(2), ulp(math.log(2), dtype), dtype)
    x = np.array([1e30, 0, -1e30], dtype)
    value, grad = loss("cross_entropy", reduction="none").value_and_grad(np.stack([x] * 3), [0, 1, 2])
    big = np.float64(dtype(1e30))
    assert value.tolist() == [0, big, 2 * big]
    assert grad.tolist() == [[0, 0, 0], [1, -1, 0], [1, 0, -1]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_mean_with_a_divisor_of_zero(variant, dtype, rng, isa):
    case = make(variant, rng, (4, 5), dtype)
    value, grad = run(case, "mean", sample_weight=np.zeros(case.value_shape, dtype))
    assert math.isnan(value)
    assert (grad == 0).all()


def test_one_class(dtype, isa):
    """Certain: loss 0, gradient 0, whatever the logit."""
    for shape in [(5, 1), (200, 1), (5, 1, 80)]:
        x = np.linspace(-1e4, 1e4, math.prod(shape)).reshape(shape).astype(dtype)
        labels = np.zeros(shape[:1] + shape[2:], np.int8)
        value, grad = loss("cross_entropy", reduction="none").value_and_grad(x, labels)
        assert (value == 0).all()
        assert (grad == 0).all()
        assert (fastloss.softmax(x, 1) == 1).all()
        assert np.array_equal(fastloss.logsumexp(x, 1), x[:, 0])


@pytest.mark.parametrize("classes", [5, 40, 100, 3000])
def test_terms_below_the_smallest_normal_number_count(classes, isa):
    """exp(-90) is not a normal float32, the sum of thousands of them is."""
    x = np.zeros((1, classes), np.float32)
    x[0, 0] = 90
    want = np.array([(classes - 1) * math.exp(-90)])
    got = fastloss.cross_entropy(x, [0], reduction="none")
    # 2 ulp and u sum p|d|, the bound of every row
    allowed = 2 * ulp(want, np.float32) + 2.0**-24 * 90 * want
    assert_within(got, want, allowed, np.float32)


@pytest.mark.parametrize("classes", [3, 80])
def test_class_weight_0_keeps_nan(classes, isa):
    x = np.zeros((3, classes))
    x[0, 1] = nan
    x[1, 1] = inf
    weight = np.ones(classes)
    weight[0] = 0
    value, grad = fastloss.CrossEntropyLoss(weight, reduction="none").value_and_grad(x, [0, 0, 0])
    assert np.array_equal(np.isnan(value), [True, True, False])
    assert np.array_equal(np.isnan(grad).any(1), [True, True, False])


def test_class_weight_0_drops_an_infinite_loss(isa):
    x, weight = [[-inf, 0.0]], [0.0, 1.0]
    assert fastloss.cross_entropy(x, [0], weight, reduction="sum") == 0
    assert fastloss.nll_loss(x, [0], weight, reduction="sum") == 0


def test_kl_div_of_nan_is_nan_even_for_target_0(isa):
    assert math.isnan(fastloss.kl_div([nan], [0.0], unchecked=True))
    assert math.isnan(fastloss.kl_div([nan], [-inf], log_target=True))


@pytest.mark.parametrize("classes", [3, 80])
def test_gradient_of_a_nearly_one_hot_target(classes, isa):
    """The target's entry is the difference of sums as small as the other classes'."""
    x = np.zeros((1, classes), np.float32)
    x[0, 0] = 16
    q = np.full((1, classes), 1.5e-7, np.float32)
    q[0, 0] = 1 - 1.5e-7 * (classes - 1)
    got = fastloss.CrossEntropyLoss().value_and_grad(x, q)[1]
    want = fastloss.reference.cross_entropy(x, q)[1]
    p = fastloss.reference.softmax(x)
    others = np.minimum(p, 1 - p) + np.minimum(q, 1 - q.astype(np.float64))  # the terms that do not cancel
    assert_within(got, want, 64 * np.finfo(np.float32).eps * others, np.float32)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_of_a_single_number(reduction, isa):
    """Everything without dimensions."""
    made = fastloss.BCEWithLogitsLoss(np.float32(2), pos_weight=np.float32(3), reduction=reduction)
    value, grad = made.value_and_grad(np.float32(0), np.float32(1), sample_weight=np.float32(1))
    assert value == pytest.approx(6 * np.log(2), rel=1e-6)
    assert grad == pytest.approx(-3.0)
