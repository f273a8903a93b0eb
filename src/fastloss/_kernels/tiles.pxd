# tiles: what `lanes` computes most: the losses of a label, softmax and logsumexp, of samples as they usually are.
#
# a) Exponentials are those of x itself, up to a reference c that the first sample suggests (math.pxd): no maximum is
#    needed first, and what stands in memory one after another is computed so, whatever sample or class it is of.
#    The label's own is taken out of the sum: with what is left a loss is log(1 + others / own), also where it is 1e-20.
# b) Of few classes side by side a tile is some rows; the sums of rows are taken from L1. Beside a strided class axis
#    it is up to PLANE_SAMPLES neighbours, plane by plane: their sums stay in L1, their exponentials in L2.
# c) The bits of a sample depend on it alone. c moves exponents, and nothing else while its sum of exponentials is in
#    a window. A tile with a sample outside is computed again, each sample with a c of its own. What is odd then too, by
#    its own numbers, goes to `lanes`: NaN, inf, |x| > 1e5, a label with nearly all or nothing of the probability,
#    weights far from 1.
# d) The values of 16 (8) samples are added up side by side in float64, LANES samples at a time.

from libc.math cimport isnan, ldexp, log
from libc.string cimport memcpy, memmove, memset
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.lanes cimport *
include "tuning.pxi"

# What is collected of a sample's exponentials.
cdef enum:
    SUM        # others: all
    OWN        # own: the label's; others: the rest
    MOST       # own: the greatest; others: the rest, which is added without a rounding of the greatest
    PEAK       # the same; top: the maximum of x

# A tile of samples; the arrays are of the loop's type, in this thread's memory.
cdef struct Samples:
    Py_ssize_t first               # sample
    Py_ssize_t count
    Py_ssize_t steps               # that `count` samples fill
    bint in_rows                   # classes are neighbours: e is (count, classes), otherwise (classes, 16 or 8 * steps)
    int collects                   # SUM, OWN, MOST or PEAK
    double c                       # of the exponentials
    bint own_c                     # each sample has one of its own, in `factor` and `least`
    int far_tiles                  # so many tiles have one from the start: those before needed it
    double reach                   # log2 of the greatest ratio of the parts of a sum, either way, of usual samples
    bint plain                     # all samples that count weigh the same
    bint weighted                  # `weight` and `scale` are read
    bint ignored                   # some labels are -1, and must not count
    double scale_of_all            # where they are not
    int64_t* label                 # -1 where it does not count
    void* label_real
    void* e
    void* highest                  # one step: the greatest numbers
    void* own
    void* others
    void* top
    void* weight                   # the value's
    void* scale                    # the gradient's
    void* value
    void* factor                   # the gradient is e * factor
    void* least                    # where e is not less than this, otherwise 0
    void* entry                    # and this for the label's class
    void* odd                      # 0 for usual samples, 2 for others, 1 where only the gradient is
    double* wide                   # sums of groups of classes, and what rounding lost
    double* wide_low
    void* x                        # room for numbers that are not in memory as they are needed
    void* out
    void* rows                     # of odd samples: x,
    void* results                  # and what `lanes` makes of it
    double* total
    double* low
    Huge* huge


# ---- Steps ----


cdef inline double lead_of(vec tag) noexcept nogil:
    """log2 of the greatest exponential of the samples that c is right for."""
    return 50 if vec is f16 else 500


cdef inline double exp_greatest(double c, vec tag) noexcept nogil:
    """An x whose exponential is above the window, while no sum of such overflows; of greater ones it is any number."""
    return (c + (110 if vec is f16 else 1000)) * 0.693147180559945309


cdef inline bint exp_tile(const void* x, Py_ssize_t steps, double c, void* e, vec tag) noexcept nogil:
    """Whether nothing overflowed."""
    cdef vec magic = exp_magic(c, tag), least = exp_least(c, tag), top = all_of(-INFINITY, tag), p
    cdef Py_ssize_t i
    for i in range(steps):
        fastloss_prefetch(<const char*>x + 64 * i + 8192)
        p = load(x, i, tag)
        top = max_of(p, top)
        store(exp_of(p, magic, least), e, i)
    return greatest(top) <= exp_greatest(c, tag)


cdef inline vec log1p_of_ratio(vec ratio) noexcept nogil:
    """log(1 + ratio) for 2^-100 <= ratio <= 2^100 (float64: 2^-500 to 2^500)."""
    cdef vec k, one = all_of(1, ratio), power = inverse_power(add(one, ratio), &k)
    cdef vec f = fma_of(ratio, power, sub(power, one)), s = div(f, add(all_of(2, ratio), f)), z = mul(s, s)
    cdef vec z2, p, p1, p2
    if vec is f16:
        p = fma_of(all_of(0.29870694875717163, z), z, all_of(0.3997758626937866, z))
        p = fma_of(p, z, all_of(0.6666677594184875, z))
        return fma_of(k, all_of(0.693147180559945309, z), fma_of(negative(s), fma_of(negative(z), p, f), f))
    else:
        z2 = mul(z, z)
        p = fma_of(all_of(3.999999999940941908e-01, z), z, all_of(6.666666666666735130e-01, z))
        p1 = fma_of(all_of(2.222219843214978396e-01, z), z, all_of(2.857142874366239149e-01, z))
        p2 = fma_of(all_of(1.531383769920937332e-01, z), z, all_of(1.818357216161805012e-01, z))
        p2 = fma_of(all_of(1.479819860511658591e-01, z), z2, p2)
        p = fma_of(fma_of(p2, z2, p1), z2, p)
        f = fma_of(k, all_of(1.90821492927058770002e-10, z), fma_of(negative(s), fma_of(negative(z), p, f), f))
        return fma_of(k, all_of(6.93147180369123816490e-01, z), f)


cdef inline vec odd_unless_within(vec x, double least, double greatest, vec odd) noexcept nogil:
    """odd where least < x < greatest, otherwise 2; NaN is not."""
    cdef vec two = all_of(2, x)
    return if_less(all_of(least, x), x, if_less(x, all_of(greatest, x), odd, two), two)


cdef inline vec odd_sum(vec total) noexcept nogil:
    """2 where a sum is outside the window in which its bits do not depend on c, otherwise 0."""
    cdef vec usual = all_of(0, total)
    if vec is f16:
        return odd_unless_within(total, 1048576.0, 1.2089258196146292e24, usual)  # 2^20, 2^80
    else:
        return odd_unless_within(total, 1.6069380442589903e60, 6.668014432879854e240, usual)  # 2^200, 2^800


