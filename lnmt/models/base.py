"""What every architecture offers to training, export and the engines.

Legend: B = rows, T = tokens, C = labels, V = vocabulary, H = pooled width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError, UnknownName
from lnmt.models.calls import Inputs, Outputs, call_model
from lnmt.models.layers import layers_of
from lnmt.models.losses import task_loss
from lnmt.models.tensors import write_tensors
from lnmt.types import WITHOUT_LABELS, Task

__all__ = ["BaseModel", "Inputs", "ModelSetup", "Outputs", "TrainingBatch"]


@dataclass(frozen=True)
class TrainingBatch:
    """One padded batch with its labels."""

    input_ids: Tensor  # [B, T] int64
    attention_mask: Tensor  # [B, T] int64, 1 for a token, 0 for padding, which stands on the right
    labels: Tensor  # as `task_loss` takes them
    ids: tuple[str, ...]  # [B], of the rows in the table

    @property
    def inputs(self) -> Inputs:
        """What `forward` takes."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}

    def to(self, device: torch.device) -> TrainingBatch:
        """The same on `device`; from pinned memory to a GPU without waiting."""
        wait_not = device.type != "cpu"  # towards the CPU the numbers would not be there yet
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=wait_not),
            attention_mask=self.attention_mask.to(device, non_blocking=wait_not),
            labels=self.labels.to(device, non_blocking=wait_not),
        )

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class ModelSetup:
    """What a fresh model may look at."""

    task: Task
    labels: tuple[str, ...]  # none for regression and generation
    options: dict[str, Any]  # those beside the name in params.yaml: train.model
    encoder: Path | None  # directory of the pretrained model: config.json, model.safetensors, tokenizer.json
    vocabulary: int  # of the tokenizer
    max_tokens: int  # of a row
    pad_id: int
    seed: int


