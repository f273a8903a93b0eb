# points: the losses of one element, over a block of elements.
#
# a) A loss is one function here, its value, its slope, the derivative, and its curve, the second derivative, from x and
#    y, and its twin for one element in `wide_real`, next to it. Its line in the table of _points.pyx names both.
#    Nothing else knows its formula.
# b) It takes two or three loops, which leave to each other what is in L1: in one, fewer elements would fit the
#    processor's queues than it takes to hide what each waits for.
# c) What only rare elements need is left out. A function tells which elements are not right for that reason by `doubt`,
#    0 where all is well, and pointwise.pxd computes these again. NaN passes through, and is in doubt or not. What is
#    not has a finite value, and is accurate; where it is `weighted`, neither value nor slope has vanished below the
#    normal numbers, and no product with weights leaves the type.
# d) `careful` is what some need where x is infinite and its coefficient is 0. Either way the bits are the same.
# e) The roundings are those that bounds.py counts. Without fma a multiply-add is two, of which only the second counts
#    where it multiplies by a power of 2, and `log1p_of` has a form of its own.
# f) What a loss is not defined on is in doubt, and so is a target that cannot be meant, where targets are `checked`:
#    whether it is one, pointwise.pxd finds out.

from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport log_one
include "tuning.pxi"

cdef struct Points:                # a block, in whole steps
    const void* x
    const void* y
    const void* extra              # pos_weight or the variances, where the loss has them
    const double* options          # two numbers that the loss has
    void* value
    void* slope                    # NULL unless it is wanted
    void* curve                    # likewise, only beside the slope
    void* first                    # four blocks in L1, for what one loop leaves to the next
    void* second
    void* third
    void* fourth
    Py_ssize_t steps
    bint weighted
    bint careful
    bint convex                    # the curve is without terms that may be negative
    bint checked                   # a target that cannot be meant is in doubt
    void* mass                     # a step for the sum of targets that are distributions

ctypedef void (*block_function)(void* doubt, const Points* block) noexcept nogil

cdef struct Point:                 # one element
    wide_real x
    wide_real y
    wide_real extra
    const double* options
    wide_real value
    wide_real slope
    wide_real curve
    bint convex

ctypedef void (*point_function)(Point* p) noexcept nogil

cdef struct PointLoss:             # an operation
    const char* name
    void* single                   # its function for float32
    void* double_                  # and for float64
    point_function wide
    int domain                     # beyond which it is an error
    bint weighs                    # `extra` is a weight

# Domains, as bits. What is among CHECKABLE can be left unchecked, and does not matter where the weight is 0.
cdef enum:
    EVERYWHERE = 0
    UNIT_INTERVAL = 1              # x in [0, 1]
    NOT_NEGATIVE = 2               # `extra` at least 0
    PROBABILITY = 4                # y in [0, 1]
    COUNT = 8                      # y at least 0
    LOG_PROBABILITY = 16           # x at most `log_one`, an input that is like a target
    LOG_TARGET = 32                # y at most `log_one`
    DISTRIBUTION = 64             # y adds up to a whole number of distributions
    CHECKABLE = 124


cdef inline block_function function_of(const PointLoss* loss, bint single) noexcept nogil:
    return <block_function>fastloss_out_of_line(<void*>loss.single if single else <void*>loss.double_)


# ---- Doubt ----


cdef inline vec if_more(vec a, double most) noexcept nogil:
    """1 where a is more than `most`, otherwise 0."""
    return if_less(all_of(most, a), a, all_of(1, a), all_of(0, a))


cdef inline vec if_less_than(vec a, double least) noexcept nogil:
    """1 where a is less than `least`, otherwise 0."""
    return if_less(a, all_of(least, a), all_of(1, a), all_of(0, a))


cdef inline vec unless_gone(vec d) noexcept nogil:
    """d, or 0 where exp(-d) is so small that it does not count, whatever the weights are."""
    return if_less(d, all_of(360 if vec is f16 else 2200, d), d, all_of(0, d))


cdef inline vec if_vanishing(vec most) noexcept nogil:
    """1 where exp(-d) is flushed to 0, but may count when it is weighted, for the largest d that is not gone."""
    return if_more(most, 80 if vec is f16 else 690)


cdef inline double most_of_a_sum(bint weighted, vec tag) noexcept nogil:
    """The largest value that can be summed, 2^897 in float64 or, with weights of up to 2^400, 2^300."""
    if vec is f16:
        return 3.4028234663852886e38
    else:
        return 2.037035976334486e90 if weighted else 1.0565890622713305e270


cdef inline vec not_finite(vec value, bint weighted, vec doubt) noexcept nogil:
    """`doubt`, 0 or NaN, and NaN where a value is NaN or too large to be summed."""
    if vec is d8:  # then it is infinite
        value = mul(value, all_of(8.82504362096318e+217 if weighted else 1.7014118346046923e+38, value))
    return fma_of(value, doubt, doubt)


cdef inline vec of_odd_size(const void* x, Py_ssize_t steps, vec tag) noexcept nogil:
    """Not 0 where one of the numbers is so small or large that a product with weights may leave the type; 0 is not."""
    cdef vec one = all_of(1, tag), zero = all_of(0, tag), near = one, far = one, size
    cdef Py_ssize_t k
    for k in range(steps):
        size = absolute_of(load(x, k, tag))
        far = max_of(size, far)
        near = min_of(if_equal(size, zero, one, size), near)
    near = if_less_than(near, 3.009265538105056e-36 if vec is f16 else 9.332636185032189e-302)  # 2^-118, 2^-1000
    return either(near, if_more(far, 1099511627776.0 if vec is f16 else 2.037035976334486e90))  # 2^40, 2^300


cdef inline vec within(double most, vec x) noexcept nogil:
    """x, or +-most where it is farther: finite ones have the same results, in all bits; NaN stays."""
    return max_of(all_of(-most, x), min_of(all_of(most, x), x))


# ---- What loops leave to each other ----


cdef inline void leave_exponential(vec x, int raised, Points b, Py_ssize_t k) noexcept nogil:
    """The reduced argument of exp(x), and the power."""
    cdef vec power = x
    store(exp_argument_of(x, raised, &power), b.first, k)
    store(power, b.second, k)


cdef inline void leave_logarithm(vec f, vec power, Points b, Py_ssize_t k) noexcept nogil:
    store(f, b.first, k)
    store(div(f, sub(all_of(-2, f), f)), b.second, k)
    store(power, b.third, k)


cdef inline vec left_logarithm(Points b, Py_ssize_t k, vec tag) noexcept nogil:
    return log_of(load(b.first, k, tag), load(b.second, k, tag), load(b.third, k, tag))


