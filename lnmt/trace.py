"""Where an answer came from: prediction id → arm and generation → bundle → data, commit and parameters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.bundles import BundleStore, Lineage, Manifest
from lnmt.errors import LnmtError
from lnmt.monitoring.events import PredictionEvent, find_event
from lnmt.monitoring.feedback import Feedback, find_feedback

if TYPE_CHECKING:
    from lnmt.monitoring.event_index import EventIndex
    from lnmt.registry import Registry, Version
    from lnmt.rollout.deployment import Deployment
    from lnmt.rollout.table import DeploymentStore


@dataclass(frozen=True)
class Trace:
    """One prediction and everything behind it. What could not be followed is None, and told in `gaps`."""

    event: PredictionEvent
    feedback: Feedback | None  # the label told last; None where none was told
    deployment: Deployment | None  # as it was in the event's generation
    manifest: Manifest | None  # of the bundle that answered
    version: Version | None  # in MLflow
    ancestors: tuple[str, ...]  # digests: the bundle it was made from, the one before that, …
    lineage: Lineage | None
    gaps: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values; without the text of the request, which traces never carry."""
        event = dataclasses.asdict(self.event)
        del event["text"], event["pooled"]
        return {
            "event": event,
            "feedback": None if self.feedback is None else {"label": self.feedback.label, "time": self.feedback.time},
            "deployment": None if self.deployment is None else dataclasses.asdict(self.deployment),
            "version": None if self.version is None else {"name": self.version.name, "number": self.version.number},
            "engine": None if self.manifest is None else self.manifest.engine,
            "precision": None if self.manifest is None else self.manifest.precision,
            "ancestors": list(self.ancestors),
            "lineage": None if self.lineage is None else self.lineage.model_dump(mode="json"),
            "gaps": list(self.gaps),
        }


def trace(
    prediction_id: str,
    *,
    events: Path,
    bundles: BundleStore,
    deployments: DeploymentStore | None,
    registry: Registry | None,
    index: EventIndex | None = None,
) -> Trace:
    """Follow a prediction id back. `events`: the directory of spool and segments; `index` makes it quick.

    Raises LnmtError where no event has this id. Whatever else is away (a bundle that was deleted, MLflow)
    leaves a gap, no error: what is left of the trace is the more needed then.
    """
    event = find_event(events, prediction_id, index=index)
    if event is None:
        raise LnmtError(
            "no prediction has this id",
            where=events,
            value=prediction_id,
            allowed="the value of the header x-lnmt-prediction-id of a reply",
            fix="copy the whole id; where the service runs elsewhere, point LNMT_STATE at its state directory",
        )
    gaps: list[str] = []
    feedback = _feedback(prediction_id, events, gaps)
    deployment = _deployment(event, deployments, gaps)
    manifest = _manifest(event.bundle, bundles, gaps)
    version = _version(event, registry, gaps)
    lineage = manifest.lineage if manifest is not None else version.lineage if version is not None else None
    parent = manifest.parent if manifest is not None else version.parent if version is not None else None
    return Trace(event, feedback, deployment, manifest, version, _ancestors(parent, bundles), lineage, tuple(gaps))


def rows(found: Trace) -> list[tuple[str, str]]:
    """What a person reads of a trace: (what, value), in the order of the way back."""
    event, lineage = found.event, found.lineage
    lines = [
        ("prediction", event.id),
        ("time", _moment(event.time)),
        ("answer", f"error: {event.error}" if event.error is not None else _answer(event)),
        *_given(event),
        *_told(found.feedback),
        ("latency", f"{event.latency_ms:.1f} ms{', from the cache' if event.cached else ''}"),
        ("arm", f"{event.arm}, generation {event.generation} of {event.model}{_pinned(event)}"),
    ]
    if found.deployment is not None:
        lines.append(("deployment", f"{found.deployment.phase}; {found.deployment.why}"))
    lines.append(("bundle", event.bundle))
    if found.manifest is not None:
        lines.append(("engine", f"{found.manifest.engine} {found.manifest.precision}"))
    if found.version is not None:
        lines.append(("version", f"{found.version.name} {found.version.number}"))
    lines += [("made from", digest) for digest in found.ancestors]
    if lineage is not None:
        commit = lineage.commit or "none: the project is no git checkout"
        lines += [
            ("data", lineage.data or "not recorded"),
            ("commit", f"{commit}{' (with changes that were not committed)' if lineage.dirty else ''}"),
            ("parameters", lineage.params),
            ("lock", lineage.lock),
        ]
    return lines + [("gap", gap) for gap in found.gaps]


def render(found: Trace) -> str:
    """The trace as aligned lines."""
    lines = rows(found)
    width = max(len(what) for what, _ in lines)
    return "\n".join(f"{what:<{width}}  {value}" for what, value in lines)


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")


def _told(feedback: Feedback | None) -> list[tuple[str, str]]:
    return [] if feedback is None else [("label told", f"{feedback.label}, {_moment(feedback.time)}")]


def _given(event: PredictionEvent) -> list[tuple[str, str]]:
    """What the reply told instead, where postprocessors changed it."""
    if event.withheld is not None:
        return [("withheld", event.withheld)]
    return [] if event.given_label is None else [("told as", event.given_label)]


def _pinned(event: PredictionEvent) -> str:
    return ", chosen by the caller" if event.pinned else ""


def _answer(event: PredictionEvent) -> str:
    score = event.scores.get(event.label or "")
    return f"{event.label}" if score is None else f"{event.label} ({score:.3f})"


def _feedback(prediction_id: str, events: Path, gaps: list[str]) -> Feedback | None:
    try:
        return find_feedback(events, prediction_id)
    except LnmtError as error:
        gaps.append(f"the labels cannot be read: {error.what}")
        return None


def _deployment(event: PredictionEvent, deployments: DeploymentStore | None, gaps: list[str]) -> Deployment | None:
    if event.generation == 0:
        gaps.append("generation 0: the bundle that came with the service, with no deployment store")
        return None
    if deployments is None:
        gaps.append("no deployment store was asked")
        return None
    try:
        found = deployments.at(event.model, event.generation)
    except LnmtError as error:
        gaps.append(f"the deployment store cannot be read: {error.what}")
        return None
    if found is None:
        gaps.append(f"the deployment store knows no generation {event.generation} of {event.model}")
    elif event.bundle != (found.champion if event.arm == "champion" else found.challenger):
        gaps.append(f"the {event.arm} of generation {event.generation} was another bundle")
    return found


def _manifest(digest: str, bundles: BundleStore, gaps: list[str]) -> Manifest | None:
    try:
        return bundles.open(digest).manifest
    except LnmtError as error:
        gaps.append(f"the bundle cannot be opened: {error.what}")
        return None


def _version(event: PredictionEvent, registry: Registry | None, gaps: list[str]) -> Version | None:
    if registry is None:
        gaps.append("no registry was asked")
        return None
    try:
        found = registry.version_of(event.model, event.bundle)
    except LnmtError as error:
        gaps.append(f"the registry cannot be read: {error.what}")
        return None
    if found is None:
        gaps.append(f"the bundle is not registered as a version of {event.model}")
    return found


def _ancestors(parent: str | None, bundles: BundleStore) -> tuple[str, ...]:
    """Digests back to the first bundle; beyond one that the store does not hold nothing is known."""
    found: list[str] = []
    while parent is not None and parent not in found:
        found.append(parent)
        try:
            parent = bundles.open(parent).manifest.parent
        except LnmtError:
            break
    return tuple(found)
