"""Partial: within the bounds of one array for any partition; the same bits; labels of no part; errors."""

import functools
import itertools
import math
import pickle

import numpy as np
import pytest

import fastloss
from fastloss import Partial, bounds, reference
from tests.support.oracle import assert_within

SAMPLES = 23
ROW = fastloss.CrossEntropyLoss(reduction="none")

#: Loss, and options of which a number stands for one of each class.
LOSSES = {
    "plain": ("cross_entropy", {}),
    "smoothed": ("cross_entropy", {"label_smoothing": 0.2}),
    "smoothed and weighted": ("cross_entropy", {"label_smoothing": 0.2, "weight": 1}),
    "weighted, with z-loss": ("cross_entropy", {"weight": 1, "z_loss": 0.01}),
    "scaled and capped": ("cross_entropy", {"softcap": 6.0, "scale": 0.3}),
    "scaled by class": ("cross_entropy", {"scale": 1, "bias": 1, "label_smoothing": 0.1}),
    "focal": ("focal_loss", {"gamma": 1.5, "weight": 1}),
    "generalized": ("generalized_cross_entropy", {"z_loss": 0.1}),
    "poly": ("poly_loss", {}),
}
PER_CLASS = ("weight", "bias")


def made(name, rng, classes):
    """Function and options."""
    function, options = LOSSES[name]
    each = {k for k, v in options.items() if k in PER_CLASS or (k == "scale" and v == 1)}
    return function, {k: rng.random(classes) + 0.2 if k in each else v for k, v in options.items()}


def arrays(rng, classes, dtype, samples=SAMPLES, size=4.0):
    x = (size * rng.standard_normal((samples, classes))).astype(dtype)
    labels = rng.integers(0, classes, samples)
    x[np.arange(samples), labels] += 9.0 * (rng.random(samples) < 0.3)  # some are sure
    labels[::5] = -100
    return x, labels


def slices(cuts):
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(cuts)]


def partitions(rng, classes):
    """All in one; some of any width; and where they are few, each by itself."""
    yield [0, classes]
    yield sorted({0, classes, *rng.integers(0, classes + 1, 4).tolist()})
    if classes <= 300:
        yield [0, 0, *range(classes + 1), classes]  # and none


def merged(loss, x, labels, cuts, **options):
    parts = [loss.partial(x[..., s], labels, start=s.start, **options) for s in slices(cuts)]
    return functools.reduce(Partial.merge, parts)


