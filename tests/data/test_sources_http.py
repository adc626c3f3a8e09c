"""The `http` source, against a real local server."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from lnmt.data.sources.http import HttpReader
from lnmt.errors import LnmtError, Transient
from lnmt.params import HttpSource
from tests.data.sources_kit import context_in
from tests.http_server import Reply, Request, serve

ROWS = [{"text": f"text {n}", "label": n % 2, "shop": "a"} for n in range(5)]


def reply(value: Any, **changes: Any) -> Reply:
    return Reply(json.dumps(value).encode(), **changes)


class Reader:
    """An `http` source whose waits are noted instead of waited."""

    def __init__(self, project: Path, url: str, **changes: Any) -> None:
        self.waits: list[float] = []
        entry: dict[str, Any] = {
            "kind": "http",
            "url": url,
            "headers": {},
            "items": "data.rows",
            "next": "next",
            "cursor_parameter": None,
            "timeout_s": 5,
            "set": {},
            "columns": {"text": "text", "label": "label", "id": None},
            "bins": None,
        }
        source = HttpSource.model_validate(entry | changes)
        self.reader = HttpReader(source, ["shop"], context_in(project), sleep=self.waits.append)

    def rows(self) -> list[dict[str, Any]]:
        (part,) = self.reader.parts()
        return [row for batch in part.read(part.wanted) for row in batch.to_pylist()]

    def failure(self) -> LnmtError:
        with pytest.raises(LnmtError) as caught:
            self.rows()
        return caught.value


CANONICAL = [{"text": f"text {n}", "label": str(n % 2), "shop": "a"} for n in range(5)]


def test_pages_by_next_url(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        page = int(request.query.get("page", 0))
        following = f"/rows?page={page + 1}" if page < 2 else None
        return reply({"data": {"rows": ROWS[2 * page : 2 * page + 2]}, "next": following})

    with serve(answer) as url:
        assert Reader(tmp_path, f"{url}/rows").rows() == CANONICAL


def test_pages_by_cursor_keep_the_query(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        assert request.query["size"] == "2"
        start = int(request.query.get("after", 0))
        return reply({"items": ROWS[start : start + 2], "meta": {"cursor": start + 2} if start + 2 < len(ROWS) else {}})

    with serve(answer) as url:
        reader = Reader(tmp_path, f"{url}/r?size=2", items="items", next="meta.cursor", cursor_parameter="after")
        assert reader.rows() == CANONICAL


def test_a_single_page_that_is_the_list(tmp_path: Path) -> None:
    with serve(lambda _: reply(ROWS)) as url:
        assert Reader(tmp_path, url, items=None, next=None).rows() == CANONICAL


def test_headers_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "Bearer s3cret")

    def answer(request: Request) -> Reply:
        return reply(
            {"data": {"rows": ROWS}}, status=200 if request.headers["Authorization"] == "Bearer s3cret" else 401
        )

    with serve(answer) as url:
        assert Reader(tmp_path, url, headers={"Authorization": "env:KEY"}).rows() == CANONICAL
        error = Reader(tmp_path, f"{url}/?token=abc", headers={"Authorization": "no"}).failure()
    assert error.what == "the API answers 401 Unauthorized"
    assert error.exit_code == 1
    assert "abc" not in str(error)


def test_a_busy_server_is_asked_again_when_it_says(tmp_path: Path) -> None:
    replies = [
        Reply(status=429, headers={"Retry-After": "7"}),
        Reply(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Reply(status=500),
        Reply(status=429, headers={"Retry-After": "86400"}),
        reply({"data": {"rows": ROWS}}),
    ]
    with serve(lambda _: replies.pop(0)) as url:
        reader = Reader(tmp_path, url)
        assert reader.rows() == CANONICAL
    assert reader.waits == [7.0, 0.0, 2.0, 60.0]


def test_a_server_that_stays_busy(tmp_path: Path) -> None:
    with serve(lambda _: Reply(status=503)) as url:
        reader = Reader(tmp_path, url)
        error = reader.failure()
    assert isinstance(error, Transient)
    assert error.what == "the API gave no answer in 5 attempts: 503 Service Unavailable"
    assert reader.waits == [0.5, 1.0, 2.0, 4.0]


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening
        error = Reader(tmp_path, f"http://127.0.0.1:{held.getsockname()[1]}/rows").failure()
    assert isinstance(error, Transient)


@pytest.mark.parametrize(
    ("page", "what"),
    [
        ({"rows": []}, "no 'data' in the page"),
        ({"data": {"rows": {}}}, "items is dict"),
        ({"data": {"rows": [1]}}, "item 1 is int"),
        ({"data": {"rows": ROWS}, "next": 3}, "next is int"),
        ({"data": {"rows": ROWS}, "next": "/"}, "the pages go in a circle"),
        ({"data": {"rows": ROWS}, "next": "http://other.example/"}, "the next page is on another host"),
        ({"data": {"rows": [{"txt": "a", "label": 1}]}}, "no column 'text'"),
    ],
)
def test_a_page_that_does_not_fit(tmp_path: Path, page: Any, what: str) -> None:
    with serve(lambda _: reply(page)) as url:
        error = Reader(tmp_path, f"{url}/").failure()
    assert error.what == what
    assert str(error.where).startswith("http://127.0.0.1:")


def test_an_answer_that_is_not_json(tmp_path: Path) -> None:
    with serve(lambda _: Reply(b"<html>")) as url:
        error = Reader(tmp_path, url).failure()
    assert error.what.startswith("the API's answer is not JSON")
    assert error.value == "b'<html>'"
