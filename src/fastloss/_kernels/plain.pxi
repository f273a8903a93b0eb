# The short way: one step from what Python passed to the kernels.
#
# a) What the kernels read in place, or what a loop over few numbers makes so, is computed here with all options;
#    None means that the general way must handle the call: something is large and of another type or layout, or wrong,
#    and errors are the general way's. At 32 x 10 its Python would cost several times the kernel.
# b) Nothing is written that the caller passed before that is decided.
# c) Jobs are set as `class_pass` and `point_pass` set them: bits do not depend on the way.

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.ref cimport Py_INCREF, PyObject, PyTypeObject
from libc.stdint cimport INT64_MIN
from cpython.sequence cimport PySequence_Fast_GET_SIZE, PySequence_Fast_ITEMS

cdef extern from "numpy/arrayobject.h":
    object PyArray_FromScalar(object, cnp.PyArray_Descr*)
    object PyArray_NewFromDescr(
        PyTypeObject*, cnp.PyArray_Descr*, int, const cnp.npy_intp*, const cnp.npy_intp*, void*, int, object
    )

cdef extern from *:
    const bint FREE_THREADED "CYTHON_COMPILING_IN_CPYTHON_FREETHREADING"

cdef enum:
    MEAN, SUM, NONE, BATCHMEAN
    OF_LABELS, OF_LABELS_OR_SHARES, OF_COUNTS
    MOST_AXES = 64

REDUCTIONS = {"mean": MEAN, "sum": SUM, "none": NONE, "batchmean": BATCHMEAN}
TARGETS = {"indices": OF_LABELS, "probabilities": OF_LABELS_OR_SHARES, "counts": OF_COUNTS}


# ---------------------------------------------------------------------------- arguments become arrays

cdef inline bint is_plain(object array) noexcept:
    """Whether it is an array whose memory the kernels can read."""
    return cnp.PyArray_CheckExact(array) and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>array) \
        and cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray>array)


cdef inline bint is_sequence(object value) noexcept:
    return type(value) is list or type(value) is tuple


def array_of_list(value):
    """A list or tuple of numbers, or of such of one length, as NumPy makes an array of it; None if that is NumPy's."""
    cdef bint nested
    cdef Py_ssize_t rows, columns, i, j, at = 0
    cdef bint floats = False, ints = False, bools = False
    cdef int overflow = 0, number
    cdef cnp.npy_intp shape[2]
    cdef PyObject** items
    cdef object item, row, array
    cdef void* data
    if FREE_THREADED:  # another thread may change a list meanwhile
        value = tuple([tuple(row) if type(row) is list else row for row in tuple(value)])
    rows = PySequence_Fast_GET_SIZE(value)
    if rows == 0:
        return None
    row = <object>PySequence_Fast_ITEMS(value)[0]
    nested = is_sequence(row)
    columns = PySequence_Fast_GET_SIZE(row) if nested else rows
    rows = rows if nested else 1
    if columns == 0:
        return None
    for i in range(rows):
        row = <object>PySequence_Fast_ITEMS(value)[i] if nested else value
        if nested and (not is_sequence(row) or PySequence_Fast_GET_SIZE(row) != columns):
            return None
        items = PySequence_Fast_ITEMS(row)
        for j in range(columns):
            item = <object>items[j]
            if PyFloat_CheckExact(item):
                floats = True
            elif PyLong_CheckExact(item):
                ints = True
            elif item is True or item is False:
                bools = True
            else:
                return None
    shape[0], shape[1] = rows, columns
    number = cnp.NPY_FLOAT64 if floats else cnp.NPY_INT64 if ints else cnp.NPY_BOOL
    array = cnp.PyArray_EMPTY(2 if nested else 1, &shape[0] if nested else &shape[1], number, False)
    data = cnp.PyArray_DATA(<cnp.ndarray>array)
    for i in range(rows):
        items = PySequence_Fast_ITEMS(<object>PySequence_Fast_ITEMS(value)[i] if nested else value)
        for j in range(columns):
            item = <object>items[j]
            if bools and floats + ints == 0:
                (<uint8_t*>data)[at] = item is True
            elif not floats:
                (<int64_t*>data)[at] = PyLong_AsLongLongAndOverflow(item, &overflow)
            elif PyFloat_CheckExact(item):
                (<double*>data)[at] = PyFloat_AS_DOUBLE(item)
            else:
                (<double*>data)[at] = <double>PyLong_AsLongLongAndOverflow(item, &overflow)
            if overflow:
                return None
            at += 1
    return array


