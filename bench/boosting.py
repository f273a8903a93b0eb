"""Boosting with fastloss, built-in and NumPy objectives: `python -m bench boosting`.

An iteration of LightGBM and of XGBoost, for two classes of 1,000,000 rows and ten of 100,000, ten features
each: boosters with the built-in objective, with fastloss's, and with the usual one of NumPy and SciPy take
turns, an iteration at a time. Then the objectives alone, beside a copy of the scores; a focal loss beside the
published formula in NumPy; and CatBoost's call of 1,000 rows. Medians, in milliseconds.

The exit status is 1 if a ratio misses its target.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import xgboost
from scipy import special

import fastloss
from fastloss._report import progress, table
from fastloss.boosting import Objective

from .options import peers_of, shared

Call = Callable[[], Any]
PEERS = ["lightgbm", "xgboost", "alone", "catboost"]
SIZES = [(1_000_000, 2), (100_000, 10)]
FEATURES = 10
FACTORS = {"xgboost": lambda classes: 2.0, "lightgbm": lambda classes: classes / (classes - 1)}
#: The most that fastloss may take, by what it is compared with; the built-in objective's share of LightGBM's
#: iteration is large enough to win, XGBoost copies what a Python objective returns.
TARGETS = {"lightgbm": 1.0, "xgboost": 1.02, "copy": 1.5, "NumPy": 1 / 8, "formula": 1 / 5, "catboost": 0.006}


def loss_of(classes: int) -> Any:
    return fastloss.BCEWithLogitsLoss() if classes == 2 else fastloss.CrossEntropyLoss()


def usual(classes: int, factor: float) -> Callable[[Any, Any], Any]:
    """The objective as it stands in tutorials."""

    def binary(scores: Any, data: Any) -> Any:
        p = special.expit(scores)
        return p - data.get_label(), p * (1 - p)

    def several(scores: Any, data: Any) -> Any:
        p = special.softmax(scores, axis=1)
        hess = np.maximum(factor * p * (1 - p), 1e-16)
        grad = p
        grad[np.arange(len(p)), data.get_label().astype(int)] -= 1
        return grad, hess

    return binary if classes == 2 else several


def published(scores: Any, labels: Any, alpha: float = 0.25, gamma: float = 2.0) -> Any:
    """Focal loss for LightGBM, after Halford (2020): gradient and Hessian by the chain rule."""
    p = special.expit(scores)
    y, at = 2 * labels - 1, np.where(labels, alpha, 1 - alpha)
    pt = np.clip(np.where(labels, p, 1 - p), 1e-15, 1 - 1e-15)
    u, v = at * y * (1 - pt) ** gamma, gamma * pt * np.log(pt) + pt - 1
    du, dv = -at * y * gamma * (1 - pt) ** (gamma - 1), gamma * np.log(pt) + gamma + 1
    return u * v, (du * v + u * dv) * y * (pt * (1 - pt))


def table_of(rows: int, classes: int) -> tuple[Any, Any]:
    """Features, and labels that depend on them."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, FEATURES), np.float32)
    scores = features @ rng.standard_normal((FEATURES, classes)) + rng.gumbel(size=(rows, classes))
    return features, scores.argmax(axis=1)


def steps_of(library: str, rows: int, classes: int, threads: int) -> dict[str, Call]:
    """An iteration with each of the objectives, all of one data set."""
    features, labels = table_of(rows, classes)
    usually = usual(classes, FACTORS[library](classes))
    objectives: dict[str, Any] = {"fastloss": Objective(loss_of(classes)), "built-in": None, "NumPy": usually}
    params: dict[str, Any] = {"num_class": classes} if classes > 2 else {}
    if library == "xgboost":
        params |= {"nthread": threads, "base_score": 0.5}
        params["objective"] = "multi:softprob" if classes > 2 else "binary:logistic"
        data = xgboost.QuantileDMatrix(features, labels, nthread=threads)

        def xgboost_step(objective: Any) -> Call:
            booster, rounds = xgboost.Booster(params, [data]), iter(range(1_000_000))
            return lambda: booster.update(data, next(rounds), objective)

        return {name: xgboost_step(objective) for name, objective in objectives.items()}
    params |= {"num_threads": threads, "verbosity": -1, "boost_from_average": False, "metric": "None"}
    own = "multiclass" if classes > 2 else "binary"

    def lightgbm_step(objective: Any) -> Call:
        chosen = params | {"objective": "none" if objective else own}
        booster = lightgbm.Booster(chosen, lightgbm.Dataset(features, labels, params=chosen))
        return lambda: booster.update(fobj=objective)

    return {name: lightgbm_step(objective) for name, objective in objectives.items()}


