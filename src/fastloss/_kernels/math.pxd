# Elementary functions. Those of steps are without calls, and branch at most on what is the same for all numbers.
#
# a) Every operation is written out. The build forbids contraction (-ffp-contract=off), so a multiply-add
#    is fused exactly where `fma` stands, in vector code and in its scalar remainder alike. That is why
#    AVX2 and AVX-512 give the same bits.
# b) Literals carry the type of the loop: a lone `0.5` would turn a float32 loop into float64 arithmetic.
# c) Comparisons are written so that NaN takes the branch that keeps it.
# d) Polynomials are evaluated in pairs (Estrin): what bounds these loops is not the number of operations but
#    how many of them wait for each other, as many iterations as the processor's queues hold.
# e) The bound beside each function is in ulp of the result, with fma; without it logarithms are up to 0.15 ulp worse.
#    tests/test_accuracy.py holds it, `python -m bench exhaustive` for all float32 numbers.
# f) What leaves the range of the loop's type on its way to a result that does not, such as the square of 1e200 with a
#    weight of 1e-300, is rare: it is computed again one number at a time in `wide_real`, which has more bits and
#    a larger range than float64: wide.h. Whether is decided by the number alone.


from libc.math cimport INFINITY, NAN, fabs, rint
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastloss._kernels.vector cimport *

ctypedef fused real:
    float
    double

cdef extern from "wide.h" nogil:
    ctypedef long double wide_real "fastloss_wide"
    wide_real fastloss_huge_unit
    wide_real expl(wide_real)
    wide_real expm1l(wide_real)
    wide_real fabsl(wide_real)
    wide_real log1pl(wide_real)
    wide_real logl(wide_real)
    wide_real powl(wide_real, wide_real)
    wide_real tanhl(wide_real)

cdef extern from "vector.h" nogil:
    bint fastloss_fused
    float fma "fastloss_fmaf" (float, float, float)

cdef extern double fma "fastloss_fma" (double, double, double) noexcept nogil

cdef union Bits32:
    float f
    int32_t i
    uint32_t u

cdef union Bits64:
    double f
    int64_t i
    uint64_t u


cdef inline real absolute(real x) noexcept nogil:
    return <real>fabs(x)


cdef inline real minus(real a, real b) noexcept nogil:
    """a - b, where the processor multiplies: beside its adders, which is what some loops wait for."""
    return fma(b, <real>-1, a) if fastloss_fused else a - b


cdef inline real sum_low(real a, real b, real s) noexcept nogil:
    """What rounding lost in s = a + b (Knuth)."""
    cdef real z = s - a
    return minus(a, minus(s, z)) + (b - z)


cdef inline real sum_low_added(real a, real b, real s) noexcept nogil:
    """`sum_low` by additions alone, for loops that wait for products."""
    cdef real z = s - a
    return (a - (s - z)) + (b - z)


cdef inline real log_reduced(real f, real rest, real k, real* low) noexcept nogil:
    """log((1 + f + rest) 2^k) with sqrt(1/2) <= 1 + f < sqrt(2), as a sum within 0.36 ulp of the first number.

    log(1 + f) by Moshier's polynomial in float32, and by Sun's series in s = f / (2 + f) in float64.
    """
    cdef real s, z, z2, r, r1, r2, r3, hi, product
    if real is float:
        z = f * f
        z2 = z * z
        r = fma(f, <real>-2.4999993993e-1, <real>3.3333331174e-1)
        r1 = fma(f, <real>-1.6668057665e-1, <real>2.0000714765e-1)
        r2 = fma(f, <real>-1.2420140846e-1, <real>1.4249322787e-1)
        r3 = fma(f, <real>-1.1514610310e-1, <real>1.1676998740e-1)
        r2 = fma(z, r3, fma(z2, <real>7.0376836292e-2, r2))
        r = fma(z2, r2, fma(z, r1, r))
        rest = fma(r, f * z, fma(<real>-0.5, z, rest))
        rest = fma(k, <real>9.0580006145e-06, rest)
        product = k * <real>6.9313812256e-01  # exact: 17 bits by 8
    else:
        s = f / (<real>2 + f)
        z = s * s
        z2 = z * z
        r = fma(z, <real>3.999999999940941908e-01, <real>6.666666666666735130e-01)
        r1 = fma(z, <real>2.222219843214978396e-01, <real>2.857142874366239149e-01)
        r2 = fma(z, <real>1.531383769920937332e-01, <real>1.818357216161805012e-01)
        r2 = fma(z2, <real>1.479819860511658591e-01, r2)
        r = z * fma(z2, fma(z2, r2, r1), r)
        z = <real>0.5 * f * f
        rest = fma(s, z + r, rest) - z
        rest = fma(k, <real>1.90821492927058770002e-10, rest)
        product = k * <real>6.93147180369123816490e-01
    hi = product + f
    low[0] = rest + (f - (hi - product))
    return hi


