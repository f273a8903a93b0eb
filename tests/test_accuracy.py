"""Distance to 50-digit truths, on inputs chosen to hurt."""

import functools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

import fastloss
from fastloss import _kernels, bounds
from tests.support import hard, oracle
from tests.support.cases import fixture_of
from tests.support.cases import free as loss
from tests.support.hard import WIDE, WIDTH
from tests.support.oracle import assert_within

DTYPES = [np.float32, np.float64]
dtype = fixture_of(DTYPES)


@functools.cache
def problem(kind, dtype):
    """Rows, their 50-digit twins, and three targets for each: the likeliest, the least and one."""
    x = {"adversarial": hard.adversarial_rows, "long": hard.long_rows}[kind](dtype)
    rng = np.random.default_rng(9)
    likely = x.argmax(1)
    unlikely = np.where(np.isfinite(x), x, np.inf).argmin(1)
    any_one = np.array([rng.choice(np.flatnonzero(np.isfinite(row))) for row in x])
    return x, [oracle.Row(row) for row in x], [likely, unlikely, any_one]


@pytest.fixture(params=["adversarial", "long"])
def kind(request):
    return request.param


def layout_of(name):
    if name == "rows":
        return (lambda x: x), -1, (lambda y: y)
    return (lambda x: np.ascontiguousarray(x.T)), 0, (lambda y: y.T)


@pytest.fixture(params=["rows", "lanes"])
def layout(request):
    """How to lay out rows for either kernel, and how to read its answer."""
    return layout_of(request.param)


@pytest.fixture(params=["rows", "wide", "lanes"])
def any_layout(request):
    """The same, and rows that masked classes make long."""
    if request.param == "wide":
        more = WIDE - WIDTH
        return (
            (lambda x: np.pad(x, ((0, 0), (0, more)), constant_values=-np.inf)),
            -1,
            (lambda y: y[:, :-more] if y.ndim > 1 else y),
        )
    return layout_of(request.param)


@functools.cache
def truth(kind, dtype, what):
    return oracle.array([getattr(row, what)() for row in problem(kind, dtype)[1]])


@pytest.mark.parametrize("function", ["logsumexp", "softmax", "log_softmax", "entropy_from_logits"])
def test_array_functions(function, kind, dtype, any_layout, isa):
    x = problem(kind, dtype)[0]
    arrange, axis, read = any_layout
    wanted = truth(kind, dtype, function)
    got = read(getattr(fastloss, function)(arrange(x), axis))
    assert got.dtype == dtype
    assert_within(got, wanted, bounds.array_function(function, x, dtype=dtype), dtype)


@functools.cache
def index_truth(kind, dtype, which):
    x, rows, targets = problem(kind, dtype)
    c = oracle.coefficients(targets[which], x.shape, -1)
    values = oracle.array([row.loss(k) for row, k in zip(rows, c, strict=True)])
    return values, oracle.array([row.grad(k) for row, k in zip(rows, c, strict=True)])


def row_bounds(function, x, target, dtype, **options):
    """Of losses with the classes last."""
    return bounds.loss(function, x, target, dtype=dtype, reduction="none", axis=-1, **options)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["confident", "hopeless", "any"])
def test_cross_entropy_of_indices(which, kind, dtype, any_layout, isa):
    x, _, targets = problem(kind, dtype)
    arrange, axis, read = any_layout
    values, slopes = index_truth(kind, dtype, which)
    made = loss("cross_entropy", reduction="none", axis=axis)
    value, grad = made.value_and_grad(arrange(x), targets[which])
    allowed = row_bounds("cross_entropy", x, targets[which], dtype)
    assert_within(value, values, allowed.value, dtype)
    assert_within(read(grad), slopes, allowed.grad, dtype)
    alone = made(arrange(x), targets[which])
    assert_within(alone, values, allowed.value, dtype)


