"""FastAPI: https://fastapi.tiangolo.com/async/. Its documents know no batching.

Calls that block stand in `def`, as the page advises: FastAPI runs them in its threads. (In `async def` all requests
that wait were computed before the first was answered.) `/predict` runs one inference at a time, with all cores;
`/predict-in-threads` as many at once as there are streams.
"""

from __future__ import annotations

import os
import threading

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving_bench.servers.classifier import Answer, Classifier

app = FastAPI()
alone = threading.Lock()
classify = Classifier(streams=int(os.environ["BENCH_STREAMS"]))


class Body(BaseModel):
    """What is sent."""

    text: str


@app.post("/predict")
def predict(body: Body) -> Answer:
    """One after the other."""
    with alone:
        return classify([body.text])[0]


@app.post("/predict-in-threads")
def predict_in_threads(body: Body) -> Answer:
    """Side by side."""
    return classify([body.text])[0]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="warning", access_log=False)
