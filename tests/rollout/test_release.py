from __future__ import annotations

import pytest

from lnmt.errors import GateBlocked, LnmtError, Transient
from lnmt.params import ReleaseParams
from lnmt.rollout.deployment import ArmEvidence, Deployment
from lnmt.rollout.release import judge, promote, release, rollback, stop
from lnmt.rollout.table import DeploymentStore
from lnmt.types import Arm

GOOD: dict[Arm, ArmEvidence] = {"champion": ArmEvidence(200, 0, 9.0), "challenger": ArmEvidence(200, 1, 4.0)}
BAD: dict[Arm, ArmEvidence] = {"champion": ArmEvidence(200, 0, 9.0), "challenger": ArmEvidence(200, 50, 4.0)}


def live(store: DeploymentStore) -> Deployment:
    found = store.read("m")
    assert found is not None
    return found


def shape(store: DeploymentStore) -> tuple[int, str, str | None, str | None, float]:
    now = live(store)
    return now.generation, now.phase, now.champion, now.challenger, now.share


def test_a_whole_life(store: DeploymentStore, gates: ReleaseParams) -> None:
    assert release(store, "m", "a", gates, now=1.0).changed
    assert shape(store) == (1, "promoted", "a", None, 0.0)
    assert release(store, "m", "b", gates, now=2.0).changed
    assert shape(store) == (2, "canary", "a", "b", 0.3)
    with pytest.raises(GateBlocked, match="too few requests"):
        promote(store, live(store), {}, gates, now=3.0)
    assert not judge(store, live(store), GOOD, gates, now=3.0).changed
    done = promote(store, live(store), GOOD, gates, now=3.0, digest="b")
    assert done.state == live(store)
    assert shape(store) == (3, "promoted", "b", None, 0.0)
    assert release(store, "m", "c", gates, now=4.0, share=0.1).changed
    assert shape(store) == (4, "canary", "b", "c", 0.1)
    assert judge(store, live(store), BAD, gates, now=5.0).changed
    assert shape(store) == (5, "rolled back", "b", None, 0.0)
    assert rollback(store, "m", gates, now=6.0, reason="worse on tweets").changed
    assert shape(store) == (6, "rolled back", "a", None, 0.0)
    with pytest.raises(LnmtError, match="no earlier champion"):
        rollback(store, "m", gates, now=7.0, reason="again")
    assert [state.why for state in store.history("m")] == [
        "first release: there is nothing to compare with",
        "released as challenger with share 0.3",
        "promoted: champion 200 requests, 0 errors, challenger 200 requests, 1 errors",
        "released as challenger with share 0.1",
        "challenger rolled back: 50 errors in 200 requests, more than 0.02 of them",
        "champion rolled back: worse on tweets",
    ]


def test_releasing_the_same_bundles_every_night_changes_nothing(store: DeploymentStore, gates: ReleaseParams) -> None:
    for night in range(3):
        changed = [release(store, "m", digest, gates, now=night).changed for digest in ("reference", "fast")]
        assert changed == [night == 0, night == 0]
    promote(store, live(store), {}, gates, now=4.0, force=True)
    assert not release(store, "m", "reference", gates, now=5.0).changed
    assert not release(store, "m", "fast", gates, now=5.0).changed
    assert shape(store) == (3, "promoted", "fast", None, 0.0)


def test_what_was_taken_away_comes_back_by_force_only(store: DeploymentStore, gates: ReleaseParams) -> None:
    release(store, "m", "a", gates, now=1.0)
    release(store, "m", "b", gates, now=2.0)
    assert stop(store, "m", gates, now=3.0, reason="budget").changed
    assert shape(store) == (3, "stopped", "a", None, 0.0)
    assert release(store, "m", "b", gates, now=4.0).reason == ("was released before; releasing it again takes --force")
    assert release(store, "m", "b", gates, now=5.0, force=True).changed
    assert shape(store) == (4, "canary", "a", "b", 0.3)


def test_every_action_may_be_done_twice(store: DeploymentStore, gates: ReleaseParams) -> None:
    release(store, "m", "a", gates, now=1.0)
    release(store, "m", "b", gates, now=2.0)
    assert rollback(store, "m", gates, now=3.0, reason="slow", digest="b").changed
    assert not rollback(store, "m", gates, now=3.0, reason="slow", digest="b").changed
    assert not stop(store, "m", gates, now=3.0, reason="slow").changed
    release(store, "m", "c", gates, now=4.0)
    promote(store, live(store), GOOD, gates, now=5.0, digest="c")
    assert not promote(store, live(store), {}, gates, now=5.0, digest="c").changed


def test_evidence_of_another_generation_decides_nothing(store: DeploymentStore, gates: ReleaseParams) -> None:
    release(store, "m", "a", gates, now=1.0)
    release(store, "m", "b", gates, now=2.0)
    looked_at = live(store)
    release(store, "m", "c", gates, now=3.0)
    with pytest.raises(Transient, match="changed by another writer"):
        promote(store, looked_at, GOOD, gates, now=4.0)
    with pytest.raises(Transient, match="changed by another writer"):
        judge(store, looked_at, BAD, gates, now=4.0)
    assert shape(store) == (3, "canary", "a", "c", 0.3)


def test_before_the_first_release_there_is_nothing_to_act_on(store: DeploymentStore, gates: ReleaseParams) -> None:
    with pytest.raises(LnmtError, match="no earlier champion"):
        rollback(store, "m", gates, now=1.0, reason="x")
    assert stop(store, "m", gates, now=1.0, reason="x").reason == "no canary is running"
    assert store.read("m") is None
