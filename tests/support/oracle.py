"""Truths to 50 digits by mpmath, and the comparison with them within a bound (`fastloss.bounds`)."""

import importlib

import mpmath as mp
import numpy as np

from fastloss import bounds

mp.mp.dps = 50


# --------------------------------------------------------------------------------------- comparison


def finfo(dtype):
    """np.finfo, of bfloat16 too."""
    dtype = np.dtype(dtype)
    return importlib.import_module("ml_dtypes").finfo(dtype) if dtype.name == "bfloat16" else np.finfo(dtype)


def assert_within(result, truth, allowed, dtype):
    """Each |result - truth| is at most ``allowed``, or both are NaN, or the same infinity."""
    result, truth = np.asarray(result), np.asarray(truth)
    assert result.shape == truth.shape
    info = finfo(dtype)
    allowed = np.broadcast_to(allowed, truth.shape)
    share = shares_of(result, truth, allowed, float(info.max))
    if share.size and share.max() > 1:
        at = np.unravel_index(np.argmax(share), share.shape)
        off = allowed[at] * share[at]
        raise AssertionError(
            f"at {tuple(int(i) for i in at)}: got {result[at]!r}, wanted {truth[at]!r}, off by {off:.3g} = "
            f"{off / bounds.ulp(float(truth[at]), dtype):.3g} ulp, {share[at]:.3g} times what is allowed"
        )


def shares_of(result, truth, allowed, overflow=np.inf):
    """`bounds.shares` against a truth in mpmath or long double, whose difference float64 would round."""
    if truth.dtype in (np.float16, np.float32, np.float64):  # which long double may be
        return bounds.shares(result, truth, allowed, overflow)
    with np.errstate(all="ignore"):
        if truth.dtype == object:
            flat = [_error(r, t) for r, t in zip(result.ravel(), truth.ravel(), strict=True)]
            error = np.array([float(e) for e in flat], np.float64).reshape(truth.shape)
        else:
            error = np.abs(result.astype(truth.dtype) - truth).astype(np.float64)
        near = np.where(np.isnan(error), truth.astype(np.float64), 0.0)  # what is not finite
        return bounds.shares(np.where(np.isnan(error), result, error), near, allowed, overflow)


def _error(result, truth):
    if mp.isnan(truth) or mp.isinf(truth) or not np.isfinite(result):
        return mp.nan
    return abs(mp.mpf(float(result)) - truth)


# ------------------------------------------------------------------------------------------- truths


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


class CappedRow(Row):
    """A row of logits with a softcap, and what its gradient is multiplied by; infinities pass."""

    def __init__(self, x, softcap):
        cap, exact = mp.mpf(softcap), [mp.mpf(float(v)) for v in x]
        super().__init__([0.0])
        self.cap, self.tanh = cap, [mp.tanh(v / cap) for v in exact]
        self.x = [v if mp.isinf(v) else cap * t for v, t in zip(exact, self.tanh, strict=True)]
        self.slope = [mp.sech(v / cap) ** 2 for v in exact]
        self.m = max(self.x)
        self.d = [v - self.m for v in self.x]
        top = self.x.index(self.m)
        e = [mp.exp(v) for v in self.d]
        s = mp.fsum(v for j, v in enumerate(e) if j != top)
        self.L = mp.log1p(s)
        self.p = [v / (1 + s) for v in e]
        self.not_p = [s / (1 + s) if j == top else (1 + s - v) / (1 + s) for j, v in enumerate(e)]


def loss_of_label(row, t, name="cross_entropy", z_loss=0.0, gamma=2.0, q=0.7, epsilon=1.0):
    """Value and gradient of a loss of label t under a Row, which may be capped."""
    ce, p, not_p, slope = row.L - row.d[t], row.p[t], row.not_p[t], mp.mpf(1)
    value = ce
    if name == "focal_loss":
        power = not_p ** mp.mpf(gamma) if not_p or gamma else mp.mpf(1)
        ratio = p * ce / not_p if not_p and not mp.isinf(ce) else mp.mpf(not not_p)
        value, slope = power * ce, power * (1 + gamma * ratio)
    elif name == "generalized_cross_entropy":
        value, slope = -mp.expm1(-q * ce) / q, mp.exp(-q * ce)
    elif name == "poly_loss":
        value, slope = ce + epsilon * not_p, 1 + epsilon * p
    s = row.logsumexp()
    square = 2 * z_loss * s
    grad = [(slope + square) * p_j for p_j in row.p]
    grad[t] = square * p - slope * not_p
    if hasattr(row, "slope"):
        grad = [g * c for g, c in zip(grad, row.slope, strict=True)]
    return value + z_loss * s * s, grad


