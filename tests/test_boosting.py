"""`fastloss.boosting`: what each library passes and takes, by itself and inside of the libraries."""

import copy
import inspect
import math
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastloss
from fastloss.boosting import Metric, Objective, prior
from tests.support.cases import loss

BINARY = fastloss.BCEWithLogitsLoss()
SOFTMAX = fastloss.CrossEntropyLoss()
EPS32 = float(np.finfo(np.float32).eps)
#: Relative distance of a float32 result from the true one: the bound of the losses, and two roundings.
CLOSE = 16 * EPS32
K = 3


class Data:
    """What XGBoost's DMatrix and LightGBM's Dataset have in common."""

    def __init__(self, labels, weights=None):
        self.labels, self.weights = labels, weights

    def get_label(self):
        return self.labels

    def get_weight(self):
        return self.weights


def xgboost_like(scores):
    return np.ascontiguousarray(scores, dtype=np.float32)


def lightgbm_like(scores):
    return np.asfortranarray(scores, dtype=np.float64)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def data_of(rng, n=200, classes=K):
    """Scores that are float32 numbers, float32 labels, float32 weights."""
    scores = rng.standard_normal((n, classes), np.float32).astype(np.float64) * 3
    return scores, rng.integers(0, classes, n).astype(np.float32), rng.uniform(0.5, 2, n).astype(np.float32)


# ------------------------------------------------------------------------------------- without libraries
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("like", "factor"), [(xgboost_like, 2), (lightgbm_like, K / (K - 1))])
def test_classes_native(rng, like, factor, weighted):
    scores, labels, w = data_of(rng)
    grad, hess = Objective(SOFTMAX)(like(scores), Data(labels, w if weighted else None))
    p, weights = softmax(scores), (w if weighted else np.ones_like(w))[:, None]
    one_hot = labels[:, None] == np.arange(K)
    np.testing.assert_allclose(grad, weights * (p - one_hot), rtol=0, atol=CLOSE * weights.max())
    np.testing.assert_allclose(hess, factor * weights * p * (1 - p), rtol=CLOSE)
    for array in (grad, hess):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous == (like is xgboost_like)
        assert array.flags.owndata  # so that what LightGBM ravels is a view of it


@pytest.mark.parametrize("like", [xgboost_like, lightgbm_like])
def test_binary_native(rng, like):
    scores, labels, w = data_of(rng, classes=2)
    x = scores[:, 0]
    grad, hess = Objective(BINARY)(like(x), Data(labels, w))
    p = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(grad, w * (p - labels), rtol=0, atol=CLOSE * w.max())
    np.testing.assert_allclose(hess, w * p * (1 - p), rtol=CLOSE)


@pytest.mark.parametrize("like", [xgboost_like, lightgbm_like])
def test_interfaces_agree(rng, like):
    """Native and scikit-learn's, and the loss itself, whatever its reduction and axis are."""
    scores, labels, w = data_of(rng)
    x = like(scores)
    rule = "bound" if x.dtype == np.float32 else "friedman"
    expected = fastloss.CrossEntropyLoss(reduction="sum").value_grad_hess(
        x, labels.astype(int), sample_weight=w, hessian=rule, floor=1e-16
    )[1:]
    for options in ({}, {"reduction": "none"}, {"axis": -1}, {"reduction": "sum"}):
        objective = Objective(fastloss.CrossEntropyLoss(**options))
        for got in (objective(x, Data(labels, w)), objective(labels, x, w)):
            for ours, theirs in zip(got, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=CLOSE, atol=CLOSE)


def test_scikit_learn_signature():
    """LightGBM counts the parameters, XGBoost looks for the name."""
    for adapter in (Objective(BINARY), Metric(BINARY)):
        assert list(inspect.signature(adapter).parameters) == ["y_true", "y_pred", "sample_weight"]


def test_no_weights(rng):
    scores, labels, _ = data_of(rng)
    one = np.ones(len(labels), np.float32)
    expected = Objective(SOFTMAX)(xgboost_like(scores), Data(labels, one))
    for weights in (None, np.empty(0, np.float32)):
        for got in (
            Objective(SOFTMAX)(xgboost_like(scores), Data(labels, weights)),
            Objective(SOFTMAX)(labels, xgboost_like(scores), sample_weight=weights),
        ):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("rule", ["exact", "bound", "friedman", "residual", 3.0])
def test_rules(rng, rule):
    scores, labels, _ = data_of(rng)
    floor = 0.125
    grad, hess = Objective(SOFTMAX, hessian=rule, floor=floor)(xgboost_like(scores), Data(labels))
    p = softmax(scores)
    exact = p * (1 - p)
    expected = {"exact": exact, "bound": 2 * exact, "friedman": K / (K - 1) * exact, "residual": abs(grad)}
    np.testing.assert_allclose(hess, np.maximum(expected.get(rule, 3 * exact), floor), rtol=CLOSE)


def test_rule_of_later_xgboost(rng, monkeypatch):
    """Of its softmax alone."""
    scores, labels, _ = data_of(rng)
    for version, rule in (
        ("3.2.0", "bound"),
        ("3.4.1", "bound"),
        ("3.5.0-dev", "residual"),
        ("4.0.0", "residual"),
    ):
        monkeypatch.setitem(sys.modules, "xgboost", SimpleNamespace(__version__=version))
        x, data = xgboost_like(scores), Data(labels)
        np.testing.assert_array_equal(Objective(SOFTMAX)(x, data), Objective(SOFTMAX, hessian=rule)(x, data))
        x, data = xgboost_like(scores[:, 0]), Data(labels > 0)
        np.testing.assert_array_equal(Objective(BINARY)(x, data), Objective(BINARY, hessian="exact")(x, data))


