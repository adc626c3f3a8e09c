"""What a tutorial shows: every text padded to `max_tokens`, shuffled, fp32, torch's AdamW as it comes, no clipping."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.trainers.common import Rounds, Setting
from benchmarks.trainers.hugging_face import with_transformers


def main() -> None:
    """Train in rounds until there are no more."""
    setting, rounds = Setting.of_arguments(), Rounds()
    options, examples = setting.options, setting.data.train
    model = with_transformers(setting).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    ids = torch.full((len(examples), options.max_tokens), setting.data.tokenizer.pad_id)
    mask = torch.zeros_like(ids)
    for line, row in enumerate(examples.rows(np.arange(len(examples)))):
        ids[line, : len(row)] = torch.tensor(row)
        mask[line, : len(row)] = 1
    dataset = TensorDataset(ids, mask, torch.tensor(examples.labels))
    rounds.begin()
    while True:
        for input_ids, attention_mask, labels in DataLoader(dataset, batch_size=options.batch_size, shuffle=True):
            optimizer.zero_grad()
            loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels)["loss"]
            torch.autograd.backward(loss)
            optimizer.step()
            rounds.step(len(labels), int(attention_mask.sum()), 0.0)


if __name__ == "__main__":
    main()
