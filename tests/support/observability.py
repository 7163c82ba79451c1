"""Recorded spans and log lines, and scraped metrics."""

import io
import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from jobfn.function.task import Task
from jobfn.worker.settings import ServiceRole
from support.batch_function import RecordingProxy
from support.jobs import TENANT, WORKER, Jobs
from support.network import eventually

#: Fields of every log line about a job; None if unknown.
JOB_IDS = frozenset({"task", "job", "attempt", "worker", "tenant"})

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return a sample by its labels."""
    return samples[name, tuple(sorted(labels.items()))]


def job_ids(job: int, task: str, attempt: int = 1, worker: str = WORKER) -> dict[str, object]:
    """Return the ids in a log line about this job of ``TENANT``."""
    return {"job": job, "task": task, "attempt": attempt, "worker": worker, "tenant": TENANT}


def ids_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ids in a log line."""
    return {name: line[name] for name in JOB_IDS}


async def add_for_tenant(jobs: Jobs, task: str, **options: object) -> int:
    """Add a job of ``TENANT``."""
    await jobs.connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    return await jobs.add(task, **options)


@dataclass
class Spans:
    """Records the spans that ended."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    async def until(self, *names: str) -> dict[str, ReadableSpan]:
        """Wait until spans with these names have ended. Return all spans by name."""

        async def ended() -> dict[str, ReadableSpan]:
            spans = {span.name: span for span in self.exporter.get_finished_spans()}
            return spans if set(names) <= set(spans) else {}

        return await eventually(ended)


@dataclass
class LogLines:
    """Records log lines."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    def all(self) -> list[dict[str, Any]]:
        """Return all lines."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    async def until(self, event: str, *, times: int = 1) -> dict[str, Any]:
        """Wait for this many lines with this event, and return the first."""

        async def logged() -> list[dict[str, Any]]:
            lines = [line for line in self.all() if line["event"] == event]
            return lines if len(lines) >= times else []

        return (await eventually(logged))[0]


@dataclass(frozen=True)
class Deployment:
    """A running function app and a running service."""

    function_url: str
    metrics_url: str
    callback_url: str

    async def function_metrics(self) -> Samples:
        """Scrape the function."""
        return await scrape(f"{self.function_url}/metrics")

    async def service_metrics(self) -> Samples:
        """Scrape the service."""
        return await scrape(self.metrics_url)


class Deploy(Protocol):
    """The fixture ``deploy``: runs a function app with these tasks and a service; settings by field name."""

    def __call__(
        self,
        *tasks: "Task[..., Any]",
        roles: tuple[ServiceRole, ...] = (),
        proxy: RecordingProxy | None = None,
        **settings: object,
    ) -> Awaitable[Deployment]: ...


async def scrape(url: str) -> Samples:
    """Return the samples at this URL, by name and labels."""
    async with httpx.AsyncClient() as client:
        response = await client.get(url)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
