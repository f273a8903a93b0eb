# The unit of what takes one look at labels, targets or counts, and of the functions that follow a softmax backward: see
# units.pxd.

from fastloss._kernels.backward cimport *
from fastloss._kernels.heads cimport *
from fastloss._kernels.nll cimport *
from fastloss._kernels.labels cimport *
from fastloss._kernels.units cimport *


cdef public void fastloss_show_labels(void* shown) noexcept nogil:
    cdef Units* units = <Units*>shown
    units.nll = <chunk_function><void*>nll_chunk
    units.labels = <chunk_function><void*>labels_chunk
    units.log_multinomial = <chunk_function><void*>log_multinomial_chunk
    units.targets[0] = <chunk_function><void*>targets_chunk[double]
    units.targets[1] = <chunk_function><void*>targets_chunk[float]
    units.backward[0] = <chunk_function><void*>backward_chunk[d8]
    units.backward[1] = <chunk_function><void*>backward_chunk[f16]
