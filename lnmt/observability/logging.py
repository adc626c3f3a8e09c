"""Logs: one JSON object a line on standard error, whoever writes it.

`configure` is called at the edges (the command, the service); everything else asks for a logger and
passes fields. No field can break its line: what is not printable ASCII is escaped, and what is no JSON
value becomes text (lnmt/observability/plain.py).
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from lnmt.errors import LnmtError
from lnmt.observability.plain import plain


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send all records, the standard library's too, to `stream` (standard error) as JSON lines."""
    handler = _Lines(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _uncoloured, *_fields()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _line],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def take_over(names: Sequence[str]) -> None:
    """Send the named loggers of libraries, which came with handlers of their own, to ours."""
    for name in names:
        library = logging.getLogger(name)
        library.handlers[:] = []
        library.propagate = True
        library.disabled = False


def silence(names: Sequence[str]) -> None:
    """Leave out what the named loggers say below a warning."""
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `log.info("bundle loaded", digest=…)`. Quiet below a warning until `configure`."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            *_fields(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger


class FailureLog:
    """Logs a failure once for as long as it stays the same: for what is tried again and again."""

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        self._log = log
        self._last: str | None = None

    def failed(self, what: str, error: Exception) -> None:
        """It failed at `what`; said unless it was said last."""
        if self._last == (failure := f"{what}: {type(error).__name__}: {error}"):
            return
        self._last = failure
        if isinstance(error, LnmtError):
            self._log.error(what, error=error.what, where=str(error.where), fix=error.fix)
        else:
            self._log.error(what, exc_info=error)

    def went_well(self) -> bool:
        """It did not fail this time. True where it had before: the time to say so."""
        had, self._last = self._last is not None, None
        return had


def frames(error: BaseException, last: int = 6) -> list[str]:
    """The innermost `file:line function` of an error: where, without the message, which may quote a request."""
    stack = traceback.extract_tb(error.__traceback__)[-last:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack]


class _Lines(logging.StreamHandler[TextIO]):
    """A record that cannot be written is told in a line as well, without its values.

    The standard library would print a traceback and the record's arguments, in many lines.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the standard library's name
        told = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": "error",
            "logger": record.name,
            "event": "a log record could not be written",
            "error": type(sys.exc_info()[1]).__name__,
            "where": f"{record.pathname}:{record.lineno}",
        }
        with contextlib.suppress(Exception):  # the stream itself is gone
            self.stream.write(_dump(told) + self.terminator)
            self.flush()


def _fields() -> list[Processor]:
    """What every record gets."""
    return [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _safe_exception,
    ]


def _safe_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """`exc_info` → the error's type and frames."""
    info: Any = event.pop("exc_info", None)
    if info:
        error = info[1] if isinstance(info, tuple) else info if isinstance(info, BaseException) else sys.exc_info()[1]
        if error is not None:
            event["error"] = type(error).__name__
            event["frames"] = frames(error)
    return event


def _uncoloured(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Without uvicorn's second copy of the event, which has a terminal's colours."""
    event.pop("color_message", None)
    return event


def _line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _dump(event)


def _dump(fields: EventDict | dict[str, Any]) -> str:
    return json.dumps(plain(fields), ensure_ascii=True, allow_nan=False)
