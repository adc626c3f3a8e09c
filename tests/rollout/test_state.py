from __future__ import annotations

import pytest

from lnmt.errors import GateBlocked, LnmtError
from lnmt.params import ReleaseParams
from lnmt.rollout.deployment import ArmEvidence, Deployment, Phase, nothing_live, objection
from lnmt.rollout.state import Judge, Promote, Release, Rollback, Stop, Transition, transition
from lnmt.types import Arm

IDLE = nothing_live("sentiment", now=1.0)
ONE = Deployment("sentiment", 1, "promoted", "sha256:a", None, 0.0, 2.0, "first")
CANARY = Deployment("sentiment", 2, "canary", "sha256:a", "sha256:b", 0.3, 3.0, "try b")


def both(requests: int, errors: int = 0) -> dict[Arm, ArmEvidence]:
    """`requests` an arm; the errors are the challenger's."""
    return {
        "champion": ArmEvidence(requests, 0, 10.0),
        "challenger": ArmEvidence(requests, errors, 5.0),
    }


def test_the_first_release_is_champion_at_once(gates: ReleaseParams) -> None:
    why = "first release: there is nothing to compare with"
    expected = Deployment("sentiment", 1, "promoted", "sha256:a", None, 0.0, 9.0, why)
    assert transition(IDLE, Release("sha256:a", 0.3), {}, gates, 9.0) == Transition(expected, why, changed=True)


def test_another_bundle_is_a_challenger(gates: ReleaseParams) -> None:
    why = "released as challenger with share 0.3"
    expected = Deployment("sentiment", 2, "canary", "sha256:a", "sha256:b", 0.3, 9.0, why)
    assert transition(ONE, Release("sha256:b", 0.3), {}, gates, 9.0) == Transition(expected, why, changed=True)


def test_a_newer_challenger_takes_the_place_of_the_running_one(gates: ReleaseParams) -> None:
    done = transition(CANARY, Release("sha256:c", 0.5), {}, gates, 9.0)
    why = "released as challenger with share 0.5, in place of sha256:b"
    assert done.state == Deployment("sentiment", 3, "canary", "sha256:a", "sha256:c", 0.5, 9.0, why)


@pytest.mark.parametrize(
    ("state", "action", "reason"),
    [
        (ONE, Release("sha256:a", 0.3), "already the champion"),
        (ONE, Release("sha256:a", 0.3, released_before=True, force=True), "already the champion"),
        (CANARY, Release("sha256:b", 0.3), "already the challenger, with share 0.3"),
        (CANARY, Release("sha256:b", 0.5), "already the challenger, with share 0.3"),
        (ONE, Release("sha256:b", 0.3, released_before=True), "was released before; releasing it again takes --force"),
        (ONE, Promote("sha256:a"), "already the champion"),
        (ONE, Rollback("bad", digest="sha256:b"), "is not live"),
        (ONE, Stop("enough"), "no canary is running"),
        (ONE, Judge(), "no canary is running"),
        (IDLE, Stop("enough"), "no canary is running"),
    ],
)
def test_what_already_holds_is_left_alone(
    state: Deployment, action: Release | Promote | Rollback | Stop | Judge, reason: str, gates: ReleaseParams
) -> None:
    assert transition(state, action, {}, gates, 9.0) == Transition(state, reason, changed=False)


def test_force_sets_another_share_of_the_same_challenger(gates: ReleaseParams) -> None:
    done = transition(CANARY, Release("sha256:b", 0.5, released_before=True, force=True), {}, gates, 9.0)
    why = "share of the challenger set from 0.3 to 0.5"
    assert done.state == Deployment("sentiment", 3, "canary", "sha256:a", "sha256:b", 0.5, 9.0, why)


def test_force_releases_again_what_was_live_before(gates: ReleaseParams) -> None:
    done = transition(ONE, Release("sha256:b", 0.2, released_before=True, force=True), {}, gates, 9.0)
    assert (done.state.phase, done.state.challenger, done.state.share) == ("canary", "sha256:b", 0.2)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_of_0_and_1_is_refused(share: float, gates: ReleaseParams) -> None:
    with pytest.raises(LnmtError, match="not a share of the traffic"):
        transition(ONE, Release("sha256:b", share), {}, gates, 9.0)


def test_a_challenger_is_promoted_on_enough_evidence(gates: ReleaseParams) -> None:
    done = transition(CANARY, Promote(), both(100, errors=2), gates, 9.0)
    why = "promoted: champion 100 requests, 0 errors, challenger 100 requests, 2 errors"
    assert done.state == Deployment("sentiment", 3, "promoted", "sha256:b", None, 0.0, 9.0, why)


