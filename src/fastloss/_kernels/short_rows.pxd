# short_rows: a tile of rows of few classes, for a label's loss, smoothed or not, that of class probabilities, and for
# softmax. What stands in memory one after another is computed so, whatever sample or class it is of, and rows are added
# up in L1.
#
# What becomes of the sums: own_terms.pxd; of class probabilities, whose sums lack the greatest term, `samples_of`.

from libc.math cimport isnan
from libc.string cimport memcpy, memset
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.reading cimport *
from fastloss._kernels.tile cimport *
from fastloss._kernels.planes cimport *
from fastloss._kernels.own_terms cimport *
include "tuning.pxi"


# ---- Steps ----


cdef inline bint exp_tile(vec* type, const void* x, Py_ssize_t n, double c, void* e) noexcept nogil:
    """Exponentials of n numbers, up to a whole step. Whether they are right: none is so great that it wrapped."""
    cdef vec tag, magic = exp_magic(c, tag)
    return greatest(exp_steps(NATIVE, False, x, n, 8192, magic, magic, exp_least(c, tag), e)) <= most_in_reach(c, tag)


cdef inline void exp_rows(vec* type, const Tile* s, Py_ssize_t classes, const void* x) noexcept nogil:
    """Exponentials of each row with its own reference; a row is written after what the one before wrote too far."""
    cdef vec tag, magic, least
    cdef Py_ssize_t l, i, size = classes * (64 // step_of(tag))
    references_of(type, s)
    for l in range(s.count):
        magic = all_of(element(s.magic, l, tag), tag)
        least = all_of(element(s.least, l, tag), tag)
        for i in range((size + 63) // 64):
            store(exp_of(load(<const char*>x + l * size, i, tag), magic, least), <char*>s.e + l * size, i)


ctypedef bint (*exp_function)(void*, const void*, Py_ssize_t, double, void*) noexcept nogil
ctypedef void (*exp_rows_function)(void*, const Tile*, Py_ssize_t, const void*) noexcept nogil


# ---- Tiles ----


cdef inline const real* rows_of(real* tag, const ClassJob* job, const Tile* s, bint copied) noexcept nogil:
    """x of the tile: in place, or `copied`, with room behind it."""
    cdef Py_ssize_t classes = job.classes, n = s.count * classes, l
    cdef real* buffer = <real*>s.x
    cdef const real* x
    if job.x_stride == classes:
        x = read_block(job.x, job.storage, s.first * classes, n, buffer)
    else:
        for l in range(s.count):
            x = read_block(job.x, job.storage, (s.first + l) * job.x_stride, classes, buffer + l * classes)
            if job.storage == NATIVE:
                memcpy(buffer + l * classes, x, classes * sizeof(real))
        x = buffer
    if not reads_as_is(job):
        return <const real*>(<cap_function>fastloss_out_of_line(<void*>cap_row))(
            job, x, 0, n, 0, buffer, slopes_of(tag, s)
        )
    if not copied or x == buffer:
        return x
    memcpy(buffer, x, n * sizeof(real))
    return buffer


cdef inline void add_rows(
    bint BESIDE, const real* x, const real* other, Py_ssize_t classes, const Tile* s, real* sums
) noexcept nogil:
    """The sum of each row; of what x is more than a number of each row, if BESIDE."""
    cdef double* low = s.wide + s.count
    cdef Py_ssize_t l, j = 0, n = classes if classes < ROWS_MIN_CLASSES else SHORT_ROWS_GROUP
    memset(s.wide, 0, 2 * s.count * sizeof(double) if n < classes else 0)
    while j < classes:
        n = min(n, classes - j)
        if BESIDE:
            sums_of_rows_apart(x + j, classes, n, s.count, other, sums)
        else:
            sums_of_rows(x + j, classes, n, s.count, sums)
        if n == classes:
            return
        for l in range(s.count):
            two_sum(sums[l], s.wide + l, low + l)
        j += n
    for l in range(s.count):
        sums[l] = <real>(s.wide[l] + low[l])


cdef inline void add_apart_from_top(
    const real* x, Py_ssize_t classes, const Tile* s, real* top, real* rest
) noexcept nogil:
    """The greatest number of each row, or 0, and the sum of all others."""
    cdef double* low = s.wide + s.count
    cdef real* group = <real*>s.spare
    cdef real* group_top = group + s.count + 16
    cdef real other
    cdef Py_ssize_t l, j
    if classes * sizeof(real) < SHORT_ROWS_BYTES // 2:
        sums_apart_from_top(x, classes, classes, s.count, top, rest)
        return
    memset(s.wide, 0, 2 * s.count * sizeof(double))
    fill(top, s.count, <real>0)
    for j in range(0, classes, SHORT_ROWS_GROUP):
        sums_apart_from_top(
            x + j, classes, min(<Py_ssize_t>SHORT_ROWS_GROUP, classes - j), s.count, group_top, group
        )
        for l in range(s.count):
            other = group_top[l] if group_top[l] < top[l] else top[l]
            top[l] = top[l] if group_top[l] < top[l] else group_top[l]
            two_sum(<double>group[l] + other, s.wide + l, low + l)
    for l in range(s.count):
        rest[l] = <real>(s.wide[l] + low[l])


cdef inline void read_own(const Tile* s, Py_ssize_t classes, const real* x) noexcept nogil:
    """x of the labels."""
    cdef Py_ssize_t l
    for l in range(s.count):
        (<real*>s.own)[l] = x[l * classes + max(s.labels[l], <int64_t>0)]


cdef inline void sums_of_tile(real* tag, const ClassJob* job, const Tile* s, const real* x) noexcept nogil:
    """Sums of exponentials, without the labels'; and of x less that of the label."""
    cdef Py_ssize_t classes = job.classes, l
    cdef real* own = <real*>s.unit
    cdef real* p = <real*>s.e
    if s.by_label:
        for l in range(s.count):
            own[l] = p[max(s.labels[l], <int64_t>0)]
            p[max(s.labels[l], <int64_t>0)] = <real>0
            p += classes
    add_rows(False, <real*>s.e, <const real*>NULL, classes, s, <real*>s.rest)
    if reads_own(job, s):
        read_own(s, classes, x)
    if s.mode == SMOOTHED:
        add_rows(True, x, <const real*>s.own, classes, s, <real*>s.b)
    fill_beyond(tag, s)


cdef inline void weigh_rows(vec* type, const ClassJob* job, Py_ssize_t rows, void* c) noexcept nogil:
    """Coefficients of rows from what is in memory, in place."""
    cdef Py_ssize_t _l, k, classes = job.classes
    cdef vec tag, w, one = all_of(1, tag)
    cdef vec scale = all_of(job.coefficient_scale, tag), shift = all_of(job.coefficient_shift, tag)
    for _l in range(rows):
        for k in range(steps_of(classes, tag)):
            w = of_classes(job.linear_weight, k, classes, one)
            store_or_part(mul(fma_of(scale, step_or_part(c, k, classes, 0, tag), shift), w), c, k, classes)
        c = <char*>c + classes * (64 // step_of(tag))

ctypedef void (*weigh_function)(void*, const ClassJob*, Py_ssize_t, void*) noexcept nogil


cdef inline void read_targets(real* tag, vec* type, const ClassJob* job, Tile* s, bint copied) noexcept nogil:
    """Coefficients of the tile, in place or `copied`, with room behind them; their sums, and the least."""
    cdef Py_ssize_t n = s.count * job.classes
    cdef real* c = <real*>s.c
    cdef const real* source = read_block(job.coefficient, job.coefficient_storage, s.first * job.classes, n, c)
    cdef double low = 0, unused = 0
    cdef vec step
    if source != c and (copied or is_weighted(job)):
        memcpy(c, source, n * sizeof(real))
        source = c
    if job.targets != UNCHECKED:
        look_at(source, n, step, &low, &unused)
    fill(s.extreme, 64 // <int>sizeof(real), <real>low)
    if is_weighted(job):
        add_rows(False, source, <const real*>NULL, job.classes, s, <real*>s.mass)
        (<weigh_function>fastloss_out_of_line(<void*>weigh_rows[vec]))(NULL, job, s.count, c)
    add_apart_from_top(source, job.classes, s, <real*>s.a, <real*>s.a_low)
    s.targets = source


cdef inline void sums_of_terms(real* tag, const ClassJob* job, const Tile* s) noexcept nogil:
    """The greatest exponential of each row, and the sum of all others."""
    add_apart_from_top(<real*>s.e, job.classes, s, <real*>s.unit, <real*>s.rest)
    fill_beyond(tag, s)


cdef inline bint in_window(vec* type, const Tile* s) noexcept nogil:
    """Whether nothing that counts is cut off with the reference that tiles share."""
    cdef vec tag, rest, unit, least, most, out = all_of(0, tag), one = all_of(1, tag)
    cdef Py_ssize_t i
    least = all_of(ldexp(1, 20 if vec is f16 else 200), tag)
    most = all_of(ldexp(1, 80 if vec is f16 else 800), tag)
    for i in range(s.steps):
        rest = load(s.rest, i, tag)
        unit = load(s.unit, i, tag)
        out = if_less(least, unit, out, one)
        out = if_less(add(rest, unit), most, out, one)
        out = if_less(mul(unit, all_of(ldexp(1, -80 if vec is f16 else -500), tag)), rest, out, one)
    return not any_of(out)

ctypedef bint (*window_function)(void*, const Tile*) noexcept nogil


cdef inline bint statistics_of_linear_rows(real* tag, vec* type, ClassJob* job, Tile* s) noexcept nogil:
    """`statistics_of_rows` for class probabilities."""
    cdef Py_ssize_t classes = job.classes
    cdef bint at_end = s.first + s.count + 16 > job.samples
    cdef const real* x = rows_of(tag, job, s, s.own_references > 0 or at_end)
    cdef exp_function exp = <exp_function>fastloss_out_of_line(<void*>exp_tile[vec])
    cdef bint usual = False
    cdef vec step
    read_targets(tag, type, job, s, at_end)
    tops_of_rows(x, classes, classes, s.count, <real*>s.top)
    dots_of_rows(x, <const real*>s.targets, classes, classes, s.count, <const real*>s.top, <real*>s.b)
    if isnan(s.reference):
        suggest_reference(job, s, x, 1, step)
    if s.own_references == 0 and exp(NULL, x, s.count * classes, s.reference, s.e):
        sums_of_terms(tag, job, s)
        usual = (<window_function>fastloss_out_of_line(<void*>in_window[vec]))(NULL, s)
    if not usual:
        if s.own_references == 0:
            s.own_references = 16
            x = rows_of(tag, job, s, True)
        s.own_references -= 1
        s.reference = NAN
        fill_beyond(tag, s)
        (<exp_rows_function>fastloss_out_of_line(<void*>exp_rows[vec]))(NULL, s, classes, x)
        sums_of_terms(tag, job, s)
    note_wrong(tag, type, job, s)
    return (<samples_function>fastloss_out_of_line(<void*>samples_of[vec]))(NULL, job, s)


cdef inline void gradient_of_rows(
    vec* type, const ClassJob* job, const Tile* s, Py_ssize_t first_row, Py_ssize_t end, void* y
) noexcept nogil:
    """The gradient of rows [first_row, end) of class probabilities."""
    cdef vec tag
    cdef Py_ssize_t classes = job.classes, l, size = classes * (64 // step_of(tag))
    cdef const void* c
    cdef Gradient of
    for l in range(first_row, end):
        of.factor = element(s.factor, l, tag)
        of.least = element(s.flush, l, tag)
        of.a = element(s.a, l, tag)
        of.lost = element(s.a_low, l, tag)
        of.unit = element(s.unit, l, tag)
        of.others = element(s.rest, l, tag)
        c = <const char*>s.targets + l * size
        gradient_steps(
            LINEAR, NATIVE, <const char*>s.e + l * size, c, classes, &of, tag, <char*>y + (l - first_row) * size
        )

ctypedef void (*linear_function)(void*, const ClassJob*, const Tile*, Py_ssize_t, Py_ssize_t, void*) noexcept nogil


cdef inline bint statistics_of_rows(real* tag, vec* type, ClassJob* job, Tile* s) noexcept nogil:
    """All that is collected of a tile, and its exponentials; whether a sample is odd."""
    cdef Py_ssize_t classes = job.classes
    cdef bint at_end = s.first + s.count + 16 > job.samples  # behind which sums of rows of x would read
    cdef const real* x = rows_of(tag, job, s, s.own_references > 0 or s.mode == SMOOTHED and at_end)
    cdef exp_function exp = <exp_function>fastloss_out_of_line(<void*>exp_tile[vec])
    cdef own_samples_function samples = <own_samples_function>fastloss_out_of_line(<void*>own_samples_of[vec])
    cdef vec step
    if isnan(s.reference):
        suggest_reference(job, s, x, 1, step)
    if s.own_references == 0:
        if exp(NULL, x, s.count * classes, s.reference, s.e):
            sums_of_tile(tag, job, s, x)
            if not samples(NULL, job, s, False):
                return False
        s.own_references = 16
        x = rows_of(tag, job, s, True)
    s.own_references -= 1
    tops_of_rows(x, classes, classes, s.count, <real*>s.top)
    if s.by_label:
        read_own(s, classes, x)
    (<exp_rows_function>fastloss_out_of_line(<void*>exp_rows[vec]))(NULL, s, classes, x)
    sums_of_tile(tag, job, s, x)
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


cdef inline void results_of_rows(real* tag, vec* type, const ClassJob* job, const Tile* s, bint any_odd) noexcept nogil:
    """The gradient or softmax of a tile, but for odd samples."""
    cdef Py_ssize_t classes = job.classes, first, l = 0, end, k
    cdef const real* odd = <const real*>s.odd
    cdef const real* factor = <const real*>s.factor
    cdef const real* flush = <const real*>s.flush
    cdef absorb_function absorb = <absorb_function>fastloss_out_of_line(<void*>absorb_rows[real, vec])
    cdef linear_function linear = <linear_function>fastloss_out_of_line(<void*>gradient_of_rows[vec])
    cdef real* y
    cdef const real* slopes
    cdef vec step
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
            if s.mode == LINEAR:
                linear(NULL, job, s, l, end, y)
            elif s.mode == SMOOTHED:
                products_less(<real*>s.e + l * classes, factor + l, flush + l, classes, end - l, y)
            else:
                products_of_rows(<real*>s.e + l * classes, factor + l, flush + l, classes, end - l, y)
            if s.by_label:
                for k in range(l, end):
                    if s.labels[k] >= 0:
                        y[(k - l) * classes + s.labels[k]] = (<const real*>s.entry)[k]
            if job.softcap != 0:
                slopes = slopes_of(tag, s) + l * classes
                multiplied_steps(y, (end - l) * classes, 1, slopes, False, -INFINITY, step, y)
            if job.summed != 0:
                absorb(NULL, NULL, job, s, l, end - l, y)
                if job.grad != NULL and job.grad_storage == NATIVE:
                    memcpy(<real*>job.grad + first, y, (end - l) * classes * sizeof(real))
            if job.grad != NULL:
                write_block(y, job.grad, job.grad_storage, first, (end - l) * classes)
        l = end + 1
