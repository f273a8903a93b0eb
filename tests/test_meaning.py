"""What was probably meant: targets, weights of samples, errors with the remedy, what is there unasked."""

import itertools
import re

import numpy as np
import pytest

import fastloss
from fastloss import _kernels, reference
from tests.support.cases import (
    INDEXED,
    POINTWISE,
    VARIANTS,
    loss,
    make,
    read_only,
    refer,
    run,
    run_second,
    same_bits,
    strided,
)
from tests.support.process import answers

FLOATS = [np.float32, np.float64, np.float16]
OF_PROBABILITIES = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "sigmoid_focal_loss",
    "multilabel_soft_margin_loss",
]
#: Losses of elements: what a target may not be, and what it may be.
OF_ELEMENTS = {
    **dict.fromkeys(OF_PROBABILITIES, ((-1.0, -1e-6, 1.001, 255.0, np.inf, -np.inf), (0.0, 1.0, 0.25))),
    "poisson_nll_loss": ((-1.0, -1e-6, -np.inf), (0.0, 3.0, 0.5)),
    "kl_div": ((-0.5, -1e-6), (0.25,)),
    "kl_div log": ((0.5, 2e-3, np.inf), (-1.0, 0.0, 9e-4)),
}


# ------------------------------------------------------------------------------ targets of elements

SHAPES = [(4, 4), (3, 17), (5, 700), (2, 3, 4), (70, 1000)]


def element_case(name, shape, dtype, rng):
    name, _, log = name.partition(" ")
    options = {"log_target": True} if log else {}
    x = rng.random(shape)
    x = (-x if name == "kl_div" else x).astype(dtype)
    good = OF_ELEMENTS[f"{name} log" if log else name][1]
    y = np.resize(np.array(good), shape).astype(dtype)
    if name == "kl_div" and not log:
        y = np.full(shape, 1 / shape[-1], dtype)
    return name, options, x, y


