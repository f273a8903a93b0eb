"""Distillation: two arrays of logits, near each other and far, and labels."""

import copy
import itertools
import math
import pickle

import mpmath as mp
import numpy as np
import pytest

import fastloss
from fastloss import KLDivWithLogitsLoss, _kernels, bounds, reference
from tests.support import oracle
from tests.support.cases import LAYOUTS, fixture_of, same_bits
from tests.support.oracle import assert_within

inf, nan = math.inf, math.nan
NAME = "kl_div_with_logits"
SHAPES = [((70, 3), 1), ((9, 40), 1), ((5, 200), 1), ((2, 4200), 1), ((3, 7, 33), 1), ((2, 150, 3), 1)]


dtype = fixture_of([np.float32, np.float64])


def softmax(x):
    """Probabilities and their logarithms, in 50 digits."""
    top = max(x)
    e = [mp.exp(v - top) for v in x]
    log_sum = mp.log(mp.fsum(e))
    return [v / mp.fsum(e) for v in e], [v - top - log_sum for v in x]


@mp.workdps(400)  # the definition cancels
def truth(s, t, temperature=1.0, alpha=0.0, label=0):
    """Value and gradient of one sample, by the definition; a difference of logits is 0 or a double."""
    s, t = ([mp.mpf(float(v)) for v in row] for row in (s, t))
    degree, share = mp.mpf(temperature), mp.mpf(alpha)
    p, log_p = softmax([v / degree for v in t])
    q, log_q = softmax([v / degree for v in s])
    terms = [a * (b - c) for a, b, c in zip(p, log_p, log_q, strict=True) if a]
    own, log_own = softmax(s)
    value = (1 - share) * degree**2 * mp.fsum(terms) - (share * log_own[label] if share else 0)
    grad = [
        (1 - share) * degree * (b - a) + share * (c - (j == label))
        for j, (a, b, c) in enumerate(zip(p, q, own, strict=True))
    ]
    return value, grad


def logits(rng, shape, dtype, near=1.0):
    t = (3 * rng.standard_normal(shape)).astype(dtype)
    return (t + near * rng.standard_normal(shape)).astype(dtype), t


@pytest.mark.parametrize("alpha", [0.0, 0.25])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.3])
@pytest.mark.parametrize("near", [0.0, 1e-6, 1e-3, 0.3, 3.0, 40.0])
def test_against_mpmath(near, temperature, alpha, dtype, isa):
    """As exact where they nearly agree, also up to a number that all classes have in common."""
    rng = np.random.default_rng(11)
    for classes, apart in itertools.product((2, 7, 150), (0.0, 5.3, -1e3)):
        s, t = logits(rng, (3, classes), dtype, near)
        s = (s + dtype(apart)).astype(dtype)
        labels = rng.integers(0, classes, 3)
        made = KLDivWithLogitsLoss(temperature=temperature, alpha=alpha, reduction="none")
        value, grad = made.value_and_grad(s, t, labels)
        exact = [truth(*row, temperature, alpha, label) for *row, label in zip(s, t, labels, strict=True)]
        options = {"temperature": temperature, "alpha": alpha, "target": labels, "reduction": "none"}
        allowed = bounds.loss(NAME, s, t, dtype=dtype, **options)
        assert_within(value, oracle.array([v for v, _ in exact]), allowed.value, dtype)
        assert_within(grad, oracle.array([g for _, g in exact]), allowed.grad, dtype)
        assert same_bits(made(s, t, labels), value)
        if not alpha:
            assert same_bits(made(s, t), value)
            assert (value >= 0).all()


@pytest.mark.parametrize("temperature", [0.01, 0.05])
def test_sharp_distributions_against_mpmath(temperature, dtype, isa):
    """Nearly one class each, of which the value and most of the gradient are far smaller than 1."""
    rng = np.random.default_rng(23)
    s, t = logits(rng, (60, 7), dtype, 3.0)
    s[::2, 0], t[::2, 0] = 12, 13
    value, grad = KLDivWithLogitsLoss(temperature=temperature, reduction="none").value_and_grad(s, t)
    exact = [truth(*row, temperature) for row in zip(s, t, strict=True)]
    assert min(v for v, _ in exact) < 1e-20
    allowed = bounds.loss(NAME, s, t, dtype=dtype, temperature=temperature, reduction="none")
    assert_within(value, oracle.array([v for v, _ in exact]), allowed.value, dtype)
    assert_within(grad, oracle.array([g for _, g in exact]), allowed.grad, dtype)
    small = np.array([float(v) for v, _ in exact])
    assert np.allclose(value, small, rtol=1e5 * bounds.unit(dtype), atol=bounds.smallest(dtype))


