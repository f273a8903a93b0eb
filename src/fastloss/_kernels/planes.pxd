# planes: a tile class by class. A strided class axis, such as (N, C, H, W), is read where it stands; few classes that
# are neighbours are transposed first.
#
# A Hessian's diagonal is written before the gradient, as in `rows`.
#
# a) One pass finds each sample's maximum, the next exponentials of x itself with a reference of the sample's own
#    (math.pxd), GROUP classes at a time, whose sums stay in registers. What a gradient needs of them stays in L1 or L2,
#    or is computed again where there are too many classes.
# b) The sum of exponentials has no rounding of the greatest: log Σ exp(x_j - m) = log(1 + rest / unit), also where it
#    is 1e-20. A loss of a label is that and m - x_t, neither of which is negative.
# c) Most losses of a label need no maximum: own_terms.pxd. Their first pass is the one with exponentials.

from libc.math cimport INFINITY, NAN, isnan
from libc.string cimport memset
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.reading cimport *
from fastloss._kernels.tile cimport *
from fastloss._kernels.own_terms cimport *
include "tuning.pxi"


# ---- Steps ----


cdef inline Sums load_wide(const double* sums, Py_ssize_t i) noexcept nogil:
    cdef Sums x
    x.total = d8_load(sums + 16 * i)
    x.low = d8_load(sums + 16 * i + 8)
    return x


cdef inline void store_wide(const Sums* x, double* sums, Py_ssize_t i) noexcept nogil:
    d8_store(x.total, sums + 16 * i)
    d8_store(x.low, sums + 16 * i + 8)


cdef inline void carry(bint WIDE, vec x, double* wide, void* sums, Py_ssize_t i) noexcept nogil:
    """Add the sum of a group of classes to step i of sums, in float64 if WIDE."""
    cdef Sums s
    if WIDE:
        s = load_wide(wide, i)
        add_halves(x, &s)
        store_wide(&s, wide, i)
    else:
        store(add(load(sums, i, x), x), sums, i)


cdef inline void raise_tops(
    bint WITH_C, const void* x, Py_ssize_t stride, const void* c, Py_ssize_t c_stride, Py_ssize_t m, const Tile* s,
    vec tag
) noexcept nogil:
    cdef vec top, a, p
    cdef Py_ssize_t i, g
    for i in range(s.steps):
        top = load(s.top, i, tag)
        if WITH_C:
            a = load(s.a, i, tag)
        for g in range(m):
            p = load(<const char*>x + g * stride, i, tag)
            if WITH_C:
                a = if_less(top, p, load(<const char*>c + g * c_stride, i, tag), a)
            top = max_of(p, top)
        store(top, s.top, i)
        if WITH_C:
            store(a, s.a, i)


cdef inline void tops_of(
    vec* type, const void* x, Py_ssize_t stride, const void* c, Py_ssize_t c_stride, Py_ssize_t m, const Tile* s
) noexcept nogil:
    """Raise `top` to m classes; and what stands in c, if it is not NULL, beside them."""
    cdef vec tag
    if c == NULL:
        raise_tops(False, x, stride, c, c_stride, m, s, tag)
    else:
        raise_tops(True, x, stride, c, c_stride, m, s, tag)


cdef inline void own_by_comparison(
    vec* type, const void* x, Py_ssize_t stride, Py_ssize_t m, const Tile* s
) noexcept nogil:
    """x of the labels among all of few classes."""
    cdef vec tag, own, p, zero = all_of(0, tag)
    cdef Py_ssize_t i, g
    for i in range(s.steps):
        own = zero
        for g in range(m):
            p = load(<const char*>x + g * stride, i, tag)
            own = either(own, if_equal(load(s.label, i, tag), all_of(g, tag), p, zero))
        store(own, s.own, i)


cdef inline vec coefficient_of(const ClassJob* job, vec c, Py_ssize_t j) noexcept nogil:
    """c_j of a step, from what is in memory for class j."""
    cdef vec y = fma_of(all_of(job.coefficient_scale, c), c, all_of(job.coefficient_shift, c))
    if job.linear_weight == NULL:
        return y
    return mul(y, all_of(element(job.linear_weight, j, y), y))


