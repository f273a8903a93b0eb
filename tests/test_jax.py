"""fastloss.jax: the kernels' bits under jit, JAX's own derivatives of any order and mode, vmap, errors."""

from functools import partial

import numpy as np
import pytest

import fastloss
from fastloss import _kernels

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")

import fastloss.jax as fj  # noqa: E402

DTYPES = ["float32", "float64", "float16", "bfloat16"]
REDUCTIONS = ["mean", "sum", "none"]
COMPUTED = {"float64": np.float64} | dict.fromkeys(("float32", "float16", "bfloat16"), np.float32)
EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@pytest.fixture(autouse=True)
def x64():
    """float64 arrays."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def logits(rng, shape, dtype):
    return jnp.asarray(3 * rng.standard_normal(shape)).astype(dtype)


def numpy(array):
    return np.asarray(array)


def equal(a, b):
    """The same shape, dtype and bits, NaN being NaN."""
    a, b = np.asarray(a), np.asarray(b)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_array_equal(a.astype(np.float64), b.astype(np.float64))


CASES = {
    "labels": {},
    "ignored": {"ignore_index": 1},
    "smoothing": {"label_smoothing": 0.1},
    "weight": {"weight": True},
    "weight, smoothing": {"weight": True, "label_smoothing": 0.25},
    "sample_weight": {"sample_weight": True},
    "all": {"weight": True, "sample_weight": True, "ignore_index": 2, "label_smoothing": 0.1},
    "probabilities": {"soft": True},
    "probabilities, sample_weight": {"soft": True, "sample_weight": True},
    "probabilities, all": {"soft": True, "weight": True, "label_smoothing": 0.1},
}
SHAPES = [
    ((6, 5), 1),
    ((3, 200), 1),
    ((4, 700), 1),
    ((2, 5, 7), 1),
    ((2, 3, 9), -1),
    ((5,), None),
    ((3, 130, 2), None),
]


def problem(rng, shape, axis, dtype, soft=False, weight=False, sample_weight=False, **options):
    """input, target and options, as arrays of JAX."""
    x = logits(rng, shape, dtype)
    place = fastloss._arguments.class_axis(shape, axis, "x")
    classes, samples = shape[place], shape[:place] + shape[place + 1 :]
    if soft:
        target = jax.nn.softmax(logits(rng, shape, x.dtype), axis=place)
    else:
        target = jnp.asarray(rng.integers(0, classes, samples))
    if weight:
        options["weight"] = jnp.asarray(rng.uniform(0.5, 2, classes).astype(COMPUTED[dtype]))
    if sample_weight:
        options["sample_weight"] = jnp.asarray(rng.uniform(0.5, 2, samples).astype(COMPUTED[dtype]))
    return x, target, {"axis": axis, **options}


def of_numpy(options):
    return {name: numpy(value) if isinstance(value, jax.Array) else value for name, value in options.items()}


def compiled(function, x):
    """Value and gradient of the sum of the values, in one program."""
    return jax.jit(lambda x: (function(x), jax.grad(lambda x: function(x).sum())(x)))(x)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_has_the_bits_of_numpy(rng, case, dtype):
    """Compiling takes most of the time: each reduction meets a part of the shapes, others for each dtype."""
    for i, (shape, axis) in enumerate(SHAPES):
        x, target, options = problem(rng, shape, axis, dtype, **CASES[case])
        reduction = REDUCTIONS[(i + DTYPES.index(dtype)) % 3]
        given = of_numpy(options)
        sample_weight = given.pop("sample_weight", None)
        loss = fastloss.CrossEntropyLoss(reduction=reduction, **given)
        value, grad = loss.value_and_grad(numpy(x), numpy(target), sample_weight=sample_weight)
        results = compiled(partial(fj.cross_entropy, target=target, reduction=reduction, **options), x)
        equal(results[0], np.asarray(value).astype(COMPUTED[dtype]))
        equal(results[1], grad)


def test_one_weight_for_each_sample(rng):
    """Where samples have two axes, of equal lengths."""
    x, labels = logits(rng, (4, 5, 4), "float64"), jnp.asarray(rng.integers(0, 5, (4, 4)))
    weight = jnp.asarray(rng.uniform(0.5, 2, 4))
    got = jax.value_and_grad(fj.cross_entropy)(x, labels, sample_weight=weight)
    wanted = jax.value_and_grad(fj.cross_entropy)(x, labels, sample_weight=weight[:, None])
    equal(got[0], wanted[0])
    equal(got[1], wanted[1])
    with pytest.raises(ValueError, match=r"^sample_weight: got shape \(5,\)"):
        fj.cross_entropy(x, labels, sample_weight=jnp.ones(5))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_has_the_bits_of_numpy(rng, reduction, dtype):
    given = [(), ("weight",), ("pos_weight",), ("weight", "pos_weight")]
    for shape, names in zip([(7,), (4, 5), (3, 300), ()], given, strict=True):
        x = logits(rng, shape, dtype)
        y = jnp.asarray(rng.random(shape)).astype(x.dtype)
        options = {
            name: jnp.asarray(rng.uniform(0.5, 2, shape[-1:]).astype(COMPUTED[dtype])) for name in names
        }
        loss = fastloss.BCEWithLogitsLoss(reduction=reduction, **of_numpy(options))
        value, grad = loss.value_and_grad(numpy(x), numpy(y))
        results = compiled(
            partial(fj.binary_cross_entropy_with_logits, target=y, reduction=reduction, **options), x
        )
        equal(results[0], np.asarray(value).astype(COMPUTED[dtype]))
        equal(results[1], grad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_array_functions_have_the_bits_of_numpy(rng, dtype):
    rows, elements = ("logsumexp", "softmax", "log_softmax"), ("sigmoid", "logsigmoid")
    for shape, axis in [((6, 5), 1), ((3, 200), -1), ((2, 5, 7), 1), ((130, 3), 0)]:
        x = logits(rng, shape, dtype)
        calls = {name: partial(getattr(fj, name), axis=axis) for name in rows}
        calls |= {name: getattr(fj, name) for name in elements}
        results = jax.jit(lambda x, calls=calls: {name: call(x) for name, call in calls.items()})(x)
        for name, result in results.items():
            equal(result, getattr(fastloss, name)(numpy(x), *[axis] * (name in rows)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax", "sigmoid", "logsigmoid"])
def test_derivatives_of_half_precision_are_rounded_once(rng, name, dtype):
    function, (x, v) = getattr(fj, name), (logits(rng, (5, 300), dtype) for _ in range(2))
    value, along = jax.jvp(function, (x,), (v,))
    equal(value, function(x))
    wide = x.astype(jnp.float32)
    equal(along, jax.jvp(function, (wide,), (v.astype(jnp.float32),))[1].astype(along.dtype))
    back = jax.vjp(function, wide)[1](value.astype(jnp.float32))[0]
    equal(jax.vjp(function, x)[1](value)[0], back.astype(dtype))


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((), -1),
        ((), None),
        ((4,), ()),
        ((4,), (0,)),
        ((3, 40), None),
        ((2, 30, 4), (1, -1)),
        ((2, 30, 4), (1, 0)),
        ((2, 30, 4), (-1, 0)),
        ((2, 0), 1),
        ((2, 0, 3), (0, 1)),
        ((2, 0, 3), (0, 2)),
        ((0,), None),
    ],
)
def test_axes_are_those_of_numpy(rng, name, shape, axis):
    """One, several, all or none of them, of any length."""
    x, call = logits(rng, shape, "float32"), partial(getattr(fj, name), axis=axis)
    result = jax.jit(call)(x)
    equal(result, np.asarray(getattr(fastloss, name)(numpy(x), axis)))
    equal(jax.vmap(call)(jnp.stack([x, x])), np.stack([result, result]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize(("shape", "axis"), [((6, 5), -1), ((2, 5, 7), 1), ((2, 5, 7), (0, 2)), ((2, 0), 1)])
def test_where_and_keepdims_are_those_of_numpy(rng, name, shape, axis, dtype):
    """Also of what holds NaN and does not count, and of rows of nothing."""
    x, where = logits(rng, shape, dtype), rng.random(shape) < 0.5
    where[:1] = False
    x = jnp.where(jnp.asarray(where), x, jnp.nan)
    kept = {"keepdims": True} if name == "logsumexp" else {}
    for given in ({"where": where}, {"where": where[:, :1]}, {"where": True}, kept, {"where": where, **kept}):
        call = partial(getattr(fj, name), axis=axis, **given)
        expected = np.asarray(
            getattr(fastloss, name)(
                numpy(x), axis, **{k: np.asarray(v) if k == "where" else v for k, v in given.items()}
            )
        )
        equal(jax.jit(call)(x), expected)
        equal(jax.vmap(call)(jnp.stack([x, x])), np.stack([expected, expected]))


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_derivatives_where_something_counts(rng, name):
    """Those of what counts alone, and 0 of the rest, in rows of nothing too."""
    where = np.array([[True, False, True, True], [False] * 4])
    x, v = logits(rng, (2, 4), "float64"), logits(rng, (2, 4), "float64")
    x, v = (a.at[0, 1].set(jnp.nan) for a in (x, v))
    function = getattr(fj, name)

    def derivatives(call, x, v):
        def total(x):
            out = call(x)
            return jnp.where(jnp.isfinite(out), jnp.sin(out), 0).sum()

        return jax.grad(total)(x), jax.hessian(total)(x), jax.jvp(total, (x,), (v,))[1]

    grad, hessian, along = jax.jit(partial(derivatives, partial(function, where=where)))(x, v)
    alone = where[0]
    expected = derivatives(function, x[0, alone], v[0, alone])
    inside = np.where(where, numpy(grad), 0)
    near(inside[0, alone], expected[0], 50)
    near(numpy(hessian)[0, alone, 0][:, alone], expected[1], 200)
    near(along, expected[2], 50)
    assert (numpy(grad) == inside).all()
    assert not numpy(hessian)[~where].any()
    assert not numpy(hessian)[:, :, ~where].any()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"where": np.ones((2, 3), int)}, TypeError, "where: got dtype int64, wanted bool"),
        ({"where": np.ones(2, bool)}, ValueError, r"where: got shape \(2,\), wanted .* \(2, 3\)"),
        ({"where": np.ones((1, 2, 3), bool)}, ValueError, r"where: got shape \(1, 2, 3\), wanted"),
        ({"keepdims": 1}, TypeError, "keepdims: got int, wanted True or False"),
    ],
)
def test_errors_of_where_and_keepdims(options, error, message):
    for call in (fj.logsumexp, fastloss.logsumexp):
        with pytest.raises(error, match=message):
            call(np.zeros((2, 3)), **options)


def test_the_instruction_set_in_use_computes(isa, rng):
    x, target, _ = problem(rng, (6, 50), 1, "float32")
    loss = fastloss.CrossEntropyLoss()
    equal(fj.cross_entropy(x, target), np.float32(loss(numpy(x), numpy(target))))


@pytest.mark.parametrize(
    "label_dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
)
def test_labels_of_any_integer_type(rng, label_dtype):
    x, target, _ = problem(rng, (6, 5), 1, "float32")
    equal(fj.cross_entropy(x, target.astype(label_dtype)), fj.cross_entropy(x, target))
    equal(fj.cross_entropy(x, target > 2), fj.cross_entropy(x, (target > 2).astype(int)))


@pytest.mark.parametrize(("label_dtype", "most"), [("int4", 7), ("uint4", 15), ("int2", 1), ("uint2", 3)])
@pytest.mark.parametrize("run", [lambda f: f, jax.jit])
def test_labels_of_less_than_a_byte(rng, label_dtype, most, run):
    x, target = logits(rng, (50, 70_000), "float32"), jnp.asarray(rng.integers(0, most + 1, 50))
    equal(run(fj.cross_entropy)(x, target.astype(label_dtype)), fj.cross_entropy(x, target))


@pytest.mark.parametrize("dtype", ["float8_e5m2", "float8_e4m3fn", "float16", "int4", "bool"])
def test_probabilities_of_any_real_dtype(rng, dtype):
    x, target = logits(rng, (4, 3), "float32"), jnp.asarray(rng.integers(0, 2, (4, 3))).astype(dtype)
    for loss in (fj.binary_cross_entropy_with_logits, fj.cross_entropy):
        if loss is fj.cross_entropy and not jnp.issubdtype(target.dtype, jnp.floating):
            continue  # which are labels there
        for run in (loss, jax.grad(loss)):
            equal(run(x, target), run(x, target.astype(jnp.float32)))


@pytest.mark.parametrize("x_dtype", ["float32", "float8_e5m2", "complex64", "int4"])
def test_a_dtype_that_a_handler_does_not_know(x_dtype):
    for name, op in ("fastloss_classes", _kernels.OPS["loss"]), ("fastloss_points", 0):
        operands = {"x": jnp.zeros((2, 3), x_dtype), "labels": jnp.zeros(2, "int4")}
        results = {"value": jax.ShapeDtypeStruct((), jnp.float32)}
        with pytest.raises(jax.errors.JaxRuntimeError, match="has a dtype that the kernels do not read"):
            fj._call(name, op, operands, results, reduction="sum")[0].block_until_ready()


@pytest.mark.parametrize(
    ("label_dtype", "ignore_index"),
    [("uint8", -100), ("int8", 259), ("int8", -1), ("uint8", 3), ("int32", 2**40), ("bool", -1), ("bool", 1)],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_second_derivatives_whatever_the_labels_are_stored_in(rng, label_dtype, ignore_index, weighted):
    """`ignore_index`, and the number of classes, may be beyond their dtype."""
    x = logits(rng, (4, 300), "float64")
    target = jnp.array([0, 3, 3, 1] if label_dtype != "uint8" else [156, 3, 255, 1]).astype(label_dtype)
    weight = jnp.asarray(rng.uniform(0.5, 2, 300)) if weighted else None
    v = logits(rng, x.shape, "float64")
    result, wanted = (
        jax.jvp(jax.grad(lambda x: f(x, y, weight, ignore_index=ignore_index)), (x,), (v,))[1]  # noqa: B023
        for f, y in ((fj.cross_entropy, target), (plain, target.astype("int64")))
    )
    near(result, wanted, 64)


def plain(
    x,
    target,
    weight=None,
    ignore_index=-100,
    reduction="mean",
    label_smoothing=0.0,
    axis=None,
    sample_weight=None,
):
    """Cross-entropy in jax.numpy, to be differentiated."""
    axis = fastloss._arguments.class_axis(x.shape, axis, "x")
    logs, classes = jnp.moveaxis(jax.nn.log_softmax(x, axis), axis, -1), x.shape[axis]
    w = jnp.ones(classes) if weight is None else weight
    if target.shape == x.shape:
        target = jnp.moveaxis(target, axis, -1)
        weights = jnp.ones(logs.shape[:-1])
        c = w * ((1 - label_smoothing) * target + label_smoothing / classes)
    else:
        weights = (target != ignore_index) * w[target]
        c = (1 - label_smoothing) * w * jax.nn.one_hot(target, classes) + label_smoothing / classes * w
        c = c * (target != ignore_index)[..., None]
    values = -(c * logs).sum(-1)
    if sample_weight is not None:
        values, weights = values * sample_weight, weights * sample_weight
    return values if reduction == "none" else values.sum() / (weights.sum() if reduction == "mean" else 1)


def near(a, b, ulps, dtype="float64"):
    scale = np.abs(numpy(b).astype(np.float64)).max(initial=0) + 1e-300
    np.testing.assert_allclose(
        numpy(a).astype(np.float64), numpy(b).astype(np.float64), rtol=0, atol=ulps * EPS[dtype] * scale
    )


@pytest.mark.parametrize("case", CASES)
def test_derivatives_of_cross_entropy(rng, case):
    """First to third, forward and reverse, beside those of the formula, within roundings of short sums."""
    x, target, options = problem(rng, (2, 5, 3), 1, "float64", **CASES[case])
    v = logits(rng, x.shape, "float64")
    options["reduction"] = REDUCTIONS[[*CASES].index(case) % 3]

    def derivatives(function, x):
        def f(x):
            values = function(x, target, **options)
            return (values * jnp.arange(1.0, values.size + 1).reshape(values.shape)).sum()

        def second(x):
            return jax.jvp(jax.grad(f), (x,), (v,))[1]

        forward, third = jax.jvp(f, (x,), (v,))[1], jax.grad(lambda x: (second(x) * v).sum())(x)
        return forward, jax.grad(f)(x), second(x), jax.jacrev(jax.grad(f))(x), third

    ours, theirs = (jax.jit(partial(derivatives, function))(x) for function in (fj.cross_entropy, plain))
    for a, b, ulps in zip(ours, theirs, (50, 50, 200, 200, 1000), strict=True):
        near(a, b, ulps)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_derivatives_of_binary_cross_entropy(rng, reduction):
    x, v = logits(rng, (3, 4), "float64"), logits(rng, (3, 4), "float64")
    y, w, pos = (jnp.asarray(rng.random(shape)) for shape in [(3, 4), (3, 1), (4,)])

    def ours(x):
        return fj.binary_cross_entropy_with_logits(x, y, w, pos_weight=pos, reduction=reduction).sum()

    def theirs(x):
        values = -w * (pos * y * jax.nn.log_sigmoid(x) + (1 - y) * jax.nn.log_sigmoid(-x))
        return values.mean() if reduction == "mean" else values.sum()

    def derivatives(f, x):
        return jax.grad(f)(x), jax.jvp(f, (x,), (v,))[1], jax.hessian(f)(x)

    mine, others = (jax.jit(partial(derivatives, f))(x) for f in (ours, theirs))
    for a, b, ulps in zip(mine, others, (50, 100, 200), strict=True):
        near(a, b, ulps)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax", "sigmoid", "logsigmoid"])
def test_derivatives_of_array_functions(rng, name):
    x, v = logits(rng, (3, 4), "float64"), logits(rng, (3, 4), "float64")
    ours, theirs = getattr(fj, name), getattr(jax.nn, name.replace("logsigmoid", "log_sigmoid"))
    if name in ("logsumexp", "softmax", "log_softmax"):
        ours, theirs = partial(ours, axis=0), partial(theirs, axis=0)

    def derivatives(f, x):
        return jax.jvp(f, (x,), (v,))[1], jax.jacrev(f)(x), jax.hessian(lambda x: (f(x) ** 2).sum())(x)

    mine, others = (jax.jit(partial(derivatives, f))(x) for f in (ours, theirs))
    for a, b, ulps in zip(mine, others, (50, 50, 500), strict=True):
        near(a, b, ulps)


@pytest.mark.parametrize("case", CASES)
def test_vmap_is_a_loop(rng, case):
    problems = [problem(rng, (4, 5), -1, "float32", **CASES[case]) for _ in range(3)]
    xs, targets = (jnp.stack([p[i] for p in problems]) for i in range(2))
    options = problems[0][2]

    @jax.jit
    def both(x, target):
        results = []
        for reduction in REDUCTIONS:
            f = partial(fj.cross_entropy, target=target, reduction=reduction, **options)
            results += [f(x), jax.grad(lambda x, f=f: f(x).sum())(x)]
        return results

    def check(results, one_by_one):
        for a, b in zip(results, zip(*one_by_one, strict=True), strict=True):
            equal(a, jnp.stack(b))

    looped = [both(x, target) for x, target in zip(xs, targets, strict=True)]
    check(jax.jit(jax.vmap(both))(xs, targets), looped)
    elsewhere = jnp.moveaxis(xs, 0, 2), jnp.moveaxis(targets, 0, 1)
    check(jax.jit(jax.vmap(both, in_axes=(2, 1)))(*elsewhere), looped)
    twice = jax.jit(jax.vmap(jax.vmap(both)))(xs[None], targets[None])
    check([result[0] for result in twice], looped)
    check(jax.jit(jax.vmap(both, (0, None)))(xs, targets[0]), [both(x, targets[0]) for x in xs])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_vmap_of_class_weights(rng, reduction):
    x, target, _ = problem(rng, (4, 5), -1, "float32")
    weights = jnp.asarray(rng.uniform(0.5, 2, (3, 5)).astype(np.float32))
    f = jax.jit(lambda w: fj.cross_entropy(x, target, w, reduction=reduction, label_smoothing=0.1))
    equal(jax.vmap(f)(weights), jnp.stack([*map(f, weights)]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_vmap_of_elements(rng, reduction):
    xs, ys = logits(rng, (3, 4, 5), "float32"), jnp.asarray(rng.random((3, 4, 5)).astype(np.float32))
    weight = jnp.asarray(rng.random(5).astype(np.float32))

    @jax.jit
    def both(x, y):
        f = partial(fj.binary_cross_entropy_with_logits, target=y, weight=weight, reduction=reduction)
        return f(x), jax.grad(lambda x: f(x).sum())(x), fj.sigmoid(x)

    looped = [jnp.stack(parts) for parts in zip(*map(both, xs, ys), strict=True)]
    for a, b in zip(jax.jit(jax.vmap(both))(xs, ys), looped, strict=True):
        equal(a, b)
    equal(jax.vmap(both, (0, None))(xs, ys[1])[1], jnp.stack([both(x, ys[1])[1] for x in xs]))


def test_scan_checkpoint_and_cond(rng):
    x, target, _ = problem(rng, (4, 5), 1, "float32")

    def steps(x):
        return jax.lax.scan(
            lambda c, t: (c - jax.grad(fj.cross_entropy)(c, t), None), x, jnp.stack([target] * 3)
        )[0]

    one = x
    for _ in range(3):
        one = one - jax.grad(fj.cross_entropy)(one, target)
    near(jax.jit(steps)(x), one, 2, "float32")
    equal(jax.grad(jax.checkpoint(fj.cross_entropy))(x, target), jax.grad(fj.cross_entropy)(x, target))
    other = lambda x, target: jnp.float32(0)  # noqa: E731
    chosen = jax.jit(lambda x: jax.lax.cond(x[0, 0] > 0, fj.cross_entropy, other, x, target))
    assert chosen(jnp.abs(x)) == fj.cross_entropy(jnp.abs(x), target)


ONE_AXIS = jax.sharding.PartitionSpec("d"), jax.sharding.PartitionSpec()


@pytest.mark.skipif(not hasattr(jax, "shard_map"), reason="JAX before 0.6")
@pytest.mark.parametrize("parts", [(0, 0), (0, 1), (1, 0)])
@pytest.mark.parametrize("name", ["labels", "probabilities", "binary"])
def test_derivatives_under_shard_map(rng, name, parts):
    """Its types say what varies from device to device: of the input, of the target, or of both."""
    x, target, _ = problem(rng, (6, 5), 1, "float32", soft=name != "labels")
    loss = fj.binary_cross_entropy_with_logits if name == "binary" else fj.cross_entropy
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("d",))
    specs = tuple(ONE_AXIS[part] for part in parts)
    mapped = jax.shard_map(
        lambda x, y: jax.lax.pmean(loss(x, y), "d"), mesh=mesh, in_specs=specs, out_specs=ONE_AXIS[1]
    )
    equal(mapped(x, target), loss(x, target))
    equal(jax.grad(mapped)(x, target), jax.grad(loss)(x, target))
    near(jax.jit(jax.hessian(mapped))(x, target), jax.hessian(loss)(x, target), 4, "float32")
    inside = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=specs, out_specs=specs[0])
    equal(inside(x, target), jax.grad(loss)(x, target))


def in_a_loop(function, x):
    """Where what is carried must keep its type."""
    return jax.lax.scan(lambda c, _: (c + function(c).sum() * c, None), x, None, length=2)[0]


def derivatives_of(f, x):
    """Value, gradient and Hessian times x, the last by the order of modes that JAX has for loops."""

    def total(x):
        return (f(x) ** 2).sum()

    return total(x), jax.grad(total)(x), jax.grad(lambda x: jax.jvp(total, (x,), (x,))[1])(x)


@pytest.mark.skipif(not hasattr(jax, "shard_map"), reason="JAX before 0.6")
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax", "sigmoid", "logsigmoid"])
def test_array_functions_under_shard_map(rng, name):
    x, f = logits(rng, (6, 5), "float64") / 8, partial(in_a_loop, getattr(fj, name))
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("d",))
    mapped = jax.shard_map(f, mesh=mesh, in_specs=ONE_AXIS[:1], out_specs=ONE_AXIS[0])
    for a, b in zip(derivatives_of(mapped, x), derivatives_of(f, x), strict=True):
        near(a, b, 500)


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="JAX before 0.7")
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax", "sigmoid", "logsigmoid"])
def test_arrays_whose_types_say_how_they_are_parted(rng, name):
    x, f = logits(rng, (6, 5), "float64"), getattr(fj, name)
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        parted = jax.device_put(x, jax.sharding.NamedSharding(mesh, ONE_AXIS[0]))
        labels = jax.device_put(jnp.arange(6) % 5, jax.sharding.NamedSharding(mesh, ONE_AXIS[0]))
        got = jax.jit(partial(derivatives_of, f))(parted)
        second = jax.jit(jax.hessian(lambda x: fj.cross_entropy(x, labels, reduction="none").sum()))(x)
    for a, b in zip(got, derivatives_of(f, x), strict=True):
        near(a, b, 500)
    wanted = jax.hessian(lambda x: fj.cross_entropy(x, jnp.arange(6) % 5, reduction="sum"))(x)
    near(second, wanted, 200)


@pytest.mark.parametrize("scale", [1, 2.0**15])
@pytest.mark.parametrize("classes", [300, 5000])
@pytest.mark.parametrize("name", ["labels", "probabilities", "binary"])
def test_a_factor_reaches_the_gradient_before_float16_rounds_it(rng, name, classes, scale):
    """A mean's gradient may be below what float16 has; scaled losses are how training in it goes."""
    x, target, _ = problem(rng, (512, classes), 1, "float16", soft=name != "labels")
    loss = fj.binary_cross_entropy_with_logits if name == "binary" else fj.cross_entropy
    grad = jax.jit(jax.grad(lambda x: scale * loss(x, target)))(x)
    wide = target.astype("float32") if name != "labels" else target
    equal(grad, (scale * jax.grad(loss)(x.astype("float32"), wide)).astype("float16"))
    again = jax.jvp(jax.grad(lambda x: scale * loss(x, target)), (x,), (x,))[1]
    assert again.dtype == jnp.float16
    assert (grad != 0).mean() > (0.5 if scale > 1 else 0)


