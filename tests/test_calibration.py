"""Temperature and vector scaling: the exact minimum, its limits, layouts, bits and errors."""

import math

import mpmath as mp
import numpy as np
import pytest

import fastloss
from fastloss import calibration
from tests.support.cases import fixture_of

inf, nan = math.inf, math.nan
SHAPES = [(60, 2), (50, 3), (300, 10), (40, 200)]


dtype = fixture_of([np.float32, np.float64])


def drawn(rng, shape, dtype=np.float64, truth=0.6, classes=1):
    """Logits, labels that have the classes' probabilities at 1 / truth, and weights."""
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    return x, (truth * x + rng.gumbel(size=shape)).argmax(classes), rng.random(x.take(0, classes).shape)


def newton_temperature(x, target, weight=None):
    """By the derivatives of the definition, in long double; `target` are labels or probabilities."""
    x = x.astype(np.longdouble)
    q = np.eye(x.shape[1])[target] if target.ndim == 1 else target.astype(np.longdouble)
    q = q * (1 if weight is None else weight[:, None])
    low, beta, high = np.longdouble(0), np.longdouble(1), np.longdouble(inf)
    for _ in range(300):
        p = np.exp(beta * (x - x.max(1, keepdims=True)))
        p /= p.sum(1, keepdims=True)
        expected = (p * np.where(p > 0, x, 0)).sum(1)
        mass = q.sum(1)
        slope = (mass * expected).sum() - (q * np.where(q > 0, x, 0)).sum()
        spread = (p * (np.where(p > 0, x, 0) - expected[:, None]) ** 2).sum(1)
        low, high = (beta, high) if slope < 0 else (low, beta)
        new = beta - slope / (mass * spread).sum()
        if abs(new - beta) < 1e-17 * beta:
            break
        beta = new if low < new < high else 4 * beta if high == inf else (low + high) / 2
    return float(1 / beta)


def newton_vector(x, labels, weight):
    """Full Newton steps with the whole Hessian."""
    classes = x.shape[1]
    x, own = x.astype(np.float64), np.eye(classes)[labels]
    scale, bias = np.ones(classes), np.zeros(classes)
    for _ in range(60):
        z = scale * x + bias
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        both = np.concatenate([p * x, p], 1)
        error = weight[:, None] * (p - own)
        gradient = np.concatenate([(error * x).sum(0), error.sum(0)])
        hessian = -both.T @ (weight[:, None] * both)
        for a, b, factor in ((0, 0, x * x), (0, 1, x), (1, 0, x), (1, 1, 1.0)):
            i = np.arange(classes)
            hessian[i + a * classes, i + b * classes] += (weight[:, None] * p * factor).sum(0)
        step = np.linalg.lstsq(hessian, gradient, rcond=1e-13)[0]
        scale, bias = scale - step[:classes], bias - step[classes:]
    return scale, bias - bias.mean()


# ---------------------------------------------------------------------------------------- temperature


def test_hand_values(isa):
    # One sample of two classes in k of n: a logit of 4 / T has the probability k / n.
    logits, labels = [[4.0, 0.0]] * 4, [0, 0, 0, 1]
    assert fastloss.temperature(logits, labels) == pytest.approx(4 / math.log(3), rel=1e-14)
    assert fastloss.temperature(logits, [1, 0, 1, 1], sample_weight=[1, 1, 0, 0]) == inf


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_temperature_is_the_minimum(shape, weighted, dtype, isa, threads, rng):
    x, labels, weight = drawn(rng, shape, dtype)
    weight = weight if weighted else None
    found = fastloss.temperature(x, labels, sample_weight=weight)
    assert found == pytest.approx(newton_temperature(x, labels, weight), rel=1e-12)


@pytest.mark.parametrize("shape", [(150_000, 3), (20_000, 40), (700, 1000)])
@pytest.mark.parametrize("weighted", [False, True])
def test_many_samples(shape, weighted, dtype, isa, rng):
    """More than are looked at as a whole from the start."""
    x, labels, weight = drawn(rng, shape, dtype)
    weight = weight**8 if weighted else None  # a few count for most: those looked at first are another curve
    found = fastloss.temperature(x, labels, sample_weight=weight)
    assert found == pytest.approx(newton_temperature(x, labels, weight), rel=1e-12)


