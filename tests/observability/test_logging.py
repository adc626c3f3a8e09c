from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.observability.logging import configure, get_logger, silence, take_over
from lnmt.observability.plain import DEPTH, FIELD, ITEMS, NAME, RECORD

BREAKING = [*"\r\n\x00\x07\x0b\x0c\x1b\x7f\x85\x9b\u2028\u2029\ufeff\ud800\udfff", "\r\n", '"}\n{"event": "forged"}']
texts = st.lists(st.sampled_from(BREAKING) | st.characters() | st.text(max_size=5), max_size=8).map("".join)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=8) | st.complex_numbers()
fields = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.frozensets(scalars, max_size=3)
        | st.dictionaries(texts | st.integers() | st.none() | st.tuples(texts), inner, max_size=4)
    ),
    max_leaves=12,
)
FOREIGN = ["uvicorn.error", "bentoml", "asyncio", "a\nlogger\x1b[0m"]


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("private")


@contextmanager
def captured() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    names = [*FOREIGN, "uvicorn"]  # in the suite Prefect gave some of them handlers of its own, and parents
    libraries = [logging.getLogger(name) for name in names]
    before = [(one, list(one.handlers), one.level, one.propagate) for one in (root, *libraries)]
    stream = io.StringIO()
    configure(stream=stream)
    take_over(names)
    for library in libraries:
        library.setLevel(logging.NOTSET)
    try:
        yield stream
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with captured() as stream:
        yield stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def only_line(stream: io.StringIO) -> dict[str, Any]:
    """The one line there is: printable ASCII, JSON of the strictest kind, whole characters, bounded."""
    written = stream.getvalue()
    assert written.endswith("\n")
    assert all(32 <= ord(character) < 127 for character in written[:-1])
    assert len(written) < 20 * RECORD

    def no_number(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(written, parse_constant=no_number)
    json.dumps(found, ensure_ascii=False).encode("utf-8")  # no half of a surrogate pair
    assert isinstance(found, dict)
    return found


def test_a_record_is_one_line_of_json(stream: io.StringIO) -> None:
    get_logger("lnmt.test").info("it happened", count=3, where="a\r\nforged line \x1b[31m\u2028 é")
    line = only_line(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "it happened",
        "count": 3,
        "where": "a\r\nforged line \x1b[31m\u2028 é",
        "level": "info",
        "logger": "lnmt.test",
    }


@given(event=texts, given_fields=st.dictionaries(texts, fields, max_size=4))
def test_no_field_breaks_the_line(event: str, given_fields: dict[str, Any]) -> None:
    with captured() as stream:
        get_logger("lnmt.test").bind(**given_fields).warning(event)
        line = only_line(stream)
    assert (line["level"], line["logger"]) == ("warning", "lnmt.test")


@given(name=st.sampled_from(FOREIGN), event=texts, value=fields, key=texts, field=fields)
def test_no_record_of_a_library_breaks_the_line(name: str, event: str, value: Any, key: str, field: Any) -> None:
    with captured() as stream:
        logging.getLogger(name).error("%s" + event.replace("%", "%%"), value, extra={f"x{key}": field})
        line = only_line(stream)
    assert line["level"] == "error"
    assert line["logger"].startswith(name[:1])


@given(message=texts, name=texts, library=st.booleans())
def test_no_error_breaks_the_line(message: str, name: str, library: bool) -> None:
    kind = type(name.replace("\x00", "") or "Odd", (Exception,), {}) if _encodes(name) else ValueError
    with captured() as stream:
        try:
            raise kind(message)
        except Exception:
            if library:
                logging.getLogger("uvicorn.error").exception("it failed", stack_info=True)
            else:
                get_logger("lnmt.test").exception("it failed")
        line = only_line(stream)
    assert line["error"] == kind.__name__
    assert "test_no_error_breaks_the_line" in line["frames"][-1]


def _encodes(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def test_a_value_has_a_bound() -> None:
    huge, deep = 10**10_000, [0]
    for _ in range(200):
        deep = [deep]  # type: ignore[list-item]
    with captured() as stream:
        get_logger("lnmt.test").info("odd", long="a" * 10_000_000, many=list(range(10**6)), huge=huge, deep=deep)
        line = only_line(stream)
    assert line["long"] == "a" * FIELD + f"… {10_000_000 - FIELD} more"
    assert line["many"] == [*range(ITEMS), f"… {10**6 - ITEMS} more"]
    assert line["huge"].startswith("0x")
    assert len(line["huge"]) < FIELD + 30
    assert json.dumps(line["deep"]).startswith("[" * DEPTH + '"')


def test_a_record_has_a_bound_that_leaves_its_event(stream: io.StringIO) -> None:
    get_logger("lnmt.test").info("odd", **{f"{number} {'k' * 1000}": "v" * 10_000 for number in range(100)})
    line = only_line(stream)
    assert (line["event"], line["level"], line["logger"]) == ("odd", "info", "lnmt.test")
    assert max(len(name) for name in line) < NAME + 20
    assert line["…"].endswith(" more")


def test_what_has_no_text_is_told_by_its_type(stream: io.StringIO) -> None:
    get_logger("lnmt.test").info("odd", field=Unprintable(), loop=float("nan"))
    line = only_line(stream)
    assert (line["field"], line["loop"]) == ("<Unprintable>", "nan")
    itself: dict[str, Any] = {}
    itself["itself"] = itself
    get_logger("lnmt.test").info("odd", field=itself)
    assert len(lines(stream)) == 2


def test_a_record_that_cannot_be_made_is_told_without_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    with captured() as stream:
        logging.getLogger("a.library").warning("%d texts", "very private\n")
        line = only_line(stream)
    assert (line["event"], line["logger"]) == ("a log record could not be written", "a.library")
    assert line["error"] == "TypeError"
    assert "test_logging.py:" in line["where"]
    assert "private" not in json.dumps(line)
    assert capsys.readouterr() == ("", "")


def test_a_stream_that_has_gone_stops_nothing(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.write("")
    logging.getLogger("a.library").warning("unheard")
    get_logger("lnmt.test").warning("unheard")
    assert capsys.readouterr() == ("", "")


def test_the_standard_librarys_records_are_the_same(stream: io.StringIO) -> None:
    logging.getLogger("a.library").warning("odd: %s", "x\ny", extra={"color_message": "\x1b[31modd"})
    line = only_line(stream)
    assert line.pop("timestamp")
    assert line == {"event": "odd: x\ny", "level": "warning", "logger": "a.library"}


@pytest.mark.parametrize("library", [False, True])
def test_an_error_has_its_place_and_not_its_message(stream: io.StringIO, library: bool) -> None:
    try:
        int("very private")
    except ValueError:
        if library:
            logging.getLogger("a.library").exception("it failed")
        else:
            get_logger("lnmt.test").exception("it failed")
    [line] = lines(stream)
    assert line["error"] == "ValueError"
    assert line["frames"][-1].endswith("test_an_error_has_its_place_and_not_its_message")
    assert "private" not in stream.getvalue()


def test_fields_of_requests_are_withheld_at_every_depth(stream: io.StringIO) -> None:
    get_logger("lnmt.test").info("a plugin spoke", text="private", inputs=["private"], job=[{"Text": "private"}])
    [line] = lines(stream)
    assert (line["text"], line["inputs"], line["job"]) == ("[withheld]", "[withheld]", [{"Text": "[withheld]"}])


def test_libraries_with_handlers_of_their_own_are_taken_over(stream: io.StringIO) -> None:
    library = logging.getLogger("loud.library")
    own = io.StringIO()
    library.addHandler(logging.StreamHandler(own))
    library.propagate, library.disabled = False, True
    take_over(["loud.library"])
    silence(["loud.library"])
    library.warning("here")
    library.info("not here")
    assert own.getvalue() == ""
    assert [line["event"] for line in lines(stream)] == ["here"]


def test_nothing_is_said_below_a_warning_before_it_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("lnmt.quiet").info("unheard")
    assert capsys.readouterr() == ("", "")