def test_hessian_of_confident_scores():
    """Where sigmoid(x) is 1 in float32 and 1 - p is 0: the built-in objectives have their floor there."""
    hess = Objective(BINARY)(np.array([20.0, -200.0], np.float32), Data(np.zeros(2, np.float32)))[1]
    np.testing.assert_allclose(hess, [np.exp(-20.0), 1e-16], rtol=CLOSE)
    hess = Objective(SOFTMAX)(np.array([[20, 0, 0]], np.float32), Data(np.zeros(1, np.float32)))[1]
    np.testing.assert_allclose(hess, [[4 * np.exp(-20.0), 2 * np.exp(-20.0), 2 * np.exp(-20.0)]], rtol=CLOSE)


OPTIONS = [
    fastloss.CrossEntropyLoss(weight=[1.0, 2.0, 0.5], label_smoothing=0.1),
    fastloss.CrossEntropyLoss(z_loss=0.01, softcap=10.0),
    fastloss.FocalLoss(),
    fastloss.GeneralizedCrossEntropyLoss(),
    fastloss.PolyLoss(),
]


@pytest.mark.parametrize("made", OPTIONS, ids=repr)
@pytest.mark.parametrize("like", [xgboost_like, lightgbm_like])
def test_any_loss_with_classes(rng, like, made):
    scores, labels, w = data_of(rng)
    grad, hess = Objective(made, hessian="bound")(like(scores), Data(labels, w))
    options = {**made.options(), "reduction": "sum"}
    expected = type(made)(**options).value_and_grad(scores, labels.astype(int), sample_weight=w)[1]
    np.testing.assert_allclose(grad, expected, rtol=0, atol=CLOSE * np.abs(expected).max())
    assert (hess > 0).all()


def test_distillation(rng):
    scores, labels, w = data_of(rng)
    teacher = softmax(rng.standard_normal(scores.shape))
    for like in (xgboost_like, lightgbm_like):
        for target in (teacher, teacher.astype(np.float32), np.asfortranarray(teacher)):
            grad, _ = Objective(SOFTMAX, target=target)(like(scores), Data(labels, w))
            np.testing.assert_allclose(
                grad, w[:, None] * (softmax(scores) - teacher), rtol=0, atol=CLOSE * w.max()
            )
    grad, _ = Objective(BINARY, target=teacher[:, 0])(scores[:, 0], Data(None))
    np.testing.assert_allclose(grad, 1 / (1 + np.exp(-scores[:, 0])) - teacher[:, 0], rtol=0, atol=CLOSE)


def test_several_labels(rng):
    """Matrices of labels, and one weight for each row."""
    scores, _, w = data_of(rng)
    labels = rng.integers(0, 2, scores.shape).astype(np.float32)
    p = 1 / (1 + np.exp(-scores))
    grad, _ = Objective(BINARY)(xgboost_like(scores), Data(labels, w))
    np.testing.assert_allclose(grad, w[:, None] * (p - labels), rtol=0, atol=CLOSE * w.max())
    made = Objective(fastloss.MultiLabelSoftMarginLoss(), target=labels)
    grad, _ = made(lightgbm_like(scores), Data(None, w))
    np.testing.assert_allclose(grad, w[:, None] * (p - labels) / K, rtol=0, atol=CLOSE * w.max())


def test_one_column(rng):
    """XGBoost's labels and scores of one column are vectors."""
    scores, labels, _ = data_of(rng, classes=2)
    x = xgboost_like(scores)
    np.testing.assert_array_equal(
        Objective(SOFTMAX)(x, Data(labels)), Objective(SOFTMAX)(x, Data(labels[:, None]))
    )
    flat = Objective(BINARY)(x[:, 0].copy(), Data(labels))
    np.testing.assert_array_equal(np.squeeze(Objective(BINARY)(x[:, :1].copy(), Data(labels)), -1), flat)


@pytest.mark.parametrize("like", [xgboost_like, lightgbm_like])
def test_ignored_rows(rng, like):
    scores, labels, _ = data_of(rng)
    labels[3], scores[3] = -1, np.nan
    grad, hess = Objective(fastloss.CrossEntropyLoss(ignore_index=-1))(like(scores), Data(labels))
    assert not grad[3].any()
    assert not hess[3].any()
    assert np.isfinite(grad).all()


