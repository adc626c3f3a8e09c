"""The training loop: batches → loss → step, evaluations on the way, a checkpoint that a killed run goes on from."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lnmt.data.batches import Examples, batch_order
from lnmt.errors import LnmtError
from lnmt.models.base import BaseModel
from lnmt.params import TrainParams
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.checkpoint import Checkpoints, TrainState
from lnmt.training.feed import to_batch
from lnmt.training.interrupt import Interrupts
from lnmt.training.optimizers import build_optimizer, set_rate
from lnmt.training.precision import Precision, arithmetic
from lnmt.training.schedules import build_schedule
from lnmt.training.validation import validate

CURVE_STEPS = 10  # optimiser steps a point of the curve
CHECKPOINT_S = 60.0  # a killed run loses at most this much; evaluations save too
SHOWN_IDS = 8  # of the rows of a batch whose loss is not finite


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
        self._batches: list[NDArray[np.int64]] = []

    def batches(self, step: int) -> list[NDArray[np.int64]]:
        """The row places of each batch of step `step`, from 0."""
        epoch, place = divmod(step, self._plan.steps_per_epoch)
        if epoch != self._epoch:
            self._batches = batch_order(self._lengths, self._options.batch_size, self._options.seed, epoch)
            self._epoch = epoch
        start = place * self._options.accumulate
        return self._batches[start : start + self._options.accumulate]

    def rows(self) -> int:
        """Rows of all steps together."""
        epochs, rest = divmod(self._plan.steps, self._plan.steps_per_epoch)
        first = epochs * self._plan.steps_per_epoch
        partial = [len(places) for step in range(first, first + rest) for places in self.batches(step)]
        return epochs * len(self._lengths) + sum(partial)


@dataclass(frozen=True)
class Loop:
    """One run over fixed data. Everything random in it is a function of the seed and the step."""

    model: BaseModel
    tokenizer: Tokenizer
    train: Examples
    validation: Examples
    options: TrainParams
    precision: Precision
    checkpoints: Checkpoints
    progress: Progress

    def run(self) -> TrainState:
        """Train to the end, going on from the newest checkpoint; the best weights are then in the model.

        Raises LnmtError where the loss is not finite. Ctrl-C and SIGTERM leave a checkpoint first.
        """
        plan = Plan.of(len(self.train), self.options)
        optimizer = build_optimizer(self.model, self.options.optimizer)
        schedule = build_schedule(self.options.schedule, plan.steps)
        torch.manual_seed(self.options.seed)
        state = self.checkpoints.resume(self.model, optimizer) or TrainState()
        if state.step:
            self.progress.note(f"goes on from step {state.step} of {plan.steps}", step=state.step)
        self.model.train()
        saved = time.monotonic()
        order = StepOrder(self.train.lengths, plan, self.options)
        with Interrupts() as interrupts, self.progress.bar("train", order.rows(), "samples") as bar:
            bar.advance(state.samples)
            while state.step < plan.steps and not state.stopped:
                rate = set_rate(optimizer, schedule(state.step))
                rows, loss = self.step(order.batches(state.step), optimizer, state)
                bar.advance(rows, loss=loss, lr=rate, rate=state.window_rows / max(state.window_seconds, 1e-9))
                if state.step % CURVE_STEPS == 0 or state.step == plan.steps:
                    self._point(plan, state, rate)
                evaluated = plan.evaluates_after(state.step)
                if evaluated:
                    self._evaluate(state)
                if evaluated or interrupts.asked or time.monotonic() - saved > CHECKPOINT_S:
                    self.checkpoints.save(state, self.model, optimizer)
                    saved = time.monotonic()
                if interrupts.asked:
                    interrupts.stop()
        assert state.best_step is not None, "the last step is always evaluated"
        self.model.load_state_dict(self.checkpoints.weights(state.best_step))
        return state

    def step(
        self, batches: Sequence[NDArray[np.int64]], optimizer: torch.optim.Optimizer, state: TrainState
    ) -> tuple[int, float]:
        """One optimiser step over `batches`; returns its rows and their mean loss."""
        start = time.perf_counter()
        rows = sum(len(places) for places in batches)
        total = 0.0
        for places in batches:
            with arithmetic(self.precision):
                loss = self.model.training_step(to_batch(self.train, places, self.tokenizer))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise self._not_finite("training", value, state.step + 1, self._named(places))
            total += value * len(places)
            torch.autograd.backward(loss * (len(places) / rows))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - start
        state.step += 1
        state.samples += rows
        state.window_loss += total
        state.window_rows += rows
        state.window_seconds += seconds
        state.seconds += seconds
        return rows, total / rows

    def _point(self, plan: Plan, state: TrainState, rate: float) -> None:
        """A point of the curve from the window since the last one, which then starts again."""
        point = {
            "step": state.step,
            "epoch": state.step / plan.steps_per_epoch,
            "loss": state.window_loss / state.window_rows,
            "lr": rate,
            "samples_per_second": state.window_rows / state.window_seconds,
        }
        state.curve.append(point)
        state.window_loss, state.window_rows, state.window_seconds = 0.0, 0, 0.0
        self._tell("train", point, state.step)

    def _evaluate(self, state: TrainState) -> None:
        found = validate(self.model, self.validation, self.tokenizer, self.precision)
        if not math.isfinite(found["loss"]):
            raise self._not_finite("validation", found["loss"], state.step, f"{len(self.validation)} validation rows")
        state.validation.append({"step": state.step, **found})
        self._tell("validation", found, state.step)
        metric = self.options.metric
        better = state.best is None or found[metric] > state.best[metric]
        state.best, state.best_step = (found, state.step) if better else (state.best, state.best_step)
        state.stale = 0 if better else state.stale + 1
        state.stopped = state.stale >= self.options.patience
        self.progress.note(
            f"step {state.step}: validation {metric} {found[metric]:.4f}, loss {found['loss']:.4f}"
            + (f"; stopping: {state.stale} evaluations without a better one" if state.stopped else "")
        )

    def _tell(self, kind: str, values: dict[str, float], step: int) -> None:
        """Live metrics, for whoever follows the progress file."""
        named = {f"{kind}.{name}": value for name, value in values.items() if name != "step"}
        self.progress.write({"metrics": named, "step": step})

    def _named(self, places: NDArray[np.int64]) -> str:
        ids = [self.train.ids[place] for place in places[:SHOWN_IDS].tolist()]
        return f"rows {', '.join(ids)}{' …' if len(places) > SHOWN_IDS else ''}"

    def _not_finite(self, kind: str, value: float, step: int, rows: str) -> LnmtError:
        return LnmtError(
            f"the {kind} loss is {value}",
            where=f"step {step}, {rows}",
            value=f"lr {self.options.optimizer.options.get('lr')}, precision {self.precision}",
            allowed="a finite number",
            fix="lower train.optimizer.lr, or set train.precision: fp32; the last checkpoint is kept",
        )
