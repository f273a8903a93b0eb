"""What each process of tests/test_torch_parallel.py runs: `shards.py RANK STORE SIZE`."""

# ruff: noqa: E402
import datetime
import math
import os
import re
import sys
import warnings

warnings.simplefilter("ignore")
import torch
import torch.distributed as dist
import torch.nn.functional as theirs
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import fastloss.torch as F
from fastloss import reference as oracle
from fastloss.torch import parallel

torch.set_num_threads(1)
rank, size, limit = int(sys.argv[1]), int(sys.argv[3]), datetime.timedelta(seconds=60)
store = dist.FileStore(sys.argv[2], size)  # so that no port has to be chosen; gloo takes free ones
dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
checks = 0


def check(truth, *what):
    global checks
    assert truth, what
    checks += 1


def fails(kind, pattern, *args, call=parallel.cross_entropy, **options):
    try:
        call(*args, **options)
    except kind as error:
        check(re.search(pattern, str(error)), pattern, str(error))
    else:
        raise AssertionError(f"no {kind}: {pattern}")


def same_everywhere(tensor):
    found = [torch.empty_like(tensor) for _ in range(size)]
    dist.all_gather(found, tensor.contiguous())
    return all(torch.equal(other, tensor) for other in found)


def reference(x, y, w, z_loss=0.0, **options):
    value = oracle.cross_entropy(
        x.double().numpy(), y.numpy(), None if w is None else w.double().numpy(), z_loss=z_loss, **options
    )
    return torch.as_tensor(value[0], dtype=torch.float64), torch.as_tensor(value[1])


generator = torch.Generator().manual_seed(0)
OPTIONS = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"label_smoothing": 0.1},
    {"z_loss": 0.01},
    {"weight": True},
    {"weight": True, "label_smoothing": 0.2, "z_loss": 0.1, "ignore_index": 3},
]
SHAPES = [
    ((9, 41), [10, 31, 0, 0]),
    ((7, 3000), [2900, 40, 59, 1]),
    ((3, 10, 4), [7, 3, 0, 0]),
    ((12,), [5, 7, 0, 0]),
]
for shape, counts in SHAPES:
    if size == 2:
        counts = [counts[0], sum(counts[1:])]
    axis = min(1, len(shape) - 1)
    classes = sum(counts)
    first = sum(counts[:rank])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = (4 * torch.randn(shape, generator=generator)).to(dtype)
        samples = shape[:axis] + shape[axis + 1 :]
        labels = torch.randint(0, classes, samples, generator=generator)
        w = torch.rand(classes, generator=generator).to(dtype) + 0.5
        for options in OPTIONS:
            options, y = dict(options), labels.clone()
            if y.ndim:
                y.view(-1)[::4] = options.get("ignore_index", -100)
            weight = w if options.pop("weight", False) else None
            local = x.narrow(axis, first, counts[rank]).clone().requires_grad_()
            value = parallel.cross_entropy(local, y, weight, **options)
            check(value.dtype == dtype and same_everywhere(value.detach()), "same bits")
            wanted, slope = reference(x, y, weight, **options)
            u = torch.finfo(dtype).eps
            torch.testing.assert_close(value.double(), wanted.reshape(value.shape), rtol=8 * u, atol=8 * u)
            upstream = torch.full_like(value, 3.0)
            value.backward(upstream)
            slope = 3 * slope.narrow(axis, first, counts[rank])
            torch.testing.assert_close(local.grad.double(), slope, rtol=16 * u, atol=16 * u)
            again = parallel.cross_entropy(local.detach(), y.int(), weight, **options)
            check(torch.equal(again, value.detach()) and not again.requires_grad, "labels of another type")

x, y = torch.randn(6, 4, generator=generator), torch.tensor([0, 1, -100, 3, 2, 7])
local = x[:, :2].clone().requires_grad_()
if size * 2 < 8:
    fails(IndexError, rf"target\[5\]: its label is in no part, wanted one in \[0, {2 * size}\)", local, y)
y[5] = 3
value = parallel.cross_entropy(local, y)
(slope,) = torch.autograd.grad(value, local, create_graph=True)
fails(RuntimeError, "no second derivatives", slope.sum(), local, call=torch.autograd.grad)
with torch.no_grad():
    check(not parallel.cross_entropy(local, y).requires_grad)
check(parallel.cross_entropy(local, torch.full((6,), -100)).isnan())

