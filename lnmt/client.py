"""A Python client of the service: one file, typed answers, retries that do as the service asks.

with Client("http://127.0.0.1:3000") as client:
    answer = client.predict("A fine film.")
    client.feedback(answer.prediction_id, "positive")
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, overload

import httpx

from lnmt.errors import LnmtError, Transient
from lnmt.types import Arm

RETRIED = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Answer:
    """One text's answer. `label` is None, and `error` says why, where a text of a list failed."""

    label: str | None
    scores: dict[str, float]  # by label
    version: str  # digest of the bundle that answered
    arm: Arm
    prediction_id: str
    error: str | None = None


class Client:
    """Talks to one service; keeps connections open. Not for several threads at once.

    `timeout_s` bounds each try; `retries` more are made where the service is busy or cannot be reached,
    after the seconds that its Retry-After names, at most `max_wait_s` each, else 0.2 s doubling.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 30.0,
        retries: int = 4,
        max_wait_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._retries = retries
        self._max_wait_s = max_wait_s
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=base_url,
            timeout=timeout_s,
            transport=transport,
            trust_env=not _is_loopback(base_url),  # no proxy stands between a machine and itself
        )

    @overload
    def predict(self, text: str, *, user: str | None = None) -> Answer: ...
    @overload
    def predict(self, text: list[str], *, user: str | None = None) -> list[Answer]: ...

    def predict(self, text: str | list[str], *, user: str | None = None) -> Answer | list[Answer]:
        """Classify a text, or a list of them; requests of one `user` stay in one arm.

        Raises LnmtError where the service refuses, with what to change, and Transient where it stays
        busy or out of reach.
        """
        body: dict[str, Any] = {"text": text}
        if user is not None:
            body["user"] = user
        reply = self._send("POST", "/predict", body)
        return _answer(reply) if isinstance(text, str) else [_answer(row) for row in reply]

    def feedback(self, prediction_id: str, label: str) -> None:
        """Tell a prediction's true label; again changes nothing, another label corrects it."""
        self._send("POST", "/feedback", {"prediction_id": prediction_id, "label": label})

    def ready(self) -> bool:
        """True where a model is loaded and warm. Asks once; False too where nothing answers."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, method: str, path: str, body: dict[str, Any]) -> Any:
        for attempt in range(self._retries + 1):
            wait_s = 0.2 * 2**attempt
            try:
                reply = self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                failure = self._unreachable(path, error)
            else:
                if reply.status_code < 400:
                    return reply.json()
                failure = _refusal(reply)
                if reply.status_code not in RETRIED:
                    raise failure
                wait_s = _retry_after(reply, wait_s)
            if attempt < self._retries:
                self._sleep(min(wait_s, self._max_wait_s))
        raise failure

    def _unreachable(self, path: str, error: httpx.TransportError) -> LnmtError:
        return Transient(
            "the service cannot be reached",
            where=self._http.base_url.join(path),
            value=str(error) or type(error).__name__,
            fix="start it: lnmt serve",
        )


def _answer(row: dict[str, Any]) -> Answer:
    return Answer(
        label=row.get("label"),
        scores=row.get("scores", {}),
        version=row["version"],
        arm=row["arm"],
        prediction_id=row["prediction_id"],
        error=row.get("error"),
    )


def _refusal(reply: httpx.Response) -> LnmtError:
    """The service's own words where it has any."""
    kind = Transient if reply.status_code in RETRIED else LnmtError
    try:
        body = reply.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    return kind(
        f"{reply.status_code}: {body.get('error', reply.reason_phrase)}",
        where=body.get("where") or reply.url,
        allowed=body.get("allowed"),
        fix=body.get("fix"),
    )


def _retry_after(reply: httpx.Response, default_s: float) -> float:
    """The header's seconds; it may also be a date, which is not followed."""
    try:
        return max(0.0, float(reply.headers["Retry-After"]))
    except (KeyError, ValueError):
        return default_s


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
