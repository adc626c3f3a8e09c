"""Commands about the project itself: init, doctor."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lnmt.cli.output import AsJson, Project, show, table

if TYPE_CHECKING:
    from lnmt.init.edits import Edit
    from lnmt.init.labels import Look
    from lnmt.params import FilesSource
    from lnmt.types import Task


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
    task: Annotated[
        str | None, typer.Option(help="What is learnt; default what the labels tell: docs/how-to/own-data.md.")
    ] = None,
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
    wanted = _task(task, data)
    edit = Edit()
    look = None
    if data is not None:
        look = _own_data(edit, directory, data, text, label, wanted, slices or [], name, encoding, ask=ask)
    if profile is Profile.tiny:
        make_tiny(edit)
    if store_text is None:
        store_text = ask and typer.confirm("Keep the text of requests in the prediction store?", default=False)
    written = write_project(directory, edit, data, store_text=store_text)
    lines = [
        f"project {edit.content['name']!r} is in {written.project}",
        *(_seen(look, guessed=task is None) if look else []),
        *([] if written.git else ["git was not found: lineage will name no commit"]),
        "next:",
        f"  cd {directory}",
        "  lnmt run            # data to an engine that may ship",
        *_after_run(edit.content["task"]),
    ]
    value = {
        "project": written.project,
        "name": edit.content["name"],
        "task": edit.content["task"],
        "labels": look.labels if look else {},
        "commit": written.commit,
    }
    show(value, lines, as_json=as_json)


def _task(asked: str | None, data: Path | None) -> Task | None:
    """What --task says. Raises UnknownName, and LnmtError beside a shipped profile, which has its own."""
    from typing import get_args

    from lnmt.errors import LnmtError, UnknownName
    from lnmt.types import Task

    if asked is None:
        return None
    if data is None:
        raise LnmtError("a shipped data set has its own task", where="--task", value=asked, fix="give --data too")
    if asked not in get_args(Task):
        raise UnknownName("task", asked, get_args(Task), where="--task")
    return cast("Task", asked)


def _seen(look: Look, *, guessed: bool) -> list[str]:
    """What the file was taken for, for people."""
    from lnmt.init.tasks import CAUSAL_MODEL

    lines = [f"task {look.task}" + ("; another one: --task" if guessed else "")]
    if look.labels:
        lines += table(["label", "rows"], look.labels.items())
    if look.numbers:
        figures = {name: f"{value:.4g}" for name, value in look.numbers.items()}
        lines.append("labels from {minimum} to {maximum}, mean {mean}, deviation {deviation}".format(**figures))
    if look.unlabelled:
        lines.append(f"{look.unlabelled:,} of {look.rows:,} rows have no label: they go to quarantine")
    if look.task == "text-generation":
        lines.append(f"{look.rows:,} texts; {CAUSAL_MODEL} learns them: params.yaml: train.encoder")
    return lines


def _after_run(task: str) -> list[str]:
    from lnmt.bundles.served import SERVED

    if task in SERVED:
        return ["  lnmt register && lnmt release", "  lnmt serve          # then POST /predict"]
    return [
        "  lnmt predict FILE --out answers.parquet",
        "  lnmt register       # the service does not answer this task",
    ]


def _own_data(
    edit: Edit,
    directory: Path,
    data: Path,
    text: str | None,
    label: str | None,
    task: Task | None,
    slices: list[str],
    name: str | None,
    encoding: str,
    *,
    ask: bool,
) -> Look:
    """Edit the parameters for the file; returns what it holds."""
    from lnmt.errors import LnmtError
    from lnmt.init.edits import for_data
    from lnmt.init.labels import read_labels
    from lnmt.init.look import LABEL_NAMES, TEXT_NAMES, choose_column, file_columns, source_of
    from lnmt.init.project import SOURCE

    names, csv_options = file_columns(data, encoding)
    text = _column("text", text, names, TEXT_NAMES, ask=ask)
    if task != "text-generation":
        label = _column("label", label, names, LABEL_NAMES, ask=ask, or_else="--task text-generation, which has none")
    elif label is not None:
        raise LnmtError("text-generation has no labels", where="--label", value=label, fix="leave --label out")
    for one in slices:
        choose_column("slice", one, names, ())
    identity = "id" if "id" in names and "id" not in (text, label) else None
    source = source_of(data.name, text, label, identity, csv_options, encoding)
    task = task or _guess(data, source, ask=ask)
    look = read_labels(data, source, task, edit.content["validate"]["max_quarantined_share"])
    chosen = name or re.sub(r"[^a-z0-9_-]+", "-", directory.absolute().name.lower()).strip("-_") or "model"
    inside = source_of(f"{SOURCE}/{data.name}", text, label, identity, csv_options, encoding)
    for_data(edit, chosen, inside, look, slices)
    return look


def _guess(data: Path, source: FilesSource, *, ask: bool) -> Task:
    """The task that the labels tell, and a person agrees with."""
    from lnmt.init.labels import guess_task

    task = guess_task(data, source)
    usual: Task = "text-classification"
    if not ask or task == usual or typer.confirm(f"The labels look like those of {task}: is it?", default=True):
        return task
    return usual


def _column(
    kind: str, asked: str | None, names: list[str], usual: tuple[str, ...], *, ask: bool, or_else: str = ""
) -> str:
    from lnmt.init.look import choose_column

    guess = choose_column(kind, asked, names, usual)
    if guess is not None and (asked is not None or not ask):
        return guess
    answer = _ask(f"Column of {kind}s ({', '.join(names)})", guess, f"--{kind}", ask=ask, or_else=or_else)
    chosen = choose_column(kind, answer, names, usual)
    assert chosen is not None, "an asked column is there, or raises"
    return chosen


def _ask(question: str, guess: str | None, flag: str, *, ask: bool, or_else: str = "") -> str:
    if ask:
        return str(typer.prompt(question, default=guess))
    from lnmt.errors import LnmtError

    ways = [f"give {flag}", *([or_else] if or_else else []), "or run in a terminal to be asked"]
    raise LnmtError(f"not told: {question}", where=flag, fix=", ".join(ways))


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
