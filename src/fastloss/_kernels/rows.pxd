# rows: the class axis is contiguous and long. One sample at a time, WIDTH classes side by side.
#
# a) A sample is read in blocks of ROWS_BLOCK classes that stay in L1: maximum of the block, rescaling of the sums
#    if it rose, then the block's exponentials. So the value makes one trip through memory. In float64 every
#    rescaling would cost the sums a rounding: a sample of several blocks is first read for its maximum.
# b) What an exponential costs is multiplications, what a maximum costs is waiting: where no gradient is written, the
#    maximum of the next block, or row, is found by the loop that computes the exponentials of this one.
# c) The gradient of a sample that is one block reuses its exponentials; that of a longer one computes them again.
#    Only then are they stored: a store takes as long as three multiplications.
# d) The sums of each GROUP of steps continue in float64.

from libc.string cimport memset
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.classes cimport *
include "tuning.pxi"


cdef inline void prefetch_step(const real* x) noexcept nogil:
    """WIDTH numbers of a later block, or row, while this one is computed; harmless where x is a buffer."""
    cdef int k
    for k in range(<int>sizeof(real) * WIDTH // 64):
        fastloss_prefetch(x + (AHEAD + 64 * k) // <int>sizeof(real))
        fastloss_prefetch_l2(x + (FAR_AHEAD + 64 * k) // <int>sizeof(real))


cdef extern from "vector.h":
    double fastloss_sum_width(const double*) noexcept nogil
    float fastloss_exact_sum_width(const float*) noexcept nogil


cdef inline double sum_width(const real* lanes) noexcept nogil:
    """Sum of WIDTH numbers, in float64."""
    cdef double s[WIDTH]
    cdef int k
    if real is double:
        return fastloss_sum_width(lanes)
    else:
        for k in range(WIDTH):
            s[k] = lanes[k]
        return fastloss_sum_width(&s[0])


cdef inline double exact_sum_width(const real* lanes) noexcept nogil:
    """Sum of WIDTH integers that are exact in float32, as their sum is."""
    if real is float:
        return fastloss_exact_sum_width(lanes)
    else:
        return fastloss_sum_width(lanes)


cdef inline double sum_blocks(const real* c, Py_ssize_t n) noexcept nogil:
    """Sum of n numbers, n a multiple of WIDTH."""
    cdef double s[WIDTH]
    cdef Py_ssize_t j, k
    zero_width(s)
    for j in range(0, n, WIDTH):
        for k in range(WIDTH):
            s[k] += c[j + k]
    return sum_width(&s[0])


cdef inline real max_width(real* top) noexcept nogil:
    cdef int k
    for k in range(16):
        top[k] = top[k + 16] if top[k + 16] > top[k] else top[k]
    for k in range(8):
        top[k] = top[k + 8] if top[k + 8] > top[k] else top[k]
    for k in range(4):
        top[k] = top[k + 4] if top[k + 4] > top[k] else top[k]
    for k in range(1, 4):
        top[0] = top[k] if top[k] > top[0] else top[0]
    return top[0]


cdef inline real block_top(const real* x, Py_ssize_t n) noexcept nogil:
    """Maximum of n numbers, NaN aside; a tail runs through the WIDTH numbers before its end."""
    cdef real tops[WIDTH]
    cdef Py_ssize_t j, full = n - n % WIDTH
    cdef int k
    for k in range(WIDTH):
        tops[k] = <real>-INFINITY
    for j in range(0, full, WIDTH):
        max_step(x + j, tops)
    if full < n:
        max_step(x + n - WIDTH, tops)
    return max_width(tops)


cdef inline void tail_of(const real* end, Py_ssize_t n, real fill, real* tail) noexcept nogil:
    """The n < WIDTH numbers before `end`, behind `fill`s, so that they run as the others do.

    All WIDTH numbers before `end` are read, without a branch; a row has at least as many.
    """
    cdef int k
    for k in range(WIDTH):
        tail[k] = fill if k < WIDTH - <int>n else end[k - WIDTH]


cdef inline const real* coefficients(
    const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, real* mapped
) noexcept nogil:
    """w_j (scale c_j + shift) for n classes of row i, from j0 on: in place where that is c_j, otherwise `mapped`."""
    cdef const real* c = read_block(job.coefficient, job.coefficient_storage, i * job.classes + j0, n, mapped)
    cdef const real* w = <const real*>job.linear_weight
    cdef real scale = <real>job.coefficient_scale, shift = <real>job.coefficient_shift
    cdef Py_ssize_t j
    if w != NULL:
        for j in range(n):
            mapped[j] = w[j0 + j] * fma(scale, c[j], shift)
    elif scale != 1 or shift != 0:
        for j in range(n):
            mapped[j] = fma(scale, c[j], shift)
    else:
        return c
    return mapped


# A block of each, in L1: numbers of half precision, exponentials, coefficients. WIDTH numbers before them may be used
# as well, by a tail.
cdef struct Blocks:
    void* x
    void* e
    void* c
    const void* c_used             # the coefficients of the last block: c, or where they are in memory


# The numbers at x, whose maximum was found while those before them were computed.
cdef struct Ahead:
    const void* x
    double top


cdef inline void row_statistics(
    real* tag, ClassJob* job, Py_ssize_t i, Py_ssize_t l, int mode, bint keep, const real* next_row, Ahead* ahead,
    Blocks* blocks, Batch* batch
) noexcept nogil:
    """Maximum and sums of row i, into place l of the batch. With no finite maximum, `others` is NaN.

    The last block's coefficients and, if `keep`, its exponentials, scaled, are left in `blocks`.
    """
    cdef Py_ssize_t classes = job.classes, j0, g, j, n, full
    cdef const real* shared = <const real*>job.shared
    cdef real uniform = shared[0] if mode == UNIFORM else <real>0
    cdef const real* coefficient = <const real*>job.coefficient + i * classes
    cdef Py_ssize_t item = bytes_of(job.storage, tag)
    cdef const char* grad = <const char*>job.grad + i * classes * item  # what will be written when the row is done
    cdef const real* x
    cdef real* x_buffer = <real*>blocks.x
    cdef real* e = <real*>blocks.e
    cdef const real* c = NULL
    cdef real total[WIDTH]
    cdef real below[WIDTH]
    cdef real b[WIDTH]
    cdef double a[WIDTH]           # in float64: the gradient needs a - c_j where one c_j is nearly all of a
    cdef double sums[3][WIDTH]     # of total, a and b, a group at a time, and what rounding lost of them
    cdef double lost[3][WIDTH]
    cdef real tail[WIDTH]
    cdef real tail_c[WIDTH]
    cdef real mk[WIDTH]
    cdef real e_step[WIDTH]
    cdef real tops[WIDTH]
    cdef real m = <real>-INFINITY, block_max
    cdef const real* following     # what `ahead` will be: in float32 the next block, in float64 the next row
    cdef Py_ssize_t n_following, last
    cdef double s = 0, s_low = 0, count = 0, sum_a = 0, a_low = 0, sum_b = 0, b_low = 0, rise, ratio
    cdef int k
    cdef Py_ssize_t summed = 0     # SHARED: sum_a is over the first `summed` classes, and follows when it is needed
    if job.storage != NATIVE:
        for k in range(WIDTH):
            x_buffer[k - WIDTH] = <real>-INFINITY
    if real is double:
        x = <const real*>job.x + i * job.x_stride
        m = <real>ahead.top if ahead.x == x else block_top(x, classes)
        for k in range(WIDTH):
            tops[k] = <real>-INFINITY
    for j0 in range(0, classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, classes - j0)
        full = n - n % WIDTH
        x = read_block(job.x, job.storage, i * job.x_stride + j0, n, x_buffer)
        if mode == LINEAR:
            c = coefficients(job, i, j0, n, <real*>blocks.c)
        following = x
        n_following = n
        if real is float:
            block_max = <real>ahead.top if ahead.x == x else block_top(x, n)
            for k in range(WIDTH):
                tops[k] = <real>-INFINITY
            if job.storage == NATIVE and j0 + ROWS_BLOCK < classes:
                following = x + ROWS_BLOCK
                n_following = min(<Py_ssize_t>ROWS_BLOCK, classes - j0 - ROWS_BLOCK)
            elif next_row != NULL:
                following = next_row
                n_following = min(<Py_ssize_t>ROWS_BLOCK, classes)
        else:
            block_max = m
            if next_row != NULL:
                following = next_row + j0
        last = n_following - WIDTH
        if block_max > m:
            if m > <real>-INFINITY:
                rise = <double>block_max - <double>m
                ratio = exp_nonpositive(-rise)
                if mode == SHARED:
                    sum_a += sum_blocks(shared + summed, j0 - summed)
                    summed = j0
                if mode == UNIFORM:
                    sum_a = j0 * <double>uniform
                if mode == SHARED or mode == LINEAR or mode == UNIFORM:
                    sum_b -= sum_a * rise if sum_a != 0 else 0.0
                if mode == EXPECTED:
                    sum_b = ratio * (sum_b - rise * (s + count)) if ratio > 0 else 0.0
                    b_low *= ratio
                s = (s + count) * ratio
                s_low *= ratio
                count = 0
            m = block_max
        for k in range(WIDTH):
            mk[k] = m if m > <real>-INFINITY else <real>0
        zero_width(total)
        zero_width(below)
        zero_width(b)
        zero_width(a)
        for k in range(3 if mode != PLAIN else 1):
            zero_width(sums[k])
            if real is double:
                zero_width(lost[k])
        if full < n:  # first, for the loop writes the right exponentials over those of the fills
            tail_of(x + n, n - full, <real>-INFINITY, tail)
            exp_step(&tail[0], mk, total, below, e + n - WIDTH if keep else &e_step[0])
            if mode == EXPECTED:
                expected_step(&tail[0], mk, &e_step[0], b)
            if mode == UNIFORM:
                tail_of(x + n, n - full, mk[0], tail)
                uniform_step(&tail[0], mk, uniform, b)
            if mode == SHARED:
                tail_of(shared + j0 + n, n - full, <real>0, tail_c)
                shared_step(&tail[0], mk, &tail_c[0], b)
            if mode == LINEAR:
                tail_of(c + n, n - full, <real>0, tail_c)
                linear_step(&tail[0], mk, &tail_c[0], a, b)
        for g in range(0, n, GROUP * WIDTH):
            for j in range(g, min(g + GROUP * WIDTH, full), WIDTH):
                prefetch_step(x + j)
                if mode == LINEAR and job.coefficient_storage == NATIVE:
                    prefetch_step(coefficient + j0 + j)
                if keep and job.grad_storage != STREAMED:
                    for k in range(<int>sizeof(real) * WIDTH // 64):
                        fastloss_prefetch(grad + j * item + 64 * k)
                if not keep:
                    max_step(following + min(j, last), tops)
                exp_step(x + j, mk, total, below, e + j if keep else &e_step[0])
                if mode == EXPECTED:
                    expected_step(x + j, mk, &e_step[0], b)
                if mode == UNIFORM:
                    uniform_step(x + j, mk, uniform, b)
                if mode == SHARED:
                    shared_step(x + j, mk, shared + j0 + j, b)
                if mode == LINEAR and real is float:
                    linear_step(x + j, mk, c + j, a, b)
            if mode == LINEAR and real is double:  # beside the exponentials there are too few registers
                for j in range(g, min(g + GROUP * WIDTH, full), WIDTH):
                    linear_step(x + j, mk, c + j, a, b)
            for k in range(WIDTH):
                add_to(m, total[k], sums[0] + k, lost[0] + k)
                if mode == LINEAR and real is double:
                    add_to(m, a[k], sums[1] + k, lost[1] + k)
                if mode != PLAIN:
                    add_to(m, b[k], sums[2] + k, lost[2] + k)
            zero_width(total)
            zero_width(b)
            if real is double:
                zero_width(a)
        add_to(m, unscaled_sum(sum_width(&sums[0][0]), m), &s, &s_low)
        if real is double:
            s_low += unscaled_sum(sum_width(&lost[0][0]), m)
        count += <double>((n + WIDTH - 1) // WIDTH * WIDTH) - exact_sum_width(&below[0])
        if mode == LINEAR:
            two_sum(sum_width(&a[0]) + sum_width(&sums[1][0]), &sum_a, &a_low)
            if real is double:
                a_low += sum_width(&lost[1][0])
        if mode == LINEAR or mode == SHARED or mode == UNIFORM:
            two_sum(sum_width(&sums[2][0]), &sum_b, &b_low)
            if real is double:
                b_low += sum_width(&lost[2][0])
        if mode == EXPECTED:
            two_sum(unscaled_sum(sum_width(&sums[2][0]), m), &sum_b, &b_low)
            if real is double:
                b_low += unscaled_sum(sum_width(&lost[2][0]), m)
        if not keep:
            for j in range(full, n_following, WIDTH):
                max_step(following + min(j, last), tops)
            if real is float:
                ahead.x = following if following != x else NULL  # x may be a buffer
                ahead.top = max_width(tops)
    if real is double and not keep:
        ahead.x = next_row
        ahead.top = max_width(tops)
    blocks.c_used = c
    batch.top[l] = m
    batch.others[l] = (count - 1) + s
    if real is double:
        batch.others[l] = joined(batch.others[l], s_low)
    if job.op != LOGSUMEXP:
        batch.others[l] += <double>m - <double>m
    batch.a[l] = job.shared_sum if mode == SHARED or mode == UNIFORM else joined(sum_a, a_low)
    batch.b[l] = joined(sum_b, b_low)


cdef inline real exp_of_shifted(const real* x, const real* e, Py_ssize_t j, real m, bint again, real least) noexcept nogil:
    """exp(x_j - m), scaled, from e_j unless it has to be computed again; the same bits. 0 below `least`."""
    cdef real y = exp_scaled(x[j] - m) if again else e[j]
    return zero_below(y, y, least)


cdef inline void gradient_block(
    const real* x, const real* e, real m, bint again, int mode, const real* c, real a, real a_low, real others,
    real factor, real least, Py_ssize_t n, real* grad
) noexcept nogil:
    """n entries of a row's gradient; see `exp_of` for which of x and e is read."""
    cdef real uniform = c[0] if mode == UNIFORM else <real>0
    cdef Py_ssize_t j
    if mode == UNIFORM:
        for j in range(n):
            grad[j] = factor * linear_gradient(exp_of_shifted(x, e, j, m, again, least), uniform, a, a_low, others)
    elif mode == SHARED or mode == LINEAR:
        for j in range(n):
            grad[j] = factor * linear_gradient(exp_of_shifted(x, e, j, m, again, least), c[j], a, a_low, others)
    else:
        for j in range(n):
            grad[j] = factor * exp_of_shifted(x, e, j, m, again, least)


cdef inline void row_gradient(
    real* tag, ClassJob* job, Py_ssize_t i, Py_ssize_t l, int mode, double scale, Py_ssize_t t, real entry,
    const Wide* wide, const Blocks* blocks, Batch* batch
) noexcept nogil:
    """The gradient of one row, from `wide` unless NULL, or its softmax. grad may be x itself.

    `entry` is that of class t, unless t is -1.
    """
    cdef Py_ssize_t classes = job.classes, j0, j, n
    cdef double sum_c = batch.a[l] + batch.k[l], unit = exp_unit(<real>0)
    cdef double step = scale / (1 + batch.others[l]) * unit
    cdef real factor = <real>step
    cdef real least = least_that_counts(factor if mode == PLAIN else factor * <real>sum_c)
    cdef real a = <real>sum_c
    cdef real a_low = <real>(sum_c - a)
    cdef real others = <real>(batch.others[l] / unit)
    cdef real m = <real>batch.top[l]
    cdef const real* x
    cdef real* e = <real*>blocks.e
    cdef const real* c = <const real*>blocks.c_used
    cdef real* grad
    for j0 in range(0, classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, classes - j0)
        if mode == SHARED or mode == UNIFORM:
            c = <const real*>job.shared + j0
        grad = block_to_write(job.grad, job.grad_storage, i * classes + j0, e)
        if wide != NULL:
            x = read_block(job.x, job.storage, i * job.x_stride + j0, n, <real*>blocks.x)
            for j in range(n):
                grad[j] = wide_gradient(tag, job, wide, i, j0 + j, j0 + j == t, x[j])
        elif classes > ROWS_BLOCK:
            x = read_block(job.x, job.storage, i * job.x_stride + j0, n, <real*>blocks.x)
            if mode == LINEAR:
                c = coefficients(job, i, j0, n, <real*>blocks.c)
            gradient_block(x, e, m, True, mode, c, a, a_low, others, factor, least, n, grad)
        else:
            gradient_block(e, e, m, False, mode, c, a, a_low, others, factor, least, n, grad)
        if wide == NULL and j0 <= t and t < j0 + n:
            grad[t - j0] = entry
        write_block(grad, job.grad, job.grad_storage, i * classes + j0, n)


cdef inline void row_log_softmax(
    ClassJob* job, Py_ssize_t i, real m, double log_sum, const Blocks* blocks
) noexcept nogil:
    cdef Py_ssize_t j0, j, n
    cdef real high = 0, low = 0
    cdef const real* x
    cdef real* out
    log_sum_exp(m, log_sum, &high, &low)
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        x = read_block(job.x, job.storage, i * job.x_stride + j0, n, <real*>blocks.x)
        out = block_to_write(job.grad, job.grad_storage, i * job.classes + j0, <real*>blocks.e)
        for j in range(n):
            out[j] = log_softmax_of(x[j], high, low)
        write_block(out, job.grad, job.grad_storage, i * job.classes + j0, n)


cdef inline void row_loss(
    real* tag, ClassJob* job, Py_ssize_t i, Py_ssize_t l, int mode, int64_t t, const Blocks* blocks, Batch* batch
) noexcept nogil:
    """What a loss needs besides `row_statistics`, and its gradient; t is the label, or -1."""
    cdef double scale = 0, entry = 0, c_t = 0, others = batch.others[l], k = batch.k[l], a = batch.a[l]
    cdef real distance, unused = 0
    cdef Wide wide
    cdef bint wide_entries = False, plain = mode == PLAIN and job.unweighted, ordinary
    if t >= 0:
        batch.d[l] = read_one(job.x, job.storage, i * job.x_stride + t, tag) - batch.top[l]
    scale = gradient_scale(job, tag, i) if job.grad != NULL else 1.0
    ordinary = plain and batch.d[l] >= -1e90
    if not ordinary and (real is float or job.sample_weight == NULL):
        ordinary = is_ordinary(others, k, batch.d[l], a, batch.b[l], scale)
    if not ordinary and value_is_wide(
        unused, others, k, batch.d[l], a, batch.b[l], per_sample(<const real*>job.sample_weight, i)
    ):
        wide_statistics(tag, job, i, t, &wide)
        set_wide(batch, l, wide_value(job, &wide, i))
    if job.grad == NULL:
        return
    wide_entries = not ordinary and not plain and gradient_is_wide(unused, others, k, a, scale, mode != PLAIN)
    if wide_entries:
        wide_statistics(tag, job, i, t, &wide)
    elif t >= 0:
        distance = <real>(read_one(job.x, job.storage, i * job.x_stride + t, tag) - <real>batch.top[l])
        if mode == SHARED or mode == UNIFORM:
            c_t = (<const real*>job.shared)[t]
        entry = target_gradient(scale, k, a, c_t, unscaled_sum(exp_scaled(distance), unused), others)
    if mode == PLAIN:
        scale *= k
    row_gradient(tag, job, i, l, mode, scale, t, <real>entry, &wide if wide_entries else NULL, blocks, batch)


cdef inline void row_of(
    real* tag, ClassJob* job, Py_ssize_t i, Py_ssize_t l, int mode, bint more, Ahead* ahead, Blocks* blocks,
    Batch* batch
) noexcept nogil:
    """Statistics of sample i into place l of the batch; its gradient or output where job.grad is set.

    Whether there are `more` samples after it says if `ahead` can be filled from the next.
    """
    cdef Py_ssize_t classes = job.classes, bytes_of_row
    cdef const real* weight = <const real*>job.class_weight
    cdef int64_t t = -1
    cdef bint skipped = masked(job, i)
    cdef const real* next_row = NULL
    cdef bint exponentials = job.grad != NULL and job.op != LOG_SOFTMAX  # are used again
    batch.keep[l] = 1
    batch.k[l] = batch.d[l] = 0
    if job.labels != NULL:
        t = label_of(job, i)
        skipped = t == job.ignore_index
    if skipped:
        batch.top[l] = batch.others[l] = batch.a[l] = batch.b[l] = batch.keep[l] = 0
        if job.grad != NULL:
            bytes_of_row = classes * bytes_of(job.storage, tag)
            memset(<char*>job.grad + i * bytes_of_row, 0, bytes_of_row)
        return
    if t >= 0:
        batch.k[l] = job.index_scale * (<double>weight[t] if weight != NULL else 1.0)
    if more and job.storage == NATIVE and not exponentials:
        next_row = <const real*>job.x + (i + 1) * job.x_stride
    if mode != EXPECTED and exponentials and classes <= ROWS_BLOCK:
        row_statistics(tag, job, i, l, mode, True, next_row, ahead, blocks, batch)
    else:
        row_statistics(tag, job, i, l, mode, False, next_row, ahead, blocks, batch)
    if job.op == LOGSUMEXP:
        if not batch.top[l] < INFINITY:  # +inf gives +inf, unless the row also holds NaN
            batch.others[l] = sum_past_inf(job, tag, i * job.x_stride)
    elif job.op == SOFTMAX:
        row_gradient(tag, job, i, l, mode, 1, -1, 0, NULL, blocks, batch)
    elif job.op == LOG_SOFTMAX:
        row_log_softmax(job, i, <real>batch.top[l], log1p_nonnegative(batch.others[l]), blocks)
    elif job.op != ENTROPY_FROM_LOGITS:
        row_loss(tag, job, i, l, mode, t, blocks, batch)


cdef inline double row_entropy(real* buffer, ClassJob* job, Py_ssize_t i) noexcept nogil:
    """-sum p log p, with 0 log 0 = 0."""
    cdef real total[WIDTH]
    cdef real tail[WIDTH]
    cdef Py_ssize_t classes = job.classes, j0, j, n, full
    cdef const real* p
    cdef double s = 0, low = 0
    cdef int k
    for j0 in range(0, classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, classes - j0)
        full = n - n % WIDTH
        p = read_block(job.x, job.storage, i * job.x_stride + j0, n, buffer)
        zero_width(total)
        for j in range(0, full, WIDTH):
            for k in range(WIDTH):
                total[k] += entropy_term(p[j + k])
        if full < n:
            tail_of(p + n, n - full, <real>0, tail)
            for k in range(WIDTH):
                total[k] += entropy_term(tail[k])
        two_sum(sum_width(&total[0]), &s, &low)
    return joined(s, low)


cdef inline void rows_chunk(real* tag, ClassJob* job, Py_ssize_t chunk) noexcept nogil:
    """Samples [chunk * job.chunk, ...) of a job whose class axis is contiguous."""
    cdef Py_ssize_t first = chunk * job.chunk, start, l, count
    cdef Py_ssize_t last = min(first + job.chunk, job.samples)
    cdef void* memory = own_memory()
    cdef Py_ssize_t bytes_of_block = (WIDTH + ROWS_BLOCK) * sizeof(real)
    cdef float e_buffer[WIDTH + ROWS_BLOCK]
    cdef Blocks blocks
    cdef Batch batch
    cdef Ahead ahead
    cdef double total[LANES]
    cdef double low[LANES]
    blocks.x = <real*>part_of(memory, 0, bytes_of_block) + WIDTH
    blocks.c = <real*>part_of(memory, 1, bytes_of_block) + WIDTH
    if real is float:  # 8 KiB of the stack: with coefficients 5% less time
        blocks.e = e_buffer + WIDTH
    else:
        blocks.e = <real*>part_of(memory, 2, bytes_of_block) + WIDTH
    cdef Huge huge
    huge.total = huge.low = 0
    ahead.x = NULL
    ahead.top = 0
    for l in range(LANES):
        total[l] = low[l] = 0
    for start in range(first, last, LANES):
        count = min(<Py_ssize_t>LANES, last - start)
        batch.any_wide = False
        for l in range(count):
            if job.op == ENTROPY:
                (<real*>job.value)[start + l] = <real>row_entropy(<real*>blocks.x, job, start + l)
            elif job.op == ENTROPY_FROM_LOGITS:
                row_of(tag, job, start + l, l, EXPECTED, start + l + 1 < last, &ahead, &blocks, &batch)
            elif job.op != LOSS_LINEAR:
                row_of(tag, job, start + l, l, PLAIN, start + l + 1 < last, &ahead, &blocks, &batch)
            elif job.uniform:
                row_of(tag, job, start + l, l, UNIFORM, start + l + 1 < last, &ahead, &blocks, &batch)
            elif job.shared != NULL:
                row_of(tag, job, start + l, l, SHARED, start + l + 1 < last, &ahead, &blocks, &batch)
            else:
                row_of(tag, job, start + l, l, LINEAR, start + l + 1 < last, &ahead, &blocks, &batch)
        if job.op != ENTROPY:
            clear(&batch, count)
            finish(tag, job, start, count, 0, &batch, total, low, &huge)
    fastloss_stream_end()
    sum_lanes(total, low, LANES, &huge, job.partial + 3 * chunk)
