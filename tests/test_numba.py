"""Numba's compiled code calls the kernels by their addresses."""

import ctypes

import numpy as np
import pytest

import fastloss
from fastloss import cython_api

numba = pytest.importorskip("numba")

SIZE, POINTER = ctypes.c_ssize_t, ctypes.c_void_p
ROWS = ctypes.CFUNCTYPE(SIZE, SIZE, SIZE, POINTER, SIZE, POINTER)
LOSS = ctypes.CFUNCTYPE(
    SIZE, SIZE, SIZE, POINTER, SIZE, POINTER, ctypes.c_int64, ctypes.c_double, POINTER, POINTER, POINTER
)
softmax = ROWS(cython_api.address("softmax_float"))
cross_entropy = LOSS(cython_api.address("cross_entropy_double"))


@numba.njit(nogil=True)
def best_probability(x):
    """The largest probability of each row, one row at a time, in a buffer."""
    best, p = np.empty(len(x), x.dtype), np.empty(x.shape[1], x.dtype)
    for i in range(len(x)):
        if softmax(1, x.shape[1], x[i].ctypes, x.shape[1], p.ctypes) == 0:
            best[i] = p.max()
    return best


@numba.njit(nogil=True)
def value_and_grad(x, labels):
    values, grad, total = np.empty(len(x)), np.empty_like(x), np.empty(1)
    status = cross_entropy(
        len(x),
        x.shape[1],
        x.ctypes,
        x.shape[1],
        labels.ctypes,
        -100,
        0.5,
        values.ctypes,
        grad.ctypes,
        total.ctypes,
    )
    return status, values, grad


def test_rows_in_a_loop(rng):
    x = rng.standard_normal((50, 12), np.float32)
    np.testing.assert_array_equal(best_probability(x), fastloss.softmax(x).max(1))


def test_loss_and_gradient(rng):
    x, labels = rng.standard_normal((50, 300)), rng.integers(0, 300, 50)
    loss = fastloss.CrossEntropyLoss(reduction="none")
    status, values, grad = value_and_grad(x, labels)
    expected, expected_grad = loss.value_and_grad(x, labels, grad_output=0.5)
    assert status == 0
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(grad, expected_grad)
    labels[3] = 300
    assert value_and_grad(x, labels)[0] == 4


@pytest.mark.parametrize("name", cython_api.names())
def test_numba_finds_the_same_addresses(name):
    find = numba.extending.get_cython_function_address
    assert find("fastloss.cython_api", name) == cython_api.address(name)
