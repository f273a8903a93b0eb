"""The functions, with the signatures of torch.nn.functional (and torch.logsumexp, torch.sigmoid)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._C import _dispatch_tls_is_dispatch_key_included as key_included
from torch._jit_internal import BroadcastingList1
from torch.compiler import is_compiling
from torch.overrides import handle_torch_function, has_torch_function

from . import _linear
from ._operators import ARRAY_FUNCTIONS, LOSSES, TRACED, _recorded, _transformed

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "kl_div",
    "linear_cross_entropy",
    "log_softmax",
    "logsigmoid",
    "logsumexp",
    "mse_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "sigmoid",
    "soft_margin_loss",
    "softmax",
]

#: PyTorch's own, taken before anything is patched.
PYTORCH: dict[str, Callable[..., Tensor]] = {
    name: getattr(torch if name in ("logsumexp", "sigmoid") else torch.nn.functional, name)
    for name in __all__
}


def _pytorch(name: str, *tensors: Any, **options: Any) -> Tensor:
    """PyTorch's own function, called as its own code calls it: tensors by position, options by name.

    A subclass's __torch_function__ sees that one, a mode the one here, except the mode of
    make_fx(pre_dispatch=True): inside of it nothing tells that operations on tensors are being recorded.
    """
    function = PYTORCH[name]
    relevant = (*tensors, *options.values())
    if not has_torch_function(relevant):
        return function(*tensors, **options)
    plain = not any(hasattr(a, "__torch_function__") and type(a) not in TRACED for a in relevant)
    if plain and (is_compiling() or not key_included(DispatchKey.PreDispatch)):
        function = globals()[name]  # a mode, and tensors that come back here after it
    result: Tensor = handle_torch_function(function, relevant, *tensors, **options)
    return result


def _loss(name: str, args: tuple[Any, ...], size_average: bool | None, reduce: bool | None) -> Tensor:
    """A loss by fastloss, or PyTorch's own; the arguments are the operator's."""
    loss = LOSSES[name]
    if size_average is None and reduce is None:
        found = loss(*args)
        if found is None and name in ("cross_entropy", "nll_loss"):
            found = _of_dtensor(name, *args)
        if found is not None:
            return found
    options = dict(zip([*loss.weights, *loss.options], args[2:], strict=True))
    return _pytorch(name, *args[:2], size_average=size_average, reduce=reduce, **options)


def _of_dtensor(name: str, input: Any, *args: Any) -> Tensor | None:
    """A loss of a DTensor, or None where it is PyTorch's."""
    if type(input).__name__ != "DTensor" or _transformed() or _recorded(input):
        return None
    from . import parallel

    found: Tensor | None = parallel.of_dtensor(name, input, *args)
    return found


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
    """Cross-entropy of logits, w_t (log Σ_j exp(x_j) - x_t), as `torch.nn.functional.cross_entropy`.

    Of probabilities q it is Σ_j w_j q_j (log Σ_k exp(x_k) - x_j).

    Parameters
    ----------
    %(torch.logits)s
    target : Tensor of shape (N,), () or (N, d_1, ...), or of input's shape
        Class indices, int64 or uint8; or class probabilities in input's shape.
    %(torch.class_weight)s
    %(torch.size_average)s
    %(torch.ignore_index)s
    %(torch.reduce)s
    %(torch.reduction)s
    %(torch.label_smoothing)s

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]], requires_grad=True)
    >>> loss = F.cross_entropy(logits, torch.tensor([0, 0]))
    >>> loss.backward()
    >>> print(f"{loss.item():.4f} {logits.grad[1, 0]:.4f}")
    1.1269 -0.4404
    """
    args = (input, target, weight, ignore_index, reduction, label_smoothing)
    return _loss("cross_entropy", args, size_average, reduce)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """Cross-entropy of a linear layer's logits, as `torch.nn.functional.linear_cross_entropy`.

    The logits of all rows are never there at once. A `linear_weight` of more dimensions is PyTorch's.

    Parameters
    ----------
    input : Tensor of shape (N, D) or (D,)
        Samples of D features.
    linear_weight : Tensor of shape (C, D)
        A row for each class.
    target : Tensor of shape (N,) or (), or (N, C) or (C,)
        Class indices, int64; or class probabilities.
    linear_bias : Tensor of shape (C,), optional
        Added to the logits of each sample.
    %(torch.class_weight)s
    %(torch.reduction)s
    ignore_index : int, optional
        A label whose samples have value 0 and gradient 0 and do not count; None is -100.
    %(torch.label_smoothing)s
    options : torch.nn.LinearCrossEntropyOptions, optional
        Of these `batch_chunk_size` counts, the most rows whose logits are there at a time; without it, and
        without options, fastloss chooses.

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> weight = torch.zeros(3, 2, requires_grad=True)
    >>> loss = F.linear_cross_entropy(torch.ones(1, 2), weight, torch.tensor([0]))
    >>> loss.backward()
    >>> print(f"{loss.item():.4f} {weight.grad[0, 0]:.4f}")
    1.0986 -0.6667
    """
    tensors = (input, linear_weight, target, linear_bias, weight)
    found = _linear.linear_cross_entropy(*tensors, reduction, ignore_index, label_smoothing, options)
    if found is not None:
        return found
    return _pytorch(
        "linear_cross_entropy",
        input,
        linear_weight,
        target,
        linear_bias=linear_bias,
        weight=weight,
        reduction=reduction,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        options=options,
    )


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood of log-probabilities, -w_t x_t, as `torch.nn.functional.nll_loss`.

    Parameters
    ----------
    input : Tensor of shape (N, C), (C,) or (N, C, d_1, ...)
        Log-probabilities.
    target : Tensor of shape (N,), () or (N, d_1, ...)
        Class indices, int64 or uint8.
    %(torch.class_weight)s
    %(torch.size_average)s
    %(torch.ignore_index)s
    %(torch.reduce)s
    %(torch.reduction)s

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.nll_loss(torch.tensor([[-0.5, -1.0]]), torch.tensor([1]))
    tensor(1.)
    """
    args = (input, target, weight, ignore_index, reduction)
    return _loss("nll_loss", args, size_average, reduce)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of logits, as `torch.nn.functional.binary_cross_entropy_with_logits`.

    It is w (pos_weight y log(1 + exp(-x)) + (1 - y) log(1 + exp(x))).

    Parameters
    ----------
    %(torch.input)s
    %(torch.target)s
    %(torch.weight)s
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s
    %(torch.pos_weight)s

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.binary_cross_entropy_with_logits(torch.zeros(3), torch.ones(3))
    tensor(0.6931)
    """
    args = (input, target, weight, pos_weight, reduction)
    return _loss("binary_cross_entropy_with_logits", args, size_average, reduce)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross-entropy of probabilities, as `torch.nn.functional.binary_cross_entropy`.

    It is -w (y log x + (1 - y) log(1 - x)), each logarithm at least -100.

    Parameters
    ----------
    input : Tensor
        Probabilities in [0, 1], of any shape.
    %(torch.target)s
    %(torch.weight)s
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.binary_cross_entropy(torch.full((3,), 0.5), torch.ones(3))
    tensor(0.6931)
    """
    args = (input, target, weight, reduction)
    return _loss("binary_cross_entropy", args, size_average, reduce)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Kullback-Leibler divergence of log-probabilities, y (log y - x), as `torch.nn.functional.kl_div`.

    With `log_target` it is exp(y) (y - x).

    Parameters
    ----------
    input : Tensor
        Log-probabilities, of any shape.
    target : Tensor of input's shape
        Probabilities, or their logarithms.
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction_of_kl)s
    %(torch.log_target)s

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.kl_div(torch.tensor([-1.0]), torch.tensor([1.0]), reduction="sum")
    tensor(1.)
    """
    found = None
    if size_average is None and reduce is None:
        found = LOSSES["kl_div"](input, target, reduction, log_target)
    if found is None:
        legacy = {"size_average": size_average, "reduce": reduce}
        return _pytorch("kl_div", input, target, **legacy, reduction=reduction, log_target=log_target)
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
    """Squared error, (x - y)^2, as `torch.nn.functional.mse_loss`; with `weight` it is PyTorch's.

    Parameters
    ----------
    input : Tensor
        Numbers, of any shape.
    target : Tensor of input's shape
        Numbers.
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s
    %(torch.weight)s

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.mse_loss(torch.tensor([1.0, 2.0]), torch.zeros(2))
    tensor(2.5000)
    """
    found = None
    if size_average is None and reduce is None and weight is None:
        found = LOSSES["mse_loss"](input, target, reduction)
    if found is not None:
        return found
    legacy = {"size_average": size_average, "reduce": reduce}
    return _pytorch("mse_loss", input, target, **legacy, reduction=reduction, weight=weight)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Logistic loss, log(1 + exp(-y x)) for targets y of 1 and -1, as `torch.nn.functional.soft_margin_loss`.

    Parameters
    ----------
    %(torch.input)s
    target : Tensor of input's shape
        The labels 1 or -1.
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.soft_margin_loss(torch.zeros(2), torch.tensor([1.0, -1.0]))
    tensor(0.6931)
    """
    args = (input, target, reduction)
    return _loss("soft_margin_loss", args, size_average, reduce)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Mean over the classes of binary cross-entropy, as in `torch.nn.functional`.

    Parameters
    ----------
    input : Tensor of shape (N, C) or (C,)
        Logits.
    %(torch.target)s
    %(torch.weight)s
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.multilabel_soft_margin_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    tensor(0.6931)
    """
    args = (input, target, weight, reduction)
    return _loss("multilabel_soft_margin_loss", args, size_average, reduce)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Likelihood of counts, exp(x) - y x, as `torch.nn.functional.poisson_nll_loss`.

    Parameters
    ----------
    input : Tensor of any shape
        The logarithms of the rates; the rates where `log_input` is False.
    target : Tensor of input's shape
        The counts.
    %(torch.log_input)s
    %(torch.size_average)s
    %(torch.eps)s
    %(torch.reduce)s
    %(torch.reduction)s

    Returns
    -------
    %(torch.loss)s

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.poisson_nll_loss(torch.zeros(2), torch.tensor([0.0, 3.0]))
    tensor(1.)
    """
    args = (input, target, log_input, full, eps, reduction)
    return _loss("poisson_nll_loss", args, size_average, reduce)


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """Softmax along `dim`, exp(x_j) / Σ_k exp(x_k), as `torch.nn.functional.softmax`.

    Parameters
    ----------
    %(torch.dim)s

    Returns
    -------
    Tensor
        Probabilities, of input's shape and dtype.

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.softmax(torch.zeros(2), 0)
    tensor([0.5000, 0.5000])
    """
    found = None
    if dim is not None:
        found = ARRAY_FUNCTIONS["softmax"](input, dim, dtype=dtype)
    if found is not None:
        return found
    return _pytorch("softmax", input, dim=dim, _stacklevel=_stacklevel + 2, dtype=dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """Logarithm of softmax along `dim`, x_j - log Σ_k exp(x_k), as `torch.nn.functional.log_softmax`.

    Parameters
    ----------
    %(torch.dim)s

    Returns
    -------
    Tensor
        Log-probabilities, of input's shape and dtype.

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.log_softmax(torch.zeros(2), 0)
    tensor([-0.6931, -0.6931])
    """
    found = None
    if dim is not None:
        found = ARRAY_FUNCTIONS["log_softmax"](input, dim, dtype=dtype)
    if found is not None:
        return found
    return _pytorch("log_softmax", input, dim=dim, _stacklevel=_stacklevel + 2, dtype=dtype)


def sigmoid(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Logistic function, 1 / (1 + exp(-x)), as `torch.sigmoid`; with `out` it is PyTorch's.

    Parameters
    ----------
    %(torch.input)s
    %(torch.out)s

    Returns
    -------
    Tensor
        Probabilities, of input's shape and dtype.

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.sigmoid(torch.zeros(2))
    tensor([0.5000, 0.5000])
    """
    found = ARRAY_FUNCTIONS["sigmoid"](input) if out is None else None
    return _pytorch("sigmoid", input, out=out) if found is None else found


