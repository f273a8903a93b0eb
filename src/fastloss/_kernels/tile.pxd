# tile: many samples side by side, one a lane. What `planes` and `short_rows` share: where the numbers of a tile are,
# its labels and weights, odd samples, and the sum of its values.
#
# The bits of a sample depend on it alone. What is odd by its own numbers, NaN, inf, |x| of `exp_most`, weights far from
# 1, is left to `rows`, which takes one sample of any layout.

from libc.string cimport memcpy, memset
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.reading cimport *
from fastloss._kernels.transpose cimport *
include "tuning.pxi"

cdef extern from "units.h" nogil:
    # `rows` computes what is odd of a Tile; the value of what is odd for its gradient alone stays.
    void fastloss_odd_rows(void* job, const void* tile)

# What a tile collects, beside the modes of statistics.pxd: x of the label; that and Σ x_j - x of the label;
# Σ exp(d_j) (c_j - that of the greatest).
cdef enum:
    LABELLED = 100,
    SMOOTHED,
    PRODUCT

DEF NO_CLASS = 1e9

# A tile of samples; arrays are of the loop's type unless they say otherwise, in this thread's memory.
cdef struct Tile:
    Py_ssize_t first               # sample
    Py_ssize_t count
    Py_ssize_t steps               # that `count` samples fill
    Py_ssize_t n                   # numbers of so many steps
    Py_ssize_t ahead               # bytes to the next tile
    bint in_rows                   # few classes that are neighbours, in `short_rows`
    bint by_label                  # sums lack the label's own term: own_terms.pxd
    double reference               # of the exponentials of most tiles there,
    int own_references             # and how many tiles will have one for each sample
    int mode                       # PLAIN, LABELLED, SMOOTHED, SHARED, LINEAR, EXPECTED, SQUARED or PRODUCT
    bint direct                    # planes are read where they stand,
    bint gathered                  # or have been put into `x`
    bint kept                      # `e` has what a gradient is computed from
    bint sloped                    # and the second half of `x` the slopes of the softcap
    bint weighted                  # `k`, `weight` and `scale` are read
    bint plain                     # all samples that count weigh the same
    double scale_of_all            # and the gradient is multiplied by this
    const int64_t* labels          # -1 where it does not count
    const void* targets
    int64_t* label_buffer
    double* wide                   # float64: sums of groups of classes, and what rounding lost of them
    double* a_wide
    double* b_wide
    void* x
    void* c                        # coefficients; `short_rows` have them at `targets`, or here
    void* e
    void* spare
    void* out
    void* label                    # the labels as numbers, or NO_CLASS
    void* top
    void* magic
    void* least
    void* unit                     # the greatest exponential (`short_rows`: the label's), and the sum of all others
    void* rest
    void* own                      # x of the label
    void* a                        # Σ c_j, in two parts, LINEAR the greatest and the others; of PRODUCT the greatest's
    void* a_low
    void* b                        # Σ c_j (x_j - top); of SMOOTHED Σ x_j - own
    void* k
    void* weight
    void* scale
    void* factor                   # the gradient is factor * e where e is not less than `flush`,
    void* flush                    # (SMOOTHED: factor * e - flush)
    void* entry                    # and factor * entry for the label's class
    void* value
    void* odd                      # 0 for usual samples, 2 for others, 1 where only the gradient is
    void* curve_a                  # of a Hessian's diagonal: a and b of `curve_of`, 1 / the sum, what it is at least
    void* curve_b
    void* inverse
    void* floor
    void* extreme                  # a step: the least coefficients, if they are negative, or the greatest x;
    void* mass                     # sums of those in memory
    double* total
    double* low
    Huge* huge
    double* by_scale               # where derivatives by scale and bias are added up, or NULL
    double* by_bias


cdef inline double plane_lead(vec tag) noexcept nogil:
    """log2 of the greatest exponential of a sample."""
    return 50 if vec is f16 else 500


