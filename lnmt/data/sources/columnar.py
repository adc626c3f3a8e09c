"""Parquet and Arrow IPC files, a bounded number of bytes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lnmt.data.sources.source import Wanted
from lnmt.errors import LnmtError

BATCH_BYTES = 16 * 2**20
BATCH_ROWS = 65536


def read_parquet(path: Path, wanted: Wanted, where: object) -> Iterator[pa.RecordBatch]:
    """The wanted columns, row group after row group. `where` is what errors call the file."""
    try:
        with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            columns = wanted.choose(file.schema_arrow.names, where)
            for group in range(file.num_row_groups):
                told = file.metadata.row_group(group)
                rows = max(1, min(BATCH_ROWS, BATCH_BYTES * told.num_rows // max(1, told.total_byte_size)))
                for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                    yield batch.select(columns)
    except (pa.ArrowException, OSError) as error:
        raise _damaged("Parquet", where, error) from error


def read_arrow(path: Path, wanted: Wanted, where: object) -> Iterator[pa.RecordBatch]:
    """The wanted columns of an Arrow IPC file or stream (what `datasets` writes)."""
    try:
        with pa.memory_map(str(path)) as source:
            batches: Iterator[pa.RecordBatch]
            try:
                file = pa.ipc.open_file(source)
                names, batches = file.schema.names, (file.get_batch(i) for i in range(file.num_record_batches))
            except pa.ArrowInvalid:
                source.seek(0)
                stream = pa.ipc.open_stream(source)
                names, batches = stream.schema.names, iter(stream)
            columns = wanted.choose(names, where)
            for batch in batches:
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(start, BATCH_ROWS).select(columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged("Arrow", where, error) from error


def _damaged(kind: str, where: object, error: Exception) -> LnmtError:
    return LnmtError(
        f"not a whole {kind} file: {error}", where=where, fix="copy or write it again, or set `format` to what it is"
    )
