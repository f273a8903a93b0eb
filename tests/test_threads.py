"""Threads, their number and stacks, memory and signals: what a call does to those around it."""

import gc
import itertools
import os
import signal
import sys
import threading
import time
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastloss
from fastloss import _runtime
from tests.support.cases import make, run, same_bits
from tests.support.process import LARGE, answers

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


# ----------------------------------------------------------------------------------------- threads


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
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert 1 <= int(answers(show)) <= usable
    assert int(answers(show, OMP_NUM_THREADS="1")) == 1
    assert int(answers(show, OMP_THREAD_LIMIT="1")) == 1
    assert int(answers(show, OMP_THREAD_LIMIT="some")) == int(answers(show))  # which OpenMP leaves out too
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


def test_everything_from_eight_threads(rng):
    """All ways of a call, those that fail too, at once with shared losses and inputs: as each alone."""
    x, labels = rng.standard_normal((6, 70)), rng.integers(0, 3, 6)
    x[:, 0], labels[0] = 0.5, 0
    wanted = [repr(call()) for call in error_paths(x, labels)[0]]
    start = threading.Barrier(8)

    def work(_):
        fine, failing = error_paths(x, labels)  # whose results are written to by this thread alone
        start.wait(30)
        for _ in range(20):
            call_all([], failing, 1)
            assert [repr(call()) for call in fine] == wanted

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8), timeout=120))


def test_a_list_that_another_thread_changes():
    """It is read as it was at some moment, or refused, as NumPy does; never after it has been freed."""
    numbers, done = [[0.5, 1.5]], threading.Event()

    def change():
        while not done.is_set():
            numbers[0] = [0.5, 1.5]
            numbers.append([0.5, 1.5])
            numbers.pop()

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(3000):
            try:
                answer = fastloss.logsumexp(numbers, axis=1)
            except (RuntimeError, TypeError, ValueError):
                continue
            assert np.all(answer == fastloss.logsumexp([0.5, 1.5]))
    finally:
        done.set()
        changing.join(30)


def test_the_gil_is_as_it_was():
    code = "import sys; enabled = getattr(sys, '_is_gil_enabled', bool); before = enabled()\n"
    assert answers(code + "import fastloss, fastloss.cython_api; print(enabled() == before)") == "True"


def test_threads_is_the_callers_own():
    """A with block in one Python thread does not change another's."""
    before = fastloss.get_num_threads()
    with fastloss.threads(before + 1), ThreadPoolExecutor(1) as pool:
        assert pool.submit(fastloss.get_num_threads).result(30) == before


CGROUPS = {
    "none": ({}, None),
    "version 2": ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 2),
    "unlimited": ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/cpu.max": "max 100000\n"}, None),
    "of the parent": (
        {
            "/proc/self/cgroup": "0::/a/b\n",
            "/sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
            "/sys/fs/cgroup/a/cpu.max": "300000 100000\n",
        },
        3,
    ),
    "less than one": ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "1000 100000\n"}, 1),
    "version 1": (
        {
            "/proc/self/cgroup": "4:cpu:/a\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        4,
    ),
    "nonsense": ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/cpu.max": "\n"}, None),
}


@pytest.mark.parametrize(("files", "cpus"), CGROUPS.values(), ids=CGROUPS)
def test_quota_of_the_control_group(files, cpus, monkeypatch):
    def read(path):
        if path.as_posix() not in files:
            raise FileNotFoundError(path)
        return files[path.as_posix()]

    monkeypatch.setattr(Path, "read_text", read)
    assert _runtime._cgroup_cpus.__wrapped__() == (sys.maxsize if cpus is None else cpus)


def test_the_number_of_threads_changes_during_calls(rng):
    case = make("cross_entropy", rng, (400, 500), np.float32)
    wanted = run(case)
    before, done = fastloss.get_num_threads(), threading.Event()

    def change():
        for n in itertools.cycle([1, 3, 2, 8, 4096]):
            fastloss.set_num_threads(n)
            if done.is_set():
                break

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(50):
            value, grad = run(case)
            assert value == wanted[0]
            assert same_bits(grad, wanted[1])
    finally:
        done.set()
        changing.join(30)
        fastloss.set_num_threads(before)


