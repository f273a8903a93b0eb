"""Truths to 50 digits by mpmath, and the error that each function may make: both in this one place.

u is half an ulp of 1; along the class axis d_j = x_j - max x, p the softmax, and the spread is
sum p_k |d_k|.
Every d_j is rounded once, which costs u |d_j|; the bounds are that cost and a few ulp.
A reference in float64 makes errors of its own against a float64 kernel: `assert_within` is told so
by ``against_reference`` and then allows the bound twice.
"""

import importlib

import mpmath as mp
import numpy as np

mp.mp.dps = 50

U = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}


# --------------------------------------------------------------------------------------- comparison


def finfo(dtype):
    """np.finfo, of bfloat16 too."""
    dtype = np.dtype(dtype)
    return importlib.import_module("ml_dtypes").finfo(dtype) if dtype.name == "bfloat16" else np.finfo(dtype)


def ulp(x, dtype):
    """Distance to the next number of ``dtype`` at ``x``, as float64."""
    info = finfo(dtype)
    exponent = np.frexp(np.abs(np.asarray(x, np.float64)))[1] - 1
    return np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)


def assert_within(result, truth, allowed, dtype, against_reference=False):
    """Each |result - truth| is at most ``allowed``; below the smallest normal number 0 will do."""
    result, truth = np.asarray(result), np.asarray(truth)
    assert result.shape == truth.shape
    info = np.finfo(dtype)
    allowed = np.broadcast_to(allowed, truth.shape)
    if against_reference and np.dtype(dtype) == np.float64:
        allowed = 2 * allowed
    if truth.dtype == object:
        flat = [_error(r, t) for r, t in zip(result.ravel(), truth.ravel(), strict=True)]
        error = np.array([float(e) for e in flat], np.float64).reshape(truth.shape)
        truth = truth.astype(np.float64)
    else:
        with np.errstate(invalid="ignore"):
            error = np.abs(result.astype(np.float64) - truth)
    same = (result == truth) | (np.isnan(result) & np.isnan(truth))
    same |= np.isinf(result) & (np.abs(truth) > info.max) & (np.sign(result) == np.sign(truth))
    same |= (result == 0) & (np.abs(truth) < float(info.smallest_normal))
    with np.errstate(divide="ignore", invalid="ignore"):
        worst = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error / allowed))
    if worst.size and worst.max() > 1:
        at = np.unravel_index(np.argmax(worst), worst.shape)
        raise AssertionError(
            f"at {tuple(int(i) for i in at)}: got {result[at]!r}, wanted {truth[at]!r}, off by "
            f"{error[at]:.3g} = {error[at] / ulp(truth[at], dtype):.3g} ulp, "
            f"{worst[at]:.3g} times what is allowed"
        )


def _error(result, truth):
    if mp.isnan(truth) or mp.isinf(truth) or not np.isfinite(result):
        return mp.nan
    return abs(mp.mpf(float(result)) - truth)


# ------------------------------------------------------------------------------------------- bounds


def condition(x, axis):
    """Of logits in float64: p, |d| (0 for a masked class) and the spread, axes kept."""
    with np.errstate(invalid="ignore", over="ignore"):
        d = x.astype(np.float64) - x.max(axis, keepdims=True)
        e = np.exp(d)
        p = e / e.sum(axis, keepdims=True)
        size = np.where(np.isfinite(d), -d, 0.0)
    return p, size, (p * size).sum(axis, keepdims=True)


def flushed(p, dtype):
    """What is lost of probabilities below the smallest normal number where 0 stands for them."""
    return np.where(p < (1 + 2.0**-10) * float(np.finfo(dtype).smallest_normal), p, 0.0)


def logsumexp_bound(x, axis, truth, dtype):
    m = np.abs(x.max(axis).astype(np.float64))
    p, _, spread = condition(x, axis)
    shift = U[np.dtype(dtype)] * spread + flushed(p, dtype).sum(axis, keepdims=True)
    return 2 * ulp(np.maximum(np.abs(truth), m), dtype) + shift.squeeze(axis)


def softmax_bound(x, axis, dtype):
    p, size, spread = condition(x, axis)
    return p * U[np.dtype(dtype)] * (4 + size + spread)


