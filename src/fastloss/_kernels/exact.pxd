# exact: sums in which nothing is rounded. A finite number is an integer times 2^-1074, which is added to digits of 32
# bits, three at a time; an int64 has room for 2^29 numbers before a carry.

from libc.stdlib cimport calloc, free
from fastloss._kernels.math cimport *

cdef enum:
    EXACT_DIGITS = 68,
    EXACT_COUNTS = 71              # behind the digits: how many were NaN, inf and -inf


cdef inline void add_exactly(double x, int64_t* digits) noexcept nogil:
    cdef Bits64 bits
    cdef uint64_t exponent, fraction, low, high, part = 0xffffffff
    cdef int64_t sign = -1 if x < 0 else 1
    bits.f = x
    exponent = bits.u >> 52 & 2047
    fraction = bits.u & ((<uint64_t>1 << 52) - 1)
    if exponent == 2047:
        digits[EXACT_DIGITS + (0 if fraction != 0 else 1 if sign > 0 else 2)] += 1
        return
    if exponent > 0:
        fraction |= <uint64_t>1 << 52
        exponent -= 1
    low = (fraction & part) << (exponent & 31)
    high = (fraction >> 32) << (exponent & 31)
    digits += exponent >> 5
    digits[0] += sign * <int64_t>(low & part)
    digits[1] += sign * <int64_t>((low >> 32) + (high & part))
    digits[2] += sign * <int64_t>(high >> 32)


cdef inline bint take_digits(const int64_t* exact, Py_ssize_t chunks, int64_t** digits) noexcept nogil:
    """Zeros for each chunk's digits, if there is an array for them in all; whether there was memory."""
    digits[0] = NULL
    if exact != NULL:
        digits[0] = <int64_t*>calloc(max(chunks, <Py_ssize_t>1), EXACT_COUNTS * sizeof(int64_t))
    return exact == NULL or digits[0] != NULL


cdef inline void add_digits(int64_t* exact, Py_ssize_t chunks, int64_t* digits) noexcept nogil:
    """What the chunks have, to all; their memory is freed."""
    cdef Py_ssize_t i, k
    for i in range(chunks if digits != NULL else 0):
        for k in range(EXACT_COUNTS):
            exact[k] += digits[i * EXACT_COUNTS + k]
    free(digits)
