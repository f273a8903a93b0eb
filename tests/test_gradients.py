"""Gradients against central differences of the value, in float64."""

import numpy as np
import pytest

from fastloss.bounds import unit
from tests.support.cases import REDUCED, WITH_CLASSES, loss, make

STEP = 2.0**-12


def numeric(f, x):
    """Differences extrapolated from two steps, and what they may be off by.

    The two differ by three times the truncation error of the shorter, which extrapolation removes
    to first order; rounding of the value adds u |f| / STEP.
    """
    slope, error = np.empty(x.shape), np.empty(x.shape)
    for i in np.ndindex(x.shape):
        values = {}
        for k in (-2, -1, 1, 2):
            moved = x.copy()
            moved[i] += k * STEP
            values[k] = f(moved)
        near = (values[1] - values[-1]) / (2 * STEP)
        far = (values[2] - values[-2]) / (4 * STEP)
        slope[i] = (4 * near - far) / 3
        rounding = 8 * unit(np.float64) * max(1.0, *map(abs, values.values())) / STEP
        error[i] = abs(near - far) + rounding
    return slope, error


@pytest.mark.parametrize(("variant", "reduction"), REDUCED)
def test_central_differences(variant, reduction, rng, isa):
    for shape, axis in [((3, 4), 1), ((2, 3, 2), 1), ((2, 3, 2), -1), ((4,), 0)]:
        if axis == -1 and variant not in WITH_CLASSES:
            continue
        case = make(variant, rng, shape, axis=axis, spread=1.5, ignored=0.2)
        if case.target.dtype.kind == "i":
            case.target.flat[0] = 0  # not everything is ignored
        if case.name == "binary_cross_entropy":
            case.input = 0.1 + 0.8 * case.input
        made = loss(case.name, **case.options, reduction=reduction)
        sample_weight = 0.5 + rng.random(case.value_shape)
        shaped = case.value_shape if reduction == "none" else ()
        grad_output = rng.standard_normal(shaped)

        def scalar(x, made=made, t=case.target, s=sample_weight, g=grad_output):
            return float(np.sum(made(x, t, sample_weight=s) * g))

        grad = made.value_and_grad(
            case.input, case.target, sample_weight=sample_weight, grad_output=grad_output
        )[1]
        slope, error = numeric(scalar, case.input)
        assert np.all(np.abs(grad - slope) <= error)


@pytest.mark.parametrize("variant", ["cross_entropy", "multinomial_nll_loss"])
def test_gradients_of_softmax_losses_sum_to_zero(variant, rng, isa):
    """Adding a constant to all logits changes nothing."""
    case = make(variant, rng, (20, 70))
    made = loss(case.name, **case.options, reduction="sum")
    grad = made.value_and_grad(case.input, case.target)[1]
    allowed = 8 * unit(np.float64) * np.abs(grad).sum(1) * np.abs(case.input).max()
    assert np.all(np.abs(grad.sum(1)) <= allowed)


def test_gradient_of_none_is_each_samples_own(rng, isa):
    for variant in ("cross_entropy", "nll_loss", "mse_loss"):
        case = make(variant, rng, (5, 6))
        many = loss(case.name, **case.options, reduction="none")
        total = loss(case.name, **case.options, reduction="sum")
        together = many.value_and_grad(case.input, case.target)[1]
        assert np.array_equal(together, total.value_and_grad(case.input, case.target)[1])
