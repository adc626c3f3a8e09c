"""Who asks, whether they may, and whether it is too often: before anything of a request is read."""

from __future__ import annotations

import ipaddress
import math

from starlette.types import Scope

from lnmt.security.binding import CREATE, is_loopback
from lnmt.security.keyring import Keyring
from lnmt.security.principal import ANONYMOUS, LOCAL, Principal
from lnmt.security.roles import Action, allowed_roles, may
from lnmt.serving.problems import Problem
from lnmt.serving.rate.bucket import Rate, RateLimiter
from lnmt.serving.rate.memory import MemoryLimiter

HEADERS = "Authorization: Bearer KEY, or X-API-Key: KEY"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="lnmt"'}  # RFC 6750, section 3
_KEY_BYTES = 200  # of a header's value; a key is far shorter


class Admission:
    """Admits requests. Without a keyring everyone on this machine is `LOCAL`, and nobody else is served.

    `rate` holds for every principal whose key has no rate of its own; None: such keys have no limit.
    Who asks is told by the key alone: no header that a caller can write (X-Forwarded-For) changes it.
    """

    def __init__(
        self, keyring: Keyring | None = None, limiter: RateLimiter | None = None, rate: Rate | None = None
    ) -> None:
        self._keyring = keyring
        self._limiter = MemoryLimiter() if limiter is None else limiter
        self._rate = rate

    async def admit(self, scope: Scope, action: Action) -> Principal:
        """The caller of an HTTP request. Raises Problem 401, 403, or 429 with Retry-After."""
        if action == "public":
            return ANONYMOUS
        principal = _local(scope) if self._keyring is None else _holder(scope, self._keyring)
        if not may(principal.role, action):
            raise Problem(
                403,
                "the role of this key does not allow it",
                where=f"role {principal.role}",
                allowed=", ".join(allowed_roles(action)),
                fix="use a key of an allowed role; who runs the service makes one: lnmt keys create",
            )
        rate = self._rate if principal.rate_per_s is None else Rate.of(principal.rate_per_s)
        if rate is not None:
            wait_s = await self._limiter.take(principal.id, rate)
            if wait_s > 0:
                raise _too_often(principal, rate, wait_s)
        return principal


def _holder(scope: Scope, keyring: Keyring) -> Principal:
    key = _credential(scope)
    if key is None:
        raise _unauthenticated("no API key", "send one")
    principal = keyring.check(key)
    if principal is None:
        raise _unauthenticated("the API key is not valid here", "check that it is whole and was not revoked")
    return principal


def _credential(scope: Scope) -> str | None:
    """The one key that the headers hold; None for none. Raises Problem 401 for others than one."""
    found: set[bytes] = set()
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, credential = value.partition(b" ")
            if scheme.lower() != b"bearer":
                raise _unauthenticated("the Authorization header holds no bearer token", "send Bearer KEY in it")
            found.add(credential.strip(b" "))
        elif name == b"x-api-key":
            found.add(value.strip(b" "))
    if not found:
        return None
    key = found.pop()
    if found:
        raise _unauthenticated("several API keys", "send one")
    if len(key) > _KEY_BYTES or not key.isascii():
        raise _unauthenticated("the API key is malformed", "send it as it was shown")
    return key.decode("ascii")


def _local(scope: Scope) -> Principal:
    """Without authentication: a program of this machine, or a page that came from it.

    A page of another site could send requests through the browser of whoever works here; it cannot hide
    its origin (RFC 6454, section 7). A peer without an IP address came through a Unix socket.
    """
    client = scope.get("client")
    if client is not None and _elsewhere(client[0]):
        what, where = "without authentication this service answers its own machine alone", "address of the client"
        fix = f"who runs the service makes a key ({CREATE}) and sets LNMT_AUTH=true"
        raise Problem(403, what, where=where, allowed="loopback", fix=fix)
    for name, value in scope["headers"]:
        if name == b"origin" and not is_loopback(_host(value.decode("latin-1"))):
            what = "without authentication this service answers pages of its own machine alone"
            fix = f"open the page at http://localhost, or have a key made ({CREATE}) and LNMT_AUTH=true set"
            raise Problem(403, what, where="Origin", allowed="a loopback address", fix=fix)
    return LOCAL


def _elsewhere(peer: str) -> bool:
    if peer == "127.0.0.1":
        return False
    try:
        return not ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False


def _host(origin: str) -> str:
    """The host of `scheme://host[:port]`; empty for `null` and for what is no origin."""
    authority = origin.partition("://")[2]
    if "@" in authority:
        return ""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _unauthenticated(what: str, fix: str) -> Problem:
    return Problem(401, what, where="Authorization, X-API-Key", allowed=HEADERS, fix=fix, headers=_CHALLENGE)


def _too_often(principal: Principal, rate: Rate, wait_s: float) -> Problem:
    seconds = max(1, math.ceil(wait_s))
    return Problem(
        429,
        "too many requests",
        where=f"requests of {principal.id}",
        allowed=f"{rate.per_s:g} a second, {rate.burst:g} at once",
        fix=f"send again in {seconds} s",
        headers={"Retry-After": str(seconds)},
        reason="rate limit",
    )
