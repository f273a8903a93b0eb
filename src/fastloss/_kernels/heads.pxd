# heads: the losses with classes, from what was collected of a sample to its value and derivatives.
#
# A sample x_1..x_C is summarised in one pass by its maximum m and, with d_j = x_j - m, by
#     others = sum_j exp(d_j) - 1,   the sum without one maximum's own 1, at full relative precision,
# so that log sum_j exp(x_j) = m + log1p(others), and a confident row (others ~ 1e-9) loses nothing.
#
# The loss of a sample is  sum_j c_j (L - d_j) + k (L - d_t)  with L = log1p(others):
#     index target      k = w_t, no c            cross-entropy from class indices
#     + smoothing       k = (1 - eps) w_t,       c_j = eps/C w_j, the same for all samples
#     probabilities     c_j = w_j ((1 - eps) q_j + eps/C)
#     counts            c_j = k_j                multinomial likelihood
# and its gradient is (sum_j c_j + k) p_j - c_j - k [j = t] with p = softmax(x).
# With a = sum_j c_j + k the diagonal of its Hessian is a p_j (1 - p_j).
#
# Other losses of a label are k phi(l) for its cross-entropy l = L - d_t, their gradient is k phi'(l) times that of l
# (`head_of`). The square of s = logsumexp(x) adds z_loss s^2, and 2 z_loss s p_j to the gradient. With a softcap x is
# `capped` as it is read, and the gradient multiplied by its slope as it is written. The Hessian's diagonal is then
#     a p_j (1 - p_j) + 2 z_loss p_j^2 + k phi''(l) (p_j - [j = t])^2,   a = sum_j c_j + k phi'(l) + 2 z_loss s
# (`bend_of`), and with a softcap, of slope u, u^2 times that and u' times the gradient before.
#
# Numbers are added up in fixed places of steps, classes of one sample in `rows`, samples side by side in tiles: the
# order of the additions, and with it the bits, does not depend on the instruction set. Sums in the loop's type are
# short: in a long sum of equal terms all rounding errors may point the same way. The statistics of up to LANES samples
# are collected in a Batch, whose logarithms and values are computed together (`finish`).

from libc.math cimport exp, fabs, pow
from libc.string cimport memset
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.exact cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.reading cimport *
from fastloss._kernels.labels cimport *
include "tuning.pxi"

# Statistics of up to LANES samples.
cdef struct Batch:
    double top[LANES]              # m
    double others[LANES]
    double a[LANES]                # sum c_j
    double b[LANES]                # sum c_j d_j; for entropy and moments sum exp(d_j) d_j, with a sum exp(d_j) d_j^2
    double k[LANES]                # weight of the index term
    double d[LANES]                # d_t
    double own[LANES]              # exp(d_t)
    double slope[LANES]            # phi'(l)
    double square[LANES]           # derivative of the square of logsumexp: 2 z_loss s
    double keep[LANES]             # 0 where the sample does not count, otherwise 1
    double log_sum[LANES]          # log1p(others)
    double value[LANES]
    bint any_wide                  # is_wide is set, and says where `wide` is the value
    bint is_wide[LANES]
    wide_real wide[LANES]

# A sample's statistics in `wide_real`, its weight and what its gradient is multiplied by.
cdef struct Wide:
    wide_real top
    wide_real others
    wide_real a
    wide_real b
    wide_real k
    wide_real d
    wide_real phi
    wide_real slope
    wide_real square
    wide_real weight
    wide_real scale
    wide_real bend               # phi''(l) (1 - p_t)
    wide_real not_p              # 1 - p_t


cdef inline int mode_of(const ClassJob* job) noexcept nogil:
    """What a pass over the classes collects."""
    if job.op == ENTROPY_FROM_LOGITS:
        return EXPECTED
    if job.op == MOMENTS:
        return SQUARED
    if job.op != LOSS_LINEAR and not (job.op == PARTIAL and job.shared != NULL):
        return PLAIN
    return UNIFORM if job.uniform else SHARED if job.shared != NULL else LINEAR


# ---- Heads: what becomes of the cross-entropy of a label ----


