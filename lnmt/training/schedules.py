"""Learning-rate schedules by name: pure functions from the step to a factor, so that resuming needs a counter alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from lnmt.params import Plugin
from lnmt.plugins.table import Table
from lnmt.text.processors import make

Schedule = Callable[[int], float]  # optimiser step, from 0 → factor of the learning rate


def linear(steps: int, warmup_share: float) -> Schedule:
    """Up from 0 over the first share of `steps`, then straight down to 0 (Devlin et al., BERT, 2019)."""
    return _warm(steps, warmup_share, lambda done: 1.0 - done)


def cosine(steps: int, warmup_share: float, floor: float = 0.0) -> Schedule:
    """Up from 0, then half a cosine down to `floor` (Loshchilov & Hutter, SGDR, ICLR 2017)."""
    return _warm(steps, warmup_share, lambda done: floor + (1.0 - floor) * (1.0 + math.cos(math.pi * done)) / 2)


def constant(steps: int, warmup_share: float) -> Schedule:
    """Up from 0, then 1."""
    return _warm(steps, warmup_share, lambda _: 1.0)


SCHEDULES: Table[Callable[..., Schedule]] = Table(
    "schedule",
    {
        "linear": "lnmt.training.schedules:linear",
        "cosine": "lnmt.training.schedules:cosine",
        "constant": "lnmt.training.schedules:constant",
    },
)


def build_schedule(plugin: Plugin, steps: int) -> Schedule:
    """The schedule over `steps` optimiser steps."""
    where = "params.yaml: train.schedule"
    return make(partial(SCHEDULES.get(plugin.name, where=where), steps), plugin, where=where)


def _warm(steps: int, warmup_share: float, after: Callable[[float], float]) -> Schedule:
    """Linear warm-up that never gives 0, then `after`, which takes the share of the rest that is done."""
    if not 0.0 <= warmup_share <= 1.0:
        raise ValueError(f"warmup_share {warmup_share} is not in 0…1")
    warmup = round(steps * warmup_share)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return after((step - warmup) / max(steps - warmup, 1))

    return factor
