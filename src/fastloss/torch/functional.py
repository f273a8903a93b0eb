"""The functions, with the signatures of torch.nn.functional (and torch.logsumexp)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.overrides import handle_torch_function, has_torch_function

from ._operators import ARRAY_FUNCTIONS, LOSSES, TRACED, small_cross_entropy

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "kl_div",
    "log_softmax",
    "logsigmoid",
    "logsumexp",
    "mse_loss",
    "nll_loss",
    "softmax",
]

#: PyTorch's own, taken before anything is patched.
PYTORCH: dict[str, Callable[..., Tensor]] = {
    name: getattr(torch if name == "logsumexp" else torch.nn.functional, name) for name in __all__
}


def _pytorch(name: str, *args: Any, **keywords: Any) -> Tensor:
    """PyTorch's own function. A subclass's __torch_function__ sees that one, a mode the one here."""
    function = PYTORCH[name]
    if not has_torch_function(args):
        return function(*args, **keywords)
    if not any(hasattr(a, "__torch_function__") and type(a) not in TRACED for a in args):
        function = globals()[name]  # a mode, and plain tensors, which come back here after it
    result: Tensor = handle_torch_function(function, args, *args, **keywords)
    return result


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits, as `torch.nn.functional.cross_entropy`.

    Example:
        >>> import torch, fastloss.torch as F
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]], requires_grad=True)
        >>> loss = F.cross_entropy(logits, torch.tensor([0, 0]))
        >>> loss.backward()
        >>> print(f"{loss.item():.4f} {logits.grad[1, 0]:.4f}")
        1.1269 -0.4404
    """
    found = None
    if size_average is None and reduce is None:
        if weight is None and reduction == "mean" and label_smoothing == 0:
            found = small_cross_entropy(input, target, ignore_index)
        if found is None:
            options = (ignore_index, reduction, label_smoothing)
            found = LOSSES["cross_entropy"](input, target, weight, *options)
    if found is not None:
        return found
    legacy = (size_average, ignore_index, reduce, reduction, label_smoothing)
    return _pytorch("cross_entropy", input, target, weight, *legacy)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood of log-probabilities, as `torch.nn.functional.nll_loss`."""
    found = None
    if size_average is None and reduce is None:
        found = LOSSES["nll_loss"](input, target, weight, ignore_index, reduction)
    if found is not None:
        return found
    return _pytorch("nll_loss", input, target, weight, size_average, ignore_index, reduce, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of logits, as `torch.nn.functional.binary_cross_entropy_with_logits`."""
    found = None
    if size_average is None and reduce is None:
        loss = LOSSES["binary_cross_entropy_with_logits"]
        found = loss(input, target, weight, pos_weight, reduction)
    if found is not None:
        return found
    legacy = (size_average, reduce, reduction)
    return _pytorch("binary_cross_entropy_with_logits", input, target, weight, *legacy, pos_weight)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross-entropy of probabilities, as `torch.nn.functional.binary_cross_entropy`."""
    found = None
    if size_average is None and reduce is None:
        found = LOSSES["binary_cross_entropy"](input, target, weight, reduction)
    if found is not None:
        return found
    return _pytorch("binary_cross_entropy", input, target, weight, size_average, reduce, reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Kullback-Leibler divergence of log-probabilities, as `torch.nn.functional.kl_div`."""
    found = None
    if size_average is None and reduce is None:
        found = LOSSES["kl_div"](input, target, reduction, log_target)
    if found is None:
        return _pytorch("kl_div", input, target, size_average, reduce, reduction, log_target)
    if reduction == "mean" and not is_compiling():
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    return found


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Squared error, as `torch.nn.functional.mse_loss`; with `weight` it is PyTorch's."""
    found = None
    if size_average is None and reduce is None and weight is None:
        found = LOSSES["mse_loss"](input, target, reduction)
    if found is not None:
        return found
    return _pytorch("mse_loss", input, target, size_average, reduce, reduction, weight)


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """exp(x_j) / Σ_k exp(x_k) along `dim`, as `torch.nn.functional.softmax`."""
    found = None
    if dim is not None:
        found = ARRAY_FUNCTIONS["softmax"](input if dtype is None else input.to(dtype), dim)
    return _pytorch("softmax", input, dim, _stacklevel + 1, dtype) if found is None else found


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """x_j - log Σ_k exp(x_k) along `dim`, as `torch.nn.functional.log_softmax`."""
    found = None
    if dim is not None:
        found = ARRAY_FUNCTIONS["log_softmax"](input if dtype is None else input.to(dtype), dim)
    return _pytorch("log_softmax", input, dim, _stacklevel + 1, dtype) if found is None else found


def logsigmoid(input: Tensor) -> Tensor:
    """min(x, 0) - log1p(exp(-|x|)), as `torch.nn.functional.logsigmoid`."""
    found = ARRAY_FUNCTIONS["logsigmoid"](input)
    return _pytorch("logsigmoid", input) if found is None else found


def logsumexp(
    input: Tensor, dim: int | tuple[int, ...], keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """log Σ_j exp(x_j) along `dim`, as `torch.logsumexp`; over several axes or with `out` it is PyTorch's."""
    found = None
    if out is None:
        axis = dim[0] if isinstance(dim, tuple | list) and len(dim) == 1 else dim
        found = ARRAY_FUNCTIONS["logsumexp"](input, axis, keepdim)
    return _pytorch("logsumexp", input, dim, keepdim, out=out) if found is None else found
