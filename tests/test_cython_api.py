"""What compiled callers reach: the bits of the Python functions, by address and from an extension."""

import ctypes
import importlib.util
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastloss
from fastloss import _kernels, cython_api

SUPPORT = Path(__file__).parent / "support"
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SHAPES = [(0, 3), (1, 1), (3, 2), (70, 10), (5, 127), (4, 128), (65, 1000), (2, 5000), (40_000, 3)]
SIZE, POINTER, REAL = ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_double
ARGUMENTS = {
    "cross_entropy": [SIZE, SIZE, POINTER, SIZE, POINTER, ctypes.c_int64, REAL, POINTER, POINTER, POINTER],
    "binary_cross_entropy_with_logits": [SIZE, POINTER, POINTER, REAL, POINTER, POINTER, POINTER],
    "sigmoid": [SIZE, POINTER, POINTER],
    "logsigmoid": [SIZE, POINTER, POINTER],
} | {name: [SIZE, SIZE, POINTER, SIZE, POINTER] for name in ("logsumexp", "softmax", "log_softmax")}


def called(name, *arguments):
    """Call a function by its address, of the type of the first array."""
    kind = next(a.dtype for a in arguments if isinstance(a, np.ndarray))
    address = cython_api.address(f"{name}_{'float' if kind == np.float32 else 'double'}")
    pointers = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
    return ctypes.CFUNCTYPE(SIZE, *ARGUMENTS[name])(address)(*pointers)


def same(a, b):
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_names():
    types = {f"{name}_{kind}" for name in ARGUMENTS for kind in ("float", "double")}
    assert set(cython_api.names()) == types
    assert len({cython_api.address(name) for name in types}) == len(types)
    with pytest.raises(ValueError, match=r"softmax_half.*wanted one of .*softmax_float"):
        cython_api.address("softmax_half")


@FLOATS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stride", [0, 3])
def test_rows_have_the_bits_of_python(isa, rng, dtype, shape, stride):
    rows, classes = shape
    memory = (30 * rng.standard_normal((rows, classes + stride))).astype(dtype)
    x = memory[:, :classes]
    for name in ("logsumexp", "softmax", "log_softmax"):
        expected = np.asarray(getattr(fastloss, name)(x))
        out = np.full(expected.shape, np.nan, dtype)
        assert called(name, rows, classes, memory, classes + stride, out) == 0
        assert same(out, expected), name
    if not stride:
        softmax = fastloss.softmax(x)
        assert called("softmax", rows, classes, memory, classes, memory) == 0  # in place
        assert same(memory, softmax)


@FLOATS
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_has_the_bits_of_python(isa, rng, dtype, shape):
    rows, classes = shape
    x = (5 * rng.standard_normal(shape)).astype(dtype)
    labels = rng.integers(0, classes, rows)
    labels[::7] = -1
    loss = fastloss.CrossEntropyLoss(ignore_index=-1, reduction="none")
    values, grads = loss.value_and_grad(x, labels, grad_output=0.25)
    total = np.full(1, np.nan)
    value, grad = np.empty(rows, dtype), np.empty(shape, dtype)
    assert called("cross_entropy", rows, classes, x, classes, labels, -1, 0.25, value, grad, total) == 0
    assert np.isnan(total).all()  # which is taken where there are no values
    assert same(value, values)
    assert same(grad, grads)
    assert called("cross_entropy", rows, classes, x, classes, labels, -1, 1.0, None, None, total) == 0
    assert total[0] == fastloss.cross_entropy(x, labels, ignore_index=-1, reduction="sum")


@FLOATS
@pytest.mark.parametrize("n", [0, 1, 15, 256, 1000, 70_001])
def test_elements_have_the_bits_of_python(isa, rng, dtype, n):
    x = (20 * rng.standard_normal(n)).astype(dtype)
    y = rng.random(n).astype(dtype)
    for name in ("sigmoid", "logsigmoid"):
        out = np.empty(n, dtype)
        assert called(name, n, x, out) == 0
        assert same(out, getattr(fastloss, name)(x))
    loss = fastloss.BCEWithLogitsLoss(reduction="none")
    values, grads = loss.value_and_grad(x, y, grad_output=0.125)
    value, grad, total = np.empty(n, dtype), np.empty(n, dtype), np.full(1, np.nan)
    name = "binary_cross_entropy_with_logits"
    assert called(name, n, x, y, 0.125, value, grad, total) == 0
    assert np.isnan(total).all()
    assert same(value, values)
    assert same(grad, grads)
    assert called(name, n, x, y, 1.0, None, None, total) == 0
    assert total[0] == fastloss.binary_cross_entropy_with_logits(x, y, reduction="sum")


