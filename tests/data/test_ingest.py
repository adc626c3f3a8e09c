"""The stage `ingest`, run as `lnmt stage ingest` runs it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lnmt.errors import LnmtError
from lnmt.files import directory_digest, sha256_file
from tests.data.sources_kit import files_entry, ingest_section, run_ingest, write_params


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two files of one glob, and one that stands for a slice's value."""
    (tmp_path / "b.csv").write_text("text,label,domain\nb1,x,film\nb2,,film\n")
    (tmp_path / "a.csv").write_text("text,label,domain\na1,y,\n")
    (tmp_path / "products.jsonl").write_text('{"text": "p1", "label": "x", "key": 7}\n')
    products = files_entry("products.jsonl", columns={"text": "text", "label": "label", "id": "key"})
    products["files"][0]["set"] = {"domain": "product"}
    write_params(tmp_path, ingest_section(files_entry("*.csv"), products, slices=["domain"]))
    return tmp_path


def test_rows_and_manifest(project: Path) -> None:
    rows, manifest = run_ingest(project)

    assert rows == [
        {"id": "a/#1", "text": "a1", "label": "y", "domain": ""},
        {"id": "b/#1", "text": "b1", "label": "x", "domain": "film"},
        {"id": "b/#2", "text": "b2", "label": None, "domain": "film"},
        {"id": "product/7", "text": "p1", "label": "x", "domain": "product"},
    ]
    time = datetime.fromisoformat(manifest.pop("time"))
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60
    assert manifest == {
        "rows": 4,
        "digest": directory_digest(project / "data" / "raw"),
        "files": [
            {"path": "a.csv", "rows": 1, "digest": sha256_file(project / "a.csv")},
            {"path": "b.csv", "rows": 2, "digest": sha256_file(project / "b.csv")},
            {"path": "products.jsonl", "rows": 1, "digest": sha256_file(project / "products.jsonl")},
        ],
    }
    assert sorted(path.name for path in (project / "data").iterdir()) == ["incoming", "raw"]


def test_the_same_input_gives_the_same_bytes(project: Path) -> None:
    first = run_ingest(project)[1]["digest"]
    assert run_ingest(project)[1]["digest"] == first


def test_incoming_files_come_last_with_ids_of_their_own(project: Path) -> None:
    incoming = project / "data" / "incoming"
    (incoming / "later").mkdir()
    (incoming / "later" / "labels.csv").write_text("label,text\nx,n1\n")
    (incoming / "b.jsonl").write_text('{"id": "q", "text": "n2", "label": "y", "domain": "film", "other": []}\n')
    (incoming / ".half-written.csv").write_text("nonsense")

    rows, manifest = run_ingest(project)

    assert rows[4:] == [
        {"id": "incoming/b/q", "text": "n2", "label": "y", "domain": "film"},
        {"id": "incoming/later/labels/#1", "text": "n1", "label": "x", "domain": None},
    ]
    assert [file["path"] for file in manifest["files"][3:]] == ["incoming/b.jsonl", "incoming/later/labels.csv"]


def test_incoming_file_without_a_label(project: Path) -> None:
    (project / "data" / "incoming" / "new.csv").write_text("text,lable\nx,y\n")
    with pytest.raises(LnmtError, match="no column 'label'") as caught:
        run_ingest(project)
    assert caught.value.where == project / "data" / "incoming" / "new.csv"


def test_parts_of_one_name_get_ids_that_differ(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,x\n")
    (tmp_path / "rows.tsv").write_text("text\tlabel\nb\tx\n")
    write_params(tmp_path, ingest_section(files_entry("rows.*")))
    assert [row["id"] for row in run_ingest(tmp_path)[0]] == ["rows/#1", "rows~2/#1"]


def test_limit_and_rows_per_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "t,x\n" * 50)
    write_params(tmp_path, ingest_section(files_entry("*.csv"), limit=7, rows_per_file=5))
    rows, manifest = run_ingest(tmp_path)
    assert [row["id"] for row in rows] == [f"{name}/#{n}" for name in "ab" for n in range(1, 8)]
    assert [file["rows"] for file in manifest["files"]] == [7, 7]
    assert len(list((tmp_path / "data" / "raw").iterdir())) == 3


def test_a_slice_that_no_source_has(project: Path) -> None:
    write_params(project, ingest_section(files_entry("*.csv"), slices=["domain", "country"]))
    with pytest.raises(LnmtError, match="no source has a value for a slice") as caught:
        run_ingest(project)
    assert caught.value.value == "country"


def test_a_failure_leaves_the_earlier_table_as_it_was(project: Path) -> None:
    run_ingest(project)
    before = directory_digest(project / "data"), directory_digest(project / "reports")
    with (project / "b.csv").open("a") as file:
        file.write("too,many,fields,here\n")

    with pytest.raises(LnmtError, match="another number of fields") as caught:
        run_ingest(project)

    assert caught.value.where == f"{project / 'b.csv'}, line 4"
    assert (directory_digest(project / "data"), directory_digest(project / "reports")) == before
    assert sorted(path.name for path in (project / "data").iterdir()) == ["incoming", "raw"]
