from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from lnmt.errors import Transient
from lnmt.monitoring.event_files import ReadReport
from lnmt.monitoring.events import (
    EventWriter,
    PredictionEvent,
    event_row,
    find_event,
    id_time,
    new_id,
    pack_event,
    read_events,
    unpack_event,
)
from lnmt.monitoring.spool import held, pack, spool_files, unpack
from tests.monitoring.event_kit import EVENT, any_texts, events

# Appends events 0, 1, 2, …, and says each number once its append has returned.
WRITER = """
import itertools, json, sys
from pathlib import Path
from lnmt.monitoring.events import EventWriter, PredictionEvent
event = json.loads(sys.argv[2])
writer = EventWriter(Path(sys.argv[1]), max_bytes=20_000)
for number in itertools.count():
    writer.append(PredictionEvent(**{**event, "id": f"n{number}"}))
    print(number, flush=True)
"""


def test_an_event_comes_back_as_it_was(tmp_path: Path) -> None:
    surrogate = replace(EVENT, id="c", text="half of one: \ud83d")
    writer = EventWriter(tmp_path)
    writer.append(EVENT, replace(EVENT, id="b", text=None), surrogate)
    assert list(read_events(tmp_path)) == [EVENT, replace(EVENT, id="b", text=None), surrogate]
    assert [path.read_bytes().count(b"\r") for path in spool_files(tmp_path, "events")] == [0]


@given(events(any_texts))
def test_any_event_is_one_line(event: PredictionEvent) -> None:
    record = pack(pack_event(event))
    assert (record[:1], record[-1:], record.count(b"\n")) == (b"\n", b"\n", 2)
    payload = unpack(record.strip(b"\n"))
    assert payload is not None
    assert unpack_event(payload) == event


def test_lines_of_an_older_version_are_read(tmp_path: Path) -> None:
    old = json.dumps(vars(EVENT), separators=(",", ":")).encode("ascii")
    line = b"\n%08x %b\n" % (zlib.crc32(old), old)
    (tmp_path / "events-1700000000000-1-0123abcd.spool").write_bytes(line)
    assert list(read_events(tmp_path)) == [EVENT]
    assert find_event(tmp_path, "a") == EVENT


def test_lines_without_the_newest_fields_are_read(tmp_path: Path) -> None:
    old = {name: value for name, value in vars(EVENT).items() if name not in ("given_label", "withheld", "pinned")}
    line = json.dumps(old, separators=(",", ":")).encode("ascii")
    (tmp_path / "events-1700000000000-1-0123abcd.spool").write_bytes(b"\n%08x %b\n" % (zlib.crc32(line), line))
    assert list(read_events(tmp_path)) == [EVENT]


def test_lines_of_a_newer_version_are_read_without_what_it_added(tmp_path: Path) -> None:
    newer = b"0badc0de " + json.dumps({**vars(EVENT), "later": {"a": [1]}}).encode("ascii")
    (tmp_path / "events-1700000000000-1-0123abcd.spool").write_bytes(pack(newer))
    report = ReadReport()
    assert list(read_events(tmp_path, report=report)) == [EVENT]
    assert report.corrupt == 0
    row = event_row(newer)
    assert row is not None
    assert "later" not in json.loads(row)


def test_an_id_counts_once(tmp_path: Path) -> None:
    first, second = EventWriter(tmp_path), EventWriter(tmp_path)
    first.append(EVENT, replace(EVENT, id="b"))
    second.append(replace(EVENT, id="c"), replace(EVENT, label="negative"))
    report = ReadReport()
    assert sorted(event.id for event in read_events(tmp_path, report=report)) == ["a", "b", "c"]
    assert report == ReadReport(corrupt=0, duplicates=1)


