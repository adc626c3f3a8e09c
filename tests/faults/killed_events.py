"""kill -9 of all who write events and labels and of who compacts them, at random moments while they do."""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lnmt.monitoring import compaction
from lnmt.monitoring.compaction import compact
from lnmt.monitoring.event_files import ReadReport
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.events import EventWriter, PredictionEvent, find_event, new_id, read_events
from lnmt.monitoring.feedback import append_feedback, read_feedback
from lnmt.monitoring.segments import directory_of, segment_files, sources_of
from lnmt.monitoring.spool import spool_files
from tests.faults.kit import Child, Outcome, patched
from tests.monitoring.event_kit import EVENT

WRITERS = 2
WINDOW_S = 0.2  # the kill comes within so long
PAUSE_S = 0.001  # between the appends of a writer
FILE_BYTES = 8_000  # about ten events
MERGE = 4
LOOKUPS = 5  # events that are looked for by their id after each kill


@dataclass
class Found:
    """What a fresh process reads."""

    events: list[str]  # ids
    labels: dict[str, str]
    corrupt: int
    duplicates: int
    looked_up: int  # of those asked for
    cut: str  # what whoever compacted was doing


@dataclass
class Promised:
    """What was acknowledged."""

    events: set[str] = field(default_factory=set)
    labels: dict[str, str] = field(default_factory=dict)


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` times all are killed; after each a fresh process reads every acknowledged event once, and every label."""
    import pyarrow.json
    import pyarrow.parquet  # noqa: F401  # before the forks: children have it at once

    draw = random.Random(seed)
    outcome = Outcome("kill -9 of event writers and the compactor", count)
    promised = Promised()
    cut: Counter[str] = Counter()
    work, url = directory / "events", f"sqlite:///{directory / 'lnmt.db'}"
    for kill in range(count):
        children = [Child(partial(_write_for_ever, work)) for _ in range(WRITERS)]
        children.append(Child(partial(_compact_for_ever, work, url)))
        for child in children:
            child.line()  # it has begun
        time.sleep(draw.uniform(0, WINDOW_S))
        draw.shuffle(children)
        for child in children:
            child.kill()
        for child in children:
            status, lines = child.end()
            if status != -signal.SIGKILL:
                outcome.failures.append(f"kill {kill}: a child had ended with {status} before")
            _keep(promised, lines)
        asked = draw.sample(sorted(promised.events), min(LOOKUPS, len(promised.events)))
        found = _ask(work, url, asked)
        cut[found.cut if found else "nothing was read"] += 1
        outcome.failures += [f"kill {kill}: {wrong}" for wrong in _wrong(promised, found, asked, kill + 1)]
        tick()
    _in_child(partial(_compact_all, work, url))
    found = _ask(work, url, [])
    outcome.failures += [f"in the end: {wrong}" for wrong in _wrong(promised, found, [], count)]
    if found and (found.duplicates or found.cut != "between passes"):
        outcome.failures.append(f"in the end: {found.duplicates} events are kept twice, cut {found.cut}")
    if spool_files(work, "events"):
        outcome.failures.append("in the end: spool files were left over")
    outcome.figures = {
        "events acknowledged": len(promised.events),
        "labels acknowledged": len(promised.labels),
        "lost": len(promised.events - set(found.events if found else [])),
        "twice": len(found.events) - len(set(found.events)) if found else -1,
        "segments": len(segment_files(work, "events")),
        **{f"cut {where}": number for where, number in sorted(cut.items())},
    }
    return outcome


def _wrong(promised: Promised, found: Found | None, asked: list[str], kills: int) -> list[str]:
    """How what was found differs from what was promised."""
    if found is None:
        return ["whoever reads ended with an error"]
    events = Counter(found.events)
    wrong = {
        "acknowledged events lost": len(promised.events - events.keys()),
        "events twice": sum(number > 1 for number in events.values()),
        # each writer may have written one that it could not acknowledge
        "events that nobody wrote": max(0, len(events.keys() - promised.events) - kills * WRITERS),
        "acknowledged labels lost": sum(found.labels.get(one) != label for one, label in promised.labels.items()),
        "damaged lines": found.corrupt,
        "events not found by their id": len(asked) - found.looked_up,
    }
    return [f"{number} {what}" for what, number in wrong.items() if number]


def _keep(promised: Promised, lines: list[str]) -> None:
    for line in lines:
        what, _, rest = line.partition(" ")
        if what == "event":
            promised.events.add(rest)
        elif what == "label":
            prediction_id, label = rest.split()
            promised.labels[prediction_id] = label


def _write_for_ever(directory: Path, tell: Callable[[str], None]) -> None:
    writer = EventWriter(directory, max_bytes=FILE_BYTES)
    tell("ready")
    for number in itertools.count():
        event = _event()
        writer.append(event)
        tell(f"event {event.id}")
        if number % 10 == 0:
            append_feedback(directory, event.id, "negative")
            append_feedback(directory, event.id, "positive")
            tell(f"label {event.id} positive")
        time.sleep(PAUSE_S)


def _compact_for_ever(directory: Path, url: str, tell: Callable[[str], None]) -> None:
    with patched(compaction, MERGE=MERGE), EventIndex(url) as index:
        tell("ready")
        while True:
            compact(directory, index)


def _compact_all(directory: Path, url: str, tell: Callable[[str], None]) -> None:
    with patched(compaction, MERGE=MERGE), EventIndex(url) as index:
        compact(directory, index)


def _ask(directory: Path, url: str, asked: list[str]) -> Found | None:
    lines = _in_child(partial(_tell_found, directory, url, asked))
    return Found(**json.loads(lines[-1])) if lines else None


def _in_child(work: Callable[[Callable[[str], None]], None]) -> list[str]:
    status, lines = Child(work).end()
    return lines if status == 0 else []


def _tell_found(directory: Path, url: str, asked: list[str], tell: Callable[[str], None]) -> None:
    report = ReadReport()
    with EventIndex(url) as index:
        cut = _where(directory, index)
        events = [event.id for event in read_events(directory, report=report)]
        looked_up = sum(find_event(directory, one, index=index) is not None for one in asked)
    labels = {one: feedback.label for one, feedback in read_feedback(directory).items()}
    found = Found(events, labels, report.corrupt, report.duplicates, looked_up, cut)
    tell(json.dumps(vars(found)))


def _where(directory: Path, index: EventIndex) -> str:
    """What the killed compactor was doing, by what it left."""
    place = directory_of(directory)
    if not (place / ".unfinished").exists():
        return "between passes"
    if any(path.name != ".unfinished" for path in place.glob(".*")):
        return "while writing a segment"
    known = index.segments()
    present = segment_files(directory, "events")
    if any(path.name not in known for path in present):
        return "between segment and index"
    sources = {name for path in present for name in sources_of(path)}
    if any(path.name in sources for path in [*present, *spool_files(directory, "events")]):
        return "between index and removal"
    return "elsewhere in a pass"


def _event() -> PredictionEvent:
    return replace(EVENT, id=new_id(), time=time.time())