#: Losses of a label, and options of the losses of softmax.
LABEL_LOSSES = [
    *(("focal_loss", {"gamma": gamma}) for gamma in (0.0, 0.5, 1.0, 2.0, 2.5, 5.0, 40.0)),
    *(("generalized_cross_entropy", {"q": q}) for q in (1e-9, 0.3, 0.7, 1.0)),
    *(("poly_loss", {"epsilon": epsilon}) for epsilon in (0.0, 1.0, -1.0, 1e4, -1e9)),
    ("cross_entropy", {"z_loss": 1e-4}),
    ("cross_entropy", {"z_loss": 3.0}),
    ("focal_loss", {"gamma": 2.0, "z_loss": 0.5}),
    ("cross_entropy", {"softcap": 30.0}),
    ("cross_entropy", {"softcap": 2.0, "z_loss": 0.1}),
    ("cross_entropy", {"softcap": 1e4}),
    ("generalized_cross_entropy", {"q": 0.7, "softcap": 5.0}),
]


@functools.cache
def label_truth(kind, dtype, which, at):
    x, rows, targets = problem(kind, dtype)
    name, given = LABEL_LOSSES[at]
    options = {option: value for option, value in given.items() if option != "softcap"}
    if "softcap" in given:
        rows = [oracle.CappedRow(row, given["softcap"]) for row in x]
    found = [
        oracle.loss_of_label(row, t, name, **options) for row, t in zip(rows, targets[which], strict=True)
    ]
    return oracle.array([value for value, _ in found]), oracle.array([grad for _, grad in found])


@pytest.mark.parametrize("which", [0, 1, 2], ids=["confident", "hopeless", "any"])
@pytest.mark.parametrize("at", range(len(LABEL_LOSSES)), ids=[f"{n}-{o}" for n, o in LABEL_LOSSES])
def test_losses_of_a_label(at, which, dtype, any_layout, isa):
    x, _, targets = problem("adversarial", dtype)
    arrange, axis, read = any_layout
    name, options = LABEL_LOSSES[at]
    values, slopes = label_truth("adversarial", dtype, which, at)
    made = loss(name, reduction="none", axis=axis, **options)
    value, grad = made.value_and_grad(arrange(x), targets[which])
    allowed = row_bounds(name, x, targets[which], dtype, **options)
    assert_within(value, values, allowed.value, dtype)
    assert_within(read(grad), slopes, allowed.grad, dtype)
    assert np.array_equal(value, made(arrange(x), targets[which]), equal_nan=True)
    x = arrange(x).copy()
    assert np.array_equal(grad, made.value_and_grad(x, targets[which], grad_out=x)[1], equal_nan=True)


def test_rows_are_long_enough():
    """Or the layout "rows" would be computed in tiles, and "wide" as short rows."""
    assert WIDTH >= _kernels.ROWS_MIN_CLASSES
    assert 4 * WIDTH < bounds.SHORT_BYTES == _kernels.SHORT_ROWS_BYTES <= 4 * WIDE


def test_entry_of_a_confident_row(dtype, any_layout, isa):
    """p_t - 1 is minus the sum of the others, however close p_t is to 1."""
    x = np.zeros((30, WIDTH), dtype)
    x[:, 0] = np.linspace(1, 80, 30)
    arrange, axis, read = any_layout
    _, grad = loss("cross_entropy", reduction="none", axis=axis).value_and_grad(arrange(x), np.zeros(30, int))
    allowed = row_bounds("cross_entropy", x, np.zeros(30, int), dtype).grad
    for row, off in zip(read(grad), allowed, strict=True):
        others = math.fsum(row[1:].astype(float))
        assert row[0] < 0 < others
        assert abs(row[0] + others) <= off[0] + (off[1:] ** 2).sum() ** 0.5


