from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.security.keys import digest, key_id, mint


def test_a_key_is_long_random_and_carries_its_id() -> None:
    made = [mint() for _ in range(100)]
    assert len({key.plaintext for key in made}) == len({key.id for key in made}) == 100
    for key in made:
        mark, identity, secret = key.plaintext.split("_", 2)
        assert (mark, identity, len(secret)) == ("lnmt", key.id, 43)  # 43 · 6 bits hold 256
        assert key_id(key.plaintext) == key.id


def test_a_key_does_not_print_its_secret() -> None:
    key = mint()
    assert repr(key) == f"NewKey(id='{key.id}')"


@given(st.text(max_size=100) | st.from_regex(r"lnmt_.*", fullmatch=True))
def test_other_text_is_no_key(text: str) -> None:
    assert key_id(text) is None


@pytest.mark.parametrize("change", ["{}\n", " {}", "{}A", "x{}"])
def test_a_key_has_nothing_around_it(change: str) -> None:
    assert key_id(change.format(mint().plaintext)) is None


def test_a_key_in_other_digits_is_none() -> None:
    key = mint().plaintext
    assert key_id(f"lnmt_{'٣' * 12}{key[17:]}") is None
    assert key_id(key[:-1] + "é") is None


def test_the_digest_is_an_hmac_of_the_whole_key() -> None:
    key = mint().plaintext
    assert digest(b"pepper", key) == hmac.new(b"pepper", key.encode(), hashlib.sha256).hexdigest()
    assert len({digest(b"pepper", key), digest(b"other", key), digest(b"pepper", mint().plaintext)}) == 3
