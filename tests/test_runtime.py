"""Threads, instruction sets, checking, fork, and what importing leaves alone."""

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastloss
from fastloss import _kernels, reference
from tests.support.cases import ARRAY_FUNCTIONS, REDUCED, make, run, same_bits
from tests.support.process import LARGE, answers, python

# ------------------------------------------------------------------------------------------ threads


def test_number_of_threads_can_be_set():
    before = fastloss.get_num_threads()
    try:
        fastloss.set_num_threads(3)
        assert fastloss.get_num_threads() == 3
        with fastloss.threads(2):
            assert fastloss.get_num_threads() == 2
            with fastloss.threads(1):
                assert fastloss.get_num_threads() == 1
            assert fastloss.get_num_threads() == 2
        assert fastloss.get_num_threads() == 3
        with pytest.raises(RuntimeError), fastloss.threads(5):
            raise RuntimeError
        assert fastloss.get_num_threads() == 3
    finally:
        fastloss.set_num_threads(before)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True, 10**9])
def test_wrong_number_of_threads(n):
    before = fastloss.get_num_threads()
    with pytest.raises((TypeError, ValueError), match="n"):
        fastloss.set_num_threads(n)
    with pytest.raises((TypeError, ValueError), match="n"), fastloss.threads(n):
        pass
    assert fastloss.get_num_threads() == before


def test_default_number_of_threads():
    show = "import fastloss; print(fastloss.get_num_threads())"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= int(answers(show)) <= usable
    assert int(answers(show, OMP_NUM_THREADS="1")) == 1
    if hasattr(os, "sched_setaffinity"):
        first = min(os.sched_getaffinity(0))
        pinned = f"import os; os.sched_setaffinity(0, [{first}]); {show}"
        assert int(answers(pinned)) == 1


def test_threadpoolctl_limits_are_respected():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="needs threadpoolctl")
    fastloss.softmax(np.zeros((4, 4)))
    with threadpoolctl.threadpool_limits(1):
        inside = answers(
            "import threadpoolctl, fastloss\n"
            "with threadpoolctl.threadpool_limits(1): print(fastloss.get_num_threads())"
        )
    assert inside == "1"


def test_concurrent_calls(rng):
    """Eight Python threads with shared inputs get what one gets, whatever their thread counts."""
    large = [make("cross_entropy", rng, (400, 500), np.float32) for _ in range(2)]
    large += [make("mse_loss", rng, (200_000,), np.float64)]
    wanted = [run(case) for case in large]
    start = threading.Barrier(8)

    def work(i):
        start.wait(30)
        for k in range(6):
            with fastloss.threads(1 + (i + k) % 3):
                for case, (value, grad) in zip(large, wanted, strict=True):
                    got = run(case)
                    assert got[0] == value
                    assert same_bits(got[1], grad)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8), timeout=120))


def test_threads_is_the_callers_own():
    """A with block in one Python thread does not change another's."""
    before = fastloss.get_num_threads()
    with fastloss.threads(before + 1), ThreadPoolExecutor(1) as pool:
        assert pool.submit(fastloss.get_num_threads).result(30) == before


