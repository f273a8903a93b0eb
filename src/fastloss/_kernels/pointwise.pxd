# pointwise: value and derivative from one element, in blocks that stay in L1.
#
# a) A loss is one branch of `point_block`, value[k] and slope[k]; nothing else knows its formula. Only BCE has a
#    second one, for blocks whose targets are all 0 or 1. Where two terms are added, what rounding lost of each is
#    carried along, so that the result is rounded about once.
# b) Weights of any broadcast shape are expanded block by block, never to the size of the input. They are multiplied in
#    the loop's type where each is 0 or of moderate size: then no product of them leaves that type. A sum takes the
#    product with the value in float64.
# c) Values are summed in WIDTH fixed float64 accumulators, without loss (two_sum); float32 values in fours, for
#    two plain additions, one ulp, are within the bound of the sum.
# d) What only rare elements need, such as those whose exponential is 0 or whose logarithm is cut off, is a quarter of
#    some loops: a block is computed without it, the loop notes whether it met such an element, and then the block is
#    computed again with it. Either way an element's bits are the same.
# e) An element is `odd` where its value or a weight is so large or small that the loop's type may not hold what comes
#    on the way to the result: `wide_point` computes it again. This depends on the element alone, and so do its bits.
# f) Exponential, division and the rest stand in loops of their own: in one, fewer elements would fit the processor's
#    queues than it takes to hide what each waits for.

from libc.string cimport memcpy, memmove, memset
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.classes cimport *
include "tuning.pxi"

cdef enum:
    MSE, BCE, BCE_OF_LABELS, BCE_WITH_LOGITS, BCE_WITH_LOGITS_POS_WEIGHT, KL_DIV, KL_DIV_LOG_TARGET, SIGMOID,
    LOGSIGMOID, IDENTITY, UNIT_INTERVAL

# A broadcast operand: element i is data[(i // period % rows) * row + (i % period) * column]; column is 0 or 1.
cdef struct Operand:
    const void* data               # NULL for ones
    Py_ssize_t period
    Py_ssize_t rows
    Py_ssize_t row
    bint column

# Also of bytes, for the mask.
ctypedef fused element:
    float
    double
    uint8_t

cdef struct PointJob:
    int op
    bint float32
    const void* x
    int storage
    const void* y                  # target, or NULL
    int y_storage
    Py_ssize_t size
    Operand pos_weight
    Operand weight
    Operand sample_weight
    Operand mask                   # bytes, 0 where an element does not count
    Operand grad_output
    double grad_scale              # grad_output / divisor where these are one number
    long double wide_scale         # the same, which may leave the range of float64
    bint weighted                  # a factor may be larger than 1: what is flushed to 0 could count
    bint odd                       # all elements are
    double least_weight            # what is neither in between nor 0 is odd
    double greatest_weight
    void* value                    # as x, or NULL
    int value_storage
    void* grad                     # as x, or NULL
    int grad_storage
    int outside                    # set where an element is outside the interval that the operation is defined on
    Py_ssize_t chunk
    double* partial


cdef inline const element* expand(
    const Operand* operand, Py_ssize_t first, Py_ssize_t n, element* buffer
) noexcept nogil:
    """n elements of the operand from `first` on: in place where they are contiguous, otherwise in `buffer`."""
    cdef const element* data
    cdef Py_ssize_t row = first // operand.period, offset = first - row * operand.period, done = 0, m, k
    row %= operand.rows
    data = <const element*>operand.data + row * operand.row
    if operand.column and offset + n <= operand.period:
        return data + offset
    while done < n:
        m = min(n - done, operand.period - offset)
        if operand.column:
            memcpy(buffer + done, data + offset, m * sizeof(element))
        else:
            for k in range(done, done + m):
                buffer[k] = data[0]
        done += m
        offset = 0
        row = row + 1 if row + 1 < operand.rows else 0
        data = <const element*>operand.data + row * operand.row
    return buffer


