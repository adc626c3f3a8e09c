"""The report for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.serving_bench.goals import LNMT, ONE, Goal
from benchmarks.serving_bench.results import Results

COLUMNS = ("server", "engine", "requests/s", "p50 ms", "p90", "p99", "max", "CPU ms", "LNMT is")


def show(
    results: Results,
    titles: Mapping[str, str],
    engines: Mapping[str, str],
    absent: Mapping[str, str],
    goals: Sequence[Goal],
    footer: str,
) -> None:
    """A table a concurrency, what is absent and why, and the goals. `titles` and `engines` by server."""
    console = Console(width=max(Console().width, 170))
    for concurrency in results.concurrency:
        console.print(table(results, titles, engines, concurrency))
    for name, reason in absent.items():
        console.print(f"{titles[name]}: absent. {reason}", markup=False)
    goal_table = Table(title="goals", title_justify="left")
    for column in ("goal", "wanted", "reached, median (range of the rounds)", ""):
        goal_table.add_column(column, justify="right" if column in ("wanted", "reached") else "left")
    for goal in goals:
        bound = "≤" if goal.at_most else "≥"
        verdict = "met" if goal.met else "MISSED"
        goal_table.add_row(
            goal.what, f"{bound} {goal.wanted:g} {goal.unit}", f"{goal.reached:.2f} {goal.unit}", verdict
        )
    console.print(goal_table)
    console.print(footer, markup=False)


def table(results: Results, titles: Mapping[str, str], engines: Mapping[str, str], concurrency: int) -> Table:
    """All servers with so many requests at once, the fastest first."""
    rounds = len(results.of(LNMT, concurrency))
    title = f"{concurrency} at once: median (range) of {rounds} rounds in turns; CPU of a request"
    found = Table(title=title, title_justify="left")
    for column in COLUMNS:
        found.add_column(column, justify="left" if column in COLUMNS[:2] else "right", no_wrap=True)
    rate = {name: results.figure(name, concurrency, "requests_per_s").median for name in results.servers}
    for name in sorted(results.servers, key=lambda name: -rate[name]):
        row = [
            titles[name],
            engines[name],
            f"{results.figure(name, concurrency, 'requests_per_s'):.0f}",
            *(short(results.figure(name, concurrency, value).median) for value in ("p50_ms", "p90_ms")),
            f"{results.figure(name, concurrency, 'p99_ms'):{'.1f' if concurrency == ONE else '.0f'}}",
            f"{results.figure(name, concurrency, 'max_ms').median:.0f}",
            f"{results.figure(name, concurrency, 'cpu_ms').median:.2f}",
            "" if name == LNMT else f"{results.ratio(LNMT, name, concurrency, 'requests_per_s'):.2f} ×",
        ]
        found.add_row(*row, style="bold" if name == LNMT else None)
    return found


def short(ms: float) -> str:
    """A time in three digits or so."""
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"
