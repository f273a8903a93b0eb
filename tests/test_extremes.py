"""Numbers at the ends of their range: what leaves it on the way to a result must not show in the result.

The truths are exact arithmetic and mpmath. Each case runs on every instruction set, in both families with
classes (few, many, a strided class axis), alone and among ordinary samples, whose bits may not change.
"""

import contextlib
import math
import sys

import mpmath as mp
import numpy as np
import pytest

import fastloss
from fastloss import bounds, reference
from fastloss.bounds import unit
from tests.support import oracle
from tests.support.cases import CLASSES, WITH_CLASSES, unchecked
from tests.support.cases import free as loss
from tests.support.oracle import logistic, softplus

inf, nan = math.inf, math.nan

DTYPES = [np.float32, np.float64]


def exact(a):
    return mp.mpf(float(a))


LONG = np.dtype(np.longdouble) != np.float64


def checking():
    """Unless the reference leaves float64's range where the kernels do not."""
    return fastloss.checking() if LONG else contextlib.nullcontext()


def assert_close(got, want, terms, dtype, computed=None):
    """Within 8 u of the terms, u of `computed`; below the smallest normal number of the dtype 0 will do."""
    u = unit(computed or dtype)
    got, want = float(got), mp.mpf(want)
    largest = float(np.finfo(dtype).max)
    if math.isinf(got):
        assert abs(want) > largest * (1 - u)
        assert (got > 0) == (want > 0)
        return
    error = abs(mp.mpf(got) - want)
    allowed = 8 * u * mp.mpf(terms) + mp.mpf(float(np.finfo(dtype).tiny))
    assert error <= allowed, f"got {got!r}, wanted {mp.nstr(want, 12)}"


# --------------------------------------------------------------------------- a weight of exactly 0

INFINITE = [  # function, options, input, target: the loss is infinite
    ("mse_loss", {}, inf, 0.0),
    ("binary_cross_entropy_with_logits", {}, inf, 0.0),
    ("binary_cross_entropy_with_logits", {}, -inf, 1.0),
    ("binary_cross_entropy_with_logits", {"pos_weight": 2.0}, -inf, 1.0),
    ("sigmoid_focal_loss", {}, inf, 0.0),
    ("sigmoid_focal_loss", {"gamma": 0.5, "alpha": 0.25}, -inf, 1.0),
    ("soft_margin_loss", {}, -inf, 1.0),
    ("poisson_nll_loss", {}, inf, 2.0),
    ("poisson_nll_loss", {}, -inf, 2.0),
    ("poisson_nll_loss", {"log_input": False, "eps": 0.0}, 0.0, 2.0),
    ("kl_div", {}, -inf, 0.5),
    ("kl_div", {"log_target": True}, -inf, -1.0),
    ("cross_entropy", {}, [-inf, 0.0], 0),
    ("cross_entropy", {"label_smoothing": 0.25}, [-inf, 0.0], 1),
    ("cross_entropy", {}, [-inf, 0.0], [0.5, 0.5]),
    ("nll_loss", {}, [-inf, 0.0], 0),
    ("multinomial_nll_loss", {}, [-inf, 0.0], [1.0, 1.0]),
    ("cross_entropy", {"z_loss": 0.25, "softcap": 3.0}, [-inf, 0.0], 0),
    ("focal_loss", {}, [-inf, 0.0], 0),
    ("poly_loss", {}, [-inf, 0.0], 0),
]


def batch_of(x, target, dtype, samples, position):
    """The sample at one position among ordinary ones."""
    xs = np.full((samples, *np.shape(x)), 0.5, dtype)
    xs[position] = x
    targets = np.zeros((samples, *np.shape(target)), np.int64 if type(target) is int else dtype)
    targets[...] = 1.0 if np.ndim(target) else 0
    targets[position] = target
    return xs, targets


