"""``python -m fastloss``: its sections, options and exit status."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastloss
from fastloss import __main__ as cli
from fastloss import _kernels, _report, _selfcheck, _timing
from fastloss.losses import CLASSES

COMMAND = [sys.executable, "-m", "fastloss"]
# a shell's background jobs ignore SIGINT, and so would what they start
HEEDING = "import os, signal as s, sys; s.signal(s.SIGINT, s.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
UNCHECKED = "import sys, fastloss.__main__ as cli; cli.check = list; sys.exit(cli.run())"  # a quick one


@pytest.fixture
def few_functions(monkeypatch):
    monkeypatch.setattr(_selfcheck, "FUNCTIONS", ("softmax", "log_softmax", "sigmoid", "mse_loss"))


def test_quick_run():
    run = subprocess.run(
        [*COMMAND, "--quick"],
        capture_output=True,
        text=True,
        timeout=300,
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


def test_wrong_array_function_exits_1(monkeypatch, capsys, few_functions):
    right = fastloss.softmax
    monkeypatch.setattr(fastloss, "softmax", lambda x, axis=-1: right(x, axis) * (1 + 2.0**-6))
    assert cli.main(["--check"]) == 1
    printed = capsys.readouterr().out
    assert "DISAGREES: softmax float32: beyond its bound" in printed
    assert "DISAGREES: log_softmax" not in printed
    assert "SOMETHING DISAGREES" in printed


def test_wrong_gradient_exits_1(monkeypatch, capsys, few_functions):
    right = fastloss.reference.mse_loss

    def wrong(*args, **keywords):
        value, grad, *hess = right(*args, **keywords)
        return value, grad * (1 + 2.0**-6), *hess

    monkeypatch.setattr(fastloss.reference, "mse_loss", wrong)
    assert cli.main(["--check"]) == 1
    assert "DISAGREES: mse_loss float64" in capsys.readouterr().out


def test_check_error_exits_1(monkeypatch, capsys, few_functions):
    def fails(*args, **keywords):
        raise fastloss.CheckError("sigmoid: position 7")

    monkeypatch.setattr(fastloss, "sigmoid", fails)
    assert cli.main(["--check"]) == 1
    assert "DISAGREES: sigmoid float64: CheckError: sigmoid: position 7" in capsys.readouterr().out


def test_other_objective_disagrees_with_scikit_learn(monkeypatch, capsys):
    pytest.importorskip("sklearn")
    smoothed = fastloss.CrossEntropyLoss(label_smoothing=0.001)
    monkeypatch.setattr(fastloss, "CrossEntropyLoss", lambda: smoothed)
    monkeypatch.setattr(cli, "check", list)
    monkeypatch.setattr(cli, "compare_times", lambda quick: [])
    assert cli.main(["--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["agree"] is result["training"]["agree"] is False
    cli.show_training(result["training"])
    assert "they DISAGREE" in capsys.readouterr().out


def test_without_scikit_learn_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli, "optional", lambda name: None)
    assert cli.train() is None
    cli.show_training(None)
    assert "pip install scikit-learn scipy" in capsys.readouterr().out


def test_json(capsys, few_functions):
    assert cli.main(["--json", "--quick"]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert result["agree"] is True
    assert result["configuration"]["fastloss"] == fastloss.__version__
    assert {check["function"] for check in result["checks"]} == set(_selfcheck.FUNCTIONS)
    assert all(check["agrees"] and 0 <= check["value"] <= 1 for check in result["checks"])
    assert {time["function"] for time in result["times"]} >= {"cross_entropy", "softmax", "kl_div"}
    assert all(ms > 0 for time in result["times"] for ms in time["milliseconds"].values())


def test_json_has_no_infinity(monkeypatch, capsys):
    monkeypatch.setattr(cli, "check", lambda: [_selfcheck.Outcome("softmax", "float32", np.inf)])
    assert cli.main(["--json", "--check"]) == 1
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert result["checks"][0]["value"] == "inf"
    assert not {"times", "training"} & result.keys()


@pytest.mark.parametrize("name", _kernels.available)
def test_options(name):
    options = ["--check", "--json", "--isa", name, "--threads", "1"]
    command = [sys.executable, "-c", UNCHECKED, *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    configuration = json.loads(run.stdout)["configuration"]
    assert configuration["instruction set"].startswith(name)
    assert configuration["threads"].startswith("1 of")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--isa", "neon"], "--isa: got 'neon', wanted one of base"),
        (["--threads", "0"], "--threads: got 0, wanted a number of threads from 1"),
        (["--threads", "two"], "argument --threads: invalid int value: 'two'"),
    ],
)
def test_options_that_are_refused(options, error, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(options)
    assert error in capsys.readouterr().err


def test_help_names_the_environment(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    for name in (
        "FASTLOSS_ISA",
        "FASTLOSS_CHECK",
        "OMP_NUM_THREADS",
        "GOMP_SPINCOUNT",
        _kernels.available[-1],
    ):
        assert name in shown


@pytest.mark.parametrize("options", [["--help"], ["--check"], ["--check", "--json"]])
def test_a_reader_that_has_gone(options):
    """As of `| head -0`: no traceback, and the status of a command that SIGPIPE ended."""
    ends = os.pipe()
    os.close(ends[0])
    command = [sys.executable, "-c", UNCHECKED, *options]
    run = subprocess.run(command, stdout=ends[1], stderr=subprocess.PIPE, timeout=300, check=False)
    os.close(ends[1])
    assert run.stderr == b""
    assert run.returncode == 141 or options == ["--help"]  # unbuffered, argparse passes it over


@pytest.mark.skipif(sys.platform == "win32", reason="there a signal cannot be sent to one process")
def test_interrupt():
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDING, *COMMAND, "--check"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "\n"  # the checks begin now, and take a while
    for line in process.stdout:
        if line.startswith("Python"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")


def test_memory():
    """What is beyond the imports: PyTorch's alone take 200 MB and more."""
    pytest.importorskip("resource")
    code = """
import resource, fastloss.__main__ as cli
from fastloss._report import optional
for name in ("torch", "scipy.special", "scipy.optimize", "sklearn.datasets", "sklearn.linear_model"):
    optional(name)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cli.check = list
cli.main([])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert after < 400e3 or after - before < 150e3, (before, after)
"""
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, timeout=300, check=True)


