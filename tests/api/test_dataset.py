from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lnmt import Dataset
from lnmt.data.split import Splitter
from lnmt.data.tables import count_rows, read_schema
from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Plugin, SplitShares
from lnmt.plugins import register_processor
from lnmt.text.processors import BaseProcessor


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_file_has_its_own_names_of_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "mail.csv", 'number,message,team\n7,"hello, you",sales\n8,bye,support\n')
    found = Dataset.from_csv(path, text="message", label="team", id="number")
    assert found.table.to_pydict() == {
        "id": ["mail/7", "mail/8"],
        "text": ["hello, you", "bye"],
        "label": ["sales", "support"],
    }
    assert (found.task, found.labels, len(found)) == ("text-classification", ("sales", "support"), 2)
    assert repr(found) == "<lnmt.Dataset: 2 rows, text-classification, sales, support>"


def test_a_delimiter_is_taken_and_gz_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mail.csv.gz"
    path.write_bytes(gzip.compress(b"text;label\na;x\nb;y\n"))
    assert Dataset.from_csv(path, delimiter=";").texts == ["a", "b"]


@pytest.mark.parametrize(
    ("task", "cells", "labels", "stored"),
    [
        ("multi-label-classification", [["b", "a"], []], ("a", "b"), ['["b", "a"]', "[]"]),
        ("token-classification", ["B-X I-X", "O B-X"], ("O", "B-X", "I-X"), ["B-X I-X", "O B-X"]),
        ("text-regression", [1, 2.5], (), ["1", "2.5"]),
    ],
)
def test_every_task_reads_its_labels(
    tmp_path: Path, task: Any, cells: list[Any], labels: tuple[str, ...], stored: list[str]
) -> None:
    rows = [{"text": f"word{place} word", "label": cell} for place, cell in enumerate(cells)]
    lines = write(tmp_path / "rows.jsonl", "\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    made = Dataset.from_rows([row["text"] for row in rows], cells, task=task)
    for found in (
        Dataset.from_jsonl(lines, task=task),
        Dataset.from_parquet(tmp_path / "rows.parquet", task=task),
        made,
    ):
        assert (found.labels, found.targets) == (labels, stored)


def test_texts_without_labels_are_for_generation(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", '{"text": "once"}\n')
    assert Dataset.from_jsonl(path, label=None, task="text-generation").targets == [None]
    with pytest.raises(LnmtError, match="text-generation has no labels") as caught:
        Dataset.from_jsonl(path, task="text-generation")
    assert caught.value.fix == "pass label=None"
    with pytest.raises(LnmtError, match="text-classification needs labels"):
        Dataset.from_jsonl(path, label=None)


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        ({"text": "txt"}, "unknown column 'txt'", "did you mean 'text'?"),
        ({"label": "lable"}, "unknown column 'lable'", "did you mean 'label'?"),
        ({"id": "ide"}, "unknown column 'ide'", "choose one of the allowed names, or register this column"),
        ({"task": "text-classfication"}, "unknown task", "did you mean 'text-classification'?"),
    ],
)
def test_a_misspelt_name_has_its_neighbour_named(tmp_path: Path, options: dict[str, Any], what: str, fix: str) -> None:
    path = write(tmp_path / "rows.csv", "text,label\na,x\nb,y\n")
    with pytest.raises(UnknownName, match=what) as caught:
        Dataset.from_csv(path, **options)
    assert caught.value.fix == fix


