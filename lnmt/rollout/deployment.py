"""The live deployment as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["idle", "canary", "promoted", "rolled back", "stopped"]


@dataclass(frozen=True)
class Deployment:
    """One model's row. `champion` and `challenger` are bundle digests."""

    name: str
    generation: int  # +1 at every swap; 0 is the bundle that a bento carries, with no store
    phase: Phase
    champion: str | None
    challenger: str | None
    share: float  # of the traffic for the challenger, 0…1
    since: float  # unix seconds
    why: str


@dataclass(frozen=True)
class ArmEvidence:
    """What one arm did since the deployment's `since`."""

    requests: int
    errors: int
    median_latency_ms: float | None