cdef inline void leave_logistic(vec tag, Points b, bint with_sigmoid) noexcept nogil:
    """e = exp(-|x|) and -e / (2 + e), and where it is wanted sigmoid(-|x|), within 1.8 ulp."""
    cdef vec one = all_of(1, tag), least = all_of(-88.3 if vec is f16 else -709, tag)  # of which the power is 0
    cdef vec p, w, e, s, d
    cdef Py_ssize_t k
    for k in range(b.steps):
        leave_exponential(max_of(least, minus_absolute(load(b.x, k, one))), 0, b, k)
    for k in range(b.steps):
        p = expm1_of_reduced(load(b.first, k, one))
        w = load(b.second, k, one)
        e = fma_of(p, w, w)
        store(e, b.first, k)
        store(div(e, sub(all_of(-2, e), e)), b.second, k)
        if with_sigmoid:  # what its denominator lost is taken from p, for both parts: a quarter of it too much at most
            s = add(one, w)
            d = fma_of(p, w, s)
            p = fma_of(all_of(-0.75, p), fma_of(p, w, sub(s, d)), p)
            store(div(fma_of(p, w, w), d), b.third, k)


# ---- The losses ----


cdef inline void mse(vec* doubt, const Points* block) noexcept nogil:
    """(x - y)^2."""
    cdef Points b = block[0]
    cdef vec zero = all_of(0, doubt[0]), one = all_of(1, zero), most = zero, near = one, far = one, d, v
    cdef Py_ssize_t k
    for k in range(b.steps):
        d = sub(load(b.x, k, zero), load(b.y, k, zero))
        v = mul(d, d)
        most = max_of(v, most)
        store(v, b.value, k)
        if b.slope != NULL:
            store(add(d, d), b.slope, k)
        if b.curve != NULL:
            store(all_of(2, zero), b.curve, k)
        if b.weighted:
            d = absolute_of(d)
            far = max_of(d, far)
            near = min_of(if_equal(d, zero, one, d), near)
    near = if_less_than(near, 1.734723475976807e-18 if vec is f16 else 3.054936363499605e-151)  # 2^-59, 2^-500
    far = if_more(far, 1099511627776.0 if vec is f16 else 1.4272476927059599e+45)  # 2^40, 2^150
    doubt[0] = either(if_more(most, most_of_a_sum(b.weighted, most)), either(near, far))


cdef inline void wide_mse(Point* p) noexcept nogil:
    cdef wide_real d = p.x - p.y
    p.value = d * d
    p.slope = 2 * d
    p.curve = 2


cdef inline bint are_labels(const void* y, Py_ssize_t steps, vec tag) noexcept nogil:
    """Whether all are 0 or 1, or NaN; at once where a step is none."""
    cdef vec one = all_of(1, tag), v = load(y, 0, tag), found = absolute_of(mul(v, sub(v, one)))
    cdef Py_ssize_t k
    if any_of(found):
        return False
    for k in range(1, steps):
        v = load(y, k, tag)
        found = max_of(absolute_of(mul(v, sub(v, one))), found)
    return not any_of(found)


cdef inline int bce_bits(vec tag) noexcept nogil:
    """log2 of what x is multiplied by, so that it is not subnormal; in float64 those are cut off."""
    return 64 if vec is f16 else 0


cdef inline vec bce_power(vec power) noexcept nogil:
    """The power of an argument that is 0 such that its logarithm is cut off."""
    return if_less(power, all_of(-126, power), all_of(-200, power), power) if vec is f16 else power


cdef inline vec bce_logarithm(Points b, Py_ssize_t k, vec tag) noexcept nogil:
    return min_of(all_of(100, tag), negative(left_logarithm(b, k, tag)))


cdef inline vec bce_slope(vec x, vec y) noexcept nogil:
    """(x - y) / max(x (1 - x), 1e-12), which for y 0 or 1 is 1 / (1 - x) or -1 / x unless it is cut off."""
    cdef vec one = all_of(1, x), zero = all_of(0, x), least = all_of(1e-12, x), w = sub(one, x), z = mul(x, w)
    cdef vec d = sub(x, y), other = if_less(z, least, one, mul(y, sub(y, one)))
    d = if_equal(other, zero, fma_of(all_of(-2, x), y, one), d)
    return div(d, if_equal(other, zero, if_equal(y, zero, w, x), max_of(least, z)))


cdef inline vec bce_curve(vec x, vec y, vec slope) noexcept nogil:
    """slope^2 + y (1 - y) / (x (1 - x))^2, or 1e12 where the slope is cut off."""
    cdef vec one = all_of(1, x), least = all_of(1e-12, x), z = mul(x, sub(one, x))
    cdef vec other = div(div(mul(y, sub(one, y)), z), z)
    return if_less(z, least, all_of(1e12, x), fma_of(slope, slope, other))


cdef inline void bce(vec* doubt, const Points* block) noexcept nogil:
    """-(y log x + (1 - y) log(1 - x)), each log at least -100; an element has the same bits in both loops."""
    cdef Points b = block[0]
    cdef vec one = all_of(1, doubt[0]), bits = all_of(bce_bits(one), one)
    cdef vec scale = all_of(18446744073709551616.0 if vec is f16 else 1, one)  # 2^bits
    cdef vec low = one, high = one, near = one, far = one, p, t, f, power = one
    cdef double most = 1 if b.checked else 16
    cdef bint labels = are_labels(b.y, b.steps, one)
    cdef Py_ssize_t k
    if labels:  # -log(1 - y + (2 y - 1) x)
        for k in range(b.steps):
            p = load(b.x, k, one)
            t = load(b.y, k, one)
            low = min_of(p, low)
            high = max_of(p, high)
            f = log_argument(sub(one, t), mul(p, fma_of(add(scale, one), t, negative(one))), &power)
            leave_logarithm(f, sub(bce_power(power), mul(bits, t)), b, k)
        for k in range(b.steps):
            store(bce_logarithm(b, k, one), b.value, k)
    else:
        for k in range(b.steps):
            p = load(b.x, k, one)
            low = min_of(p, low)
            high = max_of(p, high)
            p = absolute_of(mul(p, scale))  # -0 has another exponent
            f = sub(mul(p, inverse_power(p, &power)), one)
            leave_logarithm(f, sub(power, bits), b, k)
        for k in range(b.steps):
            store(bce_logarithm(b, k, one), b.fourth, k)
        for k in range(b.steps):
            f = log_argument(one, negative(load(b.x, k, one)), &power)
            leave_logarithm(f, bce_power(power), b, k)
        for k in range(b.steps):
            t = load(b.y, k, one)
            near = min_of(t, near)
            far = max_of(t, far)
            store(fma_of(t, load(b.fourth, k, one), mul(sub(one, t), bce_logarithm(b, k, one))), b.value, k)
    if b.slope != NULL:
        for k in range(b.steps):
            store(bce_slope(load(b.x, k, one), load(b.y, k, one)), b.slope, k)
    if b.curve != NULL:
        for k in range(b.steps):
            store(bce_curve(load(b.x, k, one), load(b.y, k, one), load(b.slope, k, one)), b.curve, k)
    far = either(if_less_than(near, 1 - most), if_more(far, most))
    doubt[0] = either(either(if_less_than(low, 0), if_more(high, 1)), far)


