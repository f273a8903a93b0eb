"""The options that several verbs have, with one name and one help text."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

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


def chosen(given: str, known: Collection[str]) -> list[str]:
    """The names in a list with commas, all of which are known."""
    names = [name for name in given.split(",") if name]
    if unknown := set(names) - set(known):
        raise SystemExit(f"got {', '.join(sorted(unknown))}, wanted of {', '.join(known)}")
    return names
