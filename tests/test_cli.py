"""``python -m fastloss``: its sections and its exit status."""

import os
import subprocess
import sys

import pytest

import fastloss
from fastloss import __main__ as cli
from fastloss import _report, _selfcheck
from fastloss.losses import CLASSES


@pytest.fixture
def checks_only(monkeypatch):
    """Leave out the sections that take long."""
    monkeypatch.setattr(cli, "compare_times", lambda quick: None)
    monkeypatch.setattr(cli, "train", lambda: True)


def test_quick_run():
    run = subprocess.run(
        [sys.executable, "-m", "fastloss", "--quick"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error::RuntimeWarning"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""  # no progress line where there is no terminal
    for text in ("Configuration", "Checks against", "Times in milliseconds", "Softmax regression"):
        assert text in run.stdout
    for name in (*_selfcheck.FUNCTIONS, "float64", "float32", "float16"):
        assert name in run.stdout
    assert "DISAGREE" not in run.stdout
    assert "Everything agrees" in run.stdout


def test_every_public_function_is_checked():
    losses = {name for name in dir(fastloss) if name.endswith("Loss")}
    assert losses == {"LinearCrossEntropyLoss", *(kind.__name__ for kind in CLASSES.values())}
    for name in _selfcheck.FUNCTIONS:
        assert callable(getattr(fastloss, name))
        assert callable(getattr(fastloss.reference, name))


def test_wrong_array_function_exits_1(monkeypatch, capsys, checks_only):
    right = fastloss.softmax
    monkeypatch.setattr(fastloss, "softmax", lambda x, axis=-1: right(x, axis) * (1 + 2.0**-6))
    assert cli.main([]) == 1
    printed = capsys.readouterr().out
    assert "DISAGREES: softmax float32: beyond its bound" in printed
    assert "DISAGREES: log_softmax" not in printed
    assert "SOMETHING DISAGREES" in printed


def test_wrong_gradient_exits_1(monkeypatch, capsys, checks_only):
    right = fastloss.reference.mse_loss

    def wrong(*args, **keywords):
        value, grad, *hess = right(*args, **keywords)
        return value, grad * (1 + 2.0**-6), *hess

    monkeypatch.setattr(fastloss.reference, "mse_loss", wrong)
    assert cli.main([]) == 1
    assert "DISAGREES: mse_loss float64" in capsys.readouterr().out


def test_check_error_exits_1(monkeypatch, capsys, checks_only):
    def fails(*args, **keywords):
        raise fastloss.CheckError("sigmoid: position 7")

    monkeypatch.setattr(fastloss, "sigmoid", fails)
    assert cli.main([]) == 1
    assert "DISAGREES: sigmoid float64: CheckError: sigmoid: position 7" in capsys.readouterr().out


def test_other_objective_disagrees_with_scikit_learn(monkeypatch, capsys):
    pytest.importorskip("sklearn")
    smoothed = fastloss.CrossEntropyLoss(label_smoothing=0.001)
    monkeypatch.setattr(fastloss, "CrossEntropyLoss", lambda: smoothed)
    assert cli.train() is False
    assert "they DISAGREE" in capsys.readouterr().out


def test_without_scikit_learn_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli, "optional", lambda name: None)
    assert cli.train() is True
    assert "pip install 'fastloss[demo]'" in capsys.readouterr().out


def test_plain_table(capsys):
    _report.table(("name", "", "ms"), [("softmax", "10", "1.25"), ("x", "", "10.00")])
    assert capsys.readouterr().out.splitlines() == [
        "  name            ms",
        "  -------  --  -----",
        "  softmax  10   1.25",
        "  x            10.00",
        "",
    ]
