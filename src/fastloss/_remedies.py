"""What was probably meant by an argument that does not fit: the end of its error message, or nothing.

But for `for_kind`, nothing here is asked before an argument has been refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]

_OF_KINDS = {
    "c": "its real part is .real",
    "O": "numbers as objects? .astype(float), or of pandas .to_numpy(float)",
    "M": "times? .astype(float)",
    "m": "times? .astype(float)",
    "f": ".astype(numpy.float64)",
}


def for_dtype(array: Array, name: str) -> str:
    """A dtype that has no kernels."""
    dtype = array.dtype
    if dtype.kind in "UST" or (dtype.kind == "O" and array.size and isinstance(array.flat[0], str)):
        if name in ("target", "y", "y_true"):
            return "; labels as text? numpy.unique(labels, return_inverse=True)[1]"
        return "; numbers as text? .astype(float)"
    if dtype.names:
        return f"; one of its fields? pass array[{dtype.names[0]!r}]"
    return f"; {_OF_KINDS[dtype.kind]}" if dtype.kind in _OF_KINDS else ""


def is_lazy(value: Any) -> bool:
    """Whether it is a Dask collection, as Dask tells: an array of xarray in memory has no graph."""
    graph = getattr(value, "__dask_graph__", None)
    return callable(graph) and graph() is not None


def for_kind(value: Any) -> str | None:
    """What an argument is that would become an array of something else, and what to pass in its place."""
    if is_lazy(value):
        return "got a Dask collection, wanted an array in memory; take fastloss.dask, or pass its .compute()"
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        return "got a sparse matrix, wanted a dense array; pass its .toarray()"
    return None


def for_masked(name: str) -> str:
    """A masked array: of samples, of entries, or of what has no mask."""
    if name in ("input", "target", "teacher", "var", "sample_weight"):
        return "pass its data, and mask=~numpy.ma.getmaskarray(array)"
    if name in ("x", "p"):
        return "pass its data, and where=~numpy.ma.getmaskarray(array)"
    return "pass its .filled(...)"


def for_iterable(value: Any) -> str | None:
    """What has numbers, and becomes one object."""
    if hasattr(value, "__iter__") and not isinstance(value, str):
        return f"got {type(value).__name__}, wanted numbers, several in an array or a list"
    return None


def for_lists(error: ValueError) -> str:
    """Lists of which NumPy makes no array."""
    return "; lists of different lengths? pad them, and pass mask=" if "inhomogeneous" in str(error) else ""


def for_tensor(value: Any) -> str:
    """What does not become an array, such as a tensor with a gradient."""
    with_grad = getattr(value, "requires_grad", False) is True
    return "; for gradients by PyTorch take fastloss.torch" if with_grad else ""


def for_categories(value: Any) -> str | None:
    """Categories that are no numbers, of pandas or polars."""
    kind = type(getattr(value, "dtype", None)).__name__ or str(getattr(value, "dtype", ""))
    if kind == "CategoricalDtype":
        codes = ".cat.codes" if hasattr(value, "cat") else ".codes"
        return f"got categories, wanted numbers; pass their {codes}"
    if str(getattr(value, "dtype", "")).startswith(("Categorical", "Enum")):
        return "got categories, wanted numbers; pass their .to_physical()"
    return None


def for_label_shape(x: Array, y: Array, axis: int) -> str:
    """Labels whose shape is not that of the samples; the class axis of the input is `axis`."""
    shape, there = x.shape, y.shape
    others = [a for a in range(len(shape)) if a != axis and shape[:a] + shape[a + 1 :] == there]
    if others:
        place = -1 if len(shape) - 1 in others else others[0]
        return f"; the classes are on axis {axis}, 1 by default as in PyTorch: axis={place}?"
    if y.ndim == x.ndim + 1 or (x.dtype.kind in "biu" and y.dtype.kind == "f" and y.ndim > x.ndim):
        return "; input and target swapped?"
    if y.ndim == x.ndim and there[:axis] + there[axis + 1 :] == shape[:axis] + shape[axis + 1 :]:
        if there[axis] == 1:
            return f"; one label each? pass target.squeeze({axis})"
        if there[axis] == shape[axis]:
            return f"; one-hot? pass target.argmax({axis}); class probabilities are for cross_entropy"
        return f"; one-hot? it has {there[axis]} classes, and the input {shape[axis]}"
    if y.ndim == 1 and y.size * shape[-1] == x.size:
        return f"; flattened? pass the input so: input.reshape(-1, {shape[-1]})"
    return ""


def for_element_shape(shape: Shape, there: Shape, name: str = "target") -> str:
    """A target that does not have the shape of the input."""
    if there == shape[:-1]:
        if shape[-1] == 1:
            return f"; pass {name}[..., None]"
        return "; class indices? they are for cross_entropy"
    if there == (*shape, 1):
        return f"; pass {name}[..., 0]"
    return ""


def for_label(labels: Array, label: int, classes: int, used: Array) -> str:
    """A label out of range, of labels of which those `used` count."""
    counted = labels[used]
    if label == classes and counted.size and counted.min() >= 1 and counted.max() == classes:
        return f"; they are counted from 0, and not from 1 to {classes}: pass target - 1"
    if label == -(2**63):
        return "; NaN that was made an integer? pass mask="
    if label < 0 or label == 255:
        return f"; is it to be ignored? pass ignore_index={label}"
    return f"; they are counted from 0 to {classes - 1}" if label == classes else ""


def for_no_label(wrong: Array) -> str:
    """Floats that are no class indices."""
    if np.isnan(wrong).all():
        return "; NaN for what is missing? pass mask=~numpy.isnan(target)"
    if not np.isfinite(wrong).any():
        return "; inf for what is missing? pass mask=numpy.isfinite(target)"
    if ((wrong > 0) & (wrong < 1)).all():
        return "; probabilities have the shape of the input"
    return "; .astype(int) drops the fraction"
