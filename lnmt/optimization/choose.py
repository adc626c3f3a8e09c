"""Which candidate ships. Pure: measurements, verdicts and limits in, a winner and a reason for everyone else out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lnmt.optimization.candidate import REFERENCE, Candidate, Measurement
from lnmt.params import Objective, OptimizeParams

TIMED = ("p50", "p99", "throughput")  # objectives that are times: a winner must be faster with confidence
TITLES = {"p50": "median", "p99": "99th percentile", "throughput": "mean"}


@dataclass(frozen=True)
class Choice:
    """The winner, and why: one line for it and one for each that lost, by name."""

    winner: Candidate
    why: str
    lost: Mapping[str, str]


def differs(entry: Measurement, params: OptimizeParams) -> str | None:
    """Why a candidate's answers to validation rule it out; None where they do not."""
    if entry.failure is not None:
        return entry.failure
    assert entry.parity is not None, "what did not fail was measured"
    parity, budget = entry.parity, params.budget
    if parity.flip_share > budget.max_flip_share:
        limit = f"max_flip_share {budget.max_flip_share:.2%}"
        if parity.flips is None:
            return f"answers differ: by {parity.flip_share:.2%} of the target's standard deviation on average ({limit})"
        return f"answers differ: {parity.flips} of {parity.units} {parity.unit} flip ({parity.flip_share:.2%}; {limit})"
    if parity.metric_loss > budget.max_metric_loss:
        return f"{parity.metric} is worse by {parity.metric_loss:.4f} (max_metric_loss {budget.max_metric_loss:g})"
    return None


def pick_finalists(looked: Sequence[Measurement], params: OptimizeParams) -> list[Measurement]:
    """The candidates that are best for the objective at a first look, and answer as the reference does on validation.

    At most `finalists`, the best first. The fastest of the weights as trained in fp32 is always among them: it is the
    one that is surest to be certified. Times are compared as speed-ups, since each was taken in rounds of its own.
    """
    fit = [entry for entry in looked if entry.candidate != REFERENCE and differs(entry, params) is None]
    objective = params.objective

    def order(entry: Measurement) -> float:
        if objective.measure == "size":
            return entry.cost(objective)
        return 1 / entry.figure(objective).speedup  # memory is not known yet: the fastest are weighed

    ranked = sorted(fit, key=order)
    plain = [entry for entry in ranked if entry.candidate.precision == "fp32" and not entry.candidate.compressions][:1]
    rest = [entry for entry in ranked if entry not in plain]
    return sorted([*plain, *rest[: params.finalists - len(plain)]], key=order)


def choose(
    reference: Measurement,
    looked: Sequence[Measurement],
    finalists: Sequence[Measurement],
    refused: Mapping[str, str],
    params: OptimizeParams,
) -> Choice:
    """The finalist that is best for the objective among those that were certified and are faster with confidence.

    `reference` and `finalists` were timed in the same rounds; `looked` are all candidates, for why they lost; `refused`
    tells by name why a finalist may not ship. Where none may, the reference ships itself. The same input gives the
    same choice: ties go to the earlier one.
    """
    objective = params.objective
    lost = _lost_early(looked, finalists, params)
    unfit = {entry.candidate.name: reason for entry in finalists if (reason := _unfit(entry, reference, params))}
    lost |= {
        entry.candidate.name: reason
        for entry in finalists
        if (reason := refused.get(entry.candidate.name) or unfit.get(entry.candidate.name))
    }
    fit = [entry for entry in finalists if entry.candidate.name not in lost]
    if not fit:
        why = f"no candidate is as right as {REFERENCE.name} and {_better(objective)}: the reference ships itself"
        return Choice(REFERENCE, why, lost)
    winner = min(fit, key=lambda entry: entry.cost(objective))
    for entry in (reference, *fit):
        if entry is not winner:
            lost[entry.candidate.name] = (
                f"right, but {_told(entry, objective)} where {winner.candidate.name} has {_told(winner, objective)}"
            )
    return Choice(winner.candidate, _why(winner, params), lost)


def _lost_early(
    looked: Sequence[Measurement], finalists: Sequence[Measurement], params: OptimizeParams
) -> dict[str, str]:
    """Of every candidate that was not among the finalists."""
    names = {entry.candidate.name.partition(" ")[0] for entry in finalists}
    lost = {}
    for entry in looked:
        name = entry.candidate.name
        if name in names or entry.candidate == REFERENCE:
            continue
        reason = differs(entry, params)
        if reason is None:
            figure = entry.figure(params.objective)
            reason = f"right on validation, but {figure.speedup:.2f}× at a first look: {params.finalists} were better"
        lost[name] = reason
    return lost


def _unfit(entry: Measurement, reference: Measurement, params: OptimizeParams) -> str | None:
    """Why a finalist is no better than the reference for the objective; None where it is."""
    objective = params.objective
    if objective.measure in TIMED:
        figure = entry.figure(objective)
        if figure.speedup_interval.low <= 1:
            low, high = figure.speedup_interval.as_list()
            return (
                f"not surely faster than {REFERENCE.name}: {figure.speedup:.2f}× "
                f"({low:.2f}…{high:.2f} at {params.confidence:.0%} confidence)"
            )
    elif objective.measure == "memory" and entry.memory_mb is None:
        return "its memory is not known"
    elif entry.cost(objective) >= reference.cost(objective):
        return f"no less {objective.measure} than {REFERENCE.name}: {_told(entry, objective)}"
    return None


def _why(winner: Measurement, params: OptimizeParams) -> str:
    objective = params.objective
    if objective.measure not in TIMED:
        return f"least {objective.measure}: {_told(winner, objective)}"
    figure = winner.figure(objective)
    low, high = figure.speedup_interval.as_list()
    return (
        f"fastest at batch size {objective.batch_size}: {_told(winner, objective)}, "
        f"{figure.speedup:.2f}× the reference ({low:.2f}…{high:.2f} at {params.confidence:.0%} confidence)"
    )


def _told(entry: Measurement, objective: Objective) -> str:
    """The candidate's figure in the objective's unit."""
    if objective.measure in TIMED:
        return f"{entry.figure(objective).ms:.2f} ms ({TITLES[objective.measure]})"
    return f"{entry.cost(objective):.1f} MB"


def _better(objective: Objective) -> str:
    return "faster with confidence" if objective.measure in TIMED else f"has less {objective.measure}"