# The Hessian; what a loss makes of a label's cross-entropy is differentiated numerically.

PHI = {
    "cross_entropy": lambda ce: ce,
    "focal_loss": lambda ce, gamma=2.0: (-mp.expm1(-ce)) ** mp.mpf(gamma) * ce,
    "generalized_cross_entropy": lambda ce, q=0.7: -mp.expm1(-q * ce) / q,
    "poly_loss": lambda ce, epsilon=1.0: ce - epsilon * mp.expm1(-ce),
}


def _derivatives(name, ce, not_p, parameter):
    """phi' and phi'' at ce; 0 where phi'' (p - e_t) (p - e_t)' is, as p_t is 0 or 1 up to 1e-700."""
    if ce > 2000 or not_p < mp.mpf(10) ** -700:
        if name != "generalized_cross_entropy":
            return mp.mpf(1), mp.mpf(0)
        q = mp.mpf(parameter["q"])
        return mp.exp(-q * ce), -q * mp.exp(-q * ce)
    with mp.workdps(60 + int(ce - 2 * mp.log10(min(ce, 1)))):
        first, second = (mp.diff(lambda v: PHI[name](ce * v, **parameter), 1, n) for n in (1, 2))
    return first / ce, second / ce**2


class Hessian:
    """Of a Row's loss: the sum of c_j (-log p_j), or phi(-log p_t), and z_loss logsumexp(x)^2."""

    def __init__(self, row, c, z_loss=0.0, name="cross_entropy", **parameter):
        c = [mp.mpf(float(k)) for k in c]
        self.row, self.square, self.bend = row, mp.mpf(2 * z_loss), mp.mpf(0)
        self.t = next((j for j, k in enumerate(c) if k), 0)
        if name != "cross_entropy":
            slope, bend = _derivatives(name, row.L - row.d[self.t], row.not_p[self.t], parameter)
            self.bend = c[self.t] * bend
            c = [k * slope for k in c]
        self.total = mp.fsum(c) + self.square * row.logsumexp()
        parts = zip(c, row.p, row.not_p, strict=True)
        self.grad = [(self.total - k) * p - k * not_p for k, p, not_p in parts]

    def entry(self, i, j, most=False):
        """Of row i and column j; `most`: of the diagonal, without terms that are negative."""
        row, same = self.row, i == j
        p, q = row.p[i], row.p[j]
        r, s = (-row.not_p[k] if k == self.t else row.p[k] for k in (i, j))
        total, bend = (max(self.total, 0), max(self.bend, 0)) if most else (self.total, self.bend)
        found = total * p * (row.not_p[i] if same else -q) + self.square * p * q + bend * r * s
        if hasattr(row, "slope"):
            curve = -2 * row.tanh[i] / row.cap * row.slope[i] * self.grad[i] if same else 0
            found = found * row.slope[i] * row.slope[j] + (max(curve, 0) if most else curve)
        return found

    def diagonal(self, most=False):
        return [self.entry(j, j, most) for j in range(len(self.row.p))]

    def times(self, v):
        classes = range(len(v))
        return [mp.fsum(self.entry(i, j) * mp.mpf(float(v[j])) for j in classes) for i in classes]


def curve(function, x, y, **options):
    """The second derivative of a loss of one element, in mpmath numbers."""
    if function == "binary_cross_entropy":  # whose gradient is not the value's derivative everywhere
        spread = x * (1 - x)
        return mp.mpf(10) ** 12 if spread < mp.mpf(1e-12) else (y * (1 - x) ** 2 + (1 - y) * x**2) / spread**2
    with mp.workdps(
        40 + int(min(max(abs(x), abs(x * y)), 800))
    ):  # what is left of the value, if it is normal
        return mp.diff(lambda v: globals()[function](v, y, **options)[0], x, 2)


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


LOG_2_PI = np.longdouble("1.83787706640934548356065947281123527972")


def _wide_focal(x, y, gamma, alpha):
    e = np.exp(-np.abs(x))
    p, q = np.where(x > 0, 1, e) / (1 + e), np.where(x > 0, e, 1) / (1 + e)
    m = y * q + (1 - y) * p
    power = m**gamma * (1 if alpha is None else alpha * y + (1 - np.longdouble(alpha)) * (1 - y))
    plain = y * (np.maximum(-x, 0) + np.log1p(e)) + (1 - y) * (np.maximum(x, 0) + np.log1p(e))
    return power * plain, power * ((1 - y) * p - y * q + gamma * plain * p * q / m * (1 - 2 * y))


