"""What was probably meant: weights of samples, errors that name the remedy, and what is there unasked."""

import numpy as np
import pytest

import fastloss
from fastloss import _kernels, reference
from tests.support.cases import CLASSES, POINTWISE, make, refer, run, run_second, same_bits
from tests.support.process import answers


def loss(name, **options):
    """The loss object of a function's name."""
    return getattr(fastloss, CLASSES[name])(**options)


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
    "objects": (fastloss.mse_loss, X, np.zeros((4, 5), object), "astype"),
    "complex": (fastloss.mse_loss, X, np.zeros((4, 5), complex), "real"),
    "long double": (fastloss.mse_loss, X, np.zeros((4, 5), np.longdouble), "numpy.float64"),
    "ragged": (fastloss.cross_entropy, [[1.0, 2.0], [3.0]], [0, 0], "different lengths.*pad"),
    "masked": (fastloss.mse_loss, np.ma.array([1.0], mask=[1]), [1.0], "mask=~numpy.ma"),
    "labels for elements": (fastloss.binary_cross_entropy_with_logits, X, T, "class indices.*cross_entropy"),
    "column": (fastloss.mse_loss, np.zeros((4, 1)), np.zeros(4), r"target\[\.\.\., None\]"),
}
if np.dtype(np.longdouble) == np.float64:
    del REMEDIES["long double"]


@pytest.mark.parametrize("kind", REMEDIES)
def test_remedies(kind):
    function, x, y, remedy = REMEDIES[kind]
    with pytest.raises((TypeError, ValueError, IndexError), match=f"^(input|target)\\b.*{remedy}"):
        function(x, y)


class Graph:
    __dask_graph__ = None


def test_remedies_for_other_arrays():
    with pytest.raises(TypeError, match=r"^x: got a Dask collection.*fastloss.dask"):
        fastloss.softmax(Graph())
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
