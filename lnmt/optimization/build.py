"""Candidates as bundles. Until one is published they stand in the stage's work directory.

What takes long is made once and kept: compressed weights by recipe, an engine's files by recipe and engine. A bundle
is those files with a manifest, so that the same files at another precision, or run with other settings, cost nothing;
TensorRT alone builds for either.
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
BY_SETTINGS = ("tensorrt",)  # and with the settings: its engine is built for the shapes of its groups


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

    `shop` gives a compression what it may use; it is asked for only where one is to be made. `cache` keeps what builds
    measured of this machine, for later searches.
    """

    def __init__(
        self,
        reference: Bundle,
        work: Path,
        shop: Callable[[], Workshop],
        progress: Progress,
        cache: Path | None = None,
    ) -> None:
        self._reference = reference
        self._progress = progress
        self._work = work
        self._shop = shop
        self._cache = cache
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
        target, engine = self._work / "files" / _files_name(candidate), candidate.engine
        if (target / NOTES).is_file():
            return target, read_json(target / NOTES)
        if graph is not None and engine not in BY_PRECISION:
            return target, self._graph(target, engine, weights, graph)
        bundle, decided, seconds = self._compressed(weights)
        source = self._source(bundle)
        if graph is not None:  # what is compressed is a graph still; the engine is built from that
            compressed = self._work / "graphs" / f"{engine}+{recipe_name(candidate.compressions)}"
            notes = self._graph(compressed, engine, weights, graph)
            decided, seconds = notes["decided"], notes["seconds"]
            source = replace(source, graph=compressed / "model.onnx")
        started = time.monotonic()
        with new_directory(target) as directory:
            BACKENDS.get(engine, where="params.yaml: optimize.engines")().build(candidate, source, directory)
            notes = _notes(directory, decided, seconds, started)
        return target, notes

    def _graph(self, target: Path, engine: str, weights: tuple[Plugin, ...], plugin: Plugin) -> dict[str, Any]:
        """Make at `target` what `plugin` writes for `engine`, if it is not there; its notes."""
        if (target / NOTES).is_file():
            found: dict[str, Any] = read_json(target / NOTES)
            return found
        bundle, decided, seconds = self._compressed(weights)
        compression = make_compression(plugin)
        assert isinstance(compression, GraphCompression), "split_recipe takes nothing else for a graph's"
        started, shop = time.monotonic(), self._shop()
        with new_directory(target) as directory:
            graph = export_onnx(self._source(bundle))
            compression.compress(graph, engine, directory, lambda: shop.calibration, shop.progress)
            decided = {**decided, compression_name(plugin): compression.decided()}
            return _notes(directory, decided, seconds, started)

    def _source(self, bundle: Bundle) -> Source:
        """Weights as back ends take them, with a directory for what these share."""
        shared = bundle.path.with_name(f"{bundle.path.name}.shared")
        shared.mkdir(parents=True, exist_ok=True)
        return Source(bundle, shared, cache=self._cache, progress=self._progress)

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
        change = {"model": model.describe(str(before.manifest.model["name"]))}
        with new_bundle(target, _draft(before, change)) as directory:
            model.save(directory / WEIGHTS)
            shutil.copyfile(before.file(TOKENIZER), directory / TOKENIZER)
        made = Bundle.open(target)
        decided = {**decided, compression_name(recipe[-1]): compression.decided()}
        seconds = round(seconds + time.monotonic() - started, 3)
        write_json(notes, {"bundle": made.digest, "decided": decided, "seconds": seconds})
        shutil.rmtree(shop.work, ignore_errors=True)
        return made, decided, seconds


def finish(
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


def _files_name(candidate: Candidate) -> str:
    """`tensorrt-fp16 group_rows=8+static_int8`: of all that the engine's files depend on."""
    name = candidate.engine
    if name in BY_PRECISION:
        name += f"-{candidate.precision}"
    if candidate.engine in BY_SETTINGS:
        name += "".join(f" {key}={value}" for key, value in sorted(candidate.settings.items()))
    return f"{name}+{recipe_name(candidate.compressions)}"


def _notes(directory: Path, decided: Mapping[str, Any], before_s: float, started: float) -> dict[str, Any]:
    """Written beside files that were begun at `started` (monotonic s), after `before_s` for what they are made of."""
    write_json(
        directory / NOTES, {"decided": dict(decided), "seconds": round(before_s + time.monotonic() - started, 3)}
    )
    found: dict[str, Any] = read_json(directory / NOTES)
    return found


def _draft(bundle: Bundle, change: Mapping[str, Any]) -> Draft:
    return Draft(**{**{name: getattr(bundle.manifest, name) for name in Draft.model_fields}, **change})
