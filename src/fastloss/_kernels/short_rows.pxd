# short_rows: a tile of rows of few classes, for a label's loss and softmax. What stands in memory one after another is
# computed so, whatever sample or class it is of, and rows are added up in L1.
#
# a) Exponentials are those of x itself, up to a reference that the first sample suggests. It moves exponents, and
#    nothing else while each sum is in a window; a tile with a sample outside is computed again, each with its own.
# b) The label's exponential is taken out of the sum: with what is left a loss is log(1 + rest / own), also where it is
#    1e-20; where the label's vanishes beside the others, log Σ exp(x_j - m) + (m - x_t).

from libc.math cimport isnan, ldexp
from libc.string cimport memcpy, memset
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.reading cimport *
from fastloss._kernels.tile cimport *
include "tuning.pxi"


# ---- Steps ----


cdef inline bint exp_tile(vec* type, const void* x, Py_ssize_t n, double c, void* e) noexcept nogil:
    """Exponentials of n numbers, up to a whole step. Whether they are right: none is so great that it wrapped."""
    cdef vec tag, magic = exp_magic(c, tag)
    cdef double most = (c + (110 if vec is f16 else 1000)) * 0.693147180559945309
    return greatest(exp_steps(NATIVE, False, x, n, 8192, magic, magic, exp_least(c, tag), e)) <= most


