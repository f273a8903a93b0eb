"""A Keras 3 model on the PyTorch backend, whose loss is fastloss's.

    KERAS_BACKEND=torch python docs/recipes/keras_torch.py

Keras computes its cross-entropies by torch.nn.functional, where `fastloss.torch.patched()` takes their
place: the model, its losses and `model.fit` stay as they are.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch

import fastloss.torch


def fitted(x: np.ndarray, y: np.ndarray, units: int, loss: Any) -> list[float]:
    """Losses of the epochs."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((x.shape[1],)), keras.layers.Dense(32, "tanh"), keras.layers.Dense(units)]
    model = keras.Sequential(layers)
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=loss)
    losses: list[float] = model.fit(x, y, batch_size=250, epochs=2, verbose=0).history["loss"]
    return losses


def main() -> None:
    if keras.backend.backend() != "torch":
        raise SystemExit("this recipe wants KERAS_BACKEND=torch")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1_000, 10)).astype(np.float32)
    scores = x @ rng.standard_normal((10, 4)).astype(np.float32)
    tasks = {
        "labels": (scores.argmax(1), keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        "answers": ((scores > 0).astype(np.float32), keras.losses.BinaryCrossentropy(from_logits=True)),
    }
    own = torch.nn.functional.cross_entropy
    for name, (y, loss) in tasks.items():
        curves = []
        for context in (nullcontext(), fastloss.torch.patched()):
            with context:
                patched = torch.nn.functional.cross_entropy is not own
                curves.append(fitted(x, y, 4, loss))
        print(f"{name:8} loss {curves[0][0]:.5f} to {curves[0][-1]:.5f}, on fastloss to {curves[1][-1]:.5f}")
        assert patched
        assert curves[1][-1] < 0.8 * curves[1][0]
        assert max(abs(a - b) for a, b in zip(*curves, strict=True)) < 1e-4


if __name__ == "__main__":
    main()
