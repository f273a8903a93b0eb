"""fastloss.torch against torch.nn.functional: values, gradients, dtypes, errors, warnings, memory.

PyTorch in float64 is the truth, and an error may not be larger than PyTorch's own.
"""

import contextlib
import inspect
import itertools
import math
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import fastloss
from fastloss import _kernels
from tests.support.cases import CLASSES, REDUCTIONS, fixture_of

torch = pytest.importorskip("torch", reason="fastloss.torch needs PyTorch")
import fastloss.torch as F  # noqa: E402
from fastloss.torch._operators import _tensor  # noqa: E402

theirs = torch.nn.functional
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
dtype = fixture_of(DTYPES)
MODULES = {name: made for name, made in CLASSES.items() if hasattr(F, name)}
LOSSES = [*MODULES]
FUNCTIONS = ["softmax", "log_softmax", "logsumexp", "logsigmoid", "sigmoid"]
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")


def own(name):
    return getattr(torch if name in ("logsumexp", "sigmoid") else theirs, name)


def double(value):
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().double()
    return torch.float64 if isinstance(value, torch.dtype) else value


def near(got, expected, truth, what):
    """As near to the truth as PyTorch's result, up to the rounding of the largest element.

    Half precision is rounded once; in float32 the softmax in a gradient has its own 4 u + u |d|, |d| < 30.
    """
    assert (got.dtype, got.shape, got.device) == (expected.dtype, expected.shape, expected.device), what
    got, expected, truth = got.detach().double(), expected.detach(), truth.detach()
    kind = torch.finfo(expected.dtype)
    expected = expected.double()
    finite = truth.isfinite() & (truth.abs() <= kind.max)
    same = (got == truth) | (got.isnan() & truth.isnan()) | (~finite & (got == expected))
    largest = float(truth[finite].abs().max()) if finite.any() else 0.0
    ulps = 1 if kind.bits == 16 else 4
    if kind.bits == 32 and what[:2] == ("softmax", "gradient"):  # p (g - sum p g), where p is off by 2 ulp
        largest = max(1.0, largest)
    if kind.bits == 64:  # the truth is PyTorch's own result, with its rounding
        ulps, largest = 32, max(1.0, largest)
    error, worst = (got - truth).abs(), (expected - truth)[finite & expected.isfinite()].abs()
    worst = float(worst.max()) if worst.numel() else 0.0
    allowed = worst + ulps * kind.eps * max(largest, kind.smallest_normal)
    assert (same | (error <= allowed)).all(), (what, got, expected, truth)


def compare(name, input, *args, grad=True, **options):
    """One call of both, and the gradient of a random multiple of the result; returns our result."""
    results = []
    for function, change in [(getattr(F, name), lambda v: v), (own(name), lambda v: v), (own(name), double)]:
        leaf = change(input).detach().clone().requires_grad_(grad)
        value = function(leaf, *map(change, args), **{k: change(v) for k, v in options.items()})
        slope = None
        if grad:
            scale = torch.rand(value.shape, generator=torch.manual_seed(3)) - 0.5
            scale = scale.to(results[0][0].dtype if results else value.dtype)
            slope = torch.autograd.grad(value, leaf, scale.to(value.dtype))[0]
        results.append((value, slope))
    (value, slope), (their_value, their_slope), (true_value, true_slope) = results
    assert value.requires_grad == their_value.requires_grad
    near(value, their_value, true_value, (name, "value", args, options))
    if grad:
        near(slope, their_slope, true_slope, (name, "gradient", args, options))
    return value


def on_fastloss(result):
    """Whether a result that has a gradient came from here."""
    return "_Recorded" in type(result.grad_fn).__name__


SHAPES = [(5,), (4, 5), (3, 70), (3, 5, 2), (2, 3, 4, 2), (0, 5), (3, 1)]


# ---------------------------------------------------------------------------- every combination of arguments


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy(reduction, dtype):
    kinds = ["labels", "some ignored", "all ignored", "class 0 ignored", "probabilities"]
    for shape, weighted, smoothing, kind in itertools.product(SHAPES, [False, True], [0.0, 0.1, 1.0], kinds):
        axis = min(1, len(shape) - 1)
        rest = shape[:axis] + shape[axis + 1 :]
        input = 4 * torch.randn(shape).to(dtype)
        options = {"reduction": reduction, "label_smoothing": smoothing}
        if weighted:
            options["weight"] = (0.1 + torch.rand(shape[axis])).to(dtype)
        target = torch.randint(0, shape[axis], rest)
        if kind == "probabilities":
            target = torch.randn(shape).softmax(axis).to(dtype)
        elif kind == "some ignored":
            target[torch.rand(rest) < 0.3] = -100
        elif kind == "all ignored":
            target[...] = -100
        elif kind == "class 0 ignored":
            options["ignore_index"] = 0
        value = compare("cross_entropy", input, target, **options)
        assert on_fastloss(value) or value.isnan()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nll_loss(reduction, dtype):
    for shape, weighted, ignored in itertools.product(SHAPES, [False, True], [-100, 0]):
        axis = min(1, len(shape) - 1)
        input = torch.randn(shape).log_softmax(axis).to(dtype)
        target = torch.randint(0, shape[axis], shape[:axis] + shape[axis + 1 :])
        weight = (0.1 + torch.rand(shape[axis])).to(dtype) if weighted else None
        value = compare("nll_loss", input, target, weight, ignore_index=ignored, reduction=reduction)
        assert on_fastloss(value) or value.isnan()


POINTWISE_SHAPES = [(), (7,), (4, 5), (2, 3, 40), (0,), (3, 0)]


