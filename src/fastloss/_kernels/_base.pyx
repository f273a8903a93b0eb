# The kernels compiled for x86-64-v2, or the plain build on other processors; the flags are in setup.py.

include "entry.pxi"
