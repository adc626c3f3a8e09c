from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lnmt.params import ReleaseParams
from lnmt.rollout.table import DeploymentStore


@pytest.fixture
def gates() -> ReleaseParams:
    return ReleaseParams(share=0.3, min_requests=100, min_requests_rollback=50, max_error_share=0.02)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeploymentStore]:
    with DeploymentStore(f"sqlite:///{tmp_path / 'lnmt.db'}") as opened:
        yield opened
