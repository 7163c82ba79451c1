"""Set up OpenTelemetry tracing from the environment, for the processes that jobfn starts. Needs the ``otel`` extra.

``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``) enables it; OpenTelemetry's other variables
work as documented there. An app that runs under the user's own server sets its tracer provider itself, and
``tracing.py`` uses that.
"""

import sys
from collections.abc import Mapping

from jobfn.install import install_command
from jobfn.telemetry import logs

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SUPPORTED_PROTOCOL = "http/protobuf"


def is_tracing_requested(environ: Mapping[str, str]) -> bool:
    """Return whether the environment enables traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter:
        return exporter == "otlp"
    return any(environ.get(name) for name in _ENDPOINTS)


def configure(environ: Mapping[str, str], *, role: str) -> bool:
    """Set this process's tracer provider if the environment enables traces. Call it once, at the start.

    Spans are sent in batches by a background thread; ``flush`` sends the rest.

    Args:
        environ: Environment, for example ``os.environ``.
        role: Service name if neither ``OTEL_SERVICE_NAME`` nor ``K_SERVICE`` is set.

    Returns:
        Whether traces are sent. If they are enabled but cannot be sent, a warning says what to do and the process
        starts: these variables are often set for a whole cluster, including images without the extra.
    """
    if not is_tracing_requested(environ):
        return False
    log = logs.get_logger("jobfn.telemetry.tracing")
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _SUPPORTED_PROTOCOL)
    if protocol != _SUPPORTED_PROTOCOL:
        log.warning(
            "traces disabled: set OTEL_EXPORTER_OTLP_PROTOCOL to the supported protocol and the endpoint to a port "
            "that accepts it, usually 4318",
            protocol=protocol,
            supported=_SUPPORTED_PROTOCOL,
        )
        return False
    try:  # 130 ms and 6 MB, only if traces are enabled
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        event = f"traces disabled: run {install_command('otel')}, or unset OTEL_*"
        log.warning(event, reason=str(error))
        return False
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return True  # already set, for example by opentelemetry-instrument or a sitecustomize module
    name = environ.get("OTEL_SERVICE_NAME") or environ.get("K_SERVICE") or role
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    log.info("traces enabled", service=name)
    return True


def flush() -> None:
    """Send pending spans and shut the provider down, for a process that exits without Python's atexit handlers."""
    sdk = sys.modules.get("opentelemetry.sdk.trace")
    if sdk is None:
        return
    from opentelemetry import trace  # noqa: PLC0415  - already loaded

    provider = trace.get_tracer_provider()
    if isinstance(provider, sdk.TracerProvider):
        provider.shutdown()
