"""CSV: what is read, and how a file that cannot be read says why."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lnmt.errors import LnmtError
from tests.data.sources_kit import files_entry, read_source

TABS = {"delimiter": "\t", "header": ["id", "rating", "text"], "quote": None}


def write(project: Path, content: bytes, name: str = "rows.csv") -> dict[str, Any]:
    (project / name).write_bytes(content)
    return files_entry(name)


def failure(project: Path, entry: dict[str, Any]) -> LnmtError:
    with pytest.raises(LnmtError) as caught:
        read_source(project, entry)
    return caught.value


def test_quotes_line_ends_and_entities_are_kept_as_they_are(tmp_path: Path) -> None:
    entry = write(tmp_path, 'text,label\r\n"a ""b"",\nc &amp; d",pos\r\né,neg\r\n'.encode())
    assert read_source(tmp_path, entry) == [
        {"id": "rows/#1", "text": 'a "b",\nc &amp; d', "label": "pos"},
        {"id": "rows/#2", "text": "é", "label": "neg"},
    ]


def test_plain_quotes_a_given_header_and_bins(tmp_path: Path) -> None:
    entry = write(tmp_path, b'1\t-0.5\tso "so\r\n2\t0.49\tb\r\n3\t0.5\tc\r\n', "ratings.txt")
    bins = [{"label": "negative", "at_most": -0.5}, {"label": "neutral"}, {"label": "positive", "at_least": 0.5}]
    columns = {"text": "text", "label": "rating", "id": "id"}
    entry |= {"format": "csv", "csv": TABS, "columns": columns, "bins": bins}
    entry["files"][0]["set"] = {"domain": "product"}
    assert read_source(tmp_path, entry, ["domain"]) == [
        {"id": "product/1", "text": 'so "so', "label": "negative", "domain": "product"},
        {"id": "product/2", "text": "b", "label": "neutral", "domain": "product"},
        {"id": "product/3", "text": "c", "label": "positive", "domain": "product"},
    ]


def test_the_delimiter_of_tsv_is_the_tab(tmp_path: Path) -> None:
    entry = write(tmp_path, b"text\tlabel\na,b\tx\n", "rows.tsv")
    assert read_source(tmp_path, entry)[0]["text"] == "a,b"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    entry = write(tmp_path, "text,label\ncafé,x\n".encode(encoding))
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    assert read_source(tmp_path, {**entry, "encoding": name}) == [{"id": "rows/#1", "text": "café", "label": "x"}]


def test_labels_that_are_missing_stay_null(tmp_path: Path) -> None:
    entry = write(tmp_path, b"text,label\na,\nb,nan\nc,NaN\nd,none\n")
    assert [row["label"] for row in read_source(tmp_path, entry)] == [None, None, None, "none"]


def test_a_label_that_is_no_number_is_left_for_validation(tmp_path: Path) -> None:
    entry = write(tmp_path, b"text,label\na,great\nb,nan\nc,3\n")
    entry["bins"] = [{"label": "low"}, {"label": "high", "at_least": 3}]
    assert [row["label"] for row in read_source(tmp_path, entry)] == ["great", None, "high"]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_text_of_a_megabyte(tmp_path: Path, ending: str) -> None:
    text = "word " * 210_000
    content = f"text,label\n{text},x\nshort,y\n".encode()
    packed = {"": content, ".gz": gzip.compress(content), ".zst": zstandard.compress(content)}[ending]
    rows = read_source(tmp_path, write(tmp_path, packed, f"rows.csv{ending}"))
    assert [len(row["text"]) for row in rows] == [len(text), 5]


def test_limit_takes_the_first_rows(tmp_path: Path) -> None:
    entry = write(tmp_path, b"text,label\n" + b"a,x\n" * 100)
    assert [row["id"] for row in read_source(tmp_path, entry, limit=2)] == ["rows/#1", "rows/#2"]


def test_missing_column(tmp_path: Path) -> None:
    error = failure(tmp_path, write(tmp_path, b"txt,label\na,x\n"))
    assert error.what == "no column 'text'"
    assert error.where == tmp_path / "rows.csv"
    assert error.value == "'txt', 'label'"
    assert error.fix is not None
    assert error.fix.startswith("did you mean 'txt'?")


def test_a_column_that_stands_twice(tmp_path: Path) -> None:
    error = failure(tmp_path, write(tmp_path, b"text,text,label\na,b,x\n"))
    assert (error.what, error.value) == ("a column name stands twice", "text")


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_empty_file(tmp_path: Path, content: bytes) -> None:
    error = failure(tmp_path, write(tmp_path, content))
    assert (error.what, error.where) == ("the file is empty", tmp_path / "rows.csv")


def test_a_header_alone(tmp_path: Path) -> None:
    error = failure(tmp_path, write(tmp_path, b"text,label\n"))
    assert (error.what, error.where) == ("no rows", "rows.csv")


def test_ragged_row_names_its_line_where_earlier_rows_span_lines(tmp_path: Path) -> None:
    error = failure(tmp_path, write(tmp_path, b'text,label\n"a\nb",x\n\nc,y,z\nd,x\n'))
    assert error.what == "a row has another number of fields than the header"
    assert error.where == f"{tmp_path / 'rows.csv'}, line 5"
    assert error.value == "3 fields: 'c,y,z'"
    assert error.allowed == "2 fields"


def test_ragged_row_late_in_a_compressed_file(tmp_path: Path) -> None:
    content = b"text,label\n" + b"some words,x\n" * 200_000 + b"alone\n"
    error = failure(tmp_path, write(tmp_path, gzip.compress(content, 1), "rows.csv.gz"))
    assert (error.where, error.value) == (f"{tmp_path / 'rows.csv.gz'}, line 200002", "1 fields: 'alone'")


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    error = failure(tmp_path, write(tmp_path, b'text,label\na,x\n"b,y\n' + b"c,z\n" * 5))
    assert "csv.quote" in (error.fix or "")
    assert csv.field_size_limit() == limit


def test_wrong_encoding_names_line_and_byte(tmp_path: Path) -> None:
    error = failure(tmp_path, write(tmp_path, b"text,label\nfine,x\ncaf\xe9,y\n"))
    assert error.what == "the file is not utf-8"
    assert error.where == f"{tmp_path / 'rows.csv'}, line 3, byte 21"
    assert error.value == r"b'\xe9' in b'ext,label\nfine,x\ncaf\xe9,y\n'"


def test_wrong_encoding_beyond_the_first_block(tmp_path: Path) -> None:
    content = b"text,label\n" + b"some words,x\n" * 100_000
    error = failure(tmp_path, write(tmp_path, content + b"\xff,y\n"))
    assert error.where == f"{tmp_path / 'rows.csv'}, line 100002, byte {len(content)}"


def test_wrong_encoding_that_is_not_utf8(tmp_path: Path) -> None:
    entry = write(tmp_path, "text,label\nü,x\n".encode())
    error = failure(tmp_path, {**entry, "encoding": "ascii"})
    assert (error.what, error.where) == ("the file is not ascii", f"{tmp_path / 'rows.csv'}, line 2, byte 11")


def test_unknown_encoding(tmp_path: Path) -> None:
    error = failure(tmp_path, {**write(tmp_path, b"text,label\na,x\n"), "encoding": "utf-9"})
    assert (error.what, error.value) == ("unknown encoding", "utf-9")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("rows", [50, 300_000])
def test_truncated_archive(tmp_path: Path, ending: str, rows: int) -> None:
    content = b"text,label\n" + b"".join(b"row %d,x\n" % number for number in range(rows))
    packed = gzip.compress(content, 1) if ending == ".gz" else zstandard.compress(content)
    error = failure(tmp_path, write(tmp_path, packed[:-12], f"rows.csv{ending}"))
    assert "damaged or cut off" in error.what
    assert (error.where, error.value) == (tmp_path / f"rows.csv{ending}", f"{len(packed) - 12} bytes")