cdef object plain_array(object value):
    """What the kernels can read of an array, list or number; None where that will not do."""
    cdef int overflow = 0
    cdef object array
    if cnp.PyArray_CheckExact(value):
        if is_plain(value):
            return value
        if not cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>value) or cnp.PyArray_SIZE(<cnp.ndarray>value) >= SERIAL_ELEMENTS:
            return None
        return cnp.PyArray_NewCopy(<cnp.ndarray>value, cnp.NPY_CORDER)
    if is_sequence(value):
        return array_of_list(value)
    if PyFloat_Check(value):
        array = cnp.PyArray_EMPTY(0, NULL, cnp.NPY_FLOAT64, False)
        (<double*>data_of(array))[0] = PyFloat_AS_DOUBLE(value)
        return array
    if PyLong_CheckExact(value):
        array = cnp.PyArray_EMPTY(0, NULL, cnp.NPY_INT64, False)
        (<int64_t*>data_of(array))[0] = PyLong_AsLongLongAndOverflow(value, &overflow)
        return None if overflow else array
    return PyArray_FromScalar(value, NULL) if isinstance(value, numpy.generic) else None


cdef inline bint is_whole(int number) noexcept:
    """Whether a type is one of integers, or bool."""
    return cnp.PyTypeNum_ISINTEGER(number) or cnp.PyTypeNum_ISBOOL(number)


cdef object in_type(object value, int number):
    """`plain_array` in float32 or float64."""
    cdef object array = plain_array(value), result
    cdef Py_ssize_t i, n
    cdef int own
    cdef double wide
    if array is None:
        return None
    own = cnp.PyArray_TYPE(<cnp.ndarray>array)
    n = cnp.PyArray_SIZE(<cnp.ndarray>array)
    if own == number:
        return array
    if n >= SERIAL_ELEMENTS:
        return None
    if is_whole(own) or own == cnp.NPY_FLOAT16:
        return cnp.PyArray_Cast(<cnp.ndarray>array, number)
    if not is_float(array):
        return None
    result = cnp.PyArray_EMPTY(
        cnp.PyArray_NDIM(<cnp.ndarray>array), cnp.PyArray_DIMS(<cnp.ndarray>array), number, False
    )
    for i in range(n):  # without NumPy's warning where a number overflows
        if own == cnp.NPY_FLOAT64:
            wide = (<const double*>data_of(array))[i]
        elif own == cnp.NPY_FLOAT32:
            wide = (<const float*>data_of(array))[i]
        else:
            wide = read_one(data_of(array), BFLOAT16, i, <float*>NULL)
        if number == cnp.NPY_FLOAT32:
            (<float*>data_of(result))[i] = <float>wide
        else:
            (<double*>data_of(result))[i] = wide
    return result


cdef object plain_input(object value):
    """`plain_array` in a float type that the kernels read: its own, or float64."""
    cdef object array = plain_array(value)
    if array is None or is_float(array):
        return array
    return in_type(array, cnp.NPY_FLOAT64)


cdef object beside(object value, cnp.ndarray x):
    """An array of x's size in a type that the kernels read beside it."""
    cdef int number = cnp.PyArray_TYPE(<cnp.ndarray>value)
    if number == cnp.NPY_FLOAT32 or number == cnp.NPY_FLOAT64 and not is_float32(x):
        return value
    if is_float32(x) and number != cnp.NPY_FLOAT64 and is_float(value):
        return value
    return in_type(value, cnp.NPY_FLOAT32 if is_float32(x) else cnp.NPY_FLOAT64)


cdef bint has_shape(cnp.ndarray array, int ndim, const cnp.npy_intp* shape) noexcept:
    cdef int axis
    if cnp.PyArray_NDIM(array) != ndim:
        return False
    for axis in range(ndim):
        if cnp.PyArray_DIM(array, axis) != shape[axis]:
            return False
    return True


cdef object whole(object array, int ndim, cnp.npy_intp* shape):
    """A plain array, or None, broadcast to a shape; None where it does not."""
    cdef int axis, own
    cdef object result
    if array is None or has_shape(array, ndim, shape):
        return array
    own = cnp.PyArray_NDIM(<cnp.ndarray>array)
    if own > ndim:
        return None
    for axis in range(own):
        if cnp.PyArray_DIM(<cnp.ndarray>array, axis) not in (1, shape[ndim - own + axis]):
            return None
    result = cnp.PyArray_EMPTY(ndim, shape, cnp.PyArray_TYPE(<cnp.ndarray>array), False)
    cnp.PyArray_CopyInto(<cnp.ndarray>result, <cnp.ndarray>array)
    return result


cdef object of_samples(object array, int ndim, cnp.npy_intp* shape):
    """An array with the first axes of the value gets the others; None where it could be the last ones."""
    cdef int own = cnp.PyArray_NDIM(<cnp.ndarray>array), axis
    cdef bint first = True, last = True
    if own == 0 or own >= ndim:
        return array
    for axis in range(own):
        first = first and cnp.PyArray_DIM(<cnp.ndarray>array, axis) == shape[axis]
        last = last and cnp.PyArray_DIM(<cnp.ndarray>array, axis) in (1, shape[ndim - own + axis])
    return array.reshape(array.shape + (1,) * (ndim - own)) if first and not last else None


cdef object sample_weights(object value, int number, int ndim, cnp.npy_intp* shape):
    """Sample weights in a type; None where there are none, or they are not."""
    cdef object array = in_type(value, number)
    return None if array is None or cnp.PyArray_SIZE(<cnp.ndarray>array) == 0 else of_samples(array, ndim, shape)


