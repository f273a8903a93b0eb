"""How the losses hang together, in float64."""

import math
from contextlib import nullcontext

import numpy as np
import pytest

import fastloss
from fastloss.bounds import ulp
from tests.support.oracle import assert_within

LOG_2_PI = math.log(2 * math.pi)


def equal(a, b, scale=1.0, roundings=8):
    """Equal but for the rounding of intermediate numbers no larger than ``scale``."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.maximum(np.abs(b), np.max(np.abs(scale)))
    assert_within(a, b, roundings * ulp(size, np.float64), np.float64)


@pytest.fixture(params=[2, 7, 70])
def logits(request, rng, isa):
    return 5 * rng.standard_normal((40, request.param))


@pytest.fixture
def labels(logits, rng):
    return rng.integers(0, logits.shape[1], len(logits))


def test_log_softmax_is_x_minus_logsumexp(logits):
    equal(fastloss.log_softmax(logits), logits - fastloss.logsumexp(logits, keepdims=True), logits)
    equal(fastloss.softmax(logits), np.exp(fastloss.log_softmax(logits)), 1, 8 * 30)
    equal(fastloss.softmax(logits).sum(1), np.ones(40))


def test_logsigmoid_is_log_of_sigmoid_and_softmax_of_x_and_0(rng):
    x = 20 * rng.standard_normal(200)
    equal(fastloss.logsigmoid(x), np.log(fastloss.sigmoid(x)), x)
    pairs = np.stack([x, np.zeros(200)], 1)
    equal(fastloss.sigmoid(x), fastloss.softmax(pairs)[:, 0])
    equal(fastloss.logsigmoid(x), fastloss.log_softmax(pairs)[:, 0], x)
    equal(fastloss.sigmoid(x) + fastloss.sigmoid(-x), np.ones(200))


def test_cross_entropy_is_nll_of_log_softmax(logits, labels):
    for reduction in ("none", "sum", "mean"):
        ours = fastloss.cross_entropy(logits, labels, reduction=reduction)
        theirs = fastloss.nll_loss(fastloss.log_softmax(logits), labels, reduction=reduction)
        equal(ours, theirs, logits if reduction != "sum" else 40 * logits)


def test_binary_cross_entropy_of_sigmoid_is_the_one_with_logits(rng, isa):
    x, y = 3 * rng.standard_normal(300), rng.random(300)
    ours = fastloss.binary_cross_entropy_with_logits(x, y, reduction="none")
    # 1 - p is rounded at 1: a relative error of exp(x) ulp
    theirs = fastloss.binary_cross_entropy(fastloss.sigmoid(x), y, reduction="none")
    assert_within(ours, theirs, ulp(np.exp(np.abs(x)) * 4 + np.abs(x), np.float64), np.float64)


def test_cross_entropy_is_entropy_plus_kl_divergence(logits, rng):
    q = rng.dirichlet(np.ones(logits.shape[1]), len(logits))
    ce = fastloss.cross_entropy(logits, q, reduction="none")
    kl = fastloss.kl_div(fastloss.log_softmax(logits), q, reduction="none").sum(1)
    equal(ce, fastloss.entropy(q) + kl, logits, 40)


def test_kl_divergence_of_itself_is_zero_and_log_target_agrees(logits, rng):
    log_p = fastloss.log_softmax(logits)
    equal(fastloss.kl_div(log_p, log_p, log_target=True, reduction="none"), np.zeros(log_p.shape))
    p = fastloss.softmax(logits)
    x = fastloss.log_softmax(rng.standard_normal(p.shape))
    ours = fastloss.kl_div(x, p, reduction="none")
    equal(ours, fastloss.kl_div(x, log_p, log_target=True, reduction="none"), logits, 40)


def test_probabilities_that_are_one_hot_are_labels(logits, labels):
    hot = np.eye(logits.shape[1])[labels]
    for smoothing in (0.0, 0.3):
        by_label = fastloss.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")
        value, grad = by_label.value_and_grad(logits, labels)
        value_2, grad_2 = by_label.value_and_grad(logits, hot)
        equal(value_2, value, logits)
        equal(grad_2, grad)


def test_multinomial_of_one_hot_counts_is_cross_entropy(logits, labels):
    hot = np.eye(logits.shape[1])[labels]
    value, grad = fastloss.MultinomialNLLLoss(reduction="none").value_and_grad(logits, hot)
    value_2, grad_2 = fastloss.CrossEntropyLoss(reduction="none").value_and_grad(logits, labels)
    equal(value, value_2, logits)
    equal(grad, grad_2)
    full = fastloss.multinomial_nll_loss(logits, hot, full=True, reduction="none")
    equal(full, value, logits)


def test_two_classes_are_the_binary_loss_of_the_difference(rng, isa):
    x, y = 5 * rng.standard_normal((50, 2)), rng.integers(0, 2, 50)
    ours = fastloss.cross_entropy(x, y, reduction="none")
    theirs = fastloss.binary_cross_entropy_with_logits(x[:, 1] - x[:, 0], y, reduction="none")
    equal(ours, theirs, x)
    grad = fastloss.CrossEntropyLoss(reduction="none").value_and_grad(x, y)[1]
    binary = fastloss.BCEWithLogitsLoss(reduction="none").value_and_grad(x[:, 1] - x[:, 0], y)[1]
    equal(grad[:, 1], binary)
    equal(grad[:, 0], -binary)


def test_limits_of_the_losses_of_a_label(logits, labels):
    """Focal loss of gamma 0 and poly-1 of epsilon 0 are cross-entropy; generalized of q 1 is 1 - p_t."""
    value, grad = fastloss.CrossEntropyLoss(reduction="none").value_and_grad(logits, labels)
    for made in (fastloss.FocalLoss(0, reduction="none"), fastloss.PolyLoss(0, reduction="none")):
        same, same_grad = made.value_and_grad(logits, labels)
        equal(same, value, logits)
        equal(same_grad, grad)
    p = fastloss.softmax(logits)[np.arange(len(labels)), labels]
    made = fastloss.GeneralizedCrossEntropyLoss(1, reduction="none")
    absolute, slope = made.value_and_grad(logits, labels)
    equal(absolute, 1 - p)
    equal(slope, p[:, None] * grad, roundings=64)
    near = fastloss.generalized_cross_entropy(logits, labels, 1e-12, reduction="none")
    np.testing.assert_allclose(near, value, rtol=1e-12 * (1 + value.max()))


def test_poly_and_generalized_meet(logits, labels):
    """Cross-entropy and 1 - p_t: their sum is poly-1, and focal loss of gamma 1 is less by what p_t takes."""
    ce = fastloss.cross_entropy(logits, labels, reduction="none")
    absolute = fastloss.generalized_cross_entropy(logits, labels, 1.0, reduction="none")
    equal(fastloss.poly_loss(logits, labels, reduction="none"), ce + absolute, logits)
    equal(fastloss.focal_loss(logits, labels, 1.0, reduction="none"), absolute * ce, logits)


def test_z_loss_is_the_square_of_logsumexp(logits, labels):
    square = fastloss.logsumexp(logits) ** 2
    q = fastloss.softmax(logits[::-1])
    for target in (labels, q):
        for options in ({}, {"label_smoothing": 0.1}):
            plain = fastloss.cross_entropy(logits, target, reduction="none", **options)
            ours = fastloss.cross_entropy(logits, target, reduction="none", z_loss=0.5, **options)
            equal(ours, plain + 0.5 * square, square)
    weight = np.linspace(0.5, 2, logits.shape[1])  # no factor of the square
    plain = fastloss.focal_loss(logits, labels, weight=weight, reduction="none")
    ours = fastloss.focal_loss(logits, labels, weight=weight, reduction="none", z_loss=0.5)
    equal(ours, plain + 0.5 * square, square)


def test_softcap_is_tanh_before(logits, labels):
    cap = 7.0
    inner = cap * np.tanh(logits / cap)
    slope = 1 / np.cosh(logits / cap) ** 2
    for name in ("CrossEntropyLoss", "FocalLoss", "GeneralizedCrossEntropyLoss", "PolyLoss"):
        kind = getattr(fastloss, name)
        value, grad = kind(softcap=cap, reduction="none").value_and_grad(logits, labels)
        plain, plain_grad = kind(reduction="none").value_and_grad(inner, labels)
        equal(value, plain, logits)
        equal(grad, plain_grad * slope, 1.0, roundings=64)


def test_uniform_smoothing_is_a_mixture(logits, labels):
    eps = 0.25
    smooth = fastloss.cross_entropy(logits, labels, label_smoothing=eps, reduction="none")
    plain = fastloss.cross_entropy(logits, labels, reduction="none")
    even = np.full(logits.shape, 1 / logits.shape[1])
    uniform = fastloss.cross_entropy(logits, even, reduction="none")
    equal(smooth, (1 - eps) * plain + eps * uniform, logits)


def test_entropy_from_logits_is_entropy_of_softmax(logits):
    ours = fastloss.entropy_from_logits(logits)
    equal(ours, fastloss.entropy(fastloss.softmax(logits)), logits)
    equal(ours, fastloss.cross_entropy(logits, fastloss.softmax(logits), reduction="none"), logits)


def test_likelihoods(rng, isa):
    x, p = rng.standard_normal(9), 0.1 + 0.8 * rng.random(9)
    y = rng.integers(0, 2, 9)
    bernoulli = -np.log(np.where(y == 1, p, 1 - p))
    equal(fastloss.binary_cross_entropy(p, y, reduction="none"), bernoulli, 4)
    z = rng.standard_normal(9)
    gaussian = 0.5 * (x - z) ** 2 + 0.5 * LOG_2_PI
    equal(0.5 * fastloss.mse_loss(x, z, reduction="none") + 0.5 * LOG_2_PI, gaussian, 8)
    k = np.array([3, 0, 2, 1])
    logits = rng.standard_normal(4)
    chance = math.factorial(6) / (6 * 2) * float(np.prod(fastloss.softmax(logits) ** k))
    full = fastloss.multinomial_nll_loss(logits, k, full=True)
    equal(full, -math.log(chance), 6 * 10)


def descend(f, x, steps=400):
    """Gradient descent with step 1."""
    for _ in range(steps):
        x = x - f(x)
    return x


def test_maximum_likelihood_recovers_the_frequencies(rng):
    """Minimising the NLL of one set of logits for all samples gives the empirical frequencies.

    The gradient is p - f; an error of the last step shrinks by at least 1 - min(f) / 2 a step.
    """
    labels = rng.choice(4, 500, p=[0.4, 0.3, 0.2, 0.1])
    counts = np.bincount(labels)
    frequencies = counts / 500

    def of_labels(x):
        x = np.broadcast_to(x, (500, 4))
        return fastloss.CrossEntropyLoss().value_and_grad(x, labels)[1].sum(0)

    def of_counts(x):
        return fastloss.MultinomialNLLLoss().value_and_grad(x, counts, grad_output=1 / 500)[1]

    for slope in (of_labels, of_counts):
        equal(fastloss.softmax(descend(slope, np.zeros(4))), frequencies, roundings=40)
    ones = (labels == 0).astype(float)

    def of_bits(x):
        x = np.broadcast_to(x, 500)
        return 2 * fastloss.BCEWithLogitsLoss().value_and_grad(x, ones)[1].sum()

    equal(fastloss.sigmoid(descend(of_bits, np.zeros(()))), frequencies[0], roundings=40)


@pytest.mark.parametrize("share", [0.1, 0.0])  # as a number of the dtype; of the second ε, too small for one
@pytest.mark.parametrize("classes", [200, 2048, 4500])  # within a block of the rows kernel, one, and several
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_smoothing_is_that_with_equal_weights(classes, dtype, share, rng, isa):
    logits = 5 * rng.standard_normal((7, classes)).astype(dtype)
    logits[1].sort()  # the maximum rises from block to block
    logits[2, 100] = -np.inf
    logits[3, 100] = np.nan
    logits[4, :150] = -np.inf
    logits[5, 100] = 1e30
    labels = rng.integers(0, classes, 7)
    smoothing = share or float(np.finfo(dtype).smallest_subnormal)
    assert (dtype(smoothing / classes) > 0) == (share > 0)
    smoothed = fastloss.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")
    weighted = fastloss.CrossEntropyLoss(np.ones(classes), label_smoothing=smoothing, reduction="none")
    with fastloss.checking() if share else nullcontext():
        value, grad = smoothed.value_and_grad(logits, labels)
        expected, expected_grad = weighted.value_and_grad(logits, labels)
    assert np.isposinf(value[[2, 4]]).all() == (share > 0)
    assert np.isnan(value).tolist() == [False, False, False, True, False, False, False]
    np.testing.assert_allclose(value, expected, rtol=4 * np.finfo(dtype).eps)  # terms of one sign
    if share == 0:  # otherwise they are of both
        np.testing.assert_array_equal(grad, expected_grad)
