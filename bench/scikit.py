"""fastloss beside scikit-learn, where scikit-learn has the thing itself: `python -m bench scikit`.

Its losses (`sklearn._loss`, with gradient, or gradient and diagonal of the Hessian, into arrays that are
there, float labels for scikit-learn and integers for fastloss), its temperature scaling, and logistic
regression, whose models have the same objective. The calls take turns in one process on equal threads;
printed are medians. "memory" is a compiled loop that only moves the arrays: the gradient's time is not below
it, that of gradient and Hessian, three arrays in place of two, not below 1.5 times it.

The exit status is 1 if a ratio is below its target and the time more than 1.5 times what memory allows.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn._loss import HalfMultinomialLoss
from sklearn.calibration import _TemperatureScaling
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

import fastloss

from . import limits
from .neighbours import medians
from .options import ROOT, shared

sys.path.append(str(ROOT / "docs" / "recipes"))
import logistic_regression

SHAPES = [(1_000_000, 3), (100_000, 10), (20_000, 1_000)]
DTYPES = [np.float32, np.float64]
Line = tuple[str, float, float, float, float]  # name, ours, theirs in ms; target; what memory allows


def drawn(shape: tuple[int, int], dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels of the classes' probabilities at 1 / 0.6."""
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal(shape, np.float32)
    return x.astype(dtype), (0.6 * x + rng.gumbel(size=shape).astype(np.float32)).argmax(1)


def close(a: np.ndarray, b: np.ndarray) -> None:
    tolerance = 1e-4 if a.dtype == np.float32 else 1e-9
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def loss_calls(x: np.ndarray, labels: np.ndarray, threads: int) -> dict[str, Callable[[], Any]]:
    """Each returns what is compared."""
    own, theirs = fastloss.CrossEntropyLoss(reduction="none"), HalfMultinomialLoss(n_classes=x.shape[1])
    values, grad, hess = np.empty(len(x), x.dtype), np.empty_like(x), np.empty_like(x)
    given = {
        "y_true": labels.astype(x.dtype),
        "raw_prediction": x,
        "gradient_out": grad,
        "n_threads": threads,
    }
    outs = {"out": values, "grad_out": grad}
    return {
        "gradient": partial(own.value_and_grad, x, labels, **outs),
        "gradient, theirs": partial(theirs.loss_gradient, loss_out=values, **given),
        "Hessian": partial(own.value_grad_hess, x, labels, hess_out=hess, **outs),
        "Hessian, theirs": partial(theirs.gradient_hessian, hessian_out=hess, **given),
    }


def losses(seconds: float, threads: int) -> Iterator[Line]:
    """Of all shapes, dtypes and orders: loss and gradient, gradient and Hessian."""
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        plain, labels = drawn(shape, dtype)
        for order in "CF":
            x = np.asarray(plain, order=order)
            calls = loss_calls(x, labels, threads)
            for name in ("gradient", "Hessian"):
                results = [[a.copy() for a in calls[k]()[-2:]] for k in (name, f"{name}, theirs")]
                for a, b in zip(*results, strict=True):
                    close(a, b)
            moved = SimpleNamespace(inputs=[x], result=np.empty_like(x))
            calls["copy"] = limits.calls(moved, "copy")["streaming copy"]
            ms = {name: us / 1e3 for name, us in medians(calls, seconds).items()}
            for name, target, arrays in (("gradient", 3, 1.0), ("Hessian", 2, 1.5)):
                title = f"{shape[0]:,} x {shape[1]:,}, {np.dtype(dtype)}, {order}: {name}"
                yield title, ms[name], ms[f"{name}, theirs"], target, arrays * ms["copy"]


def turns(calls: list[Callable[[], Any]], times: int) -> list[float]:
    """Median milliseconds of long calls, in turn."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(times):
        for call, of in zip(calls, taken, strict=True):
            begun = time.perf_counter()
            call()
            of.append(1e3 * (time.perf_counter() - begun))
    return [statistics.median(of) for of in taken]


def calibration(seconds: float, threads: int) -> Iterator[Line]:
    """The temperature; vector scaling has no peer, and stands beside scikit-learn's temperature."""
    for (shape, target), dtype in itertools.product((((20_000, 1_000), 30), ((1_000_000, 3), 15)), DTYPES):
        x, labels = drawn(shape, dtype)
        theirs = _TemperatureScaling()
        calls = [partial(f, x, labels) for f in (fastloss.temperature, fastloss.vector_scaling, theirs.fit)]
        assert abs(calls[0]() * calls[2]().beta_ - 1) < 1e-3
        ms = turns(calls, 3)
        title = f"{shape[0]:,} x {shape[1]:,}, {np.dtype(dtype)}: "
        yield f"{title}temperature", ms[0], ms[2], target, 0.0
        yield f"{title}vector scaling", ms[1], ms[2], 0, 0.0


def many_classes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10_000, 32))
    logits = x @ rng.standard_normal((32, 1_000)) / 2
    return x, np.unique((logits + rng.gumbel(size=logits.shape)).argmax(1), return_inverse=True)[1]


def regression(seconds: float, threads: int) -> Iterator[Line]:
    """Logistic regression, by the same method, to about the same objective."""
    images, digits = load_digits(return_X_y=True)
    data = {"digits": (images / 16, digits, 1, 5), "1,000 classes": (*many_classes(), 2, 1)}
    for name, (x, labels, target, times) in data.items():
        objective = logistic_regression.Objective(x, labels, int(labels.max()) + 1, 1.0)
        for solver, peer in (("L-BFGS-B", "lbfgs"), ("Newton-CG", "newton-cg")):
            fit = partial(logistic_regression.fit, x, labels, solver=solver)
            model = LogisticRegression(solver=peer, max_iter=1000)
            ms = turns([fit, partial(model.fit, x, labels)], times)
            weights = fit()[0], np.column_stack([model.coef_, model.intercept_])
            values = [objective.value_and_grad(w.ravel())[0] for w in weights]
            yield f"{name}, {solver} ({values[0]:.7f}, theirs {values[1]:.7f})", ms[0], ms[1], target, 0.0


PARTS = {"losses": losses, "calibration": calibration, "regression": regression}


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", seconds=0.15, threads=fastloss.get_num_threads())


def main(options: argparse.Namespace) -> int:
    """Print a line for each pair, and what is missed."""
    missed = False
    with fastloss.threads(options.threads), threadpool_limits(options.threads):
        for part in (part for part in PARTS if options.rows in part):
            print(f"\n{part:64}{'ms':>9}{'theirs':>10}{'ratio':>8}{'target':>8}{'memory':>9}")
            for name, ours, theirs, target, least in PARTS[part](options.seconds, options.threads):
                wrong = theirs < target * ours and not ours < 1.5 * least
                missed |= wrong
                figures = f"{ours:9.2f}{theirs:10.2f}{theirs / ours:8.1f}{target:8}"
                print(f"{name:64}{figures}{f'{least:.2f}' if least else '':>9}{' missed' if wrong else ''}")
    return int(missed)
