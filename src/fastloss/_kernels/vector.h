/* What the loops need of C: vector instructions by intrinsics and vector extensions, chosen by the flags of the build.

   Each operation is defined for AVX-512, AVX2, and in plain C or SSE2 for the rest; all give the same bits, but for the
   products and sums that are rounded twice where the processor cannot fuse them. */
#ifndef FASTLOSS_VECTOR_H
#define FASTLOSS_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* A function in a form that the compiler does not see through. Everything that a module defines would be inlined into
   its caller: rare code and the loops of one loss are called by such a pointer, and keep the registers to themselves. */
static inline void* fastloss_out_of_line(void* function) {
    __asm__("" : "+r"(function));
    return function;
}

/* ---- Products and sums that are rounded once ---- */

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define fastloss_fused 1
#define fastloss_fmaf(a, b, c) __builtin_fmaf(a, b, c)
#define fastloss_fma(a, b, c) __builtin_fma(a, b, c)
#else   /* a library call for each element would be far slower than two roundings */
#define fastloss_fused 0
#define fastloss_fmaf(a, b, c) ((a) * (b) + (c))
#define fastloss_fma(a, b, c) ((a) * (b) + (c))
#endif
#define fastloss_absf __builtin_fabsf
#define fastloss_abs __builtin_fabs
#include <float.h>
#define fastloss_huge_unit (LDBL_MAX_EXP > 1024 ? 0x1p1100L : 0x1p64L)

/* ---- Steps: 64 bytes of numbers side by side ---- */

/* One step of a loop is 16 numbers of float32 (f16) or 8 of float64 (d8), in one register of AVX-512, two of AVX2, four of
   SSE2 and NEON. What is done to a step is done to each of its registers: the bits are those of any width. */
#if defined(__AVX512F__)
#define FASTLOSS_BYTES 64
#elif defined(__AVX2__)
#define FASTLOSS_BYTES 32
#else
#define FASTLOSS_BYTES 16
#endif
#define FASTLOSS_INLINE static inline __attribute__((always_inline))
#define FASTLOSS_REGISTERS (64 / FASTLOSS_BYTES)
#define FASTLOSS_EACH for (int i = 0; i < FASTLOSS_REGISTERS; i++)
#define FASTLOSS_REGISTER(type, name, align)                                                                  \
    typedef type name __attribute__((vector_size(FASTLOSS_BYTES), aligned(align), may_alias));
FASTLOSS_REGISTER(float, fastloss_f, FASTLOSS_BYTES)
FASTLOSS_REGISTER(double, fastloss_d, FASTLOSS_BYTES)
FASTLOSS_REGISTER(int32_t, fastloss_i32, FASTLOSS_BYTES)
FASTLOSS_REGISTER(int64_t, fastloss_i64, FASTLOSS_BYTES)
FASTLOSS_REGISTER(uint32_t, fastloss_u32, FASTLOSS_BYTES)
FASTLOSS_REGISTER(uint64_t, fastloss_u64, FASTLOSS_BYTES)
FASTLOSS_REGISTER(float, fastloss_f_in_memory, 4)
FASTLOSS_REGISTER(double, fastloss_d_in_memory, 8)
typedef struct { fastloss_f r[FASTLOSS_REGISTERS]; } f16;
typedef struct { fastloss_d r[FASTLOSS_REGISTERS]; } d8;

/* The operations of one register that vary. max and min are b where either is NaN; IF_NEGATIVE looks at the sign bit. */
#if defined(__AVX512F__)
#define FASTLOSS_FMA_f(a, b, c) (fastloss_f)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c))
#define FASTLOSS_FMA_d(a, b, c) (fastloss_d)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c))
#define FASTLOSS_MAX_f(a, b) (fastloss_f)_mm512_max_ps((__m512)(a), (__m512)(b))
#define FASTLOSS_MAX_d(a, b) (fastloss_d)_mm512_max_pd((__m512d)(a), (__m512d)(b))
#define FASTLOSS_MIN_f(a, b) (fastloss_f)_mm512_min_ps((__m512)(a), (__m512)(b))
#define FASTLOSS_MIN_d(a, b) (fastloss_d)_mm512_min_pd((__m512d)(a), (__m512d)(b))
#define FASTLOSS_IF_NEGATIVE_f(s, a, b)                                                                       \
    (fastloss_f)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)(s)), (__m512)(b), (__m512)(a))
#define FASTLOSS_IF_NEGATIVE_d(s, a, b)                                                                       \
    (fastloss_d)_mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)(s)), (__m512d)(b), (__m512d)(a))
#define FASTLOSS_IF_f(op, a, b, c, d)                                                                         \
    (fastloss_f)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)(a), (__m512)(b), op), (__m512)(d), (__m512)(c))
#define FASTLOSS_IF_d(op, a, b, c, d)                                                                         \
    (fastloss_d)_mm512_mask_blend_pd(_mm512_cmp_pd_mask((__m512d)(a), (__m512d)(b), op), (__m512d)(d), (__m512d)(c))
