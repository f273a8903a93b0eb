"""The kernels for compiled callers: `cimport fastloss.cython_api`, or by their addresses, as Numba calls them.

The functions are declared, with what they compute, in cython_api.pxd; docs/compiled.md is the manual. They compute
on the calling thread, without the GIL, with the instruction set in use, and the bits of the Python functions.
"""

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from fastloss._kernels.storage cimport storage_of_result
from fastloss._kernels.callers cimport *

from fastloss import _kernels

cdef const Kernels* kernels = <const Kernels*><size_t>_kernels.CALLERS
cdef int SIGMOID_OP = _kernels.POINT_OPS["sigmoid"]
cdef int LOGSIGMOID_OP = _kernels.POINT_OPS["logsigmoid"]
cdef int BCE_OP = _kernels.POINT_OPS["bce_with_logits"]


cdef inline bint are_rows(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t stride) noexcept nogil:
    return rows >= 0 and 1 <= classes <= stride


cdef inline void set_result(ClassJob* job, real* result) noexcept nogil:
    job.grad = result
    if result != job.x:
        job.grad_storage = storage_of_result(job.samples * job.classes * <Py_ssize_t>sizeof(real), 0)


cdef inline Py_ssize_t ended(int failed) noexcept nogil:
    return NO_MEMORY if failed != 0 else 0


cdef inline Py_ssize_t of_rows(
    int op, Py_ssize_t rows, Py_ssize_t classes, const real* x, Py_ssize_t stride, real* value, real* result
) noexcept nogil:
    """A function of each row: one number, or one for each class."""
    cdef ClassJob job
    cdef double total
    if not are_rows(rows, classes, stride):
        return INVALID_SIZE
    set_class_job(&job, op, sizeof(real) == 4, x, rows, classes, stride)
    job.value = value
    set_result(&job, result)
    return ended(kernels.compute_class(&job, 1, 1, 1, False, &total))


cdef inline Py_ssize_t cross_entropy(
    Py_ssize_t rows, Py_ssize_t classes, const real* x, Py_ssize_t stride, const int64_t* labels,
    int64_t ignore_index, double scale, real* value, real* grad, double* total
) noexcept nogil:
    cdef ClassJob job
    cdef Py_ssize_t invalid
    cdef double unused
    if not are_rows(rows, classes, stride):
        return INVALID_SIZE
    set_class_job(&job, LOSS, sizeof(real) == 4, x, rows, classes, stride)
    job.labels = labels
    job.ignore_index = ignore_index
    job.value = value
    set_result(&job, grad)
    if value != NULL or total == NULL:
        total = &unused
    invalid = kernels.invalid_label(&job, 1, False, &unused)
    if invalid != -1:
        return invalid + 1 if invalid >= 0 else NO_MEMORY
    return ended(kernels.compute_class(&job, 1, scale, 1, False, total))


cdef inline Py_ssize_t of_elements(
    int op, Py_ssize_t n, const real* x, const real* target, double scale, real* value, real* grad, double* total
) noexcept nogil:
    cdef PointJob job
    cdef double unused
    if n < 0:
        return INVALID_SIZE
    set_point_job(&job, kernels.point_losses + op, sizeof(real) == 4, x, target, n)
    job.value = value
    job.grad = grad
    if value != NULL or total == NULL:
        total = &unused
    return ended(kernels.compute_points(&job, 1, scale, 1, False, False, total))


cdef Py_ssize_t logsumexp_float(
    Py_ssize_t rows, Py_ssize_t classes, const float* x, Py_ssize_t stride, float* out
) noexcept nogil:
    return of_rows(LOGSUMEXP, rows, classes, x, stride, out, NULL)


cdef Py_ssize_t logsumexp_double(
    Py_ssize_t rows, Py_ssize_t classes, const double* x, Py_ssize_t stride, double* out
) noexcept nogil:
    return of_rows(LOGSUMEXP, rows, classes, x, stride, out, NULL)


cdef Py_ssize_t softmax_float(
    Py_ssize_t rows, Py_ssize_t classes, const float* x, Py_ssize_t stride, float* out
) noexcept nogil:
    return of_rows(SOFTMAX, rows, classes, x, stride, NULL, out)


