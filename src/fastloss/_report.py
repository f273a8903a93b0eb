"""Tables and a progress line for ``python -m fastloss``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any


def optional(name: str) -> Any:
    """Import a module, or return None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def progress(text: str = "") -> None:
    """Show on the last line of a terminal what is being done; an empty text clears the line."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()


def heading(text: str) -> None:
    """Print a section's title."""
    progress()
    print(f"\n{text}\n{'=' * len(text)}", flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column is flush left and whose others are flush right.

    A terminal gets rich's table where rich is installed, everything else aligned text.
    """
    progress()
    rich = optional("rich.table") if sys.stdout.isatty() else None
    if rich is not None:
        box, console = optional("rich.box"), optional("rich.console")
        grid = rich.Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i, name in enumerate(header):
            grid.add_column(name, justify="right" if i else "left", no_wrap=True)
        for row in rows:
            grid.add_row(*row)
        console.Console(markup=False, highlight=False).print(grid)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, ["-" * width for width in widths], *rows):
        cells = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join(cells).rstrip())
    print()
