# The entry points: arrays become pointers, work is cut into chunks.
#
# a) The arguments have been checked, or are by the functions named plain_..., which also allocate the results:
#    arrays are aligned, native, contiguous (x may have a stride between outer indices) and of one dtype; see
#    _arguments.py and losses.py.
# b) Chunks depend on the shape alone, never on the threads; see schedule.pxi, where they are shared.
# c) Nothing else is allocated here: jobs are on the stack.

from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset
from libc.math cimport INFINITY, fabs, ldexp, lgamma
cimport numpy as cnp
import numpy

from fastloss._kernels.math cimport *
from fastloss._kernels.storage cimport *
from fastloss._kernels.job cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.rows cimport *
from fastloss._kernels.transpose cimport *
from fastloss._kernels.tiles cimport *
from fastloss._kernels.points cimport *
from fastloss._kernels.pointwise cimport *
from fastloss._kernels.schedule cimport *
include "tuning.pxi"
include "schedule.pxi"

cdef extern from "machine.h":
    int omp_get_max_threads() noexcept nogil
    int fastloss_v3
    int fastloss_v4
    const char* fastloss_compiler
    int fastloss_openmp

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray, cnp.NPY_ORDER, cnp.PyArray_Descr*, int)

cnp.import_array()

BFLOAT16_DTYPE = numpy.dtype([("bfloat16", numpy.uint16)])

cdef void rows_chunk_any(void* job, Py_ssize_t chunk) noexcept nogil:
    if (<ClassJob*>job).float32:
        rows_chunk(<float*>NULL, <ClassJob*>job, chunk)
    else:
        rows_chunk(<double*>NULL, <ClassJob*>job, chunk)


cdef void tiles_chunk_any(void* job, Py_ssize_t chunk) noexcept nogil:
    if (<ClassJob*>job).float32:
        tiles_chunk(<float*>NULL, <ClassJob*>job, chunk)
    else:
        tiles_chunk(<double*>NULL, <ClassJob*>job, chunk)


cdef void nll_chunk_any(void* job, Py_ssize_t chunk) noexcept nogil:
    if (<ClassJob*>job).float32:
        nll_chunk(<float*>NULL, <ClassJob*>job, chunk)
    else:
        nll_chunk(<double*>NULL, <ClassJob*>job, chunk)


cdef void labels_chunk_any(void* job, Py_ssize_t chunk) noexcept nogil:
    if (<ClassJob*>job).float32:
        labels_chunk(<float*>NULL, <ClassJob*>job, chunk)
    else:
        labels_chunk(<double*>NULL, <ClassJob*>job, chunk)


cdef void log_multinomial_chunk_any(void* job, Py_ssize_t chunk) noexcept nogil:
    if (<ClassJob*>job).float32:
        log_multinomial_chunk(<float*>NULL, <ClassJob*>job, chunk)
    else:
        log_multinomial_chunk(<double*>NULL, <ClassJob*>job, chunk)


