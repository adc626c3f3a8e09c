"""The validation split through the model as it stands.

Legend: B = rows of a batch, C = labels.
"""

from __future__ import annotations

import torch
from torch import nn

from lnmt.data.batches import Examples, length_order
from lnmt.models.base import BaseModel
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.feed import to_batch
from lnmt.training.metrics import confusion_matrix, confusion_metrics
from lnmt.training.precision import Precision, arithmetic

ROWS = 64  # of a batch


@torch.no_grad()
def validate(model: BaseModel, examples: Examples, tokenizer: Tokenizer, precision: Precision) -> dict[str, float]:
    """`loss`, `accuracy`, `macro_f1` over all rows; the model is left in training mode."""
    model.eval()
    loss = 0.0
    predicted = torch.empty(len(examples), dtype=torch.int64)
    for places in length_order(examples.lengths, ROWS):
        batch = to_batch(examples, places, tokenizer)
        with arithmetic(precision):
            logits, _ = model(batch.input_ids, batch.attention_mask)  # [B, C]
        loss += float(nn.functional.cross_entropy(logits.float(), batch.labels, reduction="sum"))
        predicted[torch.from_numpy(places)] = logits.argmax(dim=1)
    model.train()
    confusion = confusion_matrix(examples.labels, predicted.numpy(), model.classes)
    metrics = confusion_metrics(confusion, range(model.classes))
    return {"loss": loss / len(examples), "accuracy": metrics["accuracy"], "macro_f1": metrics["macro_f1"]}
