# statistics: what a pass over the classes of a sample collects, a block in L1 at a time, by steps.
#
# a) The order of the additions, and with it the bits, is that of a step, whatever registers it stands in. No sum in
#    the loop's type is longer than GROUP steps: in a long sum of equal terms all rounding errors may point one way.
#    In float32 sums continue in float64, in float64 with what rounding lost of each group.
# b) Exponentials are stored, and summed by a loop of their own: so the label's can be taken out in between.

from libc.math cimport INFINITY, fabs
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport fastloss_ahead
include "tuning.pxi"

# What one pass over a sample collects besides the maximum and the sum of exponentials.
cdef enum:
    PLAIN      # nothing
    SHARED     # sum c_j d_j, c the same for all samples
    UNIFORM    # sum c d_j, c the same for all classes too, and not 0
    LINEAR     # sum c_j and sum c_j d_j
    EXPECTED   # sum exp(d_j) d_j
    SQUARED    # the same and sum exp(d_j) d_j^2

# A sum in float64 and what rounding lost of it; and the same of a step's lanes.
cdef struct Sum:
    double total
    double low

cdef struct Sums:
    d8 total
    d8 low


cdef inline double least_normal(vec tag) noexcept nogil:
    return 1.17549435e-38 if vec is f16 else 2.2250738585072014e-308


cdef inline void clear_sums(Sums* sums) noexcept nogil:
    sums.total = sums.low = d8_all(0)


cdef inline void add_group(vec group, Sums* sums) noexcept nogil:
    """Add the sum of a group of steps."""
    cdef d8 t, z
    if vec is f16:
        sums.total = add(sums.total, d8_of_halves(group))
    else:
        t = add(sums.total, group)
        z = sub(t, sums.total)
        sums.low = add(sums.low, add(sub(sums.total, sub(t, z)), sub(group, z)))
        sums.total = t


cdef inline void add_halves(vec x, Sums* sums) noexcept nogil:
    """Add a step to sums in float64, of either half; those of float64 have what rounding lost in `low`."""
    if vec is f16:
        sums.total = add(sums.total, d8_of_half(x, False))
        sums.low = add(sums.low, d8_of_half(x, True))
    else:
        add_group(x, sums)


cdef inline void add_sums(const Sums* sums, vec tag, Sum* s) noexcept nogil:
    two_sum(d8_sum(sums.total), &s.total, &s.low)
    if vec is d8:
        s.low += d8_sum(sums.low)


cdef inline vec exp_steps(
    int STORAGE, bint SCALED, const void* x, Py_ssize_t n, Py_ssize_t ahead, vec scale, vec magic, vec least,
    void* e
) noexcept nogil:
    """e_j = `exp_of` x_j, times scale if SCALED, for n classes, up to a whole step; returns the maximum, NaN aside.

    Prefetches what is read `ahead` bytes later; harmless where there is nothing.
    """
    cdef Py_ssize_t k, full = n // step_of(magic)
    cdef vec p, top = all_of(-INFINITY, magic)
    for k in range(full):
        fastloss_prefetch(<const char*>x + (64 if STORAGE == NATIVE else 32) * k + ahead)
        p = load_as(STORAGE, x, k, magic)
        if SCALED:
            p = mul(p, scale)
        top = max_of(p, top)
        store(exp_of(p, magic, least), e, k)
    if n > full * step_of(magic):
        p = load_part_as(STORAGE, x, full, n - full * step_of(magic), -INFINITY, magic)
        if SCALED:
            p = mul(p, scale)
        top = max_of(p, top)
        store(exp_of(p, magic, least), e, full)
    return top


cdef inline vec counted(bint SKIP, const void* e, Py_ssize_t k, vec skipped) noexcept nogil:
    """A step, with 0 in place of `skipped` if SKIP."""
    cdef vec p = load(e, k, skipped)
    return if_equal(p, skipped, all_of(0, skipped), p) if SKIP else p


