"""A postprocessor: texts with certain words get no answer, and where two labels are nearly as likely it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lnmt.core import BasePostprocessor, Reply
from lnmt.plugins import register_postprocessor


@register_postprocessor("my-postprocessor")
class MyPostprocessor(BasePostprocessor):
    """`{name: my-postprocessor, words: [lawsuit], margin: 0.1}` in `params.yaml: serve.postprocessors`."""

    def __init__(self, words: Sequence[str] = (), margin: float = 0.0) -> None:
        if not 0 <= margin <= 1:
            raise ValueError(f"margin is {margin!r}; allowed: 0…1")
        self.words = {word.casefold() for word in words}
        self.margin = margin

    def process(self, reply: Reply, text: str) -> Reply:
        if self.words.intersection(text.casefold().split()):
            return replace(reply, withheld="a person answers this")  # kept in the event: no place for the text
        best = sorted(reply.scores.values(), reverse=True)[:2]
        if len(best) == 2 and best[0] - best[1] < self.margin:
            return replace(reply, label="unsure")
        return reply
