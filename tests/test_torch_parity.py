"""Values and gradients of PyTorch, over every combination of options and PyTorch's own samples.

Where PyTorch gives nan and the contract a number, PyTorch is not asked.
"""

import itertools

import numpy as np
import pytest

import fastloss
from tests.support.cases import REDUCTIONS, loss, unchecked

torch = pytest.importorskip("torch", reason="needs PyTorch")
functional = torch.nn.functional

DTYPES = [np.float32, np.float64]
# 2 kl_div warnings of PyTorch about its own defaults
pytestmark = pytest.mark.filterwarnings("ignore:reduction:UserWarning")


def tensor(a):
    return torch.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a


def close(got, wanted, dtype, terms=1.0, what=""):
    """Both round: a few ulp at the size of what was added up, ``terms``.

    PyTorch subtracts logsumexp and logits at their own size, and adds sums in the input's dtype.
    """
    got, wanted = np.asarray(got, np.float64), wanted.detach().double().numpy()
    assert got.shape == wanted.shape
    allowed = 32 * np.finfo(dtype).eps * np.maximum(np.abs(wanted), terms)
    equal = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    with np.errstate(invalid="ignore"):
        assert (equal | (np.abs(got - wanted) <= allowed)).all(), (what, got, wanted)


def compare(name, x, target, options, terms=None, grad=True):
    """One call of both with all options, the gradient of a random multiple of the value too."""
    mine = {**options, **unchecked(name)}  # PyTorch looks at no target
    torch_options = {k: tensor(v) for k, v in options.items() if k != "axis"}
    leaf = torch.tensor(x, requires_grad=grad)
    wanted = getattr(functional, name)(leaf, tensor(target), **torch_options)
    rng = np.random.default_rng(1)
    scale = rng.standard_normal(wanted.shape).astype(x.dtype)
    made = loss(name, **mine)
    value, slope = made.value_and_grad(x, target, grad_output=scale)
    size = max(1.0, float(np.max(np.abs(x), initial=0)))
    if options.get("reduction") == "sum":
        size *= max(1, x.size)
    close(value, wanted, x.dtype, size if terms is None else terms, (name, options))
    close(
        getattr(fastloss, name)(x, target, **mine),
        wanted,
        x.dtype,
        size if terms is None else terms,
    )
    if grad:
        (wanted * torch.from_numpy(scale)).sum().backward()
        largest = float(np.max(np.abs(scale), initial=1))
        close(slope, leaf.grad, x.dtype, largest, (name, options))


