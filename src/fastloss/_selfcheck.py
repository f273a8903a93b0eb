"""Every public function and dtype against `fastloss.reference`, for ``python -m fastloss``.

Each result is compared with the float64 reference on the same stored input. The distance is counted
in ulp of the result's dtype at max(|expected|, scale), where scale is the size of the numbers that
the result has to be computed from. With p = softmax(x), d = x - max(x), spread = sum p_j |d_j|:

- softmax and gradient entries: p_j (1 + |d_j| + spread), as exp passes on d_j's rounding error;
- a loss sum k_j (logsumexp(x) - x_j): sum k_j (spread + (1 - p_j) |d_j|), small on confident rows;
- sums of terms with different signs: the largest term.

`LIMITS` holds the ulp allowed. In float64 the reference rounds as often as the result, so twice as
much is allowed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastloss
from fastloss import reference
from fastloss._report import optional, progress

Array = NDArray[Any]

#: Spacing at 1 and smallest normal number.
FORMATS = {
    "float64": (2.0**-52, 2.0**-1022),
    "float32": (2.0**-23, 2.0**-126),
    "float16": (2.0**-10, 2.0**-14),
    "bfloat16": (2.0**-7, 2.0**-126),
}

#: Function: ulp allowed in the value and in the gradient.
LIMITS = {
    "logsumexp": (3, 0),
    "softmax": (5, 0),
    "log_softmax": (3, 0),
    "sigmoid": (2, 0),
    "logsigmoid": (2, 0),
    "entropy": (4, 0),
    "entropy_from_logits": (4, 0),
    "cross_entropy": (4, 5),
    "nll_loss": (3, 3),
    "binary_cross_entropy_with_logits": (4, 4),
    "binary_cross_entropy": (4, 4),
    "kl_div": (4, 4),
    "mse_loss": (3, 3),
    "multinomial_nll_loss": (4, 5),
}

LOSSES = {
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "binary_cross_entropy": "BCELoss",
    "kl_div": "KLDivLoss",
    "mse_loss": "MSELoss",
    "multinomial_nll_loss": "MultinomialNLLLoss",
}

#: Shape and class axis: few classes, two blocks of classes, a strided class axis.
SHAPES = (((60, 10), 1), ((12, 1500), 1), ((4, 5, 33), 1))


@dataclass
class Outcome:
    """The worst distances of one function and dtype, in ulp, and what went wrong."""

    function: str
    dtype: str
    value: float = 0.0
    gradient: float | None = None
    errors: list[str] = field(default_factory=list)

    @property
    def limits(self) -> tuple[int, int]:
        """The ulp allowed in the value and in the gradient."""
        value, gradient = LIMITS[self.function]
        factor = 2 if self.dtype == "float64" else 1
        return value * factor, gradient * factor

    @property
    def agrees(self) -> bool:
        """Whether every result was within its limit."""
        value, gradient = self.limits
        return not self.errors and self.value <= value and (self.gradient or 0.0) <= gradient


@dataclass
class LossCase:
    """Arguments of a loss, and the scales of its value and gradient before `sample_weight`."""

    input: Array
    target: Array
    options: dict[str, Any]
    value_scale: Array | float = 0.0
    grad_scale: Array | float = 0.0


def ulps(result: Array, expected: Array, scale: Array | float) -> float:
    """Return the largest |result - expected| in ulp of result's dtype at max(|expected|, scale)."""
    epsilon, tiny = FORMATS[result.dtype.name]
    got: Array = np.asarray(result, np.float64)
    if got.shape != np.shape(expected):
        return np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = expected.astype(result.dtype).astype(np.float64)
        expected = np.where(np.isinf(rounded), rounded, expected)
        distance = np.abs(got - expected)
        size = np.maximum(np.abs(expected), scale)
    finite = np.isfinite(expected)
    exponent = np.frexp(np.maximum(np.where(np.isfinite(size), size, tiny), tiny))[1]
    distance = np.where(finite, distance / np.ldexp(epsilon, exponent - 1), np.inf)
    distance[np.isnan(distance)] = np.inf
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    flushed = (got == 0) & (np.abs(expected) < tiny)
    return float(np.max(np.where(same | flushed, 0.0, distance), initial=0.0))


