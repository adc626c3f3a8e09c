"""Stage `train`: a model of the task, fitted to data/processed/train, the best of it kept as a bundle."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from lnmt.bundles import new_bundle
from lnmt.data.batches import load_examples
from lnmt.files import clear_disk_errors, directory_digest, read_json
from lnmt.hub import fetch, find_model
from lnmt.models import WEIGHTS
from lnmt.params import Params, Plugin
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.callbacks.profile_steps import ProfileSteps
from lnmt.training.fit import draft_of, fit
from lnmt.training.prepare import TrainingData
from lnmt.training.training_report import write_report

if TYPE_CHECKING:
    from lnmt.stages import StageIO


def train(params: Params, io: StageIO) -> None:
    """data/processed → models/trained (a bundle with the best weights) and reports/training.

    A run that was cut short goes on from its checkpoint in the work directory, to the same weights.
    Raises LnmtError where a split cannot be learnt from or the loss is not finite.
    """
    options = params.train
    processed = io.read("data/processed")
    data = load_data(params, io)
    with clear_disk_errors(io.root):
        fitted = fit(
            options,
            data,
            work=io.work,
            logs=io.logs,
            progress=io.progress,
            plugins=params.plugins,
            callbacks={"profile": ProfileSteps(io.profile_steps)} if io.profile_steps else {},
        )
        lineage = io.lineage.model_copy(update={"data": directory_digest(processed)})
        processors = [Plugin(**plugin) for plugin in read_json(processed / "manifest.json")["processors"]]
        draft = draft_of(fitted, options, data, processors, lineage)
        with new_bundle(io.write("models/trained"), draft) as directory:
            fitted.model.save(directory / WEIGHTS)
            shutil.copyfile(data.encoder / "tokenizer.json", directory / "tokenizer.json")
        write_report(io.write("reports/training"), fitted.state, options.metric, fitted.choices)
    shutil.rmtree(io.work, ignore_errors=True)  # its best weights are kept elsewhere


def load_data(params: Params, io: StageIO) -> TrainingData:
    """The processed splits as token ids, and the pretrained model's directory."""
    options = params.train
    processed = io.read("data/processed")
    manifest = read_json(processed / "manifest.json")
    encoder = find_model(
        fetch(
            options.encoder,
            digest=options.digest,
            cache=io.cache,
            progress=io.progress,
            offline=io.offline,
            root=io.root,
        )
    )
    tokenizer = Tokenizer(encoder / "tokenizer.json", options.max_tokens)
    task, labels = manifest["task"], tuple(manifest["labels"])
    train, validation = (
        load_examples(processed / name, task, labels, tokenizer, io.progress, cache=io.tokens)
        for name in ("train", "validation")
    )
    return TrainingData(task, labels, train, validation, tokenizer, encoder, processed)