cdef inline real log_fraction(real u, real* k, real* scale) noexcept nogil:
    """f with u = (1 + f) 2^k, sqrt(1/2) <= 1 + f < sqrt(2), for normal u > 0; scale is 2^-k."""
    cdef int32_t k32
    cdef uint64_t k64, exponent
    cdef Bits32 b32
    cdef Bits64 b64
    if real is float:
        b32.f = u
        k32 = <int32_t>(b32.u - <uint32_t>0x3F3504F3) >> 23
        b32.i -= <int32_t>(<uint32_t>k32 << 23)
        k[0] = <real>k32
        u = b32.f
        b32.i = <int32_t>(<uint32_t>(127 - k32) << 23)
        scale[0] = b32.f
    else:
        # (k + 1024) 2^52, for AVX2 neither shifts signed 64-bit integers nor makes them float64
        b64.f = u
        k64 = b64.u + <uint64_t>0x00195F619980C433
        exponent = k64 & <uint64_t>0xFFF0000000000000
        b64.u -= exponent + <uint64_t>0xC000000000000000
        u = b64.f
        b64.u = (k64 >> 52) | <uint64_t>0x4330000000000000
        k[0] = b64.f - <real>4503599627371520.0  # 2^52 + 1024
        b64.u = <uint64_t>0x7FF0000000000000 - exponent
        scale[0] = b64.f
    return u - <real>1


cdef inline real log_positive(real x, real* low) noexcept nogil:
    """log(x) for finite x > 0, subnormal too, as a sum within 0.36 ulp of the first number; some number at 0."""
    cdef real tiny = <real>(1.17549435e-38 if real is float else 2.2250738585072014e-308), k = 0, scale = 0
    cdef real larger = x * <real>(33554432.0 if real is float else 18014398509481984.0)  # 2^25, 2^54
    cdef real exponent = <real>(-25 if real is float else -54) if x < tiny else <real>0
    x = log_fraction(larger if x < tiny else x, &k, &scale)
    return log_reduced(x, <real>0, k + exponent, low)


cdef inline double log1p_nonnegative(real x) noexcept nogil:
    """log(1 + x) for 0 <= x < 2^127 (2^1023) or inf, within 0.44 ulp of x's type and, for float64, one rounding."""
    cdef real u = <real>1 + x
    cdef real c = x - (u - <real>1) if x < <real>1 else <real>1 - (u - x)
    cdef real k = 0, scale = 0, low = 0
    cdef real m = log_fraction(u, &k, &scale), f = fma(c, scale, m)
    cdef real y = log_reduced(f, fma(c, scale, m - f), k, &low)
    low = low if u < <real>INFINITY else <real>0
    y = y if u < <real>INFINITY else u  # inf and NaN pass
    return <double>y + low


cdef inline real log_any(real x, real* low) noexcept nogil:
    """log(x) as a sum within 0.36 ulp of the first number, subnormal x included; -inf at 0, NaN below."""
    cdef real y = log_positive(x, low)
    cdef bint usual = x > <real>0 and x < <real>INFINITY
    low[0] = low[0] if usual else <real>0
    y = y if usual else (<real>-INFINITY if x == <real>0 else x)
    return y if x >= <real>0 else <real>NAN


