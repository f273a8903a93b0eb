"""Losses as objectives and metrics of XGBoost, LightGBM and CatBoost.

    from fastloss.boosting import Metric, Objective, prior

    Objective(loss)     gradient and Hessian, as each of the libraries asks for them
    Metric(loss)        the value, of raw scores
    prior(loss, y)      where boosting starts

a) One object serves all: what calls is told from the arguments. The native interfaces of XGBoost and LightGBM
   pass scores and a data set with `get_label`, the scikit-learn ones labels and scores; XGBoost's scores are
   float32, LightGBM's float64. CatBoost calls methods.
b) None of the libraries is imported.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from ._arguments import (
    FLOAT32,
    FLOAT64,
    Array,
    Shape,
    as_array,
    at_least_0,
    choice,
    compute_dtype,
    convert,
    positive,
    real_operand,
    scalar,
    unchanging,
    widened,
)
from ._errors import renamed, shortening
from ._runtime import checked_threads
from ._runtime import threads as use_threads
from .arrays import logsumexp
from .losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    MSELoss,
    MultiLabelSoftMarginLoss,
    MultinomialNLLLoss,
    NLLLoss,
    SigmoidFocalLoss,
    SoftMarginLoss,
)
from .losses._plan import Loss, first_wrong
from .losses.classes import _ClassLoss

__all__ = ["Metric", "Objective", "prior"]

RULES = ("library", "exact", "bound", "friedman", "residual")
#: Shares in a prior are at least this, as in LightGBM: for what is not there the best score is -inf.
LEAST_SHARE = 1e-15
AROUND = -math.log(LEAST_SHARE)
LACKING = ("mask", "unchecked", "axis")  # that a loss could be passed
FAR = 1e4  # a score whose probability is exactly 0, or 1
STEPS = 1000


Derivatives = Callable[[Array], tuple[float, Array, Array]]


class _Adapter:
    """A loss, and rows of scores as what it takes."""

    target: Array | None = None  # in the place of the library's labels

    no_jit: ClassVar[bool] = True  # or CatBoost would hand the methods to Numba, and warn without it
    loss: Loss[Any]

    def _set_loss(self, loss: Any, reduction: str) -> None:
        self.loss = loss
        self._reduced = _reduced(loss, reduction)
        self._of_rows = _of_rows(loss)

    def __copy__(self) -> Self:
        return self  # it does not change

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # and scikit-learn's clone of CatBoost's estimators wants the same object

    def _operands(self, scores: Any, labels: Any, weight: Any) -> tuple[Array, Array, Array | None]:
        """Scores, labels in the shape that belongs to them, and weights or None."""
        x, y = as_array(scores, "y_pred"), as_array(labels, self._labels)
        dtype = compute_dtype(x, "y_pred")
        if x.dtype != dtype:
            x = convert(widened(x), dtype)
        if x.ndim != 2 and (self._of_rows or x.ndim != 1):
            wanted = "(rows, classes)" if self._of_rows else "(rows,) or (rows, classes)"
            raise ValueError(
                f"y_pred: got shape {x.shape}, wanted {wanted} for {type(self.loss).__name__}; "
                f"the number of classes is the booster's num_class"
            )
        if y.shape != x.shape:
            if self._of_rows and y.shape == (len(x), 1):
                y = y[:, 0]
            elif not self._of_rows and y.size == x.size:
                y = y.reshape(x.shape)
        return x, y, _weight_of(self._of_rows, weight, x.shape, dtype)

    @property
    def _labels(self) -> str:
        """What errors call the labels."""
        return "y_true" if self.target is None else "target"

    def _renamed(self) -> AbstractContextManager[None]:
        return renamed(LACKING, input="y_pred", target=self._labels)


class Objective(_Adapter):
    """Gradient and Hessian of a loss, as an objective of XGBoost, LightGBM or CatBoost.

    The scores are the input of the loss, the labels its target, and what boosting minimises is the sum of the
    losses, each times its sample weight, whatever `reduction` the loss has. It is

    - `obj` of `xgboost.train`, or `objective` of XGBoost's scikit-learn interface;
    - `params["objective"]` of `lightgbm.train`, or `objective` of LightGBM's scikit-learn interface;
    - `loss_function` of CatBoost, for a loss of one score a row.

    Parameters
    ----------
    loss : loss of fastloss
        Any of them but GaussianNLLLoss, and KLDivWithLogitsLoss with `alpha`. Those with classes, and
        MultiLabelSoftMarginLoss, need a matrix of scores: `num_class` of the booster.
    hessian : {"library", "exact", "bound", "friedman", "residual"} or float, default: "library"
        Rule of the Hessian, as in `value_grad_hess`. "library" is the rule of the built-in objectives of
        the one that calls, which its defaults are made for: "bound" for XGBoost to 3.4 and "residual"
        later, "friedman" for LightGBM, "exact" for CatBoost. They differ for losses with classes alone.
    floor : float, default: 1e-16
        The least that an element of the Hessian is.
    target : array_like, optional
        Takes the place of the library's labels, row by row: class probabilities of a teacher for
        distillation, or a matrix of labels. Not for CatBoost, which passes its rows in parts and shuffled.
    threads : int, optional
        Number of threads of a call; None is `get_num_threads`.

    Raises
    ------
    TypeError, ValueError
        An option that does not fit.

    See Also
    --------
    Metric : The value of a loss, to watch training.
    prior : The scores to start from.

    Notes
    -----
    What a call returns is filled again by a later one, once nobody holds it any more. Copies of an objective
    share its loss and its target.

    References
    ----------
    Friedman, "Greedy function approximation: a gradient boosting machine" (2001), for "friedman"; Chen and
    Guestrin, "XGBoost: a scalable tree boosting system" (2016).

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> from fastloss.boosting import Objective
    >>> objective = Objective(fastloss.BCEWithLogitsLoss())
    >>> grad, hess = objective(np.array([0.0, 1.0]), np.array([0.0, 0.0]))  # as LightGBM's interface does
    >>> grad, hess
    (array([ 0.5, -0.5], dtype=float32), array([0.25, 0.25], dtype=float32))
    """

    def __init__(
        self,
        loss: Loss[Any],
        *,
        hessian: str | float = "library",
        floor: float = 1e-16,
        target: ArrayLike | None = None,
        threads: int | None = None,
    ) -> None:
        self._set_loss(loss, "sum")
        if isinstance(hessian, str):
            choice(hessian, "hessian", RULES)
        elif not 0 < scalar(hessian, "hessian") < math.inf:
            raise ValueError(f"hessian: got {hessian}, wanted a positive number or one of {', '.join(RULES)}")
        self.hessian = hessian
        self.floor = at_least_0(floor, "floor")
        self.target = None if target is None else unchanging(as_array(target, "target"))
        self.threads = None if threads is None else checked_threads(threads, "threads")
        self._kept: list[tuple[Array, Array]] = []

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, Array]:
        """Return gradient and Hessian; the libraries call this.

        Parameters
        ----------
        y_true : array_like of shape (n,)
            Labels; in the native interfaces, which pass two arguments by position, the scores.
        y_pred : array_like of shape (n,) or (n, classes)
            Scores; in the native interfaces the `DMatrix` or `Dataset`, which has labels and weights.
        sample_weight : array_like of shape (n,), optional
            Weights; an empty array is as none.

        Returns
        -------
        grad : ndarray of shape (n,) or (n, classes)
            The gradient, float32, in the memory order of the scores.
        hess : ndarray of shape (n,) or (n, classes)
            The Hessian's diagonal, likewise.

        Raises
        ------
        ValueError
            A score or weight that is not a number, a label that does not fit, a length that does not fit.

        Examples
        --------
        >>> import numpy as np, fastloss
        >>> from fastloss.boosting import Objective
        >>> objective = Objective(fastloss.CrossEntropyLoss(), hessian="exact")
        >>> grad, hess = objective(np.array([0.0, 1.0]), np.zeros((2, 2), np.float32))
        >>> grad
        array([[-0.5,  0.5],
               [ 0.5, -0.5]], dtype=float32)
        """
        if hasattr(y_pred, "get_label"):
            scores, sample_weight = y_true, y_pred.get_weight()
            labels = y_pred.get_label() if self.target is None else self.target
        else:
            scores, labels = y_pred, y_true if self.target is None else self.target
        x, y, w = self._operands(scores, labels, sample_weight)
        grad, hess = self._buffers(x)
        self._fill(x, y, w, _rule_of(self.loss, "xgboost" if x.dtype == FLOAT32 else "lightgbm"), grad, hess)
        self._kept.append((grad, hess))
        return grad, hess

    def calc_ders_range(self, approxes: Any, targets: Any, weights: Any) -> Array:
        """Return the derivatives for CatBoost, which maximises.

        Parameters
        ----------
        approxes : array_like of shape (n,)
            Scores.
        targets : array_like of shape (n,)
            Labels.
        weights : array_like of shape (n,) or None
            Weights.

        Returns
        -------
        ndarray of shape (n, 2)
            Negative gradient and negative Hessian.

        Raises
        ------
        ValueError
            A score or weight that is not a number, a label that does not fit, a length that does not fit.
        TypeError
            A loss of several scores a row.

        Examples
        --------
        >>> import numpy as np, fastloss
        >>> from fastloss.boosting import Objective
        >>> Objective(fastloss.BCEWithLogitsLoss()).calc_ders_range(np.zeros(2), np.array([0.0, 1.0]), None)
        array([[-0.5 , -0.25],
               [ 0.5 , -0.25]])
        """
        if self.target is not None:
            raise ValueError("target: CatBoost passes its rows in parts and shuffled; pass it labels instead")
        if self._of_rows:
            self.calc_ders_multi(approxes, targets, weights)  # its error: CatBoost has no num_class to set
        x, y, w = self._operands(approxes, targets, weights)
        # Not kept, for another of CatBoost's threads comes while the kernel runs.
        pairs: Array = np.empty((2, *x.shape), x.dtype)
        self._fill(x, y, w, "exact", pairs[0], pairs[1])
        ascent: Array = np.negative(pairs, out=pairs).T
        return ascent

    def calc_ders_multi(self, approxes: Any, targets: Any, weights: Any) -> Any:
        """Raise the error that says what to use in CatBoost for several scores a row.

        Parameters
        ----------
        approxes, targets, weights : object
            Those of one row.

        Raises
        ------
        TypeError
            Always: CatBoost asks for one row at a time, and for the whole Hessian.

        Examples
        --------
        >>> import fastloss
        >>> from fastloss.boosting import Objective
        >>> Objective(fastloss.CrossEntropyLoss()).calc_ders_multi([0.0, 0.0], 1.0, 1.0)
        Traceback (most recent call last):
            ...
        TypeError: CatBoost asks Python for one row of several scores a call: use loss_function='MultiClass'
        """
        several = "MultiRMSE" if isinstance(self.loss, MSELoss) else "MultiCrossEntropy"
        instead = "MultiClass" if isinstance(self.loss, _ClassLoss) else several
        raise TypeError(
            f"CatBoost asks Python for one row of several scores a call: use loss_function={instead!r}"
            + (", and a metric of CatBoost" if instead == several else "")
        )

    @shortening
    def _fill(self, x: Array, y: Array, w: Array | None, own: str, grad: Array, hess: Array) -> None:
        """Write gradient and Hessian; `own` is the rule of the library that calls."""
        rule = own if self.hessian == "library" else self.hessian
        run: Callable[..., Any] = partial(
            self._reduced.value_grad_hess,
            x,
            y,
            sample_weight=w,
            hessian=rule,
            floor=self.floor,
            grad_out=grad,
            hess_out=hess,
        )
        with self._renamed(), nullcontext() if self.threads is None else use_threads(self.threads):
            value = run()[0]
        if math.isnan(value):
            _raise_nan(**{"y_pred": x, self._labels: y, "sample_weight": w})

    def _buffers(self, x: Array) -> tuple[Array, Array]:
        """Two float32 arrays like the scores: those of an earlier call if nobody has them, or new ones."""
        order: Literal["C", "F"] = "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"
        if self._kept:
            try:
                grad, hess = self._kept.pop()  # which another thread may have emptied
            except IndexError:
                pass
            else:
                alone = object()  # as many references as a local name has
                shared = sys.getrefcount(grad) + sys.getrefcount(hess) - 2 * sys.getrefcount(alone)
                if not shared and grad.shape == x.shape and grad.flags[order]:
                    return grad, hess
        return np.empty(x.shape, FLOAT32, order), np.empty(x.shape, FLOAT32, order)

    def __reduce__(self) -> tuple[Any, ...]:
        options = {name: getattr(self, name) for name in ("hessian", "floor", "target", "threads")}
        return partial(type(self), self.loss, **options), ()

    def __repr__(self) -> str:
        target = "" if self.target is None else f", target=<{self.target.shape}>"
        threads = "" if self.threads is None else f", threads={self.threads}"
        return f"Objective({self.loss!r}, hessian={self.hessian!r}, floor={self.floor}{target}{threads})"


class Metric(_Adapter):
    """The mean of a loss, as a metric of XGBoost, LightGBM or CatBoost.

    The scores are the input of the loss, so they have to be raw: as they are in training with an `Objective`,
    and in CatBoost always. With a built-in objective XGBoost and LightGBM pass probabilities. It is

    - `custom_metric` of `xgboost.train`, or `eval_metric` of XGBoost's scikit-learn interface;
    - `feval` of `lightgbm.train`, or `eval_metric` of LightGBM's scikit-learn interface;
    - `eval_metric` of CatBoost, but for its MultiRMSE, MultiLogloss and MultiCrossEntropy.

    Parameters
    ----------
    loss : loss of fastloss
        Any of them that Objective takes; its mean, whatever `reduction` it has.
    name : str, optional
        What XGBoost and LightGBM print; None is the name of the loss's function. CatBoost prints "Metric".

    Raises
    ------
    TypeError
        What is not a loss of scores and labels.

    See Also
    --------
    Objective : What is trained for.

    Notes
    -----
    The built-in metrics of LightGBM take the scores of a custom objective for probabilities, and are wrong.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> from fastloss.boosting import Metric
    >>> Metric(fastloss.BCEWithLogitsLoss(), "log loss")(np.array([0.0, 1.0]), np.zeros(2))
    ('log loss', 0.6931471805599453, False)
    """

    def __init__(self, loss: Loss[Any], name: str | None = None) -> None:
        self._set_loss(loss, "mean")
        self._sum = _reduced(loss, "sum")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name: got {type(name).__name__}, wanted a string or None")
        self.name = loss._function if name is None else name
        self.__name__ = self.name  # what XGBoost prints

    @shortening
    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the value in the form of the library that calls.

        Parameters
        ----------
        y_true : array_like of shape (n,)
            Labels; in the native interfaces, which pass two arguments by position, the scores.
        y_pred : array_like of shape (n,) or (n, classes)
            Raw scores; in the native interfaces the `DMatrix` or `Dataset`, which has labels and weights.
        sample_weight : array_like of shape (n,), optional
            Weights; an empty array is as none.

        Returns
        -------
        tuple or float
            For LightGBM, whose scores are float64, (name, value, False): less is better. For XGBoost (name,
            value), or in its scikit-learn interface the value.

        Raises
        ------
        ValueError
            A label or length that does not fit.

        Examples
        --------
        >>> import numpy as np, fastloss
        >>> from fastloss.boosting import Metric
        >>> Metric(fastloss.MSELoss())(np.array([0.0, 1.0]), np.zeros(2, np.float32))
        0.5
        """
        native = hasattr(y_pred, "get_label")
        if native:
            y_true, y_pred, sample_weight = y_pred.get_label(), y_true, y_pred.get_weight()
        x, y, w = self._operands(y_pred, y_true, sample_weight)
        with self._renamed():
            value = self._reduced(x, y, sample_weight=w)
        if x.dtype == FLOAT32:
            return (self.name, value) if native else value
        return self.name, value, False

    @shortening
    def evaluate(self, approxes: Any, target: Any, weight: Any) -> tuple[float, float]:
        """Return what CatBoost adds up: the sum of the losses, and that of the weights in force.

        Parameters
        ----------
        approxes : sequence of array_like of shape (n,)
            The scores, an array for each class, or one.
        target : array_like of shape (n,)
            Labels.
        weight : array_like of shape (n,) or None
            Weights.

        Returns
        -------
        error : float
            The sum.
        weight : float
            What a mean divides it by.

        Raises
        ------
        ValueError
            A label or length that does not fit.

        Examples
        --------
        >>> import numpy as np, fastloss
        >>> from fastloss.boosting import Metric
        >>> Metric(fastloss.MSELoss()).evaluate([np.zeros(2)], np.array([0.0, 2.0]), None)
        (4.0, 2.0)
        """
        scores = np.asarray(approxes[0]) if len(approxes) == 1 else np.asarray(approxes).T
        x, y, w = self._operands(scores, target, weight)
        with self._renamed():
            total, mean = self._sum(x, y, sample_weight=w), self._reduced(x, y, sample_weight=w)
        if total and math.isfinite(total):
            return total, total / mean
        counted = np.broadcast_to(1.0 if w is None else w, x.shape[:1] if self._of_rows else x.shape)
        return total, 0.0 if math.isnan(mean) and not total else float(counted.sum(dtype=np.float64))

    def get_final_error(self, error: float, weight: float) -> float:
        """Return the mean, for CatBoost.

        Parameters
        ----------
        error, weight : float
            Sums of what `evaluate` returns.

        Returns
        -------
        float
            Their ratio; 0 where nothing has weight.

        Examples
        --------
        >>> import fastloss
        >>> from fastloss.boosting import Metric
        >>> Metric(fastloss.MSELoss()).get_final_error(4.0, 2.0)
        2.0
        """
        return error / weight if weight else 0.0

    def is_max_optimal(self) -> bool:
        """Return that less is better, for CatBoost.

        Returns
        -------
        bool
            False.

        Examples
        --------
        >>> import fastloss
        >>> from fastloss.boosting import Metric
        >>> Metric(fastloss.MSELoss()).is_max_optimal()
        False
        """
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.loss, self.name)

    def __repr__(self) -> str:
        return f"Metric({self.loss!r}, {self.name!r})"