def test_what_cross_entropy_less_entropy_loses(isa):
    """The example of a student whose logits are some 1e-5 off."""
    rng = np.random.default_rng(12)
    t = rng.standard_normal((1, 1000)).astype(np.float32)
    s = (t + 2.5e-5 * rng.standard_normal(t.shape)).astype(np.float32)
    exact = float(truth(s[0], t[0])[0])
    assert 1e-10 < exact < 1e-9
    allowed = bounds.loss(NAME, s, t, dtype=np.float32)
    assert_within(fastloss.kl_div_with_logits(s, t), exact, allowed.value, np.float64)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.5])
def test_every_layout_and_option_agrees_with_the_reference(alpha, reduction, isa):
    for (shape, axis), stored in itertools.product(SHAPES, [np.float32, np.float64, np.float16]):
        rng = np.random.default_rng(13)
        wide = np.float64 if stored == np.float64 else np.float32
        s, t = logits(rng, shape, stored)
        samples = shape[:axis] + shape[axis + 1 :]
        labels = np.where(rng.random(samples) < 0.2, -100, rng.integers(0, shape[axis], samples))
        call = {"sample_weight": (rng.random(samples) + 0.1).astype(wide), "mask": rng.random(samples) < 0.8}
        call["grad_output"] = 1.5
        options = {"temperature": 2.0, "axis": axis, "reduction": reduction, "alpha": alpha or 0.0}
        target = {} if alpha is None else {"target": labels}
        made = KLDivWithLogitsLoss(**options)
        want = reference.kl_div_with_logits(s, t, **target, **options, **call)
        every = {**target, **options, **call}
        allowed = bounds.against_reference(bounds.loss, wide, NAME, s, t, **every)
        value, grad = made.value_and_grad(s, t, **target, **call)
        assert_within(value, want[0], allowed.value, wide if reduction == "none" else np.float64)
        half = stored == np.float16
        assert_within(
            grad, want[1], bounds.rounded(allowed.grad, want[1], stored) if half else allowed.grad, stored
        )
        call.pop("grad_output")
        assert same_bits(made(s, t, **target, **call), value)
        assert same_bits(fastloss.kl_div_with_logits(s, t, **target, **options, **call), value)
        own = s.copy()
        _, again = made.value_and_grad(own, t, **target, **call, grad_output=1.5, grad_out=own)
        assert same_bits(again, grad)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_second_order(alpha, dtype, isa):
    rng = np.random.default_rng(14)
    for shape, axis in SHAPES:
        s, t = logits(rng, shape, dtype)
        samples = shape[:axis] + shape[axis + 1 :]
        labels = np.where(rng.random(samples) < 0.2, -100, rng.integers(0, shape[axis], samples))
        options = {"temperature": 2.0, "axis": axis, "reduction": "sum", "alpha": alpha}
        made = KLDivWithLogitsLoss(**options)
        for rule, floor in (
            ("exact", 0.0),
            ("bound", 1e-3),
            ("friedman", 0.0),
            ("residual", 0.0),
            (0.5, 0.0),
        ):
            value, grad, hess = made.value_grad_hess(s, t, labels, hessian=rule, floor=floor)
            every = {**options, "target": labels, "hessian": rule, "floor": floor}
            want = reference.kl_div_with_logits(s, t, **every)
            allowed = bounds.against_reference(bounds.loss, dtype, NAME, s, t, **every)
            assert_within(value, want[0], allowed.value, np.float64)
            assert_within(grad, want[1], allowed.grad, dtype)
            assert_within(hess, want[2], allowed.hess, dtype)
        v = rng.standard_normal(shape).astype(dtype)
        want = reference.hessp(NAME, s, t, v, target=labels, **options)
        off = bounds.against_reference(bounds.hessp, dtype, NAME, s, t, v, target=labels, **options)
        assert_within(made.hessp(s, t, v, labels), want, off, dtype)


