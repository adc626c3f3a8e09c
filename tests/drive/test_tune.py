"""`lnmt tune` on a project whose data are processed, as a user calls it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
import yaml

from lnmt.cli import run as lnmt
from lnmt.files import read_json
from tests.task_kit import task_params
from tests.training.training_kit import make_project


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_project(tmp_path_factory.mktemp("tune") / "project")
    content = task_params("text-classification", "rows.csv")
    content["train"] |= {"epochs": 1, "evaluations_per_epoch": 2}
    content["tune"] |= {
        "trials": 2,
        "sampler": "random",
        "space": {"optimizer.lr": {"low": 1e-3, "high": 5e-2, "log": True}, "model.dropout": {"choices": [0.0, 0.2]}},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return root


@pytest.fixture
def project(source: Path, tmp_path: Path) -> Iterator[Path]:
    threads = torch.get_num_threads()
    yield shutil.copytree(source, tmp_path / "project")
    torch.set_num_threads(threads)


def tune(project: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert lnmt(["tune", *arguments, "--project", str(project), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_search_leaves_a_report_and_runs_in_mlflow(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tune(project, capsys)
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete"]
    assert read_json(project / "reports/tuning/search/study.json")["study"] == found["study"]
    assert "<svg" in (project / "reports/tuning/search/index.html").read_text()
    client = mlflow.MlflowClient(f"sqlite:///{project / '.lnmt/mlflow.db'}")
    experiment = client.get_experiment_by_name("sentiment")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.tags["lnmt.trial"] for run in runs} == {"0", "1"}
    scores = sorted(run.data.metrics["best.macro_f1"] for run in runs)
    assert scores == sorted(trial["score"] for trial in found["trials"])
    assert {float(run.data.params["optimizer.lr"]) for run in runs} == {
        trial["values"]["optimizer.lr"] for trial in found["trials"]
    }
    assert tune(project, capsys)["trials"] == found["trials"], "a finished study is only told"


def test_workers_share_the_study(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["tune"]["trials"] = 4
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    found = tune(project, capsys, "--workers", "2")
    assert len([trial for trial in found["trials"] if trial["state"] == "complete"]) >= 4
    log = (project / ".lnmt/logs/tune/worker-1.log").read_text()
    assert "Traceback" not in log


def test_the_finders_tell_and_keep_what_they_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = tune(project, capsys, "batch-size")
    assert sizes == read_json(project / "reports/tuning/batch-size.json")
    assert sizes["fastest"] <= sizes["largest"]
    rates = tune(project, capsys, "learning-rate")
    assert rates == read_json(project / "reports/tuning/learning-rate.json")
    assert (project / "reports/tuning/learning-rate.svg").is_file()


def test_without_processed_data_it_says_what_makes_them(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(project / "data/processed")
    assert lnmt(["tune", "--project", str(project)]) == 1
    assert "lnmt run process" in capsys.readouterr().err


def test_a_misspelt_parameter_is_told_before_any_trial(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["tune"]["space"] = {"optimiser.lr": {"low": 0.1, "high": 0.2}}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert lnmt(["tune", "--project", str(project)]) == 1
    assert "did you mean 'optimizer.lr'?" in capsys.readouterr().err
