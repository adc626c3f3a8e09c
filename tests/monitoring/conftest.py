from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lnmt.monitoring.event_index import METADATA, EventIndex
from lnmt.store import open_engine, writing
from tests.postgres import running_postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture
def index(tmp_path: Path) -> Iterator[EventIndex]:
    with EventIndex(f"sqlite:///{tmp_path / 'index' / 'lnmt.db'}") as index:
        yield index


@pytest.fixture(params=["sqlite", "postgresql"])
def any_index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventIndex]:
    """An index in each kind of database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'index' / 'lnmt.db'}"
    else:
        url = str(request.getfixturevalue("postgres_url"))
    engine = open_engine(url)
    yield EventIndex(engine)
    with writing(engine) as connection:
        METADATA.drop_all(connection)
    engine.dispose()
