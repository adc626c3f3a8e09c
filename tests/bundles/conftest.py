from __future__ import annotations

from pathlib import Path

import pytest

from lnmt.bundles import Bundle, Draft, Lineage, new_bundle

DRAFT = Draft(
    task="text-classification",
    labels=["no", "yes"],
    model={"name": "encoder_classifier"},
    engine="openvino",
    precision="fp32",
    max_tokens=8,
    pad_multiple=8,
    temperature=1.0,
    processors=[],
    parent=None,
    lineage=Lineage(commit=None, dirty=False, params="sha256:" + "0" * 64, lock="sha256:" + "1" * 64),
    evidence={},
)


def make_bundle(target: Path, weights: bytes = b"\x00\x01weights") -> Bundle:
    with new_bundle(target, DRAFT) as directory:
        (directory / "model.bin").write_bytes(weights)
        (directory / "parts").mkdir()
        (directory / "parts" / "tokenizer.json").write_text("{}")
    return Bundle.open(target)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle")
