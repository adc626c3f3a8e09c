"""Peppers: the secrets under which keys are hashed; they never stand where the hashes do.

The first is for new keys. The others are older, and end with the last key that was made under them.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lnmt.errors import LnmtError
from lnmt.files import sync_directory

FILE = "pepper"
MIN_CHARACTERS = 32


@dataclass(frozen=True, repr=False)
class Peppers:
    """Secrets by their ids, the one for new keys first."""

    _secrets: dict[str, bytes]

    @classmethod
    def of(cls, texts: Sequence[str], *, where: object) -> Peppers:
        """From their texts, newest first. Raises LnmtError for none, or one of fewer than 32 characters."""
        if not texts or any(len(text) < MIN_CHARACTERS for text in texts):
            raise LnmtError(
                "a pepper is missing or too short",
                where=where,
                allowed=f"one or more, {MIN_CHARACTERS} characters or longer each, the one for new keys first",
                fix="make one: openssl rand -hex 32",
            )
        return cls({_id(text): text.encode() for text in texts})

    @property
    def newest(self) -> tuple[str, bytes]:
        """Id and secret of the one for new keys."""
        return next(iter(self._secrets.items()))

    def find(self, pepper: str) -> bytes | None:
        """The secret of this id; None where this process was not given it."""
        return self._secrets.get(pepper)

    def __repr__(self) -> str:
        return f"Peppers({', '.join(self._secrets)})"


def open_peppers(setting: str | None, state: Path) -> Peppers:
    """Those of the setting, separated by commas; else those of `STATE/pepper`, a line each, made where absent.

    Raises LnmtError for a file that others may read.
    """
    if setting is not None:
        return Peppers.of([part.strip() for part in setting.split(",") if part.strip()], where="LNMT_PEPPER")
    path = state / FILE
    if not path.exists():
        _make(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise LnmtError(
            "others may read the pepper of the API keys",
            where=path,
            value=f"mode {mode:04o}",
            allowed="mode 0600",
            fix=f"chmod 600 {path}; where others did read it, make a new one: docs/how-to/secure.md",
        )
    return Peppers.of(path.read_text(encoding="utf-8").split(), where=path)


def _make(path: Path) -> None:
    """Whole or absent, and once: of processes that come at the same time, all go on with the first one's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(f"{secrets.token_hex(32)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(temporary)  # unlike a rename, it replaces nothing
        except FileExistsError:
            return
        sync_directory(path.parent)
    finally:
        temporary.unlink()


def _id(text: str) -> str:
    """Tells peppers apart in the table, and tells nothing of them: a hash of 256 random bits."""
    return hashlib.sha256(b"id of a pepper\0" + text.encode()).hexdigest()[:12]
