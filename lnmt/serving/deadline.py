"""Until when a caller waits."""

from __future__ import annotations

import time

from starlette.types import Scope

from lnmt.serving.problems import Problem

HEADER = "X-Request-Timeout-Ms"
_KEY = HEADER.lower().encode()


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
