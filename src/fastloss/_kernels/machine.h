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

#if defined(__x86_64__)
/* By cpuid alone: what compilers have for it is in a library that is not everywhere, clang's on Windows for one. */
static inline int fastloss_cpuid(unsigned leaf, unsigned r[4]) {  /* whether there is such a leaf */
    unsigned most = leaf & 0x80000000u, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(most), "=b"(b), "+c"(c), "=d"(d));
    r[0] = leaf, r[2] = 0;
    __asm__ volatile("cpuid" : "+a"(r[0]), "=b"(r[1]), "+c"(r[2]), "=d"(r[3]));
    return leaf <= most;
}
/* The level of x86-64: of the processor, with the registers that the system saves, which macOS does for those of
   AVX-512 from their first use on. */
static inline int fastloss_level(void) {
    const unsigned one = 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29;  /* fma, movbe, osxsave, avx, f16c */
    const unsigned v3 = 1u << 3 | 1u << 5 | 1u << 8;  /* bmi, avx2, bmi2 */
    const unsigned v4 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  /* avx512 f, dq, cd, bw, vl */
    unsigned r[4], saved, high;
    if (!fastloss_cpuid(1, r) || (r[2] & one) != one) return 2;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(saved), "=d"(high) : "c"(0));  /* xgetbv */
    if ((saved & 6) != 6 || !fastloss_cpuid(0x80000001u, r) || !(r[2] & 1u << 5)) return 2;  /* lzcnt */
    if (!fastloss_cpuid(7, r) || (r[1] & v3) != v3) return 2;
#ifndef __APPLE__
    if ((saved & 0xe0) != 0xe0) return 3;
#endif
    return (r[1] & v4) == v4 ? 4 : 3;
}
/* AMD's family of processors, 0 of others. */
static inline unsigned fastloss_amd(void) {
    unsigned r[4], amd;
    if (!fastloss_cpuid(0, r)) return 0;
    amd = r[1] == 0x68747541u;  /* Auth */
    return fastloss_cpuid(1, r) && amd ? (r[0] >> 8 & 15) + (r[0] >> 20 & 255) : 0;
}
/* Zen 5 does not foresee two streams of 64 bytes that are only read; what does, asking ahead holds up. */
#define fastloss_asks_ahead() (fastloss_amd() == 26)
/* So it does Zen 4 in rows, of gradients and class probabilities 10 to 25%. */
#define fastloss_foresees_rows() (fastloss_amd() == 25 && fastloss_level() == 4)
#else
#define fastloss_level() 0
#define fastloss_asks_ahead() 0
#define fastloss_foresees_rows() 0
#endif

#endif