cdef inline void wide_bce(Point* p) noexcept nogil:
    cdef wide_real log_x = logl(p.x), log_y = log1pl(-p.x), d = p.x * (1 - p.x)
    log_x = -100 if log_x < -100 else log_x
    log_y = -100 if log_y < -100 else log_y
    p.value = -(p.y * log_x + (1 - p.y) * log_y)
    p.slope = (p.x - p.y) / (1e-12 if d < 1e-12 else d)
    p.curve = <wide_real>1e12 if d < 1e-12 else p.slope * p.slope + p.y * (1 - p.y) / (d * d)


cdef inline void bce_with_logits(vec* doubt, const Points* block) noexcept nogil:
    """y softplus(-x) + (1 - y) softplus(x), softplus(x) = log(1 + exp x)."""
    if block.slope != NULL:
        bce_of_logits(doubt, block[0], False, True)
    else:
        bce_of_logits(doubt, block[0], False, False)


cdef inline void bce_with_logits_pos_weight(vec* doubt, const Points* block) noexcept nogil:
    """pos_weight y softplus(-x) + (1 - y) softplus(x)."""
    if block.slope != NULL:
        bce_of_logits(doubt, block[0], True, True)
    else:
        bce_of_logits(doubt, block[0], True, False)


cdef inline void bce_of_logits(vec* doubt, Points b, bint WITH_POS_WEIGHT, bint WITH_SLOPE) noexcept nogil:
    """a softplus(-x) + b softplus(x) = c |x| + (a + b) log(1 + exp(-|x|)), c the coefficient that x has against it.

    Its derivative is b sigmoid(x) - a sigmoid(-x) = +-(c - (a + b) sigmoid(-|x|)). No term cancels another.
    """
    cdef vec one = all_of(1, doubt[0]), zero = all_of(0, one), found = zero, high = zero, far = zero, both = one
    cdef vec inside = one, x, y, c, t, s
    cdef Py_ssize_t k
    leave_logistic(one, b, WITH_SLOPE)
    if b.careful:  # an infinite x of coefficient 0
        for k in range(b.steps):
            x = load(b.x, k, one)
            y = load(b.y, k, one)
            c = if_negative(x, y, sub(one, y))
            store(if_equal(c, zero, within(most_of_a_sum(True, x), x), x), b.fourth, k)
        b.x = b.fourth
    for k in range(b.steps):
        x = load(b.x, k, one)
        y = load(b.y, k, one)
        inside = min_of(mul(y, sub(one, y)), inside)  # negative just where y is not in [0, 1]
        t = log1p_of(load(b.first, k, one), load(b.second, k, one))
        if WITH_POS_WEIGHT:
            c = mul(load(b.extra, k, one), y)
            both = add(c, sub(one, y))
            t = mul(both, t)
            c = if_negative(x, c, sub(one, y))
        else:
            c = if_negative(x, y, sub(one, y))
        t = fma_of(c, absolute_of(x), t)
        found = not_finite(t, b.weighted, found)
        store(t, b.value, k)
        if WITH_SLOPE:
            s = load(b.third, k, one)
            t = sub(c, mul(both, s) if WITH_POS_WEIGHT else s)
            store(if_negative(x, negative(t), t), b.slope, k)
            if b.curve != NULL:
                s = mul(s, sub(one, s))
                store(mul(both, s) if WITH_POS_WEIGHT else s, b.curve, k)
    if b.weighted:
        for k in range(b.steps):
            high = max_of(absolute_of(load(b.y, k, one)), high)
            x = absolute_of(load(b.x, k, one))
            if WITH_POS_WEIGHT:  # it may be small, too
                x = add(x, all_of(28 if vec is f16 else 140, x))
            far = max_of(unless_gone(x), far)
    if b.checked:
        found = either(found, if_less_than(inside, 0))
    doubt[0] = either(found, either(if_more(high, 1073741824.0), if_vanishing(far)))


cdef inline void wide_bce_with_logits(Point* p) noexcept nogil:
    cdef wide_real d = fabsl(p.x), e = expl(-d), a = times(p.extra, p.y), b = 1 - p.y
    p.value = weighted(d, b if p.x > 0 else a) + (a + b) * log1pl(e)
    p.slope = (a + b) * (e / (1 + e))
    p.curve = p.slope / (1 + e)
    p.slope = b - p.slope if p.x > 0 else p.slope - a


cdef inline void kl_div(vec* doubt, const Points* block) noexcept nogil:
    """y (log y - x); where y is subnormal the logarithm is about right, the error 0.01 of the least normal number."""
    cdef Points b = block[0]
    cdef vec zero = all_of(0, doubt[0]), one = all_of(1, zero), found = zero, low = zero, mass = zero, near = one
    cdef vec top = zero, t, v, power = zero
    cdef Py_ssize_t k
    for k in range(b.steps):
        t = load(b.y, k, zero)
        low = min_of(t, low)
        mass = add(mass, t)  # at least the greatest, where none is negative or NaN
        top = max_of(load(b.x, k, zero), top)
        v = sub(mul(t, inverse_power(t, &power)), one)
        leave_logarithm(v, power, b, k)
    if b.weighted:
        for k in range(b.steps):
            t = load(b.y, k, zero)
            near = min_of(if_equal(t, zero, one, t), near)
    if b.careful:  # an infinite x of coefficient 0
        for k in range(b.steps):
            v = load(b.x, k, zero)
            store(if_equal(load(b.y, k, zero), zero, within(most_of_a_sum(True, v), v), v), b.fourth, k)
        b.x = b.fourth
    for k in range(b.steps):
        t = load(b.y, k, zero)
        v = mul(t, sub(left_logarithm(b, k, zero), load(b.x, k, zero)))
        found = not_finite(v, b.weighted, found)
        store(v, b.value, k)
        if b.slope != NULL:
            store(negative(t), b.slope, k)
        if b.curve != NULL:
            store(zero, b.curve, k)
    near = if_less_than(near, 3.009265538105056e-36 if vec is f16 else 9.332636185032189e-302)  # 2^-118, 2^-1000
    # without weights, more than `inverse_power` takes
    power = if_more(mass, 1099511627776.0 if b.weighted else 1e38)
    if b.checked:
        found = either(found, if_more(top, log_one()))
        store(mass, b.mass, 0)
    doubt[0] = either(either(found, if_less_than(low, 0)), either(near, power))


cdef inline void wide_kl_div(Point* p) noexcept nogil:
    p.value = p.y * (logl(p.y) - p.x) if p.y != 0 else 0 * p.y if p.x == p.x else p.x
    p.slope = -p.y
    p.curve = 0


