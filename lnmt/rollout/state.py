"""Every way a deployment can change: one pure function.

idle ──release──▶ promoted ──release──▶ canary ──promote──▶ promoted
                                          │ ├──rollback, judge──▶ rolled back
                                          │ └──stop──▶ stopped
                     (rollback without a canary: back to the champion before this one)
From every phase but idle another release starts a canary; the champion serves throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lnmt.errors import GateBlocked, LnmtError
from lnmt.params import ReleaseParams
from lnmt.rollout.deployment import ArmEvidence, Deployment, Phase
from lnmt.types import Arm


@dataclass(frozen=True)
class Release:
    """Put a bundle in front of traffic: the first one as champion, another one as challenger."""

    digest: str
    share: float  # of the traffic, 0…1
    released_before: bool = False  # it was live at some time; then only `force` starts it again
    force: bool = False


@dataclass(frozen=True)
class Promote:
    """Make the challenger champion. `digest` names the one that is meant; None: whichever runs."""

    digest: str | None = None
    force: bool = False  # without looking at the evidence


@dataclass(frozen=True)
class Rollback:
    """Take the challenger away for cause; without a challenger, go back to the `previous` champion."""

    reason: str
    digest: str | None = None  # the bundle to take away; None: the challenger, else the champion
    previous: str | None = None  # the champion before this one, where there was one


@dataclass(frozen=True)
class Stop:
    """End the canary without a verdict."""

    reason: str


@dataclass(frozen=True)
class Judge:
    """Look at the evidence: a challenger that fails too often is rolled back."""


Action = Release | Promote | Rollback | Stop | Judge


@dataclass(frozen=True)
class Transition:
    """What an action leads to. Nothing changed where `state` is the one that went in."""

    state: Deployment
    reason: str
    changed: bool


def transition(
    state: Deployment, action: Action, evidence: Mapping[Arm, ArmEvidence], gates: ReleaseParams, now: float
) -> Transition:
    """The next state, or the same one, and why.

    Asking again for what already holds changes nothing. Raises GateBlocked where the evidence does
    not allow it, LnmtError where the action makes no sense in this state. `now`: unix seconds.
    """
    match action:
        case Release():
            return _release(state, action, now)
        case Promote():
            return _promote(state, action, evidence, gates, now)
        case Rollback():
            return _rollback(state, action, now)
        case Stop(reason):
            if state.challenger is None:
                return _same(state, "no canary is running")
            return _next(state, now, "stopped", f"stopped: {reason}")
        case Judge():
            return _judge(state, evidence, gates, now)


def _next(
    state: Deployment,
    now: float,
    phase: Phase,
    why: str,
    *,
    champion: str | None = None,
    challenger: str | None = None,
    share: float = 0.0,
) -> Transition:
    """One generation on; the champion stays unless another is named, the challenger goes unless named."""
    new = replace(
        state,
        generation=state.generation + 1,
        phase=phase,
        champion=champion or state.champion,
        challenger=challenger,
        share=share,
        since=now,
        why=why,
    )
    return Transition(new, why, changed=True)


def _same(state: Deployment, reason: str) -> Transition:
    return Transition(state, reason, changed=False)


def _release(state: Deployment, action: Release, now: float) -> Transition:
    digest, share = action.digest, action.share
    if not 0 <= share <= 1:
        raise LnmtError(
            "not a share of the traffic",
            where="params.yaml: release.share, or --share",
            value=share,
            allowed="0…1",
            fix="0.3 sends three requests in ten to the challenger",
        )
    if state.champion is None:
        return _next(state, now, "promoted", "first release: there is nothing to compare with", champion=digest)
    if digest == state.champion:
        return _same(state, "already the champion")
    if digest == state.challenger:
        if share == state.share or not action.force:
            return _same(state, f"already the challenger, with share {state.share:g}")
        why = f"share of the challenger set from {state.share:g} to {share:g}"
        return _next(state, now, "canary", why, challenger=digest, share=share)
    if action.released_before and not action.force:
        return _same(state, "was released before; releasing it again takes --force")
    why = f"released as challenger with share {share:g}"
    if state.challenger is not None:
        why += f", in place of {state.challenger}"
    return _next(state, now, "canary", why, challenger=digest, share=share)


def _promote(
    state: Deployment, action: Promote, evidence: Mapping[Arm, ArmEvidence], gates: ReleaseParams, now: float
) -> Transition:
    if action.digest is not None and action.digest == state.champion:
        return _same(state, "already the champion")
    if state.challenger is None or action.digest not in (None, state.challenger):
        raise LnmtError(
            "no such challenger to promote",
            where=f"deployment of {state.name}, generation {state.generation}",
            value=action.digest,
            allowed=state.challenger or f"no canary is running; the phase is {state.phase!r}",
            fix="release the bundle first: lnmt release",
        )
    if action.force:
        return _next(state, now, "promoted", "promoted by force, evidence aside", champion=state.challenger)
    seen = {arm: evidence.get(arm, ArmEvidence(0, 0, None)) for arm in ("champion", "challenger")}
    told = ", ".join(f"{arm} {found.requests} requests, {found.errors} errors" for arm, found in seen.items())
    where = f"deployment of {state.name}, generation {state.generation}"
    if min(found.requests for found in seen.values()) < gates.min_requests:
        raise GateBlocked(
            "too few requests to promote the challenger",
            where=where,
            value=told,
            allowed=f"at least {gates.min_requests} an arm (params.yaml: release.min_requests)",
            fix="wait for more traffic, or promote with --force",
        )
    if seen["challenger"].error_share > gates.max_error_share:
        raise GateBlocked(
            "the challenger fails too often to be promoted",
            where=where,
            value=told,
            allowed=f"an error share up to {gates.max_error_share:g} (params.yaml: release.max_error_share)",
            fix="roll it back: lnmt rollback",
        )
    return _next(state, now, "promoted", f"promoted: {told}", champion=state.challenger)


def _rollback(state: Deployment, action: Rollback, now: float) -> Transition:
    if action.digest is not None and action.digest not in (state.champion, state.challenger):
        return _same(state, "is not live")
    if state.challenger is not None and action.digest != state.champion:
        return _next(state, now, "rolled back", f"challenger rolled back: {action.reason}")
    if action.previous is None:
        raise LnmtError(
            "there is no earlier champion to go back to",
            where=f"deployment of {state.name}, generation {state.generation}",
            value=state.champion,
            fix="release another bundle: lnmt release",
        )
    return _next(state, now, "rolled back", f"champion rolled back: {action.reason}", champion=action.previous)


def _judge(state: Deployment, evidence: Mapping[Arm, ArmEvidence], gates: ReleaseParams, now: float) -> Transition:
    if state.challenger is None:
        return _same(state, "no canary is running")
    found = evidence.get("challenger", ArmEvidence(0, 0, None))
    told = f"{found.errors} errors in {found.requests} requests"
    if found.requests < gates.min_requests_rollback:
        return _same(state, f"too few requests to judge the challenger: {told}")
    if found.error_share > gates.max_error_share:
        why = f"challenger rolled back: {told}, more than {gates.max_error_share:g} of them"
        return _next(state, now, "rolled back", why)
    return _same(state, f"the challenger stays: {told}")
