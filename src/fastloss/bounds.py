"""How far a result may be from the exact one, for docs/bounds.md, tests, checking(), self-check.

The exact result is that of the arguments as stored: the input in its own dtype, the others converted to the
dtype that is computed in. u is half an ulp of 1 in that dtype. A bound counts the roundings that the kernels
make, each as u of the number that is rounded; and what is below the smallest normal number, a term or a
result, may become 0. It holds on every instruction set: without fma a multiply-add is two roundings.

With d_j = x_j - max x, p = softmax(x), S = Σ exp(d_j) and L = log S, what all functions of softmax share is
the error of S, in which one own term is neither computed nor added: the greatest's, or a label's. With q, the
probability of all others, S is relatively off by, and L absolutely,

    s = u (SUM q + A) + e u Σ p_k |d_k|

    SUM u      both exponentials of a ratio, TERM each, 3.2; the ratio 1
    A u        additions, `_additions`: of C terms, in the loop's type, on the longest way through the sum
    e u |d_j|  exp(x_j) with a reference that moves exponents only: in float32 ln 2 as one number, NEAR, and
               in float64 0; where the greatest cannot be reduced, EXP: d_j rounded 1, and ln 2

The own term is a label's in `short_rows` and, if it does not vanish, in `rows`.

With a softcap x_j is what tanh makes of it, off by CAP u |x_j|, which comes to what d_j is off. A loss of a
label that is a function φ of its cross-entropy is off by what that is off times φ', and by what p and 1 - p
are off in φ.

A loss of softmax is Σ c_j (L - d_j), its gradient (Σ c_k - c_j) p_j - c_j (1 - p_j). Where the coefficients
have one sign no term cancels another; in general a bound is on the sum of the terms' magnitudes, here as
everywhere. What a term is multiplied by, c_j with all weights, reductions and whatever other options there
are, is read off the reference's gradient at places where the rest of the formula is 1.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import reference
from .reference import Array

# ulp of a result that is one term: sigmoid, log(1 + exp x), log x, (x - y)^2 (`bench exhaustive`: 1.51)
ULP = 2

# u of the numbers that are named, each rounding counted.
TERM = 1.6  # an exponential, beside what each unit of its argument brings: 1.51 in float64, 1.57 at |x| = 1e5
SUM = 2 * TERM + 1  # see above
# For each unit of its argument: where |max x| is at least FAR, and else in float32.
EXP, NEAR = 1.1, 0.05
FAR = {np.dtype(np.float32): 1e3, np.dtype(np.float64): 1e5}
# Additions. `planes`: up to 12 classes one by one, the first two to 0, or 8 and what is carried on 1.
# `short_rows`: in float64 to 16 lanes 6, to 4 of them 3, to one 2; in float32 to 32 2, to 8 3, to one 3, and
# beside the greatest, to one 6. From 128 classes on 64 of them in fewer, and storing what float64 adds up
# without loss 1.
PLANES, SHORT_32, SHORT_64 = 11, 8, 11
SHORT_BYTES = 1024  # of a row of numbers; `short_rows` has those of less
MAP = 3  # softmax, beside exponentials and additions: others + own 1, 1 / S 1, * 1
LOG = 3  # log(1 + others): 2.7
ROW = 4  # L - d_t: log 3, beside which d_t 1; - 1
# Σ c_j (L - d_j): of Σ c_j d_j d_j 1, * 1, additions up to DOT_ADDED; of the entropy also both exponentials
# 3.2, S 1, / 1. Of L's part log 3, Σ c_j 1, * 1, the label's part 1. And - 1, storing 1. Of smoothed labels
# (k + Σ c) ℓ, at most 3/2 of the sum, 6, and of c Σ (x_j - x_t), at most the sum, 2 and additions; - 1.
DOT, DOT_ADDED = 9, 11
# The gradient's terms, beside p_j s. (Σ c - c_j) p_j: exponentials 3.2, Σ c - c_j 3, * 1, - 1, the factor 3,
# * 1. c_j (1 - p_j): exponentials 3.2, others / 1, c_j 1, * 1, - 1, the factor 3, / 1; where p_j < 1/2
# exponentials 1, additions that s lacks 2.1, exp / 1, 1 - exp 1, + 1. Of a label alone no Σ c, c_j and -.
ENTRY, ENTRY_OF_LABEL = 13, 8
# The sum of all coefficients, in float64, when one that may be nearly all of it is subtracted: 7 + 5 + 4. In
# tiles it is the greatest and the sum of the others, which additions are lost of.
TOTAL = 16
# Σ -p_j log p_j: log 1, joining its two parts 1, * 1, storing 1; and additions, of float64 7, lanes 3.
ENTROPY, ENTROPY_ADDED = 4, 10
# A loss of two terms: exp 1.7 or log 1, log1p 0.8, each product 1, their sum 1, storing 1. Without fma also
# (x - y) / (x (1 - x)): 1 + 2, 1 / 1, * 1, storing 1.
POINT = 6
# Of the normal distribution: x - y twice 2, / 1, * 1, log 1, their sum 1, the constant 1, eps 1.
GAUSSIAN = 8
# Focal loss: cross-entropy 6, the power * 1, and storing 1; with alpha 4 more; in the derivative 12 more for
# sigmoid(-|x|) 3.6 and what multiplies it 4, / 1, the factors 2, the sum 1. The power of 1 - p_t, for each
# unit of gamma 8: that itself 6, and * 1, or its logarithm 1 and exponential 1; of the exponent 3 more.
FOCAL, FOCAL_SLOPE, FOCAL_POWER, FOCAL_LOG, ALPHA = 8, 12, 8, 3, 4
POS = 3  # and with pos_weight: its product with y 1, the sum with 1 - y 1, the product with log1p 1
SMOOTHING = 4  # c_j with label smoothing ε: 1 - ε or ε/C 1, * 1, + 1, their sum over the classes 1
SCALE = 2  # a number that all is multiplied by, grad_output or 1 / divisor: converted 1, * 1
# a tanh(x / a) by y = -2 |x| / a, f = exp(y) - 1 and r = 1 / (2 + f): 2 / a 1, * 1, f 1.5, r 2, of which the
# first two count twice at most, a 1, a f r 2. Its derivative 4 e r^2: e 1.7, r 3 each, products 2, storing
# 1; and e's argument, off by 2, for each unit of it.
CAP, CAP_SLOPE, CAP_EXP = 11, 11, 2.2
SCALED = 2  # of derivatives by x: the factor they have, * 1
# φ and its slope: p or 1 - p 4 beside exponentials and their sum, each power, product and quotient 1, storing
# 1; x^a by a logarithm and an exponential, for each unit of a log x 2.5, and else a - 1 products.
HEAD, POWER = 8, 2.5
ANCHOR = 42  # a label's ℓ from which on the greatest takes its place in log S, log 2^60
# What terms of second derivatives have more than the gradient's: 1 - p_j, or another factor, 3, * 1, * 1,
# their sum 1. In sigmoid focal loss the square of (log m)', and (log m)'', 12 more.
CURVE, FOCAL_CURVE = 6, 18
# Of a divergence from logits: u for s - t, the maxima's difference and the mean 1 each, times 1 / T. p: exp
# TERM, / T 1, / S 1. expm1(u) 3, - f 1, * p 1, the factor 3. exp(u) - 1 - u where the difference is taken,
# from 0.34 on, 2.5 of exp(u) - 1 which is 6 times as much, 15, and * p 1.
DIVERGENCE_U, DIVERGENCE_P, DIVERGENCE, DIVERGENCE_PHI = 3, 5, 8, 16
PSI = 6  # z_loss s^2, s = m + L: s 1, both products 1, z_loss 1, added 1, storing 1
# p (g - s): the product 1, storing 1, the difference 1; s, in u Σ p |g|: each product 1, additions 4. Of
# log_softmax p s, in u p Σ |g|: exp 2, additions 4, * 1. p (1 - p) g: 1 - p 1, * 1, * 1.
VJP, LOG_VJP, SIGMOID_VJP = 5, 7, 3
LGAMMA = 8  # the logarithm of a factorial in float64, 4 ulp
# Of float64: a sum of values, two plain additions 2, then without loss, 1; the divisor 1; the quotient 1.
TOTALS = 5

# The reference's functions are within 1 ulp, which is 2 u, and its sums are long: it may be off by this many
# times its bound in float64, as of an implementation that rounds x - max x.
REFERENCE = 4

MAPS = ("softmax", "log_softmax", "sigmoid", "logsigmoid")

#: The formula of s and the table of docs/bounds.md.
SHARED = f"u ({SUM} q + A) + e u Σₖ pₖ·abs(dₖ)"
TABLE = (
    (
        "`sigmoid`, `logsigmoid`, `mse_loss`; `binary_cross_entropy_with_logits` and `binary_cross_entropy`"
        " with targets 0 and 1; `soft_margin_loss` with 1 and −1; values and gradients",
        f"{ULP} ulp",
    ),
    (
        "binary cross-entropies with other targets, `multilabel_soft_margin_loss`, `kl_div`,"
        " `poisson_nll_loss`",
        f"{POINT}u of the sum of the terms' magnitudes",
    ),
    ("the division by C in `multilabel_soft_margin_loss`", f"u of it more, {SCALE}u in the gradient"),
    ("`gaussian_nll_loss`", f"{GAUSSIAN}u of the sum of the terms' magnitudes"),
    (
        "`sigmoid_focal_loss`",
        f"({FOCAL} + γ ({FOCAL_POWER} + {FOCAL_LOG}·abs(log(1 − p_t))))u of it; {ALPHA}u more with `alpha`,"
        f" {FOCAL_SLOPE}u in the gradient",
    ),
    (
        "`soft_margin_loss` with other targets",
        "u·abs(x y)·sigmoid(−x y), of the gradient u (1 + abs(x y)) of it, more",
    ),
    (
        "`binary_cross_entropy_with_logits` with `pos_weight`",
        f"{POINT + POS}u of the sum of the terms' magnitudes",
    ),
    ("`nll_loss`", "u of the value"),
    ("`logsumexp`", f"s + u (abs(max x + L) + {LOG}L)"),
    ("`log_softmax`", f"s + u (2·abs(dⱼ) + {LOG + 1}L)"),
    (
        "`softmax_vjp`",
        f"{VJP}u (abs(pⱼ (gⱼ − Σₖ pₖ gₖ)) + pⱼ Σₖ pₖ·abs(gₖ))",
    ),
    ("`log_softmax_vjp`", f"u (abs(gⱼ − pⱼ Σₖ gₖ) + {LOG_VJP}pⱼ Σₖ abs(gₖ))"),
    ("`sigmoid_vjp`", f"{SIGMOID_VJP}u of it"),
    (
        f"`softmax`; B is A, but of less than {SHORT_BYTES // 4} classes at least min(C − 1, {SHORT_32}),"
        f" in float64 of less than {SHORT_BYTES // 8} min(C − 1, {SHORT_64})",
        f"pⱼ u ({2 * TERM} (1 − pⱼ) + {MAP} + B + e (abs(dⱼ) + Σₖ pₖ·abs(dₖ)))",
    ),
    ("`entropy`", f"({ENTROPY} + min(C, {ENTROPY_ADDED}))u Σⱼ abs(pⱼ log pⱼ)"),
    (
        "`entropy_from_logits` H",
        f"s (1 + Σⱼ pⱼ·abs(dⱼ)) + u (({DOT} + min(C, {DOT_ADDED}))H + e Σⱼ pⱼ·dⱼ²)",
    ),
    ("`cross_entropy` of a label", f"s + ({ROW} + e)u of the value"),
    (
        "`cross_entropy` with smoothing or probabilities, `multinomial_nll_loss`",
        f"s Σⱼ abs(cⱼ) + ({DOT} + min(C, {DOT_ADDED}))u Σⱼ abs(cⱼ)·(L − dⱼ)",
    ),
    (
        "`kl_div_with_logits`, T² times log1p(f) of f = Σ pⱼ φⱼ, φⱼ = exp(uⱼ) − 1 − uⱼ, with what pⱼ is off,"
        f" u ({DIVERGENCE_P} + A + {2 * DOT_ADDED} + rⱼ + Σₖ pₖ rₖ),"
        f" rⱼ = {2 + EXP}·abs(dⱼ) + 2·abs(teacherⱼ / T), and uⱼ, ε ="
        f" u ({DIVERGENCE_U}·abs(wⱼ) + {DIVERGENCE_U + DOT_ADDED} Σₖ pₖ·abs(wₖ) + 2·abs(uⱼ)),"
        " w = (input − teacher − the same of the maxima) / T",
        f"Σⱼ pⱼ (φⱼ·(what pⱼ is off + {DIVERGENCE_PHI}u) + ε·abs(exp(uⱼ) − 1)), and terms of second order",
    ),
    ("the constant of `full=True`", "u of the sum of its terms' magnitudes"),
    (
        f"`generalized_cross_entropy`, `poly_loss`: φ of ℓ = −log p_t, off by ε = s + ({ROW} + e)uℓ",
        f"φ′·ε + {ROW + HEAD}u of the sum of φ's terms' magnitudes",
    ),
    (
        "`focal_loss`, likewise",
        f"φ′·ε + {ROW + HEAD}u φ + γu ({HEAD - 3} + {POWER}·abs(log(1 − p_t))) φ",
    ),
    ("what φ′, a factor of their gradients, is off", f"φ″·ε, and as much of φ′ as there of φ, + {HEAD}u φ′"),
    (
        "`z_loss` λ, with S = max x + L",
        f"λ (2·abs(S)·(s + u (abs(S) + {LOG}L)) + {PSI}u S²), with a label {LOG} min(ℓ, {ANCHOR}) for {LOG}L"
        " if that is more; in the gradient its derivative",
    ),
    (
        "`softcap` a",
        f"that of xⱼ, off by {CAP}u·abs(xⱼ); and of the gradient's factor,"
        f" u ({CAP_SLOPE} + {2 * CAP_EXP}·abs(x / a)),"
        " which is 0 where exp(−2·abs(x / a)) is below the smallest number",
    ),
    (
        "`scale` and `bias`: logits are read off by their rounding; derivatives by x",
        f"u·abs(scale·xⱼ), and with a bias u·abs(scale·xⱼ + bias) more; {SCALED}u of it more",
    ),
    (
        "derivatives by `scale` and `bias` of N samples",
        "what the terms of their sums are off, and N · 2⁻⁵³ of the sum of the terms' magnitudes",
    ),
    (
        f"entries of their gradients; of a label alone {ENTRY_OF_LABEL} for {ENTRY}",
        f"pⱼ (s + e u·abs(dⱼ)) Σₖ abs(cₖ) + {ENTRY}u ((Σₖ abs(cₖ) − abs(cⱼ))·pⱼ + abs(cⱼ)·(1 − pⱼ))",
    ),
    ("with class probabilities", "A u (Σₖ abs(cₖ) − max abs(cₖ))·pⱼ more"),
    ("with `weight`, `sample_weight`, `grad_output`", "u of the sum of the terms' magnitudes more, for each"),
    (
        "the Hessian's diagonal without classes; `sigmoid_focal_loss`",
        f"what the gradient is with targets beside 0 and 1, but of the sum of its own terms' magnitudes, and"
        f" {CURVE}u of that more; {FOCAL_CURVE}u",
    ),
    (
        "with classes its terms a pⱼ (1 − pⱼ), φ″ (pⱼ − [j = t])² and ψ″ pⱼ²; of a label alone"
        f" {ENTRY_OF_LABEL} for {ENTRY}",
        "pⱼ (s + e u·abs(dⱼ)) (abs(a) + 2·(abs(φ″) + ψ″) pⱼ), what a and φ″ are off,"
        f" and ({ENTRY} + {CURVE})u of the sum of their magnitudes",
    ),
    ('with another rule than "exact" and "residual"', f"{SCALE}u of it more"),
    (
        "the Hessian times v: its rows' terms times vₖ",
        f"what they are off, and {3 * DOT + DOT_ADDED}u of the sum of their magnitudes more",
    ),
    (
        "`linear_cross_entropy`, whose logits are off by o = (D + 1)u (abs(x)·abs(W) + abs(b)); gradients",
        "that of `cross_entropy`, and 2·o·Σⱼ abs(cⱼ); that of G, and (exp(2·o) − 1)·pⱼ·Σₖ abs(cₖ), times"
        " the other factor's magnitudes, and as many u of the products' terms as there are",
    ),
    ("with label smoothing", f"{SMOOTHING}u of it more"),
    ("derivatives of means, or with a number as `grad_output`", f"{SCALE}u of it more"),
    ('"mean" and "sum"', f"what the values add up to, and {TOTALS} · 2⁻⁵³ of the sum of their magnitudes"),
    ("results of half precision", "½ ulp more"),
)


class Bounds(NamedTuple):
    """What value, gradient and the Hessian's diagonal of a loss may be off by; shaped as they are."""

    value: Any
    grad: Array
    hess: Array | None = None  # with `hessian` among the options


