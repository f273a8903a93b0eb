"""The losses and array functions of dask arrays, lazily: `pip install 'dask[array]'`.

    >>> import dask.array as da
    >>> import fastloss.dask
    >>> x, t = da.zeros((6, 3), chunks=(2, 3)), da.zeros(6, dtype=int, chunks=2)
    >>> value, grad = fastloss.dask.cross_entropy_value_and_grad(x, t)
    >>> print(round(float(value), 5), grad.chunks)
    1.09861 ((2, 2, 2), (3,))

For every loss there is a function of its name, one with ``_value_and_grad`` and one with ``_total``; and the
array functions. Samples may be in any chunks: values, totals and gradients have the same bits for all of
them. Classes that are in several chunks stay there for losses of softmax and labels: each chunk makes a
`fastloss.Partial`, and has its gradient once these are merged. For others they are brought together, and
results go back to the chunks of the input. Tasks on threads of a scheduler take one thread each.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

import fastloss

from ._arguments import (
    as_array,
    class_axes,
    class_axis,
    compute_dtype,
    flag,
    mask_operand,
    one_for_each,
    scalar,
    stored_dtype,
)
from ._call import checked_normalizer
from ._remedies import is_lazy
from ._runtime import threads
from .losses import CLASSES, KLDivLoss
from .losses._plan import weight_array
from .losses.classes import _ClassLoss, _IndexedLoss, _LabelLoss
from .losses.partials import Partial
from .losses.pointwise import _aligned_var
from .streaming import named
from .totals import Exact, Total

try:
    import dask
    import dask.array as da
    from dask.delayed import Delayed
    from dask.highlevelgraph import HighLevelGraph
except ImportError as error:
    raise ImportError("fastloss.dask needs dask: pip install 'dask[array]'") from error

if TYPE_CHECKING:  # the functions of losses are made below

    def __getattr__(name: str) -> Any: ...


OVER_CLASSES = ("softmax", "log_softmax")
REDUCED = ("logsumexp", "entropy", "entropy_from_logits")
OVER_ELEMENTS = ("sigmoid", "logsigmoid")
ARRAYS = ("input", "teacher", "target", "var", "sample_weight", "mask")
WEIGHTS = ("weight", "pos_weight")  # of each element, where there are no classes
MERGED = 64  # totals that a task adds up

__all__ = [*OVER_CLASSES, *REDUCED, *OVER_ELEMENTS]
for _name in CLASSES:
    __all__ += [_name, f"{_name}_total", f"{_name}_value_and_grad"]


@contextmanager
def _as_task() -> Iterator[None]:
    """One thread where a scheduler has threads of its own."""
    if threading.current_thread() is threading.main_thread():
        yield
    else:
        with threads(1):
            yield


def _task(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    with _as_task():
        return function(*args, **options)


def _in_one_chunk(x: Any, *axes: int) -> Any:
    parted = [axis for axis in axes if len(x.chunks[axis]) > 1]
    return x.rechunk(dict.fromkeys(parted, -1)) if parted else x


def _read_alike(x: Any, axis: int) -> Any:
    """x with no single position behind the class axis in a chunk, if there are more in all.

    Such a chunk has its classes last, which other kernels read, with bits of their own.
    """
    behind = [i for i in range(axis + 1, x.ndim) if x.shape[i] > 1]
    if not behind or any(1 not in x.chunks[i] for i in behind):
        return x
    lengths: list[int] = []
    for n in x.chunks[behind[-1]]:
        if lengths and lengths[-1] == 1:
            lengths[-1] += n
        else:
            lengths.append(n)
    if lengths[-1] == 1:
        lengths[-2:] = [sum(lengths[-2:])]
    return x.rechunk({behind[-1]: tuple(lengths)})


def _dtypes(x: Any) -> tuple[Any, Any]:
    """What is computed in, and what results that are like x have."""
    sample = np.empty(0, x.dtype)
    computed = compute_dtype(sample, "x")
    return computed, stored_dtype(sample, computed)


def _array(value: Any, name: str) -> Any:
    """An argument as a dask array; what is not one is taken as eager functions take it."""
    parts = isinstance(value, list | tuple) and any(map(is_lazy, value))
    return da.asarray(value if parts or is_lazy(value) else as_array(value, name))


# ---- Array functions ----


def _known(array: Any, name: str) -> Any:
    """The same array, if its lengths are known."""
    if any(np.isnan(array.shape)):
        wanted = "wanted known lengths: compute_chunk_sizes()"
        raise ValueError(f"{name}: got shape {array.shape}, {wanted}")
    return array


def _counted(where: Any, shape: tuple[int, ...]) -> Any:
    """`where`, broadcast to a shape."""
    mask = _known(_array(where, "where"), "where")
    mask_operand(np.broadcast_to(np.empty((), mask.dtype), mask.shape), shape, "where", whole=False)
    return da.broadcast_to(mask, shape)


def _bound(name: str, signature: inspect.Signature, args: Any, options: Any) -> dict[str, Any]:
    """The arguments of a call by name."""
    try:
        return signature.bind(*args, **options).arguments
    except TypeError as error:
        raise TypeError(f"{name}() {error}") from None


def _array_task(function: Any, options: dict[str, Any], x: Any, where: Any = None) -> Any:
    return _task(function, x, where=where, **options)


def _array_function(name: str) -> Any:
    """The function of dask arrays, whose arguments mean what they mean in the eager one."""
    function = getattr(fastloss, name)
    own = {n: p for n, p in inspect.signature(function).parameters.items() if n != "out"}
    first, signature = next(iter(own)), inspect.Signature([*own.values()])

    def made(*args: Any, **options: Any) -> Any:
        given = _bound(name, signature, args, options)
        x, where = _array(given.pop(first), first), given.pop("where", None)
        axes = class_axes(x.shape, given.get("axis", own["axis"].default), first) if "axis" in own else ()
        kept = flag(given.get("keepdims", False), "keepdims")
        read = _read_alike(_in_one_chunk(x, *axes), max(axes, default=x.ndim))
        masks = () if where is None else (_counted(where, _known(x, first).shape).rechunk(read.chunks),)
        reduced = name in REDUCED
        dtype, gone = _dtypes(x)[not reduced], axes if reduced and not kept else ()
        result = read.map_blocks(
            partial(_array_task, function, given),
            *masks,
            dtype=dtype,
            drop_axis=gone,
            chunks=tuple((1,) if i in axes else n for i, n in enumerate(read.chunks)) if kept else None,
            meta=np.empty((0,) * (x.ndim - len(gone)), dtype),
        )
        return result if reduced else result.rechunk(x.chunks)

    made.__name__ = made.__qualname__ = name
    made.__signature__ = signature  # type: ignore[attr-defined]
    made.__doc__ = f"""Return `fastloss.{name}` of a dask array, lazily.

    Parameters
    ----------
    {first} : dask array
        As of `fastloss.{name}`.{
        ""
        if name in OVER_ELEMENTS
        else '''
    axis : int, tuple of int or None, default: -1
        The class axis, or several; None is all of them.'''
    }{
        '''
    keepdims : bool, default: False
        Keep the summed axis, with length 1.'''
        if "keepdims" in own
        else ""
    }
    where : array_like or dask array of bool, optional
        As of `fastloss.{name}`.

    Returns
    -------
    dask array
        The result{"" if name in REDUCED else ", in the chunks of x"}.

    Raises
    ------
    TypeError, ValueError
        A dtype or axis that does not fit.

    References
    ----------
    `fastloss.{name}`.

    Examples
    --------
    >>> import dask.array as da
    >>> import fastloss.dask
    >>> fastloss.dask.{name}(da.ones((4, 2), chunks=2)).shape
    {(4,) if name in REDUCED else (4, 2)}
    """
    return made


# ---- Losses ----


class _Batches:
    """A loss and its arrays, cut into the same samples."""

    def __init__(self, kind: Any, given: dict[str, Any]) -> None:
        names = ARRAYS if issubclass(kind, _ClassLoss) else ARRAYS + WEIGHTS
        arrays = {name: _array(given.pop(name), name) for name in names if name in given}
        for name, value in given.items():
            if is_lazy(value):
                raise TypeError(f"{name}: got a Dask collection, wanted it in memory; pass its .compute()")
        normalizer = given.pop("normalizer", None)
        self.loss = kind(**given)
        self.normalizer: float | None = None
        if normalizer is not None:
            self.normalizer = checked_normalizer(normalizer, self.loss.reduction)
        for name, array in arrays.items():
            _known(array, name)
        self.input = arrays["input"]
        self.x = self.input
        self.axis: int | None = None  # of the classes, or elements, which are together
        if hasattr(self.loss, "axis"):
            self.axis = class_axis(self.x.shape, self.loss.axis, "input")
        elif self.loss._value_shape(self.x.shape) != self.x.shape:
            self.axis = self.x.ndim - 1
        elif isinstance(self.loss, KLDivLoss) and self.loss.reduction in ("none", "batchmean"):
            self.x = _in_one_chunk(self.x, *range(1, self.x.ndim))  # a block is checked; it counts its rows
        teacher = arrays.pop("teacher", None)
        target = arrays.pop("target") if teacher is None else teacher
        self.parted = isinstance(self.loss, _LabelLoss) and target.ndim < self.x.ndim  # classes may be
        if self.axis is not None:
            self.x = _read_alike(self.x if self.parted else _in_one_chunk(self.x, self.axis), self.axis)
        self.parted &= self.axis is not None and len(self.x.chunks[self.axis]) > 1
        chunks, axis = self.x.chunks, self.axis
        self.chunks = chunks if axis is None else chunks[:axis] + chunks[axis + 1 :]
        self.shape = tuple(map(sum, self.chunks))
        self.target = self._cut(target, "target" if teacher is None else "teacher", exact=True)
        self.more: dict[str, Any] = {}
        for name in ("sample_weight", "mask", "target"):  # here of labels beside a teacher
            if name in arrays:
                self.more[name] = self._cut(arrays[name], name, exact=name == "target")
        if teacher is not None:
            self.loss._labels_of(arrays.get("target"))
        if "var" in arrays:
            self.more["var"] = self._cut_elements(_aligned_var(arrays["var"], self.x.shape), "var")
        for name in WEIGHTS:
            if name in arrays:
                compute_dtype(np.empty(0, arrays[name].dtype), name)
                self.more[name] = self._cut_elements(arrays[name], name)

    def _cut(self, array: Any, name: str, exact: bool = False) -> Any:
        """Delayed blocks of an array of the samples, or, of a target, of input's shape."""
        shape, chunks = self.shape, self.chunks
        if exact and array.ndim == self.x.ndim:
            shape, chunks = self.x.shape, self.x.chunks
        if exact and array.shape != shape:
            raise ValueError(f"{name}: got shape {array.shape}, wanted {self.shape} or {self.x.shape}")
        each = array if exact else one_for_each(array, shape)
        return _blocks(each, name, array.shape, shape, chunks)

    def _cut_elements(self, array: Any, name: str) -> Any:
        """Delayed blocks of an array that broadcasts to the input."""
        return _blocks(array, name, array.shape, self.x.shape, self.x.chunks)

    def _arguments(self, block: tuple[int, ...], part: int = 0) -> tuple[Any, Any, dict[str, Any]]:
        """Of a block of samples, and of one of its parts: its place in x, its target, and more."""
        place = block if self.axis is None else (*block[: self.axis], part, *block[self.axis :])
        target = self.target[place if self.target.ndim == self.x.ndim else block]
        return place, target, {k: v[place if v.ndim == self.x.ndim else block] for k, v in self.more.items()}

    def tasks(self, function: Any, *args: Any) -> Any:
        """A task for each block of samples, in an array as they are; from what is merged of its parts."""
        tasks = np.empty(tuple(map(len, self.chunks)), object)
        if self.parted:
            for block in np.ndindex(tasks.shape):
                tasks[block] = _lazy(function, block)(self.merged[block])
            return tasks
        x = self.x.to_delayed()
        for block in np.ndindex(tasks.shape):
            place, target, more = self._arguments(block)
            tasks[block] = _lazy(function, block, more)(self.loss, x[place], target, *args, *more.values())
        return tasks

    @cached_property
    def merged(self) -> Any:
        """The part of all classes of each block of samples."""
        assert self.axis is not None
        tasks, x = np.empty(tuple(map(len, self.chunks)), object), self.x.to_delayed()
        loss, starts = self.loss._changed(reduction="none"), self._starts()
        for block in np.ndindex(tasks.shape):
            parts = []
            for part, start in enumerate(starts):
                place, target, more = self._arguments(block, part)
                parts.append(_lazy(_part_of, block, more)(loss, x[place], target, start, *more.values()))
            tasks[block] = _lazy(_merged)(*parts)
        return tasks

    def _starts(self) -> list[int]:
        """The first class of each chunk."""
        assert self.axis is not None
        return [0, *np.cumsum(self.x.chunks[self.axis])[:-1].tolist()]

    def weights(self) -> Any:
        """What a mean is divided by, from targets alone."""
        tasks = np.empty(tuple(map(len, self.chunks)), object)
        for block in np.ndindex(tasks.shape):
            place, target, more = self._arguments(block)
            shape = [lengths[i] for lengths, i in zip(self.x.chunks, place, strict=True)]
            if self.parted and self.axis is not None:
                shape[self.axis] = self.x.shape[self.axis]
            given = self.loss, tuple(shape), self.x.dtype, target, *more.values()
            tasks[block] = _lazy(_weight_of, block, more)(*given)
        return self.total(tasks)

    def totals_and_grads(self, scale: Any, dtype: Any) -> tuple[Any, Any]:
        """A total for each block of samples, and a gradient, times two factors, for each chunk of x."""
        totals, grads = np.empty(tuple(map(len, self.chunks)), object), np.empty(self.x.numblocks, object)
        if not self.parted:
            pairs = self.tasks(_total_and_grad_of, scale, dtype)
            for block in np.ndindex(pairs.shape):
                totals[block], grads[self._arguments(block)[0]] = pairs[block][0], pairs[block][1]
            return totals, grads
        x = self.x.to_delayed()
        for block in np.ndindex(totals.shape):
            for part, start in enumerate(self._starts()):
                place, target, _ = self._arguments(block, part)
                grads[place] = _lazy(_grad_of_part)(self.merged[block], x[place], target, start, scale)
        return self.tasks(_total_of_part), grads

    def total(self, tasks: Any) -> Any:
        """All totals in one, by a tree."""
        totals = list(tasks.flat)
        while len(totals) > 1:
            totals = [_lazy(_sum)(*totals[i : i + MERGED]) for i in range(0, len(totals), MERGED)]
        return totals[0]

    def totals(self) -> Any:
        """The total of all samples."""
        return self.total(self.tasks(_total_of_part if self.parted else _total_of))

    def values(self) -> Any:
        """The values under "none"."""
        tasks = self.tasks(_values_of_part if self.parted else _values_of)
        chunks = [lengths for axis, lengths in enumerate(self.input.chunks) if axis != self.axis]
        return self.array(tasks, self.chunks, _dtypes(self.x)[0]).rechunk(tuple(chunks))

    def value(self, total: Any) -> Any:
        """The mean or sum of a total, a dask array without dimensions."""
        return da.from_delayed(_lazy(_value_of)(total, self.loss, self.normalizer), (), float)

    def array(self, tasks: Any, chunks: Any, dtype: Any) -> Any:
        """The array of which tasks give the blocks."""
        blocks = np.empty(tuple(map(len, chunks)), object)
        for block, task in zip(np.ndindex(blocks.shape), tasks.flat, strict=True):
            shape = tuple(lengths[i] for lengths, i in zip(chunks, block, strict=True))
            blocks[block] = da.from_delayed(task, shape, dtype)
        return da.block(blocks.tolist()) if blocks.ndim else blocks[()]


