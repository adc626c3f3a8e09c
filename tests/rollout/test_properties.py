"""Any sequence of actions, on one machine with a history, as Hypothesis finds them."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lnmt.errors import LnmtError
from lnmt.params import ReleaseParams
from lnmt.rollout.deployment import ArmEvidence, Deployment, nothing_live, objection
from lnmt.rollout.history import previous_champion, released
from lnmt.rollout.state import Action, Judge, Promote, Release, Rollback, Stop, transition
from lnmt.types import Arm

GATES = ReleaseParams(share=0.3, min_requests=10, min_requests_rollback=5, max_error_share=0.1)
digests = st.sampled_from([f"sha256:{letter}" for letter in "abcd"])
shares = st.floats(0, 1)


@st.composite
def arms(draw: st.DrawFn) -> ArmEvidence:
    requests = draw(st.integers(0, 30))
    return ArmEvidence(requests, draw(st.integers(0, requests)), draw(st.none() | st.floats(0, 1e3)))


class Live(RuleBasedStateMachine):
    """The deployment, its history, and a clock that may run backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.state = nothing_live("m", 0.0)
        self.history: list[Deployment] = []

    def act(self, action: Action, now: float, evidence: dict[Arm, ArmEvidence] | None = None) -> None:
        before = self.state
        try:
            done = transition(before, action, evidence or {}, GATES, now)
        except LnmtError:
            return
        assert done.reason
        if not done.changed:
            assert done.state is before
            return
        assert done.state.generation == before.generation + 1
        assert done.state.since == now
        assert done.state.why == done.reason
        self.state = done.state
        self.history.append(done.state)

    @rule(digest=digests, share=shares, force=st.booleans(), now=st.floats(0, 1e9))
    def release(self, digest: str, share: float, force: bool, now: float) -> None:
        before = digest in released(self.history)
        action = Release(digest, share, released_before=before, force=force)
        live_before = {self.state.champion, self.state.challenger}
        self.act(action, now)
        assert not transition(self.state, action, {}, GATES, now).changed
        if before and not force:
            assert {self.state.champion, self.state.challenger} == live_before

    @rule(digest=st.none() | digests, force=st.booleans(), champion=arms(), challenger=arms(), now=st.floats(0, 1e9))
    def promote(
        self, digest: str | None, force: bool, champion: ArmEvidence, challenger: ArmEvidence, now: float
    ) -> None:
        before = self.state
        self.act(Promote(digest, force), now, {"champion": champion, "challenger": challenger})
        if self.state is not before:
            assert self.state.champion == before.challenger
            assert force or min(champion.requests, challenger.requests) >= GATES.min_requests

    @rule(digest=st.none() | digests, now=st.floats(0, 1e9))
    def rollback(self, digest: str | None, now: float) -> None:
        before, previous = self.state, previous_champion(self.history)
        self.act(Rollback("for a reason", digest, previous), now)
        if self.state is not before:
            assert self.state.phase == "rolled back"
            assert self.state.champion in (before.champion, previous)

    @rule(now=st.floats(0, 1e9))
    def stop(self, now: float) -> None:
        before = self.state
        self.act(Stop("for a reason"), now)
        assert self.state.champion == before.champion

    @rule(champion=arms(), challenger=arms(), now=st.floats(0, 1e9))
    def judge(self, champion: ArmEvidence, challenger: ArmEvidence, now: float) -> None:
        before = self.state
        self.act(Judge(), now, {"champion": champion, "challenger": challenger})
        assert self.state.champion == before.champion

    @invariant()
    def every_state_is_one_that_may_be_live(self) -> None:
        if self.state.generation == 0:
            assert self.state.champion is None
        else:
            assert objection(self.state) is None

    @invariant()
    def generations_have_no_gap(self) -> None:
        assert [state.generation for state in self.history] == list(range(1, len(self.history) + 1))

    @invariant()
    def the_previous_champion_is_another_one(self) -> None:
        previous = previous_champion(self.history)
        assert previous is None or (previous != self.state.champion and previous in released(self.history))


TestLive = Live.TestCase
TestLive.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
