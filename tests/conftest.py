"""Fixtures: every kernel variant of this machine, thread counts, seeded random numbers."""

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


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)
