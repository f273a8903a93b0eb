# job: what the loops over samples are told.

from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
include "tuning.pxi"

cdef enum:
    LOGSUMEXP, SOFTMAX, LOG_SOFTMAX, ENTROPY, ENTROPY_FROM_LOGITS, LOSS, LOSS_LINEAR, NLL, CHECK_LABELS,
    LOG_MULTINOMIAL, CHECK_TARGETS,
    MOMENTS,                       # logsumexp, Σ p_j d_j and Σ p_j d_j^2 with d_j = x_j - max x
    DISTILLED,                     # KL divergence of x from a teacher, the coefficients; see distilled.pxd
    PARTIAL,                       # statistics of samples over some of their classes, for `parts`
    SOFTMAX_VJP,                   # p_j (v_j - sum p v), v the coefficients: the derivative of softmax, times v
    SOFTMAX_BACKWARD,              # the same from x = p, and that of log_softmax from its result; see backward.pxd
    LOG_SOFTMAX_BACKWARD

# The losses of a label under softmax, functions of its -log p; see `head_of` in heads.pxd.
cdef enum:
    CROSS_ENTROPY, FOCAL, GENERALIZED, POLY

# Statistics of samples whose classes are in several arrays, over some of the classes, or, merged, over all.
#
# Numbers that merging adds up are in float64; where the loops compute in that they have two terms, a number and what
# rounding lost.
cdef struct Parts:
    void* top                      # (samples,) the maximum m, in the loop's type, or NULL: there are none
    double* others                 # (samples, terms) sum exp(x_j - m) without a maximum's own 1; -1 of ignored samples
    void* label                    # (samples,) x of the label, in the loop's type; NaN where it is of another part
    double* dot                    # (samples, terms) sum c_j (x_j - m), or NULL
    int terms
    int64_t first_class            # of x, to labels

# What coefficients have to be: anything; at least 0; and with a sum of 1.
cdef enum:
    UNCHECKED, COUNTS, PROBABILITIES

cdef struct ClassJob:
    int op
    int head                       # of an index target; CROSS_ENTROPY with all others
    double head_parameter          # gamma, q or epsilon; of DISTILLED 1 / temperature
    double z_loss                  # factor of the square of logsumexp, or 0
    double softcap                 # x is read as softcap tanh(x / softcap), or 0
    double input_scale             # and before that times this, of which a gradient knows by `grad_scale`
    const void* class_scale        # (classes,) and this, or NULL,
    const void* class_bias         # (classes,) plus this, or NULL; -inf is read as it is
    bint float32
    const void* x                  # (outer, classes, inner); `x_stride` elements from one outer index to the next
    int storage
    Py_ssize_t x_stride
    Py_ssize_t classes
    Py_ssize_t inner
    Py_ssize_t samples             # outer * inner
    const void* labels             # (samples,), or NULL
    int label_kind
    int64_t ignore_index
    const uint8_t* mask            # (samples,), 0 where a sample does not count, or NULL
    const void* coefficient        # as x, contiguous, or NULL: c_j = w_j * (scale * coefficient_j + shift)
    int coefficient_storage
    double coefficient_scale
    double coefficient_shift
    const void* linear_weight      # w of the linear term (classes,), or NULL for ones
    const void* shared             # c itself, (classes,) for all samples, or NULL
    double shared_sum              # the sum of c
    bint uniform                   # c is one number, not 0, for all classes: the first of `shared`
    const void* class_weight       # w of the index term (classes,), with `parts` of each sample, or NULL for ones
    double index_scale             # 1 - label smoothing
    const void* sample_weight      # (samples,), or NULL
    const void* grad_output        # (samples,), or NULL
    double grad_scale              # grad_output / divisor where these are one number
    wide_real wide_scale         # the same, which may leave the range of float64
    bint headed                    # there is a head or z_loss: values and gradients take more than cross-entropy does
    bint unweighted                # and that is at most 1: with one label for a sample no gradient can be wide
    const double* offset           # (samples,) added to the loss of each sample, or NULL
    void* value                    # (samples,), or NULL
    void* first_moment             # (samples,), of MOMENTS
    void* second_moment
    void* grad                     # as x but contiguous, or NULL; also the output of softmax and log_softmax
    bint with_grad                 # it is computed, which may be for its sums alone:
    double* by_scale               # derivatives by `input_scale` or (classes,) `class_scale`, or NULL,
    double* by_bias                # (classes,) and by `class_bias`, or NULL
    double* sums                   # (chunks, summed) of both in this order
    Py_ssize_t summed
    int grad_storage
    Diagonal hessian               # only beside a gradient
    Py_ssize_t chunk               # samples that one thread takes at a time
    Py_ssize_t lead                # samples before one with which a tile should begin
    Parts parts                    # of PARTIAL what is filled; of LOSS and LOSS_LINEAR what stands for a pass over x
    int64_t* exact                 # (EXACT_COUNTS,), what the digits of an exact sum are added to, or NULL
    int64_t* digits                # (chunks, EXACT_COUNTS), where there is one
    double* partial                # (chunks, 3): sum of the values, what rounding lost, and huge terms
    int targets                    # what coefficients, or x of `nll`, have to be,
    double tolerance               # and what a sum of probabilities may be off 1
    uint64_t invalid               # position of the first invalid label, count or sample; the largest number for none


