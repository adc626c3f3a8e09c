"""The `files` source: formats, globs, bases, ids."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from lnmt.data.sources import json_rows
from lnmt.errors import DigestMismatch, LnmtError
from lnmt.files import sha256_file
from tests.data.sources_kit import files_entry, read_source

TABLE = pa.table({"text": ["ä", "b"], "label": [1.0, float("nan")], "domain": ["x", None], "other": [[1], [2]]})
CANONICAL = [
    {"id": "rows/#1", "text": "ä", "label": "1", "domain": "x"},
    {"id": "rows/#2", "text": "b", "label": None, "domain": None},
]
OBJECTS: list[dict[str, Any]] = [
    {"text": "ä", "label": 1.0, "domain": "x", "other": [1]},
    {"text": "b", "label": None},
]


def content_of(ending: str) -> bytes:
    if ending == ".csv":
        return "text,label,domain,other\nä,1,x,q\nb,,,q\n".encode().replace(b"b,,,", b"b,nan,,")
    if ending == ".jsonl":
        return "\n".join(json.dumps(row) for row in OBJECTS).encode()
    if ending == ".json":
        return json.dumps(OBJECTS, indent=2).encode()
    sink = io.BytesIO()
    if ending == ".parquet":
        pq.write_table(TABLE, sink)
    else:
        maker = pa.ipc.new_file if ending == ".feather" else pa.ipc.new_stream
        with maker(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)
    return sink.getvalue()


def failure(project: Path, entry: dict[str, Any]) -> LnmtError:
    with pytest.raises(LnmtError) as caught:
        read_source(project, entry)
    return caught.value


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet", ".arrow", ".feather"])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str, packing: str) -> None:
    content = content_of(ending)
    packed = {"": content, ".gz": gzip.compress(content), ".zst": zstandard.compress(content)}[packing]
    name = f"rows{ending}{packing}"
    (tmp_path / name).write_bytes(packed)

    rows = read_source(tmp_path, files_entry(name), ["domain"])

    if ending == ".csv":  # has no null but for labels
        rows[1]["domain"] = rows[1]["domain"] or None
    assert rows == CANONICAL
    assert list(tmp_path.glob("work/*")) == []


def test_globs_are_read_in_order_and_give_ids_that_differ(tmp_path: Path) -> None:
    for name in ("b/rows", "a/rows", "a/.hidden", "top"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"{name}.csv").write_text("text,label,key\nx,y,7\n")
    entry = files_entry("in/**/*.csv", columns={"text": "text", "label": "label", "id": "key"})
    assert [row["id"] for row in read_source(tmp_path, entry)] == ["in/a/rows/7", "in/b/rows/7", "in/top/7"]


def test_a_local_base_with_an_archive(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with tarfile.open(tmp_path / "base" / "data.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("deep/rows.csv")
        info.size = len(content := b"text,label\nx,y\n")
        archive.addfile(info, io.BytesIO(content))
    entry = files_entry("**/rows.csv", base="local:base", archive="data.tar.gz")
    assert read_source(tmp_path, entry) == [{"id": "deep/rows/#1", "text": "x", "label": "y"}]
    assert failure(tmp_path, {**entry, "archive": "dta.tar.gz"}).fix == "did you mean 'data.tar.gz'?"
    assert failure(tmp_path, {**entry, "archive": "../x.tar.gz"}).what == "the archive lies outside its base"
    with pytest.raises(DigestMismatch):
        read_source(
            tmp_path, {**entry, "digest": sha256_file(tmp_path / "base" / "data.tar.gz")}
        )  # not the directory's


def test_a_base_is_not_left_by_dots_or_links(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "secret.csv").write_text("text,label\nx,y\n")
    (tmp_path / "base" / "link.csv").symlink_to(tmp_path / "secret.csv")
    assert failure(tmp_path, files_entry("../secret.csv", base="local:base")).what == "no file fits"
    assert failure(tmp_path, files_entry("link.csv", base="local:base")).what == "no file fits"


def test_no_file_fits(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\nx,y\n")
    error = failure(tmp_path, files_entry("review.csv"))
    assert (error.where, error.value) == (tmp_path, "review.csv")
    assert error.fix == "did you mean 'reviews.csv'?"


def test_an_ending_that_tells_no_format(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx.gz").write_bytes(b"x")
    error = failure(tmp_path, files_entry("rows.xlsx.gz"))
    assert (error.what, error.value) == ("the file's ending tells no format", ".xlsx")


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet", ".arrow", ".feather"])
def test_empty_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"rows{ending}").touch()
    error = failure(tmp_path, files_entry(f"rows{ending}"))
    assert (error.what, error.where) == ("the file is empty", tmp_path / f"rows{ending}")


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet", ".arrow", ".feather"])
def test_a_file_that_is_cut_off(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"rows{ending}").write_bytes(content_of(ending)[:-25])
    error = failure(tmp_path, files_entry(f"rows{ending}"))
    assert error.what.startswith(("not JSON", "not a whole"))
    assert str(error.where).startswith(str(tmp_path / f"rows{ending}"))


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet", ".arrow"])
def test_missing_column(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"rows{ending}").write_bytes(content_of(ending))
    entry = files_entry(f"rows{ending}", columns={"text": "txt", "label": "label", "id": None})
    error = failure(tmp_path, entry)
    assert (error.what, error.where) == ("no column 'txt'", tmp_path / f"rows{ending}")
    assert error.value == "'text', 'label', 'domain', 'other'"
    assert (error.fix or "").startswith("did you mean 'text'?")


def test_a_column_of_lists(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(content_of(".parquet"))
    (tmp_path / "rows.jsonl").write_bytes(content_of(".jsonl"))
    columns = {"text": "other", "label": "label", "id": None}
    error = failure(tmp_path, files_entry("rows.parquet", columns=columns))
    assert error.what == "column 'other' holds list<element: int64>, not text"
    error = failure(tmp_path, files_entry("rows.jsonl", columns=columns))
    assert error.what == "column 'other' holds list, not text"
    assert error.where == f"{tmp_path / 'rows.jsonl'}, line 1"


def test_bytes_that_are_not_utf8_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([b"\xff"]), "label": ["x"]}), tmp_path / "rows.parquet")
    error = failure(tmp_path, files_entry("rows.parquet"))
    assert error.what.startswith("column 'text' is not UTF-8 text")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"text": "a", "label"}', "not JSON: Expecting ':' delimiter: line 1 column 22 (char 21)"),
        (b'["a", "b"]', "a row is list, not an object"),
        (rb'{"text": "\ud800", "label": "x"}', "half a surrogate pair in column 'text'"),
    ],
)
def test_a_bad_line_of_jsonl_is_named(tmp_path: Path, line: bytes, what: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "a", "label": "x"}\n\n' + line + b"\n")
    error = failure(tmp_path, files_entry("rows.jsonl"))
    assert (error.what, error.where) == (what, f"{tmp_path / 'rows.jsonl'}, line 3")


def test_wrong_encoding_of_jsonl(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "caf\xe9", "label": "x"}\n')
    error = failure(tmp_path, files_entry("rows.jsonl"))
    assert error.where == f"{tmp_path / 'rows.jsonl'}, line 1, byte 13"


def test_an_array_is_read_across_blocks(tmp_path: Path) -> None:
    rows = [{"text": f'é{"x" * 700}{{}}[]\\"{n}', "label": n} for n in range(5000)]  # 3.5 MB, blocks of 1 MB
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    read = read_source(tmp_path, files_entry("rows.json"))
    assert [row["text"] for row in read] == [row["text"] for row in rows]
    assert read[-1] == {"id": "rows/#5000", "text": rows[-1]["text"], "label": "4999"}


def test_a_bad_item_of_an_array_is_named_without_reading_on(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(b'[{"text": "a", "label": "x"}, {text: 1}, ' + b" " * 100 + b"]")
    error = failure(tmp_path, files_entry("rows.json"))
    assert error.where == f"{tmp_path / 'rows.json'}, item 2"


def test_lines_are_split_at_line_feeds_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a\u2028b\x85c", "label": "x"}\n', encoding="utf-8")
    assert [row["text"] for _, row in json_rows.json_lines(tmp_path / "rows.jsonl", "utf-8")] == ["a\u2028b\x85c"]
