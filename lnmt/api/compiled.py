"""PyTorch with `torch.compile`, as an engine."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import torch

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.models.base import BaseModel
from lnmt.runtime.predictor import Predictor
from lnmt.runtime.torch import TorchEngine
from lnmt.runtime.torch_weights import Forward

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class CompiledEngine(TorchEngine):
    """TorchEngine whose model is compiled, for any shape of a batch."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self._mode = mode

    def prepare(self, model: BaseModel, cache: Path | None) -> Forward:
        compiled: Any = torch.compile(model, mode=self._mode, dynamic=True)
        return super().prepare(cast("BaseModel", compiled), cache)

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler warns of parts of torch itself that it still uses
            super().load(bundle, threads=threads, cache=cache)
            self.warm_up()


def check_mode(mode: str, bundle: Bundle | None) -> None:
    """Raise UnknownName for a mode that torch does not have, LnmtError where another engine runs the bundle."""
    if mode not in MODES:
        raise UnknownName("mode of torch.compile", mode, MODES, where="Model.compile")
    if bundle is not None and bundle.manifest.engine != "torch":
        raise LnmtError(
            "only PyTorch's models are compiled",
            where=bundle.path,
            value=bundle.manifest.engine,
            allowed="torch",
            fix="leave `compile` out: this engine compiles by itself when it loads",
        )


def open_compiled(bundle: Bundle, mode: str, threads: int | None) -> Predictor:
    """A predictor whose model is compiled, and warm."""
    check_mode(mode, bundle)
    engine = CompiledEngine(mode)
    engine.load(bundle, threads=threads, cache=None)
    return Predictor(bundle, engine)
