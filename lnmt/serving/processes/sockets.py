"""The listening socket: bound once by the supervisor, inherited by every worker."""

from __future__ import annotations

import errno
import socket

from lnmt.errors import LnmtError, Transient

# Connections that the kernel holds while no worker accepts: two seconds of a restart at 1,000 new ones a second.
# The kernel cuts it to net.core.somaxconn, 4096 by default.
BACKLOG = 2048


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on, whether or not a worker is there yet; port 0 is any free one.

    Raises as `bound` does.
    """
    found = bound(host, port)
    try:
        found.listen(BACKLOG)
    except OSError as error:  # bound by two, and the other one was first to listen
        found.close()
        raise _explained(error, host, port) from error
    return found


def bound(host: str, port: int) -> socket.socket:
    """A socket with this address.

    Raises Transient where something listens there, LnmtError where the address is none of this machine.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise _explained(error, host, port) from error
    return found


def _explained(error: OSError, host: str, port: int) -> LnmtError:
    where, fix = f"{host}:{port}", "stop what listens there, or choose another port: LNMT_PORT=3001"
    if isinstance(error, PermissionError):
        return LnmtError("this port needs rights", where=where, allowed="1024 to 65535", fix=fix)
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        fix = "LNMT_HOST=127.0.0.1, or an address of this machine"
        return LnmtError("no address of this machine", where=where, fix=fix)
    return Transient("the port is taken", where=where, value=port, fix=fix)
