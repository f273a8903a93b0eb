# reading: how x is read, gathered, scaled and capped, and what that makes of derivatives.
#
# x is read as softcap tanh(x / softcap), after it has been scaled, x_j scale_j + bias_j; a gradient is multiplied by
# the slopes as it is written, and added up for those by scale and bias.

from libc.math cimport INFINITY
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.job cimport *


cdef inline void capped_steps(const void* x, Py_ssize_t n, double cap, vec tag, void* y) noexcept nogil:
    """y = `capped` x."""
    cdef Py_ssize_t k, full = n // step_of(tag)
    cdef vec slope
    for k in range(full):
        store(capped(load(x, k, tag), cap, &slope), y, k)
    if n > full * step_of(tag):
        store_part(
            capped(load_part(x, full, n - full * step_of(tag), 0, tag), cap, &slope), y, full, n - full * step_of(tag)
        )


cdef inline void capped_slope_steps(
    const void* x, const void* grad, Py_ssize_t n, double cap, vec tag, void* y
) noexcept nogil:
    """y = grad times the slope of `capped` x; y may be either."""
    cdef Py_ssize_t k, full = n // step_of(tag), rest = n - full * step_of(tag)
    cdef vec slope
    for k in range(full):
        capped(load(x, k, tag), cap, &slope)
        store(mul(load(grad, k, tag), slope), y, k)
    if rest > 0:
        capped(load_part(x, full, rest, 0, tag), cap, &slope)
        store_part(mul(load_part(grad, full, rest, 0, tag), slope), y, full, rest)


cdef inline void capped_curve_steps(
    const void* x, const void* grad, Py_ssize_t n, double cap, const Diagonal* hessian, double least, vec tag,
    const void* curve, void* y
) noexcept nogil:
    """y = the second derivatives of `capped` x, from those and the gradient with respect to it; y may be `curve`."""
    cdef Py_ssize_t k, full = n // step_of(tag), rest = n - full * step_of(tag)
    cdef vec one = all_of(1, tag), zero = all_of(0, tag), floor = all_of(least, tag), p, h, g, t, slope
    for k in range(full + (rest > 0)):
        if k < full:
            p, h, g = load(x, k, tag), load(curve, k, tag), load(grad, k, tag)
        else:
            p, h, g = load_part(x, k, rest, 0, tag), load_part(curve, k, rest, 0, tag), load_part(grad, k, rest, 0, tag)
        t = mul(capped(p, cap, &slope), all_of(1 / cap, tag))
        t = mul(max_of(negative(one), min_of(one, t)), all_of(-2 / cap, tag))
        t = mul(mul(mul(g, all_of(hessian.factor, tag)), t), slope)
        if hessian.convex:
            t = max_of(zero, t)
        h = max_of(floor, fma_of(mul(h, slope), slope, t))
        if k < full:
            store(h, y, k)
        else:
            store_part(h, y, k, rest)


cdef inline void capped_exp_gradient_steps(
    const void* x, Py_ssize_t n, double cap, vec magic, vec least_exp, double factor, double least, void* grad
) noexcept nogil:
    """`exp_gradient_steps` with a softcap; grad may be x."""
    cdef Py_ssize_t k, full = n // step_of(magic), rest = n - full * step_of(magic)
    cdef vec zero = all_of(0, magic), f = all_of(factor, magic), low_end = all_of(least, magic), e, slope
    for k in range(full):
        e = exp_of(capped(load(x, k, magic), cap, &slope), magic, least_exp)
        store(mul(mul(if_less(e, low_end, zero, e), f), slope), grad, k)
    if rest > 0:
        e = exp_of(capped(load_part(x, full, rest, 0, magic), cap, &slope), magic, least_exp)
        store_part(mul(mul(if_less(e, low_end, zero, e), f), slope), grad, full, rest)


cdef inline vec scaled(vec x, vec scale, vec bias) noexcept nogil:
    """scale x + bias, and -inf itself: a masked class remains one."""
    cdef vec masked = all_of(-INFINITY, x)
    return if_equal(x, masked, masked, fma_of(scale, x, bias))


cdef inline vec of_classes(const void* array, Py_ssize_t k, Py_ssize_t rest, vec other) noexcept nogil:
    """Step k of an array, of which there are `rest` numbers if that is not 0; or what is in its place."""
    if array == NULL:
        return other
    return load_part(array, k, rest, 0, other) if rest > 0 else load(array, k, other)


cdef inline void scaled_steps(
    const void* x, Py_ssize_t n, double scale, double bias, const void* scales, const void* biases, vec tag, void* y
) noexcept nogil:
    """y = `scaled` x, by numbers, or by arrays in their place."""
    cdef Py_ssize_t k, full = n // step_of(tag), rest = n - full * step_of(tag)
    cdef vec a = all_of(scale, tag), b = all_of(bias, tag)
    if scales == NULL and biases == NULL:
        for k in range(full):
            store(scaled(load(x, k, tag), a, b), y, k)
    else:
        for k in range(full):
            store(scaled(load(x, k, tag), of_classes(scales, k, 0, a), of_classes(biases, k, 0, b)), y, k)
    if rest > 0:
        a = of_classes(scales, full, rest, a)
        b = of_classes(biases, full, rest, b)
        store_part(scaled(load_part(x, full, rest, 0, tag), a, b), y, full, rest)


cdef inline double number_of(const void* array, Py_ssize_t j, double other, vec tag) noexcept nogil:
    if array == NULL:
        return other
    return (<const float*>array)[j] if vec is f16 else (<const double*>array)[j]


