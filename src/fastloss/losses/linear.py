"""Linear cross-entropy: the loss of input @ linear_weight.T + linear_bias, never there as a whole.

Design:
a) The rows go in chunks. A chunk's logits stand in one buffer, where the kernels put their gradient in their
   place; two more products take it to the input and the weight. Rows that do not count take part in nothing.
b) The classes go in panels, in order: so much of the weight as stays in the caches. Only a panel of half
   precision is widened at a time, and what is added to a gradient over the chunks is there when it is needed.
c) Labels are checked, and what a mean is divided by is known, before the first product: the kernels' gradient
   has all factors, and nothing is scaled later.
d) `Products` is who multiplies and converts: NumPy here, PyTorch in `fastloss.torch`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import _checking, _kernels
from .._arguments import (
    FLOAT32,
    Array,
    Output,
    as_array,
    choices_of,
    compute_dtype,
    flag,
    native,
    positive,
    real_operand,
    stored_dtype,
    widened,
)
from .._call import Call
from .._errors import shortening
from .._runtime import threads_for
from .._types import Each, Empty, LinearCall, LinearOptions, Reduced
from ._plan import Options, V, counted, exponent
from .classes import CrossEntropyLoss

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LinearCrossEntropyLoss", "linear_cross_entropy"]

ROWS = 512  # of a chunk at least: what a product with fewer rows costs is reading the weight
CACHE = 2**21  # bytes of logits in a chunk of more rows
PANEL = 2**22  # bytes of the weight's rows that are multiplied at a time
MODERATE = (
    64  # powers of 2 that the logits' gradient may have, whose products with 2**60 are in float32's range
)
BLOCK = 2**14  # numbers of float16 that are converted at a time
FLOAT16 = np.dtype(np.float16)
MEMORY = "FASTLOSS_CHUNK_BYTES"  # the environment's limit for a chunk's logits
#: What there are derivatives by, and where they go.
GRADIENTS = {
    "input": "grad_input_out",
    "linear_weight": "grad_weight_out",
    "linear_bias": "grad_bias_out",
}


class Products:
    """Products and conversions of arrays, by NumPy."""

    def multiply(self, a: Array, b: Array, out: Array) -> None:
        """Fill `out` with a @ b."""
        np.matmul(a, b, out=out)

    def copy(self, out: Array, array: Array) -> None:
        """Fill `out` with numbers of another dtype, rounded once."""
        array = native(array, array.dtype.newbyteorder("="))
        if {array.dtype, out.dtype} != {FLOAT16, FLOAT32}:
            np.copyto(out, array if out.dtype == array.dtype else widened(array), casting="unsafe")
            return
        to, numbers = out.reshape(-1), array.reshape(-1)
        for start in range(0, array.size, BLOCK):
            part = slice(start, start + BLOCK)
            if out.dtype == FLOAT32:
                np.take(_float16(), numbers[part].view(np.uint16), out=to[part], mode="wrap")
            else:
                _round_to_float16(to[part].view(np.uint16), numbers[part])


@cache
def _float16() -> Array:
    """All numbers of float16 in the order of their bits, to be read in a third of a conversion's time."""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _round_to_float16(out: Array, array: Array) -> None:
    """Fill `out` with the bits of float16, to nearest, ties to even.

    NumPy's own conversion takes a hundred times as long where a number is below 2**-14, as gradients are.
    """
    u = np.uint32
    bits = array.view(u)
    size = bits & u(0x7FFFFFFF)
    nan = size > u(0x7F800000)
    np.minimum(size, u(0x47800000), out=size)  # 2**16, which becomes inf
    base = np.maximum(size, u(0x38800000)) & u(0x7F800000)  # the power of 2 below, from 2**-14
    unit = base + u(13 << 23)  # as float32 so large that its last bit is float16's
    half = (size.view(np.float32) + unit.view(np.float32)).view(u)
    half -= unit
    half += base >> u(13)
    half -= u(113 << 10)  # the exponents are 112 apart, and a normal number's first bit counts
    np.copyto(half, u(0x7E00), where=nan)
    half |= (bits >> u(16)) & u(0x8000)
    np.copyto(out, half, casting="unsafe")


