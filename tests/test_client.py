from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from lnmt.client import Answer, Client
from lnmt.errors import LnmtError, Transient

ROW = {
    "label": "positive",
    "scores": {"negative": 0.25, "positive": 0.75},
    "version": "sha256:1",
    "arm": "challenger",
    "prediction_id": "p1",
}
ANSWER = Answer("positive", {"negative": 0.25, "positive": 0.75}, "sha256:1", "challenger", "p1")


class Service:
    """Answers in turn, and keeps what it was sent."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        self.replies = list(replies)
        self.sent: list[tuple[str, str, Any]] = []
        self.slept: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.sent.append((request.method, request.url.path, body))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def client(self, **options: Any) -> Client:
        transport = httpx.MockTransport(self)
        return Client("http://127.0.0.1:3000", transport=transport, sleep=self.slept.append, **options)


def refusal(status: int, **headers: str) -> httpx.Response:
    body = {"error": "too much is waiting", "where": "queue", "allowed": None, "fix": "send again"}
    return httpx.Response(status, json=body, headers=headers)


def test_a_text_gets_an_answer() -> None:
    service = Service(httpx.Response(200, json=ROW), httpx.Response(200, json=ROW))
    with service.client() as client:
        assert client.predict("okay") == ANSWER
        assert client.predict("okay", user="anna") == ANSWER
    assert service.sent == [
        ("POST", "/predict", {"text": "okay"}),
        ("POST", "/predict", {"text": "okay", "user": "anna"}),
    ]


def test_a_list_gets_a_list_with_the_errors_of_its_rows() -> None:
    failed = {"error": "ValueError", "version": "sha256:1", "arm": "champion", "prediction_id": "p2"}
    service = Service(httpx.Response(200, json=[ROW, failed]))
    assert service.client().predict(["okay", "odd"]) == [
        ANSWER,
        Answer(None, {}, "sha256:1", "champion", "p2", "ValueError"),
    ]


def test_retries_wait_as_long_as_the_service_says() -> None:
    service = Service(
        refusal(429, **{"Retry-After": "3"}), refusal(503), httpx.ConnectError("refused"), httpx.Response(200, json=ROW)
    )
    assert service.client().predict("okay") == ANSWER
    assert service.slept == [3.0, 0.4, 0.8]


def test_a_wait_has_a_bound() -> None:
    service = Service(refusal(503, **{"Retry-After": "3600"}), httpx.Response(200, json=ROW))
    service.client(max_wait_s=2.0).predict("okay")
    assert service.slept == [2.0]


def test_a_date_is_not_followed() -> None:
    service = Service(refusal(503, **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), httpx.Response(200, json=ROW))
    service.client().predict("okay")
    assert service.slept == [0.2]


def test_a_busy_service_is_transient_in_the_end() -> None:
    service = Service(*(refusal(429, **{"Retry-After": "1"}) for _ in range(3)))
    with pytest.raises(Transient, match="429: too much is waiting") as failed:
        service.client(retries=2).predict("okay")
    assert (failed.value.where, failed.value.fix) == ("queue", "send again")
    assert len(service.slept) == 2


def test_a_refusal_is_not_tried_again() -> None:
    service = Service(refusal(422))
    with pytest.raises(LnmtError, match="422: too much is waiting") as failed:
        service.client().predict("okay")
    assert not isinstance(failed.value, Transient)
    assert len(service.sent) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"x"'])
def test_a_refusal_of_something_else_is_told_by_its_status(body: bytes) -> None:
    with pytest.raises(LnmtError, match="500: Internal Server Error"):
        Service(httpx.Response(500, content=body)).client().predict("okay")


def test_nothing_there_says_how_to_start_it() -> None:
    service = Service(httpx.ConnectError("refused"), httpx.ConnectError("refused"))
    with pytest.raises(Transient, match="cannot be reached") as failed:
        service.client(retries=1).predict("okay")
    assert failed.value.fix == "start it: lnmt serve"


def test_feedback_is_sent() -> None:
    service = Service(httpx.Response(200, json={}))
    service.client().feedback("p1", "negative")
    assert service.sent == [("POST", "/feedback", {"prediction_id": "p1", "label": "negative"})]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(httpx.Response(200), True), (httpx.Response(503), False), (httpx.ConnectError("refused"), False)],
)
def test_ready_asks_once(reply: httpx.Response | Exception, expected: bool) -> None:
    service = Service(reply)
    assert service.client().ready() is expected
    assert service.sent == [("GET", "/readyz", None)]


def test_a_proxy_is_not_asked_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://203.0.113.1:9")
    seen: list[bool] = []
    real: Callable[..., httpx.Client] = httpx.Client

    def spy(**options: Any) -> httpx.Client:
        seen.append(options["trust_env"])
        return real(**options)

    monkeypatch.setattr(httpx, "Client", spy)
    for url in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "http://example.test"):
        Client(url).close()
    assert seen == [False, False, False, True]
