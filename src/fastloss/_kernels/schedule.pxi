# schedule: chunks are shared among threads, each of which has its own memory for blocks and tiles.
#
# a) Chunks follow from the shape alone; every chunk leaves its sum and what rounding lost, added in order at the end.
#    So the bits are the same for any number of threads, and whichever of them takes a chunk.
# b) OpenMP hangs in a forked child: that of gcc waits for threads which exist in the parent alone, whoever started
#    them there. Such a process computes on the calling thread.
# c) A call on several threads ends when the last of them has been there, even if no chunk was left for it. Where its
#    core is taken, by the threads of OpenBLAS after a matrix product or by another process, that may be the scheduler's
#    slice of some milliseconds, and OpenMP's threads, which wait for the next call in a loop, then take theirs from
#    OpenBLAS. So a call notes how much longer it took than the calling thread would have taken alone. Where calls lose
#    more by sharing than they gain, those after them are computed alone, for a time that grows while this goes on.
#    Threads that sleep are called once the calling thread has computed for as long as they took to come last time,
#    if more than that is left: a short call is over by then.
# d) Python runs signal handlers on its main thread. In a call of more than a few ms that thread takes the GIL now and
#    then to run them, and what they raise ends the call: the other threads take no further chunk.
# e) Tiles and blocks of rows are not on the stack, which is 128 KiB in threads of musl, or as OMP_STACKSIZE says. A
#    thread allocates memory for them once, and it is released when the thread ends. One that gets none takes no chunk.

import threading

cdef extern from "schedule.h" nogil:
    int64_t fastloss_now()
    int64_t fastloss_about_now()
    bint fastloss_is_alone(int64_t now)
    void fastloss_note(int64_t now, int64_t late)
    bint fastloss_others_sleep(int64_t now)
    int64_t fastloss_until_others(bint slept)
    void fastloss_let_sleep(bint slept)
    void fastloss_note_others(int64_t now, bint slept, int64_t late)
    void fastloss_leave_openmp()
    int fastloss_begin(unsigned long main_thread)
    unsigned long fastloss_main_thread
    bint fastloss_forked()
    void* fastloss_own_memory(size_t bytes)
    Py_ssize_t fastloss_take(Py_ssize_t* next, Py_ssize_t n)

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() noexcept nogil
    int PyErr_CheckSignals() noexcept

if fastloss_begin(threading.main_thread().ident) != 0:
    raise MemoryError("fastloss: the system has no memory for a fork handler or a key of threads")

# What the threads of one call share.
cdef struct Work:
    chunk_function function
    void* job
    Py_ssize_t chunks
    Py_ssize_t next                # the first chunk that nobody has taken
    Py_ssize_t neighbours          # that a thread takes, with one stream
    void* caller                   # the memory of the thread that called, and waits for the others
    Py_ssize_t done                # chunks that it computed
    int64_t begun                  # when it took the first
    int64_t joined                 # when another thread came
    int64_t left                   # when it found no more
    int64_t look                   # when it looks at the signals next; 0 for never
    int stop                       # set where a signal handler raised an exception


