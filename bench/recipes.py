"""The recipes in docs/recipes beside eager PyTorch: `python -m bench recipes`.

Prints the median milliseconds of value and gradient by the logits, in float32, of the recipe and of the same
loss as it is usually written in PyTorch, with backward(). They take turns in one process with the same number
of threads.
"""

from __future__ import annotations

import argparse
import re
import runpy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastloss
from fastloss._timing import medians

from .options import shared

RECIPES = Path(__file__).parents[1] / "docs" / "recipes"


def dice(logits: torch.Tensor, labels: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """Soft Dice loss over the classes."""
    p = torch.softmax(logits, 1)
    y = torch.zeros_like(p).scatter_(1, labels.unsqueeze(1), 1)
    axes = (0, *range(2, p.ndim))
    return 1 - ((2 * (p * y).sum(axes) + smooth) / ((p + y).sum(axes) + smooth)).mean()


def asymmetric(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """As in github.com/Alibaba-MIIL/ASL, with its defaults but that the weights are differentiated too."""
    p = torch.sigmoid(x)
    q = (1 - p + 0.05).clamp(max=1)
    loss = y * torch.log(p.clamp(min=1e-8)) + (1 - y) * torch.log(q.clamp(min=1e-8))
    pt = p * y + q * (1 - y)
    return -(loss * torch.pow(1 - pt, 1.0 * y + 4.0 * (1 - y))).sum()


def step(loss: Callable[..., torch.Tensor], logits: torch.Tensor, target: torch.Tensor) -> tuple[float, Any]:
    """Value, and gradient by the logits."""
    logits.grad = None
    value = loss(logits, target)
    value.backward()  # type: ignore[no-untyped-call]
    return value.item(), logits.grad


def cases() -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Yield a name, the recipe's call and PyTorch's."""
    rng = np.random.default_rng(0)
    of_dice = runpy.run_path(str(RECIPES / "dice.py"))["dice_loss"]
    for shape in ((8, 4, 256, 256), (8, 19, 256, 256), (2, 150, 128, 128)):
        x = rng.standard_normal(shape, np.float32)
        t = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        theirs = torch.from_numpy(x).requires_grad_(), torch.from_numpy(t)
        yield f"dice {shape}", partial(of_dice, x, t), partial(step, dice, *theirs)
    of_labels = runpy.run_path(str(RECIPES / "asymmetric.py"))["AsymmetricLoss"]().value_and_grad
    for pair in ((128, 80), (1024, 1000), (512, 9605)):
        x = rng.standard_normal(pair, np.float32) * 2 - 3
        y = rng.random(pair) < 0.03
        labels = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y.astype(np.float32))
        yield f"asymmetric {pair}", partial(of_labels, x, y), partial(step, asymmetric, *labels)


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", seconds=1.0, threads=2)


def main(options: argparse.Namespace) -> None:
    """Run the comparison."""
    torch.set_num_threads(options.threads)
    fastloss.set_num_threads(options.threads)
    fastloss.show_config()
    print(f"{'PyTorch':<16} {torch.__version__}, {options.threads} threads each\n")
    print(f"{'ms':28}{'recipe':>9}{'PyTorch':>9}{'ratio':>9}")
    for name, ours, theirs in cases():
        if not re.search(options.rows, name):
            continue
        (value, grad), (wanted, slope) = ours(), theirs()
        np.testing.assert_allclose(value, wanted, rtol=1e-4)
        np.testing.assert_allclose(grad, slope.numpy(), rtol=1e-3, atol=1e-5 * np.abs(grad).max())
        ms, of_pytorch = medians({"recipe": ours, "PyTorch": theirs}, options.seconds).values()
        print(f"{name:28}{ms:9.3g}{of_pytorch:9.3g}{of_pytorch / ms:9.3g}", flush=True)
