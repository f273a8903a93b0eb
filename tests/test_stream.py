"""Streams: the same total and gradient as in one array, from maps and iterables, in little memory."""

import os
import subprocess
import sys
import traceback

import numpy as np
import pytest

import fastloss
from fastloss import metrics

LOSS = fastloss.CrossEntropyLoss()


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    x, y = (4 * rng.standard_normal((200, 30))).astype(np.float32), rng.integers(0, 30, 200)
    y[::9] = -100
    return x, y


def mapped(path, array, mode="r"):
    np.save(path, array)
    return np.load(path, mmap_mode=mode)


class Slices:
    """Gives copies by slices, as zarr and h5py do."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, block):
        return self.array[block].copy()

    def __setitem__(self, block, part):
        self.array[block] = part


@pytest.mark.parametrize("rows", [None, 1, 7, 200, 1000])
def test_total_and_gradient(tmp_path, batch, rows):
    x, y = batch
    value, expected = LOSS.value_and_grad(x, y)
    whole = LOSS.total(x, y)
    assert whole.mean == pytest.approx(value, rel=1e-15)
    inputs, targets = mapped(tmp_path / "x.npy", x), mapped(tmp_path / "y.npy", y)
    for form in (lambda a: a, Slices):
        grad = np.full_like(x, np.nan)
        assert fastloss.stream(LOSS, form(inputs), form(targets), rows=rows) == whole
        assert fastloss.stream(LOSS, form(inputs), form(targets), rows=rows, grad_out=form(grad)) == whole
        np.testing.assert_allclose(grad, expected, rtol=2.0**-23, atol=0)  # 1 / divisor is rounded


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_gradient_over_the_input(tmp_path, batch, mode):
    x, y = batch
    expected = LOSS.value_and_grad(x, y)[1]
    logits = mapped(tmp_path / "x.npy", x, mode)
    assert fastloss.stream(LOSS, logits, y, rows=11, grad_out=logits) == LOSS.total(x, y)
    np.testing.assert_allclose(logits, expected, rtol=2.0**-23, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_samples(reduction):
    loss = fastloss.CrossEntropyLoss(reduction=reduction)
    x, y = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    grad = np.zeros_like(x)
    assert (
        fastloss.stream(loss, x, y) == fastloss.stream(loss, x, y, rows=4, grad_out=grad) == fastloss.Total()
    )
    with pytest.raises(TypeError, match="target"):
        fastloss.stream(loss, x, y.astype(str))


def test_batches(batch):
    x, y = batch
    total = fastloss.stream(LOSS, (x[i : i + 30] for i in range(0, 200, 30)), np.split(y, range(30, 200, 30)))
    assert total == LOSS.total(x, y)
    for batches, message in ((([x, x], [y]), r"^target: got 1 batches"), (([x], [y, y]), r"^input: got 1")):
        with pytest.raises(ValueError, match=message):
            fastloss.stream(LOSS, *map(iter, batches))
    with pytest.raises(IndexError, match=r"^target.*out of range.*in batch 1"):
        fastloss.stream(LOSS, iter([x, x]), iter([y, y + 30]))


@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
def test_losses_of_elements(reduction):
    rng = np.random.default_rng(2)
    x, y = fastloss.log_softmax(rng.standard_normal((50, 4))), fastloss.softmax(rng.standard_normal((50, 4)))
    loss, grad = fastloss.KLDivLoss(reduction=reduction), np.empty_like(x)
    total = fastloss.stream(loss, x, y, rows=8, grad_out=grad)
    value, expected = loss.value_and_grad(x, y)
    assert (total.sum if reduction == "sum" else total.mean) == pytest.approx(value, rel=1e-15)
    np.testing.assert_allclose(grad, expected, rtol=2.0**-52, atol=0)


def test_progress(batch):
    seen = []
    fastloss.stream(LOSS, *batch, rows=80, progress=lambda *done: seen.append(done))
    assert seen == [(80, 200), (160, 200), (200, 200)]
    seen.clear()
    fastloss.stream(LOSS, iter([batch[0]]), iter([batch[1]]), progress=lambda *done: seen.append(done))
    assert seen == [(200, None)]
    pytest.importorskip("rich")
    assert fastloss.stream(LOSS, *batch, progress=True).count == np.count_nonzero(batch[1] != -100)


def test_what_is_wrong_is_said_before_anything_is_written(batch):
    x, y = batch
    y[150] = 30
    grad = np.zeros_like(x)
    with pytest.raises(IndexError, match=r"target\[10\] = 30 .* from 140 to 160"):
        fastloss.stream(LOSS, x, y, rows=20, grad_out=grad)
    assert not grad.any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"loss": "cross_entropy"}, TypeError, "loss: got str"),
        ({"rows": 0}, ValueError, "rows: got 0"),
        ({"rows": True}, TypeError, "rows: got bool"),
        ({"progress": np.zeros(2)}, TypeError, "^progress: got ndarray, wanted"),
        ({"progress": "no"}, TypeError, "^progress: got str, wanted"),
        ({"target": np.zeros(3, int)}, ValueError, r"target: got shape \(3,\)"),
        ({"grad_out": np.zeros((200, 29))}, ValueError, "grad_out: got shape"),
        ({"grad_out": [0.0]}, TypeError, "grad_out: got list"),
        ({"input": iter([]), "rows": 2}, ValueError, "rows: it needs"),
        ({"input": np.zeros(5)}, ValueError, "first axis"),
        ({"loss": fastloss.CrossEntropyLoss(axis=0)}, ValueError, "first axis"),
    ],
)
def test_errors(batch, change, error, message):
    arguments = {"loss": LOSS, "input": batch[0], "target": batch[1]} | change
    if "first axis" in message and isinstance(change.get("input"), np.ndarray):
        arguments["target"] = np.zeros(5, int)
    with pytest.raises(error, match=message):
        fastloss.stream(**arguments)


def test_gradients_apart_from_what_is_read_later(batch):
    """Of which each block by itself is apart from those of the same samples."""
    x, y = batch
    room = np.concatenate([x, x[:1]])
    for input, grad in ((room[:-1], room[1:]), (x, x[::-1])):
        before = input.copy()
        with pytest.raises(ValueError, match=r"^grad_out: overlaps input in memory$"):
            fastloss.stream(LOSS, input, y, rows=1, grad_out=grad)
        np.testing.assert_array_equal(input, before)
    with pytest.raises(ValueError, match=r"^grad_out: overlaps target in memory$"):
        fastloss.stream(fastloss.MSELoss(), x.copy(), x, rows=1, grad_out=x[::-1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow(tmp_path):
    """A map of 256 MB, and a gradient into another, in 100 MB beyond what there was."""
    code = f"""
