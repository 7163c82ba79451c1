"""What tests of logs, metrics and traces speak of: kept spans and lines, and scrapes."""

import io
import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from jobfn.function.task import Task
from jobfn.worker.settings import ServiceRole
from support.network import eventually

#: What each line about a job carries; None where there is none.
JOB_IDS = frozenset({"task", "job", "attempt", "worker", "tenant"})

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass
class Spans:
    """The spans that ended, by name."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    async def until(self, *names: str) -> dict[str, ReadableSpan]:
        """Wait for these; returns all that ended, by name."""

        async def found() -> dict[str, ReadableSpan]:
            ended = {span.name: span for span in self.exporter.get_finished_spans()}
            return ended if set(names) <= set(ended) else {}

        return await eventually(found)


@dataclass
class Lines:
    """The log lines of the test."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    def all(self) -> list[dict[str, Any]]:
        """All of them."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    async def until(self, event: str) -> dict[str, Any]:
        """Wait for a line of this event, and return it."""

        async def found() -> dict[str, Any]:
            return next((line for line in self.all() if line["event"] == event), {})

        return await eventually(found)


@dataclass(frozen=True)
class Path:
    """A function app and a platform side that run."""

    function_url: str
    metrics_url: str
    callback_url: str

    async def function_metrics(self) -> Samples:
        """What a scrape of the function holds."""
        return await scrape(f"{self.function_url}/metrics")

    async def service_metrics(self) -> Samples:
        """What a scrape of the service holds."""
        return await scrape(self.metrics_url)


class StartPath(Protocol):
    """The fixture ``start_path``: serves these tasks, and runs a platform side for them; settings by field name."""

    def __call__(
        self, *tasks: "Task[..., Any]", only: tuple[ServiceRole, ...] = (), **settings: object
    ) -> Awaitable[Path]: ...


async def scrape(url: str) -> Samples:
    """What a scrape holds: values by name and labels."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
