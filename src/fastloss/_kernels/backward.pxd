# backward: derivatives of softmax and log_softmax times what arrives, g, from their results; `sigmoid_backward` of
# points.pxd is that of sigmoid.
#
#     softmax        p_j (g_j - s)           s = Σ p_k g_k
#     log_softmax    g_j - exp(l_j) s        s = Σ g_k
#
# a) Two passes over the classes of a sample, a block or a tile of samples in the caches: the sum, and the results. All
#    is in float64 but the exponential, so that float32 is rounded once; sums of float64 have what rounding lost.
# b) The sum is that of g 2^-40, and g and s are halved: where a result is finite, nothing on the way is infinite.
# c) p = 0 drops an infinite g, and keeps NaN; a class whose log p is -inf is masked, and gets 0.
# d) The sum of a sample depends on its layout alone: rows add the classes of steps, planes one after the other.

from libc.math cimport INFINITY
from libc.string cimport memset
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *

include "tuning.pxi"

# The buffers of a chunk, in this thread's memory.
cdef struct Backward:
    void* p                        # of half precision, widened; the results
    void* g
    void* y
    double* total                  # of the samples of a tile
    double* low


# ---- Steps ----


cdef inline d8 finite_beside_zero(d8 weight, d8 x) noexcept nogil:
    """x, but for infinities a finite number where the weight is 0; NaN stays."""
    cdef d8 most = d8_all(1.7976931348623157e308), zero = d8_all(0)
    return if_equal(weight, zero, max_of(negative(most), min_of(most, x)), x)


cdef inline d8 term_of(bint LOG, d8 p, d8 g) noexcept nogil:
    """What classes add to s 2^-40."""
    cdef d8 scaled = mul(g, d8_all(9.094947017729282e-13))
    return scaled if LOG else mul(p, finite_beside_zero(p, scaled))


cdef inline d8 result_of(bint LOG, d8 p, d8 g, d8 e, d8 s) noexcept nogil:
    """y, from s 2^-40; e is exp(p) for log_softmax."""
    cdef d8 half = mul(g, d8_all(0.5)), y
    if LOG:
        s = mul(mul(e, d8_all(549755813888.0)), s)
        y = sub(half, s)
        return if_equal(p, d8_all(-INFINITY), s, add(y, y))
    y = finite_beside_zero(p, sub(half, mul(s, d8_all(549755813888.0))))
    return mul(add(p, p), y)


cdef inline vec exp_log_p(vec x) noexcept nogil:
    """exp(x) within 1 ulp: 0 below the normal numbers, infinite above."""
    cdef vec least = all_of(-88.3 if vec is f16 else -709, x), most = all_of(88.7 if vec is f16 else 709.7, x), w, p
    p = expm1_of_reduced(exp_argument_of(min_of(most, max_of(least, x)), 0, &w))
    return if_less(most, x, all_of(INFINITY, x), fma_of(p, w, w))


cdef inline void step_terms(bint LOG, vec p, vec g, d8* first, d8* second) noexcept nogil:
    """Of a step, eight each; of float64 there are no second."""
    if vec is f16:
        first[0] = term_of(LOG, d8_of_half(p, False), d8_of_half(g, False))
        second[0] = term_of(LOG, d8_of_half(p, True), d8_of_half(g, True))
    else:
        first[0] = term_of(LOG, p, g)


cdef inline vec step_results(bint LOG, vec p, vec g, d8 first, d8 second) noexcept nogil:
    """The results of a step, from the sums."""
    cdef vec e = exp_log_p(p) if LOG else p
    if vec is f16:
        return f16_of_halves(
            result_of(LOG, d8_of_half(p, False), d8_of_half(g, False), d8_of_half(e, False), first),
            result_of(LOG, d8_of_half(p, True), d8_of_half(g, True), d8_of_half(e, True), second),
        )
    else:
        return result_of(LOG, p, g, e, first)


# ---- Blocks ----


