"""Each task from a source file to an engine that may ship, and on to the answers to a file: every stage is real."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lnmt.bundles import Bundle
from lnmt.cli import run
from lnmt.drive.actions import figures
from lnmt.files import read_json
from lnmt.init.tasks import STARTS
from lnmt.settings import Settings
from lnmt.stages import STAGES, run_stage
from lnmt.training.metrics import default_metric
from lnmt.types import Task
from tasks.artifacts import metrics_table
from tests.task_kit import FILLING, LABELS, ROWS, TASKS, Row, make_task_project, task_rows, write_source

NAMES = (("anna",), ("ben", "smith"), ("paris",), ("new", "york"))
# By how much the model must be better than the plainest baseline on test, in the task's own metric; about half of what
# it is.
GAIN: Mapping[Task, float] = {
    "text-classification": 0.4,
    "multi-label-classification": 0.2,
    "text-regression": 0.25,
    "token-classification": 0.25,
    "text-generation": 1.2,
}


def named_rows(rows: int, seed: int = 0) -> list[Row]:
    """A name is a person's before the verb and a place's behind it, so that no word alone tells its tag."""
    draw = np.random.default_rng(seed)
    made: dict[str, list[str]] = {}
    while len(made) < rows:
        (person, place), verb = (NAMES[draw.integers(len(NAMES))] for _ in "ab"), str(draw.choice(["visits", "likes"]))
        filling = [str(word) for word in draw.choice(FILLING, draw.integers(2, 7))]
        tags = [*spans(person, "PER"), "O", *spans(place, "LOC"), *("O" for _ in filling)]
        made.setdefault(" ".join([*person, verb, *place, *filling]), tags)
    return [{"id": f"r{number}", "text": text, "label": tags} for number, (text, tags) in enumerate(made.items())]


def spans(words: tuple[str, ...], kind: str) -> list[str]:
    return [f"{'I' if number else 'B'}-{kind}" for number in range(len(words))]


def rows_of(task: Task, rows: int, seed: int) -> list[Row]:
    return named_rows(rows, seed) if task == "token-classification" else task_rows(task, rows, seed)


def right(task: Task, rows: list[Row], answers: pa.Table) -> float:
    """The share of the answers that are right: labels, decisions on labels, signs of numbers, or tags."""
    actual = [row["label"] for row in rows]
    if task == "text-classification":
        found = [one == label for one, label in zip(answers["predicted_label"].to_pylist(), actual, strict=True)]
    elif task == "multi-label-classification":
        pairs = zip(answers["predicted_labels"].to_pylist(), actual, strict=True)
        found = [(name in one) == (name in names) for one, names in pairs for name in LABELS[task] or ()]
    elif task == "text-regression":
        pairs = zip(answers["predicted_value"].to_pylist(), map(float, actual), strict=True)
        found = [(one > 0) == (number > 0) for one, number in pairs if number]
    else:
        pairs = zip(answers["predicted_tags"].to_pylist(), actual, strict=True)
        found = [one == tag for tags, names in pairs for one, tag in zip(tags, names, strict=True)]
    return float(np.mean(found))


def predict(project: Path, texts: list[str], *options: str) -> pa.Table:
    """What `lnmt predict` writes."""
    source, out = project / "more.jsonl", project / "answers.parquet"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert run(["predict", str(source), "--out", str(out), "--project", str(project), *options]) == 0
    table = pq.read_table(out)
    assert table["text"].to_pylist() == texts
    assert table["error"].null_count == len(texts)
    return table


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other take more than such small models do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("task", TASKS)
def test_from_source_to_answers(tmp_path: Path, task: Task) -> None:
    make_task_project(tmp_path, task)
    if task == "token-classification":
        write_source(tmp_path / "source", named_rows(ROWS))
    content = yaml.safe_load((tmp_path / "params.yaml").read_text())
    start = STARTS[task]  # what `lnmt init` writes; words alone give these rows away, so that tfidf is hard to beat
    content["evaluate"] |= {"baselines": list(start.baselines), "slices": list(start.slices)}
    content["gate"] = [dict(gate) for gate in start.gates if gate["above"] != "tfidf"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    for stage in STAGES:
        run_stage(stage.name, Settings(project=tmp_path, cache=tmp_path / "cache", threads=1))

    metrics = read_json(tmp_path / "reports/evaluation/metrics.json")
    assert list(metrics["baselines"]) == list(start.baselines)
    assert metrics["baselines"][start.baselines[0]][f"gain_{default_metric(task)}"] > GAIN[task]
    shown = metrics_table(metrics)
    assert [row["model"] for row in shown] == ["this model", *start.baselines]
    assert shown[0][default_metric(task)] == round(metrics["test"][default_metric(task)], 4)
    assert read_json(tmp_path / "reports/gate/approval.json")["gates"] == len(content["gate"]) == 1
    measured = read_json(tmp_path / "reports/optimization/measurements.json")["measurements"]
    assert {entry["name"]: entry["failure"] for entry in measured} == {"torch-fp32": None, "onnxruntime-fp32": None}
    trained, shipped = (Bundle.open(tmp_path / "models" / name) for name in ("trained", "optimized"))
    assert (shipped.manifest.task, shipped.manifest.parent) == (task, trained.digest)
    assert figures(tmp_path, shipped)[f"test.{default_metric(task)}"] == metrics["test"][default_metric(task)]

    fresh = rows_of(task, 60, seed=1)
    texts = [row["text"] for row in fresh]
    which = ("--bundle", "optimized") if task == "text-classification" else ()  # nothing was released
    answers = predict(tmp_path, texts, *which)
    if task == "text-generation":
        backwards = predict(tmp_path, [" ".join(reversed(text.split())) for text in texts])
        losses = [np.mean(table["loss"].to_pylist()) for table in (answers, backwards)]
        assert losses[0] + 1 < losses[1]
    else:
        assert right(task, fresh, answers) > 0.8
