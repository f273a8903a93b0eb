# callers: what compiled code outside of the kernels' modules reaches of them, and how it sets a job.
#
# a) `fastloss.cython_api` and `fastloss._xla` set jobs on the stack, from pointers, and call through a table in
#    _entry.pyx, which has the losses of the instruction set in use.
# b) No formula is here, and no loop: the bits are those of the Python functions.
# c) Nothing is raised, and no signal handler run: the calling thread may have no GIL, and its caller no Python.

from libc.stdint cimport int64_t
from libc.string cimport memset
from fastloss._kernels.job cimport *
from fastloss._kernels.points cimport PointLoss
from fastloss._kernels.pointwise cimport PointJob

cdef struct Kernels:
    # These return 0, or less if there is no memory; see _entry.pyx.
    int (*compute_class)(
        ClassJob* job, int threads, double factor, double divisor, bint signals, double* total
    ) noexcept nogil
    int (*compute_points)(
        PointJob* job, int threads, double factor, double divisor, bint first, bint signals, double* total
    ) noexcept nogil
    Py_ssize_t (*invalid_label)(ClassJob* job, int threads, bint signals, double* divisor) noexcept nogil
    void (*smooth)(ClassJob* job, double smoothing, double* room) noexcept nogil
    const PointLoss* point_losses


cdef inline void set_class_job(
    ClassJob* job, int op, bint float32, const void* x, Py_ssize_t samples, Py_ssize_t classes, Py_ssize_t x_stride
) noexcept nogil:
    """Without options, for class indices of 64 bits; what is NULL now is not wanted."""
    memset(job, 0, sizeof(ClassJob))
    job.op = op
    job.float32 = float32
    job.x = x
    job.samples = samples
    job.classes = classes
    job.x_stride = x_stride
    job.inner = 1
    job.label_kind = 8
    job.input_scale = job.index_scale = job.coefficient_scale = job.hessian.factor = 1


cdef inline void set_point_job(
    PointJob* job, const PointLoss* loss, bint float32, const void* x, const void* y, Py_ssize_t size
) noexcept nogil:
    memset(job, 0, sizeof(PointJob))
    job.loss = loss
    job.float32 = float32
    job.x = x
    job.y = y
    job.size = size
    job.hessian.factor = 1