NUMPY = Products()


def _adds(output: Output, accumulate: bool) -> bool:
    """Whether a gradient is added to what its array holds, which is in the buffer then."""
    add = accumulate and output.given
    if add and not output.direct:
        np.copyto(output.buffer, output.result)
    return add


class _Sum:
    """A gradient to which each chunk adds: the result itself, or until the last chunk another array.

    That is wider than the result, or 2 to the power of `step` smaller.
    """

    def __init__(
        self,
        output: Output,
        dtype: np.dtype[Any],
        chunks: int,
        accumulate: bool,
        products: Products,
        step: int,
    ) -> None:
        self.add = _adds(output, accumulate)
        self.result, self.copy, self.chunks, self.step = output.buffer, products.copy, chunks, step
        self.narrow = self.result.dtype != dtype or step != 0
        self.sum = self.result
        if self.narrow:
            self.sum = np.empty(self.result.shape if chunks > 1 else 0, dtype)

    def room(self, chunk: int, part: slice, scratch: Array) -> Array:
        """Where a chunk's share of a part may be put: the result, if nothing is there to be added to."""
        return scratch if chunk or self.add or self.narrow else self.sum[part]

    def put(self, chunk: int, part: slice, share: Array) -> None:
        """Add a chunk's share, which stands in `room`."""
        if not self.narrow:
            if chunk or self.add:
                self.sum[part] += share
            return
        if chunk:
            share += self.sum[part]
        if chunk < self.chunks - 1:
            self.sum[part] = share
            return
        if self.step:
            np.ldexp(share, self.step, out=share)
        if self.add:  # in the wider dtype of the two
            share = share + widened(self.result[part])
        self.copy(self.result[part], share)


