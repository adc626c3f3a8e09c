"""Distillation: a model that learns from what a trained one answers, beside the labels.

(1 − w) · the task's loss + w · T² · KL(teacher / T ‖ student / T): Hinton et al., Distilling the Knowledge in a Neural
Network, 2015. Beside it, where that is asked for, the states inside: Jiao et al., TinyBERT, 2020.

Legend: B = rows, N = rows of a split, T = tokens, C = labels, V = vocabulary, H = hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lnmt.bundles import Bundle
from lnmt.data.batches import Examples
from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.attention import Packing
from lnmt.models.base import BaseModel, TrainingBatch
from lnmt.models.calls import call_model
from lnmt.models.losses import IGNORED
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.feed import to_batch
from lnmt.training.precision import Precision, arithmetic
from lnmt.types import Task

ANSWER_ROWS = 64  # of a batch


@dataclass(frozen=True)
class Answers:
    """A teacher's logits of rows, computed once: a row's do not depend on the batch that it stands in."""

    logits: NDArray[np.float32]  # [N, C]
    ids: Sequence[str]  # [N]


@dataclass(frozen=True)
class Teacher:
    """A trained model to learn from, and how much it counts."""

    bundle: Bundle
    weight: float = 0.5  # w in 0…1: the teacher's share of the loss, the labels have the rest
    temperature: float = 2.0  # T: above 1 the small scores count more
    hidden: Mapping[str, str] = field(default_factory=dict)  # module of the student → of the teacher
    hidden_weight: float = 1.0  # of the states' distance, in units of the mean square of the teacher's
    answers: Answers | None = None  # where they were computed before; else the teacher answers batch by batch

    def as_json(self) -> dict[str, Any]:
        """What a checkpoint's fingerprint holds of it."""
        return {
            "bundle": self.bundle.digest,
            "weight": self.weight,
            "temperature": self.temperature,
            "hidden": dict(self.hidden),
            "hidden_weight": self.hidden_weight,
            "answers": self.answers is not None,
        }


def teach(model: BaseModel, teacher: Teacher) -> None:
    """Let `model.training_step` count what the teacher says; its parameters and state stay its own.

    Raises LnmtError where the two differ in task or labels, or one has no module that `teacher.hidden` names.
    """
    master = load_model(teacher.bundle).requires_grad_(False)
    if (master.task, master.labels) != (model.task, model.labels):
        raise LnmtError(
            "the teacher answers another question than the model that is to learn",
            where=teacher.bundle.path,
            value=f"{master.task}, {master.labels} labels",
            allowed=f"{model.task}, {model.labels} labels",
            fix="take a teacher that was trained on the same label set",
        )
    for student, other in teacher.hidden.items():
        for learner, name in ((model, student), (master, other)):
            if name not in dict(learner.named_modules()):
                raise LnmtError(
                    "there are no states to learn from: no such module",
                    where=f"{type(learner).__module__}.{type(learner).__qualname__}",
                    value=name,
                    fix="name modules as named_modules() does",
                )
    kind = type(model)
    # A class, not a method set on the instance, so that `super` reaches the family's own step.
    model.__class__ = type(kind.__name__, (_Taught, kind), {"__module__": kind.__module__})
    model.lesson = _Lesson(master, teacher)  # type: ignore[assignment]  # no module: its weights are not the model's


def answer_rows(
    bundle: Bundle, examples: Examples, tokenizer: Tokenizer, progress: Progress, precision: Precision = "fp32"
) -> Answers:
    """What the model of `bundle` answers to every row, [N, C], computed in `precision`. Not for tasks by token."""
    model = load_model(bundle)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    order = np.argsort(examples.lengths, kind="stable")
    logits = np.empty((len(examples), model.outputs), np.float32)
    with (
        progress.bar("teacher answers", len(examples), "rows") as bar,
        torch.inference_mode(),
        arithmetic(precision, device),
    ):
        for start in range(0, len(order), ANSWER_ROWS):
            places = order[start : start + ANSWER_ROWS]
            batch = to_batch(examples, places, tokenizer).to(device)
            logits[places] = call_model(model, batch.inputs, model.task).logits.float().cpu().numpy()
            bar.advance(len(places))
    return Answers(logits, examples.ids)


def soft_loss(
    task: Task, student: Tensor, teacher: Tensor, batch: TrainingBatch, temperature: float, target_std: float = 1.0
) -> Tensor:
    """How far the student's logits are from the teacher's, a scalar in fp32, 0 where they say the same.

    T² · KL of the softmax over C, or over V of each token but the last of its row; in multi-label of each label's
    yes and no; over the tokens that have a label. Regression: mean squared error in units of `target_std`.
    """
    student, teacher = student.float(), teacher.float()
    if task == "text-regression":
        return functional.mse_loss(student, teacher) / target_std**2
    if task == "multi-label-classification":
        wanted = torch.sigmoid(teacher / temperature)
        found = functional.binary_cross_entropy_with_logits(student / temperature, wanted)
        least = functional.binary_cross_entropy(wanted, wanted)  # the teacher's own entropy
        return temperature**2 * (found - least)
    if task == "token-classification":
        counted = batch.labels != IGNORED
        student, teacher = student[counted], teacher[counted]
    elif task == "text-generation":
        counted = batch.attention_mask[:, 1:].bool()
        student, teacher = student[:, :-1][counted], teacher[:, :-1][counted]
    logs, wanted = (torch.log_softmax(logits / temperature, dim=-1) for logits in (student, teacher))
    total = functional.kl_div(logs, wanted, reduction="sum", log_target=True)
    return temperature**2 * total / max(len(logs), 1)  # without a single token it is 0


