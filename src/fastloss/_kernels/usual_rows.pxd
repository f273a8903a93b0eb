# usual_rows: rows of one block of which a maximum and a sum or two are all that is needed: a label's loss, smoothed or
# not, logsumexp, softmax, log_softmax, entropy. `rows` asks for each what it might be, longer than a short one's
# exponentials take; what most are is computed here, to the same bits, and the others are left to `rows`.
#
# A few take turns in three loops, so that none waits for another's last sum; with a gradient each is by itself, as a
# burst of stores would stall.

from libc.math cimport fabs
from fastloss._kernels.vector cimport *
from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.statistics cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.rows cimport *
include "tuning.pxi"


cdef inline bint are_usual(const ClassJob* job) noexcept nogil:
    """Whether most rows of a job are usual."""
    cdef int mode = mode_of(job)
    cdef bint simple = job.op == LOSS or job.op == LOGSUMEXP or job.op == SOFTMAX or job.op == LOG_SOFTMAX \
        or job.op == ENTROPY_FROM_LOGITS or mode == UNIFORM and job.op == LOSS_LINEAR
    if not job.float32 and job.sample_weight != NULL or job.grad != NULL and not writes_as_is(job):  # see `is_ordinary`
        return False
    return simple and 1 < job.classes <= ROWS_BLOCK and job.inner == 1 and not job.headed and job.summed == 0 \
        and job.hessian.data == NULL and job.parts.top == NULL


# What is known of rows that take turns.
cdef struct Usual:
    bint usual[HEADED]
    void* e[HEADED]
    int64_t label[HEADED]          # or -1,
    double x_t[HEADED]             # where x is this,
    double own[HEADED]             # and its exponential that
    double reference[HEADED]
    double top[HEADED]
    double sum[HEADED]             # without `own`
    double b[HEADED]               # Σ x_j - top, or for the entropy Σ e_j (x_j - top)
    Gradient gradient[HEADED]


cdef inline void sum_usual(Py_ssize_t n, Py_ssize_t g, Usual* rows, vec tag) noexcept nogil:
    """The label's exponential, taken out, and the sum of all others."""
    cdef int64_t t = rows.label[g]
    rows.own[g] = 0
    if t >= 0:
        rows.own[g] = element(rows.e[g], t, tag)
        take_out(rows.e[g], t, tag)
    rows.sum[g] = sum_of_steps(rows.e[g], n, False, 0, tag)


# What few rows need is called by pointers: in place it would take registers from the loops.
ctypedef void (*again_function)(void*, const ClassJob*, Py_ssize_t, Py_ssize_t, double, Row*, Usual*) noexcept nogil
ctypedef double (*beside_unit_function)(void*, const void*, Py_ssize_t, double) noexcept nogil


cdef inline void exponentials_again(
    vec* type, const ClassJob* job, Py_ssize_t i, Py_ssize_t g, double reference, Row* row, Usual* rows
) noexcept nogil:
    """Those of row i, with this reference."""
    cdef vec tag
    row.e = rows.e[g]
    row.reference = rows.reference[g] = reference
    exp_block(PLAIN, job, i, 0, job.classes, row, tag)
    sum_usual(job.classes, g, rows, tag)


cdef inline double sum_beside_unit(vec* type, const void* e, Py_ssize_t n, double unit) noexcept nogil:
    cdef vec tag
    return sum_of_steps(e, n, True, unit, tag)


