"""The losses and array functions on tensors: eager, as operators of torch.library, and their derivatives.

Design:
a) Each `Loss` and `ArrayFunction` decides who computes. Plain CPU tensors run on fastloss; None says that the
   call is PyTorch's: another device or layout, a subclass, what PyTorch refuses, broadcasts or promotes.
b) Two ways lead to fastloss. In eager code an autograd.Function costs a fraction of an operator of
   torch.library; where something traces or intercepts the call (torch.compile, torch.export, a dispatch
   mode) it has to be an operator. What TorchScript and ONNX record has to run without fastloss: PyTorch's.
c) The gradient comes with the value, if it will be needed. The backward pass multiplies it by grad_output,
   and hands over its memory where nothing else can see it. In half precision, where a second rounding or a
   mean's divisor would cost digits, the backward pass computes it, grad_output included, and rounds it once.
d) Second derivatives, and in eager code values that are NaN, are PyTorch's own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, is_grad_enabled
from torch._C import _are_functorch_transforms_active as transforms
from torch._C import _is_torch_function_mode_enabled as function_modes
from torch._C import _is_tracing as tracing
from torch._C import _len_torch_dispatch_stack as dispatch_modes
from torch._C._functorch import is_legacy_batchedtensor as batched
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import Function, forward_ad
from torch.compiler import is_compiling
from torch.fx.experimental.symbolic_shapes import guard_or_true
from torch.onnx import is_in_onnx_export

from .. import _checking, _kernels, arrays, losses
from .._arguments import FLOAT32, Array
from .._kernels import BFLOAT16
from .._runtime import threads, threads_for

PLAIN = frozenset({Tensor, torch.nn.Parameter})
TRACED = PLAIN | {FakeTensor, FunctionalTensor}
_HALF = frozenset({torch.bfloat16, torch.float16})
_FLOATS = _HALF | {torch.float32, torch.float64}
_REDUCTIONS = ("mean", "sum", "none")
_LARGEST = torch.finfo(torch.float32).max
_SMALL = _kernels.SERIAL_ELEMENTS
_REFUSED = (IndexError, RuntimeError, TypeError, ValueError)


def _transformed() -> bool:
    """Whether a transform or mode is active that knows PyTorch's own functions."""
    return transforms() or function_modes() or forward_ad._current_level >= 0


def _recorded(grad_output: Tensor) -> bool:
    """Whether something sees a backward pass that has to see operations on tensors, all of them."""
    seen = is_compiling() or transforms() or tracing() or dispatch_modes() > 0
    return seen or forward_ad._current_level >= 0 or batched(grad_output)


def _observed(grad_output: Tensor) -> bool:
    """The same, or a tensor that is to see them itself."""
    return type(grad_output) not in PLAIN or _recorded(grad_output)


def _sole() -> int:
    """What `sys.getrefcount` says of what one local name alone refers to: 2, and 1 since Python 3.14."""
    alone = object()
    return sys.getrefcount(alone)


SOLE = _sole()


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all()) if tensor.ndim else math.isfinite(tensor.item())


def _holds(truth: Any) -> bool:
    """A fact about lengths; one that only the data will tell is taken to hold, and asserted when it runs."""
    if not is_compiling():
        return bool(truth)
    found = guard_or_true(truth)
    if found:
        torch._check(truth)  # type: ignore[no-untyped-call]
    return bool(found)


def _same(shape: torch.Size, other: torch.Size) -> bool:
    return len(shape) == len(other) and all(_holds(n == m) for n, m in zip(shape, other, strict=True))


def _way(tensors: Sequence[Any]) -> bool | None:
    """True for the eager way, False for the operator, None for PyTorch's own function."""
    compiling = is_compiling()
    if _transformed() or (not compiling and tracing()):
        return None
    eager = not (compiling or dispatch_modes())
    if not eager and is_in_onnx_export():
        return None
    kinds = PLAIN if eager else TRACED
    for tensor in tensors:
        if type(tensor) not in kinds or not tensor.is_cpu or tensor.is_nested:
            return None
        if tensor.layout is not torch.strided:
            return None
    return eager


def _on_threads(size: int, call: Callable[..., Any], *args: Any) -> Any:
    """Call on PyTorch's number of threads; a small call has one anyway."""
    if size < _kernels.SERIAL_ELEMENTS:
        return call(*args)
    with threads(torch.get_num_threads()):
        return call(*args)


# ---------------------------------------------------------------------------- tensors and arrays


_NUMBERS = {
    **{
        getattr(torch, name): np.dtype(name).num
        for name in ("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8")
    },
    torch.bfloat16: 0,
}