@pytest.mark.parametrize("options", ["weight", "label_smoothing", "both"])
@pytest.mark.parametrize("probabilities", [False, True], ids=["labels", "probabilities"])
def test_class_weights_and_smoothing(options, probabilities, dtype, layout, isa):
    """On unmasked rows: smoothing puts mass on every class."""
    x = hard.adversarial_rows(dtype, masked=False)
    rng = np.random.default_rng(17)
    given = {}
    if options != "label_smoothing":
        given["weight"] = (0.25 + rng.random(WIDTH)).astype(dtype)
    if options != "weight":
        given["label_smoothing"] = 0.125
    target = rng.dirichlet(np.ones(WIDTH), len(x)).astype(dtype) if probabilities else x.argmin(1)
    arrange, axis, read = layout
    made = loss("cross_entropy", reduction="none", axis=axis, **given)
    value, grad = made.value_and_grad(arrange(x), arrange(target) if probabilities else target)
    c = oracle.coefficients(target, x.shape, -1, **given)
    rows = unmasked_truth(dtype)
    values = oracle.array([row.loss(k) for row, k in zip(rows, c, strict=True)])
    allowed = row_bounds("cross_entropy", x, target, dtype, **given)
    assert_within(value, values, allowed.value, dtype)
    slopes = oracle.array([row.grad(k) for row, k in zip(rows, c, strict=True)])
    assert_within(read(grad), slopes, allowed.grad, dtype)


@functools.cache
def unmasked_truth(dtype):
    return [oracle.Row(row) for row in hard.adversarial_rows(dtype, masked=False)]


@functools.cache
def soft_truth(kind, dtype, counts):
    x, rows, _ = problem(kind, dtype)
    rng = np.random.default_rng(10)
    c = rng.integers(0, 5, x.shape) if counts else rng.dirichlet(np.ones(x.shape[1]), len(x))
    c = np.where(np.isfinite(x), c, 0).astype(dtype)
    values = oracle.array([row.loss(k) for row, k in zip(rows, c, strict=True)])
    return c, values, oracle.array([row.grad(k) for row, k in zip(rows, c, strict=True)])


@pytest.mark.parametrize("function", ["cross_entropy", "multinomial_nll_loss"])
def test_soft_targets_and_counts(function, kind, dtype, layout, isa):
    x = problem(kind, dtype)[0]
    arrange, axis, read = layout
    c, values, slopes = soft_truth(kind, dtype, function != "cross_entropy")
    made = loss(function, reduction="none", axis=axis)
    value, grad = made.value_and_grad(arrange(x), arrange(c))
    allowed = row_bounds(function, x, c, dtype)
    assert_within(value, values, allowed.value, dtype)
    assert_within(read(grad), slopes, allowed.grad, dtype)


# ---------------------------------------------------------------------------------- many classes


@functools.cache
def level_truth(classes, dtype):
    """Rows, and for each function, target and options the truth and its bound, then for gradients."""
    x = hard.level_rows(classes, dtype)
    exact = oracle.WideRows(x)
    found = []
    for function in ("logsumexp", "softmax", "log_softmax"):
        allowed = bounds.array_function(function, x, dtype=dtype)
        found.append((function, None, {}, getattr(exact, function)(), allowed))
    rng = np.random.default_rng(16)
    label = np.where(np.arange(len(x)) % 2, x.argmax(1), rng.integers(0, classes, len(x)))
    soft = np.repeat(rng.random((len(x), 1)), classes, 1).astype(dtype)
    smoothing = {"label_smoothing": 0.25}
    for function, target, options in [
        ("cross_entropy", label, {}),
        ("cross_entropy", label, smoothing),
        ("cross_entropy", soft, {}),
        ("multinomial_nll_loss", soft, {}),
    ]:
        c = oracle.coefficients(target, x.shape, -1, **options)
        allowed = row_bounds(function, x, target, dtype, **options)
        found.append((function, target, options, exact.loss(c), allowed.value, exact.grad(c), allowed.grad))
    return x, found


wide = pytest.mark.skipif(oracle.WideRows.bits < 64, reason="long double is no wider than float64 here")