#define FASTLOSS_IF_LESS_f(a, b, c, d) FASTLOSS_IF_f(_CMP_LT_OQ, a, b, c, d)
#define FASTLOSS_IF_LESS_d(a, b, c, d) FASTLOSS_IF_d(_CMP_LT_OQ, a, b, c, d)
#define FASTLOSS_IF_EQUAL_f(a, b, c, d) FASTLOSS_IF_f(_CMP_EQ_OQ, a, b, c, d)
#define FASTLOSS_IF_EQUAL_d(a, b, c, d) FASTLOSS_IF_d(_CMP_EQ_OQ, a, b, c, d)
#define FASTLOSS_FLOAT_OF(k) (fastloss_f)_mm512_cvtepi32_ps((__m512i)(k))
#elif defined(__AVX2__)
#define FASTLOSS_FMA_f(a, b, c) (fastloss_f)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#define FASTLOSS_FMA_d(a, b, c) (fastloss_d)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c))
#define FASTLOSS_MAX_f(a, b) (fastloss_f)_mm256_max_ps((__m256)(a), (__m256)(b))
#define FASTLOSS_MAX_d(a, b) (fastloss_d)_mm256_max_pd((__m256d)(a), (__m256d)(b))
#define FASTLOSS_MIN_f(a, b) (fastloss_f)_mm256_min_ps((__m256)(a), (__m256)(b))
#define FASTLOSS_MIN_d(a, b) (fastloss_d)_mm256_min_pd((__m256d)(a), (__m256d)(b))
#define FASTLOSS_IF_NEGATIVE_f(s, a, b) (fastloss_f)_mm256_blendv_ps((__m256)(b), (__m256)(a), (__m256)(s))
#define FASTLOSS_IF_NEGATIVE_d(s, a, b) (fastloss_d)_mm256_blendv_pd((__m256d)(b), (__m256d)(a), (__m256d)(s))
#define FASTLOSS_FLOAT_OF(k) (fastloss_f)_mm256_cvtepi32_ps((__m256i)(k))
#else
#define FASTLOSS_PICK(type, m, a, b) (fastloss_##type)(((m) & (fastloss_i##type)(a)) | (~(m) & (fastloss_i##type)(b)))
#define fastloss_32 fastloss_f
#define fastloss_64 fastloss_d
#if defined(__aarch64__)
#include <arm_neon.h>
#define FASTLOSS_FMA_f(a, b, c) (fastloss_f)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b))
#define FASTLOSS_FMA_d(a, b, c) (fastloss_d)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b))
#else
#define FASTLOSS_FMA_f(a, b, c) ((a) * (b) + (c))
#define FASTLOSS_FMA_d(a, b, c) ((a) * (b) + (c))
#endif
#define FASTLOSS_MAX_f(a, b) FASTLOSS_PICK(32, (a) > (b), a, b)
#define FASTLOSS_MAX_d(a, b) FASTLOSS_PICK(64, (a) > (b), a, b)
#define FASTLOSS_MIN_f(a, b) FASTLOSS_PICK(32, (a) < (b), a, b)
#define FASTLOSS_MIN_d(a, b) FASTLOSS_PICK(64, (a) < (b), a, b)
#define FASTLOSS_IF_NEGATIVE_f(s, a, b) FASTLOSS_PICK(32, (fastloss_i32)(s) >> 31, a, b)
#define FASTLOSS_IF_NEGATIVE_d(s, a, b) FASTLOSS_PICK(64, (fastloss_i64)(s) >> 63, a, b)
#define FASTLOSS_IF_LESS_f(a, b, c, d) FASTLOSS_PICK(32, (a) < (b), c, d)
#define FASTLOSS_IF_LESS_d(a, b, c, d) FASTLOSS_PICK(64, (a) < (b), c, d)
#define FASTLOSS_IF_EQUAL_f(a, b, c, d) FASTLOSS_PICK(32, (a) == (b), c, d)
#define FASTLOSS_IF_EQUAL_d(a, b, c, d) FASTLOSS_PICK(64, (a) == (b), c, d)
#define FASTLOSS_FLOAT_OF(k) __builtin_convertvector(k, fastloss_f)
#endif
#if defined(__AVX2__) && !defined(__AVX512F__)
#define FASTLOSS_IF_LESS_f(a, b, c, d) FASTLOSS_IF_NEGATIVE_f((a) < (b), c, d)
#define FASTLOSS_IF_LESS_d(a, b, c, d) FASTLOSS_IF_NEGATIVE_d((a) < (b), c, d)
#define FASTLOSS_IF_EQUAL_f(a, b, c, d) FASTLOSS_IF_NEGATIVE_f((a) == (b), c, d)
#define FASTLOSS_IF_EQUAL_d(a, b, c, d) FASTLOSS_IF_NEGATIVE_d((a) == (b), c, d)
#endif

#define FASTLOSS_UNARY(vec, name, expression)                                                                 \
    FASTLOSS_INLINE vec vec##_##name(vec a) { FASTLOSS_EACH a.r[i] = expression(a.r[i]); return a; }
#define FASTLOSS_BINARY(vec, name, expression)                                                                \
    FASTLOSS_INLINE vec vec##_##name(vec a, vec b) {                                                          \
        FASTLOSS_EACH a.r[i] = expression(a.r[i], b.r[i]);                                                    \
        return a;                                                                                             \
    }
#define FASTLOSS_TERNARY(vec, name, expression)                                                               \
    FASTLOSS_INLINE vec vec##_##name(vec a, vec b, vec c) {                                                   \
        FASTLOSS_EACH a.r[i] = expression(a.r[i], b.r[i], c.r[i]);                                            \
        return a;                                                                                             \
    }
#define FASTLOSS_QUATERNARY(vec, name, expression)                                                            \
    FASTLOSS_INLINE vec vec##_##name(vec a, vec b, vec c, vec d) {                                            \
        FASTLOSS_EACH a.r[i] = expression(a.r[i], b.r[i], c.r[i], d.r[i]);                                    \
        return a;                                                                                             \
    }