def test_kernels_run_beside_each_other():
    """The GIL is released: another thread sees a call that has begun and not ended."""
    x, labels = np.broadcast_to(np.zeros(1000, np.float32), (500_000, 1000)), np.zeros(500_000, np.int8)
    state = []

    def call():
        state.append("begun")
        with fastloss.threads(1):
            fastloss.cross_entropy(x, labels)
        state.append("ended")

    calling = threading.Thread(target=call)
    calling.start()
    while "begun" not in state:
        time.sleep(0)
    seen = 0
    while "ended" not in state:
        seen += 1
        time.sleep(0)
    calling.join(30)
    assert seen > 10  # with the GIL once in 5 ms, hence a few times before and after the kernels


def test_calls_at_exit():
    """From atexit, and from daemon threads that are still calling when the interpreter ends."""
    code = LARGE + (
        "import atexit, threading, time\n"
        "atexit.register(lambda: print(same(), fastloss.mse_loss([1.0], [0.0])))\n"
        "def always():\n"
        "    while True:\n"
        "        work()\n"
        "        fastloss.softmax(x[:2])\n"
        "for _ in range(3): threading.Thread(target=always, daemon=True).start()\n"
        "time.sleep(0.2)\n"
    )
    for _ in range(3):
        assert answers(code) == "True 1.0"


# ------------------------------------------------------------------------------------------ memory


@on_linux
def test_no_memory_loses_nothing():
    """Under a limit on the address space: MemoryError where an array cannot be had, then all as before."""
    code = (
        LARGE
        + """
import resource
rows = 400_000
logits = np.broadcast_to(np.zeros((1, 300), np.float32), (rows, 300))      # 480 MB, were it written out
labels, soft = np.zeros(rows, np.int8), np.broadcast_to(np.float32(1 / 300), (rows, 300))
loss, none = fastloss.CrossEntropyLoss(), fastloss.CrossEntropyLoss(reduction='none')
size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 200 * 2**20,) * 2)
calls = [
    lambda: fastloss.softmax(logits), lambda: fastloss.log_softmax(logits), lambda: fastloss.sigmoid(logits),
    lambda: loss.value_and_grad(logits, labels), lambda: none.value_and_grad(logits, labels),
    lambda: loss(logits, soft), lambda: loss(logits[:, ::-1], labels),
    lambda: fastloss.NLLLoss().value_and_grad(logits, labels), lambda: fastloss.mse_loss(logits, soft),
]
for call in calls * 3:
    try: call()
    except MemoryError: pass
    else: raise AssertionError('there was memory')
assert same()
assert abs(loss(logits, labels) - np.log(300)) < 1e-6
print('same')
"""
    )
    assert answers(code, OMP_NUM_THREADS="2") == "same"


SHARED = fastloss.CrossEntropyLoss(), fastloss.CrossEntropyLoss(reduction="none")


