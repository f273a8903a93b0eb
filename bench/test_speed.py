"""One benchmark group for each row and quantity of rows.py, one case for each library: `pytest bench/`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

import fastloss

from .rows import FASTLOSS, PEERS, ROWS, Case, Peer, Row, agree, use_threads

LIBRARIES = {"fastloss": FASTLOSS} | PEERS

# the warnings of other libraries, at their import too
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def _threads() -> None:
    use_threads(fastloss.get_num_threads())


@lru_cache(maxsize=1)
def arrays(row: Row) -> Case:
    """The arrays of a row, kept until the next row's."""
    return Case(row)


@pytest.mark.parametrize(
    ("row", "quantity", "library"),
    [
        pytest.param(row, quantity, name, id=f"{row.name}-{quantity}-{name}".replace("×", "x"))
        for row in ROWS
        for quantity in row.quantities
        for name in LIBRARIES
    ],
)
def test_speed(benchmark: Any, row: Row, quantity: str, library: str) -> None:
    """Time one quantity of one row in one library, whose result is that of fastloss."""
    peer: Peer = LIBRARIES[library]
    if peer.missing:
        pytest.skip(f"{peer.missing} is not installed")
    case = arrays(row)
    calls = peer.calls(case)
    if quantity not in calls:
        pytest.skip(f"{library} has no form of it")
    benchmark.group = f"{row.name}: {quantity}"
    once = library == "NumPy"  # the reference is slow
    result = benchmark.pedantic(calls[quantity]) if once else benchmark(calls[quantity])
    allocating = {"in place": "gradient" if row.target else "value"}.get(quantity, quantity)
    assert agree(FASTLOSS.calls(case)[allocating](), result)
