"""The live deployment as a value, and which values may be live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lnmt.types import Arm

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

    @property
    def arms(self) -> dict[str, Arm]:
        """The arm of each live bundle, by digest; the champion first."""
        named: tuple[tuple[str | None, Arm], ...] = ((self.champion, "champion"), (self.challenger, "challenger"))
        return {digest: arm for digest, arm in named if digest is not None}


@dataclass(frozen=True)
class ArmEvidence:
    """What one arm did in the deployment's generation."""

    requests: int
    errors: int
    median_latency_ms: float | None

    @property
    def error_share(self) -> float:
        """Of the requests, 0…1; 0 without any."""
        return self.errors / self.requests if self.requests else 0.0


def nothing_live(name: str, now: float) -> Deployment:
    """What stands before the first release."""
    return Deployment(name, 0, "idle", None, None, 0.0, now, "nothing was released yet")


def objection(deployment: Deployment) -> str | None:
    """Why this value can never be live; None where it can.

    There is one champion from the first release on, a challenger only in a canary, and traffic for
    a challenger only where there is one.
    """
    d = deployment
    if d.generation < 1:
        return "generation 0 is the deployment before any release"
    if d.champion is None or d.phase == "idle":
        return "a released deployment has a champion"
    if (d.challenger is None) != (d.phase != "canary"):
        return "a challenger is live in a canary, and only there"
    if d.challenger == d.champion:
        return "champion and challenger are the same bundle"
    if not 0 <= d.share <= 1:
        return "the share is not in 0…1"
    if d.challenger is None and d.share != 0:
        return "there is traffic for a challenger, and no challenger"
    return None
