# tiles: chunks of samples, a tile at a time.

from libc.string cimport memcpy, memmove
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.exact cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.reading cimport *
from fastloss._kernels.tile cimport *
from fastloss._kernels.planes cimport *
from fastloss._kernels.short_rows cimport *
include "tuning.pxi"


# The steps of a tile, by pointers: together they are more than a compiler can arrange well, or soon.
ctypedef void (*tile_function)(void*, void*, const ClassJob*, Tile*) noexcept nogil
ctypedef bint (*statistics_function)(void*, void*, const ClassJob*, Tile*) noexcept nogil
ctypedef void (*results_function)(void*, void*, const ClassJob*, Tile*, bint) noexcept nogil


cdef inline void compute_tile(real* tag, vec* type, ClassJob* job, Tile* s) noexcept nogil:
    """Values and results of a tile of samples."""
    cdef Py_ssize_t l
    cdef real* value = <real*>s.value
    cdef bint any_odd
    cdef void* statistics
    cdef void* results
    if job.op == LOSS or job.op == LOSS_LINEAR or job.op == SOFTMAX_VJP:
        (<tile_function>fastloss_out_of_line(<void*>read_samples[real, vec]))(NULL, NULL, job, s)
    statistics = <void*>statistics_of_rows[real, vec] if s.in_rows else <void*>statistics_of[real, vec]
    if s.in_rows and s.mode == LINEAR:
        statistics = <void*>statistics_of_linear_rows[real, vec]
    any_odd = (<statistics_function>fastloss_out_of_line(statistics))(NULL, NULL, job, s)
    if job.value != NULL:
        memcpy(<real*>job.value + s.first, value, s.count * sizeof(real))
    if job.op == MOMENTS:
        memcpy(<real*>job.first_moment + s.first, s.b, s.count * sizeof(real))
        memcpy(<real*>job.second_moment + s.first, s.a, s.count * sizeof(real))
    if any_odd:
        fastloss_odd_rows(job, s)
        for l in range(s.count):
            value[l] = <real>0 if (<real*>s.odd)[l] == 2 else value[l]
    if job.with_grad:
        results = <void*>results_of_rows[real, vec] if s.in_rows else <void*>results_of[real, vec]
        (<results_function>fastloss_out_of_line(results))(NULL, NULL, job, s, any_odd)


