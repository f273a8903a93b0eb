# pointwise: losses of one element, in blocks that stay in L1; the formulas are in points.pxd.
#
# a) Blocks are in whole steps: where the last one is none, its arguments are copied and filled up.
# b) Weights of any broadcast shape are expanded block by block, never to the size of the input. They are multiplied in
#    the loop's type where each is 0 or of moderate size: then no product of them leaves that type. A sum takes the
#    product with the value in float64.
# c) Values are summed in WIDTH fixed float64 accumulators, without loss (two_sum); float32 values in fours, for
#    two plain additions, one ulp, are within the bound of the sum.
# d) An element is `odd` where its function is in doubt of it, or a weight is so large or small that the loop's type may
#    not hold what comes on the way to the result: its twin in `wide_real` computes it again. This depends on the
#    element alone, and so do its bits.

from libc.string cimport memcpy, memmove, memset
from fastloss._kernels.math cimport *
from fastloss._kernels.points cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.exact cimport *
include "tuning.pxi"

# A broadcast operand: element i is data[(i // period % rows) * row + (i % period) * column]; column is 0 or 1.
cdef struct Operand:
    const void* data               # NULL for ones
    Py_ssize_t period
    Py_ssize_t rows
    Py_ssize_t row
    bint column

ctypedef fused real_or_byte:
    float
    double
    uint8_t

cdef struct PointJob:
    const PointLoss* loss
    double options[2]              # numbers that the loss has
    bint float32
    const void* x
    int storage
    const void* y                  # target, or NULL
    int y_storage
    Py_ssize_t size
    Operand extra                  # of the loss, a weight or not
    Operand weight
    Operand sample_weight
    Operand mask                   # bytes, 0 where an element does not count
    Operand grad_output
    double grad_scale              # grad_output / divisor where these are one number
    double curve_scale             # the same times hessian.factor
    wide_real wide_scale         # grad_scale, which may leave the range of float64
    bint weighted                  # a factor may be larger than 1: what is flushed to 0 could count
    bint odd                       # all elements are
    double least_weight            # what is neither in between nor 0 is odd; an extra weight by `greatest_extra` alone
    double greatest_weight
    double greatest_extra
    void* value                    # as x, or NULL
    int value_storage
    void* grad                     # as x, or NULL
    int grad_storage
    Diagonal hessian
    double filler_x                # what x and y are where they do not count, in the domain
    double filler_y
    const Py_ssize_t* shape        # of x, where its targets are distributions
    int ndim
    double* masses                 # (chunks,), the sums of targets; or NULL
    double few[FEW_CHUNKS]         # where few chunks have them
    bint checked                   # targets are
    bint check                     # only that, without a result
    int outside                    # set where an element is outside of what the operation is defined on
    Py_ssize_t chunk
    bint ahead                     # what is only read is asked for ahead
    int64_t* exact                 # (EXACT_COUNTS,), what the digits of an exact sum are added to, or NULL
    int64_t* digits                # (chunks, EXACT_COUNTS), where there is one
    double* partial


cdef inline Py_ssize_t block_size(real* tag) noexcept nogil:
    """How many numbers a block has."""
    return POINTWISE_BLOCK * <Py_ssize_t>sizeof(float) // <Py_ssize_t>sizeof(real)


cdef inline const void* expanded(
    const Operand* operand, Py_ssize_t first, Py_ssize_t n, real_or_byte* buffer
) noexcept nogil:
    cdef const real_or_byte* data = <const real_or_byte*>operand.data
    cdef Py_ssize_t row, offset, done = 0, m, k
    if not operand.column and operand.row == 0:
        for k in range(n):
            buffer[k] = data[0]
        return buffer
    row = first // operand.period
    offset = first - row * operand.period
    row %= operand.rows
    data += row * operand.row
    if operand.column and offset + n <= operand.period:
        return data + offset
    while done < n:
        m = min(n - done, operand.period - offset)
        if operand.column:
            memcpy(buffer + done, data + offset, m * sizeof(real_or_byte))
        else:
            for k in range(done, done + m):
                buffer[k] = data[0]
        done += m
        offset = 0
        row = row + 1 if row + 1 < operand.rows else 0
        data = <const real_or_byte*>operand.data + row * operand.row
    return buffer