def test_masked_classes(dtype, isa):
    """One that both mask is none; the student's alone makes the value inf, the teacher's alone does not."""
    for classes in (3, 40, 300):
        rng = np.random.default_rng(15)
        s, t = logits(rng, (4, classes), dtype)
        s[0, 1] = t[0, 1] = s[1, 1] = t[2, 1] = -inf
        value, grad = KLDivWithLogitsLoss(reduction="none").value_and_grad(s, t)
        assert np.isfinite(value).tolist() == [True, False, True, True]
        assert value[1] == inf
        assert np.isfinite(grad).all()
        assert grad[0, 1] == 0
        less = KLDivWithLogitsLoss(reduction="none").value_and_grad(*(np.delete(a[:1], 1, 1) for a in (s, t)))
        allowed = bounds.loss(NAME, s, t, dtype=dtype, reduction="none")
        assert_within(value[0], less[0][0], 2 * allowed.value[0], dtype)
        assert_within(np.delete(grad[0], 1), less[1][0], 2 * np.delete(allowed.grad[0], 1), dtype)
        for i in (1, 2, 3):
            exact = truth(s[i], t[i])
            assert_within(value[i], np.float64(exact[0]), allowed.value[i], dtype)
            assert_within(grad[i], oracle.array(exact[1]), allowed.grad[i], dtype)


def test_a_class_that_both_mask_beside_others(dtype, isa):
    """Which the teacher masks alone, or which are far apart."""
    rows = [
        ([0.0, -inf, 1.0], [0.0, -inf, -inf]),
        ([0.0, -inf, 100.0, 2.0], [0.0, -inf, -30.0, -1.0]),
        ([0.0, -inf, -inf, 2.0], [0.0, -inf, -1.0, -inf]),
    ]
    for row in rows:
        s, t = np.array(row, dtype)
        with fastloss.checking():
            value, grad = KLDivWithLogitsLoss().value_and_grad(s, t)
        exact = truth(s, t)
        allowed = bounds.loss(NAME, s, t, dtype=dtype)
        assert_within(value, np.float64(exact[0]), allowed.value, np.float64)
        assert_within(grad, oracle.array(exact[1]), allowed.grad, dtype)


def test_odd_samples(dtype, isa):
    for classes, alpha in itertools.product((3, 40, 300, 3000), (0.0, 0.5)):
        s, t = np.zeros((2, 6, classes), dtype)
        s[1, 0] = t[2, 1] = nan
        s[3, 0] = inf
        t[4] = -inf
        made = KLDivWithLogitsLoss(reduction="none", alpha=alpha)
        value, grad = made.value_and_grad(s, t, np.zeros(6, int))
        assert np.isnan(value).tolist() == [False, True, True, True, True, False]
        assert np.isnan(grad).all(1).tolist() == [False, True, True, True, True, False]
        value, grad = made.value_and_grad(s, t, [0, -100, -100, -100, -100, 0])
        assert np.isfinite(value).all()
        assert np.isfinite(grad).all()


def test_far_apart(dtype, isa):
    """Logits of any size, and probabilities that vanish on one side."""
    rows = [
        ([0.0, 0.0, 0.0], [100.0, 0.0, -100.0]),
        ([300.0, 0.0], [0.0, 300.0]),
        ([1e30, 0.0, -1e30], [1e30, 1e30, 0.0]),
        ([1e8, 1e8 + 16], [1e8 + 16, 1e8]),
        ([80.0, 0.0, -80.0], [-80.0, 0.0, 80.0]),
        ([1e4, 0.0], [-1e4, 0.0]),
        ([0.0] * 50, [150.0] + [-3.0 * j for j in range(49)]),
    ]
    for s, t in rows:
        for degree in (1.0, 2.0):
            s, t = np.array([s], dtype), np.array([t], dtype)
            value, grad = KLDivWithLogitsLoss(temperature=degree).value_and_grad(s[:1], t[:1])
            exact = truth(s[0], t[0], degree)
            allowed = bounds.loss(NAME, s, t, dtype=dtype, temperature=degree)
            assert_within(value, np.float64(exact[0]), allowed.value, np.float64)
            assert_within(grad[0], oracle.array(exact[1]), allowed.grad[0], dtype)
            s, t = s[0], t[0]


