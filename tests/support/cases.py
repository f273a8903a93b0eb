"""One table of losses for the tests that hold for all of them: inputs, and how to call them."""

from types import SimpleNamespace

import numpy as np
import pytest

import fastloss
from fastloss import reference

CLASSES = {
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "multinomial_nll_loss": "MultinomialNLLLoss",
    "focal_loss": "FocalLoss",
    "generalized_cross_entropy": "GeneralizedCrossEntropyLoss",
    "poly_loss": "PolyLoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "binary_cross_entropy": "BCELoss",
    "kl_div": "KLDivLoss",
    "mse_loss": "MSELoss",
    "sigmoid_focal_loss": "SigmoidFocalLoss",
    "soft_margin_loss": "SoftMarginLoss",
    "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss",
    "poisson_nll_loss": "PoissonNLLLoss",
    "gaussian_nll_loss": "GaussianNLLLoss",  # has a third argument, and tests of its own
}

WITH_OUT = ["logsumexp", "softmax", "log_softmax", "sigmoid", "logsigmoid"]
ARRAY_FUNCTIONS = [*WITH_OUT, "entropy", "entropy_from_logits"]

#: Function and variant; each variant is a different formula in the kernels.
VARIANTS = [
    "cross_entropy",
    "cross_entropy:weighted",
    "cross_entropy:smoothed",
    "cross_entropy:only smoothed",
    "cross_entropy:probabilities",
    "cross_entropy:probabilities smoothed",
    "nll_loss",
    "nll_loss:weighted",
    "multinomial_nll_loss",
    "multinomial_nll_loss:full",
    "cross_entropy:z_loss",
    "cross_entropy:softcap",
    "cross_entropy:smoothed z_loss softcap",
    "cross_entropy:probabilities z_loss softcap",
    "cross_entropy:scaled",
    "cross_entropy:vector",
    "cross_entropy:probabilities vector",
    "cross_entropy:smoothed scaled softcap",
    "multinomial_nll_loss:z_loss softcap",
    "multinomial_nll_loss:vector softcap",
    "focal_loss",
    "focal_loss:weighted",
    "focal_loss:rooted",
    "focal_loss:z_loss softcap",
    "focal_loss:scaled",
    "focal_loss:vector",
    "generalized_cross_entropy",
    "generalized_cross_entropy:weighted",
    "generalized_cross_entropy:z_loss softcap",
    "poly_loss",
    "poly_loss:weighted",
    "poly_loss:z_loss softcap",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits:weighted",
    "binary_cross_entropy",
    "binary_cross_entropy:weighted",
    "kl_div",
    "kl_div:log_target",
    "mse_loss",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss:alpha",
    "sigmoid_focal_loss:gamma",
    "soft_margin_loss",
    "multilabel_soft_margin_loss",
    "multilabel_soft_margin_loss:weighted",
    "poisson_nll_loss",
    "poisson_nll_loss:rate",
]
HEADS = ["focal_loss", "generalized_cross_entropy", "poly_loss"]  # functions of a label's cross-entropy
WITH_CLASSES = [v for v in VARIANTS if v.startswith(("cross", "nll", "multinomial", *HEADS))]
POINTWISE = [v for v in VARIANTS if v not in WITH_CLASSES]
INDEXED = [v for v in WITH_CLASSES if not v.startswith("multi") and "probabilities" not in v]
REDUCTIONS = ["mean", "sum", "none"]


def fixture_of(kinds):
    """A fixture that gives each of some dtypes."""

    def kind(request):
        return request.param

    return pytest.fixture(params=kinds, ids=lambda kind: getattr(kind, "__name__", str(kind)))(kind)


def reductions(variant):
    return [*REDUCTIONS, "batchmean"] if variant.startswith("kl_div") else REDUCTIONS


#: Every loss with each of its reductions.
REDUCED = [(variant, reduction) for variant in VARIANTS for reduction in reductions(variant)]