cdef void pointwise_chunk_any(void* job, Py_ssize_t chunk) noexcept nogil:
    if (<PointJob*>job).float32:
        pointwise_chunk(<float*>NULL, <PointJob*>job, chunk)
    else:
        pointwise_chunk(<double*>NULL, <PointJob*>job, chunk)


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

    Where it takes the place of x its lines have been read already.
    """
    cdef int storage = storage_beside(array, x)
    cdef bint large
    if storage != NATIVE or array is None:
        return storage
    large = 2 * bytes_in(x) + bytes_in(y) > STREAM_BYTES
    return STREAMED if large and data_of(array) != data_of(x) else NATIVE


cdef inline bint is_plain(object array) noexcept:
    """Whether it is an array whose memory the kernels can read."""
    return cnp.PyArray_CheckExact(array) and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>array) \
        and cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray>array)


cdef inline bint is_float(cnp.ndarray x):
    """Whether x is of a float type that the kernels read."""
    cdef int number = cnp.PyArray_TYPE(x)
    if number == cnp.NPY_FLOAT32 or number == cnp.NPY_FLOAT64 or number == cnp.NPY_FLOAT16:
        return True
    return cnp.PyArray_ITEMSIZE(x) == 2 and (x.dtype == BFLOAT16_DTYPE or x.dtype.type.__name__ == "bfloat16")


cdef int label_kind(object labels) except 0:
    """Item size of an integer dtype, negative when unsigned; see `load_label`."""
    cdef int size = <int>cnp.PyArray_ITEMSIZE(<cnp.ndarray>labels)
    return size if labels.dtype.kind == "i" else -size


cdef chunk_function plan(ClassJob* job, Py_ssize_t* chunks) noexcept nogil:
    """The kernel family for a job, and its chunks; both follow from the shape alone."""
    cdef chunk_function function
    cdef Py_ssize_t step = 1
    job.unweighted = job.class_weight == NULL and job.linear_weight == NULL and job.sample_weight == NULL \
        and job.grad_output == NULL and 1e-20 <= fabs(job.grad_scale) <= 1
    job.headed = job.head != CROSS_ENTROPY or job.z_loss != 0
    cdef bint bent = job.hessian.data != NULL and not (job.head == CROSS_ENTROPY and writes_as_is(job))
    if job.op == NLL or job.op == CHECK_LABELS:
        function = nll_chunk_any if job.op == NLL else labels_chunk_any
        job.chunk = chunk_size(job.samples, 1, 1)
    elif job.op == LOG_MULTINOMIAL:
        function = log_multinomial_chunk_any
        job.chunk = chunk_size(job.samples, job.classes, 1)
    elif job.inner == 1 and job.classes >= ROWS_MIN_CLASSES or job.classes >= TILES_MAX_CLASSES or bent \
            or job.op == DISTILLED \
            or job.head == POLY and fabs(job.head_parameter) > 1e6:
        function = rows_chunk_any
        job.chunk = chunk_size(job.samples, job.classes, 1)
    else:
        function = tiles_chunk_any
        job.chunk = chunk_size(job.samples, job.classes, LANES)
        step = LANES
    if job.summed > 1:  # a sum for each class is what fewer chunks should leave
        job.chunk = max(job.chunk, (job.samples + SUMMED_CHUNKS * step - 1) // (SUMMED_CHUNKS * step) * step)
    chunks[0] = (job.samples + job.chunk - 1) // job.chunk
    return function


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b):
    """Whether two contiguous arrays share no memory."""
    cdef const char* a_data = <const char*>cnp.PyArray_DATA(a)
    cdef const char* b_data = <const char*>cnp.PyArray_DATA(b)
    return a_data + cnp.PyArray_NBYTES(a) <= b_data or b_data + cnp.PyArray_NBYTES(b) <= a_data


cdef gradient_array(grad_out, cnp.ndarray x, cnp.ndarray y):
    """A new array for the gradient if `grad_out` is None; `grad_out` if it will do as it is; otherwise None."""
    cdef cnp.ndarray grad
    cdef int number = cnp.PyArray_TYPE(x), axis
    if grad_out is None:
        return PyArray_NewLikeArray(x, cnp.NPY_CORDER, NULL, 0)
    if not is_plain(grad_out) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>grad_out):
        return None
    grad = grad_out
    if number != cnp.NPY_FLOAT32 and number != cnp.NPY_FLOAT64:
        return None
    if cnp.PyArray_TYPE(grad) != number and cnp.PyArray_TYPE(grad) != cnp.NPY_FLOAT32:
        return None
    if cnp.PyArray_NDIM(grad) != cnp.PyArray_NDIM(x):
        return None
    for axis in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIM(grad, axis) != cnp.PyArray_DIM(x, axis):
            return None
    if not apart(grad, y) or not (data_of(grad) == data_of(x) or apart(grad, x)):
        return None
    return grad


cdef hessian_array(hess_out, cnp.ndarray x, cnp.ndarray y, cnp.ndarray grad):
    """The same for the diagonal of the Hessian."""
    cdef cnp.ndarray hess = gradient_array(hess_out, x, y)
    return None if hess is None or not (apart(hess, x) and apart(hess, grad)) else hess


cdef values_array(reduction, cnp.ndarray x, int ndim):
    """A new array, of x's first dimensions, for the values under "none"; otherwise None."""
    cdef int number = cnp.NPY_FLOAT32 if is_float32(x) else cnp.NPY_FLOAT64
    return cnp.PyArray_EMPTY(ndim, cnp.PyArray_DIMS(x), number, False) if reduction == "none" else None


