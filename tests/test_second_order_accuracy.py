"""Second derivatives against 50-digit truths, on inputs chosen to hurt."""

import functools
import itertools

import mpmath as mp
import numpy as np
import pytest

from fastloss import bounds
from tests.support import hard, oracle
from tests.support.cases import fixture_of
from tests.support.cases import free as loss
from tests.support.oracle import assert_within

DTYPES = [np.float32, np.float64]
dtype = fixture_of(DTYPES)


# ----------------------------------------------------------------------- exact derivatives, to 50 digits

#: Losses of a label, and options of the losses of softmax.
LABEL_LOSSES = [
    ("cross_entropy", {}),
    ("cross_entropy", {"z_loss": 3.0}),
    ("cross_entropy", {"softcap": 2.0, "z_loss": 0.1}),
    ("focal_loss", {"gamma": 2.0, "z_loss": 0.5}),
    ("focal_loss", {"gamma": 0.5}),
    ("generalized_cross_entropy", {"q": 0.7}),
    ("poly_loss", {"epsilon": -1.0}),
    *(("focal_loss", {"gamma": gamma}) for gamma in (0.0, 1.0, 2.0, 2.5, 40.0)),
    *(("generalized_cross_entropy", {"q": q}) for q in (1e-9, 1.0)),
    *(("poly_loss", {"epsilon": epsilon}) for epsilon in (1.0, 1e4, -1e4)),
    ("cross_entropy", {"softcap": 30.0}),
    ("cross_entropy", {"softcap": 1e4}),
    ("generalized_cross_entropy", {"q": 0.7, "softcap": 5.0}),
]
WIDE = (0, 2, 3, 5)  # of these also many classes
IDS = [f"{name}-{options}" for name, options in LABEL_LOSSES]


@functools.cache
def rows(classes, dtype):
    x = hard.adversarial_rows(dtype)[:, :classes]
    x = np.concatenate([x[:26], x[26::3]])  # fewer of those that are drawn
    return x[np.isfinite(x).any(1)]


@functools.cache
def exact_rows(classes, dtype, softcap=None):
    return [oracle.Row(x) if softcap is None else oracle.CappedRow(x, softcap) for x in rows(classes, dtype)]


def hessians(classes, dtype, c, softcap=None, **options):
    exact = exact_rows(classes, dtype, softcap)
    return [oracle.Hessian(row, k, **options) for row, k in zip(exact, c, strict=True)]


@functools.cache
def labels_and_truth(at, classes, dtype, likely):
    """Labels, the Hessians of their losses, their diagonals and those of "bound"."""
    x, (name, options) = rows(classes, dtype), LABEL_LOSSES[at]
    t = x.argmax(1) if likely else np.where(np.isfinite(x), x, np.inf).argmin(1)
    found = hessians(classes, dtype, np.arange(classes) == t[:, None], name=name, **options)
    return t, found, *(oracle.array([h.diagonal(most) for h in found]) for most in (False, True))


def row_bounds(name, x, target, dtype, **options):
    return bounds.loss(name, x, target, dtype=dtype, reduction="none", axis=-1, **options)


@pytest.mark.parametrize("likely", [True, False], ids=["confident", "hopeless"])
@pytest.mark.parametrize(
    ("at", "classes"), [*((at, 10) for at in range(len(IDS))), *((at, hard.WIDTH) for at in WIDE)]
)
def test_losses_of_a_label(at, classes, likely, dtype, layout, isa):
    t, _, exact, most = labels_and_truth(at, classes, dtype, likely)
    arrange, axis, read = layout
    name, options = LABEL_LOSSES[at]
    x, made = rows(classes, dtype), loss(name, reduction="none", axis=axis, **options)
    for hessian, truth in (("exact", exact), ("bound", 2 * most)):
        hess = made.value_grad_hess(arrange(x), t, hessian=hessian)[2]
        allowed = row_bounds(name, x, t, dtype, hessian=hessian, **options).hess
        assert hess.dtype == dtype
        assert_within(read(hess), np.maximum(truth, mp.mpf(0)), allowed, dtype)


@functools.cache
def soft_truth(classes, dtype, kind):
    x, rng, given = rows(classes, dtype), np.random.default_rng(10), {}
    target = np.where(np.isfinite(x), rng.dirichlet(np.ones(classes), len(x)), 0).astype(dtype)
    if kind == "counts":
        target = (np.isfinite(x) * rng.integers(0, 5, x.shape)).astype(dtype)
    if kind == "smoothed":
        target, given = x.argmin(1), {"label_smoothing": 0.125, "weight": 0.1 + rng.random(classes)}
        given["weight"] = given["weight"].astype(dtype)
    c = oracle.coefficients(target, x.shape, -1, **given)
    options = {"softcap": 9.0} if kind == "counts" else {"z_loss": 0.25} if kind == "probabilities" else {}
    found = hessians(classes, dtype, np.where(np.isfinite(x), c, 0) if kind == "smoothed" else c, **options)
    return target, {**options, **given}, oracle.array([h.diagonal() for h in found])


