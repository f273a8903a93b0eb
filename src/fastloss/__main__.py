"""Check and time fastloss on this machine, and train on real data: ``python -m fastloss``.

Prints the configuration; compares every public function and dtype with its float64 NumPy
reference; times the main functions against that reference and, where it is installed, PyTorch;
trains softmax regression on the 1,797 handwritten digits that scikit-learn ships, side by side with
scikit-learn's LogisticRegression. The exit status is 1 when anything disagrees, and 0 otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastloss
from fastloss import _selfcheck, bounds, reference
from fastloss._report import optional, progress, table
from fastloss.losses import CLASSES

Array = NDArray[Any]
Call = Callable[[], object]

WITH_GRADIENT = "  value_and_grad"


def heading(text: str) -> None:
    """Print a section's title."""
    progress()
    print(f"\n{text}\n{'=' * len(text)}", flush=True)


def check() -> bool:
    """Compare every public function and dtype with its reference; whether all agree."""
    heading("Checks against the float64 NumPy reference")
    print(
        "The largest share of its bound (docs/bounds.md; fastloss/bounds.py) that a result takes.\n"
        f"In float64 the reference rounds, x - max x too: {1 + bounds.REFERENCE} times that is allowed.\n"
    )
    outcomes = list(_selfcheck.check_all())
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
    return not wrong