cdef inline void add_row(bint LOG, const void* p, const void* g, Py_ssize_t n, vec tag, Sums* sums) noexcept nogil:
    """Add n classes of a row."""
    cdef d8 a, b
    cdef Py_ssize_t k
    a = b = d8_all(0)
    for k in range((n + step_of(tag) - 1) // step_of(tag)):
        step_terms(LOG, step_or_part(p, k, n, 0, tag), step_or_part(g, k, n, 0, tag), &a, &b)
        if vec is f16:
            sums.total = add(sums.total, add(a, b))
        else:
            add_group(a, sums)


cdef inline void fill_row(
    bint LOG, const void* p, const void* g, Py_ssize_t n, double s, vec tag, void* y
) noexcept nogil:
    """The results of n classes of a row."""
    cdef d8 sum = d8_all(s)
    cdef Py_ssize_t k
    for k in range((n + step_of(tag) - 1) // step_of(tag)):
        store_or_part(
            step_results(LOG, step_or_part(p, k, n, 0, tag), step_or_part(g, k, n, 0, tag), sum, sum), y, k, n
        )


cdef inline double sum_of_row(const Sums* sums, vec tag) noexcept nogil:
    cdef Sum s
    s.total = s.low = 0
    add_sums(sums, tag, &s)
    return joined(s.total, s.low)


# ---- Samples ----


cdef inline void backward_rows(
    bint LOG, const ClassJob* job, Py_ssize_t start, Py_ssize_t rows, const Backward* b, vec tag
) noexcept nogil:
    """So many samples of one block, which follow each other in memory if they are more than one."""
    cdef Py_ssize_t classes = job.classes, n = rows * classes, first = start * classes
    cdef Py_ssize_t row = classes * (64 // step_of(tag)), r
    cdef const char* p = <const char*>numbers_of(job.x, job.storage, start * job.x_stride, 1, n, b.p, tag)
    cdef const char* g = <const char*>numbers_of(job.coefficient, job.coefficient_storage, first, 1, n, b.g, tag)
    cdef char* y = <char*>result_place(job.grad, job.grad_storage, first, b.y, tag)
    cdef Sums sums
    for r in range(rows):
        clear_sums(&sums)
        add_row(LOG, p + r * row, g + r * row, classes, tag, &sums)
        fill_row(LOG, p + r * row, g + r * row, classes, sum_of_row(&sums, tag), tag, y + r * row)
    write_numbers(y, job.grad, job.grad_storage, first, 1, n, tag)


cdef inline void backward_long_row(
    bint LOG, const ClassJob* job, Py_ssize_t i, const Backward* b, vec tag
) noexcept nogil:
    """A sample of more classes than a block."""
    cdef Py_ssize_t j0, n, first
    cdef const void* p
    cdef const void* g
    cdef void* y
    cdef double s = 0
    cdef Sums sums
    cdef int turn
    clear_sums(&sums)
    for turn in range(2):
        for j0 in range(0, job.classes, ROWS_BLOCK):
            n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
            first = i * job.classes + j0
            p = numbers_of(job.x, job.storage, i * job.x_stride + j0, 1, n, b.p, tag)
            g = numbers_of(job.coefficient, job.coefficient_storage, first, 1, n, b.g, tag)
            if turn == 0:
                add_row(LOG, p, g, n, tag, &sums)
                continue
            y = result_place(job.grad, job.grad_storage, first, b.y, tag)
            fill_row(LOG, p, g, n, s, tag, y)
            write_numbers(y, job.grad, job.grad_storage, first, 1, n, tag)
        s = sum_of_row(&sums, tag)


cdef inline void backward_planes(
    bint LOG, const ClassJob* job, Py_ssize_t start, Py_ssize_t n, const Backward* b, vec tag
) noexcept nogil:
    """n samples that are neighbours, class by class."""
    cdef Py_ssize_t x0 = position_of(job, start), y0 = position_in_results(job, start, 0), j, k, l
    cdef int size = step_of(tag)
    cdef Py_ssize_t steps = (n + size - 1) // size
    cdef double* total = b.total
    cdef double* low = b.low
    cdef const void* p
    cdef const void* g
    cdef void* y
    cdef d8 first, second
    cdef Sums sums
    first = second = d8_all(0)
    memset(total, 0, steps * size * sizeof(double))
    memset(low, 0, steps * size * sizeof(double))
    for j in range(job.classes):
        p = numbers_of(job.x, job.storage, x0 + j * job.inner, 1, n, b.p, tag)
        g = numbers_of(job.coefficient, job.coefficient_storage, y0 + j * job.inner, 1, n, b.g, tag)
        for k in range(steps):
            step_terms(LOG, step_or_part(p, k, n, 0, tag), step_or_part(g, k, n, 0, tag), &first, &second)
            if vec is f16:
                d8_store(add(d8_load(total + 16 * k), first), total + 16 * k)
                d8_store(add(d8_load(total + 16 * k + 8), second), total + 16 * k + 8)
            else:
                sums.total = d8_load(total + 8 * k)
                sums.low = d8_load(low + 8 * k)
                add_group(first, &sums)
                d8_store(sums.total, total + 8 * k)
                d8_store(sums.low, low + 8 * k)
    for l in range(n):
        total[l] = joined(total[l], low[l])
    for j in range(job.classes):
        p = numbers_of(job.x, job.storage, x0 + j * job.inner, 1, n, b.p, tag)
        g = numbers_of(job.coefficient, job.coefficient_storage, y0 + j * job.inner, 1, n, b.g, tag)
        y = result_place(job.grad, job.grad_storage, y0 + j * job.inner, b.y, tag)
        for k in range(steps):
            first = d8_load(total + size * k)
            if vec is f16:
                second = d8_load(total + 16 * k + 8)
            store_or_part(
                step_results(LOG, step_or_part(p, k, n, 0, tag), step_or_part(g, k, n, 0, tag), first, second), y, k, n
            )
        write_numbers(y, job.grad, job.grad_storage, y0 + j * job.inner, 1, n, tag)


cdef inline void backward_samples(bint LOG, const ClassJob* job, Py_ssize_t chunk, vec tag) noexcept nogil:
    cdef Py_ssize_t start = chunk * job.chunk, last = min(start + job.chunk, job.samples), n, tile = 1
    cdef void* memory = fastloss_memory
    cdef Backward b
    b.p = part_of(memory, 0, BYTES_OF_ROWS_BLOCK)
    b.g = part_of(memory, 1, BYTES_OF_ROWS_BLOCK)
    b.y = part_of(memory, 2, BYTES_OF_ROWS_BLOCK)
    b.total = <double*>part_of(memory, 3, BYTES_OF_ROWS_BLOCK)
    b.low = <double*>part_of(memory, 4, BYTES_OF_ROWS_BLOCK)
    if job.inner > 1:  # what both passes read stays in L2
        tile = KEPT_BYTES // (job.classes * (64 // step_of(tag))) // LANES * LANES
        tile = max(<Py_ssize_t>LANES, min(tile, <Py_ssize_t>ROWS_BLOCK))
    elif job.x_stride == job.classes:
        tile = max(<Py_ssize_t>1, ROWS_BLOCK // job.classes)
    while start < last:
        n = min(tile, last - start)
        if job.inner > 1:
            n = min(n, job.inner - start % job.inner)
            backward_planes(LOG, job, start, n, &b, tag)
        elif job.classes > ROWS_BLOCK:
            backward_long_row(LOG, job, start, &b, tag)
        else:
            backward_rows(LOG, job, start, n, &b, tag)
        start += n
    fastloss_stream_end()


cdef inline void backward_chunk(vec* type, const ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Samples [chunk * job.chunk, ...), of which no values are summed."""
    cdef vec tag
    if job.op == LOG_SOFTMAX_BACKWARD:
        backward_samples(True, job, chunk, tag)
    else:
        backward_samples(False, job, chunk, tag)
    memset(job.partial + 3 * chunk, 0, 3 * sizeof(double))
