"""What was asked for, and whether this run reached it; where it did not, whether this machine could.

The specification's table was taken on an A100. A CPU's ceiling is arithmetic: a call has so many operations, and
the best product of this machine does so many a second; what needs less time than that cannot be reached here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.engine_bench.measure import Cell

SPECIFICATION = {  # requests/s by model and batch size
    "BERT-Base": {1: 45, 16: 180},
    "BERT-Large": {1: 18, 8: 72},
    "GPT-2": {1: 35, 16: 140},
}
SPEEDUPS = {"batch 1": 6.0, "larger batch": 10.0}  # times eager fp32 at length 128
LONG, SHORT = 128, 64
PEAK_SHARE, PEAK_MODELS = 0.5, ("BERT-Base", "BERT-Large")
SENTENCES_SPEEDUP = 8.0


@dataclass(frozen=True)
class Goal:
    """One figure that was asked for."""

    what: str
    wanted: float
    reached: float
    unit: str  # behind a figure
    ceiling: float | None = None  # the most that this machine's products allow; None: it sets no bound
    stretch: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.reached >= self.wanted

    @property
    def possible(self) -> bool:
        """Whether this machine could reach it, if products were all there is and ran at their best rate."""
        return self.ceiling is None or self.ceiling >= self.wanted

    @property
    def verdict(self) -> str:
        """In words."""
        if self.met:
            return "met"
        missed = f"missed by {1 - self.reached / self.wanted:.0%}"
        if self.possible:
            return missed
        return f"{missed}; out of reach here, where products alone allow {self.ceiling:.3g} {self.unit}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self) | {"met": self.met, "possible": self.possible, "verdict": self.verdict}


def judge(cells: Sequence[Cell]) -> list[Goal]:
    """Every goal that the run has a figure for."""
    return [
        goal for cell in cells for rule in (_speedup, _specification, _peak, _sentences, _peers) for goal in rule(cell)
    ]


def specified(cell: Cell) -> int | None:
    """The specification's requests/s for this cell; it names no length."""
    return SPECIFICATION.get(cell.model, {}).get(cell.rows)


def _speedup(cell: Cell) -> Iterator[Goal]:
    if cell.tokens != LONG:
        return
    wanted = SPEEDUPS["batch 1" if cell.rows == 1 else "larger batch"]
    ceiling = None if cell.ceiling_ms is None else cell.eager.ms / cell.ceiling_ms
    yield Goal(f"{_place(cell)}: × eager fp32", wanted, cell.best.speedup, "×", ceiling)


def _specification(cell: Cell) -> Iterator[Goal]:
    wanted = specified(cell)
    if wanted is None or not (cell.tokens == SHORT or (cell.tokens == LONG and cell.rows == 1)):
        return
    ceiling = None if cell.ceiling_ms is None else 1000 * cell.rows / cell.ceiling_ms
    yield Goal(f"{_place(cell)}: the specification's", wanted, cell.best.requests_per_s, "requests/s", ceiling)


def _peak(cell: Cell) -> Iterator[Goal]:
    shares = [one.peak_share for one in cell.results if one.ours and one.arithmetic == cell.best.arithmetic]
    known = [share for share in shares if share is not None]
    if cell.model in PEAK_MODELS and cell.rows > 1 and known:
        note = f"{cell.best.arithmetic}, of {cell.peaks[cell.best.arithmetic]:.0f} G/s"
        yield Goal(f"{_place(cell)}: share of the GEMM peak", PEAK_SHARE, max(known), "", stretch=True, note=note)


def _sentences(cell: Cell) -> Iterator[Goal]:
    if cell.tokens is None and cell.rows > 1:
        yield Goal(f"{_place(cell)}: × eager fp32", SENTENCES_SPEEDUP, cell.best.speedup, "×")


def _peers(cell: Cell) -> Iterator[Goal]:
    """Not slower as far as can be told: the interval of the time of the faster one over ours reaches 1."""
    peers = [one for one in cell.results if not one.ours]  # the fastest first
    if peers and peers[0].against_best is not None:
        low, high = peers[0].against_best
        note = f"{peers[0].engine}: {peers[0].ms / cell.best.ms:.2f} × our time ({low:.2f} … {high:.2f})"
        what = "not slower than ONNX Runtime and OpenVINO as they come"
        yield Goal(f"{_place(cell)}: {what}", 1.0, high, "× at most", note=note)


def _place(cell: Cell) -> str:
    return f"{cell.model}, {cell.what or f'{cell.rows} × {cell.tokens}'}"
