"""How long work shows itself: a bar for people, one JSON line per step for whoever mirrors it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Progress:
    """Writes `.lnmt/progress/NAME.jsonl` and, on a terminal, draws a bar.

    A line is `{"time": s, "what": str, "done": n, "total": n | null, "unit": str, ...values}`.
    """

    def __init__(self, path: Path | None = None, *, show: bool | None = None) -> None:
        self._path = path
        self._show = sys.stderr.isatty() if show is None else show
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")

    @contextmanager
    def bar(self, what: str, total: int | None = None, unit: str = "rows") -> Iterator[Bar]:
        """A bar for one piece of work of `total` units; unknown length where None."""
        bar = Bar(self, what, total, unit, show=self._show)
        try:
            yield bar
        finally:
            bar.close()

    def note(self, message: str, **values: Any) -> None:
        """A line of news that stays on the screen and in the file."""
        self.write({"note": message, **values})
        print(message, file=sys.stderr, flush=True)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line to the file."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": round(time.time(), 3), **line}) + "\n")


class Bar:
    """One running bar; `advance` is cheap and writes at most four lines a second."""

    def __init__(self, progress: Progress, what: str, total: int | None, unit: str, *, show: bool) -> None:
        from tqdm import tqdm

        self._progress = progress
        self._head = {"what": what, "total": total, "unit": unit}
        self._done = 0
        self._written = 0.0
        self._values: dict[str, Any] = {}
        self._bar = tqdm(total=total, desc=what, unit=f" {unit}", disable=not show, leave=True, file=sys.stderr)

    def advance(self, amount: int = 1, **values: Any) -> None:
        """`amount` more units are done; `values` (loss, rate) are shown beside the bar."""
        self._done += amount
        self._values.update(values)
        self._bar.update(amount)
        if values:
            self._bar.set_postfix({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items()})
        if time.monotonic() - self._written >= 0.25:
            self._write()

    def close(self) -> None:
        """Write the last line and end the bar."""
        self._write()
        self._bar.close()

    def _write(self) -> None:
        self._written = time.monotonic()
        self._progress.write({**self._head, "done": self._done, **self._values})
