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
# d) Python runs signal handlers on its main thread. In a call of more than a few ms that thread takes the GIL now and
#    then to run them, and what they raise ends the call: the other threads take no further chunk.
# e) What the kernels need beyond 20 KiB is not on the stack, which is 128 KiB in threads of musl, or as OMP_STACKSIZE
#    says. A thread allocates it once, and it is released when the thread ends. A thread that gets none takes no chunk.

import threading

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() noexcept nogil
    int PyErr_CheckSignals() noexcept

cdef extern from *:
    """
    #include <pthread.h>
    #include <stdlib.h>
    #include <time.h>
    #include <unistd.h>

    static inline int64_t fastloss_now(void) {  /* nanoseconds */
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    }
    /* The same within some milliseconds, in a quarter of the time. */
    #ifdef CLOCK_MONOTONIC_COARSE
    static inline int64_t fastloss_about_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    }
    #else
    #define fastloss_about_now fastloss_now
    #endif
    /* What this thread lost lately by sharing chunks, when it shares again, and how many times what it lost that is. */
    static __thread struct { int64_t lost, again, patience; } fastloss_sharing;

    static inline int fastloss_is_alone(int64_t now) {
        return now < fastloss_sharing.again;
    }
    /* After a shared call that ended `now`, `late` nanoseconds after it would have without the other threads. Until
       these are awake, each on a processor of its own, calls lose some milliseconds together. */
    static inline void fastloss_note(int64_t now, int64_t late) {
        const int64_t enough = INT64_C(10000000), most = INT64_C(1000000000);
        int64_t lost = fastloss_sharing.lost + late, patience = fastloss_sharing.patience;
        fastloss_sharing.lost = lost > 0 ? lost : 0;
        if (lost <= 0) fastloss_sharing.patience = patience / 2;
        if (lost < enough) return;
        patience = patience > 0 ? 4 * patience : 4;
        fastloss_sharing.again = now + (lost < most / patience ? patience * lost : most);
        fastloss_sharing.patience = patience < 1024 ? patience : 1024;
        fastloss_sharing.lost = 0;
    }

    /* The process that may use OpenMP. A fork that passes by the handler, as a bare system call, changes the number. */
    static pid_t fastloss_process;

    static unsigned long fastloss_main_thread;  /* of Python: after a fork, the one that is left */

    static void fastloss_leave_openmp(void) {
        fastloss_process = 0;
    }
    static void fastloss_in_child(void) {
        fastloss_leave_openmp();
        fastloss_main_thread = PyThread_get_thread_ident();
    }
    static int fastloss_begin(unsigned long main_thread) {
        fastloss_main_thread = main_thread;
        fastloss_process = getpid();
        return pthread_atfork(NULL, NULL, fastloss_in_child);
    }
    static inline int fastloss_forked(void) {
        return getpid() != fastloss_process;
    }

    /* The memory of this thread; the key is there for its release. */
    static __thread void* fastloss_memory;
    static pthread_key_t fastloss_memory_key;

    static void fastloss_release_memory(void* memory) {
        fastloss_memory = NULL;
        free(memory);
    }
    static int fastloss_prepare_memory(void) {
        return pthread_key_create(&fastloss_memory_key, fastloss_release_memory);
    }
    __attribute__((noinline)) static void* fastloss_allocate_memory(size_t bytes) {
        void* memory;
        if (posix_memalign(&memory, 64, bytes)) return NULL;
        if (pthread_setspecific(fastloss_memory_key, memory)) {
            free(memory);
            return NULL;
        }
        return fastloss_memory = memory;
    }
    static inline void* fastloss_own_memory(size_t bytes) {
        return fastloss_memory ? fastloss_memory : fastloss_allocate_memory(bytes);
    }
    /* What is there overlaps nothing else: for this attribute to say so it must not be inlined. */
    __attribute__((noinline, malloc, assume_aligned(64))) static void* fastloss_offset(void* memory, size_t offset) {
        return (char*)memory + offset;
    }
    static inline void fastloss_lower(uint64_t* least, uint64_t x) {
        uint64_t now = __atomic_load_n(least, __ATOMIC_RELAXED);
        while (x < now && !__atomic_compare_exchange_n(least, &now, x, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
    }
    /* Subnormal numbers count, whatever the calling thread's mode is (torch.set_flush_denormal, -ffast-math in another
       library) and that of the workers: thresholds are, and the same bits from every thread. */
    #if defined(__SSE2__)
    #include <immintrin.h>
    typedef unsigned int fastloss_mode;
    #define FASTLOSS_FLUSH 0x8040u
    #define fastloss_get_mode() _mm_getcsr()
    #define fastloss_set_mode(mode) _mm_setcsr(mode)
    #elif defined(__aarch64__) && defined(__GNUC__)
    typedef uint64_t fastloss_mode;
    #define FASTLOSS_FLUSH 0x1000000u
    static inline fastloss_mode fastloss_get_mode(void) {
        fastloss_mode mode;
        __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    #define fastloss_set_mode(mode) __asm__ volatile("msr fpcr, %0" :: "r"((fastloss_mode)(mode)))
    #else
    typedef int fastloss_mode;
    #define FASTLOSS_FLUSH 0
    #define fastloss_get_mode() 0
    #define fastloss_set_mode(mode) ((void)0)
    #endif
    static inline fastloss_mode fastloss_count_subnormals(void) {
        fastloss_mode mode = fastloss_get_mode();
        if (mode & FASTLOSS_FLUSH) fastloss_set_mode(mode & ~(fastloss_mode)FASTLOSS_FLUSH);
        return mode;
    }
    static inline void fastloss_restore(fastloss_mode mode) {
        if (mode & FASTLOSS_FLUSH) fastloss_set_mode(mode);
    }
    #define fastloss_take(next, n) __atomic_fetch_add(next, n, __ATOMIC_RELAXED)
    """
    ctypedef int fastloss_mode
    fastloss_mode fastloss_count_subnormals() noexcept nogil
    void fastloss_restore(fastloss_mode) noexcept nogil
    int64_t fastloss_now() noexcept nogil
    int64_t fastloss_about_now() noexcept nogil
    bint fastloss_is_alone(int64_t now) noexcept nogil
    void fastloss_note(int64_t now, int64_t late) noexcept nogil
    void fastloss_leave_openmp() noexcept
    int fastloss_begin(unsigned long main_thread) noexcept
    unsigned long fastloss_main_thread
    bint fastloss_forked() noexcept nogil
    int fastloss_prepare_memory() noexcept
    void* fastloss_own_memory(size_t bytes) noexcept nogil
    void* fastloss_offset(void* memory, size_t offset) noexcept nogil
    void fastloss_lower(uint64_t* least, uint64_t x) noexcept nogil
    Py_ssize_t fastloss_take(Py_ssize_t* next, Py_ssize_t n) noexcept nogil

