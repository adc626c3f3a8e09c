"""The report for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.engine_bench.goals import Goal, specified
from benchmarks.engine_bench.measure import Cell, Result

COLUMNS = ("engine", "ms", "95 % interval", "requests/s", "× eager fp32", "of its peak", "specification")


def show(cells: Sequence[Cell], goals: Sequence[Goal], absent: Mapping[str, Mapping[str, str]], machine: str) -> None:
    """A table a shape, what is absent and why, and the goals."""
    console = Console(width=max(Console().width, 150))
    for cell in cells:
        console.print(_table(cell))
        if cell.ceiling_ms is not None:
            peaks = ", ".join(f"{name} {rate:.0f}" for name, rate in cell.peaks.items())
            console.print(
                f"  {cell.gflop:.1f} G operations; best products, G/s: {peaks}; "
                f"so at least {cell.ceiling_ms:.1f} ms, at most {cell.eager.ms / cell.ceiling_ms:.1f} × eager fp32"
            )
        for name, times in cell.left_out.items():
            console.print(f"  {name}: left out, at first sight {times:.1f} × the time of eager fp32")
    for model, reasons in absent.items():
        for name, reason in reasons.items():
            console.print(f"{model}, {name}: {reason}")
    table = Table(title="goals", title_justify="left")
    for column in ("goal", "wanted", "reached", "verdict"):
        table.add_column(column, justify="right" if column in ("wanted", "reached") else "left")
    for goal in goals:
        name = f"{goal.what}{' (stretch)' if goal.stretch else ''}"
        told = goal.verdict + (f" [{goal.note}]" if goal.note else "")
        table.add_row(name, f"{goal.wanted:.3g}", f"{goal.reached:.3g} {goal.unit}".rstrip(), told.replace("[", r"\["))
    console.print(table)
    console.print(machine)


def _table(cell: Cell) -> Table:
    place = cell.what or f"length {cell.tokens}, batch {cell.rows}, no padding"
    table = Table(title=f"{cell.model}: {place}; {cell.rounds} rounds in turns", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "engine" else "right", no_wrap=True)
    for one in cell.results:
        table.add_row(*_row(cell, one), style="bold" if one is cell.best else None)
    return table


def _row(cell: Cell, one: Result) -> list[str]:
    low, high = one.speedup_interval
    wanted = specified(cell)
    share = "" if wanted is None else f"{wanted}: {one.requests_per_s / wanted:.2f} ×"
    return [
        one.engine,
        f"{one.ms:.1f}",
        "{:.1f} … {:.1f}".format(*one.interval),
        f"{one.requests_per_s:.1f}",
        f"{one.speedup:.2f} ({low:.2f} … {high:.2f})",
        "" if one.peak_share is None else f"{one.peak_share:.0%}",
        share,
    ]
