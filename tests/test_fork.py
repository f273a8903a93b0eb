"""Forked children, pools of processes, and OpenMP in them."""

import itertools
import os

import pytest

import fastloss
from tests.support.process import LARGE, answers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
QUIET = "import warnings; warnings.simplefilter('ignore')\n"


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
    answers(QUIET + code)


def test_multiprocessing_fork():
    code = LARGE + (
        "import multiprocessing as mp\n"
        "def job(_): return same()\n"
        "with mp.get_context('fork').Pool(2) as pool:\n"
        "    assert all(pool.map_async(job, range(4)).get(40))\n"
        "assert same()\n"
    )
    answers(QUIET + code)


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


def test_threads_that_are_set_in_a_child_have_no_effect():
    """It says so, unless it is one thread that is asked for."""
    code = (
        "import os, warnings, fastloss\n"
        "if os.fork() == 0:\n"
        "    with warnings.catch_warnings(record=True) as seen:\n"
        "        warnings.simplefilter('always')\n"
        "        fastloss.set_num_threads(1)\n"
        "        fastloss.set_num_threads(4)\n"
        "    told = [w.category is RuntimeWarning and 'one thread' in str(w.message) for w in seen]\n"
        "    os._exit(0 if told == [True] and fastloss.get_num_threads() == 1 else 1)\n"
        "assert os.wait()[1] == 0\n"
        "warnings.simplefilter('error')\n"
        "fastloss.set_num_threads(4)\n"
    )
    answers(QUIET + code)


CHILD = """
import numpy as np
def child(_):
    import fastloss  # for the first time
    ones = np.ones(10**6, np.float32)
    value = fastloss.cross_entropy(ones[:, None], 0 * ones.astype(int))
    return fastloss.mse_loss(ones, 0 * ones), fastloss.get_num_threads(), value
"""


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
    assert int(answers(QUIET + code)) > 1


ORDERS = list(itertools.permutations(["torch", "sklearn", "fastloss"]))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_fork_beside_other_users_of_openmp(order):
    """In every order of import: fork in a loop, pools by fork and forkserver, and threadpoolctl's limit."""
    for name in order:
        pytest.importorskip(name, reason=f"needs {name}")
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="needs threadpoolctl")
    assert threadpoolctl
    warm = {
        "torch": "import torch; torch.set_num_threads(2); torch.randn(2000, 500).softmax(1)",
        "sklearn": "import sklearn._loss, numpy as np\n"
        "sklearn._loss.HalfBinomialLoss()(y_true=np.ones(10**6), raw_prediction=np.ones(10**6), n_threads=2)",
        "fastloss": LARGE,
    }
    code = QUIET + "\n".join(warm[name] for name in order)
    code += """
import multiprocessing, os, threadpoolctl
for i in range(6):
    assert same()
    child = os.fork()
    if child == 0:
        os._exit(0 if same() and fastloss.get_num_threads() == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
wanted = fastloss.logsumexp(x)
for method in ('fork', 'forkserver'):
    with multiprocessing.get_context(method).Pool(2) as pool:
        for got in pool.map_async(fastloss.logsumexp, [x] * 4).get(60):
            assert np.array_equal(got, wanted)
fastloss._runtime._process_threads = None
with threadpoolctl.threadpool_limits(1):
    assert fastloss.get_num_threads() == 1
    assert same()
"""
    answers(code, timeout=150)