cdef inline vec head_of(const ClassJob* job, vec l, vec p, vec not_p, vec* slope) noexcept nogil:
    """phi(l) and its slope, for l = -log p of the label, p and 1 - p, each at full relative precision.

        CROSS_ENTROPY  l                          1
        FOCAL          (1 - p)^gamma l            (1 - p)^gamma (1 + gamma p l / (1 - p))
        GENERALIZED    (1 - p^q) / q              p^q
        POLY           l + epsilon (1 - p)        1 + epsilon p

    At p = 1, l / (1 - p) is 1; at p = 0, where l is inf, p l is 0.
    """
    cdef vec one = all_of(1, l), zero = all_of(0, l), a, b, c
    cdef double parameter = job.head_parameter
    if job.head == FOCAL:
        a = power_of(not_p, parameter)
        b = if_equal(not_p, zero, one, div(l, not_p))
        b = if_equal(l, all_of(INFINITY, l), zero, mul(p, b))
        slope[0] = fma_of(mul(a, all_of(min(parameter, 1e30), l)), b, a)
        return mul(a, l)
    if job.head == GENERALIZED:
        c = all_of(max(parameter, 1e-30), l)
        return div(negative(expm1_of(negative(mul(c, l)), slope)), c)
    if job.head == POLY:
        c = all_of(parameter, l)
        slope[0] = fma_of(c, p, one)
        return fma_of(c, not_p, l)
    slope[0] = one
    return l


cdef inline double bend_of(const ClassJob* job, double l, double p, double not_p) noexcept nogil:
    """(1 - p) phi''(l), for l, p and 1 - p as in `head_of`: 0 at a masked label.

        FOCAL          gamma p (1 - p)^gamma (2 - l + (gamma - 1) p l / (1 - p))
        GENERALIZED    -q p^q (1 - p)
        POLY           -epsilon p (1 - p)
    """
    cdef double parameter = job.head_parameter, bend = 0
    if job.head == FOCAL and l < INFINITY:
        bend = (2 - l) + (parameter - 1) * p * (l / not_p if not_p != 0 else 1.0)
        bend *= parameter * p * pow(not_p, parameter)
    elif job.head == GENERALIZED:
        bend = -parameter * exp(-parameter * l) * not_p
    elif job.head == POLY:
        bend = -parameter * p * not_p
    return bend if l == l else l


cdef inline void curve_of_label(
    const ClassJob* job, double a, double k, double l, double own, double others, double scale, Curve* curve
) noexcept nogil:
    """What a sample's second derivatives are computed from, and that of its label, whose -log p is l, from exp(d_t)."""
    cdef double p = own / (1 + others), not_p = (others + (1 - own)) / (1 + others)
    cdef double bend = k * bend_of(job, l, p, not_p), square = 2 * job.z_loss, more
    if job.hessian.convex:
        a = a if not a < 0 else 0
        bend = bend if not bend < 0 else 0
    more = bend / not_p if not_p != 0 else 0
    curve.a = scale * a
    curve.b = scale * (square + more)
    curve.entry = scale * (p * (a * not_p + square * p) + bend * not_p)

ctypedef void (*curve_of_label_function)(
    const ClassJob*, double, double, double, double, double, double, Curve*
) noexcept nogil


cdef inline bint is_usual_head(const ClassJob* job, double top) noexcept nogil:
    """Whether options leave a sample with this maximum in the range of float64, and its gradient in that of float32."""
    return (job.head != POLY or fabs(job.head_parameter) <= 1e6) and job.z_loss * (fabs(top) + 1e3) <= 1e6


cdef inline vec square_of(const ClassJob* job, vec top, vec log_sum, vec* value) noexcept nogil:
    """Add z_loss s^2 to a value, s = top + log_sum; its derivative."""
    cdef vec s = add(top, log_sum), z_s = mul(all_of(job.z_loss, s), s)
    value[0] = fma_of(z_s, s, value[0])
    return add(z_s, z_s)


cdef inline void heads(const ClassJob* job, Py_ssize_t first, Py_ssize_t n, Batch* batch) noexcept nogil:
    """Values, unweighted, and slopes of n places from `first` on, multiples of 8. To be called out of line."""
    cdef Py_ssize_t l
    cdef d8 one = d8_all(1), zero = d8_all(0), others, own, total, log_sum, k, value, slope
    for l in range(first, first + n, 8):
        others = d8_load(batch.others + l)
        own = d8_load(batch.own + l)
        k = d8_load(batch.k + l)
        log_sum = log1p_of_sum(others)
        total = add(one, others)
        value = head_of(
            job, sub(log_sum, d8_load(batch.d + l)), div(own, total), div(add(others, sub(one, own)), total), &slope
        )
        value = mul(k, if_equal(k, zero, log_sum, value))  # a weight of 0 drops inf, but keeps NaN
        if job.op == LOSS_LINEAR:
            value = add(value, sub(mul(d8_load(batch.a + l), log_sum), d8_load(batch.b + l)))
        if job.z_loss != 0:
            d8_store(square_of(job, d8_load(batch.top + l), log_sum, &value), batch.square + l)
        d8_store(log_sum, batch.log_sum + l)
        d8_store(value, batch.value + l)
        d8_store(slope, batch.slope + l)

