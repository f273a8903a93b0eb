"""The estimators of `fastloss.sklearn`, and scikit-learn's own tests of its losses on fastloss."""

import importlib
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastloss

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from fastloss.sklearn import TemperatureScaling, VectorScaling

ROOT = Path(__file__).parents[1]
inf = math.inf


class OfFeatures:
    """Logits are a linear model's of features, for scikit-learn's checks, which have as many as they like.

    All that the estimators do with their arguments comes before.
    """

    def _columns(self, logits):
        if not hasattr(self, "model_") or self.fitting_:
            return logits
        return super()._columns(self.model_.decision_function(logits))

    def _fit(self, logits, labels, sample_weight):
        self.model_ = LogisticRegression().fit(logits, self.classes_[labels], sample_weight)
        self.fitting_ = False
        super()._fit(self._columns(logits), labels, sample_weight)

    def fit(self, logits, y, sample_weight=None):
        self.fitting_ = True
        return super().fit(logits, y, sample_weight)


class TemperatureOfFeatures(OfFeatures, TemperatureScaling):
    pass


class VectorOfFeatures(OfFeatures, VectorScaling):
    pass


@parametrize_with_checks([TemperatureOfFeatures(), VectorOfFeatures()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    """Logits of a model that is too sure of itself, of samples that it has not seen, and their labels."""
    x, y = load_digits(return_X_y=True)
    names = np.array([f"digit {i}" for i in range(10)])
    model = LogisticRegression(C=1e3, max_iter=200).fit(x[:300] / 16, names[y[:300]])
    return model, x[300:] / 16, names[y[300:]]


def test_temperature_is_scikit_learns(digits):
    model, x, y = digits
    logits = model.decision_function(x)
    own = TemperatureScaling().fit(logits, y)
    assert own.temperature_ == fastloss.temperature(logits, np.unique(y, return_inverse=True)[1])
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature", ensemble=False).fit(x, y)
    assert own.predict_proba(logits) == pytest.approx(theirs.predict_proba(x), abs=1e-6)
    assert (own.predict(logits) == model.predict(x)).all()
    assert own.temperature_ > 1.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vector_scaling(digits, dtype):
    model, x, y = digits
    logits = model.decision_function(x).astype(dtype)
    labels = np.unique(y, return_inverse=True)[1]
    weight = np.random.default_rng(0).random(len(y))
    own = VectorScaling().fit(logits, y, weight)
    scale, bias = fastloss.vector_scaling(logits, labels, sample_weight=weight)
    assert (own.scale_ == scale).all()
    assert (own.bias_ == bias).all()
    p = own.predict_proba(logits)
    assert p.dtype == dtype
    assert p == pytest.approx(fastloss.softmax(logits * scale + bias), abs=1e-5)
    assert (own.predict(logits) == own.classes_[p.argmax(1)]).all()


class Column:
    """One of polars: an array without `ndim`."""

    def __init__(self, numbers):
        self.numbers, self.shape = numbers, numbers.shape

    def __len__(self):
        return len(self.numbers)

    def __array__(self, dtype=None, copy=None):
        return self.numbers.astype(dtype or float)


@pytest.mark.parametrize("kind", [TemperatureScaling, VectorScaling])
def test_two_classes_as_one_column(kind):
    rng = np.random.default_rng(1)
    logit = 3 * rng.standard_normal(300)
    y = np.where(rng.random(300) < fastloss.sigmoid(0.5 * logit + 0.3), "yes", "no")
    both = kind().fit(np.stack([0 * logit, logit], 1), y)
    p = both.predict_proba(np.stack([0 * logit, logit], 1))
    assert kind().fit(logit, y).predict_proba(logit) == pytest.approx(p, abs=1e-12)
    assert kind().fit(Column(logit), y).predict_proba(Column(logit)) == pytest.approx(p, abs=1e-12)
    assert kind().fit(logit[:, None], y).predict_proba(logit[:, None]) == pytest.approx(p, abs=1e-12)
    model = LogisticRegression(C=inf).fit(logit[:, None], y)  # Platt's scaling, without his labels
    if kind is VectorScaling:
        assert p == pytest.approx(model.predict_proba(logit[:, None]), abs=1e-3)


@pytest.mark.parametrize("kind", [TemperatureScaling, VectorScaling])
def test_classes_that_no_label_is_of(kind):
    rng = np.random.default_rng(2)
    logits = 3 * rng.standard_normal((200, 4))
    y = np.array(["a", "b", "d", "d"])[(0.6 * logits + rng.gumbel(size=logits.shape)).argmax(1)]
    with pytest.raises(ValueError, match="logits: got 4 columns for 3 classes"):
        kind().fit(logits, y)
    model = clone(kind(classes=["a", "b", "c", "d"])).fit(logits, y)
    assert model.predict_proba(logits).shape == (200, 4)
    with pytest.raises(ValueError, match=r"y\[0\] = 'b' is none of the classes"):
        kind(classes=["a", "c", "e", "f"]).fit(logits[y == "b"], y[y == "b"])
    with pytest.raises(ValueError, match=r"sample_weight\[3\] = -1"):
        kind(classes=["a", "b", "c", "d"]).fit(logits, y, sample_weight=np.where(np.arange(200) == 3, -1, 1))


@pytest.mark.parametrize("kind", [TemperatureScaling, VectorScaling])
def test_no_sample_counts(kind):
    with pytest.raises(ValueError, match=r"^sample_weight: all are zero"):
        kind().fit([[4.0, 0.0]] * 2, [0, 1], sample_weight=[0, 0])


def test_limits_of_the_temperature():
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    sure = TemperatureScaling().fit(logits[:2], [0, 1])
    assert sure.temperature_ == 0
    assert sure.predict_proba(logits).tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    wrong = TemperatureScaling().fit(logits[:2], [1, 0])
    assert wrong.temperature_ == inf
    assert wrong.predict_proba(logits).tolist() == [[0.5, 0.5]] * 3


@pytest.mark.parametrize("solver", ["L-BFGS-B", "Newton-CG"])
def test_example_of_logistic_regression(solver, monkeypatch):
    """The minimum is LogisticRegression's, and the product with the Hessian the gradient's derivative."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "recipes")
    example = importlib.import_module("logistic_regression")
    x, labels = load_digits(return_X_y=True)
    x, labels = x[:400] / 16, labels[:400]
    with threadpool_limits(1):
        weights, found = example.fit(x, labels, strength=0.1, solver=solver, tol=1e-6)
        theirs = LogisticRegression(C=0.1, tol=1e-6, max_iter=1000).fit(x, labels)
    assert found.success or solver == "Newton-CG"  # which is stopped
    assert weights[:, :-1] == pytest.approx(theirs.coef_, abs=1e-3)
    of = example.Objective(x, labels, 10, 0.1)
    vector = np.random.default_rng(0).standard_normal(weights.size)
    step = 1e-5 * vector
    slopes = [of.value_and_grad(weights.ravel() + s)[1] for s in (step, -step)]
    product = (slopes[0] - slopes[1]) / 2e-5
    assert of.hessp(weights.ravel(), vector) == pytest.approx(product, abs=1e-8)


def test_scikit_learns_tests_of_its_losses():
    """On `tests.support.scikit`, the half binomial, multinomial, Poisson and squared losses are fastloss's.

    Left out is a test of the C function for one sample, which nothing else of scikit-learn calls.
    """
    pytest.importorskip("sklearn._loss.tests.test_loss", reason="scikit-learn without its tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.scikit", "-p", "no:cacheprovider"]
    command += ["-c", "/dev/null", "--rootdir", "/dev", "-k", "not test_multinomial_cy_gradient"]
    command += ["--pyargs", "sklearn._loss.tests.test_loss"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert int(re.search(r"calls of fastloss: (\d+)", run.stdout)[1]) > 1000
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) > 1000


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scaling", [TemperatureScaling, VectorScaling])
def test_what_scales_small_float32_logits_need_not_be_float32(scaling, rng):
    """Logits whose temperature is below the normal numbers, and whose scale is above the largest."""
    unit = 1e-40
    logits = (rng.standard_normal((60, 3)) * unit).astype(np.float32)
    labels = (logits + rng.standard_normal((60, 3)) * unit).argmax(1)
    wide = logits.astype(np.float64) / unit
    expected = scaling().fit(wide, labels).predict_proba(wide)
    found = scaling().fit(logits, labels).predict_proba(logits)
    # What is scaled is rounded, below 16: two of them u of that each; and softmax.
    np.testing.assert_allclose(found, expected, rtol=(2 * 16 + 16) * np.finfo(np.float32).eps / 2)
