"""`fastloss.bounds`: inputs that are known to come near, what a search finds, and docs/bounds.md."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import fastloss
from fastloss import bounds
from tests.support import oracle
from tests.support.cases import fixture_of, free

PAGE = Path(__file__).parents[1] / "docs" / "bounds.md"
DTYPES = [np.float32, np.float64]
dtype = fixture_of(DTYPES)
wide = pytest.mark.skipif(oracle.WideRows.bits < 64, reason="long double is no wider than float64 here")

BCE = "binary_cross_entropy"
WITH_LOGITS = BCE + "_with_logits"
FOCAL = "sigmoid_focal_loss"


def shares(got, truth, bound):
    return oracle.shares_of(got, truth, np.broadcast_to(bound, truth.shape))


# ------------------------------------------------------------------------------------- known inputs


def shares_of_points(name, x, y, dtype, **options):
    value, slope = oracle.wide_points(name, x, y, **options)
    given = {k: v for k, v in options.items() if k != "sample_weight"}
    call = {k: v for k, v in options.items() if k == "sample_weight"}
    got = free(name, reduction="none", **given).value_and_grad(x, y, **call)
    allowed = bounds.loss(name, x, y, dtype=dtype, reduction="none", **options)
    return shares(got[0], value, allowed.value), shares(got[1], slope, allowed.grad)


def shares_of_rows(name, x, target, dtype, axis=-1, **options):
    """Shares of each row's value, and the largest of its gradient's entries; or of an array function.

    The kernels have the rows' classes where `axis` says.
    """
    exact, given = oracle.WideRows(x), np.ascontiguousarray(np.moveaxis(x, -1, axis))
    if target is None:
        got = getattr(fastloss, name)(given, axis=axis)
        got = np.moveaxis(got, axis, -1) if got.ndim == 2 else got
        found = shares(got, getattr(exact, name)(), bounds.array_function(name, x, dtype=dtype))
        return (found.reshape(len(x), -1).max(1),)
    c = oracle.coefficients(target, x.shape, 1, **options)
    given_target = target if target.ndim == 1 else np.ascontiguousarray(np.moveaxis(target, -1, axis))
    value, grad = free(name, reduction="none", axis=axis, **options).value_and_grad(given, given_target)
    allowed = bounds.loss(name, x, target, dtype=dtype, reduction="none", **options)
    return shares(value, exact.loss(c), allowed.value), shares(
        np.moveaxis(grad, axis, -1), exact.grad(c), allowed.grad
    ).max(1)


@wide
@pytest.mark.parametrize(
    ("name", "x", "y", "options"),
    [
        (WITH_LOGITS, -0.29444724, 0.14789246, {}),  # 2.5 ulp of the larger term, 2.8 without fma
        (WITH_LOGITS, -0.2306648, 0.5, {}),
        (WITH_LOGITS, -4.4405569e-06, 0.57381445, {"pos_weight": 1.9415537}),  # 4.5 and 5.5
        (WITH_LOGITS, 0.00427182904, 0.98681074, {"pos_weight": 2.0936735}),
        (BCE, 0.015218455, 0.9642903, {}),
        (BCE, 0.016563121, 0.14685948, {}),  # its gradient 2.3 ulp without fma
        (BCE, 0.25099912, 0.0, {}),
    ],
)
def test_two_terms(name, x, y, options, dtype, isa):
    """Many roundings of both terms point the same way."""
    near = np.float32(1) + np.arange(-400, 401) * np.float32(2.0**-23)
    x, y = (np.float32(x) * near).astype(dtype), np.full(801, y, np.float32).astype(dtype)
    options = {k: np.float32([v]).astype(dtype) for k, v in options.items()}
    for found in shares_of_points(name, x, y, dtype, **options):
        assert 0.05 < found.max() <= 1


@wide
@pytest.mark.parametrize("classes", [2, 10, 600])
def test_softmax_far_from_the_maximum(classes, dtype, isa, rng):
    """exp(x) is off by 0.05 u for each unit of x in float32, where ln 2 is one number."""
    x = np.zeros((4000, classes), dtype)
    x[:, 0] = np.linspace(32, 86, 4000)
    x[:, 1:] += rng.uniform(-0.5, 0.5, (4000, 1))
    (found,) = shares_of_rows("softmax", x, None, dtype)
    assert (0.12 if classes == 10 else 0.2) < found.max() <= 1  # of up to 9 additions, which here lose little


@wide
@pytest.mark.parametrize("classes", [5, 100, 124])
def test_softmax_of_a_sum_that_loses_what_is_added(classes, dtype, isa):
    """Short rows add the greatest to the others: what is lost is not less where they are nearly nothing."""
    x = np.zeros((4000, classes), dtype)
    x[:, 1:] = (np.linspace(-2.5, 0.5, 4000) - np.log(2) * (24 if dtype == np.float32 else 53))[:, None]
    (found,) = shares_of_rows("softmax", x, None, dtype)
    assert 0.25 < found.max() <= 1


@wide
@pytest.mark.parametrize("top", [0, 900, 1100, 9e4, 1.1e5, 3e6])
@pytest.mark.parametrize("classes", [2, 10, 200])
def test_softmax_of_large_numbers(classes, top, dtype, isa, rng):
    """Where x cannot be reduced x - max x is, whose rounding counts; each row alone."""
    x = (top - rng.exponential(3, (20, classes)) * 10 ** rng.uniform(-1, 1.3, (20, 1))).astype(dtype)
    for row in x[:, None]:
        for name in ("softmax", "log_softmax", "logsumexp", "entropy_from_logits"):
            assert shares_of_rows(name, row, None, dtype)[0].max() <= 1
        for target in row.argmin(1), row.argmax(1):
            assert max(found.max() for found in shares_of_rows("cross_entropy", row, target, dtype)) <= 1


@wide
@pytest.mark.parametrize("classes", [2, 10, 200])
def test_gradient_at_a_confident_target(classes, dtype, isa):
    """p_t - 1 is as exact as the other probabilities are, whose d are large, not as p_t, whose d is 0."""
    x = np.zeros((2000, classes), dtype)
    x[:, 0] = np.linspace(1, 87 if dtype == np.float32 else 700, 2000)
    x[:, 1:] += 0.7
    found = shares_of_rows("cross_entropy", x, np.zeros(2000, int), dtype)
    assert 0.2 < found[1].max() <= 1
    assert found[0].max() <= 1


@wide
@pytest.mark.parametrize(
    ("classes", "at", "axis"),
    [
        (12, slice(1, 12), 0),  # planes, one by one
        (300, slice(8, 16), 0),  # a group of them
        (127, slice(1, 127), -1),  # short rows
        (240, slice(1, 240), -1),  # by groups
        (624, None, -1),  # rows, the last steps
    ],
)
def test_a_sum_that_loses_what_is_added(classes, at, axis, dtype, isa):
    """One term, and some of half an ulp of it or a little more or less, that are added to it one by one."""
    bits = 24 if dtype == np.float32 else 53
    at = at or (slice(512, 624, 16) if dtype == np.float32 else slice(576, 624, 8))  # of one lane
    first = np.linspace(-3, -1, 400)
    x = np.full((400, classes), -1e4)
    x[:, at] = (first - bits * np.log(2) - 0.01)[:, None]
    x[:, 0], x[:, at.start] = 0, first
    for found in shares_of_rows("cross_entropy", x.astype(dtype), np.zeros(400, int), dtype, axis):
        assert {12: 0.35, 240: 0.05}.get(classes, 0.15) < found.max() <= 1


# ------------------------------------------------------------------------------------------- search


def climb(rng, population, changed, found_of, rounds):
    """The largest of each of the shares that `found_of` tells of arrays, as the best are changed a little."""
    best = []
    for which in range(len(found_of(population))):
        arrays = population
        found = found_of(arrays)[which]
        for _ in range(rounds):
            top = np.argsort(-found)[:100]
            arrays, found = [a[top] for a in arrays], found[top]
            children = changed([np.repeat(a, 9, 0) for a in arrays])
            arrays = [np.concatenate(pair) for pair in zip(arrays, children, strict=True)]
            found = np.concatenate([found, found_of(children)[which]])
        best.append(found.max())
    return best


def nudged(rng, a):
    """Most numbers by a factor near 1, some by an amount, or their sign."""
    small = 10 ** rng.uniform(np.log10(np.finfo(a.dtype).eps), -0.3, a.shape) * rng.choice([-1, 1], a.shape)
    which = rng.integers(0, 4, a.shape)
    changed = np.choose(which, [a, a * (1 + small), a + small, np.where(small > 0.1, -a, a)])
    return changed.astype(a.dtype)


POINTS = [
    ("mse_loss", (), {}),
    (WITH_LOGITS, ("hard",), {}),
    (WITH_LOGITS, (), {}),
    (WITH_LOGITS, ("pos_weight",), {}),
    (WITH_LOGITS, ("pos_weight", "weight", "sample_weight"), {}),
    (BCE, ("hard",), {}),
    (BCE, (), {}),
    (BCE, ("weight", "sample_weight"), {}),
    ("kl_div", (), {}),
    ("kl_div", (), {"log_target": True}),
    (FOCAL, ("hard",), {}),
    (FOCAL, (), {}),
    (FOCAL, ("hard",), {"gamma": 1.5, "alpha": 0.25}),
    (FOCAL, ("sample_weight",), {"gamma": 5.0, "alpha": 0.75}),
    (FOCAL, (), {"gamma": 0.5}),
    ("soft_margin_loss", ("signs",), {}),
    ("soft_margin_loss", (), {}),
    ("poisson_nll_loss", (), {}),
    ("poisson_nll_loss", ("sample_weight",), {"full": True}),
    ("poisson_nll_loss", (), {"log_input": False, "full": True}),
]


@wide
@pytest.mark.parametrize(("name", "kinds", "options"), POINTS)
def test_search_of_elements(name, kinds, options, dtype, isa):
    rng = np.random.default_rng(31)
    names = [kind for kind in kinds if kind not in ("hard", "signs")]

    def valid(arrays):
        x, y, *weights = arrays
        if name.startswith((BCE, FOCAL)):
            y = np.clip(np.abs(y), 0, 1)
        elif name == "kl_div":
            y = -np.abs(y) if options else np.abs(y)
        elif name == "poisson_nll_loss":
            x, y = np.abs(x) if "log_input" in options else np.minimum(x, 80), np.abs(y)
        if name == BCE:
            x = np.clip(np.abs(x), 0, 1)
        y = y.round() if "hard" in kinds else np.sign(y) if "signs" in kinds else y
        return [x, y, *map(np.abs, weights)]

    def found_of(arrays):
        x, y, *weights = arrays
        return shares_of_points(name, x, y, dtype, **dict(zip(names, weights, strict=True)), **options)

    n = 3000
    x = np.where(rng.random(n) < 0.5, 3 * rng.standard_normal(n), 10 ** rng.uniform(-6, 1.9, n))
    start = [x, rng.random(n), *(0.1 + 3 * rng.random((len(names), n)))]
    start = valid([a.astype(dtype) for a in start])
    best = climb(rng, start, lambda arrays: valid([nudged(rng, a) for a in arrays]), found_of, 15)
    assert 0.15 < best[0] <= 1
    assert best[1] <= 1


ROWS = [
    ("logsumexp", None),
    ("softmax", None),
    ("log_softmax", None),
    ("entropy_from_logits", None),
    ("cross_entropy", "labels"),
    ("cross_entropy", "labels weight"),
    ("cross_entropy", "labels weight label_smoothing"),
    ("cross_entropy", "probabilities"),
    ("cross_entropy", "probabilities weight label_smoothing"),
    ("multinomial_nll_loss", "counts"),
]


@wide
@pytest.mark.parametrize(("classes", "axis"), [(2, -1), (9, -1), (9, 0), (200, -1), (200, 0)])
@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_search_of_rows(name, kind, classes, axis, dtype, isa):
    rng = np.random.default_rng(32)
    n = 600
    options = {}
    if kind and "weight" in kind:
        options["weight"] = (0.25 + rng.random(classes)).astype(dtype)
    if kind and "smoothing" in kind:
        options["label_smoothing"] = 0.1
    x = rng.standard_normal((n, classes)) * 10 ** rng.uniform(-2, 1.6, (n, 1))
    x[: n // 3] = -rng.uniform(0, 30, (n // 3, 1))  # equal but for one
    x[: n // 3, 0] = 0
    start = [x.astype(dtype)]
    if kind and "labels" in kind:
        start.append(rng.integers(0, classes, n))
    elif kind:
        start.append((rng.random((n, classes)) * (rng.random((n, classes)) < 0.8)).astype(dtype))

    def changed(arrays):
        x, *targets = arrays
        some = rng.random(x.shape) < 0.5
        targets = [t if t.ndim == 1 else np.abs(nudged(rng, t)) for t in targets]
        return [np.where(some, nudged(rng, x), x), *targets]

    def found_of(arrays):
        x, *targets = arrays
        return shares_of_rows(name, x, targets[0] if targets else None, dtype, axis, **options)

    best = climb(rng, start, changed, found_of, 12 if classes < 100 else 2)
    assert all(0.03 < share <= 1 for share in best), best


# ------------------------------------------------------------------------------------ what they are


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_option_adds_its_roundings(dtype, rng):
    """Bounds are as large for a loss as for its values with the weights multiplied in, and a little more."""
    x, y, w = rng.standard_normal((5, 4)), rng.random((5, 4)), 0.5 + rng.random((5, 4))
    given = {"dtype": dtype, "reduction": "none", "hessian": "exact"}
    plain = bounds.loss(WITH_LOGITS, x, y, **given)
    weighted = bounds.loss(WITH_LOGITS, x, y, **given, weight=w)
    for with_it, without in zip(weighted, plain, strict=True):
        assert np.all((w * without < with_it) & (with_it < 1.3 * w * without))
    for name, reduction in itertools.product([WITH_LOGITS, "cross_entropy"], ["sum", "mean"]):
        rows = bounds.loss(name, x, y, dtype=dtype, reduction="none")
        total = bounds.loss(name, x, y, dtype=dtype, reduction=reduction)
        n = np.size(rows.value) if reduction == "mean" else 1
        assert rows.value.sum() <= 1.001 * n * total.value <= 2.1 * rows.value.sum()
        assert np.all(n * total.grad >= rows.grad * 0.999)


def test_ignored_rows_have_no_error_and_what_is_not_a_number_no_bound():
    x = np.array([[np.nan, 1], [np.nan, 0], [0, -np.inf]])
    given = {"dtype": np.float32, "reduction": "none", "hessian": "exact"}
    value, grad, hess = bounds.loss("cross_entropy", x, [-100, 0, 0], **given)
    assert value[0] == grad[0].max() == hess[0].max() == 2.0**-126
    assert value[1] == grad[1].min() == hess[1].min() == np.inf  # beside NaN nothing is right but NaN
    assert max(value[2], grad[2].max(), hess[2].max()) <= 4 * 2.0**-126  # of what may become 0


def test_what_is_wrong_takes_more_than_its_bound():
    inf, nan = np.inf, np.nan
    got = bounds.shares([1, 2, inf, inf, nan, nan, 0, -inf, 1], [1, 1, inf, 1, nan, 1, nan, inf, inf], 0.5)
    assert got.tolist() == [0, 2, 0, inf, 0, inf, inf, inf, inf]
    assert bounds.shares(inf, 3e39, 1e30, overflow=3.4e38) == 0
    assert bounds.shares(0.0, 0.0, 0.0) == 0


def test_page():
    """Its table is `bounds.TABLE`."""
    text = PAGE.read_text(encoding="utf-8")
    table = "\n".join(f"| {result} | {error} |" for result, error in bounds.TABLE)
    assert f"| result | error |\n|---|---|\n{table}\n\n" in text
    assert f"s = {bounds.SHARED}. There e is\n{bounds.NEAR} in float32" in text
    assert f"but {bounds.EXP} where abs(max x) is {bounds.FAR[np.dtype(np.float32)]:.0f} or more" in text
