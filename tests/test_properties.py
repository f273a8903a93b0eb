"""Shapes and values chosen by hypothesis, against the reference."""

import math

import numpy as np
from cases import loss, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from oracle import (
    assert_within,
    coefficients,
    cross_entropy_bound,
    cross_entropy_grad_bound,
    logsumexp_bound,
    softmax_bound,
    ulp,
)

import fastloss
from fastloss import reference

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


@checked
@given(logits())
def test_softmax(case):
    x, axis = case
    got = fastloss.softmax(x, axis)
    allowed = softmax_bound(x, axis, x.dtype)
    assert_within(got, reference.softmax(x, axis), allowed, x.dtype, True)
    assert ((got >= 0) & (got <= 1)).all()
    total = fastloss.logsumexp(x, axis)
    ahead = total.astype(np.float64) - x.max(axis)
    allowed = logsumexp_bound(x, axis, total, x.dtype)
    assert ((ahead >= 0) & (ahead <= math.log(x.shape[axis]) + allowed)).all()


@checked
@given(labelled())
def test_cross_entropy(case):
    x, axis, labels = case
    made = loss("cross_entropy", reduction="none", axis=axis)
    value, grad = made.value_and_grad(x, labels)
    wanted, slope = reference.cross_entropy(x, labels, axis=axis, reduction="none")
    c = coefficients(labels, x.shape, axis)
    assert_within(value, wanted, cross_entropy_bound(x, c, axis, wanted, x.dtype), x.dtype, True)
    assert_within(grad, slope, cross_entropy_grad_bound(x, c, axis, x.dtype), x.dtype, True)
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
    c = coefficients(labels, x.shape, axis)
    allowed = cross_entropy_bound(x, c, axis, value.astype(np.float64), x.dtype)
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
    value, grad = loss("binary_cross_entropy_with_logits", reduction="none").value_and_grad(x, y)
    wanted, slope = reference.binary_cross_entropy_with_logits(x, y, reduction="none")
    # two same-signed terms, each within 2 ulp of the larger
    assert_within(value, wanted, 2 * ulp(wanted, x.dtype), x.dtype, True)
    p = reference.sigmoid(x)
    largest = np.maximum((1 - y.astype(np.float64)) * p, y * reference.sigmoid(-x))
    assert_within(grad, slope, 2 * ulp(largest, x.dtype), x.dtype, True)
    assert value.shape == grad.shape == x.shape


@checked
@given(pairs())
def test_mse_loss(case):
    x, y = case
    value, grad = loss("mse_loss", reduction="none").value_and_grad(x, y)
    wanted, slope = reference.mse_loss(x, y, reduction="none")
    assert_within(value, wanted, 2 * ulp(wanted, x.dtype), x.dtype, True)
    assert_within(grad, slope, 2 * ulp(slope, x.dtype), x.dtype, True)


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
    added = float(rows.sum(dtype=np.float64))
    allowed = float(ulp(rows, x.dtype).sum()) + 2 * float(ulp(added, np.float64))
    assert_within(total, added, allowed, np.float64)
    n = float(weight.sum(dtype=np.float64))
    assert_within(mean, total / n, 4 * ulp(total / n, np.float64), np.float64)