cdef inline void sums_of(
    int MODE, const ClassJob* job, const void* x, Py_ssize_t stride, const void* c, Py_ssize_t c_stride, Py_ssize_t j0,
    Py_ssize_t m, bint wide, const Tile* s, void* e, Py_ssize_t e_stride, vec tag
) noexcept nogil:
    """Add classes [j0, j0 + m), and store their exponentials; their sums are carried on in float64 if `wide`."""
    cdef vec magic, least, unit, rest, label, top, b, p, q, c_j, j, zero = all_of(0, tag), one = all_of(1, tag)
    cdef vec low = zero, mass = zero, c_top = zero, c_rest = zero, most = all_of(-INFINITY, tag)
    cdef bint weighted = is_weighted(job), BY_LABEL = MODE == LABELLED or MODE == SMOOTHED
    cdef Py_ssize_t i, g, ahead = s.ahead
    cdef Sums a
    label = top = b = zero
    for i in range(s.steps):
        magic = load(s.magic, i, tag)
        least = load(s.least, i, tag)
        unit = load(s.unit, i, tag)
        rest = b = zero
        if BY_LABEL:
            label = max_of(zero, load(s.label, i, tag))
            j = all_of(j0, tag)
        if MODE != PLAIN and MODE != LABELLED:
            top = load(s.a if MODE == PRODUCT else s.own if MODE == SMOOTHED else s.top, i, tag)
        if MODE == SQUARED:
            a = load_wide(s.a_wide, i)
        if MODE == LINEAR:
            c_top = load(s.a, i, tag)
            c_rest = zero
            if weighted:
                mass = load(s.mass, i, tag)
        for g in range(m):
            p = load(<const char*>x + g * stride, i, tag)
            fastloss_prefetch(<const char*>x + g * stride + 64 * i + ahead)
            q = exp_of(p, magic, least)
            store(q, <char*>e + g * e_stride, i)
            if BY_LABEL:
                most = max_of(p, most)
                unit = either(unit, if_equal(label, j, q, zero))
                rest = add(rest, if_equal(label, j, zero, q))
                j = add(j, one)
            else:
                rest = add(rest, min_of(unit, q))
                unit = max_of(unit, q)
            if MODE == SMOOTHED:
                b = add(b, sub(p, top))
            if MODE == SHARED or MODE == LINEAR:
                if MODE == SHARED:
                    c_j = all_of(shared_by(job, j0 + g), tag)
                else:
                    c_j = load(<const char*>c + g * c_stride, i, tag)
                    low = min_of(c_j, low)
                    if weighted:
                        mass = add(c_j, mass)
                    c_j = coefficient_of(job, c_j, j0 + g)
                    c_rest = add(c_rest, min_of(c_top, c_j))
                    c_top = max_of(c_top, c_j)
                b = fma_of(c_j, if_equal(c_j, zero, zero, sub(p, top)), b)
            if MODE == EXPECTED:  # where x is -inf, its exponential does not count
                b = fma_of(q, max_of(all_of(-1e4, tag), sub(p, top)), b)
            if MODE == SQUARED:
                p = max_of(all_of(-1e4, tag), sub(p, top))
                q = mul(q, p)
                b = add(b, q)
                add_halves(mul(q, p), &a)
            if MODE == PRODUCT:
                b = fma_of(q, sub(load(<const char*>c + g * c_stride, i, tag), top), b)
        store(unit, s.unit, i)
        carry(wide, rest, s.wide, s.rest, i)
        if MODE == LINEAR:
            store(c_top, s.a, i)
            carry(wide, c_rest, s.a_wide, s.a_low, i)
            if weighted:
                store(mass, s.mass, i)
        if MODE == SQUARED:
            store_wide(&a, s.a_wide, i)
        if MODE != PLAIN and MODE != LABELLED:
            carry(wide, b, s.b_wide, s.b, i)
    if MODE == LINEAR:
        store(min_of(low, load(s.extreme, 0, tag)), s.extreme, 0)
    if BY_LABEL:
        store(max_of(most, load(s.extreme, 0, tag)), s.extreme, 0)


cdef inline vec coefficients_at(const Tile* s, Py_ssize_t i, vec tag) noexcept nogil:
    """Σ c_j of a step."""
    return add(load(s.a, i, tag), load(s.a_low, i, tag))