def test_a_factor_after_the_loss(rng):
    x, target, _ = problem(rng, (40, 5), 1, "float32")
    grad = jax.jit(jax.grad(lambda x: 3 * fj.cross_entropy(x, target) + (x**2).sum()))(x)
    near(grad, 3 * jax.grad(fj.cross_entropy)(x, target) + 2 * x, 2, "float32")


@pytest.mark.parametrize("threads", [1, 2])
def test_large_on_threads(rng, threads):
    x = jnp.asarray(rng.standard_normal((2000, 120), np.float32))
    target = jnp.asarray(rng.integers(0, 120, 2000))
    with fastloss.threads(threads):
        value, grad = jax.jit(jax.value_and_grad(lambda x: fj.cross_entropy(x, target)))(x)
    expected, expected_grad = fastloss.CrossEntropyLoss().value_and_grad(numpy(x), numpy(target))
    assert value == np.float32(expected)
    equal(grad, expected_grad)


def test_nothing_counts(rng):
    x, target = jnp.full((3, 4), jnp.nan), jnp.full(3, -100)
    value, grad = jax.value_and_grad(fj.cross_entropy)(x, target)
    assert jnp.isnan(value)
    assert (grad == 0).all()
    assert fj.cross_entropy(x, target, reduction="sum") == 0
    soft = partial(fj.cross_entropy, target=jnp.full((3, 4), 0.25), sample_weight=jnp.zeros(3))
    value, grad = jax.value_and_grad(soft)(jnp.zeros((3, 4)))
    assert jnp.isnan(value)
    assert (grad == 0).all()
    empty = jnp.zeros((0, 4))
    assert jnp.isnan(fj.cross_entropy(empty, jnp.zeros(0, int)))
    assert fj.cross_entropy(empty, jnp.zeros(0, int), reduction="none").shape == (0,)
    assert jnp.isnan(fj.binary_cross_entropy_with_logits(empty, empty))
    assert fj.softmax(empty).shape == (0, 4)
    assert jax.vmap(fj.cross_entropy)(jnp.zeros((0, 3, 4)), jnp.zeros((0, 3), int)).shape == (0,)


