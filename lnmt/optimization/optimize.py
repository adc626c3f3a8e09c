"""Stage `optimize`: the fastest way to run the model that is provably not worse, and the proof."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.bundles import Bundle
from lnmt.data.batches import load_examples
from lnmt.files import clear_disk_errors, directory_digest, new_directory
from lnmt.optimization.bench import Bench
from lnmt.optimization.build import Builder, build_reference, finish
from lnmt.optimization.candidate import REFERENCE
from lnmt.optimization.certificate import certificate
from lnmt.optimization.inputs import approved, read_production, read_slices, read_split, read_temperature
from lnmt.optimization.plan import list_candidates
from lnmt.optimization.records import Records
from lnmt.optimization.report import Summary, machine_json, write_report
from lnmt.optimization.search import Found, search
from lnmt.optimization.workshop import Workshop
from lnmt.params import OptimizeParams, Params
from lnmt.runtime.capabilities import Capabilities, capabilities
from lnmt.runtime.predictor import Predictor
from lnmt.runtime.profile import reference_profile
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.prepare import TrainingData

if TYPE_CHECKING:
    from lnmt.stages import StageIO

CODE = ("optimization", "runtime", "models", "stats", "training")  # what a kept finding was made by
ENGINES = "engines"  # of the project's state: what engines keep of this machine, the service's too


def optimize(params: Params, io: StageIO) -> None:
    """data/processed + models/trained + calibration + approval → models/reference, models/optimized, a report.

    A search that was killed goes on with what it had measured. Where no candidate may ship, models/optimized is a copy
    of the reference, digest and all, so that nothing is registered or released twice. Raises LnmtError where
    models/trained was not approved, a split is empty, an engine or a compression is unknown, the reference does not
    run, or the disk is full; what stood in the three places before is then still there.
    """
    options, candidates = params.optimize, list_candidates(params.optimize)
    production, ready = read_production(io.read("data/production")), io.work / "ready"
    with clear_disk_errors(io.root):
        with open_bench(params, io, production.get("tokens")) as bench:
            found = search(bench, candidates, read_slices(bench.test, params.evaluate, bench.reference))
            proof = _write_bundles(bench, found, ready, directory_digest(io.read("data/processed")))
            summary = Summary(found, proof, bench.machine, options, bench.validation, bench.test, production)
            with new_directory(ready / "report") as directory:
                write_report(directory, summary)
        shipped = ready / ("reference" if proof is None else "optimized")
        made = {"models/reference": ready / "reference", "models/optimized": shipped}
        _publish({**made, "reports/optimization": ready / "report"}, io)
    _clear(io.work)
    io.progress.note(f"{found.choice.winner.name} ships: {found.choice.why}", winner=found.choice.winner.name)


@contextmanager
def open_bench(params: Params, io: StageIO, lengths: Sequence[int] | None = None) -> Iterator[Bench]:
    """The trained model as the reference, the splits, and what candidates are made of.

    `lengths`: tokens of texts to time with; None: the validation split's. Raises LnmtError where models/trained was not
    approved or calibrated, or a split is empty.
    """
    trained = approved(Bundle.open(io.read("models/trained")), io.read("reports/gate"))
    temperature = read_temperature(io.read("reports/evaluation"))
    processed, manifest = io.read("data/processed"), trained.manifest
    validation, test = (read_split(processed / name, manifest.task, manifest.labels) for name in ("validation", "test"))
    machine = capabilities()
    reference = build_reference(trained, temperature, io.lineage, io.work)
    records = Records(io.work / "search", _setting(reference, machine))
    builder = Builder(reference, records.directory, _shop(params, io, reference), io.progress, io.state / ENGINES)
    with Bench(builder, validation, test, params.optimize, machine, records, io.progress, lengths) as bench:
        yield bench


def _write_bundles(bench: Bench, found: Found, ready: Path, data: str) -> dict[str, Any] | None:
    """Both bundles below `ready`; returns the winner's certificate, None where the reference ships itself."""
    options, texts = bench.options, bench.validation.texts
    profile = reference_profile(bench.reference, texts, options.seed)
    reference = finish(bench.builder.build(REFERENCE).bundle, ready / "reference", profile, {})
    winner = next((entry for entry in found.finalists if entry.candidate == found.choice.winner), None)
    if winner is None:
        return None
    bundle = bench.builder.build(winner.candidate).bundle
    machine = machine_json(bench.machine, options)
    proof = certificate(winner, bundle, reference, found, machine, options, data)
    predictor = Predictor.open(bundle, threads=options.threads)
    try:
        profile = reference_profile(predictor, texts, options.seed)
    finally:
        predictor.close()
    evidence = {
        "optimization": {
            "why": found.choice.why,
            "hardware": bench.machine.hardware,
            "confidence": options.confidence,
            "measured": winner.as_json(),
            "reference": {"bundle": reference.digest, **found.reference.as_json()},
        }
    }
    finish(bundle, ready / "optimized", profile, evidence, proof)
    return proof


def _publish(made: Mapping[str, Path], io: StageIO) -> None:
    """What was made, by the place that it goes to: all of it is there before any takes its place."""
    with ExitStack() as stack:
        for path, source in made.items():
            directory = stack.enter_context(new_directory(io.write(path)))
            for file in source.iterdir():
                shutil.copyfile(file, directory / file.name)


def _clear(work: Path) -> None:
    """Take it away at once: half of it would look to the next search like something that it had kept."""
    gone = work.with_name(f".{work.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    work.rename(gone)
    shutil.rmtree(gone)


def _setting(reference: Bundle, machine: Capabilities) -> dict[str, Any]:
    """What findings hold for; in another setting a search begins anew."""
    package = Path(__file__).parents[1]
    code = {name: directory_digest(package / name) for name in CODE}
    return {
        "reference": reference.digest,
        "hardware": machine.hardware,
        "libraries": dict(machine.libraries),
        "code": code,
    }


def _shop(params: Params, io: StageIO, reference: Bundle) -> Callable[[], Workshop]:
    """What compressions may use; the training data are read when the first one asks."""
    options: OptimizeParams = params.optimize

    @cache
    def shop() -> Workshop:
        manifest, processed = reference.manifest, io.read("data/processed")
        tokenizer = Tokenizer(reference.file("tokenizer.json"), manifest.max_tokens)
        labels = tuple(manifest.labels)
        train, validation = (
            load_examples(processed / name, manifest.task, labels, tokenizer, io.progress, cache=io.tokens)
            for name in ("train", "validation")
        )
        return Workshop(
            bundle=reference,
            data=TrainingData(manifest.task, labels, train, validation, tokenizer, reference.path, processed),
            train=params.train,
            tuning=options.fine_tune,
            calibration_rows=options.calibration_rows,
            work=io.work,
            shared=io.work / "teacher",
            progress=io.progress,
            seed=options.seed,
        )

    return shop
