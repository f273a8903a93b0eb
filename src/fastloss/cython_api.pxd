# For `cimport fastloss.cython_api`: see docs/compiled.md.
#
# Arrays are C-contiguous but for x, whose rows begin `stride` numbers apart, stride >= classes >= 1. Results may take
# the place of x where stride == classes, and overlap nothing else. Where a result is NULL it is not computed.
# 0 is returned when all is done; otherwise nothing has been written: i + 1 where label i is neither a class nor
# `ignore_index`, INVALID_SIZE, or NO_MEMORY for the blocks that a thread allocates in its first call.

from libc.stdint cimport int64_t

cdef enum:
    INVALID_SIZE = -1
    NO_MEMORY = -2

# out[i] = log sum_j exp(x[i, j])
cdef Py_ssize_t logsumexp_float(
    Py_ssize_t rows, Py_ssize_t classes, const float* x, Py_ssize_t stride, float* out
) noexcept nogil
cdef Py_ssize_t logsumexp_double(
    Py_ssize_t rows, Py_ssize_t classes, const double* x, Py_ssize_t stride, double* out
) noexcept nogil

# out[i, j] = exp(x[i, j]) / sum_k exp(x[i, k])
cdef Py_ssize_t softmax_float(
    Py_ssize_t rows, Py_ssize_t classes, const float* x, Py_ssize_t stride, float* out
) noexcept nogil
cdef Py_ssize_t softmax_double(
    Py_ssize_t rows, Py_ssize_t classes, const double* x, Py_ssize_t stride, double* out
) noexcept nogil

# out[i, j] = x[i, j] - log sum_k exp(x[i, k])
cdef Py_ssize_t log_softmax_float(
    Py_ssize_t rows, Py_ssize_t classes, const float* x, Py_ssize_t stride, float* out
) noexcept nogil
cdef Py_ssize_t log_softmax_double(
    Py_ssize_t rows, Py_ssize_t classes, const double* x, Py_ssize_t stride, double* out
) noexcept nogil

# value[i] = -log softmax(x[i])[labels[i]], or total[0] their sum where value is NULL;
# grad[i, j] = scale * (softmax(x[i])[j] - [j = labels[i]]). Both are 0 where the label is ignore_index.
cdef Py_ssize_t cross_entropy_float(
    Py_ssize_t rows, Py_ssize_t classes, const float* x, Py_ssize_t stride, const int64_t* labels,
    int64_t ignore_index, double scale, float* value, float* grad, double* total
) noexcept nogil
cdef Py_ssize_t cross_entropy_double(
    Py_ssize_t rows, Py_ssize_t classes, const double* x, Py_ssize_t stride, const int64_t* labels,
    int64_t ignore_index, double scale, double* value, double* grad, double* total
) noexcept nogil

# out[i] = 1 / (1 + exp(-x[i]))
cdef Py_ssize_t sigmoid_float(Py_ssize_t n, const float* x, float* out) noexcept nogil
cdef Py_ssize_t sigmoid_double(Py_ssize_t n, const double* x, double* out) noexcept nogil

# out[i] = -log(1 + exp(-x[i]))
cdef Py_ssize_t logsigmoid_float(Py_ssize_t n, const float* x, float* out) noexcept nogil
cdef Py_ssize_t logsigmoid_double(Py_ssize_t n, const double* x, double* out) noexcept nogil

# value[i] = log(1 + exp(x[i])) - x[i] target[i], or total[0] their sum where value is NULL;
# grad[i] = scale * (1 / (1 + exp(-x[i])) - target[i]).
cdef Py_ssize_t binary_cross_entropy_with_logits_float(
    Py_ssize_t n, const float* x, const float* target, double scale, float* value, float* grad, double* total
) noexcept nogil
cdef Py_ssize_t binary_cross_entropy_with_logits_double(
    Py_ssize_t n, const double* x, const double* target, double scale, double* value, double* grad, double* total
) noexcept nogil
