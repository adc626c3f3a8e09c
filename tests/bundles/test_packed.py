from __future__ import annotations

from pathlib import Path

import pytest

from lnmt.bundles import Bundle, Draft, Lineage, new_bundle
from lnmt.bundles.packed import pack_champion, packed_champion
from lnmt.errors import DigestMismatch

LINEAGE = Lineage(commit=None, dirty=False, params="sha256:0", lock="sha256:1")
DRAFT = Draft(
    task="text-classification",
    labels=["a", "b"],
    model={"name": "none"},
    engine="torch",
    precision="fp32",
    max_tokens=8,
    pad_multiple=8,
    temperature=1.0,
    processors=[],
    parent=None,
    lineage=LINEAGE,
    evidence={},
)


def bundle(path: Path, content: str) -> Bundle:
    with new_bundle(path, DRAFT) as directory:
        (directory / "weights").write_text(content)
    return Bundle.open(path)


def test_nothing_is_packed_at_first(tmp_path: Path) -> None:
    assert packed_champion(tmp_path) is None


def test_the_champion_is_packed_and_replaced(tmp_path: Path) -> None:
    first, second = bundle(tmp_path / "1", "one"), bundle(tmp_path / "2", "two")
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
    first = bundle(tmp_path / "1", "one")
    weights = pack_champion(first, tmp_path) / "weights"
    before = weights.stat().st_ino
    pack_champion(first, tmp_path)
    assert weights.stat().st_ino == before


def test_a_damaged_one_is_told_and_packed_anew(tmp_path: Path) -> None:
    first = bundle(tmp_path / "1", "one")
    weights = pack_champion(first, tmp_path) / "weights"
    weights.write_text("altered")
    with pytest.raises(DigestMismatch):
        packed_champion(tmp_path)
    pack_champion(first, tmp_path)
    assert weights.read_text() == "one"
