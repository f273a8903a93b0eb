"""From what the caller passed to what the kernels take: checked, aligned, native arrays of one dtype.

a) An aligned, native array of floats is read in place if it is C-contiguous, by rows that lie apart, or with
   the class axis elsewhere in memory (`memory_axes`, `outer_step`); anything else is copied once.
b) Half precision is computed in float32, integers and bools in float64. The kernels read and write the large
   arrays of half precision as they are (`stored_dtype`); weights are converted.
c) Every error names the argument, what came and what was wanted, and comes before anything is written.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import _kernels, _remedies
from ._kernels import BFLOAT16

A = TypeVar("A")  # an array, of NumPy or not
Array = NDArray[Any]
Shape = tuple[int, ...]
Axes = tuple[tuple[int, ...], int]  # axes in the order of memory, and where among them the classes are

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
MOST_ELEMENTS = sys.maxsize // 8
WANTED = "float64, float32, float16, bfloat16, integer or bool"


def as_array(value: Any, name: str) -> Array:
    """Any array-like as an ndarray, without a copy where it is possible."""
    if isinstance(value, np.ndarray):
        if type(value) is np.ndarray:
            return as_double(value)
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name}: got a masked array; {_remedies.for_masked(name)}")
        return as_double(value.view(np.ndarray))
    if value is None:
        raise TypeError(f"{name}: got None, wanted an array")
    if type(value) is list or type(value) is tuple:
        array: Array | None = _kernels.module.array_of_list(value)
        if array is not None:
            return array
    elif problem := _remedies.for_kind(value):
        raise TypeError(f"{name}: {problem}")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}{_remedies.for_lists(error)}") from None
    except (BufferError, RuntimeError, TypeError) as error:  # a tensor with grad, or elsewhere
        if str(getattr(value, "dtype", "")) == "torch.bfloat16" and value.is_cpu and not value.requires_grad:
            return _of_bfloat16(value)
        said = str(error).removesuffix(".")
        raise TypeError(f"{name}: {said}{_remedies.for_tensor(value)}") from None
    if array.dtype.kind == "O":
        if problem := _remedies.for_categories(value):
            raise TypeError(f"{name}: {problem}")
        array = _numbers_of_pandas(value, array)
    if array.ndim == 0 and array.dtype.kind in "OS" and (problem := _remedies.for_iterable(value)):
        raise TypeError(f"{name}: {problem}")
    return as_double(array)


def as_double(array: Array) -> Array:
    """Long double of 8 bytes as float64; any other array as it is.

    NumPy has both where the C compiler has no wider type, as on Windows. They compare equal, but the kernels
    know the number of one alone.
    """
    return array.view(array.dtype.str) if array.dtype.char == "g" and array.itemsize == 8 else array


def _numbers_of_pandas(value: Any, array: Array) -> Array:
    """The numbers of columns whose dtypes differ or are nullable, with NaN for NA, or the array itself."""
    if type(value).__module__.partition(".")[0] != "pandas":
        return array
    pandas = sys.modules["pandas"]
    dtypes = list(value.dtypes) if isinstance(value, pandas.DataFrame) else [value.dtype]
    kinds = [getattr(dtype, "numpy_dtype", dtype) for dtype in dtypes]
    if not all(isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in kinds):
        return array
    common = np.result_type(*kinds)
    if not pandas.isna(array).any():
        return array.astype(common)
    return np.asarray(value.to_numpy(common if common.kind == "f" else FLOAT64, na_value=math.nan))


def _of_bfloat16(tensor: Any) -> Array:
    """PyTorch's tensor as an array: of ml_dtypes, if that is there, or of BFLOAT16, its bits."""
    bits: Array = tensor.resolve_neg().view(sys.modules["torch"].int16).numpy()
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return bits.view(BFLOAT16)
    return bits.view(bfloat16)


def compute_dtype(array: Array, name: str) -> np.dtype[Any]:
    """float32 or float64: what the kernels compute in for this array."""
    if array.size > MOST_ELEMENTS:  # a broadcast array can have any size
        raise MemoryError(f"{name}: got shape {array.shape}, whose copy is larger than an address space")
    dtype = array.dtype
    if dtype in (FLOAT32, FLOAT64):
        return dtype
    dtype = dtype if dtype.isnative else dtype.newbyteorder("=")
    if dtype == FLOAT64 or dtype.kind in "biu":
        return FLOAT64
    if dtype in (FLOAT32, BFLOAT16) or dtype == np.float16 or dtype.name == "bfloat16":
        return FLOAT32
    raise TypeError(f"{name}: got dtype {dtype}, wanted {WANTED}{_remedies.for_dtype(array, name)}")


