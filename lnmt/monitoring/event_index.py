"""The index of prediction events, in SQL: which part of which segment an id can be in.

An accelerator: segments tell everything it says. One that is lost or away makes lookups slower, not wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Column, Index, Integer, MetaData, Table, Text, TypedColumns, delete, insert, select

from lnmt.monitoring.segments import RowGroup
from lnmt.store import Tables, reading, writing

METADATA = MetaData()
# Ids are compared as bytes, as in the segments, whatever the database's language.
_BYTES = Text().with_variant(Text(collation="C"), "postgresql")


class _Groups(TypedColumns):
    segment: Column[str] = Column(Text, primary_key=True)
    row_group: Column[int] = Column(Integer, primary_key=True)
    first_id: Column[str] = Column(_BYTES, nullable=False)
    last_id: Column[str] = Column(_BYTES, nullable=False)


GROUPS = Table("event_row_groups", METADATA, _Groups)
Index("event_row_groups_by_id", GROUPS.c.first_id, GROUPS.c.last_id)


class EventIndex(Tables):
    """Row groups of segments, by the ids they lie between.

    Machines may share a database: a segment's name is its own.
    """

    metadata = METADATA

    def replace(self, groups: Sequence[RowGroup], *, removed: Sequence[str] = ()) -> None:
        """Put the groups of a segment in, and take those of removed segments out, in one transaction; repeatable."""
        gone = sorted({*removed, *(group.segment for group in groups)})
        with writing(self._open()) as connection:
            connection.execute(delete(GROUPS).where(GROUPS.c.segment.in_(gone)))
            if groups:
                connection.execute(insert(GROUPS), [asdict(group) for group in groups])

    def find(self, prediction_id: str) -> list[tuple[str, int]]:
        """(segment, row group) of each part that the id can be in, the likeliest first."""
        covers = select(GROUPS.c.segment, GROUPS.c.row_group).where(
            GROUPS.c.first_id <= prediction_id, GROUPS.c.last_id >= prediction_id
        )
        with reading(self._open()) as connection:
            found = connection.execute(covers.order_by(GROUPS.c.first_id.desc()))
            return [(segment, group) for segment, group in found]

    def empty(self) -> bool:
        """Whether it knows nothing."""
        with reading(self._open()) as connection:
            return connection.scalar(select(GROUPS.c.segment).limit(1)) is None

    def segments(self) -> set[str]:
        """The segments it knows."""
        with reading(self._open()) as connection:
            return set(connection.scalars(select(GROUPS.c.segment).distinct()))
