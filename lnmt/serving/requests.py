"""What callers send, checked. Every refusal names the field, what it may hold, and what to do."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import msgspec

from lnmt.serving.forms import Form
from lnmt.serving.limits import Limits
from lnmt.serving.problems import Problem

# C0 and C1 but tab, line feed, carriage return and next line
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")

MARKS = 30  # combining ones in a row


class PredictBody(msgspec.Struct, forbid_unknown_fields=True):
    """`{"text": str | [str], "user"?: str}`."""

    text: str | list[str]
    user: str | None = None


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """The true label of a prediction: `{"prediction_id": str, "label": str}`."""

    prediction_id: str
    label: str


PREDICT = Form(PredictBody, '{"text": "…"}, or {"text": ["…", "…"]}')
FEEDBACK = Form(FeedbackBody, '{"prediction_id": "…", "label": "…"}')


@dataclass(frozen=True)
class PredictRequest:
    """Texts to classify; `listed` where the caller sent a list and gets one back."""

    texts: list[str]
    user: str | None
    listed: bool


def parse_predict(body: PredictBody, limits: Limits) -> PredictRequest:
    """The texts and the user, within the limits."""
    listed = isinstance(body.text, list)
    return PredictRequest(
        texts=parse_texts(body.text if isinstance(body.text, list) else [body.text], limits, "text", listed=listed),
        user=parse_user(body.user, limits, "user"),
        listed=listed,
    )


def check_rows(count: int, limits: Limits, where: str) -> None:
    """Refuse a list of no texts, or of too many."""
    if not 1 <= count <= limits.rows:
        allowed = f"1 to {limits.rows} texts"
        fix = "send at least one, and long lists in parts"
        raise Problem(422, f"{count} texts", where=where, allowed=allowed, fix=fix)


def parse_texts(given: list[str], limits: Limits, where: str, *, listed: bool) -> list[str]:
    """The texts of a list, each checked; `where` names the field in refusals."""
    check_rows(len(given), limits, where)
    return [_text(text, limits, f"{where}[{index}]" if listed else where) for index, text in enumerate(given)]


def parse_user(user: str | None, limits: Limits, where: str) -> str | None:
    """The stickiness key: requests of one user stay in one arm."""
    if user is not None and not 0 < len(user) <= limits.user_characters:
        allowed = f"a string of 1 to {limits.user_characters} characters, or nothing"
        raise Problem(422, "no user key", where=where, allowed=allowed, fix="send a short id, or leave the field out")
    return user


def _text(text: str, limits: Limits, where: str) -> str:
    """The text in Unicode's form C: one string for what reads the same."""
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