cdef Py_ssize_t chunk_size(Py_ssize_t items, Py_ssize_t elements_per_item, Py_ssize_t multiple) noexcept nogil:
    cdef Py_ssize_t size = CHUNK_ELEMENTS // max(<Py_ssize_t>1, elements_per_item) + 1
    size = max(size, items // MAX_CHUNKS + 1)
    return (size + multiple - 1) // multiple * multiple


cdef bint interrupted() noexcept nogil:
    """Run the signal handlers that wait; whether one raised an exception, which is set then."""
    with gil:
        return PyErr_CheckSignals() != 0


cdef inline void compute(Work* work, Py_ssize_t first, Py_ssize_t last, bint caller) noexcept nogil:
    """Chunks [first, last); the thread that called looks at the signals in between."""
    cdef fastloss_mode mode
    cdef Py_ssize_t i
    for i in range(first, last):
        mode = fastloss_count_subnormals()
        work.function(NULL, work.job, i)
        fastloss_restore(mode)
        if work.look != 0:
            if caller and fastloss_about_now() >= work.look:
                if interrupted():
                    fastloss_raise_flag(&work.stop)
                work.look = fastloss_about_now() + SIGNALS_AFTER
            if work.stop:
                return


cdef void take_chunks(Work* work) noexcept nogil:
    """Compute chunks that nobody has taken, until there are none left."""
    cdef void* own = fastloss_own_memory(OWN_BYTES)
    cdef bint caller = own == work.caller
    cdef Py_ssize_t first, last, done = 0
    if own == NULL:
        return
    if caller:
        work.begun = fastloss_now()
    else:
        work.joined = fastloss_now()
    while not work.stop:
        first = fastloss_take(&work.next, work.neighbours)
        if first >= work.chunks:
            break
        last = min(first + work.neighbours, work.chunks)
        compute(work, first, last, caller)
        done += last - first
    if caller:
        work.done = done
        work.left = fastloss_now()


cdef void share(Work* work, int threads) noexcept nogil:
    """Compute all chunks on so many threads, unless that was no gain a moment ago."""
    cdef int64_t begun = fastloss_now(), now = begun, alone, late
    cdef bint slept = fastloss_others_sleep(begun)
    cdef Py_ssize_t first = 0
    cdef int i
    if fastloss_forked() or fastloss_is_alone(begun):
        compute(work, 0, work.chunks, True)
        return
    late = fastloss_until_others(slept)
    while (now - begun < late or (now - begun) * (work.chunks - first) < late * first) and not work.stop:
        compute(work, first, first + 1, True)
        first += 1
        if first == work.chunks:
            fastloss_let_sleep(slept)
            return
        now = fastloss_now()
    if work.stop:
        return
    begun = work.joined = now
    work.next = first
    for i in prange(threads, schedule="static", chunksize=1, num_threads=threads):
        take_chunks(work)
    now = fastloss_now()
    fastloss_note_others(now, slept, max(work.joined, work.begun) - begun)
    if work.done > 0 and not work.stop:
        alone = <int64_t>(<double>(work.left - work.begun) * (work.chunks - first) / work.done)
        fastloss_note(now, now - begun - alone)


cdef double total_of(const double* partial, Py_ssize_t chunks, double divisor) noexcept nogil:
    """The sum of all chunks, divided; it may be finite where the sum is not."""
    cdef double s = 0, low = 0
    cdef Huge huge
    cdef Py_ssize_t i
    huge.total = huge.low = 0
    for i in range(chunks):
        two_sum(partial[3 * i], &s, &low)
        low += partial[3 * i + 1]
        if partial[3 * i + 2] != 0:
            add_huge(partial[3 * i + 2], &huge)
    s = joined(s, low)
    if huge.total == 0 and huge.low == 0 or s - s != 0:
        return s / divisor
    return <double>((huge.total + (huge.low + s / fastloss_huge_unit)) / divisor * fastloss_huge_unit)


# Why a run did not end.
cdef enum:
    INTERRUPTED = -1               # by the exception of a signal handler, which is set
    NO_MEMORY = -2


cdef void spread(
    Work* work, chunk_function function, void* job, Py_ssize_t chunks, int threads, bint signals
) noexcept nogil:
    """Compute all chunks on so many threads, of which `work` has the caller's memory; `signals`: end where one says."""
    work.function = function
    work.job = job
    work.chunks = chunks
    work.next = work.done = work.begun = work.left = work.look = work.stop = 0
    work.neighbours = max(<Py_ssize_t>1, chunks // (8 * max(threads, 1)))
    if signals and chunks > 1 and PyThread_get_thread_ident() == fastloss_main_thread:
        work.look = fastloss_about_now() + SIGNALS_AFTER
    if threads > 1 and chunks > 1:
        share(work, threads)
    else:
        compute(work, 0, chunks, True)


cdef int try_run(
    chunk_function function, void* job, double** partial, Py_ssize_t chunks, int threads, double divisor,
    bint signals, double* total
) noexcept nogil:
    """Compute all chunks on so many threads; `total` is the sum of what they leave in the job's `partial`, divided.

    0, or why it failed. With `signals` handlers are run, as Python's callers want.
    """
    cdef Work work
    cdef double few[3 * FEW_CHUNKS]
    cdef double* sums = few
    if chunks > FEW_CHUNKS:
        sums = <double*>malloc(3 * chunks * sizeof(double))
    work.caller = fastloss_own_memory(OWN_BYTES)
    if sums == NULL or work.caller == NULL:
        if sums != few:
            free(sums)
        return NO_MEMORY
    partial[0] = sums
    spread(&work, function, job, chunks, threads, signals)
    if not work.stop:
        total[0] = total_of(sums, chunks, divisor)
    if sums != few:
        free(sums)
    return INTERRUPTED if work.stop else 0


cdef int raised(int failed) except -1 nogil:
    """Raise what a run failed for, if it did."""
    if failed == NO_MEMORY:
        with gil:
            raise MemoryError("fastloss: no memory for the blocks of a thread")
    return failed
