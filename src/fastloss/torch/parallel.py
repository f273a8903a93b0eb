"""Cross-entropy of logits that lie in the processes of a torch.distributed group.

Design:
a) Classes in parts: each process has some of the classes of all samples. Two all-gathers: one of 64 bytes,
   which says how many classes each has, whether the arguments agree, and whether all of them are right; and
   one of what `fastloss.Partial` holds of a sample, 16 bytes in float32, 24 with label smoothing. Each
   process merges them in the order of the ranks, so that all have the same bits.
b) Samples in parts, of DTensors: the mean divides by the weights in all processes, which are added up.
c) The backward pass has no communication: the gradient is computed there, from the logits, and rounded once.
d) A process that refuses its arguments says so before it raises; the others then raise too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, is_grad_enabled
from torch._C import _are_functorch_transforms_active as transforms
from torch._compile import _disable_dynamo
from torch.autograd import Function, forward_ad

from .. import losses
from .._arguments import Array
from ..losses.partials import Partial
from ._operators import _FLOATS, _HALF, LOSSES, _array, _on_threads, _tensor

__all__ = ["cross_entropy"]

_AGREED = ("the loss's options", "the dtype of the logits", "the samples' shape", "target", "weight")


def cross_entropy(
    local_logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    group: Any = None,
) -> Tensor:
    """Cross-entropy of logits whose classes are spread over the processes of a group.

    All processes call it together. Each has some of the classes, as many as it likes or none, of all samples,
    in the order of the ranks; all other arguments are the same in all of them. No process ever has the logits
    of another: 16 bytes a sample and process are sent, 24 with label smoothing.

    Parameters
    ----------
    local_logits : Tensor of shape (N, C), (C,) or (N, C, d_1, ...)
        Logits of this process's classes, on the CPU.
    target : Tensor of shape (N,), () or (N, d_1, ...)
        Class indices of any integer dtype, counted from the first class of the first process.
    weight : Tensor, optional
        A number for each class of all processes.
    ignore_index : int, default: -100
        A label whose samples have value 0 and gradient 0 and do not count.
    reduction : {"mean", "sum", "none"}, default: "mean"
        "mean" divides by the sum of the weights of the labels; "none" gives one value for each sample.
    label_smoothing : float, default: 0.0
        Share of the target that all classes, of all processes, have in equal parts, in [0, 1].
    z_loss : float, default: 0.0
        Factor of the square of the logsumexp over all classes, which is added.
    group : ProcessGroup, optional
        The processes; None is all of them.

    Returns
    -------
    Tensor
        The value, with the same bits in all processes. Its backward pass gives each process the gradient by
        its own logits, and communicates nothing. It can be differentiated once. torch.compile leaves the call
        out of its graphs.

    Raises
    ------
    IndexError
        A label that is no class and not `ignore_index`; in all processes.
    RuntimeError
        Arguments differ between the processes, or are refused in another one; in all processes.
    TypeError, ValueError
        Arguments that do not fit; in the process that has them.

    See Also
    --------
    fastloss.CrossEntropyLoss.partial : What each process contributes, for any other way of sending it.

    References
    ----------
    `torch.nn.functional.cross_entropy`, `torch.distributed.tensor.parallel.loss_parallel`; Shoeybi et al.,
    "Megatron-LM" (2019), section 3.

    Examples
    --------
    >>> import tempfile, torch, torch.distributed as dist
    >>> from fastloss.torch import parallel
    >>> store = dist.FileStore(tempfile.mktemp(), 1)
    >>> dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    >>> logits = torch.zeros(2, 3, requires_grad=True)
    >>> loss = parallel.cross_entropy(logits, torch.tensor([0, 2]))
    >>> loss.backward()
    >>> print(f"{loss.item():.4f} {logits.grad[0, 0]:.4f}")
    1.0986 -0.3333
    >>> dist.destroy_process_group()
    """
    options = {"ignore_index": ignore_index, "reduction": reduction, "label_smoothing": label_smoothing}
    return _of_classes(local_logits, target, weight, {**options, "z_loss": z_loss}, group)


@_disable_dynamo
def _of_classes(
    local_logits: Tensor, target: Tensor, weight: Tensor | None, options: dict[str, Any], group: Any
) -> Tensor:
    """The loss, outside of the graphs of torch.compile, which knows neither processes nor kernels."""
    if transforms() or forward_ad._current_level >= 0:  # under which nothing can be sent
        raise RuntimeError(
            "local_logits: got those of a transform of torch.func or of a forward-mode derivative, wanted"
            " those of a plain call, whose backward pass has the only gradient"
        )
    ranks = _Ranks(group)
    try:
        _check(local_logits, target, weight, options["ignore_index"])
        if local_logits.dtype in _HALF and torch.is_autocast_enabled("cpu"):
            local_logits = local_logits.float()
        own = None if weight is None else _array(weight.float() if weight.dtype in _HALF else weight)
        loss: Any = losses.CrossEntropyLoss(own, **options)
        header = _header(loss, local_logits, target, own)
    except BaseException:
        ranks.gather(np.full(8, -1, np.int64))
        raise
    classes = _agreed(ranks.gather(header), ranks.rank)
    if own is not None and own.shape != (sum(classes),):
        raise ValueError(f"weight: got shape {own.shape}, wanted ({sum(classes)},), the classes of all ranks")
    first = sum(classes[: ranks.rank])
    call = (_array(local_logits.detach()), _array(target))
    part = _on_threads(local_logits.numel(), _partial, loss, *call, first)
    whole = part._gathered(ranks.gather, classes)

    def gradient(x: Array, target: Array, factor: Any) -> Array:
        grad: Array = whole.grad(x, target, start=first, grad_output=factor)
        return grad

    return _with_gradient(local_logits, target, whole.value(), gradient)


def _partial(loss: Any, x: Array, target: Array, start: int) -> Partial[Any]:
    result: Partial[Any] = loss.partial(x, target, start=start)
    return result


def _check(logits: Any, target: Any, weight: Any, ignore_index: Any) -> None:
    """Refuse what no process could compute."""
    for name, tensor in (("local_logits", logits), ("target", target), ("weight", weight)):
        if tensor is None and name == "weight":
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: got {type(tensor).__name__}, wanted a Tensor")
        if not tensor.is_cpu or tensor.layout is not torch.strided:
            kind = "a tensor" if tensor.layout is torch.strided else f"layout {tensor.layout}"
            raise TypeError(f"{name}: got {kind} on {tensor.device}, wanted a strided one on the CPU")
    if logits.dtype not in _FLOATS:
        raise TypeError(f"local_logits: got dtype {logits.dtype}, wanted a float of 16, 32 or 64 bits")
    if not logits.ndim:
        raise ValueError("local_logits: got a 0-dimensional tensor, wanted a class axis")
    samples = logits.shape[:1] + logits.shape[2:] if logits.ndim > 1 else ()
    if target.dtype.is_floating_point or target.dtype.is_complex:
        raise TypeError(f"target: got dtype {target.dtype}, wanted class indices, integers")
    if target.shape != samples:
        raise ValueError(f"target: got shape {tuple(target.shape)}, wanted {tuple(samples)}")
    if weight is not None and weight.dtype not in _FLOATS:
        raise TypeError(f"weight: got dtype {weight.dtype}, wanted a float of 16, 32 or 64 bits")
    if is_grad_enabled() and weight is not None and weight.requires_grad:
        raise ValueError(
            "weight: it requires grad, and there are derivatives by the logits alone; detach() it"
        )
    if type(ignore_index) is not int:
        raise TypeError(f"ignore_index: got {type(ignore_index).__name__}, wanted an int")


def _header(loss: Any, logits: Tensor, target: Tensor, weight: Array | None) -> Array:
    """How many classes there are, and digests of what has to be the same in all processes."""
    options = {**loss._options, "weight": None}
    samples = np.asarray(target.shape)
    parts = (repr(options), str(logits.dtype), samples, _array(target.long()), weight)
    digests = [0 if part is None else _digest(part) for part in parts]
    classes = logits.shape[min(1, logits.ndim - 1)]
    return np.array([1, 0, classes, *digests], np.int64)


def _digest(value: Any) -> int:
    data = value.encode() if isinstance(value, str) else np.ascontiguousarray(value).data
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def _agreed(headers: list[Array], rank: int) -> list[int]:
    """The classes of all processes, if these can go on."""
    for other, header in enumerate(headers):
        if header[0] != 1:
            raise RuntimeError(f"rank {other} of the group refused its arguments: its own error says which")
    for i, name in enumerate(_AGREED, 3):
        for other, header in enumerate(headers):
            if header[i] != headers[0][i]:
                raise RuntimeError(f"{name}: rank {other} of the group has another than rank 0 (here {rank})")
    return [int(header[2]) for header in headers]


class _Ranks:
    """The processes of a group, and what this one is among them."""

    def __init__(self, group: Any) -> None:
        if not dist.is_initialized():
            raise RuntimeError("group: torch.distributed.init_process_group() has not been called")
        world: Any = dist.group.WORLD
        self.group = world if group is None else group
        self.rank, self.size = dist.get_rank(self.group), dist.get_world_size(self.group)
        if self.rank < 0:
            raise ValueError("group: this process is not one of its ranks")
        kinds = [device.type for device in self.group._device_types]
        self.device = "cpu" if "cpu" in kinds or not kinds else kinds[0]

    def gather(self, array: Array) -> list[Array]:
        """An array of all processes, of the same shape and dtype in each."""
        mine = torch.from_numpy(array.reshape(-1).view(np.uint8)).to(self.device)
        all_of_them = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(all_of_them, mine, group=self.group)
        return [found.cpu().numpy().view(array.dtype).reshape(array.shape) for found in all_of_them]

    def add(self, *values: float) -> list[float]:
        """The sums over the processes."""
        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(totals, group=self.group)
        return totals.tolist()


class _WithGradient(Function):
    """A value whose gradient is computed by the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, target: Tensor, value: Any, gradient: Callable[..., Array]
    ) -> Tensor:
        ctx.save_for_backward(input, target)
        ctx.set_materialize_grads(False)
        ctx.gradient = gradient
        return _tensor(value, input.dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        if grad_output is None:
            return None, None, None, None
        input, target = ctx.saved_tensors
        factor = _array(grad_output) if grad_output.ndim else grad_output.item()
        call = (_array(input), _array(target), factor)
        grad = _tensor(_on_threads(input.numel(), ctx.gradient, *call), input.dtype)
        if is_grad_enabled():
            grad = _Once.apply(grad, input, grad_output)  # type: ignore[no-untyped-call]
        return grad, None, None, None


class _Once(Function):
    """A gradient of which there are no derivatives, which would be silently 0."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, *_: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError("losses of logits that lie in several processes have no second derivatives")


def _with_gradient(input: Tensor, target: Tensor, value: Any, gradient: Callable[..., Array]) -> Tensor:
    if input.requires_grad and is_grad_enabled():
        result: Tensor = _WithGradient.apply(input, target, value, gradient)  # type: ignore[no-untyped-call]
        return result
    return _tensor(value, input.dtype)


# ---------------------------------------------------------------------------- DTensors


def of_dtensor(name: str, input: Any, target: Any, weight: Any, *options: Any) -> Any:
    """A loss of class indices of a DTensor, or None where it is PyTorch's.

    Classes in parts, of `cross_entropy`, and samples in parts, of its and `nll_loss`'s mean.
    """
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.distributed.tensor import Partial as Summed

    loss = LOSSES[name]
    if not isinstance(target, Tensor) or not isinstance(weight, Tensor | None):
        return None
    if not loss.knows(*options) or type(input) is not DTensor or input.device_mesh.ndim != 1:
        return None
    mesh, (placement,) = input.device_mesh, input.placements
    if mesh.device_type != "cpu" or type(placement) is not Shard or not input.ndim:
        return None
    if mesh.get_coordinate() is None or target.dtype != torch.int64 or input.dtype not in _FLOATS:
        return None
    if target.shape != input.shape[:1] + input.shape[2:]:
        return None
    if torch.is_autocast_enabled("cpu"):
        input, weight = (t.float() if t is not None and t.dtype in _HALF else t for t in (input, weight))
    by_class = placement.dim == min(1, input.ndim - 1)

    def local(tensor: Any, wanted: Any) -> Any:
        """What this process has of an argument that is spread as it should be."""
        if isinstance(tensor, DTensor):
            fits = tensor.device_mesh == mesh and tensor.placements == (wanted,)
            return tensor.to_local() if fits else None
        return tensor if isinstance(wanted, Replicate) else None

    labels = Replicate() if by_class else Shard(max(placement.dim - 1, 0))
    mine, own = local(target, labels), None if weight is None else local(weight, Replicate())
    if mine is None or (
        weight is not None and (own is None or own.dtype != input.dtype or own.requires_grad)
    ):
        return None
    if own is not None and own.shape != (input.shape[min(1, input.ndim - 1)],):
        return None
    group, x = mesh.get_group(), input.to_local(grad_placements=input.placements)
    if by_class:
        if name != "cross_entropy":
            return None
        named = dict(zip(loss.options, options, strict=True))
        value = cross_entropy(x, mine, own, **named, group=group)
        return DTensor.from_local(value, mesh, [Replicate()], run_check=False)
    if options[loss.options.index("reduction")] != "mean":
        return None
    value = _mean_of_samples(loss, x, mine, own, options, _Ranks(group))
    return DTensor.from_local(value, mesh, [Summed("sum")], run_check=False)


def _mean_of_samples(
    loss: Any, x: Tensor, target: Tensor, weight: Tensor | None, options: tuple[Any, ...], ranks: _Ranks
) -> Tensor:
    """The share that this process has of a mean over the samples of all."""
    own = None if weight is None else _array(weight.float() if weight.dtype in _HALF else weight)
    place = loss.options.index("reduction")

    def made(reduction: str) -> Any:
        return loss._unweighted(*options[:place], reduction, *options[place + 1 :])._with(own, None)[0]

    arrays = _array(x.detach()), _array(target)
    problem, of_mine = None, 0.0
    try:
        of_mine = made("mean")._weight_of(*arrays).over()
    except Exception as error:
        problem = error
    total, refused = ranks.add(of_mine, float(problem is not None))
    if problem or refused:
        raise problem or RuntimeError("another rank of the mesh refused its arguments")
    if 0 < total < math.inf:
        loss, given, divisor = made("mean"), {"normalizer": total}, 1.0
    else:  # of weights that are negative, say, or nan: what PyTorch has, a quotient
        loss, given, divisor = made("sum"), {}, total

    @np.errstate(divide="ignore", invalid="ignore")
    def gradient(x: Array, target: Array, factor: Any) -> Array:
        factor = np.divide(factor, divisor)
        grad: Array = loss.value_and_grad(x, target, grad_output=factor, **given)[1]
        return grad

    value = _on_threads(x.numel(), lambda: loss(*arrays, **given))
    with np.errstate(divide="ignore", invalid="ignore"):
        return _with_gradient(x, target, float(np.divide(value, divisor)), gradient)