cdef inline void collect_usual(
    int MODE, const ClassJob* job, Py_ssize_t i, Py_ssize_t g, vec magic, vec least, Row* row, Usual* rows
) noexcept nogil:
    """A pass over row i."""
    cdef const void* x = <const char*>job.x + i * job.x_stride * (64 // step_of(magic))
    cdef Py_ssize_t n = job.classes
    cdef bint in_place = job.storage == NATIVE and reads_as_is(job)
    cdef Py_ssize_t ahead = fastloss_ahead[job.grad != NULL]
    cdef int64_t t = rows.label[g]
    cdef double top
    cdef Sum a, b
    row.reference = row.guess
    row.e = apart_from(x, rows.e[g]) if in_place else rows.e[g]
    if in_place:
        top = greatest(exp_steps(NATIVE, False, x, n, ahead, magic, magic, least, row.e))
    else:
        top = exp_block(PLAIN, job, i, 0, n, row, magic)
    if not exp_fits(top, row.reference, magic) and exp_can_reduce(top, magic):
        row.reference = exp_reference(top, exp_lead(magic), magic)
        exp_block(PLAIN, job, i, 0, n, row, magic)
    rows.reference[g] = row.reference
    rows.top[g] = top
    rows.e[g] = row.e
    if t >= 0:
        rows.x_t[g] = element(x, t, magic) if in_place else value_of(job, i, t)
    sum_usual(n, g, rows, magic)
    if MODE != PLAIN:
        a.total = a.low = b.total = b.low = 0
        x = read_row(job, i, 0, n, row, magic)
        linear_steps(MODE, x, NULL, row.e, n, rows.top[g], magic, &a, &b)
        rows.b[g] = joined(b.total, b.low)


cdef inline bint usual_row(
    int MODE, const ClassJob* job, Py_ssize_t i, Py_ssize_t g, Py_ssize_t l, bint kept, Row* row, Usual* rows,
    Batch* batch, real* tag, vec step
) noexcept nogil:
    """What `row_statistics` and `row_loss` make of it, into place l of the batch; False where that takes more."""
    cdef double tiny = 8.67e-19  # 2^-60
    cdef double a = 0, c_t = 0, k = 0, scale = 1, exact = exp_reference(rows.top[g], 1.5 * exp_lead(step), step)
    cdef double anchor, unit, others, coefficients, total
    cdef int64_t t = rows.label[g]
    cdef Gradient* of = &rows.gradient[g]
    cdef again_function again = <again_function>fastloss_out_of_line(<void*>exponentials_again[vec])
    cdef beside_unit_function beside = <beside_unit_function>fastloss_out_of_line(<void*>sum_beside_unit[vec])
    cdef bint of_label = is_label_enough(MODE, job)
    if MODE == UNIFORM:
        a = job.shared_sum
        c_t = element(job.shared, 0, step)
    if not exp_fits(rows.top[g], rows.reference[g], step):
        return False
    while True:  # as in `choose_anchor`, and what is cut off may count
        anchor, unit, others = rows.x_t[g], rows.own[g], rows.sum[g]
        if t < 0 or anchor != rows.top[g] and not (unit >= tiny * others and of_label):
            anchor = rows.top[g]
            unit = exp_one(anchor, rows.reference[g], step)
            others = (others - unit) + rows.own[g]
            if others < 0.9 * unit:
                if not kept:
                    again(NULL, job, i, g, rows.reference[g], row, rows)
                others = beside(NULL, rows.e[g], job.classes, unit) + rows.own[g]
        if not others < tiny * unit or rows.reference[g] == exact:
            break
        if MODE == EXPECTED:
            return False
        again(NULL, job, i, g, exact, row, rows)
    if not others >= 0:
        return False
    batch.top[l] = anchor
    batch.others[l] = others / unit
    batch.a[l] = a
    batch.b[l] = rows.b[g] / unit if MODE == EXPECTED else 0
    if MODE == UNIFORM:
        batch.b[l] = rows.b[g] * c_t - a * (anchor - rows.top[g])
    batch.d[l] = rows.x_t[g] - anchor if t >= 0 else 0
    if t >= 0:
        k = job.index_scale
        if job.class_weight != NULL:
            k *= (<const real*>job.class_weight)[t]
    batch.k[l] = k
    batch.keep[l] = 1
    if job.op == LOSS or job.op == LOSS_LINEAR:
        if job.with_grad:
            scale = gradient_scale(job, i)
        if not (MODE == PLAIN and job.unweighted and batch.d[l] >= -1e90) \
                and not is_ordinary(batch.others[l], k, batch.d[l], a, batch.b[l], scale):
            return False
    if job.grad == NULL:
        return True
    total = others + unit
    coefficients = a + k if t >= 0 or MODE == UNIFORM else 1
    of.entry = target_gradient(scale, k, a, c_t, rows.own[g] / unit, batch.others[l])
    if MODE == PLAIN:
        scale *= coefficients
    if lead_in_range(MODE, scale, coefficients, total, step) >= 0:
        return False
    of.factor = scale / total
    of.least = least_exponential(MODE, of.factor, coefficients, step)
    of.a = coefficients
    of.lost = 0
    of.uniform = c_t
    of.unit = unit
    of.others = others
    return True


cdef inline uint64_t usual_rows_of(
    int MODE, ClassJob* job, Py_ssize_t start, Py_ssize_t count, Row* row, Batch* batch, real* tag, vec step
) noexcept nogil:
    cdef vec magic = exp_magic(row.guess, step), least = exp_least(row.guess, step)
    cdef bint kept = MODE == EXPECTED or job.op != LOSS and job.op != LOSS_LINEAR or job.grad != NULL  # exponentials
    cdef Py_ssize_t most = min(<Py_ssize_t>HEADED, ROWS_BLOCK // job.classes) if kept else HEADED
    cdef Py_ssize_t size = 1 if job.grad != NULL else most, l = 0, g, n
    cdef Py_ssize_t apart = (job.classes + 2 * step_of(step)) * (64 // step_of(step)) + 2048 if kept else 0
    cdef int hope = HEADED  # falls with each row that is not usual: where most are not, it is not tried
    cdef uint64_t left = 0
    cdef void* e = row.e
    cdef Usual rows
    row.shift = 0
    while l < count and hope > 0:
        n = min(size, count - l)
        for g in range(n):
            rows.e[g] = <char*>e + g * apart
            rows.label[g] = -1
            rows.usual[g] = not masked(job, start + l + g)
            if job.labels != NULL:
                rows.label[g] = label_of(job, start + l + g)
                rows.usual[g] = rows.label[g] != job.ignore_index
            if not rows.usual[g]:
                continue
            collect_usual(MODE, job, start + l + g, g, magic, least, row, &rows)
            if guess_anew(rows.top[g], row, step):
                magic = exp_magic(row.guess, step)
                least = exp_least(row.guess, step)
        for g in range(n):
            if rows.usual[g]:
                rows.usual[g] = usual_row(MODE, job, start + l + g, g, l + g, kept, row, &rows, batch, tag, step)
                hope = min(hope + 1, HEADED) if rows.usual[g] else hope - 1
            left |= <uint64_t>(not rows.usual[g]) << (l + g)
        for g in range(n if job.grad != NULL else 0):
            if not rows.usual[g]:
                continue
            row.e = rows.e[g]
            row.anchor = batch.top[l + g]
            row.others = rows.gradient[g].others
            row.unit = rows.gradient[g].unit
            if job.op == LOG_SOFTMAX:
                (<log_softmax_function>fastloss_out_of_line(<void*>row_log_softmax[vec]))(NULL, job, start + l + g, row)
            else:
                write_gradient(
                    MODE, job, start + l + g, 0, job.classes, rows.label[g], NULL, &rows.gradient[g], row, step
                )
        l += size
    row.e = e
    return left | (<uint64_t>-1 << l if l < count else 0)


ctypedef uint64_t (*usual_function)(void*, void*, ClassJob*, Py_ssize_t, Py_ssize_t, Row*, Batch*) noexcept nogil


cdef inline uint64_t usual_rows(
    real* tag, vec* type, ClassJob* job, Py_ssize_t start, Py_ssize_t count, Row* row, Batch* batch
) noexcept nogil:
    """`row_of` for `count` samples from `start` on that are usual. Returns the bits of those that are not, of which
    nothing is written."""
    cdef int mode = mode_of(job)
    cdef vec step
    if mode == PLAIN:
        return usual_rows_of(PLAIN, job, start, count, row, batch, tag, step)
    if mode == UNIFORM:
        return usual_rows_of(UNIFORM, job, start, count, row, batch, tag, step)
    return usual_rows_of(EXPECTED, job, start, count, row, batch, tag, step)
