"""What the engines have in common that run `model.safetensors` through PyTorch.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.models import WEIGHTS, load_model
from lnmt.models.base import BaseModel
from lnmt.runtime.cpu import available_cores
from lnmt.runtime.engine import checked_output, explained, warm_up_batch
from lnmt.runtime.grouping import Arrays, cut, join
from lnmt.runtime.options import Options
from lnmt.types import Batch, Output

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # input_ids, attention_mask [B, T] → logits, pooled


class TorchWeights(ABC):
    """Loads, casts and runs; a subclass says what is made of the model first.

    fp16 runs on the first GPU: on CPUs PyTorch emulates most of it. Everything else runs on the CPU, with PyTorch's
    own threads, which a whole process shares: the last load sets them.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._forward: Forward | None = None
        self._options = Options()
        self._bundle: Bundle

    @abstractmethod
    def prepare(self, model: BaseModel, cache: Path | None) -> Forward:
        """`model`, in eval mode, as what `infer` calls."""

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        self._options = Options.of(bundle, ("group_rows",))
        self._bundle = bundle
        self._device = _device(bundle)
        torch.set_num_threads(threads or available_cores())
        with _explained_memory(bundle):
            # Cast weights, not autocast: autocast casts them anew at every call, slower than fp32 at batch 1.
            model = load_model(bundle).to(self._device, DTYPES[bundle.manifest.precision]).eval()
            self._forward = self.prepare(model, cache)

    def warm_up(self) -> None:
        self.infer(warm_up_batch())

    def infer(self, batch: Batch) -> Output:
        forward = self._forward
        assert forward is not None, "load first"
        manifest = self._bundle.manifest
        with explained(self.name, batch):
            groups = cut(batch, self._options.group_rows, manifest.pad_multiple)
            answers = [self._run(forward, group.batch) for group in groups]
            logits, pooled = join(groups, answers, batch, manifest.task)
        return checked_output(self.name, batch, logits, pooled, manifest.task)

    def close(self) -> None:
        self._forward = None

    def _run(self, forward: Forward, batch: Batch) -> Arrays:
        inputs = (torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))
        with torch.inference_mode():
            logits, pooled = forward(*(tensor.to(self._device) for tensor in inputs))
            return logits.float().cpu().numpy(), pooled.float().cpu().numpy()


class ByPlace(torch.nn.Module):
    """A model with its inputs by place and a plain pair of outputs: what tracers and compilers take best."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        logits, pooled = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
        return logits, pooled


def _device(bundle: Bundle) -> torch.device:
    if bundle.manifest.precision != "fp16":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise LnmtError(
            "PyTorch runs fp16 on a GPU alone, and finds none",
            where=bundle.path / "bundle.json",
            value="precision fp16",
            allowed="fp32, or bf16 where the CPU has it",
            fix="see: lnmt doctor",
        )
    return torch.device("cuda")


@contextmanager
def _explained_memory(bundle: Bundle) -> Iterator[None]:
    """What PyTorch raises where memory is not enough for the weights, as an LnmtError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # the CPU's allocator has no class of its own: RuntimeError "not enough memory: you tried to allocate …"
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        raise LnmtError(
            f"not enough memory for the model: {str(error).splitlines()[0] if str(error) else 'MemoryError'}",
            where=bundle.path / WEIGHTS,
            value=f"{bundle.file(WEIGHTS).stat().st_size / 1e6:.0f} MB of weights",
            fix="stop other programs, or use a smaller model",
        ) from error
