/* What the build and the machine are: OpenMP, the compiler, the instruction sets of the processor. */
#ifndef FASTLOSS_MACHINE_H
#define FASTLOSS_MACHINE_H

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_max_threads() 1
#endif
#ifdef __VERSION__
#define fastloss_compiler __VERSION__
#else
#define fastloss_compiler "unknown"
#endif
#ifdef _OPENMP
#define fastloss_openmp _OPENMP
#else
#define fastloss_openmp 0
#endif
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define fastloss_v3 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") \
    && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
#define fastloss_v4 (fastloss_v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") \
    && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") \
    && __builtin_cpu_supports("avx512vl"))
#else
#define fastloss_v3 0
#define fastloss_v4 0
#endif

#endif
