"""A data set of the Hugging Face hub, or a local directory laid out as one."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lnmt.data.sources.source import Context, Part, Wanted
from lnmt.errors import LnmtError, Transient
from lnmt.params import HubDataSource

BATCH_ROWS = 1024


@dataclass(frozen=True)
class HubReader:
    """The `hf` source. Class labels come as their names, also where they stand in lists."""

    source: HubDataSource
    slices: Sequence[str]
    context: Context

    def parts(self) -> Iterator[Part]:
        source = self.source
        yield Part(
            name=f"hf:{source.repository}@{source.revision}/{source.split}",
            prefix="-".join(source.set.values()) or f"{Path(source.repository).name}/{source.split}",
            digest=None,
            wanted=Wanted(source.columns, self.slices, source.set),
            read=self._read,
        )

    def _read(self, wanted: Wanted) -> Generator[pa.RecordBatch]:
        where = f"hf:{self.source.repository}@{self.source.revision}/{self.source.split}"
        rows = self._open(where)
        columns: list[str] | None = None
        for table in rows.with_format("arrow").iter(batch_size=BATCH_ROWS):
            columns = columns or wanted.choose(table.column_names, where)
            for batch in table.select(columns).combine_chunks().to_batches():
                yield _with_names(batch, rows.features or {})

    def _open(self, where: str) -> Any:
        local = self.context.root / self.source.repository
        if self.context.offline and not local.is_dir():
            raise LnmtError("LNMT is offline", where=where, fix="unset LNMT_OFFLINE, or name a local directory")

        import datasets
        import httpx
        from datasets.exceptions import DatasetNotFoundError
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        datasets.disable_progress_bars()
        try:
            return datasets.load_dataset(
                str(local) if local.is_dir() else self.source.repository,
                revision=None if local.is_dir() else self.source.revision,
                split=self.source.split,
                streaming=True,
                cache_dir=str(self.context.cache / "datasets"),
            )
        except (DatasetNotFoundError, FileNotFoundError) as error:
            raise LnmtError(
                f"no such data set: {error}",
                where=where,
                fix="check `repository` and `revision`; a private one needs HF_TOKEN",
            ) from error
        except (HfHubHTTPError, OfflineModeIsEnabled, httpx.TransportError, ConnectionError) as error:
            raise Transient(
                f"the hub does not answer: {str(error).splitlines()[0]}",
                where=where,
                fix="check the network (and that HF_HUB_OFFLINE is not set), or name a local directory",
            ) from error
        except ValueError as error:  # an unknown split
            raise LnmtError(f"the data set cannot be read: {error}", where=where, fix="mend `split`") from error


def _with_names(batch: pa.RecordBatch, features: Any) -> pa.RecordBatch:
    """The batch, numbers of class labels replaced by the labels' names."""
    for index, name in enumerate(batch.schema.names):
        feature = features.get(name)
        names = getattr(feature, "names", None)
        inner = getattr(getattr(feature, "feature", None), "names", None)
        if inner:
            lists = [row and [inner[one] for one in row] for row in batch.column(index).to_pylist()]
            batch = batch.set_column(index, name, pa.array(lists, pa.list_(pa.string())))
        elif names:
            numbers = batch.column(index)
            known = pc.if_else(pc.greater_equal(numbers, 0), numbers, None)  # -1: not labelled
            batch = batch.set_column(index, name, pa.array(names, pa.string()).take(known))
    return batch
