"""The deployments' table, and its history: changed only by compare-and-swap, generation by generation."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    TypedColumns,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from lnmt.errors import LnmtError, Transient
from lnmt.rollout.deployment import Deployment, objection
from lnmt.store import Tables, reading, writing

METADATA = MetaData()


class _Now(TypedColumns):
    name: Column[str] = Column(Text, primary_key=True)
    generation: Column[int] = Column(Integer, nullable=False)
    phase: Column[str] = Column(Text, nullable=False)
    champion: Column[str] = Column(Text, nullable=False)
    challenger: Column[str | None] = Column(Text)
    share: Column[float] = Column(Double, nullable=False)
    since: Column[float] = Column(Double, nullable=False)
    why: Column[str] = Column(Text, nullable=False)


class _Then(_Now):
    generation: Column[int] = Column(Integer, primary_key=True)


DEPLOYMENTS = Table("deployments", METADATA, _Now)
HISTORY = Table("deployment_history", METADATA, _Then)


class DeploymentStore(Tables):
    """What is live, by model name."""

    metadata = METADATA

    def read(self, name: str) -> Deployment | None:
        """The live row; None before the first release."""
        with reading(self._open()) as connection:
            return _current(connection, name)

    def names(self) -> list[str]:
        """Every model that has a deployment."""
        with reading(self._open()) as connection:
            return list(connection.scalars(select(DEPLOYMENTS.c.name).order_by(DEPLOYMENTS.c.name)))

    def history(self, name: str) -> list[Deployment]:
        """Every generation that was live, oldest first, the present one included."""
        rows = select(HISTORY).where(HISTORY.c.name == name).order_by(HISTORY.c.generation)
        with reading(self._open()) as connection:
            return [Deployment(**row) for row in connection.execute(rows).mappings()]

    def at(self, name: str, generation: int) -> Deployment | None:
        """The deployment as it was at this generation."""
        row = select(HISTORY).where(HISTORY.c.name == name, HISTORY.c.generation == generation)
        with reading(self._open()) as connection:
            found = connection.execute(row).mappings().one_or_none()
        return None if found is None else Deployment(**found)

    def swap(self, expected_generation: int, new: Deployment) -> Deployment:
        """Make `new` live if generation `expected_generation` still is (0: nothing yet); returns it as stored.

        It gets the next generation. Row and history change together and are on disk when this returns.
        Raises Transient, with what is live instead, where another writer came first, and LnmtError for
        a value that can never be live.
        """
        new = replace(new, generation=expected_generation + 1)
        wrong = objection(new)
        if wrong is not None:
            raise LnmtError(
                "not a deployment that can be live",
                where=f"deployment of {new.name}",
                value=new,
                allowed=wrong,
                fix="change deployments through lnmt.rollout.release",
            )
        try:
            with writing(self._open()) as connection:
                if not _replace(connection, expected_generation, new):
                    raise _conflict(expected_generation, new.name, _current(connection, new.name))
                connection.execute(insert(HISTORY).values(**asdict(new)))
        except IntegrityError as error:  # two first releases at once, where writers do not queue
            raise _conflict(expected_generation, new.name, self.read(new.name)) from error
        return new


def _replace(connection: Connection, expected_generation: int, new: Deployment) -> bool:
    """True where the expected generation was there and is now `new`."""
    values: dict[str, Any] = asdict(new)
    if expected_generation == 0:
        if _current(connection, new.name) is not None:
            return False
        connection.execute(insert(DEPLOYMENTS).values(**values))
        return True
    row = update(DEPLOYMENTS).where(DEPLOYMENTS.c.name == new.name, DEPLOYMENTS.c.generation == expected_generation)
    return connection.execute(row.values(**values)).rowcount == 1


def _current(connection: Connection, name: str) -> Deployment | None:
    row = connection.execute(select(DEPLOYMENTS).where(DEPLOYMENTS.c.name == name)).mappings().one_or_none()
    return None if row is None else Deployment(**row)


def _conflict(expected: int, name: str, found: Deployment | None) -> Transient:
    there = "nothing"
    if found is not None:
        there = f"generation {found.generation}, {found.phase}, champion {found.champion}"
        there += f", challenger {found.challenger} with share {found.share:g}" if found.challenger else ""
        there += f", since {found.since:.0f}: {found.why}"
    return Transient(
        "the deployment was changed by another writer",
        where=f"deployment of {name}",
        value=there,
        allowed=f"generation {expected}",
        fix="look at what is live now, then do the same again",
    )
