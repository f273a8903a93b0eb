"""What the build says it did: version, instruction sets and flags."""

import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

import pytest

import fastloss
from fastloss import _kernels

X86 = sysconfig.get_platform().endswith(("x86_64", "amd64"))
WANTED = {
    "base": {"sse4.2"},
    "avx2": {"sse4.2", "avx2", "fma", "f16c"},
    "avx512": {"sse4.2", "avx2", "fma", "f16c", "avx512"},
}


def test_flags(isa):
    """Each instruction set's flags arrived, and no more; nothing is fused or fast that should not be."""
    if X86:
        assert _kernels.features == WANTED[isa]
    else:
        assert _kernels.features <= {"arm_fma"}
        assert _kernels.built == ("base",)


def test_version():
    """One that packaging tools understand, and the distribution's where fastloss is installed."""
    assert re.match(r"\d+(\.\d+)*", fastloss.__version__)
    try:
        installed = version("fastloss")
    except PackageNotFoundError:
        return
    if fastloss.__version__ != "0+unknown":
        assert fastloss.__version__ == installed


def test_contents():
    """The installed package holds what it needs, and no source that it does not."""
    try:
        names = [str(path) for path in files("fastloss")]
    except PackageNotFoundError:
        pytest.skip("not installed")
    if not any(name.startswith("fastloss/") for name in names):
        pytest.skip("installed in place")
    package = {name for name in names if name.startswith("fastloss/") and "__pycache__" not in name}
    allowed = r".*\.(py|pyi|so|pyd)|fastloss/py\.typed|fastloss/cython_api\.pxd"
    assert [name for name in package if not re.fullmatch(allowed, name)] == []
    assert {"fastloss/py.typed", "fastloss/cython_api.pxd", "fastloss/_version.py"} <= package
    tops = {name.split("/")[0] for name in names if not name.startswith("..")}
    assert {top for top in tops if not top.startswith("fastloss")} == set()


SETUP = Path(__file__).parents[1] / "setup.py"
LISTED = """
import setuptools
setuptools.setup = lambda **more: None
exec(open("setup.py").read())
print(*("".join([isa, *ISA_FLAGS[isa]]) for isa in CHOSEN))
"""


def built_by(**environment):
    """The instruction sets, with their flags, that setup.py would build; and what it says to stop."""
    pytest.importorskip("setuptools")
    if not SETUP.exists():
        pytest.skip("no checkout")
    if sys.platform == "win32" and "_PYTHON_HOST_PLATFORM" in environment:
        pytest.skip("Python for Windows does not read it")
    kept = {key: os.environ[key] for key in os.environ if key not in ("ARCHFLAGS", "FASTLOSS_BUILD")}
    done = subprocess.run(
        [sys.executable, "-c", LISTED],
        cwd=SETUP.parent,
        env=kept | environment,
        capture_output=True,
        text=True,
    )
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"_PYTHON_HOST_PLATFORM": "linux-aarch64"},
        {"_PYTHON_HOST_PLATFORM": "macosx-14.0-arm64"},
        {"_PYTHON_HOST_PLATFORM": "macosx-11-universal2"},
        {"ARCHFLAGS": "-arch arm64"},
        {"ARCHFLAGS": "-arch x86_64 -arch arm64"},
    ],
)
def test_another_processor(environment):
    """A build for another processor, or for two, has no flags of this one."""
    names, message = built_by(**environment)
    assert names == ["base"], message


@pytest.mark.parametrize(
    "environment", [{"_PYTHON_HOST_PLATFORM": "linux-x86_64"}, {"ARCHFLAGS": "-arch x86_64"}]
)
def test_x86(environment):
    """A build for x86-64 on whatever machine has every instruction set."""
    names, message = built_by(**environment)
    assert names[:2] == ["base-march=x86-64-v2", "avx2-march=x86-64-v3"], message
    assert names[2].startswith("avx512-march=x86-64-v4")


def test_settings_of_the_build():
    """What cannot be meant is said."""
    _, message = built_by(FASTLOSS_OPENMP="maybe")
    assert "FASTLOSS_OPENMP: got 'maybe', wanted auto, required or off" in message
    _, message = built_by(FASTLOSS_BUILD="base,neon", _PYTHON_HOST_PLATFORM="linux-x86_64")
    assert "FASTLOSS_BUILD: got neon, wanted some of base, avx2, avx512" in message