cdef inline vec loss_of(
    const ClassJob* job, const Tile* s, Py_ssize_t i, vec log_sum, vec total, vec* scale, vec* entry
) noexcept nogil:
    """The value of a loss, k (L + (m - x_t)) + a L - b; NaN if it is odd. And the scale of its gradient, and, with a
    head, the label's entry."""
    cdef vec y = add(log_sum, sub(load(s.top, i, log_sum), load(s.own, i, log_sum)))
    cdef vec own, not_own, slope, square
    scale[0] = all_of(s.scale_of_all, log_sum)
    if s.weighted:
        scale[0] = load(s.scale, i, log_sum)
    if s.mode == LABELLED and job.headed:
        own = exp_of(load(s.own, i, total), load(s.magic, i, total), load(s.least, i, total))
        not_own = div(add(load(s.rest, i, total), sub(load(s.unit, i, total), own)), total)
        y = headed(job, s, i, y, load(s.top, i, total), log_sum, div(own, total), not_own, &slope, entry)
        entry[0] = mul(scale[0], entry[0])
        scale[0] = within(mul(scale[0], slope), 1e-22 if vec is f16 else 1e-150, 1e6)
    elif s.mode != LABELLED:
        y = mul(load(s.k, i, log_sum), y) if job.labels != NULL else all_of(0, log_sum)
        y = sub(fma_of(within(coefficients_at(s, i, y), 1e-12, 1e6), log_sum, y), load(s.b, i, log_sum))
        if job.offset != NULL:
            y = add(y, load(s.value, i, log_sum))
        if job.z_loss != 0:
            square = within(square_of(job, load(s.top, i, total), log_sum, &y), 0, 1e6)
            scale[0] = if_equal(square, square, scale[0], square)  # then the gradient is odd
            store(add(load(s.a_low, i, total), square), s.a_low, i)
    if s.weighted:
        y = weighted_value(y, load(s.weight, i, log_sum))
    return within(y, 0, 1e30 if vec is f16 else 1e270)


cdef inline vec curves_of(const ClassJob* job, const Tile* s, Py_ssize_t i, vec a, vec total) noexcept nogil:
    """What the diagonal of a Hessian is computed from, a that of `curve_of`; 1 where this is odd."""
    cdef vec zero = all_of(0, a), one = all_of(1, a), inverse = div(one, total), floor = all_of(job.hessian.floor, a)
    cdef vec b = zero, scale = all_of(s.scale_of_all, a)
    if s.weighted:
        scale = load(s.scale, i, a)
        floor = if_less(load(s.label, i, a), zero, zero, floor)
    if job.hessian.convex:
        a = max_of(zero, a)
    if job.z_loss != 0:
        b = mul(scale, all_of(2 * job.z_loss * job.hessian.factor, a))
    store(mul(a, all_of(job.hessian.factor, a)), s.curve_a, i)
    store(b, s.curve_b, i)
    store(inverse, s.inverse, i)
    store(floor, s.floor, i)
    b = within(b, 0, 1e30)
    return if_equal(b, b, zero, one)


cdef inline bint samples_of(vec* type, const ClassJob* job, const Tile* s) noexcept nogil:
    """Values, and what gradients need, from the sums; whether a sample is odd."""
    cdef vec tag
    cdef vec unit, rest, total, ratio, log_sum, y, scale, entry, f, odd, any_odd = all_of(0, tag)
    cdef vec one = all_of(1, tag), two = all_of(2, tag), zero = all_of(0, tag)
    cdef vec tiny = all_of(least_normal(tag), tag)
    cdef bint is_loss = job.op == LOSS or job.op == LOSS_LINEAR
    cdef Py_ssize_t i
    for i in range(s.steps):
        unit = load(s.unit, i, tag)
        rest = load(s.rest, i, tag)
        total = add(rest, unit)
        ratio = div(rest, unit)
        odd = if_equal(ratio, ratio, zero, two)
        scale = one
        entry = zero
        y = log_sum = log1p_of_ratio(ratio)
        if is_loss:
            y = loss_of(job, s, i, log_sum, total, &scale, &entry)
            odd = if_equal(y, y, odd, two)
        elif job.op == LOGSUMEXP:
            y = add(load(s.top, i, tag), log_sum)
        elif job.op == ENTROPY_FROM_LOGITS:
            y = sub(log_sum, div(load(s.b, i, tag), total))
        elif job.op == MOMENTS:
            y = add(load(s.top, i, tag), log_sum)
            store(div(load(s.a, i, tag), total), s.a, i)
            store(div(load(s.b, i, tag), total), s.b, i)
        elif job.op == SOFTMAX_VJP:
            scale = load(s.scale, i, tag) if s.weighted else all_of(s.scale_of_all, tag)
            f = div(load(s.b, i, tag), total)
            scale = if_less(absolute_of(f), all_of(INFINITY, tag), scale, all_of(NAN, tag))
            store(f, s.b, i)
        store(y, s.value, i)
        if job.with_grad:
            f = factor_of(scale, total, &odd)
            store(f, s.factor, i)
            if is_loss and s.mode != LABELLED:
                scale = mul(scale, add(coefficients_at(s, i, tag), load(s.k, i, tag)))
            if job.hessian.data != NULL:
                odd = max_of(odd, curves_of(job, s, i, scale, total))
            store(mul(total, div(tiny, absolute_of(scale))), s.flush, i)
            if s.mode == LABELLED and not job.headed:
                y = exp_of(load(s.own, i, tag), load(s.magic, i, tag), load(s.least, i, tag))
                entry = negative(mul(f, add(rest, sub(unit, y))))
            if s.mode == LABELLED:
                store(if_less(absolute_of(entry), tiny, zero, entry), s.entry, i)
        store(odd, s.odd, i)
        any_odd = max_of(any_odd, odd)
    return greatest(any_odd) > 0


