"""LNMT: from raw data to a model server that looks after itself.

The names below are the Python API; each is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnmt.public import public_names

if TYPE_CHECKING:
    from lnmt.api.config import Config as Config
    from lnmt.api.dataset import Dataset as Dataset
    from lnmt.api.hub import ModelHub as ModelHub
    from lnmt.api.loader import DataLoader as DataLoader
    from lnmt.api.model import Model as Model
    from lnmt.api.quantize import quantize as quantize
    from lnmt.api.server import InferenceServer as InferenceServer
    from lnmt.api.trainer import Trainer as Trainer

    from . import metrics as metrics

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = public_names(__name__)
