"""What a type checker tells a user: floats and arrays by `reduction`, and words that are no option."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastloss

RIGHT = """
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import fastloss

x = np.zeros((4, 3), np.float32)
labels = np.zeros(4, np.int64)

assert_type(fastloss.cross_entropy(x, labels), float)
assert_type(fastloss.cross_entropy(x, labels, reduction="sum", label_smoothing=0.1, axis=1), float)
assert_type(fastloss.cross_entropy(x, labels, reduction="none", sample_weight=[1, 2, 3, 4]), NDArray[Any])
assert_type(fastloss.kl_div(x, x, reduction="batchmean", log_target=True), float)
assert_type(fastloss.gaussian_nll_loss(x, x, 1.0, reduction="none"), NDArray[Any])
assert_type(fastloss.softmax(x), NDArray[Any])
loss = fastloss.CrossEntropyLoss([1.0, 2.0, 3.0], ignore_index=(-1, -2), z_loss=1e-4)
assert_type(loss, fastloss.CrossEntropyLoss[float])
assert_type(loss(x, labels, mask=labels == 0), float)
assert_type(loss.value_and_grad(x, labels), tuple[float, NDArray[Any]])
assert_type(fastloss.MSELoss(reduction="none")(x, x), NDArray[Any])
assert_type(fastloss.FocalLoss(reduction="none").value_and_grad(x, labels)[0], NDArray[Any])
part = loss.partial(x, labels)
assert_type(part, fastloss.Partial[float])
assert_type(part.merge(part).value(), float)
assert_type(part.total(), fastloss.Total)
assert_type(fastloss.PolyLoss(reduction="none").partial(x, labels, start=3).value(), NDArray[Any])
assert_type(part.grad(x, labels), NDArray[Any])
gaussian = fastloss.GaussianNLLLoss()
assert_type(gaussian(x, x, 1.0), float)
assert_type(gaussian.value_and_grad(x, x, 1.0)[0], float)
assert_type(gaussian.value_grad_hess(x, x, 1.0), tuple[float, NDArray[Any], NDArray[Any]])
assert_type(fastloss.GaussianNLLLoss(reduction="none")(x, x, 1.0), NDArray[Any])
assert_type(fastloss.metrics.perplexity(x, labels, ignore_index=(-1, -2)), float)
assert_type(sum([loss.total(x, labels)], fastloss.Total()).perplexity, float)
"""

DASK = """
import fastloss.dask

value, grad = fastloss.dask.cross_entropy_value_and_grad([[0.0, 1.0]], [0])
total = fastloss.dask.mse_loss_total([0.0], [0.0])
"""

TORCH = """
import torch
from typing_extensions import assert_type

import fastloss.torch

x, y = torch.zeros(2, 3), torch.tensor([0, 1])
assert_type(fastloss.torch.CrossEntropyLoss()(x, y), torch.Tensor)
assert_type(fastloss.torch.cross_entropy(x, y), torch.Tensor)
assert_type(fastloss.torch.MSELoss(reduction="none")(x, x), torch.Tensor)
assert_type(fastloss.torch.parallel.cross_entropy(x, y, label_smoothing=0.1), torch.Tensor)
"""

#: Each line is an error.
WRONG = """
import fastloss
fastloss.cross_entropy([[0.0, 1.0]], [0], reduction="avg")
fastloss.cross_entropy([[0.0, 1.0]], [0], reduction="batchmean")
fastloss.cross_entropy([[0.0, 1.0]], [0], label_smooth=0.1)
fastloss.focal_loss([[0.0, 1.0]], [0], empty="none")
fastloss.MSELoss(reduction=None)
fastloss.BCELoss(pos_weight=2.0)
fastloss.gaussian_nll_loss([0.0], [1.0])
"""

#: basedpyright is pyright with its JavaScript engine in the wheel.
CHECKERS = {"mypy": ["mypy", "--strict", "--follow-imports=silent"], "basedpyright": ["basedpyright"]}


def check(checker, script, tmp_path):
    """Run a checker on a user's script; its exit status and the lines at which it found errors."""
    pytest.importorskip(checker)
    path = tmp_path / "script.py"
    path.write_text(script)
    source = str(Path(fastloss.__file__).parents[1])
    (tmp_path / "pyrightconfig.json").write_text(
        f'{{"extraPaths": ["{source}"], "typeCheckingMode": "strict"}}'
    )
    run = subprocess.run(
        [sys.executable, "-m", *CHECKERS[checker], str(path)],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": source if "site-packages" not in source else ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = run.stdout + run.stderr
    lines = {
        int(line.split(":")[1]) for line in output.splitlines() if "script.py:" in line and "error" in line
    }
    return run.returncode, lines, output


@pytest.mark.parametrize("checker", CHECKERS)
def test_right(checker, tmp_path):
    status, _, output = check(checker, RIGHT, tmp_path)
    assert status == 0, output


def test_dask(tmp_path):
    pytest.importorskip("dask")
    status, _, output = check("mypy", DASK, tmp_path)
    assert status == 0, output


@pytest.mark.parametrize("checker", CHECKERS)
def test_torch(checker, tmp_path):
    pytest.importorskip("torch")
    status, _, output = check(checker, TORCH, tmp_path)
    assert status == 0, output


@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong(checker, tmp_path):
    status, lines, output = check(checker, WRONG, tmp_path)
    assert status != 0, output
    assert lines == set(range(3, 10)), output
