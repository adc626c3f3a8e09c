from __future__ import annotations

import pytest

from lnmt.errors import LnmtError
from lnmt.security.binding import check_binding, is_loopback, needs_keys

LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"]
ELSEWHERE = ["0.0.0.0", "::", "10.0.0.5", "", "localhost.example.com", "127.0.0.1.example.com"]


def unread() -> bool:
    raise AssertionError("the database is not read")


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_loopback_authentication_is_a_choice(host: str) -> None:
    assert is_loopback(host)
    assert [needs_keys(host, auth) for auth in (None, False, True)] == [False, False, True]
    for auth in (None, False, True):
        check_binding(host, auth, unread)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_elsewhere_it_is_needed(host: str) -> None:
    assert not is_loopback(host)
    assert all(needs_keys(host, auth) for auth in (None, False, True))
    check_binding(host, None, lambda: True)
    check_binding(host, True, unread)  # keys may follow
    with pytest.raises(LnmtError, match="without authentication") as caught:
        check_binding(host, False, unread)
    assert "lnmt keys create --role predictor" in str(caught.value.fix)


def test_without_a_key_the_command_that_makes_one_is_named() -> None:
    with pytest.raises(LnmtError, match="there is no key") as caught:
        check_binding("::", None, lambda: False)
    assert "lnmt keys create --role predictor" in str(caught.value.fix)
    assert caught.value.where == "LNMT_HOST=::"
