"""Until when a caller waits: until its deadline, or until it hangs up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.types import Scope

from lnmt.serving.problems import Problem

HEADER = "X-Request-Timeout-Ms"
_KEY = HEADER.lower().encode()
_GONE = "lnmt.gone"  # in a request's scope


def deadline(scope: Scope, default_s: float) -> float:
    """Monotonic seconds at which an answer is too late: as the caller's header says, at most `default_s` from now.

    Raises Problem 422 for a header that is no number of milliseconds.
    """
    allowed_s = default_s
    for key, value in scope["headers"]:
        if key == _KEY:
            if not value.isdigit() or not 0 < len(value) <= 9 or int(value) == 0:
                fix = "send milliseconds as a whole number"
                raise Problem(422, "no time", where=HEADER, allowed="1 to 999999999", fix=fix)
            allowed_s = min(allowed_s, int(value) / 1000)
    return time.monotonic() + allowed_s


def tell_gone(scope: MutableMapping[str, Any], gone: asyncio.Future[None]) -> None:
    """Of a server that knows it: `gone` will be done when this request's connection has ended."""
    scope[_GONE] = gone


def gone(scope: Scope) -> asyncio.Future[None] | None:
    """What the server told; None of a server that tells nothing."""
    found: asyncio.Future[None] | None = scope.get(_GONE)
    return found
