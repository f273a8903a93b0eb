"""Tensors whose axes have another order in memory, as with channels_last: not copied, and kept."""

from pathlib import Path

import numpy as np
import pytest

import fastloss

torch = pytest.importorskip("torch", exc_type=ImportError)
F = pytest.importorskip("fastloss.torch")

LAST = torch.channels_last
ALONG_CLASSES = ["softmax", "log_softmax"]
ELEMENTWISE = ["sigmoid", "logsigmoid"]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def inputs(dtype):
    generator = torch.Generator().manual_seed(3)
    x, g = torch.randn(2, 2, 5, 6, 7, generator=generator, dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=LAST), g


def tolerance(dtype):
    """Between two ways of at most 16 roundings each, of terms of about 1 or the result.

    Half precision is computed in float32, and rounded once: to the same number or its neighbour.
    """
    half = dtype == torch.bfloat16
    roundings = 16 * torch.finfo(torch.float32 if half else dtype).eps
    return {"rtol": torch.finfo(dtype).eps if half else roundings, "atol": roundings}


def call(name, x):
    return getattr(F, name)(x, 1) if name in ALONG_CLASSES else getattr(F, name)(x)


@pytest.mark.parametrize("name", [*ALONG_CLASSES, *ELEMENTWISE])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("format", [LAST, torch.contiguous_format])
def test_array_functions(name, dtype, format):
    """Results have the memory format of input; the gradient is right, whatever that of what arrives."""
    x, g = inputs(dtype)
    g = g.contiguous(memory_format=format)
    there = x.clone().requires_grad_()
    plain = x.contiguous().requires_grad_()
    got, wanted = call(name, there), call(name, plain)
    assert got.stride() == x.stride()
    torch.testing.assert_close(got.contiguous(), wanted, **tolerance(dtype))
    (by_there,), (by_plain,) = torch.autograd.grad(got, there, g), torch.autograd.grad(wanted, plain, g)
    torch.testing.assert_close(by_there.contiguous(), by_plain.contiguous(), **tolerance(dtype))


@pytest.mark.parametrize("name", ALONG_CLASSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backward_is_that_of_arrays(name, dtype):
    """One formula: `softmax_vjp` and `log_softmax_vjp`, to the bit."""
    x, g = inputs(dtype)
    for source in (x, x.contiguous()):
        leaf = source.clone().requires_grad_()
        y = call(name, leaf)
        (grad,) = torch.autograd.grad(y, leaf, g, retain_graph=True)
        wanted = getattr(fastloss, f"{name}_vjp")(y.detach().numpy(), g.numpy(), 1)
        assert np.array_equal(grad.numpy(), wanted)
        (by_mean,) = torch.autograd.grad(y.sum(), leaf)  # of which one number stands for all
        wanted = getattr(fastloss, f"{name}_vjp")(y.detach().numpy(), np.ones_like(g.numpy()), 1)
        assert np.array_equal(by_mean.numpy(), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses(dtype):
    x, _ = inputs(dtype)
    labels = torch.arange(84).reshape(2, 6, 7) % 5
    generator = torch.Generator().manual_seed(4)
    y = torch.rand(x.shape, generator=generator).to(dtype).contiguous(memory_format=LAST)
    weight = torch.rand(5, 1, 1, generator=generator).to(dtype)
    calls = [
        lambda x, y, r: F.cross_entropy(x, labels, reduction=r),
        lambda x, y, r: F.cross_entropy(x, torch.softmax(y, 1), reduction=r),
        lambda x, y, r: F.nll_loss(x, labels, reduction=r),
        lambda x, y, r: F.binary_cross_entropy_with_logits(x, y, weight, pos_weight=weight, reduction=r),
        lambda x, y, r: F.mse_loss(x, y, reduction=r),
        lambda x, y, r: F.soft_margin_loss(x, y, reduction=r),
    ]
    for loss in calls:
        for reduction in ("mean", "sum", "none"):
            there, plain = x.clone().requires_grad_(), x.contiguous().requires_grad_()
            got, wanted = loss(there, y, reduction), loss(plain, y.contiguous(), reduction)
            torch.testing.assert_close(got.contiguous(), wanted, **tolerance(dtype))
            got.sum().backward()
            wanted.sum().backward()
            torch.testing.assert_close(there.grad.contiguous(), plain.grad, **tolerance(dtype))
            assert there.grad.stride() == x.stride()


LOSSES = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "mse_loss",
    "poisson_nll_loss",
    "soft_margin_loss",
]


@pytest.mark.parametrize("name", [*LOSSES, "cross_entropy"])
@pytest.mark.parametrize("compiled", [False, True])
def test_values_and_gradients_have_the_format_of_input(name, compiled):
    """Small or large, in eager code or compiled; values of classes are contiguous, as PyTorch's."""
    for shape in ((2, 3, 2, 2), (8, 8, 16, 16)):
        x = torch.rand(shape).contiguous(memory_format=LAST).requires_grad_()
        y = torch.rand(shape).contiguous(memory_format=LAST)
        for reduction in ("none", "sum"):
            torch._dynamo.reset()

            def loss(x, y, reduction=reduction):
                return getattr(F, name)(x, y, reduction=reduction)

            value = torch.compile(loss, backend="aot_eager")(x, y) if compiled else loss(x, y)
            (grad,) = torch.autograd.grad(value, x, torch.ones_like(value))
            assert grad.stride() == x.stride()
            if value.ndim:
                assert value.stride() == x.stride() if name in LOSSES else value.is_contiguous()


@pytest.mark.parametrize("name", [*LOSSES, "cross_entropy", *ALONG_CLASSES, *ELEMENTWISE])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 0), (0, 3, 0)])
def test_empty_tensors_have_the_steps_of_pytorchs(name, dtype, shape):
    x = torch.zeros(shape, dtype=dtype).requires_grad_()
    losses = name in (*LOSSES, "cross_entropy")
    value = getattr(F, name)(x, x.detach(), reduction="none") if losses else call(name, x)
    (grad,) = torch.autograd.grad(value, x, torch.ones_like(value))
    for result in (value, grad):
        assert result.stride() == torch.empty(result.shape).stride()
        assert result.dtype == dtype


