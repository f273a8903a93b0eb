"""Code in an interpreter of its own."""

import os
import subprocess
import sys

import fastloss

LARGE = """
import numpy as np, fastloss
x = np.random.default_rng(0).standard_normal((3000, 300))
t = np.zeros(3000, int)
def work():
    return fastloss.CrossEntropyLoss().value_and_grad(x, t)
fastloss.set_num_threads(2)
value, grad = work()
def same():
    again, slope = work()
    return again == value and np.array_equal(grad, slope)
"""


def python(code, timeout=60, **environment):
    """Run code in a new interpreter that sees the same fastloss."""
    here = os.path.dirname(os.path.dirname(fastloss.__file__))
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def answers(code, **arguments):
    done = python(code, **arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
