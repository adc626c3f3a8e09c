"""Short cuts of the tests of sources and `ingest`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from lnmt.data.sources import Context, open_source
from lnmt.data.sources.canonical import canonical_batches
from lnmt.params import IngestParams
from lnmt.progress import Progress
from lnmt.settings import Settings
from lnmt.stages import run_stage

REPOSITORY = Path(__file__).parents[2]
Rows = list[dict[str, Any]]


def files_entry(path: str, **changes: Any) -> dict[str, Any]:
    """An entry of `ingest.sources` for files of the project."""
    return {
        "kind": "files",
        "base": None,
        "digest": None,
        "archive": None,
        "files": [{"path": path, "set": {}}],
        "format": "auto",
        "encoding": "utf-8",
        "csv": None,
        "columns": {"text": "text", "label": "label", "id": None},
        "bins": None,
        **changes,
    }


def ingest_section(*sources: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"sources": list(sources), "slices": [], "limit": None, "rows_per_file": 100_000, **changes}


def context_in(project: Path) -> Context:
    return Context(root=project, cache=project / "cache", work=project / "work", offline=False, progress=Progress())


def read_source(
    project: Path, entry: dict[str, Any], slices: list[str] | None = None, limit: int | None = None
) -> Rows:
    """The canonical rows of one source, all its parts."""
    source = IngestParams.model_validate(ingest_section(entry, slices=slices or [])).sources[0]
    rows: Rows = []
    for part in open_source(source.kind, source, slices or [], context_in(project)).parts():
        for batch in canonical_batches(part, part.prefix, source.bins, slices or [], limit):
            rows += batch.to_pylist()
    return rows


def write_params(project: Path, section: dict[str, Any]) -> None:
    """The shipped params.yaml with another `ingest`, and an empty data/incoming."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    project.mkdir(parents=True, exist_ok=True)
    (project / "params.yaml").write_text(yaml.safe_dump({**params, "ingest": section}), encoding="utf-8")
    (project / "data" / "incoming").mkdir(parents=True, exist_ok=True)
    (project / "data" / "incoming" / ".gitkeep").touch()


def run_ingest(project: Path) -> tuple[Rows, dict[str, Any]]:
    """Run the stage; its rows and its manifest."""
    run_stage("ingest", Settings(project=project, cache=project / "cache"))
    manifest = json.loads((project / "reports" / "ingest" / "manifest.json").read_text(encoding="utf-8"))
    return pq.read_table(project / "data" / "raw").to_pylist(), manifest
