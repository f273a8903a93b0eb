"""Half precision: read and written by the kernels, computed in float32, rounded once."""

import tracemalloc

import numpy as np
import pytest

import fastloss
from fastloss._arguments import BFLOAT16
from tests.support.cases import POINTWISE, VARIANTS, loss, make, run, same_bits, unchecked

#: Shape and class axis: few classes, rows within one block and beyond it; a strided class axis, in whole
#: tiles and in runs; most leave a part of a tile.
LAYOUTS = [
    ((70, 2), 1),
    ((67, 3), 1),
    ((66, 10), 1),
    ((3, 127), 1),
    ((5, 300), 1),
    ((3, 2049), 1),
    ((2, 4500), 1),
]
LAYOUTS += [((2, 19, 7, 5), 1), ((1, 5, 128), 1), ((2, 200, 67), 1), ((2, 3, 40), -1)]


@pytest.fixture(params=["float16", "bfloat16"])
def half(request):
    if request.param == "float16":
        return np.dtype(np.float16)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 comes from ml_dtypes")
    return np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(autouse=True)
def quiet():
    """NumPy warns of what rounds to inf or 0, in the conversions of the tests."""
    with np.errstate(all="ignore"):
        yield


def all_numbers(half):
    return np.arange(2**16, dtype=np.uint16).view(half)


def halved(case, half):
    """The case in half precision, and in float32 from the same numbers."""
    case.input = case.input.astype(half)
    case.options |= unchecked(case.name)  # what is rounded adds up to less for float32
    floats = case.target.dtype.kind == "f"
    case.target = case.target.astype(half) if floats else case.target
    twin = make_twin(case, case.target.astype(np.float32) if floats else case.target)
    return case, twin


def make_twin(case, target):
    return type(case)(**{**vars(case), "input": case.input.astype(np.float32), "target": target})


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_as_float32_rounded_once(variant, reduction, half, isa, rng):
    for shape, axis in LAYOUTS:
        case, twin = halved(make(variant, rng, shape, np.float32, axis=axis, ignored=0.1), half)
        value, grad = run(case, reduction)
        wanted, slope = run(twin, reduction)
        assert same_bits(value, wanted)
        assert same_bits(grad, slope.astype(half))
        case.target = twin.target  # half precision is the input's alone
        mixed, grad = run(case, reduction, grad_out=case.input)
        assert same_bits(mixed, wanted)
        assert grad is case.input
        assert same_bits(grad, slope.astype(half))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "entropy_from_logits", "entropy"])
def test_array_functions(name, half, isa, rng):
    for shape, axis in LAYOUTS:
        x = (np.abs if name == "entropy" else np.asarray)(4 * rng.standard_normal(shape)).astype(half)
        got = getattr(fastloss, name)(x, axis)
        wanted = getattr(fastloss, name)(x.astype(np.float32), axis)
        assert same_bits(got, wanted.astype(half) if wanted.shape == shape else wanted)


@pytest.mark.parametrize("name", ["sigmoid", "logsigmoid"])
def test_every_number_through_functions(name, half, isa):
    x = all_numbers(half)
    function = getattr(fastloss, name)
    assert same_bits(function(x), function(x.astype(np.float32)).astype(half))


@pytest.mark.parametrize("variant", POINTWISE)
def test_every_number_through_losses(variant, half, isa):
    numbers = all_numbers(half)
    name, _, kind = variant.partition(":")
    options = {"log_target": True} if kind == "log_target" else {}
    made = loss(name, reduction="none", **options, **unchecked(name))
    if name == "binary_cross_entropy":
        numbers = numbers[~((numbers < 0) | (numbers > 1))]
    for other in (0.0, 0.75, -2.0):
        others = np.full_like(numbers, other)
        sides = [(numbers, others)] + ([(others, numbers)] if name != "binary_cross_entropy" else [])
        for x, y in sides if name != "binary_cross_entropy" or other >= 0 else []:
            value, grad = made.value_and_grad(x, y)
            wanted, slope = made.value_and_grad(x.astype(np.float32), y.astype(np.float32))
            assert same_bits(value, wanted)
            assert same_bits(grad, slope.astype(half))


def test_every_number_as_a_logit(half, isa):
    x = np.stack([all_numbers(half), np.zeros(2**16, half)], 1)
    wanted = fastloss.log_softmax(x.astype(np.float32))
    assert same_bits(fastloss.log_softmax(x), wanted.astype(half))


def test_gradients_below_the_normal_numbers_are_kept(isa):
    x = np.array([[0.0, 14.0, 0.0], [0.0, 15.5, 1.0]], np.float16)
    _, grad = fastloss.CrossEntropyLoss(reduction="sum").value_and_grad(x, [1, 1])
    _, wanted = fastloss.CrossEntropyLoss(reduction="sum").value_and_grad(x.astype(np.float64), [1, 1])
    smallest = float(np.finfo(np.float16).smallest_subnormal)
    assert np.all(np.abs(grad - wanted) <= 0.5001 * smallest + 2.0**-11 * np.abs(wanted))
    assert np.count_nonzero(grad) == 6


def test_mean_over_many_rows(half, isa):
    rows = 70_000
    x = np.tile(np.array([[60.0, 0.0]], half), (rows, 1))
    assert fastloss.cross_entropy(x, np.ones(rows, int)) == 60.0
    assert fastloss.mse_loss(np.full(rows, 250.0, half), np.zeros(rows, half)) == 62_500.0


@pytest.mark.parametrize("variant", ["cross_entropy", "cross_entropy:probabilities", "mse_loss"])
def test_nothing_is_converted_as_a_whole(variant, half, rng):
    case, _ = halved(make(variant, rng, (600, 1000), np.float32), half)
    run(case)
    grad_out = np.empty_like(case.input)
    tracemalloc.start()
    try:
        run(case, grad_out=grad_out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < case.input.nbytes / 10


def test_bits_of_bfloat16(rng):
    """What PyTorch's tensors arrive as."""
    x = rng.standard_normal((40, 7)).astype(np.float32)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    x = (bits.astype(np.uint32) << 16).view(np.float32)
    y = rng.integers(0, 7, 40)
    value, grad = fastloss.CrossEntropyLoss().value_and_grad(bits.view(BFLOAT16), y)
    with fastloss.checking():
        checked, _ = fastloss.CrossEntropyLoss(reduction="sum").value_and_grad(bits.view(BFLOAT16), y)
        fastloss.softmax(bits.view(BFLOAT16))
    wanted, slope = fastloss.CrossEntropyLoss().value_and_grad(x, y)
    assert value == wanted
    assert checked == pytest.approx(40 * wanted, rel=1e-12)
    assert grad.dtype == BFLOAT16
    got = (grad.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    assert np.all(np.abs(got - slope) <= 2.0**-8 * np.abs(slope))
    with pytest.raises(ValueError, match=r"input\[0, 1\] = 2.0 is outside"):
        fastloss.binary_cross_entropy(np.array([[0, 0x4000]], np.uint16).view(BFLOAT16), np.zeros((1, 2)))


def test_a_probability_outside_beside_nan(half):
    with np.errstate(all="warn"), pytest.raises(ValueError, match=r"input\[1\] = 1.5 is outside"):
        fastloss.binary_cross_entropy(np.array([np.nan, 1.5], half), np.zeros(2, half))
