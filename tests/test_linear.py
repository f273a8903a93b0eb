"""Linear cross-entropy: against the plain formula, in chunks and panels, in memory of the caller's."""

import math
import pickle
import tracemalloc

import numpy as np
import pytest

import fastloss
from fastloss import bounds, reference
from fastloss.losses import linear

ALL = ("input", "linear_weight", "linear_bias")
OUTS = ("grad_input_out", "grad_weight_out", "grad_bias_out")
OPTIONS = {
    "plain": {},
    "weight": {"weight": np.arange(1, 8) / 4},
    "smoothing": {"label_smoothing": 0.2, "weight": np.arange(7) / 4},
    "z_loss": {"z_loss": 0.01},
    "softcap": {"softcap": 2.0},
    "ignored": {"ignore_index": (2, -100)},
}
CHUNKS = [None, 1, 4, 100]


def dtypes():
    yield from (np.float64, np.float32, np.float16)
    yield pytest.param("bfloat16", id="bfloat16")


@pytest.fixture(params=dtypes())
def dtype(request):
    if request.param == "bfloat16":
        return pytest.importorskip("ml_dtypes").bfloat16
    return request.param


def computed(dtype):
    return np.float64 if np.dtype(dtype) == np.float64 else np.float32


def make(dtype=np.float64, rows=11, features=5, classes=7, seed=1):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((rows, features)), rng.standard_normal((classes, features))
    labels = rng.integers(0, classes, rows)
    labels[rows // 2] = -100
    return x.astype(dtype), w.astype(dtype), rng.standard_normal(classes).astype(dtype), labels


def within(got, want, bound):
    """Whether a result, which may be of half precision, is within its bound."""
    got = np.asarray(got)
    if got.dtype.itemsize == 2:
        bound = bounds.rounded(bound, want, got.dtype)
    assert got.shape == np.shape(want)
    assert bounds.shares(got.astype(np.float64), want, bound).max(initial=0) <= 1


def plain(x, w, b, labels, reduction="mean"):
    """Value and gradients of labels of which -100 is ignored, as the formula stands."""
    x, w, b = (np.asarray(a, np.float64) for a in (x, w, b))
    logits = x @ w.T + b
    counted = labels != -100
    hot = np.where(counted, labels, 0)[:, None] == np.arange(len(w))
    shifted = logits - logits.max(1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    values = -np.log((p * hot).sum(1)) * counted
    g = (p - hot) * counted[:, None] / (counted.sum() if reduction == "mean" else 1)
    value = {"none": values, "sum": values.sum(), "mean": values.sum() / counted.sum()}[reduction]
    return value, g @ w, g.T @ x, g.sum(0)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_formula(isa, dtype, chunk, reduction):
    x, w, b, labels = make(dtype)
    loss = fastloss.LinearCrossEntropyLoss(reduction=reduction, chunk=chunk)
    options = {"linear_bias": b, "reduction": reduction}
    value, grads = loss.value_and_grad(x, w, labels, linear_bias=b, wrt=ALL)
    of = bounds.against_reference(bounds.linear, computed(dtype), x, w, labels, **options)
    for got, want, bound in zip((value, *grads), plain(x, w, b, labels, reduction), of, strict=True):
        within(got, want, bound)
    assert [g.dtype for g in grads] == [np.dtype(dtype)] * 3
    within(loss(x, w, labels, linear_bias=b), plain(x, w, b, labels, reduction)[0], of.value)
    assert isinstance(value, np.ndarray if reduction == "none" else float)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_reference(dtype, options, probabilities):
    """By `checking`, for each reduction, with all that a call has."""
    x, w, b, labels = make(dtype)
    rng = np.random.default_rng(4)
    if probabilities:
        labels = rng.dirichlet(np.ones(len(w)), len(x)).astype(np.float32)
    weights = {"sample_weight": rng.uniform(size=len(x)), "mask": rng.uniform(size=len(x)) < 0.8}
    for reduction in ("mean", "sum", "none"):
        loss = fastloss.LinearCrossEntropyLoss(**options, reduction=reduction, chunk=4)
        upstream = rng.standard_normal(len(x)) if reduction == "none" else -1.5
        arguments = {"linear_bias": b, "grad_output": upstream, **weights}
        with fastloss.checking():
            loss(x, w, labels)
            _, grads = loss.value_and_grad(x, w, labels, wrt=ALL, **arguments)
            outs = {name: np.ones_like(grad) for name, grad in zip(OUTS, grads, strict=True)}
            loss.value_and_grad(x, w, labels, wrt=ALL, **arguments, **outs, accumulate=True)


def test_checking_finds_a_wrong_product(monkeypatch):
    x, w, _, labels = make()
    monkeypatch.setattr(linear.Products, "multiply", lambda self, a, b, out: np.matmul(a, 1.01 * b, out=out))
    with fastloss.checking(), pytest.raises(fastloss.CheckError, match="linear_cross_entropy: value"):
        fastloss.linear_cross_entropy(x, w, labels)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradients_are_differences(options):
    """Central differences of the reference, whose error is about h**2 + u / h for values of about 1."""
    x, w, b, labels = make()
    arrays, h = [x, w, b], 1e-5
    _, *grads = reference.linear_cross_entropy(x, w, labels, linear_bias=b, **options)
    for array, grad in zip(arrays, grads, strict=True):
        for place in np.ndindex(array.shape):
            values = []
            for step in (h, -h):
                kept = array[place]
                array[place] = kept + step
                values.append(reference.linear_cross_entropy(x, w, labels, linear_bias=b, **options)[0])
                array[place] = kept
            assert abs((values[0] - values[1]) / (2 * h) - grad[place]) < 1e-8


def test_logits_that_are_exact():
    """A confident row has all its digits; the loss is that of `cross_entropy`, bit by bit."""
    x, w, labels = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[20.0, 1.0], [0.0, 3.0]]), [0, 1]
    value, (by_input, by_weight) = fastloss.LinearCrossEntropyLoss().value_and_grad(x, w, labels)
    wanted, g = fastloss.CrossEntropyLoss().value_and_grad(x @ w.T, labels)
    assert value == wanted
    np.testing.assert_array_equal(by_input, g @ w)
    np.testing.assert_array_equal(by_weight, g.T @ x)
    assert fastloss.linear_cross_entropy(x[:1], w, [0]) == fastloss.cross_entropy([[20.0, 0.0]], [0]) < 3e-9


