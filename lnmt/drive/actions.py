"""The actions on live state, idempotent by bundle digest: what the command and the Prefect tasks both call.

Stages end at `models/optimized`; from there on DVC sees nothing, and what is live says what is true.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lnmt.bundles import Bundle, BundleStore
from lnmt.bundles.packed import pack_champion
from lnmt.bundles.served import SERVED, check_served
from lnmt.errors import GateBlocked, LnmtError
from lnmt.files import read_json, write_json
from lnmt.params import Params, load_params
from lnmt.plugins import load_plugins
from lnmt.progress import Progress
from lnmt.settings import Settings

if TYPE_CHECKING:
    from lnmt.monitoring.signal import Signal
    from lnmt.registry import Registry, Version
    from lnmt.rollout.deployment import Deployment
    from lnmt.rollout.state import Transition
    from lnmt.rollout.table import DeploymentStore
    from lnmt.runtime.batch import BatchSummary
    from lnmt.trace import Trace

Which = Literal["reference", "optimized"]
EXAMPLES = 3
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Live:
    """What a command needs to act on one project's model."""

    settings: Settings
    params: Params
    deployments: DeploymentStore
    registry: Registry
    bundles: BundleStore

    @property
    def name(self) -> str:
        """The model's name."""
        return self.params.name

    def deployment(self) -> Deployment:
        """What is live. Raises LnmtError before the first release."""
        found = self.deployments.read(self.name)
        if found is None:
            raise LnmtError(
                "nothing was released yet", where=self.settings.database_url, value=self.name, fix="run: lnmt release"
            )
        return found


@contextmanager
def open_live(settings: Settings) -> Iterator[Live]:
    """The deployment store, the registry and the bundle store that the settings name; none connects before its use."""
    from lnmt.registry import Registry
    from lnmt.rollout.table import DeploymentStore

    params = load_params(settings.project / "params.yaml")
    load_plugins(params.plugins, settings.project)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    registry = Registry(settings.tracking_uri, settings.state_dir / "mlflow")
    with DeploymentStore(settings.database_url) as deployments:
        yield Live(settings, params, deployments, registry, BundleStore(settings.bundles_dir))


def register(live: Live, which: str) -> Version:
    """Keep `models/WHICH` in the bundle store and make it a version; the same bundle makes no second one.

    Raises GateBlocked where it does not come from the model that passed the gates.
    """
    root = live.settings.project
    path = root / "models" / which
    if which not in get_args(Which) or not path.is_dir():
        raise LnmtError("no such bundle", where=path, allowed=", ".join(get_args(Which)), fix="run: lnmt optimize")
    bundle = Bundle.open(path)
    _check_passed(root, bundle)
    live.bundles.put(bundle)
    return live.registry.register(
        bundle,
        name=live.name,
        metrics=figures(root, bundle),
        input_example=example_texts(root / "data/processed/test"),
        reports=[root / "reports/optimization"],
    )


def _check_passed(root: Path, bundle: Bundle) -> None:
    for path in (root / "reports/gate/approval.json", root / "reports/evaluation/verdict.json"):
        found = read_json(path) if path.is_file() else {"bundle": "nothing", "passed": False}
        if not found["passed"] or found["bundle"] != bundle.manifest.parent:
            raise GateBlocked(
                "the bundle does not come from a model that passed the gates",
                where=path,
                value=f"{'passed' if found['passed'] else 'not passed'}, for {found['bundle']}",
                allowed=f"passed, for {bundle.manifest.parent}",
                fix="run: lnmt optimize",
            )


def figures(root: Path, bundle: Bundle) -> dict[str, float]:
    """What is registered with a version: test metrics, those of the baselines, and what was measured of its engine."""
    metrics = read_json(root / "reports/evaluation/metrics.json")
    measured = bundle.manifest.evidence.get("optimization", {}).get("measured", {})
    parts = {"test": metrics["test"], "baselines": metrics["baselines"], "engine": measured}
    return dict(_numbers(parts, ""))


