# rows: the class axis is contiguous and long. One sample at a time, WIDTH classes side by side.
#
# A sample is read in blocks of ROWS_BLOCK classes that stay in L1: maximum of the block, rescaling of the sums
# if it rose, then the block's exponentials. So the value makes one trip through memory, and the gradient's second
# pass finds short rows in L1 or L2. WIDTH fixed accumulators make the order of the additions, and so the bits,
# independent of the instruction set; each block's sums continue in float64.

DEF WIDTH = 32
DEF ROWS_BLOCK = 1024


cdef extern from *:
    """
    #define fastloss_prefetch(p) __builtin_prefetch((const void*)(p))
    """
    void fastloss_prefetch(const void*) noexcept nogil


cdef inline double sum_width(const real* lanes) noexcept nogil:
    """Sum of WIDTH numbers, in float64, as a tree."""
    cdef double s[16]
    cdef int k
    for k in range(16):
        s[k] = <double>lanes[k] + <double>lanes[k + 16]
    for k in range(8):
        s[k] += s[k + 8]
    for k in range(4):
        s[k] += s[k + 4]
    return (s[0] + s[2]) + (s[1] + s[3])


cdef inline void max_step(const real* x, real* top) noexcept nogil:
    cdef int k
    for k in range(WIDTH):
        top[k] = x[k] if x[k] > top[k] else top[k]


cdef inline real max_width(real* top) noexcept nogil:
    cdef int k
    for k in range(16):
        top[k] = top[k + 16] if top[k + 16] > top[k] else top[k]
    for k in range(8):
        top[k] = top[k + 8] if top[k + 8] > top[k] else top[k]
    for k in range(4):
        top[k] = top[k + 4] if top[k + 4] > top[k] else top[k]
    for k in range(1, 4):
        top[0] = top[k] if top[k] > top[0] else top[0]
    return top[0]


cdef inline void exp_step(const real* x, real m, real* total, real* below) noexcept nogil:
    """Add exp(x_k - m), scaled, where x_k < m, and count these; NaN counts as the maximum but makes the sum NaN."""
    cdef int k
    cdef real is_below
    for k in range(WIDTH):
        is_below = <real>1 if x[k] < m else <real>0
        total[k] = fma(exp_scaled(x[k] - m), is_below, total[k])
        below[k] += is_below


cdef inline void expected_step(const real* x, real m, real* b) noexcept nogil:
    cdef int k
    cdef real e, d
    for k in range(WIDTH):
        e = exp_scaled(x[k] - m)
        d = <real>0 if e == <real>0 else x[k] - m
        b[k] = fma(e, d, b[k])


cdef inline void linear_step(
    const real* x, const real* c, const real* w, real scale, real shift, real m, double* a, real* b
) noexcept nogil:
    cdef int k
    cdef real cw, d
    for k in range(WIDTH):
        cw = w[k] * fma(scale, c[k], shift)
        d = <real>0 if cw == <real>0 else x[k] - m
        a[k] += cw
        b[k] = fma(cw, d, b[k])


cdef inline void pad(const real* source, Py_ssize_t n, real fill, real* target) noexcept nogil:
    """The last n < WIDTH numbers of a row, filled up to WIDTH so that they run as the others do."""
    cdef Py_ssize_t k
    for k in range(WIDTH):
        target[k] = fill
    memcpy(target, source, n * sizeof(real))