def test_edges_stay_in_their_row(rng):
    x = jnp.array([[1.0, 2.0], [jnp.nan, 0], [jnp.inf, 0], [-jnp.inf, 0]])
    labels, loss = jnp.array([0, 0, 0, 1]), fastloss.CrossEntropyLoss(reduction="none")
    value, grad = loss.value_and_grad(numpy(x), numpy(labels))
    equal(fj.cross_entropy(x, labels, reduction="none"), value)
    equal(jax.grad(lambda x: fj.cross_entropy(x, labels, reduction="none").sum())(x), grad)


@pytest.mark.parametrize("wrong", [5, -1])
@pytest.mark.parametrize("run", [lambda f: f, jax.jit])
def test_a_label_out_of_range_is_an_error(rng, wrong, run):
    x, target, _ = problem(rng, (2, 5, 3), 1, "float32")
    target = target.at[1, 2].set(wrong)
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"target\[1, 2\] = {wrong} is out of range for 5"):
        run(fj.cross_entropy)(x, target).block_until_ready()
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"target\[0, 1, 2\] = "):
        run(jax.vmap(fj.cross_entropy))(x[None], target[None]).block_until_ready()
    assert jnp.isfinite(fj.cross_entropy(x, target, ignore_index=wrong))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            ((2, 3, 4), (2, 3)),
            {},
            ValueError,
            r"target: got shape \(2, 3\).*wanted \(2, 4\).*axis=-1 for classes",
        ),
        (((2, 3), (3,)), {}, ValueError, r"target: got shape \(3,\).*wanted \(2,\) for class indices"),
        (((2, 3), (2,)), {"axis": 2}, ValueError, "axis: got 2"),
        (((2, 3), (2,)), {"axis": 1.5}, TypeError, "axis: got float"),
        (((2, 0), (2,)), {}, ValueError, "input: got shape"),
        (((), ()), {}, ValueError, "input: got a 0-dimensional array"),
        (((2, 3), (2,)), {"weight": np.ones(2)}, ValueError, r"weight: got shape \(2,\), wanted \(3,\)"),
        (((2, 3), (2,)), {"sample_weight": np.ones(3)}, ValueError, r"sample_weight: got shape \(3,\)"),
        (((2, 3), (2,)), {"reduction": "average"}, ValueError, "reduction: got 'average'"),
        (((2, 3), (2,)), {"ignore_index": 1.0}, TypeError, "ignore_index: got float"),
        (((2, 3), (2,)), {"label_smoothing": 1.5}, ValueError, "label_smoothing: got 1.5"),
    ],
)
def test_errors(arguments, options, error, message):
    x, target = jnp.zeros(arguments[0]), jnp.zeros(arguments[1], int)
    for run in (lambda f: f, jax.jit):
        with pytest.raises(error, match=message):
            run(lambda x, target: fj.cross_entropy(x, target, **options))(x, target)