#define FASTLOSS_ADD(a, b) ((a) + (b))
#define FASTLOSS_SUB(a, b) ((a) - (b))
#define FASTLOSS_MUL(a, b) ((a) * (b))
#define FASTLOSS_DIV(a, b) ((a) / (b))
#define FASTLOSS_NEGATIVE_f(a) ((fastloss_f)((fastloss_u32)(a) ^ 0x80000000u))
#define FASTLOSS_NEGATIVE_d(a) ((fastloss_d)((fastloss_u64)(a) ^ 0x8000000000000000u))
#define FASTLOSS_ABSOLUTE_f(a) ((fastloss_f)((fastloss_u32)(a) & 0x7fffffffu))
#define FASTLOSS_ABSOLUTE_d(a) ((fastloss_d)((fastloss_u64)(a) & 0x7fffffffffffffffu))
#define FASTLOSS_MINUS_ABSOLUTE_f(a) ((fastloss_f)((fastloss_u32)(a) | 0x80000000u))
#define FASTLOSS_MINUS_ABSOLUTE_d(a) ((fastloss_d)((fastloss_u64)(a) | 0x8000000000000000u))
#define FASTLOSS_POWER_f(a) ((fastloss_f)((fastloss_u32)(a) << 23))
#define FASTLOSS_POWER_d(a) ((fastloss_d)((fastloss_u64)(a) << 52))
#define FASTLOSS_BOTH_f(a, b) ((fastloss_f)((fastloss_u32)(a) | (fastloss_u32)(b)))
#define FASTLOSS_BOTH_d(a, b) ((fastloss_d)((fastloss_u64)(a) | (fastloss_u64)(b)))
#define FASTLOSS_STEP(vec, real, s)                                                                           \
    FASTLOSS_INLINE vec vec##_load(const real* p) {                                                           \
        vec a;                                                                                                \
        FASTLOSS_EACH a.r[i] = ((const fastloss_##s##_in_memory*)p)[i];                                       \
        return a;                                                                                             \
    }                                                                                                         \
    FASTLOSS_INLINE void vec##_store(vec a, real* p) {                                                        \
        FASTLOSS_EACH ((fastloss_##s##_in_memory*)p)[i] = a.r[i];                                             \
    }                                                                                                         \
    FASTLOSS_INLINE vec vec##_all(real x) { vec a; FASTLOSS_EACH a.r[i] = x - (fastloss_##s){0}; return a; }  \
    FASTLOSS_BINARY(vec, add, FASTLOSS_ADD)                                                                   \
    FASTLOSS_BINARY(vec, sub, FASTLOSS_SUB)                                                                   \
    FASTLOSS_BINARY(vec, mul, FASTLOSS_MUL)                                                                   \
    FASTLOSS_BINARY(vec, div, FASTLOSS_DIV)                                                                   \
    FASTLOSS_BINARY(vec, max, FASTLOSS_MAX_##s)                                                               \
    FASTLOSS_BINARY(vec, min, FASTLOSS_MIN_##s)                                                               \
    FASTLOSS_TERNARY(vec, fma, FASTLOSS_FMA_##s)                                                              \
    FASTLOSS_TERNARY(vec, if_negative, FASTLOSS_IF_NEGATIVE_##s)                                              \
    FASTLOSS_QUATERNARY(vec, if_less, FASTLOSS_IF_LESS_##s)                                                   \
    FASTLOSS_QUATERNARY(vec, if_equal, FASTLOSS_IF_EQUAL_##s)                                                 \
    FASTLOSS_UNARY(vec, negative, FASTLOSS_NEGATIVE_##s)                                                      \
    FASTLOSS_UNARY(vec, absolute, FASTLOSS_ABSOLUTE_##s)                                                      \
    FASTLOSS_UNARY(vec, minus_absolute, FASTLOSS_MINUS_ABSOLUTE_##s)                                          \
    FASTLOSS_UNARY(vec, power, FASTLOSS_POWER_##s)                                                            \
    FASTLOSS_BINARY(vec, either, FASTLOSS_BOTH_##s)
FASTLOSS_STEP(f16, float, f)
FASTLOSS_STEP(d8, double, d)

/* The first n < 16 (8) numbers of a step and, of a load, `fill` for the others; no other memory is touched. A store goes by
   powers of two: a load of what is behind it would wait for a masked store. */
#define FASTLOSS_STORE_PART(vec, real, size)                                                                  \
    FASTLOSS_INLINE void vec##_store_part(vec a, real* p, int n) {                                            \
        real all[size];                                                                                       \
        const real* from = all;                                                                               \
        vec##_store(a, all);                                                                                  \
        if (size > 8 && n & 8) { memcpy(p, from, 8 * sizeof(real)); p += 8; from += 8; }                      \
        if (n & 4) { memcpy(p, from, 4 * sizeof(real)); p += 4; from += 4; }                                  \
        if (n & 2) { memcpy(p, from, 2 * sizeof(real)); p += 2; from += 2; }                                  \
        if (n & 1) *p = *from;                                                                                \
    }
FASTLOSS_STORE_PART(f16, float, 16)
FASTLOSS_STORE_PART(d8, double, 8)
#if defined(__AVX512F__)
FASTLOSS_INLINE f16 f16_load_part(const float* p, int n, float fill) {
    f16 a = {{(fastloss_f)_mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)((1u << n) - 1), p)}};
    return a;
}
FASTLOSS_INLINE d8 d8_load_part(const double* p, int n, double fill) {
    d8 a = {{(fastloss_d)_mm512_mask_loadu_pd(_mm512_set1_pd(fill), (__mmask8)((1u << n) - 1), p)}};
    return a;
}
#elif defined(__AVX2__)
static const int32_t fastloss_within[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
#define FASTLOSS_FIRST(n, i) _mm256_loadu_si256((const __m256i*)(fastloss_within + 16 - (n) + 8 * (i)))
FASTLOSS_INLINE f16 f16_load_part(const float* p, int n, float fill) {
    f16 a;
    FASTLOSS_EACH {
        __m256i within = FASTLOSS_FIRST(n, i);
        a.r[i] = (fastloss_f)_mm256_blendv_ps(
            _mm256_set1_ps(fill), _mm256_maskload_ps(p + 8 * i, within), _mm256_castsi256_ps(within));
    }
    return a;
}
FASTLOSS_INLINE d8 d8_load_part(const double* p, int n, double fill) {
    d8 a;
    FASTLOSS_EACH {
        __m256i within = FASTLOSS_FIRST(2 * n, i);
        a.r[i] = (fastloss_d)_mm256_blendv_pd(
            _mm256_set1_pd(fill), _mm256_maskload_pd(p + 4 * i, within), _mm256_castsi256_pd(within));
    }
    return a;
}
#else
#define FASTLOSS_LOAD_PART(vec, real, size)                                                                   \
    FASTLOSS_INLINE vec vec##_load_part(const real* p, int n, real fill) {                                    \
        real all[size];                                                                                       \
        for (int k = 0; k < size; k++) all[k] = k < n ? p[k] : fill;                                          \
        return vec##_load(all);                                                                               \
    }
FASTLOSS_LOAD_PART(f16, float, 16)
FASTLOSS_LOAD_PART(d8, double, 8)
#endif

/* Whether a step has a number that is not 0 */
#if defined(__AVX512F__)
FASTLOSS_INLINE int f16_any(f16 a) { return _mm512_cmp_ps_mask((__m512)a.r[0], _mm512_setzero_ps(), _CMP_NEQ_UQ) != 0; }
FASTLOSS_INLINE int d8_any(d8 a) { return _mm512_cmp_pd_mask((__m512d)a.r[0], _mm512_setzero_pd(), _CMP_NEQ_UQ) != 0; }
#else
FASTLOSS_INLINE int fastloss_any(fastloss_i64 a) {
    for (size_t i = 1; i < FASTLOSS_BYTES / 8; i++) a[0] |= a[i];
    return a[0] != 0;
}
FASTLOSS_INLINE int f16_any(f16 a) {
    fastloss_i32 found = a.r[0] != 0;
    for (int i = 1; i < FASTLOSS_REGISTERS; i++) found |= a.r[i] != 0;
    return fastloss_any((fastloss_i64)found);
}
FASTLOSS_INLINE int d8_any(d8 a) {
    fastloss_i64 found = a.r[0] != 0;
    for (int i = 1; i < FASTLOSS_REGISTERS; i++) found |= a.r[i] != 0;
    return fastloss_any(found);
}
#endif

/* 2^-k, with sqrt(1/2) <= u 2^-k < sqrt(2), of normal numbers u > 0 */
FASTLOSS_INLINE f16 f16_inverse_power(f16 u, f16* k) {
    FASTLOSS_EACH {
        fastloss_i32 e = ((fastloss_i32)u.r[i] - 0x3F3504F3) & (int32_t)0xFF800000;
        k->r[i] = FASTLOSS_FLOAT_OF(e >> 23);
        u.r[i] = (fastloss_f)(0x3F800000 - e);
    }
    return u;
}
FASTLOSS_INLINE d8 d8_inverse_power(d8 u, d8* k) {
    FASTLOSS_EACH { /* (k + 1024) 2^52, for AVX2 neither shifts signed 64-bit integers nor makes them float64 */
        fastloss_u64 e = (fastloss_u64)u.r[i] + 0x00195F619980C433u;
        k->r[i] = (fastloss_d)((e >> 52) | 0x4330000000000000u) - 4503599627371520.0;
        u.r[i] = (fastloss_d)(0x7FF0000000000000u - (e & 0xFFF0000000000000u));
    }
    return u;
}

/* FASTLOSS_EXP_FACTOR 2^(i/8) 2^k for the number 8 k + i in the low bits of a. The factor makes all eight entries, each less
   its own i/8 as an exponent, nearly representable (0.04 ulp); it cancels where exponentials are divided. */
#if defined(__AVX2__) || defined(__aarch64__)
#define fastloss_exp_table 1
#define FASTLOSS_EXP_FACTOR 1.5382611751556396
#define FASTLOSS_EIGHTH(y, i) (y - ((i) << 20))
#define FASTLOSS_EIGHTHS                                                                                      \
    FASTLOSS_EIGHTH(0x3FC4E5BE, 0), FASTLOSS_EIGHTH(0x3FD6B7DA, 1), FASTLOSS_EIGHTH(0x3FEA26DE, 2),            \
    FASTLOSS_EIGHTH(0x3FFF5829, 3), FASTLOSS_EIGHTH(0x400B3A3E, 4), FASTLOSS_EIGHTH(0x4017D424, 5),            \
    FASTLOSS_EIGHTH(0x40259202, 6), FASTLOSS_EIGHTH(0x40348E45, 7)
static const int32_t fastloss_eighths[16] __attribute__((aligned(64))) = {FASTLOSS_EIGHTHS, FASTLOSS_EIGHTHS};
FASTLOSS_INLINE f16 f16_power_of_eighths(f16 a) {
    FASTLOSS_EACH {
        fastloss_i32 entry;
#if defined(__AVX512F__)
        entry = (fastloss_i32)_mm512_permutexvar_epi32((__m512i)a.r[i], _mm512_load_si512(fastloss_eighths));
#elif defined(__AVX2__)
        entry = (fastloss_i32)_mm256_permutevar8x32_epi32(
            _mm256_load_si256((const __m256i*)fastloss_eighths), (__m256i)a.r[i]);
#else
        uint8x16x2_t table = {{vld1q_u8((const uint8_t*)fastloss_eighths), vld1q_u8((const uint8_t*)(fastloss_eighths + 4))}};
        uint32x4_t place = vandq_u32((uint32x4_t)a.r[i], vdupq_n_u32(7));
        place = vmlaq_n_u32(vdupq_n_u32(0x03020100), place, 0x04040404);
        entry = (fastloss_i32)vqtbl2q_u8(table, vreinterpretq_u8_u32(place));
#endif
        a.r[i] = (fastloss_f)(entry + (fastloss_i32)((fastloss_u32)a.r[i] << 20));
    }
    return a;
}
#else
#define fastloss_exp_table 0
#define FASTLOSS_EXP_FACTOR 1.0
#define f16_power_of_eighths(a) (a)
#endif

/* Half a step in float64: the first 8 numbers or, if `second`, the last. */
FASTLOSS_INLINE d8 d8_of_half(f16 a, int second) {
    d8 y;
#if defined(__AVX512F__)
    __m512 r = (__m512)a.r[0];
    y.r[0] = (fastloss_d)_mm512_cvtps_pd(second ? _mm512_extractf32x8_ps(r, 1) : _mm512_castps512_ps256(r));
#elif defined(__AVX2__)
    __m256 r = (__m256)(second ? a.r[1] : a.r[0]);
    y.r[0] = (fastloss_d)_mm256_cvtps_pd(_mm256_castps256_ps128(r));
    y.r[1] = (fastloss_d)_mm256_cvtps_pd(_mm256_extractf128_ps(r, 1));
#else
    float all[16];
    double wide[8];
    memcpy(all, &a, sizeof all);
    for (int k = 0; k < 8; k++) wide[k] = all[8 * second + k];
    memcpy(&y, wide, sizeof y);
#endif
    return y;
}
/* The greatest of a step's numbers, and of float64 their sum, by halves. */
#if defined(__AVX2__)
#if defined(__AVX512F__)
#define FASTLOSS_HALVES_f(op, a) op(_mm512_castps512_ps256((__m512)a.r[0]), _mm512_extractf32x8_ps((__m512)a.r[0], 1))
#define FASTLOSS_HALVES_d(op, a) op(_mm512_castpd512_pd256((__m512d)a.r[0]), _mm512_extractf64x4_pd((__m512d)a.r[0], 1))
#else
#define FASTLOSS_HALVES_f(op, a) op((__m256)a.r[0], (__m256)a.r[1])
#define FASTLOSS_HALVES_d(op, a) op((__m256d)a.r[0], (__m256d)a.r[1])
#endif
FASTLOSS_INLINE double f16_greatest(f16 a) {
    __m256 y = FASTLOSS_HALVES_f(_mm256_max_ps, a);
    __m128 z = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_max_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_max_ss(z, _mm_movehdup_ps(z)));
}
#define FASTLOSS_QUARTERS(op, y) op(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1))
FASTLOSS_INLINE double d8_greatest(d8 a) {
    __m256d y = FASTLOSS_HALVES_d(_mm256_max_pd, a);
    __m128d z = FASTLOSS_QUARTERS(_mm_max_pd, y);
    return _mm_cvtsd_f64(_mm_max_sd(z, _mm_unpackhi_pd(z, z)));
}
FASTLOSS_INLINE double d8_sum(d8 a) {
    __m256d y = FASTLOSS_HALVES_d(_mm256_add_pd, a);
    __m128d z = FASTLOSS_QUARTERS(_mm_add_pd, y);
    return _mm_cvtsd_f64(_mm_add_sd(z, _mm_unpackhi_pd(z, z)));
}
#else
#define FASTLOSS_GREATEST(vec, real)                                                                          \
    FASTLOSS_INLINE double vec##_greatest(vec a) {                                                            \
        real all[64 / sizeof(real)];                                                                          \
        memcpy(all, &a, sizeof a);                                                                            \
        for (int i = 32 / sizeof(real); i > 0; i /= 2)                                                        \
            for (int k = 0; k < i; k++) all[k] = all[k + i] > all[k] ? all[k + i] : all[k];                   \
        return all[0];                                                                                        \
    }
FASTLOSS_GREATEST(f16, float)
FASTLOSS_GREATEST(d8, double)
FASTLOSS_INLINE double d8_sum(d8 a) {
    double all[8];
    memcpy(all, &a, sizeof a);
    return ((all[0] + all[4]) + (all[2] + all[6])) + ((all[1] + all[5]) + (all[3] + all[7]));
}
#endif
static const float fastloss_places_f[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const double fastloss_places_d[8] = {0, 1, 2, 3, 4, 5, 6, 7};
FASTLOSS_INLINE f16 f16_places(void) { return f16_load(fastloss_places_f); }
FASTLOSS_INLINE d8 d8_places(void) { return d8_load(fastloss_places_d); }

FASTLOSS_INLINE double f16_first(f16 a) { return a.r[0][0]; }
FASTLOSS_INLINE double d8_first(d8 a) { return a.r[0][0]; }

/* Eight numbers of float32 in float64. */
FASTLOSS_INLINE d8 d8_of_floats(const float* p) {
    d8 y;
#if defined(__AVX512F__)
    y.r[0] = (fastloss_d)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(__AVX2__)
    FASTLOSS_EACH y.r[i] = (fastloss_d)_mm256_cvtps_pd(_mm_loadu_ps(p + 4 * i));
#else
    double wide[8];
    for (int k = 0; k < 8; k++) wide[k] = p[k];
    memcpy(&y, wide, sizeof y);
#endif
    return y;
}
/* The halves, added in float32, in float64. */
FASTLOSS_INLINE d8 d8_of_halves(f16 a) {
#if defined(__AVX512F__)
    __m512 r = (__m512)a.r[0];
    d8 y = {{(fastloss_d)_mm512_cvtps_pd(_mm256_add_ps(_mm512_castps512_ps256(r), _mm512_extractf32x8_ps(r, 1)))}};
    return y;
#else
    for (int i = 0; i < FASTLOSS_REGISTERS / 2; i++) a.r[i] += a.r[i + FASTLOSS_REGISTERS / 2];
    return d8_of_half(a, 0);
#endif
}

/* ---- Memory: what comes next, and results that pass the caches ---- */

#define fastloss_prefetch(p) __builtin_prefetch((const void*)(p))
#define fastloss_prefetch_l2(p) __builtin_prefetch((const void*)(p), 0, 2)

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

#if defined(FASTLOSS_STREAM)
#define FASTLOSS_STREAM_STEP(vec, real)                                                                       \
    FASTLOSS_INLINE void vec##_stream(vec a, real* p) { /* p is the begin of a line */                        \
        FASTLOSS_EACH FASTLOSS_STREAM((const char*)&a + FASTLOSS_BYTES * i, (char*)p + FASTLOSS_BYTES * i);   \
    }
#else
#define FASTLOSS_STREAM_STEP(vec, real)                                                                       \
    FASTLOSS_INLINE void vec##_stream(vec a, real* p) { vec##_store(a, p); }
#endif
FASTLOSS_STREAM_STEP(f16, float)
FASTLOSS_STREAM_STEP(d8, double)

/* ---- Half precision: 16 numbers in memory are a step of float32 ---- */

typedef union { float f; uint32_t u; int32_t i; } fastloss_bits;

#if defined(__SSE4_1__)
#if defined(__AVX512F__)
#define FASTLOSS_WIDEN(p, i) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(p)))
#elif defined(__AVX2__)
#define FASTLOSS_WIDEN(p, i) _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)((p) + 8 * (i))))
#else
#define FASTLOSS_WIDEN(p, i) _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i*)((p) + 4 * (i))))
#endif
FASTLOSS_INLINE f16 f16_load_bfloat16(const uint16_t* p) {
    f16 a;
    FASTLOSS_EACH a.r[i] = (fastloss_f)((fastloss_u32)FASTLOSS_WIDEN(p, i) << 16);
    return a;
}
/* integers below 2^16 */
FASTLOSS_INLINE void fastloss_store_halves(const fastloss_u32* a, uint16_t* p) {
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16((__m512i)a[0]));
#elif defined(__AVX2__)
    __m256i all = _mm256_packus_epi32((__m256i)a[0], (__m256i)a[1]);
    _mm256_storeu_si256((__m256i*)p, _mm256_permute4x64_epi64(all, 0xD8));
#else
    for (int i = 0; i < 2; i++)
        _mm_storeu_si128((__m128i*)(p + 8 * i), _mm_packus_epi32((__m128i)a[2 * i], (__m128i)a[2 * i + 1]));
#endif
}
#else
FASTLOSS_INLINE f16 f16_load_bfloat16(const uint16_t* p) {
    float all[16];
    for (int k = 0; k < 16; k++) { fastloss_bits wide = {.u = (uint32_t)p[k] << 16}; all[k] = wide.f; }
    return f16_load(all);
}
FASTLOSS_INLINE void fastloss_store_halves(const fastloss_u32* a, uint16_t* p) {
    uint32_t all[16];
    memcpy(all, a, sizeof all);
    for (int k = 0; k < 16; k++) p[k] = (uint16_t)all[k];
}
#endif
FASTLOSS_INLINE void f16_store_bfloat16(f16 a, uint16_t* p) {
    fastloss_u32 half[FASTLOSS_REGISTERS];
    FASTLOSS_EACH {
        fastloss_u32 u = (fastloss_u32)a.r[i], is_nan = (fastloss_u32)(a.r[i] != a.r[i]);
        half[i] = (((u + 0x7fffu + ((u >> 16) & 1u)) & ~is_nan) | (is_nan & 0x7fc00000u)) >> 16;
    }
    fastloss_store_halves(half, p);
}
#if defined(__F16C__)
FASTLOSS_INLINE f16 f16_load_float16(const uint16_t* p) {
    f16 a;
#if defined(__AVX512F__)
    a.r[0] = (fastloss_f)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__AVX2__)
    FASTLOSS_EACH a.r[i] = (fastloss_f)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8 * i)));
#endif
    return a;
}
FASTLOSS_INLINE void f16_store_float16(f16 a, uint16_t* p) {
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)a.r[0], _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
    FASTLOSS_EACH _mm_storeu_si128((__m128i*)(p + 8 * i), _mm256_cvtps_ph((__m256)a.r[i], _MM_FROUND_TO_NEAREST_INT));
#endif
}
#else   /* in signed integers; a subnormal number is a difference of normal ones */
FASTLOSS_INLINE f16 f16_load_float16(const uint16_t* p) {
    float all[16];
    for (int k = 0; k < 16; k++) {
        int32_t u = (int32_t)(p[k] & 0x7fff) << 13;
        fastloss_bits low = {.i = u + 0x38800000}, wide = {.i = u + 0x38000000};
        low.f -= 6.103515625e-05f;                                /* 2^-14 */
        wide.i = u < 0x00800000 ? low.i : wide.i;
        wide.i = u >= 0x0f800000 ? u + 0x70000000 : wide.i;       /* inf, NaN */
        wide.u |= (uint32_t)(p[k] & 0x8000) << 16;
        all[k] = wide.f;
    }
    return f16_load(all);
}
FASTLOSS_INLINE void f16_store_float16(f16 a, uint16_t* p) {
    float all[16];
    f16_store(a, all);
    for (int k = 0; k < 16; k++) {
        fastloss_bits wide = {.f = all[k]}, low;
        int32_t sign = (wide.i >> 16) & 0x8000, half;
        wide.i &= 0x7fffffff;
        low.f = wide.f + 0.5f;                                    /* to a multiple of 2^-24 */
        half = (wide.i - 0x38000000 + 0xfff + ((wide.i >> 13) & 1)) >> 13;
        half = wide.i < 0x38800000 ? low.i - 0x3f000000 : half;
        half = wide.i >= 0x477ff000 ? 0x7c00 : half;
        half = wide.i > 0x7f800000 ? 0x7e00 : half;
        p[k] = (uint16_t)(half | sign);
    }
}
#endif
/* The first n < 16 numbers of a step, as of float32, and all of an array. */
#define FASTLOSS_HALF_PRECISION(format)                                                                       \
    FASTLOSS_INLINE f16 f16_load_part_##format(const uint16_t* p, int n, float fill) {                        \
        uint16_t half[16] = {0};                                                                              \
        float all[16];                                                                                        \
        for (int k = 0; k < n; k++) half[k] = p[k];                                                           \
        f16_store(f16_load_##format(half), all);                                                              \
        return f16_load_part(all, n, fill);                                                                   \
    }                                                                                                         \
    FASTLOSS_INLINE void f16_store_part_##format(f16 a, uint16_t* p, int n) {                                 \
        uint16_t half[16];                                                                                    \
        f16_store_##format(a, half);                                                                          \
        for (int k = 0; k < n; k++) p[k] = half[k];                                                           \
    }                                                                                                         \
    __attribute__((unused)) static void fastloss_widen_##format(const uint16_t* x, ptrdiff_t n, float* y) {                           \
        ptrdiff_t i = 0;                                                                                      \
        for (; i + 16 <= n; i += 16) {                                                                        \
            fastloss_prefetch(x + i + 2048);                                                                  \
            f16_store(f16_load_##format(x + i), y + i);                                                       \
        }                                                                                                     \
        if (i < n) f16_store_part(f16_load_part_##format(x + i, (int)(n - i), 0), y + i, (int)(n - i));       \
    }                                                                                                         \
    __attribute__((unused)) static void fastloss_narrow_##format(const float* x, ptrdiff_t n, uint16_t* y) {                          \
        ptrdiff_t i = 0;                                                                                      \
        for (; i + 16 <= n; i += 16) f16_store_##format(f16_load(x + i), y + i);                              \
        if (i < n) f16_store_part_##format(f16_load_part(x + i, (int)(n - i), 0), y + i, (int)(n - i));       \
    }
FASTLOSS_HALF_PRECISION(float16)
FASTLOSS_HALF_PRECISION(bfloat16)

/* ---- Horizontal sums ---- */

/* WIDTH numbers to one, as a tree, in halves: of loops as short as these gcc makes scalar code. */
#define FASTLOSS_VECTOR(name, type, n) \
    typedef type name __attribute__((vector_size(n * sizeof(type)), aligned(sizeof(type)), may_alias));
FASTLOSS_VECTOR(fastloss_double2, double, 2)
FASTLOSS_VECTOR(fastloss_double4, double, 4)
FASTLOSS_VECTOR(fastloss_double8, double, 8)
FASTLOSS_VECTOR(fastloss_float4, float, 4)
FASTLOSS_VECTOR(fastloss_float8, float, 8)
FASTLOSS_VECTOR(fastloss_float16, float, 16)
#define FASTLOSS_ADD_HALVES(type, x) (((const type*)&(x))[0] + ((const type*)&(x))[1])
static inline double fastloss_sum_width(const double* x) {
    const fastloss_double8* x8 = (const fastloss_double8*)x;
    fastloss_double8 s8 = (x8[0] + x8[2]) + (x8[1] + x8[3]);
    fastloss_double4 s4 = FASTLOSS_ADD_HALVES(fastloss_double4, s8);
    fastloss_double2 s2 = FASTLOSS_ADD_HALVES(fastloss_double2, s4);
    return s2[0] + s2[1];
}
static inline float fastloss_exact_sum_width(const float* x) {
    const fastloss_float16* x16 = (const fastloss_float16*)x;
    fastloss_float16 s16 = x16[0] + x16[1];
    fastloss_float8 s8 = FASTLOSS_ADD_HALVES(fastloss_float8, s16);
    fastloss_float4 s4 = FASTLOSS_ADD_HALVES(fastloss_float4, s8);
    return (s4[0] + s4[2]) + (s4[1] + s4[3]);
}

/* ---- Transposition and gathering ---- */

/* y[j * y_step + i] = x[i * x_step + j] in registers, for PANEL rows of 4 numbers (split) or 4 rows of PANEL
   numbers (join); gcc makes scatters of the plain loops. Pairs are made within 128 bits, by one instruction. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FASTLOSS_SHUFFLE __builtin_shufflevector
#endif
#endif
#ifdef FASTLOSS_SHUFFLE
#define FASTLOSS_FOUR(p, q, r, s) p, q, r, s
#define FASTLOSS_LOAD(type, x, step) (*(const type*)(x))
#define FASTLOSS_STORE(type, y, step, row) (*(type*)(y) = (row))
#ifdef __AVX__  /* rows i and i + 4 in the halves of a register */
#define FASTLOSS_PANEL 8
typedef fastloss_float8 fastloss_panel;
#define FASTLOSS_IN_HALF(i, half) ((i) + ((i) < 4 ? 0 : 4) + 4 * (half))
#define FASTLOSS_EIGHT(p, q, r, s)                                                                              \
    FASTLOSS_IN_HALF(p, 0), FASTLOSS_IN_HALF(q, 0), FASTLOSS_IN_HALF(r, 0), FASTLOSS_IN_HALF(s, 0),             \
    FASTLOSS_IN_HALF(p, 1), FASTLOSS_IN_HALF(q, 1), FASTLOSS_IN_HALF(r, 1), FASTLOSS_IN_HALF(s, 1)
#define FASTLOSS_WITHIN FASTLOSS_EIGHT
#define FASTLOSS_LOAD_HALVES(type, x, step) FASTLOSS_SHUFFLE(                                                   \
    *(const fastloss_float4*)(x), *(const fastloss_float4*)((x) + 4 * (step)), 0, 1, 2, 3, 4, 5, 6, 7)