cdef inline void kl_div_log_target(vec* doubt, const Points* block) noexcept nogil:
    """exp(y) (y - x)."""
    cdef Points b = block[0]
    cdef vec zero = all_of(0, doubt[0]), high = zero, low = zero, top = zero, near = zero, t, v, p, w
    cdef vec least = all_of(-131 if vec is f16 else -1060, zero)  # whatever x is, no result is normal
    cdef vec lower = all_of(5.421010862427522e-20 if vec is f16 else 7.458340731200207e-155, zero)  # 2^-64, 2^-512
    cdef Py_ssize_t k
    for k in range(b.steps):
        t = load(b.y, k, zero)
        high = max_of(t, high)
        leave_exponential(max_of(least, t), 64 if vec is f16 else 512, b, k)
    if b.careful:  # an infinite x of coefficient exp(-inf)
        for k in range(b.steps):
            v = load(b.x, k, zero)
            store(if_equal(load(b.y, k, zero), all_of(-INFINITY, v), within(1e9, v), v), b.fourth, k)
        b.x = b.fourth
    for k in range(b.steps):
        v = load(b.x, k, zero)
        low = min_of(v, low)
        top = max_of(v, top)
        t = sub(max_of(least, load(b.y, k, zero)), v)
        p = expm1_of_reduced(load(b.first, k, zero))
        w = load(b.second, k, zero)
        store(mul(mul(fma_of(p, t, t), w), lower), b.value, k)
        if b.slope != NULL:
            store(mul(fma_of(p, w, w), negative(lower)), b.slope, k)
        if b.curve != NULL:
            store(zero, b.curve, k)
    if b.weighted:
        for k in range(b.steps):
            near = max_of(unless_gone(negative(load(b.y, k, zero))), near)
    low = either(if_less_than(low, -1e9), if_more(top, log_one() if b.checked else 1e9))
    doubt[0] = either(either(if_more(high, log_one() if b.checked else 15), low), if_vanishing(near))


cdef inline void wide_kl_div_log_target(Point* p) noexcept nogil:
    cdef wide_real e = expl(p.y), d = p.y - p.x
    p.value = e * d if e != 0 else d if fabsl(d) == INFINITY else 0 * d
    if p.y == -INFINITY or d == 0:
        p.value = 0 if p.x == p.x else p.x
    p.slope = -e
    p.curve = 0


cdef inline void soft_margin(vec* doubt, const Points* block) noexcept nogil:
    """log(1 + exp(-y x)) = -log sigmoid(y x)."""
    cdef Points b = block[0]
    cdef vec one = all_of(1, doubt[0]), zero = all_of(0, one), found = zero, far = zero, high = zero, y, z, t
    cdef Py_ssize_t k
    for k in range(b.steps):
        store(mul(load(b.x, k, one), load(b.y, k, one)), b.fourth, k)
    b.x = b.fourth
    if b.slope != NULL:
        leave_logistic(one, b, True)
    else:
        leave_logistic(one, b, False)
    for k in range(b.steps):
        y = load(b.y, k, one)
        z = load(b.x, k, one)
        high = max_of(absolute_of(y), high)
        t = sub(log1p_of(load(b.first, k, one), load(b.second, k, one)), min_of(zero, z))
        found = not_finite(t, b.weighted, found)
        store(t, b.value, k)
        if b.slope != NULL:
            t = load(b.third, k, one)
            store(mul(negative(y), if_negative(z, sub(one, t), t)), b.slope, k)
            if b.curve != NULL:
                store(mul(mul(y, t), mul(y, sub(one, t))), b.curve, k)
    if b.weighted:
        for k in range(b.steps):
            far = max_of(unless_gone(absolute_of(load(b.x, k, one))), far)
        if b.slope != NULL:
            found = either(found, of_odd_size(b.slope, b.steps, one))
        if b.curve != NULL:
            found = either(found, of_odd_size(b.curve, b.steps, one))
    doubt[0] = either(found, either(if_more(high, 1073741824.0), if_vanishing(far)))


cdef inline void wide_soft_margin(Point* p) noexcept nogil:
    cdef wide_real z = p.x * p.y, e = expl(-fabsl(z))
    p.value = log1pl(e) - (z if z < 0 else 0)
    p.slope = -times(p.y, (1 if z < 0 else e) / (1 + e))
    p.curve = times(p.y, times(p.y, e / ((1 + e) * (1 + e))))


cdef inline void poisson_nll(vec* doubt, const Points* block) noexcept nogil:
    """x - y log(x + options[0]), and with options[1] Stirling's approximation of log y!, for y > 1."""
    cdef Points b = block[0]
    cdef vec one = all_of(1, doubt[0]), zero = all_of(0, one), found = zero, low = one, high = one
    cdef vec eps = all_of(b.options[0], one), least = one, x, y, d, r, v, power = one
    cdef Py_ssize_t k
    for k in range(b.steps):
        x = load(b.x, k, one)
        d = add(x, eps)
        low = min_of(d, low)
        high = max_of(d, high)
        least = min_of(load(b.y, k, one), least)
        v = log_argument(x, eps, &power)
        leave_logarithm(v, power, b, k)
    for k in range(b.steps):
        x = load(b.x, k, one)
        y = load(b.y, k, one)
        v = fma_of(negative(y), left_logarithm(b, k, one), x)
        store(v, b.value, k)
        if b.slope != NULL:
            d = add(x, eps)
            r = div(y, d)
            v = sub(one, r)
            found = not_finite(v, b.weighted, found)
            store(v, b.slope, k)
            if b.curve != NULL:
                v = div(r, d)
                found = not_finite(v, b.weighted, found)
                store(v, b.curve, k)
    if b.weighted and b.curve != NULL:
        found = either(found, of_odd_size(b.curve, b.steps, one))
    low = if_less_than(low, 1.1754943508222875e-38 if vec is f16 else 2.2250738585072014e-308)
    high = if_more(high, 4e37 if vec is f16 else 2e307)
    if b.checked:
        found = either(found, if_less_than(least, 0))
    doubt[0] = either(either(low, high), either(found, with_stirling(b, one)))


cdef inline void wide_poisson_nll(Point* p) noexcept nogil:
    cdef wide_real d = p.x + p.options[0]
    p.value = p.x - times(p.y, logl(d)) if p.x < INFINITY else p.x + 0 * p.y
    p.value += wide_stirling(p.y) if p.options[1] != 0 else 0
    p.curve = p.y / d if p.y != 0 or d != d else 0
    p.slope = 1 - p.curve
    p.curve = p.curve / d if p.curve != 0 else p.curve


