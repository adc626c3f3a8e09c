"""The pipeline's bundle becomes a registered version, then takes its share of the traffic."""

from __future__ import annotations

from prefect import flow

from lnmt.drive.actions import Which
from tasks import actions


@flow(name="release")
def release(which: Which = "optimized", share: float | None = None) -> None:
    """Register the bundle and bring it before traffic: as champion where nothing is live, else as challenger."""
    version = actions.register(which)
    actions.release(version.bundle, share)
