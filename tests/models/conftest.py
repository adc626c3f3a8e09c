"""Shared by the tests of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.model_kit import hugging_face_gpt2, save_gpt2
from tests.tiny_bundle import tiny_encoder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder's directory; read only."""
    return tiny_encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2's directory; read only."""
    return save_gpt2(hugging_face_gpt2(), tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """For every test here."""
