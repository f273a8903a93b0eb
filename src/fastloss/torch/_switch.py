"""The switch for existing code: the losses of torch.nn.functional replaced, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

from . import functional
from ._operators import LOSSES

_lock = Lock()
_uses = 0
_replaced: dict[str, object] = {}


def patch() -> None:
    """Route the losses of torch.nn.functional, and the modules of torch.nn that call them, through fastloss.

    It holds for the process: for all threads, until as many `unpatch` have been called. What it cannot reach
    is a name that was bound before (`from torch.nn.functional import cross_entropy`), and what torch.compile
    or TorchScript has compiled already.

    See Also
    --------
    patched : The same for a block.

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> fastloss.torch.patch()
    >>> torch.nn.functional.mse_loss is fastloss.torch.mse_loss
    True
    >>> fastloss.torch.unpatch()
    >>> torch.nn.functional.mse_loss is fastloss.torch.mse_loss
    False
    """
    import torch._dynamo  # notes what PyTorch's functions are when it is imported, as by any optimizer

    global _uses
    with _lock:
        _uses += 1
        if _uses == 1:
            for name in (*LOSSES, "linear_cross_entropy"):
                _replaced[name] = getattr(torch.nn.functional, name)
                setattr(torch.nn.functional, name, getattr(functional, name))


def unpatch() -> None:
    """Undo one `patch`; the last one puts back what the first one found. Without one it does nothing.

    See Also
    --------
    patch : What it undoes.

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> fastloss.torch.patch()
    >>> fastloss.torch.unpatch()
    >>> torch.nn.functional.mse_loss is fastloss.torch.mse_loss
    False
    """
    global _uses
    with _lock:
        _uses = max(0, _uses - 1)
        if _uses == 0:
            while _replaced:
                name, found = _replaced.popitem()
                if getattr(torch.nn.functional, name) is getattr(
                    functional, name
                ):  # not replaced again since
                    setattr(torch.nn.functional, name, found)


@contextmanager
def patched() -> Iterator[None]:
    """Route the losses of torch.nn.functional through fastloss, as `patch` does, inside the `with` block.

    Yields
    ------
    None
        Nothing.

    See Also
    --------
    patch : The same for the process.

    Examples
    --------
    >>> import torch, fastloss.torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    >>> with fastloss.torch.patched():
    ...     loss = torch.nn.CrossEntropyLoss()(model(torch.zeros(2, 4)), torch.tensor([0, 2]))
    >>> loss.backward()
    """
    patch()
    try:
        yield
    finally:
        unpatch()
