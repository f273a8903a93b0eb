"""Totals of a loss that merge exactly, whatever the batches, their order, and where they were computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _kernels
from ._arguments import Array
from ._runtime import threads_for

__all__ = ["Total"]

DIGITS, COUNTS = _kernels.EXACT
UNIT = 2**1074  # what a sum is counted in: the inverse of the least float64


class Exact:
    """A sum without rounding: an integer number of units, and how many terms were NaN, inf and -inf."""

    __slots__ = ("odd", "units")

    def __init__(self, units: int = 0, odd: tuple[int, ...] = (0, 0, 0)) -> None:
        self.units = units
        self.odd = odd

    @classmethod
    def of(cls, x: Array) -> Exact:
        """Sum of a float32 or float64 array."""
        state = np.zeros(COUNTS, np.int64)
        identity, x = _kernels.POINT_OPS["identity"], np.ascontiguousarray(x)
        _kernels.module.point_pass(identity, x, None, threads_for(x.size), exact=state)
        return cls.of_state(state)

    @classmethod
    def of_state(cls, state: Array) -> Exact:
        """From digits of 32 bits, which may have carries, and counts."""
        units = sum(int(digit) << 32 * place for place, digit in enumerate(state[:DIGITS]) if digit)
        return cls(units, tuple(map(int, state[DIGITS:])))

    @classmethod
    def of_count(cls, count: int) -> Exact:
        """So many times 1."""
        return cls(count * UNIT)

    def state(self) -> Iterator[int]:
        """Digits, of which the last has the sign, and counts."""
        units = self.units
        for _ in range(DIGITS - 1):
            yield units & 0xFFFFFFFF
            units >>= 32
        yield units
        yield from self.odd

    def __add__(self, other: Exact) -> Exact:
        odd = tuple(a + b for a, b in zip(self.odd, other.odd, strict=True))
        return Exact(self.units + other.units, odd)

    def key(self) -> tuple[int, tuple[int, ...]]:
        """What equal sums have in common."""
        return self.units, self.odd

    def over(self, divisor: Exact | None = None) -> float:
        """The sum, or its quotient by another, rounded once."""
        nan, inf, minus_inf = self.odd
        if divisor is not None and any(divisor.odd):
            return self.over() / divisor.over()
        if nan or (inf and minus_inf):
            return math.nan
        parts = UNIT if divisor is None else divisor.units
        if parts == 0:
            return math.nan
        sign = -1.0 if parts < 0 else 1.0
        if inf or minus_inf:
            return sign * (math.inf if inf else -math.inf)
        try:
            return self.units / parts
        except OverflowError:
            return -sign * math.inf if self.units < 0 else sign * math.inf

    def share(self, number: float) -> tuple[float, float]:
        """A number by the sum, or 0, as two factors: times the first the terms of the sum are moderate.

        The second is 1 unless the sum is extreme.
        """
        if not self.units and not any(self.odd):
            return 0.0, 1.0
        exponent = abs(self.units).bit_length() - UNIT.bit_length()
        if abs(exponent) <= 1000 or any(self.odd):
            return number / self.over(), 1.0
        step = math.copysign(1000, exponent)
        units = self.units >> 1000 if exponent > 0 else self.units << 1000
        return 2.0**-step, number / Exact(units).over()


class Total:
    """Sum of a loss over samples, of their weights, and how many they are, without rounding.

    Totals of batches add up to that of all samples with the same bits, in whatever batches, order, tree,
    threads and processes. ``loss.total(input, target)`` makes one; ``Total()`` is that of no samples.

    See Also
    --------
    fastloss.CrossEntropyLoss.total : The total of a batch; all losses but the linear one have it.

    Notes
    -----
    The sums are integers, in units of 2^-1074; each sample's value and weight enter as the float64 numbers
    that they are.

    References
    ----------
    R. M. Neal, "Fast exact summation using small and large superaccumulators" (2015).

    Examples
    --------
    >>> import fastloss
    >>> loss = fastloss.MSELoss()
    >>> first, second = loss.total([1.0, 2.0], [0.0, 0.0]), loss.total([4.0], [0.0])
    >>> first + second == loss.total([1.0, 2.0, 4.0], [0.0, 0.0, 0.0])
    True
    >>> sum([first, second]).mean
    7.0
    """

    __slots__ = ("_count", "_numerator", "_weight")

    def __init__(self) -> None:
        self._numerator = Exact()
        self._weight = Exact()
        self._count = 0

    @classmethod
    def _of(cls, numerator: Exact, weight: Exact, count: int) -> Total:
        total = cls()
        total._numerator, total._weight, total._count = numerator, weight, count
        return total

    @property
    def count(self) -> int:
        """Samples that count: neither ignored nor masked."""
        return self._count

    @property
    def sum(self) -> float:
        """Sum of the losses times their weights, in nats, rounded once."""
        return self._numerator.over()

    @property
    def weight(self) -> float:
        """Sum of the weights in force, by which the mean divides, rounded once."""
        return self._weight.over()

    @property
    def mean(self) -> float:
        """The weighted mean, in nats, rounded once; NaN where there is no weight."""
        return self._numerator.over(self._weight)

    @property
    def perplexity(self) -> float:
        """exp of the mean."""
        try:
            return math.exp(self.mean)
        except OverflowError:
            return math.inf

    @property
    def state(self) -> Array:
        """The total as int64 array, to be sent; states may be added up before `from_state`."""
        return np.array([*self._numerator.state(), *self._weight.state(), self.count], np.int64)

    @classmethod
    def from_state(cls, state: ArrayLike) -> Total:
        """Return the total of a state, or of a sum of up to a billion states.

        Parameters
        ----------
        state : array_like of int, of shape (143,)
            What `state` gave, or a sum of such, as MPI's or torch.distributed's SUM makes it.

        Returns
        -------
        Total
            The total.

        Raises
        ------
        TypeError, ValueError
            No integers, or another shape.

        Examples
        --------
        >>> import fastloss
        >>> total = fastloss.MSELoss().total([3.0], [0.0])
        >>> fastloss.Total.from_state(total.state + total.state).sum
        18.0
        """
        array = np.asarray(state)
        if array.dtype.kind not in "iu":
            raise TypeError(f"state: got dtype {array.dtype}, wanted integers")
        if array.shape != (2 * COUNTS + 1,):
            raise ValueError(
                f"state: got shape {array.shape}, wanted ({2 * COUNTS + 1},) as `state` gives it"
            )
        parts = Exact.of_state(array[:COUNTS]), Exact.of_state(array[COUNTS:-1])
        return cls._of(*parts, int(array[-1]))

    def __add__(self, other: Any) -> Total:
        if not isinstance(other, Total):
            return self if isinstance(other, int) and other == 0 else NotImplemented  # where sum() begins
        return self._of(
            self._numerator + other._numerator, self._weight + other._weight, self.count + other.count
        )

    __radd__ = __add__

    def _key(self) -> tuple[Any, ...]:
        return self._numerator.key(), self._weight.key(), self.count

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Total) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return Total.from_state, (self.state,)

    def __repr__(self) -> str:
        return f"Total(mean={self.mean!r}, sum={self.sum!r}, weight={self.weight!r}, count={self.count})"
