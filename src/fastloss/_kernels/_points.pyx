# The unit of pointwise, and the table of the losses of one element: see units.pxd.

from fastloss._kernels.points cimport *
from fastloss._kernels.pointwise cimport *
from fastloss._kernels.units cimport *

cdef extern from "machine.h" nogil:
    const char* fastloss_features
    int fastloss_contracts(volatile double*)

cdef enum:
    MOST_POINT_LOSSES = 64

cdef PointLoss LOSSES[MOST_POINT_LOSSES]  # the last one has no name


cdef PointLoss* put(
    PointLoss* loss, const char* name, void* single, void* double_, point_function wide, int domain=EVERYWHERE,
    bint weighs=False
) noexcept nogil:
    """Fill a line of the table; the next one."""
    loss.name = name
    loss.single, loss.double_, loss.wide = single, double_, wide
    loss.domain, loss.weighs = domain, weighs
    return loss + 1


cdef void fill() noexcept nogil:
    """Names, functions and twins of points.pxd; _entry.pyx numbers them in this order."""
    cdef PointLoss* at = LOSSES
    at = put(at, "mse", <void*>mse[f16], <void*>mse[d8], wide_mse)
    at = put(at, "bce", <void*>bce[f16], <void*>bce[d8], wide_bce, UNIT_INTERVAL | PROBABILITY)
    at = put(
        at, "bce_with_logits", <void*>bce_with_logits[f16], <void*>bce_with_logits[d8], wide_bce_with_logits,
        PROBABILITY
    )
    at = put(
        at, "bce_with_logits_pos_weight", <void*>bce_with_logits_pos_weight[f16],
        <void*>bce_with_logits_pos_weight[d8], wide_bce_with_logits, PROBABILITY, True
    )
    at = put(at, "kl_div", <void*>kl_div[f16], <void*>kl_div[d8], wide_kl_div, COUNT | LOG_PROBABILITY | DISTRIBUTION)
    at = put(
        at, "kl_div_log_target", <void*>kl_div_log_target[f16], <void*>kl_div_log_target[d8], wide_kl_div_log_target,
        LOG_PROBABILITY | LOG_TARGET
    )
    at = put(at, "soft_margin", <void*>soft_margin[f16], <void*>soft_margin[d8], wide_soft_margin)
    at = put(at, "poisson_nll", <void*>poisson_nll[f16], <void*>poisson_nll[d8], wide_poisson_nll, COUNT)
    at = put(
        at, "poisson_nll_log_input", <void*>poisson_nll_log_input[f16], <void*>poisson_nll_log_input[d8],
        wide_poisson_nll_log_input, COUNT
    )
    at = put(at, "gaussian_nll", <void*>gaussian_nll[f16], <void*>gaussian_nll[d8], wide_gaussian_nll, NOT_NEGATIVE)
    at = put(
        at, "gaussian_nll_of_var", <void*>gaussian_nll_of_var[f16], <void*>gaussian_nll_of_var[d8],
        wide_gaussian_nll_of_var, NOT_NEGATIVE
    )
    at = put(at, "sigmoid_focal", <void*>sigmoid_focal[f16], <void*>sigmoid_focal[d8], wide_sigmoid_focal, PROBABILITY)
    at = put(at, "sigmoid", <void*>sigmoid[f16], <void*>sigmoid[d8], wide_sigmoid)
    at = put(at, "sigmoid_backward", <void*>sigmoid_backward[f16], <void*>sigmoid_backward[d8], wide_identity)
    at = put(at, "logsigmoid", <void*>logsigmoid[f16], <void*>logsigmoid[d8], wide_logsigmoid)
    at = put(at, "softplus", <void*>softplus[f16], <void*>softplus[d8], wide_softplus)
    at = put(at, "xlogy", <void*>xlogy[f16], <void*>xlogy[d8], wide_xlogy)
    at = put(at, "entr", <void*>entr[f16], <void*>entr[d8], wide_entr)
    at = put(at, "rel_entr", <void*>rel_entr[f16], <void*>rel_entr[d8], wide_rel_entr)
    at = put(at, "kl_div_of_masses", <void*>kl_div_of_masses[f16], <void*>kl_div_of_masses[d8], wide_kl_div_of_masses)
    at = put(at, "identity", <void*>identity[f16], <void*>identity[d8], wide_identity)


cdef public void fastloss_show_points(void* shown) noexcept nogil:
    cdef Units* units = <Units*>shown
    fill()
    units.points[0] = <chunk_function><void*>pointwise_chunk[double]
    units.points[1] = <chunk_function><void*>pointwise_chunk[float]
    units.losses = LOSSES
    units.features = fastloss_features
    units.contracts = fastloss_contracts
