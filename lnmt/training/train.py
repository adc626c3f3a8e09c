"""Stage `train`: an encoder and a fresh head, fitted to data/processed/train, the best of it kept as a bundle."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import lnmt
from lnmt.bundles import Draft, new_bundle
from lnmt.data.batches import Examples, batch_order, load_examples
from lnmt.errors import LnmtError
from lnmt.files import canonical_json, clear_disk_errors, directory_digest, read_json, sha256_bytes, sha256_file
from lnmt.hub import fetch, find_model
from lnmt.models import WEIGHTS, build_model
from lnmt.params import Params, Plugin
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.checkpoint import Checkpoints
from lnmt.training.feed import PAD_MULTIPLE, to_batch
from lnmt.training.loop import Loop
from lnmt.training.precision import choose_precision
from lnmt.training.training_report import write_report

if TYPE_CHECKING:
    from lnmt.stages import StageIO

PROBE_BATCHES = 6  # on which `precision: auto` is measured


def train(params: Params, io: StageIO) -> None:
    """data/processed → models/trained (a bundle with the best weights) and reports/training.

    A run that was cut short goes on from its checkpoint in the work directory, to the same weights.
    Raises LnmtError where a split cannot be learnt from or the loss is not finite.
    """
    options = params.train
    processed = io.read("data/processed")
    manifest = read_json(processed / "manifest.json")
    labels: list[str] = manifest["labels"]
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
    rows = load_examples(processed / "train", labels, tokenizer, io.progress)
    held_out = load_examples(processed / "validation", labels, tokenizer, io.progress)
    check(rows, held_out, labels, processed)

    model = build_model(options, len(labels), encoder)
    order = batch_order(rows.lengths, options.batch_size, options.seed, 0)
    probes = [to_batch(rows, places, tokenizer) for places in order[:PROBE_BATCHES]]
    io.work.mkdir(parents=True, exist_ok=True)
    precision = choose_precision(options.precision, model, probes, io.work / "precision.json")
    io.progress.note(f"trains in {precision.precision}: {precision.why}")
    checkpoints = Checkpoints(io.work / "checkpoints", fingerprint(params.plugins, encoder))
    loop = Loop(
        model=model,
        tokenizer=tokenizer,
        train=rows,
        validation=held_out,
        options=options,
        precision=precision.precision,
        checkpoints=checkpoints,
        progress=io.progress,
    )
    state = loop.run()
    lineage = io.lineage.model_copy(update={"data": directory_digest(processed)})
    draft = Draft(
        task="text-classification",
        labels=labels,
        model=model.describe(options.model),
        engine="torch",
        precision="fp32",
        max_tokens=options.max_tokens,
        pad_multiple=PAD_MULTIPLE,
        temperature=1.0,
        processors=[Plugin(**plugin) for plugin in manifest["processors"]],
        parent=None,
        lineage=lineage,
        evidence={"validation": state.best, "step": state.best_step, "trained_in": precision.precision},
    )
    with clear_disk_errors(io.root):
        with new_bundle(io.write("models/trained"), draft) as directory:
            model.save(directory / WEIGHTS)
            shutil.copyfile(encoder / "tokenizer.json", directory / "tokenizer.json")
        write_report(io.write("reports/training"), state, precision)
    checkpoints.clear()


def check(train_rows: Examples, validation_rows: Examples, labels: Sequence[str], processed: Path) -> None:
    """Raise LnmtError where there is nothing to learn, or nothing to choose by."""
    for name, rows in (("train", train_rows), ("validation", validation_rows)):
        present = [labels[place] for place in np.unique(rows.labels).tolist()]
        if len(present) < 2:
            raise LnmtError(
                f"the {name} split has {'one label only' if present else 'no rows'}",
                where=processed / name,
                value=f"{len(rows)} rows{f', all {present[0]!r}' if present else ''}",
                allowed=f"rows of at least two of: {', '.join(labels)}",
                fix="give more data, or another process.split or process.salt",
            )


def fingerprint(plugins: Sequence[str], encoder: Path) -> dict[str, Any]:
    """What, beside the stage's inputs, must be the same for a cut run to go on to the weights it was on the way to."""
    package = Path(lnmt.__file__).parent
    code = [path for folder in ("training", "models", "text", "data") for path in (package / folder).rglob("*.py")]
    loaded = [getattr(sys.modules.get(name), "__file__", None) for name in plugins]
    return {
        "lnmt": lnmt.__version__,
        "code": sha256_bytes(canonical_json([sha256_file(path) for path in sorted(code)])),
        "plugins": [sha256_file(Path(path)) for path in loaded if path is not None],
        "encoder": sha256_file(encoder / "model.safetensors"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