@FLOATS
def test_edges_stay_in_their_row(isa, dtype):
    x = np.array([[1, 2], [np.nan, 0], [np.inf, 0], [-np.inf, 0], [-np.inf, -np.inf]], dtype)
    labels = np.zeros(5, np.int64)
    value, grad = np.empty(5, dtype), np.empty((5, 2), dtype)
    assert called("cross_entropy", 5, 2, x, 2, labels, -100, 1.0, value, grad, None) == 0
    loss = fastloss.CrossEntropyLoss(reduction="none")
    np.testing.assert_array_equal((value, *grad.T), (lambda v, g: (v, *g.T))(*loss.value_and_grad(x, labels)))


@FLOATS
@pytest.mark.parametrize("wrong", [3, -1, 2**40])
def test_a_label_out_of_range_is_told_and_nothing_written(isa, dtype, wrong):
    x, labels = np.zeros((200, 3), dtype), np.zeros(200, np.int64)
    labels[[7, 150]] = wrong
    value, grad, total = np.full(200, 7, dtype), np.full((200, 3), 7, dtype), np.full(1, 7.0)
    assert called("cross_entropy", 200, 3, x, 3, labels, -100, 1.0, value, grad, total) == 8
    assert (value == 7).all()
    assert (grad == 7).all()
    assert total[0] == 7
    assert called("cross_entropy", 200, 3, x, 3, labels, wrong, 1.0, value, grad, None) == 0
    assert value[7] == 0


@pytest.mark.parametrize(("rows", "classes", "stride"), [(-1, 3, 3), (2, 0, 3), (2, 3, 2), (2, -1, 3)])
def test_sizes_that_cannot_be(rows, classes, stride):
    x, labels = np.full((4, 4), 7.0), np.zeros(4, np.int64)
    for name in ("logsumexp", "softmax", "log_softmax"):
        assert called(name, rows, classes, x, stride, x) == -1
    assert called("cross_entropy", rows, classes, x, stride, labels, -100, 1.0, x, x, None) == -1
    for name in ("sigmoid", "logsigmoid"):
        assert called(name, -1, x, x) == -1
    assert called("binary_cross_entropy_with_logits", -1, x, x, 1.0, x, x, None) == -1
    assert (x == 7).all()


def test_threads_may_call_at_once(rng):
    x = rng.standard_normal((500, 300))
    expected, outs = fastloss.softmax(x), [np.empty_like(x) for _ in range(8)]
    calls = [threading.Thread(target=called, args=("softmax", 500, 300, x, 300, out)) for out in outs]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert all(same(out, expected) for out in outs)


def test_the_declarations_are_installed():
    folder = Path(fastloss.__file__).parent
    assert (folder / "cython_api.pxd").is_file()
    assert (folder / "cython_api.pyi").is_file()


def test_importing_fastloss_leaves_it_out():
    names = "'jax', 'fastloss.jax', 'fastloss._xla', 'fastloss.cython_api'"
    program = f"import fastloss, sys; print([name for name in ({names}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    """tests/support/caller.pyx, built as a user's extension is."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("caller")
    (folder / "caller.pyx").write_text((SUPPORT / "caller.pyx").read_text())
    (folder / "setup.py").write_text(
        "from Cython.Build import cythonize\nfrom setuptools import Extension, setup\n"
        "setup(name='caller', ext_modules=cythonize(\n"
        "    [Extension('caller', ['caller.pyx'], extra_compile_args=['-O0'])], language_level=3))\n"
    )
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    environment = {**os.environ, "PYTHONPATH": str(Path(fastloss.__file__).parents[1])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode and re.search("No such file or directory: |Microsoft .* is required", done.stderr):
        pytest.skip("no C compiler")
    assert not done.returncode, done.stderr
    [path] = [path for path in folder.glob("caller.*") if path.suffix in (".so", ".pyd")]
    spec = importlib.util.spec_from_file_location("caller", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_extension_that_cimports(extension, isa, rng):
    x, labels = rng.standard_normal((33, 7)), rng.integers(0, 7, 33)
    grad = np.empty_like(x)
    status, value = extension.mean_cross_entropy(x, labels, grad)
    expected, expected_grad = fastloss.CrossEntropyLoss().value_and_grad(x, labels)
    assert status == 0
    assert value == expected
    assert same(grad, expected_grad)
    labels[5] = 7
    assert extension.mean_cross_entropy(x, labels, grad)[0] == 6


def test_every_declaration_links(extension):
    x, out, labels = np.zeros(1), np.zeros(1), np.zeros(1, np.int64)
    addresses = [array.ctypes.data for array in (x, labels, x, out)]
    assert extension.all_of_them(*addresses) == 0


def test_the_instruction_set_in_use_is_reached(isa, monkeypatch):
    """After `use` the losses in the table, its last line, are those of that instruction set."""
    table = (ctypes.c_void_p * 5).from_address(_kernels.CALLERS)
    before = list(table)
    for other in set(_kernels.available) - {isa}:
        _kernels.use(other)
        assert table[4] != before[4]
    _kernels.use(isa)
    assert list(table) == before
