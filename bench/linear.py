"""Linear cross-entropy beside the products it cannot do without: `python -m bench linear`.

Rows times vocabulary, with gradients by input and weight, and the value alone. "products" are the three
matrix products that value and gradients need, by NumPy into arrays that are there, and "product" the first of
them; "logits" is what one writes without linear cross-entropy, products and `fastloss.CrossEntropyLoss` in
the logits' place. PyTorch's is its chunked `linear_cross_entropy`, and `linear` with `cross_entropy`. Half
precision stands beside the products in float32. The last lines are softmax regression, with few features,
beside scikit-learn's `LinearModelLoss`.

The calls take turns in one process on equal threads. Printed is the least time of each in milliseconds, and
its ratio to the first line of its kind; the exit status is 1 if a ratio is above its target. PyTorch's
chunked loss takes half a minute at the full size, and is left out without --peers torch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import fastloss

from .options import peers_of, shared

Calls = dict[str, Callable[[], Any]]
PEERS = ["sklearn", "torch"]
TARGETS = {"float32": 1.12, "value": 1.05, "bfloat16": 1.15, "float16": 1.15}
SKLEARN = 5.0
REGRESSION = (200_000, 10, 1_000)


def least(calls: Calls, seconds: float) -> dict[str, float]:
    """The least milliseconds of each call; they take turns."""
    best = dict.fromkeys(calls, float("inf"))
    end = time.perf_counter() + seconds * len(calls)
    while True:
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begun))
        if time.perf_counter() > end:
            return best


def drawn(rows: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, the weight of a layer, and labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, features), np.float32)
    weight = rng.standard_normal((classes, features), np.float32) / np.float32(features**0.5)
    return x, weight, rng.integers(0, classes, rows)


def layer(rows: int, features: int, classes: int) -> Calls:
    """Products alone, with the loss of whole logits, and without logits; in each dtype there is."""
    x, weight, labels = drawn(rows, features, classes)
    logits = np.empty((rows, classes), np.float32)
    by_input, by_weight = np.empty_like(x), np.empty_like(weight)
    whole, loss = fastloss.CrossEntropyLoss(), fastloss.LinearCrossEntropyLoss()

    def products(with_loss: bool) -> None:
        np.matmul(x, weight.T, out=logits)
        if with_loss:
            whole.value_and_grad(logits, labels, grad_out=logits)
        np.matmul(logits, weight, out=by_input)
        np.matmul(logits.T, x, out=by_weight)

    def gradients(x: np.ndarray, weight: np.ndarray, *outs: np.ndarray) -> Callable[[], Any]:
        return lambda: loss.value_and_grad(x, weight, labels, grad_input_out=outs[0], grad_weight_out=outs[1])

    calls: Calls = {
        "products": lambda: products(False),
        "logits": lambda: products(True),
        "float32": gradients(x, weight, by_input, by_weight),
        "product": lambda: np.matmul(x, weight.T, out=logits),
        "value": lambda: loss(x, weight, labels),
    }
    kinds: list[Any] = [np.float16]
    try:
        import ml_dtypes

        kinds.append(ml_dtypes.bfloat16)
    except ImportError:
        print("ml_dtypes is not installed, so bfloat16 is left out")
    for kind in kinds:
        a, b = x.astype(kind), weight.astype(kind)
        calls[np.dtype(kind).name] = gradients(a, b, np.empty_like(a), np.empty_like(b))
    return calls


def pytorch(rows: int, features: int, classes: int, threads: int) -> Calls:
    """PyTorch's two ways, and fastloss under PyTorch."""
    import torch

    import fastloss.torch

    torch.set_num_threads(threads)
    own, options = torch.nn.functional, torch.nn.modules.LinearCrossEntropyOptions()
    calls: Calls = {}
    for kind in (torch.float32, torch.bfloat16):
        *arrays, labels = drawn(rows, features, classes)
        leaves = [torch.from_numpy(a).to(kind).requires_grad_() for a in arrays]
        target = torch.from_numpy(labels)

        def step(loss: Callable[..., Any], leaves: Any = leaves, target: Any = target) -> None:
            torch.autograd.grad(loss(*leaves, target), leaves)

        name = str(kind).removeprefix("torch.")
        calls[f"fastloss.torch, {name}"] = lambda step=step: step(fastloss.torch.linear_cross_entropy)
        calls[f"PyTorch, {name}"] = lambda step=step: step(
            lambda x, w, t: own.linear_cross_entropy(x, w, t, options=options)
        )
        calls[f"PyTorch, logits, {name}"] = lambda step=step: step(
            lambda x, w, t: own.cross_entropy(own.linear(x, w), t)
        )
    return calls


def regression(threads: int) -> Calls:
    """Softmax regression without a penalty: value and gradient by coefficients and intercept."""
    from sklearn._loss import HalfMultinomialLoss
    from sklearn.linear_model._linear_loss import LinearModelLoss

    x, weight, labels = drawn(*REGRESSION)
    bias = np.zeros(len(weight), np.float32)
    loss, names = fastloss.LinearCrossEntropyLoss(), ("linear_weight", "linear_bias")
    model = LinearModelLoss(HalfMultinomialLoss(n_classes=len(weight)), fit_intercept=True)
    joined = np.asarray(np.column_stack([weight, bias]), order="F")
    y = labels.astype(np.float32)
    return {
        "scikit-learn": lambda: model.loss_gradient(joined, x, y, n_threads=threads),
        "fastloss": lambda: loss.value_and_grad(x, weight, labels, linear_bias=bias, wrt=names),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, peers="sklearn", seconds=3.0, threads=fastloss.get_num_threads())
    parser.add_argument(
        "--sizes",
        metavar="N,D,C",
        default="512,512,128256",
        help="rows, features, classes (default: %(default)s)",
    )


def main(options: argparse.Namespace) -> int:
    """Print a line for each call, and what is missed."""
    peers, missed = peers_of(options.peers, PEERS), False
    rows, features, classes = (int(n) for n in options.sizes.split(","))
    with fastloss.threads(options.threads), threadpool_limits(options.threads):
        print(f"{rows:,} x {features:,} x {classes:,}, {options.threads} threads, ms")
        times = least(layer(rows, features, classes), options.seconds)
        for name, ms in times.items():
            target = TARGETS.get(name, 0.0)
            ratio = ms / times["product" if name in ("product", "value") else "products"]
            wrong = 0 < target < ratio
            missed |= wrong
            print(f"{name:32}{ms:10.1f}{ratio:8.2f}{f'{target:.2f}' if target else '':>8}{' missed' * wrong}")
        if "torch" in peers:
            for name, ms in least(pytorch(rows, features, classes, options.threads), 0.0).items():
                print(f"{name:32}{ms:10.1f}{ms / times['products']:8.2f}")
        if "sklearn" in peers:
            print("{:,} x {:,} x {:,}".format(*REGRESSION))
            times = least(regression(options.threads), options.seconds)
            ratio = times["scikit-learn"] / times["fastloss"]
            missed |= ratio < SKLEARN
            print(*(f"{name:32}{ms:10.1f}" for name, ms in times.items()), sep="\n")
            print(f"{'times as fast':32}{ratio:10.1f}{SKLEARN:16.2f}{' missed' * (ratio < SKLEARN)}")
    return int(missed)
