"""FastAPI with PyTorch eager in fp32: transformers' own model with the same weights, as its documents load one."""

from __future__ import annotations

import os
import threading
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

from benchmarks.serving_bench.servers.classifier import Answer, Encoder, bundle_path, cores

app = FastAPI()
alone = threading.Lock()
encoder = Encoder()


class Body(BaseModel):
    """What is sent."""

    text: str


class Model(torch.nn.Module):
    """The encoder, the mean of its states, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        config = dict(encoder.manifest["model"]["config"])
        load: Any = AutoModel.from_config  # it ships no types
        self.encoder = load(AutoConfig.for_model(config.pop("model_type"), **config))
        self.encoder.pooler = None
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, len(encoder.manifest["labels"]))
        self.load_state_dict(load_file(bundle_path() / "model.safetensors"))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """[B, T] twice → logits [B, C]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.as_tensor(self.head(pooled))


torch.set_num_threads(cores())
model = Model().eval()


@app.post("/predict")
def predict(body: Body) -> Answer:
    """One after the other: torch has all cores for each."""
    ids, mask = encoder.encode([body.text])
    with alone, torch.inference_mode():
        logits = model(torch.from_numpy(ids), torch.from_numpy(mask))
    return encoder.answers(logits.numpy())[0]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="warning", access_log=False)
