"""Soft Dice loss of a segmentation, with its gradient by the logits.

With p = softmax(logits) over the classes, y the labels as one-hot vectors and sums over all pixels,

    loss = 1 - mean over the classes of (2 Σ p y + s) / (Σ p + Σ y + s)

and s the smoothing. The derivative by p is one number for each class, and another at the label's class;
`fastloss.softmax_vjp` makes of it that by the logits, in its place.

Milletari, Navab and Ahmadi, "V-Net" (2016), section 3; Sudre et al., "Generalised Dice overlap" (2017).

Run it: python docs/recipes/dice.py
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import fastloss

Array = NDArray[np.floating]


def dice_loss(logits: Array, labels: NDArray[np.int64], smooth: float = 1.0) -> tuple[float, Array]:
    """Value and gradient for logits (N, C, ...) and labels (N, ...)."""
    n, classes = logits.shape[:2]
    p = fastloss.softmax(logits.reshape(n, classes, -1), axis=1)
    t, pixels = labels.reshape(n, -1), p.shape[2]
    place = (np.arange(0, n * classes, classes)[:, None] + t) * pixels + np.arange(pixels)  # of the label's p
    both = np.bincount(t.ravel(), p.reshape(-1)[place].ravel(), classes)
    total = p.sum(2).sum(0, dtype=np.float64) + np.bincount(t.ravel(), minlength=classes)
    ratio = (2 * both + smooth) / (total + smooth)
    # d loss / d p: ratio / (C (total + s)) for each class, and 2 / (C (total + s)) less at the label's
    step = (1 / (classes * (total + smooth))).astype(logits.dtype)
    grad = np.empty_like(p)
    grad[...] = (ratio * step).astype(logits.dtype)[:, None]
    grad.reshape(-1)[place] = (ratio * step - 2 * step).astype(logits.dtype)[t]
    fastloss.softmax_vjp(p, grad, axis=1, out=grad)
    return 1 - ratio.mean(), grad.reshape(logits.shape)


def dice_of_probabilities(p: Array, y: Array, smooth: float = 1.0) -> float:
    """The same from probabilities and one-hot labels, as the formula says."""
    axes = (0, *range(2, p.ndim))
    return float(1 - ((2 * (p * y).sum(axes) + smooth) / ((p + y).sum(axes) + smooth)).mean())


def main() -> None:
    """Compare value and gradient with the formula and its differences, and fit a segmentation."""
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((2, 4, 5, 6)), rng.integers(0, 4, (2, 5, 6))
    y = np.moveaxis(np.eye(4)[labels], -1, 1)

    def formula(x: Array) -> float:
        e = np.exp(x - x.max(1, keepdims=True))
        return dice_of_probabilities(e / e.sum(1, keepdims=True), y)

    value, grad = dice_loss(logits, labels)
    assert abs(value - formula(logits)) < 1e-14
    step = 1e-5
    for place in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[place] += step
        down[place] -= step
        assert abs(grad[place] - (formula(up) - formula(down)) / (2 * step)) < 1e-10

    labels = (np.hypot(*np.mgrid[-32:32, -32:32]) < 20).astype(np.int64)[None]  # a disk
    x = rng.standard_normal((1, 2, 64, 64)).astype(np.float32)
    for _ in range(200):
        value, grad = dice_loss(x, labels)
        x -= 2000 * grad
    print(f"Dice loss of a disk after 200 steps: {value:.4f}")
    assert value < 0.01


if __name__ == "__main__":
    main()
