"""What a bundle says of how its engine runs: `settings` of bundle.json, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.runtime.cpu import available_cores

PROVIDERS = ("tensorrt", "cuda", "cpu")
GROUPS_OF_A_STREAM = 2  # at least, where rows are enough: 8 rows on two streams ran at 550/s in groups of 2, 420 of 4


@dataclass(frozen=True)
class Options:
    """Settings of an engine; each engine knows some of them."""

    group_rows: int | None = None  # rows of like length that run together; None: a batch runs as it comes
    streams: int = 1  # groups that run side by side, the threads shared among them
    provider: str | None = None  # of PROVIDERS: where ONNX Runtime runs; None: the first that is here

    def group_size(self, rows: int) -> int:
        """The most rows of a group, where a batch has `rows`.

        Streams end together only where each has several groups to work on: a small batch is cut into smaller ones.
        """
        if self.group_rows is None:
            return max(1, rows)
        if self.streams == 1:
            return self.group_rows
        return max(1, min(self.group_rows, -(-rows // (GROUPS_OF_A_STREAM * self.streams))))

    @classmethod
    def of(cls, bundle: Bundle, known: Sequence[str]) -> Options:
        """The bundle's settings. `known`: the names that its engine takes.

        Raises UnknownName for another name, LnmtError for a value that is none, or more streams than cores.
        """
        where = f"{bundle.path / 'bundle.json'}: settings"
        for name in bundle.manifest.settings:
            if name not in known:
                raise UnknownName(f"setting of engine {bundle.manifest.engine!r}", name, known, where=where)
        found = cls(**bundle.manifest.settings)
        _check_count(found.group_rows, "group_rows", where, none=True)
        _check_count(found.streams, "streams", where)
        if found.provider is not None and found.provider not in PROVIDERS:
            raise UnknownName("provider", str(found.provider), PROVIDERS, where=where)
        if found.streams > available_cores():
            raise LnmtError(
                "more streams than cores",
                where=where,
                value=found.streams,
                allowed=f"1 to {available_cores()}, the cores of this machine",
                fix="run `lnmt stage optimize` where it is to serve, or lower optimize.settings.streams in params.yaml",
            )
        return found


def _check_count(value: object, name: str, where: str, *, none: bool = False) -> None:
    if (none and value is None) or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return
    raise LnmtError(
        f"{name} is no count",
        where=where,
        value=value,
        allowed="a whole number from 1 on" + (", or null" if none else ""),
        fix="make the bundle again: lnmt optimize",
    )
