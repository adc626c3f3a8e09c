"""The search in words: why the winner won, and why each other lost. From measurements.json alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

GROUPS = (  # outcome → what stands above its candidates
    ("certified", "Certified, but not chosen"),
    ("reference", "The reference"),
    ("refused", "Among the best, but not shipped"),
    ("passed over", "Not among the best at a first look"),
    ("failed", "Could not be built or run"),
    ("absent", "Not tried here"),
)


def explain(document: Mapping[str, Any]) -> str:
    """Paragraphs and lists for a terminal."""
    return "\n".join(_lines(document))


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    machine, rows = document["machine"], document["rows"]
    by_name = {entry["name"]: entry for entry in document["measurements"]}
    winner = by_name[document["winner"]]
    yield f"{document['winner']} ships: {document['why']}."
    yield (
        f"Measured on {machine['hardware']} with {machine['threads']} threads; chosen on {rows['validation']} rows of "
        f"validation, certified on {rows['test']} of test."
    )
    if winner["verdict"] is not None:
        yield ""
        yield f"Shown at {document['confidence']:.0%} confidence, for the search as a whole:"
        yield from (f"  {part['told']}" for part in winner["verdict"]["parts"])
    for name, decided in winner["decided"].items():
        if decided:
            yield f"{name} decided: {_told(decided)}"
    for told in winner["in_service"]:
        yield f"In service it took {told['p50_ms']:.2f} ms (median of {told['requests']} requests, all layers)."
    for outcome, title in GROUPS:
        entries = [entry for entry in document["measurements"] if entry["outcome"] == outcome]
        if entries:
            yield ""
            yield f"{title}:"
            yield from (f"  {entry['name']}: {entry['lost'] or entry['failure']}" for entry in entries)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return " ".join(map(_told, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