def _lazy(
    function: Callable[..., Any], block: tuple[int, ...] | None = None, names: Iterable[str] = ()
) -> Any:
    """The function as one whose calls are tasks; it keeps its name here, by which they are pickled.

    Lazy arguments are given by position, the last ones under `names`: of those in a list, or by keyword, Dask
    puts all that they come from into each task's layer. Equal calls are one task.
    """
    called = function if block is None else partial(_of_block_of_samples, function, block, (*names,))
    return dask.delayed(called, pure=True)


def _of_block_of_samples(
    function: Callable[..., Any], block: tuple[int, ...], names: tuple[str, ...], *args: Any
) -> Any:
    """The errors of a function name the chunks of the samples that they are of."""
    plain = len(args) - len(names)
    with named(f"positions are those in chunk {block} of the samples"):
        return function(*args[:plain], **dict(zip(names, args[plain:], strict=True)))


def _sum(*totals: Total) -> Total:
    return sum(totals, Total())


def _blocks(array: Any, name: str, given: tuple[int, ...], shape: tuple[int, ...], chunks: Any) -> Any:
    """Delayed blocks of an array that broadcasts to a shape; an error names the one that was given."""
    try:
        whole = da.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name}: got shape {given}, wanted one that broadcasts to {shape}") from None
    return whole.rechunk(chunks).to_delayed()


