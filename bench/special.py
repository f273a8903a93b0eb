"""fastloss.special beside scipy.special, by itself and in other libraries: `python -m bench special`.

First calls, on one thread, as SciPy has no more. Then models of scikit-learn, hmmlearn and gensim, as far as
they are installed, as they are and inside `fastloss.special.patched()`; results are compared. The calls take
turns in one process; printed are medians, and how many times longer SciPy's take.

The exit status is 1 if one of them takes longer with fastloss, by more than what is measured: 3%.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import scipy.special

import fastloss
from fastloss import special

from .neighbours import medians
from .options import rows_of, shared

LEAST = 0.97
Pair = tuple[str, Callable[[], Any], Callable[[], Any]]


def calls() -> Iterator[Pair]:
    """Name, ours and theirs."""
    rng = np.random.default_rng(0)
    small, large = rng.standard_normal((32, 10)), rng.standard_normal((20_000, 50))
    arrays = {
        "(32, 10)": (small, 1),
        "(32, 10), all axes": (small, None),
        "(32, 10), axis 0": (small, 0),
        "(10,)": (small[0], None),
        "(32,) strided": (small[:, 3], None),
        "(16, 5) strided": (small[::2, ::2], 1),
        "(10, 32) transposed": (small.T, 0),
        "(20000, 50)": (large, 1),
        "(20000, 50), all axes": (large, None),
        "(50, 20000) transposed": (large.T, 0),
    }
    for name in ("logsumexp", "softmax", "log_softmax"):
        for shape, (x, axis) in arrays.items():
            ours, theirs = (
                partial(getattr(module, name), x, axis=axis) for module in (special, scipy.special)
            )
            yield f"{name} {shape}", ours, theirs
    factors = rng.random(large.shape)
    for b in (factors, factors - 0.5):
        ours, theirs = (
            partial(module.logsumexp, large, axis=1, b=b, return_sign=True)
            for module in (special, scipy.special)
        )
        yield f"logsumexp (20000, 50), b{' of both signs' if b is not factors else ''}", ours, theirs
    positive = {"()": 0.3, "(32, 10)": np.abs(small), "(32, 10) strided": np.abs(small)[::2, ::2]}
    positive |= {"(20000, 50)": np.abs(large), "(20000, 50), float32": np.abs(large).astype(np.float32)}
    for name in ("expit", "log_expit", "softplus", "entr", "rel_entr", "kl_div", "xlogy"):
        for shape, x in positive.items():
            args = (x,) if name in ("expit", "log_expit", "softplus", "entr") else (x, x)
            args = args if len(args) == 1 or np.ndim(x) == 0 else (x, x[::-1].copy())
            ours, theirs = (partial(getattr(module, name), *args) for module in (special, scipy.special))
            yield f"{name} {shape}", ours, theirs


def scikit_learn() -> Iterator[tuple[str, Callable[[], Any]]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.mixture import GaussianMixture
    from sklearn.naive_bayes import MultinomialNB

    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 8)) + 2 * rng.integers(0, 10, (20_000, 1))
    mixture = GaussianMixture(
        10, covariance_type="diag", max_iter=5, tol=0, random_state=0, init_params="random"
    )
    yield "GaussianMixture fit, 20000 x 8, 10 components", lambda: mixture.fit(x).means_
    yield "GaussianMixture predict_proba", lambda: mixture.predict_proba(x)
    counts, labels = rng.poisson(1.0, (20_000, 20)), rng.integers(0, 50, 20_000)
    bayes = MultinomialNB().fit(counts, labels)
    yield "MultinomialNB predict_log_proba, 20000 x 20, 50 classes", lambda: bayes.predict_log_proba(counts)
    model = LogisticRegression(max_iter=10).fit(x, labels % 10)
    yield "LogisticRegression predict_proba, 20000 x 8, 10 classes", lambda: model.predict_proba(x)


def hmmlearn() -> Iterator[tuple[str, Callable[[], Any]]]:
    from hmmlearn.hmm import GMMHMM

    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 4)) + rng.integers(0, 3, (20_000, 1))
    # not its fit, which is mostly scikit-learn's k-means
    model = GMMHMM(4, 4, covariance_type="diag", n_iter=2, tol=0, random_state=0).fit(x[:500])
    yield "hmmlearn GMMHMM predict_proba, 20000 x 4, 4 states of 4", lambda: model.predict_proba(x)


def gensim() -> Iterator[tuple[str, Callable[[], Any]]]:
    from gensim.models import LdaModel

    rng = np.random.default_rng(0)
    words = {i: str(i) for i in range(500)}
    corpus = [[(int(w), 1 + int(w) % 3) for w in rng.choice(500, 60, replace=False)] for _ in range(200)]
    model = LdaModel(corpus, 20, id2word=words, random_state=0, iterations=20)

    def bound() -> Any:
        model.random_state.seed(0)
        return model.bound(corpus)

    def train() -> Any:
        return LdaModel(
            corpus, num_topics=20, id2word=words, random_state=0, iterations=20, eval_every=1
        ).get_topics()

    yield "gensim LdaModel bound, 200 documents, 20 topics", bound
    yield "gensim LdaModel training, likewise", train


MODELS = {"sklearn": scikit_learn, "hmmlearn": hmmlearn, "gensim": gensim}


def turns(call: Callable[[], Any], times: int) -> tuple[float, float]:
    """Median microseconds inside the block and as it is; the results are the same within rounding."""
    taken: tuple[list[float], list[float]] = ([], [])
    for i in range(2 * times + 2):
        if i % 2 == 0:
            with special.patched():
                begun = time.perf_counter()
                ours = call()
                taken[0].append(time.perf_counter() - begun)
        else:
            begun = time.perf_counter()
            theirs = call()
            taken[1].append(time.perf_counter() - begun)
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    first, second = (1e6 * statistics.median(of[1:]) for of in taken)
    return first, second


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", seconds=0.05, threads=1)


def main(options: argparse.Namespace) -> int:
    """Print a line for each call and model."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    missed = False

    def line(name: str, ours: float, theirs: float) -> None:
        nonlocal missed
        wrong = theirs < LEAST * ours
        missed |= wrong
        print(
            f"{name:60}{ours:12.2f}{theirs:12.2f}{theirs / ours:8.2f}{' missed' if wrong else ''}", flush=True
        )

    models: list[tuple[str, Callable[[], Any]]] = []
    for library, of in MODELS.items():
        if importlib.util.find_spec(library):
            models += of()
    pairs: list[Any] = [*calls(), *models]
    print(f"{'microseconds':60}{'fastloss':>12}{'SciPy':>12}{'ratio':>8}")
    with fastloss.threads(options.threads):
        for name, call, *theirs in rows_of(options.rows, pairs, lambda pair: str(pair[0])):
            if theirs:
                us = medians({"ours": call, "theirs": theirs[0]}, options.seconds)
                line(name, us["ours"], us["theirs"])
            else:
                line(name, *turns(call, 7))
    return int(missed)
