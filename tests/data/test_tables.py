from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lnmt.data import tables
from lnmt.data.tables import ShardWriter, count_rows, read_batches, read_schema, table_schema
from lnmt.errors import LnmtError

SCHEMA = table_schema(["domain"])


def batch_of(first: int, rows: int, text: str = "x") -> pa.RecordBatch:
    ids = [str(number) for number in range(first, first + rows)]
    return pa.RecordBatch.from_pydict(
        {"id": ids, "text": [text] * rows, "label": [None] * rows, "domain": ["d"] * rows}, schema=SCHEMA
    )


def write(directory: Path, *batches: pa.RecordBatch, rows_per_file: int = 10) -> None:
    with ShardWriter(directory, SCHEMA, rows_per_file) as writer:
        for batch in batches:
            writer.write(batch)


def test_columns_of_a_table() -> None:
    assert pa.schema([(name, pa.string()) for name in ("id", "text", "label", "domain")]) == SCHEMA


def test_rows_come_back_in_order_from_files_of_the_asked_size(tmp_path: Path) -> None:
    write(tmp_path, batch_of(0, 7), batch_of(7, 16), batch_of(23, 1), rows_per_file=10)

    assert sorted(path.name for path in tmp_path.iterdir()) == [f"part-0000{n}.parquet" for n in range(3)]
    assert count_rows(tmp_path) == 24
    assert [batch.num_rows for batch in read_batches(tmp_path)] == [10, 10, 4]
    assert [i for b in read_batches(tmp_path, ["id"], 3) for i in b.column("id").to_pylist()] == list(
        map(str, range(24))
    )
    assert max(batch.num_rows for batch in read_batches(tmp_path, batch_rows=3)) == 3
    assert read_schema(tmp_path) == SCHEMA


def test_a_full_last_file_is_not_followed_by_an_empty_one(tmp_path: Path) -> None:
    write(tmp_path, batch_of(0, 20), rows_per_file=10)
    assert len(list(tmp_path.iterdir())) == 2


def test_no_rows_still_make_one_file_with_the_columns(tmp_path: Path) -> None:
    write(tmp_path / "empty")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["part-00000.parquet"]
    assert list(read_batches(tmp_path / "empty")) == []
    assert read_schema(tmp_path / "empty") == SCHEMA


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, batch_of(0, 12), rows_per_file=10)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_long_texts_make_small_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_BYTES", 1000)
    write(tmp_path, *(batch_of(n, 1, "y" * 600) for n in range(4)))
    assert [batch.num_rows for batch in read_batches(tmp_path)] == [2, 2]


def test_a_directory_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="no table here") as caught:
        count_rows(tmp_path)
    assert caught.value.where == tmp_path


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, batch_of(0, 1))
    with pytest.raises(LnmtError, match="lacks a column") as caught:
        list(read_batches(tmp_path, ["id", "colour"]))
    assert (caught.value.value, caught.value.allowed) == ("colour", "id, text, label, domain")


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, batch_of(0, 5))
    path = tmp_path / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(LnmtError, match="cannot be read") as caught:
        list(read_batches(tmp_path))
    assert caught.value.where == path
