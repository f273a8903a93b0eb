"""Microseconds of small calls: `python -m bench small`.

Every loss with every option on arrays of shape (32, 10) of float32: the value and value_and_grad of the
object, and the value of the function, which takes the options with each call. Each figure is the median of
batches of 100 calls. Pin the process to a processor: `taskset -c 1`.
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

N, CLASSES = 32, 10
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((N, CLASSES)).astype(np.float32)
PROBABILITIES = np.abs(RANDOM.standard_normal((N, CLASSES)).astype(np.float32))
PROBABILITIES /= PROBABILITIES.sum(1, keepdims=True)
LABELS = RANDOM.integers(0, CLASSES, N)
SIGNS = np.where(X > 0, 1, -1).astype(np.float32)
W = RANDOM.random(N).astype(np.float32)
EACH = RANDOM.random((N, CLASSES)).astype(np.float32)
OF_CLASS = RANDOM.random(CLASSES).astype(np.float32)

OBJECTS = {
    "cross_entropy": "CrossEntropyLoss",
    "focal_loss": "FocalLoss",
    "generalized_cross_entropy": "GeneralizedCrossEntropyLoss",
    "poly_loss": "PolyLoss",
    "nll_loss": "NLLLoss",
    "multinomial_nll_loss": "MultinomialNLLLoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "binary_cross_entropy": "BCELoss",
    "kl_div": "KLDivLoss",
    "mse_loss": "MSELoss",
    "sigmoid_focal_loss": "SigmoidFocalLoss",
    "soft_margin_loss": "SoftMarginLoss",
    "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss",
    "poisson_nll_loss": "PoissonNLLLoss",
    "gaussian_nll_loss": "GaussianNLLLoss",
}
SOFTMAX = [("z_loss", {"z_loss": 1e-4}), ("softcap", {"softcap": 30.0})]
LABELLED = [
    ("weight", {"weight": OF_CLASS}),
    ("ignore_index", {"ignore_index": 3}),
    ("ignore_index of several", {"ignore_index": [2, 3]}),
    ("axis", {"axis": -1}),
]
WEIGHTS: list[tuple[str, dict[str, Any]]] = [
    ("weight", {"weight": EACH}),
    ("weight of classes", {"weight": OF_CLASS}),
]
#: Options of the objects that not all of them have.
OPTIONS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "cross_entropy": [
        *LABELLED,
        *SOFTMAX,
        ("label_smoothing", {"label_smoothing": 0.1}),
        ("label_smoothing and weight", {"label_smoothing": 0.1, "weight": OF_CLASS}),
    ],
    "focal_loss": [*LABELLED, *SOFTMAX, ("gamma", {"gamma": 1.5})],
    "generalized_cross_entropy": [*LABELLED, *SOFTMAX, ("q", {"q": 0.5})],
    "poly_loss": [*LABELLED, *SOFTMAX, ("epsilon", {"epsilon": 2.0})],
    "nll_loss": LABELLED,
    "multinomial_nll_loss": [*SOFTMAX, ("axis", {"axis": -1}), ("full", {"full": True})],
    "binary_cross_entropy_with_logits": [*WEIGHTS, ("pos_weight", {"pos_weight": OF_CLASS})],
    "binary_cross_entropy": WEIGHTS,
    "kl_div": [("batchmean", {"reduction": "batchmean"}), ("log_target", {"log_target": True})],
    "sigmoid_focal_loss": [("gamma", {"gamma": 1.5}), ("alpha", {"alpha": 0.25})],
    "multilabel_soft_margin_loss": [WEIGHTS[1]],
    "poisson_nll_loss": [
        ("log_input", {"log_input": False}),
        ("full", {"full": True}),
        ("eps", {"eps": 1e-6}),
    ],
    "gaussian_nll_loss": [("full", {"full": True}), ("eps", {"eps": 1e-5})],
}
TARGETS = {
    "multinomial_nll_loss": np.floor(5 * EACH),
    "binary_cross_entropy_with_logits": PROBABILITIES,
    "binary_cross_entropy": PROBABILITIES,
    "kl_div": PROBABILITIES,
    "mse_loss": PROBABILITIES,
    "sigmoid_focal_loss": PROBABILITIES,
    "soft_margin_loss": SIGNS,
    "multilabel_soft_margin_loss": PROBABILITIES,
    "poisson_nll_loss": np.floor(5 * EACH),
    "gaussian_nll_loss": PROBABILITIES,
}
INPUTS = {
    "nll_loss": np.log(PROBABILITIES),
    "binary_cross_entropy": PROBABILITIES,
    "kl_div": np.log(PROBABILITIES),
    "poisson_nll_loss": EACH,
}

Case = tuple[
    str, tuple[Any, ...], dict[str, Any], dict[str, Any]
]  # what, arrays, options of object, of a call


def cases(name: str) -> Iterator[Case]:
    """The calls of one loss, also those whose options only value_and_grad takes."""
    x, y = INPUTS.get(name, X), TARGETS.get(name, LABELS)
    more = (EACH,) if name == "gaussian_nll_loss" else ()
    labelled = y.ndim == 1
    pointwise = not labelled and name != "multinomial_nll_loss"
    by_row = not pointwise or name == "multilabel_soft_margin_loss"
    each = W if by_row else EACH
    yield "plain", (x, y, *more), {}, {}
    for what, options in OPTIONS.get(name, []):
        yield what, (x, y, *more), options, {}
    for reduction in ("sum", "none"):
        yield reduction, (x, y, *more), {"reduction": reduction}, {}
    yield "empty", (x, y, *more), {"empty": "zero"}, {}
    yield "sample_weight", (x, y, *more), {}, {"sample_weight": each}
    yield "sample_weight of float64", (x, y, *more), {}, {"sample_weight": each.astype(np.float64)}
    if not by_row:
        yield "sample_weight of shape (32, 1)", (x, y, *more), {}, {"sample_weight": W[:, None]}
    yield "mask", (x, y, *more), {}, {"mask": each > 0.2}
    yield "mask and sample_weight", (x, y, *more), {}, {"mask": each > 0.2, "sample_weight": each}
    yield "normalizer", (x, y, *more), {}, {"normalizer": 7.0}
    yield "out", (x, y, *more), {"reduction": "none"}, {"out": np.empty(each.shape, np.float32)}
    yield "grad_output", (x, y, *more), {}, {"grad_output": 0.5}
    yield "grad_output, none", (x, y, *more), {"reduction": "none"}, {"grad_output": each}
    yield "grad_out", (x, y, *more), {}, {"grad_out": np.empty_like(x)}
    yield "float64", (x.astype(np.float64), y, *more), {}, {}
    yield "integer target", (x, y.astype(np.int32), *more), {}, {}
    if labelled:
        yield "uint8 target", (x, y.astype(np.uint8), *more), {}, {}
        yield "classes first", (np.ascontiguousarray(x.T), y, *more), {"axis": 0}, {}
    else:
        yield "float64 target", (x, y.astype(np.float64), *more), {}, {}
    if name == "cross_entropy":
        yield "probabilities", (x, PROBABILITIES), {}, {}
        yield "probabilities of float64", (x, PROBABILITIES.astype(np.float64)), {}, {}
        yield "probabilities, sample_weight", (x, PROBABILITIES), {}, {"sample_weight": W}
    yield "a row", (x[0], y[0], *(v[0] for v in more)), {}, {}
    yield "a row of a list", (x[0].tolist(), y[0].tolist(), *(v[0].tolist() for v in more)), {}, {}
    yield "lists", (x.tolist(), y.tolist(), *(v.tolist() for v in more)), {}, {}


def calls(name: str, case: Case) -> list[Callable[[], Any] | None]:
    """Value, value_and_grad and the function's value; None where there is no such call."""
    _, arrays, options, call = case
    loss, function = getattr(fastloss, OBJECTS[name])(**options), getattr(fastloss, name)
    by_grad = bool({"grad_output", "grad_out"} & call.keys())
    return [
        None if by_grad else lambda: loss(*arrays, **call),
        lambda: loss.value_and_grad(*arrays, **call),
        None if by_grad else lambda: function(*arrays, **options, **call),
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", seconds=0.02)


def microseconds(call: Callable[[], Any] | None, seconds: float) -> float | None:
    """The median time of a call, in batches of 100."""
    if call is None:
        return None
    times: list[float] = []
    until = time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        start = time.perf_counter()
        for _ in range(100):
            call()
        times.append((time.perf_counter() - start) * 1e4)
    return statistics.median(times)


def main(options: argparse.Namespace) -> None:
    """Print the table, and what is slowest."""
    fastloss.show_config()
    print(f"\n{'µs at (32, 10), float32':<52}{'value':>10}{'and grad':>10}{'function':>10}")
    slowest: dict[str, float] = {}
    every = [(name, case) for name in OBJECTS for case in cases(name)]
    for name, case in rows_of(options.rows, every, lambda row: f"{row[0]}: {row[1][0]}"):
        times = [microseconds(call, options.seconds) for call in calls(name, case)]
        title = f"{name}: {case[0]}"
        print(f"{title:<52}" + "".join(f"{'':10}" if t is None else f"{t:10.2f}" for t in times))
        slowest[title] = max(t for t in times if t is not None)
    worst = sorted(slowest, key=lambda title: slowest[title])[:-11:-1]
    print("\nslowest: " + ", ".join(f"{title} {slowest[title]:.1f}" for title in worst))
