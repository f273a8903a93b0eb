# labels: class indices are read, and checked; coefficients are checked.

from libc.math cimport fabs
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.job cimport *
include "tuning.pxi"


cdef inline bint masked(const ClassJob* job, Py_ssize_t i) noexcept nogil:
    return job.mask != NULL and job.mask[i] == 0


ctypedef fused small_int:
    int8_t
    uint8_t
    int16_t
    uint16_t
    int32_t
    uint32_t


cdef inline void widen(const small_int* labels, Py_ssize_t n, int64_t* y) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = labels[i]


cdef inline void widen_labels(const ClassJob* job, Py_ssize_t first, Py_ssize_t n, int64_t* y) noexcept nogil:
    """Labels of samples [first, first + n), of any integer type; `ignore_index` where one does not count."""
    cdef int kind = job.label_kind
    cdef const char* at = <const char*>job.labels + first * abs(kind)
    cdef const uint8_t* mask = job.mask
    cdef int64_t ignore_index = job.ignore_index
    cdef Py_ssize_t i
    if kind == 4:
        widen(<const int32_t*>at, n, y)
    elif kind == -1:
        widen(<const uint8_t*>at, n, y)
    elif kind == 2:
        widen(<const int16_t*>at, n, y)
    elif kind == 1:
        widen(<const int8_t*>at, n, y)
    elif kind == -2:
        widen(<const uint16_t*>at, n, y)
    elif kind == -4:
        widen(<const uint32_t*>at, n, y)
    else:
        memcpy(y, at, n * sizeof(int64_t))
    for i in range(n if job.mask != NULL else 0):
        y[i] = y[i] if mask[first + i] else ignore_index

ctypedef void (*labels_function)(const ClassJob*, Py_ssize_t, Py_ssize_t, int64_t*) noexcept nogil


cdef inline const int64_t* labels_of(
    const ClassJob* job, Py_ssize_t first, Py_ssize_t n, int64_t* buffer
) noexcept nogil:
    """`widen_labels`, in place where all count and the type is int64."""
    if job.label_kind == 8 and job.mask == NULL:
        return <const int64_t*>job.labels + first
    (<labels_function>fastloss_out_of_line(<void*>widen_labels))(job, first, n, buffer)
    return buffer


cdef inline int64_t label_of(const ClassJob* job, Py_ssize_t i) noexcept nogil:
    """Label of sample i; `ignore_index` where it does not count, whatever stands there."""
    cdef int64_t buffer[1]
    return labels_of(job, i, 1, &buffer[0])[0]


cdef inline double sum_of(vec a) noexcept nogil:
    if vec is f16:
        return d8_sum(d8_of_halves(a))
    else:
        return d8_sum(a)


cdef inline void look_at(const void* c, Py_ssize_t n, vec tag, double* least, double* mass) noexcept nogil:
    """Lower `least` to n coefficients, if one is negative, and add them to `mass`."""
    cdef Py_ssize_t k
    cdef vec zero = all_of(0, tag), low = zero, total = zero, p
    for k in range(steps_of(n, tag)):
        p = step_or_part(c, k, n, 0, tag)
        low = min_of(p, low)
        total = add(p, total)
    least[0] = min(least[0], -greatest(negative(low)))
    mass[0] += sum_of(total)


cdef inline bint are_wrong(const ClassJob* job, double least, double mass) noexcept nogil:
    """Whether coefficients cannot be meant, by the least and the sum; NaN is no reason."""
    return least < 0 or job.targets == PROBABILITIES and fabs(mass - 1) > job.tolerance


cdef inline void look_at_sample(
    const ClassJob* job, Py_ssize_t i, vec tag, double* least, double* mass
) noexcept nogil:
    """`look_at` the coefficients of sample i."""
    cdef double buffer[256]
    cdef Py_ssize_t j0, n
    cdef const void* c
    for j0 in range(0, job.classes, 256):
        n = min(<Py_ssize_t>256, job.classes - j0)
        c = numbers_of(
            job.coefficient, job.coefficient_storage, position_in_results(job, i, j0), job.inner, n, &buffer[0], tag
        )
        look_at(c, n, tag, least, mass)


cdef inline void note_if_wrong(ClassJob* job, Py_ssize_t i) noexcept nogil:
    """Lower job.invalid to sample i if it counts and its coefficients cannot be meant."""
    cdef double least = 0, mass = 0
    cdef f16 f
    cdef d8 d
    if masked(job, i) or per_sample(job, job.sample_weight, i) == 0:
        return
    if job.float32:
        look_at_sample(job, i, f, &least, &mass)
    else:
        look_at_sample(job, i, d, &least, &mass)
    if are_wrong(job, least, mass):
        fastloss_lower(&job.invalid, i)

