"""Tables as directories of Parquet shards, `part-00000.parquet` …: read and written in bounded memory.

The same batches written with the same options give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lnmt.errors import LnmtError
from lnmt.types import ID, LABEL, TEXT

BATCH_ROWS = 65536
ROWS_PER_FILE = 100_000  # where no parameter says it
BATCH_BYTES = 32 * 2**20  # a row group is written once it holds so much, however few its rows


def table_schema(slices: Iterable[str]) -> pa.Schema:
    """`id`, `text`, `label` and the slice columns, all nullable strings."""
    return pa.schema([(name, pa.string()) for name in (ID, TEXT, LABEL, *slices)])


def shards(directory: Path) -> list[Path]:
    """The table's files in order. Raises LnmtError where there are none."""
    paths = sorted(directory.glob("part-*.parquet"))
    if not paths:
        raise LnmtError(
            "no table here: the directory holds no part-*.parquet",
            where=directory,
            fix="run the stage that writes it: lnmt run",
        )
    return paths


def read_schema(directory: Path) -> pa.Schema:
    """The columns of the table, without its metadata."""
    with _open(shards(directory)[0]) as file:
        return file.schema_arrow.remove_metadata()


def count_rows(directory: Path) -> int:
    """Rows of the table, from the files' footers alone."""
    rows = 0
    for path in shards(directory):
        with _open(path) as file:
            rows += file.metadata.num_rows
    return rows


def read_batches(
    directory: Path, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """The rows in order, at most `batch_rows` at a time; `columns` None: all. No empty batch is given."""
    for path in shards(directory):
        yield from read_shard(path, columns, batch_rows)


def read_shard(
    path: Path, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """The rows of one of the table's files, as `read_batches` gives those of all."""
    with _open(path) as file:
        names = file.schema_arrow.names
        missing = [name for name in columns or () if name not in names]
        if missing:
            raise LnmtError(
                "the table lacks a column",
                where=path,
                value=", ".join(missing),
                allowed=", ".join(names),
                fix="run the stages before this one again: dvc repro",
            )
        try:
            for group in range(file.num_row_groups):  # one at a time: a batch never spans the bytes of two
                groups = file.iter_batches(batch_rows, row_groups=[group], columns=columns and list(columns))
                yield from (batch for batch in groups if batch.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        file = pq.ParquetFile(path, memory_map=False, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def _damaged(path: Path, error: Exception) -> LnmtError:
    return LnmtError(
        f"the Parquet file cannot be read: {error}",
        where=path,
        fix="run the stage that writes it again: dvc repro",
    )


class ShardWriter:
    """Writes record batches into `directory`, `rows_per_file` rows to a file; one empty file where there are none.

    Use as a context manager, inside `lnmt.files.new_directory`, which removes everything on an error.
    """

    def __init__(self, directory: Path, schema: pa.Schema, rows_per_file: int) -> None:
        self.rows = 0
        self._directory = directory
        self._schema = schema
        self._rows_per_file = rows_per_file
        self._files = 0
        self._file: pq.ParquetWriter | None = None
        self._sink: pa.OSFile | None = None
        self._room = 0  # rows that the open file may still take
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch that has exactly the schema's columns."""
        assert batch.schema.equals(self._schema), f"{batch.schema} is not {self._schema}"
        self.rows += batch.num_rows
        while batch.num_rows:
            if self._file is None:
                self._start()
            part = batch.slice(0, min(batch.num_rows, self._room, BATCH_ROWS - self._held_rows))
            batch = batch.slice(part.num_rows)
            self._held.append(part)
            self._held_rows += part.num_rows
            self._held_bytes += part.nbytes
            self._room -= part.num_rows
            if self._held_rows == BATCH_ROWS or self._held_bytes >= BATCH_BYTES:
                self._flush()
            if self._room == 0:
                self._finish()

    def __enter__(self) -> ShardWriter:
        self._directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._files == 0:
                    self._start()
                self._finish()
        finally:
            # The half-written file goes with its directory; here its handles go. A failing close hides no error.
            with suppress(pa.ArrowException, OSError):
                if self._file is not None:
                    self._file.close()
            with suppress(pa.ArrowException, OSError):
                if self._sink is not None:
                    self._sink.close()

    def _start(self) -> None:
        path = self._directory / f"part-{self._files:05d}.parquet"
        self._sink = pa.OSFile(str(path), "wb")
        self._file = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._files += 1
        self._room = self._rows_per_file

    def _flush(self) -> None:
        if self._held_rows and self._file is not None:
            self._file.write_table(pa.Table.from_batches(self._held, self._schema))
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def _finish(self) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._sink is not None:
            self._sink.close()
            self._sink = None
