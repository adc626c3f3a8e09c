"""From a trained model to the fastest engine that answers as it does: build candidates, measure, choose.

`BaseOptimizer` is the base class of training optimisers, under the name that the specification gives it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnmt.public import public_names

if TYPE_CHECKING:
    from lnmt.optimization.compressions import GraphCompression as GraphCompression
    from lnmt.optimization.compressions import WeightCompression as WeightCompression
    from lnmt.training.optimizers import BaseOptimizer as BaseOptimizer

__getattr__, __dir__, __all__ = public_names(__name__)
