"""Whether requests need a key, by the address that the service listens on."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from lnmt.errors import LnmtError

CREATE = "lnmt keys create --role predictor --name NAME"


def is_loopback(host: str) -> bool:
    """True for `localhost` and the addresses that only this machine reaches. A name is not looked up."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def needs_keys(host: str, auth: bool | None) -> bool:
    """True where every request but the public ones must carry a key.

    On loopback where `auth` (LNMT_AUTH) says so; on any other address always.
    """
    return bool(auth) or not is_loopback(host)


def check_binding(host: str, auth: bool | None, has_keys: Callable[[], bool]) -> None:
    """Raise LnmtError where the service would listen beyond this machine without authentication.

    So it does, too, before there is a key, unless `auth` asks for just that. `has_keys` is called only
    where it matters: it reads the database.
    """
    if is_loopback(host) or auth:
        return
    allowed = "without authentication: 127.0.0.1, ::1, localhost"
    if auth is False:
        raise LnmtError(
            "other machines would reach the service without authentication",
            where=f"LNMT_HOST={host}, LNMT_AUTH=false",
            allowed=allowed,
            fix=f"take LNMT_AUTH away and make a key: {CREATE}",
        )
    if not has_keys():
        raise LnmtError(
            "other machines would reach the service, and there is no key",
            where=f"LNMT_HOST={host}",
            allowed=allowed,
            fix=f"make a key: {CREATE}; or start without one, to be made later, with LNMT_AUTH=true",
        )
