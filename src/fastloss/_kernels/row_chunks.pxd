# row_chunks: chunks of samples, a row at a time.

from libc.string cimport memset
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.rows cimport *
from fastloss._kernels.tile cimport Tile
from fastloss._kernels.usual_rows cimport *
include "tuning.pxi"


cdef inline void headed_rows(
    row_function row_by_mode, real* tag, ClassJob* job, Py_ssize_t start, Py_ssize_t count, Row* row, Batch* batch
) noexcept nogil:
    """`count` samples from `start` on into the batch, and their gradients, which need their heads first.

    By groups: while the heads of one are computed, the next is collected, in the other half of the buffers.
    """
    cdef Row rows[2 * HEADED]
    cdef Row* of_row
    cdef bint together = job.classes <= ROWS_BLOCK // HEADED, again = job.classes > ROWS_BLOCK
    cdef Py_ssize_t size = HEADED if together else 1, l = 0, n = 0, first, m, g
    cdef int half = 0
    memset(batch, 0, sizeof(Batch))
    while l < count or n > 0:
        first = l - n
        if n > 0:
            (<heads_function>fastloss_out_of_line(<void*>heads))(job, first // 8 * 8, 8, batch)
        m = 0
        if n == 0 or not again:  # a row that is read again should be in the cache
            m = min(size, count - l)
        for g in range(max(m, n)):  # by turns: a burst of stores would stall
            if g < m:
                of_row = rows + half * HEADED + g
                of_row[0] = row[0]
                of_row.e = <real*>(row.e if half == 0 else row.e_ahead) + g * (ROWS_BLOCK // HEADED)
                of_row.c = <real*>(row.c if half == 0 else row.c_ahead) + g * (ROWS_BLOCK // HEADED)
                row_by_mode(NULL, NULL, job, start + l + g, l + g, COLLECTED, of_row, batch)
                row.guess = of_row.guess
            if g < n:
                of_row = rows + (1 - half) * HEADED + g
                row_by_mode(NULL, NULL, job, start + first + g, first + g, WRITTEN, of_row, batch)
        half = 1 - half
        l += m
        n = m


cdef inline void merged_rows(
    row_function row_by_mode, ClassJob* job, Py_ssize_t start, Py_ssize_t count, Row* row, Batch* batch
) noexcept nogil:
    """`count` samples from `start` on, of which all statistics are known, into the batch, and their gradients."""
    cdef Py_ssize_t l
    for l in range(count):
        take_part(job, start + l, l, batch)
    clear(batch, count)
    if job.headed and job.with_grad:
        (<heads_function>fastloss_out_of_line(<void*>heads))(job, 0, (count + 7) // 8 * 8, batch)
    for l in range(count):
        if batch.keep[l] != 0:
            row_by_mode(NULL, NULL, job, start + l, l, RESTORED, row, batch)
        elif job.grad != NULL:
            zero_row(job.grad, job.grad_storage, job, start + l)


cdef inline void rows_chunk(real* tag, vec* type, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Samples [chunk * job.chunk, ...) of a job whose class axis is contiguous."""
    cdef Py_ssize_t first = chunk * job.chunk, start, l, count
    cdef Py_ssize_t last = min(first + job.chunk, job.samples)
    cdef row_function row_by_mode = row_of_job(job, tag, type)
    cdef vec step
    cdef bint headed = job.headed and job.with_grad, usual = are_usual(job)
    cdef usual_function usual_rows_at = <usual_function>fastloss_out_of_line(<void*>usual_rows[real, vec])
    cdef finish_function finish_rows = <finish_function>fastloss_out_of_line(<void*>finish)
    cdef uint64_t left
    cdef Row row
    cdef Batch batch
    cdef double total[LANES]
    cdef double low[LANES]
    cdef Huge huge
    clear_lanes(total, low, LANES, &huge)
    place_row(tag, &row, sums_by_scale(job, chunk), sums_by_bias(job, chunk))
    for start in range(first, last, LANES):
        count = min(<Py_ssize_t>LANES, last - start)
        batch.any_wide = False
        left = usual_rows_at(NULL, NULL, job, start, count, &row, &batch) if usual else -1
        if is_merged(job):
            merged_rows(row_by_mode, job, start, count, &row, &batch)
        elif headed:
            headed_rows(row_by_mode, tag, job, start, count, &row, &batch)
        for l in range(count if not headed and not is_merged(job) else 0):
            if job.op == ENTROPY:
                put_sample(job, row_entropy(job, start + l, &row, <real*>row.e, step), job.value, start + l)
            elif left >> l & 1:
                row_by_mode(NULL, NULL, job, start + l, l, ALL, &row, &batch)
        if job.op != ENTROPY:
            clear(&batch, count)
            finish_rows(job, start, count, 0, &batch, total, low, &huge)
    fastloss_stream_end()
    sum_lanes(total, low, LANES, &huge, job.partial + 3 * chunk)


cdef inline void odd_rows(real* tag, vec* type, ClassJob* job, const Tile* s) noexcept nogil:
    """What `tiles` leaves to `rows`."""
    cdef row_function row_by_mode = row_of_job(job, tag, type)
    cdef finish_function finish_rows = <finish_function>fastloss_out_of_line(<void*>finish)
    cdef const real* odd = <const real*>s.odd
    cdef Row row
    cdef Batch batch
    cdef Py_ssize_t l
    place_row(tag, &row, s.by_scale, s.by_bias)
    for l in range(s.count):
        if odd[l] != 0:
            batch.any_wide = False
            if job.headed and job.with_grad:
                headed_rows(row_by_mode, tag, job, s.first + l, 1, &row, &batch)
            else:
                row_by_mode(NULL, NULL, job, s.first + l, 0, ALL, &row, &batch)
            if odd[l] == 2:
                clear(&batch, 1)
                finish_rows(job, s.first + l, 1, LANES - 1, &batch, s.total, s.low, s.huge)