cdef inline bint any_outside_sizes(const real* x, Py_ssize_t n, real least, real greatest) noexcept nogil:
    """Whether a number is NaN, larger than `greatest`, or smaller than `least` and not 0, whatever its sign."""
    cdef Bits32 b32, least32, greatest32
    cdef Bits64 b64, least64, greatest64
    cdef uint32_t smallest32 = -1, largest32 = 0  # the smallest less 1, so that 0 is none
    cdef uint64_t outside64 = 0    # the sign bit
    cdef Py_ssize_t k
    if real is float:
        least32.f = least
        greatest32.f = greatest
        if least32.u == 0:
            for k in range(n):
                b32.f = absolute(x[k])
                largest32 = b32.u if b32.u > largest32 else largest32
            return largest32 > greatest32.u
        for k in range(n):
            b32.f = absolute(x[k])
            largest32 = b32.u if b32.u > largest32 else largest32
            smallest32 = b32.u - 1 if b32.u - 1 < smallest32 else smallest32
        return largest32 > greatest32.u or smallest32 < least32.u - 1
    else:
        least64.f = least
        greatest64.f = greatest
        if least64.u == 0:
            for k in range(n):
                b64.f = absolute(x[k])
                outside64 |= greatest64.u - b64.u
            return outside64 >> 63 != 0
        for k in range(n):
            b64.f = absolute(x[k])
            outside64 |= (greatest64.u - b64.u) | ((b64.u - least64.u) & (0 - b64.u))
        return outside64 >> 63 != 0


cdef inline bint is_outside_sizes(real x, real least, real greatest) noexcept nogil:
    return not (x == <real>0 or least <= absolute(x) <= greatest)


# What multiplies the elements of a block, NULL for ones; of_value and of_grad are products of others.
cdef struct Weights:
    const void* pos_weight
    const void* weight
    const void* sample_weight
    const void* grad_output
    const void* of_value
    const void* of_grad




cdef inline const real* multiplied(const real* a, const real* b, Py_ssize_t n, real* buffer) noexcept nogil:
    """a b, or the one that is not NULL."""
    cdef Py_ssize_t k
    if a == NULL or b == NULL:
        return b if a == NULL else a
    for k in range(n):
        buffer[k] = a[k] * b[k]
    return buffer


cdef inline const real* where_counted(
    const real* x, const uint8_t* mask, real other, Py_ssize_t n, real* buffer
) noexcept nogil:
    """x where the mask is not 0, elsewhere `other`, in `buffer`, which may be x."""
    cdef Py_ssize_t k
    for k in range(n):
        buffer[k] = x[k] if mask[k] != 0 else other
    return buffer


cdef inline bint expand_weights(
    real* tag, const PointJob* job, Py_ssize_t first, Py_ssize_t n, const uint8_t* mask, real* buffer, Weights* weights
) noexcept nogil:
    """The weights of a block, in 6 blocks of `buffer` where they are not in place; whether one of them is odd.

    What does not count has sample weight 0.
    """
    cdef const Operand* operands[4]
    cdef const real* w[4]
    cdef const real* product
    cdef real least
    cdef bint odd = False
    cdef int j
    cdef Py_ssize_t k
    operands[0] = &job.pos_weight
    operands[1] = &job.weight
    operands[2] = &job.sample_weight
    operands[3] = &job.grad_output
    for j in range(4):
        w[j] = NULL
        if operands[j].data != NULL:
            w[j] = expand(operands[j], first, n, buffer + j * POINTWISE_BLOCK)
            if mask != NULL:
                w[j] = where_counted(w[j], mask, <real>(j != 2), n, buffer + j * POINTWISE_BLOCK)
            least = <real>(job.least_weight if j > 0 else 1 / job.greatest_weight)
            odd |= any_outside_sizes(w[j], n, least, <real>job.greatest_weight)
    if mask != NULL and w[2] == NULL:
        for k in range(n):
            buffer[2 * POINTWISE_BLOCK + k] = <real>(mask[k] != 0)
        w[2] = buffer + 2 * POINTWISE_BLOCK
    weights.pos_weight = w[0]
    weights.weight = w[1]
    weights.sample_weight = w[2]
    weights.grad_output = w[3]
    product = multiplied(w[1], w[2], n, buffer + 4 * POINTWISE_BLOCK)
    weights.of_value = product
    weights.of_grad = multiplied(product, w[3], n, buffer + 5 * POINTWISE_BLOCK)
    return odd


cdef inline real small_sigmoid(real e, real e_low, real* low) noexcept nogil:
    """sigmoid(-|x|) from exp(-|x|) = e + e_low, as a sum within 0.6 ulp of the first number."""
    cdef real u = <real>1 + e
    cdef real u_low = e - (u - <real>1)
    cdef real q = e / u
    low[0] = fma(-q, u_low, e_low) * (<real>1 - q)  # 1 / u is 1 - q; 1 + e_low is 1
    return q


