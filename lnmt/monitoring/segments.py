"""Parquet segments of events and labels: sorted by id, whole or absent, and every page with its checksum.

`segments/<kind>-<level>-<from ms>-<to ms>-<digest of its sources>.parquet`. The name is a function of what
it was made of, so that doing it again gives the same file. Level 0 is made of one spool file, a higher
one of several segments of the level below, which it names.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lnmt.errors import LnmtError
from lnmt.files import write_bytes

if TYPE_CHECKING:
    import pyarrow as pa

LEVELS = 4
ROWS_PER_GROUP = 4096  # what is decoded to find one event
SUFFIX = ".parquet"
_ID = "id"  # the first column of every kind
_SOURCES = b"lnmt.sources"


@dataclass(frozen=True)
class RowGroup:
    """Part of a segment, and the ids it lies between."""

    segment: str  # file name
    row_group: int
    first_id: str
    last_id: str


def directory_of(directory: Path) -> Path:
    """Where the segments of an events' directory are."""
    return directory / "segments"


def segment_files(directory: Path, kind: str) -> list[Path]:
    """The segments of one kind, level after level, each oldest first.

    Looked up level by level: what is merged in between is found in the higher level.
    """
    return [path for level in range(LEVELS) for path in files_of_level(directory, kind, level)]


def files_of_level(directory: Path, kind: str, level: int) -> list[Path]:
    """The segments of one kind and level, oldest first."""
    return sorted(directory_of(directory).glob(f"{kind}-{level}-*{SUFFIX}"))


def span(path: Path) -> tuple[float, float]:
    """Unix seconds of the first and the last row, rounded outwards to ms."""
    _, start, end, _ = path.stem.rsplit("-", 3)
    return int(start) / 1000, int(end) / 1000


def write_segment(
    table: pa.Table, directory: Path, kind: str, level: int, times: tuple[float, float], sources: Sequence[str]
) -> Path:
    """Write a table that is sorted by id; it is on the disk when this returns.

    `times`: unix seconds of its first and last row. `sources`: names of the files that it was made of.
    Where the disk refuses (OSError), nothing is there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = json.dumps(sources)
    start, end = math.floor(times[0] * 1000), math.ceil(times[1] * 1000)
    name = f"{kind}-{level}-{start:013d}-{end:013d}-{hashlib.sha256(names.encode()).hexdigest()[:16]}{SUFFIX}"
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({_SOURCES: names.encode()}),
        sink,
        compression="zstd",
        row_group_size=ROWS_PER_GROUP,
        write_page_checksum=True,
    )
    path = directory_of(directory) / name
    write_bytes(path, sink.getvalue().to_pybytes())
    return path


def tables(path: Path, file: BinaryIO) -> Iterator[pa.Table]:
    """The rows of an open segment, a row group at a time. Raises LnmtError where it is damaged."""
    with _explained(path), _opened(file) as parquet:
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, use_threads=False)


def find(path: Path, file: BinaryIO, row_id: str, group: int | None = None) -> Iterator[pa.Table]:
    """The rows of an open segment with this id, in this row `group` alone where one is given.

    Raises LnmtError where it is damaged.
    """
    with _explained(path), _opened(file) as parquet:
        for place in range(parquet.num_row_groups) if group is None else [group]:
            first, last = _id_range(parquet, place)
            if not first <= row_id <= last:
                continue
            ids = parquet.read_row_group(place, columns=[_ID], use_threads=False)[_ID].to_pylist()
            start, end = bisect_left(ids, row_id), bisect_right(ids, row_id)
            if start < end:
                yield parquet.read_row_group(place, use_threads=False).slice(start, end - start)


def row_groups(path: Path) -> list[RowGroup]:
    """The parts of a segment, from its footer. Raises LnmtError where it is damaged."""
    with path.open("rb") as file, _explained(path), _opened(file) as parquet:
        return [RowGroup(path.name, place, *_id_range(parquet, place)) for place in range(parquet.num_row_groups)]


def sources_of(path: Path) -> list[str]:
    """Names of the files that a segment was made of. Raises LnmtError where it is damaged."""
    with path.open("rb") as file, _explained(path), _opened(file) as parquet:
        found: list[str] = json.loads(parquet.schema_arrow.metadata[_SOURCES])
        return found


def _id_range(parquet: Any, group: int) -> tuple[str, str]:
    statistics = parquet.metadata.row_group(group).column(0).statistics
    return statistics.min, statistics.max


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    import pyarrow.parquet as pq

    # No read-ahead: it starts threads, and the file is local.
    with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as parquet:
        yield parquet


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise LnmtError(
            "a segment of the prediction store is damaged",
            where=path,
            value=f"{type(error).__name__}: {error}",
            fix="restore the file from a backup, or move it away to go on without its events",
        ) from error
