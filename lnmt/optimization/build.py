"""Candidates as bundles. Until one is published they stand in the stage's work directory.

What takes long is made once and kept: compressed weights by recipe, an engine's files by recipe and engine. A bundle
is those files with a manifest, so that the same files at another precision, or run with other settings, cost nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lnmt.bundles import Bundle, Draft, Lineage, new_bundle
from lnmt.files import new_directory, read_json, sha256_bytes, write_json
from lnmt.models import WEIGHTS, load_model
from lnmt.optimization.backends import BACKENDS, Source
from lnmt.optimization.candidate import REFERENCE, Candidate, compression_name, recipe_name
from lnmt.optimization.compressions import GraphCompression, WeightCompression
from lnmt.optimization.export import export_onnx
from lnmt.optimization.plan import make_compression, split_recipe
from lnmt.optimization.workshop import Workshop
from lnmt.params import Plugin
from lnmt.progress import Progress

TOKENIZER = "tokenizer.json"
NOTES = "notes.json"  # beside files that were made: what was decided, and how long they took
BY_PRECISION = ("tensorrt", "tensorrt_rtx")  # engines whose files differ with the precision


@dataclass(frozen=True)
class Built:
    """A candidate as a bundle, and how it came about."""

    bundle: Bundle
    decided: dict[str, Any]  # by compression
    seconds: float  # that its files took to make; those of compressed weights are counted in


def build_reference(trained: Bundle, temperature: float, lineage: Lineage, work: Path) -> Bundle:
    """The trained weights with their temperature; of the trained bundle's lineage the data is handed on."""
    change = {
        "engine": REFERENCE.engine,
        "precision": REFERENCE.precision,
        "temperature": temperature,
        "parent": trained.digest,
        "lineage": lineage.model_copy(update={"data": trained.manifest.lineage.data}),
    }
    with new_bundle(work / "reference", _draft(trained, change)) as directory:
        for name in (WEIGHTS, TOKENIZER):
            shutil.copyfile(trained.file(name), directory / name)
    return Bundle.open(work / "reference")


