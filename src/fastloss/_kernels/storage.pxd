# How numbers stand in memory: read and written a block at a time, in one of five ways.
#
# a) Half precision: float16 and bfloat16 in memory, float32 in registers. The loops know two types, float32 and
#    float64. Numbers of half precision are widened block by block into a buffer that stays in L1, and rounded to
#    nearest, once, where a result is stored: no array is converted as a whole.
# b) A result too large for the caches is computed in a buffer and STREAMED past them. A store to a line that is not
#    in a cache reads the line first, and this is what it saves.
# c) A target of float32 beside an input of float64 is widened in the same way, and a gradient of float32 narrowed.

from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
include "tuning.pxi"

cdef enum:
    NATIVE                         # the type of the loop
    FLOAT16
    BFLOAT16
    STREAMED                       # NATIVE, of a result
    SINGLE                         # float32 in loops of float64

# The diagonal of a Hessian, a result as large as the gradient.
cdef struct Diagonal:
    void* data                     # as the gradient, or NULL
    int storage
    bint convex                    # without terms that may be negative
    double factor                  # times the exact one
    double floor                   # what counts is at least this

cdef extern from "vector.h" nogil:
    void fastloss_prefetch(const void*)
    void fastloss_stream(const void*, size_t, void*)
    void fastloss_stream_end()
    f16 f16_load_half(const void*, bint bfloat16)
    f16 f16_load_part_half(const void*, Py_ssize_t n, float fill, bint bfloat16)
    void f16_store_half(f16, void*, bint bfloat16)
    void f16_store_part_half(f16, void*, Py_ssize_t n, bint bfloat16)
    void fastloss_widen(const void*, Py_ssize_t n, float*, bint bfloat16)
    void fastloss_narrow(const float*, Py_ssize_t n, void*, bint bfloat16)


cdef inline int storage_of_result(Py_ssize_t bytes_of_x, Py_ssize_t bytes_of_y) noexcept nogil:
    """That of a result as large as x, apart from it: past the caches if it, x and y do not fit there."""
    return STREAMED if 2 * bytes_of_x + bytes_of_y > STREAM_BYTES else NATIVE


cdef inline bint is_half(int storage) noexcept nogil:
    return storage == FLOAT16 or storage == BFLOAT16


