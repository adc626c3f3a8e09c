from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from lnmt.errors import LnmtError
from lnmt.monitoring import compaction, segments
from lnmt.monitoring.columns import events_of, parse, schema_of, times_of, unique_events
from lnmt.monitoring.compaction import Compacted, compact
from lnmt.monitoring.event_files import ReadReport
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.events import (
    EventWriter,
    PredictionEvent,
    event_row,
    find_event,
    pack_event,
    read_events,
)
from lnmt.monitoring.segments import RowGroup, row_groups, segment_files, write_segment
from lnmt.monitoring.spool import spool_files
from tests.monitoring.event_kit import EVENT, any_texts, event, events, ids, names, some_ids, texts, write

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a sync costs nothing there


def test_lines_become_a_segment_and_go(tmp_path: Path, any_index: EventIndex) -> None:
    wanted = [event(one) for one in ("b", "a", "0")]
    writer = EventWriter(tmp_path)
    writer.append(*wanted)
    writer.close()
    assert compact(tmp_path, any_index) == Compacted(files=1, rows=3)
    assert spool_files(tmp_path, "events") == []
    [path] = segment_files(tmp_path, "events")
    assert path.name.startswith("events-0-1700000000250-1700000000250-")
    assert any_index.segments() == {path.name}
    assert list(read_events(tmp_path)) == wanted[::-1]
    for one in wanted:
        assert find_event(tmp_path, one.id) == one
        assert find_event(tmp_path, one.id, index=any_index) == one
    assert find_event(tmp_path, "c", index=any_index) is None
    assert compact(tmp_path, any_index) == Compacted()


def moved(directory: Path, found: list[PredictionEvent]) -> list[PredictionEvent]:
    """What a segment of them gives."""
    rows = [row for event in found if (row := event_row(pack_event(event))) is not None]
    assert len(rows) == len(found)
    table = unique_events(parse(rows, schema_of(PredictionEvent)))
    path = write_segment(table, directory, "events", 0, times_of(table, "time", "time"), ["test"])
    with path.open("rb") as file:
        return [one for part in segments.tables(path, file) for one in events_of(part, path)]


@given(st.lists(events(texts), min_size=1, max_size=5))
@settings(deadline=None)
def test_any_event_comes_back_from_a_segment(found: list[PredictionEvent]) -> None:
    once = {one.id: one for one in reversed(found)}  # the first of an id
    with TemporaryDirectory(dir=MEMORY) as name:
        assert moved(Path(name), found) == sorted(once.values(), key=lambda one: one.id)


@given(events(any_texts))
@settings(deadline=None)
def test_what_utf_8_does_not_have_becomes_a_question_mark(told: PredictionEvent) -> None:
    def clean(value: Any) -> Any:
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

    wanted = PredictionEvent(**{name: clean(value) for name, value in vars(told).items()})
    scores = {clean(label): score for label, score in told.scores.items()}
    with TemporaryDirectory(dir=MEMORY) as name:
        assert moved(Path(name), [told]) == [replace(wanted, scores=scores)]


def test_lines_of_an_older_version_are_moved(tmp_path: Path, index: EventIndex) -> None:
    old = json.dumps(vars(EVENT), separators=(",", ":")).encode("ascii")
    line = b"\n%08x %b\n" % (zlib.crc32(old), old)
    (tmp_path / "events-1700000000000-1-0123abcd.spool").write_bytes(line)
    assert compact(tmp_path, index) == Compacted(files=1, rows=1)
    assert list(read_events(tmp_path)) == [EVENT]


