"""`lnmt init` for each task: what it takes a file for, and the params.yaml that it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lnmt.api.source import FAMILIES
from lnmt.cli import run
from lnmt.errors import LnmtError
from lnmt.files import read_json
from lnmt.init.edits import Edit, for_data, make_tiny
from lnmt.init.labels import FEW_NUMBERS, guess_task, read_labels
from lnmt.init.look import file_columns, source_of
from lnmt.init.tasks import CAUSAL_MODEL, STARTS
from lnmt.params import FilesSource, Params, load_params
from lnmt.settings import load_settings
from lnmt.stages import run_stage
from lnmt.training.baselines import BASELINES
from lnmt.training.metrics import default_metric, metric_names, validation_names
from lnmt.types import Task
from tests.task_kit import LABELS, ROWS, TASKS, task_rows, write_source


def source(path: Path, label: str | None = "label") -> FilesSource:
    return source_of(path.name, "text", label, None, file_columns(path, "utf-8")[1], "utf-8")


def jsonl(path: Path, labels: Sequence[Any], text: str = "a b c") -> Path:
    lines = (json.dumps({"text": f"{text} {number}", "label": label}) for number, label in enumerate(labels))
    path.write_text("\n".join(lines))
    return path


def guess(path: Path) -> Task:
    return guess_task(path, source(path))


@dataclass(frozen=True)
class Made:
    """A project that `lnmt init` made, and what it said."""

    params: Params
    said: str
    notes: str  # of its params.yaml


@pytest.fixture(scope="module", params=TASKS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Path, str]:
    import contextlib
    import io

    task: Task = request.param
    root = tmp_path_factory.mktemp("init")
    path = write_source(root / "given", task_rows(task))
    told = ["--task", task] if task in ("token-classification", "text-generation") else []
    out = io.StringIO()
    if task == "text-regression":  # its 13 numbers might be classes too
        told = ["--task", task]
    with contextlib.redirect_stdout(out):
        assert run(["init", str(root / "project"), "--data", str(path), "--yes", *told]) == 0
    return task, root / "project", out.getvalue()


def test_the_params_fit_the_task(made: tuple[Task, Path, str]) -> None:
    task, project, said = made
    params = load_params(project / "params.yaml")
    assert (params.task, params.train.metric) == (task, default_metric(task))
    assert params.validate.labels == LABELS[task] or params.validate.labels == sorted(LABELS[task] or [])
    assert params.train.model.name == FAMILIES[task]
    assert params.train.model.options == ({} if task == "text-generation" else {"dropout": 0.1})
    assert params.evaluate.baselines == list(STARTS[task].baselines)
    assert [gate.above for gate in params.gate] == list(STARTS[task].baselines)
    assert params.ingest.sources[0].columns.label == (None if task == "text-generation" else "label")
    assert f"task {task}" in said
    assert ("lnmt serve" in said) == (task == "text-classification")
    assert ("lnmt predict" in said) == (task != "text-classification")


def test_its_rows_pass_the_stages_of_data(made: tuple[Task, Path, str]) -> None:
    task, project, _ = made
    for stage in ("ingest", "validate", "process"):
        run_stage(stage, load_settings(project))
    manifest = read_json(project / "data/processed/manifest.json")
    assert (manifest["task"], sum(manifest["rows"].values())) == (task, ROWS)
    assert sorted(manifest["labels"]) == sorted(LABELS[task] or [])
