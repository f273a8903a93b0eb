"""Fixtures: every kernel variant of this machine, thread counts, seeded random numbers."""

import sys

import numpy as np
import pytest

import fastloss
from fastloss import _kernels


@pytest.fixture(params=_kernels.available)
def isa(request):
    """Run the test on each instruction set that the machine has."""
    before = _kernels.active
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)


@pytest.fixture(params=[1, 2])
def threads(request):
    """Run the test on one thread and on two."""
    with fastloss.threads(request.param):
        yield request.param


@pytest.fixture(params=["float32", "float64", "float16", "bfloat16"])
def dtype(request):
    """Every dtype that is stored as it is; files of what is computed alone have a fixture of their own."""
    kind = request.param
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if kind == "bfloat16" else kind)


@pytest.fixture(params=["classes last", "classes first"])
def layout(request):
    """How to lay out rows, and how to read the answer."""
    if request.param == "classes last":
        return (lambda x: x), -1, (lambda y: y)
    return (lambda x: np.ascontiguousarray(np.moveaxis(x, -1, 0))), 0, (lambda y: np.moveaxis(y, 0, -1))


@pytest.fixture(autouse=True)
def seeded():
    """What PyTorch draws does not depend on the tests before."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(20240229)


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)
