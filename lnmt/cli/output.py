"""What commands print: a few lines for people, or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Project = Annotated[
    Path | None, typer.Option("--project", help="Directory of params.yaml; default the nearest one above.")
]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for another run in this project.")]


def show(value: Any, text: str | Iterable[str], *, as_json: bool) -> None:
    """Print `value` as JSON, or `text`."""
    if as_json:
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    else:
        typer.echo(text if isinstance(text, str) else "\n".join(text))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a plain table, columns as wide as their longest cell."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
