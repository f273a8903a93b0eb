"""The Hessian's diagonal, and products with the Hessian: how exact they are, rules, edges, bits, errors."""

import itertools
import math

import numpy as np
import pytest

import fastloss
from fastloss import _kernels, _runtime, bounds, reference
from tests.support.cases import (
    HEADS,
    REDUCED,
    VARIANTS,
    WITH_CLASSES,
    fixture_of,
    loss,
    make,
    refer,
    run,
    run_second,
    same_bits,
    strided,
)
from tests.support.oracle import assert_within

DTYPES = [np.float32, np.float64]
dtype = fixture_of(DTYPES)
RULES = ["exact", "bound", "friedman", "residual", 0.375]


# ------------------------------------------------------------------------------- against the reference

SHAPES = [((5, 1), 1), ((6, 2), 1), ((40, 3), 1), ((70, 10), 1), ((9, 127), 1), ((9, 128), 1), ((3, 1000), 1)]
SHAPES += [((2, 3000), 1), ((2, 5, 3, 7), 1), ((2, 4, 70), -1), ((11, 33), 0), ((9,), 0)]
KINDS = ["float32", "float64", "float16", "bfloat16"]


def dtype_of(kind):
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if kind == "bfloat16" else kind)


def on_each_isa(call):
    """What a call gives on each instruction set; avx2 and avx512 give the same bits."""
    before, found = _kernels.active, {}
    try:
        for name in _kernels.available:
            _kernels.use(name)
            found[name] = [np.array(part) for part in call()]
    finally:
        _kernels.use(before)
    if {"avx2", "avx512"} <= set(found):
        assert all(map(same_bits, found["avx2"], found["avx512"]))
    return found.values()


def computed_in(dtype):
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def bound_of(of, case, *args, **options):
    """What results of the case may be off from the reference."""
    dtype = computed_in(case.input.dtype)
    return bounds.against_reference(of, dtype, case.name, case.input, case.target, *args, **options)


def assert_near(result, wanted, bound):
    """Within the bound, and rounded once more where the result is of half precision."""
    dtype = result.dtype
    bound = bounds.rounded(bound, wanted, dtype) if dtype.itemsize == 2 else bound
    assert_within(result.astype(np.float64), wanted, bound, dtype)


def agree(case, reduction="sum", **arguments):
    """Value, gradient and the Hessian's diagonal with the reference's."""
    wanted = refer(case, reduction, **{"hessian": "exact", **arguments})
    options = {**case.options, "hessian": "exact", **arguments, "reduction": reduction}
    allowed = bound_of(bounds.loss, case, **options)
    for value, grad, hess in on_each_isa(lambda: run_second(case, reduction, **arguments)):
        assert hess.dtype == grad.dtype == case.input.dtype
        assert_within(value, wanted[0], allowed.value, value.dtype)
        assert_near(grad, wanted[1], allowed.grad)
        assert_near(hess, wanted[2], allowed.hess)


def weights(case, reduction, rng, size=1.0):
    """sample_weight and grad_output, one of them 0."""
    dtype = computed_in(case.input.dtype)
    sample_weight = (size * (0.5 + rng.random(case.value_shape))).astype(dtype)
    grad_output = (0.5 + rng.random(case.value_shape)).astype(dtype) if reduction == "none" else 1.75
    sample_weight.flat[:1] = 0
    return {"sample_weight": sample_weight, "grad_output": grad_output}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_and_dtypes(variant, kind, rng):
    shapes = SHAPES if kind in ("float32", "float64") else SHAPES[:9:2]
    rules = itertools.cycle(RULES)
    for shape, axis in shapes if variant in WITH_CLASSES else [((1037,), 1), ((9, 70), 1), ((3, 1), 1)]:
        case = make(variant, rng, shape, dtype_of(kind), axis, ignored=0.2)
        agree(case, hessian=next(rules))
        if case.input.ndim > 1:
            case.input = np.asfortranarray(case.input)
            agree(case, hessian=next(rules))


