"""An extension as a user would write it, that tests/test_cython_api.py builds."""

from libc.stdint cimport int64_t
from fastloss cimport cython_api as api


def mean_cross_entropy(double[:, ::1] x, const int64_t[::1] labels, double[:, ::1] grad):
    """The mean over the rows, and its gradient, without the GIL; what the function returns."""
    cdef Py_ssize_t rows = x.shape[0], status
    cdef double total = 0
    with nogil:
        status = api.cross_entropy_double(
            rows, x.shape[1], &x[0, 0], x.shape[1], &labels[0], -100, 1.0 / rows, NULL, &grad[0, 0], &total
        )
    return status, total / rows


def all_of_them(size_t x, size_t labels, size_t target, size_t out):
    """Every function with one row of one class, or one element; of float and of double."""
    cdef double total
    cdef Py_ssize_t status = 0
    cdef const float* x32 = <const float*>x
    cdef const double* x64 = <const double*>x
    cdef float* out32 = <float*>out
    cdef double* out64 = <double*>out
    with nogil:
        status |= api.logsumexp_float(1, 1, x32, 1, out32)
        status |= api.logsumexp_double(1, 1, x64, 1, out64)
        status |= api.softmax_float(1, 1, x32, 1, out32)
        status |= api.softmax_double(1, 1, x64, 1, out64)
        status |= api.log_softmax_float(1, 1, x32, 1, out32)
        status |= api.log_softmax_double(1, 1, x64, 1, out64)
        status |= api.cross_entropy_float(1, 1, x32, 1, <const int64_t*>labels, -100, 1, out32, NULL, NULL)
        status |= api.cross_entropy_double(1, 1, x64, 1, <const int64_t*>labels, -100, 1, out64, NULL, NULL)
        status |= api.sigmoid_float(1, x32, out32)
        status |= api.sigmoid_double(1, x64, out64)
        status |= api.logsigmoid_float(1, x32, out32)
        status |= api.logsigmoid_double(1, x64, out64)
        status |= api.binary_cross_entropy_with_logits_float(1, x32, <const float*>target, 1, out32, NULL, &total)
        status |= api.binary_cross_entropy_with_logits_double(1, x64, <const double*>target, 1, out64, NULL, &total)
    return status
