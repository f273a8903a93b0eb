"""fastloss.torch under autograd, torch.compile, torch.export, torch.func, autocast, checkpoint and patch."""

import copy
import io
import pickle
import subprocess
import sys
import threading
import warnings
from contextlib import nullcontext

import pytest

torch = pytest.importorskip("torch", reason="fastloss.torch needs PyTorch")
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import fastloss.torch as F  # noqa: E402
from fastloss.torch._operators import ARRAY_FUNCTIONS, LOSSES  # noqa: E402

theirs = torch.nn.functional
# Warnings of PyTorch's own machinery, and of kl_div about its default.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

torch.manual_seed(20240229)
X = torch.randn(6, 5, dtype=torch.float64)
Y = torch.tensor([0, 4, -100, 2, 1, 3])
Q = torch.randn(6, 5, dtype=torch.float64).softmax(1)
W = torch.rand(5, dtype=torch.float64) + 0.1
SIGNS = torch.randn(6, 5, dtype=torch.float64).sign()

#: Each operator, with the options that have their own formula, as a function of a module and the input.
CALLS = {
    "cross_entropy": lambda F, x: F.cross_entropy(x, Y),
    "cross_entropy weighted": lambda F, x: F.cross_entropy(x, Y, W, label_smoothing=0.1, reduction="none"),
    "cross_entropy probabilities": lambda F, x: F.cross_entropy(x, Q, W, reduction="sum"),
    "cross_entropy images": lambda F, x: F.cross_entropy(
        x.reshape(2, 5, 3), Y.reshape(2, 3), reduction="none"
    ),
    "nll_loss": lambda F, x: F.nll_loss(x, Y, W),
    "nll_loss none": lambda F, x: F.nll_loss(x, Y, reduction="none"),
    "binary_cross_entropy_with_logits": lambda F, x: F.binary_cross_entropy_with_logits(
        x, Q, W, pos_weight=W
    ),
    "binary_cross_entropy": lambda F, x: F.binary_cross_entropy(x.sigmoid(), Q, W, reduction="none"),
    "kl_div": lambda F, x: F.kl_div(x, Q),
    "kl_div batchmean": lambda F, x: F.kl_div(x, Q.log(), reduction="batchmean", log_target=True),
    "mse_loss": lambda F, x: F.mse_loss(x, Q),
    "soft_margin_loss": lambda F, x: F.soft_margin_loss(x, SIGNS),
    "soft_margin_loss any target": lambda F, x: F.soft_margin_loss(x, Q, reduction="none"),
    "poisson_nll_loss": lambda F, x: F.poisson_nll_loss(x, Q),
    "poisson_nll_loss of rates": lambda F, x: F.poisson_nll_loss(
        x.sigmoid(), 9 * Q, log_input=False, full=True, reduction="none"
    ),
    "multilabel_soft_margin_loss": lambda F, x: F.multilabel_soft_margin_loss(x, Q, W),
    "multilabel_soft_margin_loss none": lambda F, x: F.multilabel_soft_margin_loss(
        x, SIGNS.clamp(0), reduction="none"
    ),
    "softmax": lambda F, x: F.softmax(x, 1),
    "log_softmax": lambda F, x: F.log_softmax(x, 0),
    "logsumexp": lambda F, x: (F if hasattr(F, "logsumexp") else torch).logsumexp(x, 1),
    "logsumexp keepdim": lambda F, x: (F if hasattr(F, "logsumexp") else torch).logsumexp(x, 0, True),
    "logsumexp axes": lambda F, x: (F if hasattr(F, "logsumexp") else torch).logsumexp(
        x.reshape(2, 3, 5), (-1, 0)
    ),
    "sigmoid": lambda F, x: F.sigmoid(x),
    "logsigmoid": lambda F, x: F.logsigmoid(x),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


def leaf(dtype=torch.float64):
    return X.to(dtype, copy=True).requires_grad_()


def slope(function, *args):
    """Value, and gradient of the first argument."""
    x = args[0].detach().requires_grad_()
    value = function(x, *args[1:])
    return value, torch.autograd.grad(value.sum(), x)[0]


def targets(graph):
    """The names of fastloss's operators in a graph."""
    names = [str(node.target).split(".") for node in graph.nodes]
    return {name[1] for name in names if name[0] == "fastloss"}


# ---------------------------------------------------------------------------- autograd


def test_derivatives(call):
    def function(x):
        return call(F, x)

    assert gradcheck(function, (leaf(),), check_batched_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's batched gradients, about loops
        assert gradgradcheck(function, (leaf(),))


def test_third_derivative():
    def third(F):
        x = leaf()
        value = F.cross_entropy(x, Y)
        for _ in range(3):
            value = torch.autograd.grad(value, x, create_graph=True)[0].pow(2).sum()
        return value

    torch.testing.assert_close(third(F), third(theirs))


# ---------------------------------------------------------------------------- operators


def operator_calls():
    weight = W.clone()
    for with_grad in (True, False):
        for reduction in ("mean", "none"):
            indexed = (-100, reduction)
            yield "cross_entropy", (leaf(), Y, weight, *indexed, 0.1, with_grad)
            yield "cross_entropy", (leaf(torch.float32), Q.float(), None, *indexed, 0.0, with_grad)
            yield "nll_loss", (leaf(torch.bfloat16), Y, None, *indexed, with_grad)
            yield "binary_cross_entropy_with_logits", (leaf(), Q, None, weight, reduction, with_grad)
            yield "binary_cross_entropy", (Q.clone().requires_grad_(), Q, None, reduction, with_grad)
            yield "kl_div", (leaf(), Q, reduction, False, with_grad)
            yield "mse_loss", (leaf(torch.float16), Q.half(), reduction, with_grad)
            yield "soft_margin_loss", (leaf(), SIGNS, reduction, with_grad)
            yield "poisson_nll_loss", (leaf(), Q, True, False, 1e-8, reduction, with_grad)
            yield "multilabel_soft_margin_loss", (leaf(), Q, weight, reduction, with_grad)
        yield "cross_entropy", (leaf()[1], Y[1], None, -100, "none", 0.0, with_grad)
        yield "nll_loss", (leaf(torch.bfloat16)[:, 0], Y[1], None, -100, "none", with_grad)
        there = [t.reshape(2, 5, 3, 1).contiguous(memory_format=torch.channels_last) for t in (X, Q)]
        yield "mse_loss", (there[0].requires_grad_(), there[1], "none", with_grad)
    yield "softmax", (leaf(), 1)
    yield "log_softmax", (leaf(torch.bfloat16), 0)
    yield "logsumexp", (leaf(), -1, False)
    yield "logsumexp", (leaf(), 0, True)
    yield "logsumexp", (leaf(torch.float16), [1, 0], False)
    yield "logsigmoid", (leaf(torch.float32),)
    yield "sigmoid", (leaf(),)


# From PyTorch 2.14 on opcheck itself reads .grad of what it has computed, of every operator.
opcheck = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@opcheck
@pytest.mark.parametrize(("name", "args"), list(operator_calls()))
def test_opcheck(name, args):
    torch.library.opcheck(getattr(torch.ops.fastloss, name).default, args)


@opcheck
@pytest.mark.parametrize("name", LOSSES)
def test_opcheck_backward(name):
    loss = LOSSES[name]
    args = next(args for known, args in operator_calls() if known == name)[:-1]
    _, grad = loss.operator(*args, True)
    scale = torch.tensor(0.5, dtype=args[0].dtype, requires_grad=True)
    torch.library.opcheck(loss.backward_operator, (scale, grad.detach(), *args))


def recording(seen):
    """A backend that notes fastloss's operators in what it compiles."""

    def backend(graph, inputs):
        seen[:] = targets(graph.graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    torch._dynamo.reset()
    return backend


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(call, dynamic):
    seen = []
    options = {"fullgraph": True, "dynamic": dynamic, "backend": recording(seen)}
    compiled = torch.compile(lambda x: call(F, x * 2), **options)
    for _ in range(2):
        value, grad = slope(compiled, X)
    assert len(seen) == 1
    wanted, wanted_grad = slope(lambda x: call(theirs, x * 2), X)
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(grad, wanted_grad)
    with torch.no_grad():
        torch.testing.assert_close(compiled(X), wanted)


def test_compile_with_inductor():
    model = torch.nn.Linear(5, 5).double()
    compiled = torch.compile(lambda x: F.cross_entropy(model(x), Y), fullgraph=True)
    compiled(X).backward()
    grad = model.weight.grad.clone()
    model.zero_grad()
    theirs.cross_entropy(model(X), Y).backward()
    torch.testing.assert_close(grad, model.weight.grad)


def test_the_compiled_backward_pass_keeps_the_gradient_alone():
    """Not the input, which only a second derivative would need."""
    saved = []

    def inspect(graph, inputs):
        saved.append(graph)
        return graph

    backend = torch._dynamo.backends.common.aot_autograd(fw_compiler=inspect, bw_compiler=inspect)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the compiler of this test
        torch.compile(lambda x: F.cross_entropy(x * 2, Y), fullgraph=True, backend=backend)(leaf()).backward()
    backward = [node for node in saved[1].graph.nodes if node.op == "placeholder"]
    assert len(backward) == 2  # the gradient, and the gradient of the loss


def test_compile_raises_pytorchs_errors():
    def outcome(function, *args):
        with pytest.raises((IndexError, RuntimeError)) as error:
            function(*args)
        return error.type, str(error.value)

    torch._dynamo.reset()
    compiled = torch.compile(lambda x, y: F.cross_entropy(x, y), fullgraph=True, backend="aot_eager")
    assert outcome(compiled, X, Y + 1) == outcome(theirs.cross_entropy, X, Y + 1)
    compiled = torch.compile(
        lambda x, y: F.binary_cross_entropy(x, y, reduction="none"), fullgraph=True, backend="aot_eager"
    )
    for bad in (Q + 1, Q * torch.nan):
        assert outcome(compiled, bad, Q) == outcome(theirs.binary_cross_entropy, bad, Q)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(5, 5).double()
        self.loss = F.CrossEntropyLoss(W, label_smoothing=0.1)

    def forward(self, x, y):
        return self.loss(self.linear(x), y)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    model = Model()
    batch = torch.export.Dim("batch", min=2)
    shapes = {"x": {0: batch}, "y": {0: batch}}
    program = torch.export.export(model, (X, Y), strict=strict, dynamic_shapes=shapes)
    assert targets(program.graph)
    torch.testing.assert_close(program.module()(X, Y), model(X, Y))
    torch.testing.assert_close(program.module()(X[:3], Y[:3]), model(X[:3], Y[:3]))


def test_export_without_gradients_can_be_trained():
    with torch.no_grad():
        program = torch.export.export(Model(), (X, Y))
    module = program.module()
    value = module(X, Y)
    assert value.requires_grad
    value.backward()
    weight, bias = module.linear.weight, module.linear.bias
    wanted = theirs.cross_entropy(theirs.linear(X, weight, bias), Y, W, label_smoothing=0.1)
    torch.testing.assert_close(weight.grad, torch.autograd.grad(wanted, weight)[0])


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(mode):
    def step(x, y):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(x, y), x)[0]

    graph = make_fx(step, tracing_mode=mode)(X, Y)
    assert targets(graph.graph)
    torch.testing.assert_close(graph(X, Y), slope(lambda x: theirs.cross_entropy(x, Y), X)[1])


# ---------------------------------------------------------------------------- torch.func, forward mode


def check_func(F):
    """Every transform, on one module of functions."""
    func = torch.func

    def per_sample(x, y):
        return F.cross_entropy(x, y.clamp(0))

    return [
        func.grad(lambda x: F.cross_entropy(x, Y))(X),
        func.vmap(per_sample)(X, Y),
        func.vmap(func.grad(per_sample))(X, Y),
        func.grad(lambda x: func.vmap(per_sample)(x, Y).sum())(X),
        func.jvp(lambda x: F.mse_loss(x, Q), (X,), (Q,))[1],
        func.jacrev(lambda x: F.log_softmax(x, 1))(X),
        func.jacfwd(lambda x: F.softmax(x, 1))(X),
        func.hessian(lambda x: F.binary_cross_entropy_with_logits(x, Q))(X),
        func.grad(func.grad(lambda s: F.cross_entropy(X * s, Y)))(torch.tensor(1.0, dtype=torch.float64)),
    ]


def test_func():
    for ours, other in zip(check_func(F), check_func(theirs), strict=True):
        torch.testing.assert_close(ours, other)


def test_compiled_func():
    def per_sample(x, y):
        return F.cross_entropy(x, y.clamp(0))

    torch._dynamo.reset()
    for transformed in (
        torch.func.vmap(per_sample),
        torch.func.vmap(torch.func.grad(per_sample)),
        torch.func.grad(lambda x, y: F.cross_entropy(x, y)),
    ):
        compiled = torch.compile(transformed, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(X, Y), transformed(X, Y))


def test_forward_mode():
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(X, Q)
        for ours, other in [
            (F.cross_entropy(dual, Y), theirs.cross_entropy(dual, Y)),
            (F.softmax(dual, 1), theirs.softmax(dual, 1)),
        ]:
            tangents = [torch.autograd.forward_ad.unpack_dual(value).tangent for value in (ours, other)]
            torch.testing.assert_close(*tangents)


@pytest.mark.parametrize("vectorize", [False, True])
def test_jacobian_and_hessian(vectorize):
    jacobian, hessian = torch.autograd.functional.jacobian, torch.autograd.functional.hessian
    for call in [
        lambda F, x: F.cross_entropy(x, Y, reduction="none"),
        lambda F, x: F.mse_loss(x, Q, reduction="none"),
    ]:
        ours = jacobian(lambda x: call(F, x), X, vectorize=vectorize)  # noqa: B023
        torch.testing.assert_close(ours, jacobian(lambda x: call(theirs, x), X))  # noqa: B023
    torch.testing.assert_close(
        hessian(lambda x: F.cross_entropy(x, Y), X, vectorize=vectorize),
        hessian(lambda x: theirs.cross_entropy(x, Y), X),
    )


# ---------------------------------------------------------------------------- autocast, checkpoint


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(half, compiled):
    """PyTorch's dtypes: the losses in float32, of operands in float32 and half precision, mixed too."""
    x, q = X.to(half), Q.float()
    for call in [
        lambda F, x: F.cross_entropy(x, Y, W.to(half)),
        lambda F, x: F.cross_entropy(x, q),
        lambda F, x: F.nll_loss(x, Y),
        lambda F, x: F.binary_cross_entropy_with_logits(x, q, pos_weight=W.float()),
        lambda F, x: F.binary_cross_entropy(x.sigmoid(), q, reduction="none"),
        lambda F, x: F.kl_div(x, q, reduction="batchmean"),
        lambda F, x: F.mse_loss(x, q),
        lambda F, x: F.soft_margin_loss(x, q),
        lambda F, x: F.poisson_nll_loss(x, q),
        lambda F, x: F.multilabel_soft_margin_loss(x, q),
        lambda F, x: F.multilabel_soft_margin_loss(x, q.to(half)),
        lambda F, x: F.softmax(x, 1),
        lambda F, x: F.logsigmoid(x),
        lambda F, x: F.sigmoid(x),
    ]:
        torch._dynamo.reset()
        ours = torch.compile(call, backend="aot_eager") if compiled else call
        with torch.autocast("cpu", dtype=half):
            value, grad = slope(lambda x: ours(F, x), x)  # noqa: B023
            wanted, wanted_grad = slope(lambda x: call(theirs, x), x)  # noqa: B023
        torch.testing.assert_close(value, wanted)
        # theirs rounds in half precision the softmax that it subtracts from
        torch.testing.assert_close(grad, wanted_grad, rtol=0.016, atol=torch.finfo(half).eps)


def test_autocast_trains_in_float32():
    x = leaf(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = F.cross_entropy(x, Y)
        mixed = F.mse_loss(x, Q.float())
    assert "_Recorded" in type(value.grad_fn).__name__
    assert "_Recorded" in type(mixed.grad_fn).__name__
    assert value.dtype == mixed.dtype == torch.float32
    value.backward()
    assert x.grad.dtype == torch.bfloat16
    wanted = theirs.cross_entropy(X.bfloat16().double(), Y)
    torch.testing.assert_close(value.double(), wanted, rtol=2.0**-23, atol=0)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint(call, use_reentrant):
    def function(x):
        return checkpoint(lambda x: call(F, x * 2), x, use_reentrant=use_reentrant)

    x = leaf()
    function(x).sum().backward()
    torch.testing.assert_close(x.grad, slope(lambda x: call(theirs, x * 2), X)[1])


@pytest.mark.parametrize("factor", [1.0, 1024.0])
@pytest.mark.parametrize("rows", [6, 600])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_checkpoint_in_half_precision(half, rows, factor):
    """A checkpoint gives what it holds once, and the gradient needs the input besides."""
    x, target = X.repeat(rows // 6, 40), Y.repeat(rows // 6)

    def function(x):
        return checkpoint(lambda x: F.cross_entropy(x * 2, target), x, use_reentrant=False) * factor

    direct = slope(lambda x: F.cross_entropy(x * 2, target) * factor, x.to(half))
    torch.testing.assert_close(slope(function, x.to(half)), direct, rtol=0, atol=0)


def test_checkpoint_does_not_hold_the_gradient():
    """What the loss saves goes through the hooks, so that a checkpoint drops it and computes it again."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        F.cross_entropy(leaf(), Y)
    assert [tuple(t.shape) for t in kept] == [(6, 5), (6, 5), (6,)]


def test_selective_checkpoint():
    def context():
        return create_selective_checkpoint_contexts([torch.ops.fastloss.cross_entropy.default])

    def function(x):
        return checkpoint(lambda x: F.cross_entropy(x * 2, Y), x, use_reentrant=False, context_fn=context)

    torch.testing.assert_close(slope(function, X), slope(lambda x: theirs.cross_entropy(x * 2, Y), X))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_compiled_autograd():
    torch._dynamo.reset()
    x = leaf()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager")):
        F.cross_entropy(x * 2, Y).backward()
    torch.testing.assert_close(x.grad, slope(lambda x: theirs.cross_entropy(x * 2, Y), X)[1])


# ---------------------------------------------------------------------------- TorchScript, ONNX, FX

# These are to run without fastloss too: what they hold is PyTorch's.


class Call(torch.nn.Module):
    """One of the calls as a model, by the functions of a module; inside `patched` also by PyTorch's names."""

    def __init__(self, call, functions):
        super().__init__()
        self.call, self.functions = call, functions

    def forward(self, x):
        return self.call(self.functions, x)


@pytest.fixture(params=["fastloss.torch", "patched"])
def functions(request):
    """Where a model finds its functions."""
    if request.param == "fastloss.torch":
        yield F
    else:
        with F.patched():
            yield theirs


def test_jit_trace(call, functions, tmp_path):
    """Other inputs have other values, and gradients; the file needs no operator of fastloss."""
    for example in (X * 2, leaf()):
        traced = torch.jit.trace(Call(call, functions), (example,))
        assert "fastloss" not in {node.kind().split("::")[0] for node in traced.inlined_graph.nodes()}
        traced.save(str(tmp_path / "traced"))
        for found in (traced, torch.jit.load(str(tmp_path / "traced"))):
            value, grad = slope(found, X)
            wanted, wanted_grad = slope(lambda x: call(theirs, x), X)
            torch.testing.assert_close(value, wanted)
            torch.testing.assert_close(grad, wanted_grad)


def scripted(x: torch.Tensor, y: torch.Tensor, q: torch.Tensor):
    ours = F.cross_entropy(x, y, label_smoothing=0.1) + F.nll_loss(F.log_softmax(x, 1), y)
    ours = ours + F.binary_cross_entropy_with_logits(x, q) + F.binary_cross_entropy(F.sigmoid(x), q)
    ours = ours + F.kl_div(x, q, reduction="sum") + F.mse_loss(x, q) + F.soft_margin_loss(x, q)
    ours = ours + F.multilabel_soft_margin_loss(x, q) + F.logsigmoid(x).sum() + F.softmax(x, 0).sum()
    return ours + F.logsumexp(x, 1).sum() + F.logsumexp(x, [0, 1], keepdim=True).sum()


def scripted_by_name(x: torch.Tensor, y: torch.Tensor, q: torch.Tensor):
    ours = theirs.cross_entropy(x, y, label_smoothing=0.1) + theirs.nll_loss(theirs.log_softmax(x, 1), y)
    ours = ours + theirs.binary_cross_entropy_with_logits(x, q) + theirs.mse_loss(x, q)
    ours = ours + theirs.kl_div(x, q, reduction="sum") + theirs.soft_margin_loss(x, q)
    return ours + theirs.binary_cross_entropy(q, q) + theirs.multilabel_soft_margin_loss(x, q)


@pytest.mark.parametrize("function", [scripted, scripted_by_name])
def test_jit_script(function, tmp_path):
    with F.patched():
        compiled = torch.jit.script(function)
    compiled.save(str(tmp_path / "scripted"))
    wanted, wanted_grad = slope(function, X, Y, Q)
    for found in (compiled, torch.jit.load(str(tmp_path / "scripted"))):
        value, grad = slope(found, X, Y, Q)
        torch.testing.assert_close(value, wanted)
        torch.testing.assert_close(grad, wanted_grad)
    for name in F.functional.__all__:  # directly
        if name != "linear_cross_entropy":  # TorchScript takes no arguments by keyword alone
            torch.jit.script(getattr(F, name))


CRITERIA = [name for name in F.modules.__all__ if name != "LinearCrossEntropyLoss"]  # of input and target


@pytest.mark.parametrize("name", CRITERIA)
def test_jit_script_of_modules(name, functions):
    module = getattr(F if functions is F else torch.nn, name)(reduction="sum")
    target = Y if name in ("CrossEntropyLoss", "NLLLoss") else Q
    for compiled in (torch.jit.script(module), torch.jit.trace(module, (Q * 0.5, target))):
        torch.testing.assert_close(compiled(Q, target), module(Q, target))


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_export(functions, dynamo):
    """The file holds no operator of fastloss."""
    pytest.importorskip("onnx", reason="PyTorch's exporters need it")
    if dynamo:
        pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs it")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters about themselves
        for name in ("softmax", "cross_entropy"):
            torch.onnx.export(Call(CALLS[name], functions), (X,), file, dynamo=dynamo, verbose=False)
    assert b"Softmax" in file.getvalue()
    assert b"fastloss::" not in file.getvalue()


def test_fx_symbolic_trace(call, functions):
    """PyTorch's own function, whatever is a proxy."""
    graph = torch.fx.symbolic_trace(Call(call, functions))
    assert not targets(graph.graph)
    torch.testing.assert_close(graph(X), call(theirs, X))
    options = torch.fx.symbolic_trace(
        lambda x, smoothing: functions.cross_entropy(x, Y, label_smoothing=smoothing)
    )
    torch.testing.assert_close(options(X, 0.1), theirs.cross_entropy(X, Y, label_smoothing=0.1))


def test_make_fx_before_dispatch(call):
    graph = make_fx(lambda x: call(F, x), pre_dispatch=True)(X * 2)
    torch.testing.assert_close(graph(X), call(theirs, X))


# ---------------------------------------------------------------------------- tensors that are not plain


class Duck:
    """An object that is no tensor, and takes part as one."""

    calls = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.calls.append((function, len(args), kwargs or {}))
        return cls()

    def reshape(self, *shape):
        return self

    sigmoid = reshape


def test_objects_with_torch_function_get_pytorchs_call(call):
    """The function and the arguments, by position and by name, as PyTorch's own code passes them."""
    seen = []
    for functions in (F, theirs):
        Duck.calls.clear()
        assert isinstance(call(functions, Duck()), Duck)
        seen.append([*Duck.calls])
    with F.patched():
        Duck.calls.clear()
        call(theirs, Duck())
        seen.append([*Duck.calls])
    if seen[1] and seen[1][0][0] not in (torch.logsumexp, theirs.logsigmoid):  # which are not Python
        ours, other, patched = ([(f, n, sorted(named)) for f, n, named in calls] for calls in seen)
        assert ours == other == patched
    elif seen[1]:
        assert seen[0][0][0] is seen[1][0][0]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors():
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor([X, X[:3]], layout=layout)
        for ours, wanted in zip(
            F.softmax(nested, 2).unbind(), theirs.softmax(nested, 2).unbind(), strict=True
        ):
            torch.testing.assert_close(ours, wanted)


KINDS = {
    "zero": lambda: torch._efficientzerotensor((6, 5)),
    "MKL-DNN": lambda: X.float().to_mkldnn(),
    "quantized": lambda: torch.quantize_per_tensor(X.float(), 0.1, 0, torch.qint8),
    "sparse": lambda: X.to_sparse(),
    "compressed": lambda: X.to_sparse_csr(),
    "meta": lambda: X.to("meta"),
    "conjugate": lambda: torch.complex(X, X).conj(),
    "masked": lambda: torch.masked.masked_tensor(X, X > 0),
    "fake": lambda: torch._subclasses.FakeTensorMode().from_tensor(X),
    "no dimensions": lambda: X[0, 0].clone(),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # about prototypes, and what is deprecated
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_tensors(kind, call):
    """PyTorch's result, or its error."""
    results = []
    for functions in (F, theirs):
        try:
            value = call(functions, KINDS[kind]())
            results.append((type(value), value.layout, value.shape, value.dtype, value.device))
        except Exception as error:
            results.append(type(error))
    assert results[0] == results[1]


def test_zeros_that_are_not_stored():
    zeros, p, y = torch._efficientzerotensor((6, 5)), torch.rand(6, 5), torch.arange(6) % 5
    torch.testing.assert_close(F.cross_entropy(zeros, y), theirs.cross_entropy(zeros, y))
    for input, target in ((zeros, p), (p, zeros)):
        torch.testing.assert_close(F.mse_loss(input, target), theirs.mse_loss(input, target))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsigmoid", "sigmoid", "mse_loss", "kl_div"])
def test_zeros_that_are_not_stored_arrive(name, dtype):
    """As from sgn, whose gradient PyTorch makes of them."""
    x = leaf(dtype)
    more = {"softmax": (1,), "log_softmax": (1,), "mse_loss": (Q.to(dtype),), "kl_div": (Q.to(dtype),)}
    options = {"reduction": "none"} if name in LOSSES else {}
    value = getattr(F, name)(x, *more.get(name, ()), **options)
    (grad,) = torch.autograd.grad(torch.sgn(value).sum(), x)
    assert torch.equal(grad, torch.zeros_like(x))


class Severed(torch.autograd.Function):
    """Gives back what it got, and no gradient."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, grad_output):
        return None


@pytest.mark.parametrize("mode", [nullcontext, FlopCounterMode], ids=["eager", "operators"])
def test_no_gradient_arrives(call, mode):
    """The input has none then, and not zeros: an optimizer leaves it alone."""
    x = leaf()
    with mode(**({} if mode is nullcontext else {"display": False})):
        Severed.apply(call(F, x)).sum().backward()
    assert x.grad is None


def test_inference_tensors():
    """They give a value, and what would save them for a gradient is PyTorch's error."""
    with torch.inference_mode():
        x, y, q = X.clone(), Y.clone(), Q.clone()
    for input, labels, target in ((x, y, q), (leaf(), y, q), (x, Y, Q)):
        for function in (
            lambda F, x, y, q: F.cross_entropy(x, y),
            lambda F, x, y, q: F.mse_loss(x, q),
            lambda F, x, y, q: F.soft_margin_loss(x, q),
            lambda F, x, y, q: F.softmax(x, 1),
        ):
            results = []
            for functions in (F, theirs):
                try:
                    results.append(function(functions, input, labels, target))
                except RuntimeError as error:
                    results.append(str(error).split(".")[0])
            if isinstance(results[1], str):
                assert results[0] == results[1]
            else:
                torch.testing.assert_close(results[0], results[1])


# ---------------------------------------------------------------------------- around autograd and modules


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_anomaly_mode(call):
    with torch.autograd.detect_anomaly(check_nan=True):
        grad = slope(lambda x: call(F, x), X)[1]
    torch.testing.assert_close(grad, slope(lambda x: call(theirs, x), X)[1])


def test_saved_tensors_elsewhere(call):
    """On the disk or the processor for a while, or kept from changes made meanwhile."""
    graph = torch.autograd.graph
    for context in (graph.save_on_cpu, graph.allow_mutation_on_saved_tensors):
        x = leaf()
        with context():
            hidden = x * 1
            value = call(F, hidden).sum()
            if context is not graph.save_on_cpu:
                hidden.zero_()
            (grad,) = torch.autograd.grad(value, x)
        torch.testing.assert_close(grad, slope(lambda x: call(theirs, x), X)[1])


@pytest.mark.parametrize("packed", ["tensor", "file"])
def test_errors_of_hooks_are_raised(call, packed):
    """Of reading what was saved; what was packed is not taken for the gradient."""

    def pack(tensor):
        return tensor if packed == "tensor" else "a file"

    def unpack(_):
        raise RuntimeError("the disk is gone")

    x = leaf()
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        value = call(F, x).sum()
    with pytest.raises(RuntimeError, match="the disk is gone"):
        value.backward()
    assert x.grad is None


def test_errors_of_a_second_computation_are_raised():
    """Of another shape, and its own."""
    for again, message in ((lambda x: F.cross_entropy(x[:2], Y[:2]), "different metadata"), (None, "lost")):
        todo = [lambda x: F.cross_entropy(x, Y), again]

        def function(x, todo=todo):
            loss = todo.pop(0)
            if loss is None:
                raise RuntimeError("the file is lost")
            return loss(x * 2)

        with pytest.raises(RuntimeError, match=message):
            checkpoint(function, leaf(), use_reentrant=False).backward()


def test_backward_passes_on_several_threads(call):
    x = leaf()
    value = call(F, x * 1).sum()
    wanted, found = slope(lambda x: call(theirs, x), X)[1], []

    def work():
        found.extend(torch.autograd.grad(value, x, retain_graph=True) for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    for (grad,) in found:
        torch.testing.assert_close(grad, wanted)


@pytest.mark.parametrize("name", CRITERIA)
def test_copies_of_modules(name, tmp_path):
    """Deep copies, pickles, saved files, replicas and functional calls."""
    module = getattr(F, name)(reduction="sum")
    target = Y if name in ("CrossEntropyLoss", "NLLLoss") else Q
    torch.save(module, tmp_path / "module")
    for other in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(tmp_path / "module", weights_only=False),
        module._replicate_for_data_parallel(),
        lambda *args: torch.func.functional_call(module, {}, args),
    ):
        assert torch.equal(other(Q, target), module(Q, target))


# ---------------------------------------------------------------------------- the switch


class Written(torch.nn.Module):
    """A model whose author has not heard of fastloss."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(5, 5).double()
        self.criteria = torch.nn.ModuleList([torch.nn.CrossEntropyLoss(W), torch.nn.BCEWithLogitsLoss()])

    def forward(self, x):
        logits = self.body(x)
        losses = [self.criteria[0](logits, Y), self.criteria[1](logits, Q), theirs.mse_loss(logits, Q)]
        losses.append(theirs.nll_loss(theirs.log_softmax(logits, 1), Y))
        losses.append(theirs.kl_div(logits, Q, reduction="batchmean"))
        losses.append(theirs.binary_cross_entropy(logits.sigmoid(), Q))
        losses += [theirs.soft_margin_loss(logits, SIGNS), theirs.multilabel_soft_margin_loss(logits, Q)]
        losses.append(theirs.poisson_nll_loss(logits, Q))
        return losses


def routed(losses):
    return ["_Recorded" in type(loss.grad_fn).__name__ for loss in losses]


@pytest.fixture
def originals():
    found = {name: getattr(theirs, name) for name in LOSSES}
    yield found
    assert {name: getattr(theirs, name) for name in LOSSES} == found


def test_patched(originals):
    model = Written()
    plain = model(X)
    assert routed(plain) == [False] * 9
    with F.patched():
        losses = model(X)
        assert routed(losses) == [True] * 9
        with pytest.raises(KeyError), F.patched():
            raise KeyError
        assert routed(model(X)) == [True] * 9
    assert routed(model(X)) == [False] * 9
    torch.testing.assert_close(losses, plain)
    sum(losses).backward()
    grad = model.body.weight.grad
    model.zero_grad()
    sum(plain).backward()
    torch.testing.assert_close(grad, model.body.weight.grad)


def test_patch_counts_its_uses(originals):
    F.unpatch()  # without a patch: nothing
    F.patch()
    F.patch()
    F.unpatch()
    assert theirs.cross_entropy is F.cross_entropy
    with F.patched():
        F.unpatch()
        assert theirs.cross_entropy is F.cross_entropy
    assert theirs.cross_entropy is originals["cross_entropy"]
    F.unpatch()


def test_patch_leaves_other_patches_alone(monkeypatch):
    def another(*args, **options):
        return F.mse_loss(*args, **options)

    with monkeypatch.context() as change:
        change.setattr(theirs, "mse_loss", theirs.mse_loss)
        with F.patched():
            theirs.mse_loss = another
        assert theirs.mse_loss is another


def test_patched_falls_back_to_pytorch(originals):
    """What PyTorch's own function calls by its global name must not lead back here."""
    seen = []

    class Subclass(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            seen.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    with F.patched():
        assert isinstance(theirs.mse_loss(X.as_subclass(Subclass), Q), Subclass)
        assert originals["mse_loss"] in seen
        with pytest.raises(IndexError):
            theirs.cross_entropy(X, Y + 1)
        assert theirs.mse_loss(X.to("meta"), Q.to("meta")).is_meta


def test_patched_from_many_threads(originals):
    """However the blocks overlap, inside one the losses are routed, and after the last they are not."""
    model, failures, start = Written(), [], threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(50):
            with F.patched():
                if not all(routed([model.criteria[0](model.body(X), Y)])):
                    failures.append("not routed")

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_patched_and_compiled(originals):
    model, seen = Written(), []
    with F.patched():
        losses = torch.compile(model, fullgraph=True, backend=recording(seen))(X)
    torch.testing.assert_close(losses, model(X))
    assert set(seen) == set(LOSSES)


def test_patched_before_anything_is_compiled():
    """Dynamo, which is imported then at the latest, has to know PyTorch's own functions."""
    code = (
        "import torch, fastloss.torch as F\n"
        "def backend(graph, inputs):\n"
        "    print(graph.code)\n"
        "    return graph\n"
        "with F.patched():\n"
        "    loss = torch.compile(lambda x: torch.nn.functional.mse_loss(x, x), backend=backend)\n"
        "    loss(torch.ones(3))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert "torch.ops.fastloss.mse_loss" in run.stdout


def test_every_function_has_its_operator():
    assert {*LOSSES, *ARRAY_FUNCTIONS} <= set(F.__all__)


@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss", "softmax"])
def test_row_counts_that_the_data_tells(name):
    """Rows are chosen by two masks, whose lengths agree only when it runs."""
    x, y = torch.randn(8, 5), torch.tensor([0, 1, -100, 2, 3, -100, 4, 0])

    def chosen(x, y):
        rows = x[y != -100]
        if name == "softmax":
            return F.softmax(rows, 0)
        return getattr(F, name)(rows, y[y != -100] if name == "cross_entropy" else 2 * x[y != -100])

    class Model(torch.nn.Module):
        def forward(self, x, y):
            return chosen(x, y)

    rows = {0: torch.export.Dim("rows")}
    for strict in (False, True):
        program = torch.export.export(Model(), (x, y), dynamic_shapes=(rows, rows), strict=strict)
        assert f"fastloss.{name}" in str(program.graph)
        torch.testing.assert_close(program.module()(x, y), chosen(x, y))
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(chosen, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, y), chosen(x, y))
