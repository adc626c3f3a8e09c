"""What activations are on the calibration batches: looked at once, used by every decision afterwards.

Legend: B = rows, T = tokens, K = channels of an activation, S = sampled token vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from lnmt.errors import LnmtError
from lnmt.optimization.compressions.int8_products import Group
from lnmt.progress import Progress
from lnmt.types import Batch

SAMPLE = 512  # token vectors kept of each activation, spread evenly over the batches


@dataclass(frozen=True)
class Observed:
    """One activation over all batches; padding is not counted."""

    low: NDArray[np.float32]  # [K], the smallest value of each channel
    high: NDArray[np.float32]  # [K]
    sample: NDArray[np.float32]  # [S, K]


def observe(model: Any, groups: Sequence[Group], batches: Sequence[Batch], progress: Progress) -> dict[str, Observed]:
    """By activation. Raises LnmtError where there is no batch, one cannot be run, or a value is not finite."""
    from lnmt.optimization.backends.onnxruntime_int8 import GraphRun

    tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
    if tokens == 0:
        raise LnmtError(
            "there is nothing to calibrate on",
            where="calibration",
            value=f"{len(batches)} batches without a token",
            fix="give a few hundred typical texts",
        )
    names = [group.activation for group in groups]
    run = GraphRun(with_outputs(model, names))
    found: dict[str, list[Observed]] = {name: [] for name in names}
    with progress.bar("calibration", len(batches), "batches") as bar:
        for batch in batches:
            for name, values in zip(names, run(batch, names), strict=True):
                found[name].append(_look(_real(values, batch), name, groups, tokens))
            bar.advance()
    return {name: _join(parts) for name, parts in found.items()}


def with_outputs(model: Any, names: Sequence[str]) -> Any:
    """A copy of `model` that gives the values `names` as well."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {item.name for item in [*copy.graph.output, *copy.graph.input]}
    wanted = [name for name in dict.fromkeys(names) if name not in known]
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    return copy


def _real(values: NDArray[np.float32], batch: Batch) -> NDArray[np.float32]:
    """[tokens, K] of [B, T, K] or [B·T, K] without padding; of another shape every row."""
    rows = values.reshape(-1, values.shape[-1])
    mask = batch.attention_mask.reshape(-1) > 0
    return rows[mask] if len(rows) == len(mask) else rows


def _look(rows: NDArray[np.float32], name: str, groups: Sequence[Group], tokens: int) -> Observed:
    low, high = rows.min(axis=0), rows.max(axis=0)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise LnmtError(
            "an activation is not finite on the calibration batches",
            where=next(group.name for group in groups if group.activation == name),
            value=f"{int((~np.isfinite(rows)).sum())} of {rows.size} values",
            fix="look for the weights that have gone to infinity: the model itself is broken, not its quantisation",
        )
    step = max(1, -(-tokens // SAMPLE))
    return Observed(low, high, rows[::step].copy())


def _join(parts: Sequence[Observed]) -> Observed:
    return Observed(
        np.min([part.low for part in parts], axis=0),
        np.max([part.high for part in parts], axis=0),
        np.concatenate([part.sample for part in parts]),
    )