def test_a_bias_masks_classes():
    x, w, _, labels = make()
    labels[labels == 3] = 1
    bias = np.where(np.arange(7) == 3, -np.inf, 0.0)
    value, (by_weight, by_bias) = fastloss.LinearCrossEntropyLoss().value_and_grad(
        x, w, labels, linear_bias=bias, wrt=("linear_weight", "linear_bias")
    )
    assert math.isfinite(value)
    assert not by_weight[3].any()
    assert by_bias[3] == 0


# ---------------------------------------------------------------------------- rows that do not count


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_rows_that_do_not_count_may_hold_anything(dtype, chunk, bad):
    x, w, _, labels = make(dtype)
    loss = fastloss.LinearCrossEntropyLoss(chunk=chunk, reduction="none")
    wanted, grads = loss.value_and_grad(x, w, labels)
    x[5] = bad
    for target, mask in ((labels, None), (np.where(labels < 0, 99, labels), np.arange(11) != 5)):
        value, (by_input, by_weight) = loss.value_and_grad(x, w, target, mask=mask)
        np.testing.assert_array_equal(value, wanted)
        assert value[5] == 0
        np.testing.assert_array_equal(by_input, grads[0])
        assert not by_input[5].any()
        np.testing.assert_array_equal(by_weight, grads[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_count_show_what_they_hold(bad):
    x, w, _, labels = make()
    x[0, 0] = bad
    values, (by_input, by_weight) = fastloss.LinearCrossEntropyLoss(reduction="none").value_and_grad(
        x, w, labels
    )
    assert np.isnan(by_input).all(1).tolist() == np.isnan(values).tolist() == [True, *[False] * 10]
    assert np.isnan(by_weight).all()


def test_nothing_counts():
    x, w, _, labels = make()
    nothing = np.full_like(labels, -100)
    for given, target in ((x, nothing), (x[:0], labels[:0])):
        for reduction, wanted in (("mean", math.nan), ("sum", 0.0), ("none", np.zeros(len(given)))):
            loss = fastloss.LinearCrossEntropyLoss(reduction=reduction)
            value, (by_input, by_weight) = loss.value_and_grad(given, w, target)
            np.testing.assert_array_equal(value, wanted)
            assert not by_input.any()
            assert not by_weight.any()
            kept = np.ones_like(w)
            loss.value_and_grad(given, w, target, grad_weight_out=kept, accumulate=True)
            assert (kept == 1).all()
    assert fastloss.linear_cross_entropy(x, w, nothing, empty="zero") == 0


def test_weights_that_add_up_to_nothing_or_less():
    x, w, b, labels = make()
    for weights in (np.zeros(11), -np.ones(11), np.full(11, 1e-310)):
        with fastloss.checking():
            fastloss.LinearCrossEntropyLoss(chunk=3).value_and_grad(
                x, w, labels, linear_bias=b, wrt=ALL, sample_weight=weights
            )


def test_parts_add_up():
    """What `normalizer` and `accumulate` are for: unequal parts of a batch."""
    x, w, _, labels = make()
    loss, n = fastloss.LinearCrossEntropyLoss(), int((labels >= 0).sum())
    whole, (_, wanted) = loss.value_and_grad(x, w, labels)
    total, value = np.zeros_like(w), 0.0
    for part in (slice(0, 3), slice(3, 11)):
        value += loss.value_and_grad(
            *(x[part], w, labels[part]),
            wrt="linear_weight",
            normalizer=n,
            grad_weight_out=total,
            accumulate=True,
        )[0]
    u = 2.0**-53
    assert abs(value - whole) <= 64 * u * whole  # 2 sums of 5 terms, each off by less
    np.testing.assert_allclose(total, wanted, rtol=0, atol=64 * u * np.abs(x).max())


# ---------------------------------------------------------------------------- memory, bits


@pytest.mark.parametrize("chunk", CHUNKS)
def test_outputs_of_the_callers(dtype, chunk):
    x, w, b, labels = make(dtype)
    loss = fastloss.LinearCrossEntropyLoss(chunk=chunk)
    _, wanted = loss.value_and_grad(x, w, labels, linear_bias=b, wrt=ALL)
    spaced = [np.full((*g.shape, 2), 7, g.dtype)[..., 0] for g in wanted]
    for outs in ([np.full_like(g, 7) for g in wanted], spaced):
        given = dict(zip(OUTS, outs, strict=True))
        _, grads = loss.value_and_grad(x, w, labels, linear_bias=b, wrt=ALL, **given)
        for out, grad, want in zip(outs, grads, wanted, strict=True):
            assert grad is out
            np.testing.assert_array_equal(grad, want)
        with fastloss.checking():
            loss.value_and_grad(x, w, labels, linear_bias=b, wrt=ALL, **given, accumulate=True)
    _, grads = loss.value_and_grad(x, w, labels, linear_bias=b, wrt=ALL, grad_input_out=x)
    assert grads[0] is x
    for grad, want in zip(grads, wanted, strict=True):
        np.testing.assert_array_equal(grad, want)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_half_precision_is_rounded_once(chunk):
    """Gradients may be float32 beside it, and are those rounded."""
    x, w, b, labels = make(np.float16)
    loss = fastloss.LinearCrossEntropyLoss(chunk=chunk)
    _, grads = loss.value_and_grad(x, w, labels, linear_bias=b, wrt=ALL)
    outs = {name: np.empty(g.shape, np.float32) for name, g in zip(OUTS, grads, strict=True)}
    _, wide = loss.value_and_grad(x, w, labels, linear_bias=b, wrt=ALL, **outs)
    for grad, more in zip(grads, wide, strict=True):
        np.testing.assert_array_equal(grad, more.astype(np.float16))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_bits(dtype, threads, chunk):
    """The same for the same shapes: whatever the memory, whatever else is asked for."""
    x, w, b, labels = make(dtype, classes=300)
    loss = fastloss.LinearCrossEntropyLoss(chunk=chunk)
    value, wanted = loss.value_and_grad(x, w, labels, linear_bias=b, wrt=ALL)
    swapped = np.dtype(dtype).newbyteorder("S")
    forms = (
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.astype(swapped),
    )
    for form in forms:
        got, grads = loss.value_and_grad(form(x), form(w), labels, linear_bias=form(b), wrt=ALL)
        assert got == value
        for grad, want in zip(grads, wanted, strict=True):
            assert np.array_equal(grad, want)
    for i, name in enumerate(ALL):
        got, grad = loss.value_and_grad(x, w, labels, linear_bias=b, wrt=name)
        assert got == value
        assert np.array_equal(grad, wanted[i])
    assert loss(x, w, labels, linear_bias=b) == value


def test_panels(monkeypatch, dtype):
    """Many panels of the weight are one weight."""
    x, w, b, labels = make(dtype, classes=300)
    _, one = fastloss.LinearCrossEntropyLoss(chunk=4).value_and_grad(x, w, labels, linear_bias=b, wrt=ALL)
    monkeypatch.setattr(linear, "PANEL", 1)  # 64 classes each
    with fastloss.checking():
        _, several = fastloss.LinearCrossEntropyLoss(chunk=4).value_and_grad(
            x, w, labels, linear_bias=b, wrt=ALL
        )
    assert all(a.shape == b.shape for a, b in zip(one, several, strict=True))


def test_conversions_of_float16():
    """Every number, and what is rounded to it: between two, in the middle, and next to that."""
    products, every = linear.Products(), np.arange(2**16, dtype=np.uint16).view(np.float16)
    singles = np.empty(2**16, np.float32)
    products.copy(singles, every)
    np.testing.assert_array_equal(singles, every.astype(np.float32))
    bits = singles.view(np.uint32)
    steps = [np.uint32(n) for n in (0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF)]
    random = np.random.default_rng(3).integers(0, 2**32, 2**18, np.uint32)
    for numbers in (*(bits + step for step in steps), random):
        numbers = numbers.view(np.float32)
        found = np.empty(numbers.shape, np.float16)
        with np.errstate(all="ignore"):
            products.copy(found, numbers)
            wanted = numbers.astype(np.float16)
        np.testing.assert_array_equal(found, wanted)
        signs = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.signbit(found[signs]), np.signbit(wanted[signs]))


def test_batch_and_time():
    """More dimensions before the features, and none."""
    x, w, b, labels = make(rows=12)
    loss = fastloss.LinearCrossEntropyLoss(reduction="none")
    values, grads = loss.value_and_grad(x, w, labels, linear_bias=b, wrt=ALL)
    shaped, more = loss.value_and_grad(x.reshape(3, 4, 5), w, labels.reshape(3, 4), linear_bias=b, wrt=ALL)
    np.testing.assert_array_equal(shaped, values.reshape(3, 4))
    np.testing.assert_array_equal(more[0], grads[0].reshape(3, 4, 5))
    np.testing.assert_array_equal(more[1], grads[1])
    with fastloss.checking():
        value, (by_input, _) = loss.value_and_grad(x[0], w, labels[0])
    assert value.shape == ()
    assert by_input.shape == (5,)


@pytest.mark.parametrize(("dtype", "wider"), [(np.float32, 0), (np.float16, 1)])
def test_memory_is_results_and_a_chunk(dtype, wider):
    """And in half precision the weight's gradient in float32, while there are more chunks."""
    rows, features, classes, chunk = 512, 32, 20_000, 64
    rng = np.random.default_rng(2)
    x = rng.standard_normal((rows, features), np.float32).astype(dtype)
    w = rng.standard_normal((classes, features), np.float32).astype(dtype)
    labels = rng.integers(0, classes, rows)
    for size in (chunk, rows):
        loss, one = fastloss.LinearCrossEntropyLoss(chunk=size), 4 * size * classes
        results = w.nbytes + x.nbytes
        sums = wider * 4 * w.size * (size < rows)
        for call, most in (
            (lambda loss=loss: loss(x, w, labels), one),
            (lambda loss=loss: loss.value_and_grad(x, w, labels), one + results + sums),
        ):
            tracemalloc.start()
            call()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak <= most + 2 * linear.PANEL + 2**20


def test_rows_of_a_chunk(monkeypatch):
    monkeypatch.delenv(linear.MEMORY, raising=False)
    assert linear._chunk_rows(512, 4 * 128_256, None) == 512
    assert linear._chunk_rows(10_000, 8 * 128_256, None) <= 2**28 // (8 * 128_256)
    assert linear._chunk_rows(513, 4 * 128_256, 512) == 257  # halves, not 512 and 1
    assert linear._chunk_rows(10**6, 4000, None) >= 512
    assert linear._chunk_rows(3, 2**40, None) == 1
    assert linear._chunk_rows(0, 4, None) == 0
    monkeypatch.setenv(linear.MEMORY, str(2**20))
    assert linear._chunk_rows(512, 2**18, None) == 4
    x, w, _, labels = make()
    for bad in ("0", "-1", "much"):
        monkeypatch.setenv(linear.MEMORY, bad)
        with pytest.raises(ValueError, match=f"FASTLOSS_CHUNK_BYTES: got '{bad}'"):
            fastloss.linear_cross_entropy(x, w, labels)


# ---------------------------------------------------------------------------- options and errors


def test_options_of_a_loss():
    loss = fastloss.LinearCrossEntropyLoss([1.0, 2.0], ignore_index=3, chunk=5, softcap=3.0)
    assert pickle.loads(pickle.dumps(loss)) == loss
    assert hash(loss) == hash(fastloss.LinearCrossEntropyLoss(**loss.options()))
    assert loss != fastloss.LinearCrossEntropyLoss([1.0, 2.0], ignore_index=3, chunk=6, softcap=3.0)
    assert "chunk=5" in repr(loss)
    assert loss.softcap == 3.0
    with pytest.raises(AttributeError, match="chunk: a LinearCrossEntropyLoss does not change"):
        loss.chunk = 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk: got 0"),
        ({"chunk": 2.0}, "chunk: got float"),
        ({"chunk": True}, "chunk: got bool"),
        ({"reduction": "batchmean"}, "reduction: got 'batchmean'"),
        ({"label_smoothing": 2}, "label_smoothing: got 2"),
        ({"softcap": 0}, "softcap: got 0"),
        ({"z_loss": -1}, "z_loss: got -1"),
        ({"empty": "none"}, "empty: got 'none'"),
        ({"ignore_index": "a"}, "ignore_index: got str"),
        ({"weight": [[1.0]]}, r"weight: got shape \(1, 1\)"),
    ],
)
def test_bad_options(options, message):
    x, w, _, labels = make()
    for call in (
        lambda: fastloss.LinearCrossEntropyLoss(**options),
        lambda: fastloss.linear_cross_entropy(x, w, labels, **options),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": np.zeros((11, 4))}, r"input: got shape \(11, 4\), wanted \(\.\.\., 5\)"),
        ({"input": np.float64(1)}, r"input: got shape \(\)"),
        ({"input": np.zeros((11, 5), complex)}, "input: got dtype complex128"),
        ({"linear_weight": np.zeros(5)}, r"linear_weight: got shape \(5,\)"),
        ({"linear_weight": np.zeros((0, 5))}, r"linear_weight: got shape \(0, 5\)"),
        ({"linear_weight": np.zeros((7, 5), "U1")}, "linear_weight: got dtype <U1"),
        ({"linear_bias": np.zeros(6)}, r"linear_bias: got shape \(6,\), wanted \(7,\)"),
        ({"linear_bias": np.zeros(7, complex)}, "linear_bias: got dtype complex128"),
        ({"target": np.zeros(10, int)}, r"target: got shape \(10,\), wanted \(11,\)"),
        ({"target": np.zeros((11, 7), int)}, "target: got dtype int64"),
        ({"target": np.full(11, 7)}, r"target\[0\] = 7 is out of range for 7 classes"),
        ({"sample_weight": np.zeros(10)}, r"sample_weight: got shape \(10,\)"),
        ({"mask": np.zeros(11)}, "mask: got dtype float64"),
        ({"normalizer": 0}, "normalizer: got 0"),
        ({"grad_output": [1.0, 2.0]}, r"grad_output: got shape \(2,\)"),
        ({"out": np.zeros(11)}, "out: the value under reduction 'mean' is a float"),
        ({"wrt": "target"}, "wrt: got 'target'"),
        ({"wrt": ("linear_weight", "weight")}, "wrt: got 'weight'"),
        ({"wrt": "linear_weight"}, "grad_input_out: it is for the gradient by 'input'"),
        ({"linear_bias": None}, "wrt: got 'linear_bias', and there is no linear_bias"),
        ({"accumulate": 1}, "accumulate: got int"),
        ({"grad_input_out": np.zeros((11, 4))}, r"grad_input_out: got shape \(11, 4\)"),
        ({"grad_weight_out": np.zeros((7, 5), np.float32)}, "grad_weight_out: got dtype float32"),
        ({"grad_bias_out": [0.0] * 7}, "grad_bias_out: got list"),
        ({"weight": True}, "grad_weight_out: overlaps linear_weight"),
        ({"same": True}, "grad_weight_out: overlaps grad_input_out"),
    ],
)
def test_bad_arguments_write_nothing(change, message):
    x, w, b, labels = make()
    outs = {"grad_input_out": np.full_like(x, 7), "grad_weight_out": np.full_like(w, 7)}
    given = {"input": x, "linear_weight": w, "target": labels, "linear_bias": b, "wrt": ALL, **outs}
    if change.pop("weight", False):
        given["grad_weight_out"] = w
    if change.pop("same", False):
        given["grad_weight_out"] = outs["grad_input_out"][:7]
    given |= change
    kept = {name: a.copy() for name, a in given.items() if isinstance(a, np.ndarray)}
    loss = fastloss.LinearCrossEntropyLoss(chunk=2)
    with pytest.raises((TypeError, ValueError, IndexError), match=f"^{message}"):
        loss.value_and_grad(**given)
    for name, array in kept.items():
        np.testing.assert_array_equal(given[name], array)


