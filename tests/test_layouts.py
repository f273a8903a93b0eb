"""A class axis that is not last in shape but is in memory: read where it is, to the plain layout's bits."""

import tracemalloc

import numpy as np
import pytest

import fastloss
from tests.support.cases import same_bits

#: Orders in which memory of the order (N, H, W, C) is seen; where the classes are then.
ORDERS = [(0, 3, 1, 2), (3, 0, 1, 2), (0, 2, 3, 1), (2, 1, 3, 0), (1, 3, 0, 2), (3, 2, 1, 0)]
LOSSES = ["CrossEntropyLoss", "FocalLoss", "GeneralizedCrossEntropyLoss", "PolyLoss", "NLLLoss"]


def seen(a, order):
    """Memory of the order (N, H, W, C), or without classes, in another order of the axes."""
    order = order if a.ndim == 4 else [i for i in order if i != 3]
    return a.transpose(order)


def memory(a, order):
    """The inverse."""
    order = order if a.ndim == 4 else [i for i in order if i != 3]
    return a.transpose(np.argsort(order))


def made(rng, shape, dtype):
    return (3 * rng.standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 4, 3, 200), (3, 4, 40, 3)])
@pytest.mark.parametrize("sliced", [False, True])
def test_losses(order, shape, sliced, dtype, rng, isa):
    """Labels, probabilities, weights, masks and all that is written, in the order of input or another one."""
    x = made(rng, (*shape[:3], shape[3] + 5 * sliced), dtype)[..., : shape[3]]
    axis, labels = order.index(3), rng.integers(0, shape[3], shape[:3])
    labels[0, 0] = -100
    mask, weight = rng.random(shape[:3]) < 0.8, rng.random(shape[:3]).astype(x.dtype)
    q = fastloss.softmax(rng.standard_normal(shape)).astype(np.float32 if dtype.itemsize == 2 else dtype)
    for name in LOSSES:
        for reduction in ("mean", "none"):
            there = getattr(fastloss, name)(reduction=reduction, axis=axis)
            plain = getattr(fastloss, name)(reduction=reduction, axis=-1)
            for target in (labels, q) if name == "CrossEntropyLoss" else (labels,):
                for given in ({}, {"mask": mask}, {"sample_weight": weight}):
                    wanted = plain.value_grad_hess(x, target, **given)
                    given = {key: seen(a, order) for key, a in given.items()}
                    got = there.value_grad_hess(seen(x, order), seen(target, order), **given)
                    for a, b in zip(got, wanted, strict=True):
                        assert same_bits(memory(a, order) if isinstance(a, np.ndarray) else a, b)
                    assert got[1].strides == seen(np.empty(shape, dtype), order).strides
                    # a target elsewhere in memory, and results of any order
                    copied = np.ascontiguousarray(seen(target, order))
                    out = {"grad_out": np.empty(seen(x, order).shape, dtype)}
                    if reduction == "none":
                        out["out"] = np.empty(seen(labels, order).shape, np.asarray(wanted[0]).dtype)
                    again = there.value_and_grad(seen(x, order), copied, **given, **out)
                    assert again[1] is out["grad_out"]
                    assert reduction == "mean" or again[0] is out["out"]
                    wanted = plain.value_and_grad(
                        x, target, **{k: memory(a, order) for k, a in given.items()}
                    )
                    assert same_bits(memory(again[1], order), wanted[1])
                    value = memory(again[0], order) if reduction == "none" else again[0]
                    assert same_bits(value, wanted[0])


@pytest.mark.parametrize("order", ORDERS)
def test_in_place(order, dtype, rng, isa):
    x, labels = made(rng, (2, 4, 3, 20), dtype), rng.integers(0, 20, (2, 4, 3))
    value, grad = fastloss.CrossEntropyLoss(axis=-1).value_and_grad(x, labels)
    view = seen(x, order)
    got = fastloss.CrossEntropyLoss(axis=order.index(3)).value_and_grad(
        view, seen(labels, order), grad_out=view
    )
    assert got == (value, view)
    assert same_bits(x, grad)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("sliced", [False, True])
