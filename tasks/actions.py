"""One Prefect task for each action on live state; each may be done again without harm."""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact

from lnmt.drive import actions
from lnmt.drive.actions import Which
from lnmt.monitoring.signal import Signal
from lnmt.registry import Version
from lnmt.rollout.state import Transition
from lnmt.runtime.batch import BatchSummary
from tasks.policy import edge, lnmt_task
from tasks.progress import Mirrored, mirror

MINUTE_S = 60.0


@lnmt_task("register", timeout_s=30 * MINUTE_S, tags={"lnmt", "action"})
def register(which: Which) -> Version:
    """`models/WHICH` as a model version."""
    with actions.open_live(edge()) as live:
        version = actions.register(live, which)
    create_markdown_artifact(
        key="version",
        markdown=f"**{version.name}** version {version.number}: {version.engine} {version.precision}\n\n"
        f"- bundle `{version.bundle}`\n- data `{version.lineage.data}`\n- commit `{version.lineage.commit}`\n",
        description=f"{version.name} version {version.number}",
    )
    return version


@lnmt_task("release", timeout_s=10 * MINUTE_S, tags={"lnmt", "action"})
def release(digest: str, share: float | None) -> Transition:
    """A registered bundle before traffic."""
    with actions.open_live(edge()) as live:
        transition = actions.release(live, digest, share=share)
    publish_deployment(transition)
    return transition


@lnmt_task("judge", timeout_s=10 * MINUTE_S, tags={"lnmt", "action"})
def judge() -> Transition | None:
    """A challenger that fails too often goes."""
    with actions.open_live(edge()) as live:
        transition = actions.judge(live)
    if transition is not None and transition.changed:
        publish_deployment(transition)
    return transition


@lnmt_task("monitor", timeout_s=60 * MINUTE_S, tags={"lnmt", "action", "monitoring"})
def monitor() -> Signal | None:
    """The newest traffic against the champion's profile."""
    settings = edge()
    with actions.open_live(settings) as live:
        signal = actions.monitor(live)
    page = settings.project / "reports/monitoring/drift.html"
    if signal is not None and page.is_file():
        create_link_artifact(
            key="drift", link=page.as_uri(), link_text="reports/monitoring/drift.html", description=signal.reason
        )
    return signal


@lnmt_task("predict", timeout_s=24 * 60 * MINUTE_S, tags={"lnmt", "action"})
def predict(source: Path, out: Path, text_column: str) -> BatchSummary:
    """A file of texts through the champion, or through models/optimized for a task that is never released."""
    settings = edge()
    with actions.open_live(settings) as live, mirror("predict") as shown:
        progress = Mirrored(settings.state_dir / "progress" / "predict.jsonl", shown)
        return actions.predict(live, source, out, text_column=text_column, progress=progress)


def publish_deployment(transition: Transition) -> None:
    """What is live now, and why."""
    state = transition.state
    create_markdown_artifact(
        key="deployment",
        markdown=f"**{state.name}** generation {state.generation}, {state.phase}: {transition.reason}\n\n"
        f"- champion `{state.champion}`\n- challenger `{state.challenger}`, share {state.share:.0%}\n",
        description=transition.reason,
    )