@shortening
def prior(
    loss: Loss[Any], y: ArrayLike, sample_weight: ArrayLike | None = None, classes: int | None = None
) -> Any:
    """Return the constant score, or one for each class, for which the loss is least: where boosting starts.

    The log odds for a binary cross-entropy, the log frequencies for a cross-entropy, the mean for a squared
    error, its logarithm for a Poisson loss of log rates; with the weights and options that the loss has.

    Parameters
    ----------
    loss : loss of fastloss
        Any of them that Objective takes, whatever `reduction` it has.
    y : array_like of shape (n,) or (n, k)
        What the loss takes as target; whole numbers may be floats.
    sample_weight : array_like of shape (n,), optional
        Weights of at least 0; an empty array is as none.
    classes : int, optional
        Number of classes where `y` are class indices; None is one more than the largest.

    Returns
    -------
    float or ndarray of shape (k,)
        The score, float64; for `y` of two dimensions, and losses with classes, an array.

    Raises
    ------
    ValueError
        Labels or lengths that do not fit; a loss that no constant score minimises.

    See Also
    --------
    Objective : What is trained for.

    Notes
    -----
    A class, or a side of a binary loss, of which there is nothing counts as a share of 1e-15, as in LightGBM.
    Where there is no closed form it is found with Newton's method, for which "bound" is the Hessian.

    Examples
    --------
    >>> import fastloss
    >>> from fastloss.boosting import prior
    >>> round(prior(fastloss.BCEWithLogitsLoss(), [0, 1, 1, 1]), 12)  # log 3
    1.098612288668
    >>> import numpy as np
    >>> np.exp(prior(fastloss.CrossEntropyLoss(), [0, 1, 1, 2])).round(12)
    array([0.25, 0.5 , 0.25])
    """
    summed, target = _reduced(loss, "sum"), as_array(y, "y")
    if not target.ndim or not target.size:
        raise ValueError(f"y: got shape {target.shape}, wanted labels")
    compute_dtype(target, "y")
    if sample_weight is not None:
        sample_weight = _not_negative(real_operand(sample_weight, "sample_weight", FLOAT64))
    _raise_nan(y=target, sample_weight=sample_weight)
    indices = isinstance(loss, _ClassLoss) and target.ndim == 1
    if not indices and (classes is not None or target.ndim > 2 or (_of_rows(loss) and target.ndim < 2)):
        raise ValueError(
            f"y: got shape {target.shape} and classes={classes}, wanted (rows, classes) and None"
            f"{'' if _of_rows(loss) else ', or (rows,) and None'} for {type(loss).__name__}"
        )
    shape = (len(target), _number_of_classes(loss, target, classes)) if indices else target.shape
    weight = _weight_of(_of_rows(loss), sample_weight, shape, FLOAT64)
    with renamed(("input", *LACKING), target="y"):
        summed(np.broadcast_to(np.zeros(shape[1:]), shape), target, sample_weight=weight)
    given = loss
    if "scale" in loss.options():  # the same of the logits as they are read
        loss = loss._changed(scale=1.0, bias=None, z_loss=0.0, softcap=None)
        summed = _reduced(loss, "sum")
    if indices:  # rows with one label are one row with their weight
        target, inverse = np.unique(target, return_inverse=True)
        weight, shape = np.bincount(inverse, weight), (len(target), shape[1])

    def derivatives(x: Array) -> tuple[float, Array, Array]:
        rows = np.broadcast_to(x, shape)
        value, *both = summed.value_grad_hess(rows, target, sample_weight=weight, hessian="bound")
        grad, hess = (each.sum(axis=0, dtype=np.float64) for each in both)
        return value, grad, hess

    x = np.zeros(shape[1:])
    around = math.inf
    if isinstance(loss, _ClassLoss):
        x, around = _log_shares(_masses(derivatives, shape[1])), AROUND
        if isinstance(loss, CrossEntropyLoss | MultinomialNLLLoss | NLLLoss):
            return _as_passed(x, given)
    elif isinstance(loss, BCEWithLogitsLoss | MultiLabelSoftMarginLoss | SigmoidFocalLoss | SoftMarginLoss):
        no, yes = _log_shares(np.stack([derivatives(x + FAR)[1], -derivatives(x - FAR)[1]]))
        x, around = yes - no, AROUND
    x = _as_passed(_least(derivatives, x, around, loss), given)
    return float(x) if x.ndim == 0 else x