ctypedef void (*wrong_function)(ClassJob*, Py_ssize_t) noexcept nogil


cdef inline void targets_chunk(real* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Lower job.invalid to the first sample with coefficients that cannot be meant."""
    cdef Py_ssize_t start = chunk * job.chunk, first, l, j, n
    cdef Py_ssize_t last = min(start + job.chunk, job.samples)
    cdef wrong_function wrong = <wrong_function>fastloss_out_of_line(<void*>note_if_wrong)
    cdef real buffer[1024 + 16]    # of whole rows `sums_of_rows` reads more
    cdef real least[256]
    cdef real mass[256]
    cdef double low = 0, unused = 0
    cdef const real* c
    cdef f16 f
    cdef d8 d
    job.partial[3 * chunk] = job.partial[3 * chunk + 1] = job.partial[3 * chunk + 2] = 0
    while start < last:
        if job.inner == 1:
            n = min(min(<Py_ssize_t>256, 1024 // job.classes // 8 * 8), last - start)
            if n < 8:
                wrong(job, start)
                start += 1
                continue
            c = read_block(job.coefficient, job.coefficient_storage, start * job.classes, n * job.classes, buffer)
            if c != buffer and start + n + 16 > job.samples:
                memcpy(buffer, c, n * job.classes * sizeof(real))
                c = buffer
            low = 0
            if real is float:
                look_at(c, n * job.classes, f, &low, &unused)
            else:
                look_at(c, n * job.classes, d, &low, &unused)
            sums_of_rows(c, job.classes, job.classes, n, mass)
            for l in range(n):
                if are_wrong(job, low, mass[l]):
                    wrong(job, start + l)
            start += n
            continue
        n = min(min(<Py_ssize_t>256, last - start), job.inner - start % job.inner)
        first = position_in_results(job, start, 0)
        memset(least, 0, sizeof(least))
        memset(mass, 0, sizeof(mass))
        for j in range(job.classes):
            c = read_block(job.coefficient, job.coefficient_storage, first + j * job.inner, n, &buffer[0])
            for l in range(n):
                least[l] = c[l] if c[l] < least[l] else least[l]
                mass[l] += c[l]
        for l in range(n):
            if are_wrong(job, least[l], mass[l]):
                wrong(job, start + l)
        start += n


cdef inline void sum_weights(ClassJob* job, Py_ssize_t first, Py_ssize_t last, double* partial) noexcept nogil:
    """The weights in force of samples [first, last), side by side."""
    cdef const int64_t* labels
    cdef Py_ssize_t start, l, n
    cdef int64_t buffer[LANES]
    cdef int64_t keep[LANES]
    cdef double weight[LANES]
    cdef double total[LANES]
    cdef double low[LANES]
    cdef Huge huge
    clear_lanes(total, low, LANES, &huge)
    for start in range(first, last, LANES):
        n = min(<Py_ssize_t>LANES, last - start)
        labels = labels_of(job, start, n, buffer)
        for l in range(n):
            keep[l] = labels[l] != job.ignore_index
            weight[l] = per_sample(job, job.class_weight, labels[l] if keep[l] else 0)
        for l in range(n):
            weight[l] *= per_sample(job, job.sample_weight, start + l)
            two_sum(weight[l] if keep[l] else 0.0, total + l, low + l)
    sum_lanes(total, low, LANES, &huge, partial)


cdef inline void labels_chunk(const void* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Lower job.invalid to the first label that is neither a class nor ignored; the weights in force, summed."""
    cdef Py_ssize_t first = chunk * job.chunk, start, l, n, used = 0
    cdef Py_ssize_t last = min(first + job.chunk, job.samples)
    cdef int64_t t, counts, classes = job.classes, ignore_index = job.ignore_index
    cdef uint64_t invalid = 0      # the sign bit
    cdef const int64_t* labels
    cdef int64_t buffer[BLOCK_OF_LABELS]
    cdef double* partial = job.partial + 3 * chunk
    partial[1] = partial[2] = 0
    for start in range(first, last, BLOCK_OF_LABELS):
        n = min(<Py_ssize_t>BLOCK_OF_LABELS, last - start)
        labels = labels_of(job, start, n, buffer)
        for l in range(n):  # vectorised
            counts = labels[l] != ignore_index
            used += counts
            invalid |= (<uint64_t>labels[l] | (<uint64_t>(classes - 1) - <uint64_t>labels[l])) & <uint64_t>-counts
        for l in range(n if invalid >> 63 else 0):
            t = labels[l]
            if t != ignore_index and not 0 <= t < classes:
                fastloss_lower(&job.invalid, start + l)
                return
    partial[0] = used
    if job.class_weight != NULL or job.sample_weight != NULL:
        sum_weights(job, first, last, partial)
