"""Instruction sets, the configuration, and what importing and calling leave alone."""

import os
import sys

import numpy as np
import pytest

import fastloss
from fastloss import _kernels
from tests.support.process import answers, python

# -------------------------------------------------------------------------------- instruction sets


@pytest.mark.parametrize("name", _kernels.available)
def test_fastloss_isa_forces_the_kernels(name):
    shown = answers("import fastloss; fastloss.show_config()", FASTLOSS_ISA=name)
    assert name in shown
    active = "from fastloss import _kernels; import fastloss; print(_kernels.active)"
    assert answers(active, FASTLOSS_ISA=name) == name


def test_the_best_kernels_are_the_default():
    active = "import fastloss; print(fastloss._kernels.active)"
    best = [name for name in ("base", "avx2", "avx512") if name in _kernels.available][-1]
    environment = {"FASTLOSS_ISA": ""} if "FASTLOSS_ISA" in os.environ else {}
    assert answers(active, **environment) == best


def test_an_unknown_instruction_set_is_an_import_error():
    done = python("import fastloss", FASTLOSS_ISA="mmx")
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert "FASTLOSS_ISA" in done.stderr
    assert "mmx" in done.stderr


def test_an_unavailable_instruction_set_is_an_import_error():
    missing = {"base", "avx2", "avx512"} - set(_kernels.available)
    if not missing:
        pytest.skip("this machine has every instruction set")
    done = python("import fastloss", FASTLOSS_ISA=missing.pop())
    assert "ImportError" in done.stderr


def test_show_config(capsys):
    assert fastloss.show_config() is None
    shown = capsys.readouterr().out
    assert fastloss.__version__ in shown
    assert _kernels.active in shown
    assert np.__version__ in shown
    assert "thread" in shown
    compiler = next(line for line in shown.splitlines() if line.startswith("compiler"))
    assert compiler.split()[1][0].isalpha()  # its name, before its version


# ------------------------------------------------------------------------------------ global state


def test_importing_and_calling_leave_global_state_alone():
    """Warnings, errstate, signal handlers, the rounding mode and subnormal numbers."""
    code = """
import signal, sys, threading, warnings
import numpy as np
def state():
    tiny = np.array([5e-324])
    return (warnings.filters[:], np.geterr(), np.geterrcall(), signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGFPE), (tiny * np.ones(1)).tolist(),
            (np.array([1.0]) + 2.0**-53).tolist(), (np.float32(1e-45) * 1).item(),
            sys.getswitchinterval(), threading.active_count())
before = state()
import fastloss
assert state() == before
x = np.full((500, 300), np.inf)
x[::2] = 1e30
with warnings.catch_warnings():
    warnings.simplefilter('error')
    fastloss.CrossEntropyLoss().value_and_grad(x, np.zeros(500, int))
    fastloss.sigmoid(np.array([np.nan, 1e300, -1e300, 5e-324]))
    fastloss.softmax(np.array([60000.0, -60000.0], np.float16))
    with np.errstate(all='raise'):
        fastloss.cross_entropy([1e308, -1e308], 1)
        fastloss.BCELoss().value_and_grad([0.0, 1.0], [1, 0])
assert state() == before
"""
    answers(code)


def test_importing_is_quiet():
    assert answers("import fastloss") == ""


@pytest.mark.skipif(
    not _kernels.supported[1:] or sys.platform == "win32", reason="reads the control words by libm of x86-64"
)
def test_floating_point_control_words():
    """x87 and SSE: rounding, precision, flush-to-zero, masks; after import and calls, in each thread."""
    code = """
import ctypes, ctypes.util, threading
libm = ctypes.CDLL(ctypes.util.find_library('m'))
def words():
    state = (ctypes.c_uint32 * 8)()
    assert libm.fegetenv(state) == 0
    return state[0] & 0xffff, state[7] & ~0x3f  # without the flags of past operations
import numpy as np
before = words()
assert before[1] == 0x1f80, hex(before[1])
import fastloss
from fastloss import _kernels
seen = [words()]
def work():
    for isa in _kernels.available:
        _kernels.use(isa)
        for dtype in (np.float32, np.float64, np.float16):
            x = np.full((500, 300), np.inf, dtype)
            x[::2], x[::3] = 1e4, np.finfo(dtype).smallest_subnormal
            fastloss.CrossEntropyLoss().value_and_grad(x, np.zeros(500, int))
            fastloss.MultinomialNLLLoss(full=True).value_and_grad(x, np.ones_like(x))
            fastloss.BCEWithLogitsLoss().value_and_grad(x, np.ones_like(x))
            fastloss.sigmoid(x)
            seen.append(words())
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert set(seen) == {before}, seen
"""
    answers(code)


def test_other_libraries_keep_their_threads():
    torch = pytest.importorskip("torch", reason="needs torch")
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="needs threadpoolctl")
    assert torch
    assert threadpoolctl
    code = """
import numpy as np, threadpoolctl, torch
def counts():
    pools = {pool['filepath']: pool['num_threads'] for pool in threadpoolctl.threadpool_info()}
    return torch.get_num_threads(), torch.get_num_interop_threads(), pools
before = counts()
import fastloss
def check():
    now = counts()
    assert now[:2] == before[:2] and before[2].items() <= now[2].items(), (before, now)
check()
x = np.ones((2000, 300))
for n in (1, 2, 5):
    fastloss.set_num_threads(n)
    with fastloss.threads(n + 1):
        fastloss.softmax(x)
        check()
check()
"""
    answers(code)