def error_paths(x, labels):
    """Calls that succeed in each way, and calls that fail at each stage."""
    loss, none = SHARED
    wrong = np.where(labels == 0, 99, labels)
    out, grad_out = np.zeros(len(x), x.dtype), np.zeros_like(x)
    ones = np.ones_like(x)  # once: NumPy 2.4 loses a reference to the default dtype each time
    fine = [
        lambda: loss(x, labels),
        lambda: loss.value_and_grad(x, labels),
        lambda: none.value_and_grad(x, labels, out=out, grad_out=grad_out, sample_weight=[1.0]),
        lambda: loss(x.astype(np.float16), labels.astype(np.int8)),
        lambda: fastloss.CrossEntropyLoss(ones[0], label_smoothing=0.1).value_and_grad(x[::-1], labels),
        lambda: fastloss.cross_entropy(x, fastloss.softmax(x)),
        lambda: fastloss.MultinomialNLLLoss(full=True)(x, ones),
        lambda: fastloss.NLLLoss().value_and_grad(x, labels),
        lambda: fastloss.BCEWithLogitsLoss(x[0], pos_weight=x[0]).value_and_grad(x, ones, grad_output=2),
        lambda: fastloss.KLDivLoss(log_target=True).value_and_grad(-ones, -ones),
        lambda: fastloss.KLDivLoss(unchecked=True).value_and_grad(x, ones),
        lambda: fastloss.logsumexp(x, keepdims=True),
        lambda: fastloss.sigmoid(x.tolist()),
        lambda: fastloss.entropy(grad_out),
        lambda: fastloss.get_num_threads(),
    ]
    failing = [
        lambda: loss(x, wrong),
        lambda: loss(None, labels),
        lambda: loss([[1.0], [1.0, 2.0]], labels),
        lambda: loss(x.astype(complex), labels),
        lambda: loss(x, labels[:-1]),
        lambda: loss.value_and_grad(x, labels, grad_out=x[:-1]),
        lambda: loss.value_and_grad(x, labels, grad_out=x[::-1]),
        lambda: none(x, labels, out=np.broadcast_to(x[0, 0], len(x))),
        lambda: loss(x, labels, sample_weight=ones[0]),
        lambda: fastloss.cross_entropy(x, labels, reduction="avg"),
        lambda: fastloss.cross_entropy(x, labels, axis=9),
        lambda: fastloss.BCELoss()(x - 99, grad_out),
        lambda: fastloss.BCEWithLogitsLoss()(x, ones + 1),
        lambda: fastloss.cross_entropy(x, ones),
        lambda: fastloss.kl_div(-ones, ones),
        lambda: fastloss.BCELoss(reduction="none")(x - 99, grad_out, out=grad_out.copy()),
        lambda: fastloss.MultinomialNLLLoss(full=True)(x, grad_out - 1),
        lambda: fastloss.softmax(x, out=x),
        lambda: fastloss.softmax(np.broadcast_to(np.int8(1), (2**62,))),
        lambda: fastloss.set_num_threads(0),
    ]
    return fine, failing


def call_all(fine, failing, times):
    """Make each call so often; returns how many calls that was."""
    for call in fine:
        for _ in range(times):
            call()
    for call in failing:
        for _ in range(times):
            try:
                call()
            except (IndexError, MemoryError, TypeError, ValueError):
                continue
            raise AssertionError
    return times * len(fine + failing)


@pytest.mark.parametrize("times", [300, pytest.param(33_000, marks=pytest.mark.slow)])
def test_nothing_leaks(times, rng, isa):
    """Not an object, not a reference, not memory that Python does not know of; a million calls when slow."""
    x, labels = rng.standard_normal((6, 70)), rng.integers(0, 3, 6)
    x[:, 0], labels[0] = 0.5, 0
    paths = error_paths(x, labels)
    watched = x, labels, np.dtype(x.dtype), np.dtype(labels.dtype), fastloss.CrossEntropyLoss
    call_all(*paths, 20)
    gc.collect()
    references = [sys.getrefcount(a) for a in watched]
    tracemalloc.start()
    try:
        call_all(*paths, 10)
        before, resident = traced_bytes(), resident_bytes()
        call_all(*paths, times)
        grown = traced_bytes() - before
    finally:
        tracemalloc.stop()
    assert references == [sys.getrefcount(a) for a in watched]
    assert grown < 4096 + 16 * times  # less than an object a call: each path is called so often
    assert resident_bytes() - resident < 2**20 + 16 * times


def traced_bytes():
    """Without garbage, and without Python's cache of attributes, where NumPy's fresh names of dtypes stay.

    Free-threaded Python gives each of them another address, and fills more of its cache, up to tens of KiB.
    """
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        sys._clear_type_cache()
    return tracemalloc.get_traced_memory()[0]


def resident_bytes():
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -------------------------------------------------------------------------------------- neighbours


