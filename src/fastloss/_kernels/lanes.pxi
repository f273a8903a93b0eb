# lanes: few classes, or a strided class axis such as (N, C, H, W). LANES samples side by side, one a SIMD lane.
#
# A tile of LANES_BLOCK classes x LANES samples is copied into L1 (transposed where the classes are contiguous),
# then every loop runs over classes outside and samples inside: no horizontal reduction at all. More classes
# than a tile holds are taken block by block, rescaling each lane's sums where its maximum rose. When one tile
# holds all classes, the gradient reuses its exponentials.

DEF LANES = 64
DEF LANES_BLOCK = 32
DEF LANES_GROUP = 8

cdef struct Tile:
    Py_ssize_t first               # first sample
    Py_ssize_t count               # samples in use, at most LANES; other lanes are computed, never used
    bint contiguous                # the samples are neighbours in memory
    Py_ssize_t x_offset[LANES]     # of each sample's class 0
    Py_ssize_t out_offset[LANES]   # the same in a contiguous array


cdef inline void place_tile(ClassJob* job, Py_ssize_t first, Py_ssize_t last, Tile* tile) noexcept nogil:
    cdef Py_ssize_t l, outer, i, block = job.classes * job.inner
    tile.first = first
    tile.count = min(<Py_ssize_t>LANES, last - first)
    outer = first // job.inner
    i = first - outer * job.inner
    tile.contiguous = job.inner > 1 and i + tile.count <= job.inner
    if tile.contiguous:
        for l in range(LANES):
            tile.x_offset[l] = outer * job.x_stride + i + l
            tile.out_offset[l] = outer * block + i + l
    elif job.inner == 1:
        for l in range(LANES):
            tile.x_offset[l] = (outer + l) * job.x_stride
            tile.out_offset[l] = (outer + l) * block
    else:
        for l in range(tile.count):
            tile.x_offset[l] = outer * job.x_stride + i
            tile.out_offset[l] = outer * block + i
            i += 1
            if i == job.inner:
                i = 0
                outer += 1


