"""fastloss.dask: what fastloss says, in any chunks, on threads and on a cluster."""

import inspect
import pickle
import threading

import numpy as np
import pytest

import fastloss

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
lazy = pytest.importorskip("fastloss.dask")
assert_eq = pytest.importorskip("dask.array.utils").assert_eq

#: Sum, divisor and quotient, or factor, are rounded once each on either side, in float64.
CLOSE = 6 * 2.0**-53
CHUNKS = [(40, 7), (9, 7), ((1, 30, 9), 7), (13, 7)]


@pytest.fixture(params=["threads", "synchronous"], autouse=True)
def scheduler(request):
    with dask.config.set(scheduler=request.param):
        yield


def arrays(dtype=np.float32):
    rng = np.random.default_rng(0)
    x, labels = (4 * rng.standard_normal((40, 7))).astype(dtype), rng.integers(0, 7, 40)
    labels[::5] = -100
    return x, labels


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_bits_do_not_depend_on_chunks(chunks, dtype):
    x, t = arrays(dtype)
    logits = da.from_array(x, chunks)
    for options in ({}, {"weight": np.arange(1.0, 8.0)}, {"label_smoothing": 0.1}, {"reduction": "sum"}):
        loss = fastloss.CrossEntropyLoss(**options)
        total = lazy.cross_entropy_total(logits, t, **options).compute()
        assert total == loss.total(x, t)
        value, grad = lazy.cross_entropy_value_and_grad(logits, t, **options)
        assert grad.chunks == logits.chunks
        assert value.shape == ()
        assert float(value) == (total.sum if "reduction" in options else total.mean)
        np.testing.assert_array_equal(grad, loss.value_and_grad(x, t)[1])
        assert grad.dtype == x.dtype


