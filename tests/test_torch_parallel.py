"""fastloss.torch.parallel and DTensors: logits that lie in 2 and 4 processes, on gloo over the loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="fastloss.torch needs PyTorch")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)


@pytest.mark.parametrize("size", [2, 4])
def test_processes(size, tmp_path):
    command = [sys.executable, str(Path(__file__).parent / "support" / "shards.py")]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), str(size)],
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        results = [(worker.communicate(timeout=150)[0], worker.returncode) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [status for _, status in results] == [0] * size, "\n".join(output for output, _ in results)
    for output, _ in results:
        assert int(output.split()[-1]) > 100
