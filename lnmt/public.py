"""The public names, as one table of strings: `import lnmt` imports nothing but this, and a name what it needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

# module → public name → "module:attribute", or a module
PUBLIC = {
    "lnmt": {
        "Config": "lnmt.api.config:Config",
        "DataLoader": "lnmt.api.loader:DataLoader",
        "Dataset": "lnmt.api.dataset:Dataset",
        "InferenceServer": "lnmt.api.server:InferenceServer",
        "Model": "lnmt.api.model:Model",
        "ModelHub": "lnmt.api.hub:ModelHub",
        "Trainer": "lnmt.api.trainer:Trainer",
        "metrics": "lnmt.metrics",
        "quantize": "lnmt.api.quantize:quantize",
    },
    "lnmt.core": {
        "BaseModel": "lnmt.models.base:BaseModel",
        "BasePostprocessor": "lnmt.serving.postprocessors:BasePostprocessor",
        "Callback": "lnmt.training.callbacks:Callback",
        "Inputs": "lnmt.models.base:Inputs",
        "ModelSetup": "lnmt.models.base:ModelSetup",
        "Outputs": "lnmt.models.base:Outputs",
        "Reply": "lnmt.serving.postprocessors:Reply",
        "TrainingBatch": "lnmt.models.base:TrainingBatch",
    },
    "lnmt.data": {
        "BaseProcessor": "lnmt.text.processors:BaseProcessor",
    },
    "lnmt.optimization": {
        "BaseOptimizer": "lnmt.training.optimizers:BaseOptimizer",
        "GraphCompression": "lnmt.optimization.compressions:GraphCompression",
        "WeightCompression": "lnmt.optimization.compressions:WeightCompression",
    },
    "lnmt.plugins": {
        "register_callback": "lnmt.training.callbacks:CALLBACKS.register",
        "register_compression": "lnmt.optimization.compressions:COMPRESSIONS.register",
        "register_model": "lnmt.models:MODELS.register",
        "register_optimizer": "lnmt.training.optimizers:OPTIMIZERS.register",
        "register_postprocessor": "lnmt.serving.postprocessors:POSTPROCESSORS.register",
        "register_processor": "lnmt.text.processors:PROCESSORS.register",
    },
}


def public_names(module: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a module of the table."""
    names = PUBLIC[module]

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = resolve(names[name])
        # Found once; a bound method of a table is made anew at every look.
        setattr(importlib.import_module(module), name, found)
        return found

    def known() -> list[str]:
        return sorted({*vars(importlib.import_module(module)), *names})

    return find, known, sorted(names)


def resolve(place: str) -> Any:
    """The object at `module:attribute`, or the module."""
    module, _, path = place.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in filter(None, path.split(".")):
        found = getattr(found, attribute)
    return found