def test_array_functions(order, sliced, dtype, rng, isa):
    x = made(rng, (2, 3, 4, 30), dtype)[..., : 30 - 9 * sliced]
    axis = order.index(3)
    for name in ("softmax", "log_softmax", "logsumexp", "entropy_from_logits"):
        wanted = getattr(fastloss, name)(x, -1)
        got = getattr(fastloss, name)(seen(x, order), axis)
        assert same_bits(memory(got, order), wanted)
        if name != "entropy_from_logits":
            for out in (np.empty(got.shape, got.dtype), np.full_like(got, 7)):
                assert getattr(fastloss, name)(seen(x, order), axis, out=out) is out
                assert same_bits(memory(out, order), wanted)
    kept = fastloss.logsumexp(seen(x, order), axis, keepdims=True)
    assert same_bits(memory(kept, order), fastloss.logsumexp(x, -1, keepdims=True))
    g = made(rng, x.shape, dtype)
    for name in ("softmax", "log_softmax"):
        p = np.ascontiguousarray(getattr(fastloss, name)(x, -1))
        wanted = getattr(fastloss, f"{name}_vjp")(p, g, -1)
        for other in (seen(g, order), np.ascontiguousarray(seen(g, order))):
            got = getattr(fastloss, f"{name}_vjp")(seen(p, order), other, axis)
            assert same_bits(memory(got, order), wanted)


@pytest.mark.parametrize("order", ORDERS)
def test_elements(order, dtype, rng, isa):
    """Without classes any dense memory is read where it is; a sum has the bits of a copy's."""
    x, y = made(rng, (2, 3, 4, 30), dtype), rng.random((2, 3, 4, 30)).astype(dtype)
    weight = rng.random((2, 1, 4, 30)).astype(np.float32)
    for name in ("sigmoid", "logsigmoid"):
        got = getattr(fastloss, name)(seen(x, order))
        assert same_bits(got, np.ascontiguousarray(seen(getattr(fastloss, name)(x), order)))
        assert got.strides == seen(x, order).strides
    for loss in (fastloss.BCEWithLogitsLoss, fastloss.MSELoss, fastloss.SigmoidFocalLoss):
        for reduction in ("none", "mean"):
            given = {"weight": weight} if loss is fastloss.BCEWithLogitsLoss else {}
            there = loss(**{k: seen(a, order) for k, a in given.items()}, reduction=reduction)
            copies = [np.ascontiguousarray(seen(a, order)) for a in (x, y)]
            for method in (there.value_grad_hess, there.value_and_grad):
                wanted = method(*copies, sample_weight=seen(weight, order))
                for target in (seen(y, order), copies[1]):
                    got = method(seen(x, order), target, sample_weight=seen(weight, order))
                    for a, b in zip(got, wanted, strict=True):
                        assert same_bits(a, b)


def test_errors_name_the_callers_position(rng):
    x, labels = made(rng, (2, 3, 4, 5), np.float32), rng.integers(0, 5, (2, 3, 4))
    labels[1, 0, 3] = 7
    for order in ORDERS:
        place = [(1, 0, 3)[i] for i in order if i != 3]
        made_loss = fastloss.CrossEntropyLoss(axis=order.index(3))
        grad = np.full(seen(x, order).shape, 7, np.float32)
        for target in (labels, labels.astype(np.float32) + np.where(labels == 7, 0.5, 0)):
            with pytest.raises((IndexError, ValueError)) as caught:
                made_loss.value_and_grad(seen(x, order), seen(target, order), grad_out=grad)
            assert str(caught.value).startswith(f"target[{', '.join(map(str, place))}] = 7")
        assert (grad == 7).all()
        p = np.full(x.shape, 0.5, np.float32)
        p[1, 0, 3, 2] = 2
        place = [(1, 0, 3, 2)[i] for i in order]
        with pytest.raises(ValueError, match=rf"input\[{', '.join(map(str, place))}\]"):
            fastloss.binary_cross_entropy(seen(p, order), seen(p, order))
        with pytest.raises(ValueError, match=r"^sample_weight"):
            made_loss(seen(x, order), seen(labels, order), sample_weight=np.ones(17))
        with pytest.raises(ValueError, match=r"^target"):
            made_loss(seen(x, order), labels[0])


