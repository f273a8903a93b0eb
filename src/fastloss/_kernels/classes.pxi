# What the two families with a class axis share: the job, and the formulas of one sample.
#
# A sample x_1..x_C is summarised in one pass by its maximum m and, with d_j = x_j - m, by
#     others = sum_j exp(d_j) - 1,   the sum without one maximum's own 1, at full relative precision,
# so that log sum_j exp(x_j) = m + log1p(others), and a confident row (others ~ 1e-9) loses nothing.
# Ties with the maximum are counted, not added, hence (ties - 1) + sum over x_j < m.
#
# The loss of a sample is  sum_j c_j (L - d_j) + k (L - d_t)  with L = log1p(others):
#     index target      k = w_t, no c            cross-entropy from class indices
#     + smoothing       k = (1 - eps) w_t,       c_j = eps/C w_j
#     probabilities     c_j = w_j ((1 - eps) q_j + eps/C)
#     counts            c_j = k_j                multinomial likelihood
# and its gradient is (sum_j c_j + k) p_j - c_j - k [j = t] with p = softmax(x).

cdef enum:
    LOGSUMEXP, SOFTMAX, LOG_SOFTMAX, ENTROPY, ENTROPY_FROM_LOGITS, LOSS, LOSS_LINEAR, NLL

# What one pass over a sample collects besides the maximum and the sum of exponentials.
cdef enum:
    PLAIN      # nothing
    LINEAR     # sum c_j and sum c_j d_j
    EXPECTED   # sum exp(d_j) d_j

cdef struct ClassJob:
    int op
    bint float32
    const void* x                  # (outer, classes, inner); `x_stride` elements from one outer index to the next
    Py_ssize_t x_stride
    Py_ssize_t classes
    Py_ssize_t inner
    Py_ssize_t samples             # outer * inner
    const void* labels             # (samples,), or NULL
    int label_kind
    int64_t ignore_index
    const void* coefficient        # c before the affine map: as x, or (classes,) for all samples; or NULL
    bint coefficient_shared
    double coefficient_scale       # c_j = w_j * (scale * coefficient_j + shift)
    double coefficient_shift
    const void* linear_weight      # w of the linear term (classes,), or NULL for ones
    const void* class_weight       # w of the index term (classes,), or NULL for ones
    double index_scale             # 1 - label smoothing
    const void* sample_weight      # (samples,), or NULL
    const void* grad_output        # (samples,), or NULL
    double grad_scale              # grad_output / divisor where these are one number
    const double* offset           # (samples,) added to the loss of each sample, or NULL
    void* value                    # (samples,), or NULL
    void* grad                     # as x but contiguous, or NULL; also the output of softmax and log_softmax
    Py_ssize_t chunk               # samples that one thread takes at a time
    double* partial                # (chunks, 2): sum of the values, and what rounding lost

# Statistics of one sample.
cdef struct Sample:
    double others
    double a        # LINEAR: sum c_j
    double b        # LINEAR: sum c_j d_j; EXPECTED: sum exp(d_j) d_j


cdef inline int64_t load_label(const void* labels, int kind, Py_ssize_t i) noexcept nogil:
    """Label i of any integer type; `kind` is the item size, negative when unsigned."""
    if kind == 8:
        return (<const int64_t*>labels)[i]
    if kind == 4:
        return (<const int32_t*>labels)[i]
    if kind == -1:
        return (<const uint8_t*>labels)[i]
    if kind == 2:
        return (<const int16_t*>labels)[i]
    if kind == 1:
        return (<const int8_t*>labels)[i]
    if kind == -2:
        return (<const uint16_t*>labels)[i]
    if kind == -4:
        return (<const uint32_t*>labels)[i]
    return (<const int64_t*>labels)[i]


cdef inline double per_sample(const real* array, Py_ssize_t i) noexcept nogil:
    return array[i] if array != NULL else 1.0


cdef inline double linear_loss(double log_sum_exp, Sample* sample) noexcept nogil:
    return sample.a * log_sum_exp - sample.b


cdef inline double index_loss(double k, double log_sum_exp, double d) noexcept nogil:
    return k * (log_sum_exp - d if k != 0 else log_sum_exp)  # a weight of 0 drops an infinite d, but keeps NaN


cdef inline double log_sum_exp_of(
    const real* x, Py_ssize_t classes, Py_ssize_t step, real m, double log_sum
) noexcept nogil:
    """m + log_sum; a row with +inf gives +inf, unless it also holds NaN."""
    cdef Py_ssize_t j
    if m < <real>INFINITY:
        return m + log_sum
    for j in range(classes):
        if x[j * step] != x[j * step]:
            return NAN
    return m