def _array(tensor: Tensor) -> Array:
    """The tensor's memory as an array. `Tensor.numpy` would forbid to resize or free it ever after."""
    tensor = tensor.data.resolve_neg()
    if tensor._is_zerotensor():  # which has no memory
        tensor = tensor.clone()
    number = _NUMBERS.get(tensor.dtype)
    if number is None or not tensor.is_cpu:
        array: Array = tensor.numpy()  # or its error
        return array
    address, shape, strides = tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
    array = _kernels.module.array_at(address, shape, number, strides, tensor)
    return array


def _lent(tensor: Tensor) -> Array:
    """The same for as long as the tensor lives, which is faster."""
    number = _NUMBERS.get(tensor.dtype)
    if number is None or not tensor.is_cpu or tensor.is_neg():
        return _array(tensor)
    address = tensor.data_ptr()
    if not address:  # empty, or zeros that PyTorch does not store
        return _array(tensor)
    strides = None if tensor.is_contiguous() else tensor.stride()
    array: Array = _kernels.module.array_at(address, tuple(tensor.shape), number, strides)
    return array


def _to_odd(value: float) -> float:
    """The number, or of the two of float32 around it the one whose last bit is 1.

    PyTorch rounds to half precision by way of float32; what is odd there is on no tie, and so rounded once.
    """
    if not math.isfinite(value):
        return value
    place = max(math.frexp(value)[1] - 24, -149)  # of float32's last bit
    steps = math.ldexp(abs(value), -place)
    whole = int(steps)
    return math.copysign(math.ldexp(whole | (whole != steps), place), value)


def _tensor(result: Any, dtype: torch.dtype) -> Tensor:
    """A number as a tensor, or an array's memory as one; values in float32 are rounded to half precision."""
    if type(result) is float:
        if dtype is not torch.float32:
            return torch.scalar_tensor(_to_odd(result) if dtype in _HALF else result, dtype=dtype)
        if -_LARGEST < result < _LARGEST:  # in two thirds of the time
            return torch.from_numpy(np.array(result, FLOAT32))
        return torch.scalar_tensor(result, dtype=torch.float64).float()  # which makes it infinite
    array = np.asarray(result)
    if not array.size:  # whose steps NumPy leaves at 0
        return torch.empty(array.shape, dtype=dtype)
    if dtype is torch.bfloat16 and array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(dtype)
    tensor = torch.from_numpy(array)
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def _laid_as(result: Tensor, input: Tensor) -> Tensor:
    """A result in the memory format of `torch.empty_like`, which operators promise."""
    if result.is_contiguous() and input.is_contiguous():
        return result
    like = torch.empty_like(input, device="meta")
    return result if result.stride() == like.stride() else torch.empty_like(input).copy_(result)


# ---------------------------------------------------------------------------- losses


