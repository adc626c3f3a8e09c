"""Stage `optimize`: every engine that this machine has, held against PyTorch; the fastest that is right ships."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lnmt.bundles import Bundle
from lnmt.files import new_directory
from lnmt.optimization.backends import BACKENDS, Source
from lnmt.optimization.bench import Bench
from lnmt.optimization.build import build_reference, publish
from lnmt.optimization.candidate import REFERENCE, Candidate, Measurement
from lnmt.optimization.choose import Choice, choose
from lnmt.optimization.inputs import approved, read_temperature, read_validation
from lnmt.optimization.report import Summary, write_report
from lnmt.params import OptimizeParams, Params
from lnmt.runtime.capabilities import capabilities
from lnmt.runtime.profile import reference_profile

if TYPE_CHECKING:
    from lnmt.stages import StageIO


def optimize(params: Params, io: StageIO) -> None:
    """data/processed + models/trained + calibration + approval → models/reference, models/optimized.

    Where no candidate beats the reference, models/optimized is a copy of it, digest and all, so
    that nothing is registered or released twice. Raises LnmtError where models/trained was not
    approved, the validation split is empty, an engine is unknown, or the reference does not run.
    """
    options = params.optimize
    candidates = list_candidates(options)
    trained = approved(Bundle.open(io.read("models/trained")), io.read("reports/gate"))
    temperature = read_temperature(io.read("reports/evaluation"))
    manifest = trained.manifest
    validation = read_validation(io.read("data/processed") / "validation", manifest.task, manifest.labels)
    machine = capabilities()

    shutil.rmtree(io.work, ignore_errors=True)
    source = Source(build_reference(trained, temperature, io.lineage, io.work), io.work)
    with Bench(source, validation, options, machine, io.progress) as bench:
        measurements, times = bench.measure(candidates)
        choice = choose(measurements, options)
        profile = reference_profile(bench.predictors[REFERENCE.name], validation.texts, options.seed)
        reference = publish(source.bundle, io.write("models/reference"), profile, {})
        if choice.winner != REFERENCE:
            predictor = bench.predictors[choice.winner.name]
            profile = reference_profile(predictor, validation.texts, options.seed)
            evidence = {"optimization": _evidence(choice, measurements, reference, machine.hardware, options)}
            publish(predictor.bundle, io.write("models/optimized"), profile, evidence)
        else:
            with new_directory(io.write("models/optimized")) as directory:
                shutil.copytree(reference.path, directory, dirs_exist_ok=True)
    with new_directory(io.write("reports/optimization")) as directory:
        write_report(directory, Summary(measurements, times, choice, machine, options, validation))
    shutil.rmtree(io.work)
    io.progress.note(f"{choice.winner.name} ships: {choice.why}", winner=choice.winner.name)


def list_candidates(options: OptimizeParams) -> list[Candidate]:
    """Engines × precisions, the reference first and always. Raises UnknownName for an engine that no table has."""
    for engine in options.engines:
        BACKENDS.get(engine, where="params.yaml: optimize.engines")
    asked = [Candidate(engine, precision) for engine in options.engines for precision in options.precisions]
    return list({candidate.name: candidate for candidate in (REFERENCE, *asked)}.values())


def _evidence(
    choice: Choice, measurements: Sequence[Measurement], reference: Bundle, hardware: str, options: OptimizeParams
) -> dict[str, Any]:
    """What the winner ships with: its own measurement and the reference's, and under what they hold."""
    by_name = {entry.candidate.name: entry.as_json() for entry in measurements}
    return {
        "why": choice.why,
        "hardware": hardware,
        "objective_batch_size": options.objective_batch_size,
        "confidence": options.confidence,
        "measured": by_name[choice.winner.name],
        "reference": {"bundle": reference.digest, **by_name[REFERENCE.name]},
    }
