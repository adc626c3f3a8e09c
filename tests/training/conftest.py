"""Shared by the tests of training."""

from __future__ import annotations

import ctypes
import struct
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


@pytest.fixture(autouse=True)
def _own_signal_stack() -> None:
    """Signals are delivered on the ordinary stack.

    After engines were loaded and closed in this process (the optimisation tests), the main thread is left with
    an alternate signal stack that is no longer mapped: the next signal would be a segmentation fault.
    """
    disable = 2  # SS_DISABLE
    stack = struct.pack("PixxxxN", 0, disable, 0)
    ctypes.CDLL(None).sigaltstack(stack, None)