#: The options of losses that have more than weights.
NUMBERS = {
    "sigmoid_focal_loss": {"gamma": 2.0, "alpha": None},
    "poisson_nll_loss": {"log_input": True, "full": False, "eps": 1e-8},
}


def wide_points(name, x, y, pos_weight=1, weight=1, sample_weight=1, log_target=False, **more):
    """Value and gradient of a loss without classes in long double: for many elements."""
    more = {**NUMBERS.get(name, {}), **more}.values()
    x, y, b, w, s = (np.asarray(a).astype(np.longdouble) for a in (x, y, pos_weight, weight, sample_weight))
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(x))
        if name == "mse_loss":
            value, slope = (x - y) ** 2, 2 * (x - y)
        elif name == "kl_div":
            p, log_p = (np.exp(y), y) if log_target else (y, np.log(np.where(y == 0, 1, y)))
            value, slope = p * (log_p - x), -p
        elif name == "sigmoid_focal_loss":
            return [w * s * v for v in _wide_focal(x, y, *more)]
        elif name == "soft_margin_loss":
            z = x * y
            e = np.exp(-np.abs(z))
            value, slope = np.maximum(-z, 0) + np.log1p(e), -y * np.where(z < 0, 1, e) / (1 + e)
        elif name == "poisson_nll_loss":
            log_input, full, eps = more
            value = np.exp(x) - y * x if log_input else x - y * np.log(x + eps)
            slope = np.exp(x) - y if log_input else 1 - y / (x + eps)
            if full:
                k = np.maximum(y, 1)
                value = value + np.where(y > 1, (k + 0.5) * np.log(k) - k + LOG_2_PI / 2, 0)
        elif name == "binary_cross_entropy":
            logs = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
            value, slope = -y * logs[0] - (1 - y) * logs[1], (x - y) / np.maximum(x * (1 - x), 1e-12)
        else:
            up, down = np.where(x > 0, 1, e) / (1 + e), np.where(x > 0, e, 1) / (1 + e)
            value = b * y * (np.maximum(-x, 0) + np.log1p(e)) + (1 - y) * (np.maximum(x, 0) + np.log1p(e))
            slope = (1 - y) * up - b * y * down
        return w * s * value, w * s * slope


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


# Each of these takes exact mpmath numbers and returns value and gradient.


def binary_cross_entropy_with_logits(x, y):
    value = (y * softplus(-x) if y else 0) + ((1 - y) * softplus(x) if y != 1 else 0)
    return value, (1 - y) * logistic(x) - y * logistic(-x)


def binary_cross_entropy(p, y):
    log_p = mp.log(p) if p else -mp.inf
    log_not_p = mp.log1p(-p) if p < 1 else -mp.inf
    value = -y * max(log_p, mp.mpf(-100)) - (1 - y) * max(log_not_p, mp.mpf(-100))
    return value, (p - y) / max(p * (1 - p), mp.mpf(1e-12))


def kl_div(x, y):
    return (y * (mp.log(y) - x) if y else mp.mpf(0)), -y


def kl_div_log_target(x, t):
    return mp.exp(t) * (t - x), -mp.exp(t)


def mse_loss(x, y):
    return (x - y) ** 2, 2 * (x - y)


def soft_margin_loss(x, y):
    return softplus(-x * y), -y * logistic(-x * y)


def sigmoid_focal_loss(x, y, gamma=2.0, alpha=None):
    m = y * logistic(-x) + (1 - y) * logistic(x)
    power = m**gamma * (1 if alpha is None else alpha * y + (1 - mp.mpf(alpha)) * (1 - y))
    plain = binary_cross_entropy_with_logits(x, y)
    rest = logistic(x) * logistic(-x) / m
    return power * plain[0], power * (plain[1] + gamma * plain[0] * rest * (1 - 2 * y))


def poisson_nll_loss(x, y, log_input=True, full=False, eps=1e-8):
    constant = (y + 0.5) * mp.log(y) - y + mp.log(2 * mp.pi) / 2 if full and y > 1 else 0
    if log_input:
        return mp.exp(x) - y * x + constant, mp.exp(x) - y
    return x - y * mp.log(x + eps) + constant, 1 - y / (x + eps)


def gaussian_nll_loss(x, y, var, full=False, eps=1e-6):
    """Value, and the gradient by input and variance."""
    d, v = x - y, max(var, mp.mpf(eps))
    value = (mp.log(v) + d * d / v + (mp.log(2 * mp.pi) if full else 0)) / 2
    return value, d / v, (1 / v - d * d / v**2) / 2
