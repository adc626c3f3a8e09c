"""Checksummed lines in append-only files: what a killed process had appended is there, whole or skipped.

A line is `<crc32 of the rest, 8 hex digits> <payload>`, and no payload holds a line break. A record opens
with a line break as well as ending with one, so that a record torn by a kill spoils no other, whoever
appends next. Whoever writes a file holds a lock on it (flock), which goes with the process: a file whose
lock is free will never be written again.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lnmt.errors import Transient

SUFFIX = ".spool"


def pack(payload: bytes) -> bytes:
    """One record."""
    return b"\n%08x %b\n" % (zlib.crc32(payload), payload)


def unpack(line: bytes) -> bytes | None:
    """The payload of one line; None where it is torn or altered."""
    payload = line[9:]
    try:
        return payload if int(line[:8], 16) == zlib.crc32(payload) else None
    except ValueError:
        return None


def write(handle: int, data: bytes, where: Path) -> int:
    """Append records with one write; returns their bytes.

    Raises Transient where the disk did not take all of it: then nothing may be acknowledged.
    """
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
    """Appends to files of its own below `directory`: one writer a file, a new file after `max_bytes` or `max_age_s`.

    The name `<kind>-<start in ms>-<process>-<random>.spool` tells which times a file can hold.
    """

    def __init__(self, directory: Path, kind: str, *, max_bytes: int, max_age_s: float) -> None:
        self._directory = directory
        self._kind = kind
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._handle = -1
        self._path = directory
        self._size = 0
        self._until = 0.0  # of the monotonic clock
        self._process = 0

    def append(self, payloads: Sequence[bytes]) -> int:
        """Append the payloads together, so many bytes; they survive the death of the process from here on."""
        data = b"".join([pack(payload) for payload in payloads])
        with self._lock:
            if self._process != os.getpid() or self._size >= self._max_bytes or time.monotonic() >= self._until:
                self._open()
            self._size += write(self._handle, data, self._path)
        return len(data)

    def rotate(self) -> None:
        """Close a file that is older than `max_age_s`: where nothing is appended, nobody else would."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._close()

    def close(self) -> None:
        """Close the file; a later append opens a new one."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        """A file of this process: after a fork, parent and child do not share one."""
        self._close()
        path = self._directory / new_name(self._kind)
        handle = -1
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Locked before it has its name: nobody ever finds it free.
            hidden = path.with_name(f".{path.name}")
            handle = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(path)
        except OSError as error:
            if handle != -1:
                os.close(handle)
            raise Transient(
                f"the spool cannot be opened: {error.strerror}", where=path, fix="make the directory writable"
            ) from error
        self._handle, self._path, self._size, self._process = handle, path, 0, os.getpid()
        self._until = time.monotonic() + self._max_age_s

    def _close(self) -> None:
        if self._process == os.getpid():
            fcntl.flock(self._handle, fcntl.LOCK_UN)  # children that were forked meanwhile share the lock
            os.close(self._handle)
        self._process = 0


def append_shared(path: Path, payload: bytes) -> None:
    """Append to a file that all processes share, and that `set_aside` may rename at any moment.

    Raises Transient where the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            if _is_at(handle, path):
                write(handle, pack(payload), path)
                return
        finally:
            os.close(handle)


def set_aside(path: Path, kind: str) -> None:
    """Give a shared file a name of its own once who is appending has ended: it will never be written again."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, path):
            path.rename(path.with_name(new_name(kind)))
    finally:
        os.close(handle)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Keep a file that nobody writes any more; False where somebody does, or where it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _locks(handle)
    finally:
        os.close(handle)


def new_name(kind: str) -> str:
    """The name of a file that is opened now by this process."""
    return f"{kind}-{int(time.time() * 1000):013d}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"


def spool_files(directory: Path, kind: str) -> list[Path]:
    """The files of one kind, oldest first by their start."""
    return sorted(directory.glob(f"{kind}-*{SUFFIX}"))


def started(path: Path) -> float:
    """Unix seconds at which a spool file was opened."""
    return int(path.name.rsplit("-", 3)[1]) / 1000


def lines(file: BinaryIO) -> Iterator[bytes]:
    """The non-empty lines of a file, without their breaks; what is still being written comes too, perhaps torn."""
    for line in file:
        if stripped := line.rstrip(b"\n"):
            yield stripped


def _locks(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file still has this name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
