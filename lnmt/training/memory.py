"""When memory runs out: knowing it, and telling which batch size would fit."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from lnmt.errors import LnmtError
from lnmt.models.base import TrainingBatch
from lnmt.training.execution import Execution

SIGNS = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory")  # in the CPU allocator's errors

Longest = Callable[[int], TrainingBatch]  # the batch of so many of the longest rows


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a tensor found no room."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def largest_that_fits(execution: Execution, longest: Longest, batch_size: int) -> int:
    """The largest of `batch_size` / 2, / 4 … with which a step over the longest rows runs; 0: none does."""
    size = batch_size // 2
    while size > 0:
        try:
            execution.backward(execution.loss(longest(size)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size //= 2
        else:
            return size
        finally:
            execution.discard()
            give_back(execution.device)
    return 0


def too_large(error: BaseException, execution: Execution, longest: Longest, batch_size: int, step: int) -> LnmtError:
    """What to tell a user whose batch found no room; tries which size does."""
    execution.discard()
    give_back(execution.device)
    fits = largest_that_fits(execution, longest, batch_size)
    first = str(error).splitlines()[0]
    return LnmtError(
        f"a batch is too large for the memory: {first}",
        where=f"step {step}, params.yaml: train.batch_size",
        value=batch_size,
        allowed=f"{fits} fits, tried with the longest rows" if fits else "not even 1 row fits",
        fix=(
            f"set train.batch_size: {fits} and train.accumulate: {-(-batch_size // fits)}, or "
            if fits
            else "lower train.max_tokens, or "
        )
        + "train.gradient_checkpointing: true; the last checkpoint is kept",
    )


def give_back(device: torch.device) -> None:
    """Free what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
