"""What docstrings share: a text of several of them stands here once, and there as %(name)s.

The functions of a loss take over from its class, see `_of_loss`. All is filled in once, at import; python -OO
leaves docstrings out, and there is nothing to do.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

INDICES = "Class indices: integers, bools, or whole numbers in a floating dtype"

TEXTS = {
    # ------------------------------------------------------------------- losses: input and target
    "dtypes": "float64, float32, float16, bfloat16, integer or bool",
    "logits": """\
input : array_like of shape (N, C) or (..., C, ...)
    Logits with C classes on `axis`; float64, float32, float16, bfloat16, integer or bool.""",
    "indices": INDICES,
    "labels": f"""\
target : array_like of int, of shape (N,) or input's without `axis`
    {INDICES}.""",
    "probabilities": """\
target : array_like of input's shape
    Probabilities in [0, 1], any real dtype.""",
    "var": """\
var : array_like
    Variances of at least 0: a number, or an array of input's shape, or of that without its last axis, or
    with 1 in place of some of its lengths.""",
    "student": """\
input : array_like of shape (N, C) or (..., C, ...)
    The student's logits.
teacher : array_like of input's shape
    The teacher's logits.""",
    "student.labels": f"""\
target : array_like of int, of shape (N,) or input's without `axis`, optional
    {INDICES}.""",
    "linear": f"""\
input : array_like of shape (N, D) or (..., D)
    Samples of D features; float64, float32, float16, bfloat16, integer or bool.
linear_weight : array_like of shape (C, D)
    A row for each class, of these dtypes too: the wider of both is computed in.
target : array_like of input's shape without the features, or with C in their place
    {INDICES}; or class
    probabilities in a floating dtype.
linear_bias : array_like of shape (C,), optional
    Added to the logits of each sample.""",
    # ---------------------------------------------------------------------------- losses: options
    "class_weight": """\
weight : array_like of shape (C,), optional
    Factor w of each class; None is ones. It never weights samples, not even where there are as many as
    classes: `sample_weight` does.""",
    "weight": """\
weight : array_like, optional
    Factor w, broadcastable to the input; it does not enter the mean's divisor. Shape (C,) goes along the
    last axis, also of an (N, C) input with N = C; a `sample_weight` (N, 1) weights rows.""",
    "ignore_index": """\
ignore_index : int or sequence of int, default: -100
    A label, or several, whose samples have value 0 and gradient 0 and do not count.""",
    "reduction_of_labels": """\
reduction : {"mean", "sum", "none"}, default: "mean"
    "mean" divides by the sum of w_t times sample_weight; "none" gives one value for each sample.""",
    "reduction_of_samples": """\
reduction : {"mean", "sum", "none"}, default: "mean"
    "mean" divides by the sum of sample_weight, the number of samples when there is none; "none" gives one
    value for each sample.""",
    "reduction": """\
reduction : {"mean", "sum", "none"}, default: "mean"
    "mean" divides by the sum of sample_weight, the number of elements when there is none; "none" gives one
    value for each element.""",
    "axis": """\
axis : int, optional
    The class axis of the input; None is 1, or 0 for one dimension.""",
    "empty": """\
empty : {"nan", "zero"}, default: "nan"
    What the mean of nothing is.""",
    "unchecked": """\
unchecked : bool, default: False
    Compute also with what cannot be meant, of which the error says how to say what is meant. Otherwise it is
    a ValueError where it counts and has a weight other than 0.""",
    "z_loss": """\
z_loss : float, default: 0.0
    The λ, at least 0, of λ (logsumexp x)² added to the loss of each sample that counts; sample_weight is its
    factor, `weight` is not. It adds 2 λ logsumexp(x) p_j to the gradient.
softcap : float, optional
    None, or a cap a in [1e-30, 1e30]: a tanh(x / a) takes the place of x, but for -inf, which remains a
    masked class.""",
    "scale": """\
scale : float or array_like of shape (C,), default: 1.0
    What logits are multiplied by as they are read, before the cap; 1 / T for a temperature T. With one for
    each class it is vector scaling. -inf remains a masked class.
bias : array_like of shape (C,), optional
    What is added to logits after that, one number for each class.""",
    # ------------------------------------------------------------------- losses: arguments of a call
    "counted": """\
sample_weight : array_like, optional
    Factor of each sample's loss, broadcastable to the value under "none"; (N,) is one for each sample, and so
    are fewer dimensions of the lengths of the value's first ones. The weighted mean divides by the weights'
    sum. A factor of exactly 0 drops an infinite loss, and keeps NaN. An array of shape (0,) is as None.
mask : array_like of bool, optional
    Broadcastable to the value under "none"; (N,) is one for each sample. Where it is False the sample counts
    nowhere: not in the value, the mean's divisor or the gradient, which is 0 there, whatever its numbers and
    its label are.""",
    "normalizer": """\
normalizer : float, optional
    What a mean is divided by in place of the weights' sum, a positive number: with the count of a whole
    batch, the values and gradients of its parts add up to those of the whole.""",
    "grad_output": """\
grad_output : array_like, optional
    Factor of the gradient, a number; under "none" also an array shaped as the value.""",
    "hessian": """\
hessian : {"exact", "bound", "friedman", "residual"} or float, default: "exact"
    Which second derivatives. "exact" is the diagonal of the Hessian. "bound" is with classes twice that,
    which for cross-entropy is no less than the whole Hessian (Gershgorin); where a loss is not convex it is
    without the terms that may be negative. "friedman" is C / (C - 1) times the diagonal for C classes,
    "residual" the size of the gradient, and a number a factor of the exact one.
floor : float, default: 0.0
    The least second derivative of what counts; of what does not, it is 0. Those of the losses that are not
    convex (`FocalLoss`, `SigmoidFocalLoss`, `GeneralizedCrossEntropyLoss`, `PolyLoss`, and all with a
    softcap) may be negative: ``-inf`` keeps them.""",
    "hess_out": """\
hess_out : ndarray, optional
    Array of input's shape and dtype to fill, apart from all others; float32 will do beside float64.""",
    "out": """\
out : ndarray, optional
    Under "none", array of the value's shape and dtype to fill.""",
    "grad_out": """\
grad_out : ndarray, optional
    Array of input's shape and dtype to fill; it may be `input` itself.""",
    # ------------------------------------------------------------------ losses: results and errors
    "value": """\
float or ndarray
    The value, in nats (squared units for `MSELoss`): a float, or under "none" the array of values, float64,
    or float32 for float32 and half precision.""",
    "total": """\
Total
    What the mean and the sum follow from, whatever the loss's `reduction`; totals of batches add up to that
    of all samples, with the same bits for any batches in any order.""",
    "value_and_grad": """\
value : %(value)s
grad : ndarray
    The gradient; it has the shape of `input`, and its dtype if that is a float. Under "none" it is the
    derivative of the sum of the values.""",
    "raises_of_labels": """\
IndexError
    A label outside [0, C) that is not `ignore_index`.
TypeError, ValueError
    A shape, dtype or option that does not fit.""",
    "raises_of_targets": """\
ValueError
    A target that cannot be meant, named with its position, unless `unchecked`; or a shape or option that does
    not fit.
TypeError
    A dtype that does not fit.""",
    "raises": """\
TypeError, ValueError
    A shape, dtype or option that does not fit.""",
    # ---------------------------------------------------------------------------------- calibration
    "calibration": f"""\
logits : array_like of shape (N, C) or (..., C, ...)
    Logits with C classes on `axis`, finite, or -inf for masked classes; float64, float32, float16, bfloat16,
    integer or bool.
target : array_like of shape (N,) or logits' without `axis`, or of logits' shape
    {INDICES}, of which -100 is
    ignored; or class probabilities in a floating dtype.
sample_weight : array_like, optional
    Factor of each sample's loss, at least 0, broadcastable to the logits' shape without `axis`.
axis : int, optional
    The class axis of the logits; None is 1, or 0 for one dimension.""",
    "raises_of_calibration": """\
IndexError
    A label outside [0, C) that is not -100.
TypeError, ValueError
    A shape or dtype that does not fit; NaN, inf, or a class that is masked where its sample is of it; no
    sample that counts.""",
    "sklearn.logits": """\
logits : array_like of shape (N, C), (N, 1) or (N,)
    Finite logits, a column for each class in order; or, of two classes, what tells the second from the
    first, as `decision_function` gives it.""",
    "sklearn.classes": """\
classes : array_like of shape (C,), optional
    The classes of the columns, sorted; None is those of the labels in `fit`.""",
    "sklearn.fitted": """\
classes_ : ndarray of shape (C,)
    The classes, sorted.
n_features_in_ : int
    The number of columns, unless there was one dimension.""",
    # -------------------------------------------------------------------------------------- metrics
    "metrics": """\
y_true : array_like of shape (N,) or (N, 1), or (N, C)
    Labels of any type: integers, bools, whole floats or strings; or, in two dimensions, rows of indicators.
y_proba : array_like of shape (N, C), (N, 1) or (N,)
    Probabilities, of which each row adds up to one, with a column for each label in sorted order; or, of two
    labels, the probability of the greater one. float64, float32, float16, bfloat16, integer or bool.""",
    "metrics.sample_weight": """\
sample_weight : array_like of shape (N,), optional
    Factor of each sample; the mean divides by their sum.""",
    "metrics.labels": """\
labels : array_like of shape (C,), optional
    The labels of the columns, sorted, where not all of them are in `y_true`.""",
    "metrics.y_pred": """\
y_pred : array_like, optional
    The name of `y_proba` before scikit-learn 1.9, deprecated.""",
    "metrics.from_logits": """\
from_logits : bool, default: False
    `y_proba` holds logits: the probabilities are their softmax, or the sigmoid of a single column.""",
    "raises_of_metrics": """\
TypeError, ValueError
    An argument of another type or shape; probabilities outside [0, 1], NaN or inf; labels that are not those
    of the columns. The sentences are scikit-learn's.""",
    # ------------------------------------------------------------------------------ array functions
    "x": """\
x : array_like
    Array of any shape; float64, float32, float16, bfloat16, or integers and bools, which are computed in
    float64. Half precision is computed in float32.
axis : int, tuple of int or None, default: -1
    The class axis, or several, which are read in place where they are neighbours in memory; None is all of
    them.""",
    "x_of_elements": """\
x : array_like
    Array of any shape; float64, float32, float16, bfloat16, or integers and bools, which are computed in
    float64. Half precision is computed in float32.""",
    "result": """\
out : ndarray, optional
    Array of the result's shape and dtype to fill; it must not overlap `x`.""",
    "grad_output_of_result": """\
grad_output : array_like
    Array g of the same shape: the derivative of something by each entry of the result.""",
    "out_of_vjp": """\
out : ndarray, optional
    Array of that shape and the result's dtype to fill; it may be either argument itself, and must not overlap
    them otherwise.""",
    "raises_of_vjp": """\
TypeError
    A dtype that does not fit.
ValueError
    Shapes that differ, or another argument that does not fit.""",
    "keepdims": """\
keepdims : bool, default: False
    Keep the summed axis, with length 1.""",
    "where": """\
where : array_like of bool, optional
    Broadcastable to `x`; an entry counts as -inf where it is False.""",
    "where_of_softmax": """\
where : array_like of bool, optional
    Broadcastable to `x`; an entry counts as -inf, and its softmax is 0, where it is False.""",
    "where_of_p": """\
where : array_like of bool, optional
    Broadcastable to `p`; an entry is left out where it is False.""",
    "raises_of_axis": """\
TypeError
    A dtype that does not fit.
ValueError
    An axis out of range, or another argument that does not fit.""",
    "raises_of_elements": """\
TypeError
    A dtype that does not fit.
ValueError
    Another argument that does not fit.""",
    # ------------------------------------------------------------------------------------------ jax
    "jax.x": """\
x : array_like
    Array of any shape; float64, float32, float16, bfloat16, or integers and bools, which become JAX's
    float.
axis : int, tuple of int or None, default: -1
    The class axis, or several; None is all of them.""",
    "jax.x_of_elements": """\
x : array_like
    Array of any shape; float64, float32, float16, bfloat16, or integers and bools, which become JAX's
    float.""",
    "jax.raises_of_elements": """\
TypeError
    A dtype that does not fit.""",
    # ------------------------------------------------------------------------------------ reference
    "twin.hessian": """\
hessian : {"exact", "bound", "friedman", "residual"} or float, optional
    The rule of the Hessian's diagonal: as it is; twice it, without parts that may be negative, in losses with
    classes, and once in others; C / (C - 1) times it with C classes; the gradient's magnitude; or that
    many times it. None leaves it out.
floor : float, default: 0.0
    The least that the diagonal is, but 0 where a sample does not count.""",
    "twin": """\
Returns
-------
value : float or ndarray
    The value, in nats (squared units for `mse_loss`): a float, or under "none" the float64 array of values.
grad : ndarray
    Its derivative with respect to `input`, float64, times `grad_output`; under "none" that of the sum.
hess : ndarray
    Only with ``hessian``: the diagonal of the second derivative, likewise.""",
    "twin.x": """\
x : array_like
    Array of any shape; taken as float64.
axis : int, tuple of int or None, default: -1
    The class axis, or several; None is all of them.""",
    "twin.x_of_elements": """\
x : array_like
    Array of any shape; taken as float64.""",
    "twin.grad_output": """\
grad_output : array_like
    Array g of the same shape; taken as float64.""",
    "twin.array_of_result": """\
ndarray
    Float64 array of the arguments' shape.""",
    "twin.array": """\
ndarray
    Float64 array of x's shape.""",
    "twin.reduced": """\
ndarray
    Float64 array of the argument's shape without `axis`, in nats.""",
    # ------------------------------------------------------------------------------------- special
    "ufunc.logits": """\
Parameters
----------
x : array_like
    Logits, of any shape.""",
    "ufunc.masses": """\
Parameters
----------
x, y : array_like
    Of shapes that broadcast: numbers of at least 0.""",
    "ufunc.out": """\
out : ndarray or tuple of ndarray, optional
    Array of the result's shape to fill.
where : array_like of bool, optional
    What is computed; the rest of `out` stays.
**kwargs
    Keywords of a ufunc: `dtype`, `casting`, ...

Returns
-------
ndarray or scalar
    Of the arguments' broadcast shape: float32 for float32, float64 for float64 and integers of 32 bits or
    more, and for what is narrower what SciPy's ufunc gives.

Raises
------
TypeError, ValueError
    Types, shapes or keywords that a ufunc of these loops does not take; NumPy's sentences.""",
    # -------------------------------------------------------------------------------------- threads
    "n": """\
n : int
    From 1 to 4096. The result of a call does not depend on it, not in one bit.""",
    "raises_of_n": """\
TypeError
    If n is not an integer.
ValueError
    If n is not in 1..4096.""",
    # ---------------------------------------------------------------------------------------- torch
    "torch.logits": """\
input : Tensor of shape (N, C), (C,) or (N, C, d_1, ...)
    Logits; float64, float32, float16 or bfloat16.""",
    "torch.input": """\
input : Tensor
    Logits, of any shape; float64, float32, float16 or bfloat16.""",
    "torch.target": """\
target : Tensor of input's shape
    Probabilities in [0, 1].""",
    "torch.class_weight": """\
weight : Tensor of shape (C,), optional
    Factor of each class.""",
    "torch.weight": """\
weight : Tensor, optional
    Factor of each element, broadcastable to the input.""",
    "torch.log_input": """\
log_input : bool, default: True
    Whether the input is the logarithm of the rate.
full : bool, default: False
    Whether to add Stirling's approximation of log y! where y > 1.""",
    "torch.eps": """\
eps : float, default: 1e-8
    Added to a rate before its logarithm is taken.""",
    "torch.size_average": """\
size_average : bool, optional
    Deprecated by PyTorch in favour of `reduction`.""",
    "torch.reduce": """\
reduce : bool, optional
    Deprecated by PyTorch in favour of `reduction`.""",
    "torch.ignore_index": """\
ignore_index : int, default: -100
    A label whose samples have value 0 and gradient 0 and do not count.""",
    "torch.reduction": """\
reduction : {"mean", "sum", "none"}, default: "mean"
    What becomes of the values.""",
    "torch.reduction_of_kl": """\
reduction : {"mean", "batchmean", "sum", "none"}, default: "mean"
    What becomes of the values; "batchmean" divides their sum by the first axis' length.""",
    "torch.label_smoothing": """\
label_smoothing : float, default: 0.0
    Share of the target that all classes have in equal parts, in [0, 1].""",
    "torch.pos_weight": """\
pos_weight : Tensor, optional
    Factor of the positive part, broadcastable to the input.""",
    "torch.log_target": """\
log_target : bool, default: False
    The target holds log-probabilities.""",
    "torch.dim": """\
input : Tensor
    Logits, of any shape.
dim : int, optional
    The class axis.
_stacklevel : int, default: 3
    PyTorch's, of its warning where `dim` is left out.
dtype : torch.dtype, optional
    What the input is converted to before.""",
    "torch.out": """\
out : Tensor, optional
    What is filled.""",
    "torch.loss": """\
Tensor
    The loss, in nats (squared units for `mse_loss`) and in the input's dtype: of no dimensions, or under
    "none" the values.""",
    "torch.raises": """\
Raises
------
IndexError, RuntimeError, TypeError, ValueError
    What PyTorch's function or module raises of the same arguments.

References
----------
PyTorch's function of this name, which computes what fastloss does not, such as other devices and dtypes.""",
    "torch.forward": """\
Parameters
----------
input, target : Tensor
    As of the function in `fastloss.torch.functional`.

Returns
-------
%(torch.loss)s

%(torch.raises)s

Examples
--------
>>> import torch, fastloss.torch
>>> fastloss.torch.MSELoss().forward(torch.ones(2), torch.zeros(2))
tensor(1.)""",
}
TEXTS["value_and_grad"] = TEXTS["value_and_grad"].replace("%(value)s", TEXTS["value"])
TEXTS["torch.forward"] = TEXTS["torch.forward"].replace("%(torch.raises)s", TEXTS["torch.raises"])
TEXTS["torch.forward"] = TEXTS["torch.forward"].replace("%(torch.loss)s", TEXTS["torch.loss"])
TEXTS["softmax"] = f"{TEXTS['z_loss']}\n{TEXTS['scale']}"
TEXTS["samples"] = f"{TEXTS['counted']}\n{TEXTS['normalizer']}"


