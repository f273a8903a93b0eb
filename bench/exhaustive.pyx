# The kernels' own exp and log of given float32 numbers, for exhaustive.py, which compiles this for each instruction set

from fastloss._kernels.math cimport *

cdef enum:
    EXP_OF, EXP_ARGUMENT_OF, LOG_POSITIVE, LOG_OF, LOG_OF_1M, LOG1P_OF, LOG1P_NONNEGATIVE

FUNCTIONS = {
    "exp_of": EXP_OF,
    "exp_argument_of": EXP_ARGUMENT_OF,
    "log_positive": LOG_POSITIVE,
    "log_of": LOG_OF,
    "log_of, 1 - x": LOG_OF_1M,
    "log1p_of": LOG1P_OF,
    "log1p_nonnegative": LOG1P_NONNEGATIVE,
}


cdef inline f16 of_step(int function, f16 x) noexcept nogil:
    """The functions of steps."""
    cdef f16 power, f
    if function == EXP_OF:
        return exp_of(x, exp_magic(-60, x), exp_least(-60, x))
    if function == EXP_ARGUMENT_OF:
        f = expm1_of_reduced(exp_argument_of(x, 0, &power))
        return fma_of(f, power, power)
    if function == LOG1P_OF:
        return log1p_of(x, div(x, sub(f16_all(-2), x)))
    if function == LOG_OF:
        f = log_argument(f16_all(0), x, &power)
    else:
        f = log_argument(f16_all(1), negative(x), &power)
    return log_of(f, div(f, sub(f16_all(-2), f)), power)


def evaluate(int function, const float[::1] x, double[::1] y):
    """y = function(x), the sum of both numbers where there are two."""
    cdef Py_ssize_t i, k, n = x.shape[0]
    cdef float low = 0, high
    cdef float step[16]
    with nogil:
        if function == LOG_POSITIVE:
            for i in range(n):
                high = log_positive(x[i], &low)
                y[i] = <double>high + <double>low
        elif function == LOG1P_NONNEGATIVE:
            for i in range(n):
                y[i] = log1p_nonnegative(x[i])
        else:
            for i in range(0, n, 16):
                for k in range(16):
                    step[k] = x[min(i + k, n - 1)]
                store(of_step(function, load(&step[0], 0, f16_all(0))), &step[0], 0)
                for k in range(min(16, n - i)):
                    y[i + k] = step[k] / (FASTLOSS_EXP_FACTOR * 2.0**60) if function == EXP_OF else step[k]