class Loss:
    """One loss: its arguments, who computes it, value and gradient, and its operators.

    Arguments are those of the operator: input, target, the weights, the options.
    """

    autocasts = True  # to float32, as PyTorch's function does
    class_axis = 1  # which the value under "none" lacks

    def __init__(self, name: str, made: Callable[..., Any], weights: str = "", **options: str) -> None:
        self.name = name
        self.own: Callable[..., Tensor] = getattr(torch.nn.functional, name)
        self.weights = weights.split()
        self.options = [*options]
        self.tensors = 2 + len(self.weights)
        if "unchecked" in signature(made).parameters and name != "binary_cross_entropy":  # as PyTorch
            made = partial(made, unchecked=True)
        self._made = made
        self._unweighted = lru_cache(lambda *values: made(**dict(zip(options, values, strict=True))))
        self._plain = lru_cache(typed=True)(self._plain_of)
        arguments = ["Tensor input", "Tensor target", *(f"Tensor? {name}" for name in self.weights)]
        self._define(", ".join([*arguments, *(f"{kind} {name}" for name, kind in options.items())]))

    def pytorch(self, input: Tensor, target: Tensor, *rest: Any) -> Tensor:
        """PyTorch's own function."""
        named = dict(zip([*self.weights, *self.options], rest, strict=True))
        if self.name == "kl_div" and named["reduction"] == "mean":  # without the warning, given once before
            return torch.kl_div(input, target, 1, log_target=named["log_target"])
        return self.own(input, target, **named)

    def formula(self, *args: Any) -> Tensor:
        """The loss in operations of PyTorch, to be differentiated."""
        return self.pytorch(*args)

    def knows(self, *options: Any) -> bool:
        """Whether these options are of the types and values that PyTorch takes."""
        raise AssertionError

    def suits(self, target: torch.dtype, input: torch.dtype, *options: Any) -> bool:
        """Whether PyTorch takes a target of this dtype."""
        return target == input

    def fits(self, input: Tensor, target: Tensor, weights: Sequence[Tensor], *options: Any) -> bool:
        """Whether PyTorch takes these as they are, without broadcasting or promoting the input."""
        raise AssertionError

    def value_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of the value under "none"."""
        return shape

    def __call__(self, *args: Any) -> Tensor | None:
        """The loss by fastloss, or None where it is PyTorch's."""
        input, target = args[:2]
        if not is_compiling():
            found = self._small(args)
            if found is not None:
                return found
        weights = [weight for weight in args[2 : self.tensors] if weight is not None]
        eager = _way((input, target, *weights))
        if eager is None:
            return None
        with_grad = False
        if is_grad_enabled():
            if target.requires_grad or any(weight.requires_grad for weight in weights):
                return None
            with_grad = input.requires_grad
        if self.autocasts and torch.is_autocast_enabled("cpu"):
            args = tuple(a.float() if isinstance(a, Tensor) and a.dtype in _HALF else a for a in args)
            input, target = args[:2]
            weights = [weight for weight in args[2 : self.tensors] if weight is not None]
        if not self.fits(input, target, weights, *args[self.tensors :]):
            return None
        if not eager:
            result: Tensor = self.operator(*args, with_grad)[0]
            return result
        try:
            value, grad = self.compute(args, with_grad and self._at_once(input))
        except _REFUSED:
            return None
        if self._doubtful(value):
            return None
        if not with_grad:
            return _tensor(value, input.dtype)
        return _record(input, (self, args[self.tensors :], value, grad, args[1 : self.tensors]))

    def _plain_of(self, input: torch.dtype, target: torch.dtype, *options: Any) -> tuple[Any, ...] | None:
        """What the kernels take for the loss; None if PyTorch does not take these."""
        if input not in _FLOATS or not self.knows(*options) or not self.suits(target, input, *options):
            return None
        plain: tuple[Any, ...] | None = self._unweighted(*options)._plain
        return plain

    def _small(self, args: tuple[Any, ...]) -> Tensor | None:
        """The loss of few elements, where every microsecond counts; None if that will not do.

        The kernels check the shapes.
        """
        if tracing() or dispatch_modes() or _transformed() or _checking.enabled():
            return None
        input, target, options = args[0], args[1], args[self.tensors :]
        if type(input) not in PLAIN or type(target) not in PLAIN:
            return None
        dtype, with_grad = input.dtype, is_grad_enabled()
        if dtype in _HALF and self.autocasts and torch.is_autocast_enabled("cpu"):
            return None
        own: list[Array | None] = [None, None]
        try:
            plain = self._plain(dtype, target.dtype, *options)
            x, y = _lent(input), _lent(target)
            if plain is None or x.size >= _SMALL or (with_grad and target.requires_grad):
                return None
            for i in range(2, self.tensors):
                weight = args[i]
                if weight is not None:
                    if type(weight) not in PLAIN or weight.dtype is not dtype:
                        return None
                    if with_grad and weight.requires_grad:
                        return None
                    own[i - 2] = _lent(weight)
        except _REFUSED:  # by tensors that have no strides, too
            return None
        with_grad = with_grad and input.requires_grad
        arrays = with_grad or options[self.options.index("reduction")] == "none"
        if arrays and not input.is_contiguous() and self.value_shape(input.shape) == input.shape:
            return None  # the kernels' results would be in C order
        call = (*own, None, None, None, None, None, None, with_grad, None, None, threads_for)
        result = _kernels.module.plain_loss(plain, x, y, *call)
        if result is None:
            return None
        value, grad = result if with_grad else (result, None)
        if self._doubtful(value):
            return None
        if not with_grad:
            return _tensor(value, dtype)
        return _record(input, (self, options, value, grad, args[1 : self.tensors]))

    def compute(
        self, args: Sequence[Any], with_grad: bool, grad_output: Tensor | None = None
    ) -> tuple[Any, Array | None]:
        """Value and gradient of plain CPU tensors, as a number or array and as an array."""
        input, target = _lent(args[0]), _lent(args[1])
        loss = self._unweighted(*args[self.tensors :])
        wide = [w.float() if w is not None and w.dtype in _HALF else w for w in args[2 : self.tensors]]
        own = (*(None if w is None else _lent(w) for w in wide), None, None)[:2]
        factor = None
        if grad_output is not None and (grad_output.ndim or grad_output.item() != 1):
            factor = _lent(grad_output) if grad_output.ndim else grad_output.item()
        call = (input, target, own, None, None, None, factor, None, None, with_grad)
        result: Any = _on_threads(input.size, loss._evaluated, *call)
        return result if with_grad else (result, None)

    def _at_once(self, input: Tensor) -> bool:
        """Whether the gradient comes with the value; where it is small also that for a grad_output of 1."""
        return input.dtype not in _HALF or input.numel() < _kernels.SERIAL_ELEMENTS

    def slope(self, grad_output: Tensor, grad: Tensor, args: Sequence[Any]) -> Tensor:
        """The gradient for one grad_output, from `grad` unless that was left for now."""
        if args[0].dtype not in _HALF:
            return self.scaled(grad, grad_output)
        return _tensor(self.compute(args, True, grad_output)[1], args[0].dtype)

    def scaled(self, grad: Tensor, grad_output: Tensor, in_place: bool = False) -> Tensor:
        """The gradient for one grad_output."""
        factor = grad_output
        if factor.ndim and factor.ndim < grad.ndim:  # one for each sample
            factor = factor.unsqueeze(self.class_axis)
        return grad.mul_(factor) if in_place else grad * factor

    def _doubtful(self, value: Any) -> bool:
        """Whether a NaN is there, which PyTorch refuses as a probability, or has in the gradient too."""
        if isinstance(value, float):
            return value != value
        return self.name == "binary_cross_entropy" and bool(np.isnan(value).any())

    # -- the operators

    def _define(self, schema: str) -> None:
        library, forward, backward = (
            torch.library,
            f"fastloss::{self.name}",
            f"fastloss::{self.name}_backward",
        )
        library.define(forward, f"({schema}, bool with_grad) -> (Tensor, Tensor)")
        library.impl(forward, "cpu", self._forward)
        library.register_fake(forward, self._forward_fake)
        library.register_autograd(forward, self._backward, setup_context=self._forward_context)
        library.define(backward, f"(Tensor grad_output, Tensor grad, {schema}) -> Tensor")
        library.impl(backward, "cpu", self._backward_slope)
        library.register_fake(backward, lambda grad_output, grad, input, *_: torch.empty_like(input))
        library.register_autograd(backward, self._second, setup_context=self._second_context)
        self.operator = getattr(torch.ops.fastloss, self.name).default
        self.backward_operator = getattr(torch.ops.fastloss, f"{self.name}_backward").default

    def _forward(self, *args: Any) -> tuple[Tensor, Tensor]:
        args, with_grad = args[:-1], args[-1]
        input = args[0]
        try:
            value, grad = self.compute(args, with_grad and input.dtype not in _HALF)
        except _REFUSED:
            self.pytorch(*args)  # raises PyTorch's error
            raise
        if self._doubtful(value):
            self.pytorch(*args)  # may raise
        value = _tensor(value, input.dtype)
        value = _laid_as(value, input) if value.ndim == input.ndim else value.contiguous()
        return value, input.new_empty(0) if grad is None else _laid_as(torch.from_numpy(grad), input)

    def _backward_slope(self, grad_output: Tensor, grad: Tensor, *args: Any) -> Tensor:
        return _laid_as(self.slope(grad_output, grad, args), args[0])

    def _forward_fake(self, *args: Any) -> tuple[Tensor, Tensor]:
        input, with_grad = args[0], args[-1]
        none = args[self.tensors + self.options.index("reduction")] == "none"
        shape = self.value_shape(input.shape) if none else ()
        value = torch.empty_like(input) if len(shape) == input.ndim else input.new_empty(shape)
        kept = with_grad and input.dtype not in _HALF
        return value, torch.empty_like(input) if kept else input.new_empty(0)

    def _forward_context(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1], *inputs[: self.tensors])
        ctx.options = inputs[self.tensors : -1]
        ctx.with_grad = inputs[-1]
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    def _backward(self, ctx: Any, grad_output: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad_output is None:
            return (None,) * len(ctx.needs_input_grad)
        grad, *args = ctx.saved_tensors
        args += ctx.options
        if not ctx.with_grad:  # recorded without, as by an export of a model that was not to be trained
            slope = self._gradient(grad_output, *args)
        elif is_grad_enabled() or args[0].dtype in _HALF:
            slope = self.backward_operator(grad_output, grad, *args)
        else:
            slope = self.scaled(grad, grad_output)
        return slope, *[None] * len(args)

    def _gradient(self, grad_output: Tensor, input: Tensor, *rest: Any) -> Tensor:
        """The gradient by PyTorch's own formulas, which can be differentiated again."""
        slope: Tensor = torch.func.vjp(lambda x: self.formula(x, *rest), input)[1](grad_output)[0]
        return slope

    def _second_context(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], *inputs[2 : 2 + self.tensors])
        ctx.options = inputs[2 + self.tensors :]

    def _second(self, ctx: Any, grad_grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_output, input, *rest = ctx.saved_tensors
        rest += ctx.options
        slopes = torch.func.vjp(lambda g, x: self._gradient(g, x, *rest), grad_output, input)[1](grad_grad)
        return slopes[0], None, slopes[1], *[None] * len(rest)


class _ClassLoss(Loss):
    """Losses whose input has a class axis."""

    def knows(self, ignore_index: Any, reduction: Any, label_smoothing: Any = 0.0) -> bool:
        if not _is_int64(ignore_index) or not isinstance(label_smoothing, float | int):
            return False
        return reduction in _REDUCTIONS and 0 <= label_smoothing <= 1

    def suits(self, target: torch.dtype, input: torch.dtype, *options: Any) -> bool:
        probabilities = target == input and self.name == "cross_entropy" and options[0] < 0
        return target == torch.int64 or probabilities

    def fits(self, input: Tensor, target: Tensor, weights: Sequence[Tensor], *options: Any) -> bool:
        shape, dtype = input.shape, input.dtype
        axis = min(1, len(shape) - 1)
        if dtype not in _FLOATS or axis < 0 or not _holds(shape[axis] != 0) or not self.knows(*options):
            return False
        for weight in weights:
            if weight.dtype != dtype or weight.shape != shape[axis : axis + 1]:
                return False
        samples = shape[:axis] + shape[axis + 1 :]
        wanted = samples if target.dtype == torch.int64 else shape
        return self.suits(target.dtype, dtype, *options) and _same(target.shape, wanted)

    def value_shape(self, shape: torch.Size) -> torch.Size:
        return shape[:-1][:1] + shape[2:]

    def compute(
        self, args: Sequence[Any], with_grad: bool, grad_output: Tensor | None = None
    ) -> tuple[Any, Array | None]:
        """Values are contiguous, as PyTorch's."""
        value, grad = super().compute(args, with_grad, grad_output)
        return np.asarray(value, order="C") if isinstance(value, np.ndarray) else value, grad

    def scaled(self, grad: Tensor, grad_output: Tensor, in_place: bool = False) -> Tensor:
        """What does not count has gradient 0, whatever arrives."""
        if not _observed(grad_output) and _is_finite(grad_output):
            return super().scaled(grad, grad_output, in_place)
        return torch.where(grad == 0, grad, super().scaled(grad, grad_output))


class _PointwiseLoss(Loss):
    """Losses of one element of the input and one of the target."""

    def knows(self, reduction: Any, log_target: Any = False) -> bool:
        known = reduction in _REDUCTIONS or (reduction == "batchmean" and self.name == "kl_div")
        return known and type(log_target) is bool

    def fits(self, input: Tensor, target: Tensor, weights: Sequence[Tensor], *options: Any) -> bool:
        shape, dtype = input.shape, input.dtype
        if dtype not in _FLOATS or not self.suits(target.dtype, dtype) or not _same(target.shape, shape):
            return False
        for weight in weights:
            if weight.dtype != dtype or not _broadcasts(weight.shape, shape):
                return False
        return self.knows(*options)

    def compute(
        self, args: Sequence[Any], with_grad: bool, grad_output: Tensor | None = None
    ) -> tuple[Any, Array | None]:
        """Of tensors with their axes in any order in memory, such as channels-last, where they stand."""
        input = args[0]
        order = None if input.is_contiguous() else _memory_order(input)
        if order is None or self.value_shape(input.shape) != input.shape:
            return super().compute(args, with_grad, grad_output)
        if order[0] != 0 and "batchmean" in args[self.tensors :]:  # of the first axis
            return super().compute(args, with_grad, grad_output)

        def turned(tensor: Any) -> Any:
            return tensor.expand(input.shape).permute(order) if isinstance(tensor, Tensor) else tensor

        if grad_output is not None and grad_output.ndim:
            grad_output = turned(grad_output)
        value, grad = super().compute([turned(arg) for arg in args], with_grad, grad_output)
        back = np.argsort(order)
        value = value.transpose(back) if isinstance(value, np.ndarray) else value
        return value, None if grad is None else grad.transpose(back)


def _memory_order(tensor: Tensor) -> list[int] | None:
    """The order of axes in which a tensor is contiguous, if there is one."""
    steps = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda axis: -steps[axis])
    return order if tensor.permute(order).is_contiguous() else None


