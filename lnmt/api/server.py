"""`lnmt.InferenceServer`: a model behind HTTP, from a few lines of Python."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from lnmt.api.config import Config
from lnmt.api.model import Model
from lnmt.errors import LnmtError

NAME = "model"  # of the model in the service's paths: /v2/models/model/infer
FINDER = "lnmt_server_plugins"  # a module that finds plugins where this process finds them


class InferenceServer:
    """Serves a trained text-classification model: the service of `lnmt serve`, as a process of its own.

    `max_batch_size`: texts of one engine call. `dynamic_batching`: the texts of a request run in batches of similar
    lengths; without it, one at a time. `batch_timeout`: milliseconds that a request may be kept waiting for others to
    share its batch. The service keeps none waiting yet (it batches within a request), so every bound is kept, and a
    longer one changes nothing. `port` None: a free one of loopback. State and log go to `directory`, or to a
    temporary one that goes when the server stops.

    >>> server = InferenceServer(
    ...     model=Model.load("models/mood"), max_batch_size=32, batch_timeout=10, dynamic_batching=True
    ... )
    >>> with server:  # start() and stop()
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        model: Model,
        max_batch_size: int = 32,
        batch_timeout: float = 10,
        dynamic_batching: bool = True,
        *,
        directory: str | Path | None = None,
    ) -> None:
        for name, value, least in (("max_batch_size", max_batch_size, 1), ("batch_timeout", batch_timeout, 0)):
            if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
                raise LnmtError(
                    f"{name} is too small", where="lnmt.InferenceServer", value=value, allowed=f"at least {least}"
                )
        self.model = model
        self.max_batch_size = max_batch_size
        self.batch_timeout = batch_timeout
        self.dynamic_batching = dynamic_batching
        self._directory = None if directory is None else Path(directory)
        self._running: ExitStack | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Where it answers. Raises LnmtError where it is not running."""
        if self._running is None:
            raise LnmtError("the server is not running", where="lnmt.InferenceServer", fix="call start()")
        return self._url

    def start(self, timeout_s: float = 120.0) -> str:
        """Start it and wait until it is ready; gives the URL. Ask it with `lnmt.client.Client`, or anything that speaks
        HTTP. Raises LnmtError, with the end of its log, where it does not become ready.
        """
        if self._running is not None:
            return self._url
        from lnmt.bundles.packed import pack_champion
        from lnmt.bundles.served import check_served
        from lnmt.serving.server import running_service
        from lnmt.settings import Settings

        bundle = check_served(self.model.trained)
        with ExitStack() as stack:
            root = self._directory
            if root is None:
                root = Path(tempfile.mkdtemp(prefix="lnmt-server-"))
                stack.callback(shutil.rmtree, root, ignore_errors=True)
            root = root.absolute()
            root.mkdir(parents=True, exist_ok=True)
            stack.callback(_forget, root)
            pack_champion(bundle, root)
            Config().update(
                name=NAME, plugins=_write_plugins(bundle.manifest.model, bundle.manifest.processors, root)
            ).save(root / "params.yaml")
            settings = Settings(
                project=root,
                state=root / ".lnmt",
                # said outright: what the environment names is another service's
                database=f"sqlite:///{root / '.lnmt' / 'lnmt.db'}",
                tracking=f"sqlite:///{root / '.lnmt' / 'mlflow.db'}",
                max_batch_size=self.max_batch_size if self.dynamic_batching else 1,
            )
            self._url = stack.enter_context(running_service(settings, name=NAME, timeout_s=timeout_s))
            self._running = stack.pop_all()
            weakref.finalize(self, self._running.close)
        return self._url

    def stop(self) -> None:
        """Finish what was accepted, then end every process of it. Nothing where it is not running."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _write_plugins(model: dict[str, object], processors: object, root: Path) -> list[str]:
    """What params.yaml must name for the service to know the model's plugins.

    Modules of this process, with a module beside params.yaml that finds them where they are found here. Plugins of
    installed packages are found by themselves; of `__main__` there is nothing that another process could import.
    """
    from lnmt.models import MODELS
    from lnmt.text.processors import PROCESSORS

    kinds: list[object] = [MODELS.get(str(model["name"]))]
    kinds += [PROCESSORS.get(plugin.name) for plugin in processors]  # type: ignore[attr-defined]
    modules = sorted({str(getattr(kind, "__module__", "")) for kind in kinds})
    own = [name for name in modules if not name.startswith("lnmt.")]
    if not own:
        return []
    if "__main__" in own:
        raise LnmtError(
            "a plugin that stands in the script itself cannot be served",
            where="__main__",
            fix="put it into a module of its own, and import that",
        )
    places = list(dict.fromkeys(str(Path(entry or ".").absolute()) for entry in sys.path))
    text = f"import sys\n\nPLACES = {places!r}\nsys.path[:0] = [place for place in PLACES if place not in sys.path]\n"
    (root / f"{FINDER}.py").write_text(text, encoding="utf-8")
    return [FINDER, *own]


def _forget(root: Path) -> None:
    """Starting the service looks its plugins up here first: what that left behind goes."""
    sys.modules.pop(FINDER, None)
    if str(root) in sys.path:
        sys.path.remove(str(root))