@pytest.mark.parametrize(
    "chunks", [(5, 7, 1, 3), (5, 7, 1, 1), (9, 7, 4, (2, 1)), (9, 3, 4, (1, 1, 1)), (9, 7, 1, 2)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_position_behind_the_classes(chunks, dtype):
    """Its rows have the bits that they have beside others, which other kernels read."""
    rng = np.random.default_rng(4)
    x, t = (4 * rng.standard_normal((9, 7, 4, 3))).astype(dtype), rng.integers(0, 7, (9, 4, 3))
    lazily, others = da.from_array(x, chunks), [chunks[0], *chunks[2:]]
    for name in ("cross_entropy", "focal_loss", "mse_loss"):
        y = x[::-1] if name == "mse_loss" else t
        if len(lazily.chunks[1]) == 1:
            loss = fastloss.losses.CLASSES[name]()
            assert getattr(lazy, f"{name}_total")(lazily, y).compute() == loss.total(x, y)
            grad = getattr(lazy, f"{name}_value_and_grad")(lazily, y)[1]
            np.testing.assert_array_equal(grad, loss.value_and_grad(x, y)[1])
        whole = da.from_array(x, (9, chunks[1], 4, 3))
        totals = [getattr(lazy, f"{name}_total")(array, y).compute() for array in (lazily, whole)]
        assert totals[0] == totals[1]
    values = lazy.cross_entropy(lazily, t, reduction="none")
    assert values.chunks == da.from_array(t, others).chunks
    for name in ("softmax", "log_softmax", "logsumexp"):
        np.testing.assert_array_equal(getattr(lazy, name)(lazily, axis=1), getattr(lazy, name)(whole, axis=1))


@pytest.mark.parametrize("chunks", [(7, 7), (3, 2), (2, 7), ((1, 6), 5)])
@pytest.mark.parametrize("shape", [(7,), (7, 1), (1, 7), (7, 7), ()])
def test_weights_and_variances_of_elements(shape, chunks):
    """As of one array, whose rules of broadcasting they follow, wherever it is cut."""
    rng = np.random.default_rng(3)
    x, y, w = rng.random((7, 7)), rng.random((7, 7)), 0.1 + rng.random(shape)
    lazily = da.from_array(x, chunks)
    for name in ("weight", "pos_weight"):
        value, grad = lazy.binary_cross_entropy_with_logits_value_and_grad(lazily, y, **{name: w})
        expected = fastloss.BCEWithLogitsLoss(**{name: w}).value_and_grad(x, y)
        assert float(value) == pytest.approx(expected[0], rel=CLOSE)
        np.testing.assert_array_equal(grad, expected[1])
    each = lazy.multilabel_soft_margin_loss(lazily, y, weight=w, reduction="none")
    np.testing.assert_array_equal(each, fastloss.multilabel_soft_margin_loss(x, y, w, reduction="none"))
    value, grad = lazy.gaussian_nll_loss_value_and_grad(lazily, y, w)
    expected = fastloss.GaussianNLLLoss().value_and_grad(x, y, w)
    assert float(value) == pytest.approx(expected[0], rel=CLOSE)
    np.testing.assert_array_equal(grad, expected[1])


def test_weights_of_elements_that_do_not_fit():
    lazily = da.zeros((4, 4), chunks=2)
    for name in ("weight", "pos_weight"):  # which would fit a block
        with pytest.raises(ValueError, match=rf"^{name}: got shape \(2, 2\)"):
            lazy.binary_cross_entropy_with_logits(lazily, np.ones((4, 4)), **{name: np.ones((2, 2))})
    with pytest.raises(ValueError, match=r"^var: got shape \(2, 2\)"):
        lazy.gaussian_nll_loss(lazily, np.ones((4, 4)), np.ones((2, 2)))


@pytest.mark.parametrize("chunks", CHUNKS)
def test_weights_masks_and_values(chunks):
    x, t = arrays()
    weights, mask = np.linspace(0.1, 3, 40), np.arange(40) % 3 > 0
    logits = da.from_array(x, chunks)
    options = {"sample_weight": weights, "mask": da.from_array(mask, 5)}
    value, grad = lazy.focal_loss_value_and_grad(logits, da.from_array(t, 11), gamma=1.5, **options)
    loss = fastloss.FocalLoss(gamma=1.5)
    expected = loss.value_and_grad(x, t, sample_weight=weights, mask=mask)
    assert float(value) == pytest.approx(expected[0], rel=CLOSE)
    np.testing.assert_array_max_ulp(np.asarray(grad), expected[1], 1)  # the divisor is that of exact sums
    each = lazy.focal_loss(logits, t, gamma=1.5, reduction="none", **options)
    each_expected = fastloss.focal_loss(x, t, gamma=1.5, reduction="none", sample_weight=weights, mask=mask)
    np.testing.assert_array_equal(each, each_expected)
    scaled = lazy.focal_loss_value_and_grad(logits, t, normalizer=7.0, grad_output=2.0)
    whole = fastloss.FocalLoss().value_and_grad(x, t, normalizer=7.0, grad_output=2.0)
    assert float(scaled[0]) == pytest.approx(whole[0], rel=CLOSE)
    np.testing.assert_array_max_ulp(np.asarray(scaled[1]), whole[1], 1)


@pytest.mark.parametrize("chunks", [(3, 2), (7, 7), (2, 7)])
def test_one_weight_for_each_sample(chunks):
    """Of elements and of two axes of samples, also where there are as many samples as columns."""
    rng = np.random.default_rng(2)
    x, y, weights, mask = rng.random((7, 7)), rng.random((7, 7)), rng.random(7), np.arange(7) % 3 > 0
    lazily = da.from_array(x, chunks)
    for given in ({"sample_weight": weights}, {"mask": mask}, {"sample_weight": da.from_array(weights, 4)}):
        plain = {name: np.asarray(array) for name, array in given.items()}
        each = lazy.mse_loss(lazily, y, reduction="none", **given)
        np.testing.assert_array_equal(each, fastloss.mse_loss(x, y, reduction="none", **plain))
        value, grad = lazy.mse_loss_value_and_grad(lazily, y, **given)
        expected = fastloss.MSELoss().value_and_grad(x, y, **plain)
        assert float(value) == pytest.approx(expected[0], rel=CLOSE)
        np.testing.assert_allclose(grad, expected[1], rtol=CLOSE)
    with pytest.raises(ValueError, match=r"^sample_weight: got shape \(3,\)"):
        lazy.mse_loss(lazily, y, sample_weight=np.ones(3))


def test_arrays_of_dask_are_not_computed_unasked():
    x, t = arrays()
    for given in ((da.from_array(x), t), (x, da.from_array(t))):
        with pytest.raises(TypeError, match=r"^(input|target): got a Dask collection.*fastloss\.dask"):
            fastloss.cross_entropy(*given)


@pytest.mark.parametrize("name", sorted(fastloss.losses.CLASSES))
def test_every_loss(name):
    x, t = arrays(np.float64)
    rng, args = np.random.default_rng(1), ()
    y = fastloss.softmax(rng.standard_normal(x.shape))
    if "nll" in name or name == "kl_div":
        x = fastloss.log_softmax(x)
    if name == "binary_cross_entropy":
        x = fastloss.sigmoid(x)
    if name == "soft_margin_loss":
        y = np.where(y > 0.1, 1.0, -1.0)
    if name == "gaussian_nll_loss":
        args = (rng.random(x.shape) + 0.5,)
    kind = fastloss.losses.CLASSES[name]
    target = (
        t
        if hasattr(kind(), "ignore_index") and name not in ("multinomial_nll_loss", "kl_div_with_logits")
        else y
    )
    for reduction in kind._reductions:
        expected = kind(reduction=reduction).value_and_grad(x, target, *args)
        function = getattr(lazy, f"{name}_value_and_grad")
        value, grad = function(da.from_array(x, (9, 7)), target, *args, reduction=reduction)
        np.testing.assert_allclose(value, expected[0], rtol=CLOSE)
        np.testing.assert_allclose(grad, expected[1], rtol=CLOSE, atol=0)
        value = getattr(lazy, name)(da.from_array(x, (9, 7)), target, *args, reduction=reduction)
        np.testing.assert_allclose(value, expected[0], rtol=CLOSE)


@pytest.mark.parametrize("name", [*lazy.OVER_CLASSES, *lazy.REDUCED, *lazy.OVER_ELEMENTS])
@pytest.mark.parametrize("chunks", [*CHUNKS, (40, 2), (13, 3)])
def test_array_functions(name, chunks):
    x, _ = arrays()
    x = fastloss.softmax(x) if name == "entropy" else x
    result = getattr(lazy, name)(da.from_array(x, chunks))
    expected = getattr(fastloss, name)(x)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if expected.ndim == 2:
        assert result.chunks == da.from_array(x, chunks).chunks
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("name", [*lazy.OVER_CLASSES, *lazy.REDUCED, *lazy.OVER_ELEMENTS])
@pytest.mark.parametrize("shape", [(40, 7), (7,), (40, 1)])
@pytest.mark.parametrize("cut", [None, 3])
def test_where_of_array_functions(name, shape, cut):
    """As of one array, which it broadcasts to, lazy or not; the first argument has its eager name."""
    x, _ = arrays()
    x = fastloss.softmax(x) if name == "entropy" else x
    where = np.random.default_rng(8).random(shape) > 0.3
    given = where if cut is None else da.from_array(where, cut)
    key = next(iter(inspect.signature(getattr(fastloss, name)).parameters))
    result = getattr(lazy, name)(**{key: da.from_array(x, (13, 3)), "where": given})
    np.testing.assert_array_equal(result, getattr(fastloss, name)(x, where=where))


@pytest.mark.parametrize("axis", [-1, 0, (0, 1), None, ()])
def test_logsumexp_keeps_axes(axis):
    x, _ = arrays()
    result = lazy.logsumexp(da.from_array(x, (13, 3)), axis, keepdims=True)
    expected = fastloss.logsumexp(x, axis, keepdims=True)
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": [1, 0]}, "where: got dtype int64, wanted bool"),
        ({"where": [True, False]}, r"where: got shape \(2,\), wanted one that broadcasts to \(40, 7\)"),
        ({"keepdims": 1}, "keepdims: got int, wanted True or False"),
        ({"out": None}, r"logsumexp\(\) got an unexpected keyword argument 'out'"),
    ],
)
def test_wrong_options_of_array_functions(options, message):
    x, _ = arrays()
    with pytest.raises((TypeError, ValueError), match=message):
        lazy.logsumexp(da.from_array(x, (13, 3)), **options)


