"""Searches over a tiny real model, in real databases."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lnmt.errors import LnmtError
from lnmt.files import read_json
from lnmt.params import TuneParams
from lnmt.progress import Progress
from lnmt.training.callbacks.callback import Callback, Run, StepResult
from lnmt.training.fit import fit
from lnmt.tuning.report import best_first, write_report
from lnmt.tuning.search import Found, Tried, search
from tests.postgres import need_driver, running_postgres
from tests.training.training_kit import train_params
from tests.tuning.tuning_kit import tiny_data, tune_params

pytestmark = pytest.mark.usefixtures("one_thread")


def run(root: Path, tune: TuneParams, storage: str | None = None, **more: Any) -> Found:
    return search(
        train_params(epochs=2, batch_size=16, evaluations_per_epoch=2),
        tune,
        tiny_data(root),
        name="tiny",
        storage=storage or f"sqlite:///{root / 'tune.db'}",
        work=root / "work",
        progress=Progress(root / "progress.jsonl", show=False),
        **more,
    )


def test_a_search_tells_every_trial_and_the_best(tmp_path: Path) -> None:
    ended: list[Tried] = []
    found = run(tmp_path, tune_params(), finished=ended.append)
    assert [tried.number for tried in found.trials] == [0, 1, 2, 3]
    assert ended == found.trials
    assert {tried.state for tried in found.trials} == {"complete"}
    assert found.best is not None
    assert found.best.score == max(tried.score or 0.0 for tried in found.trials)
    assert best_first(found)[0] == found.best
    assert {tried.values["batch_size"] for tried in found.trials} <= {8, 16}
    assert all(len(tried.curve) == 4 for tried in found.trials), "four evaluations each"
    assert all(tried.score == max(score for _, score in tried.curve) for tried in found.trials)
    assert list((tmp_path / "work").rglob("*.safetensors")) == [], "no trial leaves its weights"


def test_a_finished_study_is_not_run_again_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    first = run(tmp_path, tune_params(trials=2))
    assert run(tmp_path, tune_params(trials=2)) == first
    more = run(tmp_path, tune_params(trials=3))
    assert more.trials[:2] == first.trials
    assert len(more.trials) == 3
    other = run(tmp_path, tune_params(trials=1, space={"batch_size": {"choices": [8, 32]}}))
    assert (len(other.trials), other.study == more.study) == (1, False)


def test_a_trial_that_lags_behind_is_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    class Always(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return trial.number > 0

    monkeypatch.setattr(optuna.pruners, "NopPruner", Always)
    found = run(tmp_path, tune_params(trials=3))
    assert [tried.state for tried in found.trials] == ["complete", "pruned", "pruned"]
    assert [len(tried.curve) for tried in found.trials] == [4, 1, 1]


class Interrupt(Callback):
    """Ctrl-C in the second epoch."""

    def after_step(self, run: Run, step: StepResult) -> None:
        if step.step == run.plan.steps_per_epoch + 1:
            raise KeyboardInterrupt


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", tune_params(trials=1))
    real = fit

    def cut(*given: Any, callbacks: dict[str, Callback], **more: Any) -> Any:
        return real(*given, callbacks={**callbacks, "interrupt": Interrupt()}, **more)

    (tmp_path / "cut").mkdir()
    monkeypatch.setattr("lnmt.tuning.search.fit", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", tune_params(trials=1))
    monkeypatch.undo()
    found = run(tmp_path / "cut", tune_params(trials=1))
    assert "goes on from step" in (tmp_path / "cut/progress.jsonl").read_text()
    assert [tried.state for tried in found.trials] == ["fail", "complete"]
    assert found.best is not None
    assert whole.best is not None
    assert (found.best.values, found.best.score) == (whole.best.values, whole.best.score)
    assert found.best.curve == whole.best.curve


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    run(tmp_path, tune_params(trials=1))  # makes the database
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from tests.tuning.test_search import run\n"
        "from tests.tuning.tuning_kit import tune_params\n"
        f"run(Path({str(tmp_path)!r}), tune_params(trials=5))"
    )
    other = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    try:
        run(tmp_path, tune_params(trials=5))
        assert other.wait(120) == 0
    finally:
        if other.poll() is None:
            other.send_signal(signal.SIGKILL)
            other.wait()
    found = run(tmp_path, tune_params(trials=5))
    assert len([tried for tried in found.trials if tried.state == "complete"]) >= 5
    assert len({tried.number for tried in found.trials}) == len(found.trials)


def test_a_study_in_postgresql_goes_on_there(tmp_path: Path) -> None:
    with running_postgres() as url:
        first = run(tmp_path, tune_params(trials=1), storage=url)
        both = run(tmp_path, tune_params(trials=2), storage=url)
    assert both.trials[:1] == first.trials
    assert [tried.state for tried in both.trials] == ["complete", "complete"]


def test_a_database_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    need_driver()
    with pytest.raises(LnmtError, match="the studies' database cannot be used") as caught:
        run(tmp_path, tune_params(), storage="postgresql+psycopg://me:secret@127.0.0.1:1/none")
    assert caught.value.value == "127.0.0.1:1/none"
    assert "secret" not in str(caught.value.value)


def test_the_report_shows_trials_and_works_offline(tmp_path: Path) -> None:
    found = run(tmp_path, tune_params(trials=2))
    write_report(tmp_path / "report", found, tune_params(trials=2))
    page = (tmp_path / "report/index.html").read_text()
    assert page.count("<svg") == 4
    assert re.search(r"""(src|href)\s*=\s*["']https?:""", page) is None
    assert f"{found.best.score:.4f}" in page if found.best else False
    study = read_json(tmp_path / "report/study.json")
    assert [trial["score"] for trial in study["trials"]] == [tried.score for tried in found.trials]
