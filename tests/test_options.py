"""A loss is what its options are: it does not change, and equal options make equal losses."""

import copy
import pickle

import numpy as np
import pytest

import fastloss
from tests.support.cases import CLASSES, loss

OPTIONS = {
    "cross_entropy": {"weight": [1.0, 2.0], "ignore_index": (1, 2), "label_smoothing": 0.5, "axis": -1}
    | {"z_loss": 0.5, "softcap": 30.0, "scale": [2.0, 0.5], "bias": [0.0, 1.0]},
    "focal_loss": {"gamma": 0.5, "weight": [1.0, 2.0], "ignore_index": 3, "axis": 1, "z_loss": 0.5},
    "generalized_cross_entropy": {"q": 0.5, "weight": [1.0, 2.0], "softcap": 30.0, "scale": 0.5},
    "poly_loss": {"epsilon": 0.5, "weight": [1.0, 2.0], "axis": -1},
    "nll_loss": {"weight": [1.0, 2.0], "ignore_index": 3, "axis": 1},
    "multinomial_nll_loss": {"full": True, "axis": 0},
    "binary_cross_entropy_with_logits": {"weight": [1.0, 2.0], "pos_weight": 3.0},
    "binary_cross_entropy": {"weight": [[1.0], [2.0]]},
    "kl_div": {"log_target": True},
    "mse_loss": {},
    "sigmoid_focal_loss": {"gamma": 1.5, "alpha": 0.5},
    "soft_margin_loss": {},
    "multilabel_soft_margin_loss": {"weight": [1.0, 2.0]},
    "poisson_nll_loss": {"log_input": False, "full": True, "eps": 0.5},
    "gaussian_nll_loss": {"full": True, "eps": 0.5},
}
LOSSES = [(name, {**options, "reduction": "sum", "empty": "zero"}) for name, options in OPTIONS.items()]


def differing(option, value):
    """Another valid value of an option."""
    if isinstance(value, bool):
        return not value
    if option in ("weight", "pos_weight", "bias") or np.ndim(value):
        return [1.0, 1.0] if value is None else np.asarray(value) * 2
    if option in ("gamma", "q", "epsilon", "z_loss", "softcap", "alpha", "eps", "scale", "temperature"):
        return 2.0 if value is None else value / 2
    return {"ignore_index": -1, "label_smoothing": 0.25, "axis": None, "reduction": "none", "empty": "nan"}[
        option
    ]


@pytest.mark.parametrize(("name", "options"), LOSSES)
def test_options_do_not_change(name, options):
    made = loss(name, **options)
    shown = repr(made)
    for option in [*made.options(), "another"]:
        with pytest.raises(AttributeError, match=rf"^{option}: a {CLASSES[name]} does not change"):
            setattr(made, option, "avg")
        with pytest.raises(AttributeError, match=rf"^{option}: "):
            delattr(made, option)
    made.options().clear()
    assert repr(made) == shown


def test_weights_do_not_change():
    """Neither through the array that was passed nor through the loss."""
    for name, option in (("cross_entropy", "weight"), ("binary_cross_entropy_with_logits", "pos_weight")):
        weight = np.ones(2)
        made = loss(name, **{option: weight})
        twin = loss(name, **{option: np.ones(2)})
        weight[:] = 5
        assert made == twin
        assert hash(made) == hash(twin)
        with pytest.raises(ValueError, match="read-only"):
            getattr(made, option)[0] = 5
        assert weight.flags.writeable
    memory = np.ones(2)
    view = memory[:]
    view.flags.writeable = False
    made = [loss("cross_entropy", weight=array, bias=array) for array in (view, view[:])]
    memory[:] = 5
    assert made[0] == made[1] == loss("cross_entropy", weight=np.ones(2), bias=np.ones(2))
    assert loss("nll_loss", weight=made[0].weight).weight is made[0].weight  # nobody can write it: no copy


def test_a_function_copies_no_weight():
    """It uses an array of the input's size where it stands, which stays writeable."""
    weight = np.ones((500, 500))
    before = weight.flags.writeable
    assert fastloss.binary_cross_entropy(weight, weight, weight=weight) == 0
    assert weight.flags.writeable == before


