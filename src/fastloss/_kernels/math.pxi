# Elementary functions that the compiler can vectorise: no calls, no branches, no tables.
#
# a) Every operation is written out. The build forbids contraction (-ffp-contract=off), so a multiply-add
#    is fused exactly where `fma` stands, in vector code and in its scalar remainder alike. That is why
#    AVX2 and AVX-512 give the same bits.
# b) Literals carry the type of the loop: a lone `0.5` would turn a float32 loop into float64 arithmetic.
# c) Comparisons are written so that NaN takes the branch that keeps it.
# d) The bound beside each function is in ulp of the result; tests/test_accuracy.py holds it.

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

ctypedef fused real:
    float
    double

cdef extern from *:
    """
    #if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    #define fastloss_fmaf(a, b, c) __builtin_fmaf(a, b, c)
    #define fastloss_fma(a, b, c) __builtin_fma(a, b, c)
    #else   /* a library call for each element would be far slower than two roundings */
    #define fastloss_fmaf(a, b, c) ((a) * (b) + (c))
    #define fastloss_fma(a, b, c) ((a) * (b) + (c))
    #endif
    """
    float fastloss_fmaf(float, float, float) noexcept nogil
    double fastloss_fma(double, double, double) noexcept nogil

cdef union Bits32:
    float f
    int32_t i

cdef union Bits64:
    double f
    int64_t i


cdef inline real fma(real a, real b, real c) noexcept nogil:
    if real is float:
        return fastloss_fmaf(a, b, c)
    else:
        return fastloss_fma(a, b, c)


cdef inline real absolute(real x) noexcept nogil:
    return -x if x < 0 else x


cdef inline real sum_low(real a, real b, real s) noexcept nogil:
    """What rounding lost in s = a + b (Knuth)."""
    cdef real z = s - a
    return (a - (s - z)) + (b - z)


cdef inline real product_low(real a, real b, real p) noexcept nogil:
    """What rounding lost in p = a b; 0 without fma."""
    return fma(a, b, -p)


cdef inline real expm1_reduced(real r) noexcept nogil:
    """exp(r) - 1 for |r| <= ln(2)/2: r + r^2 q(r), q minimax (0.05 ulp in float32, 0.03 in float64)."""
    cdef real q
    if real is float:
        q = fma(<real>0.001381453825160861, r, <real>0.00836874544620514)
        q = fma(q, r, <real>0.04166838899254799)
        q = fma(q, r, <real>0.1666652113199234)
        q = fma(q, r, <real>0.4999999403953552)
    else:
        q = fma(<real>2.5000021047632982775e-8, r, <real>2.7630306780393872446e-7)
        q = fma(q, r, <real>2.7557586799774599803e-6)
        q = fma(q, r, <real>0.000024801492948052900755)
        q = fma(q, r, <real>0.0001984126950577377448)
        q = fma(q, r, <real>0.0013888888943761593691)
        q = fma(q, r, <real>0.0083333333334949804837)
        q = fma(q, r, <real>0.041666666666529721607)
        q = fma(q, r, <real>0.16666666666666411495)
        q = fma(q, r, <real>0.50000000000000106696)
    return fma(q, r * r, r)


cdef inline real exp_argument(real x, int bias, real* shifted) noexcept nogil:
    """r of x = k ln 2 + r; the low bits of `shifted` are k + bias: with the format's own bias, the exponent of 2^k.

    Adding 1.5 * 2^p (p mantissa bits) rounds to the nearest integer; the high part of ln 2 is short enough
    that k times it is exact, with or without fma.
    """
    cdef real k, r, magic
    if real is float:
        magic = <real>12582912.0 + <real>bias  # 1.5 * 2^23
        shifted[0] = fma(x, <real>1.44269504088896341, magic)
        k = shifted[0] - magic
        r = fma(k, <real>-0.693359375, x)
        return fma(k, <real>2.12194440054690583e-4, r)
    else:
        magic = <real>6755399441055744.0 + <real>bias  # 1.5 * 2^52
        shifted[0] = fma(x, <real>1.44269504088896341, magic)
        k = shifted[0] - magic
        r = fma(k, <real>-6.93147180369123816490e-01, x)
        return fma(k, <real>-1.90821492927058770002e-10, r)


cdef inline real exponent_of(real shifted) noexcept nogil:
    """2^k from the low bits of `shifted`."""
    cdef Bits32 b32
    cdef Bits64 b64
    if real is float:
        b32.f = shifted
        b32.i = <int32_t>(<uint32_t>b32.i << 23)
        return b32.f
    else:
        b64.f = shifted
        b64.i = <int64_t>(<uint64_t>b64.i << 52)
        return b64.f


