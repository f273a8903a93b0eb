# lanes: few classes, or a strided class axis such as (N, C, H, W). LANES samples side by side, one a SIMD lane.
#
# A tile of LANES_BLOCK classes x LANES samples is read where it stands, or copied into L1 where a row of it is
# not contiguous (transposed where the classes are). Then every loop runs over classes outside and samples inside:
# no horizontal reduction at all. More classes than a tile holds are taken block by block, rescaling each lane's
# sums where its maximum rose; in float64 they are first read for their maximum, as in `rows`. When one tile holds
# all classes, the gradient reuses its exponentials.

from libc.string cimport memcpy
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.classes cimport *
from fastloss._kernels.rows cimport *
from fastloss._kernels.transpose cimport *
include "tuning.pxi"

cdef struct Tile:
    Py_ssize_t first               # first sample
    Py_ssize_t place               # the lane of the chunk's sums that the first sample's value is added to
    Py_ssize_t count               # samples in use, at most LANES; other lanes are computed, never used
    Py_ssize_t outer               # indices of the first sample
    Py_ssize_t inside
    bint direct                    # the samples are neighbours in memory, and as many as there are lanes


cdef inline void place_tile(ClassJob* job, Py_ssize_t first, Py_ssize_t last, Tile* tile) noexcept nogil:
    """The tile from sample `first` on; the next begins `lead` samples after a multiple of LANES.

    So whole cache lines are read, or written where the result is streamed. `place` keeps the order of additions.
    """
    tile.first = first
    tile.place = first % LANES
    tile.count = min(LANES - (first + LANES - job.lead) % LANES, last - first)
    tile.outer = first // job.inner
    tile.inside = first - tile.outer * job.inner
    tile.direct = tile.count == LANES and job.inner > 1 and tile.inside + LANES <= job.inner


cdef inline void copy(const real* x, int n, real* y) noexcept nogil:
    """n is a literal: a call of memcpy would cost more."""
    cdef int k
    for k in range(n):
        y[k] = x[k]


cdef inline const real* load_tile(
    const void* x, int storage, Py_ssize_t x_stride, ClassJob* job, Tile* tile, Py_ssize_t c0, Py_ssize_t classes,
    real* buffer, real* spare, Py_ssize_t* step
) noexcept nogil:
    """Classes [c0, c0 + classes) of the tile's samples, `step` from one class to the next: in place, or `buffer`."""
    cdef Py_ssize_t inner = job.inner, outer = tile.outer, inside = tile.inside, c, l, n
    cdef Py_ssize_t first = outer * x_stride + inside + c0 * inner
    cdef const real* source
    if tile.direct and storage == NATIVE:
        step[0] = inner
        return <const real*>x + first
    step[0] = LANES
    if tile.count < LANES:
        for l in range(classes * LANES):
            buffer[l] = <real>0
    if inner == 1:  # one block: x_stride may be larger than `classes`, but not for rows that were widened
        if storage == NATIVE or x_stride == classes:
            source = read_block(x, storage, first, tile.count * classes, spare)
        else:
            for l in range(tile.count):
                read_block(x, storage, first + l * x_stride, classes, spare + l * classes)
            source = spare
            x_stride = classes
        if classes == 2 and x_stride == 2 and tile.count == LANES:
            split(source, 2, buffer)
        elif classes == 3 and x_stride == 3 and tile.count == LANES:
            split(source, 3, buffer)
        else:
            samples_to_lanes(source, x_stride, tile.count, classes, buffer)
        return buffer
    l = 0
    while l < tile.count:  # runs of neighbours
        n = min(tile.count - l, inner - inside)
        first = outer * x_stride + inside + c0 * inner
        for c in range(classes):
            source = read_block(x, storage, first + c * inner, n, buffer + c * LANES + l)
            if storage == NATIVE:
                memcpy(buffer + c * LANES + l, source, n * sizeof(real))
        l += n
        inside = 0
        outer += 1
    return buffer


