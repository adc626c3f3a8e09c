"""What differs between the run that a checkpoint is of and the run that wants to go on from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SHOWN = 40  # characters of a value


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, their value, our value) of all that is not the same; nested names are joined by dots.

    Values are compared as JSON, so that a tuple is the list that it became in a file.
    """
    flat, other = _flat(theirs), _flat(ours)
    names = sorted(name for name in flat.keys() | other.keys() if flat.get(name) != other.get(name))
    return [(name, _shown(flat.get(name)), _shown(other.get(name))) for name in names]


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found |= _flat(item, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = json.dumps(item, sort_keys=True)
    return found


def _shown(text: str | None) -> str:
    if text is None:
        return "absent"
    plain = text.strip('"')
    if plain.startswith("sha256:"):
        plain = plain[: len("sha256:") + 12]
    return plain if len(plain) <= SHOWN else f"{plain[:SHOWN]}…"
