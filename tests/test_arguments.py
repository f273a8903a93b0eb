"""What may be passed, and in which memory layout."""

import array
import itertools
from contextlib import nullcontext

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fastloss
from tests.support.cases import (
    ARRAY_FUNCTIONS,
    LAYOUTS,
    VARIANTS,
    WITH_CLASSES,
    WITH_OUT,
    classes_moved,
    loss,
    make,
    misaligned,
    run,
    same_bits,
    strided,
)

FLOATS = [np.float32, np.float64]


# ----------------------------------------------------------------------------------- memory layouts


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_layout_of_arguments_does_not_matter(variant, layout, rng, isa):
    """The bits of a plain copy, or within bounds where classes stand elsewhere; nothing has changed."""
    lay = LAYOUTS[layout]
    for dtype, shape in itertools.product(FLOATS, [(9, 5), (3, 70), (2, 4, 5)]):
        case = make(variant, rng, shape, dtype)
        sample_weight = rng.random(case.value_shape).astype(dtype)
        wanted = run(case, "mean", sample_weight=sample_weight, grad_output=2.0)
        case.input, case.target = lay(case.input), lay(case.target)
        for name in ("weight", "pos_weight"):
            if name in case.options:
                case.options[name] = lay(case.options[name])
        before = case.input.copy(), case.target.copy()
        moved = variant in WITH_CLASSES and classes_moved(case.input, 1)
        with fastloss.checking() if moved else nullcontext():
            got = run(case, "mean", sample_weight=lay(sample_weight), grad_output=2.0)
        assert moved or (got[0] == wanted[0] and same_bits(got[1], wanted[1]))
        assert np.array_equal(before[0], case.input)
        assert np.array_equal(before[1], case.target)


@pytest.mark.parametrize("variant", VARIANTS)
def test_broadcast_input(variant, rng, isa):
    case = make(variant, rng, (6, 5))
    case.input = np.broadcast_to(case.input[:1], (6, 5))
    value, grad = run(case)
    case.input = case.input.copy()
    value_2, grad_2 = run(case)
    assert value == value_2
    assert same_bits(grad, grad_2)
    case.input = as_strided(case.input, (6, 5), (40, 0))  # broadcast along the classes
    if case.name != "binary_cross_entropy":
        value = run(case)[0]
        case.input = case.input.copy()
        assert value == run(case)[0]


def test_0d_and_1d(isa):
    for function in ("mse_loss", "kl_div", "binary_cross_entropy_with_logits"):
        value, grad = loss(function).value_and_grad(np.float64(-0.25), np.float64(0.5))
        assert isinstance(value, float)
        assert grad.shape == ()
        none = loss(function, reduction="none")(-0.25, 0.5)
        assert none.shape == ()
        assert none == value
    assert fastloss.sigmoid(0.0).shape == ()
    assert fastloss.logsumexp([1.0, 2.0]).shape == ()
    value, grad = loss("cross_entropy").value_and_grad([0.0, 1.0], np.int8(1))
    assert grad.shape == (2,)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("variant", WITH_CLASSES)
def test_class_axis_is_where_it_is_said_to_be(variant, axis, rng, isa):
    """Moving the class axis moves the gradient, and nothing else."""
    case = make(variant, rng, (4, 6, 3), axis=axis)
    value, grad = run(case, "none")
    shaped = case.target.shape == case.input.shape
    case.options["axis"], old = 1, case.options["axis"]
    case.input = np.moveaxis(case.input, old, 1)
    case.target = np.moveaxis(case.target, old, 1) if shaped else case.target
    moved = run(case, "none")
    np.testing.assert_allclose(value, moved[0], rtol=2.0**-48)
    np.testing.assert_allclose(np.moveaxis(grad, old, 1), moved[1], rtol=2.0**-48, atol=2.0**-52)


# ---------------------------------------------------------------------------------- kinds of arrays


class HasArray:
    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return self.a if dtype is None else self.a.astype(dtype)