# what differs between the processes, and what one of them refuses, is an error in all of them
last = rank == size - 1
fails(RuntimeError, f"^the loss's options: rank {size - 1}", local, y, label_smoothing=0.1 * last)
fails(RuntimeError, "^the samples' shape: rank", local[: 6 - last], y[: 6 - last])
fails(RuntimeError, "^the dtype of the logits: rank", local.double() if last else local, y)
fails(RuntimeError, "^target: rank", local, y - int(last))
fails(RuntimeError, "^weight: rank", local, y, torch.ones(2 * size) if last else None)
said = f"local_logits: got dtype torch.int64|rank {size - 1} of the group refused"
fails(TypeError if last else RuntimeError, said, local.long() if last else local, y)
fails(ValueError if last else RuntimeError, "^target: got shape|refused", local, y[:5] if last else y)
reduction, said = "avg" if last else "mean", "^reduction: got 'avg'|refused"
fails(ValueError if last else RuntimeError, said, local, y, reduction=reduction)
fails(ValueError, rf"^weight: got shape \(3,\), wanted \({2 * size},\)", local, y, torch.ones(3))
halves = dist.new_group([0, 1])
if rank < 2:
    found = parallel.cross_entropy(x[:, 2 * rank : 2 * rank + 2], y, group=halves)
    torch.testing.assert_close(found, theirs.cross_entropy(x, y))
    checks += 1

# DTensors
mesh = dist.init_device_mesh("cpu", (size,))
torch.manual_seed(1)
x, w = torch.randn(8, 5), torch.rand(5) + 0.1
y = torch.tensor([0, -100, -100, -100, 1, 2, 3, 4])  # other numbers of rows count in the parts


def spread(x, y, placement, labels, plain=False):
    leaf = distribute_tensor(x, mesh, [placement]).requires_grad_()
    return leaf, y if plain else distribute_tensor(y, mesh, [labels])


def close(a, b):
    torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-7)


def compare(name, call, x, y, placement, labels, plain=False, **options):
    alone = x.clone().requires_grad_()
    wanted = getattr(theirs, name)(alone, y, **options)
    wanted.sum().backward()
    leaf, target = spread(x, y, placement, labels, plain)
    value = call(leaf, target, **options)
    value.sum().backward()
    assert type(value) is DTensor
    assert type(leaf.grad) is DTensor
    close(value.full_tensor(), wanted.detach())
    close(leaf.grad.full_tensor(), alone.grad)
    check(leaf.grad.placements == (placement,))


volume, marks = torch.randn(4, 5, 6), torch.randint(0, 5, (4, 6))
for call in (F.cross_entropy, lambda *a, **o: theirs.cross_entropy(*a, **o)):
    with F.patched():
        for reduction in ("mean", "sum", "none"):
            compare("cross_entropy", call, x, y, Shard(1), Replicate(), reduction=reduction)
        compare("cross_entropy", call, x, y, Shard(1), Replicate(), plain=True)
        compare("cross_entropy", call, x, y, Shard(1), Replicate(), label_smoothing=0.1)
        compare("cross_entropy", call, x, y, Shard(0), Shard(0))
        compare("cross_entropy", call, x, y, Shard(0), Shard(0), label_smoothing=0.1)
        compare("cross_entropy", call, volume, marks, Shard(1), Replicate())
        compare("cross_entropy", call, volume, marks, Shard(2), Shard(1))
compare("nll_loss", F.nll_loss, x.log_softmax(1), y, Shard(0), Shard(0))
weighted = theirs.cross_entropy(x, y, w, label_smoothing=0.1)
for placement, labels in ((Shard(0), Shard(0)), (Shard(1), Replicate())):
    leaf, target = spread(x, y, placement, labels)
    value = F.cross_entropy(leaf, target, distribute_tensor(w, mesh, [Replicate()]), label_smoothing=0.1)
    close(value.full_tensor(), weighted)
for w in (-torch.ones(5), torch.tensor([-3.0, 1, 1, 1, 1]), torch.tensor([1.0, -1, -1, 1, math.nan])):
    for name in ("cross_entropy", "nll_loss"):  # PyTorch has a quotient, whatever the weights add up to
        alone = x.clone().requires_grad_()
        wanted = getattr(theirs, name)(alone, y, w)
        leaf, target = spread(x, y, Shard(0), Shard(0))
        value = getattr(F, name)(leaf, target, distribute_tensor(w, mesh, [Replicate()]))
        torch.testing.assert_close(value.full_tensor(), wanted, equal_nan=True)
        value.backward()
        wanted.backward()
        torch.testing.assert_close(leaf.grad.full_tensor(), alone.grad, equal_nan=True)
        checks += 1