import numpy as np, fastloss
from numpy.lib.format import open_memmap
def resident():
    return int(open("/proc/self/status").read().partition("VmRSS:")[2].split()[0]) / 1024
x = open_memmap({str(tmp_path / "x.npy")!r}, "w+", np.float32, (64000, 1000))
grad = open_memmap({str(tmp_path / "grad.npy")!r}, "w+", np.float32, x.shape)
seen = [resident()]
total = fastloss.stream(fastloss.CrossEntropyLoss(), x, np.zeros(64000, int), rows=4000, grad_out=grad,
                        progress=lambda *done: seen.append(resident()))
assert total.count == 64000, total
print(max(seen) - seen[0])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 100


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_tensors(batch, dtype):
    torch = pytest.importorskip("torch")
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x, y = torch.tensor(batch[0]).to(getattr(torch, dtype)), torch.tensor(batch[1])
    value, expected = LOSS.value_and_grad(x, y)
    for grad in (torch.full_like(x, torch.nan), x):  # the last over the input
        total = fastloss.stream(LOSS, x, y, rows=7, grad_out=grad)
        assert total.mean == pytest.approx(value, rel=1e-6)
        tolerance = 2.0**-7 if dtype == "bfloat16" else 2.0**-22
        np.testing.assert_allclose(grad.double(), expected.astype(float), rtol=tolerance, atol=0)


