"""Every public function and dtype against `fastloss.reference`, for ``python -m fastloss``.

Each result is compared with the float64 reference on the same stored input, and its distance counted as a
share of what `bounds` allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastloss
from fastloss import bounds, reference
from fastloss._report import optional, progress
from fastloss.losses import CLASSES

Array = NDArray[Any]
LossCase = tuple[Array, Array, dict[str, Any]]  # input, target and options

ARRAY_FUNCTIONS = (
    "logsumexp",
    "softmax",
    "log_softmax",
    "sigmoid",
    "logsigmoid",
    "entropy",
    "entropy_from_logits",
    "softmax_vjp",
    "log_softmax_vjp",
    "sigmoid_vjp",
)

#: Losses of a label that are a function of its cross-entropy, with some of its parameters.
HEADS: dict[str, tuple[dict[str, Any], ...]] = {
    "focal_loss": ({"gamma": 0.5}, {"gamma": 2.0}, {"gamma": 3.5}),
    "generalized_cross_entropy": ({"q": 0.7}, {"q": 1.0}),
    "poly_loss": ({"epsilon": 1.0}, {"epsilon": -0.5}),
}

LINEAR = "linear_cross_entropy"
FUNCTIONS = (*ARRAY_FUNCTIONS, *CLASSES, LINEAR)

#: Shape and class axis: few classes, two blocks of classes, a strided class axis.
SHAPES = (((60, 10), 1), ((6, 2500), 1), ((4, 5, 33), 1))


@dataclass
class Outcome:
    """The largest shares of the bounds that one function takes in one dtype, and what went wrong."""

    function: str
    dtype: str
    value: float = 0.0
    gradient: float | None = None
    hessian: float | None = None  # its diagonal, and its product with a vector
    errors: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether every result was within its bound."""
        derivatives = max(self.gradient or 0.0, self.hessian or 0.0)
        return not self.errors and self.value <= 1 and derivatives <= 1


def share(result: Array, expected: Array, bound: Array) -> float:
    """Return the largest share of its bound that a result takes; inf where the shape is wrong."""
    if result.shape != np.shape(expected):
        return np.inf
    if result.dtype.itemsize == 2:
        bound = bounds.rounded(bound, expected, result.dtype)
    overflow = bounds.largest(result.dtype) * (1 - bounds.unit(result.dtype))
    return float(bounds.shares(result, expected, bound, overflow).max(initial=0.0))


def computed(dtype: Any) -> type:
    """Return what a dtype is computed in."""
    return np.float64 if dtype is np.float64 else np.float32


