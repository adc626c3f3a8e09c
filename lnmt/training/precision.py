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

Precision = Literal["fp32", "bf16", "fp16"]

CPU = torch.device("cpu")
LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}

ROUNDS = 3
CLEAR = 1.3  # a first round that differs by this factor settles it
GAIN = 1.03  # bf16 must be this much faster: below it the rounding buys nothing


@dataclass(frozen=True)
class PrecisionChoice:
    """The arithmetic of the matrix products; weights and optimiser state are fp32 either way."""

    precision: Precision
    why: str
    rates: dict[str, float]  # samples/s of forward and backward by precision; empty where nothing was measured


def arithmetic(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which a forward pass runs: products in the low precision, of copies of the fp32 weights.

    Any module may run in it. Those that know of it (`lnmt.models.bert`) also keep their states in the low precision.
    """
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, LOW[precision])


def choose_precision(
    wanted: Literal["auto", "fp32", "bf16", "fp16"],
    model: BaseModel,
    batches: Sequence[TrainingBatch],
    kept: Path,
    device: torch.device = CPU,
) -> PrecisionChoice:
    """What to train in. `auto` is measured on `batches` once and kept in the file `kept`, so that a
    resumed run computes as the interrupted one did; fp16, which can overflow, is never chosen.

    Moves the model to `device`; leaves its weights and torch's generator as they were.
    """
    if wanted != "auto":
        return PrecisionChoice(wanted, "asked for", {})
    if kept.is_file():
        return PrecisionChoice(**read_json(kept))
    rates = _measure(model.to(device), [batch.to(device) for batch in batches], device)
    ratio = rates["bf16"] / rates["fp32"]
    precision: Precision = "bf16" if ratio > GAIN else "fp32"
    choice = PrecisionChoice(precision, f"bf16 was measured to be {ratio:.2f}× as fast as fp32", rates)
    write_json(kept, asdict(choice))
    return choice


def _measure(model: BaseModel, batches: Sequence[TrainingBatch], device: torch.device) -> dict[str, float]:
    """Samples/s of both, in turns; the median of the rounds."""
    seconds: dict[Precision, list[float]] = {"fp32": [], "bf16": []}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for precision in seconds:
            _pass(model, batches[:1], precision, device)  # the first call of each kernel is slow
        for _ in range(ROUNDS):
            for precision, times in seconds.items():
                times.append(_pass(model, batches, precision, device))
            ratio = seconds["fp32"][0] / seconds["bf16"][0]
            if max(ratio, 1 / ratio) > CLEAR:
                break
    rows = sum(len(batch) for batch in batches)
    return {precision: round(rows / statistics.median(times), 1) for precision, times in seconds.items()}


def _pass(model: BaseModel, batches: Sequence[TrainingBatch], precision: Precision, device: torch.device) -> float:
    """Seconds of a forward and a backward pass over `batches`."""
    start = time.perf_counter()
    for batch in batches:
        with arithmetic(precision, device):
            loss = model.training_step(batch)
        torch.autograd.backward(loss)
        model.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
