"""Shapes and values chosen by hypothesis, against the reference."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import fastloss
from fastloss import bounds, reference
from tests.support.cases import loss, same_bits
from tests.support.oracle import assert_within

checked = settings(derandomize=True, deadline=None, max_examples=150, database=None)

DTYPES = st.sampled_from([np.float32, np.float64])
SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=9)


def numbers(dtype, low=-1e4, high=1e4, masks=False):
    width = 32 if dtype == np.float32 else 64
    finite = st.floats(low, high, width=width)
    return finite | st.just(-math.inf) if masks else finite


@st.composite
def logits(draw, masks=True):
    """Logits with masked classes, but no row without a finite one; and their class axis."""
    dtype = draw(DTYPES)
    shape = draw(SHAPES | st.tuples(st.integers(1, 3), st.integers(60, 130)))
    x = draw(arrays(dtype, shape, elements=numbers(dtype, masks=masks)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    first = np.moveaxis(x, axis, 0)[0, ...]
    first[np.isinf(first)] = 0
    return x, axis


@st.composite
def labelled(draw):
    x, axis = draw(logits())
    shape = np.moveaxis(x, axis, -1).shape
    labels = draw(arrays(np.int64, shape[:-1], elements=st.integers(0, shape[-1] - 1)))
    return x, axis, labels


def agree(name, x, target, **options):
    """Value and gradient, within their bounds of the reference's."""
    options["reduction"] = "none"
    value, grad = loss(name, **options).value_and_grad(x, target)
    wanted, slope = getattr(reference, name)(x, target, **options)
    allowed = bounds.against_reference(bounds.loss, x.dtype, name, x, target, **options)
    assert_within(value, wanted, allowed.value, x.dtype)
    assert_within(grad, slope, allowed.grad, x.dtype)
    return value, grad


@checked
@given(logits())
def test_softmax(case):
    x, axis = case
    got = fastloss.softmax(x, axis)
    allowed = bounds.against_reference(bounds.array_function, x.dtype, "softmax", x, axis)
    assert_within(got, reference.softmax(x, axis), allowed, x.dtype)
    assert ((got >= 0) & (got <= 1)).all()
    total = fastloss.logsumexp(x, axis)
    ahead = total.astype(np.float64) - x.max(axis)
    allowed = bounds.array_function("logsumexp", x, axis, dtype=x.dtype)
    assert ((ahead >= 0) & (ahead <= math.log(x.shape[axis]) + allowed)).all()


@checked
@given(labelled())
def test_cross_entropy(case):
    x, axis, labels = case
    value, _ = agree("cross_entropy", x, labels, axis=axis)
    assert (value >= 0).all()


@checked
@given(labelled(), st.integers(0, 2**32 - 1))
def test_order_of_classes_and_samples_only_reorders(case, seed):
    x, axis, labels = case
    made = loss("cross_entropy", reduction="none", axis=axis)
    value = made(x, labels)
    rng = np.random.default_rng(seed)
    if labels.ndim:
        order = rng.permutation(labels.shape[0])
        place = 0 if axis % x.ndim else 1
        assert same_bits(made(np.take(x, order, place), labels[order]), value[order])
    classes = rng.permutation(x.shape[axis])
    moved = made(np.take(x, classes, axis), np.argsort(classes)[labels])
    allowed = bounds.loss("cross_entropy", x, labels, dtype=x.dtype, reduction="none", axis=axis).value
    assert_within(moved, value.astype(np.float64), 2 * allowed, x.dtype)


@st.composite
def pairs(draw):
    dtype = draw(DTYPES)
    shape = draw(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    x = draw(arrays(dtype, shape, elements=numbers(dtype)))
    return x, draw(arrays(dtype, shape, elements=numbers(dtype, 0, 1)))


@checked
@given(pairs())
def test_binary_cross_entropy_with_logits(case):
    x, y = case
    value, grad = agree("binary_cross_entropy_with_logits", x, y)
    assert value.shape == grad.shape == x.shape


@checked
@given(pairs())
def test_mse_loss(case):
    agree("mse_loss", *case)


@checked
@given(labelled(), st.data())
def test_weights_scale_and_reductions_add_up(case, data):
    x, axis, labels = case
    weight = data.draw(arrays(x.dtype, labels.shape, elements=numbers(x.dtype, 0.5, 2)))
    rows = loss("cross_entropy", reduction="none", axis=axis)(x, labels, sample_weight=weight)
    total = loss("cross_entropy", reduction="sum", axis=axis)(x, labels, sample_weight=weight)
    mean = loss("cross_entropy", axis=axis)(x, labels, sample_weight=weight)
    if np.isinf(rows).any():
        assert total == mean == math.inf
        return
    added = math.fsum(rows.ravel())
    allowed = float(bounds.ulp(rows, x.dtype).sum()) + bounds.TOTALS * 2.0**-53 * added
    assert_within(total, added, allowed, np.float64)
    n = float(weight.sum(dtype=np.float64))
    assert_within(mean, total / n, 4 * bounds.ulp(total / n, np.float64), np.float64)
