"""The losses: for each one a class that holds its options, and a function.

`classes` has those with a class axis, `distillation` that of two arrays of logits, `linear` the one with a
linear layer before it, `partials` those of classes in several arrays, `pointwise` those without classes,
`_plan` what all share.
"""

from typing import Any

from . import classes, distillation, linear, partials, pointwise
from ._plan import Loss
from .classes import *
from .distillation import *
from .linear import *
from .partials import *
from .pointwise import *

__all__: list[str] = []
__all__ += classes.__all__
__all__ += distillation.__all__
__all__ += linear.__all__
__all__ += partials.__all__
__all__ += pointwise.__all__

#: The class of each function, by the function's name.
CLASSES: dict[str, type[Loss[Any]]] = {
    kind._function: kind
    for kind in map(globals().get, __all__)
    if isinstance(kind, type) and issubclass(kind, Loss)
}
