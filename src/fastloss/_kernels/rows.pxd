# rows: the class axis is contiguous and long. One sample at a time, a block of ROWS_BLOCK classes in L1 at a time.
#
# a) Exponentials are of x itself, with a reference guessed from the row before: the value makes one trip through
#    memory, and no loop waits for a maximum. A row whose maximum is outside the window of the guess is read again.
# b) The sum without an own term is exact however confident the row is. That term is the label's, taken out of the
#    exponentials; or the maximum's where it is most of the sum, or where the label's vanishes beside it.
# c) The gradient of a row that is one block reuses its exponentials; that of a longer one computes them again.
# d) A Hessian's diagonal is written before the gradient, which may take the place of the exponentials or of x.
# e) Where the gradient needs the logarithm of the sum first (`headed`), rows get their heads in groups of HEADED, if
#    the exponentials of all fit one block; a longer row is a group of its own: row_chunks.pxd.

from libc.math cimport INFINITY, fabs, ldexp
from libc.string cimport memset
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.reading cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.distilled cimport *

include "tuning.pxi"

# What is done of a row in a call; in two parts, where all rows of a group get their heads in between.
cdef enum:
    ALL, COLLECTED, WRITTEN,
    RESTORED                       # written, from statistics that were there

# What a thread knows of the row that it computes.
cdef struct Row:
    void* x                        # buffers for a block: of half precision or shifted, exponentials, coefficients
    void* e
    void* c
    void* h                        # a block of a Hessian's diagonal,
    void* e_ahead                  # and for the next row, collected before this one is written
    void* c_ahead
    const void* c_used             # the coefficients of the last block: in `c`, or where they are in memory
    double guess                   # the reference that the next row is tried with
    double reference               # and that this one was computed with,
    double shift                   # subtracted from x before
    double top                     # the maximum, less the shift; the exponentials have the factor of `exp_of`, and
    Sum sum                        # their sum lacks the label's,
    double own
    double anchor                  # x of the class whose own term `others` lacks,
    double unit                    # its exponential,
    double others                  # and the sum of all others
    bint suspect                   # the coefficients may be none that can be meant
    double mass                    # the sum of the last block's coefficients before they are weighted, if they are
    double a                       # Σ c_j
    double lost                    # of that and what z_loss adds
    double b                       # Σ c_j (x_j - top); for the entropy Σ e_j (x_j - top)
    Distilled distilled
    double* by_scale               # where derivatives by scale and bias are added up, or NULL
    double* by_bias


cdef inline const void* read_row(
    const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, const Row* row, vec tag
) noexcept nogil:
    """n classes of row i from j0 on: in place, or widened, gathered, capped or shifted."""
    cdef cap_function cap = <cap_function>fastloss_out_of_line(<void*>cap_row)
    cdef const void* x = numbers_of(
        job.x, job.storage, position_of(job, i) + j0 * job.inner, job.inner, n, row.x, tag
    )
    if not reads_as_is(job):
        x = cap(job, x, j0, n, 0, row.x, NULL)
    if row.shift == 0:
        return x
    scaled_steps(x, n, 1, -row.shift, NULL, NULL, tag, row.x)
    return row.x


