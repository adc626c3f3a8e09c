"""A Python client of the service: one file, typed answers, retries that do as the service asks.

with Client("http://127.0.0.1:3000") as client:
    answer = client.predict("A fine film.")
    client.feedback(answer.prediction_id, "positive")

What is sent, what a reply means and when to try again stands once, in `_Call`, which touches no network;
`Client` and `AsyncClient` do as it says.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import os
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Generic, Literal, Self, TypeVar, overload

import httpx

from lnmt.errors import LnmtError, Transient
from lnmt.types import Arm

T = TypeVar("T")

RETRIED = frozenset({429, 502, 503, 504})
BACKOFF_S, BACKOFF_MAX_S = 0.2, 5.0
LONGEST_MS = 999_999_999  # that the service reads
# All may stay open (httpx keeps 20), idle for less than the 5 s after which uvicorn closes a connection.
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=4.0)
BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)  # the connection, under way


@dataclass(frozen=True)
class Answer:
    """One text's answer. `label` is None, and `error` or `withheld` says why, where it failed or none is told."""

    label: str | None
    scores: dict[str, float]  # by label
    version: str  # digest of the bundle that answered
    arm: Arm
    prediction_id: str
    error: str | None = None
    withheld: str | None = None


@dataclass(frozen=True)
class ServedModel:
    """One model that the service has. `generation` and `champion` are known while it is loaded."""

    name: str
    state: Literal["cold", "loading", "ready", "failed", "unloaded"]
    generation: int | None  # of its deployment
    champion: str | None  # digest of its bundle
    bytes: int  # of memory that it takes


