"""Prediction events: one checksummed line per answered row, on disk before the reply leaves.

Lines are moved into Parquet segments in the background (lnmt/monitoring/compaction.py). Every reader
here sees both, and each event once, wherever it is and whatever was killed on its way.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from lnmt.errors import LnmtError
from lnmt.monitoring import segments, spool
from lnmt.monitoring.event_files import ReadReport, is_spool, open_files, span
from lnmt.types import Arm

if TYPE_CHECKING:
    from lnmt.monitoring.event_index import EventIndex

EVENTS = "events"

# Clocks are set back at times; an id is looked for in files that far beside its own time.
SLACK_S = 3600.0

MAX_SPOOL_BYTES = 16 * 2**20
MAX_SPOOL_AGE_S = 30.0  # with the compactor's interval: an event is in a segment within a minute


@dataclass(frozen=True)
class PredictionEvent:
    """One row's answer: what the model said of it and, where the reply told something else, that too."""

    id: str
    time: float  # unix seconds
    model: str  # params.yaml: name
    generation: int  # of the deployment
    arm: Arm
    bundle: str  # digest
    unit: str | None  # sha256 of the stickiness key; null where the request had none
    cached: bool
    batch_rows: int
    row: int  # place in its batch
    tokens: int
    padded_tokens: int
    characters: int
    label: str | None  # null where `error` is set
    scores: dict[str, float]
    pooled: list[float]  # small projection of the pooled state
    latency_ms: float
    error: str | None
    text: str | None  # only under LNMT_STORE_TEXT
    given_label: str | None = None  # that the reply told; null where it is `label`, or none was told
    withheld: str | None = None  # why the reply told no label
    # None by default and not False, since older segments lack the column, and what they lack is read as null.
    pinned: bool | None = None  # the caller chose the bundle, so the arm was not drawn; null where nobody could choose


class _Entropy:
    """Random bytes of the kernel, asked for many at a time.

    Each call of os.urandom lets go of the interpreter's lock, and under load waits to get it back. A forked child
    asks anew: no two processes have the same bytes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes, self._at, self._process = b"", 0, 0

    def take(self, count: int) -> bytes:
        with self._lock:
            if self._at + count > len(self._bytes) or self._process != os.getpid():
                self._bytes, self._at, self._process = os.urandom(4096), 0, os.getpid()
            self._at += count
            return self._bytes[self._at - count : self._at]


_entropy = _Entropy()


def new_id() -> str:
    """A prediction id: a UUID of version 7 (RFC 9562), whose first 48 bits are its unix time in ms."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(_entropy.take(10), "big")
    text = f"{value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_time(prediction_id: str) -> float | None:
    """Unix seconds at which `new_id` made an id; None for an id that it did not make."""
    try:
        parsed = uuid.UUID(prediction_id)
    except ValueError:
        return None
    return (parsed.int >> 80) / 1000 if parsed.version == 7 and str(parsed) == prediction_id else None


class EventWriter:
    """Appends prediction events to a spool file of this process.

    `append` returns when the operating system holds them: they outlive the process, not the machine's
    power. Safe for several threads; a forked child gets a file of its own. A file is closed after
    `max_bytes` or `max_age_s`, at the next append or `rotate`; then it can be compacted.
    """

    def __init__(
        self, directory: Path, *, max_bytes: int = MAX_SPOOL_BYTES, max_age_s: float = MAX_SPOOL_AGE_S
    ) -> None:
        self._spool = spool.Spool(directory, EVENTS, max_bytes=max_bytes, max_age_s=max_age_s)

    def append(self, *events: PredictionEvent) -> int:
        """Keep the events of one reply or several, with a single write of so many bytes.

        Raises Transient where the disk refuses: then no reply must be sent. ValueError on NaN.
        """
        return self._spool.append([pack_event(event) for event in events])

    def rotate(self) -> None:
        """Close the file where it is old; called now and then, it lets a quiet service's events be compacted."""
        self._spool.rotate()

    def close(self) -> None:
        """Close the file."""
        self._spool.close()


def read_events(
    directory: Path, *, since: float | None = None, report: ReadReport | None = None
) -> Iterator[PredictionEvent]:
    """Every event once, those before `since` (unix seconds) left out; sort them by time where that matters.

    Torn and corrupt lines are skipped and counted in `report`. Where a segment is damaged, all that can be
    read comes first, then an LnmtError that names it. Memory grows with the number of ids.
    """
    report = ReadReport() if report is None else report
    seen: set[str] = set()
    damage: LnmtError | None = None
    for path, file in open_files(directory, EVENTS):
        if since is not None and span(path, file)[1] < since:
            continue
        try:
            for event in _events_in(path, file, report):
                if event.id in seen:
                    report.duplicates += 1
                    continue
                seen.add(event.id)
                if since is None or event.time >= since:
                    yield event
        except LnmtError as error:
            damage = error
    if damage is not None:
        raise damage


