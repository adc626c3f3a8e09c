"""`params.yaml` as types: frozen, nothing unknown allowed, no default in code.

The file that ships with LNMT is the one home of the defaults; `lnmt init` copies it.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lnmt.errors import LnmtError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Plugin(BaseModel):
    """A plugin's name, and its options beside it."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """What the plugin's factory takes."""
        return dict(self.model_extra or {})


# --- ingest


class Bin(Section):
    """Rows whose number is ≤ `at_most`, or ≥ `at_least`; the bin with neither takes the rest."""

    label: str
    at_most: float | None = None
    at_least: float | None = None


class Columns(Section):
    """The source's own names of the columns."""

    text: str
    label: str
    id: str | None  # null: the row's place in its file


class Csv(Section):
    delimiter: Annotated[str, Field(min_length=1, max_length=1)]
    header: list[str] | None  # null: the first line names the columns
    quote: str | None


class SourceBase(Section):
    columns: Columns
    bins: Annotated[list[Bin], Field(min_length=1)] | None

    @model_validator(mode="after")
    def _bins_are_apart(self) -> SourceBase:
        ranges = []  # of the bins with a bound, both ends inclusive
        for one in self.bins or ():
            if one.at_least is not None or one.at_most is not None:
                low = -inf if one.at_least is None else one.at_least
                high = inf if one.at_most is None else one.at_most
                if low > high:
                    raise ValueError(f"bin {one.label!r} is empty: at_least is above at_most")
                ranges.append((low, high, one.label))
        ranges.sort()
        for (_, high, first), (low, _, second) in pairwise(ranges):
            if low <= high:
                raise ValueError(f"bins {first!r} and {second!r} both hold {low}; bounds are inclusive")
        rest = [one.label for one in self.bins or () if one.at_least is None and one.at_most is None]
        if self.bins and len(rest) != 1:
            # Inclusive ends that do not touch always leave numbers between them.
            raise ValueError(f"exactly one bin takes the rest (no at_least, no at_most); found {len(rest)}: {rest}")
        return self


class FileItem(Section):
    """A path or glob inside the base, and columns with one value for all its rows."""

    path: str
    set: dict[str, str]


class FilesSource(SourceBase):
    kind: Literal["files"]
    base: str | None
    digest: str | None
    archive: str | None
    files: Annotated[list[FileItem], Field(min_length=1)]
    format: Literal["auto", "csv", "json", "jsonl", "parquet", "arrow"]
    encoding: str
    csv: Csv | None


class DatabaseSource(SourceBase):
    """`url` may name an environment variable (`env:NAME`), so that no password stands in params.yaml."""

    kind: Literal["database"]
    url: str
    query: str
    set: dict[str, str]


class HttpSource(SourceBase):
    """GET `url` page by page: `items` is the dotted path of the list; `next` that of the next page's URL or cursor."""

    kind: Literal["http"]
    url: str
    headers: dict[str, str]
    items: str | None
    next: str | None
    cursor_parameter: str | None
    timeout_s: Positive
    set: dict[str, str]


class HubDataSource(SourceBase):
    """A data set of the Hugging Face hub."""

    kind: Literal["hf"]
    repository: str
    revision: str
    split: str
    set: dict[str, str]


Source = Annotated[FilesSource | DatabaseSource | HttpSource | HubDataSource, Field(discriminator="kind")]


class IngestParams(Section):
    sources: Annotated[list[Source], Field(min_length=1)]
    slices: list[str]
    limit: Count | None
    rows_per_file: Count

    @model_validator(mode="after")
    def _slices_are_known(self) -> IngestParams:
        if len({*self.slices, "id", "text", "label"}) != len(self.slices) + 3:
            raise ValueError("slices are named once each, and not id, text or label")
        for source in self.sources:
            items = source.files if isinstance(source, FilesSource) else [source]
            for name in {name for item in items for name in item.set} - set(self.slices):
                raise ValueError(f"`set` gives {name!r}, which `slices` does not keep: {self.slices}")
        return self


# --- validate, process


class ValidateParams(Section):
    labels: Annotated[list[str], Field(min_length=2)]
    min_characters: Count
    max_characters: Count
    min_letter_share: Share
    max_replacement_share: Share
    max_other_script_share: Share
    min_rows: Count
    min_label_share: Share
    max_label_share: Share
    max_duplicate_share: Share
    max_quarantined_share: Share


class SplitShares(Section):
    train: Share
    validation: Share
    test: Share

    @model_validator(mode="after")
    def _sum(self) -> SplitShares:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train, validation and test must sum to 1")
        return self


class ProcessParams(Section):
    processors: list[Plugin]
    split: SplitShares
    salt: str
    holdout: dict[str, list[str]]


# --- train