def test_tables(batch):
    pandas = pytest.importorskip("pandas")
    x, y = batch
    labels = pandas.Series(y, index=np.linspace(0, 1, 200))  # which slices of floats would look up
    assert fastloss.stream(LOSS, pandas.DataFrame(x), labels, rows=30) == LOSS.total(x, y)
    with pytest.raises(TypeError, match=r"^grad_out: got DataFrame"):
        fastloss.stream(LOSS, x, y, grad_out=pandas.DataFrame(x))


@pytest.mark.parametrize("size", [1e308, 1e306, 1.0, 1e-305, 1e-310])
def test_gradients_where_weights_are_extreme(batch, size):
    x, y = batch[0].astype(float), batch[1]
    loss, grad = fastloss.CrossEntropyLoss(np.where(np.arange(30) % 2, size, size / 2)), np.empty(x.shape)
    for form in (lambda a: a, Slices):
        fastloss.stream(loss, x, y, rows=7, grad_out=form(grad))
        np.testing.assert_allclose(grad, loss.value_and_grad(x, y)[1], rtol=1e-13)


@pytest.mark.parametrize(
    ("loss", "input", "message"),
    [
        (fastloss.GaussianNLLLoss(), np.zeros((4, 2)), r"^loss: got GaussianNLLLoss, which needs variances"),
        (fastloss.KLDivWithLogitsLoss(alpha=0.5), np.zeros((4, 2)), r"^loss: .*, which needs labels"),
        (LOSS, 3, r"^input: got int, wanted an array"),
        (LOSS, np.float64(3), r"^input: got shape \(\)"),
        (LOSS, np.zeros(()), r"^input: got shape \(\)"),
    ],
)
def test_what_cannot_be_cut(loss, input, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fastloss.stream(loss, input, np.zeros(4, int))


class _Failing:
    """An array on a disk that fails, by a function beneath the one that is called."""

    shape, dtype = (10, 3), np.dtype(np.float64)

    def __getitem__(self, block):
        return self.read(block)

    def read(self, block):
        if block.start:
            raise OSError("disk")
        return np.zeros(self.shape)[block]


def _failing_batches():
    yield np.zeros((10, 3))
    try:
        {}["batch"]
    except KeyError:
        raise LookupError("no batch")  # noqa: B904  # what it came from is shown, too


def _failing_callback(done, samples):
    raise OSError("display")


@pytest.mark.parametrize(
    ("own", "input", "options"),
    [
        (["__getitem__", "read"], _Failing(), {"rows": 4}),
        (["_failing_batches"], _failing_batches(), {}),
        (["_failing_callback"], np.zeros((10, 3)), {"progress": _failing_callback}),
    ],
)
def test_an_error_shows_the_callers_frames_and_what_it_came_from(own, input, options):
    labels = np.zeros(10, np.int64)
    target = labels if hasattr(input, "shape") else [labels] * 2
    with pytest.raises((OSError, LookupError)) as caught:
        fastloss.stream(fastloss.CrossEntropyLoss(), input, target, **options)
    assert [frame.name for frame in traceback.extract_tb(caught.tb)][1:] == own
    assert isinstance(caught.value.__context__, KeyError | None)
    assert not caught.value.__suppress_context__


@pytest.mark.parametrize(
    "call",
    [
        lambda labels: fastloss.stream(fastloss.CrossEntropyLoss(), np.zeros((2, 3)), labels, rows=1),
        lambda labels: fastloss.stream(fastloss.CrossEntropyLoss(), [np.zeros((2, 3))], [labels]),
        lambda labels: metrics.perplexity(np.zeros((2, 3)), labels),
        lambda labels: metrics.log_loss(labels, np.full((2, 3), 1 / 3)),
        lambda labels: metrics.brier_score_loss(labels, np.full((2, 3), 1 / 3)),
        lambda labels: metrics.d2_log_loss_score(labels, np.full((2, 3), 1 / 3)),
        lambda labels: metrics.expected_calibration_error(labels, np.full((2, 3), 1 / 3)),
    ],
)
@pytest.mark.parametrize("labels", [[0, 0.5], [0, 9]])
def test_a_traceback_shows_three_frames_of_the_package_at_most(call, labels):
    with pytest.raises((IndexError, TypeError, ValueError)) as caught:
        call(labels)
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count(f'File "{os.path.dirname(fastloss.__file__)}') <= 3, shown
