# The unit of tiles: see units.pxd.

from fastloss._kernels.tiles cimport *
from fastloss._kernels.units cimport *


cdef public void fastloss_show_tiles(void* shown) noexcept nogil:
    cdef Units* units = <Units*>shown
    units.tiles[0] = <chunk_function><void*>tiles_chunk[double]
    units.tiles[1] = <chunk_function><void*>tiles_chunk[float]
