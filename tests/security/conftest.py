from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lnmt.security.peppers import Peppers
from lnmt.security.table import METADATA, KeyTable
from lnmt.store import open_engine, writing
from tests.postgres import running_postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'lnmt.db'}"
        return
    address = str(request.getfixturevalue("postgres_url"))
    yield address
    engine = open_engine(address)
    with writing(engine) as connection:
        METADATA.drop_all(connection)
    engine.dispose()


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyTable]:
    """An empty table in SQLite."""
    with KeyTable(f"sqlite:///{tmp_path / 'lnmt.db'}") as opened:
        yield opened


@pytest.fixture
def peppers() -> Peppers:
    return Peppers.of(["a" * 32], where="test")
