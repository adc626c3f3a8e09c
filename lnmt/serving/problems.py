"""Refusals: a status, and a body that says what to change."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

REASONS = {
    400: "malformed",
    404: "unknown",
    405: "method",
    413: "too large",
    415: "media type",
    422: "invalid",
    429: "queue full",
    503: "not ready",
}


class Problem(Exception):
    """A request that gets no answer. Nothing in it quotes the request's text.

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
    ) -> None:
        super().__init__(what)
        self.status = status
        self.body = {"error": what, "where": where, "allowed": allowed, "fix": fix}
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The JSON reply."""
        return json_response(self.body, self.status, self.headers)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON reply; ASCII, so that any text inside is valid in it."""
    content = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Response(content, status, headers, media_type="application/json")
