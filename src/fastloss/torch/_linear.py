"""Linear cross-entropy on tensors: an operator of torch.library, with its derivative.

The loop over chunks is that of `fastloss.losses.linear`; PyTorch multiplies and converts. The gradients come
with the value; the backward pass scales them, of half precision in float32, and rounds them then. Only under
"none", where each row has a factor of its own, the backward pass computes them from the start.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, is_grad_enabled

from .. import losses
from .._arguments import Array
from .._kernels import BFLOAT16
from .._runtime import threads
from ..losses.linear import GRADIENTS, Products
from ._operators import _FLOATS, _HALF, _REDUCTIONS, SOLE, _array, _is_int64, _recorded, _tensor, _way

ARGUMENTS = (
    "Tensor input, Tensor linear_weight, Tensor target, Tensor? linear_bias, Tensor? weight,"
    " int ignore_index, str reduction, float label_smoothing, int? chunk"
)
TENSORS = 5  # the first of them
CROSS_ENTROPY = torch.nn.functional.cross_entropy  # before it is patched
Three = tuple[Tensor, Tensor, Tensor]


def _view(array: Array) -> Tensor:
    """An array's memory as a tensor."""
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)


class _Products(Products):
    """Products and conversions by PyTorch."""

    def multiply(self, a: Array, b: Array, out: Array) -> None:
        torch.mm(_view(a), _view(b), out=_view(out))

    def copy(self, out: Array, array: Array) -> None:
        _view(out).copy_(_view(array))


PRODUCTS = _Products()


def _fits(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    ignore_index: Any,
    reduction: Any,
    label_smoothing: Any,
) -> bool:
    """Whether PyTorch takes these as they are, and the logits have two dimensions at most."""
    dtype, classes = input.dtype, linear_weight.shape[0] if linear_weight.ndim == 2 else 0
    if dtype not in _FLOATS or input.ndim not in (1, 2) or not classes or reduction not in _REDUCTIONS:
        return False
    if linear_weight.dtype != dtype or linear_weight.shape[1] != input.shape[-1]:
        return False
    if any(t is not None and (t.dtype != dtype or t.shape != (classes,)) for t in (linear_bias, weight)):
        return False
    if not isinstance(label_smoothing, float | int) or not 0 <= label_smoothing <= 1:
        return False
    if target.dtype == torch.int64:
        return target.shape == input.shape[:-1] and (ignore_index is None or _is_int64(ignore_index))
    return target.dtype == dtype and target.shape == (*input.shape[:-1], classes) and ignore_index is None


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int | None,
    label_smoothing: float,
    options: Any,
) -> Tensor | None:
    """The loss by fastloss, or None where it is PyTorch's."""
    tensors: list[Any] = [input, linear_weight, target, linear_bias, weight]
    if _way([t for t in tensors if t is not None]) is None:
        return None
    if not _fits(input, linear_weight, target, linear_bias, weight, ignore_index, reduction, label_smoothing):
        return None
    if is_grad_enabled() and any(t is not None and t.requires_grad for t in (target, weight)):
        return None
    chunk = None
    if options is not None:
        if type(options) is not torch.nn.modules.LinearCrossEntropyOptions:
            return None
        chunk = options.batch_chunk_size
        if chunk is not None and options.chunking_method not in (None, "auto"):
            return None  # PyTorch compares them
        chunk = chunk if chunk is None else min(chunk, 2**63 - 1)  # as an operator takes it
    dtype = input.dtype
    if torch.is_autocast_enabled("cpu") and dtype != torch.float64:
        dtype, low = torch.float32, torch.get_autocast_dtype("cpu")
        tensors = [t if t is None or t is target else t.to(low) for t in tensors]
    wrt = [t is not None and t.requires_grad and is_grad_enabled() for t in (*tensors[:2], tensors[3])]
    ignored = -100 if ignore_index is None else ignore_index
    operator = torch.ops.fastloss.linear_cross_entropy.default
    result: Tensor = operator(*tensors, ignored, reduction, label_smoothing, chunk, dtype, wrt)[0]
    return result


def _compute(
    args: tuple[Any, ...], wrt: list[bool], grad_output: Tensor | None = None, wide: bool = True
) -> tuple[Any, Three]:
    """Value and gradients of plain CPU tensors; the gradients of half precision are float32 if `wide`."""
    input, linear_weight, target, linear_bias, weight, ignore_index, reduction, label_smoothing, chunk = args
    loss: Any = losses.LinearCrossEntropyLoss(
        None if weight is None else _array(weight),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        unchecked=True,  # PyTorch looks at no target
        chunk=chunk,
    )
    arrays = [_array(input), _array(linear_weight), None if linear_bias is None else _array(linear_bias)]
    given: dict[str, Any] = {}
    for name, array, wanted in zip(GRADIENTS, arrays, wrt, strict=True):
        if wanted:
            given[name] = None
            if array is not None and array.dtype.itemsize == 2 and wide:
                given[name] = torch.empty(array.shape, dtype=torch.float32, device="cpu").numpy()
    factor = None if grad_output is None else _array(grad_output)
    if factor is not None and factor.dtype == BFLOAT16:
        factor = _array(grad_output.float())  # type: ignore[union-attr]
    operands, samples = (arrays[0], arrays[1], arrays[2]), (None, None, None, factor, None)
    with threads(torch.get_num_threads()):
        value, grads = loss._evaluate(operands, _array(target), samples, given, products=PRODUCTS)
    found = (_view(grads[name]) if name in grads else input.new_empty(0) for name in GRADIENTS)
    return value, tuple(found)  # type: ignore[return-value]


