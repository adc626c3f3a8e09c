from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lnmt.training.callbacks import CALLBACKS, Callback
from lnmt.training.callbacks.callback import Run, StepResult
from lnmt.training.callbacks.log_steps import LogSteps
from lnmt.training.callbacks.profile_steps import ProfileSteps
from lnmt.training.callbacks.write_tensorboard import WriteTensorBoard
from tests.training.training_kit import make_loop

pytestmark = pytest.mark.usefixtures("one_thread")


class Recorder(Callback):
    """Notes every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, run: Run) -> None:
        self.calls.append("start")

    def before_step(self, run: Run) -> None:
        self.calls.append(f"before {run.state.step + 1}")

    def after_step(self, run: Run, step: StepResult) -> None:
        self.calls.append(f"after {step.step}")

    def after_evaluation(self, run: Run, metrics: dict[str, float]) -> None:
        self.calls.append(f"evaluated {sorted(metrics)}")

    def after_save(self, run: Run, path: Path) -> None:
        assert path.is_dir()
        self.calls.append(f"saved {path.name}")

    def finish(self, run: Run) -> None:
        self.calls.append("finish")


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, run: Run, step: StepResult) -> None:
        if step.step == self.step:
            run.stop("enough")


class Counter(Callback):
    """Counts steps over interruptions, and fails at one."""

    def __init__(self, fails_at: int) -> None:
        self.count = 0
        self._fails_at = fails_at

    def after_step(self, run: Run, step: StepResult) -> None:
        self.count += 1
        if step.step == self._fails_at:
            raise ValueError("a plugin's own mistake")

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def test_hooks_are_called_in_order(tmp_path: Path, encoder: Path) -> None:
    recorder = Recorder()
    loop = make_loop(tmp_path, encoder, epochs=1, max_steps=2, evaluations_per_epoch=1)
    loop.callbacks = {**loop.callbacks, "recorder": recorder}
    loop.run()
    assert recorder.calls == [
        "start",
        "before 1",
        "after 1",
        "before 2",
        "after 2",
        "evaluated ['accuracy', 'loss', 'macro_f1']",
        "saved step-00000002",
        "finish",
    ]


def test_a_callback_may_end_the_run_which_is_then_evaluated(tmp_path: Path, encoder: Path) -> None:
    loop = make_loop(tmp_path, encoder, epochs=3)
    loop.callbacks = {"stop": StopAt(2)}
    state = loop.run()
    assert (state.step, state.stopped, state.best_step) == (2, True, 2)


def test_a_callbacks_state_goes_on_with_the_run(tmp_path: Path, encoder: Path) -> None:
    cut = make_loop(tmp_path, encoder, epochs=2, evaluations_per_epoch=2)
    cut.callbacks = {"counter": Counter(fails_at=8)}
    with pytest.raises(ValueError, match="a plugin's own mistake"):
        cut.run()
    rest, counter = make_loop(tmp_path, encoder, epochs=2, evaluations_per_epoch=2), Counter(fails_at=0)
    rest.callbacks = {"counter": counter}
    assert rest.run().step == counter.count == 12


def test_logged_steps_are_exact_and_name_their_rows(tmp_path: Path, encoder: Path) -> None:
    loop = make_loop(tmp_path, encoder, epochs=1)
    loop.callbacks = {**loop.callbacks, "log": LogSteps()}
    state = loop.run()
    steps = [json.loads(line) for line in (tmp_path / "logs/steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(1, 7))
    assert sorted(name for step in steps for name in step["ids"]) == sorted(loop.train.ids)
    assert sum(step["tokens"] for step in steps) == state.tokens == int(loop.train.lengths.sum())
    mean = sum(step["loss"] * step["rows"] for step in steps) / 96
    assert state.curve[-1]["loss"] == pytest.approx(mean)


def test_a_profile_is_a_table_and_a_trace(tmp_path: Path, encoder: Path) -> None:
    loop = make_loop(tmp_path, encoder, epochs=1)
    loop.callbacks = {**loop.callbacks, "profile": ProfileSteps(2)}
    loop.run()
    assert "aten::addmm" in (tmp_path / "logs/profile/table.txt").read_text()
    assert json.loads((tmp_path / "logs/profile/trace.json").read_text())["traceEvents"]


def test_tensorboard_holds_every_step(tmp_path: Path, encoder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop = make_loop(tmp_path, encoder, epochs=1)
    loop.callbacks = {**loop.callbacks, "tensorboard": WriteTensorBoard()}
    state = loop.run()
    events = EventAccumulator(str(tmp_path / "logs/tensorboard")).Reload()
    assert [point.step for point in events.Scalars("train/loss")] == list(range(1, 7))
    assert events.Scalars("validation/macro_f1")[-1].value == pytest.approx(state.validation[-1]["macro_f1"])


def test_built_in_callbacks_have_names() -> None:
    assert CALLBACKS.get("log_steps") is LogSteps
    assert CALLBACKS.get("tensorboard") is WriteTensorBoard
