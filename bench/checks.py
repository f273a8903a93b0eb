"""What it costs to look at targets: calls with and without `unchecked`, by turns; the ratio of the medians.

Losses find what cannot be meant in the pass that computes them; where an array is to be filled, which may be
the input, the targets are read once before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastloss

from .options import rows_of, shared

SHAPES = [(32, 10), (1000, 10), (100_000, 10), (4096, 1000), (512, 32_000), (4, 21, 256, 256)]
CLASSES = {
    "cross_entropy": fastloss.CrossEntropyLoss,
    "cross_entropy smoothed": fastloss.CrossEntropyLoss,
    "multinomial_nll_loss": fastloss.MultinomialNLLLoss,
    "binary_cross_entropy_with_logits": fastloss.BCEWithLogitsLoss,
    "binary_cross_entropy": fastloss.BCELoss,
    "sigmoid_focal_loss": fastloss.SigmoidFocalLoss,
    "kl_div": fastloss.KLDivLoss,
    "soft_margin_loss": fastloss.SoftMarginLoss,
    "poisson_nll_loss": fastloss.PoissonNLLLoss,
    "nll_loss": fastloss.NLLLoss,
}
WAYS = ("value", "gradient", "in place")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    shared(parser, rows="", seconds=0.4, threads=1)


def case(name: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Input and target that can be meant."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    if name.startswith("cross_entropy"):
        return x, fastloss.softmax(rng.standard_normal(shape).astype(np.float32), 1)
    if name == "kl_div":
        return fastloss.log_softmax(x, 1), fastloss.softmax(rng.standard_normal(shape).astype(np.float32), 1)
    if name == "nll_loss":
        return fastloss.log_softmax(x, 1), rng.integers(0, shape[1], shape[:1] + shape[2:])
    target = rng.integers(0, 2, shape).astype(np.float32)
    if name == "binary_cross_entropy":
        return fastloss.sigmoid(x), target
    return x, 2 * target - 1 if name == "soft_margin_loss" else target


def calls(name: str, way: str, x: Any, y: Any) -> Iterator[Callable[[], Any]]:
    """The call with checks, and without."""
    options = {"label_smoothing": 0.1} if "smoothed" in name else {}
    for unchecked in (False, True):
        loss = CLASSES[name](**options, unchecked=unchecked)
        if way == "value":
            yield lambda loss=loss: loss(x, y)
        elif way == "gradient":
            yield lambda loss=loss: loss.value_and_grad(x, y)
        else:  # over a copy: what is computed does not depend on what was computed before
            buffer = np.empty_like(x)
            yield lambda loss=loss, buffer=buffer: loss.value_and_grad(x, y, grad_out=buffer)


def ratio(checked: Callable[[], Any], free: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Median time of the call with checks, and that divided by the one without."""
    calls_of = (checked, free)
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + 2 * seconds
    turn = 0
    while time.perf_counter() < end or turn < 6:
        for which in (turn % 2, 1 - turn % 2):
            taken = times[which]
            repeat = max(1, int(2e-4 / statistics.median(taken[-9:]))) if taken else 1
            begun = time.perf_counter()
            for _ in range(repeat):
                calls_of[which]()
            taken.append((time.perf_counter() - begun) / repeat)
        turn += 1
    first, second = map(statistics.median, times)
    return first, first / second


def main(given: argparse.Namespace) -> int:
    """Print a table."""
    rows = [f"{name} {shape} {way}" for name in CLASSES for shape in SHAPES for way in WAYS]
    wanted = set(rows_of(given.rows, rows))
    print(f"{'':70} {'checked':>12} {'ratio':>7}")
    with fastloss.threads(given.threads):
        for name in CLASSES:
            for shape in SHAPES:
                for way in WAYS:
                    row = f"{name} {shape} {way}"
                    if row in wanted:
                        taken, over = ratio(*calls(name, way, *case(name, shape)), given.seconds)
                        print(f"{row:70} {1e6 * taken:9.2f} us {over:7.3f}", flush=True)
    return 0
