from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Literal

import httpx
import pytest

from lnmt.client import Answer, AsyncClient, Client, ServedModel
from lnmt.errors import LnmtError, Transient

ROW = {
    "label": "positive",
    "scores": {"negative": 0.25, "positive": 0.75},
    "version": "sha256:1",
    "arm": "challenger",
    "prediction_id": "p1",
}
ANSWER = Answer("positive", {"negative": 0.25, "positive": 0.75}, "sha256:1", "challenger", "p1")
Kind = Literal["sync", "async"]


class Service:
    """Answers in turn, and keeps what it was sent. Time passes while a client sleeps, and not otherwise."""

    def __init__(self, kind: Kind, *replies: httpx.Response | Exception) -> None:
        self.kind = kind
        self.replies = list(replies)
        self.sent: list[tuple[str, str, Any]] = []
        self.requests: list[httpx.Request] = []
        self.slept: list[float] = []
        self.now = 1000.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.sent.append((request.method, request.url.path, body))
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def sleep(self, seconds: float) -> None:
        self.slept.append(float(seconds))
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def call(self, method: str, *given: Any, options: dict[str, Any] | None = None, **named: Any) -> Any:
        """Make one call of a new client, of either kind."""
        shared: dict[str, Any] = {"clock": lambda: self.now, "draw": lambda low, high: high, **(options or {})}
        transport = httpx.MockTransport(self)
        if self.kind == "sync":
            with Client("http://127.0.0.1:3000", transport=transport, sleep=self.sleep, **shared) as client:
                return getattr(client, method)(*given, **named)

        async def go() -> Any:
            async with AsyncClient(
                "http://127.0.0.1:3000", transport=transport, sleep=self.sleep_async, **shared
            ) as client:
                return await getattr(client, method)(*given, **named)

        return asyncio.run(go())


MakeService = Callable[..., Service]


@pytest.fixture(params=["sync", "async"])
def service(request: pytest.FixtureRequest) -> MakeService:
    return lambda *replies: Service(request.param, *replies)


def refusal(status: int, **headers: str) -> httpx.Response:
    body = {"error": "too much is waiting", "where": "queue", "allowed": None, "fix": "send again"}
    return httpx.Response(status, json=body, headers=headers)


def ok() -> httpx.Response:
    return httpx.Response(200, json=ROW)


# what is said and understood


def test_a_text_gets_an_answer(service: MakeService) -> None:
    one = service(ok(), ok(), ok())
    assert one.call("predict", "okay") == ANSWER
    assert one.call("predict", "okay", user="anna") == ANSWER
    assert one.call("predict", "okäy \ud800") == ANSWER
    assert one.sent == [
        ("POST", "/predict", {"text": "okay"}),
        ("POST", "/predict", {"text": "okay", "user": "anna"}),
        ("POST", "/predict", {"text": "okäy \ud800"}),
    ]
    assert {request.headers["Content-Type"] for request in one.requests} == {"application/json"}


def test_a_list_gets_a_list_with_what_became_of_each_row(service: MakeService) -> None:
    failed = {"error": "ValueError", "version": "sha256:1", "arm": "champion", "prediction_id": "p2"}
    reason = "the score is below 0.6"
    withheld = {**ROW, "label": None, "scores": {}, "withheld": reason, "prediction_id": "p3"}
    one = service(httpx.Response(200, json=[ROW, failed, withheld]))
    assert one.call("predict", ["okay", "odd", "unsure"]) == [
        ANSWER,
        Answer(None, {}, "sha256:1", "champion", "p2", "ValueError"),
        Answer(None, {}, "sha256:1", "challenger", "p3", withheld=reason),
    ]


def test_feedback_is_sent(service: MakeService) -> None:
    one = service(httpx.Response(200, json={}))
    one.call("feedback", "p1", "negative")
    assert one.sent == [("POST", "/feedback", {"prediction_id": "p1", "label": "negative"})]


def test_models_are_listed(service: MakeService) -> None:
    rows = [
        {"name": "a", "state": "ready", "generation": 3, "champion": "sha256:1", "bytes": 9, "more": 1},
        {"name": "b", "state": "cold", "generation": None, "champion": None, "bytes": 0},
    ]
    one = service(httpx.Response(200, json={"models": rows}))
    assert one.call("models") == [
        ServedModel("a", "ready", 3, "sha256:1", 9),
        ServedModel("b", "cold", None, None, 0),
    ]
    assert one.sent == [("GET", "/models", None)]


@pytest.mark.parametrize("status", [200, 503, None])
def test_ready_asks_once(service: MakeService, status: int | None) -> None:
    one = service(httpx.ConnectError("refused") if status is None else httpx.Response(status))
    assert one.call("ready") is (status == 200)
    assert one.sent == [("GET", "/readyz", None)]


# when to try again


def test_retries_wait_as_long_as_the_service_says_else_longer_each_time(service: MakeService) -> None:
    one = service(refusal(429, **{"Retry-After": "3"}), refusal(503), httpx.ConnectError("refused"), ok())
    assert one.call("predict", "okay") == ANSWER
    assert one.slept == [3.0, 0.4, 0.8]


def test_a_wait_that_nobody_names_is_drawn_below_a_bound(service: MakeService) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high / 2

    one = service(*(refusal(503) for _ in range(7)), ok())
    assert one.call("predict", "okay", options={"draw": draw, "retries": 7}) == ANSWER
    assert drawn == [(0.0, bound) for bound in (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)]
    assert one.slept == [bound / 2 for _, bound in drawn]


