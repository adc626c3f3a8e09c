"""Rows as Python mappings → record batches of strings, bounded in rows and in bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from lnmt.data.sources.source import Wanted
from lnmt.errors import LnmtError

MAX_ROWS = 16384
MAX_CHARACTERS = 8 * 2**20

Row = tuple[str, Mapping[str, Any]]  # where it stands, its values


def batches_of(rows: Iterable[Row], wanted: Wanted, where: object) -> Iterator[pa.RecordBatch]:
    """Batches of the wanted columns. A column must be in some row of the first batch; later it may be missing."""
    names: list[str] | None = None
    for held in _groups(rows):
        if names is None:
            names = wanted.choose(list(dict.fromkeys(key for _, row in held for key in row)), where)
        columns = []
        for name in names:
            text = as_label if name == wanted.columns.label else as_string
            columns.append(pa.array([text(row.get(name), name, place) for place, row in held], pa.string()))
        yield pa.RecordBatch.from_arrays(columns, names=names)


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    held: list[Row] = []
    characters = 0
    for place, row in rows:
        held.append((place, row))
        characters += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(held) == MAX_ROWS or characters >= MAX_CHARACTERS:
            yield held
            held, characters = [], 0
    if held:
        yield held


def as_label(value: Any, column: str, where: str) -> str | None:
    """A scalar as text, a list of scalars as a JSON list of texts."""
    if isinstance(value, list):
        return json.dumps([as_string(one, column, where) for one in value], ensure_ascii=False)
    return as_string(value, column, where)


def as_string(value: Any, column: str, where: str) -> str | None:
    """A scalar as text: no trailing `.0`, NaN is None."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise LnmtError(
                f"half a surrogate pair in column {column!r}",
                where=where,
                value=ascii(value[max(0, error.start - 20) : error.end]),
                fix="write the file again as UTF-8",
            ) from error
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    if type(value).__module__ in {"datetime", "decimal", "uuid"}:
        return str(value)
    raise LnmtError(
        f"column {column!r} holds {type(value).__name__}, not text",
        where=where,
        value=repr(value)[:80],
        allowed="text, numbers, true, false, null",
        fix="name another column under `columns`, or flatten the data",
    )