cdef inline Py_ssize_t tile_size(const ClassJob* job, Py_ssize_t start, bint in_rows, real* tag) noexcept nogil:
    """Samples of the tile that begins with `start`, if there are so many."""
    cdef Py_ssize_t bytes_of_sample = job.classes * <Py_ssize_t>sizeof(real), beyond, size
    cdef Py_ssize_t step = 16 if in_rows and (job.classes >= ROWS_MIN_CLASSES or job.coefficient != NULL) else LANES
    size = min(PLANE_BYTES // <Py_ssize_t>sizeof(real), TILE_BYTES // bytes_of_sample // step * step)
    size = max(size, step)
    beyond = (start + LANES - job.lead) % LANES
    if beyond != 0:
        size = min(size, LANES - beyond)
    return min(size, job.inner - start % job.inner) if job.inner >= RUN_MIN_INNER else size


cdef inline void place_tile(real* tag, ClassJob* job, Tile* s, double* total, double* low, Huge* huge) noexcept nogil:
    """The arrays of tiles, in this thread's memory, behind those of `rows`; pointers that follow each other in Tile."""
    cdef char* memory = <char*>fastloss_memory + BYTES_FOR_ROWS
    cdef void** arrays = &s.label
    cdef double** wide = &s.wide
    cdef void** buffers = &s.x
    cdef int k
    s.label_buffer = <int64_t*>memory
    memory += 2 * PLANE_BYTES + APART
    for k in range(3):
        wide[k] = <double*>memory
        memory += 4 * PLANE_BYTES + APART
    for k in range(5):
        buffers[k] = memory
        memory += KEPT_BYTES + APART
    for k in range(24):
        arrays[k] = memory
        memory += PLANE_BYTES + APART
    s.total = total
    s.low = low
    s.huge = huge
    s.in_rows = takes_short_rows(job)
    s.by_label = takes_own_terms(job)
    s.reference = NAN
    s.own_references = 0
    s.mode = mode_of(job)
    if job.op == LOSS:
        s.mode = LABELLED
    elif s.by_label:
        s.mode = SMOOTHED
    elif s.mode == UNIFORM:
        s.mode = SHARED
    elif job.op == SOFTMAX_VJP:
        s.mode = PRODUCT
    s.weighted = False
    s.scale_of_all = job.grad_scale if job.op == LOSS or job.op == LOSS_LINEAR or job.op == SOFTMAX_VJP else 1
    s.plain = job.class_weight == NULL and job.sample_weight == NULL and job.grad_output == NULL \
        and (job.index_scale == 1 or s.mode != LABELLED) \
        and not (job.with_grad and is_out_of_range(job.grad_scale, 2.2e-13, 1e6))


cdef inline void tiles_chunk(real* tag, vec* type, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Samples [chunk * job.chunk, ...) of a job with few classes or a strided class axis."""
    cdef Py_ssize_t start = chunk * job.chunk, last = min(start + job.chunk, job.samples), held = 0, k, bytes_of_tile
    cdef Py_ssize_t size = 64 // <int>sizeof(real)
    cdef double total[LANES]
    cdef double low[LANES]
    cdef Huge huge
    cdef Tile s
    cdef real* values
    cdef vec step
    clear_lanes(total, low, LANES, &huge)
    place_tile(tag, job, &s, total, low, &huge)
    s.by_scale = sums_by_scale(job, chunk)
    s.by_bias = sums_by_bias(job, chunk)
    values = <real*>s.value
    while start < last:
        s.first = start
        s.count = min(tile_size(job, start, s.in_rows, tag), last - start)
        s.steps = (s.count + size - 1) // size
        s.n = s.steps * size
        bytes_of_tile = job.classes * s.n * sizeof(real)
        s.direct = job.storage == NATIVE and s.count == s.n and start % job.inner + s.count <= job.inner
        s.direct = s.direct and job.inner > 1 and reads_as_is(job)
        s.gathered = not s.direct and bytes_of_tile <= KEPT_BYTES
        s.kept = job.with_grad and bytes_of_tile <= KEPT_BYTES
        s.sloped = s.kept and job.softcap != 0 and bytes_of_tile <= KEPT_BYTES // 2
        s.ahead = s.n * sizeof(real) if s.direct else 0
        s.value = values + held
        if s.gathered and not s.in_rows:
            (<gather_function>fastloss_out_of_line(<void*>gather_x[real]))(tag, job, &s, 0, job.classes)
        if s.gathered and not s.in_rows and (s.mode == LINEAR or s.mode == PRODUCT):
            (<gather_function>fastloss_out_of_line(<void*>gather_c[real]))(tag, job, &s, 0, job.classes)
        if job.op == ENTROPY:
            (<tile_function>fastloss_out_of_line(<void*>entropy_of_planes[real, vec]))(NULL, NULL, job, &s)
        else:
            (<tile_function>fastloss_out_of_line(<void*>compute_tile[real, vec]))(NULL, NULL, job, &s)
        if job.digits != NULL:
            for k in range(s.count):
                add_exactly((<real*>s.value)[k], job.digits + chunk * EXACT_COUNTS)
        start += s.count
        held = held + s.count if job.op == LOSS or job.op == LOSS_LINEAR else 0
        for k in range(0, held - LANES + 1, LANES):  # LANES values at a time, wherever tiles begin
            add_values(values + k, total, low, step)
        if held >= LANES:
            memmove(values, values + held // LANES * LANES, held % LANES * sizeof(real))
            held %= LANES
    if held > 0:
        fill(values + held, LANES - held, <real>0)
        add_values(values, total, low, step)
    fastloss_stream_end()
    sum_lanes(total, low, LANES, &huge, job.partial + 3 * chunk)