class _Operands(NamedTuple):
    """Input as rows, weight and bias, and the dtype that is computed in."""

    x: Array
    weight: Array
    bias: Array | None
    dtype: np.dtype[Any]

    def panels(self, products: Products, read: bool = True) -> Iterator[tuple[slice, Array]]:
        """The weight's rows, in order, so many at a time, in the computing dtype if they are to be read."""
        classes, features = self.weight.shape
        step = max(64, PANEL // max(1, features * self.dtype.itemsize))
        flags = self.weight.flags
        direct = self.weight.dtype == self.dtype and flags.c_contiguous and flags.aligned
        scratch = np.empty((0 if direct else min(step, classes), features), self.dtype)
        for start in range(0, classes, step):
            part = slice(start, min(start + step, classes))
            panel = self.weight[part]
            if read and not direct:
                products.copy(scratch[: len(panel)], panel)
                panel = scratch[: len(panel)]
            yield part, panel

    def rows(self, at: Any, products: Products) -> Array:
        """Some rows of the input, contiguous in the computing dtype."""
        part: Array = self.x[at]
        if part.dtype == self.dtype:
            return native(part, self.dtype)
        result = np.empty(part.shape, self.dtype)
        products.copy(result, part)
        return result


def _operands(input: Any, linear_weight: Any, linear_bias: Any) -> tuple[Array, Array, Array | None, Any]:
    """Arrays whose shapes fit each other, and the wider of the dtypes that they are computed in."""
    x, w = as_array(input, "input"), as_array(linear_weight, "linear_weight")
    b = None if linear_bias is None else as_array(linear_bias, "linear_bias")
    dtypes = compute_dtype(x, "input"), compute_dtype(w, "linear_weight")
    dtype = max(dtypes, key=lambda kind: kind.itemsize)
    if w.ndim != 2 or not len(w):
        raise ValueError(f"linear_weight: got shape {w.shape}, wanted (classes, features) with a class")
    if not x.ndim or x.shape[-1] != w.shape[1]:
        wanted = f"(..., {w.shape[1]}), the features of linear_weight {w.shape}"
        raise ValueError(f"input: got shape {x.shape}, wanted {wanted}")
    if b is not None:
        if b.shape != w.shape[:1]:
            raise ValueError(f"linear_bias: got shape {b.shape}, wanted {w.shape[:1]}, one for each class")
        compute_dtype(b, "linear_bias")
    return x, w, b, dtype


def _memory() -> int:
    """Bytes that the logits of a chunk may take, unless `chunk` says how many rows it has."""
    text = os.environ.get(MEMORY, "")
    if not text:
        return 2**28
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{MEMORY}: got {text!r}, wanted a positive number of bytes")
    return int(text)


def _chunk_rows(rows: int, row_bytes: int, chunk: int | None) -> int:
    """Rows of a chunk: all have as many, but for the last."""
    if chunk is None:
        chunk = max(1, min(max(ROWS, CACHE // row_bytes), _memory() // row_bytes))
    parts = -(-rows // chunk)
    return -(-rows // max(1, parts))


class _Kernel(NamedTuple):
    """Operation and arguments of `class_pass`: the same for all rows, and of each row."""

    op: int
    options: dict[str, Any]
    rows: dict[str, Array]
    counted: Array
    divisor: float
    step: int  # 2 to this power is what its gradient is still to be multiplied by

    def run(self, logits: Array, at: Any, values: Array | None, with_grad: bool) -> float:
        """The values of some rows' logits, added up, and the gradient in the place of the logits."""
        rows, classes = logits.shape
        total: float = _kernels.module.class_pass(
            *(self.op, logits, rows, classes, 1, classes, threads_for(logits.size)),
            value=values,
            grad=logits if with_grad else None,
            **self.options,
            **{name: array[at] for name, array in self.rows.items()},
        )
        return total


def _step(kernel: dict[str, Any], samples: Sequence[Array | None]) -> int:
    """What 2 is to the power of, so that without it the gradient by the logits is within MODERATE."""
    classes = kernel.get("class_weight"), kernel.get("linear_weight")
    sizes = [[exponent(array) for array in arrays if array is not None] for arrays in (samples, classes)]
    own = math.frexp(kernel["factor"])[1]
    size = own - math.frexp(kernel["divisor"])[1] + sum(sizes[0]) + max(sizes[1], default=0)
    step = size - max(-MODERATE, min(size, MODERATE))
    return max(own - 1000, min(step, own + 1000))  # so that the factor stays in range


class _Gradients:
    """From the logits' gradient, a chunk of rows at a time, to those by input, weight and bias."""

    def __init__(
        self,
        operands: _Operands,
        outputs: dict[str, Output],
        chunks: int,
        accumulate: bool,
        products: Products,
        step: int,
    ) -> None:
        self.operands, self.products, self.chunk, self.step = operands, products, -1, step
        self.weight, self.bias = (
            _Sum(outputs[name], operands.dtype, chunks, accumulate, products, step)
            if name in outputs
            else None
            for name in ("linear_weight", "linear_bias")
        )
        self.input: Array | None = None
        if "input" in outputs:
            self.add_input = _adds(outputs["input"], accumulate)
            self.input = outputs["input"].buffer.reshape(operands.x.shape)
        self.scratch = np.empty((0, 0), operands.dtype)

    def add(self, at: Any, x: Array, g: Array) -> None:
        """Take the gradient by the logits of some rows `at`, the next chunk, to where it belongs."""
        self.chunk += 1
        if self.bias is not None:
            share = self.bias.room(self.chunk, slice(None), np.empty(g.shape[1], g.dtype))
            g.sum(0, out=share)
            self.bias.put(self.chunk, slice(None), share)
        by_input = None if self.input is None else np.empty_like(x)
        if by_input is None and self.weight is None:
            return
        for part, panel in self.operands.panels(self.products, read=by_input is not None):
            if by_input is not None:
                share = np.empty_like(x) if part.start else by_input
                self.products.multiply(g[:, part], panel, share)
                if part.start:
                    by_input += share
            if self.weight is not None:
                self._add_weight(part, g[:, part], x)
        if by_input is not None:
            self._put_input(at, np.ldexp(by_input, self.step, out=by_input) if self.step else by_input)

    def _add_weight(self, part: slice, g: Array, x: Array) -> None:
        """The gradient by a panel of the weight."""
        assert self.weight is not None
        shape = g.shape[1], x.shape[1]
        if len(self.scratch) < shape[0]:
            self.scratch = np.empty(shape, g.dtype)
        share = self.weight.room(self.chunk, part, self.scratch[: shape[0]])
        self.products.multiply(g.T, x, share)
        self.weight.put(self.chunk, part, share)

    def _put_input(self, at: Any, by_input: Array) -> None:
        """The gradient by some rows of the input, rounded once."""
        assert self.input is not None
        if self.add_input:
            by_input += widened(self.input[at])
        if by_input.dtype != self.input.dtype:
            wide, by_input = by_input, np.empty(by_input.shape, self.input.dtype)
            self.products.copy(by_input, wide)
        self.input[at] = by_input

    def clear(self, ignored: Array) -> None:
        """The gradient by rows of the input that do not count."""
        if self.input is not None and not self.add_input:
            self.input[ignored] = np.zeros((), self.input.dtype)


class LinearCrossEntropyLoss(Options, Generic[V]):
    """Cross-entropy of logits input @ linear_weight.T + linear_bias, which are never there as a whole.

    The loss of `CrossEntropyLoss` behind a linear layer. The logits of a language model, rows times
    vocabulary, are its largest array; here only those of a chunk of rows exist at a time.

    Calling it:

    %(linear)s

    Parameters
    ----------
    %(class_weight)s
    %(ignore_index)s
    reduction : {"mean", "sum", "none"}, default: "mean"
        "mean" divides by the sum of the weights in force: w_t times sample_weight for class indices,
        sample_weight for class probabilities; "none" gives one value for each sample.
    label_smoothing : float, default: 0.0
        Share of the target that all classes have in equal parts, in [0, 1].
    %(empty)s
    %(z_loss)s
    %(unchecked)s
    chunk : int, optional
        The most rows whose logits are there at a time. None is at least 512, and more where their logits take
        less than 2 MiB, but not more than 256 MiB allow: the environment variable FASTLOSS_CHUNK_BYTES is
        another number of bytes.

    Raises
    ------
    %(raises_of_labels)s

    See Also
    --------
    linear_cross_entropy : The function.
    CrossEntropyLoss : The same from logits.

    Notes
    -----
    With G, the gradient by the logits, those by input, weight and bias are G @ linear_weight, G.T @ input
    and the sum of G's rows. The products are NumPy's. Half precision is widened to float32, some of the
    weight at a time, and each gradient is added up in float32 and rounded once. The memory beside the results
    is that of a chunk; and with several chunks, of a half-precision weight's gradient in float32.

    The bits depend on the shapes, the chunk, NumPy's BLAS and its threads.

    References
    ----------
    `torch.nn.LinearCrossEntropyLoss`; Wijmans et al., "Cut your losses in large-vocabulary language models"
    (2025).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss
    >>> loss = fastloss.LinearCrossEntropyLoss()
    >>> x, w = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> value, (by_input, by_weight) = loss.value_and_grad(x, w, [0, 1])
    >>> print(f"{value:.6f}")
    0.239545
    >>> by_weight.round(3)
    array([[-0.107,  0.053],
           [ 0.053, -0.107],
           [ 0.053,  0.053]])
    """

    _function = "linear_cross_entropy"
    _loss: CrossEntropyLoss[Any]
    weight: Array | None
    ignore_index: int | tuple[int, ...]
    reduction: str
    label_smoothing: float
    empty: str
    z_loss: float
    softcap: float | None
    unchecked: bool
    chunk: int | None

    @overload
    def __init__(
        self: LinearCrossEntropyLoss[Array],
        weight: ArrayLike | None = None,
        *,
        reduction: Each,
        **options: Unpack[LinearOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: LinearCrossEntropyLoss[float],
        weight: ArrayLike | None = None,
        *,
        reduction: Reduced = "mean",
        **options: Unpack[LinearOptions],
    ) -> None: ...

    @shortening
    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int | Sequence[int] = -100,
        reduction: Each | Reduced = "mean",
        label_smoothing: float = 0.0,
        empty: Empty = "nan",
        z_loss: float = 0.0,
        softcap: float | None = None,
        unchecked: bool = False,
        chunk: int | None = None,
    ) -> None:
        loss: Any = CrossEntropyLoss(
            weight,
            ignore_index=ignore_index,
            reduction=cast(Reduced, reduction),
            label_smoothing=label_smoothing,
            axis=-1,
            empty=empty,
            z_loss=z_loss,
            softcap=softcap,
            unchecked=unchecked,
        )
        rows = None if chunk is None else positive(chunk, "chunk", "a positive number of rows, or None")
        options = {**loss.options(), "chunk": rows}
        for name in ("axis", "scale", "bias"):
            del options[name]
        self.__dict__.update(options, _options=options, _loss=loss)

    @shortening
    def __call__(
        self,
        input: ArrayLike,
        linear_weight: ArrayLike,
        target: ArrayLike,
        *,
        linear_bias: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        out: Array | None = None,
    ) -> V:
        """Return the value.

        Parameters
        ----------
        %(linear)s
        %(samples)s
        %(out)s

        Returns
        -------
        %(value)s

        Raises
        ------
        %(raises_of_labels)s

        Examples
        --------
        >>> import fastloss
        >>> fastloss.LinearCrossEntropyLoss()([[1.0]], [[0.0], [0.0]], [0])
        0.6931471805599453
        """
        samples = (sample_weight, mask, normalizer, None, out)
        return cast(V, self._evaluate((input, linear_weight, linear_bias), target, samples)[0])

    @shortening
    def value_and_grad(
        self,
        input: ArrayLike,
        linear_weight: ArrayLike,
        target: ArrayLike,
        *,
        linear_bias: ArrayLike | None = None,
        wrt: str | Sequence[str] = ("input", "linear_weight"),
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
        grad_input_out: Array | None = None,
        grad_weight_out: Array | None = None,
        grad_bias_out: Array | None = None,
        accumulate: bool = False,
    ) -> tuple[V, Any]:
        """Return the value and its derivatives with respect to input, weight and bias.

        Parameters
        ----------
        %(linear)s
        wrt : {"input", "linear_weight", "linear_bias"} or sequence of these
            What to differentiate by, by default ``("input", "linear_weight")``; a sequence gives a tuple.
        %(samples)s
        %(grad_output)s
        %(out)s
        grad_input_out : ndarray, optional
            Array of input's shape and dtype to fill; it may be `input` itself.
        grad_weight_out : ndarray, optional
            Array of the weight's shape and dtype to fill.
        grad_bias_out : ndarray, optional
            Array of the bias's shape and dtype to fill. All three may be float32 beside half precision.
        accumulate : bool, default: False
            Add the gradients to what the arrays hold, in place of filling them.

        Returns
        -------
        value : float or ndarray
            The value, in nats: a float, or under "none" the array of values.
        grad : ndarray or tuple of ndarray
            The gradients, each in the shape of what is differentiated by, and its dtype if that is a float; a
            tuple where `wrt` is a sequence. Under "none" they are the derivatives of the sum of the values.

        Raises
        ------
        %(raises_of_labels)s

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.LinearCrossEntropyLoss()
        >>> loss.value_and_grad([[1.0]], [[0.0], [0.0]], [0], wrt="linear_weight")
        (0.6931471805599453, array([[-0.5],
               [ 0.5]]))
        """
        names = choices_of(wrt, "wrt", tuple(GRADIENTS))
        outs = dict(zip(GRADIENTS, (grad_input_out, grad_weight_out, grad_bias_out), strict=True))
        for name, array in outs.items():
            if array is not None and name not in names:
                raise ValueError(f"{GRADIENTS[name]}: it is for the gradient by {name!r}, not named by wrt")
        if linear_bias is None and "linear_bias" in names:
            raise ValueError("wrt: got 'linear_bias', and there is no linear_bias")
        if flag(accumulate, "accumulate") and all(array is None for array in outs.values()):
            raise ValueError(f"accumulate: wanted an array to add to, one of {', '.join(GRADIENTS.values())}")
        operands, samples = (
            (input, linear_weight, linear_bias),
            (sample_weight, mask, normalizer, grad_output, out),
        )
        given = {name: outs[name] for name in names}
        value, grads = self._evaluate(operands, target, samples, given, accumulate)
        return cast(V, value), grads[wrt] if isinstance(wrt, str) else tuple(grads[name] for name in names)

    def _evaluate(
        self,
        operands: tuple[Any, Any, Any],
        target: Any,
        samples: tuple[Any, ...],
        given: dict[str, Any] | None = None,
        accumulate: bool = False,
        products: Products = NUMPY,
    ) -> tuple[Any, dict[str, Array]]:
        """Value, and gradients by the names of `given`; all is checked before anything is written."""
        x, w, b, dtype = _operands(*operands)
        shape, classes = x.shape[:-1], len(w)
        logits = np.broadcast_to(dtype.type(0), (*shape, classes))  # for their shape and dtype
        call = Call(self._loss._options, logits, target, *samples, with_grad=False)
        arrays = {"input": x, "linear_weight": w, "linear_bias": b}
        call.arrays += arrays.items()
        kernel = self._kernel(call, len(shape))
        value = call.outputs()[0]
        outputs = self._outputs(call, arrays, given or {})
        expected = None
        if _checking.enabled():
            starts = {name: o.result.copy() for name, o in outputs.items() if accumulate and o.given}
            expected = _checking.expected_linear(call, arrays, starts)
        bias = None if b is None else real_operand(b, "linear_bias", dtype)
        with np.errstate(all="ignore"):
            rows = _Operands(x.reshape(math.prod(shape), w.shape[1]), w, bias, dtype)
            total = self._passes(rows, kernel, value, outputs, accumulate, products)
        result = value.finish() if value else total
        grads = {name: output.finish() for name, output in outputs.items()}
        if expected:
            _checking.compare_linear(expected, result, grads)
        return result, grads

    def _kernel(self, call: Call, axis: int) -> _Kernel:
        """What the kernels are told of the loss, and of each row that counts."""
        op, kernel, derivatives, divisor = self._loss._prepared(call, axis, ahead=True)
        counts = counted(kernel, call.samples).ravel()
        kernel |= derivatives
        kernel["mask"] = None
        each = {name: kernel.pop(name, None) for name in ("labels", "sample_weight", "grad_output")}
        rows = {name: array.reshape(-1) for name, array in each.items() if array is not None}
        if "coefficient" in kernel:
            rows["coefficient"] = kernel.pop("coefficient").reshape(len(counts), call.x.shape[axis])
        step = _step(kernel, [rows.get("sample_weight"), rows.get("grad_output")])
        kernel["factor"] = math.ldexp(kernel["factor"], -step)
        return _Kernel(_kernels.OPS[op], kernel, rows, counts, divisor, step)

    @staticmethod
    def _outputs(call: Call, arrays: dict[str, Any], given: dict[str, Any]) -> dict[str, Output]:
        """Where the gradients go."""
        outputs: dict[str, Output] = {}
        taken = [*call.arrays, ("out", call.out)]
        for name, array in given.items():
            own = arrays[name]
            dtype = stored_dtype(own, compute_dtype(own, name))
            wider = (FLOAT32,) if dtype.itemsize == 2 else ()
            if wider and isinstance(array, np.ndarray) and array.dtype.newbyteorder("=") == FLOAT32:
                dtype, wider = FLOAT32, ()
            place = GRADIENTS[name]
            outputs[name] = Output(
                array,
                place,
                own.shape,
                dtype,
                also=wider,
                apart_from=taken,
                in_place=("input",) if name == "input" else (),
            )
            taken.append((place, array))
        return outputs

    def _passes(
        self,
        operands: _Operands,
        kernel: _Kernel,
        value: Output | None,
        outputs: dict[str, Output],
        accumulate: bool,
        products: Products,
    ) -> float:
        """Fill what is to be filled, a chunk after the other, and return the reduced value."""
        counted, classes = kernel.counted, len(operands.weight)
        which = None if counted.all() else np.flatnonzero(counted)
        rows = len(counted) if which is None else len(which)
        step = max(1, _chunk_rows(rows, classes * operands.dtype.itemsize, self.chunk))
        if value and which is not None:
            value.buffer.fill(0)
        if not rows or not kernel.divisor:
            for output in outputs.values():
                if not _adds(output, accumulate):
                    output.buffer.fill(0)
            if value:
                value.buffer.fill(0)
            return 0.0 if kernel.divisor else self._loss._of_nothing()
        back = _Gradients(operands, outputs, -(-rows // step), accumulate, products, kernel.step)
        buffer = np.empty((min(step, rows), classes), operands.dtype)
        total = 0.0
        for start in range(0, rows, step):
            at: Any = slice(start, min(start + step, rows))
            at = at if which is None else which[at]
            x = operands.rows(at, products)
            logits = buffer[: len(x)]
            for part, panel in operands.panels(products):
                products.multiply(x, panel.T, logits[:, part])
            if operands.bias is not None:
                logits += operands.bias
            values = np.empty(len(x), operands.dtype) if value else None
            total += kernel.run(logits, at, values, bool(outputs))
            if value:
                value.buffer.reshape(-1)[at] = values
            if outputs:
                back.add(at, x, logits)
        if which is not None:
            back.clear(~counted)
        return total


@overload
def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Each,
    **options: Unpack[LinearCall],
) -> Array: ...


@overload
def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Reduced = "mean",
    **options: Unpack[LinearCall],
) -> float: ...


def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    ignore_index: int | Sequence[int] = -100,
    reduction: Each | Reduced = "mean",
    label_smoothing: float = 0.0,
    empty: Empty = "nan",
    z_loss: float = 0.0,
    softcap: float | None = None,
    unchecked: bool = False,
    chunk: int | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    normalizer: float | None = None,
    out: Array | None = None,
) -> Any:
    """Cross-entropy of logits input @ linear_weight.T + linear_bias, which are never there as a whole.

    %(LinearCrossEntropyLoss)s

    Examples
    --------
    >>> import fastloss
    >>> fastloss.linear_cross_entropy([[1.0, 0.0]], [[0.0, 2.0], [0.0, 1.0]], [1])
    0.6931471805599453
    """
    loss: Any = LinearCrossEntropyLoss(
        weight,
        ignore_index=ignore_index,
        reduction=cast(Reduced, reduction),
        label_smoothing=label_smoothing,
        empty=empty,
        z_loss=z_loss,
        softcap=softcap,
        unchecked=unchecked,
        chunk=chunk,
    )
    samples = {"sample_weight": sample_weight, "mask": mask, "normalizer": normalizer, "out": out}
    return loss(input, linear_weight, target, linear_bias=linear_bias, **samples)