class LinearBounds(NamedTuple):
    """The same of linear cross-entropy, whose gradients are by input, weight and bias."""

    value: Any
    input: Array
    weight: Array
    bias: Array


# ------------------------------------------------------------------------------------------ numbers


def _is_bfloat16(dtype: Any) -> bool:
    dtype = np.dtype(dtype)
    return bool(dtype.name == "bfloat16" or dtype.names == ("bfloat16",))


def unit(dtype: Any) -> float:
    """u: half an ulp of 1."""
    return 2.0**-8 if _is_bfloat16(dtype) else float(np.finfo(dtype).eps) / 2


def smallest(dtype: Any) -> float:
    """The smallest normal number."""
    return 2.0**-126 if _is_bfloat16(dtype) else float(np.finfo(dtype).tiny)


def largest(dtype: Any) -> float:
    """The largest number."""
    return (2 - 2.0**-7) * 2.0**127 if _is_bfloat16(dtype) else float(np.finfo(dtype).max)


def ulp(x: ArrayLike, dtype: Any) -> Array:
    """Distance between the numbers of a dtype at x."""
    exponent = np.frexp(np.maximum(np.abs(np.asarray(x, np.float64)), smallest(dtype)))[1]
    return np.asarray(np.ldexp(unit(dtype), exponent))


