"""Watches the loss: what is not finite, or far above what is usual, is no step to learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from lnmt.errors import LnmtError
from lnmt.params import TrainParams

MEMORY = 0.98  # of the running mean, a step
SETTLED = 20  # steps before a spike can be told from the start of learning
SHOWN_IDS = 8
SCALE_STEPS = 30  # in a row that fp16 may need to find its scale: 2 to the power of it
MOST_LEFT_OUT = 0.01  # of the steps, and at least 3: more is no accident


class LossGuard:
    """Judges the loss of each step before its gradients are used."""

    def __init__(self, options: TrainParams) -> None:
        self._action: Literal["stop", "skip"] = options.bad_loss
        self._spike = options.loss_spike
        self._described = f"lr {options.optimizer.options.get('lr')}, precision {options.precision}"
        self._mean = 0.0  # running, biased to 0; see `mean`
        self._steps = 0
        self._left_out = 0
        self._scaled = options.precision == "fp16"
        self._overflows = 0  # in a row

    @property
    def mean(self) -> float:
        """The running mean of the losses, without the bias of its start (Kingma & Ba, Adam, 2015, section 3)."""
        return self._mean / (1 - MEMORY**self._steps) if self._steps else math.nan

    def keeps(self, loss: float, step: int, ids: Sequence[str]) -> bool:
        """Whether to learn from a step; False: leave it out. Raises LnmtError where a bad one stops the run."""
        spike = self._spike is not None and self._steps >= SETTLED and loss > self._spike * abs(self.mean)
        if math.isfinite(loss) and not spike:
            self._mean = MEMORY * self._mean + (1 - MEMORY) * loss
            self._steps += 1
            return True
        self._left_out += 1
        often = self._often()
        if self._action == "stop" or often:
            raise self._error(loss, step, ids, often=often and self._action == "skip")
        return False

    def note(self, skipped: bool, step: int, ids: Sequence[str]) -> None:
        """What became of a step whose loss was good: one is skipped where its gradients are not finite.

        In fp16 that is how the loss scale is found; elsewhere, and where it does not end, it is a bad step.
        """
        self._overflows = self._overflows + 1 if skipped else 0
        if skipped and (not self._scaled or self._overflows > SCALE_STEPS):
            self._left_out += 1
            often = self._often()
            if self._action == "stop" or often or self._scaled:
                raise self._error(math.inf, step, ids, what="gradient norm", often=often and self._action == "skip")

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"mean": self._mean, "steps": self._steps, "left_out": self._left_out, "overflows": self._overflows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self._mean, self._steps = state["mean"], state["steps"]
        self._left_out, self._overflows = state["left_out"], state["overflows"]

    def _often(self) -> bool:
        return self._left_out > max(3, MOST_LEFT_OUT * (self._steps + self._left_out))

    def _error(
        self, loss: float, step: int, ids: Sequence[str], *, often: bool, what: str = "training loss"
    ) -> LnmtError:
        shown = f"rows {', '.join(ids[:SHOWN_IDS])}{' …' if len(ids) > SHOWN_IDS else ''}"
        if math.isfinite(loss):
            message = f"the training loss jumped to {loss:.4g}, from a mean of {self.mean:.4g}"
            allowed = f"at most {self._spike} × the mean (train.loss_spike)"
        else:
            message, allowed = f"the {what} is {loss}", "a finite number"
        if often:
            message += f"; {self._left_out} steps were bad so far, which is no accident"
        return LnmtError(
            message,
            where=f"step {step}, {shown}",
            value=self._described,
            allowed=allowed,
            fix="look at these rows, lower train.optimizer.lr, or set train.precision: fp32"
            + ("" if often else "; train.bad_loss: skip leaves such batches out")
            + "; the last checkpoint is kept",
        )
