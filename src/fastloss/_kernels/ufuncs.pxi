# ufuncs: functions of points.pxd as NumPy's own elementwise functions, for `fastloss.special`.
#
# a) Types, broadcasting, `out`, `where`, memory that overlaps and scalars are NumPy's. It calls a loop with elements
#    that stand `steps` bytes apart; where they are contiguous and many, the loop shares them among threads.
# b) Elements that are not contiguous, or are to be overwritten, are copied block by block: what is in doubt is read
#    again when its result has been written.
# c) No warnings, as of SciPy: the flags that NumPy would read are cleared.
# d) Long double is the twin's; complex numbers are the C library's.

cdef extern from "<fenv.h>" nogil:
    int feclearexcept(int)
    int FE_ALL_EXCEPT

cdef extern from *:
    """
    static inline void fastloss_complex_log(void* z) {  /* C's type in the memory of C++'s, which is the same */
        _Complex double y;
        memcpy(&y, z, sizeof(y));
        y = __builtin_clog(y);
        memcpy(z, &y, sizeof(y));
    }
    """
    void complex_log "fastloss_complex_log" (double complex*) noexcept nogil

cnp.import_umath()

# An elementwise function in one type.
cdef struct Elementwise:
    int op                         # of POINT_OPS
    int inputs
    int bytes                      # of a number: 2, 4 or 8

# One call of its loop.
cdef struct Loop:
    const Elementwise* of
    char* data[3]                  # inputs, then the result
    Py_ssize_t steps[3]
    bint direct[3]                 # used where it is
    bint all_direct
    bint one_by_one                # a result is an argument of those after it, as in `reduce` and `accumulate`
    bint streamed
    Py_ssize_t size
    Py_ssize_t chunk

cdef object threads_of = None      # what tells the threads for a number of elements


cdef inline void copy_apart(
    const char* x, Py_ssize_t x_step, char* y, Py_ssize_t y_step, Py_ssize_t n, int bytes
) noexcept nogil:
    """n numbers from x to y, whose steps are in bytes."""
    cdef Py_ssize_t k
    if bytes == 8:
        for k in range(n):
            (<int64_t*>(y + k * y_step))[0] = (<const int64_t*>(x + k * x_step))[0]
    elif bytes == 4:
        for k in range(n):
            (<int32_t*>(y + k * y_step))[0] = (<const int32_t*>(x + k * x_step))[0]
    else:
        for k in range(n):
            (<int16_t*>(y + k * y_step))[0] = (<const int16_t*>(x + k * x_step))[0]


cdef void loop_chunk(const void* tag, void* given, Py_ssize_t chunk) noexcept nogil:
    """Elements [chunk * chunk size, ...) of a loop, at once if all stand where they can be used."""
    cdef const Loop* loop = <const Loop*>given
    cdef int inputs = loop.of.inputs, bytes = loop.of.bytes, j
    cdef Py_ssize_t first = chunk * loop.chunk, last = min(first + loop.chunk, loop.size), n
    cdef int64_t room[3][POINTWISE_BLOCK]
    cdef double partial[3]
    cdef char* data[3]
    cdef PointJob job
    set_point_job(&job, kernels.point_losses + loop.of.op, bytes < 8, NULL, NULL, 0)
    job.storage = job.y_storage = job.value_storage = FLOAT16 if bytes == 2 else NATIVE
    if loop.streamed:
        job.value_storage = STREAMED
    job.partial = &partial[0]
    plan_points(&job, 1, 1)
    while first < last:
        n = last - first
        if not loop.all_direct:
            n = min(n, <Py_ssize_t>(1 if loop.one_by_one else POINTWISE_BLOCK))
        for j in range(inputs + 1):
            data[j] = loop.data[j] + first * loop.steps[j]
            if not loop.direct[j]:
                if j < inputs:
                    copy_apart(data[j], loop.steps[j], <char*>&room[j][0], bytes, n, bytes)
                data[j] = <char*>&room[j][0]
        job.x = data[0]
        job.y = data[1] if inputs == 2 else NULL
        job.value = data[inputs]
        job.size = job.chunk = n
        units.points[job.float32](NULL, &job, 0)
        if not loop.direct[inputs]:
            copy_apart(
                data[inputs], bytes, loop.data[inputs] + first * loop.steps[inputs], loop.steps[inputs], n, bytes
            )
        first += n


cdef inline bint depends(const Loop* loop, int j) noexcept nogil:
    """Whether input j has results, other than each its own; NumPy copies what overlaps but in a reduction."""
    cdef const char* x = loop.data[j]
    cdef const char* y = loop.data[loop.of.inputs]
    cdef Py_ssize_t x_step = loop.steps[j], y_step = loop.steps[loop.of.inputs], n = loop.size - 1
    if n <= 0 or x == y and x_step == y_step and x_step != 0:
        return False
    return min(x, x + n * x_step) < max(y, y + n * y_step) + loop.of.bytes \
        and min(y, y + n * y_step) < max(x, x + n * x_step) + loop.of.bytes