def gradient(part, x, labels, cuts, **options):
    return np.concatenate([part.grad(x[..., s], labels, start=s.start, **options) for s in slices(cuts)], -1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_any_partition_is_within_the_bounds_of_the_whole(name, dtype, isa, rng):
    computed = np.float64 if dtype is np.float64 else np.float32
    for classes in (1, 2, 7, 130, 300, 4500):
        function, options = made(name, rng, classes)
        kind = fastloss.losses.CLASSES[function]
        x, t = arrays(rng, classes, dtype)
        weights = rng.random(SAMPLES) + 0.1
        for reduction in ("none", "mean"):
            every = {**options, "reduction": reduction, "sample_weight": weights}
            value, grad = getattr(reference, function)(x, t, **every)
            allowed = bounds.against_reference(bounds.loss, computed, function, x, t, **every)
            loss = kind(**options, reduction=reduction)
            for cuts in partitions(rng, classes):
                part = merged(loss, x, t, cuts, sample_weight=weights)
                assert_within(part.value(), value, allowed.value, computed)
                found = gradient(part, x, t, cuts)
                assert found.dtype == dtype
                off = bounds.rounded(allowed.grad, grad, dtype) if dtype is np.float16 else allowed.grad
                assert_within(found, grad, off, dtype)
                if reduction == "mean":
                    total, whole = part.total(), loss.total(x, t, sample_weight=weights)
                    assert (total.weight, total.count) == (whole.weight, whole.count)
                    assert total.mean == pytest.approx(part.value(), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_are_those_of_the_partition(dtype):
    """On any threads, in any batch, with AVX2 and AVX-512, merged from either side, and through pickle."""
    rng = np.random.default_rng(1)
    x, t = arrays(rng, 5000, dtype, 200)
    cuts = [0, 1, 700, 4000, 5000]
    loss = fastloss.CrossEntropyLoss(label_smoothing=0.1, reduction="none")

    def bits(rows=slice(None)):
        parts = [loss.partial(x[rows, s], t[rows], start=s.start) for s in slices(cuts)]
        parts = pickle.loads(pickle.dumps(parts))
        whole = functools.reduce(Partial.merge, parts)
        other = functools.reduce(lambda a, b: b.merge(a), parts)
        assert other.value().tobytes() == whole.value().tobytes()
        return np.column_stack([whole.value(), gradient(whole, x[rows], t[rows], cuts)])

    with fastloss.threads(1):
        wanted = bits()
    for threads in (2, 7):
        with fastloss.threads(threads):
            np.testing.assert_array_equal(bits(), wanted)
    np.testing.assert_array_equal(bits(slice(60, 90)), wanted[60:90])


def test_bits_are_those_of_avx2_and_avx512():
    if not {"avx2", "avx512"} <= {*fastloss._kernels.available}:
        pytest.skip("this processor has not both")
    x, t = arrays(np.random.default_rng(1), 3000, np.float32)
    before, found = fastloss._kernels.active, []
    try:
        for isa in ("avx2", "avx512"):
            fastloss._kernels.use(isa)
            part = merged(ROW, x, t, [0, 1, 700, 3000])
            found.append(np.column_stack([part.value(), gradient(part, x, t, [0, 1, 700, 3000])]))
    finally:
        fastloss._kernels.use(before)
    np.testing.assert_array_equal(*found)


def test_a_row_of_float32_takes_16_bytes():
    x, t = np.zeros((10, 4), np.float32), np.zeros(10, int)
    assert fastloss.CrossEntropyLoss().partial(x, t).nbytes == 160
    assert fastloss.CrossEntropyLoss(label_smoothing=0.1).partial(x, t).nbytes == 240
    assert len(pickle.dumps(fastloss.FocalLoss().partial(np.tile(x, (100, 1)), np.tile(t, 100)))) < 17000


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(2)
    x, t = arrays(rng, 300, np.dtype(dtype))
    wide = x.astype(np.float32)
    for s in slices([0, 100, 300]):
        own, other = ROW.partial(x[:, s], t, start=s.start), ROW.partial(wide[:, s], t, start=s.start)
        for a, b in zip(own._parts[:3], other._parts[:3], strict=True):
            np.testing.assert_array_equal(a, b)
    part = merged(ROW, x, t, [0, 100, 300])
    np.testing.assert_array_equal(
        gradient(part, x, t, [0, 100, 300]), gradient(part, wide, t, [0, 100, 300]).astype(dtype)
    )


#: Two parts of two classes each, and the label.
ODD = [
    ([1.0, 2.0, 3.0, 4.0], 1),
    ([math.inf, 0.0, 0.0, 0.0], 1),
    ([0.0, 0.0, math.inf, 0.0], 1),
    ([math.inf, 0.0, math.inf, 0.0], 0),
    ([math.nan, 0.0, 0.0, 0.0], 2),
    ([0.0, 0.0, 0.0, math.nan], 3),
    ([math.nan, -math.inf, -math.inf, -math.inf], 3),
    ([-math.inf, -math.inf, 1.0, 0.0], 2),
    ([-math.inf, -math.inf, 1.0, 0.0], 0),
    ([1.0, 0.0, -math.inf, -math.inf], 0),
    ([1.0, 0.0, -math.inf, -math.inf], 3),
    ([-math.inf] * 4, 1),
    ([1e30, 0.0, -1e30, 1e30], 3),
    ([1e8, 1e8, 1e8, 1e8], 0),
    ([90.0, 0.0, 0.0, 0.0], 0),
    ([-200.0, -200.0, 0.0, 90.0], 3),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"z_loss": 0.1}], ids=str)
def test_edges(dtype, options, isa):
    x, t = np.array([row for row, _ in ODD], dtype), np.array([label for _, label in ODD])
    loss = fastloss.CrossEntropyLoss(reduction="none", **options)
    value, grad = loss.value_and_grad(x, t)
    for cuts in ([0, 2, 4], [0, 1, 2, 3, 4], [0, 4]):
        part = merged(loss, x, t, cuts)
        tolerance = 8 * bounds.unit(dtype)
        np.testing.assert_allclose(part.value(), value, rtol=tolerance, atol=bounds.smallest(dtype))
        np.testing.assert_allclose(gradient(part, x, t, cuts), grad, rtol=tolerance, atol=tolerance / 4)
    sure = merged(loss, x[-2:], t[-2:], [0, 2, 4]).value()
    if not options:
        least = np.finfo(dtype).smallest_subnormal
        np.testing.assert_allclose(sure, [3 * math.exp(-90), math.exp(-90)], rtol=tolerance, atol=least)