cdef Py_ssize_t samples_before_line(ClassJob* job, size_t address) noexcept nogil:
    """Samples before the first that begins a line of the array (x or gradient) at `address`, if so in every class."""
    cdef Py_ssize_t item = bytes_of(job.storage, <float*>NULL) if job.float32 else bytes_of(job.storage, <double*>NULL)
    cdef Py_ssize_t beyond = <Py_ssize_t>(address % 64)
    if job.inner == 1 or job.inner * item % 64 != 0 or beyond % item != 0:
        return 0
    return (64 - beyond) % 64 // item


cdef void set_hessian(Diagonal* hessian, object hess, tuple rule, object x, object y) noexcept:
    """`rule` says whether terms that may be negative are dropped, what the rest is multiplied by, and the least."""
    hessian.data = data_of(hess)
    hessian.storage = NATIVE
    hessian.convex = False
    hessian.factor = 1
    hessian.floor = 0
    if hess is not None:
        hessian.storage = storage_to_write(hess, x, y)
        hessian.convex, hessian.factor, hessian.floor = rule


cdef void sum_of_sums(const ClassJob* job, Py_ssize_t chunks) noexcept nogil:
    """What the chunks leave by scale and bias, in order."""
    cdef Py_ssize_t k, j, biases = job.classes if job.by_bias != NULL else 0
    for j in range(job.summed - biases):
        job.by_scale[j] = 0
    for j in range(biases):
        job.by_bias[j] = 0
    for k in range(chunks):
        for j in range(job.summed - biases):
            job.by_scale[j] += job.sums[k * job.summed + j]
        for j in range(biases):
            job.by_bias[j] += job.sums[(k + 1) * job.summed - biases + j]


cdef double run_class(
    ClassJob* job, object x, object coefficient, object value, object grad, int threads, double factor, double divisor
) except? -1:
    """Run a job whose arguments are set: the values, the gradient times factor / divisor, their sum / divisor."""
    cdef Py_ssize_t chunks
    cdef chunk_function function
    cdef double total = 0
    job.value = data_of(value)
    job.grad = data_of(grad)
    job.grad_storage = storage_to_write(grad, x, coefficient)
    if job.float32:
        job.input_scale = <float>job.input_scale
    job.summed = 0
    if job.by_scale != NULL:
        job.summed = job.classes if job.class_scale != NULL else 1
    if job.by_bias != NULL:
        job.summed += job.classes
    job.with_grad = grad is not None or job.summed != 0
    job.grad_scale = factor / divisor
    job.wide_scale = <long double>factor / divisor
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
    if job.summed != 0:
        job.sums = <double*>calloc(chunks * job.summed + 1, sizeof(double))
        if job.sums == NULL:
            raise MemoryError("fastloss: no memory for the sums of a call")
    try:
        with nogil:
            run(function, job, &job.partial, chunks, threads, divisor, &total)
            if job.summed != 0:
                sum_of_sums(job, chunks)
    finally:
        free(job.sums)
        job.sums = NULL
    return total


cdef bint are_apart(cnp.ndarray array, object grad, object hess):
    """Whether an argument shares no memory with the results, or None."""
    if grad is None:
        return True
    return apart(array, grad) and (hess is None or apart(array, hess))


cdef const void* plain_vector(object array, Py_ssize_t n, bint float32, object grad, object hess, double* room):
    """n numbers of an array in the type computed in: in place, or the MOST_SHARED of `room`; otherwise NULL."""
    cdef Py_ssize_t i
    cdef int number
    cdef const void* data
    if not is_plain(array) or cnp.PyArray_NDIM(<cnp.ndarray>array) != 1 or cnp.PyArray_DIM(<cnp.ndarray>array, 0) != n:
        return NULL
    if not are_apart(array, grad, hess):
        return NULL
    number = cnp.PyArray_TYPE(<cnp.ndarray>array)
    data = cnp.PyArray_DATA(<cnp.ndarray>array)
    if number == (cnp.NPY_FLOAT32 if float32 else cnp.NPY_FLOAT64):
        return data
    if n > MOST_SHARED or number != cnp.NPY_FLOAT32 and number != cnp.NPY_FLOAT64:
        return NULL
    for i in range(n):
        if float32:
            (<float*>room)[i] = <float>(<const double*>data)[i]
        else:
            room[i] = (<const float*>data)[i]
    return room