def _as_passed(x: Array, loss: Any) -> Array:
    """The scores that the loss reads as x, or as x and a number: of all of these its z-loss is least at 0."""
    if "scale" not in loss.options():
        return x
    if not np.all(loss.scale):
        raise ValueError(
            f"loss: got scale={loss.scale}, wanted none of 0, with which the score does not count"
        )
    if loss.z_loss or loss.softcap is not None:
        x = x - logsumexp(x)
    if loss.softcap is not None:
        if not loss.z_loss and x.min() <= -loss.softcap:
            x = x - (x.min() + x.max()) / 2
        if np.abs(x).max() >= loss.softcap:
            raise ValueError(f"loss: no constant score minimises {loss!r}")
        x = loss.softcap * np.arctanh(x / loss.softcap)
    return np.asarray((x - (0.0 if loss.bias is None else loss.bias)) / loss.scale)


def _number_of_classes(loss: Any, labels: Array, classes: int | None) -> int:
    """As given, or one more than the largest label that counts."""
    if classes is None:
        counted = labels[np.isfinite(labels) & ~np.isin(labels, getattr(loss, "ignore_index", ()))]
        return int(counted.max(initial=0)) + 1
    return positive(classes, "classes", "a positive integer, or None")


def _masses(derivatives: Derivatives, classes: int) -> Array:
    """What each class has of the target: minus the gradient of a score whose probability is 0."""
    masses = np.zeros(classes)
    for own in range(min(classes, 2)):  # the others have none: one pass for them, and one for the first
        x = np.full(classes, -FAR)
        x[own] = 0
        rest = np.arange(classes) != own
        masses[rest] = -derivatives(x)[1][rest]
    return masses


