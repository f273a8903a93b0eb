"""Multi-label classification of which most labels are missing: unknown is not "no".

    python docs/recipes/missing_labels.py

Of each sample only some of the answers are known. `mask` says which: the others take no part in value,
divisor and gradient, whatever stands there. Taking unknown for "no" instead makes every answer less likely.
"""

from __future__ import annotations

import numpy as np

import fastloss
from fastloss.metrics import log_loss


def fit(x: np.ndarray, y: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """Weights (features, labels) of a linear model, by gradient descent."""
    loss = fastloss.BCEWithLogitsLoss()
    weights = np.zeros((x.shape[1], y.shape[1]))
    for _ in range(300):
        _, grad = loss.value_and_grad(x @ weights, y, mask=known)
        weights -= 10 * x.T @ grad
    return weights


def main() -> None:
    rng = np.random.default_rng(0)
    x, truth = rng.standard_normal((3_000, 8)), 2 * rng.standard_normal((8, 5))
    y = (rng.random((3_000, 5)) < fastloss.sigmoid(x @ truth)).astype(float)
    known = rng.random(y.shape) < 0.3
    given = np.where(known, y, np.nan)  # as a table with holes has them
    train, test = np.s_[:2_000], np.s_[2_000:]
    losses = {}
    for name, weights in {
        "mask": fit(x[train], given[train], known[train]),
        "unknown is no": fit(x[train], np.nan_to_num(given[train]), None),
    }.items():
        of_labels = [log_loss(y[test][:, j], (x[test] @ weights)[:, j], from_logits=True) for j in range(5)]
        losses[name] = float(np.mean(of_labels))
        print(f"{name:14} log loss {losses[name]:.3f}")
    assert losses["mask"] < 0.7 * losses["unknown is no"]


if __name__ == "__main__":
    main()
