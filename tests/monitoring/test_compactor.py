from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lnmt.monitoring.compactor import Compactor
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.events import EventWriter, read_events
from lnmt.monitoring.segments import directory_of, segment_files
from lnmt.monitoring.spool import spool_files
from lnmt.observability.logging import configure
from tests.monitoring.event_kit import EVENT, write


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure(stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(stream: io.StringIO) -> list[str]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [str(line["event"]) for line in lines]


class Watched(EventWriter):
    """Says when the compactor has come by for the second time: its first pass is over then."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, max_age_s=0.0)
        self.came = 0
        self.twice = threading.Event()

    def rotate(self) -> None:
        super().rotate()
        self.came += 1
        if self.came == 2:
            self.twice.set()


def test_events_reach_a_segment_while_the_service_is_quiet(tmp_path: Path) -> None:
    events, url = tmp_path / "events", f"sqlite:///{tmp_path / 'lnmt.db'}"
    writer = Watched(events)
    writer.append(EVENT)
    compactor = Compactor(events, url, writer, interval_s=0.01)
    compactor.start()
    assert writer.twice.wait(timeout=60)
    compactor.stop()
    assert spool_files(events, "events") == []
    assert len(segment_files(events, "events")) == 1
    assert list(read_events(events)) == [EVENT]
    assert "lnmt-compactor" not in {thread.name for thread in threading.enumerate()}


def test_a_failure_is_logged_once_and_so_is_its_end(tmp_path: Path, index: EventIndex, stream: io.StringIO) -> None:
    compactor = Compactor(tmp_path, "sqlite:///unused")
    write(tmp_path, "a")
    directory_of(tmp_path).write_text("a file where the segments should be")
    for _ in range(3):
        compactor.run_pass(index)
    assert logged(stream) == ["events cannot be compacted; they are kept and read where they are"]
    directory_of(tmp_path).unlink()
    for _ in range(2):
        compactor.run_pass(index)
    assert logged(stream)[1:] == ["events are compacted again"]
    assert len(segment_files(tmp_path, "events")) == 1


def test_damaged_lines_are_told(tmp_path: Path, index: EventIndex, stream: io.StringIO) -> None:
    write(tmp_path, "a")
    [path] = spool_files(tmp_path, "events")
    path.write_bytes(path.read_bytes().replace(b"positive", b"Positive"))
    compactor = Compactor(tmp_path, "sqlite:///unused")
    compactor.run_pass(index)
    compactor.run_pass(index)
    assert logged(stream) == ["damaged lines in the spool; their files are kept"]


def test_a_database_that_does_not_exist_is_told(tmp_path: Path, stream: io.StringIO) -> None:
    compactor = Compactor(tmp_path, "mysql://somewhere", interval_s=0.0)
    compactor.start()
    compactor.stop(timeout_s=60)
    assert logged(stream) == ["events cannot be compacted; they are kept and read where they are"]
