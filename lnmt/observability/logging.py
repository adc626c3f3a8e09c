"""Logs: one JSON object a line on standard error, whoever writes it.

`configure` is called at the edges (the command, the service); everything else asks for a logger and
passes fields. No field can break its line: JSON escapes CR, LF and control characters.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# Fields that would carry what users sent. Nothing of ours logs them; this holds for plugins too.
WITHHELD = frozenset({"body", "data", "inputs", "text", "texts"})


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send all records, the standard library's too, to `stream` (standard error) as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *_fields()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=True, default=str),
            ],
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


def frames(error: BaseException, last: int = 6) -> list[str]:
    """The innermost `file:line function` of an error: where, without the message, which may quote a request."""
    stack = traceback.extract_tb(error.__traceback__)[-last:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack]


def _fields() -> list[Processor]:
    """What every record gets, and what it loses."""
    return [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _safe_exception,
        _withhold,
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


def _withhold(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in WITHHELD & event.keys():
        event[key] = "[withheld]"
    return event
