"""The keys' table. Rows are added, and revoked once; none is ever changed otherwise, and none goes."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass

from sqlalchemy import Column, Double, MetaData, Table, Text, TypedColumns, func, insert, select, update

from lnmt.errors import LnmtError, UnknownName
from lnmt.security.keys import digest, mint
from lnmt.security.peppers import Peppers
from lnmt.security.roles import Role
from lnmt.store import Tables, reading, writing

METADATA = MetaData()
NAME_CHARACTERS = 100


class _Row(TypedColumns):
    id: Column[str] = Column(Text, primary_key=True)
    name: Column[str] = Column(Text, nullable=False)
    role: Column[str] = Column(Text, nullable=False)
    rate_per_s: Column[float | None] = Column(Double)
    pepper: Column[str] = Column(Text, nullable=False)
    digest: Column[str] = Column(Text, nullable=False)
    created: Column[float] = Column(Double, nullable=False)
    revoked: Column[float | None] = Column(Double)


KEYS = Table("api_keys", METADATA, _Row)


@dataclass(frozen=True)
class Key:
    """One row: all that is known of a key, which is not the key."""

    id: str
    name: str  # for people: who or what uses it
    role: Role
    rate_per_s: float | None  # requests; None: the service's limit
    pepper: str  # id of the pepper under which `digest` was made
    digest: str  # hexadecimal HMAC-SHA256
    created: float  # seconds since the epoch
    revoked: float | None = None


@dataclass(frozen=True)
class Stamp:
    """What a change of the table changes: as no row is changed or deleted, two equal stamps saw the same keys."""

    keys: int
    revoked: int
    last_created: float | None
    last_revoked: float | None


class KeyTable(Tables):
    """The API keys of a service."""

    metadata = METADATA

    def add(self, name: str, role: Role, peppers: Peppers, *, rate_per_s: float | None = None) -> tuple[Key, str]:
        """Make a key under the newest pepper; returns its row, on disk now, and the key itself, which is kept nowhere.

        Raises LnmtError for a name that is empty, long or not printable, and for a rate that is not above 0.
        """
        _check(name, rate_per_s)
        pepper, secret = peppers.newest
        new = mint()
        hashed = digest(secret, new.plaintext)
        key = Key(new.id, name, role, rate_per_s, pepper, hashed, time.time())
        with writing(self._open()) as connection:
            connection.execute(insert(KEYS).values(**asdict(key)))
        return key, new.plaintext

    def all(self) -> list[Key]:
        """Every key that was ever made, oldest first."""
        rows = select(KEYS).order_by(KEYS.c.created, KEYS.c.id)
        with reading(self._open()) as connection:
            return [Key(**row) for row in connection.execute(rows).mappings()]

    def has_active(self) -> bool:
        """True where there is a key that was not revoked."""
        stamp = self.stamp()
        return stamp.keys > stamp.revoked

    def stamp(self) -> Stamp:
        """A value that differs after every change; cheaper than the keys."""
        figures = select(
            func.count(KEYS.c.id), func.count(KEYS.c.revoked), func.max(KEYS.c.created), func.max(KEYS.c.revoked)
        )
        with reading(self._open()) as connection:
            return Stamp(*connection.execute(figures).one())

    def revoke(self, identity: str) -> Key:
        """Refuse this key from now on; the time of the first revocation stays. Raises UnknownName."""
        row = select(KEYS).where(KEYS.c.id == identity)
        with writing(self._open()) as connection:
            active = update(KEYS).where(KEYS.c.id == identity, KEYS.c.revoked.is_(None))
            connection.execute(active.values(revoked=time.time()))
            found = connection.execute(row).mappings().one_or_none()
            if found is None:
                known = connection.scalars(select(KEYS.c.id).where(KEYS.c.revoked.is_(None)))
                raise UnknownName("key", identity, known, where="lnmt keys list")
        return Key(**found)


def _check(name: str, rate_per_s: float | None) -> None:
    if not name.strip() or len(name) > NAME_CHARACTERS or not name.isprintable():
        allowed = f"1 to {NAME_CHARACTERS} printable characters"
        raise LnmtError("not a name for a key", where="name", value=repr(name), allowed=allowed, fix="say who uses it")
    if rate_per_s is not None and not (math.isfinite(rate_per_s) and rate_per_s > 0):
        fix = "give requests per second, or leave it out"
        raise LnmtError("not a rate", where="rate", value=rate_per_s, allowed="a number above 0", fix=fix)
