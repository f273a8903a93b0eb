/* Numbers of more bits and a far larger range than float64, for what leaves it on the way to a result that does not.

   That is C's long double, where it has an exponent of its own: 80 bits on x86-64, 128 on Linux for arm64. Where it is a
   double (macOS on arm64), on Windows, whose processes compute it with 53 bits whatever the compiler takes it for, or with
   FASTLOSS_WIDE_CLASS anywhere, it is a class, and the kernels are C++. */
#ifndef FASTLOSS_WIDE_H
#define FASTLOSS_WIDE_H

#include <float.h>
#include <math.h>

#if LDBL_MAX_EXP > 1024 && !defined(_WIN32) && !defined(FASTLOSS_WIDE_CLASS)
typedef long double fastloss_wide;
#define fastloss_huge_unit 0x1p1100L
#elif !defined(__cplusplus)
#error "long double is a double here: the kernels must be compiled as C++"
#else
namespace {  /* each object has functions of its own, for its instruction set */

/* (hi + lo) 2^e with 1/2 <= |hi| < 1 and hi = hi + lo, rounded; 0, inf and NaN are hi, with lo = 0 and e = 0. Sums,
   products and quotients are within 2^-104 of themselves, functions within 2^-102, exp(x) and powers 2^-104 |log| more.
   What is above 2^(2^29) is inf, below 2^-(2^29) 0. Memory of zeros is 0. */
struct fastloss_wide {
    double hi, lo;
    int e;
    fastloss_wide() = default;
    fastloss_wide(long double x) {
        int k = 0;
        x = LDBL_MAX_EXP > 1024 ? __builtin_frexpl(x, &k) : __builtin_frexp((double)x, &k);
        *this = fastloss_wide((double)x, (double)(x - (double)x), k);
    }
    fastloss_wide(double a, double b, int k) : hi(a + b), lo(0), e(0) {  /* |b| <= |a| and both near 1 */
        if (hi - hi != 0 || hi == 0) {
            if (a - a != 0) hi = a;
            return;
        }
        b -= hi - a;
        hi = __builtin_frexp(hi, &e);
        lo = __builtin_ldexp(b, -e);
        e += k;
        if (e < -(1 << 29) || e > 1 << 29) *this = fastloss_wide(e < 0 ? 0 : hi * (double)INFINITY, 0, 0);
    }
    bool ordinary() const { return hi - hi == 0 && hi != 0; }
    explicit operator double() const {
        if (!ordinary() || e > 1024) return hi * (e > 1024 ? (double)INFINITY : 1);
        if (e < -1100) return 0;
        double one = __builtin_copysign(e < -1021 ? __builtin_ldexp(1, -1022 - e) : 0, hi), s = one + hi;
        return __builtin_ldexp(s + ((hi - (s - one)) + lo) - one, e);  /* of 52 bits or fewer, rounded once */
    }
    explicit operator float() const { return (float)(double)*this; }
    explicit operator long double() const {
        return LDBL_MAX_EXP > 1024 ? __builtin_ldexpl((long double)hi + lo, e) : (double)*this;
    }
};
typedef const fastloss_wide& fastloss_number;

fastloss_wide operator-(fastloss_number a) {
    fastloss_wide y = a;
    y.hi = -y.hi, y.lo = -y.lo;
    return y;
}
fastloss_wide operator+(fastloss_number a, fastloss_number b) {
    if (a.hi == 0 || b.hi == 0) return a.hi == 0 ? b : a;
    if (!a.ordinary() || !b.ordinary()) return fastloss_wide(a.hi + b.hi, 0, 0);
    if (a.e < b.e) return b + a;
    if (a.e - b.e > 200) return a;
    double x = __builtin_ldexp(b.hi, b.e - a.e), low = __builtin_ldexp(b.lo, b.e - a.e), s = a.hi + x, t = a.lo + low;
    double z = s - a.hi, s_low = (a.hi - (s - z)) + (x - z), u;
    z = t - a.lo;
    low = (a.lo - (t - z)) + (low - z);  /* what rounding lost in t, as s_low is in s (Knuth) */
    s_low += t;
    u = s + s_low;
    return fastloss_wide(u, (s_low - (u - s)) + low, a.e);
}
fastloss_wide operator-(fastloss_number a, fastloss_number b) { return a + -b; }
fastloss_wide operator*(fastloss_number a, fastloss_number b) {
    double p = a.hi * b.hi;
    if (!a.ordinary() || !b.ordinary()) return fastloss_wide(p, 0, 0);
    return fastloss_wide(p, __builtin_fma(a.hi, b.hi, -p) + (a.hi * b.lo + a.lo * b.hi), a.e + b.e);
}
fastloss_wide operator/(fastloss_number a, fastloss_number b) {
    double q = a.hi / b.hi;
    if (!a.ordinary() || !b.ordinary()) return fastloss_wide(q, 0, 0);
    return fastloss_wide(q, (__builtin_fma(-q, b.hi, a.hi) + (a.lo - q * b.lo)) / b.hi, a.e - b.e);
}
fastloss_wide& operator+=(fastloss_wide& a, fastloss_number b) { return a = a + b; }
fastloss_wide& operator-=(fastloss_wide& a, fastloss_number b) { return a = a - b; }
fastloss_wide& operator*=(fastloss_wide& a, fastloss_number b) { return a = a * b; }
fastloss_wide& operator/=(fastloss_wide& a, fastloss_number b) { return a = a / b; }
bool operator==(fastloss_number a, fastloss_number b) { return a.hi == b.hi && a.lo == b.lo && a.e == b.e; }
bool operator!=(fastloss_number a, fastloss_number b) { return !(a == b); }
bool operator<(fastloss_number a, fastloss_number b) { return !(a == b) && (a - b).hi < 0; }
bool operator>(fastloss_number a, fastloss_number b) { return b < a; }
bool operator<=(fastloss_number a, fastloss_number b) { return a == b || a < b; }
bool operator>=(fastloss_number a, fastloss_number b) { return b <= a; }

/* ---- Functions, with the names of those of long double ---- */

fastloss_wide fabsl(fastloss_number x) { return x.hi < 0 ? -x : x; }

#define fastloss_ln2 fastloss_wide(0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56, 0)

/* exp(x - k ln 2) - 1 for |x| < 2^28 and the integer k next to x / ln 2, by Taylor's series of its 2^-8, and
   exp(2 r) - 1 = y (2 + y) for y = exp(r) - 1. */
fastloss_wide fastloss_reduced_expm1(fastloss_number x, int* k) {
    *k = (int)__builtin_rint((double)x * 1.44269504088896341);
    fastloss_wide r = x - fastloss_ln2 * *k, y = 1;
    r.e -= r.hi != 0 ? 8 : 0;
    for (int n = 11; n > 1; n--) y = 1 + y * r / n;
    y *= r;
    for (int n = 0; n < 8; n++) y *= 2 + y;
    return y;
}
fastloss_wide expl(fastloss_number x) {
    int k;
    if (!(fabsl(x) < 1 << 28)) return x.hi > 0 ? (double)INFINITY : x.hi < 0 ? 0 : x;
    fastloss_wide y = 1 + fastloss_reduced_expm1(x, &k);
    y.e += k;
    return y;
}
fastloss_wide expm1l(fastloss_number x) {
    int k;
    fastloss_wide y = fastloss_reduced_expm1(fabsl(x) < 1 ? x : 1, &k);
    return k == 0 ? y : expl(x) - 1;
}

/* log(1 + x) for -1/2 <= x <= 1: a step of Newton's, whose error is about the square of the first one's. */
fastloss_wide fastloss_near_log1p(fastloss_number x) {
    if (x.e < -60) return x - x * x / 2;
    fastloss_wide y = __builtin_log1p((double)x), e = expm1l(y);
    return y + (x - e) / (1 + e);
}
fastloss_wide logl(fastloss_number x) {
    if (x >= 0.5 && x < 2) return fastloss_near_log1p(x - 1);
    if (!x.ordinary() || x < 0) return fastloss_wide(__builtin_log(x.hi), 0, 0);
    return fastloss_near_log1p(fastloss_wide(x.hi, x.lo, 0) - 1) + fastloss_ln2 * x.e;
}
fastloss_wide log1pl(fastloss_number x) { return fabsl(x) < 0.5 ? fastloss_near_log1p(x) : logl(1 + x); }
fastloss_wide powl(fastloss_number a, fastloss_number b) {  /* a >= 0 */
    if (b == 0 || a == 1) return 1;
    return expl(b * logl(a));
}
fastloss_wide tanhl(fastloss_number x) {
    fastloss_wide y = expm1l(-2 * fabsl(x));
    y = y / (2 + y);
    return x > 0 ? -y : y;
}

}
#define fastloss_huge_unit fastloss_wide(1, 0, 1100)
#endif

#endif