SHAPES = [(5,), (4, 5), (3, 70), (3, 5, 2), (2, 3, 4, 2)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy(reduction, dtype, rng, isa):
    for shape, weighted, eps, kind in itertools.product(
        SHAPES, [False, True], [0.0, 0.1, 1.0], ["labels", "some ignored", "class 1", "soft"]
    ):
        axis = min(1, len(shape) - 1)
        classes = shape[axis]
        x = (4 * rng.standard_normal(shape)).astype(dtype)
        options = {"reduction": reduction, "label_smoothing": eps}
        if weighted:
            options["weight"] = (0.1 + rng.random(classes)).astype(dtype)
        batch = shape[:axis] + shape[axis + 1 :]
        target = np.asarray(rng.integers(0, classes, batch))
        if kind == "soft":
            target = fastloss.softmax(rng.standard_normal(shape).astype(dtype), axis)
        elif kind == "some ignored":
            target = np.where(rng.random(batch) < 0.3, -100, target)
            target.flat[0] = 0
        elif kind == "class 1":
            options["ignore_index"] = 1
            target.flat[0] = 0
        compare("cross_entropy", x, target, options)


def by_autograd(name, x, target, options):
    """Mean loss and gradient by PyTorch's autograd, in float64."""
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    cap, z = options.get("softcap"), options.get("z_loss", 0.0)
    logits = cap * torch.tanh(leaf / cap) if cap else leaf
    labels = isinstance(target, np.ndarray) and target.dtype.kind == "i"
    ignore = {"ignore_index": -100} if labels else {}
    smoothing = options.get("label_smoothing", 0.0)
    ce = functional.cross_entropy(
        logits, tensor(target), reduction="none", label_smoothing=smoothing, **ignore
    )
    p = torch.exp(-ce)
    if name == "focal_loss":
        ce = (1 - p) ** options["gamma"] * ce
    elif name == "generalized_cross_entropy":
        ce = (1 - p ** options["q"]) / options["q"]
    elif name == "poly_loss":
        ce = ce + options["epsilon"] * (1 - p)
    ce = ce + z * torch.logsumexp(logits, 1) ** 2
    used = tensor(target) != -100 if labels else torch.ones(ce.shape, dtype=bool)
    value = torch.where(used, ce, 0).sum() / used.sum()
    value.backward()
    return value, leaf.grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("focal_loss", {"gamma": gamma}) for gamma in (0.5, 1.0, 2.0, 5.0)),
        *(("generalized_cross_entropy", {"q": q}) for q in (0.3, 0.7, 1.0)),
        *(("poly_loss", {"epsilon": epsilon}) for epsilon in (1.0, -0.5)),
        ("cross_entropy", {}),
        ("cross_entropy", {"label_smoothing": 0.1}),
    ],
)
def test_losses_of_softmax_and_autograd(name, options, dtype, rng, isa):
    for shape, z_loss, softcap, soft in itertools.product(
        [(4, 5), (40, 130), (3, 5, 7), (3, 2500)], [0.0, 0.01], [None, 3.0], [False, True]
    ):
        if soft and name != "cross_entropy":
            continue
        x = (2 * rng.standard_normal(shape)).astype(dtype)
        batch = shape[:1] + shape[2:]
        target = np.where(rng.random(batch) < 0.3, -100, rng.integers(0, shape[1], batch))
        target.flat[0] = 1
        if soft:
            target = fastloss.softmax(rng.standard_normal(shape), 1)
        given = {**options, "z_loss": z_loss, "softcap": softcap}
        wanted, wanted_grad = by_autograd(name, x, target, given)
        mine = target.astype(dtype) if soft else target
        value, grad = loss(name, **given).value_and_grad(x, mine)
        close(value, wanted, dtype, what=(name, given))
        close(grad, wanted_grad, dtype, float(wanted_grad.abs().max()), (name, given))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nll_loss(reduction, dtype, rng, isa):
    for shape, weighted, ignored in itertools.product(SHAPES, [False, True], [False, True]):
        axis = min(1, len(shape) - 1)
        x = fastloss.log_softmax(rng.standard_normal(shape).astype(dtype), axis)
        target = np.asarray(rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :]))
        options = {"reduction": reduction}
        if weighted:
            options["weight"] = (0.1 + rng.random(shape[axis])).astype(dtype)
        if ignored:
            options["ignore_index"] = 1
            target.flat[0] = 0
        compare("nll_loss", x, target, options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary(reduction, dtype, rng, isa):
    for shape, weighted, positive, hard in itertools.product(
        [(), (7,), (4, 5), (2, 3, 600)], [False, True], [False, True], [False, True]
    ):
        x = np.asarray(3 * rng.standard_normal(shape)).astype(dtype)
        target = np.asarray(rng.random(shape)).astype(dtype)
        target = np.asarray(np.round(target)) if hard else target
        options = {"reduction": reduction}
        if weighted:
            options["weight"] = np.asarray(rng.random(shape[-1:])).astype(dtype)
        if not positive:
            p = np.asarray(0.1 + 0.8 * rng.random(shape)).astype(dtype)
            compare("binary_cross_entropy", p, target, options, terms=10.0 * max(1, p.size))
        else:
            options["pos_weight"] = np.asarray(3 * rng.random(shape[-1:])).astype(dtype)
        compare("binary_cross_entropy_with_logits", x, target, options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_at_0_and_1(dtype, isa):
    p = np.array([0, 1, 0, 1, 1e-30], dtype)
    y = np.array([1, 0, 0, 1, 1], dtype)
    leaf = torch.tensor(p, requires_grad=True)
    wanted = functional.binary_cross_entropy(leaf, torch.tensor(y), reduction="none")
    wanted.sum().backward()
    value, grad = loss("binary_cross_entropy", reduction="none").value_and_grad(p, y)
    close(value, wanted, dtype)
    close(grad, leaf.grad, np.float32)  # PyTorch's 1e-12 is rounded to float32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
def test_kl_div_and_mse_loss(reduction, dtype, rng, isa):
    for shape, log_target in itertools.product([(7,), (4, 5), (2, 3, 600)], [False, True]):
        x = fastloss.log_softmax(rng.standard_normal(shape).astype(dtype))
        target = fastloss.softmax(rng.standard_normal(shape).astype(dtype))
        target[..., 0] = 0
        if log_target:
            target = x[::-1].copy()
        compare("kl_div", x, target, {"reduction": reduction, "log_target": log_target})
        if reduction != "batchmean":
            compare("mse_loss", x, target, {"reduction": reduction}, terms=100.0 * x.size)


def torchvision_focal(x, target, gamma=2.0, alpha=None, reduction="mean"):
    """The formula of torchvision.ops.sigmoid_focal_loss, with our defaults."""
    p = torch.sigmoid(x)
    plain = functional.binary_cross_entropy_with_logits(x, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    value = plain * ((1 - p_t) ** gamma)
    if alpha is not None:
        value = (alpha * target + (1 - alpha) * (1 - target)) * value
    return value if reduction == "none" else getattr(value, reduction)()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_sigmoid_focal_loss(reduction, dtype, rng, isa, monkeypatch):
    monkeypatch.setattr(functional, "sigmoid_focal_loss", torchvision_focal, raising=False)
    for shape, gamma, alpha, hard in itertools.product(
        [(), (7,), (2, 3, 600)], [0.0, 0.5, 1.0, 2.0, 5.0], [None, 0.25, 1.0], [False, True]
    ):
        x = np.asarray(2 * rng.standard_normal(shape)).clip(-6, 6).astype(dtype)
        target = np.asarray(rng.random(shape)).astype(dtype)
        target = np.asarray(np.round(target)) if hard else target
        options = {"gamma": gamma, "alpha": alpha, "reduction": reduction}
        compare("sigmoid_focal_loss", x, target, options, terms=30.0 * max(1, x.size))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_soft_margin_losses(reduction, dtype, rng, isa):
    for shape in [(7,), (4, 5), (2, 3, 600)]:
        x = (3 * rng.standard_normal(shape)).astype(dtype)
        signs, soft = rng.choice([-1.0, 1.0], shape).astype(dtype), rng.random(shape).astype(dtype)
        for target in (signs, 2 * soft):
            compare("soft_margin_loss", x, target, {"reduction": reduction})
        for weight in (None, (0.1 + rng.random(shape[-1])).astype(dtype)):
            options = (
                {"reduction": reduction} if weight is None else {"reduction": reduction, "weight": weight}
            )
            compare("multilabel_soft_margin_loss", x, soft, options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_poisson_nll_loss(reduction, dtype, rng, isa):
    for shape, log_input, full, eps in itertools.product(
        [(), (7,), (2, 3, 600)], [False, True], [False, True], [1e-8, 0.5]
    ):
        x = np.asarray(2 * rng.standard_normal(shape)).astype(dtype)
        x = x if log_input else np.asarray(np.abs(x) + dtype(0.1))
        target = np.asarray(rng.poisson(3.0, shape)).astype(dtype)
        options = {"log_input": log_input, "full": full, "eps": eps, "reduction": reduction}
        compare("poisson_nll_loss", x, target, options, terms=1e4 * max(1, x.size))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gaussian_nll_loss(reduction, dtype, rng, isa):
    """Of every shape of the variance, by input and by variance, some below eps."""
    x, y = rng.standard_normal((2, 4, 3, 5)).astype(dtype)
    for shape, full in itertools.product([(4, 3, 5), (4, 3), (4, 3, 1), (4, 1, 5)], [False, True]):
        var = (0.5 + rng.random(shape)).astype(dtype)
        var.flat[0] = 0.01
        options = {"full": full, "eps": 0.125, "reduction": reduction}
        leaf, variance = torch.tensor(x, requires_grad=True), torch.tensor(var, requires_grad=True)
        wanted = functional.gaussian_nll_loss(leaf, torch.tensor(y), variance, **options)
        wanted.sum().backward()
        made = loss("gaussian_nll_loss", **options)
        value, grads = made.value_and_grad(x, y, var, wrt=("input", "var"))
        close(value, wanted, dtype, 200.0)
        close(grads[0], leaf.grad, dtype, 100.0)
        close(grads[1], variance.grad, dtype, 1000.0)
        close(fastloss.gaussian_nll_loss(x, y, var, **options), wanted, dtype, 200.0)
    wanted = functional.gaussian_nll_loss(torch.tensor(x), torch.tensor(y), 0.75, reduction=reduction)
    close(fastloss.gaussian_nll_loss(x, y, 0.75, reduction=reduction), wanted, dtype, 200.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_array_functions(dtype, rng, isa):
    for shape, axis in itertools.product([(5, 7), (3, 4, 70)], [0, 1, -1]):
        x = (5 * rng.standard_normal(shape)).astype(dtype)
        for function in ("softmax", "log_softmax", "logsumexp"):
            theirs = getattr(torch, function)(torch.tensor(x), axis)
            close(getattr(fastloss, function)(x, axis), theirs, dtype, np.abs(x).max())
        close(fastloss.sigmoid(x), torch.sigmoid(torch.tensor(x)), dtype)
        close(fastloss.logsigmoid(x), functional.logsigmoid(torch.tensor(x)), dtype)


def test_tensors_are_arrays(rng):
    """Through DLPack or __array__, without a copy being asked of the caller."""
    x, t = rng.standard_normal((4, 5)), rng.integers(0, 5, 4)
    assert fastloss.cross_entropy(torch.tensor(x), torch.tensor(t)) == fastloss.cross_entropy(x, t)


def test_shared_process(rng):
    """Calls of both take turns without disturbing each other."""
    x = rng.standard_normal((2000, 100)).astype(np.float32)
    t = rng.integers(0, 100, 2000)
    wanted = fastloss.cross_entropy(x, t)
    for _ in range(3):
        theirs = functional.cross_entropy(torch.tensor(x), torch.tensor(t))
        assert fastloss.cross_entropy(x, t) == wanted
        close(wanted, theirs, np.float32, 10.0)


# ---------------------------------------------------------------------------- PyTorch's own samples

LOSSES = [
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "mse_loss",
    "soft_margin_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
]
FUNCTIONS = ["softmax", "log_softmax", "logsumexp", "sigmoid", "nn.functional.logsigmoid"]


def samples(name, dtype):
    """PyTorch's sample inputs of an operator."""
    tests = pytest.importorskip(
        "torch.testing._internal.common_methods_invocations",
        reason="PyTorch's sample inputs need expecttest",
    )
    for operator in tests.op_db:
        if operator.name == name and not operator.variant_test_name:
            return list(operator.sample_inputs("cpu", dtype, requires_grad=False))
    raise LookupError(name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", LOSSES)
def test_sample_inputs_of_losses(function, dtype):
    torch.manual_seed(0)
    seen = 0
    for sample in samples("nn.functional." + function, dtype):
        x = sample.input.numpy()
        target = sample.args[0].numpy()
        options = {k: v.numpy() if torch.is_tensor(v) else v for k, v in sample.kwargs.items()}
        labels = (options.get("ignore_index"), target)
        if options.get("reduction", "mean") == "mean" and (labels[1] == labels[0]).all():
            options["reduction"] = "sum"  # the contract's gradient is 0 there, PyTorch's nan
        terms = 100.0 * max(1, x.size) * max(1.0, np.max(np.abs(x), initial=0) ** 2)
        compare(function, x, target, options, terms, grad=False)
        seen += 1
        if function == "binary_cross_entropy":
            continue  # at the borders the gradient is compared above
        compare_gradient(function, x, target, options)
    assert seen > 0


def compare_gradient(function, x, target, options):
    leaf = torch.tensor(x, requires_grad=True)
    theirs = {k: tensor(v) for k, v in options.items()}
    getattr(functional, function)(leaf, tensor(target), **theirs).sum().backward()
    grad = loss(function, **options, **unchecked(function)).value_and_grad(x, target)[1]
    close(grad, leaf.grad, x.dtype, max(1.0, float(np.max(np.abs(x), initial=0))), function)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_sample_inputs_of_array_functions(function, dtype):
    torch.manual_seed(0)
    call = getattr(fastloss, function.rpartition(".")[2])
    theirs = functional.logsigmoid if function.startswith("nn") else getattr(torch, function)
    seen = 0
    for sample in samples(function, dtype):
        axis = sample.args[0] if sample.args else None
        if "sigmoid" not in function:
            axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
            classes = sample.input.ndim > 0 and isinstance(axis, int) and sample.input.shape[axis]
            if not classes:
                continue  # no class axis, no classes, or more than one axis
            arguments = (axis,)
        else:
            arguments = ()
        got, wanted = call(sample.input.numpy(), *arguments), theirs(sample.input, *arguments)
        largest = float(sample.input.abs().max()) if sample.input.numel() else 0.0
        close(got, wanted, sample.input.numpy().dtype, max(1.0, largest))
        seen += 1
    assert seen > 0
