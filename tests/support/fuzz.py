"""Calls of the public API from bytes, compared with the reference: `python -m tests.support.fuzz [inputs]`.

`one` turns bytes into a call, and makes it on every instruction set, as value and gradient, some with the
Hessian's diagonal, and as value alone, with outputs and without. Either all agree, with `fastloss.reference`
and with each other, to the bit where bits are promised; or all raise the same documented exception, which
names an argument, and no output has changed. Nothing warns, and arguments stay as they were. Coverage guides
the bytes where atheris is installed; hypothesis draws them otherwise.
"""

import collections
import contextlib
import math
import re
import sys
import tempfile
import types
import warnings
from pathlib import Path

import numpy as np

import fastloss
from fastloss import _kernels

from .cases import ARRAY_FUNCTIONS, CLASSES, LAYOUTS, WITH_OUT, loss, same_bits

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

CORPUS = Path(__file__).with_name("corpus.txt")  # one call a line, in hexadecimal

FUNCTIONS = [*CLASSES, *ARRAY_FUNCTIONS]
HEADS = {"focal_loss": "gamma", "generalized_cross_entropy": "q", "poly_loss": "epsilon"}
INDEXED = ["cross_entropy", "nll_loss", *HEADS]
WITH_CLASSES = [*INDEXED, "multinomial_nll_loss"]
NAMED = re.compile(
    r"(input|target|weight|pos_weight|sample_weight|grad_output|out|grad_out|reduction|ignore_index|label_smoothing"
    r"|axis|full|log_target|unchecked|x|p|keepdims|mask|where|normalizer|empty|gamma|q|epsilon|z_loss|softcap|scale|bias|alpha|eps|log_input|var"
    r"|hessian|floor)\b"
)
DOCUMENTED = (TypeError, ValueError, IndexError, MemoryError)

FLOATS = [np.float32, np.float64, np.float16, *([ml_dtypes.bfloat16] if ml_dtypes else [])]
INTEGERS = [np.int64, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64, np.bool_]
LENGTHS = [3, 1, 2, 5, 0, 7, 31, 32, 33, 64, 65, 127, 128, 129, 300, 2049]
MOST = 6000  # elements of an array

LOGITS = np.array(
    [0, 1, -1, 0.5, 3, -7.25, 20, -30, 88.5, -104, 1e-3, 700, -745.25, 1e4, -math.inf, 1e30, -1e30, math.inf,
     math.nan, 1e-30, 1e-40, 5e-324, -65504, 2**24 + 1]
)  # fmt: skip
POINTS = LOGITS[~(np.abs(LOGITS) > 1e4) | np.isinf(LOGITS)]  # their squares do not overflow
TARGETS = POINTS[~(POINTS > 30)]  # nor do their exponentials
UNIT = np.array([0, 1, 0.25, 0.7, 0.5, 1e-3, 1e-9, 1 - 2.0**-24, 2.0**-149, 1e-300, math.nan])
WEIGHTS = np.array([1, 0.5, 2, 0.125, 0, 7.5, 6e4, 1e-4, math.nan])  # whose products do not underflow
COUNTS = np.array([0, 1, 2, 3, 17, 0.5, 6e4, math.nan])

RAGGED = [[1.0, 2.0], [3.0]]
UNFIT = [
    None, "text", b"bytes", object(), RAGGED, {"a": 1}, 1j, [], True, 2**70, -(2**63), 1.5, math.nan,
    lambda: None, np.zeros(3, complex), np.full((3, 3), None), np.array(["a"]), np.zeros(3, "M8[s]"),
    np.zeros(3, "m8[s]"), np.zeros(3, [("a", float)]), np.zeros(3, np.longdouble),
    np.zeros(3, np.dtypes.StringDType()), np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), np.zeros(3, "V4"),
    np.zeros((1,) * 40), np.broadcast_to(np.float32(1), (2**40, 3)), np.broadcast_to(np.int8(1), (2**62,)),
    np.broadcast_to(1.0, (3, 2**50)),
]  # fmt: skip