cdef inline double read_as(const ClassJob* job, double x, Py_ssize_t j, vec tag) noexcept nogil:
    """The bits that x of class j is read as."""
    cdef vec y = all_of(x, tag), slope
    if is_scaled(job):
        y = scaled(
            y, all_of(number_of(job.class_scale, j, job.input_scale, tag), tag),
            all_of(number_of(job.class_bias, j, 0, tag), tag)
        )
    return first(capped(y, job.softcap, &slope) if job.softcap != 0 else y)


cdef inline void multiplied_steps(
    const void* x, Py_ssize_t n, double factor, const void* factors, bint squared, double least, vec tag, void* y
) noexcept nogil:
    """y = x times a number, or an array in its place, or their squares; and at least `least`."""
    cdef Py_ssize_t k, full = n // step_of(tag), rest = n - full * step_of(tag)
    cdef vec a = all_of(factor, tag), floor = all_of(least, tag), f, p
    for k in range(full + (rest > 0)):
        f = of_classes(factors, k, rest if k == full else 0, a)
        p = load(x, k, tag) if k < full else load_part(x, k, rest, 0, tag)
        p = mul(mul(p, f), f) if squared else mul(p, f)
        p = max_of(floor, p)
        if k < full:
            store(p, y, k)
        else:
            store_part(p, y, k, rest)


cdef inline void absorb_steps(
    const void* grad, const void* x, const void* odd, Py_ssize_t n, double* by_scale, double* by_bias, bint by_class,
    vec tag
) noexcept nogil:
    """Add n entries of a gradient, and their products with x, to sums: one for each, if `by_class`, or to one.

    What is 0 counts nowhere, whatever x is; nor what is `odd`, unless that is NULL.
    """
    cdef Py_ssize_t k, size = step_of(tag)
    cdef int half
    cdef vec zero = all_of(0, tag), g, p
    cdef d8 total = d8_all(0), dot = d8_all(0), g_half, product
    for k in range((n + size - 1) // size):
        g = load(grad, k, tag) if (k + 1) * size <= n else load_part(grad, k, n - k * size, 0, tag)
        p = load(x, k, tag) if (k + 1) * size <= n else load_part(x, k, n - k * size, 0, tag)
        if odd != NULL:
            g = if_equal(load(odd, k, tag), zero, g, zero)
        p = if_equal(g, zero, zero, p)
        for half in range(2 if vec is f16 else 1):
            if vec is f16:
                g_half = d8_of_half(g, half)
                product = d8_of_half(p, half)
            else:
                g_half = g
                product = p
            if by_class:
                add_part(g_half, by_bias, k * size + 8 * half, n)
                add_part(mul(g_half, product), by_scale, k * size + 8 * half, n)
            else:
                total = add(total, g_half)
                dot = fma_of(g_half, product, dot)
    if not by_class:
        if by_bias != NULL:
            by_bias[0] += d8_sum(total)
        if by_scale != NULL:
            by_scale[0] += d8_sum(dot)


cdef inline void add_part(d8 x, double* sums, Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """Add eight numbers to sums[j] and after it, of which there are n in all; to nothing if there are none."""
    if sums == NULL or j >= n:
        return
    if j + 8 <= n:
        d8_store(add(d8_load(sums + j), x), sums + j)
    else:
        store_part(add(load_part(sums + j, 0, n - j, 0, x), x), sums + j, 0, n - j)


cdef inline const real* gathered(
    const void* x, int storage, Py_ssize_t first, Py_ssize_t step, Py_ssize_t n, real* buffer
) noexcept nogil:
    """n numbers from x[first] on, `step` apart: in place, or in the buffer."""
    cdef Py_ssize_t j
    if step == 1:
        return read_block(x, storage, first, n, buffer)
    for j in range(n):
        buffer[j] = read_one(x, storage, first + j * step, buffer)
    return buffer


cdef inline const void* scale_row(
    const ClassJob* job, const void* x, Py_ssize_t j, Py_ssize_t n, Py_ssize_t apart, void* y
) noexcept nogil:
    """y = n numbers of x scaled: of classes from j on, or, where the next is `apart`, all of class j."""
    cdef f16 f
    cdef d8 d
    cdef Py_ssize_t item = sizeof(float) if job.float32 else sizeof(double)
    cdef const void* scales = NULL
    cdef const void* biases = NULL
    if job.class_scale != NULL and apart == 0:
        scales = <const char*>job.class_scale + j * item
    if job.class_bias != NULL and apart == 0:
        biases = <const char*>job.class_bias + j * item
    if job.float32:
        scaled_steps(
            x, n, number_of(job.class_scale, j, job.input_scale, f), number_of(job.class_bias, j, 0, f), scales, biases,
            f, y
        )
    else:
        scaled_steps(
            x, n, number_of(job.class_scale, j, job.input_scale, d), number_of(job.class_bias, j, 0, d), scales, biases,
            d, y
        )
    return y


cdef inline const void* cap_row(
    const ClassJob* job, const void* x, Py_ssize_t j, Py_ssize_t n, Py_ssize_t apart, void* y
) noexcept nogil:
    """y = x as it is read, scaled and capped, whichever applies."""
    cdef f16 f
    cdef d8 d
    if is_scaled(job):
        x = scale_row(job, x, j, n, apart, y)
    if job.softcap != 0:
        if job.float32:
            capped_steps(x, n, job.softcap, f, y)
        else:
            capped_steps(x, n, job.softcap, d, y)
    return y

ctypedef const void* (*cap_function)(
    const ClassJob*, const void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, void*
) noexcept nogil