def test_second_order_of_logits_too_large_for_the_temperature(dtype, isa):
    most = np.finfo(dtype).max
    x = np.array([[most, most, 0], [most, 0, -most], [1, 1, -inf], [-most, -most, -most]], dtype)
    quarter = np.array([[0.25, -0.25, 0]] * 4)
    quarter[1], third = 0, np.array([2, -1, -1]) / 9
    made, vector = KLDivWithLogitsLoss(temperature=0.01, reduction="sum"), np.tile([1.0, 0.0, 0.0], (4, 1))
    for order in "CF":
        hess = made.value_grad_hess(np.asarray(x, order=order), np.zeros_like(x))[2]
        product = made.hessp(np.asarray(x, order=order), np.zeros_like(x), vector)
        assert np.allclose(hess, [*abs(quarter[:3]), [2 / 9] * 3], rtol=1e-6, atol=0)
        assert np.allclose(product, [*quarter[:3], third], rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.25, 1.0])
def test_weights_of_any_size(alpha, size, dtype, isa):
    """Also where the labels' part is computed apart, which must not take the teacher for probabilities."""
    rng = np.random.default_rng(5)
    size = dtype(size if dtype == np.float32 else size**9)
    for shape, temperature in itertools.product([(40, 5), (6, 200), (2, 4200)], [1.0, 3.0]):
        x, t = logits(rng, shape, dtype)
        labels = None if alpha is None else rng.integers(0, shape[1], shape[0])
        loss = KLDivWithLogitsLoss(temperature=temperature, alpha=alpha or 0.0, reduction="sum")
        for given in ({"sample_weight": np.full(shape[0], size)}, {"grad_output": size}):
            with fastloss.checking():
                grad = loss.value_and_grad(x, t, labels, **given)[1]
            assert grad.any()


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_a_label_that_both_mask(alpha, dtype, isa):
    loss = KLDivWithLogitsLoss(temperature=2.0, alpha=alpha, reduction="none")
    x = np.array([[-inf, 1, 2], [-inf, 1, 2]], dtype)
    value, grad = loss.value_and_grad(x, x[::-1], [0, 1])
    assert value[0] == inf
    assert np.isfinite(value[1])
    assert np.isfinite(grad).all()


def test_nothing_counts(isa):
    for x, y in ((np.zeros((2, 3)), [-100, -100]), (np.zeros((0, 3)), np.zeros(0, int))):
        for reduction, empty in itertools.product(("mean", "sum", "none"), ("nan", "zero")):
            made = KLDivWithLogitsLoss(reduction=reduction, empty=empty)
            value, grad = made.value_and_grad(x, x, y)
            assert grad.tolist() == np.zeros(x.shape).tolist()
            if reduction == "mean" and empty == "nan":
                assert np.isnan(value)
            else:
                assert np.all(np.asarray(value) == 0)


def test_identities(isa):
    """Of T = 1 cross-entropy less entropy, of alpha = 1 cross-entropy, of a large T a mean square."""
    rng = np.random.default_rng(16)
    s, t = logits(rng, (20, 12), np.float64)
    labels = rng.integers(0, 12, 20)
    p = fastloss.softmax(t)
    want = fastloss.cross_entropy(s, p, reduction="none") - fastloss.entropy(p)
    np.testing.assert_allclose(fastloss.kl_div_with_logits(s, t, reduction="none"), want, rtol=1e-10)
    hard, slope = KLDivWithLogitsLoss(alpha=1.0, temperature=3.0).value_and_grad(s, t, labels)
    wanted, gradient = fastloss.CrossEntropyLoss().value_and_grad(s, labels)
    assert hard == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(slope, gradient, atol=1e-15)
    d = (s - t) - (s - t).mean(1, keepdims=True)
    far = fastloss.kl_div_with_logits(s, t, temperature=1e4, reduction="none")
    np.testing.assert_allclose(far, (d**2).mean(1) / 2, rtol=1e-2)
    assert fastloss.kl_div_with_logits(t, t) == 0
    assert not KLDivWithLogitsLoss().value_and_grad(t, t)[1].any()