def logsigmoid(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Logarithm of the logistic function, min(x, 0) - log1p(exp(-|x|)), as `torch.nn.functional.logsigmoid`.

    Parameters
    ----------
    %(torch.input)s
    %(torch.out)s

    Returns
    -------
    Tensor
        Log-probabilities, of input's shape and dtype.

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.logsigmoid(torch.zeros(2))
    tensor([-0.6931, -0.6931])
    """
    found = ARRAY_FUNCTIONS["logsigmoid"](input) if out is None else None
    if found is not None:
        return found
    return _pytorch("logsigmoid", input, **({} if out is None else {"out": out}))


def logsumexp(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    out: Tensor | None = None,
    axis: int | Sequence[int] | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Log Σ_j exp(x_j) over one axis or several, as `torch.logsumexp`; with `out` it is PyTorch's.

    Parameters
    ----------
    %(torch.input)s
    dim : int or sequence of int
        The axes to sum over.
    keepdim : bool, default: False
        Keep them, with length 1.
    %(torch.out)s
    axis : int or sequence of int, optional
        NumPy's name of `dim`, which PyTorch takes as well.
    keepdims : bool, optional
        Likewise of `keepdim`.

    Returns
    -------
    Tensor
        Of input's shape without `dim`, and its dtype.

    %(torch.raises)s

    Examples
    --------
    >>> import torch, fastloss.torch as F
    >>> F.logsumexp(torch.zeros(2), 0)
    tensor(0.6931)
    """
    found = None
    if (axis is not None and dim is not None) or (keepdims is not None and keepdim is not False):
        numpys = {"axis": axis, "keepdims": keepdims}  # beside its own names, which is an error
        return _pytorch(
            "logsumexp", input, dim, keepdim, **{k: v for k, v in numpys.items() if v is not None}
        )
    dim = axis if dim is None else dim
    keepdim = keepdim if keepdims is None else keepdims
    if out is None and dim is not None:
        dims = dim if isinstance(dim, tuple | list) else [dim]
        found = ARRAY_FUNCTIONS["logsumexp"](input, dims, keepdim)
    return _pytorch("logsumexp", input, dim, keepdim, out=out) if found is None else found


# ---------------------------------------------------------------------------- TorchScript

# It compiles what it calls, which the functions here are not made for: it gets PyTorch's, and those of them
# that are not Python in a function that is.


def _script_logsumexp(
    input: Tensor,
    dim: BroadcastingList1[int],  # type: ignore[valid-type]
    keepdim: bool = False,
) -> Tensor:
    return torch.logsumexp(input, dim, keepdim)


def _script_sigmoid(input: Tensor) -> Tensor:
    return torch.sigmoid(input)


def _script_logsigmoid(input: Tensor) -> Tensor:
    return torch.nn.functional.logsigmoid(input)


for _name, _function in PYTORCH.items():
    _scripted = globals().get(f"_script_{_name}", _function)
    globals()[_name].__prepare_scriptable__ = lambda scripted=_scripted: scripted
