"""The same call gives the same bits: on any threads, in any batch, in any memory, with avx2 and avx512."""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import fastloss
from fastloss import _kernels, _runtime
from tests.support import oracle
from tests.support.cases import (
    LAYOUTS,
    POINTWISE,
    REDUCED,
    VARIANTS,
    WITH_CLASSES,
    classes_moved,
    loss,
    make,
    run,
    same_bits,
    unchecked,
)

#: More elements than stay on one thread, for tiles and for rows.
SHAPES = [((4001, 10), 1), ((150, 333), 1), ((7, 6000), 1), ((2, 7, 3000), 1), ((70, 900), 0)]
#: Few rows, for either kernel.
SMALL = [((200, 10), 1), ((70, 150), 1), ((20, 600), 1), ((5, 2100), 1), ((10, 200), 0), ((150, 70), 0)]
ALONG_CLASSES = ["logsumexp", "softmax", "log_softmax", "entropy", "entropy_from_logits"]
ELEMENTWISE = ["sigmoid", "logsigmoid"]
EVERYTHING = [*VARIANTS, *ALONG_CLASSES, *ELEMENTWISE]
WITHOUT_CLASSES = {*POINTWISE, *ELEMENTWISE}


def inputs(what, rng, shape, dtype, axis):
    """The case of a loss, or the array for an array function."""
    if what in VARIANTS:
        return make(what, rng, shape, dtype, axis, ignored=0.1)
    return (rng.random(shape) if what == "entropy" else 3 * rng.standard_normal(shape)).astype(dtype)


def each(what, case, axis, **arguments):
    """The value of every sample, and its gradient; or the result of an array function."""
    if what in VARIANTS:
        return run(case, "none", **arguments)
    return (getattr(fastloss, what)(case, *() if what in ELEMENTWISE else (axis,), **arguments),)


def everything(what, case, axis):
    """Values and gradients under each reduction."""
    results = each(what, case, axis)
    if what in VARIANTS:
        for reduction in ("sum", "mean"):
            total, grad = run(case, reduction)
            results += (np.float64(total), grad)
    return results


def assert_same(results, wanted):
    for a, b in zip(results, wanted, strict=True):
        assert same_bits(a, b)


# ---------------------------------------------------------------------------------------------- threads


@pytest.fixture
def eight_cpus(monkeypatch):
    """Threads are capped by the CPUs; with this, eight really run on any machine."""
    monkeypatch.setattr(_runtime, "_usable_cpus", lambda: 8)


@pytest.mark.parametrize("what", EVERYTHING)
def test_number_of_threads(what, dtype, rng, isa, eight_cpus):
    for shape, axis in SHAPES:
        case = inputs(what, rng, shape, dtype, axis)
        with fastloss.threads(1):
            wanted = everything(what, case, axis)
        for n in (2, 3, 4, 8):
            with fastloss.threads(n):
                assert _runtime.threads_for(np.prod(shape)) == n
                assert_same(everything(what, case, axis), wanted)


