"""What a name says: an architecture, a pretrained model, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnmt.api.places import settings_here, shipped_params
from lnmt.errors import LnmtError, UnknownName
from lnmt.models import MODELS
from lnmt.params import Plugin
from lnmt.progress import Progress
from lnmt.types import Task

# The architecture of a pretrained model that was named alone.
FAMILIES: Mapping[Task, str] = {
    "text-classification": "encoder_classifier",
    "multi-label-classification": "encoder_classifier",
    "text-regression": "encoder_classifier",
    "token-classification": "token_classifier",
    "text-generation": "causal_lm",
}


@dataclass(frozen=True)
class Source:
    """What a fresh model is made of."""

    name: str  # as it was given
    family: str | None  # plugin of lnmt.models; None: the task's own
    reference: str | None  # of the pretrained model, for lnmt.hub; None: the shipped one
    digest: str | None
    options: Mapping[str, Any]  # of the architecture

    def plugin(self, task: Task) -> Plugin:
        """The architecture for a task. Raises LnmtError where a pretrained language model must be named, and is not."""
        family = self.family or FAMILIES[task]
        if family == "causal_lm" and self.reference is None:
            raise LnmtError(
                "a causal language model starts from a pretrained one",
                where=f"lnmt.Model({self.name!r})",
                fix="name it: lnmt.Model('causal_lm', encoder='hf:OWNER/NAME'), or encoder='local:PATH'",
            )
        return Plugin(name=family, **self.options)

    def pretrained(self) -> tuple[str, str | None]:
        """Reference and digest of the pretrained model, which also brings the tokenizer."""
        shipped = shipped_params().train
        return (shipped.encoder, shipped.digest) if self.reference is None else (self.reference, self.digest)

    def fetch(self, progress: Progress) -> Path:
        """The directory of the pretrained model, from the cache or its hub, verified."""
        from lnmt.hub import fetch, find_model

        settings = settings_here()
        reference, digest = self.pretrained()
        try:
            directory = fetch(
                reference,
                digest=digest,
                cache=settings.cache,
                progress=progress,
                offline=settings.offline,
                root=Path.cwd(),
            )
        except LnmtError as error:
            if self.name == reference.removeprefix("hf:"):
                # A bare name: it may as well be an architecture's that was misspelt.
                near = UnknownName("model", self.name, MODELS.names())
                error.add_note(f"no architecture is called {self.name!r} either: {near.fix}; known: {near.allowed}")
            raise
        return find_model(directory)


def parse_name(name: str, encoder: str | None, digest: str | None, options: Mapping[str, Any]) -> Source:
    """What `lnmt.Model(name, …)` asks for.

    An architecture's name (a family, or a plugin's); a hub reference; a directory with a pretrained model; anything
    else is a name of the Hugging Face hub.
    """
    if name in MODELS.names():
        return Source(name, name, encoder, digest, options)
    if encoder is not None:
        raise UnknownName("model", name, MODELS.names(), where=f"lnmt.Model({name!r}, encoder=…)")
    return Source(name, None, as_reference(name), digest, options)


def as_reference(name: str) -> str:
    """A hub reference: `name` where it has a scheme, `local:` before a directory, else `hf:`."""
    from lnmt.hub.fetch import SCHEMES

    scheme, colon, _ = name.partition(":")
    if colon:
        if scheme not in (known := ["local", *SCHEMES.names()]):
            raise UnknownName("hub scheme", scheme, known, where=name)
        return name
    return f"local:{name}" if Path(name).is_dir() else f"hf:{name}"