def test_samples_looked_at_first_need_not_be_like_the_others(isa, rng):
    """Each 31st sample is sure and right, or wrong, or does not count."""
    x, labels, weight = drawn(rng, (120_000, 3))
    few, right, wrong, none = np.s_[:: calibration.EACH], labels.copy(), labels.copy(), np.ones(len(x))
    right[few], wrong[few], none[few] = x[few].argmax(1), x[few].argmin(1), 0
    for target, given in ((right, None), (wrong, None), (labels, none), (right, weight)):
        found = fastloss.temperature(x, target, sample_weight=given)
        assert found == pytest.approx(newton_temperature(x, target, given), rel=1e-12)


def test_temperature_against_mpmath(dtype, isa, rng):
    x, labels, weight = drawn(rng, (12, 4), dtype)
    labels[:2] = x[:2].argmin(1)

    def slope(beta):
        total = mp.mpf(0)
        for row, t, w in zip(x.tolist(), labels, weight.tolist(), strict=True):
            e = [mp.exp(beta * mp.mpf(v)) for v in row]
            total += w * (mp.fsum(a * mp.mpf(v) for a, v in zip(e, row, strict=True)) / mp.fsum(e) - row[t])
        return total

    with mp.workdps(40):
        exact = 1 / mp.findroot(slope, (mp.mpf("0.01"), mp.mpf(10)), solver="anderson")
        found = fastloss.temperature(x, labels, sample_weight=weight)
        assert abs(found / exact - 1) < 1e-13


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e5, 1e30])
@pytest.mark.parametrize("shape", [(50, 3), (90_000, 3)])
def test_temperature_has_the_scale_of_the_logits(scale, shape, dtype, isa, rng):
    x, labels, _ = drawn(rng, shape, dtype)
    scale = 2.0 ** round(math.log2(scale))
    found = fastloss.temperature((scale * x).astype(dtype), labels)
    assert found == pytest.approx(scale * fastloss.temperature(x, labels), rel=1e-12)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="here long double is float64")
def test_nearly_separable(isa, rng):
    """One label among many that is not the largest logit, by a hair: the temperature is small, and found."""
    x, _, _ = drawn(rng, (200, 4))
    labels = x.argmax(1)
    order = np.sort(x, 1)
    closest = (order[:, -1] - order[:, -2]).argmin()
    labels[closest] = np.argsort(x[closest])[-2]
    weight = np.where(np.arange(200) == closest, 1e-6, 1.0)
    found = fastloss.temperature(x, labels, sample_weight=weight)
    assert 0 < found < 0.1
    assert found == pytest.approx(newton_temperature(x, labels, weight), rel=1e-10)


def test_hardly_anything_is_wrong(isa):
    """Labels of the largest logit, but for weights of 1e-13: far from where the search begins."""
    x = np.array([[1e5, 0, -2e5], [5e5, -4e4, 1.0], [9e3, 2e2, -1e6]])
    labels, weight = np.array([0, 0, 1]), np.array([1.0, 1.0, 1e-13])
    d = (x - x.max(1, keepdims=True)).astype(np.longdouble)
    found = fastloss.temperature(x, labels, sample_weight=weight)

    def slope(beta):
        p = np.exp(beta * d)
        return float((weight * ((p * d).sum(1) / p.sum(1) - d[range(3), labels])).sum())

    assert slope(1 / (found * (1 + 1e-10))) < 0 < slope(1 / (found * (1 - 1e-10)))


def test_limits(dtype, isa):
    logits = np.array([[2, 0], [0, 1]], dtype)
    assert fastloss.temperature(logits, [0, 1]) == 0.0
    assert fastloss.temperature(logits, [1, 0]) == inf
    assert fastloss.temperature(np.ones((4, 3), dtype), [0, 1, 2, 2]) == 1.0
    assert fastloss.temperature(np.ones((4, 1), dtype), [0, 0, 0, 0]) == 1.0
    assert fastloss.temperature(np.array([2, 1], dtype), 0) == 0.0
    assert fastloss.temperature(1e5 * logits, [0, 1]) == 0.0  # exp(-1e5) is 0
    assert fastloss.temperature(np.array([[5, 5, -inf], [-inf, 1, 1]], dtype), [0, 2]) == 1.0
    level = np.array([[7, -7], [7, -7]], dtype)
    assert fastloss.temperature(level, [0, 1]) == inf  # as likely as not
    many = np.tile(logits, (150_000, 1))
    assert fastloss.temperature(many, np.tile([0, 1], 150_000)) == 0.0
    assert fastloss.temperature(many, np.tile([1, 0], 150_000)) == inf


