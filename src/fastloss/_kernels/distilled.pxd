# distilled: how far a student's softmax is from a teacher's, from both their logits, a block in L1 at a time.
#
# With p = softmax(t / T), q = softmax(s / T), w_j = (s_j - t_j) / T and u_j = w_j - Σ p w, so that Σ p u = 0,
#     KL(p ‖ q) = log Σ p exp(u) = log1p(f),  f = Σ p_j (exp(u_j) - 1 - u_j)
#     q_j - p_j = p_j (expm1(u_j) - f) / (1 + f)
# All terms of f are at least 0, and none is a difference of larger ones: as near as student and teacher may be, nothing
# cancels. Differences are taken with what rounding loses of them, less that of the maxima: most of it may be common.
#
# Exponentials are of t / T itself, as in `rows`. A row in which classes are masked, or that is too large for that, is
# computed again with CAREFUL, less its maximum.

from libc.math cimport INFINITY, fabs
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.statistics cimport *
include "tuning.pxi"

# What is known of a row.
cdef struct Distilled:
    double inverse                 # 1 / T
    double reference               # of the exponentials
    bint careful
    double top                     # max t, and max s less that, in two parts
    double apart
    double apart_low
    double center                  # Σ p w, before 1 / T
    double total                   # Σ exp(t_j / T), up to the reference
    double f
    double value                   # what is added to that of the sample
    bint wide                      # in `wide_real`: log Σ exp of both, less the maxima; and the student's maximum
    wide_real top_of_student
    wide_real log_of_teacher
    wide_real log_of_student


cdef inline double top_of(const void* x, Py_ssize_t n, double most, vec tag) noexcept nogil:
    """The greatest of n numbers and `most`, NaN aside."""
    cdef Py_ssize_t k
    cdef vec top = all_of(most, tag)
    for k in range(steps_of(n, tag)):
        top = max_of(step_or_part(x, k, n, -INFINITY, tag), top)
    return greatest(top)


cdef inline void difference_steps(
    bint CAREFUL, const void* s, const void* t, Py_ssize_t n, const Distilled* known, vec tag, void* e, void* w,
    Sum* total, Sum* moment
) noexcept nogil:
    """e_j = exp(t_j / T) up to a factor and w_j = s_j - t_j less `apart`, up to whole steps; Σ e and Σ e w.

    What is not finite makes Σ e w NaN or inf; CAREFUL, a class that both mask does not: it has e = 0 and w = 0.
    """
    cdef int size = step_of(tag)
    cdef Py_ssize_t steps = steps_of(n, tag), full = n // size, g, k, ahead = fastloss_ahead[0]
    cdef vec magic = exp_magic(known.reference, tag), least = exp_least(known.reference, tag), zero = all_of(0, tag)
    cdef vec none = all_of(-INFINITY, tag), top = all_of(known.top, tag), inverse = all_of(known.inverse, tag)
    cdef vec apart = all_of(known.apart, tag), apart_low = all_of(known.apart_low, tag)
    cdef vec p, q, a, d, z, low, sum_group, moment_group
    cdef Sums sums, moments
    clear_sums(&sums)
    clear_sums(&moments)
    for g in range(0, steps, GROUP):
        sum_group = moment_group = zero
        for k in range(g, min(g + GROUP, steps)):
            fastloss_prefetch(<const char*>s + 64 * k + ahead)
            fastloss_prefetch(<const char*>t + 64 * k + ahead)
            p = step_or_part(t, k, n, -INFINITY, tag)
            q = step_or_part(s, k, n, -INFINITY, tag)
            a = exp_of(mul(sub(p, top) if CAREFUL else p, inverse), magic, least)
            d = sub(q, p)
            z = sub(d, q)
            low = sub(sub(q, sub(d, z)), add(p, z))
            d = add(sub(d, apart), sub(low, apart_low))
            if CAREFUL:
                d = if_equal(p, none, if_equal(q, none, zero, all_of(INFINITY, tag)), d)
            if CAREFUL or k == full:
                a = if_equal(p, none, zero, a)
            if not CAREFUL and k == full:
                d = if_less(places(tag), all_of(n - k * size, tag), d, zero)
            store(a, e, k)
            store(d, w, k)
            sum_group = add(sum_group, a)
            moment_group = fma_of(a, d, moment_group)
        add_group(sum_group, &sums)
        add_group(moment_group, &moments)
    add_sums(&sums, tag, total)
    add_sums(&moments, tag, moment)


cdef inline double divergence_steps(
    const void* e, Py_ssize_t n, const Distilled* known, vec tag, void* w, Sum* f
) noexcept nogil:
    """Add Σ e_j (exp(u_j) - 1 - u_j) to f, and leave exp(u_j) - 1 in w; returns the greatest u."""
    cdef Py_ssize_t steps = steps_of(n, tag), g, k
    cdef vec inverse = all_of(known.inverse, tag), center = all_of(known.center, tag), one = all_of(1, tag)
    cdef vec least = all_of(-87 if vec is f16 else -708, tag), near = all_of(0.34, tag), most = all_of(-INFINITY, tag)
    cdef vec u, r, r2, rest, power_of_k, more, group
    cdef Sums sums
    clear_sums(&sums)
    for g in range(0, steps, GROUP):
        group = all_of(0, tag)
        for k in range(g, min(g + GROUP, steps)):
            u = mul(sub(load(w, k, tag), center), inverse)
            most = max_of(u, most)
            r = exp_argument_of(max_of(least, u), 0, &power_of_k)
            r2 = mul(r, r)
            rest = mul(expm1_rest(r, r2, 1), r2)
            more = fma_of(add(r, rest), power_of_k, sub(power_of_k, one))
            store(more, w, k)
            group = fma_of(load(e, k, tag), if_less(absolute_of(u), near, rest, sub(more, u)), group)
        add_group(group, &sums)
    add_sums(&sums, tag, f)
    return greatest(most)


cdef inline void distilled_steps(
    const void* e, const void* w, Py_ssize_t n, const Distilled* known, double factor, bint added, vec tag, void* y
) noexcept nogil:
    """y_j = factor (q_j - p_j), from what `divergence_steps` leaves, or that `added` to it; up to a whole step."""
    cdef Py_ssize_t k
    cdef double power = 8.673617379884035e-19 if vec is f16 else 3.054936363499605e-151  # 2^-lead of e
    cdef vec f = all_of(known.f, tag), zero = all_of(0, tag), g, a, lead
    cdef double small = 1e-20 if vec is f16 else 1e-200
    cdef double more = 9.094947017729282e-13 if vec is f16 else 3.872591914849318e-121  # 2^-40, 2^-400
    cdef vec tiny = all_of(least_normal(tag), tag)
    power = power if fabs(factor) < 0.25 else 1  # which cuts off nothing then that would count
    if fabs(factor) < small:  # nor does this, for p_j (u_j - f) is more than 1e-18 then, or 1e-108
        power *= more
    a = all_of(factor / (known.total * power * (1 + known.f)), tag)
    lead = all_of(power, tag)
    for k in range(steps_of(n, tag)):
        # In this order nothing is cut off on the way.
        g = mul(mul(mul(load(e, k, tag), sub(load(w, k, tag), f)), lead), a)
        g = if_less(absolute_of(g), tiny, zero, g)
        store(add(load(y, k, tag), g) if added else g, y, k)