def test_errors_of_types():
    x = jnp.zeros((2, 3))
    with pytest.raises(TypeError, match="input: got dtype complex"):
        fj.cross_entropy(x.astype(complex), jnp.zeros(2, int))
    with pytest.raises(TypeError, match="target: got dtype complex"):
        fj.cross_entropy(x, jnp.zeros(2, complex))
    with pytest.raises(ValueError, match=r"axis=1; integers are class indices$"):
        fj.cross_entropy(x, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"target: got shape \(3,\), wanted \(2, 3\)"):
        fj.binary_cross_entropy_with_logits(x, jnp.zeros(3))
    with pytest.raises(TypeError, match="x: got dtype complex"):
        fj.sigmoid(x.astype(complex))
    with pytest.raises(TypeError, match="axis: got str"):
        fj.softmax(x, axis="0")


@pytest.mark.parametrize("wrong", [None, "abc", {}, [[1, 2], [3]]])
@pytest.mark.parametrize("name", ["input", "target", "weight", "sample_weight", "pos_weight"])
def test_errors_of_what_is_no_array(name, wrong):
    if wrong is None and "weight" in name:
        return
    loss = fj.binary_cross_entropy_with_logits if name == "pos_weight" else fj.cross_entropy
    with pytest.raises(
        (TypeError, ValueError), match=rf"^{name}: got {type(wrong).__name__}, wanted an array"
    ):
        loss(**{"input": jnp.zeros((2, 3)), "target": jnp.full((2, 3), 1 / 3), name: wrong})