def test_what_does_not_count(dtype, isa, rng):
    x, labels, weight = drawn(rng, (300, 5), dtype)
    expected = fastloss.temperature(x, labels, sample_weight=weight)
    more = np.concatenate([x, np.full((3, 5), nan), [[inf] * 5, [-inf] * 5, [-inf, 0, 0, 0, 0]]]).astype(
        dtype
    )
    targets = np.concatenate([labels, [-100] * 5, [0]])
    weights = np.concatenate([weight, [1, 1, 1, 1, 1, 0]])
    assert fastloss.temperature(more, targets, sample_weight=weights) == pytest.approx(expected, rel=1e-14)
    scale, bias = fastloss.vector_scaling(x, labels, sample_weight=weight)
    found = fastloss.vector_scaling(more, targets, sample_weight=weights)
    assert found[0] == pytest.approx(scale, rel=1e-10)
    assert found[1] == pytest.approx(bias, rel=1e-10)


def test_masked_classes(dtype, isa, rng):
    """-inf in a class is as good as that class away."""
    x, labels, weight = drawn(rng, (300, 4), dtype)
    wide = np.insert(x, 2, -inf, 1)
    targets = labels + (labels >= 2)
    found = fastloss.temperature(wide, targets, sample_weight=weight)
    assert found == pytest.approx(fastloss.temperature(x, labels, sample_weight=weight), rel=1e-13)
    wide[::2, 2] = 5
    assert found != fastloss.temperature(wide, targets, sample_weight=weight)
    scale, bias = fastloss.vector_scaling(wide, targets, sample_weight=weight)
    assert np.isfinite(scale).all()
    assert np.isfinite(bias).all()


def test_probabilities(dtype, isa, rng):
    x, labels, weight = drawn(rng, (300, 6), dtype)
    soft = rng.dirichlet(np.ones(6), 300) * rng.random((300, 1)) + 0.5 * np.eye(6)[labels]
    soft[:, 1] = 0
    x[:5, 1] = -inf  # where no target is
    found = fastloss.temperature(x, soft.astype(dtype), sample_weight=weight)
    assert found == pytest.approx(newton_temperature(x, soft.astype(dtype), weight), rel=1e-12)
    hard = np.eye(6)[labels]
    x[:5, 1] = 0
    assert fastloss.temperature(x, hard) == pytest.approx(fastloss.temperature(x, labels), rel=1e-13)
    expected = fastloss.vector_scaling(x, labels)[0]
    assert fastloss.vector_scaling(x, hard)[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(300, 5), (9000, 40)])
