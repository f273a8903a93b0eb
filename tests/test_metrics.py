"""`fastloss.metrics`: formulas sample by sample in Python, labels of every type, errors, memory."""

import math
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest

import fastloss
from fastloss import metrics

inf, nan = math.inf, math.nan
RNG = np.random.default_rng(0)
DTYPES = [np.float64, np.float32, np.float16]
#: Classes 0 to 2, in forms whose order is theirs.
FORMS = {
    "int64": np.array([0, 1, 2]),
    "uint8": np.array([0, 7, 255], np.uint8),
    "int8": np.array([-128, 0, 127], np.int8),
    "uint64": np.array([0, 2**63, 2**64 - 1], np.uint64),
    "far apart": np.array([-(2**62), 5, 2**62]),
    "floats": np.array([-1.0, 0.0, 1e15]),
    "float16": np.array([1, 2, 2048], np.float16),
    "strings": np.array(["eggs", "ham", "spam"]),
    "objects": np.array(["eggs", "ham", "spam"], object),
    "dates": np.array(["2026-01-01", "2026-01-02", "2027-01-01"], "datetime64[D]"),
}


def drawn(shape=(500, 3), dtype=np.float64):
    """Logits, their probabilities, labels and weights."""
    logits = (3 * RNG.standard_normal(shape)).astype(dtype)
    p = np.exp(logits.astype(float))
    p = (p / p.sum(1, keepdims=True)).astype(dtype)
    labels = RNG.integers(0, shape[1], shape[0])
    labels[: shape[1]] = range(shape[1])
    return logits, p, labels, RNG.uniform(0.5, 2, shape[0])


def by_sample(name, p, labels, weight, eps):
    """The metric of rows of probabilities and columns, with exact sums."""
    rows = list(zip(p.astype(float).tolist(), labels.tolist(), weight.tolist(), strict=True))
    total = math.fsum(weight.tolist())
    if name == "brier_score_loss":
        squares = [w * sum(((j == t) - q) ** 2 for j, q in enumerate(row)) for row, t, w in rows]
        return math.fsum(squares) / total * (0.5 if p.shape[1] == 2 else 1)
    loss = math.fsum(-w * math.log(min(max(row[t], eps), 1 - eps)) for row, t, w in rows) / total
    if name == "log_loss":
        return loss
    shares = [math.fsum(w for _, t, w in rows if t == j) / total for j in range(p.shape[1])]
    return 1 - loss / -math.fsum(s * math.log(s) for s in shares)