def _is_int64(value: Any) -> bool:
    """Whether it is an integer that an operator takes."""
    return type(value) is int and -(2**63) <= value < 2**63


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    """Whether an array broadcasts to a shape without changing that."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(n in (1, m) for n, m in pairs)


class _SoftMarginLoss(_PointwiseLoss):
    """softplus(-y x)."""

    def formula(self, input: Tensor, target: Tensor, reduction: str) -> Tensor:
        """Without the overflow of PyTorch's."""
        values = -torch.nn.functional.logsigmoid(input * target)
        return values if reduction == "none" else getattr(values, reduction)()


class _PoissonNLLLoss(_PointwiseLoss):
    """exp(x) - y x, or x - y log(x + eps)."""

    def knows(self, log_input: Any, full: Any, eps: Any, reduction: Any) -> bool:  # type: ignore[override]
        return type(log_input) is type(full) is bool and type(eps) is float and super().knows(reduction)


class _MultilabelSoftMarginLoss(_PointwiseLoss):
    """The mean over the classes, on the last axis, of binary cross-entropy."""

    autocasts = False  # made of functions that do not
    class_axis = -1

    def fits(self, input: Tensor, *args: Any) -> bool:
        return input.ndim > 0 and input.shape[-1] > 0 and super().fits(input, *args)

    def value_shape(self, shape: torch.Size) -> torch.Size:
        return shape[:-1]


