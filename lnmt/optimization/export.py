"""PyTorch → ONNX, once for all back ends that start from it.

Legend: B = rows, T = tokens, C = labels, V = vocabulary, H = pooled width.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.errors import LnmtError
from lnmt.files import write_bytes
from lnmt.optimization.backends import Source

if TYPE_CHECKING:
    import torch

    from lnmt.models.base import BaseModel

# From 23 on attention is one operator: faster than what 18 and 20 spell out with guards against NaN.
OPSET = 23


def export_onnx(source: Source) -> Path:
    """`model.onnx` in the source's work directory: inputs `input_ids`, `attention_mask` [B, T], outputs
    `logits` [B, C], [B, T, C] or [B, T, V] by the task, `pooled` [B, H]; any B ≥ 1, one T for both
    inputs; no external data.

    Raises LnmtError where the model cannot be exported; that is remembered, so that the next back end
    fails at once with the same words.
    """
    path, failed = source.work / "model.onnx", source.work / "model.onnx.failed"
    if failed.exists():
        raise LnmtError(failed.read_text(encoding="utf-8"), where=source.bundle.path, fix=_FIX)
    if not path.exists():
        try:
            write_bytes(path, _export(source))
        except Exception as error:  # torch.export lets through whatever the model's own code raises
            first = next(iter(str(error).strip().splitlines()), "")
            message = f"ONNX export failed: {type(error).__name__}: {first[:300]}"
            write_bytes(failed, message.encode())
            raise LnmtError(message, where=source.bundle.path, fix=_FIX) from error
    return path


_FIX = "make the model's forward traceable by torch.export, or drop the engine from params.yaml: optimize.engines"


def _export(source: Source) -> bytes:
    import torch

    from lnmt.models import load_model

    manifest = source.bundle.manifest
    model = _by_place(load_model(source.bundle))
    longest = -(-manifest.max_tokens // manifest.pad_multiple) * manifest.pad_multiple
    # Named, so that both inputs share them; an example of 1 would be taken for a constant.
    shape = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=2, max=max(longest, 3))}
    input_ids = torch.ones((2, min(16, longest)), dtype=torch.int64)
    with _quiet():
        program: Any = torch.onnx.export(
            model,
            (input_ids, torch.ones_like(input_ids)),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(shape, shape),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits", "pooled"],
            verbose=False,
        )
    proto = program.model_proto
    _strip(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def _by_place(model: BaseModel) -> torch.nn.Module:
    """`model` with its inputs by place: what ONNX has, where models take one mapping."""
    import torch

    class ByPlace(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits, pooled = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
            return logits, pooled

    return ByPlace().eval()


def _strip(proto: Any) -> None:
    """Take out the exporter's notes: stack traces with paths of this machine, and the whole signature."""
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own internals and of torchvision's absence: nothing a user could act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
