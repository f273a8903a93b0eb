"""Data that is missing: masks, several ignored labels, means of nothing, means over parts of a batch."""

import itertools

import numpy as np
import pytest

import fastloss
from fastloss import bounds, reference
from tests.support.cases import (
    ARRAY_FUNCTIONS,
    INDEXED,
    REDUCED,
    VARIANTS,
    WITH_CLASSES,
    loss,
    make,
    refer,
    run,
    same_bits,
    unchecked,
)
from tests.support.oracle import assert_within

#: What may stand where nothing counts; in labels a number out of range.
MISSING = (np.nan, np.inf, -np.inf)


def shapes(variant):
    """(shape, class axis): few classes, two blocks of classes, a strided class axis."""
    shapes = (((70, 5), 1), ((9, 2100), 1), ((5, 6, 130), 1))
    return shapes if variant in WITH_CLASSES else (((70, 5), 1), ((5, 700), 1))


def spoiled(case, mask, axis):
    """The case with numbers that must not be read where the mask is False."""
    x, y = case.input.copy(), case.target.copy()
    entries = np.broadcast_to(mask if x.shape == mask.shape else np.expand_dims(mask, axis), x.shape)
    x[~entries] = np.resize(MISSING, np.count_nonzero(~entries))
    if y.dtype.kind == "f":
        y[~entries] = np.resize(MISSING, np.count_nonzero(~entries))
    else:
        y[~mask] = np.resize((-7, 10**9), np.count_nonzero(~mask))
    case.input, case.target = x, y


def chosen(case, mask, axis):
    """The same without the samples that do not count, one after another."""
    if case.input.shape == mask.shape:
        return case.input[mask], case.target[mask]
    x = np.moveaxis(case.input, axis, -1)[mask]
    y = (
        np.moveaxis(case.target, axis, -1)[mask]
        if case.target.shape == case.input.shape
        else case.target[mask]
    )
    return x, y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("variant", "reduction"), REDUCED)
def test_masked_samples_count_nowhere(variant, reduction, dtype, isa, threads, rng):
    for (shape, axis), weighted in itertools.product(shapes(variant), (False, True)):
        case = make(variant, rng, shape, dtype, axis)
        for option in ("weight", "pos_weight"):
            if variant not in WITH_CLASSES and option in case.options:
                case.options[option] = dtype(1.25)  # the same for all, as what is chosen has another shape
        mask = rng.random(case.value_shape) < 0.6
        mask.flat[:3] = False, True, False
        arguments, kept = {}, {}
        if weighted:
            weight = rng.random(case.value_shape).astype(dtype)
            upstream = rng.random(case.value_shape if reduction == "none" else ()).astype(dtype)
            kept = {
                "sample_weight": weight[mask],
                "grad_output": upstream[mask] if upstream.ndim else upstream,
            }
            weight[~mask] = np.nan
            if upstream.ndim:
                upstream[~mask] = np.inf
            arguments = {"sample_weight": weight, "grad_output": upstream}
        x, y = chosen(case, mask, axis)
        options = {**case.options, "reduction": reduction, **({"axis": 1} if "axis" in case.options else {})}
        options |= unchecked(case.name)  # parts of distributions
        expected, slopes = loss(case.name, **options).value_and_grad(x, y, **kept)
        spoiled(case, mask, axis)
        value, grad = run(case, reduction, mask=mask, **arguments)
        if reduction == "batchmean":
            expected, slopes = expected * len(x) / shape[0], slopes * dtype(len(x) / shape[0])
        if grad.shape == mask.shape:
            assert (grad[~mask] == 0).all()
            got = grad[mask]
        else:
            assert (np.moveaxis(grad, axis, -1)[~mask] == 0).all()
            got = np.moveaxis(grad, axis, -1)[mask]
        # with the class axis elsewhere, or another divisor, the last digit may differ
        unit = np.finfo(dtype).eps
        np.testing.assert_allclose(got, slopes, rtol=64 * unit, atol=64 * unit * np.abs(slopes).max())
        if reduction == "none":
            assert (value[~mask] == 0).all()
            np.testing.assert_allclose(value[mask], expected, rtol=64 * unit, atol=64 * unit)
        else:
            np.testing.assert_allclose(value, expected, rtol=64 * unit)
        assert run_value(case, reduction, mask=mask, **arguments) == pytest.approx(value, rel=0, abs=0)
        wanted = refer(case, reduction, mask=mask, **arguments)
        np.testing.assert_allclose(value, wanted[0], rtol=64 * unit, atol=64 * unit)
        np.testing.assert_allclose(grad, wanted[1], rtol=64 * unit, atol=64 * unit * np.abs(wanted[1]).max())
        with fastloss.checking():
            run(case, reduction, mask=mask, **arguments)


