"""docs/reference/observability.md says what the code does: series, labels, spans and bounds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from prometheus_client.parser import text_string_to_metric_families

from lnmt.observability import plain
from lnmt.observability.metrics import Metrics
from lnmt.observability.series import Loading, Lookup, Outcome, Part
from lnmt.serving.batching.policy import Reason
from lnmt.serving.cache.response import CacheEvent
from lnmt.serving.problems import REASONS
from lnmt.tracing import METHODS
from lnmt.types import Arm

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/observability.md").read_text(encoding="utf-8")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def used() -> Metrics:
    """Every series used once."""
    metrics = Metrics()
    metrics.observe_request("/predict", "POST", 200, 0.01)
    metrics.observe_answers("m", "champion", "ok")
    metrics.observe_lookup("m", "hit")
    metrics.observe_load("m", 1.0)
    metrics.observe_append(1, 0.1)
    metrics.observe_compaction(1.0, {"spool": 1})
    metrics.engine("m", "torch").observe_release("full", [0.1])
    metrics.engine("m", "torch").observe_batch(1, 1, 1, 0.1)
    metrics.rejections.labels("invalid").inc()
    metrics.feedback.labels("m").inc()
    metrics.withheld.labels("m", "abstain").inc()
    metrics.cache_events.labels("evicted").inc()
    for gauge in (metrics.waiting_rows, metrics.generation, metrics.bundle_bytes):
        gauge.labels("m").set(1)
    return metrics


def test_the_reference_has_every_series_as_prometheus_sees_it() -> None:
    served = []
    for family in text_string_to_metric_families(used().render().decode()):
        assert family.samples, family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        name = f"{family.name}_total" if family.type == "counter" else family.name
        served.append([f"`{name}`", family.type, ", ".join(labels) or "–", family.documentation])
    assert [cells(line) for line in PAGE.splitlines() if line.startswith("| `lnmt_")] == served


def test_the_reference_has_every_value_of_the_labels_that_are_ours() -> None:
    for values in (Outcome, Lookup, Loading, Part, Reason, Arm, CacheEvent):
        line = ", ".join(f"`{value}`" for value in get_args(values))
        assert line in PAGE, line


def test_the_reference_has_every_reason_of_a_rejection() -> None:
    sources = (ROOT / "lnmt/serving").rglob("*.py")
    said = {found for path in sources for found in re.findall(r'\breason="([^"]+)"', path.read_text(encoding="utf-8"))}
    [line] = [line for line in PAGE.splitlines() if line.startswith("| `reason` of rejections")]
    assert set(re.findall(r"`([^`]+)`", cells(line)[1])) == said | set(REASONS.values())


def test_the_reference_has_the_bounds_and_the_methods() -> None:
    assert f"{plain.FIELD:,} characters" in PAGE
    assert f"{plain.RECORD:,}" in PAGE
    assert ", ".join(f"`{name}`" for name in sorted(plain.WITHHELD)) in PAGE
    assert ", ".join(f"`{name}`" for name in METHODS) in PAGE
