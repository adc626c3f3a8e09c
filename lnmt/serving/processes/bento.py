"""BentoML's own app behind ours in a worker of `lnmt serve`: the same paths as under `bentoml serve`, loaded late.

Most services are never asked for one of them, and BentoML is a large part of a worker's time to start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

# What BentoML serves and we do not: the description that its client reads, and what its page loads.
PATHS = ("/schema.json", "/docs.json", "/static_content/{rest:path}")


def late_bento() -> Starlette:
    """An app with BentoML's paths, which makes BentoML's app when one of them is asked for first."""
    late = _Late()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await late.close()

    return Starlette(routes=[Route(path, late) for path in PATHS], lifespan=lifespan)


class _Late:
    """An ASGI app that is made by its first request, beside the event loop."""

    def __init__(self) -> None:
        self._app: Starlette | None = None
        self._stack = AsyncExitStack()
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._one_at_a_time:
            if self._app is None:
                app = await run_in_threadpool(_load)
                await self._stack.enter_async_context(app.router.lifespan_context(app))
                self._app = app
        await self._app(scope, receive, send)

    async def close(self) -> None:
        """End BentoML's part, where it was begun."""
        await self._stack.aclose()


def _load() -> Starlette:
    from lnmt.observability.logging import take_over
    from lnmt.serving.service import Face, Lnmt

    app = cast("Face", Lnmt).bento_app()
    take_over(["bentoml"])
    return app