def log_softmax_bound(x, axis, truth, dtype):
    p, size, spread = condition(x, axis)
    finite = np.where(np.isfinite(truth), np.abs(truth), 0.0)
    shift = U[np.dtype(dtype)] * spread + flushed(p, dtype).sum(axis, keepdims=True)
    return 2 * ulp(np.maximum(finite, size), dtype) + shift


def entropy_from_logits_bound(x, axis, truth, dtype):
    """Terms p_j (L - d_j): p_j as good as softmax's, its factor 2 ulp and the rounded d's."""
    p, size, spread = condition(x, axis)
    lost = flushed(p, dtype)
    each = softmax_bound(x, axis, dtype) + lost
    terms = each * (size + np.expand_dims(truth, axis)) + lost
    return 4 * ulp(truth, dtype) + terms.sum(axis) + U[np.dtype(dtype)] * 2 * spread.squeeze(axis)


def entropy_bound(p, axis, dtype):
    """Same-signed terms -p log p: 2 ulp of each, and one rounding for each that is added."""
    wide = p.astype(np.float64)
    terms = np.abs(wide * np.log(np.where(wide == 0, 1.0, wide)))
    added = (p.shape[axis] - 1) * U[np.dtype(dtype)] * terms.sum(axis)
    return 2 * ulp(terms, dtype).sum(axis) + added


def coefficients(target, shape, axis, weight=None, label_smoothing=0.0, ignore_index=-100):
    """c of the loss sum c_j (-log p_j), in the shape of the input."""
    classes = shape[axis]
    w = np.ones(classes) if weight is None else np.asarray(weight, np.float64)
    w = w.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    if np.shape(target) == shape:
        q = np.asarray(target, np.float64)
        return w * ((1 - label_smoothing) * q + label_smoothing / classes)
    label = np.expand_dims(np.asarray(target), axis)
    hot = np.arange(classes).reshape(w.shape) == label
    w_t = np.where(hot, w, 0.0)
    return (1 - label_smoothing) * w_t + (label != ignore_index) * label_smoothing * w / classes


def cross_entropy_bound(x, c, axis, truth, dtype, roundings=0):
    """2 ulp, the rounded d_j, and one u for each time that a coefficient was rounded."""
    u = U[np.dtype(dtype)]
    p, size, spread = condition(x, axis)
    total = c.sum(axis, keepdims=True)
    shift = total * spread + (np.abs(c - total * p) * size).sum(axis, keepdims=True)
    shift = u * shift + total * flushed(p, dtype).sum(axis, keepdims=True)
    finite = np.where(np.isfinite(truth), np.abs(truth), 0.0)
    return 2 * ulp(finite, dtype) + shift.squeeze(axis) + roundings * u * finite


def cross_entropy_grad_bound(x, c, axis, dtype, roundings=None):
    """Softmax's bound on each probability that the entry is made of.

    For one index (no `roundings`) the target's entry is minus the sum of the other probabilities,
    and nothing may cancel. Otherwise it is the relative bound of softmax on both c.sum() p_j and c_j,
    and one u of each for each time that a coefficient was rounded.
    """
    u = U[np.dtype(dtype)]
    p, size, spread = condition(x, axis)
    total = c.sum(axis, keepdims=True)
    lossy = softmax_bound(x, axis, dtype) + flushed(p, dtype)
    if roundings is None:
        others = np.where(c == 0, lossy, 0.0).sum(axis, keepdims=True)
        return np.where(c == 0, total * softmax_bound(x, axis, dtype), c * others)
    return total * lossy + c * u * (4 + size + spread) + roundings * u * (c + total * p)


def pointwise_bound(terms, dtype, roundings=0):
    """2 ulp of the largest term, and one u for each rounded factor."""
    largest = np.max([np.abs(np.asarray(t, np.float64)) for t in terms], axis=0)
    finite = np.where(np.isfinite(largest), largest, 0.0)
    return 2 * ulp(finite, dtype) + roundings * U[np.dtype(dtype)] * finite


# ------------------------------------------------------------------------------------------- truths


