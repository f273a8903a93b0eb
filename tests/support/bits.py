"""Whether another build, or another machine, computes the same bits.

`write` keeps the inputs of each loss and array function, and digests of the results; `compare` says what
differs here, and ends with 1 if something does:

    python -m tests.support.bits write FILE
    python -m tests.support.bits compare FILE
"""

import hashlib
import pickle
import platform
import sys

import numpy as np

import fastloss
from tests.support.cases import VARIANTS, make, run, run_second

SHAPES = [((200, 10), 1), ((70, 150), 1), ((5, 2100), 1), ((10, 200), 0), ((150, 70), 0), ((4, 19, 33), 1)]
ALONG_CLASSES = ["logsumexp", "softmax", "log_softmax", "entropy", "entropy_from_logits"]
VJPS = ["softmax_vjp", "log_softmax_vjp"]
ELEMENTWISE = ["sigmoid", "logsigmoid"]


def cases():
    """(name, case, axis), in a fixed order."""
    rng = np.random.default_rng(0)
    for what in [*VARIANTS, *ALONG_CLASSES, *VJPS, *ELEMENTWISE]:
        for dtype in (np.float32, np.float64, np.float16):
            for shape, axis in SHAPES:
                x = 3 * rng.standard_normal(shape).astype(dtype)
                case = make(what, rng, shape, dtype, axis, ignored=0.1) if what in VARIANTS else x
                if what == "entropy" or what in VJPS:
                    case = fastloss.softmax(x, axis)
                yield f"{what} {np.dtype(dtype).name} {shape} {axis}", case, axis


def results(name, case, axis):
    what = name.rpartition(")")[0].split(" float")[0]
    if what in VARIANTS:
        # this one is computed in `long double`, which is not the same everywhere
        extended = what.startswith("sigmoid_focal") and case.input.dtype == np.float64
        second = () if extended else run_second(case, "none")
        return *run(case, "none"), *run(case, "sum"), *run(case, "mean"), *second
    if what in VJPS:
        return (getattr(fastloss, what)(case, np.cos(np.arange(case.size)).reshape(case.shape), axis),)
    return (getattr(fastloss, what)(case, *() if what in ELEMENTWISE else (axis,)),)


def digests(name, case, axis):
    """Of each result, all NaN and both zeros taken as one."""
    found = []
    for result in results(name, case, axis):
        array = np.asarray(result) + 0
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
        found.append(hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest())
    return found


def main(command, path):
    here = f"{platform.machine()}, {fastloss.__version__}, {fastloss._kernels.active}"
    if command == "write":
        with open(path, "wb") as file:
            pickle.dump((here, [(*case, digests(*case)) for case in cases()]), file)
        return 0
    with open(path, "rb") as file:  # of `write`, and of nobody else
        there, wanted = pickle.load(file)
    count, different = 0, []
    for name, case, axis, kept in wanted:
        found = digests(name, case, axis)
        count += len(kept)
        same = [a == b for a, b in zip(found, kept, strict=True)]
        different += [f"{name}, result {i}" for i, equal in enumerate(same) if not equal]
    print(*different, sep="\n" if different else "")
    print(f"{len(different)} of {count} arrays differ between {there} and {here}")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
