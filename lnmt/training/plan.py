"""How many steps a run has, where it is evaluated, and which rows each step sees."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnmt.data.batches import batch_order
from lnmt.params import TrainParams


@dataclass(frozen=True)
class Plan:
    """How many steps there are, and where evaluations fall."""

    steps_per_epoch: int
    steps: int
    evaluations_per_epoch: int

    @classmethod
    def of(cls, rows: int, options: TrainParams) -> Plan:
        """The plan for `rows` training rows."""
        batches = math.ceil(rows / options.batch_size)
        per_epoch = math.ceil(batches / options.accumulate)
        steps = per_epoch * options.epochs
        return cls(per_epoch, min(steps, options.max_steps or steps), options.evaluations_per_epoch)

    def evaluates_after(self, step: int) -> bool:
        """Whether the model is evaluated once `step` steps are done: evenly over an epoch, and at the end."""
        place = (step - 1) % self.steps_per_epoch + 1
        share = self.evaluations_per_epoch / self.steps_per_epoch
        return step == self.steps or math.floor(place * share) > math.floor((place - 1) * share)


class StepOrder:
    """Which rows each optimiser step sees; the order of one epoch is kept at a time."""

    def __init__(self, lengths: NDArray[np.int64], plan: Plan, options: TrainParams) -> None:
        self._lengths = lengths
        self._plan = plan
        self._options = options
        self._epoch = -1
        self._batches: Sequence[NDArray[np.int64]] = []

    def batches(self, step: int) -> Sequence[NDArray[np.int64]]:
        """The row places of each batch of step `step`, from 0."""
        epoch, place = divmod(step, self._plan.steps_per_epoch)
        if epoch != self._epoch:
            self._batches = batch_order(self._lengths, self._options.batch_size, self._options.seed, epoch)
            self._epoch = epoch
        start = place * self._options.accumulate
        return self._batches[start : start + self._options.accumulate]

    def remaining(self, step: int) -> Iterator[NDArray[np.int64]]:
        """The batches of all steps from `step`, one after the other."""
        for later in range(step, self._plan.steps):
            yield from self.batches(later)

    def batches_of(self, step: int) -> int:
        """How many batches step `step` has; the last one of an epoch may have fewer than the others."""
        place = step % self._plan.steps_per_epoch
        batches = math.ceil(len(self._lengths) / self._options.batch_size)
        return min(self._options.accumulate, batches - place * self._options.accumulate)

    def rows(self) -> int:
        """Rows of all steps together."""
        epochs, rest = divmod(self._plan.steps, self._plan.steps_per_epoch)
        first = epochs * self._plan.steps_per_epoch
        partial = [len(places) for step in range(first, first + rest) for places in self.batches(step)]
        return epochs * len(self._lengths) + sum(partial)
