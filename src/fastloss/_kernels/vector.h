/* What the loops need of C: vector instructions, chosen by the flags of the build.

   Each operation is defined once, over registers: for AVX-512, for AVX2, for SSE4.1, and in vector extensions of C for the
   rest. All give the same bits, but for products and sums that are rounded twice where the processor cannot fuse them. */
#ifndef FASTLOSS_VECTOR_H
#define FASTLOSS_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define FASTLOSS_INLINE static inline __attribute__((always_inline))
#define FASTLOSS_APART __attribute__((noinline, unused)) static
#define fastloss_prefetch(p) __builtin_prefetch((const void*)(p))
#define fastloss_unreachable() __builtin_unreachable()
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define fastloss_fused 1
#else   /* a library call for each element would be far slower than two roundings */
#define fastloss_fused 0
#endif

FASTLOSS_INLINE float fastloss_fmaf(float a, float b, float c) { return fastloss_fused ? __builtin_fmaf(a, b, c) : a * b + c; }
FASTLOSS_INLINE double fastloss_fma(double a, double b, double c) { return fastloss_fused ? __builtin_fma(a, b, c) : a * b + c; }

/* A function in a form that the compiler does not see through. Everything that a module defines would be inlined into
   its caller: rare code and the loops of one loss are called by such a pointer, and keep the registers to themselves. */
static inline void* fastloss_out_of_line(void* function) {
    __asm__("" : "+r"(function));
    return function;
}

/* ---- Registers ---- */

/* Suffix and type are those of the intrinsics: ps, float32; pd, float64. FL_HALF is what fills half a register. */
#if defined(__AVX512F__)
#define FL_BYTES 64
#define FL_MM(operation) _mm512_##operation
#define FL_HALF(p) _mm256_loadu_si256((const __m256i*)(p))
#define FL_STORE_HALF(p, a) _mm256_storeu_si256((__m256i*)(p), a)
#elif defined(__AVX2__)
#define FL_BYTES 32
#define FL_MM(operation) _mm256_##operation
#define FL_HALF(p) _mm_loadu_si128((const __m128i*)(p))
#define FL_STORE_HALF(p, a) _mm_storeu_si128((__m128i*)(p), a)
#else
#define FL_BYTES 16
#define FL_MM(operation) _mm_##operation
#define FL_HALF(p) _mm_loadl_epi64((const __m128i*)(p))
#endif
#define FL_VECTOR(name, type, bytes, align) typedef type name __attribute__((vector_size(bytes), aligned(align), may_alias));
/* For each register i of a step, see below. Written out: unrolled as a loop it would be late, and take gcc twice as long. */
#define FL_ONE(number, ...) { enum { i = number }; __VA_ARGS__; }
#if FL_BYTES == 64
#define FL_EACH(...) do FL_ONE(0, __VA_ARGS__) while (0)
#elif FL_BYTES == 32
#define FL_EACH(...) do { FL_ONE(0, __VA_ARGS__) FL_ONE(1, __VA_ARGS__) } while (0)
#else
#define FL_EACH(...) \
    do { FL_ONE(0, __VA_ARGS__) FL_ONE(1, __VA_ARGS__) FL_ONE(2, __VA_ARGS__) FL_ONE(3, __VA_ARGS__) } while (0)
#endif
FL_VECTOR(fl_ps, float, FL_BYTES, FL_BYTES)
FL_VECTOR(fl_pd, double, FL_BYTES, FL_BYTES)
FL_VECTOR(fl_int_ps, int32_t, FL_BYTES, FL_BYTES)
FL_VECTOR(fl_int_pd, int64_t, FL_BYTES, FL_BYTES)
FL_VECTOR(fl_bits_ps, uint32_t, FL_BYTES, FL_BYTES)
FL_VECTOR(fl_bits_pd, uint64_t, FL_BYTES, FL_BYTES)
FL_VECTOR(fl_ps_in_memory, float, FL_BYTES, 4)
FL_VECTOR(fl_pd_in_memory, double, FL_BYTES, 8)
FL_VECTOR(fl_halves, uint16_t, FL_BYTES / 2, 2)
FL_VECTOR(fl_floats, float, FL_BYTES / 2, 4)
#define FL_SIGN_ps 0x80000000u
#define FL_SIGN_pd 0x8000000000000000u
#define FL_MANTISSA_ps 23
#define FL_MANTISSA_pd 52

/* What varies. max and min are b where either is NaN; IF_NEGATIVE looks at the sign bit, IF takes lanes of ones or zeros. */
#define FL_WHERE(m, a, b) (((m) & (a)) | (~(m) & (b)))
#if defined(__SSE4_1__)
#define FL_MAX(s, a, b) FL_MM(max_##s)(a, b)
#define FL_MIN(s, a, b) FL_MM(min_##s)(a, b)
#define FL_IF(s, m, a, b) FL_MM(blendv_##s)(b, a, (fl_##s)(m))
#define FL_IF_NEGATIVE FL_IF
#define FL_WIDEN(p) (fl_bits_ps)FL_MM(cvtepu16_epi32)(FL_HALF(p))
#else
#define FL_IF(s, m, a, b) (fl_##s)FL_WHERE((fl_int_##s)(m), (fl_int_##s)(a), (fl_int_##s)(b))
#define FL_IF_NEGATIVE(s, m, a, b) FL_IF(s, (fl_int_##s)(m) >> (8 * sizeof(m[0]) - 1), a, b)
#define FL_MAX(s, a, b) FL_IF(s, (a) > (b), a, b)
#define FL_MIN(s, a, b) FL_IF(s, (a) < (b), a, b)
#define FL_WIDEN(p) __builtin_convertvector(*(const fl_halves*)(p), fl_bits_ps)
#endif
#if defined(__AVX512F__)
#undef FL_IF_NEGATIVE
#define FL_SIGNS_ps(a) _mm512_movepi32_mask((__m512i)(a))
#define FL_SIGNS_pd(a) _mm512_movepi64_mask((__m512i)(a))
#define FL_IF_NEGATIVE(s, m, a, b) _mm512_mask_blend_##s(FL_SIGNS_##s(m), b, a)
#define FL_IF_LESS(s, a, b, c, d) _mm512_mask_blend_##s(_mm512_cmp_##s##_mask(a, b, _CMP_LT_OQ), d, c)
#define FL_IF_EQUAL(s, a, b, c, d) _mm512_mask_blend_##s(_mm512_cmp_##s##_mask(a, b, _CMP_EQ_OQ), d, c)
#else
#define FL_IF_LESS(s, a, b, c, d) FL_IF(s, (a) < (b), c, d)
#define FL_IF_EQUAL(s, a, b, c, d) FL_IF(s, (a) == (b), c, d)
#endif
#if defined(__FMA__)
#define FL_FMA(s, a, b, c) FL_MM(fmadd_##s)(a, b, c)
#elif defined(__aarch64__)
#define FL_FMA(s, a, b, c) (fl_##s)FL_FMA_##s(a, b, c)
#define FL_FMA_ps(a, b, c) vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b))
#define FL_FMA_pd(a, b, c) vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b))
#else
#define FL_FMA(s, a, b, c) ((a) * (b) + (c))
#endif