def _forward(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *args, dtype, wrt = args  # type: ignore[assignment]
    later = args[6] == "none"
    value, grads = _compute(tuple(args), [False] * 3 if later else wrt)
    return _tensor(value, dtype), *grads


def _forward_fake(*args: Any) -> tuple[Tensor, ...]:
    input, reduction, dtype, wrt = args[0], args[6], args[-2], args[-1]
    value = input.new_empty(input.shape[:-1] if reduction == "none" else (), dtype=dtype)
    kept = [wanted and reduction != "none" for wanted in wrt]
    wide = torch.float32 if input.dtype in _HALF else input.dtype
    shapes = (t.shape if k else 0 for t, k in zip((*args[:2], args[3]), kept, strict=True))
    dtypes = (wide if k else input.dtype for k in kept)
    return value, *(input.new_empty(shape, dtype=kind) for shape, kind in zip(shapes, dtypes, strict=True))


def _context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:], *inputs[:TENSORS])
    ctx.options, ctx.wrt = inputs[TENSORS:-2], inputs[-1]


def _backward(ctx: Any, grad_output: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad_output is None:
        return (None,) * len(ctx.needs_input_grad)
    saved, needed = ctx.saved_tensors, [ctx.needs_input_grad[i] for i in (0, 1, 3)]
    args = (*saved[3:], *ctx.options)
    found: list[Tensor | None]
    if is_grad_enabled() or not all(w or not n for w, n in zip(ctx.wrt, needed, strict=True)):
        found = _pytorch(grad_output, args)
    elif args[6] == "none":
        found = list(torch.ops.fastloss.linear_cross_entropy_backward.default(grad_output, *args, needed))
    else:
        dtype, found = args[0].dtype, []
        grads = list(saved[:3])
        del saved
        plain = not _recorded(grad_output)
        if plain:
            ctx.maybe_clear_saved_tensors()  # unless the graph is retained
        for wanted in needed:
            grad = grads.pop(0)
            if not wanted:
                found.append(None)
                continue
            shared = not plain or grad._use_count() > 1 or sys.getrefcount(grad) > SOLE
            found.append((grad * grad_output if shared else grad.mul_(grad_output)).to(dtype))
    by_input, by_weight, by_bias = (t if n else None for t, n in zip(found, needed, strict=True))
    return by_input, by_weight, None, by_bias, *[None] * 7


def _pytorch(grad_output: Tensor, args: tuple[Any, ...]) -> list[Tensor | None]:
    """The gradients by PyTorch's own formulas, which can be differentiated again."""
    input, linear_weight, target, bias, weight, ignore_index, reduction, label_smoothing, _ = args

    kind = grad_output.dtype

    def formula(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return CROSS_ENTROPY(
            torch.nn.functional.linear(x, w, b).to(kind),
            target if target.dtype == torch.int64 else target.to(kind),
            None if weight is None else weight.to(kind),
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )

    operands = (input, linear_weight) if bias is None else (input, linear_weight, bias)
    slopes = torch.func.vjp(formula, *operands)[1](grad_output)
    return [*slopes, None][:3]


def _rows_backward(grad_output: Tensor, *args: Any) -> Three:
    *args, wrt = args  # type: ignore[assignment]
    return _compute(tuple(args), wrt, grad_output, wide=False)[1]


def _rows_backward_fake(grad_output: Tensor, *args: Any) -> tuple[Tensor, ...]:
    tensors = zip((*args[:2], args[3]), args[-1], strict=True)
    return tuple(args[0].new_empty(t.shape if wanted else 0) for t, wanted in tensors)


def _define() -> None:
    name = "fastloss::linear_cross_entropy"
    library = torch.library
    library.define(name, f"({ARGUMENTS}, ScalarType dtype, bool[] wrt) -> (Tensor, Tensor, Tensor, Tensor)")
    library.impl(name, "cpu", _forward)
    library.register_fake(name, _forward_fake)
    library.register_autograd(name, _backward, setup_context=_context)
    name += "_backward"
    library.define(name, f"(Tensor grad_output, {ARGUMENTS}, bool[] wrt) -> (Tensor, Tensor, Tensor)")
    library.impl(name, "cpu", _rows_backward)
    library.register_fake(name, _rows_backward_fake)


_define()
