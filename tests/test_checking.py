"""`fastloss.checking()` and FASTLOSS_CHECK: what is right passes, what is wrong is found."""

import contextlib
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastloss
from fastloss import bounds, reference
from tests.support.cases import ARRAY_FUNCTIONS, REDUCED, make, run
from tests.support.process import answers


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_checking_passes_what_is_right(dtype, rng, isa):
    with fastloss.checking():
        for variant, reduction in REDUCED:
            for shape in [(5, 4), (3, 70), (0, 3)]:
                case = make(variant, rng, shape, np.float32 if dtype == np.float16 else dtype)
                case.input = case.input.astype(dtype)
                wanted = refer_float(case, reduction)
                value, _ = run(case, reduction, sample_weight=np.ones(case.value_shape, dtype))
                assert isinstance(value, float) == isinstance(wanted, float)
                run(case, reduction, grad_output=-2)
        x = rng.random((4, 70)).astype(dtype)
        for function in ARRAY_FUNCTIONS:
            getattr(fastloss, function)(x)


def refer_float(case, reduction):
    function = getattr(fastloss, case.name)
    return function(case.input, case.target, **case.options, reduction=reduction)


def test_checking_passes_the_edges(isa):
    inf, nan = math.inf, math.nan
    x = np.array([[nan, 1, 2], [inf, 1, 2], [-inf] * 3, [-inf, 1, 2], [90, 0, 0], [1e30, 0, -1e30]])
    with fastloss.checking():
        for dtype in (np.float32, np.float64):
            for reduction in ("none", "mean"):
                made = fastloss.CrossEntropyLoss(reduction=reduction)
                made.value_and_grad(x.astype(dtype), [0, 1, 0, 0, -100, 0])
            for function in ("softmax", "log_softmax", "logsumexp", "entropy_from_logits"):
                getattr(fastloss, function)(x.astype(dtype))
            fastloss.BCEWithLogitsLoss(reduction="none").value_and_grad(x.astype(dtype), x > 0)
            fastloss.BCELoss().value_and_grad(np.array([0, 1, nan, 0.5], dtype), [0, 0, 1, 1])


@pytest.mark.parametrize("function", ARRAY_FUNCTIONS)
def test_checking_finds_a_wrong_array(function, rng, monkeypatch):
    true = getattr(reference, function)

    def wrong(*arguments, **keywords):
        result = true(*arguments, **keywords)
        result[..., 1] *= 1 + 2.0**-10
        return result

    monkeypatch.setattr(reference, function, wrong)
    x = rng.random((3, 4, 5)).astype(np.float32)
    getattr(fastloss, function)(x)
    with fastloss.checking(), pytest.raises(fastloss.CheckError, match=function) as caught:
        getattr(fastloss, function)(x)
    assert "ulp" in str(caught.value)
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize("part", ["value", "gradient"])
@pytest.mark.parametrize(("variant", "reduction"), REDUCED)
def test_checking_finds_a_wrong_loss(variant, reduction, part, rng, monkeypatch):
    case = make(variant, rng, (4, 5), np.float32)
    true = getattr(reference, case.name)

    def wrong(*arguments, **keywords):
        value, grad = true(*arguments, **keywords)
        if part == "value":
            return value * (1 + 2.0**-10), grad
        grad = np.where(grad == grad.flat[np.abs(grad).argmax()], grad * (1 + 2.0**-10), grad)
        return value, grad

    run(case, reduction)
    monkeypatch.setattr(reference, case.name, wrong)
    with fastloss.checking(), pytest.raises(fastloss.CheckError) as caught:
        run(case, reduction)
    assert "ulp" in str(caught.value)
    run(case, reduction)  # outside: not checked


def test_checking_knows_what_float32_can(isa):
    """Counts on classes whose probability vanishes, and targets that are nearly of one class."""
    with fastloss.checking():
        for dtype in (np.float32, np.float64):
            x = np.array([[88.5, -104.0, 1e30], [9984.0, -744.0, 0.001]], dtype)
            for counts in ([[17, 1, 17], [1, 0, 1]], [[1, 1, 1], [0, 3, 17]]):
                fastloss.MultinomialNLLLoss(full=True).value_and_grad(x, counts)
            nearly = np.array([[1.0, 1e-9, 0.0], [0.7, 0.3, 1e-9]])
            fastloss.CrossEntropyLoss(label_smoothing=1e-9).value_and_grad(x, nearly)