def _log_shares(masses: Array) -> Array:
    """Logarithms of the shares along the first axis, 0 where there is nothing to share."""
    with np.errstate(all="ignore"):
        shares = masses / masses.sum(axis=0)
        logs: Array = np.log(np.maximum(shares, LEAST_SHARE))
    logs[..., ~np.isfinite(shares).all(axis=0)] = 0
    return logs


def _least(derivatives: Derivatives, x: Array, around: float, loss: Loss[Any]) -> Array:
    """Where the loss is least, by Newton's method from `x`, whose last step is halved while it climbs."""
    classes = isinstance(loss, _ClassLoss)
    value, grad, hess = derivatives(x)
    for _ in range(STEPS):
        with np.errstate(all="ignore"):
            new: Array = x - np.where(grad == 0, 0.0, grad / hess)
        if not np.isfinite(new).all():
            break
        new = np.maximum(new, new.max() - around) if classes else np.clip(new, -around, around)
        if np.abs(new - x).max() <= 1e-12 * max(1.0, np.abs(x).max()):
            return new
        after = derivatives(new)
        for _ in range(64):
            if after[0] <= value + 1e-12 * abs(value):
                break
            new = (new + x) / 2
            after = derivatives(new)
        x, (value, grad, hess) = new, after
    raise ValueError(f"loss: no constant score minimises {loss!r}")


