"""Everything LNMT raises on purpose.

LnmtError            exit 1   something a person can mend; says where, what, what is allowed, what to do
├── UnknownName      exit 1   a name that no table holds; offers the nearest one
├── DigestMismatch   exit 1   bytes that are not the ones that were promised; fetch or build them again
├── GateBlocked      exit 2   a model that missed a gate; nothing is broken, nothing ships
└── Transient        exit 75  network, lock, busy port: the same call may go through later
"""

from __future__ import annotations

import copyreg
import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class LnmtError(Exception):
    """A failure that a person can mend. Every part that is known is printed on a line of its own."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        value: object = None,
        allowed: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.value = value
        self.allowed = allowed
        self.fix = fix
        parts = {"where": where, "value": value, "allowed": allowed, "fix": fix}
        lines = [what, *(f"  {key}: {part}" for key, part in parts.items() if part is not None)]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        # pickled by its parts: subclasses have constructors of their own, and workers send errors to their parent
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UnknownName(LnmtError):
    """A name that a table does not hold."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: object = None) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        super().__init__(
            f"unknown {kind} {name!r}",
            where=where,
            allowed=", ".join(names) or f"no {kind} is registered",
            fix=f"did you mean {near[0]!r}?" if near else f"choose one of the allowed names, or register this {kind}",
        )


class DigestMismatch(LnmtError):
    """A file or directory whose sha256 is not the recorded one."""

    def __init__(self, where: object, *, expected: str, found: str, fix: str) -> None:
        super().__init__("digest does not match", where=where, value=found, allowed=expected, fix=fix)


class GateBlocked(LnmtError):
    """A model missed a gate of `params.yaml: gate`."""

    exit_code = 2


class Transient(LnmtError):
    """The same call may succeed later; drivers retry only this."""

    exit_code = 75
