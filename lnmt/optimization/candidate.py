"""What the search moves over, and what is known of each point: plain values, all of them JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lnmt.files import canonical_json, sha256_bytes
from lnmt.params import Objective, Plugin
from lnmt.stats.bootstrap import Interval
from lnmt.types import Precision


@dataclass(frozen=True)
class Candidate:
    """One way to run the trained weights."""

    engine: str  # plugin of lnmt.runtime
    precision: Precision  # of the arithmetic; of a quantised model that of what stays in floats
    compressions: tuple[Plugin, ...] = ()  # plugins of lnmt.optimization.compressions, in the order in which they act
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the engine when it runs; TensorRT builds for them

    @property
    def name(self) -> str:
        """`openvino-bf16+static_int8 streams=2`."""
        return " ".join(
            [
                "+".join([f"{self.engine}-{self.precision}", *map(compression_name, self.compressions)]),
                *(f"{key}={value}" for key, value in sorted(self.settings.items())),
            ]
        )

    def with_settings(self, settings: Mapping[str, Any]) -> Candidate:
        """The same model, run otherwise."""
        return replace(self, settings=dict(settings))

    def as_json(self) -> dict[str, Any]:
        """For measurements.json and a bundle's evidence."""
        return {
            "name": self.name,
            "engine": self.engine,
            "precision": self.precision,
            "compressions": [plugin.model_dump() for plugin in self.compressions],
            "settings": dict(self.settings),
        }


def compression_name(plugin: Plugin) -> str:
    """A compression's name; where it has options of its own, with a few digits of their digest."""
    if not plugin.options:
        return plugin.name
    return f"{plugin.name}-{sha256_bytes(canonical_json(plugin.options)).removeprefix('sha256:')[:6]}"


def recipe_name(compressions: Sequence[Plugin]) -> str:
    """Of what is done to the weights, one after the other."""
    return "+".join(map(compression_name, compressions)) or "as trained"


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
class Figure:
    """One statistic of a candidate's times, and how many times the reference's it is."""

    ms: float
    interval: Interval
    speedup: float  # the reference's over this one, in the same rounds
    speedup_interval: Interval

    def as_json(self) -> dict[str, Any]:
        """For measurements.json."""
        return asdict(self) | {
            "interval": self.interval.as_list(),
            "speedup_interval": self.speedup_interval.as_list(),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Figure:
        """What `as_json` gave."""
        return cls(found["ms"], Interval(*found["interval"]), found["speedup"], Interval(*found["speedup_interval"]))


@dataclass(frozen=True)
class Latency:
    """Times of one `infer` call at one batch size, over the rounds, and against the reference in the same rounds."""

    calls: int
    p50: Figure
    p99: Figure
    mean: Figure

    def as_json(self) -> dict[str, Any]:
        """For measurements.json."""
        return {"calls": self.calls, **{name: getattr(self, name).as_json() for name in ("p50", "p99", "mean")}}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Latency:
        """What `as_json` gave."""
        return cls(found["calls"], *(Figure.from_json(found[name]) for name in ("p50", "p99", "mean")))


@dataclass(frozen=True)
class Measurement:
    """A candidate and all that was found; `failure` says why there is nothing."""

    candidate: Candidate
    failure: str | None = None
    megabytes: float | None = None  # of its files
    memory_mb: float | None = None  # of a process that runs it and nothing else, at its peak; of finalists
    built_s: float | None = None  # what its files took to make
    decided: Mapping[str, Any] = field(default_factory=dict)  # by its compressions, on the way
    parity: Parity | None = None
    latency: Mapping[int, Latency] = field(default_factory=dict)  # by batch size
    final: bool = False  # timed beside the other finalists, in the same rounds

    def as_json(self) -> dict[str, Any]:
        """For measurements.json and a bundle's evidence."""
        return {
            **self.candidate.as_json(),
            "failure": self.failure,
            "megabytes": self.megabytes,
            "memory_mb": self.memory_mb,
            "built_s": self.built_s,
            "decided": dict(self.decided),
            "parity": None if self.parity is None else asdict(self.parity),
            "latency": {str(size): latency.as_json() for size, latency in self.latency.items()},
            "final": self.final,
        }

    @classmethod
    def from_json(cls, candidate: Candidate, found: Mapping[str, Any]) -> Measurement:
        """What `as_json` gave, of `candidate`."""
        return cls(
            candidate,
            failure=found["failure"],
            megabytes=found["megabytes"],
            memory_mb=found["memory_mb"],
            built_s=found["built_s"],
            decided=found["decided"],
            parity=None if found["parity"] is None else Parity(**found["parity"]),
            latency={int(size): Latency.from_json(latency) for size, latency in found["latency"].items()},
            final=found["final"],
        )

    def cost(self, objective: Objective) -> float:
        """What the objective has least of; of throughput the milliseconds of a call, which it has most of inversely.

        Only what was measured side by side can be compared: `final` measurements with each other.
        """
        if objective.measure == "size":
            assert self.megabytes is not None, "what did not fail was weighed"
            return self.megabytes
        if objective.measure == "memory":
            assert self.memory_mb is not None, "finalists were weighed in memory"
            return self.memory_mb
        return self.figure(objective).ms

    def figure(self, objective: Objective) -> Figure:
        """The times that the objective looks at; the median where it looks at none."""
        latency = self.latency[objective.batch_size]
        return {"p99": latency.p99, "throughput": latency.mean}.get(objective.measure, latency.p50)
