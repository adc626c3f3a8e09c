"""Buckets that the workers of one machine share: a SQLite file of their own, asked by a thread of its own.

Not through lnmt.store, whose transactions are on disk when they end: a limit need not survive the
power, so nothing here is synced, and a file that the power damaged is made anew. A transaction takes
15 µs, and as long as the disk or another process pleases: the event loop must not wait for that.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from lnmt.serving.rate.bucket import Ask, Rate, StoreLost, take

BUSY_S = 0.2  # for the turns of other processes
OPEN_S = 5.0  # for other processes that open the file too
TOGETHER = 256  # requests of one transaction at most
_MAKE = "CREATE TABLE IF NOT EXISTS buckets (principal TEXT PRIMARY KEY, arrival_s REAL NOT NULL) WITHOUT ROWID"
_FIND = "SELECT arrival_s FROM buckets WHERE principal = ?"
_KEEP = "INSERT OR REPLACE INTO buckets VALUES (?, ?)"


class SqliteLimiter:
    """One number a principal in a table. The thread takes all that wait in one transaction, under the write lock.

    The clock is the machine's monotonic one, which is the same for all processes. Used from one event
    loop; the file is opened at first use. Raises StoreLost where the file cannot be used.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._asked: queue.SimpleQueue[Ask | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def take(self, principal: str, rate: Rate) -> float:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="rate-limit", daemon=True)
            self._thread.start()
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._asked.put(Ask(principal, rate, future))
        return await future

    async def close(self) -> None:
        if self._thread is not None:
            self._asked.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while asks := self._next():
            answers: list[float] | StoreLost
            try:
                connection = connection or _open(self._path)
                answers = self._transact(connection, asks)
            except (sqlite3.Error, OSError, Timeout) as error:
                answers = StoreLost(f"{type(error).__name__}: {error}")
                if connection is not None:
                    connection.close()
                connection = None
            try:
                asks[0].future.get_loop().call_soon_threadsafe(_deliver, asks, answers)
            except RuntimeError:
                continue  # the loop has ended; nobody waits
        if connection is not None:
            connection.close()

    def _next(self) -> list[Ask]:
        """What waits, at least one; nothing at the end."""
        asks: list[Ask] = []
        ask = self._asked.get()
        while ask is not None:
            asks.append(ask)
            if len(asks) == TOGETHER:
                break
            try:
                ask = self._asked.get_nowait()
            except queue.Empty:
                break
        else:
            if asks:
                self._asked.put(None)  # the end, once these are answered
        return asks

    def _transact(self, connection: sqlite3.Connection, asks: Sequence[Ask]) -> list[float]:
        waits: list[float] = []
        connection.execute("BEGIN IMMEDIATE")
        try:
            now_s = self._clock()  # under the lock: time does not run back from one process to the next
            for ask in asks:
                row = connection.execute(_FIND, (ask.principal,)).fetchone()
                stored_s = None if row is None else row[0]
                arrival_s, wait_s = take(stored_s, now_s, ask.rate)
                if arrival_s != stored_s:
                    connection.execute(_KEEP, (ask.principal, arrival_s))
                waits.append(wait_s)
        except BaseException:
            connection.rollback()
            raise
        connection.execute("COMMIT")
        return waits


def _open(path: Path) -> sqlite3.Connection:
    """The file, whole: one that is damaged is replaced while nobody else opens it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=OPEN_S):
        try:
            return _connect(path)
        except sqlite3.OperationalError:  # the disk, or another process: nothing that is wrong with the file
            raise
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=OFF"):
            connection.execute(f"PRAGMA {pragma}").close()
        [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        connection.execute(_MAKE)
    except BaseException:
        connection.close()
        raise
    return connection


def _deliver(asks: Sequence[Ask], answers: list[float] | StoreLost) -> None:
    for index, ask in enumerate(asks):
        if ask.future.done():  # nobody waits any longer
            continue
        if isinstance(answers, StoreLost):
            ask.future.set_exception(answers)
        else:
            ask.future.set_result(answers[index])
