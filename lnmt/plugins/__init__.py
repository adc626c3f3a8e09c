"""Names that `params.yaml` may use, and the decorators that add to them.

`@register_model("my-model")` and its kin are the tables' own `register`; each imports its table when
it is asked for. How to write a plugin: docs/how-to/plugins.md.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lnmt.errors import LnmtError
from lnmt.public import public_names

if TYPE_CHECKING:
    from lnmt.models import MODELS
    from lnmt.optimization.compressions import COMPRESSIONS
    from lnmt.serving.postprocessors import POSTPROCESSORS
    from lnmt.text.processors import PROCESSORS
    from lnmt.training.callbacks import CALLBACKS
    from lnmt.training.optimizers import OPTIMIZERS

    register_callback = CALLBACKS.register
    register_compression = COMPRESSIONS.register
    register_model = MODELS.register
    register_optimizer = OPTIMIZERS.register
    register_postprocessor = POSTPROCESSORS.register
    register_processor = PROCESSORS.register

__getattr__, __dir__, __all__ = public_names(__name__)


def load_plugins(modules: Iterable[str], root: Path) -> None:
    """Import the modules named in `params.yaml: plugins`, so that their decorators run.

    `root` is the project's directory; modules beside `params.yaml` are found there.
    """
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise LnmtError(
                f"plugin module {module!r} cannot be imported: {error}",
                where="params.yaml: plugins",
                value=module,
                fix=f"install its package, or put {module.partition('.')[0]}.py beside params.yaml",
            ) from error
