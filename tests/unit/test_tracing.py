"""Spans where somebody wants them, and nothing where nobody does."""

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

CAME = TraceContext("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Where spans end."""
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> Tracing:
    """With a provider of the test's own."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Tracing(provider)


def test_a_span_is_a_part_of_what_it_came_with(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    """Same trace, the sender's span as parent, its state kept; and within it, it is what is handed on."""
    with tracing.open("deliver x", kind="client", ids={"job": 7, "task": "x"}, parent=CAME):
        propagate = tracing.propagate(CAME)
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" in CAME.parent
    assert f"{span.parent.span_id:016x}" in CAME.parent
    assert span.kind is SpanKind.CLIENT
    assert span.attributes == {"jobfn.job": 7, "jobfn.task": "x"}
    assert propagate is not None
    assert propagate.parent.startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
    assert propagate.state == "vendor=1"


def test_spans_nest(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    """One without a parent of its own is a part of the current one, else the first of a trace."""
    with tracing.open("outer", kind="server", ids={}), tracing.open("inner", kind="internal", ids={}) as inner:
        inner.set_attributes({"job": 7})
    found = {span.name: span for span in spans.get_finished_spans()}
    assert found["outer"].parent is None
    assert found["inner"].parent == found["outer"].context
    assert found["inner"].attributes == {"jobfn.job": 7}


def test_an_exception_is_told_by_its_kind_alone(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    """What it says may hold a payload's values, and so may its traceback."""
    with pytest.raises(ValueError, match="s3cret"), tracing.open("x", kind="internal", ids={}):
        raise ValueError("s3cret")
    (span,) = spans.get_finished_spans()
    assert (span.status.is_ok, span.status.description) == (False, "ValueError")
    assert "s3cret" not in span.to_json()


def test_without_a_provider_what_came_is_handed_on() -> None:
    """No span, and the trace of others goes through unbroken."""
    tracing = Tracing()
    assert not tracing.is_on
    assert tracing.propagate(CAME) == CAME
    assert tracing.propagate(None) is None


@pytest.mark.parametrize(
    ("environ", "wanted"),
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
def test_when_the_environment_wants_traces(environ: Mapping[str, str], wanted: bool) -> None:  # noqa: FBT001  - a column
    """An endpoint, or the exporter by name; OpenTelemetry's own switches go before."""
    assert is_tracing_requested(environ) is wanted


def run(program: str, **environ: str) -> str:
    """What a Python of its own prints and logs, with these of OpenTelemetry's variables and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "K_", "LOG_"))}
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], env=kept | environ, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_nothing_of_opentelemetry_or_prometheus_is_loaded_unasked() -> None:
    """An app, its settings and its worker's modules load neither."""
    program = """
        import sys
        import jobfn, jobfn.service, jobfn.function.serve, jobfn.telemetry.otel
        jobfn.create_app(tasks=[jobfn.task("x")(lambda payload: None)])
        assert jobfn.telemetry.otel.configure({}, role="x") is False
        print(sorted({name.partition(".")[0] for name in sys.modules} & {"opentelemetry", "prometheus_client"}))
    """
    assert run(program) == "[]\n"


def test_a_provider_that_is_there_already_is_kept() -> None:
    """What opentelemetry-instrument or the user set goes before ours; and is what spans are made with."""
    program = """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from jobfn.telemetry.tracing import GLOBAL
        from jobfn.telemetry.otel import configure
        print(GLOBAL.is_on)
        theirs = TracerProvider()
        trace.set_tracer_provider(theirs)
        print(configure({"OTEL_TRACES_EXPORTER": "otlp"}, role="x"), GLOBAL.is_on)
        print(trace.get_tracer_provider() is theirs)
    """
    assert run(program) == "False\nTrue True\nTrue\n"


def test_the_environment_names_the_service() -> None:
    """OTEL_SERVICE_NAME, else Knative's name for it, else what the process is; the log says so, and spans have it."""
    program = """
        import os
        from opentelemetry import trace
        from jobfn.telemetry import logs
        from jobfn.telemetry.otel import configure, flush
        logs.configure()
        flush()  # nothing to send yet
        print(configure(os.environ, role="jobfn-service"))
        print(trace.get_tracer_provider().resource.attributes["service.name"])
        flush()
    """
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    assert run(program, **endpoint).startswith("True\njobfn-service\n")
    assert run(program, **endpoint, K_SERVICE="hello").startswith("True\nhello\n")
    said = run(program, **endpoint, K_SERVICE="hello", OTEL_SERVICE_NAME="mine")
    assert said.startswith("True\nmine\n")
    assert "sending traces" in said


def test_another_protocol_is_told_and_no_reason_not_to_start() -> None:
    """Whoever sets the variables for a whole cluster need not know what each image speaks."""
    program = """
        from jobfn.telemetry import logs
        from jobfn.telemetry.otel import configure
        logs.configure()
        environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        print(configure(environ, role="x"))
    """
    said = run(program)
    assert said.startswith("False\n")
    assert "no traces: set OTEL_EXPORTER_OTLP_PROTOCOL" in said


def test_without_the_extra_the_log_says_what_to_install() -> None:
    """The process starts all the same."""
    program = """
        import sys
        sys.modules["opentelemetry"] = None  # as if it were not installed
        from jobfn.telemetry import logs
        from jobfn.telemetry.otel import configure
        logs.configure()
        print(configure({"OTEL_TRACES_EXPORTER": "otlp"}, role="x"))
    """
    said = run(program)
    assert said.startswith("False\n")
    assert "jobfn[otel]" in said
