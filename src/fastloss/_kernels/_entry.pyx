# The entry points: arrays become pointers, work is cut into chunks. This is the module that Python loads.
#
# a) The arguments have been checked, or are by the functions named plain_..., which also allocate the results:
#    arrays are aligned, native, contiguous (x may have a stride between outer indices) and of one dtype; see
#    _arguments.py and losses/.
# b) Chunks depend on the shape alone, never on the threads; see schedule.pxi, where they are shared.
# c) Jobs are on the stack; what many chunks leave is allocated and released in the call.
# d) It is compiled once, for any processor. What computes a chunk is in the units of the instruction set in use.

from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from libc.math cimport INFINITY, fabs, ldexp
cimport numpy as cnp
import numpy

from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.points cimport *
from fastloss._kernels.pointwise cimport *
from fastloss._kernels.schedule cimport *
from fastloss._kernels.exact cimport *
from fastloss._kernels.callers cimport Kernels, set_class_job, set_point_job
from fastloss._kernels.units cimport *
include "tuning.pxi"
include "schedule.pxi"

cdef extern from "machine.h":
    int omp_get_max_threads() noexcept nogil
    int fastloss_level()
    bint fastloss_asks_ahead()
    bint fastloss_foresees_rows()
    const char* fastloss_compiler
    int fastloss_openmp

cdef extern from "units.h":
    int fastloss_builds
    const char* fastloss_isa(int k)
    void fastloss_show(int k, void* units)

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray, cnp.NPY_ORDER, cnp.PyArray_Descr*, int)

cnp.import_array()

BFLOAT16_DTYPE = numpy.dtype([("bfloat16", numpy.uint16)])

cdef enum:
    MOST_BUILDS = 8

