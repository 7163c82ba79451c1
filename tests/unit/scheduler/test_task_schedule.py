"""``@task(..., schedule=, tz=)``: stored as ``schedule_info``, and checked when the module is imported."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from jobfn import Schedule, TaskDefinitionError, create_app, task

SECONDS: Any = 60
DAY: Any = "2030-01-31"


@dataclass
class Report:
    """A payload."""

    day: date


@pytest.mark.parametrize(
    ("options", "info"),
    [
        ({}, None),
        ({"schedule": "0 9 * * *"}, {"rule": "0 9 * * *"}),
        ({"schedule": "0 9 * * *", "tz": "Europe/Paris"}, {"rule": "0 9 * * *", "tz": "Europe/Paris"}),
        ({"schedule": "@daily"}, {"rule": "@daily"}),
        ({"schedule": {"hour": 9, "minute": 0}, "tz": "Europe/Paris"}, {"hour": 9, "minute": 0, "tz": "Europe/Paris"}),
        ({"schedule": {"rule": "@daily", "catch_up": "all"}}, {"rule": "@daily", "catch_up": "all"}),
        ({"schedule": Schedule("@daily")}, {"rule": "@daily"}),
        ({"schedule": Schedule({"hour": 9}), "tz": "Europe/Paris"}, {"hour": 9, "tz": "Europe/Paris"}),
        (
            {
                "schedule": Schedule(
                    "@daily",
                    tz="Europe/Paris",
                    jitter=timedelta(minutes=5),
                    catch_up="all",
                    catch_up_window=timedelta(hours=6),
                    expires_in=timedelta(hours=1),
                    start=datetime(2030, 1, 31, tzinfo=UTC),
                    end=datetime(2031, 1, 31, tzinfo=UTC),
                )
            },
            {
                "rule": "@daily",
                "tz": "Europe/Paris",
                "jitter_seconds": 300,
                "catch_up": "all",
                "catch_up_window_seconds": 21600,
                "expires_in_seconds": 3600,
                "start": "2030-01-31T00:00:00+00:00",
                "end": "2031-01-31T00:00:00+00:00",
            },
        ),
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
        ({"schedule": Schedule("@daily", tz="UTC"), "tz": "Europe/Paris"}, "contradicts the schedule's own tz"),
        (
            {"schedule": Schedule({"rule": "@daily", "catch_up": "all"}, catch_up="none")},
            "catch_up='none' contradicts the schedule's own catch_up 'all'",
        ),
        ({"schedule": Schedule("0 9 * *")}, "has 4 fields"),
        (
            {"schedule": Schedule("@daily", jitter=timedelta())},
            "jitter=datetime.timedelta(0) must be a timedelta above",
        ),
        ({"schedule": Schedule("@daily", catch_up_window=SECONDS)}, "catch_up_window=60 must be a timedelta above 0"),
        ({"schedule": Schedule("@daily", start=DAY)}, "start='2030-01-31' must be a datetime"),
        (
            {"schedule": Schedule("@daily", payload=["secret"])},
            "the payload of its schedule is not valid",
        ),
        ({"schedule": Schedule("@daily", payload={"at": object()})}, "is not serializable to JSON"),
    ],
)
def test_invalid_schedule_option_error_names_file_and_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskDefinitionError) as raised:

        @task("report", **options)
        def report(payload: dict[str, Any]) -> None: ...

    assert message in str(raised.value)
    assert f"{__file__}:" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_payload_of_a_schedule_is_of_the_handler_s_type() -> None:

    @task("report", schedule=Schedule("@daily", payload=Report(day=date(2030, 1, 31))))
    def report(payload: Report) -> None: ...

    assert report.schedule_payload == '{"day":"2030-01-31"}'


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

    @task("weekly", schedule=Schedule("@weekly", payload={"days": 7}))
    def weekly(payload: dict[str, Any]) -> None: ...

    @task("plain")
    def plain(payload: dict[str, Any]) -> None: ...

    transport = httpx.ASGITransport(create_app(tasks=[report, weekly, plain]))
    async with httpx.AsyncClient(transport=transport, base_url="http://function") as client:
        listed = (await client.get("/")).json()["tasks"]
    assert [(entry.get("schedule"), entry.get("schedule_payload")) for entry in listed] == [
        ({"rule": "@daily", "tz": "Europe/Paris"}, None),
        ({"rule": "@weekly"}, {"days": 7}),
        (None, None),
    ]
