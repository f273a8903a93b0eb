"""What all losses share: options that do not change, and the way of a call.

a) A loss says which kernel it runs with which arguments; the formulas are in `_kernels`, and once more, in
   NumPy, in `reference`.
b) A plain call of plain arrays takes the short way, one step in `_kernels/entry.pxi`; every other call takes
   the general way, `Loss._run` of its family.
c) The kernels receive one factor for the gradient, grad_output / divisor: value and gradient of a mean come
   out of the same pass.
"""

from __future__ import annotations

import inspect
import math
import sys
from functools import lru_cache
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from .. import _checking, _kernels, reference
from .._arguments import (
    FLOAT32,
    FLOAT64,
    Array,
    Shape,
    as_array,
    choice,
    compute_dtype,
    native,
    read_only,
    real_operand,
    unchanging,
    widened,
)
from .._call import Call, checked_rule
from .._runtime import threads_for

Value = float | Array
Result = tuple[Value, Array | None, Array | None]  # value, gradient, diagonal of the Hessian
V = TypeVar("V")  # of a loss: float, or Array under "none"


class Options:
    """What holds options that are checked and set once, by `__init__`; equal options make equals."""

    _options: dict[str, Any]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: a {type(self).__name__} does not change; make another one")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def options(self) -> dict[str, Any]:
        """Return the options by name, as the class and the function take them.

        Returns
        -------
        dict
            The options; arrays among them are read-only.

        Examples
        --------
        >>> import fastloss
        >>> fastloss.MSELoss(reduction="sum").options()
        {'reduction': 'sum', 'empty': 'nan'}
        """
        return dict(self._options)

    def _key(self) -> tuple[Any, ...]:
        """Type and options, arrays as their bytes."""
        options = (
            (
                name,
                (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value,
            )
            for name, value in self.options().items()
        )
        return type(self), *options

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Options) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.options())

    def __repr__(self) -> str:
        with np.printoptions(threshold=sys.maxsize, floatmode="unique"):  # all of the weights
            shown = ", ".join(f"{k}={v!r}" for k, v in self._options.items() if v is not None)
        return f"{type(self).__name__}({shown})"


