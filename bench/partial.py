"""Classes in several arrays: `python -m bench partial`.

Milliseconds of parts that are merged, for values beside `logsumexp` and for values with gradients beside the
fused call, on one array and on several. Then, with PyTorch, logits whose classes lie in two processes:
`fastloss.torch.parallel.cross_entropy` beside PyTorch's `loss_parallel`, forward and backward pass, and what
each process needs of memory beside the gradient. Calls take turns in one process, and are medians.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastloss

from .options import peers_of, shared

#: Samples, classes, and how many arrays these are in.
SIZES = [(512, 128256, 4), (512, 32000, 4), (4096, 4096, 2)]
RANKS, SHARDED = 2, (512, 128256)


def turns(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Milliseconds of each call, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begun)
    return {name: 1e3 * statistics.median(all_times) for name, all_times in times.items()}


def cases(samples: int, classes: int, count: int) -> dict[str, Callable[[], Any]]:
    """The calls of one size."""
    rng = np.random.default_rng(0)
    x, t = 2 * rng.standard_normal((samples, classes), np.float32), rng.integers(0, classes, samples)
    loss, grad = fastloss.CrossEntropyLoss(), np.empty_like(x)
    parts = np.array_split(np.arange(classes), count)
    arrays = [(int(p[0]), np.ascontiguousarray(x[:, p[0] : p[-1] + 1])) for p in parts]
    grads = [np.empty_like(array) for _, array in arrays]

    def merged() -> Any:
        found = [loss.partial(array, t, start=start) for start, array in arrays]
        return functools.reduce(fastloss.Partial.merge, found)

    def with_gradient() -> None:
        whole = merged()
        whole.value()
        for (start, array), out in zip(arrays, grads, strict=True):
            whole.grad(array, t, start=start, grad_out=out)

    return {
        "logsumexp": lambda: fastloss.logsumexp(x, 1),
        "  cross_entropy": lambda: loss(x, t),
        f"  of {count} parts": lambda: merged().value(),
        "cross_entropy, gradient": lambda: loss.value_and_grad(x, t, grad_out=grad),
        f"  of {count} parts ": with_gradient,
    }


def in_processes(seconds: float) -> None:
    """Run `of_rank` in processes, and print what the first says."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.partial", str(Path(folder) / "store"), str(seconds)]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
        ranks = [
            subprocess.Popen([*command, str(rank)], env=environment, stdout=subprocess.PIPE, text=True)
            for rank in range(RANKS)
        ]
        output = [rank.communicate()[0] for rank in ranks]
    found = json.loads(output[0].splitlines()[-1])
    base = found["time"]["loss_parallel"]
    print(f"{SHARDED[0]} x {SHARDED[1]}, float32, classes in {RANKS} processes of one thread, with gradient")
    for name, took in found["time"].items():
        memory = found["memory"][name]
        print(f"  {name:42}{took:10.2f} ms {base / took:6.2f} times as fast, {memory:+.0f} MB a process")


def of_rank(store: str, seconds: float, rank: int) -> None:
    """One of the processes: times, and memory beside the gradient, of both."""
    import torch
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.distributed.tensor.parallel import loss_parallel

    from fastloss.torch import parallel

    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, RANKS), rank=rank, world_size=RANKS)
    mesh = dist.init_device_mesh("cpu", (RANKS,))
    samples, classes = SHARDED
    generator = torch.Generator().manual_seed(rank)
    local = torch.randn(samples, classes // RANKS, generator=generator).requires_grad_()
    target = torch.arange(samples) * 211 % classes

    def ours() -> Any:
        loss = parallel.cross_entropy(local, target)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def theirs() -> Any:
        spread = DTensor.from_local(local, mesh, [Shard(1)], run_check=False)
        labels = DTensor.from_local(target, mesh, [Replicate()], run_check=False)
        with loss_parallel():
            loss = torch.nn.functional.cross_entropy(spread, labels)
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.full_tensor().item()

    def fresh() -> None:
        local.grad = None
        dist.barrier()

    assert abs(ours() - theirs()) < 1e-4
    calls = {"loss_parallel": theirs, "fastloss.torch.parallel": ours}
    grown = {name: growth(call, fresh) for name, call in calls.items()}
    count = max(3, int(seconds))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            fresh()
            begun = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begun)
    if rank == 0:
        medians = {name: 1e3 * statistics.median(took) for name, took in times.items()}
        print(json.dumps({"time": medians, "memory": grown}))
    dist.barrier()
    dist.destroy_process_group()


def growth(call: Callable[[], Any], fresh: Callable[[], Any]) -> float:
    """MB by which the resident memory is larger at its peak than with the gradient alone."""
    status = Path("/proc/self/status")

    def field(name: str) -> float:
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024 / 1e6

    fresh()
    call()
    before = field("VmRSS")
    fresh()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    call()
    return field("VmHWM") - before


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add those of this verb."""
    shared(parser, peers="torch", seconds=0.5, threads=fastloss.get_num_threads())


def main(given: argparse.Namespace) -> int:
    """Time every size, then the processes."""
    fastloss.set_num_threads(given.threads)
    for samples, classes, count in SIZES:
        print(f"{samples} x {classes}, float32, {given.threads} threads")
        base = 1.0
        for name, took in turns(cases(samples, classes, count), given.seconds).items():
            base = took if not name.startswith(" ") else base
            print(f"  {name:42}{took:10.2f} ms {took / base:6.2f}")
    if "torch" in peers_of(given.peers, ["torch"]):
        in_processes(10 * given.seconds)
    return 0


if __name__ == "__main__":
    of_rank(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
