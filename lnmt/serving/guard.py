"""The outermost layer, pure ASGI: a bound on the body, every failure a JSON reply, every request counted and named."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lnmt.monitoring.events import new_id
from lnmt.observability.logging import get_logger
from lnmt.observability.metrics import Metrics
from lnmt.observability.series import UNMATCHED
from lnmt.observability.tracing import Span, process_tracing
from lnmt.serving.body import too_large
from lnmt.serving.lifecycle import Lifecycle
from lnmt.serving.problems import GONE, Problem

log = get_logger(__name__)

REQUEST_ID = b"x-request-id"
_NAMED = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")  # an id of the caller that may go into logs and headers


class Guard:
    """Wraps the router. No exception leaves it; `templates` maps endpoints to the routes that metrics name."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_bytes: int,
        metrics: Metrics,
        templates: Mapping[Any, str],
        lifecycle: Lifecycle,
    ) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._metrics = metrics
        self._templates = templates
        self._lifecycle = lifecycle
        self._tracing = process_tracing()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003, "reason": "this service speaks HTTP"})
            return
        with self._tracing.request(scope["method"], scope["headers"]) as span:
            await self._answer(scope, receive, send, span)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, span: Span) -> None:
        started = time.perf_counter()
        status = 0
        added = [(REQUEST_ID, request_id := _request_id(scope))]
        if span.traceparent is not None:
            added.append((b"traceparent", span.traceparent.encode()))

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._lifecycle.closing:  # so that the caller's next request goes elsewhere
                    added.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            try:
                self._check_length(scope)
                await self._app(scope, self._bounded(receive), told)
            except Problem as problem:
                await self._refuse(problem, status, scope, receive, told)
            except HTTPException as error:
                await self._refuse(_from_starlette(error), status, scope, receive, told)
            except Exception:  # one that leaves makes BentoML's client hang
                log.exception("request failed", request=request_id.decode())
                fix = "the service's log has the place; report it if it comes again"
                await self._refuse(Problem(500, "internal error", fix=fix), status, scope, receive, told)
        finally:
            route = self._templates.get(scope.get("endpoint"), UNMATCHED)
            span.answered(route, status or GONE)
            self._metrics.observe_request(route, scope["method"], status or GONE, time.perf_counter() - started)

    def _check_length(self, scope: Scope) -> None:
        for key, value in scope["headers"]:
            if key == b"content-length" and (not value.isdigit() or int(value) > self._body_bytes):
                raise too_large(self._body_bytes)

    def _bounded(self, receive: Receive) -> Receive:
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._body_bytes:
                    raise too_large(self._body_bytes)
            return message

        return bounded

    async def _refuse(self, problem: Problem, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Reply, unless a reply is under way: then the server closes the connection."""
        self._metrics.rejections.labels(problem.reason).inc()
        if status == 0:
            await problem.response()(scope, receive, send)


def _request_id(scope: Scope) -> bytes:
    """The caller's X-Request-Id where it is a plain one, else a new one."""
    for key, value in scope["headers"]:
        if key == REQUEST_ID and _NAMED.fullmatch(value):
            found: bytes = value
            return found
    return new_id().encode()


def _from_starlette(error: HTTPException) -> Problem:
    """404 and 405 of the router."""
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow")
        return Problem(405, "method not allowed", allowed=allowed, fix="use an allowed method", headers=error.headers)
    return Problem(error.status_code, error.detail, fix="GET /docs lists the routes", headers=error.headers)