#define FASTLOSS_STORE_HALVES(type, y, step, row)                                                               \
    (*(fastloss_float4*)(y) = FASTLOSS_SHUFFLE(row, row, 0, 1, 2, 3),                                           \
     *(fastloss_float4*)((y) + 4 * (step)) = FASTLOSS_SHUFFLE(row, row, 4, 5, 6, 7))
#else
#define FASTLOSS_PANEL 4
typedef fastloss_float4 fastloss_panel;
#define FASTLOSS_WITHIN FASTLOSS_FOUR
#define FASTLOSS_LOAD_HALVES FASTLOSS_LOAD
#define FASTLOSS_STORE_HALVES FASTLOSS_STORE
#endif
#define FASTLOSS_TRANSPOSE_PANEL(name, real, type, load, store, four, p0, p1, p2, p3, q0, q1, q2, q3, u, v)     \
    static inline void name(const real* x, ptrdiff_t x_step, real* y, ptrdiff_t y_step) {                       \
        type a = load(type, x, x_step), b = load(type, x + x_step, x_step);                                     \
        type c = load(type, x + 2 * x_step, x_step), d = load(type, x + 3 * x_step, x_step);                    \
        type ab0 = FASTLOSS_SHUFFLE(a, b, four(p0, p1, p2, p3));                                                \
        type ab1 = FASTLOSS_SHUFFLE(a, b, four(q0, q1, q2, q3));                                                \
        type cd0 = FASTLOSS_SHUFFLE(c, d, four(p0, p1, p2, p3));                                                \
        type cd1 = FASTLOSS_SHUFFLE(c, d, four(q0, q1, q2, q3));                                                \
        type y0 = FASTLOSS_SHUFFLE(ab0, cd0, four(0, 1, 4, 5));                                                 \
        type y1 = FASTLOSS_SHUFFLE(ab0, cd0, four(2, 3, 6, 7));                                                 \
        type y2 = FASTLOSS_SHUFFLE(ab1, cd1, four(0, 1, 4, 5));                                                 \
        type y3 = FASTLOSS_SHUFFLE(ab1, cd1, four(2, 3, 6, 7));                                                 \
        store(type, y, y_step, y0);                                                                             \
        store(type, y + u * y_step, y_step, y1);                                                                \
        store(type, y + v * y_step, y_step, y2);                                                                \
        store(type, y + 3 * y_step, y_step, y3);                                                                \
    }
