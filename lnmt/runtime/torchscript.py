"""TorchScript: the model traced, frozen and optimised, in this process and anew at every load.

Never a file: TorchScript's own format holds pickles and code. A bundle that ships with this engine carries
`model.safetensors` alone, and the trace of it takes about as long as a hundred calls.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.models.base import BaseModel
from lnmt.runtime.torch_weights import ByPlace, Forward, TorchWeights

TRACED, ASKED = (2, 16), (3, 24)  # [B, T] of the example, and of a batch that tells whether shapes were kept open


class TorchScriptEngine(TorchWeights):
    """Runs the traced graph."""

    name = "torchscript"

    def prepare(self, model: BaseModel, cache: Path | None) -> Forward:
        module = ByPlace(model)
        device = next(model.parameters()).device
        longest = self._bundle.manifest.max_tokens
        with _quiet(), torch.no_grad():
            try:
                forward = torch.jit.optimize_for_inference(_trace(module, _example(TRACED, longest, device)))
                self._check(module, forward, _example(ASKED, longest, device))
            except (RuntimeError, ValueError, TypeError) as error:  # of the tracer, or of the model's own code
                raise LnmtError(
                    f"TorchScript cannot trace the model: {_last_line(error)}",
                    where=type(model).__qualname__,
                    fix="let its forward return tensors alone and take shapes from its inputs, or drop torchscript "
                    "from params.yaml: optimize.engines",
                ) from error
        return cast("Forward", forward)

    def warm_up(self) -> None:
        with _quiet():
            for _ in range(2):  # the graph is specialised at its first calls: the second one pays too
                super().warm_up()

    def _check(self, module: nn.Module, forward: Any, example: tuple[Tensor, Tensor]) -> None:
        """A trace that kept the example's shape or a branch gives other answers to another batch, or fails."""
        rough = 1e-3 if self._bundle.manifest.precision == "fp32" else 0.3
        for want, got in zip(module(*example), forward(*example), strict=True):
            if want.shape != got.shape or not torch.allclose(want.float(), got.float(), atol=rough, rtol=rough):
                raise ValueError("it answers a batch of another shape otherwise than the model does")


def _trace(module: nn.Module, example: tuple[Tensor, Tensor]) -> Any:
    traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    return torch.jit.freeze(traced)


def _example(shape: tuple[int, int], longest: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token 1 everywhere, the last row half padding, so that what a model does with padding is traced."""
    rows, tokens = shape[0], min(shape[1], longest)
    mask = torch.ones((rows, tokens), dtype=torch.int64, device=device)
    mask[-1, (tokens + 1) // 2 :] = 0
    return torch.ones_like(mask), mask


@contextmanager
def _quiet() -> Iterator[None]:
    """The tracer warns of its own deprecation, and of every shape that Python reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)[
        :300
    ]