@pytest.mark.parametrize(
    "found",
    [
        {},
        both(99),
        {"champion": ArmEvidence(99, 0, 1.0), "challenger": ArmEvidence(5000, 0, 1.0)},
        {"champion": ArmEvidence(5000, 0, 1.0), "challenger": ArmEvidence(99, 0, 1.0)},
    ],
)
def test_a_promotion_waits_for_enough_requests_in_each_arm(found: dict[Arm, ArmEvidence], gates: ReleaseParams) -> None:
    with pytest.raises(GateBlocked, match="too few requests to promote") as caught:
        transition(CANARY, Promote(), found, gates, 9.0)
    assert "at least 100 an arm" in str(caught.value)


def test_a_challenger_that_fails_is_not_promoted(gates: ReleaseParams) -> None:
    with pytest.raises(GateBlocked, match="fails too often") as caught:
        transition(CANARY, Promote(), both(100, errors=3), gates, 9.0)
    assert caught.value.value == "champion 100 requests, 0 errors, challenger 100 requests, 3 errors"


def test_force_promotes_without_evidence(gates: ReleaseParams) -> None:
    done = transition(CANARY, Promote("sha256:b", force=True), {}, gates, 9.0)
    assert (done.state.phase, done.state.champion, done.state.challenger) == ("promoted", "sha256:b", None)
    assert done.reason == "promoted by force, evidence aside"


@pytest.mark.parametrize(
    ("state", "digest", "allowed"),
    [
        (IDLE, None, "no canary is running; the phase is 'idle'"),
        (ONE, None, "no canary is running; the phase is 'promoted'"),
        (CANARY, "sha256:c", "sha256:b"),
    ],
)
def test_only_the_running_challenger_can_be_promoted(
    state: Deployment, digest: str | None, allowed: str, gates: ReleaseParams
) -> None:
    with pytest.raises(LnmtError, match="no such challenger") as caught:
        transition(state, Promote(digest, force=True), {}, gates, 9.0)
    assert caught.value.allowed == allowed


def test_rollback_takes_the_challenger_away(gates: ReleaseParams) -> None:
    done = transition(CANARY, Rollback("slow", previous="sha256:0"), {}, gates, 9.0)
    why = "challenger rolled back: slow"
    assert done.state == Deployment("sentiment", 3, "rolled back", "sha256:a", None, 0.0, 9.0, why)


@pytest.mark.parametrize("state", [ONE, CANARY])
def test_rollback_of_the_champion_goes_back_to_the_one_before(state: Deployment, gates: ReleaseParams) -> None:
    done = transition(state, Rollback("wrong", digest="sha256:a", previous="sha256:0"), {}, gates, 9.0)
    why = "champion rolled back: wrong"
    generation = state.generation + 1
    assert done.state == Deployment("sentiment", generation, "rolled back", "sha256:0", None, 0.0, 9.0, why)


@pytest.mark.parametrize("state", [IDLE, ONE])
def test_there_may_be_nothing_to_roll_back_to(state: Deployment, gates: ReleaseParams) -> None:
    with pytest.raises(LnmtError, match="no earlier champion"):
        transition(state, Rollback("wrong"), {}, gates, 9.0)


def test_stop_ends_the_canary_without_a_verdict(gates: ReleaseParams) -> None:
    done = transition(CANARY, Stop("budget"), {}, gates, 9.0)
    assert done.state == Deployment("sentiment", 3, "stopped", "sha256:a", None, 0.0, 9.0, "stopped: budget")


@pytest.mark.parametrize(
    ("requests", "errors", "phase"),
    [(49, 49, "canary"), (50, 1, "canary"), (50, 2, "rolled back"), (100, 2, "canary"), (100, 3, "rolled back")],
)
def test_a_challenger_that_fails_too_often_is_rolled_back(
    requests: int, errors: int, phase: Phase, gates: ReleaseParams
) -> None:
    done = transition(CANARY, Judge(), both(requests, errors), gates, 9.0)
    assert done.state.phase == phase
    assert done.changed == (phase == "rolled back")
    assert f"{errors} errors in {requests} requests" in done.reason
    assert done.state.champion == "sha256:a"


@pytest.mark.parametrize(
    "deployment",
    [
        Deployment("m", 0, "promoted", "a", None, 0.0, 0.0, ""),
        Deployment("m", 1, "promoted", None, None, 0.0, 0.0, ""),
        Deployment("m", 1, "idle", "a", None, 0.0, 0.0, ""),
        Deployment("m", 1, "promoted", "a", "b", 0.1, 0.0, ""),
        Deployment("m", 1, "canary", "a", None, 0.0, 0.0, ""),
        Deployment("m", 1, "canary", "a", "a", 0.1, 0.0, ""),
        Deployment("m", 1, "canary", "a", "b", 1.1, 0.0, ""),
        Deployment("m", 1, "stopped", "a", None, 0.1, 0.0, ""),
    ],
)
def test_what_can_never_be_live_is_objected_to(deployment: Deployment) -> None:
    assert objection(deployment) is not None