ctypedef const void* (*expand_function)(const Operand*, Py_ssize_t, Py_ssize_t, void*) noexcept nogil


cdef inline const real_or_byte* expand(
    const Operand* operand, Py_ssize_t first, Py_ssize_t n, real_or_byte* buffer
) noexcept nogil:
    """n elements of the operand from `first` on: in place where they are contiguous, otherwise in `buffer`."""
    if operand.column and first + n <= operand.period:
        return <const real_or_byte*>operand.data + first
    return <const real_or_byte*>(<expand_function>fastloss_out_of_line(<void*>expanded[real_or_byte]))(
        operand, first, n, buffer
    )


cdef inline real weight_at(const Operand* operand, Py_ssize_t i, real* tag) noexcept nogil:
    """Element i, 1 where there is no operand."""
    if operand.data == NULL:
        return 1
    return (<const real*>operand.data)[
        i // operand.period % operand.rows * operand.row + (i % operand.period if operand.column else 0)
    ]


cdef inline bint is_outside_sizes(real x, double least, double greatest) noexcept nogil:
    """Whether a number is NaN, or larger than `greatest`, or smaller than `least` and not 0, whatever its sign."""
    return not (x == <real>0 or <real>least <= absolute(x) <= <real>greatest)


cdef inline vec outside_sizes(vec tag, const void* x, Py_ssize_t steps, double least, double greatest) noexcept nogil:
    """A step that is not 0 if there is such a number, NaN aside."""
    cdef vec zero = all_of(0, tag), one = all_of(1, tag), high = zero, low = all_of(greatest, tag), top = low, size
    cdef Py_ssize_t k
    for k in range(steps):
        size = absolute_of(load(x, k, tag))
        high = max_of(size, high)
        if least > 0:
            low = min_of(if_equal(size, zero, top, size), low)
    return either(if_less(top, high, one, zero), if_less(low, all_of(least, low), one, zero))


