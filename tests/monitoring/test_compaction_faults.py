"""Compaction where something goes wrong: nothing is lost, nothing comes twice, and it is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lnmt.errors import LnmtError, Transient
from lnmt.monitoring import compaction, segments
from lnmt.monitoring.compaction import Compacted, compact
from lnmt.monitoring.event_files import ReadReport
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.events import EventWriter, PredictionEvent, find_event, read_events
from lnmt.monitoring.segments import segment_files
from lnmt.monitoring.spool import spool_files
from tests.faults.full_disk import small_disk
from tests.monitoring.event_kit import EVENT, event, ids, names, some_ids, write
from tests.postgres import need_driver

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_segment_is_named_and_the_others_are_read(
    tmp_path: Path, index: EventIndex, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(compaction, "MERGE", 4)
    for number, one in enumerate("abc"):
        write(tmp_path, one, time=float(number))
        compact(tmp_path, index)
    broken = segment_files(tmp_path, "events")[1]
    broken.write_bytes(DAMAGE[damage](broken.read_bytes()))
    found: list[PredictionEvent] = []
    with pytest.raises(LnmtError, match="a segment of the prediction store is damaged") as caught:
        found.extend(read_events(tmp_path))
    assert found == [event("a", 0.0), event("c", 2.0)]
    assert caught.value.where == broken
    for known in found:
        assert find_event(tmp_path, known.id, index=index) == known
    with pytest.raises(LnmtError) as caught:
        find_event(tmp_path, "b", index=index)
    assert caught.value.where == broken
    write(tmp_path, "d", time=3.0)
    write(tmp_path, "e", time=4.0)
    done = compact(tmp_path, index)
    assert done is not None
    assert (done.files, done.merged, [failure.where for failure in done.failures]) == (2, 1, [broken])
    assert broken.exists()
    broken.rename(tmp_path / "away")
    assert ids(tmp_path) == ["a", "c", "d", "e"]


def test_damaged_lines_are_kept_beside(tmp_path: Path, index: EventIndex) -> None:
    write(tmp_path, "a", "b")
    [path] = spool_files(tmp_path, "events")
    path.write_bytes(path.read_bytes().replace(b"positive", b"Positive", 1))
    assert compact(tmp_path, index) == Compacted(files=1, rows=1, damaged_lines=1)
    assert ids(tmp_path) == ["b"]
    assert path.with_suffix(".damaged").exists()
    assert compact(tmp_path, index) == Compacted()


def test_a_file_of_other_types_stays_as_it_is(tmp_path: Path, index: EventIndex) -> None:
    write(tmp_path, "a")
    writer = EventWriter(tmp_path)
    writer.append(replace(EVENT, id="b", tokens="seven"))  # type: ignore[arg-type]
    writer.close()
    write(tmp_path, "c")
    done = compact(tmp_path, index)
    assert done is not None
    assert (done.files, done.rows) == (2, 2)
    [failure] = done.failures
    assert failure.what == "a spool file cannot be made a segment"
    assert [failure.where] == spool_files(tmp_path, "events")
    assert ids(tmp_path) == ["a", "b", "c"]


def test_a_lost_index_is_made_again(tmp_path: Path, index: EventIndex) -> None:
    wanted = some_ids(3)
    for one in wanted:
        write(tmp_path, one)
        compact(tmp_path, index)
    with EventIndex(f"sqlite:///{tmp_path / 'new.db'}") as new:
        assert find_event(tmp_path, wanted[0], index=new) == event(wanted[0])
        compact(tmp_path, new)
        assert new.segments() == index.segments() == set(names(tmp_path))


def test_without_its_database_everything_stays_where_it_is(tmp_path: Path, index: EventIndex) -> None:
    need_driver()
    write(tmp_path, "a")
    with EventIndex("postgresql+psycopg://lnmt@127.0.0.1:1/postgres") as away:
        with pytest.raises(Transient, match="did not answer"):
            compact(tmp_path, away)
        assert len(spool_files(tmp_path, "events")) == 1
        assert ids(tmp_path) == ["a"]
        assert find_event(tmp_path, "a", index=away) == event("a")
    assert compact(tmp_path, index) == Compacted(files=1, rows=1)


def test_a_full_disk_costs_nothing(tmp_path: Path, index: EventIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(small_disk(tmp_path / "disk")) / "events"
        except OSError as error:
            pytest.skip(f"cannot mount a tmpfs: {error.strerror}")
        monkeypatch.setattr(compaction, "MERGE", 2)
        wanted = some_ids(60)
        write(directory, *wanted[:30])
        compact(directory, index)
        write(directory, *wanted[30:])
        filler = directory / "filler"
        for left in (0, 4096, 8192, 16384):
            filler.unlink(missing_ok=True)
            stat = os.statvfs(directory)
            filler.write_bytes(b"\0" * (stat.f_bavail * stat.f_frsize - left))
            if left == 0:
                with pytest.raises(LnmtError, match="No space left on device") as caught:
                    compact(directory, index)
                assert caught.value.where == directory
            else:  # it gets further each time
                with suppress(LnmtError):
                    compact(directory, index)
            assert ids(directory) == wanted
        filler.unlink()
        compact(directory, index)
        assert spool_files(directory, "events") == []
        assert [name.split("-")[1] for name in names(directory)] == ["1"]
        assert ids(directory) == wanted


EFFECTS = (".spool", ".parquet", ".unfinished")  # files whose names and removal count


class Died(BaseException):
    """Stands for kill -9: no `except Exception` sees it."""


@contextmanager
def dying(patch: pytest.MonkeyPatch, number: int, *, after: bool) -> Iterator[list[str]]:
    """Die at the effect of this number, before it or after it; yields the effects that were begun."""
    begun: list[str] = []

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def effect(*arguments: Any, **named: Any) -> Any:
            if owner is Path and not arguments[0].name.endswith(EFFECTS):
                return original(*arguments, **named)
            begun.append(name)
            if len(begun) == number and not after:
                raise Died
            done = original(*arguments, **named)
            if len(begun) == number:
                raise Died
            return done

        inner.setattr(owner, name, effect)

    with patch.context() as inner:
        wrap(segments, "write_bytes")
        wrap(EventIndex, "replace")
        wrap(Path, "unlink")
        wrap(Path, "rename")
        wrap(Path, "touch")
        yield begun


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whoever_dies_at_any_step_costs_nothing(tmp_path: Path, after: bool) -> None:
    """A pass that moves two files, merges level 0 and then level 1, cut at each of its effects."""
    number, finished = 0, False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "MERGE", 2)
        while not finished:
            number += 1
            directory = tmp_path / str(number)
            with EventIndex(f"sqlite:///{tmp_path / f'{number}.db'}") as index:
                wanted = some_ids(16)
                for start in range(0, 8, 4):
                    write(directory, *wanted[start : start + 4])
                    compact(directory, index)
                for start in range(8, 16, 4):
                    write(directory, *wanted[start : start + 4])
                with dying(patch, number, after=after) as begun:
                    try:
                        compact(directory, index)
                        finished = True
                    except Died:
                        pass
                for _ in range(2):
                    assert ids(directory) == wanted, begun
                    for one in wanted:
                        assert find_event(directory, one, index=index) == event(one), begun
                    compact(directory, index)
                report = ReadReport()
                list(read_events(directory, report=report))
                assert report == ReadReport(), begun  # nothing is kept twice
                assert [name.split("-")[1] for name in names(directory)] == ["2"], begun
                assert index.segments() == set(names(directory)), begun
                assert sorted(path.name for path in segments.directory_of(directory).iterdir()) == names(directory)
    assert number > 10
