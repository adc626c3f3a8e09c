from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lnmt.monitoring.event_index import EventIndex


@pytest.fixture
def index(tmp_path: Path) -> Iterator[EventIndex]:
    with EventIndex(f"sqlite:///{tmp_path / 'index' / 'lnmt.db'}") as index:
        yield index


@pytest.fixture
def any_index(database_url: str) -> Iterator[EventIndex]:
    """An index in each kind of database."""
    with EventIndex(database_url) as index:
        yield index