cdef inline double log_factorial(double k) noexcept nogil:
    """log Γ(1 + k) for k >= 0, within 4 ulp: from 8 on by Stirling's series, below it by a polynomial around k = 1."""
    cdef double low = 0, product = 1, t, l, r
    if k >= 2.5e305:
        return INFINITY
    if not k < 8:
        r = 1 / (k * k)
        t = fma(r, -0.029550653594771242, 0.00641025641025641)
        t = fma(r, fma(r, t, -0.0019175269175269176), 0.0008417508417508417)
        t = fma(r, fma(r, t, -0.0005952380952380953), 0.0007936507936507937)
        t = fma(r, fma(r, t, -0.002777777777777778), 0.08333333333333333) / k + 0.918938533204672742
        l = log_positive(k, &low)
        r = (k + 0.5) * l
        return (r - k) + (t + fma(k + 0.5, low, fma(k + 0.5, l, -r)))
    while k >= 1.5:  # log Γ(1 + k) = log k + log Γ(k)
        product *= k
        k -= 1
    t = k if k < 0.5 else k - 1
    r = fma(t, -1.3029870239068415e-07, 2.7475390051909663e-07)
    r = fma(t, fma(t, r, -4.3454173670260496e-07), 9.242852225162277e-07)
    r = fma(t, fma(t, r, -2.043022895180944e-06), 4.3828545383846665e-06)
    r = fma(t, fma(t, r, -9.43891959627718e-06), 2.050601970174762e-05)
    r = fma(t, fma(t, r, -4.492628637818162e-05), 9.945761692157133e-05)
    r = fma(t, fma(t, r, -0.00022315475602710603), 0.0005096695196526673)
    r = fma(t, fma(t, r, -0.00119275391176255), 0.002890510330865901)
    r = fma(t, fma(t, r, -0.007385551028673429), 0.02058080842778338)
    r = fma(t, fma(t, r, -0.0673523010531981), 0.3224670334241132)
    r = fma(t * t, r, t * 0.42278433509846713)
    return r - log1p_nonnegative(k) if k < 0.5 else r + (log_positive(product, &low) + low)


cdef inline double joined(double total, double low) noexcept nogil:
    """total + low; an infinite total has lost no bits, whatever stands in `low`."""
    return total + low if total - total == 0 else total


cdef inline void two_sum(double x, double* total, double* low) noexcept nogil:
    """Add x to the unevaluated sum total + low without losing a bit."""
    cdef double t = total[0] + x
    low[0] += sum_low(total[0], x, t)
    total[0] = t


cdef inline void add_to(real tag, double x, double* total, double* low) noexcept nogil:
    """Add a sum of tag's type: as it is in float32, which leaves 29 bits to spare, otherwise as `two_sum` does."""
    cdef double t = total[0] + x
    if real is double:
        low[0] += sum_low_added(total[0], x, t)
    total[0] = t


# The terms of a sum that are too large for float64, or whose sum may be, in units of `fastloss_huge_unit`.
cdef struct Huge:
    wide_real total
    wide_real low


cdef inline void add_huge(wide_real term, Huge* huge) noexcept nogil:
    cdef wide_real t = huge.total + term
    cdef wide_real z = t - huge.total
    huge.low += (huge.total - (t - z)) + (term - z)
    huge.total = t


cdef inline bint is_huge(wide_real x) noexcept nogil:
    """Whether it is finite and sums of 2^100 numbers like it may not be."""
    return fabsl(x) > 8.452712498170644e270 and fabsl(x) < INFINITY  # 2^900


cdef inline void add_wide(wide_real x, double* total, double* low, Huge* huge) noexcept nogil:
    """Add any number to a sum."""
    if is_huge(x):
        add_huge(x / fastloss_huge_unit, huge)
    else:
        two_sum(<double>x, total, low)


cdef inline wide_real times(wide_real a, wide_real b) noexcept nogil:
    """The product of two weights: 0 if either is, but for NaN."""
    cdef wide_real product = a * b
    return product if product == product or a != a or b != b else 0


cdef inline wide_real weighted(wide_real x, wide_real weight) noexcept nogil:
    """x times its weight: 0 drops what is infinite, and keeps NaN."""
    return x * weight if weight != 0 or x != x else 0


# ---- Exponentials of the classes ----
#
# A softmax needs exp(x) up to a common factor. So x itself is reduced, not x - max x: terms are exp(x) 2^-c, and the
# reference c, which moves nothing but exponents, is known before the maximum is. The greatest of them should be about
# 2^60 (float64: 2^500), so that neither a sum of all overflows nor what counts beside it vanishes.


cdef inline double exp_lead(vec tag) noexcept nogil:
    """log2 of what the greatest term should be."""
    return 60 if vec is f16 else 500


cdef inline double exp_most(vec tag) noexcept nogil:
    """Below this the reduction of |x| is as exact as `exp_of` is."""
    return 1e3 if vec is f16 and not fastloss_exp_table else 1e5


cdef inline bint exp_can_reduce(double x, vec tag) noexcept nogil:
    """Whether x can be reduced; otherwise, or if x is inf or NaN, x - max x it must be."""
    return fabs(x) < exp_most(tag)