class _Recorded(Function):
    """Attaches a value, and its gradient where that exists already, to the input's graph."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, evaluated: tuple[Loss, Any, Any, Any, tuple[Any, ...]]) -> Tensor:
        loss, options, value, grad, others = evaluated
        ctx.call = loss, options
        saved = input.new_empty(0) if grad is None else _tensor(grad, input.dtype)
        ctx.save_for_backward(saved, input, *others)
        ctx.set_materialize_grads(False)
        return _tensor(value, input.dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> tuple[Tensor | None, None]:
        if grad_output is None:
            return None, None
        loss, options = ctx.call
        if is_grad_enabled():
            return loss.backward_operator(grad_output, *ctx.saved_tensors, *options), None
        recorded = _observed(grad_output)
        one = not recorded and not grad_output.ndim and grad_output.item() == 1
        rest: list[Tensor] = []
        try:
            grad, *rest = ctx.saved_tensors  # once: a checkpoint gives them no second time
        except RuntimeError:  # the input was overwritten since, and may not be needed; or all has been freed
            raw = ctx._raw_saved_tensors[0]
            if raw.unpack_hook is not None:  # whose error it is, and what it packed is no gradient
                raise
            grad = raw.data
        if not (one and grad.numel()):
            if grad_output.dtype in _HALF:
                args = *(rest or ctx.saved_tensors[1:]), *options  # or the error
                if forward_ad._current_level >= 0 or type(grad_output) not in TRACED:
                    one_for_all = torch.ones((), dtype=grad_output.dtype)
                    return loss.scaled(loss.slope(one_for_all, grad, args), grad_output), None
                if recorded:
                    return loss._gradient(grad_output, *args), None
                return loss.slope(grad_output, grad, args), None
            if recorded:
                return loss.scaled(grad, grad_output), None
        ctx.maybe_clear_saved_tensors()  # unless the graph is retained
        if grad._use_count() > 1 or sys.getrefcount(grad) > SOLE:
            return loss.scaled(grad, grad_output), None
        return grad if one else loss.scaled(grad, grad_output, in_place=True), None


#: What `_Recorded.apply` comes to outside of functorch's transforms, where `_way` has made sure to be.
_record: Callable[..., Tensor] = super(Function, _Recorded).apply


_INDEXED = {"ignore_index": "int", "reduction": "str"}
_BCE_WEIGHTS = "weight pos_weight"
LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        _ClassLoss("cross_entropy", losses.CrossEntropyLoss, "weight", **_INDEXED, label_smoothing="float"),
        _ClassLoss("nll_loss", losses.NLLLoss, "weight", **_INDEXED),
        _PointwiseLoss(
            "binary_cross_entropy_with_logits", losses.BCEWithLogitsLoss, _BCE_WEIGHTS, reduction="str"
        ),
        _PointwiseLoss("binary_cross_entropy", losses.BCELoss, "weight", reduction="str"),
        _PointwiseLoss("kl_div", losses.KLDivLoss, reduction="str", log_target="bool"),
        _PointwiseLoss("mse_loss", losses.MSELoss, reduction="str"),
        _SoftMarginLoss("soft_margin_loss", losses.SoftMarginLoss, reduction="str"),
        _PoissonNLLLoss(
            "poisson_nll_loss",
            losses.PoissonNLLLoss,
            log_input="bool",
            full="bool",
            eps="float",
            reduction="str",
        ),
        _MultilabelSoftMarginLoss(
            "multilabel_soft_margin_loss", losses.MultiLabelSoftMarginLoss, "weight", reduction="str"
        ),
    )
}


# ---------------------------------------------------------------------------- array functions

_PIECE = 2**18


class ArrayFunction:
    """One array function of each element: who computes it, its operator, and its derivative.

    The derivative starts from the result where that is as good as the input (`saves_result`), which it is not
    in half precision; `fused` is a way in one pass for that. It is `softmax_vjp` or `log_softmax_vjp`, or
    made of PyTorch's operators: always where something sees them.
    """

    schema = ""
    saves_result = False

    def __init__(
        self,
        name: str,
        own: Callable[..., Tensor],
        gradient: Callable[..., Tensor],
        fused: Callable[..., Tensor] | None = None,
    ) -> None:
        self.name = name
        self.own = own
        self.gradient = gradient
        self.fused = fused
        self._made = getattr(arrays, name)
        self._vjp: Any = getattr(arrays, f"{name}_vjp", None)
        torch.library.define(f"fastloss::{name}", f"(Tensor input{self.schema}) -> Tensor")
        torch.library.impl(f"fastloss::{name}", "cpu", self.compute)
        torch.library.register_fake(f"fastloss::{name}", self._fake)
        torch.library.register_autograd(f"fastloss::{name}", self.backward, setup_context=self.setup_context)
        self.operator = getattr(torch.ops.fastloss, name).default

    def fits(self, input: Tensor, *options: Any) -> bool:
        """Whether the axes are there, and hold something."""
        return True

    def axes(self, *options: Any) -> Sequence[int]:
        """Over which axes the function runs."""
        return ()

    def __call__(self, input: Tensor, *options: Any, dtype: Any = None) -> Tensor | None:
        """The function by fastloss, or None where it is PyTorch's; the arguments are the operator's."""
        eager = _way((input,))
        if eager is None:
            return None
        if dtype is not None:
            if not isinstance(dtype, torch.dtype):
                return None
            input = input.to(dtype)
        if input.dtype not in _FLOATS or not self.fits(input, *options):
            return None
        if not eager:
            result: Tensor = self.operator(input, *options)
            return result
        try:
            if input.requires_grad and is_grad_enabled():
                return _record_array(input, self, options)
            return self.compute(input, *options)
        except _REFUSED:
            return None

    def compute(self, input: Tensor, *options: Any) -> Tensor:
        """The function of a plain CPU tensor, in its memory format."""
        if input.is_contiguous():
            return _tensor(_on_threads(input.numel(), self._made, _lent(input), *options), input.dtype)
        result = torch.empty_like(input)
        call = partial(self._made, out=_lent(result))
        _on_threads(input.numel(), call, _lent(input), *options)
        return result

    def _fake(self, input: Tensor, *options: Any) -> Tensor:
        return torch.empty_like(input)

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save what the gradient needs."""
        result = self.saves_result and output.dtype not in _HALF
        ctx.save_for_backward(output if result else inputs[0])
        ctx.set_materialize_grads(False)
        ctx.options = inputs[1:]

    def backward(self, ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradient with respect to the operator's arguments."""
        if grad is None:
            return None, *[None] * len(ctx.options)
        return self.slope(grad, *ctx.saved_tensors, *ctx.options), *[None] * len(ctx.options)

    def slope(self, grad: Tensor, saved: Tensor, *options: Any) -> Tensor:
        """The gradient with respect to the input."""
        half = saved.dtype in _HALF
        recorded = is_grad_enabled() or _recorded(grad)
        if self.saves_result and not half:
            if recorded or _way((grad, saved)) is None:
                return self.gradient(grad, saved, *options)
            call = self._vjp
            if grad.stride() != saved.stride():  # in its place, then
                grad = torch.empty_like(saved).copy_(grad)
                call = partial(call, out=_array(grad))
            arguments = _lent(saved), _lent(grad), *options
            return _tensor(_on_threads(saved.numel(), call, *arguments), saved.dtype)
        if recorded:
            return self._from_input(self.own, grad, saved, *options).to(saved.dtype)
        if half and self.fused is not None:
            return self.fused(grad, saved, *options)
        if saved.numel() < _kernels.SERIAL_ELEMENTS:
            return self._from_input(self.compute, grad, saved, *options).to(saved.dtype)
        result = torch.empty_like(saved)
        self._fill(result, grad, saved, *options)
        return result

    def _from_input(
        self, function: Callable[..., Tensor], grad: Tensor, input: Tensor, *options: Any
    ) -> Tensor:
        """The gradient from what is exact, the input; that of half precision in float32."""
        if input.dtype in _HALF:
            grad, input = grad.float(), input.float()
        saved = function(input, *options) if self.saves_result else input
        return self.gradient(grad, saved, *options)

    def _fill(self, out: Tensor, grad: Tensor, input: Tensor, *options: Any) -> None:
        """The same, rounded once, in pieces of whole samples that stay in the caches.

        All in PyTorch: the threads of two OpenMP runtimes would take turns at every operation.
        """
        whole = {axis % input.ndim for axis in self.axes(*options)}
        axis = next((a for a, n in enumerate(input.shape) if n > 1 and a not in whole), None)
        if axis is None or input.numel() <= _PIECE:
            out.copy_(self._from_input(self.own, grad, input, *options))
            return
        step = max(1, input.shape[axis] * _PIECE // input.numel())
        for parts in zip(*(torch.split(t, step, axis) for t in (out, grad, input)), strict=True):
            self._fill(*parts, *options)


class _AlongAxis(ArrayFunction):
    """Functions of all entries along an axis."""

    schema = ", int dim"
    saves_result = True

    def fits(self, input: Tensor, dim: Any) -> bool:
        return type(dim) is int and -input.ndim <= dim < input.ndim and _holds(input.shape[dim] > 0)

    def axes(self, dim: int) -> Sequence[int]:
        return (dim,)


class _LogSumExp(ArrayFunction):
    """The one that reduces, over one axis or several."""

    schema = ", int[1] dim, bool keepdim"

    def fits(self, input: Tensor, dims: Any, keepdim: Any) -> bool:
        ndim, shape = input.ndim, input.shape
        for dim in dims:
            if type(dim) is not int or not -ndim <= dim < ndim or shape[dim] == 0:
                return False
        return type(keepdim) is bool and 0 < len(dims) == len({dim % ndim for dim in dims})

    def axes(self, dims: Sequence[int], keepdim: bool) -> Sequence[int]:
        return dims

    def compute(self, input: Tensor, dims: Sequence[int], keepdim: bool) -> Tensor:
        joined, axis = _joined(input, dims)
        found = _on_threads(input.numel(), self._made, _lent(joined), axis)
        result = _tensor(found, input.dtype).contiguous()
        return _kept(result, input, dims) if keepdim else result

    def _fake(self, input: Tensor, dims: Sequence[int], keepdim: bool) -> Tensor:
        reduced = {dim % input.ndim for dim in dims}
        result = input.new_empty([n for axis, n in enumerate(input.shape) if axis not in reduced])
        return _kept(result, input, dims) if keepdim else result

    def slope(self, grad: Tensor, saved: Tensor, dims: Sequence[int], keepdim: bool) -> Tensor:
        return super().slope(grad if keepdim else _kept(grad, saved, dims), saved, dims, keepdim)


def _kept(result: Tensor, input: Tensor, dims: Sequence[int]) -> Tensor:
    """The result with the axes it lacks, of length 1."""
    if len(dims) == 1:
        return result.unsqueeze(dims[0])
    for dim in sorted(dim % input.ndim for dim in dims):
        result = result.unsqueeze(dim)
    return result


def _joined(input: Tensor, dims: Sequence[int]) -> tuple[Tensor, int]:
    """The tensor with some axes made one, and where that is."""
    if len(dims) == 1:
        return input, dims[0]
    dims = sorted(dim % input.ndim for dim in dims)
    first, last = dims[0], dims[0] + len(dims) - 1
    return input.movedim(dims, [*range(first, last + 1)]).flatten(first, last), first


def _softmax_gradient(grad: Tensor, y: Tensor, dim: int) -> Tensor:
    return torch._softmax_backward_data(grad, y, dim, y.dtype)


def _log_softmax_gradient(grad: Tensor, y: Tensor, dim: int) -> Tensor:
    return torch._log_softmax_backward_data(grad, y, dim, y.dtype)


def _log_softmax_fused(grad: Tensor, x: Tensor, dim: int) -> Tensor:
    """g - p Σ g is minus the gradient of cross-entropy with the target g."""
    loss = losses.CrossEntropyLoss(reduction="sum", axis=dim, unchecked=True)
    call = partial(loss.value_and_grad, grad_output=-1.0)
    return _tensor(_on_threads(x.numel(), call, _lent(x), _lent(grad))[1], x.dtype)


def _logsumexp_gradient(grad: Tensor, x: Tensor, dims: Sequence[int], _: bool) -> Tensor:
    joined, axis = _joined(x, dims)
    p = torch.softmax(joined, axis)
    if len(dims) > 1:
        dims = sorted(dim % x.ndim for dim in dims)
        p = torch.unflatten(p, axis, [x.shape[dim] for dim in dims])
        p = torch.movedim(p, [*range(axis, axis + len(dims))], dims)
    return grad * p


def _sigmoid_gradient(grad: Tensor, x: Tensor) -> Tensor:
    return grad * (torch.sigmoid(x) * torch.sigmoid(-x))  # 1 - sigmoid(x) would cancel


def _logsigmoid_gradient(grad: Tensor, x: Tensor) -> Tensor:
    return grad * torch.sigmoid(-x)


class _RecordedArray(Function):
    """An array function in eager code."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, function: ArrayFunction, options: tuple[Any, ...]) -> Tensor:
        output = function.compute(input, *options)
        ctx.function = function
        function.setup_context(ctx, (input, *options), output)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return ctx.function.backward(ctx, grad)[0], None, None


_record_array: Callable[..., Tensor] = super(Function, _RecordedArray).apply

ARRAY_FUNCTIONS = {
    function.name: function
    for function in (
        _AlongAxis("softmax", torch.softmax, _softmax_gradient),
        _AlongAxis("log_softmax", torch.log_softmax, _log_softmax_gradient, _log_softmax_fused),
        _LogSumExp("logsumexp", torch.logsumexp, _logsumexp_gradient),
        ArrayFunction("sigmoid", torch.sigmoid, _sigmoid_gradient),
        ArrayFunction("logsigmoid", torch.nn.functional.logsigmoid, _logsigmoid_gradient),
    )
}
