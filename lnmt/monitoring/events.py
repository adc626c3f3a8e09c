"""Prediction events: one checksummed line per answered row, on disk before the reply leaves."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lnmt.monitoring import spool
from lnmt.types import Arm

EVENTS, FEEDBACK = "events", "feedback"

# Clocks are set back at times; an id is looked for in files that far beside its own time.
SLACK_S = 3600.0


@dataclass(frozen=True)
class PredictionEvent:
    """One row's answer, as it was served."""

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


@dataclass(frozen=True)
class Feedback:
    """The true label of a prediction, as somebody told it."""

    id: str  # of the prediction
    label: str
    time: float  # unix seconds


@dataclass
class ReadReport:
    """What a reader left out."""

    corrupt: int = 0  # lines torn by a kill, altered, or of another LNMT version
    duplicates: int = 0  # events whose id had come before


def new_id() -> str:
    """A prediction id: a UUID of version 7 (RFC 9562), whose first 48 bits are its unix time in ms."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return str(uuid.UUID(int=value))


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
    power. Safe for several threads; a forked child gets a file of its own.
    """

    def __init__(self, directory: Path, *, max_bytes: int = 16 * 2**20) -> None:
        self._spool = spool.Spool(directory, EVENTS, max_bytes=max_bytes)

    def append(self, *events: PredictionEvent) -> None:
        """Keep the events of one reply, with a single write.

        Raises Transient where the disk refuses: then the reply must not be sent. ValueError on NaN.
        """
        self._spool.append(vars(event) for event in events)

    def close(self) -> None:
        """Close the file."""
        self._spool.close()


def read_events(
    directory: Path, *, since: float | None = None, report: ReadReport | None = None
) -> Iterator[PredictionEvent]:
    """Every event once, those before `since` (unix seconds) left out.

    In the order of each process's appends, process after process: sort by time where that matters.
    Torn and corrupt lines are skipped and counted in `report`. Memory grows with the number of ids.
    """
    report = ReadReport() if report is None else report
    seen: set[str] = set()
    for path in spool.spool_files(directory, EVENTS):
        if since is not None and path.stat().st_mtime < since:
            continue
        for line in spool.lines(path):
            event = _event(line)
            if event is None:
                report.corrupt += 1
            elif event.id in seen:
                report.duplicates += 1
            else:
                seen.add(event.id)
                if since is None or event.time >= since:
                    yield event


def find_event(directory: Path, prediction_id: str) -> PredictionEvent | None:
    """The event of one id, None where there is none.

    Only files that were open at the id's own time are read; all of them for an id of another kind.
    """
    made = id_time(prediction_id)
    needle = prediction_id.encode()
    for path in reversed(spool.spool_files(directory, EVENTS)):
        if made is not None and not spool.started(path) - SLACK_S <= made <= path.stat().st_mtime + SLACK_S:
            continue
        for line in spool.lines(path):
            if needle in line and (event := _event(line)) is not None and event.id == prediction_id:
                return event
    return None


def append_feedback(directory: Path, prediction_id: str, label: str, *, at: float | None = None) -> Feedback:
    """Keep the true label of a prediction; saying it again changes nothing, another label corrects it.

    `at` is in unix seconds, default now. All processes share one file. Raises Transient where the disk refuses.
    """
    feedback = Feedback(prediction_id, label, time.time() if at is None else at)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{FEEDBACK}{spool.SUFFIX}"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        spool.append(handle, [spool.pack(vars(feedback))], path)
    finally:
        os.close(handle)
    return feedback


def read_feedback(directory: Path, *, report: ReadReport | None = None) -> dict[str, Feedback]:
    """Prediction id → its latest label, with the time at which that label was first told."""
    report = ReadReport() if report is None else report
    latest: dict[str, Feedback] = {}
    path = directory / f"{FEEDBACK}{spool.SUFFIX}"
    for line in spool.lines(path) if path.exists() else ():
        value = spool.unpack(line)
        if value is None or value.keys() != _FEEDBACK_FIELDS:
            report.corrupt += 1
            continue
        feedback = Feedback(**value)
        known = latest.get(feedback.id)
        if known is not None and known.label == feedback.label:
            report.duplicates += 1
        elif known is None or feedback.time >= known.time:
            latest[feedback.id] = feedback
    return latest


_EVENT_FIELDS = {field.name for field in fields(PredictionEvent)}
_FEEDBACK_FIELDS = {field.name for field in fields(Feedback)}


def _event(line: bytes) -> PredictionEvent | None:
    value: dict[str, Any] | None = spool.unpack(line)
    return None if value is None or value.keys() != _EVENT_FIELDS else PredictionEvent(**value)