def weights(shape, dtype):
    """None, and weights that broadcast to the shape."""
    yield None
    for own_shape in {(), (1,), shape[-1:], shape[-2:], (1, *shape[1:])}:
        if len(own_shape) <= len(shape):
            yield torch.rand(own_shape).to(dtype)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(reduction, dtype):
    for shape in POINTWISE_SHAPES:
        logits, target = 5 * torch.randn(shape).to(dtype), torch.rand(shape).round(decimals=1).to(dtype)
        for weight in weights(shape, dtype):
            options = {"weight": weight, "reduction": reduction}
            compare("binary_cross_entropy", (0.01 + 0.98 * torch.rand(shape)).to(dtype), target, **options)
            for pos_weight in weights(shape, dtype):
                value = compare(
                    "binary_cross_entropy_with_logits", logits, target, pos_weight=pos_weight, **options
                )
                assert on_fastloss(value) or value.isnan()


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
def test_kl_div_and_mse_loss(reduction, dtype):
    for shape, log_target in itertools.product(POINTWISE_SHAPES, [False, True]):
        input = -3 * torch.rand(shape).to(dtype)
        target = -3 * torch.rand(shape).to(dtype)
        if not log_target:
            target = (target.exp() * (torch.rand(shape) < 0.8)).to(dtype)
        value = compare("kl_div", input, target, reduction=reduction, log_target=log_target)
        assert on_fastloss(value) or value.isnan()
        if reduction != "batchmean":
            value = compare("mse_loss", input, target, reduction=reduction)
            assert on_fastloss(value) or value.isnan()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_soft_margin_losses(reduction, dtype):
    for shape in [*POINTWISE_SHAPES, (30, 20)]:
        input = 4 * torch.randn(shape).to(dtype)
        signs = (2 * torch.randint(0, 2, shape) - 1).to(dtype)
        for target in (signs, torch.randn(shape).to(dtype), 0 * signs):
            value = compare("soft_margin_loss", input, target, reduction=reduction)
            assert on_fastloss(value) or value.isnan()
        if shape and shape[-1]:
            for target, weight in itertools.product([signs.clamp(0), signs / 3], weights(shape, dtype)):
                value = compare("multilabel_soft_margin_loss", input, target, weight, reduction=reduction)
                assert on_fastloss(value)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_poisson_nll_loss(reduction, dtype):
    for shape in [*POINTWISE_SHAPES, (30, 20)]:
        for log_input, full, eps in itertools.product([False, True], [False, True], [1e-8, 0.5]):
            input = torch.randn(shape).to(dtype)
            input = input if log_input else input.abs() + 0.25
            options = {"log_input": log_input, "full": full, "eps": eps, "reduction": reduction}
            value = compare("poisson_nll_loss", input, torch.randint(0, 9, shape).to(dtype), **options)
            assert on_fastloss(value) or value.isnan()


def test_soft_margin_loss_is_binary_cross_entropy(dtype):
    """To the last bit, for targets of 1 and -1; and what would overflow in exp(-y x) does not."""
    input = torch.cat([200 * torch.randn(50), torch.tensor([0.0, 1000.0, -1000.0, torch.inf])]).to(dtype)
    signs = (2 * torch.randint(0, 2, input.shape) - 1).to(dtype)
    for reduction in REDUCTIONS:
        results = []
        for name, target in (
            ("soft_margin_loss", signs),
            ("binary_cross_entropy_with_logits", (1 + signs) / 2),
            ("multilabel_soft_margin_loss", (1 + signs) / 2),
        ):
            leaf = input.clone().requires_grad_()
            value = getattr(F, name)(leaf, target, reduction=reduction)
            value.sum().backward()
            results.append((value.detach(), leaf.grad))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
        if reduction == "mean":
            assert torch.equal(results[2][0], results[1][0])
            assert torch.equal(results[2][1], results[1][1])


def test_rows_of_multilabel_soft_margin_loss_do_not_depend_on_each_other():
    input, target = torch.randn(300, 120), torch.rand(300, 120)
    together = F.multilabel_soft_margin_loss(input, target, reduction="none")
    for row in range(0, 300, 50):
        alone = F.multilabel_soft_margin_loss(input[row : row + 1], target[row : row + 1], reduction="none")
        assert torch.equal(alone, together[row : row + 1])


def test_array_functions(dtype):
    for shape in [(5,), (4, 5), (3, 70), (2, 3, 4), (2, 3, 2, 4), (0, 5)]:
        input = 4 * torch.randn(shape).to(dtype)
        assert on_fastloss(compare("logsigmoid", input))
        assert on_fastloss(compare("sigmoid", input))
        for count in range(2, len(shape) + 1):
            for dims in itertools.permutations(range(-1, len(shape) - 1), count):
                if all(shape[dim] for dim in dims):
                    assert on_fastloss(compare("logsumexp", input, dims))
                    assert on_fastloss(compare("logsumexp", input, [*dims], True))
        for dim in range(-len(shape), len(shape)):
            if shape[dim]:
                assert on_fastloss(compare("softmax", input, dim))
                wide = dtype if dtype == torch.float64 else torch.float32
                assert on_fastloss(compare("log_softmax", input, dim, dtype=wide))
                assert on_fastloss(compare("logsumexp", input, dim))
                assert on_fastloss(compare("logsumexp", input, (dim,), True))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_strided_and_negative_views(reduction, dtype):
    logits, target = torch.randn(6, 5, 4, 3).to(dtype), torch.randint(0, 5, (6, 4, 3))
    moved = logits.transpose(0, 3).contiguous().transpose(0, 3)
    for leaf in (logits.contiguous(memory_format=torch.channels_last), moved):
        assert not leaf.requires_grad_().is_contiguous()
        value = F.cross_entropy(leaf, target, reduction=reduction)
        wanted = F.cross_entropy(logits, target, reduction=reduction)
        assert on_fastloss(value)
        within = 8 * torch.finfo(dtype).eps  # classes that stand elsewhere are added up in another order
        torch.testing.assert_close(value.detach(), wanted, rtol=within, atol=within)
        value.sum().backward()
        assert leaf.grad.stride() == leaf.stride()
    if dtype in (torch.float32, torch.float64):
        negative = torch.complex(logits, logits).conj().imag
        assert negative.is_neg()
        value = F.mse_loss(negative, logits, reduction=reduction)
        assert torch.equal(value, F.mse_loss(-logits, logits, reduction=reduction))


def test_large_calls(dtype):
    """Above the size from which threads are used."""
    input, target = torch.randn(300, 200).to(dtype), torch.randint(0, 200, (300,))
    compare("cross_entropy", input, target)
    compare("cross_entropy", input, target, reduction="none")
    compare("mse_loss", input, input.flip(0))
    compare("softmax", input, 1)


# ---------------------------------------------------------------------------- half precision


