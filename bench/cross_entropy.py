"""cross_entropy against eager PyTorch: `python bench/cross_entropy.py [threads]`.

Prints, for each size in float32, the median milliseconds of value and of value with gradient, and the peak
memory that one call adds to what its input holds. Both libraries have the same threads, their calls take
turns in one process, and the arrays are faulted in first. The gradient of PyTorch is its forward and backward
pass; "in place" is fastloss with grad_out, which needs no fresh memory.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import fastloss

SIZES = [(65536, 2), (65536, 10), (16384, 1000), (512, 128256), (32, 10)]
SECONDS = 2.0  # for each line of the table


def medians(calls: list[Callable[[], object]]) -> list[float]:
    """Median milliseconds of each call, one after the other in every round."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    start = time.perf_counter()
    while len(times[0]) < 7 or time.perf_counter() - start < SECONDS:
        for call, taken in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            taken.append((time.perf_counter() - begin) * 1e3)
    return [statistics.median(taken) for taken in times]


def memory(field: str) -> float:
    """A figure of this process in MB: VmRSS now, or VmHWM, the peak."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def peak(call: Callable[[], object]) -> float:
    """MB that a call adds at its peak."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory("VmRSS")
    call()
    return memory("VmHWM") - before


def main() -> None:
    """Run the comparison."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    fastloss.set_num_threads(threads)
    torch.set_num_threads(threads)
    fastloss.show_config()
    print(f"{'PyTorch':<16} {torch.__version__}, {threads} threads each\n")
    print(f"{'':14}{'value, ms':^27}{'value and gradient, ms':^38}{'peak MB':>9}")
    columns = ["fastloss", "PyTorch", "ratio", "fastloss", "in place", "PyTorch", "ratio", "value"]
    print(f"{'':14}" + "".join(f"{name:>9}" for name in columns))
    rng = np.random.default_rng(0)
    for n, classes in SIZES:
        x = rng.standard_normal((n, classes), dtype=np.float32)
        target = rng.integers(0, classes, n)
        logits, labels = torch.from_numpy(x), torch.from_numpy(target)
        leaf = logits.clone().requires_grad_()
        loss = fastloss.CrossEntropyLoss()
        grad = np.zeros_like(x)

        def backward(leaf: torch.Tensor = leaf, labels: torch.Tensor = labels) -> None:
            leaf.grad = None
            F.cross_entropy(leaf, labels).backward()  # type: ignore[no-untyped-call]

        value, torch_value = medians([lambda: loss(x, target), lambda: F.cross_entropy(logits, labels)])  # noqa: B023
        both, given, torch_both = medians(
            [
                lambda: loss.value_and_grad(x, target),  # noqa: B023
                lambda: loss.value_and_grad(x, target, grad_out=grad),  # noqa: B023
                backward,
            ]
        )
        figures = [value, torch_value, torch_value / value, both, given, torch_both, torch_both / both]
        added = peak(lambda: loss(x, target))  # noqa: B023
        print(f"{n:>6,} x {classes:<7,}" + "".join(f"{f:9.3g}" for f in [*figures, added]), flush=True)


if __name__ == "__main__":
    main()
