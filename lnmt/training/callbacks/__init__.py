"""What happens around the steps: callbacks by name, and the base class for plugins. One verb, one file."""

from __future__ import annotations

from lnmt.plugins.table import Table
from lnmt.training.callbacks.callback import Callback

CALLBACKS: Table[type[Callback]] = Table(
    "callback",
    {
        "log_steps": "lnmt.training.callbacks.log_steps:LogSteps",
        "tensorboard": "lnmt.training.callbacks.write_tensorboard:WriteTensorBoard",
    },
)

__all__ = ["CALLBACKS", "Callback"]
