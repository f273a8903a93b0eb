"""The kernels as handlers of XLA's foreign function interface, for `fastloss.jax`, which alone calls them.

a) The interface is XLA's C API, `xla/ffi/api/c_api.h` in jaxlib: versioned structs, passed by pointer. Those that the
   handlers touch are declared here, up to the last field that is read; no header of XLA is needed to build.
b) A handler is told what it computes by one attribute, the numbers of `Options`, and by its operands, in the order of
   the bits of `given`. Arrays are row-major. Leading axes that `vmap` adds are further samples; a value that is
   reduced, or class weights, say how many groups these are.
c) Handlers run on XLA's threads without the GIL. They raise nothing: an error is XLA's, and JAX raises it.
"""

from libc.math cimport NAN
from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from fastloss._kernels.math cimport joined, two_sum
from fastloss._kernels.storage cimport *
from fastloss._kernels.labels cimport label_of
from fastloss._kernels.pointwise cimport Operand
from fastloss._kernels.callers cimport *
include "_kernels/tuning.pxi"

from fastloss import _kernels

cdef extern from "machine.h" nogil:
    void fastloss_prefer_huge_pages(void*, size_t)

cdef const Kernels* kernels = <const Kernels*><size_t>_kernels.CALLERS

# ---- The part of xla/ffi/api/c_api.h that is used ----

cdef enum:
    NEWEST_MINOR = 3               # XLA_FFI_API_MINOR
    METADATA = 1                   # XLA_FFI_Extension_Metadata
    EXECUTE = 3                    # XLA_FFI_ExecutionStage_EXECUTE
    INVALID_ARGUMENT = 3           # XLA_FFI_Error_Code_...
    RESOURCE_EXHAUSTED = 8
    OUT_OF_RANGE = 11

cdef enum:                         # XLA_FFI_DataType_...
    PRED = 1
    S8, S16, S32, S64, U8, U16, U32, U64, F16, F32, F64
    BF16 = 16

cdef struct Extension:
    size_t struct_size
    int type
    Extension* next

cdef struct Version:
    size_t struct_size
    Extension* extension
    int major
    int minor

cdef struct Metadata:
    size_t struct_size
    Version version
    uint32_t traits

cdef struct MetadataExtension:
    Extension base
    Metadata* metadata

cdef struct Buffer:
    size_t struct_size
    Extension* extension
    int dtype
    char* data
    int64_t rank
    int64_t* dims

cdef struct Buffers:
    size_t struct_size
    Extension* extension
    int64_t size
    int* types
    Buffer** buffers

cdef struct Array:
    int dtype
    size_t size
    void* data

cdef struct Attributes:
    size_t struct_size
    Extension* extension
    int64_t size
    int* types
    void** names
    Array** values

cdef struct Error:
    size_t struct_size
    Extension* extension
    const char* message
    int code

cdef struct Api:
    size_t struct_size
    Extension* extension
    Version version
    void* internal
    void* (*create_error)(Error*) noexcept nogil

cdef struct Frame:
    size_t struct_size
    Extension* extension
    const Api* api
    void* context
    int stage
    Buffers args
    Buffers rets
    Attributes attributes

# ---- What a handler is told ----

cdef enum:                         # bits of `given`
    LABELS = 1
    SHARES = 2              # of classes, or of one element
    WEIGHT = 4                     # of each class, or of each element
    SAMPLE_WEIGHT = 8
    POS_WEIGHT = 16
    VALUE = 32                     # results
    RESULT = 64

cdef enum:                         # reductions
    NONE, SUM, MEAN

cdef struct Options:
    int64_t op                     # of OPS or POINT_OPS
    int64_t given
    int64_t reduction
    int64_t threads
    int64_t classes
    int64_t inner                  # numbers from one class to the next
    int64_t ignore_index
    double label_smoothing

# Operands and results, NULL where there is none.
cdef struct Call:
    const Options* options
    Buffer* x
    Buffer* target
    Buffer* weight
    Buffer* sample_weight
    Buffer* pos_weight
    Buffer* value
    Buffer* result
    bint float32
    int storage
    Py_ssize_t groups
    Py_ssize_t size                # of x in each group


