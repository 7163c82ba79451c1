import os
import subprocess
import sys
from collections.abc import Mapping
from textwrap import dedent

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from jobfn.telemetry.otel import is_tracing_requested
from jobfn.telemetry.tracing import Tracing
from jobfn.wire.trace_context import TraceContext

INCOMING = TraceContext("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Tracing(provider)


def test_span_continues_the_remote_trace_and_is_propagated(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    with tracing.open("deliver x", kind="client", ids={"job": 7, "task": "x"}, parent=INCOMING):
        propagated = tracing.propagate(INCOMING)
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert span.kind is SpanKind.CLIENT
    assert span.attributes == {"jobfn.job": 7, "jobfn.task": "x"}
    assert propagated is not None
    assert propagated.parent.startswith(f"00-4bf92f3577b34da6a3ce929d0e0e4736-{span.context.span_id:016x}-")
    assert propagated.state == "vendor=1"


def test_span_without_a_remote_parent_is_a_child_of_the_current_span(
    tracing: Tracing, spans: InMemorySpanExporter
) -> None:
    with tracing.open("outer", kind="server", ids={}), tracing.open("inner", kind="internal", ids={}) as inner:
        inner.set_attributes({"job": 7})
    by_name = {span.name: span for span in spans.get_finished_spans()}
    assert by_name["outer"].parent is None
    assert by_name["inner"].parent == by_name["outer"].context
    assert by_name["inner"].attributes == {"jobfn.job": 7}


def test_exception_sets_its_type_as_the_status_but_not_its_message(
    tracing: Tracing, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(ValueError, match="s3cret"), tracing.open("x", kind="internal", ids={}):
        raise ValueError("s3cret")
    (span,) = spans.get_finished_spans()
    assert (span.status.is_ok, span.status.description) == (False, "ValueError")
    assert "s3cret" not in span.to_json()


def test_incoming_context_is_propagated_without_a_provider() -> None:
    tracing = Tracing()
    assert not tracing.is_on
    assert tracing.propagate(INCOMING) == INCOMING
    assert tracing.propagate(None) is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
    ],
)
def test_environment_enables_traces(environ: Mapping[str, str], *, expected: bool) -> None:
    assert is_tracing_requested(environ) is expected


def run_python(program: str, **environ: str) -> str:
    """Return the output and log of a new Python process, without OpenTelemetry's variables of this one."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "K_", "LOG_"))}
    process = subprocess.run(
        [sys.executable, "-c", dedent(program)], env=clean | environ, capture_output=True, text=True, check=True
    )
    return process.stdout + process.stderr


def test_opentelemetry_and_prometheus_are_not_imported_by_default() -> None:
    program = """
        import sys
        import jobfn, jobfn.service, jobfn.function.serve, jobfn.telemetry.otel
        jobfn.create_app(tasks=[jobfn.task("x")(lambda payload: None)])
        assert jobfn.telemetry.otel.configure({}, role="x") is False
        print(sorted({name.partition(".")[0] for name in sys.modules} & {"opentelemetry", "prometheus_client"}))
    """
    assert run_python(program) == "[]\n"


def test_existing_provider_is_kept_and_used() -> None:
    program = """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from jobfn.telemetry.tracing import GLOBAL
        from jobfn.telemetry.otel import configure
        print(GLOBAL.is_on)
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
        print(configure({"OTEL_TRACES_EXPORTER": "otlp"}, role="x"), GLOBAL.is_on)
        print(trace.get_tracer_provider() is provider)
    """
    assert run_python(program) == "False\nTrue True\nTrue\n"


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "jobfn-service"),
        ({"K_SERVICE": "hello"}, "hello"),
        ({"K_SERVICE": "hello", "OTEL_SERVICE_NAME": "mine"}, "mine"),
    ],
)
def test_service_name_comes_from_opentelemetry_then_knative_then_the_role(environ: dict[str, str], name: str) -> None:
    program = """
        import os
        from opentelemetry import trace
        from jobfn.telemetry import logs
        from jobfn.telemetry.otel import configure, flush
        logs.configure()
        flush()  # no provider yet
        print(configure(os.environ, role="jobfn-service"))
        print(trace.get_tracer_provider().resource.attributes["service.name"])
        flush()
    """
    output = run_python(program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", **environ)
    assert output.startswith(f"True\n{name}\n")
    assert "traces enabled" in output


def test_unsupported_protocol_is_logged() -> None:
    program = """
        from jobfn.telemetry import logs
        from jobfn.telemetry.otel import configure
        logs.configure()
        environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        print(configure(environ, role="x"))
    """
    output = run_python(program)
    assert output.startswith("False\n")
    assert "traces disabled: set OTEL_EXPORTER_OTLP_PROTOCOL" in output


def test_missing_extra_is_logged_with_the_install_command() -> None:
    program = """
        import sys
        sys.modules["opentelemetry"] = None  # as if it were not installed
        from jobfn.telemetry import logs
        from jobfn.telemetry.otel import configure
        logs.configure()
        print(configure({"OTEL_TRACES_EXPORTER": "otlp"}, role="x"))
    """
    output = run_python(program)
    assert output.startswith("False\n")
    assert "pip install 'jobfn[otel] @ git+https://github.com/constructive-io/jobfn'" in output