cdef inline void bce_with_logits(
    real x, real e, real e_low, real s, real a, real a_low, real b, real b_low, real both, bint weighted, bint usual,
    real* value, real* slope
) noexcept nogil:
    """a softplus(-x) + b softplus(x) = c |x| + (a + b) log(1 + exp(-|x|)), c the coefficient that x has against it.

    Its derivative is b sigmoid(x) - a sigmoid(-x). No term cancels another. `both` is a + b, 1 unless `weighted`.
    e + e_low is exp(-|x|), s is e / (2 + e).
    """
    cdef real d = absolute(x), low = 0
    cdef real term = log1p_unit(e, e_low, s, &low)
    cdef real c = b if x > <real>0 else a
    cdef real c_low = b_low if x > <real>0 else a_low
    cdef real distance = d if usual else <real>0 if c == <real>0 else d
    cdef real log_u = term, q, q_low = 0
    if weighted:
        term = both * log_u
        low = fma(both, low, product_low(both, log_u, term))
    low = fma(c_low, distance if usual else at_most_finite(distance), low)
    value[0] = fma(c, distance, term + low)
    if slope != NULL:
        both = -both if x > <real>0 else both
        q = small_sigmoid(e, e_low, &q_low)
        low = fma(both, q_low, b_low if x > <real>0 else -a_low)
        slope[0] = fma(both, q, b if x > <real>0 else -a) + low


cdef inline real bce_slope(real x, real y) noexcept nogil:
    """(x - y) / max(x (1 - x), 1e-12), rounded about once."""
    cdef real w = <real>1 - x
    cdef real z = x * w
    cdef real z_low = product_low(x, w, z) + x * ((<real>1 - w) - x)
    cdef real d = x - y
    cdef real inverse, q
    z_low = <real>0 if z < <real>1e-12 else z_low
    z = <real>1e-12 if z < <real>1e-12 else z
    inverse = <real>1 / z
    q = d * inverse
    return fma(fma(-q, z, d) + fma(-q, z_low, sum_low(x, -y, d)), inverse, q)


cdef inline void note_above(real x, real greatest, uint32_t* outside32, uint64_t* outside64) noexcept nogil:
    """Set the sign bit unless 0 <= x <= greatest: such numbers order as their bits do."""
    cdef Bits32 b32, greatest32
    cdef Bits64 b64, greatest64
    if real is float:
        b32.f = x
        greatest32.f = greatest
        outside32[0] |= greatest32.u - b32.u
    else:
        b64.f = x
        greatest64.f = greatest
        outside64[0] |= greatest64.u - b64.u


cdef inline void note_below(real x, real least, uint32_t* outside32, uint64_t* outside64) noexcept nogil:
    """Set the sign bit if x < least, for x >= 0."""
    cdef Bits32 b32, least32
    cdef Bits64 b64, least64
    if real is float:
        b32.f = x
        least32.f = least
        outside32[0] |= b32.u - least32.u
    else:
        b64.f = x
        least64.f = least
        outside64[0] |= b64.u - least64.u