cdef inline bint sample_steps(const Samples* s, int collects, bint weighted, bint grad, vec tag) noexcept nogil:
    """Values and what gradients need, from the sums; whether a sample is odd. The literals say what is needed."""
    cdef vec own, others, total, ratio, odd, any_odd = all_of(0, tag), y, g, f, one = all_of(1, tag), least
    cdef double tiny = 1.17549435e-38 if vec is f16 else 2.2250738585072014e-308
    # Beyond, what is cut off below exp_least would count in the lesser part; not beside an exponential of 2^50 (2^500).
    cdef double most = ldexp(1, <int>s.reach), fewest = -1 if s.own_c else 1 / most
    cdef vec scale = all_of(s.scale_of_all, tag), tiny_by_scale = div(all_of(tiny, tag), absolute_of(scale))
    cdef Py_ssize_t i
    for i in range(s.steps):
        others = load(s.others, i, tag)
        total = others
        if collects != SUM:
            own = load(s.own, i, tag)
            total = add(others, own)
        if collects == OWN or collects == PEAK:
            ratio = div(others, own)
            odd = odd_unless_within(ratio, fewest, most, odd_sum(total))
            y = log1p_of_ratio(ratio)
            if weighted:
                g = load(s.weight, i, tag)
                y = mul(y, g)  # NaN, or not a normal number
                odd = if_less(all_of(tiny, tag), absolute_of(y), odd, if_equal(g, all_of(0, tag), odd, all_of(2, tag)))
            store(y, s.value, i)
        else:
            odd = odd_sum(total)
        if grad:
            if weighted:
                g = load(s.scale, i, tag)
                odd = if_equal(g, g, odd, max_of(one, odd))
                f = div(g, total)
                least = mul(total, div(all_of(tiny, tag), absolute_of(g)))
            else:
                f = div(scale, total)
                least = mul(total, tiny_by_scale)
            store(f, s.factor, i)
            store(least, s.least, i)
            store(negative(mul(f, others)), s.entry, i)
        store(odd, s.odd, i)
        any_odd = max_of(any_odd, odd)
    return greatest(any_odd) > 0


cdef inline bint all_steps(const Samples* s, bint grad, vec tag) noexcept nogil:
    if s.collects == SUM:
        return sample_steps(s, SUM, False, True, tag)
    if s.collects == MOST:
        return sample_steps(s, MOST, False, True, tag)
    if s.collects == PEAK:
        return sample_steps(s, PEAK, False, False, tag)
    if s.weighted:
        return sample_steps(s, OWN, True, True, tag) if grad else sample_steps(s, OWN, True, False, tag)
    return sample_steps(s, OWN, False, True, tag) if grad else sample_steps(s, OWN, False, False, tag)


cdef inline void plane_steps(
    const void* x, const void* following, double label, int collects, bint keep, bint own_c, const Samples* s, void* e,
    vec tag
) noexcept nogil:
    """Add one class to the sums. If `keep`, e receives its exponentials, or for PEAK its numbers."""
    cdef vec magic = exp_magic(s.c, tag), least = exp_least(s.c, tag), j = all_of(label, tag), zero = all_of(0, tag)
    cdef vec p, q, t, highest = load(s.highest, 0, tag)
    cdef void* own = s.own
    cdef void* others = s.others
    cdef void* top = s.top
    cdef const void* label_real = s.label_real
    cdef Py_ssize_t i
    for i in range(s.steps):
        fastloss_prefetch(<const char*>following + 64 * i)
        p = load(x, i, tag)
        if own_c:
            magic = load(s.factor, i, tag)
            least = load(s.least, i, tag)
        else:
            highest = max_of(p, highest)
        q = exp_of(p, magic, least)
        if keep:
            store(p if collects == PEAK else q, e, i)
        if collects == OWN:
            t = load(label_real, i, tag)
            store(either(load(own, i, tag), if_equal(t, j, q, zero)), own, i)
            q = if_equal(t, j, zero, q)
        else:
            t = load(own, i, tag)
            store(max_of(t, q), own, i)
            q = min_of(t, q)
        if collects == PEAK:
            store(max_of(load(top, i, tag), p), top, i)
        store(add(load(others, i, tag), q), others, i)
    store(highest, s.highest, 0)


cdef inline void plane_of_any(
    const void* x, const void* following, double label, bint keep, const Samples* s, void* e, vec tag
) noexcept nogil:
    if s.own_c and s.collects == OWN:
        plane_steps(x, following, label, OWN, True, True, s, e, tag)
    elif s.own_c and s.collects == MOST:
        plane_steps(x, following, label, MOST, True, True, s, e, tag)
    elif s.own_c:
        plane_steps(x, following, label, PEAK, True, True, s, e, tag)
    elif s.collects == MOST:
        plane_steps(x, following, label, MOST, True, False, s, e, tag)
    elif s.collects == OWN and keep:
        plane_steps(x, following, label, OWN, True, False, s, e, tag)
    elif s.collects == OWN:
        plane_steps(x, following, label, OWN, False, False, s, e, tag)
    elif keep:
        plane_steps(x, following, label, PEAK, True, False, s, e, tag)
    else:
        plane_steps(x, following, label, PEAK, False, False, s, e, tag)


cdef inline void tops_of_plane(const void* x, const Samples* s, void* top, vec tag) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(s.steps):
        store(max_of(load(x, i, tag), load(top, i, tag)), top, i)


