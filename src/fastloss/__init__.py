"""fastloss: the classification losses on the CPU, value and gradient from logits in one pass.

The three kernel families are in `_kernels` (rows, lanes, pointwise), the losses in `losses`, the array
functions in `arrays`, and a NumPy twin of everything in `reference`.
"""

from . import reference
from ._checking import CheckError, checking
from ._runtime import __version__, get_num_threads, set_num_threads, show_config, threads
from .arrays import (
    entropy,
    entropy_from_logits,
    log_softmax,
    logsigmoid,
    logsumexp,
    sigmoid,
    softmax,
)
from .losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    FocalLoss,
    GeneralizedCrossEntropyLoss,
    KLDivLoss,
    MSELoss,
    MultinomialNLLLoss,
    NLLLoss,
    PolyLoss,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    focal_loss,
    generalized_cross_entropy,
    kl_div,
    mse_loss,
    multinomial_nll_loss,
    nll_loss,
    poly_loss,
)

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CheckError",
    "CrossEntropyLoss",
    "FocalLoss",
    "GeneralizedCrossEntropyLoss",
    "KLDivLoss",
    "MSELoss",
    "MultinomialNLLLoss",
    "NLLLoss",
    "PolyLoss",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "checking",
    "cross_entropy",
    "entropy",
    "entropy_from_logits",
    "focal_loss",
    "generalized_cross_entropy",
    "get_num_threads",
    "kl_div",
    "log_softmax",
    "logsigmoid",
    "logsumexp",
    "mse_loss",
    "multinomial_nll_loss",
    "nll_loss",
    "poly_loss",
    "reference",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
    "threads",
]
