# vector: the steps of vector.h, for float32 and float64 alike. A loop over blocks goes by steps of 64 bytes:
#
#     for k in range(n // step_of(tag)):
#         store(mul(load(x, k, tag), all_of(2, tag)), y, k)
#
# `tag` says the type of a step where no argument does; its value is not used.
#
# An operation has one name for both types, each declared where Cython allows it: a second time only outside of a block.

cdef extern from "vector.h" nogil:
    ctypedef struct f16:
        pass
    ctypedef struct d8:
        pass
    f16 add "f16_add" (f16, f16)
    f16 sub "f16_sub" (f16, f16)
    f16 mul "f16_mul" (f16, f16)
    f16 div "f16_div" (f16, f16)
    f16 max_of "f16_max" (f16, f16)                      # the greater one; b where either is NaN
    f16 min_of "f16_min" (f16, f16)                      # the lesser one; b where either is NaN
    f16 fma_of "f16_fma" (f16, f16, f16)                 # a b + c, rounded once where the processor can
    f16 either "f16_either" (f16, f16)                   # the bits that either has
    f16 if_negative "f16_if_negative" (f16, f16, f16)    # b where a has its sign bit set, otherwise c
    f16 if_less "f16_if_less" (f16, f16, f16, f16)       # c where a < b, otherwise d
    f16 if_equal "f16_if_equal" (f16, f16, f16, f16)     # c where a == b, otherwise d
    f16 negative "f16_negative" (f16)
    f16 absolute_of "f16_absolute" (f16)
    f16 minus_absolute "f16_minus_absolute" (f16)        # -|a|
    f16 power "f16_power" (f16)                          # 2^k from the low bits, k with the format's bias
    f16 inverse_power "f16_inverse_power" (f16, f16* k)  # 2^-k with sqrt(1/2) <= u 2^-k < sqrt(2), for normal u > 0
    double first "f16_first" (f16)                       # of a step's numbers
    float greatest "f16_greatest" (f16)                  # of them; NaN is passed over
    bint any_of "f16_any" (f16)                          # whether one has a bit
    f16 places "f16_places" (f16 tag)                    # 0, 1, 2 …
    f16 load "f16_load_step" (const void*, Py_ssize_t step, f16 tag)    # of numbers that need not be aligned
    void store "f16_store_step" (f16, void*, Py_ssize_t step)
    void stream "f16_stream_step" (f16, void*, Py_ssize_t step)         # past the caches; the step begins a line
    # n numbers, fewer than a step has, and `fill` for the others
    f16 load_part "f16_load_part_step" (const void*, Py_ssize_t step, Py_ssize_t n, double fill, f16 tag)
    void store_part "f16_store_part_step" (f16, void*, Py_ssize_t step, Py_ssize_t n)
    f16 f16_all(float)
    f16 f16_load(const float*)
    void f16_store(f16, float*)
    d8 d8_all(double)
    d8 d8_load(const double*)
    void d8_store(d8, double*)
    double d8_sum(d8)
    d8 d8_of_floats(const float*)                        # eight numbers of float32
    d8 d8_of_half(f16, bint second)                      # those of half a step
    d8 d8_of_halves(f16)                                 # the sum of both
    f16 f16_of_halves(d8, d8)                            # the step of both halves, rounded
    bint fastloss_exp_table
    double FASTLOSS_EXP_FACTOR
    f16 f16_power_of_eighths(f16)
    void* fastloss_out_of_line(void*)
    void fastloss_unreachable()