cdef inline void take_out(void* e, Py_ssize_t j, vec tag) noexcept nogil:
    """e_j = 0, as a step: a load of all of it would wait for the store of a part."""
    cdef int size = step_of(tag)
    cdef Py_ssize_t k = j // size
    store(if_equal(places(tag), all_of(j - k * size, tag), all_of(0, tag), load(e, k, tag)), e, k)


cdef inline void add_steps(const void* e, Py_ssize_t n, bint SKIP, double unit, vec tag, Sums* sums) noexcept nogil:
    """Add n numbers, up to a whole step, to sums; those that are `unit` are left out if SKIP."""
    cdef Py_ssize_t steps = steps_of(n, tag), g, k
    cdef vec group, skipped = all_of(unit, tag)
    for g in range(0, steps - GROUP + 1, GROUP):
        add_group(
            add(
                add(
                    add(counted(SKIP, e, g, skipped), counted(SKIP, e, g + 1, skipped)),
                    add(counted(SKIP, e, g + 2, skipped), counted(SKIP, e, g + 3, skipped)),
                ),
                add(
                    add(counted(SKIP, e, g + 4, skipped), counted(SKIP, e, g + 5, skipped)),
                    add(counted(SKIP, e, g + 6, skipped), counted(SKIP, e, g + 7, skipped)),
                ),
            ),
            sums,
        )
    g = steps - steps % GROUP
    if g < steps:
        group = counted(SKIP, e, g, skipped)
        for k in range(g + 1, steps):
            group = add(group, counted(SKIP, e, k, skipped))
        add_group(group, sums)


cdef inline void sum_steps(const void* e, Py_ssize_t n, bint SKIP, double unit, vec tag, Sum* s) noexcept nogil:
    """`add_steps` to s."""
    cdef Sums sums
    clear_sums(&sums)
    add_steps(e, n, SKIP, unit, tag, &sums)
    add_sums(&sums, tag, s)


cdef inline double sum_of_steps(const void* e, Py_ssize_t n, bint SKIP, double unit, vec tag) noexcept nogil:
    """The sum of n numbers alone: what `sum_steps` adds to 0."""
    cdef Sums sums
    clear_sums(&sums)
    add_steps(e, n, SKIP, unit, tag, &sums)
    if vec is f16:
        return d8_sum(sums.total)
    else:
        return joined(d8_sum(sums.total), d8_sum(sums.low))


cdef inline void linear_step(
    int MODE, vec p, vec c, vec m, vec* a, vec* b, Sums* a_sums, vec* low
) noexcept nogil:
    """A step of `linear_steps`, added to the sums of its group."""
    cdef vec zero = all_of(0, p), d = sub(p, m)
    if MODE == UNIFORM:
        b[0] = add(b[0], d)
    elif MODE == EXPECTED or MODE == SQUARED:  # where x is -inf, its exponential does not count
        d = max_of(all_of(-1e4, p), d)
        b[0] = fma_of(c, d, b[0])
        if MODE == SQUARED:
            a[0] = fma_of(mul(c, d), d, a[0])
    else:
        b[0] = fma_of(c, if_equal(c, zero, zero, d), b[0])
    if MODE == LINEAR:
        low[0] = min_of(c, low[0])
        if vec is f16:  # exactly: the gradient needs a - c_j where one c_j is nearly all of a
            add_halves(c, a_sums)
        else:
            a[0] = add(a[0], c)


