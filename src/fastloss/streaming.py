"""A loss over arrays that do not fit memory, block of samples by block."""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ._arguments import Array, as_array, check_apart, class_axis, positive
from ._errors import shortening
from .losses._plan import Loss
from .totals import Exact, Total

__all__ = ["stream"]

BLOCK_BYTES = 32 << 20  # of input in a block, unless `rows` says otherwise
END: Any = object()  # of the shorter one of two iterables

Progress = Callable[[int, int | None], object]


@shortening
def stream(
    loss: Loss[Any],
    input: Any,
    target: Any,
    *,
    rows: int | None = None,
    grad_out: Any = None,
    progress: bool | Progress | None = None,
) -> Total:
    """Return the total of a loss over arrays of any size, and write its gradient, block by block.

    Memory that is resident does not grow with the arrays: pages of memory maps are given back.

    Parameters
    ----------
    loss : Loss
        A loss of fastloss; samples are along the first axis, so that classes must not be.
    input : sliceable or iterable
        What has a shape and gives arrays by slices, such as an array, `numpy.memmap`, or an array of zarr or
        h5py; a tensor or a table of data; or an iterable of batches, each an array.
    target : sliceable or iterable
        The targets, of as many samples; or an iterable of as many batches.
    rows : int, optional
        Samples of a block; None is as many as take 32 MiB of input. The result does not depend on it.
    grad_out : sliceable, optional
        What to write the gradient to, of input's shape, by slices; `input` itself will do. For a "mean" the
        targets are read twice, first for its divisor. What is wrong with class indices is said before
        anything is written; what is found in a later block leaves those before it written.
    progress : bool or callable, optional
        Called after each block as ``progress(done, samples)``, samples None where input is an iterable; True
        shows a bar of rich.

    Returns
    -------
    Total
        Sum, weight, count, mean and perplexity of all samples.

    Raises
    ------
    IndexError
        A label outside [0, C) that is not ignored; the position is within its block, which the error names.
    TypeError, ValueError
        Arguments that do not fit.

    See Also
    --------
    fastloss.CrossEntropyLoss.total : The total of one array.

    References
    ----------
    `numpy.memmap`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss
    >>> logits, labels = np.zeros((1000, 4), np.float32), np.zeros(1000, np.int64)
    >>> total = fastloss.stream(fastloss.CrossEntropyLoss(), logits, labels, rows=100)
    >>> round(total.perplexity, 6), total.count
    (4.0, 1000)
    """
    if not isinstance(loss, Loss):
        raise TypeError(
            f"loss: got {type(loss).__name__}, wanted a loss of input and target, such as CrossEntropyLoss()"
        )
    if loss._beside_target:
        raise TypeError(
            f"loss: got {type(loss).__name__}, which needs {loss._beside_target} beside input and target; "
            "add up loss.total of blocks"
        )
    if not callable(progress) and not isinstance(progress, bool | np.bool_ | None):
        raise TypeError(f"progress: got {type(progress).__name__}, wanted True, False, None or a function")
    if rows is not None:
        rows = positive(rows, "rows", "a positive number of rows, or None")
    with _shown(progress) as report:
        if hasattr(input, "shape"):
            return _of_arrays(loss, _held(input, "input"), _held(target, "target"), rows, grad_out, report)
        return _of_batches(loss, input, target, rows, grad_out, report)


def _of_batches(
    loss: Loss[Any], input: Any, target: Any, rows: int | None, grad_out: Any, report: Progress
) -> Total:
    for name, batches in (("input", input), ("target", target)):
        if not hasattr(batches, "__iter__"):
            wanted = "an array, what has a shape and slices, or an iterable of batches"
            raise TypeError(f"{name}: got {type(batches).__name__}, wanted {wanted}")
    if rows is not None or grad_out is not None:
        name = "rows" if grad_out is None else "grad_out"
        raise ValueError(f"{name}: it needs an input with a shape and slices, got {type(input).__name__}")
    total, done = Total(), 0
    for count, (x, y) in enumerate(itertools.zip_longest(input, target, fillvalue=END)):
        if x is END or y is END:
            name, other = ("target", "input") if y is END else ("input", "target")
            raise ValueError(f"{name}: got {count} batches, wanted as many as {other} has, which are more")
        with named(f"in batch {count}, from 0"):
            total += loss.total(x, y)
        done += len(x)
        report(done, None)
    return total


