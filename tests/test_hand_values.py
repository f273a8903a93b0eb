"""Values and gradients that fit on the back of an envelope."""

from math import exp, inf, lgamma, log, log1p, nan, pi

import numpy as np
import pytest

import fastloss
from fastloss.bounds import ulp
from tests.support.cases import loss
from tests.support.oracle import assert_within

ARRAYS = [
    ("logsumexp", [0, 0, 0, 0], log(4)),
    ("logsumexp", [[0, log(3)], [1, 1]], [log(4), 1 + log(2)]),
    ("logsumexp", [1000.0, 1000.0], 1000 + log(2)),
    ("softmax", [0, log(3)], [0.25, 0.75]),
    ("softmax", [5.0], [1.0]),
    ("log_softmax", [0, log(3)], [log(0.25), log(0.75)]),
    ("log_softmax", [20.0, 0.0], [-2.061153620314381e-09, -20 - 2.061153620314381e-09]),
    ("sigmoid", [0, log(3), -log(3)], [0.5, 0.75, 0.25]),
    ("sigmoid", [-30.0], [9.357622968839299e-14]),
    ("logsigmoid", [0, log(3), -log(3)], [-log(2), log(0.75), log(0.25)]),
    ("logsigmoid", [30.0], [-9.357622968839737e-14]),
    ("entropy", [0.5, 0.5], log(2)),
    ("entropy", [1.0, 0.0], 0.0),
    ("entropy", [0.25, 0.75], 0.25 * log(4) + 0.75 * log(4 / 3)),
    ("entropy_from_logits", [7, 7, 7], log(3)),
    ("entropy_from_logits", [0, log(3)], 0.25 * log(4) + 0.75 * log(4 / 3)),
]

CE = "cross_entropy"
BCE_LOGITS = "binary_cross_entropy_with_logits"
BCE = "binary_cross_entropy"
TWO = [[0, 0], [0, log(3)]]
FOCAL_SLOPE = (1 + 6 * log(4 / 3)) / 16
AT_HALF, AT_QUARTER = (1 + log(2)) / 16, 3 * (1 + 3 * log(4 / 3)) / 64
FOCAL_TWO = [[-AT_HALF, AT_HALF], [AT_QUARTER, -AT_QUARTER]]
FOCAL = "sigmoid_focal_loss"
HALF = log(2 * pi) / 2