@pytest.mark.parametrize(
    ("said", "date", "waited"),
    [
        ("2.5", None, 2.5),
        ("0", None, 0.0),
        ("Wed, 21 Oct 2026 07:28:07 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 7.0),
        ("Wed Oct 21 07:28:07 2026", "Wed, 21 Oct 2026 07:28:00 GMT", 7.0),  # the oldest of the three forms of RFC 9110
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:07 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None, 0.0),  # past by any clock
        *((said, None, 0.2) for said in ("", "soon", "-1", "nan", "inf", "Wed, 99 Oct 2026 07:28:00 GMT")),
    ],
)
def test_retry_after_is_a_number_or_a_date(service: MakeService, said: str, date: str | None, waited: float) -> None:
    headers = {"Retry-After": said} if date is None else {"Retry-After": said, "Date": date}
    one = service(refusal(503, **headers), ok())
    assert one.call("predict", "okay") == ANSWER
    assert one.slept == [waited]


def test_a_wait_beyond_the_calls_time_is_not_begun(service: MakeService) -> None:
    one = service(refusal(503, **{"Retry-After": "20"}), refusal(503, **{"Retry-After": "11"}), ok())
    with pytest.raises(Transient, match="503"):
        one.call("predict", "okay", options={"timeout_s": 30.0})
    assert (one.slept, len(one.sent)) == ([20.0], 2)


def test_the_service_is_told_what_is_left_of_the_calls_time(service: MakeService) -> None:
    one = service(refusal(429, **{"Retry-After": "3"}), refusal(429, **{"Retry-After": "1.5"}), ok())
    one.call("predict", "okay", options={"timeout_s": 5.0})
    assert [request.headers["X-Request-Timeout-Ms"] for request in one.requests] == ["5000", "2000", "500"]
    assert [request.extensions["timeout"]["read"] for request in one.requests] == [5.0, 2.0, 0.5]


def test_a_busy_service_is_transient_in_the_end(service: MakeService) -> None:
    one = service(*(refusal(429, **{"Retry-After": "1"}) for _ in range(3)))
    with pytest.raises(Transient, match="429: too much is waiting") as failed:
        one.call("predict", "okay", options={"retries": 2})
    assert (failed.value.where, failed.value.fix) == ("queue", "send again")
    assert len(one.slept) == 2


def test_a_refusal_is_not_tried_again(service: MakeService) -> None:
    one = service(refusal(422))
    with pytest.raises(LnmtError, match="422: too much is waiting") as failed:
        one.call("predict", "okay")
    assert not isinstance(failed.value, Transient)
    assert len(one.sent) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"x"'])
def test_a_refusal_of_something_else_is_told_by_its_status(service: MakeService, body: bytes) -> None:
    with pytest.raises(LnmtError, match="500: Internal Server Error"):
        service(httpx.Response(500, content=body)).call("predict", "okay")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"x"', b'{"label": "positive"}', b"null"])
def test_an_answer_of_something_else_is_told(service: MakeService, body: bytes) -> None:
    with pytest.raises(LnmtError, match="what answered is not the service"):
        service(httpx.Response(200, content=body)).call("predict", "okay")


def test_an_answer_from_elsewhere_is_not_followed(service: MakeService) -> None:
    one = service(httpx.Response(307, headers={"Location": "http://203.0.113.1/predict"}))
    with pytest.raises(LnmtError, match="307"):
        one.call("predict", "okay")
    assert len(one.sent) == 1


def test_nothing_there_says_how_to_start_it(service: MakeService) -> None:
    one = service(httpx.ConnectError("refused"), httpx.ConnectError("refused"))
    with pytest.raises(Transient, match="cannot be reached") as failed:
        one.call("predict", "okay", options={"retries": 1})
    assert failed.value.fix == "start it: lnmt serve"


def test_no_answer_in_time_says_so(service: MakeService) -> None:
    with pytest.raises(Transient, match="did not answer in time"):
        service(httpx.ReadTimeout("")).call("predict", "okay", options={"retries": 0})


def test_what_no_retry_mends_is_not_retried(service: MakeService) -> None:
    one = service(httpx.LocalProtocolError("illegal header"))
    with pytest.raises(LnmtError, match="cannot be talked to") as failed:
        one.call("predict", "okay")
    assert not isinstance(failed.value, Transient)
    assert len(one.sent) == 1


@pytest.mark.parametrize("error", [httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError])
def test_a_connection_that_breaks_is_replaced_at_once_and_once(
    service: MakeService, error: type[httpx.TransportError]
) -> None:
    one = service(error("closed"), ok())
    assert one.call("predict", "okay", options={"retries": 0}) == ANSWER
    assert one.slept == [0.0]
    again = service(error("closed"), error("closed"))
    with pytest.raises(Transient, match="cannot be reached"):
        again.call("predict", "okay", options={"retries": 0})


# keys, addresses, proxies


@pytest.mark.parametrize(
    ("given", "environment", "sent"),
    [(None, None, None), ("k1", None, "k1"), (None, "k2", "k2"), ("k1", "k2", "k1"), (None, "", None)],
)
def test_the_key_is_sent_as_a_bearer(
    service: MakeService,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    environment: str | None,
    sent: str | None,
) -> None:
    if environment is not None:
        monkeypatch.setenv("LNMT_API_KEY", environment)
    one = service(ok())
    one.call("predict", "okay", options={"api_key": given})
    assert one.requests[0].headers.get("Authorization") == (None if sent is None else f"Bearer {sent}")


@pytest.mark.parametrize("key", ["secret\n", "sec ret", "sécret"])
def test_what_is_no_key_is_told_without_showing_it(key: str) -> None:
    with pytest.raises(LnmtError, match="not an API key") as failed:
        Client("http://127.0.0.1:3000", api_key=key)
    assert key.strip() not in str(failed.value)


@pytest.mark.parametrize("url", ["localhost:3000", "", "http://", "ftp://example.test"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(LnmtError, match="not the address of a service"):
        AsyncClient(url)


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