cdef inline double exp_reference(double top, double lead, vec tag) noexcept nogil:
    """c for which exp(top) 2^-c is about 2^lead; 0 - lead where `top` cannot be reduced."""
    return (rint(top * 1.44269504088896341) if exp_can_reduce(top, tag) else 0) - lead


cdef inline bint exp_fits(double top, double c, vec tag) noexcept nogil:
    """Whether a maximum is such that with c no sum overflows and what is cut off does not count: its bits depend on
    neither c nor, thereby, on the samples that c was guessed from."""
    cdef double lead = top * 1.44269504088896341 - c, around = 30 if vec is f16 else 300
    return exp_can_reduce(top, tag) and fabs(lead - exp_lead(tag)) <= around


cdef inline double rounding_magic(double raised, vec tag) noexcept nogil:
    """1.5 * 2^p, with 2^(k + raised) for the rounded k in the low bits of a sum."""
    return (12582912.0 + 127 if vec is f16 else 6755399441055744.0 + 1023) + raised


cdef inline double magic_of(double c, vec tag) noexcept nogil:
    """What `exp_of` adds to round; c is an integer, |c| < 2^18."""
    return 12582912.0 - 8 * c if vec is f16 and fastloss_exp_table else rounding_magic(-c, tag)


cdef inline double least_of(double c, vec tag) noexcept nogil:
    """Of what is smaller `exp_of` is that of this, 2^-125.9 (float64: 2^-1021.9)."""
    return (c - (125.9 if vec is f16 else 1021.9)) * 0.693147180559945309


cdef inline vec exp_magic(double c, vec tag) noexcept nogil:
    return all_of(magic_of(c, tag), tag)


cdef inline vec exp_least(double c, vec tag) noexcept nogil:
    return all_of(least_of(c, tag), tag)


cdef inline vec expm1_rest(vec r, vec r2, double sign) noexcept nogil:
    """q(sign r) with exp(r) - 1 = r + r^2 q(r), minimax for |r| <= ln(2)/2 (0.05 ulp in float32, 0.03 in float64)."""
    cdef vec a, b
    if vec is f16:
        a = fma_of(all_of(sign * 0.00836866907775402, r), r, all_of(0.04166825860738754, r))
        b = fma_of(all_of(sign * 0.1666652113199234, r), r, all_of(0.4999999403953552, r))
        a = fma_of(all_of(0.0013821289176121354, r), r2, a)
        return fma_of(a, r2, b)
    else:
        a = fma_of(all_of(2.7630306780393872446e-7, r), r2, all_of(0.000024801492948052900755, r))
        b = fma_of(all_of(sign * 2.5000021047632982775e-8, r), r2, all_of(sign * 2.7557586799774599803e-6, r))
        a = fma_of(a, r2, all_of(0.0013888888943761593691, r))
        b = fma_of(b, r2, all_of(sign * 0.0001984126950577377448, r))
        a = fma_of(a, r2, all_of(0.041666666666529721607, r))
        b = fma_of(b, r2, all_of(sign * 0.0083333333334949804837, r))
        a = fma_of(a, r2, all_of(0.50000000000000106696, r))
        b = fma_of(b, r2, all_of(sign * 0.16666666666666411495, r))
        return fma_of(b, r, a)


cdef inline vec expm1_of_reduced(vec r) noexcept nogil:
    """exp(r) - 1 for |r| <= ln(2)/2."""
    cdef vec r2 = mul(r, r)
    return fma_of(expm1_rest(r, r2, 1), r2, r)


cdef inline vec exp_reduced(vec x, vec magic, vec* power_of_k) noexcept nogil:
    """r with x = k ln 2 + r, |r| <= ln(2)/2, and the power of 2 that `rounding_magic` leaves."""
    cdef vec shifted = fma_of(x, all_of(1.44269504088896341, x), magic), k = sub(shifted, magic)
    power_of_k[0] = power(shifted)
    if vec is f16:
        return fma_of(k, all_of(2.12194440054690583e-4, x), fma_of(k, all_of(-0.693359375, x), x))
    else:
        return fma_of(k, all_of(-1.90821492927058770002e-10, x), fma_of(k, all_of(-6.93147180369123816490e-01, x), x))


