# The unit of rows: see units.pxd.

from fastloss._kernels.row_chunks cimport *
from fastloss._kernels.units cimport *


cdef public void fastloss_odd_rows(void* job, const void* samples) noexcept nogil:
    """What `tiles` leaves to `rows`."""
    if (<ClassJob*>job).float32:
        odd_rows(<float*>NULL, <ClassJob*>job, <const OddSamples*>samples)
    else:
        odd_rows(<double*>NULL, <ClassJob*>job, <const OddSamples*>samples)


cdef public void fastloss_show_rows(void* shown) noexcept nogil:
    cdef Units* units = <Units*>shown
    units.rows[0] = <chunk_function><void*>rows_chunk[double]
    units.rows[1] = <chunk_function><void*>rows_chunk[float]
