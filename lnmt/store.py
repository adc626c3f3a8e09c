"""The one door to SQL: engines, transactions and tables.

SQLite is the default: a write-ahead log with every commit synced, so that no acknowledged write is
lost with the power, and writers that queue instead of failing. PostgreSQL by its URL.
Tables are declared where they are used (typed SQLAlchemy Core), and are opened through here.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, exc, inspect, make_url, text

from lnmt.errors import LnmtError, Transient

BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
_WRITER = "lnmt_writer"
_SCHEMA_LOCK = 0x6C6E6D74  # "lnmt": the advisory lock under which PostgreSQL tables are made


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql+psycopg://USER@HOST/DATABASE`; connects at first use.

    Close it with `.dispose()`. Raises LnmtError for another URL, or where the driver is not installed.
    """
    fix = "set LNMT_DATABASE to such a URL, or unset it for SQLite in the state directory"
    allowed = "sqlite:///PATH, postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise LnmtError("not a database URL", allowed=allowed, fix=fix) from error
    shown = parsed.render_as_string(hide_password=True)
    if parsed.drivername in ("sqlite", "sqlite+pysqlite") and parsed.database not in (None, "", ":memory:"):
        Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        try:
            return create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                hide_parameters=True,
                pool_pre_ping=True,  # a restarted server costs nothing but a new connection
                connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
            )
        except ModuleNotFoundError as error:
            raise LnmtError(
                "the PostgreSQL driver is not installed", value=shown, fix="pip install 'lnmt[postgres]'"
            ) from error
    raise LnmtError("no such kind of database", value=shown, allowed=allowed, fix=fix)


class Tables:
    """What keeps rows in tables of its own: the parent of such classes. Connects at first use.

    Takes a database URL (LNMT_DATABASE), whose engine is closed with it, or an engine of `open_engine`. Safe with
    any number of processes and threads.
    """

    metadata: ClassVar[MetaData]  # of the tables, which are made where they are missing

    def __init__(self, database: str | Engine) -> None:
        self._database = database
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._ready = False

    def close(self) -> None:
        """Close the connections of an engine that was opened here; the next use opens them again."""
        if self._engine is not None and self._engine is not self._database:
            self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Engine:
        with self._opening:
            if self._engine is None:
                self._engine = open_engine(self._database) if isinstance(self._database, str) else self._database
        if not self._ready:
            ensure_tables(self._engine, self.metadata)
            self._ready = True
        return self._engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent look: a transaction that writes nothing."""
    with _explained(engine.url), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes: committed whole at the end, or not at all.

    In SQLite writers take turns from the first statement on (BEGIN IMMEDIATE), waiting up to 30 s:
    a transaction that begins by reading cannot fail later because another one wrote.
    """
    with _explained(engine.url), engine.connect() as connection:
        connection = connection.execution_options(**{_WRITER: True})
        with connection.begin():
            yield connection


def ensure_tables(engine: Engine, metadata: MetaData) -> None:
    """Make the tables of `metadata` that are missing; safe with several processes at once."""
    with reading(engine) as connection:
        present = set(inspect(connection).get_table_names())
    if metadata.tables.keys() <= present:
        return
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
        metadata.create_all(connection)


def share_sqlite(url: str) -> None:
    """Give a SQLite database that other software keeps a write-ahead log; the file remembers it.

    Its readers and its writer then no longer lock each other out. Another kind of URL is left alone.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return
    path = Path(parsed.database).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _explained(parsed), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _configure_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # the driver opens no transaction of its own: _begin_sqlite does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writer = connection.get_execution_options().get(_WRITER, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")


@contextmanager
def _explained(url: URL) -> Iterator[None]:
    """Turn what a person or a second try can mend into our errors; what is a bug stays as it is."""
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as error:
        found = _explanation(url.render_as_string(hide_password=True), error)
        if found is None:
            raise
        raise found from error


def _explanation(where: str, error: exc.DBAPIError | sqlite3.Error) -> LnmtError | None:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    message = str(cause).strip()
    if isinstance(cause, sqlite3.Error):
        return _sqlite_explanation(message, where)
    if not isinstance(error, exc.OperationalError):
        return None
    if "authentication failed" in message or "does not exist" in message:
        return LnmtError("the database refuses the connection", where=where, value=message, fix="mend LNMT_DATABASE")
    return Transient(
        "the database did not answer, or gave up on this transaction",
        where=where,
        value=message,
        fix="check that it runs, then do the same again",
    )


def _sqlite_explanation(message: str, where: str) -> LnmtError | None:
    fixes: dict[str, Any] = {
        "unable to open": "check that the directory exists and may be written",
        "readonly": "make the file and its directory writable",
        "disk is full": "free some space; what was stored before is intact",
        "disk I/O error": "check the disk; what was stored before is intact",
        "not a database": "the file is something else: move it away, or name another one in LNMT_DATABASE",
        "malformed": "restore the file from a backup; keep the damaged one",
    }
    if "locked" in message:
        return Transient(
            f"the database stayed locked for {BUSY_TIMEOUT_S} s",
            where=where,
            value=message,
            fix="another process holds it: end that one, or do the same again later",
        )
    for sign, fix in fixes.items():
        if sign in message:
            return LnmtError("the database cannot be used", where=where, value=message, fix=fix)
    return None