cdef inline void poisson_nll_log_input(vec* doubt, const Points* block) noexcept nogil:
    """exp(x) - y x, and with options[1] the same."""
    cdef Points b = block[0]
    cdef vec zero = all_of(0, doubt[0]), found = zero, near = zero, high = zero, low = zero, x, y, v, p, w
    cdef vec least = all_of(-88.3 if vec is f16 else -709, zero), most = all_of(88 if vec is f16 else 709, zero)
    cdef Py_ssize_t k
    for k in range(b.steps):
        x = load(b.x, k, zero)
        high = max_of(x, high)
        low = min_of(load(b.y, k, zero), low)
        leave_exponential(min_of(most, max_of(least, x)), 0, b, k)
    if b.careful:  # an infinite x of coefficient 0
        for k in range(b.steps):
            x = load(b.x, k, zero)
            store(if_equal(load(b.y, k, zero), zero, within(most_of_a_sum(True, x), x), x), b.fourth, k)
        b.x = b.fourth
    for k in range(b.steps):
        y = load(b.y, k, zero)
        p = expm1_of_reduced(load(b.first, k, zero))
        w = load(b.second, k, zero)
        v = fma_of(p, w, w)
        if b.slope != NULL:
            store(sub(v, y), b.slope, k)
        if b.curve != NULL:
            store(v, b.curve, k)
        store(fma_of(negative(y), load(b.x, k, zero), v), b.value, k)
    if b.weighted:
        for k in range(b.steps):
            near = max_of(unless_gone(negative(load(b.x, k, zero))), near)
        if b.slope != NULL:
            found = of_odd_size(b.slope, b.steps, zero)
        if b.curve != NULL:
            found = either(found, of_odd_size(b.curve, b.steps, zero))
    high = if_more(high, 88 if vec is f16 else 709)
    if b.checked:
        high = either(high, if_less_than(low, 0))
    doubt[0] = either(either(high, if_vanishing(near)), either(found, with_stirling(b, zero)))


cdef inline void wide_poisson_nll_log_input(Point* p) noexcept nogil:
    cdef wide_real e = expl(p.x)
    p.value = e - times(p.y, p.x) if p.x < INFINITY else p.x + 0 * p.y
    p.value += wide_stirling(p.y) if p.options[1] != 0 else 0
    p.slope = e - p.y
    p.curve = e


cdef inline vec with_stirling(Points b, vec tag) noexcept nogil:
    """Add (y + 1/2) log y - y + log(2 pi) / 2 where y > 1, if options[1]; the doubt about the values."""
    cdef vec zero = all_of(0, tag), one = all_of(1, tag), found = zero, high = zero, y, v, power = zero
    cdef vec half = all_of(0.5, tag), constant = all_of(0.918938533204672742, tag)
    cdef Py_ssize_t k
    if b.options[1] != 0:
        for k in range(b.steps):
            y = max_of(load(b.y, k, tag), one)
            high = max_of(y, high)
            leave_logarithm(sub(mul(y, inverse_power(y, &power)), one), power, b, k)
        for k in range(b.steps):
            y = load(b.y, k, tag)
            v = fma_of(add(y, half), left_logarithm(b, k, tag), sub(constant, y))
            store(add(load(b.value, k, tag), if_less(one, y, v, zero)), b.value, k)
    for k in range(b.steps):
        found = not_finite(load(b.value, k, tag), b.weighted, found)
    if b.weighted:
        found = either(found, of_odd_size(b.value, b.steps, tag))
    return either(found, if_more(high, 4e37 if vec is f16 else 2e307))


cdef inline wide_real wide_stirling(wide_real y) noexcept nogil:
    return (y + 0.5) * logl(y) - y + <wide_real>0.918938533204672742 if y > 1 else 0 * y


cdef inline void gaussian_nll(vec* doubt, const Points* block) noexcept nogil:
    """(log v + (x - y)^2 / v) / 2 + options[1], v the larger one of the variance and options[0]."""
    gaussian(doubt, block[0], False)


cdef inline void gaussian_nll_of_var(vec* doubt, const Points* block) noexcept nogil:
    """The same, with the derivative by v as slope."""
    gaussian(doubt, block[0], True)


cdef inline void gaussian(vec* doubt, Points b, bint OF_VAR) noexcept nogil:
    cdef vec one = all_of(1, doubt[0]), zero = all_of(0, one), half = all_of(0.5, one), found = zero, near = one
    cdef vec least = all_of(b.options[0], one), constant = all_of(b.options[1], one), low = one, high = one
    cdef vec v, d, r, t, power = one
    cdef Py_ssize_t k
    for k in range(b.steps):
        v = load(b.extra, k, one)
        low = min_of(v, low)
        v = max_of(least, v)
        high = max_of(v, high)
        leave_logarithm(sub(mul(v, inverse_power(v, &power)), one), power, b, k)
    for k in range(b.steps):
        v = max_of(least, load(b.extra, k, one))
        d = sub(load(b.x, k, one), load(b.y, k, one))
        r = div(d, v)
        t = fma_of(half, fma_of(r, d, left_logarithm(b, k, one)), constant)
        found = not_finite(t, b.weighted, found)
        store(t, b.value, k)
        if b.slope != NULL:
            if OF_VAR:
                r = mul(half, fma_of(negative(r), r, div(one, v)))
            found = not_finite(r, b.weighted, found)
            store(r, b.slope, k)
        if b.curve != NULL:
            store(div(one, v), b.curve, k)
        if b.weighted:
            d = absolute_of(d)
            near = min_of(if_equal(d, zero, one, d), near)
    if b.weighted:
        near = if_less_than(near, 1.734723475976807e-18 if vec is f16 else 3.054936363499605e-151)  # 2^-59, 2^-500
        found = either(found, either(near, of_odd_size(b.value, b.steps, one)))
        if b.slope != NULL:
            found = either(found, of_odd_size(b.slope, b.steps, one))
        if b.curve != NULL:
            found = either(found, of_odd_size(b.curve, b.steps, one))
    else:
        found = either(found, zero)
    low = either(if_less_than(low, 0), if_less_than(least, 1.1754943508222875e-38 if vec is f16 else 2.3e-308))
    high = if_more(high, 4e37 if vec is f16 else 2e307)
    doubt[0] = either(found, either(low, high))


cdef inline void wide_gaussian_nll(Point* p) noexcept nogil:
    cdef wide_real v = p.options[0] if p.extra < p.options[0] else p.extra, d = p.x - p.y
    p.value = (logl(v) + (d / v * d if d != 0 else d)) / 2 + p.options[1]
    p.slope = d / v
    p.curve = 1 / v


cdef inline void wide_gaussian_nll_of_var(Point* p) noexcept nogil:
    wide_gaussian_nll(p)
    p.slope = (1 / (p.options[0] if p.extra < p.options[0] else p.extra) - p.slope * p.slope) / 2


cdef inline void sigmoid_focal(vec* doubt, const Points* block) noexcept nogil:
    """l m^options[0], l of `bce_with_logits`, m = y sigmoid(-x) + (1 - y) sigmoid(x); times a y + (1 - a) (1 - y) for
    a = options[1] unless that is negative."""
    cdef vec one = all_of(1, doubt[0]), zero = all_of(0, one), found = zero, y
    cdef bint with_slope = block.slope != NULL, curved = block.curve != NULL, labels
    cdef Py_ssize_t k
    labels = with_slope and (curved or are_labels(block.y, block.steps, one))
    if block.options[0] != 2 or block.weighted or block.careful:
        focal_of_logits(doubt, block[0], False, labels, with_slope)
    elif labels:
        focal_of_logits(doubt, block[0], True, True, True)
    elif with_slope:
        focal_of_logits(doubt, block[0], True, False, True)
    else:
        focal_of_logits(doubt, block[0], True, False, False)
    if curved:
        focal_curve_of_labels(doubt, block[0])
        for k in range(block.steps):  # of what is no label the twin computes all, except where y is NaN
            y = load(block.y, k, one)
            found = if_equal(y, zero, found, if_equal(y, one, found, one))
        doubt[0] = either(doubt[0], found)