/* 32 bytes, of any instruction set: W = 8 numbers of float32, or 4 of float64. */
#pragma GCC diagnostic ignored "-Wpsabi"  /* vectors wider than a register, in functions that are all inlined */
FL_VECTOR(fl_number_8, float, 32, 4)
FL_VECTOR(fl_number_4, double, 32, 8)
FL_VECTOR(fl_mask_8, int32_t, 32, 4)
FL_VECTOR(fl_mask_4, int64_t, 32, 8)
#define FL_AT(W, p, i) (((const fl_number_##W*)(p))[i])
#define FL_EITHER(W, m, a, b) (fl_number_##W)FL_WHERE(m, (fl_mask_##W)(a), (fl_mask_##W)(b))
#if defined(__AVX__)
#define FL_MAX_8(a, b) _mm256_max_ps(a, b)
#define FL_MAX_4(a, b) _mm256_max_pd(a, b)
#define FL_MIN_8(a, b) _mm256_min_ps(a, b)
#define FL_MIN_4(a, b) _mm256_min_pd(a, b)
#define FL_UNLESS_LESS(W, x, y, a) ((fl_number_##W)(~(fl_mask_##W)((x) < (y)) & (fl_mask_##W)(a)))
#define FL_UNLESS_ZERO(W, x, a) ((fl_number_##W)((fl_mask_##W)(a) & (fl_mask_##W)((x) != 0)))
#else   /* by registers, for gcc would compare number by number */
#define FL_BY_HALVES(name, W, s, result)                                                                      \
    FASTLOSS_INLINE fl_number_##W name##_##W(fl_number_##W a, fl_number_##W b, fl_number_##W c) {             \
        fl_##s p[2], q[2], r[2];                                                                              \
        memcpy(p, &a, 32), memcpy(q, &b, 32), memcpy(r, &c, 32);                                              \
        for (int i = 0; i < 2; i++) r[i] = result;                                                            \
        memcpy(&c, r, 32);                                                                                    \
        return c;                                                                                             \
    }
