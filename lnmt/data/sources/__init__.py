"""Where rows come from, one file a kind; each streams record batches of the source's own columns."""

from __future__ import annotations

from lnmt.data.sources.source import Context, DataSource, Part, open_source

__all__ = ["Context", "DataSource", "Part", "open_source"]