cdef inline vec exp_of(vec x, vec magic, vec least) noexcept nogil:
    """FASTLOSS_EXP_FACTOR exp(x (1 - slope)) 2^-c within 0.97 ulp in float32, factor and slope common to all x.

    The slope, 2.7478353e-9, is what ln 2 is off as one number. A table of eighths saves half the polynomial; where
    there is no instruction for it, ln 2 is in two parts, factor 1 and slope 0. NaN passes.
    """
    cdef vec shifted, k, r, p, power_of_k
    x = max_of(least, x)
    if vec is f16:
        if fastloss_exp_table:
            shifted = fma_of(x, all_of(8 * 1.44269504088896341, x), magic)
            k = sub(shifted, magic)
            r = fma_of(k, all_of(-0.69314718055994531 / 8, x), x)
            p = fma_of(all_of(0.1666685789823532, x), r, all_of(0.500064492225647, x))
            p = mul(fma_of(p, r, all_of(1, x)), r)
            power_of_k = f16_power_of_eighths(shifted)
            return fma_of(p, power_of_k, power_of_k)
    r = exp_reduced(x, magic, &power_of_k)
    return fma_of(expm1_of_reduced(r), power_of_k, power_of_k)


# ---- Exponentials and logarithms of single elements ----
#
# One number, not a sum of two: a result within the bounds needs no more. In loops of their own, what is reduced, what
# is divided and what is left, f + s (f - z R(z)) with s = -f / (2 + f) and z = s^2, wait for little.


cdef inline vec exp_argument_of(vec x, int raised, vec* power_of_k) noexcept nogil:
    """r with x = k ln 2 + r, |r| <= ln(2)/2, and 2^(k + raised), or 0 for the k next to those of normal numbers."""
    return exp_reduced(x, all_of(rounding_magic(raised, x), x), power_of_k)


cdef inline vec log1p_of(vec e, vec s) noexcept nogil:
    """log(1 + e) for 0 <= e <= 1 and s = -e / (2 + e), whose error counts by a third of e."""
    cdef vec z = mul(s, s), z2 = mul(z, z), z4, p, p1, p2, p3
    p1 = fma_of(all_of(-0.28006818890571594 if vec is f16 else -0.222222239536427828, z), z,
                all_of(-0.280030220746994 if vec is f16 else -0.2857142854811789704, z))
    p = fma_of(all_of(-0.40021437406539917 if vec is f16 else -0.400000000001551195, z), z,
               all_of(-0.666664183139801 if vec is f16 else -0.6666666666666630968, z))
    p = fma_of(p1, z2, p)
    if vec is d8:
        z4 = mul(z2, z2)
        p2 = fma_of(all_of(-0.1538654838607643069, z), z, all_of(-0.1818174447935444258, z))
        p3 = fma_of(all_of(-0.1210494446178746165, z), z, all_of(-0.1330112145538613242, z))
        p2 = fma_of(p3, z2, p2)
        p3 = fma_of(all_of(-0.1700975637003665544, z), z, all_of(-0.08344972564452305332, z))
        p = fma_of(fma_of(p3, z4, p2), z4, p)
    if not fastloss_fused:  # fewer roundings: -2 s, what it lacks of e + s e, by a slope like 1 / (1 + e), and the rest
        p1 = mul(add(add(e, add(s, s)), mul(s, e)), fma_of(all_of(-0.3125, e), e, all_of(1, e)))
        return sub(add(p1, mul(s, mul(z, p))), add(s, s))
    return fma_of(s, fma_of(z, p, e), e)


cdef inline vec log_argument(vec a, vec b, vec* k) noexcept nogil:
    """f, rounded once, with a + b = (1 + f) 2^k and sqrt(1/2) <= 1 + f < sqrt(2) or so, for normal a + b > 0.

    They are less than 2^126.5 (float64: 2^1022.5), whose 2^-k would not be normal.
    """
    cdef vec scale = inverse_power(add(a, b), k)
    return fma_of(b, scale, fma_of(a, scale, all_of(-1, a)))