@np.errstate(all="ignore")
def rounded(bound: ArrayLike, truth: ArrayLike, dtype: Any) -> Array:
    """The bound of a result that is rounded once more, to `dtype`."""
    size = np.abs(np.asarray(truth, np.float64)) + bound
    return np.asarray(bound + np.where(np.isfinite(size), ulp(size, dtype) / 2, 0.0))


@np.errstate(all="ignore")
def shares(got: ArrayLike, want: ArrayLike, bound: ArrayLike, overflow: float = math.inf) -> Array:
    """Each |got - want| as a share of its bound: above 1 it is wrong, inf if only one of them is inf or NaN.

    From `overflow` on, inf is right.
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    same |= np.isinf(got) & (np.abs(want) >= overflow) & (np.sign(got) == np.sign(want))
    share = np.abs(got - want) / bound
    return np.where(same, 0.0, np.where(np.isnan(share), np.inf, share))


def _known(bound: Array) -> Array:
    """A bound, or inf where it is NaN: its terms overflow, or the result is NaN, too."""
    return np.where(np.isnan(bound), np.inf, bound)


def against_reference(of: Callable[..., Any], dtype: Any, *args: Any, **options: Any) -> Any:
    """`of` these arguments, a function here, and what the reference itself may be off."""
    times = REFERENCE * unit(np.float64) / unit(dtype)
    found, more = (of(*args, dtype=dtype, shifted=shifted, **options) for shifted in (False, True))
    if isinstance(found, Bounds | LinearBounds):
        both = zip(found, more, strict=True)
        parts: list[Any] = [None if part is None else part + times * other for part, other in both]
        return type(found)(*parts)
    if isinstance(found, tuple):
        return tuple(part + times * other for part, other in zip(found, more, strict=True))
    return found + times * more


# ---------------------------------------------------------------------------------- array functions


def _additions(classes: int, u: float, others: Array) -> Array:
    """A: what a sum of exponentials loses in u of all; `others` is the probability of all but the own term.

    `tiles` never add that. `rows` may, where the others are 0.9 of it or more: the last steps of a row, 7 or
    less, one by one, and the halves of a step; in float64 8 lanes 3, what was lost 1, - own 1, + label 1.
    """
    single = u > unit(np.float64)
    tiles = min(max(classes - 2, 0), PLANES if single else SHORT_64)
    rows = min(-(-classes // 16), 7) if single else min(classes, -(-classes // 8) + 5, 12)
    return np.asarray(np.maximum(tiles * others, rows * np.minimum(2.2 * others, 1.0)))


class _Row:
    """Of logits with the classes last: the parts of the formulas, and the relative error of S."""

    def __init__(self, x: Array, u: float, shifted: bool) -> None:
        row = reference._shift(x)
        self.m, self.p, self.not_p, self.log_sum, self.far = row.m, row.p, row.not_p, row.L, np.abs(row.d)
        self.d = np.where(np.isinf(row.d), 0.0, self.far)  # |d|, of classes that are not masked
        self.spread = (row.p * self.d).sum(-1, keepdims=True)
        single = u > unit(np.float64)
        most = FAR[np.dtype(np.float32 if single else np.float64)] * 0.999  # that of capped logits is rounded
        self.exp = np.where((np.abs(row.m) < most) & (not shifted), NEAR if single else 0.0, EXP)  # e
        self.u, self.not_top = u, row.not_p.min(-1, keepdims=True)
        self.additions = _additions(x.shape[-1], u, self.not_top)
        self.sum_error = self.error_beside(self.not_top)

    def error_beside(self, others: Array) -> Array:
        """s; `others` is the probability of all but the own term."""
        lost = SUM * others + _additions(self.p.shape[-1], self.u, others)
        return np.asarray(self.u * (lost + self.exp * self.spread))


@np.errstate(all="ignore")
def array_function(
    name: str,
    x: ArrayLike,
    axis: reference.Axis = -1,
    *,
    dtype: Any,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    shifted: bool = False,
) -> Array:
    """Bound of an array function that is computed in `dtype`, float32 or float64; shaped as the result.

    `shifted`: of an implementation that rounds x - max x, whatever max x is, as the reference does.
    """
    u, tiny = unit(dtype), smallest(dtype)
    x = reference._where(where, x, 0.0 if name == "entropy" else -math.inf)
    if name in ("sigmoid", "logsigmoid"):
        return _known(ULP * ulp(getattr(reference, name)(x), dtype) + tiny)
    shape, x = x.shape, reference._classes_together(x, axis, 0.0 if name == "entropy" else -math.inf)
    if name == "entropy":
        terms = x * np.log(np.where(x > 0, x, 1.0))
        return _known((ENTROPY + min(x.shape[-1], ENTROPY_ADDED)) * u * np.abs(terms).sum(-1) + tiny)
    row, classes = _Row(x, u, shifted), x.shape[-1]
    if name == "softmax":  # `short_rows` add the greatest to the others, however much it is of the sum
        together, size = (SHORT_32, 4) if u > unit(np.float64) else (SHORT_64, 8)
        added = np.maximum(row.additions, min(classes - 1, together) if classes * size < SHORT_BYTES else 0)
        bound = row.p * u * (2 * TERM * row.not_p + MAP + added + row.exp * (row.d + row.spread))
    elif name == "log_softmax":  # x_j - max x 1, - L 1, or m + L and x_j less that as two numbers
        bound = row.sum_error + u * (2 * row.d + (LOG + 1) * row.log_sum)
    elif name == "logsumexp":  # m + L 1, in float64 where it is stored as float32
        bound = row.sum_error + u * (np.abs(row.m + row.log_sum) + LOG * row.log_sum)
    else:  # L - Σ exp(d_j) d_j / S, a loss whose coefficients are off by what exp and S are
        squares, dot = (row.p * row.d * row.d).sum(-1, keepdims=True), DOT + min(classes, DOT_ADDED)
        bound = row.sum_error * (1 + row.spread) + u * (dot * (row.log_sum + row.spread) + row.exp * squares)
    bound = _known(bound + tiny)
    if name in MAPS:
        return reference._classes_apart(bound, shape, axis)
    return bound.reshape(reference._reduced_shape(shape, axis)) if keepdims else bound[..., 0]


@np.errstate(all="ignore")
def vjp(
    name: str, result: ArrayLike, grad_output: ArrayLike, axis: Any = -1, *, dtype: Any, shifted: bool = False
) -> Array:
    """Bound of `softmax_vjp`, `log_softmax_vjp` and `sigmoid_vjp`; shaped as the result."""
    u, tiny = unit(dtype), smallest(dtype)
    x, g = reference._float64(result), np.abs(reference._float64(grad_output))
    exact = np.abs(getattr(reference, name)(result, grad_output, *([] if name == "sigmoid_vjp" else [axis])))
    if name == "sigmoid_vjp":
        return _known(SIGMOID_VJP * u * exact + tiny)
    if name == "softmax_vjp":
        total = reference._times(np.abs(x), g).sum(axis, keepdims=True)
        return _known(VJP * u * (exact + np.abs(x) * total) + tiny)
    p, total = np.exp(x), g.sum(axis, keepdims=True)
    return _known(u * (exact + LOG_VJP * p * total) + tiny * (1 + total))


# -------------------------------------------------------------------------------------------- losses


class _Terms(NamedTuple):
    """Bounds of the values under "none", their terms' magnitudes, and bounds of the gradient's entries."""

    values: Array
    sizes: Array
    entries: Array
    second: _Element | _Second | _Several


def _of(name: str, shifted: bool) -> Callable[..., _Terms]:
    if name == "kl_div_with_logits":
        return functools.partial(_of_distillation, shifted=shifted)
    with_classes = name in ("cross_entropy", "multinomial_nll_loss", *_HEADS)
    return functools.partial(_of_classes, shifted=shifted) if with_classes else _of_points


def _twin(name: str) -> Callable[..., Any]:
    """The reference of a loss, which takes any target."""
    function: Callable[..., Any] = getattr(reference, name)
    takes = "unchecked" in inspect.signature(function).parameters
    return functools.partial(function, unchecked=True) if takes else function


@np.errstate(all="ignore")
def loss(
    name: str, input: ArrayLike, target: ArrayLike, /, *, dtype: Any, shifted: bool = False, **options: Any
) -> Bounds:
    """Bounds of a loss that is computed in `dtype`, float32 or float64, with its reference's options.

    `shifted` as in `array_function`.
    """
    x, tiny, of = np.asarray(input).astype(np.float64), smallest(dtype), _of(name, shifted)
    hessian, floor = options.pop("hessian", None), options.pop("floor", 0.0)
    upstream = options.pop("grad_output", None)
    found = of(name, x, target, dtype, options)
    values, sizes = _known(found.values), _known(found.sizes)
    if upstream is not None:
        found = of(name, x, target, dtype, {**options, "grad_output": upstream})
    lost = tiny * _largest(options.get("scale"))  # by which a gradient is multiplied last, beside a Hessian
    entries, hess = _known(found.entries) + lost, None
    if hessian is not None:
        hess = entries + unit(dtype) * max(floor, 0.0)
        if hessian != "residual":
            times, (terms, error) = found.second.times(hessian), found.second.diagonal()
            more = SCALE * unit(dtype) * terms if times != 1 else 0.0
            lost *= _largest(options.get("scale"))
            hess = times * (_known(error + more) + lost) + unit(dtype) * max(floor, 0.0)
    if options.get("reduction", "mean") == "none":
        return Bounds(values + tiny, entries, hess)
    total = float(values.sum()) + TOTALS * unit(np.float64) * float(sizes.sum())
    return Bounds(total, entries, hess)


@np.errstate(all="ignore")
def hessp(
    name: str,
    input: ArrayLike,
    target: ArrayLike,
    vector: ArrayLike,
    /,
    *,
    dtype: Any,
    shifted: bool = False,
    **options: Any,
) -> Array:
    """Bound of the product of the Hessian and a vector, shaped as that."""
    x = np.asarray(input).astype(np.float64)
    found = _of(name, shifted)(name, x, target, dtype, options)
    return _known(found.second.product(np.asarray(vector).astype(np.float64))) + smallest(dtype)


@np.errstate(all="ignore")
def scaling_grad(
    name: str, input: ArrayLike, target: ArrayLike, *, dtype: Any, shifted: bool = False, **options: Any
) -> tuple[Any, Array]:
    """Bounds of the derivatives by scale and bias, shaped as they are."""
    x = np.asarray(input).astype(np.float64)
    axis = reference._class_axis(x, options.get("axis")) % x.ndim
    scale, x_last = options.get("scale", 1.0), np.moveaxis(x, axis, -1)
    factor = np.where(np.asarray(scale, np.float64) == 0, 1.0, np.abs(scale))
    entries = (
        np.moveaxis(loss(name, x, target, dtype=dtype, shifted=shifted, **options).grad, axis, -1) / factor
    )
    if (np.asarray(scale) == 0).any():  # whose logits have no rounding, but whose gradient by x says nothing
        z = np.moveaxis(reference._scaled(x_last, scale, options.get("bias")), -1, axis)
        more = {**options, "scale": 1.0, "bias": None}
        found = loss(name, z, target, dtype=dtype, shifted=shifted, **more).grad
        entries = np.where(np.asarray(scale) == 0, np.moveaxis(found, axis, -1) * 2, entries)
    z = np.moveaxis(reference._scaled(x_last, scale, options.get("bias")), -1, axis)
    more = {k: v for k, v in options.items() if k not in ("scale", "bias")}
    sizes = np.moveaxis(np.abs(getattr(reference, name)(z, target, **more)[1]), axis, -1)
    samples = tuple(range(x.ndim - 1))
    error = entries + (x[..., 0].size + x.shape[axis]) * unit(np.float64) * sizes
    far = np.where(np.isinf(x_last) | np.isnan(x_last), 0.0, np.abs(x_last))
    by_class = _known(error * far).sum(samples)
    return by_class if np.ndim(scale) else float(by_class.sum()), _known(error).sum(samples)


def _sum_error(terms: int, u: float) -> float:
    """What a sum of products, however it is added up, is off in each of its terms' magnitudes."""
    return terms * u / (1 - terms * u) if terms * u < 1 else math.inf


