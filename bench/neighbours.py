"""A loss between matrix products: `python -m bench neighbours`.

Products, loss and gradient want the same processors. The threads of one may stand in the way of the
other's, which shows in no timing of a part by itself. A linear model with 10 features and 1,000 classes goes
through 8,192 samples, some rows at a time, into arrays that are there: a fresh array costs page faults, which
are no neighbour's. Printed are the median microseconds of the two products, of the loss and its gradient, and
of all three in turn, with the ratio of this to the sum of the parts; "alone" is the same with the loss on one
thread. A process for each of NumPy alone, scikit-learn and PyTorch imported first, whose OpenMP runtimes
differ. The last lines are a step of a small PyTorch network, forward, loss and backward, with either loss.

The exit status is 1 if a ratio is above 1.3, or a step with fastloss slower than with PyTorch. On a machine
with other work the products by themselves may take many times their time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

from .options import peers_of, shared

MOST = 1.3
BATCH = 8192
SIZES = ["64", "256", "1024", "8192"]
PEERS = ["numpy", "sklearn", "torch"]
NETWORKS = [(512, 10), (2048, 1000)]
Calls = dict[str, Callable[[], Any]]


def medians(calls: Calls, seconds: float) -> dict[str, float]:
    """Microseconds of each call; they take turns, a group of calls in a row at a time."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    for name in cycle(calls):
        calls[name]()  # not timed: what the call before has left
        group = time.perf_counter() + 0.02
        while (begun := time.perf_counter()) < group:
            calls[name]()
            times[name].append(time.perf_counter() - begun)
        if group > end and min(map(len, times.values())) > 4:
            return {name: 1e6 * statistics.median(times[name]) for name in calls}
    raise AssertionError


def products(rows: int) -> Calls:
    """Products and loss over BATCH samples, so many rows at a time; apart, together, on one thread."""
    import numpy as np

    import fastloss

    rng = np.random.default_rng(0)
    samples, targets = rng.standard_normal((BATCH, 10), np.float32), rng.integers(0, 1000, BATCH)
    parts = [(samples[i : i + rows], targets[i : i + rows]) for i in range(0, BATCH, rows)]
    weights = 0.1 * rng.standard_normal((10, 1000), np.float32)
    logits, back, loss = samples[:rows] @ weights, np.empty_like(weights), fastloss.CrossEntropyLoss()
    grad = np.empty_like(logits)

    def run(products: bool, losses: bool) -> None:
        for x, labels in parts:
            if products:
                np.matmul(x, weights, out=logits)
            if losses:
                loss.value_and_grad(logits, labels, grad_out=grad)
            if products:
                np.matmul(x.T, grad, out=back)

    def alone() -> None:
        with fastloss.threads(1):
            run(True, True)

    return {
        "products": lambda: run(True, False),
        "loss": lambda: run(False, True),
        "all": lambda: run(True, True),
        "alone": alone,
    }


def steps(rows: int, classes: int) -> Calls:
    """Forward, loss and backward of a network with one hidden layer, with either loss."""
    import torch

    import fastloss.torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, classes))
    x, labels = torch.randn(rows, 64), torch.randint(classes, (rows,))

    def step(loss: Callable[..., torch.Tensor]) -> None:
        model.zero_grad()
        loss(model(x), labels).backward()  # type: ignore[no-untyped-call]

    return {
        "fastloss": lambda: step(fastloss.torch.cross_entropy),
        "PyTorch": lambda: step(torch.nn.functional.cross_entropy),
    }


def measure(first: str, rows: list[int], seconds: float) -> bool:
    """All rows of one process, which imports `first` before fastloss; whether they are within the limits."""
    importlib.import_module(first)
    import fastloss

    good = True
    for n in rows:
        t = medians(products(n), seconds)
        ratio = t["all"] / (t["products"] + t["loss"])
        figures = "".join(f"{figure:9,.0f}" for figure in t.values())
        print(f"{first:8}{n:8,}{figures}{ratio:8.2f}", flush=True)
        good &= ratio <= MOST
    if first == "torch":
        import torch

        torch.set_num_threads(fastloss.get_num_threads())
        for n, classes in NETWORKS:
            t = medians(steps(n, classes), 2 * seconds)
            ratio = t["PyTorch"] / t["fastloss"]
            figures = ", ".join(f"{name} {figure:,.0f}" for name, figure in t.items())
            print(f"step, {n:,} x {classes:,}: {figures}: {ratio:.2f}", flush=True)
            good &= ratio >= 1
    return good


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, peers=",".join(PEERS), seconds=0.5)
    parser.add_argument(
        "--sizes", metavar="N,M", default=",".join(SIZES), help="rows at a time (default: %(default)s)"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)


def main(options: argparse.Namespace) -> int:
    """Start the processes and print what they measure."""
    if options.child:
        return not measure(options.peers, [int(n) for n in options.sizes.split(",")], options.seconds)
    print(f"{os.cpu_count()} CPUs, microseconds")
    print(
        f"{'first':8}{'rows':>8}{'products':>9}{'loss':>9}{'all':>9}{'alone':>9}{'ratio':>8}",
        flush=True,
    )
    status = 0
    for first in peers_of(options.peers, PEERS):
        if importlib.util.find_spec(first) is None:
            print(f"{first}: not installed")
            continue
        command = [sys.executable, "-m", "bench", "neighbours", "--child", f"--peers={first}"]
        settings = [f"--seconds={options.seconds}", f"--sizes={options.sizes}"]
        status |= subprocess.run([*command, *settings], check=False).returncode
    return status
