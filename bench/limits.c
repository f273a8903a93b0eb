/* The least that a loss does with its arrays: read them all, or read them all and fill one as large as the first.
   Each thread has one contiguous part of every array, as 64-bit words. */
#include <stddef.h>
#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { UNROLL = 64 }; /* independent words in flight, and the grain of a thread's part */

static size_t part(size_t words, int thread, int threads) { return words / UNROLL * thread / threads * UNROLL; }

static uint64_t read_part(const uint64_t *a, size_t begin, size_t end) {
    uint64_t sums[UNROLL] = {0}, sum = 0;
    for (size_t i = begin; i < end; i += UNROLL)
        for (int k = 0; k < UNROLL; k++) sums[k] ^= a[i + k];
    for (int k = 0; k < UNROLL; k++) sum ^= sums[k];
    return sum;
}

static void copy_part(const uint64_t *restrict a, uint64_t *restrict b, size_t begin, size_t end, int streaming) {
#ifdef __SSE2__
    if (streaming) { /* past the caches, which saves reading what will be overwritten */
        for (size_t i = begin; i < end; i += 2)
            _mm_stream_si128((__m128i *)(b + i), _mm_loadu_si128((const __m128i *)(a + i)));
        _mm_sfence();
        return;
    }
#endif
    for (size_t i = begin; i < end; i++) b[i] = a[i];
}

/* Without a result all arrays are read; with one, the first is copied to it and the others are read. */
uint64_t sweep(const uint64_t *const *arrays, const size_t *words, int count, uint64_t *result, int streaming,
               int threads) {
    uint64_t sum = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(^ : sum)
    for (int t = 0; t < threads; t++)
        for (int j = 0; j < count; j++) {
            size_t begin = part(words[j], t, threads), end = part(words[j], t + 1, threads);
            if (result && !j) copy_part(arrays[0], result, begin, end, streaming);
            else sum ^= read_part(arrays[j], begin, end);
        }
    return sum;
}