def logits(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Make flat, ordinary and confident rows; the first row masks its last class."""
    row = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    x: Array = rng.standard_normal(shape) * np.array([0.1, 1.0, 6.0, 40.0])[row % 4]
    x[0, -1] = -np.inf
    return np.asarray(x, dtype)


def array_cases(function: str, dtype: Any) -> Iterator[tuple[Array, dict[str, Any]]]:
    """Yield inputs and keywords for an array function."""
    rng = np.random.default_rng(20)
    if function in ("sigmoid", "logsigmoid"):
        yield (rng.standard_normal(2000) * 20).astype(dtype), {}
        return
    if function == "sigmoid_vjp":
        p, g = reference.sigmoid(rng.standard_normal(2000) * 8), rng.standard_normal(2000)
        yield p.astype(dtype), {"grad_output": as_computed(g, dtype)}
        return
    for shape, axis in SHAPES:
        x = logits(rng, shape, dtype)
        for axes in (axis, None, (0, 1)) if not function.endswith("_vjp") else (axis,):
            options: dict[str, Any] = {"axis": axes}
            given = x
            if function.endswith("_vjp"):
                given = getattr(reference, function.removesuffix("_vjp"))(x, axis).astype(dtype)
                options["grad_output"] = as_computed(rng.standard_normal(shape), dtype)
            elif function == "entropy":
                given = reference.softmax(x, axes).astype(dtype)
            yield given, options


def class_cases(function: str, dtype: Any) -> Iterator[LossCase]:
    """Yield cases of the losses with a class axis."""
    rng = np.random.default_rng(21)
    for shape, axis in SHAPES:
        classes = shape[axis]
        x = logits(rng, shape, dtype)
        if function == "kl_div_with_logits":
            teacher = (x + rng.standard_normal(shape)).astype(dtype)
            yield x, teacher, {"axis": axis, "temperature": 2.0}
            labels = rng.integers(0, classes - 1, (shape[0], *shape[2:]))
            yield x, teacher, {"axis": axis, "temperature": 0.5, "alpha": 0.25, "target": labels}
            continue
        if function == "multinomial_nll_loss":
            counts = rng.poisson(2.0, shape).astype(np.float64)
            counts[0, -1] = 0
            for full in (False, True):
                yield x, counts, {"axis": axis, "full": full}
            yield x, counts, {"axis": axis, "z_loss": 0.01, "softcap": 20.0}
            continue
        target = rng.integers(0, classes - 1, (shape[0], *shape[2:]))
        weight = rng.uniform(0.5, 2.0, classes)
        if function == "nll_loss":
            yield x, target, {"axis": axis, "weight": weight}
            continue
        if function in HEADS:
            for parameter in HEADS[function]:
                yield x, target, {"axis": axis, **parameter}
                yield (
                    x,
                    target,
                    {"axis": axis, "weight": weight, **parameter, "z_loss": 0.01, "softcap": 20.0},
                )
            continue
        yield x, target, {"axis": axis}
        yield x, target, {"axis": axis, "z_loss": 0.01}
        yield x, target, {"axis": axis, "scale": 0.75}
        yield x, target, {"axis": axis, "scale": weight, "bias": weight - 1, "softcap": 20.0}
        skipped, holed = target.copy(), x.copy()
        skipped[1], holed[1] = -100, np.nan
        yield holed, skipped, {"axis": axis, "weight": weight}
        soft = np.moveaxis(rng.dirichlet(np.ones(classes), target.shape), -1, axis)
        soft[0, -1] = 0.0
        soft /= soft.sum(axis, keepdims=True)
        yield x, soft, {"axis": axis, "weight": weight}
        for q in (target, soft):  # mass on a masked class: inf
            yield x, q, {"axis": axis, "weight": weight, "label_smoothing": 0.1}
            yield x, q, {"axis": axis, "label_smoothing": 0.1, "z_loss": 0.01, "softcap": 20.0}


def element_cases(function: str, dtype: Any) -> Iterator[LossCase]:
    """Yield cases of the losses without classes, on 40 samples of 50 elements."""
    rng = np.random.default_rng(22)
    shape = (40, 50)
    x = (rng.standard_normal(shape) * 8).astype(dtype)
    soft, hard = rng.uniform(size=shape), rng.integers(0, 2, shape)
    weight = rng.uniform(0.5, 2.0, shape)
    if function == "binary_cross_entropy_with_logits":
        yield x, hard, {}
        yield x, soft, {"weight": weight}
        yield x, soft, {"pos_weight": weight}
    elif function == "binary_cross_entropy":
        p = rng.uniform(size=shape).astype(dtype)
        p[:2] = [[0.0], [1.0]]
        yield p, hard, {}
        yield p, soft, {"weight": weight}
    elif function == "kl_div":
        soft[0], log_soft = 0.0, np.log(soft)
        yield x, soft, {"unchecked": True}
        log_soft[0] = -np.inf
        yield x, log_soft, {"log_target": True, "unchecked": True}
    elif function == "sigmoid_focal_loss":
        yield x, hard, {}
        yield x, soft, {"gamma": 1.5, "alpha": 0.25}
    elif function == "soft_margin_loss":
        yield x, 2.0 * hard - 1, {}
    elif function == "multilabel_soft_margin_loss":
        yield x, soft, {"weight": weight}
    elif function == "poisson_nll_loss":
        yield x, rng.poisson(2.0, shape), {"full": True}
        yield np.abs(x), rng.poisson(2.0, shape), {"log_input": False}
    elif function == "gaussian_nll_loss":
        yield x, soft, {"var": weight, "full": True}
    else:
        yield x, rng.standard_normal(shape) * 8, {}


def check_array(outcome: Outcome, dtype: Any) -> None:
    """Compare an array function with its reference."""
    ours, theirs = getattr(fastloss, outcome.function), getattr(reference, outcome.function)
    of = bounds.vjp if outcome.function.endswith("_vjp") else bounds.array_function
    for x, options in array_cases(outcome.function, dtype):
        bound = bounds.against_reference(of, computed(dtype), outcome.function, x, **options)
        outcome.value = max(outcome.value, share(ours(x, **options), theirs(x, **options), bound))


def check_loss(outcome: Outcome, dtype: Any) -> None:
    """Compare a loss as function and as class, value and derivatives, with its reference."""
    ours, theirs = getattr(fastloss, outcome.function), getattr(reference, outcome.function)
    loss_class = getattr(fastloss, CLASSES[outcome.function].__name__)
    with_classes = ("cross_entropy", "nll_loss", "multinomial_nll_loss", "kl_div_with_logits", *HEADS)
    outcome.gradient = outcome.hessian = 0.0
    cases = class_cases if outcome.function in with_classes else element_cases
    for x, target, given in cases(outcome.function, dtype):
        args = x, as_computed(target, dtype)
        options = {
            name: as_computed(option, dtype) if isinstance(option, np.ndarray) else option
            for name, option in given.items()
        }
        of_call: tuple[str, ...] = ("var", "target")
        beside = {name: options.pop(name) for name in of_call if name in options}
        loss = loss_class(**options, reduction="none")
        rng = np.random.default_rng(23)
        weight = rng.uniform(0.5, 2.0, np.shape(loss(*args, **beside)))
        vector = as_computed(rng.standard_normal(x.shape), dtype)
        for extra in (beside, {**beside, "sample_weight": as_computed(weight, dtype)}):
            every = {**options, "reduction": "none", **extra}
            expected = theirs(*args, **every, hessian="exact")
            named = computed(dtype), outcome.function, *args
            bound = bounds.against_reference(bounds.loss, *named, **every, hessian="exact")
            value, grad, hess = loss.value_grad_hess(*args, **extra)
            for result in (value, loss(*args, **extra), ours(*args, **every)):
                outcome.value = max(outcome.value, share(result, expected[0], bound.value))
            outcome.gradient = max(outcome.gradient, share(grad, expected[1], bound.grad))
            product = reference.hessp(outcome.function, *args, vector, **every)
            off = bounds.against_reference(bounds.hessp, *named, vector, **every)
            outcome.hessian = max(
                outcome.hessian,
                share(hess, expected[2], bound.hess),
                share(loss.hessp(*args, vector=vector, **extra), product, off),
            )
            with fastloss.checking():  # which compares
                for reduction in ("mean", "sum"):
                    loss_class(**options, reduction=reduction).value_and_grad(*args, **extra)


def check_linear(outcome: Outcome, dtype: Any) -> None:
    """Compare linear cross-entropy as function and as class, in chunks, with its reference."""
    rng = np.random.default_rng(22)
    x, w, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((50, 24), (40, 24), 40))
    labels = rng.integers(0, 40, 50)
    labels[7] = -100
    outcome.gradient = 0.0
    cases: tuple[dict[str, Any], ...] = ({}, {"label_smoothing": 0.1}, {"z_loss": 1e-3, "softcap": 5.0})
    for options in cases:
        every = {**options, "reduction": "none", "linear_bias": bias}
        expected = reference.linear_cross_entropy(x, w, labels, **every)
        bound = bounds.against_reference(bounds.linear, computed(dtype), x, w, labels, **every)
        loss: Any = fastloss.LinearCrossEntropyLoss(**options, reduction="none", chunk=16)
        names = ("input", "linear_weight", "linear_bias")
        value, grads = loss.value_and_grad(x, w, labels, linear_bias=bias, wrt=names)
        for result in (value, fastloss.linear_cross_entropy(x, w, labels, **every)):
            outcome.value = max(outcome.value, share(result, expected[0], bound.value))
        for result, want, off in zip(grads, expected[1:], bound[1:], strict=True):
            outcome.gradient = max(outcome.gradient, share(result, want, off))


def as_computed(array: Array, dtype: Any) -> Array:
    """Convert a float argument to the dtype computed in, so that both sides read the same."""
    return array.astype(computed(dtype)) if array.dtype.kind == "f" else array


def check_all() -> Iterator[Outcome]:
    """Check every function and dtype."""
    dtypes: list[Any] = [np.float64, np.float32, np.float16]
    ml_dtypes = optional("ml_dtypes")
    if ml_dtypes is not None:
        dtypes.append(ml_dtypes.bfloat16)
    for function in FUNCTIONS:
        for dtype in dtypes:
            outcome = Outcome(function, np.dtype(dtype).name)
            progress(f"checking {function} {outcome.dtype}")
            check = {LINEAR: check_linear}.get(function, check_loss if function in CLASSES else check_array)
            try:
                check(outcome, dtype)
            except Exception as error:  # a report, not a traceback, whatever the function raised
                outcome.errors.append(f"{type(error).__name__}: {error}")
            yield outcome