def test_a_function_reads_its_weight_in_each_call():
    """Also one that can be a key."""

    class Weight:
        def __array__(self, dtype=None, copy=None):
            return np.array(self.numbers, dtype)

    weight, x = Weight(), [[0.0, 0.0]]
    for name, target in (("cross_entropy", [0]), ("binary_cross_entropy_with_logits", [[1.0, 1.0]])):
        values = []
        for weight.numbers in ([1.0, 1.0], [3.0, 3.0]):
            values.append(getattr(fastloss, name)(x, target, weight=weight, reduction="sum"))
        assert values[1] == 3 * values[0]


def test_a_function_reads_its_options_in_each_call():
    """Also those that can be keys, and change."""

    class Number:
        def __array__(self, dtype=None, copy=None):
            return np.array(self.number, dtype)

    number, x = Number(), np.array([[0.5, 2.0, 1.0]])
    for name, option, target in (
        ("cross_entropy", "scale", [0]),
        ("cross_entropy", "bias", [0]),
        ("cross_entropy", "softcap", [0]),
        ("focal_loss", "gamma", [0]),
        ("kl_div_with_logits", "temperature", [[1.0, 0.0, 0.0]]),
    ):
        for value in (1.0, 3.0):
            number.number = [value, 2.0, 1.0] if option == "bias" else value
            found = getattr(fastloss, name)(x, target, **{option: number})
            assert found == getattr(fastloss, name)(x, target, **{option: number.number})


@pytest.mark.parametrize(("name", "options"), LOSSES)
def test_equal_options_make_equal_losses(name, options):
    made, twin = loss(name, **options), loss(name, **options)
    assert made is not twin
    assert made == twin
    assert hash(made) == hash(twin)
    assert len({made, twin}) == 1
    for option, value in options.items():
        other = loss(name, **{**options, option: differing(option, value)})
        assert made != other
        assert other != made
        assert other == loss(name, **{**options, option: differing(option, value)})
    for other in OPTIONS:
        if other != name:
            assert made != loss(other)
    assert made != name
    assert (made == object()) is False


def test_nan_in_a_weight_equals_itself():
    assert loss("cross_entropy", weight=[np.nan, 1]) == loss("cross_entropy", weight=[np.nan, 1])


@pytest.mark.parametrize("dtype", ["<f8", ">f8", ">f4", ">f2"])
@pytest.mark.parametrize(("name", "options"), LOSSES)
def test_copies(name, options, dtype):
    made = loss(name, **{k: np.array(v, dtype) if isinstance(v, list) else v for k, v in options.items()})
    copies = [
        pickle.loads(pickle.dumps(made, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ]
    for same in [copy.copy(made), copy.deepcopy(made), *copies, type(made)(**made.options())]:
        assert type(same) is type(made)
        assert same == made
        assert repr(same) == repr(made)
        with pytest.raises(AttributeError):
            same.reduction = "mean"


def test_a_subclass_is_another_loss():
    class Mine(fastloss.MSELoss):
        pass

    assert Mine() != fastloss.MSELoss()
    assert Mine()([1.0], [0.0]) == 1


class _Smoothed(fastloss.CrossEntropyLoss):
    """One with a signature of its own."""

    def __init__(self, percent=10):
        super().__init__(label_smoothing=percent / 100)


def test_a_subclass_is_copied_as_it_is():
    made = _Smoothed(20)
    for same in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(same) is _Smoothed
        assert same == made
        assert same([[1.0, 0.0]], [1]) == made([[1.0, 0.0]], [1])


def test_options_are_keywords():
    with pytest.raises(TypeError):
        fastloss.CrossEntropyLoss(None, -100)
    with pytest.raises(TypeError):
        fastloss.MSELoss("mean")
    with pytest.raises(TypeError):
        fastloss.MSELoss(typo=1)


@pytest.mark.parametrize(("name", "options"), LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_repr_evaluates(name, options, dtype):
    """Among the names of NumPy, which shows arrays so; also long weights, to the last digit."""
    weights = np.append(np.random.default_rng(7).random(1500).astype(dtype), [np.inf, 0]) ** 9
    options = {k: weights if k.endswith("weight") and v is not None else v for k, v in options.items()}
    made = loss(name, **options)
    assert eval(repr(made), {**vars(np), **vars(fastloss)}) == made