def find_event(directory: Path, prediction_id: str, *, index: EventIndex | None = None) -> PredictionEvent | None:
    """The event of one id, None where there is none.

    `index` leads straight to it once it is in a segment. What the index does not know is looked for in the files:
    those of the id's own time; all of them for an id of another kind. Raises LnmtError where the event was not
    found and a segment that may hold it is damaged.
    """
    if index is not None and (event := _find_by_index(directory, prediction_id, index)) is not None:
        return event
    made = id_time(prediction_id)
    damage: LnmtError | None = None
    for path, file in open_files(directory, EVENTS):
        start, end = span(path, file)
        if made is not None and not start - SLACK_S <= made <= end + SLACK_S:
            continue
        try:
            event = _find_in(path, file, prediction_id)
        except LnmtError as error:
            damage = error
            continue
        if event is not None:
            return event
    if damage is not None:
        raise damage
    return None


def pack_event(event: PredictionEvent) -> bytes:
    """The payload of a line: a tag for the names of its fields, then JSON. ValueError on NaN."""
    values = _flat(event)
    # orjson would write null for NaN; what it cannot write at all, a lone surrogate, the slower one can.
    if math.isfinite(sum(values["scores"], event.time + event.latency_ms) + sum(event.pooled)):
        try:
            return _TAG + orjson.dumps(values)
        except TypeError:
            pass
    return json.dumps(vars(event), separators=(",", ":"), allow_nan=False).encode("ascii")


def unpack_event(payload: bytes) -> PredictionEvent | None:
    """The event of a line, also of one without a tag or with another one; None for a line of another kind.

    Fields that a newer LNMT writes are left out.
    """
    try:
        text = payload[payload.index(b"{") :]
        try:
            value: dict[str, Any] = orjson.loads(text)
        except ValueError:  # a lone surrogate
            value = json.loads(text)
        if "labels" in value:
            value["scores"] = dict(zip(value.pop("labels"), value["scores"], strict=True))
        return PredictionEvent(**{name: found for name, found in value.items() if name in _FIELDS})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def event_row(payload: bytes) -> bytes | None:
    """The event of a line as one JSON object of UTF-8, for a segment; None for a line of another kind.

    Lone surrogates, which UTF-8 does not have, become question marks.
    """
    if payload.startswith(_TAG):
        return payload[len(_TAG) :]
    event = unpack_event(payload)
    return None if event is None else json.dumps(_flat(event), ensure_ascii=False).encode("utf-8", "replace")


_FIELDS = {field.name: None for field in fields(PredictionEvent)}  # in their order
_TAG = b"%08x " % zlib.crc32(",".join(_FIELDS).encode())


def _flat(event: PredictionEvent) -> dict[str, Any]:
    """Its fields, the scores as two lists: columns have no dictionaries."""
    return {**vars(event), "labels": [*event.scores], "scores": [*event.scores.values()]}


def _events_in(path: Path, file: BinaryIO, report: ReadReport) -> Iterator[PredictionEvent]:
    if is_spool(path):
        for line in spool.lines(file):
            payload = spool.unpack(line)
            event = None if payload is None else unpack_event(payload)
            if event is None:
                report.corrupt += 1
            else:
                yield event
        return
    from lnmt.monitoring.columns import events_of

    for table in segments.tables(path, file):
        yield from events_of(table, path)


def _find_in(path: Path, file: BinaryIO, prediction_id: str) -> PredictionEvent | None:
    if not is_spool(path):
        return _find_row(path, file, prediction_id)
    needle = prediction_id.encode()
    for line in spool.lines(file):
        if needle in line and (payload := spool.unpack(line)) is not None:
            event = unpack_event(payload)
            if event is not None and event.id == prediction_id:
                return event
    return None


def _find_row(path: Path, file: BinaryIO, prediction_id: str, group: int | None = None) -> PredictionEvent | None:
    from lnmt.monitoring.columns import events_of

    for table in segments.find(path, file, prediction_id, group):
        return next(events_of(table, path))
    return None


def _find_by_index(directory: Path, prediction_id: str, index: EventIndex) -> PredictionEvent | None:
    """The event where the index says; None where it says nothing that holds, or is away: the files know more."""
    try:
        for name, group in index.find(prediction_id):
            path = segments.directory_of(directory) / name
            if not path.exists():  # of another machine, or moved on a moment ago
                continue
            with path.open("rb") as file:
                event = _find_row(path, file, prediction_id, group)
            if event is not None:
                return event
    except (LnmtError, FileNotFoundError):
        return None
    return None
