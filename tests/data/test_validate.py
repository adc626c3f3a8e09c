from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lnmt.data.validate import validate
from lnmt.data.validation.result import DataRejected
from lnmt.errors import LnmtError
from lnmt.files import directory_digest, read_json
from tests.data.small_tables import LABELS, params, read_table, rows, run_validate, stage_io


def result(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(root / "reports/validation/result.json")
    return found


def page(root: Path) -> str:
    return (root / "reports/validation/index.html").read_text(encoding="utf-8")


def status(root: Path) -> dict[str, str]:
    return {line["name"]: line["status"] for line in result(root)["expectations"]}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose table has one row of every fault, and two duplicates."""
    root = tmp_path_factory.mktemp("mixed")
    entries = rows(1000)
    entries[0]["text"] = entries[3]["text"]  # the same label, twice
    entries[1]["text"] = f"{entries[5]['text']}!"  # another label
    entries[10]["id"] = None
    entries[11]["text"] = None
    entries[12]["label"] = None
    entries[13]["label"] = "positve"
    entries[14]["text"] = " \n "
    entries[15]["text"] = "a" * 1_000_000
    entries[16]["text"] = "12345 67890 !!! ???"
    entries[17]["text"] = "CafÃ© â€™s \ufffd"
    entries[18] |= {"text": "<script>alert('x')</script>" * 1000, "label": "nan"}
    entries[19]["text"] = "Очень хороший фильм"
    run_validate(root, entries)
    return root


def test_bad_rows_go_to_quarantine_with_their_reasons(mixed: Path) -> None:
    found = read_table(mixed / "data/quarantine")
    assert {row["id"]: row["reason"] for row in found} == {
        None: "id missing",
        "r11": "text missing",
        "r12": "label missing",
        "r13": "label outside the set",
        "r14": "text too short",
        "r15": "text too long",
        "r16": "too few letters",
        "r17": "signs of a wrong encoding",
        "r18": "label outside the set; text too long",
    }
    assert len(next(row["text"] for row in found if row["id"] == "r15")) == 1_000_000


def test_good_rows_go_on_unchanged_and_in_order(mixed: Path) -> None:
    good = read_table(mixed / "data/validated")
    assert [row["id"] for row in good] == [f"r{place}" for place in range(1000) if not 10 <= place <= 18]
    assert read_json(mixed / "data/validated/manifest.json") == {
        "task": "text-classification",
        "labels": list(LABELS),
        "slices": ["domain"],
        "rows": 991,
    }


def test_the_result_counts_everything(mixed: Path) -> None:
    found = result(mixed)
    assert found["passed"] is True
    assert found["error"] is None
    assert found["rows"] == {"in": 1000, "passed": 991, "quarantined": 9}
    assert {group["reason"]: group["rows"] for group in found["quarantine"]} == {
        "id missing": 1,
        "text missing": 1,
        "label missing": 1,
        "label outside the set": 2,
        "text too short": 1,
        "text too long": 2,
        "too few letters": 1,
        "signs of a wrong encoding": 1,
    }
    assert found["labels_outside_the_set"] == {"positve": 1, "nan": 1}
    assert sum(found["labels"].values()) == sum(entry["rows"] for entry in found["lengths"]) == 991
    assert found["slices"] == {"domain": {"film": 496, "product": 495}}
    assert found["duplicates"] == {"repeated_texts": 2, "conflicting_labels": 1, "repeated_ids": 0}
    assert found["scripts"] == {"Latin": 990, "Cyrillic": 1}
    lines = {line["name"]: line for line in found["expectations"]}
    assert (lines["quarantined share"]["observed"], lines["quarantined share"]["allowed"]) == ("0.90%", "at most 5.00%")
    assert lines["short enough"]["status"] == "quarantined"
    assert lines["duplicate share"]["expectation"] == "ExpectColumnValuesToBeBetween"
    assert not (mixed / ".lnmt/work/validate").exists()


class Addresses(HTMLParser):
    """Collects what a page would fetch, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]


def test_the_page_needs_nothing_else_and_escapes_texts(mixed: Path) -> None:
    text = page(mixed)
    parser = Addresses()
    parser.feed(text)
    assert parser.fetched == []
    assert not {"script", "link", "img", "iframe"} & parser.tags
    assert "url(" not in text
    assert "@import" not in text
    assert "&lt;script&gt;alert(&#39;x&#39;)" in text
    assert "(1,000,000 characters)" in text
    assert len(text) < 60_000
    assert '<span class="pill passed">passed</span>' in text
    for title in ("Expectations", "Quarantine", "Labels", "Length"):
        assert f"<h2>{title}</h2>" in text


def test_ten_samples_of_a_reason_at_most(tmp_path: Path) -> None:
    entries = rows(100)
    for row in entries[:15]:
        row["label"] = None
    run_validate(tmp_path, entries, max_quarantined_share=0.2)
    group = result(tmp_path)["quarantine"][0]
    assert [sample["id"] for sample in group["samples"]] == [f"r{place}" for place in range(10)]
    assert "15 rows, the first 10 shown" in page(tmp_path)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        run_validate(tmp_path / name, rows(50))
        digests.append([directory_digest(tmp_path / name / part) for part in ("data/validated", "reports/validation")])
    assert digests[0] == digests[1]


def test_a_table_of_several_batches(tmp_path: Path) -> None:
    entries = rows(3000)  # in files of 1,000
    entries[7]["label"] = entries[2007]["label"] = None
    entries[2008]["text"] = entries[8]["text"]
    run_validate(tmp_path, entries)
    assert [row["id"] for row in read_table(tmp_path / "data/quarantine")] == ["r7", "r2007"]
    assert result(tmp_path)["rows"] == {"in": 3000, "passed": 2998, "quarantined": 2}
    assert result(tmp_path)["duplicates"]["repeated_texts"] == 1


