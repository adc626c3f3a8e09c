"""What a worker's app knows of the service around it: whether it ends, and how many workers answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from lnmt.serving.problems import Problem
from lnmt.serving.processes.board import Board, Phase

STARTING = "starting"  # the problem's name until it is known what should be served


class Lifecycle:
    """One worker's view. Without a board (`bentoml serve`, tests) it is the only worker."""

    def __init__(self, board: Board | None = None) -> None:
        self.leaving_since: float | None = None  # monotonic seconds
        self._board = board
        self._draining = False
        self._check: Callable[[], object] = _unknown

    @property
    def draining(self) -> bool:
        """The whole service ends: it says that it is not ready, and answers still."""
        return self._draining or (self._board is not None and self._board.phase is not Phase.SERVING)

    @property
    def closing(self) -> bool:
        """Replies end their connections, so that the next request goes to another worker or another instance."""
        return self.leaving_since is not None or self.draining

    def begin_drain(self) -> None:
        """The service ends, as far as this worker is asked."""
        self._draining = True

    def begin_leave(self) -> None:
        """This worker ends, the service goes on. A second call changes nothing."""
        if self.leaving_since is None:
            self.leaving_since = time.monotonic()

    def workers(self) -> tuple[int, int]:
        """Workers that are ready, and how many there should be."""
        return (1, 1) if self._board is None else (self._board.ready, self._board.wanted)

    def ready_when(self, check: Callable[[], object]) -> None:
        """Give the check of readiness: it raises Problem where the app is not ready."""
        self._check = check

    def not_ready(self) -> Problem | None:
        """Why this worker has nothing to serve; None where it has."""
        try:
            self._check()
        except Problem as problem:
            return problem
        return None


def _unknown() -> None:
    raise Problem(503, STARTING, fix="wait")
