import io
import json
import logging
import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobfn import ConfigurationError
from jobfn.function.context import JobContext
from jobfn.telemetry import logs


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for variable in ("LOG_LEVEL", "K_SERVICE", "K_REVISION"):
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_of_both_logging_systems_are_json_with_the_same_keys() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get_logger("jobfn").info("charging", invoice=7)
    logging.getLogger("stdlib").warning("half %d%%", 50)
    structured, stdlib = json_lines(stream)
    assert set(structured) == {"logger", "invoice", "event", "level", "timestamp"}
    assert (structured["event"], structured["level"], structured["logger"], structured["invoice"]) == (
        "charging",
        "info",
        "jobfn",
        7,
    )
    assert set(stdlib) == {"logger", "event", "level", "timestamp"}
    assert (stdlib["event"], stdlib["level"], stdlib["logger"]) == ("half 50%", "warning", "stdlib")


@pytest.mark.parametrize("service", [None, "charge"])
def test_many_lines_are_the_same_as_single_ones(service: str | None, environment: pytest.MonkeyPatch) -> None:
    if service is not None:
        environment.setenv("K_SERVICE", service)
    stream = io.StringIO()
    logs.configure(stream=stream)
    fields = {"task": "charge", "job": 7, "error": "ü", "tenant": None}
    logs.get_logger("jobfn.worker").info("job done", **fields)
    logs.log_lines("jobfn.worker", [("info", "job done", fields), ("warning", "job failed", {})])
    single, first, second = stream.getvalue().splitlines()
    timestamp = re.compile(r'"timestamp": ?"[^"]+Z"')
    assert timestamp.sub("", first) == timestamp.sub("", single)
    assert (json.loads(second)["event"], json.loads(second)["level"]) == ("job failed", "warning")


def test_many_lines_have_a_level_and_go_to_a_terminal_as_text() -> None:
    quiet, terminal = io.StringIO(), Terminal()
    logs.configure(stream=quiet, level="warning")
    logs.log_lines("jobfn.worker", [("info", "job done", {}), ("error", "job permanently failed", {})])
    logs.configure(stream=terminal)
    logs.log_lines("jobfn.worker", [("info", "job done", {"job": 7}), ("warning", "job failed", {})])
    assert [json.loads(line)["event"] for line in quiet.getvalue().splitlines()] == ["job permanently failed"]
    first, second = terminal.getvalue().splitlines()
    assert ("info" in first, "job done" in first) == (True, True)
    assert ("warning" in second, "job failed" in second) == (True, True)


def test_many_lines_can_be_captured() -> None:
    logs.configure(stream=io.StringIO())
    with capture_logs() as lines:
        logs.log_lines("jobfn.worker", [("info", "job done", {"job": 7})])
    assert [(line["event"], line["job"]) for line in lines] == [("job done", 7)]


def test_exception_is_one_key_of_its_line() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    try:
        int("no")
    except ValueError as error:
        logs.get_logger("jobfn").error("failed", exc_info=error)
        logging.getLogger("stdlib").exception("failed")
    for line in json_lines(stream):
        assert line["exception"].startswith("Traceback (most recent call last):")
        assert "ValueError: invalid literal" in line["exception"]


def test_terminal_lines_are_coloured_text_with_plain_tracebacks() -> None:
    stream = Terminal()
    logs.configure(stream=stream)
    logs.get_logger("jobfn").info("charging", invoice=7)
    try:
        int("no")
    except ValueError:
        logging.getLogger("stdlib").exception("failed")
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "charging" in text
    assert "invoice" in text
    assert "Traceback (most recent call last):" in text
    assert "ValueError: invalid literal" in text
    assert not text.startswith("{")


@pytest.mark.parametrize(("stream", "as_json"), [(Terminal(), True), (io.StringIO(), False)])
def test_format_can_be_chosen_and_text_has_colours_only_in_a_terminal(stream: io.StringIO, *, as_json: bool) -> None:
    logs.configure(stream=stream, json_lines=as_json)
    logs.get_logger("jobfn").info("hello")
    text = stream.getvalue()
    assert text.startswith("{") is as_json
    assert "\x1b[" not in text


def test_knative_lines_are_json_with_service_and_revision(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("K_SERVICE", "send-email")
    environment.setenv("K_REVISION", "send-email-00007")
    stream = Terminal()
    logs.configure(stream=stream)
    logs.get_logger("jobfn").info("a")
    logging.getLogger("stdlib").info("b")
    for line in json_lines(stream):
        assert (line["service"], line["revision"]) == ("send-email", "send-email-00007")


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["own d", "other d", "uvicorn i", "own i", "other i", "own w", "other w", "own e"]),
        ("INFO", ["own i", "other i", "own w", "other w", "own e"]),
        ("warning", ["own w", "other w", "own e"]),
        ("critical", []),
    ],
)
@pytest.mark.parametrize("from_environment", [True, False])
def test_level_applies_to_all_loggers_and_hides_noisy_ones_above_debug(
    level: str, events: list[str], environment: pytest.MonkeyPatch, *, from_environment: bool
) -> None:
    stream = io.StringIO()
    environment.setenv("LOG_LEVEL", level if from_environment else "info")
    logs.configure(stream=stream, level=None if from_environment else level)
    structured, stdlib = logs.get_logger("jobfn"), logging.getLogger("stdlib")
    structured.debug("own d")
    stdlib.debug("other d")
    logging.getLogger("uvicorn.error").info("uvicorn i")
    structured.info("own i")
    stdlib.info("other i")
    structured.warning("own w")
    stdlib.warning("other w")
    structured.error("own e")
    assert [line["event"] for line in json_lines(stream)] == events


def test_unknown_level_is_rejected(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LOG_LEVEL", "loud")
    with pytest.raises(ConfigurationError, match="LOG_LEVEL='loud': choose one of debug, info, warning"):
        logs.configure(stream=io.StringIO())


def test_second_configuration_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure(stream=first)
    logs.configure(stream=second)
    logs.get_logger("jobfn").info("a")
    logging.getLogger("stdlib").info("b")
    assert first.getvalue() == ""
    assert [line["event"] for line in json_lines(second)] == ["a", "b"]


def test_lines_carry_the_ids_of_the_current_job_unless_they_set_their_own() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    token = logs.job_ids.set(JobContext("charge", job_id=7, attempt=2).ids)
    logging.getLogger("library").info("within")
    logs.get_logger("jobfn").info("own", job=8)
    logs.job_ids.reset(token)
    logging.getLogger("library").info("after")
    within, own, after = json_lines(stream)
    assert (within["task"], within["job"], within["attempt"]) == ("charge", 7, 2)
    assert own["job"] == 8
    assert "job" not in after


def test_values_that_are_not_json_are_logged_as_their_repr() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get_logger("jobfn").info("odd", value={1}, text="\ud800")
    (line,) = json_lines(stream)
    assert (line["value"], line["text"]) == ("{1}", "\ud800")
