"""Distance to the true value, beside other libraries: `python -m bench accuracy` writes docs/accuracy.md.

The inputs are those of tests/support/hard.py, in each dtype, and the truths those of tests/support/oracle.py
for the input as stored. A library is left out where it has no such function, or not in this dtype. With
--rows the tables are only printed.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np

import fastloss
from fastloss import bounds
from fastloss._report import optional
from fastloss.losses import CLASSES
from tests.support import hard, oracle

from .options import shared

DTYPES = ("float32", "float64", "float16", "bfloat16")
BCE = "binary_cross_entropy"
ABOUT = """
The largest distance from the true value of the input as stored (mpmath, 50 digits; a million classes: long
double), in ulp of the true value in the dtype of the input. The inputs, `tests/support/hard.py`, are chosen
to hurt: confident and hopeless rows, ties, offsets to 1e30, masked classes, one class and 10⁶, subnormal
numbers, numbers of all magnitudes. "nan" and "inf": where the truth is finite. A result of 0 counts as right
below the smallest normal number. "of bound" is the largest share of its [bound](bounds.md) that fastloss
takes. Losses of half precision are float32, hence far below one ulp of the input's dtype. Rounding d = x -
max x once moves a softmax by half an ulp or more for each unit of d, in every library: exp(-87) by 60. What
is left of a gradient where p - q cancels may be off by many ulp, in every library too: its bound is on p and
q.
"""


class NotOfThisPeer(Exception):
    """The library has no such function, or not in this dtype."""


class Problem(NamedTuple):
    """One function on arrays of one shape, and the truth; with a target also that of the gradient."""

    name: str  # of the function, and what else there is
    x: Any
    target: Any
    options: dict[str, Any]
    truths: tuple[Any, ...]
    bounds: tuple[Any, ...]  # in the dtype that fastloss computes in

    @property
    def function(self) -> str:
        return self.name.partition(",")[0]


def computed(dtype: np.dtype[Any]) -> type:
    """What half precision is computed in."""
    return np.float64 if dtype == np.float64 else np.float32


def bounds_of(name: str, x: Any, target: Any, options: dict[str, Any]) -> bounds.Bounds:
    """What values and gradient may be off before they are rounded to half precision."""
    wide = {k: v.astype(np.float64) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    target = target if target.dtype.kind == "i" else target.astype(np.float64)
    function = name.partition(",")[0]
    return bounds.loss(function, x, target, dtype=computed(x.dtype), reduction="none", **wide)


def with_classes(x: Any, exact: Any, masked: bool = False) -> Iterator[Problem]:
    """Every function along the class axis, on rows whose truths `exact` computes."""
    kind, rng = computed(x.dtype), np.random.default_rng(9)
    wide = x.astype(np.float64)
    finite = np.isfinite(wide)
    for name in ("logsumexp", "softmax", "log_softmax", "entropy_from_logits"):
        allowed = bounds.array_function(name, wide, dtype=kind)
        yield Problem(name, x, None, {}, (getattr(exact, name)(),), (allowed,))
    likely, unlikely = wide.argmax(1), np.where(finite, wide, np.inf).argmin(1)
    labels = {"confident": likely, "hopeless": unlikely}
    weight = (0.5 + rng.random(x.shape[1])).astype(x.dtype)
    smoothed = {"label_smoothing": 0.125}
    soft = np.where(finite, rng.dirichlet(np.ones(x.shape[1]), len(x)), 0).astype(x.dtype)
    counts = np.where(finite, rng.integers(0, 5, x.shape), 0).astype(x.dtype)
    cases: list[tuple[str, Any, dict[str, Any]]] = [(f"cross_entropy, {k}", t, {}) for k, t in labels.items()]
    cases += [("cross_entropy, class weights", unlikely, {"weight": weight})]
    if not masked:  # smoothing puts mass on every class, and the loss is inf
        cases += [("cross_entropy, label smoothing", likely, smoothed)]
    cases += [("cross_entropy, probabilities", soft, {}), ("multinomial_nll_loss", counts, {})]
    for name, target, options in cases:
        c = oracle.coefficients(target, x.shape, -1, **options)
        allowed = bounds_of(name, x, target, options)
        yield Problem(name, x, target, options, (exact.loss(c), exact.grad(c)), allowed)
    if isinstance(exact, Exact):
        yield from of_a_label(x, exact, labels.values())


#: Losses of a label that are a function of its cross-entropy, and what else changes the logits' part.
OF_A_LABEL: tuple[tuple[str, dict[str, float]], ...] = (
    ("focal_loss", {"gamma": 2.0}),
    ("generalized_cross_entropy", {"q": 0.7}),
    ("poly_loss", {"epsilon": 1.0}),
    ("cross_entropy, z_loss", {"z_loss": 1e-4}),
    ("cross_entropy, softcap", {"softcap": 30.0}),
)


def of_a_label(x: Any, exact: Exact, targets: Iterable[Any]) -> Iterator[Problem]:
    """The likeliest and the least likely label of each row."""
    for (name, options), target in product(OF_A_LABEL, targets):
        capped = "softcap" in options
        rows = [oracle.CappedRow(row, options["softcap"]) for row in x] if capped else exact.rows
        given = {} if capped else options
        found = [
            oracle.loss_of_label(row, t, name.partition(",")[0], **given)
            for row, t in zip(rows, target, strict=True)
        ]
        truths = tuple(oracle.array(list(of)) for of in zip(*found, strict=True))
        yield Problem(name, x, target, options, truths, bounds_of(name, x, target, options))


class Exact:
    """Many `oracle.Row` as one."""

    def __init__(self, x: Any) -> None:
        self.rows = [oracle.Row(row) for row in x]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def every(c: Any = None) -> Any:
            given = [()] * len(self.rows) if c is None else [(k,) for k in c]
            return oracle.array([getattr(row, name)(*g) for row, g in zip(self.rows, given, strict=True)])

        return every


#: Losses of one element: their inputs and options.
OF_AN_ELEMENT: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (BCE + "_with_logits, hard targets", "hard", {}),
    (BCE + "_with_logits, soft targets", "soft", {}),
    ("sigmoid_focal_loss, hard targets", "hard", {"gamma": 2.0, "alpha": 0.25}),
    ("sigmoid_focal_loss, soft targets", "soft", {"gamma": 2.0, "alpha": 0.25}),
    ("soft_margin_loss", "signs", {}),
    (BCE, "probabilities", {}),
    ("kl_div", "kl", {}),
    ("kl_div, log_target", "kl_log", {"log_target": True}),
    ("mse_loss", "real", {}),
    ("poisson_nll_loss", "counts", {}),
    ("poisson_nll_loss, rates", "rates", {"log_input": False}),
)


def pointwise_loss(name: str, x: Any, y: Any, options: dict[str, Any]) -> Problem:
    """The problem, whose truth is that of each element by itself."""
    given = {k: v for k, v in options.items() if k not in ("log_target", "var")}
    formula = getattr(oracle, name.partition(",")[0] + "_log_target" * ("log_target" in options))
    arrays = [x, y, *([options["var"]] if "var" in options else [])]
    found = [formula(*(mp.mpf(float(v)) for v in element), **given) for element in zip(*arrays, strict=True)]
    value, grad, *_ = (oracle.array(list(of)) for of in zip(*found, strict=True))
    return Problem(name, x, y, options, (value, grad), bounds_of(name, x, y, options))


def pointwise(dtype: np.dtype[Any]) -> Iterator[Problem]:
    """The functions of one element, and the entropy of probabilities."""
    kind = computed(dtype)
    x = hard.grid(dtype)
    for name, formula in (
        ("sigmoid", oracle.logistic),
        ("logsigmoid", lambda v: -oracle.softplus(-v)),
    ):
        truth = oracle.array([formula(mp.mpf(float(v))) for v in x])
        yield Problem(name, x, None, {}, (truth,), (bounds.array_function(name, x, dtype=kind),))
    for name, inputs, options in OF_AN_ELEMENT:
        x, y = hard.pairs(inputs, dtype)
        yield pointwise_loss(name, x, y, options)
    x, y = (a[: len(a) // 12 * 12].reshape(-1, 12) for a in hard.pairs("hard", dtype))
    flat = pointwise_loss(BCE + "_with_logits", x.ravel(), y.ravel(), {})
    value, grad = (truth.reshape(x.shape) / 12 for truth in flat.truths)
    name = "multilabel_soft_margin_loss"
    yield Problem(name, x, y, {}, (value.sum(1), grad), bounds_of(name, x, y, {}))
    rng = np.random.default_rng(41)
    x, y = (rng.standard_normal((2, 400)) * 10 ** rng.uniform(-3, 4, (2, 400))).astype(dtype)
    var = (10 ** rng.uniform(-8, 4, 400)).astype(dtype)
    yield pointwise_loss("gaussian_nll_loss", x, y, {"var": var})
    p = np.random.default_rng(13).dirichlet(np.full(40, 0.3), 40).astype(dtype)
    truth = oracle.array([mp.fsum(-v * mp.log(v) for v in map(mp.mpf, map(float, q)) if v) for q in p])
    yield Problem("entropy", p, None, {}, (truth,), (bounds.array_function("entropy", p, dtype=kind),))


def problems(name: str) -> Iterator[Problem]:
    """Everything that is measured in one dtype."""
    dtype = np.dtype(name) if name != "bfloat16" else np.dtype(optional("ml_dtypes").bfloat16)
    one_class = np.array([[0.0], [1e4], [-1e30]])
    for masked in (True, False):
        x = hard.adversarial_rows(dtype, masked)
        yield from with_classes(x, Exact(x), masked)
    for x in (hard.long_rows(dtype), hard.stored(one_class, dtype)):
        yield from with_classes(x, Exact(x))
    for classes in (2049, 1_000_000):
        x = hard.level_rows(classes, dtype)
        yield from with_classes(x, oracle.WideRows(x))
    yield from pointwise(dtype)


# ------------------------------------------------------------------------------------------- libraries


def _fastloss(problem: Problem) -> tuple[Any, ...]:
    axis = {} if problem.x.ndim == 1 else {"axis": 1}
    function = getattr(fastloss, problem.function)
    if problem.target is None:
        return (function(problem.x, **axis),)
    options = dict(problem.options)
    arrays = [problem.x, problem.target, *([options.pop("var")] if "var" in options else [])]
    made = CLASSES[problem.function](reduction="none", **options)
    return made.value_and_grad(*arrays)


def _torch(problem: Problem) -> tuple[Any, ...]:
    torch = optional("torch")

    def tensor(a: Any) -> Any:
        if not isinstance(a, np.ndarray):
            return a
        if a.dtype.name == "bfloat16":  # which torch does not know from NumPy
            return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(a)

    x, target = tensor(problem.x), tensor(problem.target)
    distribution = torch.distributions.Categorical
    if target is None:
        special = {
            "entropy": lambda x: torch.special.entr(x).sum(1),
            "entropy_from_logits": lambda x: distribution(logits=x, validate_args=False).entropy(),
            "logsigmoid": torch.nn.functional.logsigmoid,
            "sigmoid": torch.sigmoid,
        }
        function = special.get(problem.function) or partial(getattr(torch, problem.function), dim=1)
        return (function(x).to(torch.float64).numpy(),)
    if problem.function == "multinomial_nll_loss":
        raise NotOfThisPeer
    x.requires_grad_()
    options = {k: tensor(v) for k, v in problem.options.items()}
    value = getattr(torch.nn.functional, problem.function)(x, target, reduction="none", **options)
    (grad,) = torch.autograd.grad(value, x, torch.ones_like(value))
    return value.detach().to(torch.float64).numpy(), grad.to(torch.float64).numpy()


def _jax(problem: Problem) -> tuple[Any, ...]:
    jax, jnp, optax = optional("jax"), optional("jax.numpy"), optional("optax")
    jax.config.update("jax_enable_x64", True)
    nn, x, target = jax.nn, jnp.asarray(problem.x), problem.target
    if target is None:
        functions = {
            "logsumexp": lambda x: nn.logsumexp(x, 1),
            "softmax": lambda x: nn.softmax(x, 1),
            "log_softmax": lambda x: nn.log_softmax(x, 1),
            "sigmoid": nn.sigmoid,
            "logsigmoid": nn.log_sigmoid,
            "entropy": lambda x: jax.scipy.special.entr(x).sum(1),
        }
        return (np.asarray(functions[problem.function](x)),)
    target, options = jnp.asarray(target), problem.options
    if {"z_loss", "softcap"} & options.keys():
        raise NotOfThisPeer
    labels = target.ndim < x.ndim
    if "label_smoothing" in options:
        target = optax.smooth_labels(
            nn.one_hot(target, x.shape[1], dtype=x.dtype), options["label_smoothing"]
        )
        labels = False
    losses = {
        "cross_entropy": optax.softmax_cross_entropy_with_integer_labels
        if labels
        else optax.softmax_cross_entropy,
        BCE + "_with_logits": optax.sigmoid_binary_cross_entropy,
        "poly_loss": lambda x, y: optax.poly_loss_cross_entropy(
            x, nn.one_hot(y, x.shape[1], dtype=x.dtype), **options
        ),
        "sigmoid_focal_loss": partial(optax.sigmoid_focal_loss, **options),
        "mse_loss": optax.squared_error,
        "kl_div": lambda x, y: (
            optax.losses.kl_divergence_with_log_targets if options else optax.losses.kl_divergence
        )(x[:, None], y[:, None]),
    }
    weight = jnp.asarray(options["weight"])[target] if "weight" in options else 1
    value, back = jax.vjp(lambda x: losses[problem.function](x, target) * weight, x)
    return np.asarray(value), np.asarray(back(jnp.ones_like(value))[0])


def _scipy(problem: Problem) -> tuple[Any, ...]:
    special = optional("scipy.special")
    functions = {
        "logsumexp": partial(special.logsumexp, axis=1),
        "softmax": partial(special.softmax, axis=1),
        "log_softmax": partial(special.log_softmax, axis=1),
        "sigmoid": special.expit,
        "logsigmoid": special.log_expit,
        "entropy": lambda p: special.entr(p).sum(1),
    }
    return (functions[problem.function](problem.x),)


def _sklearn(problem: Problem) -> tuple[Any, ...]:
    losses = optional("sklearn._loss.loss")
    x, target = problem.x, problem.target
    if problem.options or x.dtype.itemsize < 4 or (x.ndim == 2 and (target is None or target.ndim == 2)):
        raise NotOfThisPeer
    made, factor = {
        "cross_entropy": (lambda: losses.HalfMultinomialLoss(n_classes=x.shape[1]), 1),
        BCE + "_with_logits": (losses.HalfBinomialLoss, 1),
        "poisson_nll_loss": (losses.HalfPoissonLoss, 1),
        "mse_loss": (losses.HalfSquaredError, 2),  # half of the others'
    }[problem.function]
    value, grad = made().loss_gradient(target.astype(x.dtype), x)
    return factor * value, factor * grad


PEERS = {
    "fastloss": ((), _fastloss),
    "PyTorch": (("torch",), _torch),
    "JAX": (("jax", "optax"), _jax),
    "scipy": (("scipy",), _scipy),
    "scikit-learn": (("sklearn",), _sklearn),
}


# ------------------------------------------------------------------------------------------- measurement


class Worst:
    """The largest error of a library so far, in ulp and as a share of what is allowed."""

    def __init__(self) -> None:
        self.ulp, self.share = -1.0, 0.0
        self.broken: set[str] = set()

    def add(self, got: Any, truth: Any, allowed: Any, dtype: np.dtype[Any]) -> None:
        wide = truth.astype(np.float64)
        exact = got.dtype  # of this result
        got = np.asarray(got).astype(np.float64)
        assert got.shape == wide.shape
        info, counted = oracle.finfo(dtype), np.isfinite(wide)
        counted &= np.abs(wide) <= float(info.max)
        low = np.zeros_like(wide)  # what float64 cannot hold of the truth
        low[counted] = (truth[counted] - wide[counted]).astype(np.float64)
        for word, test in (("nan", np.isnan), ("inf", np.isinf)):
            if (test(got) & counted).any():
                self.broken.add(word)
        counted &= np.isfinite(got)
        flushed = (got == 0) & (np.abs(wide) < float(np.finfo(computed(dtype)).smallest_normal))
        counted &= ~flushed
        if not counted.any():
            return
        error = np.abs((got[counted] - wide[counted]) - low[counted])
        self.ulp = max(self.ulp, float((error / bounds.ulp(wide, dtype)[counted]).max()))
        allowed = np.broadcast_to(allowed, wide.shape)[counted]
        if exact == dtype and dtype.itemsize < 4:  # rounded once more
            allowed = bounds.rounded(allowed, wide[counted], dtype)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.share = max(self.share, float(np.where(error > 0, error / allowed, 0).max()))

    def __str__(self) -> str:
        worst = [] if self.ulp < 0 else [f"{self.ulp:.2f}" if self.ulp < 100 else f"{self.ulp:.1e}"]
        return ", ".join(worst + sorted(self.broken)) or "–"


def table(dtype: str, rows: str) -> list[str]:
    """The worst of each function and library in one dtype, of the names in which `rows` is found."""
    found: dict[tuple[str, str], dict[str, Worst]] = {}
    for problem in (problem for problem in problems(dtype) if re.search(rows, problem.name)):
        for peer, (modules, run) in PEERS.items():
            if any(optional(module) is None for module in modules):
                continue
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    results = run(problem)
            except (AttributeError, KeyError, NotOfThisPeer, RuntimeError, TypeError, ValueError):
                if peer == "fastloss":
                    raise
                continue  # has no such function, or not in this dtype
            whats = ("value", "gradient") if problem.target is not None else ("value",)
            for what, got, truth, allowed in zip(whats, results, problem.truths, problem.bounds, strict=True):
                worst = found.setdefault((problem.name, what), {}).setdefault(peer, Worst())
                worst.add(np.asarray(got), truth, allowed, problem.x.dtype)
    lines = [f"| | of bound | {' | '.join(PEERS)} |", "|---" * (len(PEERS) + 2) + "|"]
    for (name, what), of_peer in found.items():
        cells = [str(of_peer.get(peer, "–")) for peer in PEERS]
        of_what = f", {what}" if (name, "gradient") in found else ""
        lines.append(f"| {name}{of_what} | {of_peer['fastloss'].share:.2f} | {' | '.join(cells)} |")
    return lines


def sums(n: int = 10**7) -> list[str]:
    """Relative error of a mean over n rows, drawn from few, so that the exact sum can be had."""
    rng = np.random.default_rng(14)
    lines = [
        "| mean of 10⁷ rows | fastloss, ulp of float64 | PyTorch, relative | JAX, relative |",
        "|---|---|---|---|",
    ]
    for dtype in ("float32", "float64"):
        x = (rng.standard_normal((4096, 3)) * 10 ** rng.uniform(-3, 3, (4096, 1))).astype(dtype)
        for name in ("cross_entropy", "mse_loss"):
            rows = x if name == "cross_entropy" else x[:, 0]
            target = rng.integers(0, 3, 4096) if name == "cross_entropy" else x[:, 1]
            total = CLASSES[name](reduction="sum")
            each = [Fraction(total(rows[i : i + 1], target[i : i + 1])) for i in range(4096)]
            drawn = rng.integers(0, 4096, n)
            exact = sum(v * int(k) for v, k in zip(each, np.bincount(drawn, minlength=4096), strict=True)) / n
            cells = []
            many = Problem(name, rows[drawn], target[drawn], {}, (), ())
            ours = fastloss.cross_entropy if name == "cross_entropy" else fastloss.mse_loss
            error = abs(Fraction(ours(many.x, many.target)) - exact)
            cells.append(f"{float(error) / float(bounds.ulp(float(exact), np.float64)):.2f}")
            if torch := optional("torch"):
                got = getattr(torch.nn.functional, name)(
                    torch.from_numpy(many.x), torch.from_numpy(many.target)
                )
                cells.append(f"{abs(float(got) / float(exact) - 1):.1e}")
            if (jax := optional("jax")) and (optax := optional("optax")):
                function = {
                    "cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
                    "mse_loss": optax.squared_error,
                }[name]
                got = function(jax.numpy.asarray(many.x), jax.numpy.asarray(many.target)).mean()
                cells.append(f"{abs(float(got) / float(exact) - 1):.1e}")
            lines.append(f"| {name}, {dtype} | {' | '.join(cells)} |")
    return lines


def machine() -> str:
    """What the numbers were measured on."""
    names = ("numpy", "torch", "jax", "optax", "scipy", "sklearn", "mpmath")
    versions = [f"{name} {module.__version__}" for name in names if (module := optional(name))]
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            cpu = line.partition(": ")[2]
            break
    today = datetime.date.today().isoformat()
    ours = f"{fastloss._kernels.active} kernels, fastloss {fastloss.__version__}"
    return f"{cpu}, {ours}, {', '.join(versions)}; {today}."


def write(folder: Path, part: str, lines: list[str]) -> None:
    """Replace one part of the page: what stands between its marks."""
    page = folder / "accuracy.md"
    text = page.read_text(encoding="utf-8") if page.exists() else "# Accuracy, measured\n"
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2].strip("\n")
    body = "\n".join([begin, "", *lines, "", end])
    folder.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before.rstrip()}\n\n{body}\n{after and chr(10) + after + chr(10)}", encoding="utf-8")
    print("\n".join(lines))


def add_options(parser: argparse.ArgumentParser) -> None:
    shared(parser, rows="", output=Path("docs"))


def main(options: argparse.Namespace) -> None:
    """Measure and write."""
    lines = [f"Written by `python -m bench accuracy`. {machine()}", "", *ABOUT.strip().splitlines()]
    for dtype in DTYPES:
        if dtype == "bfloat16" and optional("ml_dtypes") is None:
            continue
        lines += ["", f"## {dtype}", "", *table(dtype, options.rows)]
    if options.rows:
        print("\n".join(lines))
    else:
        write(options.output, "libraries", [*lines, "", "## Means", "", *sums()])