def _of_block(loss: Any, more: dict[str, Any]) -> Any:
    """The loss with the weights of a block's elements."""
    weights = {name: weight_array(more.pop(name), name) for name in WEIGHTS if name in more}
    return loss._changed(**weights) if weights else loss


def _total_of(loss: Any, x: Any, y: Any, **more: Any) -> Total:
    loss = _of_block(loss, more)
    with _as_task():
        return loss._total(x, y, **more)  # type: ignore[no-any-return]


def _values_of(loss: Any, x: Any, y: Any, **more: Any) -> Any:
    loss = _of_block(loss, more)
    with _as_task():
        return loss(x, y, *([more.pop("var")] if "var" in more else []), **more)


def _part_of(loss: Any, x: Any, y: Any, start: int, **more: Any) -> Partial[Any]:
    with _as_task():
        return loss.partial(x, y, start=start, **more)  # type: ignore[no-any-return]


def _merged(*parts: Partial[Any]) -> Partial[Any]:
    return reduce(Partial.merge, parts)


def _total_of_part(whole: Partial[Any]) -> Total:
    with _as_task():
        return whole.total()


def _values_of_part(whole: Partial[Any]) -> Any:
    with _as_task():
        return whole.value()


def _grad_of_part(whole: Partial[Any], x: Any, y: Any, start: int, scale: tuple[float, float]) -> Any:
    with _as_task():
        grad = whole.grad(x, y, start=start, grad_output=scale[0])
    return grad if scale[1] == 1 else grad * scale[1]


