"""Which tasks the HTTP service answers; everything around it (serve, release, monitoring) asks here."""

from __future__ import annotations

from lnmt.bundles.bundle import Bundle
from lnmt.errors import LnmtError
from lnmt.types import Task

SERVED: tuple[Task, ...] = ("text-classification",)


def check_served(bundle: Bundle) -> Bundle:
    """`bundle`, if the service answers its task. Raises LnmtError, so that nothing else is ever released."""
    check_served_task(bundle.manifest.task, bundle.path)
    return bundle


def check_served_task(task: Task, where: object) -> None:
    """Raise LnmtError where the service does not answer `task`, found at `where`."""
    if task not in SERVED:
        raise LnmtError(
            "the service does not answer this task",
            where=where,
            value=task,
            allowed=", ".join(SERVED),
            fix="answer files with `lnmt predict`, or texts in Python with lnmt.Model",
        )
