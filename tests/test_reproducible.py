"""The same call gives the same bits: on any number of threads, in any batch, in any output."""

import numpy as np
import pytest
from cases import POINTWISE, VARIANTS, WITH_CLASSES, loss, make, run, same_bits

import fastloss
from fastloss import _kernels

#: More elements than stay on one thread, for the lanes and the rows kernel.
SHAPES = [((4001, 10), 1), ((150, 333), 1), ((7, 6000), 1), ((2, 7, 3000), 1), ((70, 900), 0)]
ARRAY_FUNCTIONS = ["logsumexp", "softmax", "log_softmax", "entropy_from_logits"]


def both(case):
    """Values and gradients under "sum" and "none"."""
    total, grad = run(case, "sum")
    values, grads = run(case, "none")
    return np.float64(total), grad, values, grads, np.float64(run(case, "mean")[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_number_of_threads(variant, dtype, rng, isa):
    for shape, axis in SHAPES:
        case = make(variant, rng, shape, dtype, axis, ignored=0.1)
        with fastloss.threads(1):
            wanted = both(case)
        for n in (2, 3, 4, 8):
            with fastloss.threads(n):
                for a, b in zip(both(case), wanted, strict=True):
                    assert same_bits(a, b)


@pytest.mark.parametrize("function", [*ARRAY_FUNCTIONS, "entropy", "sigmoid", "logsigmoid"])
def test_number_of_threads_in_array_functions(function, rng, isa):
    for shape, axis in SHAPES:
        x = rng.random(shape).astype(np.float32)
        arguments = () if "sigmoid" in function else (axis,)
        with fastloss.threads(1):
            wanted = getattr(fastloss, function)(x, *arguments)
        for n in (2, 3, 4, 8):
            with fastloss.threads(n):
                assert same_bits(getattr(fastloss, function)(x, *arguments), wanted)


def take(case, rows):
    """Some samples of a case whose samples come first."""
    part = type(case)(**vars(case))
    part.input = np.ascontiguousarray(case.input[rows])
    part.target = np.ascontiguousarray(case.target[rows])
    return part


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", WITH_CLASSES)
def test_row_alone_or_in_any_batch(variant, dtype, rng, isa):
    """Whatever the other rows hold, wherever the row stands."""
    for shape in [(200, 10), (70, 100), (5, 1500)]:
        case = make(variant, rng, shape, dtype)
        values, grads = run(case, "none")
        order = rng.permutation(len(values))
        part = take(case, order)
        shuffled = run(part, "none")
        assert same_bits(shuffled[0], values[order])
        assert same_bits(shuffled[1], grads[order])
        n = len(values)
        for rows in ([0], [n - 1], [1], slice(3, 4), slice(1, None), slice(0, n - 1), slice(2, 5)):
            some = run(take(case, rows), "none")
            assert same_bits(some[0], values[rows])
            assert same_bits(some[1], grads[rows])


@pytest.mark.parametrize("variant", POINTWISE)
def test_element_alone_or_in_any_batch(variant, rng, isa):
    case = make(variant, rng, (1037, 1), np.float32)
    values, grads = run(case, "none")
    for rows in ([0], [1036], [511], [512], slice(1, None), slice(3, 700), slice(17, 20)):
        some = run(take(case, rows), "none")
        assert same_bits(some[0], values[rows])
        assert same_bits(some[1], grads[rows])


@pytest.mark.parametrize("function", ARRAY_FUNCTIONS)
def test_row_alone_in_array_functions(function, rng, isa):
    for shape in [(200, 10), (70, 100), (5, 1500)]:
        x = rng.standard_normal(shape).astype(np.float32)
        wanted = getattr(fastloss, function)(x)
        for rows in ([0], [4], slice(1, 3), slice(1, None)):
            assert same_bits(getattr(fastloss, function)(x[rows]), wanted[rows])


@pytest.mark.parametrize("variant", VARIANTS)
def test_output_given_or_allocated(variant, rng, isa):
    for shape in [(100, 10), (5, 333)]:
        case = make(variant, rng, shape, np.float32)
        wanted = run(case, "none")
        out = np.empty(case.value_shape, np.float32)
        got = run(case, "none", out=out, grad_out=np.empty(shape, np.float32))
        assert same_bits(got[0], wanted[0])
        assert same_bits(got[1], wanted[1])
        got = run(case, "none", grad_out=case.input)
        assert same_bits(got[0], wanted[0])
        assert same_bits(got[1], wanted[1])


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs both avx2 and avx512")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_avx2_and_avx512_agree_in_every_bit(variant, dtype, rng):
    before = _kernels.active
    try:
        for shape, axis in [*SHAPES, ((9, 31), 1), ((5, 1027), 1)]:
            case = make(variant, rng, shape, dtype, axis)
            _kernels.use("avx2")
            wanted = both(case)
            _kernels.use("avx512")
            for a, b in zip(both(case), wanted, strict=True):
                assert same_bits(a, b)
    finally:
        _kernels.use(before)


def test_repeated_calls(rng, isa):
    case = make("cross_entropy", rng, (999, 17), np.float32)
    values = {loss("cross_entropy")(case.input, case.target) for _ in range(20)}
    assert len(values) == 1
