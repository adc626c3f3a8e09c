"""Follow a file that another process appends to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Tail:
    """Whole lines that came since the last look. A file that is absent has none; one written anew starts again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._head = b""

    def lines(self) -> list[str]:
        """New lines, without their ends; the last one only once it has one."""
        try:
            with self._path.open("rb") as file:
                # A file that was emptied and has grown again is known by its first line.
                if file.read(len(self._head)) != self._head:
                    self._offset, self._head = 0, b""
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            self._offset, self._head = 0, b""
            return []
        whole = data[: data.rfind(b"\n") + 1]
        if self._offset == 0:
            self._head = whole[: whole.find(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace").splitlines()

    def records(self) -> list[dict[str, Any]]:
        """New lines as JSON objects; what a killed writer left is passed over."""
        return [record for record in map(_parse, self.lines()) if record is not None]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
