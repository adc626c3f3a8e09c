"""What all tasks share: no cache (DVC is the one cache), retries of what may go through later, a note on failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from lnmt.errors import Transient
from lnmt.settings import Settings, load_settings
from lnmt.telemetry import quiet

P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS_S = [10.0, 60.0, 300.0]


def lnmt_task(name: str, *, timeout_s: float, tags: set[str]) -> Callable[[Callable[P, R]], Task[P, R]]:
    """The decorator of every task."""
    return task(
        name=name,
        tags=tags,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=is_transient,
        timeout_seconds=timeout_s,
        on_failure=[tell_failure],
    )


def edge() -> Settings:
    """The settings of the process that a task runs in."""
    quiet()
    return load_settings()


def is_transient(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry what exits with 75: network, locks, busy ports. A missed gate or a wrong parameter stays as it is."""
    return isinstance(state.data, Transient)


def tell_failure(failed: Task[Any, Any], _run: TaskRun, state: State[Any]) -> None:
    """An artifact with the whole error: place, value, what is allowed, what to do."""
    create_markdown_artifact(
        key=f"{artifact_name(failed.name)}-failure",
        markdown=f"## {failed.name} failed\n\n```\n{state.data if state.data is not None else state.message}\n```\n",
        description=f"why {failed.name} failed",
    )


def artifact_name(name: str) -> str:
    """Prefect's keys take lower-case letters, digits and dashes."""
    return "".join(sign if sign.isalnum() else "-" for sign in name.lower()).strip("-")
