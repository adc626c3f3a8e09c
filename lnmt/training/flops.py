"""How much arithmetic a training token costs, and how much this device can do: their ratio in use is the MFU.

Model FLOPs utilisation: Chowdhery et al., PaLM, 2022, appendix B. FLOPs are counted, not estimated from parameters.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from lnmt.files import read_json, write_json
from lnmt.models.base import TrainingBatch
from lnmt.training.execution import Execution
from lnmt.training.precision import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIZE = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product is timed
ROUNDS = 8


def flops_per_token(execution: Execution, batch: TrainingBatch) -> float:
    """FLOPs of forward and backward over `batch`, by token, padding included.

    Weights and generator stay as they are.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        execution.backward(execution.loss(batch))
    execution.discard()
    return float(counter.get_total_flops()) / batch.input_ids.numel()


def peak_flops(precision: Precision, device: torch.device, kept: Path) -> float:
    """FLOP/s of the fastest of a few products of large matrices; measured once and kept in the file `kept`.

    What is reached in practice, not what the maker prints: an MFU against it is not flattered by a busy machine.
    """
    if kept.is_file():
        return float(read_json(kept)["flops_per_s"])
    size = SIZE.get(device.type, 1024)
    left, right = (torch.ones(size, size, dtype=DTYPES[precision], device=device) for _ in range(2))
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    found = 2 * size**3 / min(seconds)
    write_json(kept, {"flops_per_s": found, "matrix": size, "precision": precision})
    return found
