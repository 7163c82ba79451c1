"""A function and a service as processes, and the dashboard and alerts for their metrics."""

import json
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import yaml

from support.commands import RunningCommand, Spawn
from support.network import LOOPBACK, free_port
from support.observability import Samples, scrape

DEPLOY = Path(__file__).parents[2] / "deploy" / "observability"
DASHBOARD, ALERTS = DEPLOY / "grafana-dashboard.json", DEPLOY / "alerts.yaml"
FUNCTIONS = dedent(
    """
    import sys
    from jobfn import JobContext, task

    @task("loaded")
    async def loaded(payload: dict) -> list[str]:
        return sorted({name.partition(".")[0] for name in sys.modules} & {"opentelemetry", "prometheus_client"})

    @task("hello")
    async def hello(payload: dict, ctx: JobContext) -> None:
        ctx.log.info("hello")

    @task("boom")
    def boom(payload: dict) -> None:
        raise RuntimeError("boom")
    """
)


@dataclass(frozen=True)
class Processes:
    """A running function and a running service."""

    function: RunningCommand
    service: RunningCommand
    function_url: str
    metrics_url: str

    async def samples(self) -> Samples:
        """Scrape both."""
        return await scrape(f"{self.function_url}/metrics") | await scrape(self.metrics_url)


async def start(spawn: Spawn, database: str, folder: Path, **env: str) -> Processes:
    """Start a function and a service with these environment variables."""
    (folder / "functions.py").write_text(FUNCTIONS)
    port, metrics = free_port(), free_port()
    function = await spawn(
        "python",
        "-m",
        "jobfn.function",
        "functions.py",
        "--host",
        LOOPBACK,
        **env,
        PORT=str(port),
        HOSTNAME="function-1",
    )
    await function.until('"serving"')
    service = await spawn(
        "jobfn",
        "service",
        **env,
        DATABASE_URL=database,
        KNATIVE_SERVICE_URL=f"http://{LOOPBACK}:{port}",
        JOBS_CALLBACK_HOST=LOOPBACK,
        INTERNAL_JOBS_CALLBACK_PORT=str(free_port()),
        JOBS_METRICS_HOST=LOOPBACK,
        JOBS_METRICS_PORT=str(metrics),
        HOSTNAME="worker-1",
    )
    await service.until("looking for jobs")
    return Processes(function, service, f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{metrics}/metrics")


def expressions() -> list[str]:
    """Return all queries of the dashboard and the alerts."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return queries + [rule["expr"] for rule in rules]