def _numbers(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, entry in value.items():
        if isinstance(entry, dict):
            yield from _numbers(entry, f"{prefix}{key}.")
        elif isinstance(entry, int | float) and not isinstance(entry, bool):
            yield f"{prefix}{key}", float(entry)


def example_texts(split: Path) -> list[str]:
    """The first few texts of a split."""
    import pyarrow.parquet as pq

    from lnmt.types import TEXT

    for path in sorted(split.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(EXAMPLES, columns=[TEXT]):
            return [str(text) for text in batch.column(TEXT).to_pylist()]
    return []


def resolve(live: Live, reference: str) -> str:
    """The digest of `optimized`, `reference`, a version number, or a digest or its first characters."""
    if reference in ("reference", "optimized"):
        return Bundle.open(live.settings.project / "models" / reference).digest
    if reference.isdigit() and len(reference) < 8:
        versions = {str(version.number): version.bundle for version in live.registry.versions(live.name)}
        found = [versions[reference]] if reference in versions else []
        known = ", ".join(versions)
    else:
        digests = live.bundles.digests()
        found = [digest for digest in digests if digest.removeprefix("sha256:").startswith(_hex(reference))]
        known = ", ".join(digest[:19] for digest in digests)
    if len(found) != 1:
        raise LnmtError(
            "no such version" if not found else "more than one bundle begins so",
            where=live.name,
            value=reference,
            allowed=known or "nothing is registered",
            fix="list them: lnmt models",
        )
    return found[0]


def _hex(reference: str) -> str:
    return reference.removeprefix("sha256:")


def release(live: Live, digest: str, *, share: float | None = None, force: bool = False) -> Transition:
    """Bring a registered bundle before traffic: as champion where nothing is live, else as challenger.

    Raises LnmtError for a task that the service does not answer, and GateBlocked where the bundle was
    measured on hardware of another class, unless `force`.
    """
    from lnmt.rollout.release import release as do

    bundle = check_served(live.bundles.open(digest))
    if not force:
        _check_hardware(bundle)
    gates = live.params.release
    return _done(live, do(live.deployments, live.name, digest, gates, now=time.time(), share=share, force=force))


def _check_hardware(bundle: Bundle) -> None:
    from lnmt.runtime.capabilities import capabilities

    measured = bundle.manifest.evidence.get("optimization", {}).get("hardware")
    here = capabilities().hardware
    if measured not in (None, here):
        raise GateBlocked(
            "the bundle was measured on other hardware: it may be slower here, or answer otherwise",
            where=bundle.path,
            value=measured,
            allowed=here,
            fix="run `lnmt stage optimize` on this machine, or release it with --force",
        )


def promote(live: Live, *, digest: str | None = None, force: bool = False) -> Transition:
    """Make the challenger champion, on the evidence of this generation's traffic."""
    from lnmt.rollout.release import promote as do

    state = live.deployment()
    gates = live.params.release
    return _done(
        live, do(live.deployments, state, _evidence(live, state), gates, now=time.time(), digest=digest, force=force)
    )


def judge(live: Live) -> Transition | None:
    """Roll a challenger that fails too often back; None where nothing was released."""
    from lnmt.rollout.release import judge as do

    state = live.deployments.read(live.name)
    if state is None:
        return None
    judged = do(live.deployments, state, _evidence(live, state), live.params.release, now=time.time())
    return _done(live, judged) if judged.changed else judged


def rollback(live: Live, *, reason: str, digest: str | None = None) -> Transition:
    """Take the challenger away, or go back to the champion before."""
    from lnmt.rollout.release import rollback as do

    gates = live.params.release
    return _done(live, do(live.deployments, live.name, gates, now=time.time(), reason=reason, digest=digest))


def _evidence(live: Live, state: Deployment) -> Any:
    from lnmt.monitoring.events import read_events
    from lnmt.rollout.evidence import evidence

    return evidence(read_events(live.settings.events_dir, since=state.since), state)


def _done(live: Live, transition: Transition) -> Transition:
    """Show what is live where people and `bentoml build` look: MLflow's aliases, `models/champion`.

    Both are projections: where MLflow is away, what is live stays as decided.
    """
    champion = transition.state.champion
    if champion is not None:
        pack_champion(live.bundles.open(champion), live.settings.project)
    try:
        live.registry.project_aliases(transition.state)
    except LnmtError as error:
        _LOG.warning("MLflow's aliases do not show it yet: %s", error)
    return transition


def monitor(live: Live) -> Signal | None:
    """Judge the champion's newest traffic against its profile, into reports/monitoring; None before a release."""
    from lnmt.monitoring.events import read_events
    from lnmt.monitoring.monitor import monitor as do

    state = live.deployments.read(live.name)
    if state is None or state.champion is None:
        return None
    out = live.settings.project / "reports/monitoring"
    return do(read_events(live.settings.events_dir), live.bundles.open(state.champion), live.params.monitor, out)


def keep_latency(live: Live) -> Path | None:
    """What service measured, as an input of the next `optimize`: data/production/latency.json.

    None where nothing was answered yet. An optimize that is up to date is not afterwards.
    """
    from lnmt.monitoring.events import read_events
    from lnmt.monitoring.service_latency import service_latency
    from lnmt.runtime.capabilities import capabilities

    found = service_latency(read_events(live.settings.events_dir), live.bundles.open, capabilities().hardware)
    if not found["bundles"]:
        return None
    target = live.settings.project / "data/production/latency.json"
    write_json(target, found)
    return target


def predict(
    live: Live,
    source: Path,
    out: Path,
    *,
    text_column: str,
    progress: Progress,
    bundle: str | None = None,
    batch_rows: int = 1024,
) -> BatchSummary:
    """Answer every row of a file, in bounded memory; goes on where an earlier run was cut short.

    `bundle` is what `resolve` takes; None: the champion, or for a task that is never released
    `models/optimized`.
    """
    from lnmt.runtime.batch import predict_file
    from lnmt.runtime.predictor import Predictor

    cache = live.settings.state_dir / "engines"
    predictor = Predictor.open(_answering(live, bundle), threads=live.settings.threads, cache=cache)
    try:
        return predict_file(source, out, predictor, text_column=text_column, batch_rows=batch_rows, progress=progress)
    finally:
        predictor.close()


def _answering(live: Live, which: str | None) -> Bundle:
    """The bundle that answers a file."""
    if which is None and live.params.task not in SERVED:
        which = "optimized"
    if which in get_args(Which):
        return Bundle.open(live.settings.project / "models" / str(which))
    digest = live.deployment().champion if which is None else resolve(live, which)
    assert digest is not None, "a released deployment has a champion"
    return live.bundles.open(digest)


def trace(live: Live, prediction_id: str) -> Trace:
    """Where an answer came from. Raises LnmtError for an id that no event has."""
    from lnmt.monitoring.event_index import EventIndex
    from lnmt.trace import trace as do

    with EventIndex(live.settings.database_url) as index:
        return do(
            prediction_id,
            events=live.settings.events_dir,
            bundles=live.bundles,
            deployments=live.deployments,
            registry=live.registry,
            index=index,
        )
