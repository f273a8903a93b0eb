"""MPI: processes that each have some classes of all samples, `mpirun -n 4 python mpi_classes.py`; and totals.

Alone it is a world of one process.
"""

import functools

import numpy as np
from mpi4py import MPI

import fastloss

LOSS = fastloss.CrossEntropyLoss(z_loss=1e-4)
ROWS, CLASSES = 200, 5000

world = MPI.COMM_WORLD
rng = np.random.default_rng(0)  # each process makes the logits of all, and keeps its own
logits, labels = 3 * rng.standard_normal((ROWS, CLASSES), np.float32), rng.integers(0, CLASSES, ROWS)
cuts = np.linspace(0, CLASSES, world.size + 1).astype(int).tolist()
start, stop = cuts[world.rank], cuts[world.rank + 1]
mine = np.ascontiguousarray(logits[:, start:stop])

parts = world.allgather(LOSS.partial(mine, labels, start=start))  # 16 bytes a sample from each
whole = functools.reduce(fastloss.Partial.merge, parts)  # the ranks' order is that of the classes
grad = whole.grad(mine, labels, start=start)
value, wanted = LOSS.value_and_grad(logits, labels)
assert abs(whole.value() - value) < 1e-6 * value
np.testing.assert_allclose(grad, wanted[:, start:stop], rtol=1e-5, atol=1e-10)
assert len(set(world.allgather(whole.value()))) == 1  # the same bits everywhere

state = LOSS.total(logits[world.rank :: world.size], labels[world.rank :: world.size]).state
world.Allreduce(MPI.IN_PLACE, state, MPI.SUM)  # samples in parts: states add up as vectors
total = fastloss.Total.from_state(state)
assert total == LOSS.total(logits, labels)
if world.rank == 0:
    print(
        f"value {whole.value():.6f}, mean {total.mean:.6f} of {total.count} samples in {world.size} processes"
    )
