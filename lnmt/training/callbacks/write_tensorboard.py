"""Live metrics for TensorBoard: `tensorboard --logdir .lnmt/logs`."""

from __future__ import annotations

from typing import Any

from lnmt.errors import LnmtError
from lnmt.training.callbacks.callback import Callback, Run, StepResult


class WriteTensorBoard(Callback):
    """Loss, rate and gradient norm of every `every` steps, and each evaluation."""

    def __init__(self, every: int = 1) -> None:
        self._every = every
        self._writer: Any = None

    def start(self, run: Run) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise LnmtError(
                "the callback `tensorboard` needs TensorBoard",
                where="params.yaml: train.callbacks",
                fix="pip install 'lnmt[tensorboard]'",
            ) from error
        # purge: steps after the checkpoint were written by the part of the run that was cut off
        self._writer = SummaryWriter(str(run.logs / "tensorboard"), purge_step=run.state.step + 1)

    def after_step(self, run: Run, step: StepResult) -> None:
        if step.step % self._every == 0:
            for name, value in (("loss", step.loss), ("lr", step.lr), ("gradient_norm", step.gradient_norm)):
                self._writer.add_scalar(f"train/{name}", value, step.step)
            self._writer.add_scalar("train/samples_per_second", step.rows / step.seconds, step.step)

    def after_evaluation(self, run: Run, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(f"validation/{name}", value, run.state.step)

    def finish(self, run: Run) -> None:
        if self._writer is not None:
            self._writer.close()