cdef inline void references_of(vec* type, const Tile* s) noexcept nogil:
    """What `exp_of` needs for each sample's own maximum; NaN where that cannot be reduced."""
    cdef vec tag
    cdef vec big = all_of(12582912.0 if vec is f16 else 6755399441055744.0, tag), none = all_of(NAN, tag), c, top
    cdef double lead = plane_lead(tag), cut = lead + (125.9 if vec is f16 else 1021.9)
    cdef Py_ssize_t i
    for i in range(s.steps):
        top = load(s.top, i, tag)
        c = sub(fma_of(top, all_of(1.44269504088896341, tag), big), big)
        store(mul(sub(c, all_of(cut, tag)), all_of(0.693147180559945309, tag)), s.least, i)
        if vec is f16 and fastloss_exp_table:
            c = sub(all_of(magic_of(-lead, tag), tag), mul(c, all_of(8, tag)))
        else:
            c = sub(all_of(magic_of(-lead, tag), tag), c)
        store(if_less(absolute_of(top), all_of(exp_most(tag), tag), c, none), s.magic, i)


cdef inline vec if_within(vec x, double least, double greatest, vec a, vec b) noexcept nogil:
    """a where least < x < greatest, otherwise b, also where x is NaN."""
    return if_less(all_of(least, x), x, if_less(x, all_of(greatest, x), a, b), b)


cdef inline vec weighted_value(vec y, vec weight) noexcept nogil:
    """y * weight; NaN where that is not a normal number, unless the weight is 0."""
    cdef vec size, product = mul(y, weight), zero = all_of(0, y), none = all_of(NAN, y)
    size = absolute_of(product)
    size = if_within(size, least_normal(y), INFINITY, product, none)
    return if_equal(weight, zero, product, size)


cdef inline vec within(vec x, double least, double greatest) noexcept nogil:
    """x where it is 0 or its size within a range, in which no product leaves that of its type; otherwise NaN."""
    cdef vec size = absolute_of(x), zero = all_of(0, x), odd = all_of(NAN, x)
    return if_less(all_of(least, x), size, if_less(size, all_of(greatest, x), x, odd), if_equal(size, zero, x, odd))


cdef inline vec factor_of(vec scale, vec total, vec* odd) noexcept nogil:
    """scale / total, which exponentials are multiplied by; the gradient is odd where that leaves the range."""
    cdef vec zero = all_of(0, scale), f = div(scale, total)
    f = if_equal(scale, zero, zero, if_within(absolute_of(f), least_normal(f), INFINITY, f, all_of(NAN, scale)))
    odd[0] = if_equal(f, f, odd[0], max_of(all_of(1, scale), odd[0]))
    return f


cdef inline vec headed(
    const ClassJob* job, const Tile* s, Py_ssize_t i, vec l, vec anchor, vec log_sum, vec p, vec not_p, vec* slope,
    vec* entry
) noexcept nogil:
    """The value of a loss of a label with a head, NaN where it is odd, and what its gradient is multiplied by, p_j for
    most classes, and 1 for the label; logsumexp is anchor + log_sum."""
    cdef vec k = load(s.k, i, l), zero = all_of(0, l), square = zero, value = head_of(job, l, p, not_p, slope)
    cdef vec least = all_of(1e-30 if vec is f16 else 1e-270, l), tiny = all_of(2e-38 if vec is f16 else 4e-308, l)
    cdef vec size = absolute_of(value), share = min_of(p, not_p) if job.head == GENERALIZED else not_p
    value = mul(k, if_equal(k, zero, log_sum, value))  # as in `heads`; a label that is ignored has any l
    slope[0] = mul(k, if_equal(k, zero, zero, slope[0]))
    # `rows` has more range for what is that small
    size = if_less(share, least, zero, min_of(absolute_of(value), size))
    value = if_equal(k, zero, value, if_less(size, tiny, all_of(NAN, l), value))
    if job.z_loss != 0:
        square = within(square_of(job, anchor, log_sum, &value), 0, 1e6)
    entry[0] = sub(mul(square, p), mul(slope[0], not_p))
    slope[0] = add(slope[0], square)
    return value


