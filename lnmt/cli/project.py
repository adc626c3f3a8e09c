"""Commands about the project itself: init, doctor."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lnmt.cli.output import AsJson, Project, show, table

if TYPE_CHECKING:
    from lnmt.init.edits import Edit


class Profile(StrEnum):
    """Projects that ship with LNMT."""

    demo = "demo"
    tiny = "tiny"


def init(
    directory: Annotated[Path, typer.Argument(help="The new project; made where it is not there.")],
    data: Annotated[
        Path | None, typer.Option(help="CSV, JSON, JSONL, Parquet or Arrow file; may be .gz or .zst.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Its column of texts.")] = None,
    label: Annotated[str | None, typer.Option(help="Its column of labels.")] = None,
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help="A column to report on separately; may be given again.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name; default that of the directory.")] = None,
    encoding: Annotated[str, typer.Option(help="Of a CSV or JSON file.")] = "utf-8",
    profile: Annotated[
        Profile | None, typer.Option(help="A shipped data set in place of --data, or tiny limits.")
    ] = None,
    store_text: Annotated[
        bool | None, typer.Option("--store-text/--no-store-text", help="Keep the text of requests for monitoring.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take what can be told from the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a project from a file of texts and labels."""
    from lnmt.init.edits import Edit, make_tiny
    from lnmt.init.project import check_target, write_project

    check_target(directory)
    ask = not yes and sys.stdin.isatty()
    if data is None and profile is None:
        data = Path(_ask("CSV, JSONL or Parquet file with texts and labels", None, "--data", ask=ask))
    edit = Edit()
    labels: dict[str, int] = {}
    if data is not None:
        labels = _own_data(edit, directory, data, text, label, slices or [], name, encoding, ask=ask)
    if profile is Profile.tiny:
        make_tiny(edit)
    if store_text is None:
        store_text = ask and typer.confirm("Keep the text of requests in the prediction store?", default=False)
    written = write_project(directory, edit, data, store_text=store_text)
    lines = [
        f"project {edit.content['name']!r} is in {written.project}",
        *(table(["label", "rows"], labels.items()) if labels else []),
        "" if written.git else "git was not found: lineage will name no commit",
        "next:",
        f"  cd {directory}",
        "  lnmt run            # data to an engine that may ship",
        "  lnmt register && lnmt release",
        "  lnmt serve          # then POST /predict",
    ]
    value = {"project": written.project, "name": edit.content["name"], "labels": labels, "commit": written.commit}
    show(value, [line for line in lines if line], as_json=as_json)


def _own_data(
    edit: Edit,
    directory: Path,
    data: Path,
    text: str | None,
    label: str | None,
    slices: list[str],
    name: str | None,
    encoding: str,
    *,
    ask: bool,
) -> dict[str, int]:
    """Edit the parameters for the file; returns its labels."""
    from lnmt.init.edits import for_data
    from lnmt.init.look import LABEL_NAMES, TEXT_NAMES, choose_column, file_columns, read_labels, source_of
    from lnmt.init.project import SOURCE

    names, csv_options = file_columns(data, encoding)
    text = _column("text", text, names, TEXT_NAMES, ask=ask)
    label = _column("label", label, names, LABEL_NAMES, ask=ask)
    for one in slices:
        choose_column("slice", one, names, ())
    identity = "id" if "id" in names and "id" not in (text, label) else None
    looked = read_labels(data, source_of(data.name, text, label, identity, csv_options, encoding))
    chosen = name or re.sub(r"[^a-z0-9_-]+", "-", directory.absolute().name.lower()).strip("-_") or "model"
    source = source_of(f"{SOURCE}/{data.name}", text, label, identity, csv_options, encoding)
    for_data(edit, chosen, source, list(looked.labels), slices, looked.rows)
    return looked.labels


def _column(kind: str, asked: str | None, names: list[str], usual: tuple[str, ...], *, ask: bool) -> str:
    from lnmt.init.look import choose_column

    guess = choose_column(kind, asked, names, usual)
    if guess is not None and (asked is not None or not ask):
        return guess
    answer = _ask(f"Column of {kind}s ({', '.join(names)})", guess, f"--{kind}", ask=ask)
    chosen = choose_column(kind, answer, names, usual)
    assert chosen is not None, "an asked column is there, or raises"
    return chosen


def _ask(question: str, guess: str | None, flag: str, *, ask: bool) -> str:
    if ask:
        return str(typer.prompt(question, default=guess))
    from lnmt.errors import LnmtError

    raise LnmtError(f"not told: {question}", where=flag, fix=f"give {flag}, or run in a terminal to be asked")


def doctor(project: Project = None, as_json: AsJson = False) -> None:
    """Check this machine and this project, and say what to mend."""
    from dataclasses import asdict

    from lnmt.init.doctor import examine

    findings = examine(project)
    rows = [(finding.state, finding.what, finding.found) for finding in findings]
    fixes = [f"{finding.what}: {finding.fix}" for finding in findings if finding.state != "ok" and finding.fix]
    show([asdict(finding) for finding in findings], [*table(["", "what", "found"], rows), *fixes], as_json=as_json)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)