class Builder:
    """Makes candidates from the reference, each part once, also over a restart.

    `shop` gives a compression what it may use; it is asked for only where one is to be made.
    """

    def __init__(self, reference: Bundle, work: Path, shop: Callable[[], Workshop], progress: Progress) -> None:
        self._reference = reference
        self._progress = progress
        self._work = work
        self._shop = shop
        self._built: dict[str, Built] = {}  # by name; a candidate is opened again and again

    def build(self, candidate: Candidate) -> Built:
        """`candidate` as a bundle. Raises LnmtError with the reason where it cannot be made."""
        if candidate == REFERENCE:
            return Built(self._reference, {}, 0.0)
        if candidate.name not in self._built:
            self._built[candidate.name] = self._build(candidate)
        return self._built[candidate.name]

    def _build(self, candidate: Candidate) -> Built:
        weights, graph = split_recipe(candidate)
        files, notes = self._files(candidate, weights, graph)
        source = self._compressed(weights)[0]
        change = {
            "engine": candidate.engine,
            "precision": candidate.precision,
            "settings": dict(candidate.settings),
            "compressions": [
                Plugin(**{**plugin.model_dump(), "decided": notes["decided"].get(compression_name(plugin), {})})
                for plugin in candidate.compressions
            ],
        }
        target = self._work / "bundles" / sha256_bytes(candidate.name.encode()).removeprefix("sha256:")[:16]
        with new_bundle(target, _draft(source, change)) as directory:
            shutil.copyfile(source.file(TOKENIZER), directory / TOKENIZER)
            for path in files.iterdir():
                if path.name != NOTES:
                    shutil.copyfile(path, directory / path.name)
        return Built(Bundle.open(target), notes["decided"], notes["seconds"])

    def _files(
        self, candidate: Candidate, weights: tuple[Plugin, ...], graph: Plugin | None
    ) -> tuple[Path, dict[str, Any]]:
        """The directory with the files that the engine loads, and its notes."""
        engine = candidate.engine
        precision = f"-{candidate.precision}" if engine in BY_PRECISION else ""
        target = self._work / "files" / f"{engine}{precision}+{recipe_name(candidate.compressions)}"
        if (target / NOTES).is_file():
            return target, read_json(target / NOTES)
        bundle, decided, seconds = self._compressed(weights)
        source = Source(bundle, bundle.path.with_name(f"{bundle.path.name}.shared"), progress=self._progress)
        source.work.mkdir(parents=True, exist_ok=True)
        backend = BACKENDS.get(engine, where="params.yaml: optimize.engines")()
        started = time.monotonic()
        with new_directory(target) as directory:
            if graph is None:
                backend.build(candidate, source, directory)
            else:
                compression = make_compression(graph)
                assert isinstance(compression, GraphCompression), "split_recipe takes nothing else for a graph's"
                shop = self._shop()
                compression.compress(export_onnx(source), engine, directory, lambda: shop.calibration, shop.progress)
                decided = {**decided, compression_name(graph): compression.decided()}
                if engine in BY_PRECISION:  # what was written is a graph still; the engine is built from that
                    compressed = (directory / "model.onnx").replace(source.work / f"{target.name}.onnx")
                    backend.build(candidate, replace(source, graph=compressed), directory)
            seconds = round(seconds + time.monotonic() - started, 3)
            write_json(directory / NOTES, {"decided": decided, "seconds": seconds})
        return target, read_json(target / NOTES)

    def _compressed(self, recipe: tuple[Plugin, ...]) -> tuple[Bundle, dict[str, Any], float]:
        """The weights after `recipe` as a torch bundle, what was decided, and the seconds that it took in all."""
        if not recipe:
            return self._reference, {}, 0.0
        before, decided, seconds = self._compressed(recipe[:-1])
        target = self._work / "weights" / recipe_name(recipe)
        notes = target.with_name(f"{target.name}.json")
        if notes.is_file():
            kept = read_json(notes)
            return Bundle.open(target, expect=kept["bundle"]), kept["decided"], kept["seconds"]
        compression = make_compression(recipe[-1])
        assert isinstance(compression, WeightCompression), "split_recipe takes the graph's away"
        started = time.monotonic()
        shop = replace(self._shop(), work=target.with_name(f"{target.name}.work"))
        model = compression.compress(load_model(before), shop)
        shutil.rmtree(shop.work, ignore_errors=True)
        change = {"model": model.describe(str(before.manifest.model["name"]))}
        with new_bundle(target, _draft(before, change)) as directory:
            model.save(directory / WEIGHTS)
            shutil.copyfile(before.file(TOKENIZER), directory / TOKENIZER)
        made = Bundle.open(target)
        decided = {**decided, compression_name(recipe[-1]): compression.decided()}
        seconds = round(seconds + time.monotonic() - started, 3)
        write_json(notes, {"bundle": made.digest, "decided": decided, "seconds": seconds})
        return made, decided, seconds


def publish(
    bundle: Bundle,
    target: Path,
    profile: Any,
    evidence: Mapping[str, Any],
    proof: Mapping[str, Any] | None = None,
) -> Bundle:
    """`bundle` at `target`, with its reference profile (an Arrow table), `evidence` beside what it had, and `proof`."""
    import pyarrow.parquet as pq

    from lnmt.optimization.certificate import CERTIFICATE
    from lnmt.runtime.profile import PROFILE

    draft = _draft(bundle, {"evidence": {**bundle.manifest.evidence, **evidence}})
    with new_bundle(target, draft) as directory:
        for name in bundle.manifest.files:
            shutil.copyfile(bundle.file(name), directory / name)
        pq.write_table(profile, directory / PROFILE)
        if proof is not None:
            write_json(directory / CERTIFICATE, proof)
    return Bundle.open(target)


def _draft(bundle: Bundle, change: Mapping[str, Any]) -> Draft:
    return Draft(**{**{name: getattr(bundle.manifest, name) for name in Draft.model_fields}, **change})
