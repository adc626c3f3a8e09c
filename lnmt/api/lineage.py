"""Where a model that was trained in Python comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lnmt.bundles import Lineage
from lnmt.bundles.lineage import read_commit
from lnmt.files import canonical_json, sha256_bytes


def lineage_here(options: Mapping[str, Any], data: str | None) -> Lineage:
    """The commit of the working directory, where it is a checkout; `data`: the digest of the rows.

    There is no params.yaml: `params` is the digest of the options themselves. No stage ran before, so
    the lock is that of none.
    """
    commit, dirty = read_commit(Path.cwd())
    return Lineage(
        commit=commit,
        dirty=dirty,
        params=sha256_bytes(canonical_json(options)),
        lock=sha256_bytes(canonical_json({})),
        data=data,
    )