@np.errstate(all="ignore")
def linear(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    dtype: Any,
    shifted: bool = False,
    linear_bias: ArrayLike | None = None,
    **options: Any,
) -> LinearBounds:
    """Bounds of linear cross-entropy that is computed in `dtype`, with its reference's options.

    A logit is off by o, the D + 1 roundings of its sum; the value of a row then by 2 o Σ c_j, and p_j
    relatively by exp(2 o) - 1, beside what the loss of the logits is off. The products carry that on, and
    have roundings of their own.
    """
    x, w = np.asarray(input).astype(np.float64), np.asarray(linear_weight).astype(np.float64)
    bias = np.zeros(len(w)) if linear_bias is None else np.asarray(linear_bias).astype(np.float64)
    features, u, tiny = w.shape[1], unit(dtype), smallest(dtype)
    options = {**options, "axis": -1}
    logits = x @ w.T + bias
    sizes = np.abs(x) @ np.abs(w).T + np.abs(bias)
    off = _sum_error(features + 1, u) * np.where(np.isfinite(sizes), sizes, 0.0) + (features + 1) * tiny
    off = off.max(-1, keepdims=True)
    of_loss = loss("cross_entropy", logits, target, dtype=dtype, shifted=shifted, **options)
    value, cap = of_loss.value, options.get("softcap")
    names = [name for name in options if name not in ("z_loss", "softcap", "chunk")]
    given: dict[str, Any] = {name: options[name] for name in names}
    z, known = options.get("z_loss") or 0.0, np.where(np.isnan(logits), 0.0, logits)
    capped = known if cap is None else cap * np.tanh(known / cap)
    log_sum = np.abs(reference.logsumexp(capped))[..., None]
    log_sum = np.where(np.isinf(log_sum), 0.0, log_sum)

    def factors(given: dict[str, Any]) -> tuple[Array, Any]:
        of_z = z * _factor("cross_entropy", known, target, known.ndim - 1, given) if z else 0.0
        return _coefficients("cross_entropy", known, target, known.ndim - 1, given), of_z

    c, of_z = factors({name: value for name, value in given.items() if name != "grad_output"})
    rows = (2 * off * c.sum(-1, keepdims=True) + of_z * off * (2 * log_sum + off))[..., 0]
    value = value + _known(rows if options.get("reduction") == "none" else rows.sum())
    c, of_z = factors(given)
    p, moved = reference.softmax(capped), np.expm1(2 * off)
    terms = (c.sum(-1, keepdims=True) + 2 * of_z * log_sum) * p
    entries = of_loss.grad + moved * terms + 2 * of_z * off * p * (1 + moved)
    if cap is not None:
        entries = entries + (terms + c) * off / cap
    grad = reference.cross_entropy(logits, target, **options)[1]
    counted = grad.any(-1)
    g, e, used = np.abs(grad[counted]), _known(entries[counted]), np.abs(x[counted])
    by_input = np.zeros_like(x)
    by_input[counted] = e @ np.abs(w) + _sum_error(len(w) + 1, u) * ((g + e) @ np.abs(w))
    times = _sum_error(len(g) + 1, u)
    by_weight, by_bias = (e + times * (g + e)).T @ used, (e + times * (g + e)).sum(0)
    return LinearBounds(value, *(_known(bound) + tiny for bound in (by_input, by_weight, by_bias)))


