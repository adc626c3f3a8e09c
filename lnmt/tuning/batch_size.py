"""Which batch size fits, and which is fastest: measured on the longest rows and on ordinary ones.

Legend: B = rows of a batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from lnmt.data.batches import batch_order
from lnmt.models.base import TrainingBatch
from lnmt.params import TrainParams
from lnmt.progress import Progress
from lnmt.training.execution import Execution
from lnmt.training.feed import longest_rows, to_batch
from lnmt.training.memory import give_back, is_out_of_memory
from lnmt.training.precision import Precision
from lnmt.training.prepare import TrainingData, prepare_model

LARGEST = 4096
ROUNDS = 3  # timed steps at each size
GAIN = 1.05  # a doubling that brings less is the last one
ROOM = 0.8  # of the memory that is free, so that evaluation and other processes have some
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Trial:
    """One batch size."""

    batch_size: int
    samples_per_s: float | None  # median; None where it did not fit
    bytes: int | None  # that a step over the longest rows keeps for its way back; None where it did not fit


@dataclass(frozen=True)
class BatchSizes:
    """The finder's answer."""

    largest: int  # that fits
    fastest: int  # of those that fit; the smaller of two that are nearly as fast
    trials: list[Trial]


def find_batch_size(
    options: TrainParams, data: TrainingData, *, precision: Precision, device: torch.device, progress: Progress
) -> BatchSizes:
    """Try 1, 2, 4 … rows until memory is short or a doubling brings less than 5 %.

    On a GPU a size fits where a step over the longest rows runs; on a CPU, where running out of memory would
    end the process, where the tensors kept for the way back would leave a fifth of the free memory.
    """
    execution = Execution(prepare_model(options, data), options, precision=precision, compiled=False, device=device)
    largest = min(LARGEST, len(data.train))
    sizes = [2**power for power in range(largest.bit_length()) if 2**power <= largest]
    trials: list[Trial] = []
    with progress.bar("batch sizes", len(sizes), "sizes") as bar:
        for size in sizes:
            trial = _try(execution, data, options, size, device)
            trials.append(trial)
            bar.advance(batch_size=size, rate=trial.samples_per_s or 0.0)
            if trial.samples_per_s is None:
                break
            before = trials[-2].samples_per_s if len(trials) > 1 else None
            if before is not None and trial.samples_per_s < before * GAIN and size > options.batch_size:
                break
    fitting = [trial for trial in trials if trial.samples_per_s is not None]
    best = max((trial.samples_per_s or 0.0 for trial in fitting), default=0.0)
    fastest = next((trial.batch_size for trial in fitting if (trial.samples_per_s or 0.0) * GAIN >= best), 0)
    return BatchSizes(max((trial.batch_size for trial in fitting), default=0), fastest, trials)


def _try(execution: Execution, data: TrainingData, options: TrainParams, size: int, device: torch.device) -> Trial:
    try:
        kept = kept_bytes(execution, longest_rows(data.train, size, data.tokenizer))
        if device.type == "cpu" and kept > ROOM * free_memory():
            return Trial(size, None, None)
        order = batch_order(data.train.lengths, size, options.seed, 0)[: ROUNDS + 1]
        seconds = [_step(execution, to_batch(data.train, places, data.tokenizer)) for places in order]
        rows = [len(places) for places in order]
        rates = [count / second for count, second in zip(rows, seconds, strict=True)]
        return Trial(size, round(float(np.median(rates[1:] or rates)), 1), kept)  # the first one warms up
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Trial(size, None, None)
    finally:
        execution.discard()
        give_back(device)


def _step(execution: Execution, batch: TrainingBatch) -> float:
    """Seconds of one step at rate 0: the weights stay, the work is done."""
    start = time.perf_counter()
    execution.backward(execution.loss(batch))
    execution.update(0.0)
    if execution.device.type == "cuda":
        torch.cuda.synchronize(execution.device)
    return time.perf_counter() - start


def kept_bytes(execution: Execution, batch: TrainingBatch) -> int:
    """Bytes of the tensors that the forward pass over `batch` keeps for the way back, each storage once."""
    storages: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in execution.model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = execution.loss(batch)
    execution.backward(loss)
    execution.discard()
    return sum(storages.values())


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, and of its control group where that has a limit."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)
