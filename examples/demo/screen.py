"""The demo's last screen, and the same figures as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.demo.traffic import Traffic
from lnmt.drive.pages import addresses, pages
from lnmt.drive.run import StageResult
from lnmt.files import read_json
from lnmt.monitoring.signal import Signal
from lnmt.rollout.deployment import Deployment
from lnmt.settings import Settings


def collect(
    settings: Settings,
    *,
    stages: Sequence[StageResult],
    split: Deployment,
    promoted: str,
    traffic: Mapping[str, Traffic],
    signals: Mapping[str, Signal],
    trace: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Every figure of the run, each read from the artifact that holds it."""
    reports = settings.project / "reports"
    evaluation = read_json(reports / "evaluation" / "metrics.json")
    metrics = {"this model": evaluation["test"], **evaluation["baselines"]}
    return {
        "metrics": {
            name: {"accuracy": found["accuracy"], "macro_f1": found["macro_f1"]} for name, found in metrics.items()
        },
        "engines": read_json(reports / "optimization" / "measurements.json"),
        "release": {
            "phase": split.phase,
            "champion": split.champion,
            "challenger": split.challenger,
            "asked_share": split.share,
            "promoted": promoted,
        },
        "traffic": {
            name: {
                "requests": len(found.answers),
                "requests_per_second": len(found.answers) / found.seconds,
                "challenger_share": found.share("challenger"),
                "accuracy": found.accuracy(),
            }
            for name, found in traffic.items()
        },
        "drift": {
            name: {
                "drifted": signal.drifted,
                "reason": signal.reason,
                "drifted_share": signal.drifted_share,
                "domain_auc": signal.domain_auc,
                "rows": signal.window.rows,
            }
            for name, signal in signals.items()
        },
        "trace": dict(trace),
        "seconds": {
            "stages": {stage.name: stage.seconds for stage in stages},
            "outcomes": {stage.name: stage.outcome for stage in stages},
            "all": seconds,
        },
        "pages": [*addresses(pages(settings))],
    }


def show(result: Mapping[str, Any]) -> None:
    """One screen for people."""
    console = Console()
    console.rule("[bold]LNMT: from raw text to a monitored model")
    for table in (
        _metrics(result),
        _engines(result),
        _traffic(result),
        _trace(result),
        _seconds(result),
        _pages(result),
    ):
        console.print(table)


def _metrics(result: Mapping[str, Any]) -> Table:
    table = Table("model", "accuracy", "macro-F1", title="test split", title_justify="left")
    for name, row in result["metrics"].items():
        style = "bold" if name == "this model" else ""
        table.add_row(name, f"{row['accuracy']:.3f}", f"{row['macro_f1']:.3f}", style=style)
    return table


def _traffic(result: Mapping[str, Any]) -> Table:
    table = Table(
        "traffic", "requests", "per s", "to B", "accuracy", "drift", "moved", "AUC",
        title=f"A/B release ({result['release']['asked_share']:.0%} asked for challenger B), columns moved, text AUC",
        title_justify="left",
    )  # fmt: skip
    for name, row in result["traffic"].items():
        drift = result["drift"][name]
        table.add_row(
            name,
            str(row["requests"]),
            f"{row['requests_per_second']:.0f}",
            f"{row['challenger_share']:.1%}",
            f"{row['accuracy']:.3f}",
            {True: "[red]yes[/red]", False: "[green]no[/green]", None: "too few rows"}[drift["drifted"]],
            "" if drift["drifted_share"] is None else f"{drift['drifted_share']:.0%}",
            "" if drift["domain_auc"] is None else f"{drift['domain_auc']:.2f}",
        )
    return table


def _trace(result: Mapping[str, Any]) -> Table:
    table = Table("one prediction", "traced back to", title="lnmt trace ID", title_justify="left", show_header=True)
    for name, value in result["trace"].items():
        table.add_row(name, str(value))
    return table


def _seconds(result: Mapping[str, Any]) -> Table:
    seconds = result["seconds"]
    table = Table(*seconds["stages"], "all", title="seconds", title_justify="left")
    table.add_row(*[f"{value:.0f}" for value in (*seconds["stages"].values(), seconds["all"])])
    return table


def _pages(result: Mapping[str, Any]) -> Table:
    table = Table("page", "where", title="to look at, once `make ui` runs", title_justify="left")
    for name, address in result["pages"]:
        table.add_row(name, address)
    return table


def _engines(result: Mapping[str, Any]) -> Table:
    engines = result["engines"]
    batch = str(engines["options"]["objective"]["batch_size"])
    table = Table(
        "engine", f"ms, batch {batch}", "speed-up", "flips", "",
        title="engines: finalists in turns, the others each beside PyTorch", title_justify="left",
    )  # fmt: skip
    for entry in engines["measurements"]:
        if entry["failure"] is None:
            median = entry["latency"][batch]["p50"]
            flips = f"{entry['parity']['flip_share']:.2%}"
            table.add_row(entry["name"], f"{median['ms']:.2f}", f"{median['speedup']:.1f}", flips, entry["outcome"])
    return table