def _weight_of(loss: Any, shape: tuple[int, ...], dtype: Any, y: Any, **more: Any) -> Total:
    """What there is to know before a gradient: the weights, from targets alone."""
    nothing = np.broadcast_to(np.zeros((), dtype), shape)
    loss = _of_block(loss, more)
    more.pop("var", None)
    with _as_task():
        return Total._of(Total()._numerator, loss._weight_of(nothing, y, **more), 0)


def _total_and_grad_of(loss: Any, x: Any, y: Any, scale: tuple[float, float], dtype: Any, **more: Any) -> Any:
    loss, grad = _of_block(loss, more), np.empty(x.shape, dtype)
    with _as_task():
        total = loss._total(x, y, grad_output=scale[0], grad_out=grad, **more)
    return total, grad if scale[1] == 1 else grad * scale[1]


def _scale_of(weights: Total | None, grad_output: Any, divisor: float) -> tuple[float, float]:
    """What the gradient of a sum is multiplied by, first in its kernel and then."""
    exact = Exact.of(np.array([divisor])) if weights is None else weights._weight
    return exact.share(scalar(grad_output, "grad_output"))


def _value_of(total: Total, loss: Any, normalizer: float | None) -> Any:
    if loss.reduction == "sum":
        return np.float64(total.sum)
    if normalizer is not None:
        return np.float64(total._numerator.over(Exact.of(np.array([normalizer]))))
    return np.float64(loss._of_nothing() if total.weight == 0 else total.mean)


