"""Inputs chosen to hurt, for the tests of accuracy and for `python -m bench accuracy`."""

import math

import numpy as np

from . import oracle

WIDTH = 133  # of a row, the filling included: the rows kernel takes them, with a tail, but of labels alone
WIDE = 517  # of labels too


def stored(x, dtype):
    """x in dtype, its largest number in place of larger ones; -inf stays."""
    largest = float(oracle.finfo(dtype).max)
    return np.where(np.isfinite(x), np.clip(x, -largest, largest), x).astype(dtype)


def adversarial_rows(dtype, masked=True):
    """Rows of logits filled up to WIDTH with masked classes, or with each row's smallest logit."""
    rng = np.random.default_rng(7)
    info = oracle.finfo(dtype)
    tiny, small = float(info.smallest_subnormal), float(info.smallest_normal)
    big = 700.0 if dtype == np.float64 else 80.0
    rows = [
        [20, 0],
        [20.3, 0.1],
        [0.1, 20.3, 5.7],
        [3 * big, 0],
        [big, 0.5, 0.25],
        [1e4, 1e4 - 3, 1e4 - 30],
        [1e8, 1e8],
        [1e30, 0, -1e30],
        [1e30, 1e30, 1e30],
        [0.1] * 7,
        [5, 5, 5, -60, -61],
        [0],
        [-1e4],
        [1e-3, 0],
        [tiny, 0, -tiny],
        [small, tiny, 3 * small],
        [-2 * big, -2 * big - 1],
        [2 * big, 2 * big - 1, 1.9 * big],
        [1.3 * big, 1.3 * big, -1.3 * big],
        [0, -85, -86, -87, -88, -100, -104],
        [0, -700, -708, -709, -740, -746],
        [1, -math.inf, 2, -math.inf],
        [-math.inf, -math.inf, 3.3],
        list(np.linspace(-20, 20, WIDTH)),
        list(np.full(WIDTH, -3.7)),
        [30.1, *np.linspace(-1, 1, WIDTH - 1)],
    ]
    rows += [list(rng.standard_normal(rng.integers(2, 40)) * 10 ** rng.uniform(-4, 3))
             for _ in range(24)]  # fmt: skip
    rows += [list(10 ** rng.uniform(2, 8) + 5 * rng.standard_normal(9)) for _ in range(8)]
    rows += [list(rng.choice([-1, 1], 12) * 10 ** rng.uniform(-30, 3, 12)) for _ in range(8)]
    x = np.full((len(rows), WIDTH), -math.inf)
    for i, row in enumerate(rows):
        x[i, : len(row)] = row
        if not masked:
            x[i, len(row) :] = min(v for v in row if math.isfinite(v))
    return stored(x if masked else np.maximum(x, -1e300), dtype)


def long_rows(dtype):
    """Longer than a block of classes: the maximum late, early and nowhere in particular."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((3, 2100)) * [[1], [10], [0.01]]
    x[0, 2090] = 25
    x[1, 5] = 95.5
    return stored(x, dtype)


def level_rows(classes, dtype):
    """Equal logits but for the first, which is above: the errors of a long sum all point the same way.

    And rising logits: the maximum, to which all sums refer, moves from block to block.
    """
    rng = np.random.default_rng(15)
    level = -(rng.uniform(0, 3, max(1, min(40, 40_000 // classes))) ** 2)
    x = np.repeat(level[:, None], classes, 1)
    x[:, 0] = 0
    rising = np.linspace(-1, 0, classes) * np.array([[0.5], [0.01], [3], [60]])
    return np.concatenate([x, rising[: 1 if classes > 10_000 else 4]]).astype(dtype)


def grid(dtype):
    """Signed numbers of all magnitudes, with the places where formulas change."""
    rng = np.random.default_rng(11)
    info = oracle.finfo(dtype)
    edge = 709 if dtype == np.float64 else 88
    x = [0, *map(float, (info.smallest_subnormal, info.smallest_normal, info.eps)), 1, 2, 17, 37, 500]
    x += [edge - 0.5, edge, edge + 0.5, edge + 1, edge + 15, edge + 16, edge + 37, 1e4, 1e30]
    x = np.concatenate([x, 10 ** rng.uniform(-40, 5, 150), rng.uniform(0, 120, 150)])
    with np.errstate(over="ignore"):
        return stored(np.concatenate([x, -x]), dtype)


def pairs(kind, dtype):
    rng = np.random.default_rng(12)
    x = grid(dtype)
    n = len(x)
    if kind == "hard":
        return np.concatenate([x, x]), np.repeat([0, 1], n).astype(dtype)
    if kind == "soft":
        return x, rng.random(n).astype(dtype)
    p = np.concatenate([[0, 1, 0.5], rng.random(n), 10 ** rng.uniform(-40, 0, n)])
    p = np.concatenate([p, 1 - 10 ** rng.uniform(-8, 0, n)]).astype(dtype)
    if kind == "probabilities":
        return p, rng.choice([0, 1, 0.3, 0.99], len(p)).astype(dtype)
    if kind == "signs":
        return np.concatenate([x, x]), np.repeat([1, -1], n).astype(dtype)
    if kind == "counts":
        return np.minimum(x, 80), rng.poisson(10 ** rng.uniform(-1, 4, n)).astype(dtype)
    if kind == "rates":
        return np.abs(x), rng.poisson(10 ** rng.uniform(-1, 4, n)).astype(dtype)
    if kind == "kl":
        return -np.abs(rng.standard_normal(len(p)) * 10).astype(dtype), p
    if kind == "kl_log":
        return (-10 * rng.random(n)).astype(dtype), (-20 * rng.random(n)).astype(dtype)
    return (10 * rng.standard_normal(n)).astype(dtype), (10 * rng.standard_normal(n)).astype(dtype)