cdef extern d8 add "d8_add" (d8, d8) noexcept nogil
cdef extern d8 sub "d8_sub" (d8, d8) noexcept nogil
cdef extern d8 mul "d8_mul" (d8, d8) noexcept nogil
cdef extern d8 div "d8_div" (d8, d8) noexcept nogil
cdef extern d8 max_of "d8_max" (d8, d8) noexcept nogil
cdef extern d8 min_of "d8_min" (d8, d8) noexcept nogil
cdef extern d8 fma_of "d8_fma" (d8, d8, d8) noexcept nogil
cdef extern d8 either "d8_either" (d8, d8) noexcept nogil
cdef extern d8 if_negative "d8_if_negative" (d8, d8, d8) noexcept nogil
cdef extern d8 if_less "d8_if_less" (d8, d8, d8, d8) noexcept nogil
cdef extern d8 if_equal "d8_if_equal" (d8, d8, d8, d8) noexcept nogil
cdef extern d8 negative "d8_negative" (d8) noexcept nogil
cdef extern d8 absolute_of "d8_absolute" (d8) noexcept nogil
cdef extern d8 minus_absolute "d8_minus_absolute" (d8) noexcept nogil
cdef extern d8 power "d8_power" (d8) noexcept nogil
cdef extern d8 inverse_power "d8_inverse_power" (d8, d8* k) noexcept nogil
cdef extern double first "d8_first" (d8) noexcept nogil
cdef extern double greatest "d8_greatest" (d8) noexcept nogil
cdef extern bint any_of "d8_any" (d8) noexcept nogil
cdef extern d8 places "d8_places" (d8 tag) noexcept nogil
cdef extern d8 load "d8_load_step" (const void*, Py_ssize_t step, d8 tag) noexcept nogil
cdef extern void store "d8_store_step" (d8, void*, Py_ssize_t step) noexcept nogil
cdef extern void stream "d8_stream_step" (d8, void*, Py_ssize_t step) noexcept nogil
cdef extern d8 load_part "d8_load_part_step" (
    const void*, Py_ssize_t step, Py_ssize_t n, double fill, d8 tag
) noexcept nogil
cdef extern void store_part "d8_store_part_step" (d8, void*, Py_ssize_t step, Py_ssize_t n) noexcept nogil

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


cdef inline Py_ssize_t steps_of(Py_ssize_t n, vec tag) noexcept nogil:
    """How many hold n numbers."""
    return (n + step_of(tag) - 1) // step_of(tag)


cdef inline vec step_or_part(const void* x, Py_ssize_t k, Py_ssize_t n, double fill, vec tag) noexcept nogil:
    """Step k of n numbers; where they end within it, `fill` follows."""
    cdef Py_ssize_t rest = n - k * step_of(tag)
    return load(x, k, tag) if rest >= step_of(tag) else load_part(x, k, rest, fill, tag)


cdef inline void store_or_part(vec a, void* y, Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t rest = n - k * step_of(a)
    if rest >= step_of(a):
        store(a, y, k)
    else:
        store_part(a, y, k, rest)


cdef inline double element(const void* x, Py_ssize_t j, vec tag) noexcept nogil:
    """Number j of x, which is of a step's type."""
    return (<const float*>x)[j] if vec is f16 else (<const double*>x)[j]


# ---- Short rows, one after another ----

cdef extern from "vector.h" nogil:
    void sums_of_rows "fastloss_rows_float_sums" (
        const float*, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, float*
    )
    void sums_of_rows_apart "fastloss_rows_float_sums_apart" (
        const float*, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, const float* less, float*
    )
    void tops_of_rows "fastloss_rows_float_tops" (
        const float*, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, float*
    )
    void dots_of_rows "fastloss_rows_float_dots" (
        const float*, const float* factor, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, const float* less,
        float*
    )
    void sums_apart_from_top "fastloss_rows_float_apart_from_top" (
        const float*, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, float* top, float*
    )
    void products_of_rows "fastloss_rows_float_products" (
        const float*, const float* factor, const float* least, Py_ssize_t classes, Py_ssize_t rows, float*
    )
    void products_less "fastloss_rows_float_less" (
        const float*, const float* factor, const float* less, Py_ssize_t classes, Py_ssize_t rows, float*
    )

cdef extern void sums_of_rows "fastloss_rows_double_sums" (
    const double*, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, double*
) noexcept nogil
cdef extern void sums_of_rows_apart "fastloss_rows_double_sums_apart" (
    const double*, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, const double* less, double*
) noexcept nogil
cdef extern void tops_of_rows "fastloss_rows_double_tops" (
    const double*, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, double*
) noexcept nogil
cdef extern void dots_of_rows "fastloss_rows_double_dots" (
    const double*, const double* factor, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, const double* less,
    double*
) noexcept nogil
cdef extern void sums_apart_from_top "fastloss_rows_double_apart_from_top" (
    const double*, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t rows, double* top, double*
) noexcept nogil
cdef extern void products_of_rows "fastloss_rows_double_products" (
    const double*, const double* factor, const double* least, Py_ssize_t classes, Py_ssize_t rows, double*
) noexcept nogil
cdef extern void products_less "fastloss_rows_double_less" (
    const double*, const double* factor, const double* less, Py_ssize_t classes, Py_ssize_t rows, double*
) noexcept nogil
