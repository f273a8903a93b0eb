"""Every argument of every public function, with everything that it may not be.

A wrong argument gives a TypeError, ValueError, IndexError or MemoryError that begins with its name, no
warning, no output is written, and the traceback shows three frames of the package at most.
"""

import itertools
import os
import re
import traceback
from functools import partial

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fastloss
from fastloss import boosting
from tests.support.cases import CLASSES, HEADS, loss

DOCUMENTED = (TypeError, ValueError, IndexError, MemoryError)
inf, nan = np.inf, np.nan

endless = []
endless.append(endless)


class Refusing:
    """On another device, as DLPack says it."""

    def __dlpack__(self, **keywords):
        raise BufferError("on another device")

    def __dlpack_device__(self):
        return 2, 0


NOT_NUMBERS = {
    "string": "text",
    "bytes": b"bytes",
    "object": object(),
    "dict": {"a": 1},
    "function": len,
    "complex": np.zeros((4, 5), complex),
    "strings": np.full((4, 5), "a"),
    "variable strings": np.full((4, 5), "a", np.dtypes.StringDType()),
    "objects": np.full((4, 5), None),
    "numbers as objects": np.ones((4, 5), object),
    "dates": np.zeros((4, 5), "M8[s]"),
    "durations": np.zeros((4, 5), "m8[s]"),
    "records": np.zeros((4, 5), [("a", float)]),
    "void": np.zeros((4, 5), "V8"),
    "long double": np.zeros((4, 5), np.longdouble),
    "masked": np.ma.array(np.zeros((4, 5)), mask=True),
    "ragged": [[1.0, 2.0], [3.0]],
    "endless": endless,
    "huge integer": 2**70,
    "other device": Refusing(),
}
if np.dtype(np.longdouble) == np.float64:
    del NOT_NUMBERS["long double"]
NOT_SHAPES = {
    "40 dimensions": np.ones((1,) * 40 + (3,)),
    "another shape": np.ones((7, 3)),
    "no elements": np.ones((4, 0)),
    "10^15 elements": np.broadcast_to(np.float32(1), (10**15,)),
    "zero strides": as_strided(np.zeros(1, np.int8), (2**31, 2**31), (0, 0)),
    "2^62 bytes": np.broadcast_to(np.int8(1), (2**62,)),
}
NOT_ARRAYS = {**NOT_NUMBERS, **NOT_SHAPES}
NOT_FLOATS = {
    "string": "much",
    "list": [0.5],
    "ragged": [[1.0, 2.0], [3.0]],
    "array": np.zeros(2),
    "object": object(),
}
NOT_FLOATS |= {"complex": 1j, "nan": nan, "inf": inf, "negative": -0.5, "above 1": 2, "huge integer": 2**70}
NOT_INTEGERS = {
    "float": -100.0,
    "nan": nan,
    "bool": True,
    "string": "1",
    "list": [1],
    "array": np.array([1, 1]),
}
NOT_INTEGERS |= {"0-d array": np.array(1), "complex": 1j, "2^63": 2**63, "-2^70": -(2**70)}
NOT_FLAGS = {"None": None, "integer": 1, "string": "yes", "array": np.array([True, False]), "float": nan}
NOT_REDUCTIONS = {
    "None": None,
    "unknown": "avg",
    "bytes": b"mean",
    "list": ["mean"],
    "array": np.array(["mean", "sum"]),
}
NOT_REDUCTIONS |= {"nan": nan, "integer": 0}
NOT_AXES = {**NOT_INTEGERS, "2": 2, "-3": -3, "int64 minimum": -(2**63)}
NOT_OUTPUTS = {
    "list": [7.0] * 4,
    "number": 7.0,
    "bytes": bytearray(160),
    "shape": np.full((4, 5, 1), 7.0),
    "no dimensions": np.array(7.0),
    "no elements": np.zeros((0, 5)),
    "integers": np.full((4, 5), 7),
    "precision": np.full((4, 5), 7, np.float16),
    "objects": np.full((4, 5), 7.0, object),
    "strings": np.full((4, 5), "7", np.dtypes.StringDType()),
    "records": np.zeros((4, 5), [("a", float)]),
    "read-only": np.broadcast_to(7.0, (4, 5)),
    "overlaps itself": as_strided(np.full(8, 7.0), (4, 5), (8, 8)),
    "one element": as_strided(np.full(1, 7.0), (4, 5), (0, 0)),
}

