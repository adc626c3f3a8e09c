"""Where LNMT runs, and its secrets: environment variables `LNMT_*`. Read at the edges, passed down.

Changing one of these never reruns a stage; what changes an artifact stands in `params.yaml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lnmt.errors import LnmtError


class Settings(BaseSettings):
    """Every setting, with the environment variable `LNMT_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="LNMT_", frozen=True, extra="ignore")

    project: Path = Field(default_factory=Path.cwd, description="directory of params.yaml")
    state: Path | None = Field(None, description="live state and work files; default PROJECT/.lnmt")
    cache: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "lnmt", description="downloads, kept by digest"
    )
    database: str | None = Field(
        None, description="SQLAlchemy URL of deployments and the events' index; default SQLite in the state directory"
    )
    tracking: str | None = Field(None, description="MLflow tracking URI; default SQLite in the state directory")
    store_text: bool = Field(False, description="keep the text of requests in the prediction store")
    host: str = Field("127.0.0.1", description="address the service listens on")
    port: int = Field(3000, description="port the service listens on", ge=0, le=65535)
    auth: bool | None = Field(None, description="ask every caller for an API key; default on any address but loopback")
    pepper: str | None = Field(
        None, description="secret of the API keys, the newest first; default the state directory's", repr=False
    )
    rate: float | None = Field(None, description="requests per second of one key; default no limit", gt=0)
    rate_burst: float | None = Field(None, description="requests of one key at once; default one second's worth", ge=1)
    rate_store: str | None = Field(
        None, description="memory, sqlite:///PATH or redis://… that counts requests; default the state directory"
    )
    tls_certificate: Path | None = Field(None, description="PEM file of the service's certificate and its chain")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key")
    workers: int | None = Field(None, description="processes of the service; default as suits the cores", ge=1)
    threads: int | None = Field(None, description="threads of one engine; default one per core", ge=1)
    drain_s: float = Field(5.0, description="seconds that a service still answers after SIGTERM", ge=0, le=20)
    max_batch_size: int = Field(32, description="texts of one engine call in the service", ge=1)
    max_batch_tokens: int = Field(8192, description="tokens of one engine call, padding included", ge=1)
    max_latency_ms: float = Field(5.0, description="longest time an idle engine waits for more texts, in ms", ge=0)
    max_waiting_rows: int = Field(1024, description="texts that may wait for one engine; beyond: 429", ge=1)
    max_queue_ms: float = Field(
        1000.0, description="longest expected wait for one engine, in ms; beyond: 429 already", gt=0
    )
    request_timeout_s: float = Field(30.0, description="longest time for one request, in seconds", gt=0)
    response_cache: str | None = Field(None, description="memory or redis://… that keeps answers; default no cache")
    response_cache_bytes: int = Field(64 * 2**20, description="bytes of answers that a worker's memory keeps", ge=1024)
    response_cache_s: float = Field(3600.0, description="seconds for which Redis keeps an answer", gt=0)
    events_days: float | None = Field(None, description="days for which predictions are kept; default for ever", gt=0)
    core_hour_price: float = Field(0.0, description="money for an hour of one core, for the cost in /metrics", ge=0)
    model_bytes: int | None = Field(
        None, description="bytes of models loaded beside the project's own; default no bound", ge=0
    )
    idle_s: float | None = Field(
        None, description="unload a model beside the project's own after so many idle seconds; default never", gt=0
    )
    profile_steps: int | None = Field(
        None, description="profile so many training steps; table and trace below logs/train/profile of the state", ge=1
    )
    tuning: str | None = Field(
        None, description="SQLAlchemy URL of the studies of `lnmt tune`; default SQLite in the state directory"
    )
    offline: bool = Field(False, description="fetch nothing; use the cache alone")

    @property
    def state_dir(self) -> Path:
        """Live state: `lnmt.db`, `mlflow.db`, `bundles/`, `events/`, `progress/`, `work/`."""
        return (self.state or self.project / ".lnmt").absolute()

    @property
    def database_url(self) -> str:
        """Deployments, keys and the events' index."""
        return self.database or f"sqlite:///{self.state_dir / 'lnmt.db'}"

    @property
    def tracking_uri(self) -> str:
        """MLflow's database."""
        return self.tracking or f"sqlite:///{self.state_dir / 'mlflow.db'}"

    @property
    def tuning_url(self) -> str:
        """The studies of `lnmt tune`."""
        return self.tuning or f"sqlite:///{self.state_dir / 'tune.db'}"

    @property
    def bundles_dir(self) -> Path:
        """The content-addressed bundle store."""
        return self.state_dir / "bundles"

    @property
    def events_dir(self) -> Path:
        """The prediction events' spool."""
        return self.state_dir / "events"


def find_project(start: Path) -> Path:
    """The nearest directory at or above `start` that holds a params.yaml."""
    for directory in (start.absolute(), *start.absolute().parents):
        if (directory / "params.yaml").is_file():
            return directory
    raise LnmtError(
        "no params.yaml here or above",
        where=start.absolute(),
        fix="change into a project, or make one: lnmt init DIRECTORY",
    )


def load_settings(project: Path | None = None, **flags: Any) -> Settings:
    """The settings of this process: `flags`, then the environment, then the project's `lnmt.env`.

    The project is the one named here, by LNMT_PROJECT, or the nearest one above the working directory.
    """
    try:
        if project is None:
            settings = Settings(**flags)
            project = settings.project if "project" in settings.model_fields_set else find_project(Path.cwd())
        project = project.absolute()
        return Settings(_env_file=project / "lnmt.env", **{**flags, "project": project})
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        raise LnmtError(
            f"a setting does not fit: {problem['msg']}",
            where=f"environment variable LNMT_{name.upper()}, lnmt.env, or --{name}",
            value=problem["input"],
            fix=f"it is: {Settings.model_fields[name].description}",
        ) from error
