"""fastloss under PyTorch: the losses of torch.nn.functional and torch.nn for CPU tensors.

    import fastloss.torch as F          # instead of torch.nn.functional, for the losses
    with fastloss.torch.patched(): ...  # or: the losses of existing code

Functions are in `functional`, modules in `modules`, logits that lie in several processes in `parallel`, the
way from tensors to kernels and the operators of torch.library in `_operators` and `_linear`, the switch in
`_switch`. Importing fastloss does not import this.
"""

import torch.distributed as _distributed

from .. import _docs
from . import functional, modules
from ._switch import patch, patched, unpatch
from .functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    kl_div,
    linear_cross_entropy,
    log_softmax,
    logsigmoid,
    logsumexp,
    mse_loss,
    multilabel_soft_margin_loss,
    nll_loss,
    poisson_nll_loss,
    sigmoid,
    soft_margin_loss,
    softmax,
)
from .modules import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    KLDivLoss,
    LinearCrossEntropyLoss,
    MSELoss,
    MultiLabelSoftMarginLoss,
    NLLLoss,
    PoissonNLLLoss,
    SoftMarginLoss,
)

if _distributed.is_available():
    from . import parallel as parallel

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "KLDivLoss",
    "LinearCrossEntropyLoss",
    "MSELoss",
    "MultiLabelSoftMarginLoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "SoftMarginLoss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "functional",
    "kl_div",
    "linear_cross_entropy",
    "log_softmax",
    "logsigmoid",
    "logsumexp",
    "modules",
    "mse_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "patch",
    "patched",
    "poisson_nll_loss",
    "sigmoid",
    "soft_margin_loss",
    "softmax",
    "unpatch",
]

_docs.fill(globals())
