"""`bundle.json`: what is in a bundle, where it comes from, and the digest of every file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lnmt.params import Plugin

FORMAT = 1


class Lineage(BaseModel):
    """What made a bundle. Digests are `sha256:<hex>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str | None  # of the project's git checkout; null outside of one
    dirty: bool  # tracked files differed from that commit
    params: str  # digest of params.yaml
    lock: str  # digest of the upstream stages' entries in dvc.lock
    data: str | None = None  # digest of data/processed, set by `train` and handed on


class Draft(BaseModel):
    """A bundle.json before its files are known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    task: Literal["text-classification"]
    labels: Annotated[list[str], Field(min_length=2)]  # in the order of the logits
    model: dict[str, Any]  # {"name": plugin of lnmt.models, ...its configuration}
    engine: str  # plugin of lnmt.runtime that runs it
    precision: Literal["fp32", "bf16"]
    max_tokens: int  # longer texts are cut
    pad_multiple: int  # batches are padded to a multiple of this many tokens
    temperature: float  # scores = softmax(logits / temperature)
    processors: list[Plugin]  # text processors, applied in order before tokenisation
    parent: str | None  # digest of the bundle that this one was made from
    lineage: Lineage
    evidence: dict[str, Any]  # measured figures: test metrics, parity, latency


class Manifest(Draft):
    """A whole bundle.json."""

    files: dict[str, str]  # relative path → digest, bundle.json left out