# --------------------------------------------------------------------------------------------- fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_after_threads_were_used():
    code = LARGE + (
        "import os, sys\n"
        "for _ in range(3):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os._exit(0 if same() and fastloss.get_num_threads() == 1 else 1)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    assert same() and fastloss.get_num_threads() == 2\n"
    )
    answers("import warnings; warnings.simplefilter('ignore')\n" + code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_multiprocessing_fork():
    code = LARGE + (
        "import multiprocessing as mp\n"
        "def job(_): return same()\n"
        "with mp.get_context('fork').Pool(2) as pool:\n"
        "    assert all(pool.map_async(job, range(4)).get(40))\n"
        "assert same()\n"
    )
    answers("import warnings; warnings.simplefilter('ignore')\n" + code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_before_the_first_call():
    code = (
        "import os, numpy as np, fastloss\n"
        "child = os.fork()\n"
        "value = fastloss.mse_loss(np.ones(10**6), np.zeros(10**6))\n"
        "assert value == 1\n"
        "if child == 0: os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    answers(code)


STEPS = {
    "torch": "import torch; torch.set_num_threads(threads); torch.ones(2000, 500).softmax(1)",
    "import": "import fastloss; fastloss.set_num_threads(2)",
    "use": "assert fastloss.mse_loss(ones, zeros) == 1 and fastloss.logsumexp(square)[0] == 1 + log(1000)",
}
FORKED = """
import ctypes, os, signal, sys, warnings
import numpy as np
from math import log
warnings.simplefilter('ignore')
libc, threads = ctypes.PyDLL(None, use_errno=True), 2
ones, zeros, square = np.ones(10**6), np.zeros(10**6), np.ones((1000, 1000))
forks = [os.fork, libc.fork] + [lambda: libc.syscall(57)] * (os.uname().machine == 'x86_64')
forks += [libc._Fork] if hasattr(libc, '_Fork') else []
def children(rest):
    global threads
    for fork in forks:
        child = fork()
        if child == 0:
            try:
                signal.alarm(40)  # kills what hangs
                threads = 1       # PyTorch hangs in the child as well
                for step in rest: exec(step, globals())
                exec(steps['use'], globals())
                os._exit(0 if fastloss.get_num_threads() == 1 else 2)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0, (forks.index(fork), rest)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("order", ["torch import use", "import torch use", "import use torch", "import use"])
def test_fork_at_any_time(order):
    """From Python and from C, before and after each of the others: right on one thread."""
    if "torch" in order:
        pytest.importorskip("torch", reason="needs torch")
    steps = [STEPS[name] for name in order.split()]
    code = FORKED + f"steps = {STEPS!r}\n"
    for i in range(len(steps) + 1):
        code += f"children({steps[i:]!r})\n" + "".join(f"{step}\n" for step in steps[i : i + 1])
    answers(code + "assert fastloss.get_num_threads() == 2", timeout=200, OMP_NUM_THREADS="2")


CHILD = """
import numpy as np
def child(_):
    import fastloss  # for the first time
    ones = np.ones(10**6, np.float32)
    value = fastloss.cross_entropy(ones[:, None], 0 * ones.astype(int))
    return fastloss.mse_loss(ones, 0 * ones), fastloss.get_num_threads(), value
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_pools_of_a_parent_that_used_openmp():
    """multiprocessing's pool and a DataLoader's workers import fastloss after PyTorch was used."""
    pytest.importorskip("torch", reason="needs torch")
    code = CHILD + (
        "import multiprocessing, sys, torch\n"
        "torch.set_num_threads(2)\n"
        "torch.ones(2000, 500).softmax(1)\n"
        "class Data(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 4\n"
        "    def __getitem__(self, i):\n"
        "        import fastloss.torch\n"
        "        x = torch.ones(1000, 100)\n"
        "        return [*child(i), float(fastloss.torch.cross_entropy(x, torch.zeros(1000, dtype=int)))]\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    assert pool.map_async(child, range(4)).get(40) == [(1, 1, 0)] * 4\n"
        "for batch in torch.utils.data.DataLoader(Data(), num_workers=2, batch_size=None, timeout=40):\n"
        "    assert batch[:3] == [1, 1, 0] and abs(batch[3] - np.log(100)) < 1e-6, batch\n"
        "assert 'fastloss' not in sys.modules\n"
    )
    answers(code, OMP_NUM_THREADS="2")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_children_that_run_another_program_keep_their_threads(tmp_path):
    """Of spawn and forkserver, and what a forked child executes."""
    if fastloss.get_num_threads() == 1:
        pytest.skip("this machine has one CPU")
    (tmp_path / "work.py").write_text(CHILD)
    code = (
        "import multiprocessing, os, subprocess, sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import work\n"
        "here = work.child(0)\n"
        "assert here[1] > 1\n"
        "for method in ('spawn', 'forkserver'):\n"
        "    with multiprocessing.get_context(method).Pool(1) as pool:\n"
        "        assert pool.map_async(work.child, range(2)).get(40) == [here] * 2, method\n"
        "show = 'import fastloss; print(fastloss.get_num_threads())'\n"
        "assert int(subprocess.check_output([sys.executable, '-c', show])) == here[1]\n"
        "if os.fork() == 0: os.execv(sys.executable, [sys.executable, '-c', show])\n"
        "assert os.wait()[1] == 0\n"
    )
    assert int(answers("import warnings; warnings.simplefilter('ignore')\n" + code)) > 1


# --------------------------------------------------------------------------------- instruction sets


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


# ----------------------------------------------------------------------------------------- checking


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_checking_passes_what_is_right(dtype, rng, isa):
    with fastloss.checking():
        for variant, reduction in REDUCED:
            for shape in [(5, 4), (3, 70), (0, 3)]:
                case = make(variant, rng, shape, np.float32 if dtype == np.float16 else dtype)
                case.input = case.input.astype(dtype)
                wanted = refer_float(case, reduction)
                value, _ = run(case, reduction, sample_weight=np.ones(case.value_shape, dtype))
                assert isinstance(value, float) == isinstance(wanted, float)
                run(case, reduction, grad_output=-2)
        x = rng.random((4, 70)).astype(dtype)
        for function in ARRAY_FUNCTIONS:
            getattr(fastloss, function)(x)


def refer_float(case, reduction):
    function = getattr(fastloss, case.name)
    return function(case.input, case.target, **case.options, reduction=reduction)


def test_checking_passes_the_edges(isa):
    inf, nan = math.inf, math.nan
    x = np.array([[nan, 1, 2], [inf, 1, 2], [-inf] * 3, [-inf, 1, 2], [90, 0, 0], [1e30, 0, -1e30]])
    with fastloss.checking():
        for dtype in (np.float32, np.float64):
            for reduction in ("none", "mean"):
                made = fastloss.CrossEntropyLoss(reduction=reduction)
                made.value_and_grad(x.astype(dtype), [0, 1, 0, 0, -100, 0])
            for function in ("softmax", "log_softmax", "logsumexp", "entropy_from_logits"):
                getattr(fastloss, function)(x.astype(dtype))
            fastloss.BCEWithLogitsLoss(reduction="none").value_and_grad(x.astype(dtype), x > 0)
            fastloss.BCELoss().value_and_grad(np.array([0, 1, nan, 0.5], dtype), [0, 0, 1, 1])


@pytest.mark.parametrize("function", ARRAY_FUNCTIONS)
def test_checking_finds_a_wrong_array(function, rng, monkeypatch):
    true = getattr(reference, function)

    def wrong(*arguments, **keywords):
        result = true(*arguments, **keywords)
        result[..., 1] *= 1 + 2.0**-10
        return result

    monkeypatch.setattr(reference, function, wrong)
    x = rng.random((3, 4, 5)).astype(np.float32)
    getattr(fastloss, function)(x)
    with fastloss.checking(), pytest.raises(fastloss.CheckError, match=function) as caught:
        getattr(fastloss, function)(x)
    assert "ulp" in str(caught.value)
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize("part", ["value", "gradient"])
@pytest.mark.parametrize(("variant", "reduction"), REDUCED)
def test_checking_finds_a_wrong_loss(variant, reduction, part, rng, monkeypatch):
    case = make(variant, rng, (4, 5), np.float32)
    true = getattr(reference, case.name)

    def wrong(*arguments, **keywords):
        value, grad = true(*arguments, **keywords)
        if part == "value":
            return value * (1 + 2.0**-10), grad
        grad = np.where(grad == grad.flat[np.abs(grad).argmax()], grad * (1 + 2.0**-10), grad)
        return value, grad

    run(case, reduction)
    monkeypatch.setattr(reference, case.name, wrong)
    with fastloss.checking(), pytest.raises(fastloss.CheckError) as caught:
        run(case, reduction)
    assert "ulp" in str(caught.value)
    run(case, reduction)  # outside: not checked


def test_checking_knows_what_float32_can(isa):
    """Counts on classes whose probability vanishes, and targets that are nearly of one class."""
    with fastloss.checking():
        for dtype in (np.float32, np.float64):
            x = np.array([[88.5, -104.0, 1e30], [9984.0, -744.0, 0.001]], dtype)
            for counts in ([[17, 1, 17], [1, 0, 1]], [[1, 1, 1], [0, 3, 17]]):
                fastloss.MultinomialNLLLoss(full=True).value_and_grad(x, counts)
            nearly = np.array([[1.0, 1e-9, 0.0], [0.7, 0.25, 1e-9]])
            fastloss.CrossEntropyLoss(label_smoothing=1e-9).value_and_grad(x, nearly)


def test_checking_an_in_place_gradient(rng):
    case = make("cross_entropy", rng, (4, 5))
    with fastloss.checking():
        run(case, grad_out=case.input)


def test_fastloss_check_turns_checking_on():
    code = (
        "import numpy as np, fastloss\n"
        "from fastloss import reference\n"
        "fastloss.softmax([1.0, 2.0])\n"
        "reference.softmax = lambda x, axis=-1: np.array([0.5, 0.5])\n"
        "try: fastloss.softmax([1.0, 2.0])\n"
        "except fastloss.CheckError: print('found')\n"
        "else: print('missed')\n"
    )
    assert answers(code, FASTLOSS_CHECK="1") == "found"
    assert answers(code, FASTLOSS_CHECK="0") == "missed"


# ------------------------------------------------------------------------------------- global state


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


def test_no_memory_is_a_memory_error():
    """A gradient that cannot be allocated loses nothing."""
    x = np.broadcast_to(np.float64(1), (2**31, 2**20))
    with pytest.raises((MemoryError, ValueError)):
        fastloss.softmax(x)
    assert fastloss.cross_entropy([0.0, 0.0], 0) == pytest.approx(math.log(2))