ctypedef void (*heads_function)(const ClassJob*, Py_ssize_t, Py_ssize_t, Batch*) noexcept nogil


cdef inline wide_real wide_capped(wide_real x, double cap, wide_real* slope) noexcept nogil:
    cdef wide_real e = expl(-2 * fabsl(x) / cap)
    slope[0] = 4 * e / ((1 + e) * (1 + e))
    return cap * tanhl(x / cap) if fabsl(x) < INFINITY else x


cdef inline wide_real wide_head(
    int head, wide_real l, wide_real p, wide_real not_p, double parameter, wide_real* slope
) noexcept nogil:
    """`head_of` in `wide_real`."""
    cdef wide_real a
    slope[0] = 1
    if head == FOCAL:
        a = powl(not_p, parameter)
        slope[0] = a * (1 + parameter * (p * (l / not_p if not_p != 0 else 1) if l < INFINITY else 0))
        return a * l
    if head == GENERALIZED:
        slope[0] = expl(-parameter * l)
        return -expm1l(-parameter * l) / parameter
    if head == POLY:
        slope[0] = 1 + parameter * p
        return l + parameter * not_p
    return l


cdef inline wide_real wide_bend(
    int head, wide_real l, wide_real p, wide_real not_p, double parameter
) noexcept nogil:
    """`bend_of` in `wide_real`."""
    if head == FOCAL and l < INFINITY:
        return parameter * p * powl(not_p, parameter) * (
            (2 - l) + (parameter - 1) * p * (l / not_p if not_p != 0 else 1)
        )
    if head == GENERALIZED:
        return -parameter * expl(-parameter * l) * not_p
    if head == POLY:
        return -parameter * p * not_p
    return 0


cdef inline double sum_past_inf(const ClassJob* job, Py_ssize_t position) noexcept nogil:
    """`others` of a logsumexp whose sample, at `position`, has no finite maximum: NaN if it holds NaN, otherwise 0."""
    cdef Py_ssize_t j
    cdef double x
    for j in range(job.classes):
        x = stored(job, job.x, job.storage, position + j * job.inner)
        if x != x:
            return NAN
    return 0


cdef inline void log_sum_exp(double m, double log_sum, real* high, real* low) noexcept nogil:
    """m + log_sum as high + low. m is of their type, so |low| <= log_sum: its rounding is one of log_softmax."""
    cdef double s = m + log_sum
    high[0] = <real>s
    low[0] = <real>((s - high[0]) + sum_low(m, log_sum, s))


cdef inline real least_that_counts(real factor) noexcept nogil:
    """From here on a number times factor is normal. Below it, it is taken as 0: subnormal numbers are slow."""
    cdef real tiny = <real>1.17549435e-38 if sizeof(real) == 4 else <real>2.2250738585072014e-308
    return tiny / absolute(factor) * <real>0.999


cdef inline double gradient_scale(const ClassJob* job, Py_ssize_t i) noexcept nogil:
    """What the gradient of sample i is multiplied by; 0 only if it is, and inf or 2^-1000 out of range."""
    cdef double weight = per_sample(job, job.sample_weight, i)
    cdef double upstream = per_sample(job, job.grad_output, i)
    cdef double scale = job.grad_scale * weight * upstream
    cdef wide_real wide
    if 1e-270 <= fabs(scale) <= 1e270:
        return scale
    wide = times(times(weight, upstream), job.wide_scale)
    scale = <double>wide
    return 9.332636185032189e-302 if wide != 0 and scale == 0 else scale


cdef inline bint is_out_of_range(double x, double least, double greatest) noexcept nogil:
    return (x != 0) & (1 - ((fabs(x) >= least) & (fabs(x) <= greatest)))


