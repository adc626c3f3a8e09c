"""Commands that run stages: run, stage, train, evaluate, optimize."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from lnmt.cli.output import AsJson, Project, Wait, show

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show all that DVC and the stages print.")]


def run(
    until: Annotated[str | None, typer.Argument(metavar="STAGE", help="Last stage; default all.")] = None,
    project: Project = None,
    wait: Wait = 300,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Run the pipeline up to STAGE; what is up to date is passed over."""
    _run(until, project, wait, verbose, as_json)


def train(project: Project = None, wait: Wait = 300, verbose: Verbose = False, as_json: AsJson = False) -> None:
    """Run the pipeline up to a trained model."""
    _run("train", project, wait, verbose, as_json)


def evaluate(project: Project = None, wait: Wait = 300, verbose: Verbose = False, as_json: AsJson = False) -> None:
    """Run the pipeline up to the metrics and the verdict against the gates."""
    _run("evaluate", project, wait, verbose, as_json)


def optimize(
    project: Project = None,
    wait: Wait = 300,
    verbose: Verbose = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell why the winner won, and why each other candidate lost.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the pipeline up to the fastest engine that is no worse; exits 2 where a gate blocks."""
    _run("optimize", project, wait, verbose, as_json and not explain)
    if explain:
        _explain(project, as_json)


def _explain(project: Project, as_json: bool) -> None:
    from lnmt.files import read_json
    from lnmt.optimization.explain import explain
    from lnmt.settings import load_settings

    document = read_json(load_settings(project).project / "reports/optimization/measurements.json")
    show(document, explain(document), as_json=as_json)


def stage(
    name: Annotated[str, typer.Argument(help="A line of lnmt/stages.py.")],
    project: Project = None,
) -> None:
    """Run one stage here and now, fresh or not. This is what DVC calls; for yourself use `lnmt run`."""
    from lnmt.drive.exits import write_exit
    from lnmt.drive.live_metrics import own_live_metrics
    from lnmt.settings import load_settings
    from lnmt.stages import find_stage, run_stage

    settings = load_settings(project)
    find_stage(name)
    try:
        with own_live_metrics(name, settings):
            run_stage(name, settings)
    except BaseException as error:
        write_exit(settings, name, error)
        raise
    write_exit(settings, name, None)


def _run(until: str | None, project: Project, wait: float, verbose: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from lnmt.drive.bars import bars
    from lnmt.drive.pipeline import run_pipeline
    from lnmt.settings import load_settings

    settings = load_settings(project)
    results = run_pipeline(until, settings, partial(bars, verbose=verbose), wait_s=wait)
    ran = [result.name for result in results if result.outcome != "up to date"]
    text = f"{', '.join(ran)}: done" if ran else "everything is up to date"
    show([asdict(result) for result in results], text, as_json=as_json)
