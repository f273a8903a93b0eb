"""Every float32 number through sigmoids, losses, and the kernels' exp and log: `python -m bench exhaustive`.

Takes some ten minutes, and without --rows writes its part of docs/accuracy.md: the largest error in ulp,
where it is, and what was flushed to zero. The truth is NumPy's float64, whose own error is that from mpmath
on a sample. All instruction sets run on the same numbers, and are compared bit by bit. Exit status 1: a bound
fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import mpmath as mp
import numpy as np
from Cython.Build import cythonize
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

import fastloss
from fastloss import _kernels, bounds

from .accuracy import machine, write
from .options import ROOT, rows_of, shared

ABOUT = """
The truth is float64; its own error, the last column, is by mpmath on a sample. Instruction sets in one row
agree in every bit. "flushed" counts results of 0 for a truth below the smallest normal number; no other
result is 0. The exponentials and logarithms are those of the kernels (`math.pxd`), some of which give a sum
of two numbers; their inputs are all that they are defined on.
"""
CHUNK = 2**15
NORMAL = float(np.finfo(np.float32).smallest_normal)
ONE, INFINITE = 0x3F800000, 0x7F800000  # bit patterns


class Scan(NamedTuple):
    """A function, its truth, its bound, and the bit patterns [first, last] and signs of its inputs."""

    name: str
    truth: Callable[[Any], Any]
    exact: Callable[[Any], Any]
    bound: float  # in ulp
    last: int = INFINITE
    signs: tuple[int, ...] = (1,)
    first: int = 0
    slope: float = 0.0  # what the bound grows by with each unit of |x|
    without_fma: float = 0.0  # and in the base kernels


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x > 0, 1 / (1 + e), e / (1 + e))


def _logsigmoid(x: Any) -> Any:
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def _of(x: float) -> int:
    return int(np.float32(x).view(np.uint32))


def _softplus(x: Any) -> Any:
    return -_logsigmoid(-x)


def _of_losses(x: Any, loss: Any, target: int, part: int) -> Any:
    return loss.value_and_grad(x, np.full_like(x, target))[part]


_LOGITS, _BCE = fastloss.BCEWithLogitsLoss(reduction="none"), fastloss.BCELoss(reduction="none")
PUBLIC: dict[str, Callable[[Any], Any]] = {
    "sigmoid": fastloss.sigmoid,
    "logsigmoid": fastloss.logsigmoid,
    "BCEWithLogitsLoss, target 0": lambda x: _of_losses(x, _LOGITS, 0, 0),
    "BCEWithLogitsLoss, target 1": lambda x: _of_losses(x, _LOGITS, 1, 0),
    "BCEWithLogitsLoss, target 0, slope": lambda x: _of_losses(x, _LOGITS, 0, 1),
    "BCEWithLogitsLoss, target 1, slope": lambda x: _of_losses(x, _LOGITS, 1, 1),
    "BCELoss, target 0": lambda x: _of_losses(x, _BCE, 0, 0),
    "BCELoss, target 1": lambda x: _of_losses(x, _BCE, 1, 0),
    "BCELoss, target 0, slope": lambda x: _of_losses(x, _BCE, 0, 1),
    "BCELoss, target 1, slope": lambda x: _of_losses(x, _BCE, 1, 1),
}
CUT = float(np.float32(1e-12))  # x (1 - x) in BCELoss's slope
EVERY = (bounds.ULP, 0x7FFFFFFF, (1, -1))

SCANS = (
    Scan("sigmoid", _sigmoid, lambda x: 1 / (1 + mp.exp(-x)), *EVERY),
    Scan("logsigmoid", _logsigmoid, lambda x: -mp.log1p(mp.exp(-x)), *EVERY),
    Scan("BCEWithLogitsLoss, target 0", _softplus, lambda x: mp.log1p(mp.exp(x)), *EVERY),
    Scan("BCEWithLogitsLoss, target 1", lambda x: _softplus(-x), lambda x: mp.log1p(mp.exp(-x)), *EVERY),
    Scan("BCEWithLogitsLoss, target 0, slope", _sigmoid, lambda x: 1 / (1 + mp.exp(-x)), *EVERY),
    Scan(
        "BCEWithLogitsLoss, target 1, slope", lambda x: -_sigmoid(-x), lambda x: -1 / (1 + mp.exp(x)), *EVERY
    ),
    Scan(
        "BCELoss, target 0",
        lambda x: np.minimum(-np.log1p(-x), 100),
        lambda x: min(-mp.log1p(-x), 100),
        bounds.ULP,
        ONE,
    ),
    Scan(
        "BCELoss, target 1",
        lambda x: np.minimum(-np.log(x), 100),
        lambda x: min(-mp.log(x), 100),
        bounds.ULP,
        ONE,
    ),
    Scan(
        "BCELoss, target 0, slope",
        lambda x: x / np.maximum(x * (1 - x), CUT),
        lambda x: x / max(x * (1 - x), CUT),
        bounds.ULP,
        ONE,
    ),
    Scan(
        "BCELoss, target 1, slope",
        lambda x: (x - 1) / np.maximum(x * (1 - x), CUT),
        lambda x: (x - 1) / max(x * (1 - x), CUT),
        bounds.ULP,
        ONE,
    ),
    # the common factor moves results against the numbers of which an ulp is counted
    Scan("exp_of", np.exp, mp.exp, 1.2, _of(44.0), (1,), slope=0.05),
    Scan("exp_of", np.exp, mp.exp, 1.2, _of(87.33654), (-1,), slope=0.05),
    Scan("exp_argument_of", np.exp, mp.exp, 1.05, _of(87.33654), (1, -1)),
    Scan("log_positive", np.log, mp.log, 0.36, INFINITE - 1, first=1, without_fma=0.04),
    Scan("log_of", np.log, mp.log, 1.0, _of(1.2e38), first=0x00800000),
    Scan("log_of, 1 - x", lambda x: np.log1p(-x), lambda x: mp.log1p(-x), 1.0, ONE - 1, without_fma=0.06),
    Scan("log1p_of", np.log1p, mp.log1p, 1.3, ONE),
    Scan("log1p_nonnegative", np.log1p, mp.log1p, 0.44, _of(2.0**127) - 1, without_fma=0.02),
)


def build(folder: str, isas: list[str]) -> dict[str, Any]:
    """exhaustive.pyx for each of the instruction sets, with the flags of the package."""
    os.chdir(ROOT)
    with mock.patch("setuptools.setup"):
        package = runpy.run_path("setup.py")
    modules, extensions = {}, []
    for isa in isas:
        source = Path(folder) / f"exhaustive_{isa}.pyx"
        source.write_text(Path(__file__).with_suffix(".pyx").read_text(encoding="utf-8"), encoding="utf-8")
        options = {
            "extra_compile_args": ["-O3", *package["FLAGS"], *package["ISA_FLAGS"][isa]],
            "define_macros": package["MACROS"],
            "include_dirs": [np.get_include(), package["KERNELS"]],
        }
        extensions.append(Extension(source.stem, [str(source)], **options))
    directives = {"language_level": "3", "boundscheck": False, "wraparound": False, "cdivision": True}
    extensions = cythonize(extensions, compiler_directives=directives, include_path=["src"], quiet=True)
    command = build_ext(Distribution({"ext_modules": extensions}))
    command.build_lib = command.build_temp = folder
    command.ensure_finalized()
    command.run()
    for extension in extensions:
        isa = extension.name.partition("_")[2]
        spec = importlib.util.spec_from_file_location(
            extension.name, command.get_ext_fullpath(extension.name)
        )
        modules[isa] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[isa])
    return modules


class Found:
    """What a scan found for one instruction set, or several that agree in every bit."""

    def __init__(self) -> None:
        self.isas: list[str] = []
        self.worst, self.at, self.flushed, self.wrong = 0.0, 0.0, 0, 0

    def add(self, x: Any, got: Any, truth: Any, slope: float) -> None:
        """Inputs, results and truths of one chunk, the latter in float64; `slope` |x| ulp are not counted."""
        with np.errstate(invalid="ignore", over="ignore"):
            power = (truth.view(np.int64) & 0x7FF0000000000000).view(np.float64)  # 2^k <= |truth|
            error = np.abs(got - truth) / np.maximum(power, NORMAL)
            if slope:
                error -= np.minimum(error, slope * 2.0**-23 * np.minimum(np.abs(x), 1000.0))
            if power.min() >= NORMAL and error.max() * 2.0**23 <= self.worst:  # neither 0, inf nor NaN
                return
            rounded = truth.astype(np.float32)
            finite = np.isfinite(rounded)
            self.wrong += int((~finite & ~((got == rounded) | (np.isnan(got) & np.isnan(truth)))).sum())
            zero = (got == 0) & (np.abs(truth) < NORMAL) & (truth != 0)
            self.flushed += int(zero.sum())
            error[zero | ~finite] = 0
        k = int(error.argmax())  # the first NaN, if there is one
        self.wrong += int(np.isnan(error).sum())
        if error[k] * 2.0**23 > self.worst:
            self.worst, self.at = float(error[k] * 2.0**23), float(x[k])


def _same(a: Any, b: Any) -> bool:
    return bool((a == b).all()) or np.array_equal(a, b, equal_nan=True)


def numbers(first: int, last: int, sign: int) -> Any:
    """The float32 numbers of the bit patterns first to last."""
    return (np.arange(first, last + 1, dtype=np.uint32) | np.uint32(0 if sign > 0 else 0x80000000)).view(
        np.float32
    )


def scan(job: Scan, modules: dict[str, Any]) -> tuple[list[Found], int]:
    """All inputs of one function on every instruction set; instruction sets that agree share an answer."""
    groups: list[list[str]] = [list(modules)]
    answers = {isa: Found() for isa in modules}
    public = PUBLIC.get(job.name)
    count = 0
    for sign in job.signs:
        for first in range(job.first, job.last + 1, CHUNK):
            x = numbers(first, min(first + CHUNK - 1, job.last), sign)
            count += len(x)
            with np.errstate(all="ignore"):
                truth = job.truth(x.astype(np.float64))
            results: dict[str, Any] = {}
            for isa, module in modules.items():
                if public:
                    _kernels.use(isa)
                    results[isa] = public(x).astype(np.float64)
                else:
                    results[isa] = np.empty(len(x))
                    module.evaluate(module.FUNCTIONS[job.name], x, results[isa])
            parts: list[list[str]] = []
            for group in groups:  # split where the bits differ
                rest = group
                while rest:
                    same = [isa for isa in rest if _same(results[isa], results[rest[0]])]
                    parts.append(same)
                    rest = [isa for isa in rest if isa not in same]
            if len(parts) > len(groups):
                for part in parts:
                    (before,) = (group for group in groups if part[0] in group)
                    vars(answers[part[0]]).update(vars(answers[before[0]]))
            groups = parts
            for group in groups:
                answers[group[0]].add(x, results[group[0]], truth, job.slope)
    for group in groups:
        answers[group[0]].isas = group
    return [answers[group[0]] for group in groups], count


def error_of_truth(job: Scan, samples: int = 2000) -> float:
    """The largest distance of the float64 truth from mpmath's on a sample, in ulp of float32."""
    rng, worst = np.random.default_rng(5), 0.0
    for sign in job.signs:
        bits = rng.integers(1, min(job.last, INFINITE - 1), samples, dtype=np.uint32)
        for x in [numbers(int(b), int(b), sign)[0] for b in bits]:
            exact = job.exact(mp.mpf(float(x)))
            if abs(exact) >= NORMAL:
                truth = float(job.truth(np.float64(x)))
                worst = max(
                    worst, float(abs(truth - exact)) / (2.0 ** (int(np.frexp(truth)[1]) - 1) * 2.0**-23)
                )
    return worst


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", output=Path("docs"))
    parser.add_argument("--isa", action="append", choices=_kernels.available, help="only this (default: all)")