@pytest.mark.parametrize("weight", [1e-300, 1e-320, 1e300])
def test_weights_far_from_one(weight):
    x, t = arrays(np.random.default_rng(3), 6, np.float64)
    loss, weights = fastloss.CrossEntropyLoss(), np.full(SAMPLES, weight)
    part = merged(loss, x, t, [0, 2, 6], sample_weight=weights)
    value, grad = loss.value_and_grad(x, t, sample_weight=weights)
    assert part.value() == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(gradient(part, x, t, [0, 2, 6]), grad, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize(
    ("dtype", "logit", "weight"),
    [
        (np.float32, 1e30, [1e20, 1e5, 1.0]),
        (np.float32, 3e38, None),
        (np.float64, 1e250, [1e200, 1e100, 1.0]),
        (np.float64, 1e250, [1e-290, 1e-291, 0.0]),
    ],
)
def test_products_of_logits_and_weights_that_leave_the_range_on_the_way(dtype, logit, weight, isa):
    x, t = np.array([[0, logit, -1], [-1, 0, 1]], dtype), [1, 0]
    weights = None if weight is None else np.array(weight, dtype)
    options = {"weight": weights, "label_smoothing": 0.1}
    value, grad = reference.cross_entropy(x, t, **options)
    allowed = bounds.against_reference(bounds.loss, dtype, "cross_entropy", x, t, **options)
    for cuts in ([0, 3], [0, 1, 3], [0, 2, 3], [0, 1, 2, 3]):
        part = merged(fastloss.CrossEntropyLoss(**options), x, t, cuts)
        assert_within(part.value(), value, allowed.value, dtype)
        assert_within(gradient(part, x, t, cuts), grad, allowed.grad, dtype)


@pytest.mark.parametrize("function", ["cross_entropy", "focal_loss"])
def test_samples_that_do_not_count(function):
    rng = np.random.default_rng(4)
    x, t = arrays(rng, 7, np.float32)
    x[::5] = np.nan  # ignored
    mask = rng.random(SAMPLES) < 0.7
    x[~mask] = np.inf
    t[~mask] = 99
    for reduction in ("mean", "sum", "none"):
        loss = fastloss.losses.CLASSES[function](reduction=reduction, ignore_index=(-100, 3))
        part = merged(loss, x, t, [0, 3, 7], mask=mask)
        value, grad = loss.value_and_grad(x, t, mask=mask)
        np.testing.assert_allclose(part.value(), value, rtol=1e-6)
        found = gradient(part, x, t, [0, 3, 7])
        np.testing.assert_allclose(found, grad, rtol=2e-6, atol=1e-8)
        assert not found[~mask].any()
        assert part.total().count == np.count_nonzero(mask & (t != -100) & (t != 3))
    nothing = fastloss.CrossEntropyLoss().partial(x, np.full(SAMPLES, -100))
    assert math.isnan(nothing.value())
    assert nothing.total() == fastloss.Total()
    assert not nothing.grad(x, np.full(SAMPLES, -100)).any()
    assert fastloss.CrossEntropyLoss(empty="zero").partial(x, np.full(SAMPLES, -100)).value() == 0.0
    assert fastloss.CrossEntropyLoss(reduction="sum").partial(x[:0], t[:0]).value() == 0.0


def test_axes_and_shapes():
    rng = np.random.default_rng(5)
    x, t = rng.standard_normal((3, 6, 4, 2)), rng.integers(0, 6, (3, 4, 2))
    for loss in (fastloss.CrossEntropyLoss(), fastloss.CrossEntropyLoss(reduction="none")):
        parts = [loss.partial(x[:, a:b], t, start=a) for a, b in ((0, 2), (2, 6))]
        whole = parts[0].merge(parts[1])
        value, grad = loss.value_and_grad(x, t)
        assert whole.shape == t.shape
        np.testing.assert_allclose(whole.value(), value, rtol=1e-15)
        np.testing.assert_allclose(whole.grad(x[:, 2:], t, start=2), grad[:, 2:], rtol=1e-13)
        out = np.asfortranarray(x[:, 2:])
        assert whole.grad(out, t, start=2, grad_out=out) is out  # in place
        np.testing.assert_allclose(out, grad[:, 2:], rtol=1e-13)
    last = fastloss.CrossEntropyLoss(axis=-1).partial(np.moveaxis(x, 1, -1), t)
    assert last.value() == pytest.approx(fastloss.cross_entropy(x, t), rel=1e-15)
    one = fastloss.CrossEntropyLoss([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], label_smoothing=0.1)
    assert merged(one, x[0, :, 0, 0], t[0, 0, 0], [0, 3, 6]).value() == pytest.approx(
        one(x[0, :, 0, 0], t[0, 0, 0]), rel=1e-15
    )


def test_grad_output_multiplies():
    x, t = arrays(np.random.default_rng(6), 9, np.float64)
    mean, each = fastloss.CrossEntropyLoss(), np.linspace(-1, 2, SAMPLES)
    np.testing.assert_allclose(
        merged(mean, x, t, [0, 9]).grad(x, t, grad_output=-2.5),
        mean.value_and_grad(x, t, grad_output=-2.5)[1],
        rtol=1e-14,
    )
    np.testing.assert_allclose(
        merged(ROW, x, t, [0, 9]).grad(x, t, grad_output=each),
        ROW.value_and_grad(x, t, grad_output=each)[1],
        rtol=1e-14,
    )


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64, np.bool_, np.float64])
def test_labels_of_any_type(kind):
    x, t = np.random.default_rng(7).standard_normal((5, 4)), np.array([0, 1, 1, 0, 1])
    part = merged(ROW, x, t.astype(kind), [0, 1, 4])
    np.testing.assert_allclose(part.value(), ROW(x, t), rtol=1e-15)
    np.testing.assert_array_equal(
        part.grad(x[:, 1:], t.astype(kind), start=1), part.grad(x[:, 1:], t, start=1)
    )


