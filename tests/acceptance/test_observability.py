"""Logs, metrics and traces of real processes, and the dashboard and alerts that are made of them."""

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
from support.monitoring import ALERTS, DASHBOARD, FUNCTIONS, expressions, start
from support.network import LOOPBACK, eventually
from support.observability import scrape


@dataclass
class Collector:
    """Hears OTLP over HTTP, as a collector of traces does."""

    url: str = ""
    spans: dict[str, Any] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take spans in."""
        assert scope["path"] == "/v1/traces"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if dict(scope["headers"]).get(b"content-encoding") == b"gzip":
            body = gzip.decompress(body)
        for of_service in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {entry.key: entry.value.string_value for entry in of_service.resource.attributes}
            for span in (span for scoped in of_service.scope_spans for span in scoped.spans):
                self.spans[span.name] = span
                self.services[span.name] = attributes["service.name"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    recorder = Collector()
    server = HttpServer(recorder, bind(LOOPBACK, 0), shutdown_timeout_seconds=1, lifespan=False)
    await server.start()
    recorder.url = f"http://{LOOPBACK}:{server.port}"
    yield recorder
    await server.stop()


async def test_a_job_is_one_trace_across_processes(
    jobs: Jobs, database: str, spawn: Spawn, command: Command, tmp_path: Path, collector: Collector
) -> None:
    """Command line, worker, function and callback server send their spans of it when they end, if not before."""
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    processes = await start(spawn, database, tmp_path, **traced)
    added = await command("jobfn", "enqueue", "hello", "{}", "--database-url", database, **traced)
    assert (added.code, added.output.strip().isdigit()) == (0, True), added.output
    await jobs.until_gone(int(added.output))
    for process in (processes.function, processes.service):
        process.send(signal.SIGTERM)
        assert await process.wait() == 0
    chain = ["enqueue hello", "deliver hello", "receive hello", "report", "settle"]
    assert set(collector.spans) == {*chain, "run hello"}
    assert len({span.trace_id for span in collector.spans.values()}) == 1
    for above, below in itertools.pairwise(chain):
        assert collector.spans[below].parent_span_id == collector.spans[above].span_id, below
    assert collector.services == {
        "enqueue hello": "jobfn-enqueue",
        "deliver hello": "jobfn-service",
        "receive hello": "jobfn-function",
        "run hello": "jobfn-function",
        "report": "jobfn-function",
        "settle": "jobfn-service",
    }


async def test_nothing_is_loaded_before_the_first_scrape(database: str, spawn: Spawn, tmp_path: Path) -> None:
    """A function that nobody scrapes, and that sends no traces, has neither library in memory."""
    processes = await start(spawn, database, tmp_path)
    async with httpx.AsyncClient(base_url=processes.function_url) as client:
        assert (await client.post("/loaded", json={})).json() == []
        await scrape(f"{processes.function_url}/metrics")
        assert (await client.post("/loaded", json={})).json() == ["prometheus_client"]


async def test_dashboard_and_alerts_speak_of_what_there_is(
    jobs: Jobs, database: str, spawn: Spawn, tmp_path: Path
) -> None:
    """Every metric in them is exposed by running processes, every label too."""
    processes = await start(spawn, database, tmp_path)
    await jobs.until_gone(await jobs.add("hello"))
    await jobs.until_failed(await jobs.add("boom"))
    wanted = {name for text in expressions() for name in re.findall(r"\b(?:jobfn|process)_\w+", text)}
    assert len(wanted) > 15

    async def exposed() -> bool:
        return not wanted - {name for name, _ in await processes.samples()}

    await eventually(exposed)
    samples = await processes.samples()
    labels = {key for _, found in samples for key, _ in found} | {"instance"}
    for text in expressions():
        for used in re.findall(r"by \(([^)]*)\)", text):
            assert {label.strip() for label in used.split(",")} <= labels
    outcomes = {dict(found)["outcome"] for name, found in samples if name == "jobfn_jobs_total"}
    assert outcomes == {"completed", "failed"}


def test_the_dashboard_is_whole() -> None:
    """Panels have names, sizes and a query each, none covers another, and the data source is a variable."""
    dashboard = json.loads(DASHBOARD.read_text())
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "task"]


def test_alerts_say_what_to_do() -> None:
    """Each has a severity, what is wrong, and what to do about it."""
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's package of that name, is not here")
async def test_prometheus_itself_understands_them(command: Command, tmp_path: Path) -> None:
    """Its own tool reads the rules, and every query of the dashboard as one."""
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
        ("jobfn", "serve", "functions.py"),
        ("jobfn", "service"),
        ("jobfn", "dev", "functions.py"),
    ],
)
async def test_a_wrong_level_is_told_at_once(arguments: tuple[str, ...], command: Command, tmp_path: Path) -> None:
    """Every process says which variable it is and what it may be, and ends with 2."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    ended = await command(*arguments, LOG_LEVEL="loud")
    assert ended.code == 2
    assert ended.output == "jobfn: LOG_LEVEL='loud': choose one of debug, info, warning, error, critical"


@pytest.mark.parametrize("environment", [{}, {"K_SERVICE": "hello"}])
async def test_in_a_terminal_lines_are_coloured_unless_knative_runs_them(
    environment: dict[str, str], command: Command, tmp_path: Path
) -> None:
    """The same function, on a terminal of its own."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    (tmp_path / "in_a_terminal.py").write_text(
        dedent(
            """
            import os, pty, sys
            seen = b""
            def read(descriptor: int) -> bytes:
                global seen
                data = os.read(descriptor, 4096)
                said_before = b"serving" in seen
                seen += data
                if b"serving" in seen and not said_before:
                    os.write(descriptor, b"\\x03")  # Ctrl-C
                return data
            command = [sys.executable, "-m", "jobfn.function", "functions.py"]
            sys.exit(os.waitstatus_to_exitcode(pty.spawn(command, read)))
            """
        )
    )
    ended = await command("python", "in_a_terminal.py", **environment, PORT="0")
    lines = [line for line in ended.output.splitlines() if "serving" in line]
    assert ended.code == 0, ended.output
    if environment:
        assert json.loads(lines[0].removeprefix("^C"))["service"] == "hello"
    else:
        assert "\x1b[" in lines[0]
