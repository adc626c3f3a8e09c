from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import LnmtError
from lnmt.monitoring.reference import read_reference, reference_profile
from lnmt.runtime.predictor import Predictor
from tests.tiny_bundle import tiny_bundle


def test_a_bundle_without_a_profile_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="carries no reference profile") as caught:
        read_reference(tiny_bundle(tmp_path / "bundle"))
    assert "lnmt optimize" in str(caught.value.fix)


def test_a_profile_is_read_from_its_bundle(tmp_path: Path) -> None:
    plain = tiny_bundle(tmp_path / "plain")
    table = reference_profile(Predictor.open(plain), ["good film", "bad book"], seed=0)
    draft = Draft(**plain.manifest.model_dump(exclude={"files"}))
    with new_bundle(tmp_path / "bundle", draft) as directory:
        pq.write_table(table, directory / "profile.parquet")
    frame = read_reference(Bundle.open(tmp_path / "bundle"))
    assert frame["text"].tolist() == ["good film", "bad book"]
    assert frame["tokens"].tolist() == [4.0, 4.0]


def test_an_empty_profile_is_refused(tmp_path: Path) -> None:
    plain = tiny_bundle(tmp_path / "plain")
    table = reference_profile(Predictor.open(plain), ["good film"], seed=0).slice(0, 0)
    draft = Draft(**plain.manifest.model_dump(exclude={"files"}))
    with new_bundle(tmp_path / "bundle", draft) as directory:
        pq.write_table(table, directory / "profile.parquet")
    with pytest.raises(LnmtError, match="has no rows"):
        read_reference(Bundle.open(tmp_path / "bundle"))