@pytest.mark.parametrize("name", ["cross_entropy", *LOSSES[3:4], *ALONG_CLASSES, *ELEMENTWISE])
def test_operators_promise_the_format_that_they_have(name):
    """What torch.compile is told of the strides is what there is."""
    for x in (inputs(torch.float32)[0], torch.randn(5, 6, 7).permute(2, 0, 1), torch.randn(4, 5, 6)[:, ::2]):
        along = (1,) if name in ALONG_CLASSES else ()
        if name == "cross_entropy":
            labels = torch.zeros(x.shape[:1] + x.shape[2:], dtype=torch.int64)
            along = (labels, None, -100, "none", 0.0, True)
        elif name == "mse_loss":
            along = (torch.zeros(x.shape), "none", True)
        operator = getattr(torch.ops.fastloss, name).default
        real = operator(x, *along)
        with torch._subclasses.FakeTensorMode() as mode:
            fake = operator(*(mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in (x, *along)))
        for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (real, fake)), strict=True):
            assert (a.shape, a.stride()) == (b.shape, b.stride())


def grown(call):
    """By how many bytes a call raises the memory of the process at most."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        pytest.skip("needs Linux")

    def field(name):
        return 1024 * int(status.read_text().partition(f"{name}:")[2].split()[0])

    reset.write_text("5")
    before = field("VmRSS")
    call()
    return field("VmHWM") - before


CALLS = {
    "cross_entropy": (lambda x, t, y: F.cross_entropy(x, t), 1),
    "probabilities": (lambda x, t, y: F.cross_entropy(x, y), 1),
    "bce_with_logits": (lambda x, t, y: F.binary_cross_entropy_with_logits(x, y), 1),
    "softmax": (lambda x, t, y: F.softmax(x, 1).sum(), 2),
    "log_softmax": (lambda x, t, y: F.log_softmax(x, 1).sum(), 2),
    "sigmoid": (lambda x, t, y: F.sigmoid(x).sum(), 2),
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_copied(name):
    """What loss and backward pass add is the gradient, and the result of an array function."""
    call, results = CALLS[name]
    x = torch.zeros(20, 32, 128, 128).contiguous(memory_format=LAST).requires_grad_()
    t, y = torch.zeros(20, 128, 128, dtype=torch.int64), torch.zeros_like(x)
    if name in ALONG_CLASSES:
        results += 1  # what arrives, one number for all, as an array
    assert grown(lambda: call(x, t, y).backward()) <= results * x.nbytes + 2**23
    assert x.grad.is_contiguous(memory_format=LAST)
