"""JSON: one object a line, or one array of objects, read piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lnmt.data.sources.compressed import text_blocks, text_lines
from lnmt.data.sources.rows import Row
from lnmt.errors import LnmtError

MAX_ITEM_CHARACTERS = 256 * 2**20
_BETWEEN = re.compile(r"[\s,]*")


def json_lines(path: Path, encoding: str) -> Iterator[Row]:
    """The objects of a file with one a line; empty lines are passed over."""
    for number, line in enumerate(text_lines(path, encoding), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                value = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise _not_json(place, line, error, "one JSON object a line") from error
            yield place, _object(value, place)


def json_objects(path: Path, encoding: str) -> Iterator[Row]:
    """The objects of a file that is one array, or that has one object a line."""
    first = next((block.lstrip()[:1] for block in text_blocks(path, encoding) if block.strip()), "")
    if first == "[":
        yield from _array(path, encoding)
    else:
        yield from json_lines(path, encoding)


def _array(path: Path, encoding: str) -> Iterator[Row]:
    """Decode item after item, reading on where one is not whole yet."""
    decoder = json.JSONDecoder()
    blocks = text_blocks(path, encoding)
    text, at, number = "", 0, 0
    while not text.strip():
        text += next(blocks)
    at = text.index("[") + 1
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
        place = f"{path}, item {number + 1}"
        try:
            if text.startswith("]", at):
                return
            value, at = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            # A string that has no end here may have it in the next block; other errors inside the text are final.
            inside = isinstance(error, json.JSONDecodeError) and error.pos < len(text) - 16
            final = inside and "Unterminated string" not in str(error)
            more = None if final or len(text) - at > MAX_ITEM_CHARACTERS else next(blocks, None)
            if more is None:
                raise _not_json(place, text[at:], error, "an array of objects") from error
            text, at = text[at:] + more, 0
            continue
        number += 1
        yield place, _object(value, place)


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise LnmtError(
            f"a row is {type(value).__name__}, not an object",
            where=place,
            value=repr(value)[:80],
            allowed='objects: {"text": …, "label": …}',
            fix="write every row as an object with named values",
        )
    return value


def _not_json(place: str, text: str, error: Exception, allowed: str) -> LnmtError:
    return LnmtError(
        f"not JSON: {error}",
        where=place,
        value=repr(text[:80]),
        allowed=allowed,
        fix="mend the place; a file that stops here was cut off: copy it again",
    )
