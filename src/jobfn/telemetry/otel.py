"""Traces of our own processes: the environment's OpenTelemetry variables, and the ``otel`` extra.

``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``) turns them on; every other variable of
OpenTelemetry's means what its documentation says. A process that somebody else starts, such as an app under a server
of one's own, sets its tracer provider itself, and ``tracing.py`` finds it.
"""

import sys
from collections.abc import Mapping

from jobfn.telemetry import logs

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SUPPORTED_PROTOCOL = "http/protobuf"


def is_tracing_requested(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter:
        return exporter == "otlp"
    return any(environ.get(name) for name in _ENDPOINTS)


def configure(environ: Mapping[str, str], *, role: str) -> bool:
    """Set this process's tracer provider up, if the environment asks for traces. Once, at the start.

    Spans leave in batches, from a thread of their own, and what is left when the process ends: see ``flush``.

    Args:
        environ: Such as ``os.environ``.
        role: What the process is called where neither ``OTEL_SERVICE_NAME`` nor ``K_SERVICE`` names it.

    Returns:
        Whether there will be traces. Where they are asked for and cannot be sent, the log says what to do: whoever sets
        these variables for a whole cluster need not know which of its images can.
    """
    if not is_tracing_requested(environ):
        return False
    log = logs.get_logger("jobfn.telemetry.tracing")
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _SUPPORTED_PROTOCOL)
    if protocol != _SUPPORTED_PROTOCOL:
        log.warning(
            "no traces: set OTEL_EXPORTER_OTLP_PROTOCOL to what jobfn speaks, and the endpoint to where that is heard, "
            "usually port 4318",
            protocol=protocol,
            spoken=_SUPPORTED_PROTOCOL,
        )
        return False
    try:  # 130 ms and 6 MB, for those who want traces
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        log.warning("no traces: install the extra, pip install 'jobfn[otel]', or unset OTEL_*", reason=str(error))
        return False
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return True  # somebody was here before: opentelemetry-instrument, or a sitecustomize of the user's
    name = environ.get("OTEL_SERVICE_NAME") or environ.get("K_SERVICE") or role
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    log.info("sending traces", service=name)
    return True


def flush() -> None:
    """Send what has not been sent, and stop; for a process that ends without Python's own end. Does it once."""
    sdk = sys.modules.get("opentelemetry.sdk.trace")
    if sdk is None:
        return
    from opentelemetry import trace  # noqa: PLC0415  - loaded already

    provider = trace.get_tracer_provider()
    if isinstance(provider, sdk.TracerProvider):
        provider.shutdown()