# ------------------------------------------------------------------------------------------------ errors
def wrong(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize("like", [xgboost_like, lightgbm_like])
def test_errors_name_the_position(rng, like):
    scores, labels, w = data_of(rng)
    x, hard = like(scores), np.minimum(labels, 1)
    objective = Objective(SOFTMAX)
    with pytest.raises(ValueError, match=r"^y_true\[7\].*2\.5"):
        objective(x, Data(wrong(labels, 7, 2.5), w))
    with pytest.raises(ValueError, match=r"^y_true\[7\].*nan"):
        objective(x, Data(wrong(labels, 7, np.nan), w))
    with pytest.raises(IndexError, match=r"^y_true\[7\] = 3 .* 3 classes"):
        objective(x, Data(wrong(labels, 7, 3), w))
    with pytest.raises(ValueError, match=r"y_pred\[5, 1\] = nan"):
        objective(wrong(x, (5, 1), np.nan), Data(labels, w))
    with pytest.raises(ValueError, match=r"y_pred\[5, 1\] = inf"):
        objective(wrong(x, (5, 1), np.inf), Data(labels, w))
    with pytest.raises(ValueError, match=r"sample_weight\[2\] = nan"):
        objective(x, Data(labels, wrong(w, 2, np.nan)))
    with pytest.raises(ValueError, match=r"sample_weight: got shape \(199,\), wanted \(200,\)"):
        objective(x, Data(labels, w[1:]))
    with pytest.raises(ValueError, match=r"sample_weight: got shape \(1,\), wanted \(200,\)"):
        objective(labels, x, w[:1])
    with pytest.raises(ValueError, match=r"^y_true: got shape \(199,\), wanted \(200,\)"):
        objective(x, Data(labels[1:]))
    with pytest.raises(ValueError, match=r"y_pred: got shape \(200,\), wanted \(rows, classes\).*num_class"):
        objective(x[:, 0], Data(labels))
    with pytest.raises(TypeError, match="y_true: got None"):
        objective(x, Data(None))
    with pytest.raises(ValueError, match=r"y_pred\[5\] = nan"):
        Objective(BINARY)(wrong(x[:, 0], 5, np.nan), Data(hard, w))
    with pytest.raises(ValueError, match=r"y_true\[7\] = nan"):
        Objective(BINARY)(x[:, 0], Data(wrong(hard, 7, np.nan)))
    with pytest.raises(ValueError, match=r"y_pred\[5\] = nan"):
        Objective(BINARY).calc_ders_range(wrong(x[:, 0], 5, np.nan), hard, None)
    with pytest.raises(TypeError, match="loss_function='MultiClass'"):  # CatBoost has no num_class
        Objective(SOFTMAX).calc_ders_range(x[:, 0], labels, None)


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (ValueError, "hessian: got 'true'", {"hessian": "true"}),
        (ValueError, "hessian: got 0", {"hessian": 0}),
        (ValueError, "hessian: got nan", {"hessian": math.nan}),
        (TypeError, "hessian", {"hessian": object()}),
        (ValueError, "floor: got -1", {"floor": -1}),
        (ValueError, "floor: got nan", {"floor": math.nan}),
        (ValueError, "threads: got 0", {"threads": 0}),
        (TypeError, "threads: got float", {"threads": 1.0}),
        (TypeError, "target: ", {"target": np.ma.masked_array([1.0], [True])}),
    ],
)
def test_errors_of_options(error, words, options):
    with pytest.raises(error, match=f"^{words}"):
        Objective(BINARY, **options)


@pytest.mark.parametrize("kind", [Objective, Metric, lambda made: prior(made, [0, 1])])
@pytest.mark.parametrize(
    "made",
    [
        "logloss",
        fastloss.BCEWithLogitsLoss,
        None,
        fastloss.GaussianNLLLoss(),
        fastloss.KLDivWithLogitsLoss(alpha=0.5),
    ],
)
def test_what_is_no_loss_of_scores_and_labels(kind, made):
    with pytest.raises(TypeError, match=r"^loss: got .*wanted a loss of scores and labels"):
        kind(made)


def test_name_of_metric():
    with pytest.raises(TypeError, match=r"^name: got int"):
        Metric(BINARY, 1)


# ----------------------------------------------------------------------------------- memory, copies, threads
@pytest.mark.parametrize("like", [xgboost_like, lightgbm_like])
def test_memory_is_filled_again_unless_somebody_has_it(rng, like):
    scores, labels, _ = data_of(rng)
    objective, data = Objective(SOFTMAX), Data(labels)
    x = like(scores)
    addresses = {tuple(a.ctypes.data for a in objective(x, data)) for _ in range(5)}
    assert len(addresses) == 1
    kept = objective(x, data)
    before = np.copy(kept)
    for view in (lambda a: a, lambda a: a.ravel("K"), lambda a: a[3:, 1], memoryview):
        held = view(objective(x, data)[0])
        copied = np.copy(held)
        objective(like(scores + rng.standard_normal(scores.shape)), data)
        np.testing.assert_array_equal(held, copied)
    np.testing.assert_array_equal(kept, before)
    smaller = objective(like(scores[:50]), Data(labels[:50]))[0]
    assert smaller.shape == (50, K)
    other = objective(xgboost_like(scores), data)[0]
    assert other.flags.c_contiguous


def test_from_several_threads(rng):
    scores, labels, _ = data_of(rng, n=20_000)
    objective, failures = Objective(SOFTMAX), []
    shifted = [xgboost_like(scores + rng.standard_normal(scores.shape)) for _ in range(4)]
    expected = [np.copy(Objective(SOFTMAX)(x, Data(labels))) for x in shifted]

    def work(i):
        for _ in range(25):
            if not np.array_equal(objective(shifted[i], Data(labels)), expected[i]):
                failures.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
    assert failures == []


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies(rng, copied):
    scores, labels, _ = data_of(rng)
    teacher = softmax(scores[::-1])
    made = Objective(
        fastloss.CrossEntropyLoss([1, 2, 3.0]), hessian=2.0, floor=0.5, target=teacher, threads=1
    )
    before = [np.copy(a) for a in made(scores, Data(labels))]
    again = copied(made)
    assert repr(again) == repr(made)
    np.testing.assert_array_equal(again(scores, Data(labels)), before)
    metric = copied(Metric(SOFTMAX, "name"))
    assert metric(labels, scores)[0] == metric.__name__ == "name"