cdef inline vec linear_steps(
    int MODE, const void* x, const void* c, const void* e, Py_ssize_t n, double top, vec tag, Sum* a, Sum* b
) noexcept nogil:
    """Add Σ c_j to a (LINEAR) and to b Σ c_j d_j, d_j = x_j - top: c all 1 (UNIFORM), or e_j (EXPECTED).

    SQUARED adds Σ e_j d_j^2 to a besides. c is 0 where it does not count, whatever x is there. Returns, of LINEAR, the
    least c, of those that are negative.
    """
    cdef int size = step_of(tag)
    cdef Py_ssize_t steps = steps_of(n, tag), g, k, ahead = fastloss_ahead[1]
    cdef vec m = all_of(top, tag), zero = all_of(0, tag), p, c_k = zero, a_group, b_group, low = zero
    cdef const void* weights = e if MODE == EXPECTED or MODE == SQUARED else c
    cdef Sums a_sums, b_sums
    clear_sums(&a_sums)
    clear_sums(&b_sums)
    for g in range(0, steps, GROUP):
        a_group = b_group = zero
        if (g + GROUP) * size <= n:
            for k in range(GROUP):
                if MODE == LINEAR:
                    fastloss_prefetch(<const char*>c + 64 * (g + k) + ahead)
                if MODE != UNIFORM:
                    c_k = load(weights, g + k, tag)
                linear_step(MODE, load(x, g + k, tag), c_k, m, &a_group, &b_group, &a_sums, &low)
        else:
            for k in range(g, steps):
                p = step_or_part(x, k, n, top, tag)
                if MODE != UNIFORM:
                    c_k = step_or_part(weights, k, n, 0, tag)
                linear_step(MODE, p, c_k, m, &a_group, &b_group, &a_sums, &low)
        add_group(b_group, &b_sums)
        if MODE == SQUARED or MODE == LINEAR and vec is d8:
            add_group(a_group, &a_sums)
    add_sums(&b_sums, tag, b)
    if MODE == SQUARED:
        add_sums(&a_sums, tag, a)
    if MODE == LINEAR:
        if vec is f16:
            a_sums.total = add(a_sums.total, a_sums.low)
        add_sums(&a_sums, tag, a)
    return low


cdef inline vec linear_steps_of(
    int mode, const void* x, const void* c, const void* e, Py_ssize_t n, double top, vec tag, Sum* a, Sum* b
) noexcept nogil:
    """`linear_steps` of a mode that is no literal."""
    if mode == UNIFORM:
        return linear_steps(UNIFORM, x, c, e, n, top, tag, a, b)
    if mode == SHARED:
        return linear_steps(SHARED, x, c, e, n, top, tag, a, b)
    if mode == EXPECTED:
        return linear_steps(EXPECTED, x, c, e, n, top, tag, a, b)
    if mode == SQUARED:
        return linear_steps(SQUARED, x, c, e, n, top, tag, a, b)
    return linear_steps(LINEAR, x, c, e, n, top, tag, a, b)


# What the entries of a gradient are computed from besides exponentials and coefficients.
cdef struct Gradient:
    double factor
    double least                   # exponentials that are less count as 0
    double a                       # Σ c_j, with what the label has,
    double lost                    # and what it has besides
    double uniform                 # c_j where they are all the same
    double unit                    # the exponential that `others` does not have
    double others
    double entry                   # of the label


cdef inline void gradient_steps(
    int MODE, int STORAGE, const void* e, const void* c, Py_ssize_t n, const Gradient* of, vec tag, void* grad
) noexcept nogil:
    """n entries of a gradient, or of a softmax, from the exponentials: factor e_j; with coefficients factor
    ((a - c_j) e_j - c_j (others + (unit - e_j))), in which a target of one class loses nothing: a = c_j leaves 1 - p_j.
    """
    cdef int size = step_of(tag)
    cdef Py_ssize_t k, full = n // size
    cdef vec zero = all_of(0, tag), f = all_of(of.factor, tag), low_end = all_of(of.least, tag), p, y
    cdef vec a_high = all_of(of.a, tag), a_low = all_of(of.a - first(a_high) + of.lost, tag)
    cdef vec rest = all_of(of.others, tag), one = all_of(of.unit, tag), c_k = all_of(of.uniform, tag)
    for k in range(steps_of(n, tag)):
        p = load(e, k, tag)
        p = if_less(p, low_end, zero, p)
        if MODE == PLAIN:
            y = mul(p, f)
        else:
            if MODE != UNIFORM:
                c_k = step_or_part(c, k, n, 0, tag)
            y = mul(add(sub(a_high, c_k), a_low), p)
            y = mul(sub(y, mul(c_k, add(rest, sub(one, p)))), f)
        if k < full:
            store_as(STORAGE, y, grad, k)
        else:
            store_part_as(STORAGE, y, grad, k, n - k * size)