def _of_arrays(
    loss: Loss[Any], input: Any, target: Any, rows: int | None, grad_out: Any, report: Progress
) -> Total:
    shape = tuple(input.shape)
    if not shape:
        raise ValueError("input: got shape (), wanted (N, ...)")
    if hasattr(grad_out, "__dlpack__") and not isinstance(grad_out, np.ndarray):
        grad_out = as_array(grad_out, "grad_out")  # the same memory
    for name, array in (("target", target), ("grad_out", grad_out)):
        if array is None:
            continue
        if not _is_sliceable(array):
            raise TypeError(f"{name}: got {type(array).__name__}, wanted what has a shape and slices")
        wanted = shape if name == "grad_out" else shape[:1]
        if tuple(array.shape)[: len(wanted)] != wanted:
            raise ValueError(f"{name}: got shape {tuple(array.shape)}, wanted {wanted} as input")
    if isinstance(grad_out, np.ndarray):  # whose blocks may be those of others, read later
        read = [(n, a) for n, a in (("input", input), ("target", target)) if isinstance(a, np.ndarray)]
        check_apart(grad_out, "grad_out", read, ("input",))
    if hasattr(loss, "axis") and class_axis(shape, loss.axis, "input") == 0:
        raise ValueError(f"input: shape {shape} has its classes on the first axis, where samples should be")
    samples = shape[0]
    size = rows or max(1, BLOCK_BYTES // max(1, input.dtype.itemsize * math.prod(shape[1:])))
    blocks = [slice(start, min(start + size, samples)) for start in range(0, max(samples, 1), size)]
    scale = 1.0, 1.0
    if grad_out is not None:
        weight, nothing = Exact(), np.zeros((), as_array(input[:0], "input").dtype)
        for block in blocks:
            with named(_place(block)):
                part = (block.stop - block.start, *shape[1:])
                weight += loss._weight_of(np.broadcast_to(nothing, part), target[block])
        if loss.reduction not in ("none", "sum"):
            scale = weight.share(1.0)
    total = Total()
    for block, after in zip(blocks, [*blocks[1:], slice(samples, samples)], strict=True):
        for array in (input, target):
            _advise(array, after, "MADV_WILLNEED")
        with named(_place(block)):
            total += _total_of(loss, input[block], target[block], grad_out, block, scale)
        for array in (input, target, grad_out):
            _advise(array, block, "MADV_DONTNEED")
        report(block.stop, samples)
    return total


def _total_of(
    loss: Loss[Any], x: Any, y: Any, grad_out: Any, block: slice, scale: tuple[float, float]
) -> Total:
    """Of a block, whose gradient, times two factors, goes where it belongs, in place if that can be."""
    if grad_out is None:
        return loss._total(x, y)
    place = grad_out[block]
    in_place = isinstance(grad_out, np.ndarray)
    grad = place if in_place else np.empty(place.shape, place.dtype)
    total = loss._total(x, y, grad_output=scale[0], grad_out=grad)
    if scale[1] != 1:
        grad *= scale[1]
    if not in_place:
        grad_out[block] = grad
    return total


def _held(array: Any, name: str) -> Any:
    """What is in memory and no array, such as a list, a tensor or a table, as an array; all else as it is."""
    if isinstance(array, np.ndarray):
        return array
    in_memory = not _is_sliceable(array) or hasattr(array, "__dlpack__") or hasattr(array, "iloc")
    return as_array(array, name) if in_memory else array


def _is_sliceable(array: Any) -> bool:
    return hasattr(array, "shape") and hasattr(array, "dtype") and hasattr(array, "__getitem__")


def _place(block: slice) -> str:
    return f"positions are those in the samples from {block.start} to {block.stop}"


@contextlib.contextmanager
def named(place: str) -> Iterator[None]:
    """Errors name the place that they are of."""
    try:
        yield
    except (IndexError, TypeError, ValueError) as error:
        error.args = (f"{error} ({place})",)
        raise


@contextlib.contextmanager
def _shown(progress: bool | Progress | None) -> Iterator[Progress]:
    """What is called after each block."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, samples: None
    else:
        try:
            from rich.progress import Progress as Bar
        except ImportError:
            raise ImportError("progress: the bar is rich's; pip install rich, or give a function") from None
        with Bar() as bar:
            task = bar.add_task("samples", total=None)
            yield lambda done, samples: bar.update(task, completed=done, total=samples)


def _advise(array: Any, block: slice, advice: str) -> None:
    """Tell the system of a block of a shared memory map that it comes next, or that its pages can go.

    What a private map of copied pages holds would be lost.
    """
    if not isinstance(array, np.memmap) or getattr(array, "mode", "c") == "c" or block.start == block.stop:
        return
    mapped: Any = getattr(array, "_mmap", None)
    part: Array = np.asarray(array[block])
    if mapped is None or not part.flags.c_contiguous or not hasattr(mmap, advice):
        return
    begin = np.frombuffer(mapped, np.uint8, 1).__array_interface__["data"][0]
    first = part.__array_interface__["data"][0] - begin
    start = first // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(getattr(mmap, advice), start, min(first + part.nbytes, len(mapped)) - start)