def test_deep_copies_share_what_is_large():
    made = Objective(BINARY, target=np.zeros(1000))
    assert copy.deepcopy(made).target is made.target


def test_scikit_learn_clones_catboosts_estimators():
    """Which copy what they are asked for, while `clone` wants the very object that it has passed."""
    catboost = pytest.importorskip("catboost")
    clone = pytest.importorskip("sklearn.base").clone
    made = catboost.CatBoostRegressor(loss_function=Objective(BINARY), eval_metric=Metric(BINARY))
    assert clone(made).get_params()["loss_function"] is made.get_params()["loss_function"]


def test_target_is_not_followed():
    target = np.zeros(2)
    made = Objective(BINARY, target=target)
    target[:] = 1
    np.testing.assert_array_equal(made(np.zeros(2), Data(None))[0], [0.5, 0.5])


def test_threads(rng, monkeypatch):
    seen = []
    original = fastloss.BCEWithLogitsLoss.value_grad_hess

    def spy(self, *args, **options):
        seen.append(fastloss.get_num_threads())
        return original(self, *args, **options)

    monkeypatch.setattr(fastloss.BCEWithLogitsLoss, "value_grad_hess", spy)
    with fastloss.threads(1):
        Objective(BINARY, threads=2)(np.zeros(2), Data(np.zeros(2)))
        Objective(BINARY)(np.zeros(2), Data(np.zeros(2)))
    assert seen == [2, 1]


def test_imports_no_library():
    names = "{'xgboost', 'lightgbm', 'catboost', 'scipy', 'sklearn'}"
    code = f"import sys, fastloss.boosting; print({names} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


# ----------------------------------------------------------------------------------------------- CatBoost's
def test_catboost_methods(rng):
    scores, labels, w = data_of(rng, classes=2)
    x = scores[:, 0]
    pairs = Objective(BINARY).calc_ders_range(x, labels, w)
    _, grad, hess = fastloss.BCEWithLogitsLoss(reduction="sum").value_grad_hess(x, labels, sample_weight=w)
    assert pairs.shape == (len(x), 2)
    assert pairs.dtype == np.float64
    np.testing.assert_array_equal(pairs, -np.stack([grad, hess], axis=1))
    kept = pairs.copy()
    Objective(BINARY).calc_ders_range(x + 1, labels, w)
    np.testing.assert_array_equal(pairs, kept)
    with pytest.raises(ValueError, match=r"^target: CatBoost"):
        Objective(BINARY, target=labels).calc_ders_range(x, labels, w)
    for made, name in (
        (SOFTMAX, "MultiClass"),
        (BINARY, "MultiCrossEntropy"),
        (fastloss.MSELoss(), "MultiRMSE"),
    ):
        with pytest.raises(TypeError, match=f"loss_function='{name}'"):
            Objective(made).calc_ders_multi([0.0, 1.0], 1.0, 1.0)
    assert Objective(BINARY).no_jit
    assert Metric(BINARY).no_jit


def test_metric_in_parts(rng):
    """CatBoost adds up what it gets for parts of the rows; with class weights, and where nothing counts."""
    scores, labels, w = data_of(rng)
    made = fastloss.CrossEntropyLoss([1, 2, 0.5], ignore_index=2)
    metric = Metric(made)
    ends = [(0, 50), (50, 51), (51, 200)]
    parts = [metric.evaluate(list(scores[a:b].T), labels[a:b], w[a:b]) for a, b in ends]
    got = metric.get_final_error(*np.sum(parts, axis=0))
    np.testing.assert_allclose(got, made(scores, labels.astype(int), sample_weight=w), rtol=1e-13)
    assert metric.evaluate(list(scores[:5].T), np.full(5, 2.0), None) == (0.0, 0.0)
    assert metric.get_final_error(0.0, 0.0) == 0.0
    assert Metric(fastloss.MSELoss()).evaluate([scores[:, 0]], scores[:, 0], None) == (0.0, 200.0)
    assert not metric.is_max_optimal()


# ---------------------------------------------------------------------------------------------------- metric
@pytest.mark.parametrize("like", [xgboost_like, lightgbm_like])
def test_metric(rng, like):
    scores, labels, w = data_of(rng)
    x = like(scores)
    expected = SOFTMAX(x, labels.astype(int), sample_weight=w)
    metric = Metric(fastloss.CrossEntropyLoss(reduction="none"), "m")
    native, skl = metric(x, Data(labels, w)), metric(labels, x, w)
    if like is xgboost_like:
        assert (native, skl) == (("m", expected), expected)
    else:
        assert native == skl == ("m", expected, False)
    assert Metric(SOFTMAX).name == Metric(SOFTMAX).__name__ == "cross_entropy"
    with pytest.raises(ValueError, match="sample_weight: got shape"):
        metric(labels, x, w[1:])