class Bytes:
    """Choices from bytes; the first choice, which is the plainest, once they are used up."""

    def __init__(self, data):
        self.data, self.at = data, 0
        self.defined = (
            True  # not with infinite, negative or odd weights or targets: nothing is promised of them
        )

    def number(self, n):
        self.at += 1
        return self.data[self.at - 1] % n if self.at <= len(self.data) else 0

    def one_of(self, choices):
        return choices[self.number(len(choices))]

    def rarely(self):
        return self.number(32) == 31

    def sometimes(self):
        return self.number(4) == 3

    def shape(self, ndim):
        shape = []
        for _ in range(ndim):
            n = self.one_of(LENGTHS)
            shape.append(n if n * math.prod(max(1, m) for m in shape) <= MOST else self.number(3))
        return tuple(shape)

    def numbers(self, values, shape, dtype):
        """An array of some of the values, mostly of the first, tame ones."""
        if values is not LOGITS and values is not POINTS and self.rarely():
            values, self.defined = np.append(values, [math.inf, -math.inf, -1, 1.5])[::-1], False
        many = 1 + self.number(24)
        tame = 1 + self.number(len(values))
        pattern = [values[self.number(tame)] for _ in range(many)]
        array = np.resize(np.array(pattern), shape)
        if np.dtype(dtype).kind in "biu":
            array = np.nan_to_num(array).clip(-100 * (np.dtype(dtype).kind == "i"), 100)
        return np.asarray(array).astype(dtype)

    def layout(self, array):
        if self.sometimes():
            array = LAYOUTS[self.one_of(LIST_OF_LAYOUTS)](array)
        elif self.rarely() and array.size:
            axis = self.number(max(1, array.ndim))
            array = np.broadcast_to(array.take([0], axis), array.shape) if array.ndim else array
        elif self.rarely() and array.dtype.kind in "biuf" and array.size:
            array = array.tolist()
        return array

    def array(self, values, shape, dtypes=FLOATS):
        """Numbers in some dtype, layout and, rarely, a wrong shape; or, rarely, anything else."""
        if self.rarely():
            self.defined = False  # -2^63 fits where a number will do
            return self.one_of(UNFIT)
        if self.rarely():
            shape = self.shape(self.number(4))
        dtype = self.one_of(INTEGERS) if self.rarely() else self.one_of(dtypes)
        return self.layout(self.numbers(values, shape, dtype))

    def labels(self, classes, shape):
        if self.rarely():
            return self.one_of(UNFIT)
        if self.rarely():
            shape = self.shape(self.number(3))
        dtype = np.dtype(self.one_of(INTEGERS))
        pattern = [self.number(max(1, classes)) for _ in range(1 + self.number(16))]
        array = np.resize(np.array(pattern), shape)
        if self.rarely() and array.size:
            wrong = [-100, -1, classes, 2**63 - 1, -(2**63), 2**31, 255]
            array.flat[self.number(array.size)] = self.one_of(wrong)
        array = array.astype(dtype)
        if self.rarely() and array.size and dtype == np.uint64:
            array.flat[self.number(array.size)] = self.one_of([2**63, 2**64 - 1, 2**64 - 100])
        return self.layout(array)

    def broadcast_shape(self, shape):
        """A shape that broadcasts to `shape`."""
        shape = tuple(1 if self.sometimes() else n for n in shape)
        return shape[self.number(len(shape) + 1) :]

    def mask(self, shape):
        """Bools that broadcast to `shape`, rarely anything else."""
        if self.rarely():
            return self.one_of(UNFIT)
        pattern = [self.number(4) != 0 for _ in range(1 + self.number(16))]
        array = np.resize(np.array(pattern), self.broadcast_shape(shape))
        if self.rarely():
            array = array.astype(self.one_of(INTEGERS))
        return self.layout(array)

    def output(self, shape, dtype):
        """An array to fill with 7s before the call, rarely one that does not fit."""
        if self.rarely():
            return self.one_of(UNFIT[:25])
        if self.rarely():
            shape = self.shape(self.number(3))
        array = self.layout(np.full(shape, 7).astype(self.one_of(FLOATS) if self.rarely() else dtype))
        return array


LIST_OF_LAYOUTS = list(LAYOUTS)