@pytest.mark.parametrize("scipy", [True, False])
def test_what_fastloss_is_compared_with_is_the_same(scipy, monkeypatch):
    if scipy:
        pytest.importorskip("scipy")
    else:
        monkeypatch.setattr(_timing, "optional", lambda name: None)
    for name, x, target in _timing.cases(quick=True):
        results = []
        for library in (_timing.of_fastloss, _timing.of_user):
            out = np.ones(len(x) if name == "logsumexp" else x.shape, x.dtype)
            results.append({what: call() for what, call in library(name, x, target, out).items()})
        ours, theirs = results
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose(ours["value"], theirs["value"], rtol=1e-5)
        if target is not None:
            (value, grad), (expected, slope) = ours["value_and_grad"], theirs["value_and_grad"]
            assert value == pytest.approx(expected, rel=1e-5)
            np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-9)


def test_plain_table(capsys):
    _report.table(("name", "", "ms"), [("softmax", "10", "1.25"), ("x", "", "10.00")])
    assert capsys.readouterr().out.splitlines() == [
        "  name            ms",
        "  -------  --  -----",
        "  softmax  10   1.25",
        "  x            10.00",
        "",
    ]


def test_perplexity(tmp_path):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((5, 40, 7)).astype(np.float32), rng.integers(0, 7, (5, 40))
    labels[0, :3], labels[1, 0] = -100, 3
    files = str(tmp_path / "logits.npy"), str(tmp_path / "labels.npy")
    np.save(files[0], logits)
    np.save(files[1], labels)

    def command(*options):
        run = [*COMMAND, "perplexity", *files, *options]
        return subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)

    for options, ignored in (((), -100), (("--ignore-index", "-100", "--ignore-index", "3"), (-100, 3))):
        total = fastloss.CrossEntropyLoss(ignore_index=ignored, axis=-1).total(logits, labels)
        found = json.loads(command("--json", "--rows", "9", *options).stdout)
        assert found == {"perplexity": total.perplexity, "nats": total.mean, "samples": total.count}
    shown = command("--threads", "1").stdout
    assert shown.startswith("perplexity ")
    assert "197 samples" in shown
    assert "--threads: got 0, wanted" in command("--threads", "0").stderr
    assert "--rows: got 0, wanted" in command("--rows", "0").stderr
    np.save(files[1], labels[:-1])
    np.savez(tmp_path / "archive.npz", logits=logits)
    np.save(tmp_path / "classless.npy", logits[..., :0])
    np.save(tmp_path / "objects.npy", np.array([None]))
    for name, content in (("empty.npy", b""), ("text.npy", b"0.5 0.5"), ("broken.npz", b"PK\3\4")):
        (tmp_path / name).write_bytes(content)
    for name, message in (
        ("logits.npy", "wanted (5, 40)"),
        ("archive.npz", "got an archive"),
        ("classless.npy", "wanted (..., classes)"),
        ("empty.npy", "empty.npy: wanted an array of numbers"),
        ("text.npy", "text.npy: wanted an array of numbers"),
        ("broken.npz", "broken.npz: wanted an array of numbers"),
        ("objects.npy", "objects.npy: wanted an array of numbers"),
    ):
        files = str(tmp_path / name), files[1]
        wrong = command()
        assert wrong.returncode == 2
        assert message in wrong.stderr
        assert "Traceback" not in wrong.stderr
