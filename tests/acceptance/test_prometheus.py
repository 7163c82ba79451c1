"""The Grafana dashboard and the alert rules on a real Prometheus that scrapes a real service and function.

Grafana itself is not here; what its panels ask, with the values that it puts in for its variables, is asked instead.
"""

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
from support.monitoring import ALERTS, DASHBOARD, Processes, start
from support.network import LOOPBACK, eventually, free_port

#: Grafana puts four times the interval of scrapes there; here it is a window that several of them fall in.
RATE_INTERVAL = "5s"
#: What the variable ``task`` becomes: all of them, or the two that were picked.
PICKED = (".*", "(boom|hello)")


@pytest.fixture
def program() -> str:
    """Debian's ``prometheus``; CI names one, so that this is never left out there."""
    named = os.environ.get("PROMETHEUS")
    found = shutil.which(named or "prometheus")
    if found is None:
        (pytest.fail if named else pytest.skip)("no Prometheus: apt-get install prometheus, or name one in PROMETHEUS")
    return found


@pytest.fixture
async def processes(database: str, spawn: Spawn, tmp_path: Path) -> Processes:
    """A service and a function at work."""
    return await start(spawn, database, tmp_path)


@pytest.fixture
async def prometheus(
    program: str, processes: Processes, spawn: Spawn, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """It scrapes both, many times a second, and has the alert rules."""
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


async def ask(prometheus: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    """The series that a query has now: labels, and a value."""
    answer = await prometheus.get("/query", params={"query": query})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


def is_drawn(series: list[dict[str, Any]]) -> bool:
    """Whether there is a point to draw: a share of nothing is none."""
    return any(math.isfinite(float(each["value"][1])) for each in series)


async def test_dashboard_and_alerts_on_a_real_prometheus(jobs: Jobs, prometheus: httpx.AsyncClient) -> None:
    """Every panel has something to draw once jobs run, its tasks can be picked, and no alert is broken or goes off."""
    await eventually_drawn(jobs, prometheus)
    assert await tasks_to_pick(prometheus) == ["boom", "hello"]
    groups = (await prometheus.get("/rules")).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {
        rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    }
    assert [(rule["name"], rule["health"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


async def eventually_drawn(jobs: Jobs, prometheus: httpx.AsyncClient) -> None:
    """Wait until each query of each panel gives a number, with the labels that its legend names."""
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if "targets" in panel]
    waiting = {
        (panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL).replace("$task", picked)): target
        for panel in panels
        for target in panel["targets"]
        for picked in PICKED
    }
    assert len(waiting) > 30

    async def all_drawn() -> bool:
        await jobs.add("hello")  # they go on running meanwhile: a rate is of what happens now
        await jobs.add("boom")
        for panel, query in list(waiting):
            series = await ask(prometheus, query)
            if is_drawn(series):
                legend = waiting.pop((panel, query))["legendFormat"]
                named = set(re.findall(r"{{\s*(\w+)\s*}}", legend))
                assert all(named <= each["metric"].keys() for each in series), (panel, legend, series[0]["metric"])
        return not waiting

    try:
        await eventually(all_drawn, seconds=60.0)
    except TimeoutError:
        pytest.fail(f"nothing to draw: {sorted(waiting)}")


async def tasks_to_pick(prometheus: httpx.AsyncClient) -> list[str]:
    """What the dashboard's variable finds."""
    (variable,) = [each for each in json.loads(DASHBOARD.read_text())["templating"]["list"] if each["name"] == "task"]
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
    assert asked is not None
    answer = await prometheus.get(f"/label/{asked[2]}/values", params={"match[]": asked[1]})
    found: list[str] = answer.json()["data"]
    return found