def call_of(b):
    """(function's name, positional arguments, options of the class, arguments of the call) from bytes."""
    name = b.one_of(FUNCTIONS)
    shape = b.shape(1 + b.number(4) if b.sometimes() else 2)
    if b.rarely():
        shape = ()
    dtypes = [b.one_of(FLOATS)]
    axis = min(1, len(shape) - 1)
    given = {}
    if name in ARRAY_FUNCTIONS:
        x, x_shape = b.array(UNIT if name == "entropy" else LOGITS, shape, dtypes), shape
        axis = len(shape) - 1
        if "sigmoid" not in name and b.sometimes():
            axis = b.number(9) - 4
            given["axis"] = b.one_of(UNFIT) if b.rarely() else axis
        if name == "logsumexp" and b.sometimes():
            given["keepdims"] = b.one_of(UNFIT) if b.rarely() else True
        if name in WITH_OUT and b.sometimes():
            if name == "logsumexp" and -len(shape) <= axis < len(shape):
                axis %= len(shape)
                middle = (1,) if given.get("keepdims") is True else ()
                shape = shape[:axis] + middle + shape[axis + 1 :]
            given["out"] = x if b.rarely() else b.output(shape, dtypes[0])
        if b.sometimes():
            given["where"] = b.mask(x_shape)
        return name, (x,), {}, given
    options, value_shape, classes = {}, shape, 0
    if name in WITH_CLASSES:
        if b.sometimes():
            axis = b.number(9) - 4
            options["axis"] = b.one_of(UNFIT) if b.rarely() else axis
        if -len(shape) <= axis < len(shape):
            axis %= len(shape)
            value_shape = shape[:axis] + shape[axis + 1 :]
            classes = shape[axis]
    reductions = ["mean", "sum", "none", *(["batchmean"] if name == "kl_div" else [])]
    reduction = b.one_of(reductions)
    options["reduction"] = b.one_of(UNFIT) if b.rarely() else reduction
    values = UNIT if name == "binary_cross_entropy" else LOGITS if name in WITH_CLASSES else POINTS
    x = b.array(values, shape, dtypes)
    if name in INDEXED:
        soft = name == "cross_entropy" and b.sometimes()
        y = b.array(UNIT, shape) if soft else b.labels(classes, value_shape)
        if b.sometimes():
            options["weight"] = b.array(WEIGHTS, (classes,))
        if b.sometimes():
            options["ignore_index"] = b.one_of(UNFIT) if b.rarely() else b.one_of([1, -1, 255, 2**63 - 1])
        if name == "cross_entropy" and b.sometimes():
            options["label_smoothing"] = (
                b.one_of(UNFIT) if b.rarely() else b.one_of([0.125, 1, 0.0, 1e-9, -0.5, 2])
            )
        if name in HEADS and b.sometimes():
            parameters = [0.5, 1, 0, 2, 1e-9, 2.5, 17, -0.5, 1e4]
            options[HEADS[name]] = b.one_of(UNFIT) if b.rarely() else b.one_of(parameters)
    elif name == "multinomial_nll_loss":
        y = b.array(COUNTS, shape)
        if b.sometimes():
            options["full"] = b.one_of(UNFIT) if b.rarely() else True
    else:
        y = b.array(TARGETS if name in ("mse_loss", "kl_div") and b.sometimes() else UNIT, shape)
        if name == "kl_div" and b.sometimes():
            options["log_target"] = b.one_of(UNFIT) if b.rarely() else True
        if name == "multilabel_soft_margin_loss" and shape:
            value_shape = shape[:-1]
        if name.startswith(("binary", "multilabel")) and b.sometimes():
            options["weight"] = b.array(WEIGHTS, b.broadcast_shape(shape))
        if name == "sigmoid_focal_loss" and b.sometimes():
            options["gamma"] = b.one_of(UNFIT) if b.rarely() else b.one_of([0, 1, 0.5, 5, 30.5, -1])
            options["alpha"] = b.one_of(UNFIT) if b.rarely() else b.one_of([None, 0.25, 0, 1, 2])
        if name in ("poisson_nll_loss", "gaussian_nll_loss") and b.sometimes():
            options["full"] = b.one_of(UNFIT) if b.rarely() else True
            options["eps"] = b.one_of(UNFIT) if b.rarely() else b.one_of([1e-3, 2, 0, -1])
        if name == "poisson_nll_loss" and b.sometimes():
            options["log_input"] = b.one_of(UNFIT) if b.rarely() else False
        if name == "gaussian_nll_loss":
            given["var"] = b.array(WEIGHTS, shape if b.sometimes() else b.broadcast_shape(shape))
        if name.endswith("logits") and b.sometimes():
            options["pos_weight"] = b.array(WEIGHTS, b.broadcast_shape(shape))
    if b.sometimes():
        given["sample_weight"] = b.array(WEIGHTS, b.broadcast_shape(value_shape))
    if b.sometimes():
        whole = reduction == "none" and b.sometimes()
        given["grad_output"] = b.array(WEIGHTS, value_shape if whole else ())
    wide = np.float64 if dtypes[0] == np.float64 else np.float32
    if reduction == "none" and b.sometimes():
        given["out"] = b.one_of([x, y]) if b.rarely() else b.output(value_shape, wide)
    if b.sometimes():
        given["grad_out"] = (
            b.one_of([x, y, given.get("sample_weight")]) if b.sometimes() else b.output(shape, dtypes[0])
        )
    if b.sometimes():
        given["mask"] = b.mask(value_shape)
    if b.sometimes() and (reduction in ("mean", "batchmean") or b.rarely()):
        given["normalizer"] = (
            b.one_of(UNFIT) if b.rarely() else b.one_of([8, 0.75, np.float32(3), 1e9, -1, 0])
        )
    if name in WITH_CLASSES and name != "nll_loss" and b.sometimes():
        options["z_loss"] = b.one_of(UNFIT) if b.rarely() else b.one_of([0.125, 1e-4, 0.0, 3, -1])
    if name in WITH_CLASSES and name != "nll_loss" and b.sometimes():
        options["softcap"] = b.one_of(UNFIT) if b.rarely() else b.one_of([4.0, 30, None, 1e4, 0])
    if name in WITH_CLASSES and name != "nll_loss" and b.rarely():
        options["scale"] = (
            b.array(WEIGHTS, (classes,)) if b.sometimes() else b.one_of([0.5, -2, 0, 1e31, None])
        )
        if b.sometimes():
            options["bias"] = b.array(WEIGHTS, (classes,))
    if b.sometimes():
        options["empty"] = b.one_of(UNFIT) if b.rarely() else "zero"
    if "unchecked" in loss(name).options():
        options["unchecked"] = not b.sometimes()
    if name in INDEXED and b.sometimes():
        options["ignore_index"] = b.one_of([(1,), (0, 2), [255, -1], {3}, (), np.array([1, 2]), (1.5,), "1"])
    return name, (x, y), options, given