cdef inline void gradient_of(
    int MODE, const ClassJob* job, const void* x, Py_ssize_t stride, const void* c, Py_ssize_t c_stride, Py_ssize_t j0,
    Py_ssize_t m, const Tile* s, void* y, Py_ssize_t y_stride, vec tag
) noexcept nogil:
    """Classes [j0, j0 + m) of the gradient, from their exponentials, or from x."""
    cdef vec q, c_j, j, label, entry, factor, flush, of_rest, rest, k, zero = all_of(0, tag), one = all_of(1, tag)
    cdef bint from_x = not s.kept
    cdef Py_ssize_t i, g
    label = entry = rest = k = zero
    for i in range(s.steps):
        factor = load(s.factor, i, tag)
        flush = load(s.flush, i, tag)
        j = all_of(j0, tag)
        if MODE != PLAIN:
            label = load(s.label, i, tag)
        if MODE == LABELLED:
            entry = load(s.entry, i, tag)
        if MODE == LINEAR:
            k = load(s.k, i, tag)
        for g in range(m):
            q = load(<const char*>x + g * stride, i, tag)
            if from_x:
                q = exp_of(q, load(s.magic, i, tag), load(s.least, i, tag))
            if MODE == SMOOTHED:
                store(fma_of(q, factor, negative(flush)), <char*>y + g * y_stride, i)
                continue
            q = if_less(q, flush, zero, q)
            if MODE == LINEAR:
                c_j = all_of(shared_by(job, j0 + g), tag) if s.mode == SHARED \
                    else coefficient_of(job, load(<const char*>c + g * c_stride, i, tag), j0 + g)
                of_rest = add(sub(load(s.a, i, tag), c_j), load(s.a_low, i, tag))
                of_rest = add(of_rest, if_equal(label, j, zero, k))
                c_j = add(c_j, if_equal(label, j, k, zero))
                rest = add(load(s.rest, i, tag), sub(load(s.unit, i, tag), q))
                q = sub(mul(of_rest, q), mul(c_j, rest))
            q = mul(q, factor)
            if MODE == LABELLED:
                q = if_equal(label, j, entry, q)
            if MODE != PLAIN:
                j = add(j, one)
            store(q, <char*>y + g * y_stride, i)


cdef inline void curves_of_planes(
    vec* type, const void* x, Py_ssize_t stride, Py_ssize_t m, bint from_x, bint cut, const Tile* s, void* y,
    Py_ssize_t y_stride
) noexcept nogil:
    """m classes of the diagonal of a Hessian, from their exponentials, or from x; to be `cut` as the gradient is."""
    cdef vec tag, a, b, unit, rest, inverse, floor, flush, q, zero = all_of(0, tag)
    cdef Py_ssize_t i, g
    for i in range(s.steps):
        a = load(s.curve_a, i, tag)
        b = load(s.curve_b, i, tag)
        unit = load(s.unit, i, tag)
        rest = load(s.rest, i, tag)
        inverse = load(s.inverse, i, tag)
        floor = load(s.floor, i, tag)
        flush = load(s.flush, i, tag) if cut else zero
        for g in range(m):
            q = load(<const char*>x + g * stride, i, tag)
            if from_x:
                q = exp_of(q, load(s.magic, i, tag), load(s.least, i, tag))
            q = curve_of(if_less(q, flush, zero, q), a, b, rest, unit, inverse, floor)
            store(q, <char*>y + g * y_stride, i)


cdef inline void product_of(
    const void* x, Py_ssize_t stride, const void* c, Py_ssize_t c_stride, Py_ssize_t m, const Tile* s, void* y,
    Py_ssize_t y_stride, vec tag
) noexcept nogil:
    """m classes of `SOFTMAX_VJP`, from their exponentials, or from x."""
    cdef vec factor, flush, mean, top, q, zero = all_of(0, tag)
    cdef Py_ssize_t i, g
    for i in range(s.steps):
        factor = load(s.factor, i, tag)
        flush = load(s.flush, i, tag)
        mean = load(s.b, i, tag)
        top = load(s.a, i, tag)
        for g in range(m):
            q = load(<const char*>x + g * stride, i, tag)
            if not s.kept:
                q = exp_of(q, load(s.magic, i, tag), load(s.least, i, tag))
            q = mul(if_less(q, flush, zero, q), factor)
            q = mul(q, sub(sub(load(<const char*>c + g * c_stride, i, tag), top), mean))
            store(q, <char*>y + g * y_stride, i)