@pytest.mark.parametrize("name", ["cross_entropy", "focal_loss", "poly_loss"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_classes_stay_in_their_chunks(name, dtype):
    """Parts of them are merged: no task has all of a sample. The same bits for any chunks of the samples."""
    x, t = arrays(dtype)
    widest = []

    def seen(block):
        widest.append(block.shape[1])
        return block

    weights, kind = np.linspace(0.1, 3, 40), fastloss.losses.CLASSES[name]
    options = {"weight": np.arange(1.0, 8.0), "ignore_index": (-100, 2), "z_loss": 0.01}
    if name == "cross_entropy":
        options["label_smoothing"] = 0.1
    u = np.finfo(np.float64 if dtype is np.float64 else np.float32).eps
    for reduction in ("mean", "sum", "none"):
        expected = kind(**options, reduction=reduction).value_and_grad(x, t, sample_weight=weights)
        bits = set()
        for rows in (40, 9, (1, 30, 9)):
            logits = da.from_array(x, (rows, (3, 1, 3))).map_blocks(
                seen, dtype=dtype, meta=np.empty((0, 0), dtype)
            )
            function = getattr(lazy, f"{name}_value_and_grad")
            value, grad = function(logits, t, sample_weight=weights, reduction=reduction, **options)
            assert grad.chunks == logits.chunks
            value, grad = dask.compute(value, grad)
            np.testing.assert_allclose(value, expected[0], rtol=8 * u)
            size = np.abs(expected[1].astype(float)).max()
            np.testing.assert_allclose(grad, expected[1], rtol=8 * np.finfo(dtype).eps, atol=4 * u * size)
            assert grad.dtype == x.dtype
            bits.add((np.asarray(value).tobytes(), grad.tobytes()))
            again = getattr(lazy, name)(logits, t, sample_weight=weights, reduction=reduction, **options)
            np.testing.assert_array_equal(again, value)
        assert len(bits) == 1
    assert max(widest) == 3


def test_images_with_classes_in_chunks():
    rng = np.random.default_rng(2)
    x, t = rng.standard_normal((4, 3, 6, 5)), rng.integers(0, 3, (4, 6, 5))
    value, grad = lazy.cross_entropy_value_and_grad(da.from_array(x, (2, 2, 2, 5)), t)
    expected = fastloss.CrossEntropyLoss().value_and_grad(x, t)
    assert float(value) == pytest.approx(expected[0], rel=CLOSE)
    np.testing.assert_allclose(grad, expected[1], rtol=CLOSE)
    total = lazy.cross_entropy_total(da.from_array(x, (3, 1, 6, 5)), t).compute()
    assert (total.count, total.weight) == (120, 120.0)
    t[3, 0, 0] = 3
    with pytest.raises(IndexError, match=r"= 3 is out of range for 3 classes|its label is in no part"):
        lazy.cross_entropy(da.from_array(x, (2, 2, 2, 5)), t).compute()


def test_images():
    rng = np.random.default_rng(2)
    x, t = rng.standard_normal((4, 3, 6, 5)), rng.integers(0, 3, (4, 6, 5))
    value, grad = lazy.cross_entropy_value_and_grad(da.from_array(x, (2, 3, 2, 5)), t)
    expected = fastloss.CrossEntropyLoss().value_and_grad(x, t)
    assert float(value) == pytest.approx(expected[0], rel=CLOSE)
    np.testing.assert_allclose(grad, expected[1], rtol=CLOSE, atol=0)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("cross_entropy", (np.arange(1.0, 8.0),)),
        ("focal_loss", (0.5, np.arange(1.0, 8.0))),
        ("poly_loss", (0.5,)),
        ("generalized_cross_entropy", (0.3,)),
        ("sigmoid_focal_loss", (0.5, 0.25)),
        ("binary_cross_entropy_with_logits", (np.arange(1.0, 8.0),)),
        ("gaussian_nll_loss", (2.0,)),
    ],
)
def test_arguments_mean_what_they_mean_in_eager_functions(name, args):
    x, t = arrays(np.float64)
    target = t if hasattr(fastloss.losses.CLASSES[name](), "axis") else fastloss.sigmoid(x)
    function, eager = getattr(lazy, name), getattr(fastloss, name)
    logits, expected = da.from_array(x, (9, 7)), eager(x, target, *args)
    parameters = list(inspect.signature(eager).parameters)
    named = dict(zip(parameters[2:], args, strict=False))
    for found in (
        function(logits, target, *args),
        function(input=logits, target=target, **named),
        getattr(lazy, f"{name}_value_and_grad")(logits, target, *args)[0],
    ):
        assert float(found) == pytest.approx(expected, rel=CLOSE)
    assert getattr(lazy, f"{name}_total")(logits, target, *args).compute().mean == pytest.approx(
        expected, rel=CLOSE
    )
    assert list(inspect.signature(function).parameters)[: len(named) + 2] == parameters[: len(named) + 2]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: lazy.mse_loss(x, y, 1.0), TypeError, r"mse_loss\(\) too many positional"),
        (lambda x, y: lazy.mse_loss(x), TypeError, "'target'"),
        (lambda x, y: lazy.gaussian_nll_loss(x, y), TypeError, "'var'"),
        (lambda x, y: lazy.mse_loss(x, y, out=np.empty(4)), TypeError, "'out'"),
        (lambda x, y: lazy.mse_loss_total(x, y, normalizer=3.0), TypeError, "'normalizer'"),
        (
            lambda x, y: lazy.mse_loss(x, y, reduction="none", normalizer=3.0),
            ValueError,
            "^normalizer: it is",
        ),
        (
            lambda x, y: lazy.cross_entropy(x, [0, 0], weight=da.ones(2)),
            TypeError,
            r"^weight: .*pass its \.c",
        ),
        (
            lambda x, y: lazy.mse_loss_value_and_grad(x, y, grad_output="a"),
            TypeError,
            "^grad_output: got 'a'",
        ),
        (
            lambda x, y: lazy.mse_loss_value_and_grad(x, y, grad_output=[1, 2]),
            ValueError,
            "^grad_output: got",
        ),
    ],
)
def test_arguments_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call(da.zeros((2, 2), chunks=1), np.zeros((2, 2)))


