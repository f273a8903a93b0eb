/* What a chunk needs of the thread that computes it: its memory, flags that others raise, its floating-point mode. */
#ifndef FASTLOSS_THREAD_H
#define FASTLOSS_THREAD_H

#include <stddef.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define fastloss_raise_flag(flag) __atomic_store_n(flag, 1, __ATOMIC_RELAXED)  /* several threads may */
static inline void fastloss_lower(uint64_t* least, uint64_t x) {
    uint64_t now = __atomic_load_n(least, __ATOMIC_RELAXED);
    while (x < now && !__atomic_compare_exchange_n(least, &now, x, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
}

/* The memory of this thread, of OWN_BYTES: schedule.h, which allocates it before a thread takes a chunk. */
extern __attribute__((visibility("hidden"))) __thread void* fastloss_memory;

/* Bytes from what rows compute to what they prefetch: where logits are all that is read and nothing is written, and
   elsewhere. */
extern __attribute__((visibility("hidden"))) ptrdiff_t fastloss_ahead[2];

/* What is there overlaps nothing else: for this attribute to say so it must not be inlined. */
__attribute__((noinline, malloc, assume_aligned(64))) static void* fastloss_offset(void* memory, size_t offset) {
    return (char*)memory + offset;
}

/* Subnormal numbers count, whatever the calling thread's mode is (torch.set_flush_denormal, -ffast-math in another
   library) and that of the workers: thresholds are, and the same bits from every thread. */
typedef uint64_t fastloss_mode;
#if defined(__SSE2__)
#define FASTLOSS_FLUSH 0x8040u
#define fastloss_get_mode(mode) (mode = _mm_getcsr())
#define fastloss_set_mode(mode) _mm_setcsr((unsigned)(mode))
#elif defined(__aarch64__)
#define FASTLOSS_FLUSH 0x1000000u
#define fastloss_get_mode(mode) __asm__ volatile("mrs %0, fpcr" : "=r"(mode))
#define fastloss_set_mode(mode) __asm__ volatile("msr fpcr, %0" :: "r"(mode))
#else
#define FASTLOSS_FLUSH 0
#define fastloss_get_mode(mode) (mode = 0)
#define fastloss_set_mode(mode) ((void)(mode))
#endif
static inline fastloss_mode fastloss_count_subnormals(void) {
    fastloss_mode mode;
    fastloss_get_mode(mode);
    if (mode & FASTLOSS_FLUSH) fastloss_set_mode(mode & ~(fastloss_mode)FASTLOSS_FLUSH);
    return mode;
}
static inline void fastloss_restore(fastloss_mode mode) {
    if (mode & FASTLOSS_FLUSH) fastloss_set_mode(mode);
}

#endif