def second_order(b):
    """Arguments beside those of value_and_grad, or none."""
    if not b.sometimes():
        return {}
    rules = ["exact", "bound", "friedman", "residual", 0.5, 3]
    given = {"hessian": b.one_of(UNFIT) if b.rarely() else b.one_of(rules)}
    if b.sometimes():
        given["floor"] = b.one_of([-1, *UNFIT]) if b.rarely() else b.one_of([0, 1e-16, 0.25])
    return given


def plain(value):
    """An array as numbers to compare; other things as they are."""
    return np.array(value) if isinstance(value, np.ndarray) and value.nbytes < 2**20 else None


def fresh(arrays):
    """Copies of a call's arguments, in the same layout and with the same overlaps, and what they hold now."""
    kept = {id(a): (a, plain(a)) for a in arrays if isinstance(a, np.ndarray)}
    return [(a, held) for a, held in kept.values() if held is not None and not a.dtype.hasobject]


def unchanged(a, held):
    return np.asarray(a).tobytes() == held.tobytes()


def restore(held):
    for a, before in held:
        if a.flags.writeable and not unchanged(a, before):
            np.copyto(a, before)


calls = collections.Counter()


def attempt(function, args, given):
    """("value", result) or ("error", type, message)."""
    calls["all"] += 1
    try:
        return "value", function(*args, **given)
    except MemoryError:
        return "error", MemoryError, ""  # what could not be had depends on what came before
    except DOCUMENTED as error:
        return "error", type(error), str(error)


def settled(outcome):
    """The outcome with its arrays copied, as the next call may overwrite them."""
    if outcome[0] == "error":
        return outcome
    result = outcome[1] if isinstance(outcome[1], tuple) else (outcome[1],)
    return "value", tuple(np.array(part, np.asarray(part).dtype.newbyteorder("=")) for part in result)


