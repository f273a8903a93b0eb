"""Threads, and what this build and machine are."""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import numpy as np

from . import _kernels
from ._arguments import positive
from ._errors import shortening

try:
    from ._version import __version__ as __version__  # type: ignore[import-not-found,unused-ignore]
except ModuleNotFoundError:  # a checkout whose kernels were built in place
    __version__ = "0+unknown"

_process_threads: int | None = None
_scope_threads: ContextVar[int | None] = ContextVar("fastloss_threads", default=None)


@cache
def _cgroup_cpus() -> int:
    """CPUs that the control group's quota pays for, rounded up; a large number without one."""
    unlimited = sys.maxsize
    try:
        path = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].split("\n")[0]
        folder = Path("/sys/fs/cgroup") / path.strip("/")
    except OSError:
        return unlimited
    best = unlimited
    for place in (folder, *folder.parents):
        if not place.is_relative_to("/sys/fs/cgroup"):
            break
        try:
            quota, period = (place / "cpu.max").read_text().split()
            if quota != "max":
                best = min(best, max(1, -(-int(quota) // int(period))))
        except (OSError, ValueError):
            continue
    try:  # version 1
        folder = Path("/sys/fs/cgroup/cpu")
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        if quota_us > 0:
            period_us = int((folder / "cpu.cfs_period_us").read_text())
            best = min(best, max(1, -(-quota_us // period_us)))
    except (OSError, ValueError):
        pass
    return best


def _thread_limit() -> int:
    """OMP_THREAD_LIMIT, that of all OpenMP threads, which its number for the next loop leaves out."""
    try:
        return max(0, int(os.environ["OMP_THREAD_LIMIT"])) or sys.maxsize
    except (KeyError, ValueError):
        return sys.maxsize


_THREAD_LIMIT = _thread_limit()  # OpenMP has read it once, too


def _usable_cpus() -> int:
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:
        cpus = os.cpu_count() or 1
    return min(cpus, _cgroup_cpus(), _THREAD_LIMIT)


@shortening
def checked_threads(n: object, name: str) -> int:
    """A number of threads."""
    return positive(n, name, "a number of threads from 1 to 4096", 4096)


def get_num_threads() -> int:
    """Return how many threads a large call would use now.

    The number set by `threads` or `set_num_threads`; otherwise what OpenMP reports for the calling
    thread (OMP_NUM_THREADS, OMP_THREAD_LIMIT and threadpoolctl included), at most the CPUs that the process
    may use (affinity and cgroup quota). Always 1 in a forked child, where OpenMP cannot run.

    Returns
    -------
    int
        The number of threads.

    See Also
    --------
    threads : Sets it for a block.

    Examples
    --------
    >>> import fastloss
    >>> with fastloss.threads(1):
    ...     fastloss.get_num_threads()
    1
    """
    if not _kernels.module.OPENMP or _kernels.module.forked():
        return 1
    chosen = _scope_threads.get() or _process_threads
    if chosen is not None:
        return chosen
    return max(1, min(int(_kernels.module.max_threads()), _usable_cpus()))


def set_num_threads(n: int) -> None:
    """Set how many threads large calls of this process use.

    Parameters
    ----------
    %(n)s

    Raises
    ------
    %(raises_of_n)s

    Warns
    -----
    RuntimeWarning
        In a forked child, which computes on one thread whatever n is.

    See Also
    --------
    threads : Sets it for a block.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.set_num_threads(fastloss.get_num_threads())
    """
    global _process_threads
    _process_threads = checked_threads(n, "n")
    if n > 1 and _kernels.module.OPENMP and _kernels.module.forked():
        warnings.warn(
            f"set_num_threads({n}) in a forked process, which computes on one thread: OpenMP would wait for "
            "threads that only its parent has; start processes by spawn or forkserver",
            RuntimeWarning,
            stacklevel=2,
        )


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use `n` threads inside the `with` block, in this Python thread or task only.

    Parameters
    ----------
    %(n)s

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    %(raises_of_n)s

    See Also
    --------
    set_num_threads : Sets it for the process.

    Examples
    --------
    >>> import fastloss
    >>> with fastloss.threads(2):
    ...     x = fastloss.softmax([0.0, 0.0])
    >>> x
    array([0.5, 0.5])
    """
    token = _scope_threads.set(checked_threads(n, "n"))
    try:
        yield
    finally:
        _scope_threads.reset(token)


def threads_for(elements: int) -> int:
    """Return the threads for a call of this size: a small one stays on the calling thread.

    More threads than CPUs would only wait for each other.
    """
    return 1 if elements < _kernels.SERIAL_ELEMENTS else min(get_num_threads(), _usable_cpus())


def config() -> dict[str, str]:
    """What `show_config` prints."""
    kernels = _kernels.module
    compiler = kernels.COMPILER  # GCC says its version alone, others their name as well
    openmp = "OpenMP" if kernels.OPENMP else "serial build, no OpenMP"
    return {
        "fastloss": __version__,
        "instruction set": f"{_kernels.active} (built: {', '.join(_kernels.built)})",
        "threads": f"{get_num_threads()} of {os.cpu_count()} CPUs ({openmp})",
        "compiler": f"GCC {compiler}" if compiler[:1].isdigit() else compiler,
        "NumPy": np.__version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }


def show_config() -> None:
    """Print version, instruction sets, threads, compiler, and the versions underneath.

    See Also
    --------
    get_num_threads : The number of threads as a number.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.show_config()  # doctest: +ELLIPSIS
    fastloss ...
    """
    for name, value in config().items():
        print(f"{name:<16} {value}")
