"""Progress of a stage that runs in another process, as a bar on this terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lnmt.drive.run import StageResult


class Bars:
    """Mirrors a stage's progress file: one bar for each piece of work, its notes above them."""

    def __init__(self, name: str, *, verbose: bool) -> None:
        self._name = name
        self._verbose = verbose
        self._bars: dict[str, Any] = {}

    def progress(self, record: dict[str, Any]) -> None:
        """Move the bar of `record["what"]`, or print a note."""
        from tqdm import tqdm

        if "note" in record:
            if not self._verbose:  # the log has it as well
                tqdm.write(f"  {record['note']}", file=sys.stderr)
            return
        if "what" not in record:
            return
        values = {key: value for key, value in record.items() if key not in {"time", "what", "total", "unit", "done"}}
        bar = self._bars.get(record["what"])
        if bar is None:
            for old in self._bars.values():
                old.close()
            bar = self._bars[record["what"]] = tqdm(
                total=record["total"],
                desc=f"{self._name}: {record['what']}",
                unit=f" {record['unit']}",
                disable=not sys.stderr.isatty(),
                file=sys.stderr,
            )
        bar.set_postfix({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items()}, refresh=False)
        bar.update(record["done"] - bar.n)

    def log(self, line: str) -> None:
        """A line of DVC or of the stage; only shown with --verbose, or where it is about waiting."""
        if self._verbose or "waiting for it" in line:
            print(line, file=sys.stderr, flush=True)

    def ended(self, result: StageResult) -> None:
        """One line on what became of the stage."""
        self.close()
        print(f"{self._name:<9} {result.outcome} ({result.seconds:.1f} s)", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End every bar."""
        for bar in self._bars.values():
            bar.close()


@contextmanager
def bars(name: str, *, verbose: bool = False) -> Iterator[Bars]:
    """Bars for the stage `name`."""
    shown = Bars(name, verbose=verbose)
    try:
        yield shown
    finally:
        shown.close()