def agree(name, outcome, other, what):
    if outcome[0] == "error" or other[0] == "error":
        assert outcome == other, f"{name}: {what}: {outcome} and {other}"
    else:
        for a, b in zip(outcome[1], other[1], strict=False):
            if a.dtype == np.float32 and b.dtype == np.float64:  # a gradient that is rounded as it is stored
                b = b.astype(np.float32)
            assert same_bits(a, b), f"{name}: {what}: {a!r} and {b!r}"


def one(data):
    """The calls that the bytes say. Returns what came out, by which a corpus can be chosen."""
    b = Bytes(data)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        name, args, options, given = call_of(b)
    isa = b.one_of(_kernels.available)
    second = second_order(b) if name in CLASSES else {}
    before = _kernels.active
    held = fresh([*args, *options.values(), *given.values()])
    outputs = [given.get("out"), given.get("grad_out")]
    calls["inputs"] += 1

    def called():
        if name in ARRAY_FUNCTIONS:
            return attempt(getattr(fastloss, name), args, given)
        try:
            made = loss(name, **options)
        except DOCUMENTED as error:
            return "error", type(error), str(error)
        return attempt(made.value_grad_hess if second else made.value_and_grad, args, {**given, **second})

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _kernels.use(isa)
            with fastloss.checking() if b.defined else contextlib.nullcontext():
                first = settled(called())
            if first[0] == "error":
                assert first[1] is MemoryError or NAMED.match(first[2]), first
            for a, was in held:
                if first[0] == "error" or not any(a is o for o in outputs):
                    assert unchanged(a, was), f"{name}: an argument has changed; {first}"
            restore(held)
            alike = first
            for other in _kernels.available:
                _kernels.use(other)
                again = settled(called())
                if first[0] == "value" and "base" in (isa, other) and isa != other:
                    alike = again if other != "base" and alike is first else alike
                    if other == "base":
                        restore(held)
                        continue
                agree(name, alike, again, f"{isa} and {other}")
                restore(held)
            _kernels.use(isa)
            if not second:  # which may sum in another order
                shorter(name, args, options, given, first)
            restore(held)
    finally:
        _kernels.use(before)
    return (
        name,
        first[0],
        re.sub(r"[^A-Za-z_:]+", " ", first[2])[:24] if first[0] == "error" else "",
        len(first),
    )


def shorter(name, args, options, given, first):
    """The value alone, by function and object, and without outputs: the same bits."""
    free = {k: v for k, v in given.items() if k not in ("out", "grad_out")}
    if name in ARRAY_FUNCTIONS:
        if first[0] == "value" and "out" in given:
            agree(name, first, settled(attempt(getattr(fastloss, name), args, free)), "without out")
        return
    if first[0] == "value" and len(free) < len(given):
        agree(
            name, first, settled(attempt(loss(name, **options).value_and_grad, args, free)), "without outputs"
        )
    alone = {k: v for k, v in free.items() if k != "grad_output"}
    weights = [options.pop("weight")] if "weight" in options and name not in HEADS else []
    value = settled(attempt(getattr(fastloss, name), [*args, *weights], {**options, **alone}))
    if first[0] == "value":
        agree(name, (first[0], first[1][:1]), value, "value alone")


def run(wanted):
    """Try about so many inputs and say how many they were."""
    seeds = [bytes.fromhex(line) for line in CORPUS.read_text().split()] if CORPUS.exists() else []
    try:
        import atheris
    except ImportError:
        from hypothesis import given, settings
        from hypothesis import strategies as st

        def drawn(data):
            one(data)

        settings(max_examples=wanted, deadline=None, database=None)(given(st.binary(max_size=400))(drawn))()
        print(f"{calls['inputs']} inputs, {calls['all']} calls: all agree")
        return
    for module in (fastloss._arguments, fastloss.arrays, fastloss.losses.classes, fastloss.losses.pointwise):
        for function in list(vars(module).values()):
            if isinstance(function, types.FunctionType) and function.__module__ == module.__name__:
                atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as folder:
        for i, seed in enumerate(seeds):
            Path(folder, str(i)).write_bytes(seed)

        def fuzzed(data):
            one(data)
            if calls["inputs"] % 10_000 == 0:
                print(f"{calls['inputs']} inputs, {calls['all']} calls: all agree", flush=True)

        atheris.Setup([sys.argv[0], f"-runs={wanted}", "-max_len=400", "-len_control=0", folder], fuzzed)
        atheris.Fuzz()


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