def _value(batches: _Batches) -> Any:
    return batches.values() if batches.loss.reduction == "none" else batches.value(batches.totals())


def _value_and_grad(batches: _Batches, grad_output: Any = 1.0) -> tuple[Any, Any]:
    if not is_lazy(grad_output):
        grad_output = scalar(grad_output, "grad_output")
    reduction = batches.loss.reduction
    weights, divisor = None, 1.0
    if reduction == "batchmean" or batches.normalizer is not None:
        divisor = batches.normalizer or float(batches.shape[0] if batches.shape else 1)
    elif reduction == "mean":
        weights = batches.weights()
    stored = _dtypes(batches.x)[1]
    scale = _lazy(_scale_of)(weights, grad_output, divisor)
    totals, grads = batches.totals_and_grads(_without_origin(scale), stored)
    grad = batches.array(grads, batches.x.chunks, stored).rechunk(batches.input.chunks)
    grad = _with_origin(grad, scale)
    if reduction == "none":
        return batches.values(), grad
    return _with_origin(batches.value(batches.total(totals)), scale), grad


def _without_origin(task: Any) -> Any:
    """The task for many others to refer to: each of them would copy the list of all layers that it is of."""
    return Delayed(task.key, HighLevelGraph({task.key: {}}, {task.key: set()}))


