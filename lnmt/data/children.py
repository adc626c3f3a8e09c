"""Processes that prepare data for another one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

FORKS = sys.platform == "linux"  # elsewhere a forked process may not use the system's libraries

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def become_child(parent: int, *, ends_on_term: bool) -> None:
    """Leave signals to `parent`, the process that started this one, and end when it ends, however that happens.

    Ctrl-C reaches every process of a terminal, SIGTERM often a whole group: the parent alone decides what to do.
    `ends_on_term` for a pool that ends its processes by SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL if ends_on_term else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # blocked by `forking`
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before this could be asked for
            os._exit(1)


@contextmanager
def forking() -> Iterator[None]:
    """Around the start of processes that call `become_child`: until they have, no signal reaches them.

    They get no threads of the tokenizer, since those of the parent are gone after a fork.
    Python warns of a fork beside threads, since a lock may be held for ever. The children started here call numpy,
    Arrow and the tokenizer alone, which see to their locks.
    """
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
