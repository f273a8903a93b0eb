# schedule: chunks are shared among threads, each of which has its own memory for blocks and tiles.
#
# a) Chunks follow from the shape alone; every chunk leaves its sum and what rounding lost, added in order at the end.
#    So the bits are the same for any number of threads, and whichever of them takes a chunk.
# b) OpenMP hangs in a forked child: that of gcc waits for threads which exist in the parent alone, whoever started
#    them there. Such a process computes on the calling thread.
# c) What the kernels need beyond 20 KiB is not on the stack, which is 128 KiB in threads of musl, or as OMP_STACKSIZE
#    says. A thread allocates it once, and it is released when the thread ends. A thread that gets none takes no chunk.

cdef extern from *:
    """
    #include <pthread.h>
    #include <stdlib.h>
    #include <unistd.h>

    /* The process that may use OpenMP. A fork that passes by the handler, as a bare system call, changes the number. */
    static pid_t fastloss_process;

    static void fastloss_leave_openmp(void) {
        fastloss_process = 0;
    }
    static int fastloss_watch_forks(void) {
        fastloss_process = getpid();
        return pthread_atfork(NULL, NULL, fastloss_leave_openmp);
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
    #define fastloss_take(next, n) __atomic_fetch_add(next, n, __ATOMIC_RELAXED)
    """
    void fastloss_leave_openmp() noexcept
    int fastloss_watch_forks() noexcept
    bint fastloss_forked() noexcept nogil
    int fastloss_prepare_memory() noexcept
    void* fastloss_own_memory(size_t bytes) noexcept nogil
    void* fastloss_offset(void* memory, size_t offset) noexcept nogil
    void fastloss_lower(uint64_t* least, uint64_t x) noexcept nogil
    Py_ssize_t fastloss_take(Py_ssize_t* next, Py_ssize_t n) noexcept nogil

if fastloss_watch_forks() != 0 or fastloss_prepare_memory() != 0:
    raise MemoryError("fastloss: the system has no memory for a fork handler or a pthread key")

cdef enum:
    MAX_CHUNKS = 1024
    FEW_CHUNKS = 16                # whose sums are on the stack
    CHUNK_ELEMENTS = 16384         # a chunk should be worth a thread's while
    APART = 1344                   # bytes between parts: at multiples of 4096 a store would hold up loads
    OWN_BYTES = 3 * (65536 + APART)  # of a thread's memory: three tiles of float64

ctypedef void (*chunk_function)(void* job, Py_ssize_t chunk) noexcept nogil

# What the threads of one call share.
cdef struct Work:
    chunk_function function
    void* job
    Py_ssize_t chunks
    Py_ssize_t next                # the first chunk that nobody has taken
    Py_ssize_t neighbours          # that a thread takes, with one stream


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


cdef void take_chunks(Work* work) noexcept nogil:
    """Compute chunks that nobody has taken, until there are none left."""
    cdef Py_ssize_t first, i
    if own_memory() == NULL:
        return
    while True:
        first = fastloss_take(&work.next, work.neighbours)
        if first >= work.chunks:
            return
        for i in range(first, min(first + work.neighbours, work.chunks)):
            work.function(work.job, i)


cdef double total_of(const double* partial, Py_ssize_t chunks) noexcept nogil:
    cdef double s = 0, low = 0
    cdef Py_ssize_t i
    for i in range(chunks):
        two_sum(partial[2 * i], &s, &low)
        low += partial[2 * i + 1]
    return joined(s, low)


cdef int run(
    chunk_function function, void* job, double** partial, Py_ssize_t chunks, int threads, double* total
) except -1 nogil:
    """Compute all chunks on so many threads; `total` is the sum of what they leave in `partial`, the job's."""
    cdef Work work
    cdef double few[2 * FEW_CHUNKS]
    cdef double* sums = few
    cdef Py_ssize_t i
    if chunks > FEW_CHUNKS:
        sums = <double*>malloc(2 * chunks * sizeof(double))
    if sums == NULL or own_memory() == NULL:
        if sums != few:
            free(sums)
        with gil:
            raise MemoryError("fastloss: no memory for the blocks of a thread")
    partial[0] = sums
    if threads <= 1 or chunks <= 1 or fastloss_forked():
        for i in range(chunks):
            function(job, i)
    else:
        work.function = function
        work.job = job
        work.chunks = chunks
        work.next = 0
        work.neighbours = max(<Py_ssize_t>1, chunks // (8 * threads))
        for i in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            take_chunks(&work)
    total[0] = total_of(sums, chunks)
    if sums != few:
        free(sums)
    return 0
