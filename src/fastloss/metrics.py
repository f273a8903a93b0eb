"""Metrics of classifiers: scikit-learn's, with its arguments, values, warnings and errors; and two more.

a) Samples go through in blocks that the caches hold, on several threads, and nothing of the input's size is
   made. Sums are of float64, those of the blocks added in order: the same bits for any number of threads.
b) Probabilities are read twice: whether they are such, and what each label's is. From logits the kernels give
   the losses, and p - onehot with all its digits.
c) Labels that are numbers become columns by a table over their range, all others by bisection.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from . import _remedies
from ._arguments import FLOAT32, FLOAT64, Array, as_array, compute_dtype, convert, positive, widened
from ._errors import renamed, shortening
from .arrays import sigmoid, softmax
from .calibration import FEW_CLASSES, of_blocks
from .losses import BCEWithLogitsLoss, CrossEntropyLoss, MultinomialNLLLoss

__all__ = [
    "brier_score_loss",
    "d2_log_loss_score",
    "expected_calibration_error",
    "log_loss",
    "perplexity",
]

Result = TypeVar("Result")

BLOCK = 2**17  # elements of a block
LEAST_TABLE = 2**16  # the range of labels may be that or as large as their number

_CLASSES: CrossEntropyLoss[Array] = CrossEntropyLoss(reduction="none", axis=1, unchecked=True)
_COUNTS: MultinomialNLLLoss[Array] = MultinomialNLLLoss(reduction="none", axis=1, unchecked=True)
_POSITIVE: BCEWithLogitsLoss[Array] = BCEWithLogitsLoss(reduction="none", unchecked=True)


@shortening
def log_loss(
    y_true: ArrayLike,
    y_proba: ArrayLike | None = None,
    *,
    normalize: bool = True,
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    y_pred: Any = "deprecated",
    from_logits: bool = False,
) -> float:
    """Mean of -log p_t of the labels t: scikit-learn's log_loss.

    Probabilities are clipped to [eps, 1 - eps] with the eps of their dtype; from logits nothing is.

    Parameters
    ----------
    %(metrics)s
    normalize : bool, default: True
        The mean over the samples; False is the sum.
    %(metrics.sample_weight)s
    %(metrics.labels)s
    %(metrics.y_pred)s
    %(metrics.from_logits)s

    Returns
    -------
    float
        The loss, in nats.

    Raises
    ------
    %(raises_of_metrics)s

    See Also
    --------
    d2_log_loss_score : How much of it a model explains.
    CrossEntropyLoss : The same of logits and class indices, with its gradient.

    References
    ----------
    `sklearn.metrics.log_loss`.

    Examples
    --------
    >>> from fastloss.metrics import log_loss
    >>> labels = ["spam", "ham", "ham", "spam"]
    >>> round(log_loss(labels, [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]]), 5)
    0.21616
    >>> round(log_loss([0, 1], [[40.0, 0.0], [0.0, 0.0]], from_logits=True), 5)
    0.34657
    """
    y_proba = _renamed("log_loss", y_proba, y_pred)
    given = {"y_true": y_true, "sample_weight": sample_weight, "labels": labels, "y_proba": y_proba}
    _check_types("log_loss", normalize=normalize, from_logits=from_logits, **given)
    samples = _Samples(y_proba, from_logits)
    samples.set_classes(y_true, sample_weight, labels)
    return samples.total(samples.log_losses) / (samples.weights() if normalize else 1.0)


@shortening
def brier_score_loss(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    pos_label: Any = None,
    labels: ArrayLike | None = None,
    scale_by_half: bool | str = "auto",
    from_logits: bool = False,
) -> float:
    """Mean of Σ_j ([j = t] - p_j)² of the labels t: scikit-learn's Brier score.

    Parameters
    ----------
    %(metrics)s
    %(metrics.sample_weight)s
    pos_label : int, float, bool or str, optional
        Where there is one column, the label that it is of. None is 1 where the labels are of 0 and 1, or of
        -1 and 1, and the greater one of other numbers; strings need it.
    %(metrics.labels)s
    scale_by_half : bool or "auto", default: "auto"
        Whether to halve it, from [0, 2] to [0, 1]; "auto" does so for two classes.
    %(metrics.from_logits)s

    Returns
    -------
    float
        The score, a number without unit.

    Raises
    ------
    %(raises_of_metrics)s

    See Also
    --------
    log_loss : The other proper score.

    References
    ----------
    Brier, "Verification of forecasts expressed in terms of probability" (1950);
    `sklearn.metrics.brier_score_loss`.

    Examples
    --------
    >>> from fastloss.metrics import brier_score_loss
    >>> round(brier_score_loss([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3]), 6)
    0.0375
    >>> brier_score_loss(["ham", "spam"], [0.0, 0.5], pos_label="spam")
    0.125
    """
    given = {"y_true": y_true, "sample_weight": sample_weight, "labels": labels, "y_proba": y_proba}
    options = {"pos_label": pos_label, "scale_by_half": scale_by_half, "from_logits": from_logits}
    _check_types("brier_score_loss", **given, **options)
    samples = _Samples(y_proba, from_logits)
    if samples.flat:
        samples.set_positive(y_true, sample_weight, pos_label)
    else:
        samples.set_classes(y_true, sample_weight, labels)
    score = samples.total(samples.squares) / samples.weights()
    halved = samples.classes < 3 if isinstance(scale_by_half, str) else scale_by_half
    return 0.5 * score if halved else score


@shortening
def d2_log_loss_score(
    y_true: ArrayLike,
    y_proba: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    y_pred: Any = "deprecated",
    from_logits: bool = False,
) -> float:
    """1 - log_loss / log_loss of the classes' frequencies: scikit-learn's D² score.

    Parameters
    ----------
    %(metrics)s
    %(metrics.sample_weight)s
    %(metrics.labels)s
    %(metrics.y_pred)s
    %(metrics.from_logits)s

    Returns
    -------
    float
        The score, at most 1, a number without unit; NaN with a warning for fewer than two samples.

    Raises
    ------
    %(raises_of_metrics)s

    See Also
    --------
    log_loss : What is compared.

    References
    ----------
    `sklearn.metrics.d2_log_loss_score`.

    Examples
    --------
    >>> from fastloss.metrics import d2_log_loss_score
    >>> d2_log_loss_score([0, 1, 1, 1], [0.75, 0.75, 0.75, 0.75])
    0.0
    >>> round(d2_log_loss_score([0, 1], [0.1, 0.9]), 3)
    0.848
    """
    y_proba = _renamed("d2_log_loss_score", y_proba, y_pred)
    given = {"y_true": y_true, "sample_weight": sample_weight, "labels": labels, "y_proba": y_proba}
    _check_types("d2_log_loss_score", from_logits=from_logits, **given)
    _check_lengths(y_proba, y_true, sample_weight)
    if _length(y_proba) < 2:
        kind = _theirs("sklearn.exceptions", "UndefinedMetricWarning", UserWarning)
        warnings.warn("D^2 score is not well-defined with less than two samples.", kind, stacklevel=3)
        return math.nan
    samples = _Samples(y_proba, from_logits)
    samples.set_classes(y_true, sample_weight, labels)
    null = samples.total_of_null(samples.frequencies())
    if null == 0:
        raise ZeroDivisionError("y_true: no sample has a label, so that there is no loss to compare with")
    return 1 - samples.total(samples.log_losses) / null


@shortening
def expected_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 15,
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    from_logits: bool = False,
) -> float:
    """Mean distance between confidence and accuracy: Σ_b |Σ_{i in b} w_i ([i is right] - c_i)| / Σ_i w_i.

    c_i is the largest probability of sample i, which is right if it is its label's; bin b of B holds the
    samples with c_i in [b / B, (b + 1) / B), the last one also 1.

    Parameters
    ----------
    %(metrics)s
    n_bins : int, default: 15
        How many bins of equal width there are in [0, 1].
    %(metrics.sample_weight)s
    %(metrics.labels)s
    %(metrics.from_logits)s

    Returns
    -------
    float
        The error, in [0, 1] unless a weight is negative.

    Raises
    ------
    %(raises_of_metrics)s

    See Also
    --------
    fastloss.temperature : What makes it small.

    References
    ----------
    Guo et al., "On calibration of modern neural networks" (2017), section 2.

    Examples
    --------
    >>> from fastloss.metrics import expected_calibration_error
    >>> round(expected_calibration_error([0, 1, 1, 1], [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]]), 6)
    0.3
    """
    given = {"y_true": y_true, "sample_weight": sample_weight, "labels": labels, "y_proba": y_proba}
    _check_types("expected_calibration_error", **given, from_logits=from_logits)
    bins = positive(n_bins, "n_bins", "a positive integer")
    samples = _Samples(y_proba, from_logits)
    samples.set_classes(y_true, sample_weight, labels)
    if samples.labels.indicators:
        raise ValueError("y_true: got a matrix of indicators, wanted one label for each sample")
    gaps = np.sum(samples.blocks(lambda i: samples.gaps(i, bins)), 0)
    return float(np.abs(gaps).sum()) / samples.weights()


@shortening
def perplexity(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    ignore_index: int | Sequence[int] = -100,
    axis: int | None = None,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> float:
    """Perplexity of logits: exp(cross_entropy(logits, target)), with the mean over the tokens that count.

    Parameters
    ----------
    logits : array_like of shape (N, C) or (..., C, ...)
        Logits with C classes on `axis`; float64, float32, float16, bfloat16, integer or bool.
    target : array_like of int, of shape (N,) or logits' without `axis`
        %(indices)s.
    %(ignore_index)s
    axis : int, optional
        The class axis of the logits; None is 1, or 0 for one dimension.
    sample_weight : array_like, optional
        Factor of each token's cross-entropy, broadcastable to the target.
    mask : array_like of bool, optional
        Broadcastable to the target; a token counts nowhere where it is False.

    Returns
    -------
    float
        The perplexity, at least 1: as if one of so many equal choices had been right. NaN of no tokens.

    Raises
    ------
    %(raises_of_labels)s

    See Also
    --------
    cross_entropy : Its logarithm, in nats.

    References
    ----------
    Jelinek et al., "Perplexity: a measure of the difficulty of speech recognition tasks" (1977).

    Examples
    --------
    >>> from fastloss.metrics import perplexity
    >>> round(perplexity([[0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]], [2, -100]), 6)
    4.0
    """
    loss: CrossEntropyLoss[float] = CrossEntropyLoss(ignore_index=ignore_index, axis=axis)
    with renamed(input="logits"), np.errstate(over="ignore"):
        return float(np.exp(loss(logits, target, sample_weight=sample_weight, mask=mask)))


# ------------------------------------------------------------------------------ scikit-learn's sentences


def _theirs(module: str, name: str, own: type) -> Any:
    """A class of scikit-learn, if that has been imported, for who expects it."""
    return getattr(sys.modules.get(module), name, own)


class _InvalidParameterError(ValueError, TypeError):
    """An argument of a wrong type."""


def _has_shape(value: Any) -> bool:
    """Whether it is an array, or becomes one; lists are not made arrays to know their length."""
    return hasattr(value, "shape") or (hasattr(value, "__array__") and not hasattr(value, "__len__"))


def _is_array_like(value: Any) -> bool:
    if np.isscalar(value) or hasattr(value, "toarray"):  # a number, a string; a sparse matrix
        return False
    return np.ndim(value) > 0 if _has_shape(value) else hasattr(value, "__len__")


def _is_label(value: Any) -> bool:
    return value is None or isinstance(value, Real | str | bool | np.bool_)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "y_true": (_is_array_like, "an array-like"),
    "y_proba": (_is_array_like, "an array-like"),
    "y_pred": (lambda p: isinstance(p, str) or _is_array_like(p), "an array-like"),
    "sample_weight": (lambda w: w is None or _is_array_like(w), "an array-like or None"),
    "labels": (lambda y: y is None or _is_array_like(y), "an array-like or None"),
    "normalize": (_is_flag, "True or False"),
    "from_logits": (_is_flag, "True or False"),
    "pos_label": (_is_label, "a number, a string, a bool or None"),
    "scale_by_half": (lambda half: _is_flag(half) or half == "auto", "True, False or 'auto'"),
}


def _check_types(function: str, **given: Any) -> None:
    for name, value in given.items():
        fits, wanted = _TYPES[name]
        if not fits(value):
            kind = _theirs("sklearn.utils._param_validation", "InvalidParameterError", _InvalidParameterError)
            raise kind(f"The {name!r} parameter of {function} must be {wanted}. Got {value!r} instead.")


def _renamed(function: str, y_proba: Any, y_pred: Any) -> Any:
    """`y_proba`, or `y_pred`, its name before scikit-learn 1.9."""
    _check_types(function, y_pred=y_pred)
    if isinstance(y_pred, str) and y_pred == "deprecated":
        return y_proba
    if y_proba is not None:
        raise ValueError(
            "Cannot use both `y_pred` and `y_proba`. `y_pred` is deprecated, use `y_proba` instead."
        )
    warnings.warn(
        "`y_pred` was renamed to `y_proba` in version 1.9 and will be removed in 1.11. Use `y_proba` "
        "instead.",
        FutureWarning,
        stacklevel=4,
    )
    return y_pred


def _length(value: Any) -> int:
    return int(np.shape(value)[0]) if _has_shape(value) else len(value)


def _check_lengths(*values: Any) -> None:
    lengths = [_length(value) for value in values if value is not None]
    if len(set(lengths)) > 1:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: {lengths}")


def _array(value: Any, name: str) -> Array:
    """An array; of a masked one the data, as scikit-learn takes it."""
    return as_array(np.ma.getdata(value) if isinstance(value, np.ma.MaskedArray) else value, name)


def _numbers(value: Any, name: str) -> Array:
    """An array of real numbers, of one dimension or two, that is not empty."""
    array = _array(value, name)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{array}\n")
    if array.dtype.kind == "O" and (pandas := sys.modules.get("pandas")):
        array = np.where(pandas.isna(array), np.nan, array)  # its NA is no float
    if array.dtype.kind in "OUST" or array.dtype.char == "g":
        array = convert(array, FLOAT64)
    compute_dtype(array, name)
    if array.ndim == 0:
        raise TypeError(f"{name}: got a number, wanted one or two dimensions")
    if array.ndim > 2:
        raise ValueError(f"Found array with dim {array.ndim}, while dim <= 2 is required.")
    for n, what in zip(array.shape, ("sample", "feature"), strict=False):
        if n == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={array.shape}) while a minimum of 1 is required."
            )
    return array


def _check_finite(least: Any, most: Any, name: str, dtype: np.dtype[Any]) -> None:
    """Of the least and the greatest of some numbers, which are NaN if one of them is."""
    of = f"Input {name}".rstrip()
    if math.isnan(least):
        raise ValueError(f"{of} contains NaN.")
    if math.isinf(least) or math.isinf(most):
        raise ValueError(f"{of} contains infinity or a value too large for {dtype!r}.")


# -------------------------------------------------------------------------------------------- labels


def _of_categories(labels: Any) -> Any:
    """The labels that pandas or polars holds as categories."""
    return np.asarray(labels) if _remedies.for_categories(labels) else labels


class _Labels:
    """Labels of samples: which there are, and which column each is of; or rows of indicators."""

    def __init__(self, value: Any, name: str = "y_true") -> None:
        self.name = name
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            raise TypeError(f"{name}: got a masked array, wanted all labels; leave out what has none")
        y = widened(_array(_of_categories(value), name))
        y = y.astype(np.float32) if y.dtype.name == "bfloat16" else y
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.reshape(-1)
        self.y: Array = y
        self.indicators = y.ndim == 2
        first = y.flat[0] if y.size else None
        if isinstance(first, bytes):
            raise TypeError(
                "Support for labels represented as bytes is not supported. Convert the labels to a string or "
                "integer format."
            )
        kind = y.dtype.kind
        if first is None or y.ndim > 2 or kind in "cV" or (kind == "O" and not isinstance(first, str)):
            raise ValueError(f"Unknown label type: {value!r}")
        if kind == "U" and isinstance(value, list | tuple) and y.ndim == 1:
            self._check_mixed(value)
        self.table: Array | None = None
        self.least = 0
        if self.indicators:
            self._check_indicators()
            self.classes = np.arange(y.shape[1])
        else:
            self.classes = self._found()
            self.set_classes(self.classes)

    def _blocks(self) -> list[slice]:
        return [np.s_[i : i + BLOCK] for i in range(0, len(self.y), BLOCK)]

    def _whole(self, i: slice) -> Array:
        """Numbers of a block as integers."""
        y = self.y[i]
        if y.dtype.kind != "f":
            return y.astype(np.int64, copy=False)
        with np.errstate(all="ignore"):
            labels = y.astype(np.int64)
        if (labels != y).any():
            _check_finite(y.min(), y.max(), self.name, y.dtype)
            raise ValueError(f"Unknown label type: continuous; {self.name} has {y[labels != y][0]}")
        return labels

    @staticmethod
    def _check_mixed(labels: Any) -> None:
        other = [label for label in labels if not isinstance(label, str)]
        if other and len(other) < len(labels):
            raise ValueError(f"Mix of label input types (string and number); Got {other[0]!r} among strings.")

    def _check_indicators(self) -> None:
        whole = self.y.dtype.kind in "biuf"
        if whole:
            least, most = self.y.min(), self.y.max()
            for i in self._blocks():
                y = self.y[i]
                whole &= bool(((y == least) | (y == most)).all()) and bool((self._whole(i) == y).all())
        if not whole:
            raise ValueError("Multioutput target data is not supported with label binarization")

    def _found(self) -> Array:
        """The labels that there are, sorted; of numbers in a small range also the least, and a table."""
        if self.y.dtype.kind in "biuf" and self.y.dtype != np.uint64:
            ends = [(labels.min(), labels.max()) for labels in map(self._whole, self._blocks())]
            self.least = int(min(least for least, _ in ends))
            size = int(max(most for _, most in ends)) - self.least + 1
            if size <= max(LEAST_TABLE, len(self.y)):
                there = np.zeros(size, np.bool_)
                for i in self._blocks():
                    there[self._whole(i) - self.least] = True
                    if there.all():
                        break
                self.table = np.empty(size, np.intp)
                return (np.flatnonzero(there) + self.least).astype(self.y.dtype)
        try:
            return np.unique(self.y)
        except TypeError:  # objects without an order
            self._check_mixed(self.y)
            raise

    def set_classes(self, classes: Array) -> None:
        """What the columns are of, all that there are among them."""
        self.classes = classes
        if self.table is not None:
            place = classes.astype(np.int64) - self.least
            inside = (place >= 0) & (place < self.table.size)
            self.table[place[inside]] = np.flatnonzero(inside)

    def columns(self, i: slice) -> Array:
        """The column of each label of a block."""
        if self.table is None:
            return np.asarray(np.searchsorted(self.classes, self.y[i]))
        return np.asarray(self.table[self._whole(i) - self.least])


def _with_classes(y: _Labels, y_true: Any, labels: Any) -> None:
    """Set the classes that the caller has named."""
    named = _Labels(labels, "labels").classes
    if np.shape(labels) != named.shape:
        raise ValueError(f"labels: got {labels}, wanted each label once")
    if not np.all(named == np.asarray(labels)):
        warnings.warn(
            f"Labels passed were {labels}. But this function assumes labels are ordered lexicographically. "
            f"Pass the ordered labels={named.tolist()} and ensure that the columns of y_prob correspond to "
            "this ordering.",
            UserWarning,
            stacklevel=5,
        )
    if y.indicators:
        raise ValueError("The object was not fitted with multilabel input.")
    if not np.isin(y.classes, named).all():
        undeclared = set(y_true if np.ndim(y_true) == 1 else y.y.tolist()) - set(labels)
        raise ValueError(f"y_true contains values {undeclared} not belonging to the passed labels {labels}.")
    y.set_classes(named)


# ------------------------------------------------------------------------------------------- samples


class _Samples:
    """Labels, predictions and weights, checked in scikit-learn's order, and what a block of them gives."""

    labels: _Labels

    def __init__(self, y_proba: Any, from_logits: bool) -> None:
        p = _numbers(y_proba, "y_proba")
        self.flat = p.ndim == 1 or p.shape[1] == 1
        self.p: Array = p.reshape(-1) if self.flat else p
        self.classes = 2 if self.flat else p.shape[1]
        self.from_logits = from_logits
        kept = p.dtype in (FLOAT64, FLOAT32, np.float16)
        self.dtype = p.dtype if kept else FLOAT64
        self.eps = float(np.finfo(self.dtype).eps)
        self.weight: Array | None = None
        self.positive = 1  # the column that flat predictions are of
        if not from_logits:
            least, most, off = zip(*self.blocks(self._survey), strict=True)
            self.ends, self.off = (np.min(least), np.max(most)), any(off)
            _check_finite(*self.ends, "", self.dtype)

    def blocks(self, work: Callable[[slice], Result]) -> list[Result]:
        """What `work` gives of each block, in order."""
        columns = 1 if self.flat else self.classes
        return of_blocks(lambda i, _: work(i), (len(self.p), columns, 1), BLOCK)

    def _block(self, i: slice) -> Array:
        """A block of the predictions, as float64 or float32."""
        p = np.ascontiguousarray(widened(self.p[i]))
        return convert(p, FLOAT32 if self.dtype.itemsize < 8 else FLOAT64)

    def _survey(self, i: slice) -> tuple[float, float, bool]:
        """The least and the greatest probability, and whether a sample's do not add up to one."""
        p = self._block(i)
        if self.flat:
            return p.min(), p.max(), False
        total = p.sum(1) if self.classes > FEW_CLASSES else np.einsum("ij->i", p)
        return p.min(), p.max(), not np.abs(total - 1).max() <= math.sqrt(self.eps) + 1e-8

    def _check_range(self, below: str) -> None:
        if self.from_logits:
            return
        least, most = self.ends
        if most > 1:
            raise ValueError(f"y_prob contains values greater than 1: {most}")
        if least < 0:
            raise ValueError(f"y_prob contains values {below} than 0: {least}")

    def _set_weight(self, y_true: Any, sample_weight: Any) -> None:
        _check_lengths(self.p, y_true, sample_weight)
        if sample_weight is None:
            return
        self.weight = weight = _numbers(sample_weight, "sample_weight")
        if weight.dtype.kind == "f":
            _check_finite(weight.min(), weight.max(), "sample_weight", weight.dtype)
        if weight.ndim != 1:
            raise ValueError(
                f"Sample weights must be 1D array or scalar, got {weight.ndim}D array. Expected either a "
                f"scalar value or a 1D array of length {len(self.p)}."
            )
        if not weight.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")

    def set_classes(self, y_true: Any, sample_weight: Any, labels: Any) -> None:
        """Take the samples' labels; `labels`, or what there is, in order are the columns'."""
        self._check_range("lower")
        self._set_weight(y_true, sample_weight)
        self.labels = y = _Labels(y_true)
        if labels is not None:
            _with_classes(y, y_true, labels)
        if len(y.classes) == 1:
            if labels is None:
                raise ValueError(
                    f"y_true contains only one label ({y.classes[0]}). Please provide the list of all "
                    "expected class labels explicitly through the labels argument."
                )
            raise ValueError(f"The labels array needs to contain at least two labels, got {y.classes}.")
        if not self.from_logits and self.off:
            warnings.warn(
                "The y_prob values do not sum to one. Make sure to pass probabilities.",
                UserWarning,
                stacklevel=4,
            )
        if len(y.classes) != self.classes:
            if labels is None:
                raise ValueError(
                    f"y_true and y_prob contain different number of classes: {len(y.classes)} vs "
                    f"{self.classes}. Please provide the true labels explicitly through the labels argument. "
                    f"Classes found in y_true: {y.classes}"
                )
            raise ValueError(
                "The number of classes in labels is different from that in y_prob. Classes found in labels: "
                f"{y.classes}"
            )

    def set_positive(self, y_true: Any, sample_weight: Any, pos_label: Any) -> None:
        """Take the samples' labels, of which one is what the predictions are of."""
        shape = np.shape(y_true)
        if len(shape) > 1 and shape[1:] != (1,):
            raise ValueError(f"y should be a 1d array, got an array of shape {shape} instead.")
        self._set_weight(y_true, sample_weight)
        self.labels = y = _Labels(y_true)
        if len(y.classes) > 2:
            raise ValueError(
                "The type of the target inferred from y_true is multiclass but should be binary according to "
                "the shape of y_prob."
            )
        self._check_range("less")
        if pos_label is None:
            if y.classes.dtype.kind in "OUST":
                found = ", ".join(map(repr, y.classes.tolist()))
                raise ValueError(
                    f"y_true takes value in {{{found}}} and pos_label is not specified: either make y_true "
                    "take value in {0, 1} or {-1, 1} or pass pos_label explicitly."
                )
            usual = y.classes.tolist() in ([0, 1], [-1, 1], [0], [-1], [1])
            pos_label = 1 if usual else y.classes[-1]
        place = np.flatnonzero(y.classes == pos_label)
        self.positive = int(place[0]) if place.size else -1

    def _columns(self, i: slice) -> Array:
        """The column of each label of a block; of flat predictions, whether it is theirs."""
        columns = self.labels.columns(i)
        return columns == self.positive if self.flat else columns

    def weights(self) -> float:
        """The sum of the samples' weights."""
        if self.weight is None:
            return float(len(self.p))
        total = float(self.weight.sum(dtype=np.float64))
        if total == 0:
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        return total

    def _weight(self, i: slice) -> Array | None:
        return None if self.weight is None else widened(self.weight[i]).astype(np.float64)

    def total(self, values: Callable[[slice], Array]) -> float:
        """The weighted sum of what there is for each sample, or without weights for each element."""

        def of_block(i: slice) -> float:
            value, weight = values(i), self._weight(i)
            if weight is not None:
                if self.from_logits:  # as everywhere, a weight of 0 drops what is infinite
                    value = np.where((weight == 0) & np.isinf(value), 0, value)
                value = value * weight
            return float(value.sum(dtype=np.float64))

        return math.fsum(self.blocks(of_block))

    def _log(self, p: Array) -> Array:
        return np.asarray(np.log(np.clip(p, self.eps, 1 - self.eps), dtype=np.float64))

    def log_losses(self, i: slice) -> Array:
        """-log p of the labels."""
        p, y = self._block(i), self.labels
        if y.indicators:
            if self.flat:
                p = np.stack([0 * p if self.from_logits else 1 - p, p], 1)
            return _COUNTS(p, y.y[i]) if self.from_logits else np.asarray(-(self._log(p) * y.y[i]).sum(1))
        t = self._columns(i)
        if self.from_logits:
            return _POSITIVE(p, t) if self.flat else _CLASSES(p, t)
        own = np.where(t, p, 1 - p) if self.flat else np.take_along_axis(p, t[:, None], 1)[:, 0]
        return -self._log(own)

    def squares(self, i: slice) -> Array:
        """The squared distances between probabilities and indicators, not yet added up without weights."""
        p, y = self._block(i), self.labels
        if y.indicators:
            away = (softmax(p, 1) if self.from_logits else p) - np.asarray(y.y[i], np.float64)
        elif self.from_logits:  # p - onehot of confident samples, too
            t = self._columns(i)
            away = (_POSITIVE if self.flat else _CLASSES).value_and_grad(p, t)[1]
        elif self.flat:
            away = p - self._columns(i)
        else:
            away = p.astype(np.float64, "C")
            away.reshape(-1)[np.arange(0, p.size, self.classes) + self._columns(i)] -= 1
        squares: Array = np.square(away, dtype=np.float64)
        if self.flat:
            return 2 * squares
        return squares if self.weight is None else np.asarray(squares.sum(1))

    def frequencies(self) -> Array:
        """The weighted frequency of each class."""

        def of_block(i: slice) -> Array:
            weight = self._weight(i)
            if not self.labels.indicators:
                return np.bincount(self.labels.columns(i), weight, self.classes)
            y = np.asarray(self.labels.y[i], np.float64)
            return np.asarray((y if weight is None else y * weight[:, None]).sum(0))

        return np.asarray(np.sum(self.blocks(of_block), 0, dtype=np.float64) / self.weights())

    def total_of_null(self, frequencies: Array) -> float:
        """The weighted sum of log losses whose probabilities are the classes' frequencies."""
        eps = float(np.finfo(np.float64).eps)
        losses = -np.log(np.clip(frequencies, eps, 1 - eps))
        y = self.labels
        return self.total(lambda i: (y.y[i] * losses).sum(1) if y.indicators else losses[y.columns(i)])

    def gaps(self, i: slice, bins: int) -> Array:
        """What is right, less the confidence, added up in bins of the confidence."""
        p, t = self._block(i), self._columns(i)
        if self.from_logits:
            p = sigmoid(p) if self.flat else softmax(p, 1)
        if self.flat:
            confidence, right = np.maximum(p, 1 - p), (p > 0.5) == t
        else:
            top = p.argmax(1)
            confidence, right = np.take_along_axis(p, top[:, None], 1)[:, 0], top == t
        confidence = confidence.astype(np.float64)
        gap, weight = right - confidence, self._weight(i)
        edges = np.append(np.arange(bins) / bins, np.inf)
        place = np.fmin(confidence * bins, bins - 1).astype(np.intp)  # but for rounding; NaN has one too
        place -= confidence < edges[place]
        place += confidence >= edges[place + 1]
        return np.bincount(place, gap if weight is None else gap * weight, bins)
