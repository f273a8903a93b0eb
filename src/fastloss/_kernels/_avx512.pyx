# The kernels compiled for x86-64-v4: AVX-512; the flags are in setup.py.

include "entry.pxi"
