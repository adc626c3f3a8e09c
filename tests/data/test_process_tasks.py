"""What `process` asks of labels and words in each task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lnmt.data.process import process
from lnmt.data.table_processors import TABLE_PROCESSORS, Bench, Rows, TableProcessor
from lnmt.errors import LnmtError
from lnmt.files import read_json
from lnmt.text.processors import PROCESSORS, BaseProcessor
from lnmt.types import LABEL, TEXT, Task
from tests.data.small_tables import params, read_table, rows, run_process, stage_io, write_validated

TAGS = ["O", "B-PER", "I-PER"]
WORDS = len(str(rows(1)[0]["text"]).split())
TAGGED = " ".join(["B-PER", "I-PER", *["O"] * (WORDS - 2)])
AUGMENT = {"name": "augment", "share": 0.5, "drop_share": 0.2, "swap_share": 0.2, "seed": 1}

Entries = list[dict[str, str | None]]


def labelled(number: int, *cells: str | None) -> Entries:
    return [{**row, "label": cells[place % len(cells)]} for place, row in enumerate(rows(number))]


def summary(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(root / "reports/process/summary.json")
    return found


def tagged(root: Path, entries: Entries, *processors: dict[str, Any]) -> None:
    run_process(root, entries, "token-classification", TAGS, processors=list(processors))


@pytest.mark.parametrize(
    ("task", "cells", "labels"),
    [
        ("multi-label-classification", ["negative|neutral", "positive", ""], ["negative", "neutral", "positive"]),
        ("text-regression", ["1", "2.5", "0"], []),
        ("text-generation", [None], []),
    ],
)
def test_the_manifest_tells_task_and_labels(
    tmp_path: Path, task: Task, cells: list[str | None], labels: list[str]
) -> None:
    run_process(tmp_path, labelled(120, *cells), task)
    manifest = read_json(tmp_path / "data/processed/manifest.json")
    assert (manifest["task"], manifest["labels"], sum(manifest["rows"].values())) == (task, labels, 120)
    assert summary(tmp_path)["missing_labels"] == []
    read = {
        row["id"]: row["label"] for name in manifest["rows"] for row in read_table(tmp_path / "data/processed" / name)
    }
    assert read == {row["id"]: row["label"] for row in labelled(120, *cells)}


def test_another_task_than_the_data_were_judged_for(tmp_path: Path) -> None:
    write_validated(tmp_path, rows(50), task="multi-label-classification")
    with pytest.raises(LnmtError, match="data/validated was judged for another task") as caught:
        process(params(), stage_io(tmp_path, "process"))
    assert (caught.value.value, caught.value.allowed) == ("text-classification", "multi-label-classification")


def of_split(root: Path, split: str) -> list[str]:
    """Ids of the rows that fall in a split, whatever their labels are."""
    run_process(root, labelled(120, "1", "2"), "text-regression", processors=[])
    return [row["id"] for row in read_table(root / "data/processed" / split)]


def test_a_label_of_several_must_be_in_train(tmp_path: Path) -> None:
    test = of_split(tmp_path / "look", "test")
    entries = labelled(120, "negative|neutral", "")
    entries = [{**row, "label": "positive"} if row["id"] in test[:3] else row for row in entries]
    with pytest.raises(LnmtError, match="the train split has no row labelled positive") as caught:
        run_process(tmp_path, entries, "multi-label-classification", processors=[])
    assert caught.value.allowed == "every label in train"


def test_a_label_of_several_that_a_test_lacks_is_noted(tmp_path: Path) -> None:
    train = of_split(tmp_path / "look", "train")
    entries = labelled(120, "negative|neutral", "")
    entries = [{**row, "label": "positive"} if row["id"] in train[:3] else row for row in entries]
    run_process(tmp_path, entries, "multi-label-classification", processors=[])
    assert summary(tmp_path)["missing_labels"] == [
        f"the {name} split has no row labelled positive: figures of {name} say nothing of it"
        for name in ("validation", "test")
    ]


def test_each_tag_must_be_in_train(tmp_path: Path) -> None:
    test = of_split(tmp_path / "look", "test")
    entries = labelled(120, " ".join(["O"] * WORDS))
    entries = [{**row, "label": TAGGED} if row["id"] in test else row for row in entries]
    with pytest.raises(LnmtError, match="the train split has no row tagged B-PER, I-PER"):
        tagged(tmp_path, entries)


def test_numbers_must_differ_in_every_split(tmp_path: Path) -> None:
    test = of_split(tmp_path / "look", "test")
    entries = [{**row, "label": "7"} if row["id"] in test else row for row in labelled(120, "1", "2")]
    with pytest.raises(LnmtError, match="the labels of the test split do not differ") as caught:
        run_process(tmp_path, entries, "text-regression", processors=[])
    assert caught.value.value == f"{len(test)} rows, all labelled 7"


@pytest.mark.parametrize(("task", "cell"), [("text-generation", None), ("multi-label-classification", "negative")])
def test_some_row_must_be_in_every_split(tmp_path: Path, task: Task, cell: str | None) -> None:
    three = labelled(6, cell)[3:]  # all of them fall in train
    with pytest.raises(LnmtError, match="the validation split has no row") as caught:
        run_process(tmp_path, three, task, ["negative"], processors=[])
    assert caught.value.value == "0 rows"


def test_deduplicate_finds_labels_that_say_the_same(tmp_path: Path) -> None:
    entries = labelled(60, "negative|neutral", "positive")
    copies = [
        {**entries[0], "id": "same", "label": '["neutral", "negative"]'},
        {**entries[1], "id": "other", "label": ""},
    ]
    deduplicate = [{"name": "deduplicate"}]
    run_process(tmp_path, [*entries, *copies], "multi-label-classification", processors=deduplicate)
    assert summary(tmp_path)["processors"] == [{"name": "deduplicate", "dropped": 2, "conflicting_labels": 1}]


@pytest.mark.parametrize("task", ["token-classification", "text-generation"])
def test_augment_cannot_work_where_places_of_words_matter(tmp_path: Path, task: Task) -> None:
    entries = labelled(60, TAGGED if task == "token-classification" else None)
    with pytest.raises(LnmtError, match=f"processor 'augment' cannot work on rows of {task}") as caught:
        run_process(tmp_path, entries, task, TAGS, processors=[AUGMENT])
    assert caught.value.allowed == "text-classification, multi-label-classification, text-regression"
    assert caught.value.where == "params.yaml: process.processors[0]"


@pytest.mark.parametrize(
    ("task", "cells"),
    [("multi-label-classification", ["negative|positive", "neutral"]), ("text-regression", ["1", "2"])],
)
def test_augment_keeps_labels(tmp_path: Path, task: Task, cells: list[str]) -> None:
    run_process(tmp_path, labelled(120, *cells), task, processors=[AUGMENT])
    train = {row["id"]: row["label"] for row in read_table(tmp_path / "data/processed/train")}
    copies = [name for name in train if name.endswith("#augmented")]
    assert copies
    assert all(train[name] == train[name.removesuffix("#augmented")] for name in copies)


def test_rows_whose_words_a_processor_changed_are_dropped(tmp_path: Path) -> None:
    entries = labelled(100, TAGGED)
    text = str(entries[7]["text"])
    entries[7]["text"] = text.replace(" and ", " and&nbsp;so ", 1).replace(" so ", "\u200bso ", 1)
    entries[8]["text"] = str(entries[8]["text"]).replace(" and ", " &amp; ", 1)
    tagged(tmp_path, entries, {"name": "unescape"}, {"name": "whitespace"})
    read = [row for name in ("train", "validation", "test") for row in read_table(tmp_path / "data/processed" / name)]
    assert {row["id"] for row in entries} - {row["id"] for row in read} == {"r7"}
    assert " & " in next(row["text"] for row in read if row["id"] == "r8")
    assert all(len(row["text"].split()) == len(row["label"].split()) for row in read)
    assert summary(tmp_path)["processors"] == [
        {"name": "unescape", "dropped": 1, "reworded": 1},
        {"name": "whitespace", "dropped": 0, "reworded": 0},
    ]


def test_a_processor_that_changes_the_words_of_many_rows(tmp_path: Path) -> None:
    @PROCESSORS.register("test_joins_words")
    class Joins(BaseProcessor):
        def process(self, data: str) -> str:
            return data.replace(" and ", "&")

    what = "processor 'test_joins_words' changed the number of words in 60 of 60 rows"
    with pytest.raises(LnmtError, match=what) as caught:
        tagged(tmp_path, labelled(60, TAGGED), {"name": "whitespace"}, {"name": "test_joins_words"})
    assert caught.value.where == "params.yaml: process.processors[1]"
    assert re.match(r"row 'r0': 'The plot and .*' → 'The plot&", str(caught.value.value))
    assert not (tmp_path / "data/processed").exists()
    run_process(tmp_path, rows(120), processors=[{"name": "test_joins_words"}])  # no matter where no word has a tag


def test_rows_that_a_processor_refuses_are_not_told_as_reworded(tmp_path: Path) -> None:
    @PROCESSORS.register("test_marks_and_refuses")
    class Marks(BaseProcessor):
        def process(self, data: str) -> str:
            return f"{data} !" if "number 3 " in data else data

        def validate(self, data: str) -> bool:
            return not data.endswith("!")

    tagged(tmp_path, labelled(60, TAGGED), {"name": "test_marks_and_refuses"})
    assert summary(tmp_path)["processors"] == [{"name": "test_marks_and_refuses", "dropped": 1, "reworded": 0}]


def test_a_table_processor_must_keep_words_and_tags_together(tmp_path: Path) -> None:
    @TABLE_PROCESSORS.register("test_shortens")
    class Shortens(TableProcessor):
        def __init__(self, both: bool) -> None:
            self.both = both

        def run(self, rows: Rows, bench: Bench) -> Rows:
            assert bench.task == "token-classification"
            for batch in rows:
                for name in (TEXT, LABEL) if self.both else (TEXT,):
                    cells = [" ".join(cell.split()[:-1]) for cell in batch.column(name).to_pylist()]
                    batch = batch.set_column(batch.schema.get_field_index(name), name, pa.array(cells, pa.string()))
                yield batch

    tagged(tmp_path, labelled(60, TAGGED), {"name": "test_shortens", "both": True})
    what = f"processor 'test_shortens' gave a row of {WORDS - 1} words and {WORDS} tags"
    with pytest.raises(LnmtError, match=what) as caught:
        tagged(tmp_path, labelled(60, TAGGED), {"name": "test_shortens", "both": False})
    assert str(caught.value.value).startswith("row 'r0': 'The plot")
