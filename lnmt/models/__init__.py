"""Architectures by name, and the two ways to get a model: fresh from an encoder, or out of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.params import TrainParams
from lnmt.plugins.table import Table

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel

MODELS: Table[type[BaseModel]] = Table("model", {"encoder_classifier": "lnmt.models.encoder:EncoderClassifier"})

WEIGHTS = "model.safetensors"


def build_model(params: TrainParams, classes: int, encoder: Path) -> BaseModel:
    """A fresh fp32 model in training mode: the weights at `encoder` and a new head for `classes` labels.

    A function of its arguments alone: the head is drawn from `params.seed`, and torch's own
    generator is left as it was. Raises LnmtError where the directory holds no usable encoder.
    """
    import torch

    kind = MODELS.get(params.model, where="params.yaml: train.model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        return kind.from_encoder(params, classes, encoder).train()


def load_model(bundle: Bundle) -> BaseModel:
    """The model of a torch bundle: fp32, on the CPU, in eval mode. `forward` is told in `BaseModel`.

    Raises LnmtError where the weights are not those that `bundle.json` describes.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    description = dict(bundle.manifest.model)
    kind = MODELS.get(str(description.pop("name", None)), where=f"{bundle.path / 'bundle.json'}: model.name")
    with torch.random.fork_rng(devices=[]):
        model = kind(description)
    weights = bundle.file(WEIGHTS)
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise LnmtError(
            f"the weights do not fit the model: {error}",
            where=weights,
            fix="make the bundle again: lnmt run",
        ) from error
    if model.classes != len(bundle.manifest.labels):
        raise LnmtError(
            "the model's classes are not the bundle's labels",
            where=bundle.path / "bundle.json",
            value=f"{model.classes} classes",
            allowed=f"{len(bundle.manifest.labels)} labels",
            fix="make the bundle again: lnmt run",
        )
    return model.float().eval()


__all__ = ["MODELS", "WEIGHTS", "build_model", "load_model"]
