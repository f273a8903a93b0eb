"""Inputs and targets that cannot be meant: which position, and what was probably meant.

The kernels find that there is one, see `domain` in _kernels/points.pxd and `targets` in _kernels/job.pxd;
what is said about it is here. NaN is no mistake, nor is what stands where a sample does not count or has the
weight 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from .. import _kernels
from .._arguments import Array, Shape
from .._errors import place

LOG_ONE = 1e-3  # `log_one` of the kernels
UNCHECKED = "; unchecked=True takes it as it is"


class Wrong(NamedTuple):
    """Numbers of an argument that cannot be meant."""

    name: str
    array: Array
    where: Array
    problem: str  # what follows "target[3] = 2.0"
    always: bool = False  # also where the weight is 0, and there is no `unchecked`


def raise_wrong(found: Iterator[Wrong], counted: Array | None, weighted: Array | None) -> None:
    """Raise the error about the first number that is wrong, if there is one."""
    for name, array, where, problem, always in found:
        for counts in (counted, None if always else weighted):
            where = where if counts is None else where & counts
        if where.any():
            first = tuple(np.argwhere(where)[0])
            raise ValueError(f"{place(name, first)} = {array[first]} {problem}{'' if always else UNCHECKED}")


def unit_input(x: Array, y: Array) -> Iterator[Wrong]:
    """An input outside [0, 1], where binary cross-entropy of probabilities is not defined."""
    outside = (x < 0) | (x > 1)
    problem = "is outside [0, 1]"
    if outside.any():
        problem += "; logits? binary_cross_entropy_with_logits"
    yield Wrong("input", x, outside, problem, True)
    yield from probability(x, y)


def probability(x: Array, y: Array) -> Iterator[Wrong]:
    """A target outside [0, 1]."""
    outside = (y < 0) | (y > 1)
    yield Wrong("target", y, outside, f"is outside [0, 1]{_hint_at_probability(x, y)}")


def _hint_at_probability(x: Array, y: Array) -> str:
    y = y[np.isfinite(y)]
    low, high = y.min(initial=0), y.max(initial=0)
    if np.isin(y, (-1, 1)).all():
        return "; labels of 1 and -1? pass (target + 1) / 2, or take soft_margin_loss"
    if x.size and x.min() >= 0 and x.max() <= 1 and (y != np.rint(y)).any():
        return "; input and target swapped?"
    if low < 0 and high <= 1 and (y[y < 0] == low).all():
        return f"; {low:g} for what is missing? pass mask=target >= 0"
    if 128 <= high <= 255 and low >= 0:
        return "; a mask of 0 and 255? divide it by 255"
    return "; percentages? divide by 100" if 10 < high <= 100 and low >= 0 else ""


def count(x: Array, y: Array) -> Iterator[Wrong]:
    """A negative count."""
    hint = "; a number for what is missing? pass mask=target >= 0" if (y >= -1).all() or -100 in y else ""
    yield Wrong("target", y, y < 0, f"is negative, wanted counts{hint}")


def log_target(x: Array, y: Array) -> Iterator[Wrong]:
    """A log-probability above 0, as input or target."""
    yield _positive("input", x)
    yield _positive("target", y)


def divergence(x: Array, y: Array) -> Iterator[Wrong]:
    """A log-probability above 0 as input, or a negative probability as target."""
    yield _positive("input", x)
    negative = y < 0
    hint = "; log-probabilities? pass log_target=True" if (y <= LOG_ONE).all() else ""
    yield Wrong("target", y, negative, f"is negative, wanted probabilities{hint}")


def _positive(name: str, x: Array) -> Wrong:
    hint = "logits? pass log_softmax of them"
    if ((x >= 0) & (x <= 1)).all():
        hint = "probabilities? pass numpy.log of them; two arrays of these are for fastloss.special.kl_div"
    return Wrong(name, x, x > x.dtype.type(LOG_ONE), f"is above 0, wanted log-probabilities; {hint}")


def raise_sums(y: Array, given: Array) -> None:
    """Name a sample that is no distribution, of targets whose sum is not that of a number of them.

    Over which axes they are nobody says: those over which the fewest are wrong, but for the first axis. Of
    one axis it may be that of samples.
    """
    if y.ndim < 2:
        return
    tried: list[tuple[int, int, tuple[int, ...], Array, Array]] = []
    own = range(1, y.ndim)
    several = [over for n in range(1, len(own) + 1) for over in combinations(own, n)]
    for over in [*several, tuple(range(y.ndim))]:
        sums = np.asarray(y.sum(over, dtype=np.float64))
        tolerance = _kernels.module.tolerance_of(given, y.size // max(sums.size, 1))
        wrong = (np.abs(sums - 1) > tolerance) & (sums != 0)  # none at all may be padding
        count = int(np.count_nonzero(wrong))
        if count == 0:
            return
        tried.append((count, len(tried), over, sums, wrong))
    _, _, over, sums, wrong = min(tried, key=lambda found: (found[0] / found[3].size, found[1]))
    first = tuple(map(int, np.argwhere(wrong)[0]))
    where = f"axis {over[0]}" if len(over) == 1 else f"axes {over}"
    raise ValueError(
        f"{place('target', first)} adds up to {sums[first]:.6g} along {where}, wanted probabilities, "
        f"which add up to 1; counts? divide by their sum{UNCHECKED}"
    )


def raise_of_classes(x: Array, y: Array, axis: int, first: Shape, kind: str) -> None:
    """Name what is wrong with the target of a sample, as a kernel has found it."""
    sample: tuple[Any, ...] = (*first[:axis], slice(None), *first[axis:])
    row = y[sample]
    negative = row < 0
    if negative.any():
        where = (*first[:axis], int(np.argmax(negative)), *first[axis:])
        problem = "is negative, wanted class probabilities; logits? pass softmax of them"
        if kind == "counts":
            problem = "is negative, wanted counts"
        elif (y <= LOG_ONE).all():
            problem = "is negative, wanted class probabilities; log-probabilities? pass numpy.exp of them"
        elif np.abs(x.sum(axis, dtype=np.float64) - 1).max(initial=0) < LOG_ONE:
            problem = "is negative, wanted class probabilities; input and target swapped?"
        raise ValueError(f"{place('target', where)} = {y[where]} {problem}{UNCHECKED}")
    whole = (row == np.rint(row)).all()
    hint = "divide by their sum"
    if whole and row.max() <= 1:
        hint = "several labels? take binary_cross_entropy_with_logits, or divide by their number"
    elif whole:
        hint = "counts? take multinomial_nll_loss, or divide by their sum"
    with np.errstate(over="ignore"):
        total = row.sum(dtype=np.float64)
    raise ValueError(
        f"{place('target', first)} adds up to {total:.6g} over the classes on axis {axis}, wanted "
        f"probabilities, which add up to 1; {hint}{UNCHECKED}"
    )