cdef inline void gradient_steps_of(
    vec* type, int mode, const void* e, const void* c, Py_ssize_t n, const Gradient* of, void* grad
) noexcept nogil:
    """`gradient_steps` of a mode that is no literal."""
    cdef vec tag
    if mode == PLAIN:
        gradient_steps(PLAIN, NATIVE, e, c, n, of, tag, grad)
    elif mode == UNIFORM:
        gradient_steps(UNIFORM, NATIVE, e, c, n, of, tag, grad)
    else:
        gradient_steps(LINEAR, NATIVE, e, c, n, of, tag, grad)

ctypedef void (*gradient_steps_function)(
    void*, int, const void*, const void*, Py_ssize_t, const Gradient*, void*
) noexcept nogil


# What the diagonal of a Hessian is computed from: p_j (a (1 - p_j) + b p_j), p_j = e_j inverse.
cdef struct Curve:
    double a
    double b
    double others                  # the sum of all exponentials but the greatest,
    double unit                    # which is this,
    double inverse                 # and 1 / their sum
    double floor
    double entry                   # of the label


cdef inline vec curve_of(vec e, vec a, vec b, vec others, vec unit, vec inverse, vec floor) noexcept nogil:
    """Where e is the greatest, 1 - p is the sum of all others: it loses no digits."""
    cdef vec p = mul(e, inverse), not_p = mul(add(others, sub(unit, e)), inverse)
    return max_of(floor, mul(p, fma_of(a, not_p, mul(b, p))))


cdef inline void curve_steps(const void* e, Py_ssize_t n, const Curve* curve, vec tag, void* hess) noexcept nogil:
    """n entries of a Hessian's diagonal from the exponentials; e_j that leave none count as 0."""
    cdef Py_ssize_t k
    cdef vec a = all_of(curve.a, tag), b = all_of(curve.b, tag), others = all_of(curve.others, tag), q
    cdef vec unit = all_of(curve.unit, tag), inverse = all_of(curve.inverse, tag), floor = all_of(curve.floor, tag)
    cdef double largest = max(fabs(curve.a), fabs(curve.b)) * curve.inverse
    cdef vec zero = all_of(0, tag), least = all_of(least_normal(tag) / largest, tag)
    for k in range(steps_of(n, tag)):
        q = load(e, k, tag)
        store_or_part(curve_of(if_less(q, least, zero, q), a, b, others, unit, inverse, floor), hess, k, n)


cdef inline void exp_gradient_steps(
    int STORAGE, int OUT, const void* x, Py_ssize_t n, vec magic, vec least_exp, double factor, double least, void* grad
) noexcept nogil:
    """`gradient_steps` (PLAIN) from x itself, without a buffer; grad may be x."""
    cdef int size = step_of(magic)
    cdef Py_ssize_t ahead = fastloss_ahead[1], k, full, before = before_line(grad, n, magic) if OUT == STREAMED else 0
    cdef vec zero = all_of(0, magic), f = all_of(factor, magic), low_end = all_of(least, magic), e
    if before > 0:
        e = exp_of(load_part_as(STORAGE, x, 0, before, 0, magic), magic, least_exp)
        store_part_as(NATIVE, mul(if_less(e, low_end, zero, e), f), grad, 0, before)
        x = <const char*>x + before * (64 // size)
        grad = <char*>grad + before * (64 // size)
        n -= before
    full = n // size
    for k in range(full):
        fastloss_prefetch(<const char*>x + (32 if STORAGE == FLOAT16 or STORAGE == BFLOAT16 else 64) * k + ahead)
        e = exp_of(load_as(STORAGE, x, k, magic), magic, least_exp)
        store_as(OUT, mul(if_less(e, low_end, zero, e), f), grad, k)
    if n > full * size:
        e = exp_of(load_part_as(STORAGE, x, full, n - full * size, 0, magic), magic, least_exp)
        store_part_as(
            NATIVE if OUT == STREAMED else OUT, mul(if_less(e, low_end, zero, e), f), grad, full, n - full * size
        )
