from typing import Any

import pytest
from pydantic import AliasChoices, Field, model_validator

from jobfn import ConfigurationError, FunctionSettings
from jobfn.function.serve import port_from
from jobfn.settings import EnvironmentSettings


def test_function_settings_have_defaults() -> None:
    assert FunctionSettings.from_environ({}) == FunctionSettings(
        max_body_bytes=10 * 1024 * 1024,
        max_threads=16,
        report_timeout_seconds=None,
        report_wait_seconds=2,
        shutdown_timeout_seconds=25,
    )


def test_overrides_take_precedence_and_empty_variables_count_as_unset() -> None:
    environ = {
        "JOBFN_MAX_BODY_BYTES": "100",
        "JOBFN_MAX_THREADS": "3",
        "JOBFN_REPORT_TIMEOUT_SECONDS": "1.5",
        "JOBFN_REPORT_WAIT_SECONDS": "0",
        "JOBFN_SHUTDOWN_TIMEOUT_SECONDS": "",
        "OTHER": "x",
    }
    assert FunctionSettings.from_environ(environ, max_threads=4, report_timeout_seconds=None) == FunctionSettings(
        max_body_bytes=100, max_threads=4, report_timeout_seconds=1.5, report_wait_seconds=0
    )


class Example(EnvironmentSettings):
    url: str = Field(default="", validation_alias=AliasChoices("FIRST_URL", "SECOND_URL"), max_length=30)
    own: int = 0

    @model_validator(mode="after")
    def _check(self) -> "Example":
        if self.own > 1:
            raise ValueError("own and url exclude each other: leave one out")
        return self


@pytest.mark.parametrize(
    ("model", "environ", "overrides", "message"),
    [
        (
            FunctionSettings,
            {"JOBFN_MAX_THREADS": "many"},
            {},
            "JOBFN_MAX_THREADS='many': Input should be a valid integer, unable to parse string as an integer",
        ),
        (FunctionSettings, {"JOBFN_MAX_THREADS": "0"}, {}, "JOBFN_MAX_THREADS='0': Input should be greater than 0"),
        (FunctionSettings, {}, {"max_threads": -1}, "JOBFN_MAX_THREADS=-1: Input should be greater than 0"),
        (
            Example,
            {"SECOND_URL": "http://ada:hunter2@db.example.com/a"},
            {},
            "FIRST_URL='http://***@db.example.com/a': String should have at most 30 characters",
        ),
        (Example, {"own": "2"}, {}, "own and url exclude each other: leave one out"),
        (Example, {"own": "x"}, {}, "own='x': Input should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_invalid_value_is_one_line_with_the_variable_and_no_password(
    model: type[EnvironmentSettings], environ: dict[str, str], overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        model.from_environ(environ, **overrides)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("environ", "url"), [({"FIRST_URL": "a", "SECOND_URL": "b"}, "a"), ({"FIRST_URL": "", "SECOND_URL": "b"}, "b")]
)
def test_first_variable_of_an_alias_that_is_set_wins(environ: dict[str, str], url: str) -> None:
    assert Example.from_environ(environ).url == url


@pytest.mark.parametrize(("environ", "port"), [({}, 8080), ({"PORT": ""}, 8080), ({"PORT": "80"}, 80)])
def test_port_is_8080_by_default(environ: dict[str, str], port: int) -> None:
    assert port_from(environ) == port


@pytest.mark.parametrize("text", ["x", "-1", "65536", "80.0", "9" * 20])
def test_invalid_port_is_rejected(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^PORT='.*use a number from 1 to 65535"):
        port_from({"PORT": text})