@wide
def test_wide_rows_against_50_digits():
    """The truth for many classes is itself right to a hundredth of a rounding of float64."""
    for x in (hard.level_rows(300, np.float64)[::9], 5 * np.random.default_rng(1).standard_normal((3, 50))):
        found, c = oracle.WideRows(x), np.abs(x) + 1
        for i, exact in enumerate(map(oracle.Row, x)):
            assert abs(exact.loss(c[i]) - mp.mpf(str(found.loss(c)[i]))) < 2.0**-60 * exact.loss(c[i])
            for p, q in zip(exact.softmax(), found.softmax()[i], strict=True):
                assert abs(p - mp.mpf(str(q))) < 2.0**-59 * p


@wide
@pytest.mark.parametrize("classes", [10, 127, 1000, 2049, 10_000, 1_000_000])
def test_many_classes(classes, dtype, layout, isa):
    x, truths = level_truth(classes, dtype)
    arrange, axis, read = layout
    arranged = arrange(x)
    for function, target, options, wanted, allowed, *of_grad in truths:
        if target is None:
            got = read(getattr(fastloss, function)(arranged, axis))
            assert_within(got, wanted, allowed, dtype)
            continue
        made = loss(function, reduction="none", axis=axis, **options)
        value, grad = made.value_and_grad(arranged, target if target.ndim == 1 else arrange(target))
        assert_within(value, wanted, allowed, dtype)
        assert_within(read(grad), *of_grad, dtype)


@pytest.mark.parametrize("classes", [3, WIDTH])
def test_multinomial_constant(classes, dtype, isa):
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 9, (20, classes)).astype(dtype)
    x = rng.standard_normal((20, classes)).astype(dtype)
    value = fastloss.multinomial_nll_loss(x, counts, full=True, reduction="none")
    wanted = []
    for row, k in zip(x, counts, strict=True):
        constant = mp.fsum(mp.loggamma(int(v) + 1) for v in k) - mp.loggamma(int(k.sum()) + 1)
        wanted.append(oracle.Row(row).loss(k) + constant)
    allowed = row_bounds("multinomial_nll_loss", x, counts, dtype, full=True).value
    assert_within(value, oracle.array(wanted), allowed, dtype)


def test_factorials(isa, rng):
    """log Γ(1 + k), of one count beside one or none: what is left where all logits are 0."""
    sizes = [0.0, 1e-300, 1e-9, 0.49999, 0.5, 0.99999, 1.0, 1.00001, 1.5, 2.0, 2.4, 7.0, 7.99999, 8.0, 8.5]
    more = rng.uniform(0, 3, 300), rng.uniform(0, 20, 300), 10 ** rng.uniform(1, 300, 100)
    counts = np.array([*sizes, *np.arange(3.0, 40), *np.concatenate(more)])
    both = np.stack([counts, np.ones_like(counts)], 1)
    value = fastloss.multinomial_nll_loss(np.zeros_like(both), both, full=True, reduction="none")
    wanted = [(k + 1) * mp.log(2) + mp.loggamma(k + 1) - mp.loggamma(k + 2) for k in mpf(counts)]
    allowed = row_bounds("multinomial_nll_loss", np.zeros_like(both), both, np.float64, full=True).value
    assert_within(value, oracle.array(wanted), allowed, np.float64)


# ------------------------------------------------------------------------------- element by element


def mpf(a):
    return [mp.mpf(float(v)) for v in a]


@pytest.mark.parametrize("function", ["sigmoid", "logsigmoid"])
def test_sigmoids(function, dtype, isa):
    x = hard.grid(dtype)
    if function == "sigmoid":
        wanted = oracle.array([oracle.logistic(v) for v in mpf(x)])
    else:
        wanted = oracle.array([-oracle.softplus(-v) for v in mpf(x)])
    got = getattr(fastloss, function)(x)
    assert got.dtype == dtype
    assert_within(got, wanted, bounds.array_function(function, x, dtype=dtype), dtype)