class TrainParams(Section):
    model: str
    encoder: str
    digest: str | None
    max_tokens: Count
    dropout: Share
    epochs: Count
    max_steps: Count | None
    batch_size: Count
    accumulate: Count
    optimizer: Plugin
    schedule: Plugin
    max_gradient_norm: Positive
    precision: Literal["auto", "fp32", "bf16"]
    patience: Count
    evaluations_per_epoch: Count
    metric: Literal["macro_f1", "accuracy"]
    seed: int


# --- evaluate, gate


class EvaluateParams(Section):
    baselines: list[str]
    slices: list[str]
    length_edges: list[Count]
    min_slice_rows: Count
    bootstrap_samples: Count
    confidence: Share
    seed: int


class Gate(Section):
    """`metric` of the model on test: `at_least`, `at_most` a number, or `above` a baseline `by` so much."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    above: str | None = None
    by: float | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Gate:
        rules = [self.at_least is not None, self.at_most is not None, self.above is not None]
        if sum(rules) != 1 or (self.above is None) != (self.by is None):
            raise ValueError("give exactly one of `at_least`, `at_most`, or `above` together with `by`")
        return self


# --- optimize


class OptimizeParams(Section):
    engines: Annotated[list[str], Field(min_length=1)]
    precisions: Annotated[list[Literal["fp32", "bf16"]], Field(min_length=1)]
    max_flip_share: Share
    max_macro_f1_loss: Share
    batch_sizes: Annotated[list[Count], Field(min_length=1)]
    objective_batch_size: Count
    rounds: Count
    warmup_rounds: Count
    confidence: Share
    bootstrap_samples: Count
    threads: Count | None
    seed: int

    @model_validator(mode="after")
    def _objective_is_measured(self) -> OptimizeParams:
        if self.objective_batch_size not in self.batch_sizes:
            raise ValueError(f"objective_batch_size must be one of batch_sizes: {self.batch_sizes}")
        return self


# --- actions on live state


class ReleaseParams(Section):
    share: Share
    min_requests: Count
    min_requests_rollback: Count
    max_error_share: Share


class MonitorParams(Section):
    min_rows: Count
    window_rows: Count | None
    drift_share: Share
    distance: Positive
    domain_auc: Share
    seed: int


with warnings.catch_warnings():
    # A section is named as its stage is; pydantic keeps a deprecated method of the name `validate`.
    warnings.filterwarnings("ignore", message='Field name "validate"')

    class Params(Section):
        """The whole file. A stage sees only the sections that `lnmt/stages.py` gives it."""

        name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
        plugins: list[str]
        ingest: IngestParams
        validate: ValidateParams  # type: ignore[assignment]
        process: ProcessParams
        train: TrainParams
        evaluate: EvaluateParams
        gate: list[Gate]
        optimize: OptimizeParams
        release: ReleaseParams
        monitor: MonitorParams

        def only(self, sections: tuple[str, ...]) -> Params:
            """The same, holding these sections alone: reading another one is an AttributeError."""
            return Params.model_construct(_fields_set=set(sections), **{name: getattr(self, name) for name in sections})


def load_params(path: Path) -> Params:
    """Read and check a `params.yaml`. Every problem is told at once, with its place."""
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LnmtError(
            "no params.yaml", where=path, fix="run in a project, or make one: lnmt init DIRECTORY"
        ) from error
    except yaml.YAMLError as error:
        raise LnmtError(f"params.yaml is not YAML: {error}", where=path, fix="mend the line that is named") from error
    return parse_params(raw, where=path)


def parse_params(raw: Any, *, where: object) -> Params:
    """Check a mapping that was read from a `params.yaml`."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, where) from error


def _explain(error: ValidationError, where: object) -> LnmtError:
    import difflib

    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        line = f"{place}: {problem['msg']}"
        if problem["type"] == "extra_forbidden":
            siblings = _fields_beside(problem["loc"])
            near = difflib.get_close_matches(str(problem["loc"][-1]), siblings, n=1, cutoff=0.5)
            line = f"{place}: unknown parameter"
            line += f"; did you mean {near[0]!r}?" if near else f"; allowed: {', '.join(siblings)}"
        elif problem["type"] != "missing":
            line += f" (found {problem['input']!r})"
        lines.append(line)
    return LnmtError(
        "params.yaml does not fit:\n  " + "\n  ".join(lines),
        where=where,
        fix="mend the named lines; the file that ships with LNMT shows every parameter: lnmt init",
    )


def _fields_beside(loc: tuple[int | str, ...]) -> list[str]:
    """The names allowed where `loc` ends, found by walking the model along it."""
    from pydantic.fields import FieldInfo

    nodes: list[Any] = [Params]
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        found: list[Any] = []
        for node in nodes:
            field: FieldInfo | None = node.model_fields.get(part)
            if getattr(node.model_fields.get("kind"), "annotation", None) == Literal[part]:  # a union's tag
                found.append(node)
            elif field is not None:
                found.extend(_models_in(field.annotation))
        nodes = found or nodes
    return sorted({name for node in nodes for name in node.model_fields})


def _models_in(annotation: Any) -> list[Any]:
    from typing import get_args

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