cdef object mask_of(object value, int ndim, cnp.npy_intp* shape):
    cdef object array = plain_array(value)
    if array is None or cnp.PyArray_TYPE(<cnp.ndarray>array) != cnp.NPY_BOOL:
        return None
    return of_samples(array, ndim, shape)


cdef bint is_number(object value, double* number):
    """Whether it is a number, or an array of no dimensions, which is kept."""
    cdef object array
    if PyFloat_Check(value):
        number[0] = PyFloat_AS_DOUBLE(value)
        return True
    array = None if is_sequence(value) else plain_array(value)
    if array is None or cnp.PyArray_NDIM(<cnp.ndarray>array) != 0:
        return False
    array = in_type(array, cnp.NPY_FLOAT64)
    if array is None:
        return False
    number[0] = (<const double*>data_of(array))[0]
    return True


cdef bint plain_normalizer(object value, int reduction, double* normalizer):
    """Keep what a mean is to be divided by, 0 if that is left to the weights; whether that will do."""
    normalizer[0] = 0
    if value is None:
        return True
    return (reduction == MEAN or reduction == BATCHMEAN) and is_number(value, normalizer) \
        and 0 < normalizer[0] < INFINITY


# ---------------------------------------------------------------------------- results

cdef inline bint apart(cnp.ndarray a, cnp.ndarray b):
    """Whether two contiguous arrays share no memory."""
    cdef const char* a_data = <const char*>cnp.PyArray_DATA(a)
    cdef const char* b_data = <const char*>cnp.PyArray_DATA(b)
    return a_data + cnp.PyArray_NBYTES(a) <= b_data or b_data + cnp.PyArray_NBYTES(b) <= a_data


cdef bint can_be_filled(object array, tuple arguments, bint in_place):
    """Whether an array for results can be written, apart from all arguments; `in_place` it may be the first itself."""
    cdef bint first = True
    if not is_plain(array) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>array):
        return False
    for other in arguments:
        first, is_first = False, first
        if cnp.PyArray_Check(other):
            if not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>other):
                return False
            if not (is_first and in_place and data_of(array) == data_of(other) or apart(array, other)):
                return False
        elif not (other is None or is_sequence(other) or isinstance(other, (float, int, numpy.generic))):
            return False
    return True


cdef object values_for(object out, int ndim, cnp.npy_intp* shape, int number, tuple arguments):
    """A new array for the values under "none" if `out` is None; `out` if it will do as it is; otherwise None."""
    if out is None:
        return cnp.PyArray_EMPTY(ndim, shape, number, False)
    if not can_be_filled(out, arguments, False) or cnp.PyArray_TYPE(<cnp.ndarray>out) != number:
        return None
    return out if has_shape(out, ndim, shape) else None


cdef object derivative_for(object given, cnp.ndarray x, tuple arguments, bint in_place):
    """The same for a gradient or a Hessian's diagonal, like x; one of float64 may be stored in float32."""
    cdef int number = cnp.PyArray_TYPE(x), own
    if given is None:
        return PyArray_NewLikeArray(x, cnp.NPY_CORDER, NULL, 0)
    own = cnp.PyArray_TYPE(<cnp.ndarray>given) if cnp.PyArray_CheckExact(given) else -1
    if not can_be_filled(given, arguments, in_place and own == number):
        return None
    if own not in (cnp.NPY_FLOAT16, cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        return None
    if own != number and not (number == cnp.NPY_FLOAT64 and own == cnp.NPY_FLOAT32):
        return None
    return given if has_shape(given, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x)) else None


cdef bint is_moderate(double divisor) noexcept:
    """Whether it can be divided by, or is 0; see _plan.py."""
    return divisor == 0 or 1e-270 <= fabs(divisor) <= 1e270


cdef Py_ssize_t count_of(object mask):
    cdef const uint8_t* counted = <const uint8_t*>data_of(mask)
    cdef Py_ssize_t i, total = 0
    for i in range(cnp.PyArray_SIZE(<cnp.ndarray>mask)):
        total += counted[i] != 0
    return total


cdef object counted_weights(object weights, object mask):
    """The weights, 0 where the mask is False."""
    cdef Py_ssize_t i
    cdef const uint8_t* counted = <const uint8_t*>data_of(mask)
    cdef object result
    if not has_shape(mask, cnp.PyArray_NDIM(<cnp.ndarray>weights), cnp.PyArray_DIMS(<cnp.ndarray>weights)):
        return numpy.ascontiguousarray(numpy.where(mask, weights, weights.dtype.type(0)))
    result = PyArray_NewLikeArray(<cnp.ndarray>weights, cnp.NPY_CORDER, NULL, 0)
    for i in range(cnp.PyArray_SIZE(<cnp.ndarray>weights)):
        if is_float32(weights):
            (<float*>data_of(result))[i] = (<const float*>data_of(weights))[i] if counted[i] else 0
        else:
            (<double*>data_of(result))[i] = (<const double*>data_of(weights))[i] if counted[i] else 0
    return result


