"""Build of the kernels: the loops once for each instruction set, and what calls them once, in one extension.

a) Cython turns each `.pyx` into C, in a process of its own. The C of a unit, a family of loops (UNITS), is
   compiled for each instruction set, all objects side by side, and linked into `_kernels/_entry`. An object
   that is newer than its C and the headers is kept: a change of one family takes some seconds.
b) -ffp-contract=off: a multiply-add is fused exactly where the source says so, hence the same bits from
   every instruction set with FMA: it must be understood. The other flags, of which those are used that the
   compiler understands, drop only what the kernels do not use (errno, traps, the sign of zero). -ffast-math
   would set flush-to-zero for the whole process, and break NaN.
c) OpenMP is probed: without it the build goes on, serial, and says so; FASTLOSS_OPENMP=required ends it,
   FASTLOSS_OPENMP=off does not look for it.
d) The instruction sets are those of the processor that is built for, which may be another one than this; a
   build for several at once, macOS's universal2, has `base` alone.
e) FASTLOSS_SANITIZE=address,undefined (what -fsanitize takes) builds kernels that stop at their first error,
   FASTLOSS_SANITIZE=cython ones with Cython's checks of indices and None; .ci/sanitize runs the tests.
f) FASTLOSS_BUILD=avx2 or base,avx2 builds these instruction sets alone.
g) On Windows the compiler is the clang of zig, which the package index has (pyproject.toml asks for it), or
   what CC names. Microsoft's has not the vector extensions of C.
h) Where long double is no longer than a double, as on macOS for arm64 and on Windows, the C is compiled as
   C++, for the class of wide.h, and linked without C++'s library. CFLAGS=-DFASTLOSS_WIDE_CLASS does so
   anywhere; .ci/wide runs the tests.
"""

import glob
import gzip
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext, new_compiler
from setuptools.command.sdist import sdist


def processors() -> set[str]:
    """The processors that are built for: of ARCHFLAGS (macOS), or the Python's, also in a cross build."""
    if given := re.findall(r"-arch[= ]\s*(\S+)", os.environ.get("ARCHFLAGS", "")):
        return set(given)
    name = sysconfig.get_platform().rpartition("-")[2].lower()  # _PYTHON_HOST_PLATFORM's, if set
    return {"x86_64", "arm64"} if name == "universal2" else {name}


X86 = processors() <= {"x86_64", "amd64"}

ISA_FLAGS = {"base": ["-march=x86-64-v2"] if X86 else []}
if X86:
    ISA_FLAGS["avx2"] = ["-march=x86-64-v3"]
    ISA_FLAGS["avx512"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]

CHOSEN = (os.environ.get("FASTLOSS_BUILD") or ",".join(ISA_FLAGS)).split(",")
if UNKNOWN := set(CHOSEN) - set(ISA_FLAGS):
    wanted = ", ".join(ISA_FLAGS)
    raise SystemExit(f"FASTLOSS_BUILD: got {', '.join(sorted(UNKNOWN))}, wanted some of {wanted}")

