"""Loss and backward pass in eager PyTorch code: `python -m bench torch`.

Prints, for each size in float32 and bfloat16, the median milliseconds of fastloss.torch.cross_entropy and of
torch.nn.functional.cross_entropy, each followed by backward() to the logits, and the peak memory that they
add to what the logits hold. The calls take turns in one process with the same number of threads.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial

import torch

import fastloss.torch
from fastloss._timing import medians

from .compare import peak
from .options import shared

SIZES = [(65536, 2), (65536, 10), (16384, 1000), (512, 128256), (32, 10)]


def step(function: Callable[..., torch.Tensor], logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Loss, and its gradient in logits.grad."""
    logits.grad = None
    function(logits, labels).backward()  # type: ignore[no-untyped-call]


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", seconds=1.0, threads=2)


def main(options: argparse.Namespace) -> None:
    """Run the comparison."""
    threads = options.threads
    torch.set_num_threads(threads)
    fastloss.show_config()
    print(f"{'PyTorch':<16} {torch.__version__}, {threads} threads each\n")
    print(f"{'':25}{'loss + backward, ms':^27}{'peak MB':^18}")
    print(
        f"{'':25}" + "".join(f"{name:>9}" for name in ["fastloss", "PyTorch", "ratio", "fastloss", "PyTorch"])
    )
    for dtype in (torch.float32, torch.bfloat16):
        for n, classes in SIZES:
            name = f"{n:>6,} x {classes:<7,} {str(dtype).removeprefix('torch.')}"
            if not re.search(options.rows, name):
                continue
            logits = torch.randn(n, classes).to(dtype).requires_grad_()
            labels = torch.randint(classes, (n,))
            functions = fastloss.torch.cross_entropy, torch.nn.functional.cross_entropy
            calls = {function.__module__: partial(step, function, logits, labels) for function in functions}
            ours, theirs = medians(calls, options.seconds * (1 if classes > 10 else 0.3)).values()
            memory = []
            for call in calls.values():
                logits.grad = None
                memory.append(peak(call) or 0.0)
            figures = [ours, theirs, theirs / ours, *memory]
            print(f"{name:25}" + "".join(f"{f:9.3g}" for f in figures), flush=True)
