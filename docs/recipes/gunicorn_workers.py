"""Losses in the workers of gunicorn, which forks them from a process that may have computed before.

    gunicorn --workers 2 --preload --chdir docs/recipes gunicorn_workers:application
    python docs/recipes/gunicorn_workers.py

OpenMP's threads do not survive a fork, and whoever used them before hangs in the child. fastloss sees the
fork and computes in the child on the calling thread, with the same bits: under `--preload`, too, where the
model is warmed up before the workers exist. The second command starts gunicorn, asks its workers, and ends
it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import fastloss

LOGITS = np.random.default_rng(0).standard_normal((5_000, 1_000), np.float32)
LABELS = np.arange(5_000) % 1_000
BEFORE = fastloss.cross_entropy(
    LOGITS, LABELS
)  # on all threads: with --preload before the workers are forked


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the loss of the logits, and who has computed it."""
    value = fastloss.cross_entropy(LOGITS, LABELS)
    answer = {"value": value, "before": BEFORE, "process": os.getpid(), "threads": fastloss.get_num_threads()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def asked(url: str, patience: float = 30.0) -> dict[str, Any]:
    """The answer, once the server is there."""
    end = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=patience) as answer:
                return dict(json.load(answer))
        except urllib.error.URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def main() -> None:
    import socket

    import gunicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--preload", "--bind", place]
    command += ["--log-level", "error", "--chdir", str(Path(__file__).parent), "gunicorn_workers:application"]
    server = subprocess.Popen(command)
    try:
        answers = [asked(f"http://{place}") for _ in range(10)]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    workers = {answer["process"] for answer in answers}
    print(f"gunicorn {gunicorn.__version__}: {len(answers)} answers of {len(workers)} workers: {answers[0]}")
    assert server.pid not in workers
    assert {(answer["value"], answer["threads"]) for answer in answers} == {(BEFORE, 1)}


if __name__ == "__main__":
    main()
