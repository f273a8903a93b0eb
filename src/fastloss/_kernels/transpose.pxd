# transpose: samples whose classes are neighbours in memory, put side by side, and back.
#
# The loops are in C and not inlined: gcc makes scatters of plain ones.

from fastloss._kernels.math cimport *

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


cdef inline void split(const real* x, int classes, Py_ssize_t samples, real* y, Py_ssize_t y_step) noexcept nogil:
    """y[j, l] = x[l, j]; `classes` is a literal, for which the loads vectorise."""
    cdef Py_ssize_t l
    cdef int j
    for l in range(samples):
        for j in range(classes):
            y[j * y_step + l] = x[l * classes + j]


cdef inline void join(const real* y, Py_ssize_t y_step, int classes, Py_ssize_t samples, real* x) noexcept nogil:
    """The inverse."""
    cdef Py_ssize_t l
    cdef int j
    for l in range(samples):
        for j in range(classes):
            x[l * classes + j] = y[j * y_step + l]


cdef inline void transpose(
    const real* x, Py_ssize_t x_step, Py_ssize_t samples, Py_ssize_t classes, real* y, Py_ssize_t y_step
) noexcept nogil:
    """y[c, l] = x[l, c]."""
    if classes == 2 and x_step == 2:
        split(x, 2, samples, y, y_step)
    elif classes == 3 and x_step == 3:
        split(x, 3, samples, y, y_step)
    elif real is float:
        fastloss_samples_to_lanes_float(x, x_step, samples, classes, y, y_step)
    else:
        fastloss_transpose_double(x, x_step, samples, classes, y, y_step)


cdef inline void transpose_back(
    const real* y, Py_ssize_t y_step, Py_ssize_t classes, Py_ssize_t samples, real* x, Py_ssize_t x_step
) noexcept nogil:
    """The inverse."""
    if classes == 2 and x_step == 2:
        join(y, y_step, 2, samples, x)
    elif classes == 3 and x_step == 3:
        join(y, y_step, 3, samples, x)
    elif real is float:
        fastloss_lanes_to_samples_float(y, y_step, classes, samples, x, x_step)
    else:
        fastloss_transpose_double(y, y_step, classes, samples, x, x_step)
