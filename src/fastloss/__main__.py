"""Check and time fastloss on this machine, and train on real data: ``python -m fastloss``.

Prints the configuration; compares every public function and dtype with its float64 NumPy
reference; times the main functions beside what one writes with SciPy and, where it is installed,
PyTorch; trains softmax regression on the 1,797 handwritten digits that scikit-learn ships, side by
side with scikit-learn's LogisticRegression. The exit status is 1 when anything disagrees, and 0
otherwise; 130 after Ctrl-C, and 141 where nobody reads what is printed.

``python -m fastloss perplexity`` computes that of arrays in files.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastloss
from fastloss import _kernels, _perplexity, _runtime, _selfcheck, _timing, bounds
from fastloss._report import heading, optional, progress, table

Array = NDArray[Any]

ENVIRONMENT = """\
perplexity LOGITS.npy TARGETS.npy  in place of options: of files of any size, with --help of its own

environment variables:
  FASTLOSS_ISA=NAME     the instruction set, one of %s, in place of the best one
  FASTLOSS_CHECK=1      every call is compared with its NumPy reference, and a CheckError if it is wrong
  OMP_NUM_THREADS=N     threads, unless --threads says so; at most the CPUs that the process may use
  OMP_WAIT_POLICY, GOMP_SPINCOUNT
                        how long threads wait for the next call before they sleep
"""


def check() -> list[_selfcheck.Outcome]:
    """Compare every public function and dtype with its reference."""
    return list(_selfcheck.check_all())


def show_checks(outcomes: list[_selfcheck.Outcome]) -> None:
    """Print what share of its bound each result takes, and what disagrees."""
    heading("Checks against the float64 NumPy reference")
    print(
        "The largest share of its bound (docs/bounds.md; fastloss/bounds.py) that a result takes.\n"
        f"In float64 the reference rounds, x - max x too: {1 + bounds.REFERENCE} times that is allowed.\n"
    )
    dtypes = list(dict.fromkeys(outcome.dtype for outcome in outcomes))
    rows = []
    for function in dict.fromkeys(outcome.function for outcome in outcomes):
        of_function = [outcome for outcome in outcomes if outcome.function == function]
        values = [f"{outcome.value:.2f}" for outcome in of_function]
        rows.append([function, *values])
        for what in ("gradient", "hessian"):
            shares = [getattr(outcome, what) for outcome in of_function]
            if None not in shares:
                rows.append([f"  {what}", *(f"{share:.2f}" for share in shares)])
    table(("function", *dtypes), rows)
    wrong = [outcome for outcome in outcomes if not outcome.agrees]
    for outcome in wrong:
        reason = "; ".join(outcome.errors) or "beyond its bound"
        print(f"DISAGREES: {outcome.function} {outcome.dtype}: {reason}")
    if not wrong:
        print(f"All {len(rows)} values and derivatives agree in every dtype.")
    if "bfloat16" not in dtypes:
        print("ml_dtypes is not installed, so bfloat16 is left out.")


def compare_times(quick: bool) -> list[dict[str, Any]]:
    """Time the main functions beside SciPy or NumPy, and PyTorch."""
    return list(_timing.measure(quick))


def show_times(times: list[dict[str, Any]]) -> None:
    """Print the times, and their ratios."""
    threads = fastloss.get_num_threads()
    heading(f"Times in milliseconds, float32, {threads} {'thread' if threads == 1 else 'threads'}")
    scipy, *torch = _timing.peers()
    print(
        f"Medians of interleaved rounds. {scipy} is what one writes with it, on one thread. fastloss fills\n"
        "an array that is in memory already (out=, grad_out=), and so do the others where they can.\n"
        + ("PyTorch's gradient is forward plus backward.\n" if torch else "PyTorch is not installed.\n")
    )
    rows = []
    for result in times:
        name, what, took = result["function"], result["what"], result["milliseconds"]
        of = name if what == "value" else f"  {what}"
        row = [of, "x".join(map(str, result["shape"])), f"{took['fastloss']:.3f}"]
        for peer in (scipy, *torch):
            row += [f"{took[peer]:.3f}", f"{took[peer] / took['fastloss']:.1f}x"]
        rows.append(row)
    table(("", "shape", "fastloss", *(head for peer in (scipy, *torch) for head in (peer, "ratio"))), rows)


class SoftmaxRegression:
    """Mean cross-entropy of linear logits, plus penalty / 2 times the squared coefficients.

    The intercept is not penalised. With penalty = 1 / (C n) it is the objective of scikit-learn's
    LogisticRegression(C=C) on n samples, divided by C n.
    """

    def __init__(self, features: Array, labels: Array, penalty: float) -> None:
        self.features = np.column_stack([features, np.ones(len(features))])
        self.labels = labels
        self.penalty = penalty
        self.shape = self.features.shape[1], int(labels.max()) + 1
        self.loss = fastloss.CrossEntropyLoss()

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        """Return value and gradient at flattened coefficients, whose last row is the intercept."""
        coefficients = parameters.reshape(self.shape)
        logits = self.features @ coefficients
        value, grad = self.loss.value_and_grad(logits, self.labels, grad_out=logits)
        gradient = self.features.T @ grad
        value += self.penalty / 2 * float(np.sum(coefficients[:-1] ** 2))
        gradient[:-1] += self.penalty * coefficients[:-1]
        return value, gradient.ravel()


def clocked(what: str, call: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call that takes a while, and its seconds."""
    progress(what)
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def distance(ours: Array, theirs: Array, penalty: float) -> tuple[float, float]:
    """The largest difference of two solutions, which minimise the objective within 1e-12, and its limit."""
    # Adding one number to all classes changes nothing: compare without the mean over classes. The
    # objective is penalty-strongly convex in the coefficients, so a solution within g of the
    # minimum is within sqrt(2 g / penalty) of the minimiser, and two of them within twice that.
    ours, theirs = (a - a.mean(axis=1, keepdims=True) for a in (ours, theirs))
    return float(np.max(np.abs(ours - theirs))), 2 * float(np.sqrt(2 * 1e-12 / penalty))