#: function, input, target, options, value, gradient
LOSSES = [
    (CE, [[0, 0]], [0], {}, log(2), [[-0.5, 0.5]]),
    (CE, [0, log(3)], 1, {}, log(4 / 3), [0.25, -0.25]),
    (CE, [20, 0], 0, {}, 2.061153620314381e-09, [-2.0611536181902037e-09, 2.0611536181902037e-09]),
    (CE, [1e8, 1e8], 0, {}, log(2), [-0.5, 0.5]),
    (CE, [1e30, 0, -1e30], 1, {}, 1e30, [1, -1, 0]),
    (CE, TWO, [0, 1], {}, (log(2) + log(4 / 3)) / 2, [[-0.25, 0.25], [0.125, -0.125]]),
    (CE, TWO, [0, 1], {"reduction": "sum"}, log(2) + log(4 / 3), [[-0.5, 0.5], [0.25, -0.25]]),
    (
        CE,
        TWO,
        [0, 1],
        {"reduction": "none"},
        [log(2), log(4 / 3)],
        [[-0.5, 0.5], [0.25, -0.25]],
    ),
    (
        CE,
        TWO,
        [0, 1],
        {"weight": [1, 3]},
        (log(2) + 3 * log(4 / 3)) / 4,
        [[-0.125, 0.125], [3 / 16, -3 / 16]],
    ),
    (CE, TWO, [-100, 1], {}, log(4 / 3), [[0, 0], [0.25, -0.25]]),
    (CE, TWO, [0, 1], {"ignore_index": 0}, log(4 / 3), [[0, 0], [0.25, -0.25]]),
    (
        CE,
        [0, log(3)],
        1,
        {"label_smoothing": 0.5},
        0.75 * log(4 / 3) + 0.25 * log(4),
        [0, 0],
    ),
    (CE, [0, log(3)], [0.5, 0.5], {}, 0.5 * log(4 / 3) + 0.5 * log(4), [-0.25, 0.25]),
    (CE, [0, log(3)], [0.25, 0.75], {}, 0.75 * log(4 / 3) + 0.25 * log(4), [0, 0]),
    ("nll_loss", [[-1, -2], [-3, -4]], [0, 1], {}, 2.5, [[-0.5, 0], [0, -0.5]]),
    (
        "nll_loss",
        [[-1, -2], [-3, -4]],
        [0, 1],
        {"weight": [1, 3]},
        13 / 4,
        [[-0.25, 0], [0, -0.75]],
    ),
    ("multinomial_nll_loss", [0, 0], [3, 2], {}, 5 * log(2), [-0.5, 0.5]),
    ("multinomial_nll_loss", [0, 0], [3, 2], {"full": True}, 5 * log(2) - log(10), [-0.5, 0.5]),
    (
        CE,
        [0, log(3)],
        1,
        {"z_loss": 0.5},
        log(4 / 3) + 0.5 * log(4) ** 2,
        [(1 + log(4)) / 4, 0.75 * log(4) - 0.25],
    ),
    (CE, [inf, 0, 0], 1, {"softcap": 5.0}, nan, [nan] * 3),
    (CE, [-inf, 0, 0], 1, {"softcap": 5.0}, log(2), [0, -0.5, 0.5]),
    (
        CE,
        [2 * log(3), 0],
        0,
        {"softcap": 2.0},
        log1p(exp(-1.6)),
        [-0.36 / (1 + exp(1.6)), 1 / (1 + exp(1.6))],
    ),
    ("focal_loss", [0, log(3)], 1, {}, log(4 / 3) / 16, [s / 4 for s in (FOCAL_SLOPE, -FOCAL_SLOPE)]),
    ("focal_loss", [0, log(3)], 1, {"gamma": 0}, log(4 / 3), [0.25, -0.25]),
    (
        "focal_loss",
        TWO,
        [0, 1],
        {"weight": [1, 3], "gamma": 1},
        (log(2) / 2 + 0.75 * log(4 / 3)) / 4,
        FOCAL_TWO,
    ),
    ("generalized_cross_entropy", [0, log(3)], 1, {"q": 1}, 0.25, [3 / 16, -3 / 16]),
    ("generalized_cross_entropy", [0, log(3)], 0, {"q": 0.5}, 1, [-0.375, 0.375]),
    ("generalized_cross_entropy", [-inf, 0], 0, {"q": 0.5}, 2, [0, 0]),
    ("poly_loss", [0, log(3)], 1, {}, log(4 / 3) + 0.25, [7 / 16, -7 / 16]),
    ("poly_loss", [0, log(3)], 1, {"epsilon": -1}, log(4 / 3) - 0.25, [1 / 16, -1 / 16]),
    (BCE_LOGITS, [0], [1], {}, log(2), [-0.5]),
    (BCE_LOGITS, [log(3), log(3)], [1, 0], {}, (log(4 / 3) + log(4)) / 2, [-0.125, 0.375]),
    (BCE_LOGITS, [-30], [0], {}, 9.357622968839737e-14, [9.357622968839299e-14]),
    (BCE_LOGITS, [0, 0], [1, 0], {"pos_weight": 3, "reduction": "sum"}, 4 * log(2), [-1.5, 0.5]),
    (BCE_LOGITS, [0, 0], [1, 0], {"weight": [1, 3]}, 2 * log(2), [-0.25, 0.75]),
    (BCE, [0.25], [1], {}, log(4), [-4]),
    (BCE, [0.25, 0.25], [1, 0], {"reduction": "none"}, [log(4), log(4 / 3)], [-4, 4 / 3]),
    (BCE, [0.0, 1.0], [1, 0], {"reduction": "none"}, [100, 100], [-1e12, 1e12]),
    ("kl_div", [log(0.5), log(0.5)], [1, 0], {"reduction": "sum"}, log(2), [-1, 0]),
    (
        "kl_div",
        [[log(0.5), log(0.5)]] * 2,
        [[0.25, 0.75]] * 2,
        {"reduction": "batchmean"},
        log(2) - 0.25 * log(4) - 0.75 * log(4 / 3),
        [[-0.125, -0.375]] * 2,
    ),
    (
        "kl_div",
        [log(0.5)],
        [log(0.25)],
        {"log_target": True},
        -0.25 * log(2),
        [-0.25],
    ),
    ("mse_loss", [1, 2], [0, 0], {}, 2.5, [1, 2]),
    ("mse_loss", [1, 2], [0, 0], {"reduction": "none"}, [1, 4], [2, 4]),
    (FOCAL, [0], [1], {}, log(2) / 4, [-0.125 - 0.25 * log(2)]),
    (FOCAL, [log(3)], [1], {}, log(4 / 3) / 16, [-(1.5 * log(4 / 3) + 0.25) / 16]),
    (FOCAL, [log(3)], [0], {"gamma": 1}, 0.75 * log(4), [0.75 * (0.75 + 0.25 * log(4))]),
    (FOCAL, [log(3)], [0], {"gamma": 0, "alpha": 0.25}, 0.75 * log(4), [0.75**2]),
    (FOCAL, [log(3)], [0], {"gamma": 0.5}, 0.75**0.5 * log(4), [0.75**0.5 * (0.75 + log(4) / 8)]),
    (FOCAL, [0], [0.25], {}, log(2) / 4, [0.25 * (0.25 + log(2) / 2)]),
    (FOCAL, [-30], [0], {"gamma": 1}, 8.756510762695291e-27, [1.7513021525389353e-26]),
    ("soft_margin_loss", [log(3), log(3)], [1, -1], {}, (log(4 / 3) + log(4)) / 2, [-0.125, 0.375]),
    ("soft_margin_loss", [-1000], [1], {}, 1000, [-1]),
    ("multilabel_soft_margin_loss", [0, log(3)], [1, 0], {}, (log(2) + log(4)) / 2, [-0.25, 0.375]),
    (
        "multilabel_soft_margin_loss",
        [[0, log(3)], [0, 0]],
        [[1, 0], [1, 1]],
        {"reduction": "none", "weight": [1, 2]},
        [(log(2) + 2 * log(4)) / 2, 1.5 * log(2)],
        [[-0.25, 0.75], [-0.25, -0.5]],
    ),
    ("poisson_nll_loss", [log(3)], [2], {}, 3 - 2 * log(3), [1]),
    ("poisson_nll_loss", [3], [2], {"log_input": False, "eps": 0}, 3 - 2 * log(3), [1 / 3]),
    (
        "poisson_nll_loss",
        [0, 0],
        [1, 4],
        {"full": True, "reduction": "sum"},
        4.5 * log(4) - 2 + HALF,
        [0, -3],
    ),
]