cdef inline void weights_of(vec* type, const ClassJob* job, const Tile* s) noexcept nogil:
    """What values and the gradient are multiplied by, 0 where a sample does not count; NaN where that is odd."""
    cdef vec tag, k, weight, scale, label
    cdef vec zero = all_of(0, tag), index_scale = all_of(job.index_scale if job.labels != NULL else 0, tag)
    cdef Py_ssize_t i
    for i in range(s.steps):
        label = load(s.label, i, tag)
        k = index_scale
        weight = all_of(1, tag)
        scale = all_of(job.grad_scale, tag)
        if job.class_weight != NULL:
            k = mul(load(s.k, i, tag), k)
        if job.sample_weight != NULL:
            weight = within(load(s.weight, i, tag), 1e-12, 1e6)
        if job.grad_output != NULL:
            scale = mul(load(s.scale, i, tag), scale)
        k = within(if_less(label, zero, zero, k), 1e-12, 1e6)
        if s.mode == LABELLED and not job.headed:
            weight = within(mul(weight, k), 1e-12, 1e6)
        weight = if_less(label, zero, zero, weight)
        scale = within(mul(within(scale, 2.2e-13, 1e6), weight), 2.2e-13, 1e6)
        store(k, s.k, i)
        store(weight, s.weight, i)
        store(if_less(label, zero, zero, scale), s.scale, i)


# ---- Reading ----


cdef inline void gather_planes(
    const ClassJob* job, const Tile* s, const void* array, int storage, Py_ssize_t array_stride, Py_ssize_t j0,
    Py_ssize_t m, real* y
) noexcept nogil:
    """m planes from class j0 on, s.n apart, up to a whole step."""
    cdef Py_ssize_t i = s.first, end = s.first + s.count, g, l, run, first
    cdef const real* source
    cdef real* spare = <real*>s.spare
    if job.inner == 1:
        first = i * array_stride + j0
        if storage == NATIVE:
            source = <const real*>array + first
        elif array_stride == m:
            source = read_block(array, storage, first, s.count * m, spare)
        else:
            for l in range(s.count):
                read_block(array, storage, first + l * array_stride, m, spare + l * m)
            source = spare
            array_stride = m
        transpose(source, array_stride, s.count, m, y, s.n)
    else:
        while i < end:  # runs of neighbours
            run = min(end - i, job.inner - i % job.inner)
            first = i // job.inner * array_stride + i % job.inner + j0 * job.inner
            for g in range(m):
                source = read_block(array, storage, first + g * job.inner, run, y + g * s.n + i - s.first)
                if storage == NATIVE:
                    memcpy(y + g * s.n + i - s.first, source, run * sizeof(real))
            i += run
    for g in range(m if s.count < s.n else 0):
        memset(y + g * s.n + s.count, 0, (s.n - s.count) * sizeof(real))


