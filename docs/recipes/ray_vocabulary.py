"""Ray: actors that each have some classes of all samples; totals of samples in whatever order they come.

What is sent of the logits is 16 bytes a sample and actor; value and gradient are those of one array.
"""

import functools
import itertools

import numpy as np
import ray

import fastloss

LOSS = fastloss.CrossEntropyLoss(label_smoothing=0.1)
ROWS, CLASSES, ACTORS = 200, 5000, 2


def made():
    """The logits of all, which each actor makes its part of."""
    rng = np.random.default_rng(0)
    return 3 * rng.standard_normal((ROWS, CLASSES), np.float32), rng.integers(0, CLASSES, ROWS)


@ray.remote
class Shard:
    """Some of the classes, of all samples."""

    def __init__(self, start, stop):
        self.start = start
        self.logits = np.ascontiguousarray(made()[0][:, start:stop])

    def part(self, labels):
        """What the others need."""
        return LOSS.partial(self.logits, labels, start=self.start)

    def grad(self, whole, labels):
        """What this one needs, from all."""
        return whole.grad(self.logits, labels, start=self.start)


@ray.remote
def total_of(rows):
    """The total of some samples."""
    logits, labels = made()
    return LOSS.total(logits[rows], labels[rows])


logits, labels = made()
ray.init(num_cpus=ACTORS, include_dashboard=False, configure_logging=False, log_to_driver=False)

cuts = np.linspace(0, CLASSES, ACTORS + 1).astype(int).tolist()
shards = [Shard.remote(start, stop) for start, stop in itertools.pairwise(cuts)]
parts = ray.get([shard.part.remote(labels) for shard in shards])
whole = functools.reduce(fastloss.Partial.merge, parts)  # in the order of the classes
grads = ray.get([shard.grad.remote(ray.put(whole), labels) for shard in shards])
value, grad = LOSS.value_and_grad(logits, labels)
assert abs(whole.value() - value) < 1e-6 * value
np.testing.assert_allclose(np.concatenate(grads, 1), grad, rtol=1e-5, atol=1e-10)
print(f"value {whole.value():.6f} of {ACTORS} actors, {parts[0].nbytes // ROWS} bytes a sample from each")

waiting, total = [total_of.remote(slice(i, i + 50)) for i in range(0, ROWS, 50)], fastloss.Total()
while waiting:
    (first, *_), waiting = ray.wait(waiting)
    total += ray.get(first)
assert total == LOSS.total(logits, labels)  # the same bits
print(f"perplexity {total.perplexity:.3f} of {total.count} samples")
ray.shutdown()