if fastloss_begin(threading.main_thread().ident) != 0 or fastloss_prepare_memory() != 0:
    raise MemoryError("fastloss: the system has no memory for a fork handler or a pthread key")

cdef enum:
    MAX_CHUNKS = 1024
    FEW_CHUNKS = 16                # whose sums are on the stack
    SIGNALS_AFTER = 50_000_000     # nanoseconds between two looks at the signals
    CHUNK_ELEMENTS = 16384         # a chunk should be worth a thread's while
    APART = 1344                   # bytes between parts: at multiples of 4096 a store would hold up loads

ctypedef void (*chunk_function)(void* job, Py_ssize_t chunk) noexcept nogil

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
    int64_t left                   # when it found no more
    int64_t look                   # when it looks at the signals next; 0 for never
    int stop                       # set where a signal handler raised an exception


cdef inline void* own_memory() noexcept nogil:
    """This thread's memory, or NULL if there is none to be had; in a chunk there is."""
    return fastloss_own_memory(OWN_BYTES)


cdef inline void* part_of(void* memory, int part, Py_ssize_t bytes_of_part) noexcept nogil:
    """One of three parts of a thread's memory, which a chunk takes once each."""
    return fastloss_offset(memory, part * (bytes_of_part + APART))


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
        work.function(work.job, i)
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
    cdef void* own = own_memory()
    cdef bint caller = own == work.caller
    cdef Py_ssize_t first, last, done = 0
    if own == NULL:
        return
    if caller:
        work.begun = fastloss_now()
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
    cdef int64_t begun = fastloss_now(), now, alone
    cdef int i
    if fastloss_forked() or fastloss_is_alone(begun):
        compute(work, 0, work.chunks, True)
        return
    for i in prange(threads, schedule="static", chunksize=1, num_threads=threads):
        take_chunks(work)
    now = fastloss_now()
    if work.done > 0 and not work.stop:
        alone = <int64_t>(<double>(work.left - work.begun) * work.chunks / work.done)
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


cdef int run(
    chunk_function function, void* job, double** partial, Py_ssize_t chunks, int threads, double divisor,
    double* total
) except -1 nogil:
    """Compute all chunks on so many threads; `total` is the sum of what they leave in the job's `partial`, divided.

    What a signal handler raises ends it.
    """
    cdef Work work
    cdef double few[3 * FEW_CHUNKS]
    cdef double* sums = few
    if chunks > FEW_CHUNKS:
        sums = <double*>malloc(3 * chunks * sizeof(double))
    work.caller = own_memory()
    if sums == NULL or work.caller == NULL:
        if sums != few:
            free(sums)
        with gil:
            raise MemoryError("fastloss: no memory for the blocks of a thread")
    partial[0] = sums
    work.function = function
    work.job = job
    work.chunks = chunks
    work.next = work.done = work.begun = work.left = work.look = work.stop = 0
    work.neighbours = max(<Py_ssize_t>1, chunks // (8 * max(threads, 1)))
    if chunks > 1 and PyThread_get_thread_ident() == fastloss_main_thread:
        work.look = fastloss_about_now() + SIGNALS_AFTER
    if threads > 1 and chunks > 1:
        share(&work, threads)
    else:
        compute(&work, 0, chunks, True)
    if not work.stop:
        total[0] = total_of(sums, chunks, divisor)
    if sums != few:
        free(sums)
    return -1 if work.stop else 0