def main(given: argparse.Namespace) -> int:
    """Scan, print and write."""
    head = (
        "function | inputs | instruction sets | largest error, ulp | at | flushed | error of the truth, ulp"
    )
    lines = [f"| {head} |", "|---" * 7 + "|"]
    fastloss.set_num_threads(1)
    broken = 0
    jobs = rows_of(given.rows, SCANS, lambda job: job.name)
    with tempfile.TemporaryDirectory() as folder:
        modules = build(folder, given.isa or list(_kernels.available))
        for job in jobs:
            answers, count = scan(job, modules)
            own = error_of_truth(job)
            for found in answers:
                beyond = f" beyond {job.slope} \\|x\\|" if job.slope else ""
                bound = job.bound + (job.without_fma if "base" in found.isas else 0)
                holds = found.worst <= bound and not found.wrong
                broken += not holds
                sets = ", ".join(found.isas)
                verdict = "" if holds else f" **not {bound}, {found.wrong} wrong**"
                lines.append(
                    f"| {job.name} | {count:,} | {sets} | {found.worst:.4f}{beyond}{verdict} "
                    f"| {found.at:.9g} | {found.flushed:,} | {own:.1e} |"
                )
                print(lines[-1], flush=True)
    if not given.rows:
        about = f"## Every float32 number\n\nWritten by `python -m bench exhaustive`. {machine()}\n{ABOUT}"
        write(given.output, "exhaustive", [*about.splitlines(), "", *lines])
    return int(broken > 0)
