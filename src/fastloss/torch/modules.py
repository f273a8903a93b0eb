"""The loss modules: torch.nn's own, with their arguments, buffers and state, and another forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import functional

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "KLDivLoss",
    "LinearCrossEntropyLoss",
    "MSELoss",
    "MultiLabelSoftMarginLoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "SoftMarginLoss",
]


class _Module:
    """What a type checker does not learn from torch.nn: that calling a module gives a tensor."""

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor) -> Tensor: ...


class CrossEntropyLoss(_Module, torch.nn.CrossEntropyLoss):
    """`torch.nn.CrossEntropyLoss` with the forward of fastloss.

    Parameters
    ----------
    %(torch.class_weight)s
    %(torch.size_average)s
    %(torch.ignore_index)s
    %(torch.reduce)s
    %(torch.reduction)s
    %(torch.label_smoothing)s

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> loss = fastloss.torch.CrossEntropyLoss(label_smoothing=0.1)
    >>> print(f"{loss(torch.zeros(3, 4), torch.tensor([0, 1, 2])):.4f}")
    1.3863
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        %(torch.forward)s
        """
        return functional.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_Module, torch.nn.NLLLoss):
    """`torch.nn.NLLLoss` with the forward of fastloss.

    Parameters
    ----------
    %(torch.class_weight)s
    %(torch.size_average)s
    %(torch.ignore_index)s
    %(torch.reduce)s
    %(torch.reduction)s

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> fastloss.torch.NLLLoss()(torch.tensor([[-0.5, -1.0]]), torch.tensor([1]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        %(torch.forward)s
        """
        return functional.nll_loss(
            input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )


class BCEWithLogitsLoss(_Module, torch.nn.BCEWithLogitsLoss):
    """`torch.nn.BCEWithLogitsLoss` with the forward of fastloss.

    Parameters
    ----------
    %(torch.weight)s
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s
    %(torch.pos_weight)s

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> fastloss.torch.BCEWithLogitsLoss()(torch.zeros(3), torch.ones(3))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        %(torch.forward)s
        """
        return functional.binary_cross_entropy_with_logits(
            input, target, self.weight, pos_weight=self.pos_weight, reduction=self.reduction
        )


class BCELoss(_Module, torch.nn.BCELoss):
    """`torch.nn.BCELoss` with the forward of fastloss.

    Parameters
    ----------
    %(torch.weight)s
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> fastloss.torch.BCELoss()(torch.full((3,), 0.5), torch.ones(3))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        %(torch.forward)s
        """
        return functional.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class KLDivLoss(_Module, torch.nn.KLDivLoss):
    """`torch.nn.KLDivLoss` with the forward of fastloss.

    Parameters
    ----------
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction_of_kl)s
    %(torch.log_target)s

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> fastloss.torch.KLDivLoss(reduction="sum")(torch.tensor([-1.0]), torch.tensor([1.0]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        %(torch.forward)s
        """
        return functional.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class LinearCrossEntropyLoss(_Module, torch.nn.LinearCrossEntropyLoss):
    """`torch.nn.LinearCrossEntropyLoss` with the forward of fastloss.

    Parameters
    ----------
    in_features : int
        Features of a sample.
    num_classes : int
        Classes.
    out_features : tuple of int, default: ()
        Further dimensions of the loss, with which it is PyTorch's.
    bias : bool, default: False
        Whether the layer has a bias.
    device : torch.device, optional
        Where the layer's weight is.
    dtype : torch.dtype, optional
        The weight's dtype.
    %(torch.reduction)s
    %(torch.class_weight)s
    ignore_index : int, optional
        A label whose samples have value 0 and gradient 0 and do not count; None is -100.
    %(torch.label_smoothing)s
    options : torch.nn.LinearCrossEntropyOptions, optional
        Of these `batch_chunk_size` counts, the most rows whose logits are there at a time.

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> loss = fastloss.torch.LinearCrossEntropyLoss(2, 3)
    >>> print(f"{loss(torch.zeros(1, 2), torch.tensor([0])):.4f}")
    1.0986
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        %(torch.forward)s
        """
        shape, layer = (self.num_classes, *self.out_features), self.linear
        return functional.linear_cross_entropy(
            input,
            layer.weight.reshape(*shape, layer.in_features),
            target,
            linear_bias=None if layer.bias is None else layer.bias.reshape(shape),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )


class MSELoss(_Module, torch.nn.MSELoss):
    """`torch.nn.MSELoss` with the forward of fastloss.

    Parameters
    ----------
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> fastloss.torch.MSELoss()(torch.tensor([1.0, 2.0]), torch.zeros(2))
    tensor(2.5000)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        %(torch.forward)s
        """
        return functional.mse_loss(input, target, reduction=self.reduction)


class SoftMarginLoss(_Module, torch.nn.SoftMarginLoss):
    """`torch.nn.SoftMarginLoss` with the forward of fastloss.

    Parameters
    ----------
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> fastloss.torch.SoftMarginLoss()(torch.zeros(2), torch.tensor([1.0, -1.0]))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        %(torch.forward)s
        """
        return functional.soft_margin_loss(input, target, reduction=self.reduction)


class PoissonNLLLoss(_Module, torch.nn.PoissonNLLLoss):
    """`torch.nn.PoissonNLLLoss` with the forward of fastloss.

    Parameters
    ----------
    %(torch.log_input)s
    %(torch.size_average)s
    %(torch.eps)s
    %(torch.reduce)s
    %(torch.reduction)s

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> fastloss.torch.PoissonNLLLoss()(torch.zeros(2), torch.tensor([0.0, 3.0]))
    tensor(1.)
    """

    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        log_input : Tensor of any shape
            The logarithms of the rates, or the rates.
        target : Tensor of input's shape
            The counts.

        Returns
        -------
        %(torch.loss)s

        Examples
        --------
        >>> import torch, fastloss.torch
        >>> fastloss.torch.PoissonNLLLoss().forward(torch.zeros(2), torch.tensor([0.0, 3.0]))
        tensor(1.)
        """
        return functional.poisson_nll_loss(
            log_input,
            target,
            log_input=self.log_input,
            full=self.full,
            eps=self.eps,
            reduction=self.reduction,
        )


class MultiLabelSoftMarginLoss(_Module, torch.nn.MultiLabelSoftMarginLoss):
    """`torch.nn.MultiLabelSoftMarginLoss` with the forward of fastloss.

    Parameters
    ----------
    %(torch.weight)s
    %(torch.size_average)s
    %(torch.reduce)s
    %(torch.reduction)s

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> loss = fastloss.torch.MultiLabelSoftMarginLoss()
    >>> loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        %(torch.forward)s
        """
        return functional.multilabel_soft_margin_loss(
            input, target, weight=self.weight, reduction=self.reduction
        )
