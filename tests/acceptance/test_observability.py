"""Logs, metrics and traces of processes; the Grafana dashboard and the alert rules."""

import gzip
import itertools
import json
import re
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.types import Receive, Scope, Send

from jobfn.http.server import HttpServer, bind
from support.commands import Command, Spawn
from support.jobs import Jobs
from support.limits import set_limit
from support.monitoring import ALERTS, DASHBOARD, FUNCTIONS, expressions, start
from support.network import LOOPBACK, eventually
from support.observability import scrape


@dataclass
class Collector:
    """An OTLP collector over HTTP."""

    url: str = ""
    spans: dict[str, Any] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"] == "/v1/traces"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if dict(scope["headers"]).get(b"content-encoding") == b"gzip":
            body = gzip.decompress(body)
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {entry.key: entry.value.string_value for entry in resource_spans.resource.attributes}
            for span in (span for scope_spans in resource_spans.scope_spans for span in scope_spans.spans):
                self.spans[span.name] = span
                self.services[span.name] = attributes["service.name"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    server = HttpServer(collector, bind(LOOPBACK, 0), shutdown_timeout_seconds=1, lifespan=False)
    await server.start()
    collector.url = f"http://{LOOPBACK}:{server.port}"
    yield collector
    await server.stop()


async def test_job_is_one_trace_across_processes(
    jobs: Jobs, database: str, spawn: Spawn, command: Command, tmp_path: Path, collector: Collector
) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    processes = await start(spawn, database, tmp_path, **variables)
    enqueued = await command("jobfn", "enqueue", "hello", "{}", "--database-url", database, **variables)
    assert (enqueued.code, enqueued.output.strip().isdigit()) == (0, True), enqueued.output
    await jobs.until_gone(int(enqueued.output))
    for process in (processes.function, processes.service):
        process.send(signal.SIGTERM)
        assert await process.wait() == 0
    chain = ["enqueue hello", "deliver hello", "receive hello", "run hello"]
    assert set(collector.spans) == set(chain)
    assert len({span.trace_id for span in collector.spans.values()}) == 1
    for parent, child in itertools.pairwise(chain):
        assert collector.spans[child].parent_span_id == collector.spans[parent].span_id, child
    assert collector.services == {
        "enqueue hello": "jobfn-enqueue",
        "deliver hello": "jobfn-service",
        "receive hello": "jobfn-function",
        "run hello": "jobfn-function",
    }


async def test_function_loads_metrics_library_on_the_first_scrape_only(
    database: str, spawn: Spawn, tmp_path: Path
) -> None:
    processes = await start(spawn, database, tmp_path)
    async with httpx.AsyncClient(base_url=processes.function_url) as client:
        assert (await client.post("/loaded", json={})).json() == []
        await scrape(f"{processes.function_url}/metrics")
        assert (await client.post("/loaded", json={})).json() == ["prometheus_client"]


async def test_dashboard_and_alerts_use_exposed_metrics_and_labels(
    jobs: Jobs, database: str, spawn: Spawn, tmp_path: Path
) -> None:
    processes = await start(spawn, database, tmp_path)
    await set_limit(jobs.connection, "boom", task_identifier="boom", concurrency=1)
    await jobs.until_gone(await jobs.add("hello"))
    await jobs.until_failed(await jobs.add("boom"))
    metrics = {name for text in expressions() for name in re.findall(r"\b(?:jobfn|process)_\w+", text)}
    assert len(metrics) > 15

    async def all_exposed() -> bool:
        return not metrics - {name for name, _ in await processes.samples()}

    await eventually(all_exposed)
    samples = await processes.samples()
    labels = {key for _, pairs in samples for key, _ in pairs} | {"instance"}
    for text in expressions():
        for names in re.findall(r"by \(([^)]*)\)", text):
            assert {label.strip() for label in names.split(",")} <= labels
    outcomes = {dict(pairs)["outcome"] for name, pairs in samples if name == "jobfn_jobs_total"}
    assert outcomes == {"completed", "failed"}


def test_dashboard_panels_have_queries_and_do_not_overlap() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    occupied: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        position = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        assert not cells & occupied, panel["title"]
        assert position["x"] + position["w"] <= 24
        occupied |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "task"]


def test_alerts_have_severity_and_description() -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_accepts_rules_and_queries(command: Command, tmp_path: Path) -> None:
    checked = await command("promtool", "check", "rules", str(ALERTS))
    assert checked.code == 0, checked.output
    rules = [
        {"record": f"query_{number}", "expr": text.replace("$__rate_interval", "5m").replace("$task", ".*")}
        for number, text in enumerate(expressions())
    ]
    queries = tmp_path / "queries.yaml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = await command("promtool", "check", "rules", str(queries))
    assert checked.code == 0, checked.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("python", "-m", "jobfn.function", "functions.py"),
        ("python", "-m", "jobfn.service"),
    ],
)
async def test_invalid_log_level_is_one_line(arguments: tuple[str, ...], command: Command, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    result = await command(*arguments, LOG_LEVEL="loud")
    assert result.code == 2
    assert result.output == "jobfn: LOG_LEVEL='loud': choose one of debug, info, warning, error, critical [J101]"


@pytest.mark.parametrize("environment", [{}, {"K_SERVICE": "hello"}])
async def test_terminal_lines_are_coloured_except_in_knative(
    environment: dict[str, str], command: Command, tmp_path: Path
) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    (tmp_path / "in_a_terminal.py").write_text(
        dedent(
            """
            import os, pty, sys
            output = b""
            def read(descriptor: int) -> bytes:
                global output
                data = os.read(descriptor, 4096)
                was_serving = b"serving" in output
                output += data
                if b"serving" in output and not was_serving:
                    os.write(descriptor, b"\\x03")  # Ctrl-C
                return data
            command = [sys.executable, "-m", "jobfn.function", "functions.py"]
            sys.exit(os.waitstatus_to_exitcode(pty.spawn(command, read)))
            """
        )
    )
    result = await command("python", "in_a_terminal.py", **environment, PORT="0")
    lines = [line for line in result.output.splitlines() if "serving" in line]
    assert result.code == 0, result.output
    if environment:
        assert json.loads(lines[0].removeprefix("^C"))["service"] == "hello"
    else:
        assert "\x1b[" in lines[0]