def train() -> dict[str, Any] | None:
    """Train on the digits next to scikit-learn: what is compared, or None without scikit-learn and SciPy."""
    optimize, datasets = optional("scipy.optimize"), optional("sklearn.datasets")
    if optimize is None or datasets is None:
        return None
    linear_model, selection = optional("sklearn.linear_model"), optional("sklearn.model_selection")
    threadpoolctl = optional("threadpoolctl")  # a dependency of scikit-learn
    features, labels = datasets.load_digits(return_X_y=True)
    x, x_test, y, y_test = selection.train_test_split(
        features / 16, labels, test_size=0.25, random_state=0, stratify=labels
    )
    inverse_penalty, tolerance = 0.1, 1e-8
    penalty = 1 / (inverse_penalty * len(y))
    objective = SoftmaxRegression(x, y, penalty)
    model = linear_model.LogisticRegression(C=inverse_penalty, tol=tolerance, max_iter=10_000)
    minimize = partial(
        optimize.minimize,
        objective,
        np.zeros(objective.shape).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": tolerance, "ftol": 64 * np.finfo(float).eps, "maxiter": 10_000},
    )
    # These matrix products are so small that the threads of BLAS would mostly wait for each other.
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        found, seconds = clocked("training with fastloss and scipy's L-BFGS-B", minimize)
        _, sklearn_seconds = clocked(
            "training with scikit-learn's LogisticRegression", partial(model.fit, x, y)
        )
    ours = found.x.reshape(objective.shape)
    theirs = np.vstack([model.coef_.T, model.intercept_])
    design = np.column_stack([x_test, np.ones(len(x_test))])
    difference, limit = distance(ours, theirs, penalty)
    return {
        "digits": {"training": len(y), "test": len(y_test)},
        "C": inverse_penalty,
        "models": [
            {
                "name": name,
                "test accuracy": float(np.mean(np.argmax(design @ solution, axis=1) == y_test)),
                "seconds": took,
                "iterations": int(iterations),
                "objective": objective(solution.ravel())[0],
            }
            for name, solution, took, iterations in (
                ("fastloss and L-BFGS-B", ours, seconds, found.nit),
                ("LogisticRegression", theirs, sklearn_seconds, model.n_iter_[0]),
            )
        ],
        "largest coefficient": float(np.max(np.abs(theirs))),
        "largest difference": difference,
        "limit": limit,
        "agree": difference <= limit,
    }


