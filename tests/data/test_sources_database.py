"""The `database` source, against SQLite and a real PostgreSQL."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from lnmt.errors import LnmtError, Transient
from tests.data.sources_kit import read_source
from tests.postgres import need_driver, running_postgres


def database_entry(url: str, query: str, **changes: Any) -> dict[str, Any]:
    columns = {"text": "body", "label": "stars", "id": "key"}
    return {"kind": "database", "url": url, "query": query, "set": {}, "columns": columns, "bins": None, **changes}


@pytest.fixture
def sqlite_project(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "reviews.db")) as connection:
        connection.execute("create table review (key integer, body text, stars real, shop text)")
        rows = [(1, "good: 100% ok", 5.0, "a"), (2, "bad", 1.0, "b"), (3, "lost", None, None)]
        connection.executemany("insert into review values (?, ?, ?, ?)", rows)
        connection.commit()
    return tmp_path


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("create table review (key integer, body text, stars float, shop text)"))
            connection.execute(text("create sequence counter"))
            connection.execute(
                text("insert into review select n, 'text ' || n, n % 5, 'shop' from generate_series(1, 20000) n")
            )
        engine.dispose()
        yield url


def failure(project: Path, entry: dict[str, Any]) -> LnmtError:
    with pytest.raises(LnmtError) as caught:
        read_source(project, entry)
    return caught.value


def test_sqlite_beside_params_yaml(sqlite_project: Path) -> None:
    query = "select * from review where body not like 'x:%' order by key"
    bins = [{"label": "low"}, {"label": "high", "at_least": 3}]
    rows = read_source(sqlite_project, database_entry("sqlite:///reviews.db", query, bins=bins), ["shop"])
    assert rows == [
        {"id": "database/1", "text": "good: 100% ok", "label": "high", "shop": "a"},
        {"id": "database/2", "text": "bad", "label": "low", "shop": "b"},
        {"id": "database/3", "text": "lost", "label": None, "shop": None},
    ]


def test_sqlite_is_only_read(sqlite_project: Path) -> None:
    error = failure(sqlite_project, database_entry("sqlite:///reviews.db", "delete from review"))
    assert "readonly database" in error.what
    assert not isinstance(failure(sqlite_project, database_entry("sqlite:///gone.db", "select 1")), Transient)
    assert not (sqlite_project / "gone.db").exists()


def test_a_url_from_the_environment(sqlite_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = database_entry("env:REVIEWS", "select * from review order by key limit 1")
    assert failure(sqlite_project, entry).value == "REVIEWS"
    monkeypatch.setenv("REVIEWS", "sqlite:///reviews.db")
    assert [row["id"] for row in read_source(sqlite_project, entry)] == ["database/1"]


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("select * from revew", "the query failed: no such table: revew"),
        ("select key, body from review", "no column 'stars'"),
        ("select * from review where key > 9", "no rows"),
    ],
)
def test_a_bad_query(sqlite_project: Path, query: str, what: str) -> None:
    error = failure(sqlite_project, database_entry("sqlite:///reviews.db", query))
    assert (error.what, error.exit_code) == (what, 1)


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    need_driver()
    error = failure(tmp_path, database_entry("postgresql://me:hunter2@127.0.0.1:1/x", "select 1"))
    assert isinstance(error, Transient)
    assert error.where == "postgresql+psycopg://me:***@127.0.0.1:1/x"
    assert "hunter2" not in str(error)
    assert "hunter2" not in str(failure(tmp_path, database_entry("me:hunter2@host", "select 1")))


def test_an_unknown_database(tmp_path: Path) -> None:
    error = failure(tmp_path, database_entry("oracel://host/x", "select 1"))
    assert error.what.startswith("the database's driver is not installed")


def test_postgresql(postgres: str, tmp_path: Path) -> None:
    query = "select key, body, stars::int as stars, shop from review where body like 'text 1%' or true order by key"
    rows = read_source(tmp_path, database_entry(postgres, query, set={"shop": "web"}), ["shop"])
    assert len(rows) == 20_000
    assert rows[6] == {"id": "web/7", "text": "text 7", "label": "2", "shop": "web"}


def test_postgresql_is_streamed(postgres: str, tmp_path: Path) -> None:
    """60 MB of rows pass through; the process never holds a third of them."""
    query = "select key, repeat(body, 500) as body, stars from review order by key"
    tracemalloc.start()
    try:
        rows = read_source(tmp_path, database_entry(postgres, query), limit=5)
        assert [row["id"] for row in rows] == [f"database/{n}" for n in range(1, 6)]
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


def test_postgresql_is_only_read(postgres: str, tmp_path: Path) -> None:
    error = failure(tmp_path, database_entry(postgres, "select nextval('counter') as key, body, stars from review"))
    assert "read-only transaction" in error.what
    assert error.exit_code == 1