cdef inline bint is_ordinary(
    double others, double k, double d, double a, double b, double scale
) noexcept nogil:
    """Whether neither value nor gradient of a sample can be wide: a quick look, which says no too often.

    Not in float64 with sample weights, which count by themselves there.
    """
    cdef double size = fabs(k + a), times_scale = fabs(scale)
    return (
        (others >= 1e-30) & (others <= 1e9) & (size >= 1e-9) & (size <= 1e3) & (fabs(a) <= 1e3) & (fabs(d) <= 1e30)
        & (fabs(b) <= 1e30) & (times_scale >= 1e-12) & (times_scale <= 1e3)
    ) != 0


cdef inline bint value_is_wide(
    real tag, double others, double k, double d, double a, double b, double weight
) noexcept nogil:
    """Whether a sample's value needs more range than its statistics have, or the ones that these come from.

    Sums of exponentials of which each may have been too small count where a weight is larger than 1.
    """
    cdef double small = 3.009265538105056e-36 if sizeof(real) == 4 else 2.409919865102884e-181  # 2^-118, 2^-600
    cdef bint wide = (1 - (fabs(d) <= 1e90)) | (1 - (fabs(b) <= 1e90))
    wide |= (others < small) & (fabs(d) < small) & (fabs(b) < small) & (fabs(weight) * (fabs(k) + fabs(a)) > 1)
    if real is float:
        wide |= is_out_of_range(a, 1e-18, 1e30)
    else:
        wide |= is_out_of_range(a, 1e-90, 1e90) | is_out_of_range(k, 1e-90, 1e90) | is_out_of_range(weight, 1e-90, 1e90)
    return wide & (others == others)


cdef inline bint gradient_is_wide(
    real tag, double others, double k, double a, double scale, bint linear
) noexcept nogil:
    """The same for its gradient."""
    cdef double small = 3.009265538105056e-36 if sizeof(real) == 4 else 2.409919865102884e-181
    cdef double least = 1e-30 if sizeof(real) == 4 else 1e-270
    cdef double greatest = 16777216.0 if sizeof(real) == 4 else 18014398509481984.0
    cdef double factor = scale / (1 + others), size = fabs(factor * (k + a))
    cdef bint wide = is_out_of_range(size, least, greatest) | (others < small) & (size > 1)
    wide |= is_out_of_range(scale, 1e-270, 1e270) | is_out_of_range(k + a, 1e-90, 1e90)
    if linear:
        wide |= is_out_of_range(factor, least, greatest) | is_out_of_range(k + a, 1e-18, 1e18)
    else:
        wide |= (size == 0) & (k != 0) & (scale != 0)
    return wide & (others == others)