cdef inline bint is_from_x(const ClassJob* job) noexcept nogil:
    """Whether the result is (x - m) - L, and 1 more for the softmax of one class, which is exact then."""
    return job.op == LOG_SOFTMAX or job.op == SOFTMAX and job.classes == 1


cdef inline void log_softmax_of(
    const void* x, Py_ssize_t stride, Py_ssize_t m, const Tile* s, void* y, Py_ssize_t y_stride, vec more
) noexcept nogil:
    cdef vec top, log_sum, p
    cdef Py_ssize_t i, g
    for i in range(s.steps):
        top = load(s.top, i, more)
        log_sum = load(s.value, i, more)
        for g in range(m):
            p = sub(sub(load(<const char*>x + g * stride, i, more), top), log_sum)
            store(add(p, more), <char*>y + g * y_stride, i)


# The loops are called by pointers that the compiler does not see through: each has the registers to itself.

ctypedef void (*own_function)(void*, const void*, Py_ssize_t, Py_ssize_t, const Tile*) noexcept nogil
ctypedef void (*tops_function)(
    void*, const void*, Py_ssize_t, const void*, Py_ssize_t, Py_ssize_t, const Tile*
) noexcept nogil
ctypedef bint (*samples_function)(void*, const ClassJob*, const Tile*) noexcept nogil
ctypedef void (*sums_function)(
    void*, const ClassJob*, const void*, Py_ssize_t, const void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, bint, const Tile*,
    void*, Py_ssize_t
) noexcept nogil
ctypedef void (*curves_function)(
    void*, const void*, Py_ssize_t, Py_ssize_t, bint, bint, const Tile*, void*, Py_ssize_t
) noexcept nogil
ctypedef void (*gradient_function)(
    void*, const ClassJob*, const void*, Py_ssize_t, const void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const Tile*,
    void*, Py_ssize_t
) noexcept nogil


cdef inline void sums_by_mode(
    vec* type, const ClassJob* job, const void* x, Py_ssize_t stride, const void* c, Py_ssize_t c_stride, Py_ssize_t j0,
    Py_ssize_t m, bint wide, const Tile* s, void* e, Py_ssize_t e_stride
) noexcept nogil:
    cdef vec tag
    if s.mode == SMOOTHED:
        sums_of(SMOOTHED, job, x, stride, c, c_stride, j0, m, wide, s, e, e_stride, tag)
    elif s.by_label:
        sums_of(LABELLED, job, x, stride, c, c_stride, j0, m, wide, s, e, e_stride, tag)
    elif s.mode == PLAIN or s.mode == LABELLED:
        sums_of(PLAIN, job, x, stride, c, c_stride, j0, m, wide, s, e, e_stride, tag)
    elif s.mode == SHARED:
        sums_of(SHARED, job, x, stride, c, c_stride, j0, m, wide, s, e, e_stride, tag)
    elif s.mode == LINEAR:
        sums_of(LINEAR, job, x, stride, c, c_stride, j0, m, wide, s, e, e_stride, tag)
    elif s.mode == SQUARED:
        sums_of(SQUARED, job, x, stride, c, c_stride, j0, m, wide, s, e, e_stride, tag)
    elif s.mode == PRODUCT:
        sums_of(PRODUCT, job, x, stride, c, c_stride, j0, m, wide, s, e, e_stride, tag)
    else:
        sums_of(EXPECTED, job, x, stride, c, c_stride, j0, m, wide, s, e, e_stride, tag)


cdef inline void gradient_by_mode(
    vec* type, const ClassJob* job, const void* x, Py_ssize_t stride, const void* c, Py_ssize_t c_stride, Py_ssize_t j0,
    Py_ssize_t m, const Tile* s, void* y, Py_ssize_t y_stride
) noexcept nogil:
    cdef vec tag
    if is_from_x(job):
        log_softmax_of(x, stride, m, s, y, y_stride, all_of(job.op == SOFTMAX, tag))
    elif s.mode == PRODUCT:
        product_of(x, stride, c, c_stride, m, s, y, y_stride, tag)
    elif s.mode == SMOOTHED:
        gradient_of(SMOOTHED, job, x, stride, c, c_stride, j0, m, s, y, y_stride, tag)
    elif s.mode == LABELLED and job.classes <= COMPARE_MAX_CLASSES:
        gradient_of(LABELLED, job, x, stride, c, c_stride, j0, m, s, y, y_stride, tag)
    elif s.mode == PLAIN or s.mode == LABELLED:
        gradient_of(PLAIN, job, x, stride, c, c_stride, j0, m, s, y, y_stride, tag)
    else:
        gradient_of(LINEAR, job, x, stride, c, c_stride, j0, m, s, y, y_stride, tag)


