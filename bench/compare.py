"""fastloss beside its peers and the machine's limits: `python -m bench compare`.

All rows of rows.py in one process. The calls of a row take turns with each other, and with compiled loops
that do nothing but read or copy the same arrays (limits.c). Prints the tables and writes them to results.md,
and the pictures: those of `bench.pictures`, size.png and roofline.png. With another folder as --output every
number, with its quartiles, goes to results.json there, from which --draw makes tables and pictures again.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import fastloss
from fastloss import _kernels
from fastloss._report import progress, table
from fastloss._timing import medians

from . import limits, pictures
from .options import peers_of, rows_of, shared
from .rows import COMPILED, FASTLOSS, PEERS, ROWS, Call, Calls, Case, Row, agree, use_threads

Result = dict[str, Any]  # of one row, as it stands in results.json
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, header, rows

HERE = Path("bench")
DPI, SHADES = 80, 32  # of a picture, which is to be small
COLORS = dict(zip(["fastloss", *PEERS], ["k", "0.6", "C2", "C1", "C3", "C4", "C0"], strict=True))

LEGEND = """\
Median milliseconds, float32 unless said. "gradient" is value and gradient in fresh memory; "in place" fills
an array that exists (`grad_out`, `out`). The limit is a compiled loop that only reads the arrays which the
value reads, or copies the input to the result and reads the others; the share is its time by that of
fastloss. Large results pass the caches, which the copy that is the limit does not, so that more than 100% is
possible. A ratio is the time of a peer by that of fastloss: value
against value, gradient against gradient, and an array function with `out` where the peer has it. NumPy is
`fastloss.reference` (float64, one thread, timed once, always with the gradient), scipy is `scipy.special`
(one thread), scikit-learn its `_loss` module, PyTorch is eager with forward and backward pass, compile is
`torch.compile`, and JAX is jitted with the losses of optax. A ratio's target is for the faster one of the
last two unless a peer is named."""


def spread(times: list[float]) -> Result:
    """Median and quartiles."""
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "quartiles": [low, high], "calls": len(times)}


def timed(calls: Calls, seconds: float, number: int) -> Result:
    """Milliseconds of each call in interleaved rounds, a short call `number` times at once."""
    taken: dict[str, list[float]] = {name: [] for name in calls}

    def clocked(call: Call, times: list[float]) -> Call:
        def run() -> None:
            start = time.perf_counter()
            for _ in repeat(None, number):
                call()
            times.append(1e3 * (time.perf_counter() - start) / number)

        return run

    medians({name: clocked(call, taken[name]) for name, call in calls.items()}, seconds)
    # of each four calls in a row `medians` does not count the first
    return {name: spread([t for i, t in enumerate(times) if i % 4]) for name, times in taken.items()}


def peak(call: Call) -> float | None:
    """MB that a call adds at its peak; None where the system does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def megabytes(field: str) -> float:
        return int(status.read_text().partition(f"{field}:")[2].split()[0]) / 1024

    try:
        reset.write_text("5")  # VmHWM starts again from VmRSS
        before = megabytes("VmRSS")
        call()
        return megabytes("VmHWM") - before
    except OSError:
        return None


def others() -> float:
    """CPU seconds that other processes have taken; they spoil times, for threads wait for each other."""
    try:
        user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    except OSError:
        return math.nan
    return sum(map(int, (user, nice, system, *interrupts))) / os.sysconf("SC_CLK_TCK") - time.process_time()


