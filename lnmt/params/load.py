"""Reading and checking a `params.yaml`; every problem is told at once, with its place."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from lnmt.errors import LnmtError
from lnmt.params.data import ProcessParams, ValidateParams
from lnmt.params.ingest import IngestParams
from lnmt.params.judge import EvaluateParams, Gate
from lnmt.params.live import MonitorParams, ReleaseParams, ServeParams
from lnmt.params.optimize import OptimizeParams
from lnmt.params.section import Section
from lnmt.params.task import task_problems
from lnmt.params.train import TrainParams
from lnmt.params.tune import TuneParams
from lnmt.types import Task

with warnings.catch_warnings():
    # A section is named as its stage is; pydantic keeps a deprecated method of the name `validate`.
    warnings.filterwarnings("ignore", message='Field name "validate"')

    class Params(Section):
        """The whole file. A stage sees only the sections that `lnmt/stages.py` gives it."""

        name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
        plugins: list[str]
        task: Task
        ingest: IngestParams
        validate: ValidateParams  # type: ignore[assignment]
        process: ProcessParams
        train: TrainParams
        tune: TuneParams
        evaluate: EvaluateParams
        gate: list[Gate]
        optimize: OptimizeParams
        serve: ServeParams
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
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, where) from error
    problems = task_problems(params.task, params.ingest, params.validate)
    if problems:
        raise _misfit(problems, where)
    return params


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
    return _misfit(lines, where)


def _misfit(lines: list[str], where: object) -> LnmtError:
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
