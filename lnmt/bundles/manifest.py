"""`bundle.json`: what is in a bundle, where it comes from, and the digest of every file."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from lnmt.params import Plugin
from lnmt.types import WITHOUT_LABELS, Precision, Task

FORMAT: Literal[1] = 1

# Formats whose readers run code that stands in the file. OpenVINO's weights are `.bin`, and plain numbers.
UNSAFE_SUFFIXES = frozenset(
    {
        ".pkl",
        ".pickle",
        ".pt",
        ".pth",
        ".pt2",
        ".ckpt",
        ".joblib",
        ".dill",
        ".npy",
        ".npz",
        ".h5",
        ".hdf5",
        ".keras",
        ".zip",
        ".py",
        ".pyc",
        ".so",
    }
)

# A choice needs two; a label that stands alone is a yes or a no.
LEAST_LABELS = {"text-classification": 2, "multi-label-classification": 1, "token-classification": 2}

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


def check_file_name(name: str) -> str:
    """`name` where a bundle may hold such a file, else ValueError: it must stay inside and be no code."""
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or "\0" in name or ".." in path.parts or str(path) != name or name == ".":
        raise ValueError(f"{name!r} is no plain relative path with '/' between its parts")
    if path.suffix.lower() in UNSAFE_SUFFIXES:
        raise ValueError(f"{name!r}: a bundle holds no pickles and no code ({path.suffix})")
    return name


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
    task: Task
    labels: list[str]  # in the order of the logits; none for text-regression and text-generation
    model: dict[str, Any]  # {"name": plugin of lnmt.models, ...its configuration}
    engine: str  # plugin of lnmt.runtime that runs it
    precision: Precision  # of the arithmetic; of a quantised model that of what stayed in floats
    compressions: list[Plugin] = []  # what was done to the trained weights, in order, with what was decided on the way
    settings: dict[str, Any] = {}  # of the engine: `streams`, `group_rows`, …
    max_tokens: Annotated[int, Field(ge=1)]  # longer texts are cut
    pad_multiple: Annotated[int, Field(ge=1)]  # batches are padded to a multiple of this many tokens
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]  # scores are of logits / temperature
    processors: list[Plugin]  # text processors, applied in order before tokenisation
    parent: str | None  # digest of the bundle that this one was made from
    lineage: Lineage
    evidence: dict[str, Any]  # measured figures: test metrics, parity, latency

    @field_validator("labels")
    @classmethod
    def _labels_fit_the_task(cls, labels: list[str], info: ValidationInfo) -> list[str]:
        if len(set(labels)) != len(labels):
            raise ValueError("labels must differ from each other")
        task = info.data.get("task")  # absent where it was refused, which is told anyway
        if task in WITHOUT_LABELS and labels:
            raise ValueError(f"{task} has no labels")
        least = LEAST_LABELS.get(task or "", 0)
        if len(labels) < least:
            raise ValueError(f"{task} needs at least {least} label{'s' if least > 1 else ''}")
        return labels


class Manifest(Draft):
    """A whole bundle.json."""

    files: Annotated[  # relative path → digest, bundle.json left out
        dict[Annotated[str, AfterValidator(check_file_name)], Digest], Field(min_length=1)
    ]
