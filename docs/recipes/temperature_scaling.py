"""Temperature scaling: probabilities that are what they say, from logits of a model that is too sure.

    python docs/recipes/temperature_scaling.py

`fastloss.temperature` finds on half of the samples the one number that the logits are to be divided by. The
labels of the other half are then as likely as their probabilities say, and no prediction changes.
"""

from __future__ import annotations

import numpy as np

import fastloss
from fastloss.metrics import expected_calibration_error, log_loss


def main() -> None:
    rng = np.random.default_rng(0)
    honest = 2 * rng.standard_normal((20_000, 10)).astype(np.float32)
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(1)  # drawn from softmax(honest)
    logits = 2.5 * honest
    half = len(labels) // 2
    temperature = fastloss.temperature(logits[:half], labels[:half])
    found = {}
    for name, x in (("as they are", logits), (f"divided by {temperature:.2f}", logits / temperature)):
        x, t = x[half:], labels[half:]
        error = expected_calibration_error(t, x, from_logits=True)
        found[name] = log_loss(t, x, from_logits=True), error
        print(f"{name:16} log loss {found[name][0]:.3f}, calibration error {error:.3f}")
    assert abs(temperature / 2.5 - 1) < 0.05
    (loss, error), (scaled_loss, scaled_error) = found.values()
    assert scaled_loss < 0.8 * loss
    assert scaled_error < 0.02 < 0.1 < error


if __name__ == "__main__":
    main()
