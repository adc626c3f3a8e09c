"""The one place where model, optimiser, arithmetic and checkpoint meet the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lnmt.models.base import BaseModel, Outputs, TrainingBatch
from lnmt.models.calls import check_loss, check_outputs
from lnmt.params import TrainParams
from lnmt.training.averages import AveragedModel, WeightAverages
from lnmt.training.optimizers import build_optimizer, set_rate
from lnmt.training.precision import Precision, arithmetic
from lnmt.training.row_gradients import RowGradients


class Stateful(Protocol):
    """What a checkpoint can hold: any nesting of tensors and JSON values, given and taken back."""

    def state_dict(self) -> dict[str, Any]:
        """All of its state."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Become what `state_dict` told."""


@dataclass(frozen=True)
class Update:
    """What one optimiser step did."""

    lr: float  # of the first parameter group
    gradient_norm: float  # before clipping
    skipped: bool  # the gradients were not finite: no weight was changed. Usual in fp16 while its scale settles


Run = Callable[[TrainingBatch], Outputs]


class Execution:
    """A model being trained on a device.

    Its parameters are fp32 in every precision; bf16 and fp16 compute with copies made anew in each pass, so that
    small updates are never lost to rounding, and checkpoints hold nothing beside them (Micikevicius et al., Mixed
    Precision Training, 2018). fp16 scales the loss, and halves its scale where gradients overflow.
    """

    def __init__(
        self, model: BaseModel, options: TrainParams, *, precision: Precision, compiled: bool, device: torch.device
    ) -> None:
        self.device = device
        self.model = model.to(device)
        self.optimizer = build_optimizer(model, options)
        self._precision = precision
        self._max_norm = math.inf if options.max_gradient_norm is None else options.max_gradient_norm
        self._learning = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self._step: Callable[[TrainingBatch], Tensor] = model.training_step
        if compiled:
            self._step = torch.compile(model.training_step, dynamic=True)
        self._rows = RowGradients(nn.Module() if compiled else model)  # compiled code gives dense ones
        self._scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
        decay = options.ema_decay
        self._averages = None if decay is None else WeightAverages(self._learning, decay)
        self.between_batches: Callable[[], None] = lambda: None  # of an evaluation; gives it up by an error

    def loss(self, batch: TrainingBatch) -> Tensor:
        """The mean loss of a batch, in the chosen arithmetic."""
        with arithmetic(self._precision, self.device), self._rows.gathered():
            return check_loss(self.model, self._step(batch.to(self.device)))

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`."""
        torch.autograd.backward(loss if self._scaler is None else self._scaler.scale(loss))

    def update(self, factor: float) -> Update:
        """One optimiser step at `factor` × the rates, with the gathered gradients, which are then dropped."""
        lr = set_rate(self.optimizer, factor)
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        gradients = self._gradients()
        norm = float(torch.nn.utils.get_total_norm(gradients))
        finite = math.isfinite(norm)
        if finite:
            if norm > self._max_norm:
                torch._foreach_mul_(gradients, self._max_norm / norm)
            with self._rows.spread():
                self.optimizer.step()
            if self._averages is not None:
                self._averages.update(self._learning)
        if self._scaler is not None:
            self._scaler.update()
        self.discard()
        return Update(lr, norm, skipped=not finite)

    def discard(self) -> None:
        """Drop the gathered gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def evaluating(self) -> Iterator[Run]:
        """The model in eval mode, as a function from batches to outputs in fp32 on the CPU.

        With `ema_decay` it has the averaged weights.
        """

        def run(batch: TrainingBatch) -> Outputs:
            self.between_batches()
            with torch.no_grad(), arithmetic(self._precision, self.device):
                found = self.model.validation_step(batch.to(self.device))
                logits, pooled = check_outputs(self.model, found, batch.inputs, self.model.task)
            return Outputs(logits.float().cpu(), pooled.float().cpu())

        averaged = nullcontext() if self._averages is None else self._averages.in_place_of(self._learning)
        self.model.eval()
        try:
            with averaged:
                yield run
        finally:
            self.model.train()

    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint must hold. The part `model` is what would be saved: with `ema_decay` the averages."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer}
        if self._averages is not None:
            parts |= {
                "model": AveragedModel(self.model, self._averages),
                "learning": self.model,
                "averages": self._averages,
            }
        if self._scaler is not None:
            parts["scaler"] = self._scaler
        return parts

    def weights(self) -> dict[str, Tensor]:
        """A copy of the model's weights as it would be saved: fp32, on the CPU, with `ema_decay` averaged."""
        state = self.parts()["model"].state_dict()
        return {name: tensor.detach().to("cpu", torch.float32, copy=True) for name, tensor in state.items()}

    def _gradients(self) -> list[Tensor]:
        """All of them, those of large embeddings by touched row; changing them changes the gradients."""
        found = [one.grad for one in self._learning.values() if one.grad is not None and not one.grad.is_sparse]
        return [*found, *self._rows.values()]