cdef inline void focal_curve_of_labels(vec* doubt, Points b) noexcept nogil:
    """m^g p ((1 + 2 g) m + g l (g p - m)), p = 1 - m, times the weight of the class; l without it as in the value."""
    cdef vec one = all_of(1, doubt[0]), zero = all_of(0, one), most = all_of(most_of_a_sum(True, one), one)
    cdef vec gamma = all_of(b.options[0], one), found = zero, far = zero, x, y, c, s, l, m, p, t, power
    cdef bint whole = b.options[0] == rint(b.options[0]) and b.options[0] <= 8
    cdef Py_ssize_t k
    leave_logistic(one, b, True)
    for k in range(b.steps):
        x = load(b.x, k, one)
        y = load(b.y, k, one)
        c = if_negative(x, y, sub(one, y))
        x = if_equal(c, zero, within(most_of_a_sum(True, x), x), x)
        t = absolute_of(x)  # whose exponential is flushed to 0, and may count when it is multiplied by them
        far = max_of(if_less(t, all_of(110 if vec is f16 else 770, x), t, zero), far)
        l = fma_of(c, t, log1p_of(load(b.first, k, one), load(b.second, k, one)))
        s = load(b.third, k, one)
        p = if_equal(c, zero, sub(one, s), s)
        m = if_equal(c, zero, s, sub(one, s))
        t = mul(gamma, p) if b.convex else sub(mul(gamma, p), m)
        t = fma_of(mul(gamma, min_of(most, l)), t, mul(add(one, add(gamma, gamma)), m))
        store(mul(p, t), b.curve, k)
        store(whole_power(m, <int>b.options[0]) if whole else m, b.first, k)
    if not whole:
        leave_powers(b, one)
    for k in range(b.steps):
        y = load(b.y, k, one)
        power = load(b.first, k, one)
        if b.options[1] >= 0:
            power = mul(fma_of(all_of(b.options[1], y), y, mul(all_of(1 - b.options[1], y), sub(one, y))), power)
        t = mul(power, load(b.curve, k, one))
        found = not_finite(t, b.weighted, found)
        store(t, b.curve, k)
    if b.weighted:
        found = either(found, of_odd_size(b.curve, b.steps, one))
    doubt[0] = either(doubt[0], either(found, if_vanishing(far)))


cdef inline void focal_of_logits(vec* doubt, Points b, bint USUAL, bint LABELS, bint WITH_SLOPE) noexcept nogil:
    """With s = sigmoid(-|x|) and c as in `bce_of_logits`, m = c (1 - s) + (1 - c) s, and the derivative is
    +-m^g (c - s + g l (2 c - 1) s (1 - s) / m). For a label s (1 - s) / m is s or 1 - s, in both loops.

    USUAL is g = 2 where nothing else is asked for; the bits are the same.
    """
    cdef vec one = all_of(1, doubt[0]), zero = all_of(0, one), found = zero, far = zero, low = one, high = zero
    cdef vec gamma = all_of(b.options[0], one), more = all_of(1 + b.options[0], one), near = one
    cdef vec x, y, c, l, m, s, t = zero, most = all_of(most_of_a_sum(True, one), one)
    cdef bint sure = USUAL or b.options[0] <= 16 and not b.weighted  # what vanishes for a label does not count
    cdef bint whole = b.options[0] == rint(b.options[0]) and b.options[0] <= 8
    cdef Py_ssize_t k
    leave_logistic(one, b, True)
    for k in range(b.steps):
        x = load(b.x, k, one)
        y = load(b.y, k, one)
        if not LABELS:
            low = min_of(if_equal(y, zero, one, y), low)
            high = max_of(y, high)
        c = if_negative(x, y, sub(one, y))
        if not USUAL and b.careful:  # an infinite x of coefficient 0
            x = if_equal(c, zero, within(most_of_a_sum(True, x), x), x)
        l = fma_of(c, absolute_of(x), log1p_of(load(b.first, k, one), load(b.second, k, one)))
        s = load(b.third, k, one)
        t = sub(one, s)
        m = fma_of(c, t, mul(sub(one, c), s))
        if WITH_SLOPE:
            t = if_equal(c, zero, t, s if LABELS else if_equal(c, one, s, div(mul(s, t), m)))
            t = mul(mul(gamma, min_of(most, l)), mul(t, sub(add(c, c), one)))
            t = add(sub(c, s), t)
        if not USUAL and not sure:
            far = max_of(unless_gone(if_equal(c, zero, mul(more, add(one, absolute_of(x))), zero)), far)
        if USUAL:
            found = leave_focal(b, k, x, y, l, mul(m, m), t, WITH_SLOPE, found)
        elif whole:
            m = whole_power(m, <int>b.options[0])
            if b.options[0] > 2:  # 1 - p_t is more than 2^-41, or for a label 0
                near = min_of(if_equal(c, zero, one, m), near)
            found = leave_focal(b, k, x, y, l, m, t, WITH_SLOPE, found)
        else:
            store(l, b.value, k)
            store(m, b.first, k)
            store(t, b.fourth, k)
    if not USUAL and not whole:
        leave_powers(b, one)
        for k in range(b.steps):
            x = load(b.x, k, one)
            y = load(b.y, k, one)
            m = load(b.first, k, one)
            near = min_of(if_equal(if_negative(x, y, sub(one, y)), zero, one, m), near)
            l = load(b.value, k, one)
            found = leave_focal(b, k, x, y, l, m, load(b.fourth, k, one), WITH_SLOPE, found)
    if not USUAL and b.weighted:
        found = either(found, of_odd_size(b.value, b.steps, one))
        if WITH_SLOPE:
            found = either(found, of_odd_size(b.slope, b.steps, one))
    near = if_less_than(near, 2.407412430484045e-35 if vec is f16 else 9.332636185032189e-302)  # 2^-115, 2^-1000
    low = either(if_less_than(low, 9.094947017729282e-13), if_more(high, 1))  # 2^-40
    doubt[0] = either(either(found, if_vanishing(far)), either(near, low))


cdef inline vec leave_focal(
    Points b, Py_ssize_t k, vec x, vec y, vec l, vec power, vec t, bint WITH_SLOPE, vec found
) noexcept nogil:
    """Value and slope, l and t times the power and the weight of the class; the doubt about them."""
    cdef vec other
    if b.options[1] >= 0:
        other = mul(all_of(1 - b.options[1], y), sub(all_of(1, y), y))
        power = mul(fma_of(all_of(b.options[1], y), y, other), power)
    l = mul(power, l)
    store(l, b.value, k)
    found = not_finite(l, b.weighted, found)
    if WITH_SLOPE:
        t = mul(power, t)
        store(if_negative(x, negative(t), t), b.slope, k)
        found = not_finite(t, b.weighted, found)
    return found


