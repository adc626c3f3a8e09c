"""What each arm did, counted from prediction events."""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from lnmt.rollout.deployment import ArmEvidence, Deployment
from lnmt.types import Arm


class Served(Protocol):
    """What is read of a prediction event."""

    @property
    def id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def arm(self) -> Arm: ...
    @property
    def cached(self) -> bool: ...
    @property
    def latency_ms(self) -> float: ...
    @property
    def error(self) -> str | None: ...
    @property
    def pinned(self) -> bool | None: ...


@dataclass
class _Count:
    requests: int = 0
    errors: int = 0
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))


def evidence(events: Iterable[Served], deployment: Deployment) -> dict[Arm, ArmEvidence]:
    """Both arms' evidence under this generation of the deployment.

    An answered row is a request here. Events of other models and generations are passed over: under
    another generation the same arm was another bundle or another share of the traffic. So are answers
    whose callers chose the bundle: they were not drawn, so the arms would not be alike. An event told
    twice counts once. Latency is that of answers an engine computed: errors and cached ones are out.
    """
    counts: dict[Arm, _Count] = {"champion": _Count(), "challenger": _Count()}
    seen: set[str] = set()
    for item in events:
        if item.model != deployment.name or item.generation != deployment.generation or item.id in seen:
            continue
        if item.pinned:
            continue
        seen.add(item.id)
        count = counts[item.arm]
        count.requests += 1
        if item.error is not None:
            count.errors += 1
        elif not item.cached:
            count.latencies_ms.append(item.latency_ms)
    return {
        arm: ArmEvidence(
            requests=count.requests,
            errors=count.errors,
            median_latency_ms=statistics.median(count.latencies_ms) if count.latencies_ms else None,
        )
        for arm, count in counts.items()
    }