def test_arrays_of_any_kind(isa):
    rng = np.random.default_rng(17)
    s, t = logits(rng, (6, 20), np.float32)
    made = KLDivWithLogitsLoss(temperature=2.0)
    value, grad = made.value_and_grad(s, t)
    allowed = bounds.loss(NAME, s, t, dtype=np.float32, temperature=2.0)
    for kind, arrange in LAYOUTS.items():
        if kind != "reversed":
            got = made.value_and_grad(arrange(s), arrange(t))
            assert_within(got[0], np.float64(value), 2 * allowed.value, np.float64)
            assert_within(got[1], grad, 2 * allowed.grad, np.float32)
    wide = made.value_and_grad(s.astype(np.float64), t)[0]
    assert_within(value, np.float64(wide), allowed.value, np.float64)
    assert made.value_and_grad([[1, 0]], [[0, 1]])[1].dtype == np.float64


def test_the_same_bits_on_any_threads(isa):
    rng = np.random.default_rng(18)
    for shape in ((3000, 30), (700, 150), (9, 5000)):
        s, t = logits(rng, shape, np.float32)
        labels = rng.integers(0, shape[1], shape[0])
        made = KLDivWithLogitsLoss(temperature=2.0, alpha=0.5)
        found = []
        for n in (1, 2, 3):
            with fastloss.threads(n):
                found.append(made.value_and_grad(s, t, labels))
        assert all(same_bits(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
        each = KLDivWithLogitsLoss(temperature=2.0, alpha=0.5, reduction="none")
        whole = each.value_and_grad(s, t, labels)
        order = rng.permutation(shape[0])
        permuted = each.value_and_grad(s[order], t[order], labels[order])
        assert all(same_bits(a[order], b) for a, b in zip(whole, permuted, strict=True))


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs both")
def test_the_same_bits_with_avx2_and_avx512(dtype):
    rng, before = np.random.default_rng(19), _kernels.active
    for shape, axis in SHAPES:
        s, t = logits(rng, shape, dtype)
        labels = rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])
        found = []
        try:
            for name in ("avx2", "avx512"):
                _kernels.use(name)
                made = KLDivWithLogitsLoss(temperature=2.0, alpha=0.5, axis=axis, reduction="none")
                found.append(made.value_and_grad(s, t, labels))
        finally:
            _kernels.use(before)
        assert all(same_bits(a, b) for a, b in zip(*found, strict=True))


def test_checking(isa):
    rng = np.random.default_rng(20)
    s, t = logits(rng, (30, 8), np.float32)
    with fastloss.checking():
        for alpha in (0.0, 0.5):
            made = KLDivWithLogitsLoss(temperature=2.0, alpha=alpha)
            made.value_and_grad(s, t, np.zeros(30, int))
            made.value_grad_hess(s, t, np.zeros(30, int))
            made.hessp(s, t, t, np.zeros(30, int))


@pytest.mark.parametrize("stored", [np.float16, np.float32, np.float64])
def test_checking_far_apart(stored, isa):
    """Where exp of differences leaves float64, probabilities vanish in it, or the student masks a class."""
    with fastloss.checking():
        for seed, temperature, size in itertools.product(range(4), (0.01, 0.1, 1.0), (1, 30)):
            rng = np.random.default_rng(seed)
            s, t = (rng.normal(0, size, (20, 7)).astype(stored) for _ in range(2))
            if seed % 2:
                s[rng.random(s.shape) < 0.1] = -inf
            for reduction in ("none", "mean"):
                made = KLDivWithLogitsLoss(temperature=temperature, alpha=seed / 8, reduction=reduction)
                made.value_and_grad(s, t, rng.integers(0, 7, 20))
                made.value_grad_hess(s, t, rng.integers(0, 7, 20))


def test_a_loss_is_its_options():
    made = KLDivWithLogitsLoss(temperature=2.0, alpha=0.5, ignore_index=(1, 2), reduction="sum", axis=-1)
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made
    assert KLDivWithLogitsLoss(**made.options()) == made
    assert made != KLDivWithLogitsLoss(temperature=2.0)
    with pytest.raises(AttributeError, match=r"^temperature: a KLDivWithLogitsLoss does not change"):
        made.temperature = 1.0