def _rule_of(loss: Loss[Any], library: str) -> str:
    """That of the built-in objectives; of XGBoost's softmax pull request 12537 has changed it after 3.4."""
    if not isinstance(loss, _ClassLoss):
        return "bound" if library == "xgboost" else "exact"
    if library == "lightgbm":
        return "friedman"
    version = re.findall(r"\d+", getattr(sys.modules.get("xgboost"), "__version__", ""))
    return "residual" if list(map(int, version[:2])) > [3, 4] else "bound"


def _of_rows(loss: Loss[Any]) -> bool:
    """Whether its value has one number for a row of scores."""
    return isinstance(loss, _ClassLoss | MultiLabelSoftMarginLoss)


def _reduced(loss: Any, reduction: str) -> Any:
    """The loss with another reduction, and the classes on the second axis."""
    if not isinstance(loss, Loss) or loss._beside_target:
        besides = f", which needs {loss._beside_target} besides" if isinstance(loss, Loss) else ""
        raise TypeError(
            f"loss: got {loss if isinstance(loss, type) else type(loss)}{besides}, "
            "wanted a loss of scores and labels, such as fastloss.BCEWithLogitsLoss()"
        )
    options = {**loss.options(), "reduction": reduction}
    if "axis" in options:
        options["axis"] = 1
    return type(loss)(**options)


def _weight_of(of_rows: bool, weight: Any, shape: Shape, dtype: np.dtype[Any]) -> Array | None:
    """Weights of rows as the loss of scores of this shape and dtype takes them, fastest."""
    if weight is None:
        return None
    w = real_operand(weight, "sample_weight", dtype)
    if not w.size:
        return None
    if w.shape != shape[:1]:
        raise ValueError(f"sample_weight: got shape {w.shape}, wanted {shape[:1]}, one for each row")
    return w if of_rows or len(shape) == 1 else w[:, None]


def _not_negative(weight: Array) -> Array:
    """The weights of a loss that is to have a least value."""
    if (wrong := weight < 0).any():
        raise ValueError(f"{first_wrong(wrong, None, weight, 'sample_weight')}, wanted at least 0")
    return weight


def _raise_nan(**arrays: Array | None) -> None:
    """Name the first number that makes a loss NaN."""
    for name, array in arrays.items():
        if array is not None and (wrong := ~(array < math.inf)).any():
            raise ValueError(f"{first_wrong(wrong, None, array, name)}, wanted a number")
