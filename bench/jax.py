"""Jitted losses of fastloss.jax beside those of optax: `python -m bench jax`.

Prints, for each size, the median milliseconds of the value and of the value with its gradient, both under
jax.jit, with logits in JAX's arrays, and how many times as long optax takes. The calls take turns in one
process, and a call ends when its results are there. The results of both are compared first.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fastloss
import fastloss.jax
from fastloss._timing import medians

from .options import shared

#: Rows and classes; 0 classes for a binary cross-entropy of so many elements.
SIZES = [(16384, 1000), (65536, 10), (512, 32000), (1_000_000, 0), (32, 10)]
Loss = Callable[[Any, Any], Any]


def of_optax(function: Loss, x: Any, target: Any) -> Any:
    """The mean of what one of optax's functions gives."""
    return function(x, target).mean()


def problem(n: int, classes: int, dtype: str) -> tuple[Any, Any, dict[str, Loss]]:
    """Input, target, and the loss of each library."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((n, classes) if classes else n), dtype)
    if not classes:
        target = jnp.asarray(rng.integers(0, 2, n), dtype)
        ours, theirs = fastloss.jax.binary_cross_entropy_with_logits, optax.sigmoid_binary_cross_entropy
    else:
        target = jnp.asarray(rng.integers(0, classes, n))
        ours, theirs = fastloss.jax.cross_entropy, optax.softmax_cross_entropy_with_integer_labels
    return x, target, {"fastloss": ours, "optax": partial(of_optax, theirs)}


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", seconds=1.0)


def main(options: argparse.Namespace) -> None:
    """Run the comparison."""
    fastloss.show_config()
    print(f"{'JAX':<16} {jax.__version__}, optax {optax.__version__}\n")
    print(f"{'':25}{'value, ms':^27}{'value and gradient, ms':^27}")
    print(f"{'':25}" + 2 * "".join(f"{name:>9}" for name in ["fastloss", "optax", "ratio"]))
    for dtype in ("float32", "bfloat16"):
        for n, classes in SIZES:
            name = f"{n:>9,} x {classes or '-':<6} {dtype}"
            if not re.search(options.rows, name):
                continue
            x, target, losses = problem(n, classes, dtype)
            figures = []
            for transform in (lambda loss: loss, jax.value_and_grad):
                jitted = {library: jax.jit(transform(loss)) for library, loss in losses.items()}
                results = [jax.tree.leaves(call(x, target)) for call in jitted.values()]
                for ours, theirs in zip(*results, strict=True):
                    near = 1e-4 if dtype == "float32" else 0.03
                    size = float(jnp.abs(theirs.astype(jnp.float32)).max())
                    assert float(jnp.abs(ours.astype(jnp.float32) - theirs).max()) <= near * size, name
                calls = {
                    library: partial(
                        lambda call, *given: jax.block_until_ready(call(*given)), call, x, target
                    )
                    for library, call in jitted.items()
                }
                ours, theirs = medians(calls, options.seconds).values()
                figures += [ours, theirs, theirs / ours]
            print(f"{name:25}" + "".join(f"{f:9.3g}" for f in figures), flush=True)
