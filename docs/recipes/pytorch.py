"""A PyTorch training loop as it is, with its loss on fastloss.

    python docs/recipes/pytorch.py

Inside `fastloss.torch.patched()` the losses of torch.nn.functional, and with them the modules of torch.nn,
are fastloss's; the model, the loop and the optimiser do not change. The same seed gives the same curve as
PyTorch's own loss, but for rounding.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

import fastloss.torch


def trained(steps: int = 40) -> list[float]:
    """Losses of a small network on points of three spirals."""
    torch.manual_seed(0)
    labels = torch.arange(300) % 3
    angle = torch.rand(300) * 5
    turn = angle + labels * 2.1
    points = angle[:, None] * torch.stack([turn.cos(), turn.sin()], 1) / 3
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 3))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(model(points), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    own = torch.nn.functional.cross_entropy
    curves = []
    for context in (nullcontext(), fastloss.torch.patched()):
        with context:
            patched = torch.nn.functional.cross_entropy is not own
            curves.append(trained())
        print(f"{'fastloss' if patched else 'PyTorch ':8} loss {curves[-1][0]:.6f} to {curves[-1][-1]:.6f}")
    assert patched
    assert torch.nn.functional.cross_entropy is own
    assert curves[1][-1] < 0.8 * curves[1][0]
    assert max(abs(a - b) for a, b in zip(*curves, strict=True)) < 1e-3


if __name__ == "__main__":
    main()
