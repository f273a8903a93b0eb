"""SciPy's own tests of the functions of fastloss.special, run on fastloss."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastloss

scipy = pytest.importorskip("scipy", reason="needs scipy")
TESTS = Path(scipy.__file__).parent / "special" / "tests"
FILES = {
    "test_logsumexp.py": "not wrap_radians",
    "test_logit.py": "Expit",
    "test_basic.py": "Softplus or xlogy or entr or kl_div",
}
FUNCTIONS = (
    "logsumexp",
    "softmax",
    "log_softmax",
    "expit",
    "log_expit",
    "softplus",
    "xlogy",
    "entr",
    "rel_entr",
    "kl_div",
)


@pytest.mark.skipif(not (TESTS / "test_logsumexp.py").exists(), reason="SciPy without its tests")
@pytest.mark.skipif(importlib.util.find_spec("hypothesis") is None, reason="SciPy's tests need hypothesis")
def test_scipys_own_tests(tmp_path):
    """They pass, and of the calls with real numbers at least nine in ten are fastloss's own.

    SciPy's many cases of complex numbers are its own business: those calls, and no others, are passed on.
    """
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    root = Path(__file__).parents[1]
    here = os.path.dirname(os.path.dirname(fastloss.__file__))
    path = os.pathsep.join([here, str(root), os.environ.get("PYTHONPATH", "")])
    calls, foreign, asked = ({} for _ in range(3))
    for file, chosen in FILES.items():
        options = ["-q", "-p", "no:cacheprovider", "-c", str(tmp_path / "pytest.ini")]
        options += ["-p", "tests.support.on_fastloss", "-k", chosen, str(TESTS / file)]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options],
            env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
        counts = json.loads(next(line for line in run.stdout.splitlines() if line.startswith('{"calls"')))
        for all_of_them, of_this in zip((calls, foreign, asked), counts.values(), strict=True):
            for name, number in of_this.items():
                all_of_them[name] = all_of_them.get(name, 0) + number
    own = {name: calls[name] - asked.get(name, 0) for name in FUNCTIONS}
    real = {name: calls[name] - foreign.get(name, 0) for name in FUNCTIONS}
    print(f"calls {calls}\nof complex or long double {foreign}\npassed on to SciPy {asked}")
    assert sum(own.values()) >= 0.9 * sum(real.values())
    assert all(own[name] >= 0.9 * real[name] > 0 for name in FUNCTIONS)
