from __future__ import annotations

import fcntl
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.monitoring.compaction import compact
from lnmt.monitoring.event_files import ReadReport
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.feedback import (
    Feedback,
    Told,
    append_feedback,
    find_feedback,
    joined,
    latest,
    read_feedback,
    shared_file,
)
from lnmt.monitoring.segments import segment_files
from lnmt.monitoring.spool import append_shared, pack, set_aside, spool_files

parts = st.lists(
    st.builds(Told, st.sampled_from("ab"), st.sampled_from("xyz"), st.floats(0, 9), st.floats(0, 9)).map(
        lambda told: Told(told.id, told.label, min(told.first, told.last), max(told.first, told.last))
    ),
    max_size=8,
)


@pytest.mark.parametrize("compacted", [False, True], ids=["spool", "segments"])
def test_the_latest_label_wins_and_keeps_its_first_time(tmp_path: Path, index: EventIndex, compacted: bool) -> None:
    events = tmp_path / "events"

    def tell(prediction_id: str, label: str, at: float) -> None:
        append_feedback(events, prediction_id, label, at=at)
        if compacted:
            compact(events, index)

    for label, at in (("negative", 1.0), ("positive", 2.0), ("positive", 3.0)):
        tell("a", label, at)
    tell("b", "neutral", 4.0)
    assert read_feedback(events) == {"a": Feedback("a", "positive", 2.0), "b": Feedback("b", "neutral", 4.0)}
    tell("a", "negative", 2.5)  # told before, arriving late
    assert find_feedback(events, "a") == Feedback("a", "positive", 2.0)
    tell("a", "negative", 5.0)
    assert find_feedback(events, "a") == Feedback("a", "negative", 1.0)
    assert find_feedback(events, "c") is None
    assert bool(segment_files(events, "feedback")) == compacted
    assert shared_file(events).exists() != compacted


@given(parts, st.randoms())
def test_neither_order_nor_repetition_matters(told: list[Told], draw: random.Random) -> None:
    again = told + draw.sample(told, len(told) // 2)
    draw.shuffle(again)
    cut = draw.randrange(len(again) + 1)
    assert latest(again) == latest(told)
    assert latest(joined(again[:cut]) + joined(again[cut:])) == latest(told)


def test_torn_feedback_spoils_no_other(tmp_path: Path, index: EventIndex) -> None:
    append_feedback(tmp_path, "a", "negative", at=1.0)
    with shared_file(tmp_path).open("ab") as file:
        file.write(pack(b'{"id":"b","label":"negative","time":2.0}')[:20])
    append_shared(shared_file(tmp_path), b'{"id":"of another kind"}')
    append_feedback(tmp_path, "c", "negative", at=3.0)
    report = ReadReport()
    assert sorted(read_feedback(tmp_path, report=report)) == ["a", "c"]
    assert report.corrupt == 2
    done = compact(tmp_path, index)
    assert done is not None
    assert (done.rows, done.damaged_lines) == (2, 2)
    assert sorted(read_feedback(tmp_path)) == ["a", "c"]
    assert len(list(tmp_path.glob("*.damaged"))) == 1


def test_a_file_set_aside_is_read_and_a_new_one_begins(tmp_path: Path) -> None:
    append_feedback(tmp_path, "a", "negative", at=1.0)
    set_aside(shared_file(tmp_path), "feedback")
    set_aside(shared_file(tmp_path), "feedback")  # there is none: nothing happens
    append_feedback(tmp_path, "b", "negative", at=2.0)
    assert len(spool_files(tmp_path, "feedback")) == 1
    assert sorted(read_feedback(tmp_path)) == ["a", "b"]


def test_whoever_waited_for_the_file_writes_to_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_feedback(tmp_path, "a", "negative", at=1.0)
    flock = fcntl.flock

    def late(handle: int, operation: int) -> None:
        """The file was open already when it was renamed."""
        monkeypatch.setattr(fcntl, "flock", flock)
        set_aside(shared_file(tmp_path), "feedback")
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    append_feedback(tmp_path, "b", "negative", at=2.0)
    assert b'"b"' in shared_file(tmp_path).read_bytes()
    assert sorted(read_feedback(tmp_path)) == ["a", "b"]


def test_no_feedback_is_none(tmp_path: Path) -> None:
    assert read_feedback(tmp_path) == {}
    assert find_feedback(tmp_path, "a") is None
