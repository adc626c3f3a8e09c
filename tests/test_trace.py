from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from lnmt.bundles import BundleStore
from lnmt.errors import LnmtError, Transient
from lnmt.files import sha256_bytes
from lnmt.monitoring.compaction import compact
from lnmt.monitoring.event_index import EventIndex
from lnmt.monitoring.events import EventWriter, PredictionEvent, new_id
from lnmt.monitoring.feedback import Feedback, append_feedback
from lnmt.monitoring.segments import directory_of
from lnmt.registry.version import Version
from lnmt.rollout.deployment import Deployment
from lnmt.rollout.table import DeploymentStore
from lnmt.trace import Trace, render, rows, trace
from tests.monitoring.event_kit import EVENT
from tests.plain_bundle import LINEAGE, plain_bundle

if TYPE_CHECKING:
    from lnmt.registry import Registry


class Versions:
    """A registry of two lines, so that no MLflow is needed: `version_of` is all that a trace asks."""

    def __init__(self, *versions: Version, away: bool = False) -> None:
        self._versions = versions
        self._away = away

    def version_of(self, name: str, digest: str) -> Version | None:
        if self._away:
            raise Transient("MLflow refused")
        return next((version for version in self._versions if (version.name, version.bundle) == (name, digest)), None)


@dataclass(frozen=True)
class World:
    events: Path
    bundles: BundleStore
    deployments: DeploymentStore
    event: PredictionEvent
    version: Version
    trained: str

    def write(self, event: PredictionEvent) -> str:
        writer = EventWriter(self.events)
        writer.append(event)
        writer.close()
        return event.id

    def trace(self, prediction_id: str, registry: Versions | None = None) -> Trace:
        return trace(
            prediction_id,
            events=self.events,
            bundles=self.bundles,
            deployments=self.deployments,
            registry=cast("Registry", registry or Versions(self.version)),
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    bundles = BundleStore(tmp_path / "bundles")
    trained = plain_bundle(tmp_path / "trained", "trained")
    reference = plain_bundle(tmp_path / "reference", "reference", parent=trained.digest)
    optimized = plain_bundle(tmp_path / "optimized", "fast", engine="openvino", parent=trained.digest)
    for bundle in (reference, optimized):
        bundles.put(bundle)
    deployments = DeploymentStore(f"sqlite:///{tmp_path / 'lnmt.db'}")
    deployments.swap(0, Deployment("sentiment", 1, "promoted", reference.digest, None, 0.0, 1.0, "first"))
    deployments.swap(
        1, Deployment("sentiment", 2, "canary", reference.digest, optimized.digest, 0.3, 2.0, "try the fast one")
    )
    event = replace(EVENT, id=new_id(), generation=2, bundle=optimized.digest, latency_ms=3.25, text="a secret")
    version = Version(
        "sentiment", 2, optimized.digest, trained.digest, "openvino", "fp32", LINEAGE, "run", 1.0, ("challenger",)
    )
    return World(tmp_path / "events", bundles, deployments, event, version, trained.digest)


def test_a_prediction_leads_back_to_data_and_commit(world: World) -> None:
    found = world.trace(world.write(world.event))
    assert found.event == world.event
    assert found.deployment is not None
    assert (found.deployment.generation, found.deployment.why) == (2, "try the fast one")
    assert found.manifest is not None
    assert found.manifest.engine == "openvino"
    assert found.version == world.version
    assert found.ancestors == (world.trained,)
    assert found.lineage == LINEAGE
    assert found.gaps == ()


def test_what_a_person_reads(world: World) -> None:
    found = world.trace(world.write(world.event))
    assert rows(found) == [
        ("prediction", world.event.id),
        ("time", "2023-11-14T22:13:20.250+00:00"),
        ("answer", "positive (0.750)"),
        ("latency", "3.2 ms"),
        ("arm", "challenger, generation 2 of sentiment"),
        ("deployment", "canary; try the fast one"),
        ("bundle", world.event.bundle),
        ("engine", "openvino fp32"),
        ("version", "sentiment 2"),
        ("made from", world.trained),
        ("data", LINEAGE.data),
        ("commit", LINEAGE.commit),
        ("parameters", LINEAGE.params),
        ("lock", LINEAGE.lock),
    ]
    assert render(found).splitlines()[2] == "answer      positive (0.750)"


def test_a_caller_who_chose_the_bundle_is_told(world: World) -> None:
    found = world.trace(world.write(replace(world.event, pinned=True)))
    assert ("arm", "challenger, generation 2 of sentiment, chosen by the caller") in rows(found)
    assert found.as_dict()["event"]["pinned"] is True


def test_the_trace_is_json_and_carries_no_text(world: World) -> None:
    text = json.dumps(world.trace(world.write(world.event)).as_dict())
    assert json.loads(text)["lineage"]["commit"] == LINEAGE.commit
    assert json.loads(text)["version"] == {"name": "sentiment", "number": 2}
    assert "secret" not in text


def test_the_label_told_later_is_told(world: World) -> None:
    prediction_id = world.write(world.event)
    assert world.trace(prediction_id).feedback is None
    for label, at in (("positive", 1_700_000_100.0), ("negative", 1_700_000_200.5)):
        append_feedback(world.events, prediction_id, label, at=at)
    found = world.trace(prediction_id)
    assert found.feedback == Feedback(prediction_id, "negative", 1_700_000_200.5)
    assert rows(found)[2:5] == [
        ("answer", "positive (0.750)"),
        ("label told", "negative, 2023-11-14T22:16:40.500+00:00"),
        ("latency", "3.2 ms"),
    ]
    assert found.as_dict()["feedback"] == {"label": "negative", "time": 1_700_000_200.5}


def test_a_compacted_prediction_is_traced_through_the_index(world: World, tmp_path: Path) -> None:
    event = replace(world.event, time=time.time())
    append_feedback(world.events, world.write(event), "negative", at=1.0)
    with EventIndex(f"sqlite:///{tmp_path / 'lnmt.db'}") as index:
        compact(world.events, index)
        found = trace(
            event.id, events=world.events, bundles=world.bundles, deployments=None, registry=None, index=index
        )
    assert (found.event, found.feedback) == (event, Feedback(event.id, "negative", 1.0))


def test_labels_that_cannot_be_read_leave_a_gap(world: World) -> None:
    prediction_id = world.write(world.event)
    directory_of(world.events).mkdir()
    (directory_of(world.events) / "feedback-0-1700000000000-1700000000000-0.parquet").write_bytes(b"damaged")
    found = world.trace(prediction_id)
    assert found.feedback is None
    assert found.gaps == ("the labels cannot be read: a segment of the prediction store is damaged",)


def test_an_id_that_no_prediction_has_is_an_error_that_says_what_to_do(world: World) -> None:
    world.write(world.event)
    with pytest.raises(LnmtError, match="no prediction has this id") as caught:
        world.trace("0190-not-there")
    assert "x-lnmt-prediction-id" in str(caught.value)
    assert "LNMT_STATE" in str(caught.value.fix)


def test_without_the_bundle_the_registry_tells_the_lineage(world: World) -> None:
    shutil.rmtree(world.bundles.path(world.event.bundle))
    found = world.trace(world.write(world.event))
    assert (found.manifest, found.lineage, found.ancestors) == (None, LINEAGE, (world.trained,))
    assert found.gaps == ("the bundle cannot be opened: no such bundle in the store",)


def test_whatever_is_away_leaves_a_gap(world: World) -> None:
    event = replace(world.event, model="topic", bundle=sha256_bytes(b"gone"), error="boom", label=None, scores={})
    found = world.trace(world.write(event), Versions(away=True))
    assert (found.deployment, found.manifest, found.version, found.lineage, found.ancestors) == (None,) * 4 + ((),)
    assert found.gaps == (
        "the deployment store knows no generation 2 of topic",
        "the bundle cannot be opened: no such bundle in the store",
        "the registry cannot be read: MLflow refused",
    )
    assert ("answer", "error: boom") in rows(found)
    assert ("gap", found.gaps[0]) in rows(found)


def test_a_bundle_that_the_generation_did_not_have_is_told(world: World) -> None:
    found = world.trace(world.write(replace(world.event, arm="champion")))
    assert found.gaps == ("the champion of generation 2 was another bundle",)


def test_generation_0_has_no_deployment(world: World) -> None:
    found = world.trace(world.write(replace(world.event, generation=0)), Versions())
    assert found.deployment is None
    assert found.gaps == (
        "generation 0: the bundle that came with the service, with no deployment store",
        "the bundle is not registered as a version of sentiment",
    )


def test_without_stores_the_event_and_its_bundle_are_left(world: World) -> None:
    found = trace(world.write(world.event), events=world.events, bundles=world.bundles, deployments=None, registry=None)
    assert found.lineage == LINEAGE
    assert found.gaps == ("no deployment store was asked", "no registry was asked")


def test_a_line_of_ancestors_is_followed_as_far_as_the_store_goes(world: World, tmp_path: Path) -> None:
    older = plain_bundle(tmp_path / "older", "older", parent=sha256_bytes(b"first"))
    newer = plain_bundle(tmp_path / "newer", "newer", parent=older.digest)
    for bundle in (older, newer):
        world.bundles.put(bundle)
    found = world.trace(world.write(replace(world.event, bundle=newer.digest)), Versions())
    assert found.ancestors == (older.digest, sha256_bytes(b"first"))