cdef bint plain_target(ClassJob* job, cnp.ndarray x, cnp.ndarray y):
    """Set labels, or probabilities in input's shape; False where a target is neither."""
    if cnp.PyArray_NDIM(y) == 1 and cnp.PyArray_DIM(y, 0) == job.samples and cnp.PyArray_TYPE(y) == cnp.NPY_INT64:
        job.labels = cnp.PyArray_DATA(y)
        job.label_kind = 8
        return True
    if job.op != LOSS or job.head != CROSS_ENTROPY or cnp.PyArray_NDIM(y) != 2 or not is_float(y):
        return False
    if cnp.PyArray_DIM(y, 0) != job.samples or cnp.PyArray_DIM(y, 1) != job.classes:
        return False
    job.coefficient = cnp.PyArray_DATA(y)
    job.coefficient_storage = storage_beside(y, x)
    return is_float32(x) == is_float32(y) or job.coefficient_storage == SINGLE


cdef void smooth(ClassJob* job, double smoothing, double* room) noexcept:
    """Set what label smoothing adds, with memory for as many numbers as classes."""
    cdef double share = smoothing / job.classes, low = 0
    cdef Py_ssize_t j
    job.op = LOSS_LINEAR
    job.linear_weight = job.class_weight
    job.coefficient_scale = job.index_scale = 1 - smoothing
    job.coefficient_shift = share
    if job.labels == NULL:
        return
    job.shared = room
    for j in range(job.classes):
        if job.float32:
            (<float*>room)[j] = <float>share if job.class_weight == NULL \
                else <float>(share * (<const float*>job.class_weight)[j])
            two_sum((<float*>room)[j], &job.shared_sum, &low)
        else:
            room[j] = share if job.class_weight == NULL else share * (<const double*>job.class_weight)[j]
            two_sum(room[j], &job.shared_sum, &low)
    job.shared_sum = joined(job.shared_sum, low)
    job.uniform = job.class_weight == NULL and ((<float*>room)[0] if job.float32 else room[0]) != 0


