"""Calibration: a temperature, or a scale and a bias for each class, that make probabilities of logits honest.

a) A temperature T = 1/β is where the slope by β of the cross-entropy of β x is 0. One pass over the logits,
   which reads them times β, gives Σ p_j d_j and Σ p_j d_j² with d = β (x - max x), and with them the slope
   and its derivative.
b) Of many samples the slope is that of a few of them plus a difference, which is small and smooth: a pass
   over all samples corrects the difference, and two passes or three make the temperature exact.
c) Vector scaling is Newton's method, whose steps are solved for by conjugate gradients. Samples go through
   in blocks, in float64, and the sums of the blocks are added in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from . import _kernels
from ._arguments import (
    FLOAT64,
    Array,
    Shape,
    as_array,
    class_axis,
    compute_dtype,
    convert,
    memory_axes,
    sample_operand,
    widened,
    with_class_axis,
)
from ._call import Call
from ._errors import renamed, shortening
from ._runtime import get_num_threads, threads, threads_for
from .losses import CrossEntropyLoss
from .losses._plan import exponent

__all__ = ["temperature", "vector_scaling"]

Result = TypeVar("Result")
Slope = tuple[float, float]  # a first derivative and a second

FEW_CLASSES = 64  # they stand class by class where NumPy works on them
EACH = 31  # one sample of so many is looked at first: odd, in case that samples recur
ENOUGH = 2**18  # elements, up to which all samples are looked at
BLOCK = 2**17  # elements of a block
FAR = 64  # exponents of margins beyond which logits are taken in other units
FILLED = {"logits": "-numpy.inf", "target": "-100", "sample_weight": "0"}  # with what does not count
LEAST = 2.0**-200  # β in parts of its upper bound, below which it is 0


@shortening
def temperature(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    axis: int | None = None,
) -> float:
    """Return the temperature T of which softmax(logits / T) has the least cross-entropy.

    Parameters
    ----------
    %(calibration)s

    Returns
    -------
    float
        The temperature, exact to 1e-10 of itself also of float32. 0.0 if every label has the largest logit:
        the smaller, the better. inf if no temperature is better than equal probabilities, as where larger
        logits are less likely. 1.0 if none makes a difference.

    Raises
    ------
    %(raises_of_calibration)s

    See Also
    --------
    vector_scaling : A scale and a bias for each class.
    CrossEntropyLoss : What is minimised, its mean.

    References
    ----------
    Guo et al., "On calibration of modern neural networks" (2017), section 4.2.

    Examples
    --------
    >>> import fastloss
    >>> logits = [[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]]
    >>> T = fastloss.temperature(logits, [0, 0, 0, 1])
    >>> fastloss.softmax([4.0 / T, 0.0]).round(6)
    array([0.75, 0.25])
    """
    samples = _Samples(logits, target, sample_weight, axis)
    found = _temperature(samples)
    if not samples.margin.any():  # a limit, whatever the units
        return found
    with np.errstate(all="ignore"):
        return float(np.ldexp(found, samples.unit))


@shortening
def vector_scaling(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    axis: int | None = None,
) -> tuple[Array, Array]:
    """Return the scale s and bias b of each class of which softmax(s logits + b) has the least cross-entropy.

    The least over all scales, also negative ones, exact to 1e-10 where it is well determined. Where it is at
    infinity, as of a class that no sample is of, or where classes can be told apart without an error, the
    result is finite, and its cross-entropy less than 1e-7 above the least.

    Parameters
    ----------
    %(calibration)s

    Returns
    -------
    scale : ndarray of shape (C,)
        Float64 factors of the logits.
    bias : ndarray of shape (C,)
        Float64 terms of the logits; their sum is 0, for they count up to a number that all share.

    Raises
    ------
    %(raises_of_calibration)s

    See Also
    --------
    temperature : One number for all classes.
    CrossEntropyLoss : What is minimised, its mean.

    References
    ----------
    Guo et al., "On calibration of modern neural networks" (2017), section 4.2.

    Examples
    --------
    >>> import fastloss
    >>> logits = [[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [0.0, 4.0], [0.0, 4.0]]
    >>> scale, bias = fastloss.vector_scaling(logits, [0, 0, 0, 1, 1, 1])
    >>> fastloss.softmax(scale * logits[0] + bias).round(6)
    array([0.666667, 0.333333])
    """
    samples = _Samples(logits, target, sample_weight, axis)
    start = _temperature(samples)
    classes = samples.x.shape[1]
    scale = np.full(classes, 1 / start if start else 1.0)
    scale, bias = _newton(_Blocks(samples), np.stack([scale, np.zeros(classes)]))
    with np.errstate(all="ignore"):
        return np.ldexp(scale, -samples.unit), bias - bias.mean()


class _Samples:
    """Logits as (outer, classes, inner), and what is known of each sample, (outer, inner).

    Of a label the margin is w (x_t - max x) and the mass w; of probabilities they are w Σ q_j (x_j - max x)
    and w Σ q_j. They are 0 for what does not count. A mass of None is 1 each. Weights are in units of about
    the largest; where margins are extreme, logits are in those of 2 to the power `unit`.
    """

    def __init__(
        self, logits: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None, axis: int | None
    ) -> None:
        for name, value in (("logits", logits), ("target", target), ("sample_weight", sample_weight)):
            if isinstance(value, np.ma.MaskedArray):  # there is no mask to pass
                raise TypeError(f"{name}: got a masked array; pass its .filled({FILLED[name]})")
        x = as_array(logits, "logits")
        dtype = compute_dtype(x, "logits")
        place = class_axis(x.shape, axis, "logits")
        x = convert(widened(x), dtype)
        loss: CrossEntropyLoss[float] = CrossEntropyLoss(axis=place, unchecked=True)
        with renamed(("mask", "ignore_index"), input="logits"):
            _, kernel, _, _ = loss._prepared(Call(loss.options(), x, target, with_grad=False), place)
        self.shape: Shape = x.shape[:place] + x.shape[place + 1 :]
        x, outer, classes, inner, _ = with_class_axis(x, memory_axes(x, place), dtype)
        self.x: Array = x.reshape(outer, classes, inner)
        self.weight = None if sample_weight is None else self._weights(sample_weight).reshape(outer, inner)
        self.mass, self.ignored = self.weight, np.zeros((outer, inner), np.bool_)
        if "labels" in kernel:
            self.target: Array = kernel["labels"].reshape(outer, inner)
            self.ignored = self.target == -100
            if self.ignored.any():
                self.mass = np.where(self.ignored, 0.0, 1.0 if self.weight is None else self.weight)
        else:
            self.target = widened(kernel["coefficient"]).reshape(self.x.shape)
            self.mass = np.empty((outer, inner))
        self.margin, self.unit = np.empty((outer, inner)), 0
        if not self._measured():
            self._scale(FAR)  # differences may have overflown
            if not self._measured():
                self._refuse()
        size = exponent(self.margin)
        if abs(size) > FAR:
            self._scale(size)
            self._measured()
        self.total = float(outer * inner if self.mass is None else self.mass.sum())
        if not self.total > 0:
            raise ValueError("target: no sample counts, wanted one that is not ignored and has a weight")

    def _weights(self, sample_weight: ArrayLike) -> Array:
        """The caller's, in float64, by a power of two."""
        weight = sample_operand(sample_weight, self.shape, FLOAT64)
        wrong = ~((weight >= 0) & (weight < math.inf))
        if wrong.any():
            value = weight[wrong][0]
            raise ValueError(f"sample_weight[{self._place(wrong)}] = {value}, wanted finite, at least 0")
        return np.asarray(np.ldexp(np.ascontiguousarray(weight), -exponent(weight)))

    def _scale(self, power: int) -> None:
        """Take the logits in larger units, by 2 to a power; masks may become -inf where they are smaller."""
        with np.errstate(all="ignore"):
            self.x = np.ldexp(self.x.astype(np.float64), -power)
        self.unit += power

    def _measured(self) -> bool:
        """Set margins and masses; whether no temperature makes a loss infinite that counts."""
        return all(of_blocks(self._measure, self.x.shape, BLOCK))

    def _measure(self, i: slice, j: slice) -> bool:
        """The same of a block."""
        x = self.x[i, :, j]
        top = _maximum(x)
        margin, mass = self.margin[i, j], None if self.mass is None else self.mass[i, j]
        with np.errstate(all="ignore"):
            if self.target.ndim == 2:
                labels = np.maximum(self.target[i, j], 0).astype(np.int64)[:, None]
                np.subtract(np.take_along_axis(x, labels, 1)[:, 0], top, out=margin, dtype=np.float64)
                if mass is not None:
                    margin *= mass
            else:
                assert mass is not None
                q = self.target[i, :, j].astype(np.float64)
                below = np.subtract(x, top[:, None], dtype=np.float64)
                np.sum(np.multiply(q, below, where=q > 0, out=np.zeros_like(q)), 1, out=margin)
                weight = 1.0 if self.weight is None else self.weight[i, j]
                margin *= weight
                np.multiply(q.sum(1), weight, out=mass)
                if not (q >= 0).all():
                    raise ValueError("target: got a number below 0 or NaN, wanted probabilities")
        if mass is not None:
            margin[(mass == 0) & ~np.isnan(top)] = 0
            margin[self.ignored[i, j]] = 0
        return bool(np.isfinite(margin).all())

    def _refuse(self) -> None:
        """The first sample that has no finite loss."""
        wrong = ~np.isfinite(self.margin)
        row = self.x.transpose(0, 2, 1)[wrong][0]
        if np.isnan(row).any() or row.max() == math.inf:
            problem = f"has {row.max()}, wanted finite logits, and -inf for masked classes"
        elif row.max() == -math.inf:
            problem = "has -inf in all classes, wanted one that is not masked"
        else:
            problem = "has -inf where its target is, and an infinite loss at every temperature"
        raise ValueError(f"logits: sample [{self._place(wrong)}] {problem}")

    def spread(self) -> float:
        """The largest difference of two logits of a sample that counts, but for masked classes."""
        top = self.x.max(1, keepdims=True)
        spread = top[:, 0].astype(np.float64) - np.where(self.x == -math.inf, top, self.x).min(1)
        return float((spread if self.mass is None else spread[self.mass > 0]).max())

    def _place(self, wrong: Array) -> str:
        return ", ".join(map(str, np.unravel_index(int(np.argmax(wrong)), self.shape)))


def _maximum(x: Array) -> Array:
    """The largest logit of each sample."""
    if x.shape[1] > FEW_CLASSES:
        return np.asarray(x.max(1))
    top: Array = x[:, 0].copy()
    for j in range(1, x.shape[1]):
        np.maximum(top, x[:, j], out=top)
    return top


def of_blocks(work: Callable[[slice, slice], Result], shape: Shape, size: int) -> list[Result]:
    """What `work` gives of each block of (outer, classes, inner), in order; it runs on several threads."""
    outer, classes, inner = shape
    columns = max(1, min(inner, size // classes))
    rows = max(1, size // (classes * columns)) if columns == inner else 1
    blocks = [
        (np.s_[i : i + rows], np.s_[j : j + columns])
        for i in range(0, outer, rows)
        for j in range(0, inner, columns)
    ]

    def alone(block: tuple[slice, slice]) -> Result:
        with threads(1):
            return work(*block)

    if len(blocks) < 2:
        return [alone(block) for block in blocks]
    with ThreadPoolExecutor(min(get_num_threads(), len(blocks))) as pool:
        return list(pool.map(alone, blocks))


# ---------------------------------------------------------------------------------------- temperature


class _Curve:
    """The slope of the mean cross-entropy by β, of all samples or of each `step`-th."""

    def __init__(self, samples: _Samples, step: int = 1) -> None:
        outer, _, inner = samples.x.shape
        i, j = (np.s_[::step], np.s_[:]) if outer > inner else (np.s_[:], np.s_[::step])
        x, margin = samples.x[i, :, j], samples.margin[i, j]
        self.pass_of = with_class_axis(x if step == 1 else np.ascontiguousarray(x), ((), 1), x.dtype)
        self.mass = None if samples.mass is None else samples.mass[i, j].ravel()
        self.total = float(margin.size if self.mass is None else self.mass.sum())
        self.margin = float(margin.sum()) / self.total if self.total else 0.0
        self.moments = np.empty(margin.size), np.empty(margin.size)
        self.left_out: Any = [] if self.mass is None else np.flatnonzero(self.mass == 0)

    def slope(self, beta: float, wide: bool = True) -> Slope:
        """First and second derivative at β, from arithmetic in float64 if `wide`."""
        x = self.pass_of[0]
        first, second = self.moments
        if not wide:
            first, second = (m.view(x.dtype)[: m.size] for m in self.moments)
        _kernels.module.class_pass(
            _kernels.OPS["moments"],
            *self.pass_of,
            threads_for(x.size),
            moments=(first, second),
            input_scale=beta,
            wide=wide and x.dtype != np.float64,
        )
        first[self.left_out] = second[self.left_out] = 0
        scale = 1 / (self.total * beta)
        slope = self._sum(first) * scale - self.margin
        curvature = (self._sum(second) - self._sum(first, first)) * scale / beta
        return (slope, curvature) if wide or math.isfinite(slope) else self.slope(beta)

    def _sum(self, *factors: Array) -> float:
        """Σ of products, in float64: the same bits whatever the threads, as not from BLAS."""
        factors = factors if self.mass is None else (self.mass, *factors)
        if len(factors) == 1:
            return float(np.sum(factors[0], dtype=np.float64))
        return float(np.einsum(",".join("i" * len(factors)), *factors, dtype=np.float64))


def _temperature(samples: _Samples) -> float:
    whole = _Curve(samples)
    if whole.margin == 0:
        return 0.0 if samples.spread() > 0 else 1.0
    bound = math.log(samples.x.shape[1]) / -whole.margin  # the entropy of p is at most log C
    beta, least, exact = min(max(1.0, bound / 1024), bound), LEAST * bound, False
    if samples.x.size > ENOUGH:
        beta, exact = _from_few(whole, _Curve(samples, EACH), beta, least)
    if not exact:
        beta = _root(whole.slope, beta, 1e-8, least)
    equal = beta < 1e-6 * bound and beta * samples.spread() < 1e-12  # probabilities, within rounding
    return math.inf if equal else 1 / beta


def _from_few(whole: _Curve, few: _Curve, start: float, least: float) -> tuple[float, bool]:
    """The β of least cross-entropy, and whether it is exact: by the slope of a few samples, corrected."""
    beta = _root(few.slope, start, 1e-2, least) if few.margin else 0.0
    known: list[tuple[float, Slope]] = []  # differences between the slopes of all and of a few

    def corrected(beta: float) -> Slope:
        slope, difference = few.slope(beta), _interpolated(known, beta)
        return slope[0] + difference[0], slope[1] + difference[1]

    for wide in (False, True, True, True):  # the first need not be exact
        if not beta > least:
            return start, False
        all_samples, some = whole.slope(beta, wide), few.slope(beta)
        known = [*known[-1:], (beta, (all_samples[0] - some[0], all_samples[1] - some[1]))]
        beta = _root(corrected, beta, 1e-8, least)
        error = math.prod((beta / place - 1) ** 2 for place, _ in known)  # that of the interpolation
        if wide and error < 1e-12:
            return beta, True
    return beta or start, False


def _interpolated(known: list[tuple[float, Slope]], x: float) -> Slope:
    """The function through one or two points (place, (value, derivative)), and its derivative."""
    place, (value, slope) = known[-1]
    step = x - place
    if len(known) == 1 or known[0][0] == place:
        return value + slope * step, slope
    other, (other_value, other_slope) = known[0]
    width = other - place
    chord = (other_value - value) / width
    square = (3 * chord - 2 * slope - other_slope) / width
    cube = (slope + other_slope - 2 * chord) / width**2
    return (
        value + step * (slope + step * (square + step * cube)),
        slope + step * (2 * square + step * 3 * cube),
    )


def _root(slope: Callable[[float], Slope], beta: float, accuracy: float, least: float) -> float:
    """Where an increasing slope is 0, by Newton's method inside a bracket; 0 if that is below `least`.

    It is found with the square of `accuracy`, the last step's size in parts of β.
    """
    low, high, reach = 0.0, math.inf, 16.0
    for count in range(1000):
        value, derivative = slope(beta)
        low, high = (beta, high) if value < 0 else (low, beta)
        step = value / derivative if derivative > 0 else math.copysign(math.inf, value)
        if abs(step) <= accuracy * beta:
            return beta - step
        new = min(beta - step, 16 * beta)
        if not low < new < high or (count % 4 == 3 and count > 8):
            if low > 0 and high < math.inf:
                new = math.sqrt(low) * math.sqrt(high)
            else:
                new = beta * reach if low > 0 else beta / reach
                reach = min(reach * reach, 2.0**64)
        if new < least:
            return 0.0
        beta = new
    return beta


# ------------------------------------------------------------------------------------- vector scaling


class _Blocks:
    """The mean cross-entropy of s x + b and its derivatives, by parameters (s, b) of shape (2, C)."""

    loss = CrossEntropyLoss(reduction="sum", axis=1, unchecked=True)

    def __init__(self, samples: _Samples) -> None:
        x, target, weight = samples.x, samples.target, samples.weight
        if x.shape[2] == 1 and x.shape[1] < FEW_CLASSES:  # class by class, which NumPy does faster
            x, target, weight = x.T, target.T, None if weight is None else weight.T
        self.x, self.target, self.weight, self.total = x, target, weight, samples.total
        finite = of_blocks(lambda i, j: bool(np.isfinite(x[i, :, j]).all()), x.shape, BLOCK)
        self.finite = all(finite)

    def _sums(self, work: Callable[[slice, slice], tuple[Any, ...]]) -> list[Any]:
        """The sums over all blocks, by the total weight."""
        parts = zip(*of_blocks(work, self.x.shape, BLOCK), strict=True)
        return [sum(part) / self.total for part in parts]

    def _logits(self, i: slice, j: slice, theta: Array) -> tuple[Array, Array, Array, Array | None]:
        """The block's x, with 0 for what is not finite; s x + b; target and weights."""
        x = np.array(self.x[i, :, j], np.float64, order="C")
        masked = None if self.finite else x == -math.inf
        if masked is not None:
            x[~np.isfinite(x)] = 0
        z = _affine(theta, x)
        if masked is not None:
            z[masked] = -math.inf
        target = self.target[i, j] if self.target.ndim == 2 else self.target[i, :, j]
        return x, z, target, None if self.weight is None else self.weight[i, j]

    def derivatives(self, theta: Array) -> tuple[float, Array, Array]:
        """The value, the gradient, and of the Hessian the diagonals of its four parts: Σ h x², Σ h x, Σ h."""

        def work(i: slice, j: slice) -> tuple[Any, ...]:
            x, z, target, weight = self._logits(i, j, theta)
            value, grad, hess = self.loss.value_grad_hess(z, target, sample_weight=weight, grad_out=z)
            hess_x = hess * x
            return value, _by_class(grad, x), np.stack([*_by_class(hess_x, x), hess.sum((0, 2))])

        value, gradient, diagonal = self._sums(work)
        return float(value), gradient, diagonal

    def product(self, theta: Array, direction: Array) -> Array:
        """The Hessian times a direction."""

        def work(i: slice, j: slice) -> tuple[Any, ...]:
            x, z, target, weight = self._logits(i, j, theta)
            product = self.loss.hessp(z, target, _affine(direction, x), sample_weight=weight)
            return (_by_class(product, x),)

        return np.asarray(self._sums(work)[0])


def _affine(theta: Array, x: Array) -> Array:
    z: Array = theta[0][:, None] * x
    z += theta[1][:, None]
    return z


def _by_class(factor: Array, x: Array) -> Array:
    """Σ factor x and Σ factor, of each class."""
    return np.stack([np.multiply(factor, x).sum((0, 2)), factor.sum((0, 2))])


def _newton(problem: _Blocks, theta: Array) -> Array:
    """The parameters of least value."""
    value, gradient, diagonal = problem.derivatives(theta)
    before, slow = math.inf, 0
    for _ in range(200):
        direction = _solved(partial(problem.product, theta), gradient, diagonal)
        descent = float(np.vdot(gradient, direction))
        far = float(np.abs(direction).max() / (1 + np.abs(theta).max()))
        slow = slow + 1 if descent > 0.1 * before else 0
        if (
            slow > 2 and descent < 1e-8
        ):  # by a factor of e a step, not quadratically: the minimum is at infinity
            return theta
        if descent <= 1e-20:  # the square of the distance, as the Hessian measures it
            return theta - direction
        step = min(1.0, 1 / far)
        while step > 2.0**-30:
            new = problem.derivatives(theta - step * direction)
            if new[0] <= value - 1e-4 * step * descent + 1e-15 * abs(value):
                break
            step /= 2
        else:
            return theta
        theta = theta - step * direction
        value, gradient, diagonal = new
        before = descent
    return theta


def _solved(product: Callable[[Array], Array], right: Array, diagonal: Array) -> Array:
    """The Newton step H⁻¹ g by conjugate gradients, preconditioned by the 2 x 2 blocks of the classes."""
    xx, x, one = diagonal
    # A little more than they are, for one logit in all samples makes a block that has no inverse.
    xx, one = np.where(xx > 0, xx, 1.0) * (1 + 1e-12), one * (1 + 1e-12)
    with np.errstate(all="ignore"):
        inverse = np.stack([one, -x, xx]) / np.maximum(xx * one - x * x, 1e-12 * xx * one)
    inverse[:, ~np.isfinite(inverse).all(0)] = 0

    def preconditioned(r: Array) -> Array:
        return np.stack([inverse[0] * r[0] + inverse[1] * r[1], inverse[1] * r[0] + inverse[2] * r[1]])

    solution, rest = np.zeros_like(right), right.copy()
    z = preconditioned(rest)
    direction, size = z, float(np.vdot(rest, z))
    wanted = size * min(max(size, 1e-12), 1e-2)  # more exactly near the minimum: convergence is quadratic
    for _ in range(2 * right.size):
        if not size > max(wanted, 1e-300):
            break
        image = product(direction)
        curvature = float(np.vdot(direction, image))
        if not curvature > 0:
            break
        step = size / curvature
        solution += step * direction
        rest -= step * image
        rest[1] -= rest[1].mean()  # what rounding leaves where the value does not change
        z = preconditioned(rest)
        size, before = float(np.vdot(rest, z)), size
        direction = z + size / before * direction
    return solution
