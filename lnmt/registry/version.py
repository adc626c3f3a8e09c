"""A registered version as a value, and how it is written into MLflow's tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lnmt.bundles import Bundle
from lnmt.bundles.manifest import Lineage

BUNDLE_TAG = "lnmt.bundle"


@dataclass(frozen=True)
class Version:
    """One version of a registered model. Digests are `sha256:<hex>`."""

    name: str
    number: int
    bundle: str  # digest
    parent: str | None  # digest of the bundle that it was made from
    engine: str
    precision: str
    lineage: Lineage
    run: str  # MLflow's run, with the metrics
    created: float  # unix seconds
    aliases: tuple[str, ...]


def tags_of(bundle: Bundle) -> dict[str, str]:
    """The tags of a bundle's version; what is not known has no tag."""
    manifest, lineage = bundle.manifest, bundle.manifest.lineage
    values = {
        BUNDLE_TAG: bundle.digest,
        "lnmt.parent": manifest.parent,
        "lnmt.engine": manifest.engine,
        "lnmt.precision": manifest.precision,
        "lnmt.data": lineage.data,
        "lnmt.commit": lineage.commit,
        "lnmt.dirty": "true" if lineage.dirty else "false",
        "lnmt.params": lineage.params,
        "lnmt.lock": lineage.lock,
    }
    return {name: value for name, value in values.items() if value is not None}


def version_from(found: Any, aliases: Mapping[str, Any]) -> Version:
    """A Version from MLflow's ModelVersion and its registered model's aliases."""
    tags: dict[str, str] = found.tags
    return Version(
        name=found.name,
        number=int(found.version),
        bundle=tags[BUNDLE_TAG],
        parent=tags.get("lnmt.parent"),
        engine=tags["lnmt.engine"],
        precision=tags["lnmt.precision"],
        lineage=Lineage(
            commit=tags.get("lnmt.commit"),
            dirty=tags["lnmt.dirty"] == "true",
            params=tags["lnmt.params"],
            lock=tags["lnmt.lock"],
            data=tags.get("lnmt.data"),
        ),
        run=found.run_id,
        created=found.creation_timestamp / 1000,
        aliases=tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(found.version))),
    )


def metric_name(name: str) -> str:
    """`name` with what MLflow does not allow in a metric's name replaced by `_`."""
    return re.sub(r"[^\w\-. /]", "_", name)