def scales(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """Return p, |d| (0 for a masked class) and the spread sum p |d| of each row of logits.

    A probability below the smallest normal number may become 0, which costs as much as one ulp of
    `floor`: p is not less than that.
    """
    wide = np.nan_to_num(x.astype(np.float64), nan=0.0, neginf=-np.inf)
    d = wide - wide.max(axis, keepdims=True)
    p = np.exp(d)
    p /= p.sum(axis, keepdims=True)
    epsilon, tiny = FORMATS["float64" if x.dtype == np.float64 else "float32"]
    floor = tiny / epsilon
    p = np.maximum(p, floor)
    size = np.where(np.isfinite(d), -d, 0.0)
    return p, size, (p * size).sum(axis, keepdims=True)


def logits(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Make flat, ordinary and confident rows; the first row masks its last class."""
    row = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    x: Array = rng.standard_normal(shape) * np.array([0.1, 1.0, 6.0, 40.0])[row % 4]
    x[0, -1] = -np.inf
    return np.asarray(x, dtype)


def array_cases(function: str, dtype: Any) -> Iterator[tuple[Array, dict[str, Any], Array | float]]:
    """Yield inputs, keywords and scales for an array function."""
    rng = np.random.default_rng(20)
    if function in ("sigmoid", "logsigmoid"):
        yield (rng.standard_normal(2000) * 20).astype(dtype), {}, 0.0
        return
    for shape, axis in SHAPES:
        x = logits(rng, shape, dtype)
        wide = x.astype(np.float64)
        p, size, spread = scales(x, axis)
        scale: Array | float
        if function == "logsumexp":
            scale = np.maximum(np.abs(wide.max(axis)), spread.squeeze(axis))
        elif function == "softmax":
            scale = p * (1 + size + spread)
        elif function == "log_softmax":
            scale = np.maximum(size, spread)
        elif function == "entropy_from_logits":
            scale = (p * size * (1 + size + spread)).sum(axis)
        else:
            x, scale = p.astype(dtype), 0.0  # entropy: terms of one sign
        yield x, {"axis": axis}, scale


def logits_case(
    x: Array, target: Array, k: Array, axis: int, options: dict[str, Any], *, hard: bool
) -> LossCase:
    """Make a case of sum k_j (logsumexp(x) - x_j); `hard`: one unsmoothed target class a row."""
    p, size, spread = scales(x, axis)
    value = (k * (spread + (1 - p) * size)).sum(axis)
    grad = k.sum(axis, keepdims=True) * p * (1 + size + spread)
    if hard:  # the target's gradient is minus the sum of the others'
        others = np.where(k > 0, 0.0, grad).sum(axis, keepdims=True)
        grad = np.where(k > 0, others, grad)
    else:
        grad += k
    return LossCase(x, target, {"axis": axis, **options}, value, grad)


def class_cases(function: str, dtype: Any) -> Iterator[LossCase]:
    """Yield cases of the losses with a class axis."""
    rng = np.random.default_rng(21)
    for shape, axis in SHAPES:
        classes = shape[axis]
        x = logits(rng, shape, dtype)
        if function == "multinomial_nll_loss":
            counts = rng.poisson(2.0, shape).astype(np.float64)
            counts[0, -1] = 0
            for full in (False, True):
                case = logits_case(x, counts, counts, axis, {"full": full}, hard=False)
                if full:
                    case.value_scale += counts.sum(axis) * np.log(counts.sum(axis) + 1)
                yield case
            continue
        target = rng.integers(0, classes - 1, (shape[0], *shape[2:]))
        per_class = (1,) * axis + (classes,) + (1,) * (len(shape) - axis - 1)
        weight = rng.uniform(0.5, 2.0, classes)
        w = weight.reshape(per_class)
        onehot = (np.expand_dims(target, axis) == np.arange(classes).reshape(per_class)) * 1.0
        if function == "nll_loss":
            yield LossCase(x, target, {"axis": axis, "weight": weight})
            continue
        yield logits_case(x, target, onehot, axis, {}, hard=True)
        skipped, holed, kept = target.copy(), x.copy(), onehot.copy()
        skipped[1], holed[1], kept[1] = -100, np.nan, 0.0
        yield logits_case(holed, skipped, kept * w, axis, {"weight": weight}, hard=True)
        soft = rng.dirichlet(np.ones(classes), target.shape)
        soft = np.moveaxis(soft, -1, axis)
        soft[0, -1] = 0.0
        yield logits_case(x, soft, soft * w, axis, {"weight": weight}, hard=False)
        for t, q in ((target, onehot), (soft, soft)):  # mass on a masked class: inf
            options = {"weight": weight, "label_smoothing": 0.1}
            yield logits_case(x, t, (0.9 * q + 0.1 / classes) * w, axis, options, hard=False)


def element_cases(function: str, dtype: Any) -> Iterator[LossCase]:
    """Yield cases of the losses without classes, on 40 samples of 50 elements."""
    rng = np.random.default_rng(22)
    shape = (40, 50)
    x = (rng.standard_normal(shape) * 8).astype(dtype)
    soft, hard = rng.uniform(size=shape), rng.integers(0, 2, shape)
    weight = rng.uniform(0.5, 2.0, shape)
    wide = x.astype(np.float64)
    if function == "binary_cross_entropy_with_logits":
        yield LossCase(x, hard, {})
        yield LossCase(x, soft, {"weight": weight}, 0.0, weight)
        yield LossCase(x, soft, {"pos_weight": weight}, 0.0, 1 + weight)
    elif function == "binary_cross_entropy":
        p = rng.uniform(size=shape).astype(dtype)
        p[:2] = [[0.0], [1.0]]
        yield LossCase(p, hard, {})
        yield LossCase(p, soft, {"weight": weight})
    elif function == "kl_div":
        soft[0], log_soft = 0.0, np.log(soft)
        largest = soft * np.maximum(np.abs(log_soft), np.abs(wide))
        yield LossCase(x, soft, {}, largest)
        log_soft[0] = -np.inf
        largest = np.where(soft > 0, largest, 0.0)
        yield LossCase(x, log_soft, {"log_target": True}, largest)
    else:
        yield LossCase(x, rng.standard_normal(shape) * 8, {})


def check_array(outcome: Outcome, dtype: Any) -> None:
    """Compare an array function with its reference."""
    ours, theirs = getattr(fastloss, outcome.function), getattr(reference, outcome.function)
    for x, options, scale in array_cases(outcome.function, dtype):
        outcome.value = max(outcome.value, ulps(ours(x, **options), theirs(x, **options), scale))


def check_loss(outcome: Outcome, dtype: Any) -> None:
    """Compare a loss as function and as class, value and gradient, with its reference."""
    ours, theirs = getattr(fastloss, outcome.function), getattr(reference, outcome.function)
    loss_class = getattr(fastloss, LOSSES[outcome.function])
    pointwise = outcome.function not in ("cross_entropy", "nll_loss", "multinomial_nll_loss")
    outcome.gradient = 0.0
    for case in (element_cases if pointwise else class_cases)(outcome.function, dtype):
        for weighted in (False, True):
            args = case.input, as_computed(case.target, dtype)
            options = {
                name: as_computed(option, dtype) if isinstance(option, np.ndarray) else option
                for name, option in case.options.items()
            }
            loss = loss_class(**options, reduction="none")
            expected = theirs(*args, **options, reduction="none")
            weight = np.ones_like(expected[0])
            if weighted:
                rng = np.random.default_rng(23)
                weight = as_computed(rng.uniform(0.5, 2.0, weight.shape), dtype)
                expected = theirs(*args, **options, reduction="none", sample_weight=weight)
            extra = {"sample_weight": weight} if weighted else {}
            wide = weight.astype(np.float64)
            value_scale = case.value_scale * wide
            axis = options.get("axis")
            grad_scale = case.grad_scale * (wide if axis is None else np.expand_dims(wide, axis))
            value, grad = loss.value_and_grad(*args, **extra)
            again = ours(*args, **options, reduction="none", **extra)
            for result in (value, loss(*args, **extra), again):
                outcome.value = max(outcome.value, ulps(result, expected[0], value_scale))
            outcome.gradient = max(outcome.gradient, ulps(grad, expected[1], grad_scale))
            for reduction in ("mean", "sum"):  # compared by fastloss.checking()
                loss_class(**options, reduction=reduction).value_and_grad(*args, **extra)


def as_computed(array: Array, dtype: Any) -> Array:
    """Convert a float argument to the dtype computed in, so that both sides read the same."""
    computed = np.float64 if dtype is np.float64 else np.float32
    return array.astype(computed) if array.dtype.kind == "f" else array


def check_all() -> Iterator[Outcome]:
    """Check every function and dtype."""
    dtypes: list[Any] = [np.float64, np.float32, np.float16]
    ml_dtypes = optional("ml_dtypes")
    if ml_dtypes is not None:
        dtypes.append(ml_dtypes.bfloat16)
    for function in LIMITS:
        for dtype in dtypes:
            outcome = Outcome(function, np.dtype(dtype).name)
            progress(f"checking {function} {outcome.dtype}")
            check = check_loss if function in LOSSES else check_array
            try:
                check(outcome, dtype)
                with fastloss.checking():
                    check(Outcome(function, outcome.dtype), dtype)
            except Exception as error:  # a report, not a traceback, whatever the function raised
                outcome.errors.append(f"{type(error).__name__}: {error}")
            yield outcome
