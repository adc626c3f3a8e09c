"""Measures candidates: how they answer, and how long they take beside the reference.

Legend: R = rounds, Q = calls in a round.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, Transient
from lnmt.optimization.answers import Answers, Validation, collect
from lnmt.optimization.build import Builder
from lnmt.optimization.candidate import REFERENCE, Candidate, Latency, Measurement
from lnmt.optimization.footprint import peak_memory_mb
from lnmt.optimization.latency import draw_batches, least_ms, summarise, time_in_turns
from lnmt.optimization.parity import compare_answers
from lnmt.optimization.plan import why_not
from lnmt.optimization.records import Records
from lnmt.params import OptimizeParams
from lnmt.progress import Progress
from lnmt.runtime.capabilities import Capabilities
from lnmt.runtime.predictor import Predictor

Times = Mapping[int, Mapping[str, NDArray[np.float64]]]  # milliseconds [R, Q] by batch size and candidate's name

LOOK_SHARE = 3  # a first look takes so many times fewer rounds
SLOWER = 20  # than the reference: the whole split would take for ever, and nothing ships that is so slow


@dataclass
class Bench:
    """The splits, and the reference opened on them; `close` it, or use it in a `with`."""

    builder: Builder
    validation: Validation
    test: Validation
    options: OptimizeParams
    machine: Capabilities
    records: Records
    progress: Progress
    lengths: Sequence[int] | None = None  # tokens of texts seen in service, to time with; None: the validation split's
    clock: Callable[[], float] = time.monotonic
    reference: Predictor = field(init=False)

    def __enter__(self) -> Self:
        self.reference = self._open(REFERENCE)
        self._rows = self.reference.encode(self.validation.texts)
        self._deadline = self.clock() + self.options.time_limit_s
        return self

    def __exit__(self, *_: object) -> None:
        self.reference.close()

    @property
    def late(self) -> bool:
        """Whether the time limit has passed."""
        return self.clock() > self._deadline

    def look(self, candidate: Candidate) -> Measurement:
        """Answers and, in few rounds beside the reference, times. What fails, or is too late, says so."""
        kept = self.records.measurement(candidate)
        if kept is not None:
            return kept
        reason = why_not(candidate, self.machine)
        if reason is None and self.late and candidate != REFERENCE:
            reason = f"not tried: the time limit of {self.options.time_limit_s:g} s had passed"
        if reason is not None:
            return Measurement(candidate, failure=reason)
        try:
            found = self._look(candidate)
        except LnmtError as error:
            if candidate == REFERENCE or not _its_own(error):
                raise
            self.progress.note(f"{candidate.name}: {error.what}")
            found = Measurement(candidate, failure=error.what)
        return self.records.keep_measurement(found)

    def split(self, name: str) -> Validation:
        """ "validation" or "test"."""
        return {"validation": self.validation, "test": self.test}[name]

    def answers(self, split: str, candidate: Candidate, predictor: Predictor | None = None) -> Answers:
        """The candidate's answers to "validation" or "test", asked for once."""
        kept = self.records.answers(split, candidate)
        if kept is not None:
            return kept
        held = self.split(split)
        with ExitStack() as stack:
            if predictor is None:
                predictor = self.open(candidate, stack)
            found = collect(predictor, held, self.progress, f"{split} {candidate.name}")
        return self.records.keep_answers(split, candidate, found)

    def tune(self, candidate: Candidate, variants: Sequence[Candidate]) -> Candidate:
        """`candidate` or the one of `variants` (the same files, other settings) that is faster.

        That is the one with the least mean time at the largest batch size, among those that are as good for the
        objective as any, within 3 %.
        """
        if not variants or self.late:
            return candidate
        try:
            with ExitStack() as stack:
                opened = {one.name: self.open(one, stack) for one in (candidate, *variants)}
                sizes = [self.options.objective.batch_size, max(self.options.batch_sizes)]
                times = self._time(opened, sizes, brief=True)
        except LnmtError as error:
            if not _its_own(error):
                raise
            self.progress.note(f"{candidate.name}: its settings stay as they are: {error.what}")
            return candidate
        mean = {size: {name: float(np.mean(calls)) for name, calls in found.items()} for size, found in times.items()}
        objective, largest = mean[self.options.objective.batch_size], mean[max(self.options.batch_sizes)]
        good = [one for one in (candidate, *variants) if objective[one.name] <= 1.03 * min(objective.values())]
        return min(good, key=lambda one: largest[one.name])

    def race(self, entries: Sequence[Measurement]) -> tuple[list[Measurement], Times]:
        """All of them, the reference too, opened and timed in the same rounds; then their memory."""
        with ExitStack() as stack:
            opened = {one.candidate.name: self.open(one.candidate, stack) for one in entries}
            times = self._time(opened, self.options.batch_sizes)
        with self.progress.bar("memory", len(entries), "processes") as bar:
            found = []
            for one in entries:
                memory = self._memory(opened[one.candidate.name].bundle)
                found.append(replace(one, latency=self._latencies(times, one.candidate), final=True, memory_mb=memory))
                bar.advance()
        return found, times

    def open(self, candidate: Candidate, stack: ExitStack) -> Predictor:
        """A predictor of the candidate; `stack` closes it, but for the reference, which stays."""
        if candidate == REFERENCE:
            return self.reference
        predictor = self._open(candidate)
        stack.callback(predictor.close)
        return predictor

    def _open(self, candidate: Candidate) -> Predictor:
        return Predictor.open(self.builder.build(candidate).bundle, threads=self.options.threads)

    def _look(self, candidate: Candidate) -> Measurement:
        built = self.builder.build(candidate)
        with ExitStack() as stack:
            predictor = self.open(candidate, stack)
            self._check_pace(predictor)
            answers = self.answers("validation", candidate, predictor)
            size = self.options.objective.batch_size
            opened = {REFERENCE.name: self.reference, candidate.name: predictor}
            times = self._time(opened, [size], brief=True)
        return Measurement(
            candidate,
            megabytes=_megabytes(built.bundle),
            built_s=built.seconds,
            decided=built.decided,
            parity=compare_answers(self.answers("validation", REFERENCE), answers, self.validation),
            latency=self._latencies(times, candidate),
        )

    def _check_pace(self, predictor: Predictor) -> None:
        """Raises LnmtError where the engine is hopelessly slow: without a kernel some compute number by number."""
        batch = self.reference.pad([min(self._rows, key=len)])
        usual, took = (least_ms(one.engine.infer, batch) for one in (self.reference, predictor))
        if took > SLOWER * usual:
            tokens = batch.input_ids.shape[1]
            raise LnmtError(
                f"a text of {tokens} tokens takes {took:.0f} ms, {took / usual:.0f} times what the reference takes"
            )

    def _time(self, predictors: Mapping[str, Predictor], sizes: Sequence[int], *, brief: bool = False) -> Times:
        options = self.options
        rounds = math.ceil(options.rounds / LOOK_SHARE) if brief else options.rounds
        warmup = math.ceil(options.warmup_rounds / LOOK_SHARE) if brief else options.warmup_rounds
        rng = np.random.default_rng(options.seed)
        rows = _with_lengths(self._rows, self.lengths, rng)
        engines = {name: predictor.engine.infer for name, predictor in predictors.items()}
        sizes = sorted(set(sizes))
        label = f"time {len(predictors)} engines" if len(predictors) > 2 else f"time {list(predictors)[-1]}"
        with self.progress.bar(label, len(sizes) * (rounds + warmup), "rounds") as bar:
            return {
                size: time_in_turns(
                    engines,
                    draw_batches(rows, size, rounds, self.reference.pad, rng),
                    warmup_rounds=warmup,
                    rng=rng,
                    advance=bar.advance,
                )
                for size in sizes
            }

    def _latencies(self, times: Times, candidate: Candidate) -> dict[int, Latency]:
        rng = np.random.default_rng(self.options.seed)
        return {
            size: summarise(
                found[REFERENCE.name],
                found[candidate.name],
                confidence=self.options.confidence,
                samples=self.options.bootstrap_samples,
                rng=rng,
            )
            for size, found in times.items()
        }

    def _memory(self, bundle: Bundle) -> float | None:
        try:
            return peak_memory_mb(bundle.path, batch_size=max(self.options.batch_sizes), threads=self.options.threads)
        except LnmtError as error:
            self.progress.note(f"{bundle.manifest.engine}: its memory is not known: {error.what}")
            return None


def _its_own(error: LnmtError) -> bool:
    """Whether a candidate's failure tells of the candidate: a full disk and what may go through later do not."""
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return not (full or isinstance(error, Transient))


def _with_lengths(
    rows: Sequence[list[int]], lengths: Sequence[int] | None, rng: np.random.Generator
) -> Sequence[list[int]]:
    """`rows` drawn anew, so that they are as long as the texts seen in service: each length's nearest row."""
    if not lengths:
        return rows
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    known = np.array([len(rows[place]) for place in order])
    wanted = rng.choice(np.asarray(lengths), len(rows))
    places = np.searchsorted(known, wanted).clip(0, len(known) - 1)
    return [rows[order[place]] for place in places.tolist()]


def _megabytes(bundle: Bundle) -> float:
    return round(sum(bundle.file(name).stat().st_size for name in bundle.manifest.files) / 1e6, 3)