def _roundings(options: dict[str, Any], gradient: bool) -> int:
    """u of each term for the factors that options bring; a value's divisor is among TOTALS."""
    arrays = sum(options.get(name) is not None for name in ("weight", "sample_weight", "grad_output"))
    number = options.get("reduction", "mean") not in ("none", "sum") or options.get("grad_output") is not None
    return arrays + SMOOTHING * bool(options.get("label_smoothing")) + SCALE * (gradient and number)


def _largest(factor: ArrayLike | None) -> float:
    """The largest magnitude of a factor, or 1."""
    return 1.0 if factor is None else float(np.nan_to_num(np.abs(factor)).max(initial=1.0))


def _coefficients(name: str, x: Array, target: ArrayLike, axis: int, options: dict[str, Any]) -> Array:
    """|c_j| with its factors, classes last: the gradient where another class has all the probability."""
    classes = [-1 if i == axis else 1 for i in range(x.ndim)]
    first = np.arange(x.shape[axis]).reshape(classes) == 0
    function = _twin(name)
    one = function(np.broadcast_to(np.where(first, 0.0, -np.inf), x.shape), target, **options)[1]
    other = function(np.broadcast_to(np.where(first, -np.inf, 0.0), x.shape), target, **options)[1]
    c = np.abs(np.where(first, other, one)) if x.shape[axis] > 1 else 0 * one  # of one class the loss is 0
    return np.moveaxis(c, axis, -1)


#: What a loss of a label is called by, and its parameter.
_HEADS = {"focal_loss": "gamma", "generalized_cross_entropy": "q", "poly_loss": "epsilon"}
_DEFAULTS = {"focal_loss": 2.0, "generalized_cross_entropy": 0.7, "poly_loss": 1.0}


class _Head(NamedTuple):
    """φ, its slope and φ″ (1 - p)²: the magnitudes of their terms, and what they are off."""

    size: Array
    error: Array
    slope: Array
    slope_error: Array
    bend: Array
    bend_error: Array


def _head(name: str, parameter: float, ce: Array, p: Array, not_p: Array, error: Array, u: float) -> _Head:
    """Where the cross-entropy ``ce``, and the logarithm of p, are off by ``error``."""
    of_p = error + 4 * u
    of_not_p = np.where(not_p == 0, 0.0, p * error / not_p) + 4 * u
    if name == "generalized_cross_entropy":
        slope, size = np.exp(-parameter * ce), -np.expm1(-parameter * ce) / parameter
        off = np.where(slope == 0, 0.0, np.expm1(parameter * (error + EXP * u * ce) + HEAD * u))
        bend = parameter * slope * not_p**2
        slopes = slope, slope * off, bend, bend * (off + 2 * of_not_p)
        return _Head(size, slope * error + HEAD * u * size, *slopes)
    if name == "poly_loss":
        size, slope = ce + abs(parameter) * not_p, 1 + abs(parameter) * p
        bend = abs(parameter) * p * not_p**2
        slopes = slope, slope * (of_p + HEAD * u), bend, bend * (of_p + 2 * of_not_p + HEAD * u)
        return _Head(size, slope * error + HEAD * u * size, *slopes)
    power = np.where(not_p == 0, float(parameter == 0), not_p**parameter)
    far = np.where(not_p == 0, 0.0, parameter * -np.log(not_p))
    off = np.expm1(np.minimum(parameter * (of_not_p + u) + u * (POWER * far + HEAD), 50.0))
    p_ce = np.where(np.isinf(ce), 0.0, p * ce)
    ratio = parameter * np.where(not_p == 0, p, p_ce / not_p)
    of_ratio = of_p + of_not_p + np.where(ce == 0, 0.0, error / ce) + HEAD * u
    bend = parameter * power * ((2 * p + p_ce) * not_p + abs(parameter - 1) * p_ce * p)
    return _Head(
        power * ce,
        power * (off * ce + error),
        power * (1 + ratio),
        power * (off * (1 + ratio) + ratio * of_ratio),
        bend,
        bend * (off + of_p + 2 * of_not_p + of_ratio),
    )


def _factor(name: str, x: Array, target: ArrayLike, axis: int, options: dict[str, Any]) -> Array:
    """What z_loss is multiplied by, classes last: from a class whose logarithm of the sum is 1/2."""
    at = np.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)]) == 0
    place = np.broadcast_to(np.where(at, 0.5, -np.inf), x.shape)
    one, none = (_twin(name)(place, target, **options, z_loss=z)[1] for z in (1.0, 0.0))
    return np.asarray(np.abs(np.moveaxis(one - none, axis, -1)[..., :1]))


class _Off(NamedTuple):
    """Of capped logits: what d_j and the maximum are off; the slope, and what that is off relatively."""

    d: Any
    top: Any
    slope: Any
    of_slope: Any
    bend: Any  # the second derivative, which 2 tanh(x / cap) / cap makes of the slope


def _read(x: Array, options: dict[str, Any], u: float) -> tuple[Array, _Off]:
    """Logits, classes last, as they are read, and what these are off."""
    cap, scale, bias = options.get("softcap"), options.get("scale", 1.0), options.get("bias")
    plain = bias is None and np.ndim(scale) == 0 and scale == 1
    if cap is None and plain:
        return x, _Off(0.0, 0.0, 1.0, 0.0, 0.0)
    z = reference._scaled(x, scale, bias)
    y, slope, bend = reference._read(x, cap, scale, bias)
    size = np.where(np.isinf(z), 0.0, np.abs(z))
    off, of_slope = 0.0 * size, 0.0 if plain else u * SCALED
    if not plain:  # without fma the product is rounded as well
        off = u * (size if bias is None else size + np.where(np.isinf(x), 0.0, np.abs(scale * x)))
    if cap is not None:
        far = np.where(np.isinf(z), 0.0, np.abs(2 * z / cap))
        tiny = smallest(np.float32 if u > unit(np.float64) else np.float64)
        of_slope = of_slope + u * (CAP_SLOPE + CAP_EXP * far) + 2 * off / cap
        of_slope = of_slope + 2 * tiny * np.exp(np.minimum(far, 709))  # e may vanish
        off = off + CAP * u * np.where(np.isinf(y), 0.0, np.abs(y))
    at = np.arange(y.shape[-1]) == y.argmax(-1)[..., None]
    top = np.where(at, off, 0.0).sum(-1, keepdims=True)
    slope = np.abs(np.asarray(slope))
    return y, _Off(np.where(at, 0.0, off + top), top, slope, of_slope, np.abs(bend))


def _constants(counts: Array, total: Array) -> Array:
    """Of the constants of full=True, times weights that add up to `total`: their terms' magnitudes."""
    counts = np.abs(counts)
    n = counts.sum(-1)
    sizes: Array = np.abs(reference._lgamma(counts + 1)).sum(-1) + np.abs(reference._lgamma(n + 1))
    return sizes * np.where(n > 0, total / n, 0.0)