cdef inline bint point_block(
    const real* x, const real* y, const real* pos_weight, int op, bint scaled, bint usual, Py_ssize_t n, real* value,
    real* slope
) noexcept nogil:
    """The formulas: value[k] and slope[k], its derivative (unless NULL), from x[k] and y[k].

    `usual` leaves out what only rare elements need; returns whether there was none, otherwise this has to be repeated.
    Usual elements have finite values and slopes (an infinite x of kl_div and y of bce_with_logits aside). If they are
    `scaled` these are also at most `greatest_size`, and at least `least_size` where they do not cancel.
    """
    # What one loop leaves to the next:
    cdef real high[POINTWISE_BLOCK]       # e = exp(-|x|); or log x
    cdef real high_low[POINTWISE_BLOCK]   # what its rounding lost
    cdef real other[POINTWISE_BLOCK]      # the reduced argument of exp, then e / (2 + e); or log(1 - x)
    cdef real other_low[POINTWISE_BLOCK]  # `shifted` of exp; or what the rounding of log(1 - x) lost
    cdef bint single = sizeof(real) == 4
    cdef real tiny = <real>1.17549435e-38 if single else <real>2.2250738585072014e-308
    cdef real below_one = <real>0.99999994 if single else <real>0.9999999999999999
    cdef real exp_minus_100 = <real>3.720075976020836e-44  # subnormal in float32
    cdef real exp_normal = <real>87 if single else <real>708
    cdef real least = least_size(tiny), greatest = greatest_value(tiny, scaled)
    cdef real quarter = <real>8.507059173023462e37 if single else <real>4.49423283715579e307  # of the largest number
    cdef uint32_t outside32 = 0    # the sign bit: there was a rare one
    cdef uint64_t outside64 = 0
    cdef Py_ssize_t k
    cdef real d, low, e, a, b, c, a_low = 0, b_low = 0, power = 0, log_x, log_y
    high[0] = high_low[0] = 0      # gcc warns of one element
    if op == BCE_WITH_LOGITS_POS_WEIGHT:  # which may be small or large, too
        exp_normal = <real>48 if single else <real>400
    elif scaled:
        exp_normal = <real>80 if single else <real>690
    if op == BCE_WITH_LOGITS or op == BCE_WITH_LOGITS_POS_WEIGHT or op == SIGMOID or op == LOGSIGMOID:  # exp(-|x|)
        for k in range(n):
            other[k] = exp_pair_argument(-absolute(x[k]), other_low + k)
        for k in range(n):
            high[k] = exp_pair(-absolute(x[k]), other[k], other_low[k], usual, high_low + k)
            if usual:
                note_above(absolute(x[k]), exp_normal, &outside32, &outside64)
        if op != SIGMOID:
            for k in range(n):
                other[k] = high[k] / (<real>2 + high[k])
    if op == MSE:  # (x - y)^2
        for k in range(n):
            d = x[k] - y[k]
            low = <real>2 * d * sum_low(x[k], -y[k], d)
            value[k] = fma(d, d, low)
            if usual:
                note_above(absolute(value[k]), greatest, &outside32, &outside64)
            else:
                value[k] = value[k] if d * d < <real>INFINITY else d * d
            if slope != NULL:
                slope[k] = <real>2 * d
    elif op == BCE_WITH_LOGITS:  # y softplus(-x) + (1 - y) softplus(x)
        for k in range(n):
            b = <real>1 - y[k]
            b_low = (<real>1 - b) - y[k]
            bce_with_logits(
                x[k], high[k], high_low[k], other[k], y[k], <real>0, b, b_low, <real>1, False, usual, value + k,
                slope + k if slope != NULL else slope
            )
    elif op == BCE_WITH_LOGITS_POS_WEIGHT:  # pos_weight y softplus(-x) + (1 - y) softplus(x)
        for k in range(n):
            a = pos_weight[k] * y[k]
            a_low = product_low(pos_weight[k], y[k], a)
            b = <real>1 - y[k]
            b_low = (<real>1 - b) - y[k]
            bce_with_logits(
                x[k], high[k], high_low[k], other[k], a, a_low, b, b_low, a + b, True, usual, value + k,
                slope + k if slope != NULL else slope
            )
    elif op == BCE:  # -(y log x + (1 - y) log(1 - x)), each log at least -100
        for k in range(n):
            if usual:
                note_below(x[k], least if single else exp_minus_100, &outside32, &outside64)
                note_above(x[k], below_one, &outside32, &outside64)
            high[k] = log_positive(x[k], usual, high_low + k)
        for k in range(n):
            other[k] = log1m(x[k], other_low + k)
        for k in range(n):
            log_x = high[k]
            a_low = high_low[k]
            log_y = other[k]
            b_low = other_low[k]
            if not usual:
                a_low = <real>0 if log_x < <real>-100 else a_low
                log_x = <real>-100 if log_x < <real>-100 else log_x
                b_low = <real>0 if x[k] == <real>1 else b_low
                log_y = <real>-100 if x[k] == <real>1 else log_y
            d = <real>1 - y[k]
            low = fma((<real>1 - d) - y[k], log_y, x[k] - x[k])  # NaN stays NaN
            low = fma(d, b_low, fma(y[k], a_low, low))
            b = d * log_y
            low += product_low(d, log_y, b)
            a = y[k] * log_x
            low += product_low(y[k], log_x, a)
            d = a + b
            value[k] = -(d + (sum_low(a, b, d) + low))
    elif op == BCE_OF_LABELS:  # BCE where every y is 0 or 1, without rare elements: -log x or -log(1 - x)
        for k in range(n):
            note_below(x[k], least if single else exp_minus_100, &outside32, &outside64)
            note_above(x[k], below_one, &outside32, &outside64)
            a = x[k] if y[k] == <real>1 else <real>1 - x[k]
            a_low = <real>0 if y[k] == <real>1 else (<real>1 - a) - x[k]
            d = log_of_sum(a, a_low, &low)
            value[k] = -(d + low)
    elif op == KL_DIV:  # y (log y - x)
        for k in range(n):
            if usual:
                note_below(y[k], tiny, &outside32, &outside64)
                note_above(y[k], <real>1, &outside32, &outside64)
                if real is double:
                    note_above(absolute(x[k]), greatest, &outside32, &outside64)
            log_y = log_positive(y[k], usual, &low)
            low *= y[k] if usual else at_most_finite(y[k])
            low = fma(-y[k], x[k], fma(y[k], log_y, low))
            if not usual:
                low = <real>0 if y[k] == <real>0 and x[k] == x[k] else low
                low = <real>NAN if y[k] < <real>0 else low
            value[k] = low
            if slope != NULL:
                slope[k] = -y[k]
    elif op == KL_DIV_LOG_TARGET:  # exp(y) (y - x)
        for k in range(n):
            if usual:
                note_above(absolute(y[k]), <real>45 if single else <real>160, &outside32, &outside64)
                note_above(absolute(x[k]), <real>1e9 if single else <real>1e18, &outside32, &outside64)
            e = exp_parts(y[k], usual, &a_low, &power)
            d = y[k] - x[k]
            if not usual:  # e d may overflow before the power makes it smaller
                a = <real>0.25 if absolute(d) > quarter else <real>1
                e *= a
                a_low *= a
                power *= <real>4 if absolute(d) > quarter else <real>1
            low = fma(e, sum_low(y[k], -x[k], d), a_low * d)
            low = fma(e, d, low) * power
            if not usual:
                low = low if absolute(low) < <real>INFINITY else d * <real>INFINITY  # e may be 0, exp(y) is not
                low = <real>0 if y[k] == <real>-INFINITY and x[k] == x[k] else low
            value[k] = low
            if slope != NULL:
                slope[k] = -((e + a_low) * power)
    elif op == SIGMOID:
        for k in range(n):
            e = small_sigmoid(high[k], high_low[k], &low)
            value[k] = (<real>1 - e) - low if x[k] > <real>0 else e + low
    elif op == LOGSIGMOID:  # min(x, 0) - log(1 + exp(-|x|))
        for k in range(n):
            d = log1p_unit(high[k], high_low[k], other[k], &low)
            value[k] = (x[k] if x[k] < <real>0 else <real>0) - (d + low)
    elif op == IDENTITY:
        for k in range(n):
            if real is double:
                note_above(absolute(x[k]), greatest, &outside32, &outside64)
            value[k] = x[k]
    if slope != NULL and (op == BCE or op == BCE_OF_LABELS):
        for k in range(n):
            slope[k] = bce_slope(x[k], y[k])
    if usual and scaled and op == MSE and any_outside_sizes(value, n, least, greatest):
        return False
    if usual and scaled and op == KL_DIV and real is float and any_outside_sizes(x, n, <real>0, greatest):
        return False
    if usual and (op == BCE or scaled and (op == BCE_WITH_LOGITS or op == BCE_WITH_LOGITS_POS_WEIGHT)):
        if any_outside_sizes(y, n, <real>0, <real>1e9):
            return False
    return outside32 >> 31 == 0 and outside64 >> 63 == 0