FLAGS = [
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "--param=max-completely-peel-times=8",
    "-fno-tree-loop-distribute-patterns",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wno-unused-function",
    "-g0",
]
CXX = ["-x", "c++", "-std=gnu++17", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"]
#: Of compiler and linker, the first that works: gcc's and clang's, zig's, Apple's clang's, Homebrew's libomp.
BREW = [path for path in ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp") if os.path.isdir(path)]
OPENMP = [
    (["-fopenmp"], ["-fopenmp"]),
    (["-fopenmp"], ["-llibomp"]),
    (["-Xpreprocessor", "-fopenmp"], ["-lomp"]),
    *((["-Xpreprocessor", "-fopenmp", f"-I{path}/include"], [f"-L{path}/lib", "-lomp"]) for path in BREW),
]
OPENMP_WANTED = os.environ.get("FASTLOSS_OPENMP") or "auto"
if OPENMP_WANTED not in ("auto", "required", "off"):
    raise SystemExit(f"FASTLOSS_OPENMP: got {OPENMP_WANTED!r}, wanted auto, required or off")
#: Without symbols, and without what Cython adds to a unit as if it were a module.
LINK = {"linux": ["-Wl,-s", "-Wl,--gc-sections"], "darwin": ["-Wl,-dead_strip"]}.get(sys.platform, [])
WINDOWS = sys.platform == "win32"

INLINE = "inline __attribute__((always_inline))"
CHECKS = [name for name in os.environ.get("FASTLOSS_SANITIZE", "").split(",") if name]
CYTHON_CHECKS = "cython" in CHECKS
if SANITIZERS := [name for name in CHECKS if name != "cython"]:
    SANITIZE = [f"-fsanitize={','.join(SANITIZERS)}", "-fno-sanitize-recover=all"]
    FLAGS = [flag for flag in FLAGS if flag != "-g0"]
    FLAGS += ["-g", *SANITIZE]
    INLINE = "inline"  # inlined everywhere, each check as well, it would take gcc minutes
    LINK = SANITIZE

NO_COMPILER = """
fastloss is compiled when it is installed, and no working C compiler was found ({command}).
Install one and try again:
    Debian, Ubuntu:  apt install gcc python3-dev
    Fedora:          dnf install gcc python3-devel
    macOS:           xcode-select --install
    Windows:         python -m pip install ziglang
{detail}"""

NO_CONTRACT = """
fastloss: the C compiler ({command}) does not know -ffp-contract=off, without which results would depend on
the compiler. Use gcc or clang, for example: CC=gcc pip install .
{detail}"""

NO_OPENMP = """
************************************************************************************
* fastloss: the C compiler has no OpenMP ({command}).
* The kernels are built SERIAL: right, but on one thread only.
* With gcc, OpenMP is included; with clang install libomp (Debian: libomp-dev; macOS:
* brew install libomp). For Windows see docs/runtime.md.
************************************************************************************
"""


NOTHING = "int zero(void) { return 0; }\n"


class Build(build_ext):
    """Probe the compiler once, then add the flags that it understands."""

    def finalize_options(self) -> None:
        """As many compilers at a time as there are CPUs, unless -j says otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count() or 1
        self.started, self.lock = time.monotonic(), threading.Lock()

    def _compiles(self, source: str, flags: list[str], link: list[str] | None = None) -> str | None:
        """None when the program compiles, and links if it should; otherwise what the compiler said."""
        command = self.compiler.compiler_so
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "probe.c")
            with open(path, "w") as file:
                file.write(source)
            target = ["-o", os.path.join(folder, "probe")]
            rest = ["-c"] if link is None else ["-x", "none", *link]  # what is linked is no source
            try:
                done = subprocess.run(
                    [*command, path, *target, *flags, *rest], capture_output=True, text=True
                )
            except OSError as error:
                return str(error)
            return None if done.returncode == 0 else done.stderr

    def _understands(self, *flags: str) -> bool:
        """Whether the compiler takes these flags without a warning; clang drops some with one."""
        return self._compiles(NOTHING, [*self.strict, *flags]) is None

    def _openmp(self, command: str) -> tuple[list[str], list[str]]:
        """The flags of OpenMP for compiler and linker, none if there is none."""
        program = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
        if OPENMP_WANTED == "off":
            return [], []
        given = os.environ.get("LDFLAGS", "").split()
        for flags, link in OPENMP:
            if self._compiles(program, flags, [*given, *link]) is None:
                return flags, link
        if OPENMP_WANTED == "required":
            raise SystemExit(f"FASTLOSS_OPENMP=required: the C compiler ({command}) has no OpenMP")
        print(NO_OPENMP.format(command=command), file=sys.stderr, flush=True)
        return [], []

    def build_extensions(self) -> None:
        """Fail or warn in words that say what to install, then build."""
        if WINDOWS:
            self.compiler = compiler_of_windows(self.compiler)
        command = os.environ.get("CC") or ("zig" if WINDOWS else self.compiler.compiler_so[0])
        if detail := self._compiles("int main(void) { return 0; }\n", [], []):
            raise SystemExit(NO_COMPILER.format(command=command, detail=detail))
        if self._compiles('#include "wide.h"\n', [f"-I{KERNELS}"]):  # which says that it must be C++
            self.compiler.compiler_so = [*self.compiler.compiler_so, *CXX]
        # the Python's own flags may be another compiler's, and warned of
        self.strict = ["-Werror"] if self._compiles(NOTHING, ["-Werror"]) is None else []
        if detail := self._compiles(NOTHING, [*self.strict, "-ffp-contract=off"]):
            raise SystemExit(NO_CONTRACT.format(command=command, detail=detail))
        openmp, link = self._openmp(command)
        self.flags = [flag for flag in FLAGS if self._understands(flag)] + openmp
        self.isa_flags = {isa: self._flags_of(isa, command) for isa in ("base", *CHOSEN)}
        self.isas = [isa for isa in CHOSEN if self.isa_flags[isa] is not None]
        with ThreadPoolExecutor(self.parallel) as pool:
            self._build_in(pool, [*link, *LINK])
        self.force = True  # to link: what is linked may be older than an extension of other instruction sets
        super().build_extensions()

    def _flags_of(self, isa: str, command: str) -> list[str] | None:
        """An instruction set's flags as the compiler spells them; of base those that it knows, else None."""
        for flags in (ISA_FLAGS[isa], [flag.replace("x86-64-", "x86_64_") for flag in ISA_FLAGS[isa]]):
            if self._understands(*flags):
                return flags
        if isa == "base":
            return []
        self._say(f"{isa} is left out: {command} does not know {' '.join(ISA_FLAGS[isa])}")
        return None

    def _build_in(self, pool: ThreadPoolExecutor, link: list[str]) -> None:
        """Compile all objects; what is left of the extensions is to link them."""
        units = [f"_kernels._{unit}" for unit in UNITS]
        names = [*units, *(extension.name.removeprefix("fastloss.") for extension in self.extensions)]
        self.number, self.done = len(names) + len(UNITS) * len(self.isas) + len(self.extensions), 0
        # in this order: a compiler that waits for its source waits for what was begun before; long ones first
        sources = {name: pool.submit(self._cythonize, name) for name in names}
        built = [("FASTLOSS_ISAS(X)", " ".join(f"X({isa})" for isa in self.isas))]
        modules = [
            pool.submit(self._compile, sources[name], "base", built, level(name, "none"))
            for name in names[len(units) :]
        ]
        objects = [
            pool.submit(self._compile, sources[name], isa, unit_macros(name, isa), level(name, isa))
            for name in units
            for isa in reversed(self.isas)
        ]
        for extension, module in zip(self.extensions, modules, strict=True):
            extension.extra_objects = [module.result()]
            if extension.name.endswith("._entry"):
                extension.extra_objects += [compiled.result() for compiled in objects]
            extension.sources, extension.depends = [], extension.extra_objects
            extension.extra_link_args = link

    def _cythonize(self, name: str) -> str:
        """The C of a file, by Cython in a process of its own: threads would wait for each other."""
        source = f"src/fastloss/{name.replace('.', '/')}.pyx"
        folder = self._folder("cython", DIRECTIVES)
        arguments = map(repr, (source, DIRECTIVES, bool(self.force), folder))
        subprocess.run([sys.executable, "-c", CYTHONIZE, *arguments], check=True)
        self._progress(f"Cython: {name}")
        return os.path.join(folder, source.removesuffix(".pyx") + ".c")

    def _compile(
        self, cythonized: Future[str], isa: str, macros: list[tuple[str, str | None]], level: str
    ) -> str:
        """The object of C for an instruction set, compiled if it is not up to date."""
        source = cythonized.result()
        flags = [*self.flags, *(self.isa_flags[isa] or []), level]
        folder = self._folder(isa, self.compiler.compiler_so, flags, macros)
        (compiled,) = self.compiler.object_filenames([source], strip_dir=True, output_dir=folder)
        newest = max(map(os.path.getmtime, [source, "setup.py", *HEADERS]))
        if self.force or not os.path.exists(compiled) or os.path.getmtime(compiled) < newest:
            (made,) = self.compiler.compile(
                [source],
                output_dir=folder,
                macros=[*MACROS, *macros],
                include_dirs=[np.get_include(), KERNELS],
                extra_postargs=flags,
            )
            os.replace(made, compiled)
        self._progress(f"C compiler: {os.path.basename(source)} for {isa}")
        return compiled

    def _folder(self, name: str, *options: object) -> str:
        """Where files made with these options are: with others they are not up to date."""
        return os.path.join(self.build_temp, f"{name}-{zlib.crc32(repr(options).encode()):08x}")

    def _progress(self, name: str) -> None:
        with self.lock:
            self.done += 1
            self._say(f"{self.done} of {self.number}, {name}")

    def _say(self, text: str) -> None:
        """What pip shows with -v; else it keeps the output to itself."""
        print(f"fastloss: {text} ({time.monotonic() - self.started:.0f} s)", flush=True)


def compiler_of_windows(default: Any) -> Any:
    """zig's clang, or what CC names, in place of Microsoft's compiler, which has found the folders."""
    cc = os.environ.get("CC", "")
    zig, target = [sys.executable, "-m", "ziglang"], ["-target", "x86_64-windows-gnu"]
    given = [cc] if os.path.isfile(cc) else cc.split()  # paths have spaces there
    compile, link = given or [*zig, "c++", *target], given or [*zig, "cc", *target]
    flags = [os.environ.get(name, "").split() for name in ("CFLAGS", "LDFLAGS")]
    compiler = new_compiler("unix", verbose=default.verbose, force=default.force)
    compiler.set_executables(compiler_so=[*compile, *flags[0]], linker_so=[*link, "-shared", *flags[1]])
    compiler.set_include_dirs(default.include_dirs)
    compiler.set_library_dirs(default.library_dirs)
    return compiler


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
HEADERS = glob.glob(f"{KERNELS}/*.h")
UNITS = ["rows", "tiles", "points", "labels"]
#: CYTHON_EXTERN_C: also in C++ what Cython declares again has the linkage that the headers give it.
MACROS = [
    ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
    ("CYTHON_INLINE", INLINE),
    ("CYTHON_EXTERN_C", "extern"),
]


def unit_macros(name: str, isa: str) -> list[tuple[str, str | None]]:
    """The instruction set, and what keeps apart the names that Cython gives to a module, which no unit is."""
    unit = name.rpartition(".")[2]
    return [
        ("FASTLOSS_ISA", isa),
        ("CYTHON_NO_PYINIT_EXPORT", None),
        (f"PyInit_{unit}", f"fastloss_init{unit}_{isa}"),
        (f"__pyx_module_is_main_fastloss__{name.replace('.', '__')}", f"fastloss_main{unit}_{isa}"),
    ]


def level(name: str, isa: str) -> str:
    """-O1 where it is as fast, or nearly: where a step has four registers nothing is left to arrange."""
    plain_of_sse = X86 and isa == "base" and name in ("_kernels._rows", "_kernels._labels")
    return "-O1" if plain_of_sse or SANITIZERS else "-O3"


#: Of these the last two hold no loop.
extensions = [
    Extension(f"fastloss.{name}", [f"src/fastloss/{name.replace('.', '/')}.pyx"])
    for name in ("_kernels._entry", "cython_api", "_xla")
]

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": CYTHON_CHECKS,
    "nonecheck": CYTHON_CHECKS,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": CYTHON_CHECKS,
    "freethreading_compatible": True,
}
CYTHONIZE = """
import ast, sys
from Cython.Build import cythonize
source, directives, force, folder = map(ast.literal_eval, sys.argv[1:])
cythonize(
    source, include_path=["src"], compiler_directives=directives, force=force, build_dir=folder, quiet=True
)
"""

setup(
    ext_modules=extensions,
    cmdclass={"build_ext": Build, "sdist": SourceArchive},
)
