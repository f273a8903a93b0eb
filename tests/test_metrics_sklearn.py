"""scikit-learn's own tests of its metrics, on those of `fastloss.metrics`; and both beside each other."""

import importlib.util
import inspect
import math
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastloss

ROOT = Path(__file__).parents[1]


def test_scikit_learns_tests_of_its_metrics():
    pytest.importorskip("sklearn")
    if importlib.util.find_spec("sklearn.metrics.tests") is None:
        pytest.skip("scikit-learn without its tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.metrics", "-p", "no:cacheprovider"]
    command += ["-c", "/dev/null", "--rootdir", "/dev"]
    command += ["-k", "log_loss or brier or multilabel_and_multioutput"]
    modules = ["test_classification", "test_common", "test_score_objects"]
    command += ["--pyargs", *(f"sklearn.metrics.tests.{module}" for module in modules)]
    command += ["sklearn.tests.test_public_functions"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) > 100
    for name, least in (("log_loss", 100), ("brier_score_loss", 80), ("d2_log_loss_score", 80)):
        assert int(re.search(rf"calls of {name}: (\d+)", run.stdout)[1]) > least


RNG = np.random.default_rng(0)
THREE, TWO = RNG.dirichlet(np.ones(3), 6), RNG.dirichlet(np.ones(2), 6)
OF_THREE, OF_TWO = [0, 1, 2, 0, 1, 2], [0, 1, 1, 0, 1, 0]
LABELS = [
    OF_THREE,
    OF_TWO,
    np.array(OF_THREE, np.uint8),
    np.array(OF_THREE)[:, None],
    np.array(OF_THREE)[None],
    [0.0, 1.0, 2.0, 0.0, 1.0, 2.0],
    [0.5, 1.0, 2.0, 0.0, 1.0, 2.0],
    [0.0, 1.0, 2.0, 0.0, 1.0, math.nan],
    list("abcabc"),
    list("abbaba"),
    np.array(list("abcabc"), object),
    [b"a", b"b"] * 3,
    ["a", 0] * 3,
    [True, False] * 3,
    [-1, 1] * 3,
    [-5, 3, 7] * 2,
    [-(2**62), 0, 2**62] * 2,
    [1] * 6,
    ["a"] * 6,
    np.eye(3, dtype=int)[OF_THREE],
    np.eye(2)[OF_TWO],
    np.array([[1, 1, 0], [0, 1, 1]] * 3),
    np.arange(18).reshape(6, 3),
    np.zeros((6, 2, 2)),
    np.array(OF_THREE) * 1j,
    OF_THREE[:5],
    [],
    3,
    "abc",
    None,
]
PREDICTIONS = [
    THREE,
    THREE.astype(np.float32),
    THREE.astype(np.float16),
    np.asfortranarray(THREE),
    THREE.tolist(),
    THREE.astype(object),
    TWO,
    TWO[:, 1],
    TWO[:, 1:],
    [0.5, 1, 0, 0.25, 1, 0.75],
    np.eye(3, dtype=int)[OF_THREE],
    2 * THREE,
    THREE - 0.5,
    0.9 * THREE,
    np.where(THREE > 0.5, math.nan, THREE),
    np.where(THREE > 0.5, math.inf, THREE),
    THREE[:5],
    THREE[:, :, None],
    THREE * 1j,
    np.zeros((6, 0)),
    [],
    [["a"] * 3] * 6,
    0.5,
]
OPTIONS = [
    *({"sample_weight": w} for w in ([1, 2, 3, 4, 5, 6], [0] * 6, [1, -1] * 3, [1, 2, 3], [[1]] * 6, 2.0)),
    {"sample_weight": [1, math.nan, 1, 1, 1, 1]},
    *({"labels": y} for y in ([0, 1, 2], [2, 1, 0], [0, 1, 2, 3], [0, 1], list("abc"), [0, 1, 1], [5], [])),
    *({"normalize": normalize} for normalize in (False, 1)),
    *({"pos_label": label} for label in (0, 1, "a", "b", 7, [1])),
    *({"scale_by_half": half} for half in (True, False, "no")),
]


def outcome(metric, *args, **kwargs):
    """What it returns or raises, and the warnings; not those of NumPy on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = metric(*args, **kwargs)
        except Exception as error:
            result = type(error)
    kinds = [w.category for w in caught if w.category is not RuntimeWarning]
    return result, [kind.__name__ for kind in kinds]


@pytest.mark.parametrize("name", ["log_loss", "brier_score_loss", "d2_log_loss_score"])
def test_same_values_errors_and_warnings(name):
    """Of all these labels and predictions, and of some with options."""
    theirs, own = getattr(pytest.importorskip("sklearn.metrics"), name), getattr(fastloss.metrics, name)
    calls = [((y, p), {}) for y in LABELS for p in PREDICTIONS]
    few = [LABELS[i] for i in (0, 1, 8, 9, 20)], [PREDICTIONS[i] for i in (0, 1, 6, 7, 8, 10)]
    known = inspect.signature(theirs).parameters
    given = [option for option in OPTIONS if option.keys() <= known.keys()]
    calls += [((y, p), option) for y in few[0] for p in few[1] for option in given]
    for args, option in calls:
        (expected, warned), (got, warns) = outcome(theirs, *args, **option), outcome(own, *args, **option)
        about = name, args, option, expected, got
        assert warns == warned, (*about, warns, warned)
        if isinstance(expected, float):
            half = getattr(args[1], "dtype", None) == np.float16  # which they also compute in
            assert got == pytest.approx(expected, rel=1e-2 if half else 1e-5, abs=1e-6, nan_ok=True), about
        else:
            assert isinstance(got, type), about
            assert issubclass(got, ValueError | TypeError | ZeroDivisionError), about
            assert got is expected or expected is TypeError, about  # theirs may be by accident