def test_a_label_of_the_last_chunk_is_seen_before_the_first():
    x, w, _, labels = make()
    labels[-1] = 7
    out = np.full_like(w, 7)
    loss = fastloss.LinearCrossEntropyLoss(chunk=2)
    with pytest.raises(IndexError, match=r"^target\[10\] = 7 is out of range for 7 classes"):
        loss.value_and_grad(x, w, labels, wrt="linear_weight", grad_weight_out=out)
    assert (out == 7).all()
    with pytest.raises(ValueError, match=r"^accumulate: wanted an array"):
        loss.value_and_grad(x, w, labels, accumulate=True)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", [(3, 0), (0, 0), (0, 2), (2, 0, 2), (2, 3, 0), (0,)])
def test_no_features_or_no_rows(shape, soft):
    x, w, b = np.zeros(shape), np.ones((4, shape[-1])), np.arange(4.0)
    target = np.full((*shape[:-1], 4), 0.25) if soft else np.zeros(shape[:-1], np.int64)
    loss = fastloss.LinearCrossEntropyLoss(reduction="none")
    values, grads = loss.value_and_grad(x, w, target, linear_bias=b, wrt=ALL)
    logits = np.broadcast_to(b, (*shape[:-1], 4))
    expected, grad = fastloss.CrossEntropyLoss(reduction="none", axis=-1).value_and_grad(logits, target)
    np.testing.assert_array_equal(values, expected)
    assert [g.shape for g in grads] == [x.shape, w.shape, b.shape]
    assert not any(g.any() for g in grads[:2])
    np.testing.assert_allclose(grads[2], grad.reshape(-1, 4).sum(0), rtol=1e-15)