# What is not in place is read and written out of line: such loops would be many times as large as what asks for them.
ctypedef void (*reader)(const void*, int, Py_ssize_t, Py_ssize_t, Py_ssize_t, void*) noexcept nogil
ctypedef void (*writer)(const void*, void*, int, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil


cdef inline void read_apart(
    const void* x, int storage, Py_ssize_t first, Py_ssize_t step, Py_ssize_t n, real* buffer
) noexcept nogil:
    """n numbers from x[first] on, `step` apart, exactly."""
    cdef Py_ssize_t j, run = n if step == 1 else 1
    for j in range(n):
        if real is float and is_half(storage):
            fastloss_widen(<const uint16_t*>x + first + j * step, run, <float*>buffer + j, storage == BFLOAT16)
            if run == n:
                break
        elif real is double and storage == SINGLE:
            buffer[j] = (<const float*>x)[first + j * step]
        else:
            buffer[j] = (<const real*>x)[first + j * step]


cdef inline void write_apart(
    const real* x, void* y, int storage, Py_ssize_t first, Py_ssize_t step, Py_ssize_t n
) noexcept nogil:
    """n numbers to y[first] and after it, `step` apart; what is narrowed is rounded to nearest, ties to even."""
    cdef Py_ssize_t j, run = n if step == 1 else 1
    if step == 1 and storage == STREAMED:
        fastloss_stream(x, n * sizeof(real), <real*>y + first)
        return
    for j in range(n):
        if real is float and is_half(storage):
            fastloss_narrow(<const float*>x + j, run, <uint16_t*>y + first + j * step, storage == BFLOAT16)
            if run == n:
                break
        elif real is double and storage == SINGLE:
            (<float*>y)[first + j * step] = <float>x[j]
        else:
            (<real*>y)[first + j * step] = x[j]


cdef inline const real* gathered(
    const void* x, int storage, Py_ssize_t first, Py_ssize_t step, Py_ssize_t n, real* buffer
) noexcept nogil:
    """n numbers from x[first] on, `step` apart: in place, or in the buffer."""
    if step == 1 and storage == NATIVE:
        return <const real*>x + first
    (<reader>fastloss_out_of_line(<void*>read_apart[real]))(x, storage, first, step, n, buffer)
    return buffer


cdef inline const real* read_block(
    const void* x, int storage, Py_ssize_t first, Py_ssize_t n, real* buffer
) noexcept nogil:
    """Numbers [first, first + n) of x: in place, or widened, exactly, in `buffer`."""
    return gathered(x, storage, first, 1, n, buffer)


cdef inline real read_one(const void* x, int storage, Py_ssize_t i, real* tag) noexcept nogil:
    """x[i]; tag, which may be NULL, says the type of the loop."""
    cdef real buffer[1]
    return gathered(x, storage, i, 1, 1, &buffer[0])[0]


cdef inline real* block_to_write(void* y, int storage, Py_ssize_t first, real* buffer) noexcept nogil:
    """Where results for y[first] and after it are computed: in place, or in `buffer` for `write_block`."""
    return <real*>y + first if storage == NATIVE else buffer


cdef inline void write_block(const real* x, void* y, int storage, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Store what was computed at `block_to_write`."""
    if storage != NATIVE:
        (<writer>fastloss_out_of_line(<void*>write_apart[real]))(x, y, storage, first, 1, n)


cdef inline void write_one(real value, void* y, int storage, Py_ssize_t i) noexcept nogil:
    if storage == NATIVE or storage == STREAMED:
        (<real*>y)[i] = value
    else:
        write_block(&value, y, storage, i, 1)


cdef inline const void* numbers_of(
    const void* x, int storage, Py_ssize_t first, Py_ssize_t step, Py_ssize_t n, void* buffer, vec tag
) noexcept nogil:
    """`gathered` in the type of a step."""
    if vec is f16:
        return gathered(x, storage, first, step, n, <float*>buffer)
    else:
        return gathered(x, storage, first, step, n, <double*>buffer)


cdef inline void* result_place(void* y, int storage, Py_ssize_t first, void* buffer, vec tag) noexcept nogil:
    """`block_to_write` in the type of a step."""
    return <char*>y + first * (64 // step_of(tag)) if storage == NATIVE else buffer


cdef inline void write_numbers(
    const void* x, void* y, int storage, Py_ssize_t first, Py_ssize_t step, Py_ssize_t n, vec tag
) noexcept nogil:
    """Store what was computed at `result_place`, or, `step` apart, in a buffer."""
    cdef void* function = <void*>write_apart[float] if vec is f16 else <void*>write_apart[double]
    if step > 1 or storage != NATIVE:
        (<writer>fastloss_out_of_line(function))(x, y, storage, first, step, n)


cdef inline double log_one() noexcept nogil:
    """What a logarithm of a probability may be at most: rounding is forgiven, and a sum of 1 within 1e-3."""
    return 1e-3


cdef inline double sum_tolerance(int storage, Py_ssize_t classes) noexcept nogil:
    """What a sum of probabilities may be off 1: 1e-3, and what half precision rounds three times, or to 0."""
    if storage == BFLOAT16:
        return 1e-3 + 3 * 1.953125e-3
    return 1e-3 + 3 * 4.8828125e-4 + classes * 2.98e-8 if storage == FLOAT16 else 1e-3


cdef inline Py_ssize_t bytes_of(int storage, real* tag) noexcept nogil:
    if storage == SINGLE:
        return 4
    return 2 if is_half(storage) else <Py_ssize_t>sizeof(real)


cdef inline Py_ssize_t before_line(const void* y, Py_ssize_t n, vec tag) noexcept nogil:
    """How many of the n numbers at y are before the first that begins a line."""
    cdef size_t bytes_before = (64 - <size_t>y % 64) % 64
    return min(n, <Py_ssize_t>(bytes_before // (64 // step_of(tag))))


cdef inline vec load_as(int STORAGE, const void* x, Py_ssize_t step, vec tag) noexcept nogil:
    """A step of numbers, which are widened without a buffer."""
    if vec is f16:
        if is_half(STORAGE):
            return f16_load_half(<const uint16_t*>x + 16 * step, STORAGE == BFLOAT16)
    return load(x, step, tag)


cdef inline vec load_part_as(
    int STORAGE, const void* x, Py_ssize_t step, Py_ssize_t n, double fill, vec tag
) noexcept nogil:
    if vec is f16:
        if is_half(STORAGE):
            return f16_load_part_half(<const uint16_t*>x + 16 * step, n, <float>fill, STORAGE == BFLOAT16)
    return load_part(x, step, n, fill, tag)


cdef inline void store_as(int STORAGE, vec a, void* y, Py_ssize_t step) noexcept nogil:
    """A step of results, rounded to nearest, ties to even; STREAMED, y + step begins a line."""
    if STORAGE == STREAMED:
        stream(a, y, step)
        return
    if vec is f16:
        if is_half(STORAGE):
            f16_store_half(a, <uint16_t*>y + 16 * step, STORAGE == BFLOAT16)
            return
    store(a, y, step)


cdef inline void store_part_as(int STORAGE, vec a, void* y, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    if vec is f16:
        if is_half(STORAGE):
            f16_store_part_half(a, <uint16_t*>y + 16 * step, n, STORAGE == BFLOAT16)
            return
    store_part(a, y, step, n)