def test_since_leaves_out_what_is_older(tmp_path: Path) -> None:
    old = EventWriter(tmp_path)
    old.append(replace(EVENT, id="old", time=100.0))
    old.close()
    [path] = spool_files(tmp_path, "events")
    os.utime(path, (150.0, 150.0))
    new = EventWriter(tmp_path)
    new.append(replace(EVENT, id="before", time=199.0), replace(EVENT, id="at", time=200.0))
    assert [event.id for event in read_events(tmp_path, since=200.0)] == ["at"]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_torn_record_spoils_no_other(tmp_path: Path, keep: float) -> None:
    EventWriter(tmp_path).append(EVENT)
    [path] = spool_files(tmp_path, "events")
    whole = pack(pack_event(replace(EVENT, id="torn")))
    with path.open("ab") as file:
        file.write(whole[: int(len(whole) * keep)])
        file.write(pack(pack_event(replace(EVENT, id="after"))))
    report = ReadReport()
    assert [event.id for event in read_events(tmp_path, report=report)] == ["a", "after"]
    assert report.corrupt == 1


def test_an_altered_byte_is_found(tmp_path: Path) -> None:
    EventWriter(tmp_path).append(EVENT)
    [path] = spool_files(tmp_path, "events")
    path.write_bytes(path.read_bytes().replace(b'"positive"', b'"negative"', 1))
    report = ReadReport()
    assert list(read_events(tmp_path, report=report)) == []
    assert report.corrupt == 1


@pytest.mark.parametrize("payload", [b'{"id":"a","later":1}', b'[{"id":"a"}]', b'{"labels":[]}', b"", b"\xff{"])
def test_a_line_of_another_kind_is_passed_over(tmp_path: Path, payload: bytes) -> None:
    (tmp_path / "events-0000000000001-1-x.spool").write_bytes(pack(payload) + pack(pack_event(EVENT)))
    report = ReadReport()
    assert list(read_events(tmp_path, report=report)) == [EVENT]
    assert report.corrupt == 1


def test_files_rotate_by_size(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, max_bytes=1500)
    for number in range(10):
        writer.append(replace(EVENT, id=str(number)))
    files = spool_files(tmp_path, "events")
    size = len(pack(pack_event(replace(EVENT, id="0"))))
    each = -(-1500 // size)
    assert len(files) == -(-10 // each)
    assert {event.id for event in read_events(tmp_path)} == {str(number) for number in range(10)}


def test_files_rotate_by_age(tmp_path: Path) -> None:
    old, young = EventWriter(tmp_path, max_age_s=0.0), EventWriter(tmp_path, max_age_s=3600.0)
    for number in range(3):
        old.append(replace(EVENT, id=f"old {number}"))
    young.append(EVENT)
    young.append(replace(EVENT, id="b"))
    assert len(spool_files(tmp_path, "events")) == 4


def test_a_file_is_free_once_nobody_will_write_it(tmp_path: Path) -> None:
    def free() -> list[bool]:
        found = []
        for path in spool_files(tmp_path, "events"):
            with held(path) as one:
                found.append(one)
        return sorted(found)  # two of one millisecond have no order

    writer = EventWriter(tmp_path, max_age_s=3600.0)
    writer.append(EVENT)
    writer.rotate()
    assert free() == [False]
    writer.close()
    assert free() == [True]
    quiet = EventWriter(tmp_path, max_age_s=0.0)
    quiet.append(EVENT)
    assert free() == [False, True]
    quiet.rotate()
    assert free() == [True, True]
    with held(tmp_path / "events-gone.spool") as one:
        assert not one


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    event = json.dumps({**vars(EVENT), "text": "x" * 5000})
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), event], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(40)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().splitlines()]
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    found = [int(event.id.removeprefix("n")) for event in read_events(tmp_path)]
    assert sorted(found)[: len(acknowledged)] == acknowledged
    assert len(found) in (len(acknowledged), len(acknowledged) + 1)  # one may be written and not yet said
    files = spool_files(tmp_path, "events")
    assert len(files) > 1
    for path in files:
        with held(path) as free:
            assert free  # the lock went with the process


