"""Asymmetric loss of multi-label classification, with its gradient by the logits.

With p = sigmoid(x), q = max(p - m, 0) and labels y of 0 and 1,

    -y (1 - p)^a log p - (1 - y) q^b log(1 - q)

Negatives, of which most are easy, count less, and nothing below the margin m. What bounds its speed is the
number of passes over memory: blocks of elements that stay in the cache take as many as they like.

- -log(1 - q) and 1 / (1 - q) are the binary cross-entropy of probabilities q with labels 0, and its slope.
- The few positives are those of `sigmoid_focal_loss`, gathered.
- `sigmoid_vjp` makes a derivative by p one by x.

Ridnik et al., "Asymmetric loss for multi-label classification" (2021).

Run it: python docs/recipes/asymmetric.py
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import fastloss

Array = NDArray[np.floating]
BLOCK = 16384  # elements: six arrays of float32 are 384 KB


class AsymmetricLoss:
    """Sum over the elements, and its gradient; the exponent of negatives is a whole number of at least 1."""

    def __init__(self, gamma_neg: int = 4, gamma_pos: float = 1.0, margin: float = 0.05) -> None:
        self.gamma_neg, self.margin = gamma_neg, margin
        self.of_negatives = fastloss.BCELoss(reduction="none")
        self.of_positives = fastloss.SigmoidFocalLoss(gamma_pos, reduction="sum")

    def value_and_grad(self, logits: Array, labels: NDArray[np.bool_]) -> tuple[float, Array]:
        """Return both, for logits and labels of one shape."""
        result = np.empty(logits.shape, logits.dtype)
        x, y, grad = logits.reshape(-1), labels.reshape(-1), result.reshape(-1)
        value, zeros = 0.0, np.zeros(BLOCK, x.dtype)
        buffers = np.empty((5, BLOCK), x.dtype)
        for start in range(0, x.size, BLOCK):
            part = slice(start, min(start + BLOCK, x.size))
            p, q, power, loss, slope = buffers[:, : part.stop - start]
            fastloss.sigmoid(x[part], out=p)
            np.subtract(p, x.dtype.type(self.margin), out=q)
            np.maximum(q, 0, out=q)
            np.putmask(q, y[part], 0)
            self.of_negatives.value_and_grad(q, zeros[: q.size], out=loss, grad_out=slope)
            # q^b l has the derivative q^(b-1) (b l + q l')
            np.copyto(power, q if self.gamma_neg > 1 else 1)
            for _ in range(self.gamma_neg - 2):
                power *= q
            slope *= q
            q *= loss
            q *= power
            value += float(q.sum())
            loss *= self.gamma_neg
            slope += loss
            slope *= power
            fastloss.sigmoid_vjp(p, slope, out=grad[part])
        positive = np.flatnonzero(y)
        ones = np.ones(positive.size, x.dtype)
        of_positives, grad[positive] = self.of_positives.value_and_grad(x[positive], ones)
        return value + of_positives, result


def formula(x: Array, y: NDArray[np.bool_], gamma_neg: int, gamma_pos: float, margin: float) -> float:
    """The sum as it stands above, in float64."""
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    q = np.maximum(p - margin, 0)
    return float(np.where(y, -((1 - p) ** gamma_pos) * np.log(p), -(q**gamma_neg) * np.log1p(-q)).sum())


def main() -> None:
    """Compare value and gradient with the formula and its differences."""
    rng = np.random.default_rng(0)
    x, y = 3 * rng.standard_normal((300, 80)), rng.random((300, 80)) < 0.05
    for gammas in ((4, 1.0), (2, 0.0), (1, 0.5)):
        value, grad = AsymmetricLoss(*gammas).value_and_grad(x, y)
        assert abs(value / formula(x, y, *gammas, 0.05) - 1) < 1e-12
        single, of_single = AsymmetricLoss(*gammas).value_and_grad(x.astype(np.float32), y)
        assert abs(single / value - 1) < 1e-5
        assert np.abs(of_single - grad).max() < 1e-5
        step = 1e-5
        for place in zip(*(rng.integers(0, n, 50) for n in x.shape), strict=True):
            up, down = x.copy(), x.copy()
            up[place] += step
            down[place] -= step
            slope = (formula(up, y, *gammas, 0.05) - formula(down, y, *gammas, 0.05)) / (2 * step)
            assert abs(grad[place] - slope) < 1e-6
    print(f"asymmetric loss of {x.shape[0]} samples and {x.shape[1]} labels: {value / len(x):.4f} each")


if __name__ == "__main__":
    main()
