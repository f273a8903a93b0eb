# How numbers stand in memory: read and written a block at a time, in one of four ways.
#
# a) Half precision: float16 and bfloat16 in memory, float32 in registers. The loops know two types, float32 and
#    float64. Numbers of half precision are widened block by block into a buffer that stays in L1, and rounded to
#    nearest, once, where a result is stored: no array is converted as a whole.
# b) A result too large for the caches is computed in a buffer and STREAMED past them. A store to a line that is not
#    in a cache reads the line first, and this is what it saves.

from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *

cdef enum:
    NATIVE                         # the type of the loop
    FLOAT16
    BFLOAT16
    STREAMED                       # NATIVE, of a result

cdef extern from "vector.h":
    void fastloss_prefetch(const void*) noexcept nogil
    void fastloss_prefetch_l2(const void*) noexcept nogil
    void fastloss_stream(const void*, size_t, void*) noexcept nogil
    void fastloss_stream_end() noexcept nogil
    void f16_stream(f16, float*) noexcept nogil
    void d8_stream(d8, double*) noexcept nogil
    f16 f16_load_float16(const uint16_t*) noexcept nogil
    f16 f16_load_bfloat16(const uint16_t*) noexcept nogil
    f16 f16_load_part_float16(const uint16_t*, int, float) noexcept nogil
    f16 f16_load_part_bfloat16(const uint16_t*, int, float) noexcept nogil
    void f16_store_float16(f16, uint16_t*) noexcept nogil
    void f16_store_bfloat16(f16, uint16_t*) noexcept nogil
    void f16_store_part_float16(f16, uint16_t*, int) noexcept nogil
    void f16_store_part_bfloat16(f16, uint16_t*, int) noexcept nogil
    void fastloss_widen_float16(const uint16_t*, Py_ssize_t, float*) noexcept nogil
    void fastloss_widen_bfloat16(const uint16_t*, Py_ssize_t, float*) noexcept nogil
    void fastloss_narrow_float16(const float*, Py_ssize_t, uint16_t*) noexcept nogil
    void fastloss_narrow_bfloat16(const float*, Py_ssize_t, uint16_t*) noexcept nogil


cdef inline const real* read_block(
    const void* x, int storage, Py_ssize_t first, Py_ssize_t n, real* buffer
) noexcept nogil:
    """Numbers [first, first + n) of x: in place, or widened, exactly, in `buffer`."""
    if real is float:
        if storage != NATIVE:
            if storage == FLOAT16:
                fastloss_widen_float16(<const uint16_t*>x + first, n, buffer)
            else:
                fastloss_widen_bfloat16(<const uint16_t*>x + first, n, buffer)
            return buffer
    return <const real*>x + first


cdef inline real* block_to_write(void* y, int storage, Py_ssize_t first, real* buffer) noexcept nogil:
    """Where results for y[first] and after it are computed: in place, or in `buffer` for `write_block`."""
    return <real*>y + first if storage == NATIVE else buffer


cdef inline void write_block(const real* x, void* y, int storage, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Store what was computed at `block_to_write`; half precision is rounded to nearest, ties to even."""
    if storage == STREAMED:
        fastloss_stream(x, n * sizeof(real), <real*>y + first)
    if real is float:
        if storage == FLOAT16:
            fastloss_narrow_float16(x, n, <uint16_t*>y + first)
        elif storage == BFLOAT16:
            fastloss_narrow_bfloat16(x, n, <uint16_t*>y + first)


cdef inline real read_one(const void* x, int storage, Py_ssize_t i, real* tag) noexcept nogil:
    """x[i]; tag, which may be NULL, says the type of the loop."""
    cdef real buffer[1]
    return read_block(x, storage, i, 1, &buffer[0])[0]


cdef inline void write_one(real value, void* y, int storage, Py_ssize_t i) noexcept nogil:
    block_to_write(y, storage, i, &value)[0] = value
    write_block(&value, y, storage, i, 1)


cdef inline Py_ssize_t bytes_of(int storage, real* tag) noexcept nogil:
    return 2 if storage == FLOAT16 or storage == BFLOAT16 else <Py_ssize_t>sizeof(real)


cdef inline Py_ssize_t before_line(const void* y, Py_ssize_t n, vec tag) noexcept nogil:
    """How many of the n numbers at y are before the first that begins a line."""
    cdef size_t bytes_before = (64 - <size_t>y % 64) % 64
    return min(n, <Py_ssize_t>(bytes_before // (64 // step_of(tag))))


cdef inline vec load_as(int STORAGE, const void* x, Py_ssize_t step, vec tag) noexcept nogil:
    """A step of numbers, which are widened without a buffer."""
    if vec is f16:
        if STORAGE == FLOAT16:
            return f16_load_float16(<const uint16_t*>x + 16 * step)
        if STORAGE == BFLOAT16:
            return f16_load_bfloat16(<const uint16_t*>x + 16 * step)
    return load(x, step, tag)


cdef inline vec load_part_as(
    int STORAGE, const void* x, Py_ssize_t step, Py_ssize_t n, double fill, vec tag
) noexcept nogil:
    if vec is f16:
        if STORAGE == FLOAT16:
            return f16_load_part_float16(<const uint16_t*>x + 16 * step, <int>n, <float>fill)
        if STORAGE == BFLOAT16:
            return f16_load_part_bfloat16(<const uint16_t*>x + 16 * step, <int>n, <float>fill)
    return load_part(x, step, n, fill, tag)


cdef inline void store_as(int STORAGE, vec a, void* y, Py_ssize_t step) noexcept nogil:
    """A step of results, rounded to nearest, ties to even; STREAMED, y + step begins a line."""
    if STORAGE == STREAMED:
        if vec is f16:
            f16_stream(a, <float*>y + 16 * step)
        else:
            d8_stream(a, <double*>y + 8 * step)
        return
    if vec is f16:
        if STORAGE == FLOAT16:
            f16_store_float16(a, <uint16_t*>y + 16 * step)
            return
        if STORAGE == BFLOAT16:
            f16_store_bfloat16(a, <uint16_t*>y + 16 * step)
            return
    store(a, y, step)


cdef inline void store_part_as(int STORAGE, vec a, void* y, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    if vec is f16:
        if STORAGE == FLOAT16:
            f16_store_part_float16(a, <uint16_t*>y + 16 * step, <int>n)
            return
        if STORAGE == BFLOAT16:
            f16_store_part_bfloat16(a, <uint16_t*>y + 16 * step, <int>n)
            return
    store_part(a, y, step, n)
