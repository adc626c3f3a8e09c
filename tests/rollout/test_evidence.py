from __future__ import annotations

from dataclasses import dataclass, replace

from lnmt.rollout.deployment import ArmEvidence, Deployment
from lnmt.rollout.evidence import evidence
from lnmt.types import Arm

CANARY = Deployment("sentiment", 2, "canary", "sha256:a", "sha256:b", 0.3, 3.0, "try b")


@dataclass(frozen=True)
class Row:
    id: str
    arm: Arm = "champion"
    latency_ms: float = 10.0
    error: str | None = None
    cached: bool = False
    model: str = "sentiment"
    generation: int = 2
    pinned: bool | None = False


def test_no_events_are_no_evidence() -> None:
    nothing = ArmEvidence(0, 0, None)
    assert evidence([], CANARY) == {"champion": nothing, "challenger": nothing}


def test_arms_are_counted_apart() -> None:
    rows = [Row("1", latency_ms=10), Row("2", latency_ms=30), Row("3", "challenger", latency_ms=5)]
    assert evidence(iter(rows), CANARY) == {"champion": ArmEvidence(2, 0, 20.0), "challenger": ArmEvidence(1, 0, 5.0)}


def test_errors_and_cached_answers_are_requests_without_a_latency() -> None:
    rows = [Row("1", latency_ms=10), Row("2", latency_ms=900, error="boom"), Row("3", latency_ms=0.1, cached=True)]
    found = evidence(rows, CANARY)["champion"]
    assert found == ArmEvidence(3, 1, 10.0)
    assert found.error_share == 1 / 3


def test_other_models_and_generations_are_passed_over() -> None:
    row = Row("1")
    rows = [replace(row, model="topic"), replace(row, generation=1), replace(row, generation=3)]
    assert evidence(rows, CANARY)["champion"] == ArmEvidence(0, 0, None)


def test_callers_who_chose_the_bundle_are_passed_over() -> None:
    rows = [Row("1", pinned=True), Row("2", "challenger", pinned=True, error="boom"), Row("3", pinned=None)]
    assert evidence(rows, CANARY) == {"champion": ArmEvidence(1, 0, 10.0), "challenger": ArmEvidence(0, 0, None)}


def test_an_event_told_twice_counts_once() -> None:
    assert evidence([Row("1"), Row("1"), Row("2")], CANARY)["champion"].requests == 2


def test_no_requests_have_no_errors() -> None:
    assert ArmEvidence(0, 0, None).error_share == 0.0