@pytest.mark.parametrize("normalizer", [0, -1, np.inf, np.nan, [1, 2], "a"])
def test_normalizers_that_do_not_fit(normalizer):
    x, t = arrays()
    for function in (fastloss.cross_entropy, lazy.cross_entropy, lazy.cross_entropy_value_and_grad):
        with pytest.raises((TypeError, ValueError), match=r"^normalizer: got"):
            function(x, t, normalizer=normalizer)


def test_sums_that_overflow():
    x = da.from_array(np.full(4, 1e154), 2)
    assert float(lazy.mse_loss(x, np.zeros(4), reduction="sum")) == np.inf
    assert float(lazy.mse_loss(x, np.zeros(4), normalizer=8)) == 5e307


@pytest.mark.parametrize("chunks", [(3, 4), (3, 2), (2, 4), (1, 1)])
def test_mean_of_a_batch_in_any_chunks(chunks):
    x, q = np.log(np.full((3, 4), 0.25)), np.eye(3, 4)
    lazily, expected = da.from_array(x, chunks), fastloss.KLDivLoss(reduction="batchmean")
    total = lazy.kl_div_total(lazily, q, reduction="batchmean").compute()
    assert total == expected.total(x, q)
    value, grad = lazy.kl_div_value_and_grad(lazily, q, reduction="batchmean")
    assert float(value) == pytest.approx(expected(x, q), rel=CLOSE)
    np.testing.assert_allclose(grad, expected.value_and_grad(x, q)[1], rtol=CLOSE)