def make(variant, rng, shape, dtype=np.float64, axis=1, spread=3.0, ignored=0.0):
    """Input, target and options of a loss, and the shape of its value, from a seeded generator.

    All arrays hold numbers of ``dtype``, so that a reference in float64 starts from the same ones.
    ``ignored`` is the share of index targets that are ignored.
    """
    name, _, kind = variant.partition(":")
    x = (spread * rng.standard_normal(shape)).astype(dtype)
    options = {}
    value_shape = shape
    if variant in WITH_CLASSES:
        axis %= len(shape)
        classes = shape[axis]
        value_shape = shape[:axis] + shape[axis + 1 :]
        options["axis"] = axis
        if kind in ("weighted", "smoothed", "probabilities smoothed"):
            options["weight"] = (0.1 + rng.random(classes)).astype(dtype)
        if "z_loss" in kind:
            options["z_loss"] = 0.125
        if "softcap" in kind:
            options["softcap"] = 4.0
        if "scaled" in kind:
            options["scale"] = 0.75
        if "vector" in kind:
            options["scale"] = (0.5 + rng.random(classes)).astype(dtype)
            options["bias"] = rng.standard_normal(classes).astype(dtype)
        if kind == "rooted":
            options["gamma"] = 0.5
        if "smoothed" in kind:
            options["label_smoothing"] = 0.125
    if variant in INDEXED:
        target = np.asarray(rng.integers(0, classes, value_shape))
        target = np.where(rng.random(value_shape) < ignored, -100, target)
        if name == "nll_loss":
            x = reference.log_softmax(x, axis).astype(dtype)
    elif name == "cross_entropy":
        target = reference.softmax(2 * rng.standard_normal(shape), axis).astype(dtype)
    elif name == "multinomial_nll_loss":
        target = rng.integers(0, 4, shape).astype(dtype)
        options["full"] = kind == "full"
    elif name == "kl_div":
        options["log_target"] = kind == "log_target"
        target = reference.softmax(2 * rng.standard_normal(shape), -1) * (rng.random(shape) < 0.9)
        total = target.sum(-1, keepdims=True)
        target = np.where(total > 0, target / np.where(total > 0, total, 1), 1 / max(1, shape[-1]))
        if kind == "log_target":
            target = -3 * rng.random(shape)
        x = -np.abs(x)
    elif name == "mse_loss":
        target = rng.standard_normal(shape)
    elif name == "soft_margin_loss":
        target = rng.choice([-1.0, 1.0], shape)
    elif name == "poisson_nll_loss":
        target = rng.poisson(3.0, shape).astype(np.float64)
        options["log_input"], options["full"] = kind != "rate", kind == "rate"
        x = np.abs(x) if kind == "rate" else x
    else:
        target = rng.choice([0.0, 1.0, 0.25, 0.7], shape)
        if name == "binary_cross_entropy":
            x = (0.02 + 0.96 * reference.sigmoid(x)).astype(dtype)
        if kind == "weighted":
            options["weight"] = (0.1 + rng.random(shape[-1:])).astype(dtype)
            if name == "binary_cross_entropy_with_logits":
                options["pos_weight"] = (0.1 + 2 * rng.random(shape[-1:])).astype(dtype)
        if name == "sigmoid_focal_loss":
            options |= {"": {}, "alpha": {"alpha": 0.25}, "gamma": {"gamma": 1.5}}[kind]
        if name.startswith("multilabel"):
            value_shape = shape[:-1]
    target = np.asarray(target)
    if target.dtype.kind == "f":
        target = target.astype(dtype)
    return SimpleNamespace(name=name, input=x, target=target, options=options, value_shape=value_shape)


def loss(name, **options):
    """The loss object of a function's name."""
    return getattr(fastloss, CLASSES[name])(**options)


def unchecked(name):
    """The option of a loss by which it takes any target, if it has one."""
    return {"unchecked": True} if "unchecked" in loss(name).options() else {}


def free(name, **options):
    """The loss object of a function's name, which takes any target."""
    return loss(name, **unchecked(name), **options)


def run(case, reduction="mean", **arguments):
    """Value and gradient by the package."""
    made = loss(case.name, **case.options, reduction=reduction)
    return made.value_and_grad(case.input, case.target, **arguments)


def run_second(case, reduction="mean", **arguments):
    """Value, gradient and the Hessian's diagonal by the package."""
    made = loss(case.name, **case.options, reduction=reduction)
    return made.value_grad_hess(case.input, case.target, **arguments)


def refer(case, reduction="mean", **arguments):
    """Value and gradient, and with `hessian` the Hessian's diagonal, by the reference."""
    function = getattr(reference, case.name)
    return function(case.input, case.target, **case.options, reduction=reduction, **arguments)


def same_bits(a, b):
    """Equal in every bit, NaN payloads and the sign of zero aside."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


# Arrays with the same numbers in another place.


def strided(a):
    big = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    view = big[(*(slice(1, 2 * n + 1, 2) for n in a.shape), ...)]
    view[...] = a
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def misaligned(a):
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = np.ndarray(a.shape, a.dtype, memory, offset=1)
    view[...] = a
    return view


def classes_moved(a, axis):
    """Whether the class axis stands elsewhere in memory, the samples in order: then it is read there."""
    in_order = (np.moveaxis(a, axis, place).flags.c_contiguous for place in range(a.ndim))
    return not a.flags.c_contiguous and any(in_order)


LAYOUTS = {
    "strided": strided,
    "read-only": read_only,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "misaligned": misaligned,
    "Fortran order": np.asfortranarray,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "subclass": lambda a: a.view(np.memmap) if a.ndim else a,
}
