"""The certificate: what was shown of a bundle, under what it holds, and the digests that bind it to both.

It travels in the bundle as `certificate.json`, so that `bundle.json` holds its digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnmt.bundles import Bundle
from lnmt.optimization.candidate import Measurement
from lnmt.optimization.search import Found
from lnmt.params import OptimizeParams

CERTIFICATE = "certificate.json"
FORMAT = 1


def certificate(
    winner: Measurement,
    bundle: Bundle,
    reference: Bundle,
    found: Found,
    machine: Mapping[str, Any],
    options: OptimizeParams,
    data: str,
) -> dict[str, Any]:
    """Of the winner: `bundle` as it was built, `reference` as it is published, `data` the digest of data/processed.

    What was shown holds for exactly these files (`files`), this class of hardware and these versions.
    """
    name = winner.candidate.name
    return {
        "format": FORMAT,
        "candidate": winner.candidate.as_json(),
        "files": dict(bundle.manifest.files),
        "reference": {"bundle": reference.digest, "measured": found.reference.as_json()},
        "data": data,
        "machine": dict(machine),
        "error_rate": round(1 - options.confidence, 10),  # of the whole search: that a worse candidate ships
        "budget": options.budget.model_dump(mode="json"),
        "objective": options.objective.model_dump(mode="json"),
        "latency": winner.as_json()["latency"],
        "memory_mb": winner.memory_mb,
        "parity": winner.as_json()["parity"],
        "verdict": found.certification.verdicts[name].as_json(),
        "composition": found.composition[name].as_json(),
        "tested_in_order": list(found.certification.order),
    }
