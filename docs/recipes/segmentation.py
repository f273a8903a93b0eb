"""Segmentation: a label for each pixel, pixels that count nowhere, and rare classes.

    python docs/recipes/segmentation.py

Logits are (N, C, H, W), with the classes on axis 1 as in PyTorch, labels (N, H, W), where 255 stands for
what nobody has labelled: `ignore_index=255`. Class weights, the inverse of the frequencies, make up for the
rare ones. The model gives each pixel's logits from its three colours, and learns by gradient descent; the
gradient takes the logits' memory.
"""

from __future__ import annotations

import numpy as np

import fastloss

CLASSES, VOID = 4, 255


def images(count: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the colour of their class, with noise, and labels; void between two classes."""
    rng = np.random.default_rng(count)
    colours = np.array([[1, 1, 1], [-2, 0, 1], [0, -2, -1], [1, 0, -2]], np.float32)
    labels = np.zeros((count, size, size), np.uint8)
    for of_image in labels:
        for k in range(1, CLASSES):
            x, y, width = rng.integers(0, size - 8), rng.integers(0, size - 8), rng.integers(3, 8)
            of_image[x : x + width, y : y + width] = k
    pixels = colours[labels] + 0.5 * rng.standard_normal((*labels.shape, 3), np.float32)
    edges = (np.diff(labels, axis=1, append=0) != 0) | (np.diff(labels, axis=2, append=0) != 0)
    return np.moveaxis(pixels, -1, 1), np.where(edges, np.uint8(VOID), labels)


def intersection_over_union(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    counted = labels != VOID
    return np.array(
        [
            ((predicted == k) & (labels == k)).sum() / (((predicted == k) | (labels == k)) & counted).sum()
            for k in range(CLASSES)
        ]
    )


def main() -> None:
    x, labels = images(16)
    count = np.bincount(labels.ravel(), minlength=256)[:CLASSES]
    loss = fastloss.CrossEntropyLoss(count.sum() / (CLASSES * count), ignore_index=VOID)
    weights, bias = np.zeros((CLASSES, 3), np.float32), np.zeros((CLASSES, 1, 1), np.float32)

    def logits(x: np.ndarray) -> np.ndarray:
        return np.einsum("kc,nchw->nkhw", weights, x, optimize=True) + bias

    values = []
    for _ in range(60):
        z = logits(x)
        value, grad = loss.value_and_grad(z, labels, grad_out=z)
        weights -= np.einsum("nkhw,nchw->kc", grad, x, optimize=True)
        bias -= grad.sum((0, 2, 3))[:, None, None]
        values.append(value)
    test, truth = images(7)
    ious = intersection_over_union(logits(test).argmax(1), truth)
    print(f"loss {values[0]:.3f} to {values[-1]:.3f}; intersection over union {ious.round(2)}")
    assert values[-1] < 0.3 * values[0]
    assert (ious > 0.6).all()
    z, grad = logits(x), np.empty_like(logits(x))
    loss.value_and_grad(z, labels, grad_out=grad)
    assert (np.moveaxis(grad, 1, -1)[labels == VOID] == 0).all()


if __name__ == "__main__":
    main()
