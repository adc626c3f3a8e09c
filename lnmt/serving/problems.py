"""Refusals: a status, and a body that says what to change."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

GONE = 499  # the caller left before the reply (nginx)

# what a refusal is counted as, where it says nothing else
REASONS = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "unknown",
    405: "method",
    408: "deadline",
    409: "conflict",
    413: "too large",
    415: "media type",
    422: "invalid",
    429: "too many",
    GONE: "gone",
    500: "failed",
    503: "not ready",
    504: "deadline",
}


class Problem(Exception):
    """A request that gets no answer. Nothing in it quotes the request's text.

    It is counted in the metrics under `reason`, default that of its status.
    Body: `{"error": what, "where": field or path, "allowed": …, "fix": what to do}`.
    """

    def __init__(
        self,
        status: int,
        what: str,
        *,
        where: str | None = None,
        allowed: str | None = None,
        fix: str,
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(what)
        self.status = status
        self.reason = reason or REASONS[status]
        self.body = {"error": what, "where": where, "allowed": allowed, "fix": fix}
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The JSON reply."""
        return json_response(self.body, self.status, self.headers)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON reply; ASCII, so that any text inside is valid in it."""
    content = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Response(content, status, headers, media_type="application/json")
