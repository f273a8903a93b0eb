# reading: how x is read, gathered, scaled and capped, and what that makes of derivatives.
#
# x is read as softcap tanh(x / softcap), after it has been scaled, x_j scale_j + bias_j; a gradient is multiplied by
# the slopes as it is written, and added up for those by scale and bias.

from libc.math cimport INFINITY
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.job cimport *


cdef inline void capped_steps(
    bint WITH_SLOPES, const void* x, Py_ssize_t n, double cap, vec tag, void* y, void* slopes
) noexcept nogil:
    """y = `capped` x, and its slopes."""
    cdef Py_ssize_t k
    cdef vec slope
    for k in range(steps_of(n, tag)):
        store_or_part(capped(step_or_part(x, k, n, 0, tag), cap, &slope), y, k, n)
        if WITH_SLOPES:
            store_or_part(slope, slopes, k, n)


cdef inline void capped_of(vec* type, const void* x, Py_ssize_t n, double cap, void* y) noexcept nogil:
    cdef vec tag
    capped_steps(False, x, n, cap, tag, y, NULL)


cdef inline void capped_with_slopes(
    vec* type, const void* x, Py_ssize_t n, double cap, void* y, void* slopes
) noexcept nogil:
    cdef vec tag
    capped_steps(True, x, n, cap, tag, y, slopes)


# By pointers: each has the registers to itself.
ctypedef void (*capped_function)(void*, const void*, Py_ssize_t, double, void*) noexcept nogil
ctypedef void (*sloped_function)(void*, const void*, Py_ssize_t, double, void*, void*) noexcept nogil


cdef inline void capped_slope_steps(
    const void* x, const void* grad, Py_ssize_t n, double cap, vec tag, void* y
) noexcept nogil:
    """y = grad times the slope of `capped` x; y may be either."""
    cdef Py_ssize_t k
    cdef vec slope
    for k in range(steps_of(n, tag)):
        capped(step_or_part(x, k, n, 0, tag), cap, &slope)
        store_or_part(mul(step_or_part(grad, k, n, 0, tag), slope), y, k, n)


cdef inline void capped_curve_steps(
    const void* x, const void* grad, Py_ssize_t n, double cap, const Diagonal* hessian, double least, vec tag,
    const void* curve, void* y
) noexcept nogil:
    """y = the second derivatives of `capped` x, from those and the gradient with respect to it; y may be `curve`."""
    cdef Py_ssize_t k
    cdef vec one = all_of(1, tag), zero = all_of(0, tag), floor = all_of(least, tag), h, t, slope
    for k in range(steps_of(n, tag)):
        t = mul(capped(step_or_part(x, k, n, 0, tag), cap, &slope), all_of(1 / cap, tag))
        t = mul(max_of(negative(one), min_of(one, t)), all_of(-2 / cap, tag))
        t = mul(mul(mul(step_or_part(grad, k, n, 0, tag), all_of(hessian.factor, tag)), t), slope)
        if hessian.convex:
            t = max_of(zero, t)
        h = step_or_part(curve, k, n, 0, tag)
        store_or_part(max_of(floor, fma_of(mul(h, slope), slope, t)), y, k, n)


cdef inline void capped_exp_gradient_steps(
    const void* x, Py_ssize_t n, double cap, vec magic, vec least_exp, double factor, double least, void* grad
) noexcept nogil:
    """`exp_gradient_steps` with a softcap; grad may be x."""
    cdef Py_ssize_t k
    cdef vec zero = all_of(0, magic), f = all_of(factor, magic), low_end = all_of(least, magic), e, slope
    for k in range(steps_of(n, magic)):
        e = exp_of(capped(step_or_part(x, k, n, 0, magic), cap, &slope), magic, least_exp)
        store_or_part(mul(mul(if_less(e, low_end, zero, e), f), slope), grad, k, n)


cdef inline vec scaled(vec x, vec scale, vec bias) noexcept nogil:
    """scale x + bias, and -inf itself: a masked class remains one."""
    cdef vec masked = all_of(-INFINITY, x)
    return if_equal(x, masked, masked, fma_of(scale, x, bias))


cdef inline vec of_classes(const void* array, Py_ssize_t k, Py_ssize_t n, vec other) noexcept nogil:
    """Step k of an array of n numbers, or what is in its place."""
    return other if array == NULL else step_or_part(array, k, n, 0, other)


