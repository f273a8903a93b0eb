# How numbers stand in memory: read and written a block at a time, in one of four ways.
#
# a) Half precision: float16 and bfloat16 in memory, float32 in registers. The loops know two types, float32 and
#    float64. Numbers of half precision are widened block by block into a buffer that stays in L1, and rounded to
#    nearest, once, where a result is stored: no array is converted as a whole.
# b) A result too large for the caches is computed in a buffer and STREAMED past them. A store to a line that is not
#    in a cache reads the line first, and this is what it saves.

cdef enum:
    NATIVE                         # the type of the loop
    FLOAT16
    BFLOAT16
    STREAMED                       # NATIVE, of a result

cdef extern from *:
    """
    #define fastloss_prefetch(p) __builtin_prefetch((const void*)(p))
    #define fastloss_prefetch_l2(p) __builtin_prefetch((const void*)(p), 0, 2)

    #if defined(__SSE2__)
    #include <immintrin.h>
    #endif

    #if defined(__AVX512F__)
    enum { FASTLOSS_STREAMED = 64 };
    #define FASTLOSS_STREAM(x, y) _mm512_stream_si512((__m512i*)(y), _mm512_loadu_si512(x))
    #elif defined(__AVX2__)
    enum { FASTLOSS_STREAMED = 32 };
    #define FASTLOSS_STREAM(x, y) _mm256_stream_si256((__m256i*)(y), _mm256_loadu_si256((const __m256i*)(x)))
    #elif defined(__SSE2__)
    enum { FASTLOSS_STREAMED = 16 };
    #define FASTLOSS_STREAM(x, y) _mm_stream_si128((__m128i*)(y), _mm_loadu_si128((const __m128i*)(x)))
    #endif
    #if defined(FASTLOSS_STREAM)
    /* Whole lines of 64 bytes pass the caches; the ends, which share a line with other memory, do not. */
    static inline void fastloss_stream(const void* from, size_t bytes, void* to) {
        const char* x = (const char*)from;
        char* y = (char*)to;
        size_t i = -(uintptr_t)y & 63;
        if (i > bytes) i = bytes;
        if (i) memcpy(y, x, i);
        for (; i + 64 <= bytes; i += 64)
            for (int k = 0; k < 64; k += FASTLOSS_STREAMED) FASTLOSS_STREAM(x + i + k, y + i + k);
        if (i < bytes) memcpy(y + i, x + i, bytes - i);
    }
    #define fastloss_stream_end() _mm_sfence()  /* before other threads may read it */
    #else
    #define fastloss_stream(from, bytes, to) memcpy(to, from, bytes)
    #define fastloss_stream_end() ((void)0)
    #endif

    #define FASTLOSS_32 for (int k = 0; k < 32; k++)
    typedef union { float f; uint32_t u; int32_t i; } fastloss_bits;

    /* The formulas, 32 numbers at a time: a full vector of either size. */
    static inline void fastloss_widen_bfloat16(const uint16_t* restrict x, float* restrict y) {
        FASTLOSS_32 { fastloss_bits wide = {.u = (uint32_t)x[k] << 16}; y[k] = wide.f; }
    }
    static inline void fastloss_narrow_bfloat16(const float* restrict x, uint16_t* restrict y) {
        FASTLOSS_32 {
            fastloss_bits wide = {.f = x[k]};
            uint32_t rounded = wide.u + 0x7fffu + ((wide.u >> 16) & 1u);
            y[k] = (uint16_t)((x[k] != x[k] ? 0x7fc00000u : rounded) >> 16);
        }
    }
    #if defined(__AVX512F__)
    static inline void fastloss_widen_float16(const uint16_t* x, float* y) {
        for (int k = 0; k < 32; k += 16)
            _mm512_storeu_ps(y + k, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(x + k))));
    }
    static inline void fastloss_narrow_float16(const float* x, uint16_t* y) {
        for (int k = 0; k < 32; k += 16)
            _mm256_storeu_si256((__m256i*)(y + k), _mm512_cvtps_ph(_mm512_loadu_ps(x + k), _MM_FROUND_TO_NEAREST_INT));
    }
    #elif defined(__F16C__)
    static inline void fastloss_widen_float16(const uint16_t* x, float* y) {
        for (int k = 0; k < 32; k += 8)
            _mm256_storeu_ps(y + k, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(x + k))));
    }
    static inline void fastloss_narrow_float16(const float* x, uint16_t* y) {
        for (int k = 0; k < 32; k += 8)
            _mm_storeu_si128((__m128i*)(y + k), _mm256_cvtps_ph(_mm256_loadu_ps(x + k), _MM_FROUND_TO_NEAREST_INT));
    }
    #else   /* in signed integers; a subnormal number is a difference of normal ones */
    static inline void fastloss_widen_float16(const uint16_t* restrict x, float* restrict y) {
        FASTLOSS_32 {
            int32_t u = (int32_t)(x[k] & 0x7fff) << 13;
            fastloss_bits low = {.i = u + 0x38800000}, wide = {.i = u + 0x38000000};
            low.f -= 6.103515625e-05f;                                /* 2^-14 */
            wide.i = u < 0x00800000 ? low.i : wide.i;
            wide.i = u >= 0x0f800000 ? u + 0x70000000 : wide.i;       /* inf, NaN */
            wide.u |= (uint32_t)(x[k] & 0x8000) << 16;
            y[k] = wide.f;
        }
    }
    static inline void fastloss_narrow_float16(const float* restrict x, uint16_t* restrict y) {
        int32_t all[32];
        FASTLOSS_32 {
            fastloss_bits wide = {.f = x[k]}, low;
            int32_t sign = (wide.i >> 16) & 0x8000, half;
            wide.i &= 0x7fffffff;
            low.f = wide.f + 0.5f;                                    /* to a multiple of 2^-24 */
            half = (wide.i - 0x38000000 + 0xfff + ((wide.i >> 13) & 1)) >> 13;
            half = wide.i < 0x38800000 ? low.i - 0x3f000000 : half;
            half = wide.i >= 0x477ff000 ? 0x7c00 : half;
            half = wide.i > 0x7f800000 ? 0x7e00 : half;
            all[k] = half | sign;
        }
        FASTLOSS_32 y[k] = (uint16_t)all[k];
    }
    #endif

    /* n numbers; where n is not a multiple of 32 the last 32 are taken once more. */
    #define FASTLOSS_ALL(name, from, to)                                                                    \\
        static void name##_all(const from* restrict x, ptrdiff_t n, to* restrict y) {                       \\
            if (n < 32) {                                                                                   \\
                from short_x[32] = {0};                                                                     \\
                to short_y[32];                                                                             \\
                for (ptrdiff_t i = 0; i < n; i++) short_x[i] = x[i];                                        \\
                name(short_x, short_y);                                                                     \\
                for (ptrdiff_t i = 0; i < n; i++) y[i] = short_y[i];                                        \\
                return;                                                                                     \\
            }                                                                                               \\
            for (ptrdiff_t i = 0; i + 32 <= n; i += 32) {                                                   \\
                if (sizeof(from) == 2) fastloss_prefetch(x + i + 2048);                                     \\
                name(x + i, y + i);                                                                         \\
            }                                                                                               \\
            if (n % 32) name(x + n - 32, y + n - 32);                                                       \\
        }
    FASTLOSS_ALL(fastloss_widen_float16, uint16_t, float)
    FASTLOSS_ALL(fastloss_widen_bfloat16, uint16_t, float)
    FASTLOSS_ALL(fastloss_narrow_float16, float, uint16_t)
    FASTLOSS_ALL(fastloss_narrow_bfloat16, float, uint16_t)
    """
    void fastloss_prefetch(const void*) noexcept nogil
    void fastloss_prefetch_l2(const void*) noexcept nogil
    void fastloss_stream(const void*, size_t, void*) noexcept nogil
    void fastloss_stream_end() noexcept nogil
    void fastloss_widen_float16_all(const uint16_t*, Py_ssize_t, float*) noexcept nogil
    void fastloss_widen_bfloat16_all(const uint16_t*, Py_ssize_t, float*) noexcept nogil
    void fastloss_narrow_float16_all(const float*, Py_ssize_t, uint16_t*) noexcept nogil
    void fastloss_narrow_bfloat16_all(const float*, Py_ssize_t, uint16_t*) noexcept nogil


