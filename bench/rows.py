"""The rows of the comparison: what is computed, on which arrays, by whom, and how fast it is meant to be.

a) `ROWS` is the table of rows with their targets; `Case` holds the arrays of one of them.
b) `PEERS` are the libraries. Each makes its calls for a case: "value"; "gradient", value and gradient in
   fresh memory; "in place", which fills an array that exists. It leaves out what it has no form of.
c) `agree` compares the results of two libraries, so that a wrong form cannot be timed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastloss
from fastloss import reference
from fastloss._report import optional
from fastloss.losses import CLASSES

Array = NDArray[Any]
Call = Callable[[], Any]
Calls = dict[str, Call]

COMPILED = ("compile", "JAX")

# what the targets of a row are about: share of the limit, or times faster than a peer or all of `COMPILED`
_OF_A_LOSS = (("value", "limit"), ("in place", "limit"), ("value", "compiled"), ("gradient", "compiled"))
_OF_AN_ARRAY_FUNCTION = (("in place", "limit"), ("in place", "compiled"))
_OF_A_SMALL_CALL = (("value", "PyTorch"), ("gradient", "PyTorch"), ("value", "JAX"), ("gradient", "JAX"))


class Goal(NamedTuple):
    """At least this share of the limit, or this many times faster."""

    quantity: str
    against: str
    at_least: float


@dataclass(frozen=True)
class Row:
    """One function on arrays of one shape, with class axis 1; 0 is no target."""

    function: str
    shape: tuple[int, ...]
    target: str  # labels, probabilities, log-probabilities, numbers or 0 and 1; empty for an array function
    targets: tuple[float, ...] = ()
    dtype: str = "float32"
    smoothing: float = 0.0
    weighted: bool = False

    @property
    def name(self) -> str:
        """Function, shape and what else there is."""
        short = self.function.replace("binary_cross_entropy", "bce").replace("mse_loss", "mse")
        size = f"{self.shape[0] >> 20}M" if len(self.shape) == 1 else "×".join(f"{n:,}" for n in self.shape)
        smoothing = f"label smoothing {self.smoothing}" * bool(self.smoothing)
        weights = "class weights" * self.weighted
        target, dtype = (
            self.target * (self.target not in ("labels", "numbers")),
            self.dtype * (self.dtype != "float32"),
        )
        return ", ".join(filter(None, [f"{short} {size}", target, smoothing, weights, dtype]))

    @property
    def small(self) -> bool:
        """Whether what counts is the call rather than the array."""
        return math.prod(self.shape) < 1000

    @property
    def quantities(self) -> tuple[str, ...]:
        """What is timed."""
        return ("value", "gradient", "in place") if self.target else ("value", "in place")

    @property
    def compared(self) -> tuple[str, ...]:
        """In what peers are compared: array functions with `out`, for without it page faults are timed."""
        return ("value", "gradient") if self.target else ("in place",)

    @property
    def limits(self) -> dict[str, str]:
        """What bounds a quantity: reading all arrays, or a copy, which writes one of the input's size too."""
        if self.target:
            return {"value": "read", "in place": "copy"}
        return {"in place": "read" if self.function == "logsumexp" else "copy"}

    @property
    def goals(self) -> list[Goal]:
        """The targets with their meanings."""
        of = _OF_A_LOSS if self.target else _OF_AN_ARRAY_FUNCTION
        about = zip(_OF_A_SMALL_CALL if self.small else of, self.targets, strict=False)
        return [Goal(*what, at_least) for what, at_least in about if at_least]


_CE, _BCE_WITH_LOGITS, _BCE = "cross_entropy", "binary_cross_entropy_with_logits", "binary_cross_entropy"
_M16 = (2**24,)