cdef double weights_in_force(Py_ssize_t samples, object weights, object mask):
    """The sum of the weights, or the number, of the samples that count; as `sum_of_weights` in _plan.py."""
    cdef PointJob job
    cdef object once
    if mask is None and weights is None:
        return samples
    if weights is None:
        return count_of(mask) * (<double>samples / cnp.PyArray_SIZE(<cnp.ndarray>mask))
    once = weights if mask is None else counted_weights(weights, mask)
    set_point_job(&job, kernels.point_losses + <int>POINT_OPS["identity"], False, NULL, NULL, 0)
    return run_points(&job, once, None, None, None, 1, 1, 1, False) \
        * (<double>samples / cnp.PyArray_SIZE(<cnp.ndarray>once))


# ---------------------------------------------------------------------------- losses with classes

cdef bint set_labels(ClassJob* job, cnp.ndarray y) noexcept:
    """Set class indices; uint64 may hold numbers that the kernels read as negative."""
    if not is_whole(cnp.PyArray_TYPE(y)):
        return False
    job.labels = cnp.PyArray_DATA(y)
    job.label_kind = label_kind(y)
    return job.label_kind != -8


cdef object without_ignored(ClassJob* job, object mask, tuple ignored):
    """Set the ignored labels; the mask without those beyond one."""
    cdef int64_t several[16]
    cdef Py_ssize_t n = len(ignored), i, k
    cdef cnp.npy_intp samples = job.samples
    cdef uint8_t* counted
    cdef int64_t label
    cdef bint counts
    job.ignore_index = ignored[0] if n else INT64_MIN
    if n < 2:
        return mask
    if n > 16:
        return None
    for k in range(n):
        several[k] = ignored[k]
    result = cnp.PyArray_EMPTY(1, &samples, cnp.NPY_BOOL, False)
    counted = <uint8_t*>data_of(result)
    for i in range(job.samples):
        label = label_of(job, i)  # where it does not count, the first of several
        counts = True
        for k in range(n):
            counts = counts and label != several[k]
        counted[i] = counts
    job.mask = counted
    return result


cdef void smooth(ClassJob* job, double smoothing, double* room) noexcept nogil:
    """Set what label smoothing adds, with memory for as many numbers as classes where they have weights."""
    cdef double share = smoothing / job.classes, low = 0
    cdef Py_ssize_t j
    job.op = LOSS_LINEAR
    job.linear_weight = job.class_weight
    job.coefficient_scale = job.index_scale = 1 - smoothing
    job.coefficient_shift = share
    if job.labels == NULL:
        job.class_weight = NULL
        return
    job.shared = room
    put_sample(job, share, room, 0)
    if job.class_weight == NULL and per_sample(job, room, 0) != 0:
        job.uniform = True
        job.shared_sum = per_sample(job, room, 0) * job.classes
        return
    for j in range(job.classes):
        put_sample(job, share * per_sample(job, job.class_weight, j), room, j)
        two_sum(per_sample(job, room, j), &job.shared_sum, &low)
    job.shared_sum = joined(job.shared_sum, low)


cdef int set_shape(ClassJob* job, cnp.ndarray x, object axis, cnp.npy_intp* shape) except -2:
    """Set how x is read, and the shape of one value for each sample; the number of its axes, or -1."""
    cdef int ndim = cnp.PyArray_NDIM(x), i, at = min(1, ndim - 1) if axis is None else axis
    if not -ndim <= at < ndim or ndim == 0:
        return -1
    at = at + ndim if at < 0 else at
    for i in range(ndim):
        if i == at:
            job.classes = cnp.PyArray_DIM(x, i)
            continue
        shape[i - (i > at)] = cnp.PyArray_DIM(x, i)
        job.samples *= cnp.PyArray_DIM(x, i)
        if i > at:
            job.inner *= cnp.PyArray_DIM(x, i)
    job.x_stride = job.classes * job.inner
    job.float32 = is_float32(x)
    job.x = cnp.PyArray_DATA(x)
    job.storage = storage_of(x)
    return ndim - 1 if job.classes and job.samples else -1


cdef object set_target(ClassJob* job, object target, int kind, cnp.ndarray x, int ndim, cnp.npy_intp* shape):
    """Set labels, or probabilities or counts in input's shape; the array that holds them, None if that will not do."""
    cdef object y = plain_array(target)
    if y is None:
        return None
    if kind == OF_LABELS or not has_shape(y, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x)):
        fits = kind != OF_COUNTS and has_shape(y, ndim, shape) and set_labels(job, y)
        return y if fits else None
    if kind == OF_LABELS_OR_SHARES and is_whole(cnp.PyArray_TYPE(<cnp.ndarray>y)):
        return None
    job.tolerance = sum_tolerance(storage_of(y), job.classes)
    y = beside(y, x)
    if y is not None:
        job.coefficient = data_of(y)
        job.coefficient_storage = storage_beside(y, x)
    return y


