"""What `validate` asks of labels in each task but text-classification, which has a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lnmt.data.validation.result import DataRejected
from lnmt.files import read_json
from lnmt.types import Task
from tests.data.small_tables import read_table, rows, run_validate

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
WORDS = len(str(rows(1)[0]["text"]).split())  # of every row

Entries = list[dict[str, str | None]]


def labelled(number: int, *cells: str | None) -> Entries:
    """Good texts with these labels in turn."""
    return [{**row, "label": cells[place % len(cells)]} for place, row in enumerate(rows(number))]


def tags(*first: str) -> str:
    """A cell for one of the texts: these tags, then O."""
    return " ".join([*first, *["O"] * (WORDS - len(first))])


def result(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(root / "reports/validation/result.json")
    return found


def reasons(root: Path) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in read_table(root / "data/quarantine")}


def rejected(root: Path, entries: Entries, task: Task, **changes: Any) -> DataRejected:
    with pytest.raises(DataRejected) as caught:
        run_validate(root, entries, task, **changes)
    assert not (root / "data/validated").exists()
    return caught.value


def page(root: Path) -> str:
    return (root / "reports/validation/index.html").read_text(encoding="utf-8")


def test_several_labels(tmp_path: Path) -> None:
    entries = labelled(100, "negative", "negative|neutral", "", '["positive", "negative"]', "[]")
    for place, cell in enumerate([None, "negative|postive", "[null]", "negative|"]):
        entries[place]["label"] = cell
    entries[5]["text"], entries[6]["text"] = entries[7]["text"], f"{entries[8]['text']}!"  # conflicts, both
    entries[9] |= {"text": entries[11]["text"], "label": '["neutral","negative"]'}  # the same in other words
    run_validate(tmp_path, entries, "multi-label-classification")

    assert reasons(tmp_path) == {
        "r0": "label missing",
        "r1": "label outside the set",
        "r2": "label is no list of names",
        "r3": "label outside the set",
    }
    manifest = read_json(tmp_path / "data/validated/manifest.json")
    assert (manifest["task"], manifest["labels"]) == (
        "multi-label-classification",
        ["negative", "neutral", "positive"],
    )
    found = result(tmp_path)
    # Of 96 rows 19 + 19 + 19 have negative, and r9 beside them.
    assert found["labels"] == {"negative": 58, "neutral": 20, "positive": 19}
    assert found["labels_outside_the_set"] == {"postive": 1, "[null]": 1, "": 1}
    assert found["duplicates"] == {"repeated_texts": 3, "conflicting_labels": 2, "repeated_ids": 0}
    lines = {line["name"]: line for line in found["expectations"]}
    assert lines["share of label negative"]["observed"] == "60.42%"
    assert lines["labels in the set"]["observed"] == "2 failing"
    assert "60.4%" in page(tmp_path)  # of the rows, not of all labels that were given


def test_several_labels_that_no_row_has(tmp_path: Path) -> None:
    error = rejected(tmp_path, labelled(50, "", "[]"), "multi-label-classification")
    assert error.what.startswith("no row that passed has a label")
    error = rejected(tmp_path, labelled(50, "negative|neutral|positive"), "multi-label-classification")
    assert error.what.startswith("the data failed the expectation 'share of label negative'")
    assert (error.value, error.allowed) == ("100.00%", "2.00% … 95.00%")
    error = rejected(tmp_path, labelled(50, "negative|positve", "neutral"), "multi-label-classification")
    assert "'positve' (25); perhaps 'positve' for 'positive'" in str(error.fix)


def test_numbers(tmp_path: Path) -> None:
    entries = labelled(100, "0", "1.5", "-2e-1", "3")
    for place, cell in enumerate([None, "n/a", "inf", "1e40", "nan"]):
        entries[place]["label"] = cell
    run_validate(tmp_path, entries, "text-regression", max_quarantined_share=0.1)

    no_number = "label is no finite number"
    assert reasons(tmp_path) == {"r0": "label missing"} | {f"r{place}": no_number for place in range(1, 5)}
    assert read_json(tmp_path / "data/validated/manifest.json")["labels"] == []
    found = result(tmp_path)
    assert found["labels"] == {}
    assert found["labels_outside_the_set"] == {"n/a": 1, "inf": 1, "1e40": 1, "nan": 1}
    numbers = found["numbers"]
    assert (numbers["minimum"], numbers["maximum"]) == (-0.2, 3.0)
    assert numbers["mean"] == pytest.approx((23 * 0 + 24 * 1.5 - 24 * 0.2 + 24 * 3) / 95)
    assert numbers["quantiles"]["0.5"] == 1.5
    assert {line["name"] for line in found["expectations"] if "share of label" in line["name"]} == set()
    assert "Labels that are no numbers" in page(tmp_path)
    assert "standard deviation" in page(tmp_path)


def test_numbers_that_do_not_differ(tmp_path: Path) -> None:
    error = rejected(tmp_path, labelled(50, "1.5", "1.50"), "text-regression")
    assert (error.what, error.value, error.allowed) == ("every row that passed is labelled 1.5", "1", "at least 2")


def test_a_column_of_words_where_numbers_should_stand(tmp_path: Path) -> None:
    error = rejected(tmp_path, labelled(50, "low", "high"), "text-regression")
    assert error.what.startswith("every row was quarantined")
    assert "labels found that are no numbers: 'low' (25), 'high' (25)" in str(error.fix)


def test_tags(tmp_path: Path) -> None:
    entries = labelled(100, tags("B-PER", "I-PER"), tags("O", "B-LOC", "I-LOC"))
    entries[0]["label"] = None
    entries[1]["label"] = tags() + " O"
    entries[2]["label"] = tags("B-ORG", "I-PER")
    entries[3]["label"] = tags("I-PER")
    entries[4]["label"] = '["O", null]'
    entries[5] |= {"text": None, "label": "O"}
    run_validate(tmp_path, entries, "token-classification", labels=TAGS, max_quarantined_share=0.1)

    assert reasons(tmp_path) == {
        "r0": "label missing",
        "r1": "not one tag for each word",
        "r2": "tag outside the set",
        "r3": "tags in no BIO order",
        "r4": "label is no list of names",
        "r5": "text missing",
    }
    found = result(tmp_path)
    assert found["labels"] == {"O": 94, "B-PER": 47, "I-PER": 47, "B-LOC": 47, "I-LOC": 47}
    assert found["tags"] == {"O": 94 * (WORDS - 2), "B-PER": 47, "I-PER": 47, "B-LOC": 47, "I-LOC": 47}
    assert found["labels_outside_the_set"] == {"B-ORG": 1, '["O", null]': 1}
    lines = {line["name"]: line for line in found["expectations"]}
    assert (lines["share of rows with tag O"]["observed"], lines["share of rows with tag O"]["allowed"]) == (
        "100.00%",
        "at least 2.00%",
    )
    assert "Tags, of the words" in page(tmp_path)


def test_tags_of_one_kind_and_tags_that_are_rare(tmp_path: Path) -> None:
    error = rejected(tmp_path, labelled(50, tags()), "token-classification", labels=TAGS)
    assert error.what.startswith("every word that passed has the tag 'O'; and also share of rows with tag B-PER")
    entries = labelled(100, tags("B-LOC", "I-LOC"))
    entries[0]["label"] = tags("B-PER", "I-PER")
    error = rejected(tmp_path, entries, "token-classification", labels=TAGS)
    assert (error.where, error.value) == ("data/raw, share of rows with tag B-PER", "1.00%")
    assert "max_label_share" not in str(error.fix)


def test_documents_without_labels(tmp_path: Path) -> None:
    entries = labelled(100, None)
    entries[0]["text"] = entries[1]["text"]
    entries[2]["text"] = "1234"
    run_validate(tmp_path, entries, "text-generation")
    assert reasons(tmp_path) == {"r2": "too few letters"}
    manifest = read_json(tmp_path / "data/validated/manifest.json")
    assert manifest == {"task": "text-generation", "labels": [], "slices": ["domain"], "rows": 99}
    found = result(tmp_path)
    assert found["duplicates"] == {"repeated_texts": 1, "conflicting_labels": 0, "repeated_ids": 0}
    assert not [line["name"] for line in found["expectations"] if "label" in line["name"] and line["scope"] != "schema"]
    assert "texts with different labels" not in page(tmp_path)
    assert "<h2>Labels" not in page(tmp_path)
