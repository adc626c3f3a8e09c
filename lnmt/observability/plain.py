"""Fields of a log record made plain JSON values: bounded, of whole characters, without what users sent.

A record is often written while something else goes wrong: whatever a field holds, it becomes text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

# Fields that would carry what users sent. Nothing of ours logs them; this holds for plugins too.
WITHHELD = frozenset({"body", "data", "inputs", "text", "texts"})
FIRST = ("timestamp", "level", "logger", "event")  # before whatever else a record has, and before its bound

FIELD = 2_000  # characters of one value
NAME = 100  # characters of a field's name
RECORD = 16_000  # characters of all names and values of a record; one becomes at most 12 bytes of JSON
ITEMS = 50  # of a list or an object
DEPTH = 4  # of lists and objects inside each other
_INT = 2**63  # a larger number is no number for most readers of JSON


def plain(fields: Mapping[Any, Any]) -> dict[str, Any]:
    """The fields as JSON values; json.dumps takes them whatever they were."""
    ordered = {name: fields[name] for name in FIRST if name in fields} | dict(fields)
    return _Room().mapping(ordered, DEPTH)


class _Room:
    """What a record may still take."""

    def __init__(self) -> None:
        self.left = RECORD

    def value(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if isinstance(value, int) and -_INT <= value < _INT:
            return int(value)
        if depth and isinstance(value, Mapping):
            return self.mapping(value, depth - 1)
        if depth and isinstance(value, list | tuple | Set):
            return self.sequence(value, depth - 1)
        return self.text(_shown(value), FIELD)

    def mapping(self, fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in fields.items():
            if len(found) == ITEMS or not self.left:
                found["…"] = f"{len(fields) - len(found)} more"
                break
            key = self.text(_shown(name), NAME)
            found[key] = "[withheld]" if key.lower() in WITHHELD else self.value(value, depth)
        return found

    def sequence(self, values: list[Any] | tuple[Any, ...] | Set[Any], depth: int) -> list[Any]:
        found: list[Any] = []
        for value in values:
            if len(found) == ITEMS or not self.left:
                found.append(f"… {len(values) - len(found)} more")
                break
            self.left -= 1  # a list of numbers takes room too
            found.append(self.value(value, depth))
        return found

    def text(self, value: str, most: int) -> str:
        most = min(most, self.left)
        self.left -= min(most, len(value))
        if len(value) > most:
            value = f"{value[:most]}… {len(value) - most} more"
        # half a surrogate pair is valid in no encoding, and many readers of JSON refuse it
        return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _shown(value: object) -> str:
    """Any value as text."""
    try:
        if isinstance(value, int):
            return hex(value)  # str() refuses very large ones
        return str(value)
    except Exception:  # a value's own code may raise anything
        return f"<{type(value).__name__}>"