def plain_class_loss(
    kind, input, target, weight, int64_t ignore_index, reduction, bint with_grad, grad_out, threads_for,
    tuple rule=None, hess_out=None, sample_weight=None, double smoothing=0,
):
    """A loss with classes ("loss" or "nll"), and its gradient, of a plain call, or None.

    None means that the general way must handle it: something is out of the ordinary (another dtype or layout, a wrong
    shape or label), or it is "nll" of a large array. At 32 x 10 the general way's Python would cost several times the
    kernel.
    `threads_for` tells the threads for a number of elements; with None for it large calls are not handled.
    `kind` is the operation, or (operation, head, head_parameter, z_loss, softcap, input_scale). With a `rule`, as in
    `set_hessian`, the diagonal of the Hessian comes third; not of "nll".
    """
    cdef ClassJob job
    cdef Py_ssize_t position = -1
    cdef double divisor = 0, total
    cdef double room[MOST_SHARED]
    cdef double class_room[MOST_SHARED]
    cdef double sample_room[MOST_SHARED]
    cdef int threads = 1
    cdef bint mean = reduction == "mean"
    cdef cnp.ndarray x
    cdef object grad = None, hess = None, value, coefficient
    if not (is_plain(input) and is_plain(target)):
        return None
    x = input
    if cnp.PyArray_NDIM(x) != 2 or not is_float(x) or cnp.PyArray_DIM(x, 1) == 0:
        return None
    memset(&job, 0, sizeof(job))
    job.input_scale = 1
    job.op = kind[0] if type(kind) is tuple else kind
    if type(kind) is tuple:
        _, job.head, job.head_parameter, job.z_loss, job.softcap, job.input_scale = kind
        if job.input_scale != 1 and rule is not None:
            return None
    job.float32 = is_float32(x)
    job.x = cnp.PyArray_DATA(x)
    job.storage = storage_of(x)
    job.samples = cnp.PyArray_DIM(x, 0)
    job.x_stride = job.classes = cnp.PyArray_DIM(x, 1)
    job.inner = 1
    job.index_scale = job.coefficient_scale = 1
    job.label_kind = 8
    job.ignore_index = ignore_index
    if not plain_target(&job, x, target) or smoothing != 0 and job.classes > MOST_SHARED:
        return None
    if job.samples * job.classes >= SERIAL_ELEMENTS:
        if threads_for is None or job.op == NLL:  # the general way starts its gradient from the system's zeros
            return None
        threads = threads_for(job.samples * job.classes)
    if with_grad:
        grad = gradient_array(grad_out, x, target)
        if rule is not None and grad is not None:
            hess = hessian_array(hess_out, x, target, grad)
        if grad is None or rule is not None and (hess is None or job.op == NLL):
            return None
    if weight is not None:
        job.class_weight = plain_vector(weight, job.classes, job.float32, grad, hess, &class_room[0])
        if job.class_weight == NULL:
            return None
    if sample_weight is not None:
        job.sample_weight = plain_vector(sample_weight, job.samples, job.float32, grad, hess, &sample_room[0])
        if job.sample_weight == NULL:
            return None
    coefficient = None if job.coefficient == NULL else target
    if coefficient is not None and sample_weight is not None and mean:  # the sum of the weights is the divisor
        return None
    divisor = job.samples
    if job.labels != NULL:
        with nogil:
            position = first_invalid_label(&job, threads if job.samples >= SERIAL_ELEMENTS else 1, &divisor)
    if position >= 0 or mean and not 1e-270 <= fabs(divisor) <= 1e270:
        return None
    if smoothing != 0 or coefficient is not None:
        smooth(&job, smoothing, &room[0])
        if coefficient is not None:
            job.class_weight = NULL
    divisor = divisor if mean else 1
    set_hessian(&job.hessian, hess, rule, x, coefficient)
    value = values_array(reduction, x, 1)
    total = run_class(&job, x, coefficient, value, None if job.op == NLL else grad, threads, 1, divisor)
    if job.op == NLL and with_grad:  # once the value has been read: the gradient may take the place of x
        memset(data_of(grad), 0, cnp.PyArray_NBYTES(x))
        run_class(&job, x, None, None, grad, threads, 1, divisor)
    value = total if value is None else value
    if hess is not None:
        return value, grad, hess
    return (value, grad) if with_grad else value


def class_pass(
    int op, x, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, Py_ssize_t x_stride, int threads, *,
    value=None, grad=None, labels=None, int64_t ignore_index=0, mask=None, class_weight=None, double index_scale=1,
    coefficient=None, double scale=1, double shift=0, linear_weight=None, shared=None, double shared_sum=0,
    bint uniform=False, sample_weight=None, grad_output=None, double factor=1, double divisor=1,
    offset=None, int head=0, double head_parameter=0, double z_loss=0, double softcap=0, hess=None, tuple rule=(),
    moments=(None, None), double input_scale=1, class_scale=None, class_bias=None, by_scale=None, by_bias=None,
    bint wide=False,
):
    """Run one operation with a class axis over (outer, classes, inner); returns the sum of the values / divisor.

    x is read times `input_scale` or `class_scale`, plus `class_bias`; `by_scale` and `by_bias`, of float64, get the
    derivatives by these. It is computed with in float64 if `wide`, which is for float32 and for "moments".

    The gradient is multiplied by factor / divisor, and so is the diagonal of the Hessian; `rule` as in `set_hessian`.
    """
    cdef ClassJob job
    job.op = op
    job.head = head
    job.head_parameter = head_parameter
    job.z_loss = z_loss
    job.softcap = softcap
    job.input_scale = input_scale
    job.class_scale, job.class_bias = data_of(class_scale), data_of(class_bias)
    job.by_scale, job.by_bias = <double*>data_of(by_scale), <double*>data_of(by_bias)
    job.sums = NULL
    job.float32 = is_float32(x) and not wide
    job.x = data_of(x)
    job.storage = SINGLE if wide and is_float32(x) else storage_of(x)
    job.x_stride = x_stride
    job.classes = classes
    job.inner = inner
    job.samples = outer * inner
    job.labels = data_of(labels)
    job.label_kind = label_kind(labels) if labels is not None else 8
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
    return run_class(&job, x, coefficient, value, grad, threads, factor, divisor)


