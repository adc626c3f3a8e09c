"""Spool files → segments → fewer, larger segments, while others append and read.

Each step leaves what was there until what follows it is on the disk, and gives the same when it is done again:
a segment is written beside its place, synced and renamed; then the index's rows change in one transaction;
then its sources go. Who dies in between leaves a mark, which tells the next one to look for what is left over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lnmt.errors import LnmtError
from lnmt.files import clear_disk_errors
from lnmt.monitoring import columns, segments, spool
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.events import EVENTS, PredictionEvent, event_row
from lnmt.monitoring.feedback import FEEDBACK, Told, shared_file, told_row

if TYPE_CHECKING:
    import pyarrow as pa

# So many segments, fewer where they are large, make one of the next level. Its rows are in memory meanwhile.
MERGE = 16
MAX_BYTES = 8 * 2**20
LEFTOVER_S = 3600.0  # a spool file that has had no name for so long is nobody's


@dataclass(frozen=True)
class Kind:
    """What is kept: how a line becomes a row, and how rows become a segment."""

    name: str
    row: Callable[[bytes], bytes | None]  # payload → JSON object; None for another kind of line
    holds: type
    tidy: Callable[[pa.Table], pa.Table]  # sorted by id, nothing twice
    times: tuple[str, str]  # columns of a row's first and last time
    indexed: bool


KINDS = (
    Kind(EVENTS, event_row, PredictionEvent, columns.unique_events, ("time", "time"), indexed=True),
    Kind(FEEDBACK, told_row, Told, columns.joined_labels, ("first", "last"), indexed=False),
)


@dataclass
class Compacted:
    """What one pass did."""

    files: int = 0  # spool files moved
    rows: int = 0  # that were in them, each once
    damaged_lines: int = 0  # the files they are in are kept as *.damaged
    merged: int = 0  # segments made of others
    expired: int = 0  # segments removed for their age
    failures: list[LnmtError] = field(default_factory=list)  # files that were left as they are, and why


def compact(
    directory: Path, index: EventIndex, *, keep_s: float | None = None, now: float | None = None
) -> Compacted | None:
    """Move what nobody writes any more into segments, and merge small ones; None where another process is at it.

    `keep_s`: remove segments whose newest row is older than so many seconds before `now` (unix seconds). A file
    that cannot be read is left as it is and told in `failures`. Raises LnmtError where the disk is full or the
    index cannot be changed: nothing is lost, the rest waits for the next pass.
    """
    done = Compacted()
    if not directory.exists():
        return done
    with clear_disk_errors(directory), _alone(directory) as alone:
        if not alone:
            return None
        work = _Work(directory, index, done)
        with _marked(directory) as unfinished:
            if unfinished or index.empty():
                work.repair()
            spool.set_aside(shared_file(directory), FEEDBACK)
            for kind in KINDS:
                work.move(kind)
                work.merge(kind)
                if keep_s is not None:
                    work.expire(kind, (time.time() if now is None else now) - keep_s)
    return done


@dataclass(frozen=True)
class _Work:
    directory: Path
    index: EventIndex
    done: Compacted
    unreadable: set[Path] = field(default_factory=set)

    def repair(self) -> None:
        """Clear away what a killed pass left, and tell the index of segments that it does not know."""
        _sweep(self.directory)
        known = self.index.segments()
        for kind in KINDS:
            # From the highest level down: what was merged goes before it would be looked at.
            for path in reversed(segments.segment_files(self.directory, kind.name)):
                if path.exists():
                    self._settle(kind, path, known)

    def move(self, kind: Kind) -> None:
        """Every spool file that nobody writes into a segment of its own."""
        for path in spool.spool_files(self.directory, kind.name):
            with spool.held(path) as free:
                if free:
                    self._move(kind, path)

    def merge(self, kind: Kind) -> None:
        """Level by level, as long as enough small segments are there."""
        for level in range(segments.LEVELS - 1):
            while group := self._group(segments.files_of_level(self.directory, kind.name, level)):
                self._merge(kind, level, group)

    def expire(self, kind: Kind, before: float) -> None:
        """Remove segments that hold nothing since `before`, in unix seconds."""
        for path in segments.segment_files(self.directory, kind.name):
            if segments.span(path)[1] < before:
                self._replace(kind, None, [path])
                self.done.expired += 1

    def _move(self, kind: Kind, path: Path) -> None:
        with path.open("rb") as file:
            payloads = [spool.unpack(line) for line in spool.lines(file)]
        rows = [row for payload in payloads if payload is not None and (row := kind.row(payload)) is not None]
        try:
            table = kind.tidy(columns.parse(rows, columns.schema_of(kind.holds)))
        except ValueError as error:
            what = "a spool file cannot be made a segment"
            fix = "move it away; what it holds can be read as lines of JSON"
            self.done.failures.append(LnmtError(what, where=path, value=error, fix=fix))
            return
        if rows:
            self._replace(kind, self._write(kind, table, 0, [path.name]), [])
        damaged = len(payloads) - len(rows)
        if damaged:
            path.rename(path.with_suffix(".damaged"))
        else:
            path.unlink()
        self.done.files += 1
        self.done.rows += table.num_rows
        self.done.damaged_lines += damaged

    def _merge(self, kind: Kind, level: int, group: Sequence[Path]) -> None:
        import pyarrow as pa

        schema = columns.schema_of(kind.holds)
        tables: list[pa.Table] = []
        for path in group:
            try:
                with path.open("rb") as file:
                    found = segments.tables(path, file)
                    tables += [columns.conform(table, schema, kind.holds, path) for table in found]
            except LnmtError as error:
                self._pass_over(path, error)
        if self.unreadable.intersection(group):
            return  # the next group is one without them
        table = kind.tidy(pa.concat_tables(tables))
        self._replace(kind, self._write(kind, table, level + 1, [path.name for path in group]), group)
        self.done.merged += 1

    def _write(self, kind: Kind, table: pa.Table, level: int, sources: Sequence[str]) -> Path:
        times = columns.times_of(table, *kind.times)
        return segments.write_segment(table, self.directory, kind.name, level, times, sources)

    def _replace(self, kind: Kind, made: Path | None, sources: Sequence[Path]) -> None:
        """Change the index, then remove the segments that `made` stands for."""
        if kind.indexed:
            groups = [] if made is None else segments.row_groups(made)
            self.index.replace(groups, removed=[path.name for path in sources])
        for path in sources:
            path.unlink(missing_ok=True)

    def _settle(self, kind: Kind, path: Path, known: set[str]) -> None:
        try:
            names = segments.sources_of(path)
        except LnmtError as error:
            self._pass_over(path, error)
            return
        left = [source for name in names if (source := path.with_name(name)).exists()]
        if left or path.name not in known:
            self._replace(kind, path, left)

    def _pass_over(self, path: Path, error: LnmtError) -> None:
        self.unreadable.add(path)
        self.done.failures.append(error)

    def _group(self, paths: Sequence[Path]) -> list[Path]:
        """The oldest segments that make one of the next level; none while they are few and small."""
        chosen: list[Path] = []
        total = 0
        for path in paths:
            size = path.stat().st_size
            if size > MAX_BYTES // 2 or path in self.unreadable:
                continue
            if len(chosen) == MERGE or total + size > MAX_BYTES:
                return chosen
            chosen.append(path)
            total += size
        return chosen if len(chosen) == MERGE else []


def _sweep(directory: Path) -> None:
    """Remove files that never got their name."""
    for path in segments.directory_of(directory).glob(f".*{segments.SUFFIX}.*"):
        path.unlink()
    for path in directory.glob(f".*{spool.SUFFIX}"):
        with suppress(FileNotFoundError):  # it has just got its name
            if path.stat().st_mtime < time.time() - LEFTOVER_S:
                path.unlink()


@contextmanager
def _marked(directory: Path) -> Iterator[bool]:
    """Leave a mark for as long as a pass is unfinished; True where the one before was not finished."""
    mark = segments.directory_of(directory) / ".unfinished"
    mark.parent.mkdir(exist_ok=True)
    unfinished = mark.exists()
    mark.touch()
    yield unfinished
    mark.unlink()


@contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """True for one process at a time; the lock goes with the process that holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(directory / ".compaction.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