cdef inline void wide_point(
    int op, long double x, long double y, long double pos_weight, long double* value, long double* slope
) noexcept nogil:
    """`point_block` for one element in `long double`."""
    cdef long double d = fabsl(x), e, a, b, c, log_x, log_y
    if op == MSE:
        d = x - y
        value[0] = d * d
        slope[0] = 2 * d
    elif op == BCE_WITH_LOGITS or op == BCE_WITH_LOGITS_POS_WEIGHT:
        e = expl(-d)
        a = times(pos_weight, y)
        b = 1 - y
        c = b if x > 0 else a
        value[0] = weighted(d, c) + (a + b) * log1pl(e)
        slope[0] = (a + b) * (e / (1 + e))
        slope[0] = b - slope[0] if x > 0 else slope[0] - a
    elif op == BCE:
        log_x = logl(x)
        log_y = log1pl(-x)
        log_x = -100 if log_x < -100 else log_x
        log_y = -100 if log_y < -100 else log_y
        d = x * (1 - x)
        value[0] = -(y * log_x + (1 - y) * log_y)
        slope[0] = (x - y) / (1e-12 if d < 1e-12 else d)
    elif op == KL_DIV:
        value[0] = y * (logl(y) - x) if y != 0 else 0 * y if x == x else x
        slope[0] = -y
    elif op == KL_DIV_LOG_TARGET:
        e = expl(y)
        d = y - x
        value[0] = e * d if e != 0 else d if fabsl(d) == INFINITY else 0 * d
        if y == -INFINITY or d == 0:
            value[0] = 0 if x == x else x
        slope[0] = -e
    else:
        value[0] = x
        slope[0] = 0