def rejected(root: Path, entries: list[dict[str, str | None]], **changes: Any) -> DataRejected:
    """Run `validate` on a table that must be stopped; what holds for every such run is checked here."""
    with pytest.raises(DataRejected) as caught:
        run_validate(root, entries, **changes)
    assert not (root / "data/validated").exists()
    assert result(root)["passed"] is False
    assert result(root)["error"]["what"] == caught.value.what
    assert '<span class="pill failed">failed</span>' in page(root)
    assert "reports/validation/index.html" in (caught.value.fix or "")
    assert caught.value.exit_code == 1
    return caught.value


def test_labels_outside_the_set(tmp_path: Path) -> None:
    error = rejected(
        tmp_path, [{**row, "label": "Positive"} if row["label"] == "positive" else row for row in rows(90)]
    )
    assert error.what.startswith("the data failed the expectation 'quarantined share'")
    assert (error.value, error.allowed) == ("33.33%", "at most 5.00%")
    assert "'Positive' (30); perhaps 'Positive' for 'positive'" in str(error.fix)
    assert len(read_table(tmp_path / "data/quarantine")) == 30


def test_all_rows_quarantined(tmp_path: Path) -> None:
    error = rejected(tmp_path, [{**row, "text": "1234"} for row in rows(50)])
    assert error.what == "every row was quarantined; and also rows that passed: 0 (at least 10)"
    assert "too few letters (50 rows)" in str(error.fix)
    assert len(read_table(tmp_path / "data/quarantine")) == 50


def test_all_rows_quarantined_where_that_share_is_allowed(tmp_path: Path) -> None:
    error = rejected(tmp_path, [{**row, "label": None} for row in rows(50)], max_quarantined_share=1)
    assert error.what == "the data failed the expectation 'rows that passed'"


def test_missing_labels(tmp_path: Path) -> None:
    error = rejected(tmp_path, [{**row, "label": None} for row in rows(50)])
    assert "label missing (50 rows)" in str(error.fix)


def test_one_class_only(tmp_path: Path) -> None:
    error = rejected(tmp_path, [{**row, "label": "neutral"} for row in rows(50)])
    assert error.what.startswith("every row that passed is labelled 'neutral'; and also share of label negative: 0.00%")
    assert (error.value, error.allowed) == ("1", "at least 2")
    assert status(tmp_path)["share of label neutral"] == "failed"


def test_a_table_without_rows(tmp_path: Path) -> None:
    error = rejected(tmp_path, [])
    assert error.what.startswith("data/raw has no rows")


def test_too_few_rows(tmp_path: Path) -> None:
    error = rejected(tmp_path, rows(50), min_rows=51)
    assert (error.where, error.value, error.allowed) == ("data/raw, rows that passed", "50", "at least 51")


def test_too_many_duplicates_and_repeated_ids(tmp_path: Path) -> None:
    error = rejected(tmp_path, [*rows(50), *rows(50)])
    assert error.what == "the data failed the expectation 'duplicate share'; and also repeated ids: 50 (at most 0)"
    assert (error.value, error.allowed) == ("50.00%", "at most 20.00%")


def test_a_rare_label(tmp_path: Path) -> None:
    entries = [{**row, "label": "negative" if row["label"] == "positive" else row["label"]} for row in rows(100)]
    entries[2]["label"] = "positive"
    error = rejected(tmp_path, entries)
    assert (error.where, error.value) == ("data/raw, share of label positive", "1.00%")


def test_texts_in_another_script(tmp_path: Path) -> None:
    entries = [{**row, "text": f"очень хорошо {place}"} if place < 20 else row for place, row in enumerate(rows(100))]
    error = rejected(tmp_path, entries)
    assert (error.value, error.allowed) == ("20.00%", "at most 10.00%")
    assert "most texts are written in Latin" in str(error.fix)


def test_a_column_of_another_type(tmp_path: Path) -> None:
    raw = tmp_path / "data/raw"
    raw.mkdir(parents=True)
    columns = {"id": ["a"], "text": ["b"], "label": [1], "domain": ["c"]}
    pq.write_table(pa.table(columns), raw / "part-00000.parquet")
    with pytest.raises(DataRejected, match="'type of label'") as caught:
        validate(params(), stage_io(tmp_path, "validate"))
    assert (caught.value.value, caught.value.allowed) == ("int64", "str")
    assert status(tmp_path)["type of text"] == "passed"
    assert "What to do:" in page(tmp_path)


def test_a_missing_column(tmp_path: Path) -> None:
    raw = tmp_path / "data/raw"
    raw.mkdir(parents=True)
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), raw / "part-00000.parquet")
    with pytest.raises(DataRejected, match="'column label'") as caught:
        validate(params(), stage_io(tmp_path, "validate"))
    assert caught.value.value == "missing"
    assert "ingest.sources columns" in str(caught.value.fix)


def test_no_table_at_all(tmp_path: Path) -> None:
    (tmp_path / "data/raw").mkdir(parents=True)
    with pytest.raises(LnmtError, match=re.escape("no table here")):
        validate(params(), stage_io(tmp_path, "validate"))


def test_a_failed_run_leaves_the_earlier_table(tmp_path: Path) -> None:
    run_validate(tmp_path, rows(50))
    before = directory_digest(tmp_path / "data/validated")
    with pytest.raises(DataRejected):
        run_validate(tmp_path, rows(5))
    assert directory_digest(tmp_path / "data/validated") == before
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"raw", "validated", "quarantine"}
