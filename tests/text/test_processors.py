from __future__ import annotations

import pytest

from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Plugin
from lnmt.text.processors import PROCESSORS, BaseProcessor, Filter, Normalise, Unescape, Whitespace, text_chain


def plugin(name: str, **options: object) -> Plugin:
    return Plugin.model_validate({"name": name, **options})


def test_each_step() -> None:
    assert Unescape().process("a &amp; b &lt;3 &#233;") == "a & b <3 é"
    assert Normalise("NFC").process("e\u0301") == "é"
    assert Normalise("NFKC").process("ﬁne ①") == "fine 1"
    assert Whitespace().process("\t a\u00a0\n b \u2003") == "a b"
    assert [Filter(2).validate(text) for text in ("", "a", "ab")] == [False, False, True]


def test_a_chain_runs_in_order_and_drops_nothing() -> None:
    chain = text_chain([plugin("unescape"), plugin("whitespace"), plugin("filter", min_characters=50)])
    assert chain("  one &nbsp; two ") == "one two"


def test_an_empty_chain_changes_nothing() -> None:
    assert text_chain([])(" x ") == " x "


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'whitespace'"):
        text_chain([plugin("whitspace")])


def test_an_unknown_option_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown option of 'filter' 'min_character'") as caught:
        text_chain([plugin("filter", min_character=2)], where="process.processors")
    assert caught.value.fix == "did you mean 'min_characters'?"
    assert caught.value.where == "process.processors"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (plugin("filter"), "missing a required argument: 'min_characters'"),
        (plugin("filter", min_characters="two"), "min_characters is 'two'"),
        (plugin("normalise", form="NFX"), "form is 'NFX'; allowed: NFC, NFKC, NFD, NFKD"),
    ],
)
def test_options_that_do_not_fit_are_told(wrong: Plugin, message: str) -> None:
    with pytest.raises(LnmtError, match=f"{wrong.name!r} cannot be made: {message}"):
        text_chain([wrong])


def test_a_registered_processor_joins_the_chain() -> None:
    @PROCESSORS.register("test_shout")
    class Shout(BaseProcessor):
        def process(self, data: str) -> str:
            return data.upper()

    assert text_chain([plugin("whitespace"), plugin("test_shout")])(" so  what ") == "SO WHAT"
