"""The options that several verbs have, with one name and one help text."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[1]
Thing = TypeVar("Thing")

SHARED: dict[str, dict[str, Any]] = {
    "rows": {"metavar": "REGEX", "help": "only rows in whose name this is found (default: all)"},
    "peers": {"metavar": "A,B", "help": "only beside these (default: %(default)s)"},
    "seconds": {"metavar": "S", "type": float, "help": "for each call (default: %(default)s)"},
    "threads": {"metavar": "N", "type": int, "help": "of each library (default: %(default)s)"},
    "output": {"metavar": "DIR", "type": Path, "help": "folder for what is written (default: %(default)s)"},
}


def shared(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add some of these options, with their defaults."""
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", default=default, **SHARED[name])


def peers_of(given: str, known: Collection[str]) -> list[str]:
    """The names that --peers gives, all of which are known."""
    names = [name for name in given.split(",") if name]
    if unknown := set(names) - set(known):
        raise SystemExit(f"--peers: got {', '.join(sorted(unknown))}, wanted of {', '.join(known)}")
    return names


def rows_of(pattern: str, rows: Sequence[Thing], name: Callable[[Thing], str] = str) -> list[Thing]:
    """The rows that --rows finds, at least one."""
    try:
        found = [row for row in rows if re.search(pattern, name(row))]
    except re.error as error:
        raise SystemExit(f"--rows: got {pattern!r}, wanted a regular expression: {error}") from None
    if not found:
        raise SystemExit(f"--rows: got {pattern!r}, wanted a part of {', '.join(map(name, rows))}")
    return found
