"""Ctrl-C and SIGTERM as a question that the loop asks between two steps, so that no step is cut in half."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A signal was noted in the middle of what can be given up, and done again by whoever goes on. See `check`."""


class Interrupts:
    """While it is entered, the first signal is noted in `asked`; a second one acts at once.

    Outside of the main thread Python allows no handlers: there it notes nothing.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def check(self) -> None:
        """Raise Interrupted where a signal was noted: for the middle of an evaluation, never of a step."""
        if self.asked is not None:
            raise Interrupted

    def stop(self) -> None:
        """End the run as the signal would have: KeyboardInterrupt, or exit code 143."""
        if self.asked is signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
