"""What the task asks of the other sections."""

from __future__ import annotations

from lnmt.params.data import ValidateParams
from lnmt.params.ingest import IngestParams
from lnmt.types import WITHOUT_LABELS, Task


def task_problems(task: Task, ingest: IngestParams, validate: ValidateParams) -> list[str]:
    """Each thing that does not fit the task, with its place; [] where all does."""
    problems = []
    if (validate.labels is None) != (task in WITHOUT_LABELS):
        needs = "null, since the task has no label set" if task in WITHOUT_LABELS else "a list of names"
        problems.append(f"validate.labels: {task} needs {needs} (found {validate.labels!r})")
    if task == "token-classification":
        problems += _tag_problems(validate.labels or [])
    for place, source in enumerate(ingest.sources):
        where = f"ingest.sources.{place}"
        if (source.columns.label is None) != (task == "text-generation"):
            needs = "null, since no row has a label" if task == "text-generation" else "the name of a column"
            problems.append(f"{where}.columns.label: {task} needs {needs} (found {source.columns.label!r})")
        if source.bins is not None and task != "text-classification":
            problems.append(
                f"{where}.bins: bins make names of numbers, for text-classification alone; {task} needs null"
            )
    return problems


def _tag_problems(tags: list[str]) -> list[str]:
    problems = [
        f"validate.labels: a tag holds no white space, which stands between tags (found {tag!r})"
        for tag in tags
        if tag.split() != [tag]
    ]
    problems += [
        f"validate.labels: {tag!r} follows 'B-{tag[2:]}', which is not in the set (found {tags})"
        for tag in tags
        if tag.startswith("I-") and f"B-{tag[2:]}" not in tags
    ]
    return problems
