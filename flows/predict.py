"""A file of texts through the champion, or through models/optimized for a task that is never released."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from tasks import actions


@flow(name="predict")
def predict(source: Path, out: Path, text_column: str = "text") -> int:
    """Answer every row of `source` into `out`; a run that was cut short goes on where it stopped."""
    return actions.predict(source, out, text_column).rows
