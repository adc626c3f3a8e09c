"""The search space: dotted names below `train` and what each may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Choices, TrainParams, TuneParams, WholeRange

if TYPE_CHECKING:
    from optuna.trial import Trial

GRID_STEPS = 5  # values of a range in a grid


def with_values(options: TrainParams, values: Mapping[str, Any]) -> TrainParams:
    """`options` with the dotted names of `values` set.

    Raises UnknownName for a name that `train` does not have, LnmtError for a value that it refuses.
    """
    content = options.model_dump(mode="json")
    for name, value in values.items():
        *path, last = name.split(".")
        node: Any = content
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        plugin = len(path) == 1 and path[0] in ("model", "optimizer", "schedule")  # options beside a plugin's name
        if not isinstance(node, dict) or (last not in node and not plugin):
            raise UnknownName("parameter", name, sorted(_names(content)), where="params.yaml: tune.space")
        node[last] = value
    try:
        return TrainParams.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        raise LnmtError(
            f"a trial's parameters do not fit: {problem['msg']}",
            where=f"params.yaml: tune.space.{'.'.join(str(part) for part in problem['loc'])}",
            value=problem["input"],
            fix="mend the range or the choices",
        ) from error


def check_space(options: TrainParams, tune: TuneParams) -> None:
    """Raise where a name or one of its ends does not fit `train`, before a trial is run."""
    for name, one in tune.space.items():
        for value in one.choices if isinstance(one, Choices) else (one.low, one.high):
            with_values(options, {name: value})


def suggest(trial: Trial, tune: TuneParams) -> dict[str, Any]:
    """A value for each name, from the study's sampler."""
    values: dict[str, Any] = {}
    for name, one in tune.space.items():
        if isinstance(one, Choices):
            # Optuna keeps choices in its database as JSON: lists and mappings travel by their place.
            place = trial.suggest_categorical(name, list(range(len(one.choices))))
            values[name] = one.choices[int(place)]
        elif isinstance(one, WholeRange):
            values[name] = trial.suggest_int(name, one.low, one.high, log=one.log)
        else:
            values[name] = trial.suggest_float(name, one.low, one.high, log=one.log)
    return values


def grid(tune: TuneParams) -> dict[str, list[Any]]:
    """The values of a grid search, as `suggest` asks for them."""
    import numpy as np

    found: dict[str, list[Any]] = {}
    for name, one in tune.space.items():
        if isinstance(one, Choices):
            found[name] = list(range(len(one.choices)))
            continue
        spaced = np.geomspace if one.log else np.linspace
        values = spaced(one.low, one.high, GRID_STEPS)
        if isinstance(one, WholeRange):
            found[name] = sorted({round(value) for value in values.tolist()})
        else:
            found[name] = [min(max(value, one.low), one.high) for value in values.tolist()]
    return found


def shown(tune: TuneParams, params: Mapping[str, Any]) -> dict[str, Any]:
    """What Optuna stored for a trial, as the values that it trained with."""
    values: dict[str, Any] = {}
    for name, value in params.items():
        one = tune.space.get(name)
        values[name] = one.choices[int(value)] if isinstance(one, Choices) else value
    return values


def _names(content: Mapping[str, Any], above: str = "") -> list[str]:
    found = []
    for name, value in content.items():
        found.append(f"{above}{name}")
        if isinstance(value, dict):
            found += _names(value, f"{above}{name}.")
    return found
