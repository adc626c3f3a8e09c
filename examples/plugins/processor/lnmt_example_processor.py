"""A text processor: web addresses become one word, and rows with too few words are dropped."""

from __future__ import annotations

import re

from lnmt.data import BaseProcessor
from lnmt.plugins import register_processor

ADDRESS = re.compile(r"https?://\S+|www\.\S+")


@register_processor("my-text-processor")
class MyTextProcessor(BaseProcessor):
    """Options are the constructor's: `{name: my-text-processor, word: link, min_words: 2}`."""

    def __init__(self, word: str = "link", min_words: int = 1) -> None:
        self.word = word
        self.min_words = min_words

    def process(self, data: str) -> str:
        return ADDRESS.sub(self.word, data)

    def validate(self, data: str) -> bool:
        return len(data.split()) >= self.min_words
