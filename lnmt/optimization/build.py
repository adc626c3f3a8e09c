"""Candidates as bundles. Until one is published they stand in the stage's work directory."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lnmt.bundles import Bundle, Draft, Lineage, new_bundle
from lnmt.models import WEIGHTS
from lnmt.optimization.backends import BACKENDS, Source
from lnmt.optimization.candidate import REFERENCE, Candidate

TOKENIZER = "tokenizer.json"


def build_reference(trained: Bundle, temperature: float, lineage: Lineage, work: Path) -> Bundle:
    """The trained weights with their temperature; of the trained bundle's lineage the data is handed on."""
    change = {
        "engine": REFERENCE.engine,
        "precision": REFERENCE.precision,
        "temperature": temperature,
        "parent": trained.digest,
        "lineage": lineage.model_copy(update={"data": trained.manifest.lineage.data}),
    }
    with new_bundle(work / REFERENCE.name, _draft(trained, change)) as directory:
        for name in (WEIGHTS, TOKENIZER):
            shutil.copyfile(trained.file(name), directory / name)
    return Bundle.open(work / REFERENCE.name)


def build_candidate(candidate: Candidate, source: Source) -> Bundle:
    """The candidate from the reference. Raises LnmtError with the reason where its back end cannot build it."""
    if candidate == REFERENCE:
        return source.bundle
    backend = BACKENDS.get(candidate.engine, where="params.yaml: optimize.engines")()
    target = source.work / candidate.name
    change = {"engine": candidate.engine, "precision": candidate.precision}
    with new_bundle(target, _draft(source.bundle, change)) as directory:
        shutil.copyfile(source.bundle.file(TOKENIZER), directory / TOKENIZER)
        backend.build(candidate, source, directory)
    return Bundle.open(target)


def publish(bundle: Bundle, target: Path, profile: Any, evidence: Mapping[str, Any]) -> Bundle:
    """`bundle` at `target`, with its reference profile (an Arrow table) and `evidence` beside what it had."""
    import pyarrow.parquet as pq

    from lnmt.runtime.profile import PROFILE

    draft = _draft(bundle, {"evidence": {**bundle.manifest.evidence, **evidence}})
    with new_bundle(target, draft) as directory:
        for name in bundle.manifest.files:
            shutil.copyfile(bundle.file(name), directory / name)
        pq.write_table(profile, directory / PROFILE)
    return Bundle.open(target)


def _draft(bundle: Bundle, change: Mapping[str, Any]) -> Draft:
    return Draft(**{**{name: getattr(bundle.manifest, name) for name in Draft.model_fields}, **change})