@pytest.mark.parametrize("name", ["weight", "sample_weight", "pos_weight"])
def test_complex_weights_are_an_error(name):
    """JAX would drop their imaginary parts."""
    x, q = jnp.zeros((2, 3)), jnp.full((2, 3), 1 / 3)
    losses = {"weight": (fj.cross_entropy, fj.binary_cross_entropy_with_logits)}
    losses |= {"sample_weight": (fj.cross_entropy,), "pos_weight": (fj.binary_cross_entropy_with_logits,)}
    for loss in losses[name]:
        with pytest.raises(TypeError, match=rf"^{name}: got dtype complex\d+, wanted real numbers"):
            loss(x, q, **{name: jnp.ones(2 if name == "sample_weight" else 3, complex)})
        loss(x, q, **{name: jnp.ones(2 if name == "sample_weight" else 3, bool)})


@pytest.mark.parametrize("name", ["ignore_index", "label_smoothing"])
def test_options_that_are_traced(name):
    call = jax.jit(lambda option: fj.cross_entropy(jnp.zeros((2, 3)), jnp.zeros(2, int), **{name: option}))
    with pytest.raises(TypeError, match=rf"^{name}: got a traced array, .* static_argnames='{name}'"):
        call(1)


def test_numbers_of_jax_as_options(rng):
    x, target, _ = problem(rng, (6, 5), 1, "float32")
    given = {"ignore_index": jnp.int32(1), "label_smoothing": jnp.float32(0.5)}
    plain = {"ignore_index": 1, "label_smoothing": 0.5}
    equal(fj.cross_entropy(x, target, **given), fj.cross_entropy(x, target, **plain))
    for wrong in (jnp.float32(1), jnp.bool_(True), jnp.array([1])):
        with pytest.raises(TypeError, match="ignore_index: got "):
            fj.cross_entropy(x, target, ignore_index=wrong)


def test_no_derivative_by_the_target():
    x, q = jnp.zeros((2, 3)), jnp.full((2, 3), 1 / 3)
    for loss in (fj.cross_entropy, fj.binary_cross_entropy_with_logits):
        with pytest.raises(TypeError, match=r"target: .*stop_gradient\(target\)"):
            jax.grad(loss, argnums=1)(x, q)
        jax.grad(lambda x, loss=loss: loss(x, jax.lax.stop_gradient(jax.nn.softmax(x))))(x)
    with pytest.raises(TypeError, match=r"sample_weight: "):
        jax.grad(lambda w: fj.cross_entropy(x, jnp.zeros(2, int), sample_weight=w))(jnp.ones(2))


def test_integers_are_floats():
    equal(fj.softmax(jnp.array([1, 2])), fj.softmax(jnp.array([1.0, 2.0])))
    equal(fj.cross_entropy([[1, 2]], [0]), fj.cross_entropy(jnp.array([[1.0, 2.0]]), jnp.array([0])))