def medians(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Milliseconds of each call; they take turns, the first two of which do not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or min(map(len, times.values())) < 7:
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - begun))
    return {name: statistics.median(taken[2:]) for name, taken in times.items()}


class Data:
    """A data set as an objective sees it."""

    def __init__(self, labels: Any) -> None:
        self.labels = labels.astype(np.float32)

    def get_label(self) -> Any:
        return self.labels

    def get_weight(self) -> Any:
        return None


def alone(library: str, rows: int, classes: int) -> dict[str, Call]:
    """The objectives by themselves, of the scores that a library passes."""
    labels = table_of(rows, classes)[1]
    scores = np.random.default_rng(1).standard_normal((rows, classes) if classes > 2 else rows)
    if library == "xgboost":
        scores = scores.astype(np.float32)
    elif classes > 2:
        scores = np.asfortranarray(scores)
    data, objective, to = Data(labels), Objective(loss_of(classes)), np.empty_like(scores)
    usually = usual(classes, FACTORS[library](classes))
    for ours, theirs in zip(objective(scores, data), usually(scores, data), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    return {
        "fastloss": lambda: objective(scores, data),
        "copy": lambda: np.copyto(to, scores),
        "NumPy": lambda: usually(scores, data),
    }


def focal() -> dict[str, Call]:
    """A focal loss of 1,000,000 float64 scores."""
    scores, labels = np.random.default_rng(1).standard_normal(SIZES[0][0]), table_of(*SIZES[0])[1]
    data, objective = Data(labels), Objective(fastloss.SigmoidFocalLoss(alpha=0.25), hessian="exact")
    grad, hess = published(scores, labels)
    ours = objective(scores, data)
    np.testing.assert_allclose(ours[0], grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ours[1], np.maximum(hess, 1e-16), rtol=1e-4, atol=1e-6)
    return {"fastloss": lambda: objective(scores, data), "formula": lambda: published(scores, labels)}


def catboost_call(weighted: bool) -> dict[str, Call]:
    """What CatBoost calls for each thousand rows, which it passes as NumPy arrays; a hundred of them."""
    scores, labels = np.random.default_rng(1).standard_normal(1000), table_of(1000, 2)[1].astype(np.float32)
    weights, objective = np.ones(1000, np.float32) if weighted else None, Objective(loss_of(2))

    def hundred() -> None:
        for _ in range(100):
            objective.calc_ders_range(scores, labels, weights)

    return {"fastloss": hundred}


class Report:
    """The rows of the table, and whether all targets are met."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.good = True

    def add(self, name: str, times: dict[str, float], targets: dict[str, float]) -> None:
        """A row for each of what fastloss is compared with."""
        ours = times.pop("fastloss")
        for peer, theirs in times.items():
            ratio, most = ours / theirs, targets.get(peer)
            self.good &= most is None or ratio <= most
            target = "" if most is None else f"{most:.3g}"
            self.rows.append([name, f"{ours:.3f}", peer, f"{theirs:.3f}", f"{ratio:.3f}", target])


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, peers=",".join(PEERS), seconds=4.0, threads=fastloss.get_num_threads())


def main(options: argparse.Namespace) -> int:
    """Measure, and print the table."""
    fastloss.set_num_threads(options.threads)
    report, peers = Report(), peers_of(options.peers, PEERS)
    for library in ("lightgbm", "xgboost"):
        for rows, classes in SIZES if library in peers else ():
            name = f"{library}, {rows:,} x {classes}"
            progress(name)
            times = medians(steps_of(library, rows, classes, options.threads), options.seconds)
            report.add(f"{name}: iteration", times, {"built-in": TARGETS[library]})
        for rows, classes in SIZES if "alone" in peers else ():
            name = f"{library}, {rows:,} x {classes}"
            progress(name)
            report.add(
                f"{name}: objective", medians(alone(library, rows, classes), options.seconds / 4), TARGETS
            )
    if "alone" in peers:
        report.add("focal, 1,000,000: objective", medians(focal(), options.seconds / 4), TARGETS)
    table(["milliseconds", "fastloss", "beside", "", "ratio", "target"], report.rows)
    for weighted in (False, True) if "catboost" in peers else ():
        taken = 10 * medians(catboost_call(weighted), options.seconds / 4)["fastloss"]
        report.good &= taken <= 1e3 * TARGETS["catboost"]
        print(f"CatBoost, 1,000 rows, weights: {weighted}: {taken:.2f} microseconds")
    return not report.good