cdef inline wide_real wide_coefficient(const ClassJob* job, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    """c_j of sample i."""
    cdef double w = per_sample(job, job.linear_weight, j), scale = job.coefficient_scale, shift = job.coefficient_shift
    cdef wide_real c = 0
    if job.shared != NULL:
        return times(w, shift) if job.linear_weight != NULL else shared_by(job, j)
    if job.coefficient != NULL and job.op != DISTILLED:  # whose are the teacher's logits
        c = stored(job, job.coefficient, job.coefficient_storage, position_in_results(job, i, j))
        c = (<float>scale if job.float32 else scale) * c + (<float>shift if job.float32 else shift)
    return times(w, c) if job.linear_weight != NULL else c


cdef inline wide_real wide_read(const ClassJob* job, double x, Py_ssize_t j, wide_real* slope) noexcept nogil:
    """What x of class j is read as, and the derivative of the cap.

    Beside a maximum that the loop has read, as the loop reads it.
    """
    cdef wide_real y = x
    slope[0] = 1
    if x != -INFINITY:
        y *= scale_of(job, j)
        y += bias_of(job, j)
    if job.softcap != 0:
        y = wide_capped(y, job.softcap, slope)
    if is_merged(job):
        y = read_as(job, x, j)
    return y


cdef inline wide_real wide_x(const ClassJob* job, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    """x of class j of sample i."""
    cdef wide_real slope
    return wide_read(job, stored(job, job.x, job.storage, position_of(job, i) + j * job.inner), j, &slope)


cdef inline void wide_statistics(const ClassJob* job, Py_ssize_t i, int64_t t, Wide* wide) noexcept nogil:
    """All of sample i, whose label is t, or -1."""
    cdef Py_ssize_t j, top = 0
    cdef wide_real d, c, own = 1
    wide.k = 0
    if t >= 0 or is_merged(job):
        wide.k = <wide_real>job.index_scale * per_sample(job, job.class_weight, i if is_merged(job) else t)
    wide.weight = per_sample(job, job.sample_weight, i)
    wide.scale = times(times(wide.weight, per_sample(job, job.grad_output, i)), job.wide_scale)
    wide.top = -INFINITY
    wide.others = wide.a = wide.b = wide.d = 0
    if is_merged(job):
        wide.top = per_sample(job, job.parts.top, i)
        wide.others = sum_in_parts(job.parts.others, &job.parts, i)
        wide.d = per_sample(job, job.parts.label, i) - wide.top
        own = expl(wide.d)
        if job.parts.dot != NULL:
            wide.a = job.shared_sum
            wide.b = times(sum_in_parts(job.parts.dot, &job.parts, i), job.coefficient_shift)
    for j in range(job.classes if not is_merged(job) else 0):
        d = wide_x(job, i, j)
        if d > wide.top:
            wide.top = d
            top = j
    for j in range(job.classes if not is_merged(job) else 0):
        d = wide_x(job, i, j) - wide.top
        if j != top:
            wide.others += expl(d)
        if j == t:
            wide.d = d
            own = expl(d)
        c = wide_coefficient(job, i, j)
        if c != 0:
            wide.a += c
            wide.b += c * d
    wide.others += wide.top - wide.top
    d = wide.others
    c = log1pl(d)
    wide.phi = wide_head(
        job.head, c - wide.d, own / (1 + d), (d + (1 - own)) / (1 + d), job.head_parameter, &wide.slope
    )
    wide.not_p = (d + (1 - own)) / (1 + d)
    wide.bend = wide_bend(job.head, c - wide.d, own / (1 + d), wide.not_p, job.head_parameter)
    wide.square = 2 * job.z_loss * (wide.top + c) if job.z_loss != 0 else 0


cdef inline wide_real wide_value(const ClassJob* job, const Wide* wide, Py_ssize_t i) noexcept nogil:
    cdef wide_real log_sum = log1pl(wide.others)
    cdef wide_real value = weighted(wide.phi, wide.k) + (wide.a * log_sum - wide.b)
    if wide.square != 0:
        value += wide.square / 2 * (wide.top + log_sum)
    return weighted(value + (job.offset[i] if job.offset != NULL else 0), wide.weight)


cdef inline void set_wide(Batch* batch, Py_ssize_t l, wide_real value) noexcept nogil:
    if not batch.any_wide:
        memset(batch.is_wide, 0, sizeof(batch.is_wide))
    batch.any_wide = batch.is_wide[l] = True
    batch.wide[l] = value


cdef inline wide_real wide_gradient(
    const ClassJob* job, const Wide* wide, Py_ssize_t i, Py_ssize_t j, bint is_target, double x
) noexcept nogil:
    """Entry j of sample i's gradient, where x_j is x; as `linear_gradient` and `target_gradient`.

    By x; where there are sums by scale or bias, by what it is scaled to.
    """
    cdef wide_real cap_slope, y = wide_read(job, x, j, &cap_slope)
    cdef double by_x = per_sample(job, job.class_scale, j) if job.summed == 0 else 1.0
    cdef wide_real e = expl(y - wide.top), c = wide_coefficient(job, i, j), k = wide.k * wide.slope
    cdef wide_real rest = (wide.a - c) + wide.square + (0 if is_target else k)
    c += k if is_target else 0
    y = (rest * e - c * (wide.others + (1 - e))) / (1 + wide.others) * cap_slope
    return weighted(weighted(y, wide.scale), by_x)


cdef inline wide_real wide_curve(
    const ClassJob* job, const Wide* wide, Py_ssize_t i, Py_ssize_t j, bint is_target, double x
) noexcept nogil:
    """Entry j of the diagonal of sample i's Hessian, as `curve_of` and `curve_of_label`."""
    cdef wide_real cap_slope, y = wide_read(job, x, j, &cap_slope)
    cdef wide_real e = expl(y - wide.top), total = 1 + wide.others, p = e / total, c, curve, first, tanh
    cdef wide_real not_p = (wide.others + (1 - e)) / total, bend = wide.k * wide.bend
    cdef wide_real a = wide.a + wide.k * wide.slope + wide.square
    if job.hessian.convex:
        bend = 0 if bend < 0 else bend
    curve = p * ((0 if job.hessian.convex and a < 0 else a) * not_p + 2 * job.z_loss * p)
    if is_target:
        curve += bend * not_p
    elif wide.not_p != 0:
        curve += p * (p / wide.not_p) * bend
    if job.softcap != 0:
        c = wide_coefficient(job, i, j) + (wide.k * wide.slope if is_target else 0)
        tanh = y / job.softcap if fabsl(y) < job.softcap else 1 if y > 0 else -1
        first = ((a - c) * e - c * (wide.others + (1 - e))) / total * cap_slope * (-2 * tanh / job.softcap)
        curve = curve * cap_slope * cap_slope + (0 if job.hessian.convex and first < 0 else first)
    if job.class_scale != NULL:
        c = per_sample(job, job.class_scale, j)
        curve = times(times(curve, c), c)
    curve = weighted(curve, wide.scale) * job.hessian.factor
    return job.hessian.floor if curve < job.hessian.floor else curve

ctypedef void (*wide_statistics_function)(const ClassJob*, Py_ssize_t, int64_t, Wide*) noexcept nogil
ctypedef wide_real (*wide_entry_function)(
    const ClassJob*, const Wide*, Py_ssize_t, Py_ssize_t, bint, double
) noexcept nogil


cdef inline double target_gradient(
    double scale, double k, double a, double c_t, double e_t, double others
) noexcept nogil:
    """The target's entry, from e_t = exp(d_t): minus the sum of the others, which keeps its digits as p_t nears 1."""
    return scale * ((a - c_t) * e_t - (c_t + k) * (others + (1 - e_t))) / (1 + others)


cdef inline void clear(Batch* batch, Py_ssize_t count) noexcept nogil:
    """Fill the places that no sample uses, up to the multiple of 8 that `finish` computes."""
    cdef Py_ssize_t l
    for l in range(count, (count + 7) // 8 * 8):
        batch.top[l] = batch.others[l] = batch.a[l] = batch.b[l] = batch.k[l] = batch.d[l] = batch.keep[l] = 0
        batch.own[l] = 0


cdef inline void keep_part(const ClassJob* job, Py_ssize_t i, Py_ssize_t l, const Batch* batch) noexcept nogil:
    """Store what was collected of sample i, in place l of the batch."""
    cdef bint keep = batch.keep[l] != 0
    put_sample(job, batch.top[l], job.parts.top, i)
    put_sample(job, batch.d[l] if keep else 0, job.parts.label, i)
    put_in_parts(batch.others[l] if keep else -1, job.parts.others, &job.parts, i)
    if job.parts.dot != NULL:
        put_in_parts(batch.b[l] if keep else 0, job.parts.dot, &job.parts, i)


cdef inline void take_part(const ClassJob* job, Py_ssize_t i, Py_ssize_t l, Batch* batch) noexcept nogil:
    """What is known of sample i, from all parts of its classes, into place l of the batch."""
    cdef double top = per_sample(job, job.parts.top, i)
    batch.top[l] = top
    batch.others[l] = <double>sum_in_parts(job.parts.others, &job.parts, i)
    batch.keep[l] = batch.others[l] != -1
    batch.k[l] = batch.d[l] = batch.own[l] = batch.a[l] = batch.b[l] = batch.square[l] = 0
    if batch.keep[l] == 0:
        batch.top[l] = batch.others[l] = 0
        return
    batch.others[l] += top - top
    batch.k[l] = job.index_scale * per_sample(job, job.class_weight, i)
    batch.d[l] = per_sample(job, job.parts.label, i) - top
    batch.own[l] = exp(batch.d[l])
    if job.parts.dot != NULL:
        batch.a[l] = job.shared_sum
        batch.b[l] = <double>times(sum_in_parts(job.parts.dot, &job.parts, i), job.coefficient_shift)


cdef inline void finish(
    ClassJob* job, Py_ssize_t first, Py_ssize_t count, Py_ssize_t place, Batch* batch, double* total, double* low,
    Huge* huge
) noexcept nogil:
    """The values of the samples from `first` on: stored where job.value is set, and added up, from lane `place` on.

    Where a job is headed, `heads` has computed them for its gradients already.
    """
    cdef Py_ssize_t l, n = (count + 7) // 8 * 8, turn = min(n, LANES - place)
    cdef double index_term, weight
    cdef bint wide = batch.any_wide, headed = job.headed
    if headed:
        if not job.with_grad:
            (<heads_function>fastloss_out_of_line(<void*>heads))(job, 0, n, batch)
    else:
        for l in range(n if job.float32 else 0):
            batch.log_sum[l] = log1p_nonnegative(<float>batch.others[l])
        for l in range(n if not job.float32 else 0):
            batch.log_sum[l] = log1p_nonnegative(batch.others[l])
    if job.op == LOSS or job.op == LOSS_LINEAR or job.op == DISTILLED:
        for l in range(n if not headed else 0):
            # A weight of 0 drops an infinite d, but keeps NaN.
            index_term = batch.log_sum[l] - batch.d[l] if batch.k[l] != 0 else batch.log_sum[l]
            batch.value[l] = batch.k[l] * index_term
        if job.op != LOSS and not headed:
            for l in range(n):
                batch.value[l] += batch.a[l] * batch.log_sum[l] - batch.b[l]
        if job.offset != NULL:
            for l in range(count):
                batch.value[l] += job.offset[first + l]
        if job.sample_weight != NULL:
            for l in range(count):
                weight = per_sample(job, job.sample_weight, first + l)
                batch.value[l] = batch.value[l] * weight if weight != 0 or batch.value[l] != batch.value[l] else 0.0
        for l in range(n):
            batch.value[l] = batch.value[l] if batch.keep[l] != 0 else 0.0
        if not job.float32:
            for l in range(n):
                wide |= fabs(batch.value[l]) > 1e270
        if wide:
            for l in range(count):
                if not (batch.any_wide and batch.is_wide[l]):
                    batch.wide[l] = batch.value[l]
                add_wide(batch.wide[l], total + (place + l) % LANES, low + (place + l) % LANES, huge)
                batch.value[l] = <double>batch.wide[l]
        else:
            for l in range(turn):
                two_sum(batch.value[l], total + place + l, low + place + l)
            for l in range(turn, n):
                two_sum(batch.value[l], total + l - turn, low + l - turn)
        if job.digits != NULL:
            for l in range(count):
                add_exactly(batch.value[l], job.digits + first // job.chunk * EXACT_COUNTS)
    elif job.op == LOGSUMEXP:
        for l in range(n):
            batch.value[l] = batch.top[l] + batch.log_sum[l]
    elif job.op == ENTROPY_FROM_LOGITS:
        for l in range(n):
            batch.value[l] = batch.log_sum[l] - batch.b[l] / (1 + batch.others[l])
    elif job.op == PARTIAL:
        for l in range(count):
            keep_part(job, first + l, l, batch)
    elif job.op == MOMENTS:
        for l in range(count):
            batch.value[l] = batch.top[l] + batch.log_sum[l]
            put_sample(job, batch.b[l] / (1 + batch.others[l]), job.first_moment, first + l)
            put_sample(job, batch.a[l] / (1 + batch.others[l]), job.second_moment, first + l)
    if job.value != NULL:
        for l in range(count):
            put_sample(job, batch.value[l], job.value, first + l)

ctypedef void (*finish_function)(
    ClassJob*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Batch*, double*, double*, Huge*
) noexcept nogil


cdef inline real entropy_term(real p) noexcept nogil:
    cdef real low = 0
    cdef real log_p = log_any(p, &low)
    return <real>0 if p == <real>0 else -p * (log_p + low)


cdef inline void log_multinomial_chunk(const void* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """sum_j log k_j! - log n! for each sample, in float64, unless there was a negative count: that goes to `invalid`.

    For one thread, which stops at the first.
    """
    cdef Py_ssize_t first = chunk * job.chunk, i, j, outer, position
    cdef Py_ssize_t last = min(first + job.chunk, job.samples)
    cdef double n, k, s, low
    job.partial[3 * chunk] = job.partial[3 * chunk + 1] = job.partial[3 * chunk + 2] = 0
    if <int64_t>job.invalid >= 0:
        return
    for i in range(first, last):
        if masked(job, i):
            (<double*>job.value)[i] = 0
            continue
        outer = i // job.inner
        n = s = low = 0
        for j in range(job.classes):
            position = (outer * job.classes + j) * job.inner + i - outer * job.inner
            k = stored(job, job.x, job.storage, position)
            if k < 0:
                job.invalid = position
                return
            n += k
            if k != 0 and k != 1:
                two_sum(log_factorial(k), &s, &low)
        two_sum(-log_factorial(n), &s, &low)
        (<double*>job.value)[i] = joined(s, low)
