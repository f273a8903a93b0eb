"""How the pictures of the site look: colours that are seen on light and dark, and the page's own for text."""

from __future__ import annotations

import io
from html import escape
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

TEXT = "#010203"  # what no picture draws with, for it becomes the colour of the page's text
STYLE = {
    "figure.figsize": (4.6, 3.0),  # shown at its size, or as wide as a phone
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.prop_cycle": cycler(color=["#3a86d8", "#e0762f", "#2a9d6f", "#c2548f", "#8a7a2c"]),
    "legend.frameon": False,
    "image.cmap": "viridis",
    "svg.fonttype": "none",
    "svg.hashsalt": "fastloss",
    **dict.fromkeys(
        ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"], TEXT
    ),
}


def html(figure: Figure) -> str:
    """The picture as SVG within the page."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue().partition("<svg")[2]
    titles = escape("; ".join(filter(None, (ax.get_title() for ax in figure.axes))), quote=True)
    return f'<svg role="img" aria-label="{titles}" class="plot"{svg}'.replace(TEXT, "currentColor")


def use(shell: Any) -> None:
    """Draw so in a notebook."""
    mpl.rcParams.update(STYLE)
    shell.run_line_magic("matplotlib", "inline")
    shell.run_line_magic("config", "InlineBackend.figure_formats = set()")
    shell.run_line_magic("config", "InlineBackend.rc = {}")
    mpl.rcParams.update(STYLE)
    shell.display_formatter.formatters["text/html"].for_type(Figure, html)
