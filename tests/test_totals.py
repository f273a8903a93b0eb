"""Totals: the same bits for any batches, order and process; what the loss says; what they refuse."""

import copy
import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

import fastloss
from fastloss import Total

SAMPLES = 300
inf = math.inf


def labels(rng, classes):
    drawn = rng.integers(0, classes, SAMPLES)
    drawn[::7] = -100
    return drawn


def arguments(loss, rng, classes, dtype):
    """Input and target that suit a loss."""
    x = (5 * rng.standard_normal((SAMPLES, classes))).astype(dtype)
    if isinstance(loss, fastloss.NLLLoss):
        return fastloss.log_softmax(x), labels(rng, classes)
    if isinstance(loss, fastloss.MultinomialNLLLoss):
        return x, rng.integers(0, 5, x.shape).astype(dtype)
    if hasattr(loss, "axis"):
        return x, labels(rng, classes)
    if isinstance(loss, fastloss.BCELoss):
        x = fastloss.sigmoid(x)
    if isinstance(loss, fastloss.KLDivLoss):
        x = fastloss.log_softmax(x)
    return x, fastloss.softmax(rng.standard_normal(x.shape)).astype(dtype)


LOSSES = [
    fastloss.CrossEntropyLoss(),
    fastloss.CrossEntropyLoss([1.5, 0.25, 3.0, 1e-3, 7.0], label_smoothing=0.1),
    fastloss.CrossEntropyLoss(z_loss=0.1, reduction="none"),
    fastloss.FocalLoss(),
    fastloss.NLLLoss([1.5, 0.25, 3.0, 1e-3, 7.0], reduction="sum"),
    fastloss.MultinomialNLLLoss(full=True),
    fastloss.BCEWithLogitsLoss(pos_weight=3.0),
    fastloss.BCELoss(),
    fastloss.KLDivLoss(),
    fastloss.MSELoss(),
    fastloss.MultiLabelSoftMarginLoss(),
]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("weighted", [False, True])
def test_total_is_that_of_any_batches_in_any_order(loss, dtype, weighted):
    rng = np.random.default_rng(3)
    x, y = arguments(loss, rng, 5, dtype)
    weights = rng.random(SAMPLES)[(...,) + (None,) * (loss._changed(reduction="none")(x, y).ndim - 1)]
    options = {"sample_weight": weights, "mask": weights > 0.1} if weighted else {}
    whole = loss.total(x, y, **options)
    for _ in range(5):
        order = rng.permutation(SAMPLES)
        batches = np.split(order, np.sort(rng.integers(0, SAMPLES, 9)))
        parts = [loss.total(x[i], y[i], **{k: v[i] for k, v in options.items()}) for i in batches]
        assert sum(parts) == whole
        assert Total.from_state(sum(part.state for part in parts)) == whole
        while len(parts) > 1:  # a tree
            a, b = (parts.pop(rng.integers(len(parts))) for _ in range(2))
            parts.append(a + b)
        assert parts == [whole]
    for threads in (1, 2, 7):
        with fastloss.threads(threads):
            assert loss.total(x, y, **options) == whole


