"""Values that do not stand in params.yaml: `env:NAME` is the environment variable NAME."""

from __future__ import annotations

import os

from lnmt.errors import LnmtError


def reveal(value: str, where: str) -> str:
    """`value`, or what the environment holds where it is `env:NAME`."""
    scheme, colon, name = value.partition(":")
    if scheme != "env" or not colon:
        return value
    found = os.environ.get(name)
    if not found:
        raise LnmtError(
            "the environment variable is not set", where=where, value=name, fix=f"set it and run again: export {name}=…"
        )
    return found