#: Logits, probabilities and, by rounding, their logarithms; distributions.
X, LABELS, Y = np.linspace(1e-4, 9e-4, 20).reshape(4, 5), np.array([0, 1, 2, 3]), np.full((4, 5), 0.2)
SHARED_OPTIONS = {"reduction": NOT_REDUCTIONS, "empty": {**NOT_REDUCTIONS, "float": nan}}
CLASS_OPTIONS = {**SHARED_OPTIONS, "axis": NOT_AXES}
CHECKED = {"unchecked": NOT_FLAGS}
NOT_LABELS = {key: bad for key, bad in NOT_INTEGERS.items() if key not in ("list", "array")}
NOT_LABELS |= {"floats": [1.0], "list of bools": [True], "nested": [[1], [2]], "2^63 in a list": [2**63]}
NOT_LABELS |= {"bytes": b"1", "matrix": np.ones((2, 2), int), "None": None, "2^31": np.broadcast_to(1, 2**31)}
INDEXED = {**CLASS_OPTIONS, "weight": NOT_ARRAYS, "ignore_index": NOT_LABELS}
NOT_AT_LEAST_0 = {**{kind: bad for kind, bad in NOT_FLOATS.items() if kind != "above 1"}, "None": None}
NOT_CAPS = {**{kind: bad for kind, bad in NOT_FLOATS.items() if kind != "above 1"}, "0": 0.0, "1e31": 1e31}
NOT_OF_CLASSES = {kind: bad for kind, bad in NOT_ARRAYS.items() if kind != "None"}
NOT_OF_CLASSES |= {"nan": [nan] * 5, "inf": [1.0, 1.0, inf, 1.0, 1.0], "number": 0.5}
NOT_SCALES = {kind: bad for kind, bad in NOT_OF_CLASSES.items() if kind != "number"} | {"1e31": -1e31}
SOFTMAX = {"z_loss": NOT_AT_LEAST_0, "softcap": NOT_CAPS, "scale": NOT_SCALES, "bias": NOT_OF_CLASSES}
NOT_FINITE = {kind: bad for kind, bad in NOT_AT_LEAST_0.items() if kind != "negative"}
NOT_NONNEGATIVE = {key: bad for key, bad in NOT_FLOATS.items() if key not in ("above 1", "huge integer")}
#: Target and, for each option, what it may not be.
LOSSES = {
    "cross_entropy": (
        LABELS,
        {**INDEXED, **SOFTMAX, **CHECKED, "label_smoothing": {**NOT_FLOATS, "None": None}},
    ),
    "focal_loss": (LABELS, {**INDEXED, **SOFTMAX, "gamma": NOT_AT_LEAST_0}),
    "generalized_cross_entropy": (
        LABELS,
        {**INDEXED, **SOFTMAX, "q": {**NOT_FLOATS, "0": 0.0, "None": None}},
    ),
    "poly_loss": (LABELS, {**INDEXED, **SOFTMAX, "epsilon": NOT_FINITE}),
    "nll_loss": (LABELS, INDEXED),
    "multinomial_nll_loss": (Y, {**CLASS_OPTIONS, **SOFTMAX, **CHECKED, "full": NOT_FLAGS}),
    "binary_cross_entropy_with_logits": (
        Y,
        {**SHARED_OPTIONS, **CHECKED, "weight": NOT_ARRAYS, "pos_weight": NOT_ARRAYS},
    ),
    "binary_cross_entropy": (Y, {**SHARED_OPTIONS, **CHECKED, "weight": NOT_ARRAYS}),
    "kl_div": (Y, {**SHARED_OPTIONS, **CHECKED, "log_target": NOT_FLAGS}),
    "mse_loss": (Y, SHARED_OPTIONS),
    "sigmoid_focal_loss": (
        Y,
        {**SHARED_OPTIONS, **CHECKED, "gamma": {**NOT_NONNEGATIVE, "None": None}, "alpha": NOT_FLOATS},
    ),
    "soft_margin_loss": (Y, SHARED_OPTIONS),
    "multilabel_soft_margin_loss": (Y, {**SHARED_OPTIONS, **CHECKED, "weight": NOT_ARRAYS}),
    "poisson_nll_loss": (
        Y,
        {
            **SHARED_OPTIONS,
            **CHECKED,
            "log_input": NOT_FLAGS,
            "full": NOT_FLAGS,
            "eps": {**NOT_NONNEGATIVE, "None": None},
        },
    ),
}
NOT_CALLED_WITH = {
    "input": {**NOT_ARRAYS, "None": None},
    "target": {**NOT_ARRAYS, "None": None},
    "sample_weight": NOT_ARRAYS,
    "grad_output": {**NOT_ARRAYS, "one element": [1.0]},
    "mask": {**NOT_NUMBERS, "integers": np.ones((4, 5), int), "floats": np.ones((4, 5)), "number": 1}
    | {"another shape": np.ones((7, 3), bool), "no elements": np.ones((4, 0), bool)},
}
NOT_CALLED_WITH = dict.fromkeys(LOSSES, NOT_CALLED_WITH)
ARRAY_FUNCTIONS = {
    **dict.fromkeys(("logsumexp", "softmax", "log_softmax", "entropy", "entropy_from_logits"), NOT_AXES),
    "sigmoid": {},
    "logsigmoid": {},
}


