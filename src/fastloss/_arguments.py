"""From what the caller passed to what the kernels take: checked, aligned, native arrays of one dtype.

a) A C-contiguous, aligned, native array of floats is used in place; anything else is copied once.
b) Half precision is computed in float32, integers and bools in float64. The kernels read and write the large
   arrays of half precision as they are (`stored_dtype`); weights are converted.
c) Every error names the argument, what came and what was wanted, and comes before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
"""bfloat16 for who has no NumPy dtype of that name, as PyTorch: its bits."""
WANTED = "float64, float32, float16, bfloat16, integer or bool"


def as_array(value: Any, name: str) -> Array:
    """Any array-like as an ndarray, without a copy where it is possible."""
    if isinstance(value, np.ndarray):
        if type(value) is np.ndarray:
            return value
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name}: got a masked array, whose mask would be lost; use sample_weight")
        return value.view(np.ndarray)
    if value is None:
        raise TypeError(f"{name}: got None, wanted an array")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{name}: {error}") from error
    except (RuntimeError, TypeError) as error:  # a tensor that requires grad, or of a dtype NumPy lacks
        raise TypeError(f"{name}: {error}") from error


def compute_dtype(array: Array, name: str) -> np.dtype[Any]:
    """float32 or float64: what the kernels compute in for this array."""
    dtype = array.dtype.newbyteorder("=")
    if dtype == FLOAT64 or dtype.kind in "biu":
        return FLOAT64
    if dtype == FLOAT32 or dtype == np.float16 or dtype.name == "bfloat16" or dtype == BFLOAT16:
        return FLOAT32
    raise TypeError(f"{name}: got dtype {dtype}, wanted {WANTED}")


def stored_dtype(array: Array, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype in which the kernels that compute in `dtype` read `array`, and write a result like it."""
    own = array.dtype.newbyteorder("=")
    return own if own.itemsize == 2 and own.kind not in "iu" and dtype == FLOAT32 else dtype


def widened(array: Array) -> Array:
    """The numbers of BFLOAT16 as float32."""
    bits = np.ascontiguousarray(array).view(np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32).reshape(array.shape)


def native(array: Array, dtype: np.dtype[Any]) -> Array:
    """C-contiguous, aligned and native in `dtype`; the array itself where it is that already."""
    return np.require(array, dtype, ("C", "A"))


def real_operand(value: Any, name: str, dtype: np.dtype[Any]) -> Array:
    """An argument beside the input, in the computing dtype."""
    array = as_array(value, name)
    compute_dtype(array, name)
    if array.dtype == BFLOAT16:
        array = widened(array)
    return array if array.dtype == dtype else array.astype(dtype)


def target_operand(array: Array, dtype: np.dtype[Any]) -> Array:
    """A target of input's size as the kernels read it: half precision stays where they compute in float32."""
    compute_dtype(array, "target")
    kind = stored_dtype(array, dtype)
    return native(
        array if array.dtype.newbyteorder("=") == kind else real_operand(array, "target", dtype), kind
    )


def class_axis(shape: Shape, axis: int | None, name: str) -> int:
    """The class axis as a non-negative number; None is PyTorch's: 1, or 0 in one dimension."""
    ndim = len(shape)
    if axis is None:
        axis = min(1, ndim - 1)
    elif isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise TypeError(f"axis: got {type(axis).__name__}, wanted an integer")
    if ndim == 0:
        raise ValueError(f"{name}: got a 0-dimensional array, wanted a class axis")
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis: got {axis}, wanted one in [{-ndim}, {ndim}) for {name} of shape {shape}")
    axis = int(axis) % ndim
    if shape[axis] == 0:
        raise ValueError(f"{name}: got shape {shape}, which has no classes on axis {axis}")
    return axis


def with_class_axis(array: Array, axis: int, dtype: np.dtype[Any]) -> tuple[Array, int, int, int, int]:
    """(array, outer, classes, inner, stride between outer indices) for the kernels."""
    shape = array.shape
    outer, classes, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    block = classes * inner
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array, outer, classes, inner, block
    if array.dtype == dtype and array.flags.aligned and array.size > 0:
        # Outer indices may lie apart, or on top of each other: a slice of columns, a broadcast row.
        array = array.reshape(outer, classes, inner)
        step, rest = divmod(array.strides[0], array.itemsize)
        if rest == 0 and array[0].flags.c_contiguous:
            return array, outer, classes, inner, step
    return native(array, dtype), outer, classes, inner, block


def broadcast(value: Any, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """An argument broadcast to `shape`, a view where it can be."""
    array = real_operand(value, name, dtype)
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
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name}: got {value!r}, wanted a number")
    if array.shape != ():
        raise ValueError(f"{name}: got shape {array.shape}, wanted a number")
    return float(array)


class Output:
    """An array to fill: the caller's, or a new one; through a temporary where the kernels cannot write it."""

    def __init__(
        self,
        given: Any,
        name: str,
        shape: Shape,
        dtype: np.dtype[Any],
        computed: np.dtype[Any],
        *,
        apart_from: Sequence[tuple[str, Array | None]] = (),
        in_place: str | None = None,
        zeros: bool = False,
    ) -> None:
        if given is None:
            make = np.zeros if zeros else np.empty
            self.result: Array = make(shape, dtype)
        else:
            self.result = self._check(given, name, shape, dtype)
            for other_name, other in apart_from:
                if other is None or (other_name == in_place and _same(given, other)):
                    continue
                if _overlap(given, other):
                    raise ValueError(f"{name}: overlaps {other_name} in memory")
        flags = self.result.flags
        direct = self.result.dtype == computed and flags.c_contiguous and flags.aligned
        self.buffer: Array = self.result if direct else np.empty(shape, computed)
        self.given = given is not None

    @staticmethod
    def _check(given: Any, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
        if not isinstance(given, np.ndarray):
            raise TypeError(f"{name}: got {type(given).__name__}, wanted a NumPy array")
        if given.shape != shape:
            raise ValueError(f"{name}: got shape {given.shape}, wanted {shape}")
        if given.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"{name}: got dtype {given.dtype}, wanted {dtype}")
        if not given.flags.writeable:
            raise ValueError(f"{name}: got a read-only array, wanted a writeable one")
        if not given.flags.c_contiguous and _overlaps_itself(given):
            raise ValueError(f"{name}: got an array whose elements share memory")
        return given

    def finish(self) -> Array:
        """Copy the temporary, if there is one, and return the filled array."""
        if self.buffer is not self.result:
            with np.errstate(all="ignore"):
                np.copyto(self.result, self.buffer, casting="unsafe")
        return self.result


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
    return (
        a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
        and a.shape == b.shape
        and all(n <= 1 or s == t for n, s, t in zip(a.shape, a.strides, b.strides, strict=True))
        and a.dtype == b.dtype
    )