cdef inline real log_softmax_of(real x, real m, real log_sum, real low) noexcept nogil:
    """(x - m) - (log_sum + low), rounded once."""
    cdef real d = x - m
    cdef real y = d - log_sum
    cdef real lost = sum_low(x, -m, d) + (sum_low(d, -log_sum, y) - low)
    return y + lost if absolute(y) < <real>INFINITY else y


cdef inline real linear_gradient(real e, real c, real a, real a_low, real others) noexcept nogil:
    """(a p_j - c_j) sum_k exp(d_k), written so that a target of one class loses nothing: a = c_j leaves 1 - p_j."""
    return ((a - c) + a_low) * e - c * (others + (<real>1 - e))


cdef inline real coefficient_of(ClassJob* job, real c, int64_t j) noexcept nogil:
    """c_j of the linear term from the coefficient that stands in memory, as the loops compute it."""
    cdef const real* w = <const real*>job.linear_weight
    c = fma(<real>job.coefficient_scale, c, <real>job.coefficient_shift)
    return w[j] * c if w != NULL else c


cdef inline real entropy_term(real p) noexcept nogil:
    cdef real low = 0
    cdef real log_p = log_any(p, &low)
    return <real>0 if p == <real>0 else -p * (log_p + low)


cdef inline Py_ssize_t scan_labels(
    const void* labels, int kind, Py_ssize_t n, Py_ssize_t classes, int64_t ignore_index,
    const real* class_weight, const real* sample_weight, double* divisor
) noexcept nogil:
    """Position of the first label that is neither a class nor ignored, or -1; the weights in force, summed."""
    cdef Py_ssize_t i, used = 0
    cdef int64_t t
    cdef int64_t invalid = 0, label_count = classes
    cdef const int64_t* labels64 = <const int64_t*>labels
    cdef double total = 0, low = 0, w
    if kind == 8 and class_weight == NULL and sample_weight == NULL:  # the usual case, vectorised
        for i in range(n):
            used += labels64[i] != ignore_index
            invalid |= (labels64[i] != ignore_index) & ((labels64[i] < 0) | (labels64[i] >= label_count))
        total = used
        if not invalid:
            divisor[0] = total
            return -1
    for i in range(n):
        t = load_label(labels, kind, i)
        if t != ignore_index:
            if t < 0 or t >= classes:
                return i
            w = per_sample(class_weight, t) * per_sample(sample_weight, i)
            two_sum(w, &total, &low)
    divisor[0] = joined(total, low)
    return -1


cdef void nll_chunk(real* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """-w_t x_t from log-probabilities; writes the gradient's one entry per sample into zeros."""
    cdef Py_ssize_t first = chunk * job.chunk, i, outer, position
    cdef Py_ssize_t last = min(first + job.chunk, job.samples)
    cdef const real* weight = <const real*>job.class_weight
    cdef const real* x = <const real*>job.x
    cdef int64_t t
    cdef double w, value, total = 0, low = 0
    for i in range(first, last):
        t = load_label(job.labels, job.label_kind, i)
        value = 0
        if t != job.ignore_index:
            w = per_sample(weight, t)
            outer = i // job.inner
            position = t * job.inner + (i - outer * job.inner)
            if job.grad != NULL:
                w *= per_sample(<const real*>job.sample_weight, i)
                w *= job.grad_scale * per_sample(<const real*>job.grad_output, i)
                (<real*>job.grad)[outer * job.classes * job.inner + position] = <real>-w
            else:
                value = x[outer * job.x_stride + position]
                value = -w * value if w != 0 or value != value else 0.0
                value *= per_sample(<const real*>job.sample_weight, i)
        if job.value != NULL:
            (<real*>job.value)[i] = <real>value
        two_sum(value, &total, &low)
    job.partial[2 * chunk] = total
    job.partial[2 * chunk + 1] = low


cdef Py_ssize_t log_multinomial_rows(
    const real* counts, Py_ssize_t samples, Py_ssize_t classes, Py_ssize_t inner, double* offset
) noexcept nogil:
    """sum_j log k_j! - log n! for each sample; the position of a negative count if there is one, otherwise -1."""
    cdef Py_ssize_t i, j, outer, position
    cdef double n, k, s, low
    for i in range(samples):
        outer = i // inner
        n = s = low = 0
        for j in range(classes):
            position = (outer * classes + j) * inner + i - outer * inner
            k = counts[position]
            if k < 0:
                return position
            n += k
            if k != 0 and k != 1:
                two_sum(lgamma(k + 1), &s, &low)
        two_sum(-lgamma(n + 1), &s, &low)
        offset[i] = joined(s, low)
    return -1
