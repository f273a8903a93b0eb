"""`fastloss.torch.linear_cross_entropy` beside PyTorch's own."""

import copy
import itertools
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastloss.torch as F  # noqa: E402

theirs = torch.nn.functional
Options = torch.nn.modules.LinearCrossEntropyOptions
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
OPERATOR = torch.ops.fastloss.linear_cross_entropy.default


def make(dtype=torch.float64, rows=11, features=5, classes=7, probabilities=False, seed=0):
    """Input, weight, bias, which require grad, the target and a weight of the classes."""
    rng = np.random.default_rng(seed)
    shapes = ((rows, features), (classes, features), (classes,))
    leaves = [torch.from_numpy(rng.standard_normal(s)).to(dtype).requires_grad_() for s in shapes]
    target = torch.from_numpy(rng.integers(0, classes, rows))
    target[2] = -100
    if probabilities:
        target = torch.from_numpy(rng.uniform(size=(rows, classes))).to(dtype)
    return *leaves, target, torch.from_numpy(rng.uniform(size=classes)).to(dtype)


def wide(tensors):
    """The same numbers in float64, as leaves."""
    return [t.detach().double().requires_grad_() for t in tensors]


CASES = [
    *itertools.product(
        ["mean", "sum", "none"], [False, True], [0.0, 0.1], [None, Options(batch_chunk_size=4)]
    )
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("reduction", "probabilities", "smoothing", "options"), CASES)
def test_values_and_gradients(dtype, reduction, probabilities, smoothing, options):
    """As PyTorch's in float64: the sums are of 11 or 7 products of numbers of about 1, rounded once."""
    *leaves, target, weight = make(dtype, probabilities=probabilities)
    named = {"weight": weight, "reduction": reduction, "label_smoothing": smoothing}
    value = F.linear_cross_entropy(*leaves[:2], target, linear_bias=leaves[2], **named, options=options)
    upstream = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
    grads = torch.autograd.grad(value, leaves, upstream)
    exact = wide(leaves)
    target = target.double() if probabilities else target
    wanted = theirs.linear_cross_entropy(
        *exact[:2], target, linear_bias=exact[2], **{**named, "weight": weight.double()}
    )
    slopes = torch.autograd.grad(wanted, exact, upstream.double())
    u = torch.finfo(dtype).eps / 2
    assert value.shape == wanted.shape
    near = {"rtol": u, "atol": 200 * 2.0**-24 if dtype != torch.float64 else 200 * u}
    if dtype in (torch.float32, torch.float64):
        near["rtol"] = 50 * u
    torch.testing.assert_close(value.double(), wanted, **near)
    for grad, slope in zip(grads, slopes, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad.double(), slope, **near)


def test_which_gradients():
    x, w, b, target, _ = make()
    wanted = torch.autograd.grad(F.linear_cross_entropy(x, w, target, linear_bias=b), (x, w, b))
    for chosen in itertools.product([False, True], repeat=3):
        leaves = [t.detach().requires_grad_(c) for t, c in zip((x, w, b), chosen, strict=True)]
        value = F.linear_cross_entropy(*leaves[:2], target, linear_bias=leaves[2])
        assert value.requires_grad == any(chosen)
        if any(chosen):
            value.backward()
        for leaf, grad, c in zip(leaves, wanted, chosen, strict=True):
            if c:
                torch.testing.assert_close(leaf.grad, grad)
            else:
                assert leaf.grad is None
    with torch.no_grad():
        assert not F.linear_cross_entropy(x, w, target).requires_grad


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_differences(reduction):
    x, w, b, target, _ = make(rows=4, features=3, classes=5)
    target[:] = torch.tensor([0, 4, -100, 2])

    def loss(*leaves):
        return F.linear_cross_entropy(*leaves[:2], target, linear_bias=leaves[2], reduction=reduction)

    assert torch.autograd.gradcheck(loss, (x, w, b))
    assert torch.autograd.gradgradcheck(loss, (x, w, b))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_second_backward_pass(dtype):
    """Nothing that a first one has handed over changes under a second."""
    x, w, _, target, _ = make(dtype)
    value = F.linear_cross_entropy(x, w, target)
    value.backward(retain_graph=True)
    first, kept = w.grad, w.grad.clone()
    w.grad = None
    value.backward()
    assert torch.equal(first, kept)
    assert torch.equal(w.grad, kept)
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_saved_gradient_that_others_see_is_not_overwritten(dtype):
    seen = []
    x, w, _, target, _ = make(dtype)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
        value = F.linear_cross_entropy(x, w, target)
    before = [t.clone() for t in seen]
    (value * 3).backward()
    assert all(map(torch.equal, seen, before))
    torch.testing.assert_close(w.grad, (3 * before[1]).to(dtype))


