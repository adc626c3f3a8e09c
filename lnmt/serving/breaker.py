"""A circuit breaker: what does not answer is left alone for a while (Nygard, Release It!, 2007)."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Lets every call through until `failures` in a row fail; then it is open, and one call is due every `rest_s`.

    A call that was due and never tells how it went blocks nothing: the next one is due all the same.
    `clock` in seconds. For one thread, or one event loop.
    """

    def __init__(self, *, failures: int = 3, rest_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._clock = clock
        self._failures = 0  # in a row
        self._due = 0.0

    @property
    def is_open(self) -> bool:
        """True from the failure that was one too many until a call goes through."""
        return self._failures >= self._limit

    def allows(self) -> bool:
        """May a call be made now? While open: for one caller, every `rest_s`."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._due:
            return False
        self._due = now + self._rest_s
        return True

    def failed(self) -> bool:
        """A call failed. True where that opened the breaker, which is the time to tell it, once."""
        self._failures += 1
        opened = self._failures == self._limit
        if opened:
            self._due = self._clock() + self._rest_s
        return opened

    def succeeded(self) -> bool:
        """A call went through. True where that closed the breaker."""
        closed = self.is_open
        self._failures = 0
        return closed
