"""The base class of callbacks, and what they see of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnmt.params import TrainParams
from lnmt.progress import Progress
from lnmt.training.execution import Execution
from lnmt.training.plan import Plan
from lnmt.training.state import TrainState


@dataclass(frozen=True)
class Run:
    """One run, as callbacks see it."""

    options: TrainParams
    plan: Plan
    state: TrainState
    execution: Execution
    progress: Progress
    work: Path  # survives a crash; what is left there at the end is deleted
    logs: Path  # for whoever follows the run; kept
    stop: Callable[[str], None]  # end after this step, with the reason


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step did."""

    step: int  # from 1
    loss: float  # mean over the targets of its batches
    lr: float
    gradient_norm: float  # before clipping
    rows: int
    tokens: int  # without padding
    ids: tuple[str, ...]  # of the rows it learnt from
    seconds: float
    waited_s: float  # of these, for input


class Callback:
    """Subclass it, define what is of use, and register it: `@CALLBACKS.register("name")`.

    Options of `params.yaml` are the constructor's keyword arguments. State that a resumed run needs
    goes through `state_dict`. An error raised here ends the run.
    """

    def start(self, run: Run) -> None:
        """Before the first step, also of a resumed run; its checkpoint is loaded."""

    def before_step(self, run: Run) -> None:
        """Before a step's batches are asked for."""

    def after_step(self, run: Run, step: StepResult) -> None:
        """After the weights moved."""

    def after_evaluation(self, run: Run, metrics: dict[str, float]) -> None:
        """After `metrics` were measured on validation; `run.state.best_step` is up to date."""

    def after_save(self, run: Run, path: Path) -> None:
        """After a checkpoint is whole and on the disk."""

    def finish(self, run: Run) -> None:
        """After the last step, and also after an error or a signal."""

    def state_dict(self) -> dict[str, Any]:
        """Nested tensors and JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` told."""
