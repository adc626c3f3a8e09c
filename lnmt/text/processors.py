"""Text processors: one text in, one text out. They travel in the bundle, so that serving does what training did."""

from __future__ import annotations

import html
import inspect
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar, get_args

from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Plugin
from lnmt.plugins.table import Table

T = TypeVar("T")
Form = Literal["NFC", "NFKC", "NFD", "NFKD"]


class BaseProcessor:
    """One step. Options of `params.yaml` are the constructor's keyword arguments.

    A step must be a function of the text alone: serving runs it on requests, one at a time.
    """

    def process(self, data: str) -> str:
        """The text after this step."""
        return data

    def validate(self, data: str) -> bool:
        """Asked after `process`: False drops the row from the data set; a request in service is never dropped."""
        return True


class Unescape(BaseProcessor):
    """HTML entities → characters (`&amp;` → `&`)."""

    def process(self, data: str) -> str:
        return html.unescape(data)


class Normalise(BaseProcessor):
    """Unicode normal form."""

    def __init__(self, form: Form) -> None:
        if form not in get_args(Form):
            raise ValueError(f"form is {form!r}; allowed: {', '.join(get_args(Form))}")
        self.form: Form = form

    def process(self, data: str) -> str:
        return unicodedata.normalize(self.form, data)


class Whitespace(BaseProcessor):
    """Runs of white space → one space, none at the ends."""

    def process(self, data: str) -> str:
        return " ".join(data.split())


class Filter(BaseProcessor):
    """Drops rows shorter than `min_characters`."""

    def __init__(self, min_characters: int) -> None:
        if not isinstance(min_characters, int):
            raise TypeError(f"min_characters is {min_characters!r}; it must be a whole number")
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


def make(factory: Callable[..., T], plugin: Plugin, *, where: object) -> T:
    """Call a plugin's factory with the options that stand beside its name.

    Raises UnknownName for an option that it does not take, LnmtError for one that lacks or that it refuses.
    """
    parameters = inspect.signature(factory).parameters
    names = [name for name, one in parameters.items() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(names) == len(parameters):
        for option in plugin.options:
            if option not in names:
                raise UnknownName(f"option of {plugin.name!r}", option, names, where=where)
    try:
        inspect.signature(factory).bind(**plugin.options)
        return factory(**plugin.options)
    except (TypeError, ValueError) as error:
        raise LnmtError(
            f"{plugin.name!r} cannot be made: {error}",
            where=where,
            value=plugin.options,
            allowed=f"{plugin.name}{inspect.signature(factory)}",
            fix="mend its options",
        ) from error


def text_chain(plugins: Sequence[Plugin], *, where: str = "processors") -> Callable[[str], str]:
    """The processors as one function, in order; what `validate` says is left out."""
    steps = [make(PROCESSORS.get(plugin.name, where=where), plugin, where=where) for plugin in plugins]

    def process(text: str) -> str:
        for step in steps:
            text = step.process(text)
        return text

    return process
