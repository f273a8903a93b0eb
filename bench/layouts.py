"""A class axis that is not last in shape but is in memory: `python -m bench layouts`.

Prints, for each call, the median milliseconds with the plain layout, rows of classes one after the other, and
how many times that takes where the same memory is seen with the class axis elsewhere: channels-last as
(N, C, H, W), and other orders of the samples; with 19 classes of 32 rows lie apart. The calls take turns in
one process.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastloss
from fastloss._timing import medians

from .options import shared

Array = NDArray[Any]
Seen = Callable[[Array], Array]
N, H, W, C = 8, 128, 256, 19

#: How memory in the order (N, H, W, C) is seen, and what comes with it, in the order (N, H, W).
SEEN: dict[str, tuple[Seen, Seen, int]] = {
    "plain": (lambda a: a.reshape(-1, a.shape[-1]), lambda a: a.reshape(-1), 1),
    "channels-last": (lambda a: a.transpose(0, 3, 1, 2), lambda a: a, 1),
    "(N, W, C, H)": (lambda a: a.transpose(0, 2, 3, 1), lambda a: a.transpose(0, 2, 1), 2),
    "(C, H, W, N)": (lambda a: a.transpose(3, 1, 2, 0), lambda a: a.transpose(1, 2, 0), 0),
}


def calls_of(x: Array, rng: np.random.Generator) -> dict[str, Callable[[Seen, Seen, int], Callable[[], Any]]]:
    """By name, what makes a call of one way to see the arrays."""
    shape, labels = x.shape[:-1], rng.integers(0, x.shape[-1], x.shape[:-1])
    p, other, grad, hess = (
        fastloss.softmax(x),
        x.copy(),
        np.empty(x.shape, x.dtype),
        np.empty(x.shape, x.dtype),
    )
    mask, weight = rng.random(shape) < 0.9, rng.random(shape, np.float32)

    def loss(method: str, target: Array, **arrays: Array) -> Callable[[Seen, Seen, int], Callable[[], Any]]:
        def make(classes: Seen, samples: Seen, axis: int) -> Callable[[], Any]:
            named = {
                name: (classes if name.endswith("grad_out") or name.endswith("hess_out") else samples)(array)
                for name, array in arrays.items()
            }
            seen = classes(target) if target.ndim == x.ndim else samples(target)
            return partial(getattr(fastloss.CrossEntropyLoss(axis=axis), method), classes(x), seen, **named)

        return make

    def function(name: str, *more: Array, **arrays: Array) -> Callable[[Seen, Seen, int], Callable[[], Any]]:
        def make(classes: Seen, samples: Seen, axis: int) -> Callable[[], Any]:
            named = {key: classes(array) for key, array in arrays.items()}
            along = {} if name.startswith("sigmoid") else {"axis": axis}
            return partial(getattr(fastloss, name), *map(classes, more or (x,)), **along, **named)

        return make

    return {
        "value": loss("__call__", labels),
        "gradient": loss("value_and_grad", labels),
        "gradient, grad_out": loss("value_and_grad", labels, grad_out=grad),
        "mask": loss("value_and_grad", labels, mask=mask, grad_out=grad),
        "sample_weight": loss("value_and_grad", labels, sample_weight=weight, grad_out=grad),
        "probabilities": loss("value_and_grad", p, grad_out=grad),
        "Hessian": loss("value_grad_hess", labels, grad_out=grad, hess_out=hess),
        "softmax": function("softmax"),
        "softmax, out": function("softmax", out=grad),
        "log_softmax, out": function("log_softmax", out=grad),
        "logsumexp": function("logsumexp"),
        "softmax_vjp, out": function("softmax_vjp", p, other, out=grad),
        "log_softmax_vjp, out": function("log_softmax_vjp", p, other, out=grad),
        "sigmoid, out": function("sigmoid", out=grad),
        "sigmoid_vjp, out": function("sigmoid_vjp", p, other, out=grad),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", seconds=0.3, threads=2)


def main(options: argparse.Namespace) -> None:
    """Run the comparison."""
    fastloss.set_num_threads(options.threads)
    fastloss.show_config()
    rng = np.random.default_rng(0)
    print(f"\n{'':34}{'ms':>8}" + "".join(f"{name:>15}" for name in [*SEEN][1:]))
    for dtype, classes in ((np.float32, C), (np.float32, 150), (np.float16, C), (np.float32, 32)):
        x = rng.standard_normal((N, H, W * C // classes, classes), np.float32).astype(dtype)
        x = x[..., :C] if classes == 32 else x  # rows that lie apart
        for what, make in calls_of(x, rng).items():
            name = f"{what:22}{np.dtype(dtype).name:8}{classes:>4}"
            if not re.search(options.rows, name):
                continue
            calls = {seen: make(*how) for seen, how in SEEN.items()}
            plain, *others = medians(calls, options.seconds).values()
            print(f"{name:34}{plain:8.3g}" + "".join(f"{ms / plain:15.2f}" for ms in others), flush=True)