# ----------------------------------------------------------------------------------------------------- prior
def test_prior_in_closed_form(rng):
    _, labels, w = data_of(rng)
    counts = np.bincount(labels.astype(int), w)
    np.testing.assert_allclose(prior(SOFTMAX, labels, w), np.log(counts / counts.sum()), rtol=1e-12)
    counts = np.bincount(labels.astype(int)) * [1, 2, 3] * 0.9 + 0.1 / 3 * len(labels) * np.array([1, 2, 3])
    made = fastloss.CrossEntropyLoss([1, 2, 3.0], label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(prior(made, labels.astype(int)), np.log(counts / counts.sum()), rtol=1e-12)
    yes = (labels > 0).astype(np.float32)
    odds = 3 * w[yes == 1].sum(dtype=float) / w[yes == 0].sum(dtype=float)
    np.testing.assert_allclose(
        prior(fastloss.BCEWithLogitsLoss(pos_weight=3), yes, w), math.log(odds), rtol=1e-12
    )
    y = rng.poisson(1e6, 100)
    np.testing.assert_allclose(prior(fastloss.PoissonNLLLoss(), y), math.log(y.mean()), rtol=1e-12)
    np.testing.assert_allclose(prior(fastloss.MSELoss(), y), y.mean(), rtol=1e-12)
    matrix = softmax(rng.standard_normal((50, K)))
    np.testing.assert_allclose(prior(SOFTMAX, matrix), np.log(matrix.mean(axis=0)), rtol=1e-12)
    np.testing.assert_allclose(prior(fastloss.MSELoss(), matrix), matrix.mean(axis=0), rtol=1e-12)


PRIORS = {
    "cross_entropy": {"z_loss": 0.1, "softcap": 20.0},
    "focal_loss": {},
    "generalized_cross_entropy": {"q": 0.3},
    "poly_loss": {},
    "multinomial_nll_loss": {},
    "binary_cross_entropy_with_logits": {"pos_weight": 2.0},
    "binary_cross_entropy": {},
    "mse_loss": {},
    "sigmoid_focal_loss": {"alpha": 0.3},
    "soft_margin_loss": {},
    "multilabel_soft_margin_loss": {},
    "poisson_nll_loss": {"log_input": False},
}


@pytest.mark.parametrize("name", PRIORS)
def test_prior_is_where_the_gradient_is_zero(rng, name):
    _, labels, w = data_of(rng)
    if name == "multinomial_nll_loss":
        labels = rng.poisson(2.0, (len(w), K))
    elif name == "multilabel_soft_margin_loss":
        labels = rng.integers(0, 2, (len(w), K))
    elif name == "soft_margin_loss":
        labels = np.where(labels > 0, 1.0, -1.0)
    elif "binary" in name or "sigmoid" in name:
        labels = np.minimum(labels, 1)
    made = loss(name, **PRIORS[name], reduction="none")
    scores = prior(made, labels, w)
    shape = labels.shape if np.ndim(scores) == 0 else (len(w), K)
    summed = loss(name, **PRIORS[name], reduction="sum")
    y = labels.astype(int) if np.ndim(scores) and labels.ndim == 1 else labels
    grad = summed.value_and_grad(np.broadcast_to(scores, shape), y, sample_weight=w)[1]
    assert abs(grad.sum(axis=0)).max() <= 1e-9 * abs(grad).sum()


def test_prior_of_what_is_not_there():
    assert prior(BINARY, [1, 1]) == pytest.approx(-math.log(1e-15))
    assert prior(BINARY, [0, 0]) == pytest.approx(math.log(1e-15))
    np.testing.assert_allclose(prior(SOFTMAX, [0, 2]), np.log([0.5, 1e-15, 0.5]))
    np.testing.assert_allclose(prior(SOFTMAX, [0, 1], classes=3), np.log([0.5, 0.5, 1e-15]))
    scores = prior(fastloss.FocalLoss(), [0, 2, 2])
    assert np.isfinite(scores).all()
    assert scores[1] == pytest.approx(scores.max() + math.log(1e-15))
    made = fastloss.CrossEntropyLoss(ignore_index=(-1, 9))
    np.testing.assert_allclose(prior(made, [0, -1, 9, 1]), np.log([0.5, 0.5]))
    np.testing.assert_allclose(prior(SOFTMAX, [0, 0]), [0.0])


def test_errors_call_arguments_as_the_caller_does():
    scores, soft = np.zeros((2, 3)), Objective(SOFTMAX, target=[0, 7])
    with pytest.raises(IndexError, match=r"^target\[1\] = 7"):
        soft([0, 1], scores)
    with pytest.raises(ValueError, match=r"^target\[1\] = nan"):
        Objective(BINARY, target=[0, np.nan])([0, 1], np.zeros(2))
    for made in (Objective(SOFTMAX), Metric(SOFTMAX)):
        with pytest.raises(IndexError, match=r"^y_true\[1\] = 7"):
            made([0, 7], scores)
        with pytest.raises(ValueError, match=r"^y_true\[1\] = nan [^;]*wanted whole numbers$"):  # no mask
            made([0, np.nan], scores)
        with pytest.raises(TypeError, match=r"^y_true: got dtype <U1.*labels as text\?"):
            made(["a", "b"], scores)
    with pytest.raises(ValueError, match=r"^y_true: got shape \(3,\), wanted \(2,\) as y_pred$"):
        Metric(BINARY).evaluate([np.zeros(2)], np.zeros(3), None)


def test_prior_errors():
    with pytest.raises(ValueError, match=r"^y\[1\] = 2\.5 is outside \[0, 1\]$"):  # there is no input
        prior(BINARY, [0, 2.5])
    for made in (SOFTMAX, BINARY, fastloss.MSELoss()):
        with pytest.raises(ValueError, match=r"^sample_weight\[1\] = -2\.0, wanted at least 0$"):
            prior(made, [0, 1, 1], [1, -2, 1])
    with pytest.raises(TypeError, match=r"^y: got dtype <U1.*labels as text\?"):
        prior(SOFTMAX, ["a", "b"])
    with pytest.raises(ValueError, match=r"^y\[1\].*0\.5"):
        prior(SOFTMAX, [0, 0.5])
    with pytest.raises(ValueError, match=r"^y\[0\] = -1\.0 is outside \[0, 1\]$"):  # nothing about a mask
        prior(BINARY, [-1, 0, 1])
    with pytest.raises(TypeError, match=r"^sample_weight: got dtype <U1"):
        prior(BINARY, [0, 1], ["a", "b"])
    with pytest.raises(IndexError, match=r"^y\[1\] = 3"):
        prior(SOFTMAX, [0, 3], classes=2)
    with pytest.raises(ValueError, match=r"sample_weight: got shape \(3,\), wanted \(2,\)"):
        prior(SOFTMAX, [0, 1], [1, 1, 1])
    with pytest.raises(ValueError, match=r"^y: got shape \(0,\)"):
        prior(SOFTMAX, [])
    with pytest.raises(ValueError, match=r"^y: got shape \(2,\) and classes=2"):
        prior(BINARY, [0, 1], classes=2)
    with pytest.raises(ValueError, match=r"^classes: got 0"):
        prior(SOFTMAX, [0, 1], classes=0)
    with pytest.raises(TypeError, match=r"^classes: got float"):
        prior(SOFTMAX, [0, 1], classes=2.0)
    with pytest.raises(ValueError, match=r"^loss: no constant score minimises KLDivLoss"):
        prior(fastloss.KLDivLoss(), [0.5, 0.5])


# ---------------------------------------------------------------------------------------- inside of libraries
def table(classes, n=3000, seed=0):
    """Features, labels, weights: the trees have to be deep to tell the classes apart."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, 6))
    scores = features[:, :classes] + 0.7 * features[:, [5]] * rng.standard_normal((n, classes))
    return features, scores.argmax(axis=1), rng.uniform(0.5, 2, n)


ROUNDS = 50
CASES = pytest.mark.parametrize(
    ("classes", "weighted"), [(2, False), (2, True), (K, False), (K, True)], ids=lambda v: str(v)
)


def loss_of(classes):
    return BINARY if classes == 2 else SOFTMAX


def same_trees(ours, theirs):
    """Where they split, exactly; what they predict, to what float32 sums leave."""
    pytest.importorskip("pandas")
    ours, theirs = ours.trees_to_dataframe(), theirs.trees_to_dataframe()
    split, threshold = ("Feature", "Split") if "Feature" in ours else ("split_feature", "threshold")
    assert len(ours) == len(theirs) > ROUNDS
    assert list(ours[split].astype(str)) == list(theirs[split].astype(str))
    np.testing.assert_allclose(ours[threshold], theirs[threshold], atol=1e-30)  # LightGBM has -1e-35 for 0


XGBOOST = {"nthread": 1, "base_score": 0.5, "eta": 0.3, "max_depth": 5}
LIGHTGBM = {
    "num_threads": 1,
    "verbosity": -1,
    "boost_from_average": False,
    "deterministic": True,
    "metric": "None",
}


def xgboost_params(classes):
    if classes == 2:
        return XGBOOST | {"objective": "binary:logistic"}
    return XGBOOST | {"objective": "multi:softprob", "num_class": classes}


def lightgbm_params(classes, objective=None):
    own = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    return LIGHTGBM | own | ({} if objective is None else {"objective": objective})


@CASES
def test_xgboost(classes, weighted):
    xgboost = pytest.importorskip("xgboost")
    x, y, w = table(classes)
    data = xgboost.DMatrix(x, y, weight=w if weighted else None)
    theirs = xgboost.train(xgboost_params(classes), data, ROUNDS)
    made, log = loss_of(classes), {}
    ours = xgboost.train(
        xgboost_params(classes) | {"eval_metric": "logloss" if classes == 2 else "mlogloss"},
        data,
        ROUNDS,
        obj=Objective(made),
        custom_metric=Metric(made, "ours"),
        evals=[(data, "data")],
        evals_result=log,
        verbose_eval=False,
    )
    same_trees(ours, theirs)
    np.testing.assert_allclose(ours.predict(data), theirs.predict(data), rtol=1e-3, atol=1e-5)
    own, metric = log["data"].values()
    np.testing.assert_allclose(metric, own, rtol=1e-4)


@CASES
def test_lightgbm(classes, weighted):
    lightgbm = pytest.importorskip("lightgbm")
    x, y, w = table(classes)
    made, log = loss_of(classes), {}

    def data():
        return lightgbm.Dataset(x, y, weight=w if weighted else None)

    theirs = lightgbm.train(lightgbm_params(classes), data(), ROUNDS)
    train = data()
    ours = lightgbm.train(
        lightgbm_params(classes, Objective(made)),
        train,
        ROUNDS,
        feval=Metric(made, "ours"),
        valid_sets=[train],
        callbacks=[lightgbm.record_evaluation(log)],
    )
    same_trees(ours, theirs)
    scores = theirs.predict(x, raw_score=True)
    np.testing.assert_allclose(ours.predict(x), scores, rtol=1e-5, atol=1e-5)
    value = made(scores, y, sample_weight=w if weighted else None)
    assert log["training"]["ours"][-1] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("classes", [2, K])
def test_xgboost_scikit_learn(classes):
    xgboost = pytest.importorskip("xgboost")
    x, y, w = table(classes)
    made = loss_of(classes)
    options = {"n_estimators": 10, "n_jobs": 1, "base_score": 0.5}
    theirs = xgboost.XGBClassifier(**options).fit(x, y, sample_weight=w)
    ours = xgboost.XGBClassifier(**options, objective=Objective(made), eval_metric=Metric(made))
    ours.fit(x, y, sample_weight=w, eval_set=[(x, y)], verbose=False)
    same_trees(ours.get_booster(), theirs.get_booster())
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=1e-3, atol=1e-5)
    value = made(ours.predict(x, output_margin=True), y)
    assert ours.evals_result()["validation_0"][Metric(made).name][-1] == pytest.approx(value, abs=1e-6)
    xgboost.XGBClassifier(**options, objective=Objective(made)).fit(x, y)


@pytest.mark.parametrize("classes", [2, K])
def test_lightgbm_scikit_learn(classes):
    lightgbm = pytest.importorskip("lightgbm")
    x, y, w = table(classes)
    made = loss_of(classes)
    options = {"n_estimators": 10, "n_jobs": 1, "verbosity": -1, "boost_from_average": False}
    for weights in (w, None):
        theirs = lightgbm.LGBMClassifier(**options).fit(x, y, sample_weight=weights)
        ours = lightgbm.LGBMClassifier(**options, objective=Objective(made), metric="None")
        ours.fit(x, y, sample_weight=weights, eval_X=x, eval_y=y, eval_metric=Metric(made, "ours"))
        same_trees(ours.booster_, theirs.booster_)
        scores = ours.predict(x, raw_score=True)
        np.testing.assert_allclose(scores, theirs.predict(x, raw_score=True), rtol=1e-6, atol=1e-6)
        assert ours.evals_result_["valid_0"]["ours"][-1] == pytest.approx(made(scores, y), rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_catboost(weighted, tmp_path):
    catboost = pytest.importorskip("catboost")
    x, y, w = table(2)
    options = {
        "iterations": 20,
        "learning_rate": 0.3,
        "verbose": 0,
        "thread_count": 2,
        "train_dir": str(tmp_path),
    }
    options |= {
        "leaf_estimation_method": "Newton",
        "leaf_estimation_iterations": 1,
        "boost_from_average": False,
    }
    theirs = catboost.CatBoostClassifier(**options, loss_function="Logloss")
    ours = catboost.CatBoostClassifier(**options, loss_function=Objective(BINARY), eval_metric=Metric(BINARY))
    pool = catboost.Pool(x, y, weight=w if weighted else None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that Numba is missing
        ours.fit(pool)
    theirs.fit(pool)
    scores = theirs.predict(x, prediction_type="RawFormulaVal")
    np.testing.assert_allclose(ours.predict(x, prediction_type="RawFormulaVal"), scores, rtol=1e-9, atol=1e-9)
    log = ours.get_evals_result()["learn"]["Metric"]
    assert log[-1] == pytest.approx(BINARY(scores, y, sample_weight=w if weighted else None), rel=1e-6)


def test_catboost_of_classes(tmp_path):
    catboost = pytest.importorskip("catboost")
    x, y, _ = table(K, n=100)
    options = {"iterations": 2, "verbose": 0, "train_dir": str(tmp_path)}
    model = catboost.CatBoostClassifier(**options, loss_function=Objective(SOFTMAX), eval_metric="MultiClass")
    with pytest.raises(catboost.CatBoostError, match="use loss_function='MultiClass'"):
        model.fit(x, y)
    model = catboost.CatBoostClassifier(**options, loss_function="MultiClass", eval_metric=Metric(SOFTMAX))
    model.fit(x, y)
    value = SOFTMAX(model.predict(x, prediction_type="RawFormulaVal"), y)
    assert model.get_evals_result()["learn"]["Metric"][-1] == pytest.approx(value, rel=1e-6)


def test_xgboost_starts_far_away():
    """From scores of -200 XGBoost's softmax is 0/0 in float32, and it learns nothing."""
    xgboost = pytest.importorskip("xgboost")
    x, y, _ = table(K)
    data = xgboost.DMatrix(x, y, base_margin=np.full((len(y), K), -200.0))
    losses = []
    for objective in (None, Objective(SOFTMAX)):
        model = xgboost.train(xgboost_params(K), data, 10, obj=objective)
        losses.append(SOFTMAX(model.predict(data, output_margin=True), y))
    assert not losses[0] < 0.99 * math.log(K)
    assert losses[1] < 0.8 * math.log(K)


def test_start_from_prior():
    xgboost, lightgbm = pytest.importorskip("xgboost"), pytest.importorskip("lightgbm")
    x, y, w = table(K)
    start = prior(SOFTMAX, y, w)
    scores = np.tile(start, (len(y), 1))
    data = xgboost.DMatrix(x, y, weight=w, base_margin=scores)
    same_trees(
        xgboost.train(xgboost_params(K), data, ROUNDS, obj=Objective(SOFTMAX)),
        xgboost.train(xgboost_params(K), data, ROUNDS),
    )
    theirs = lightgbm.train(
        lightgbm_params(K) | {"boost_from_average": True}, lightgbm.Dataset(x, y, weight=w), ROUNDS
    )
    ours = lightgbm.train(
        lightgbm_params(K, Objective(SOFTMAX)),
        lightgbm.Dataset(x, y, weight=w, init_score=scores),
        ROUNDS,
    )
    same_trees(ours, theirs)
    np.testing.assert_allclose(
        ours.predict(x) + start, theirs.predict(x, raw_score=True), rtol=1e-4, atol=1e-4
    )


def test_recipes():
    """The code of docs/boosting.md that doctest leaves out; on one thread, for threads wait busily."""
    for name in ("xgboost", "lightgbm", "catboost", "sklearn"):
        pytest.importorskip(name)
    text = (Path(__file__).parents[1] / "docs" / "boosting.md").read_text()
    recipes = text.partition("## Recipes")[2].partition("## The Hessian")[0]
    code = "\n".join(line[4:] for line in recipes.split("\n") if line.startswith("    ") or not line)
    code += "print(probabilities.shape, (probabilities.argmax(axis=1) == y_test).mean() > 0.9)\n"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.stdout.endswith("(450, 10) True\n"), run.stdout + run.stderr


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
        )
        with cluster, distributed.Client(cluster) as made:
            yield made