def test_half_precision_keeps_what_a_loss_scale_saves():
    """The mean's gradient by a row is below the smallest number of float16 before it is scaled."""
    x, w, _, _, _ = make(torch.float16, rows=4)
    target = torch.tensor([1, 2, 3, 4])
    scale = 2.0**12

    def grad(x, w, factor):
        value = F.linear_cross_entropy(x, w, target, reduction="mean", options=Options()) * (1e-6 * factor)
        return torch.autograd.grad(value, w)[0]

    exact = grad(*wide((x, w)), scale)
    found = grad(x, w, scale).double()
    torch.testing.assert_close(found, exact, rtol=2.0**-10, atol=2.0**-24)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled(dtype, reduction):
    """One operator, without a break of the graph; MKL's bits may depend on where its operands lie."""
    *leaves, target, weight = make(dtype)
    seen = []

    def backend(graph, inputs):
        seen.extend(node.target for node in graph.graph.nodes)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    def loss(x, w, b):
        value = F.linear_cross_entropy(x, w, target, linear_bias=b, weight=weight, reduction=reduction)
        return (2 * value).sum()

    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(*leaves), loss(*leaves))
    assert OPERATOR in seen
    grads = torch.autograd.grad(compiled(*leaves), leaves)
    for grad, wanted in zip(grads, torch.autograd.grad(loss(*leaves), leaves), strict=True):
        torch.testing.assert_close(grad, wanted)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_opcheck(dtype, reduction):
    x, w, b, target, weight = make(dtype)
    rest = (-100, reduction, 0.1, 4, dtype, [True, True, True])
    torch.library.opcheck(OPERATOR, (x, w, target, b, weight, *rest))


# ---------------------------------------------------------------------------- what is PyTorch's


def outcome(call, function):
    try:
        return call(function)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def same(call):
    """What PyTorch's own function gives, or raises."""
    wanted, found = (outcome(call, f) for f in (theirs.linear_cross_entropy, F.linear_cross_entropy))
    if isinstance(wanted, str):
        assert found == wanted
    else:
        torch.testing.assert_close(found, wanted)


def test_pytorchs_own():
    x, w, b, target, weight = make()
    p = torch.rand(11, 7, dtype=torch.float64)
    several = torch.rand(7, 2, 5, dtype=torch.float64)
    same(lambda f: f(x, several, target[:, None].expand(11, 2)))
    same(lambda f: f(x, several, target[:, None].expand(11, 2).clamp(0), linear_bias=several[..., 0]))
    same(lambda f: f(x[0], w, target[0]))
    same(lambda f: f(x, w, p, ignore_index=3))
    same(lambda f: f(x, w, target.clamp(0), ignore_index=3, reduction="none"))
    same(lambda f: f(x, w.float(), target))
    same(lambda f: f(x, w[:, :4], target))
    same(lambda f: f(x, w, target, linear_bias=b[:3]))
    same(lambda f: f(x, w, target, weight=weight[:3]))
    same(lambda f: f(x, w, target, reduction="all"))
    same(lambda f: f(x, w, target, label_smoothing=2.0))
    same(lambda f: f(x[None], w, target))
    same(lambda f: f(x, w[0], target))
    same(lambda f: f(x, w, target[:3]))
    same(lambda f: f(x, w, target, ignore_index=2**63))
    same(lambda f: f(x, w, target, ignore_index=-(2**70)))
    same(lambda f: f(x, w, target, options=Options(batch_chunk_size=2**70)))
    same(lambda f: f(x, w, target, options=Options(batch_chunk_size=3, chunking_method="aspect_ratio")))
    q = p.clone().requires_grad_()
    same(lambda f: torch.autograd.grad(f(x, w, q), q)[0])
    assert F.linear_cross_entropy(x.to("meta"), w.to("meta"), target.to("meta")).is_meta
    with pytest.raises(IndexError, match="out of"):
        F.linear_cross_entropy(x, w, target + 7)


