from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from lnmt.observability.logging import configure, get_logger, silence, take_over


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure(stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_line_of_json(stream: io.StringIO) -> None:
    get_logger("lnmt.test").info("it happened", count=3, where="a\r\nforged line \x1b[31m\u2028 é")
    [line] = lines(stream)
    assert stream.getvalue().count("\n") == 1
    assert all(32 <= ord(character) < 127 for character in stream.getvalue().rstrip("\n"))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "it happened",
        "count": 3,
        "where": "a\r\nforged line \x1b[31m\u2028 é",
        "level": "info",
        "logger": "lnmt.test",
    }


def test_the_standard_librarys_records_are_the_same(stream: io.StringIO) -> None:
    logging.getLogger("a.library").warning("odd: %s", "x\ny")
    [line] = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("odd: x\ny", "warning", "a.library")


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


def test_fields_of_requests_are_withheld(stream: io.StringIO) -> None:
    get_logger("lnmt.test").info("a plugin spoke", text="private", inputs=["private"])
    [line] = lines(stream)
    assert (line["text"], line["inputs"]) == ("[withheld]", "[withheld]")


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
