"""Roles × actions: one table. What stands nowhere in it is denied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from lnmt.errors import UnknownName

Role = Literal["viewer", "predictor", "operator", "admin"]
# observe: /metrics; manage: load and unload models
Action = Literal["public", "read", "predict", "feedback", "observe", "manage"]

TABLE: Mapping[Role, frozenset[Action]] = {
    "viewer": frozenset({"read", "observe"}),
    "predictor": frozenset({"read", "predict", "feedback"}),
    "operator": frozenset({"read", "predict", "feedback", "observe", "manage"}),
    "admin": frozenset({"read", "predict", "feedback", "observe", "manage"}),
}


def may(role: Role, action: Action) -> bool:
    """True where the table allows it. `public` is open to everyone, with or without a key."""
    return action == "public" or action in TABLE.get(role, frozenset())


def allowed_roles(action: Action) -> list[Role]:
    """The roles that may, in the order of the table."""
    return [role for role in TABLE if may(role, action)]


def role_of(name: str, *, where: object = None) -> Role:
    """The role of this name. Raises UnknownName for another."""
    for role in TABLE:
        if role == name:
            return role
    raise UnknownName("role", name, get_args(Role), where=where)