ROWS = (
    Row(_CE, (65536, 10), "labels", (0, 0, 3, 2.5)),
    Row(_CE, (65536, 2), "labels", (0, 0, 3, 2.5)),
    Row(_CE, (65536, 3), "labels", (0, 0, 3, 2.5)),
    Row(_CE, (16384, 1000), "labels", (0.85, 0.75, 1.5, 3)),
    Row(_CE, (512, 128256), "labels", (0.85, 0.75, 1.5, 3)),
    Row(_CE, (8, 19, 512, 1024), "labels", (0.75, 0.65, 1.5, 2)),
    Row(_CE, (16384, 1000), "probabilities", (0.8, 0.7, 1.5, 2.5)),
    Row(_CE, (16384, 1000), "labels", (0.8, 0.7, 1.5, 2.5), smoothing=0.1),
    Row(_CE, (16384, 1000), "labels", (0.8, 0.7, 1.5, 2.5), weighted=True),
    Row("log_softmax", (16384, 1000), "", (0.75, 1.2)),
    Row("softmax", (16384, 1000), "", (0.75, 1.2)),
    Row("logsumexp", (16384, 1000), "", (0.85, 1.3)),
    Row(_BCE_WITH_LOGITS, _M16, "numbers", (0.8, 0.75, 1.3, 2)),
    Row(_BCE, _M16, "numbers", (0.8, 0.75, 1.2, 1.5)),
    Row(_BCE, _M16, "0 and 1"),  # as numbers are, without a target of its own
    Row("mse_loss", _M16, "numbers", (0.8, 0.75, 1.2, 1.5)),
    Row("sigmoid", _M16, "", (0.8, 1.2)),
    Row("logsigmoid", _M16, "", (0.8, 1.2)),
    Row("kl_div", (4096, 32000), "probabilities", (0.8, 0.75, 1.3, 2)),
    Row("kl_div", (4096, 32000), "log-probabilities", (0.8, 0.75, 1.3, 2)),
    # the share of float32, less ten points where exponentials and not the memory are the cost
    Row(_CE, (16384, 1000), "labels", (0.75,), "float64"),
    Row(_BCE_WITH_LOGITS, _M16, "numbers", (0.7,), "float64"),
    Row("mse_loss", _M16, "numbers", (0.8,), "float64"),
    Row("sigmoid", _M16, "", (0.7,), "float64"),
    Row(_CE, (32, 10), "labels", (3, 8, 1, 1)),
    Row(_CE, (1, 10), "labels", (3, 8, 1, 1)),
)


class Case:
    """The arrays of a row, all of them written, so that no timed call meets a page for the first time."""

    def __init__(self, row: Row) -> None:
        rng = np.random.default_rng(30)
        kind = np.dtype(row.dtype).type
        x = rng.standard_normal(row.shape, kind)
        if row.function == _BCE:
            x = rng.random(row.shape, kind) * kind(0.998) + kind(0.001)
        elif row.function == "kl_div":
            fastloss.log_softmax(x.copy(), out=x)
        target = None
        if row.target == "labels":
            target = rng.integers(0, row.shape[1], (row.shape[0], *row.shape[2:]))
        elif row.target == "numbers":
            target = rng.random(row.shape, kind)
        elif row.target == "0 and 1":
            target = rng.integers(0, 2, row.shape).astype(kind)
        elif row.target:
            function = fastloss.log_softmax if "log" in row.target else fastloss.softmax
            target = function(rng.standard_normal(row.shape, kind))
        self.row, self.x, self.target = row, x, target
        self.inputs: list[Array] = [x] if target is None else [x, target]  # what the value has to read
        self.result = np.ones_like(x[:, 0] if row.function == "logsumexp" else x)
        self.weight = rng.random(row.shape[1], kind) + kind(0.5) if row.weighted else None
        self.options: dict[str, Any] = {}  # of the loss, named alike in fastloss and PyTorch
        if row.smoothing:
            self.options["label_smoothing"] = row.smoothing
        if row.weighted:
            self.options["weight"] = self.weight
        if row.function == "kl_div":
            # the mean over rows, as in optax; PyTorch's "mean" divides by the elements and warns
            self.options |= {"reduction": "batchmean", "log_target": "log" in row.target}
        # the argument that names the class axis of an array function
        self.axis = {"axis": 1} if not row.target and x.ndim > 1 else {}