cdef inline vec whole_power(vec m, int n) noexcept nogil:
    cdef vec power = mul(m, m)
    cdef int _
    if n < 2:
        return m if n == 1 else all_of(1, m)
    for _ in range(2, n):
        power = mul(power, m)
    return power


cdef inline void leave_powers(Points b, vec tag) noexcept nogil:
    """m^options[0] in place of m; of one that is not normal, that of the least normal number, or 0."""
    cdef vec least = all_of(1.1754943508222875e-38 if vec is f16 else 2.2250738585072014e-308, tag), m, power = tag
    cdef Py_ssize_t k
    for k in range(b.steps):
        m = max_of(least, load(b.first, k, tag))
        leave_logarithm(sub(mul(m, inverse_power(m, &power)), all_of(1, m)), power, b, k)
    least = all_of(-88.3 if vec is f16 else -709, tag)
    for k in range(b.steps):
        leave_exponential(max_of(least, mul(all_of(b.options[0], tag), left_logarithm(b, k, tag))), 0, b, k)
    for k in range(b.steps):
        m = load(b.second, k, tag)
        store(fma_of(expm1_of_reduced(load(b.first, k, tag)), m, m), b.first, k)


cdef inline void wide_sigmoid_focal(Point* p) noexcept nogil:
    cdef wide_real d = fabsl(p.x), e = expl(-d), c = 1 - p.y if p.x > 0 else p.y, a = c + (1 - c) * e
    cdef wide_real loss = weighted(d, c) + log1pl(e), gamma = p.options[0], alpha = p.options[1], power
    if gamma == 0:
        power = 1
    elif c == 0:
        power = expl(-gamma * (d + log1pl(e)))
    else:
        power = powl(a / (1 + e), gamma)
    if alpha >= 0:
        power *= alpha * p.y + (1 - alpha) * (1 - p.y)
    p.value = weighted(loss, power)
    p.curve = times(power, wide_focal_curve(p, e, loss))
    p.slope = weighted(loss, gamma * (1 if c == 0 else e / a) / (1 + e) * (2 * c - 1)) + (c - e / (1 + e))
    p.slope = times(power, p.slope)
    p.slope = p.slope if p.x > 0 else -p.slope


cdef inline wide_real wide_focal_curve(const Point* p, wide_real e, wide_real loss) noexcept nogil:
    """s t + 2 g (s - y) r + g l (g r^2 + r'), s = sigmoid(x), t = 1 - s, r = (log m)' and r' = (log m)''.

    m = y t + (1 - y) s, m' = (1 - 2 y) s t, m'' = m' (t - s): for labels r is t or -s, and r' = -s t.
    """
    cdef wide_real s = (1 if p.x > 0 else e) / (1 + e), t = (e if p.x > 0 else 1) / (1 + e), gamma = p.options[0]
    cdef wide_real m, r, bend, first
    if p.y == 0:
        r = t
        bend = -s * t
        first = s * t
    elif p.y == 1:
        r = -s
        bend = -s * t
        first = s * t
    else:
        m = p.y * t + (1 - p.y) * s
        r = (1 - 2 * p.y) * s * t / m
        bend = r * ((t - s) - r)
        first = (s - p.y) * r
    if p.convex:
        bend = 0 if bend < 0 else bend
        first = 0 if first < 0 else first
    return s * t + 2 * gamma * first + weighted(loss, gamma * (gamma * r * r + bend))


cdef inline vec distance_to_subnormal(vec x, vec least) noexcept nogil:
    """Of x to the middle of where exp(x) is less than the normal numbers and not 0, or `least` if that is less."""
    return min_of(absolute_of(add(x, all_of(95.65 if vec is f16 else 727.15, x))), least)


cdef inline vec if_subnormal(vec least) noexcept nogil:
    """1 where the least distance says that an exponential is among these numbers, or next to them."""
    return if_less_than(least, 8.37 if vec is f16 else 18.87)


cdef inline void sigmoid(vec* doubt, const Points* block) noexcept nogil:
    """2^k / (2^k + exp(-r)) for x = k ln 2 + r: below, 1 + 2^k, with what that lost, and exp(-r) - 1."""
    cdef Points b = block[0]
    cdef vec one = all_of(1, doubt[0]), near = all_of(INFINITY, one), x, r, r2, w, s
    cdef vec least = all_of(-88.3 if vec is f16 else -709, one), most = all_of(88 if vec is f16 else 709, one)
    cdef Py_ssize_t k
    for k in range(b.steps):
        x = load(b.x, k, one)
        near = distance_to_subnormal(x, near)
        leave_exponential(min_of(most, max_of(least, x)), 0, b, k)
    for k in range(b.steps):
        r = load(b.first, k, one)
        w = load(b.second, k, one)
        r2 = mul(r, r)
        s = add(one, w)
        r = fma_of(expm1_rest(r, r2, -1), r2, sub(sub(w, sub(s, one)), r))
        store(div(w, add(s, r)), b.value, k)
    doubt[0] = if_subnormal(near)


cdef inline void wide_sigmoid(Point* p) noexcept nogil:
    cdef wide_real e = expl(-fabsl(p.x))
    p.value = (e if p.x < 0 else 1) / (1 + e)


cdef inline void sigmoid_backward(vec* doubt, const Points* block) noexcept nogil:
    """x (1 - x) y, x a sigmoid and y the gradient that arrives: its derivative by what the sigmoid is of.

    A slope of exactly 0 drops an infinite y, and keeps NaN.
    """
    cdef Points b = block[0]
    cdef vec zero = all_of(0, doubt[0]), one = all_of(1, zero), slope, y
    cdef vec most = all_of(3.4028234663852886e38 if vec is f16 else 1.7976931348623157e308, zero)
    cdef Py_ssize_t k
    for k in range(b.steps):
        slope = load(b.x, k, zero)
        slope = mul(slope, sub(one, slope))
        y = load(b.y, k, zero)
        y = if_equal(slope, zero, max_of(negative(most), min_of(most, y)), y)
        store(mul(slope, y), b.value, k)
    doubt[0] = zero


cdef inline void logsigmoid(vec* doubt, const Points* block) noexcept nogil:
    """min(x, 0) - log(1 + exp(-|x|))."""
    cdef Points b = block[0]
    cdef vec zero = all_of(0, doubt[0]), near = all_of(INFINITY, zero), x, t
    cdef Py_ssize_t k
    leave_logistic(zero, b, False)
    for k in range(b.steps):
        x = load(b.x, k, zero)
        near = distance_to_subnormal(negative(x), near)
        t = log1p_of(load(b.first, k, zero), load(b.second, k, zero))
        store(sub(min_of(zero, x), t), b.value, k)
    doubt[0] = if_subnormal(near)


cdef inline void wide_logsigmoid(Point* p) noexcept nogil:
    p.value = (p.x if p.x < 0 else 0) - log1pl(expl(-fabsl(p.x)))