def stored_dtype(array: Array, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype in which the kernels that compute in `dtype` read `array`, and write a result like it."""
    own = array.dtype
    half = own.itemsize == 2 and own.kind not in "iu" and dtype == FLOAT32
    return own.newbyteorder("=") if half else dtype


def widened(array: Array) -> Array:
    """The numbers of BFLOAT16 as float32; any other array as it is."""
    if array.dtype != BFLOAT16:
        return array
    bits = np.ascontiguousarray(array).view(np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32).reshape(array.shape)


def convert(array: Array, dtype: np.dtype[Any], order: Literal["C", "K"] = "K") -> Array:
    """The array in a dtype, without a warning where a number overflows; itself where that is its own."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype, order)


def native(array: Array, dtype: np.dtype[Any]) -> Array:
    """C-contiguous, aligned and native in `dtype`; the array itself where it is that already."""
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.aligned and isinstance(array, np.ndarray):
        return array  # not so a scalar, into which indexing makes an array of no dimensions
    return np.require(convert(array, dtype, "C"), requirements=("C", "A"))


def real_operand(value: Any, name: str, dtype: np.dtype[Any]) -> Array:
    """An argument beside the input, in the computing dtype."""
    array = as_array(value, name)
    compute_dtype(array, name)
    return convert(widened(array), dtype)


def target_operand(
    array: Array, dtype: np.dtype[Any], axes: Axes | None = None, name: str = "target"
) -> Array:
    """A target of input's size as the kernels read it: float32 and half precision stay."""
    compute_dtype(array, name)
    kind = FLOAT32 if array.dtype == FLOAT32 else stored_dtype(array, dtype)
    if array.dtype != kind and array.dtype.newbyteorder("=") != kind:
        array = real_operand(array, name, dtype)
    return native(array if axes is None else moved(array, axes), kind)


def class_axis(shape: Shape, axis: int | None, name: str) -> int:
    """The class axis as a non-negative number; None is PyTorch's: 1, or 0 in one dimension."""
    axis = _place(shape, min(1, len(shape) - 1) if axis is None else axis, name, "an integer")
    if shape[axis] == 0:
        raise ValueError(f"{name}: got shape {shape}, which has no classes on axis {axis}")
    return axis


def class_axes(shape: Shape, axis: Any, name: str) -> Shape:
    """The class axes as non-negative numbers, in order; None is all of them.

    As in NumPy, 0 and -1 are of an array of no dimensions too, which has one class.
    """
    if axis is None:
        return tuple(range(len(shape)))
    wanted = "an integer, a tuple of integers or None"
    axes = [_place(shape, i, name, wanted, 1) for i in (axis if isinstance(axis, tuple) else (axis,))]
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis: got {axis}, which has an axis twice")
    return tuple(sorted(axes)) if shape else ()


def _place(shape: Shape, axis: Any, name: str, wanted: str, least: int = 0) -> int:
    place, ndim = integer(axis, "axis", wanted), max(len(shape), least)
    if ndim == 0:
        raise ValueError(f"{name}: got a 0-dimensional array, wanted a class axis")
    if not -ndim <= place < ndim:
        raise ValueError(f"axis: got {axis}, wanted one in [{-ndim}, {ndim}) for {name} of shape {shape}")
    return place % ndim


class OneAxis:
    """Several axes of an array as one, in place where they are neighbours in memory."""

    def __init__(self, array: Array, axes: Shape) -> None:
        self.shape, count = array.shape, len(axes)
        places = range(array.ndim)
        self.order = sorted(places, key=lambda i: -abs(array.strides[i]))
        self.place = min(map(self.order.index, axes), default=array.ndim)
        together = {*self.order[self.place : self.place + count]} == {*axes}
        if not together or not array.transpose(self.order).flags.c_contiguous:
            neighbours = count > 0 and axes[-1] - axes[0] == count - 1
            self.place = axes[0] if neighbours else array.ndim - count
            others = [i for i in places if i not in axes]
            self.order = [*others[: self.place], *axes, *others[self.place :]]
        self.end = self.place + count

    def of(self, array: Array) -> Array:
        """An array of this shape with the one axis, at `place`."""
        shape = [self.shape[i] for i in self.order]
        classes = math.prod(shape[self.place : self.end])
        together = (*shape[: self.place], classes, *shape[self.end :])
        return np.reshape(array.transpose(self.order), together)

    def back(self, result: Array, shape: Shape, reduces: bool) -> Array:
        """What was computed of it, with the axes of `shape`; without the classes if that `reduces`."""
        order = [*self.order[: self.place], *self.order[self.end :]] if reduces else self.order
        result = np.reshape(result, [self.shape[i] for i in order])
        return np.reshape(result.transpose(np.argsort(order)), shape)


def memory_axes(array: Array, axis: int, *, any_order: bool = False) -> Axes:
    """The order in which the array is read if its class axis is elsewhere in memory; otherwise as it is.

    It is read where it stands if that can be; a slice that has to be copied keeps the order, and its bits.
    The samples keep theirs, unless they may be in `any_order` around classes that are neighbours.
    """
    if array.flags.c_contiguous or outer_step(array, axis) is not None:
        return (), axis
    by_step, samples = memory_order(array), [a for a in range(array.ndim) if a != axis]
    long = [a for a in by_step if array.shape[a] > 1]
    spread = all(array.strides[a] for a in long)
    before = (samples.index(a) + 1 for a in by_step[: by_step.index(axis)] if array.shape[a] > 1)
    place = max(before, default=0)
    orders = [(*samples[:place], axis, *samples[place:])]
    if any_order:
        orders.append((*(a for a in by_step if a != axis), axis))
    for order in orders:
        place = order.index(axis)
        elsewhere = math.prod(array.shape[a] for a in order[place:]) != math.prod(array.shape[axis:])
        there = spread and [a for a in order if array.shape[a] > 1] == long
        if elsewhere and (there or outer_step(moved(array, (order, place)), place) is not None):
            return order, place
    return (), axis


def element_axes(array: Array) -> Axes:
    """The same of an array without classes; one that has to be copied is copied in that order, too."""
    if array.flags.c_contiguous:
        return (), 0
    order = memory_order(array)
    return (order if order != tuple(range(array.ndim)) else ()), 0


def memory_order(array: Array) -> tuple[int, ...]:
    """The axes from the one with the largest steps in memory to that with the smallest.

    First those of one element, and those along which the array is broadcast.
    """
    steps = [step if n > 1 else 0 for n, step in zip(array.shape, array.strides, strict=True)]
    return tuple(sorted(range(array.ndim), key=lambda a: (steps[a] != 0, -abs(steps[a]))))


def moved(array: Array, axes: Axes) -> Array:
    """The array with its axes in the order of memory."""
    return array.transpose(axes[0]) if axes[0] else array


def outer_step(array: Array, axis: int) -> int | None:
    """Elements from one outer index, all axes before `axis`, to the next, if what is inside is contiguous.

    None if it is not. Outer indices may lie apart, or on top of each other: a slice of columns, a broadcast
    row.
    """
    if array.size == 0 or not array.flags.aligned or not array[(0,) * axis].flags.c_contiguous:
        return None
    step, extent = math.prod(array.shape[axis:]) * array.itemsize, None
    for n, stride in reversed([*zip(array.shape, array.strides, strict=True)][:axis]):
        if n > 1:
            if extent is None:
                step = stride
            elif stride != extent:
                return None
            extent = stride * n
    elements, rest = divmod(step, array.itemsize)
    return elements if rest == 0 else None


def with_class_axis(array: Array, axes: Axes, dtype: np.dtype[Any]) -> tuple[Array, int, int, int, int]:
    """(array, outer, classes, inner, stride between outer indices) for the kernels."""
    array, axis = moved(array, axes), axes[1]
    shape = array.shape
    outer, classes, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    if array.dtype == dtype and not array.flags.c_contiguous:
        step = outer_step(array, axis)
        if step is not None:
            return array, outer, classes, inner, step
    return native(array, dtype), outer, classes, inner, classes * inner


def broadcast(value: Any, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """An argument broadcast to `shape`, a view where it can be."""
    return _broadcast(real_operand(value, name, dtype), name, shape)


def one_for_each(array: A, shape: Shape) -> A:
    """With fewer dimensions than the value, and the lengths of its first ones, it is one for each sample."""
    own: Shape = array.shape  # type: ignore[attr-defined]
    missing = len(shape) - len(own)
    if own and missing > 0 and all(n in (1, m) for n, m in zip(own, shape, strict=False)):
        return array.reshape(own + (1,) * missing)  # type: ignore[attr-defined, no-any-return]
    return array


def sample_operand(value: Any, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Weights of samples, broadcast to the shape of the value."""
    name = "sample_weight"
    return _broadcast(one_for_each(real_operand(value, name, dtype), shape), name, shape)


def mask_operand(mask: Array | None, shape: Shape, name: str = "mask", *, whole: bool = True) -> Array | None:
    """A mask broadcast to `shape`: contiguous if `whole`, otherwise a view where it can be; True counts."""
    if mask is None:
        return None
    if mask.dtype != np.bool_:
        raise TypeError(f"{name}: got dtype {mask.dtype}, wanted bool, True for what counts")
    mask = _broadcast(one_for_each(mask, shape) if name == "mask" else mask, name, shape)
    return native(mask, mask.dtype) if whole else mask


def _broadcast(array: Array, name: str, shape: Shape) -> Array:
    if array.shape == shape:
        return array
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name}: got shape {array.shape}, wanted one that broadcasts to {shape}") from None


def element_operand(array: Array) -> tuple[Array, int, int, int, bool]:
    """(array, period, rows, row step, whether the position in the period counts) of a broadcast array.

    Element i of the broadcast array is array[(i // period % rows) * step + (i % period if counts else 0)].
    """
    shape = array.shape
    moving = [i for i, (n, step) in enumerate(zip(shape, array.strides, strict=True)) if n > 1 and step]
    if not moving:
        return native(array[(slice(0, 1),) * array.ndim], array.dtype), 1, 1, 0, False
    first, last = moving[0], moving[-1]
    if len(moving) == last - first + 1 or all(shape[i] == 1 or i in moving for i in range(first, last)):
        # Varies along neighbouring axes: repeated along those before them, constant along those after.
        inside = tuple(slice(None) if first <= i <= last else slice(0, 1) for i in range(len(shape)))
        window = native(array[inside], array.dtype)
        after = math.prod(shape[last + 1 :])
        if after == 1:
            return window, window.size, 1, 0, True
        return window, after, window.size, 1, False
    return native(array, array.dtype), array.size, 1, 0, True


def scalar(value: Any, name: str) -> float:
    """A number, also as an array of no dimensions."""
    if value is None:
        raise TypeError(f"{name}: got None, wanted a number")
    array = as_array(value, name)
    if array.shape != ():
        raise ValueError(f"{name}: got shape {array.shape}, wanted a number")
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name}: got {value!r}, wanted a number")
    return float(array.astype(np.float64))  # float() alone reads a byte-swapped bfloat16 wrongly


def at_least_0(value: Any, name: str) -> float:
    """The same of an option that is neither negative nor infinite."""
    result = scalar(value, name)
    if not 0 <= result < math.inf:
        raise ValueError(f"{name}: got {value}, wanted a finite number of at least 0")
    return result


def integer(value: Any, name: str, wanted: str) -> int:
    """An integer of any size; `wanted` says what else there may be."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: got {type(value).__name__}, wanted {wanted}")
    return int(value)


def number(value: Any, name: str, wanted: str) -> int:
    """The same of 64 bits."""
    whole = integer(value, name, wanted)
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{name}: got {value}, wanted a 64-bit integer")
    return whole


def positive(value: Any, name: str, wanted: str, most: int = 2**63 - 1) -> int:
    """The same from 1 on."""
    count = number(value, name, wanted)
    if not 1 <= count <= most:
        raise ValueError(f"{name}: got {value}, wanted {wanted}")
    return count


def choice(value: str, name: str, choices: tuple[str, ...]) -> str:
    """One of several words."""
    if isinstance(value, str) and value in choices:
        return value
    *most, last = map(repr, choices)
    wanted = f"wanted {', '.join(most)} or {last}"
    if isinstance(value, str):
        raise ValueError(f"{name}: got {value!r}, {wanted}")
    raise TypeError(f"{name}: got {type(value).__name__}, {wanted}")


def choices_of(value: Any, name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """One of several words, or any of them in a sequence."""
    if not isinstance(value, Iterable):
        wanted = ", ".join(map(repr, choices))
        raise TypeError(f"{name}: got {type(value).__name__}, wanted one of {wanted}, or a sequence of them")
    return tuple(choice(word, name, choices) for word in ((value,) if isinstance(value, str) else value))


def unchanging(array: Array) -> Array:
    """A read-only array of these numbers; one that is read-only and owns its memory is taken as it is.

    By `setflags`: for `flags.writeable` NumPy makes its name anew, and Python's type cache keeps them.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray) and not owner.flags.writeable:
        owner = owner.base
    if owner is not None:  # an array that can be written, or memory of something else
        array = array.copy()
        array.setflags(write=False)
    return array


def flag(value: bool, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: got {type(value).__name__}, wanted True or False")
    return bool(value)


class Output:
    """An array to fill: the caller's, or a new one; through a temporary where the kernels cannot write it.

    `dtype` is what is computed, `also` what the caller's may be besides, and the kernels can write.
    """

    def __init__(
        self,
        given: Any,
        name: str,
        shape: Shape,
        dtype: np.dtype[Any],
        *,
        also: Sequence[np.dtype[Any]] = (),
        apart_from: Sequence[tuple[str, Array | None]] = (),
        in_place: Sequence[str] = (),
        zeros: bool = False,
        axes: Axes = ((), 0),
    ) -> None:
        self.back: Axes = tuple(sorted(range(len(axes[0])), key=axes[0].__getitem__)), 0
        if given is None:
            make = np.zeros if zeros else np.empty
            self.result: Array = moved(make([shape[a] for a in axes[0]] or shape, dtype), self.back)
        else:
            self.result = self._check(given, name, shape, (dtype, *also))
            check_apart(given, name, apart_from, in_place)
        view = as_double(moved(self.result, axes))
        direct = view.dtype in (dtype, *also) and view.flags.c_contiguous and view.flags.aligned
        self.buffer: Array = view if direct else np.empty(view.shape, dtype)
        self.direct, self.given = direct, given is not None

    @staticmethod
    def _check(given: Any, name: str, shape: Shape, kinds: Sequence[np.dtype[Any]]) -> Array:
        if not isinstance(given, np.ndarray):
            raise TypeError(f"{name}: got {type(given).__name__}, wanted a NumPy array")
        if given.shape != shape:
            raise ValueError(f"{name}: got shape {given.shape}, wanted {shape}")
        if given.dtype not in kinds and (given.dtype.isnative or given.dtype.newbyteorder("=") not in kinds):
            raise TypeError(f"{name}: got dtype {given.dtype}, wanted {' or '.join(map(str, kinds))}")
        if not given.flags.writeable:
            raise ValueError(f"{name}: got a read-only array, wanted a writeable one")
        if not given.flags.c_contiguous and _overlaps_itself(given):
            raise ValueError(f"{name}: got an array whose elements share memory")
        return given

    def fill(self, values: Any) -> None:
        """Store what was computed beside the kernels, without a warning where a number overflows."""
        with np.errstate(all="ignore"):
            np.copyto(self.buffer, values, casting="unsafe")

    def finish(self) -> Array:
        """Copy the temporary, if there is one, and return the filled array."""
        if not self.direct:
            with np.errstate(all="ignore"):
                np.copyto(self.result, moved(self.buffer, self.back), casting="unsafe")
        return self.result


def check_apart(
    given: Array, name: str, apart_from: Sequence[tuple[str, Array | None]], in_place: Sequence[str]
) -> None:
    """Refuse to write where others are read, but for those whose place may be taken."""
    for other_name, other in apart_from:
        if other is None or not _overlap(given, other):
            continue
        if other_name not in in_place or not _same(given, other):
            raise ValueError(f"{name}: overlaps {other_name} in memory")


def _overlap(a: Array, b: Array) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=10**6))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements may share memory: an axis is not longer than the step of the next larger one."""
    extent = array.itemsize
    for step, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if step < extent:
            return array.size > 0
        extent = step * (n - 1) + extent
    return False


def _same(a: Array, b: Array) -> bool:
    """Whether two arrays are the same memory in the same layout."""
    return a is b or (
        _kernels.module.address_of(a) == _kernels.module.address_of(b)
        and a.shape == b.shape
        and all(n <= 1 or s == t for n, s, t in zip(a.shape, a.strides, b.strides, strict=True))
        and a.dtype == b.dtype
    )
