"""`train`: the model, how it learns, and when it stops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lnmt.params.section import Count, Plugin, Positive, Section, Share


class LoraParams(Section):
    """Low-rank additions to linear layers (Hu et al., LoRA, 2021): they and the head learn, the rest stays."""

    rank: Count
    alpha: Positive
    dropout: Share
    targets: Annotated[list[str], Field(min_length=1)]  # globs of module names


class TrainParams(Section):
    model: Plugin
    encoder: str
    digest: str | None
    max_tokens: Count
    freeze: list[str]
    lora: LoraParams | None
    epochs: Count
    max_steps: Count | None
    batch_size: Count
    accumulate: Count
    optimizer: Plugin
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    schedule: Plugin
    max_gradient_norm: Positive | None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["balanced"] | dict[str, Positive] | None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    compile: Literal["auto"] | bool
    gradient_checkpointing: bool
    workers: Annotated[int, Field(ge=0)]
    prefetch: Count
    patience: Count
    evaluations_per_epoch: Count
    metric: str
    bad_loss: Literal["stop", "skip"]
    loss_spike: Annotated[float, Field(gt=1)] | None
    checkpoint_s: Positive
    keep_checkpoints: Count
    callbacks: list[Plugin]
    seed: int

    @model_validator(mode="after")
    def _callbacks_differ(self) -> TrainParams:
        names = [callback.name for callback in self.callbacks]
        if len(set(names)) != len(names):
            raise ValueError(f"callbacks are named once each: {names}")
        return self
