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

/* What the compiler was told, and whether it takes that literally: flags that get lost cost speed, or bits. */
static const char fastloss_features[] = ""
#ifdef __SSE4_2__
    " sse4.2"
#endif
#ifdef __AVX2__
    " avx2"
#endif
#ifdef __FMA__
    " fma"
#endif
#ifdef __F16C__
    " f16c"
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) \
    && defined(__AVX512VL__)
    " avx512"
#endif
#ifdef __ARM_FEATURE_FMA
    " arm_fma"
#endif
#ifdef __FAST_MATH__
    " fast_math"
#endif
    ;
__attribute__((noinline, unused)) static int fastloss_contracts(volatile double* x) {  /* x[0] x[1] rounds to -x[2] */
    return x[0] * x[1] + x[2] != 0;
}

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define FASTLOSS_HAS(name) __builtin_cpu_supports(name)
#include <cpuid.h>
/* AMD's family 26 (Zen 5) does not foresee two streams of 64 bytes that are only read; what does, asking ahead holds up. */
static inline int fastloss_asks_ahead(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx || !__get_cpuid(1, &a, &b, &c, &d)) return 0;
    return (a >> 8 & 15) + (a >> 20 & 255) == 26;
}
#define fastloss_v3 (FASTLOSS_HAS("avx2") && FASTLOSS_HAS("fma") && FASTLOSS_HAS("bmi") && FASTLOSS_HAS("bmi2"))
#define fastloss_v4 (fastloss_v3 && FASTLOSS_HAS("avx512f") && FASTLOSS_HAS("avx512bw") && FASTLOSS_HAS("avx512cd") \
    && FASTLOSS_HAS("avx512dq") && FASTLOSS_HAS("avx512vl"))
#else
#define fastloss_asks_ahead() 0
#define fastloss_v3 0
#define fastloss_v4 0
#endif

#endif
