"""reports/optimization: every measurement as JSON, every timed call as CSV, and a page that needs no network."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnmt.files import write_bytes, write_json
from lnmt.optimization.answers import Validation
from lnmt.optimization.bench import Times
from lnmt.optimization.candidate import REFERENCE, Measurement
from lnmt.optimization.page import render_page
from lnmt.optimization.pareto import pareto_front
from lnmt.optimization.search import Found
from lnmt.params import OptimizeParams
from lnmt.runtime.capabilities import Capabilities


@dataclass(frozen=True)
class Summary:
    """What was found, and under what it holds."""

    found: Found
    certificate: Mapping[str, Any] | None  # of the winner; None: the reference ships, which needs none
    machine: Capabilities
    options: OptimizeParams
    validation: Validation
    test: Validation
    production: Mapping[str, Any]  # what service measured, by bundle


def write_report(directory: Path, summary: Summary) -> None:
    """Write measurements.json, latency.csv, index.html and, where there is one, certificate.json into `directory`."""
    document = as_json(summary)
    write_json(directory / "measurements.json", document)
    write_bytes(directory / "latency.csv", latency_csv(summary.found.times).encode())
    write_bytes(directory / "index.html", render_page(document).encode())
    if summary.certificate is not None:
        write_json(directory / "certificate.json", summary.certificate)


def as_json(summary: Summary) -> dict[str, Any]:
    """measurements.json. The winner and its speed-up stand at the top, where `dvc metrics` shows them."""
    found, options = summary.found, summary.options
    entries = _entries(found)
    winner = next(entry for entry in entries if entry.candidate == found.choice.winner)
    figure = winner.figure(options.objective)
    front = pareto_front(entries, options.objective.batch_size)
    return {
        "winner": winner.candidate.name,
        "why": found.choice.why,
        "ms": figure.ms,
        "speedup": figure.speedup,
        "speedup_interval": figure.speedup_interval.as_list(),
        "confidence": options.confidence,
        "task": summary.validation.task,
        "rows": {"validation": len(summary.validation.texts), "test": len(summary.test.texts)},
        "machine": machine_json(summary.machine, options),
        "options": options.model_dump(mode="json"),
        "pareto": [entry.candidate.name for entry in front],
        "measurements": [_entry(entry, summary) for entry in entries],
    }


def machine_json(machine: Capabilities, options: OptimizeParams) -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "hardware": machine.hardware,
        "cpu": machine.cpu,
        "threads": options.threads or machine.cores,
        "libraries": dict(machine.libraries),
    }


def latency_csv(times: Times) -> str:
    """One line a timed call."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["candidate", "batch_size", "round", "call", "latency_ms"])
    for size, by_name in times.items():
        for name, measured in by_name.items():
            for turn, calls in enumerate(measured.tolist()):
                writer.writerows([name, size, turn, call, f"{value:.4f}"] for call, value in enumerate(calls))
    return out.getvalue()


def _entries(found: Found) -> list[Measurement]:
    """All candidates in the order in which they were looked at; finalists as they were timed in the end."""
    final = {entry.candidate.with_settings({}).name: entry for entry in (found.reference, *found.finalists)}
    return [final.get(entry.candidate.name, entry) for entry in found.looked]


def _entry(entry: Measurement, summary: Summary) -> dict[str, Any]:
    """A candidate's measurement, with what became of it."""
    found, name = summary.found, entry.candidate.name
    verdict = found.certification.verdicts.get(name)
    company = found.composition.get(name)
    return {
        **entry.as_json(),
        "outcome": _outcome(entry, found),
        "lost": found.choice.lost.get(name),
        "verdict": None if verdict is None else verdict.as_json(),
        "composition": None if company is None else company.as_json(),
        "in_service": [
            {"bundle": digest, **told}
            for digest, told in summary.production.get("bundles", {}).items()
            if told["candidate"] == name
        ],
    }


def _outcome(entry: Measurement, found: Found) -> str:
    """One word for people who look down a column."""
    name = entry.candidate.name
    if entry.candidate == found.choice.winner:
        return "ships"
    if entry.candidate == REFERENCE:
        return "reference"
    if entry.failure is not None:
        return "absent" if entry.failure.startswith(("not on this machine", "not tried")) else "failed"
    if not entry.final:
        return "passed over"
    return "certified" if name in found.certification.certified else "refused"