def fill(module: dict[str, Any]) -> None:
    """Fill in the docstrings of what a module, by its names, gives: those of classes first."""
    public = [module[name] for name in module["__all__"]]
    for kind in filter(inspect.isclass, public):
        for base in kind.__mro__:
            if base.__module__.startswith(__package__):
                for documented in (base, *filter(inspect.isfunction, vars(base).values())):
                    _fill(documented)
        if hasattr(kind, "_function") and "Calling it:\n\n" in (kind.__doc__ or ""):
            _of_loss(kind)
    for function in filter(inspect.isfunction, public):
        _fill(function)


def filled(doc: str) -> str:
    """A docstring with the texts in it."""
    return inspect.cleandoc(doc) % TEXTS + "\n"


def _fill(documented: Any) -> None:
    if "%(" in (documented.__doc__ or ""):
        documented.__doc__ = filled(documented.__doc__)


def _of_loss(kind: Any) -> None:
    """What the functions of a loss share with its class, whose docstring has this form.

    A summary, the formula, "Calling it:" with the arguments, and numpydoc's sections. The class's name stands
    for all but summary and examples; with ".parameters" for the arguments and options.
    """
    head, *sections = re.split(r"\n\n(\w[\w ]*)\n-+\n", inspect.cleandoc(kind.__doc__))
    head, _, arguments = head.partition("\n\nCalling it:\n\n")
    formula = head.partition("\n\n")[2]
    body = dict(zip(sections[::2], sections[1::2], strict=True))
    options = f"{arguments}\n{body.get('Parameters', '')}".rstrip()
    body["Parameters"] = f"{options}\n{TEXTS['samples']}\n{TEXTS['out']}"
    others = body.get("See Also", "").split("\n")[1:]  # the first is the function
    the_class = f"{kind.__name__} : The class, which keeps the options and has `value_and_grad`."
    body["See Also"] = "\n".join([the_class, *others])
    order = ("Parameters", "Returns", "Raises", "See Also", "Notes", "References")
    body["Returns"] = TEXTS["value"]
    parts = [f"{name}\n{'-' * len(name)}\n{body[name]}" for name in order if name in body]
    TEXTS[kind.__name__] = "\n\n".join([formula, *parts] if formula else parts)
    TEXTS[f"{kind.__name__}.parameters"] = options
