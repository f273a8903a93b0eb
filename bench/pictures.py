"""The pictures of ratios, from the tables of `bench/results.md`: `python -m bench pictures`.

Bars of how many times longer each library takes, without the NumPy reference, which is there to be right: of
a few rows for the README, headline.svg, and of all for the page about speed, value.svg and gradient.svg.
`compare` draws them too.
"""

from __future__ import annotations

import argparse
import math
import re
from html import escape
from pathlib import Path

HERE = Path("bench")
COLORS = {
    "PyTorch": "#e0762f",
    "compile": "#c2548f",
    "JAX": "#3a86d8",
    "scikit-learn": "#2a9d6f",
    "scipy": "#8a7a2c",
}
NAMES = {"compile": "torch.compile", "JAX": "JAX, optax", "scipy": "SciPy"}
HEADLINE = [
    "cross_entropy 65,536×10",
    "cross_entropy 16,384×1,000",
    "cross_entropy 512×128,256",
    "bce_with_logits 16M",
    "kl_div 4,096×32,000, probabilities",
]
HALO = 'stroke="#fff" stroke-width="4" paint-order="stroke"'  # which parts a name from the lines behind it
VALUE, GRADIENT = "Value", "Value and gradient"
LEFT, RIGHT, WIDTH, BAR, NAME, TOP = 16, 44, 480, 11, 22, 72  # pixels: less shrinks to a phone

Ratios = dict[str, dict[str, float]]  # of a row, by library


def ratios(results: str, title: str) -> Ratios:
    """The table of times longer than fastloss; nothing where there is none, as of small calls alone."""
    table = results.partition(f"## {title}: times longer than fastloss\n\n")[2].partition("\n\n")[0]
    if not table:
        return {}
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n"))
    found = {}
    for name, *cells in rows:
        named = zip(header[1:], cells, strict=True)
        found[name] = {peer: float(cell[:-1]) for peer, cell in named if peer in COLORS and cell}
    return found


def text(x: float, y: float, content: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" {more}>{escape(content)}</text>'


def bars(table: Ratios, title: str, below: str, labels: bool) -> str:
    """Groups of bars on a logarithmic axis, as SVG; with the number on each if there are few."""
    peers = [peer for peer in COLORS if any(peer in row for row in table.values())]
    largest = max(2, *(x for row in table.values() for x in row.values()))
    smallest = min(1, *(x for row in table.values() for x in row.values()))
    unit = (WIDTH - LEFT - RIGHT) / math.log(largest / smallest)

    def place(x: float) -> float:
        return LEFT + unit * math.log(x / smallest)

    drawn, y = [], float(TOP)
    for name, row in table.items():
        y += NAME
        drawn.append(text(place(1) + 4, y - 5, name, HALO))
        for peer in (peer for peer in peers if peer in row):
            start, end = sorted((place(1), place(row[peer])))
            size = f'x="{start:.1f}" y="{y:g}" width="{end - start:.1f}" height="{BAR - 1}"'
            drawn.append(f'<rect {size} fill="{COLORS[peer]}"/>')
            if labels:
                drawn.append(text(end + 4, y + BAR - 2, f"{row[peer]:#.3g}×", 'font-size="10"'))
            y += BAR
    axis, y = [], y + 6
    ticks = [m * 10**e for e in range(-1, 3) for m in (1, 2, 5) if smallest <= m * 10**e <= largest]
    for tick in ticks:
        x = place(tick)
        axis.append(f'<path d="M{x:.1f} {TOP}V{y:g}" stroke="{"#000" if tick == 1 else "#ddd"}"/>')
        axis.append(text(x, y + 15, f"{tick:g}", 'text-anchor="middle"'))
    legend, x = [], float(LEFT)
    for peer in peers:
        name = NAMES.get(peer, peer)
        legend.append(f'<rect x="{x:g}" y="53" width="10" height="10" fill="{COLORS[peer]}"/>')
        legend.append(text(x + 14, 62, name))
        x += 26 + 6.5 * len(name)
    heading = text(LEFT, 22, title, 'font-size="14" font-weight="bold"')
    meaning = text(LEFT, 40, "how many times longer than fastloss, whose time is 1")
    foot = text(LEFT, y + 34, below, 'font-size="10" fill="#555"')
    size = f'viewBox="0 0 {WIDTH} {y + 44:g}" width="{WIDTH}" height="{y + 44:g}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" rx="6" fill="#fff"/>',
            *(heading, meaning, *legend, *axis, *drawn, foot, "</svg>\n"),
        ]
    )


def draw(folder: Path) -> None:
    """All three, of the results.md of the folder, beside it."""
    results = (folder / "results.md").read_text(encoding="utf-8")
    about = dict(re.findall(r"^- ([\w ]+): (.*)$", results, re.MULTILINE))
    below = f"{about['processor']}, {about['instruction set']}, threads: {about['threads']}, {about['date']}"
    of_all = {"value": ratios(results, VALUE), "gradient": ratios(results, GRADIENT)}
    few = {name: row for name, row in of_all["gradient"].items() if name in HEADLINE}
    pictures = {
        "headline": (few, "Loss and gradient on the CPU, float32", True),
        "value": (of_all["value"], "Loss, or result of an array function", False),
        "gradient": (of_all["gradient"], "Loss and gradient", False),
    }
    for name, (table, title, labels) in pictures.items():
        if table:
            picture = bars(table, title, below, labels)
            (folder / f"{name}.svg").write_text(picture, encoding="utf-8")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", type=Path, default=HERE, help="where results.md is")


def main(options: argparse.Namespace) -> None:
    """Draw what was measured before."""
    draw(options.output)
