"""What monitoring says about a window of traffic; the only thing that can trigger a retrain."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lnmt.errors import LnmtError
from lnmt.files import read_json, write_json

SIGNAL = "signal.json"
ToldBy = Literal["texts", "columns"]


@dataclass(frozen=True)
class Window:
    """Which traffic was looked at. Times are unix seconds; model and times are None without rows."""

    model: str | None
    bundle: str  # digest
    rows: int
    start: float | None
    end: float | None


@dataclass(frozen=True)
class ColumnDrift:
    """One column against the reference."""

    column: str
    distance: float  # Wasserstein, in standard deviations of the reference
    limit: float  # the larger of params.yaml: monitor.distance and what chance alone gives
    drifted: bool  # the distance reaches the limit


@dataclass(frozen=True)
class Signal:
    """The verdict on a window. `drifted` is None where there were too few rows for one."""

    drifted: bool | None
    reason: str
    window: Window
    reference_rows: int
    drifted_share: float | None  # of the columns
    columns: list[ColumnDrift]  # furthest first
    domain_auc: float | None  # of a classifier telling window from reference; None with too few distinct rows
    told_by: ToldBy | None  # what that classifier saw

    @property
    def drifted_columns(self) -> list[str]:
        """Names of the columns that drifted, furthest first."""
        return [entry.column for entry in self.columns if entry.drifted]


def write_signal(directory: Path, signal: Signal) -> None:
    """Write signal.json into `directory`."""
    write_json(directory / SIGNAL, {**asdict(signal), "drifted_columns": signal.drifted_columns})


def read_signal(directory: Path) -> Signal:
    """The signal that monitoring wrote into `directory`. Raises LnmtError where there is none."""
    path = directory / SIGNAL
    if not path.is_file():
        raise LnmtError("no drift signal here", where=path, fix="look at the traffic first: lnmt monitor")
    raw = read_json(path)
    del raw["drifted_columns"]
    window = Window(**raw.pop("window"))
    return Signal(**{**raw, "window": window, "columns": [ColumnDrift(**entry) for entry in raw["columns"]]})
