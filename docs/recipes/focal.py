"""Focal loss: what is easy no longer outweighs what is hard.

    python docs/recipes/focal.py

One sample in a hundred is of the rare class, and most of the others are easy. Each of these adds little to
the gradient of the cross-entropy, but all of them together most of it. Focal loss multiplies the loss of a
sample by (1 - p)^γ, which is about 0 where it is easy: the share of the easy ones goes down, and γ = 0 is
cross-entropy.
"""

from __future__ import annotations

import numpy as np

import fastloss


def easy_share(logits: np.ndarray, labels: np.ndarray, gamma: float) -> float:
    """The part of the gradient that samples with p above 0.9 have."""
    _, grad = fastloss.FocalLoss(gamma, reduction="sum").value_and_grad(logits, labels)
    p = fastloss.softmax(logits)[np.arange(len(labels)), labels]
    size = np.abs(grad).sum(1)
    return float(size[p > 0.9].sum() / size.sum())


def main() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(50_000) < 0.01).astype(int)
    margin = np.where(labels == 1, rng.normal(0, 2, labels.size), rng.normal(4, 1.5, labels.size))
    logits = np.zeros((labels.size, 2))
    logits[np.arange(labels.size), labels] = margin
    shares = {gamma: easy_share(logits, labels, gamma) for gamma in (0.0, 1.0, 2.0, 5.0)}
    for gamma, share in shares.items():
        print(f"gamma {gamma:3.1f}: {share:6.1%} of the gradient comes from samples with p above 0.9")
    values = list(shares.values())
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.25 > 0.05 > values[2]
    plain = fastloss.cross_entropy(logits, labels)
    assert abs(fastloss.focal_loss(logits, labels, 0.0) / plain - 1) < 1e-12


if __name__ == "__main__":
    main()