FASTLOSS_TRANSPOSE_PANEL(fastloss_split_float, float, fastloss_panel, FASTLOSS_LOAD_HALVES, FASTLOSS_STORE,
    FASTLOSS_WITHIN, 0, 4, 1, 5, 2, 6, 3, 7, 1, 2)
FASTLOSS_TRANSPOSE_PANEL(fastloss_join_float, float, fastloss_panel, FASTLOSS_LOAD, FASTLOSS_STORE_HALVES,
    FASTLOSS_WITHIN, 0, 4, 1, 5, 2, 6, 3, 7, 1, 2)
FASTLOSS_TRANSPOSE_PANEL(fastloss_panel_double, double, fastloss_double4, FASTLOSS_LOAD, FASTLOSS_STORE,
    FASTLOSS_FOUR, 0, 4, 2, 6, 1, 5, 3, 7, 2, 1)
#else
#define FASTLOSS_PANEL 4
#define FASTLOSS_TRANSPOSE_PANEL(name, real)                                                                    \
    static inline void name(const real* x, ptrdiff_t x_step, real* y, ptrdiff_t y_step) {                       \
        for (int i = 0; i < 4; i++)                                                                             \
            for (int j = 0; j < 4; j++) y[j * y_step + i] = x[i * x_step + j];                                  \
    }
