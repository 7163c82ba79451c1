"""Settings from the environment: names, defaults, and one line for what is wrong."""

from typing import Any

import pytest
from pydantic import AliasChoices, Field, model_validator

from jobfn import ConfigurationError, FunctionSettings
from jobfn.function.serve import port_from
from jobfn.settings import EnvironmentSettings


def test_defaults() -> None:
    """What a function does without any variable."""
    settings = FunctionSettings.from_environ({})
    assert settings == FunctionSettings(
        max_body_bytes=10 * 1024 * 1024,
        max_threads=16,
        report_timeout_seconds=None,
        report_wait_seconds=2,
        shutdown_timeout_seconds=25,
    )


def test_every_field_has_its_variable() -> None:
    """Each variable lands in its field; what is given by name goes first; empty means unset."""
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


class Platform(EnvironmentSettings):
    url: str = Field(default="", validation_alias=AliasChoices("FIRST_URL", "SECOND_URL"), max_length=30)
    own: int = 0

    @model_validator(mode="after")
    def _goes_together(self) -> "Platform":
        if self.own > 1:
            raise ValueError("own and url do not go together: leave one out")
        return self


@pytest.mark.parametrize(
    ("kind", "environ", "overrides", "line"),
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
            Platform,
            {"SECOND_URL": "http://ada:hunter2@db.example.com/a"},
            {},
            "FIRST_URL='http://***@db.example.com/a': String should have at most 30 characters",
        ),
        (Platform, {"own": "2"}, {}, "own and url do not go together: leave one out"),
        (Platform, {"own": "x"}, {}, "own='x': Input should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_a_wrong_variable_is_one_line(
    kind: type[EnvironmentSettings], environ: dict[str, str], overrides: dict[str, Any], line: str
) -> None:
    """The variable, what it holds (no password), and why that cannot be."""
    with pytest.raises(ConfigurationError) as caught:
        kind.from_environ(environ, **overrides)
    assert str(caught.value) == line


def test_the_first_of_two_variables_goes_before_the_second() -> None:
    """An alias choice is an order; an empty first one is passed over."""
    assert Platform.from_environ({"FIRST_URL": "a", "SECOND_URL": "b"}).url == "a"
    assert Platform.from_environ({"FIRST_URL": "", "SECOND_URL": "b"}).url == "b"


@pytest.mark.parametrize(("environ", "port"), [({}, 8080), ({"PORT": ""}, 8080), ({"PORT": "80"}, 80)])
def test_the_port(environ: dict[str, str], port: int) -> None:
    """PORT, or 8080."""
    assert port_from(environ) == port


@pytest.mark.parametrize("text", ["x", "-1", "65536", "80.0", "9" * 20])
def test_a_port_that_is_none(text: str) -> None:
    """The variable is named."""
    with pytest.raises(ConfigurationError, match=r"PORT='.*' is no port: use a number from 1 to 65535"):
        port_from({"PORT": text})
