"""Files in, predictions out: the columns of every task."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lnmt.progress import Progress
from lnmt.runtime.batch import BatchSummary, predict_file
from lnmt.runtime.columns import column_names
from lnmt.runtime.predictor import Predictor
from lnmt.types import Task
from tests.task_bundle import task_bundle
from tests.task_kit import TASKS, task_rows

COLUMNS: dict[Task, dict[str, pa.DataType]] = {
    "text-classification": {
        "predicted_label": pa.string(),
        "score": pa.float32(),
        "score_negative": pa.float32(),
        "score_neutral": pa.float32(),
        "score_positive": pa.float32(),
    },
    "multi-label-classification": {
        "predicted_labels": pa.list_(pa.string()),
        "score_film": pa.float32(),
        "score_phone": pa.float32(),
        "score_price": pa.float32(),
    },
    "text-regression": {"predicted_value": pa.float32()},
    "token-classification": {"predicted_tags": pa.list_(pa.string())},
    "text-generation": {"loss": pa.float32(), "perplexity": pa.float32()},
}


@pytest.mark.parametrize("task", TASKS[1:])
def test_a_file_gains_the_columns_of_its_task(task: Task, tmp_path: Path) -> None:
    predictor = Predictor.open(task_bundle(tmp_path / "bundle", task), threads=1)
    texts = [row["text"] for row in task_rows(task, 5)]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, None]))
    for name in ("out.parquet", "out.csv", "out.jsonl"):
        done = predict_file(
            source, tmp_path / name, predictor, text_column="text", batch_rows=4, progress=Progress(show=False)
        )
        assert done == BatchSummary(rows=6, errors=1, resumed=0)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.names == ["text", *COLUMNS[task], "error"]
    assert {name: table.schema.field(name).type for name in COLUMNS[task]} == COLUMNS[task]
    assert column_names(task, predictor.labels) == list(COLUMNS[task])
    assert table["error"].to_pylist() == [None] * 5 + ["no text: null"]

    expected = predictor.predict(texts)
    predictor.close()
    first = next(iter(COLUMNS[task]))
    found = table[first].to_pylist()
    assert found[5] is None
    values: dict[str, Callable[[Any], Any]] = {
        "predicted_labels": lambda one: list(one.labels),
        "predicted_value": lambda one: pytest.approx(one.value, abs=1e-5),
        "predicted_tags": lambda one: list(one.tags),
        "loss": lambda one: pytest.approx(one.loss, abs=1e-4),
    }
    assert found[:5] == [values[first](one) for one in expected]
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = [row[first] for row in csv.DictReader(file)]
    assert cells[5] == ""
    assert [json.loads(cell) for cell in cells[:5]] == [values[first](one) for one in expected]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line[first] for line in lines] == found
    if "score_film" in COLUMNS[task]:
        assert table["score_film"].to_pylist()[:5] == pytest.approx([one.scores["film"] for one in expected], abs=1e-5)
