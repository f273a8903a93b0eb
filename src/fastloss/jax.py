"""Losses and array functions for JAX on the CPU, through XLA's foreign function interface.

They take the place of optax's losses and of jax.nn's functions, under `jit`, `grad`, `vmap` and whatever
else transforms programs: value and gradient come from one pass of the kernels, later derivatives are JAX's.

    cross_entropy(input, target)                       of logits, and class indices or probabilities
    binary_cross_entropy_with_logits(input, target)    of logits, and probabilities of yes
    logsumexp, softmax, log_softmax, sigmoid, logsigmoid

Design:
a) Two handlers of `_xla` compute everything; they are told what by an attribute. No batching rule is needed:
   axes that `vmap` adds in front are further samples.
b) A loss has two functions, the value, and the value with the gradient, which the derivative of either takes.
   Rules are those of `custom_jvp`, which JAX transposes for reverse mode. Where the cotangent is 1, XLA drops
   the multiplication, and the gradient is what the kernel wrote; that of float16 is float32 until then.
c) The threads are those of fastloss when a function is traced.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from . import _docs, _kernels, _xla
from ._arguments import choice, class_axes, class_axis, flag, number, one_for_each, scalar
from ._runtime import threads_for
from ._types import Axis

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "log_softmax",
    "logsigmoid",
    "logsumexp",
    "sigmoid",
    "softmax",
]


def _register() -> None:
    """Make the handlers known to XLA, in the version of its interface that the header in jaxlib gives."""
    header = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h")
    if header.is_file() and (found := re.search(r"#define XLA_FFI_API_MINOR (\d+)", header.read_text())):
        _xla.speak(int(found[1]))
    for name, address in _xla.HANDLERS.items():
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")


_register()


# ---------------------------------------------------------------------------------- calls of the handlers


def _computed(dtype: Any) -> Any:
    """The dtype that a kernel computes in."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def _kept(dtype: Any) -> Any:
    """The dtype of a gradient until cotangents have multiplied it: a mean's may be too small for float16."""
    return jnp.float32 if dtype == jnp.float16 else dtype


def _array(x: Any, name: str) -> Array:
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError  # those of JAX take other arguments
        raise kind(f"{name}: got {type(x).__name__}, wanted an array of numbers ({error})") from None


def _factor(x: Any, name: str) -> Array:
    """An array of real numbers."""
    array = _array(x, name)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise TypeError(f"{name}: got dtype {array.dtype}, wanted real numbers")
    return array


def _floating(x: Any, name: str) -> Array:
    """An array of a dtype that the kernels read; integers and bools as JAX's float."""
    array = _whole(_array(x, name))
    if array.dtype in (jnp.float32, jnp.float64, jnp.float16, jnp.bfloat16):
        return array
    if jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == jnp.bool_:
        return array.astype(jnp.result_type(float))
    raise TypeError(
        f"{name}: got dtype {array.dtype}, wanted float64, float32, float16, bfloat16 or integers"
    )


def _call(
    handler: str, op: int, operands: dict[str, Any], results: dict[str, Any], axis: int = -1, **numbers: Any
) -> list[Array]:
    """Call a handler: operands and results in the order of the bits of `_xla.GIVEN`."""
    x = operands.pop("x")
    given = [name for name in _xla.GIVEN if operands.get(name) is not None or name in results]
    options = np.array(
        [
            op,
            sum(_xla.GIVEN[name] for name in given),
            _xla.REDUCTIONS[numbers.get("reduction", "none")],
            threads_for(max(x.size, _kernels.SERIAL_ELEMENTS)),
            x.shape[axis] if x.ndim else 1,
            math.prod(x.shape[axis + 1 :]) if axis >= 0 else 1,
            numbers.get("ignore_index", 0),
            np.float64(numbers.get("label_smoothing", 0.0)).view(np.int64),
        ],
        np.int64,
    )
    arrays = [x, *(operands[name] for name in given if name in operands)]
    call = jax.ffi.ffi_call(handler, [*results.values()], vmap_method="broadcast_all")
    axes = frozenset().union(*map(_axes_of, arrays))
    return [_varied(result, axes) for result in call(*arrays, options=options)]


