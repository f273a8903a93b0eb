"""More than 2^31 elements: pytest -m slow tests/test_large.py (11 GiB of memory, sparse files of 8 GiB).

Inputs are broadcast (no stride between samples) or sparse files, nearly all zero, with other numbers beyond
element 2^31: an index that is cut to 32 bits would miss them, and write where the first elements are.
"""

import math

import numpy as np
import pytest

import fastloss

pytestmark = pytest.mark.slow

ROWS, CLASSES = 2**21 + 3, 1024  # for the rows kernel
MANY = ROWS * CLASSES


@pytest.fixture
def sparse(tmp_path):
    """A float32 array of zeros in a file without content."""
    with open(tmp_path / "zeros", "wb") as file:
        file.truncate(4 * MANY)
    return np.memmap(tmp_path / "zeros", np.float32, "r+")


def last_is(value, rest, last, n):
    """The first and the last entry, and the sum of all n."""
    assert value.flat[0] == pytest.approx(rest, rel=2.0**-22)
    assert value.flat[-1] == pytest.approx(last, rel=2.0**-22)
    if value.ndim == 1:
        assert value.sum(dtype=np.float64) == pytest.approx((n - 1) * rest + last, rel=2.0**-22)


def test_rows(sparse):
    """Values of samples in a file; the last has one likely class."""
    x = sparse.reshape(ROWS, CLASSES)
    x[-1, 5] = 20
    last = math.log(math.exp(20) + CLASSES - 1)
    last_is(fastloss.logsumexp(x), math.log(CLASSES), last, ROWS)
    labels = np.full(ROWS, 5, np.int16)
    made = fastloss.CrossEntropyLoss(reduction="none")
    last_is(made(x, labels), math.log(CLASSES), math.log1p((CLASSES - 1) * math.exp(-20)), ROWS)


def test_rows_gradient():
    """Broadcast logits, the gradient in fresh memory."""
    x = np.broadcast_to(np.zeros(CLASSES, np.float32), (ROWS, CLASSES))
    labels = np.zeros(ROWS, np.int16)
    labels[-1] = CLASSES - 1
    value, grad = fastloss.CrossEntropyLoss(reduction="sum").value_and_grad(x, labels)
    assert value == pytest.approx(ROWS * math.log(CLASSES), rel=1e-6)
    p = 1 / CLASSES
    assert grad[0, 0] == grad[-2, 0] == grad[-1, -1] == np.float32(p - 1)
    assert (grad[1, 1:] == p).all()
    assert (grad[-1, :-1] == p).all()
    assert np.count_nonzero(grad < 0) == ROWS


def test_lanes():
    """Few classes, 5 * 2^29 elements, all the same sample."""
    n = 2**29 + 5
    x = np.broadcast_to(np.zeros(5, np.float32), (n, 5))
    labels = np.zeros(n, np.uint8)
    labels[-1] = 4
    weight = np.array([1, 1, 1, 1, 3.0])
    assert fastloss.cross_entropy(x, labels, weight, reduction="sum") == pytest.approx((n + 2) * math.log(5))
    value = fastloss.CrossEntropyLoss(weight, reduction="none")(x, labels)
    last_is(value, math.log(5), 3 * math.log(5), n)


def test_lanes_gradient():
    n = 2**28 + 5
    x = np.broadcast_to(np.zeros(8, np.float32), (n, 8))
    labels = np.zeros(n, np.uint8)
    labels[-1] = 7
    grad = fastloss.CrossEntropyLoss(reduction="sum").value_and_grad(x, labels)[1]
    assert grad[0, 0] == grad[-2, 0] == grad[-1, 7] == np.float32(1 / 8 - 1)
    assert (grad[-1, :7] == 1 / 8).all()
    assert np.count_nonzero(grad < 0) == n


def test_strided_class_axis(sparse):
    """The last class begins beyond 2^31."""
    n = MANY // 5
    x = sparse[: 5 * n].reshape(5, n)
    assert 4 * n < 2**31 < 5 * n
    x[4, -1] = 20
    last_is(fastloss.logsumexp(x, 0), math.log(5), math.log(math.exp(20) + 4), n)
    labels = np.full(n, 4, np.uint8)
    assert fastloss.nll_loss(x, labels, axis=0, reduction="sum") == -20


def test_nll_gradient():
    n = 2**30 + 3
    labels = np.zeros(n, np.uint8)
    labels[-1] = 1
    x = np.broadcast_to(np.float32(0), (n, 2))
    grad = fastloss.NLLLoss(reduction="sum").value_and_grad(x, labels)[1]
    assert grad[0].tolist() == grad[-2].tolist() == [-1, 0]
    assert grad[-1].tolist() == [0, -1]
    assert np.count_nonzero(grad) == n


def test_pointwise(sparse):
    """Neighbours of a file compared: y is x, one element on. Value and gradient."""
    sparse[-2] = 3
    x, y = sparse[:-1], sparse[1:]
    value, grad = fastloss.MSELoss(reduction="sum").value_and_grad(x, y)
    assert value == 18
    assert grad[-2:].tolist() == [-6, 6]
    assert np.count_nonzero(grad) == 2


def test_weights_of_pointwise_losses(sparse):
    """A weight for each row, one for each column, and one for all."""
    x = sparse.reshape(ROWS, CLASSES)
    x[-1, -2] = 3
    rows, columns = np.ones((ROWS, 1), np.float32), np.ones(CLASSES, np.float32)
    rows[-1], columns[-2] = 5, 7
    zeros = np.memmap(sparse.filename, np.float32, "c").reshape(x.shape)  # private: its own last row
    zeros[-1] = 0
    made = fastloss.BCEWithLogitsLoss(columns, reduction="sum", pos_weight=np.float32(2))
    small = [a[-2:] for a in (x, zeros, rows)]
    want = made(small[0], small[1], sample_weight=small[2])
    rest = (ROWS - 2) * (CLASSES + 6) * math.log(2)
    assert made(x, zeros, sample_weight=rows) == pytest.approx(rest + want, rel=1e-6)


def test_sigmoid(sparse):
    sparse[-2] = 20
    got = fastloss.sigmoid(sparse)
    assert got[-2] == pytest.approx(1 / (1 + math.exp(-20)))
    assert np.count_nonzero(got != 0.5) == 1


def test_wrong_label():
    n = 2**31 + 100
    x = np.broadcast_to(np.float32(0), (n, 2))
    labels = np.zeros(n, np.uint8)
    labels[2**31 + 50] = 7
    for name in ("cross_entropy", "nll_loss"):
        with pytest.raises(IndexError, match=rf"target\[{2**31 + 50}\] = 7 is out of range for 2 classes"):
            getattr(fastloss, name)(x, labels)


def test_wrong_probability_and_count(sparse):
    sparse[-3] = -1
    with pytest.raises(ValueError, match=rf"input\[{MANY - 3}\] = -1.0 is outside \[0, 1\]"):
        fastloss.binary_cross_entropy(sparse, sparse)
    counts = sparse.reshape(ROWS, CLASSES)
    x = np.broadcast_to(np.zeros(CLASSES, np.float32), counts.shape)
    with pytest.raises(ValueError, match=rf"target\[{ROWS - 1}, {CLASSES - 3}\] = -1.0 is negative"):
        fastloss.multinomial_nll_loss(x, counts, full=True)