cdef inline real least_size(real tag) noexcept nogil:
    """From here on values are exact to 2^-30 of themselves, as well as those that are computed on the way."""
    return <real>3.009265538105056e-36 if sizeof(real) == 4 else <real>9.332636185032189e-302  # 2^-118, 2^-1000


cdef inline real greatest_size(real tag) noexcept nogil:
    """Values up to here, and their products with weights in range, do not overflow in float64."""
    return <real>1.2089258196146292e24 if sizeof(real) == 4 else <real>2.037035976334486e90  # 2^80, 2^300


cdef inline real greatest_value(real tag, bint weighted) noexcept nogil:
    """Values up to here do not overflow when they are summed in float64, with their weights."""
    return greatest_size(tag) if weighted else <real>3.4028234663852886e38 if sizeof(real) == 4 else <real>1e270


cdef inline bint vanishes(int op, real x, real y) noexcept nogil:
    """Whether exp(-|x|), or exp(y), is so small that it may be flushed to 0, but may count when it is weighted."""
    cdef real d = -y if op == KL_DIV_LOG_TARGET else absolute(x)
    cdef real near = <real>80 if sizeof(real) == 4 else <real>690, far = <real>360 if sizeof(real) == 4 else <real>2200
    cdef bint exponential = (op == BCE_WITH_LOGITS) | (op == BCE_WITH_LOGITS_POS_WEIGHT) | (op == KL_DIV_LOG_TARGET)
    return exponential & (d > near) & (d < far)


cdef inline bint is_odd(const PointJob* job, real x, real y, real value) noexcept nogil:
    """Whether an element is odd, its weights aside, unless it is usual; what is NaN or infinite stays so."""
    cdef real size = absolute(value)
    cdef bint odd = (job.op == BCE) & (absolute(y) > greatest_size(x))  # the slope
    if job.weighted:
        odd |= (size > greatest_size(x)) | (size < least_size(x)) & (value != <real>0) | vanishes(job.op, x, y)
        return odd | (value != value) & (x == x) & (y == y)
    return odd | (1 - (size < <real>INFINITY)) & (x - x == <real>0) & (y - y == <real>0)


cdef inline bint any_odd(const PointJob* job, const real* x, const real* y, const real* value, Py_ssize_t n) noexcept nogil:
    """Whether a block that is not usual may hold an odd element, its weights aside, or one whose sum may overflow."""
    cdef real least = least_size(x[0]) if job.weighted else <real>0
    cdef Py_ssize_t k
    cdef int found = 0
    if any_outside_sizes(value, n, least, greatest_value(x[0], job.weighted)):
        return True
    if job.op == BCE and any_outside_sizes(y, n, <real>0, greatest_size(x[0])):
        return True
    if job.weighted:
        for k in range(n):
            found |= vanishes(job.op, x[k], y[k])
    return found != 0


cdef inline bint is_usual(const PointJob* job, const real* x, const real* y, const real* pos_weight) noexcept nogil:
    """Whether one element is."""
    cdef real value = 0
    return point_block(x, y, pos_weight, job.op, job.weighted, True, 1, &value, <real*>NULL)


