"""A table of names → lazily imported objects. Importing the table imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from lnmt.errors import LnmtError, UnknownName

T = TypeVar("T")


class Table(Generic[T]):
    """Plugins of one kind.

    Built-in entries are strings (`"package.module:attribute"`) so that nothing heavy is imported
    before it is asked for. Installed packages add entries through the entry-point group
    `lnmt.<kind>`; modules named in `params.yaml: plugins` add theirs with `register`.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries: dict[str, str | T] = dict(builtin)
        self._scanned = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds an object under `name`; a name is given once."""

        def add(item: T) -> T:
            old = self._entries.get(name)
            if old is not None and not _same(old, item):
                raise LnmtError(
                    f"{self.kind} {name!r} is registered twice",
                    where=f"{getattr(item, '__module__', '?')}.{getattr(item, '__qualname__', item)}",
                    value=name,
                    fix="give the new one another name",
                )
            self._entries[name] = item
            return item

        return add

    def get(self, name: str, *, where: object = None) -> T:
        """The object called `name`. Raises UnknownName with the nearest known name."""
        if name not in self._entries:
            self._scan()
        if name not in self._entries:
            raise UnknownName(self.kind, name, self._entries, where=where)
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = cast("T", getattr(importlib.import_module(module), attribute))
            self._entries[name] = entry
        return entry

    def names(self) -> list[str]:
        """Every known name, installed packages included."""
        self._scan()
        return sorted(self._entries)

    def _scan(self) -> None:
        """Read installed entry points once, at the first question that the built-ins cannot answer."""
        if self._scanned:
            return
        for point in entry_points(group=f"lnmt.{self.kind}"):
            old = self._entries.get(point.name)
            # An installed module may also be named in `params.yaml: plugins`, and so be there already.
            if old is not None and point.value != old and not _same(point.value, old):
                raise LnmtError(
                    f"{self.kind} {point.name!r} is registered twice",
                    where=f"entry point {point.value}",
                    fix="uninstall the package or rename its entry point",
                )
            self._entries[point.name] = point.value if old is None else old
        self._scanned = True


def _same(old: Any, new: Any) -> bool:
    """True where a module was imported again (a stage, a test): same place, same name."""
    if isinstance(old, str):
        return old == f"{getattr(new, '__module__', '')}:{getattr(new, '__qualname__', '')}"
    return (getattr(old, "__module__", None), getattr(old, "__qualname__", old)) == (
        getattr(new, "__module__", None),
        getattr(new, "__qualname__", new),
    )
