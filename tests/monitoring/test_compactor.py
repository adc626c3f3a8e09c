from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from lnmt.monitoring.compaction_process import Order, Pass
from lnmt.monitoring.compactor import Compactor
from lnmt.monitoring.events import EventWriter, read_events
from lnmt.monitoring.segments import directory_of, segment_files
from lnmt.monitoring.spool import spool_files
from lnmt.observability.logging import configure
from tests.monitoring.event_kit import EVENT, write

SERVICE = """
import json, sys, time
from lnmt.monitoring.compaction_process import Order
from lnmt.monitoring.compactor import Compactor
compactor = Compactor(Order(**json.loads(sys.argv[1])))
compactor.run_pass()
print(compactor._process.pid, flush=True)
time.sleep(60)
"""


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


@pytest.fixture
def order(tmp_path: Path) -> Order:
    return Order(str(tmp_path / "events"), f"sqlite:///{tmp_path / 'lnmt.db'}")


@contextmanager
def started(compactor: Compactor) -> Iterator[None]:
    compactor.start()
    try:
        yield
    finally:
        compactor.stop(timeout_s=60)


def test_events_reach_a_segment_while_the_service_is_quiet(order: Order) -> None:
    events = Path(order.directory)
    writer = Watched(events)
    writer.append(EVENT)
    passes: list[Pass] = []
    with started(Compactor(order, writer, interval_s=0.01, observe=passes.append)):
        assert writer.twice.wait(timeout=60)
    assert spool_files(events, "events") == []
    [segment] = segment_files(events, "events")
    assert (passes[0].spool_bytes, passes[0].segment_bytes) == (0, segment.stat().st_size)
    assert list(read_events(events)) == [EVENT]
    assert "lnmt-compactor" not in {thread.name for thread in threading.enumerate()}
    assert compacting() == []


def test_nothing_runs_before_there_is_an_event(order: Order) -> None:
    compactor = Compactor(order)
    compactor.run_pass()
    assert compacting() == []
    assert not Path(order.directory).exists()


def test_of_two_services_one_compacts_and_the_other_takes_over(order: Order) -> None:
    write(Path(order.directory), "a")
    passes: list[Pass] = []
    second = Compactor(order, observe=passes.append)
    with started(Compactor(order, interval_s=0.01)):
        await_segments(order, 1)
        second.run_pass()
        assert passes == []
        assert len(compacting()) == 1
    second.run_pass()
    second.stop()
    assert len(passes) == 1


def test_a_killed_process_is_told_and_replaced(order: Order, stream: io.StringIO) -> None:
    write(Path(order.directory), "a")
    compactor = Compactor(order)
    compactor.run_pass()
    [process] = compacting()
    process.kill()
    process.wait()
    write(Path(order.directory), "b")
    for _ in range(2):
        compactor.run_pass()
    compactor.stop()
    assert len(segment_files(Path(order.directory), "events")) == 2
    told, over = logged(stream)
    assert told == "events cannot be compacted; they are kept and read where they are"
    assert over == "events are compacted again"
    assert compacting() == []


def test_the_process_ends_with_a_service_that_was_killed(order: Order) -> None:
    write(Path(order.directory), "a")
    command = [sys.executable, "-c", SERVICE, json.dumps(asdict(order))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        process = psutil.Process(int(service.stdout.readline()))
        service.kill()
    process.wait(timeout=30)


def test_a_failure_is_logged_once_and_so_is_its_end(order: Order, stream: io.StringIO) -> None:
    events = Path(order.directory)
    compactor = Compactor(order)
    write(events, "a")
    directory_of(events).write_text("a file where the segments should be")
    for _ in range(3):
        compactor.run_pass()
    assert logged(stream) == ["events cannot be compacted; they are kept and read where they are"]
    directory_of(events).unlink()
    for _ in range(2):
        compactor.run_pass()
    compactor.stop()
    assert logged(stream)[1:] == ["events are compacted again"]
    assert len(segment_files(events, "events")) == 1


def test_damaged_lines_are_told(order: Order, stream: io.StringIO) -> None:
    events = Path(order.directory)
    write(events, "a")
    [path] = spool_files(events, "events")
    path.write_bytes(path.read_bytes().replace(b"positive", b"Positive"))
    compactor = Compactor(order)
    compactor.run_pass()
    compactor.run_pass()
    compactor.stop()
    assert logged(stream) == ["damaged lines in the spool; their files are kept"]


def test_a_database_that_does_not_exist_is_told(tmp_path: Path, stream: io.StringIO) -> None:
    write(tmp_path, "a")
    compactor = Compactor(Order(str(tmp_path), "mysql://somewhere"))
    compactor.run_pass()
    compactor.stop()
    assert logged(stream) == ["events cannot be compacted; they are kept and read where they are"]


def test_an_address_with_a_password_is_on_no_command_line(order: Order) -> None:
    write(Path(order.directory), "a")
    compactor = Compactor(order)
    compactor.run_pass()
    [process] = compacting()
    assert order.url not in " ".join(process.cmdline())
    compactor.stop()


def compacting() -> list[psutil.Process]:
    """The processes of this one that compact."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "lnmt.monitoring.compaction_process" in child.cmdline()]


def await_segments(order: Order, number: int) -> None:
    ends = time.monotonic() + 60
    while len(segment_files(Path(order.directory), "events")) < number:
        assert time.monotonic() < ends
        time.sleep(0.01)