def peak_of(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_nothing_is_copied(order, kind, rng):
    x = rng.standard_normal((4, 32, 64, 40), np.float32).astype(kind)
    labels, axis = rng.integers(0, 40, x.shape[:3]), order.index(3)
    mask, grad, hess, p = labels > 1, np.empty_like(x), np.empty_like(x), fastloss.softmax(x)
    at = [seen(a, order) for a in (x, labels, grad, hess, mask, p)]
    few = x.nbytes / 4
    loss = fastloss.CrossEntropyLoss(axis=axis)
    assert peak_of(lambda: loss(at[0], at[1])) < few
    assert peak_of(lambda: loss(at[0], at[1], mask=at[4])) < few
    assert peak_of(lambda: loss(at[0], at[5])) < few
    assert peak_of(lambda: loss.value_grad_hess(at[0], at[1], grad_out=at[2], hess_out=at[3])) < few
    assert peak_of(lambda: loss.value_and_grad(at[0], at[1])) < x.nbytes + few
    for name in ("softmax", "log_softmax"):
        assert peak_of(lambda name=name: getattr(fastloss, name)(at[0], axis, out=at[2])) < few
        assert peak_of(lambda name=name: getattr(fastloss, name)(at[0], axis)) < x.nbytes + few
        vjp = getattr(fastloss, f"{name}_vjp")
        assert peak_of(lambda vjp=vjp: vjp(at[5], at[0], axis, out=at[2])) < few
    assert peak_of(lambda: fastloss.sigmoid(at[0], out=at[2])) < few
    assert peak_of(lambda: fastloss.sigmoid_vjp(at[5], at[0], out=at[2])) < few
    bits, values = fastloss.BCEWithLogitsLoss(reduction="none"), np.empty(x.shape, np.float32)
    out = {"out": seen(values, order), "grad_out": at[2]}
    assert peak_of(lambda: bits.value_and_grad(at[0], at[5], **out)) < few


@pytest.mark.parametrize("kind", [float, np.float32, ">f8"])
def test_floating_labels_in_another_order(kind, rng):
    """Whole numbers in a floating dtype are those of their samples, wherever these stand in memory."""
    x = rng.standard_normal((4, 3, 5)).transpose(1, 2, 0)
    labels = rng.integers(0, 5, (3, 4))
    for logits in (x, np.ascontiguousarray(x)):
        for name in ("cross_entropy", "nll_loss", "focal_loss", "generalized_cross_entropy", "poly_loss"):
            function = getattr(fastloss, name)
            z = fastloss.log_softmax(logits, axis=1) if name == "nll_loss" else logits
            expected = function(z, labels, reduction="none")
            for other in (
                labels.astype(kind),
                np.asfortranarray(labels.astype(kind)),
                labels.astype(kind).tolist(),
            ):
                assert same_bits(function(z, other, reduction="none"), expected)


@pytest.mark.parametrize("shape", [(37, 7), (9, 40), (6, 300), (37, 2)])
def test_slices_have_the_bits_of_the_whole(shape, dtype, rng):
    """Samples of an array in Fortran order keep their bits where a slice of it has to be copied."""
    x = np.asfortranarray((3 * rng.standard_normal(shape)).astype(dtype))
    labels = rng.integers(0, shape[1], shape[0])
    loss = fastloss.CrossEntropyLoss(reduction="none")
    for function in (
        fastloss.softmax,
        fastloss.log_softmax,
        fastloss.logsumexp,
        fastloss.entropy_from_logits,
    ):
        assert same_bits(function(x)[:5], function(x[:5]))
    for whole, part in zip(
        loss.value_and_grad(x, labels), loss.value_and_grad(x[:5], labels[:5]), strict=True
    ):
        assert same_bits(whole[:5], part)
    loss = fastloss.CrossEntropyLoss()
    totals = [fastloss.stream(loss, x, labels, rows=rows) for rows in (1, 5, shape[0])]
    assert totals[0] == totals[1] == totals[2] == loss.total(np.ascontiguousarray(x), labels)
