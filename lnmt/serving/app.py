"""START HERE for the service: its routes as a table, each handler a few lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

import lnmt
from lnmt.monitoring.events import id_time
from lnmt.observability.metrics import CONTENT_TYPE
from lnmt.serving.core import Answer, Core
from lnmt.serving.guard import Guard
from lnmt.serving.inference_protocol import FIELDS, infer_body, model_metadata, parse_infer
from lnmt.serving.limits import Limits
from lnmt.serving.live import Watcher
from lnmt.serving.openapi import document
from lnmt.serving.problems import Problem, json_response
from lnmt.serving.requests import parse_feedback, parse_predict, read_object

DRAIN_S = 20.0
PREDICTION_ID, ARM = "x-lnmt-prediction-id", "x-lnmt-arm"
# The page loads nothing from elsewhere, and may talk to this service alone.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


@dataclass(frozen=True)
class Handlers:
    """The endpoints. Errors are raised as Problem; the Guard makes replies of them."""

    core: Core
    limits: Limits

    async def predict(self, request: Request) -> Response:
        """POST /predict: a text or a list → label, scores, version, arm, prediction id of each."""
        wanted = parse_predict(await read_object(request, ("text", "user")), self.limits)
        answers = await self.core.predict(wanted.texts, wanted.user)
        if wanted.listed:
            return json_response([answer.body() for answer in answers], headers=_trace(answers))
        return json_response(answers[0].body(), 200 if answers[0].error is None else 500, _trace(answers))

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/{name}/infer: the Open Inference Protocol."""
        self._known_model(request)
        wanted = parse_infer(await read_object(request, FIELDS), self.limits)
        answers = await self.core.predict(wanted.texts, wanted.user)
        try:
            return json_response(infer_body(self.core.name, wanted, answers), headers=_trace(answers))
        except Problem as problem:
            problem.headers.update(_trace(answers))
            raise

    async def feedback(self, request: Request) -> Response:
        """POST /feedback: the true label of a prediction."""
        told = parse_feedback(await read_object(request, ("prediction_id", "label")))
        known = id_time(told.prediction_id) is not None and await run_in_threadpool(
            self.core.feedback, told.prediction_id, told.label
        )
        if not known:
            fix = f"send the {PREDICTION_ID} of a reply of this service"
            raise Problem(404, "no such prediction", where="prediction_id", fix=fix)
        return json_response({"prediction_id": told.prediction_id, "label": told.label})

    async def server(self, request: Request) -> Response:
        """GET /v2."""
        return json_response({"name": "lnmt", "version": lnmt.__version__, "extensions": []})

    async def server_live(self, request: Request) -> Response:
        """GET /v2/health/live."""
        return json_response({"live": True})

    async def server_ready(self, request: Request) -> Response:
        """GET /v2/health/ready."""
        self.core.snapshot()
        return json_response({"ready": True})

    async def model(self, request: Request) -> Response:
        """GET /v2/models/{name}."""
        self._known_model(request)
        snapshot = self.core.snapshot()
        manifest = snapshot.worker("champion").predictor.bundle.manifest
        versions = [digest for digest in (snapshot.deployment.champion, snapshot.deployment.challenger) if digest]
        return json_response(model_metadata(self.core.name, versions, manifest))

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/{name}/ready."""
        self._known_model(request)
        self.core.snapshot()
        return json_response({"name": self.core.name, "ready": True})

    async def alive(self, request: Request) -> Response:
        """GET /livez, /healthz: the process answers; nothing else is asked."""
        return json_response({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """GET /readyz, /health: a model is loaded and warm; and which."""
        deployment = self.core.snapshot().deployment
        return json_response(
            {
                "status": "ready",
                "model": deployment.name,
                "generation": deployment.generation,
                "phase": deployment.phase,
                "champion": deployment.champion,
                "challenger": deployment.challenger,
                "share": deployment.share,
            }
        )

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: Prometheus text."""
        return Response(await run_in_threadpool(self.core.metrics.render), media_type=CONTENT_TYPE)

    async def page(self, request: Request) -> Response:
        """GET /, /docs: try a prediction, read the routes; works offline."""
        content = files("lnmt.serving").joinpath("page.html").read_text(encoding="utf-8")
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        return json_response(document(self.core.name, self.limits))

    def routes(self) -> list[Route]:
        """Every route of the service."""
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("POST", "/predict", self.predict),
            ("POST", "/feedback", self.feedback),
            ("POST", "/v2/models/{name}/infer", self.infer),
            ("GET", "/v2/models/{name}/ready", self.model_ready),
            ("GET", "/v2/models/{name}", self.model),
            ("GET", "/v2/health/live", self.server_live),
            ("GET", "/v2/health/ready", self.server_ready),
            ("GET", "/v2", self.server),
            ("GET", "/livez", self.alive),
            ("GET", "/healthz", self.alive),
            ("GET", "/readyz", self.ready),
            ("GET", "/health", self.ready),
            ("GET", "/metrics", self.metrics),
            ("GET", "/openapi.json", self.openapi),
            ("GET", "/docs", self.page),
            ("GET", "/", self.page),
        ]
        # a partial each: what the Guard finds in a request's scope then names one route
        return [Route(path, partial(handler), methods=[method]) for method, path, handler in table]

    def _known_model(self, request: Request) -> None:
        if request.path_params["name"] != self.core.name:
            fix = f"ask for {self.core.name!r}"
            raise Problem(404, "unknown model", where="name in the path", allowed=self.core.name, fix=fix)


def create_app(core: Core, watcher: Watcher, limits: Limits, *, host: Starlette | None = None) -> ASGIApp:
    """The service as one ASGI app. Its start begins the watcher; its end drains.

    `host` (BentoML's own app) starts and ends with it, and gets the paths that it has and we do not.
    """
    routes = Handlers(core, limits).routes()

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        watcher.start()
        try:
            async with AsyncExitStack() as stack:
                if host is not None:
                    await stack.enter_async_context(host.router.lifespan_context(host))
                yield
        finally:
            await run_in_threadpool(watcher.stop, DRAIN_S)
            await run_in_threadpool(core.live.close, DRAIN_S)
            core.close()

    async def unmatched(scope: Scope, receive: Receive, send: Send) -> None:
        if host is None or all(route.matches(scope)[0] == Match.NONE for route in host.routes):
            raise HTTPException(404, "no such route")
        await host(scope, receive, send)

    router = Router(routes, redirect_slashes=False, default=unmatched, lifespan=lifespan)

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = router  # so the router raises 404 and 405, which the Guard answers
        await router(scope, receive, send)

    templates = {route.endpoint: route.path for route in routes}
    return Guard(routed, body_bytes=limits.body_bytes, metrics=core.metrics, templates=templates)


def _trace(answers: Sequence[Answer]) -> dict[str, str]:
    """Headers: the id of the first text (a list's rows carry theirs in the body), and the arm of all."""
    return {PREDICTION_ID: answers[0].prediction_id, ARM: answers[0].arm}
