"""What all losses share: options that do not change, and the way of a call.

a) A loss says which kernel it runs with which arguments; the formulas are in `_kernels`, and once more, in
   NumPy, in `reference`.
b) A call of arrays that the kernels can read takes the short way, one step in `_kernels/plain.pxi`; every
   other call, and every wrong one, takes the general way, `Loss._run` of its family.
c) The kernels receive one factor for the gradient, grad_output / divisor: value and gradient of a mean come
   out of the same pass.
"""

from __future__ import annotations

import inspect
import math
import sys
from functools import lru_cache
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from .. import _checking, _kernels, reference
from .._arguments import (
    FLOAT32,
    FLOAT64,
    Array,
    Output,
    Shape,
    as_array,
    choice,
    compute_dtype,
    convert,
    memory_order,
    native,
    real_operand,
    unchanging,
    widened,
)
from .._call import Call, checked_rule
from .._errors import place, shortened, shortening
from .._runtime import threads_for
from ..totals import COUNTS, Exact, Total

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

    def __copy__(self) -> Self:
        return self  # it does not change

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        with np.printoptions(threshold=sys.maxsize, floatmode="unique"):  # all of the weights
            shown = ", ".join(f"{k}={v!r}" for k, v in self._options.items() if v is not None)
        return f"{type(self).__name__}({shown})"


