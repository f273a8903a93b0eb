"""scikit-learn's losses computed by fastloss: a stand-in for the compiled half, `sklearn._loss._loss`.

As a plugin of pytest (-p tests.support.scikit) it takes the place of scikit-learn's own before its tests are
imported; then all of `sklearn._loss.loss`, and the estimators that use it, run on fastloss.
"""

import math

import sklearn._loss.loss as theirs

import fastloss


class Compiled:
    """What a loss of `sklearn._loss._loss` does, for pairs of (n,) targets and (n,) or (n, C) predictions."""

    calls = 0

    def __init__(self, loss, factor=1.0):
        self.of, self.factor = loss, factor

    def _given(self, y_true, raw_prediction, sample_weight, n_threads):
        Compiled.calls += 1
        weight = sample_weight
        if self.factor != 1:
            weight = self.factor * (1 if weight is None else weight)
        return fastloss.threads(n_threads), (raw_prediction, y_true), {"sample_weight": weight}

    @staticmethod
    def _out(raw_prediction, **arrays):
        """Those arrays that fastloss fills itself; others are another dtype than the predictions."""
        return {k: a for k, a in arrays.items() if a is not None and a.dtype == raw_prediction.dtype}

    @staticmethod
    def _fill(*pairs):
        for given, made in pairs:
            if given is not made:
                given[...] = made

    def loss(self, y_true, raw_prediction, sample_weight, loss_out, n_threads=1):
        context, given, weights = self._given(y_true, raw_prediction, sample_weight, n_threads)
        with context:
            value = self.of(*given, **weights, **self._out(raw_prediction, out=loss_out))
        self._fill((loss_out, value))

    def gradient(self, y_true, raw_prediction, sample_weight, gradient_out, n_threads=1):
        context, given, weights = self._given(y_true, raw_prediction, sample_weight, n_threads)
        with context:
            out = self._out(raw_prediction, grad_out=gradient_out)
            self._fill((gradient_out, self.of.value_and_grad(*given, **weights, **out)[1]))

    def loss_gradient(self, y_true, raw_prediction, sample_weight, loss_out, gradient_out, n_threads=1):
        context, given, weights = self._given(y_true, raw_prediction, sample_weight, n_threads)
        with context:
            out = self._out(raw_prediction, out=loss_out, grad_out=gradient_out)
            value, grad = self.of.value_and_grad(*given, **weights, **out)
        self._fill((loss_out, value), (gradient_out, grad))

    def gradient_hessian(self, y_true, raw_prediction, sample_weight, gradient_out, hessian_out, n_threads=1):
        context, given, weights = self._given(y_true, raw_prediction, sample_weight, n_threads)
        constant = hessian_out.shape != raw_prediction.shape  # scikit-learn keeps a single 1
        with context:
            out = self._out(raw_prediction, grad_out=gradient_out)
            out |= {} if constant else self._out(raw_prediction, hess_out=hessian_out)
            _, grad, hess = self.of.value_grad_hess(*given, **weights, **out, floor=-math.inf)
        self._fill((gradient_out, grad), *([] if constant else [(hessian_out, hess)]))

    def gradient_proba(self, y_true, raw_prediction, sample_weight, gradient_out, proba_out, n_threads=1):
        self.gradient(y_true, raw_prediction, sample_weight, gradient_out, n_threads)
        proba_out[...] = fastloss.softmax(raw_prediction)


SUBSTITUTES = {
    "CyHalfBinomialLoss": lambda: Compiled(fastloss.BCEWithLogitsLoss(reduction="none")),
    "CyHalfMultinomialLoss": lambda: Compiled(fastloss.CrossEntropyLoss(reduction="none")),
    "CyHalfPoissonLoss": lambda: Compiled(fastloss.PoissonNLLLoss(reduction="none")),
    "CyHalfSquaredError": lambda: Compiled(fastloss.MSELoss(reduction="none"), 0.5),
}


def pytest_configure():
    vars(theirs).update(SUBSTITUTES)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"calls of fastloss: {Compiled.calls}")