cdef inline bint any_outside_sizes(const real* x, Py_ssize_t n, double least, double greatest) noexcept nogil:
    """Whether there is one among whole steps that hold n numbers."""
    if real is float:
        return any_of(outside_sizes(f16_all(0), x, (n + 15) // 16, least, greatest))
    else:
        return any_of(outside_sizes(d8_all(0), x, (n + 7) // 8, least, greatest))


cdef inline const real* where_counted(
    const real* x, const uint8_t* mask, real other, Py_ssize_t n, real* buffer
) noexcept nogil:
    """x where the mask is not 0, elsewhere `other`, in `buffer`, which may be x."""
    cdef Py_ssize_t k
    for k in range(n):
        buffer[k] = x[k] if mask[k] != 0 else other
    return buffer


cdef inline const real* in_steps(const real* x, Py_ssize_t n, real other, real* buffer) noexcept nogil:
    """x, or a copy in `buffer`, which may be x, that goes on with `other` to the end of a step."""
    cdef Py_ssize_t k, rest = -n % (64 // <Py_ssize_t>sizeof(real))
    rest = rest + 64 // <Py_ssize_t>sizeof(real) if rest < 0 else rest
    if rest == 0:
        return x
    memmove(buffer, x, n * sizeof(real))
    for k in range(n, n + rest):
        buffer[k] = other
    return buffer


# What multiplies the elements of a block, NULL for ones; the last two are products of those that apply.
cdef struct Weights:
    const void* extra
    const void* of_value
    const void* of_grad


cdef inline bint expand_weights(
    real* tag, const PointJob* job, Py_ssize_t first, Py_ssize_t n, const uint8_t* mask, real* buffer, Weights* weights
) noexcept nogil:
    """The weights of a block, in 4 blocks of `buffer` where they are not in place; whether one of them is odd.

    What does not count has sample weight 0.
    """
    cdef const Operand* operands[4]
    cdef const real* w
    cdef const real* product = NULL
    cdef bint odd = False
    cdef int j
    cdef Py_ssize_t k
    operands[0] = &job.extra
    operands[1] = &job.weight
    operands[2] = &job.sample_weight
    operands[3] = &job.grad_output
    for j in range(4):
        w = NULL
        if operands[j].data != NULL:
            w = expand(operands[j], first, n, buffer)
            if mask != NULL:
                w = where_counted(w, mask, <real>(j != 2), n, buffer)
            w = in_steps(w, n, <real>1, buffer)
            if j > 0:
                odd |= any_outside_sizes(w, n, job.least_weight, job.greatest_weight)
            else:
                odd |= any_outside_sizes(w, n, 1 / job.greatest_extra, job.greatest_extra)
        elif mask != NULL and j == 2:
            for k in range(n):
                buffer[k] = <real>(mask[k] != 0)
            w = buffer
        if j == 0:
            weights.extra = w
        elif w == NULL or product == NULL:
            product = w if product == NULL else product
        else:
            for k in range(n):
                buffer[k] = product[k] * w[k]
            product = buffer
        if j == 2:
            weights.of_value = product
        buffer += block_size(tag)
    weights.of_grad = product
    return odd


cdef inline bint any_doubt(const void* doubt, real* tag) noexcept nogil:
    if real is float:
        return any_of((<const f16*>doubt)[0])
    else:
        return any_of((<const d8*>doubt)[0])


cdef inline void note_doubts(
    real* tag, block_function function, const Points* block, uint8_t* doubts
) noexcept nogil:
    """Which elements of a block are in doubt: step by step, each number of the doubt is one element's."""
    cdef f16 doubt
    cdef const real* d = <const real*>&doubt
    cdef Points step = block[0]
    cdef Py_ssize_t i, k, n = 64 // <Py_ssize_t>sizeof(real)
    step.steps = 1
    for i in range(block.steps):
        step.x = <const real*>block.x + i * n
        step.y = <const real*>block.y + i * n
        step.extra = <const real*>block.extra + i * n if block.extra != NULL else NULL
        step.value = <real*>block.value + i * n
        step.slope = <real*>block.slope + i * n if block.slope != NULL else NULL
        step.curve = <real*>block.curve + i * n if block.curve != NULL else NULL
        function(&doubt, &step)
        for k in range(n):
            doubts[i * n + k] = d[k] != <real>0


cdef inline void odd_block(
    real* tag, const PointJob* job, block_function function, bint in_doubt, const Points* block,
    const Weights* weights, const uint8_t* mask, Py_ssize_t first, Py_ssize_t n, double* total, double* low, Huge* huge
) noexcept nogil:
    """A block in which elements may be odd: weights applied to value, slope and curve, values added."""
    cdef const real* x = <const real*>block.x
    cdef const real* y = <const real*>block.y
    cdef real* value = <real*>block.value
    cdef real* slope = <real*>block.slope
    cdef real* curve = <real*>block.curve
    cdef const real* of_value = <const real*>weights.of_value
    cdef const real* of_grad = <const real*>weights.of_grad
    cdef wide_real factor, wide_value
    cdef Point point
    cdef real extra, weight, sample_weight, grad_output, scale = <real>job.grad_scale
    cdef double least = job.least_weight, greatest = job.greatest_weight
    cdef uint8_t doubts[POINTWISE_BLOCK]
    cdef Py_ssize_t k
    cdef bint odd
    point.options = block.options
    point.convex = block.convex
    memset(doubts, 0, sizeof(doubts))
    if in_doubt:
        note_doubts(tag, function, block, &doubts[0])
    for k in range(n):
        extra = weight = sample_weight = grad_output = 1
        if mask != NULL and mask[k] == 0:
            sample_weight = 0
        else:
            extra = weight_at(&job.extra, first + k, tag)
            weight = weight_at(&job.weight, first + k, tag)
            sample_weight = weight_at(&job.sample_weight, first + k, tag)
            grad_output = weight_at(&job.grad_output, first + k, tag)
        odd = doubts[k] and (value[k] == value[k] or x[k] == x[k] and y[k] == y[k])
        odd |= is_outside_sizes(extra, 1 / job.greatest_extra, job.greatest_extra)
        odd |= is_outside_sizes(weight, least, greatest)
        odd |= is_outside_sizes(sample_weight, least, greatest) or is_outside_sizes(grad_output, least, greatest)
        if job.odd or odd:
            point.x = x[k]
            point.y = y[k]
            point.extra = extra
            job.loss.wide(&point)
            factor = times(weight, sample_weight)
            wide_value = weighted(point.value, factor)
            if job.grad != NULL:
                factor = times(times(factor, grad_output), job.wide_scale)
                slope[k] = <real>weighted(point.slope, factor) if mask == NULL or mask[k] != 0 else 0
            if curve != NULL:
                curve[k] = <real>(weighted(point.curve, factor) * job.hessian.factor)
            value[k] = <real>wide_value
        else:
            if job.grad != NULL:
                slope[k] = slope[k] * of_grad[k] * scale if of_grad != NULL else slope[k] * scale
            if curve != NULL:
                curve[k] = curve[k] * (of_grad[k] if of_grad != NULL else <real>1) * <real>job.curve_scale
            wide_value = <double>value[k] * (of_value[k] if of_value != NULL else <real>1)
            if of_value != NULL:
                value[k] *= of_value[k]
        if job.value == NULL:
            add_wide(wide_value, total + k % WIDTH, low + k % WIDTH, huge)
        if job.digits != NULL:
            add_exactly(<double>wide_value, job.digits + first // job.chunk * EXACT_COUNTS)

ctypedef void (*odd_function)(
    void*, const PointJob*, block_function, bint, const Points*, const Weights*, const uint8_t*, Py_ssize_t, Py_ssize_t,
    double*, double*, Huge*
) noexcept nogil


cdef inline d8 wide(const real* a, const real* weight, Py_ssize_t k) noexcept nogil:
    """Eight numbers in float64, times their weights unless NULL."""
    cdef d8 y
    if real is float:
        y = d8_of_floats(a + k)
        return y if weight == NULL else mul(y, d8_of_floats(weight + k))
    else:
        y = d8_load(a + k)
        return y if weight == NULL else mul(y, d8_load(weight + k))


cdef inline d8 minus_of(d8 a, d8 b) noexcept nogil:
    """`minus` of math.pxd."""
    return fma_of(b, d8_all(-1), a) if fastloss_fused else sub(a, b)


cdef inline void two_sums(d8 s, double* total, double* low) noexcept nogil:
    """`two_sum` of eight accumulators."""
    cdef d8 before = d8_load(total), t = add(before, s), z = minus_of(t, before)
    d8_store(add(d8_load(low), add(minus_of(before, minus_of(t, z)), minus_of(s, z))), low)
    d8_store(t, total)


cdef inline void add_block(
    const real* value, const real* weight, Py_ssize_t n, double* total, double* low
) noexcept nogil:
    """Add values, times their weights unless NULL, to WIDTH accumulators; n is a multiple, in float32 of four times."""
    cdef Py_ssize_t j, k
    if real is float:
        for j in range(0, n, 4 * WIDTH):
            for k in range(0, WIDTH, 8):
                two_sums(
                    add(
                        add(wide(value, weight, j + k), wide(value, weight, j + WIDTH + k)),
                        add(wide(value, weight, j + 2 * WIDTH + k), wide(value, weight, j + 3 * WIDTH + k)),
                    ),
                    total + k, low + k,
                )
    else:
        for j in range(0, n, WIDTH):
            for k in range(0, WIDTH, 8):
                two_sums(wide(value, weight, j + k), total + k, low + k)


cdef inline void add_values(
    real* value, const real* weight, Py_ssize_t n, real* buffer, double* total, double* low
) noexcept nogil:
    """`add_block` of any n; value, and weight in `buffer`, are filled up with zeros."""
    cdef Py_ssize_t step = 4 * WIDTH if real is float else WIDTH, full = (n + step - 1) // step * step
    if full > n:
        memset(value + n, 0, (full - n) * sizeof(real))
        if weight != NULL:
            memmove(buffer, weight, n * sizeof(real))
            memset(buffer + n, 0, (full - n) * sizeof(real))
            weight = buffer
    if weight == NULL:
        add_block(value, <const real*>NULL, full, total, low)
    else:
        add_block(value, weight, full, total, low)


cdef inline int domain_of(const PointJob* job) noexcept nogil:
    """What is asked of the elements."""
    return job.loss.domain if job.checked else job.loss.domain & ~CHECKABLE


cdef inline vec not_within(
    vec tag, const void* x, Py_ssize_t steps, double least, double most
) noexcept nogil:
    """A step that is not 0 if a number is not in [least, most], NaN aside."""
    cdef vec low = all_of(least, tag), high = all_of(most, tag), p
    cdef Py_ssize_t k
    for k in range(steps):
        p = load(x, k, tag)
        low = min_of(p, low)
        high = max_of(p, high)
    return either(if_less_than(low, least), if_more(high, most))


cdef inline bint any_not_within(
    const real* x, Py_ssize_t steps, double least, double most, const real* weight
) noexcept nogil:
    """Whether there is one among whole steps that has a weight, 1 for NULL."""
    cdef Py_ssize_t k
    cdef real p
    cdef bint found
    if real is float:
        found = any_of(not_within(f16_all(0), x, steps, least, most))
    else:
        found = any_of(not_within(d8_all(0), x, steps, least, most))
    if not found or weight == NULL:
        return found
    for k in range(steps * (64 // <Py_ssize_t>sizeof(real))):
        p = x[k]
        if (p < <real>least or p > <real>most) and weight[k] != <real>0:
            return True
    return False


ctypedef bint (*not_within_function)(const void*, Py_ssize_t, double, double, const void*) noexcept nogil


cdef inline bint any_outside(real* tag, int domain, const Points* block, const real* weight) noexcept nogil:
    """Whether an element is where the loss is not defined, or a target cannot be meant and has a weight."""
    cdef const real* x = <const real*>block.x
    cdef const real* y = <const real*>block.y
    cdef const real* extra = <const real*>block.extra
    cdef not_within_function not_within = <not_within_function>fastloss_out_of_line(<void*>any_not_within[real])
    return domain & UNIT_INTERVAL and not_within(x, block.steps, 0, 1, NULL) \
        or domain & NOT_NEGATIVE and not_within(extra, block.steps, 0, INFINITY, NULL) \
        or domain & LOG_PROBABILITY and not_within(x, block.steps, -INFINITY, log_one(), weight) \
        or domain & LOG_TARGET and not_within(y, block.steps, -INFINITY, log_one(), weight) \
        or domain & PROBABILITY and not_within(y, block.steps, 0, 1, weight) \
        or domain & COUNT and not_within(y, block.steps, 0, INFINITY, weight)


cdef inline void sum_targets(real* tag, const Points* block) noexcept nogil:
    """Into `mass`, as the function does that computes the loss."""
    cdef f16 f = f16_all(0)
    cdef d8 d = d8_all(0)
    cdef Py_ssize_t k
    for k in range(block.steps):
        if real is float:
            f = add(f, load(block.y, k, f))
        else:
            d = add(d, load(block.y, k, d))
    if real is float:
        store(f, block.mass, 0)
    else:
        store(d, block.mass, 0)


cdef inline d8 sum_of_step(const void* mass, real* tag) noexcept nogil:
    if real is float:
        return d8_of_halves(load(mass, 0, f16_all(0)))
    else:
        return d8_load(<const double*>mass)


cdef inline void write_gradient(
    const PointJob* job, real* slope, const real* weight, bint complete, Py_ssize_t first, Py_ssize_t n
) noexcept nogil:
    """Slopes times what multiplies them, unless they are `complete`."""
    cdef real* grad = block_to_write(job.grad, job.grad_storage, first, slope)
    cdef real scale = <real>job.grad_scale
    cdef Py_ssize_t k
    if complete:
        memmove(grad, slope, n * sizeof(real))
    elif weight != NULL:
        for k in range(n):
            grad[k] = slope[k] * weight[k] * scale
    else:
        for k in range(n):
            grad[k] = slope[k] * scale
    write_block(grad, job.grad, job.grad_storage, first, n)


cdef inline void write_curve(
    const PointJob* job, real* curve, const real* weight, const uint8_t* mask, bint complete, Py_ssize_t first,
    Py_ssize_t n
) noexcept nogil:
    """The same of second derivatives; at least the floor, where they count."""
    cdef real* hess = block_to_write(job.hessian.data, job.hessian.storage, first, curve)
    cdef real scale = <real>job.curve_scale, floor = <real>job.hessian.floor
    cdef Py_ssize_t k
    if weight != NULL and not complete:
        for k in range(n):
            curve[k] *= weight[k]
    if complete:
        scale = 1
    for k in range(n):
        hess[k] = floor if curve[k] * scale < floor else curve[k] * scale
    if mask != NULL:
        for k in range(n):
            hess[k] = hess[k] if mask[k] != 0 else <real>0
    write_block(hess, job.hessian.data, job.hessian.storage, first, n)


cdef inline const uint8_t* read_points(
    real* tag, const PointJob* job, Py_ssize_t first, Py_ssize_t n, real* x_buffer, real* y_buffer,
    uint8_t* mask_buffer, Points* block
) noexcept nogil:
    """n elements of the arguments from `first` on, in whole steps; their mask, or NULL."""
    cdef const uint8_t* mask = NULL
    cdef const real* x = read_block(job.x, job.storage, first, n, x_buffer)
    cdef const real* y = read_block(job.y, job.y_storage, first, n, y_buffer) if job.y != NULL else x
    if job.mask.data != NULL:  # what does not count is an ordinary element of weight 0
        mask = expand(&job.mask, first, n, mask_buffer)
        x = where_counted(x, mask, <real>job.filler_x, n, x_buffer)
        y = where_counted(y, mask, <real>job.filler_y, n, y_buffer)
    block.x = in_steps(x, n, <real>job.filler_x, x_buffer)
    block.y = in_steps(y, n, <real>job.filler_y, y_buffer)
    block.steps = (n * sizeof(real) + 63) // 64
    return mask


cdef inline void set_block(
    PointJob* job, real* slope, real* curve, real* room, void* mass, Points* block
) noexcept nogil:
    """What is the same for all blocks of a job: where the function leaves what it computes, and how."""
    block.slope = slope if job.grad != NULL else NULL
    block.curve = curve if job.hessian.data != NULL else NULL
    block.convex = job.hessian.convex
    block.checked = job.checked
    block.mass = mass
    block.first = room
    block.second = room + block_size(room)
    block.third = room + 2 * block_size(room)
    block.fourth = room + 3 * block_size(room)
    block.options = &job.options[0]
    block.weighted = job.weighted
    block.careful = False


cdef inline void prefetch(real* tag, const void* data, int storage, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """What lies a page ahead of n elements of an argument, or nothing for NULL."""
    cdef Py_ssize_t size = sizeof(real) if storage == NATIVE else 2, k
    if data != NULL:
        for k in range(0, n * size, 64):
            fastloss_prefetch(<const char*>data + first * size + 4096 + k)


cdef inline void pointwise_chunk(real* tag, PointJob* job, Py_ssize_t chunk) noexcept nogil:
    """Elements [chunk * job.chunk, ...) of a job."""
    cdef Py_ssize_t first = chunk * job.chunk, size = block_size(tag), part, i, n, k
    cdef Py_ssize_t last = min(first + job.chunk, job.size)
    cdef f16 buffers[13 * POINTWISE_STEPS]  # steps, for they are aligned
    cdef real* x_buffer = <real*>&buffers[0]
    cdef real* y_buffer = x_buffer + size
    cdef real* buffer = x_buffer + 2 * size
    cdef real* slope = x_buffer + 3 * size
    cdef real* curve = x_buffer + 4 * size
    cdef real* room = x_buffer + 5 * size
    cdef real* of_weights = x_buffer + 9 * size
    cdef uint8_t mask_buffer[POINTWISE_BLOCK]
    cdef const uint8_t* mask
    cdef const real* of_value
    cdef real* value
    cdef real weight
    cdef double total[WIDTH]
    cdef double low[WIDTH]
    cdef double odd_sums[2 * WIDTH]
    cdef Huge huge
    cdef f16 doubt                 # or d8
    cdef f16 mass                  # likewise
    cdef d8 masses = d8_all(0)
    cdef Points block
    cdef Weights weights
    cdef bint odd, in_doubt, whole
    cdef block_function function = function_of(job.loss, sizeof(real) == 4)
    job.partial[3 * chunk] = job.partial[3 * chunk + 1] = job.partial[3 * chunk + 2] = 0
    if job.value == NULL:  # values are summed
        huge.total = huge.low = 0
        memset(total, 0, sizeof(total))
        memset(low, 0, sizeof(low))
    memset(&weights, 0, sizeof(weights))
    set_block(job, slope, curve, room, &mass, &block)
    for part in range((last - first + size - 1) // size):
        i = first + part * size
        n = min(size, last - i)
        if job.ahead and job.grad == NULL and job.value == NULL:
            prefetch(tag, job.x, job.storage, i, n)
            prefetch(tag, job.y, job.y_storage, i, n)
        mask = read_points(tag, job, i, n, x_buffer, y_buffer, &mask_buffer[0], &block)
        odd = job.odd
        if job.weighted or job.extra.data != NULL:
            odd |= expand_weights(tag, job, i, n, mask, of_weights, &weights)
        of_value = <const real*>weights.of_value
        whole = n * sizeof(real) % 64 == 0
        value = buffer
        if job.value != NULL and whole:
            value = block_to_write(job.value, job.value_storage, i, buffer)
        block.value = value
        block.extra = weights.extra
        in_doubt = job.check
        if not in_doubt:
            function(&doubt, &block)
            in_doubt = any_doubt(&doubt, tag)
        elif job.masses != NULL:
            sum_targets(tag, &block)
        if job.masses != NULL:
            masses = add(masses, sum_of_step(&mass, tag))
        if in_doubt and any_outside(tag, domain_of(job), &block, of_value):
            fastloss_raise_flag(&job.outside)
            break
        if job.check:
            continue
        if in_doubt and not block.careful:
            block.careful = True
            function(&doubt, &block)
            in_doubt = any_doubt(&doubt, tag)
        if odd or in_doubt:
            # On copies: what other functions know the address of, loops do not keep in registers.
            memcpy(odd_sums, total, sizeof(total))
            memcpy(odd_sums + WIDTH, low, sizeof(low))
            (<odd_function>fastloss_out_of_line(<void*>odd_block[real]))(
                NULL, job, function, in_doubt, &block, &weights, mask, i, n, odd_sums, odd_sums + WIDTH, &huge
            )
            memcpy(total, odd_sums, sizeof(total))
            memcpy(low, odd_sums + WIDTH, sizeof(low))
        elif job.value == NULL:
            if job.digits != NULL:
                for k in range(n):
                    weight = of_value[k] if of_value != NULL else <real>1
                    add_exactly(<double>value[k] * weight, job.digits + chunk * EXACT_COUNTS)
            add_values(value, of_value, n, of_weights + 3 * size, &total[0], &low[0])
        elif of_value != NULL:
            for k in range(n):
                value[k] *= of_value[k]
        if job.hessian.data != NULL:
            write_curve(job, curve, <const real*>weights.of_grad, mask, odd or in_doubt, i, n)
        if job.grad != NULL:
            write_gradient(job, slope, <const real*>weights.of_grad, odd or in_doubt, i, n)
        if job.value != NULL:
            if not whole and job.value_storage == NATIVE:
                memcpy(<real*>job.value + i, value, n * sizeof(real))
            write_block(value, job.value, job.value_storage, i, n)
    fastloss_stream_end()
    if job.masses != NULL:
        job.masses[chunk] = d8_sum(masses)
    if job.value == NULL:
        sum_lanes(&total[0], &low[0], WIDTH, &huge, job.partial + 3 * chunk)