cdef inline real exp_nonpositive(real x) noexcept nogil:
    """exp(x) for x <= 0, within 1 ulp; 0 where the result is below the smallest normal number."""
    cdef real shifted = 0
    cdef real p, power, least
    if real is float:
        p = expm1_reduced(exp_argument(x, 127, &shifted))
        least = <real>-87.33654
    else:
        p = expm1_reduced(exp_argument(x, 1023, &shifted))
        least = <real>-708.39641853226408
    power = exponent_of(shifted)
    return <real>0 if x < least else fma(p, power, power)


# Terms of a sum are scaled up: a million exponentials, each below the smallest normal number, may sum to one
# that is not. 2^24 in float32, 2^54 in float64.
cdef inline real unscaled(real e) noexcept nogil:
    """exp(x) from exp_scaled(x); 0 below the smallest normal number."""
    if real is float:
        return <real>0 if e < <real>1.9721522630525295e-31 else e * <real>5.9604644775390625e-08
    else:
        return <real>0 if e < <real>4.0083367200179456e-292 else e * <real>5.551115123125783e-17


cdef inline real exp_scaled(real x) noexcept nogil:
    """2^24 exp(x) (float32) or 2^54 exp(x) for x <= 0, within 1 ulp; 0 where that is not a normal number."""
    cdef real shifted = 0
    cdef real p, power, least
    if real is float:
        p = expm1_reduced(exp_argument(x, 127 + 24, &shifted))
        least = <real>-103.97207
    else:
        p = expm1_reduced(exp_argument(x, 1023 + 54, &shifted))
        least = <real>-745.82636617
    power = exponent_of(shifted)
    return <real>0 if x < least else fma(p, power, power)


cdef inline double unscaled_sum(double s, real tag) noexcept nogil:
    """A sum of `exp_scaled` terms of tag's type, unscaled."""
    if real is float:
        return s * 5.9604644775390625e-08
    else:
        return s * 5.551115123125783e-17


cdef inline real exp_pair(real x, real* low) noexcept nogil:
    """exp(x) for x <= 0 as the sum of two numbers, within 0.4 ulp of the first; 0 as in `exp_nonpositive`."""
    cdef real shifted = 0
    cdef real p, y, least, power
    if real is float:
        p = expm1_reduced(exp_argument(x, 127, &shifted))
        least = <real>-87.33654
    else:
        p = expm1_reduced(exp_argument(x, 1023, &shifted))
        least = <real>-708.39641853226408
    power = exponent_of(shifted)
    y = <real>1 + p
    low[0] = <real>0 if x < least else ((<real>1 - y) + p) * power
    return <real>0 if x < least else y * power


cdef inline real exp_parts(real x, real* low, real* power) noexcept nogil:
    """y, low and 2^n with exp(x) = (y + low) 2^n for any x, within 0.4 ulp.

    A factor can be applied to y before the power, which may overflow or underflow where the product does not.
    """
    cdef real shifted = 0
    cdef real p, y
    cdef int32_t k32
    cdef int64_t k64
    cdef Bits32 b32
    cdef Bits64 b64
    if real is float:  # outside this range exp(x) overflows to inf, or vanishes against any factor
        x = <real>89 if x > <real>89 else (<real>-174 if x < <real>-174 else x)
        p = expm1_reduced(exp_argument(x, 127, &shifted))
        y = <real>1 + p
        low[0] = (<real>1 - y) + p
        b32.f = shifted
        k32 = b32.i - <int32_t>0x4B40007F
        b32.i = <int32_t>(<uint32_t>((k32 >> 1) + 127) << 23)
        low[0] *= b32.f
        y = <real>0 if x == <real>-174 else y * b32.f
        b32.i = <int32_t>(<uint32_t>(k32 - (k32 >> 1) + 127) << 23)
        power[0] = b32.f
        return y
    else:
        x = <real>710 if x > <real>710 else (<real>-1416 if x < <real>-1416 else x)
        p = expm1_reduced(exp_argument(x, 1023, &shifted))
        y = <real>1 + p
        low[0] = (<real>1 - y) + p
        b64.f = shifted
        k64 = b64.i - <int64_t>0x43380000000003FF
        b64.i = <int64_t>(<uint64_t>((k64 >> 1) + 1023) << 52)
        low[0] *= b64.f
        y = <real>0 if x == <real>-1416 else y * b64.f
        b64.i = <int64_t>(<uint64_t>(k64 - (k64 >> 1) + 1023) << 52)
        power[0] = b64.f
        return y


