"""The result as one JSON value (`reports/validation/result.json`), from which the page is drawn, and as an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from lnmt.data.validation.expectations import Outcome
from lnmt.data.validation.rules import Rule, TableRule
from lnmt.data.validation.scan import LENGTH_EDGES, Scan
from lnmt.errors import LnmtError
from lnmt.types import Task

Status = Literal["passed", "quarantined", "failed"]


@dataclass(frozen=True)
class Line:
    """One expectation as the page shows it."""

    name: str
    scope: Literal["schema", "row", "table"]
    expectation: str  # class of great_expectations.expectations
    column: str
    observed: str
    allowed: str
    status: Status


class DataRejected(LnmtError):
    """The table as a whole does not meet `params.yaml: validate`."""


def schema_lines(rules: Sequence[Rule], outcomes: Mapping[str, Outcome]) -> list[Line]:
    """Lines of the rules on columns."""
    lines = []
    for rule in rules:
        outcome = outcomes[rule.name]
        observed = outcome.observed if outcome.observed is not None else "present" if outcome.success else "missing"
        status: Status = "passed" if outcome.success else "failed"
        lines.append(Line(rule.name, "schema", rule.expectation, rule.column, str(observed), rule.allowed, status))
    return lines


def row_lines(rules: Sequence[Rule], scan: Scan) -> list[Line]:
    """Lines of the rules on rows: failing one quarantines the row, the table may still pass."""
    lines = []
    for rule in rules:
        failing = scan.reasons[rule.reason]
        status: Status = "quarantined" if failing else "passed"
        lines.append(
            Line(rule.name, "row", rule.expectation, rule.column, f"{failing:,} failing", rule.allowed, status)
        )
    return lines


def table_lines(rules: Sequence[TableRule], outcomes: Mapping[str, Outcome]) -> list[Line]:
    """Lines of the rules on the whole table."""
    lines = []
    for rule in rules:
        status: Status = "passed" if outcomes[rule.name].success else "failed"
        lines.append(Line(rule.name, "table", rule.rule.expectation, rule.column, rule.value, rule.allowed, status))
    return lines


def rejection(lines: Sequence[Line], fixes: Mapping[str, str], headlines: Mapping[str, str]) -> DataRejected | None:
    """The error for the lines that failed, or None: the first in full, the others in a line. Maps go by name."""
    failed = [line for line in lines if line.status == "failed"]
    if not failed:
        return None
    first = failed[0]
    what = headlines.get(first.name) or f"the data failed the expectation {first.name!r}"
    others = "; ".join(f"{line.name}: {line.observed} ({line.allowed})" for line in failed[1:])
    return DataRejected(
        f"{what}; and also {others}" if others else what,
        where=f"data/raw, {first.name}",
        value=first.observed,
        allowed=first.allowed,
        fix=f"{fixes[first.name]}; all results: reports/validation/index.html",
    )


def result_json(
    lines: Sequence[Line], scan: Scan | None, error: LnmtError | None, version: str, task: Task
) -> dict[str, Any]:
    """Everything the page shows; `scan` None where the columns were wrong and no row was read."""
    result: dict[str, Any] = {
        "task": task,
        "passed": error is None,
        "error": None if error is None else {"what": error.what, "fix": error.fix},
        "great_expectations": version,
        "expectations": [asdict(line) for line in lines],
    }
    if scan is None:
        return result
    return result | {
        "rows": {"in": scan.rows, "passed": scan.tally.rows, "quarantined": scan.quarantined},
        "quarantine": [
            {"reason": reason, "rows": rows, "samples": [asdict(sample) for sample in scan.samples[reason]]}
            for reason, rows in scan.reasons.most_common()
        ],
        "labels": dict(scan.tally.labels.most_common()),
        "tags": dict(scan.tally.tags.most_common()),
        "numbers": scan.tally.numbers.summary(),
        "labels_outside_the_set": dict(scan.foreign_labels.most_common(20)),
        "slices": scan.tally.summary()["slices"],
        "lengths": [{"characters": name, "rows": int(rows)} for name, rows in zip(_bins(), scan.lengths, strict=True)],
        "scripts": dict(scan.scripts.most_common()),
        "duplicates": {
            "repeated_texts": scan.repeated_texts,
            "conflicting_labels": scan.conflicting_labels,
            "repeated_ids": scan.repeated_ids,
        },
    }


def _bins() -> list[str]:
    """Names of the bins of the length histogram."""
    between = [f"{low:,}–{high - 1:,}" for low, high in pairwise(LENGTH_EDGES)]
    return ["0", *between, f"{LENGTH_EDGES[-1]:,}+"]