cdef inline void store_tile(
    const real* buffer, ClassJob* job, Tile* tile, Py_ssize_t c0, Py_ssize_t classes, real* spare
) noexcept nogil:
    cdef Py_ssize_t inner = job.inner, outer = tile.outer, inside = tile.inside, c, l = 0, n
    cdef Py_ssize_t first = outer * job.classes * inner + inside + c0 * inner
    cdef real* target
    if inner == 1:
        target = block_to_write(job.grad, job.grad_storage, first, spare)
        if job.classes == 2 and tile.count == LANES:
            join(buffer, 2, target)
        elif job.classes == 3 and tile.count == LANES:
            join(buffer, 3, target)
        else:
            lanes_to_samples(buffer, classes, tile.count, target, job.classes)
        write_block(target, job.grad, job.grad_storage, first, tile.count * classes)
        return
    if tile.direct and job.grad_storage == NATIVE:
        target = <real*>job.grad + first
        for c in range(classes):
            copy(buffer + c * LANES, LANES, target + c * inner)
        return
    while l < tile.count:
        n = min(tile.count - l, inner - inside)
        first = outer * job.classes * inner + inside + c0 * inner
        for c in range(classes):
            if job.grad_storage == NATIVE:
                memcpy(<real*>job.grad + first + c * inner, buffer + c * LANES + l, n * sizeof(real))
            write_block(buffer + c * LANES + l, job.grad, job.grad_storage, first + c * inner, n)
        l += n
        inside = 0
        outer += 1


cdef inline void load_coefficients(
    ClassJob* job, Tile* tile, Py_ssize_t c0, Py_ssize_t classes, real* buffer, real* spare
) noexcept nogil:
    """c_j of the linear term for a block of classes, weights and smoothing applied."""
    cdef const real* w = <const real*>job.linear_weight
    cdef const real* c_x
    cdef real scale = <real>job.coefficient_scale
    cdef real shift = <real>job.coefficient_shift
    cdef real wc
    cdef Py_ssize_t c, l, step
    if job.shared != NULL:
        for c in range(classes):
            wc = (<const real*>job.shared)[c0 + c]
            for l in range(LANES):
                buffer[c * LANES + l] = wc
        return
    c_x = load_tile(
        job.coefficient, job.coefficient_storage, job.classes * job.inner, job, tile, c0, classes, buffer, spare, &step
    )
    for c in range(classes):
        wc = w[c0 + c] if w != NULL else <real>1
        for l in range(LANES):
            buffer[c * LANES + l] = wc * fma(scale, c_x[c * step + l], shift)


cdef inline void tile_max(const real* x, Py_ssize_t step, Py_ssize_t classes, real* top) noexcept nogil:
    """Raise top[l] to the maximum of sample l."""
    cdef real block[WIDTH]
    cdef Py_ssize_t c, g
    for g in range(0, LANES, WIDTH):
        copy(top + g, WIDTH, block)
        for c in range(classes):
            max_step(x + c * step + g, block)
        copy(block, WIDTH, top + g)


cdef inline void select_step(const real* x, const real* label, real c, real* selected) noexcept nogil:
    """Take x where the label is c. Both are loaded first: of a store in one case only gcc makes a masked one."""
    cdef real taken, kept
    cdef int k
    for k in range(WIDTH):
        taken = x[k]
        kept = selected[k]
        selected[k] = taken if label[k] == c else kept


cdef inline void tile_select(
    const real* x, Py_ssize_t step, Py_ssize_t classes, const real* label, real* selected
) noexcept nogil:
    """x of each sample's label, without a load of its own."""
    cdef real label_g[WIDTH]
    cdef real selected_g[WIDTH]
    cdef Py_ssize_t c, g
    for g in range(0, LANES, WIDTH):
        copy(label + g, WIDTH, label_g)
        copy(x + g, WIDTH, selected_g)
        for c in range(1, classes):
            select_step(x + c * step + g, label_g, <real>c, selected_g)
        copy(selected_g, WIDTH, selected + g)


