"""JSON bodies as values of known types.

A body is parsed as the type that is wanted, and only so far as it is of that type: a megabyte of lists would
otherwise hold the whole event loop up while they are made, only to be refused.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import msgspec
from starlette.requests import Request

from lnmt.serving.body import read_body
from lnmt.serving.limits import Limits
from lnmt.serving.problems import Problem

T = TypeVar("T", bound=msgspec.Struct)

# msgspec tells what is wrong in words alone; a name in them may be a megabyte, so no pattern is run over it
_UNKNOWN = "Object contains unknown field `"
_MISSING = "Object missing required field `"
_WRONG = "Expected "
_BYTE = re.compile(r"(.*) \(byte (\d+)\)")
_WORDS = {
    "`str`": "a string",
    "`int`": "a whole number",
    "`array`": "a list",
    "`object`": "an object",
    "`object | null`": "an object, or null",
    "`array | null`": "a list, or null",
    "`str | null`": "a string, or null",
    "`str | array`": "a string, or a list of them",
    "`array` of length 1": "a list of one",
}
MOST = 100  # characters of a name that are said


@dataclass(frozen=True)
class Form(Generic[T]):
    """What a body should hold, and how one looks that is right."""

    type: type[T]
    example: str

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[T]:
        """Of bytes."""
        return msgspec.json.Decoder(self.type)


async def read_form(request: Request, form: Form[T], limits: Limits) -> T:
    """The body of a request. Raises Problem 415, 408, 413, 400 or 422, which names the field."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        fix = "send the header Content-Type: application/json"
        raise Problem(415, "the body must be JSON", where="Content-Type", allowed="application/json", fix=fix)
    return parse_form(await read_body(request.scope, request.receive, limits.body_bytes, limits.timeout_s), form)


def parse_form(body: bytes, form: Form[T]) -> T:
    """The value. Raises Problem 400 where it is not JSON, 422 where it is something else than the form says."""
    try:
        return form.decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _mismatch(str(error), form) from None
    except msgspec.DecodeError as error:  # NaN and half of a surrogate pair too
        told = _BYTE.fullmatch(str(error))
        raise _malformed(told[1] if told else str(error), _place(body, int(told[2]) if told else len(body))) from None
    except UnicodeDecodeError as error:
        raise _malformed(f"not UTF-8: {error.reason}", "body") from None
    except RecursionError:
        raise _malformed("nested too deeply", "body") from None


def _malformed(what: str, place: str) -> Problem:
    what = f"the body is not JSON: {what.removeprefix('JSON is malformed: ')}"
    return Problem(400, what, where=place, allowed="UTF-8 JSON", fix="mend the JSON")


def _place(body: bytes, at: int) -> str:
    line, column = body.count(b"\n", 0, at) + 1, at - body.rfind(b"\n", 0, at)
    return f"line {line} column {column}"


def _mismatch(told: str, form: Form[T]) -> Problem:
    """What msgspec says, in our words."""
    fix = f"send {form.example}"
    if told.startswith(_UNKNOWN):  # of the body: what else tensors and parameters hold is passed over
        name, fields = told[len(_UNKNOWN) : -1][:MOST], [field.name for field in msgspec.structs.fields(form.type)]
        near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
        fix = f"did you mean {near[0]!r}?" if near else f"leave it out; {fix}"
        return Problem(422, "unknown field", where=name, allowed=", ".join(fields), fix=fix)
    what, _, place = told.partition(" - at `$")
    place = place.strip(".`")
    if what.startswith(_MISSING):
        name = what[len(_MISSING) : -1]
        return Problem(422, f"the {name} is missing", where=f"{place}.{name}".lstrip("."), fix=fix)
    if what.startswith(_WRONG):
        wanted = what[len(_WRONG) :].partition(", got ")[0]
        allowed = _WORDS.get(wanted, wanted.replace("`", ""))
        return Problem(422, f"not {allowed}", where=place or "body", allowed=allowed, fix=fix)
    return Problem(422, what.lower(), where=place or "body", fix=fix)  # a number out of range
