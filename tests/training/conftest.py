"""Shared by the tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_bundle import tiny_encoder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder's directory; read only."""
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads here as in a process of its own: sums depend on how they are cut."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
