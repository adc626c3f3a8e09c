"""How long answers took in service, by bundle: what the next search is told (`data/production/latency.json`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.monitoring.events import PredictionEvent

FORMAT = 1
MOST_TOKENS = 2000  # lengths that are kept, evenly drawn by rank: enough to time with


def service_latency(events: Iterable[PredictionEvent], find: Callable[[str], Bundle], hardware: str) -> dict[str, Any]:
    """Requests, latencies in ms and token counts of every bundle that answered, as JSON values.

    Errors and cached answers tell nothing of an engine and are left out. `find` opens a bundle by its digest; one that
    is no longer there is named by its digest alone. `hardware`: the class of this machine.
    """
    latencies: dict[str, list[float]] = defaultdict(list)
    tokens: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event.error is None and not event.cached:
            latencies[event.bundle].append(event.latency_ms)
            tokens[event.bundle].append(event.tokens)
    everything = np.sort(np.array([count for found in tokens.values() for count in found], dtype=np.int64))
    places = np.linspace(0, len(everything) - 1, min(len(everything), MOST_TOKENS)).astype(np.int64)
    return {
        "format": FORMAT,
        "hardware": hardware,
        "tokens": everything[places].tolist() if len(everything) else [],
        "bundles": {
            digest: {
                "candidate": _candidate(digest, find),
                "requests": len(found),
                "p50_ms": round(float(np.median(found)), 3),
                "p99_ms": round(float(np.quantile(found, 0.99)), 3),
            }
            for digest, found in sorted(latencies.items())
        },
    }


def _candidate(digest: str, find: Callable[[str], Bundle]) -> str | None:
    """The name that the search gave it."""
    try:
        evidence = find(digest).manifest.evidence
    except LnmtError:
        return None
    name = evidence.get("optimization", {}).get("measured", {}).get("name")
    return name if isinstance(name, str) else None