def _type_of(array: Array) -> Any:
    """What JAX knows of an array's type, if its version tells that."""
    return jax.typeof(array) if hasattr(jax, "typeof") else None


def _axes_of(array: Array) -> frozenset[Any]:
    """The axes of `jax.shard_map` that an array varies over."""
    kind = _type_of(array)
    axes: frozenset[Any] = getattr(getattr(kind, "manual_axis_type", kind), "varying", frozenset())
    return axes or getattr(kind, "vma", axes)


def _varied(array: Array, axes: frozenset[Any]) -> Array:
    """The same numbers, as what varies over axes: JAX does not see it of calls, and asks it of tangents."""
    missing = tuple(axes - _axes_of(array))
    if not missing or not hasattr(jax.lax, "pcast"):  # versions before it do tell
        return array
    return jax.lax.pcast(array, missing, to="varying")  # type: ignore[no-any-return]


def _whole(array: Array) -> Array:
    """The same numbers, on each device if their type says that they are in parts: a call makes no parts."""
    parted = any(getattr(getattr(_type_of(array), "sharding", None), "spec", ()))
    return jax.sharding.reshard(array, jax.sharding.PartitionSpec()) if parted else array


def _like(x: Any, *, without: int | None = None, dtype: Any = None) -> jax.ShapeDtypeStruct:
    shape = x.shape if without is None else x.shape[:without] + x.shape[without + 1 :]
    return jax.ShapeDtypeStruct(shape, dtype or x.dtype)


# -------------------------------------------------------------------------------------- array functions


def _wide(*arrays: tuple[Array]) -> Iterator[Array]:
    """Input and tangent in the dtype that a kernel computes in, as derivatives are."""
    return (array.astype(_computed(array.dtype)) for (array,) in arrays)


