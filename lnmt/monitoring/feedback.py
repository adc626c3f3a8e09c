"""Feedback: the true label of a prediction, told once, again, or corrected; it joins its event by id."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lnmt.monitoring import segments, spool
from lnmt.monitoring.event_files import ReadReport, is_spool, open_files

FEEDBACK = "feedback"


@dataclass(frozen=True)
class Feedback:
    """The true label of a prediction, as somebody told it."""

    id: str  # of the prediction
    label: str
    time: float  # unix seconds


@dataclass(frozen=True)
class Told:
    """A label of a prediction, and when it was told first and last, in unix seconds."""

    id: str
    label: str
    first: float
    last: float


def append_feedback(directory: Path, prediction_id: str, label: str, *, at: float | None = None) -> Feedback:
    """Keep the true label of a prediction; saying it again changes nothing, another label corrects it.

    `at` is in unix seconds, default now. All processes share one file. Raises Transient where the disk refuses.
    """
    feedback = Feedback(prediction_id, label, time.time() if at is None else at)
    payload = json.dumps(vars(feedback), separators=(",", ":"), allow_nan=False).encode("ascii")
    spool.append_shared(shared_file(directory), payload)
    return feedback


def read_feedback(directory: Path, *, report: ReadReport | None = None) -> dict[str, Feedback]:
    """Prediction id → its latest label, with the time at which that label was first told.

    Where a segment is damaged, LnmtError names it: a correction may stand in it.
    """
    report = ReadReport() if report is None else report
    return latest(told for path, file in _open(directory) for told in _told_in(path, file, report))


def find_feedback(directory: Path, prediction_id: str) -> Feedback | None:
    """The latest label of one prediction; None where none was told. Raises LnmtError as `read_feedback` does."""
    found = (told for path, file in _open(directory) for told in _find_in(path, file, prediction_id))
    return latest(found).get(prediction_id)


def latest(found: Iterable[Told]) -> dict[str, Feedback]:
    """The label that was told last, for each id: the same in whatever order, and however often, the parts come."""
    last: dict[str, Told] = {}
    for told in joined(found):
        known = last.get(told.id)
        if known is None or (told.last, told.label) > (known.last, known.label):
            last[told.id] = told
    return {told.id: Feedback(told.id, told.label, told.first) for told in last.values()}


def joined(found: Iterable[Told]) -> list[Told]:
    """One for each id and label, from the first time to the last."""
    known: dict[tuple[str, str], Told] = {}
    for told in found:
        other = known.get((told.id, told.label), told)
        first, last = min(told.first, other.first), max(told.last, other.last)
        known[told.id, told.label] = Told(told.id, told.label, first, last)
    return list(known.values())


def unpack_told(payload: bytes) -> Told | None:
    """What a line tells; None for a line of another kind."""
    try:
        feedback = Feedback(**json.loads(payload))
    except (ValueError, TypeError):
        return None
    return Told(feedback.id, feedback.label, feedback.time, feedback.time)


def told_row(payload: bytes) -> bytes | None:
    """What a line tells as one JSON object of UTF-8, for a segment; None for a line of another kind."""
    told = unpack_told(payload)
    return None if told is None else json.dumps(vars(told), ensure_ascii=False).encode("utf-8", "replace")


def shared_file(directory: Path) -> Path:
    """The file that all processes append to."""
    return directory / f"{FEEDBACK}{spool.SUFFIX}"


def _open(directory: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The shared file first: like all the others it is moved down the list."""
    path = shared_file(directory)
    with suppress(FileNotFoundError), path.open("rb") as file:
        yield path, file
    yield from open_files(directory, FEEDBACK)


def _told_in(path: Path, file: BinaryIO, report: ReadReport) -> Iterator[Told]:
    if not is_spool(path):
        from lnmt.monitoring.columns import told_of

        for table in segments.tables(path, file):
            yield from told_of(table, path)
        return
    for line in spool.lines(file):
        payload = spool.unpack(line)
        told = None if payload is None else unpack_told(payload)
        if told is None:
            report.corrupt += 1
        else:
            yield told


def _find_in(path: Path, file: BinaryIO, prediction_id: str) -> Iterator[Told]:
    if is_spool(path):
        yield from (told for told in _told_in(path, file, ReadReport()) if told.id == prediction_id)
        return
    from lnmt.monitoring.columns import told_of

    for table in segments.find(path, file, prediction_id):
        yield from told_of(table, path)
