"""scikit-learn's own tests of its metrics, on those of `fastloss.metrics`."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
