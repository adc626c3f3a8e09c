"""Hugging Face's Trainer as its documentation tunes it: texts grouped by length, padded to a multiple of 8, bf16,
fused AdamW. The model is transformers' own BERT with the same pooling, head and weights as LNMT's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.trainers.common import Rounds, Setting, score
from lnmt.models.parts import mean_pool
from lnmt.training.feed import PAD_MULTIPLE


class Classifier(nn.Module):
    """Transformers' encoder, mean pooling, dropout and a linear head, called as Trainer calls its models."""

    def __init__(self, encoder: nn.Module, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """[B, T] twice, [B] → the mean loss, and logits [B, C]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        logits = self.head(self.dropout(mean_pool(states, attention_mask)))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits.float(), labels), "logits": logits}


def with_transformers(setting: Setting) -> Classifier:
    """The model of `setting` with transformers' encoder in place of ours."""
    from transformers import AutoModel

    ours = setting.model()
    encoder: Any = AutoModel.from_pretrained(setting.encoder)
    encoder.pooler = None
    model = Classifier(encoder, ours.get_parameter("head.weight").shape[1], ours.labels, ours.config["dropout"])
    model.load_state_dict(ours.state_dict())
    return model


def main() -> None:
    """Train in rounds, then score."""
    from datasets import Dataset
    from transformers import (
        DataCollatorWithPadding,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    setting, rounds = Setting.of_arguments(), Rounds()
    options, examples = setting.options, setting.data.train
    model = with_transformers(setting)
    load_tokenizer: Callable[..., Any] = PreTrainedTokenizerFast  # it ships no types
    tokenizer = load_tokenizer(tokenizer_file=f"{setting.encoder}/tokenizer.json", pad_token="[PAD]")
    texts = [row.tolist() for row in examples.rows(np.arange(len(examples)))]
    dataset = Dataset.from_dict(
        {
            "input_ids": texts,
            "attention_mask": [[1] * len(text) for text in texts],
            "labels": examples.labels.tolist(),
        }
    )

    class Timed(TrainerCallback):
        def on_train_begin(self, *arguments: Any, **named: Any) -> None:
            rounds.begin()

        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            rounds.step(trainer.rows, trainer.tokens, trainer.waited_s)

    class Measured(Trainer):
        """Notes what a step was made of, and how long it waited for that."""

        rows = tokens = 0
        waited_s = 0.0

        def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            batches, items = super().get_batch_samples(*arguments, **named)
            self.waited_s = time.perf_counter() - start
            self.rows = sum(len(batch["input_ids"]) for batch in batches)
            self.tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
            return batches, items

    arguments = TrainingArguments(
        output_dir=f"{setting.work}/trainer",
        num_train_epochs=setting.epochs,
        per_device_train_batch_size=options.batch_size,
        train_sampling_strategy="group_by_length",
        bf16=True,
        optim="adamw_torch_fused",
        learning_rate=options.optimizer.options["lr"],
        weight_decay=options.optimizer.options["weight_decay"],
        lr_scheduler_type=options.schedule.name,
        warmup_steps=options.schedule.options["warmup_share"],
        max_grad_norm=options.max_gradient_norm or 0.0,
        dataloader_pin_memory=False,  # there is no device to copy to
        eval_strategy="no",
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=setting.seed,
    )
    trainer = Measured(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=PAD_MULTIPLE),
        callbacks=[Timed()],
    )
    trainer.train()
    model.eval()
    found = score(lambda ids, mask: torch.as_tensor(model(ids, mask)["logits"]), setting.data)
    rounds.answer({**found, "precision": "bf16"})


if __name__ == "__main__":
    main()
