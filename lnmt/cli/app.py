"""All commands in one table, in the order of a model's life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.main

from lnmt.cli import keys, live, models, pipeline, project, tune

COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("init", project.init),
    ("doctor", project.doctor),
    ("run", pipeline.run),
    ("stage", pipeline.stage),
    ("train", pipeline.train),
    ("tune", tune.tune),
    ("evaluate", pipeline.evaluate),
    ("optimize", pipeline.optimize),
    ("register", models.register),
    ("models", models.models),
    ("release", live.release),
    ("promote", live.promote),
    ("rollback", live.rollback),
    ("serve", live.serve),
    ("predict", models.predict),
    ("monitor", live.monitor),
    ("trace", models.trace),
    ("ui", live.ui),
)

GROUPS: tuple[tuple[str, str, tuple[tuple[str, Callable[..., None]], ...]], ...] = (
    ("keys", "API keys of the service.", (("create", keys.create), ("list", keys.list_keys), ("revoke", keys.revoke))),
)


def _version(asked: bool) -> None:
    if asked:
        from lnmt import __version__

        typer.echo(f"lnmt {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """From raw data to a model server that looks after itself.

    Every command works on the nearest project above (the directory of params.yaml), or on --project.
    Exit codes: 0 done, 1 something a person can mend, 2 a gate blocks, 75 try again.
    """


def command() -> Any:
    """The command-line parser; building it imports no library that works on data."""
    app = typer.Typer(name="lnmt", no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    app.callback()(_root)
    for name, function in COMMANDS:
        app.command(name)(function)
    for group, says, commands in GROUPS:
        part = typer.Typer(no_args_is_help=True, help=says, rich_markup_mode=None)
        for name, function in commands:
            part.command(name)(function)
        app.add_typer(part, name=group)
    return typer.main.get_command(app)
