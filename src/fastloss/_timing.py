"""Times of the main functions, beside what one writes with SciPy, and PyTorch: for ``python -m fastloss``."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastloss
from fastloss._report import optional, progress
from fastloss.losses import CLASSES

Array = NDArray[Any]
Call = Callable[[], object]

GRADIENT = "value_and_grad"


def plain_special() -> Any:
    """What is used of scipy.special, in NumPy, where SciPy is not installed."""

    def logsumexp(x: Array, axis: int, keepdims: bool = False) -> Any:
        top = x.max(axis, keepdims=True)
        total = top + np.log(np.exp(x - top).sum(axis, keepdims=True))
        return total if keepdims else total.squeeze(axis)

    def log_softmax(x: Array, axis: int) -> Any:
        return x - logsumexp(x, axis, keepdims=True)

    def softmax(x: Array, axis: int) -> Any:
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    def expit(x: Array, out: Array | None = None) -> Any:
        return np.divide(1, 1 + np.exp(-x), out)

    def xlogy(x: Array, y: Array) -> Any:
        return x * np.log(y)

    return SimpleNamespace(
        logsumexp=logsumexp, log_softmax=log_softmax, softmax=softmax, expit=expit, xlogy=xlogy
    )


def of_user(name: str, x: Array, target: Array | None, out: Array) -> dict[str, Call]:
    """The function, or the loss and its gradient, as a user writes them with scipy.special and NumPy."""
    special, n = optional("scipy.special") or plain_special(), x.size
    if name == "sigmoid":
        return {"value": lambda: special.expit(x, out=out)}
    if target is None:
        return {"value": lambda: getattr(special, name)(x, axis=1)}
    y, rows = target, np.arange(len(x))

    def cross_entropy(with_grad: bool) -> Any:
        log_p = special.log_softmax(x, axis=1)
        value = -log_p[rows, y].mean()
        if not with_grad:
            return value
        grad = np.exp(log_p)
        grad[rows, y] -= 1
        return value, grad / len(x)

    def mse_loss(with_grad: bool) -> Any:
        away = x - y
        value = np.square(away).mean()
        return (value, 2 * away / n) if with_grad else value

    def binary_cross_entropy_with_logits(with_grad: bool) -> Any:
        value = (np.logaddexp(0, x) - x * y).mean()
        return (value, (special.expit(x) - y) / n) if with_grad else value

    def kl_div(with_grad: bool) -> Any:
        value = (special.xlogy(y, y) - y * x).mean()
        return (value, -y / n) if with_grad else value

    losses = (cross_entropy, mse_loss, binary_cross_entropy_with_logits, kl_div)
    loss = next(loss for loss in losses if loss.__name__ == name)
    return {"value": partial(loss, False), GRADIENT: partial(loss, True)}


def of_fastloss(name: str, x: Array, target: Array | None, out: Array) -> dict[str, Call]:
    """The same of fastloss, which fills an array that is in memory already."""
    if target is None:
        options = {} if name == "sigmoid" else {"axis": 1}
        return {"value": partial(getattr(fastloss, name), x, out=out, **options)}
    loss = getattr(fastloss, CLASSES[name].__name__)()
    return {
        "value": partial(loss, x, target),
        GRADIENT: partial(loss.value_and_grad, x, target, grad_out=out),
    }


def of_torch(torch: Any, name: str, x: Array, target: Array | None, out: Array) -> dict[str, Call]:
    """The same of PyTorch; its gradient is forward plus backward."""
    tx, to = torch.from_numpy(x), torch.from_numpy(out)
    if target is None:
        options = {"out": to} if name == "sigmoid" else {"dim": 1, "out": to}
        return {"value": partial(getattr(torch, name), tx, **options)}
    loss, ty = getattr(torch.nn.functional, name), torch.from_numpy(target)
    leaf = tx.detach().requires_grad_()
    return {
        "value": partial(loss, tx, ty),
        GRADIENT: lambda: torch.autograd.grad(loss(leaf, ty), leaf),
    }


def medians(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Return the median time of each call in ms, from interleaved rounds.

    Before its calls are timed each one pauses, so that the other library's threads have stopped
    spinning, and makes a call that is not counted. Each one gets about `seconds`, at least one
    counted call and at most 20 rounds.
    """
    spent = dict.fromkeys(calls, 0.0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(20):
        for name, call in calls.items():
            if spent[name] >= seconds:
                continue
            time.sleep(0.01)
            for counted in (False, True, True, True):
                start = time.perf_counter()
                call()
                elapsed = time.perf_counter() - start
                spent[name] += elapsed
                if counted:
                    times[name].append(elapsed)
                    if spent[name] >= 3 * seconds:
                        break
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def peers() -> list[str]:
    """Whom fastloss is compared with."""
    scipy = "NumPy" if optional("scipy.special") is None else "SciPy"
    return [scipy] if optional("torch") is None else [scipy, "PyTorch"]


def cases(quick: bool) -> Iterator[tuple[str, Array, Array | None]]:
    """Yield function, input and target, all of float32 and at most 8 MB."""
    rng = np.random.default_rng(30)
    for shape in ((2_048, 10), (256, 1_000)) if quick else ((65_536, 10), (2_048, 1_000)):
        x = rng.standard_normal(shape, np.float32)
        yield "cross_entropy", x, rng.integers(0, shape[1], shape[0])
        yield "logsumexp", x, None
        yield "softmax", x, None
    x, y = rng.standard_normal((2, 65_536 if quick else 1_000_000), np.float32)
    yield "sigmoid", x, None
    yield "mse_loss", x, y
    y = rng.uniform(size=x.size).astype(np.float32)
    yield "binary_cross_entropy_with_logits", x, y
    yield "kl_div", -np.abs(x), y


def measure(quick: bool) -> Iterator[dict[str, Any]]:
    """Time the main functions: name, what of it, shape, and milliseconds of each library."""
    torch = optional("torch")
    if torch is not None:
        torch.set_num_threads(fastloss.get_num_threads())
    for name, x, target in cases(quick):
        out = np.ones(len(x) if name == "logsumexp" else x.shape, x.dtype)  # its pages are in memory
        calls = {"fastloss": of_fastloss(name, x, target, out), peers()[0]: of_user(name, x, target, out)}
        if torch is not None:
            calls["PyTorch"] = of_torch(torch, name, x, target, out)
        for what in calls["fastloss"]:
            progress(f"timing {name}")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "reduction: 'mean' divides")  # PyTorch's kl_div
                of_libraries = {library: of[what] for library, of in calls.items()}
                took = medians(of_libraries, 0.01 if quick else 0.15)
            yield {"function": name, "what": what, "shape": x.shape, "milliseconds": took}