AFFINE = {"bias": [1.0, -2.0, 3.0]}


@pytest.mark.parametrize(
    ("name", "row", "target", "options"),
    [
        ("CrossEntropyLoss", [1e308, 0, 0], [0], {"label_smoothing": 0.1, **AFFINE}),
        ("CrossEntropyLoss", [1e308, 0, 0], [0], {"z_loss": 1e-30, **AFFINE, "softcap": 1e30}),
        ("GeneralizedCrossEntropyLoss", [1e200] * 3, [2], {**AFFINE, "scale": 1e-30}),
        ("PoissonNLLLoss", [1e160, 0, -1e160], [[1e30] * 3], {"log_input": False}),
        ("MultinomialNLLLoss", [1, 2, 3], [[1e308, 1, 0]], {"full": True}),
        ("KLDivWithLogitsLoss", [-math.inf, 0, 1], [[-math.inf, 2, 0]], {}),
    ],
)
def test_checking_passes_what_overflows(name, row, target, options):
    """Where a square or a sum on the way to a bound is too large, or a class is masked."""
    x = np.array([row], np.float64)
    with fastloss.checking():
        for reduction in ("none", "mean"):
            getattr(fastloss, name)(reduction=reduction, **options).value_grad_hess(x, target)


def test_an_infinite_bound_hides_nothing():
    """Of what is not ignored; NaN is no result that a bound allows."""
    assert bounds.shares([math.nan, 1e300], [1.0, 1.0], math.inf).tolist() == [math.inf, 0.0]
    x = np.array([[math.nan, -math.inf, 1.0], [1.0, -math.inf, 0.0]])
    for name in ("mse_loss", "soft_margin_loss", "poisson_nll_loss"):
        given = {"mask": np.isfinite(x), "reduction": "sum", "dtype": np.float64, "hessian": "exact"}
        assert all(np.isfinite(part).all() for part in bounds.loss(name, x, np.ones_like(x), **given)), name
    given = {"reduction": "none", "dtype": np.float64, "hessian": "exact"}
    for name, target in (("nll_loss", [0, 2]), ("cross_entropy", [0, 2]), ("kl_div_with_logits", x[1:])):
        found = bounds.loss(name, x[1:], target[-1:], **given)
        assert all(np.isfinite(part).all() for part in found), name


def test_checking_an_in_place_gradient(rng):
    case = make("cross_entropy", rng, (4, 5))
    with fastloss.checking():
        run(case, grad_out=case.input)


def test_checking_is_that_of_its_thread(monkeypatch):
    """Of a loss that several threads call at once, those that check find what is wrong, and no others."""
    loss, x, labels = fastloss.CrossEntropyLoss(z_loss=0.5, softcap=4.0, scale=0.5), np.eye(3), [0, 2, 1]
    wanted = loss(x, labels)
    monkeypatch.setattr(reference, "cross_entropy", lambda x, *_, **__: (2.0, np.zeros(x.shape)))
    start = threading.Barrier(4)

    def found(checks):
        start.wait(30)
        wrong = 0
        with fastloss.checking() if checks else contextlib.nullcontext():
            for _ in range(20):
                try:
                    assert loss(x, labels) == wanted
                except fastloss.CheckError:
                    wrong += 1
        return wrong

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(found, [True, False] * 2)) == [20, 0] * 2


def test_fastloss_check_turns_checking_on():
    code = (
        "import numpy as np, fastloss\n"
        "from fastloss import reference\n"
        "fastloss.softmax([1.0, 2.0])\n"
        "reference.softmax = lambda x, axis=-1: np.array([0.5, 0.5])\n"
        "try: fastloss.softmax([1.0, 2.0])\n"
        "except fastloss.CheckError: print('found')\n"
        "else: print('missed')\n"
    )
    assert answers(code, FASTLOSS_CHECK="1") == "found"
    assert answers(code, FASTLOSS_CHECK="0") == "missed"