def test_a_segment_without_the_newest_columns_is_read_and_merged(
    tmp_path: Path, index: EventIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MERGE", 2)
    table = parse([row for one in ("a", "b") if (row := event_row(pack_event(event(one))))], schema_of(PredictionEvent))
    old = table.drop_columns(["given_label", "withheld", "pinned"])
    write_segment(old, tmp_path, "events", 0, times_of(table, "time", "time"), ["old"])
    assert list(read_events(tmp_path)) == [event("a"), event("b")]
    writer = EventWriter(tmp_path)
    writer.append(replace(event("c"), given_label="unsure"), replace(event("d"), withheld="a person answers this"))
    writer.append(replace(event("e"), pinned=True))
    writer.close()
    compact(tmp_path, index)
    [merged] = segment_files(tmp_path, "events")
    assert merged.name.startswith("events-1-")
    found = {one.id: (one.given_label, one.withheld, one.pinned) for one in read_events(tmp_path)}
    assert found == {
        "a": (None, None, None),
        "b": (None, None, None),
        "c": ("unsure", None, None),
        "d": (None, "a person answers this", None),
        "e": (None, None, True),
    }


def test_a_file_that_is_written_is_left(tmp_path: Path, index: EventIndex) -> None:
    writer = EventWriter(tmp_path)
    writer.append(EVENT)
    assert compact(tmp_path, index) == Compacted()
    writer.append(event("b"))
    writer.close()
    assert compact(tmp_path, index) == Compacted(files=1, rows=2)
    assert ids(tmp_path) == ["a", "b"]


def test_an_id_counts_once_wherever_it_is(tmp_path: Path, index: EventIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MERGE", 2)
    write(tmp_path, "a", "b", "a")
    assert compact(tmp_path, index) == Compacted(files=1, rows=2)
    write(tmp_path, "b", "c")
    report = ReadReport()
    assert sorted(one.id for one in read_events(tmp_path, report=report)) == ["a", "b", "c"]
    assert report == ReadReport(duplicates=1)
    assert compact(tmp_path, index) == Compacted(files=1, rows=2, merged=1)
    assert ids(tmp_path) == ["a", "b", "c"]
    [path] = segment_files(tmp_path, "events")
    assert row_groups(path) == [RowGroup(path.name, 0, "a", "c")]


def test_small_segments_become_large_ones(tmp_path: Path, index: EventIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MERGE", 3)
    monkeypatch.setattr(segments, "ROWS_PER_GROUP", 2)
    wanted = some_ids(20)
    for number, one in enumerate(wanted):
        write(tmp_path, one, time=float(number))
        compact(tmp_path, index)
    levels = [name.split("-")[1] for name in names(tmp_path)]
    assert levels == ["0", "0", "2", "2"]
    assert index.segments() == set(names(tmp_path))
    assert ids(tmp_path) == wanted
    for number, one in enumerate(wanted):
        assert len(index.find(one)) == 1
        assert find_event(tmp_path, one, index=index) == event(one, float(number))
    assert segments.span(segment_files(tmp_path, "events")[2]) == (0.0, 8.0)
    assert segments.span(segment_files(tmp_path, "events")[3]) == (9.0, 17.0)


def test_large_segments_are_left_alone(tmp_path: Path, index: EventIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MERGE", 2)
    write(tmp_path, *some_ids(2000))
    compact(tmp_path, index)
    [large] = segment_files(tmp_path, "events")
    monkeypatch.setattr(compaction, "MAX_BYTES", large.stat().st_size)
    for one in ("a", "b"):
        write(tmp_path, one)
    assert compact(tmp_path, index) == Compacted(files=2, rows=2, merged=1)
    assert large.exists()
    assert len(ids(tmp_path)) == 2002


def test_the_index_leads_to_one_row_group(
    tmp_path: Path, any_index: EventIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "ROWS_PER_GROUP", 10)
    wanted = some_ids(95)
    write(tmp_path, *wanted, "Ä", "_", "-", "a b")  # databases that sort by language have other orders
    compact(tmp_path, any_index)
    [path] = segment_files(tmp_path, "events")
    assert len(row_groups(path)) == 10
    for one in [*wanted, "Ä", "_", "-", "a b"]:
        assert len(any_index.find(one)) == 1
        assert find_event(tmp_path, one, index=any_index) == event(one)
    # Nothing else is read: the footers of damaged others are not looked at.
    (path.parent / "events-0-1700000000250-1700000000250-0.parquet").write_bytes(b"damaged")
    assert find_event(tmp_path, wanted[50], index=any_index) == event(wanted[50])


def test_since_opens_nothing_older(tmp_path: Path, index: EventIndex) -> None:
    write(tmp_path, "old", time=100.0)
    compact(tmp_path, index)
    write(tmp_path, "before", "at", time=200.0)
    compact(tmp_path, index)
    old, _ = segment_files(tmp_path, "events")
    old.write_bytes(b"damaged")
    assert [one.id for one in read_events(tmp_path, since=200.0)] == ["at", "before"]
    with pytest.raises(LnmtError, match="damaged"):
        list(read_events(tmp_path, since=100.0))


def test_who_reads_meanwhile_misses_nothing(tmp_path: Path, index: EventIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MERGE", 2)
    wanted = some_ids(40)
    for start in range(0, 20, 5):
        write(tmp_path, *wanted[start : start + 5])
        compact(tmp_path, index)
    for start in range(20, 40, 5):
        write(tmp_path, *wanted[start : start + 5])
    reading = read_events(tmp_path)
    found = [next(reading).id for _ in range(3)]  # all files are listed, one is open
    before = names(tmp_path)
    compact(tmp_path, index)
    assert not set(before) & set(names(tmp_path))
    found += [one.id for one in reading]
    assert sorted(found) == wanted


def test_one_at_a_time(tmp_path: Path, index: EventIndex) -> None:
    write(tmp_path, "a")
    with FileLock(tmp_path / ".compaction.lock"):
        assert compact(tmp_path, index) is None
    assert compact(tmp_path, index) == Compacted(files=1, rows=1)


def test_where_nothing_was_written_nothing_is_made(tmp_path: Path, index: EventIndex) -> None:
    assert compact(tmp_path / "absent", index) == Compacted()
    assert not (tmp_path / "absent").exists()


def test_old_segments_go_when_asked_to(tmp_path: Path, index: EventIndex) -> None:
    for one, at in (("a", 100.0), ("b", 200.0), ("c", 300.0)):
        write(tmp_path, one, time=at)
        compact(tmp_path, index)
    assert compact(tmp_path, index, keep_s=100.0, now=300.0) == Compacted(expired=1)
    assert ids(tmp_path) == ["b", "c"]
    assert index.segments() == set(names(tmp_path))
    assert index.find("a") == []


def test_the_service_does_without_pandas_and_threads(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    code = f"""
import sys
from pathlib import Path
import pyarrow.json, pyarrow.parquet  # its memory allocator has a thread
from lnmt.monitoring import compaction
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.events import find_event, read_events
compaction.MERGE = 2
threads = lambda: len(list(Path("/proc/self/task").iterdir()))
before = threads()
directory = Path({str(tmp_path)!r})
with EventIndex(f"sqlite:///{{directory / 'lnmt.db'}}") as index:
    done = compaction.compact(directory, index)
    assert (done.files, done.merged) == (2, 1)
    assert find_event(directory, "a", index=index) is not None
assert len(list(read_events(directory))) == 2
print("pandas" in sys.modules, threads() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "0"]