def use_threads(n: int) -> None:
    """Leave this process n CPUs and as many threads; JAX has no other setting, and reads it at its start."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n])
    os.environ["JAX_PLATFORMS"] = "cpu"
    fastloss.set_num_threads(n)


def agree(expected: Any, found: Any) -> bool:
    """Whether two values, or pairs of value and gradient, are the same but for rounding.

    A gradient is compared up to a factor: scikit-learn's is the one of the sum.
    """
    pairs = [
        [np.asarray(a.detach() if hasattr(a, "detach") else a) for a in pair]
        for pair in zip(*(r if isinstance(r, tuple) else (r,) for r in (expected, found)), strict=True)
    ]
    for position, (ours, theirs) in enumerate(pairs):
        if ours.shape != theirs.shape:
            return False
        largest = np.unravel_index(np.abs(ours).argmax(), ours.shape)
        factor = ours[largest] / theirs[largest] if position else 1
        if not np.abs(theirs * factor - ours).max() <= (1e-5 if ours.ndim else 1e-4) * abs(ours[largest]):
            return False
    return True


def _fastloss(case: Case) -> Calls:
    if case.target is None:
        function = partial(getattr(fastloss, case.row.function), case.x, **case.axis)
        return {"value": function, "in place": partial(function, out=case.result)}
    loss = CLASSES[case.row.function](**case.options)
    return {
        "value": partial(loss, case.x, case.target),
        "gradient": partial(loss.value_and_grad, case.x, case.target),
        "in place": partial(loss.value_and_grad, case.x, case.target, grad_out=case.result),
    }


def _numpy(case: Case) -> Calls:
    function = getattr(reference, case.row.function)
    if case.target is None:
        return {"value": partial(function, case.x, **case.axis)}
    return {"gradient": partial(function, case.x, case.target, **case.options)}


def _scipy(case: Case) -> Calls:
    special = optional("scipy.special")
    x, target, row, n = case.x, case.target, case.row, case.x.shape[0]

    def cross_entropy() -> Any:
        log_p = special.log_softmax(x, axis=1)
        if row.target == "probabilities":
            return -np.vdot(target, log_p) / n
        loss = -np.take_along_axis(log_p, np.expand_dims(target, 1), 1).squeeze(1)
        if row.smoothing:
            loss = (1 - row.smoothing) * loss - row.smoothing * log_p.mean(axis=1)
        return np.average(loss, weights=None if case.weight is None else case.weight[target])

    functions: dict[str, Callable[..., Any]] = {
        "cross_entropy": cross_entropy,
        "logsumexp": lambda: special.logsumexp(x, axis=1),
        "softmax": lambda: special.softmax(x, axis=1),
        "log_softmax": lambda: special.log_softmax(x, axis=1),
        "sigmoid": partial(special.expit, x),
        "logsigmoid": partial(special.log_expit, x),
        _BCE_WITH_LOGITS: lambda: (
            -np.mean(target * special.log_expit(x) + (1 - target) * special.log_expit(-x))
        ),
        _BCE: lambda: -np.mean(special.xlogy(target, x) + special.xlog1py(1 - target, -x)),
        "kl_div": lambda: special.rel_entr(target, np.exp(x)).sum() / n,
    }
    if row.function not in functions or row.target == "log-probabilities":
        return {}
    call = functions[row.function]
    ufunc = isinstance(call, partial)
    return {"value": call, "in place": partial(call, out=case.result)} if ufunc else {"value": call}


def _sklearn(case: Case) -> Calls:
    losses = optional("sklearn._loss.loss")
    row, x, target = case.row, case.x, case.target
    if row.function == "cross_entropy" and row.target == "labels" and x.ndim == 2 and not row.smoothing:
        loss = losses.HalfMultinomialLoss(n_classes=x.shape[1])
    elif row.function in (_BCE_WITH_LOGITS, "mse_loss"):
        loss = losses.HalfBinomialLoss() if row.function == _BCE_WITH_LOGITS else losses.HalfSquaredError()
    else:
        return {}
    weights = None if case.weight is None else case.weight[target]
    divisor = len(x) if weights is None else weights.sum(dtype=np.float64)
    divisor /= 2 if row.function == "mse_loss" else 1  # its squared error is half of the others'
    y = target.astype(x.dtype)
    given = {
        "sample_weight": weights,
        "loss_out": np.ones_like(y),
        "n_threads": fastloss.get_num_threads(),
    }

    def gradient(out: Array | None = None) -> Any:
        values, grad = loss.loss_gradient(y, x, gradient_out=out, **given)
        return values.sum() / divisor, grad

    return {
        "value": lambda: loss.loss(y, x, **given).sum() / divisor,
        "gradient": gradient,
        "in place": partial(gradient, case.result),
    }


def _torch_function(case: Case) -> tuple[Callable[..., Any], list[Any]]:
    """The function and its tensors, which need no gradient: the value is computed as under no_grad."""
    torch = optional("torch")
    torch.set_num_threads(fastloss.get_num_threads())
    functional, name = torch.nn.functional, case.row.function
    options = {k: torch.from_numpy(v) if k == "weight" else v for k, v in case.options.items()}
    home = functional if case.row.target or name == "logsigmoid" else torch
    function = partial(getattr(home, name), **options, **({"dim": 1} if case.axis else {}))
    return function, [torch.from_numpy(a) for a in case.inputs]


def _torch(case: Case) -> Calls:
    torch = optional("torch")
    function, (x, *target) = _torch_function(case)
    value = partial(function, x, *target)
    if not target:
        return {"value": value, "in place": partial(function, x, out=torch.from_numpy(case.result))}
    leaf = x.detach().requires_grad_()

    def gradient() -> Any:
        loss = function(leaf, *target)
        return loss, *torch.autograd.grad(loss, leaf)

    return {"value": value, "gradient": gradient}


def _compile(case: Case) -> Calls:
    torch = optional("torch")
    function, tensors = _torch_function(case)
    torch.compiler.reset()  # or the rows would count as recompilations, and the ninth would run uncompiled
    compiled = partial(torch.compile, dynamic=False)

    def loss(*tensors: Any) -> Any:
        return function(*tensors)

    value = partial(compiled(loss), *tensors)
    if not case.row.target:
        fill = compiled(lambda x, out: out.copy_(function(x)))  # written once: the copy is fused
        return {"value": value, "in place": partial(fill, *tensors, torch.from_numpy(case.result))}
    # One graph for forward and backward was the faster form in every family, beside autograd.grad through the
    # compiled loss: 2.1 and 4.7 ms for cross_entropy 4,096×1,000, 0.9 and 1.7 for 65,536×10, 4.2 and 4.7 for
    # 8×19×128×256; 3.2 and 4.6 for bce_with_logits 4M; 1.9 and 2.5 for kl_div 512×8,000.
    both = compiled(torch.func.grad_and_value(loss))
    return {"value": value, "gradient": lambda: both(*tensors)[::-1]}


def _jax(case: Case) -> Calls:
    jax, jnp, optax = optional("jax"), optional("jax.numpy"), optional("optax")
    jax.config.update("jax_enable_x64", case.row.dtype == "float64")
    row, nn, weight = case.row, jax.nn, case.weight

    def cross_entropy(x: Any, target: Any) -> Any:
        if row.smoothing:
            target = optax.smooth_labels(nn.one_hot(target, row.shape[1]), row.smoothing)
        if row.smoothing or row.target == "probabilities":
            return optax.softmax_cross_entropy(x, target, axis=1).mean()
        loss = optax.softmax_cross_entropy_with_integer_labels(x, target, axis=1)
        return jnp.average(loss, weights=None if weight is None else jnp.asarray(weight)[target])

    def binary_cross_entropy(p: Any, y: Any) -> Any:  # optax has only the one with logits
        return -(y * jnp.maximum(jnp.log(p), -100) + (1 - y) * jnp.maximum(jnp.log1p(-p), -100)).mean()

    divergence = optax.losses.kl_divergence
    if row.target == "log-probabilities":
        divergence = optax.losses.kl_divergence_with_log_targets
    functions: dict[str, Callable[..., Any]] = {
        "cross_entropy": cross_entropy,
        "logsumexp": lambda x: nn.logsumexp(x, 1),
        "softmax": lambda x: nn.softmax(x, 1),
        "log_softmax": lambda x: nn.log_softmax(x, 1),
        "sigmoid": nn.sigmoid,
        "logsigmoid": nn.log_sigmoid,
        _BCE_WITH_LOGITS: lambda x, y: optax.sigmoid_binary_cross_entropy(x, y).mean(),
        _BCE: binary_cross_entropy,
        "mse_loss": lambda x, y: optax.squared_error(x, y).mean(),
        "kl_div": lambda x, y: divergence(x, y).mean(),
    }
    function, arrays = functions[row.function], [jnp.asarray(a) for a in case.inputs]
    value, both = jax.jit(function), jax.jit(jax.value_and_grad(function))

    def gradient() -> Any:
        result = both(*arrays)
        result[1].block_until_ready()
        return result

    calls: Calls = {"value": lambda: value(*arrays).block_until_ready()}
    return calls | {"gradient": gradient} if row.target else calls


class Peer(NamedTuple):
    """A library: the modules without which it is left out, and what makes its calls."""

    modules: tuple[str, ...]
    build: Callable[[Case], Calls]

    @property
    def missing(self) -> str:
        """The modules that are not installed."""
        return ", ".join(module for module in self.modules if optional(module) is None)

    def calls(self, case: Case) -> Calls:
        """Its calls for the quantities of the row; what cannot fill an array makes one instead."""
        calls = self.build(case)
        if not case.row.target and "value" in calls:
            calls.setdefault("in place", calls["value"])
        return {quantity: calls[quantity] for quantity in case.row.quantities if quantity in calls}


FASTLOSS = Peer((), _fastloss)
PEERS = {
    "NumPy": Peer((), _numpy),
    "scipy": Peer(("scipy",), _scipy),
    "scikit-learn": Peer(("sklearn",), _sklearn),
    "PyTorch": Peer(("torch",), _torch),
    "compile": Peer(("torch",), _compile),
    "JAX": Peer(("jax", "optax"), _jax),
}
