"""PyTorch → ONNX, once for all back ends that start from it.

Legend: B = rows, T = tokens, C = labels, V = vocabulary, H = pooled width.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lnmt.errors import LnmtError
from lnmt.files import read_json, write_bytes, write_json
from lnmt.optimization.backends import Source
from lnmt.optimization.export_errors import explain_export

# From 23 on attention is one operator: faster than what 18 and 20 spell out with guards against NaN.
OPSET = 23
ROUNDING = 1e-2  # share of the largest number: between fp32 engines a thousand times less, for another graph more


def export_onnx(source: Source) -> Path:
    """`model.onnx` in the source's work directory: inputs `input_ids`, `attention_mask` [B, T], outputs
    `logits` [B, C], [B, T, C] or [B, T, V] by the task, `pooled` [B, H]; any B ≥ 1, one T for both
    inputs; no external data.

    Raises LnmtError where the model cannot be exported, or the graph answers otherwise than the model; that is
    remembered, so that the next back end fails at once with the same words.
    """
    path, failed = source.work / "model.onnx", source.work / "model.onnx.failed"
    if failed.exists():
        raise LnmtError(where=source.bundle.path, **read_json(failed))
    if not path.exists():
        try:
            graph = _checked(_export(source), source)
        except Exception as error:  # torch.export lets through whatever the model's own code raises
            refusal = explain_export(error)
            write_json(failed, {"what": refusal.what, "fix": refusal.fix})
            raise LnmtError(refusal.what, where=source.bundle.path, fix=refusal.fix) from error
        write_bytes(path, graph)
    return path


def _export(source: Source) -> bytes:
    import torch

    from lnmt.models import load_model
    from lnmt.runtime.torch_weights import ByPlace

    manifest = source.bundle.manifest
    model = ByPlace(load_model(source.bundle))
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


def _checked(graph: bytes, source: Source) -> bytes:
    """`graph`, where it answers as the model does to a batch of another shape than it was exported with.

    The exporter may take a size that the model's code fixes, or numbers that it computed outside of torch, for
    constants of the graph, and say nothing. Raises ValueError.
    """
    import numpy as np
    import torch

    from lnmt.models import load_model
    from lnmt.optimization.backends.onnxruntime import answer

    tokens = min(24, source.bundle.manifest.max_tokens)
    mask = np.ones((3, tokens), dtype=np.int64)
    mask[-1, (tokens + 1) // 2 :] = 0
    ids = np.arange(mask.size, dtype=np.int64).reshape(mask.shape) % 2  # every vocabulary has 0 and 1
    model = load_model(source.bundle)
    with torch.inference_mode():
        wanted = model({"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)})
    found = answer(graph, {"input_ids": ids, "attention_mask": mask})
    for name, want, have in zip(("logits", "pooled"), wanted, found, strict=True):
        expected = want.numpy()
        if have.shape != expected.shape:
            raise ValueError(f"the graph gives {name} {list(have.shape)}, the model {list(expected.shape)}")
        difference = float(np.abs(have - expected).max())
        if not difference <= ROUNDING * (1 + float(np.abs(expected).max())):
            raise ValueError(f"the graph gives other {name} than the model: {difference:.3g} apart")
    return graph


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