class Client:
    """Talks to one service; keeps connections open. Several threads may share it.

    `timeout_s` bounds a whole call, its retries and waits included; the service is told what is left of it,
    and does not begin what would come too late. (A single wait for the network is bounded by what was left
    when its try began.) `retries` more tries are made where the service is busy or cannot be reached: after
    the time that its Retry-After says, else a random one below 0.2 s, 0.4 s, … 5 s. `api_key`: or LNMT_API_KEY.

    >>> with Client(url) as client:
    ...     answer = client.predict("A fine film.")
    ...     client.feedback(answer.prediction_id, "positive")
    ...     answer.label, client.ready(), [model.name for model in client.models()]
    ('positive', True, ['sentiment'])
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._sleep = sleep
        self._http = httpx.Client(transport=transport, **_options(base_url, api_key, timeout_s))
        self._calls = _Calls(self._http.build_request, timeout_s, retries, clock, draw)

    @overload
    def predict(self, text: str, *, user: str | None = None) -> Answer: ...
    @overload
    def predict(self, text: list[str], *, user: str | None = None) -> list[Answer]: ...

    def predict(self, text: str | list[str], *, user: str | None = None) -> Answer | list[Answer]:
        """Classify a text, or a list of them; requests of one `user` stay in one arm.

        Raises LnmtError where the service refuses, with what to change, and Transient where it stays
        busy or out of reach.

        >>> with Client(url) as client:
        ...     [answer.label for answer in client.predict(["A fine film.", "A dull one."], user="anna")]
        ['positive', 'negative']
        """
        return self._run(self._calls.predict(text, user))

    def feedback(self, prediction_id: str, label: str) -> None:
        """Tell a prediction's true label; again changes nothing, another label corrects it."""
        self._run(self._calls.feedback(prediction_id, label))

    def models(self) -> list[ServedModel]:
        """The models that the service has or could load."""
        return self._run(self._calls.models())

    def ready(self) -> bool:
        """True where a model is loaded and warm. Asks once; False too where nothing answers."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.RequestError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, call: _Call[T]) -> T:
        while True:
            try:
                found = call.judge(self._http.send(call.request()))
            except httpx.RequestError as error:
                found = call.judge(error)
            if not isinstance(found, _Again):
                return found
            self._sleep(found)


class AsyncClient:
    """`Client` for asyncio, with the same parameters; as many calls at once as there are tasks, over at most
    100 connections. `timeout_s` bounds a call to the moment.

    >>> async def ask() -> list[str | None]:
    ...     async with AsyncClient(url) as client:
    ...         return [answer.label async for answer in client.map(["A fine film.", "A dull one."])]
    >>> asyncio.run(ask())
    ['positive', 'negative']
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._sleep = sleep
        self._http = httpx.AsyncClient(transport=transport, **_options(base_url, api_key, timeout_s))
        self._calls = _Calls(self._http.build_request, timeout_s, retries, clock, draw)

    @overload
    async def predict(self, text: str, *, user: str | None = None) -> Answer: ...
    @overload
    async def predict(self, text: list[str], *, user: str | None = None) -> list[Answer]: ...

    async def predict(self, text: str | list[str], *, user: str | None = None) -> Answer | list[Answer]:
        """As `Client.predict`."""
        return await self._run(self._calls.predict(text, user))

    async def map(self, texts: Iterable[str], *, concurrency: int = 32) -> AsyncIterator[Answer]:
        """The answer to each text, in their order, `concurrency` requests at a time.

        A text is taken when there is room for its request, so that neither texts nor answers need fit in
        memory. Raises as `predict` does, in the place of the text that failed; the rest is given up.
        """
        if concurrency < 1:
            raise LnmtError("no request may be sent", where="concurrency", value=concurrency, allowed="at least 1")
        waiting: deque[asyncio.Task[Answer]] = deque()
        try:
            for text in texts:
                if len(waiting) == concurrency:
                    yield await waiting.popleft()
                waiting.append(asyncio.create_task(self.predict(text)))
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def feedback(self, prediction_id: str, label: str) -> None:
        """As `Client.feedback`."""
        await self._run(self._calls.feedback(prediction_id, label))

    async def models(self) -> list[ServedModel]:
        """As `Client.models`."""
        return await self._run(self._calls.models())

    async def ready(self) -> bool:
        """As `Client.ready`."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx.RequestError:
            return False

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _run(self, call: _Call[T]) -> T:
        while True:
            request = call.request()
            try:
                async with asyncio.timeout(call.left_s):
                    found = call.judge(await self._http.send(request))
            except TimeoutError:
                found = call.judge(httpx.ReadTimeout("", request=request))
            except httpx.RequestError as error:
                found = call.judge(error)
            if not isinstance(found, _Again):
                return found
            await self._sleep(found)


class _Again(float):
    """Seconds after which a call is to be tried again."""


@dataclass(frozen=True)
class _Calls:
    """The calls that can be made, and what all of them keep to."""

    build: Callable[..., httpx.Request]
    timeout_s: float
    retries: int
    clock: Callable[[], float]
    draw: Callable[[float, float], float]

    def predict(self, text: str | list[str], user: str | None) -> _Call[Answer | list[Answer]]:
        body = {"text": text} if user is None else {"text": text, "user": user}
        if isinstance(text, str):
            return _Call(self, "POST", "/predict", body, _answer)
        return _Call(self, "POST", "/predict", body, lambda found: [_answer(row) for row in found])

    def feedback(self, prediction_id: str, label: str) -> _Call[None]:
        return _Call(self, "POST", "/feedback", {"prediction_id": prediction_id, "label": label}, lambda found: None)

    def models(self) -> _Call[list[ServedModel]]:
        return _Call(self, "GET", "/models", None, lambda found: [_model(row) for row in found["models"]])


class _Call(Generic[T]):
    """One call: what to send next, and what to make of what came of it.

    Any may be made again: a repeated prediction is one more, feedback is idempotent (RFC 9110, §9.2.2).
    """

    def __init__(self, rules: _Calls, method: str, path: str, body: Any, read: Callable[[Any], T]) -> None:
        self._rules = rules
        self._method, self._path = method, path
        self._body = None if body is None else json.dumps(body).encode("ascii")  # escapes: any text can be sent
        self._read = read
        self._deadline = rules.clock() + rules.timeout_s
        self._tries, self._broken = 0, False

    @property
    def left_s(self) -> float:
        return max(self._deadline - self._rules.clock(), 0.001)

    def request(self) -> httpx.Request:
        left_s = self.left_s
        headers = {"X-Request-Timeout-Ms": str(min(math.ceil(left_s * 1000), LONGEST_MS))}
        if self._body is not None:
            headers["Content-Type"] = "application/json"
        return self._rules.build(self._method, self._path, content=self._body, headers=headers, timeout=left_s)

    def judge(self, outcome: httpx.Response | httpx.RequestError) -> T | _Again:
        """The answer, or when to try again. Raises what the call ends in otherwise.

        Waits that the service does not name have "full jitter" (Brooker, Exponential Backoff And Jitter,
        AWS Architecture Blog, 2015), so that clients who failed together do not come back together.
        """
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return self._content(outcome)
        if isinstance(outcome, BROKEN) and not self._broken:
            self._broken = True  # most likely an idle connection that the service had just closed
            return _Again(0)
        rules = self._rules
        failure, wait_s = _failure(outcome)
        if wait_s is None:
            wait_s = rules.draw(0.0, min(BACKOFF_MAX_S, BACKOFF_S * 2**self._tries))
        self._tries += 1
        late = rules.clock() + wait_s >= self._deadline
        if late or self._tries > rules.retries or not isinstance(failure, Transient):
            raise failure
        return _Again(wait_s)

    def _content(self, reply: httpx.Response) -> T:
        try:
            return self._read(reply.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            fix = "look at the address: `lnmt serve` tells it"
            raise LnmtError("what answered is not the service", where=reply.url, fix=fix) from error


def _failure(outcome: httpx.Response | httpx.RequestError) -> tuple[LnmtError, float | None]:
    """What to raise, and the seconds after which the service asked to be tried again, where it did."""
    if isinstance(outcome, httpx.Response):
        return _refusal(outcome), _retry_after(outcome)
    where, what = outcome.request.url, str(outcome) or type(outcome).__name__
    if isinstance(outcome, httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.DecodingError):
        return LnmtError("the service cannot be talked to", where=where, value=what), None
    if isinstance(outcome, httpx.TimeoutException) and not isinstance(outcome, httpx.ConnectTimeout):
        return Transient("the service did not answer in time", where=where, fix="give it more: timeout_s=…"), None
    return Transient("the service cannot be reached", where=where, value=what, fix="start it: lnmt serve"), None


def _refusal(reply: httpx.Response) -> LnmtError:
    """The service's own words where it has any."""
    kind = Transient if reply.status_code in RETRIED else LnmtError
    try:
        body = reply.json()
    except ValueError:
        body = None
    told = body if isinstance(body, dict) else {}
    what = f"{reply.status_code}: {told.get('error', reply.reason_phrase)}"
    return kind(what, where=told.get("where") or reply.url, allowed=told.get("allowed"), fix=told.get("fix"))