def test_transforms():
    x, w, _, target, _ = (t.detach() for t in make())
    same(lambda f: torch.func.grad(lambda w: f(x, w, target))(w))
    same(lambda f: torch.func.jvp(lambda w: f(x, w, target), (w,), (torch.ones_like(w),))[1])
    same(lambda f: torch.func.vmap(lambda x, t: f(x, w, t), (0, 0))(x, target.clamp(0)))


def test_autocast():
    """As PyTorch: a product of bfloat16, a loss of float32, here without rounding the logits."""
    x, w, b, target, _ = make(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        value = F.linear_cross_entropy(x, w, target, linear_bias=b)
        own = theirs.linear_cross_entropy(x, w, target, linear_bias=b)
    assert value.dtype == own.dtype == torch.float32
    rounded = [t.detach().bfloat16().double() for t in (x, w, b)]
    exact = theirs.linear_cross_entropy(*rounded[:2], target, linear_bias=rounded[2])
    torch.testing.assert_close(value.double(), exact, rtol=2.0**-20, atol=0)
    value.backward()
    assert x.grad.dtype == w.grad.dtype == b.grad.dtype == torch.float32


# ---------------------------------------------------------------------------- module and switch


@pytest.mark.parametrize("bias", [False, True])
def test_module(bias):
    own = torch.nn.LinearCrossEntropyLoss(5, 7, bias=bias, weight=torch.rand(7), label_smoothing=0.1)
    ours = F.LinearCrossEntropyLoss(5, 7, bias=bias, weight=torch.rand(7), label_smoothing=0.1)
    ours.load_state_dict(own.state_dict())
    x, _, _, target, _ = make(torch.float32)
    for module in (ours, copy.deepcopy(ours)):
        torch.testing.assert_close(module(x, target), own(x, target))
        assert isinstance(module, torch.nn.LinearCrossEntropyLoss)
    several = F.LinearCrossEntropyLoss(5, 7, out_features=(2,), bias=bias)
    assert several(x, target[:, None].expand(11, 2)).shape == ()


def test_patched():
    module, own = torch.nn.LinearCrossEntropyLoss(5, 7), theirs.linear_cross_entropy
    x, _, _, target, _ = make(torch.float32)
    wanted = module(x, target)
    with F.patched():
        assert theirs.linear_cross_entropy is F.linear_cross_entropy
        value = module(x, target)
        assert value.grad_fn.name() != wanted.grad_fn.name()
        torch.testing.assert_close(value, wanted)
        several = torch.rand(7, 2, 5)
        torch.testing.assert_close(
            theirs.linear_cross_entropy(x, several, target[:, None].expand(11, 2)),
            own(x, several, target[:, None].expand(11, 2)),
        )
    assert theirs.linear_cross_entropy is own


def test_memory_of_a_training_step():
    """The logits, 256 MB, are not there: a chunk of them, and twice the weight's gradient at most."""
    code = (
        "import resource, torch, fastloss.torch as F\n"
        "torch.set_num_threads(1)\n"
        "x, w = torch.randn(2048, 16, requires_grad=True), torch.randn(32_000, 16, requires_grad=True)\n"
        "t = torch.randint(32_000, (2048,))\n"
        "def step(rows, options=torch.nn.modules.LinearCrossEntropyOptions(batch_chunk_size=128)):\n"
        "    F.linear_cross_entropy(x[:rows], w, t[:rows], options=options).backward()\n"
        "step(128)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "step(2048)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(run.stdout) < 48  # MiB; a chunk takes 16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_options_leave_the_dtype(dtype, reduction):
    x, w, _, target, _ = make(dtype)
    assert F.linear_cross_entropy(x, w, target, options=Options(), reduction=reduction).dtype == dtype


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_default_dtype_changes_nothing(default, dtype, reduction):
    found = []
    for kind in (torch.get_default_dtype(), default):
        x, w, b, target, weight = make(dtype)
        before = torch.get_default_dtype()
        torch.set_default_dtype(kind)
        try:
            value = F.linear_cross_entropy(x, w, target, linear_bias=b, weight=weight, reduction=reduction)
            found.append([value, *torch.autograd.grad(value.sum(), (x, w, b))])
        finally:
            torch.set_default_dtype(before)
    for got, wanted in zip(*found, strict=True):
        assert got.dtype == dtype
        assert torch.equal(got, wanted)