@pytest.mark.filterwarnings("ignore")
def test_xgboost_dask(client):
    dask_xgboost = pytest.importorskip("xgboost.dask")
    array = pytest.importorskip("dask.array")
    x, y, w = table(K)
    data = dask_xgboost.DaskDMatrix(
        client, array.from_array(x, 1000), array.from_array(y, 1000), weight=array.from_array(w, 1000)
    )
    ours, theirs = (
        dask_xgboost.train(client, xgboost_params(K), data, ROUNDS, obj=objective)["booster"]
        for objective in (Objective(SOFTMAX), None)
    )
    same_trees(ours, theirs)


@pytest.mark.filterwarnings("ignore")
def test_lightgbm_dask(client):
    lightgbm = pytest.importorskip("lightgbm")
    array = pytest.importorskip("dask.array")
    x, y, w = table(K)
    parts = [array.from_array(each, (1000, 6)[: each.ndim]) for each in (x, y)]
    weights = array.from_array(w, 1000)
    options = {"n_estimators": ROUNDS, "verbosity": -1, "boost_from_average": False, "client": client}
    theirs = lightgbm.DaskLGBMClassifier(**options).fit(*parts, sample_weight=weights)
    ours = lightgbm.DaskLGBMClassifier(**options, objective=Objective(SOFTMAX))
    ours.fit(*parts, sample_weight=weights)
    same_trees(ours.booster_, theirs.booster_)


