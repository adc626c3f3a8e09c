"""Text from a causal language model.

Legend: V = vocabulary.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lnmt.api.lineage import lineage_here
from lnmt.api.places import shipped_params
from lnmt.api.source import Source
from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import LnmtError
from lnmt.models import WEIGHTS, build_model, load_model
from lnmt.models.base import ModelSetup
from lnmt.models.generate import generate
from lnmt.progress import Progress
from lnmt.text.processors import text_chain
from lnmt.text.tokenizer import Tokenizer


def write_on(bundle: Bundle, texts: Sequence[str], max_new_tokens: int, temperature: float, seed: int) -> list[str]:
    """What the bundle's model writes after each text."""
    manifest = bundle.manifest
    if manifest.task != "text-generation" or manifest.engine != "torch":
        raise LnmtError(
            "this model writes no text",
            where=bundle.path,
            value=f"{manifest.task}, engine {manifest.engine}",
            allowed="text-generation, engine torch",
            fix="train a causal language model; of a quantised one, ask the model that it was made from",
        )
    tokenizer = Tokenizer(bundle.file("tokenizer.json"), manifest.max_tokens)
    process = text_chain(manifest.processors)
    model = load_model(bundle)
    found = []
    for text in texts:
        # From nothing, it writes as at the start of a document.
        ids = tokenizer.encode([process(text)])[0] or [tokenizer.end_id]
        new = generate(model, ids, max_new_tokens, temperature=temperature, end=tokenizer.end_id, seed=seed)
        found.append(str(tokenizer.rust.decode(new)))
    return found


def pretrained_bundle(source: Source, directory: Path) -> Bundle:
    """A pretrained language model as it stands, as a bundle in `directory`."""
    plugin = source.plugin("text-generation")
    encoder = source.fetch(Progress())
    max_tokens = shipped_params().train.max_tokens
    tokenizer = Tokenizer(encoder / "tokenizer.json", max_tokens)
    setup = ModelSetup(
        task="text-generation",
        labels=(),
        options=plugin.options,
        encoder=encoder,
        vocabulary=tokenizer.vocabulary,
        max_tokens=max_tokens,
        pad_id=tokenizer.pad_id,
        seed=0,
    )
    model = build_model(plugin, setup)
    draft = Draft(
        task="text-generation",
        labels=[],
        model=model.describe(plugin.name),
        engine="torch",
        precision="fp32",
        max_tokens=max_tokens,
        pad_multiple=8,
        temperature=1.0,
        processors=[],
        parent=None,
        lineage=lineage_here({}, None),
        evidence={},
    )
    with new_bundle(directory / "bundle", draft) as place:
        model.save(place / WEIGHTS)
        shutil.copyfile(encoder / "tokenizer.json", place / "tokenizer.json")
    return Bundle.open(directory / "bundle")
