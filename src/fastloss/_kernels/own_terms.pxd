# own_terms: a tile whose sums lack the label's own term, for a label's loss; and for softmax, whose sums have all.
#
# a) Exponentials are those of x itself, up to a reference that the first sample suggests. It moves exponents, and
#    nothing else while each sum is in a window; a tile with a sample outside is computed again, each with its own.
# b) With what is left of the sum a loss is log(1 + rest / own), also where it is 1e-20; where the label's term vanishes
#    beside the others, log Σ exp(x_j - m) + (m - x_t).
# c) Smoothed by c for each class a loss is (k + Σ c) times that, less c Σ (x_j - x_t), of which at most a third cancels
#    as long as 2 Σ c <= k. The gradient is (k + Σ c) p_j - c; that of the label, which may be all of p, (Σ c - c) p_t -
#    (c + k) (1 - p_t).
# d) For z_loss logsumexp is x_t + log(1 + rest / own), unless the label's term vanishes: then the sample is odd.

from libc.math cimport INFINITY, NAN, ldexp
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.tile cimport *
include "tuning.pxi"


cdef inline bint reads_own(const ClassJob* job, const Tile* s) noexcept nogil:
    """Whether x of the labels is needed beside their exponentials."""
    return s.mode == SMOOTHED or job.z_loss != 0


cdef inline bint own_samples(
    int MODE, const ClassJob* job, const Tile* s, bint own_references, vec tag
) noexcept nogil:
    """Values, and what gradients need, from the sums; whether a sample is odd, or only wants a reference of its own."""
    cdef vec own, rest, total, ratio, y, scale, slope, entry, f, odd, peak, far
    cdef vec any_odd = all_of(0, tag), one = all_of(1, tag), two = all_of(2, tag), zero = all_of(0, tag)
    cdef vec tiny = all_of(least_normal(tag), tag)
    cdef double lead = plane_lead(tag), around = 30 if vec is f16 else 300
    cdef double beyond = ldexp(1, 100 if vec is f16 else 930)
    cdef double c = 0, more = 0, most
    cdef Py_ssize_t i
    most = ldexp(1, 60) if job.z_loss != 0 else ldexp(1, 80 if vec is f16 else 500)
    if MODE == SMOOTHED:
        c = element(job.shared, 0, tag)
        more = job.shared_sum
    scale = slope = entry = one
    for i in range(s.steps):
        rest = load(s.rest, i, tag)
        total = rest
        if s.by_label:
            own = load(s.unit, i, tag)
            total = add(rest, own)
            ratio = div(rest, own)
            y = log1p_of_ratio(ratio)
        if own_references:
            odd = if_equal(total, total, zero, two)
            if s.by_label:
                peak = exp_of(load(s.top, i, tag), load(s.magic, i, tag), load(s.least, i, tag))
                far = add(log1p_of_ratio(sub(div(total, peak), one)), sub(load(s.top, i, tag), load(s.own, i, tag)))
                y = if_less(all_of(beyond, tag), ratio, far, y)
                if job.z_loss != 0:
                    odd = if_less(ratio, all_of(most, tag), odd, two)
        else:  # what is cut off must not count in the lesser part
            odd = if_within(total, ldexp(1, <int>(lead - around)), ldexp(1, <int>(lead + around)), zero, two)
            if s.by_label:
                odd = if_within(ratio, 1 / most, most, odd, two)
        if s.by_label:
            scale = all_of(s.scale_of_all, tag)
            if MODE == SMOOTHED:
                y = fma_of(all_of(job.index_scale + more, tag), y, mul(all_of(-c, tag), load(s.b, i, tag)))
            if job.headed:
                y = headed(
                    job, s, i, y, load(s.own, i, tag), y, div(own, total), div(rest, total), &slope, &entry
                )
            if s.weighted:
                y = weighted_value(y, load(s.weight, i, tag))
                scale = load(s.scale, i, tag)
            y = within(y, 0, 1e30 if vec is f16 else 1e270)
            odd = if_equal(y, y, odd, two)
            store(y, s.value, i)
        if job.with_grad:
            if job.headed:
                entry = mul(scale, entry)
                scale = within(mul(scale, slope), 1e-22 if vec is f16 else 1e-150, 1e6)
            f = factor_of(scale, total, &odd)
            if MODE == SMOOTHED:
                entry = mul(f, sub(mul(all_of(more - c, tag), own), mul(all_of(job.index_scale + c, tag), rest)))
                store(mul(all_of(job.index_scale + more, tag), f), s.factor, i)
                store(mul(all_of(c, tag), scale), s.flush, i)
            else:
                store(f, s.factor, i)
                store(mul(total, div(tiny, absolute_of(scale))), s.flush, i)
                if not job.headed:
                    entry = negative(mul(f, rest))
            store(if_less(absolute_of(entry), tiny, zero, entry), s.entry, i)
        store(odd, s.odd, i)
        any_odd = max_of(any_odd, odd)
    return greatest(any_odd) > 0


cdef inline bint own_samples_of(vec* type, const ClassJob* job, const Tile* s, bint own_references) noexcept nogil:
    cdef vec tag
    if s.mode == SMOOTHED:
        return own_samples(SMOOTHED, job, s, own_references, tag)
    return own_samples(LABELLED, job, s, own_references, tag)


ctypedef bint (*own_samples_function)(void*, const ClassJob*, const Tile*, bint) noexcept nogil


cdef inline void suggest_reference(
    const ClassJob* job, Tile* s, const real* x, Py_ssize_t stride, vec tag
) noexcept nogil:
    """That of the first sample. x may end with the tile."""
    cdef real top = <real>-INFINITY
    cdef Py_ssize_t j
    for j in range(job.classes):
        top = x[j * stride] if x[j * stride] > top else top
    s.reference = exp_reference(top, plane_lead(tag), tag)


cdef inline double most_in_reach(double c, vec tag) noexcept nogil:
    """The greatest x whose exponential does not wrap with the reference c."""
    return (c + (110 if vec is f16 else 1000)) * 0.693147180559945309


cdef inline void fill_beyond(real* tag, const Tile* s) noexcept nogil:
    """Usual sums in the lanes behind the last sample."""
    cdef real usual = <real>1125899906842624.0 if sizeof(real) == 4 else <real>3.273390607896142e150  # 2^50, 2^500
    cdef Py_ssize_t l
    for l in range(s.count, s.n):
        (<real*>s.unit)[l] = (<real*>s.rest)[l] = usual
        (<real*>s.top)[l] = (<real*>s.own)[l] = (<real*>s.a)[l] = (<real*>s.a_low)[l] = (<real*>s.b)[l] = <real>0
