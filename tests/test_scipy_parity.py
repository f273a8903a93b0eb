"""The functions that scipy.special and scikit-learn have too."""

import itertools

import numpy as np
import pytest

import fastloss
from fastloss import bounds
from tests.support.oracle import assert_within

special = pytest.importorskip("scipy.special", reason="needs scipy")

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["logsumexp", "softmax", "log_softmax"])
def test_over_classes(function, dtype, rng, isa):
    """Against scipy in float64."""
    for shape, axis in itertools.product([(7, 9), (3, 4, 100)], [0, 1, -1]):
        x = (4 * rng.standard_normal(shape)).astype(dtype)
        wanted = getattr(special, function)(x.astype(np.float64), axis=axis)
        allowed = bounds.array_function(function, x, axis, dtype=dtype)
        # scipy's log_softmax is x - m - log s: it rounds at the size of log s, near 1 too
        allowed = allowed + 4 * 2.0**-53 * (np.abs(wanted) + 1)
        assert_within(getattr(fastloss, function)(x, axis), wanted, allowed, dtype)
        if function == "logsumexp":
            kept = fastloss.logsumexp(x, axis, keepdims=True)
            assert kept.shape == special.logsumexp(x, axis=axis, keepdims=True).shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ours", "theirs"), [("sigmoid", "expit"), ("logsigmoid", "log_expit")])
def test_sigmoids(ours, theirs, dtype, rng, isa):
    x = np.concatenate([30 * rng.standard_normal(500), [0, -0.0, np.inf, -np.inf, np.nan]])
    x = x.astype(dtype)
    wanted = getattr(special, theirs)(x.astype(np.float64))
    allowed = bounds.against_reference(bounds.array_function, dtype, ours, x)
    assert_within(getattr(fastloss, ours)(x), wanted, allowed, dtype)


def test_entropy(rng, isa):
    p = rng.dirichlet(np.ones(70), 30)
    p[3] = np.eye(70)[3]
    wanted = special.entr(p).sum(-1)
    allowed = bounds.against_reference(bounds.array_function, np.float64, "entropy", p)
    assert_within(fastloss.entropy(p), wanted, allowed, np.float64)


def test_kl_div_is_rel_entr(rng, isa):
    p, q = rng.dirichlet(np.ones(5), (2, 30))
    ours = fastloss.kl_div(np.log(q), p, reduction="none")
    largest = np.maximum(np.abs(p * np.log(p)), np.abs(p * np.log(q)))
    assert_within(ours, special.rel_entr(p, q), 4 * bounds.ulp(largest, np.float64), np.float64)


@pytest.mark.parametrize("weighted", [False, True])
def test_scikit_learns_losses(weighted, rng, isa):
    """Half the deviance: the binary and the multinomial loss, values and gradients."""
    sklearn_loss = pytest.importorskip("sklearn._loss", reason="needs scikit-learn")
    n = 200
    weight = 0.5 + rng.random(n) if weighted else None
    x, y = 3 * rng.standard_normal(n), rng.integers(0, 2, n).astype(float)
    theirs = sklearn_loss.HalfBinomialLoss()
    value, grad = theirs.loss_gradient(y_true=y, raw_prediction=x, sample_weight=weight)
    made = fastloss.BCEWithLogitsLoss(reduction="none")
    ours = made.value_and_grad(x, y, sample_weight=weight)
    close(ours[0], value)
    close(ours[1], grad)
    x, y = 3 * rng.standard_normal((n, 6)), rng.integers(0, 6, n)
    theirs = sklearn_loss.HalfMultinomialLoss(n_classes=6)
    value, grad = theirs.loss_gradient(y_true=y.astype(float), raw_prediction=x, sample_weight=weight)
    made = fastloss.CrossEntropyLoss(reduction="none")
    ours = made.value_and_grad(x, y, sample_weight=weight)
    close(ours[0], value)
    close(ours[1], grad)


def close(ours, theirs):
    """Theirs cancels at the size of the logits, about 10."""
    allowed = 8 * bounds.ulp(np.maximum(np.abs(theirs), 10), np.float64)
    assert_within(ours, theirs, allowed, np.float64)
