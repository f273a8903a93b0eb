# Half precision: float16 and bfloat16 in memory, float32 in registers.
#
# The loops know two types, float32 and float64. Numbers of half precision are widened block by block into a buffer
# that stays in L1, and rounded to nearest, once, where a result is stored: no array is converted as a whole.

# How the numbers of an array stand in memory; NATIVE is the type of the loop.
cdef enum:
    NATIVE, FLOAT16, BFLOAT16

cdef extern from *:
    """
    /* 8 numbers at a time. Without F16C in integers: a subnormal number is a difference of normal ones. */
    #if defined(__F16C__)
    #include <immintrin.h>
    static inline void fastloss_widen8(const uint16_t* x, float* y) {
        _mm256_storeu_ps(y, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)x)));
    }
    static inline void fastloss_narrow8(const float* x, uint16_t* y) {
        _mm_storeu_si128((__m128i*)y, _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
    }
    #else
    typedef union { float f; uint32_t u; } fastloss_bits;
    static inline void fastloss_widen8(const uint16_t* x, float* y) {
        for (int k = 0; k < 8; k++) {
            uint32_t u = (uint32_t)(x[k] & 0x7fff) << 13;
            fastloss_bits low = {.u = u + 0x38800000u}, result = {.u = u + 0x38000000u};
            low.f -= 6.103515625e-05f;                                    /* 2^-14 */
            result.u = u < 0x00800000u ? low.u : result.u;
            result.u = u >= 0x0f800000u ? u + 0x70000000u : result.u;     /* inf, NaN */
            result.u |= (uint32_t)(x[k] & 0x8000) << 16;
            y[k] = result.f;
        }
    }
    static inline void fastloss_narrow8(const float* x, uint16_t* y) {
        for (int k = 0; k < 8; k++) {
            fastloss_bits bits = {.f = x[k]}, low;
            uint32_t sign = (bits.u >> 16) & 0x8000u, result;
            bits.u &= 0x7fffffffu;
            low.f = bits.f + 0.5f;                                        /* to a multiple of 2^-24 */
            result = (bits.u - 0x38000000u + 0xfffu + ((bits.u >> 13) & 1u)) >> 13;
            result = bits.u < 0x38800000u ? low.u - 0x3f000000u : result;
            result = bits.u >= 0x477ff000u ? 0x7c00u : result;
            result = bits.u > 0x7f800000u ? 0x7e00u : result;
            y[k] = (uint16_t)(result | sign);
        }
    }
    #endif
    """
    void fastloss_widen8(const uint16_t*, float*) noexcept nogil
    void fastloss_narrow8(const float*, uint16_t*) noexcept nogil


cdef inline void widen(const uint16_t* x, int storage, Py_ssize_t n, float* y) noexcept nogil:
    """n numbers as float32, exactly."""
    cdef Py_ssize_t i
    cdef int k
    cdef Bits32 bits
    cdef uint16_t last[8]
    cdef float wide[8]
    if storage == BFLOAT16:
        for i in range(n):
            bits.i = <int32_t>(<uint32_t>x[i] << 16)
            y[i] = bits.f
    elif n >= 8:
        for i in range(0, n - 7, 8):
            fastloss_widen8(x + i, y + i)
        fastloss_widen8(x + n - 8, y + n - 8)
    else:
        for k in range(8):
            last[k] = x[k] if k < n else <uint16_t>0
        fastloss_widen8(last, wide)
        for k in range(<int>n):
            y[k] = wide[k]


cdef inline void narrow(const float* x, Py_ssize_t n, int storage, uint16_t* y) noexcept nogil:
    """n numbers rounded to nearest, ties to even; NaN stays NaN."""
    cdef Py_ssize_t i
    cdef int k
    cdef uint32_t u
    cdef Bits32 bits
    cdef uint16_t last[8]
    cdef float wide[8]
    if storage == BFLOAT16:
        for i in range(n):
            bits.f = x[i]
            u = <uint32_t>bits.i
            u = u + <uint32_t>0x7fff + ((u >> 16) & <uint32_t>1)
            u = <uint32_t>0x7fc00000 if x[i] != x[i] else u
            y[i] = <uint16_t>(u >> 16)
    elif n >= 8:
        for i in range(0, n - 7, 8):
            fastloss_narrow8(x + i, y + i)
        fastloss_narrow8(x + n - 8, y + n - 8)
    else:
        for k in range(8):
            wide[k] = x[k] if k < n else <float>0
        fastloss_narrow8(wide, last)
        for k in range(<int>n):
            y[k] = last[k]


cdef inline const real* read_block(
    const void* x, int storage, Py_ssize_t first, Py_ssize_t n, real* buffer
) noexcept nogil:
    """Numbers [first, first + n) of x: in place, or widened in `buffer`."""
    if real is float:
        if storage != NATIVE:
            widen(<const uint16_t*>x + first, storage, n, buffer)
            return buffer
    return <const real*>x + first


cdef inline real* block_to_write(void* y, int storage, Py_ssize_t first, real* buffer) noexcept nogil:
    """Where results for y[first] and after it are computed: in place, or in `buffer` for `write_block`."""
    return <real*>y + first if storage == NATIVE else buffer


cdef inline void write_block(const real* x, void* y, int storage, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Store what was computed at `block_to_write`."""
    if real is float:
        if storage != NATIVE:
            narrow(x, n, storage, <uint16_t*>y + first)


cdef inline real read_one(const void* x, int storage, Py_ssize_t i, real* tag) noexcept nogil:
    """x[i]; tag, which may be NULL, says the type of the loop."""
    cdef real buffer[1]
    return read_block(x, storage, i, 1, &buffer[0])[0]


cdef inline void write_one(real value, void* y, int storage, Py_ssize_t i) noexcept nogil:
    block_to_write(y, storage, i, &value)[0] = value
    write_block(&value, y, storage, i, 1)


cdef inline Py_ssize_t bytes_of(int storage, real* tag) noexcept nogil:
    return <Py_ssize_t>sizeof(real) if storage == NATIVE else 2
