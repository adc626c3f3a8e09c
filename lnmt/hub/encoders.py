"""Where the encoder lies in a fetched directory."""

from __future__ import annotations

from pathlib import Path

from lnmt.errors import LnmtError

ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def find_model(directory: Path) -> Path:
    """The shallowest directory, `directory` itself or below it, with config.json, model.safetensors, tokenizer.json."""
    found = [
        path.parent
        for path in directory.rglob(ENCODER_FILES[0])
        if all((path.parent / name).is_file() for name in ENCODER_FILES)
    ]
    depth = min((len(path.parts) for path in found), default=0)
    nearest = sorted(path for path in found if len(path.parts) == depth)
    if len(nearest) == 1:
        return nearest[0]
    if nearest:
        raise LnmtError(
            "more than one encoder here",
            where=directory,
            value=", ".join(str(path.relative_to(directory)) for path in nearest),
            fix="name one of them: local:PATH",
        )
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    raise LnmtError(
        "no encoder here",
        where=directory,
        value=", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        or "an empty directory",
        allowed=" + ".join(ENCODER_FILES) + " in one directory",
        fix="name a model whose weights are safetensors and whose tokenizer is a tokenizer.json",
    )