def test_a_forked_child_has_a_file_of_its_own(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.append(replace(EVENT, id="parent"))
    # The fork happens in a fresh interpreter: this one has threads.
    code = f"""
import os
from pathlib import Path
from lnmt.monitoring.events import EventWriter, PredictionEvent
event = PredictionEvent(**{vars(EVENT)!r})
writer = EventWriter(Path({str(tmp_path)!r}))
writer.append(event)
child = os.fork()
if child == 0:
    writer.append(PredictionEvent(**{{**vars(event), "id": "child"}}))
    os.kill(os.getpid(), 9)
os.waitpid(child, 0)
writer.append(PredictionEvent(**{{**vars(event), "id": "later"}}))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {event.id for event in read_events(tmp_path)} == {"parent", "a", "child", "later"}
    assert len(spool_files(tmp_path, "events")) == 3


def test_a_full_disk_is_said_and_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = EventWriter(tmp_path)
    writer.append(EVENT)
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:50]))
    with pytest.raises(Transient, match="part of a record"):
        writer.append(replace(EVENT, id="b"))

    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Transient, match="No space left on device"):
        writer.append(replace(EVENT, id="c"))
    monkeypatch.setattr(os, "write", write)
    writer.append(replace(EVENT, id="d"))
    assert [event.id for event in read_events(tmp_path)] == ["a", "d"]


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("a file")
    with pytest.raises(Transient, match="cannot be opened"):
        EventWriter(tmp_path / "events").append(EVENT)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_does_not_have_is_refused(tmp_path: Path, value: float) -> None:
    for event in (
        replace(EVENT, latency_ms=value),
        replace(EVENT, scores={"negative": 0.5, "positive": value}),
        replace(EVENT, pooled=[value, -value]),
    ):
        with pytest.raises(ValueError, match="not JSON compliant"):
            EventWriter(tmp_path).append(event)


def test_an_event_is_found_by_its_id(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, max_bytes=1)  # a file each
    ids = [new_id() for _ in range(5)]
    writer.append(replace(EVENT, id=ids[0]), replace(EVENT, id="of another kind"))
    for one in ids[1:]:
        writer.append(replace(EVENT, id=one, text=ids[0]))
    assert find_event(tmp_path, ids[3]) == replace(EVENT, id=ids[3], text=ids[0])
    assert find_event(tmp_path, ids[0]) == replace(EVENT, id=ids[0])
    assert find_event(tmp_path, "of another kind") == replace(EVENT, id="of another kind")
    assert find_event(tmp_path, new_id()) is None
    assert find_event(tmp_path / "absent", ids[0]) is None


def test_only_files_of_an_ids_time_are_read(tmp_path: Path) -> None:
    wanted = new_id()
    EventWriter(tmp_path).append(replace(EVENT, id=wanted))
    [path] = spool_files(tmp_path, "events")
    os.utime(path, (0.0, 0.0))  # says: nothing was written after 1970
    assert find_event(tmp_path, wanted) is None


def test_ids_are_new_and_tell_their_time() -> None:
    before = time.time()
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    made = id_time(ids[0])
    assert made is not None
    assert before - 0.001 <= made <= time.time()
    assert [id_time(other) for other in ("", "a", "00000000-0000-4000-8000-000000000000", ids[0].upper())] == [None] * 4


def test_no_events_are_none(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "absent")) == []


@pytest.mark.parametrize("line", [b"", b"zzzzzzzz {}", b"00000000 {}", b"12", b"\xff" * 20])
def test_garbage_is_no_record(line: bytes) -> None:
    assert unpack(line) is None


def test_a_forked_child_makes_other_ids() -> None:
    first = new_id()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs, ours = os.read(reader, 100).decode(), new_id()
    os.close(reader)
    os.close(writer)
    assert len({first[14:], theirs[14:], ours[14:]}) == 3  # the random part
