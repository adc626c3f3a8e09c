"""Labels that are lists, that are empty, that are numbers, and that are not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lnmt.errors import LnmtError
from lnmt.types import Task
from tests.data.sources_kit import files_entry, ingest_section, read_source, run_ingest, write_params

LISTS: dict[Task, Any] = {"multi-label-classification": ["a", "b"], "token-classification": ["O", "B-X"]}


def write_task(project: Path, task: Task, *sources: dict[str, Any]) -> None:
    """params.yaml of the task; the label set does not matter here."""
    write_params(project, ingest_section(*sources))
    content = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    content["task"] = task
    content["validate"]["labels"] = LISTS.get(task, ["a", "b"] if task == "text-classification" else None)
    (project / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def labels(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row["label"] for row in rows]


def test_lists_of_json_become_json_lists(tmp_path: Path) -> None:
    cells: list[Any] = [["a", "ä|b"], [], None, [1, 2.5, True, 0.1], ["a", None], "a|b"]
    lines = [json.dumps({"text": "t", "label": cell}) for cell in cells]
    wanted = ['["a", "ä|b"]', "[]", None, '["1", "2.5", "true", "0.1"]', '["a", null]', "a|b"]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "rows.json").write_text(f"[{','.join(lines)}]", encoding="utf-8")
    assert labels(read_source(tmp_path, files_entry("rows.jsonl"))) == wanted
    assert labels(read_source(tmp_path, files_entry("rows.json"))) == wanted


@pytest.mark.parametrize(
    ("kind", "cells", "wanted"),
    [
        (pa.list_(pa.string()), [["a", "ä"], None, [], ["b", None]], ['["a", "ä"]', None, "[]", '["b", null]']),
        (pa.large_list(pa.int64()), [[1, 2], [], None], ['["1", "2"]', "[]", None]),
        (pa.list_(pa.float32()), [[0.1, 2.0], [float("nan")]], ['["0.1", "2"]', "[null]"]),
        (pa.list_(pa.string(), 2), [["a", "b"], ["c", "d"]], ['["a", "b"]', '["c", "d"]']),
    ],
)
def test_list_columns_of_parquet_and_arrow(tmp_path: Path, kind: Any, cells: list[Any], wanted: list[Any]) -> None:
    table = pa.table({"text": ["t"] * len(cells), "label": pa.array(cells, kind)})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)  # slices of one array: their offsets do not begin at 0
    assert labels(read_source(tmp_path, files_entry("rows.parquet"))) == wanted
    assert labels(read_source(tmp_path, files_entry("rows.arrow"))) == wanted


def test_lists_in_lists_are_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["t"], "label": [[["a"]]]})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(LnmtError, match="column 'label' holds list<element: string>, not text"):
        read_source(tmp_path, files_entry("rows.parquet"))
    (tmp_path / "rows.jsonl").write_text('{"text": "t", "label": [["a"]]}', encoding="utf-8")
    with pytest.raises(LnmtError, match="column 'label' holds list, not text") as caught:
        read_source(tmp_path, files_entry("rows.jsonl"))
    assert caught.value.where == f"{tmp_path / 'rows.jsonl'}, line 1"


def test_class_labels_in_lists_of_a_hub_data_set_come_as_names(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.List(datasets.ClassLabel(names=["O", "B-PER"]))}
    )
    rows = {"text": ["anna left", "left", "x"], "label": [[1, 0], [0], None]}
    (tmp_path / "hub").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "hub" / "train.parquet")
    entry = {
        "kind": "hf",
        "repository": "hub",
        "revision": "main",
        "split": "train",
        "set": {},
        "columns": {"text": "text", "label": "label", "id": None},
        "bins": None,
    }
    assert labels(read_source(tmp_path, entry)) == ['["B-PER", "O"]', '["O"]', None]


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    cells = [0.1, 1e-7, 123456789.123456789, -3, 2.0]
    wanted = ["0.1", "1e-07", "123456789.12345679", "-3", "2"]
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"text": "t", "label": cell}) for cell in cells), encoding="utf-8"
    )
    pq.write_table(pa.table({"text": ["t"] * 5, "label": [float(cell) for cell in cells]}), tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("text,label\nt,0.10\nt, 7e-3\n", encoding="utf-8")
    assert labels(read_source(tmp_path, files_entry("rows.jsonl"))) == wanted
    read = labels(read_source(tmp_path, files_entry("rows.parquet")))
    assert [float(cell or "nan") for cell in read] == [float(cell) for cell in cells]
    assert labels(read_source(tmp_path, files_entry("rows.csv"))) == ["0.10", " 7e-3"]


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("text-classification", ["a", None, None, None]),
        ("token-classification", ["a", None, None, None]),
        ("multi-label-classification", ["a", "", None, None]),
    ],
)
def test_an_empty_label_is_none_of_several_or_none_given(tmp_path: Path, task: Task, wanted: list[str | None]) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"text": "t", "label": cell}) for cell in ["a", "", None, "nan"]), encoding="utf-8"
    )
    write_task(tmp_path, task, files_entry("rows.jsonl"))
    assert labels(run_ingest(tmp_path)[0]) == wanted


def test_text_generation_reads_no_label(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\none,a\n", encoding="utf-8")
    columns = {"text": "text", "label": None, "id": None}
    write_task(tmp_path, "text-generation", files_entry("rows.csv", columns=columns))
    (tmp_path / "data/incoming/more.jsonl").write_text('{"text": "two"}\n', encoding="utf-8")
    (tmp_path / "data/incoming/other.jsonl").write_text('{"text": "three", "label": "x"}\n', encoding="utf-8")
    rows, _ = run_ingest(tmp_path)
    assert [(row["text"], row["label"]) for row in rows] == [("one", None), ("two", None), ("three", None)]


def test_incoming_rows_of_other_tasks_need_a_label(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\none,1\n", encoding="utf-8")
    write_task(tmp_path, "text-regression", files_entry("rows.csv"))
    (tmp_path / "data/incoming/more.jsonl").write_text('{"text": "two"}\n', encoding="utf-8")
    with pytest.raises(LnmtError, match="no column 'label'"):
        run_ingest(tmp_path)
