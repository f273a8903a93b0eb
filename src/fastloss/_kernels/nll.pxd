# nll: the negative log-likelihood of log-probabilities, a block of samples at a time.

from libc.math cimport fabs
from libc.stdint cimport int64_t, uint16_t
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.exact cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.heads cimport *
include "tuning.pxi"

# Of up to LANES samples: where the numbers of their labels are, class 0's of samples that do not count.
cdef struct Labelled:
    Py_ssize_t first               # sample
    Py_ssize_t n
    Py_ssize_t place[LANES]
    int64_t label[LANES]
    int64_t keep[LANES]            # whether it counts
    int64_t zero[LANES]            # whether a product may be 0, as x is
    double number[LANES]


cdef inline void read_labelled(const ClassJob* job, Py_ssize_t stride, Labelled* s) noexcept nogil:
    """Labels and places, where outer indices are `stride` apart."""
    cdef int64_t buffer[LANES]
    cdef const int64_t* labels = labels_of(job, s.first, s.n, buffer)
    cdef Py_ssize_t inner = job.inner, outer = s.first // inner, at = s.first - outer * inner
    cdef Py_ssize_t place = outer * stride + at, step = 1 if inner > 1 else stride, l
    for l in range(s.n):
        s.keep[l] = labels[l] != job.ignore_index
        s.zero[l] = 0
        s.label[l] = labels[l] if s.keep[l] else 0
    if inner == 1 or at + s.n <= inner:
        for l in range(s.n):
            s.place[l] = place + l * step + s.label[l] * inner
        return
    for l in range(s.n):
        s.place[l] = outer * stride + at + s.label[l] * inner
        at += 1
        if at == inner:
            at = 0
            outer += 1


cdef inline void numbers_at(const ClassJob* job, Labelled* s) noexcept nogil:
    """x at the places."""
    cdef uint16_t halves[LANES]
    cdef float floats[LANES]
    cdef Py_ssize_t l
    if is_half(job.storage):
        for l in range(s.n):
            halves[l] = (<const uint16_t*>job.x)[s.place[l]]
        fastloss_widen(halves, s.n, floats, job.storage == BFLOAT16)
    for l in range(s.n):
        if is_half(job.storage):
            s.number[l] = floats[l]
        elif job.float32:
            s.number[l] = (<const float*>job.x)[s.place[l]]
        else:
            s.number[l] = (<const double*>job.x)[s.place[l]]


cdef inline void write_numbers_at(const ClassJob* job, const Labelled* s) noexcept nogil:
    """The numbers of what counts into the gradient."""
    cdef uint16_t halves[LANES]
    cdef float floats[LANES]
    cdef Py_ssize_t l
    for l in range(s.n):
        floats[l] = <float>s.number[l]
    if is_half(job.grad_storage):
        fastloss_narrow(floats, s.n, halves, job.grad_storage == BFLOAT16)
    for l in range(s.n):
        if not s.keep[l]:
            continue
        if is_half(job.grad_storage):
            (<uint16_t*>job.grad)[s.place[l]] = halves[l]
        elif job.float32 or job.grad_storage == SINGLE:
            (<float*>job.grad)[s.place[l]] = floats[l]
        else:
            (<double*>job.grad)[s.place[l]] = s.number[l]


cdef inline void times_samples(const ClassJob* job, const void* array, Labelled* s) noexcept nogil:
    """The numbers times those of an array, if there is one."""
    cdef Py_ssize_t l
    if array != NULL:
        for l in range(s.n):
            s.number[l] *= per_sample(job, array, s.first + l)


cdef inline void times_classes(const ClassJob* job, Labelled* s) noexcept nogil:
    """The numbers times minus the weights of the labels."""
    cdef Py_ssize_t l
    for l in range(s.n):
        s.number[l] *= -per_sample(job, job.class_weight, s.label[l])


cdef inline bint are_moderate(const Labelled* s) noexcept nogil:
    """Whether no number that counts is 0, but where it may be, or near the ends of float64's range."""
    cdef Py_ssize_t l
    cdef int64_t odd = 0
    for l in range(s.n):
        odd |= s.keep[l] & (1 - ((fabs(s.number[l]) >= 1e-270) & (fabs(s.number[l]) <= 1e270))) \
            & (1 - (s.zero[l] & (s.number[l] == 0)))
    return odd == 0


cdef inline double nll_entry(const ClassJob* job, Py_ssize_t i, double w) noexcept nogil:
    """The entry of sample i's label in the gradient, with a weight w."""
    cdef double scale = gradient_scale(job, i), entry = -w * scale
    if is_out_of_range(scale, 1e-270, 1e270) or not 1e-270 <= fabs(entry) <= 1e270:
        entry = <double>-times(
            times(times(w, per_sample(job, job.sample_weight, i)), job.wide_scale), per_sample(job, job.grad_output, i)
        )
    return entry


cdef inline void nll_entries(const ClassJob* job, Labelled* s) noexcept nogil:
    """Those of a block."""
    cdef Py_ssize_t l
    cdef bint moderate
    for l in range(s.n):
        s.number[l] = job.grad_scale
    times_samples(job, job.sample_weight, s)
    times_samples(job, job.grad_output, s)
    moderate = are_moderate(s)
    times_classes(job, s)
    if not moderate or not are_moderate(s):
        for l in range(s.n):
            s.number[l] = nll_entry(job, s.first + l, per_sample(job, job.class_weight, s.label[l]))


cdef inline void nll_values(
    const ClassJob* job, Labelled* s, double* total, double* low, Huge* huge
) noexcept nogil:
    """-w_t x_t of a block, added to sums: LANES of them, and one more for what may leave their range."""
    cdef Py_ssize_t l
    cdef wide_real wide
    numbers_at(job, s)
    for l in range(s.n):
        s.zero[l] = s.number[l] == 0
    times_classes(job, s)
    times_samples(job, job.sample_weight, s)
    if are_moderate(s):
        for l in range(s.n):
            s.number[l] = s.number[l] if s.keep[l] else 0
            two_sum(s.number[l], total + l, low + l)
        return
    numbers_at(job, s)
    for l in range(s.n):
        wide = weighted(s.number[l], per_sample(job, job.class_weight, s.label[l])) if s.keep[l] else 0
        wide = -weighted(wide, per_sample(job, job.sample_weight, s.first + l)) if s.keep[l] else 0
        s.number[l] = <double>wide
        add_wide(wide, total + l, low + l, huge)


cdef inline void nll_chunk(const void* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """-w_t x_t from log-probabilities; or the gradient's one entry per sample, into zeros."""
    cdef Py_ssize_t first = chunk * job.chunk, last = min(first + job.chunk, job.samples), start, l
    cdef Labelled s
    cdef double total[LANES]
    cdef double low[LANES]
    cdef Huge huge
    clear_lanes(total, low, LANES, &huge)
    for start in range(first, last, LANES):
        s.first = start
        s.n = min(<Py_ssize_t>LANES, last - start)
        if job.grad != NULL:
            read_labelled(job, job.classes * job.inner, &s)
            nll_entries(job, &s)
            write_numbers_at(job, &s)
            continue
        read_labelled(job, job.x_stride, &s)
        nll_values(job, &s, total, low, &huge)
        for l in range(s.n):
            if job.value != NULL:
                put_sample(job, s.number[l], job.value, start + l)
            if job.digits != NULL:
                add_exactly(s.number[l], job.digits + chunk * EXACT_COUNTS)
    sum_lanes(total, low, LANES, &huge, job.partial + 3 * chunk)
