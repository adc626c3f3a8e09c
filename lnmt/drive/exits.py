"""How a stage ended, handed around DVC, which turns every failure into its own exit code."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from lnmt.errors import GateBlocked, LnmtError, Transient
from lnmt.files import read_json, write_json
from lnmt.settings import Settings

INTERRUPTED = 130


def exit_file(settings: Settings, name: str) -> Path:
    """Where the stage `name` says how it ended."""
    return settings.state_dir / "progress" / f"{name}.exit.json"


def write_exit(settings: Settings, name: str, error: BaseException | None) -> None:
    """Called by `lnmt stage` at its end. A full disk is no second error here."""
    parts: dict[str, Any] = {"exit_code": 0}
    if isinstance(error, LnmtError):
        parts = {"exit_code": error.exit_code, "what": error.what, "fix": error.fix}
        for part in ("where", "value", "allowed"):
            value = getattr(error, part)
            parts[part] = None if value is None else str(value)
    elif isinstance(error, KeyboardInterrupt):
        parts = {"exit_code": INTERRUPTED, "what": f"{name} was interrupted"}
    elif error is not None:
        parts = {"exit_code": 1, "what": f"{type(error).__name__}: {error}"}
    with contextlib.suppress(OSError):
        write_json(exit_file(settings, name), parts)


def read_exit(settings: Settings, name: str) -> BaseException | int | None:
    """The error to raise again; 0 where the stage ended well; None where it said nothing."""
    try:
        parts = read_json(exit_file(settings, name))
    except (FileNotFoundError, ValueError):
        return None
    code = int(parts["exit_code"])
    if code == 0:
        return 0
    if code == INTERRUPTED:
        return KeyboardInterrupt(parts["what"])
    kind = {GateBlocked.exit_code: GateBlocked, Transient.exit_code: Transient}.get(code, LnmtError)
    details = {part: parts.get(part) for part in ("where", "value", "allowed", "fix")}
    return kind(str(parts["what"]), **details)