def refuses(argument, outputs, call, *args, **given):
    """The call raises a documented error that begins with the argument's name; no output changes."""
    before = [np.array(output) for output in outputs]
    with pytest.raises(DOCUMENTED) as caught:
        call(*args, **given)
    if not isinstance(caught.value, MemoryError):
        assert re.match(rf"{argument}\b", str(caught.value)), caught.value
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count(f'File "{os.path.dirname(fastloss.__file__)}') <= 3, shown
    for output, was in zip(outputs, before, strict=True):
        assert np.array(output).tobytes() == was.tobytes()


def wrong(table):
    """Each argument with each thing that it may not be."""
    return [
        pytest.param(name, argument, bad, id=f"{name}-{argument}-{kind}")
        for name, arguments in table.items()
        for argument, kinds in arguments.items()
        for kind, bad in kinds.items()
    ]


LINEAR = fastloss.LinearCrossEntropyLoss()
OTHERS = {
    "set_num_threads": ("n", fastloss.set_num_threads, (1.5,)),
    "threads": ("n", lambda n: fastloss.threads(n).__enter__(), (2**70,)),
    "temperature": ("target", fastloss.temperature, (X, LABELS + 9)),
    "vector_scaling, target": ("target", fastloss.vector_scaling, (X, LABELS[:2])),
    "vector_scaling, probabilities": ("target", fastloss.vector_scaling, (X, np.full_like(X, -1.0))),
    "linear, target": ("target", LINEAR, (X, X, LABELS + 9)),
    "linear, wrt": ("wrt", partial(LINEAR.value_and_grad, wrt="foo"), (X, X, LABELS)),
    "linear, chunk": ("chunk", lambda n: fastloss.LinearCrossEntropyLoss(chunk=n), (1.5,)),
    "linear, out": (
        "grad_input_out",
        partial(LINEAR.value_and_grad, grad_input_out=X[:2]),
        (X, X, LABELS % 4),
    ),
    "objective": ("y_true", boosting.Objective(fastloss.CrossEntropyLoss()), (LABELS + 9, X)),
    "objective, threads": ("threads", lambda n: boosting.Objective(fastloss.MSELoss(), threads=n), (1.5,)),
    "metric": ("y_true", boosting.Metric(fastloss.CrossEntropyLoss()), (LABELS + 9, X)),
    "prior": ("classes", lambda n: boosting.prior(fastloss.CrossEntropyLoss(), LABELS, classes=n), (1.5,)),
}


@pytest.mark.parametrize("door", OTHERS)
def test_other_functions(door):
    argument, call, args = OTHERS[door]
    refuses(argument, [], call, *args)


