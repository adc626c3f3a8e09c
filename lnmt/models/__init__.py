"""Architectures by name, and the two ways to get a model: fresh, or out of a bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.params import Plugin
from lnmt.plugins.table import Table
from lnmt.types import WITHOUT_LABELS

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel, ModelSetup

MODELS: Table[type[BaseModel]] = Table(
    "model",
    {
        "encoder_classifier": "lnmt.models.classifier:EncoderClassifier",
        "token_classifier": "lnmt.models.classifier:TokenClassifier",
        "causal_lm": "lnmt.models.causal:CausalLM",
    },
)

WEIGHTS = "model.safetensors"


def build_model(plugin: Plugin, setup: ModelSetup) -> BaseModel:
    """A fresh fp32 model in training mode: pretrained weights where its family has any, the rest drawn.

    A function of its arguments alone: what is drawn comes from `setup.seed`, and torch's own generator is
    left as it was. `setup.options` are taken as they are; `plugin` gives the name. Raises LnmtError where the
    model cannot learn the task, its configuration is no JSON, or the pretrained weights do not fit.
    """
    import torch

    kind = _find(plugin.name, "params.yaml: train.model")
    if setup.task not in kind.tasks:
        able = sorted(name for name in MODELS.names() if setup.task in _find(name, "model").tasks)
        raise LnmtError(
            f"model {plugin.name!r} does not learn {setup.task}",
            where="params.yaml: train.model",
            value=plugin.name,
            allowed=f"a model for this task: {', '.join(able) or 'none is registered'}",
            fix=f"choose one of them, or a task that {plugin.name!r} learns: {', '.join(kind.tasks)}",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setup.seed)
        try:
            config = kind.configure(setup)
            _check_json(config, kind)
            model = kind(config)
            model.initialise(setup)
        except LnmtError:
            raise
        except Exception as error:  # a plugin's own code raises anything
            raise LnmtError(
                f"model {plugin.name!r} cannot be built: {type(error).__name__}: {error}",
                where=f"{kind.__module__}.{kind.__qualname__}",
                value=setup.options,
                fix="mend its configure, __init__ or initialise, or its options in params.yaml: train.model",
            ) from error
    return model.float().train()


def load_model(bundle: Bundle) -> BaseModel:
    """The model of a torch bundle: fp32, on the CPU, in eval mode. `forward` is told in `BaseModel`.

    Raises LnmtError where the weights or the task are not those that `bundle.json` describes.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from lnmt.models.structure import STRUCTURE, restructure

    manifest, where = bundle.manifest, bundle.path / "bundle.json"
    description = dict(manifest.model)
    kind = _find(str(description.pop("name", None)), f"{where}: model.name")
    if "labels" not in description:
        raise LnmtError(
            "the bundle was written before models told their task and labels",
            where=where,
            value=", ".join(description),
            allowed="model: {name, task, labels, …}",
            fix="make the bundle again: lnmt run",
        )
    with torch.random.fork_rng(devices=[]):
        model = kind(description)
    restructure(model, description.get(STRUCTURE, []))
    weights = bundle.file(WEIGHTS)
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise LnmtError(
            f"the weights do not fit the model: {error}",
            where=weights,
            fix="make the bundle again: lnmt run",
        ) from error
    labels = 0 if manifest.task in WITHOUT_LABELS else len(manifest.labels)
    if (model.task, model.labels) != (manifest.task, labels):
        raise LnmtError(
            "the model's task and labels are not the bundle's",
            where=where,
            value=f"{model.task}, {model.labels} labels",
            allowed=f"{manifest.task}, {labels} labels",
            fix="make the bundle again: lnmt run",
        )
    return model.float().eval()


def _find(name: str, where: str) -> type[BaseModel]:
    """The class called `name`. Raises LnmtError where what is registered is no model."""
    from lnmt.models.base import BaseModel

    kind: object = MODELS.get(name, where=where)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        raise LnmtError(
            f"model {name!r} is no subclass of BaseModel",
            where=where,
            value=kind,
            fix="let the registered class inherit from lnmt.core.BaseModel",
        )
    return kind


def _check_json(config: dict[str, Any], kind: type[BaseModel]) -> None:
    try:
        same = json.loads(json.dumps(config, allow_nan=False)) == config
    except (TypeError, ValueError):
        same = False
    if not same:
        raise LnmtError(
            "a model's configuration must be JSON, since it travels in bundle.json",
            where=f"{kind.__module__}.{kind.__qualname__}.configure",
            value=config,
            allowed="numbers, strings, true, false, null, lists, and objects with string keys",
            fix="keep names and numbers in it, and make objects of them in __init__",
        )


__all__ = ["MODELS", "WEIGHTS", "build_model", "load_model"]
