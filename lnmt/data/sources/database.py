"""A query of a database, streamed through a server-side cursor."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lnmt.data.sources.rows import Row, batches_of
from lnmt.data.sources.secrets import reveal
from lnmt.data.sources.source import Context, Part, Wanted
from lnmt.errors import LnmtError, Transient
from lnmt.params import DatabaseSource

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection
    from sqlalchemy.exc import DBAPIError

FETCH_ROWS = 2000


@dataclass(frozen=True)
class DatabaseReader:
    """The `database` source. Without an ORDER BY the order of the rows, and the digest of the data, may change."""

    source: DatabaseSource
    slices: Sequence[str]
    context: Context

    def parts(self) -> Iterator[Part]:
        url = self._url()
        yield Part(
            name=url.render_as_string(hide_password=True),
            prefix="-".join(self.source.set.values()) or "database",
            digest=None,
            wanted=Wanted(self.source.columns, self.slices, self.source.set),
            read=self._read,
        )

    def _url(self) -> URL:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        where = "params.yaml: ingest.sources: url"
        text = reveal(self.source.url, where)
        try:
            url = make_url(text)
        except (ArgumentError, ValueError) as error:
            raise LnmtError(
                "not a database URL",  # which may hold a password, and is not shown
                where=where,
                allowed="postgresql://USER:PASSWORD@HOST/NAME, sqlite:///FILE …, or env:VARIABLE",
                fix="mend the URL",
            ) from error
        if url.drivername in {"postgres", "postgresql"}:
            return url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith("file:"):
            path = self.context.root / url.database
            if not path.is_file():
                raise LnmtError("no such database", where=where, value=path, fix="mend the path of the SQLite file")
            # Read-only, so that no query can change what it reads.
            return url.set(database=f"file:{path}", query={**url.query, "mode": "ro", "uri": "true"})
        return url

    def _read(self, wanted: Wanted) -> Generator[pa.RecordBatch]:
        url = self._url()
        where = url.render_as_string(hide_password=True)
        with (
            _failures(where, self.source.query),
            _connected(url, where) as connection,
            closing(self._rows(connection, where)) as rows,
        ):
            yield from batches_of(rows, wanted, f"{where}: {self.source.query}")

    def _rows(self, connection: Connection, where: str) -> Generator[Row]:
        from sqlalchemy import text

        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(postgresql_readonly=True)
        connection = connection.execution_options(stream_results=True, yield_per=FETCH_ROWS)
        # The query has no parameters: a colon in it is a colon.
        with connection.execute(text(self.source.query.replace(":", r"\:"))) as result:
            if not result.returns_rows:
                raise LnmtError(
                    "the query gives no rows", where=where, value=self.source.query, fix="write a SELECT statement"
                )
            for number, row in enumerate(result.mappings(), start=1):
                yield f"{where}, row {number}", _named(row)


@contextmanager
def _connected(url: URL, where: str) -> Iterator[Connection]:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import NoSuchModuleError, OperationalError
    from sqlalchemy.pool import NullPool

    try:
        connection = create_engine(url, poolclass=NullPool).connect()
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise LnmtError(
            f"the database's driver is not installed: {error}",
            where=where,
            fix="install it; for PostgreSQL: pip install 'lnmt[postgres]'",
        ) from error
    except OperationalError as error:
        raise _no_answer(error, where) from error
    with connection:
        yield connection


@contextmanager
def _failures(where: str, query: str) -> Iterator[None]:
    """What goes wrong while rows are read."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise _no_answer(error, where) from error
        raise LnmtError(
            f"the query failed: {_first_line(error) if isinstance(error, DBAPIError) else error}",
            where=where,
            value=query,
            fix="mend `query`; try it in the database's own shell",
        ) from error


def _no_answer(error: DBAPIError, where: str) -> Transient:
    return Transient(
        f"the database does not answer: {_first_line(error)}",
        where=where,
        fix="check that it runs, its address and the login",
    )


def _named(row: Any) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}


def _first_line(error: DBAPIError) -> str:
    return next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