class HasDLPack:
    def __init__(self, a):
        self.a = a

    def __dlpack__(self, **keywords):
        return self.a.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


@pytest.mark.parametrize("wrap", [HasArray, HasDLPack, memoryview])
def test_array_protocols(wrap, isa):
    x, t = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([0, 1])
    wanted = loss("cross_entropy").value_and_grad(x, t)
    value, grad = loss("cross_entropy").value_and_grad(wrap(x), wrap(t), sample_weight=wrap(x[0]))
    assert value == loss("cross_entropy")(x, t, sample_weight=x[0])
    assert type(grad) is np.ndarray
    assert loss("cross_entropy")(wrap(x), wrap(t)) == wanted[0]
    assert np.array_equal(fastloss.softmax(wrap(x)), fastloss.softmax(x))


def test_lists_and_the_buffer_protocol(isa):
    wanted = fastloss.cross_entropy(np.array([1.0, 2.0]), 1)
    assert fastloss.cross_entropy([1.0, 2.0], 1) == wanted
    assert fastloss.cross_entropy((1.0, 2.0), 1) == wanted
    assert fastloss.cross_entropy(array.array("d", [1, 2]), 1) == wanted
    single = fastloss.softmax(array.array("f", [1, 2]))
    assert single.dtype == np.float32


@pytest.mark.parametrize("dtype", "?bhilqBHILQ")
def test_integer_and_bool_input_is_computed_in_float64(dtype, isa):
    x = np.array([[1, 0, 1], [0, 0, 1]]).astype(dtype)
    t = np.array([0, 2])
    wide = x.astype(np.float64)
    value, grad = loss("cross_entropy").value_and_grad(x, t)
    wanted = loss("cross_entropy").value_and_grad(wide, t)
    assert value == wanted[0]
    assert same_bits(grad, wanted[1])
    for function in ARRAY_FUNCTIONS:
        assert same_bits(getattr(fastloss, function)(x), getattr(fastloss, function)(wide))
    none = loss("binary_cross_entropy_with_logits", reduction="none")(x, x)
    assert none.dtype == np.float64


@pytest.mark.parametrize("dtype", "?bhilqBHILQ")
def test_labels_of_any_integer_dtype(dtype, isa):
    for classes in (3, 70):
        x = np.linspace(-2, 0, 4 * classes, dtype=np.float32).reshape(4, classes)
        t = np.array([0, 1, 1, 0])
        for variant in ("cross_entropy", "nll_loss"):
            made = loss(variant, reduction="none")
            value, grad = made.value_and_grad(x, t.astype(dtype))
            wanted = made.value_and_grad(x, t)
            assert same_bits(value, wanted[0])
            assert same_bits(grad, wanted[1])


def test_labels_above_the_dtypes_sign_bit(isa):
    x = np.zeros((1, 300))
    assert fastloss.cross_entropy(x, np.array([255], np.uint8)) > 0
    with pytest.raises(IndexError, match="300"):
        fastloss.cross_entropy(x, np.array([300], np.uint16))
    assert np.isnan(fastloss.cross_entropy(x, np.array([255], np.uint8), ignore_index=255))


def test_targets_and_weights_take_the_inputs_precision(rng, isa):
    case = make("binary_cross_entropy_with_logits:weighted", rng, (5, 4), np.float32)
    value, grad = run(case)
    case.target = case.target.astype(np.float64)
    case.options["weight"] = case.options["weight"].astype(np.float64)
    value_2, grad_2 = run(case)
    assert value == value_2
    assert same_bits(grad, grad_2)


# ------------------------------------------------------------------------------------------ outputs


