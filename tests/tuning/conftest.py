"""Shared by the tests of tuning."""

from __future__ import annotations

from tests.training.conftest import one_thread

__all__ = ["one_thread"]
