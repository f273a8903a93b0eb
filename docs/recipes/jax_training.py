"""A JAX training step with its loss on fastloss, under `jit`, `grad` and `vmap`.

    python docs/recipes/jax_training.py

`fastloss.jax.cross_entropy` takes the place of optax's, the model and the step do not change. The same seed
gives the same curve as the loss written in JAX, but for rounding. `vmap` over `grad` gives the gradient of
each example, of which differential privacy clips the norms.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

import fastloss.jax

Params = dict[str, Array]
Loss = Callable[[Array, Array], Array]


def written_in_jax(logits: Array, labels: Array) -> Array:
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, labels[..., None], -1).mean()


def model(params: Params, x: Array) -> Array:
    return jnp.tanh(x @ params["w"]) @ params["v"]


def spirals() -> tuple[Array, Array]:
    """Points on three arms, and which one each is on."""
    labels = jnp.arange(300) % 3
    angle = jax.random.uniform(jax.random.key(0), (300,)) * 5
    turn = angle + labels * 2.1
    return angle[:, None] * jnp.stack([jnp.cos(turn), jnp.sin(turn)], 1) / 3, labels


def start() -> Params:
    w, v = jax.random.split(jax.random.key(1))
    return {"w": jax.random.normal(w, (2, 64)), "v": jax.random.normal(v, (64, 3)) / 8}


def trained(loss: Loss, steps: int = 60) -> tuple[Params, list[float]]:
    """The parameters, and the losses on the way to them."""
    x, labels = spirals()

    @jax.jit
    def step(params: Params) -> tuple[Params, Array]:
        value, grads = jax.value_and_grad(lambda p: loss(model(p, x), labels))(params)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, grads), value

    params, losses = start(), []
    for _ in range(steps):
        params, value = step(params)
        losses.append(float(value))
    return params, losses


def norms(params: Params) -> Array:
    """Of the gradient of each example."""
    x, labels = spirals()

    def gradient(x: Array, label: Array) -> Params:
        return jax.grad(lambda p: fastloss.jax.cross_entropy(model(p, x[None]), label[None]))(params)

    grads = jax.jit(jax.vmap(gradient))(x, labels)
    return jnp.sqrt(sum((g**2).sum(axis=(1, 2)) for g in grads.values()))


def main() -> None:
    _, wanted = trained(written_in_jax)
    params, losses = trained(fastloss.jax.cross_entropy)
    for name, curve in (("JAX", wanted), ("fastloss", losses)):
        print(f"{name:8} loss {curve[0]:.6f} to {curve[-1]:.6f}")
    assert losses[-1] < 0.8 * losses[0]
    assert max(abs(a - b) for a, b in zip(losses, wanted, strict=True)) < 1e-3
    of_each = norms(params)
    print(f"gradients of {of_each.size} examples: norm {of_each.min():.3f} to {of_each.max():.3f}")
    assert of_each.shape == (300,)
    assert bool((of_each > 0).all())


if __name__ == "__main__":
    main()
