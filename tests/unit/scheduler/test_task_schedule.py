"""``@task(..., schedule=, tz=)``: what a function image can judge is refused when the module is imported."""

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
def test_a_schedule_in_code_is_a_schedule_info(options: dict[str, Any], info: dict[str, Any] | None) -> None:
    """What stands at the decorator is what the table will hold."""

    @task("report", **options)
    def report(payload: dict[str, Any]) -> None: ...

    assert report.schedule_info == info


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tz": "Europe/Paris"}, 'give schedule="0 9 * * *" too'),
        ({"schedule": "0 9 * *"}, "has 4 fields"),
        ({"schedule": ""}, "has 0 fields"),
        ({"schedule": 9}, "is no schedule"),
        ({"schedule": {"rule": "@daily", "tz": "UTC"}, "tz": "Europe/Paris"}, "disagree"),
    ],
)
def test_a_schedule_of_an_impossible_shape_is_refused_at_its_line(options: dict[str, Any], said: str) -> None:
    """The error names the file and the line of the handler."""
    with pytest.raises(TaskDefinitionError) as refusal:

        @task("report", **options)
        def report(payload: dict[str, Any]) -> None: ...

    assert said in str(refusal.value)
    assert f"{__file__}:" in str(refusal.value)


def test_a_function_image_loads_no_cron_library() -> None:
    """Defining a task with a schedule imports nothing of the platform side."""
    code = (
        "import sys, jobfn\n"
        "@jobfn.task('report', schedule='0 9 * * *', tz='Europe/Paris')\n"
        "def report(payload: dict): ...\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('cronsim', 'asyncpg', 'typer')])\n"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == "[]"


async def test_the_app_lists_the_schedules_of_its_tasks() -> None:
    """For ``jobfn dev``, which brings them into the database without importing the file."""

    @task("report", schedule="@daily", tz="Europe/Paris")
    def report(payload: dict[str, Any]) -> None: ...

    @task("plain")
    def plain(payload: dict[str, Any]) -> None: ...

    transport = httpx.ASGITransport(create_app(tasks=[report, plain]))
    async with httpx.AsyncClient(transport=transport, base_url="http://function") as client:
        listed = (await client.get("/")).json()["tasks"]
    assert [entry.get("schedule") for entry in listed] == [{"rule": "@daily", "tz": "Europe/Paris"}, None]
