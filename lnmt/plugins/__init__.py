"""Names that `params.yaml` may use, and the decorators that add to them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from lnmt.errors import LnmtError


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