cdef Units BUILDS[MOST_BUILDS]     # the instruction sets
cdef const Units* units = NULL     # those in use; `use` chooses
cdef bint ASKS_AHEAD = fastloss_asks_ahead()
fastloss_ahead[0] = AHEAD // 3 if fastloss_foresees_rows() else AHEAD
fastloss_ahead[1] = 0 if fastloss_foresees_rows() else AHEAD
cdef Kernels kernels               # what compiled callers reach
cdef inline void* data_of(object array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef inline bint is_float32(object array) noexcept:
    """Whether the loops for this array compute in float32."""
    return cnp.PyArray_TYPE(<cnp.ndarray>array) != cnp.NPY_FLOAT64


cdef inline int storage_of(object array) noexcept:
    """bfloat16 has no type number of its own: it is what remains."""
    cdef int number = cnp.NPY_FLOAT32 if array is None else cnp.PyArray_TYPE(<cnp.ndarray>array)
    if number == cnp.NPY_FLOAT32 or number == cnp.NPY_FLOAT64:
        return NATIVE
    return FLOAT16 if number == cnp.NPY_FLOAT16 else BFLOAT16


cdef inline int storage_beside(object array, object x) noexcept:
    """That of an argument or result beside x, which tells the type of the loop."""
    cdef int storage = storage_of(array)
    cdef bint narrow = array is not None and cnp.PyArray_TYPE(<cnp.ndarray>array) == cnp.NPY_FLOAT32
    return SINGLE if narrow and not is_float32(x) else storage


cdef inline Py_ssize_t bytes_in(object array) noexcept:
    return 0 if array is None else cnp.PyArray_NBYTES(<cnp.ndarray>array)


cdef inline int storage_to_write(object array, object x, object y) noexcept:
    """That of a result as large as x: past the caches if it, x and y (or None) do not fit there.

    Where it takes the place of either its lines have been read already.
    """
    cdef int storage = storage_beside(array, x)
    if storage != NATIVE or array is None or data_of(array) == data_of(x):
        return storage
    if data_of(array) == data_of(y):
        return NATIVE
    return storage_of_result(bytes_in(x), bytes_in(y))


cdef inline bint is_float(cnp.ndarray x):
    """Whether x is of a float type that the kernels read."""
    cdef int number = cnp.PyArray_TYPE(x)
    if number == cnp.NPY_FLOAT32 or number == cnp.NPY_FLOAT64 or number == cnp.NPY_FLOAT16:
        return True
    return cnp.PyArray_ITEMSIZE(x) == 2 and (x.dtype == BFLOAT16_DTYPE or x.dtype.type.__name__ == "bfloat16")


cdef inline int label_kind(object labels) noexcept:
    """Item size of an integer dtype, negative when unsigned; see `widen_labels`."""
    cdef int size = <int>cnp.PyArray_ITEMSIZE(<cnp.ndarray>labels)
    return size if cnp.PyTypeNum_ISSIGNED(cnp.PyArray_TYPE(<cnp.ndarray>labels)) else -size


cdef chunk_function plan(ClassJob* job, Py_ssize_t* chunks) noexcept nogil:
    """The kernel family for a job, and its chunks; both follow from the shape alone."""
    cdef chunk_function function
    cdef Py_ssize_t step = 1
    job.unweighted = job.class_weight == NULL and job.linear_weight == NULL and job.sample_weight == NULL \
        and job.grad_output == NULL and 1e-20 <= fabs(job.grad_scale) <= 1
    job.headed = job.head != CROSS_ENTROPY or job.z_loss != 0
    cdef bint bent = job.hessian.data != NULL and not (job.head == CROSS_ENTROPY and writes_as_is(job))
    if job.op == NLL or job.op == CHECK_LABELS:
        function = units.nll if job.op == NLL else units.labels
        job.chunk = chunk_size(job.samples, 1, 1)
    elif job.op == CHECK_TARGETS:
        function = units.targets[job.float32]
        job.chunk = chunk_size(job.samples, job.classes, LANES)
    elif job.op == LOG_MULTINOMIAL:
        function = units.log_multinomial
        job.chunk = chunk_size(job.samples, job.classes, 1)
    elif job.op == SOFTMAX_BACKWARD or job.op == LOG_SOFTMAX_BACKWARD:
        function = units.backward[job.float32]
        job.chunk = chunk_size(job.samples, job.classes, 1 if job.inner == 1 else LANES)
    elif job.inner == 1 and job.classes >= ROWS_MIN_CLASSES and not takes_short_rows(job) \
            or job.classes >= TILES_MAX_CLASSES or bent \
            or job.op == DISTILLED or job.parts.top != NULL \
            or job.head == POLY and fabs(job.head_parameter) > 1e6:
        function = units.rows[job.float32]
        job.chunk = chunk_size(job.samples, job.classes, 1)
    else:
        function = units.tiles[job.float32]
        job.chunk = chunk_size(job.samples, job.classes, LANES)
        step = LANES
    if job.summed > 1:  # a sum for each class is what fewer chunks should leave
        job.chunk = max(job.chunk, (job.samples + SUMMED_CHUNKS * step - 1) // (SUMMED_CHUNKS * step) * step)
    chunks[0] = (job.samples + job.chunk - 1) // job.chunk
    return function


cdef Py_ssize_t samples_before_line(ClassJob* job, size_t address) noexcept nogil:
    """Samples before the first that begins a line of the array (x or gradient) at `address`, if so in every class."""
    cdef Py_ssize_t item = bytes_of(job.storage, <float*>NULL) if job.float32 else bytes_of(job.storage, <double*>NULL)
    cdef Py_ssize_t beyond = <Py_ssize_t>(address % 64)
    if job.inner == 1 or job.inner * item % 64 != 0 or beyond % item != 0:
        return 0
    return (64 - beyond) % 64 // item


cdef void set_hessian(Diagonal* hessian, object hess, tuple rule, object x, object y) noexcept:
    """`rule` says whether terms that may be negative are dropped, what the rest is multiplied by, and the least."""
    if hess is not None:
        hessian.data = data_of(hess)
        hessian.storage = storage_to_write(hess, x, y)
        hessian.convex, hessian.factor, hessian.floor = rule


cdef void sum_of_sums(
    const ClassJob* job, const double* sums, Py_ssize_t n, Py_ssize_t chunks, double* y
) noexcept nogil:
    """What the chunks leave by scale or bias, n sums, in order; nothing where y is NULL."""
    cdef Py_ssize_t k, j
    for j in range(n if y != NULL else 0):
        y[j] = 0
        for k in range(chunks):
            y[j] += sums[k * job.summed + j]


cdef int compute_class(
    ClassJob* job, int threads, double factor, double divisor, bint signals, double* total
) noexcept nogil:
    """Run a job that is set but for its scale: the gradient times factor / divisor, the values' sum / divisor.

    `invalid` is set to the first sample with a target that cannot be meant; then the results are worth nothing.
    """
    cdef Py_ssize_t chunks
    cdef int failed
    cdef chunk_function function
    job.invalid = <uint64_t>-1
    if job.float32:
        job.input_scale = <float>job.input_scale
    job.summed = 0
    if job.by_scale != NULL:
        job.summed = job.classes if job.class_scale != NULL else 1
    if job.by_bias != NULL:
        job.summed += job.classes
    job.with_grad = job.grad != NULL or job.summed != 0
    job.grad_scale = factor / divisor
    job.wide_scale = <wide_real>factor / divisor
    if job.summed == 0 and job.input_scale != 1:  # otherwise it is multiplied by as it is written
        job.grad_scale *= job.input_scale
        job.wide_scale *= job.input_scale
    job.lead = 0
    if job.grad_storage == STREAMED:
        job.lead = samples_before_line(job, <size_t>job.grad)
    elif job.inner >= LINE_MIN_INNER:
        job.lead = samples_before_line(job, <size_t>job.x)
    function = plan(job, &chunks)
    if job.samples * job.classes < SERIAL_ELEMENTS:
        threads = 1
    job.sums = NULL
    if job.summed != 0:
        job.sums = <double*>calloc(chunks * job.summed + 1, sizeof(double))
    if job.summed != 0 and job.sums == NULL or not take_digits(job.exact, chunks, &job.digits):
        free(job.sums)
        return NO_MEMORY
    failed = try_run(function, job, &job.partial, chunks, threads, divisor, signals, total)
    if failed == 0 and job.summed != 0:
        sum_of_sums(job, sums_by_scale(job, 0), job.classes if job.class_scale != NULL else 1, chunks, job.by_scale)
        sum_of_sums(job, sums_by_bias(job, 0), job.classes, chunks, job.by_bias)
    free(job.sums)
    job.sums = NULL
    add_digits(job.exact, chunks, job.digits)
    return failed


cdef double run_class(
    ClassJob* job, object x, object coefficient, object value, object grad, int threads, double factor, double divisor,
    object exact=None
) except? -1:
    """Run a job whose arguments are set: the values, the gradient times factor / divisor, their sum / divisor."""
    cdef double total = 0
    job.value = data_of(value)
    job.grad = data_of(grad)
    job.grad_storage = storage_to_write(grad, x, coefficient)
    job.exact = <int64_t*>data_of(exact)
    with nogil:
        raised(compute_class(job, threads, factor, divisor, True, &total))
    return total


cdef Parts parts_of(tuple arrays):
    """Of no arrays, or of those in the order of the struct."""
    cdef Parts parts
    memset(&parts, 0, sizeof(parts))
    if arrays:
        parts.top, parts.others, parts.label = data_of(arrays[0]), <double*>data_of(arrays[1]), data_of(arrays[2])
        parts.dot = <double*>data_of(arrays[3])
        parts.terms = <int>(arrays[1].size // max(arrays[0].size, 1))
    return parts


cdef void merge_all(
    const real* tag, const Parts* a, const Parts* b, double of_a, double of_b, Py_ssize_t n, const Parts* merged
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        merge_part(tag, a, b, of_a, of_b, i, merged)


def merge_parts(tuple a, tuple b, double of_a, double of_b, tuple merged):
    """Fill `merged` with the statistics over the classes of a and b, whose coefficients' sums are of_a and of_b."""
    cdef Parts first = parts_of(a), second = parts_of(b), both = parts_of(merged)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(<cnp.ndarray>merged[0])
    cdef bint single = is_float32(merged[0])
    with nogil:
        if single:
            merge_all(<float*>NULL, &first, &second, of_a, of_b, n, &both)
        else:
            merge_all(<double*>NULL, &first, &second, of_a, of_b, n, &both)


def class_pass(
    int op, x, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, Py_ssize_t x_stride, int threads, *,
    value=None, grad=None, labels=None, int64_t ignore_index=0, mask=None, class_weight=None, double index_scale=1,
    coefficient=None, double scale=1, double shift=0, linear_weight=None, shared=None, double shared_sum=0,
    bint uniform=False, sample_weight=None, grad_output=None, double factor=1, double divisor=1,
    offset=None, int head=0, double head_parameter=0, double z_loss=0, double softcap=0, hess=None, tuple rule=(),
    moments=(None, None), double input_scale=1, class_scale=None, class_bias=None, by_scale=None, by_bias=None,
    bint wide=False, exact=None, tuple parts=(), int64_t first_class=0, int targets=0, double tolerance=0,
):
    """Run one operation with a class axis over (outer, classes, inner); returns the sum of the values / divisor.

    None where `targets` says what coefficients have to be, and they are not, which is found on the way.

    x is read times `input_scale` or `class_scale`, plus `class_bias`; `by_scale` and `by_bias`, of float64, get the
    derivatives by these. It is computed with in float64 if `wide`, which is for float32 and for "moments".

    The gradient is multiplied by factor / divisor, and so is the diagonal of the Hessian; `rule` as in `set_hessian`.
    The sum's digits are added to the array `exact`, see exact.pxd. `parts` are filled by "partial", or stand for a
    pass over x, whose classes begin at `first_class`.
    """
    cdef ClassJob job
    cdef double total
    set_class_job(&job, op, is_float32(x) and not wide, data_of(x), outer * inner, classes, x_stride)
    job.inner = inner
    job.parts = parts_of(parts)
    job.parts.first_class = first_class
    job.targets, job.tolerance = targets, tolerance
    job.head = head
    job.head_parameter = head_parameter
    job.z_loss = z_loss
    job.softcap = softcap
    job.input_scale = input_scale
    job.class_scale, job.class_bias = data_of(class_scale), data_of(class_bias)
    job.by_scale, job.by_bias = <double*>data_of(by_scale), <double*>data_of(by_bias)
    job.storage = SINGLE if wide and is_float32(x) else storage_of(x)
    if labels is not None:
        job.labels, job.label_kind = data_of(labels), label_kind(labels)
    job.ignore_index = ignore_index
    job.mask = <const uint8_t*>data_of(mask)
    job.coefficient = data_of(coefficient)
    job.coefficient_storage = storage_beside(coefficient, x)
    job.coefficient_scale = scale
    job.coefficient_shift = shift
    job.linear_weight = data_of(linear_weight)
    job.shared = data_of(shared)
    job.shared_sum = shared_sum
    job.uniform = uniform
    job.class_weight = data_of(class_weight)
    job.index_scale = index_scale
    job.sample_weight = data_of(sample_weight)
    job.grad_output = data_of(grad_output)
    job.offset = <const double*>data_of(offset)
    job.first_moment, job.second_moment = data_of(moments[0]), data_of(moments[1])
    set_hessian(&job.hessian, hess, rule, x, coefficient)
    total = run_class(&job, x, coefficient, value, grad, threads, factor, divisor, exact)
    return total if job.invalid == <uint64_t>-1 else None


cdef Py_ssize_t plan_points(PointJob* job, double factor, double divisor) noexcept nogil:
    """The chunks of a job, which follow from its size alone; and what makes an element odd."""
    cdef int given = (job.weight.data != NULL) + (job.sample_weight.data != NULL) + (job.grad_output.data != NULL)
    cdef double scale = factor / divisor, least
    job.grad_scale = scale
    job.curve_scale = scale * job.hessian.factor
    job.wide_scale = <wide_real>factor / divisor
    cdef bint extra_weight = job.extra.data != NULL and job.loss.weighs
    job.weighted = given > 0 or extra_weight or job.mask.data != NULL or not 0 < fabs(scale) <= 1 \
        or job.hessian.factor > 1
    if given > 1 or not -1 <= scale <= 1:  # the product of all does not leave the type
        job.greatest_weight = ldexp(1, (40 if given < 3 else 27) if job.float32 else (200 if given < 3 else 133))
        job.least_weight = 1 / job.greatest_weight
    else:  # first with the slope, whose size is known, and what is lost below the normal numbers stays there
        job.greatest_weight = ldexp(1, 40 if job.float32 else 200)
        job.least_weight = 0
    job.greatest_extra = job.greatest_weight if job.loss.weighs else INFINITY
    least = ldexp(1, -40 if job.float32 else -200)
    job.odd = not (factor == 0 or least <= fabs(scale) <= 1 / least)
    job.filler_x = 0 if domain_of(job) & (LOG_PROBABILITY | LOG_TARGET) else 0.5
    job.filler_y = 0 if domain_of(job) & (DISTRIBUTION | LOG_TARGET) else 1
    job.chunk = chunk_size(job.size, 1, POINTWISE_BLOCK)
    job.ahead = ASKS_AHEAD
    return (job.size + job.chunk - 1) // job.chunk


cdef bint are_distributions(const PointJob* job, Py_ssize_t chunks) noexcept nogil:
    """Whether the targets add up to a number of distributions, each over some of the axes; NaN is no reason.

    The first axis is that of samples. Rounding of single numbers adds up to less than is allowed here, of half
    precision more.
    """
    cdef double total = 0, number
    cdef Py_ssize_t i
    cdef int others = job.ndim - 1, over, axis
    for i in range(chunks):
        total += job.masses[i]
    for over in range((1 << others) - 1):  # the axes that are not added up
        number = job.shape[0]
        for axis in range(others):
            number *= job.shape[axis + 1] if over >> axis & 1 else 1
        if not fabs(total - number) > 1e-3 + number * (1e-3 if is_half(job.y_storage) else 1e-6):
            return True
    return not fabs(total - 1) > 1e-3  # one over all of them


cdef void check_points(PointJob* job, Py_ssize_t chunks) noexcept nogil:
    if job.masses != NULL and not job.outside and not are_distributions(job, chunks):
        job.outside = True


cdef int compute_points(
    PointJob* job, int threads, double factor, double divisor, bint first, bint signals, double* total
) noexcept nogil:
    """Run a job that is set but for its scale; `first` as in `run_points`."""
    cdef Py_ssize_t chunks = plan_points(job, factor, divisor)
    cdef chunk_function function = units.points[job.float32]
    cdef int failed = 0
    job.outside = False
    job.masses = NULL
    if job.shape != NULL:
        job.masses = &job.few[0]
        if chunks > FEW_CHUNKS:
            job.masses = <double*>malloc(chunks * sizeof(double))
        if job.masses == NULL:
            return NO_MEMORY
    if not take_digits(job.exact, chunks, &job.digits):
        return NO_MEMORY
    if job.size < SERIAL_ELEMENTS:
        threads = 1
    if first and domain_of(job) != EVERYWHERE:
        job.check = True
        failed = try_run(function, job, &job.partial, chunks, threads, 1, signals, total)
        check_points(job, chunks)
    job.check = False
    if failed == 0 and not job.outside:
        failed = try_run(function, job, &job.partial, chunks, threads, divisor, signals, total)
        check_points(job, chunks)
    if job.masses != NULL and chunks > FEW_CHUNKS:
        free(job.masses)
    add_digits(job.exact, chunks, job.digits)
    return failed


cdef double run_points(
    PointJob* job, object x, object y, object value, object grad, int threads, double factor, double divisor,
    bint first, object exact=None
) except? -1:
    """Run a job whose options and operands are set, as `run_class` does; `outside` says whether it is worth nothing.

    With `first` elements outside the domain are found before anything is written.
    """
    cdef double total = 0
    job.float32 = is_float32(x)
    job.x = data_of(x)
    job.storage = storage_of(x)
    job.y = data_of(y)
    job.y_storage = storage_beside(y, x)
    job.size = cnp.PyArray_SIZE(<cnp.ndarray>x)
    job.value = data_of(value)
    job.value_storage = storage_to_write(value, x, y)
    job.grad = data_of(grad)
    job.grad_storage = storage_to_write(grad, x, y)
    job.exact = <int64_t*>data_of(exact)
    job.ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
    job.shape = NULL
    if job.size < 2 and job.loss.domain & LOG_PROBABILITY:  # an element is no distribution
        job.checked = False
    if domain_of(job) & DISTRIBUTION and job.mask.data == NULL and job.sample_weight.data == NULL \
            and exact is None and 1 < job.ndim <= 8:
        job.shape = <const Py_ssize_t*>cnp.PyArray_DIMS(<cnp.ndarray>x)
    with nogil:
        raised(compute_points(job, threads, factor, divisor, first, True, &total))
    return total


cdef Operand operand_of(object spec):
    """`spec` is None or (array, period, rows, row, column)."""
    cdef Operand operand
    operand.data = NULL
    operand.period = 1
    operand.rows = 1
    operand.row = 0
    operand.column = False
    if spec is not None:
        operand.data = data_of(spec[0])
        operand.period = spec[1]
        operand.rows = spec[2]
        operand.row = spec[3]
        operand.column = spec[4]
    return operand


def point_pass(
    int op, x, y, int threads, *, options=(0, 0), value=None, grad=None, extra=None, weight=None, sample_weight=None,
    mask=None, grad_output=None, double factor=1, double divisor=1, bint first=False, hess=None, tuple rule=(),
    exact=None, bint checked=False,
):
    """Run one elementwise operation; returns the sum of the values, where they are not stored, divided by `divisor`.

    The sum's digits are added to the array `exact`, see exact.pxd.

    The gradient is multiplied by factor / divisor, and so is the diagonal of the Hessian; `rule` as in `set_hessian`.

    None when an element is outside of what the operation is defined on, or a target cannot be meant and is `checked`,
    which is found as it goes, after what comes before has been written, or `first`.
    """
    cdef PointJob job
    cdef double total
    set_point_job(&job, kernels.point_losses + op, False, NULL, NULL, 0)
    job.checked = checked
    job.options[0], job.options[1] = options
    job.extra = operand_of(extra)
    job.weight = operand_of(weight)
    job.sample_weight = operand_of(sample_weight)
    job.mask = operand_of(mask)
    job.grad_output = operand_of(grad_output)
    set_hessian(&job.hessian, hess, rule, x, y)
    total = run_points(&job, x, y, value, grad, threads, factor, divisor, first, exact)
    return None if job.outside else total


cdef Py_ssize_t look(int op, ClassJob* job, int threads, bint signals, double* divisor) noexcept nogil:
    """The first position that an operation has found invalid, or -1; the sum of what it adds up.

    Less than -1 is one less than why it failed.
    """
    cdef Py_ssize_t chunks
    cdef int own = job.op, failed
    cdef chunk_function function
    job.op = op
    job.invalid = <uint64_t>-1
    function = plan(job, &chunks)
    failed = try_run(function, job, &job.partial, chunks, threads, 1, signals, divisor)
    job.op = own
    return failed - 1 if failed < 0 else <Py_ssize_t>job.invalid


cdef Py_ssize_t invalid_label(ClassJob* job, int threads, bint signals, double* divisor) noexcept nogil:
    """Position of the first label that is neither a class nor ignored, and the sum of the weights in force; `look`."""
    return look(CHECK_LABELS, job, threads, signals, divisor)


cdef Py_ssize_t first_invalid(int op, ClassJob* job, int threads, double* divisor) except -2 nogil:
    """`look` for Python."""
    cdef Py_ssize_t position = look(op, job, threads, True, divisor)
    if position < -1:
        raised(<int>position + 1)
    return position


cdef void mean_of_rows(const real* x, Py_ssize_t rows, Py_ssize_t n, real* means) noexcept nogil:
    cdef fastloss_mode mode = fastloss_count_subnormals()
    cdef double total, low
    cdef Py_ssize_t i, k
    for i in range(rows):
        total = low = 0
        for k in range(n):
            add_to(<real>0, x[i * n + k], &total, &low)
        means[i] = <real>(joined(total, low) / n)
    fastloss_restore(mode)


def row_means(x, means):
    """The means along the last axis, which is not empty, each of a sum in float64."""
    cdef Py_ssize_t rows = cnp.PyArray_SIZE(<cnp.ndarray>means), n
    n = cnp.PyArray_SIZE(<cnp.ndarray>x) // max(<Py_ssize_t>1, rows)
    if is_float32(x):
        mean_of_rows(<const float*>data_of(x), rows, n, <float*>data_of(means))
    else:
        mean_of_rows(<const double*>data_of(x), rows, n, <double*>data_of(means))


def check_labels(
    labels, Py_ssize_t classes, int64_t ignore_index, class_weight, sample_weight, mask, int threads
):
    """(position of the first invalid label or -1, sum of the weights in force)."""
    cdef ClassJob job
    cdef Py_ssize_t position
    cdef double divisor = 0
    cdef object weights = class_weight if class_weight is not None else sample_weight
    cdef bint single = weights is not None and is_float32(weights)
    set_class_job(&job, CHECK_LABELS, single, NULL, cnp.PyArray_SIZE(<cnp.ndarray>labels), classes, 0)
    job.labels = data_of(labels)
    job.label_kind = label_kind(labels)
    job.ignore_index = ignore_index
    job.class_weight = data_of(class_weight)
    job.sample_weight = data_of(sample_weight)
    job.mask = <const uint8_t*>data_of(mask)
    with nogil:
        position = first_invalid(CHECK_LABELS, &job, threads, &divisor)
    return position, divisor


def check_targets(
    x, coefficient, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, int targets, double tolerance,
    sample_weight, mask, int threads
):
    """Position of the first sample whose coefficients are not what `targets` says, or -1."""
    cdef ClassJob job
    cdef double nothing = 0
    set_class_job(&job, CHECK_TARGETS, is_float32(x), NULL, outer * inner, classes, 0)
    job.inner = inner
    job.coefficient = data_of(coefficient)
    job.coefficient_storage = storage_beside(coefficient, x)
    job.targets, job.tolerance = targets, tolerance
    job.sample_weight = data_of(sample_weight)
    job.mask = <const uint8_t*>data_of(mask)
    return first_invalid(CHECK_TARGETS, &job, threads, &nothing)


def tolerance_of(target, Py_ssize_t classes):
    """What sums of an array of probabilities may be off 1."""
    return sum_tolerance(storage_of(target), classes)


def log_multinomial(counts, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, mask, offset):
    """Fill offset with -log(n! / prod k_j!); the position of a negative count if there is one, otherwise -1."""
    cdef ClassJob job
    cdef double nothing = 0
    set_class_job(&job, LOG_MULTINOMIAL, is_float32(counts), data_of(counts), outer * inner, classes, 0)
    job.inner = inner
    job.storage = storage_of(counts)
    job.mask = <const uint8_t*>data_of(mask)
    job.value = data_of(offset)
    with nogil:
        position = first_invalid(LOG_MULTINOMIAL, &job, 1, &nothing)
    return position


def address_of(cnp.ndarray array):
    """Where the array's memory begins; NumPy's own __array_interface__ grows a table with each use."""
    return <size_t>cnp.PyArray_DATA(array)


kernels.compute_class = compute_class
kernels.compute_points = compute_points
kernels.invalid_label = invalid_label
kernels.smooth = smooth


def address_for_callers():
    """Where compiled callers look for the kernels."""
    return <size_t>&kernels


def use(int k):
    """Compute with the units of BUILT[k] from now on, which the processor must have; what they were compiled with."""
    global units
    fastloss_show(k, &BUILDS[k])  # instructions of the set itself
    units = &BUILDS[k]
    kernels.point_losses = <const PointLoss*>units.losses
    while kernels.point_losses[len(POINT_OPS)].name != NULL:
        POINT_OPS[kernels.point_losses[len(POINT_OPS)].name.decode()] = len(POINT_OPS)
    return set(units.features.decode().split()) | ({"contracts"} if units.contracts(ALMOST_ONE) else set())


def supported():
    """Which of the instruction sets this processor has."""
    return ["base"] + ["avx2"] * (fastloss_level() >= 3) + ["avx512"] * (fastloss_level() >= 4)


def max_threads():
    """What OpenMP would use for the calling thread (1 in a serial build)."""
    return omp_get_max_threads()


def leave_openmp():
    """Compute on the calling thread from now on."""
    fastloss_leave_openmp()


def forked():
    """Whether this process was forked, so that OpenMP would hang."""
    return fastloss_forked()


EXACT = (EXACT_DIGITS, EXACT_COUNTS)
OPENMP = bool(fastloss_openmp)
COMPILER = fastloss_compiler.decode()
cdef double* ALMOST_ONE = [1 + 2.0**-30, 1 - 2.0**-30, -1]
BUILT = [fastloss_isa(k).decode() for k in range(fastloss_builds)]
POINT_OPS = {}                     # filled by `use`
BLOCKS = {
    "ROWS_BLOCK": ROWS_BLOCK,
    "ROWS_MIN_CLASSES": ROWS_MIN_CLASSES,
    "SHORT_ROWS_BYTES": SHORT_ROWS_BYTES,
    "SERIAL_ELEMENTS": SERIAL_ELEMENTS,
    "LANES": LANES,
    "PLANE_SAMPLES": PLANE_SAMPLES,
    "POINTWISE_BLOCK": POINTWISE_BLOCK,
}
CHECKED = {"": UNCHECKED, "counts": COUNTS, "probabilities": PROBABILITIES}
HEADS = {
    "focal": FOCAL,
    "generalized": GENERALIZED,
    "poly": POLY,
}
OPS = {
    "logsumexp": LOGSUMEXP,
    "softmax": SOFTMAX,
    "log_softmax": LOG_SOFTMAX,
    "entropy": ENTROPY,
    "entropy_from_logits": ENTROPY_FROM_LOGITS,
    "loss": LOSS,
    "loss_linear": LOSS_LINEAR,
    "nll": NLL,
    "moments": MOMENTS,
    "softmax_vjp": SOFTMAX_VJP,
    "softmax_backward": SOFTMAX_BACKWARD,
    "log_softmax_backward": LOG_SOFTMAX_BACKWARD,
    "distilled": DISTILLED,
    "partial": PARTIAL,
}

include "plain.pxi"
include "ufuncs.pxi"
