"""Reliability diagrams of a network that is too sure of itself.

    python docs/recipes/reliability.py [docs/calibration.png]

A small network learns half of scikit-learn's handwritten digits by heart. A quarter of them calibrates it,
and the last quarter shows what became of it: how often the predicted class is right, by how sure it was.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import fastloss
from fastloss.metrics import expected_calibration_error

BINS = 10


def logits_of(model: MLPClassifier, x: np.ndarray) -> np.ndarray:
    """What the last layer gives, before the softmax."""
    hidden = np.maximum(x @ model.coefs_[0] + model.intercepts_[0], 0)
    return hidden @ model.coefs_[1] + model.intercepts_[1]


def trained() -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of what the network has not seen; noise makes the digits hard."""
    rng = np.random.default_rng(0)
    x, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    x, labels = (x[order] + 8 * rng.standard_normal(x.shape)) / 16, labels[order]
    half = len(x) // 2
    model = MLPClassifier(64, alpha=0, max_iter=300, tol=0, n_iter_no_change=300, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is to go too far
        model.fit(x[:half], labels[:half])
    return logits_of(model, x[half:]), labels[half:]


def reliability(p: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and share of the samples of each bin of confidence."""
    confidence, right = p.max(1), p.argmax(1) == labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    return np.bincount(place, right, BINS) / np.maximum(count, 1), count / len(p)


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    logits, labels = trained()
    use, rest = np.s_[: len(logits) // 2], np.s_[len(logits) // 2 :]
    temperature = fastloss.temperature(logits[use], labels[use])
    scale, bias = fastloss.vector_scaling(logits[use], labels[use])
    scaled = {
        "as trained": logits,
        f"temperature {temperature:.2f}": logits / temperature,
        "vector scaling": logits * scale + bias,
    }
    errors = {}
    figure, axes = pyplot.subplots(1, 3, figsize=(9, 3.2), sharey=True, layout="constrained")
    for ax, (name, z) in zip(axes, scaled.items(), strict=True):
        p = fastloss.softmax(z[rest])
        accuracy, share = reliability(p, labels[rest])
        errors[name] = error = expected_calibration_error(labels[rest], p, n_bins=BINS)
        value = fastloss.cross_entropy(z[rest], labels[rest])
        print(f"{name:18} cross-entropy {value:.3f}, calibration error {error:.3f}")
        middle = np.arange(0.05, 1, 0.1)
        ax.bar(middle, accuracy, 0.1, edgecolor="white", label="right")
        ax.bar(middle, share, 0.03, color="C1", label="share of samples")
        ax.plot([0, 1], [0, 1], "k--", linewidth=1)
        ax.set(title=f"{name}\ncalibration error {error:.3f}", xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
    axes[0].legend(loc="upper left", fontsize=8)
    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1], dpi=70)
    before, by_temperature, by_vector = errors.values()
    assert max(by_temperature, by_vector) < before / 2


if __name__ == "__main__":
    main()