def arguments_of(made, x, y):
    """All ways to ask for something, with arrays to fill and without."""
    yield lambda: made(x, y)
    yield lambda: made.value_and_grad(x, y)
    yield lambda: made.value_grad_hess(x, y)
    yield lambda: made.hessp(x, y, np.ones_like(x))
    yield lambda: made.value_and_grad(x, y, grad_output=2.0)
    yield lambda: made.value_and_grad(strided(x), read_only(y))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_targets_of_elements(name, dtype, isa, rng):
    """Named in every place of a block, by every method; taken as it is on request; and NaN is no mistake."""
    for shape in SHAPES:
        function, options, x, y = element_case(name, shape, dtype, rng)
        checked, free = loss(function, **options), loss(function, **options, unchecked=True)
        assert checked.value_and_grad(x, y)[0] == free.value_and_grad(x, y)[0]
        for bad in OF_ELEMENTS[name][0] if shape == (3, 17) else OF_ELEMENTS[name][0][:1]:
            for where in {(0,) * len(shape), tuple(n - 1 for n in shape), tuple(n // 2 for n in shape)}:
                wrong = y.copy()
                wrong[where] = bad
                place = re.escape(f"target[{', '.join(map(str, where))}] = ")
                ways = arguments_of(checked, x, wrong)
                for call in ways if shape != (70, 1000) else itertools.islice(ways, 2):
                    with pytest.raises(ValueError, match=f"^{place}.*unchecked=True"):
                        call()
                with pytest.raises(ValueError, match=f"^{place}"):
                    getattr(fastloss, function)(x, wrong, **options)
                free.value_and_grad(x, wrong)
                with fastloss.checking(), pytest.raises(ValueError, match=f"^{place}"):
                    checked(x, wrong)
        missing = y.copy()
        missing.flat[::3] = np.nan
        assert np.isnan(checked(x, missing))


@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_nothing_is_written_where_a_target_is_wrong(name, isa, threads, rng):
    for shape, dtype in itertools.product([(7, 5), (300, 400)], (np.float32, np.float64)):
        function, options, x, y = element_case(name, shape, dtype, rng)
        y[-1, -2] = OF_ELEMENTS[name][0][0]
        before, out, grad = x.copy(), np.full(shape, 7, dtype), np.full(shape, 7, dtype)
        made = loss(function, **options, reduction="sum" if function.startswith("multi") else "none")
        outputs = {"out": out} if made.reduction == "none" else {}
        for filled in ({**outputs}, {"grad_out": grad}, {"grad_out": x}, {"grad_out": grad, **outputs}):
            with pytest.raises(ValueError, match=r"^target\b"):
                made.value_and_grad(x, y, **filled)
        with pytest.raises(ValueError, match=r"^target\b"):
            made.value_grad_hess(x, y, hess_out=grad)
        assert same_bits(x, before)
        assert (out == 7).all()
        assert (grad == 7).all()


@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_elements_that_do_not_count_are_not_asked(name, isa, rng):
    """Masked, or with a weight of 0: of the sample, or of the element."""
    for shape, dtype in itertools.product([(4, 4), (9, 70)], (np.float32, np.float64)):
        function, options, x, y = element_case(name, shape, dtype, rng)
        counts = rng.random(shape[:1]) < 0.5
        counts[:2] = True, False
        wrong = np.where(counts[:, None], y, dtype(OF_ELEMENTS[name][0][0]))
        made = loss(function, **options)
        masks = counts if function.startswith("multi") else counts[:, None]
        value, grad = made.value_and_grad(x, wrong, mask=masks)
        expected = made.value_and_grad(x, y, mask=masks)
        assert value == expected[0]
        assert same_bits(grad, expected[1])
        weight = counts.astype(dtype)
        value, grad = made.value_and_grad(x, wrong, sample_weight=weight)
        expected = made.value_and_grad(x, y, sample_weight=weight)
        if name == "kl_div":  # whose logarithm of a negative number is NaN
            continue
        assert value == pytest.approx(expected[0], rel=4 * float(np.finfo(dtype).eps))
        np.testing.assert_allclose(grad, expected[1], rtol=4 * float(np.finfo(dtype).eps))
        if "weight" in made.options():
            each = loss(function, weight=np.broadcast_to(weight[:, None], shape))
            assert each(x, wrong) == pytest.approx(each(x, y), rel=4 * float(np.finfo(dtype).eps))
        with pytest.raises(ValueError, match=r"^target\b"):
            made(x, wrong, sample_weight=np.ones(shape[:1], dtype))


# ------------------------------------------------------------------------------ class probabilities

CLASS_SHAPES = [
    ((6, 3), 1),
    ((70, 5), 1),
    ((5, 300), 1),
    ((3, 2500), 1),
    ((2, 4, 130), 1),
    ((2, 7, 5), -1),
    ((4,), 0),
]
CLASS_OPTIONS = [{}, {"label_smoothing": 0.1}, {"weight": True}, {"weight": True, "label_smoothing": 0.25}]


def class_case(shape, axis, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    return x, reference.softmax(rng.standard_normal(shape), axis).astype(dtype)


def sample_place(shape, axis, sample):
    where = np.unravel_index(sample, shape[:axis] + shape[axis + 1 :])
    return tuple(int(i) for i in where)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("options", CLASS_OPTIONS)
def test_class_probabilities(options, dtype, isa, rng):
    for shape, axis in CLASS_SHAPES:
        axis %= len(shape)
        x, q = class_case(shape, axis, dtype, rng)
        given = {"axis": axis, **options}
        if "weight" in options:
            given["weight"] = 0.5 + rng.random(shape[axis])
        checked, free = loss("cross_entropy", **given), loss("cross_entropy", **given, unchecked=True)
        value, grad = checked.value_and_grad(x, q)
        assert value == free.value_and_grad(x, q)[0]
        assert same_bits(grad, free.value_and_grad(x, q)[1])
        samples = q.size // shape[axis]
        for sample in {0, samples // 2, samples - 1}:
            first = sample_place(shape, axis, sample)
            row = (*first[:axis], slice(None), *first[axis:])
            entry = (*first[:axis], shape[axis] - 1, *first[axis:])
            place = re.escape(f"target[{', '.join(map(str, first))}]" if first else "target")
            for by in (1.1, 0.98, 3.0):
                wrong = q.copy()
                wrong[row] *= dtype(by)
                for call in arguments_of(checked, x, wrong):
                    with pytest.raises(ValueError, match=f"^{place} adds up to .*unchecked=True"):
                        call()
                free.value_and_grad(x, wrong)
            wrong = q.copy()
            wrong[entry] = -1e-3
            place = re.escape(f"target[{', '.join(map(str, entry))}] = -0.001")
            for call in arguments_of(checked, x, wrong):
                with pytest.raises(ValueError, match=f"^{place}"):
                    call()
            with pytest.raises(ValueError, match=f"^{place}"):
                fastloss.cross_entropy(x, wrong, **given)
        spoiled = q.copy()
        spoiled.flat[0] = np.nan
        assert np.isnan(checked(x, spoiled))
        x_before, out = x.copy(), np.full(shape, 7, dtype)
        wrong = q * dtype(2)
        for filled in (out, x):
            with pytest.raises(ValueError, match=r"^target\b"):
                checked.value_and_grad(x, wrong, grad_out=filled)
        assert same_bits(x, x_before)
        assert (out == 7).all()


def test_class_probabilities_within_rounding(isa, rng):
    """1e-3, and what half precision loses of each: three roundings, as of a softmax computed in it."""
    for classes, by in itertools.product((3, 40, 300), (1 - 9e-4, 1 + 9e-4)):
        q = np.full((70, classes), by / classes)
        for dtype in FLOATS:
            fastloss.cross_entropy(np.zeros((70, classes), dtype), q.astype(dtype))
        x = rng.standard_normal((70, classes)).astype(np.float16)
        e = np.exp(x)
        fastloss.cross_entropy(x, e / e.sum(1, keepdims=True))
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for classes in (3, 40, 300, 5000):
        x = rng.standard_normal((70, classes)).astype(bfloat16)
        e = np.exp(x.astype(np.float32)).astype(bfloat16)
        q = e / e.astype(np.float32).sum(1, keepdims=True).astype(bfloat16)
        fastloss.cross_entropy(x, q.astype(bfloat16))
        with pytest.raises(ValueError, match="adds up to"):
            fastloss.cross_entropy(x, (q.astype(np.float32) * 1.02).astype(bfloat16))


def test_probabilities_of_samples_that_do_not_count(isa, rng):
    for (shape, axis), options in itertools.product(CLASS_SHAPES[:-1], CLASS_OPTIONS):
        axis %= len(shape)
        x, q = class_case(shape, axis, np.float64, rng)
        given = {"axis": axis, **options}
        if "weight" in options:
            given["weight"] = 0.5 + rng.random(shape[axis])
        counts = rng.random(shape[:axis] + shape[axis + 1 :]) < 0.5
        counts.flat[:2] = True, False
        made = loss("cross_entropy", **given)
        for bad in (-7.0, 0.0, np.inf):
            wrong = np.where(np.expand_dims(counts, axis), q, bad)
            assert made(x, wrong, mask=counts) == made(x, q, mask=counts)
        wrong = np.where(np.expand_dims(counts, axis), q, -7.0)
        weight = counts.astype(float)
        assert made(x, wrong, sample_weight=weight) == pytest.approx(
            made(x, q, sample_weight=weight), rel=1e-14
        )


def test_counts_of_classes_are_not_negative(isa, rng):
    for (shape, axis), full in itertools.product(CLASS_SHAPES, (False, True)):
        axis %= len(shape)
        x, k = rng.standard_normal(shape), rng.integers(0, 4, shape).astype(float)
        made = loss("multinomial_nll_loss", axis=axis, full=full)
        made.value_and_grad(x, k)
        k.flat[-1] = -2
        place = re.escape(f"target[{', '.join(str(n - 1) for n in shape)}] = -2.0 is negative, wanted counts")
        grad = np.full(shape, 7.0)
        for call in (*arguments_of(made, x, k), lambda: made.value_and_grad(x, k, grad_out=grad)):  # noqa: B023
            with pytest.raises(ValueError, match=place):
                call()
        assert (grad == 7).all()
        if not full:
            loss("multinomial_nll_loss", axis=axis, unchecked=True).value_and_grad(x, k)


def test_divergence_of_what_adds_up_to_no_distribution(isa, rng):
    """Along whichever axis but the first; in all, as the loss has no class axis."""
    for shape, axis, dtype in itertools.product([(6, 4), (40, 30), (5, 3, 8)], (1, -1), FLOATS):
        x = reference.log_softmax(rng.standard_normal(shape), axis).astype(dtype)
        q = reference.softmax(rng.standard_normal(shape), axis).astype(dtype)
        made = loss("kl_div", reduction="batchmean")
        assert made(x, q) == loss("kl_div", reduction="batchmean", unchecked=True)(x, q)
        for by in (0.9, 1.1, 17):
            with pytest.raises(ValueError, match=r"^target\[.*\] adds up to .*unchecked=True"):
                made(x, q * dtype(by))
            with pytest.raises(ValueError, match=r"^target\b"):
                made.value_and_grad(x, q * dtype(by), grad_out=x.copy())
    for y in ([0.5, 0.5], [0.5, 1.0], [0.0]):  # one axis may be that of samples
        assert fastloss.kl_div(np.full(len(y), -1.0), y) < 1
    padded = [[0.5, 0.5], [0.0, 0.0]]
    assert (
        fastloss.kl_div(np.log([[0.5, 0.5]] * 2), padded)
        == fastloss.kl_div(np.zeros((3, 4)), np.zeros((3, 4)))
        == 0
    )
    with pytest.raises(ValueError, match=r"^target\[0\] adds up to 2 along axis 1"):  # and 1 along the first
        fastloss.kl_div(np.full((2, 4), -1.0), np.full((2, 4), 0.5))
    with pytest.raises(ValueError, match=r"^target\[1\] adds up to 1.2 "):
        fastloss.kl_div(np.log([[0.5, 0.5], [0.9, 0.1]]), [[0.5, 0.5], [0.9, 0.3]])


# ------------------------------------------------------------------------------- log-probabilities


def test_log_probabilities_are_not_positive(isa, rng):
    """kl_div(p, q) of SciPy's users was negative without a word."""
    p = reference.softmax(rng.standard_normal((4, 5)))
    with pytest.raises(
        ValueError, match=r"^input\[0, 0\] = .* wanted log-probabilities; probabilities\? pass numpy.log"
    ):
        fastloss.kl_div(p, p)
    logits = np.array([[-1.0, 3.0], [0.5, 2.0]])
    with pytest.raises(ValueError, match=r"^input\[0, 1\] = 3.0 .*; logits\? pass log_softmax"):
        fastloss.kl_div(logits, [[0.5, 0.5], [0.5, 0.5]])
    assert fastloss.nll_loss(logits, [0, 1]) == -0.5  # as PyTorch's, of anything
    assert fastloss.kl_div(0.25, 0.5) < 0  # one element, of which distribution nobody knows


@pytest.mark.parametrize("variant", VARIANTS)
def test_unchecked_changes_no_bit_of_what_can_be_meant(variant, isa, rng):
    for shape, dtype in itertools.product([(9, 5), (3, 300), (2, 3, 5)], (np.float32, np.float64)):
        case = make(variant, rng, shape, dtype)
        if "unchecked" not in loss(case.name).options():
            assert variant in [*INDEXED, *POINTWISE]
            if variant in POINTWISE:  # any number can be meant
                case.target = 1e3 * rng.standard_normal(shape).astype(dtype)
                assert np.isfinite(run(case)[0])
            continue
        results = []
        for case.options["unchecked"] in (False, True):
            results.append([*run(case), *run(case, "none"), *run_second(case)])
        for a, b in zip(*results, strict=True):
            assert same_bits(a, b)


# ----------------------------------------------------------------------------- weights of samples


@pytest.mark.parametrize("way", ["short", "general"])
@pytest.mark.parametrize("variant", POINTWISE)
def test_one_weight_for_each_sample(variant, way, isa, rng, monkeypatch):
    """Also where there are as many samples as columns, whichever way the call goes."""
    if way == "general":
        monkeypatch.setattr(_kernels.module, "plain_loss", lambda *args: None)
    for shape in [(4, 4), (4, 7), (3, 3, 3), (3, 5, 2), (5, 1), (1, 5), (2, 1, 3)]:
        case = make(variant, rng, shape)
        for lead in {case.value_shape[:n] for n in range(1, len(case.value_shape) + 1)}:
            weight, mask = 0.5 + rng.random(lead), rng.random(lead) < 0.6
            mask.flat[0] = True
            spread = lead + (1,) * (len(case.value_shape) - len(lead))
            for name, array in (("sample_weight", weight), ("mask", mask)):
                given, whole = {name: array}, {name: array.reshape(spread)}
                for reduction in ("mean", "sum", "none"):
                    for function in (run, run_second):
                        pairs = zip(
                            function(case, reduction, **given),
                            function(case, reduction, **whole),
                            strict=True,
                        )
                        assert all(same_bits(got, want) for got, want in pairs)
                    got, want = run(case, reduction, **given), refer(case, reduction, **given)
                    np.testing.assert_allclose(got[0], want[0], rtol=1e-12, atol=1e-13)
                made = loss(case.name, **case.options)
                totals = [made.total(case.input, case.target, **call) for call in (given, whole)]
                assert totals[0] == totals[1]
                with fastloss.checking():
                    run(case, **given)
                case.input = np.asfortranarray(case.input)
                pairs = zip(run(case, "none", **given), run(case, "none", **whole), strict=True)
                assert all(same_bits(got, want) for got, want in pairs)
                case.input = np.ascontiguousarray(case.input)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_weights_that_fit_no_samples_broadcast(order, reduction, isa):
    x, weight = np.ones((4, 7), order=order), np.arange(1.0, 8.0)
    for function in (fastloss.mse_loss, lambda *args, **options: reference.mse_loss(*args, **options)[0]):
        given = function(x, 0 * x, sample_weight=weight, reduction=reduction)
        assert np.array_equal(given, function(x, 0 * x, sample_weight=weight[None], reduction=reduction))
        with pytest.raises(ValueError, match=r"^sample_weight: got shape \(3,\)"):
            function(x, x, sample_weight=np.ones(3), reduction=reduction)
    fastloss.mse_loss(x, x, mask=np.ones(7, bool), reduction=reduction)
    fastloss.mse_loss(x, x, sample_weight=[2.0], reduction=reduction)


def test_one_weight_for_each_sample_of_classes(isa, rng):
    """Where samples have two axes, of all that takes weights."""
    x, labels, weight = rng.standard_normal((4, 4, 5)), rng.integers(0, 5, (4, 4)), 0.5 + rng.random(4)
    mask, whole = np.array([True, False, True, True]), weight[:, None]
    for function in (fastloss.cross_entropy, fastloss.focal_loss):
        value = function(x, labels, axis=-1, sample_weight=weight, mask=mask)
        assert value == function(x, labels, axis=-1, sample_weight=whole, mask=mask[:, None])
    for weights in ({"sample_weight": weight}, {"mask": mask}):
        spread = {name: array[:, None] for name, array in weights.items()}
        perplexity = fastloss.metrics.perplexity
        assert perplexity(x, labels, axis=-1, **weights) == perplexity(x, labels, axis=-1, **spread)
        distilled = fastloss.KLDivWithLogitsLoss(axis=-1)
        teacher = rng.standard_normal(x.shape)
        assert distilled(x, teacher, **weights) == distilled(x, teacher, **spread)
        of_layer = fastloss.LinearCrossEntropyLoss()
        layer = rng.standard_normal((6, 5))
        assert of_layer(x, layer, labels, **weights) == of_layer(x, layer, labels, **spread)
    assert fastloss.temperature(x, labels, axis=-1, sample_weight=weight) == fastloss.temperature(
        x, labels, axis=-1, sample_weight=whole
    )
    with pytest.raises(ValueError, match=r"^sample_weight: got shape \(3,\)"):
        fastloss.cross_entropy(x, labels, axis=-1, sample_weight=[1.0, 2.0, 3.0])


# --------------------------------------------------------------------------------------- remedies

X = np.zeros((4, 5))
T = np.array([0, 1, 2, 3])
REMEDIES = {
    "time axis": (fastloss.cross_entropy, np.zeros((2, 3, 5)), np.zeros((2, 3), int), r"PyTorch: axis=-1\?"),
    "labels from 1": (fastloss.cross_entropy, np.zeros((3, 3)), [1, 2, 3], "counted from 0.*target - 1"),
    "label 255": (fastloss.cross_entropy, X, [0, 255, 1, 2], "ignore_index=255"),
    "label -1": (fastloss.cross_entropy, X, [0, -1, 1, 2], "ignore_index=-1"),
    "NaN as integer": (fastloss.cross_entropy, X, [0, -(2**63), 1, 2], "NaN.*mask="),
    "fractions": (fastloss.cross_entropy, X, [0.0, 1.5, 1, 2], "astype"),
    "labels beyond 64 bits": (
        fastloss.cross_entropy,
        X,
        [0, 1e300, 1, 2],
        r"\[1\] = 1e\+300 is out of range for 5",
    ),
    "label 2^63": (fastloss.cross_entropy, X, [-1, 2**63, 1, 2], r"\[1\] = 9.*e\+18 is out of range for 5"),
    "inf in labels": (fastloss.cross_entropy, X, [0, np.inf, 1, 2], "mask=numpy.isfinite"),
    "a set": (fastloss.cross_entropy, X, {0, 1, 2, 3}, "got set, wanted numbers.* list"),
    "a generator": (fastloss.cross_entropy, X, iter(range(4)), "got range_iterator, wanted numbers.* list"),
    "a dict": (fastloss.mse_loss, X, {0: 1.0}, "got dict, wanted numbers.* list"),
    "bytes": (fastloss.cross_entropy, X, b"0123", "got bytes, wanted numbers.* list"),
    "NaN in labels": (fastloss.cross_entropy, X, [0.0, np.nan, 1, 2], "mask=~numpy.isnan"),
    "probabilities as labels": (fastloss.cross_entropy, X, [0.5, 0.25, 0.1, 0.2], "shape of the input"),
    "one-hot integers": (fastloss.cross_entropy, X, np.eye(5, dtype=int)[T], r"argmax\(1\)"),
    "one-hot of others": (fastloss.cross_entropy, X, np.eye(6)[T], "one-hot.*6 classes.*5"),
    "one-hot floats": (fastloss.focal_loss, X, np.eye(4, 5), r"argmax\(1\)"),
    "probabilities for labels": (fastloss.nll_loss, X, np.full((4, 5), 0.2), "are for cross_entropy"),
    "labels for counts": (fastloss.multinomial_nll_loss, X, T, "class indices.*cross_entropy"),
    "a column of labels": (fastloss.cross_entropy, X, T[:, None], r"squeeze\(1\)"),
    "swapped": (fastloss.cross_entropy, T, X, "swapped"),
    "flattened": (fastloss.cross_entropy, np.zeros((2, 3, 5)), np.zeros(6, int), r"reshape\(-1, 5\)"),
    "text as input": (fastloss.cross_entropy, list("abcd"), T, "numbers as text"),
    "text": (fastloss.cross_entropy, X, list("abca"), "numpy.unique"),
    "text in objects": (fastloss.cross_entropy, X, np.array(list("abca"), object), "labels as text.*unique"),
    "objects": (fastloss.mse_loss, X, np.zeros((4, 5), object), "astype"),
    "fields": (fastloss.mse_loss, X, np.zeros((4, 5), [("a", float)]), r"array\['a'\]"),
    "complex": (fastloss.mse_loss, X, np.zeros((4, 5), complex), "real"),
    "long double": (fastloss.mse_loss, X, np.zeros((4, 5), np.longdouble), "numpy.float64"),
    "ragged": (fastloss.cross_entropy, [[1.0, 2.0], [3.0]], [0, 0], "different lengths.*pad"),
    "masked": (fastloss.mse_loss, np.ma.array([1.0], mask=[1]), [1.0], "mask=~numpy.ma"),
    "labels for elements": (fastloss.binary_cross_entropy_with_logits, X, T, "class indices.*cross_entropy"),
    "column": (fastloss.mse_loss, np.zeros((4, 1)), np.zeros(4), r"target\[\.\.\., None\]"),
    "0 and 255": (fastloss.binary_cross_entropy_with_logits, X, np.eye(4, 5) * 255, "divide it by 255"),
    "-1 for missing": (fastloss.binary_cross_entropy_with_logits, X, np.eye(4, 5) - 1, "mask=target >= 0"),
    "1 and -1": (fastloss.binary_cross_entropy_with_logits, X, 2 * np.eye(4, 5) - 1, r"\(target \+ 1\) / 2"),
    "percentages": (fastloss.binary_cross_entropy_with_logits, X, np.eye(4, 5) * 100, "divide by 100"),
    "logits for p": (fastloss.binary_cross_entropy, X - 3, np.eye(4, 5), "binary_cross_entropy_with_logits"),
    "several labels": (fastloss.cross_entropy, X, np.ones((4, 5)), "binary_cross_entropy_with_logits"),
    "counts": (fastloss.cross_entropy, X, np.full((4, 5), 2.0), "multinomial_nll_loss"),
    "log target": (fastloss.cross_entropy, X, np.full((4, 5), -2.0), "numpy.exp"),
    "swapped soft": (fastloss.cross_entropy, X + 0.2, X + 0.5 - np.eye(4, 5), "swapped"),
    "kl of log target": (fastloss.kl_div, X - 1, X - 1, "log_target=True"),
    "kl of SciPy's order": (fastloss.kl_div, X + 0.2, X + 0.2, "special.kl_div"),
}
if np.dtype(np.longdouble) == np.float64:
    del REMEDIES["long double"]


@pytest.mark.parametrize("kind", REMEDIES)
def test_remedies(kind):
    function, x, y, remedy = REMEDIES[kind]
    with pytest.raises((TypeError, ValueError, IndexError), match=f"^(input|target)\\b.*{remedy}"):
        function(x, y)


WRT = {
    "of softmax": lambda wrt: fastloss.CrossEntropyLoss().value_and_grad(X, T, wrt=wrt),
    "of variances": lambda wrt: fastloss.GaussianNLLLoss().value_and_grad(X, X, 1.0, wrt=wrt),
    "of a layer": lambda wrt: fastloss.LinearCrossEntropyLoss().value_and_grad(X, X, T, wrt=wrt),
}


@pytest.mark.parametrize("kind", WRT)
def test_what_to_differentiate_by(kind):
    for wrong in (None, 3):
        with pytest.raises(TypeError, match=f"^wrt: got {type(wrong).__name__}, wanted one of 'input', "):
            WRT[kind](wrong)
    value, grads = WRT[kind](())
    assert (value, grads) == (WRT[kind]("input")[0], ())


MASKED = np.ma.array(X, mask=X == 0)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: fastloss.softmax(0.5, axis=1), r"^axis: got 1, wanted one in \[-1, 1\) for x of shape \(\)"),
        (lambda: fastloss.softmax(MASKED), r"^x: got a masked array.* where=~numpy.ma"),
        (
            lambda: fastloss.linear_cross_entropy(X, MASKED, T),
            r"^linear_weight: got a masked array.* \.filled",
        ),
        (
            lambda: fastloss.LinearCrossEntropyLoss().value_and_grad(
                X, X.astype(np.float16), T, grad_weight_out=X.copy()
            ),
            "^grad_weight_out: got dtype float64, wanted float16 or float32",
        ),
    ],
    ids=["no dimensions", "masked entries", "masked layer", "wider gradient"],
)
def test_what_was_wanted(call, error):
    with pytest.raises((TypeError, ValueError), match=error):
        call()


class Labelled:
    """An array of xarray, which has a graph if its data are Dask's."""

    def __init__(self, array, graph):
        self.array, self.graph, self.shape, self.dtype = array, graph, array.shape, array.dtype

    def __dask_graph__(self):
        return self.graph

    def __array__(self, dtype=None, copy=None):
        return self.array

    def __getitem__(self, block):
        return Labelled(self.array[block], self.graph)


def test_arrays_that_could_be_dasks():
    x, labels = Labelled(X, None), Labelled(T, None)
    np.testing.assert_array_equal(fastloss.softmax(x), fastloss.softmax(X))
    made = fastloss.CrossEntropyLoss()
    assert made(x, labels) == made(X, T)
    assert fastloss.stream(made, x, labels, rows=2) == made.total(X, T)
    assert fastloss.metrics.perplexity(x, labels) == fastloss.metrics.perplexity(X, T)


def test_remedies_for_other_arrays():
    with pytest.raises(TypeError, match=r"^x: got a Dask collection.*fastloss.dask"):
        fastloss.softmax(Labelled(X, {}))
    sparse = pytest.importorskip("scipy.sparse")
    for name in ("csr_matrix", "csr_array", "coo_array"):
        with pytest.raises(TypeError, match=r"^target: got a sparse .*\.toarray\(\)"):
            fastloss.binary_cross_entropy(X, getattr(sparse, name)(np.eye(4, 5)))
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(list("abca"), dtype="category")
    with pytest.raises(TypeError, match=r"^target: got categories.*\.cat\.codes"):
        fastloss.cross_entropy(X, series)
    with pytest.raises(TypeError, match=r"^target: got categories.* \.codes"):
        fastloss.cross_entropy(X, series.array)
    assert fastloss.cross_entropy(pandas.DataFrame(X), series.cat.codes) == fastloss.cross_entropy(
        X, [0, 1, 2, 0]
    )


def test_nullable_numbers_of_pandas():
    pandas = pytest.importorskip("pandas")
    tables = {kind: pandas.DataFrame(X).astype(kind.title()) for kind in ("float64", "float32")}
    for kind, table in tables.items():
        x = X.astype(kind)
        value, grad = loss("cross_entropy").value_and_grad(table, pandas.Series(T, dtype="Int64"))
        expected = loss("cross_entropy").value_and_grad(x, T)
        assert value == expected[0]
        assert same_bits(grad, expected[1])
        table.iloc[1, 2] = pandas.NA
        assert np.array_equal(np.isnan(fastloss.logsumexp(table)), [False, True, False, False])
        assert fastloss.logsumexp(table).dtype == kind
    whole = pandas.DataFrame({"a": [True, False], "b": pandas.array([1, None], "Int8"), "c": [0.5, 1.5]})
    with_0 = fastloss.mse_loss(whole, [[0, 0, 0]] * 2, mask=~whole.isna())
    assert with_0 == fastloss.mse_loss([1, 1, 0.5, 0, 1.5], np.zeros(5))
    seen = pandas.DataFrame({"a": pandas.array([True, False], "boolean"), "b": [True, True]})
    assert fastloss.mse_loss([[1.0, 2.0], [3.0, 4.0]], np.zeros((2, 2)), mask=seen) == 7.0
    flags = pandas.Series([True, None, False], dtype="boolean")
    with pytest.raises(TypeError, match=r"^mask: got dtype float64, wanted bool"):
        fastloss.mse_loss([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], mask=flags)
    with pytest.raises(TypeError, match=r"^input: got dtype object"):
        fastloss.mse_loss(pandas.DataFrame({"a": [1.0], "b": ["x"]}), [[0.0, 0.0]])
    with pytest.raises(TypeError, match=r"^target: got dtype object.*labels as text"):
        fastloss.cross_entropy(X, pandas.Series(list("abca")))


def test_tensors_of_bfloat16():
    torch, ml_dtypes = pytest.importorskip("torch"), pytest.importorskip("ml_dtypes")
    tensor = torch.linspace(-1, 1, 20).reshape(4, 5).bfloat16()
    array = tensor.float().numpy().astype(ml_dtypes.bfloat16)
    for given in (tensor, torch.stack([tensor, tensor], 2)[..., 0]):
        value, grad = loss("cross_entropy").value_and_grad(given, torch.arange(4))
        want = loss("cross_entropy").value_and_grad(array, np.arange(4))
        assert value == want[0]
        assert same_bits(grad, want[1])
    assert same_bits(fastloss.softmax(tensor), fastloss.softmax(array))
    with pytest.raises(TypeError, match=r"^x: .*detach.*fastloss\.torch"):
        fastloss.softmax(tensor.requires_grad_())
    with pytest.raises(TypeError, match=r"^x: .*detach.*fastloss\.torch"):
        fastloss.softmax(tensor.detach().float().requires_grad_())


# --------------------------------------------------------------------- what is there without asking


def test_switching_checks_on_and_off():
    code = "import fastloss; print(fastloss._checking.enabled())"
    for value, on in {
        "": 0,
        "0": 0,
        "off": 0,
        "False": 0,
        "NO": 0,
        "1": 1,
        "True": 1,
        "on": 1,
        "yes": 1,
    }.items():
        assert answers(code, FASTLOSS_CHECK=value) == str(bool(on))
    caught = "\ntry:\n import fastloss\nexcept ValueError as error: print(error)"
    assert answers(caught, FASTLOSS_CHECK="maybe").startswith("FASTLOSS_CHECK: got 'maybe', wanted 1, ")


def test_submodules_are_there_when_asked_for():
    code = (
        "import sys, fastloss\n"
        "optional = {'boosting', 'cython_api', 'dask', 'jax', 'sklearn', 'torch'}\n"
        "assert optional <= {*dir(fastloss)}\n"
        "assert not {f'fastloss.{name}' for name in optional} & {*sys.modules}\n"
        "assert not {'dask', 'jax', 'scipy', 'sklearn', 'torch'} & {*sys.modules}\n"
        "assert fastloss.boosting is sys.modules['fastloss.boosting']\n"
        "assert not hasattr(fastloss, 'nothing') and not hasattr(fastloss, '_nothing')\n"
        "for name in ('dask', 'jax', 'sklearn', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "    try: getattr(fastloss, name)\n"
        "    except AttributeError as error: assert f'fastloss.{name} cannot be imported: ' in str(error)\n"
        "    else: raise AssertionError(name)\n"
    )
    answers(code)
    pytest.importorskip("torch")
    assert answers("import fastloss; print(fastloss.torch.mse_loss.__name__)") == "mse_loss"