def _as(primals: tuple[Array], array: Array) -> Array:
    """A result, rounded once to the input's dtype."""
    return array.astype(primals[0].dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _logsumexp(x: Array, axis: int) -> Array:
    results = {"value": _like(x, without=axis, dtype=_computed(x.dtype))}
    return _call("fastloss_classes", _kernels.OPS["logsumexp"], {"x": x}, results, axis)[0]


@_logsumexp.defjvp
def _(axis: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    x, v = _wide(primals, tangents)
    return _logsumexp(*primals, axis), (_softmax(x, axis) * v).sum(axis)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _softmax(x: Array, axis: int) -> Array:
    return _call("fastloss_classes", _kernels.OPS["softmax"], {"x": x}, {"result": _like(x)}, axis)[0]


@_softmax.defjvp
def _(axis: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    x, v = _wide(primals, tangents)
    p = _softmax(x, axis)
    return _as(primals, p), _as(primals, _centred(p, v, axis))


def _centred(p: Array, v: Array, axis: int) -> Array:
    """The derivative of softmax along v: p_j (v_j - Σ p v)."""
    return p * v - p * (p * v).sum(axis, keepdims=True)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_softmax(x: Array, axis: int) -> Array:
    return _call("fastloss_classes", _kernels.OPS["log_softmax"], {"x": x}, {"result": _like(x)}, axis)[0]


@_log_softmax.defjvp
def _(axis: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    x, v = _wide(primals, tangents)
    along = v - (_softmax(x, axis) * v).sum(axis, keepdims=True)
    return _log_softmax(*primals, axis), _as(primals, along)


@jax.custom_jvp
def _sigmoid(x: Array) -> Array:
    return _call("fastloss_points", _kernels.POINT_OPS["sigmoid"], {"x": x}, {"value": _like(x)})[0]


@_sigmoid.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    x, v = _wide(primals, tangents)
    p = _sigmoid(x)
    return _as(primals, p), _as(primals, p * _sigmoid(-x) * v)


@jax.custom_jvp
def _logsigmoid(x: Array) -> Array:
    return _call("fastloss_points", _kernels.POINT_OPS["logsigmoid"], {"x": x}, {"value": _like(x)})[0]


@_logsigmoid.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    x, v = _wide(primals, tangents)
    return _logsigmoid(*primals), _as(primals, _sigmoid(-x) * v)


# ----------------------------------------------------------------------------------------------- losses


Operands = dict[str, Array]


class _CrossEntropy(NamedTuple):
    """The options of a cross-entropy, and what JAX does of it."""

    axis: int
    reduction: str
    ignore_index: int
    label_smoothing: float

    def call(self, operands: Operands, results: dict[str, Any]) -> list[Array]:
        """What is wanted of value and gradient."""
        numbers = {name: number for name, number in self._asdict().items() if name != "axis"}
        return _call("fastloss_classes", _kernels.OPS["loss"], operands, results, self.axis, **numbers)

    def hessian_times(self, x: Array, operands: Operands, v: Array) -> Array:
        """The derivative of the gradient along v: Σ c_j times that of softmax."""
        dtype = _computed(x.dtype)
        p, v = _softmax(x.astype(dtype), self.axis), v.astype(dtype)
        of_sample, weight = operands.get("sample_weight"), operands.get("weight")
        smoothing, classes = self.label_smoothing, x.shape[self.axis]
        if (labels := operands.get("labels")) is not None:
            counted = self._counted(labels).astype(dtype)
            places = jnp.clip(labels.astype(jnp.int32), 0, classes - 1)  # in int8 there may be more classes
            own = counted if weight is None else counted * weight[places]
            mean = counted if weight is None else counted * weight.mean()
            factor, divisor = (1 - smoothing) * own + smoothing * mean, own
        else:
            c = (1 - smoothing) * operands["probabilities"].astype(dtype) + smoothing / classes
            if weight is not None:
                c = jnp.moveaxis(jnp.moveaxis(c, self.axis, -1) * weight, -1, self.axis)
            factor = c.sum(self.axis)
            divisor = jnp.ones_like(factor)
        if of_sample is not None:
            factor, divisor = factor * of_sample, divisor * of_sample
        if self.reduction == "mean":
            total = divisor.sum()
            factor = factor / jnp.where(total == 0, 1, total)
        factor = jnp.expand_dims(factor, self.axis)
        return jnp.where(factor == 0, 0, factor * _centred(p, v, self.axis)).astype(_kept(x.dtype))

    def _counted(self, labels: Array) -> Array:
        """Which labels are not `ignore_index`, that JAX would cast to their dtype."""
        if labels.dtype == jnp.bool_:
            labels = labels.astype(jnp.uint8)
        limits = jnp.iinfo(labels.dtype)
        if not limits.min <= self.ignore_index <= limits.max:
            return jnp.ones(labels.shape, jnp.bool_)
        return labels != self.ignore_index


class _BCEWithLogits(NamedTuple):
    """The options of a binary cross-entropy, and what JAX does of it."""

    reduction: str
    axis: None = None  # there are no classes

    def call(self, operands: Operands, results: dict[str, Any]) -> list[Array]:
        """What is wanted of value and gradient."""
        op = _kernels.POINT_OPS["bce_with_logits" + "_pos_weight" * ("pos_weight" in operands)]
        return _call("fastloss_points", op, operands, results, reduction=self.reduction)

    def hessian_times(self, x: Array, operands: Operands, v: Array) -> Array:
        """The derivative of the gradient along v: w (π y + 1 - y) σ(x) σ(-x) v."""
        dtype = _computed(x.dtype)
        wide, y = x.astype(dtype), operands["probabilities"].astype(dtype)
        slope = _sigmoid(wide) * _sigmoid(-wide) * v.astype(dtype)
        if "pos_weight" in operands:
            slope = slope * (operands["pos_weight"] * y + (1 - y))
        if "weight" in operands:
            slope = slope * operands["weight"]
        return (slope / (max(x.size, 1) if self.reduction == "mean" else 1)).astype(_kept(x.dtype))


_Loss = _CrossEntropy | _BCEWithLogits


def _compute(loss: _Loss, x: Array, operands: Operands, with_grad: bool) -> list[Array]:
    """The value, and the gradient if it is wanted."""
    dtype = _computed(x.dtype)
    if with_grad and x.dtype != _kept(x.dtype):  # kernels write gradients in the dtype that they read
        x = x.astype(dtype)
        operands = {k: v.astype(dtype) if k == "probabilities" else v for k, v in operands.items()}
    value = _like(x, without=loss.axis, dtype=dtype)
    results = {"value": value if loss.reduction == "none" else jax.ShapeDtypeStruct((), dtype)}
    if with_grad:
        results["result"] = _like(x)
    return loss.call({"x": x, **operands}, results)


def _along(loss: _Loss, grad: Array, v: Array) -> Array:
    """The derivative of the value along v."""
    dtype = _computed(grad.dtype)
    product = grad.astype(dtype) * v.astype(dtype)
    if loss.reduction != "none":
        return product.sum()
    return product if loss.axis is None else product.sum(loss.axis)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value(loss: _Loss, x: Array, operands: Operands) -> Array:
    return _compute(loss, x, operands, False)[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value_and_grad(loss: _Loss, x: Array, operands: Operands) -> list[Array]:
    return _compute(loss, x, operands, True)


def _tangent_of_input(x: Array, tangents: tuple[Any, dict[str, Any]]) -> Array:
    """That of the input; there is no derivative by anything else."""
    for name, tangent in tangents[1].items():
        if not isinstance(tangent, SymbolicZero) and tangent.dtype != jax.dtypes.float0:
            name = "target" if name == "probabilities" else name
            remedy = f"jax.lax.stop_gradient({name}) leaves it out"
            raise TypeError(f"{name}: fastloss.jax differentiates by input alone; {remedy}")
    v: Array = tangents[0].instantiate() if isinstance(tangents[0], SymbolicZero) else tangents[0]
    return v


def _value_rule(loss: _Loss, primals: Any, tangents: Any) -> tuple[Array, Array]:
    value, grad = _value_and_grad(loss, *primals)
    return value, _along(loss, grad, _tangent_of_input(primals[0], tangents))


def _value_and_grad_rule(loss: _Loss, primals: Any, tangents: Any) -> tuple[list[Array], list[Array]]:
    value, grad = _value_and_grad(loss, *primals)
    x, operands = primals
    v = _tangent_of_input(x, tangents)
    second = _varied(loss.hessian_times(x, operands, v), _axes_of(grad))
    return [value, grad], [_along(loss, grad, v), second]


_value.defjvp(_value_rule, symbolic_zeros=True)
_value_and_grad.defjvp(_value_and_grad_rule, symbolic_zeros=True)


# ------------------------------------------------------------------------------------ the public functions


def _loss(loss: _Loss, x: Array, operands: dict[str, Array | None]) -> Array:
    given = {name: _whole(operand) for name, operand in operands.items() if operand is not None}
    return _value(loss, x, given)


def _spread(operand: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Array | None:
    """A factor, broadcast to a shape."""
    if operand is None:
        return None
    array = _factor(operand, name)
    if name == "sample_weight":
        array = one_for_each(array, shape)
    return _broadcast(array.astype(dtype), name, shape)


def _broadcast(array: Array, name: str, shape: tuple[int, ...]) -> Array:
    try:
        return jnp.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name}: got shape {array.shape}, wanted one that broadcasts to {shape}") from None


def _soft_target(target: Array, x: Array) -> Array:
    """Probabilities in a dtype that a kernel reads beside x: that of x, or the one it computes in."""
    return target if target.dtype == x.dtype else target.astype(_computed(x.dtype))


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    axis: int | None = None,
    sample_weight: ArrayLike | None = None,
) -> Array:
    """Cross-entropy from logits: -w_t log softmax(x)_t, or -Σ_j w_j q_j log softmax(x)_j of probabilities q.

    Parameters
    ----------
    input : array_like of shape (N, C) or (..., C, ...)
        Logits with C classes on `axis`; float64, float32, float16, bfloat16, integer or bool.
    target : array_like of shape (N,) or input's without `axis`, or of input's shape
        Class indices of any integer type, or class probabilities in a floating dtype.
    %(class_weight)s
    ignore_index : int, default: -100
        A label whose samples have value 0 and gradient 0 and do not count.
    %(reduction_of_labels)s
    label_smoothing : float, default: 0.0
        Share of the target that all classes have in equal parts, in [0, 1].
    axis : int, optional
        The class axis of the input; None is 1, or 0 for one dimension. Logits (batch, time, C) take -1.
    sample_weight : array_like, optional
        Factor of each sample's loss, broadcastable to the value under "none"; (N,) is one for each sample.
        The mean divides by the sum of all weights in force, with probabilities by that of sample_weight.

    Returns
    -------
    Array
        The value, in nats, float64, or float32 for other dtypes: of no dimensions, or under "none" of
        input's shape without `axis`.

    Raises
    ------
    TypeError, ValueError
        A shape, dtype or option that does not fit; a derivative by anything but `input`.
    jax.errors.JaxRuntimeError
        When the program runs: a label outside [0, C) that is not `ignore_index`.

    See Also
    --------
    fastloss.cross_entropy : The same of NumPy arrays.

    Notes
    -----
    The gradient by `input` is computed in the pass that computes the value.

    References
    ----------
    `optax.losses.softmax_cross_entropy_with_integer_labels`, `torch.nn.functional.cross_entropy`.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import fastloss.jax
    >>> logits, labels = jnp.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), jnp.array([0, 2])
    >>> value, grad = jax.jit(jax.value_and_grad(fastloss.jax.cross_entropy))(logits, labels)
    >>> print(f"{value:.5f}")
    0.16093
    >>> grad.round(3)
    Array([[-0.078,  0.057,  0.021],
           [ 0.035,  0.035, -0.071]], dtype=float32)
    """
    x, y = _floating(input, "input"), _array(target, "target")
    place = class_axis(x.shape, axis, "input")
    samples, dtype = x.shape[:place] + x.shape[place + 1 :], _computed(x.dtype)
    smoothing = scalar(_known(label_smoothing, "label_smoothing"), "label_smoothing")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing: got {label_smoothing}, wanted a number in [0, 1]")
    soft = _is_soft(x, y, place)
    loss = _CrossEntropy(
        place,
        choice(reduction, "reduction", ("mean", "sum", "none")),
        number(_known(ignore_index, "ignore_index"), "ignore_index", "an integer"),
        smoothing,
    )
    operands = {
        "labels": None if soft else _labels(y),
        "probabilities": _soft_target(y, x) if soft else None,
        "weight": _class_weight(weight, x.shape[place], dtype),
        "sample_weight": _spread(sample_weight, "sample_weight", samples, dtype),
    }
    return _loss(loss, x, operands)


def _known(option: Any, name: str) -> Any:
    """An option, which may be a number of JAX."""
    if isinstance(option, jax.core.Tracer):
        remedy = f"static_argnames={name!r} of jax.jit leaves it one"
        raise TypeError(f"{name}: got a traced array, wanted a number; {remedy}")
    return option.item() if isinstance(option, Array) and option.ndim == 0 else option


def _is_soft(x: Array, y: Array, axis: int) -> bool:
    """Whether a target holds probabilities, in the shape of x, and not class indices."""
    samples = x.shape[:axis] + x.shape[axis + 1 :]
    soft = bool(jnp.issubdtype(y.dtype, jnp.floating))
    if not soft and not jnp.issubdtype(y.dtype, jnp.integer) and y.dtype != jnp.bool_:
        raise TypeError(f"target: got dtype {y.dtype}, wanted class indices or probabilities")
    if y.shape != (x.shape if soft else samples):
        wanted = f"{x.shape} for probabilities" if soft else f"{samples} for class indices"
        raise ValueError(
            f"target: got shape {y.shape} and {y.dtype}, wanted {wanted} of input {x.shape} with axis={axis}"
            + ("; integers are class indices" if soft and y.shape == samples else "")
            + ("; axis=-1 for classes on the last axis?" if y.shape == x.shape[:-1] != samples else "")
        )
    return soft


def _labels(y: Array) -> Array:
    """Class indices in a dtype that the kernels read: in whole bytes."""
    if y.dtype == jnp.bool_ or jnp.iinfo(y.dtype).bits >= 8:
        return y
    return y.astype(jnp.int8 if jnp.issubdtype(y.dtype, jnp.signedinteger) else jnp.uint8)


def _class_weight(weight: Any, classes: int, dtype: Any) -> Array | None:
    if weight is None:
        return None
    array = _factor(weight, "weight")
    if array.shape != (classes,):
        raise ValueError(f"weight: got shape {array.shape}, wanted ({classes},), one for each class")
    return array.astype(dtype)


def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
) -> Array:
    """Binary cross-entropy from logits: -w (π y log σ(x) + (1 - y) log σ(-x)) with σ the sigmoid.

    Parameters
    ----------
    input : array_like
        Logits, array of any shape; float64, float32, float16, bfloat16, integer or bool.
    target : array_like of input's shape
        Probabilities in [0, 1], any real dtype.
    weight : array_like, optional
        Factor w, broadcastable to the input; it does not enter the mean's divisor.
    reduction : {"mean", "sum", "none"}, default: "mean"
        "mean" divides by the number of elements; "none" gives one value for each element.
    pos_weight : array_like, optional
        Factor π of the positive part, broadcastable to the input.

    Returns
    -------
    Array
        The value, in nats, float64, or float32 for other dtypes: of no dimensions, or under "none" of
        input's shape.

    Raises
    ------
    TypeError, ValueError
        A shape, dtype or option that does not fit; a derivative by anything but `input`.

    See Also
    --------
    fastloss.binary_cross_entropy_with_logits : The same of NumPy arrays.

    Notes
    -----
    The gradient by `input` is computed in the pass that computes the value.

    References
    ----------
    `optax.losses.sigmoid_binary_cross_entropy`, `torch.nn.functional.binary_cross_entropy_with_logits`.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import fastloss.jax
    >>> loss = fastloss.jax.binary_cross_entropy_with_logits
    >>> jax.grad(loss)(jnp.array([0.0, 0.0]), jnp.array([0.0, 1.0]))
    Array([ 0.25, -0.25], dtype=float32)
    """
    x, y = _floating(input, "input"), _factor(target, "target")
    if y.shape != x.shape:
        raise ValueError(f"target: got shape {y.shape}, wanted {x.shape}")
    dtype = _computed(x.dtype)
    operands = {
        "probabilities": _soft_target(y, x),
        "weight": _spread(weight, "weight", x.shape, dtype),
        "pos_weight": _spread(pos_weight, "pos_weight", x.shape, dtype),
    }
    return _loss(_BCEWithLogits(choice(reduction, "reduction", ("mean", "sum", "none"))), x, operands)


def _array_function(
    function: Any, x: Any, axis: Any, where: Any, nothing: float, keepdims: Any = None
) -> Array:
    """A function along one axis or several; `keepdims` is None if it does not reduce.

    `nothing` is its result for what does not count, even where the row holds NaN.
    """
    array = _floating(x, "x")
    axes, reduces = class_axes(array.shape, axis, "x"), keepdims is not None
    keepdims = reduces and flag(keepdims, "keepdims")
    counted = None if where is None else _counted(where, array.shape)
    if counted is not None:
        some = counted.any(axes, keepdims=True)  # of a row of nothing the derivative would be NaN
        array = jnp.where(some, jnp.where(counted, array, -jnp.inf), 0)
    result: Array = _along_axes(function, array, axes, reduces)
    if reduces and (keepdims or counted is not None):
        result = jnp.expand_dims(result, axes)
    if counted is not None:
        result = jnp.where(some if reduces else counted, result, nothing)
        result = result.squeeze(axes) if reduces and not keepdims else result
    return result


def _counted(where: Any, shape: tuple[int, ...]) -> Array:
    """`where` as bools of a shape."""
    counted = _whole(_array(where, "where"))
    if counted.dtype != jnp.bool_:
        raise TypeError(f"where: got dtype {counted.dtype}, wanted bool, True for what counts")
    return _broadcast(counted, "where", shape)


def _along_axes(function: Any, array: Array, axes: tuple[int, ...], reduces: bool) -> Any:
    """A function along one axis, or several as one, in the order of `_arguments.OneAxis`."""
    shape = array.shape
    others = [i for i in range(array.ndim) if i not in axes]
    classes = math.prod(shape[i] for i in axes)
    if classes == 0:
        of_samples = tuple(shape[i] for i in others)
        return jnp.full(of_samples, -jnp.inf, _computed(array.dtype)) if reduces else array
    if len(axes) == 1:
        return function(array, axes[0])
    neighbours = bool(axes) and axes[-1] - axes[0] == len(axes) - 1
    place = axes[0] if neighbours else len(others)
    order = np.array([*others[:place], *axes, *others[place:]], int)
    sizes = [shape[i] for i in others]
    result = function(array.transpose(order).reshape(*sizes[:place], classes, *sizes[place:]), place)
    return result if reduces else result.reshape([shape[i] for i in order]).transpose(np.argsort(order))


def logsumexp(
    x: ArrayLike, axis: Axis = -1, *, keepdims: bool = False, where: ArrayLike | None = None
) -> Array:
    """Logarithm of the sum of exponentials along an axis: log Σ_j exp(x_j).

    Parameters
    ----------
    %(jax.x)s
    %(keepdims)s
    %(where)s

    Returns
    -------
    Array
        Array of x's shape without `axis`, or with length 1 there, in nats: float64 or, for other dtypes,
        float32. No classes give -inf.

    Raises
    ------
    %(raises_of_axis)s

    See Also
    --------
    fastloss.logsumexp : The same of NumPy arrays.

    References
    ----------
    `jax.nn.logsumexp`.

    Examples
    --------
    >>> import fastloss.jax
    >>> fastloss.jax.logsumexp([1000.0, 1000.0])
    Array(1000.6932, dtype=float32)
    """
    return _array_function(_logsumexp, x, axis, where, -math.inf, keepdims)


def softmax(x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None) -> Array:
    """Softmax along an axis: exp(x_j) / Σ_k exp(x_k).

    Parameters
    ----------
    %(jax.x)s
    %(where_of_softmax)s

    Returns
    -------
    Array
        Array of x's shape and floating dtype.

    Raises
    ------
    %(raises_of_axis)s

    See Also
    --------
    fastloss.softmax : The same of NumPy arrays.

    References
    ----------
    `jax.nn.softmax`.

    Examples
    --------
    >>> import fastloss.jax
    >>> fastloss.jax.softmax([0.0, 0.0, -float("inf")])
    Array([0.5, 0.5, 0. ], dtype=float32)
    """
    return _array_function(_softmax, x, axis, where, 0.0)


def log_softmax(x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None) -> Array:
    """Logarithm of softmax along an axis: x_j - log Σ_k exp(x_k), in nats.

    Parameters
    ----------
    %(jax.x)s
    %(where)s

    Returns
    -------
    Array
        Array of x's shape and floating dtype.

    Raises
    ------
    %(raises_of_axis)s

    See Also
    --------
    fastloss.log_softmax : The same of NumPy arrays.

    References
    ----------
    `jax.nn.log_softmax`.

    Examples
    --------
    >>> import fastloss.jax
    >>> fastloss.jax.log_softmax([0.0, -1000.0])
    Array([    0., -1000.], dtype=float32)
    """
    return _array_function(_log_softmax, x, axis, where, -math.inf)


def sigmoid(x: ArrayLike) -> Array:
    """Logistic function of each element: 1 / (1 + exp(-x)).

    Parameters
    ----------
    %(jax.x_of_elements)s

    Returns
    -------
    Array
        Array of x's shape and floating dtype.

    Raises
    ------
    %(jax.raises_of_elements)s

    See Also
    --------
    fastloss.sigmoid : The same of NumPy arrays.

    References
    ----------
    `jax.nn.sigmoid`.

    Examples
    --------
    >>> import fastloss.jax
    >>> fastloss.jax.sigmoid([-1000.0, 0.0, 1000.0])
    Array([0. , 0.5, 1. ], dtype=float32)
    """
    result: Array = _sigmoid(_floating(x, "x"))
    return result


def logsigmoid(x: ArrayLike) -> Array:
    """Logarithm of the logistic function of each element: min(x, 0) - log1p(exp(-|x|)), in nats.

    Parameters
    ----------
    %(jax.x_of_elements)s

    Returns
    -------
    Array
        Array of x's shape and floating dtype.

    Raises
    ------
    %(jax.raises_of_elements)s

    See Also
    --------
    fastloss.logsigmoid : The same of NumPy arrays.

    References
    ----------
    `jax.nn.log_sigmoid`.

    Examples
    --------
    >>> import fastloss.jax
    >>> fastloss.jax.logsigmoid([-1000.0, 1000.0])
    Array([-1000.,     0.], dtype=float32)
    """
    result: Array = _logsigmoid(_floating(x, "x"))
    return result


_docs.fill(globals())