cdef inline void row_statistics(
    const real* x, ClassJob* job, const real* c, int mode, real* top, Sample* sample
) noexcept nogil:
    """Maximum and sums of one row. With no finite maximum, `others` is NaN (for logsumexp m decides)."""
    cdef Py_ssize_t classes = job.classes, j0, j, n, full
    cdef const real* w = <const real*>job.linear_weight
    cdef real scale = <real>job.coefficient_scale
    cdef real shift = <real>job.coefficient_shift
    cdef real total[WIDTH]
    cdef real below[WIDTH]
    cdef double a[WIDTH]           # in float64: the gradient needs a - c_j where one c_j is nearly all of a
    cdef real b[WIDTH]
    cdef real tops[WIDTH]
    cdef real tail[WIDTH]
    cdef real tail_c[WIDTH]
    cdef real tail_w[WIDTH]
    cdef real ones[WIDTH]
    cdef real m = <real>-INFINITY, block_max, finite_m
    cdef double s = 0, s_low = 0, count = 0, sum_a = 0, sum_b = 0, b_low = 0, rise, ratio
    cdef int k
    cdef const real* wj
    if mode == LINEAR:
        for k in range(WIDTH):
            ones[k] = <real>1
    for j0 in range(0, classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, classes - j0)
        full = n - n % WIDTH
        for k in range(WIDTH):
            tops[k] = <real>-INFINITY
        for j in range(j0, j0 + full, WIDTH):
            max_step(x + j, tops)
        if full < n:
            pad(x + j0 + full, n - full, <real>-INFINITY, tail)
            max_step(&tail[0], tops)
        block_max = max_width(tops)
        if block_max > m:
            if m > <real>-INFINITY:
                rise = <double>block_max - <double>m
                ratio = exp_nonpositive(-rise)
                if mode == LINEAR:
                    sum_b -= sum_a * rise if sum_a != 0 else 0.0
                if mode == EXPECTED:
                    sum_b = ratio * (sum_b - rise * (s + count)) if ratio > 0 else 0.0
                s = (s + count) * ratio
                s_low *= ratio
                count = 0
            m = block_max
        finite_m = m if m > <real>-INFINITY else <real>0
        for k in range(WIDTH):
            total[k] = below[k] = b[k] = <real>0
            a[k] = 0
        for j in range(j0, j0 + full, WIDTH):
            for k in range(<int>sizeof(real) // 2):  # the next block, or row, while this one is computed
                fastloss_prefetch(x + j + ROWS_BLOCK + k * (64 // <int>sizeof(real)))
            exp_step(x + j, finite_m, total, below)
            if mode == EXPECTED:
                expected_step(x + j, finite_m, b)
            if mode == LINEAR:
                wj = w + j if w != NULL else &ones[0]
                linear_step(x + j, c + j, wj, scale, shift, finite_m, a, b)
        if full < n:
            exp_step(&tail[0], finite_m, total, below)
            if mode == EXPECTED:
                expected_step(&tail[0], finite_m, b)
            if mode == LINEAR:
                j = j0 + full
                pad(c + j, n - full, <real>0, tail_c)
                pad(w + j if w != NULL else &ones[0], n - full, <real>0, tail_w)
                linear_step(&tail[0], &tail_c[0], &tail_w[0], scale, shift, finite_m, a, b)
        two_sum(unscaled_sum(sum_width(&total[0]), m), &s, &s_low)
        count += <double>((n + WIDTH - 1) // WIDTH * WIDTH) - sum_width(&below[0])
        if mode == LINEAR:
            sum_a += sum_width(&a[0])
            two_sum(sum_width(&b[0]), &sum_b, &b_low)
        if mode == EXPECTED:
            two_sum(unscaled_sum(sum_width(&b[0]), m), &sum_b, &b_low)
    top[0] = m
    sample.others = joined((count - 1) + s, s_low)
    if job.op != LOGSUMEXP:
        sample.others += <double>m - <double>m
    sample.a = sum_a
    sample.b = joined(sum_b, b_low)


cdef inline void gradient_step(
    const real* x, const real* c, const real* w, real scale, real shift, real m, real factor, real a, real a_low,
    real others, int mode, real* g
) noexcept nogil:
    cdef int k
    cdef real e, cw
    for k in range(WIDTH):
        e = exp_nonpositive(x[k] - m)
        if mode == LINEAR:
            cw = w[k] * fma(scale, c[k], shift)
            g[k] = factor * linear_gradient(e, cw, a, a_low, others)
        else:
            g[k] = factor * e


cdef inline void log_softmax_step(const real* x, real m, real log_sum, real low, real* y) noexcept nogil:
    cdef int k
    for k in range(WIDTH):
        y[k] = log_softmax_of(x[k], m, log_sum, low)


cdef inline void row_gradient(
    const real* x, ClassJob* job, const real* c, int mode, real m, double factor_, double a_, double others_,
    real* grad
) noexcept nogil:
    """factor times exp(x_j - m), or times the linear term's gradient; buffered, so that grad may be x itself."""
    cdef Py_ssize_t classes = job.classes, j, n, full = classes - classes % WIDTH
    cdef const real* w = <const real*>job.linear_weight
    cdef real scale = <real>job.coefficient_scale
    cdef real shift = <real>job.coefficient_shift
    cdef real factor = <real>factor_
    cdef real a = <real>a_
    cdef real a_low = <real>(a_ - a)
    cdef real others = <real>others_
    cdef real buffer[WIDTH]
    cdef real ones[WIDTH]
    cdef real tail[WIDTH]
    cdef real tail_c[WIDTH]
    cdef real tail_w[WIDTH]
    cdef int k
    if mode == LINEAR:
        for k in range(WIDTH):
            ones[k] = <real>1
    for j in range(0, full, WIDTH):
        gradient_step(
            x + j, c + j, w + j if w != NULL else &ones[0], scale, shift, m, factor, a, a_low, others, mode, buffer
        )
        memcpy(grad + j, &buffer[0], WIDTH * sizeof(real))
    if full < classes:
        n = classes - full
        pad(x + full, n, <real>-INFINITY, tail)
        if mode == LINEAR:
            pad(c + full, n, <real>0, tail_c)
            pad(w + full if w != NULL else &ones[0], n, <real>0, tail_w)
        gradient_step(
            &tail[0], &tail_c[0], &tail_w[0], scale, shift, m, factor, a, a_low, others, mode, buffer
        )
        memcpy(grad + full, &buffer[0], n * sizeof(real))


cdef inline void row_log_softmax(
    const real* x, Py_ssize_t classes, real m, double log_sum_exp, real* out
) noexcept nogil:
    cdef Py_ssize_t j, full = classes - classes % WIDTH
    cdef real tail[WIDTH]
    cdef real log_sum = <real>log_sum_exp
    cdef real low = <real>(log_sum_exp - log_sum)
    for j in range(0, full, WIDTH):
        log_softmax_step(x + j, m, log_sum, low, out + j)
    if full < classes:
        pad(x + full, classes - full, <real>0, tail)
        log_softmax_step(&tail[0], m, log_sum, low, tail)
        memcpy(out + full, &tail[0], (classes - full) * sizeof(real))


cdef inline double row_loss(const real* x, ClassJob* job, Py_ssize_t i, int mode) noexcept nogil:
    """Value of sample i, and its gradient where job.grad is set."""
    cdef Py_ssize_t classes = job.classes
    cdef const real* weight = <const real*>job.class_weight
    cdef const real* c = x
    cdef real* grad = <real*>job.grad
    cdef int64_t t = -1
    cdef double k = 0, value, log_sum_exp, d = 0, scale, e_t = 0, c_t = 0, p_t = 0
    cdef real m = 0
    cdef Sample sample
    if grad != NULL:
        grad += i * classes
    if job.labels != NULL:
        t = load_label(job.labels, job.label_kind, i)
        if t == job.ignore_index:
            if grad != NULL:
                memset(grad, 0, classes * sizeof(real))
            return 0.0
        k = job.index_scale * (<double>weight[t] if weight != NULL else 1.0)
    if mode == LINEAR:
        c = <const real*>job.coefficient + (0 if job.coefficient_shared else i * classes)
    row_statistics(x, job, c, mode, &m, &sample)
    log_sum_exp = log1p_nonnegative(sample.others)
    value = linear_loss(log_sum_exp, &sample) if mode == LINEAR else 0.0
    if t >= 0:
        d = x[t] - m
        value += index_loss(k, log_sum_exp, d)
    if job.offset != NULL:
        value += job.offset[i]
    scale = per_sample(<const real*>job.sample_weight, i)
    value *= scale
    if grad != NULL:
        scale *= job.grad_scale * per_sample(<const real*>job.grad_output, i)
        if t >= 0:
            e_t = exp_nonpositive(d)
            if mode == LINEAR:
                c_t = coefficient_of(job, c[t], t)
            p_t = e_t / (1 + sample.others)
        d = scale / (1 + sample.others)
        if mode == LINEAR:
            row_gradient(x, job, c, mode, m, d, sample.a + k, sample.others, grad)
        else:
            row_gradient(x, job, c, mode, m, d * k, 0, 0, grad)
        if t >= 0:
            e_t = (sample.others + (1 - e_t)) / (1 + sample.others)  # 1 - p_t, the sum of the others
            grad[t] = <real>(scale * ((sample.a - c_t) * p_t - (c_t + k) * e_t))
    return value


cdef inline double row_entropy(const real* p, Py_ssize_t classes) noexcept nogil:
    """-sum p log p, with 0 log 0 = 0."""
    cdef real total[WIDTH]
    cdef real tail[WIDTH]
    cdef Py_ssize_t j0, j, n, full
    cdef double s = 0, low = 0
    cdef int k
    for j0 in range(0, classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, classes - j0)
        full = n - n % WIDTH
        for k in range(WIDTH):
            total[k] = <real>0
        for j in range(j0, j0 + full, WIDTH):
            for k in range(WIDTH):
                total[k] += entropy_term(p[j + k])
        if full < n:
            pad(p + j0 + full, n - full, <real>0, tail)
            for k in range(WIDTH):
                total[k] += entropy_term(tail[k])
        two_sum(sum_width(&total[0]), &s, &low)
    return joined(s, low)


cdef void rows_chunk(real* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Samples [chunk * job.chunk, ...) of a job whose class axis is contiguous."""
    cdef Py_ssize_t first = chunk * job.chunk, i
    cdef Py_ssize_t last = min(first + job.chunk, job.samples)
    cdef const real* x
    cdef real* out
    cdef real m = 0
    cdef double value, total = 0, low = 0
    cdef Sample sample
    for i in range(first, last):
        x = <const real*>job.x + i * job.x_stride
        out = <real*>job.grad
        if out != NULL:
            out += i * job.classes
        value = 0
        if job.op == LOSS:
            value = row_loss(x, job, i, PLAIN)
        elif job.op == LOSS_LINEAR:
            value = row_loss(x, job, i, LINEAR)
        elif job.op == ENTROPY:
            value = row_entropy(x, job.classes)
        elif job.op == ENTROPY_FROM_LOGITS:
            row_statistics(x, job, x, EXPECTED, &m, &sample)
            value = log1p_nonnegative(sample.others) - sample.b / (1 + sample.others)
        else:
            row_statistics(x, job, x, PLAIN, &m, &sample)
            value = log1p_nonnegative(sample.others)
            if job.op == LOGSUMEXP:
                value = log_sum_exp_of(x, job.classes, 1, m, value)
            elif job.op == SOFTMAX:
                row_gradient(x, job, x, PLAIN, m, 1 / (1 + sample.others), 0, 0, out)
            else:
                row_log_softmax(x, job.classes, m, value, out)
        if job.value != NULL:
            (<real*>job.value)[i] = <real>value
        two_sum(value, &total, &low)
    job.partial[2 * chunk] = total
    job.partial[2 * chunk + 1] = low
