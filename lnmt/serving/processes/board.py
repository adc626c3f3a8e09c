"""What supervisor and workers tell each other: a few numbers in memory that all of them share.

Every number has one writer, so nothing is locked: the supervisor writes the phase and how many workers
there should be, a worker its own seat. A number is one aligned store of 8 bytes, which nobody reads half.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from enum import IntEnum
from typing import Self

END_S = 28.0  # from DRAINING to the end of the last worker: schedulers kill 30 s after SIGTERM

_CELLS = 32  # of 8 bytes: the size of the head, and of a seat
_PHASE, _WANTED = range(2)  # cells of the head
_STATE, _BEATS, _LENGTH, _REASON = range(4)  # cells of a seat; the reason fills the rest of it
_REASON_BYTES = 8 * (_CELLS - _REASON)


class Phase(IntEnum):
    """Where the service is in its life."""

    SERVING = 0
    DRAINING = 1  # no longer ready; still accepts and answers
    STOPPING = 2  # accepts nothing more, finishes what it has


class State(IntEnum):
    """Where a worker is in its life."""

    EMPTY = 0  # nobody sits here
    STARTING = 1  # accepts nothing yet
    UP = 2  # accepts; its reason says why it is not ready
    READY = 3
    LEAVING = 4  # told to end; another one takes its place


class Board:
    """The shared memory behind `fd`. The descriptor is inherited by workers; each maps it for itself."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, 0)
        self._bytes = memoryview(self._memory)
        self._cells = self._bytes.cast("q")

    @classmethod
    def create(cls, seats: int) -> Self:
        """An empty board with so many seats, SERVING, that wants no worker."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("lnmt-board")
        else:  # not on Linux
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, 8 * _CELLS * (1 + seats))
        return cls(fd)

    @property
    def seats(self) -> int:
        """How many workers it has room for."""
        return len(self._cells) // _CELLS - 1

    @property
    def phase(self) -> Phase:
        """The service's phase. The supervisor sets it."""
        return Phase(self._cells[_PHASE])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._cells[_PHASE] = phase

    @property
    def wanted(self) -> int:
        """How many workers there should be. The supervisor sets it."""
        return self._cells[_WANTED]

    @wanted.setter
    def wanted(self, workers: int) -> None:
        self._cells[_WANTED] = workers

    @property
    def ready(self) -> int:
        """How many workers are ready."""
        return sum(self.state(seat) is State.READY for seat in range(self.seats))

    @property
    def accepting(self) -> int:
        """How many workers accept requests, those that leave included."""
        return sum(self.state(seat) >= State.UP for seat in range(self.seats))

    def state(self, seat: int) -> State:
        """The state of the worker on `seat`."""
        return State(self._cells[_cell(seat, _STATE)])

    def set_state(self, seat: int, state: State) -> None:
        """Its worker's to write; the supervisor's where nobody sits there."""
        self._cells[_cell(seat, _STATE)] = state

    def beats(self, seat: int) -> int:
        """How often the worker's event loop came round."""
        return self._cells[_cell(seat, _BEATS)]

    def beat(self, seat: int) -> None:
        """Once more."""
        self._cells[_cell(seat, _BEATS)] += 1

    def reason(self, seat: int) -> str:
        """Why the worker is not ready, or could not start; empty where it has said nothing."""
        start = 8 * _cell(seat, _REASON)
        length = min(max(self._cells[_cell(seat, _LENGTH)], 0), _REASON_BYTES)
        return bytes(self._bytes[start : start + length]).decode("utf-8", "ignore")

    def say(self, seat: int, reason: str) -> None:
        """Tell the reason, as far as there is room. A reader may see it half written: look twice."""
        data = reason.encode("utf-8", "replace")[:_REASON_BYTES]
        start = 8 * _cell(seat, _REASON)
        self._bytes[start : start + len(data)] = data
        self._cells[_cell(seat, _LENGTH)] = len(data)

    def clear(self, seat: int, state: State = State.EMPTY) -> None:
        """Make the seat as new, for nobody or for a worker that starts."""
        for cell in (_BEATS, _LENGTH):
            self._cells[_cell(seat, cell)] = 0
        self.set_state(seat, state)

    def close(self) -> None:
        """Unmap the memory and close the descriptor."""
        self._cells.release()
        self._bytes.release()
        self._memory.close()
        os.close(self.fd)


def _cell(seat: int, which: int) -> int:
    return (1 + seat) * _CELLS + which