def test_the_spin_count_is_set_for_the_runtime_alone():
    """After the import GOMP_SPINCOUNT is as it was, here and for children; the user's own stays."""
    code = "import os; before = dict(os.environ)\nimport fastloss\nassert dict(os.environ) == before\n"
    code += "import subprocess, sys\n"
    code += "child = subprocess.check_output([sys.executable, '-c', 'import os; print(list(os.environ))'])\n"
    code += "print(child.decode().count('GOMP_SPINCOUNT'))"
    assert answers(code) == "0"
    assert answers(code, GOMP_SPINCOUNT="7") == "1"
    assert answers(code, OMP_WAIT_POLICY="active") == "0"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
@pytest.mark.parametrize("first", ["numpy", "sklearn._loss", "torch"])
def test_calls_stop_to_share_what_goes_faster_alone(first):
    """On one processor, where OpenMP's other thread can only be late: no more processor time than alone."""
    pytest.importorskip(first, reason=f"needs {first}")
    code = f"import {first}, os, sys, time\n" + (
        "import numpy as np, fastloss\n"
        "from fastloss import _kernels\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the runtime counts with more\n"
        "x, out, kernels = np.ones(200_000), np.empty(200_000), _kernels.module\n"
        "def spent(threads):\n"
        "    begun = time.process_time()\n"
        "    for _ in range(1000):\n"
        "        kernels.point_pass(_kernels.POINT_OPS['sigmoid'], x, None, threads, value=out)\n"
        "    return time.process_time() - begun\n"
        "tries = [(spent(2), spent(1)) for _ in range(3)]  # of which others may disturb some\n"
        "assert any(shared < 2 * alone + 0.2 for shared, alone in tries), tries\n"
        "print(tries)\n"
    )
    print(answers(code))


# ----------------------------------------------------------------------------------------- signals


LONG = """
import signal, sys, time, numpy as np, fastloss
zeros = np.zeros(10**9, np.float32)  # the system's page of zeros, until somebody writes
labels, row = np.zeros(10**8, np.int8), np.linspace(0, 1, 1000)
counts = np.full((60_000, 1000), np.float32(3))
planes = np.broadcast_to(row.reshape(10, 100), (10**6, 10, 100))
def rows(n, kind): return np.broadcast_to(row.astype(kind), (n, 1000))
calls = [
    lambda: fastloss.cross_entropy(rows(10**8, 'f4'), labels),
    lambda: fastloss.CrossEntropyLoss(row, label_smoothing=.1)(rows(10**7, 'f8'), labels[:10**7]),
    lambda: fastloss.cross_entropy(planes, labels.reshape(-1, 100)),
    lambda: fastloss.CrossEntropyLoss(row)(rows(10**8, 'f2'), labels),
    lambda: fastloss.entropy_from_logits(rows(10**7, 'f8')),
    lambda: fastloss.binary_cross_entropy_with_logits(zeros, zeros),
    lambda: fastloss.MultinomialNLLLoss(full=True)(rows(60_000, 'f4'), counts),
]
timer, alarm, clock = signal.ITIMER_REAL, signal.SIGALRM, time.monotonic
def timed(call, handler, after=0.1, every=0):
    signal.signal(alarm, handler)
    signal.setitimer(timer, after, every)
    try: return call()
    finally: signal.setitimer(timer, 0)
def interrupt(*_):
    global begun
    begun = clock()
    raise KeyboardInterrupt
def interrupted(call, by=KeyboardInterrupt, handler=interrupt):
    try: timed(call, handler)
    except by: return clock() - begun
    raise AssertionError('it ended')
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
@pytest.mark.parametrize("number", [1, 2])
def test_long_calls_can_be_interrupted(number):
    """By what a signal handler raises, in every pass: soon, with nothing lost, and the next call is right.

    In the process's own time: others may have the processor meanwhile.
    """
    code = LONG + (
        f"fastloss.set_num_threads({number})\n"
        "timer, alarm, clock = signal.ITIMER_PROF, signal.SIGPROF, time.process_time\n"
        "for call in calls:\n"
        "    sent = clock() + 0.1\n"
        "    interrupted(call)\n"
        "    late = begun - sent\n"
        "    print(f'{late:.2f}', file=sys.stderr)\n"
        "    assert late < 0.5, (calls.index(call), late)\n"
        "    assert fastloss.mse_loss(np.ones(10**6), np.zeros(10**6)) == 1\n"
    )
    answers(code, timeout=120)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_long_calls_under_pytorch_can_be_interrupted():
    pytest.importorskip("torch", reason="needs torch")
    code = LONG + (
        "import torch, fastloss.torch as F\n"
        "x, labels = torch.rand(1, 1000).expand(10**7, 1000), torch.zeros(10**7, dtype=int)\n"
        "for loss in (F.cross_entropy, F.nll_loss):\n"
        "    sent = time.monotonic() + 0.1\n"
        "    interrupted(lambda: [loss(x, labels) for _ in range(100)])\n"
        "    assert begun - sent < 0.5, begun - sent\n"
    )
    answers(code, timeout=120)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_signal_handlers_run_during_calls():
    """They may call fastloss, and raise what they like; in another thread's call nothing is looked at."""
    code = LONG + (
        "import threading\n"
        "seen = []\n"
        "def count(*_): seen.append(fastloss.cross_entropy(rows(2000, 'f4'), labels[:2000]))\n"
        "x = rows(3 * 10**6, 'f4')\n"
        "wanted = fastloss.cross_entropy(x, labels[:len(x)])\n"
        "assert timed(lambda: fastloss.cross_entropy(x, labels[:len(x)]), count, 0.05, 0.05) == wanted\n"
        "assert len(seen) > 1 and set(seen) == {fastloss.cross_entropy(rows(2000, 'f4'), labels[:2000])}\n"
        "class Mine(Exception): pass\n"
        "def mine(*_):\n"
        "    global begun\n"
        "    begun = time.monotonic()\n"
        "    raise Mine\n"
        "assert interrupted(calls[0], Mine, mine) < 0.5\n"
        "got = []\n"
        "thread = threading.Thread(target=lambda: got.append(fastloss.cross_entropy(x, labels[:len(x)])))\n"
        "thread.start()\n"
        "interrupted(lambda: time.sleep(20))\n"
        "thread.join()\n"
        "assert got == [wanted]\n"
    )
    answers(code, timeout=120)