@pytest.mark.parametrize(
    ("content", "options", "what", "value"),
    [
        ("text,label\na,x\n,y\n", {}, "a row has no text", "row rows/#2"),
        ("text,label\na,x\nb,\n", {}, "label missing", "row rows/#2: None"),
        ("text,label\na,x\nb,z\n", {"labels": ["x", "y"]}, "label outside the set", "row rows/#2: 'z'"),
        ("text,label\na,x\nb,1\n", {"task": "text-regression"}, "label is no finite number", "row rows/#1: 'x'"),
        ("text,label\na,x\nb,x\n", {}, "needs at least 2 labels", "x"),
        (
            "text,label\na b,O\n",
            {"task": "token-classification", "labels": ["O", "B-X"]},
            "not one tag for each word",
            "row rows/#1: 'O'",
        ),
    ],
)
def test_a_row_that_cannot_be_learnt_from_is_named(
    tmp_path: Path, content: str, options: dict[str, Any], what: str, value: str
) -> None:
    path = write(tmp_path / "rows.csv", content)
    with pytest.raises(LnmtError, match=what) as caught:
        Dataset.from_csv(path, **options)
    assert (caught.value.where, caught.value.value) == (path, value)


def test_a_file_that_is_not_there_and_lists_of_other_lengths_are_told(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="no such file"):
        Dataset.from_csv(tmp_path / "none.csv")
    with pytest.raises(LnmtError, match="not as many targets as texts") as caught:
        Dataset.from_rows(["a", "b"], ["x"])
    assert caught.value.value == "1 and 2"


def test_the_split_is_the_pipelines(tmp_path: Path) -> None:
    texts = [f"text number {place}" for place in range(200)]
    data = Dataset.from_rows(texts, ["x", "y"] * 100)
    parts = data.split(train=0.6, validation=0.2, test=0.2, salt="other")
    splitter = Splitter(SplitShares(train=0.6, validation=0.2, test=0.2), "other")
    names = ("train", "validation", "test")
    assert {name: part.texts for name, part in zip(names, parts, strict=True)} == {
        name: [text for text in texts if splitter.split(text) == name] for name in names
    }
    assert [part.labels for part in parts] == [("x", "y")] * 3
    assert parts.train.targets[0] == "xy"[texts.index(parts.train.texts[0]) % 2]


def test_equal_wordings_stay_together() -> None:
    data = Dataset.from_rows([*("A film!", "a  FILM") * 20], ["x", "y"] * 20)
    assert sorted(len(part) for part in data.split()) == [0, 0, 40]


def test_an_empty_data_set_is_split_and_shares_must_sum_to_one() -> None:
    data = Dataset.from_rows([], [], labels=["x", "y"])
    assert [len(part) for part in data.split()] == [0, 0, 0]
    with pytest.raises(LnmtError, match="sum to 1"):
        data.split(train=0.9)


def test_processors_change_texts_drop_rows_and_are_kept() -> None:
    data = Dataset.from_rows(["a &amp; b", "&gt;", "c d"], ["x", "y", "x"], labels=["x", "y"])
    found = data.process("unescape", {"name": "filter", "min_characters": 2})
    assert (found.texts, found.targets) == (["a & b", "c d"], ["x", "x"])
    assert found.processors == (Plugin(name="unescape"), Plugin(name="filter", min_characters=2))
    assert data.texts[0] == "a &amp; b"
    assert found.process("whitespace").processors[2:] == (Plugin(name="whitespace"),)


def test_a_processor_that_fails_names_its_row(plugin_tables: None) -> None:
    @register_processor("picky")
    class Picky(BaseProcessor):
        def process(self, data: str) -> str:
            if data == "b":
                raise RuntimeError("no b")
            return data

    data = Dataset.from_rows(["a", "b"], ["x", "y"])
    with pytest.raises(LnmtError, match="processor 'picky' failed: RuntimeError: no b") as caught:
        data.process("picky")
    assert caught.value.value == "row '#2': 'b'"
    with pytest.raises(UnknownName, match="unknown processor 'pickie'") as unknown:
        data.process("pickie")
    assert unknown.value.fix == "did you mean 'picky'?"
    with pytest.raises(LnmtError, match="a plugin has a name"):
        data.process({"form": "NFC"})


def test_it_is_written_as_the_pipeline_keeps_a_split(tmp_path: Path) -> None:
    Dataset.from_rows(["a", "b"], ["x", "y"]).write(tmp_path / "rows")
    assert count_rows(tmp_path / "rows") == 2
    assert read_schema(tmp_path / "rows").names == ["id", "text", "label"]