POINTWISE = [
    ("binary_cross_entropy_with_logits", "hard", {}),
    ("binary_cross_entropy_with_logits", "soft", {}),
    ("binary_cross_entropy", "probabilities", {}),
    ("kl_div", "kl", {}),
    ("kl_div", "kl_log", {"log_target": True}),
    ("mse_loss", "real", {}),
    *(
        ("sigmoid_focal_loss", kind, {"gamma": gamma, "alpha": alpha})
        for kind in ("hard", "soft")
        for gamma, alpha in ((0, 0.25), (0.5, None), (1, None), (2, None), (2, 0.75), (5, None), (12.5, 0.25))
    ),
    ("soft_margin_loss", "signs", {}),
    ("soft_margin_loss", "real", {}),
    ("poisson_nll_loss", "counts", {}),
    ("poisson_nll_loss", "counts", {"full": True}),
    ("poisson_nll_loss", "rates", {"log_input": False}),
    ("poisson_nll_loss", "rates", {"log_input": False, "full": True, "eps": 1e-3}),
]


@functools.cache
def every_so_often(dtype):
    """A million float32 numbers, or fewer float64 ones, evenly among all bit patterns, and their sigmoids."""
    bits = np.arange(77, 2**32, 4099, np.uint64).astype(np.uint32)
    x, wide = bits.view(np.float32), np.float64
    if dtype == np.float64:
        bits = bits[::8].astype(np.uint64) << np.uint64(32) | np.uint64(0x5DEECE66)
        x, wide = bits.view(np.float64), np.longdouble
    x = x[np.isfinite(x)]
    e = np.exp(-np.abs(x.astype(wide)))
    return x, np.where(x > 0, 1 / (1 + e), e / (1 + e)), np.minimum(x, 0) - np.log1p(e)


@wide
def test_sigmoids_of_every_so_many_numbers(dtype, isa):
    """`python -m bench exhaustive` goes through all of float32. 0 only below the normal numbers."""
    x, sigmoids, logarithms = every_so_often(dtype)
    for function, truth in (("sigmoid", sigmoids), ("logsigmoid", logarithms)):
        got = getattr(fastloss, function)(x)
        with np.errstate(over="ignore"):
            off = np.abs(got.astype(truth.dtype) - truth) / bounds.ulp(truth.astype(np.float64), dtype)
        zero = (got == 0) & (np.abs(truth) < np.finfo(dtype).smallest_normal)
        assert off[~zero].max() <= bounds.ULP


@functools.cache
def pointwise_truth(function, kind, dtype, options):
    x, y = hard.pairs(kind, dtype)
    formula = getattr(oracle, function + ("_log_target" if kind == "kl_log" else ""))
    options = {} if kind == "kl_log" else dict(options)
    found = [formula(a, b, **options) for a, b in zip(mpf(x), mpf(y), strict=True)]
    return x, y, *(oracle.array(list(of)) for of in zip(*found, strict=True))


@pytest.mark.parametrize(("function", "kind", "options"), POINTWISE)
def test_pointwise_losses(function, kind, options, dtype, isa):
    x, y, values, slopes = pointwise_truth(function, kind, dtype, tuple(options.items()))
    value, grad = loss(function, reduction="none", **options).value_and_grad(x, y)
    assert value.dtype == grad.dtype == dtype
    allowed = bounds.loss(function, x, y, dtype=dtype, reduction="none", **options)
    assert_within(value, values, allowed.value, dtype)
    assert_within(grad, slopes, allowed.grad, dtype)


@pytest.mark.parametrize("classes", [5, WIDTH])
def test_entropy(classes, dtype, layout, isa):
    rng = np.random.default_rng(13)
    p = rng.dirichlet(np.full(classes, 0.3), 40).astype(dtype)
    p[0], p[0, 0], p[1, 1:3] = 0, 1, 0
    wanted = oracle.array([mp.fsum(-v * mp.log(v) for v in mpf(row) if v) for row in p])
    arrange, axis, _ = layout
    got = fastloss.entropy(arrange(p), axis)
    assert_within(got, wanted, bounds.array_function("entropy", p, dtype=dtype), dtype)