cdef inline double exponentials_of(
    vec* type, int mode, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, const Row* row
) noexcept nogil:
    cdef vec tag
    cdef vec magic = exp_magic(row.reference, tag), least = exp_least(row.reference, tag)
    cdef vec scale = all_of(job.input_scale, tag)
    cdef Py_ssize_t ahead = fastloss_ahead[mode != PLAIN or job.grad != NULL]
    cdef const void* x
    if mode == PLAIN and is_only_scaled(job) and job.inner == 1 and job.storage == NATIVE and row.shift == 0:
        x = <const char*>job.x + (i * job.x_stride + j0) * (64 // step_of(tag))
        return greatest(exp_steps(NATIVE, True, x, n, ahead, scale, magic, least, row.e))
    if mode == PLAIN and vec is f16 and job.inner == 1 and reads_as_is(job):
        x = <const uint16_t*>job.x + i * job.x_stride + j0
        if job.storage == FLOAT16 and row.shift == 0:
            return greatest(exp_steps(FLOAT16, False, x, n, ahead, scale, magic, least, row.e))
        if job.storage == BFLOAT16 and row.shift == 0:
            return greatest(exp_steps(BFLOAT16, False, x, n, ahead, scale, magic, least, row.e))
    x = read_row(job, i, j0, n, row, tag)
    return greatest(exp_steps(NATIVE, False, x, n, ahead, scale, magic, least, row.e))

ctypedef double (*exponentials_function)(
    void*, int, const ClassJob*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const Row*
) noexcept nogil


cdef inline double exp_block(
    int mode, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, const Row* row, vec tag
) noexcept nogil:
    """Exponentials of n classes of row i from j0 on, into row.e; their maximum."""
    return (<exponentials_function>fastloss_out_of_line(<void*>exponentials_of[vec]))(NULL, mode, job, i, j0, n, row)


cdef inline const void* read_coefficients(
    int MODE, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, Row* row, vec tag
) noexcept nogil:
    """c of n classes of row i from j0 on, in place or in a buffer: w_j (scale c_j + shift), or those of all rows."""
    cdef int size = step_of(tag)
    cdef Py_ssize_t k, first = position_in_results(job, i, j0)
    cdef const void* c
    cdef const void* w = job.linear_weight
    cdef vec scale = all_of(job.coefficient_scale, tag), shift = all_of(job.coefficient_shift, tag), c_k, w_k
    cdef vec zero = all_of(0, tag), low = zero, mass = zero
    if MODE == SHARED:
        return <const char*>job.shared + j0 * (64 // size)
    c = numbers_of(job.coefficient, job.coefficient_storage, first, job.inner, n, row.c, tag)
    if not is_weighted(job):
        return c
    if w != NULL:
        w = <const char*>w + j0 * (64 // size)
    w_k = all_of(1, tag)
    for k in range(steps_of(n, tag)):
        c_k = step_or_part(c, k, n, 0, tag)
        if w != NULL:
            w_k = step_or_part(w, k, n, 0, tag)
        low = min_of(c_k, low)
        mass = add(c_k, mass)
        store(mul(w_k, fma_of(scale, c_k, shift)), row.c, k)
    row.suspect |= any_of(if_less(low, zero, all_of(1, tag), zero))
    row.mass = sum_of(mass)
    return row.c


cdef inline void* place_in(
    void* out, int storage, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, void* buffer, vec tag
) noexcept nogil:
    """Where results of row i from class j0 on are computed, for `write_row_in`."""
    return buffer if job.inner > 1 else result_place(out, storage, i * job.classes + j0, buffer, tag)


cdef inline void* place_to_write(
    const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, void* buffer, vec tag
) noexcept nogil:
    """`place_in` the gradient."""
    return place_in(job.grad, job.grad_storage, job, i, j0, buffer, tag)


cdef inline void write_row_in(
    void* out, int storage, const ClassJob* job, const void* y, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, vec tag
) noexcept nogil:
    write_numbers(y, out, storage, position_in_results(job, i, j0), job.inner, n, tag)


cdef inline void write_row(
    const ClassJob* job, const void* grad, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, vec tag
) noexcept nogil:
    write_row_in(job.grad, job.grad_storage, job, grad, i, j0, n, tag)


cdef inline double exp_one(double x, double c, vec tag) noexcept nogil:
    """The bits that `exp_steps` gives for x."""
    return first(exp_of(all_of(x, tag), exp_magic(c, tag), exp_least(c, tag)))


cdef inline void collect(int MODE, const ClassJob* job, Py_ssize_t i, int64_t t, Row* row, vec tag) noexcept nogil:
    """A pass over row i, whose label is t, or -1, with row.reference and row.shift."""
    cdef Py_ssize_t j0, n
    cdef double top, weight, base = 0, mass = 0
    cdef vec least, zero = all_of(0, tag)
    cdef Sum a, b
    row.suspect = False
    row.top = -INFINITY
    row.own = row.sum.total = row.sum.low = 0
    a.total = a.low = b.total = b.low = 0
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        top = exp_block(MODE, job, i, j0, n, row, tag)
        if j0 <= t and t < j0 + n:
            row.own = element(row.e, t - j0, tag)
            take_out(row.e, t - j0, tag)
        row.top = max(row.top, top)
        if MODE == EXPECTED or MODE == SQUARED:
            weight = joined(row.sum.total, row.sum.low)
        sum_steps(row.e, n, False, 0, tag, &row.sum)
        if MODE == PLAIN:
            continue
        if MODE != UNIFORM and MODE != EXPECTED and MODE != SQUARED:
            row.c_used = read_coefficients(MODE, job, i, j0, n, row, tag)
        if MODE != EXPECTED and MODE != SQUARED:
            weight = joined(a.total, a.low)
        if j0 == 0:
            base = top if top > -INFINITY else 0
        elif top > base:  # b of the blocks before, which is relative to their maximum
            if MODE == SQUARED:
                two_sum((2 * joined(b.total, b.low) + weight * (base - top)) * (base - top), &a.total, &a.low)
            two_sum(weight * (base - top), &b.total, &b.low)
            base = top
        least = linear_steps_of(MODE, read_row(job, i, j0, n, row, tag), row.c_used, row.e, n, base, tag, &a, &b)
        if MODE == LINEAR and is_weighted(job):
            mass += row.mass
        elif MODE == LINEAR:
            row.suspect |= any_of(if_less(least, zero, all_of(1, tag), zero))
        if MODE == UNIFORM:
            a.total += n
        elif MODE == SHARED and j0 + n < job.classes:
            sum_steps(row.c_used, n, False, 0, tag, &a)
    if MODE == PLAIN:
        return
    if base != row.top and row.top > -INFINITY and MODE == SQUARED:
        weight = joined(row.sum.total, row.sum.low)
        two_sum((2 * joined(b.total, b.low) + weight * (base - row.top)) * (base - row.top), &a.total, &a.low)
    row.a = joined(a.total, a.low) if MODE == LINEAR or MODE == SQUARED else job.shared_sum
    if base != row.top and row.top > -INFINITY:  # the first block has nothing but -inf
        weight = joined(row.sum.total, row.sum.low) if MODE == EXPECTED or MODE == SQUARED else row.a
        two_sum(weight * (base - row.top), &b.total, &b.low)
    row.b = joined(b.total, b.low)
    if MODE == UNIFORM:
        row.b *= element(job.shared, 0, tag)
    if MODE == LINEAR:
        row.suspect |= are_wrong(job, 0, mass if is_weighted(job) else row.a)


cdef inline double sum_beside(vec* type, int mode, const ClassJob* job, Py_ssize_t i, Row* row) noexcept nogil:
    """The sum of all exponentials but row.unit, the greatest."""
    cdef vec tag
    cdef Py_ssize_t j0, n
    cdef Sum s
    s.total = s.low = 0
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        if job.classes > ROWS_BLOCK:
            exp_block(mode, job, i, j0, n, row, tag)
        sum_steps(row.e, n, True, row.unit, tag, &s)
    return joined(s.total, s.low) + (row.own if job.classes <= ROWS_BLOCK else 0)


# What few rows need, once for all modes, and called by pointers: in place it would take registers from the others.
ctypedef double (*beside_function)(void*, int, const ClassJob*, Py_ssize_t, Row*) noexcept nogil
ctypedef void (*rescale_function)(void*, int, const ClassJob*, Py_ssize_t, double, Row*) noexcept nogil


cdef inline bint is_label_enough(int MODE, const ClassJob* job) noexcept nogil:
    """Whether nothing is asked for that takes the sum without the greatest."""
    return (MODE == PLAIN and job.op != PARTIAL or MODE == UNIFORM and is_smoothed(job)) and job.hessian.data == NULL


cdef inline void choose_anchor(
    int MODE, const ClassJob* job, Py_ssize_t i, int64_t t, Row* row, vec tag
) noexcept nogil:
    """The sum without one class's own term: the label's, if it is the greatest or, where nothing else is asked for, if
    it does not vanish; otherwise the greatest."""
    cdef double sum_of_others = joined(row.sum.total, row.sum.low), x_t = -INFINITY
    cdef bint of_label
    if t >= 0:
        x_t = value_of(job, i, t)
        of_label = row.own >= 8.67e-19 * sum_of_others and is_label_enough(MODE, job)  # 2^-60
        if of_label or x_t == row.top + row.shift:
            if MODE == UNIFORM and x_t != row.top + row.shift:
                row.b -= row.a * (x_t - (row.top + row.shift))
            row.anchor = x_t
            row.unit = row.own
            row.others = sum_of_others
            return
    row.anchor = row.top + row.shift
    row.unit = exp_one(row.top, row.reference, tag)
    row.others = (sum_of_others - row.unit) + row.own
    if row.others < 0.9 * row.unit:  # what rounding lost of the sum counts
        row.others = (<beside_function>fastloss_out_of_line(<void*>sum_beside[vec]))(NULL, MODE, job, i, row)


cdef inline bint guess_anew(double top, Row* row, vec tag) noexcept nogil:
    """The next row's reference from this one's maximum, if it is far from the guess: otherwise it need not wait."""
    if not fabs(top * 1.44269504088896341 - row.guess - exp_lead(tag)) > 15 or not exp_can_reduce(top, tag):
        return False
    row.guess = exp_reference(top, exp_lead(tag), tag)
    return True


cdef inline void row_statistics(
    int MODE, const ClassJob* job, Py_ssize_t i, int64_t t, Row* row, vec tag
) noexcept nogil:
    """All that is collected of row i. With no finite maximum, `others` is NaN for a loss."""
    cdef double lead = exp_lead(tag), exact
    cdef bint again = False
    row.shift = 0
    row.reference = row.guess
    while True:
        collect(MODE, job, i, t, row, tag)
        if not again and not exp_fits(row.top, row.reference, tag):
            again = True
            row.reference = exp_reference(row.top, lead, tag)
            if not exp_can_reduce(row.top, tag) and row.top - row.top == 0:
                row.shift = row.top
            continue
        choose_anchor(MODE, job, i, t, row, tag)
        exact = exp_reference(row.top, 1.5 * lead, tag)
        if row.others < 8.67e-19 * row.unit and row.reference != exact:  # what is cut off may count
            again = True
            row.reference = exact
            continue
        break
    if job.classes == 1:  # without what fills up the step
        row.others = 0
    guess_anew(row.top + row.shift, row, tag)


cdef inline void rescale_row(
    vec* type, int mode, const ClassJob* job, Py_ssize_t i, double lead, Row* row
) noexcept nogil:
    """Smaller exponentials of row i, the greatest 2^lead. This changes exponents alone."""
    cdef vec tag
    cdef double by = exp_reference(row.top, lead, tag) - row.reference
    if 0 < by < 2000:
        row.reference += by
        row.unit = ldexp(row.unit, -<int>by)
        row.others = ldexp(row.others, -<int>by)
        row.own = ldexp(row.own, -<int>by)
        if job.classes <= ROWS_BLOCK:
            exp_block(mode, job, i, 0, job.classes, row, tag)


ctypedef void (*long_function)(
    void*, void*, const ClassJob*, Py_ssize_t, Py_ssize_t, Py_ssize_t, double, double, Row*
) noexcept nogil


cdef inline void long_gradient(
    real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, double factor, double least,
    Row* row
) noexcept nogil:
    """A block of the gradient of a row of many, straight from x."""
    cdef vec step
    cdef Py_ssize_t from_first = i * job.x_stride + j0, first = i * job.classes + j0
    cdef vec magic = exp_magic(row.reference, step), least_exp = exp_least(row.reference, step)
    cdef const void* x = <const char*>job.x + from_first * (64 // step_of(step))
    cdef void* grad = <char*>job.grad + first * (64 // step_of(step))
    if vec is f16:
        if job.storage == FLOAT16 or job.storage == BFLOAT16:
            x = <const uint16_t*>job.x + from_first
            grad = <uint16_t*>job.grad + first
            if job.storage == FLOAT16:
                exp_gradient_steps(FLOAT16, FLOAT16, x, n, magic, least_exp, factor, least, grad)
            else:
                exp_gradient_steps(BFLOAT16, BFLOAT16, x, n, magic, least_exp, factor, least, grad)
            return
    if job.grad_storage == STREAMED:
        exp_gradient_steps(NATIVE, STREAMED, x, n, magic, least_exp, factor, least, grad)
    else:
        exp_gradient_steps(NATIVE, NATIVE, x, n, magic, least_exp, factor, least, grad)


cdef inline void read_pair(
    real* tag, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, const Row* row, const real** s,
    const real** t
) noexcept nogil:
    """n classes of student and teacher."""
    s[0] = gathered(job.x, job.storage, position_of(job, i) + j0 * job.inner, job.inner, n, <real*>row.x)
    t[0] = gathered(
        job.coefficient, job.coefficient_storage, position_in_results(job, i, j0), job.inner, n, <real*>row.c
    )


cdef inline void wide_distilled(real* tag, const ClassJob* job, Py_ssize_t i, Row* row) noexcept nogil:
    """The value of a row whose logits differ too much for `difference_steps`, or are not finite.

    That is Σ p_j (d_j - e_j) + log Σ exp(e_j) - log Σ exp(d_j), with d_j and e_j of teacher and student less their
    maxima: log1p of the sums without the maxima's own 1 keeps what is far smaller than 1.
    """
    cdef Distilled* known = &row.distilled
    cdef Py_ssize_t j, at_s = 0, at_t = 0
    cdef const real* s
    cdef const real* t
    cdef wide_real top_s = -INFINITY, top_t = -INFINITY, others_s, others_t, d, apart, value
    for j in range(job.classes):
        read_pair(tag, job, i, j, 1, row, &s, &t)
        if s[0] > top_s:
            top_s, at_s = s[0], j
        if t[0] > top_t:
            top_t, at_t = t[0], j
    others_s = top_s - top_s
    others_t = top_t - top_t
    for j in range(job.classes):
        read_pair(tag, job, i, j, 1, row, &s, &t)
        if j != at_s:
            others_s += expl((s[0] - top_s) * known.inverse)
        if j != at_t:
            others_t += expl((t[0] - top_t) * known.inverse)
    known.wide = True
    known.top_of_student = top_s
    known.top = <double>top_t
    known.log_of_student = log1pl(others_s)
    known.log_of_teacher = log1pl(others_t)
    value = known.log_of_student - known.log_of_teacher
    for j in range(job.classes):
        read_pair(tag, job, i, j, 1, row, &s, &t)
        d = (t[0] - top_t) * known.inverse
        if d != -INFINITY:
            apart = d - (s[0] - top_s) * known.inverse
            value += expl(d - known.log_of_teacher) * apart if apart < INFINITY else apart
    known.value = <double>value


cdef inline void differences_of(
    real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, Row* row, Sum* total,
    Sum* moment
) noexcept nogil:
    """`difference_steps` of a block, into the buffers."""
    cdef vec step
    cdef const real* s
    cdef const real* t
    read_pair(tag, job, i, j0, n, row, &s, &t)
    if row.distilled.careful:
        difference_steps(True, s, t, n, &row.distilled, step, row.e_ahead, row.h, total, moment)
    else:
        difference_steps(False, s, t, n, &row.distilled, step, row.e_ahead, row.h, total, moment)

ctypedef void (*difference_function)(
    void*, void*, const ClassJob*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Row*, Sum*, Sum*
) noexcept nogil


cdef inline void find_tops(real* tag, const ClassJob* job, Py_ssize_t i, Row* row, vec step) noexcept nogil:
    """The teacher's maximum, and the student's less that in two parts."""
    cdef Distilled* known = &row.distilled
    cdef Py_ssize_t j0, n
    cdef const real* s
    cdef const real* t
    cdef double top = -INFINITY, apart, z
    known.top = -INFINITY
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        read_pair(tag, job, i, j0, n, row, &s, &t)
        top = top_of(s, n, top, step)
        known.top = top_of(t, n, known.top, step)
    apart = top - known.top
    z = apart - top
    known.apart = <real>apart
    known.apart_low = (apart - known.apart) + ((top - (apart - z)) - (known.top + z))


cdef inline void distil_row(real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Row* row) noexcept nogil:
    """The divergence of row i, and what its gradient needs, which stays in buffers if it is one block."""
    cdef vec step
    cdef Distilled* known = &row.distilled
    cdef Py_ssize_t j0, n
    cdef double most = -INFINITY, top
    cdef Sum total, moment, f
    cdef difference_function differences = <difference_function>fastloss_out_of_line(<void*>differences_of[real, vec])
    known.inverse = job.head_parameter
    find_tops(tag, job, i, row, step)
    top = known.top * known.inverse
    known.wide = False
    known.careful = not exp_can_reduce(top, step)
    while True:
        known.reference = exp_reference(0 if known.careful else top, exp_lead(step), step)
        total.total = total.low = moment.total = moment.low = 0
        for j0 in range(0, job.classes, ROWS_BLOCK):
            n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
            differences(NULL, NULL, job, i, j0, n, row, &total, &moment)
        known.total = joined(total.total, total.low)
        known.center = joined(moment.total, moment.low) / known.total
        if known.careful or known.center - known.center == 0:
            break
        known.careful = True
    f.total = f.low = 0
    for j0 in range(0, job.classes if known.center - known.center == 0 else 0, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        if job.classes > ROWS_BLOCK:
            differences(NULL, NULL, job, i, j0, n, row, &total, &moment)
        most = max(most, divergence_steps(row.e_ahead, n, known, step, row.h, &f))
    known.f = joined(f.total, f.low) / known.total
    if known.center - known.center == 0 and most < (40 if sizeof(real) == 4 else 300) and known.f - known.f == 0:
        known.value = log1p_nonnegative(known.f)
    else:
        wide_distilled(tag, job, i, row)
    known.value = known.value * job.coefficient_scale if job.coefficient_scale != 0 or known.value != known.value else 0


ctypedef void (*distil_function)(void*, void*, const ClassJob*, Py_ssize_t, Row*) noexcept nogil


cdef inline void add_distilled(
    real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, bint added, Row* row
) noexcept nogil:
    """A block of the divergence's gradient, to what is in row.e, if `added`, or in its place."""
    cdef vec step
    cdef Distilled* known = &row.distilled
    cdef double value, factor = gradient_scale(job, i) * job.coefficient_scale * known.inverse \
        if job.coefficient_scale != 0 else 0
    cdef real* y = <real*>row.e
    cdef const real* s
    cdef const real* t
    cdef Sum unused
    cdef wide_real p, q
    cdef Py_ssize_t j
    unused.total = unused.low = 0
    if factor == 0 and known.value == known.value:
        for j in range(n if not added else 0):
            y[j] = 0
        return
    # a factor beyond the range times a difference of 0, or one that is small enough
    if not known.wide and not fabs(factor) < (1e30 if sizeof(real) == 4 else 1e300):
        value = known.value
        wide_distilled(tag, job, i, row)
        known.value = value
    read_pair(tag, job, i, j0, n, row, &s, &t)
    if known.wide:
        for j in range(n):
            p = (t[j] - <wide_real>known.top) * known.inverse - known.log_of_teacher
            q = (s[j] - known.top_of_student) * known.inverse - known.log_of_student
            q = expm1l(q) - expm1l(p) if p > -0.5 and q > -0.5 else expl(q) - expl(p)  # without what is 1 in both
            y[j] = <real>((y[j] if added else 0) + factor * q)
        return
    if job.classes > ROWS_BLOCK:
        (<difference_function>fastloss_out_of_line(<void*>differences_of[real, vec]))(
            NULL, NULL, job, i, j0, n, row, &unused, &unused
        )
        divergence_steps(row.e_ahead, n, known, step, row.h, &unused)
    distilled_steps(row.e_ahead, row.h, n, known, factor, added, step, y)

ctypedef void (*add_function)(
    void*, void*, const ClassJob*, Py_ssize_t, Py_ssize_t, Py_ssize_t, bint, Row*
) noexcept nogil


cdef inline void write_scaled(
    real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, const void* x, Row* row
) noexcept nogil:
    """Write a block of a gradient, in row.e, by what x is scaled to; add it to what is summed."""
    cdef vec step
    cdef const real* scales = NULL
    cdef real* grad
    if job.op == DISTILLED:
        (<add_function>fastloss_out_of_line(<void*>add_distilled[real, vec]))(NULL, NULL, job, i, j0, n, True, row)
    if job.summed != 0:
        if job.by_scale != NULL and job.class_scale == NULL:
            absorb_steps(row.e, x, NULL, n, row.by_scale, NULL, False, step)
        if job.by_bias != NULL or job.class_scale != NULL:
            absorb_steps(
                row.e, x, NULL, n,
                row.by_scale + j0 if row.by_scale != NULL and job.class_scale != NULL else NULL,
                row.by_bias + j0 if row.by_bias != NULL else NULL, True, step
            )
    if job.grad == NULL:
        return
    grad = <real*>place_to_write(job, i, j0, row.e, step)
    if job.class_scale != NULL:
        scales = <const real*>job.class_scale + j0
    multiplied_steps(row.e, n, job.input_scale if job.summed != 0 else 1, scales, False, -INFINITY, step, grad)
    write_row(job, grad, i, j0, n, step)

ctypedef void (*scaled_function)(
    void*, void*, const ClassJob*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const void*, Row*
) noexcept nogil


cdef inline void write_capped(
    real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, Row* row
) noexcept nogil:
    """Multiply a block of the gradient, in row.e, by the slope of what x is read as, and write it; it may be x."""
    cdef vec step
    cdef const real* x = gathered(
        job.x, job.storage, position_of(job, i) + j0 * job.inner, job.inner, n, <real*>row.x
    )
    cdef const void* z = x
    cdef real* hess
    if job.softcap != 0 and is_scaled(job):
        z = scale_row(job, x, j0, n, 0, row.c)
    if job.hessian.data != NULL:
        hess = <real*>place_in(job.hessian.data, job.hessian.storage, job, i, j0, row.h, step)
        if job.softcap != 0:
            capped_curve_steps(
                z, row.e, n, job.softcap, &job.hessian, -INFINITY if job.class_scale != NULL else job.hessian.floor,
                step, row.h, row.h if job.class_scale != NULL else hess
            )
        if job.class_scale != NULL:
            multiplied_steps(row.h, n, 1, <const real*>job.class_scale + j0, True, job.hessian.floor, step, hess)
        write_row_in(job.hessian.data, job.hessian.storage, job, hess, i, j0, n, step)
    if job.softcap != 0:
        capped_slope_steps(z, row.e, n, job.softcap, step, row.e)
    (<scaled_function>fastloss_out_of_line(<void*>write_scaled[real, vec]))(NULL, NULL, job, i, j0, n, x, row)

ctypedef void (*slope_function)(
    void*, void*, const ClassJob*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Row*
) noexcept nogil


cdef inline void long_capped(
    real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, double factor, double least,
    Row* row
) noexcept nogil:
    """`long_gradient` with a softcap."""
    cdef vec step
    cdef const real* x = read_block(job.x, job.storage, i * job.x_stride + j0, n, <real*>row.x)
    cdef real* grad = block_to_write(job.grad, job.grad_storage, i * job.classes + j0, <real*>row.e)
    if is_scaled(job):
        x = <const real*>scale_row(job, x, j0, n, 0, row.x)
    capped_exp_gradient_steps(
        x, n, job.softcap, exp_magic(row.reference, step), exp_least(row.reference, step), factor, least, grad
    )
    write_block(grad, job.grad, job.grad_storage, i * job.classes + j0, n)


cdef inline void row_curve(
    real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, int64_t t, Curve* curve,
    const Row* row
) noexcept nogil:
    """A block of the diagonal of row i's Hessian, from its exponentials; left in row.h for `write_capped`."""
    cdef vec step
    cdef real* hess = <real*>row.h
    cdef bint as_is = job.softcap == 0 and job.class_scale == NULL
    curve.floor = -INFINITY
    if as_is:
        hess = <real*>place_in(job.hessian.data, job.hessian.storage, job, i, j0, hess, step)
        curve.floor = job.hessian.floor
    curve.others = row.others
    curve.unit = row.unit
    curve.inverse = 1 / (row.others + row.unit)
    curve_steps(row.e, n, curve, step, hess)
    if j0 <= t and t < j0 + n:  # whose exponential may have been taken out
        hess[t - j0] = <real>(curve.floor if curve.entry < curve.floor else curve.entry)
    if as_is:
        write_row_in(job.hessian.data, job.hessian.storage, job, hess, i, j0, n, step)

ctypedef void (*curve_function)(
    void*, void*, const ClassJob*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int64_t, Curve*, const Row*
) noexcept nogil


cdef inline void write_gradient(
    int MODE, const ClassJob* job, Py_ssize_t i, Py_ssize_t j0, Py_ssize_t n, int64_t t, const void* c,
    const Gradient* of, const Row* row, vec tag
) noexcept nogil:
    """n entries of a gradient, from the exponentials and coefficients c; class t is the label."""
    cdef void* grad = <uint16_t*>job.grad + i * job.classes + j0
    cdef void* steps = <void*>gradient_steps_of[vec]
    if MODE == PLAIN and job.grad_storage == FLOAT16 and job.inner == 1:
        gradient_steps(MODE, FLOAT16, row.e, c, n, of, tag, grad)
    elif MODE == PLAIN and job.grad_storage == BFLOAT16 and job.inner == 1:
        gradient_steps(MODE, BFLOAT16, row.e, c, n, of, tag, grad)
    else:
        grad = place_to_write(job, i, j0, row.e, tag)
        if MODE == PLAIN:
            gradient_steps(PLAIN, NATIVE, row.e, c, n, of, tag, grad)
        else:
            (<gradient_steps_function>fastloss_out_of_line(steps))(NULL, MODE, row.e, c, n, of, grad)
        if j0 <= t and t < j0 + n:
            put_sample(job, of.entry, grad, t - j0)
        write_row(job, grad, i, j0, n, tag)
        return
    if j0 <= t and t < j0 + n:
        write_one(<float>of.entry, grad, job.grad_storage, t - j0)


cdef inline double least_ratio(vec tag) noexcept nogil:
    """Of what a gradient is multiplied by to the sum that it is divided by: less leaves the range."""
    return 7.5e-37 if vec is f16 else 1e-300


cdef inline double lead_in_range(int MODE, double scale, double coefficients, double total, vec tag) noexcept nogil:
    """-1, or log2 of what the greatest exponential has to be for what they are multiplied by to stay in range, divided
    by `total` or not."""
    if vec is f16:
        if MODE != PLAIN and fabs(coefficients) * total > 1e36:
            return 26
    if MODE != PLAIN and 0 < fabs(coefficients) < 1:  # their product is what exponentials are multiplied by
        scale *= coefficients
    return 0 if fabs(scale) < least_ratio(tag) * total else -1


cdef inline double least_exponential(int MODE, double factor, double coefficients, vec tag) noexcept nogil:
    """`least_that_counts` of what a gradient multiplies exponentials by."""
    cdef double by = factor if MODE == PLAIN else factor * coefficients
    return least_that_counts(<float>by) if vec is f16 else least_that_counts(by)


cdef inline void row_gradient(
    int MODE, const ClassJob* job, Py_ssize_t i, double scale, double coefficients, Py_ssize_t t, double entry,
    Curve* curve, Row* row, real* type, vec tag
) noexcept nogil:
    """The gradient of row i, or its softmax: `coefficients` are Σ c_j + k. grad may be x itself. And, unless `curve` is
    NULL, its Hessian's diagonal.

    `entry` is that of class t, unless t is -1.
    """
    cdef Py_ssize_t j0, n
    cdef double lead = lead_in_range(MODE, scale, coefficients, row.others + row.unit, tag)
    cdef const void* c = row.c_used
    cdef rescale_function rescale = <rescale_function>fastloss_out_of_line(<void*>rescale_row[vec])
    cdef void* steps = <void*>gradient_steps_of[vec]
    cdef Gradient of
    if curve != NULL and (row.others + row.unit) * least_ratio(tag) > 0.75:  # 1 / their sum, too
        lead = 26
    if lead >= 0:
        rescale(NULL, MODE, job, i, lead, row)
    of.factor = scale / (row.others + row.unit)
    of.least = least_exponential(MODE, of.factor, coefficients, tag)
    of.a = coefficients
    of.lost = row.lost
    of.uniform = element(job.shared, 0, tag) if MODE == UNIFORM else 0
    of.unit = row.unit
    of.others = row.others
    of.entry = entry
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        if job.classes > ROWS_BLOCK:
            if MODE == PLAIN and row.shift == 0 and job.inner == 1 and not (j0 <= t and t < j0 + n) \
                    and curve == NULL and job.grad_storage != SINGLE and job.summed == 0 and job.op != DISTILLED:
                if reads_as_is(job):
                    (<long_function>fastloss_out_of_line(<void*>long_gradient[real, vec]))(
                        NULL, NULL, job, i, j0, n, of.factor, of.least, row
                    )
                    continue
                if job.softcap != 0 and job.class_scale == NULL:
                    (<long_function>fastloss_out_of_line(<void*>long_capped[real, vec]))(
                        NULL, NULL, job, i, j0, n, of.factor, of.least, row
                    )
                    continue
            exp_block(MODE, job, i, j0, n, row, tag)
            if MODE == SHARED or MODE == LINEAR:
                c = read_coefficients(MODE, job, i, j0, n, row, tag)
        if curve != NULL:
            (<curve_function>fastloss_out_of_line(<void*>row_curve[real, vec]))(
                NULL, NULL, job, i, j0, n, t, curve, row
            )
        if not writes_as_is(job):
            (<gradient_steps_function>fastloss_out_of_line(steps))(NULL, MODE, row.e, c, n, &of, row.e)
            if j0 <= t and t < j0 + n:
                put_sample(job, entry, row.e, t - j0)
            (<slope_function>fastloss_out_of_line(<void*>write_capped[real, vec]))(NULL, NULL, job, i, j0, n, row)
            continue
        write_gradient(MODE, job, i, j0, n, t, c, &of, row, tag)


cdef inline void row_log_softmax(vec* type, const ClassJob* job, Py_ssize_t i, Row* row) noexcept nogil:
    """x - (high + low), rounded once, where their sum is log Σ exp."""
    cdef vec tag
    cdef Py_ssize_t j0, k, n
    cdef float high32 = 0, low32 = 0
    cdef double high = 0, low = 0
    cdef const void* x
    cdef void* out
    cdef vec p, y, z, top, rest
    if vec is f16:
        log_sum_exp(row.anchor, log1p_nonnegative(<float>(row.others / row.unit)), &high32, &low32)
        high, low = high32, low32
    else:
        log_sum_exp(row.anchor, log1p_nonnegative(row.others / row.unit), &high, &low)
    top = all_of(high, tag)
    rest = all_of(low, tag)
    row.shift = 0
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        x = read_row(job, i, j0, n, row, tag)
        out = place_to_write(job, i, j0, row.e, tag)
        for k in range(steps_of(n, tag)):
            p = step_or_part(x, k, n, 0, tag)
            y = sub(p, top)
            z = sub(y, p)
            z = sub(sub(p, sub(y, z)), add(top, z))  # what rounding lost of it
            store_or_part(if_less(absolute_of(y), all_of(INFINITY, tag), add(y, sub(z, rest)), y), out, k, n)
        write_row(job, out, i, j0, n, tag)


cdef inline bint row_product(vec* type, const ClassJob* job, Py_ssize_t i, double scale, Row* row) noexcept nogil:
    """scale p_j ((v_j - v_m) - sum p (v - v_m)), v the coefficients and v_m that of the greatest: nothing cancels.

    False, and nothing is written, where a sum or a factor leaves the range.
    """
    cdef vec tag
    cdef Py_ssize_t j0, k, n
    cdef int size = step_of(tag), turn
    cdef const void* v
    cdef void* out
    cdef vec found = all_of(NAN, tag), unit = all_of(row.unit, tag), factor, top, mean, y
    cdef double lanes[16]
    cdef double of_greatest = NAN
    cdef Sum a, b
    b.total = b.low = 0
    for turn in range(3):  # the greatest's, the sum, the results
        if turn == 1:
            for k in range(size):
                put_sample(job, 0, &lanes[0], k)
            store(found, &lanes[0], 0)
            for k in range(size):
                of_greatest = element(&lanes[0], k, tag) if element(&lanes[0], k, tag) == element(&lanes[0], k, tag) \
                    else of_greatest
        if turn == 2 and row.others == row.others and not fabs(b.total) < INFINITY:
            return False
        top = all_of(of_greatest, tag)
        mean = all_of(joined(b.total, b.low) / (row.others + row.unit), tag)
        factor = all_of(scale / (row.others + row.unit), tag)
        for j0 in range(0, job.classes, ROWS_BLOCK):
            n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
            if job.classes > ROWS_BLOCK:
                exp_block(PLAIN, job, i, j0, n, row, tag)
            v = read_coefficients(LINEAR, job, i, j0, n, row, tag)
            if turn == 1:
                linear_steps(SHARED, v, row.e, row.e, n, of_greatest, tag, &a, &b)
                continue
            out = place_to_write(job, i, j0, row.e, tag)
            for k in range(steps_of(n, tag)):
                y = step_or_part(v, k, n, 0, tag)
                if turn == 0:
                    found = if_equal(load(row.e, k, tag), unit, y, found)
                    continue
                store_or_part(mul(mul(load(row.e, k, tag), factor), sub(sub(y, top), mean)), out, k, n)
            if turn == 2:
                write_row(job, out, i, j0, n, tag)
    return True

ctypedef bint (*product_function)(void*, const ClassJob*, Py_ssize_t, double, Row*) noexcept nogil


cdef inline void wide_product(real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Row* row) noexcept nogil:
    """`row_product` in `wide_real`."""
    cdef vec step
    cdef Wide wide
    cdef Py_ssize_t j0, j, n
    cdef real* out
    cdef wide_real e, v, of_greatest = 0, mean = 0
    (<wide_statistics_function>fastloss_out_of_line(<void*>wide_statistics))(job, i, -1, &wide)
    for j in range(job.classes):
        if wide_x(job, i, j) == wide.top:
            of_greatest = stored(job, job.coefficient, job.coefficient_storage, position_in_results(job, i, j))
    for j in range(job.classes):
        e = expl(wide_x(job, i, j) - wide.top)
        v = stored(job, job.coefficient, job.coefficient_storage, position_in_results(job, i, j))
        mean += e * (v - of_greatest)
    mean /= 1 + wide.others
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        out = <real*>place_to_write(job, i, j0, row.e, step)
        for j in range(n):
            e = expl(wide_x(job, i, j0 + j) - wide.top) / (1 + wide.others)
            v = stored(job, job.coefficient, job.coefficient_storage, position_in_results(job, i, j0 + j))
            out[j] = <real>weighted(e * ((v - of_greatest) - mean), wide.scale)
        write_row(job, out, i, j0, n, step)

ctypedef void (*wide_product_function)(void*, void*, const ClassJob*, Py_ssize_t, Row*) noexcept nogil


cdef inline void product_of_row(real* tag, const ClassJob* job, Py_ssize_t i, Row* row, vec step) noexcept nogil:
    """The derivative of softmax times a vector."""
    cdef double scale = gradient_scale(job, i)
    cdef double small = 3.009265538105056e-36 if real is float else 2.409919865102884e-181  # 2^-118, 2^-600
    cdef bint wide = is_out_of_range(scale, 1e-30 if real is float else 1e-270, 1e30 if real is float else 1e270)
    wide |= (row.others < small * row.unit) & (fabs(scale) > 1)
    if not wide:
        wide = not (<product_function>fastloss_out_of_line(<void*>row_product[vec]))(NULL, job, i, scale, row)
    if wide:
        (<wide_product_function>fastloss_out_of_line(<void*>wide_product[real, vec]))(NULL, NULL, job, i, row)
ctypedef void (*log_softmax_function)(void*, const ClassJob*, Py_ssize_t, Row*) noexcept nogil


cdef inline void wide_row(
    real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Py_ssize_t t, bint gradient, Row* row, wide_real* value
) noexcept nogil:
    """The value of row i, whose label is t, or -1, or its gradient, in `wide_real`."""
    cdef vec step
    cdef Wide wide
    cdef Py_ssize_t j0, n, j
    cdef const real* x
    cdef real* grad
    cdef bint by_x = job.summed == 0 and job.op != DISTILLED
    cdef wide_entry_function gradient_at = <wide_entry_function>fastloss_out_of_line(<void*>wide_gradient)
    cdef wide_entry_function curve_at = <wide_entry_function>fastloss_out_of_line(<void*>wide_curve)
    (<wide_statistics_function>fastloss_out_of_line(<void*>wide_statistics))(job, i, t, &wide)
    if not gradient:
        value[0] = wide_value(job, &wide, i)
        return
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        x = gathered(job.x, job.storage, position_of(job, i) + j0 * job.inner, job.inner, n, <real*>row.x)
        if job.hessian.data != NULL:
            grad = <real*>place_in(job.hessian.data, job.hessian.storage, job, i, j0, row.h, step)
            for j in range(n):
                grad[j] = <real>curve_at(job, &wide, i, j0 + j, j0 + j == t, x[j])
            write_row_in(job.hessian.data, job.hessian.storage, job, grad, i, j0, n, step)
        if by_x:
            grad = <real*>place_to_write(job, i, j0, row.e, step)
        else:
            grad = <real*>row.e
        for j in range(n):
            grad[j] = <real>gradient_at(job, &wide, i, j0 + j, j0 + j == t, x[j])
        if by_x:
            write_row(job, grad, i, j0, n, step)
        else:
            (<scaled_function>fastloss_out_of_line(<void*>write_scaled[real, vec]))(NULL, NULL, job, i, j0, n, x, row)

ctypedef void (*wide_function)(
    void*, void*, const ClassJob*, Py_ssize_t, Py_ssize_t, bint, Row*, wide_real*
) noexcept nogil


cdef inline void row_loss(
    int MODE, ClassJob* job, Py_ssize_t i, Py_ssize_t l, int64_t t, Row* row, Batch* batch, real* tag, vec step
) noexcept nogil:
    """What a loss needs besides `row_statistics`, and its gradient; t is the label, or -1."""
    cdef double entry = 0, c_t = 0, weight = 1, others = batch.others[l], k = batch.k[l], a = batch.a[l], b = batch.b[l]
    cdef double scale = gradient_scale(job, i) if job.with_grad else 1.0
    cdef bint usual = not job.headed or is_usual_head(job, batch.top[l])
    cdef bint plain = MODE == PLAIN and job.unweighted and usual, ordinary
    cdef wide_function wide = <wide_function>fastloss_out_of_line(<void*>wide_row[real, vec])
    cdef Curve curve
    cdef real unused = 0
    cdef wide_real value = 0
    ordinary = plain and batch.d[l] >= -1e90
    if not ordinary and usual and (job.float32 or job.sample_weight == NULL):
        ordinary = is_ordinary(others, k, batch.d[l], a, b, scale)
    if not ordinary:
        weight = per_sample(job, job.sample_weight, i)
        if not usual or value_is_wide(unused, others, k, batch.d[l], a, b, weight):
            wide(NULL, NULL, job, i, t, False, row, &value)
            set_wide(batch, l, value)
    if not job.with_grad:
        return
    row.lost = 0
    if job.headed:
        k *= batch.slope[l]
        row.lost = sum_low(a, batch.square[l], a + batch.square[l])
        a += batch.square[l]
    if not ordinary and not plain:
        others = (row.others + row.unit) / exp_one(row.top, row.reference, step) - 1
        others = max(others, batch.others[l] if others < 1 else 0.0)
        if not usual or gradient_is_wide(unused, others, k, a, scale, MODE != PLAIN):
            wide(NULL, NULL, job, i, t, True, row, &value)
            return
    if t >= 0:
        if MODE == SHARED or MODE == UNIFORM:
            c_t = shared_by(job, t)
        entry = target_gradient(scale, k, a, c_t, row.own / row.unit, batch.others[l])
    if job.hessian.data != NULL:
        (<curve_of_label_function>fastloss_out_of_line(<void*>curve_of_label))(
            job, a + k, batch.k[l] if t >= 0 else 0, batch.log_sum[l] - batch.d[l] if job.headed else 0,
            row.own / row.unit, batch.others[l], scale * job.hessian.factor, &curve
        )
        if not fabs(curve.b) < (1e30 if job.float32 else 1e250):
            wide(NULL, NULL, job, i, t, True, row, &value)
            return
    row_gradient(
        MODE, job, i, scale * (a + k) if MODE == PLAIN else scale, a + k, t, entry,
        &curve if job.hessian.data != NULL else NULL, row, tag, step
    )


cdef inline void distilled_gradient(real* tag, vec* type, const ClassJob* job, Py_ssize_t i, Row* row) noexcept nogil:
    """The gradient of a row that has no label."""
    cdef vec step
    cdef Py_ssize_t j0, n
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        (<add_function>fastloss_out_of_line(<void*>add_distilled[real, vec]))(NULL, NULL, job, i, j0, n, False, row)
        multiplied_steps(row.e, n, 1, NULL, False, -INFINITY, step, place_to_write(job, i, j0, row.e, step))
        write_row(job, place_to_write(job, i, j0, row.e, step), i, j0, n, step)


cdef inline void zero_row(void* out, int storage, const ClassJob* job, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t item = bytes_of(storage, <float*>NULL) if job.float32 else bytes_of(storage, <double*>NULL), j, n
    n = job.classes * item if job.inner == 1 else item
    for j in range(job.classes if job.inner > 1 else 1):
        memset(<char*>out + position_in_results(job, i, j) * item, 0, n)


cdef inline void restore_row(
    vec* type, int mode, const ClassJob* job, Py_ssize_t i, int64_t t, double others, Row* row
) noexcept nogil:
    """What `row_statistics` leaves of row i, from statistics that are known; `others` is relative to the maximum."""
    cdef vec tag
    cdef double x_t = value_of(job, i, t) if t >= 0 else 0
    cdef double lead = exp_lead(tag) * (1.5 if others < 8.67e-19 else 1.0)  # 2^-60, as `row_statistics` has it
    row.top = element(job.parts.top, i, tag)
    row.anchor = row.top
    row.shift = 0
    row.reference = exp_reference(row.top, lead, tag)
    if not exp_can_reduce(row.top, tag) and row.top - row.top == 0:
        row.shift = row.top
        row.top = 0
    row.unit = exp_one(row.top, row.reference, tag)
    row.others = others * row.unit
    row.own = exp_one(x_t - row.shift, row.reference, tag)
    row.c_used = job.shared
    if job.classes <= ROWS_BLOCK:
        exp_block(mode, job, i, 0, job.classes, row, tag)

ctypedef void (*restore_function)(void*, int, const ClassJob*, Py_ssize_t, int64_t, double, Row*) noexcept nogil


cdef inline bint collect_row(
    int MODE, ClassJob* job, Py_ssize_t i, Py_ssize_t l, int64_t t, bint skipped, Row* row, Batch* batch, real* tag,
    vec step
) noexcept nogil:
    """Statistics of sample i into place l of the batch, or its output; whether it has a loss of its label."""
    cdef const real* weight = <const real*>job.class_weight
    batch.keep[l] = 1
    batch.k[l] = batch.d[l] = batch.own[l] = 0
    if skipped:
        batch.top[l] = batch.others[l] = batch.a[l] = batch.b[l] = batch.keep[l] = 0
        if job.grad != NULL:
            zero_row(job.grad, job.grad_storage, job, i)
        if job.hessian.data != NULL:
            zero_row(job.hessian.data, job.hessian.storage, job, i)
        return False
    if job.op == DISTILLED:
        (<distil_function>fastloss_out_of_line(<void*>distil_row[real, vec]))(NULL, NULL, job, i, row)
        if t < 0 or job.index_scale == 0:
            if job.with_grad:
                (<distil_function>fastloss_out_of_line(<void*>distilled_gradient[real, vec]))(NULL, NULL, job, i, row)
            batch.top[l] = batch.others[l] = batch.a[l] = 0
            batch.b[l] = -row.distilled.value
            return False
    if t >= 0 and job.op != PARTIAL:
        batch.k[l] = job.index_scale * (<double>weight[t] if weight != NULL else 1.0)
    row_statistics(MODE, job, i, t, row, step)
    if MODE == LINEAR and row.suspect and job.targets != UNCHECKED:
        (<wrong_function>fastloss_out_of_line(<void*>note_if_wrong))(job, i)
    batch.top[l] = row.anchor
    batch.others[l] = row.others / row.unit
    batch.a[l] = row.a if MODE != PLAIN else 0
    batch.b[l] = row.b if MODE != PLAIN else 0
    if MODE == EXPECTED or MODE == SQUARED:
        batch.a[l] /= row.unit
        batch.b[l] /= row.unit
    if job.op == LOGSUMEXP or job.op == PARTIAL:
        if not fabs(row.top) < INFINITY:  # +inf gives +inf and -inf -inf, unless the row also holds NaN
            batch.others[l] = sum_past_inf(job, position_of(job, i))
        if job.op == PARTIAL:
            batch.d[l] = value_of(job, i, t) if t >= 0 else NAN
            if t >= 0 and batch.d[l] != batch.d[l]:  # then `others` is NaN, too
                batch.d[l] = 0
        return False
    batch.others[l] += row.top - row.top
    row.others += row.top - row.top
    if job.op == SOFTMAX:
        row_gradient(MODE, job, i, 1, 1, -1, 0, NULL, row, tag, step)
    elif job.op == SOFTMAX_VJP:
        product_of_row(tag, job, i, row, step)
    elif job.op == LOG_SOFTMAX:
        (<log_softmax_function>fastloss_out_of_line(<void*>row_log_softmax[vec]))(NULL, job, i, row)
    elif job.op != ENTROPY_FROM_LOGITS and job.op != MOMENTS:
        if t >= 0:
            batch.d[l] = value_of(job, i, t) - row.anchor
            if job.headed:
                batch.own[l] = row.own / row.unit
        return True
    return False


cdef inline void row_of(
    int MODE, ClassJob* job, Py_ssize_t i, Py_ssize_t l, int stage, Row* row, Batch* batch, real* tag, vec step
) noexcept nogil:
    """A stage of sample i, in place l of the batch: its gradient or output where job.grad is set."""
    cdef int64_t t = -1
    cdef bint skipped = masked(job, i)
    if job.labels != NULL:
        t = label_of(job, i)
        skipped = t == job.ignore_index
    if job.parts.top != NULL:
        t = class_of(job, t)
    if stage == RESTORED:
        if job.with_grad:
            (<restore_function>fastloss_out_of_line(<void*>restore_row[vec]))(
                NULL, MODE, job, i, t, batch.others[l], row
            )
    elif stage == WRITTEN:
        if skipped:
            return
    elif not collect_row(MODE, job, i, l, t, skipped, row, batch, tag, step):
        return
    if stage != COLLECTED:
        row_loss(MODE, job, i, l, t, row, batch, tag, step)
    if job.op == DISTILLED and stage != WRITTEN and stage != RESTORED:
        batch.b[l] = -row.distilled.value
        if batch.any_wide and batch.is_wide[l]:
            batch.wide[l] += weighted(row.distilled.value, per_sample(job, job.sample_weight, i))


# Called by pointers, so that their loops have the registers for themselves.
ctypedef void (*row_function)(void*, void*, ClassJob*, Py_ssize_t, Py_ssize_t, int, Row*, Batch*) noexcept nogil


cdef inline void plain_row(
    real* tag, vec* type, ClassJob* job, Py_ssize_t i, Py_ssize_t l, int stage, Row* row, Batch* batch
) noexcept nogil:
    cdef vec step
    row_of(PLAIN, job, i, l, stage, row, batch, tag, step)


cdef inline void linear_row(
    real* tag, vec* type, ClassJob* job, Py_ssize_t i, Py_ssize_t l, int stage, Row* row, Batch* batch
) noexcept nogil:
    """That of all other modes, which read more: some branches in a row are not what they wait for."""
    cdef int mode = mode_of(job)
    cdef vec step
    if mode == PLAIN:
        fastloss_unreachable()
    row_of(mode, job, i, l, stage, row, batch, tag, step)


cdef inline row_function row_of_job(const ClassJob* job, const real* tag, const vec* type) noexcept nogil:
    cdef void* function = <void*>plain_row[real, vec] if mode_of(job) == PLAIN else <void*>linear_row[real, vec]
    return <row_function>fastloss_out_of_line(function)


cdef inline double row_entropy(const ClassJob* job, Py_ssize_t i, Row* row, real* e, vec tag) noexcept nogil:
    """Σ -p log p, with 0 log 0 = 0."""
    cdef Py_ssize_t j0, j, n
    cdef const real* p
    cdef Sum s
    s.total = s.low = 0
    row.shift = 0
    for j0 in range(0, job.classes, ROWS_BLOCK):
        n = min(<Py_ssize_t>ROWS_BLOCK, job.classes - j0)
        p = <const real*>read_row(job, i, j0, n, row, tag)
        for j in range(n):
            e[j] = entropy_term(p[j])
        for j in range(n, n + step_of(tag)):
            e[j] = <real>0
        sum_steps(e, n, False, 0, tag, &s)
    return joined(s.total, s.low)


cdef inline void place_row(real* tag, Row* row, double* by_scale, double* by_bias) noexcept nogil:
    """The buffers, in this thread's memory, and where sums are added up."""
    cdef void* memory = fastloss_memory
    row.by_scale = by_scale
    row.by_bias = by_bias
    row.x = <real*>part_of(memory, 0, BYTES_OF_ROWS_BLOCK)
    row.c = <real*>part_of(memory, 1, BYTES_OF_ROWS_BLOCK)
    row.c_ahead = <real*>part_of(memory, 2, BYTES_OF_ROWS_BLOCK)
    row.e_ahead = <real*>part_of(memory, 3, BYTES_OF_ROWS_BLOCK)
    row.h = <real*>part_of(memory, 4, BYTES_OF_ROWS_BLOCK)
    row.e = <real*>part_of(memory, 5, BYTES_OF_ROWS_BLOCK)  # the last, with room behind it: `apart_from`
    row.lost = 0
    row.guess = -60 if real is float else -500