cdef inline void exp_rows(const Samples* s, Py_ssize_t classes, vec tag) noexcept nogil:
    """Exponentials of s.x, each row with its own c; a row is written after what the one before wrote too far."""
    cdef Py_ssize_t l, i, item = 4 if vec is f16 else 8
    cdef const char* x = <const char*>s.x
    cdef char* e = <char*>s.e
    cdef vec magic, least
    for l in range(s.count):
        if vec is f16:
            magic = f16_all((<const float*>s.factor)[l])
            least = f16_all((<const float*>s.least)[l])
        else:
            magic = d8_all((<const double*>s.factor)[l])
            least = d8_all((<const double*>s.least)[l])
        for i in range((classes * item + 63) // 64):
            store(exp_of(load(x + l * classes * item, i, tag), magic, least), e + l * classes * item, i)


cdef inline void products_of_plane(const void* e, const Samples* s, void* y, vec tag) noexcept nogil:
    cdef Py_ssize_t i
    cdef vec q
    for i in range(s.steps):
        q = load(e, i, tag)
        store(if_less(absolute_of(q), load(s.least, i, tag), all_of(0, tag), mul(q, load(s.factor, i, tag))), y, i)


cdef inline void differences_of_plane(const void* x, const Samples* s, void* y, vec tag) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(s.steps):
        store(sub(sub(load(x, i, tag), load(s.top, i, tag)), load(s.value, i, tag)), y, i)


cdef inline vec factor_within(vec x, double least) noexcept nogil:
    """x where it is 0 or within a range in which no product leaves that of its type, otherwise NaN."""
    cdef vec size = absolute_of(x), zero = all_of(0, x), odd = all_of(NAN, x)
    return if_less(all_of(least, x), size, if_less(size, all_of(1e6, x), x, odd), if_equal(size, zero, x, odd))


cdef inline void weights_steps(const Samples* s, double grad_scale, double index_scale, vec tag) noexcept nogil:
    cdef vec by_class, by_sample, upstream, weight
    cdef Py_ssize_t i
    for i in range(s.steps):
        by_class = factor_within(mul(load(s.weight, i, tag), all_of(index_scale, tag)), 1e-12)
        by_sample = factor_within(load(s.factor, i, tag), 1e-12)
        upstream = factor_within(mul(load(s.least, i, tag), all_of(grad_scale, tag)), 2.2e-13)
        weight = factor_within(mul(by_class, by_sample), 1e-12)
        store(weight, s.weight, i)
        store(factor_within(mul(upstream, weight), 2.2e-13), s.scale, i)


cdef inline void two_sum_steps(d8 x, double* total, double* low) noexcept nogil:
    cdef d8 a = d8_load(total), t = add(a, x), z = sub(t, a)
    d8_store(add(d8_load(low), add(sub(a, sub(t, z)), sub(x, z))), low)
    d8_store(t, total)


cdef inline void add_values(const void* value, double* total, double* low, vec tag) noexcept nogil:
    """LANES values to 16 sums."""
    cdef vec a = load(value, 0, tag), b = load(value, 1, tag), c = load(value, 2, tag), d = load(value, 3, tag)
    cdef int k
    if vec is f16:
        for k in range(2):
            two_sum_steps(
                add(add(d8_of_half(a, k), d8_of_half(b, k)), add(d8_of_half(c, k), d8_of_half(d, k))),
                total + 8 * k, low + 8 * k,
            )
    else:
        two_sum_steps(add(add(a, c), add(load(value, 4, tag), load(value, 6, tag))), total, low)
        two_sum_steps(add(add(b, d), add(load(value, 5, tag), load(value, 7, tag))), total + 8, low + 8)


# The loops are called by pointers that the compiler does not see through: each has the registers to itself.

ctypedef bint (*exp_function)(const void*, Py_ssize_t, double, void*) noexcept nogil
ctypedef bint (*steps_function)(const Samples*, bint) noexcept nogil
ctypedef void (*plane_function)(const void*, const void*, double, bint, const Samples*, void*) noexcept nogil
ctypedef void (*weights_function)(const Samples*, double, double) noexcept nogil
ctypedef void (*rows_function)(const Samples*, Py_ssize_t) noexcept nogil
ctypedef void (*map_function)(const void*, const Samples*, void*) noexcept nogil


cdef inline bint exp_f16(const void* x, Py_ssize_t steps, double c, void* e) noexcept nogil:
    return exp_tile(x, steps, c, e, f16_all(0))


cdef inline bint exp_d8(const void* x, Py_ssize_t steps, double c, void* e) noexcept nogil:
    return exp_tile(x, steps, c, e, d8_all(0))


cdef inline bint steps_f16(const Samples* s, bint grad) noexcept nogil:
    return all_steps(s, grad, f16_all(0))


cdef inline bint steps_d8(const Samples* s, bint grad) noexcept nogil:
    return all_steps(s, grad, d8_all(0))


cdef inline void plane_f16(
    const void* x, const void* following, double label, bint keep, const Samples* s, void* e
) noexcept nogil:
    plane_of_any(x, following, label, keep, s, e, f16_all(0))


cdef inline void plane_d8(
    const void* x, const void* following, double label, bint keep, const Samples* s, void* e
) noexcept nogil:
    plane_of_any(x, following, label, keep, s, e, d8_all(0))


cdef inline void products_f16(const void* e, const Samples* s, void* y) noexcept nogil:
    products_of_plane(e, s, y, f16_all(0))


cdef inline void products_d8(const void* e, const Samples* s, void* y) noexcept nogil:
    products_of_plane(e, s, y, d8_all(0))


cdef inline void tops_f16(const void* x, const Samples* s, void* top) noexcept nogil:
    tops_of_plane(x, s, top, f16_all(0))


cdef inline void exp_rows_f16(const Samples* s, Py_ssize_t classes) noexcept nogil:
    exp_rows(s, classes, f16_all(0))


cdef inline void differences_f16(const void* e, const Samples* s, void* y) noexcept nogil:
    differences_of_plane(e, s, y, f16_all(0))


cdef inline void tops_d8(const void* x, const Samples* s, void* top) noexcept nogil:
    tops_of_plane(x, s, top, d8_all(0))


cdef inline void exp_rows_d8(const Samples* s, Py_ssize_t classes) noexcept nogil:
    exp_rows(s, classes, d8_all(0))


cdef inline void differences_d8(const void* e, const Samples* s, void* y) noexcept nogil:
    differences_of_plane(e, s, y, d8_all(0))


cdef inline void weights_f16(const Samples* s, double grad_scale, double index_scale) noexcept nogil:
    weights_steps(s, grad_scale, index_scale, f16_all(0))


cdef inline void weights_d8(const Samples* s, double grad_scale, double index_scale) noexcept nogil:
    weights_steps(s, grad_scale, index_scale, d8_all(0))


cdef inline bint samples_of_steps(real* tag, const Samples* s, bint grad) noexcept nogil:
    if real is float:
        return (<steps_function>fastloss_out_of_line(<void*>steps_f16))(s, grad)
    else:
        return (<steps_function>fastloss_out_of_line(<void*>steps_d8))(s, grad)


# ---- Statistics ----


cdef inline Py_ssize_t position_of(const ClassJob* job, Py_ssize_t i) noexcept nogil:
    """Of sample i's first class in x; classes are job.inner apart."""
    return i // job.inner * job.x_stride + i % job.inner


cdef inline bint exp_of_all(const real* x, Py_ssize_t n, double c, real* e) noexcept nogil:
    """`exp_tile` of n numbers and those that fill the last step."""
    if real is float:
        return (<exp_function>fastloss_out_of_line(<void*>exp_f16))(x, (n + 15) // 16, c, e)
    else:
        return (<exp_function>fastloss_out_of_line(<void*>exp_d8))(x, (n + 7) // 8, c, e)


cdef inline const real* clamped(const real* x, Py_ssize_t n, double c, real* y) noexcept nogil:
    """x, so that no exponential overflows: that of a number which would is large enough for the window."""
    cdef real most = <real>(exp_greatest(c, f16_all(0)) if sizeof(real) == 4 else exp_greatest(c, d8_all(0)))
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = most if x[i] > most else x[i]
    return y


cdef inline void own_references(real* tag, const Samples* s) noexcept nogil:
    """What `exp_of` needs, from each sample's maximum in `top`; NaN where that cannot be reduced."""
    cdef real* magic = <real*>s.factor
    cdef real* least = <real*>s.least
    cdef Py_ssize_t l
    cdef double top, c
    for l in range(s.steps * (64 // <int>sizeof(real))):
        top = (<real*>s.top)[l] if l < s.count else <real>0
        if real is float:
            c = exp_reference(top, lead_of(f16_all(0)), f16_all(0))
            magic[l] = <real>(magic_of(c, f16_all(0)) if exp_can_reduce(top, f16_all(0)) else NAN)
            least[l] = <real>least_of(c, f16_all(0))
        else:
            c = exp_reference(top, lead_of(d8_all(0)), d8_all(0))
            magic[l] = <real>(magic_of(c, d8_all(0)) if exp_can_reduce(top, d8_all(0)) else NAN)
            least[l] = <real>least_of(c, d8_all(0))


cdef inline void statistics_in_rows(real* tag, const ClassJob* job, Samples* s) noexcept nogil:
    """What is collected of samples whose classes are neighbours, and their exponentials; for PEAK also s.x."""
    cdef Py_ssize_t classes = job.classes, n = s.count * classes, full = n - n % (64 // <int>sizeof(real)), l
    cdef real* buffer = <real*>s.x
    cdef real* e = <real*>s.e
    cdef real* own = <real*>s.own
    cdef real rest[16]
    cdef real* p
    cdef const real* x
    if job.x_stride == classes:
        x = read_block(job.x, job.storage, s.first * classes, n, buffer)
        if (s.collects == PEAK or s.own_c) and job.storage == NATIVE:
            memcpy(buffer, x, n * sizeof(real))
            x = buffer
    else:
        for l in range(s.count):
            x = read_block(job.x, job.storage, (s.first + l) * job.x_stride, classes, buffer + l * classes)
            if job.storage == NATIVE:
                memcpy(buffer + l * classes, x, classes * sizeof(real))
        x = buffer
    if full < n and not s.own_c:
        memset(rest, 0, sizeof(rest))
        memcpy(rest, x + full, (n - full) * sizeof(real))
    if s.own_c:
        if real is float:
            fastloss_rows_float_tops(x, classes, s.count, <real*>s.top)
            own_references(tag, s)
            (<rows_function>fastloss_out_of_line(<void*>exp_rows_f16))(s, classes)
        else:
            fastloss_rows_double_tops(x, classes, s.count, <real*>s.top)
            own_references(tag, s)
            (<rows_function>fastloss_out_of_line(<void*>exp_rows_d8))(s, classes)
    elif not exp_of_all(x, full, s.c, e) or full < n and not exp_of_all(&rest[0], 1, s.c, e + full):
        exp_of_all(clamped(x, n, s.c, <real*>s.out), n, s.c, e)
    if s.collects == OWN:
        if s.ignored:
            for l in range(s.count):
                p = e + l * classes + max(s.label[l], <int64_t>0)
                own[l] = p[0]
                p[0] = <real>0
        else:
            for l in range(s.count):
                p = e + l * classes + s.label[l]
                own[l] = p[0]
                p[0] = <real>0
    if real is float:
        if s.collects == PEAK:
            fastloss_rows_float_peaks(e, classes, s.count, own, <real*>s.others)
            fastloss_rows_float_tops(x, classes, s.count, <real*>s.top)
        else:
            fastloss_rows_float_sums(e, classes, s.count, <real*>s.others)
    else:
        if s.collects == PEAK:
            fastloss_rows_double_peaks(e, classes, s.count, own, <real*>s.others)
            fastloss_rows_double_tops(x, classes, s.count, <real*>s.top)
        else:
            fastloss_rows_double_sums(e, classes, s.count, <real*>s.others)


cdef inline bint is_direct(const ClassJob* job, const Samples* s, real* tag) noexcept nogil:
    """Whether the samples are neighbours in memory and fill whole steps."""
    return s.first % job.inner + s.count <= job.inner and s.count % (64 // <int>sizeof(real)) == 0


cdef inline const real* read_plane(
    const ClassJob* job, const Samples* s, bint direct, Py_ssize_t c, real* buffer
) noexcept nogil:
    """Class c of the samples: in place, or copied into `buffer`."""
    cdef Py_ssize_t i = s.first, end = s.first + s.count, n
    cdef const real* x
    if direct and job.storage == NATIVE:
        return <const real*>job.x + position_of(job, i) + c * job.inner
    while i < end:  # runs of neighbours
        n = min(end - i, job.inner - i % job.inner)
        x = read_block(job.x, job.storage, position_of(job, i) + c * job.inner, n, buffer + (i - s.first))
        if job.storage == NATIVE:
            memcpy(buffer + (i - s.first), x, n * sizeof(real))
        i += n
    return buffer


cdef inline void write_plane(
    const ClassJob* job, const Samples* s, bint direct, Py_ssize_t c, const real* y
) noexcept nogil:
    """Store what is not computed in place."""
    cdef Py_ssize_t i = s.first, end = s.first + s.count, n, place
    if direct and job.grad_storage == NATIVE:
        return
    while i < end:
        n = min(end - i, job.inner - i % job.inner)
        place = (i // job.inner * job.classes + c) * job.inner + i % job.inner
        if job.grad_storage == NATIVE:
            memcpy(<real*>job.grad + place, y + (i - s.first), n * sizeof(real))
        write_block(y + (i - s.first), job.grad, job.grad_storage, place, n)
        i += n


cdef inline void fill(real* x, Py_ssize_t n, real y) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = y


cdef inline bint planes(real* tag, const ClassJob* job, Samples* s, bint clamp) noexcept nogil:
    """The statistics of samples that are neighbours in each class, class by class, and what a gradient needs.

    Whether nothing overflowed.
    """
    cdef Py_ssize_t c, n = s.steps * (64 // <int>sizeof(real)), l
    cdef real* e = <real*>s.e
    cdef real* others = <real*>s.others
    cdef bint keep = job.grad != NULL, direct = is_direct(job, s, tag), groups = job.classes > GROUP + GROUP // 2
    cdef real* highest = <real*>s.highest
    cdef real most
    cdef const real* x
    cdef const real* following
    cdef plane_function function
    cdef map_function map
    if real is float:
        function = <plane_function>fastloss_out_of_line(<void*>plane_f16)
    else:
        function = <plane_function>fastloss_out_of_line(<void*>plane_d8)
    memset(others, 0, n * sizeof(real))
    if s.collects != SUM:
        memset(s.own, 0, n * sizeof(real))
    fill(<real*>s.top, n, <real>-INFINITY)
    if s.own_c:
        map = <map_function>fastloss_out_of_line(<void*>(tops_f16 if sizeof(real) == 4 else tops_d8))
        for c in range(job.classes):
            map(read_plane(job, s, direct, c, <real*>s.x), s, s.top)
        own_references(tag, s)
    if groups:
        memset(s.wide, 0, n * sizeof(double))
        memset(s.wide_low, 0, n * sizeof(double))
    fill(<real*>s.x + s.count, n - s.count, <real>0)
    fill(highest, 64 // <int>sizeof(real), <real>-INFINITY)
    for c in range(job.classes):
        x = read_plane(job, s, direct, c, <real*>s.x)
        following = x + job.inner if direct and c + 1 < job.classes else x
        if clamp:
            x = clamped(x, n, s.c, <real*>s.out)
        function(x, following, <double>c, keep, s, e if keep else <real*>s.out)
        if keep:
            e += n
        if groups and (c % GROUP == GROUP - 1 or c == job.classes - 1):
            for l in range(n):
                add_to(others[l], others[l], s.wide + l, s.wide_low + l)
                others[l] = <real>0
    if groups:
        for l in range(n):
            others[l] = <real>(s.wide[l] + s.wide_low[l])
    most = highest[0]
    for l in range(1, 64 // <int>sizeof(real)):
        most = highest[l] if highest[l] > most else most
    return most <= (exp_greatest(s.c, f16_all(0)) if sizeof(real) == 4 else exp_greatest(s.c, d8_all(0)))


cdef inline real* kept(const ClassJob* job, const Samples* s, Py_ssize_t l, real* tag, Py_ssize_t* down) noexcept nogil:
    """Where what is kept of sample l is, and how far it is from one class to the next."""
    down[0] = 1 if s.in_rows else s.steps * (64 // <int>sizeof(real))
    if s.in_rows:
        return <real*>(s.x if job.op == LOG_SOFTMAX else s.e) + l * job.classes
    return <real*>s.e + l


cdef inline void statistics(real* tag, const ClassJob* job, Samples* s) noexcept nogil:
    """`own`, `others` and `top` of the samples; usual numbers for those that do not count and beyond the last one."""
    cdef Py_ssize_t l, j, down
    cdef real* e
    cdef real usual = <real>1125899906842624.0 if sizeof(real) == 4 else <real>3.273390607896142e150  # 2^50, 2^500
    cdef real* own = <real*>s.own
    cdef real* others = <real*>s.others
    if s.in_rows:
        statistics_in_rows(tag, job, s)
    elif not planes(tag, job, s, False):
        planes(tag, job, s, True)
    for l in range(s.count, s.steps * (64 // <int>sizeof(real))):
        own[l] = others[l] = usual
    if s.ignored:
        for l in range(s.count):
            if s.label[l] < 0:
                if not others[l] + own[l] < <real>INFINITY and job.grad != NULL:
                    e = kept(job, s, l, tag, &down)
                    for j in range(job.classes):
                        e[j * down] = <real>0
                own[l] = others[l] = usual


# ---- Odd samples ----


cdef inline double suggested(const ClassJob* job, Py_ssize_t i, double c, double nearness, real* tag) noexcept nogil:
    """c for sample i's own maximum m; or the c given where |m| is not less than `nearness` of what can be reduced."""
    cdef Py_ssize_t first = position_of(job, i), j
    cdef double top = -INFINITY, x
    for j in range(job.classes):
        x = read_one(job.x, job.storage, first + j * job.inner, tag)
        top = x if x > top else top
    if real is float:
        return exp_reference(top, lead_of(f16_all(0)), f16_all(0)) if exp_can_reduce(top / nearness, f16_all(0)) else c
    else:
        return exp_reference(top, lead_of(d8_all(0)), d8_all(0)) if exp_can_reduce(top / nearness, d8_all(0)) else c


cdef inline void sample_alone(
    real* tag, const ClassJob* job, Samples* s, const int* which, int n, real* value
) noexcept nogil:
    """What `lanes` makes of up to LANES samples: the values, also added to the sums, and rows of `results`."""
    cdef ClassJob alone = job[0]
    cdef void* memory = own_memory()
    cdef real* rows = <real*>s.rows
    cdef int64_t label[LANES]
    cdef real weight[LANES]
    cdef real upstream[LANES]
    cdef double total[LANES]
    cdef double low[LANES]
    cdef Huge huge
    cdef Tile tile
    cdef Py_ssize_t first, i, j
    cdef int k
    huge.total = huge.low = 0
    for k in range(LANES):
        total[k] = low[k] = 0
    for k in range(n):
        i = s.first + which[k]
        first = position_of(job, i)
        if job.inner == 1 and job.storage == NATIVE:
            memcpy(rows + k * job.classes, <const real*>job.x + first, job.classes * sizeof(real))
        else:
            for j in range(job.classes):
                rows[k * job.classes + j] = read_one(job.x, job.storage, first + j * job.inner, tag)
        label[k] = s.label[which[k]]
        weight[k] = <real>per_sample(<const real*>job.sample_weight, i)
        upstream[k] = <real>per_sample(<const real*>job.grad_output, i)
    alone.x = rows
    alone.storage = alone.grad_storage = NATIVE
    alone.x_stride = job.classes
    alone.inner = 1
    alone.samples = n
    alone.lead = 0
    if job.labels != NULL:
        alone.labels = label
        alone.label_kind = 8
        alone.ignore_index = -1
    alone.mask = NULL
    if job.sample_weight != NULL:
        alone.sample_weight = weight
    if job.grad_output != NULL:
        alone.grad_output = upstream
    alone.value = value
    if job.grad != NULL:
        alone.grad = s.results
    place_tile(&alone, 0, n, &tile)
    tile_of_op(
        <real*>part_of(memory, 0, LANES_BLOCK * LANES * sizeof(real)), <real*>NULL,
        <real*>part_of(memory, 2, LANES_BLOCK * LANES * sizeof(real)), &alone, &tile, total, low, &huge,
    )
    for k in range(n):
        if (<real*>s.odd)[which[k]] == 2:  # in a lane of their own: whichever tile they are in, in the same order
            two_sum(total[k], s.total + LANES - 1, s.low + LANES - 1)
            s.low[LANES - 1] += low[k]
    if huge.total != 0:
        add_huge(huge.total, s.huge)
        add_huge(huge.low, s.huge)


cdef inline void alone_into_tile(
    real* tag, const ClassJob* job, Samples* s, const int* which, int n
) noexcept nogil:
    """Put what `sample_alone` makes of samples where the results of the tile are computed from."""
    cdef real value[LANES]
    cdef real* to
    cdef const real* result = <const real*>s.results
    cdef Py_ssize_t down, j, l
    cdef int k
    sample_alone(tag, job, s, which, n, value)
    for k in range(n):
        l = which[k]
        if (<real*>s.odd)[l] == 2:
            (<real*>s.value)[l] = value[k] if job.op != LOG_SOFTMAX else <real>0
            (<real*>s.top)[l] = <real>0
        if job.grad != NULL:
            to = kept(job, s, l, tag, &down)
            for j in range(job.classes):
                to[j * down] = result[k * job.classes + j]
            (<real*>s.factor)[l] = <real>1
            (<real*>s.least)[l] = <real>-INFINITY
            if job.labels != NULL:
                (<real*>s.entry)[l] = result[k * job.classes + s.label[l]]


cdef inline bint is_far_sum(real* tag, double total) noexcept nogil:
    """Whether a sum is outside the window; as `odd_sum`."""
    if real is float:
        return not 1048576.0 < total < 1.2089258196146292e24
    else:
        return not 1.6069380442589903e60 < total < 6.668014432879854e240


cdef inline double exp_of_top(real* tag, double top) noexcept nogil:
    """The greatest exponential of a sample with a reference of its own."""
    cdef f16 f
    cdef d8 d
    cdef double c
    if real is float:
        c = exp_reference(top, lead_of(f), f)
        return first(exp_of(all_of(top, f), exp_magic(c, f), exp_least(c, f)))
    else:
        c = exp_reference(top, lead_of(d), d)
        return first(exp_of(all_of(top, d), exp_magic(c, d), exp_least(c, d)))


cdef inline bint is_far(real* tag, const Samples* s, Py_ssize_t l) noexcept nogil:
    """Whether sample l is odd for its sums, which a c of its own may change."""
    cdef double others = (<real*>s.others)[l], own = (<real*>s.own)[l] if s.collects != SUM else <real>0
    cdef double greatest = ldexp(1, <int>s.reach)
    if is_far_sum(tag, others + own):
        return others + own < INFINITY
    return (s.collects == OWN or s.collects == PEAK) and not 1 / greatest < others / own < greatest


cdef inline void give_own_references(real* tag, Samples* s, bint own) noexcept nogil:
    """Compute each sample with a c of its own, or all with one. With its own less is odd."""
    s.own_c = own
    if real is float:
        s.reach = 120 if own else 80
    else:
        s.reach = 1000 if own else 500


cdef inline void hopeless_samples(real* tag, const ClassJob* job, const Samples* s) noexcept nogil:
    """Values of samples whose label's exponential vanishes beside the others: log Σ exp(x_j - m) + (m - x_t)."""
    cdef real* odd = <real*>s.odd
    cdef const real* others = <const real*>s.others
    cdef double top, weight, total, x_t, y, enough = 1.2676506002282294e30 if sizeof(real) == 4 else 1e280
    cdef Py_ssize_t l
    for l in range(s.count):
        total = others[l]
        if odd[l] != 2 or s.label[l] < 0 or is_far_sum(tag, total) or not total > enough * (<real*>s.own)[l]:
            continue
        top = (<real*>s.top)[l]
        x_t = read_one(job.x, job.storage, position_of(job, s.first + l) + s.label[l] * job.inner, tag)
        y = log(total / exp_of_top(tag, top)) + (top - x_t)
        if s.weighted:
            weight = (<real*>s.weight)[l]
            if not (weight == 0 or fabs(weight) > 1e-30 and fabs(y * weight) < 1e30):
                continue
            y = y * weight if weight != 0 else 0
        (<real*>s.value)[l] = <real>y
        odd[l] = <real>1 if s.weighted and job.grad != NULL and isnan((<real*>s.scale)[l]) else <real>0


cdef inline void odd_samples(real* tag, const ClassJob* job, Samples* s) noexcept nogil:
    """Compute what is odd, and usual samples again that c was wrong for."""
    cdef real* odd = <real*>s.odd
    cdef int which[LANES]
    cdef int n = 0, most = <int>min(<Py_ssize_t>LANES, LANES_BLOCK * LANES // job.classes)
    cdef Py_ssize_t l, far = s.count if s.own_c else 0
    while far < s.count and not is_far(tag, s, far):
        far += 1
    if far < s.count:
        s.far_tiles = 16
        give_own_references(tag, s, True)
        statistics(tag, job, s)
        samples_of_steps(tag, s, job.grad != NULL)
        s.c = suggested(job, s.first + far, s.c, 0.9, tag)
    if s.own_c and s.collects == OWN:
        hopeless_samples(tag, job, s)
    give_own_references(tag, s, False)
    for l in range(s.count):
        if odd[l] != 0:
            which[n] = <int>l
            n += 1
        if n == most or n > 0 and l == s.count - 1:
            alone_into_tile(tag, job, s, which, n)
            n = 0


# ---- Tiles ----


cdef inline void read_weights(real* tag, const ClassJob* job, const Samples* s) noexcept nogil:
    """What values and gradients are multiplied by; NaN where that, or a part of it, is odd."""
    cdef const real* by_class = <const real*>job.class_weight
    cdef real* weight = <real*>s.weight
    cdef real* by_sample = <real*>s.factor
    cdef real* upstream = <real*>s.least
    cdef Py_ssize_t l, n = s.steps * (64 // <int>sizeof(real))
    for l in range(n):
        weight[l] = by_sample[l] = upstream[l] = <real>1
    if by_class != NULL:
        for l in range(s.count):
            weight[l] = by_class[max(s.label[l], <int64_t>0)]
    if job.sample_weight != NULL:
        memcpy(by_sample, <const real*>job.sample_weight + s.first, s.count * sizeof(real))
    if job.grad_output != NULL:
        memcpy(upstream, <const real*>job.grad_output + s.first, s.count * sizeof(real))
    if s.ignored:
        for l in range(s.count):
            if s.label[l] < 0:
                weight[l] = by_sample[l] = upstream[l] = <real>0
    if real is float:
        (<weights_function>fastloss_out_of_line(<void*>weights_f16))(s, job.grad_scale, job.index_scale)
    else:
        (<weights_function>fastloss_out_of_line(<void*>weights_d8))(s, job.grad_scale, job.index_scale)


cdef inline void read_labels(real* tag, const ClassJob* job, Samples* s) noexcept nogil:
    """The labels, -1 where they do not count, and the weights of value and gradient, NaN where they are odd."""
    cdef const int64_t* labels = <const int64_t*>job.labels + s.first
    cdef Py_ssize_t l
    cdef int64_t t, ignored = 0
    if job.label_kind == 8 and job.mask == NULL:
        for l in range(s.count):
            ignored |= -<int64_t>(labels[l] == job.ignore_index)
            s.label[l] = labels[l]
    else:
        for l in range(s.count):
            t = label_of(job, s.first + l)
            ignored |= -<int64_t>(t == job.ignore_index)
            s.label[l] = t
    s.ignored = ignored != 0
    if s.ignored:
        for l in range(s.count):
            s.label[l] = -1 if s.label[l] == job.ignore_index else s.label[l]
    if not s.in_rows:
        for l in range(s.count):
            (<real*>s.label_real)[l] = <real>s.label[l]
    s.weighted = s.ignored or not s.plain
    if s.weighted:
        read_weights(tag, job, s)


cdef inline void results_in_rows(real* tag, const ClassJob* job, const Samples* s) noexcept nogil:
    """The gradient, or softmax or log_softmax, of samples whose classes are neighbours."""
    cdef Py_ssize_t classes = job.classes, first = s.first * classes, l
    cdef real* y = block_to_write(job.grad, job.grad_storage, first, <real*>s.out)
    cdef const real* entry = <const real*>s.entry
    if job.op == LOG_SOFTMAX:
        if real is float:
            fastloss_rows_float_differences(<real*>s.x, <real*>s.top, <real*>s.value, classes, s.count, y)
        else:
            fastloss_rows_double_differences(<real*>s.x, <real*>s.top, <real*>s.value, classes, s.count, y)
    elif real is float:
        fastloss_rows_float_products(<real*>s.e, <real*>s.factor, <real*>s.least, classes, s.count, y)
    else:
        fastloss_rows_double_products(<real*>s.e, <real*>s.factor, <real*>s.least, classes, s.count, y)
    if job.labels != NULL and s.ignored:
        for l in range(s.count):
            if s.label[l] >= 0:
                y[l * classes + s.label[l]] = entry[l]
    elif job.labels != NULL:
        for l in range(s.count):
            y[l * classes + s.label[l]] = entry[l]
    write_block(y, job.grad, job.grad_storage, first, s.count * classes)


cdef inline void results_in_planes(real* tag, const ClassJob* job, const Samples* s) noexcept nogil:
    """The same of samples that are neighbours in each class."""
    cdef Py_ssize_t n = s.steps * (64 // <int>sizeof(real)), c, l, place
    cdef real* e = <real*>s.e
    cdef real* y
    cdef bint direct = is_direct(job, s, tag), differences = job.op == LOG_SOFTMAX
    cdef map_function function
    if real is float:
        function = <map_function>fastloss_out_of_line(<void*>(differences_f16 if differences else products_f16))
    else:
        function = <map_function>fastloss_out_of_line(<void*>(differences_d8 if differences else products_d8))
    if job.labels != NULL:
        for l in range(s.count):
            if s.label[l] >= 0 and not (<real*>s.odd)[l] != 0:
                e[s.label[l] * n + l] = -(<real*>s.others)[l]
    for c in range(job.classes):
        y = <real*>s.out
        if direct and job.grad_storage == NATIVE:
            place = s.first // job.inner * job.classes * job.inner + s.first % job.inner
            y = <real*>job.grad + place + c * job.inner
        function(e + c * n, s, y)
        write_plane(job, s, direct, c, y)


cdef inline void odd_samples_float(const ClassJob* job, Samples* s) noexcept nogil:
    odd_samples(<float*>NULL, job, s)


cdef inline void odd_samples_double(const ClassJob* job, Samples* s) noexcept nogil:
    odd_samples(<double*>NULL, job, s)


ctypedef void (*odd_function)(const ClassJob*, Samples*) noexcept nogil


cdef inline void compute_tile(real* tag, const ClassJob* job, Samples* s) noexcept nogil:
    """Values and results of a tile of samples."""
    cdef Py_ssize_t l
    cdef real* value = <real*>s.value
    cdef real* to = <real*>job.value
    cdef const real* top = <const real*>s.top
    cdef bint grad = job.grad != NULL, any_odd
    if job.labels != NULL:
        read_labels(tag, job, s)
    if s.far_tiles > 0:
        s.far_tiles -= 1
        give_own_references(tag, s, True)
    statistics(tag, job, s)
    any_odd = samples_of_steps(tag, s, grad)
    if any_odd:
        if real is float:
            (<odd_function>fastloss_out_of_line(<void*>odd_samples_float))(job, s)
        else:
            (<odd_function>fastloss_out_of_line(<void*>odd_samples_double))(job, s)
    give_own_references(tag, s, False)
    if to != NULL:
        to += s.first
        if job.op == LOGSUMEXP:
            for l in range(s.count):
                to[l] = top[l] + value[l]
        else:
            memcpy(to, value, s.count * sizeof(real))
    if any_odd and job.op == LOSS:  # are in the sum already
        for l in range(s.count):
            value[l] = <real>0 if (<real*>s.odd)[l] == 2 else value[l]
    if grad and s.in_rows:
        results_in_rows(tag, job, s)
    elif grad:
        results_in_planes(tag, job, s)


cdef inline void add_block(real* tag, Samples* s, const real* value) noexcept nogil:
    if real is float:
        add_values(value, s.total, s.low, f16_all(0))
    else:
        add_values(value, s.total, s.low, d8_all(0))


cdef inline Py_ssize_t tile_size(const ClassJob* job, Py_ssize_t start, real* tag) noexcept nogil:
    """Samples of the tile that begins with `start`, if there are so many."""
    cdef Py_ssize_t bytes_of_sample = job.classes * <Py_ssize_t>sizeof(real), beyond, size
    if job.inner == 1:
        size = 64 if bytes_of_sample <= 192 else (32 if bytes_of_sample <= 512 else 16)
        return size - start % size
    size = PLANE_SAMPLES
    if job.grad != NULL:
        size = min(size, KEPT_BYTES // bytes_of_sample // 16 * 16)
    beyond = (start + LANES - job.lead) % LANES
    if beyond != 0:
        size = min(size, LANES - beyond)
    return min(size, job.inner - start % job.inner) if job.inner >= RUN_MIN_INNER else size


cdef inline void place_samples(real* tag, const ClassJob* job, Samples* s) noexcept nogil:
    """The arrays of tiles, in this thread's memory; the first three parts are for `lanes_tile`."""
    cdef void* memory = own_memory()
    cdef Py_ssize_t block = LANES_BLOCK * LANES * sizeof(real), size = TILE_ARRAY * sizeof(real)
    cdef Py_ssize_t arrays = 7 * (block + APART) + KEPT_BYTES + APART
    s.x = part_of(memory, 3, block)
    s.out = part_of(memory, 4, block)
    s.rows = part_of(memory, 5, block)
    s.results = part_of(memory, 6, block)
    s.e = part_of(memory, 7, block)
    s.highest = fastloss_offset(memory, arrays + 11 * size + 24 * TILE_ARRAY)
    s.own = fastloss_offset(memory, arrays)
    s.others = fastloss_offset(memory, arrays + size)
    s.top = fastloss_offset(memory, arrays + 2 * size)
    s.weight = fastloss_offset(memory, arrays + 3 * size)
    s.scale = fastloss_offset(memory, arrays + 4 * size)
    s.factor = fastloss_offset(memory, arrays + 5 * size)
    s.least = fastloss_offset(memory, arrays + 6 * size)
    s.entry = fastloss_offset(memory, arrays + 7 * size)
    s.odd = fastloss_offset(memory, arrays + 8 * size)
    s.label_real = fastloss_offset(memory, arrays + 9 * size)
    s.value = fastloss_offset(memory, arrays + 10 * size)
    s.label = <int64_t*>fastloss_offset(memory, arrays + 11 * size)
    s.wide = <double*>fastloss_offset(memory, arrays + 11 * size + 8 * TILE_ARRAY)
    s.wide_low = <double*>fastloss_offset(memory, arrays + 11 * size + 16 * TILE_ARRAY)
    s.in_rows = job.inner == 1
    if job.op == LOSS:
        s.collects = OWN
    elif job.op == SOFTMAX:
        s.collects = SUM if s.in_rows else MOST
    else:
        s.collects = PEAK
    s.scale_of_all = job.grad_scale if job.op == LOSS else 1
    s.plain = job.class_weight == NULL and job.sample_weight == NULL and job.grad_output == NULL \
        and job.index_scale == 1 and not (job.grad != NULL and is_out_of_range(job.grad_scale, 2.2e-13, 1e6))
    s.weighted = s.ignored = False
    s.far_tiles = 0
    give_own_references(tag, s, False)


cdef inline void tiles_chunk(real* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Samples [chunk * job.chunk, ...) of a job that `tiles_take`."""
    cdef Py_ssize_t start = chunk * job.chunk, last = min(start + job.chunk, job.samples), held = 0, k
    cdef double total[LANES]
    cdef double low[LANES]
    cdef Huge huge
    cdef Samples s
    cdef real* values
    huge.total = huge.low = 0
    for k in range(LANES):
        total[k] = low[k] = 0
    place_samples(tag, job, &s)
    s.total = total
    s.low = low
    s.huge = &huge
    s.c = suggested(job, start, -50.0 if real is float else -500.0, 0.9, tag)
    values = <real*>s.value
    while start < last:
        s.first = start
        s.count = min(tile_size(job, start, tag), last - start)
        s.steps = (s.count * <Py_ssize_t>sizeof(real) + 63) // 64
        s.value = values + held
        compute_tile(tag, job, &s)
        start += s.count
        held += s.count
        if job.op != LOSS:
            held = 0
        for k in range(0, held - LANES + 1, LANES):  # LANES values at a time, wherever tiles begin
            add_block(tag, &s, values + k)
        if held >= LANES:
            memmove(values, values + held // LANES * LANES, held % LANES * sizeof(real))
            held %= LANES
    if held > 0:
        for k in range(held, LANES):
            values[k] = <real>0
        add_block(tag, &s, values)
    fastloss_stream_end()
    sum_lanes(total, low, LANES, &huge, job.partial + 3 * chunk)


cdef inline bint tiles_take(const ClassJob* job) noexcept nogil:
    """Whether tiles are for a job of `lanes`."""
    if job.op != LOSS and job.op != SOFTMAX and job.op != LOG_SOFTMAX and job.op != LOGSUMEXP:
        return False
    return 2 <= job.classes <= TILE_MAX_CLASSES