@pytest.mark.parametrize(("variant", "reduction"), REDUCED)
def test_options(variant, reduction, dtype, rng):
    shapes = itertools.cycle([((9, 5), 1), ((3, 200), 1), ((3, 7, 4), 1), ((6,), 0)])
    for (shape, axis), rule in zip(shapes, RULES, strict=False):
        case = make(variant, rng, shape, dtype, axis, ignored=0.3)
        mask = rng.random(case.value_shape) < 0.8
        more = {"normalizer": 7.5} if "mean" in reduction and rule == "bound" else {}
        floor = [0.0, 1e-16, 0.125][rng.integers(3)]
        agree(case, reduction, hessian=rule, floor=floor, mask=mask, **weights(case, reduction, rng), **more)


@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_of_any_size(variant, size, dtype, rng):
    for shape, axis in [((9, 5), 1), ((3, 200), 1), ((3, 7, 4), 1)]:
        case = make(variant, rng, shape, dtype, axis)
        agree(case, "mean", **weights(case, "mean", rng, size))
        if "weight" in case.options:
            case.options["weight"] = (size * case.options["weight"]).astype(dtype)
            agree(case, "mean")


@pytest.mark.parametrize("kind", KINDS)
def test_gaussian(kind, rng):
    dtype = dtype_of(kind)
    x, y, var = (a.astype(dtype) for a in (*rng.standard_normal((2, 40, 30)), 10 * rng.random((40, 30)) ** 4))
    for rule, reduction in itertools.product(RULES, ("mean", "none")):
        options = {"reduction": reduction, "eps": 1e-3, "hessian": rule}
        wanted = reference.gaussian_nll_loss(x, y, var, **options)[2]
        args = "gaussian_nll_loss", x, y
        allowed = bounds.against_reference(bounds.loss, computed_in(dtype), *args, var=var, **options).hess
        made = fastloss.GaussianNLLLoss(reduction=reduction, eps=1e-3)
        hess = made.value_grad_hess(x, y, var, hessian=rule)[2]
        assert_near(hess, wanted, allowed)
        v = rng.standard_normal(x.shape).astype(dtype)
        options = {"var": var, "reduction": reduction, "eps": 1e-3}
        wanted = reference.hessp(*args, v, **options)
        allowed = bounds.against_reference(bounds.hessp, computed_in(dtype), *args, v, **options)
        assert_near(made.hessp(x, y, var, v), wanted, allowed)


# --------------------------------------------------------------------------------- rules, floor and edges


def test_rules(dtype, rng, isa):
    """Each is a factor of the exact one, or made of the gradient."""
    for shape in [(20, 7), (5, 300)]:
        case = make("cross_entropy", rng, shape, dtype)
        exact = run_second(case)[2]
        assert same_bits(run_second(case, hessian="bound")[2], 2 * exact)
        assert same_bits(run_second(case, hessian=2)[2], 2 * exact)
        friedman = run_second(case, hessian="friedman")[2]
        assert np.allclose(friedman, exact * (shape[1] / (shape[1] - 1)), rtol=4 * bounds.unit(dtype), atol=0)
        _, grad, residual = run_second(case, hessian="residual")
        assert same_bits(residual, np.abs(grad))
    assert (run_second(make("cross_entropy", rng, (5, 1), dtype), hessian="friedman")[2] == 0).all()


@pytest.mark.parametrize(
    "variant", [v for v in VARIANTS if not v.startswith(tuple(HEADS)) and "z_loss" not in v]
)
def test_bound_is_at_least_the_hessian(variant, rng, isa):
    """v'Hv <= v'Dv for any v; the exact one may be negative, and counts as 0."""
    for shape in [(40, 3), (9, 150)]:
        case = make(variant, rng, shape, spread=1.5)
        made = loss(case.name, **case.options, reduction="sum")
        most = made.value_grad_hess(case.input, case.target, hessian="bound")[2]
        assert (most >= 0).all()
        for _ in range(4):
            v = rng.standard_normal(shape)
            product = made.hessp(case.input, case.target, v)
            excess = v * product - v * v * most
            excess = excess.sum(1) if variant in WITH_CLASSES else excess
            assert (excess <= 1e-12 * np.abs(v * product).sum()).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("variant", ["cross_entropy", "focal_loss", "nll_loss", "mse_loss", "kl_div"])
