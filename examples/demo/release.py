"""The demo's hand on what is live, so that a second run shows the same release again."""

from __future__ import annotations

import time

import httpx

from lnmt.drive import actions
from lnmt.errors import LnmtError
from lnmt.rollout.deployment import Deployment
from lnmt.settings import Settings
from lnmt.trace import rows

WAIT_S = 60.0


def start_over(settings: Settings) -> None:
    """The reference engine as champion and no canary, whatever an earlier demo left live."""
    with actions.open_live(settings) as live:
        digest = actions.register(live, "reference").bundle
        state = live.deployments.read(live.name)
        if state is not None and state.challenger is not None:
            actions.rollback(live, reason="the demo starts over")
        actions.release(live, digest, force=True)
        if live.deployment().champion != digest:
            actions.promote(live, digest=digest, force=True)


def canary(settings: Settings) -> Deployment:
    """The optimised bundle as challenger with the share of `params.yaml: release`."""
    with actions.open_live(settings) as live:
        actions.release(live, actions.register(live, "optimized").bundle, force=True)
        return live.deployment()


def promote(settings: Settings) -> str:
    """The challenger becomes champion on the evidence of its traffic; returns why, or why there is none."""
    with actions.open_live(settings) as live:
        if live.deployment().challenger is None:
            return "no engine is faster than the reference here: there is nothing to promote"
        return actions.promote(live).reason


def await_generation(url: str, settings: Settings) -> None:
    """Return when the service serves what the deployment row asks for."""
    with actions.open_live(settings) as live:
        asked = live.deployment().generation
    ends = time.monotonic() + WAIT_S
    while time.monotonic() < ends:
        served = httpx.get(f"{url}/readyz", trust_env=False).json().get("generation")
        if served == asked:
            return
        time.sleep(0.1)
    raise LnmtError(
        f"the service did not take generation {asked} in {WAIT_S:g} s",
        where=settings.state_dir / "service.log",
        value=served,
        fix="look at the end of that log",
    )


def trace_one(settings: Settings, prediction_id: str) -> dict[str, str]:
    """Where one prediction comes from."""
    with actions.open_live(settings) as live:
        return dict(rows(actions.trace(live, prediction_id)))