@pytest.mark.parametrize("classes", [127, 5000, 1_000_000])
def test_entropy_of_many_classes(classes, dtype, layout, isa):
    """Equal terms: their sum loses no more with more blocks of classes."""
    p = np.linspace(0.3, 0.9, 3).astype(dtype)
    wanted = oracle.array([-classes * v * mp.log(v) for v in mpf(p)])
    arrange, axis, _ = layout
    rows = arrange(np.repeat(p[:, None], classes, 1))
    allowed = bounds.array_function("entropy", rows, axis, dtype=dtype)
    assert_within(fastloss.entropy(rows, axis), wanted, allowed, dtype)


# --------------------------------------------------------------------------------------------- sums


@pytest.mark.parametrize("n", [1, 63, 1000, 5000])
@pytest.mark.parametrize("function", ["cross_entropy", "mse_loss"])
def test_mean_and_sum_add_in_float64(function, n, dtype, isa):
    """Against the exact sum of the values that each row has alone, which have one sign."""
    rng = np.random.default_rng(14)
    shape = (n, 3) if function == "cross_entropy" else (n,)
    x = rng.standard_normal(shape) * 10 ** rng.uniform(-3, 3, (n,) + (1,) * (len(shape) - 1))
    x = x.astype(dtype)
    y = rng.integers(0, 3, n) if function == "cross_entropy" else np.zeros(n, dtype)
    total = loss(function, reduction="sum")
    exact = math.fsum(total(x[i : i + 1], y[i : i + 1]) for i in range(n))
    allowed = bounds.TOTALS * 2.0**-53 * exact
    assert_within(total(x, y), exact, allowed, np.float64)
    assert_within(loss(function)(x, y), exact / n, allowed / n, np.float64)


@functools.cache
def drawn(function, dtype, n=10**7):
    """n rows drawn from few, the few, and how often each was drawn."""
    rng = np.random.default_rng(18)
    x = (rng.standard_normal((4096, 3)) * 10 ** rng.uniform(-3, 3, (4096, 1))).astype(dtype)
    y = rng.integers(0, 3, 4096)
    if function != "cross_entropy":
        x, y = x[:, 0], rng.random(4096).astype(dtype)
    which = rng.integers(0, 4096, n)
    return x, y, x[which], y[which], np.bincount(which, minlength=4096)


@pytest.mark.parametrize("function", ["cross_entropy", "mse_loss", "binary_cross_entropy_with_logits"])
def test_mean_and_sum_of_many_rows(function, dtype, isa):
    x, y, xs, ys, times = drawn(function, dtype)
    total = loss(function, reduction="sum")
    each = [Fraction(total(x[i : i + 1], y[i : i + 1])) for i in range(len(x))]
    exact = sum(v * int(k) for v, k in zip(each, times, strict=True))
    for got, wanted in ((total(xs, ys), exact), (loss(function)(xs, ys), exact / len(xs))):
        assert abs(Fraction(got) - wanted) <= bounds.TOTALS * Fraction(2.0**-53) * wanted


@pytest.mark.parametrize("width", [32, 64, 512])
def test_small_values_beside_large_ones_are_not_lost(width, dtype, isa):
    """One value in `width` is 1, the others 2^-53: each alone rounds away against it, in an accumulator."""
    x = np.full(width * 64, 2.0**-26.5).astype(dtype)
    x.reshape(-1, width)[:, : max(1, width // 16)] = 1
    exact = sum(Fraction(float(v)) for v in fastloss.mse_loss(x, np.zeros_like(x), reduction="none"))
    got = Fraction(fastloss.mse_loss(x, np.zeros_like(x), reduction="sum"))
    assert abs(got - exact) <= bounds.TOTALS * Fraction(2.0**-53) * exact