cdef inline void exp_rows(vec* type, const Tile* s, Py_ssize_t classes, const void* x) noexcept nogil:
    """Exponentials of each row with its own reference; a row is written after what the one before wrote too far."""
    cdef vec tag, magic, least
    cdef Py_ssize_t l, i, size = classes * (64 // step_of(tag))
    for l in range(s.count):
        magic = all_of(element(s.magic, l, tag), tag)
        least = all_of(element(s.least, l, tag), tag)
        for i in range((size + 63) // 64):
            store(exp_of(load(<const char*>x + l * size, i, tag), magic, least), <char*>s.e + l * size, i)


cdef inline bint row_samples_of(vec* type, const ClassJob* job, const Tile* s, bint own_references) noexcept nogil:
    """Values, and what gradients need, from the sums; whether a sample is odd, or only wants a reference of its own."""
    cdef vec tag, own, rest, total, ratio, y, scale, slope, entry, f, odd, peak, far
    cdef vec any_odd = all_of(0, tag), one = all_of(1, tag), two = all_of(2, tag), zero = all_of(0, tag)
    cdef vec tiny = all_of(1.17549435e-38 if vec is f16 else 2.2250738585072014e-308, tag)
    cdef double lead = 50 if vec is f16 else 500, around = 30 if vec is f16 else 300, most = 80 if vec is f16 else 500
    cdef double beyond = ldexp(1, 100 if vec is f16 else 930)
    cdef bint labelled = job.op == LOSS
    cdef Py_ssize_t i
    scale = slope = entry = one
    for i in range(s.steps):
        rest = load(s.rest, i, tag)
        total = rest
        if labelled:
            own = load(s.unit, i, tag)
            total = add(rest, own)
            ratio = div(rest, own)
            y = log1p_of_ratio(ratio)
        if own_references:
            odd = if_equal(total, total, zero, two)
            if labelled:
                peak = exp_of(load(s.top, i, tag), load(s.magic, i, tag), load(s.least, i, tag))
                far = add(log1p_of_ratio(sub(div(total, peak), one)), sub(load(s.top, i, tag), load(s.own, i, tag)))
                y = if_less(all_of(beyond, tag), ratio, far, y)
        else:  # what is cut off must not count in the lesser part
            odd = if_within(total, ldexp(1, <int>(lead - around)), ldexp(1, <int>(lead + around)), zero, two)
            if labelled:
                odd = if_within(ratio, ldexp(1, -<int>most), ldexp(1, <int>most), odd, two)
        if labelled:
            scale = all_of(s.scale_of_all, tag)
            if job.headed:
                y = headed(job, s, i, y, y, div(own, total), div(rest, total), &slope, &entry)
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
            f = div(scale, total)
            odd = if_equal(f, f, odd, max_of(one, odd))
            store(f, s.factor, i)
            store(mul(total, div(tiny, absolute_of(scale))), s.flush, i)
            if not job.headed:
                entry = negative(mul(f, rest))
            store(if_less(absolute_of(entry), tiny, zero, entry), s.entry, i)
        store(odd, s.odd, i)
        any_odd = max_of(any_odd, odd)
    return greatest(any_odd) > 0


ctypedef bint (*exp_function)(void*, const void*, Py_ssize_t, double, void*) noexcept nogil
ctypedef void (*exp_rows_function)(void*, const Tile*, Py_ssize_t, const void*) noexcept nogil
ctypedef bint (*row_samples_function)(void*, const ClassJob*, const Tile*, bint) noexcept nogil


# ---- Tiles ----


cdef inline void suggest_reference(real* tag, const ClassJob* job, Tile* s, const real* x) noexcept nogil:
    """That of the first sample. x may end with the tile."""
    cdef real top = <real>-INFINITY
    cdef Py_ssize_t j
    for j in range(job.classes):
        top = x[j] if x[j] > top else top
    if real is float:
        s.reference = exp_reference(top, 50, f16_all(0))
    else:
        s.reference = exp_reference(top, 500, d8_all(0))


cdef inline const real* rows_of(real* tag, const ClassJob* job, const Tile* s, bint copied) noexcept nogil:
    """x of the tile: in place, or `copied`, with room behind it."""
    cdef Py_ssize_t classes = job.classes, n = s.count * classes, l
    cdef real* buffer = <real*>s.x
    cdef const real* x
    if job.x_stride == classes:
        x = read_block(job.x, job.storage, s.first * classes, n, buffer)
        if is_scaled(job):
            return <const real*>(<cap_function>fastloss_out_of_line(<void*>cap_row))(job, x, 0, n, 0, buffer)
        if not copied or x == buffer:
            return x
        memcpy(buffer, x, n * sizeof(real))
        return buffer
    for l in range(s.count):
        x = read_block(job.x, job.storage, (s.first + l) * job.x_stride, classes, buffer + l * classes)
        if job.storage == NATIVE:
            memcpy(buffer + l * classes, x, classes * sizeof(real))
    if is_scaled(job):
        (<cap_function>fastloss_out_of_line(<void*>cap_row))(job, buffer, 0, n, 0, buffer)
    return buffer


cdef inline void sums_of_tile(real* tag, const ClassJob* job, const Tile* s) noexcept nogil:
    """Sums of exponentials, without the labels'."""
    cdef Py_ssize_t classes = job.classes, l, j
    cdef real* own = <real*>s.unit
    cdef real* rest = <real*>s.rest
    cdef real* p = <real*>s.e
    cdef double* low = s.wide + s.count
    if job.op == LOSS:
        for l in range(s.count):
            own[l] = p[max(s.labels[l], <int64_t>0)]
            p[max(s.labels[l], <int64_t>0)] = <real>0
            p += classes
    if classes < ROWS_MIN_CLASSES:
        sums_of_rows(<real*>s.e, classes, classes, s.count, rest)
        return
    memset(s.wide, 0, 2 * s.count * sizeof(double))
    for j in range(0, classes, SHORT_ROWS_GROUP):
        sums_of_rows(<real*>s.e + j, classes, min(classes - j, <Py_ssize_t>SHORT_ROWS_GROUP), s.count, rest)
        for l in range(s.count):
            two_sum(rest[l], s.wide + l, low + l)
    for l in range(s.count):
        rest[l] = <real>(s.wide[l] + low[l])


cdef inline bint statistics_of_rows(real* tag, const ClassJob* job, Tile* s) noexcept nogil:
    """All that is collected of a tile, and its exponentials; whether a sample is odd."""
    cdef Py_ssize_t classes = job.classes, l
    cdef real usual = <real>1125899906842624.0 if sizeof(real) == 4 else <real>3.273390607896142e150  # 2^50, 2^500
    cdef const real* x = rows_of(tag, job, s, s.own_references > 0)
    cdef exp_function exp = <exp_function>chosen(tag, <void*>exp_tile[f16], <void*>exp_tile[d8])
    cdef exp_rows_function exp_by_row = <exp_rows_function>chosen(tag, <void*>exp_rows[f16], <void*>exp_rows[d8])
    cdef references_function references = <references_function>chosen(
        tag, <void*>references_of[f16], <void*>references_of[d8]
    )
    cdef row_samples_function samples = <row_samples_function>chosen(
        tag, <void*>row_samples_of[f16], <void*>row_samples_of[d8]
    )
    if isnan(s.reference):
        suggest_reference(tag, job, s, x)
    for l in range(s.count, s.n):
        (<real*>s.unit)[l] = (<real*>s.rest)[l] = usual
        (<real*>s.top)[l] = (<real*>s.own)[l] = <real>0
    if s.own_references == 0:
        if exp(NULL, x, s.count * classes, s.reference, s.e):
            sums_of_tile(tag, job, s)
            if not samples(NULL, job, s, False):
                return False
        s.own_references = 16
        x = rows_of(tag, job, s, True)
    s.own_references -= 1
    tops_of_rows(x, classes, classes, s.count, <real*>s.top)
    if job.op == LOSS:
        for l in range(s.count):
            (<real*>s.own)[l] = x[l * classes + max(s.labels[l], <int64_t>0)]
    references(NULL, s)
    exp_by_row(NULL, s, classes, x)
    sums_of_tile(tag, job, s)
    s.reference = NAN
    return samples(NULL, job, s, True)


cdef inline void absorb_rows(
    real* tag, vec* type, const ClassJob* job, const Tile* s, Py_ssize_t l, Py_ssize_t rows, real* y
) noexcept nogil:
    """Add the gradient of rows from l on, in y, to sums by scale and bias; then it is that by x."""
    cdef Py_ssize_t classes = job.classes, turns = rows, k
    cdef const real* x
    cdef vec step
    if job.x_stride == classes and job.by_bias == NULL:  # to one sum, whatever class it is of
        classes *= rows
        turns = 1
    for k in range(turns):
        x = read_block(job.x, job.storage, (s.first + l + k) * job.x_stride, classes, <real*>s.spare)
        if job.by_scale != NULL:
            absorb_steps(y + k * classes, x, NULL, classes, s.by_scale, NULL, False, step)
        if job.by_bias != NULL:
            absorb_steps(y + k * classes, x, NULL, classes, NULL, s.by_bias, True, step)
    if job.grad != NULL:
        multiplied_steps(y, rows * job.classes, job.input_scale, NULL, False, -INFINITY, step, y)

ctypedef void (*absorb_function)(
    void*, void*, const ClassJob*, const Tile*, Py_ssize_t, Py_ssize_t, void*
) noexcept nogil


cdef inline void results_of_rows(real* tag, const ClassJob* job, const Tile* s, bint any_odd) noexcept nogil:
    """The gradient or softmax of a tile, but for odd samples."""
    cdef Py_ssize_t classes = job.classes, first, l = 0, end, k
    cdef const real* odd = <const real*>s.odd
    cdef const real* factor = <const real*>s.factor
    cdef const real* flush = <const real*>s.flush
    cdef absorb_function absorb = <absorb_function>chosen(
        tag, <void*>absorb_rows[float, f16], <void*>absorb_rows[double, d8]
    )
    cdef real* y
    while l < s.count:
        end = s.count
        if any_odd:
            end = l
            while end < s.count and odd[end] == 0:
                end += 1
        if end > l:
            first = (s.first + l) * classes
            y = <real*>s.out
            if job.summed == 0:
                y = block_to_write(job.grad, job.grad_storage, first, y)
            products_of_rows(<real*>s.e + l * classes, factor + l, flush + l, classes, end - l, y)
            if job.op == LOSS:
                for k in range(l, end):
                    if s.labels[k] >= 0:
                        y[(k - l) * classes + s.labels[k]] = (<const real*>s.entry)[k]
            if job.summed != 0:
                absorb(NULL, NULL, job, s, l, end - l, y)
                if job.grad != NULL and job.grad_storage == NATIVE:
                    memcpy(<real*>job.grad + first, y, (end - l) * classes * sizeof(real))
            if job.grad != NULL:
                write_block(y, job.grad, job.grad_storage, first, (end - l) * classes)
        l = end + 1