@pytest.mark.parametrize(("name", "option", "bad"), wrong({name: row[1] for name, row in LOSSES.items()}))
def test_options(name, option, bad):
    target = LOSSES[name][0]
    out = np.full_like(values(name), 7)
    # a weight or an axis may be wrong only for the shape of the input: then the object can be made
    refuses(option, [], lambda: loss(name, **{option: bad})(X, target))
    function = getattr(fastloss, name)
    refuses(option, [out], function, X, target, **{"reduction": "none", "out": out, option: bad})
    if option != "reduction":
        refuses(option, [out], lambda: loss(name, reduction="none", **{option: bad})(X, target, out=out))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fastloss.CrossEntropyLoss(reduction=None),
            "reduction: got NoneType, wanted 'mean', 'sum' or",
        ),
        (lambda: fastloss.KLDivLoss(reduction=1), "reduction: got int, wanted 'mean', 'batchmean', 'sum' or"),
        (lambda: fastloss.MSELoss(empty=0), "empty: got int, wanted 'nan' or 'zero"),
        (
            lambda: fastloss.CrossEntropyLoss().value_and_grad(X, LABELS, wrt=[1]),
            "wrt: got int, wanted 'input",
        ),
        (
            lambda: fastloss.CrossEntropyLoss(label_smoothing=None),
            "label_smoothing: got None, wanted a number",
        ),
        (lambda: fastloss.FocalLoss(gamma=None), "gamma: got None, wanted a number"),
        (
            lambda: fastloss.MSELoss().value_grad_hess(X, Y, floor=None),
            "floor: got None, wanted a number",
        ),
    ],
)
def test_what_is_wanted_of_an_option(call, message):
    """A word is wanted of those that there are, and in place of None a number, not an array."""
    refuses(re.escape(message), [], call)


def values(name):
    """A call's values under "none"."""
    return loss(name, reduction="none")(X, LOSSES[name][0])


@pytest.mark.parametrize(("name", "argument", "bad"), wrong(NOT_CALLED_WITH))
def test_arguments(name, argument, bad):
    target = LOSSES[name][0]
    numbers = isinstance(bad, np.ndarray) and bad.dtype in (np.float64, np.float32, np.int8)
    # shapes that do not go together are those of two arguments
    named = "(input|target|axis)" if argument == "input" and numbers else argument
    given = {"input": X, "target": target, argument: bad}
    for reduction in ("mean", "none"):
        out, grad_out = np.full_like(values(name), 7), np.full(X.shape, 7.0)
        outputs = {"grad_out": grad_out, **({"out": out} if reduction == "none" else {})}
        made = loss(name, reduction=reduction)
        refuses(named, [out, grad_out], made.value_and_grad, **given, **outputs)
        refuses(named, [], made.value_and_grad, **given)
        if argument != "grad_output":
            refuses(named, [], made, **given)
            refuses(named, [], getattr(fastloss, name), **given)


@pytest.mark.parametrize("bad", NOT_OUTPUTS.values(), ids=NOT_OUTPUTS)
@pytest.mark.parametrize("argument", ["out", "grad_out"])
@pytest.mark.parametrize("name", LOSSES)
def test_outputs(name, argument, bad):
    target = LOSSES[name][0]
    fine = np.full(X.shape, 7.0) if argument == "out" else np.full_like(values(name), 7)
    made = loss(name, reduction="none")
    refuses(
        argument,
        [fine, bad],
        made.value_and_grad,
        X,
        target,
        **{"out": fine, "grad_out": fine, argument: bad},
    )
    if argument == "out":
        refuses("out", [bad], made, X, target, out=bad)
        for mean in (loss(name), getattr(fastloss, name)):  # a number: there is nothing to fill
            refuses("out", [fine], mean, X, target, out=fine)


@pytest.mark.parametrize("name", LOSSES)
def test_outputs_that_overlap(name):
    """Each output with all or a part of each argument, and of the other output."""
    target, options = LOSSES[name]
    value_shape = values(name).shape
    memory = np.random.default_rng(3).random(500)

    def at(start, shape):
        return memory[start : start + int(np.prod(shape))].reshape(shape)

    x, y = at(20, X.shape), at(60, target.shape).view(target.dtype)
    x[...], y[...] = X, target
    before = memory.copy()
    arguments = {"sample_weight": at(100, value_shape), "grad_output": at(140, value_shape)}
    free = {"out": at(300, value_shape), "grad_out": at(340, X.shape)}
    made = loss(name, reduction="none")
    for argument, start, shift in itertools.product(free, (20, 60, 100, 140), (-3, 0, 3)):
        shape = X.shape if argument == "grad_out" else value_shape
        bad = at(start + shift, shape)
        if argument == "grad_out" and (start, shift) == (20, 0):
            bad = bad[::-1]  # all of the input, in another order
        refuses(argument, [memory], made.value_and_grad, x, y, **{**arguments, **free, argument: bad})
    if "weight" in options:  # an object has a copy, a function has not
        weight, function = at(180, (5,)), getattr(fastloss, name)
        for shift in (-3, 0, 3):
            bad = at(180 + shift, value_shape)
            refuses("out", [memory], function, x, y, weight=weight, reduction="none", out=bad)
            assert_unharmed(loss(name, weight=weight), x.copy(), y, at(180 + shift, X.shape))
            memory[:] = before
    free["out"] = at(357, value_shape)
    refuses("grad_out", [memory], made.value_and_grad, x, y, **arguments, **free)
    assert np.array_equal(memory, before)


