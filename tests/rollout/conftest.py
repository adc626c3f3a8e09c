from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lnmt.params import ReleaseParams
from lnmt.rollout.table import METADATA, DeploymentStore
from lnmt.store import open_engine, writing
from tests.postgres import running_postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture
def gates() -> ReleaseParams:
    return ReleaseParams(share=0.3, min_requests=100, min_requests_rollback=50, max_error_share=0.02)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeploymentStore]:
    with DeploymentStore(f"sqlite:///{tmp_path / 'lnmt.db'}") as opened:
        yield opened


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
