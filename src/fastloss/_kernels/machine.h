/* What the build and the machine are: OpenMP, the compiler, the instruction sets of the processor, its pages. */
#ifndef FASTLOSS_MACHINE_H
#define FASTLOSS_MACHINE_H

#include <stddef.h>
#include <stdint.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* Advise memory that may not have been touched, as NumPy does with its own: a page of 4 KiB takes as long to come
   into being as a kernel does to fill two of them. */
static inline void fastloss_prefer_huge_pages(void* memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
    size_t before = -(uintptr_t)memory % 4096;
    if (bytes >= (size_t)4 << 20) madvise((char*)memory + before, bytes - before, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

#ifdef _OPENMP
#include <omp.h>
#define fastloss_openmp _OPENMP
#else
#define fastloss_openmp 0
#define omp_get_max_threads() 1
#endif
#ifdef __VERSION__
#define fastloss_compiler __VERSION__
#else
#define fastloss_compiler "unknown"
#endif
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define FASTLOSS_HAS(name) __builtin_cpu_supports(name)
#define fastloss_v3 (FASTLOSS_HAS("avx2") && FASTLOSS_HAS("fma") && FASTLOSS_HAS("bmi") && FASTLOSS_HAS("bmi2"))
#define fastloss_v4 (fastloss_v3 && FASTLOSS_HAS("avx512f") && FASTLOSS_HAS("avx512bw") && FASTLOSS_HAS("avx512cd") \
    && FASTLOSS_HAS("avx512dq") && FASTLOSS_HAS("avx512vl"))
#else
#define fastloss_v3 0
#define fastloss_v4 0
#endif

#endif
