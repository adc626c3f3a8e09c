"""What the traffic of late says."""

from __future__ import annotations

from prefect import flow

from tasks import actions


@flow(name="monitor")
def monitor() -> bool | None:
    """Judge the champion's newest traffic; True where it drifted, None where there is too little of it."""
    actions.judge()
    signal = actions.monitor()
    return None if signal is None else signal.drifted