cdef inline const void* x_of(
    real* tag, const ClassJob* job, const Tile* s, Py_ssize_t j0, Py_ssize_t m, Py_ssize_t* stride
) noexcept nogil:
    """Tile of x from class j0 on, and the bytes from one to the next."""
    stride[0] = (job.inner if s.direct else s.n) * <Py_ssize_t>sizeof(real)
    if s.direct:
        return <const real*>job.x + position_of(job, s.first) + j0 * job.inner
    if s.gathered:
        return <real*>s.x + j0 * s.n
    (<gather_function>fastloss_out_of_line(<void*>gather_x[real]))(tag, job, s, j0, m)
    return s.x


cdef inline const void* c_of(
    real* tag, const ClassJob* job, const Tile* s, Py_ssize_t j0, Py_ssize_t m, Py_ssize_t* stride
) noexcept nogil:
    """The same of coefficients, where there are any."""
    stride[0] = s.n * <Py_ssize_t>sizeof(real)
    if s.mode != LINEAR and s.mode != PRODUCT:
        return NULL
    if s.direct and job.coefficient_storage == NATIVE:
        stride[0] = job.inner * <Py_ssize_t>sizeof(real)
        return <const real*>job.coefficient + position_in_results(job, s.first, j0)
    if s.gathered:
        return <real*>s.c + j0 * s.n
    (<gather_function>fastloss_out_of_line(<void*>gather_c[real]))(tag, job, s, j0, m)
    return s.c


cdef inline void own_of(real* tag, vec* type, const ClassJob* job, const Tile* s) noexcept nogil:
    """x of the labels; where there is none, 0 or that of class 0."""
    cdef Py_ssize_t stride = job.inner if s.direct else s.n, l
    cdef own_function compare = <own_function>fastloss_out_of_line(<void*>own_by_comparison[vec])
    cdef real* own = <real*>s.own
    cdef const real* x = <const real*>s.x
    if s.direct:
        x = <const real*>job.x + position_of(job, s.first)
    if (s.direct or s.gathered) and job.classes <= COMPARE_MAX_CLASSES:
        compare(NULL, x, stride * sizeof(real), job.classes, s)
        return
    if s.direct or s.gathered:
        for l in range(s.count):
            own[l] = x[max(s.labels[l], <int64_t>0) * stride + l]
        return
    for l in range(s.count):
        own[l] = <real>value_of(job, s.first + l, max(s.labels[l], <int64_t>0))


cdef inline void entries_of(
    real* tag, const Tile* s, Py_ssize_t j0, Py_ssize_t m, real* y, Py_ssize_t stride
) noexcept nogil:
    """The labels' entries into m planes of a gradient; 0 for class 0 where there is no label, as its others are."""
    cdef const real* entry = <const real*>s.entry
    cdef Py_ssize_t l
    cdef int64_t j
    for l in range(s.count):
        j = max(s.labels[l], <int64_t>0) - j0
        if j >= 0 and j < m:
            y[j * stride + l] = entry[l]


cdef inline void narrow(const double* sums, Py_ssize_t n, real* y) noexcept nogil:
    """Sums of `add_wide_steps`, in the loop's type."""
    cdef Py_ssize_t i, l
    if real is float:
        for l in range(n):
            y[l] = <real>sums[l]
    else:
        for i in range(0, n, 8):
            for l in range(8):
                y[i + l] = sums[2 * i + l] + sums[2 * i + 8 + l]


cdef inline void tops_of_planes(real* tag, vec* type, const ClassJob* job, const Tile* s) noexcept nogil:
    """The greatest x of each sample, and what `exp_of` needs for it."""
    cdef Py_ssize_t j, m, stride = 0, c_stride = 0
    cdef const void* x
    cdef const void* c = NULL
    cdef tops_function tops = <tops_function>fastloss_out_of_line(<void*>tops_of[vec])
    fill(s.top, s.n, <real>-INFINITY)
    for j in range(0, job.classes, GROUP):
        m = min(<Py_ssize_t>GROUP, job.classes - j)
        x = x_of(tag, job, s, j, m, &stride)
        if s.mode == PRODUCT:
            c = c_of(tag, job, s, j, m, &c_stride)
        tops(NULL, x, stride, c, c_stride, m, s)
    (<references_function>fastloss_out_of_line(<void*>references_of[vec]))(NULL, s)