class Row:
    """A row of logits in 50 digits."""

    def __init__(self, x):
        self.x = [mp.mpf(float(v)) for v in x]
        self.m = max(self.x)
        self.d = [v - self.m for v in self.x]
        e = [mp.exp(v) for v in self.d]
        top = self.x.index(self.m)
        s = mp.fsum(v for j, v in enumerate(e) if j != top)
        self.L = mp.log1p(s)
        self.p = [v / (1 + s) for v in e]
        self.not_p = [s / (1 + s) if j == top else (1 + s - v) / (1 + s) for j, v in enumerate(e)]

    def logsumexp(self):
        return self.m + self.L

    def softmax(self):
        return self.p

    def log_softmax(self):
        return [v - self.L for v in self.d]

    def entropy_from_logits(self):
        return mp.fsum(p * (self.L - d) for p, d in zip(self.p, self.d, strict=True) if p)

    def loss(self, c):
        """The sum of c_j (-log p_j)."""
        return mp.fsum(mp.mpf(float(k)) * (self.L - d) for k, d in zip(c, self.d, strict=True) if k)

    def grad(self, c):
        """c.sum() p_j - c_j, as (c.sum() - c_j) p_j - c_j (1 - p_j)."""
        c = [mp.mpf(float(k)) for k in c]
        total = mp.fsum(c)
        return [(total - k) * p - k * q for k, p, q in zip(c, self.p, self.not_p, strict=True)]


class WideRows:
    """Rows of logits in long double: for more classes than 50 digits are affordable for.

    With 64 bits its own error is some 2^-11 roundings of float64, as long as the d_j that count are small.
    """

    bits = np.finfo(np.longdouble).nmant + 1

    def __init__(self, x):
        x = x.astype(np.longdouble)
        top = x.argmax(1)[:, None]
        self.m = x.max(1, keepdims=True)
        self.d = x - self.m
        e = np.exp(self.d)
        np.put_along_axis(e, top, 0, 1)
        s = e.sum(1, keepdims=True)
        self.L = np.log1p(s)
        self.not_p = (1 + s - e) / (1 + s)
        np.put_along_axis(self.not_p, top, s / (1 + s), 1)
        np.put_along_axis(e, top, 1, 1)
        self.p = e / (1 + s)

    def logsumexp(self):
        return (self.m + self.L).squeeze(1)

    def softmax(self):
        return self.p

    def log_softmax(self):
        return self.d - self.L

    def entropy_from_logits(self):
        return (self.p * (self.L - self.d)).sum(1)

    def loss(self, c):
        return (c * (self.L - self.d)).sum(1)

    def grad(self, c):
        c = c.astype(np.longdouble)
        return (c.sum(1, keepdims=True) - c) * self.p - c * self.not_p


def array(values):
    """mpmath numbers as an object array."""
    shape = np.shape(np.array(values, dtype=object))
    result = np.empty(shape, dtype=object)
    result[...] = values
    return result


def softplus(x):
    """log(1 + exp(x)) of an mpmath number."""
    return max(x, mp.mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def logistic(x):
    """1 / (1 + exp(-x)) of an mpmath number."""
    return mp.exp(min(x, mp.mpf(0))) / (1 + mp.exp(-abs(x)))


# Each of these takes exact mpmath numbers and returns value, its terms, gradient, its terms.


def binary_cross_entropy_with_logits(x, y):
    terms = [y * softplus(-x) if y else mp.mpf(0), (1 - y) * softplus(x) if y != 1 else mp.mpf(0)]
    slopes = [(1 - y) * logistic(x), -y * logistic(-x)]
    return sum(terms), terms, sum(slopes), slopes


def binary_cross_entropy(p, y):
    log_p = mp.log(p) if p else -mp.inf
    log_not_p = mp.log1p(-p) if p < 1 else -mp.inf
    terms = [-y * max(log_p, mp.mpf(-100)), -(1 - y) * max(log_not_p, mp.mpf(-100))]
    below = max(p * (1 - p), mp.mpf(1e-12))
    return sum(terms), terms, (p - y) / below, [p / below, y / below]


def kl_div(x, y):
    terms = [y * mp.log(y), -y * x] if y else [mp.mpf(0)] * 2
    return sum(terms), terms, -y, [-y]


def kl_div_log_target(x, t):
    y = mp.exp(t)
    return y * (t - x), [y * t, -y * x], -y, [-y]


def mse_loss(x, y):
    return (x - y) ** 2, [(x - y) ** 2], 2 * (x - y), [2 * (x - y)]
