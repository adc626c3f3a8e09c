"""Checksummed lines in append-only files: what a killed process had appended is there, whole or skipped.

A line is `<crc32 of the rest, 8 hex digits> <JSON>`. A record opens with a line break as well as
ending with one, so that a record torn by a kill spoils no other, whoever appends next.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lnmt.errors import Transient

SUFFIX = ".spool"


def pack(value: dict[str, Any]) -> bytes:
    """One record. JSON stays ASCII, so that any text, lone surrogates too, is one line."""
    payload = json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    return b"\n%08x %b\n" % (zlib.crc32(payload), payload)


def unpack(line: bytes) -> dict[str, Any] | None:
    """The value of one line; None where it is torn or altered."""
    payload = line[9:]
    try:
        if int(line[:8], 16) != zlib.crc32(payload):
            return None
        value = json.loads(payload)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def append(handle: int, records: Iterable[bytes], where: Path) -> int:
    """Append all `records` with one write; returns its bytes.

    Raises Transient where the disk did not take all of it: then nothing may be acknowledged.
    """
    data = b"".join(records)
    try:
        written = os.write(handle, data)
    except OSError as error:
        raise Transient(f"the spool cannot be written: {error.strerror}", where=where, fix="free the disk") from error
    if written != len(data):
        raise Transient(
            "the spool took a part of a record", where=where, value=written, allowed=len(data), fix="free the disk"
        )
    return written


class Spool:
    """Appends to files of its own below `directory`: one writer a file, a new file after `max_bytes`.

    The name `<kind>-<start in ms>-<process>-<random>.spool` tells which times a file can hold.
    """

    def __init__(self, directory: Path, kind: str, *, max_bytes: int) -> None:
        self._directory = directory
        self._kind = kind
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._handle = -1
        self._path = directory
        self._size = 0
        self._process = 0

    def append(self, values: Iterable[dict[str, Any]]) -> None:
        """Append the values together; they survive the death of the process from here on."""
        records = [pack(value) for value in values]
        with self._lock:
            if self._process != os.getpid() or self._size >= self._max_bytes:
                self._open()
            self._size += append(self._handle, records, self._path)

    def close(self) -> None:
        """Close the file; a later append opens a new one."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        """A file of this process: after a fork, parent and child do not share one."""
        self._close()
        name = f"{self._kind}-{int(time.time() * 1000):013d}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        path = self._directory / name
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise Transient(
                f"the spool cannot be opened: {error.strerror}", where=path, fix="make the directory writable"
            ) from error
        self._path, self._size, self._process = path, 0, os.getpid()

    def _close(self) -> None:
        if self._process == os.getpid():
            os.close(self._handle)
        self._process = 0


def spool_files(directory: Path, kind: str) -> list[Path]:
    """The files of one kind, oldest first by their start."""
    return sorted(directory.glob(f"{kind}-*{SUFFIX}"))


def started(path: Path) -> float:
    """Unix seconds at which a spool file was opened."""
    return int(path.name.rsplit("-", 3)[1]) / 1000


def lines(path: Path) -> Iterator[bytes]:
    """The non-empty lines of a file, without their breaks; what is still being written comes too, perhaps torn."""
    with path.open("rb") as file:
        for line in file:
            if stripped := line.rstrip(b"\n"):
                yield stripped
