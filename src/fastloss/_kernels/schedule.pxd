# schedule: what the chunks of a call use of the thread that computes them, share, and leave. `schedule.pxi` runs them.

from libc.stdint cimport uintptr_t
from fastloss._kernels.math cimport *
include "tuning.pxi"

cdef extern from "thread.h" nogil:
    ctypedef int fastloss_mode
    fastloss_mode fastloss_count_subnormals()
    void fastloss_restore(fastloss_mode)
    void* fastloss_memory          # this thread's; in a chunk there is some
    Py_ssize_t fastloss_ahead[2]
    void* fastloss_offset(void* memory, size_t offset)
    void fastloss_lower(uint64_t* least, uint64_t x)
    void fastloss_raise_flag(int*)


cdef inline void* part_of(void* memory, int part, Py_ssize_t bytes_of_part) noexcept nogil:
    """One of the parts of a thread's memory, of which a chunk takes three to six, once each."""
    return fastloss_offset(memory, part * (bytes_of_part + APART))


cdef inline void* apart_from(const void* x, void* part) noexcept nogil:
    """`part`, or 2 KiB behind it: a load waits for stores before it that are a multiple of 4096 bytes away, as those to
    a row in step with x would be."""
    return <char*>part + (((<uintptr_t>x - <uintptr_t>part + 1024) & 2048) ^ 2048)


cdef inline void sum_chunk(double total, double low, const Huge* huge, double* partial) noexcept nogil:
    """What a chunk leaves: its sum, what rounding lost, and its huge terms."""
    cdef double rest
    partial[2] = <double>(huge.total + huge.low)
    if partial[2] - partial[2] != 0:
        total += partial[2]
        partial[2] = 0
    if partial[2] != 0:
        rest = <double>(((huge.total - partial[2]) + huge.low) * fastloss_huge_unit)
        if rest - rest == 0:
            two_sum(rest, &total, &low)
    partial[0] = total
    partial[1] = low


cdef inline void clear_lanes(double* total, double* low, int n, Huge* huge) noexcept nogil:
    """What `sum_lanes` adds up."""
    cdef int l
    huge.total = huge.low = 0
    for l in range(n):
        total[l] = low[l] = 0


cdef inline void sum_lanes(double* total, double* low, int n, const Huge* huge, double* partial) noexcept nogil:
    """`sum_chunk` of n = 8 * 2^k lanes. Halves are added."""
    cdef double s = 0, s_low = 0
    cdef int l
    n //= 2
    while n >= 8:
        for l in range(n):
            low[l] += low[l + n]
            two_sum(total[l + n], total + l, low + l)
        n //= 2
    for l in range(8):
        two_sum(total[l], &s, &s_low)
        s_low += low[l]
    sum_chunk(s, s_low, huge, partial)
