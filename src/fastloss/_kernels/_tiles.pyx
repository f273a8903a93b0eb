# The unit of tiles: see units.pxd.

from fastloss._kernels.tiles cimport *
from fastloss._kernels.units cimport *


cdef void double_tiles(const void* tag, void* job, Py_ssize_t chunk) noexcept nogil:
    tiles_chunk(<double*>NULL, <d8*>NULL, <ClassJob*>job, chunk)


cdef void float_tiles(const void* tag, void* job, Py_ssize_t chunk) noexcept nogil:
    tiles_chunk(<float*>NULL, <f16*>NULL, <ClassJob*>job, chunk)


cdef public void fastloss_show_tiles(void* shown) noexcept nogil:
    cdef Units* units = <Units*>shown
    units.tiles[0] = double_tiles
    units.tiles[1] = float_tiles