cdef inline double per_sample(const ClassJob* job, const void* array, Py_ssize_t i) noexcept nogil:
    """Number i of an array of the loop's type, 1 where there is none."""
    if array == NULL:
        return 1
    return (<const float*>array)[i] if job.float32 else (<const double*>array)[i]


cdef inline void put_sample(const ClassJob* job, double x, void* array, Py_ssize_t i) noexcept nogil:
    """Number i of an array of the loop's type."""
    if job.float32:
        (<float*>array)[i] = <float>x
    else:
        (<double*>array)[i] = x


cdef inline double stored(const ClassJob* job, const void* array, int storage, Py_ssize_t position) noexcept nogil:
    """A number of an array that is as x is."""
    if job.float32:
        return read_one(array, storage, position, <float*>NULL)
    return read_one(array, storage, position, <double*>NULL)


cdef inline double shared_by(const ClassJob* job, Py_ssize_t j) noexcept nogil:
    """Number j of `shared`."""
    return per_sample(job, job.shared, 0 if job.uniform else j)


cdef inline wide_real sum_in_parts(const double* array, const Parts* parts, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t k = i * parts.terms
    return <wide_real>array[k] + array[k + 1] if parts.terms > 1 else array[k]


cdef inline void put_in_parts(wide_real x, double* array, const Parts* parts, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t k = i * parts.terms
    array[k] = <double>x
    if parts.terms > 1:
        array[k + 1] = <double>(x - array[k]) if array[k] - array[k] == 0 else 0


cdef inline bint is_merged(const ClassJob* job) noexcept nogil:
    """Whether a loss is computed from statistics that there are."""
    return job.parts.top != NULL and job.op != PARTIAL


cdef inline int64_t class_of(const ClassJob* job, int64_t label) noexcept nogil:
    """The place of a label among the classes of x, or -1."""
    cdef int64_t first = job.parts.first_class
    return label - first if label >= first and label - first < job.classes else -1


cdef inline bint is_scaled(const ClassJob* job) noexcept nogil:
    return job.input_scale != 1 or job.class_scale != NULL or job.class_bias != NULL


cdef inline bint is_only_scaled(const ClassJob* job) noexcept nogil:
    """Whether x is read times a positive number, by which -inf remains what it is."""
    return job.input_scale > 0 and job.input_scale != 1 and job.class_scale == NULL and job.class_bias == NULL \
        and job.softcap == 0


cdef inline bint is_smoothed(const ClassJob* job) noexcept nogil:
    """Whether a loss is that of labels, smoothed by the same for all classes, and by a third at most."""
    if job.op != LOSS_LINEAR or not job.uniform or job.labels == NULL or job.class_weight != NULL:
        return False
    if job.offset != NULL or job.z_loss != 0:
        return False
    return shared_by(job, 0) >= 1e-12 and 2 * job.shared_sum <= job.index_scale


cdef inline bint takes_own_terms(const ClassJob* job) noexcept nogil:
    """Whether a loss can do with sums that lack the label's own term; a Hessian takes those without the greatest."""
    return (job.op == LOSS or is_smoothed(job)) and job.hessian.data == NULL


cdef inline bint takes_short_rows(const ClassJob* job) noexcept nogil:
    """Whether a job with few classes that are neighbours is for `short_rows`."""
    cdef bint label = takes_own_terms(job) and job.classes >= SHORT_ROWS_MIN_CLASSES
    if job.op == LOSS_LINEAR and job.coefficient != NULL and job.labels == NULL and job.z_loss == 0 \
            and job.hessian.data == NULL:
        label = job.classes >= SHORT_LINEAR_MIN_CLASSES
    if job.class_scale != NULL or job.class_bias != NULL or job.classes * (4 if job.float32 else 8) >= SHORT_ROWS_BYTES:
        return False
    return job.inner == 1 and (label or job.op == SOFTMAX and job.classes > 1)


cdef inline bint reads_as_is(const ClassJob* job) noexcept nogil:
    """Whether x is read as it stands in memory."""
    return job.softcap == 0 and not is_scaled(job)


cdef inline bint writes_as_is(const ClassJob* job) noexcept nogil:
    """Whether a gradient by what x is read as is all that is wanted, but for its factor."""
    return job.softcap == 0 and job.class_scale == NULL and job.summed == 0 and job.op != DISTILLED


cdef inline double* sums_by_scale(const ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    return job.sums + chunk * job.summed if job.by_scale != NULL else NULL


cdef inline double* sums_by_bias(const ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    return job.sums + (chunk + 1) * job.summed - job.classes if job.by_bias != NULL else NULL


cdef inline Py_ssize_t position_of(const ClassJob* job, Py_ssize_t i) noexcept nogil:
    """Of sample i's first class in x; classes are job.inner apart."""
    return i // job.inner * job.x_stride + i % job.inner


cdef inline Py_ssize_t position_in_results(const ClassJob* job, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    """Of class j of sample i, in a gradient or coefficients."""
    return (i // job.inner * job.classes + j) * job.inner + i % job.inner


cdef inline bint is_weighted(const ClassJob* job) noexcept nogil:
    """Whether coefficients are others than those in memory."""
    return job.linear_weight != NULL or job.coefficient_scale != 1 or job.coefficient_shift != 0


cdef inline void merge_part(
    const real* tag, const Parts* a, const Parts* b, double of_a, double of_b, Py_ssize_t i, const Parts* merged
) noexcept nogil:
    """Statistics of sample i over the classes of a and b, whose coefficients' sums are of_a and of_b."""
    cdef real top_a = (<const real*>a.top)[i], top_b = (<const real*>b.top)[i], label = (<const real*>a.label)[i]
    cdef real top = top_a if top_a > top_b else top_b
    cdef wide_real others_a = sum_in_parts(a.others, a, i), others_b = sum_in_parts(b.others, b, i), dot = 0
    cdef wide_real down_a = <wide_real>top_a - top if top_a != top else 0
    cdef wide_real down_b = <wide_real>top_b - top if top_b != top else 0
    (<real*>merged.top)[i] = top
    (<real*>merged.label)[i] = label if label == label else (<const real*>b.label)[i]
    if others_a == -1:  # of an ignored sample all parts know as much
        put_in_parts(-1, merged.others, merged, i)
    elif top_a == top:
        put_in_parts(others_a + (1 + others_b) * expl(down_b), merged.others, merged, i)
    else:
        put_in_parts(others_b + (1 + others_a) * expl(down_a), merged.others, merged, i)
    if merged.dot != NULL:
        dot = sum_in_parts(a.dot, a, i) + times(of_a, down_a)
        put_in_parts(dot + (sum_in_parts(b.dot, b, i) + times(of_b, down_b)), merged.dot, merged, i)