@pytest.mark.parametrize("place", [lambda a: a, strided, misaligned, np.asfortranarray])
@pytest.mark.parametrize("variant", VARIANTS)
def test_out_and_grad_out(variant, place, rng, isa):
    for dtype, shape in itertools.product(FLOATS, [(6, 5), (3, 70)]):
        case = make(variant, rng, shape, dtype)
        value, grad = run(case, "none")
        out = place(np.full(case.value_shape, np.nan, dtype))
        grad_out = place(np.full(shape, np.nan, dtype))
        got = run(case, "none", out=out, grad_out=grad_out)
        assert got[0] is out
        assert got[1] is grad_out
        assert same_bits(np.array(out), value)
        assert same_bits(np.array(grad_out), grad)
        out[...] = np.nan
        made = loss(case.name, **case.options, reduction="none")
        assert made(case.input, case.target, out=out) is out
        assert not np.isnan(out).any()
        function = getattr(fastloss, case.name)
        assert function(case.input, case.target, **case.options, reduction="none", out=out) is out


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_in_place_of_the_input(variant, rng, isa, threads):
    for dtype, shape in itertools.product(FLOATS, [(9, 5), (3, 70), (2, 1100), (2, 5, 70)]):
        for lay in (lambda a: a, strided):
            case = make(variant, rng, shape, dtype, ignored=0.2)
            value, grad = run(case)
            case.input = lay(case.input)
            got = run(case, grad_out=case.input)
            assert got[0] == value
            assert got[1] is case.input
            assert same_bits(np.array(case.input), grad)


@pytest.mark.parametrize("function", WITH_OUT)
def test_out_of_array_functions(function, rng, isa):
    call = getattr(fastloss, function)
    for dtype, shape in itertools.product(FLOATS, [(6, 5), (3, 70)]):
        x = rng.standard_normal(shape).astype(dtype)
        wanted = call(x)
        for place in (lambda a: a, strided, misaligned, np.asfortranarray):
            out = place(np.full_like(wanted, np.nan))
            assert call(x, out=out) is out
            assert same_bits(np.array(out), wanted)


@pytest.mark.skipif(np.dtype(np.longdouble) != np.float64, reason="here long double is no float64")
@pytest.mark.parametrize("samples", [4, 5000])
def test_long_double_that_is_float64(samples, rng, isa):
    """As on Windows, where it equals float64 and has another of NumPy's numbers."""
    x, q, weight = rng.random((samples, 6)), rng.dirichlet(np.ones(6), samples), rng.random(6)
    wide = [a.astype(np.longdouble) for a in (x, q, weight, x[:, 0])]
    for target, other in ((q.argmax(1), q.argmax(1)), (q, wide[1])):
        want = fastloss.CrossEntropyLoss(weight=weight).value_and_grad(x, target, sample_weight=x[:, 0])
        out = np.empty_like(wide[0])
        got = fastloss.CrossEntropyLoss(weight=wide[2]).value_and_grad(
            wide[0], other, sample_weight=wide[3], grad_out=out
        )
        assert got[0] == want[0] == fastloss.cross_entropy(x, other, weight=wide[2], sample_weight=x[:, 0])
        assert got[1] is out
        assert same_bits(out.view(float), want[1])
    for name in ARRAY_FUNCTIONS:
        call = getattr(fastloss, name)
        assert same_bits(np.asarray(call(wide[0]), float), np.asarray(call(x)))
    assert same_bits(np.asarray(fastloss.special.softmax(wide[0], 1), float), fastloss.softmax(x, 1))


OVER_CLASSES = [name for name in ARRAY_FUNCTIONS if not name.endswith("sigmoid")]
ARRANGED = {
    "plain": lambda a: a,
    "Fortran order": np.asfortranarray,
    "turned": lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)).transpose(1, 0, 2),
    "strided": strided,
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "misaligned": misaligned,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
}


