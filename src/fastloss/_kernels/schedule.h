/* Threads, forks, signals and memory: what schedule.pxi needs of the system. One file includes it. */
#ifndef FASTLOSS_SCHEDULE_H
#define FASTLOSS_SCHEDULE_H

#include <stdint.h>
#include <stdlib.h>
#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <malloc.h>
#include <windows.h>
#else
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#endif
#include "thread.h"

#ifdef _WIN32
static inline int64_t fastloss_now(void) {  /* nanoseconds */
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return (int64_t)((double)ticks.QuadPart * (1e9 / (double)per_second.QuadPart));
}
#else
static inline int64_t fastloss_clock(clockid_t clock) {  /* nanoseconds */
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
#define fastloss_now() fastloss_clock(CLOCK_MONOTONIC)
#endif
#ifdef CLOCK_MONOTONIC_COARSE  /* the same within some milliseconds, in a quarter of the time */
#define fastloss_about_now() fastloss_clock(CLOCK_MONOTONIC_COARSE)
#else
#define fastloss_about_now fastloss_now
#endif
#define fastloss_take(next, n) __atomic_fetch_add(next, n, __ATOMIC_RELAXED)

/* What this thread lost lately by sharing chunks, when it shares again, and how many times what it lost that is. */
static __thread struct { int64_t lost, again, patience; } fastloss_sharing;

/* When this thread shared last, and how long it took then until the others had come and it computed itself: called
   while they waited in their loop of some 30 us, and out of their sleep. In a virtual machine either may take .3 ms,
   for the caller too: a wake-up leaves the machine. */
static __thread struct { int64_t last, late[2]; } fastloss_waking;

#define fastloss_is_alone(now) ((now) < fastloss_sharing.again)
#define fastloss_others_sleep(now) ((now) - fastloss_waking.last >= INT64_C(30000))
/* Some microseconds are not worth a chunk alone, which takes longer. */
#define fastloss_until_others(slept) (fastloss_waking.late[slept] < 10000 ? 0 : fastloss_waking.late[slept])
/* After a call that ended before the others would have come: in the long run that is measured again. */
#define fastloss_let_sleep(slept) (fastloss_waking.late[slept] -= fastloss_waking.late[slept] / 64)
static inline void fastloss_note_others(int64_t now, int slept, int64_t late) {
    int64_t* before = &fastloss_waking.late[slept];
    fastloss_waking.last = now;
    *before = *before ? *before + (late - *before) / 4 : late;
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

static unsigned long fastloss_main_thread;  /* of Python: after a fork, the one that is left */

/* Whether OpenMP must not be used, as in the child of a fork. One that passes by the handler, as a bare system call,
   changes the number of the process. */
#ifdef _WIN32
static int fastloss_left;
#define fastloss_leave_openmp() (fastloss_left = 1)
#define fastloss_forked() (fastloss_left)
#define fastloss_handle_forks() 0
#else
static pid_t fastloss_process;
#define fastloss_leave_openmp() (fastloss_process = 0)
#define fastloss_forked() (getpid() != fastloss_process)
static void fastloss_in_child(void) {
    fastloss_leave_openmp();
    fastloss_main_thread = PyThread_get_thread_ident();
}
static inline int fastloss_handle_forks(void) {
    fastloss_process = getpid();
    return pthread_atfork(NULL, NULL, fastloss_in_child);
}
#endif

ptrdiff_t fastloss_ahead[2];
/* The memory of a thread; the key is there for its release. */
__thread void* fastloss_memory;
#ifdef _WIN32
#define FASTLOSS_CALLED WINAPI
static DWORD fastloss_memory_key;
#define fastloss_key(release) ((fastloss_memory_key = FlsAlloc(release)) == FLS_OUT_OF_INDEXES)
#define fastloss_remember(memory) (!FlsSetValue(fastloss_memory_key, memory))
#define fastloss_aligned(bytes) _aligned_malloc(bytes, 64)
#define fastloss_free _aligned_free
#else
#define FASTLOSS_CALLED
static pthread_key_t fastloss_memory_key;
#define fastloss_key(release) pthread_key_create(&fastloss_memory_key, release)
#define fastloss_remember(memory) pthread_setspecific(fastloss_memory_key, memory)
static inline void* fastloss_aligned(size_t bytes) {
    void* memory;
    return posix_memalign(&memory, 64, bytes) ? NULL : memory;
}
#define fastloss_free free
#endif

static void FASTLOSS_CALLED fastloss_release_memory(void* memory) {
    fastloss_memory = NULL;
    fastloss_free(memory);
}
static inline int fastloss_begin(unsigned long main_thread) {
    fastloss_main_thread = main_thread;
    return fastloss_handle_forks() || fastloss_key(fastloss_release_memory);
}
static void* fastloss_allocate_memory(size_t bytes) {
    void* memory = fastloss_aligned(bytes);
    if (memory && fastloss_remember(memory)) {
        fastloss_free(memory);
        return NULL;
    }
    return fastloss_memory = memory;
}
static inline void* fastloss_own_memory(size_t bytes) {
    return fastloss_memory ? fastloss_memory : fastloss_allocate_memory(bytes);
}

#endif