def _of_classes(
    name: str, x: Array, target: ArrayLike, dtype: Any, options: dict[str, Any], *, shifted: bool
) -> _Terms:
    u, u64, tiny = unit(dtype), unit(np.float64), smallest(dtype)
    axis = reference._class_axis(x, options.get("axis")) % x.ndim
    read = ("z_loss", "softcap", "scale", "bias", *_HEADS.values())
    plain = {k: v for k, v in options.items() if k not in read}
    of = "cross_entropy" if name in _HEADS else name
    c = _coefficients(of, x, target, axis, plain)
    total = c.sum(-1, keepdims=True)
    used, z = total != 0, options.get("z_loss") or 0.0
    factor = z * _factor(of, x, target, axis, plain) if z else 0.0
    used = used | (np.asarray(factor) != 0)
    x = np.where(used, np.moveaxis(x, axis, -1), 0.0)  # an ignored one may hold NaN
    x, off = _read(x, options, u)
    row, classes = _Row(x, u, shifted), x.shape[-1]
    soft = np.shape(target) == np.moveaxis(x, -1, axis).shape
    label = not soft and not options.get("label_smoothing")
    anchor = row.log_sum  # log of the sum as what may be computed, beside a label's own term
    if label:
        own = np.asarray(target)[..., None] == np.arange(classes)
        row.sum_error = row.error_beside(np.maximum((own * row.not_p).sum(-1, keepdims=True), row.not_top))
        own_ce = np.where(own, row.log_sum + row.far, 0.0).sum(-1, keepdims=True)
        anchor = np.maximum(anchor, np.minimum(own_ce, ANCHOR))
    row.sum_error = row.sum_error + (row.p * off.d).sum(-1, keepdims=True)
    extra = _roundings(options, False)
    sizes = reference._times(c, row.log_sum + row.far)
    flushed = np.minimum(c, tiny * _largest(options.get("sample_weight")))  # of the coefficients themselves
    error = row.sum_error + tiny
    value = total * error + reference._times(c, off.d).sum(-1, keepdims=True)
    value = value + reference._times(flushed, row.log_sum + row.far).sum(-1, keepdims=True)
    head: Any = None
    if name in _HEADS:
        parameter = options.get(_HEADS[name], _DEFAULTS[name])
        ce = row.log_sum + row.far
        error = np.where(np.isinf(ce), 0.0, error + off.d + u * (ROW + row.exp) * ce)
        head = _head(name, parameter, ce, row.p, row.not_p, error, u)
        sizes = reference._times(c, head.size)
        value = (reference._times(c, head.error) + c * tiny).sum(-1, keepdims=True)
    size = sizes.sum(-1, keepdims=True)
    value = value + u * ((ROW + row.exp if label else DOT + min(classes, DOT_ADDED)) + extra) * size
    square: Any = 0.0
    of_square: Any = 0.0
    if z:
        s = row.m + row.log_sum
        of_s = row.sum_error + off.top + u * (np.abs(s) + LOG * anchor)
        square = 2 * factor * np.abs(s)
        value, size = value + square * of_s + u * (PSI + extra) * factor * s * s, size + factor * s * s
        of_square = 2 * factor * of_s + (PSI * u + tiny) * square
    value, size = value[..., 0], size[..., 0]
    if options.get("full"):
        constants = _constants(np.moveaxis(np.asarray(target).astype(np.float64), axis, -1), total[..., 0])
        value, size = value + (u * (1 + extra) + u64 * LGAMMA) * constants, size + constants
    own, several = c != 0, np.count_nonzero(c, -1, keepdims=True) > 1
    bend = of_bend = of_c = np.zeros_like(c[..., :1])
    if head is not None:
        flushed = flushed + tiny * c
        of_c, bend, of_bend = (
            np.where(c != 0, c * part, 0.0).sum(-1, keepdims=True)
            for part in (head.slope_error, head.bend, head.bend_error)
        )
        c = c * head.slope
    total = c.sum(-1, keepdims=True) + square
    lost = np.where(several, TOTAL * u64 * total, 0.0)
    if soft:
        lost = lost + u * min(max(classes - 2, 0), PLANES) * (
            np.abs(c).sum(-1, keepdims=True) - np.abs(c).max(-1, keepdims=True)
        )
    terms = np.abs(total - c) * row.p + c * row.not_p
    entries = total * (row.p * (row.sum_error + row.exp * u * row.d + off.d) + tiny) + lost * row.p
    entries = entries + row.p * flushed.sum(-1, keepdims=True) + flushed
    times = ENTRY_OF_LABEL if label and not z and name not in _HEADS else ENTRY
    roundings = times + _roundings(options, True)
    entries = entries + u * roundings * terms
    entries = entries + np.where(c != 0, row.not_p, row.p) * of_c + row.p * of_square
    of_total = lost + of_c + of_square + flushed.sum(-1, keepdims=True)
    second = _Second(
        *(row, off, axis, dtype, roundings + CURVE, own, total, of_total, 2 * factor, bend, of_bend),
        *(terms, entries),
    )
    entries = off.slope * (entries + off.of_slope * terms) + (tiny * terms * (np.ndim(off.slope) > 0))
    return _Terms(value, size, np.moveaxis(entries, -1, axis), second)


class _Second(NamedTuple):
    """What the Hessian of a loss of softmax is made of, classes last, and what that is off.

    total (diag(p) - p p') + square p p' + bend r r', as in `reference._Curvature`; and for a softcap the
    gradient's terms, and its bound, before that.
    """

    row: _Row
    off: _Off
    axis: int
    dtype: Any
    roundings: int
    own: Array
    total: Array
    of_total: Array
    square: Any
    bend: Array
    of_bend: Array
    terms: Array
    entries: Array

    def times(self, hessian: Any) -> float:
        """How many times the exact diagonal a rule is, at most."""
        classes = self.row.p.shape[-1]
        many = {"exact": 1.0, "bound": 2.0, "friedman": classes / max(classes - 1, 1)}
        return many[hessian] if isinstance(hessian, str) else float(hessian)

    def near(self) -> Array:
        """What p_j is off relatively, beside roundings; times p_j what 1 - p_j is off."""
        return np.asarray(self.row.sum_error + self.row.exp * self.row.u * self.row.d + self.off.d)

    def ratio(self) -> Array:
        """Of the classes beside a label, their probabilities among themselves; 1 of the label."""
        rest = np.where(self.own, self.row.not_p, 0.0).sum(-1, keepdims=True)
        return np.where(self.own, 1.0, np.where(rest == 0, 0.0, self.row.p / rest))

    def of_gradient(self) -> Any:
        """What the gradient, times the second derivative of a softcap, is off."""
        u, off = self.row.u, self.off
        return off.bend * (self.entries + (off.of_slope + u * (CAP + self.roundings)) * self.terms)

    def diagonal(self) -> tuple[Array, Array]:
        """The terms' magnitudes, and what their sum is off."""
        p, not_p, near, off, tiny = self.row.p, self.row.not_p, self.near(), self.off, smallest(self.dtype)
        ratio = self.ratio() ** 2
        squares, curve = self.square * p * p, self.bend * ratio
        terms = self.total * p * not_p + squares + curve
        error = self.total * p * near + 2 * near * (squares + np.where(self.own, 0.0, curve))
        error = error + self.of_total * p * not_p + self.of_bend * ratio
        error = (
            error + self.row.u * self.roundings * terms + 2 * tiny * (self.total + self.square + self.bend)
        )
        error = off.slope**2 * (error + 2 * off.of_slope * terms) + self.of_gradient()
        terms = off.slope**2 * terms + off.bend * self.terms
        return np.moveaxis(terms, -1, self.axis), np.moveaxis(error, -1, self.axis)

    def product(self, vector: Array) -> Array:
        """What the product with a vector is off."""
        p, not_p, near, off, u = self.row.p, self.row.not_p, self.near(), self.off, self.row.u
        given = np.abs(np.moveaxis(vector, self.axis, -1))
        v, classes = off.slope * given, p.shape[-1]
        top = np.arange(classes) == p.argmax(-1)[..., None]
        mean, of_mean = ((p * v * part).sum(-1, keepdims=True) for part in (1.0, near + off.of_slope))
        rest = np.where(top, np.where(top, 0.0, p * v).sum(-1, keepdims=True), mean - p * v)
        ratio, own = self.ratio(), self.own
        along, of_along = (
            (ratio * v * part).sum(-1, keepdims=True) for part in (1.0, np.where(own, 0.0, near))
        )
        size, roundings = not_p * v + rest, u * (self.roundings + 3 * DOT + DOT_ADDED)
        terms = p * (self.total * size + self.square * mean) + ratio * self.bend * along
        error = self.total * p * (near * (size + p * v) + of_mean) + self.of_total * p * size
        error = error + self.square * p * (near * mean + of_mean)
        error = error + ratio * (
            self.of_bend * along + self.bend * (of_along + np.where(own, 0.0, near) * along)
        )
        lost = smallest(self.dtype) * (self.total + self.square + self.bend)
        error = error + (roundings + off.of_slope) * terms + lost * (v + mean + p * v.sum(-1, keepdims=True))
        error = off.slope * (error + off.of_slope * terms) + self.of_gradient() * given
        return np.moveaxis(error, -1, self.axis)