cdef inline void sums_of_planes(real* tag, vec* type, const ClassJob* job, const Tile* s) noexcept nogil:
    """All sums of a tile, by groups of classes; those of a few groups stay in the loop's type."""
    cdef Py_ssize_t classes = job.classes, group = classes if classes <= GROUP + GROUP // 2 else GROUP, j, m, block
    cdef Py_ssize_t stride = 0, c_stride = 0, e_stride = s.n * sizeof(real) if s.kept else 0
    cdef bint wide = classes > GROUPS_IN_TYPE * GROUP
    cdef const void* x
    cdef const void* c
    cdef sums_function sums = <sums_function>fastloss_out_of_line(<void*>sums_by_mode[vec])
    fill(s.unit, s.n, <real>0)
    fill(s.rest, s.n, <real>0)
    fill(s.b, s.n if s.mode != PLAIN and s.mode != LABELLED else 0, <real>0)
    if wide:
        memset(s.wide, 0, 2 * s.n * sizeof(double))
        memset(s.b_wide, 0, 2 * s.n * sizeof(double))
    if s.mode == LINEAR or s.mode == SQUARED:
        memset(s.a_wide, 0, 2 * s.n * sizeof(double))
    if s.mode == LINEAR:
        fill(s.a, s.n, <real>0)
        fill(s.a_low, s.n, <real>0)
        fill(s.mass, s.n, <real>0)
    fill(s.extreme, 64 // <int>sizeof(real), <real>-INFINITY if s.by_label else <real>0)
    for block in range((classes + group - 1) // group):
        j = block * group
        m = min(group, classes - j)
        x = x_of(tag, job, s, j, m, &stride)
        c = c_of(tag, job, s, j, m, &c_stride)
        sums(NULL, job, x, stride, c, c_stride, j, m, wide, s, <real*>s.e + (j * s.n if s.kept else 0), e_stride)
    if wide:
        narrow(s.wide, s.n, <real*>s.rest)
        if s.mode != PLAIN and s.mode != LABELLED:
            narrow(s.b_wide, s.n, <real*>s.b)
    if s.mode == SQUARED:
        narrow(s.a_wide, s.n, <real*>s.a)
    elif s.mode == LINEAR and wide:
        narrow(s.a_wide, s.n, <real*>s.a_low)


cdef inline bint share_reference(real* tag, vec* type, const ClassJob* job, Tile* s) noexcept nogil:
    """Sums without the labels' terms, with a reference that tiles share; whether no exponential wrapped."""
    cdef vec step
    cdef Py_ssize_t stride = 0, n = PLANE_BYTES // <int>sizeof(real)
    cdef const real* x
    if isnan(s.reference):
        x = <const real*>x_of(tag, job, s, 0, job.classes, &stride)
        suggest_reference(job, s, x, stride // <int>sizeof(real), step)
        fill(s.magic, n, <real>magic_of(s.reference, step))
        fill(s.least, n, <real>least_of(s.reference, step))
    if reads_own(job, s):
        own_of(tag, type, job, s)
    sums_of_planes(tag, type, job, s)
    fill_beyond(tag, s)
    return greatest(load(s.extreme, 0, step)) <= most_in_reach(s.reference, step)


cdef inline bint statistics_of(real* tag, vec* type, ClassJob* job, Tile* s) noexcept nogil:
    """All that is collected of a tile, and what results are computed from; whether a sample is odd."""
    cdef own_samples_function own_samples = <own_samples_function>fastloss_out_of_line(<void*>own_samples_of[vec])
    if s.by_label and s.own_references == 0 and (s.direct or s.gathered):
        if share_reference(tag, type, job, s) and not own_samples(NULL, job, s, False):
            return False
        s.own_references = 16
    s.own_references -= s.own_references > 0
    s.reference = NAN
    tops_of_planes(tag, type, job, s)
    if (s.by_label or s.mode == LABELLED or s.mode == SHARED) and job.labels != NULL:
        own_of(tag, type, job, s)
    sums_of_planes(tag, type, job, s)
    if s.by_label:
        fill_beyond(tag, s)
        return own_samples(NULL, job, s, True)
    if s.mode == SHARED:
        fill(s.a, s.n, <real>job.shared_sum)
        fill(s.a_low, s.n, <real>(job.shared_sum - <real>job.shared_sum))
    elif s.mode == LINEAR:
        note_wrong(tag, type, job, s)
    return (<samples_function>fastloss_out_of_line(<void*>samples_of[vec]))(NULL, job, s)


cdef inline void finish_results(
    real* tag, vec* type, const ClassJob* job, const Tile* s, Py_ssize_t j0, Py_ssize_t m, real* y, Py_ssize_t stride,
    bint store, bint any_odd
) noexcept nogil:
    """What m planes of a gradient still need, and, if `store`, where they go."""
    if s.mode == SMOOTHED or s.mode == LABELLED and job.classes > COMPARE_MAX_CLASSES:
        entries_of(tag, s, j0, m, y, stride)
    if not writes_as_is(job):
        (<uncap_function>fastloss_out_of_line(<void*>uncap[real, vec]))(NULL, NULL, job, s, j0, m, any_odd, y)
    if store and job.grad != NULL:
        (<write_function>fastloss_out_of_line(<void*>write_planes[real]))(
            job.grad, job.grad_storage, job, s, y, j0, m, any_odd
        )


cdef inline void curves_of_tile(
    real* tag, vec* type, const ClassJob* job, const Tile* s, const void* x, Py_ssize_t stride, Py_ssize_t j0,
    Py_ssize_t m, bint any_odd
) noexcept nogil:
    """m classes from j0 on of the diagonal of a Hessian, from exponentials if they are kept, otherwise from x."""
    cdef bint in_place = s.direct and not any_odd and job.hessian.storage == NATIVE
    cdef real* y = <real*>s.out
    cdef Py_ssize_t y_stride = s.n
    cdef curves_function curves = <curves_function>fastloss_out_of_line(<void*>curves_of_planes[vec])
    if in_place:
        y = <real*>job.hessian.data + position_in_results(job, s.first, j0)
        y_stride = job.inner
    curves(NULL, x, stride, m, not s.kept, job.z_loss == 0, s, y, y_stride * sizeof(real))
    if not in_place:
        (<write_function>fastloss_out_of_line(<void*>write_planes[real]))(
            job.hessian.data, job.hessian.storage, job, s, y, j0, m, any_odd
        )


cdef inline void results_of(real* tag, vec* type, const ClassJob* job, Tile* s, bint any_odd) noexcept nogil:
    """The gradient, softmax or log_softmax of a tile."""
    cdef Py_ssize_t classes = job.classes, j, m, stride = 0, c_stride = 0, y_stride
    cdef const void* x
    cdef const void* c
    cdef real* y
    cdef real* place = <real*>job.grad + position_in_results(job, s.first, 0)
    cdef bint in_place = s.direct and not any_odd and job.grad_storage == NATIVE and job.summed == 0
    cdef gradient_function gradient = <gradient_function>fastloss_out_of_line(<void*>gradient_by_mode[vec])
    if job.hessian.data != NULL and s.kept:
        curves_of_tile(tag, type, job, s, s.e, s.n * sizeof(real), 0, classes, any_odd)
    for j in range(0, classes, GROUP):
        m = min(<Py_ssize_t>GROUP, classes - j)
        c = c_of(tag, job, s, j, m, &c_stride)
        y = <real*>s.e + j * s.n if s.kept else <real*>s.out
        y_stride = s.n * sizeof(real)
        x = y
        stride = y_stride
        if not s.kept or is_from_x(job):
            x = x_of(tag, job, s, j, m, &stride)
        if job.hessian.data != NULL and not s.kept:
            curves_of_tile(tag, type, job, s, x, stride, j, m, any_odd)
        if in_place:
            y = place + j * job.inner
            y_stride = job.inner * sizeof(real)
        gradient(NULL, job, x, stride, c, c_stride, j, m, s, y, y_stride)
        if not in_place and not s.kept:
            finish_results(tag, type, job, s, j, m, y, s.n, True, any_odd)
    if in_place:
        finish_results(tag, type, job, s, 0, classes, place, job.inner, False, any_odd)
    elif s.kept:
        finish_results(tag, type, job, s, 0, classes, <real*>s.e, s.n, True, any_odd)


cdef inline void entropy_of_planes(real* tag, vec* type, ClassJob* job, Tile* s) noexcept nogil:
    """Σ -p log p, GROUP terms at a time."""
    cdef real* total = <real*>s.rest
    cdef double* low = s.wide + s.n
    cdef Py_ssize_t j, m, g, l, stride = 0
    cdef const real* p
    memset(s.wide, 0, 2 * s.n * sizeof(double))
    for j in range(0, job.classes, GROUP):
        m = min(<Py_ssize_t>GROUP, job.classes - j)
        p = <const real*>x_of(tag, job, s, j, m, &stride)
        stride //= <Py_ssize_t>sizeof(real)
        fill(total, s.n, <real>0)
        for g in range(m):
            for l in range(s.n):
                total[l] += entropy_term(p[g * stride + l])
        for l in range(s.n):
            add_to(total[0], total[l], s.wide + l, low + l)
    for l in range(s.count):
        (<real*>job.value)[s.first + l] = <real>joined(s.wide[l], low[l])