def state_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """How far states [B, T, H] are from the teacher's, over the tokens of `mask` [B, T]; a scalar in fp32.

    Their mean squared error in units of the teacher's mean square. Where the widths differ there is nothing to
    subtract: then how alike each two tokens of a row are is compared, by the cosine of their states (Tung & Mori,
    Similarity-Preserving Knowledge Distillation, 2019; of tokens: Wang et al., MiniLMv2, 2021).
    """
    student, teacher, real = student.float(), teacher.float(), mask.bool()
    if student.shape[-1] == teacher.shape[-1]:
        wanted = teacher[real]
        return functional.mse_loss(student[real], wanted) / wanted.square().mean().clamp(min=1e-12)
    alike = [functional.normalize(states, dim=-1) for states in (student, teacher)]
    found, wanted = (states @ states.transpose(1, 2) for states in alike)  # [B, T, T]
    pairs = real[:, :, None] & real[:, None, :]
    return functional.mse_loss(found[pairs], wanted[pairs])


class _Taught:
    """Before a model's class: a training step that also learns from the teacher."""

    def training_step(self: Any, batch: TrainingBatch) -> Tensor:
        lesson: _Lesson = self.lesson
        with watch(self, lesson.teacher.hidden) as seen:
            loss: Tensor = super().training_step(batch)  # type: ignore[misc]
        return lesson.loss(self, loss, seen, batch)


@dataclass
class Seen:
    """What went through a model: its logits, and the states after some of its modules."""

    logits: Tensor | None = None
    states: dict[str, Tensor] = field(default_factory=dict)  # [B, T, H]


class _Lesson:
    """The teacher at work."""

    def __init__(self, master: BaseModel, teacher: Teacher) -> None:
        self.master, self.teacher = master, teacher
        self._places: dict[str, int] = {}
        if teacher.answers is not None:
            self._places = {name: place for place, name in enumerate(teacher.answers.ids)}

    def loss(self, student: BaseModel, task: Tensor, seen: Seen, batch: TrainingBatch) -> Tensor:
        """The task's loss and the teacher's together."""
        teacher = self.teacher
        if seen.logits is None:
            raise LnmtError(
                "a model that learns from a teacher must call its forward in training_step",
                where=f"{type(student).__module__}.{type(student).__qualname__}.training_step",
                fix="call self(batch.inputs) in it, or fine-tune without a teacher",
            )
        master = self._answer(batch)
        assert master.logits is not None, "answered"
        soft = soft_loss(student.task, seen.logits, master.logits, batch, teacher.temperature, student.target_std)
        total = (1 - teacher.weight) * task + teacher.weight * soft
        if teacher.hidden:
            losses = [
                state_loss(seen.states[ours], master.states[theirs], batch.attention_mask)
                for ours, theirs in teacher.hidden.items()
            ]
            total = total + teacher.hidden_weight * torch.stack(losses).mean()
        return total

    @torch.no_grad()
    def _answer(self, batch: TrainingBatch) -> Seen:
        """The teacher's logits, and its states if they are asked for, in the arithmetic of whoever calls."""
        answers = self.teacher.answers
        if answers is not None and not self.teacher.hidden:
            places = [self._places[name] for name in batch.ids]
            return Seen(torch.from_numpy(answers.logits[places]).to(batch.input_ids.device))
        self.master.to(batch.input_ids.device)
        with watch(self.master, set(self.teacher.hidden.values())) as seen:
            self.master(batch.inputs)
        return seen


@contextmanager
def watch(model: nn.Module, names: Mapping[str, str] | set[str]) -> Iterator[Seen]:
    """Passes through `model` leave in `Seen` what they gave, and what the modules called `names` gave, unpacked."""
    seen, shape = Seen(), [0, 0]  # B, T
    with ExitStack() as stack:

        def keep_shape(_module: nn.Module, args: tuple[Any, ...]) -> None:
            shape[:] = args[0]["input_ids"].shape

        def keep_logits(_module: nn.Module, _args: Any, found: Any) -> None:
            seen.logits = found[0]

        def keep_states(name: str) -> Any:
            def keep(_module: nn.Module, args: tuple[Any, ...], found: Any) -> None:
                states = found[0] if isinstance(found, tuple) else found
                packed = next((value for value in args if isinstance(value, Packing)), None)
                seen.states[name] = states if packed is None else _unpack(states, packed, shape)

            return keep

        stack.callback(model.register_forward_pre_hook(keep_shape).remove)
        stack.callback(model.register_forward_hook(keep_logits).remove)
        for name in names:
            stack.callback(model.get_submodule(name).register_forward_hook(keep_states(name)).remove)
        yield seen


def _unpack(states: Tensor, packed: Packing, shape: Sequence[int]) -> Tensor:
    """Packed states [N, H] at their places in a batch of `shape` [B, T]; 0 elsewhere."""
    rows, tokens = shape
    padded = states.new_zeros(rows * tokens, states.shape[-1]).index_copy(0, packed.kept, states)
    return padded.view(rows, tokens, -1)