NAMES = ["log_loss", "brier_score_loss", "d2_log_loss_score"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(500, 2), (500, 3), (300, 100), (23_000, 3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_values(name, dtype, shape, weighted):
    logits, p, labels, weight = drawn(shape, dtype)
    eps = float(np.finfo(dtype).eps)
    metric = getattr(metrics, name)
    given = {"sample_weight": weight} if weighted else {}
    expected = by_sample(name, p, labels, weight if weighted else np.ones(shape[0]), eps)
    assert type(metric(labels, p, **given)) is float
    # the sums are of float64, and 1 - p of a float of the input's dtype is exact in it
    assert metric(labels, p, **given) == pytest.approx(expected, rel=1e-6 if dtype != np.float64 else 1e-12)
    exact = fastloss.reference.softmax(logits)
    expected = by_sample(name, exact, labels, weight if weighted else np.ones(shape[0]), 0.0)
    got = metric(labels, logits, **given, from_logits=True)
    assert got == pytest.approx(expected, rel=1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_type(name, form):
    logits, p, labels, weight = drawn()
    metric, named = getattr(metrics, name), FORMS[form][labels]
    lists = [named.tolist()] if form not in ("dates", "uint64") else []  # whose lists are of other types
    for y in (named, named[:, None], *lists):
        assert metric(y, p) == metric(y, p, labels=FORMS[form]) == metric(labels, p)
        assert metric(y, p, sample_weight=weight) == metric(labels, p, sample_weight=weight)
        assert metric(y, logits, from_logits=True) == metric(labels, logits, from_logits=True)


@pytest.mark.parametrize("name", NAMES)
def test_bools_and_a_single_column(name):
    logits, p, labels, weight = drawn((200, 2))
    p[:, 0] = 1 - p[:, 1]  # with the rounding of what a single column leaves to compute
    metric = getattr(metrics, name)
    both = metric(labels, p, sample_weight=weight)
    for y in (labels, labels == 1, 2 * labels - 1):
        for q in (p[:, 1], p[:, 1:]):
            assert metric(y, q, sample_weight=weight) == pytest.approx(both, rel=1e-12)
    both = metric(labels, logits, from_logits=True)
    assert metric(labels, logits[:, 1] - logits[:, 0], from_logits=True) == pytest.approx(both, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_indicators(name):
    """Rows of zeros and ones; those with a single one are labels."""
    logits, p, labels, weight = drawn()
    metric, rows = getattr(metrics, name), np.eye(3)[labels]
    for y in (rows, rows.astype(int), rows.astype(bool)):
        for given in ({}, {"sample_weight": weight}):
            assert metric(y, p, **given) == pytest.approx(metric(labels, p, **given), rel=1e-12)
            of_logits = metric(y, logits, **given, from_logits=True)
            assert of_logits == pytest.approx(metric(labels, logits, **given, from_logits=True), rel=1e-12)
    two = np.eye(2)[labels % 2]
    if name != "brier_score_loss":
        assert metric(two, p[:, 1]) == metric(labels % 2, p[:, 1])
        of_logits = metric(two, logits[:, 1], from_logits=True)
        assert of_logits == pytest.approx(metric(labels % 2, logits[:, 1], from_logits=True), rel=1e-12)
    rows[:, 0] = 1
    value = metrics.log_loss(rows, p, normalize=False)
    assert value == pytest.approx(-float((rows * np.log(p)).sum()), rel=1e-12)
    assert metrics.log_loss(rows, logits, normalize=False, from_logits=True) == pytest.approx(
        value, rel=1e-12
    )


def test_labels_that_no_sample_is_of():
    logits, p, labels, _ = drawn((300, 5))
    some = np.where(labels == 3, 1, labels)
    names = np.array([2, 3, 5, 7, 11])
    for y, given in (
        (some, range(5)),
        (names[some], names),
        (names[some].astype(str), sorted(names.astype(str))),
    ):
        order = np.argsort(names.astype(str)) if y.dtype.kind == "U" else np.arange(5)
        value = metrics.log_loss(y, p[:, order], labels=given)
        assert value == pytest.approx(-np.log(p[np.arange(300), some]).mean(), rel=1e-12)
        of_logits = metrics.log_loss(y, logits[:, order], labels=given, from_logits=True)
        assert of_logits == pytest.approx(value, rel=1e-12)


def test_confident_logits_keep_their_digits():
    logits = np.array([[40.0, 0.0, 0.0], [0.0, 50.0, 0.0]])
    e, f = math.exp(-40), math.exp(-50)
    assert metrics.log_loss([0, 1], logits, labels=range(3), from_logits=True) == pytest.approx(
        e + f, rel=1e-12
    )
    brier = metrics.brier_score_loss([0, 1], logits, labels=range(3), from_logits=True)
    assert brier == pytest.approx((6 * e**2 + 6 * f**2) / 2, rel=1e-12)
    flat = metrics.brier_score_loss([0, 1], [-40.0, 50.0], from_logits=True)
    assert flat == pytest.approx((e**2 + f**2) / 2, rel=1e-12)
    masked = np.array([[0.0, 0.0, -inf], [0.0, 0.0, -inf]])
    assert metrics.log_loss([0, 1], masked, labels=range(3), from_logits=True) == pytest.approx(math.log(2))
    assert math.isnan(metrics.log_loss([0, 1], [[nan, 0], [0, 0]], from_logits=True))


def test_clipping_is_scikit_learns():
    for dtype in DTYPES:
        eps = float(np.finfo(dtype).eps)
        p = np.array([[1, 0], [1, 0]], dtype)
        expected = (-math.log1p(-eps) - math.log(eps)) / 2
        assert metrics.log_loss([0, 1], p) == pytest.approx(expected, rel=1e-12)
    assert metrics.log_loss([0, 1], [[1, 0], [1, 0]]) == pytest.approx(-math.log(np.finfo(float).eps) / 2)


def calibration_error(p, labels, weight, bins):
    right, confidence, total = p.argmax(1) == labels, p.max(1), weight.sum()
    error = 0.0
    for b in range(bins):
        inside = (confidence >= b / bins) & ((confidence < (b + 1) / bins) | (b == bins - 1))
        if inside.any():
            w = weight[inside]
            error += abs((w * right[inside]).sum() - (w * confidence[inside]).sum()) / total
    return error


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bins", [1, 10, 15, 200])
def test_expected_calibration_error(dtype, bins):
    logits, p, labels, weight = drawn((4000, 4), dtype)
    tolerance = {np.float64: 1e-12, np.float32: 1e-6, np.float16: 1e-6}[dtype]
    for given in ({}, {"sample_weight": weight}):
        w = given.get("sample_weight", np.ones(4000))
        got = metrics.expected_calibration_error(labels, p, n_bins=bins, **given)
        assert got == pytest.approx(calibration_error(p.astype(float), labels, w, bins), abs=tolerance)
    names = np.array(["a", "b", "c", "d"])[labels]
    assert metrics.expected_calibration_error(names, p) == metrics.expected_calibration_error(labels, p)
    if dtype == np.float64:
        got = metrics.expected_calibration_error(labels, logits, n_bins=bins, from_logits=True)
        exact = fastloss.reference.softmax(logits)
        # a confidence within rounding of the edge of a bin may be in either
        edges = np.abs(exact.max(1) * bins - np.round(exact.max(1) * bins)) < 1e-12
        assert not edges.any()
        assert got == pytest.approx(calibration_error(exact, labels, np.ones(4000), bins), abs=1e-12)


def test_calibration_error_of_one_column_and_at_the_edges():
    _, p, labels, _ = drawn((300, 2))
    both = metrics.expected_calibration_error(labels, p)
    assert metrics.expected_calibration_error(labels, p[:, 1]) == pytest.approx(both, abs=1e-12)
    logit = np.log(p[:, 1] / p[:, 0])
    assert metrics.expected_calibration_error(labels, logit, from_logits=True) == pytest.approx(
        both, abs=1e-9
    )
    assert metrics.expected_calibration_error([0, 1], [[1.0, 0.0], [0.0, 1.0]]) == 0
    assert metrics.expected_calibration_error([0, 1], [[0.0, 1.0], [1.0, 0.0]]) == 1
    assert metrics.expected_calibration_error([0, 1], [0.5, 0.5]) == 0  # a tie is the first label's
    assert math.isnan(metrics.expected_calibration_error([0, 1], [nan, 1.0], from_logits=True))
    with pytest.raises(ValueError, match="n_bins: got 0"):
        metrics.expected_calibration_error([0, 1], [0.5, 0.5], n_bins=0)
    with pytest.raises(TypeError, match="n_bins: got float"):
        metrics.expected_calibration_error([0, 1], [0.5, 0.5], n_bins=5.0)
    with pytest.raises(ValueError, match="y_true: got a matrix of indicators"):
        metrics.expected_calibration_error(np.eye(2), np.eye(2))


@pytest.mark.parametrize("bins", [7, 15, 30, 49, 100])
def test_a_confidence_on_an_edge_is_in_the_bin_above(bins):
    edges = np.arange(bins // 2 + 1, bins) / bins
    around = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 1)])
    p, labels = np.stack([1 - around, around], 1), np.arange(around.size) % 2
    got = metrics.expected_calibration_error(labels, p, n_bins=bins)
    assert got == pytest.approx(calibration_error(p, labels, np.ones(len(p)), bins), abs=1e-12)


class Holder:
    """What becomes an array, and has nothing else of one."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values


ALL = pytest.mark.parametrize("name", [*NAMES, "expected_calibration_error"])


@ALL
@pytest.mark.parametrize("kind", [np.ma.array, Holder])
def test_arrays_of_other_kinds(name, kind):
    _, p, labels, weight = drawn((60, 3))
    metric = getattr(metrics, name)
    assert metric(kind(labels), kind(p), sample_weight=kind(weight)) == metric(
        labels, p, sample_weight=weight
    )
    if kind is np.ma.array:  # scikit-learn takes the data
        masked = np.ma.array(p, mask=p < 0.3), np.ma.array(weight, mask=weight < 1)
        wanted = metric(labels, p, sample_weight=weight)
        assert metric(labels, masked[0], sample_weight=masked[1]) == wanted
        with pytest.raises(TypeError, match="y_true: got a masked array, wanted all labels"):
            metric(np.ma.array(labels, mask=labels == 1), p)


@ALL
@pytest.mark.parametrize("wrong", ["y_true", "y_proba", "sample_weight", "labels"])
@pytest.mark.parametrize("kind", [np.array, Holder])
def test_no_dimensions_are_named(name, wrong, kind):
    given = {"y_true": [0, 1], "y_proba": [0.25, 0.75]} | {wrong: kind(1)}
    with pytest.raises(TypeError, match=rf"'{wrong}' parameter of {name} must be an array-like"):
        getattr(metrics, name)(**given)


@ALL
def test_missing_numbers_of_pandas(name):
    pandas = pytest.importorskip("pandas")
    p = pandas.DataFrame({"a": [0.5, 1.0], "b": [0.5, None]}, dtype="Float64")
    with pytest.raises(ValueError, match=r"Input contains NaN\."):
        getattr(metrics, name)([0, 1], p)
    assert np.isfinite(getattr(metrics, name)([0, 1], p.fillna(0)))


def test_indicators_of_nothing():
    with pytest.raises(ZeroDivisionError, match="y_true: no sample has a label"):  # as scikit-learn
        metrics.d2_log_loss_score(np.zeros((4, 3), int), np.full((4, 3), 1 / 3))


def test_perplexity():
    logits, p, labels, weight = drawn((60, 7))
    own = p[np.arange(60), labels]
    assert metrics.perplexity(logits, labels) == pytest.approx(np.exp(-np.log(own).mean()), rel=1e-12)
    weighted = np.exp(-np.average(np.log(own), weights=weight))
    assert metrics.perplexity(logits, labels, sample_weight=weight) == pytest.approx(weighted, rel=1e-12)
    some = np.where(np.arange(60) % 3, labels, -1)
    rest = np.exp(-np.log(own[np.arange(60) % 3 > 0]).mean())
    assert metrics.perplexity(logits, some, ignore_index=-1) == pytest.approx(rest, rel=1e-12)
    tokens = logits.reshape(4, 15, 7)
    whole = metrics.perplexity(logits, labels)
    assert metrics.perplexity(tokens, labels.reshape(4, 15), axis=-1) == pytest.approx(whole, rel=1e-12)
    mask = np.arange(60) % 3 > 0
    assert metrics.perplexity(logits, labels, mask=mask) == pytest.approx(rest, rel=1e-12)
    assert metrics.perplexity(np.zeros((5, 9)), np.arange(5)) == pytest.approx(9, rel=1e-12)
    assert metrics.perplexity([[1e5, 0.0]], [1]) == inf
    assert math.isnan(metrics.perplexity(logits, np.full(60, -100)))
    with pytest.raises(IndexError, match=r"target\[0\] = 7"):
        metrics.perplexity(logits, labels + 7 - labels[0])


ERRORS = [
    ({"y_proba": [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]}, ValueError, "different number of classes: 2 vs 3"),
    ({"y_proba": [0.5, 1.5]}, ValueError, "greater than 1: 1.5"),
    ({"y_proba": [0.5, -0.5]}, ValueError, "(lower|less) than 0: -0.5"),
    ({"y_proba": [0.5, nan]}, ValueError, "Input contains NaN"),
    ({"y_proba": [0.5, inf]}, ValueError, "Input contains infinity"),
    ({"y_proba": [0.5, 0.5, 0.5]}, ValueError, r"inconsistent numbers of samples: \[3, 2"),
    ({"y_proba": [[[0.5]], [[0.5]]]}, ValueError, "Found array with dim 3"),
    ({"y_proba": [0.5j, 0.5]}, ValueError, "Complex data not supported"),
    ({"y_proba": np.empty((2, 0))}, ValueError, r"Found array with 0 feature\(s\)"),
    (
        {"y_true": [0.5, 1.0]},
        ValueError,
        "Unknown label type: continuous",
    ),
    ({"y_true": [nan, 1.0]}, ValueError, "contains NaN"),
    ({"y_true": [b"a", b"b"]}, TypeError, "labels represented as bytes"),
    ({"y_true": np.array([None, 1])}, ValueError, "Unknown label type"),
    ({"y_true": ["a", 1]}, ValueError, "Mix of label input types"),
    ({"y_true": np.array(["a", 1], object)}, ValueError, "Mix of label input types"),
    ({"sample_weight": [1.0]}, ValueError, "inconsistent numbers of samples"),
    ({"sample_weight": [[1.0], [1.0]]}, ValueError, "Sample weights must be 1D array or scalar, got 2D"),
    ({"sample_weight": [0, 0]}, ValueError, "at least one non-zero number"),
    ({"sample_weight": [1, -1]}, ZeroDivisionError, "Weights sum to zero"),
    ({"sample_weight": [1, nan]}, ValueError, "Input sample_weight contains NaN"),
    ({"sample_weight": 1.0}, (TypeError, ValueError), "'sample_weight' parameter of .* must be"),
    ({"y_true": 1}, (TypeError, ValueError), "'y_true' parameter of .* must be"),
    ({"y_proba": None}, (TypeError, ValueError), "'y_proba' parameter of .* must be"),
    ({"from_logits": 1}, (TypeError, ValueError), "'from_logits' parameter of .* must be"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("given", "error", "match"), ERRORS)
def test_errors(name, given, error, match):
    with pytest.raises(error, match=match):
        getattr(metrics, name)(**{"y_true": [0, 1], "y_proba": [0.5, 0.5]} | given)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"logits": np.zeros((2, 3), complex)}, "^logits: got dtype complex128"),
        ({"logits": np.zeros((2, 0))}, r"^logits: got shape \(2, 0\)"),
        ({"axis": 5}, r"for logits of shape \(2, 3\)"),
        ({"target": [0.5, 1]}, r"^target\[0\] = 0.5 .* have the shape of logits$"),
    ],
)
def test_errors_of_perplexity(given, match):
    with pytest.raises((TypeError, ValueError), match=match):
        metrics.perplexity(**{"logits": np.zeros((2, 3)), "target": [0, 1]} | given)


@pytest.mark.parametrize("name", NAMES)
def test_long_double(name):
    """As scikit-learn takes it: predictions, weights and labels, in float64."""
    metric, p, y = getattr(metrics, name), np.array([0.25, 0.75, 0.5]), np.array([0.0, 1.0, 1.0])
    weight, wide = np.array([1.0, 2.0, 3.0]), np.longdouble
    for flat in (p, np.stack([1 - p, p], 1)):
        expected = metric(y, flat, sample_weight=weight)
        assert metric(y.astype(wide), flat.astype(wide), sample_weight=weight.astype(wide)) == expected
        assert metric(y, flat.astype(wide), from_logits=True) == metric(y, flat, from_logits=True)
    if np.finfo(wide).max > np.finfo(np.float64).max:
        with pytest.raises(ValueError, match="Input contains infinity"):
            metric(y, p * wide("1e4000"))


@pytest.mark.parametrize("name", ["log_loss", "d2_log_loss_score"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_weight_of_0_drops_what_is_infinite_and_keeps_nan(name, flat):
    metric, y = getattr(metrics, name), [0, 1, 0, 1]
    logits = np.array([[-inf, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    logits = logits[:, 1] - logits[:, 0] if flat else logits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = metric(y, logits, sample_weight=[0, 1, 2, 3], from_logits=True)
    assert got == pytest.approx(
        metric(y[1:], logits[1:], sample_weight=[1, 2, 3], from_logits=True), rel=1e-15
    )
    assert abs(metric(y, logits, from_logits=True)) == inf
    logits[0] = nan
    assert math.isnan(metric(y, logits, sample_weight=[0, 1, 2, 3], from_logits=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_sum_of_nearly_one(name):
    """As near as scikit-learn's isclose: the root of the dtype's eps, and 1e-8 besides."""
    metric, p = getattr(metrics, name), np.array([[0.25, 0.75], [0.5, 0.5]])
    metric([0, 1], p * (1 + 2.4e-8))
    with pytest.warns(UserWarning, match="do not sum to one"):
        metric([0, 1], p * (1 + 2.6e-8))


@pytest.mark.parametrize("name", NAMES)
def test_errors_of_labels(name):
    metric, p = getattr(metrics, name), np.full((2, 3), 1 / 3)
    with pytest.raises(
        ValueError, match=r"y_true contains values \{4\} not belonging to the passed labels \[0, 1, 2\]"
    ):
        metric([0, 4], p, labels=[0, 1, 2])
    with pytest.raises(ValueError, match="number of classes in labels is different"):
        metric([0, 1], p, labels=[0, 1])
    with pytest.raises(ValueError, match=r"only one label \(1\)"):
        metric([1, 1], p)
    with pytest.raises(ValueError, match="at least two labels, got"):
        metric([1, 1], p, labels=[1])
    with pytest.warns(UserWarning, match="labels are ordered lexicographically"):
        metric([0, 1], p, labels=[2, 1, 0])
    with pytest.warns(UserWarning, match="do not sum to one"):
        metric([0, 1], p / 2, labels=[0, 1, 2])
    with pytest.raises(ValueError, match="wanted each label once"):
        metric([0, 1], p, labels=[0, 1, 1, 2])
    with pytest.raises(ValueError, match="Multioutput"):
        metric([[0, 1, 2], [0, 1, 2]], p)
    with pytest.raises(ValueError, match="not fitted with multilabel"):
        metric([[0, 1, 1], [0, 1, 0]], p, labels=[0, 1])


def test_a_single_sample():
    with pytest.warns(UserWarning, match="less than two samples"):
        assert math.isnan(metrics.d2_log_loss_score([1], [[0.5, 0.5]]))


@pytest.mark.parametrize("name", [*NAMES, "expected_calibration_error"])
def test_bits_do_not_depend_on_threads_or_layout(name):
    logits, p, labels, weight = drawn((60_000, 7), np.float32)
    metric = getattr(metrics, name)
    for x, given in ((p, {}), (logits, {"from_logits": True})):
        found = set()
        for n in (1, 2, 5):
            with fastloss.threads(n):
                for array in (x, np.asfortranarray(x), np.repeat(x, 2, 0)[::2]):
                    found.add(metric(labels, array, sample_weight=weight, **given))
        assert len(found) == 1, (name, given, found)


@pytest.mark.parametrize("name", [*NAMES, "expected_calibration_error"])
@pytest.mark.parametrize("shape", [(4_000_000,), (400_000, 10), (4_000, 1_000)])
@pytest.mark.parametrize("from_logits", [False, True])
def test_nothing_of_the_inputs_size(name, shape, from_logits):
    """Beyond a few blocks for each thread: at most 16 MB where the input has 32."""
    p = np.full(shape, 1 / 2 if len(shape) == 1 else 1 / shape[1])
    labels = (np.arange(shape[0]) % (2 if len(shape) == 1 else shape[1])).astype(np.uint16)
    with fastloss.threads(2):
        tracemalloc.start()
        getattr(metrics, name)(labels, p, from_logits=from_logits)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 16e6


def test_imports_numpy_alone():
    code = (
        "import sys, fastloss; fastloss.metrics.log_loss(['a', 'b'], [0.1, 0.9]);"
        "assert not {'sklearn', 'scipy'} & {name.partition('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_warnings_of_numpy():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.log_loss([0, 1], [[1.0, 0.0], [0.0, 1.0]])
        metrics.brier_score_loss([0, 1], [[-1e308, 1e308], [0.0, -inf]], from_logits=True)
        metrics.log_loss([0, 1], np.array([[6e4, -6e4], [0, 0]], np.float16), from_logits=True)


@pytest.mark.parametrize(
    "name", ["log_loss", "brier_score_loss", "d2_log_loss_score", "expected_calibration_error"]
)
def test_categories(name):
    pandas = pytest.importorskip("pandas")
    names = np.array(list("abc"))[[0, 1, 2, 1]]
    p = fastloss.softmax(np.random.default_rng(0).standard_normal((4, 3)))
    function = getattr(metrics, name)
    expected = function(names, p)
    for labels in (
        pandas.Categorical(names),
        pandas.Series(names, dtype="category"),
        pandas.CategoricalIndex(names),
    ):
        assert function(labels, p) == expected
        assert function(labels, p, labels=pandas.Categorical(list("abc"))) == expected