def _of_distillation(
    name: str, x: Array, teacher: ArrayLike, dtype: Any, options: dict[str, Any], *, shifted: bool
) -> _Terms:
    """With p, q, u, f as in the reference: of f's terms, and of p (exp(u) - 1), what they are off."""
    u, tiny, times = unit(dtype), smallest(dtype), options.get("temperature", 1.0)
    alpha, labels = options.get("alpha", 0.0), options.get("target")
    axis = reference._class_axis(x, options.get("axis")) % x.ndim
    plain = {k: v for k, v in options.items() if k not in ("temperature", "alpha", "target")}
    if labels is None:
        labels, plain["ignore_index"] = np.zeros(x.shape[:axis] + x.shape[axis + 1 :], np.int64), ()
    factor = _coefficients("cross_entropy", x, labels, axis, plain).sum(-1, keepdims=True)
    s, t = (np.moveaxis(np.asarray(a).astype(np.float64), axis, -1) for a in (x, teacher))
    s, t = np.where(factor != 0, s, 0.0), np.where(factor != 0, t, 0.0)
    p, q = reference._shift(t / times), reference._shift(s / times)
    differences = reference._differences(s, t) / times
    w = np.where(p.p == 0, 0.0, differences)
    mean = (p.p * w).sum(-1, keepdims=True)
    exponent = np.abs(w - mean)
    less, more = np.abs(np.where(p.p == 0, 0.0, np.expm1(w - mean))) * p.p, np.exp(w - mean) * p.p
    phi = (
        np.where(exponent < 0.01, exponent**2 / 2, np.abs(less / np.where(p.p == 0, 1.0, p.p) - (w - mean)))
        * p.p
    )
    rest = np.where(p.p == 0, q.p, 0.0)  # what the teacher masks
    f = phi.sum(-1, keepdims=True) + rest.sum(-1, keepdims=True)
    moment = (p.p * np.abs(w)).sum(-1, keepdims=True)
    of_u = u * (DIVERGENCE_U * (np.abs(w) + moment) + DOT_ADDED * moment + 2 * exponent)
    additions = _additions(x.shape[axis], u, np.ones_like(f)) + 2 * DOT_ADDED

    def of_probability(row: Any, logits: Array) -> Array:
        far, size = (np.where(np.isinf(a), 0.0, np.abs(a)) for a in (row.d, logits / times))
        far = (2 + EXP) * far + (2 * size if times != 1 else 0.0)  # what is computed is exp(t / T) itself
        return np.asarray(u * (DIVERGENCE_P + additions + far + (row.p * far).sum(-1, keepdims=True)))

    of_p = of_probability(p, t)
    of_less = less * of_p + more * of_u + DIVERGENCE * u * less
    of_f = (phi * (of_p + DIVERGENCE_PHI * u) + less * of_u + more * of_u**2).sum(-1, keepdims=True)
    of_f = of_f + f * u * moment * DIVERGENCE_U + (DIVERGENCE_U * u * moment) ** 2
    size, value = np.log1p(f), of_f / (1 + f)
    if not np.isfinite(value).all():  # exp(u) is too large: from the logarithms of its terms
        with np.errstate(divide="ignore"):
            size = reference.logsumexp(np.log(p.p) + (w - mean), -1, keepdims=True)
        value = (of_u + np.where(p.p == 0, 0.0, of_p)).max(-1, keepdims=True)
    value = value + LOG * u * size
    entries = (of_less + p.p * (of_f + f * (of_p + DIVERGENCE * u)) + less * of_f / (1 + f)) / (1 + f)
    of_difference = p.p * of_p + q.p * of_probability(q, s) + DIVERGENCE * u * (p.p + q.p)
    entries = np.where(np.isfinite(entries) & (p.p != 0), entries, of_difference)
    # Where the reference takes differences of probabilities:
    far = ~(np.abs(differences - mean).max(-1, keepdims=True) <= 20)
    entries = entries + np.where(far, DIVERGENCE * 2.0**-53 * (p.p + q.p), 0.0)
    extra, part = _roundings({**options, "label_smoothing": 0.0}, True) + SCALE, (1 - alpha) * times**2
    entries = entries + extra * u * np.abs(p.p - q.p)
    values = factor * part * (value + extra * u * size)
    of_labels = _of_classes("cross_entropy", x, labels, dtype, plain, shifted=shifted)
    of_student = _of_classes(
        "cross_entropy", x, labels, dtype, {**plain, "scale": 1 / times}, shifted=shifted
    )
    more_u = SCALE * u
    return _Terms(
        values[..., 0] + reference._times(alpha, of_labels.values + more_u * of_labels.sizes),
        (factor * part * size)[..., 0] + reference._times(alpha, of_labels.sizes),
        np.moveaxis(factor * part / times * entries + tiny, -1, axis)
        + alpha * (of_labels.entries + more_u * np.moveaxis(factor, -1, axis)),
        _Several(((part, of_student.second), (alpha, of_labels.second))),
    )


class _Several(NamedTuple):
    """Second derivatives that are sums of those of others, times numbers."""

    parts: tuple[tuple[float, Any], ...]

    def times(self, hessian: Any) -> float:
        return float(self.parts[0][1].times(hessian))

    def diagonal(self) -> tuple[Array, Array]:
        found = [(times, *part.diagonal()) for times, part in self.parts]
        terms = sum(times * each for times, each, _ in found)
        error = sum(times * each for times, _, each in found)
        u = self.parts[0][1].row.u
        return np.asarray(terms), np.asarray(error + 2 * SCALE * u * terms)

    def product(self, vector: Array) -> Array:
        return np.asarray(sum(2 * times * part.product(vector) for times, part in self.parts))


class _Point(NamedTuple):
    """Of each element: the sums of the terms' magnitudes of value and derivatives, and what they are off."""

    size: Array
    error: Array
    slope: Array
    slope_error: Array
    curve: Array  # the second derivative
    curve_error: Array
    flushed: Any = 1.0  # times the smallest normal number: what a term that becomes 0 is multiplied by


def _counted(size: Array, slope: Array, curve: Array, dtype: Any, times: Any, **more: Any) -> _Point:
    """Each off by so many u."""
    u = unit(dtype)
    errors = u * times * slope, curve, u * (times + CURVE) * curve
    return _Point(size, u * times * size, slope, *errors, **more)


def _mse(x: Array, y: Array, dtype: Any, **_: Any) -> _Point:
    size, slope = (x - y) ** 2, np.abs(2 * (x - y))
    curve = np.full(x.shape, 2.0)
    return _Point(size, ULP * ulp(size, dtype), slope, ULP * ulp(slope, dtype), curve, 0 * curve)


def _labels_better(point: _Point, y: Array, dtype: Any) -> _Point:
    """One term, ULP, where the target is 0 or 1."""
    single = (y == 0) | (y == 1)
    return point._replace(
        error=np.where(single, ULP * ulp(point.size, dtype), point.error),
        slope_error=np.where(single, ULP * ulp(point.slope, dtype), point.slope_error),
    )


def _bce_with_logits(x: Array, y: Array, dtype: Any, *, pos_weight: Any = None, **_: Any) -> _Point:
    a, b = np.abs(y), np.abs(1 - y)
    if pos_weight is not None:
        a = a * np.abs(np.broadcast_to(np.asarray(pos_weight, np.float64), x.shape))
    size = reference._times(a, reference._softplus(-x)) + reference._times(b, reference._softplus(x))
    slope = a * reference.sigmoid(-x) + b * reference.sigmoid(x)
    together = np.where(np.isnan(y), 1.0, a + b)  # which without pos_weight does not depend on the target
    curve = together * reference.sigmoid(x) * reference.sigmoid(-x)
    times = POINT if pos_weight is None else POINT + POS
    point = _counted(size, slope, curve, dtype, times, flushed=np.maximum(together, 1.0))
    return point if pos_weight is not None else _labels_better(point, y, dtype)


def _bce(x: Array, y: Array, dtype: Any, **_: Any) -> _Point:
    log_x, log_not_x = np.minimum(-np.log(x), 100.0), np.minimum(-np.log1p(-x), 100.0)
    size = np.abs(y) * log_x + np.abs(1 - y) * log_not_x
    spread = x * (1 - x)
    slope = np.abs(x - y) / np.maximum(spread, 1e-12)
    curve = np.where(spread < 1e-12, 1e12, ((x - y) ** 2 + np.abs(y * (1 - y))) / spread**2)
    point = _labels_better(_counted(size, slope, curve, dtype, POINT), y, dtype)
    at_cut = np.abs(spread - 1e-12) < 4 * unit(dtype) * spread  # where it may be taken to be on either side
    return point._replace(curve_error=np.where(at_cut, np.inf, point.curve_error))


