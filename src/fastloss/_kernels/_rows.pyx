# The unit of rows: see units.pxd.

from fastloss._kernels.row_chunks cimport *
from fastloss._kernels.units cimport *


cdef void double_rows(const void* tag, void* job, Py_ssize_t chunk) noexcept nogil:
    rows_chunk(<double*>NULL, <d8*>NULL, <ClassJob*>job, chunk)


cdef void float_rows(const void* tag, void* job, Py_ssize_t chunk) noexcept nogil:
    rows_chunk(<float*>NULL, <f16*>NULL, <ClassJob*>job, chunk)


cdef public void fastloss_odd_rows(void* job, const void* tile) noexcept nogil:
    if (<ClassJob*>job).float32:
        odd_rows(<float*>NULL, <f16*>NULL, <ClassJob*>job, <const Tile*>tile)
    else:
        odd_rows(<double*>NULL, <d8*>NULL, <ClassJob*>job, <const Tile*>tile)


cdef public void fastloss_show_rows(void* shown) noexcept nogil:
    cdef Units* units = <Units*>shown
    units.rows[0] = double_rows
    units.rows[1] = float_rows