cdef inline void tile_sums(
    const real* x, Py_ssize_t step, Py_ssize_t classes, int mode, bint keep, const real* m, const real* coefficient,
    real* e, Batch* batch, Batch* lost, double* ties
) noexcept nogil:
    """Add the sums of a block to others (without the maximum), a and b, with what rounding `lost`, and the ties.

    If `keep`, e receives the exponentials, scaled.
    """
    cdef real e_step[WIDTH]
    cdef real mk[WIDTH]
    cdef real total[WIDTH]
    cdef real below[WIDTH]
    cdef real b[WIDTH]
    cdef double a[WIDTH]           # float64, as in `row_statistics`
    cdef Py_ssize_t c, g, c0, line
    cdef int k
    for g in range(0, LANES, WIDTH):
        copy(m + g, WIDTH, mk)
        zero_width(below)
        for c0 in range(0, classes, GROUP):
            zero_width(total)
            zero_width(a)
            zero_width(b)
            for c in range(c0, min(c0 + GROUP, classes)):
                if step > LANES:  # in place: the next tile, while this one is computed
                    for k in range(<int>sizeof(real) // 2):
                        line = c * step + g + k * (64 // <int>sizeof(real))
                        fastloss_prefetch(x + line + LANES)
                        fastloss_prefetch_l2(x + line + LANES_FAR_AHEAD * LANES)
                exp_step(x + c * step + g, mk, total, below, e + c * LANES + g if keep else &e_step[0])
                if mode == LINEAR:
                    linear_step(x + c * step + g, mk, coefficient + c * LANES + g, a, b)
                if mode == EXPECTED:
                    expected_step(x + c * step + g, mk, &e_step[0], b)
            for k in range(WIDTH):
                add_to(mk[k], unscaled_sum(total[k], mk[k]), batch.others + g + k, lost.others + g + k)
                if mode == LINEAR:
                    add_to(mk[k], a[k], batch.a + g + k, lost.a + g + k)
                    add_to(mk[k], b[k], batch.b + g + k, lost.b + g + k)
                if mode == EXPECTED:
                    add_to(mk[k], unscaled_sum(b[k], mk[k]), batch.b + g + k, lost.b + g + k)
        for k in range(WIDTH):
            ties[g + k] += classes - <double>below[k]


cdef inline void tile_index(ClassJob* job, const real* tag, Tile* tile, int64_t* label, Batch* batch) noexcept nogil:
    """Labels, with 0 for those ignored, and what they bring into the batch."""
    cdef Py_ssize_t l
    cdef const real* weight = <const real*>job.class_weight
    if job.label_kind == 8 and tile.count == LANES and job.mask == NULL:
        for l in range(LANES):
            label[l] = (<const int64_t*>job.labels)[tile.first + l]
    else:
        for l in range(LANES):
            label[l] = job.ignore_index
        for l in range(tile.count):
            label[l] = label_of(job, tile.first + l)
    for l in range(LANES):
        batch.keep[l] = 0 if label[l] == job.ignore_index else 1
        label[l] = 0 if label[l] == job.ignore_index else label[l]
        batch.k[l] = job.index_scale * batch.keep[l]
    if weight != NULL:
        for l in range(tile.count):
            batch.k[l] *= weight[label[l]]


cdef inline void lanes_wide_values(
    real* tag, ClassJob* job, Tile* tile, int mode, bint indexed, const int64_t* label, Batch* batch
) noexcept nogil:
    """The values of samples that need more range, into the batch."""
    cdef double weight[LANES]
    cdef bint is_wide[LANES]
    cdef Wide wide
    cdef int found = 0
    cdef Py_ssize_t l
    for l in range(LANES):
        weight[l] = 1
    if job.sample_weight != NULL:
        for l in range(tile.count):
            weight[l] = (<const real*>job.sample_weight)[tile.first + l]
    for l in range(LANES):
        is_wide[l] = (batch.keep[l] != 0) & value_is_wide(
            <real>0, batch.others[l], batch.k[l], batch.d[l], batch.a[l] if mode != PLAIN else 0.0,
            batch.b[l] if mode != PLAIN else 0.0, weight[l],
        )
        found |= is_wide[l]
    if found:
        for l in range(tile.count):
            if is_wide[l]:
                wide_statistics(tag, job, tile.first + l, label[l] if indexed else -1, &wide)
                set_wide(batch, l, wide_value(job, &wide, tile.first + l))


cdef inline bint lanes_are_ordinary(
    const Batch* batch, bint linear, const double* scale, Py_ssize_t count
) noexcept nogil:
    """Whether all samples of a tile that count are ordinary."""
    cdef int other = 0
    cdef Py_ssize_t l
    for l in range(count):
        other |= (batch.keep[l] != 0) & (1 - is_ordinary(
            batch.others[l], batch.k[l], batch.d[l], batch.a[l] if linear else 0.0, batch.b[l] if linear else 0.0,
            scale[l],
        ))
    return other == 0


cdef inline void lanes_tile(
    real* buffer, real* coefficient, real* e, ClassJob* job, Tile* tile, int mode, double* total, double* low,
    Huge* huge
) noexcept nogil:
    """Everything for LANES samples: statistics, value, and gradient or output."""
    cdef Py_ssize_t classes = job.classes, c0, c, l, n, step = 0
    cdef real* tag = NULL
    cdef real top[LANES]
    cdef real new_top[LANES]
    cdef real m[LANES]             # top, or 0 where that is -inf
    cdef real label_real[LANES]
    cdef real x_t[LANES]
    cdef real entry[LANES]
    cdef double ties[LANES]
    cdef double scale[LANES]
    cdef Wide wide[LANES]
    cdef bint is_wide[LANES]       # the gradient is computed from it
    cdef bint by_sample = job.sample_weight != NULL or job.grad_output != NULL
    cdef bint any_wide = False, ordinary, plain = mode == PLAIN and job.unweighted
    cdef double step_of
    cdef real factor[LANES]
    cdef real least[LANES]
    cdef real a[LANES]
    cdef real a_low[LANES]
    cdef real others[LANES]
    cdef real high[LANES]          # top + log_sum, with what is `low_part` of it
    cdef real low_part[LANES]
    cdef int64_t label[LANES]
    cdef Batch batch, lost         # of the latter others, a and b
    cdef const real* block = buffer
    cdef const real* shared = <const real*>job.shared
    cdef double rise, ratio
    cdef bint is_loss = job.op == LOSS or job.op == LOSS_LINEAR
    cdef bint indexed = is_loss and job.labels != NULL
    cdef bint one_block = classes <= LANES_BLOCK
    cdef bint few = real is float and classes <= FEW_CLASSES
    cdef double kept = 0

    for l in range(LANES):
        top[l] = <real>-INFINITY
        batch.others[l] = ties[l] = 0
    # With few classes, what a tile costs is stores like these: only what is read is written.
    if real is double:
        for l in range(LANES):
            lost.others[l] = 0
    if mode != PLAIN:
        for l in range(LANES):
            batch.a[l] = batch.b[l] = lost.a[l] = lost.b[l] = 0
    if indexed:
        tile_index(job, tag, tile, label, &batch)
    else:
        for l in range(LANES):
            batch.k[l] = batch.d[l] = 0
            batch.keep[l] = 1 if l < tile.count and not masked(job, tile.first + l) else 0
    if real is double and not one_block:  # as in `row_statistics`
        for c0 in range(0, classes, LANES_BLOCK):
            n = min(<Py_ssize_t>LANES_BLOCK, classes - c0)
            block = load_tile(job.x, job.storage, job.x_stride, job, tile, c0, n, buffer, e, &step)
            tile_max(block, step, n, top)
    for c0 in range(0, classes, LANES_BLOCK):
        n = min(<Py_ssize_t>LANES_BLOCK, classes - c0)
        block = load_tile(job.x, job.storage, job.x_stride, job, tile, c0, n, buffer, e, &step)
        if indexed and few:
            for l in range(LANES):
                label_real[l] = <real>label[l]
            tile_select(block, step, n, label_real, x_t)
        elif indexed and one_block:
            gather(block, step, label, x_t)
        elif indexed:
            for l in range(LANES):
                c = label[l] - c0
                if c >= 0 and c < n:
                    x_t[l] = block[c * step + l]
        copy(top, LANES, new_top)
        if real is float or one_block:
            tile_max(block, step, n, new_top)
        if real is float and c0 > 0:
            for l in range(LANES):
                rise = 0 if top[l] == <real>-INFINITY else <double>new_top[l] - <double>top[l]
                ratio = exp_nonpositive(-rise)
                if mode == LINEAR:
                    batch.b[l] -= 0 if batch.a[l] == 0 else batch.a[l] * rise
                if mode == EXPECTED:
                    batch.b[l] = 0 if ratio == 0 else ratio * (batch.b[l] - rise * (batch.others[l] + ties[l]))
                batch.others[l] = (batch.others[l] + ties[l]) * ratio if rise > 0 else batch.others[l]
                ties[l] = 0 if rise > 0 else ties[l]
        for l in range(LANES):
            top[l] = new_top[l]
            m[l] = <real>0 if top[l] == <real>-INFINITY else top[l]
        if mode == LINEAR:
            load_coefficients(job, tile, c0, n, coefficient, e)
        if mode != EXPECTED and one_block and job.grad != NULL and job.op != LOG_SOFTMAX:
            tile_sums(block, step, n, mode, True, m, coefficient, e, &batch, &lost, ties)
        else:
            tile_sums(block, step, n, mode, False, m, coefficient, e, &batch, &lost, ties)

    for l in range(LANES):
        batch.top[l] = top[l]
        batch.others[l] = (ties[l] - 1) + batch.others[l]
        if real is double:
            batch.others[l] = joined(batch.others[l], lost.others[l])
        if job.op != LOGSUMEXP:
            batch.others[l] += batch.top[l] - batch.top[l]
        if mode != PLAIN:
            batch.a[l] = joined(batch.a[l], lost.a[l])
            batch.b[l] = joined(batch.b[l], lost.b[l])
    if job.op == LOGSUMEXP:
        for l in range(tile.count):
            if not batch.top[l] < INFINITY:  # +inf gives +inf, unless the sample also holds NaN
                c = tile.inside + l
                batch.others[l] = sum_past_inf(
                    job, tag, (tile.outer + c // job.inner) * job.x_stride + c % job.inner
                )
    if indexed:
        for l in range(LANES):
            batch.d[l] = <double>x_t[l] - <double>m[l]
    batch.any_wide = False
    for l in range(LANES):
        scale[l] = job.grad_scale if is_loss and job.grad != NULL else 1
    if job.grad != NULL and is_loss and (by_sample or is_out_of_range(job.grad_scale, 1e-270, 1e270)):
        for l in range(tile.count):
            scale[l] = gradient_scale(job, tag, tile.first + l)
    ordinary = not is_loss or plain and real is float
    if is_loss and not ordinary and (real is float or job.sample_weight == NULL):
        ordinary = lanes_are_ordinary(&batch, mode != PLAIN, scale, tile.count)
    if not ordinary:
        lanes_wide_values(tag, job, tile, mode, indexed, label, &batch)
    if job.op != SOFTMAX:
        finish(tag, job, tile.first, tile.count, tile.place, &batch, total, low, huge)
    if job.grad == NULL:
        return

    if is_loss:
        for l in range(LANES):
            kept += batch.keep[l]
    if not ordinary and not plain:
        for l in range(LANES):
            is_wide[l] = (batch.keep[l] != 0) & gradient_is_wide(
                top[l], batch.others[l], batch.k[l], batch.a[l] if mode != PLAIN else 0.0, scale[l], mode != PLAIN
            )
            any_wide |= is_wide[l]
        if any_wide:
            for l in range(tile.count):
                if is_wide[l]:
                    wide_statistics(tag, job, tile.first + l, label[l] if indexed else -1, wide + l)
    if indexed:
        for l in range(LANES):
            entry[l] = exp_scaled(<real>(x_t[l] - m[l]))
        for l in range(LANES):
            entry[l] = <real>target_gradient(
                scale[l], batch.k[l], batch.a[l] if mode != PLAIN else 0.0,
                <double>shared[label[l]] if mode == LINEAR else 0.0,
                unscaled_sum(entry[l], entry[l]), batch.others[l],
            )
    if mode == PLAIN and is_loss:
        for l in range(LANES):
            scale[l] *= batch.k[l]
    for l in range(LANES):
        step_of = scale[l] / (1 + batch.others[l]) * exp_unit(top[l])
        factor[l] = <real>step_of
        if mode == LINEAR:
            a[l] = <real>(batch.a[l] + batch.k[l])
            a_low[l] = <real>(batch.a[l] + batch.k[l] - a[l])
            others[l] = <real>(batch.others[l] / exp_unit(top[l]))
    if mode == PLAIN and (job.op == SOFTMAX or plain):  # but for `others`, the same for all
        step_of = least_that_counts(<real>((job.grad_scale if is_loss else 1.0) * exp_unit(top[0])))
        for l in range(LANES):
            least[l] = <real>(step_of * (1 + batch.others[l]))
    else:
        for l in range(LANES):
            least[l] = least_that_counts(factor[l] * <real>(batch.a[l] + batch.k[l]) if mode == LINEAR else factor[l])
    if job.op == LOG_SOFTMAX:
        for l in range(LANES):
            log_sum_exp(batch.top[l], batch.log_sum[l], high + l, low_part + l)
    for c0 in range(0, classes, LANES_BLOCK):
        n = min(<Py_ssize_t>LANES_BLOCK, classes - c0)
        if not one_block:
            block = load_tile(job.x, job.storage, job.x_stride, job, tile, c0, n, buffer, e, &step)
            if mode == LINEAR:
                load_coefficients(job, tile, c0, n, coefficient, e)
            for c in range(n):
                for l in range(LANES):
                    e[c * LANES + l] = exp_scaled(block[c * step + l] - m[l])
        for c in range(n):
            if job.op == LOG_SOFTMAX:
                for l in range(LANES):
                    e[c * LANES + l] = log_softmax_of(block[c * step + l], high[l], low_part[l])
            elif mode == LINEAR:
                for l in range(LANES):
                    e[c * LANES + l] = factor[l] * linear_gradient(
                        zero_below(e[c * LANES + l], e[c * LANES + l], least[l]), coefficient[c * LANES + l], a[l],
                        a_low[l], others[l]
                    )
            else:
                for l in range(LANES):
                    e[c * LANES + l] = factor[l] * zero_below(e[c * LANES + l], e[c * LANES + l], least[l])
        if indexed:
            if few:
                for c in range(n):
                    for l in range(0, LANES, WIDTH):
                        select_step(entry + l, label_real + l, <real>c, e + c * LANES + l)
            else:
                for l in range(tile.count):
                    c = label[l] - c0
                    if one_block or (c >= 0 and c < n):
                        e[c * LANES + l] = entry[l]
        if is_loss and kept < tile.count:
            for l in range(tile.count):
                if batch.keep[l] == 0:
                    for c in range(n):
                        e[c * LANES + l] = <real>0
        if any_wide:
            for l in range(tile.count):
                if is_wide[l]:
                    for c in range(n):
                        e[c * LANES + l] = wide_gradient(
                            tag, job, wide + l, tile.first + l, c0 + c, indexed and label[l] == c0 + c,
                            block[c * step + l],
                        )
        store_tile(e, job, tile, c0, n, buffer)


cdef inline void lanes_entropy(real* buffer, real* spare, ClassJob* job, Tile* tile) noexcept nogil:
    cdef real total[LANES]
    cdef double s[LANES]
    cdef double lost[LANES]
    cdef Py_ssize_t c0, c, l, n, step
    cdef const real* block
    for l in range(LANES):
        s[l] = lost[l] = 0
    for c0 in range(0, job.classes, LANES_BLOCK):
        n = min(<Py_ssize_t>LANES_BLOCK, job.classes - c0)
        block = load_tile(job.x, job.storage, job.x_stride, job, tile, c0, n, buffer, spare, &step)
        for l in range(LANES):
            total[l] = <real>0
        for c in range(n):
            for l in range(LANES):
                total[l] += entropy_term(block[c * step + l])
        for l in range(LANES):
            add_to(total[0], total[l], s + l, lost + l)
    for l in range(tile.count):
        (<real*>job.value)[tile.first + l] = <real>joined(s[l], lost[l])


cdef inline void lanes_chunk(real* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Samples [chunk * job.chunk, ...) of a job with few classes or a strided class axis."""
    cdef Py_ssize_t start = chunk * job.chunk
    cdef Py_ssize_t last = min(start + job.chunk, job.samples)
    cdef void* memory = own_memory()
    cdef real* buffer = <real*>part_of(memory, 0, LANES_BLOCK * LANES * sizeof(real))
    cdef real* coefficient = <real*>part_of(memory, 1, LANES_BLOCK * LANES * sizeof(real))
    cdef real* e = <real*>part_of(memory, 2, LANES_BLOCK * LANES * sizeof(real))
    cdef double total[LANES]
    cdef double low[LANES]
    cdef Huge huge
    cdef Tile tile
    cdef int l
    huge.total = huge.low = 0
    for l in range(LANES):
        total[l] = low[l] = 0
    while start < last:
        place_tile(job, start, last, &tile)
        if job.op == LOSS_LINEAR:
            lanes_tile(buffer, coefficient, e, job, &tile, LINEAR, total, low, &huge)
        elif job.op == ENTROPY_FROM_LOGITS:
            lanes_tile(buffer, coefficient, e, job, &tile, EXPECTED, total, low, &huge)
        elif job.op == ENTROPY:
            lanes_entropy(buffer, e, job, &tile)
        else:
            lanes_tile(buffer, coefficient, e, job, &tile, PLAIN, total, low, &huge)
        start += tile.count
    fastloss_stream_end()
    sum_lanes(total, low, LANES, &huge, job.partial + 3 * chunk)