def test_layouts_and_dtypes(shape, isa, rng):
    """Arrays of any order, and labels of any type, are those numbers; nothing is written."""
    x, labels, weight = drawn(rng, shape)
    x = np.float16(x)
    expected = fastloss.temperature(x.astype(np.float64), labels, sample_weight=weight)
    scale, bias = fastloss.vector_scaling(x.astype(np.float64), labels, sample_weight=weight)
    apart = np.zeros((shape[0], 2 * shape[1]), np.float32)
    apart[:, : shape[1]] = x
    for given in (x, x.astype(np.float32), np.asfortranarray(x, np.float64), apart[:, : shape[1]]):
        given.flags.writeable = False
        kept = given.copy()
        for target in (labels.astype(np.float64), labels.astype(np.uint8)):
            found = fastloss.temperature(given, target, sample_weight=weight)
            assert found == pytest.approx(expected, rel=1e-12)
        found = fastloss.vector_scaling(given, labels, sample_weight=weight)
        assert found[0] == pytest.approx(scale, rel=1e-9, abs=1e-10)
        assert found[1] == pytest.approx(bias, rel=1e-9, abs=1e-10)
        assert (given == kept).all()


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_axis(axis, dtype, isa, rng):
    x = (3 * rng.standard_normal((7, 8, 9))).astype(dtype)
    labels = (0.6 * x + rng.gumbel(size=x.shape)).argmax(axis)
    rows = np.moveaxis(x, axis, -1).reshape(labels.size, -1)
    weight = rng.random(labels.shape)
    found = fastloss.temperature(x, labels, axis=axis, sample_weight=weight)
    plain = fastloss.temperature(rows, labels.ravel(), sample_weight=weight.ravel())
    assert found == pytest.approx(plain, rel=1e-13)
    found = fastloss.vector_scaling(x, labels, axis=axis, sample_weight=weight)
    plain = fastloss.vector_scaling(rows, labels.ravel(), sample_weight=weight.ravel())
    assert found[0] == pytest.approx(plain[0], rel=1e-9, abs=1e-10)
    assert found[1] == pytest.approx(plain[1], rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("function", ["temperature", "vector_scaling"])
def test_same_bits_on_any_number_of_threads(function, dtype, isa, rng):
    x, labels, weight = drawn(rng, (40_000, 8), dtype)
    results = []
    for n in (1, 2, 3):
        with fastloss.threads(n):
            found = getattr(fastloss, function)(x, labels, sample_weight=weight)
            results.append(np.array(found).tobytes())
    assert len(set(results)) == 1


# ------------------------------------------------------------------------------------- vector scaling


@pytest.mark.parametrize("shape", [(500, 2), (400, 3), (1000, 10), (3000, 80)])
def test_vector_scaling_is_the_minimum(shape, dtype, isa, rng):
    x, labels, weight = drawn(rng, shape, dtype, truth=np.linspace(0.4, 1.1, shape[1]))
    scale, bias = fastloss.vector_scaling(x, labels, sample_weight=weight)
    expected = newton_vector(x, labels, weight)
    assert scale == pytest.approx(expected[0], rel=1e-10, abs=1e-10)
    assert bias == pytest.approx(expected[1], rel=1e-10, abs=1e-10)
    assert scale.dtype == bias.dtype == np.float64
    assert abs(bias.sum()) < 1e-12


def test_vector_scaling_undoes_what_was_done(isa, rng):
    """Scaled and shifted logits give the same probabilities."""
    x, labels, _ = drawn(rng, (2000, 4))
    scale, bias = fastloss.vector_scaling(x, labels)
    other, shift = np.array([0.1, 1, -20, 3]), np.array([100, -3, 0, 5.0])
    found = fastloss.vector_scaling(x * other + shift, labels)
    assert found[0] * other == pytest.approx(scale, rel=1e-8)
    back = found[0] * shift + found[1]
    assert back - back.mean() == pytest.approx(bias, rel=1e-8, abs=1e-8)


def test_vector_scaling_without_a_minimum(dtype, isa, rng):
    """Separable classes, and one that never is: finite, and as good as at infinity."""
    x, labels, _ = drawn(rng, (200, 3), dtype)
    scale, bias = fastloss.vector_scaling(x, x.argmax(1))
    assert np.isfinite(scale).all()
    assert np.isfinite(bias).all()
    assert fastloss.cross_entropy(x * scale + bias, x.argmax(1)) < 1e-6
    labels[labels == 1] = 2
    scale, bias = fastloss.vector_scaling(x, labels)
    without = fastloss.vector_scaling(x[:, ::2], labels // 2)
    p = fastloss.softmax(x * scale + bias)
    assert p[:, 1].max() < 1e-6
    assert p[:, ::2] == pytest.approx(fastloss.softmax(x[:, ::2] * without[0] + without[1]), abs=1e-6)


@pytest.mark.parametrize("row", [[2.0, 0.0, 1.0], [-0.7, 1.1, 0.25], [5e3, 5e3, 1.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("labels", [[0], [2], [1, 1], [0, 2, 1, 1], [0, 1, 2, 2, 2] * 20])
def test_vector_scaling_of_the_same_logits_in_all_samples(row, labels, dtype, isa):
    """Scale and bias of a class are one number then; the least is the entropy of the labels' frequencies."""
    x = np.tile(np.array(row, dtype), (len(labels), 1))
    scale, bias = fastloss.vector_scaling(x, labels)
    least = fastloss.entropy(np.bincount(labels) / len(labels))
    assert least - 1e-15 <= fastloss.cross_entropy(x * scale + bias, labels) < least + 1e-7


def test_one_class(isa):
    scale, bias = fastloss.vector_scaling(np.ones((5, 1)), [0] * 5)
    assert (scale.tolist(), bias.tolist()) == ([1.0], [0.0])


# ---------------------------------------------------------------------------------------------- errors

GOOD = {"logits": [[2.0, 0.0, 1.0], [0.0, 1.0, 1.0]], "target": [1, 0]}
BAD = [
    ({"logits": [[0.0, nan, 1.0], [0.0, 1.0, 1.0]]}, ValueError, r"logits: sample \[0\] has nan"),
    ({"logits": [[0.0, 1.0, 1.0], [0.0, inf, 1.0]]}, ValueError, r"logits: sample \[1\] has inf"),
    ({"logits": [[0.0, 1.0, 1.0], [-inf] * 3]}, ValueError, r"logits: sample \[1\] has -inf in all classes"),
    ({"logits": [[0.0, -inf, 1.0], [0.0, 1.0, 1.0]]}, ValueError, r"\[0\] has -inf where its target is"),
    ({"logits": 1.0, "target": 0}, ValueError, "logits: got a 0-dimensional array"),
    ({"logits": np.ones((2, 0))}, ValueError, "logits: got shape .2, 0."),
    ({"logits": np.ones((2, 3), complex)}, TypeError, "logits: got dtype complex"),
    ({"logits": None}, TypeError, "logits: got None"),
    ({"target": [1, 3]}, IndexError, r"target\[1\] = 3 is out of range for 3 classes"),
    ({"target": [1, -1]}, IndexError, r"target\[1\] = -1 is out of range for 3 classes$"),  # none is ignored
    ({"target": [1.0, nan]}, ValueError, r"target\[1\] = nan [^;]*$"),  # there is no mask
    ({"target": [1.0, 0.5]}, ValueError, "probabilities have the shape of logits$"),
    ({"target": [1.0, 0.5]}, ValueError, r"target\[1\] = 0.5 is no class index"),
    ({"target": [1]}, ValueError, r"target: got shape \(1,\), wanted \(2,\)"),
    ({"target": [-100, -100]}, ValueError, "target: no sample counts"),
    ({"target": -np.ones((2, 3))}, ValueError, "target: got a number below 0"),
    ({"sample_weight": [1.0]}, None, None),
    ({"sample_weight": [1.0, 2.0, 3.0]}, ValueError, r"sample_weight: got shape \(3,\)"),
    ({"sample_weight": [1.0, -1.0]}, ValueError, r"sample_weight\[1\] = -1"),
    ({"sample_weight": [nan, 1.0]}, ValueError, r"sample_weight\[0\] = nan"),
    ({"sample_weight": [0.0, 0.0]}, ValueError, "target: no sample counts"),
    ({"logits": np.ones((0, 3)), "target": []}, ValueError, "target: no sample counts"),
    ({"axis": 2}, ValueError, "axis: got 2"),
    ({"logits": np.ma.ones((2, 3))}, TypeError, r"^logits: got a masked array; .*filled\(-numpy\.inf\)$"),
    ({"target": np.ma.array([1, 0])}, TypeError, r"^target: got a masked array; .*filled\(-100\)$"),
    ({"sample_weight": np.ma.ones(2)}, TypeError, r"^sample_weight: got a masked .*filled\(0\)$"),
    ({"axis": 1.5}, TypeError, "axis: got float"),
]


@pytest.mark.parametrize("function", [fastloss.temperature, fastloss.vector_scaling])
@pytest.mark.parametrize(("changed", "error", "message"), BAD)
def test_errors(function, changed, error, message):
    if error is None:
        function(**{**GOOD, **changed})
        return
    with pytest.raises(error, match=message):
        function(**{**GOOD, **changed})


def test_nan_in_a_sample_of_weight_0():
    """As everywhere, a weight of 0 drops what is infinite and keeps NaN."""
    with pytest.raises(ValueError, match=r"sample \[1\] has nan"):
        fastloss.temperature([[1.0, 0.0], [nan, 0.0]], [0, 0], sample_weight=[1.0, 0.0])


@pytest.mark.parametrize("power", [1018, 1000, 300, -300, -1000, -1020])
@pytest.mark.parametrize("probabilities", [False, True])
def test_extreme_logits(power, probabilities):
    x, labels, _ = drawn(np.random.default_rng(8), (300, 5))
    target = fastloss.softmax(0.5 * x) if probabilities else labels
    scale, bias = fastloss.vector_scaling(x, target)
    far = np.ldexp(x, power)
    found = fastloss.temperature(far, target)
    assert np.ldexp(found, -power) == pytest.approx(fastloss.temperature(x, target), rel=1e-10)
    far_scale, far_bias = fastloss.vector_scaling(far, target)
    np.testing.assert_allclose(np.ldexp(far_scale, power), scale, rtol=1e-8)
    np.testing.assert_allclose(far_bias, bias, atol=1e-8)


def test_differences_that_overflow():
    x, labels = np.tile([1.5, -1.5], (40, 1)), [1] + 39 * [0]
    expected = fastloss.temperature(x, labels)
    found = fastloss.temperature(np.ldexp(x, 1023), labels)
    assert np.ldexp(found, -1023) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("size", [1e308, 1e306, 1e-300, 2.0**-1060])
def test_extreme_weights(size):
    x, labels, _ = drawn(np.random.default_rng(9), (300, 5))
    weight = np.random.default_rng(10).choice([0.25, 0.5, 1.0], 300)
    expected = fastloss.temperature(x, labels, sample_weight=weight)
    assert fastloss.temperature(x, labels, sample_weight=size * weight) == pytest.approx(expected, rel=1e-10)
    scale, bias = fastloss.vector_scaling(x, labels, sample_weight=weight)
    found = fastloss.vector_scaling(x, labels, sample_weight=size * weight)
    np.testing.assert_allclose(found, (scale, bias), rtol=1e-8)
