# The steps of tiles.

from fastloss._kernels.math cimport *
from fastloss._kernels.heads cimport *
include "tuning.pxi"


cdef inline void zero_width(real* lanes) noexcept nogil:
    cdef int k
    for k in range(WIDTH):
        lanes[k] = <real>0


cdef inline void max_step(const real* x, real* top) noexcept nogil:
    cdef int k
    for k in range(WIDTH):
        top[k] = x[k] if x[k] > top[k] else top[k]


cdef inline void exp_step(const real* x, const real* m, real* total, real* below, real* e) noexcept nogil:
    """e_k = exp(x_k - m_k), scaled. Add it where x_k is below m_k, and count these; NaN counts, and is added."""
    cdef int k
    cdef real d, is_below
    for k in range(WIDTH):
        d = x[k] - m[k]
        e[k] = exp_scaled(d)
        is_below = one_unless_zero(d)
        total[k] = fma(e[k], is_below, total[k])
        below[k] += is_below


cdef inline void expected_step(const real* x, const real* m, const real* e, real* b) noexcept nogil:
    cdef int k
    cdef real d
    for k in range(WIDTH):
        d = zero_if(e[k] == <real>0, x[k] - m[k])
        b[k] = fma(e[k], d, b[k])


cdef inline void shared_step(const real* x, const real* m, const real* c, real* b) noexcept nogil:
    cdef int k
    cdef real d
    for k in range(WIDTH):
        d = zero_if(c[k] == <real>0, x[k] - m[k])
        b[k] = fma(c[k], d, b[k])


cdef inline void uniform_step(const real* x, const real* m, real c, real* b) noexcept nogil:
    cdef int k
    for k in range(WIDTH):
        b[k] = fma(c, x[k] - m[k], b[k])


cdef inline void linear_step(const real* x, const real* m, const real* c, double* a, real* b) noexcept nogil:
    cdef int k
    for k in range(WIDTH):
        a[k] += c[k]
    shared_step(x, m, c, b)


cdef inline real log_softmax_of(real x, real high, real low) noexcept nogil:
    """x - (high + low), rounded once."""
    cdef real y = x - high
    return y + (sum_low(x, -high, y) - low) if absolute(y) < <real>INFINITY else y


cdef inline real linear_gradient(real e, real c, real a, real a_low, real others) noexcept nogil:
    """(a p_j - c_j) sum_k exp(d_k), written so that a target of one class loses nothing: a = c_j leaves 1 - p_j.

    e, others and the result are scaled as by `exp_scaled`.
    """
    return ((a - c) + a_low) * e - c * (others + (<real>(1 / exp_unit(e)) - e))