@pytest.mark.parametrize("kind", [fastloss.CrossEntropyLoss, fastloss.FocalLoss, fastloss.PolyLoss])
@pytest.mark.parametrize(
    "options",
    [
        {"scale": 2.0},
        {"scale": -1.0},
        {"bias": [1.0, 2.0, 3.0]},
        {"scale": [1.0, -2.0, 0.5], "bias": [1, 0, 2]},
    ],
)
def test_prior_of_logits_that_are_scaled(kind, options):
    y = np.repeat([0, 1, 2], [5, 3, 2])
    loss = kind(reduction="sum", **options)
    x = prior(loss, y)
    grad = loss.value_and_grad(np.tile(x, (len(y), 1)), y)[1].sum(0)
    np.testing.assert_allclose(grad, 0, atol=1e-10)
    with pytest.raises(ValueError, match=r"loss: got scale=0\.0, wanted none of 0"):
        prior(kind(scale=0.0), y)


@pytest.mark.parametrize("kind", [fastloss.CrossEntropyLoss, fastloss.FocalLoss, fastloss.PolyLoss])
@pytest.mark.parametrize("z_loss", [0.0, 0.001, 0.1])
@pytest.mark.parametrize("softcap", [None, 2.0, 30.0])
def test_prior_of_logits_that_are_held_back(kind, z_loss, softcap):
    loss = kind(z_loss=z_loss, softcap=softcap, scale=0.5, bias=[0.5, 0.0, -0.5])
    y = np.array([0] * 10 + [1] * 12 + [2] * 9)
    x = prior(loss, y)
    grad = loss.value_and_grad(np.tile(x, (len(y), 1)), y)[1].sum(0)
    np.testing.assert_allclose(grad, 0, atol=1e-10)


def test_prior_beyond_the_cap():
    y = [0] * 1000 + [1]
    for softcap in (4.0, 6.9):  # logits that are half of log 1000 apart
        x = prior(fastloss.CrossEntropyLoss(softcap=softcap), y)
        assert np.ptp(softcap * np.tanh(x / softcap)) == pytest.approx(math.log(1000))
    for options in ({"softcap": 3.0}, {"softcap": 6.9, "z_loss": 0.1}):
        with pytest.raises(ValueError, match=r"^loss: no constant score minimises"):
            prior(fastloss.CrossEntropyLoss(**options), y)


def test_prior_names_what_is_not_a_number():
    with pytest.raises(ValueError, match=r"y\[1\] = nan, wanted a number"):
        prior(fastloss.MSELoss(), [1.0, np.nan])
    with pytest.raises(ValueError, match=r"sample_weight\[0\] = nan"):
        prior(fastloss.CrossEntropyLoss(), [0, 1], sample_weight=[np.nan, 1.0])