@pytest.mark.parametrize("size", [1e308, 1e306, 1.0, 1e-305, 1e-308, 1e-318])
@pytest.mark.parametrize("chunks", [(9, 7), (40, 3)])
def test_gradients_where_weights_are_extreme(size, chunks):
    x, t = arrays(np.float64)
    weight = size * np.array([1.0, 1.0, 0.5, 1.0, 0.5, 1.0, 1.0])
    expected = fastloss.CrossEntropyLoss(weight).value_and_grad(x, t)
    grad = lazy.cross_entropy_value_and_grad(da.from_array(x, chunks), t, weight)[1]
    np.testing.assert_allclose(grad, expected[1], rtol=1e-13)
    sample_weight = weight[np.maximum(t, 0)]
    grad = lazy.cross_entropy_value_and_grad(da.from_array(x, chunks), t, sample_weight=sample_weight)[1]
    np.testing.assert_allclose(grad, expected[1], rtol=1e-13)


def test_weights_that_are_lazy():
    rng = np.random.default_rng(4)
    x, y, w = rng.random((3, 6, 4))
    lazily, weights = da.from_array(x, 4), da.from_array(w, 3)
    for name in ("weight", "pos_weight"):
        found = lazy.binary_cross_entropy_with_logits_value_and_grad(lazily, y, **{name: weights})
        expected = fastloss.BCEWithLogitsLoss(**{name: w}).value_and_grad(x, y)
        assert float(found[0]) == pytest.approx(expected[0], rel=CLOSE)
        np.testing.assert_array_equal(found[1], expected[1])
    with pytest.raises(TypeError, match=r"^weight: got dtype complex128"):
        lazy.binary_cross_entropy(lazily, y, weights.astype(complex))