cdef inline void load_tile(
    const real* x, const Py_ssize_t* offset, Tile* tile, Py_ssize_t inner, Py_ssize_t c0, Py_ssize_t classes,
    real* buffer
) noexcept nogil:
    """Classes [c0, c0 + classes) of the tile's samples, a row of LANES for each class."""
    cdef Py_ssize_t c, l
    cdef const real* source
    cdef volatile real* target  # keeps the transposition scalar: gcc would make it a scatter, which is slower
    if tile.count < LANES:
        memset(buffer, 0, classes * LANES * sizeof(real))
    if tile.contiguous:
        source = x + offset[0] + c0 * inner
        for c in range(classes):
            for l in range(<int>sizeof(real) * LANES // 64):  # the next tile, while this one is computed
                fastloss_prefetch(source + c * inner + LANES + l * (64 // <int>sizeof(real)))
            if tile.count == LANES:
                memcpy(buffer + c * LANES, source + c * inner, LANES * sizeof(real))
            else:
                memcpy(buffer + c * LANES, source + c * inner, tile.count * sizeof(real))
    else:
        for l in range(tile.count):
            source = x + offset[l] + c0 * inner
            target = buffer + l
            for c in range(classes):
                target[c * LANES] = source[c * inner]


cdef inline void store_tile(
    const real* buffer, Tile* tile, Py_ssize_t inner, Py_ssize_t c0, Py_ssize_t classes, real* out
) noexcept nogil:
    cdef Py_ssize_t c, l
    cdef real* target
    cdef volatile const real* source  # scalar, as in `load_tile`
    if tile.contiguous:
        target = out + tile.out_offset[0] + c0 * inner
        for c in range(classes):
            if tile.count == LANES:
                memcpy(target + c * inner, buffer + c * LANES, LANES * sizeof(real))
            else:
                memcpy(target + c * inner, buffer + c * LANES, tile.count * sizeof(real))
    else:
        for l in range(tile.count):
            target = out + tile.out_offset[l] + c0 * inner
            source = buffer + l
            for c in range(classes):
                target[c * inner] = source[c * LANES]


cdef inline void load_coefficients(
    ClassJob* job, const real* tag, Tile* tile, Py_ssize_t c0, Py_ssize_t classes, real* buffer
) noexcept nogil:
    """c_j of the linear term for a block of classes, weights and smoothing applied."""
    cdef const real* coefficient = <const real*>job.coefficient
    cdef const real* w = <const real*>job.linear_weight
    cdef real scale = <real>job.coefficient_scale
    cdef real shift = <real>job.coefficient_shift
    cdef real wc
    cdef Py_ssize_t c, l
    if job.coefficient_shared:
        for c in range(classes):
            for l in range(LANES):
                buffer[c * LANES + l] = coefficient[c0 + c]
    else:
        load_tile(coefficient, tile.out_offset, tile, job.inner, c0, classes, buffer)
    for c in range(classes):
        wc = w[c0 + c] if w != NULL else <real>1
        for l in range(LANES):
            buffer[c * LANES + l] = wc * fma(scale, buffer[c * LANES + l], shift)


cdef inline void load_labels(ClassJob* job, Tile* tile, int64_t* label) noexcept nogil:
    cdef Py_ssize_t l
    if job.label_kind == 8:
        memcpy(label, <const int64_t*>job.labels + tile.first, tile.count * sizeof(int64_t))
    else:
        for l in range(tile.count):
            label[l] = load_label(job.labels, job.label_kind, tile.first + l)


cdef inline void lanes_tile(
    const real* x, ClassJob* job, Tile* tile, int mode, double* total, double* low
) noexcept nogil:
    """Everything for LANES samples: statistics, value, and gradient or output."""
    cdef Py_ssize_t classes = job.classes, inner = job.inner, c0, c, l, n, g
    cdef real buffer[LANES_BLOCK * LANES]
    cdef real coefficient[LANES_BLOCK * LANES]
    cdef real top[LANES]
    cdef real new_top[LANES]
    cdef real m[LANES]             # top, or 0 where that is -inf
    cdef real block_s[LANES]
    cdef real below[LANES]
    cdef real block_b[LANES]
    cdef real x_t[LANES]
    cdef real factor[LANES]
    cdef real a_real[LANES]
    cdef real a_low[LANES]
    cdef real others_real[LANES]
    cdef real keep[LANES]
    cdef real log_sum[LANES]
    cdef real log_sum_low[LANES]
    cdef double s[LANES]
    cdef double ties[LANES]
    cdef double a[LANES]
    cdef double block_a[LANES]     # float64, as in `row_statistics`
    cdef double b[LANES]
    cdef double k[LANES]
    cdef double value[LANES]
    cdef double log_sum_exp[LANES]
    cdef double scale[LANES]
    cdef double rise, ratio, e_t, p_t, c_t, others
    cdef int64_t label[LANES]
    cdef const real* weight = <const real*>job.class_weight
    cdef const real* shared = <const real*>job.coefficient
    cdef real* out = <real*>job.grad
    cdef real e, d, is_below, k_c
    cdef bint keep_x = job.op == LOG_SOFTMAX
    cdef bint is_loss = job.op == LOSS or job.op == LOSS_LINEAR
    cdef bint indexed = is_loss and job.labels != NULL
    cdef bint ignored = False
    cdef bint reuse = classes <= LANES_BLOCK

    for l in range(LANES):
        top[l] = <real>-INFINITY
        s[l] = ties[l] = a[l] = b[l] = 0
    for c0 in range(0, classes, LANES_BLOCK):
        n = min(<Py_ssize_t>LANES_BLOCK, classes - c0)
        load_tile(x, tile.x_offset, tile, inner, c0, n, buffer)
        for l in range(LANES):
            new_top[l] = top[l]
        for c in range(n):
            for l in range(LANES):
                new_top[l] = buffer[c * LANES + l] if buffer[c * LANES + l] > new_top[l] else new_top[l]
        if c0 > 0:
            for l in range(LANES):
                rise = 0 if top[l] == <real>-INFINITY else <double>new_top[l] - <double>top[l]
                ratio = exp_nonpositive(-rise)
                if mode == LINEAR:
                    b[l] -= 0 if a[l] == 0 else a[l] * rise
                if mode == EXPECTED:
                    b[l] = 0 if ratio == 0 else ratio * (b[l] - rise * (s[l] + ties[l]))
                s[l] = (s[l] + ties[l]) * ratio if rise > 0 else s[l]
                ties[l] = 0 if rise > 0 else ties[l]
        for l in range(LANES):
            top[l] = new_top[l]
            m[l] = <real>0 if top[l] == <real>-INFINITY else top[l]
            below[l] = <real>0
        if mode == LINEAR:
            load_coefficients(job, x, tile, c0, n, coefficient)
        for g in range((n + LANES_GROUP - 1) // LANES_GROUP):  # float32 sums stay short
            for l in range(LANES):
                block_s[l] = block_b[l] = <real>0
                block_a[l] = 0
            for c in range(g * LANES_GROUP, min((g + 1) * <Py_ssize_t>LANES_GROUP, n)):
                for l in range(LANES):
                    is_below = <real>1 if buffer[c * LANES + l] < m[l] else <real>0
                    d = buffer[c * LANES + l] - m[l]
                    e = exp_scaled(d)
                    block_s[l] = fma(e, is_below, block_s[l])
                    below[l] += is_below
                    if mode == LINEAR:
                        k_c = coefficient[c * LANES + l]
                        d = <real>0 if k_c == <real>0 else d
                        block_a[l] += k_c
                        block_b[l] = fma(k_c, d, block_b[l])
                    if mode == EXPECTED:
                        d = <real>0 if e == <real>0 else d
                        block_b[l] = fma(e, d, block_b[l])
                    if not keep_x:
                        buffer[c * LANES + l] = e
            for l in range(LANES):
                s[l] += unscaled_sum(block_s[l], block_s[l])
                if mode == LINEAR:
                    a[l] += block_a[l]
                    b[l] += block_b[l]
                if mode == EXPECTED:
                    b[l] += unscaled_sum(block_b[l], block_b[l])
        for l in range(LANES):
            ties[l] += n - <double>below[l]

    for l in range(LANES):
        others = (ties[l] - 1) + s[l]
        if job.op != LOGSUMEXP:
            others += <double>top[l] - <double>top[l]
        s[l] = others
        log_sum_exp[l] = log1p_nonnegative(others)

    if is_loss:
        for l in range(LANES):
            label[l] = -1
            keep[l] = <real>1 if l < tile.count else <real>0
            k[l] = 0
            x_t[l] = m[l]
        if indexed:
            load_labels(job, tile, &label[0])
            for l in range(tile.count):
                keep[l] = <real>0 if label[l] == job.ignore_index else <real>1
                label[l] = 0 if label[l] == job.ignore_index else label[l]
                k[l] = job.index_scale * keep[l]
            for l in range(tile.count):
                ignored |= keep[l] == <real>0
                x_t[l] = x[tile.x_offset[l] + label[l] * inner]
            if weight != NULL:
                for l in range(tile.count):
                    k[l] *= weight[label[l]]
        for l in range(LANES):
            value[l] = index_loss(k[l], log_sum_exp[l], <double>(x_t[l] - m[l]))
            if mode == LINEAR:
                value[l] += a[l] * log_sum_exp[l] - b[l]
            scale[l] = 1
        if job.offset != NULL:
            for l in range(tile.count):
                value[l] += job.offset[tile.first + l]
        if job.sample_weight != NULL:
            for l in range(tile.count):
                scale[l] = (<const real*>job.sample_weight)[tile.first + l]
        for l in range(LANES):
            value[l] = value[l] * scale[l] if keep[l] != <real>0 else 0
            scale[l] *= job.grad_scale
        if job.grad_output != NULL:
            for l in range(tile.count):
                scale[l] *= (<const real*>job.grad_output)[tile.first + l]
        for l in range(LANES):
            factor[l] = <real>(scale[l] * (1 if mode == LINEAR else k[l]) / (1 + s[l]))
            a_real[l] = <real>(a[l] + k[l])
            a_low[l] = <real>(a[l] + k[l] - a_real[l])
            others_real[l] = <real>s[l]
    else:
        for l in range(LANES):
            value[l] = log_sum_exp[l]
            factor[l] = <real>(1 / (1 + s[l]))
            log_sum[l] = <real>log_sum_exp[l]
            log_sum_low[l] = <real>(log_sum_exp[l] - log_sum[l])
            if mode == EXPECTED:
                value[l] -= b[l] / (1 + s[l])
    if job.op == LOGSUMEXP:
        for l in range(tile.count):
            value[l] = log_sum_exp_of(x + tile.x_offset[l], classes, inner, top[l], log_sum_exp[l])
    if is_loss:
        for l in range(LANES):
            two_sum(value[l], total + l, low + l)
    if job.value != NULL:
        for l in range(tile.count):
            (<real*>job.value)[tile.first + l] = <real>value[l]
    if out == NULL:
        return

    # The target's entry: minus the sum of the others, computed before x may be overwritten.
    if indexed:
        for l in range(LANES):
            e_t = exp_nonpositive(<double>(x_t[l] - m[l]))
            p_t = e_t / (1 + s[l])
            c_t = 0
            if mode == LINEAR:
                c = label[l] if label[l] > 0 else 0
                c_t = coefficient_of(job, shared[c], c)
            e_t = (s[l] + (1 - e_t)) / (1 + s[l])
            x_t[l] = <real>(scale[l] * ((a[l] - c_t) * p_t - (c_t + k[l]) * e_t))
    for c0 in range(0, classes, LANES_BLOCK):
        n = min(<Py_ssize_t>LANES_BLOCK, classes - c0)
        if not reuse:
            load_tile(x, tile.x_offset, tile, inner, c0, n, buffer)
            if not keep_x:
                for c in range(n):
                    for l in range(LANES):
                        buffer[c * LANES + l] = exp_scaled(buffer[c * LANES + l] - m[l])
        if keep_x:
            for c in range(n):
                for l in range(LANES):
                    buffer[c * LANES + l] = log_softmax_of(
                        buffer[c * LANES + l], m[l], log_sum[l], log_sum_low[l]
                    )
        elif mode == LINEAR:
            if not reuse:
                load_coefficients(job, x, tile, c0, n, coefficient)
            for c in range(n):
                for l in range(LANES):
                    e = linear_gradient(
                        unscaled(buffer[c * LANES + l]), coefficient[c * LANES + l], a_real[l], a_low[l],
                        others_real[l],
                    )
                    buffer[c * LANES + l] = e * factor[l]
        else:
            for c in range(n):
                for l in range(LANES):
                    buffer[c * LANES + l] = unscaled(buffer[c * LANES + l]) * factor[l]
        if indexed:
            for l in range(tile.count):
                c = label[l] - c0
                if c >= 0 and c < n:
                    buffer[c * LANES + l] = x_t[l]
        if ignored:
            for c in range(n):
                for l in range(LANES):
                    buffer[c * LANES + l] = buffer[c * LANES + l] if keep[l] != <real>0 else <real>0
        store_tile(buffer, tile, inner, c0, n, out)


cdef inline void lanes_entropy(const real* p, ClassJob* job, Tile* tile) noexcept nogil:
    cdef real buffer[LANES_BLOCK * LANES]
    cdef real block[LANES]
    cdef double s[LANES]
    cdef Py_ssize_t c0, c, l, n
    for l in range(LANES):
        s[l] = 0
    for c0 in range(0, job.classes, LANES_BLOCK):
        n = min(<Py_ssize_t>LANES_BLOCK, job.classes - c0)
        load_tile(p, tile.x_offset, tile, job.inner, c0, n, buffer)
        for l in range(LANES):
            block[l] = <real>0
        for c in range(n):
            for l in range(LANES):
                block[l] += entropy_term(buffer[c * LANES + l])
        for l in range(LANES):
            s[l] += block[l]
    for l in range(tile.count):
        (<real*>job.value)[tile.first + l] = <real>s[l]


cdef void lanes_chunk(real* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Samples [chunk * job.chunk, ...) of a job with few classes or a strided class axis."""
    cdef Py_ssize_t first = chunk * job.chunk, start
    cdef Py_ssize_t last = min(first + job.chunk, job.samples)
    cdef const real* x = <const real*>job.x
    cdef double total[LANES]
    cdef double low[LANES]
    cdef double s = 0, s_low = 0
    cdef Tile tile
    cdef int l
    for l in range(LANES):
        total[l] = low[l] = 0
    for start in range(first, last, LANES):
        place_tile(job, start, last, &tile)
        if job.op == LOSS_LINEAR:
            lanes_tile(x, job, &tile, LINEAR, total, low)
        elif job.op == ENTROPY_FROM_LOGITS:
            lanes_tile(x, job, &tile, EXPECTED, total, low)
        elif job.op == ENTROPY:
            lanes_entropy(x, job, &tile)
        else:
            lanes_tile(x, job, &tile, PLAIN, total, low)
    for l in range(LANES):
        two_sum(total[l], &s, &s_low)
        s_low += low[l]
    job.partial[2 * chunk] = s
    job.partial[2 * chunk + 1] = s_low
