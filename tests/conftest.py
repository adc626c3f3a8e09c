"""Every test runs alone: no telemetry, no settings, git or DVC configuration of the machine it runs on."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData

from lnmt.store import open_engine, writing
from lnmt.telemetry import quiet
from tests.postgres import running_postgres

quiet()

Log = Callable[[], list[dict[str, Any]]]  # what the fixture `log` gives


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The session's own git identity, DVC caches and Prefect home; nothing of the user's is read or changed."""
    home = tmp_path_factory.mktemp("isolated")
    config = home / "gitconfig"
    config.write_text("[user]\n\tname = Test\n\temail = test@localhost\n[init]\n\tdefaultBranch = main\n")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("LNMT_", "PREFECT_", "MLFLOW_"))]:
            if name not in quiet_names():
                patch.delenv(name)
        patch.setenv("GIT_CONFIG_GLOBAL", str(config))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(home / "dvc"))
        patch.setenv("DVC_SYSTEM_CONFIG_DIR", str(home / "dvc-system"))
        patch.setenv("DVC_SITE_CACHE_DIR", str(home / "dvc-site"))
        patch.setenv("PREFECT_HOME", str(home / "prefect"))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For models as small as tests have, threads that wait for each other cost more than they bring."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quiet_names() -> set[str]:
    """Variables that stay: they turn telemetry off."""
    from lnmt.telemetry import quiet_environment

    return set(quiet_environment())


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of the session's own: whoever makes tables there takes them away."""
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'lnmt.db'}"
        return
    address = str(request.getfixturevalue("postgres_url"))
    yield address
    engine = open_engine(address)
    with writing(engine) as connection:
        made = MetaData()
        made.reflect(connection)
        made.drop_all(connection)
    engine.dispose()


@pytest.fixture
def log() -> Iterator[Log]:
    """The JSON lines logged so far in this test."""
    from lnmt.observability.logging import configure

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure(stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return Path(__file__).parents[1]
