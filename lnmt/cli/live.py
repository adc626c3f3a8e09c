"""Commands that act on what is live, or show it: release, promote, rollback, serve, monitor, ui."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lnmt.cli.output import AsJson, Project, show

if TYPE_CHECKING:
    from lnmt.rollout.state import Transition

Force = Annotated[bool, typer.Option("--force", help="Do it against what was measured.")]


def release(
    bundle: Annotated[
        str, typer.Argument(help="optimized, reference, a version number or a digest; registered where it is not.")
    ] = "optimized",
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the traffic, for a challenger; default params.yaml.")
    ] = None,
    force: Force = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Bring a version before traffic."""
    from lnmt.drive import actions
    from lnmt.settings import load_settings

    with actions.open_live(load_settings(project)) as live:
        digest = actions.resolve(live, bundle)
        if bundle in {"optimized", "reference"}:
            actions.register(live, bundle)
        _tell(actions.release(live, digest, share=share, force=force), as_json=as_json)


def promote(
    bundle: Annotated[str | None, typer.Argument(help="The challenger that is meant; default whichever runs.")] = None,
    force: Force = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Make the challenger champion; exits 2 where its traffic does not allow it."""
    from lnmt.drive import actions
    from lnmt.settings import load_settings

    with actions.open_live(load_settings(project)) as live:
        digest = None if bundle is None else actions.resolve(live, bundle)
        _tell(actions.promote(live, digest=digest, force=force), as_json=as_json)


def rollback(
    reason: Annotated[str, typer.Option(help="Kept in the deployment's history.")] = "asked for by hand",
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Take the challenger away, or go back to the champion before."""
    from lnmt.drive import actions
    from lnmt.settings import load_settings

    with actions.open_live(load_settings(project)) as live:
        _tell(actions.rollback(live, reason=reason), as_json=as_json)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default LNMT_HOST or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default LNMT_PORT or 3000.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that answer; default LNMT_WORKERS or what suits the machine.")
    ] = None,
    project: Project = None,
) -> None:
    """Serve what is released over HTTP, until Ctrl-C."""
    from lnmt.params import load_params
    from lnmt.serving.server import serve as run
    from lnmt.settings import load_settings

    flags = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = load_settings(project, **flags)
    name = load_params(settings.project / "params.yaml").name
    raise typer.Exit(run(settings, name=name, workers=workers))


def monitor(
    project: Project = None,
    keep_latency: Annotated[
        bool, typer.Option("--keep-latency", help="Give the next `lnmt optimize` the latencies measured in service.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge the newest traffic against what the model was made for."""
    from dataclasses import asdict

    from lnmt.drive import actions
    from lnmt.settings import load_settings

    with actions.open_live(load_settings(project)) as live:
        signal = actions.monitor(live)
        kept = actions.keep_latency(live) if keep_latency else None
    if kept is not None and not as_json:
        typer.echo(f"kept for the next search: {kept}")
    if signal is None:
        show(None, "nothing was released yet: there is no traffic to judge", as_json=as_json)
        return
    verdict = {True: "drifted", False: "no drift", None: "no verdict"}[signal.drifted]
    show(asdict(signal), f"{verdict}: {signal.reason} ({signal.window.rows} rows)", as_json=as_json)


def ui(project: Project = None) -> None:
    """Start the pages of Prefect, MLflow and the reports, until Ctrl-C."""
    from lnmt.drive.pages import show_pages
    from lnmt.settings import load_settings

    show_pages(load_settings(project), tell=typer.echo)


def _tell(transition: Transition, *, as_json: bool) -> None:
    from dataclasses import asdict

    state = transition.state
    text = [
        transition.reason if transition.changed else f"nothing to do: {transition.reason}",
        f"generation {state.generation}, {state.phase}; champion {state.champion}",
        *([f"challenger {state.challenger} with {state.share:.0%} of the traffic"] if state.challenger else []),
    ]
    show({**asdict(state), "changed": transition.changed, "reason": transition.reason}, text, as_json=as_json)
