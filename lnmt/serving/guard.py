"""The outermost layer, pure ASGI: a bound on the body, every failure a JSON reply, every request counted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lnmt.observability.logging import get_logger
from lnmt.observability.metrics import Metrics
from lnmt.serving.problems import REASONS, Problem

log = get_logger(__name__)


class Guard:
    """Wraps the router. No exception leaves it; `templates` maps endpoints to the routes that metrics name."""

    def __init__(self, app: ASGIApp, *, body_bytes: int, metrics: Metrics, templates: Mapping[Any, str]) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._metrics = metrics
        self._templates = templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003, "reason": "this service speaks HTTP"})
            return
        started = time.perf_counter()
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                self._check_length(scope)
                await self._app(scope, self._bounded(receive), counted)
            except Problem as problem:
                await self._refuse(problem, status, scope, receive, counted)
            except HTTPException as error:
                await self._refuse(_from_starlette(error), status, scope, receive, counted)
            except Exception:  # one that leaves makes BentoML's client hang
                log.exception("request failed")
                fix = "the service's log has the place; report it if it comes again"
                await self._refuse(Problem(500, "internal error", fix=fix), status, scope, receive, counted)
        finally:
            route = self._templates.get(scope.get("endpoint"), "unmatched")
            self._metrics.observe_request(route, scope["method"], status or 499, time.perf_counter() - started)

    def _check_length(self, scope: Scope) -> None:
        for key, value in scope["headers"]:
            if key == b"content-length" and (not value.isdigit() or int(value) > self._body_bytes):
                raise self._too_large()

    def _bounded(self, receive: Receive) -> Receive:
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._body_bytes:
                    raise self._too_large()
            return message

        return bounded

    def _too_large(self) -> Problem:
        return Problem(
            413,
            "the body is too large",
            where="body",
            allowed=f"at most {self._body_bytes} bytes",
            fix="send fewer texts a request",
            headers={"Connection": "close"},  # the rest of the body is not read
        )

    async def _refuse(self, problem: Problem, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Reply, unless a reply is under way: then the server closes the connection."""
        if problem.status in REASONS and problem.status not in (429, 503):  # those are counted where they arise
            self._metrics.rejections.labels(REASONS[problem.status]).inc()
        if status == 0:
            await problem.response()(scope, receive, send)


def _from_starlette(error: HTTPException) -> Problem:
    """404 and 405 of the router."""
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow")
        return Problem(405, "method not allowed", allowed=allowed, fix="use an allowed method", headers=error.headers)
    return Problem(error.status_code, error.detail, fix="GET /docs lists the routes", headers=error.headers)
