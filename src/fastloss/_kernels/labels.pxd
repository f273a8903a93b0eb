# labels: class indices are read, and checked.

from fastloss._kernels.math cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.job cimport *
include "tuning.pxi"


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


cdef inline bint masked(const ClassJob* job, Py_ssize_t i) noexcept nogil:
    return job.mask != NULL and job.mask[i] == 0


cdef inline int64_t label_of(const ClassJob* job, Py_ssize_t i) noexcept nogil:
    """Label of sample i; `ignore_index` where it does not count, whatever stands there."""
    return job.ignore_index if masked(job, i) else load_label(job.labels, job.label_kind, i)


cdef inline void sum_weights(
    real* tag, ClassJob* job, Py_ssize_t first, Py_ssize_t last, double* partial
) noexcept nogil:
    """The weights in force of samples [first, last), side by side."""
    cdef const int64_t* labels64 = <const int64_t*>job.labels
    cdef const real* by_class = <const real*>job.class_weight
    cdef const real* by_sample = <const real*>job.sample_weight
    cdef bint usual = job.label_kind == 8 and job.mask == NULL
    cdef Py_ssize_t start, l, n
    cdef int64_t t
    cdef int64_t keep[LANES]
    cdef double weight[LANES]
    cdef double total[LANES]
    cdef double low[LANES]
    cdef Huge huge
    huge.total = huge.low = 0
    for l in range(LANES):
        total[l] = low[l] = 0
    for start in range(first, last, LANES):
        n = min(<Py_ssize_t>LANES, last - start)
        for l in range(n):
            t = labels64[start + l] if usual else label_of(job, start + l)
            keep[l] = t != job.ignore_index
            weight[l] = by_class[t if keep[l] else 0] if by_class != NULL else <real>1
        for l in range(n):
            weight[l] *= by_sample[start + l] if by_sample != NULL else <real>1
            two_sum(weight[l] if keep[l] else 0.0, total + l, low + l)
    sum_lanes(total, low, LANES, &huge, partial)


cdef inline void labels_chunk(real* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Lower job.invalid to the first label that is neither a class nor ignored; the weights in force, summed."""
    cdef Py_ssize_t first = chunk * job.chunk, i, used = 0
    cdef Py_ssize_t last = min(first + job.chunk, job.samples)
    cdef int64_t t, counts, classes = job.classes, ignore_index = job.ignore_index
    cdef uint64_t invalid = 0      # the sign bit
    cdef const int64_t* labels64 = <const int64_t*>job.labels
    cdef bint usual = job.label_kind == 8 and job.mask == NULL
    cdef double* partial = job.partial + 3 * chunk
    if usual:  # vectorised
        for i in range(first, last):
            counts = labels64[i] != ignore_index
            used += counts
            invalid |= (<uint64_t>labels64[i] | (<uint64_t>(classes - 1) - <uint64_t>labels64[i])) & <uint64_t>-counts
    partial[1] = partial[2] = 0
    if invalid >> 63 or not usual:
        used = 0
        for i in range(first, last):
            t = label_of(job, i)
            used += t != ignore_index
            if t != ignore_index and (t < 0 or t >= classes):
                fastloss_lower(&job.invalid, i)
                partial[0] = used
                return
    partial[0] = used
    if job.class_weight != NULL or job.sample_weight != NULL:
        sum_weights(tag, job, first, last, partial)