class Loss(Options, Generic[V]):
    """What every loss has: options, a value, and a value with its gradient."""

    _function: ClassVar[str]
    _reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")
    _factors_of_rules: ClassVar[dict[Any, float]] = {"exact": 1.0, "bound": 1.0}  # of the short way

    reduction: str
    empty: str
    _plain: Any

    def __init__(self, *, reduction: str, empty: str, **options: Any) -> None:
        choice(reduction, "reduction", self._reductions)
        choice(empty, "empty", ("nan", "zero"))
        self.__dict__.update(options, reduction=reduction, empty=empty)
        self.__dict__["_options"] = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        self.__dict__["_plain"] = self._plain_op()

    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        out: Array | None = None,
    ) -> V:
        """Return the value.

        Parameters
        ----------
        input : array_like
            Array of the shape and meaning that the class describes.
        target : array_like
            Array as the class describes.
        %(samples)s
        %(out)s

        Returns
        -------
        %(value)s

        Raises
        ------
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.MSELoss()
        >>> loss([1.0, 2.0], [0.0, 0.0], sample_weight=[3.0, 1.0])
        1.75
        """
        if mask is out is None and normalizer is None and not _checking.enabled():
            value: V | None = self._short_way(input, target, False, None, sample_weight)
            if value is not None:
                return value
        weights = (sample_weight, mask, normalizer)
        call = Call(self._options, input, target, *weights, out=out, with_grad=False)
        return cast(V, self._evaluate(call)[0])

    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
        grad_out: Array | None = None,
    ) -> tuple[V, Array]:
        """Return the value and its derivative with respect to `input`, from one pass.

        Parameters
        ----------
        input : array_like
            Array of the shape and meaning that the class describes.
        target : array_like
            Array as the class describes.
        %(samples)s
        %(grad_output)s
        %(out)s
        %(grad_out)s

        Returns
        -------
        %(value_and_grad)s

        Raises
        ------
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> fastloss.MSELoss().value_and_grad([1.0, 2.0], [0.0, 0.0])
        (2.5, array([1., 2.]))
        """
        plain = mask is grad_output is out is None and normalizer is None
        if plain and not _checking.enabled():
            both: tuple[V, Array] | None = self._short_way(input, target, True, grad_out, sample_weight)
            if both is not None:
                return both
        weights = (sample_weight, mask, normalizer, grad_output)
        call = Call(self._options, input, target, *weights, out, grad_out, with_grad=True)
        value, grad, _ = self._evaluate(call)
        assert grad is not None
        return cast(V, value), grad

    def value_grad_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        hessian: Literal["exact", "bound", "friedman", "residual"] | float = "exact",
        floor: float = 0.0,
        out: Array | None = None,
        grad_out: Array | None = None,
        hess_out: Array | None = None,
    ) -> tuple[V, Array, Array]:
        """Return the value, its derivative by `input`, and the diagonal of its Hessian, from one pass.

        Parameters
        ----------
        input : array_like
            Array of the shape and meaning that the class describes.
        target : array_like
            Array as the class describes.
        %(samples)s
        %(grad_output)s It multiplies the second derivatives as well, and must not be negative.
        %(hessian)s
        %(out)s
        %(grad_out)s
        %(hess_out)s

        Returns
        -------
        %(value_and_grad)s
        hess : ndarray
            The second derivative by each entry of `input`; shape and dtype of the gradient.

        Raises
        ------
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.CrossEntropyLoss(reduction="sum")
        >>> value, grad, hess = loss.value_grad_hess([[0.0, 0.0]], [0])
        >>> grad, hess
        (array([[-0.5,  0.5]]), array([[0.25, 0.25]]))
        """
        plain = mask is grad_output is out is None and normalizer is None
        usual = type(hessian) is str and type(floor) is float and floor < math.inf
        if plain and usual and hessian in self._factors_of_rules and not _checking.enabled():
            kernel_rule = (hessian == "bound", self._factors_of_rules[hessian], floor)
            three: tuple[V, Array, Array] | None = self._short_way(
                input, target, True, grad_out, sample_weight, kernel_rule, hess_out
            )
            if three is not None:
                return three
        weights = (sample_weight, mask, normalizer, grad_output)
        rule = {"hessian": checked_rule(hessian), "floor": floor, "hess_out": hess_out}
        call = Call(self._options, input, target, *weights, out, grad_out, with_grad=True, **rule)
        value, grad, hess = self._evaluate(call)
        assert grad is not None
        assert hess is not None
        return cast(V, value), grad, hess

    def hessp(
        self,
        input: ArrayLike,
        target: ArrayLike,
        vector: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        normalizer: float | None = None,
        grad_output: ArrayLike | None = None,
        out: Array | None = None,
    ) -> Array:
        """Return the Hessian times a vector, for Newton-CG and methods of trust regions.

        The Hessian is that of the value with respect to `input`, which has a block for each sample.

        Parameters
        ----------
        input : array_like
            Array of the shape and meaning that the class describes.
        target : array_like
            Array as the class describes.
        vector : array_like of input's shape
            What the Hessian is multiplied by.
        %(samples)s
        %(grad_output)s It multiplies the second derivatives as well, and must not be negative.
        out : ndarray, optional
            Array of input's shape and dtype to fill, apart from all others.

        Returns
        -------
        ndarray
            The product; shape of `input`, and its dtype if that is a float.

        Raises
        ------
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.CrossEntropyLoss(reduction="sum")
        >>> loss.hessp([[0.0, 0.0]], [0], [[1.0, 0.0]])
        array([[ 0.25, -0.25]])
        """
        weights = (sample_weight, mask, normalizer, grad_output)
        call = Call(self._options, input, target, *weights, with_grad=True, hessian="exact", vector=vector)
        return self._times(call, out)

    def _times(self, call: Call, out: Array | None) -> Array:
        """The Hessian of a call times its vector."""
        vector = call.more.pop("vector")
        if vector.shape != call.x.shape:
            raise ValueError(f"vector: got shape {vector.shape}, wanted {call.x.shape} as input")
        product = self._run_hessp(call, real_operand(vector, "vector", call.dtype), out)
        if _checking.enabled():
            _checking.check_hessp(self._function, call, vector, product)
        return product

    def _slow_hessp(self, call: Call, vector: Array) -> Array:
        """The same in float64, step by step."""
        x, target, options = _checking.as_computed(call)
        return np.asarray(reference.hessp(self._function, x, target, vector, **options))

    def _run_hessp(self, call: Call, vector: Array, out: Array | None) -> Array:
        raise AssertionError  # each family has its own

    def _evaluate(self, call: Call) -> Result:
        if not _checking.enabled():
            return self._run(call)
        try:  # before the call, whose gradient may overwrite the input
            expected = _checking.expected_loss(self._function, call)
        except Exception:
            self._run(call)  # raises the error that names the argument
            raise
        result = self._run(call)
        _checking.compare_loss(self._function, expected, result)
        return result

    def _weighted(self, **weights: ArrayLike | None) -> Loss[V]:
        """The same loss with weights, which are not copied: for one call."""
        options = {k: v if _is_usual(v) else weight_option(read_only(v, k), k) for k, v in weights.items()}
        loss = object.__new__(type(self))
        loss.__dict__.update(vars(self), **options, _options={**self._options, **options})
        loss.__dict__["_plain"] = loss._plain_op()
        return loss

    def _plain_op(self) -> Any:
        """What `_short_way` tells its kernel, or None if the options need the general way."""
        return None

    def _short_way(
        self,
        input: Any,
        target: Any,
        with_grad: bool,
        grad_out: Any,
        sample_weight: Any = None,
        rule: tuple[bool, float, float] | None = None,
        hess_out: Any = None,
    ) -> Any:
        """Value, or that and derivatives, of a plain call, in one step; None where that will not do.

        With a `rule` as the kernel takes it, also the Hessian's diagonal.
        """
        return None

    def _run(self, call: Call) -> Result:
        raise AssertionError  # each family has its own

    def _of_nothing(self) -> float:
        """The mean of no samples, or of samples without weight."""
        return 0.0 if self.empty == "zero" else math.nan