def assert_unharmed(made, x, y, grad_out):
    expected = made.value_and_grad(x, y)
    value, grad = made.value_and_grad(x, y, grad_out=grad_out)
    assert value == expected[0]
    assert np.array_equal(grad, expected[1])


@pytest.mark.parametrize("dtype", "bhilqBHILQ")
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "focal_loss"])
def test_labels(name, dtype, isa):
    """The extremes of each integer type and their neighbours, in the first, a middle and the last place."""
    info = np.iinfo(dtype)
    labels = {info.min, info.min + 1, -1, 5, 70, 2**31, 2**63, 2**64 - 100, info.max - 1, info.max}
    made = loss(name, reduction="none")
    for classes, position, label in itertools.product((5, 70), (0, 40, 99), labels):
        if 0 <= label < classes or not info.min <= label <= info.max:
            continue
        x, target = np.zeros((100, classes)), np.zeros(100, dtype)
        target[position] = label
        outputs = {"out": np.full(100, 7.0), "grad_out": np.full(x.shape, 7.0)}
        wanted = re.escape(f"target[{position}] = {label} is out of range for {classes} classes")
        refuses(wanted, outputs.values(), made.value_and_grad, x, target, **outputs)
        refuses(wanted, [], loss(name), x, target)


@pytest.mark.parametrize(("name", "axes"), ARRAY_FUNCTIONS.items())
def test_array_functions(name, axes):
    function = getattr(fastloss, name)
    argument = "p" if name == "entropy" else "x"
    for bad in [*NOT_NUMBERS.values(), None, NOT_SHAPES["2^62 bytes"], NOT_SHAPES["10^15 elements"]]:
        refuses(argument, [], function, bad)
    for bad in axes.values():
        refuses("axis", [], function, X, bad)
    if axes:
        for bad in ((0, 0), (0, 5), (0, 1.0), (0, None), [0], ((0,),)):
            refuses("axis", [], function, X, bad)
        refuses("axis", [], function, 1.0, 1)
    if name == "logsumexp":
        for bad in NOT_FLAGS.values():
            refuses("keepdims", [], function, X, keepdims=bad)
    if "entropy" not in name:
        for bad in NOT_OUTPUTS.values():
            refuses("out", [bad], function, X, out=bad)
        memory = np.linspace(0.1, 0.9, 60)
        out = memory[:4] if name == "logsumexp" else memory[:20].reshape(4, 5)
        for start in (0, 1, 3):
            refuses("out", [memory], function, memory[start : start + 20].reshape(4, 5), out=out)
        refuses("out", [memory], function, memory[:20].reshape(4, 5)[::-1], out=out)


@pytest.mark.parametrize("name", LOSSES)
def test_zero_size_in_every_axis(name):
    """Nothing to do, unless it is the classes that are missing."""
    last = name == "multilabel_soft_margin_loss"
    axes = (0, 1, 2) if "axis" in LOSSES[name][1] else (2,) if last else (None,)
    for shape, axis in itertools.product(itertools.product((0, 3), repeat=3), axes):
        value_shape = shape if axis is None else shape[:axis] + shape[axis + 1 :]
        x = np.zeros(shape)
        target = np.zeros(value_shape, int) if "ignore_index" in LOSSES[name][1] else x
        options = {} if axis is None or last else {"axis": axis}
        made = loss(name, reduction="none", **options)
        if axis is not None and shape[axis] == 0:
            refuses("input", [], made.value_and_grad, x, target)
        else:
            value, grad = made.value_and_grad(x, target)
            assert value.shape == value_shape
            assert grad.shape == shape


