from __future__ import annotations

from pathlib import Path

import pytest

from lnmt.bundles.packed import pack_champion, packed_champion
from lnmt.errors import DigestMismatch
from tests.plain_bundle import plain_bundle


def test_nothing_is_packed_at_first(tmp_path: Path) -> None:
    assert packed_champion(tmp_path) is None


def test_the_champion_is_packed_and_replaced(tmp_path: Path) -> None:
    first, second = plain_bundle(tmp_path / "1", "one"), plain_bundle(tmp_path / "2", "two")
    assert pack_champion(first, tmp_path) == tmp_path / "models" / "champion"
    found = packed_champion(tmp_path)
    assert found is not None
    assert found.digest == first.digest
    pack_champion(second, tmp_path)
    found = packed_champion(tmp_path)
    assert found is not None
    assert found.digest == second.digest
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["champion"]


def test_the_same_champion_is_not_copied_again(tmp_path: Path) -> None:
    first = plain_bundle(tmp_path / "1", "one")
    weights = pack_champion(first, tmp_path) / "model.bin"
    before = weights.stat().st_ino
    pack_champion(first, tmp_path)
    assert weights.stat().st_ino == before


def test_a_damaged_one_is_told_and_packed_anew(tmp_path: Path) -> None:
    first = plain_bundle(tmp_path / "1", "one")
    weights = pack_champion(first, tmp_path) / "model.bin"
    weights.write_text("altered")
    with pytest.raises(DigestMismatch):
        packed_champion(tmp_path)
    pack_champion(first, tmp_path)
    assert weights.read_text() == "one"
