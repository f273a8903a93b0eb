# The kernels' own exp and log on float32 numbers, for exhaustive.py, which compiles this for each instruction set.

from fastloss._kernels.math cimport *

cdef enum:
    EXP_NONPOSITIVE, EXP_SCALED, EXP_PAIR, EXP_PARTS, LOG_POSITIVE, LOG1P_UNIT, LOG1M, LOG1P_NONNEGATIVE

FUNCTIONS = {
    "exp_nonpositive": EXP_NONPOSITIVE,
    "exp_scaled": EXP_SCALED,
    "exp_pair": EXP_PAIR,
    "exp_parts": EXP_PARTS,
    "log_positive": LOG_POSITIVE,
    "log1p_unit": LOG1P_UNIT,
    "log1m": LOG1M,
    "log1p_nonnegative": LOG1P_NONNEGATIVE,
}


def evaluate(int function, const float[::1] x, double[::1] y):
    """y = function(x), the sum of both numbers where there are two."""
    cdef Py_ssize_t i, n = x.shape[0]
    cdef float low = 0, power = 0, shifted = 0, high
    with nogil:
        if function == EXP_NONPOSITIVE:
            for i in range(n):
                y[i] = exp_nonpositive(x[i])
        elif function == EXP_SCALED:
            for i in range(n):
                y[i] = exp_scaled(x[i])
        elif function == EXP_PAIR:
            for i in range(n):
                high = exp_pair_argument(x[i], &shifted)
                high = exp_pair(x[i], high, shifted, False, &low)
                y[i] = <double>high + <double>low
        elif function == EXP_PARTS:
            for i in range(n):
                high = exp_parts(x[i], False, &low, &power)
                y[i] = (<double>high + <double>low) * <double>power
        elif function == LOG_POSITIVE:
            for i in range(n):
                high = log_positive(x[i], False, &low)
                y[i] = <double>high + <double>low
        elif function == LOG1P_UNIT:
            for i in range(n):
                high = log1p_unit(x[i], <float>0, x[i] / (<float>2 + x[i]), &low)
                y[i] = <double>high + <double>low
        elif function == LOG1M:
            for i in range(n):
                high = log1m(x[i], &low)
                y[i] = <double>high + <double>low
        else:
            for i in range(n):
                y[i] = log1p_nonnegative(x[i])