cdef Py_ssize_t plan_points(PointJob* job, double factor, double divisor) noexcept nogil:
    """The chunks of a job, which follow from its size alone; and what makes an element odd."""
    cdef int given = (job.weight.data != NULL) + (job.sample_weight.data != NULL) + (job.grad_output.data != NULL)
    cdef double scale = factor / divisor, least
    job.grad_scale = scale
    job.curve_scale = scale * job.hessian.factor
    job.wide_scale = <long double>factor / divisor
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
    job.chunk = chunk_size(job.size, 1, POINTWISE_BLOCK)
    return (job.size + job.chunk - 1) // job.chunk


cdef double run_points(
    PointJob* job, object x, object y, object value, object grad, int threads, double factor, double divisor, bint first
) except? -1:
    """Run a job whose options and operands are set, as `run_class` does; `outside` says whether it is worth nothing.

    With `first` elements outside the domain are found before anything is written.
    """
    cdef Py_ssize_t chunks
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
    job.outside = False
    chunks = plan_points(job, factor, divisor)
    if job.size < SERIAL_ELEMENTS:
        threads = 1
    with nogil:
        if first and job.loss.domain != EVERYWHERE:
            job.check = True
            run(pointwise_chunk_any, job, &job.partial, chunks, threads, 1, &total)
        job.check = False
        if not job.outside:
            run(pointwise_chunk_any, job, &job.partial, chunks, threads, divisor, &total)
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
):
    """Run one elementwise operation; returns the sum of the values, where they are not stored, divided by `divisor`.

    The gradient is multiplied by factor / divisor, and so is the diagonal of the Hessian; `rule` as in `set_hessian`.

    None when an element is outside of what the operation is defined on, which is found as it goes, after what comes
    before has been written, or `first`.
    """
    cdef PointJob job
    cdef double total
    job.loss = &POINT_LOSSES[op]
    job.options[0], job.options[1] = options
    job.extra = operand_of(extra)
    job.weight = operand_of(weight)
    job.sample_weight = operand_of(sample_weight)
    job.mask = operand_of(mask)
    job.grad_output = operand_of(grad_output)
    set_hessian(&job.hessian, hess, rule, x, y)
    total = run_points(&job, x, y, value, grad, threads, factor, divisor, first)
    return None if job.outside else total


cdef Py_ssize_t first_invalid_label(ClassJob* job, int threads, double* divisor) except -2 nogil:
    """Position of the first label that is neither a class nor ignored, or -1; the sum of the weights in force."""
    cdef Py_ssize_t chunks
    cdef int op = job.op
    cdef chunk_function function
    job.op = CHECK_LABELS
    job.invalid = <uint64_t>-1
    function = plan(job, &chunks)
    run(function, job, &job.partial, chunks, threads, 1, divisor)
    job.op = op
    return <Py_ssize_t>job.invalid


cdef bint plain_extra(object extra, cnp.ndarray x, grad, double* number, Operand* operand):
    """Whether it is a number, kept in `number`, or an array like x, in the type computed in and apart from grad."""
    cdef cnp.ndarray array
    cdef int axis, kind = cnp.NPY_FLOAT32 if is_float32(x) else cnp.NPY_FLOAT64
    if type(extra) is float:
        if is_float32(x):
            (<float*>number)[0] = extra
        else:
            number[0] = extra
        operand.data = number
        operand.period = operand.rows = 1
        return True
    if not is_plain(extra):
        return False
    array = extra
    if cnp.PyArray_TYPE(array) != kind:
        return False
    if cnp.PyArray_NDIM(array) != cnp.PyArray_NDIM(x) or grad is not None and not apart(grad, array):
        return False
    for axis in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIM(array, axis) != cnp.PyArray_DIM(x, axis):
            return False
    operand.data = cnp.PyArray_DATA(array)
    operand.period = cnp.PyArray_SIZE(array)
    operand.rows = 1
    operand.column = True
    return True