cdef inline real* slopes_of(const real* tag, const Tile* s) noexcept nogil:
    """Where slopes of the softcap are kept, or NULL."""
    return <real*>(<char*>s.x + KEPT_BYTES // 2) if s.sloped else <real*>NULL


cdef inline void gather_x(real* tag, const ClassJob* job, const Tile* s, Py_ssize_t j0, Py_ssize_t m) noexcept nogil:
    """m planes of x from class j0 on, capped, to s.x."""
    cdef cap_function cap = <cap_function>fastloss_out_of_line(<void*>cap_row)
    cdef Py_ssize_t g, size = s.n
    cdef real* x = <real*>s.x
    cdef real* slopes = slopes_of(tag, s)
    gather_planes(job, s, job.x, job.storage, job.x_stride, j0, m, x)
    if reads_as_is(job):
        return
    if job.class_scale == NULL and job.class_bias == NULL:
        size *= m
    for g in range(m * s.n // size):
        cap(job, x + g * size, j0 + g, size, s.n, x + g * size, slopes + g * size if s.sloped else NULL)


ctypedef void (*gather_function)(void*, const ClassJob*, const Tile*, Py_ssize_t, Py_ssize_t) noexcept nogil


cdef inline void gather_c(real* tag, const ClassJob* job, const Tile* s, Py_ssize_t j0, Py_ssize_t m) noexcept nogil:
    """The same of coefficients, to s.c."""
    gather_planes(job, s, job.coefficient, job.coefficient_storage, job.classes * job.inner, j0, m, <real*>s.c)


cdef inline void uncap(
    real* tag, vec* type, const ClassJob* job, const Tile* s, Py_ssize_t j0, Py_ssize_t m, bint any_odd, real* y
) noexcept nogil:
    """Make m planes of a gradient by what x is read as one by x, which may be gathered again, and add them to sums."""
    cdef vec step
    cdef Py_ssize_t g
    cdef real* z
    cdef real* x = <real*>s.x
    cdef real* plane
    cdef double factor
    cdef double* by_scale
    cdef double* by_bias
    if job.summed != 0 or not s.sloped:
        gather_planes(job, s, job.x, job.storage, job.x_stride, j0, m, x)
    for g in range(m):
        plane = y + g * s.n
        z = x + g * s.n
        if s.sloped:
            multiplied_steps(plane, s.n, 1, slopes_of(plane, s) + (j0 + g) * s.n, False, -INFINITY, step, plane)
        elif job.softcap != 0:
            if is_scaled(job):
                z = <real*>scale_row(job, z, j0 + g, s.n, s.n, s.spare)
            capped_slope_steps(z, plane, s.n, job.softcap, step, plane)
        if job.summed != 0:
            by_scale = s.by_scale + (j0 + g if job.class_scale != NULL else 0) if s.by_scale != NULL else NULL
            by_bias = s.by_bias + j0 + g if s.by_bias != NULL else NULL
            absorb_steps(plane, x + g * s.n, s.odd if any_odd else NULL, s.count, by_scale, by_bias, False, step)
        factor = scale_of(job, j0 + g) if job.class_scale != NULL or job.summed != 0 else 1
        if job.grad != NULL and factor != 1:
            multiplied_steps(plane, s.n, factor, NULL, False, -INFINITY, step, plane)

ctypedef void (*uncap_function)(
    void*, void*, const ClassJob*, const Tile*, Py_ssize_t, Py_ssize_t, bint, void*
) noexcept nogil


cdef inline void fill(void* x, Py_ssize_t n, real y) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        (<real*>x)[i] = y


ctypedef void (*references_function)(void*, const Tile*) noexcept nogil
ctypedef void (*weights_function)(void*, const ClassJob*, const Tile*) noexcept nogil


cdef inline void read_weights(real* tag, vec* type, const ClassJob* job, Tile* s) noexcept nogil:
    cdef const real* by_class = <const real*>job.class_weight
    cdef real* k = <real*>s.k
    cdef Py_ssize_t l
    if by_class != NULL:
        for l in range(s.count):
            k[l] = by_class[max(s.labels[l], <int64_t>0)]
    if job.sample_weight != NULL:
        memcpy(s.weight, <const real*>job.sample_weight + s.first, s.count * sizeof(real))
    if job.grad_output != NULL:
        memcpy(s.scale, <const real*>job.grad_output + s.first, s.count * sizeof(real))
    (<weights_function>fastloss_out_of_line(<void*>weights_of[vec]))(NULL, job, s)


cdef inline bint read_labels(const ClassJob* job, Tile* s) noexcept nogil:
    """The labels, in place if they are usual; whether one does not count: then it is -1."""
    cdef const int64_t* labels = labels_of(job, s.first, s.count, s.label_buffer)
    cdef int64_t ignored = 0
    cdef Py_ssize_t l
    for l in range(s.count):
        ignored |= labels[l] == job.ignore_index
    s.labels = labels
    if ignored:
        for l in range(s.count):
            s.label_buffer[l] = labels[l] | -<int64_t>(labels[l] == job.ignore_index)
        s.labels = s.label_buffer
    return ignored != 0


cdef inline void read_samples(real* tag, vec* type, const ClassJob* job, Tile* s) noexcept nogil:
    """Labels and weights."""
    cdef real* label = <real*>s.label
    cdef real* offset = <real*>s.value
    cdef bint ignored = job.mask != NULL
    cdef Py_ssize_t l
    if job.labels != NULL:
        ignored = read_labels(job, s)
    s.weighted = ignored or not s.plain
    if job.labels == NULL:
        for l in range(s.count):
            label[l] = <real>(-1.0 if masked(job, s.first + l) else NO_CLASS)
    elif s.weighted or job.headed or not s.in_rows:
        for l in range(s.count):
            label[l] = <real>s.labels[l]
    fill(label + s.count, s.n - s.count, <real>-1)
    if job.offset != NULL:
        fill(offset, s.n, <real>0)
        for l in range(s.count):
            offset[l] = <real>job.offset[s.first + l]
    if s.weighted or job.headed or s.mode != LABELLED and s.mode != SMOOTHED:
        read_weights(tag, type, job, s)


# ---- Targets ----


cdef inline bint any_wrong(vec tag, const ClassJob* job, const Tile* s) noexcept nogil:
    """Whether a sum of coefficients may be none that can be meant; what those in memory add up to."""
    cdef vec one = all_of(1, tag), most = all_of(0, tag), mass
    cdef Py_ssize_t i
    for i in range(s.steps):
        mass = load(s.mass, i, tag)
        if not is_weighted(job):
            mass = add(load(s.a, i, tag), load(s.a_low, i, tag))
            store(mass, s.mass, i)
        most = max_of(absolute_of(sub(mass, one)), most)
    return job.targets == PROBABILITIES and greatest(most) > job.tolerance


cdef inline void note_wrong(real* tag, vec* type, ClassJob* job, const Tile* s) noexcept nogil:
    """Look at the samples of a tile whose targets may be none that can be meant: all, where one is negative."""
    cdef vec step
    cdef Py_ssize_t l
    cdef bint found, low
    if job.targets == UNCHECKED:
        return
    low = greatest(negative(load(s.extreme, 0, step))) > 0
    found = any_wrong(step, job, s)
    for l in range(s.count if low or found else 0):
        if low or are_wrong(job, 0, (<const real*>s.mass)[l]):
            (<wrong_function>fastloss_out_of_line(<void*>note_if_wrong))(job, s.first + l)


# ---- Results ----


cdef inline void write_planes(
    void* out, int storage, const ClassJob* job, const Tile* s, const real* y, Py_ssize_t j0, Py_ssize_t m,
    bint any_odd
) noexcept nogil:
    """Store m planes of results from class j0 on, but for odd samples."""
    cdef const real* odd = <const real*>s.odd
    cdef Py_ssize_t l = 0, last, run, i, g, place
    cdef real* rows = <real*>s.spare
    while l < s.count:
        if any_odd and odd[l] != 0:
            l += 1
            continue
        i = s.first + l
        last = s.count if job.inner == 1 else min(s.count, l + job.inner - i % job.inner)
        run = last - l
        if any_odd:
            run = 1
            while l + run < last and not odd[l + run] != 0:
                run += 1
        place = (i // job.inner * job.classes + j0) * job.inner + i % job.inner
        if job.inner == 1:
            rows = block_to_write(out, storage, place, <real*>s.spare)
            transpose_back(y + l, s.n, m, run, rows, job.classes)
            write_block(rows, out, storage, place, run * m)
        else:
            for g in range(m):
                if storage == NATIVE:
                    memcpy(<real*>out + place + g * job.inner, y + g * s.n + l, run * sizeof(real))
                write_block(y + g * s.n + l, out, storage, place + g * job.inner, run)
        l += run

ctypedef void (*write_function)(
    void*, int, const ClassJob*, const Tile*, const void*, Py_ssize_t, Py_ssize_t, bint
) noexcept nogil


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