@pytest.mark.parametrize("classes", [3, 10, hard.WIDTH])
@pytest.mark.parametrize("kind", ["probabilities", "counts", "smoothed"])
def test_losses_of_coefficients(kind, classes, dtype, layout, isa):
    target, options, truth = soft_truth(classes, dtype, kind)
    arrange, axis, read = layout
    name = "multinomial_nll_loss" if kind == "counts" else "cross_entropy"
    x = rows(classes, dtype)
    masked = ~np.isfinite(x).all(1) if kind == "smoothed" else np.zeros(len(x), bool)  # whose loss is inf
    given = target if target.ndim == 1 else arrange(target)
    made = loss(name, reduction="none", axis=axis, **options)
    hess = read(made.value_grad_hess(arrange(x), given)[2])
    allowed = row_bounds(name, x, target, dtype, hessian="exact", **options).hess
    assert_within(hess[~masked], np.maximum(truth, mp.mpf(0))[~masked], allowed[~masked], dtype)
    assert (hess[np.isneginf(x)] == 0).all()


POINTS = [
    ("binary_cross_entropy_with_logits", "hard", {}),
    ("binary_cross_entropy_with_logits", "soft", {}),
    ("binary_cross_entropy", "probabilities", {}),
    ("kl_div", "kl", {}),
    ("mse_loss", "real", {}),
    *(
        ("sigmoid_focal_loss", "hard", {"gamma": g, "alpha": a})
        for g, a in ((0, 0.25), (0.5, None), (5, None))
    ),
    *(("sigmoid_focal_loss", "soft", {"gamma": g, "alpha": a}) for g, a in ((2, 0.25), (1.5, None))),
    ("sigmoid_focal_loss", "hard", {"gamma": 2.0}),
    ("soft_margin_loss", "signs", {}),
    ("soft_margin_loss", "real", {}),
    ("poisson_nll_loss", "counts", {}),
    ("poisson_nll_loss", "rates", {"log_input": False}),
]


@functools.cache
def point_truth(name, kind, dtype, options):
    x, y = (a[::13] for a in hard.pairs(kind, dtype))
    pairs = zip(x, y, strict=True)
    found = [oracle.curve(name, mp.mpf(float(a)), mp.mpf(float(b)), **dict(options)) for a, b in pairs]
    return x, y, np.maximum(oracle.array(found), mp.mpf(0))


@pytest.mark.parametrize(("name", "kind", "options"), POINTS)
def test_losses_of_one_element(name, kind, options, dtype, isa):
    x, y, truth = point_truth(name, kind, dtype, tuple(options.items()))
    made = loss(name, reduction="none", **options)
    hess = made.value_grad_hess(x, y)[2]
    allowed = bounds.loss(name, x, y, dtype=dtype, reduction="none", hessian="exact", **options).hess
    assert_within(hess, truth, allowed, dtype)


def test_truth_against_numeric_derivatives():
    """The oracle's Hessians of softmax, entry by entry, against derivatives of the losses' definitions."""
    rng = np.random.default_rng(3)
    for (name, options), t in itertools.product(LABEL_LOSSES[:7], range(3)):
        x, cap = 3 * rng.standard_normal(3), options.get("softcap")
        z_loss = mp.mpf(options.get("z_loss", 0))
        parameter = {k: v for k, v in options.items() if k in ("gamma", "q", "epsilon")}

        def of(*x, name=name, t=t, cap=cap, z_loss=z_loss, parameter=parameter):
            x = [cap * mp.tanh(v / cap) if cap else v for v in x]
            s = mp.log(mp.fsum(map(mp.exp, x)))
            return oracle.PHI[name](s - x[t], **parameter) + z_loss * s * s

        row = oracle.CappedRow(x, cap) if cap else oracle.Row(x)
        found = oracle.Hessian(row, np.arange(3) == t, z_loss=z_loss, name=name, **parameter)
        for i, j in itertools.product(range(3), repeat=2):
            order = tuple((i == k) + (j == k) for k in range(3))
            numeric = mp.diff(of, [mp.mpf(float(v)) for v in x], order)
            assert abs(found.entry(i, j) - numeric) < mp.mpf(10) ** -40


@pytest.mark.parametrize("likely", [True, False], ids=["confident", "hopeless"])
@pytest.mark.parametrize("at", range(len(IDS)), ids=IDS)
def test_products_with_whole_hessians(at, likely, dtype, layout, isa):
    """Random vectors of any size, and those that leave one column, of the likeliest class or the label."""
    x, (name, options) = rows(5, dtype), LABEL_LOSSES[at]
    arrange, axis, read = layout
    t, v, wanted = products(at, dtype, likely)
    product = loss(name, reduction="sum", axis=axis, **options).hessp(arrange(x), t, arrange(v))
    allowed = bounds.hessp(name, x, t, v, dtype=dtype, reduction="sum", axis=-1, **options)
    assert product.dtype == dtype
    assert_within(read(product), wanted, allowed, dtype)


@functools.cache
def products(at, dtype, likely):
    t, found, _, _ = labels_and_truth(at, 5, dtype, likely)
    x, rng = rows(5, dtype), np.random.default_rng(6)
    v = rng.standard_normal(x.shape) * 10 ** rng.uniform(-3, 3, x.shape)
    v[::3] = np.eye(5)[x[::3].argmax(1)]
    v[1::3] = np.eye(5)[t[1::3]]
    v = v.astype(dtype)
    return t, v, oracle.array([h.times(u) for h, u in zip(found, v, strict=True)])
