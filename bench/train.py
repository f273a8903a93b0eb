"""Two models trained with the losses of PyTorch and of fastloss in turn: `python -m bench train`.

A network for scikit-learn's handwritten digits, and a character-level transformer on the language reference
that ships with Python (pydoc_data). The code of both calls torch.nn.functional.cross_entropy; for fastloss it
runs inside fastloss.torch.patched(). Each training is a process of its own, with the same seed. Printed are
the median step, the part of the loss in it (forward, and backward to the logits), the peak memory that
training adds, and how far the loss curve is from one whose loss is computed in float64: rounding grows during
training, in PyTorch's curve as in fastloss's. The curves and steps are drawn in train.png.

The exit status is 1 if fastloss's curve is more than ten times as far from the float64 one as PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .options import shared

KINDS = ["float64", "torch", "fastloss"]
Batches = Iterator[tuple[Tensor, Tensor]]


def digits() -> tuple[nn.Module, Batches]:
    """1,797 images of 8 x 8 pixels, and a network with one hidden layer."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)

    def batches() -> Batches:
        while True:
            chosen = torch.randint(len(labels), (256,))
            yield images[chosen], labels[chosen]

    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)), batches()


class Transformer(nn.Module):
    """Characters to logits of the next one."""

    def __init__(self, characters: int, width: int = 64, length: int = 64) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(characters, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(width, characters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, one row for each character."""
        hidden = self.characters(x) + self.places.weight
        return self.head(self.body(hidden, mask=self.mask, is_causal=True)).flatten(0, 1)


def characters() -> tuple[nn.Module, Batches]:
    """The language reference, 32 pieces of 64 characters at a time."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    known = sorted(set(text))
    numbers = {character: i for i, character in enumerate(known)}
    data = torch.tensor([numbers[character] for character in text])

    def batches() -> Batches:
        while True:
            pieces = torch.stack([data[i : i + 65] for i in torch.randint(len(data) - 65, (32,)).tolist()])
            yield pieces[:, :-1], pieces[:, 1:].flatten()

    return Transformer(len(known)), batches()


TASKS: dict[str, Callable[[], tuple[nn.Module, Batches]]] = {"digits": digits, "characters": characters}


def step(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor, wide: bool) -> float:
    """One step of training, written without fastloss in mind."""
    optimiser.zero_grad()
    logits = model(x)
    loss = F.cross_entropy(logits.double() if wide else logits, y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss.item()


def memory(field: str) -> float:
    """A figure of this process in MB: VmRSS now, or VmHWM, the peak."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def milliseconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1e3


def train(task: str, kind: str, steps: int) -> dict[str, Any]:
    """Curve and figures of one training in this process."""
    if kind == "fastloss":
        import fastloss.torch

        context: Any = fastloss.torch.patched()
    else:
        context = nullcontext()
    torch.manual_seed(0)
    model, batches = TASKS[task]()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    curve, times = [], []
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory("VmRSS")
    with context:
        for _ in range(steps):
            x, y = next(batches)
            begin = time.perf_counter()
            curve.append(step(model, optimiser, x, y, kind == "float64"))
            times.append((time.perf_counter() - begin) * 1e3)
        peak = memory("VmHWM") - before
        logits = model(x).detach().requires_grad_()
        loss = [
            milliseconds(lambda: torch.autograd.grad(F.cross_entropy(logits, y), logits)) for _ in range(200)
        ]
    figures = {"step": statistics.median(times), "loss": statistics.median(loss), "peak": peak}
    return {"curve": curve, "times": times, "rows": list(logits.shape), **figures}


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Curves, and the times of all steps, of PyTorch and fastloss."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(results), figsize=(10, 7), layout="constrained", squeeze=False)
    for (task, kinds), (above, below) in zip(results.items(), axes.T, strict=True):
        for kind, line in (("torch", "-"), ("fastloss", "--")):
            above.plot(kinds[kind]["curve"], line, label=kind)
            below.plot(
                kinds[kind]["times"], line, label=f"{kind}: median {kinds[kind]['step']:.2f} ms", lw=0.8
            )
        rows, classes = kinds["torch"]["rows"]
        above.set(title=f"{task}: {rows:,} rows of {classes} classes", xlabel="step", ylabel="cross-entropy")
        below.set(xlabel="step", ylabel="milliseconds", ylim=(0, 3 * kinds["torch"]["step"]))
        above.legend()
        below.legend()
    figure.savefig(path, dpi=120)


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, threads=2, output=Path("bench"))
    steps = "of each training (default: %(default)s)"
    parser.add_argument("--steps", metavar="N", type=int, default=300, help=steps)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)


def main(options: argparse.Namespace) -> int:
    """Train everything, one process after the other; print and draw."""
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(train(*options.one, options.steps)))
        return 0
    results: dict[str, dict[str, Any]] = {}
    failed = False
    command = [sys.executable, "-m", "bench", "train"]
    print(f"PyTorch {torch.__version__}, {options.threads} threads, {options.steps} steps\n")
    columns = f"{'step, ms':>10}{'loss, ms':>10}{'peak, MB':>10}{'last loss':>12}{'off float64':>13}"
    print(f"{'':11}{'losses':>10}{columns}")
    for task in TASKS:
        results[task] = {}
        for kind in KINDS:
            settings = ["--threads", str(options.threads), "--steps", str(options.steps), "--one", task, kind]
            done = subprocess.run([*command, *settings], check=True, stdout=subprocess.PIPE)
            results[task][kind] = json.loads(done.stdout)
        exact = results[task]["float64"]["curve"]
        off = {}
        for kind in KINDS[1:]:
            found = results[task][kind]
            off[kind] = max(abs(a - b) for a, b in zip(found["curve"], exact, strict=True))
            figures = f"{found['step']:10.2f}{found['loss']:10.3f}{found['peak']:10.1f}"
            print(f"{task:11}{kind:>10}{figures}{found['curve'][-1]:12.6f}{off[kind]:13.1e}")
        failed |= off["fastloss"] > 10 * off["torch"] + 1e-6
    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "train.png"
    draw(results, picture)
    print(f"\n{picture}")
    return int(failed)