def medians(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Return the median time of each call in ms, from interleaved rounds.

    Before its calls are timed each one pauses, so that the other library's threads have stopped
    spinning, and makes a call that is not counted. Each one gets about `seconds`, at least one
    counted call and at most 20 rounds.
    """
    spent = dict.fromkeys(calls, 0.0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(20):
        for name, call in calls.items():
            if spent[name] >= seconds:
                continue
            time.sleep(0.01)
            for counted in (False, True, True, True):
                start = time.perf_counter()
                call()
                elapsed = time.perf_counter() - start
                spent[name] += elapsed
                if counted:
                    times[name].append(elapsed)
                    if spent[name] >= 3 * seconds:
                        break
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def torch_gradient(torch: Any, loss: Callable[..., Any], x: Any, target: Any) -> Call:
    """Make a call that runs forward and backward of a PyTorch loss."""
    leaf = x.detach().requires_grad_()
    return lambda: torch.autograd.grad(loss(leaf, target), leaf)


def timing_row(name: str, x: Array, target: Array | None, seconds: float) -> list[list[str]]:
    """Time one function or loss on float32 arrays; the rows of the table."""
    torch = optional("torch")
    functional = torch.nn.functional if torch is not None else None
    result = np.ones_like(x)  # not empty: its pages are to be in memory already
    timed: dict[str, dict[str, Call]] = {}
    if target is None:
        options: dict[str, Any] = {} if name in ("sigmoid", "logsigmoid") else {"axis": 1}
        ours = getattr(fastloss, name)
        if name == "logsumexp":
            result = np.ones(x.shape[0], x.dtype)
        label = name
        timed[label] = {
            "fastloss": lambda: ours(x, out=result, **options),
            "NumPy": lambda: getattr(reference, name)(x, **options),
        }
    else:
        label = CLASSES[name].__name__
        loss = getattr(fastloss, label)()
        timed[label] = {"fastloss": lambda: loss(x, target)}
        timed[WITH_GRADIENT] = {
            "fastloss": lambda: loss.value_and_grad(x, target, grad_out=result),
            "NumPy": lambda: getattr(reference, name)(x, target),
        }
    if functional is not None:
        tx, out = torch.from_numpy(x), torch.from_numpy(result)
        if target is None:
            array_functions: dict[str, Call] = {
                "logsumexp": lambda: torch.logsumexp(tx, 1, out=out),
                "softmax": lambda: torch.softmax(tx, 1, out=out),
                "log_softmax": lambda: functional.log_softmax(tx, 1),
                "sigmoid": lambda: torch.sigmoid(tx, out=out),
                "logsigmoid": lambda: functional.logsigmoid(tx),
            }
            timed[label]["PyTorch"] = array_functions[name]
        else:
            theirs, tt = getattr(functional, name), torch.from_numpy(target)
            timed[label]["PyTorch"] = lambda: theirs(tx, tt)
            timed[WITH_GRADIENT]["PyTorch"] = torch_gradient(torch, theirs, tx, tt)
    rows = []
    for what, calls in timed.items():
        progress(f"timing {label}{what.replace('  ', '.') if what != label else ''}")
        took = medians(calls, seconds)
        row = [what, "x".join(map(str, x.shape)), f"{took['fastloss']:.2f}"]
        for other in ("NumPy",) if torch is None else ("NumPy", "PyTorch"):
            row += (
                [f"{took[other]:.2f}", f"{took[other] / took['fastloss']:.1f}x"]
                if other in took
                else ["", ""]
            )
        rows.append(row)
    return rows


def compare_times(quick: bool) -> None:
    """Time the main functions against the reference and PyTorch."""
    torch = optional("torch")
    threads = fastloss.get_num_threads()
    heading(f"Times in milliseconds, float32, {threads} {'thread' if threads == 1 else 'threads'}")
    print(
        "Medians of interleaved rounds. NumPy is fastloss.reference, which computes in\n"
        "float64 on one thread, and both value and gradient of a loss. fastloss fills an\n"
        "array that is in memory already (out=, grad_out=), and so does PyTorch where it\n"
        "can. Its gradient is forward plus backward.\n"
    )
    if torch is None:
        print("PyTorch is not installed, so it is left out.\n")
    else:
        torch.set_num_threads(threads)
    rng = np.random.default_rng(30)
    shapes = ((2_048, 10), (256, 1_000)) if quick else ((65_536, 10), (16_384, 1_000))
    elements = 65_536 if quick else 4_000_000
    seconds = 0.01 if quick else 0.15
    rows = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "reduction: 'mean' divides")  # PyTorch's kl_div
        for shape in shapes:
            x = rng.standard_normal(shape, np.float32)
            labels = rng.integers(0, shape[1], shape[0])
            rows += timing_row("cross_entropy", x, labels, seconds)
            rows += timing_row("logsumexp", x, None, seconds)
            rows += timing_row("softmax", x, None, seconds)
        x, y = rng.standard_normal((2, elements), np.float32)
        rows += timing_row("sigmoid", x, None, seconds)
        rows += timing_row("mse_loss", x, y, seconds)
        y = rng.uniform(size=elements).astype(np.float32)
        rows += timing_row("binary_cross_entropy_with_logits", x, y, seconds)
        rows += timing_row("kl_div", x, y, seconds)
    others = ("NumPy", "ratio") if torch is None else ("NumPy", "ratio", "PyTorch", "ratio")
    table(("", "shape", "fastloss", *others), rows)


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


def agree(ours: Array, theirs: Array, penalty: float) -> bool:
    """Compare two solutions, which minimise the objective within 1e-12; whether they agree."""
    # Adding one number to all classes changes nothing: compare without the mean over classes. The
    # objective is penalty-strongly convex in the coefficients, so a solution within g of the
    # minimum is within sqrt(2 g / penalty) of the minimiser, and two of them within twice that.
    ours, theirs = (a - a.mean(axis=1, keepdims=True) for a in (ours, theirs))
    difference = float(np.max(np.abs(ours - theirs)))
    limit = 2 * float(np.sqrt(2 * 1e-12 / penalty))
    close = difference <= limit
    print(
        f"Largest difference of the coefficients: {difference:.1e}, the largest of which is "
        f"{np.max(np.abs(theirs)):.2f}.\n{limit:.1e} is allowed, for two solutions within 1e-12 of "
        f"the minimum: {'they agree' if close else 'they DISAGREE'}."
    )
    return close


def train() -> bool:
    """Train on the digits next to scikit-learn; whether the two agree."""
    heading("Softmax regression on 1,797 handwritten digits, float64")
    optimize, datasets = optional("scipy.optimize"), optional("sklearn.datasets")
    if optimize is None or datasets is None:
        print(
            "This needs scikit-learn and scipy: pip install 'fastloss[demo]', "
            "or in a checkout pip install '.[demo]'"
        )
        return True
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
    progress()
    print(
        f"{len(y):,} digits to train on, {len(y_test)} to test on, C = {inverse_penalty}; "
        "BLAS on one thread for both.\n"
    )
    table(
        ("", "test accuracy", "seconds", "iterations", "objective"),
        [
            (
                name,
                f"{np.mean(np.argmax(design @ solution, axis=1) == y_test):.4f}",
                f"{took:.2f}",
                str(iterations),
                f"{objective(solution.ravel())[0]:.12f}",
            )
            for name, solution, took, iterations in (
                ("fastloss and L-BFGS-B", ours, seconds, found.nit),
                ("LogisticRegression", theirs, sklearn_seconds, model.n_iter_[0]),
            )
        ],
    )
    return agree(ours, theirs, penalty)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all sections and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fastloss",
        description="Check and time fastloss on this machine, and train on real data. "
        "The exit status is 1 when anything disagrees.",
    )
    parser.add_argument("--quick", action="store_true", help="time small arrays in few rounds")
    quick = parser.parse_args(arguments).quick
    start = time.perf_counter()
    heading("Configuration")
    fastloss.show_config()
    checked = check()
    compare_times(quick)
    trained = train()
    agree = checked and trained
    verdict = "Everything agrees" if agree else "SOMETHING DISAGREES"
    print(f"\n{verdict} ({time.perf_counter() - start:.0f} s).")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
