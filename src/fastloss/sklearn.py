"""Calibration as estimators of scikit-learn: `TemperatureScaling` and `VectorScaling`.

They are fitted to what a classifier's decision_function gives for samples that it has not seen, and to the
labels of these. Importing fastloss does not import this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from . import _docs
from ._arguments import Array, convert
from .arrays import softmax
from .calibration import temperature, vector_scaling

__all__ = ["TemperatureScaling", "VectorScaling"]


class _Scaling(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both have: classes, columns, and predictions."""

    classes_: Array
    n_features_in_: int

    def __init__(self, *, classes: ArrayLike | None = None) -> None:
        self.classes = classes

    def fit(self, logits: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Fit the calibration to logits and the labels of their samples.

        Parameters
        ----------
        %(sklearn.logits)s
        y : array_like of shape (N,)
            The labels.
        sample_weight : array_like of shape (N,), optional
            Factor of each sample, at least 0.

        Returns
        -------
        estimator
            The estimator itself.

        Raises
        ------
        ValueError
            Logits that are not finite, another number of columns than of classes, an unknown label.

        Examples
        --------
        >>> from fastloss.sklearn import TemperatureScaling
        >>> model = TemperatureScaling().fit([[4.0, 0.0]] * 4, ["a", "a", "a", "b"])
        >>> round(model.temperature_, 6)
        3.640957
        """
        shape = np.shape(logits) if isinstance(logits, list | tuple) else getattr(logits, "shape", ())
        flat = len(shape) == 1
        given, names = validate_data(self, logits, y, dtype=[np.float64, np.float32], ensure_2d=not flat)
        names = column_or_1d(names, warn=True)
        check_classification_targets(names)
        self.classes_ = np.unique(names if self.classes is None else self.classes)
        if not self.classes_.size:
            raise ValueError(f"classes: got {self.classes!r}, wanted at least one class")
        labels = np.searchsorted(self.classes_, names)
        wrong = self.classes_[np.minimum(labels, len(self.classes_) - 1)] != names
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(f"y[{i}] = {names[[i]].tolist()[0]!r} is none of the classes {self.classes_}")
        if sample_weight is not None and not np.asarray(sample_weight).any():
            raise ValueError("sample_weight: all are zero, wanted a weight that is not")
        self._fit(self._columns(given), labels, sample_weight)
        return self

    def _fit(self, logits: Array, labels: Array, sample_weight: ArrayLike | None) -> None:
        raise AssertionError

    def _scaled(self, logits: Array) -> Array:
        raise AssertionError

    def _columns(self, logits: Array) -> Array:
        """A column for each class, of checked logits."""
        classes = len(self.classes_)
        if logits.ndim == 1 or (logits.shape[1] == 1 and classes == 2):
            logits = np.stack([np.zeros(len(logits), logits.dtype), logits.reshape(-1)], 1)
        if logits.shape[1] != classes:
            raise ValueError(
                f"logits: got {logits.shape[1]} columns for {classes} classes, wanted one for each; "
                "name those that no label is of with `classes`"
            )
        return logits

    def predict_proba(self, logits: ArrayLike) -> Array:
        """Return the calibrated probabilities.

        Parameters
        ----------
        %(sklearn.logits)s

        Returns
        -------
        ndarray of shape (N, C)
            A column for each of `classes_`, in the dtype of the logits if that is float32 or float64.

        Examples
        --------
        >>> from fastloss.sklearn import TemperatureScaling
        >>> model = TemperatureScaling().fit([[4.0, 0.0]] * 4, ["a", "a", "a", "b"])
        >>> model.predict_proba([[4.0, 0.0]]).round(6)
        array([[0.75, 0.25]])
        """
        check_is_fitted(self)
        flat = not hasattr(self, "n_features_in_")  # as `fit` was given them
        given = validate_data(self, logits, dtype=[np.float64, np.float32], ensure_2d=not flat, reset=False)
        return softmax(self._scaled(self._columns(given)))

    def predict(self, logits: ArrayLike) -> Array:
        """Return the class of the largest probability of each sample.

        Parameters
        ----------
        %(sklearn.logits)s

        Returns
        -------
        ndarray of shape (N,)
            Of `classes_`.

        Examples
        --------
        >>> from fastloss.sklearn import TemperatureScaling
        >>> model = TemperatureScaling().fit([[4.0, 0.0]] * 4, ["a", "a", "a", "b"])
        >>> model.predict([[4.0, 0.0], [0.0, 4.0]])
        array(['a', 'b'], dtype='<U1')
        """
        best = self.predict_proba(logits).argmax(1)
        return np.asarray(self.classes_[best])


class TemperatureScaling(_Scaling):
    """Temperature scaling: softmax(logits / T), with the T of the least cross-entropy.

    Parameters
    ----------
    %(sklearn.classes)s

    Attributes
    ----------
    temperature_ : float
        The temperature, see `fastloss.temperature`. At 0.0 the largest logits share the probability, at inf
        all classes do.
    %(sklearn.fitted)s

    See Also
    --------
    VectorScaling : With a scale and a bias for each class.
    fastloss.temperature : The function.

    References
    ----------
    Guo et al., "On calibration of modern neural networks" (2017), section 4.2.

    Examples
    --------
    >>> from fastloss.sklearn import TemperatureScaling
    >>> model = TemperatureScaling().fit([[4.0, 0.0]] * 4, [0, 0, 0, 1])
    >>> model.predict_proba([[4.0, 0.0], [2.0, 0.0]]).round(3)
    array([[0.75 , 0.25 ],
           [0.634, 0.366]])
    """

    temperature_: float

    def _fit(self, logits: Array, labels: Array, sample_weight: ArrayLike | None) -> None:
        self.temperature_ = temperature(logits, labels, sample_weight=sample_weight)

    def _scaled(self, logits: Array) -> Array:
        if self.temperature_ == 0:
            return np.where(logits == logits.max(1, keepdims=True), 0, -np.inf).astype(logits.dtype)
        scaled: Array = np.divide(logits, self.temperature_, dtype=np.float64)  # float32 may not hold it
        return convert(scaled, logits.dtype)


class VectorScaling(_Scaling):
    """Vector scaling: softmax(s logits + b), with the s and b of each class of the least cross-entropy.

    Of two classes that are given as one column it is Platt's scaling, without his change of the labels.

    Parameters
    ----------
    %(sklearn.classes)s

    Attributes
    ----------
    scale_, bias_ : ndarray of shape (C,)
        The scale and bias of each class, see `fastloss.vector_scaling`.
    %(sklearn.fitted)s

    See Also
    --------
    TemperatureScaling : With one number for all classes.
    fastloss.vector_scaling : The function.

    References
    ----------
    Guo et al., "On calibration of modern neural networks" (2017), section 4.2.

    Examples
    --------
    >>> from fastloss.sklearn import VectorScaling
    >>> logits = [[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [0.0, 4.0], [0.0, 4.0]]
    >>> model = VectorScaling().fit(logits, [0, 0, 0, 1, 1, 1])
    >>> model.predict_proba([[4.0, 0.0]]).round(3)
    array([[0.667, 0.333]])
    """

    scale_: Array
    bias_: Array

    def _fit(self, logits: Array, labels: Array, sample_weight: ArrayLike | None) -> None:
        self.scale_, self.bias_ = vector_scaling(logits, labels, sample_weight=sample_weight)

    def _scaled(self, logits: Array) -> Array:
        scaled: Array = logits * self.scale_  # in float64, for float32 may not hold the scale
        scaled += self.bias_
        return convert(scaled, logits.dtype)


_docs.fill(globals())
