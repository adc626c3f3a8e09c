"""API keys as values: `lnmt_<id>_<secret>`, 256 secret bits, kept as HMAC-SHA256 under a pepper.

The secret is random and long, so that one keyed hash is enough at rest: slow ones guard what can be
guessed (NIST SP 800-63B, §5.1.2.2: look-up secrets of 112 bits and more are only hashed). Without the
pepper a copy of the table proves nothing; and a hash opens no other row, as it is of id and secret together.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass

_FORM = re.compile(r"lnmt_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True)
class NewKey:
    """A key that was just made; `plaintext` is shown once and kept nowhere."""

    id: str
    plaintext: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r})"


def mint() -> NewKey:
    """A key of 256 random bits, with an id of 48 that is no secret."""
    identity = secrets.token_hex(6)
    return NewKey(identity, f"lnmt_{identity}_{secrets.token_urlsafe(32)}")


def key_id(plaintext: str) -> str | None:
    """The id inside a key; None for what has not the form of one."""
    found = _FORM.fullmatch(plaintext)
    return None if found is None else found[1]


def digest(pepper: bytes, plaintext: str) -> str:
    """HMAC-SHA256 (RFC 2104) of a whole key, in hexadecimal. `plaintext` has the form of a key."""
    return hmac.digest(pepper, plaintext.encode("ascii"), "sha256").hex()
