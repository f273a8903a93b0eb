# The kernels compiled for x86-64-v3: AVX2 and FMA; the flags are in setup.py.

include "entry.pxi"
