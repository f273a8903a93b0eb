# units: what the units of one instruction set show to the module that calls them; see units.h.
#
# a) A unit is a file _<name>.pyx: loops over chunks, and a function that puts them into the table. It is no module of
#    Python's, though Cython makes it one: nothing in it is ever initialised, and it touches no object.
# b) Whatever a chunk does not need is in the entry, which is compiled once.

cdef extern from "units.h":        # the names of this file's functions for the instruction set
    pass

# A loop over a chunk of a job, in one type, which `tag` says to the compiler; it is NULL.
ctypedef void (*chunk_function)(const void* tag, void* job, Py_ssize_t chunk) noexcept nogil

cdef struct Units:                 # loops in float64 and float32, where they are two
    chunk_function rows[2]         # for a ClassJob
    chunk_function tiles[2]
    chunk_function nll
    chunk_function labels
    chunk_function targets[2]
    chunk_function log_multinomial
    chunk_function backward[2]
    chunk_function points[2]       # for a PointJob
    const void* losses             # PointLoss of one element, up to one without a name
    const char* features           # what the compiler was told,
    int (*contracts)(volatile double*) noexcept nogil  # and whether it takes that literally
