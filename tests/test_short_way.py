"""The short way of a loss: every option of plain arrays and lists, with the bits of the general way."""

import numpy as np
import pytest

import fastloss
from fastloss import _kernels
from fastloss._arguments import as_array
from tests.support.cases import CLASSES, INDEXED, POINTWISE, VARIANTS, make, run, run_second, same_bits

N, C = 32, 10


@pytest.fixture
def general_way(monkeypatch):
    """A call by the general way."""

    def call(function, *args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(_kernels.module, "plain_loss", lambda *args: None)
            return function(*args, **options)

    return call


@pytest.fixture
def short_way(monkeypatch):
    """A call that has to be done by the short way."""

    def call(function, *args, **options):
        plain_loss, found = _kernels.module.plain_loss, []

        def watched(*args):
            found.append(plain_loss(*args))
            return found[-1]

        with monkeypatch.context() as patch:
            patch.setattr(_kernels.module, "plain_loss", watched)
            result = function(*args, **options)
        assert [type(each) for each in found] == [type(result)]
        return result

    return call


#: Numbers of each class that scale logits are for the general way.
VARIANTS, INDEXED = ([v for v in variants if "vector" not in v] for variants in (VARIANTS, INDEXED))
#: Of these the short way has the second derivatives too, unless logits are scaled.
SECOND = ("plain", "sample_weight", "strided", "mask", "mask and weights", "of shape (32, 1)", "normalizer")


def agree(a, b):
    parts = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
    return all(type(p) is type(q) and same_bits(p, q) for p, q in parts)


def calls(variant, case, rng, dtype):
    """What a call may pass, by what it is."""
    each = (0.1 + rng.random(case.value_shape)).astype(dtype)
    mask = rng.random(case.value_shape) < 0.7
    yield "plain", {}
    yield "sample_weight", {"sample_weight": each}
    yield (
        "of another width",
        {"sample_weight": each.astype(np.float32 if dtype == np.float64 else np.float64)},
    )
    yield "strided", {"sample_weight": np.repeat(each, 2, -1)[..., ::2]}
    yield "a number", {"sample_weight": 2.0}
    yield "an integer", {"sample_weight": 2}
    yield "a list", {"sample_weight": each.tolist()}
    yield "mask", {"mask": mask}
    yield "mask and weights", {"mask": mask, "sample_weight": each}
    yield "nothing counts", {"mask": np.zeros_like(mask)}
    yield "normalizer", {"normalizer": 7.0}
    yield "normalizer and mask", {"normalizer": np.float32(7), "mask": mask, "sample_weight": each}
    yield "grad_output", {"grad_output": np.array(-0.5)}
    yield "grad_output of each", {"grad_output": each}
    if len(case.value_shape) > 1:
        for shape in ((N, 1), (1, C), (1, 1)):
            part = each[: shape[0], : shape[1]].copy()
            yield f"of shape {shape}", {"sample_weight": part}
            yield f"of shape {shape}, mask", {"sample_weight": part, "mask": mask}
            yield (
                f"mask of shape {shape}",
                {"sample_weight": each, "mask": part > (0.5 if part.size > 1 else 0)},
            )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_options(variant, dtype, rng, isa, short_way, general_way):
    case = make(variant, rng, (N, C), dtype, ignored=0.1)
    for what, call in calls(variant, case, rng, dtype):
        for reduction in ("mean", "sum", "none"):
            if "normalizer" in call and reduction != "mean":
                continue
            if what == "grad_output of each" and reduction != "none":
                continue
            expected = general_way(run, case, reduction, **call)
            assert agree(short_way(run, case, reduction, **call), expected), (what, reduction)
            if what in SECOND and case.name != "nll_loss" and "scaled" not in variant:
                expected = general_way(run_second, case, reduction, **call)
                assert agree(short_way(run_second, case, reduction, **call), expected), (what, reduction)


@pytest.mark.parametrize("variant", VARIANTS)
def test_arrays(variant, rng, isa, short_way, general_way):
    """Shapes, dtypes, lists, numbers and outputs; objects and functions."""
    for shape, axis in [((N, C), 1), ((C, N), 0), ((4, C, 3), 1), ((2, 3, C), -1), ((C,), 0)]:
        case = make(variant, rng, shape, np.float64, axis)
        if case.name == "kl_div":  # whose whole numbers are no distributions
            case.options["unchecked"] = True
        loss = getattr(fastloss, CLASSES[case.name])(**case.options)
        function = getattr(fastloss, case.name)
        x, y = case.input.copy(), case.target.copy()
        targets = [y, y.astype(np.float32) if y.dtype.kind == "f" else y.astype(np.int8)]
        if y.ndim < 3:  # nested twice at most
            targets.append(y.tolist())
        if variant in POINTWISE or variant.startswith("multinomial"):
            targets.append(np.rint(y).astype(np.int32) if "rate" not in variant else y)
        for target in targets:
            expected = general_way(loss.value_and_grad, x, target)
            assert agree(short_way(loss.value_and_grad, x, target), expected)
            assert same_bits(short_way(loss, x, target), expected[0])
            assert same_bits(short_way(function, x, target, **case.options), expected[0])
            grad_out, out = np.empty_like(x), np.empty(case.value_shape)
            made = getattr(fastloss, CLASSES[case.name])(**case.options, reduction="none")
            result = short_way(made.value_and_grad, x, target, out=out, grad_out=grad_out)
            assert result[0] is out
            assert result[1] is grad_out
            assert agree(result, general_way(made.value_and_grad, x, target))
        expected = general_way(loss.value_and_grad, x, y)
        if len(shape) < 3:
            assert agree(short_way(loss.value_and_grad, x.tolist(), y.tolist()), expected)
        grad_out = x.copy()
        assert agree(short_way(loss.value_and_grad, grad_out, y, grad_out=grad_out), expected)


@pytest.mark.parametrize("ignored", [3, [3], [], (2, 3), [0, 2, 3], np.array([1, 2])])
@pytest.mark.parametrize("variant", INDEXED)
def test_ignored_labels(variant, ignored, rng, short_way, general_way):
    case = make(variant, rng, (N, C))
    case.options["ignore_index"] = ignored
    for call in ({}, {"mask": rng.random(N) < 0.5}):
        expected = general_way(run, case, **call)
        assert agree(short_way(run, case, **call), expected)
        value = short_way(getattr(fastloss, case.name), case.input, case.target, **case.options, **call)
        assert value == expected[0]


def test_equal_labels_of_another_type_are_refused():
    x, y = np.zeros((2, 3)), np.array([0, 1])
    assert fastloss.cross_entropy(x, y, ignore_index=(1,)) > 0
    for bad in ((True,), (1.0,), [True]):
        with pytest.raises(TypeError, match="ignore_index"):
            fastloss.cross_entropy(x, y, ignore_index=bad)


@pytest.mark.parametrize(
    "variant", ["cross_entropy:smoothed", "cross_entropy:probabilities smoothed", "focal_loss"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_class_weights_of_another_width(variant, dtype, rng, isa, short_way, general_way):
    """They are read in the computing dtype before anything is made of them."""
    case = make(variant, rng, (N, C), dtype)
    case.options["weight"] = 0.1 + rng.random(C)
    expected = general_way(run, case, "none")
    assert agree(short_way(run, case, "none"), expected)
    case.options["weight"] = case.options["weight"].astype(np.float32)
    assert agree(run(case, "none"), expected)


@pytest.mark.parametrize("variant", ["mse_loss", "multilabel_soft_margin_loss"])
def test_weights_that_repeat_in_the_middle(variant, rng, short_way, general_way):
    """What a mean is divided by is the sum of each weight once, times how often it is there."""
    for _ in range(20):
        case = make(variant, rng, (10, 5, 4, 3), np.float64)
        shape = case.value_shape
        weights, mask = rng.random((10, 1, *shape[2:])), rng.random((1, 5, *shape[2:])) < 0.7
        for call in ({"sample_weight": weights}, {"mask": mask}, {"sample_weight": weights, "mask": mask}):
            expected = general_way(run, case, "mean", **call)
            assert agree(short_way(run, case, "mean", **call), expected)


LISTS = [
    *(
        [1.5, 2.0],
        [1, 2],
        [True, False],
        [1, 2.5],
        [True, 2],
        [True, 2.5],
        [[1, 2], [3, 4.0]],
        ([1.0], (2.0,)),
    ),
    *([2**62, 1.0], [-(2**63)], [2**63], [2**70, 1.0], [float("nan"), float("inf")], [[[1.0]]], [[1.0], 2.0]),
    *([], [[]], [np.float32(1.5)], [np.arange(2.0)], [1 + 0j], ["a"], [None]),
]


@pytest.mark.parametrize("value", LISTS, ids=str)
def test_lists_are_read_as_numpy_reads_them(value):
    try:
        expected = np.asarray(value)
    except ValueError:
        with pytest.raises(ValueError, match="input"):
            as_array(value, "input")
        return
    array = as_array(value, "input")
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    assert array.dtype == object or array.tobytes() == expected.tobytes()
