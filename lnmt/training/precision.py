"""Which arithmetic to train in: asked for, or measured on this machine and then kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lnmt.files import read_json, write_json
from lnmt.models.base import BaseModel, TrainingBatch

Precision = Literal["fp32", "bf16"]

ROUNDS = 3
CLEAR = 1.3  # a first round that differs by this factor settles it
GAIN = 1.03  # bf16 must be this much faster: below it the rounding buys nothing


@dataclass(frozen=True)
class PrecisionChoice:
    """The arithmetic of the matrix products; weights and optimiser state are fp32 either way."""

    precision: Precision
    why: str
    rates: dict[str, float]  # samples/s of forward and backward by precision; empty where nothing was measured


def arithmetic(precision: Precision) -> AbstractContextManager[Any]:
    """The context in which a forward pass runs."""
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def choose_precision(
    wanted: Literal["auto", "fp32", "bf16"], model: BaseModel, batches: Sequence[TrainingBatch], kept: Path
) -> PrecisionChoice:
    """What to train in. `auto` is measured on `batches` once and kept in the file `kept`, so that a
    resumed run computes as the interrupted one did.

    Leaves the model's weights and torch's generator as they were.
    """
    if wanted != "auto":
        return PrecisionChoice(wanted, "asked for", {})
    if kept.is_file():
        return PrecisionChoice(**read_json(kept))
    rates = _measure(model, batches)
    ratio = rates["bf16"] / rates["fp32"]
    precision: Precision = "bf16" if ratio > GAIN else "fp32"
    choice = PrecisionChoice(precision, f"bf16 was measured to be {ratio:.2f}× as fast as fp32", rates)
    write_json(kept, asdict(choice))
    return choice


def _measure(model: BaseModel, batches: Sequence[TrainingBatch]) -> dict[str, float]:
    """Samples/s of both, in turns; the median of the rounds."""
    seconds: dict[Precision, list[float]] = {"fp32": [], "bf16": []}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for precision in seconds:
            _pass(model, batches[:1], precision)  # the first call of each kernel is slow
        for _ in range(ROUNDS):
            for precision, times in seconds.items():
                times.append(_pass(model, batches, precision))
            ratio = seconds["fp32"][0] / seconds["bf16"][0]
            if max(ratio, 1 / ratio) > CLEAR:
                break
    rows = sum(len(batch.labels) for batch in batches)
    return {precision: round(rows / statistics.median(times), 1) for precision, times in seconds.items()}


def _pass(model: BaseModel, batches: Sequence[TrainingBatch], precision: Precision) -> float:
    start = time.perf_counter()
    for batch in batches:
        with arithmetic(precision):
            loss = model.training_step(batch)
        torch.autograd.backward(loss)
        model.zero_grad()
    return time.perf_counter() - start
