"""Temperature and distillation: `python -m bench distillation`.

Milliseconds of cross-entropy, value and gradient, by itself and with a scale as it reads; with the derivative
by the scale in place of a gradient; and what that takes without, scaling and the chain rule in NumPy. Then
cross-entropy with class probabilities, `kl_div_with_logits` of two arrays of logits, and the usual form in
PyTorch. All take turns in one process, and are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastloss

from .options import peers_of, shared

SIZES = [(16384, 1000), (65536, 10), (512, 32000)]
T = 2.0


def cases(samples: int, classes: int, torch: bool) -> dict[str, Callable[[], Any]]:
    """The calls of one size."""
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal((samples, classes), np.float32)
    teacher = x + rng.standard_normal(x.shape, np.float32)
    labels, grad, q = rng.integers(0, classes, samples), np.empty_like(x), fastloss.softmax(teacher / T)
    plain, scaled = fastloss.CrossEntropyLoss(), fastloss.CrossEntropyLoss(scale=1 / T)
    distilled = fastloss.KLDivWithLogitsLoss(temperature=T)

    def by_hand() -> float:
        return float(np.vdot(plain.value_and_grad(x / T, labels)[1], x))

    found: dict[str, Callable[[], Any]] = {
        "cross_entropy": lambda: plain(x, labels),
        "  with a scale": lambda: scaled(x, labels),
        "  and the derivative by it": lambda: scaled.value_and_grad(x, labels, wrt="scale"),
        "  the same by NumPy": by_hand,
        "cross_entropy, gradient": lambda: plain.value_and_grad(x, labels, grad_out=grad),
        "  with a scale ": lambda: scaled.value_and_grad(x, labels, grad_out=grad),
        "cross_entropy of probabilities": lambda: plain(x, q),
        "  kl_div_with_logits": lambda: distilled(x, teacher),
        "cross_entropy of probabilities, gradient": lambda: plain.value_and_grad(x, q, grad_out=grad),
        "  kl_div_with_logits ": lambda: distilled.value_and_grad(x, teacher, grad_out=grad),
    }
    if torch:
        found["  PyTorch's usual form"] = torch_form(x, teacher)
    return found


def torch_form(x: np.ndarray[Any, Any], teacher: np.ndarray[Any, Any]) -> Callable[[], Any]:
    """T² kl_div(log_softmax(student / T), softmax(teacher / T)) and its backward pass."""
    import torch
    import torch.nn.functional as F

    student, given = torch.from_numpy(x).clone().requires_grad_(), torch.from_numpy(teacher)

    def call() -> None:
        student.grad = None
        log_q = F.log_softmax(student / T, 1)
        (F.kl_div(log_q, F.softmax(given / T, 1), reduction="batchmean") * T**2).backward()

    return call


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add those of this verb."""
    shared(parser, peers="torch", seconds=0.5, threads=fastloss.get_num_threads())


def main(given: argparse.Namespace) -> int:
    """Time every size and print a line for each call."""
    torch = "torch" in peers_of(given.peers, ["torch"])
    fastloss.set_num_threads(given.threads)
    if torch:
        import torch as library

        library.set_num_threads(given.threads)
    for samples, classes in SIZES:
        calls = cases(samples, classes, torch)
        times: dict[str, list[float]] = {name: [] for name in calls}
        end = time.perf_counter() + given.seconds * len(calls)
        while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
            for name, call in calls.items():
                begun = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - begun)
        print(f"{samples} x {classes}, float32, {given.threads} threads")
        base = 1.0
        for name, all_times in times.items():
            took = 1e3 * statistics.median(all_times)
            base = took if not name.startswith(" ") else base
            print(f"  {name:42}{took:10.2f} ms {took / base:6.2f}")
    return 0