cdef inline vec series_of_fraction(vec z) noexcept nogil:
    """p with log(1 + f) = f + s (f + z p) for such f, s = -f / (2 + f) and z = s^2."""
    cdef vec z2, p, p1, p2
    if vec is f16:
        p = fma_of(all_of(-0.29870694875717163, z), z, all_of(-0.3997758626937866, z))
        return fma_of(p, z, all_of(-0.6666677594184875, z))
    else:
        z2 = mul(z, z)
        p = fma_of(all_of(-3.999999999940941908e-01, z), z, all_of(-6.666666666666735130e-01, z))
        p1 = fma_of(all_of(-2.222219843214978396e-01, z), z, all_of(-2.857142874366239149e-01, z))
        p2 = fma_of(all_of(-1.531383769920937332e-01, z), z, all_of(-1.818357216161805012e-01, z))
        p2 = fma_of(all_of(-1.479819860511658591e-01, z), z2, p2)
        return fma_of(fma_of(p2, z2, p1), z2, p)


cdef inline vec log1p_of_fraction(vec f, vec s) noexcept nogil:
    """log(1 + f) for such f, and s = -f / (2 + f)."""
    cdef vec z = mul(s, s)
    return fma_of(s, fma_of(z, series_of_fraction(z), f), f)


cdef inline vec log_of(vec f, vec s, vec k) noexcept nogil:
    """log((1 + f) 2^k) for such f and s."""
    return fma_of(k, all_of(0.69314718055994531, k), log1p_of_fraction(f, s))


cdef inline vec expm1_of(vec x, vec* e) noexcept nogil:
    """exp(x) - 1 for x <= 0, within 1.5 ulp however small it is; and exp(x), 0 where that is not a normal number."""
    cdef vec least = all_of(-87.33654 if vec is f16 else -708.39641853226408, x), zero = all_of(0, x), power_of_k, p
    p = expm1_of_reduced(exp_argument_of(max_of(least, x), 0, &power_of_k))
    e[0] = if_less(x, least, zero, fma_of(p, power_of_k, power_of_k))
    return fma_of(p, power_of_k, sub(power_of_k, all_of(1, x)))


cdef inline vec log1p_of_ratio(vec ratio) noexcept nogil:
    """log(1 + ratio) for 0 <= ratio <= 2^126 (float64: 2^1022)."""
    cdef vec k, one = all_of(1, ratio), power = inverse_power(add(one, ratio), &k)
    cdef vec f = fma_of(ratio, power, sub(power, one))
    cdef vec y = log1p_of_fraction(f, div(negative(f), add(all_of(2, f), f)))
    if vec is f16:
        return fma_of(k, all_of(0.693147180559945309, y), y)
    else:
        return fma_of(k, all_of(6.93147180369123816490e-01, y), fma_of(k, all_of(1.90821492927058770002e-10, y), y))


cdef inline vec log1p_of_sum(vec x) noexcept nogil:
    """log(1 + x) for any x >= 0; inf and NaN pass."""
    cdef vec most = all_of(8.5e37 if vec is f16 else 8.9e307, x)
    return if_less(x, all_of(INFINITY, x), log1p_of_ratio(min_of(most, x)), x)


cdef inline vec power_of(vec x, double a) noexcept nogil:
    """x^a for 0 <= x <= 1 and a >= 0, 0 where that or x is not a normal number; 0^0 is 1.

    Whole numbers a up to 16 are a - 1 products at most, 1 ulp each. Otherwise 2.5 |a log x| + 1.5 ulp.
    """
    cdef int n = <int>a if a <= 16 else -1
    cdef vec tiny = all_of(1.17549435e-38 if vec is f16 else 2.2250738585072014e-308, x), y = all_of(1, x), f, k, e
    if n == a:
        while n > 0:
            y = mul(y, x) if n & 1 else y
            x = mul(x, x)
            n >>= 1
        return y
    f = log_argument(max_of(tiny, x), all_of(0, x), &k)
    f = log_of(f, div(negative(f), add(all_of(2, x), f)), k)
    expm1_of(mul(all_of(a, x), f), &e)
    return if_less(x, tiny, all_of(0, x), e)


cdef inline vec capped(vec x, double cap, vec* slope) noexcept nogil:
    """cap tanh(x / cap), within 5.5 ulp however small it is, and its derivative 4 e / (1 + e)^2, e = exp(-2 |x| / cap).

    An infinite x passes: -inf remains a masked class.
    """
    cdef vec e, y = expm1_of(mul(minus_absolute(x), all_of(2 / cap, x)), &e)
    cdef vec half = div(all_of(1, x), add(all_of(2, x), y)), r = add(half, half)
    slope[0] = mul(e, mul(r, r))
    y = mul(mul(y, all_of(cap, x)), half)
    return if_less(absolute_of(x), all_of(INFINITY, x), if_negative(x, y, negative(y)), x)