def test_tensors():
    torch = pytest.importorskip("torch")
    x, t = arrays()
    found = lazy.cross_entropy(da.from_array(x, 9), torch.tensor(t), sample_weight=torch.ones(40))
    assert float(found) == pytest.approx(fastloss.cross_entropy(x, t), rel=CLOSE)
    np.testing.assert_array_equal(lazy.softmax(torch.tensor(x)), fastloss.softmax(x))


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        raise AssertionError("computed")

    x = da.zeros((4, 2), chunks=2).map_blocks(fail, dtype=float, meta=np.empty((0, 0)))
    value, grad = lazy.cross_entropy_value_and_grad(x, np.zeros(4, int))
    lazy.softmax(x)
    with pytest.raises(AssertionError, match="computed"):
        value.compute()
    assert grad.shape == (4, 2)


def test_tasks_take_one_thread_each():
    seen = []

    def note(block):
        seen.append((threading.current_thread() is threading.main_thread(), fastloss.get_num_threads()))
        return block

    before = fastloss.get_num_threads()
    lazy._task(note, None)
    other = threading.Thread(target=lazy._task, args=(note, None))
    other.start()
    other.join()
    assert seen == [(True, before), (False, 1)]


def test_errors():
    x, t = arrays()
    logits = da.from_array(x, (9, 7))
    with pytest.raises(ValueError, match=r"target: got shape \(3,\)"):
        lazy.cross_entropy(logits, t[:3])
    with pytest.raises(TypeError, match="gamma"):
        lazy.cross_entropy(logits, t, gamma=2.0)
    t[20] = 9
    for classes in (7, 3):
        for function in (lazy.cross_entropy, lazy.cross_entropy_value_and_grad, lazy.cross_entropy_total):
            value = function(logits.rechunk((9, classes)), t)
            with pytest.raises(IndexError, match=r"^target\[2\].* in chunk \(2,\) of the samples\)$"):
                dask.compute(value)
    unknown = logits[logits[:, 0] > 0]
    with pytest.raises(ValueError, match=r"^input: .*compute_chunk_sizes"):
        lazy.cross_entropy(unknown, t)
    with pytest.raises(ValueError, match=r"^target: .*compute_chunk_sizes"):
        lazy.cross_entropy(logits, unknown[:, 0])
    with pytest.raises(ValueError, match=r"^sample_weight: .*compute_chunk_sizes"):
        lazy.cross_entropy(logits, t, sample_weight=unknown[:, 0])


@pytest.mark.parametrize("chunks", [(9, 7), (9, 3), (40, 2)])
@pytest.mark.parametrize("options", [{}, {"sample_weight": np.ones(40)}, {"reduction": "none"}])
def test_graphs_are_as_dask_wants_them(chunks, options):
    """Layers know which others they need, and equal calls are the same tasks."""
    x, t = arrays()
    logits = da.from_array(x, chunks)

    def made(**more):
        pair = lazy.cross_entropy_value_and_grad(logits, t, **options, **more)
        return *pair, lazy.cross_entropy(logits, t, **options, **more)

    kind = fastloss.CrossEntropyLoss(reduction=options.get("reduction", "mean"))
    value, grad = kind.value_and_grad(x, t, sample_weight=options.get("sample_weight"))
    for array, expected in zip(made(), (value, grad, value), strict=True):
        assert_eq(array, np.asarray(expected), check_type=False)
    assert [array.name for array in made()] == [array.name for array in made()]
    weights = np.full((2, 7), 1.0)
    weights[1, 3] = 2
    of_weights = [made(weight=weight)[0].name for weight in weights]
    assert of_weights[0] != of_weights[1]


