"""LNMT's own loop, as the stage `train` runs it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.trainers.common import Rounds, Setting, score
from lnmt.progress import Progress
from lnmt.training.callbacks import Callback
from lnmt.training.callbacks.callback import Run, StepResult
from lnmt.training.fit import fit


class Timed(Callback):
    """Tells rounds of each step."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds

    def start(self, run: Run) -> None:
        self._rounds.begin()

    def after_step(self, run: Run, step: StepResult) -> None:
        self._rounds.step(step.rows, step.tokens, step.waited_s)


def main() -> None:
    """Train in rounds, then score."""
    setting, rounds = Setting.of_arguments(), Rounds()
    fitted = fit(
        setting.options,
        setting.data,
        work=Path(setting.work),
        logs=Path(setting.work) / "logs",
        progress=Progress(show=False),
        callbacks={"timed": Timed(rounds)},
    )
    model = fitted.model
    found = score(lambda ids, mask: model({"input_ids": ids, "attention_mask": mask})[0], setting.data)
    rounds.answer({**found, "precision": fitted.precision.precision})


if __name__ == "__main__":
    main()