class BaseModel(nn.Module):
    """A model of texts. Plugins subclass it, register, and define at least `__init__` and `forward`:

        @register_model("my-model")
        class MyModel(BaseModel): ...

    `config` holds JSON values alone: it travels in `bundle.json`, and `type(model)(model.config)`
    must build the same architecture again. `config["task"]` and `config["labels"]` (C, their number) are
    always there; `configure` says what else.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("text-classification",)  # what it can learn
    options: ClassVar[Mapping[str, Any] | None] = None  # option names and defaults; None: it takes any

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        task, labels = self.config.get("task"), self.config.get("labels")
        if task not in get_args(Task) or not isinstance(labels, int) or isinstance(labels, bool) or labels < 0:
            raise LnmtError(
                "a model's configuration must tell its task and its number of labels",
                where=type(self).__name__,
                value={"task": task, "labels": labels},
                allowed=f"task: one of {', '.join(get_args(Task))}; labels: an integer ≥ 0",
                fix="pass the configuration that `configure` or bundle.json gives",
            )
        self.label_smoothing = 0.0
        self._class_weights: Tensor | None
        self.register_buffer("_class_weights", None, persistent=False)  # a buffer, so that it follows the device

    @property
    def task(self) -> Task:
        """What it does."""
        task: Task = self.config["task"]
        return task

    @property
    def labels(self) -> int:
        """C, the number of labels; 0 for regression and generation."""
        return int(self.config["labels"])

    @property
    def outputs(self) -> int:
        """The width of a head: C, or 1 for regression."""
        return 1 if self.task == "text-regression" else self.labels

    @classmethod
    def configure(cls, setup: ModelSetup) -> dict[str, Any]:
        """The configuration of a fresh model. Raises UnknownName for an option that `cls.options` does not name."""
        for name in setup.options:
            if cls.options is not None and name not in cls.options:
                raise UnknownName(f"option of {cls.__name__}", name, cls.options, where="params.yaml: train.model")
        return {
            "task": setup.task,
            "labels": 0 if setup.task in WITHOUT_LABELS else len(setup.labels),
            "vocabulary": setup.vocabulary,
            "max_tokens": setup.max_tokens,
            "pad_id": setup.pad_id,
            **(cls.options or {}),
            **setup.options,
        }

    def initialise(self, setup: ModelSetup) -> None:
        """Fill in pretrained weights, if there are any; the rest stays as the constructor drew it."""

    def forward(self, inputs: Inputs) -> Outputs | tuple[Tensor, Tensor]:
        """[B, T] int64 twice → logits and pooled states, floats."""
        raise LnmtError(
            "a model needs a forward method",
            where=f"{type(self).__module__}.{type(self).__qualname__}",
            fix="define forward(self, inputs) -> (logits, pooled)",
        )

    def training_step(self, batch: TrainingBatch) -> Tensor:
        """The mean loss of a batch, a scalar: the task's, unless a plugin knows better."""
        return self.loss(call_model(self, batch.inputs, self.task).logits, batch.labels)

    def validation_step(self, batch: TrainingBatch) -> Outputs:
        """What validation is measured on: forward, unless a plugin knows better."""
        return call_model(self, batch.inputs, self.task)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The task's mean loss, with the smoothing and weights of `use_loss`; a scalar."""
        return task_loss(
            self.task,
            logits,
            labels,
            label_smoothing=self.label_smoothing,
            class_weights=self._class_weights,
            target_std=self.target_std,
        )

    def use_loss(self, *, label_smoothing: float, class_weights: Tensor | None) -> None:
        """Set what `loss` reads, see `task_loss`. It belongs to a run, not to the model: no bundle keeps it."""
        self.label_smoothing = label_smoothing
        self._class_weights = class_weights

    # Regression learns standardised targets: a head that starts near 0 would need thousands of steps
    # to reach targets around 70, and its loss would drown weight decay and clipping.

    def fit_targets(self, targets: Tensor) -> None:
        """Take the mean and standard deviation of the training targets [N] into the configuration (regression)."""
        values = targets.double()
        spread = float(values.std(correction=0))
        self.config["target_mean"] = float(values.mean())
        self.config["target_std"] = spread if spread > 0 else 1.0

    @property
    def target_std(self) -> float:
        """Of the training targets; 1 before `fit_targets`, and for other tasks."""
        return float(self.config.get("target_std", 1.0))

    def in_units(self, raw: Tensor) -> Tensor:
        """A head's raw output as logits: for regression in the target's units and fp32, else as it is.

        The two numbers are constants, not buffers: in a bf16 model buffers would be rounded, and all answers shifted.
        """
        if self.task != "text-regression":
            return raw
        return raw.float() * self.target_std + float(self.config.get("target_mean", 0.0))

    def layers(self) -> list[list[str]]:
        """Prefixes of parameter names from the input to the head, for layer-wise decay and freezing.

        Each parameter starts with one prefix of exactly one layer. Default: see `layers_of`.
        """
        return layers_of([name for name, _ in self.named_parameters()])

    def heads(self) -> list[str]:
        """Prefixes of the parameters that are fresh in every run and so always learn, also beside LoRA."""
        return self.layers()[-1]

    def enable_gradient_checkpointing(self) -> None:
        """Compute the blocks' insides again on the way back instead of keeping them: less memory, a third more time.

        Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
        """
        raise LnmtError(
            "this model has no gradient checkpointing",
            where=f"{type(self).__module__}.{type(self).__qualname__}",
            fix="set params.yaml: train.gradient_checkpointing: false, or define enable_gradient_checkpointing",
        )

    def describe(self, name: str) -> dict[str, Any]:
        """What `bundle.json: model` holds."""
        return {"name": name, **self.config}

    def save(self, path: Path) -> None:
        """Write the weights as safetensors; the same weights give the same bytes."""
        write_tensors(path, {name: tensor.to("cpu", torch.float32) for name, tensor in self.state_dict().items()})
