"""Perplexity of arrays in files: ``python -m fastloss perplexity LOGITS.npy TARGETS.npy``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any
from zipfile import BadZipFile

import numpy as np

import fastloss

from ._report import optional


def parsed(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read the options."""
    parser = argparse.ArgumentParser(
        prog="python -m fastloss perplexity",
        description="exp of the mean cross-entropy of labels under logits, in files of NumPy of any size: "
        "a block is read at a time, and the result has the same bits for any blocks and threads.",
    )
    parser.add_argument("logits", metavar="LOGITS.npy", help="floats of shape (..., classes)")
    parser.add_argument("targets", metavar="TARGETS.npy", help="class indices of shape (...)")
    parser.add_argument(
        "--ignore-index",
        type=int,
        action="append",
        metavar="LABEL",
        help="a label that does not count; may be given several times (default: -100)",
    )
    parser.add_argument("--rows", type=int, metavar="N", help="samples of a block (default: 32 MiB)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser, parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the perplexity; exit status 0."""
    parser, options = parsed(arguments)
    try:
        if options.threads is not None:
            fastloss.set_num_threads(options.threads)
    except ValueError as error:
        parser.error(str(error).replace("n: got", "--threads: got"))
    try:
        logits, targets = map(_array, (options.logits, options.targets))
        if logits.ndim == 0 or logits.shape[-1] == 0:
            raise ValueError(f"{options.logits}: got shape {logits.shape}, wanted (..., classes)")
        if targets.shape != logits.shape[:-1]:
            raise ValueError(
                f"{options.targets}: got shape {targets.shape}, wanted {logits.shape[:-1]} beside logits of "
                f"shape {logits.shape}"
            )
        loss = fastloss.CrossEntropyLoss(ignore_index=options.ignore_index or -100, axis=-1)
        rows = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
        total = fastloss.stream(loss, *rows, rows=options.rows, progress=_can_show())
    except (OSError, IndexError, TypeError, ValueError) as error:
        parser.error(str(error))
    result: dict[str, Any] = {"perplexity": total.perplexity, "nats": total.mean, "samples": total.count}
    if options.json:
        print(json.dumps({k: v if np.isfinite(v) else str(v) for k, v in result.items()}))
    else:
        print(f"perplexity {total.perplexity:.6g}   ({total.mean:.6f} nats, {total.count:,} samples)")
    return 0


def _array(path: str) -> Any:
    try:
        array = np.load(path, mmap_mode="r")
    except (BadZipFile, EOFError, ValueError) as error:  # others name the file
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: got an archive of arrays, wanted the file of one, by numpy.save")
    return array


def _can_show() -> bool:
    """Whether there is a terminal for a bar, and rich to draw it."""
    return sys.stderr.isatty() and sys.stdout.isatty() and optional("rich") is not None
