"""START HERE for the service: its routes as a table, each handler a few lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Protocol

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
from lnmt.observability.tracing import process_tracing
from lnmt.security.roles import Action
from lnmt.serving.admission import Admission
from lnmt.serving.answers import Answer
from lnmt.serving.cached import Call
from lnmt.serving.catalogue import Catalogue
from lnmt.serving.core import arm_of
from lnmt.serving.deadline import deadline, gone
from lnmt.serving.forms import read_form
from lnmt.serving.guard import Guard
from lnmt.serving.inference_protocol import INFER, infer_body, model_metadata, parse_infer
from lnmt.serving.lifecycle import Lifecycle
from lnmt.serving.limits import Limits
from lnmt.serving.live import Snapshot
from lnmt.serving.openapi import document
from lnmt.serving.predictions import Predictions
from lnmt.serving.problems import Problem, json_response
from lnmt.serving.requests import FEEDBACK, PREDICT, parse_predict
from lnmt.types import Arm

DRAIN_S = 20.0
PRINCIPAL = "lnmt.principal"  # in a request's scope
PREDICTION_ID, ARM = "x-lnmt-prediction-id", "x-lnmt-arm"
# The page loads nothing from elsewhere, and may talk to this service alone.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"

Endpoint = Callable[[Request], Awaitable[Response]]


class Background(Protocol):
    """What runs beside the service: a thread that starts and ends with it."""

    def start(self) -> None:
        """Begin; returns at once."""

    def stop(self, timeout_s: float) -> None:
        """End; blocking, about so long at most."""


@dataclass(frozen=True)
class Handlers:
    """The endpoints. Errors are raised as Problem; the Guard makes replies of them."""

    catalogue: Catalogue
    predictions: Predictions
    limits: Limits
    admission: Admission
    lifecycle: Lifecycle
    checks: Sequence[Callable[[], None]] = ()  # each raises Problem where the service is not ready

    def check_ready(self) -> Snapshot:
        """What is live. Raises Problem 503 where this process should get no new traffic."""
        for check in self.checks:
            check()
        return self.catalogue.own.snapshot()

    async def predict(self, request: Request) -> Response:
        """POST /predict: a text or a list → label, scores, version, arm, prediction id of each."""
        call = self._call(request)
        wanted = parse_predict(await read_form(request, PREDICT, self.limits), self.limits)
        answers = await self.catalogue.own.predict(wanted.texts, wanted.user, call)
        if wanted.listed:
            return json_response([answer.body() for answer in answers], headers=_trace(answers))
        return json_response(answers[0].body(), 200 if answers[0].error is None else 500, _trace(answers))

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/{name}[/versions/{version}]/infer: the Open Inference Protocol."""
        call = self._call(request)
        wanted = parse_infer(await read_form(request, INFER, self.limits), self.limits)
        core = await self.catalogue.core(request.path_params["name"], call.deadline)
        answers = await core.predict(wanted.texts, wanted.user, call, request.path_params.get("version"))
        try:
            return json_response(infer_body(core.name, wanted, answers), headers=_trace(answers))
        except Problem as problem:
            problem.headers.update(_trace(answers))
            raise

    async def feedback(self, request: Request) -> Response:
        """POST /feedback: the true label of a prediction."""
        told = await read_form(request, FEEDBACK, self.limits)
        known = id_time(told.prediction_id) is not None and await run_in_threadpool(
            self.predictions.feedback, told.prediction_id, told.label
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
        self.catalogue.own.snapshot()
        return json_response({"ready": True})

    async def model(self, request: Request) -> Response:
        """GET /v2/models/{name}[/versions/{version}]: without a version, of the champion."""
        core = await self.catalogue.core(request.path_params["name"], self._call(request).deadline)
        snapshot, version = core.snapshot(), request.path_params.get("version")
        arm: Arm = "champion" if version is None else arm_of(snapshot.deployment, version)
        manifest = snapshot.batcher(arm).predictor.bundle.manifest
        return json_response(model_metadata(core.name, list(snapshot.deployment.arms), manifest))

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/{name}[/versions/{version}]/ready."""
        name, version = request.path_params["name"], request.path_params.get("version")
        snapshot = self.catalogue.loaded(name).snapshot()
        if version is not None:
            arm_of(snapshot.deployment, version)
        return json_response({"name": name, "ready": True})

    async def models(self, request: Request) -> Response:
        """GET /models: every model that is loaded or could be."""
        listed = await run_in_threadpool(self.catalogue.listed)
        return json_response({"models": [asdict(model) for model in listed]})

    async def load(self, request: Request) -> Response:
        """POST /models/{name}/load: load it now; replies when it is ready."""
        name = request.path_params["name"]
        await self.catalogue.load(name)
        return json_response({"name": name, "state": "ready"})

    async def unload(self, request: Request) -> Response:
        """POST /models/{name}/unload: finish what it accepted, and give its memory back until it is loaded again."""
        name = request.path_params["name"]
        await run_in_threadpool(self.catalogue.unload, name)
        return json_response({"name": name, "state": "unloaded"})

    async def alive(self, request: Request) -> Response:
        """GET /livez, /healthz: the process answers; nothing else is asked."""
        return json_response({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """GET /readyz, /health: a model is loaded and warm, and which; the workers there are, and should be."""
        if self.lifecycle.draining:
            fix = "send requests elsewhere; what was accepted is finished"
            raise Problem(503, "stopping", where="service", fix=fix, headers={"Retry-After": "1"})
        deployment = self.check_ready().deployment
        ready, wanted = self.lifecycle.workers()
        return json_response(
            {
                "status": "ready",
                "model": deployment.name,
                "generation": deployment.generation,
                "phase": deployment.phase,
                "champion": deployment.champion,
                "challenger": deployment.challenger,
                "share": deployment.share,
                "workers": {"ready": ready, "wanted": wanted},
            }
        )

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: Prometheus text."""
        return Response(await run_in_threadpool(self.catalogue.own.metrics.render), media_type=CONTENT_TYPE)

    async def page(self, request: Request) -> Response:
        """GET /, /docs: try a prediction, read the routes; works offline."""
        content = files("lnmt.serving").joinpath("page.html").read_text(encoding="utf-8")
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        return json_response(document(self.catalogue.default, self.limits))

    def table(self) -> list[tuple[str, str, Action, Endpoint]]:
        """Every route: method, path, the action that its caller must be allowed, who answers."""
        return [
            ("POST", "/predict", "predict", self.predict),
            ("POST", "/feedback", "feedback", self.feedback),
            ("POST", "/v2/models/{name}/infer", "predict", self.infer),
            ("GET", "/v2/models/{name}/ready", "public", self.model_ready),
            ("GET", "/v2/models/{name}", "read", self.model),
            ("POST", "/v2/models/{name}/versions/{version}/infer", "predict", self.infer),
            ("GET", "/v2/models/{name}/versions/{version}/ready", "public", self.model_ready),
            ("GET", "/v2/models/{name}/versions/{version}", "read", self.model),
            ("GET", "/v2/health/live", "public", self.server_live),
            ("GET", "/v2/health/ready", "public", self.server_ready),
            ("GET", "/v2", "public", self.server),
            ("GET", "/models", "read", self.models),
            ("POST", "/models/{name}/load", "manage", self.load),
            ("POST", "/models/{name}/unload", "manage", self.unload),
            ("GET", "/livez", "public", self.alive),
            ("GET", "/healthz", "public", self.alive),
            ("GET", "/readyz", "public", self.ready),
            ("GET", "/health", "public", self.ready),
            ("GET", "/metrics", "observe", self.metrics),
            ("GET", "/openapi.json", "public", self.openapi),
            ("GET", "/docs", "public", self.page),
            ("GET", "/", "public", self.page),
        ]

    def routes(self) -> list[Route]:
        """The table, behind admission."""
        return [
            Route(path, self._admitted(action, handler), methods=[method])
            for method, path, action, handler in self.table()
        ]

    def _admitted(self, action: Action, handler: Endpoint) -> Endpoint:
        """The handler behind admission: a function of its own for each route, so that a request's scope names one."""

        async def admitted(request: Request) -> Response:
            request.scope[PRINCIPAL] = await self.admission.admit(request.scope, action)
            return await handler(request)

        return admitted

    def _call(self, request: Request) -> Call:
        """Who asks, and until when."""
        scope = request.scope
        return Call(scope[PRINCIPAL].id, deadline(scope, self.limits.timeout_s), gone(scope))


def create_app(
    handlers: Handlers,
    *,
    background: Sequence[Background] = (),
    closing: Sequence[Callable[[], Awaitable[None]]] = (),
    host: Starlette | None = None,
) -> ASGIApp:
    """The service as one ASGI app. Its start begins to load, and what runs in the `background`; its end drains.

    `closing`: what lets go of connections at the very end.
    `host` (BentoML's own app) starts and ends with it, and gets the paths that it has and we do not.
    """
    catalogue, metrics = handlers.catalogue, handlers.catalogue.own.metrics
    routes = handlers.routes()

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        for part in background:
            part.start()
        catalogue.start()
        try:
            async with AsyncExitStack() as stack:
                if host is not None:
                    await stack.enter_async_context(host.router.lifespan_context(host))
                yield
        finally:
            await run_in_threadpool(catalogue.close, DRAIN_S)
            for part in background:
                await run_in_threadpool(part.stop, DRAIN_S)
            for close in closing:
                await close()
            metrics.close()
            await run_in_threadpool(process_tracing().close)

    async def unmatched(scope: Scope, receive: Receive, send: Send) -> None:
        if host is None or all(route.matches(scope)[0] == Match.NONE for route in host.routes):
            raise HTTPException(404, "no such route")
        await host(scope, receive, send)

    router = Router(routes, redirect_slashes=False, default=unmatched, lifespan=lifespan)

    # A route without parameters is found by its path alone: Starlette's way there is a tenth of a request's cost here.
    plain = [route for route in routes if "{" not in route.path]
    direct = {(method, route.path): route.endpoint for route in plain for method in route.methods or ()}

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = router  # so the router raises 404 and 405, which the Guard answers
        endpoint = None
        if scope["type"] == "http" and not scope.get("root_path"):
            endpoint = direct.get((scope["method"], scope["path"]))
        if endpoint is None:
            if scope.get("path", "").endswith("\n"):  # Starlette's patterns end with `$`, which matches before it too
                raise HTTPException(404, "no such route")
            await router(scope, receive, send)
            return
        scope["endpoint"], scope["path_params"] = endpoint, {}
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    templates = {route.endpoint: route.path for route in routes}
    return Guard(
        routed,
        body_bytes=handlers.limits.body_bytes,
        metrics=metrics,
        templates=templates,
        lifecycle=handlers.lifecycle,
    )


def _trace(answers: Sequence[Answer]) -> dict[str, str]:
    """Headers: the id of the first text (a list's rows carry theirs in the body), and the arm of all."""
    return {PREDICTION_ID: answers[0].prediction_id, ARM: answers[0].arm}