def plain_pointwise(
    tuple loss, input, target, extra, reduction, bint with_grad, grad_out, threads_for, tuple rule=None, hess_out=None,
    sample_weight=None,
):
    """An elementwise loss (its number, or that and options), and its gradient, of a plain call, or None.

    With a `rule` also the diagonal of the Hessian, as `plain_class_loss`.
    """
    cdef PointJob job
    cdef Py_ssize_t size, axis
    cdef double total, divisor = 1, number
    cdef int threads = 1
    cdef cnp.ndarray x, y
    cdef object grad = None, hess = None, value
    if not (is_plain(input) and is_plain(target)) or sample_weight is not None and reduction == "mean":
        return None
    x = input
    y = target
    if not (is_float(x) and is_float(y)):
        return None
    if is_float32(x) != is_float32(y) and (is_float32(x) or cnp.PyArray_TYPE(y) != cnp.NPY_FLOAT32):
        return None
    if cnp.PyArray_NDIM(x) != cnp.PyArray_NDIM(y) or cnp.PyArray_SIZE(x) == 0:
        return None
    for axis in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIM(x, axis) != cnp.PyArray_DIM(y, axis):
            return None
    memset(&job, 0, sizeof(job))
    job.loss = &POINT_LOSSES[<int>loss[0]]
    if len(loss) > 1:
        job.options[0] = loss[1]
        job.options[1] = loss[2]
    size = cnp.PyArray_SIZE(x)
    if reduction == "mean":
        divisor = size
    elif reduction == "batchmean" and cnp.PyArray_NDIM(x) > 0:
        divisor = cnp.PyArray_DIM(x, 0)
    if size >= SERIAL_ELEMENTS:
        threads = threads_for(size)
    if with_grad:
        grad = gradient_array(grad_out, x, y)
        if rule is not None and grad is not None:
            hess = hessian_array(hess_out, x, y, grad)
        if grad is None or rule is not None and hess is None:
            return None
    set_hessian(&job.hessian, hess, rule, x, y)
    if extra is not None and not plain_extra(extra, x, grad, &number, &job.extra):
        return None
    if extra is not None and hess is not None:  # which would have to be apart from it
        return None
    if sample_weight is not None:
        if hess is not None and not (is_plain(sample_weight) and apart(sample_weight, hess)):
            return None
        if type(sample_weight) is float or not plain_extra(sample_weight, x, grad, &number, &job.sample_weight):
            return None
    value = values_array(reduction, x, cnp.PyArray_NDIM(x))
    total = run_points(&job, x, y, value, grad, threads, 1, divisor, grad_out is not None or hess_out is not None)
    if job.outside:
        return None
    value = total if value is None else value
    if hess is not None:
        return value, grad, hess
    return (value, grad) if with_grad else value


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
    memset(&job, 0, sizeof(job))
    job.float32 = weights is not None and is_float32(weights)
    job.labels = data_of(labels)
    job.label_kind = label_kind(labels)
    job.samples = cnp.PyArray_SIZE(<cnp.ndarray>labels)
    job.classes = classes
    job.ignore_index = ignore_index
    job.class_weight = data_of(class_weight)
    job.sample_weight = data_of(sample_weight)
    job.mask = <const uint8_t*>data_of(mask)
    with nogil:
        position = first_invalid_label(&job, threads, &divisor)
    return position, divisor


def log_multinomial(counts, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, mask, offset):
    """Fill offset with -log(n! / prod k_j!); the position of a negative count if there is one, otherwise -1."""
    cdef ClassJob job
    cdef Py_ssize_t chunks
    cdef chunk_function function
    cdef double zero
    memset(&job, 0, sizeof(job))
    job.op = LOG_MULTINOMIAL
    job.float32 = is_float32(counts)
    job.x = data_of(counts)
    job.storage = storage_of(counts)
    job.classes = classes
    job.inner = inner
    job.samples = outer * inner
    job.mask = <const uint8_t*>data_of(mask)
    job.value = data_of(offset)
    job.invalid = <uint64_t>-1
    function = plan(&job, &chunks)
    with nogil:
        run(function, &job, &job.partial, chunks, 1, 1, &zero)
    return <Py_ssize_t>job.invalid


