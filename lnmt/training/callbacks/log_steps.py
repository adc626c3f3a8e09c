"""Every step as a line: what was learnt from, and how it went."""

from __future__ import annotations

import json
from dataclasses import asdict

from lnmt.training.callbacks.callback import Callback, Run, StepResult


class LogSteps(Callback):
    """Appends to `steps.jsonl` in the run's log directory, exact to the last bit of the loss.

    After a crash, steps since the last checkpoint appear again: the last line of a step holds.
    """

    def after_step(self, run: Run, step: StepResult) -> None:
        run.logs.mkdir(parents=True, exist_ok=True)
        with (run.logs / "steps.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(step)) + "\n")
