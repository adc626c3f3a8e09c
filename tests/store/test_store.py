from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, func, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from lnmt import store
from lnmt.errors import LnmtError, Transient
from lnmt.store import ensure_tables, open_engine, reading, share_sqlite, writing
from tests.postgres import need_driver

METADATA = MetaData()
NOTES = Table("notes", METADATA, Column("id", Integer, primary_key=True), Column("words", Text, nullable=False))
MARKS = Table("marks", METADATA, Column("id", Integer, primary_key=True))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'down' / 'lnmt.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    ensure_tables(engine, METADATA)
    yield engine
    with writing(engine) as connection:
        METADATA.drop_all(connection)
    engine.dispose()


def count(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.scalar(select(func.count()).select_from(NOTES)) or 0)


def test_a_transaction_is_kept_whole(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(insert(NOTES).values(id=1, words="über 𝛼"))
    with reading(engine) as connection:
        assert connection.execute(select(NOTES)).all() == [(1, "über 𝛼")]


def test_a_transaction_that_fails_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(insert(NOTES).values(id=1, words="first"))
        connection.execute(insert(NOTES).values(id=1, words="again"))
    assert count(engine) == 0


def test_a_bug_is_not_dressed_up_as_a_users_error(url: str) -> None:
    engine = open_engine(url)
    with pytest.raises(DBAPIError, match="nowhere"), reading(engine) as connection:
        connection.execute(text("SELECT * FROM nowhere"))
    engine.dispose()


def test_tables_are_made_once_and_kept(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(insert(NOTES).values(id=1, words="stays"))
    ensure_tables(engine, METADATA)
    assert count(engine) == 1


def test_missing_tables_join_those_that_are_there(engine: Engine) -> None:
    with writing(engine) as connection:
        MARKS.drop(connection)
    ensure_tables(engine, METADATA)
    with reading(engine) as connection:
        assert {"notes", "marks"} <= set(inspect(connection).get_table_names())


def _write(url: str, first: int, rows: int) -> int:
    """One of several processes that open the same empty database and write to it, row by row."""
    engine = open_engine(url)
    ensure_tables(engine, METADATA)
    for index in range(first, first + rows):
        with writing(engine) as connection:
            connection.execute(select(func.count()).select_from(NOTES)).scalar_one()  # reads first, then writes
            connection.execute(insert(NOTES).values(id=index, words="x"))
    engine.dispose()
    return rows


def test_processes_that_start_at_once_make_the_tables_and_take_turns(url: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "tests.store.test_store"])
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        done = list(pool.map(_write, [url] * 4, [0, 100, 200, 300], [15] * 4))
    assert done == [15, 15, 15, 15]
    engine = open_engine(url)
    assert count(engine) == 60
    with writing(engine) as connection:
        METADATA.drop_all(connection)
    engine.dispose()


# --- SQLite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lnmt.db"


@pytest.fixture
def sqlite(path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{path}")
    ensure_tables(engine, METADATA)
    yield engine
    engine.dispose()


def test_sqlite_syncs_every_commit(sqlite: Engine) -> None:
    with reading(sqlite) as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_opening_an_engine_touches_no_file(path: Path) -> None:
    open_engine(f"sqlite:///{path}").dispose()
    assert not path.exists()


def test_a_reader_is_not_held_up_by_a_writer(sqlite: Engine) -> None:
    with writing(sqlite) as connection:
        connection.execute(insert(NOTES).values(id=1, words="not yet"))
        assert count(sqlite) == 0
    assert count(sqlite) == 1


def test_a_database_that_stays_locked_is_transient(path: Path, sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_S", 0)
    impatient = open_engine(f"sqlite:///{path}")
    with writing(sqlite), pytest.raises(Transient, match="stayed locked") as caught, writing(impatient):
        pass
    impatient.dispose()
    assert caught.value.exit_code == 75
    assert "another process holds it" in str(caught.value)


def test_a_file_that_is_no_database_is_said_to_be_so(path: Path) -> None:
    path.write_text("label,text\n" * 100)
    engine = open_engine(f"sqlite:///{path}")
    with pytest.raises(LnmtError, match="file is not a database"):
        ensure_tables(engine, METADATA)
    assert path.read_text() == "label,text\n" * 100


def test_a_full_disk_is_said_to_be_so_and_harms_nothing(path: Path, sqlite: Engine) -> None:
    with writing(sqlite) as connection:
        connection.execute(insert(NOTES).values(id=1, words="kept"))
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    with pytest.raises(LnmtError, match="disk is full"), writing(sqlite) as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        connection.execute(insert(NOTES).values(id=2, words="x" * 1_000_000))
    assert count(sqlite) == 1


def test_a_damaged_file_is_said_to_be_so(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, words TEXT)")
        raw.executemany("INSERT INTO notes VALUES (?, ?)", [(index, "x" * 500) for index in range(200)])
    data = bytearray(path.read_bytes())
    data[8192:20000] = b"\xff" * (20000 - 8192)
    path.write_bytes(data)
    engine = open_engine(f"sqlite:///{path}")
    with pytest.raises(LnmtError, match="malformed"), reading(engine) as connection:
        connection.execute(select(NOTES)).all()
    engine.dispose()


def test_a_database_of_other_software_gets_a_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mlflow.db"
    share_sqlite(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql+psycopg://lnmt@127.0.0.1:1/x"])
def test_a_database_without_a_file_is_left_alone(url: str) -> None:
    share_sqlite(url)


# --- URLs


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("no url", "not a database URL"),
        ("mysql://root@localhost/x", "no such kind of database"),
        ("sqlite://", "no such kind of database"),
        ("sqlite:///:memory:", "no such kind of database"),
    ],
)
def test_another_url_is_refused_with_the_allowed_ones(url: str, message: str) -> None:
    with pytest.raises(LnmtError, match=message) as caught:
        open_engine(url)
    assert "postgresql+psycopg://" in str(caught.value.allowed)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(LnmtError) as caught:
        open_engine("mysql://root:hunter2@localhost/x")
    assert "hunter2" not in str(caught.value)


# --- PostgreSQL


def test_a_server_that_is_away_is_transient(free_port: int) -> None:
    need_driver()
    engine = open_engine(f"postgresql://lnmt:hunter2@127.0.0.1:{free_port}/lnmt")
    with pytest.raises(Transient, match="did not answer") as caught:
        ensure_tables(engine, METADATA)
    assert "hunter2" not in str(caught.value)


def test_a_database_that_is_not_there_is_for_a_person(postgres_url: str) -> None:
    engine = open_engine(postgres_url.replace("/postgres", "/nowhere"))
    with pytest.raises(LnmtError, match='database "nowhere" does not exist') as caught:
        ensure_tables(engine, METADATA)
    assert not isinstance(caught.value, Transient)