def address_of(cnp.ndarray array):
    """Where the array's memory begins; NumPy's own __array_interface__ grows a table with each use."""
    return <size_t>cnp.PyArray_DATA(array)


def supported():
    """Which of the instruction sets this processor has."""
    return ["base"] + ["avx2"] * bool(fastloss_v3) + ["avx512"] * bool(fastloss_v4)


def max_threads():
    """What OpenMP would use for the calling thread (1 in a serial build)."""
    return omp_get_max_threads()


def leave_openmp():
    """Compute on the calling thread from now on."""
    fastloss_leave_openmp()


def forked():
    """Whether this process was forked, so that OpenMP would hang."""
    return fastloss_forked()


OPENMP = bool(fastloss_openmp)
COMPILER = fastloss_compiler.decode()
BLOCKS = {
    "ROWS_BLOCK": ROWS_BLOCK,
    "ROWS_MIN_CLASSES": ROWS_MIN_CLASSES,
    "SERIAL_ELEMENTS": SERIAL_ELEMENTS,
    "LANES": LANES,
    "PLANE_SAMPLES": PLANE_SAMPLES,
    "POINTWISE_BLOCK": POINTWISE_BLOCK,
}
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
    "distilled": DISTILLED,
}

# The losses of one element: names, functions and twins of points.pxd.
cdef enum:
    MOST_POINT_LOSSES = 64
cdef PointLoss POINT_LOSSES[MOST_POINT_LOSSES]


cdef point_loss(name, void* single, void* double_, point_function wide, int domain=EVERYWHERE, bint weighs=False):
    cdef int op = len(POINT_OPS)
    cdef PointLoss* loss = &POINT_LOSSES[op]
    if op == MOST_POINT_LOSSES:
        raise MemoryError("fastloss: more losses than MOST_POINT_LOSSES")
    loss.single, loss.double_, loss.wide = single, double_, wide
    loss.domain, loss.weighs = domain, weighs
    POINT_OPS[name] = op


POINT_OPS = {}
point_loss("mse", <void*>mse[f16], <void*>mse[d8], wide_mse)
point_loss("bce", <void*>bce[f16], <void*>bce[d8], wide_bce, UNIT_INTERVAL)
point_loss("bce_with_logits", <void*>bce_with_logits[f16], <void*>bce_with_logits[d8], wide_bce_with_logits)
point_loss(
    "bce_with_logits_pos_weight", <void*>bce_with_logits_pos_weight[f16], <void*>bce_with_logits_pos_weight[d8],
    wide_bce_with_logits, EVERYWHERE, True
)
point_loss("kl_div", <void*>kl_div[f16], <void*>kl_div[d8], wide_kl_div)
point_loss("kl_div_log_target", <void*>kl_div_log_target[f16], <void*>kl_div_log_target[d8], wide_kl_div_log_target)
point_loss("soft_margin", <void*>soft_margin[f16], <void*>soft_margin[d8], wide_soft_margin)
point_loss("poisson_nll", <void*>poisson_nll[f16], <void*>poisson_nll[d8], wide_poisson_nll)
point_loss(
    "poisson_nll_log_input", <void*>poisson_nll_log_input[f16], <void*>poisson_nll_log_input[d8],
    wide_poisson_nll_log_input
)
point_loss("gaussian_nll", <void*>gaussian_nll[f16], <void*>gaussian_nll[d8], wide_gaussian_nll, NOT_NEGATIVE)
point_loss(
    "gaussian_nll_of_var", <void*>gaussian_nll_of_var[f16], <void*>gaussian_nll_of_var[d8], wide_gaussian_nll_of_var,
    NOT_NEGATIVE
)
point_loss("sigmoid_focal", <void*>sigmoid_focal[f16], <void*>sigmoid_focal[d8], wide_sigmoid_focal)
point_loss("sigmoid", <void*>sigmoid[f16], <void*>sigmoid[d8], wide_identity)
point_loss("logsigmoid", <void*>logsigmoid[f16], <void*>logsigmoid[d8], wide_identity)
point_loss("identity", <void*>identity[f16], <void*>identity[d8], wide_identity)