def test_what_does_not_count_is_0_and_the_rest_at_least_the_floor(variant, rule, dtype, rng, isa):
    for shape, axis in [((9, 5), 1), ((9, 200), 1), ((9, 6, 4), 1)]:
        case = make(variant, rng, shape, dtype, axis)
        mask = np.arange(math.prod(case.value_shape)).reshape(case.value_shape) % 3 != 1
        used = np.broadcast_to(np.expand_dims(mask, axis) if variant in WITH_CLASSES else mask, shape)
        case.input = np.where(used, case.input, np.nan).astype(dtype)
        for reduction in ("mean", "none"):
            given = [{"mask": mask}]
            if case.target.dtype.kind == "i":
                case.target = np.where(mask, case.target, -100)
                given.append({})
            for masked in given:
                hess = run_second(case, reduction, hessian=rule, floor=0.25, **masked)[2]
                assert (hess[~used] == 0).all()
                assert (hess[used] >= 0.25).all()
                free = run_second(case, reduction, hessian=rule, **masked)[2]
                assert same_bits(hess, np.where(used, np.maximum(free, dtype(0.25)), 0).astype(dtype))


def test_nothing_counts(dtype, isa):
    for reduction in ("mean", "sum", "none"):
        for shape in [(4, 3), (4, 300), (0, 3)]:
            made = fastloss.CrossEntropyLoss(reduction=reduction)
            hess = made.value_grad_hess(np.ones(shape, dtype), np.full(shape[0], -100), floor=0.5)[2]
            assert hess.shape == shape
            assert (hess == 0).all()


@pytest.mark.parametrize("classes", [3, 7, 40, 200])
@pytest.mark.parametrize("name", ["cross_entropy", *HEADS])
def test_rows_that_are_not_finite(name, classes, dtype, layout, rng, isa):
    """A -inf logit is 0, or the floor; NaN and +inf are nan in their row alone."""
    arrange, axis, read = layout
    x = rng.standard_normal((9, classes)).astype(dtype)
    x[1, 1], x[2, 0], x[3, 2], x[4], x[5, 1:] = -np.inf, np.nan, np.inf, -np.inf, -np.inf
    for rule, smoothing in itertools.product(RULES, (0.0, 0.1) if name == "cross_entropy" else (None,)):
        more = {} if smoothing is None else {"label_smoothing": smoothing}
        made = loss(name, reduction="sum", axis=axis, **more)
        hess = read(made.value_grad_hess(arrange(x), np.zeros(9, int), hessian=rule, floor=1e-9)[2])
        assert np.isnan(hess[[2, 3, 4]]).all()
        assert np.isfinite(hess[[0, 1, 5, 6, 7, 8]]).all()
        if rule != "residual":
            assert hess[1, 1] == dtype(1e-9)
            assert (hess[5] == dtype(1e-9)).all()
        clean = read(made.value_grad_hess(arrange(x[6:]), np.zeros(3, int), hessian=rule, floor=1e-9)[2])
        assert same_bits(hess[6:], clean)
        assert np.isnan(
            read(made.hessp(arrange(x), np.zeros(9, int), arrange(np.ones_like(x))))[[2, 3, 4]]
        ).all()


@pytest.mark.parametrize("classes", [3, 40, 200])
@pytest.mark.parametrize("name", ["cross_entropy", "multinomial_nll_loss", "distillation", *HEADS])
def test_a_vector_counts_where_its_sample_does(name, classes, dtype, layout, rng, isa):
    arrange, axis, read = layout
    x, v = (rng.standard_normal((9, classes)).astype(dtype) for _ in range(2))
    options = {"reduction": "sum", "axis": axis}
    made = fastloss.KLDivWithLogitsLoss(**options) if name == "distillation" else loss(name, **options)
    soft = name in ("multinomial_nll_loss", "distillation")
    y, mask = arrange(np.abs(x)) if soft else np.arange(9) % classes, np.arange(9) % 3 != 1
    wanted = read(made.hessp(arrange(x), y, arrange(v), mask=mask))
    v[~mask] = np.nan
    assert same_bits(read(made.hessp(arrange(x), y, arrange(v), mask=mask)), wanted)
    assert (wanted[~mask] == 0).all()