@pytest.mark.parametrize("what", ["cross_entropy", "mse_loss"])
def test_number_of_threads_as_capped(what, rng, isa):
    """The same without a word to the cap."""
    case = inputs(what, rng, (4001, 10), np.float32, 1)
    with fastloss.threads(1):
        wanted = everything(what, case, 1)
    for n in (2, 3, 4, 8):
        with fastloss.threads(n):
            assert_same(everything(what, case, 1), wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.skipif(not _kernels.module.OPENMP, reason="serial build")
@pytest.mark.parametrize("threads", [3, 4, 8])
def test_that_many_threads_run(threads):
    """What `eight_cpus` is there for: OpenMP has started as many."""
    program = f"""
import os, numpy as np, fastloss
from fastloss import _runtime
_runtime._usable_cpus = lambda: 8
before = len(os.listdir("/proc/self/task"))
with fastloss.threads({threads}):
    fastloss.sigmoid(np.zeros(10**6))
print(len(os.listdir("/proc/self/task")) - before)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout) == threads - 1


# -------------------------------------------------------------------------------------- batch and place


def take(case, rows):
    """Some samples of a case whose samples come first."""
    if isinstance(case, np.ndarray):
        return np.ascontiguousarray(case[rows])
    part = type(case)(**vars(case))
    part.input = np.ascontiguousarray(case.input[rows])
    part.target = np.ascontiguousarray(case.target[rows])
    return part


@pytest.mark.parametrize("what", [*WITH_CLASSES, *ALONG_CLASSES])
def test_row_alone_or_in_any_batch(what, dtype, rng, isa):
    """Whatever the other rows hold, wherever the row stands."""
    for shape in [(200, 10), (70, 150), (5, 2100)]:
        case = inputs(what, rng, shape, dtype, 1)
        wanted = each(what, case, 1)
        n = shape[0]
        some = [
            rng.permutation(n),
            [0],
            [n - 1],
            [1],
            slice(3, 4),
            slice(1, None),
            slice(0, n - 1),
            slice(2, 5),
        ]
        for rows in some:
            assert_same(each(what, take(case, rows), 1), [a[rows] for a in wanted])


@pytest.mark.parametrize("what", [*WITH_CLASSES, *ALONG_CLASSES])
def test_sample_alone_beside_a_strided_class_axis(what, dtype, rng, isa):
    """Tiles, in place: a sample keeps its bits whichever lane it is in."""
    for shape in [(10, 200), (150, 70)]:
        case = inputs(what, rng, shape, dtype, 0)
        wanted = each(what, case, 0)
        for columns in (slice(1, None), slice(0, 65), slice(7, 9), rng.permutation(shape[1])):
            part = case
            if what in VARIANTS:
                part = type(case)(**vars(case))
                part.input = np.ascontiguousarray(case.input[:, columns])
                part.target = np.ascontiguousarray(case.target[..., columns])
            else:
                part = np.ascontiguousarray(case[:, columns])
            assert_same(each(what, part, 0), [a[..., columns] for a in wanted])


def sample_of_its_own(rng, classes, dtype):
    """Logits of any magnitude, spread or confidence, which loops could mistake for a neighbour's."""
    x = rng.choice([0.01, 1, 5, 20, 60]) * rng.standard_normal(classes)
    x += rng.choice([0, 0, 0, 12, -12, 25, -30, 80, -300, 5e3, -9e4, 3e5, -1e8])
    if rng.random() < 0.4:
        x[rng.integers(classes)] += rng.choice([20, 30, 45, 60, 90, 110])
    if rng.random() < 0.3:
        x[rng.permutation(classes)[: classes // 2]] = -np.inf
    if rng.random() < 0.05:
        x[:] = -np.inf
    if rng.random() < 0.05:
        x[rng.integers(classes)] = rng.choice([np.inf, np.nan])
    return x.astype(dtype)


@pytest.mark.parametrize(
    "shape", [(300, 5), (200, 10), (150, 150), (70, 400), (40, 2300), (7, 5, 40), (2, 20, 90)]
)
@pytest.mark.parametrize(
    "what",
    ["cross_entropy", "smoothing", "probabilities", *(name for name in ALONG_CLASSES if name != "entropy")],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_sample_alone_or_among_any_others(what, shape, kind, rng, isa):
    samples, classes = shape[0] * math.prod(shape[2:]), shape[1]
    rows = np.stack([sample_of_its_own(rng, classes, kind) for _ in range(samples)])
    labels = np.where(rng.random(samples) < 0.5, rows.argmax(1), rng.integers(0, classes, samples))
    given = fastloss.softmax(rng.standard_normal((samples, classes)).astype(kind), 1)

    def results(x, target):
        if what not in ("cross_entropy", "smoothing", "probabilities"):
            return (getattr(fastloss, what)(x, 1),)
        smoothing = 0.1 if what == "smoothing" else 0.0
        return fastloss.CrossEntropyLoss(label_smoothing=smoothing, reduction="none").value_and_grad(
            x, target
        )

    def as_shape(a):
        return a.reshape(shape[0], *shape[2:], *a.shape[1:]) if len(shape) > 2 else a

    def classes_second(a):
        return np.ascontiguousarray(np.moveaxis(as_shape(a), -1, 1)) if a.ndim > 1 else as_shape(a)

    target = given if what == "probabilities" else labels
    together = results(classes_second(rows), classes_second(target))
    for i in rng.permutation(samples)[:60]:
        x, y = rows[i : i + 1], target[i : i + 1]
        if len(shape) > 2:  # a strided class axis stays one
            x, y = (np.repeat(a[..., None], 2, -1) for a in (x, y))
        for a, b in zip(together, results(x, y), strict=True):
            if len(shape) > 2:
                a = np.moveaxis(a, 1, -1) if a.ndim == len(shape) else a
                a = a.reshape(samples, *a.shape[len(shape) - 1 :])
                b = b[..., 0]
            assert same_bits(a[i : i + 1], b), (i, rows[i])


@pytest.mark.parametrize("limit", [1e3, 1e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_after_one_that_needs_no_shift(limit, dtype, isa):
    """What is too large to be reduced is shifted first, even if the reference of the row before would fit."""
    x = np.full((3, 200), -limit, dtype)
    x[:, 3] = limit + np.array([-5, 5, 5])
    labels = np.full(3, 3)
    made = fastloss.CrossEntropyLoss(reduction="none")
    value, grad = made.value_and_grad(x, labels)
    assert (value == 0).all()
    assert (np.abs(fastloss.softmax(x, 1)[:, 3] - 1) <= 2 * np.finfo(dtype).eps).all()
    for i in range(3):
        one = slice(i, i + 1)
        alone = made.value_and_grad(x[one], labels[one])
        assert same_bits(value[one], alone[0])
        assert same_bits(grad[one], alone[1])


@pytest.mark.parametrize(
    "what", ["cross_entropy", "cross_entropy:weighted", "softmax", "log_softmax", "logsumexp"]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_sample_beside_others_far_away(what, axis, dtype, rng, isa):
    """Exponentials of many samples have a reference in common: no sample may depend on it."""
    for classes in (2, 3, 10, 19, 100, 300):
        case = inputs(what, rng, (150, classes), dtype, 1)
        x = (case.input if what in VARIANTS else case).astype(np.float64)
        x *= rng.choice([0.1, 1, 30], (150, 1))
        x += rng.choice([0, 15, -40, 300, -900, 5e4], (150, 1), p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
        x.flat[rng.integers(0, x.size, 20)] = np.resize([math.inf, -math.inf, math.nan, 1e30], 20)
        x[7] = -math.inf
        with np.errstate(over="ignore"):
            x = x.astype(dtype)
        case = x if what not in VARIANTS else case
        if what in VARIANTS:
            case.input = x

        def of(rows, case=case):
            part = take(case, rows)
            if axis == 1:
                return each(what, part, 1)
            if what not in VARIANTS:
                return tuple(a.T for a in each(what, np.ascontiguousarray(part.T), 0))
            part.input, part.options = np.ascontiguousarray(part.input.T), {**part.options, "axis": 0}
            value, grad = each(what, part, 0)
            return value, grad.T

        wanted = of(slice(None))
        for rows in (rng.permutation(150), slice(40, None), slice(9, 11), [7, 3], [149, 0]):
            assert_same(of(rows), [a[rows] for a in wanted])


@pytest.mark.parametrize("what", [*POINTWISE, *ELEMENTWISE])
def test_element_alone_or_in_any_batch(what, dtype, rng, isa):
    case = inputs(what, rng, (1037, 1), dtype, 1)
    wanted = each(what, case, 1)
    for rows in (
        [0],
        [1036],
        [255],
        [256],
        slice(1, None),
        slice(3, 700),
        slice(17, 20),
        rng.permutation(1037),
    ):
        assert_same(each(what, take(case, rows), 1), [a[rows] for a in wanted])


#: Numbers that take a way of their own through a formula, or stand beside those that do.
RARE_LOGITS = [0, 5e-324, 1e-45, 86.9, 87.4, 104, 150, 708.5, 710, 746, 1e30, 1e300, math.inf, math.nan]
RARE_PROBABILITIES = [
    0,
    5e-324,
    2.3e-308,
    1e-100,
    3.7e-44,
    3.8e-44,
    1e-39,
    1.2e-38,
    1 - 2**-24,
    1 - 2**-53,
    1,
]


def with_rare_elements(what, rng, n, dtype):
    """A case, or an array, of ordinary elements with rare ones far apart, and where these are."""
    case = inputs(what, rng, (n, 1), dtype, 1)
    places = np.arange(7, n, 1151)
    probability = what in ("binary_cross_entropy", "binary_cross_entropy:weighted", "kl_div")
    numbers = RARE_PROBABILITIES if probability else [s * v for v in RARE_LOGITS for s in (1, -1)]
    with np.errstate(over="ignore"):
        rare = np.resize(np.array(numbers), (len(places), 1)).astype(dtype)
    if what not in VARIANTS:
        case[places] = rare
        return case, places
    if what == "kl_div":
        case.target = rng.random((n, 1)).astype(dtype)
    if what.startswith("kl_div"):
        case.options |= unchecked(case.name)
        case.target[places] = rare
        largest = float(oracle.finfo(dtype).max)
        case.input[places + 3] = np.resize(
            np.array([-largest, largest, math.inf, math.nan]), (len(places), 1)
        )
    else:
        case.input[places] = rare
    return case, places


@pytest.mark.parametrize("what", [*POINTWISE, *ELEMENTWISE])
def test_rare_element_alone_or_among_ordinary_ones(what, dtype, rng, isa):
    case, places = with_rare_elements(what, rng, 40_000, dtype)
    wanted = each(what, case, 1)
    for place in places:
        for near in (place - 1, place, place + 1, place + 3, place + 300):
            assert_same(each(what, take(case, [near]), 1), [a[[near]] for a in wanted])


@pytest.mark.parametrize("what", ["binary_cross_entropy", "binary_cross_entropy:weighted"])
def test_labels_alone_or_among_probabilities(what, dtype, rng, isa):
    """Targets that are all 0 or 1 need one logarithm."""
    case, _ = with_rare_elements(what, rng, 5000, dtype)
    case.target = rng.integers(0, 2, (5000, 1)).astype(dtype)
    case.target[rng.random((5000, 1)) < 0.01] = -0.0
    wanted = each(what, case, 1)
    case.target[1::2] = 0.25
    assert_same([a[::2] for a in each(what, case, 1)], [a[::2] for a in wanted])


# ----------------------------------------------------------------------------------------------- memory


#: Shapes of results that are too large for the caches.
LARGE = {
    "rows": ((9000, 1000), 1),
    "rows of many blocks": ((160, 60_000), 1),
    "few classes": ((900_000, 10), 1),
    "two classes": ((4_500_000, 2), 1),
    "strided": ((4, 10, 230_000), 1),
    "strided, two classes": ((4, 2, 1_150_000), 1),
}


def beside_a_line(shape, dtype, beyond=1):
    """An array that begins so many elements beyond a cache line, 7s, and what surrounds it, 7s as well."""
    dtype = np.dtype(dtype)
    line, size = 64 // dtype.itemsize, math.prod(shape)
    memory = np.full(size + 3 * line, 7, dtype)
    first = -memory.ctypes.data % 64 // dtype.itemsize + line + beyond
    return memory[first : first + size].reshape(shape), (memory[:first], memory[first + size :])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("what", ["softmax", "log_softmax", "cross_entropy", "cross_entropy:smoothed"])
def test_results_too_large_for_the_caches(what, kind, dtype, rng, isa):
    """They are written another way: the same bits, and nothing beside them."""
    shape, axis = LARGE[kind]
    x = rng.standard_normal(shape, dtype)
    labels = rng.integers(0, shape[axis], np.delete(shape, axis))
    labels[rng.random(labels.shape) < 0.1] = -100
    n = shape[0] // 4
    out, around = beside_a_line(shape, x.dtype)
    if what in ("softmax", "log_softmax"):
        function = getattr(fastloss, what)
        function(x, axis, out=out)
        parts = [function(x[i : i + n], axis) for i in range(0, 4 * n, n)]
    else:
        made = fastloss.CrossEntropyLoss(reduction="none", label_smoothing=0.1 if "smoothed" in what else 0.0)
        made.value_and_grad(x, labels, grad_out=out)
        parts = [made.value_and_grad(x[i : i + n], labels[i : i + n])[1] for i in range(0, 4 * n, n)]
        over = x.copy()
        made.value_and_grad(over, labels, grad_out=over)
        assert same_bits(over, out)
    assert same_bits(out[: 4 * n], np.concatenate(parts))
    assert all((part == 7).all() for part in around)


@pytest.mark.parametrize("beyond", [0, 1, 4, 15])
def test_sum_beside_a_large_gradient_anywhere(beyond, rng, isa):
    """With a strided class axis, which samples are taken together depends on where the gradient is."""
    x = rng.standard_normal((4, 10, 230_000), np.float32)
    labels = rng.integers(0, 10, (4, 230_000))
    out, _ = beside_a_line(x.shape, x.dtype, beyond)
    made = fastloss.CrossEntropyLoss(reduction="sum")
    assert made.value_and_grad(x, labels, grad_out=out)[0] == made(x, labels)
    assert same_bits(out[:, :, -3000:], made.value_and_grad(x[:, :, -3000:], labels[:, -3000:])[1])


@pytest.mark.parametrize("beyond", [0, 1, 4, 7])
@pytest.mark.parametrize("what", [*WITH_CLASSES, *ALONG_CLASSES])
def test_input_anywhere_in_a_line(what, beyond, dtype, rng, isa):
    """With a strided class axis, which samples are taken together depends on where the input is, too."""
    case = inputs(what, rng, (2, 3, 4160), dtype, 1)
    wanted = everything(what, case, 1)
    x = case.input if what in VARIANTS else case
    moved, _ = beside_a_line(x.shape, x.dtype, beyond)
    moved[...] = x
    if what in VARIANTS:
        case.input = moved
    assert_same(everything(what, case if what in VARIANTS else moved, 1), wanted)


@pytest.mark.parametrize("what", [*POINTWISE, *ELEMENTWISE])
def test_elements_too_many_for_the_caches(what, rng, isa):
    n = 9_000_000
    case = inputs(what, rng, (n, 1), np.dtype(np.float32), 1)
    out, around = beside_a_line((n, 1), np.float32)
    keyword = "grad_out" if what in VARIANTS else "out"
    results = each(what, case, 1, **{keyword: out})
    assert results[-1] is out
    for rows in (slice(0, 1000), slice(n // 2, n // 2 + 1000), slice(n - 1000, n)):
        assert_same([a[rows] for a in results], each(what, take(case, rows), 1))
    assert all((part == 7).all() for part in around)


@pytest.mark.parametrize("what", EVERYTHING)
def test_output_given_or_allocated(what, dtype, rng, isa):
    for shape, axis in SMALL:
        case = inputs(what, rng, shape, dtype, axis)
        wanted = each(what, case, axis)
        if what.startswith("entropy"):  # have no `out`
            continue
        fresh = [np.full_like(a, 7) for a in wanted]
        if what in VARIANTS:
            assert_same(each(what, case, axis, out=fresh[0], grad_out=fresh[1]), wanted)
            assert_same(fresh, wanted)
            assert_same(each(what, case, axis, grad_out=case.input), wanted)
        else:
            assert_same(each(what, case, axis, out=fresh[0]), wanted)
            assert_same(fresh, wanted)


@pytest.mark.parametrize(("what", "reduction"), REDUCED)
def test_plain_call_or_general(what, reduction, dtype, rng, isa):
    """A call without weights takes a shorter way; what says the default in words, the general one."""
    for shape, axis in [*SMALL[:3], *SHAPES[:2]]:
        case = inputs(what, rng, shape, dtype, axis)
        wanted = run(case, reduction, grad_output=1.0)
        assert_same(run(case, reduction), wanted)
        made = loss(case.name, **case.options, reduction=reduction)
        assert same_bits(made(case.input, case.target), wanted[0])
        given = np.full_like(wanted[1], 7)
        assert_same(run(case, reduction, grad_out=given), wanted)
        assert same_bits(given, wanted[1])
        assert_same(run(case, reduction, grad_out=case.input), wanted)


def laid(kind, lay, a):
    """The array in a kind of memory; bfloat16 has one byte order."""
    return a if kind == "byte-swapped" and a.dtype.name == "bfloat16" else lay(a)


@pytest.mark.parametrize("what", EVERYTHING)
def test_input_in_any_memory(what, dtype, rng, isa):
    """The same bits; within the bounds where the class axis stands elsewhere in memory."""
    for (shape, axis), (kind, lay) in itertools.product(SMALL, LAYOUTS.items()):
        case = inputs(what, rng, shape, dtype, axis)
        wanted = each(what, case, axis)
        if what in VARIANTS:
            part = type(case)(**vars(case))
            part.input, part.target = laid(kind, lay, case.input), laid(kind, lay, case.target)
            x = part.input
        else:
            x = part = laid(kind, lay, case)
        if what not in WITHOUT_CLASSES and classes_moved(x, axis):
            with fastloss.checking():
                each(what, part, axis)
            continue
        got = each(what, part, axis)
        assert_same([np.asarray(a).astype(b.dtype) for a, b in zip(got, wanted, strict=True)], wanted)


# -------------------------------------------------------------------------------------- instruction sets


def everything_of(isa_shapes, dtype):
    """Bytes of all results, in an order that does not depend on anything."""
    for what in EVERYTHING:
        rng = np.random.default_rng(20240229)
        for shape, axis in isa_shapes:
            case = inputs(what, rng, shape, dtype, axis)
            for a in everything(what, case, axis):
                yield what, np.asarray(a)


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs both avx2 and avx512")
def test_avx2_and_avx512_agree_in_every_bit(dtype):
    before = _kernels.active
    shapes = [*SHAPES, *SMALL, ((9, 31), 1), ((5, 1027), 1), ((2, 5000), 1)]
    try:
        _kernels.use("avx2")
        wanted = list(everything_of(shapes, dtype))
        _kernels.use("avx512")
        for (what, a), (_, b) in zip(everything_of(shapes, dtype), wanted, strict=True):
            assert same_bits(a, b), what
    finally:
        _kernels.use(before)


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs both avx2 and avx512")
def test_processes_with_either_instruction_set_agree():
    """As chosen at import, by FASTLOSS_ISA: every byte, NaNs and the signs of zeros included."""
    program = """
import hashlib, numpy as np
from tests import test_reproducible as t
assert t._kernels.active == t.os.environ["FASTLOSS_ISA"]
for dtype in (np.float32, np.float64, np.float16):
    for what, a in t.everything_of([((70, 10), 1), ((9, 150), 1), ((150, 9), 0)], np.dtype(dtype)):
        print(what, a.dtype, hashlib.sha256(a.tobytes()).hexdigest())
"""
    folder = os.path.dirname(os.path.dirname(__file__))
    path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "FASTLOSS_ISA": isa, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for isa in ("avx2", "avx512")
    ]
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) == 3 * 3 * (6 * len(VARIANTS) + len(ALONG_CLASSES) + len(ELEMENTWISE))


@pytest.mark.parametrize("what", EVERYTHING)
def test_repeated_calls(what, rng, isa):
    case = inputs(what, rng, (999, 17), np.float32, 1)
    wanted = everything(what, case, 1)
    for _ in range(3):
        assert_same(everything(what, case, 1), wanted)
