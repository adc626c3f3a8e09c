"""The training loop: batches → loss → step, evaluations on the way, a checkpoint that a killed run goes on from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from lnmt.data.batches import Examples
from lnmt.errors import LnmtError
from lnmt.models.base import TrainingBatch
from lnmt.models.losses import count_targets
from lnmt.params import TrainParams
from lnmt.progress import Bar, Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.callbacks import Callback
from lnmt.training.callbacks.callback import Run, StepResult
from lnmt.training.checkpoint import Checkpoints
from lnmt.training.execution import Execution, Stateful
from lnmt.training.feed import Feed, longest_rows
from lnmt.training.guard import LossGuard
from lnmt.training.interrupt import Interrupted, Interrupts
from lnmt.training.memory import is_out_of_memory, too_large
from lnmt.training.metrics import higher_is_better
from lnmt.training.plan import Plan, StepOrder
from lnmt.training.schedules import build_schedule
from lnmt.training.state import TrainState

Validate = Callable[[Execution], dict[str, float]]  # metrics of the model as it stands, `loss` among them


@dataclass
class Loop:
    """One run over fixed data. Everything random in it is a function of the seed and the step."""

    execution: Execution
    tokenizer: Tokenizer
    train: Examples
    validate: Validate
    options: TrainParams
    checkpoints: Checkpoints
    progress: Progress
    work: Path
    logs: Path
    callbacks: Mapping[str, Callback] = field(default_factory=dict)
    strict: bool = False  # checkpoints of another run are an error

    def run(self) -> TrainState:
        """Train to the end, going on from the newest checkpoint; the best weights are then those of the checkpoint
        at `best_step`.

        Raises LnmtError where a loss is bad or memory runs out. Ctrl-C and SIGTERM leave a checkpoint first.
        """
        plan = Plan.of(len(self.train), self.options)
        torch.manual_seed(self.options.seed)
        guard = LossGuard(self.options)
        parts: dict[str, Stateful] = {**self.execution.parts(), "guard": guard}
        parts |= {
            f"callback-{name}": callback
            for name, callback in self.callbacks.items()
            if type(callback).state_dict is not Callback.state_dict  # without state it may come and go
        }
        state = self.checkpoints.resume(parts, strict=self.strict) or TrainState()
        if state.step:
            self.progress.note(f"goes on from step {state.step} of {plan.steps}", step=state.step)
        run = Run(self.options, plan, state, self.execution, self.progress, self.work, self.logs, self._stop_of(state))
        with ExitStack() as stack:
            stack.callback(self._call, "finish", run)
            self._call("start", run)
            self._steps(run, parts, guard)
        assert state.best_step is not None, "the last step is always evaluated"
        return state

    def _steps(self, run: Run, parts: Mapping[str, Stateful], guard: LossGuard) -> None:
        plan, state = run.plan, run.state
        order = StepOrder(self.train.lengths, plan, self.options)
        schedule = build_schedule(self.options.schedule, plan.steps)
        saved = time.monotonic()
        self.execution.model.train()
        with (
            Interrupts() as interrupts,
            Feed(
                self.train,
                self.tokenizer,
                workers=self.options.workers,
                prefetch=self.options.prefetch,
                pin=self.execution.device.type == "cuda",
            ) as feed,
            self.progress.bar("train", order.rows(), "samples") as bar,
        ):
            bar.advance(state.samples)
            self.execution.between_batches = interrupts.check
            batches = feed.batches(order.remaining(state.step))
            saved = self._settle(run, parts, interrupts, saved)  # an evaluation that a signal cut short
            while state.step < plan.steps and not state.stopped:
                self._call("before_step", run)
                waited = feed.waited_s
                start = time.perf_counter()
                group = list(islice(batches, order.batches_of(state.step)))
                try:
                    step = self._step(group, schedule(state.step), state, guard, start, feed.waited_s - waited)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    longest = partial(longest_rows, self.train, tokenizer=self.tokenizer)
                    raise too_large(error, self.execution, longest, self.options.batch_size, state.step + 1) from error
                for callback in self.callbacks.values():
                    callback.after_step(run, step)
                self._advance(bar, step, state)
                saved = self._settle(run, parts, interrupts, saved)

    def _settle(self, run: Run, parts: Mapping[str, Stateful], interrupts: Interrupts, saved: float) -> float:
        """Evaluate and save where it is time to, end the run where a signal asked; returns when it last saved."""
        evaluated = self._is_due(run) and self._evaluate(run)
        if evaluated or interrupts.asked or time.monotonic() - saved > self.options.checkpoint_s:
            path = self.checkpoints.save(run.state, parts)
            for callback in self.callbacks.values():
                callback.after_save(run, path)
            saved = time.monotonic()
        if interrupts.asked:
            interrupts.stop()
        return saved

    def _is_due(self, run: Run) -> bool:
        state = run.state
        last = state.validation[-1]["step"] if state.validation else 0
        return state.step > last and (run.plan.evaluates_after(state.step) or state.stopped)

    def _step(
        self,
        batches: Sequence[TrainingBatch],
        factor: float,
        state: TrainState,
        guard: LossGuard,
        start: float,
        waited_s: float,
    ) -> StepResult:
        """One optimiser step; a batch weighs as much as it has targets."""
        targets = [count_targets(self.execution.model.task, batch.labels) for batch in batches]
        total = 0.0
        for batch, count in zip(batches, targets, strict=True):
            loss = self.execution.loss(batch)
            share = count / max(sum(targets), 1)
            total += float(loss.detach()) * share
            if not math.isfinite(total):
                break
            self.execution.backward(loss * share)
        ids = tuple(name for batch in batches for name in batch.ids)
        if guard.keeps(total, state.step + 1, ids):
            update = self.execution.update(factor)
            lr, norm = update.lr, update.gradient_norm
            guard.note(update.skipped, state.step + 1, ids)
        else:
            self.execution.discard()
            lr, norm = 0.0, math.nan
            state.left_out.append({"step": state.step + 1, "loss": total, "ids": list(ids)})
            self.progress.note(f"step {state.step + 1} left out: its loss is {total:.4g}; rows {', '.join(ids[:8])}")
        seconds = time.perf_counter() - start
        rows = sum(len(batch) for batch in batches)
        tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
        state.step += 1
        state.samples += rows
        state.tokens += tokens
        state.seconds += seconds
        state.waited_s += waited_s
        return StepResult(state.step, total, lr, norm, rows, tokens, ids, seconds, waited_s)

    def _advance(self, bar: Bar, step: StepResult, state: TrainState) -> None:
        seconds = max(step.seconds, 1e-9)
        shown = {"loss": step.loss, "lr": step.lr, "rate": step.rows / seconds, "tokens_per_s": step.tokens / seconds}
        if state.curve:
            shown["mfu"] = state.curve[-1]["mfu"]
        bar.advance(step.rows, **shown)

    def _evaluate(self, run: Run) -> bool:
        """Whether it came to its end: one that a signal cuts short is made anew when the run goes on."""
        state, metric = run.state, self.options.metric
        try:
            found = self.validate(self.execution)
        except Interrupted:
            return False
        if not math.isfinite(found["loss"]):
            raise LnmtError(
                f"the validation loss is {found['loss']}",
                where=f"step {state.step}",
                value=f"lr {self.options.optimizer.options.get('lr')}, precision {self.options.precision}",
                allowed="a finite number",
                fix="lower train.optimizer.lr, or set train.precision: fp32; the last checkpoint is kept",
            )
        state.validation.append({"step": state.step, **found})
        run.progress.write(
            {"metrics": {f"validation.{name}": value for name, value in found.items()}, "step": state.step}
        )
        sign = 1 if higher_is_better(metric) else -1
        better = state.best is None or sign * found[metric] > sign * state.best[metric]
        state.best, state.best_step = (found, state.step) if better else (state.best, state.best_step)
        state.stale = 0 if better else state.stale + 1
        self.progress.note(f"step {state.step}: validation {metric} {found[metric]:.4f}, loss {found['loss']:.4f}")
        for callback in self.callbacks.values():
            callback.after_evaluation(run, found)
        return True

    def _call(self, hook: str, run: Run) -> None:
        for callback in self.callbacks.values():
            getattr(callback, hook)(run)

    def _stop_of(self, state: TrainState) -> Callable[[str], None]:
        def stop(why: str) -> None:
            state.stopped = True
            self.progress.note(f"stopping after step {state.step}: {why}")

        return stop