def measure(row: Row, peers: Sequence[str], seconds: float) -> Result:
    """Check and time one row."""
    progress(row.name)
    case = Case(row)
    ours = FASTLOSS.calls(case)
    expected = {"value": ours["value"](), "gradient": ours.get("gradient", ours["value"])()}
    expected["in place"] = expected["gradient"]
    added = peak(ours["value"])
    libraries = {"fastloss": ours} | {name: PEERS[name].calls(case) for name in peers}
    number = min(200, max(1, 50_000 // case.x.size))
    times: Result = {}
    disturbed = elapsed_all = 0.0
    for quantity in row.quantities:
        calls: Calls = {}
        times[quantity] = {}
        for name in (name for name, own in libraries.items() if quantity in own):
            progress(f"{row.name}: {quantity}, {name}")
            start = time.perf_counter()
            result = libraries[name][quantity]()
            elapsed = 1e3 * (time.perf_counter() - start)
            if not agree(expected[quantity], result):
                raise SystemExit(f"{row.name}, {quantity}: {name} disagrees with fastloss")
            del result
            if name == "NumPy" and not row.small:  # slow enough for one call to do
                times[quantity][name] = spread([elapsed])
            else:
                calls[name] = libraries[name][quantity]
        if quantity in row.limits and not row.small:
            calls |= limits.calls(case, row.limits[quantity])
        progress(f"{row.name}: {quantity}")
        start, before = time.perf_counter(), others()
        times[quantity] |= timed(calls, seconds, number)
        disturbed, elapsed_all = disturbed + others() - before, elapsed_all + time.perf_counter() - start
    read = sum(a.nbytes for a in case.inputs)
    result = {
        "name": row.name,
        "elements": case.x.size,
        "small": row.small,
        "compared": row.compared,
        "limits": row.limits,
        "bytes": {"read": read, "copy": read + case.x.nbytes},
        "peak MB of the value": added,
        "CPUs taken by others": round(disturbed / elapsed_all, 3) if disturbed == disturbed else None,
        "ms": times,
    }
    found = [(goal, ratio(result, goal.quantity, goal.against)) for goal in row.goals]
    judged = [goal._asdict() | {"measured": x, "met": x >= goal.at_least} for goal, x in found if x == x]
    return result | {"goals": judged}


def median(result: Result, quantity: str, *names: str) -> float:
    """Milliseconds, the least of the names that were timed; nan for none."""
    times = result["ms"].get(quantity, {})
    return min((times[name]["median"] for name in names if name in times), default=math.nan)


def limit(result: Result, quantity: str) -> float:
    """Milliseconds of the loop that moves what the quantity has to move."""
    return median(result, quantity, "read", "copy")


def ratio(result: Result, quantity: str, against: str) -> float:
    """The time of a peer, of the faster compiler or of the limit, by that of fastloss; nan without it."""
    names = COMPILED if against == "compiled" else (against,)
    theirs = limit(result, quantity) if against == "limit" else median(result, quantity, *names)
    return theirs / median(result, quantity, "fastloss")


def over_all(results: Sequence[Result], peers: Sequence[str]) -> dict[str, Result]:
    """Each peer's geometric mean over all rows, and the comparison in which it comes closest."""
    summary = {}
    for peer in peers:
        pairs = [(ratio(r, q, peer), f"{r['name']}, {q}") for r in results for q in r["compared"]]
        if pairs := [pair for pair in pairs if pair[0] == pair[0]]:
            mean = math.exp(sum(math.log(x) for x, _ in pairs) / len(pairs))
            slowest, where = min(pairs)
            summary[peer] = {"geometric mean": mean, "slowest": slowest, "where": where}
    return summary


def digits(x: float, unit: str = "") -> str:
    """Three digits, or nothing for nan."""
    if x != x:
        return ""
    return (f"{x:,.0f}" if abs(x) >= 100 else f"{x:#.3g}") + unit


def met(goal: Result) -> str:
    """A target and whether it is met."""
    share = goal["against"] == "limit"
    named = f"{goal['against']} " if goal["against"] in PEERS else ""
    return (
        f"{named}≥ {goal['at_least']:{'.0%' if share else 'g'}}{'' if share else 'x'} "
        f"{'met' if goal['met'] else 'MISSED'}"
    )


def targets(result: Result, quantity: str, of_limit: bool = False) -> str:
    """The targets of a quantity for its share of the limit, or those for its ratios."""
    goals = [
        g for g in result["goals"] if g["quantity"] == quantity and (g["against"] == "limit") == of_limit
    ]
    return ", ".join(map(met, goals))


def tables(results: Sequence[Result], summary: dict[str, Result], peers: Sequence[str]) -> list[Table]:
    """Times and shares, ratios of value and of gradient, small calls, and all rows together."""
    large = [r for r in results if not r["small"]]
    shares = []
    for r in large:
        cells = [r["name"], *(digits(median(r, q, "fastloss")) for q in ("value", "gradient", "in place"))]
        for q in ("value", "in place"):
            if q in r["limits"]:
                share = f"{ratio(r, q, 'limit'):.0%}"
                cells += [f"{digits(limit(r, q))} {r['limits'][q]}", share, targets(r, q, of_limit=True)]
            else:
                cells += ["", "", ""]
        shares.append(cells)
    of_value, of_in_place = ["limit of value", "share", "target"], ["limit in place", "share", "target"]
    header = ["", "value", "gradient", "in place", *of_value, *of_in_place]
    parts: list[Table] = [("Milliseconds and shares of the limit", header, shares)]
    for title, gradient in (("Value", False), ("Value and gradient", True)):
        rows = [
            [r["name"], digits(median(r, q, "fastloss"))]
            + [digits(ratio(r, q, peer), "x") for peer in peers]
            + [targets(r, q)]
            for r in large
            for q in r["compared"]
            if (q == "gradient") == gradient
        ]
        parts.append((f"{title}: times longer than fastloss", ["", "ms", *peers, "target"], rows))
    rows = [
        [f"{r['name']}, {q}"]
        + [digits(1e3 * median(r, q, name)) for name in ("fastloss", *peers)]
        + [targets(r, q)]
        for r in results
        if r["small"]
        for q in r["compared"]
    ]
    parts.append(("Small calls: microseconds", ["", "fastloss", *peers, "target"], rows))
    rows = [
        [peer, digits(s["geometric mean"], "x"), digits(s["slowest"], "x"), s["where"]]
        for peer, s in summary.items()
    ]
    parts.append(("All rows: times longer than fastloss", ["", "geometric mean", "least", "in"], rows))
    return [part for part in parts if part[2]]


def verdict(results: Sequence[Result], summary: dict[str, Result]) -> list[str]:
    """How many targets are met, which are not, and the memory that the largest value adds."""
    goals = [(f"{r['name']}, {g['quantity']}", g) for r in results for g in r["goals"]]
    for peer in ("PyTorch", "scipy", "scikit-learn"):
        for measured, at_least in (("geometric mean", 8), ("slowest", 1)) if peer in summary else ():
            x = summary[peer][measured]
            goal = {"against": peer, "at_least": at_least, "measured": x, "met": x >= at_least}
            goals.append((f"all rows, {measured}", goal))
    lines = [f"{sum(goal['met'] for _, goal in goals)} of {len(goals)} targets are met."]
    lines += [f"{name}: {met(g)} with {digits(g['measured'])}" for name, g in goals if not g["met"]]
    worst = max(results, key=lambda r: r["CPUs taken by others"] or 0)
    if (share := worst["CPUs taken by others"]) is not None:
        lines.append(f"Other processes took at most {max(share, 0):.0%} of a CPU, during {worst['name']}.")
    for r in results:
        if "128,256" in r["name"] and (added := r["peak MB of the value"]) is not None:
            lines.append(f"Memory that the value adds, {r['name']}: {added:.2f} MB.")
    return lines


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rule = ["---", *(["---:"] * (len(header) - 1))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def row_axes(results: Sequence[Result], height: float, titles: Sequence[str]) -> tuple[Figure, Any]:
    """Two panels with a line for each row."""
    picture = Figure(figsize=(14, 1.5 + height * len(results)), layout="constrained")
    axes = picture.subplots(1, 2, sharey=True)
    axes[0].set_yticks(range(len(results)), [r["name"] for r in results])
    axes[0].set_ylim(len(results) - 0.5, -0.5)
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
        ax.grid(axis="x", alpha=0.3)
    return picture, axes


def roofline_picture(results: Sequence[Result]) -> Figure:
    """Bars: the bytes that have to move by the time taken; the line on each is its roof, the limit."""
    results = [r for r in results if not r["small"]]
    titles = ("arrays read (roof: compiled read)", "result written too (roof: compiled copy)")
    picture, axes = row_axes(results, 0.35, titles)
    for ax, kind in zip(axes, ("read", "copy"), strict=True):
        for i, r in enumerate(results):
            for q in (q for q, of in r["limits"].items() if of == kind):
                times = median(r, q, "fastloss"), limit(r, q)
                attained, roof = (r["bytes"][kind] / ms / 1e6 for ms in times)
                ax.barh(i, attained, 0.7, color="C0")
                ax.plot([roof, roof], [i - 0.45, i + 0.45], color="C3", linewidth=3)
                ax.text(attained, i, f" {attained / roof:.0%}", va="center", fontsize=8)
        ax.set(xlabel="GB/s")
    return picture


def size_picture(curves: dict[str, list[Result]]) -> Figure:
    """Lines: nanoseconds for an element of cross_entropy against the number of elements."""
    picture = Figure(figsize=(11, 4.5), layout="constrained")
    axes = picture.subplots(1, 2, sharey=True)
    for ax, (classes, results) in zip(axes, curves.items(), strict=True):
        elements = [r["elements"] for r in results]
        for q, style, label in (("value", "-", "value"), ("gradient", "--", "value and gradient")):
            for name in (name for name in COLORS if name in results[0]["ms"][q]):
                cost = [1e6 * median(r, q, name) / r["elements"] for r in results]
                ax.loglog(elements, cost, style, marker=".", color=COLORS[name], label=f"{name}, {label}")
        ax.set(title=f"cross_entropy, {int(classes):,} classes", xlabel="elements")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("nanoseconds an element")
    axes[0].legend()
    return picture


def environment(threads: int) -> dict[str, str]:
    """Machine, versions and date."""
    cpuinfo = Path("/proc/cpuinfo")
    fields = dict(re.findall(r"(.*?)\s*: (.*)", cpuinfo.read_text())) if cpuinfo.exists() else {}
    processor = fields.get("model name", platform.machine())  # in a virtual machine the name of many
    if "cpu family" in fields:
        processor += f" (family {fields['cpu family']}, model {fields['model']})"
    command = [os.environ.get("CC", "cc"), "--version"]
    compiler = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    names = [
        name for name in ("numpy", "scipy", "scikit-learn", "torch", "jax", "optax") if name in installed
    ]
    return {
        "processor": f"{processor}, {os.cpu_count()} CPUs",
        "threads": f"{threads} in each library",
        "instruction set": _kernels.active,
        "compiler": f"{_kernels.module.COMPILER} (fastloss), {compiler} (limits)",
        "versions": ", ".join(
            [f"fastloss {fastloss.__version__}", f"Python {platform.python_version()}"]
            + [f"{name} {installed[name]}" for name in names]
        ),
        "date": datetime.date.today().isoformat(),
    }


def measured(options: argparse.Namespace) -> Result:
    """Everything that results.json holds."""
    use_threads(options.threads)
    asked = peers_of(options.peers, PEERS)
    rows = rows_of(options.rows, ROWS, lambda row: row.name)
    peers = [name for name in asked if not PEERS[name].missing]
    for name in (name for name in asked if name not in peers):
        print(f"{name} is left out: {PEERS[name].missing} is not installed")
    command = " ".join(["python -m bench", *sys.argv[1:]])
    results = [measure(row, peers, options.seconds) for row in rows]
    document = {"command": command, "about": environment(options.threads), "rows": results}
    document["over all"] = over_all(results, peers)
    if not options.rows:
        eager = [name for name in peers if name == "PyTorch"]
        document["sizes"] = {
            str(classes): [
                measure(Row("cross_entropy", (round(n / classes), classes), "labels"), eager, options.seconds)
                for n in np.logspace(3, 8, 11)
            ]
            for classes in (10, 1000)
        }
    return document


def save(picture: Figure, path: Path) -> None:
    """A PNG of few colours, which takes a third of the bytes."""
    drawn = io.BytesIO()
    picture.savefig(drawn, dpi=DPI)
    Image.open(drawn).convert("RGB").quantize(SHADES, dither=Image.Dither.NONE).save(path, optimize=True)


def write(document: Result, folder: Path) -> None:
    """The tables, to the screen too, and the pictures."""
    results, summary, about = document["rows"], document["over all"], document["about"]
    peers = list(summary)
    text = ["# Speed", "", LEGEND, "", *(f"- {key}: {value}" for key, value in about.items())]
    for title, header, lines in tables(results, summary, peers):
        print(f"\n{title}\n")
        table(header, lines)
        text += ["", f"## {title}", "", markdown(header, lines)]
    closing = verdict(results, summary)
    print("\n".join(closing))
    text += ["", *(f"- {line}" for line in closing), "", f"Written by `{document['command']}`.", ""]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text("\n".join(text), encoding="utf-8")
    pictures.draw(folder)
    drawn = {}
    if not all(r["small"] for r in results):
        drawn["roofline"] = roofline_picture(results)
    if "sizes" in document:
        drawn["size"] = size_picture(document["sizes"])
    footer = f"{about['processor']}, {about['instruction set']}, threads: {about['threads']}, {about['date']}"
    for name, picture in drawn.items():
        picture.supxlabel(f"{footer}\n{about['versions']}", fontsize=7)
        save(picture, folder / f"{name}.png")


def add_options(parser: argparse.ArgumentParser) -> None:
    threads = fastloss.get_num_threads()
    shared(parser, rows="", peers=",".join(PEERS), seconds=0.3, threads=threads, output=HERE)
    parser.add_argument("--draw", metavar="FILE", type=Path, help="measure nothing: a results.json")


def main(options: argparse.Namespace) -> None:
    """Run the comparison, or draw an earlier one."""
    document = json.loads(options.draw.read_text(encoding="utf-8")) if options.draw else measured(options)
    write(document, options.output)
    if options.output != HERE and not options.draw:
        (options.output / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
