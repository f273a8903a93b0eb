"""Perplexity of logits on disk, which are larger than the memory that one wants to give to them.

    python docs/recipes/perplexity_memmap.py

A language model has written logits (tokens, vocabulary) in float16 to a file. They are read through a memory
map a piece at a time: `normalizer`, the count of the tokens of all pieces, makes the pieces' means add up to
the mean of the whole, in which padding does not count. Nothing is converted as a whole, and a piece's pages
can go as soon as the next one is read.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

import fastloss
from fastloss.metrics import perplexity

TOKENS, VOCABULARY, PADDING = 3_000, 4_000, -1


def written(path: Path) -> np.ndarray:
    """Write logits, as a model would, and return the labels; every tenth is padding."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, VOCABULARY, TOKENS)
    logits = np.memmap(path, np.float16, "w+", shape=(TOKENS, VOCABULARY))
    for i in range(0, TOKENS, 500):
        logits[i : i + 500] = rng.standard_normal((min(500, TOKENS - i), VOCABULARY), np.float32)
    logits[np.arange(TOKENS), labels] += 6
    logits.flush()
    labels[::10] = PADDING
    return labels


def of_pieces(logits: np.ndarray, labels: np.ndarray, rows: int = 256) -> float:
    """The perplexity, from `rows` tokens at a time."""
    loss = fastloss.CrossEntropyLoss(ignore_index=PADDING, empty="zero")
    count = int((labels != PADDING).sum())
    pieces = (np.s_[i : i + rows] for i in range(0, len(labels), rows))
    return math.exp(sum(loss(logits[i], labels[i], normalizer=count) for i in pieces))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logits.f16"
        labels = written(path)
        logits = np.memmap(path, np.float16, "r", shape=(TOKENS, VOCABULARY))
        value = of_pieces(logits, labels)
        print(f"perplexity {value:.4f} of {logits.nbytes / 1e6:.0f} MB of logits; a guess has {VOCABULARY}")
        whole = perplexity(logits, labels, ignore_index=PADDING)
        assert abs(value / whole - 1) < 1e-5  # rows' values are float32, added up in float64
        assert value < VOCABULARY / 10
        del logits  # Windows removes no file that is mapped


if __name__ == "__main__":
    main()