@pytest.mark.parametrize(("half", "terms"), [(torch.float16, (11, 24)), (torch.bfloat16, (8, 30))], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sums_are_rounded_once_to_half_precision(half, terms, reduction):
    """A sum just above the middle of two numbers; rounded to float32 first, it would be at it."""
    log_p = -torch.tensor([1, *(2.0**-n for n in terms), 0], dtype=half)[:, None]
    above = torch.nextafter(torch.ones((), dtype=half), torch.tensor(2, dtype=half))
    wanted = above if reduction == "sum" else above / 4
    for sign in (1, -1):
        assert (
            F.nll_loss(sign * log_p, torch.zeros(4, dtype=torch.int64), reduction=reduction) == sign * wanted
        )


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_rounding_to_half_precision(half):
    """Right beside every kind of middle: of normal and subnormal numbers, and at the largest."""
    known = torch.finfo(half)
    smallest = known.smallest_normal * known.eps
    for number in (1.0, 1.5, 1000.0, known.smallest_normal, 3 * smallest, known.max):
        at = torch.tensor(number, dtype=half)
        after = torch.nextafter(at, torch.tensor(math.inf, dtype=half))
        before = torch.nextafter(at, torch.zeros((), dtype=half)).item()
        middle = number + (after.item() - number if after.isfinite() else number - before) / 2
        for value, wanted in ((math.nextafter(middle, 0), at), (math.nextafter(middle, math.inf), after)):
            assert _tensor(value, half) == wanted
            assert _tensor(-value, half) == -wanted
    for value in (0.0, math.inf, -math.inf, 1e300):
        assert _tensor(value, half) == torch.tensor(value, dtype=torch.float64).to(half)
    assert _tensor(math.nan, half).isnan()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_mean_over_many_rows_in_half_precision(half):
    """70,000 rows: PyTorch's running sum overflows in float16."""
    input, target = torch.randn(70_000, 3).to(half), torch.randint(0, 3, (70_000,))
    leaf = input.clone().requires_grad_()
    value = F.cross_entropy(leaf, target)
    wanted = theirs.cross_entropy(input.double(), target)
    assert value.dtype == half
    assert abs(value.item() - wanted.item()) <= torch.finfo(half).eps * wanted.item()
    if half == torch.float16:
        assert not abs(theirs.cross_entropy(input, target).item() - wanted.item()) < 0.1
    value.backward()
    assert leaf.grad.dtype == half


def test_loss_scale_in_float16():
    """A gradient that float16 loses is there when grad_output scales it, as with torch.amp.GradScaler."""
    leaf, target = torch.randn(70_000, 3).half().requires_grad_(), torch.randint(0, 3, (70_000,))
    (F.cross_entropy(leaf, target).float() * 2.0**15).backward()
    double = leaf.detach().double().requires_grad_()
    (theirs.cross_entropy(double, target) * 2.0**15).backward()
    torch.testing.assert_close(leaf.grad.double(), double.grad, rtol=2.0**-11, atol=2.0**-25)


def gradient_terms(name, x, g, dims):
    """The gradient in float64, for g arriving, and the size of the terms that it is the sum of."""
    if "sigmoid" in name:
        slope = g * torch.sigmoid(-x) * (torch.sigmoid(x) if name == "sigmoid" else 1)
        return slope, slope.abs()
    p = torch.exp(x - torch.logsumexp(x, dims, keepdim=True))
    if name == "logsumexp":
        return g * p, (g * p).abs()
    if name == "softmax":
        mean, size = ((p * h).sum(dims, keepdim=True) for h in (g, g.abs()))
        return p * (g - mean), p * (g.abs() + size)
    return g - p * g.sum(dims, keepdim=True), g.abs() + p * g.abs().sum(dims, keepdim=True)


WIDE = [((3, 70), (1,)), ((70, 3), (0,)), ((2, 40, 3), (1,)), ((2, 40, 3), (2, 0)), ((5, 8), (0, 1))]
WIDE += [((1, 600, 700), (-1,)), ((700, 600), (0,)), ((2**19,), (0,))]  # in pieces


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_in_half_precision_are_rounded_once(name, half):
    """Half an ulp, and what float32 loses of the terms: a rounding for each added, |d| of them in exp(d)."""
    for shape, dims in WIDE:
        if len(dims) > 1 and name != "logsumexp":
            continue
        input = (3 * torch.randn(shape)).to(half)
        options = {} if "sigmoid" in name else {"dim": dims[0] if name != "logsumexp" else dims}
        if name == "logsumexp":
            options["keepdim"] = True
        # nearly equal, so that terms cancel
        g = (1 + 0.01 * torch.randn(getattr(F, name)(input, **options).shape)).to(half)
        truth, terms = gradient_terms(name, input.double(), g.double(), dims)
        added = math.prod(shape[dim] for dim in dims) + 2 * float(input.max() - input.min()) + 16
        kind = torch.finfo(half)
        allowed = kind.eps / 2 * truth.abs() + kind.eps * kind.smallest_normal + 2.0**-24 * added * terms
        for graph in (False, True):
            leaf = input.clone().requires_grad_()
            value = getattr(F, name)(leaf, **options)
            assert on_fastloss(value)
            (slope,) = torch.autograd.grad(value, leaf, g, create_graph=graph)
            assert slope.dtype == half
            assert ((slope.detach().double() - truth).abs() <= allowed).all(), (shape, dims)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_a_gradient_that_the_rounded_result_has_lost(half):
    """PyTorch's, from the rounded result, is several percent off, or 0."""
    confident, g = torch.tensor([6.0, 1.0, -2.0, 0.5]).to(half), torch.tensor([1.0, 0.5, 0.25, 2.0]).to(half)
    for name, dims in (("softmax", (0,)), ("log_softmax", (0,)), ("sigmoid", ())):
        errors = []
        for function in (getattr(F, name), own(name)):
            leaf = confident.clone().requires_grad_()
            (slope,) = torch.autograd.grad(function(leaf, *dims), leaf, g)
            truth, _ = gradient_terms(name, confident.double(), g.double(), dims)
            errors.append(float(((slope.double() - truth) / truth).abs().max()))
        assert errors[0] <= torch.finfo(half).eps / 2 * 1.01
        assert errors[1] > 2 * torch.finfo(half).eps or name == "log_softmax"


def test_the_gradient_of_a_saturated_sigmoid():
    """1 - sigmoid(20) is 0 in float32. Two sigmoids of 2 ulp each, and two products."""
    for dtype in (torch.float32, torch.float64):
        leaf = torch.tensor([-40.0, -20.0, 0.0, 20.0, 40.0], dtype=dtype, requires_grad=True)
        (slope,) = torch.autograd.grad(F.sigmoid(leaf).sum(), leaf)
        e = torch.exp(-leaf.detach().double().abs())
        torch.testing.assert_close(slope.double(), e / (1 + e) ** 2, rtol=6 * torch.finfo(dtype).eps, atol=0)


# ---------------------------------------------------------------------------- PyTorch's own samples


def operators(*names):
    tests = pytest.importorskip(
        "torch.testing._internal.common_methods_invocations", reason="PyTorch's sample inputs need expecttest"
    )
    return [operator for operator in tests.op_db if operator.name in names]


@pytest.mark.parametrize("name", [*LOSSES, *FUNCTIONS])
def test_sample_inputs(name, dtype):
    seen = 0
    for operator in operators(name, "nn.functional." + name):
        for sample in operator.sample_inputs("cpu", dtype, requires_grad=False):
            input, args, options = sample.input, sample.args, sample.kwargs
            grad = input.is_floating_point() and not (name == "binary_cross_entropy" and input.numel() == 0)
            compare(name, input, *args, grad=grad, **options)
            seen += 1
    assert seen >= 3


# ---------------------------------------------------------------------------- what is PyTorch's


def outcome(function, *args, **options):
    """Result or error, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = function(*args, **options)
        except Exception as error:
            result = (type(error), str(error))
    return result, [(w.category, str(w.message)) for w in caught]


def same_outcome(name, *args, **options):
    ours, our_warnings = outcome(getattr(F, name), *args, **options)
    other, other_warnings = outcome(own(name), *args, **options)
    assert our_warnings == other_warnings
    if isinstance(other, torch.Tensor):
        assert ours.dtype == other.dtype
        torch.testing.assert_close(ours, other, equal_nan=True)
    else:
        assert ours == other
    return ours


x, y, q = torch.zeros(3, 4), torch.tensor([0, 1, 2]), torch.full((3, 4), 0.25)
ERRORS = [
    ("cross_entropy", (x, torch.tensor([0, 1, 4])), {}),
    ("cross_entropy", (x, torch.tensor([0, -1, 2])), {}),
    ("cross_entropy", (x, y[:2]), {}),
    ("cross_entropy", (x, y.int()), {}),
    ("cross_entropy", (x, y.byte()), {}),
    ("cross_entropy", (x, y.byte()), {"label_smoothing": 0.1}),
    ("cross_entropy", (x, y.float()), {}),
    ("cross_entropy", (x, y.reshape(3, 1)), {}),
    ("cross_entropy", (x, x.long()), {}),
    ("cross_entropy", (x, q), {"ignore_index": 1}),
    ("cross_entropy", (x, q.double()), {}),
    ("cross_entropy", (x, y), {"weight": torch.ones(3)}),
    ("cross_entropy", (x, y), {"weight": torch.ones(4).double()}),
    ("cross_entropy", (x, y), {"weight": torch.ones(4, 1)}),
    ("cross_entropy", (x, y), {"label_smoothing": 1.5}),
    ("cross_entropy", (x, y), {"label_smoothing": -0.5}),
    ("cross_entropy", (x, y), {"label_smoothing": "0.1"}),
    ("cross_entropy", (x, y), {"reduction": "batchmean"}),
    ("cross_entropy", (x, y), {"reduction": "elementwise_mean"}),
    ("cross_entropy", (x, y), {"reduction": None}),
    ("cross_entropy", (x, y), {"ignore_index": 1.5}),
    ("cross_entropy", (x, None), {}),
    ("cross_entropy", (x.numpy(), y), {}),
    ("cross_entropy", (x.long(), y), {}),
    ("cross_entropy", (x.cfloat(), y), {}),
    ("cross_entropy", (torch.tensor(1.0), torch.tensor(0)), {}),
    ("cross_entropy", (torch.zeros(3, 0), y), {}),
    ("cross_entropy", (torch.zeros(4), torch.tensor([1])), {}),
    ("nll_loss", (x, torch.tensor([0, 1, 4])), {}),
    ("nll_loss", (x, y[:2]), {}),
    ("nll_loss", (x, y.int()), {}),
    ("nll_loss", (x, q), {}),
    ("nll_loss", (x, y), {"weight": torch.ones(3)}),
    ("nll_loss", (x, y), {"reduction": "no"}),
    ("nll_loss", (torch.zeros(4), torch.tensor([1])), {}),
    ("nll_loss", (torch.tensor(1.0), torch.tensor(0)), {}),
    ("binary_cross_entropy", (x + 1.5, q), {}),
    ("binary_cross_entropy", (x - 0.5, q), {"reduction": "none"}),
    ("binary_cross_entropy", (x / 0, q), {}),
    ("binary_cross_entropy", (x / 0, q), {"reduction": "none"}),
    ("binary_cross_entropy", (q, q[:2]), {}),
    ("binary_cross_entropy", (q, q.long()), {}),
    ("binary_cross_entropy", (q, q.double()), {}),
    ("binary_cross_entropy", (q, q), {"weight": torch.ones(3)}),
    ("binary_cross_entropy", (q, q), {"weight": torch.ones(2, 3, 4)}),
    ("binary_cross_entropy", (q, q), {"reduction": "batchmean"}),
    ("binary_cross_entropy_with_logits", (x, q[:2]), {}),
    ("binary_cross_entropy_with_logits", (x, q[0]), {}),
    ("binary_cross_entropy_with_logits", (x, q.long()), {}),
    ("binary_cross_entropy_with_logits", (x, q.double()), {}),
    ("binary_cross_entropy_with_logits", (x, q), {"weight": torch.ones(3)}),
    ("binary_cross_entropy_with_logits", (x, q), {"pos_weight": torch.ones(3)}),
    ("binary_cross_entropy_with_logits", (x, q), {"pos_weight": torch.ones(2, 3, 4)}),
    ("binary_cross_entropy_with_logits", (x, q), {"reduction": "no"}),
    ("kl_div", (x, q[0]), {}),
    ("kl_div", (x, q[:2]), {}),
    ("kl_div", (x, q.double()), {"reduction": "sum"}),
    ("kl_div", (x, q), {"reduction": "no"}),
    ("kl_div", (x, q), {}),
    ("kl_div", (x, q), {"reduction": "batchmean"}),
    ("kl_div", (x, q), {"log_target": 1}),
    ("kl_div", (x.long(), q), {}),
    ("soft_margin_loss", (x, q[0]), {}),
    ("soft_margin_loss", (x, q[:2]), {}),
    ("soft_margin_loss", (x, q.double()), {}),
    ("soft_margin_loss", (x, q.long()), {}),
    ("soft_margin_loss", (x.long(), q.long()), {}),
    ("soft_margin_loss", (x, q), {"reduction": "batchmean"}),
    ("soft_margin_loss", (x, None), {}),
    ("soft_margin_loss", (x, q.clone().requires_grad_()), {}),
    ("poisson_nll_loss", (x, q[0]), {}),
    ("poisson_nll_loss", (x, q.double()), {}),
    ("poisson_nll_loss", (x, q.long()), {}),
    ("poisson_nll_loss", (x.long(), q.long()), {}),
    ("poisson_nll_loss", (x, q), {"reduction": "batchmean"}),
    ("poisson_nll_loss", (x, q), {"eps": 1}),
    ("poisson_nll_loss", (x, q), {"eps": -0.5, "log_input": False}),
    ("poisson_nll_loss", (x, q), {"log_input": 1}),
    ("poisson_nll_loss", (x, None), {}),
    ("poisson_nll_loss", (x, q.clone().requires_grad_()), {}),
    ("multilabel_soft_margin_loss", (x, q[0]), {}),
    ("multilabel_soft_margin_loss", (x, q[:2]), {}),
    ("multilabel_soft_margin_loss", (x, q.double()), {}),
    ("multilabel_soft_margin_loss", (x, q.long()), {}),
    ("multilabel_soft_margin_loss", (x, q), {"weight": torch.ones(3)}),
    ("multilabel_soft_margin_loss", (x, q), {"weight": torch.ones(2, 3, 4)}),
    ("multilabel_soft_margin_loss", (x, q), {"weight": torch.ones(4).double()}),
    ("multilabel_soft_margin_loss", (x, q), {"reduction": "batchmean"}),
    ("multilabel_soft_margin_loss", (torch.tensor(1.0), torch.tensor(1.0)), {}),
    ("multilabel_soft_margin_loss", (torch.zeros(3, 0), torch.zeros(3, 0)), {}),
    ("mse_loss", (x, q[0]), {}),
    ("mse_loss", (x, q[:2]), {}),
    ("mse_loss", (x, q.double()), {}),
    ("mse_loss", (x, q.long()), {}),
    ("mse_loss", (x.long(), q.long()), {}),
    ("mse_loss", (x, q), {"weight": q}),
    ("mse_loss", (x, q), {"weight": q[0]}),
    ("mse_loss", (x, q), {"reduction": "batchmean"}),
    ("mse_loss", (x.cfloat(), q.cfloat()), {}),
    ("softmax", (x, 2), {}),
    ("softmax", (x,), {}),
    ("softmax", (x, None, 3, torch.float64), {}),
    ("softmax", (x.long(), 1), {}),
    ("softmax", (x.long(), 1), {"dtype": torch.float32}),
    ("softmax", (torch.tensor(1.0), 0), {}),
    ("softmax", (torch.zeros(3, 0), 1), {}),
    ("log_softmax", (x, -3), {}),
    ("log_softmax", (x,), {}),
    ("log_softmax", (x.cfloat(), 1), {}),
    ("logsumexp", (x, (0, 1)), {}),
    ("logsumexp", (x, [0], True), {}),
    ("logsumexp", (x.long(), 1), {}),
    ("logsumexp", (torch.zeros(3, 0), 1), {}),
    ("logsumexp", (x, 2), {}),
    ("logsumexp", (torch.tensor(1.0), 0), {}),
    ("logsumexp", (x, ()), {}),
    ("logsumexp", (x, (), True), {}),
    ("logsumexp", (x, (0, -2)), {}),
    ("logsumexp", (x, (0, 2)), {}),
    ("logsumexp", (x, (0, 1.0)), {}),
    ("logsumexp", (x, (True, 0)), {}),
    ("logsumexp", (x, torch.tensor(1)), {}),
    ("logsumexp", (x, None), {}),
    ("logsumexp", (x, 1, 1), {}),
    ("logsumexp", (x, 1, None), {}),
    ("logsumexp", (torch.zeros(3, 0), (0, 1)), {}),
    ("logsumexp", (torch.tensor(1.0), ()), {}),
    ("softmax", (x, 1), {"dtype": "cpu"}),
    ("softmax", (x, 1), {"dtype": torch.int64}),
    ("softmax", ([1.0], 0), {"dtype": torch.float64}),
    ("sigmoid", (x.long(),), {}),
    ("sigmoid", (x.cfloat(),), {}),
    ("sigmoid", ([1.0],), {}),
    ("sigmoid", (torch.tensor(1.0),), {}),
    ("logsigmoid", (x.long(),), {}),
    ("logsigmoid", (x.cfloat(),), {}),
    ("logsigmoid", ([1.0],), {}),
]


@pytest.mark.parametrize(("name", "args", "options"), ERRORS)
def test_the_outcome_is_pytorchs(name, args, options):
    """Errors, warnings, broadcasting, promotion: what is out of the ordinary is as PyTorch has it."""
    same_outcome(name, *args, **options)
    if isinstance(args[0], torch.Tensor) and args[0].is_floating_point():
        leaf = args[0].clone().requires_grad_()
        same_outcome(name, leaf, *args[1:], **options)


LEGACY = list(itertools.product([None, True, False], repeat=2))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("size_average", "reduce"), LEGACY)
def test_legacy_arguments(name, size_average, reduce):
    target = y if name in ("cross_entropy", "nll_loss") else q
    for reduction in REDUCTIONS:
        same_outcome(name, q, target, size_average=size_average, reduce=reduce, reduction=reduction)
    made, wanted = (
        outcome(getattr(package, MODULES[name]), size_average=size_average, reduce=reduce)
        for package in (F, torch.nn)
    )
    assert made[1] == wanted[1]
    assert made[0].reduction == wanted[0].reduction


def test_signatures():
    for name in [*LOSSES, "softmax", "log_softmax"]:
        ours, other = inspect.signature(getattr(F, name)), inspect.signature(own(name))
        assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
            (p.name, p.kind, p.default) for p in other.parameters.values()
        ]
    for name in LOSSES:
        made, wanted = getattr(F, MODULES[name]), getattr(torch.nn, MODULES[name])
        assert issubclass(made, wanted)
        assert inspect.signature(made) == inspect.signature(wanted)


def test_subclasses_modes_and_devices():
    """What is not a plain CPU tensor goes to PyTorch, with PyTorch's own function as its name."""
    seen = []

    class Subclass(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            seen.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    assert isinstance(F.cross_entropy(q.as_subclass(Subclass), y), Subclass)
    assert theirs.cross_entropy in seen
    assert F.mse_loss(q.to("meta"), q.to("meta")).is_meta
    assert F.logsumexp(q.to("meta"), 1).is_meta
    for function in (F.logsigmoid, lambda t: F.softmax(t, 1), lambda t: F.mse_loss(t, t)):
        with pytest.raises((NotImplementedError, RuntimeError)):
            function(q.to_sparse())
    assert torch.equal(F.mse_loss(torch.nn.Parameter(q), x).detach(), theirs.mse_loss(q, x))


def test_function_modes_see_the_call():
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    leaf = q.clone().requires_grad_()
    with Mode():
        value = F.cross_entropy(leaf, y)
    assert F.cross_entropy in seen
    assert on_fastloss(value)
    with torch.device("cpu"):  # a mode too
        assert on_fastloss(F.cross_entropy(leaf, y))


# ---------------------------------------------------------------------------- modules


@pytest.mark.parametrize("name", LOSSES)
def test_modules(name):
    weighted = name not in ("kl_div", "mse_loss", "soft_margin_loss", "poisson_nll_loss")
    options = {"reduction": "sum", **({"weight": torch.rand(4)} if weighted else {})}
    if name == "binary_cross_entropy_with_logits":
        options["pos_weight"] = torch.rand(4)
    ours, other = getattr(F, MODULES[name])(**options), getattr(torch.nn, MODULES[name])(**options)
    target = y if name in ("cross_entropy", "nll_loss") else q
    assert repr(ours) == repr(other)
    assert dict(ours.named_buffers()).keys() == dict(other.named_buffers()).keys()
    assert list(ours.state_dict()) == list(other.state_dict())
    fresh = getattr(F, MODULES[name])(**{k: v * 0 if torch.is_tensor(v) else v for k, v in options.items()})
    fresh.load_state_dict(other.state_dict())
    leaf = q.clone().requires_grad_()
    value = fresh(leaf, target)
    assert on_fastloss(value)
    torch.testing.assert_close(value, other(leaf, target))
    assert torch.equal(pickle.loads(pickle.dumps(ours))(leaf, target), value)
    twice = ours.double()(leaf.double(), target.double() if target is q else target)
    assert twice.dtype == torch.float64
    assert on_fastloss(twice)


# ---------------------------------------------------------------------------- what is computed, and where


def watch_losses(monkeypatch, see):
    """Tell `see` of each loss that is computed: the input, whether the gradient was asked for, the result."""
    plain_loss = _kernels.module.plain_loss

    def watched(loss, input, *rest):
        result = plain_loss(loss, input, *rest)
        see(input, rest[9], result)
        return result

    monkeypatch.setattr(_kernels.module, "plain_loss", watched)


@pytest.fixture
def evaluations(monkeypatch):
    """What the core was asked: (input, whether the gradient too)."""
    calls = []
    watch_losses(monkeypatch, lambda input, with_grad, result: calls.append((input, with_grad)))
    return calls


CALLS = {
    "cross_entropy": lambda t: F.cross_entropy(t, y),
    "cross_entropy smoothed": lambda t: F.cross_entropy(t, y, label_smoothing=0.1),
    "nll_loss": lambda t: F.nll_loss(t, y, reduction="sum"),
    "binary_cross_entropy_with_logits": lambda t: F.binary_cross_entropy_with_logits(t, q),
    "binary_cross_entropy": lambda t: F.binary_cross_entropy(t, q),
    "kl_div": lambda t: F.kl_div(t, q, reduction="batchmean"),
    "mse_loss": lambda t: F.mse_loss(t, q),
    "soft_margin_loss": lambda t: F.soft_margin_loss(t, q),
    "poisson_nll_loss": lambda t: F.poisson_nll_loss(t, q),
    "multilabel_soft_margin_loss": lambda t: F.multilabel_soft_margin_loss(t, q, reduction="sum"),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_gradient_is_computed_once_and_only_where_it_is_needed(name, evaluations):
    def asked():
        flags = [flag for _, flag in evaluations]
        evaluations.clear()
        return flags

    leaf = q.clone().requires_grad_()
    CALLS[name](q)
    with torch.no_grad():
        CALLS[name](leaf)
    with torch.inference_mode():
        CALLS[name](leaf)
    assert asked() == [False, False, False]
    value = CALLS[name](leaf)
    value.backward(retain_graph=True)
    value.backward()
    assert asked() == [True]
    torch.autograd.grad(CALLS[name](leaf), leaf, create_graph=True)
    assert asked() == [True]


@pytest.mark.parametrize("name", CALLS)
def test_no_copies(name, evaluations):
    """The core reads the tensor's memory, and the memory that it fills becomes the gradient."""
    leaf = q.clone().requires_grad_()
    value = CALLS[name](leaf)
    assert evaluations[0][0].ctypes.data == leaf.data_ptr()
    written = value.grad_fn._raw_saved_tensors[0].data.data_ptr()
    value.backward()
    assert leaf.grad.data_ptr() == written
    leaf.grad = None
    value = CALLS[name](leaf)
    written = value.grad_fn._raw_saved_tensors[0].data.data_ptr()
    (value * 3).backward()
    assert leaf.grad.data_ptr() == written
    values = F.mse_loss(q, x, reduction="none")
    assert values.numpy().base is not None


def test_values_under_none_share_memory(monkeypatch):
    made = []
    watch_losses(monkeypatch, lambda input, with_grad, result: made.append(result))
    for call in (lambda: F.mse_loss(q, x, reduction="none"), lambda: F.cross_entropy(q, y, reduction="none")):
        assert call().data_ptr() == made[-1].ctypes.data


@pytest.mark.parametrize("rows", [3, 3000])
def test_arguments_can_be_resized_and_freed(rows, dtype):
    """As fully_shard does with parameters after the forward pass."""
    labels, layer = torch.randint(0, 4, (rows,)), torch.randn(4, 5).to(dtype)
    calls = {
        "cross_entropy": (labels, torch.ones(4).to(dtype)),
        "binary_cross_entropy_with_logits": (torch.rand(rows, 4).to(dtype),),
        "softmax": (1,),
        "log_softmax": (1,),
        "logsumexp": ((0, 1),),
        "sigmoid": (),
        "linear_cross_entropy": (layer, labels),
    }
    for name, args in calls.items():
        for transposed in (False, True):
            width = 5 if name == "linear_cross_entropy" else 4
            leaf = (
                torch.randn(width, rows).to(dtype).t() if transposed else torch.randn(rows, width).to(dtype)
            )
            value = getattr(F, name)(leaf.requires_grad_(), *args)
            arrives = torch.ones_like(value)
            value.backward(arrives)
            for tensor in (leaf, arrives, *args):
                assert not isinstance(tensor, torch.Tensor) or tensor.untyped_storage().resizable(), name


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_retained_graph_keeps_its_gradient(factor):
    leaf = torch.randn(3, 4, requires_grad=True)
    wanted = torch.autograd.grad(theirs.cross_entropy(leaf, y), leaf)[0] * factor
    value = F.cross_entropy(leaf, y) * factor
    for _ in range(3):
        (slope,) = torch.autograd.grad(value, leaf, retain_graph=True)
        torch.testing.assert_close(slope, wanted)
        slope.zero_()
    value.backward()
    torch.testing.assert_close(leaf.grad, wanted)
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


def test_a_saved_gradient_that_others_see_is_not_overwritten():
    seen = []
    leaf = torch.randn(3, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
        value = F.cross_entropy(leaf, y)
    before = seen[0].clone()
    (value * 3).backward()
    assert torch.equal(seen[0], before)
    torch.testing.assert_close(leaf.grad, 3 * before)


@pytest.mark.parametrize("elements", [4, 100_000])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values_beyond_the_largest_number_are_infinite(dtype, reduction, elements):
    """As PyTorch's, with finite gradients."""
    large = torch.finfo(dtype).max ** 0.5 * 2
    x = torch.full((elements,), large, dtype=dtype)
    for sign in (1, -1):
        results = []
        for function in (F.mse_loss, own("mse_loss")):
            leaf = (x * sign).requires_grad_()
            value = function(leaf, torch.zeros_like(x), reduction=reduction)
            value.sum().backward()
            results.append((value.detach(), leaf.grad))
        assert results[0][0].isposinf().all()
        torch.testing.assert_close(*results)
    if dtype == torch.float32 and reduction == "sum":
        log_p = torch.full((elements, 1), torch.finfo(dtype).max, dtype=dtype)
        assert F.nll_loss(log_p, torch.zeros(elements, dtype=torch.int64), reduction="sum").isneginf()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_input_may_be_overwritten_after_the_loss(dtype):
    """As in PyTorch, whose cross_entropy keeps the log-probabilities; a second derivative needs the input."""
    leaf = torch.randn(3, 4, dtype=dtype, requires_grad=True)
    hidden = leaf * 1
    value = F.cross_entropy(hidden, y)
    hidden.zero_()
    value.backward()
    torch.testing.assert_close(leaf.grad * 0, torch.zeros(3, 4, dtype=dtype))
    hidden = leaf * 1
    value = F.cross_entropy(hidden, y)
    hidden.add_(1)
    with pytest.raises(RuntimeError, match="inplace"):
        torch.autograd.grad(value, leaf, create_graph=True)


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in ("nll_loss", "soft_margin_loss")])
def test_gradients_of_targets_and_weights(name):
    """Where PyTorch gives them they are PyTorch's, and where it does not its error comes."""
    for reduction in REDUCTIONS:
        results = []
        for function in (getattr(F, name), own(name)):
            leaf, target = q.clone().requires_grad_(), (q + 0.1).requires_grad_()
            function(leaf, target, reduction=reduction).sum().backward()
            results.append((leaf.grad, target.grad))
        torch.testing.assert_close(*results)
    if name in ("cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits"):
        for function in (getattr(F, name), own(name)):
            weight = torch.ones(4, requires_grad=True)
            results.append(outcome(lambda f=function, w=weight: torch.autograd.grad(f(q, q, w), w)[0])[0])
        if isinstance(results[-1], tuple):
            assert results[-2] == results[-1]
        else:
            torch.testing.assert_close(results[-2], results[-1])


def test_nan_is_as_pytorch_has_it():
    """Also all weight on classes that do not occur: 0 / 0."""
    for name, target, options in [
        ("cross_entropy", y, {"weight": torch.tensor([0.0, 0.0, 0.0, 1.0])}),
        ("nll_loss", y, {"weight": torch.tensor([0.0, 0.0, 0.0, 1.0])}),
        ("cross_entropy", y, {}),
        ("mse_loss", q, {}),
    ]:
        input = q.clone()
        if not options:
            input[1, 1] = torch.nan
        slopes = []
        for function in (getattr(F, name), own(name)):
            leaf = input.clone().requires_grad_()
            value = function(leaf, target, **options)
            assert value.isnan()
            value.backward()
            slopes.append(leaf.grad)
        assert torch.equal(slopes[0].isnan(), slopes[1].isnan())


def test_what_differs_on_purpose():
    """The edges of the contract that lose nothing: docs/torch.md."""
    confident = torch.tensor([[20.0, 0.0]])
    assert theirs.cross_entropy(confident, torch.tensor([0])) == 0
    assert F.cross_entropy(confident, torch.tensor([0])).item() == pytest.approx(2.0611536e-09, rel=2**-22)
    assert theirs.soft_margin_loss(torch.tensor([-100.0]), torch.tensor([1.0])) == torch.inf
    assert F.soft_margin_loss(torch.tensor([-100.0]), torch.tensor([1.0])) == 100
    masked = torch.tensor([[0.0, -torch.inf]])
    assert theirs.cross_entropy(masked, torch.tensor([[1.0, 0.0]])).isnan()
    assert F.cross_entropy(masked, torch.tensor([[1.0, 0.0]])) == 0
    leaf = torch.tensor([[0.0, 1.0], [torch.nan, 0.0]], requires_grad=True)
    F.cross_entropy(leaf, torch.tensor([0, -100])).backward()
    assert leaf.grad[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "input", "target", "options", "wanted"),
    [
        ("binary_cross_entropy_with_logits", math.inf, 1.0, {}, 0.0),
        ("binary_cross_entropy_with_logits", -math.inf, 0.0, {}, 0.0),
        ("binary_cross_entropy_with_logits", -math.inf, 0.5, {}, math.inf),
        ("kl_div", math.inf, 0.0, {}, 0.0),
        ("kl_div", -math.inf, 0.0, {}, 0.0),
        ("kl_div", -1.0, -math.inf, {"log_target": True}, 0.0),
        ("poisson_nll_loss", math.inf, 1.0, {}, math.inf),
        ("poisson_nll_loss", -math.inf, 0.0, {}, 0.0),
        ("poisson_nll_loss", 0.0, 0.0, {"log_input": False, "eps": 0.0}, 0.0),
    ],
)
def test_limits_that_pytorch_has_as_nan(name, input, target, options, wanted):
    args = torch.tensor([input]), torch.tensor([target])
    assert own(name)(*args, **options).isnan()
    assert getattr(F, name)(*args, **options) == wanted


def test_threads_are_pytorchs(monkeypatch):
    seen = []
    watch_losses(monkeypatch, lambda *call: seen.append(fastloss.get_num_threads()))
    input = torch.zeros(_kernels.SERIAL_ELEMENTS // 4, 4)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(F.cross_entropy(input, torch.zeros(len(input), dtype=torch.long)))
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2]
    assert torch.equal(*results)


@pytest.mark.parametrize("name", CALLS)
def test_checking(name):
    """fastloss's own check of every call against its reference holds here too."""
    leaf = q.clone().requires_grad_()
    with fastloss.checking():
        value = CALLS[name](leaf)
    assert on_fastloss(value)


def test_importing_fastloss_does_not_import_torch():
    code = "import sys, fastloss; assert 'torch' not in sys.modules and 'fastloss.torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_bits_as_the_core(isa):
    rng = np.random.default_rng(5)
    logits, labels = rng.standard_normal((50, 7)).astype(np.float32), rng.integers(0, 7, 50)
    value, grad = fastloss.CrossEntropyLoss().value_and_grad(logits, labels)
    leaf = torch.tensor(logits, requires_grad=True)
    loss = F.cross_entropy(leaf, torch.tensor(labels))
    loss.backward()
    assert loss.item() == np.float32(value)
    assert np.array_equal(leaf.grad.numpy(), grad)


@pytest.mark.parametrize("rows", [30, 40_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batchmean_divides_by_the_first_axis(rows, dtype):
    x, t = (torch.rand(rows, 2).to(dtype).t() for _ in range(2))
    x = x.log().detach().requires_grad_()
    assert not x.is_contiguous()
    value = F.kl_div(x, t, reduction="batchmean")
    own = torch.nn.functional.kl_div(x.double(), t.double(), reduction="batchmean")
    torch.testing.assert_close(value.double(), own, rtol=2.0**-7, atol=0)
    expected = torch.autograd.grad(own * 2, x)[0]
    torch.testing.assert_close(torch.autograd.grad(value * 2, x)[0], expected)
    by_operator = torch.ops.fastloss.kl_div(x, t, "batchmean", False, False)[0]
    torch.testing.assert_close(by_operator.double(), own, rtol=2.0**-7, atol=0)


@pytest.mark.parametrize("arrives", [math.inf, math.nan])
def test_what_is_ignored_has_no_gradient_whatever_arrives(arrives, dtype):
    x = torch.randn(4, 3, dtype=dtype).requires_grad_()
    target = torch.tensor([0, 1, -100, -100])
    for reduction, grad_output in (
        ("none", torch.tensor([1, 1, arrives, 1], dtype=dtype)),
        ("mean", torch.tensor(arrives, dtype=dtype)),
    ):
        value = F.cross_entropy(x, target, reduction=reduction)
        assert (torch.autograd.grad(value, x, grad_output)[0][2:] == 0).all()
        value = F.nll_loss(x, target, reduction=reduction)
        expected = torch.autograd.grad(
            torch.nn.functional.nll_loss(x, target, reduction=reduction), x, grad_output
        )
        torch.testing.assert_close(torch.autograd.grad(value, x, grad_output), expected, equal_nan=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss"])
def test_gradients_that_arrive_as_something_else(name, dtype):
    """A tangent, and a subclass, of the gradient that arrives."""
    from torch.testing._internal.two_tensor import TwoTensor

    x = torch.randn(3, 4, dtype=dtype).requires_grad_()
    target = torch.tensor([0, 1, 2]) if name == "cross_entropy" else torch.randn(3, 4, dtype=dtype)
    value = getattr(F, name)(x, target)
    one, two = torch.ones((), dtype=dtype), torch.full((), 2, dtype=dtype)
    grad = torch.autograd.grad(value, x, one, retain_graph=True)[0]
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(one, two)
        found = torch.autograd.grad(value, x, dual, retain_graph=True)[0]
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(found).tangent, 2 * grad)
    found = torch.autograd.grad(value, x, TwoTensor(one, two))[0]
    assert torch.equal(found.a, grad)
    assert torch.equal(found.b, 2 * grad)


@pytest.mark.parametrize("size", [3, 100_000])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_targets_that_are_no_probabilities(size, reduction):
    for wrong in (255.0, -1.0, math.nan):
        with pytest.raises(RuntimeError, match="all elements of target should be between 0 and 1"):
            F.binary_cross_entropy(torch.full((size,), 0.5), torch.full((size,), wrong), reduction=reduction)


def test_values_of_classes_are_contiguous():
    logits = torch.randn(5, 3, 4).permute(1, 2, 0)
    labels = torch.zeros(3, 5, dtype=torch.long)
    assert F.cross_entropy(logits, labels, reduction="none").is_contiguous()


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("way", ["small", "strided", "large", "checking", "operator"])
def test_values_of_one_sample_have_no_dimensions(name, way, dtype):
    classes = _kernels.SERIAL_ELEMENTS if way == "large" else 5
    input = torch.randn(classes, 2, dtype=dtype)[:, 0].contiguous().requires_grad_()
    if way == "strided":
        input = torch.randn(classes, 2, dtype=dtype, requires_grad=True)[:, 0]
    with fastloss.checking() if way == "checking" else contextlib.nullcontext():
        if way == "operator":
            more = (0.0, True) if name == "cross_entropy" else (True,)
            operator = getattr(torch.ops.fastloss, name).default
            value = operator(input, torch.tensor(1), None, -100, "none", *more)[0]
        else:
            value = getattr(F, name)(input, torch.tensor(1), reduction="none")
    assert value.shape == ()
    (slope,) = torch.autograd.grad(value, input)
    assert slope.shape == input.shape


def test_warnings_name_the_callers_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        F.softmax(torch.ones(2, 2))
        F.log_softmax(torch.ones(2, 2))
    assert [warning.filename for warning in caught] == [__file__, __file__]


def test_logsigmoid_out():
    out = torch.empty(3)
    assert F.logsigmoid(torch.ones(3), out=out) is out
    assert torch.equal(out, torch.nn.functional.logsigmoid(torch.ones(3)))


def test_numpys_names_of_axes():
    x = torch.randn(3, 4)
    expected = torch.logsumexp(x, axis=1, keepdims=True)
    torch.testing.assert_close(F.logsumexp(x, axis=1, keepdims=True), expected)
    torch.testing.assert_close(F.logsumexp(x, 1, keepdims=True), expected)
    both = [((1,), {"axis": 0}), ((1, True), {"keepdims": False}), ((1, None), {"keepdims": True})]
    for args, options in [((), {}), ((1, None), {}), ((1,), {"keepdims": 1}), *both]:
        for function in (F.logsumexp, torch.logsumexp):
            with pytest.raises(TypeError):
                function(x, *args, **options)