def _with_origin(array: Any, task: Any) -> Any:
    """An array made of tasks that refer to `_without_origin(task)`, with what that comes from."""
    graph = HighLevelGraph.merge(array.dask, task.dask)
    return da.Array(graph, array.name, array.chunks, meta=array._meta)


# What ends the name, what is computed, what the docstring says of it, and what it returns
FUNCTIONS = (
    (
        "",
        _value,
        "value of",
        'dask array\n        The value, without dimensions; under "none" the values.',
    ),
    (
        "_total",
        _Batches.totals,
        "`fastloss.Total` of",
        "Delayed\n        The total, once it is computed.",
    ),
    (
        "_value_and_grad",
        _value_and_grad,
        "value and gradient of",
        "value : dask array\n        The value.\n"
        "    grad : dask array\n        The gradient, in the chunks of the input.",
    ),
)


def _loss_function(name: str, ending: str, computed: Callable[..., Any], what: str, result: str) -> Any:
    """The function of a loss, whose arguments mean what they mean in the eager one."""
    kind, own = CLASSES[name], inspect.signature(getattr(fastloss, name)).parameters
    left_out = ("out", "normalizer") if ending == "_total" else ("out",)
    further = [inspect.Parameter("grad_output", inspect.Parameter.KEYWORD_ONLY, default=1.0)]
    further = further if ending == "_value_and_grad" else []
    signature = inspect.Signature([*(p for p in own.values() if p.name not in left_out), *further])

    def function(*args: Any, **options: Any) -> Any:
        given = _bound(function.__name__, signature, args, options)
        more = {p.name: given.pop(p.name) for p in further if p.name in given}
        default = {k for k, v in given.items() if v is None and own[k].default is None}
        return computed(_Batches(kind, {k: v for k, v in given.items() if k not in default}), **more)

    function.__name__ = function.__qualname__ = name + ending
    by_position = [p for p in own.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)
    function.__signature__ = inspect.Signature([*by_position, *further, options])  # type: ignore[attr-defined]
    example, arguments = _example(name)
    function.__doc__ = f"""Return the {what} `fastloss.{name}` of dask arrays, lazily.

    Parameters
    ----------
    input : dask array
        As of `fastloss.{name}`.
    {_others(name, by_position[1:])}{
        '''
    grad_output : float, default: 1.0
        Factor of the gradient.'''
        if further
        else ""
    }
    **options
        Those of `fastloss.{name}` but {" and ".join(left_out)}, by keyword.

    Returns
    -------
    {result}

    Raises
    ------
    TypeError, ValueError
        Arguments that do not fit; what is wrong with numbers is said when they are computed.

    References
    ----------
    `fastloss.{name}`.

    Examples
    --------
    >>> import dask.array as da
    >>> import fastloss.dask
    >>> {example}
    >>> result = fastloss.dask.{function.__name__}({arguments})
    """
    return function


def _others(name: str, parameters: list[inspect.Parameter]) -> str:
    """The arguments beside the input that have a position, as numpydoc has them."""
    lines = []
    for p in parameters:
        what = "array_like or dask array" if p.name in ARRAYS + WEIGHTS else "float"
        default = f", default: {p.default}" if p.default is not None else ", optional"
        lines.append(f"{p.name} : {what}{default if p.default is not p.empty else ''}")
    return "\n    ".join(f"{line}\n        As of `fastloss.{name}`." for line in lines)


def _example(name: str) -> tuple[str, str]:
    """Arguments that suit a loss."""
    indexed = issubclass(CLASSES[name], _IndexedLoss)
    target = "da.zeros(4, dtype=int, chunks=2)" if indexed else "x"
    return "x = da.ones((4, 2), chunks=2)", f"x, {target}" + (", 1.0" if name == "gaussian_nll_loss" else "")


for _name in (*OVER_CLASSES, *REDUCED, *OVER_ELEMENTS):
    globals()[_name] = _array_function(_name)
for _name in CLASSES:
    _value_of_loss, *_more = (_loss_function(_name, *_function) for _function in FUNCTIONS)
    _value_of_loss.total, _value_of_loss.value_and_grad = _more
    for _function in (_value_of_loss, *_more):
        globals()[_function.__name__] = _function