w = torch.tensor([math.inf, 1, 1, 1, 1])
leaf, target = spread(x, y, Shard(0), Shard(0))
check(F.cross_entropy(leaf, target, distribute_tensor(w, mesh, [Replicate()])).full_tensor().isnan())
leaf, target = spread(x, y + 9 * (y == 4), Shard(0), Shard(0))
said = "Target 13|target.* = 13|^another rank of the mesh refused"
fails((IndexError, RuntimeError), said, leaf, target, call=F.cross_entropy)
leaf, target = spread(x, torch.full((8,), -100), Shard(0), Shard(0))
check(F.cross_entropy(leaf, target).full_tensor().isnan())
leaf, target = spread(x, y.clamp_min(-100) + 9 * (y == 4), Shard(1), Replicate())
fails(IndexError, r"target\[7\]", leaf, target, call=F.cross_entropy)
for placement, labels in ((None, None), (Shard(0), Shard(0)), (Shard(1), Replicate())):
    for reduction in ("mean", "none") if placement is None else ("mean",):
        leaf, target = (x.clone().requires_grad_(), y.clamp_min(0) * 1)
        call = parallel.cross_entropy
        if placement is not None:
            leaf, target = spread(x, target, placement, labels)
            call = F.cross_entropy
        value = call(leaf, target, reduction=reduction)
        (target.to_local() if isinstance(target, DTensor) else target).add_(1)
        fails(RuntimeError, "modified by an inplace operation", call=value.sum().backward)
w = torch.arange(1.0, 6)
for dtype in (torch.float32, torch.bfloat16):
    for placement, labels in ((Shard(0), Shard(0)), (Shard(1), Replicate())):
        alone = x.to(dtype, copy=True).requires_grad_()
        leaf, target = spread(x.to(dtype), y, placement, labels)
        for name in ("cross_entropy", "nll_loss") if placement == Shard(0) else ("cross_entropy",):
            leaf.grad = alone.grad = None
            with torch.autocast("cpu", torch.bfloat16):
                value = getattr(F, name)(leaf, target, distribute_tensor(w.to(dtype), mesh, [Replicate()]))
                wanted = getattr(theirs, name)(alone, y, w.to(dtype))
            torch.testing.assert_close(value.full_tensor(), wanted)
            value.backward()
            wanted.backward()
            torch.testing.assert_close(leaf.grad.full_tensor(), alone.grad)
            checks += 1
for reduction in ("mean", "none"):
    leaf = x.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = parallel.cross_entropy(leaf, y, reduction=reduction)
    same = x.bfloat16().float().requires_grad_()
    wanted = parallel.cross_entropy(same, y, reduction=reduction)
    check(value.dtype == torch.float32 and torch.equal(value, wanted))
    value.sum().backward()
    wanted.sum().backward()
    check(torch.equal(leaf.grad, same.grad.bfloat16()))
compiled = torch.compile(lambda x: parallel.cross_entropy(x * 2, y) * 3, backend="eager")
leaf = x.clone().requires_grad_()
same = x.clone().requires_grad_()
compiled(leaf).backward()
(parallel.cross_entropy(same * 2, y) * 3).backward()
check(torch.equal(leaf.grad, same.grad))
fails(RuntimeError, "torch.func", x, call=torch.func.grad(lambda x: parallel.cross_entropy(x, y)))
fails(RuntimeError, "torch.func", x[None], call=torch.func.vmap(lambda x: parallel.cross_entropy(x, y)))
with torch.autograd.forward_ad.dual_level():
    dual = torch.autograd.forward_ad.make_dual(x, x)
    fails(RuntimeError, "forward-mode", dual, y)
sent = []
gather = dist.all_gather


def noted(found, mine, **options):
    sent.append(mine.numel())
    gather(found, mine, **options)


dist.all_gather = noted
parallel.cross_entropy(x[:, :1], y % 2)
parallel.cross_entropy(x[:, :1], y % 2, label_smoothing=0.1)
check(sent == [64, 8 * 16, 64, 8 * 24], sent)
dist.barrier()
dist.destroy_process_group()
print("checks", checks, flush=True)
os._exit(0)  # gloo's threads, which the mesh still holds, may not survive the end of the interpreter
