"""What callers write in short, as the engine's own values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Plugin
from lnmt.types import Task


def as_plugin(one: str | Mapping[str, Any] | Plugin) -> Plugin:
    """A plugin from its name, or from `{"name": …, option: …}`."""
    if isinstance(one, Plugin):
        return one
    if isinstance(one, str):
        return Plugin(name=one)
    if not isinstance(one.get("name"), str):
        raise LnmtError("a plugin has a name", value=dict(one), allowed='{"name": …, option: …}', fix="add its name")
    return Plugin(**one)


def as_task(task: str) -> Task:
    """`task`, if it is one. Raises UnknownName."""
    found: dict[str, Task] = {name: name for name in get_args(Task)}
    if task not in found:
        raise UnknownName("task", task, found)
    return found[task]
