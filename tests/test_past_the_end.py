"""Nothing is read behind an argument, or written behind a result: there the memory ends."""

import ctypes
import mmap
import sys

import numpy as np
import pytest

from .support.cases import VARIANTS, make, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="mprotect is of POSIX")

SHAPES = [
    (1, 5),
    (7, 3),
    (8, 10),
    (17, 19),
    (70, 10),
    (129, 33),
    (33, 200),
    (5, 300),
    (3, 2, 70),
    (2, 19, 66),
]


def at_the_end(array):
    """A copy whose last byte is that of a page; the page behind it must not be touched."""
    pages = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert protect(ctypes.c_void_p(address + pages), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = np.frombuffer(memory, array.dtype, array.size, pages - array.nbytes).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses(variant, dtype, rng, isa):
    for shape in SHAPES:
        case = make(variant, rng, shape, dtype)
        weights = rng.random(case.value_shape).astype(dtype)
        wanted = run(case, "none", sample_weight=weights)
        case.input, case.target, weights = (at_the_end(a) for a in (case.input, case.target, weights))
        grad = at_the_end(np.zeros(shape, dtype))
        got = run(case, "none", sample_weight=weights, grad_out=grad)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