def close(got, wanted):
    """Within 4 ulp of float64 at the result, or at 1 for a difference of logarithms near 1.

    The expressions above round their logarithms and probabilities, the functions round theirs.
    """
    wanted = np.asarray(wanted, np.float64)
    small = np.abs(wanted) < 2.0**-20  # written out to the last digit
    scale = np.where(small & (wanted != 0), np.abs(wanted), np.maximum(np.abs(wanted), 1.0))
    assert_within(got, wanted, 4 * ulp(scale, np.float64), np.float64)


@pytest.mark.parametrize(("function", "x", "wanted"), ARRAYS)
def test_array_functions(function, x, wanted, isa):
    close(getattr(fastloss, function)(x), wanted)


@pytest.mark.parametrize(("function", "x", "target", "options", "value", "grad"), LOSSES)
def test_losses(function, x, target, options, value, grad, isa):
    got, slope = loss(function, **options).value_and_grad(x, target)
    close(got, value)
    close(slope, grad)
    close(getattr(fastloss, function)(x, target, **options), value)


def test_sample_weight():
    value, grad = loss(CE).value_and_grad(TWO, [0, 1], sample_weight=[1, 3])
    close(value, (log(2) + 3 * log(4 / 3)) / 4)
    close(grad, [[-0.125, 0.125], [3 / 16, -3 / 16]])
    value, grad = loss("mse_loss").value_and_grad([1, 2], [0, 0], sample_weight=[3, 1])
    close(value, 7 / 4)
    close(grad, [1.5, 1])


def test_class_weight_and_sample_weight_share_the_divisor():
    made = loss(CE, weight=[2, 3], ignore_index=1)
    value = made([[0, 0], [0, 0], [0, log(3)]], [0, 1, 0], sample_weight=[1, 7, 2])
    close(value, (2 * log(2) + 4 * log(4)) / 6)


def test_grad_output():
    grad = loss(CE).value_and_grad(TWO, [0, 1], grad_output=-4)[1]
    close(grad, [[1, -1], [-0.5, 0.5]])
    grad = loss(CE, reduction="none").value_and_grad(TWO, [0, 1], grad_output=[2, -4])[1]
    close(grad, [[-1, 1], [-1, 1]])


def test_values_are_python_floats_or_arrays():
    for reduction in ("mean", "sum"):
        assert type(fastloss.cross_entropy([[0.0, 1.0]], [0], reduction=reduction)) is float
    assert type(fastloss.kl_div([[-1.0]], [[1.0]], reduction="batchmean")) is float
    none = fastloss.cross_entropy(np.zeros(3, np.float32), 0, reduction="none")
    assert isinstance(none, np.ndarray)
    assert none.shape == ()
    assert none.dtype == np.float32


def test_multinomial_constant_of_fractional_counts():
    """-log(n! / prod k!) by the gamma function: 2 log 2 / 2 + 2 lgamma(1.5) for counts of one half."""
    got = fastloss.multinomial_nll_loss([[0.0, 0.0]], [[0.5, 0.5]], full=True)
    want = log(2) + 2 * lgamma(1.5)
    # libm's lgamma is within 2 ulp; the terms have both signs
    assert abs(got - want) <= 8 * 2.0**-53 * (log(2) + 2 * abs(lgamma(1.5)))
