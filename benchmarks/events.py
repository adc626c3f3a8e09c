"""What a prediction event costs: `python -m benchmarks.events [--out reports/bench-events.json]`.

µs of processor time of one append of one event, in turns: the writer of the service; the same record by `json`; a
writer that does nothing, which is the cost of the loop. The parts of an append are measured on their own. Then events
per second of processor time of compaction (spool → segments, with an index in SQLite) and of reading, and ms of it
to find one event of all by its id. The share is that of two cores at 1,000 requests a second; it counts making the
event, its append and its compaction.
Prints a table, writes JSON, and exits 1 where the goal is missed: at most 2 % of throughput, 25 µs an append.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lnmt.files import write_json
from lnmt.monitoring import spool
from lnmt.monitoring.compaction import compact
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.events import EventWriter, PredictionEvent, find_event, new_id, pack_event, read_events

MAX_APPEND_US = 25.0
MAX_SHARE = 0.02
REQUESTS_S, CORES = 1000, 2
LOOKUPS = 200
WORDS = (
    *("the", "plot", "was", "slow", "and", "music", "sounded", "rather", "dull"),
    *("yet", "nobody", "left", "before", "its", "last", "scene"),
)


class Nothing:
    """Keeps nothing."""

    def append(self, *events: PredictionEvent) -> None:
        """Return."""

    def close(self) -> None:
        """Return."""


class ByJson:
    """The record as the standard library writes it: names, checksum, one write."""

    def __init__(self, directory: Path) -> None:
        self._spool = spool.Spool(directory, "json", max_bytes=16 * 2**20, max_age_s=30.0)

    def append(self, *events: PredictionEvent) -> None:
        """Keep them."""
        dump = json.dumps
        self._spool.append([dump(vars(event), separators=(",", ":"), allow_nan=False).encode() for event in events])

    def close(self) -> None:
        """Close the file."""
        self._spool.close()


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000, help="of one round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("reports/bench-events.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lnmt-bench-") as directory:
        report = measure(Path(directory), options.events, options.rounds)
    write_json(options.out, report)
    show(report)
    return 0 if report["append_us"]["ours"]["median"] <= MAX_APPEND_US and report["share"] <= MAX_SHARE else 1


def measure(work: Path, number: int, rounds: int) -> dict[str, Any]:
    """The report."""
    answers = draw(number)
    events = [make_event(one) for one in answers]
    writers: dict[str, Callable[[Path], Any]] = {"nothing": lambda _: Nothing(), "json": ByJson, "ours": EventWriter}
    appends: dict[str, list[float]] = {name: [] for name in writers}
    for place in range(rounds):
        for name in random.Random(place).sample(sorted(writers), len(writers)):
            appends[name].append(time_appends(writers[name](work / name / str(place)), events))
    parts = {name: [each(part, events) for _ in range(rounds)] for name, part in make_parts(work, events[0]).items()}
    parts["make the event"] = [each(make_event, answers) for _ in range(rounds)]
    store = fill(work / "store", answers, rounds)
    cost_us = sum(statistics.median(found) for found in (appends["ours"], parts["make the event"]))
    cost_us += 1e6 / store["compaction"]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "events": number,
        "rounds": rounds,
        "line_bytes": len(spool.pack(pack_event(events[0]))),
        "append_us": {name: spread(found) for name, found in appends.items()},
        "parts_us": {name: spread(found) for name, found in parts.items()},
        **store,
        "cost_us": round(cost_us, 2),
        "share": round(cost_us * REQUESTS_S / (CORES * 1e6), 5),
    }


@dataclass(frozen=True)
class Drawn:
    """What differs from event to event."""

    scores: dict[str, float]
    pooled: list[float]
    latency_ms: float
    text: str


def draw(number: int) -> list[Drawn]:
    """Answers to texts of 17 words, three labels each."""
    source = random.Random(0)
    found = []
    for _ in range(number):
        first, second = sorted((source.random(), source.random()))
        shares = (first, second - first, 1 - second)
        scores = dict(zip(("negative", "neutral", "positive"), (round(share, 6) for share in shares), strict=True))
        pooled = [round(source.gauss(0, 1), 6) for _ in range(8)]
        text = " ".join(source.choices(WORDS, k=17))
        found.append(Drawn(scores, pooled, round(source.uniform(2, 90), 3), text))
    return found


def make_event(drawn: Drawn) -> PredictionEvent:
    """An event as the service makes it, with a text that is kept."""
    return PredictionEvent(
        id=new_id(),
        time=time.time(),
        model="sentiment",
        generation=7,
        arm="champion",
        bundle="sha256:" + "b" * 64,
        unit="sha256:" + "a" * 64,
        cached=False,
        batch_rows=32,
        row=5,
        tokens=23,
        padded_tokens=24,
        characters=len(drawn.text),
        label="positive",
        scores=drawn.scores,
        pooled=drawn.pooled,
        latency_ms=drawn.latency_ms,
        error=None,
        text=drawn.text,
    )


def make_parts(work: Path, event: PredictionEvent) -> dict[str, Callable[[PredictionEvent], object]]:
    """What an append is made of."""
    record = spool.pack(pack_event(event))
    payload = record[10:-1]
    work.mkdir(exist_ok=True)
    handle = os.open(work / "parts", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return {
        "fields and JSON": pack_event,
        "the same by json": lambda event: json.dumps(vars(event), separators=(",", ":"), allow_nan=False).encode(),
        "a new id": lambda event: new_id(),
        "JSON of names": lambda event: orjson.dumps(vars(event)),
        "JSON of positions": lambda event: orjson.dumps([*vars(event).values()]),
        "checksum": lambda event: zlib.crc32(payload),
        "record with checksum": lambda event: spool.pack(payload),
        "write": lambda event: os.write(handle, record),
    }


def time_appends(writer: Any, events: list[PredictionEvent]) -> float:
    """µs of one append."""
    taken = each(writer.append, events)
    writer.close()
    return taken


def each(work: Callable[[Any], object], things: Sequence[Any]) -> float:
    """µs of one call, over all things."""
    start = time.process_time()
    for thing in things:
        work(thing)
    return (time.process_time() - start) / len(things) * 1e6


def fill(directory: Path, answers: list[Drawn], rounds: int) -> dict[str, Any]:
    """Write, compact and read a file of events a round; events per second of each, ms of a look-up."""
    import pyarrow.json
    import pyarrow.parquet  # noqa: F401  # once a process

    number = len(answers)
    compacting = 0.0
    kept: list[str] = []
    with EventIndex(f"sqlite:///{directory / 'lnmt.db'}") as index:
        for _ in range(rounds):
            writer = EventWriter(directory)
            events = [make_event(one) for one in answers]
            for event in events:
                writer.append(event)
            writer.close()
            kept += [event.id for event in random.Random(0).sample(events, LOOKUPS // rounds + 1)]
            if not compacting:
                from_spool = read_rate(directory)
            with timed() as took:
                compact(directory, index)
            compacting += took[0]
        with timed() as took:
            found = [find_event(directory, one, index=index) for one in kept]
        assert None not in found, "an event was not found"
        with timed() as without:
            assert all(find_event(directory, one) is not None for one in kept[:20])
        size = sum(path.stat().st_size for path in (directory / "segments").iterdir())
    return {
        "compaction": round(number * rounds / compacting),
        "reading": {"spool": from_spool, "segments": read_rate(directory)},
        "segment_bytes": round(size / (number * rounds), 1),
        "find_ms": {"index": round(took[0] / len(kept) * 1e3, 2), "files": round(without[0] / 20 * 1e3, 2)},
    }


def read_rate(directory: Path) -> int:
    """Events per second of `read_events`."""
    with timed() as took:
        number = sum(1 for _ in read_events(directory))
    return round(number / took[0])


@contextmanager
def timed() -> Iterator[list[float]]:
    """Seconds of processor time, once it is left."""
    took = [0.0]
    start = time.process_time()
    yield took
    took[0] = time.process_time() - start


def spread(found: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": round(statistics.median(found), 2), "min": round(min(found), 2), "max": round(max(found), 2)}


def show(report: dict[str, Any]) -> None:
    """The report as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, 100))
    table = Table(title=f"{report['machine']}; {report['line_bytes']} bytes an event", title_justify="left")
    for heading in ("", "µs of CPU, median", "min … max"):
        table.add_column(heading, justify="right" if heading else "left")
    names = {"ours": "append", "json": "append, by json", "nothing": "append that does nothing"}
    found = {names[name]: one for name, one in report["append_us"].items()} | report["parts_us"]
    for name, one in found.items():
        table.add_row(name, f"{one['median']:.2f}", f"{one['min']:.2f} … {one['max']:.2f}")
    console.print(table)
    reading, find = report["reading"], report["find_ms"]
    console.print(
        f"events/s: compaction {report['compaction']:,}, reading {reading['spool']:,} from the spool, "
        f"{reading['segments']:,} from segments ({report['segment_bytes']} bytes each)"
    )
    total = report["events"] * report["rounds"]
    console.print(f"one of {total:,} by its id: {find['index']} ms with the index, {find['files']} ms without")
    reached = report["share"] <= MAX_SHARE and report["append_us"]["ours"]["median"] <= MAX_APPEND_US
    console.print(
        f"an event costs {report['cost_us']} µs in all: {report['share']:.2%} of {CORES} cores at {REQUESTS_S:,} "
        f"requests/s; goal {MAX_SHARE:.0%} and {MAX_APPEND_US:.0f} µs an append: {'reached' if reached else 'missed'}"
    )


if __name__ == "__main__":
    sys.exit(main())