cdef int minor = NEWEST_MINOR


cdef inline bint tells_version(Frame* frame) noexcept nogil:
    """Answer XLA's question, at registration, which version of the interface this is."""
    cdef Metadata* metadata
    if frame.extension == NULL or frame.extension.type != METADATA:
        return False
    metadata = (<MetadataExtension*>frame.extension).metadata
    metadata.version.major = 0
    metadata.version.minor = minor
    metadata.traits = 0
    return True


cdef void* error(Frame* frame, int code, const char* message) noexcept nogil:
    cdef Error args
    args.struct_size = sizeof(Error)
    args.extension = NULL
    args.message = message
    args.code = code
    return frame.api.create_error(&args)


cdef void* no_memory(Frame* frame) noexcept nogil:
    return error(frame, RESOURCE_EXHAUSTED, b"fastloss: no memory for the blocks of a thread")


cdef void* out_of_range(
    Frame* frame, const Call* call, const ClassJob* job, Py_ssize_t group, Py_ssize_t i
) noexcept nogil:
    """The error of label i of a group."""
    cdef int64_t label = label_of(job, i)
    cdef const Buffer* target = call.target
    cdef char message[400]
    cdef int used = snprintf(message, sizeof(message), b"target[")
    cdef Py_ssize_t position = group * (size_of(target) // call.groups) + i, rest = size_of(target)
    cdef int64_t axis
    for axis in range(min(target.rank, <int64_t>8)):
        rest //= target.dims[axis]
        used += snprintf(
            message + used, sizeof(message) - used, b"%s%lld", b", " if axis > 0 else b"", <long long>(position // rest)
        )
        position %= rest
    snprintf(
        message + used, sizeof(message) - used,
        b"] = %lld is out of range for %lld classes; ignore_index=%lld leaves that label out",
        <long long>label, <long long>call.options.classes, <long long>label
    )
    return error(frame, OUT_OF_RANGE, message)


cdef inline Py_ssize_t size_of(const Buffer* buffer) noexcept nogil:
    cdef Py_ssize_t size = 1
    cdef int64_t axis
    for axis in range(buffer.rank):
        size *= buffer.dims[axis]
    return size


cdef inline int bytes_of_item(int dtype) noexcept nogil:
    """0 for a dtype that is not known."""
    if dtype == F64 or dtype == S64 or dtype == U64:
        return 8
    if dtype == F32 or dtype == S32 or dtype == U32:
        return 4
    if dtype == F16 or dtype == BF16 or dtype == S16 or dtype == U16:
        return 2
    return 1 if dtype == PRED or dtype == S8 or dtype == U8 else 0


cdef inline int kind_of_labels(int dtype) noexcept nogil:
    """As `widen_labels` takes it."""
    return bytes_of_item(dtype) if S8 <= dtype <= S64 else -bytes_of_item(dtype)


cdef inline int storage_as(int dtype) noexcept nogil:
    if dtype == F16:
        return FLOAT16
    return BFLOAT16 if dtype == BF16 else NATIVE


cdef inline void* part(const Buffer* buffer, Py_ssize_t group, Py_ssize_t groups) noexcept nogil:
    """Where the numbers of a group begin; NULL for no buffer."""
    if buffer == NULL:
        return NULL
    return buffer.data + group * (size_of(buffer) // groups) * bytes_of_item(buffer.dtype)


cdef inline Buffer* next_of(Buffers* buffers, int* taken, bint given) noexcept nogil:
    if not given:
        return NULL
    taken[0] += 1
    return buffers.buffers[taken[0] - 1]


cdef inline Buffer* next_result(Buffers* buffers, int* taken, bint given) noexcept nogil:
    """XLA's memory for a result is new, or of another program."""
    cdef Buffer* result = next_of(buffers, taken, given)
    if result != NULL:
        fastloss_prefer_huge_pages(result.data, size_of(result) * bytes_of_item(result.dtype))
    return result


cdef inline bint are_known(const Buffers* buffers) noexcept nogil:
    cdef int64_t i
    for i in range(buffers.size):
        if bytes_of_item(buffers.buffers[i].dtype) == 0:
            return False
    return True


cdef void* read_call(Frame* frame, Call* call) noexcept nogil:
    cdef const Options* options = <const Options*>frame.attributes.values[0].data
    cdef int args = 0, rets = 0
    if not are_known(&frame.args) or not are_known(&frame.rets):
        return error(frame, INVALID_ARGUMENT, b"fastloss: an array has a dtype that the kernels do not read")
    call.options = options
    call.x = next_of(&frame.args, &args, True)
    call.target = next_of(&frame.args, &args, options.given & (LABELS | SHARES) != 0)
    call.weight = next_of(&frame.args, &args, options.given & WEIGHT != 0)
    call.sample_weight = next_of(&frame.args, &args, options.given & SAMPLE_WEIGHT != 0)
    call.pos_weight = next_of(&frame.args, &args, options.given & POS_WEIGHT != 0)
    call.value = next_result(&frame.rets, &rets, options.given & VALUE != 0)
    call.result = next_result(&frame.rets, &rets, options.given & RESULT != 0)
    call.float32 = call.x.dtype != F64
    call.storage = storage_as(call.x.dtype)
    call.groups = 1
    return NULL


cdef inline int storage_of_gradient(const Call* call) noexcept nogil:
    cdef Py_ssize_t more = 0
    if call.storage != NATIVE:
        return call.storage
    if call.options.given & SHARES:
        more = size_of(call.target) * bytes_of_item(call.target.dtype)
    return storage_of_result(size_of(call.x) * bytes_of_item(call.x.dtype), more)


cdef inline void put_value(const Call* call, Py_ssize_t group, double value) noexcept nogil:
    if call.float32:
        (<float*>call.value.data)[group] = <float>value
    else:
        (<double*>call.value.data)[group] = value


cdef double sum_of_factors(const ClassJob* job) noexcept nogil:
    """What a mean of probabilities is divided by: the sample weights' sum, or how many samples there are."""
    cdef double total = 0, low = 0
    cdef Py_ssize_t i
    if job.sample_weight == NULL:
        return job.samples
    for i in range(job.samples):
        if job.float32:
            two_sum((<const float*>job.sample_weight)[i], &total, &low)
        else:
            two_sum((<const double*>job.sample_weight)[i], &total, &low)
    return joined(total, low)


cdef void* class_group(Frame* frame, const Call* call, Py_ssize_t group, double* room) noexcept nogil:
    """One group of samples; `room` is for as many numbers as there are classes, with label smoothing."""
    cdef const Options* options = call.options
    cdef ClassJob job
    cdef Py_ssize_t groups = call.groups, classes = options.classes, inner = options.inner, position
    cdef double divisor, total = 0
    cdef bint mean = options.reduction == MEAN
    cdef int threads = <int>options.threads
    set_class_job(
        &job, <int>options.op, call.float32, part(call.x, group, groups), call.size // classes, classes, classes * inner
    )
    job.storage = call.storage
    job.inner = inner
    job.ignore_index = options.ignore_index
    job.class_weight = part(call.weight, group, groups)
    job.sample_weight = part(call.sample_weight, group, groups)
    job.grad = part(call.result, group, groups)
    job.grad_storage = storage_of_gradient(call)
    job.value = part(call.value, group, groups) if options.reduction == NONE else NULL
    divisor = job.samples
    if options.given & LABELS:
        job.labels = part(call.target, group, groups)
        job.label_kind = kind_of_labels(call.target.dtype)
        position = kernels.invalid_label(&job, threads if job.samples >= SERIAL_ELEMENTS else 1, False, &divisor)
        if position < -1:
            return no_memory(frame)
        if position >= 0:
            return out_of_range(frame, call, &job, group, position)
    elif options.given & SHARES:
        job.coefficient = part(call.target, group, groups)
        job.coefficient_storage = storage_as(call.target.dtype)
        divisor = sum_of_factors(&job)
    if options.given & SHARES or options.label_smoothing != 0:
        kernels.smooth(&job, options.label_smoothing, room)
        if options.given & SHARES:
            job.class_weight = NULL
    if mean and divisor == 0:      # nothing counts
        put_value(call, group, NAN)
        if job.grad != NULL:
            memset(job.grad, 0, call.size * bytes_of_item(call.result.dtype))
        return NULL
    if kernels.compute_class(&job, threads, 1, divisor if mean else 1, False, &total) != 0:
        return no_memory(frame)
    if call.value != NULL and options.reduction != NONE:
        put_value(call, group, total)
    return NULL


cdef void* classes_handler(Frame* frame) noexcept nogil:
    """A function of rows, or a loss with classes and its gradient."""
    cdef Call call
    cdef double few[MOST_SHARED]
    cdef double* room = few
    cdef void* failed = NULL
    cdef Py_ssize_t group
    if tells_version(frame) or frame.stage != EXECUTE:
        return NULL
    failed = read_call(frame, &call)
    if failed != NULL:
        return failed
    if call.value != NULL and call.options.reduction != NONE:
        call.groups = size_of(call.value)
    elif call.weight != NULL:
        call.groups = size_of(call.weight) // call.options.classes
    call.size = size_of(call.x) // max(call.groups, <Py_ssize_t>1)
    if call.options.label_smoothing != 0 and call.options.classes > MOST_SHARED:
        room = <double*>malloc(call.options.classes * sizeof(double))
        if room == NULL:
            return no_memory(frame)
    for group in range(call.groups):
        failed = class_group(frame, &call, group, room)
        if failed != NULL:
            break
    if room != few:
        free(room)
    return failed


cdef inline void set_operand(Operand* operand, const Buffer* buffer, Py_ssize_t group, const Call* call) noexcept nogil:
    operand.data = part(buffer, group, call.groups)
    operand.period = call.size
    operand.rows = 1
    operand.column = True


cdef void* points_handler(Frame* frame) noexcept nogil:
    """A function of elements, or a loss of them and its gradient."""
    cdef Call call
    cdef PointJob job
    cdef const Options* options
    cdef double divisor, total = 0
    cdef void* failed
    cdef Py_ssize_t group
    if tells_version(frame) or frame.stage != EXECUTE:
        return NULL
    failed = read_call(frame, &call)
    if failed != NULL:
        return failed
    options = call.options
    if options.reduction != NONE:
        call.groups = size_of(call.value)
    call.size = size_of(call.x) // max(call.groups, <Py_ssize_t>1)
    for group in range(call.groups):
        set_point_job(
            &job, kernels.point_losses + options.op, call.float32, part(call.x, group, call.groups),
            part(call.target, group, call.groups), call.size
        )
        job.storage = call.storage
        job.y_storage = storage_as(call.target.dtype) if call.target != NULL else NATIVE
        set_operand(&job.weight, call.weight, group, &call)
        set_operand(&job.extra, call.pos_weight, group, &call)
        job.grad = part(call.result, group, call.groups)
        job.grad_storage = storage_of_gradient(&call)
        if options.reduction == NONE and call.value != NULL:
            job.value = call.value.data
            job.value_storage = storage_as(call.value.dtype)
            if job.value_storage == NATIVE:
                job.value_storage = storage_of_gradient(&call) if call.storage == NATIVE else NATIVE
        divisor = call.size if options.reduction == MEAN and call.size > 0 else 1
        if kernels.compute_points(&job, <int>options.threads, 1, divisor, False, False, &total) != 0:
            return no_memory(frame)
        if options.reduction != NONE:
            put_value(&call, group, NAN if options.reduction == MEAN and call.size == 0 else total)
    return NULL


def speak(int theirs):
    """Answer with version 0.theirs of the interface, if that is known: XLA of old took its own alone.

    The structs that are declared here are the same in all of them.
    """
    global minor
    minor = min(theirs, <int>NEWEST_MINOR)


HANDLERS = {"fastloss_classes": <size_t>&classes_handler, "fastloss_points": <size_t>&points_handler}
GIVEN = {
    "labels": LABELS,
    "probabilities": SHARES,
    "weight": WEIGHT,
    "sample_weight": SAMPLE_WEIGHT,
    "pos_weight": POS_WEIGHT,
    "value": VALUE,
    "result": RESULT,
}
REDUCTIONS = {"none": NONE, "sum": SUM, "mean": MEAN}