@pytest.mark.parametrize("by", ["grad_output", "sample_weight"])
@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize(
    ("kind", "power"), [(np.float32, 127), (np.float32, 1000), (np.float32, -130), (np.float64, 1023)]
)
def test_a_factor_beyond_the_range_multiplies(kind, power, chunk, by, isa):
    x, w, b, labels = make(kind)
    loss = fastloss.LinearCrossEntropyLoss(reduction="sum", chunk=chunk)
    if by == "sample_weight":  # in the range of its dtype, and the product with the other beyond
        weights, power = np.full(len(x), kind(2.0) ** (power // 8)), power // 8 * 8
        factors = {"sample_weight": weights, "grad_output": 2.0 ** (power // 8 * 7)}
    else:
        factors = {"grad_output": 2.0**power}
    options = {"linear_bias": b, "wrt": ALL}
    usual = loss.value_and_grad(x, w, labels, **options)[1]
    allowed = bounds.linear(x, w, labels, dtype=kind, linear_bias=b, reduction="sum")
    top, least = bounds.largest(kind) / 2.0**power, bounds.smallest(kind) / 2.0**power
    got = loss.value_and_grad(x, w, labels, **options, **factors)[1]
    for large, small, of in zip(got, usual, allowed[1:], strict=True):
        above = np.isinf(large)
        assert not np.isnan(large).any()
        np.testing.assert_array_equal(np.sign(large[above]), np.sign(small[above]))
        assert (np.abs(small[above]) >= top - 2 * of[above]).all()
        back = np.ldexp(large[~above].astype(np.float64), -power)
        assert (np.abs(back - small[~above]) <= 2 * of[~above] + least).all()
    given = [np.ones_like(array) for array in usual]
    loss.value_and_grad(
        x, w, labels, **options, **factors, **dict(zip(OUTS, given, strict=True)), accumulate=True
    )
    for sums, large in zip(given, got, strict=True):
        np.testing.assert_array_equal(sums, large + kind(1))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_wider_array_that_is_added_to_keeps_its_digits(chunk):
    """The gradient by a bias of float64 beside float32."""
    x, w, b, labels = make(np.float32)
    loss, b = fastloss.LinearCrossEntropyLoss(chunk=chunk), b.astype(np.float64)
    by_bias = loss.value_and_grad(x, w, labels, linear_bias=b, wrt="linear_bias")[1]
    start = np.random.default_rng(2).standard_normal(len(b))
    sums = start.copy()
    given = {"linear_bias": b, "wrt": "linear_bias", "grad_bias_out": sums, "accumulate": True}
    loss.value_and_grad(x, w, labels, **given)
    np.testing.assert_array_equal(sums, start + by_bias)


def test_dtypes_meet():
    """The wider of two is computed in; each gradient has its own."""
    x, w, b, labels = make()
    for kinds in ((np.float32, np.float64), (np.float64, np.float32), (np.float16, np.float32)):
        dtype = np.result_type(*kinds)
        half, other = x.astype(kinds[0]), w.astype(kinds[1])
        loss = fastloss.LinearCrossEntropyLoss(reduction="none")
        with fastloss.checking():
            values, grads = loss.value_and_grad(half, other, labels, linear_bias=b, wrt=ALL)
        assert values.dtype == dtype
        assert [g.dtype for g in grads] == [*map(np.dtype, kinds), np.float64]
    value, grads = fastloss.LinearCrossEntropyLoss().value_and_grad([[1, 2]], [[0, 1], [1, 0]], [0])
    assert grads[0].dtype == np.float64
    assert value == fastloss.cross_entropy([[2, 1]], [0])
