# vector: the steps of vector.h, for float32 and float64 alike. A loop over blocks goes by steps of 64 bytes:
#
#     for k in range(n // step_of(tag)):
#         store(mul(load(x, k, tag), all_of(2, tag)), y, k)
#
# `tag` says the type of a step where no argument does; its value is not used.

cdef extern from "vector.h":
    ctypedef struct f16:
        pass
    ctypedef struct d8:
        pass
    f16 f16_load(const float*) noexcept nogil
    void f16_store(f16, float*) noexcept nogil
    f16 f16_all(float) noexcept nogil
    double f16_greatest(f16) noexcept nogil
    bint f16_any(f16) noexcept nogil
    f16 f16_inverse_power(f16, f16*) noexcept nogil
    f16 f16_negative(f16) noexcept nogil
    f16 f16_absolute(f16) noexcept nogil
    f16 f16_minus_absolute(f16) noexcept nogil
    f16 f16_power(f16) noexcept nogil
    f16 f16_add(f16, f16) noexcept nogil
    f16 f16_sub(f16, f16) noexcept nogil
    f16 f16_mul(f16, f16) noexcept nogil
    f16 f16_div(f16, f16) noexcept nogil
    f16 f16_max(f16, f16) noexcept nogil
    f16 f16_min(f16, f16) noexcept nogil
    f16 f16_either(f16, f16) noexcept nogil
    f16 f16_fma(f16, f16, f16) noexcept nogil
    f16 f16_if_negative(f16, f16, f16) noexcept nogil
    f16 f16_if_less(f16, f16, f16, f16) noexcept nogil
    f16 f16_if_equal(f16, f16, f16, f16) noexcept nogil
    d8 d8_load(const double*) noexcept nogil
    void d8_store(d8, double*) noexcept nogil
    d8 d8_all(double) noexcept nogil
    double d8_greatest(d8) noexcept nogil
    bint d8_any(d8) noexcept nogil
    d8 d8_inverse_power(d8, d8*) noexcept nogil
    d8 d8_negative(d8) noexcept nogil
    d8 d8_absolute(d8) noexcept nogil
    d8 d8_minus_absolute(d8) noexcept nogil
    d8 d8_power(d8) noexcept nogil
    d8 d8_add(d8, d8) noexcept nogil
    d8 d8_sub(d8, d8) noexcept nogil
    d8 d8_mul(d8, d8) noexcept nogil
    d8 d8_div(d8, d8) noexcept nogil
    d8 d8_max(d8, d8) noexcept nogil
    d8 d8_min(d8, d8) noexcept nogil
    d8 d8_either(d8, d8) noexcept nogil
    d8 d8_fma(d8, d8, d8) noexcept nogil
    d8 d8_if_negative(d8, d8, d8) noexcept nogil
    d8 d8_if_less(d8, d8, d8, d8) noexcept nogil
    d8 d8_if_equal(d8, d8, d8, d8) noexcept nogil
    bint fastloss_exp_table
    double FASTLOSS_EXP_FACTOR
    f16 f16_power_of_eighths(f16) noexcept nogil
    void* fastloss_out_of_line(void*) noexcept nogil
    f16 f16_places() noexcept nogil
    d8 d8_places() noexcept nogil
    double f16_first(f16) noexcept nogil
    double d8_first(d8) noexcept nogil
    double d8_sum(d8) noexcept nogil
    f16 f16_load_part(const float*, int, float) noexcept nogil
    d8 d8_load_part(const double*, int, double) noexcept nogil
    void f16_store_part(f16, float*, int) noexcept nogil
    void d8_store_part(d8, double*, int) noexcept nogil
    d8 d8_of_half(f16, bint second) noexcept nogil
    d8 d8_of_floats(const float*) noexcept nogil
    d8 d8_of_halves(f16) noexcept nogil

ctypedef fused vec:
    f16
    d8


cdef inline int step_of(vec tag) noexcept nogil:
    """Numbers of a step."""
    return 16 if vec is f16 else 8


cdef inline vec all_of(double x, vec tag) noexcept nogil:
    if vec is f16:
        return f16_all(<float>x)
    else:
        return d8_all(x)


cdef inline vec load(const void* p, Py_ssize_t step, vec tag) noexcept nogil:
    """A step of the numbers at p, which need not be aligned."""
    if vec is f16:
        return f16_load(<const float*>p + 16 * step)
    else:
        return d8_load(<const double*>p + 8 * step)


cdef inline void store(vec a, void* p, Py_ssize_t step) noexcept nogil:
    if vec is f16:
        f16_store(a, <float*>p + 16 * step)
    else:
        d8_store(a, <double*>p + 8 * step)