def run_value(case, reduction, **arguments):
    arguments.pop("grad_output", None)
    return loss(case.name, **case.options, reduction=reduction)(case.input, case.target, **arguments)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_mask_of_any_shape(variant, isa, rng):
    """Broadcast as the value under "none"; True everywhere changes no bit, a mask no bit of what counts."""
    last = variant.startswith("multilabel")  # where the classes are
    case = make(variant, rng, (6, 40, 5) if last else (6, 5, 40))
    n = len(case.value_shape)
    if variant not in WITH_CLASSES:
        case.options.pop("weight", None)
    value, grad = run(case, "none")
    for mask_shape in {case.value_shape, case.value_shape[1:], (6, *(1,) * (n - 1)), (1,) * n, (), (40,)}:
        mask = rng.random(mask_shape) < 0.5
        full = np.broadcast_to(mask, case.value_shape)
        entries = full if n == 3 else full[..., None] if last else full[:, None]
        for same in (
            mask,
            np.asfortranarray(mask),
            mask.tolist(),
            full,
            np.repeat(mask[..., None], 2, -1)[..., 0],
        ):
            masked_value, masked_grad = run(case, "none", mask=same)
            assert same_bits(masked_value, np.where(full, value, 0.0))
            assert same_bits(masked_grad, np.where(entries, grad, 0.0))
        for reduction in ("mean", "sum"):
            wanted = refer(case, reduction, mask=mask)
            got = run(case, reduction, mask=mask)
            given = {**case.options, "reduction": reduction, "mask": mask}
            bound = bounds.loss, np.float64, case.name, case.input, case.target
            allowed_of = bounds.against_reference(*bound, **given)
            for one, other, allowed in zip(got, wanted, (allowed_of.value, allowed_of.grad), strict=True):
                assert_within(one, other, allowed, np.float64)
    everything = np.ones((), bool)
    for reduction in ("mean", "sum", "none"):
        for got, expected in zip(run(case, reduction, mask=everything), run(case, reduction), strict=True):
            assert same_bits(got, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_masked_in_place_and_half(variant, isa, rng):
    case = make(variant, rng, (12, 100), np.float16)
    mask = rng.random(case.value_shape) < 0.5
    spoiled(case, mask, 1)
    value, grad = run(case, "none", mask=mask)
    out, x = np.full(case.value_shape, 7, np.float32), case.input.copy()
    made = loss(case.name, **case.options, reduction="none")
    got = made.value_and_grad(x, case.target, mask=mask, out=out, grad_out=x)
    assert got[0] is out
    assert got[1] is x
    assert same_bits(out, value)
    assert same_bits(x, grad)
    assert np.isfinite(value).all()
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("bad", MISSING)
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_arrives_does_not_reach_what_is_masked(variant, bad, isa, rng):
    """As where a scaled loss overflows: the gradient is 0 where nothing counts."""
    case = make(variant, rng, (12, 5), np.float32)
    mask = rng.random(case.value_shape) < 0.5
    for reduction in ("sum", "none"):
        assert not run(case, reduction, mask=mask, grad_output=bad)[1][~mask].any()


def test_mask_may_not_be_written(rng):
    memory = np.ones(8, bool)
    out = memory.view(np.float64)
    with pytest.raises(ValueError, match=r"^out: overlaps mask"):
        fastloss.mse_loss([1.0], [2.0], mask=memory[:1], reduction="none", out=out)


def test_a_wrong_label_that_counts_is_named():
    x, labels = np.zeros((3, 4)), np.array([9, 1, 9], np.uint64)
    with pytest.raises(IndexError, match=r"^target\[2\] = 9 is out of range for 4 classes"):
        fastloss.cross_entropy(x, labels, mask=[False, True, True])
    labels[2] = 2**64 - 1
    with pytest.raises(IndexError, match=rf"^target\[2\] = {2**64 - 1} "):
        fastloss.cross_entropy(x, labels, mask=[False, True, True])
    assert fastloss.cross_entropy(x, labels, mask=[False, True, False]) == pytest.approx(np.log(4))
    with pytest.raises(ValueError, match=r"^input\[2\] = 3.0 is outside \[0, 1\]"):
        fastloss.binary_cross_entropy([2.0, 0.5, 3.0], [0, 0, 0], mask=[False, True, True])
    with pytest.raises(ValueError, match=r"^target\[1, 0\] = -1.0 is negative"):
        fastloss.multinomial_nll_loss(np.zeros((2, 2)), [[-2.0, 1], [-1, 1]], mask=[False, True], full=True)


@pytest.mark.parametrize("variant", INDEXED)
def test_several_ignored_labels(variant, isa, threads, rng):
    for (shape, axis), dtype in itertools.product(shapes(variant), (np.int64, np.int8, np.uint8)):
        case = make(variant, rng, shape, axis=axis)
        case.target = np.where(rng.random(case.value_shape) < 0.3, 100, case.target % 5).astype(dtype)
        for ignored in ((100, 2), [2, 100], {100, 2}, np.array([100, 2]), range(100, 1, -98)):
            case.options["ignore_index"] = ignored
            value, grad = run(case)
            mask = (case.target != 100) & (case.target != 2)
            del case.options["ignore_index"]
            for got, expected in zip((value, grad), run(case, mask=mask), strict=True):
                assert same_bits(got, expected)
            case.options["ignore_index"] = ignored
            np.testing.assert_allclose(value, refer(case)[0], rtol=1e-13)
            with fastloss.checking():
                run(case, mask=rng.random(case.value_shape) < 0.5)
    assert loss("nll_loss", ignore_index=[1, 2]).ignore_index == (1, 2)
    assert loss("nll_loss", ignore_index=[1]) == loss("nll_loss", ignore_index=(1,))


def test_no_ignored_label():
    x = [[0.0, 0.0]]
    assert fastloss.cross_entropy(x, [1], ignore_index=()) == fastloss.cross_entropy(x, [1])
    with pytest.raises(IndexError, match=r"target\[0\] = -100 "):
        fastloss.cross_entropy(x, [-100], ignore_index=())


@pytest.mark.parametrize(("variant", "reduction"), REDUCED)
def test_a_mean_of_nothing(variant, reduction, rng):
    case = make(variant, rng, (4, 5), np.float32)
    for empty in ("nan", "zero"):
        case.options["empty"] = empty
        value, grad = run(case, reduction, mask=False)
        assert (grad == 0).all()
        assert same_bits(value, np.asarray(refer(case, reduction, mask=False)[0], np.asarray(value).dtype))
        nothing = np.nan if reduction == "mean" and empty == "nan" else 0.0
        assert np.array_equal(value, np.full(np.shape(value), nothing), equal_nan=True)
        with fastloss.checking():
            run(case, reduction, mask=False)
        if reduction in ("mean", "batchmean"):
            samples = case.input[:0], case.target[:0]
            case.options.pop("weight", None)
            case.options.pop("pos_weight", None)
            made = loss(case.name, **case.options, reduction=reduction)
            for got in (made(*samples), made.value_and_grad(*samples)[0]):
                assert got == 0 if empty == "zero" else np.isnan(got)


def test_everything_ignored_may_be_zero():
    x, ignored = np.zeros((3, 4)), np.full(3, -100)
    assert fastloss.cross_entropy(x, ignored, empty="zero") == 0
    assert np.isnan(fastloss.cross_entropy(x, ignored))
    value, grad = fastloss.NLLLoss(empty="zero").value_and_grad(x, ignored)
    assert value == 0
    assert (grad == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_of_a_batch_add_up(variant, dtype, isa, rng):
    """With the divisor of the whole: values and gradients of unequal parts, and of one that is empty."""
    case = make(variant, rng, (37, 40), dtype, ignored=0.3)
    whole, slopes = run(case)
    options = {**case.options}
    if "weight" in options and case.name.startswith("binary"):
        options["weight"] = np.broadcast_to(options["weight"], (37, 40))
        if "pos_weight" in options:
            options["pos_weight"] = np.broadcast_to(options["pos_weight"], (37, 40))
    ones = {**case.options, "reduction": "sum"}
    divisor = loss(case.name, **ones)(case.input, case.target) / whole
    assert divisor == pytest.approx(np.round(divisor), rel=1e-6) or "weight" in case.options
    total, parts = 0.0, []
    for start, stop in ((0, 5), (5, 5), (5, 30), (30, 37)):
        here = {
            name: value[start:stop] if isinstance(value, np.ndarray) and value.shape == (37, 40) else value
            for name, value in options.items()
        }
        made = loss(case.name, **here)
        x, y = case.input[start:stop], case.target[start:stop]
        value, grad = made.value_and_grad(x, y, normalizer=divisor)
        assert made(x, y, normalizer=divisor) == value
        assert reference_of(case, here, x, y, divisor) == pytest.approx(value, rel=1e-5)
        total += value
        parts.append(grad)
    assert total == pytest.approx(whole, rel=1e-14)
    np.testing.assert_allclose(np.concatenate(parts), slopes, rtol=4 * np.finfo(dtype).eps)


def reference_of(case, options, x, y, normalizer):
    return getattr(reference, case.name)(x, y, **options, normalizer=normalizer)[0]


def test_normalizer_is_for_means():
    x, y = [1.0, 3.0], [0.0, 0.0]
    assert fastloss.mse_loss(x, y, normalizer=4) == 2.5
    assert fastloss.mse_loss(x, y, normalizer=np.float32(4), sample_weight=[2.0, 0.0]) == 0.5
    assert fastloss.kl_div([[-1.0]], [[1.0]], reduction="batchmean", normalizer=4) == 0.25
    assert fastloss.mse_loss(x, y, normalizer=4, mask=False) == 0
    for bad in (0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^normalizer: got .*, wanted a positive number"):
            fastloss.mse_loss(x, y, normalizer=bad)
    for bad in ("4", [4.0, 1.0], np.ones(2), 1j):
        with pytest.raises((TypeError, ValueError), match=r"^normalizer: "):
            fastloss.cross_entropy([[0.0, 0.0]], [0], normalizer=bad)
    for reduction in ("sum", "none"):
        with pytest.raises(ValueError, match=rf"^normalizer: .*{reduction}"):
            fastloss.MSELoss(reduction=reduction).value_and_grad(x, y, normalizer=4)


# ------------------------------------------------------------------------------------- array functions


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("name", ARRAY_FUNCTIONS)
def test_where(name, dtype, isa, rng):
    """What does not count is as -inf, or as a probability of 0, whatever stands there."""
    function, twin = getattr(fastloss, name), getattr(reference, name)
    for shape, axis in (((6, 5), 1), ((3, 2500), -1), ((4, 5, 70), 1)):
        x = (5 * rng.random(shape)).astype(dtype)
        where = rng.random(shape) < 0.7
        along = {} if name.endswith("sigmoid") else {"axis": axis}
        whole = np.zeros(shape) if name == "entropy" else np.full(shape, -np.inf)
        floats = np.where(where, x, whole).astype(function(x).dtype)
        expected = function(floats, **along)
        if dtype != np.int32:
            x[~where] = np.nan
        got = function(x, where=where, **along)
        assert same_bits(got, expected)
        np.testing.assert_allclose(
            got, twin(x, where=where, **along), rtol=2e-3 if dtype == np.float16 else 1e-5
        )
        assert same_bits(function(x, where=where.tolist(), **along), expected)
        with fastloss.checking():
            function(x, where=where, **along)
        one = np.zeros(shape[-1], bool)
        one[2] = True  # broadcast
        assert same_bits(
            function(x, where=one, **along), function(x, where=np.broadcast_to(one, shape), **along)
        )
        if not name.startswith("entropy"):
            out = np.full(expected.shape, 7, expected.dtype)
            assert function(x, where=where, out=out, **along) is out
            assert same_bits(out, expected)


def test_where_nothing_counts(isa):
    x = np.array([[1.0, np.nan], [np.nan, 2.0], [np.inf, np.nan]])
    where = np.array([[False, False], [True, False], [True, False]])
    assert np.array_equal(
        fastloss.softmax(x, where=where), [[0, 0], [np.nan, 0], [np.nan, 0]], equal_nan=True
    )
    log_p = fastloss.log_softmax(x, where=where)
    assert (log_p[~where] == -np.inf).all()
    assert np.array_equal(fastloss.logsumexp(x, where=where), [-np.inf, np.nan, np.inf], equal_nan=True)
    assert fastloss.entropy([1.0, np.nan], where=[False, False]) == 0
    assert np.isnan(fastloss.entropy_from_logits(x, where=where)).all()
    assert same_bits(fastloss.softmax([0.0, np.nan, 0.0], where=[True, False, True]), np.array([0.5, 0, 0.5]))


@pytest.mark.parametrize("name", ARRAY_FUNCTIONS)
def test_where_is_checked(name):
    function, x = getattr(fastloss, name), np.zeros((3, 4))
    for bad in (np.ones((3, 4)), 1, [1, 0, 1, 1], "text", np.ones(3, bool), np.ma.array([True], mask=True)):
        with pytest.raises((TypeError, ValueError), match=r"^where: "):
            function(x, where=bad)
    if not name.startswith("entropy"):
        memory = np.ones(8, bool)
        with pytest.raises(ValueError, match=r"^out: overlaps where"):
            function(
                np.zeros((1, 1)),
                where=memory[:1, None],
                out=memory.view(float).reshape(function(np.zeros((1, 1))).shape),
            )
