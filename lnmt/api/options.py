"""What a caller of `lnmt.Trainer` says, as training parameters; the rest is that of the shipped params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnmt.api.names import as_plugin
from lnmt.api.places import shipped_params
from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Plugin, TrainParams, parse_params
from lnmt.types import Task

# Other spellings of parameters: those of the specification. A dot: a key of the plugin's options.
SPELLINGS: Mapping[str, str] = {
    "gradient_clipping": "max_gradient_norm",
    "learning_rate": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "max_length": "max_tokens",
}
PLUGINS = ("optimizer", "schedule")
OF_THE_MODEL = ("model", "encoder", "digest")  # said to lnmt.Model


def spelt_out(said: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by their own names. Raises UnknownName for one that is not there, LnmtError for one said twice."""
    names = [name for name in TrainParams.model_fields if name not in OF_THE_MODEL]
    found: dict[str, Any] = {}
    for name, value in said.items():
        if name not in names and name not in SPELLINGS:
            raise UnknownName("training parameter", name, [*names, *SPELLINGS], where="lnmt.Trainer")
        place = SPELLINGS.get(name, name)
        if place in found:
            raise LnmtError(
                "a parameter is said twice",
                where="lnmt.Trainer",
                value=f"{name} is {place}",
                fix="say one of them",
            )
        found[place] = value
    return found


def train_params(said: Mapping[str, Any], *, model: Plugin, encoder: str, digest: str | None) -> TrainParams:
    """The shipped parameters with what `spelt_out` gave. Raises LnmtError with the place of what does not fit.

    An optimiser or schedule that is only named has its own defaults, not the shipped one's options.
    """
    whole = shipped_params().model_dump(mode="json")
    train: dict[str, Any] = whole["train"]
    train |= {"model": model.model_dump(), "encoder": encoder, "digest": digest}
    for name, value in said.items():
        if name in PLUGINS and not (isinstance(value, str) and value == train[name]["name"]):
            train[name] = as_plugin(value).model_dump()
        elif name == "callbacks":
            train[name] = [as_plugin(one).model_dump() for one in value]
        elif "." not in name and name not in PLUGINS:
            train[name] = value
    for name, value in said.items():
        section, dot, key = name.partition(".")
        if dot:
            train[section] = {**train[section], key: value}
    return parse_params(whole, where="lnmt.Trainer").train


def metric_of(said: Mapping[str, Any], options: TrainParams, task: Task) -> str:
    """What chooses the best checkpoint: what was said, else the task's own metric."""
    from lnmt.training.metrics import default_metric

    return options.metric if "metric" in said else default_metric(task)