def test_confident_rows(dtype, isa):
    """p (1 - p) with nothing lost, however near 1 the greatest is."""
    x = np.array([[20, 0, 0], [60, 0, 1], [0, 0, -80]], dtype)
    hess = fastloss.CrossEntropyLoss(reduction="sum").value_grad_hess(x, [0, 1, 2])[2]
    e = np.exp(x.astype(float) - x.max(1, keepdims=True))
    others = np.array([[2 * e[0, 1]], [e[1, 1:].sum()], [0]])
    p = e / e.sum(1, keepdims=True)
    wanted = np.where(p > 0.9, p * others / e.sum(1, keepdims=True), p * (1 - p))
    assert np.allclose(hess, wanted, rtol=20 * bounds.unit(dtype), atol=0)


@pytest.mark.parametrize("gamma", [1e-3, 0.1, 5.0])
def test_focal_losses_where_a_probability_vanishes(gamma, dtype, isa):
    """Factors beyond the range of the dtype, and products within it."""
    far = 120.0 if dtype == np.float32 else 745.0
    focal, binary = (
        fastloss.FocalLoss(gamma, reduction="sum"),
        fastloss.SigmoidFocalLoss(gamma, reduction="sum"),
    )
    logits = np.array([0.74, 0.739, 0.8, 1.0], dtype) * dtype(far)
    with fastloss.checking():
        for lead in logits:
            hess = focal.value_grad_hess(np.array([[0, lead, 0]], dtype), [1], floor=-np.inf)[2]
            assert np.isfinite(hess).all()
        binary.value_grad_hess(logits, np.array([0, 1, 0, 1], dtype), floor=-np.inf)


# ----------------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize("rule", ["exact", "bound", "residual"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs(variant, kind, rule, rng):
    """Given, in place of the input, strided, in Fortran order, and float32 for float64: the same numbers."""
    dtype = dtype_of(kind)
    for shape in [(40, 10), (9, 150), (3, 7, 5)]:
        case = make(variant, rng, shape, dtype)
        wanted = run_second(case, hessian=rule)[1:]
        for lay in (np.copy, strided, np.asfortranarray):
            grad, hess = (lay(np.full_like(wanted[0], 7)) for _ in range(2))
            found = run_second(case, hessian=rule, grad_out=grad, hess_out=hess)[1:]
            assert found[0] is grad
            assert found[1] is hess
            assert all(map(same_bits, found, wanted))
        if kind == "float64":
            grad, hess = np.full((2, *shape), 7, np.float32)
            run_second(case, hessian=rule, grad_out=grad, hess_out=hess)
            assert same_bits(grad, wanted[0].astype(np.float32))
            assert same_bits(hess, wanted[1].astype(np.float32))
            found = run_second(case, hessian=rule, hess_out=hess)[1:]
            assert found[0].dtype == np.float64
            assert same_bits(hess, wanted[1].astype(np.float32))
        original = case.input.copy()
        case.input = original
        found = run_second(case, hessian=rule, grad_out=original)
        assert found[1] is original
        assert all(map(same_bits, found[1:], wanted))


# -------------------------------------------------------------------------------------------------- bits