@pytest.mark.parametrize("shared", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("loss", [fastloss.CrossEntropyLoss(), fastloss.FocalLoss()], ids=repr)
def test_total_is_that_of_batches_of_one_in_any_layout(loss, shared, rng):
    """An axis is `shared` where the array is broadcast."""
    x = rng.standard_normal((3, 5, 4, 3)).astype(np.float32)
    y = rng.integers(0, 5, (3, 4, 3))
    if shared is not None:
        x = x.take([0], shared)
    for order in itertools.permutations(range(4)):
        laid = x.transpose(order).copy().transpose(np.argsort(order))
        laid = np.broadcast_to(laid, (3, 5, 4, 3))
        whole = loss.total(laid, y)
        assert sum(loss.total(laid[i : i + 1], y[i : i + 1]) for i in range(3)) == whole
        assert loss.total(laid[:1], y[:1]) + loss.total(laid[1:], y[1:]) == whole


def test_a_thousand_workers_in_any_tree():
    rng = np.random.default_rng(7)
    loss = fastloss.CrossEntropyLoss([1e-3, 1.0, 7.0])
    scales = 10.0 ** rng.integers(-30, 30, 1000)
    batches = [(s * rng.standard_normal((3, 3)), rng.integers(0, 3, 3)) for s in scales]
    totals = [loss.total(*batch) for batch in batches]
    whole = loss.total(*map(np.concatenate, zip(*batches, strict=True)))
    for _ in range(100):
        parts = [totals[i] for i in rng.permutation(1000)]
        while len(parts) > 1:
            cuts = np.sort(rng.integers(0, len(parts), max(1, len(parts) // rng.integers(2, 9))))
            groups = [parts[a:b] for a, b in zip([0, *cuts], [*cuts, len(parts)], strict=True)]
            parts = [sum(group, Total()) for group in groups if group]
        assert parts == [whole]
        assert parts[0].state.tobytes() == whole.state.tobytes()


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("classes", [5, 300])
def test_total_is_what_the_loss_says(loss, classes):
    if classes != 5 and getattr(loss, "weight", None) is not None:
        pytest.skip("weights of five classes")
    rng = np.random.default_rng(4)
    x, y = arguments(loss, rng, classes, np.float64)
    total = loss.total(x, y)
    values = loss._changed(reduction="none")(x, y)
    assert total.sum == pytest.approx(loss._changed(reduction="sum")(x, y), rel=1e-15)
    assert total.mean == pytest.approx(loss._changed(reduction="mean")(x, y), rel=2e-15)
    assert total.sum == pytest.approx(math.fsum(values.ravel()), rel=1e-15)  # values are rounded to float64
    assert total.count == (np.count_nonzero(y != -100) if y.ndim < x.ndim else values.size)
    assert total.perplexity == (math.exp(total.mean) if total.mean < 709 else math.inf)


def test_weight_is_what_the_mean_divides_by():
    weight, sample = np.array([0.1, 0.7]), np.array([3.0, 1 / 3, 5.0])
    total = fastloss.CrossEntropyLoss(weight).total(np.zeros((3, 2)), [0, 1, -100], sample_weight=sample)
    exact = sum(Fraction(float(w)) for w in (weight[0] * sample[0], weight[1] * sample[1]))
    assert Fraction(total.weight) == Fraction(float(exact))
    assert total.count == 2
    batch = fastloss.KLDivLoss(reduction="batchmean").total(np.zeros((3, 2)), np.full((3, 2), 0.5))
    assert (batch.weight, batch.count) == (3.0, 6)


def test_sums_are_exact_where_floats_lose_all():
    big, least = 2.0**500, 5e-324
    x = np.array([big, 1.0, least, -big])
    loss = fastloss.NLLLoss(axis=-1)
    total = loss.total(-x[:, None], np.zeros(4, int))
    assert total.sum == 1.0
    assert (total + loss.total([[1.0]], [0])).sum == least
    assert loss.total([[1.0]], [0]).sum == -1.0


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([np.inf, 1.0], np.inf),
        ([np.nan, 1.0], np.nan),
        ([-np.inf, 1.0], -np.inf),
        ([np.inf, -np.inf], np.nan),
    ],
)
def test_what_is_not_finite_stays(terms, expected):
    loss = fastloss.NLLLoss(axis=-1)
    total = sum(loss.total([[-term]], [0]) for term in terms)
    assert total.sum == pytest.approx(expected, nan_ok=True)
    assert total.mean == pytest.approx(expected, nan_ok=True)
    assert total.weight == 2.0


def test_nothing():
    assert Total() == fastloss.MSELoss().total([], [])
    assert math.isnan(Total().mean)
    assert (Total().sum, Total().weight, Total().count) == (0.0, 0.0, 0)
    assert fastloss.CrossEntropyLoss().total(np.zeros((2, 3)), [-100, -100]) == Total()


def test_keeps_to_itself():
    total = fastloss.MSELoss().total([3.0], [0.0])
    assert pickle.loads(pickle.dumps(total)) == copy.deepcopy(total) == total
    assert len({total, pickle.loads(pickle.dumps(total))}) == 1
    assert total != total + total
    assert repr(total) == "Total(mean=9.0, sum=9.0, weight=1.0, count=1)"
    assert total.state.dtype == np.int64
    assert total.state.nbytes < 2048
    with pytest.raises(TypeError):
        total + 1


@pytest.mark.parametrize(("state", "error"), [(np.zeros(143), TypeError), (np.zeros(142, int), ValueError)])
def test_wrong_states(state, error):
    with pytest.raises(error, match="state: got"):
        Total.from_state(state)


def test_gaussian():
    loss, rng = fastloss.GaussianNLLLoss(), np.random.default_rng(5)
    x, y, var = rng.standard_normal((3, 40))
    total = loss.total(x, y, var**2)
    assert total == loss.total(x[:7], y[:7], var[:7] ** 2) + loss.total(x[7:], y[7:], var[7:] ** 2)
    assert total.mean == pytest.approx(loss(x, y, var**2), rel=1e-15)


def test_gradients_of_unequal_batches_add_up_to_that_of_the_whole():
    rng = np.random.default_rng(6)
    x, y = 3 * rng.standard_normal((50, 6)), labels(rng, 6)[:50]
    loss = fastloss.CrossEntropyLoss()
    whole, expected = loss.value_and_grad(x, y)
    count = loss.total(x, y).weight
    parts = [loss.value_and_grad(x[i], y[i], normalizer=count) for i in np.split(np.arange(50), [3, 20])]
    assert sum(value for value, _ in parts) == pytest.approx(whole, rel=1e-15)
    np.testing.assert_array_equal(np.concatenate([grad for _, grad in parts]), expected)


def test_checked():
    with fastloss.checking():
        assert fastloss.MSELoss().total([3.0], [0.0]).sum == 9.0


def test_no_axis_of_samples():
    with pytest.raises(ValueError, match="0-dimensional"):
        fastloss.CrossEntropyLoss().total(1.0, 0)


def test_sums_beyond_the_numbers():
    """They are inf as those of functions, while means are exact."""
    total = fastloss.MSELoss().total([1e154] * 3, [0.0] * 3)
    assert total.sum == fastloss.mse_loss([1e154] * 3, [0.0] * 3, reduction="sum") == inf
    assert total.mean == pytest.approx(1e308)
    assert repr(total).startswith("Total(mean=1e+308, sum=inf, weight=3.0")
    lower = fastloss.NLLLoss().total([[1e308, 0.0]] * 3, [0] * 3)
    assert lower.sum == -inf
    weighted = fastloss.MSELoss().total([1.0] * 3, [0.0] * 3, sample_weight=[1e308] * 3)
    assert (weighted.weight, weighted.mean) == (inf, 1.0)


def test_totals_do_not_change():
    total = fastloss.MSELoss().total([1.0], [0.0])
    for name in ("count", "sum", "weight"):
        with pytest.raises(AttributeError):
            setattr(total, name, 2)


def test_infinite_weights_are_no_accident():
    """A product of weights that is NaN gives no warning, nor an error where NumPy is told to raise."""
    loss = fastloss.CrossEntropyLoss(weight=[0.0, 1.0])
    with np.errstate(all="raise"):
        total = loss.total([[0.0, 0.0], [0.0, 0.0]], [0, 1], sample_weight=[np.inf, 1.0])
    assert math.isnan(total.weight)
