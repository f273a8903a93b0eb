"""Classification losses on the CPU: value and gradient from logits in one pass, for NumPy arrays.

    >>> import fastloss
    >>> logits, labels = [[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]], [0, 2]
    >>> print(f"{fastloss.cross_entropy(logits, labels):.5f}")                 # a function: the value
    0.16093
    >>> loss = fastloss.CrossEntropyLoss(ignore_index=-1)                      # a class keeps the options
    >>> value, grad = loss.value_and_grad(logits, labels)
    >>> grad.round(3)
    array([[-0.078,  0.057,  0.021],
           [ 0.035,  0.035, -0.071]])

For PyTorch's tensors `import fastloss.torch as F` takes the place of torch.nn.functional, and
`with fastloss.torch.patched():` reaches existing code. `fastloss.jax` is for JAX, `fastloss.cython_api` for
compiled callers.

    class                        function                          input, target
    CrossEntropyLoss             cross_entropy                     logits, labels or class probabilities
    FocalLoss                    focal_loss                        logits, labels
    GeneralizedCrossEntropyLoss  generalized_cross_entropy         logits, labels
    PolyLoss                     poly_loss                         logits, labels
    NLLLoss                      nll_loss                          log-probabilities, labels
    MultinomialNLLLoss           multinomial_nll_loss              logits, counts of the classes
    BCEWithLogitsLoss            binary_cross_entropy_with_logits  logits, probabilities
    BCELoss                      binary_cross_entropy              probabilities, probabilities
    KLDivLoss                    kl_div                            log-probabilities, probabilities
    KLDivWithLogitsLoss          kl_div_with_logits                logits of a student and of a teacher
    MSELoss                      mse_loss                          numbers, numbers
    SigmoidFocalLoss             sigmoid_focal_loss                logits, probabilities
    SoftMarginLoss               soft_margin_loss                  logits, 1 or -1
    MultiLabelSoftMarginLoss     multilabel_soft_margin_loss       logits, probabilities
    PoissonNLLLoss               poisson_nll_loss                  log rates, counts
    GaussianNLLLoss              gaussian_nll_loss                 expectations, observations; and variances
    LinearCrossEntropyLoss       linear_cross_entropy              samples, a layer's weight, as the first

Calibration: temperature, vector_scaling; as scikit-learn's estimators in `fastloss.sklearn`.
Metrics for arrays, as scikit-learn's, from probabilities or logits: `metrics`.
Totals of batches: Total; of arrays that do not fit memory: stream. Classes in several arrays: Partial.
Array functions: logsumexp, softmax, log_softmax, sigmoid, logsigmoid, entropy, entropy_from_logits;
with SciPy's names and signatures, and a switch for existing code, in `special`.
Derivatives of array functions from their results: softmax_vjp, log_softmax_vjp, sigmoid_vjp.
Threads and checks: threads, set_num_threads, get_num_threads, show_config, checking.

Submodules that are imported when they are first used: boosting, cython_api, dask, jax, sklearn, torch.

The losses are in `losses`, the array functions in `arrays`, their loops in `_kernels` (rows, tiles,
pointwise), and a NumPy twin of everything is in `reference`.
"""

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from . import _docs, metrics, reference, special
from ._checking import CheckError, checking
from ._runtime import __version__, get_num_threads, set_num_threads, show_config, threads
from .arrays import (
    entropy,
    entropy_from_logits,
    log_softmax,
    log_softmax_vjp,
    logsigmoid,
    logsumexp,
    sigmoid,
    sigmoid_vjp,
    softmax,
    softmax_vjp,
)
from .calibration import temperature, vector_scaling
from .losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    FocalLoss,
    GaussianNLLLoss,
    GeneralizedCrossEntropyLoss,
    KLDivLoss,
    KLDivWithLogitsLoss,
    LinearCrossEntropyLoss,
    MSELoss,
    MultiLabelSoftMarginLoss,
    MultinomialNLLLoss,
    NLLLoss,
    Partial,
    PoissonNLLLoss,
    PolyLoss,
    SigmoidFocalLoss,
    SoftMarginLoss,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    focal_loss,
    gaussian_nll_loss,
    generalized_cross_entropy,
    kl_div,
    kl_div_with_logits,
    linear_cross_entropy,
    mse_loss,
    multilabel_soft_margin_loss,
    multinomial_nll_loss,
    nll_loss,
    poisson_nll_loss,
    poly_loss,
    sigmoid_focal_loss,
    soft_margin_loss,
)
from .streaming import stream
from .totals import Total

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CheckError",
    "CrossEntropyLoss",
    "FocalLoss",
    "GaussianNLLLoss",
    "GeneralizedCrossEntropyLoss",
    "KLDivLoss",
    "KLDivWithLogitsLoss",
    "LinearCrossEntropyLoss",
    "MSELoss",
    "MultiLabelSoftMarginLoss",
    "MultinomialNLLLoss",
    "NLLLoss",
    "Partial",
    "PoissonNLLLoss",
    "PolyLoss",
    "SigmoidFocalLoss",
    "SoftMarginLoss",
    "Total",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "checking",
    "cross_entropy",
    "entropy",
    "entropy_from_logits",
    "focal_loss",
    "gaussian_nll_loss",
    "generalized_cross_entropy",
    "get_num_threads",
    "kl_div",
    "kl_div_with_logits",
    "linear_cross_entropy",
    "log_softmax",
    "log_softmax_vjp",
    "logsigmoid",
    "logsumexp",
    "metrics",
    "mse_loss",
    "multilabel_soft_margin_loss",
    "multinomial_nll_loss",
    "nll_loss",
    "poisson_nll_loss",
    "poly_loss",
    "reference",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "sigmoid_focal_loss",
    "sigmoid_vjp",
    "soft_margin_loss",
    "softmax",
    "softmax_vjp",
    "special",
    "stream",
    "temperature",
    "threads",
    "vector_scaling",
]

if not TYPE_CHECKING:  # for which any name would do then; type checkers want an import of the submodule

    def __getattr__(name):
        """A submodule, imported when it is asked for: some need more than NumPy."""
        if name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return import_module(f"{__name__}.{name}")
        except ImportError as error:
            raise AttributeError(f"{__name__}.{name} cannot be imported: {error}") from error


def __dir__() -> list[str]:
    submodules = {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}
    return sorted({*__all__, *submodules})


_docs.fill(globals())
_docs.fill(vars(reference))
_docs.fill(vars(metrics))
