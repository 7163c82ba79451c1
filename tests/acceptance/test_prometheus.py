"""The Grafana dashboard's queries and the alert rules, on a real Prometheus.

Grafana is not needed: the test sends the queries of its panels with values for its variables."""

import json
import math
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from support.commands import Spawn
from support.jobs import Jobs
from support.limits import set_limit
from support.monitoring import ALERTS, DASHBOARD, Processes, start
from support.network import LOOPBACK, eventually, free_port

#: Value of Grafana's ``$__rate_interval``: a window with several scrapes.
RATE_INTERVAL = "5s"
#: Values of the variable ``task``: all tasks, or two selected ones.
TASK_VALUES = (".*", "(boom|hello)")


@pytest.fixture
def program() -> str:
    """Path of Prometheus. CI sets ``PROMETHEUS``, so that the test is not skipped there."""
    configured = os.environ.get("PROMETHEUS")
    path = shutil.which(configured or "prometheus")
    if path is None:
        (pytest.fail if configured else pytest.skip)(
            "Prometheus is not installed: apt-get install prometheus, or set PROMETHEUS"
        )
    return path


@pytest.fixture
async def processes(database: str, spawn: Spawn, tmp_path: Path) -> Processes:
    return await start(spawn, database, tmp_path)


@pytest.fixture
async def prometheus(
    program: str, processes: Processes, spawn: Spawn, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """Prometheus with the alert rules, scraping both processes several times a second."""
    targets = [urlsplit(url).netloc for url in (processes.function_url, processes.metrics_url)]
    settings = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "jobfn", "static_configs": [{"targets": targets}]}],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    address = f"{LOOPBACK}:{free_port()}"
    running = await spawn(
        program,
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'prometheus'}",
        f"--web.listen-address={address}",
    )
    await running.until("Server is ready to receive web requests")
    async with httpx.AsyncClient(base_url=f"http://{address}/api/v1") as client:
        yield client


async def run_query(prometheus: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    """Return the current series of a query: labels and value."""
    response = await prometheus.get("/query", params={"query": query})
    assert response.status_code == 200, response.text
    series: list[dict[str, Any]] = response.json()["data"]["result"]
    return series


def has_value(series: list[dict[str, Any]]) -> bool:
    """Whether a series has a finite value."""
    return any(math.isfinite(float(one["value"][1])) for one in series)


async def test_panels_have_values_and_alerts_do_not_fire(jobs: Jobs, prometheus: httpx.AsyncClient) -> None:
    await wait_for_all_panels(jobs, prometheus)
    assert await task_options(prometheus) == ["boom", "hello"]
    groups = (await prometheus.get("/rules")).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {
        rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    }
    assert [(rule["name"], rule["health"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


async def wait_for_all_panels(jobs: Jobs, prometheus: httpx.AsyncClient) -> None:
    """Wait until each query of each panel has a value, with the labels of its legend."""
    await set_limit(jobs.connection, "boom", task_identifier="boom", concurrency=1)
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if "targets" in panel]
    waiting = {
        (panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL).replace("$task", task)): target
        for panel in panels
        for target in panel["targets"]
        for task in TASK_VALUES
    }
    assert len(waiting) > 30

    async def all_have_values() -> bool:
        await jobs.add("hello")  # a rate needs jobs that run now
        await jobs.add("boom")
        for panel, query in list(waiting):
            series = await run_query(prometheus, query)
            if has_value(series):
                legend = waiting.pop((panel, query))["legendFormat"]
                labels = set(re.findall(r"{{\s*(\w+)\s*}}", legend))
                assert all(labels <= one["metric"].keys() for one in series), (panel, legend, series[0]["metric"])
        return not waiting

    try:
        await eventually(all_have_values, seconds=60.0)
    except TimeoutError:
        pytest.fail(f"no values: {sorted(waiting)}")


async def task_options(prometheus: httpx.AsyncClient) -> list[str]:
    """Return the values of the dashboard's variable ``task``."""
    (variable,) = [item for item in json.loads(DASHBOARD.read_text())["templating"]["list"] if item["name"] == "task"]
    match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
    assert match is not None
    response = await prometheus.get(f"/label/{match[2]}/values", params={"match[]": match[1]})
    values: list[str] = response.json()["data"]
    return values