@pytest.mark.parametrize("axis", [None, (), (0,), (1, 2), (0, 1), (2, 0), (-1, 0, 1)])
@pytest.mark.parametrize("function", OVER_CLASSES)
def test_several_class_axes(function, axis, rng, isa):
    """As one axis of them all, in any memory; a small array and a large one, which take other ways."""
    call, maps = getattr(fastloss, function), function in ("softmax", "log_softmax")
    for dtype, shape in itertools.product([*FLOATS, np.float16], [(3, 4, 5), (2, 150, 130)]):
        x = rng.random(shape).astype(dtype)
        axes = tuple(range(3)) if axis is None else tuple(sorted(i % 3 for i in axis))
        last = np.moveaxis(x, axes, range(3 - len(axes), 3))
        wanted = call(np.reshape(last, (*last.shape[: 3 - len(axes)], -1)) if axes else last[..., None])
        wanted = (
            np.moveaxis(np.reshape(wanted, last.shape), range(3 - len(axes), 3), axes) if maps else wanted
        )
        for arrange in ARRANGED.values():
            given = arrange(x)
            with fastloss.checking() if x.size < 100 else nullcontext():
                got = call(given, axis)
            assert got.shape == wanted.shape
            assert got.dtype == wanted.dtype
            tolerance = {
                "rtol": 64 * np.finfo(got.dtype).eps,
                "atol": 64 * np.finfo(got.dtype).smallest_normal,
            }
            np.testing.assert_allclose(got, wanted, **tolerance)
            if x.size < 100:
                np.testing.assert_allclose(call(given, axis), wanted, **tolerance)  # the short way
            if function in WITH_OUT:
                out = (
                    arrange(np.full(got.shape, np.nan, got.dtype)) if maps else np.empty(got.shape, got.dtype)
                )
                assert call(given, axis, out=out) is out
                np.testing.assert_allclose(out, wanted, **tolerance)
        if function == "logsumexp":
            kept = call(x, axis, keepdims=True)
            assert kept.shape == tuple(1 if i in axes else n for i, n in enumerate(shape))
            assert same_bits(kept.reshape(wanted.shape), np.asarray(call(x, axis)))
        where = rng.random(shape) < 0.7
        with fastloss.checking() if x.size < 100 else nullcontext():
            got = call(x, axis, where=where)
        masked = np.where(where, x, 0 if function == "entropy" else -np.inf).astype(dtype)
        counts = where if maps else ...
        np.testing.assert_allclose(got[counts], call(masked, axis)[counts], **tolerance)


@pytest.mark.parametrize("function", OVER_CLASSES)
def test_an_array_of_no_dimensions_has_one_class(function, isa):
    wanted = {"logsumexp": 2.0, "softmax": 1.0, "log_softmax": 0.0, "entropy_from_logits": 0.0}
    for x, axis in itertools.product((2.0, np.float32(2), np.array(2)), (None, 0, -1, ())):
        with fastloss.checking():
            got = getattr(fastloss, function)(x, axis)
        assert np.ndim(got) == 0
        assert got == pytest.approx(wanted.get(function, -2 * np.log(2)))
        assert getattr(fastloss.reference, function)(x, axis) == pytest.approx(float(got))


@pytest.mark.parametrize(
    "shape", [(3, 1, 1), (2, 1, 1, 6), (1, 3, 1, 1), (6,), (2, 3, 1, 1), (5, 6), (2, 3, 5, 6), ()]
)
def test_weights_of_any_broadcast_shape(shape, isa):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 3, 5, 6))
    y = rng.random(x.shape)
    weight = rng.random(shape) + 0.5
    whole = np.broadcast_to(weight, x.shape).copy()
    for name in ("weight", "pos_weight"):
        got = fastloss.BCEWithLogitsLoss(**{name: weight}, reduction="none").value_and_grad(x, y)
        want = fastloss.BCEWithLogitsLoss(**{name: whole}, reduction="none").value_and_grad(x, y)
        assert np.array_equal(got[0], want[0])
        assert np.array_equal(got[1], want[1])


def test_strides_of_axes_of_length_1_do_not_matter_in_place():
    a = np.arange(6.0).reshape(1, 6)[:, :3]
    want = fastloss.CrossEntropyLoss().value_and_grad(a.copy(), [0])[1]
    fastloss.CrossEntropyLoss().value_and_grad(a, [0], grad_out=a[0][None])
    assert np.array_equal(a, want)