#define FL_OF_HALVES(W, s)                                                                                    \
    FL_BY_HALVES(fl_max, W, s, FL_MAX(s, p[i], q[i]))                                                         \
    FL_BY_HALVES(fl_min, W, s, FL_MIN(s, p[i], q[i]))                                                         \
    FL_BY_HALVES(fl_unless_less, W, s, FL_IF_LESS(s, p[i], q[i], (fl_##s){0}, r[i]))                          \
    FL_BY_HALVES(fl_unless_zero, W, s, FL_IF_EQUAL(s, p[i], (fl_##s){0}, (fl_##s){0}, r[i]))
FL_OF_HALVES(8, ps)
FL_OF_HALVES(4, pd)
#define FL_MAX_8(a, b) fl_max_8(a, b, a)
#define FL_MAX_4(a, b) fl_max_4(a, b, a)
#define FL_MIN_8(a, b) fl_min_8(a, b, a)
#define FL_MIN_4(a, b) fl_min_4(a, b, a)
#define FL_UNLESS_LESS(W, x, y, a) fl_unless_less_##W(x, y, a)
#define FL_UNLESS_ZERO(W, x, a) fl_unless_zero_##W(x, x, a)
#endif
#define FL_ADD(a, b) ((a) + (b))
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FL_PICK(W, a, b, ...) (fl_number_##W)__builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#if !defined(FL_PICK)   /* gcc before 12 */
#define FL_PICK(W, a, b, ...) __builtin_shuffle(a, b, (fl_mask_##W){__VA_ARGS__})
#endif
#define FL_PLACES_8 ((fl_mask_8){0, 1, 2, 3, 4, 5, 6, 7})
#define FL_PLACES_4 ((fl_mask_4){0, 1, 2, 3})
#define FL_EVEN_8(a, b) FL_PICK(8, a, b, 0, 2, 8, 10, 4, 6, 12, 14)
#define FL_ODD_8(a, b) FL_PICK(8, a, b, 1, 3, 9, 11, 5, 7, 13, 15)
#define FL_FIRST_8(a, b) FL_PICK(8, a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define FL_LAST_8(a, b) FL_PICK(8, a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#define FL_ORDER_8(a) FL_PICK(8, a, a, 0, 1, 4, 5, 2, 3, 6, 7)
#define FL_TWICE_8(a) FL_PICK(8, a, a, 0, 0, 1, 1, 2, 2, 3, 3)
#define FL_EVEN_4(a, b) FL_PICK(4, a, b, 0, 4, 2, 6)
#define FL_ODD_4(a, b) FL_PICK(4, a, b, 1, 5, 3, 7)
#define FL_FIRST_4(a, b) FL_PICK(4, a, b, 0, 1, 4, 5)
#define FL_LAST_4(a, b) FL_PICK(4, a, b, 2, 3, 6, 7)
#define FL_ORDER_4(a) FL_PICK(4, a, a, 0, 2, 1, 3)
#define FL_TWICE_4(a) FL_PICK(4, a, a, 0, 0, 1, 1)

static const int32_t fl_within[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
#define FL_FIRST(W, n) (*(const fl_mask_##W*)(fl_within + 16 - (n) * (8 / W)))  /* the mask of n < W numbers */

/* Results that pass the caches: of a step whose p begins a line, and of an array the lines of 64 bytes that it has alone. */
#if defined(__SSE4_1__)
#define FL_STREAM(from, to) FL_MM(stream_ps)((float*)(to), *(const fl_ps_in_memory*)(from))
#define fastloss_stream_end() _mm_sfence()  /* before other threads may read it */
#else
#define FL_STREAM(from, to) memcpy(to, from, FL_BYTES)
#define fastloss_stream_end() ((void)0)
#endif
FASTLOSS_INLINE void fl_stream_line(const char* from, char* to) { FL_EACH(FL_STREAM(from + FL_BYTES * i, to + FL_BYTES * i)); }
static inline void fastloss_stream(const void* from, size_t bytes, void* to) {
    const char* x = (const char*)from;
    char* y = (char*)to;
    size_t i = -(uintptr_t)y & 63;
    if (i > bytes) i = bytes;
    if (i) memcpy(y, x, i);
    for (; i + 64 <= bytes; i += 64) fl_stream_line(x + i, y + i);
    if (i < bytes) memcpy(y + i, x + i, bytes - i);
}

/* ---- Steps: 64 bytes of numbers side by side ---- */

/* One step of a loop is 16 numbers of float32 (f16) or 8 of float64 (d8), in one register of AVX-512, two of AVX2, four of
   SSE and NEON. What is done to a step is done to each of its registers: the bits are those of any width. */
typedef struct { fl_ps r[64 / FL_BYTES]; } f16;
typedef struct { fl_pd r[64 / FL_BYTES]; } d8;

/* The first n < 16 (8) numbers at p over those of a; no other memory is touched. */
#if defined(__AVX512F__)
#define FL_LOAD_PART(s, W) FL_EACH(a.r[i] = _mm512_mask_loadu_##s(a.r[i], (1u << n) - 1, p))
#elif defined(__AVX2__)
#define FL_LOAD_PART(s, W)                                                                                    \
    FL_EACH(                                                                                                  \
        __m256i within = (__m256i)FL_FIRST(W, n - W * i);                                                     \
        a.r[i] = FL_IF(s, within, _mm256_maskload_##s(p + W * i, within), a.r[i])                             \
    )
#else
#define FL_LOAD_PART(s, W) FL_EACH(for (int k = 0; k < W / 2; k++) if (W / 2 * i + k < n) a.r[i][k] = p[W / 2 * i + k])
#endif
/* A store of a part goes by powers of two: a load of what is behind it would wait for a masked store. */
#if defined(__AVX512F__)
#define FL_ANY(a, found) (_mm512_test_epi32_mask((__m512i)(a).r[0], (__m512i)(a).r[0]) != 0)
#else
#define FL_ANY(a, found) (((found)[0] | (found)[1] | (found)[2] | (found)[3]) != 0)
#endif
#define FL_TAG(vec) vec tag __attribute__((unused))
#define FL_OPERATION(vec, name, parameters, result)                                                           \
    FASTLOSS_INLINE vec vec##_##name parameters { FL_EACH(a.r[i] = result); return a; }
#define FL_STEP(vec, real, s, W)                                                                              \
    FASTLOSS_INLINE vec vec##_load(const real* p) {                                                           \
        vec a;                                                                                                \
        FL_EACH(a.r[i] = ((const fl_##s##_in_memory*)p)[i]);                                                   \
        return a;                                                                                             \
    }                                                                                                         \
    FASTLOSS_INLINE void vec##_store(vec a, real* p) { FL_EACH(((fl_##s##_in_memory*)p)[i] = a.r[i]); }        \
    FASTLOSS_INLINE vec vec##_all(real x) { vec a; FL_EACH(a.r[i] = x - (fl_##s){0}); return a; }              \
    FASTLOSS_INLINE double vec##_first(vec a) { return a.r[0][0]; }                                           \
    FASTLOSS_INLINE vec vec##_load_part(const real* p, int n, real fill) {                                    \
        vec a = vec##_all(fill);                                                                              \
        FL_LOAD_PART(s, W);                                                                                   \
        return a;                                                                                             \
    }                                                                                                         \
    FASTLOSS_INLINE void vec##_store_part(vec a, real* p, int n) {                                            \
        real all[2 * W];                                                                                      \
        const real* from = all;                                                                               \
        vec##_store(a, all);                                                                                  \
        if (W == 8 && n & 8) { memcpy(p, from, 8 * sizeof(real)); p += 8; from += 8; }                        \
        if (n & 4) { memcpy(p, from, 4 * sizeof(real)); p += 4; from += 4; }                                  \
        if (n & 2) { memcpy(p, from, 2 * sizeof(real)); p += 2; from += 2; }                                  \
        if (n & 1) *p = *from;                                                                                \
    }                                                                                                         \
    FASTLOSS_INLINE vec vec##_load_step(const void* p, ptrdiff_t step, FL_TAG(vec)) {                         \
        return vec##_load((const real*)p + 2 * W * step);                                                     \
    }                                                                                                         \
    FASTLOSS_INLINE void vec##_store_step(vec a, void* p, ptrdiff_t step) { vec##_store(a, (real*)p + 2 * W * step); } \
    FASTLOSS_INLINE vec vec##_load_part_step(const void* p, ptrdiff_t step, ptrdiff_t n, double fill, FL_TAG(vec)) { \
        return vec##_load_part((const real*)p + 2 * W * step, (int)n, (real)fill);                            \
    }                                                                                                         \
    FASTLOSS_INLINE void vec##_store_part_step(vec a, void* p, ptrdiff_t step, ptrdiff_t n) {                 \
        vec##_store_part(a, (real*)p + 2 * W * step, (int)n);                                                 \
    }                                                                                                         \
    FASTLOSS_INLINE void vec##_stream_step(vec a, void* p, ptrdiff_t step) { /* p + step begins a line */     \
        fl_stream_line((const char*)&a, (char*)p + 64 * step);                                                \
    }                                                                                                         \
    FASTLOSS_INLINE int vec##_any(vec a) {                                                                    \
        fl_mask_4 found __attribute__((unused)) = ((const fl_mask_4*)&a)[0] | ((const fl_mask_4*)&a)[1];      \
        return FL_ANY(a, found);                                                                              \
    }                                                                                                         \
    FL_OPERATION(vec, add, (vec a, vec b), a.r[i] + b.r[i])                                                   \
    FL_OPERATION(vec, sub, (vec a, vec b), a.r[i] - b.r[i])                                                   \
    FL_OPERATION(vec, mul, (vec a, vec b), a.r[i] * b.r[i])                                                   \
    FL_OPERATION(vec, div, (vec a, vec b), a.r[i] / b.r[i])                                                   \
    FL_OPERATION(vec, max, (vec a, vec b), FL_MAX(s, a.r[i], b.r[i]))                                         \
    FL_OPERATION(vec, min, (vec a, vec b), FL_MIN(s, a.r[i], b.r[i]))                                         \
    FL_OPERATION(vec, fma, (vec a, vec b, vec c), FL_FMA(s, a.r[i], b.r[i], c.r[i]))                          \
    FL_OPERATION(vec, if_negative, (vec a, vec b, vec c), FL_IF_NEGATIVE(s, a.r[i], b.r[i], c.r[i]))          \
    FL_OPERATION(vec, if_less, (vec a, vec b, vec c, vec d), FL_IF_LESS(s, a.r[i], b.r[i], c.r[i], d.r[i]))   \
    FL_OPERATION(vec, if_equal, (vec a, vec b, vec c, vec d), FL_IF_EQUAL(s, a.r[i], b.r[i], c.r[i], d.r[i])) \
    FL_OPERATION(vec, either, (vec a, vec b), (fl_##s)((fl_bits_##s)a.r[i] | (fl_bits_##s)b.r[i]))            \
    FL_OPERATION(vec, negative, (vec a), (fl_##s)((fl_bits_##s)a.r[i] ^ FL_SIGN_##s))                         \
    FL_OPERATION(vec, absolute, (vec a), (fl_##s)((fl_bits_##s)a.r[i] & ~FL_SIGN_##s))                        \
    FL_OPERATION(vec, minus_absolute, (vec a), (fl_##s)((fl_bits_##s)a.r[i] | FL_SIGN_##s))                   \
    FL_OPERATION(vec, power, (vec a), (fl_##s)((fl_bits_##s)a.r[i] << FL_MANTISSA_##s))
FL_STEP(f16, float, ps, 8)
FL_STEP(d8, double, pd, 4)
FASTLOSS_INLINE f16 f16_places(FL_TAG(f16)) {
    return f16_load((const float[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
}
FASTLOSS_INLINE d8 d8_places(FL_TAG(d8)) { return d8_load((const double[]){0, 1, 2, 3, 4, 5, 6, 7}); }

/* A step's numbers to one, by halves. */
#define FL_ACROSS_8(name, of_two)                                                                             \
    FASTLOSS_INLINE float f16_##name(f16 a) {                                                                 \
        fl_number_8 y = of_two(FL_AT(8, &a, 0), FL_AT(8, &a, 1));                                             \
        y = of_two(y, FL_PICK(8, y, y, 4, 5, 6, 7, 0, 1, 2, 3));                                              \
        y = of_two(y, FL_PICK(8, y, y, 2, 3, 0, 1, 6, 7, 4, 5));                                              \
        y = of_two(y, FL_PICK(8, y, y, 1, 0, 3, 2, 5, 4, 7, 6));                                              \
        return y[0];                                                                                          \
    }
#define FL_ACROSS_4(name, of_two)                                                                             \
    FASTLOSS_INLINE double d8_##name(d8 a) {                                                                  \
        fl_number_4 y = of_two(FL_AT(4, &a, 0), FL_AT(4, &a, 1));                                             \
        y = of_two(y, FL_PICK(4, y, y, 2, 3, 0, 1));                                                          \
        y = of_two(y, FL_PICK(4, y, y, 1, 0, 3, 2));                                                          \
        return y[0];                                                                                          \
    }
FL_ACROSS_8(greatest, FL_MAX_8)
FL_ACROSS_8(sum, FL_ADD)
FL_ACROSS_4(greatest, FL_MAX_4)
FL_ACROSS_4(sum, FL_ADD)

/* 2^-k, with sqrt(1/2) <= u 2^-k < sqrt(2), of normal numbers u > 0 */
FASTLOSS_INLINE f16 f16_inverse_power(f16 u, f16* k) {
    FL_EACH(
        fl_int_ps e = ((fl_int_ps)u.r[i] - 0x3F3504F3) & (int32_t)0xFF800000;
        k->r[i] = __builtin_convertvector(e >> 23, fl_ps);
        u.r[i] = (fl_ps)(0x3F800000 - e);
    );
    return u;
}
FASTLOSS_INLINE d8 d8_inverse_power(d8 u, d8* k) {
    FL_EACH( /* (k + 1024) 2^52, for AVX2 neither shifts signed 64-bit integers nor makes them float64 */
        fl_bits_pd e = (fl_bits_pd)u.r[i] + 0x00195F619980C433u;
        k->r[i] = (fl_pd)((e >> 52) | 0x4330000000000000u) - 4503599627371520.0;
        u.r[i] = (fl_pd)(0x7FF0000000000000u - (e & 0xFFF0000000000000u));
    );
    return u;
}

/* FASTLOSS_EXP_FACTOR 2^(i/8) 2^k for the number 8 k + i in the low bits of a. The factor makes all eight entries, each less
   its own i/8 as an exponent, nearly representable (0.04 ulp); it cancels where exponentials are divided. */
#if defined(__AVX2__) || defined(__aarch64__)
#define fastloss_exp_table 1
#define FASTLOSS_EXP_FACTOR 1.5382611751556396
#define FL_EIGHTHS                                                                                            \
    0x3FC4E5BE, 0x3FD6B7DA - (1 << 20), 0x3FEA26DE - (2 << 20), 0x3FFF5829 - (3 << 20), 0x400B3A3E - (4 << 20), \
    0x4017D424 - (5 << 20), 0x40259202 - (6 << 20), 0x40348E45 - (7 << 20)
static const int32_t fl_eighths[16] __attribute__((aligned(64))) = {FL_EIGHTHS, FL_EIGHTHS};
#if defined(__AVX512F__)
#define FL_ENTRY(k) _mm512_permutexvar_epi32((__m512i)(k), _mm512_load_si512(fl_eighths))
#elif defined(__AVX2__)
#define FL_ENTRY(k) _mm256_permutevar8x32_epi32(_mm256_load_si256((const __m256i*)fl_eighths), (__m256i)(k))
#else   /* the bytes 4 i, 4 i + 1, … of the table */
FASTLOSS_INLINE uint8x16_t fl_entry(fl_ps k) {
    uint8x16x2_t table = {{vld1q_u8((const uint8_t*)fl_eighths), vld1q_u8((const uint8_t*)(fl_eighths + 4))}};
    return vqtbl2q_u8(table, (uint8x16_t)(((fl_bits_ps)k & 7) * 0x04040404u + 0x03020100u));
}
#define FL_ENTRY fl_entry
#endif
FASTLOSS_INLINE f16 f16_power_of_eighths(f16 a) {
    FL_EACH(a.r[i] = (fl_ps)((fl_int_ps)FL_ENTRY(a.r[i]) + (fl_int_ps)((fl_bits_ps)a.r[i] << 20)));
    return a;
}
#else
#define fastloss_exp_table 0
#define FASTLOSS_EXP_FACTOR 1.0
#define f16_power_of_eighths(a) (a)
#endif

/* Eight numbers of float32 in float64: from memory; the first half of a step, or the second; the sum of both. */
FASTLOSS_INLINE d8 d8_of_floats(const float* p) {
    d8 y;
#if defined(__AVX2__)
    FL_EACH(y.r[i] = FL_MM(cvtps_pd)(((const fl_floats*)p)[i]));
#elif defined(__SSE4_1__)
    FL_EACH(y.r[i] = _mm_cvtps_pd((__m128)FL_HALF(p + 2 * i)));
#else
    FL_EACH(y.r[i] = __builtin_convertvector(((const fl_floats*)p)[i], fl_pd));
#endif
    return y;
}
FASTLOSS_INLINE d8 d8_of_half(f16 a, int second) {
    fl_number_8 half = second ? FL_AT(8, &a, 1) : FL_AT(8, &a, 0);
    return d8_of_floats((const float*)&half);
}
FASTLOSS_INLINE d8 d8_of_halves(f16 a) {
    fl_number_8 half = FL_AT(8, &a, 0) + FL_AT(8, &a, 1);
    return d8_of_floats((const float*)&half);
}
FASTLOSS_INLINE f16 f16_of_halves(d8 a, d8 b) {  /* sixteen numbers of float64, rounded */
    f16 y;
#if defined(__AVX512F__)
    y.r[0] = (fl_ps)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a.r[0])), _mm512_cvtpd_ps(b.r[0]), 1);
#elif defined(__AVX2__)
    y.r[0] = (fl_ps)_mm256_set_m128(_mm256_cvtpd_ps(a.r[1]), _mm256_cvtpd_ps(a.r[0]));
    y.r[1] = (fl_ps)_mm256_set_m128(_mm256_cvtpd_ps(b.r[1]), _mm256_cvtpd_ps(b.r[0]));
#else
    float all[16];
    for (int i = 0; i < 4; i++) {
        ((fl_floats*)all)[i] = __builtin_convertvector(a.r[i], fl_floats);
        ((fl_floats*)all)[i + 4] = __builtin_convertvector(b.r[i], fl_floats);
    }
    y = f16_load(all);
#endif
    return y;
}

/* ---- Half precision: 16 numbers in memory are a step of float32 ---- */

FASTLOSS_INLINE f16 f16_load_bfloat16(const uint16_t* p) {
    f16 a;
    FL_EACH(a.r[i] = (fl_ps)(FL_WIDEN(p + FL_BYTES / 4 * i) << 16));
    return a;
}
FASTLOSS_INLINE void f16_store_bfloat16(f16 a, uint16_t* p) {
    fl_bits_ps half[64 / FL_BYTES];
    FL_EACH(
        fl_bits_ps u = (fl_bits_ps)a.r[i], is_nan = (fl_bits_ps)(a.r[i] != a.r[i]);
        half[i] = FL_WHERE(is_nan, 0x7fc00000u, u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    );
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16((__m512i)half[0]));
#elif defined(__AVX2__)
    __m256i all = _mm256_packus_epi32((__m256i)half[0], (__m256i)half[1]);
    _mm256_storeu_si256((__m256i*)p, _mm256_permute4x64_epi64(all, 0xD8));
#else
    FL_EACH(((fl_halves*)p)[i] = __builtin_convertvector(half[i], fl_halves));
#endif
}
#if defined(__F16C__) && defined(__AVX2__)
FASTLOSS_INLINE f16 f16_load_float16(const uint16_t* p) {
    f16 a;
    FL_EACH(a.r[i] = FL_MM(cvtph_ps)(FL_HALF(p + FL_BYTES / 4 * i)));
    return a;
}
FASTLOSS_INLINE void f16_store_float16(f16 a, uint16_t* p) {
    FL_EACH(FL_STORE_HALF(p + FL_BYTES / 4 * i, FL_MM(cvtps_ph)(a.r[i], _MM_FROUND_TO_NEAREST_INT)));
}
#else   /* in signed integers; a subnormal number is a difference of normal ones */
FASTLOSS_INLINE f16 f16_load_float16(const uint16_t* p) {
    f16 a;
    FL_EACH(
        fl_int_ps half = (fl_int_ps)FL_WIDEN(p + FL_BYTES / 4 * i), u = (half & 0x7fff) << 13, wide;
        wide = FL_WHERE(u < 0x00800000, (fl_int_ps)((fl_ps)(u + 0x38800000) - 0x1p-14f), u + 0x38000000);
        wide = FL_WHERE(u >= 0x0f800000, u + 0x70000000, wide);  /* inf, NaN */
        a.r[i] = (fl_ps)(wide | (half & 0x8000) << 16);
    );
    return a;
}
FASTLOSS_INLINE void f16_store_float16(f16 a, uint16_t* p) {
    FL_EACH(
        fl_int_ps u = (fl_int_ps)a.r[i] & 0x7fffffff, sign = ((fl_int_ps)a.r[i] >> 16) & 0x8000, half;
        fl_int_ps low = (fl_int_ps)((fl_ps)u + 0.5f) - 0x3f000000;  /* to a multiple of 2^-24 */
        half = FL_WHERE(u < 0x38800000, low, (u - 0x38000000 + 0xfff + ((u >> 13) & 1)) >> 13);
        half = FL_WHERE(u >= 0x477ff000, 0x7c00, half);
        half = FL_WHERE(u > 0x7f800000, 0x7e00, half);
        ((fl_halves*)p)[i] = __builtin_convertvector(half | sign, fl_halves);
    );
}
#endif
FASTLOSS_INLINE f16 f16_load_half(const uint16_t* p, int bfloat16) {
    return bfloat16 ? f16_load_bfloat16(p) : f16_load_float16(p);
}
FASTLOSS_INLINE void f16_store_half(f16 a, uint16_t* p, int bfloat16) {
    if (bfloat16) f16_store_bfloat16(a, p);
    else f16_store_float16(a, p);
}
/* The first n < 16 numbers of a step, as of float32, and all of an array. */
FASTLOSS_INLINE f16 f16_load_part_half(const uint16_t* p, int n, float fill, int bfloat16) {
    uint16_t half[16] = {0};
    float all[16];
    for (int k = 0; k < n; k++) half[k] = p[k];
    f16_store(f16_load_half(half, bfloat16), all);
    return f16_load_part(all, n, fill);
}
FASTLOSS_INLINE void f16_store_part_half(f16 a, uint16_t* p, int n, int bfloat16) {
    uint16_t half[16];
    f16_store_half(a, half, bfloat16);
    for (int k = 0; k < n; k++) p[k] = half[k];
}
FASTLOSS_INLINE void fl_widen(const uint16_t* x, ptrdiff_t n, float* y, int bfloat16) {
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) {
        fastloss_prefetch(x + i + 2048);
        f16_store(f16_load_half(x + i, bfloat16), y + i);
    }
    if (i < n) f16_store_part(f16_load_part_half(x + i, (int)(n - i), 0, bfloat16), y + i, (int)(n - i));
}
FASTLOSS_INLINE void fl_narrow(const float* x, ptrdiff_t n, uint16_t* y, int bfloat16) {
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) f16_store_half(f16_load(x + i), y + i, bfloat16);
    if (i < n) f16_store_part_half(f16_load_part(x + i, (int)(n - i), 0), y + i, (int)(n - i), bfloat16);
}
FASTLOSS_APART void fastloss_widen(const uint16_t* x, ptrdiff_t n, float* y, int bfloat16) {
    if (bfloat16) fl_widen(x, n, y, 1);
    else fl_widen(x, n, y, 0);
}
FASTLOSS_APART void fastloss_narrow(const float* x, ptrdiff_t n, uint16_t* y, int bfloat16) {
    if (bfloat16) fl_narrow(x, n, y, 1);
    else fl_narrow(x, n, y, 0);
}

/* ---- Transposition ---- */

/* y[j * y_step + i] = x[i * x_step + j] in registers, for PANEL rows of 4 numbers (split) or 4 rows of PANEL
   numbers (join); gcc makes scatters of the plain loops. Pairs are made within 128 bits, by one instruction. */
#define FL_LOAD(type, x, step) (*(const type*)(x))
#define FL_STORE(type, y, step, row) (*(type*)(y) = (row))
#ifdef __AVX__  /* rows i and i + 4 in the halves of a register */
#define FL_PANEL 8
typedef fl_number_8 fl_panel;
#define FL_IN(i, half) ((i) + ((i) < 4 ? 0 : 4) + 4 * (half))
#define FL_FOUR(a, b, p, q, r, s) FL_PICK(                                                                    \
    8, a, b, FL_IN(p, 0), FL_IN(q, 0), FL_IN(r, 0), FL_IN(s, 0), FL_IN(p, 1), FL_IN(q, 1), FL_IN(r, 1), FL_IN(s, 1))
#define FL_LOAD_HALVES(type, x, step) _mm256_set_m128(_mm_loadu_ps((x) + 4 * (step)), _mm_loadu_ps(x))
#define FL_STORE_HALVES(type, y, step, row)                                                                   \
    (_mm_storeu_ps(y, _mm256_castps256_ps128(row)), _mm_storeu_ps((y) + 4 * (step), _mm256_extractf128_ps(row, 1)))
#else
#define FL_PANEL 4
FL_VECTOR(fl_number_floats, float, 16, 4)
FL_VECTOR(fl_mask_floats, int32_t, 16, 4)
typedef fl_number_floats fl_panel;
#define FL_FOUR(a, b, p, q, r, s) FL_PICK(floats, a, b, p, q, r, s)
#define FL_LOAD_HALVES FL_LOAD
#define FL_STORE_HALVES FL_STORE
#endif
#define FL_EVEN_panel(a, b) FL_FOUR(a, b, 0, 4, 1, 5)  /* of pairs */
#define FL_ODD_panel(a, b) FL_FOUR(a, b, 2, 6, 3, 7)
#define FL_FIRST_panel(a, b) FL_FOUR(a, b, 0, 1, 4, 5)
#define FL_LAST_panel(a, b) FL_FOUR(a, b, 2, 3, 6, 7)
/* what does not fill a panel runs through the last one again */
#define FL_TRANSPOSE(name, real, type, load, store, kind, u, down, across)                                    \
    FASTLOSS_INLINE void name##_panel(const real* x, ptrdiff_t x_step, real* y, ptrdiff_t y_step) {           \
        type a = load(type, x, x_step), b = load(type, x + x_step, x_step);                                   \
        type c = load(type, x + 2 * x_step, x_step), d = load(type, x + 3 * x_step, x_step);                  \
        type ab0 = FL_EVEN_##kind(a, b), ab1 = FL_ODD_##kind(a, b);                                           \
        type cd0 = FL_EVEN_##kind(c, d), cd1 = FL_ODD_##kind(c, d);                                           \
        store(type, y, y_step, FL_FIRST_##kind(ab0, cd0));                                                    \
        store(type, y + u * y_step, y_step, FL_LAST_##kind(ab0, cd0));                                        \
        store(type, y + (3 - u) * y_step, y_step, FL_FIRST_##kind(ab1, cd1));                                 \
        store(type, y + 3 * y_step, y_step, FL_LAST_##kind(ab1, cd1));                                        \
    }                                                                                                         \
    FASTLOSS_APART void name(                                                                                 \
        const real* x, ptrdiff_t x_step, ptrdiff_t rows, ptrdiff_t columns, real* y, ptrdiff_t y_step         \
    ) {                                                                                                       \
        ptrdiff_t i, j, last_i = rows - down, last_j = columns - across;                                      \
        if (last_i < 0 || last_j < 0) {                                                                       \
            for (i = 0; i < rows; i++)                                                                        \
                for (j = 0; j < columns; j++) y[j * y_step + i] = x[i * x_step + j];                          \
            return;                                                                                           \
        }                                                                                                     \
        for (j = 0;; j = j + across < last_j ? j + across : last_j) {                                         \
            for (i = 0;; i = i + down < last_i ? i + down : last_i) {                                         \
                name##_panel(x + i * x_step + j, x_step, y + j * y_step + i, y_step);                         \
                if (i == last_i) break;                                                                       \
            }                                                                                                 \
            if (j == last_j) break;                                                                           \
        }                                                                                                     \
    }
FL_TRANSPOSE(fastloss_samples_to_lanes_float, float, fl_panel, FL_LOAD_HALVES, FL_STORE, panel, 1, FL_PANEL, 4)
FL_TRANSPOSE(fastloss_lanes_to_samples_float, float, fl_panel, FL_LOAD, FL_STORE_HALVES, panel, 1, 4, FL_PANEL)
FL_TRANSPOSE(fastloss_transpose_double, double, fl_number_4, FL_LOAD, FL_STORE, 4, 2, 4, 4)

/* ---- Short rows, one after another: sums, maxima, products ---- */

/* Each row, `stride` from the one before, to one number by `of_two`, its numbers as `of_one` makes them with c and b; the
   last classes % W of a row are a register with `fill`. W rows go side by side: each into W lanes, of which a tree of
   neighbours then makes one register of W results. So the order of the additions is that of W lanes on every instruction
   set, also where registers hold more. The rows are a multiple of W, of which the last ones need not be any; W numbers
   behind are read. If FOUR, long rows go by as many registers; if PAIRS, rows of two side by side, without `of_one`. */
#define FL_ROWS_JOIN(name, real, W, FOUR, PAIRS, fill, of_one, of_two)                                        \
    FASTLOSS_INLINE fl_number_##W name##_row(                                                                 \
        const real* p, const real* c, ptrdiff_t full, fl_mask_##W rest, const real* b                         \
    ) {                                                                                                       \
        const fl_number_##W none = {0};                                                                       \
        fl_number_##W m = FL_EITHER(W, rest, of_one(W, FL_AT(W, p + full, 0), c + full, b), fill - none), r[4]; \
        ptrdiff_t j = 0;                                                                                      \
        if (FOUR && full >= 4 * W) {                                                                          \
            for (int i = 0; i < 4; i++) r[i] = of_one(W, FL_AT(W, p, i), c + W * i, b);                       \
            for (j = 4 * W; j + 4 * W <= full; j += 4 * W)                                                    \
                for (int i = 0; i < 4; i++) r[i] = of_two(W, r[i], of_one(W, FL_AT(W, p + j, i), c + j + W * i, b)); \
            for (; j < full; j += W) m = of_two(W, m, of_one(W, FL_AT(W, p + j, 0), c + j, b));               \
            r[0] = of_two(W, r[0], r[2]), r[1] = of_two(W, r[1], r[3]), r[0] = of_two(W, r[0], r[1]);         \
            return of_two(W, r[0], m);                                                                        \
        }                                                                                                     \
        for (; j < full; j += W) m = of_two(W, m, of_one(W, FL_AT(W, p + j, 0), c + j, b));                   \
        return m;                                                                                             \
    }                                                                                                         \
    FASTLOSS_INLINE void name##_of(                                                                           \
        const real* x, const real* c, ptrdiff_t stride, ptrdiff_t classes, ptrdiff_t rows, const real* b, real* y \
    ) {                                                                                                       \
        ptrdiff_t full = classes - classes % W;                                                               \
        fl_mask_##W rest = FL_FIRST(W, classes - full);                                                       \
        for (ptrdiff_t l = 0; l < rows; l += W, x += W * stride, c += W * stride) {                           \
            fl_number_##W m[W];                                                                               \
            if (PAIRS && stride == 2) {                                                                       \
                m[0] = FL_EVEN_##W(FL_AT(W, x, 0), FL_AT(W, x, 1));                                           \
                m[0] = of_two(W, m[0], FL_ODD_##W(FL_AT(W, x, 0), FL_AT(W, x, 1)));                           \
                m[0] = FL_ORDER_##W(m[0]);                                                                    \
            } else {                                                                                          \
                _Pragma("GCC unroll 8") for (int i = 0; i < W; i++)                                           \
                    m[i] = name##_row(x + i * stride, c + i * stride, full, rest, b + l + i);                 \
                _Pragma("GCC unroll 4") for (int n = W / 2; n > 1; n /= 2)                                    \
                    _Pragma("GCC unroll 4") for (int i = 0; i < n; i++)                                       \
                        m[i] = of_two(W, FL_EVEN_##W(m[2 * i], m[2 * i + 1]), FL_ODD_##W(m[2 * i], m[2 * i + 1])); \
                m[0] = of_two(W, FL_FIRST_##W(m[0], m[1]), FL_LAST_##W(m[0], m[1]));                          \
            }                                                                                                 \
            *(fl_number_##W*)(y + l) = m[0];                                                                  \
        }                                                                                                     \
    }
#define FL_ROWS_ALONE(name, real)                                                                             \
    FASTLOSS_APART void name(const real* x, ptrdiff_t stride, ptrdiff_t classes, ptrdiff_t rows, real* y) {   \
        if (stride == 10) name##_of(x, x, 10, 10, rows, x, y);                                                \
        else if (stride == 2) name##_of(x, x, 2, 2, rows, x, y);                                              \
        else name##_of(x, x, stride, classes, rows, x, y);                                                    \
    }
#define FL_ROWS_BESIDE(name, real)                                                                            \
    FASTLOSS_APART void name(                                                                                 \
        const real* x, ptrdiff_t stride, ptrdiff_t classes, ptrdiff_t rows, const real* b, real* y            \
    ) {                                                                                                       \
        if (stride == 10) name##_of(x, x, 10, 10, rows, b, y);                                                \
        else name##_of(x, x, stride, classes, rows, b, y);                                                    \
    }
#define FL_ROWS_TWO(name, real)                                                                               \
    FASTLOSS_APART void name(                                                                                 \
        const real* x, const real* c, ptrdiff_t stride, ptrdiff_t classes, ptrdiff_t rows, const real* b, real* y \
    ) {                                                                                                       \
        name##_of(x, c, stride, classes, rows, b, y);                                                         \
    }
#define FL_SUM(W, a, b) ((a) + (b))
#define FL_TOP(W, a, b) FL_MAX_##W(a, b)
#define FL_ITSELF(W, x, c, b) (x)
#define FL_APART(W, x, c, b) ((x) - *(b))
#define FL_DOT(W, x, c, b)  /* of c that is 0, 0 */                                                           \
    (FL_AT(W, c, 0) * FL_UNLESS_ZERO(W, FL_AT(W, c, 0), (x) - *(b)))

/* The greatest of each row, or 0, and the sum of all others, of as many lanes as FL_ROWS_JOIN has. NaN is in the sum,
   as long as all that comes from memory is v. */
#define FL_ADD_BESIDE(W, u, r, v, q) (r = (q) + FL_MIN_##W(u, v), u = FL_MAX_##W(u, v))
#define FL_ROWS_APART_FROM_TOP(name, real, W)                                                                 \
    FASTLOSS_INLINE void name##_row(                                                                          \
        const real* p, ptrdiff_t full, fl_mask_##W rest, fl_number_##W* top, fl_number_##W* sum               \
    ) {                                                                                                       \
        const fl_number_##W none = {0};                                                                       \
        fl_number_##W u[4] = {none, none, none, none}, r[4] = {none, none, none, none}, least, lesser;        \
        ptrdiff_t j = 0;                                                                                      \
        FL_ADD_BESIDE(W, u[3], r[3], FL_EITHER(W, rest, FL_AT(W, p + full, 0), none), r[3]);                  \
        for (; j + 4 * W <= full; j += 4 * W)                                                                 \
            for (int i = 0; i < 4; i++) FL_ADD_BESIDE(W, u[i], r[i], FL_AT(W, p + j, i), r[i]);               \
        for (int i = 0; i < 3; i++)                                                                           \
            if (j + W * i < full) FL_ADD_BESIDE(W, u[i], r[i], FL_AT(W, p + j, i), r[i]);                     \
        least = FL_MIN_##W(u[0], u[2]), u[0] = FL_MAX_##W(u[0], u[2]);                                        \
        lesser = FL_MIN_##W(u[1], u[3]), u[1] = FL_MAX_##W(u[1], u[3]);                                       \
        least = (least + lesser) + FL_MIN_##W(u[0], u[1]);                                                    \
        *top = FL_MAX_##W(u[0], u[1]), *sum = ((r[0] + r[2]) + (r[1] + r[3])) + least;                        \
    }                                                                                                         \
    FASTLOSS_APART void name(                                                                                 \
        const real* x, ptrdiff_t stride, ptrdiff_t classes, ptrdiff_t rows, real* top, real* sum              \
    ) {                                                                                                       \
        ptrdiff_t full = classes - classes % W;                                                               \
        fl_mask_##W rest = FL_FIRST(W, classes - full);                                                       \
        for (ptrdiff_t l = 0; l < rows; l += W, x += W * stride) {                                            \
            fl_number_##W u[W], r[W], v, q;                                                                   \
            for (int i = 0; i < W; i++) name##_row(x + i * stride, full, rest, u + i, r + i);                 \
            _Pragma("GCC unroll 4") for (int n = W / 2; n > 0; n /= 2)                                        \
                _Pragma("GCC unroll 4") for (int i = 0; i < n; i++) {                                         \
                    if (n > 1) {                                                                              \
                        v = FL_ODD_##W(u[2 * i], u[2 * i + 1]), q = FL_ODD_##W(r[2 * i], r[2 * i + 1]);       \
                        u[i] = FL_EVEN_##W(u[2 * i], u[2 * i + 1]), r[i] = FL_EVEN_##W(r[2 * i], r[2 * i + 1]); \
                    } else {                                                                                  \
                        v = FL_LAST_##W(u[0], u[1]), q = FL_LAST_##W(r[0], r[1]);                             \
                        u[0] = FL_FIRST_##W(u[0], u[1]), r[0] = FL_FIRST_##W(r[0], r[1]);                     \
                    }                                                                                         \
                    FL_ADD_BESIDE(W, u[i], r[i], v, r[i] + q);                                                \
                }                                                                                             \
            *(fl_number_##W*)(top + l) = u[0], *(fl_number_##W*)(sum + l) = r[0];                             \
        }                                                                                                     \
    }

/* y of x and two numbers for each row. Rows shorter than a register are written in order, each over what the one before
   wrote too far; not so the last ones, for behind them is other memory. y is elsewhere than x; W numbers behind the
   others may be read. Where FL_SPREADS, the numbers of W rows are put as often as a row is long, in as many registers:
   faster than a row by itself where that does not fill one register, or a second one by half. */
#if defined(__AVX512F__)
FL_VECTOR(fl_number_16, float, 64, 4)
FL_VECTOR(fl_mask_16, int32_t, 64, 4)
#define FL_PLACES_16 ((fl_mask_16){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#define FL_TWICE_16(a) _mm512_permutexvar_ps((__m512i)(FL_PLACES_16 >> 1), a)
#define FL_SPREADS_16(classes) ((classes) > 2 && (classes) < 16)
#define FL_SPREAD_16(a, places) _mm512_permutexvar_ps((__m512i)(places), a)
#elif defined(__AVX2__)
#define FL_SPREADS_8(classes) ((classes) > 2 && (classes) < 12 && (classes) != 8)
#define FL_SPREAD_8(a, places) _mm256_permutevar8x32_ps(a, (__m256i)(places))
#else
#define FL_SPREADS_8(classes) 0
#define FL_SPREAD_8(a, places) (a)
#endif
#define FL_SPREADS_4(classes) 0
#define FL_SPREAD_4(a, places) (a)
#define FL_ROWS_MAP(name, real, W, result)                                                                    \
    FASTLOSS_INLINE void name##_of(                                                                           \
        const real* __restrict x, const real* a, const real* b, ptrdiff_t classes, ptrdiff_t rows, real* __restrict y \
    ) {                                                                                                       \
        ptrdiff_t l = 0, j, last = classes >= W ? rows : rows - (W + classes - 1) / classes;                  \
        fl_number_##W f, t;                                                                                   \
        fl_mask_##W places[16] __attribute__((unused));                                                       \
        if (classes == 2)                                                                                     \
            for (; l + W / 2 <= rows; l += W / 2) {                                                           \
                f = FL_TWICE_##W(FL_AT(W, a + l, 0)), t = FL_TWICE_##W(FL_AT(W, b + l, 0));                   \
                *(fl_number_##W*)(y + 2 * l) = result(W, FL_AT(W, x + 2 * l, 0), f, t);                       \
            }                                                                                                 \
        if (FL_SPREADS_##W(classes)) {                                                                        \
            for (j = 0; j < classes; j++)  /* (W j + i) / classes, of floats, with no number near an integer */ \
                places[j] = __builtin_convertvector(                                                          \
                    (__builtin_convertvector(FL_PLACES_##W, fl_number_##W) + (W * j + 0.5f)) * (1.0f / classes), fl_mask_##W); \
            for (; l + W <= rows; l += W)                                                                     \
                for (j = 0; j < classes; j++) {                                                               \
                    f = FL_SPREAD_##W(FL_AT(W, a + l, 0), places[j]);                                         \
                    t = FL_SPREAD_##W(FL_AT(W, b + l, 0), places[j]);                                         \
                    ((fl_number_##W*)(y + l * classes))[j] = result(W, FL_AT(W, x + l * classes, j), f, t);   \
                }                                                                                             \
        }                                                                                                     \
        for (; l < last; l++) {                                                                               \
            const real* p = x + l * classes;                                                                  \
            real* to = y + l * classes;                                                                       \
            f = a[l] - (fl_number_##W){0}, t = b[l] - (fl_number_##W){0};                                     \
            for (j = 0; j + W <= classes; j += W) *(fl_number_##W*)(to + j) = result(W, FL_AT(W, p + j, 0), f, t); \
            if (j < classes) {                                                                                \
                j = classes > W ? classes - W : 0;                                                            \
                *(fl_number_##W*)(to + j) = result(W, FL_AT(W, p + j, 0), f, t);                              \
            }                                                                                                 \
        }                                                                                                     \
        for (; l < rows; l++)                                                                                 \
            for (j = l * classes; j < (l + 1) * classes; j++)                                                 \
                y[j] = result(W, x[j] - (fl_number_##W){0}, a[l] - (fl_number_##W){0}, b[l] - (fl_number_##W){0})[0]; \
    }                                                                                                         \
    FASTLOSS_APART void name(                                                                                 \
        const real* x, const real* a, const real* b, ptrdiff_t classes, ptrdiff_t rows, real* y               \
    ) {                                                                                                       \
        if (classes == 10) name##_of(x, a, b, 10, rows, y);                                                   \
        else if (classes == 2) name##_of(x, a, b, 2, rows, y);                                                \
        else if (classes == 3) name##_of(x, a, b, 3, rows, y);                                                \
        else name##_of(x, a, b, classes, rows, y);                                                            \
    }
/* x a - b, rounded once where the processor can */
#define FL_FUSED_LESS(W, real)                                                                                \
    FASTLOSS_INLINE fl_number_##W fl_less_##W(fl_number_##W x, fl_number_##W a, fl_number_##W b) {            \
        for (int i = 0; i < W; i++) x[i] = real(x[i], a[i], -b[i]);                                           \
        return x;                                                                                             \
    }
#if defined(__FMA__)
#define fl_less_8(x, a, b) _mm256_fmsub_ps(x, a, b)
#define fl_less_4(x, a, b) _mm256_fmsub_pd(x, a, b)
#elif defined(__aarch64__)
FL_FUSED_LESS(8, fastloss_fmaf)
FL_FUSED_LESS(4, fastloss_fma)
#else
#define fl_less_8(x, a, b) ((x) * (a) - (b))
#define fl_less_4(x, a, b) ((x) * (a) - (b))
#endif
#define fl_less_16(x, a, b) _mm512_fmsub_ps(x, a, b)
#define FL_LESS(W, x, a, b) fl_less_##W(x, a, b)
#define FL_PRODUCT(W, q, factor, least) (FL_UNLESS_LESS(W, q, least, q) * (factor))
#define FL_PRODUCT_16(W, q, factor, least) (FL_IF_LESS(ps, q, least, (fl_ps){0}, q) * (factor))
#define FL_ROWS(real, W)                                                                                      \
    FL_ROWS_JOIN(fastloss_rows_##real##_sums, real, W, 1, 1, 0, FL_ITSELF, FL_SUM)                            \
    FL_ROWS_ALONE(fastloss_rows_##real##_sums, real)                                                          \
    FL_ROWS_JOIN(fastloss_rows_##real##_sums_apart, real, W, 1, 0, 0, FL_APART, FL_SUM)                       \
    FL_ROWS_BESIDE(fastloss_rows_##real##_sums_apart, real)  /* of what x is more than b */                   \
    FL_ROWS_JOIN(fastloss_rows_##real##_tops, real, W, 1, 1, (real)-__builtin_inf(), FL_ITSELF, FL_TOP)       \
    FL_ROWS_ALONE(fastloss_rows_##real##_tops, real)  /* the greatest */                                      \
    FL_ROWS_JOIN(fastloss_rows_##real##_dots, real, W, 1, 0, 0, FL_DOT, FL_SUM)                               \
    FL_ROWS_TWO(fastloss_rows_##real##_dots, real)  /* c times what x is more than b */                       \
    FL_ROWS_APART_FROM_TOP(fastloss_rows_##real##_apart_from_top, real, W)
FL_ROWS(float, 8)
FL_ROWS(double, 4)
/* 0 where x < b, otherwise x a; and x a - b. Their order is none, and a register may hold any W. */
#if defined(__AVX512F__)
FL_ROWS_MAP(fastloss_rows_float_products, float, 16, FL_PRODUCT_16)
FL_ROWS_MAP(fastloss_rows_float_less, float, 16, FL_LESS)
#else
FL_ROWS_MAP(fastloss_rows_float_products, float, 8, FL_PRODUCT)
FL_ROWS_MAP(fastloss_rows_float_less, float, 8, FL_LESS)
#endif
FL_ROWS_MAP(fastloss_rows_double_products, double, 4, FL_PRODUCT)
FL_ROWS_MAP(fastloss_rows_double_less, double, 4, FL_LESS)

#endif
