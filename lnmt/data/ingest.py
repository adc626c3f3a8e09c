"""Stage 1: the sources and `data/incoming/` → one table in `data/raw`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lnmt.data.sources import Context, Part, open_source
from lnmt.data.sources.canonical import canonical_batches
from lnmt.data.sources.files import IncomingReader
from lnmt.data.tables import ShardWriter, table_schema
from lnmt.errors import LnmtError
from lnmt.files import clear_disk_errors, directory_digest, new_directory, write_json
from lnmt.params import Bin, IngestParams, Params

if TYPE_CHECKING:
    from lnmt.stages import StageIO


def ingest(params: Params, io: StageIO) -> None:
    """Write `data/raw` (the same bytes for the same input) and `reports/ingest/manifest.json`.

    Rows keep the order of the sources, then of the incoming files' names. Labels stay null where a row has
    none: validation says what becomes of it; a list of labels is a JSON list. Raises LnmtError with the file and
    the line of what cannot be read.
    """
    section = params.ingest
    raw, report = io.write("data/raw"), io.write("reports/ingest")
    files: list[dict[str, Any]] = []
    prefixes: set[str] = set()
    slices: set[str] = set()
    with clear_disk_errors(io.root):
        with (
            new_directory(raw) as directory,
            ShardWriter(directory, table_schema(section.slices), section.rows_per_file) as writer,
            io.progress.bar("ingest", None) as bar,
        ):
            for part, bins in _parts(section, io, labels=params.task != "text-generation"):
                before = writer.rows
                prefix = _unique(part.prefix, prefixes)
                for batch in canonical_batches(
                    part,
                    prefix,
                    bins,
                    section.slices,
                    section.limit,
                    empty_labels=params.task == "multi-label-classification",
                ):
                    writer.write(batch)
                    bar.advance(batch.num_rows)
                    slices |= {name for name in section.slices if batch.column(name).null_count < batch.num_rows}
                files.append({"path": part.name, "rows": writer.rows - before, "digest": part.digest})
            _check_slices(section, slices)
            rows = writer.rows
        manifest = {
            "rows": rows,
            "digest": directory_digest(raw),
            "files": files,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with new_directory(report) as directory:
            write_json(directory / "manifest.json", manifest)
    io.progress.note(f"ingested {rows} rows from {len(files)} files", rows=rows)


def _parts(section: IngestParams, io: StageIO, *, labels: bool) -> Iterator[tuple[Part, list[Bin] | None]]:
    context = Context(root=io.root, cache=io.cache, work=io.work, offline=io.offline, progress=io.progress)
    for source in section.sources:
        for part in open_source(source.kind, source, section.slices, context).parts():
            yield part, source.bins
    for part in IncomingReader(io.read("data/incoming"), section.slices, context, labels).parts():
        yield part, None


def _unique(prefix: str, taken: set[str]) -> str:
    """The prefix, numbered where an earlier part of this run has it."""
    unique, number = prefix, 1
    while unique in taken:
        number += 1
        unique = f"{prefix}~{number}"
    taken.add(unique)
    return unique


def _check_slices(section: IngestParams, found: set[str]) -> None:
    missing = [name for name in section.slices if name not in found]
    if missing:
        raise LnmtError(
            "no source has a value for a slice",
            where="params.yaml: ingest.slices",
            value=", ".join(missing),
            allowed="a column of some source, or a name under `set`",
            fix="mend the name, or take it out of `slices`",
        )