cdef object class_result(
    ClassJob* job, cnp.ndarray x, object y, object value, object grad, object hess, object sample_weight, object mask,
    int reduction, double smoothing, bint full, double nothing, double factor, double normalizer, int threads,
    bint fills,
):
    """Run a job whose arguments are set; the value, or that and derivatives, or None.

    `fills`: arrays of the caller's, to which nothing is written before targets are known to be meant.
    """
    cdef double room[MOST_SHARED]
    cdef double divisor = 0, total
    cdef object coefficient = None if job.coefficient == NULL else y, offset
    if coefficient is None:
        with nogil:
            position = first_invalid(CHECK_LABELS, job, threads if job.samples >= SERIAL_ELEMENTS else 1, &divisor)
        if position >= 0:
            return None
    elif reduction == MEAN and normalizer == 0:
        divisor = weights_in_force(job.samples, sample_weight, mask)
    divisor = normalizer if normalizer != 0 else divisor if reduction == MEAN else 1
    if normalizer == 0 and not is_moderate(divisor) \
            or divisor == 0 and (hess is not None or job.class_weight != NULL and sample_weight is not None):
        return None
    if smoothing != 0 or coefficient is not None:
        smooth(job, smoothing, &room[0])
    if full:
        offset = cnp.PyArray_EMPTY(1, <cnp.npy_intp*>&job.samples, cnp.NPY_FLOAT64, False)
        if log_multinomial(y, job.samples // job.inner, job.classes, job.inner, mask, offset) >= 0:
            return None
        job.offset = <const double*>data_of(offset)
    factor = factor if divisor != 0 else 0
    if fills and coefficient is not None and job.targets != UNCHECKED:
        with nogil:
            position = first_invalid(CHECK_TARGETS, job, threads, &total)
        if position >= 0:
            return None
        job.targets = UNCHECKED
    total = run_class(
        job, x, coefficient, value, None if job.op == NLL else grad, threads, factor, divisor if divisor != 0 else 1
    )
    if job.invalid != <uint64_t>-1:
        return None
    if grad is not None and (job.op == NLL or divisor == 0):  # once the value has been read: it may take x's place
        memset(data_of(grad), 0, bytes_in(grad))
    if grad is not None and job.op == NLL and divisor != 0:
        run_class(job, x, None, None, grad, threads, factor, divisor)
    return results(value, total if divisor != 0 else nothing, grad, hess)


cdef inline object results(object value, double total, object grad, object hess):
    value = total if value is None else value
    if hess is not None:
        return value, grad, hess
    return value if grad is None else (value, grad)


cdef object plain_classes(
    tuple loss, object input, object target, object weight, object sample_weight, object mask, object normalizer,
    object grad_output, object out, object grad_out, bint with_grad, tuple rule, object hess_out, object threads_for,
):
    """`loss`: see `_ClassLoss._plain_op`."""
    cdef ClassJob job
    cdef cnp.npy_intp shape[MOST_AXES]
    cdef double smoothing, nothing, normal = 0, factor = 1
    cdef int kind, reduction, ndim, number, threads = 1
    cdef bint full
    cdef cnp.ndarray x
    cdef object value = None, grad = None, hess = None, y, counted
    cdef tuple arguments = None, ignored
    set_class_job(&job, 0, False, NULL, 1, 0, 0)
    _, reduction, nothing, kind, job.op, head, ignored, smoothing, axis, full, job.targets = loss
    array = plain_input(input)
    if array is None or cnp.PyArray_CheckExact(input) and not is_plain(input):  # the layout is the gradient's too
        return None
    x = array
    ndim = set_shape(&job, x, axis, &shape[0])
    if ndim < 0:
        return None
    if head is not None:
        job.head, job.head_parameter, job.z_loss, job.softcap, job.input_scale = head
        if job.input_scale != 1 and rule is not None:  # whose square second derivatives have
            return None
    y = set_target(&job, target, kind, x, ndim, &shape[0])
    if y is None or job.classes > MOST_SHARED and smoothing != 0 and (weight is not None or smoothing < 1e-30):
        return None
    if job.samples * job.classes >= SERIAL_ELEMENTS:
        if job.op == NLL and with_grad and grad_out is None:  # the general way starts it from the system's zeros
            return None
        threads = threads_for(job.samples if job.op == NLL else job.samples * job.classes)
    # where results go
    number = cnp.NPY_FLOAT32 if job.float32 else cnp.NPY_FLOAT64
    if out is not None or grad_out is not None or hess_out is not None:
        arguments = input, target, weight, sample_weight, mask, grad_output
    if reduction == NONE:
        value = values_for(out, ndim, &shape[0], number, arguments)
    if value is None and (reduction == NONE or out is not None):
        return None
    if with_grad:
        grad = derivative_for(grad_out, x, arguments + (out,) if arguments else None, x is input)
        if grad is None or rule is not None and job.op == NLL:
            return None
    if rule is not None:
        hess = derivative_for(hess_out, x, arguments + (out, grad) if arguments else None, False)
        if hess is None:
            return None
    # weights
    if weight is not None:
        weight = in_type(weight, number)
        if weight is None or not has_shape(weight, 1, <cnp.npy_intp*>&job.classes):
            return None
        job.class_weight = data_of(weight)
    if sample_weight is not None:
        sample_weight = whole(sample_weights(sample_weight, number, ndim, &shape[0]), ndim, &shape[0])
        if sample_weight is None:
            return None
        job.sample_weight = data_of(sample_weight)
    if mask is not None:
        mask = whole(mask_of(mask, ndim, &shape[0]), ndim, &shape[0])
        if mask is None:
            return None
        job.mask = <const uint8_t*>data_of(mask)
    if job.labels != NULL:
        counted = without_ignored(&job, mask, ignored)
        if counted is None and len(ignored) > 1:
            return None
    if grad_output is not None and not is_number(grad_output, &factor):
        grad_output = in_type(grad_output, number) if reduction == NONE else None
        if grad_output is None or hess is not None or not has_shape(grad_output, ndim, &shape[0]):
            return None
        job.grad_output = data_of(grad_output)
    if not plain_normalizer(normalizer, reduction, &normal) or hess is not None and not factor >= 0:
        return None
    set_hessian(&job.hessian, hess, rule, x, None if job.coefficient == NULL else y)
    return class_result(
        &job, x, y, value, grad, hess, sample_weight, mask, reduction, smoothing, full, nothing, factor, normal,
        threads, arguments is not None,
    )


# ---------------------------------------------------------------------------- losses of one element

cdef bint repeats(cnp.ndarray array, cnp.ndarray x, int inner, Operand* operand) noexcept:
    """Set an array that is broadcast to x without its last `inner` axes, and to those; see `element_operand`."""
    cdef int own = cnp.PyArray_NDIM(array), before = cnp.PyArray_NDIM(x) - inner - own, first = -1, last = -1, axis
    cdef Py_ssize_t after = 1
    if before < 0:
        return False
    for axis in range(own):
        if cnp.PyArray_DIM(array, axis) != 1:
            if cnp.PyArray_DIM(array, axis) != cnp.PyArray_DIM(x, before + axis):
                return False
            first = axis if first < 0 else first
            last = axis
    operand.data = cnp.PyArray_DATA(array)
    operand.period = operand.rows = 1
    operand.row = operand.column = 0
    if first < 0:
        return True
    for axis in range(first, last):
        if cnp.PyArray_DIM(array, axis) != cnp.PyArray_DIM(x, before + axis):
            return False
    for axis in range(before + last + 1, cnp.PyArray_NDIM(x)):
        after *= cnp.PyArray_DIM(x, axis)
    if after == 1:
        operand.period = cnp.PyArray_SIZE(array)
        operand.column = True
    else:
        operand.period = after
        operand.rows = cnp.PyArray_SIZE(array)
        operand.row = 1
    return True


cdef object repeated(object array, cnp.ndarray x, int inner, Operand* operand):
    """Set a plain array, or None, that broadcasts; what holds its numbers, or None where it does not."""
    if array is None or repeats(array, x, inner, operand):
        return array
    array = whole(array, cnp.PyArray_NDIM(x) - inner, cnp.PyArray_DIMS(x))
    return array if array is not None and repeats(array, x, inner, operand) else None


cdef object variances(object array, cnp.ndarray x, Operand* operand):
    """The same for variances, by PyTorch's rule; see `_aligned_var`."""
    cdef int ndim = cnp.PyArray_NDIM(x), own = -1 if array is None else cnp.PyArray_NDIM(<cnp.ndarray>array)
    if own == ndim or own == 0:
        return repeated(array, x, 0, operand)
    lacks_last = own == ndim - 1 and has_shape(array, own, cnp.PyArray_DIMS(x))
    return repeated(array, x, 1, operand) if lacks_last else None


cdef bint plain_divisor(
    object normalizer, int reduction, Py_ssize_t batch, Py_ssize_t samples, object sample_weight, object mask,
    double* divisor
) except -1:
    """What a sum over elements is divided by; False where that takes other weights."""
    if not plain_normalizer(normalizer, reduction, divisor):
        return False
    if divisor[0] == 0:
        divisor[0] = weights_in_force(samples, sample_weight, mask) if reduction == MEAN \
            else batch if reduction == BATCHMEAN else 1
        return is_moderate(divisor[0])
    return True


cdef object plain_points(
    tuple loss, object input, object target, object weight, object extra, object sample_weight, object mask,
    object normalizer, object grad_output, object out, object grad_out, bint with_grad, tuple rule, object hess_out,
    object threads_for,
):
    """`loss`: see `_PointwiseLoss._plain_op`."""
    cdef PointJob job
    cdef double divisor = 0, factor = 1, nothing, total
    cdef int reduction, number, op, weighted_op, inner, ndim, threads = 1
    cdef Py_ssize_t size, batch, each = 1
    cdef bint of_variances
    cdef cnp.ndarray x
    cdef object value = None, values, grad = None, hess = None, y, weights_used, mask_used
    cdef tuple arguments = None
    set_point_job(&job, NULL, False, NULL, NULL, 0)
    _, reduction, nothing, op, weighted_op, job.options[0], job.options[1], inner, of_variances, job.checked = loss
    array = plain_input(input)
    y = plain_array(target)
    if array is None or y is None or of_variances and extra is None:
        return None
    x = array
    y = beside(y, x)
    size = cnp.PyArray_SIZE(x)
    ndim = cnp.PyArray_NDIM(x) - inner
    if y is None or size == 0 or ndim < 0 or not has_shape(y, ndim + inner, cnp.PyArray_DIMS(x)):
        return None
    job.loss = kernels.point_losses + (op if extra is None else weighted_op)
    if inner:
        each = cnp.PyArray_DIM(x, ndim)
    if size >= SERIAL_ELEMENTS:
        threads = threads_for(size)
    # where results go
    number = cnp.NPY_FLOAT32 if is_float32(x) else cnp.NPY_FLOAT64
    if out is not None or grad_out is not None or hess_out is not None:
        arguments = input, target, weight, extra, sample_weight, mask, grad_output
    if reduction == NONE:
        value = values_for(out, ndim, cnp.PyArray_DIMS(x), number, arguments)
    if value is None and (reduction == NONE or out is not None):
        return None
    if with_grad:
        grad = derivative_for(grad_out, x, arguments + (out,) if arguments else None, x is input)
    if rule is not None:
        hess = derivative_for(hess_out, x, arguments + (out, grad) if arguments else None, False)
    if with_grad and grad is None or rule is not None and hess is None:
        return None
    if weight is not None:
        weight = repeated(in_type(weight, number), x, 0, &job.weight)
        if weight is None:
            return None
    if extra is not None:
        extra = in_type(extra, number)
        extra = variances(extra, x, &job.extra) if of_variances else repeated(extra, x, 0, &job.extra)
        if extra is None:
            return None
    if sample_weight is not None:
        sample_weight = sample_weights(sample_weight, number, ndim, cnp.PyArray_DIMS(x))
        weights_used = repeated(sample_weight, x, inner, &job.sample_weight)
        if weights_used is None:
            return None
    if mask is not None:
        mask = mask_of(mask, ndim, cnp.PyArray_DIMS(x))
        mask_used = repeated(mask, x, inner, &job.mask)
        if mask_used is None:
            return None
    if grad_output is not None and not is_number(grad_output, &factor):
        grad_output = in_type(grad_output, number) if reduction == NONE else None
        if grad_output is None or hess is not None or not has_shape(grad_output, ndim, cnp.PyArray_DIMS(x)):
            return None
        repeats(grad_output, x, inner, &job.grad_output)
    batch = cnp.PyArray_DIM(x, 0) if ndim > 0 else 1
    if not plain_divisor(normalizer, reduction, batch, size // each, sample_weight, mask, &divisor) \
            or hess is not None and not (factor >= 0 and divisor != 0):
        return None
    set_hessian(&job.hessian, hess, rule, x, y)
    values = value
    if value is not None and inner:
        values = cnp.PyArray_EMPTY(ndim + 1, cnp.PyArray_DIMS(x), number, False)
    total = run_points(
        &job, x, y, values, grad, threads, factor if divisor != 0 else 0, divisor * each if divisor != 0 else 1,
        arguments is not None,
    )
    if job.outside:
        return None
    if divisor == 0 and grad is not None:
        memset(data_of(grad), 0, bytes_in(grad))
    if values is not value:
        row_means(values, value)
    return results(value, total if divisor != 0 else nothing, grad, hess)


def array_at(size_t address, tuple shape, int number, tuple strides=None, owner=None):
    """Memory that someone else keeps, or the owner, as an array of a type number, or of BFLOAT16's for 0.

    Strides are in elements; None is C order.
    """
    cdef cnp.npy_intp sizes[MOST_AXES]
    cdef cnp.npy_intp steps[MOST_AXES]
    cdef const cnp.npy_intp* in_bytes = NULL
    cdef int axis, ndim = <int>len(shape)
    cdef cnp.dtype dtype = BFLOAT16_DTYPE if number == 0 else cnp.PyArray_DescrFromType(number)
    if ndim > MOST_AXES:
        raise ValueError(f"input: got {ndim} dimensions, wanted {MOST_AXES} at most")
    if strides is not None:
        in_bytes = steps
    for axis in range(ndim):
        sizes[axis] = shape[axis]
        steps[axis] = 0 if strides is None else strides[axis] * cnp.PyDataType_ELSIZE(dtype)
    Py_INCREF(dtype)  # which the array keeps
    array = PyArray_NewFromDescr(
        <PyTypeObject*>cnp.ndarray, <cnp.PyArray_Descr*>dtype, ndim, &sizes[0],
        in_bytes, <void*>address, cnp.NPY_ARRAY_CARRAY, None
    )
    if owner is not None:
        cnp.set_array_base(array, owner)
    return array


def plain_loss(
    tuple loss, input, target, weight, extra, sample_weight, mask, normalizer, grad_output, out, grad_out,
    bint with_grad, tuple rule, hess_out, threads_for,
):
    """A loss's value, or that and derivatives, of a plain call; None where the general way must handle it.

    `loss` says which, in the families' `_plain_op`. With a `rule`, as in `set_hessian`, the diagonal of the Hessian
    comes third. `threads_for` tells the threads for a number of elements.
    """
    if loss is None:
        return None
    if loss[0]:
        return plain_classes(
            loss, input, target, weight, sample_weight, mask, normalizer, grad_output, out, grad_out, with_grad, rule,
            hess_out, threads_for,
        )
    return plain_points(
        loss, input, target, weight, extra, sample_weight, mask, normalizer, grad_output, out, grad_out, with_grad,
        rule, hess_out, threads_for,
    )


# ---------------------------------------------------------------------------- array functions

cdef int place_of(object axis, int ndim) except -2:
    """An axis as a number from 0; -1 if it is not an int in range."""
    cdef int overflow = 0
    cdef long place
    if not PyLong_CheckExact(axis):
        return -1
    place = PyLong_AsLongAndOverflow(axis, &overflow)
    if overflow != 0 or not -ndim <= place < ndim:
        return -1
    return <int>(place + ndim if place < 0 else place)


cdef bint neighbours_of(object axis, int ndim, int* first, int* last):
    """Whether an axis, several in order, or None, are neighbours; the first and the last of them."""
    cdef int i
    first[0] = 0
    last[0] = ndim - 1
    if axis is None:
        return ndim > 0
    if type(axis) is not tuple:
        first[0] = last[0] = place_of(axis, ndim)
        return first[0] >= 0
    if len(axis) == 0:
        return False
    first[0] = place_of(axis[0], ndim)
    last[0] = first[0] + <int>len(axis) - 1
    for i in range(<int>len(axis)):
        if place_of(axis[i], ndim) != first[0] + i:
            return False
    return first[0] >= 0


cdef bint is_apart_in_order(cnp.ndarray x):
    """Whether there are gaps between elements, or steps backwards, and the axes are in the order of memory."""
    cdef Py_ssize_t extent = cnp.PyArray_ITEMSIZE(x), step, before = -1
    cdef int i
    for i in range(cnp.PyArray_NDIM(x)):
        step = abs(cnp.PyArray_STRIDE(x, i))
        if cnp.PyArray_DIM(x, i) == 1:
            continue
        if before >= 0 and step > before:
            return False
        before = step
        extent += (cnp.PyArray_DIM(x, i) - 1) * step
    return extent != cnp.PyArray_NBYTES(x)


def plain_array_pass(int op, input, axis, bint keepdims, threads_for):
    """An array function over the classes on `axis`, one, several or None for all, of a plain call, or None.

    None means that the general way must handle it, as of `plain_loss`. A matrix in Fortran order is read in
    place, and a small array that has gaps is copied, so that the bits do not depend on the size.
    """
    cdef ClassJob job
    cdef cnp.npy_intp shape[64]
    cdef int number, ndim, first, last, i, kept = 0, threads = 1
    cdef bint reduces = op == LOGSUMEXP or op == ENTROPY or op == ENTROPY_FROM_LOGITS, turned = False
    cdef cnp.ndarray x, result
    cdef Py_ssize_t size
    if not cnp.PyArray_CheckExact(input) or not cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray>input):
        return None
    x = input
    number = cnp.PyArray_TYPE(x)
    ndim = cnp.PyArray_NDIM(x)
    size = cnp.PyArray_SIZE(x)
    if not (number == cnp.NPY_FLOAT32 or number == cnp.NPY_FLOAT64) or size == 0:
        return None
    if not neighbours_of(axis, ndim, &first, &last):
        return None
    if not cnp.PyArray_IS_C_CONTIGUOUS(x):
        turned = ndim == 2 and cnp.PyArray_IS_F_CONTIGUOUS(x)
        if not turned:
            if size >= SERIAL_ELEMENTS or last < ndim - 1 or ndim > 1 and not is_apart_in_order(x):
                return None
            x = cnp.PyArray_NewCopy(x, cnp.NPY_CORDER)
    if size >= SERIAL_ELEMENTS:
        threads = threads_for(size)
    set_class_job(&job, op, number == cnp.NPY_FLOAT32, cnp.PyArray_DATA(x), 1, 1, 0)
    for i in range(ndim):
        shape[kept] = 1
        if first <= i <= last:
            job.classes *= cnp.PyArray_DIM(x, i)
            kept += keepdims
            continue
        job.samples *= cnp.PyArray_DIM(x, i)
        shape[kept] = cnp.PyArray_DIM(x, i)
        kept += 1
        if (i > last) != turned:
            job.inner *= cnp.PyArray_DIM(x, i)
    job.x_stride = job.classes * job.inner
    if not reduces:
        result = PyArray_NewLikeArray(x, cnp.NPY_FORTRANORDER if turned else cnp.NPY_CORDER, NULL, 0)
        run_class(&job, x, None, None, result, threads, 1, 1)
        return result
    result = cnp.PyArray_EMPTY(kept, &shape[0], number, False)
    run_class(&job, x, None, result, None, threads, 1, 1)
    return result if kept > 0 else cnp.PyArray_ToScalar(cnp.PyArray_DATA(result), result)
