"""Build of the kernels: one extension for each instruction set, from the same sources.

a) `src/fastloss/_kernels/_<isa>.pyx` is a few lines that include `entry.pxi`, which cimports the modules
   beside it (*.pxd); the flags are here.
b) -ffp-contract=off: a multiply-add is fused exactly where the source says so, hence the same bits from
   every instruction set with FMA. The other flags drop only what the kernels do not use (errno, traps, the
   sign of zero). -ffast-math would set flush-to-zero for the whole process, and break NaN.
c) OpenMP is probed: without it the build goes on, serial, and says so.
d) FASTLOSS_SANITIZE=address,undefined (what -fsanitize takes) builds kernels that stop at their first error,
   FASTLOSS_SANITIZE=cython ones with Cython's checks of indices and None; .ci/sanitize runs the tests.
e) FASTLOSS_BUILD=base,avx2 builds these instruction sets alone; they need `base`, built with them or before.
"""

import glob
import gzip
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

X86 = sysconfig.get_platform().endswith(("x86_64", "amd64"))  # of what is built for: _PYTHON_HOST_PLATFORM

ISA_FLAGS = {"base": ["-march=x86-64-v2"] if X86 else []}
if X86:
    ISA_FLAGS["avx2"] = ["-march=x86-64-v3"]
    ISA_FLAGS["avx512"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]

CHOSEN = os.environ.get("FASTLOSS_BUILD") or ",".join(ISA_FLAGS)
if UNKNOWN := set(CHOSEN.split(",")) - set(ISA_FLAGS):
    wanted = ", ".join(ISA_FLAGS)
    raise SystemExit(f"FASTLOSS_BUILD: got {', '.join(sorted(UNKNOWN))}, wanted some of {wanted}")

FLAGS = [
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "--param=max-completely-peel-times=8",
    "-fno-tree-loop-distribute-patterns",
    "-fvisibility=hidden",
    "-g0",
]
OPENMP = ["-fopenmp"]
LINK = ["-Wl,-s"] if sys.platform == "linux" else []

INLINE = "inline __attribute__((always_inline))"
CHECKS = [name for name in os.environ.get("FASTLOSS_SANITIZE", "").split(",") if name]
CYTHON_CHECKS = "cython" in CHECKS
if SANITIZERS := [name for name in CHECKS if name != "cython"]:
    SANITIZE = [f"-fsanitize={','.join(SANITIZERS)}", "-fno-sanitize-recover=all"]
    FLAGS = [flag for flag in FLAGS if flag not in ("-O3", "-g0")]
    FLAGS += ["-O1", "-g", *SANITIZE]
    INLINE = "inline"  # inlined everywhere, each check as well, it would take gcc minutes
    LINK = SANITIZE

NO_COMPILER = """
fastloss is compiled when it is installed, and no working C compiler was found ({command}).
Install one and try again:
    Debian, Ubuntu:  apt install gcc python3-dev
    Fedora:          dnf install gcc python3-devel
    macOS:           xcode-select --install
{detail}"""

NO_OPENMP = """
************************************************************************************
* fastloss: the C compiler has no OpenMP ({command}).
* The kernels are built SERIAL: right, but on one thread only.
* With gcc, OpenMP is included; with clang install libomp (Debian: libomp-dev).
************************************************************************************
"""


class Build(build_ext):
    """Probe the compiler once, then add the flags that it understands."""

    def finalize_options(self) -> None:
        """As many compilers at a time as there are CPUs, unless -j says otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or True

    def _compiles(self, source: str, flags: list[str]) -> str | None:
        """None when the program compiles and links, otherwise what the compiler said."""
        command = getattr(self.compiler, "compiler_so", None) or ["cc"]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "probe.c")
            with open(path, "w") as file:
                file.write(source)
            try:
                done = subprocess.run(
                    [command[0], path, "-o", os.path.join(folder, "probe"), *flags],
                    capture_output=True,
                    text=True,
                )
            except OSError as error:
                return str(error)
            return None if done.returncode == 0 else done.stderr

    def build_extensions(self) -> None:
        """Fail or warn in words that say what to install, then build."""
        command = (getattr(self.compiler, "compiler_so", None) or ["cc"])[0]
        if self.compiler.compiler_type == "unix":
            if detail := self._compiles("int main(void) { return 0; }\n", []):
                raise SystemExit(NO_COMPILER.format(command=command, detail=detail))
            program = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
            openmp = OPENMP if self._compiles(program, OPENMP) is None else []
            if not openmp:
                print(NO_OPENMP.format(command=command), file=sys.stderr, flush=True)
            for extension in self.extensions:
                extension.extra_compile_args = [*FLAGS, *openmp, *extension.extra_compile_args]
                extension.extra_link_args = [*openmp, *LINK]
        super().build_extensions()


class SourceArchive(sdist):
    """The same bytes from the same files: of SOURCE_DATE_EPOCH, if it is set, and of nobody in particular."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        """Write base_name.tar.gz, whatever the format asked for."""
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
            info.mtime, info.uid, info.gid, info.uname, info.gname = epoch, 0, 0, "", ""
            info.mode = 0o755 if info.mode & 0o100 else 0o644
            return info

        name = f"{base_name}.tar.gz"
        with (
            open(name, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as archive,
        ):
            archive.add(base_dir, filter=anonymous)
        return name


KERNELS = "src/fastloss/_kernels"
SOURCES = [path for path in glob.glob(f"{KERNELS}/*") if path.endswith((".pxd", ".pxi", ".h"))]

#: Compiled with the flags of an instruction set; the last two hold no loop, and are for any processor.
MODULES = {f"_kernels._{isa}": isa for isa in CHOSEN.split(",")} | {"cython_api": "base", "_xla": "base"}

extensions = [
    Extension(
        f"fastloss.{name}",
        [f"src/fastloss/{name.replace('.', '/')}.pyx"],
        depends=SOURCES,
        include_dirs=[np.get_include(), KERNELS],
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
            ("CYTHON_INLINE", INLINE),
        ],
        extra_compile_args=ISA_FLAGS[isa],
    )
    for name, isa in MODULES.items()
]

setup(
    ext_modules=cythonize(
        extensions,
        include_path=["src"],
        compiler_directives={
            "language_level": "3",
            "boundscheck": CYTHON_CHECKS,
            "nonecheck": CYTHON_CHECKS,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": CYTHON_CHECKS,
            "freethreading_compatible": False,
        },
    ),
    cmdclass={"build_ext": Build, "sdist": SourceArchive},
)
