"""Dropout that costs little on a CPU.

torch draws one 32-bit number an element there, on one thread: a tenth of a BERT's training step. Eight bits
each do as well, and come eight to a draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 256  # of eight bits


def keep_mask(shape: Sequence[int], share: float, dtype: torch.dtype) -> Tensor:
    """0 with probability `share` (in steps of 1/256), else what keeps the mean at 1; on the CPU, torch's generator."""
    count, dropped = math.prod(shape), round(share * LEVELS)
    draws = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.uint8)[:count].view(*shape)
    kept = torch.ge(bits, dropped, out=torch.empty(*shape, dtype=dtype))  # by way of bool it takes five times as long
    return kept.mul_(LEVELS / (LEVELS - dropped) if dropped < LEVELS else 0.0)


def drop(states: Tensor, share: float) -> Tensor:
    """`states` with the share of its elements at 0, the others scaled so that the mean stays."""
    if share == 0.0:
        return states
    if states.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.dropout(states, share)
    return states * keep_mask(states.shape, share, states.dtype)


def drop_add(states: Tensor, residual: Tensor, share: float) -> Tensor:
    """`drop(states, share) + residual`, in one pass on a CPU."""
    if share == 0.0 or states.device.type != "cpu" or torch.compiler.is_compiling():
        return drop(states, share) + residual
    return torch.addcmul(residual, states, keep_mask(states.shape, share, states.dtype))