cdef inline void odd_block(
    const PointJob* job, const real* x, const real* y, const Weights* weights, Py_ssize_t n, real* value, real* slope,
    double* total, double* low, Huge* huge
) noexcept nogil:
    """A block in which elements may be odd: weights applied to value and slope, values added."""
    cdef const real* w[4]
    cdef const real* of_value = <const real*>weights.of_value
    cdef const real* of_grad = <const real*>weights.of_grad
    cdef long double factor, wide_value, wide_slope
    cdef real scale = <real>job.grad_scale
    cdef double least
    cdef Py_ssize_t k
    cdef bint odd
    cdef int j
    w[0] = <const real*>weights.weight
    w[1] = <const real*>weights.sample_weight
    w[2] = <const real*>weights.grad_output
    w[3] = <const real*>weights.pos_weight
    for k in range(n):
        odd = is_odd(job, x[k], y[k], value[k])
        odd = job.odd or odd and not is_usual(job, x + k, y + k, w[3] + k if w[3] != NULL else NULL)
        for j in range(4):
            least = job.least_weight if j < 3 else 1 / job.greatest_weight
            odd |= w[j] != NULL and is_outside_sizes(w[j][k], <real>least, <real>job.greatest_weight)
        if odd:
            wide_point(job.op, x[k], y[k], w[3][k] if w[3] != NULL else 1, &wide_value, &wide_slope)
            factor = times(w[0][k] if w[0] != NULL else 1, w[1][k] if w[1] != NULL else 1)
            wide_value = weighted(wide_value, factor)
            if job.grad != NULL:
                factor = times(times(factor, w[2][k] if w[2] != NULL else 1), job.wide_scale)
                slope[k] = <real>weighted(wide_slope, factor)
            if job.value != NULL:
                value[k] = <real>wide_value
            else:
                add_wide(wide_value, total + k % WIDTH, low + k % WIDTH, huge)
        else:
            if job.grad != NULL:
                slope[k] = slope[k] * of_grad[k] * scale if of_grad != NULL else slope[k] * scale
            if job.value == NULL:
                wide_value = <double>value[k] * (of_value[k] if of_value != NULL else <real>1)
                add_wide(wide_value, total + k % WIDTH, low + k % WIDTH, huge)
            elif of_value != NULL:
                value[k] *= of_value[k]


cdef inline double product_of(const real* a, const real* b, Py_ssize_t k) noexcept nogil:
    return <double>a[k] * <double>b[k]


cdef inline void add_block(
    real* value, const real* weight, Py_ssize_t n, double* total, double* low
) noexcept nogil:
    """Add n values, times their weights unless NULL, to WIDTH accumulators; `value` is filled up with zeros."""
    cdef real full[POINTWISE_BLOCK]
    cdef Py_ssize_t j, k
    cdef int step = 4 * WIDTH if real is float else WIDTH
    cdef Py_ssize_t fills = (step - n % step) % step
    for k in range(n, n + fills):
        value[k] = <real>0
    if weight != NULL and fills > 0:
        memcpy(full, weight, n * sizeof(real))
        for k in range(n, n + fills):
            full[k] = <real>0
        weight = full
    if real is double:
        for j in range(0, n, WIDTH):
            for k in range(WIDTH):
                two_sum(value[j + k] * weight[j + k] if weight != NULL else value[j + k], total + k, low + k)
    elif weight == NULL:
        for j in range(0, n, 4 * WIDTH):
            for k in range(WIDTH):
                two_sum(
                    (<double>value[j + k] + <double>value[j + WIDTH + k])
                    + (<double>value[j + 2 * WIDTH + k] + <double>value[j + 3 * WIDTH + k]),
                    total + k, low + k,
                )
    else:
        for j in range(0, n, 4 * WIDTH):
            for k in range(WIDTH):
                two_sum(
                    (product_of(value, weight, j + k) + product_of(value, weight, j + WIDTH + k))
                    + (product_of(value, weight, j + 2 * WIDTH + k) + product_of(value, weight, j + 3 * WIDTH + k)),
                    total + k, low + k,
                )


cdef inline bint any_outside(const real* x, Py_ssize_t n) noexcept nogil:
    """Whether an element is outside [0, 1]; NaN is not."""
    cdef Py_ssize_t k
    cdef int outside = 0
    for k in range(n):
        outside |= (x[k] < <real>0) | (x[k] > <real>1)
    return outside


cdef inline bint are_labels(const real* y, Py_ssize_t n) noexcept nogil:
    """Whether all are 0 or 1; at once where the first is not."""
    cdef Py_ssize_t k
    cdef Bits32 b32
    cdef Bits64 b64
    cdef uint32_t other32 = 0
    cdef uint64_t other64 = 0
    if y[0] != <real>0 and y[0] != <real>1:
        return False
    for k in range(n):
        if real is float:
            b32.f = y[k] * y[k] - y[k]
            other32 |= b32.u
        else:
            b64.f = y[k] * y[k] - y[k]
            other64 |= b64.u
    return other32 == 0 and other64 == 0