cdef inline vec load_part(const void* p, Py_ssize_t step, Py_ssize_t n, double fill, vec tag) noexcept nogil:
    """A step of which n numbers are there, fewer than it has, and `fill` stands for the others."""
    if vec is f16:
        return f16_load_part(<const float*>p + 16 * step, <int>n, <float>fill)
    else:
        return d8_load_part(<const double*>p + 8 * step, <int>n, fill)


cdef inline void store_part(vec a, void* p, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    """The first n numbers of a step, fewer than it has."""
    if vec is f16:
        f16_store_part(a, <float*>p + 16 * step, <int>n)
    else:
        d8_store_part(a, <double*>p + 8 * step, <int>n)


cdef inline double greatest(vec a) noexcept nogil:
    """The greatest of a step's numbers; NaN is passed over."""
    if vec is f16:
        return f16_greatest(a)
    else:
        return d8_greatest(a)


cdef inline vec places(vec tag) noexcept nogil:
    """0, 1, 2 …"""
    if vec is f16:
        return f16_places()
    else:
        return d8_places()


cdef inline double first(vec a) noexcept nogil:
    """The first of a step's numbers."""
    if vec is f16:
        return f16_first(a)
    else:
        return d8_first(a)


cdef inline bint any_of(vec a) noexcept nogil:
    """Whether one of a step's numbers is not 0."""
    if vec is f16:
        return f16_any(a)
    else:
        return d8_any(a)


cdef inline vec inverse_power(vec u, vec* k) noexcept nogil:
    """2^-k with sqrt(1/2) <= u 2^-k < sqrt(2), for normal u > 0."""
    if vec is f16:
        return f16_inverse_power(u, k)
    else:
        return d8_inverse_power(u, k)


cdef inline vec negative(vec a) noexcept nogil:
    if vec is f16:
        return f16_negative(a)
    else:
        return d8_negative(a)


cdef inline vec absolute_of(vec a) noexcept nogil:
    if vec is f16:
        return f16_absolute(a)
    else:
        return d8_absolute(a)


cdef inline vec minus_absolute(vec a) noexcept nogil:
    """-|a|."""
    if vec is f16:
        return f16_minus_absolute(a)
    else:
        return d8_minus_absolute(a)


cdef inline vec power(vec a) noexcept nogil:
    """2^k from the low bits of a, which k and the format's bias were added to."""
    if vec is f16:
        return f16_power(a)
    else:
        return d8_power(a)


cdef inline vec add(vec a, vec b) noexcept nogil:
    if vec is f16:
        return f16_add(a, b)
    else:
        return d8_add(a, b)


cdef inline vec sub(vec a, vec b) noexcept nogil:
    if vec is f16:
        return f16_sub(a, b)
    else:
        return d8_sub(a, b)


cdef inline vec mul(vec a, vec b) noexcept nogil:
    if vec is f16:
        return f16_mul(a, b)
    else:
        return d8_mul(a, b)


cdef inline vec div(vec a, vec b) noexcept nogil:
    if vec is f16:
        return f16_div(a, b)
    else:
        return d8_div(a, b)


cdef inline vec max_of(vec a, vec b) noexcept nogil:
    """The greater one; b where either is NaN."""
    if vec is f16:
        return f16_max(a, b)
    else:
        return d8_max(a, b)


cdef inline vec min_of(vec a, vec b) noexcept nogil:
    """The lesser one; b where either is NaN."""
    if vec is f16:
        return f16_min(a, b)
    else:
        return d8_min(a, b)


cdef inline vec either(vec a, vec b) noexcept nogil:
    """The bits that either has."""
    if vec is f16:
        return f16_either(a, b)
    else:
        return d8_either(a, b)


cdef inline vec fma_of(vec a, vec b, vec c) noexcept nogil:
    """a b + c, rounded once where the processor can."""
    if vec is f16:
        return f16_fma(a, b, c)
    else:
        return d8_fma(a, b, c)


cdef inline vec if_negative(vec a, vec b, vec c) noexcept nogil:
    """b where a has its sign bit set, otherwise c."""
    if vec is f16:
        return f16_if_negative(a, b, c)
    else:
        return d8_if_negative(a, b, c)


cdef inline vec if_less(vec a, vec b, vec c, vec d) noexcept nogil:
    """c where a < b, otherwise d."""
    if vec is f16:
        return f16_if_less(a, b, c, d)
    else:
        return d8_if_less(a, b, c, d)


cdef inline vec if_equal(vec a, vec b, vec c, vec d) noexcept nogil:
    """c where a == b, otherwise d."""
    if vec is f16:
        return f16_if_equal(a, b, c, d)
    else:
        return d8_if_equal(a, b, c, d)