def test_what_does_not_fit():
    x, y = np.zeros((2, 3)), [0, 1]
    for bad in (0, -1.0, nan, inf, [1.0], "1", None):
        with pytest.raises((TypeError, ValueError), match=r"^temperature: "):
            KLDivWithLogitsLoss(temperature=bad)
    for bad in (-0.1, 1.5, nan, [0.5], "0.5", None):
        with pytest.raises((TypeError, ValueError), match=r"^alpha: "):
            KLDivWithLogitsLoss(alpha=bad)
    made = KLDivWithLogitsLoss(alpha=0.5)
    with pytest.raises(
        ValueError, match=r"^target: got None, wanted class indices, whose weight is alpha=0\.5"
    ):
        made(x, x)
    with pytest.raises(ValueError, match=r"^teacher: got shape \(2, 4\), wanted \(2, 3\) as input"):
        made(x, np.zeros((2, 4)), y)
    with pytest.raises(TypeError, match=r"^teacher: got dtype"):
        made(x, np.zeros((2, 3), complex), y)
    with pytest.raises(IndexError, match=r"^target\[1\] = 3 is out of range for 3 classes"):
        made(x, x, [0, 3])
    with pytest.raises(ValueError, match=r"^target: got shape \(3,\), wanted \(2,\)"):
        made(x, x, [0, 1, 2])
    teacher = x.copy()
    with pytest.raises(ValueError, match=r"^grad_out: overlaps teacher in memory"):
        made.value_and_grad(x, teacher, y, grad_out=teacher)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_the_teacher_all_but_rules_out_keeps_its_digits(dtype, isa):
    """Its probability times the factor is below the normal numbers, and the student's is not."""
    far, near = (-86.0, -60.0) if dtype == np.float32 else (-708.0, -680.0)
    student, teacher = np.array([[0.0, near]], dtype), np.array([[0.0, far]], dtype)
    loss = fastloss.KLDivWithLogitsLoss(reduction="sum")
    grad = loss.value_and_grad(student, teacher, grad_output=1e-3)[1][0]
    expected = 1e-3 * (mp.exp(near) / (1 + mp.exp(near)) - mp.exp(far) / (1 + mp.exp(far)))
    assert float(abs(grad[1] / expected - 1)) < 64 * np.finfo(dtype).eps
    assert float(abs(grad[0] / expected + 1)) < 64 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_near_the_smallest_number(dtype, isa):
    """What exponentials are multiplied by may be below it where entries are not."""
    x = np.array([[-30.9, 4.67, 0.2, 20.5, -0.64, 2.67]], dtype)
    teacher = np.array([[-0.75, -1, -1, -0.75, 0, -1]], dtype)
    loss, least = fastloss.KLDivWithLogitsLoss(reduction="sum"), bounds.smallest(dtype)
    for factor in (least * 1e5, least * 1e3):
        with fastloss.checking():
            grad = loss.value_and_grad(x, teacher, grad_output=factor)[1]
        assert abs(grad).max() > 10 * least


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_beyond_the_dtype(dtype, isa):
    """What they multiply may be 0, or small enough."""
    x = np.array([[1, 2, 3], [1, 2, 4]], dtype)
    teacher = np.array([[1, 2, 3], [1, 2, 5]], dtype)
    loss = fastloss.KLDivWithLogitsLoss(reduction="sum")
    grad = loss.value_and_grad(x, teacher)[1].astype(np.float64)
    scaled = loss.value_and_grad(x, teacher, grad_output=1e300)[1]
    assert (scaled[0] == 0).all()
    wanted = grad[1] * 1e300 if dtype == np.float64 else np.sign(grad[1]) * np.inf
    np.testing.assert_allclose(scaled[1], wanted, rtol=64 * np.finfo(dtype).eps)


def test_totals_have_the_labels_share(rng):
    x, teacher = rng.standard_normal((2, 6, 3))
    target = np.array([0, 1, 2, -100, 1, 0])
    loss = KLDivWithLogitsLoss(alpha=0.3, temperature=2.0)
    total = loss.total(x[:2], teacher[:2], target[:2]) + loss.total(x[2:], teacher[2:], target=target[2:])
    assert total.mean == pytest.approx(loss(x, teacher, target), rel=1e-15)
    assert total.count == 5
    with pytest.raises(ValueError, match=r"target: got None, wanted .* whose weight is alpha=0\.3"):
        loss.total(x, teacher)
    with pytest.raises(TypeError, match="loss: got KLDivWithLogitsLoss, which needs labels"):
        fastloss.stream(loss, x, teacher)
    assert KLDivWithLogitsLoss().total(x, teacher, target).count == 5
