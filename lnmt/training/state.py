"""Where a run stands, as JSON values: it is in every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrainState:
    """`step` counts optimiser steps done and tells epoch and place in it."""

    step: int = 0
    samples: int = 0
    tokens: int = 0  # without padding
    best_step: int | None = None
    best: dict[str, float] | None = None  # validation metrics at best_step
    stale: int = 0  # evaluations since then
    stopped: bool = False  # a callback asked to end before the last step
    seconds: float = 0.0  # of steps, over all interrupted parts
    waited_s: float = 0.0  # of these, for input
    curve: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    left_out: list[dict[str, object]] = field(default_factory=list)  # batches with a bad loss: step, loss, ids