cdef inline void scaled_steps(
    const void* x, Py_ssize_t n, double scale, double bias, const void* scales, const void* biases, vec tag, void* y
) noexcept nogil:
    """y = `scaled` x, by numbers, or by arrays in their place."""
    cdef Py_ssize_t k
    cdef vec a = all_of(scale, tag), b = all_of(bias, tag)
    for k in range(steps_of(n, tag)):
        store_or_part(
            scaled(step_or_part(x, k, n, 0, tag), of_classes(scales, k, n, a), of_classes(biases, k, n, b)), y, k, n
        )


cdef inline double scale_of(const ClassJob* job, Py_ssize_t j) noexcept nogil:
    """What x of class j is multiplied by,"""
    return per_sample(job, job.class_scale, j) if job.class_scale != NULL else job.input_scale


cdef inline double bias_of(const ClassJob* job, Py_ssize_t j) noexcept nogil:
    """and what is added to that."""
    return per_sample(job, job.class_bias, j) if job.class_bias != NULL else 0


cdef inline double read_as(const ClassJob* job, double x, Py_ssize_t j) noexcept nogil:
    """The bits that x of class j is read as."""
    cdef void* function = <void*>read_scaled_or_capped[f16] if job.float32 else <void*>read_scaled_or_capped[d8]
    return x if reads_as_is(job) else (<one_function>fastloss_out_of_line(function))(NULL, job, x, j)


cdef inline double read_scaled_or_capped(vec* type, const ClassJob* job, double x, Py_ssize_t j) noexcept nogil:
    cdef vec tag
    cdef vec y = all_of(x, tag), slope
    if is_scaled(job):
        y = scaled(y, all_of(scale_of(job, j), tag), all_of(bias_of(job, j), tag))
    return first(capped(y, job.softcap, &slope) if job.softcap != 0 else y)

ctypedef double (*one_function)(void*, const ClassJob*, double, Py_ssize_t) noexcept nogil


cdef inline double value_of(const ClassJob* job, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    """x of class j of sample i, as it is read."""
    return read_as(job, stored(job, job.x, job.storage, position_of(job, i) + j * job.inner), j)


cdef inline void multiplied_steps(
    const void* x, Py_ssize_t n, double factor, const void* factors, bint squared, double least, vec tag, void* y
) noexcept nogil:
    """y = x times a number, or an array in its place, or their squares; and at least `least`."""
    cdef Py_ssize_t k
    cdef vec a = all_of(factor, tag), floor = all_of(least, tag), f, p
    for k in range(steps_of(n, tag)):
        f = of_classes(factors, k, n, a)
        p = mul(step_or_part(x, k, n, 0, tag), f)
        p = mul(p, f) if squared else p
        store_or_part(max_of(floor, p), y, k, n)


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
    for k in range(steps_of(n, tag)):
        g = step_or_part(grad, k, n, 0, tag)
        p = step_or_part(x, k, n, 0, tag)
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
        scaled_steps(x, n, scale_of(job, j), bias_of(job, j), scales, biases, f, y)
    else:
        scaled_steps(x, n, scale_of(job, j), bias_of(job, j), scales, biases, d, y)
    return y


cdef inline const void* cap_row(
    const ClassJob* job, const void* x, Py_ssize_t j, Py_ssize_t n, Py_ssize_t apart, void* y, void* slopes
) noexcept nogil:
    """y = x as it is read, scaled and capped, whichever applies; `slopes`, of the cap, may be NULL."""
    cdef void* function
    if is_scaled(job):
        x = scale_row(job, x, j, n, apart, y)
    if job.softcap != 0 and slopes == NULL:
        function = <void*>capped_of[f16] if job.float32 else <void*>capped_of[d8]
        (<capped_function>fastloss_out_of_line(function))(NULL, x, n, job.softcap, y)
    elif job.softcap != 0:
        function = <void*>capped_with_slopes[f16] if job.float32 else <void*>capped_with_slopes[d8]
        (<sloped_function>fastloss_out_of_line(function))(NULL, x, n, job.softcap, y, slopes)
    return y

ctypedef const void* (*cap_function)(
    const ClassJob*, const void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, void*, void*
) noexcept nogil
