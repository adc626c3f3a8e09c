"""Which candidate ships. Pure: measurements and limits in, a winner and a reason for everyone else out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lnmt.optimization.candidate import REFERENCE, Candidate, Measurement
from lnmt.params import OptimizeParams


@dataclass(frozen=True)
class Choice:
    """The winner, and why: one line for it and one for each that lost, by name."""

    winner: Candidate
    why: str
    lost: Mapping[str, str]


def choose(measurements: Sequence[Measurement], params: OptimizeParams) -> Choice:
    """The candidate with the least median latency at `objective_batch_size` among those that
    answer as the reference does and are faster than it with confidence; the reference where there is none.

    `measurements` hold the reference's. The same input gives the same choice: ties go to the earlier one.
    """
    size = params.objective_batch_size
    reference = next(entry for entry in measurements if entry.candidate == REFERENCE)
    others = [entry for entry in measurements if entry.candidate != REFERENCE]
    lost = {entry.candidate.name: reason for entry in others if (reason := _unfit(entry, params))}
    fit = [entry for entry in others if entry.candidate.name not in lost]
    if not fit:
        why = f"no candidate is as right as {REFERENCE.name} and faster with confidence: the reference ships itself"
        return Choice(REFERENCE, why, lost)

    winner = min(fit, key=lambda entry: entry.latency[size].median_ms)
    best = winner.latency[size]
    for entry in (reference, *fit):
        if entry is not winner:
            factor = entry.latency[size].median_ms / best.median_ms
            lost[entry.candidate.name] = (
                f"right, but {entry.latency[size].median_ms:.2f} ms where {winner.candidate.name} "
                f"takes {best.median_ms:.2f} ms ({factor:.2f} times as long)"
            )
    low, high = best.speedup_interval.as_list()
    why = (
        f"fastest at batch size {size}: {best.median_ms:.2f} ms, {best.speedup:.2f}× the reference "
        f"({low:.2f}…{high:.2f} at {params.confidence:.0%} confidence)"
    )
    return Choice(winner.candidate, why, lost)


def _unfit(entry: Measurement, params: OptimizeParams) -> str | None:
    """Why a candidate may not ship; None where it may."""
    if entry.failure is not None:
        return entry.failure
    assert entry.parity is not None, "what did not fail was measured"
    parity = entry.parity
    if parity.flip_share > params.max_flip_share:
        limit = f"max_flip_share {params.max_flip_share:.2%}"
        if parity.flips is None:
            return f"answers differ: by {parity.flip_share:.2%} of the target's standard deviation on average ({limit})"
        return f"answers differ: {parity.flips} of {parity.units} {parity.unit} flip ({parity.flip_share:.2%}; {limit})"
    if parity.metric_loss > params.max_metric_loss:
        return f"{parity.metric} is worse by {parity.metric_loss:.4f} (max_metric_loss {params.max_metric_loss:g})"
    latency = entry.latency[params.objective_batch_size]
    if latency.speedup_interval.low <= 1:
        low, high = latency.speedup_interval.as_list()
        return (
            f"not surely faster than {REFERENCE.name}: {latency.speedup:.2f}× "
            f"({low:.2f}…{high:.2f} at {params.confidence:.0%} confidence)"
        )
    return None
