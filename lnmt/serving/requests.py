"""Request bodies as values. Every refusal names the field, what it may hold, and what to do."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request

from lnmt.serving.body import read_body
from lnmt.serving.limits import Limits
from lnmt.serving.problems import Problem

# C0 and C1 but tab, line feed, carriage return and next line
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")

MARKS = 30  # combining ones in a row


@dataclass(frozen=True)
class PredictRequest:
    """Texts to classify; `listed` where the caller sent a list and gets one back."""

    texts: list[str]
    user: str | None
    listed: bool


@dataclass(frozen=True)
class FeedbackRequest:
    """The true label of a prediction."""

    prediction_id: str
    label: str


async def read_object(request: Request, fields: Collection[str], limits: Limits) -> dict[str, Any]:
    """The JSON object of a request, holding no field but `fields`."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        fix = "send the header Content-Type: application/json"
        raise Problem(415, "the body must be JSON", where="Content-Type", allowed="application/json", fix=fix)
    body = await read_body(request.scope, request.receive, limits.body_bytes, limits.timeout_s)
    try:
        value = orjson.loads(body)  # a megabyte of numbers or names holds everybody up: 3 and 9 ms, by `json` 20 and 25
    except orjson.JSONDecodeError as error:  # not UTF-8, NaN and half of a surrogate pair too
        place = f"line {error.lineno} column {error.colno}"
        what = f"the body is not JSON: {error.msg}"
        raise Problem(400, what, where=place, allowed="UTF-8 JSON", fix="mend the JSON") from None
    if not isinstance(value, dict):
        raise Problem(422, "the body is not an object", where="body", allowed="a JSON object", fix=_form(fields))
    unknown = next((name for name in value if name not in fields), None)
    if unknown is not None:
        name = unknown[:100]
        near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
        fix = f"did you mean {near[0]!r}?" if near else f"leave it out; {_form(fields)}"
        raise Problem(422, "unknown field", where=name, allowed=", ".join(fields), fix=fix)
    return value


def parse_predict(value: Mapping[str, Any], limits: Limits) -> PredictRequest:
    """`{"text": str | [str], "user"?: str}`."""
    if "text" not in value:
        raise Problem(422, "the text is missing", where="text", allowed="a string, or a list of them", fix="add `text`")
    given = value["text"]
    listed = isinstance(given, list)
    return PredictRequest(
        texts=parse_texts(given if isinstance(given, list) else [given], limits, "text", listed=listed),
        user=parse_user(value.get("user"), limits, "user"),
        listed=listed,
    )


def parse_feedback(value: Mapping[str, Any]) -> FeedbackRequest:
    """`{"prediction_id": str, "label": str}`."""
    for field in ("prediction_id", "label"):
        if not isinstance(value.get(field), str):
            raise Problem(422, f"{field} is missing or not a string", where=field, allowed="a string", fix="send one")
    return FeedbackRequest(value["prediction_id"], value["label"])


def parse_texts(given: list[Any], limits: Limits, where: str, *, listed: bool) -> list[str]:
    """The texts of a list, each checked; `where` names the field in refusals."""
    if not 1 <= len(given) <= limits.rows:
        allowed = f"1 to {limits.rows} texts"
        fix = "send at least one, and long lists in parts"
        raise Problem(422, f"{len(given)} texts", where=where, allowed=allowed, fix=fix)
    return [_text(text, limits, f"{where}[{index}]" if listed else where) for index, text in enumerate(given)]


def parse_user(user: Any, limits: Limits, where: str) -> str | None:
    """The stickiness key: requests of one user stay in one arm."""
    if user is None:
        return None
    if not isinstance(user, str) or not 0 < len(user) <= limits.user_characters:
        allowed = f"a string of 1 to {limits.user_characters} characters, or nothing"
        raise Problem(422, "no user key", where=where, allowed=allowed, fix="send a short id, or leave the field out")
    return user


def _text(text: Any, limits: Limits, where: str) -> str:
    """The text in Unicode's form C: one string for what reads the same."""
    if not isinstance(text, str):
        raise Problem(422, "not a string", where=where, allowed="a string", fix="send the text as a JSON string")
    if len(text) > limits.characters:
        allowed = f"at most {limits.characters} characters"
        raise Problem(422, f"{len(text)} characters", where=where, allowed=allowed, fix="cut it, or send it in parts")
    if not text.strip():
        raise Problem(422, "the text is empty", where=where, allowed="a visible character", fix="send a text")
    if control := _CONTROL.search(text):
        what = f"control character U+{ord(control.group()):04X}"
        allowed = "tabs and line breaks among the control characters"
        fix = "leave it out; text from old Windows files is to be decoded as cp1252 first"
        raise Problem(422, what, where=where, allowed=allowed, fix=fix)
    if text.isascii():
        return text
    if unicodedata.is_normalized("NFC", text):
        return text
    _check_marks(text, where)
    return unicodedata.normalize("NFC", text)


def _check_marks(text: str, where: str) -> None:
    """Refuse what takes seconds to normalise: the order of marks is sorted one by one, in the square of their number.

    No language needs more than 30 in a row (Unicode Standard Annex #15, UAX15-D4: Stream-Safe Text Format).
    """
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > MARKS:
            fix = "leave out marks that are put on one letter"
            raise Problem(422, "too many combining marks", where=where, allowed=f"{MARKS} in a row", fix=fix)


def _form(fields: Collection[str]) -> str:
    return "send an object with " + ", ".join(fields)
