"""The search: look at all, tune and time the best, certify on rows that decided nothing, choose.

Validation decides who comes into question, and in which order they are certified; test is looked at once, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lnmt.optimization.answers import Validation
from lnmt.optimization.bench import Bench, Times
from lnmt.optimization.candidate import REFERENCE, Candidate, Measurement
from lnmt.optimization.certify import Certification, Judged, Rows, certify, judge, safest_first
from lnmt.optimization.choose import Choice, choose, pick_finalists
from lnmt.optimization.composition import Composition, compare_compositions
from lnmt.optimization.losses import metric_loss, target_spread, text_flips, text_losses, whole_losses
from lnmt.optimization.plan import settings_of

COMPOSITION_TEXTS = 400  # of validation, answered alone and in company


@dataclass(frozen=True)
class Found:
    """Everything that a search found."""

    reference: Measurement
    looked: Sequence[Measurement]  # every candidate, in the order in which it was looked at
    finalists: Sequence[Measurement]
    times: Times
    certification: Certification
    composition: Mapping[str, Composition]  # of the finalists that would have shipped, by name
    choice: Choice


def search(bench: Bench, candidates: Sequence[Candidate], slices: Mapping[str, NDArray[np.bool_]]) -> Found:
    """Search `candidates`, the reference among them; `slices` are rows of test by name.

    Raises LnmtError where the reference itself does not run; any other candidate's failure is a finding.
    """
    options = bench.options
    looked = []
    with bench.progress.bar("search", len(candidates), "candidates") as bar:
        for candidate in candidates:
            looked.append(bench.look(candidate))
            bar.advance()
    picked = [_tuned(bench, entry) for entry in pick_finalists(looked, options)]
    base = next(entry for entry in looked if entry.candidate == REFERENCE)
    (reference, *finalists), times = bench.race([base, *picked])
    certification = _certify(bench, [entry.candidate for entry in finalists], slices)
    composition, unsteady = dict[str, Composition](), dict[str, str]()
    while True:  # company takes long to look at: only of who would ship
        choice = choose(reference, looked, finalists, {**certification.refused, **unsteady}, options)
        name = choice.winner.name
        if choice.winner == REFERENCE or name in composition:
            return Found(reference, looked, finalists, times, certification, composition, choice)
        composition[name] = _composition(bench, choice.winner)
        reason = _unsteady(bench, composition[name])
        if reason is not None:
            unsteady[name] = reason


def _tuned(bench: Bench, entry: Measurement) -> Measurement:
    """The finalist with its best settings. What is known of its answers to validation is of the plain ones."""
    options = bench.options
    variants = list(settings_of(entry.candidate, options.settings, max(options.batch_sizes)))
    return replace(entry, candidate=bench.tune(entry.candidate, variants))


def _certify(bench: Bench, finalists: Sequence[Candidate], slices: Mapping[str, NDArray[np.bool_]]) -> Certification:
    """Every finalist against the reference: ordered by what validation says, tested on test."""
    options = bench.options
    by_name = {candidate.name: candidate for candidate in finalists}
    known = _rows(bench, "validation", {})
    seen = [
        judge(_judged(bench, "validation", candidate), known, options.budget, options.confidence)
        for candidate in finalists
    ]
    ordered = [_judged(bench, "test", by_name[name]) for name in safest_first(seen)]
    return certify(ordered, _rows(bench, "test", slices), options.budget, options.confidence)


def _rows(bench: Bench, split: str, slices: Mapping[str, NDArray[np.bool_]]) -> Rows:
    held = bench.split(split)
    return Rows(text_losses(bench.answers(split, REFERENCE), held), whole_losses(held.task), slices)


def _judged(bench: Bench, split: str, candidate: Candidate) -> Judged:
    options, held, name = bench.options, bench.split(split), candidate.name
    if split == "validation":  # which only orders them, and was answered with plain settings
        candidate = candidate.with_settings({})
    reference, answers = bench.answers(split, REFERENCE), bench.answers(split, candidate)
    return Judged(
        name,
        text_losses(answers, held),
        text_flips(reference, answers, held),
        metric_loss(reference, answers, held, samples=options.bootstrap_samples, seed=options.seed),
    )


def _composition(bench: Bench, candidate: Candidate) -> Composition:
    options, held = bench.options, bench.validation
    rng = np.random.default_rng(options.seed)
    rows = bench.reference.encode(_sample(held, rng))
    with ExitStack() as stack, bench.progress.bar(f"company {candidate.name}", 1, "looks") as bar:
        found = compare_compositions(
            bench.open(candidate, stack),
            rows,
            held.task,
            confidence=options.confidence,
            batch_size=max(options.batch_sizes),
            batchings=2,
            spread=target_spread(held),
            seed=options.seed,
        )
        bar.advance()
    return found


def _sample(held: Validation, rng: np.random.Generator) -> list[str]:
    if len(held.texts) <= COMPOSITION_TEXTS:
        return held.texts
    chosen = rng.choice(len(held.texts), COMPOSITION_TEXTS, replace=False)
    return [held.texts[place] for place in np.sort(chosen).tolist()]


def _unsteady(bench: Bench, found: Composition) -> str | None:
    """Why a candidate's answers depend too much on their company; None where they do not."""
    limit = bench.options.budget.max_composition_share
    if found.share_upper <= limit:
        return None
    seen = "they moved" if found.changed is None else f"{found.changed} of {found.texts} changed"
    return (
        f"answers depend on the other rows of their batch: {seen}, a share of at most {found.share_upper:.2%} "
        f"(max_composition_share {limit:.2%})"
    )