@pytest.mark.parametrize("options", [{}, {"sample_weight": np.ones(40)}])
def test_a_task_does_not_carry_the_layers_of_all_others(options, monkeypatch):
    """Or else the time that a graph takes to build would grow with the square of the chunks."""
    x, t = arrays()
    from_delayed = da.from_delayed

    def layers_of_a_gradient(rows):
        counts = []

        def seen(task, shape, dtype):
            if shape:  # else it is the value, which is of all
                counts.append(len(task.dask.layers))
            return from_delayed(task, shape, dtype)

        monkeypatch.setattr(da, "from_delayed", seen)
        lazy.cross_entropy_value_and_grad(da.from_array(x, (rows, 7)), t, **options)
        assert len(counts) == 40 / rows
        return max(counts)

    assert layers_of_a_gradient(1) == layers_of_a_gradient(10)


@pytest.mark.parametrize("classes", [7, 3])
def test_graphs_can_be_pickled(classes):
    x, t = arrays()
    both = lazy.cross_entropy_value_and_grad(da.from_array(x, (9, classes)), t)
    for made, sent in zip(both, pickle.loads(pickle.dumps(both)), strict=True):
        np.testing.assert_array_equal(made.compute(), sent.compute())


def test_on_a_cluster():
    distributed = pytest.importorskip("distributed")
    x, t = arrays()
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        dask.config.set(scheduler=None),
    ):
        value, grad = lazy.cross_entropy_value_and_grad(da.from_array(x, (9, 7)), t)
        total = lazy.cross_entropy_total(da.from_array(x, (6, 7)), t).compute()
        assert total == fastloss.CrossEntropyLoss().total(x, t)
        assert float(value.compute()) == total.mean
        np.testing.assert_array_equal(grad.compute(), fastloss.CrossEntropyLoss().value_and_grad(x, t)[1])


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "entropy_from_logits"])
@pytest.mark.parametrize("axis", [None, (0, 1), (1,), 0])
def test_several_class_axes(name, axis):
    x = np.random.default_rng(5).standard_normal((12, 7))
    expected = getattr(fastloss, name)(x, axis)
    found = getattr(fastloss.dask, name)(da.from_array(x, chunks=(5, 3)), axis)
    assert found.shape == np.shape(expected)
    np.testing.assert_array_equal(found.compute(), expected)


def test_labels_beside_a_teacher():
    rng = np.random.default_rng(6)
    x, teacher = rng.standard_normal((2, 6, 4))
    target = np.array([0, 1, 2, -100, 3, 0])
    loss = fastloss.KLDivWithLogitsLoss(alpha=0.3)
    arrays = [da.from_array(a, chunks=2) for a in (x, teacher, target)]
    value, grad = loss.value_and_grad(x, teacher, target)
    for found in (
        fastloss.dask.kl_div_with_logits_value_and_grad(*arrays, alpha=0.3),
        fastloss.dask.kl_div_with_logits_value_and_grad(*arrays[:2], target=target, alpha=0.3),
    ):
        np.testing.assert_allclose(found[0].compute(), value, rtol=CLOSE)
        np.testing.assert_array_equal(found[1].compute(), grad)
    assert fastloss.dask.kl_div_with_logits_total(*arrays, alpha=0.3).compute() == loss.total(
        x, teacher, target
    )
    values = fastloss.dask.kl_div_with_logits(*arrays, alpha=0.3, reduction="none").compute()
    np.testing.assert_array_equal(
        values, fastloss.KLDivWithLogitsLoss(alpha=0.3, reduction="none")(x, teacher, target)
    )
    with pytest.raises(ValueError, match="target: got None"):
        fastloss.dask.kl_div_with_logits(*arrays[:2], alpha=0.3)


def test_distributions_in_several_chunks():
    rng = np.random.default_rng(7)
    x, p = (fastloss.softmax(rng.standard_normal((9, 7))) for _ in range(2))
    chunked = [da.from_array(a, chunks=4) for a in (np.log(x), p)]
    values = fastloss.dask.kl_div(*chunked, reduction="none")
    assert values.chunks == chunked[0].chunks
    np.testing.assert_array_equal(values.compute(), fastloss.kl_div(np.log(x), p, reduction="none"))