@on_linux
def test_an_interrupted_call_loses_no_memory():
    code = LONG + (
        "import gc, os\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE')\n"
        "x, t = np.ones((2 * 10**5, 200), np.float32), labels[:2 * 10**5]\n"
        "def many():\n"
        "    while True: fastloss.CrossEntropyLoss(row[:200]).value_and_grad(x, t)\n"
        "def some(n):\n"
        "    for i in range(n):\n"
        "        try: timed(many, interrupt, 0.02 + 0.003 * i)\n"
        "        except KeyboardInterrupt: pass\n"
        "some(5)\n"
        "gc.collect()\n"
        "before = resident()\n"
        "some(20)\n"
        "gc.collect()\n"
        "assert resident() - before < 2**26, resident() - before\n"  # a gradient has 160 MB
    )
    answers(code, timeout=120)


# ------------------------------------------------------------------------------------------ stacks


EVERYTHING = """
import hashlib, sys, threading, numpy as np, fastloss
sys.path.insert(0, {root!r})
from tests.support.cases import ARRAY_FUNCTIONS, VARIANTS, WITH_CLASSES, loss, make
from fastloss import _kernels
losses, arrays = [], []
for dtype in (np.float32, np.float64, np.float16, 'bfloat16'):
    rng = np.random.default_rng(0)
    for shape in ((7000, 5), (300, 131), (14, 2500), (4, 140, 60)):
        for variant in VARIANTS if len(shape) < 3 else WITH_CLASSES:
            case = make(variant, rng, shape, np.float32 if dtype == 'bfloat16' else dtype)
            if dtype == 'bfloat16':
                case.input = (case.input.view(np.uint32) >> 16).astype(np.uint16).view(_kernels.BFLOAT16)
                case.options = {{k: v for k, v in case.options.items() if 'weight' not in k}}
            losses.append((loss(case.name, reduction='none', **case.options), case))
        x = rng.random(shape).astype(np.float32 if dtype == 'bfloat16' else dtype)
        arrays += [(getattr(fastloss, name), x) for name in ARRAY_FUNCTIONS]
def everything():
    bits = hashlib.sha256()
    for made, case in losses:
        for array in made.value_and_grad(case.input, case.target):
            bits.update(array.tobytes())
        loss(case.name, **case.options)(case.input, case.target)
    for function, x in arrays:
        bits.update(function(x).tobytes())
    return bits.hexdigest()
"""
EVERYTHING = EVERYTHING.format(root=str(Path(__file__).parents[1]))


