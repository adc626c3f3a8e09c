"""What the search moves over, and what is known of each point: plain values, all of them JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lnmt.stats.bootstrap import Interval

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Candidate:
    """One way to run the trained weights."""

    engine: str  # plugin of lnmt.runtime
    precision: Precision
    settings: Mapping[str, Any] = field(default_factory=dict)  # what its back end needs to build it again

    @property
    def name(self) -> str:
        """`openvino-bf16`; also the name of its directory."""
        extra = "".join(f"-{key}={value}" for key, value in sorted(self.settings.items()))
        return f"{self.engine}-{self.precision}{extra}"


REFERENCE = Candidate("torch", "fp32")  # what every other candidate is held against


@dataclass(frozen=True)
class Parity:
    """How far a candidate's answers are from the reference's, over the whole validation split."""

    unit: str  # what is compared one by one, such as `labels`
    units: int
    flips: int | None  # those that differ; None for numbers, which move
    flip_share: float  # flips over units; of numbers the mean move, in standard deviations of the target
    metric: str  # the task's own
    value: float  # of the candidate
    metric_loss: float  # how much worse than the reference's, negative where better; of numbers in the same unit
    max_difference: float  # of any logit, or of a token's −log p in nats


@dataclass(frozen=True)
class Latency:
    """Time of one `infer` call at one batch size, over the rounds, and against the reference in the same rounds."""

    calls: int
    median_ms: float
    median_interval: Interval
    p95_ms: float
    speedup: float  # the reference's median over this one
    speedup_interval: Interval


@dataclass(frozen=True)
class Measurement:
    """A candidate and all that was found; `failure` says why there is nothing."""

    candidate: Candidate
    failure: str | None = None
    megabytes: float | None = None  # of its files
    parity: Parity | None = None
    latency: Mapping[int, Latency] = field(default_factory=dict)  # by batch size

    def as_json(self) -> dict[str, Any]:
        """For measurements.json and a bundle's evidence."""
        parity = None if self.parity is None else asdict(self.parity)
        return {
            "name": self.candidate.name,
            "engine": self.candidate.engine,
            "precision": self.candidate.precision,
            "settings": dict(self.candidate.settings),
            "failure": self.failure,
            "megabytes": self.megabytes,
            "parity": parity,
            "latency": {str(size): _latency_json(latency) for size, latency in self.latency.items()},
        }


def _latency_json(latency: Latency) -> dict[str, Any]:
    return asdict(latency) | {
        "median_interval": latency.median_interval.as_list(),
        "speedup_interval": latency.speedup_interval.as_list(),
    }