FASTLOSS_TRANSPOSE_PANEL(fastloss_split_float, float)
FASTLOSS_TRANSPOSE_PANEL(fastloss_join_float, float)
FASTLOSS_TRANSPOSE_PANEL(fastloss_panel_double, double)
#endif
/* what does not fill a panel runs through the last one again */
#define FASTLOSS_TRANSPOSE(name, real, panel, down, across)                                                     \
    __attribute__((noinline)) static void name(                                                                 \
        const real* x, ptrdiff_t x_step, ptrdiff_t rows, ptrdiff_t columns, real* y, ptrdiff_t y_step           \
    ) {                                                                                                         \
        ptrdiff_t i, j, last_i = rows - down, last_j = columns - across;                                        \
        if (last_i < 0 || last_j < 0) {                                                                         \
            for (i = 0; i < rows; i++)                                                                          \
                for (j = 0; j < columns; j++) y[j * y_step + i] = x[i * x_step + j];                            \
            return;                                                                                             \
        }                                                                                                       \
        for (j = 0;; j = j + across < last_j ? j + across : last_j) {                                           \
            for (i = 0;; i = i + down < last_i ? i + down : last_i) {                                           \
                panel(x + i * x_step + j, x_step, y + j * y_step + i, y_step);                                  \
                if (i == last_i) break;                                                                         \
            }                                                                                                   \
            if (j == last_j) break;                                                                             \
        }                                                                                                       \
    }
FASTLOSS_TRANSPOSE(fastloss_samples_to_lanes_float, float, fastloss_split_float, FASTLOSS_PANEL, 4)
FASTLOSS_TRANSPOSE(fastloss_lanes_to_samples_float, float, fastloss_join_float, 4, FASTLOSS_PANEL)
FASTLOSS_TRANSPOSE(fastloss_transpose_double, double, fastloss_panel_double, 4, 4)
/* y[l] = x[label[l] * step + l] */
#define FASTLOSS_GATHER(name, real)                                                                             \
    __attribute__((noinline)) static void name(                                                                 \
        const real* x, ptrdiff_t step, const int64_t* label, int lanes, real* restrict y                        \
    ) {                                                                                                         \
        _Pragma("GCC unroll 8")                                                                                 \
        for (int l = 0; l < lanes; l++) y[l] = x[label[l] * step + l];                                          \
    }
FASTLOSS_GATHER(fastloss_gather_float, float)
FASTLOSS_GATHER(fastloss_gather_double, double)

#endif