def test_stacks_of_threads(isa):
    """Threads with stacks of 128 and 64 KiB get what the main thread gets, whatever the kernel."""
    code = (
        EVERYTHING
        + """
fastloss.set_num_threads(1)
wanted, got = everything(), []
for size in (2**17, 2**16):
    threading.stack_size(size)
    thread = threading.Thread(target=lambda: got.append(everything()))
    thread.start()
    thread.join()
print(got == [wanted] * 2)
"""
    )
    assert answers(code, FASTLOSS_ISA=isa) == "True"


def test_stacks_of_openmp(isa):
    """No kernel needs 64 KiB: OpenMP's threads have no more, and nothing but kernels on them."""
    code = EVERYTHING + "\nfastloss.set_num_threads(2)\nprint(everything())"
    small, usual = (answers(code, FASTLOSS_ISA=isa, **e) for e in ({"OMP_STACKSIZE": "64k"}, {}))
    assert small == usual


@on_linux
def test_threads_that_end_release_their_memory(rng):
    x, labels = rng.standard_normal((64, 100)), np.zeros(64, int)

    def some(n):
        for _ in range(n):
            thread = threading.Thread(target=fastloss.CrossEntropyLoss().value_and_grad, args=(x, labels))
            thread.start()
            thread.join(30)

    some(20)
    before = resident_bytes()
    some(300)  # of 150 KiB each
    assert resident_bytes() - before < 5 * 2**20


@on_linux
def test_no_memory_for_a_thread(isa):
    """The caller's own: MemoryError; that of an OpenMP thread: the others take its chunks."""
    code = (
        LARGE
        + """
import resource, threading
from fastloss import _kernels
begin, shared, alone = threading.Event(), [], []
small = x[:64, :100].copy(), t[:64]
def caller():
    begin.wait(30)
    try: alone.append(fastloss.cross_entropy(*small))
    except MemoryError: alone.append('none')
thread = threading.Thread(target=caller)
thread.start()
other = 'avx2' if _kernels.active == 'avx512' else 'avx512' if 'avx512' in _kernels.available else 'base'
if other in _kernels.available and other != _kernels.active:
    used = _kernels.active
    _kernels.use(other)
    work()                        # now OpenMP's threads exist, without memory of the kernels in use
    _kernels.use(used)
fastloss.threads(1).__enter__()
wanted = fastloss.cross_entropy(x, t), fastloss.cross_entropy(*small)
fastloss.set_num_threads(2)
fastloss._runtime._scope_threads.set(None)
room = bytearray(2**16)            # for what Python needs
size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))
taken = []
for piece in (2**20, 2**16, 2**14):
    try:
        while True: taken.append(bytearray(piece))
    except MemoryError: pass
del room
for _ in range(20):
    try: shared.append(fastloss.cross_entropy(x, t))
    except MemoryError: shared.append('none')
begin.set()
thread.join()
taken.clear()
resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
assert all(got in ('none', wanted[0]) for got in shared), shared
assert alone[0] in ('none', wanted[1]), alone
assert fastloss.cross_entropy(x, t) == wanted[0] and same()
print(alone[0])
"""
    )
    assert answers(code, FASTLOSS_ISA=isa, MALLOC_ARENA_MAX="1") == "none"
