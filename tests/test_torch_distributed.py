"""fastloss.torch and tensors spread over two processes: a DTensor is PyTorch's, unchanged.

But for what tests/test_torch_parallel.py is about.
"""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="fastloss.torch needs PyTorch")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)

WORKER = """
import datetime, os, sys, warnings
warnings.simplefilter("ignore")
import torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
import fastloss.torch as F

torch.set_num_threads(1)
rank, limit = int(sys.argv[1]), datetime.timedelta(seconds=60)
store = dist.FileStore(sys.argv[2], 2)  # so that no port has to be chosen; gloo takes free ones
dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=limit)
mesh = dist.init_device_mesh("cpu", (2,))
torch.manual_seed(1)
x, q, w = torch.randn(8, 5), torch.randn(8, 5).softmax(1), torch.rand(5) + 0.1
y = torch.tensor([0, -100, -100, -100, 1, 2, 3, 4])  # other numbers of rows count in the two halves
theirs = torch.nn.functional
CALLS = [
    lambda F, x, y, q: F.cross_entropy(x, y),
    lambda F, x, y, q: F.cross_entropy(x, y, reduction="sum"),
    lambda F, x, y, q: F.cross_entropy(x, y, reduction="none"),
    lambda F, x, y, q: F.nll_loss(x, y),
    lambda F, x, y, q: F.mse_loss(x, q),
    lambda F, x, y, q: F.binary_cross_entropy_with_logits(x, q),
    lambda F, x, y, q: F.kl_div(x, q, reduction="sum"),
    lambda F, x, y, q: F.softmax(x, 1),
    lambda F, x, y, q: F.log_softmax(x, 1),
    lambda F, x, y, q: F.logsigmoid(x),
    lambda F, x, y, q: getattr(F, "logsumexp", torch.logsumexp)(x, 1),
    lambda F, x, y, q: getattr(F, "sigmoid", torch.sigmoid)(x),
    lambda F, x, y, q: F.soft_margin_loss(x, q),
    lambda F, x, y, q: F.poisson_nll_loss(x, q),
    lambda F, x, y, q: F.multilabel_soft_margin_loss(x, q),
    lambda F, x, y, q: F.cross_entropy(x, [0] * 8),
    lambda F, x, y, q: F.nll_loss(x, y, [1.0] * 5),
]

def outcome(call, functions, placement, labels):
    try:
        leaf = distribute_tensor(x, mesh, [placement]).requires_grad_()
        target, soft = (distribute_tensor(t, mesh, [placement]) for t in (y, q))
        value = call(functions, leaf, target if labels else y, soft)
        value.sum().backward()
    except Exception as error:
        return type(error).__name__
    assert type(value) is DTensor and type(leaf.grad) is DTensor
    return value.placements, value.full_tensor(), leaf.grad.placements, leaf.grad.full_tensor()

OURS = {0, 3}  # whose mean over samples in parts is right
compared = 0
for number, call in enumerate(CALLS):
    for placement in (Replicate(),) if number in OURS else (Shard(0), Replicate()):
        wanted = outcome(call, theirs, placement, True)
        with F.patched():
            by_name = outcome(call, theirs, placement, True)
        for found in (outcome(call, F, placement, True), by_name):
            if isinstance(wanted, str):
                assert found == wanted, (number, found, wanted)
            else:
                compared += 1
                for a, b in zip(found, wanted, strict=True):
                    assert torch.equal(a, b) if torch.is_tensor(a) else a == b, (number, a, b)
plain = [F.cross_entropy(x, y), theirs.cross_entropy(x, y)]  # and tensors of the process alone as ever
assert (plain[0] - plain[1]).abs() < 1e-6

# Parameters that are freed after the forward pass.
layer = F.LinearCrossEntropyLoss(5, 4, bias=True)
fully_shard(layer, mesh=mesh)
layer(x, y.clamp(max=3)).backward()
assert all(p.grad.full_tensor().isfinite().all() for p in layer.parameters())

dist.barrier()
dist.destroy_process_group()
print("compared", compared, flush=True)
os._exit(0)  # gloo's threads, which the mesh still holds, may not survive the end of the interpreter
"""


def two_processes(file):
    """Outputs and exit statuses of the two workers, which are ended when it takes too long."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(file)],
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        return [(worker.communicate(timeout=150)[0], worker.returncode) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def test_dtensors_are_pytorchs(tmp_path):
    """Value, gradient and how they are spread equal PyTorch's to the bit, or its error comes."""
    results = two_processes(tmp_path / "store")
    assert [status for _, status in results] == [0, 0], results
    for output, _ in results:
        assert int(output.split()[-1]) >= 30
