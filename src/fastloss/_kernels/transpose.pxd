# transpose: samples whose classes are neighbours in memory, put side by side in a tile, and back.
#
# x is (samples, classes) with a step, y is (classes, LANES). The loops are in C and not inlined: gcc makes scatters
# of plain ones, and among all the rest of `lanes` it would keep what they need in memory. The vector types are those
# of `rows`.

from fastloss._kernels.math cimport *
from fastloss._kernels.classes cimport *
include "tuning.pxi"

cdef extern from "vector.h":
    void fastloss_samples_to_lanes_float(
        const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, float*, Py_ssize_t
    ) noexcept nogil
    void fastloss_lanes_to_samples_float(
        const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, float*, Py_ssize_t
    ) noexcept nogil
    void fastloss_transpose_double(
        const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, double*, Py_ssize_t
    ) noexcept nogil
    void fastloss_gather_float(const float*, Py_ssize_t, const int64_t*, int, float*) noexcept nogil
    void fastloss_gather_double(const double*, Py_ssize_t, const int64_t*, int, double*) noexcept nogil


cdef inline void samples_to_lanes(
    const real* x, Py_ssize_t step, Py_ssize_t samples, Py_ssize_t classes, real* y
) noexcept nogil:
    """y[c, l] = x[l, c]."""
    if real is float:
        fastloss_samples_to_lanes_float(x, step, samples, classes, y, LANES)
    else:
        fastloss_transpose_double(x, step, samples, classes, y, LANES)


cdef inline void lanes_to_samples(
    const real* y, Py_ssize_t classes, Py_ssize_t samples, real* x, Py_ssize_t step
) noexcept nogil:
    """The inverse."""
    if real is float:
        fastloss_lanes_to_samples_float(y, LANES, classes, samples, x, step)
    else:
        fastloss_transpose_double(y, LANES, classes, samples, x, step)


cdef inline void split(const real* x, int columns, real* y) noexcept nogil:
    """y[j, l] = x[l, j] of LANES neighbouring rows; `columns` is a literal, for which the loads vectorise."""
    cdef Py_ssize_t l
    cdef int j
    for l in range(LANES):
        for j in range(columns):
            y[j * LANES + l] = x[l * columns + j]


cdef inline void join(const real* x, int columns, real* y) noexcept nogil:
    """The inverse of `split`."""
    cdef Py_ssize_t l
    cdef int j
    for l in range(LANES):
        for j in range(columns):
            y[l * columns + j] = x[j * LANES + l]


cdef inline void gather(const real* x, Py_ssize_t step, const int64_t* label, real* selected) noexcept nogil:
    """x[label[l], l] of a tile, `step` from one class to the next."""
    if real is float:
        fastloss_gather_float(x, step, label, LANES, selected)
    else:
        fastloss_gather_double(x, step, label, LANES, selected)