cdef void real_loop(char** args, cnp.npy_intp* dims, cnp.npy_intp* steps, void* given) noexcept nogil:
    """NumPy's call of an elementwise function in half, single or double precision."""
    cdef Loop loop
    cdef Work work
    cdef Py_ssize_t chunks
    cdef int inputs = (<const Elementwise*>given).inputs, threads = 1, j
    loop.of = <const Elementwise*>given
    loop.size = dims[0]
    loop.all_direct = True
    for j in range(inputs + 1):
        loop.data[j] = args[j]
        loop.steps[j] = steps[j]
        loop.direct[j] = steps[j] == loop.of.bytes and (j == inputs or args[j] != args[inputs])
        loop.all_direct &= loop.direct[j]
    loop.one_by_one = depends(&loop, 0) or inputs == 2 and depends(&loop, 1)
    loop.all_direct &= not loop.one_by_one
    loop.streamed = loop.all_direct and loop.of.bytes > 2 \
        and (inputs + 1) * loop.size * loop.of.bytes > STREAM_BYTES
    loop.chunk = chunk_size(loop.size, 1, POINTWISE_BLOCK)
    chunks = (loop.size + loop.chunk - 1) // loop.chunk
    if loop.size >= SERIAL_ELEMENTS and not loop.one_by_one:
        work.caller = fastloss_own_memory(OWN_BYTES)
        if work.caller != NULL:
            with gil:
                threads = threads_of(loop.size)
    spread(&work, loop_chunk, &loop, chunks, threads, False)
    feclearexcept(FE_ALL_EXCEPT)


cdef void wide_loop(char** args, cnp.npy_intp* dims, cnp.npy_intp* steps, void* given) noexcept nogil:
    """The same in NumPy's long double, which may not be the compiler's."""
    cdef const Elementwise* of = <const Elementwise*>given
    cdef Point point
    cdef Py_ssize_t k
    memset(&point, 0, sizeof(point))
    for k in range(dims[0]):
        point.x = <wide_real>(<const cnp.npy_longdouble*>(args[0] + k * steps[0]))[0]
        if of.inputs == 2:
            point.y = <wide_real>(<const cnp.npy_longdouble*>(args[1] + k * steps[1]))[0]
        kernels.point_losses[of.op].wide(&point)
        (<cnp.npy_longdouble*>(args[of.inputs] + k * steps[of.inputs]))[0] = <cnp.npy_longdouble>point.value
    feclearexcept(FE_ALL_EXCEPT)


cdef inline double complex complex_xlogy(double complex x, double complex y) noexcept nogil:
    if x == 0 and y == y:
        return 0
    complex_log(&y)
    return x * y


cdef void xlogy_loop(char** args, cnp.npy_intp* dims, cnp.npy_intp* steps, void* given) noexcept nogil:
    """x log y of complex numbers."""
    cdef bint single = (<const Elementwise*>given).bytes == 8
    cdef double complex x, y
    cdef Py_ssize_t k
    for k in range(dims[0]):
        if single:
            x = (<const float complex*>(args[0] + k * steps[0]))[0]
            y = (<const float complex*>(args[1] + k * steps[1]))[0]
            (<float complex*>(args[2] + k * steps[2]))[0] = <float complex>complex_xlogy(x, y)
        else:
            x = (<const double complex*>(args[0] + k * steps[0]))[0]
            y = (<const double complex*>(args[1] + k * steps[1]))[0]
            (<double complex*>(args[2] + k * steps[2]))[0] = complex_xlogy(x, y)
    feclearexcept(FE_ALL_EXCEPT)


KEPT = []  # names and docstrings, which NumPy does not copy


def ufunc(op, str name, int inputs, str types, doc, threads_for):
    """One of POINT_OPS as an elementwise function with loops for `types`, characters of NumPy's, in this order.

    `threads_for` tells the threads for a number of elements.
    """
    global threads_of
    cdef int n = len(types), i, j
    cdef bytes title, text
    cdef cnp.PyUFuncGenericFunction* loops = <cnp.PyUFuncGenericFunction*>malloc(n * sizeof(void*))
    cdef Elementwise* kinds = <Elementwise*>malloc(n * sizeof(Elementwise))
    cdef void** data = <void**>malloc(n * sizeof(void*))
    cdef char* numbers = <char*>malloc(n * (inputs + 1))
    if loops == NULL or kinds == NULL or data == NULL or numbers == NULL:
        raise MemoryError("fastloss: no memory for an elementwise function")
    threads_of = threads_for
    for i, letter in enumerate(types):
        kinds[i].op = POINT_OPS[op]
        kinds[i].inputs = inputs
        kinds[i].bytes = numpy.dtype(letter).itemsize
        data[i] = &kinds[i]
        if letter in "FD":
            loops[i] = <cnp.PyUFuncGenericFunction>xlogy_loop
        elif letter == "g":
            loops[i] = <cnp.PyUFuncGenericFunction>wide_loop
        else:
            loops[i] = <cnp.PyUFuncGenericFunction>real_loop
        for j in range(inputs + 1):
            numbers[i * (inputs + 1) + j] = numpy.dtype(letter).num
    title, text = name.encode(), doc.encode()
    KEPT.append((title, text))
    identity = cnp.PyUFunc_Zero if op in ("entr", "rel_entr", "kl_div_of_masses") else cnp.PyUFunc_None  # SciPy's
    return cnp.PyUFunc_FromFuncAndData(loops, data, numbers, n, inputs, 1, identity, title, text, 0)
