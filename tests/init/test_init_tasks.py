"""`lnmt init` for each task: what it takes a file for, and the params.yaml that it writes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lnmt.api.source import FAMILIES
from lnmt.cli import run
from lnmt.cli.project import _guess as guess_and_ask
from lnmt.errors import LnmtError
from lnmt.files import read_json
from lnmt.init.edits import Edit, for_data, make_tiny
from lnmt.init.labels import Look, guess_task, read_labels
from lnmt.init.look import file_columns, source_of
from lnmt.init.tasks import CAUSAL_MODEL, STARTS
from lnmt.params import FilesSource, Params, load_params
from lnmt.settings import load_settings
from lnmt.stages import run_stage
from lnmt.training.baselines import BASELINES
from lnmt.training.metrics import default_metric, metric_names, validation_names
from lnmt.types import Task
from tests.task_kit import LABELS, ROWS, TASKS, task_rows, write_source

TOLD: tuple[Task, ...] = ("text-regression", "token-classification", "text-generation")  # nothing else tells these rows


def source(path: Path) -> FilesSource:
    return source_of(path.name, "text", "label", None, file_columns(path, "utf-8")[1], "utf-8")


def jsonl(path: Path, labels: Sequence[Any], text: str = "a b") -> Path:
    lines = (json.dumps({"text": f"{text} {number}", "label": label}) for number, label in enumerate(labels))
    path.write_text("\n".join(lines))
    return path


def params_for(look: Look, *, tiny: bool = False) -> Params:
    label = None if look.task == "text-generation" else "label"
    edit = Edit()
    for_data(edit, "model", source_of("rows.csv", "text", label, None, None, "utf-8"), look, [])
    if tiny:
        make_tiny(edit)
    return Edit.params(edit.text())


@pytest.fixture(scope="module", params=TASKS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Path, str]:
    """A task, a fresh project of it, and what the command said."""
    task: Task = request.param
    root = tmp_path_factory.mktemp("init")
    path = write_source(root, task_rows(task))
    with redirect_stdout(io.StringIO()) as out:
        told = ["--task", task] if task in TOLD else []
        assert run(["init", str(root / "project"), "--data", str(path), "--yes", *told]) == 0
    return task, root / "project", out.getvalue()


def test_the_params_fit_the_task(made: tuple[Task, Path, str]) -> None:
    task, project, said = made
    params = load_params(project / "params.yaml")
    assert (params.task, params.train.metric) == (task, default_metric(task))
    assert params.validate.labels == (None if LABELS[task] is None else sorted(LABELS[task] or []))
    assert params.train.model.name == FAMILIES[task]
    assert params.train.model.options == ({} if task == "text-generation" else {"dropout": 0.1})
    assert params.evaluate.baselines == [gate.above for gate in params.gate] == list(STARTS[task].baselines)
    assert params.ingest.sources[0].columns.label == (None if task == "text-generation" else "label")
    assert f"task {task}\n" in said or (f"task {task}; another one: --task\n" in said and task not in TOLD)
    assert ("lnmt serve" in said) == (task == "text-classification")
    assert ("lnmt predict FILE" in said) == (task != "text-classification")


def test_its_rows_pass_the_stages_of_data(made: tuple[Task, Path, str]) -> None:
    task, project, _ = made
    for stage in ("ingest", "validate", "process"):
        run_stage(stage, load_settings(project))
    manifest = read_json(project / "data/processed/manifest.json")
    assert (manifest["task"], sum(manifest["rows"].values())) == (task, ROWS)
    assert manifest["labels"] == sorted(LABELS[task] or [])


@pytest.mark.parametrize("task", TASKS)
def test_baselines_gates_and_the_metric_are_of_the_task(task: Task) -> None:
    start = STARTS[task]
    assert default_metric(task) in validation_names(task)
    assert [name for name in start.baselines if task not in BASELINES.get(name).tasks] == []
    for gate in start.gates:
        assert gate["above"] in start.baselines
        assert gate["metric"] in metric_names(task)


@pytest.mark.parametrize("task", TASKS)
def test_tiny_limits_go_with_every_task(task: Task) -> None:
    labels = {"B-x": 30, "O": 100} if LABELS[task] else {}
    numbers = {"deviation": 1.0} if task == "text-regression" else {}
    params = params_for(Look(task, 200, 0, labels, numbers), tiny=True)
    assert [(gate.metric, gate.at_least) for gate in params.gate] == [(default_metric(task), 0.0)]


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (["a", "b"], "text-classification"),
        ([1, 2, 3, 4, 5] * 10, "text-classification"),
        ([number / 2 for number in range(20)], "text-classification"),  # ratings by halves
        (list(range(200)), "text-classification"),  # places in a list of labels
        ([number / 2 for number in range(21)], "text-regression"),
        (list(range(201)), "text-regression"),
        ([*(number / 2 for number in range(21)), "good"], "text-classification"),
        ([*(number / 2 for number in range(21)), None], "text-regression"),
        ([["a"], ["a", "b"], []], "multi-label-classification"),
        ([["a"], ["a", "b"], None], "multi-label-classification"),
        ([["a"], "b"], "text-classification"),
        (["[PAD]", "[UNK]"], "text-classification"),
        (["a|b", "b"], "text-classification"),
        ([None], "text-classification"),
    ],
)
def test_labels_tell_their_task(tmp_path: Path, labels: list[Any], task: Task) -> None:
    path = jsonl(tmp_path / "rows.jsonl", labels)
    assert guess_task(path, source(path)) == task


@pytest.mark.parametrize(("answer", "task"), [("y", "text-regression"), ("n", "text-classification")])
def test_a_person_is_asked_whether_it_is_that_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, task: Task
) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [number / 2 for number in range(21)])
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    assert guess_and_ask(path, source(path), ask=True) == task
    assert "The labels look like those of text-regression: is it? [Y/n]" in capsys.readouterr().out


def test_lists_in_a_table_of_columns_are_lists_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a b", "c"], "label": [["x"], ["x", "y"]]}), tmp_path / "rows.parquet")
    assert guess_task(tmp_path / "rows.parquet", source(tmp_path / "rows.parquet")) == "multi-label-classification"


def test_lists_that_may_be_tags_are_asked_about(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [["O", "B-x", "O"]] * 3, text="in Rome")
    with pytest.raises(LnmtError, match="these may be tags") as raised:
        guess_task(path, source(path))
    assert raised.value.allowed == "--task token-classification, or --task multi-label-classification"
    assert (raised.value.value, raised.value.fix) == ('["O", "B-x", "O"]', "say with --task which they are")


def test_numbers_are_described(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [0, 100, 100, 0, None])
    look = read_labels(path, source(path), "text-regression", 0.05)
    numbers = {"minimum": 0.0, "maximum": 100.0, "mean": 50.0, "deviation": 50.0}
    assert look == Look("text-regression", 5, 1, {}, numbers)


def test_few_rows_get_limits_that_they_can_show() -> None:
    few, many = (params_for(Look("text-regression", rows, 0, {}, {"deviation": 1.0})) for rows in (200, 100_000))
    shipped = many.optimize.budget
    assert (shipped.max_loss, shipped.max_flip_share, shipped.max_composition_share) == (0.01, 0.02, 0.02)
    # 36 rows of test: 1 - 0.05^(1/36) = 0.080, twice; 16 of validation: 0.171, twice
    assert (few.optimize.budget.max_loss, few.optimize.budget.max_flip_share) == (0.16, 0.16)
    assert few.optimize.budget.max_composition_share == 0.35


def test_rare_labels_and_tags_lower_the_bound_on_their_share(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [*([["a"]] * 98), ["a", "b", "b"], []])
    look = read_labels(path, source(path), "multi-label-classification", 0.05)
    assert look == Look("multi-label-classification", 100, 0, {"a": 99, "b": 1}, {})
    assert params_for(look).validate.min_label_share == 0.005
    assert params_for(Look("multi-label-classification", 100, 0, {"a": 9, "b": 8}, {})).validate.min_label_share == 0.02


def test_a_language_model_starts_from_a_causal_one() -> None:
    edit = Edit()
    for_data(
        edit,
        "model",
        source_of("rows.csv", "text", None, None, None, "utf-8"),
        Look("text-generation", 9, 0, {}, {}),
        [],
    )
    text = edit.text()
    params = Edit.params(text)
    assert (params.train.encoder, params.train.digest) == (CAUSAL_MODEL, None)
    assert re.search(rf"encoder: {CAUSAL_MODEL} +# a causal language model; or local:PATH\n", text)
    assert "MiniLM" not in text
    assert params.validate.max_characters == 1_000_000
    assert sorted(params.tune.space) == ["optimizer.lr", "schedule.warmup_share"]


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        (["a", "b"], ["--task", "text-clasification"], "did you mean 'text-classification'?"),
        (["a", "b"], ["--task", "text-generation", "--label", "label"], "text-generation has no labels"),
        (["a", "b"], ["--task", "text-regression"], "2 of 2 rows cannot be used for text-regression: label is no fin"),
        ([1, 1], ["--task", "text-regression"], "a regression needs numbers that differ"),
        ([*(range(30)), "?", "?"], ["--task", "text-regression"], "2 of 32 rows cannot be used"),
        (
            ["O", "O B-x"],
            ["--task", "token-classification"],
            "2 of 2 rows cannot be used for token-classification: not",
        ),
        (["O O I-x", "O O O"], ["--task", "token-classification"], "1 of 2 rows cannot be used for token-classific"),
        (["O O O", "O O O"], ["--task", "token-classification"], "a model of tags needs at least two labels"),
        (["a", ""], ["--task", "multi-label-classification"], "a classifier needs at least two labels"),
        (list(range(300)), ["--task", "text-classification"], "more than 200 different labels"),
        ([f"w{number}" for number in range(300)], [], "--task multi-label-classification: names joined by |"),
    ],
)
def test_what_does_not_fit_the_task_is_said_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: list[Any], arguments: list[str], message: str
) -> None:
    path = jsonl(tmp_path / "rows.jsonl", labels)
    assert run(["init", str(tmp_path / "x"), "--data", str(path), "--yes", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_few_refused_rows_stop_nothing(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [*range(40), "?", "?"])
    look = read_labels(path, source(path), "text-regression", 0.05)
    assert (look.rows, look.numbers["maximum"]) == (42, 39.0)


def test_without_a_column_of_labels_the_task_without_them_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("text\na\nb\n")
    assert run(["init", str(tmp_path / "x"), "--data", str(tmp_path / "rows.csv"), "--yes"]) == 1
    assert "give --label, --task text-generation, which has none, or run in a terminal" in capsys.readouterr().err


def test_a_shipped_data_set_keeps_its_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path / "x"), "--profile", "tiny", "--task", "text-regression", "--yes"]) == 1
    assert "a shipped data set has its own task" in capsys.readouterr().err
