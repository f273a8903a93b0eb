"""Multinomial logistic regression with the losses of fastloss, beside scikit-learn's.

    python docs/recipes/logistic_regression.py

SciPy's optimisers want a value and a gradient, and Newton's method the Hessian times a vector: `fit` gives
them of a linear model's weights and biases, from the loss's of its logits. The objective is that of
LogisticRegression, the mean of the cross-entropy plus |W|² / (2 C n).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.optimize import minimize

import fastloss


class Objective:
    """Value and derivatives by the weights and biases, (classes, features + 1), as one vector."""

    def __init__(self, x: np.ndarray, labels: np.ndarray, classes: int, strength: float) -> None:
        self.x = np.column_stack([x, np.ones(len(x), x.dtype)])  # biases are weights of 1
        self.labels, self.classes = labels, classes
        self.penalty = np.full(self.x.shape[1], 1 / (strength * len(x)))
        self.penalty[-1] = 0  # they are free
        self.loss = fastloss.CrossEntropyLoss()
        self.logits, self.work, self.product = np.empty((3, len(x), classes))

    def of_logits(self, weights: np.ndarray, out: np.ndarray) -> np.ndarray:
        return np.matmul(self.x, weights.reshape(self.classes, -1).T, out=out)

    def of_weights(self, grad: np.ndarray, weights: np.ndarray) -> np.ndarray:
        result = grad.T @ self.x
        result += self.penalty * weights.reshape(result.shape)
        return result.ravel()

    def value_and_grad(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        self.of_logits(weights, self.logits)
        value, grad = self.loss.value_and_grad(self.logits, self.labels, grad_out=self.work)
        squares = weights.reshape(self.classes, -1) ** 2 @ self.penalty
        self.at, self.grad = weights.copy(), self.of_weights(grad, weights)
        return value + 0.5 * float(squares.sum()), self.grad

    def hessp(self, weights: np.ndarray, vector: np.ndarray) -> np.ndarray:
        if not np.array_equal(weights, self.at):  # the logits are those of the last value
            self.value_and_grad(weights)
        self.of_logits(vector, self.work)
        product = self.loss.hessp(self.logits, self.labels, self.work, out=self.product)
        return self.of_weights(product, vector)


def fit(
    x: np.ndarray, labels: np.ndarray, *, strength: float = 1.0, solver: str = "L-BFGS-B", tol: float = 1e-4
) -> tuple[np.ndarray, Any]:
    """Weights and biases, (classes, features + 1), and what SciPy says; by "L-BFGS-B" or "Newton-CG".

    It ends where the greatest slope is below `tol`, as LogisticRegression does.
    """
    of = Objective(x, labels, int(labels.max()) + 1, strength)
    start = np.zeros(of.classes * of.x.shape[1])
    if solver == "L-BFGS-B":
        options = {"maxiter": 1000, "maxls": 50, "gtol": tol, "ftol": 64 * np.finfo(float).eps}
        found = minimize(of.value_and_grad, start, jac=True, method=solver, options=options)
    else:

        def done(weights: np.ndarray) -> None:
            if np.abs(of.grad).max() <= tol:
                raise StopIteration

        found = minimize(of.value_and_grad, start, jac=True, hessp=of.hessp, method=solver, callback=done)
    return found.x.reshape(of.classes, -1), found


def main() -> None:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, labels = load_digits(return_X_y=True)
    x /= 16
    of = Objective(x, labels, 10, 1.0)
    values = []
    for solver in ("L-BFGS-B", "Newton-CG"):
        begun = time.perf_counter()
        weights, _ = fit(x, labels, solver=solver)
        seconds = time.perf_counter() - begun
        values.append(of.value_and_grad(weights.ravel())[0])
        print(f"fastloss, {solver:12}{seconds:8.3f} s, objective {values[-1]:.10f}")
    for solver in ("lbfgs", "newton-cg"):
        begun = time.perf_counter()
        model = LogisticRegression(solver=solver, max_iter=1000).fit(x, labels)
        seconds = time.perf_counter() - begun
        weights = np.column_stack([model.coef_, model.intercept_])
        values.append(of.value_and_grad(weights.ravel())[0])
        print(f"scikit-learn, {solver:8}{seconds:8.3f} s, objective {values[-1]:.10f}")
    assert max(values) - min(values) < 1e-4  # each ends where the slope is small, not at one point


if __name__ == "__main__":
    main()
