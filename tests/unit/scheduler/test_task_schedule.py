"""``@task(..., schedule=, tz=)``: stored as ``schedule_info``, and checked when the module is imported."""

import subprocess
import sys
from typing import Any

import httpx
import pytest

from jobfn import TaskDefinitionError, create_app, task


@pytest.mark.parametrize(
    ("options", "info"),
    [
        ({}, None),
        ({"schedule": "0 9 * * *"}, {"rule": "0 9 * * *"}),
        ({"schedule": "0 9 * * *", "tz": "Europe/Paris"}, {"rule": "0 9 * * *", "tz": "Europe/Paris"}),
        ({"schedule": "@daily"}, {"rule": "@daily"}),
        ({"schedule": {"hour": 9, "minute": 0}, "tz": "Europe/Paris"}, {"hour": 9, "minute": 0, "tz": "Europe/Paris"}),
        ({"schedule": {"rule": "@daily", "catch_up": "all"}}, {"rule": "@daily", "catch_up": "all"}),
    ],
)
def test_schedule_option_becomes_schedule_info(options: dict[str, Any], info: dict[str, Any] | None) -> None:

    @task("report", **options)
    def report(payload: dict[str, Any]) -> None: ...

    assert report.schedule_info == info


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tz": "Europe/Paris"}, 'add schedule="0 9 * * *"'),
        ({"schedule": "0 9 * *"}, "has 4 fields"),
        ({"schedule": ""}, "has 0 fields"),
        ({"schedule": 9}, "is not a schedule"),
        ({"schedule": {"rule": "@daily", "tz": "UTC"}, "tz": "Europe/Paris"}, "contradicts the schedule's own tz"),
    ],
)
def test_invalid_schedule_option_error_names_file_and_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskDefinitionError) as raised:

        @task("report", **options)
        def report(payload: dict[str, Any]) -> None: ...

    assert message in str(raised.value)
    assert f"{__file__}:" in str(raised.value)


def test_task_with_schedule_does_not_import_the_platform_side() -> None:
    code = (
        "import sys, jobfn\n"
        "@jobfn.task('report', schedule='0 9 * * *', tz='Europe/Paris')\n"
        "def report(payload: dict): ...\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('cronsim', 'asyncpg', 'typer')])\n"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == "[]"


async def test_app_index_lists_the_schedules_of_its_tasks() -> None:
    """``jobfn dev`` reads them from there, without importing the file."""

    @task("report", schedule="@daily", tz="Europe/Paris")
    def report(payload: dict[str, Any]) -> None: ...

    @task("plain")
    def plain(payload: dict[str, Any]) -> None: ...

    transport = httpx.ASGITransport(create_app(tasks=[report, plain]))
    async with httpx.AsyncClient(transport=transport, base_url="http://function") as client:
        listed = (await client.get("/")).json()["tasks"]
    assert [entry.get("schedule") for entry in listed] == [{"rule": "@daily", "tz": "Europe/Paris"}, None]
