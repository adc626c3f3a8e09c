"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass

from lnmt.security.roles import Role


@dataclass(frozen=True)
class Principal:
    """One caller: what limits, fairness and logs name."""

    id: str  # a key's id, which is no secret; "local" without authentication
    role: Role
    rate_per_s: float | None = None  # the key's own limit of requests; None: the service's


LOCAL = Principal("local", "admin")  # everyone, where a service bound to loopback asks for no key
ANONYMOUS = Principal("anonymous", "viewer")  # who sends no key, on a public route
