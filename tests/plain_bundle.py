"""A bundle that nothing can run, for tests that only move bundles about; made in milliseconds."""

from __future__ import annotations

from pathlib import Path

from lnmt.bundles import Bundle, Draft, Lineage, new_bundle
from lnmt.files import sha256_bytes

LINEAGE = Lineage(
    commit="c0ffee" + "0" * 34,
    dirty=False,
    params=sha256_bytes(b"params"),
    lock=sha256_bytes(b"lock"),
    data=sha256_bytes(b"data"),
)


def plain_bundle(
    target: Path,
    content: str = "weights",
    *,
    engine: str = "torch",
    parent: str | None = None,
    lineage: Lineage = LINEAGE,
) -> Bundle:
    """The bundle at `target`, opened. Another `content`, another digest."""
    draft = Draft(
        task="text-classification",
        labels=["negative", "positive"],
        model={"name": "encoder_classifier"},
        engine=engine,
        precision="fp32",
        max_tokens=64,
        pad_multiple=8,
        temperature=1.0,
        processors=[],
        parent=parent,
        lineage=lineage,
        evidence={},
    )
    with new_bundle(target, draft) as directory:
        (directory / "model.bin").write_text(content, encoding="utf-8")
    return Bundle.open(target)
