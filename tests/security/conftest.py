from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lnmt.security.peppers import Peppers
from lnmt.security.table import KeyTable


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyTable]:
    """An empty table in SQLite."""
    with KeyTable(f"sqlite:///{tmp_path / 'lnmt.db'}") as opened:
        yield opened


@pytest.fixture
def peppers() -> Peppers:
    return Peppers.of(["a" * 32], where="test")