def show_training(training: dict[str, Any] | None) -> None:
    """Print both models, and how far they are apart."""
    heading("Softmax regression on 1,797 handwritten digits, float64")
    if training is None:
        print("This needs scikit-learn and scipy: pip install scikit-learn scipy")
        return
    digits = training["digits"]
    print(
        f"{digits['training']:,} digits to train on, {digits['test']} to test on, C = {training['C']}; "
        "BLAS on one thread for both.\n"
    )
    table(
        ("", "test accuracy", "seconds", "iterations", "objective"),
        [
            (
                model["name"],
                f"{model['test accuracy']:.4f}",
                f"{model['seconds']:.2f}",
                str(model["iterations"]),
                f"{model['objective']:.12f}",
            )
            for model in training["models"]
        ],
    )
    print(
        f"Largest difference of the coefficients: {training['largest difference']:.1e}, the largest of which "
        f"is {training['largest coefficient']:.2f}.\n{training['limit']:.1e} is allowed, for two solutions "
        f"within 1e-12 of the minimum: {'they agree' if training['agree'] else 'they DISAGREE'}."
    )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options, and set instruction set and threads."""
    parser = argparse.ArgumentParser(
        prog="python -m fastloss",
        description="Check and time fastloss on this machine, and train on real data. "
        "The exit status is 1 when anything disagrees.",
        epilog=ENVIRONMENT % ", ".join(_kernels.available),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="only the configuration and the checks")
    parser.add_argument("--quick", action="store_true", help="time small arrays in few rounds")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of large calls")
    parser.add_argument("--isa", metavar="NAME", help=f"instruction set: {', '.join(_kernels.available)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of tables")
    options = parser.parse_args(arguments)
    try:
        if options.isa is not None:
            _kernels.use(options.isa)
        if options.threads is not None:
            fastloss.set_num_threads(options.threads)
    except (ImportError, ValueError) as error:
        parser.error(str(error).replace("FASTLOSS_ISA", "--isa").replace("n: got", "--threads: got"))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections and return the exit status."""
    options = parsed(arguments)
    start = time.perf_counter()
    show: Callable[..., None] = (lambda *_: None) if options.json else (lambda of, *what: of(*what))
    show(heading, "Configuration")
    show(fastloss.show_config)
    outcomes = check()
    show(show_checks, outcomes)
    agree = all(outcome.agrees for outcome in outcomes)
    result: dict[str, Any] = {
        "configuration": _runtime.config(),
        "checks": [{**asdict(outcome), "agrees": outcome.agrees} for outcome in outcomes],
    }
    if not options.check:
        result["times"] = compare_times(options.quick)
        show(show_times, result["times"])
        result["training"] = train()
        show(show_training, result["training"])
        agree = agree and (result["training"] or {"agree": True})["agree"]
    result |= {"agree": agree, "seconds": time.perf_counter() - start}
    progress()
    if options.json:
        print(json.dumps(finite(result), indent=1))
    else:
        verdict = "Everything agrees" if agree else "SOMETHING DISAGREES"
        print(f"\n{verdict} ({result['seconds']:.0f} s).")
    return 0 if agree else 1


def finite(value: Any) -> Any:
    """The same for JSON, which has no inf and NaN: they become strings."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def run() -> int:
    """`main` without a traceback where the reader has gone, as of `| head`, and on Ctrl-C."""
    try:
        try:
            if sys.argv[1:2] == ["perplexity"]:
                return _perplexity.main(sys.argv[2:])
            return main()
        finally:  # also of --help; what fails at exit would be reported in spite of all
            sys.stdout.flush()
    except OSError as error:  # of a pipe without a reader: EPIPE, on Windows EINVAL
        if error.errno != (errno.EINVAL if sys.platform == "win32" else errno.EPIPE):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        progress()
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
