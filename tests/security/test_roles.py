from __future__ import annotations

from typing import cast, get_args

import pytest

from lnmt.errors import UnknownName
from lnmt.security.roles import TABLE, Action, Role, allowed_roles, may, role_of

MAY = {
    "viewer": {"public", "read", "observe"},
    "predictor": {"public", "read", "predict", "feedback"},
    "operator": {"public", "read", "predict", "feedback", "observe", "manage"},
    "admin": {"public", "read", "predict", "feedback", "observe", "manage"},
}


@pytest.mark.parametrize("role", get_args(Role))
def test_each_role_may_what_the_table_says_and_nothing_else(role: Role) -> None:
    assert {action for action in get_args(Action) if may(role, action)} == MAY[role]


def test_what_the_table_does_not_know_is_denied() -> None:
    assert not may(cast("Role", "owner"), "read")
    assert not may("admin", cast("Action", "delete"))


def test_every_role_has_its_line() -> None:
    assert tuple(TABLE) == get_args(Role)


def test_a_refusal_can_name_who_may() -> None:
    assert allowed_roles("manage") == ["operator", "admin"]


def test_a_role_is_found_by_its_name() -> None:
    assert [role_of(name) for name in get_args(Role)] == list(get_args(Role))
    with pytest.raises(UnknownName, match="unknown role 'predicter'") as caught:
        role_of("predicter", where="--role")
    assert caught.value.fix == "did you mean 'predictor'?"