def _kl_div(x: Array, y: Array, dtype: Any, *, log_target: bool = False, **_: Any) -> _Point:
    p, log_p = (np.exp(y), y) if log_target else (y, np.log(np.where(y == 0, 1.0, y)))
    size, slope = reference._times(np.abs(p), np.abs(log_p) + np.abs(x)), np.abs(p)
    return _counted(size, slope, np.zeros_like(x), dtype, POINT)


def _soft_margin(x: Array, y: Array, dtype: Any, **_: Any) -> _Point:
    z, times = x * y, np.abs(y)
    size, slope = reference._softplus(-z), times * reference.sigmoid(-z)
    off = np.where(
        (times == 1) | (times == 0), 0.0, unit(dtype) * np.abs(z)
    )  # by the rounding of the product
    error = ULP * ulp(size, dtype) + off * reference.sigmoid(-z)
    slope_error = ULP * ulp(slope, dtype) + np.where(off > 0, unit(dtype) + off, 0.0) * slope
    curve = times**2 * reference.sigmoid(z) * reference.sigmoid(-z)
    curve_error = (unit(dtype) * (POINT + CURVE) + off) * curve
    return _Point(size, error, slope, slope_error, curve, curve_error, np.maximum(times, 1.0) ** 2)


def _poisson_nll(
    x: Array, y: Array, dtype: Any, *, log_input: bool = True, full: bool = False, eps: float = 1e-8, **_: Any
) -> _Point:
    if log_input:
        size, slope = np.exp(x) + reference._times(np.abs(y), np.abs(x)), np.exp(x) + np.abs(y)
        curve = np.exp(x)
    else:  # x + eps is off by its rounding and that of eps
        rate, off = np.abs(x + eps), np.where(np.isinf(x), 1.0, (np.abs(x) + eps) / np.abs(x + eps))
        size = np.abs(x) + reference._times(np.abs(y), np.abs(np.log(rate)) + off)
        slope = 1 + reference._times(np.abs(y), off / rate)
        curve = np.abs(y) / rate / rate * off
    if full:
        size = size + np.where(y > 1, (y + 0.5) * np.log(np.where(y > 1, y, 1.0)) + y + 1, 0.0)
    return _counted(size, slope, curve, dtype, POINT)


def _gaussian_nll(
    x: Array,
    y: Array,
    dtype: Any,
    *,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    wrt: str = "input",
    **_: Any,
) -> _Point:
    var = reference._var("var", var, x.shape)
    v, d = np.maximum(var, eps), np.abs(x - y)
    size = (np.abs(np.log(v)) + np.where(d == 0, 0.0, d / v * d) + (var < eps) + 2 * full) / 2
    slope = d / v if wrt == "input" else (1 / v + (d / v) ** 2) / 2
    return _counted(size, slope, 1 / v, dtype, GAUSSIAN)


def _sigmoid_focal(
    x: Array, y: Array, dtype: Any, *, gamma: float = 2.0, alpha: float | None = None, **_: Any
) -> _Point:
    p, q = reference.sigmoid(x), reference.sigmoid(-x)
    m = y * q + (1 - y) * p
    rest = np.where(y == 1, p, np.where(y == 0, q, p * q / m))
    log_m = np.where(y == 1, reference.logsigmoid(-x), np.where(y == 0, reference.logsigmoid(x), np.log(m)))
    power = np.power(m, gamma) * (1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y))
    plain = reference._times(y, reference._softplus(-x)) + reference._times(1 - y, reference._softplus(x))
    slope = power * (m + reference._times(gamma * np.abs(1 - 2 * y) * rest, plain))
    exponent = gamma * (FOCAL_POWER + FOCAL_LOG * np.abs(log_m))
    times = FOCAL + ALPHA * (alpha is not None) + np.where(power == 0, 0.0, exponent if gamma else 0.0)
    size, u = reference._times(power, plain), unit(dtype)
    ratio = np.abs(1 - 2 * y) * rest
    bend = np.where((y == 0) | (y == 1), p * q, ratio * (y * q * q + (1 - y) * p * p) / m)
    curve = p * q + 2 * gamma * ((1 - y) * p + y * q) * ratio
    curve = power * (curve + reference._times((gamma * ratio) ** 2 + gamma * bend, plain))
    errors = u * (times + FOCAL_SLOPE) * slope, curve, u * (times + FOCAL_SLOPE + FOCAL_CURVE) * curve
    return _Point(size, u * times * size, slope, *errors)


class _Element(NamedTuple):
    """Of each element, with the factors of options: the second derivative's terms, and what it is off."""

    curve: Array
    error: Array
    u: float

    def times(self, hessian: Any) -> float:
        """How many times the exact one a rule is."""
        return 1.0 if isinstance(hessian, str) else float(hessian)

    def diagonal(self) -> tuple[Array, Array]:
        return self.curve, self.error

    def product(self, vector: Array) -> Array:
        return np.abs(vector) * (self.error + self.u * self.curve)


#: Of each loss its terms, and where the gradient is its factor: input, target, how many times, and options.
_POINTS: dict[str, tuple[Callable[..., _Point], float, float, float, dict[str, Any]]] = {
    "binary_cross_entropy_with_logits": (_bce_with_logits, np.inf, 0.0, 1.0, {"pos_weight": None}),
    "binary_cross_entropy": (_bce, 0.5, 0.0, 2.0, {}),
    "kl_div": (_kl_div, 0.0, 1.0, -1.0, {"log_target": False}),
    "mse_loss": (_mse, 1.0, 0.0, 2.0, {}),
    "sigmoid_focal_loss": (_sigmoid_focal, np.inf, 0.0, 1.0, {"gamma": 0.0, "alpha": None}),
    "soft_margin_loss": (_soft_margin, -np.inf, 1.0, -1.0, {}),
    "multilabel_soft_margin_loss": (_bce_with_logits, np.inf, 0.0, 1.0, {}),
    "poisson_nll_loss": (_poisson_nll, -np.inf, 1.0, -1.0, {"log_input": True}),
    "gaussian_nll_loss": (_gaussian_nll, 1.0, 0.0, 1.0, {"var": 1.0, "eps": 1e-6, "wrt": "input"}),
}


def _of_points(name: str, x: Array, target: ArrayLike, dtype: Any, options: dict[str, Any]) -> _Terms:
    u, function = unit(dtype), _twin(name)
    of_value, of_slope = _roundings(options, False), _roundings(options, True)
    if name == "nll_loss":  # * 1
        entries = np.abs(function(x, target, **options)[1])
        size = np.where(entries == 0, 0.0, entries * np.abs(x))  # others may hold anything
        size = size.sum(reference._class_axis(x, options.get("axis")))
        return _Terms(
            *(u * (1 + of_value) * size, size, u * (1 + of_slope) * entries),
            _Element(np.zeros_like(x), np.zeros_like(x), u),
        )
    terms, at_x, at_y, times, plain = _POINTS[name]
    given = {**options, **{option: value for option, value in plain.items() if option in options}}
    slope = function(np.full(x.shape, at_x), np.full(x.shape, at_y), **given)[1]
    f = np.abs(slope / times)
    point = terms(x, np.asarray(target).astype(np.float64), dtype, **options)
    point = _Point(*(np.where(f == 0, 0.0, part) for part in point))  # an ignored one may hold anything
    flushed = smallest(dtype) * point.flushed
    values = f * (point.error + u * of_value * point.size + flushed)
    sizes, entries = f * point.size, f * (point.slope_error + u * of_slope * point.slope + flushed)
    curve, of_curve = f * point.curve, f * (point.curve_error + u * of_slope * point.curve + flushed)
    second = _Element(curve, of_curve + u * SCALE * curve * (name == "multilabel_soft_margin_loss"), u)
    if name == "multilabel_soft_margin_loss":  # / C 1; and the sum in float64, of float64 without loss, 3
        additions = x.shape[-1] if u > unit(np.float64) else 3
        values = values + (u + additions * unit(np.float64)) * sizes
        entries = entries + u * SCALE * f * point.slope
        return _Terms(_known(values).sum(-1), _known(sizes).sum(-1), entries, second)
    return _Terms(values, sizes, entries, second)
