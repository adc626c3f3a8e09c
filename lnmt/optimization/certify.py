"""Which candidates are shown to be no worse than the reference: tests of all parts of each, and of one after the other.

A candidate must hold every part: the mean loss of all texts, that of every slice, the share of answers that change,
and the task's metric. That is an intersection-union test, each part at α = 1 − confidence without correction (Berger
1982). Candidates are tested in an order that other data gave, up to the first that fails (Learn then Test, arXiv
2110.01052, §4): the chance that a candidate ships which is worse, in any part, by its margin or more is at most α
for the search as a whole. The metric's part rests on a bootstrap and holds approximately; the others hold exactly.

Pure. Legend: N = texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.errors import LnmtError
from lnmt.optimization.losses import MetricLoss
from lnmt.params import Budget
from lnmt.stats.multiplicity import fixed_sequence, intersection_union
from lnmt.stats.noninferiority import Evidence, mean_evidence
from lnmt.stats.shares import share_evidence
from lnmt.training.metrics.names import title

OVERALL, FLIPS = "overall", "flips"


@dataclass(frozen=True)
class Rows:
    """The texts that candidates are judged on, and what the reference loses there."""

    losses: NDArray[np.float64]  # [N], in 0…1
    whole: bool  # losses can only be 0 or 1, see `losses.whole_losses`
    slices: Mapping[str, NDArray[np.bool_]]  # `domain=film` → [N]


@dataclass(frozen=True)
class Judged:
    """A candidate on the same texts."""

    name: str
    losses: NDArray[np.float64]  # [N], in 0…1
    flips: NDArray[np.bool_ | np.float64]  # [N], see `losses.text_flips`
    metric: MetricLoss


@dataclass(frozen=True)
class Part:
    """One thing that must hold, and what was seen of it."""

    name: str  # overall, domain=film, flips, macro-F1
    rows: int
    estimate: float  # of the loss, or the share
    margin: float
    judged: bool  # False: too small to be certified, shown only
    upper: float | None  # it is at most this, at the confidence asked for; None where it is not judged
    p_value: float | None  # of "it is the margin or more"
    told: str  # a sentence for people


@dataclass(frozen=True)
class Verdict:
    """All parts of one candidate."""

    name: str
    parts: Sequence[Part]
    p_value: float  # of "some part does not hold"

    def failed(self, alpha: float) -> list[Part]:
        """The judged parts that were not shown."""
        return [part for part in self.parts if part.p_value is not None and part.p_value > alpha]

    def as_json(self) -> dict[str, Any]:
        """For measurements.json and the certificate."""
        return {"p_value": self.p_value, "parts": [asdict(part) for part in self.parts]}


@dataclass(frozen=True)
class Certification:
    """What became of all candidates."""

    order: Sequence[str]  # in which they were tested
    verdicts: Mapping[str, Verdict]  # by name, of those too that came after the first failure
    certified: Sequence[str]
    refused: Mapping[str, str]  # why each other may not ship


def certify(candidates: Sequence[Judged], rows: Rows, budget: Budget, confidence: float) -> Certification:
    """Test `candidates` in the order given, which must not come from `rows`: see `safest_first`.

    Raises LnmtError for too few bootstrap samples of the metric, ValueError for arrays that do not fit.
    """
    alpha = 1 - confidence
    verdicts = {one.name: judge(one, rows, budget, confidence) for one in candidates}
    if len(verdicts) != len(candidates):
        raise ValueError(f"candidates must have different names: {[one.name for one in candidates]}")
    adjusted = fixed_sequence([verdict.p_value for verdict in verdicts.values()])
    shown = dict(zip(verdicts, (adjusted <= alpha).tolist(), strict=True))
    stop = next((name for name, right in shown.items() if not right), None)
    refused = {name: _reason(verdicts[name], alpha, str(stop)) for name, right in shown.items() if not right}
    return Certification(list(verdicts), verdicts, [name for name, right in shown.items() if right], refused)


def judge(candidate: Judged, rows: Rows, budget: Budget, confidence: float) -> Verdict:
    """Every part of one candidate. Raises as `certify` does."""
    for name, array in {"losses": candidate.losses, "flips": candidate.flips, **rows.slices}.items():
        if array.shape != rows.losses.shape:
            raise ValueError(f"{name} of {candidate.name}: shape {array.shape}, the reference has {rows.losses.shape}")
    differences = candidate.losses - rows.losses
    parts = [_mean(OVERALL, differences, rows.whole, budget.max_loss, confidence)]
    for name, mask in rows.slices.items():
        if mask.sum() < budget.min_slice_rows:
            parts.append(_too_small(name, differences[mask], budget))
        else:
            parts.append(_mean(name, differences[mask], rows.whole, budget.max_slice_loss, confidence))
    parts.append(_flips(candidate.flips, budget.max_flip_share, confidence))
    parts.append(_metric(candidate.metric, len(differences), budget.max_metric_loss, confidence))
    p_value = intersection_union([part.p_value for part in parts if part.p_value is not None])
    return Verdict(candidate.name, parts, p_value)


def safest_first(verdicts: Iterable[Verdict]) -> list[str]:
    """Names by p-value, the least first; where the largest part is as safe, the next decides. Ties stay as they are.

    Of verdicts on other texts than those that `certify` is given: validation's.
    """

    def worst(verdict: Verdict) -> list[float]:
        return sorted((part.p_value for part in verdict.parts if part.p_value is not None), reverse=True)

    return [verdict.name for verdict in sorted(verdicts, key=lambda verdict: (verdict.p_value, worst(verdict)))]


def _mean(name: str, differences: NDArray[np.float64], whole: bool, margin: float, confidence: float) -> Part:
    return _part(name, mean_evidence(differences, margin, confidence, whole=whole), margin, confidence, "loses")


def _flips(flips: NDArray[np.bool_ | np.float64], limit: float, confidence: float) -> Part:
    if flips.dtype == np.bool_:
        found = share_evidence(int(flips.sum()), len(flips), limit, confidence)
    else:
        found = mean_evidence(flips.astype(np.float64), limit, confidence, whole=False)
    return _part(FLIPS, found, limit, confidence, "a share of")


def _metric(loss: MetricLoss, rows: int, margin: float, confidence: float) -> Part:
    """The percentile bound: the share of the bootstrap samples that lose the margin or more is the p-value."""
    samples = np.sort(loss.samples)
    beyond = math.floor((1 - confidence) * (len(samples) + 1) + 1e-9) - 1  # samples above the bound
    if beyond < 0:
        raise LnmtError(
            f"too few bootstrap samples for {confidence:.1%} confidence",
            where="params.yaml: optimize.bootstrap_samples",
            value=len(samples),
            allowed=f"at least {math.ceil(1 / (1 - confidence) - 1e-9) - 1}",
            fix="draw more samples, or ask for less confidence",
        )
    p_value = (1 + int((samples >= margin).sum())) / (len(samples) + 1)
    found = Evidence(rows, loss.estimate, float(samples[-1 - beyond]), p_value)
    return _part(title(loss.metric), found, margin, confidence, "loses")


def _part(name: str, found: Evidence, margin: float, confidence: float, verb: str) -> Part:
    held = found.p_value <= 1 - confidence
    allowed = f"{margin:g} is allowed" if held else f"more than the {margin:g} allowed"
    told = f"{name}: {verb} at most {found.upper:.4g}, {allowed} ({found.estimate:.4g} on {found.rows} texts)"
    return Part(name, found.rows, found.estimate, margin, True, found.upper, found.p_value, told)


def _too_small(name: str, differences: NDArray[np.float64], budget: Budget) -> Part:
    rows = len(differences)
    estimate = float(differences.mean()) if rows else 0.0
    seen = f"; {estimate:.4g} was seen" if rows else ""
    told = f"{name}: too small to certify, {rows} rows where {budget.min_slice_rows} are needed{seen}"
    return Part(name, rows, estimate, budget.max_slice_loss, False, None, None, told)


def _reason(verdict: Verdict, alpha: float, stop: str) -> str:
    failed = verdict.failed(alpha)
    if failed:
        return "not certified: " + "; ".join(part.told for part in failed)
    return f"not certified: the search stopped before it, at {stop}, which comes first in the order and failed"
