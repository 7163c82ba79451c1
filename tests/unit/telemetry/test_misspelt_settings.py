"""Environment variables that look like misspelt settings."""

import io
import json

import pytest

from jobfn.dashboard.settings import DashboardSettings
from jobfn.function.settings import FunctionSettings
from jobfn.telemetry import logs
from jobfn.telemetry.misspelt_settings import misspelt, warn_of_misspelt
from jobfn.worker.settings import ServiceSettings

SERVICE = ServiceSettings.variables() | DashboardSettings.variables()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("JOBS_CONCURENCY", "JOBS_CONCURRENCY"),
        ("JOB_CONCURRENCY", "JOBS_CONCURRENCY"),
        ("JOBS_LEASE_SECOND", "JOBS_LEASE_SECONDS"),
        ("JOBFN_INVOKE_SECRETS", "JOBFN_INVOKE_SECRET"),
    ],
)
def test_misspelt_variable_has_a_nearest_setting(name: str, nearest: str) -> None:
    assert misspelt({name: "1", "HOME": "/"}, SERVICE) == {name: nearest}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOBS_CONCURRENCY", "8"),
        ("JOBS_OF_THE_TEAM", "x"),
        ("JOBS_CALLBACK_PORT", "tcp://10.0.0.1:12345"),
        ("JOBS_CALLBACK_SERVICE_HOST", "10.0.0.1"),
    ],
)
def test_other_variables_are_not_misspelt(name: str, value: str) -> None:
    assert misspelt({name: value}, SERVICE) == {}


def test_settings_of_one_side_are_not_misspelt_settings_of_the_other() -> None:
    function = FunctionSettings.variables()
    assert misspelt(dict.fromkeys(function - SERVICE, "x"), SERVICE) == {}
    assert misspelt(dict.fromkeys(SERVICE - function, "x"), function) == {}


def test_one_warning_names_all_of_them_without_their_values() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    environ = {"JOBS_CONCURENCY": "8", "JOBS_CALLBACK_SECRETS": "secret"}
    warn_of_misspelt(environ, ServiceSettings, logger="jobfn.service")
    (line,) = stream.getvalue().splitlines()
    assert (json.loads(line)["level"], json.loads(line)["event"]) == (
        "warning",
        (
            "unknown settings are ignored: JOBS_CALLBACK_SECRETS (did you mean JOBS_CALLBACK_SECRET?), "
            "JOBS_CONCURENCY (did you mean JOBS_CONCURRENCY?)"
        ),
    )
    warn_of_misspelt({"JOBS_CONCURRENCY": "8"}, ServiceSettings, logger="jobfn.service")
    assert len(stream.getvalue().splitlines()) == 1