cdef inline const real* read_block(
    const void* x, int storage, Py_ssize_t first, Py_ssize_t n, real* buffer
) noexcept nogil:
    """Numbers [first, first + n) of x: in place, or widened, exactly, in `buffer`."""
    if real is float:
        if storage != NATIVE:
            if storage == FLOAT16:
                fastloss_widen_float16_all(<const uint16_t*>x + first, n, buffer)
            else:
                fastloss_widen_bfloat16_all(<const uint16_t*>x + first, n, buffer)
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
            fastloss_narrow_float16_all(x, n, <uint16_t*>y + first)
        elif storage == BFLOAT16:
            fastloss_narrow_bfloat16_all(x, n, <uint16_t*>y + first)


cdef inline real read_one(const void* x, int storage, Py_ssize_t i, real* tag) noexcept nogil:
    """x[i]; tag, which may be NULL, says the type of the loop."""
    cdef real buffer[1]
    return read_block(x, storage, i, 1, &buffer[0])[0]


cdef inline void write_one(real value, void* y, int storage, Py_ssize_t i) noexcept nogil:
    block_to_write(y, storage, i, &value)[0] = value
    write_block(&value, y, storage, i, 1)


cdef inline Py_ssize_t bytes_of(int storage, real* tag) noexcept nogil:
    return 2 if storage == FLOAT16 or storage == BFLOAT16 else <Py_ssize_t>sizeof(real)