cdef Py_ssize_t softmax_double(
    Py_ssize_t rows, Py_ssize_t classes, const double* x, Py_ssize_t stride, double* out
) noexcept nogil:
    return of_rows(SOFTMAX, rows, classes, x, stride, NULL, out)


cdef Py_ssize_t log_softmax_float(
    Py_ssize_t rows, Py_ssize_t classes, const float* x, Py_ssize_t stride, float* out
) noexcept nogil:
    return of_rows(LOG_SOFTMAX, rows, classes, x, stride, NULL, out)


cdef Py_ssize_t log_softmax_double(
    Py_ssize_t rows, Py_ssize_t classes, const double* x, Py_ssize_t stride, double* out
) noexcept nogil:
    return of_rows(LOG_SOFTMAX, rows, classes, x, stride, NULL, out)


cdef Py_ssize_t cross_entropy_float(
    Py_ssize_t rows, Py_ssize_t classes, const float* x, Py_ssize_t stride, const int64_t* labels,
    int64_t ignore_index, double scale, float* value, float* grad, double* total
) noexcept nogil:
    return cross_entropy(rows, classes, x, stride, labels, ignore_index, scale, value, grad, total)


cdef Py_ssize_t cross_entropy_double(
    Py_ssize_t rows, Py_ssize_t classes, const double* x, Py_ssize_t stride, const int64_t* labels,
    int64_t ignore_index, double scale, double* value, double* grad, double* total
) noexcept nogil:
    return cross_entropy(rows, classes, x, stride, labels, ignore_index, scale, value, grad, total)


cdef Py_ssize_t sigmoid_float(Py_ssize_t n, const float* x, float* out) noexcept nogil:
    return of_elements(SIGMOID_OP, n, x, NULL, 1, out, NULL, NULL)


cdef Py_ssize_t sigmoid_double(Py_ssize_t n, const double* x, double* out) noexcept nogil:
    return of_elements(SIGMOID_OP, n, x, NULL, 1, out, NULL, NULL)


cdef Py_ssize_t logsigmoid_float(Py_ssize_t n, const float* x, float* out) noexcept nogil:
    return of_elements(LOGSIGMOID_OP, n, x, NULL, 1, out, NULL, NULL)


cdef Py_ssize_t logsigmoid_double(Py_ssize_t n, const double* x, double* out) noexcept nogil:
    return of_elements(LOGSIGMOID_OP, n, x, NULL, 1, out, NULL, NULL)


cdef Py_ssize_t binary_cross_entropy_with_logits_float(
    Py_ssize_t n, const float* x, const float* target, double scale, float* value, float* grad, double* total
) noexcept nogil:
    return of_elements(BCE_OP, n, x, target, scale, value, grad, total)


cdef Py_ssize_t binary_cross_entropy_with_logits_double(
    Py_ssize_t n, const double* x, const double* target, double scale, double* value, double* grad, double* total
) noexcept nogil:
    return of_elements(BCE_OP, n, x, target, scale, value, grad, total)


def names():
    """The names of the functions, as `address` takes them.

    Returns
    -------
    list of str
        The names, of which the ends are the types: "softmax_float", "softmax_double".

    See Also
    --------
    address : Where a function is.

    Examples
    --------
    >>> import fastloss.cython_api
    >>> "softmax_float" in fastloss.cython_api.names()
    True
    """
    return sorted(globals()["__pyx_capi__"])


def address(str name):
    """Where a function is in this process, for `ctypes` and whatever else calls by address.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    int
        The address of a C function with the arguments and the meaning that cython_api.pxd gives.

    Raises
    ------
    ValueError
        There is no function of that name.

    See Also
    --------
    names : The names.

    References
    ----------
    `scipy.special.cython_special`, whose functions Numba reaches in the same way.

    Examples
    --------
    >>> import ctypes
    >>> import numpy as np
    >>> import fastloss.cython_api
    >>> kind = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p)
    >>> sigmoid = kind(fastloss.cython_api.address("sigmoid_double"))
    >>> x, y = np.zeros(3), np.empty(3)
    >>> sigmoid(x.size, x.ctypes.data, y.ctypes.data)
    0
    >>> y
    array([0.5, 0.5, 0.5])
    """
    functions = globals()["__pyx_capi__"]
    if name not in functions:
        raise ValueError(f"name: got {name!r}, wanted one of {', '.join(names())}")
    capsule = functions[name]
    return <size_t>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))
