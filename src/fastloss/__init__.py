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
    KLDivLoss,
    MSELoss,
    MultinomialNLLLoss,
    NLLLoss,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    kl_div,
    mse_loss,
    multinomial_nll_loss,
    nll_loss,
)

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CheckError",
    "CrossEntropyLoss",
    "KLDivLoss",
    "MSELoss",
    "MultinomialNLLLoss",
    "NLLLoss",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "checking",
    "cross_entropy",
    "entropy",
    "entropy_from_logits",
    "get_num_threads",
    "kl_div",
    "log_softmax",
    "logsigmoid",
    "logsumexp",
    "mse_loss",
    "multinomial_nll_loss",
    "nll_loss",
    "reference",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
    "threads",
]