@pytest.mark.parametrize("samples", [1, 3, 700])
@pytest.mark.parametrize(("name", "options", "x", "target"), INFINITE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_of_0_drops_an_infinite_term_and_keeps_nan(name, options, x, target, samples, dtype, isa):
    position = samples // 2
    xs, targets = batch_of(x, target, dtype, samples, position)
    weights = np.ones(samples, dtype)
    for reduction in ("sum", "mean", "none"):
        made = loss(name, **options, reduction=reduction)
        weights[position] = 1
        assert np.any(np.isinf(made(xs, targets, sample_weight=weights)))
        weights[position] = 0
        value, grad = made.value_and_grad(xs, targets, sample_weight=weights)
        if reduction == "mean" and samples == 1:  # nothing counts
            assert math.isnan(value)
        else:
            assert np.all(np.isfinite(value))
            with checking():
                made.value_and_grad(xs, targets, sample_weight=weights)
        assert np.all(grad[position] == 0)
        ordinary = made.value_and_grad(
            np.delete(xs, position, 0), np.delete(targets, position, 0), sample_weight=weights[1:] * 0 + 1
        )[1]
        assert np.array_equal(np.delete(grad, position, 0), ordinary)
        assert np.array_equal(
            np.asarray(value), np.asarray(made(xs, targets, sample_weight=weights)), equal_nan=True
        )
        spoilt = xs.copy()
        spoilt[position] = nan
        value, grad = made.value_and_grad(spoilt, targets, sample_weight=weights)
        assert np.any(np.isnan(value))
        depends = name not in ("nll_loss", "kl_div")  # the gradient on the input
        if depends and not (reduction == "mean" and samples == 1):
            assert np.all(np.isnan(grad[position]))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_probability_of_0_drops_an_infinite_class_weight(reduction, dtype, isa):
    x, q = np.array([[1, 2, 0]], dtype), np.array([[0, 0.5, 0.5]])
    options = {"weight": [9.0, 1.0, 2.0], "reduction": reduction}
    want = reference.cross_entropy(x, q, **options)
    allowed = bounds.against_reference(bounds.loss, dtype, "cross_entropy", x, q, **options)
    options["weight"][0] = inf
    with fastloss.checking():
        value, grad = fastloss.CrossEntropyLoss(**options).value_and_grad(x, q)
    assert (np.abs(value - want[0]) <= allowed.value).all()
    assert (np.abs(grad - want[1]) <= allowed.grad).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_element_weight_of_0_and_a_grad_output_of_0(dtype, isa):
    x, y = np.array([inf, 1.0, nan], dtype), np.zeros(3, dtype)
    for name in ("binary_cross_entropy_with_logits",):
        made = loss(name, weight=np.array([0, 1, 0], dtype), reduction="none")
        value, grad = made.value_and_grad(x, y)
        assert value[0] == grad[0] == 0
        assert math.isnan(value[2])
        assert math.isnan(grad[2])
    made = loss("mse_loss", reduction="none")
    grad = made.value_and_grad(x, y, grad_output=np.array([0, 1, 0], dtype))[1]
    assert grad[0] == 0
    assert grad[1] == 2
    assert math.isnan(grad[2])
    assert loss("mse_loss", reduction="sum").value_and_grad(x[:1], y[:1], grad_output=0.0)[1] == 0
    assert reference.mse_loss(x[:1], y[:1], grad_output=0.0)[1] == 0


# ------------------------------------------------------------------------------ elementwise losses


def pointwise_truth(name, options, x, y):
    """Value, slope, and the size of the terms of each."""
    if name == "binary_cross_entropy_with_logits":
        a, b = exact(options.get("pos_weight", 1)) * y, 1 - y
        terms = [a * softplus(-x), b * softplus(x)]
        slopes = [b * logistic(x), -a * logistic(-x)]
        return sum(terms), sum(slopes), sum(map(abs, terms)), sum(map(abs, slopes))
    truth = getattr(oracle, "kl_div_log_target" if options.get("log_target") else name)
    numbers = {k: v if isinstance(v, bool) else float(v) for k, v in options.items() if k != "log_target"}
    value, slope = truth(x, y, **numbers)
    if name == "poisson_nll_loss":
        rate, log_rate = (
            (x, mp.log(x + numbers.get("eps", 1e-8))) if "log_input" in options else (mp.exp(x), x)
        )
        return value, slope, abs(rate) + abs(y * log_rate), abs(rate) + abs(y) + abs(slope)
    if name == "sigmoid_focal_loss":  # the power is off by its exponent
        size = 4 * (1 + options["gamma"] * (1 + abs(x)))
        return value, slope, size * abs(value), size * abs(slope)
    if name == "kl_div":
        p, log_p = (mp.exp(y), y) if options.get("log_target") else (y, mp.log(y) if y else 0)
        return value, slope, abs(p * log_p) + abs(p * x), abs(slope)
    if name == "binary_cross_entropy":
        log_x = max(mp.log(x), mp.mpf(-100)) if x else mp.mpf(-100)
        log_not_x = max(mp.log1p(-x), mp.mpf(-100)) if x < 1 else mp.mpf(-100)
        size = (x + y) / max(x * (1 - x), mp.mpf(1e-12))
        return value, slope, abs(y * log_x) + abs((1 - y) * log_not_x), size
    return value, slope, abs(value), abs(slope)


LOGITS = "binary_cross_entropy_with_logits"
FOCAL = "sigmoid_focal_loss"
EXTREME_POINTS = {  # function, options, input, target, the factors of its value and gradient
    np.float32: [
        ("mse_loss", {}, 2.5e38, 0, [0.25]),
        ("mse_loss", {}, 2.5e38, -2.5e38, [1e-30, 1e-9]),
        ("mse_loss", {}, 1e30, 0, [1e-30]),
        ("mse_loss", {}, 1e-25, 0, [1e30]),
        (LOGITS, {}, -20, 0, [2.0**-120]),
        (LOGITS, {}, 10, 0, [2.0**126]),
        (LOGITS, {}, 3, 0, [1e-42]),
        (LOGITS, {}, -90, 0, [1e30]),
        (LOGITS, {}, 95, 1, [1e10, 1e10]),
        (LOGITS, {}, -150, 0, [1e38]),
        (LOGITS, {}, 100, 1, [1e38, 1e-8, 1e-10]),
        (LOGITS, {"pos_weight": 1e38}, 150, 1, [1]),
        (LOGITS, {"pos_weight": 3e38}, -10, 1, [1e-3]),
        (LOGITS, {}, 3e38, 0.5, [1e-3]),
        (LOGITS, {}, -30, 0, [65536.0]),
        ("binary_cross_entropy", {}, 1e-30, 0, [1e30]),
        ("binary_cross_entropy", {}, 1e-37, 1, [1e38]),
        ("binary_cross_entropy", {}, 0.5, 1e38, [1e-3]),
        ("binary_cross_entropy", {}, 1e-42, 0, [1e38]),
        (FOCAL, {"gamma": 2.0}, -45, 0, [1e30]),
        (FOCAL, {"gamma": 2.0}, -20, 0, [1e30]),
        (FOCAL, {"gamma": 2.0}, -90, 0, [1e38]),
        (FOCAL, {"gamma": 0.5}, -90, 0, [1e38]),
        (FOCAL, {"gamma": 1.0}, -60, 0, [1e38]),
        (FOCAL, {"gamma": 0.0}, 95, 1, [1e10, 1e10]),
        (FOCAL, {"gamma": 5.0}, 3e38, 0, [1e-3]),
        (FOCAL, {"gamma": 2.0}, -3e38, 0, [1]),
        (FOCAL, {"gamma": 2.0}, 1e4, 1e-20, [1]),
        (FOCAL, {"gamma": 8.0}, 1e30, 1e-4, [1]),
        (FOCAL, {"gamma": 40.0}, 1e30, 1e-3, [1]),
        (FOCAL, {"gamma": 40.0}, 2, 1, [1]),
        (FOCAL, {"gamma": 1e4}, -0.01, 0, [1]),
        ("soft_margin_loss", {}, 20, 1, [1e-30]),
        ("soft_margin_loss", {}, 95, 1, [1e30]),
        ("soft_margin_loss", {}, 1e-28, 1e30, [1]),
        ("soft_margin_loss", {}, 1e-20, 1e-30, [1e30]),
        ("soft_margin_loss", {}, -1e20, 1e20, [1e-3]),
        ("poisson_nll_loss", {}, -95, 0, [1e30]),
        ("poisson_nll_loss", {}, 88.5, 1, [1]),
        ("poisson_nll_loss", {}, 95, 1, [1e-10]),
        ("poisson_nll_loss", {}, -1e20, 1e20, [1e-10]),
        ("poisson_nll_loss", {"log_input": False, "eps": 0.0}, 1e-41, 2, [1]),
        ("poisson_nll_loss", {"log_input": False, "eps": 0.0}, 1e-30, 1e20, [1e-20]),
        ("poisson_nll_loss", {"log_input": False, "eps": 0.0}, 3e38, 2e38, [1e-20]),
        ("kl_div", {}, -3e38, 1, [1e-3]),
        ("kl_div", {}, -3e38, 2, [1e-3]),
        ("kl_div", {}, -5, 1e-40, [1e38]),
        ("kl_div", {"log_target": True}, -1, -100, [1e20]),
        ("kl_div", {"log_target": True}, -1, 100, [1e-20]),
        ("kl_div", {"log_target": True}, -3e38, 2, [1e-3]),
    ],
    np.float64: [
        ("mse_loss", {}, 1.2e308, -1.2e308, [0.25]),
        ("mse_loss", {}, 1e200, 0, [1e-300]),
        ("mse_loss", {}, 1e-200, 0, [1e300]),
        ("mse_loss", {}, 1.5e154, 0, [0.25]),
        (LOGITS, {}, -750, 0, [1e300]),
        (LOGITS, {}, 10, 0, [1e308, 1e308, 1e-310]),
        (LOGITS, {}, -1, 0, [1e-200, 1e-200, 1e300]),
        (LOGITS, {"pos_weight": 1e308}, 1000, 1, [1]),
        (LOGITS, {"pos_weight": 1e308}, -10, 1, [1e-10]),
        ("binary_cross_entropy", {}, 1e-310, 0, [1e300]),
        (FOCAL, {"gamma": 2.0}, -400, 0, [1e300]),
        (FOCAL, {"gamma": 0.5}, -720, 0, [1e300]),
        (FOCAL, {"gamma": 2.0}, 1e4, 1, [1]),
        (FOCAL, {"gamma": 2.0}, -1e4, 1, [1]),
        ("soft_margin_loss", {}, 750, 1, [1e300]),
        ("soft_margin_loss", {}, -1e200, 1e200, [1e-300]),
        ("poisson_nll_loss", {}, -720, 0, [1e300]),
        ("poisson_nll_loss", {}, 720, 1, [1e-100]),
        ("poisson_nll_loss", {"log_input": False, "eps": 0.0}, 1e-310, 2, [1]),
        ("kl_div", {}, -1.5e308, 2, [1e-3]),
        ("kl_div", {"log_target": True}, -1, -800, [1e200]),
        ("kl_div", {"log_target": True}, -1, 800, [1e-200]),
    ],
}
POINT_CASES = [(dtype, *case) for dtype, cases in EXTREME_POINTS.items() for case in cases]


@pytest.mark.parametrize("samples", [1, 4, 700])
@pytest.mark.parametrize(("dtype", "name", "options", "x", "y", "factors"), POINT_CASES)
def test_pointwise(dtype, name, options, x, y, factors, samples, isa):
    options = {k: dtype(v) if k == "pos_weight" else v for k, v in options.items()}
    position = samples - 1
    positive = name == "binary_cross_entropy" or "log_input" in options
    xs = np.full(samples, 0.25 if positive else -0.75, dtype)
    ys = np.full(samples, -0.5 if options.get("log_target") else 0.5, dtype)
    ordinary = xs.copy(), ys.copy()
    xs[position], ys[position] = x, y
    factors = [dtype(f) for f in (*factors, 1, 1)[:3]]
    value, slope, terms, slopes = pointwise_truth(name, options, exact(xs[position]), exact(ys[position]))
    weight = exact(factors[0]) * exact(factors[1])
    for as_weight in (False, True):
        if as_weight and not name.startswith("binary"):
            continue
        weights = np.ones((3, samples), dtype)
        weights[:, position] = factors
        more = {"weight": weights[0]} if as_weight else {}
        sample_weight = weights[1] if as_weight else weights[0] * weights[1] if factors[1] == 1 else None
        if sample_weight is None:
            continue
        made = loss(name, **options, **more, reduction="none")
        for in_place in (False, True):
            given = xs.copy()
            got, grad = made.value_and_grad(
                given,
                ys,
                sample_weight=sample_weight,
                grad_output=weights[2],
                grad_out=given if in_place else None,
            )
            assert_close(got[position], weight * value, weight * terms, dtype)
            factor = weight * exact(factors[2])
            assert_close(grad[position], factor * slope, factor * slopes, dtype)
            ones = np.ones(samples, dtype)
            more_ones = {"weight": ones} if as_weight else {}
            plain = loss(name, **options, **more_ones, reduction="none").value_and_grad(
                *ordinary, sample_weight=ones, grad_output=ones
            )
            assert np.array_equal(got[:position], plain[0][:position])
            assert np.array_equal(grad[:position], plain[1][:position])
        if samples == 1:  # in float64, whatever the input's dtype
            made = loss(name, **options, **more, reduction="sum")
            total, grad = made.value_and_grad(
                xs, ys, sample_weight=sample_weight, grad_output=float(factors[2])
            )
            assert_close(total, weight * value, weight * terms, np.float64, dtype)
            assert_close(grad[0], factor * slope, factor * slopes, dtype)
            assert total == pytest.approx(made(xs, ys, sample_weight=sample_weight), rel=4 * unit(dtype))
            if dtype == np.float64 and not LONG:
                continue  # the reference cannot be right there
            function = getattr(reference, name)
            total = function(
                xs, ys, **options, **more, **unchecked(name), reduction="sum", sample_weight=sample_weight
            )[0]
            assert_close(total, weight * value, weight * terms, np.float64)


def test_gradient_of_the_mean_squared_error_overflows_after_its_factor(isa):
    x = np.float32([2.5e38, 0, 0, 0])
    value, grad = fastloss.MSELoss().value_and_grad(x, np.zeros(4, np.float32))
    assert grad.tolist() == [np.float32(1.25e38), 0, 0, 0]
    assert value == float(np.float64(x[0]) ** 2 / 4)
    x = np.array([1.2e308, 0, 0, 0])
    value, grad = fastloss.MSELoss().value_and_grad(x, -x)
    assert grad.tolist() == [1.2e308, 0, 0, 0]
    assert value == inf
    assert fastloss.mse_loss(np.float64([1.5e154, 0, 0, 0]), np.zeros(4)) == pytest.approx(
        1.5e154 * (1.5e154 / 4)
    )
    half = np.float16([60000, 0])
    value, grad = fastloss.MSELoss().value_and_grad(half, np.zeros(2, np.float16))
    assert value == 60000.0**2 / 2
    assert grad.tolist() == [60000, 0]


# ------------------------------------------------------------------------------------ with classes


def class_truth(x, c):
    """Value and gradient of sum c_j (L - d_j), and the size of the terms of each."""
    m = max(x)
    d = [v - m for v in x]
    e = [mp.exp(v) for v in d]
    top = x.index(m)
    others = mp.fsum(v for j, v in enumerate(e) if j != top)
    log_sum, total = mp.log1p(others), mp.fsum(c)
    p = [v / (1 + others) for v in e]
    not_p = [others / (1 + others) if j == top else (1 + others - e[j]) / (1 + others) for j in range(len(x))]
    spread = mp.fsum(a * abs(b) for a, b in zip(p, d, strict=True))
    value = mp.fsum(k * (log_sum - v) for k, v in zip(c, d, strict=True) if k)
    grad = [(total - k) * a - k * b for k, a, b in zip(c, p, not_p, strict=True)]
    sizes = [
        abs(total - k) * a * (1 + abs(v) + spread) + abs(k) * (b + spread)
        for k, a, b, v in zip(c, p, not_p, d, strict=True)
    ]
    return value, grad, value + total * spread, sizes


BIG = {np.float32: 2.5e38, np.float64: 1.2e308}
CLASS_CASES = [  # input over the first classes; the rest is far below
    ("index", lambda b: [b, -b], 1, {}, [0.25]),
    ("index", lambda b: [0, -90], 0, {}, [1e30]),
    ("index", lambda b: [0, -150], 0, {}, [1e38]),
    ("index", lambda b: [0, -150], 1, {}, [1e38]),
    ("index", lambda b: [0, -90], 0, {}, [65536.0]),
    ("index", lambda b: [0, -100, -101], 0, {}, [3.0]),
    ("index", lambda b: [1, 2], 0, {}, [1e-38]),
    ("index", lambda b: [1, 2], 0, {}, [1e-44]),
    ("index", lambda b: [0, -60], 0, {"weight": 1e30}, [1e-10]),
    ("smoothed", lambda b: [b, -b], 0, {"label_smoothing": 0.1}, [1]),
    ("smoothed", lambda b: [b, -b], 0, {"label_smoothing": 0.1, "weight": 1e-30}, [1]),
    ("smoothed", lambda b: [1, 2], 0, {"label_smoothing": 0.1, "weight": 1e-37}, [1e10]),
    ("smoothed", lambda b: [0, -90], 0, {"label_smoothing": 0.1}, [1e30]),
    ("soft", lambda b: [b, -b], [0.75, 0.25], {}, [1]),
    ("soft", lambda b: [b, -b], [0.75, 0.25], {"weight": 1e-20}, [1e-3]),
    ("soft", lambda b: [0, -90], [1, 0], {}, [1e30]),
    ("soft", lambda b: [0, -150], [1, 0], {}, [1e38]),
    ("soft", lambda b: [1, 2], [0.5, 0.5], {"weight": 1e-37}, [1e30]),
    ("counts", lambda b: [b, -b], [3, 1], {}, [1e-3]),
    ("counts", lambda b: [1, 2], [3, 1e30], {}, [1e-3]),
    ("counts", lambda b: [0, -90], [5, 0], {}, [1e30]),
    ("counts", lambda b: [1, 2], [0, 0], {}, [1e38, 1e38]),
]


@pytest.mark.parametrize("family", ["few", "strided", "rows", "two blocks"])
@pytest.mark.parametrize(("kind", "row", "target", "options", "factors"), CLASS_CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_classes(dtype, kind, row, target, options, factors, family, isa):
    classes = {"few": 3, "strided": 5, "rows": 130, "two blocks": 2100}[family]
    samples, position = 5, 3
    axis = 0 if family == "strided" else 1
    row = row(BIG[dtype])
    x = np.full((samples, classes), -1.0, dtype)
    x[:, 0] = 1
    ordinary = x.copy()
    x[position] = max(row) - 60 if max(row) < 1e3 else -max(row)
    if min(row) < -60:
        x[position] = min(row)
    x[position, : len(row)] = row
    options = dict(options)
    if kind in ("soft", "counts"):
        t = np.zeros((samples, classes), dtype)
        t[:, 0] = 1
        t[position, : len(target)] = target
    else:
        t = np.zeros(samples, np.int64)
        t[position] = target
    if "weight" in options:
        options["weight"] = np.full(classes, options["weight"], dtype)
    w = [exact(v) for v in options.get("weight", np.ones(classes))]
    smoothing = exact(options.get("label_smoothing", 0))
    if kind in ("soft", "counts"):
        c = [a * exact(b) for a, b in zip(w, t[position], strict=True)]
    else:
        c = [a * smoothing / classes for a in w]
        c[target] += (1 - smoothing) * w[target]
    value, grad, terms, sizes = class_truth([exact(v) for v in x[position]], c)
    name = "multinomial_nll_loss" if kind == "counts" else "cross_entropy"
    factors = [dtype(f) for f in (*factors, 1)[:2]]
    weights = np.ones((2, samples), dtype)
    weights[:, position] = factors
    made = loss(name, **options, reduction="none", axis=axis)
    ordinary_t = t.copy()
    ordinary_t[position] = t[0]

    def placed(a):
        return np.ascontiguousarray(a.T) if axis == 0 and a.ndim == 2 else a

    plain_value, plain_grad = made.value_and_grad(
        placed(ordinary),
        placed(ordinary_t),
        sample_weight=np.ones(samples, dtype),
        grad_output=np.ones(samples, dtype),
    )
    plain_grad = plain_grad.T if axis == 0 else plain_grad
    keep = np.arange(samples) != position
    for in_place in (False, True):
        given = placed(x).copy()
        got, got_grad = made.value_and_grad(
            given,
            placed(t),
            sample_weight=weights[0],
            grad_output=weights[1],
            grad_out=given if in_place else None,
        )
        got_grad = got_grad.T if axis == 0 else got_grad
        factor = exact(factors[0]) * exact(factors[1])
        assert_close(got[position], exact(factors[0]) * value, exact(factors[0]) * terms, dtype)
        for j in range(min(classes, 6)):
            assert_close(got_grad[position, j], factor * grad[j], factor * sizes[j], dtype)
        assert np.array_equal(got[keep], plain_value[keep])
        assert np.array_equal(got_grad[keep], plain_grad[keep])
    total = loss(name, **options, reduction="sum", axis=axis)
    one = placed(x[position : position + 1]), placed(t[position : position + 1])
    got = total(*one, sample_weight=weights[0, position : position + 1])
    assert_close(got, exact(factors[0]) * value, exact(factors[0]) * terms, np.float64, dtype)
    with checking():
        total.value_and_grad(*one, sample_weight=weights[0, position : position + 1])


HEAD_CASES = [  # loss, options, input over the first classes, label, factors
    ("focal_loss", {"gamma": 2.0}, lambda b: [0, -40], 0, [1e38, 1]),
    ("focal_loss", {"gamma": 0.5}, lambda b: [0, -60], 0, [1e30, 1]),
    ("focal_loss", {"gamma": 0.5}, lambda b: [0, -150], 0, [1e38, 1e38]),
    ("focal_loss", {"gamma": 5.0}, lambda b: [0, -90], 0, [1e38, 1e38]),
    ("focal_loss", {"gamma": 2.0}, lambda b: [b, -b], 1, [0.25, 1]),
    ("focal_loss", {"gamma": 2.0}, lambda b: [1, 2], 0, [1e-38, 1e-3]),
    ("generalized_cross_entropy", {"q": 0.7}, lambda b: [-90, 0], 0, [1e38, 1]),
    ("generalized_cross_entropy", {"q": 0.7}, lambda b: [-200, 0], 0, [1e38, 1e38]),
    ("generalized_cross_entropy", {"q": 0.7}, lambda b: [0, -90], 0, [1e30, 1]),
    ("generalized_cross_entropy", {"q": 1.0}, lambda b: [b, -b], 1, [1e30, 1]),
    ("poly_loss", {"epsilon": 1e30}, lambda b: [0, -90], 0, [1e10, 1]),
    ("poly_loss", {"epsilon": 1e30}, lambda b: [-100, 0], 0, [1e-20, 1]),
    ("poly_loss", {"epsilon": -1e300}, lambda b: [1, 2], 0, [1e-30, 1e-30]),
    ("cross_entropy", {"z_loss": 1e-30}, lambda b: [b, -b], 0, [1e-10, 1]),
    ("cross_entropy", {"z_loss": 1e30}, lambda b: [1e10, 1], 0, [1e-10, 1e-10]),
    ("cross_entropy", {"z_loss": 1e-4, "softcap": 30.0}, lambda b: [b, -b], 0, [1e30, 1e-10]),
    ("cross_entropy", {"softcap": 1e30}, lambda b: [b, -b], 1, [1e-3, 1]),
    ("cross_entropy", {"softcap": 1e-30}, lambda b: [1, 2], 0, [1e30, 1]),
]


@pytest.mark.parametrize("family", ["few", "strided", "rows", "two blocks"])
@pytest.mark.parametrize(("name", "options", "row", "target", "factors"), HEAD_CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_heads(dtype, name, options, row, target, factors, family, isa):
    classes = {"few": 3, "strided": 5, "rows": 130, "two blocks": 2100}[family]
    axis = 0 if family == "strided" else 1
    row = row(BIG[dtype])
    x = np.ones((5, classes), dtype)
    x[3] = min(row)
    x[3, : len(row)] = row
    t = np.array([0, 0, 0, target, 0])
    weights = np.ones((2, 5), dtype)
    weights[:, 3] = factors
    arguments = {"sample_weight": weights[0], "grad_output": weights[1]}
    given = np.ascontiguousarray(x.T) if axis == 0 else x
    made = loss(name, **options, reduction="none", axis=axis)
    value, grad = made.value_and_grad(given, t, **arguments)
    exact_row = oracle.CappedRow(x[3], options["softcap"]) if "softcap" in options else oracle.Row(x[3])
    of = {option: v for option, v in options.items() if option != "softcap"}
    truth, slopes = oracle.loss_of_label(exact_row, target, name, **of)
    allowed = bounds.loss(name, given, t, dtype=dtype, reduction="none", axis=axis, **options, **arguments)
    weight, factor = exact(weights[0, 3]), exact(weights[0, 3]) * exact(weights[1, 3])
    oracle.assert_within(value[3:4], oracle.array([weight * truth]), allowed.value[3], dtype)
    entries, allowed = (grad.T, allowed.grad.T) if axis == 0 else (grad, allowed.grad)
    slopes = oracle.array([factor * slope for slope in slopes])
    oracle.assert_within(entries[3], slopes, allowed[3], dtype)
    assert np.array_equal(value, made(given, t, sample_weight=weights[0]))
    ordinary = made.value_and_grad(np.ones_like(given), np.zeros(5, int), **arguments)
    assert np.array_equal(np.delete(value, 3), np.delete(ordinary[0], 3))
    with checking():
        made.value_and_grad(given, t, **arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 130])
@pytest.mark.parametrize("offset", [0.0, 9e4])
@pytest.mark.parametrize("kind", ["labels", "smoothed", "probabilities", "counts"])
def test_a_large_square_of_logsumexp(kind, offset, classes, dtype, isa):
    x = np.zeros((2, classes), dtype)
    x[:, :3] = [1, 2, 0.5]
    q = np.full((2, classes), 1 / classes)
    options = {"z_loss": 20.0 if offset else 1e7, "reduction": "sum"}
    options |= {"label_smoothing": 0.1} if kind == "smoothed" else {}
    name = "multinomial_nll_loss" if kind == "counts" else "cross_entropy"
    target = q if kind in ("probabilities", "counts") else [0, 1]
    made = (fastloss.MultinomialNLLLoss if kind == "counts" else fastloss.CrossEntropyLoss)(**options)
    wanted = getattr(reference, name)(x + dtype(offset), target, mask=[True, False], **options)
    with checking():
        value, grad = made.value_and_grad(x + dtype(offset), target, mask=[True, False])
    assert np.allclose(value, wanted[0], rtol=1e-6)
    assert np.allclose(grad, wanted[1], rtol=1e-5)
    assert not grad[1].any()


@pytest.mark.parametrize("classes", [1, 2, 600])
@pytest.mark.parametrize(("count", "weight"), [(1e-18, 1.0), (1e-15, 1e-3), (1e-14, 1e-6), (1e-12, 1e-6)])
def test_small_counts_times_small_weights_of_a_sure_row(count, weight, classes, isa):
    x, counts = np.full((1, classes), -200, np.float32), np.zeros((1, classes), np.float32)
    x[0, 0], counts[0, 0] = 3.05, count
    made = fastloss.MultinomialNLLLoss(reduction="sum")
    assert not made.value_and_grad(x, counts, sample_weight=np.float32([weight]))[1].any()


@pytest.mark.parametrize("classes", [3, 600])
def test_a_scale_of_classes_beside_weights_whose_product_is_out_of_range(classes, isa):
    scale = np.full(classes, 1e-10, np.float32)
    scale[-1] = 0
    made = fastloss.CrossEntropyLoss(np.full(classes, 1e25, np.float32), scale=scale, reduction="sum")
    given = np.zeros((1, classes), np.float32), [0]
    grad = made.value_and_grad(*given, sample_weight=np.float32([1e20]))[1][0]
    p = 1 / classes
    assert np.allclose(grad, 1e35 * np.array([p - 1, *[p] * (classes - 2), 0]), rtol=1e-6, atol=0)


def test_cross_entropy_beside_the_largest_numbers(isa):
    b = np.float32(2.5e38)
    value, grad = fastloss.CrossEntropyLoss().value_and_grad(np.array([[b, -b]]), np.float32([[0.75, 0.25]]))
    assert value == float(b) / 2
    assert grad.tolist() == [[0.25, -0.25]]
    assert fastloss.cross_entropy(np.array([[b, -b]]), [1]) == 2 * float(b)
    assert fastloss.softmax([1.7e308, -1.7e308]).tolist() == [1, 0]
    assert fastloss.logsumexp(np.array([b, -b])) == b
    assert fastloss.logsumexp([1.7e308, -1.7e308]) == 1.7e308
    assert fastloss.log_softmax([1.2e308, 0.0, 0.6e308]).tolist() == [0, -1.2e308, -0.6e308]
    assert fastloss.entropy_from_logits([[1.7e308, -1.7e308], [1.7e308, 1.7e308]]).tolist() == [
        0,
        math.log(2),
    ]


@pytest.mark.parametrize("place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize(
    ("dtype", "large", "weight", "samples"),
    [
        (np.float32, 3e38, None, [1.0, 2.0]),  # terms within the range, and their product with a weight
        (np.float32, 1e38, 100.0, None),  # terms beyond float32
        (np.float16, 6e4, 1e35, None),
        (np.float64, 1.7e308, None, None),  # the sum is beyond float64
        (np.float64, 1e308, 8.0, [0.25, 2.0]),  # and its terms
    ],
)
def test_a_mean_over_classes_whose_terms_are_beyond_the_range(dtype, large, weight, samples, place, isa):
    classes = 50
    x, y = np.full((2, classes), -100, dtype), np.zeros((2, classes), np.float32)
    x[:, :2] = [large, -large]
    y[0, 1] = 1
    wide = np.float64 if dtype == np.float64 else np.float32
    w = None if weight is None else np.full(classes, weight, wide)
    s = None if samples is None else np.array(samples, wide)
    loss = fastloss.MultiLabelSoftMarginLoss(w, reduction="none")
    usual = loss(np.ones((1, classes), dtype), y[:1])
    given, out = np.concatenate([x, np.ones((1, classes), dtype)]), np.empty(3, wide)
    target = np.concatenate([y, y[:1]])
    s = None if s is None else np.append(s, wide(1))
    with checking():
        grads = {"grad_out": given} if place else {}
        value, _ = loss.value_and_grad(
            given.copy() if not place else given, target, sample_weight=s, out=out, **grads
        )
    assert value is out
    assert value[2] == usual[0]
    for i, terms in enumerate([2, 1]):
        factor = exact(1 if w is None else w[0]) * exact(1 if s is None else s[i]) / classes
        assert_close(value[i], terms * factor * exact(x[i, 0]), terms * factor * exact(x[i, 0]), wide)
        assert loss(x[i], y[i], sample_weight=None if s is None else s[i]) == value[i]
    total = loss.total(x, y, sample_weight=None if s is None else s[:2])
    if wide == np.float32:
        summed = fastloss.MultiLabelSoftMarginLoss(w, reduction="sum")
        want = summed(x, y, sample_weight=None if s is None else s[:2])
        assert_close(total.sum, want, want, np.float64, np.float32)


# ----------------------------------------------------------------------------------------- sums


@pytest.mark.parametrize("copies", [1, 20, 20000])
def test_a_sum_that_overflows_on_the_way(copies, isa, threads):
    b = 1.2e308
    x = np.tile(np.array([b, b, -b, -b]), copies).reshape(-1, 1)
    t = np.zeros(len(x), np.int64)
    assert fastloss.nll_loss(x, t, reduction="sum") == 0
    assert fastloss.nll_loss(x, t) == 0
    small = np.concatenate([x, [[-0.25]], x])
    assert fastloss.nll_loss(small, np.zeros(len(small), np.int64), reduction="sum") == 0.25
    three = np.full((3 * copies, 1), -b)
    assert fastloss.nll_loss(three, np.zeros(len(three), np.int64)) == b
    assert fastloss.nll_loss(three, np.zeros(len(three), np.int64), reduction="sum") == inf
    x = np.full(3 * copies, -b)
    y = np.ones_like(x)
    assert fastloss.kl_div(x, y) == b
    assert fastloss.binary_cross_entropy_with_logits(x, y) == b
    large = np.stack([-x / 2, x / 2], 1)
    assert fastloss.cross_entropy(large, np.ones(len(x), np.int8)) == b
    assert fastloss.cross_entropy(large, np.tile([0.0, 1.0], (len(x), 1))) == b
    assert fastloss.multinomial_nll_loss(large, np.tile([0, 1], (len(x), 1))) == b
    assert fastloss.mse_loss(np.full(3 * copies, 1e154), np.zeros(3 * copies)) == pytest.approx(
        1e308, rel=1e-15
    )


@pytest.mark.parametrize("size", [1.2e308, 1e-310])
@pytest.mark.parametrize("copies", [1, 5000])
def test_weights_whose_sum_is_out_of_range(size, copies, isa, threads):
    n = 3 * copies
    weights = np.full(n, size)
    x, t = np.tile([1.0, 2.0, 3.0], copies), np.zeros(n)
    value, grad = fastloss.MSELoss().value_and_grad(x, t, sample_weight=weights)
    assert value == pytest.approx(14 / 3, rel=1e-13)
    assert grad == pytest.approx(2 * x / n, rel=1e-13)
    logits = np.stack([x, t], 1)
    for options in ({"sample_weight": weights}, {"weight": [size, size]}):
        made = fastloss.CrossEntropyLoss(options.pop("weight", None))
        value, grad = made.value_and_grad(logits, np.zeros(n, int), **options)
        plain_value, plain_grad = fastloss.CrossEntropyLoss().value_and_grad(logits, np.zeros(n, int))
        assert value == pytest.approx(plain_value, rel=1e-13)
        assert grad == pytest.approx(plain_grad, rel=1e-13)


# ------------------------------------------------------------------------- subnormal numbers flushed


@contextlib.contextmanager
def flushing():
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("the processor has no such mode")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("function", sorted(CLASSES))
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_processor_flushes_subnormal_numbers(function, dtype, isa, threads):
    """The same bits as without: a threshold may be subnormal, and other threads are in another mode."""
    rng = np.random.default_rng(1)
    n = 70_000
    if function in WITH_CLASSES:
        x = rng.choice([0, -90, -100, -5, 3], (n // 10, 10)).astype(dtype)
        t = rng.integers(0, 10, n // 10) if function != "multinomial_nll_loss" else np.ones(x.shape, dtype)
    else:
        x = rng.choice([0, 1, 0.5, 1e-42, 1e-30, 1e-320], n).astype(dtype)
        t = rng.choice([0, 1, 0.5, 1e-42], n).astype(dtype)
    if function == "multilabel_soft_margin_loss":
        x, t = x.reshape(-1, 2), t.reshape(-1, 2)
    weights = rng.choice([1e-42, 1.0, 1e30], t.shape if t.ndim == 1 else t.shape[0]).astype(dtype)
    made = loss(function, reduction="none")
    given = {"sample_weight": weights, **({"var": t} if function == "gaussian_nll_loss" else {})}
    want = made.value_and_grad(x, t, **given)
    with flushing():
        got = made.value_and_grad(x, t, **given)
    for a, b in zip(got, want, strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_clamp_of_binary_cross_entropy_where_subnormal_numbers_are_flushed(isa):
    x, y = np.zeros(3, np.float32), np.ones(3, np.float32)
    with flushing():
        assert fastloss.binary_cross_entropy(x, y) == 100
        assert reference.binary_cross_entropy(x, y)[0] == 100


def test_checking_where_x_minus_its_maximum_overflows(isa):
    x = np.float32([[3e38, -3e38, 0], [1, 2, 3]])
    with checking():
        for smoothing in (0.0, 0.1, 1.0):
            fastloss.CrossEntropyLoss(label_smoothing=smoothing).value_and_grad(x, [0, 1])
            fastloss.cross_entropy(x, [1, 1], label_smoothing=smoothing)


@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_of_kl_div_up_to_the_largest_number(dtype, isa):
    """y (log y - x) is finite where log y - x is small, and 1 / y is not a normal number."""
    largest = float(np.finfo(dtype).max)
    y = np.concatenate([np.linspace(0.05, 1, 60) * largest, largest * 2.0 ** -np.arange(1, 40)]).astype(dtype)
    for off in (-0.5, 0.25, 0.75):
        x = (np.log(y) + dtype(off)).astype(dtype)
        values = fastloss.KLDivLoss(reduction="none", unchecked=True)(x, y)
        for i in range(len(y)):
            log_y = mp.log(exact(y[i]))
            terms = exact(y[i]) * (abs(log_y) + abs(exact(x[i])))
            assert_close(values[i], exact(y[i]) * (log_y - exact(x[i])), terms, dtype)


@pytest.mark.parametrize("y", [-800.0, -1e4, -1e30])
@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_div_of_a_log_probability_that_underflows(y, dtype, isa):
    """exp(y) is not 0: a masked class of the input makes the loss infinite, and finite input makes it 0."""
    made = fastloss.KLDivLoss(log_target=True, reduction="none", unchecked=True)
    value, grad = made.value_and_grad(np.array([-inf, inf, 0.0], dtype), np.full(3, y, dtype))
    assert value[0] == inf
    assert value[1] == -inf
    assert abs(value[2]) < np.finfo(dtype).tiny
    assert (np.abs(grad) < np.finfo(dtype).tiny).all()
    assert made([-inf], [-inf]) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_div_overflows_to_the_right_infinity(dtype, isa):
    """exp(y) (y - x) where exp(y) is finite and the product is not."""
    y, large = (180, 1e287) if dtype == np.float64 else (82, 1e36)
    x = np.array([-large, large], dtype)
    value = loss("kl_div", reduction="none", log_target=True)(x, np.full(2, y, dtype))
    assert value.tolist() == [inf, -inf]


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_div_beside_the_largest_numbers(dtype, isa):
    """exp(y) (y - x) is finite where a part of it times y - x is not; finfo.min is a usual mask."""
    info = np.finfo(dtype)
    x = np.array([info.min, info.max, info.min / 2, info.max / 3], dtype)
    y = np.full(4, -0.5, dtype)
    value = loss("kl_div", reduction="none", log_target=True)(x, y)
    wanted = math.exp(-0.5) * (-0.5 - x.astype(np.longdouble))
    assert value == pytest.approx(wanted.astype(np.float64), rel=4 * float(info.eps))


@pytest.mark.parametrize("layout", ["rows", "two", "planes"])
@pytest.mark.parametrize(
    ("dtype", "shift", "margin", "gamma"), [(np.float64, 100, 65, 5.0), (np.float32, -6, 21, 2.5)]
)
def test_confident_samples_beside_usual_ones(layout, dtype, shift, margin, gamma, rng, isa):
    """(1 - p)^gamma / Σ exp leaves the range where other samples suggest the reference."""
    x = rng.normal(0, 0.5, (64, 2 if layout == "two" else 19)).astype(dtype)
    target = rng.integers(0, x.shape[1], 64)
    x[20] += shift
    x[20, target[20]] += margin
    if layout == "planes":
        x, target = np.ascontiguousarray(x.T)[None], target[None]
    for reduction in ("none", "sum", "mean"):
        with checking():
            loss("focal_loss", gamma=gamma, reduction=reduction).value_and_grad(x, target)


@pytest.mark.parametrize("classes", [2, 10, 19, 200, 600])
@pytest.mark.parametrize("layout", ["rows", "planes"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [1e-6, 0.1, 0.33, 0.4])
def test_smoothed_labels_of_confident_and_of_wrong_samples(classes, layout, dtype, smoothing, rng, isa):
    """The label's logit far above and far below all others, and all far from 0: each sample as if alone."""
    x = rng.normal(0, 3, (70, classes)).astype(dtype)
    target = rng.integers(0, classes, 70)
    x[np.arange(70), target] += rng.choice([-200, -30, 0, 5, 30, 200], 70)
    x[::7] += 3000
    target[::9] = -100
    x[5, target[5] - 1] = -np.inf
    smoothed = loss("cross_entropy", label_smoothing=smoothing, reduction="none")
    alone = [smoothed.value_and_grad(x[i : i + 1], target[i : i + 1]) for i in range(70)]
    if layout == "planes":
        x = np.ascontiguousarray(x.T)[None]
        target = target[None]
    with checking():
        value, grad = smoothed.value_and_grad(x, target)
    if layout == "rows":
        np.testing.assert_array_equal(value, np.concatenate([value for value, _ in alone]))
        np.testing.assert_array_equal(grad, np.concatenate([grad for _, grad in alone]))


@pytest.mark.parametrize("classes", [1, 2, 20, 300])
@pytest.mark.parametrize("dtype", DTYPES)
def test_z_loss_of_rows_sure_of_the_only_class_that_is_meant(classes, dtype, rng, isa):
    """What z_loss adds to the sum of coefficients is all that is left when its only one is subtracted."""
    x = np.full((40, classes), -60, dtype)
    x[:, 0] = 1e-3 * rng.standard_normal(40)
    probabilities = np.zeros_like(x)
    probabilities[:, 0] = 1
    with checking():
        loss("cross_entropy", z_loss=0.01).value_and_grad(x, probabilities)
        loss("cross_entropy", z_loss=0.01).value_grad_hess(x, probabilities)


def test_weights_whose_products_vanish(isa):
    """Their sum is not 0, as it is in float64."""
    x, target, weight = [[0.0, 0, 0, 0], [0, 1, 2, 3]], [1, 1], [1e200, 1e-200, 1, 1]
    scaled = loss("cross_entropy")(x, target, sample_weight=[1, 1])
    tiny = loss("cross_entropy", weight=weight)(x, target, sample_weight=[1e-200, 1e-200])
    assert tiny == pytest.approx(scaled, rel=4 * sys.float_info.epsilon)


GRID = {  # targets; the input takes all magnitudes
    "binary_cross_entropy": [0, 0.3, 1],
    "binary_cross_entropy_with_logits": [0, 1e-30, 0.3, 1],
    "gaussian_nll_loss": [0, 1e-20, 1],
    "kl_div": [0, 1e-30, 0.3, 1],
    "mse_loss": [0, 1e-20, 1],
    "multilabel_soft_margin_loss": [0, 1e-30, 0.3, 1],
    "poisson_nll_loss": [0, 1e-20, 1, 3],
    "sigmoid_focal_loss": [0, 0.5, 1],
    "soft_margin_loss": [-1, 0.3, 1],
}


def test_the_grid_has_every_loss_without_a_class_axis():
    assert set(GRID) == set(CLASSES) - {variant.partition(":")[0] for variant in WITH_CLASSES}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GRID)
def test_all_magnitudes_times_weights_that_the_loop_takes(name, dtype, isa):
    """What vanishes or overflows before its weight: those so moderate do not send it to long double."""
    high, step = (38, 1) if dtype == np.float32 else (307, 8)
    sizes = np.array([10.0**e for e in range(-44 if dtype == np.float32 else -320, high, step)], dtype)
    sizes = np.concatenate([sizes, -sizes, [dtype(0)]])
    if name == "binary_cross_entropy":
        sizes = sizes[(sizes >= 0) & (sizes <= 1)]
    x, y = (a.ravel() for a in np.meshgrid(sizes, np.array(GRID[name], dtype)))
    x, y = (a[:, None] if name == "multilabel_soft_margin_loss" else a for a in (x, y))
    var = (np.full_like(x, 1e-3),) if name == "gaussian_nll_loss" else ()
    exponent = 39 if dtype == np.float32 else 199
    for weight in (2.0**exponent, 2.0**-exponent):
        weights = np.full(x.shape[0], weight, dtype)
        with checking(), np.errstate(all="ignore"):
            loss(name, reduction="none").value_and_grad(x, y, *var, sample_weight=weights)