cdef inline real log_pair(real u, real c, real exponent, real* low) noexcept nogil:
    """log((u + c) 2^exponent) for normal u > 0 and |c| <= ulp(u), as a sum within 0.3 ulp of the first number.

    u = 2^k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2); log(1 + f) by Moshier's polynomial in float32 and by Sun's
    series in f / (2 + f) in float64. u = inf and NaN pass through.
    """
    cdef real k, f, s, z, r, rest, scale, m, hi, product
    cdef int32_t k32
    cdef int64_t k64
    cdef Bits32 b32
    cdef Bits64 b64
    if real is float:
        b32.f = u
        k32 = (b32.i - <int32_t>0x3F3504F3) >> 23
        b32.i -= <int32_t>(<uint32_t>k32 << 23)
        m = b32.f - <real>1
        b32.i = <int32_t>(<uint32_t>(127 - k32) << 23)
        k = <real>k32 + exponent
        f = fma(c, b32.f, m)
        rest = fma(c, b32.f, m - f)
        z = f * f
        r = fma(f, <real>7.0376836292e-2, <real>-1.1514610310e-1)
        r = fma(r, f, <real>1.1676998740e-1)
        r = fma(r, f, <real>-1.2420140846e-1)
        r = fma(r, f, <real>1.4249322787e-1)
        r = fma(r, f, <real>-1.6668057665e-1)
        r = fma(r, f, <real>2.0000714765e-1)
        r = fma(r, f, <real>-2.4999993993e-1)
        r = fma(r, f, <real>3.3333331174e-1)
        rest = fma(r, f * z, fma(<real>-0.5, z, rest))
        rest = fma(k, <real>9.0580006145e-06, rest)
        product = k * <real>6.9313812256e-01  # exact: 17 bits by 8
    else:
        b64.f = u
        k64 = (b64.i - <int64_t>0x3FE6A09E667F3BCD) >> 52
        b64.i -= <int64_t>(<uint64_t>k64 << 52)
        m = b64.f - <real>1
        b64.i = <int64_t>(<uint64_t>(1023 - k64) << 52)
        k = <real>k64 + exponent
        f = fma(c, b64.f, m)
        rest = fma(c, b64.f, m - f)
        s = f / (<real>2 + f)
        z = s * s
        r = fma(z, <real>1.479819860511658591e-01, <real>1.531383769920937332e-01)
        r = fma(z, r, <real>1.818357216161805012e-01)
        r = fma(z, r, <real>2.222219843214978396e-01)
        r = fma(z, r, <real>2.857142874366239149e-01)
        r = fma(z, r, <real>3.999999999940941908e-01)
        r = z * fma(z, r, <real>6.666666666666735130e-01)
        z = <real>0.5 * f * f
        rest = fma(s, z + r, rest) - z
        rest = fma(k, <real>1.90821492927058770002e-10, rest)
        product = k * <real>6.93147180369123816490e-01
    hi = product + f
    rest += f - (hi - product)
    low[0] = rest if u < <real>INFINITY else <real>0
    return hi if u < <real>INFINITY else u


cdef inline real log1p_nonnegative(real x) noexcept nogil:
    """log(1 + x) for x >= 0, within 1 ulp."""
    cdef real u = <real>1 + x
    cdef real c = x - (u - <real>1) if x < <real>1 else <real>1 - (u - x)
    cdef real low = 0
    cdef real y = log_pair(u, c, <real>0, &low)
    return y + low


cdef inline real log_any(real x, real* low) noexcept nogil:
    """log(x) as a sum within 0.3 ulp of the first number, subnormal x included; -inf at 0, NaN below."""
    cdef real tiny, scaled, exponent, y
    if real is float:
        tiny = <real>1.17549435e-38
        scaled = x * <real>33554432.0  # 2^25
        exponent = <real>-25 if x < tiny else <real>0
    else:
        tiny = <real>2.2250738585072014e-308
        scaled = x * <real>18014398509481984.0  # 2^54
        exponent = <real>-54 if x < tiny else <real>0
    y = log_pair(scaled if x < tiny else x, <real>0, exponent, low)
    low[0] = low[0] if x > <real>0 else <real>0
    y = y if x > <real>0 else <real>-INFINITY
    return y if x >= <real>0 else <real>NAN


cdef inline real log1m(real x, real* low) noexcept nogil:
    """log(1 - x) for 0 <= x <= 1, as a sum within 0.3 ulp of the first number; -inf at 1."""
    cdef real u = <real>1 - x
    cdef real y = log_pair(u, (<real>1 - u) - x, <real>0, low)
    low[0] = low[0] if u != <real>0 else <real>0
    return y if u != <real>0 else <real>-INFINITY


cdef inline double joined(double total, double low) noexcept nogil:
    """total + low; an infinite total has lost no bits, whatever stands in `low`."""
    return total + low if total - total == 0 else total


cdef inline void two_sum(double x, double* total, double* low) noexcept nogil:
    """Add x to the unevaluated sum total + low without losing a bit (Knuth)."""
    cdef double t = total[0] + x
    cdef double z = t - total[0]
    low[0] += (total[0] - (t - z)) + (x - z)
    total[0] = t
