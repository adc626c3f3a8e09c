"""An HTTP API that gives JSON page by page."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pyarrow as pa

from lnmt.data.sources.rows import Row, batches_of
from lnmt.data.sources.secrets import reveal
from lnmt.data.sources.source import Context, Part, Wanted
from lnmt.errors import LnmtError, Transient
from lnmt.params import HttpSource

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 5
MAX_WAIT_S = 60.0


@dataclass(frozen=True)
class HttpReader:
    """The `http` source."""

    source: HttpSource
    slices: Sequence[str]
    context: Context
    sleep: Callable[[float], None] = time.sleep

    def parts(self) -> Iterator[Part]:
        yield Part(
            name=_shown(self.source.url),
            prefix="-".join(self.source.set.values()) or "http",
            digest=None,
            wanted=Wanted(self.source.columns, self.slices, self.source.set),
            read=self._read,
        )

    def _read(self, wanted: Wanted) -> Generator[pa.RecordBatch]:
        yield from batches_of(self._rows(), wanted, _shown(self.source.url))

    def _rows(self) -> Iterator[Row]:
        import httpx

        if self.context.offline:
            raise LnmtError(
                "LNMT is offline", where=_shown(self.source.url), fix="unset LNMT_OFFLINE, or save the rows as a file"
            )
        secrets = {
            name: reveal(value, f"ingest.sources: headers.{name}") for name, value in self.source.headers.items()
        }
        with httpx.Client(headers={"Accept": "application/json", **secrets}, timeout=self.source.timeout_s) as client:
            url: str | None = self.source.url
            seen: set[str] = set()
            while url is not None:
                if url in seen:
                    raise LnmtError("the pages go in a circle", where=_shown(url), fix="mend `next`")
                seen.add(url)
                page = self._get(client, url)
                items = _at(page, self.source.items, url, "items")
                if not isinstance(items, list):
                    raise _misfit(url, "items", self.source.items, items, "a list of objects")
                for number, item in enumerate(items, start=1):
                    if not isinstance(item, dict):
                        raise _misfit(url, f"item {number}", self.source.items, item, "an object")
                    yield f"{_shown(url)}, item {number}", item
                url = self._next(page, url)

    def _next(self, page: Any, url: str) -> str | None:
        """The next page's address; None after the last."""
        import httpx

        if self.source.next is None:
            return None
        following = _at(page, self.source.next, url, "next", may_lack=True)
        if following is None or following == "":
            return None
        if self.source.cursor_parameter is not None:
            return str(httpx.URL(self.source.url).copy_merge_params({self.source.cursor_parameter: following}))
        if not isinstance(following, str):
            raise _misfit(url, "next", self.source.next, following, "a URL; for a cursor set `cursor_parameter`")
        absolute = urljoin(url, following)
        if urlsplit(absolute)[:2] != urlsplit(self.source.url)[:2]:
            # Our headers may hold a key, which another host must not see.
            raise LnmtError(
                "the next page is on another host",
                where=_shown(url),
                value=_shown(absolute),
                allowed="{}://{}".format(*urlsplit(self.source.url)[:2]),
                fix="name that host in `url`, if you trust it",
            )
        return absolute

    def _get(self, client: httpx.Client, url: str) -> Any:
        """The page's JSON. Asks again where the server is busy or the line breaks; Retry-After is kept."""
        import httpx

        problem = ""
        for attempt in range(ATTEMPTS):
            wait = min(MAX_WAIT_S, 0.5 * 2**attempt)
            try:
                response = client.get(url)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == 200:
                    return _json(response, url)
                if response.status_code != 429 and response.status_code < 500:
                    raise LnmtError(
                        f"the API answers {response.status_code} {response.reason_phrase}",
                        where=_shown(url),
                        value=response.headers.get("location") or response.text[:200] or None,
                        allowed="200",
                        fix="mend `url`, or `headers` where a key is asked for",
                    )
                problem = f"{response.status_code} {response.reason_phrase}"
                wait = _retry_after(response.headers.get("Retry-After"), wait)
            if attempt + 1 < ATTEMPTS:
                self.sleep(wait)
        raise Transient(
            f"the API gave no answer in {ATTEMPTS} attempts: {problem}", where=_shown(url), fix="run again later"
        )


def _json(response: httpx.Response, url: str) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise LnmtError(
            f"the API's answer is not JSON: {error}",
            where=_shown(url),
            value=repr(response.content[:80]),
            fix="mend `url`: it must give JSON",
        ) from error


def _retry_after(header: str | None, otherwise: float) -> float:
    """Seconds, from the header's number or date (RFC 9110 §10.2.3); at most MAX_WAIT_S."""
    if header is None:
        return otherwise
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return otherwise
    return min(MAX_WAIT_S, max(0.0, seconds))


def _at(page: Any, path: str | None, url: str, what: str, *, may_lack: bool = False) -> Any:
    """The value at a dotted path; None is the page itself."""
    value = page
    for name in path.split(".") if path is not None else ():
        if not isinstance(value, dict) or name not in value:
            if may_lack and (value is None or isinstance(value, dict)):
                return None
            found = ", ".join(value) if isinstance(value, dict) else type(value).__name__
            raise LnmtError(f"no {name!r} in the page", where=_shown(url), value=found, fix=f"mend `{what}`: {path}")
        value = value[name]
    return value


def _misfit(url: str, what: str, path: str | None, value: Any, allowed: str) -> LnmtError:
    return LnmtError(
        f"{what} is {type(value).__name__}",
        where=_shown(url),
        value=repr(value)[:80],
        allowed=allowed,
        fix=f"mend `items` or `next` (now {path})",
    )


def _shown(url: str) -> str:
    """Without login and query, which may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
