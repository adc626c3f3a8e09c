"""The Bento service: BentoML packages it and can serve it; the app inside is ours, and hears every request first.

BentoML answers /livez, /readyz, /healthz, /metrics and / before anything mounted with
`@bentoml.asgi_app`, and puts its metrics, tracing and timeouts around it. `Face` therefore takes
`to_asgi`, which each worker process of `bentoml serve` calls, and hands BentoML only the paths that are its alone.
`lnmt serve` has processes of its own, see lnmt.serving.processes; the app is the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from bentoml import Service

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp

    from lnmt.settings import Settings


class Face(Service):  # type: ignore[misc]
    """A Bento service whose ASGI app is LNMT's, with BentoML's own behind it."""

    def bento_app(self) -> Starlette:
        """BentoML's own app, without ours in front."""
        app: Starlette = super().to_asgi()
        return app

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The worker's app: made in the worker alone, so that the supervisor loads nothing."""
        from lnmt.observability.logging import configure, silence, take_over
        from lnmt.serving.build import build_app
        from lnmt.settings import Settings
        from lnmt.telemetry import quiet

        quiet()
        configure()
        take_over(["bentoml", "uvicorn.error"])
        silence(["uvicorn.access"])  # a line a request, with its query
        packed = None if self.bento is None else Path(self.bento.path_of("src"))
        settings = Settings()
        if packed is not None:
            settings = with_state(settings)
        return build_app(settings, packed or settings.project, host=super().to_asgi(is_main))


def with_state(settings: Settings) -> Settings:
    """Settings of a built bento: BentoML's workers run inside it, and it must stay as it was built.

    Without LNMT_PROJECT and LNMT_STATE, state lives in the user's state directory.
    """
    if {"project", "state"} & settings.model_fields_set:
        return settings
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return settings.model_copy(update={"state": Path(home) / "lnmt"})


@bentoml.service(name="lnmt", service_class=Face, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Lnmt:
    """Text classification by LNMT. The routes are in lnmt/serving/app.py."""

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
    def predict(self, text: str, user: str | None = None) -> dict[str, Any]:
        """Label, scores, version, arm and id of a text; requests of one `user` stay in one arm.

        Declared for BentoML's typed clients, which read it from /schema.json.
        """
        raise AssertionError("the app in front answers this route")
