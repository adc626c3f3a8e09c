"""What `params.yaml: ingest` refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lnmt.params import IngestParams
from tests.data.sources_kit import files_entry, ingest_section


@pytest.mark.parametrize(
    ("bins", "why"),
    [
        ([{"label": "a", "at_most": 1}, {"label": "b", "at_least": 1}, {"label": "c"}], "bins 'a' and 'b' both hold 1"),
        ([{"label": "a", "at_least": 2, "at_most": 1}, {"label": "b"}], "bin 'a' is empty"),
        ([{"label": "a", "at_most": 1}, {"label": "b", "at_least": 2}], "exactly one bin takes the rest"),
        ([{"label": "a"}, {"label": "b"}], r"exactly one bin takes the rest .*found 2: \['a', 'b'\]"),
        ([], "at least 1 item"),
    ],
)
def test_bins_that_overlap_or_leave_gaps(bins: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        IngestParams.model_validate(ingest_section(files_entry("x.csv", bins=bins)))


def test_a_set_column_that_is_no_slice() -> None:
    entry = files_entry("x.csv")
    entry["files"][0]["set"] = {"domian": "film"}
    with pytest.raises(ValidationError, match=r"`set` gives 'domian', which `slices` does not keep: \['domain'\]"):
        IngestParams.model_validate(ingest_section(entry, slices=["domain"]))


@pytest.mark.parametrize("slices", [["text"], ["domain", "domain"]])
def test_slices_are_other_columns_once_each(slices: list[str]) -> None:
    with pytest.raises(ValidationError, match="slices are named once each"):
        IngestParams.model_validate(ingest_section(files_entry("x.csv"), slices=slices))