def _retry_after(reply: httpx.Response) -> float | None:
    """Seconds of the header; a date (RFC 9110, §10.2.3) is held against the reply's own, as clocks differ."""
    said = reply.headers.get("Retry-After", "")
    try:
        seconds = float(said)
    except ValueError:
        at, now = _date(said), _date(reply.headers.get("Date", ""))
        return None if at is None else max(0.0, at - (time.time() if now is None else now))
    return seconds if 0 <= seconds < math.inf else None


def _date(said: str) -> float | None:
    """Unix seconds of an HTTP date, which is in GMT whatever it says."""
    try:
        return parsedate_to_datetime(said).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _answer(row: dict[str, Any]) -> Answer:
    scores, error, withheld = row.get("scores", {}), row.get("error"), row.get("withheld")
    return Answer(row.get("label"), scores, row["version"], row["arm"], row["prediction_id"], error, withheld)


def _model(row: dict[str, Any]) -> ServedModel:
    return ServedModel(row["name"], row["state"], row["generation"], row["champion"], row["bytes"])


def _options(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """What both of httpx's clients take."""
    url, key = httpx.URL(base_url), api_key or os.environ.get("LNMT_API_KEY")
    if url.scheme not in ("http", "https") or not url.host:
        raise LnmtError("not the address of a service", value=base_url, allowed="such as http://127.0.0.1:3000")
    if key and not (key.isascii() and key.isprintable() and " " not in key):  # httpx would say it in its error
        raise LnmtError("not an API key", where="api_key, or LNMT_API_KEY", fix="`lnmt keys create` prints one")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": timeout_s,
        "limits": LIMITS,
        "trust_env": not _is_loopback(url.host),  # no proxy stands between a machine and itself
    }


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
