"""Metrics beside scikit-learn's, time and memory: `python -m bench metrics`.

log_loss, brier_score_loss and d2_log_loss_score of float32 and float64 probabilities, and from the logits
that they are of, which scikit-learn does not take: beside it stands scikit-learn's of the probabilities. The
values are compared first. The calls take turns in one process on equal threads; printed are medians, and the
MB that a call adds at its peak. scikit-learn's of 100,000 x 1,000 takes up to 4 GB.

The exit status is 1 if a ratio is below 10, or a peak above a tenth of the array's size and 8 MB.
"""

from __future__ import annotations

import argparse
import re
from functools import partial

import numpy as np
import sklearn.metrics
from threadpoolctl import threadpool_limits

import fastloss

from .compare import peak
from .options import shared
from .scikit import drawn, turns

SHAPES = [(1_000_000, 2), (1_000_000, 10), (100_000, 1_000)]
FUNCTIONS = ["log_loss", "brier_score_loss", "d2_log_loss_score"]
LEAST, MOST = 10, 0.1


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", threads=fastloss.get_num_threads())
    parser.add_argument("--times", type=int, default=5, help="of each call (default: %(default)s)")


def main(options: argparse.Namespace) -> int:
    """Print a line for each function, shape and dtype, and what is missed."""
    missed = False
    columns = [*(f"{name:>10}" for name in ("ms", "theirs", "ratio", "MB", "theirs"))]
    print(f"scikit-learn {sklearn.__version__}, {options.threads} threads\n\n{'':52}{''.join(columns)}")
    with fastloss.threads(options.threads), threadpool_limits(options.threads):
        for shape in SHAPES:
            for dtype in (np.float32, np.float64):
                rows = [
                    (f"{name}, {shape[0]:,} x {shape[1]:,}, {np.dtype(dtype)}", name) for name in FUNCTIONS
                ]
                rows = [(title, name) for title, name in rows if re.search(options.rows, title)]
                if not rows:
                    continue
                logits, labels = drawn(shape, dtype)
                logits /= 3  # no probability is so small that it is clipped
                p = fastloss.softmax(logits)
                for title, name in rows:
                    own = getattr(fastloss.metrics, name)
                    calls = [
                        partial(own, labels, p),
                        partial(own, labels, logits, from_logits=True),
                        partial(getattr(sklearn.metrics, name), labels, p),
                    ]
                    values = [call() for call in calls]
                    np.testing.assert_allclose(values, values[2], rtol=1e-5 if dtype == np.float32 else 1e-9)
                    ms, added = turns(calls, options.times), [peak(call) or 0.0 for call in calls]
                    for i, of in enumerate(("", ", from logits")):
                        ratio = ms[2] / ms[i]
                        wrong = ratio < LEAST or added[i] > 8 + MOST * p.nbytes / 2**20
                        missed |= wrong
                        figures = f"{ms[i]:10.1f}{ms[2]:10.1f}{ratio:10.1f}{added[i]:10.1f}{added[2]:10.1f}"
                        print(f"{title + of:52}{figures}{'  missed' if wrong else ''}", flush=True)
    return int(missed)
