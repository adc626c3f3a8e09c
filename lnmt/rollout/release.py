"""The actions on what is live. Each is decided by `transition` and done by one compare-and-swap.

Every action may be done twice: the second finds that nothing is to be done. Another writer in between
is a Transient error, never a lost decision: look again, decide again.
"""

from __future__ import annotations

from collections.abc import Mapping

from lnmt.params import ReleaseParams
from lnmt.rollout.deployment import ArmEvidence, Deployment, nothing_live
from lnmt.rollout.history import previous_champion, released
from lnmt.rollout.state import Action, Judge, Promote, Release, Rollback, Stop, Transition, transition
from lnmt.rollout.table import DeploymentStore
from lnmt.types import Arm


def release(
    store: DeploymentStore,
    name: str,
    digest: str,
    gates: ReleaseParams,
    *,
    now: float,
    share: float | None = None,
    force: bool = False,
) -> Transition:
    """Bring a bundle before traffic: as champion where nothing is live, else as challenger.

    `share` of the traffic is `gates.share` unless given. A bundle that was live before, whatever came
    of it, is left alone unless `force`: a nightly run must not restart what a person rolled back.
    """
    state = store.read(name) or nothing_live(name, now)
    before = digest in released(store.history(name))
    action = Release(digest, gates.share if share is None else share, released_before=before, force=force)
    return _act(store, state, action, {}, gates, now)


def promote(
    store: DeploymentStore,
    state: Deployment,
    evidence: Mapping[Arm, ArmEvidence],
    gates: ReleaseParams,
    *,
    now: float,
    digest: str | None = None,
    force: bool = False,
) -> Transition:
    """Make the challenger of `state` champion, on `evidence` gathered under `state`.

    Raises GateBlocked where the evidence does not allow it and `force` is not set, LnmtError where no
    canary runs, Transient where `state` is no longer what is live.
    """
    return _act(store, state, Promote(digest, force), evidence, gates, now)


def judge(
    store: DeploymentStore,
    state: Deployment,
    evidence: Mapping[Arm, ArmEvidence],
    gates: ReleaseParams,
    *,
    now: float,
) -> Transition:
    """Roll the challenger of `state` back where it fails too often on `evidence` gathered under `state`."""
    return _act(store, state, Judge(), evidence, gates, now)


def rollback(
    store: DeploymentStore,
    name: str,
    gates: ReleaseParams,
    *,
    now: float,
    reason: str,
    digest: str | None = None,
) -> Transition:
    """Take the challenger away, or without one go back to the champion before; with `digest`, only that bundle."""
    state = store.read(name) or nothing_live(name, now)
    action = Rollback(reason, digest, previous_champion(store.history(name)))
    return _act(store, state, action, {}, gates, now)


def stop(store: DeploymentStore, name: str, gates: ReleaseParams, *, now: float, reason: str) -> Transition:
    """End the canary without a verdict; the champion serves on."""
    return _act(store, store.read(name) or nothing_live(name, now), Stop(reason), {}, gates, now)


def _act(
    store: DeploymentStore,
    state: Deployment,
    action: Action,
    evidence: Mapping[Arm, ArmEvidence],
    gates: ReleaseParams,
    now: float,
) -> Transition:
    decided = transition(state, action, evidence, gates, now)
    if not decided.changed:
        return decided
    return Transition(store.swap(state.generation, decided.state), decided.reason, changed=True)
