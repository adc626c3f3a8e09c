"""The whole life of a model, nightly: train, release, monitor."""

from __future__ import annotations

from prefect import flow

from flows.monitor import monitor
from flows.release import release
from flows.train import train


@flow(name="lifecycle")
def lifecycle() -> None:
    """Bring the pipeline up to date, release what it made, look at the traffic."""
    train()
    release()
    monitor()
