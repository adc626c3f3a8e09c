"""The token bucket, as the generic cell rate algorithm: one number a principal.

GCRA (ITU-T I.371, annex A) keeps the theoretical arrival time: the moment at which the bucket will be
full again. A request moves it on by one interval, and is refused while it is further ahead than the
burst allows. That equals a bucket of `burst` tokens refilled by `per_s` tokens a second.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Rate:
    """So many requests a second in the long run, and `burst` at once: in t seconds at most burst + per_s · t."""

    per_s: float  # above 0
    burst: float  # at least 1

    @classmethod
    def of(cls, per_s: float, burst: float | None = None) -> Rate:
        """With a burst of one second's worth where none is said."""
        return cls(per_s, max(1.0, per_s if burst is None else burst))


class RateLimiter(Protocol):
    """Counts requests by principal."""

    async def take(self, principal: str, rate: Rate) -> float:
        """0 where the request may go on, else the seconds after which it might; a refused one costs nothing."""

    async def close(self) -> None:
        """Let go of threads, files and connections."""


@dataclass(frozen=True)
class Ask:
    """A request that waits for a shared store, which decides on all that wait together."""

    principal: str
    rate: Rate
    future: asyncio.Future[float]


class StoreLost(Exception):
    """The shared store of a limiter did not answer."""


SLACK = 1e-3  # of an interval: what rounding may take from a burst; it gives no more than so much of one request


def take(arrival_s: float | None, now_s: float, rate: Rate) -> tuple[float, float]:
    """One request against the theoretical arrival time (None: the first) → the new one, and the seconds to wait.

    A time further ahead than any request could have put it stems from another clock (a reboot, a step
    back) or another rate; it counts as an empty bucket, so that nobody waits for longer than one interval.
    """
    interval_s = 1.0 / rate.per_s
    slack_s = SLACK * interval_s
    full_s = rate.burst * interval_s
    arrival_s = now_s if arrival_s is None else min(max(arrival_s, now_s), now_s + full_s + slack_s)
    wait_s = arrival_s + interval_s - full_s - now_s
    if wait_s > slack_s:
        return arrival_s, wait_s
    return arrival_s + interval_s, 0.0
