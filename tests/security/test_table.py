from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import inspect

from lnmt.errors import LnmtError, UnknownName
from lnmt.security.keys import digest
from lnmt.security.peppers import Peppers
from lnmt.security.table import KeyTable
from lnmt.store import open_engine


def test_what_is_added_is_there_for_others_and_the_key_is_not(database_url: str, peppers: Peppers) -> None:
    with KeyTable(database_url) as keys:
        assert (keys.all(), keys.has_active()) == ([], False)
        key, plaintext = keys.add("über-shop", "predictor", peppers, rate_per_s=0.1 + 0.2)
    with KeyTable(database_url) as keys:
        assert keys.all() == [key]
        assert keys.has_active()
    assert (key.name, key.role, key.rate_per_s, key.revoked) == ("über-shop", "predictor", 0.1 + 0.2, None)
    pepper, secret = peppers.newest
    assert (key.pepper, key.digest) == (pepper, digest(secret, plaintext))
    assert plaintext.split("_", 2)[2] not in repr(key)


def test_a_revoked_key_stays_with_the_time_of_its_first_revocation(database_url: str, peppers: Peppers) -> None:
    with KeyTable(database_url) as keys:
        one, _ = keys.add("one", "viewer", peppers)
        two, _ = keys.add("two", "viewer", peppers)
        revoked = keys.revoke(one.id)
        assert revoked.revoked is not None
        assert revoked.revoked >= one.created
        assert replace(revoked, revoked=None) == one
        assert keys.revoke(one.id) == revoked
        assert {key.id: key for key in keys.all()} == {one.id: revoked, two.id: two}
        assert keys.has_active()
        keys.revoke(two.id)
        assert not keys.has_active()


def test_every_change_is_seen_in_the_stamp(database_url: str, peppers: Peppers) -> None:
    with KeyTable(database_url) as keys:
        stamps = [keys.stamp()]
        one, _ = keys.add("one", "viewer", peppers)
        stamps.append(keys.stamp())
        keys.add("two", "viewer", peppers)
        stamps.append(keys.stamp())
        keys.revoke(one.id)
        stamps.append(keys.stamp())
        assert len(set(stamps)) == 4
        keys.revoke(one.id)
        assert keys.stamp() == stamps[-1]


def test_an_unknown_key_is_told_with_the_nearest(keys: KeyTable, peppers: Peppers) -> None:
    key, _ = keys.add("one", "viewer", peppers)
    wrong = key.id[:-1] + ("0" if key.id[-1] != "0" else "1")
    with pytest.raises(UnknownName, match=f"unknown key '{wrong}'") as caught:
        keys.revoke(wrong)
    assert caught.value.fix == f"did you mean {key.id!r}?"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "a" * 101])
def test_a_name_is_for_people(keys: KeyTable, peppers: Peppers, name: str) -> None:
    with pytest.raises(LnmtError, match="not a name for a key"):
        keys.add(name, "viewer", peppers)
    assert keys.all() == []


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_is_above_nothing(keys: KeyTable, peppers: Peppers, rate: float) -> None:
    with pytest.raises(LnmtError, match="not a rate"):
        keys.add("one", "viewer", peppers, rate_per_s=rate)


def test_nothing_is_made_before_it_is_used(tmp_path: Path, peppers: Peppers) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'mine.db'}")
    with KeyTable(f"sqlite:///{tmp_path / 'deep' / 'lnmt.db'}"):
        assert list(tmp_path.iterdir()) == []
    with KeyTable(engine) as keys:
        keys.add("one", "viewer", peppers)
    assert inspect(engine).get_table_names() == ["api_keys"]  # it is still open
    engine.dispose()