def _unpickled(kind: type[Options], options: dict[str, Any]) -> Options:
    return kind(**options)


def _made(kind: Any, *options: Any) -> Any:
    """A loss without weights, of its options in the order of its signature."""
    names = [name for name in inspect.signature(kind).parameters if name not in ("weight", "pos_weight")]
    return kind(**dict(zip(names, options, strict=True)))


_cached = lru_cache(typed=True)(_made)


def kept(kind: type[Loss[Any]], *options: Any, **weights: ArrayLike | None) -> Any:
    """The loss of a function: one for all calls with the same options, and the weights put onto it."""
    try:
        loss: Any = _cached(kind, *options)  # type: ignore[arg-type]  # a class is a key
    except TypeError:  # no key, such as a list of labels; or an error, which comes again
        loss = _made(kind, *options)
    return loss if all(value is None for value in weights.values()) else loss._weighted(**weights)


def _is_usual(weight: Any) -> bool:
    """Whether there is no weight, or one that needs no check."""
    return weight is None or (type(weight) is np.ndarray and weight.dtype in (FLOAT32, FLOAT64))


def weight_option(value: ArrayLike | None, name: str) -> Array | None:
    """A weight option: checked once, kept from change, converted to the input's dtype when it is used."""
    if value is None:
        return None
    array = as_array(value, name)
    compute_dtype(array, name)
    return unchanging(widened(array))


def first_wrong(wrong: Array, mask: Array | None, array: Array, name: str) -> str:
    """Name the first element of an array that is wrong and counts, and what it is."""
    wrong = wrong if mask is None else wrong & mask
    where = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    place = f"{name}[{', '.join(map(str, where))}]" if where else name
    return f"{place} = {array[where]}"


def is_moderate(divisor: float) -> bool:
    """Whether it and its reciprocal are normal numbers, with room for what they are multiplied by."""
    return 2.0**-1000 <= abs(divisor) <= 2.0**1000


def rescaled(
    weights: Array | None, shape: Shape, dtype: np.dtype[Any], class_weight: Array | None = None
) -> Array:
    """Sample weights that give the same mean: the largest, times the largest class weight, about 2^900.

    Products of float32 leave float64 in no case, so that there are none but zeros.
    """
    weights = np.ones(shape, dtype) if weights is None else weights
    if dtype == FLOAT32:
        return weights
    size = _exponent(weights)
    step = 900 - size - (0 if class_weight is None else _exponent(class_weight))
    with np.errstate(all="ignore"):
        return native(np.ldexp(weights, min(step, 1000 - size)), dtype)


def _exponent(array: Array) -> int:
    """2 to this power is about the largest finite number."""
    with np.errstate(all="ignore"):
        magnitude = np.abs(array, where=np.isfinite(array), out=np.zeros(array.shape, array.dtype))
        return int(np.frexp(magnitude.max(initial=0.0))[1])


def sum_of(array: Array) -> float:
    """Sum in float64, correct to the last digit."""
    total = _kernels.module.point_pass(_kernels.POINT_OPS["identity"], array, None, threads_for(array.size))
    return float(total)


def sum_of_weights(shape: Shape, weights: Array | None, mask: Array | None) -> float:
    """Sum of the weights, or the number, of the samples that count; what is broadcast is added up once."""
    shown = [
        array[tuple(slice(None) if step else slice(0, 1) for step in array.strides)]
        for array in (mask, weights)
        if array is not None
    ]
    size = math.prod(shape)
    if not shown or not size:
        return float(size)
    if weights is None:
        return int(np.count_nonzero(shown[0])) * (size / shown[0].size)
    once = shown[0] if mask is None else np.where(shown[0], shown[1], weights.dtype.type(0))
    return sum_of(native(once, weights.dtype)) * (size / once.size)