cdef inline void softplus(vec* doubt, const Points* block) noexcept nogil:
    """max(x, 0) + log(1 + exp(-|x|))."""
    cdef Points b = block[0]
    cdef vec zero = all_of(0, doubt[0]), near = all_of(INFINITY, zero), x, t
    cdef Py_ssize_t k
    leave_logistic(zero, b, False)
    for k in range(b.steps):
        x = load(b.x, k, zero)
        near = distance_to_subnormal(x, near)
        t = log1p_of(load(b.first, k, zero), load(b.second, k, zero))
        store(add(max_of(zero, x), t), b.value, k)
    doubt[0] = if_subnormal(near)


cdef inline void wide_softplus(Point* p) noexcept nogil:
    p.value = (p.x if p.x > 0 else 0) + log1pl(expl(-fabsl(p.x)))


# ---- Logarithms and entropies of an element ----


cdef inline vec if_beyond(vec least, vec most) noexcept nogil:
    """1 where these are not within the normal numbers of which a logarithm is taken."""
    cdef vec low = if_less_than(least, 1.1754943508222875e-38 if vec is f16 else 2.2250738585072014e-308)
    return either(low, if_more(most, 1e38 if vec is f16 else 4e307))


cdef inline void xlogy(vec* doubt, const Points* block) noexcept nogil:
    """x log y, 0 where x is 0."""
    x_log_y(doubt, block[0], False)


cdef inline void entr(vec* doubt, const Points* block) noexcept nogil:
    """-x log x, 0 at 0 and -inf below."""
    x_log_y(doubt, block[0], True)


cdef inline void x_log_y(vec* doubt, Points b, bint ENTR) noexcept nogil:
    """With ENTR the negative of it, and y is x."""
    cdef vec one = all_of(1, doubt[0]), zero = all_of(0, one), low = one, high = one, x, y, power = one
    cdef Py_ssize_t k
    for k in range(b.steps):
        x = load(b.x, k, one)
        if ENTR:
            y = if_less(zero, x, x, one)
        else:
            y = load(b.y, k, one)
            y = if_equal(x, zero, if_equal(y, y, one, y), y)
        low = min_of(y, low)
        high = max_of(y, high)
        leave_logarithm(sub(mul(y, inverse_power(y, &power)), one), power, b, k)
    for k in range(b.steps):
        x = load(b.x, k, one)
        y = mul(x, left_logarithm(b, k, one))
        if ENTR:  # 0 is not made -0
            y = if_less(x, zero, all_of(-INFINITY, x), if_equal(y, zero, y, negative(y)))
        store(y, b.value, k)
    doubt[0] = if_beyond(low, high)


cdef inline void wide_xlogy(Point* p) noexcept nogil:
    p.value = 0 if p.x == 0 and p.y == p.y else p.x * logl(p.y)


cdef inline void wide_entr(Point* p) noexcept nogil:
    p.value = -p.x * logl(p.x) if p.x > 0 else p.x if p.x != p.x else 0 if p.x == 0 else -INFINITY


cdef inline void rel_entr(vec* doubt, const Points* block) noexcept nogil:
    """x log(x / y), 0 where x is 0."""
    x_log_ratio(doubt, block[0], False)


cdef inline void kl_div_of_masses(vec* doubt, const Points* block) noexcept nogil:
    """x log(x / y) - x + y."""
    x_log_ratio(doubt, block[0], True)


cdef inline void x_log_ratio(vec* doubt, Points b, bint WITH_MASSES) noexcept nogil:
    """log(x / y) = log((1 + f) 2^k): x 2^-k - y is exact, f = (x 2^-k - y) / y, and y f = x - y where k is 0.

    There x log(x / y) - x + y = y s ((1 + f) s^2 p - f) with s = -f / (2 + f), whose terms do not cancel. Where x
    and y are not positive, 1 and 1 take their place, and the limit or inf that of the result.
    """
    cdef vec one = all_of(1, doubt[0]), zero = all_of(0, one), low = one, high = one, x, y, f, s, v, power = one
    cdef Py_ssize_t k
    for k in range(b.steps):
        x = load(b.x, k, one)
        y = load(b.y, k, one)
        v = if_less(zero, x, if_less(zero, y, one, zero), zero)
        x = if_equal(v, one, x, one)
        y = if_equal(v, one, y, one)
        v = div(x, y)
        low = min_of(v, min_of(y, min_of(x, low)))
        high = max_of(v, max_of(y, max_of(x, high)))
        v = inverse_power(v, &power)
        leave_logarithm(div(sub(mul(x, v), y), y), power, b, k)
    for k in range(b.steps):
        x = load(b.x, k, one)
        y = load(b.y, k, one)
        v = mul(x, left_logarithm(b, k, one))
        if WITH_MASSES:
            f = load(b.first, k, one)
            s = load(b.second, k, one)
            f = sub(mul(add(one, f), mul(mul(s, s), series_of_fraction(mul(s, s)))), f)
            v = if_equal(load(b.third, k, one), zero, mul(y, mul(s, f)), sub(v, sub(x, y)))
        s = if_equal(x, zero, if_less(y, zero, all_of(INFINITY, y), y if WITH_MASSES else zero), all_of(INFINITY, y))
        s = if_less(zero, x, if_less(zero, y, v, s), s)
        store(if_equal(x, x, if_equal(y, y, s, y), x), b.value, k)
    doubt[0] = if_beyond(low, high)


cdef inline wide_real wide_ratio_logarithm(wide_real x, wide_real y) noexcept nogil:
    """log(x / y), also where the ratio leaves the type and where it is next to 1."""
    cdef wide_real ratio = x / y
    if 0.5 < ratio < 2:
        return log1pl((x - y) / y)
    return logl(x) - logl(y) if ratio == 0 or ratio == INFINITY else logl(ratio)


cdef inline void wide_rel_entr(Point* p) noexcept nogil:
    if p.x > 0 and p.y > 0:
        p.value = p.x * wide_ratio_logarithm(p.x, p.y)
    elif p.x == p.x and p.y == p.y:
        p.value = 0 if p.x == 0 and p.y >= 0 else INFINITY
    else:
        p.value = p.x + p.y


cdef inline void wide_kl_div_of_masses(Point* p) noexcept nogil:
    if p.x > 0 and p.y > 0:
        p.value = p.x * wide_ratio_logarithm(p.x, p.y) - p.x + p.y
    elif p.x == p.x and p.y == p.y:
        p.value = p.y if p.x == 0 and p.y >= 0 else INFINITY
    else:
        p.value = p.x + p.y


cdef inline void identity(vec* doubt, const Points* block) noexcept nogil:
    """x, to be summed."""
    cdef Points b = block[0]
    cdef vec most = all_of(0, doubt[0]), v
    cdef Py_ssize_t k
    for k in range(b.steps):
        v = load(b.x, k, most)
        most = max_of(absolute_of(v), most)
        store(v, b.value, k)
    doubt[0] = if_more(most, most_of_a_sum(b.weighted, most))


cdef inline void wide_identity(Point* p) noexcept nogil:
    p.value = p.x