#: More elements than stay on one thread.
LARGE = [((4001, 10), 1), ((150, 333), 1), ((7, 6000), 1), ((2, 7, 3000), 1), ((70, 900), 0)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_number_of_threads_and_any_batch(variant, rng, isa, monkeypatch):
    monkeypatch.setattr(_runtime, "_usable_cpus", lambda: 8)
    for shape, axis in LARGE:
        case = make(variant, rng, shape, np.float32, axis, ignored=0.1)
        v = rng.standard_normal(shape).astype(np.float32)
        made = loss(case.name, **case.options, reduction="sum")

        def call(case=case, v=v, made=made):
            return [*run_second(case, "sum"), made.hessp(case.input, case.target, v)]

        with fastloss.threads(1):
            wanted = call()
        for n in (2, 8):
            with fastloss.threads(n):
                assert all(map(same_bits, call(), wanted))
        if axis == 1:
            part = slice(3, 4)
            case.input, case.target = case.input[part].copy(), case.target[part].copy()
            alone = [*run_second(case, "sum"), made.hessp(case.input, case.target, v[part].copy())]
            assert all(same_bits(a, b[part]) for a, b in zip(alone[1:], wanted[1:], strict=True))


# ------------------------------------------------------------------------------------------------ products


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_labels_have_the_same_bits_beside_targets_that_are_none(gamma, dtype, rng, isa):
    x, y = rng.standard_normal(50).astype(dtype), rng.choice([0, 0, 1, 0.25], 50).astype(dtype)
    call = fastloss.SigmoidFocalLoss(gamma, reduction="none")
    expected = call.value_grad_hess(x, y)
    for i in range(50):
        alone = call.value_grad_hess(x[i : i + 1].copy(), y[i : i + 1].copy())
        assert all(a[0] == e[i] for a, e in zip(alone, expected, strict=True)), i


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_products(variant, kind, rng):
    """Against the reference, with all that weights a sample; what does not count is 0."""
    for (shape, axis), reduction in zip(SHAPES, ["sum", "mean", "none"] * 4, strict=True):
        case = make(variant, rng, shape, dtype_of(kind), axis, ignored=0.2)
        v = rng.standard_normal(shape).astype(case.input.dtype)
        arguments = {"mask": rng.random(case.value_shape) < 0.8, **weights(case, reduction, rng)}
        options = {**case.options, **arguments, "reduction": reduction}
        wanted = reference.hessp(case.name, case.input, case.target, v, **options)
        allowed = bound_of(bounds.hessp, case, v, **options)
        made = loss(case.name, **case.options, reduction=reduction)

        def call(made=made, case=case, v=v, arguments=arguments):
            out = np.full_like(case.input, 7)
            product = made.hessp(case.input, case.target, v, **arguments, out=out)
            assert product is out
            return [made.hessp(case.input, case.target, v, **arguments), product]

        for product, given in on_each_isa(call):
            assert product.dtype == case.input.dtype
            assert same_bits(product, given)
            assert_near(product, wanted, allowed)
        # a matrix that is its own transpose
        if kind == "float64" and case.input.size:
            w = rng.standard_normal(shape)
            left = w * made.hessp(case.input, case.target, v)
            right = v * made.hessp(case.input, case.target, w)
            assert abs(left.sum() - right.sum()) <= 1e-11 * (np.abs(left).sum() + np.abs(right).sum())


@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("variant", VARIANTS)
def test_products_of_vectors_and_weights_of_any_size(variant, size, dtype, rng):
    size = size**8 if dtype == np.float64 else size
    for shape, axis in [((9, 5), 1), ((3, 200), 1), ((3, 7, 4), 1)]:
        case = make(variant, rng, shape, dtype, axis)
        v = rng.standard_normal(shape).astype(dtype)
        weighted = {"sample_weight": (size * (0.5 + rng.random(case.value_shape))).astype(dtype)}
        each = {"grad_output": weighted["sample_weight"]}
        calls = [((size * v).astype(dtype), "mean", {}), (v, "mean", weighted), (v, "none", each)]
        for vector, reduction, given in [*calls, (v, "mean", {"normalizer": size})]:
            options = {**case.options, **given, "reduction": reduction}
            wanted = reference.hessp(case.name, case.input, case.target, vector, **options)
            allowed = bound_of(bounds.hessp, case, vector, **options)
            made = loss(case.name, reduction=reduction, **case.options)
            for (product,) in on_each_isa(
                lambda made=made, case=case, vector=vector, given=given: [
                    made.hessp(case.input, case.target, vector, **given)
                ]
            ):
                assert_near(product, wanted, allowed)


@pytest.mark.parametrize(
    ("name", "options", "operands", "given"),
    [
        ("poisson_nll_loss", {}, (100.0, 1.0), {}),
        ("poisson_nll_loss", {"log_input": False, "eps": 0.0}, (1e-20, 1.0), {}),
        ("mse_loss", {}, (1.0, 0.0), {"grad_output": 3e38}),
        ("binary_cross_entropy_with_logits", {"pos_weight": 3e38}, (0.0, 1.0), {"sample_weight": 1e3}),
        ("binary_cross_entropy", {"weight": 3e38}, (0.5, 1.0), {}),
        ("gaussian_nll_loss", {"eps": 1e-39}, (1.0, 0.0, 1e-39), {}),
    ],
)
def test_a_product_with_a_second_derivative_beyond_float32(name, options, operands, given, isa):
    made, vector = loss(name, reduction="sum", **options), np.float32([0.0, 1e-20, 1.0])
    operands = [np.full(3, operand, np.float32) for operand in operands]
    product = made.hessp(*operands, vector, **given)
    wanted = made.hessp(*(a.astype(np.float64) for a in (*operands, vector)), **given)
    assert (product[0], product[2]) == (0, np.inf)
    assert_near(product[1], wanted[1], 12 * bounds.unit(np.float32) * wanted[1])


@pytest.mark.parametrize("degree", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_distillation_with_weights_of_any_size(size, degree, dtype, isa):
    size = size**9 if dtype == np.float64 else size
    made = fastloss.KLDivWithLogitsLoss(temperature=degree, alpha=0.25, reduction="sum")
    given = np.array([[0.0, 0.0]], dtype), np.array([[0.0, 0.0]], dtype)
    weight = np.array([size], dtype)
    hess = made.value_grad_hess(*given, [0], sample_weight=weight)[2]
    product = made.hessp(*given, np.array([[1, -1]], dtype), [0], sample_weight=weight)
    assert np.allclose(hess / weight, 0.25, rtol=1e-6, atol=0)
    assert np.allclose(product / weight, [[0.5, -0.5]], rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", [*VARIANTS, "kl_div_with_logits"])
def test_what_overflows_is_inf_without_a_warning(variant, kind, rng):
    """Warnings are errors here."""
    dtype = dtype_of(kind)
    if variant == "kl_div_with_logits":
        x = rng.standard_normal((6, 3)).astype(dtype)
        call, given, y = fastloss.KLDivWithLogitsLoss(reduction="sum"), {}, x[::-1].copy()
    else:
        case = make(variant, rng, (6, 3), dtype)
        call, given = loss(case.name, reduction="sum", **case.options), {}
        x, y = case.input, case.target
    most = 1e300 if kind == "float64" else 1e38
    for rule, floor in itertools.product(RULES, [0.0, 1e300, 1e-300]):
        hess = call.value_grad_hess(x, y, hessian=rule, floor=floor, grad_output=most, **given)[2]
        assert not np.isnan(hess.astype(np.float64)).any()
    for vector in (np.full(x.shape, most), np.full(x.shape, np.inf)):
        call.hessp(x, y, vector.astype(np.float64), grad_output=most, **given)


@pytest.mark.parametrize("variant", VARIANTS)
def test_products_are_differences_of_the_gradient(variant, rng, isa):
    for shape, axis in [((5, 4), 1), ((4, 30), 1), ((2, 3, 5), 1)]:
        case = make(variant, rng, shape, axis=axis, spread=1.5)
        if case.name == "binary_cross_entropy":
            case.input = 0.1 + 0.8 * case.input
        made, v = loss(case.name, **case.options), rng.standard_normal(shape)

        def grad(step, made=made, case=case, v=v):
            return made.value_and_grad(case.input + step * v, case.target)[1]

        near, far = ((grad(h) - grad(-h)) / (2 * h) for h in (2.0**-12, 2.0**-11))
        error = np.abs(near - far) + 2.0**-36 * np.abs(grad(0)).max()
        assert (np.abs((4 * near - far) / 3 - made.hessp(case.input, case.target, v)) <= error).all()


# ---------------------------------------------------------------------------------------------- identities


def test_adding_a_constant_changes_nothing(dtype, rng, isa):
    for name, shape in itertools.product(["cross_entropy", *HEADS], [(30, 4), (5, 300)]):
        case = make(name, rng, shape, dtype)
        product = loss(name).hessp(case.input, case.target, np.ones(shape, dtype))
        allowed = bounds.hessp(name, case.input, case.target, np.ones(shape), dtype=dtype)
        assert (np.abs(product) <= allowed).all()


def test_two_classes_are_one_element(dtype, rng, isa):
    """Of softmax([0, x]) the second probability is sigmoid(x)."""
    x = (4 * rng.standard_normal(500)).astype(dtype)
    y = rng.integers(0, 2, 500)
    of_two = np.stack([np.zeros_like(x), x], 1)
    pairs = [(fastloss.CrossEntropyLoss(reduction="sum"), fastloss.BCEWithLogitsLoss(reduction="sum"))]
    pairs += [(fastloss.FocalLoss(2.0, reduction="sum"), fastloss.SigmoidFocalLoss(2.0, reduction="sum"))]
    for two, one in pairs:
        hess = two.value_grad_hess(of_two, y)[2]
        wanted = one.value_grad_hess(x, y.astype(dtype))[2]
        size = bounds.unit(dtype) * (40 if two is pairs[0][0] else 400) * np.maximum(wanted, 2.0**-20)
        assert (np.abs(hess[:, 1] - wanted) <= size).all()


@pytest.mark.parametrize("shape", [(30, 4), (5, 300)])
def test_losses_that_are_cross_entropy(shape, dtype, rng, isa):
    case = make("cross_entropy", rng, shape, dtype)
    for rule in RULES:
        wanted = run_second(case, hessian=rule)[2]
        for name, options in [("focal_loss", {"gamma": 0.0}), ("poly_loss", {"epsilon": 0.0})]:
            hess = loss(name, **options).value_grad_hess(case.input, case.target, hessian=rule)[2]
            assert np.allclose(hess, wanted, rtol=20 * bounds.unit(dtype), atol=0)
    hot = np.eye(shape[1])[case.target].astype(dtype)
    counts = fastloss.MultinomialNLLLoss(reduction="sum").value_grad_hess(case.input, hot)[2]
    wanted = run_second(case, "sum")[2]
    assert np.allclose(counts, wanted, rtol=20 * bounds.unit(dtype), atol=0)


# -------------------------------------------------------------------------------------- errors and checking

X, T = np.zeros((3, 4)), np.zeros(3, int)


@pytest.mark.parametrize(
    ("error", "named", "arguments"),
    [
        (ValueError, "grad_output", {"grad_output": -1}),
        (ValueError, "hessian", {"hessian": "other"}),
        (ValueError, "hessian", {"hessian": 0}),
        (ValueError, "hessian", {"hessian": -2.0}),
        (ValueError, "hessian", {"hessian": math.nan}),
        (ValueError, "hessian", {"hessian": math.inf}),
        (TypeError, "hessian", {"hessian": None}),
        (ValueError, "hessian", {"hessian": np.ones(2)}),
        (ValueError, "floor", {"floor": math.nan}),
        (ValueError, "floor", {"floor": math.inf}),
        (TypeError, "floor", {"floor": "0"}),
        (ValueError, "hess_out: got shape", {"hess_out": np.zeros((3, 5))}),
        (TypeError, "hess_out: got dtype", {"hess_out": np.zeros((3, 4), np.float16)}),
        (TypeError, "hess_out: got list", {"hess_out": X.tolist()}),
        (ValueError, "hess_out: overlaps input", {"hess_out": X}),
        (ValueError, "sample_weight", {"sample_weight": np.ones(2)}),
    ],
)
@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss"])
def test_errors(name, error, named, arguments):
    out = np.full(X.shape, 7.0)
    made = loss(name)
    with pytest.raises(error, match=named):
        made.value_grad_hess(
            X, T if name == "cross_entropy" else np.ones_like(X), **{"hess_out": out, **arguments}
        )
    assert (out == 7).all()


def test_errors_of_outputs_that_overlap():
    memory = np.zeros(20)
    grad, hess = memory[:12].reshape(3, 4), memory[8:].reshape(3, 4)
    for made, target in ((fastloss.CrossEntropyLoss(), T), (fastloss.MSELoss(), np.ones((3, 4)))):
        for given in ({"grad_out": grad, "hess_out": hess}, {"grad_out": grad, "hess_out": grad}):
            with pytest.raises(ValueError, match="hess_out: overlaps grad_out"):
                made.value_grad_hess(X, target, **given)
    target = np.ones((3, 4))
    with pytest.raises(ValueError, match="hess_out: overlaps target"):
        fastloss.MSELoss().value_grad_hess(X, target, hess_out=target)
    with pytest.raises(ValueError, match=r"grad_output\[1\]"):
        fastloss.CrossEntropyLoss(reduction="none").value_grad_hess(X, T, grad_output=[1, -1, 1])


def test_errors_of_products():
    for made, target in ((fastloss.CrossEntropyLoss(), T), (fastloss.MSELoss(), np.ones((3, 4)))):
        with pytest.raises(ValueError, match="vector: got shape"):
            made.hessp(X, target, np.ones(4))
        with pytest.raises(TypeError, match="vector"):
            made.hessp(X, target, None)
        with pytest.raises(ValueError, match="out: overlaps input"):
            made.hessp(X, target, np.ones((3, 4)), out=X)
    with pytest.raises(IndexError, match="target"):
        fastloss.CrossEntropyLoss().hessp(X, [0, 1, 4], np.ones((3, 4)))


def test_checking_knows_what_odd_elements_do_not_change(dtype, isa):
    """A NaN target has no part in the second derivative, and an infinite rate a slope of 1."""
    x, y = np.array([0.5, -1.0, 2.0], dtype), np.array([1.0, np.nan, 0.25], dtype)
    rates, counts = np.array([np.inf, -np.inf, 0.0, 2.0], dtype), np.array([1.0, 1.0, 0.0, 1.0], dtype)
    rate = fastloss.PoissonNLLLoss(log_input=False, eps=0.0, reduction="none")
    with fastloss.checking():
        hess = fastloss.BCEWithLogitsLoss(reduction="none").value_grad_hess(x, y)[2]
        fastloss.MultiLabelSoftMarginLoss().value_grad_hess(x[:, None], y[:, None])
        grad = rate.value_and_grad(rates, counts)[1]
    assert np.isfinite(hess).all()
    np.testing.assert_array_equal(grad[:3], 1)


@pytest.mark.parametrize("made", [fastloss.CrossEntropyLoss(z_loss=0.125), fastloss.KLDivWithLogitsLoss()])
def test_friedman_of_one_class_is_0(made, dtype, isa):
    x = np.array([[1.0], [-3.0]], dtype)
    with fastloss.checking():
        hess = made.value_grad_hess(
            x, x if isinstance(made, fastloss.KLDivWithLogitsLoss) else [0, 0], hessian="friedman"
        )
    assert not hess[2].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_checking(variant, rng, monkeypatch):
    """Every call is recomputed; what is wrong is found."""
    case = make(variant, rng, (4, 5), np.float32)
    made, v = loss(case.name, **case.options), rng.standard_normal((4, 5)).astype(np.float32)
    with fastloss.checking():
        for rule in RULES:
            run_second(case, hessian=rule, floor=0.01)
            run_second(case, hessian=rule, grad_out=case.input.copy())
        made.hessp(case.input, case.target, v)
    true = getattr(reference, case.name)

    def wrong(*arguments, **keywords):
        value, grad, *hess = true(*arguments, **keywords)
        return value, grad, *(h * (1 + 2.0**-10) + 0.001 for h in hess)

    monkeypatch.setattr(reference, case.name, wrong)
    with fastloss.checking():
        run(case)
        with pytest.raises(fastloss.CheckError, match="Hessian's diagonal"):
            run_second(case)
        if case.name not in HEADS and not {"z_loss", "softcap", "bias"} & set(
            case.options
        ):  # which ask the reference
            with pytest.raises(fastloss.CheckError, match="Hessian times vector"):
                made.hessp(case.input, case.target, v)