def test_what_fits_no_part_is_said():
    x, t = np.zeros((4, 3)), np.array([0, 1, 2, 1])
    loss = fastloss.CrossEntropyLoss()
    part = loss.partial(x, t)
    for label in (7, -1, np.uint64(2**64 - 100)):
        wrong = np.array([0, 1, label, 0], np.asarray(label).dtype)
        with pytest.raises(
            IndexError, match=r"^target\[2\]: its label is in no part, wanted one in \[0, 3\)"
        ):
            loss.partial(x, wrong).value()
    with pytest.raises(IndexError, match=r"^target\[0, 1\]"):
        fastloss.CrossEntropyLoss().partial(np.zeros((1, 3, 2)), [[0, 5]]).total()
    out = np.ones_like(x)
    with pytest.raises(IndexError, match=r"^target\[1\]"):
        loss.partial(x, [0, 3, 0, 0]).grad(x, t, grad_out=out)
    assert (out == 1).all()
    with pytest.raises(ValueError, match=r"the parts have classes \[3, 6\), wanted all from 0 on"):
        loss.partial(x, t, start=3).value()
    with pytest.raises(ValueError, match=r"^other: got \[4, 7\) beside \[0, 3\)"):
        part.merge(loss.partial(x, t, start=4))
    with pytest.raises(ValueError, match=r"^other: got loss FocalLoss"):
        part.merge(fastloss.FocalLoss().partial(x, t, start=3))
    with pytest.raises(ValueError, match=r"^other: got samples of shape \(2,\), wanted \(4,\)"):
        part.merge(loss.partial(x[:2], t[:2], start=3))
    with pytest.raises(ValueError, match=r"^other: got dtype float32, wanted float64"):
        part.merge(loss.partial(x.astype(np.float32), t, start=3))
    with pytest.raises(ValueError, match=r"^other: target\[1\] counts in one of the parts and not"):
        part.merge(loss.partial(x, [0, -100, 1, 2], start=3))
    with pytest.raises(ValueError, match=r"^other: target\[2\] is a label of both parts"):
        part.merge(loss.partial(x, [7, 7, 4, 7], start=3))
    weighted = loss.partial(x, t, sample_weight=[1.0, 2.0, 3.0, 4.0])
    for other in (None, [1.0, 2.0, 3.0, 5.0]):
        with pytest.raises(ValueError, match=r"^other: got another sample_weight"):
            weighted.merge(loss.partial(x, t, start=3, sample_weight=other))
    with pytest.raises(TypeError, match=r"^Partial: wanted loss\.partial"):
        Partial()
    with pytest.raises(TypeError, match=r"^other: got int, wanted a Partial"):
        part.merge(3)
    with pytest.raises(ValueError, match=r"^start: got -1"):
        loss.partial(x, t, start=-1)
    with pytest.raises(TypeError, match=r"^start: got float"):
        loss.partial(x, t, start=1.0)
    with pytest.raises(ValueError, match=r"^target: got input's shape"):
        loss.partial(x, x)
    with pytest.raises(ValueError, match=r"^weight: got shape \(2,\), wanted a number for each class, with"):
        fastloss.CrossEntropyLoss([1.0, 2.0]).partial(x, t)
    with pytest.raises(ValueError, match=r"^weight: got shape \(5,\), and the parts have 3 classes"):
        fastloss.CrossEntropyLoss(np.ones(5)).partial(x, t).value()
    with pytest.raises(ValueError, match=r"^start: got classes \[1, 4\), wanted a slice of \[0, 3\)"):
        part.grad(x, t, start=1)
    with pytest.raises(
        ValueError, match=r"^input: got float64 of samples \(2,\), wanted float64 of samples \(4,\)"
    ):
        part.grad(x[:2], t[:2])
    with pytest.raises(ValueError, match=r"^target: got shape \(3,\)"):
        loss.partial(x, t[:3])


def test_infinite_weights_of_what_does_not_count_are_no_accident():
    x, t = np.zeros((2, 2)), np.array([0, 1])
    given = {"sample_weight": np.array([np.inf, 1.0]), "mask": np.array([False, True])}
    with np.errstate(all="raise"):
        assert fastloss.CrossEntropyLoss().partial(x, t, **given).value() == pytest.approx(
            np.log(2), rel=1e-15
        )