def test_numbers_too_large_for_float32_are_infinite_without_a_warning():
    """Weights and targets in float64 beside float32 input."""
    x, huge = np.zeros((1, 2), np.float32), np.full((1, 2), 1e300)
    assert fastloss.mse_loss(x, huge) == inf
    assert fastloss.mse_loss(x, x + 1, sample_weight=huge, reduction="sum") == inf
    assert fastloss.cross_entropy(x, [0], huge[0], reduction="sum") == inf
    assert not np.isfinite(fastloss.cross_entropy(x, [0], huge[0], label_smoothing=0.5))


def test_floating_point_errors_do_not_come_from_inside():
    """Whatever the caller has set NumPy to do about them."""
    x = np.zeros((1, 2), np.float32)
    with np.errstate(all="raise"):
        for weight in ([5e-324, 1.0], [1e300, 1.0], [1e-40, inf]):
            for smoothing in (0.1, 1e-20, 1.0):
                fastloss.CrossEntropyLoss(weight, label_smoothing=smoothing)(x, np.array([1]))
        with pytest.raises(ValueError, match="adds up to inf"):
            fastloss.cross_entropy(x, [[1e308, 1e308]])


def test_a_number_may_be_byte_swapped():
    """float() reads a byte-swapped bfloat16 of no dimensions wrongly."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 comes from ml_dtypes")
    for kind in (np.float64, np.float32, np.float16, np.int32, ml_dtypes.bfloat16):
        swapped = np.array([3]).astype(kind)
        swapped = swapped.astype(swapped.dtype.newbyteorder())[0, ...]
        assert fastloss.MSELoss().value_and_grad([1.0], [0.0], grad_output=swapped)[1] == 6


@pytest.mark.parametrize("name", HEADS)
def test_losses_of_a_label_take_labels(name):
    """Neither probabilities nor label smoothing."""
    refuses("target: got shape", [], loss(name), X, Y)
    refuses("target", [], loss(name), X, np.full(4, 0.5))
    for make in (loss, lambda name, **options: getattr(fastloss, name)(X, LABELS, **options)):
        with pytest.raises(TypeError, match="label_smoothing"):
            make(name, label_smoothing=0.1)


@pytest.mark.parametrize("option", ["reduction", "label_smoothing", "ignore_index", "empty", "z_loss"])
def test_what_equals_a_default_is_not_one(option):
    """Arrays, and numbers of another kind; a plain call of cross_entropy takes a short way."""
    for bad in (
        np.array([-100.0, 0]),
        np.array(["mean", "mean"]),
        0j,
        -100.0 if option == "ignore_index" else 1j,
    ):
        refuses(option, [], fastloss.cross_entropy, X, LABELS, **{option: bad})


def test_errors_are_the_same_while_checking():
    with fastloss.checking():
        for bad in NOT_AXES.values():
            refuses("axis", [], fastloss.cross_entropy, np.ones((0, 3)), LABELS[:0], axis=bad)
        for bad in NOT_ARRAYS.values():
            refuses("grad_output", [], fastloss.MSELoss().value_and_grad, X, Y, grad_output=bad)


#: What has the right type, and is out of range.
OUT_OF_RANGE = [
    ("reduction", "avg"),
    ("label_smoothing", 1.5),
    ("label_smoothing", -0.1),
    ("label_smoothing", nan),
    ("axis", 2),
    ("axis", -3),
]


@pytest.mark.parametrize(("option", "bad"), OUT_OF_RANGE)
def test_what_is_out_of_range_is_a_value_error(option, bad):
    with pytest.raises(ValueError, match=option):
        loss("cross_entropy", **{option: bad})(X, LABELS)
    with pytest.raises(ValueError, match=option):
        fastloss.cross_entropy(X, LABELS, **{option: bad})


def test_batchmean_is_kl_divs_own():
    for function in CLASSES:
        if function != "kl_div":
            with pytest.raises(ValueError, match="reduction: got 'batchmean'"):
                loss(function, reduction="batchmean")


@pytest.mark.parametrize("bad", [0.5, -0.1, np.nan, np.inf, 1e30])
@pytest.mark.parametrize("function", ["cross_entropy", "nll_loss", "focal_loss"])
def test_float_labels_are_whole_numbers(function, bad):
    """Which need not be so where they do not count."""
    x = np.zeros((3, 3))
    for dtype in (np.float16, np.float32, np.float64):
        for label in (np.array([0, 1, -100], dtype), np.array([0, 1, -100], np.int64)):
            assert loss(function)(x, label) == loss(function)(x, [0, 1, -100])
        with np.errstate(over="ignore"):
            target = np.array([0, bad, 1], dtype)
        with pytest.raises((ValueError, IndexError), match=r"target\[1\] = "):
            loss(function)(x, target)
        masked = loss(function)(x, target, mask=[True, False, True])
        assert masked == loss(function)(x[::2], [0, 1])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, ">i4"])
@pytest.mark.parametrize("shape", [(3,), (3, 3), (2, 3, 4), (1, 1)])
@pytest.mark.parametrize("input_dtype", [np.float32, np.float16, np.int64])
def test_integer_targets_of_inputs_shape_are_a_type_error(dtype, shape, input_dtype):
    """Labels with an axis too many, or one-hot: read as probabilities they would give a number."""
    x, target = np.ones(shape, input_dtype), np.ones(shape, dtype)
    grad = np.full(shape, 7, np.float64)
    for options in ({}, {"label_smoothing": 0.1, "weight": np.ones(shape[:2][-1])}):
        made = loss("cross_entropy", **options)
        with pytest.raises(TypeError, match=r"target: got dtype .*class indices of shape .*probabilities"):
            made(x, target)
        with pytest.raises(TypeError, match="target"), fastloss.checking():
            made.value_and_grad(x, target, grad_out=grad)
    with pytest.raises(TypeError, match="target"):
        fastloss.cross_entropy(x.tolist(), target.tolist())
    with pytest.raises(TypeError, match="target"):
        fastloss.reference.cross_entropy(x, target)
    assert (grad == 7).all()
    one_hot = target.astype(np.float32)
    assert fastloss.cross_entropy(x, one_hot, unchecked=True) == fastloss.multinomial_nll_loss(x, target)


@pytest.mark.parametrize("function", ["cross_entropy", "multinomial_nll_loss", "nll_loss"])
def test_a_scalar_has_no_classes(function):
    with pytest.raises(ValueError, match=r"input|axis"):
        loss(function)(1.0, 0)


def test_masked_arrays_are_refused():
    with pytest.raises(TypeError, match="input: got a masked array"):
        fastloss.mse_loss(np.ma.array([1.0, 99.0], mask=[0, 1]), [1.0, 0.0])


def test_nothing_is_written_when_an_element_is_wrong(rng):
    for n in (7, 70_000):
        x, y = rng.random(n), rng.random(n)
        x[-2] = 1.5
        for target in (y, y.astype(np.float32)):
            for arguments in ({}, {"grad_output": 1.0}):
                grad_out = np.full(n, 7.0)
                with pytest.raises(ValueError, match=rf"^input\[{n - 2}\] = 1.5 "):
                    loss("binary_cross_entropy").value_and_grad(x, target, grad_out=grad_out, **arguments)
                assert (grad_out == 7).all()
        logits, labels = rng.random((n, 2)), rng.integers(0, 2, n)
        labels[-2] = 2
        for name in ("cross_entropy", "nll_loss"):
            for arguments in ({}, {"grad_output": 1.0}):
                grad_out = np.full((n, 2), 7.0)
                with pytest.raises(IndexError, match=rf"^target\[{n - 2}\] = 2 "):
                    loss(name).value_and_grad(logits, labels, grad_out=grad_out, **arguments)
                assert (grad_out == 7).all()


def test_input_that_is_also_the_target_may_not_be_overwritten(rng):
    x = rng.random((4, 5))
    with pytest.raises(ValueError, match=r"\bgrad_out\b"):
        loss("mse_loss").value_and_grad(x, x, grad_out=x)


def test_overlap_is_seen_through_the_buffer_protocol():
    shared = np.ones(4)
    with pytest.raises(ValueError, match="grad_out: overlaps sample_weight"):
        fastloss.MSELoss().value_and_grad(
            np.arange(4.0), np.zeros(4), sample_weight=memoryview(shared), grad_out=shared
        )
    assert np.array_equal(shared, np.ones(4))