class Loss(Options, Generic[V]):
    """What every loss has: options, a value, and a value with its gradient."""

    _function: ClassVar[str]
    _reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")
    _factors_of_rules: ClassVar[dict[Any, float]] = {"exact": 1.0, "bound": 1.0}  # of the short way

    _averaged: ClassVar[int] = 0  # last axes that a sample's value is the mean over

    reduction: str
    empty: str
    weight: Array | None = None
    pos_weight: Array | None = None
    _plain: tuple[Any, ...] | None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = shortening(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, *, reduction: str, empty: str, **options: Any) -> None:
        choice(reduction, "reduction", self._reductions)
        choice(empty, "empty", ("nan", "zero"))
        self.__dict__.update(options, reduction=reduction, empty=empty)
        self.__dict__["_options"] = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        self.__dict__["_plain"] = self._plain_op()

    @property
    def _beside_target(self) -> str | None:
        """What it needs beside input and target, if anything."""
        return None

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
        own = self.weight, self.pos_weight
        value: V = self._evaluated(
            input, target, own, sample_weight, mask, normalizer, None, out, None, False
        )
        return value

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
        own = self.weight, self.pos_weight
        both: tuple[V, Array] = self._evaluated(
            input, target, own, sample_weight, mask, normalizer, grad_output, out, grad_out, True
        )
        return both

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
        own = self.weight, self.pos_weight
        second = hessian, floor, hess_out
        three: tuple[V, Array, Array] = self._evaluated(
            input, target, own, sample_weight, mask, normalizer, grad_output, out, grad_out, True, second
        )
        return three

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
        return self._times(out, input, target, *weights, vector=vector)

    def total(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Total:
        """Return sum, weight and count over the samples, which add up without rounding.

        Parameters
        ----------
        input : array_like
            Array of the shape and meaning that the class describes.
        target : array_like
            Array as the class describes.
        %(counted)s

        Returns
        -------
        %(total)s

        Raises
        ------
        %(raises)s

        Examples
        --------
        >>> import fastloss
        >>> loss = fastloss.MSELoss()
        >>> total = loss.total([1.0, 2.0], [0.0, 0.0]) + loss.total([4.0], [0.0])
        >>> total.mean, total.sum, total.count
        (7.0, 21.0, 3)
        """
        return self._total(input, target, sample_weight, mask)

    @shortening
    def _total(
        self,
        input: Any,
        target: Any,
        /,
        sample_weight: Any = None,
        mask: Any = None,
        grad_output: Any = None,
        grad_out: Any = None,
        **more: Any,
    ) -> Total:
        """The total, and the gradient of the sum where there is an array for it."""
        adds_samples = not self._averaged  # the kernel's sum is that of the samples' values
        loss = self._changed(reduction="sum" if adds_samples else "none")
        weights = (sample_weight, mask, None, grad_output)
        with_grad = grad_out is not None
        call = loss._sample_call(input, target, *weights, None, grad_out, with_grad=with_grad, **more)
        order = memory_order(call.x)
        if hasattr(self, "axis") and order != tuple(range(call.x.ndim)):
            spread = all(step or n == 1 for step, n in zip(call.x.strides, call.x.shape, strict=True))
            if order[0] != 0 or not spread:  # else blocks of samples, or one of them, would have other bits
                order = (0, *(a for a in order if a != 0))
                call.x = np.ascontiguousarray(call.x.transpose(order)).transpose(np.argsort(order))
        call.value_dtype = FLOAT64  # of means, which are not rounded before they are added up
        if adds_samples:
            call.exact = np.zeros(COUNTS, np.int64)
        values = np.asarray(loss._evaluate(call)[0])
        numerator = Exact.of(values) if call.exact is None else Exact.of_state(call.exact)
        return Total._of(numerator, *self._weighed(call.kernel, call.samples))

    def _sample_call(self, *arguments: Any, **more: Any) -> Call:
        return Call(self._options, *arguments, **more)

    @np.errstate(all="ignore")
    def _weighed(self, kernel: dict[str, Any], shape: Shape) -> tuple[Exact, int]:
        """What a mean is divided by, and how many samples count, for arguments of a kernel."""
        counts = counted(kernel, shape)
        count = int(np.count_nonzero(counts))
        sample_weight, class_weight = kernel["sample_weight"], kernel.get("class_weight")
        if self.reduction == "batchmean":
            return Exact.of_count(shape[0] if shape else 1), count
        if sample_weight is None and class_weight is None:
            return Exact.of_count(count), count
        weights: Any = 1.0 if sample_weight is None else sample_weight.astype(np.float64)
        if class_weight is not None:
            weights = weights * class_weight.astype(np.float64)[np.where(counts, kernel["labels"], 0)]
        return Exact.of(np.where(counts, weights, 0.0)), count

    def _weight_of(
        self, input: Array, target: Any, /, sample_weight: Any = None, mask: Any = None, **more: Any
    ) -> Exact:
        """What a mean is divided by, whatever the numbers of `input` are."""
        raise AssertionError  # each family has its own

    @shortening
    def _times(self, out: Array | None, *arguments: Any, **more: Any) -> Array:
        """The Hessian of a call times its vector."""
        call = self._sample_call(*arguments, with_grad=True, hessian="exact", **more)
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

    def _evaluated(
        self,
        input: Any,
        target: Any,
        own: tuple[Any, Any],
        sample_weight: Any,
        mask: Any,
        normalizer: Any,
        grad_output: Any,
        out: Any,
        grad_out: Any,
        with_grad: bool,
        second: tuple[Any, Any, Any] | None = None,
    ) -> Any:
        """The value, or it and derivatives: by the short way if that will do.

        `own` is the weight, and pos_weight or what the call takes in its place. By position, which is faster.
        `second` is for the diagonal of the Hessian: which, what it is at least, and the array for it.
        """
        if not _checking.enabled():
            rule, hess_out = (None, None) if second is None else (self._rule(*second[:2]), second[2])
            if rule is not None or second is None:
                result = _kernels.module.plain_loss(
                    self._plain,
                    input,
                    target,
                    own[0],
                    own[1],
                    sample_weight,
                    mask,
                    normalizer,
                    grad_output,
                    out,
                    grad_out,
                    with_grad,
                    rule,
                    hess_out,
                    threads_for,
                )
                if result is not None:
                    return result
        try:
            loss, more = self._with(*own)
            if second is not None:
                more |= {"hessian": checked_rule(second[0]), "floor": second[1], "hess_out": second[2]}
            weights = (sample_weight, mask, normalizer, grad_output)
            call = loss._sample_call(input, target, *weights, out, grad_out, with_grad=with_grad, **more)
            result = tuple(part for part in loss._evaluate(call) if part is not None)
            return result if with_grad else result[0]
        except Exception as error:
            raise shortened(error) from None

    def _rule(self, hessian: Any, floor: Any) -> tuple[bool, float, float] | None:
        """The diagonal of the Hessian as the short way takes it, or None."""
        if type(hessian) is not str or hessian not in self._factors_of_rules:
            return None
        if type(floor) is not float or not floor < math.inf:
            return None
        return hessian == "bound", self._factors_of_rules[hessian], floor

    def _with(self, weight: Any, extra: Any) -> tuple[Loss[V], dict[str, Any]]:
        """The loss with these weights, which are not copied, and what else a call takes."""
        if weight is self.weight and extra is self.pos_weight:
            return self, {}
        weights = {k: v for k, v in (("weight", weight), ("pos_weight", extra)) if k in self._options}
        checked = {k: v if _is_usual(v) else weight_array(v, k) for k, v in weights.items()}
        return self._changed(**checked), {}

    def _evaluate(self, call: Call) -> Result:
        if not _checking.enabled():
            return self._run_in_place(call)
        try:  # before the call, whose gradient may overwrite the input
            expected = _checking.expected_loss(self._function, call)
        except Exception:
            try:
                self._run(call)
            except Exception as error:  # that names the argument
                raise error from None
            raise
        result = self._run_in_place(call)
        _checking.compare_loss(self._function, expected, result)
        return result

    def _run_in_place(self, call: Call) -> Result:
        """`_run`, on arrays whose axes have the order that input's have in memory."""
        turned = call.in_memory_order(self._class_axis_of(call))
        if turned is None:
            return self._run(call)
        try:
            value, grad, hess = self._run(turned)
            call.kernel, call.samples = turned.kernel, turned.samples
        except (IndexError, TypeError, ValueError):  # which would name a position in that order
            return self._run(call)
        return (
            turned.turned_back(value, call.out),
            turned.turned_back(grad, call.grad_out),
            turned.turned_back(hess, call.hess_out),
        )

    def _class_axis_of(self, call: Call) -> int | None:
        """Where input has the classes, if there are any."""
        return None

    def _changed(self, **options: Any) -> Loss[V]:
        """The same loss with other options, which have been checked."""
        loss = object.__new__(type(self))
        loss.__dict__.update(vars(self), **options, _options={**self._options, **options})
        loss.__dict__["_plain"] = loss._plain_op()
        return loss

    def _plain_op(self) -> tuple[Any, ...] | None:
        """What the short way is told: the family, and all options but arrays; None where it will not do."""
        raise AssertionError  # each family has its own

    def _run(self, call: Call) -> Result:
        raise AssertionError  # each family has its own

    def _finished(self, outputs: tuple[Output | None, ...], total: Any, divisor: float) -> Result:
        """The results: the arrays that were filled, and where none is the value's, the number that it is."""
        value, grad, hess = outputs
        number = total if divisor else self._of_nothing()
        return (
            value.finish() if value else number,
            grad.finish() if grad else None,
            hess.finish() if hess else None,
        )

    def _of_nothing(self) -> float:
        """The mean of no samples, or of samples without weight."""
        return 0.0 if self.empty == "zero" else math.nan


def _unpickled(kind: type[Options], options: dict[str, Any]) -> Options:
    """As it was made: a class that is derived from one of the library's may take other arguments."""
    package = __name__.partition(".")[0]
    own: Any = next(base for base in kind.__mro__ if base.__module__.partition(".")[0] == package)
    made = object.__new__(kind)
    made.__dict__.update(vars(own(**options)))
    return made


@lru_cache
def _names(kind: type[Loss[Any]]) -> list[str]:
    """The options other than arrays, in the order of the signature."""
    return [name for name in inspect.signature(kind).parameters if name not in ("weight", "pos_weight")]


def _made(kind: Any, *options: Any) -> Any:
    """A loss without weights, of its options in the order of its signature."""
    return kind(**dict(zip(_names(kind), options, strict=True)))


@lru_cache(typed=True)
def _cached(kind: Any, *options: Any) -> Any:
    for option in options:  # other objects, such as a tensor, may be keys and change
        if not isinstance(option, str | int | float | np.generic | _Labels | None):
            raise TypeError
    return _made(kind, *options)


def kept(kind: Any, *options: Any) -> Any:
    """The loss of a function without its weights: one for all calls with the same options."""
    try:
        try:
            return _cached(kind, *options)
        except TypeError:  # nothing to keep, such as an array; or an error, which comes again
            return _made(kind, *options)
    except Exception as error:
        raise shortened(error) from None


class _Labels(tuple[Any, ...]):
    """Labels as a key: (1,) and (True,), which is refused, are equal, and these are not."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__


@lru_cache(typed=True)
def _labels(*labels: Any) -> _Labels:
    return _Labels(labels)


def labels_key(value: Any) -> Any:
    """`ignore_index` as `kept` can know it."""
    if type(value) is list or type(value) is tuple:
        try:
            return _labels(*value)
        except TypeError:  # what is refused
            pass
    return value


def _is_usual(weight: Any) -> bool:
    """Whether there is no weight, or one that needs no check."""
    return weight is None or (
        type(weight) is np.ndarray and weight.dtype.isnative and weight.dtype.char in "fd"
    )


def weight_option(value: ArrayLike | None, name: str) -> Array | None:
    """A weight option: checked once, kept from change, converted to the input's dtype when it is used.

    In the machine's byte order, which is what pickle makes of any.
    """
    if value is None:
        return None
    array = weight_array(value, name)
    return unchanging(convert(array, array.dtype.newbyteorder("=")))


def weight_array(value: ArrayLike, name: str) -> Array:
    """The same of a weight that is there, for one call: where it stands."""
    array = as_array(value, name)
    compute_dtype(array, name)
    return widened(array)


def counted(kernel: dict[str, Any], shape: Shape) -> Array:
    """Which samples count, for arguments of a kernel."""
    mask, labels = kernel["mask"], kernel.get("labels")
    counts = np.ones(shape, np.bool_) if mask is None else np.broadcast_to(mask, shape)
    return counts if labels is None else counts & (labels.reshape(shape) != kernel["ignore_index"])


def first_wrong(wrong: Array, mask: Array | None, array: Array, name: str) -> str:
    """Name the first element of an array that is wrong and counts, and what it is."""
    wrong = wrong if mask is None else wrong & mask
    where = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"{place(name, where)} = {array[where]}"


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
    size = exponent(weights)
    step = 900 - size - (0 if class_weight is None else exponent(class_weight))
    with np.errstate(all="ignore"):
        return native(np.ldexp(weights, min(step, 1000 - size)), dtype)


def exponent(array: Array) -> int:
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
