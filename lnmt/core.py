"""What plugins are made of: subclass `BaseModel`, `Callback` or `BasePostprocessor`, and register them with the
decorators of `lnmt.plugins`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnmt.public import public_names

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel as BaseModel
    from lnmt.models.base import Inputs as Inputs
    from lnmt.models.base import ModelSetup as ModelSetup
    from lnmt.models.base import Outputs as Outputs
    from lnmt.models.base import TrainingBatch as TrainingBatch
    from lnmt.serving.postprocessors import BasePostprocessor as BasePostprocessor
    from lnmt.serving.postprocessors import Reply as Reply
    from lnmt.training.callbacks import Callback as Callback

__getattr__, __dir__, __all__ = public_names(__name__)
