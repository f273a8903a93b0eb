"""User errors: the wrong element, in the caller's words; of tracebacks his code and the place itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

E = TypeVar("E", bound=BaseException)
P = ParamSpec("P")
R = TypeVar("R")


OWN = ("fastloss", "numpy", "concurrent")  # packages whose frames say nothing to the caller


def shortened(error: E) -> E:
    """The error with the last of its frames, and those of the caller's own code, such as a generator."""
    traces, kept = [], None
    trace = error.__traceback__
    while trace is not None:
        traces.append(trace)
        trace = trace.tb_next
    for trace in reversed(traces):
        frame = trace.tb_frame
        if kept is None or str(frame.f_globals.get("__name__")).partition(".")[0] not in OWN:
            kept = TracebackType(kept, frame, trace.tb_lasti, trace.tb_lineno)
    return error.with_traceback(kept)


def place(name: str, where: Sequence[object]) -> str:
    """An element of an argument, as messages name it."""
    return f"{name}[{', '.join(map(str, where))}]" if len(where) else name


def shortening(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose errors are `shortened`."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        try:
            return function(*args, **options)
        except Exception as error:
            shortened(error)
            raise  # with what it came from, which may be the caller's

    return call


@contextmanager
def renamed(lacking: Sequence[str] = (), **names: str) -> Iterator[None]:
    """Errors of a loss call arguments as its caller does, and advise nothing about what he is `lacking`."""
    try:
        yield
    except (IndexError, TypeError, ValueError) as error:
        problem, *advice = str(error).split("; ")
        absent = re.compile(rf"\b({'|'.join(lacking)})\b")
        said = [problem, *(part for part in advice if not (lacking and absent.search(part)))]
        own = re.compile(rf"\b(?:the )?({'|'.join(names)})\b")
        error.args = (own.sub(lambda found: names[found[1]], "; ".join(said)),)
        raise
