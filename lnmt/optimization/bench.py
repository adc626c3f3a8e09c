"""Builds candidates, holds each against the reference, times all in turns.

Legend: R = rounds, Q = calls in a round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.optimization.answers import Answers, Validation, collect
from lnmt.optimization.backends import Source
from lnmt.optimization.build import build_candidate
from lnmt.optimization.candidate import REFERENCE, Candidate, Latency, Measurement
from lnmt.optimization.latency import draw_batches, summarise, time_in_turns
from lnmt.optimization.parity import compare_answers
from lnmt.params import OptimizeParams
from lnmt.progress import Progress
from lnmt.runtime.capabilities import Capabilities
from lnmt.runtime.predictor import Predictor

Times = Mapping[int, Mapping[str, NDArray[np.float64]]]  # milliseconds [R, Q] by batch size and candidate's name


@dataclass
class Bench:
    """The validation split, and the engines that were opened on it; `close` them, or use it in a `with`."""

    source: Source
    validation: Validation
    options: OptimizeParams
    machine: Capabilities
    progress: Progress
    predictors: dict[str, Predictor] = field(default_factory=dict)  # by candidate's name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for predictor in self.predictors.values():
            predictor.close()
        self.predictors.clear()

    def measure(self, candidates: Sequence[Candidate]) -> tuple[list[Measurement], Times]:
        """A measurement of each candidate, in order, and the raw times. The reference is one of them.

        A candidate that fails is measured as failed; only the reference's failure is raised.
        """
        answers: dict[str, Answers] = {}
        failures: dict[str, str] = {}
        for candidate in candidates:
            try:
                answers[candidate.name] = self._answers(candidate)
            except LnmtError as error:
                if candidate == REFERENCE:
                    raise
                failures[candidate.name] = error.what
                self.progress.note(f"{candidate.name}: {error.what}")
        times = self._time(list(answers))
        rng = np.random.default_rng(self.options.seed)
        found = []
        for candidate in candidates:
            if candidate.name in failures:
                found.append(Measurement(candidate, failure=failures[candidate.name]))
                continue
            found.append(
                Measurement(
                    candidate,
                    megabytes=_megabytes(self.predictors[candidate.name].bundle),
                    parity=compare_answers(answers[REFERENCE.name], answers[candidate.name], self.validation),
                    latency={size: self._summary(times[size], candidate, rng) for size in self.options.batch_sizes},
                )
            )
        return found, times

    def _answers(self, candidate: Candidate) -> Answers:
        """What a candidate, built and opened here, says of the split. Raises LnmtError where that cannot be."""
        reason = self.machine.why_not(candidate.engine, candidate.precision)
        if reason is not None:
            raise LnmtError(f"not on this machine: {reason}", where=candidate.name)
        bundle = build_candidate(candidate, self.source)
        predictor = Predictor.open(bundle, threads=self.options.threads)
        self.predictors[candidate.name] = predictor
        return collect(predictor, self.validation, self.progress, candidate.name)

    def _time(self, names: Sequence[str]) -> Times:
        options = self.options
        reference = self.predictors[REFERENCE.name]
        rows = reference.encode(self.validation.texts)
        rng = np.random.default_rng(options.seed)
        engines = {name: self.predictors[name].engine.infer for name in names}
        turns = len(options.batch_sizes) * (options.rounds + options.warmup_rounds)
        with self.progress.bar("latency", turns, "rounds") as bar:
            return {
                size: time_in_turns(
                    engines,
                    draw_batches(rows, size, options.rounds, reference.pad, rng),
                    warmup_rounds=options.warmup_rounds,
                    rng=rng,
                    advance=bar.advance,
                )
                for size in options.batch_sizes
            }

    def _summary(
        self, times: Mapping[str, NDArray[np.float64]], candidate: Candidate, rng: np.random.Generator
    ) -> Latency:
        return summarise(
            times[REFERENCE.name],
            times[candidate.name],
            confidence=self.options.confidence,
            samples=self.options.bootstrap_samples,
            rng=rng,
        )


def _megabytes(bundle: Bundle) -> float:
    return round(sum(bundle.file(name).stat().st_size for name in bundle.manifest.files) / 1e6, 3)