cdef inline bint usual_block(
    const real* x, const real* y, const real* pos_weight, int op, bint weighted, Py_ssize_t n, real* value, real* slope
) noexcept nogil:
    """`point_block` for usual elements, with a literal for `scaled`: its loops are a tenth faster."""
    if weighted:
        return point_block(x, y, pos_weight, op, True, True, n, value, slope)
    return point_block(x, y, pos_weight, op, False, True, n, value, slope)


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


cdef inline void pointwise_chunk(real* tag, PointJob* job, Py_ssize_t chunk) noexcept nogil:
    """Elements [chunk * job.chunk, ...) of a job."""
    cdef Py_ssize_t first = chunk * job.chunk, i, n, k
    cdef Py_ssize_t last = min(first + job.chunk, job.size)
    cdef const real* x
    cdef const real* y
    cdef const real* pos_weight
    cdef Weights weights
    cdef bint is_map = job.op == SIGMOID or job.op == LOGSIGMOID
    cdef real buffer[POINTWISE_BLOCK]
    cdef real* value = buffer
    cdef real x_buffer[POINTWISE_BLOCK]
    cdef real y_buffer[POINTWISE_BLOCK]
    cdef real slope[POINTWISE_BLOCK]
    cdef real expanded[6 * POINTWISE_BLOCK]
    cdef uint8_t mask_buffer[POINTWISE_BLOCK]
    cdef const uint8_t* mask = NULL
    cdef double total[WIDTH]
    cdef double low[WIDTH]
    cdef Huge huge
    cdef bint usual, odd
    cdef int op, rare = 0, soft = 0
    huge.total = huge.low = 0
    for k in range(WIDTH):
        total[k] = low[k] = 0
    for i in range(first, last, POINTWISE_BLOCK):
        n = min(<Py_ssize_t>POINTWISE_BLOCK, last - i)
        x = read_block(job.x, job.storage, i, n, x_buffer)
        y = read_block(job.y, job.y_storage, i, n, y_buffer) if job.y != NULL else x
        if job.mask.data != NULL:  # what does not count is an ordinary element of weight 0
            mask = expand(&job.mask, i, n, mask_buffer)
            x = where_counted(x, mask, <real>0.5, n, x_buffer)
            y = where_counted(y, mask, <real>1, n, y_buffer)
        if job.op == UNIT_INTERVAL:
            if any_outside(x, n):
                fastloss_raise_flag(&job.outside)
                break
            continue
        odd = job.odd
        if job.weighted:
            odd |= expand_weights(tag, job, i, n, mask, expanded, &weights)
        else:
            memset(&weights, 0, sizeof(weights))
        pos_weight = <const real*>weights.pos_weight
        if job.value != NULL:
            value = block_to_write(job.value, job.value_storage, i, buffer)
        usual = False
        op = job.op
        if rare == 0:
            if op == BCE and soft == 0:
                if are_labels(y, n):
                    op = BCE_OF_LABELS
                else:
                    soft = RARE_BLOCKS
            soft = max(0, soft - 1)
            if job.grad != NULL:
                usual = usual_block(x, y, pos_weight, op, job.weighted, n, value, slope)
            else:
                usual = usual_block(x, y, pos_weight, op, job.weighted, n, value, <real*>NULL)
            if not usual:
                rare = RARE_BLOCKS
        if rare > 0:
            rare -= 1
            op = job.op
            if op == BCE and any_outside(x, n):
                fastloss_raise_flag(&job.outside)
                break
            if job.grad != NULL:
                point_block(x, y, pos_weight, op, job.weighted, False, n, value, slope)
            else:
                point_block(x, y, pos_weight, op, job.weighted, False, n, value, <real*>NULL)
        if not usual and not odd and not is_map:
            odd = any_odd(job, x, y, value, n)
        if job.value == NULL and not odd:
            add_block(value, <const real*>weights.of_value, n, total, low)
        if odd:
            odd_block(job, x, y, &weights, n, value, slope, total, low, &huge)
        elif job.value != NULL and weights.of_value != NULL:
            for k in range(n):
                value[k] *= (<const real*>weights.of_value)[k]
        if job.grad != NULL:
            write_gradient(job, slope, <const real*>weights.of_grad, odd, i, n)
        if job.value != NULL:
            write_block(value, job.value, job.value_storage, i, n)
    fastloss_stream_end()
    sum_lanes(total, low, WIDTH, &huge, job.partial + 3 * chunk)
