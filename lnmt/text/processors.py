"""Text processors: one text in, one text out. They travel in the bundle, so that serving does what training did."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

from lnmt.params import Plugin
from lnmt.plugins.table import Table


class BaseProcessor:
    """One step. Options of `params.yaml` are the constructor's keyword arguments."""

    def process(self, data: str) -> str:
        """The text after this step."""
        return data

    def validate(self, data: str) -> bool:
        """False drops the row from the data set; a request in service is never dropped."""
        return True


class Unescape(BaseProcessor):
    """HTML entities → characters (`&amp;` → `&`)."""

    def process(self, data: str) -> str:
        return html.unescape(data)


class Normalise(BaseProcessor):
    """Unicode normal form."""

    def __init__(self, form: Literal["NFC", "NFKC", "NFD", "NFKD"]) -> None:
        self.form: Literal["NFC", "NFKC", "NFD", "NFKD"] = form

    def process(self, data: str) -> str:
        return unicodedata.normalize(self.form, data)


class Whitespace(BaseProcessor):
    """Runs of white space → one space, none at the ends."""

    def process(self, data: str) -> str:
        return re.sub(r"\s+", " ", data).strip()


class Filter(BaseProcessor):
    """Drops rows shorter than `min_characters`."""

    def __init__(self, min_characters: int) -> None:
        self.min_characters = min_characters

    def validate(self, data: str) -> bool:
        return len(data) >= self.min_characters


PROCESSORS: Table[type[BaseProcessor]] = Table(
    "processor",
    {
        "unescape": "lnmt.text.processors:Unescape",
        "normalise": "lnmt.text.processors:Normalise",
        "whitespace": "lnmt.text.processors:Whitespace",
        "filter": "lnmt.text.processors:Filter",
    },
)


def text_chain(plugins: Sequence[Plugin]) -> Callable[[str], str]:
    """The processors as one function."""
    steps = [PROCESSORS.get(plugin.name, where="processors")(**plugin.options) for plugin in plugins]

    def process(text: str) -> str:
        for step in steps:
            text = step.process(text)
        return text

    return process
