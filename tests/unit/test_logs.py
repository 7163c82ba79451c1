"""Logs: one form for every line, whoever writes it."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from jobfn import ConfigurationError
from jobfn.function.context import JobContext
from jobfn.telemetry import logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    for name in ("uvicorn", "asyncio", "watchfiles"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable of the machine's decides."""
    for variable in ("LOG_LEVEL", "K_SERVICE", "K_REVISION"):
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The JSON lines that were written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_without_a_terminal_lines_are_json() -> None:
    """Our lines and those of the standard library's loggers have the same fields."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get_logger("mine").info("charging", invoice=7)
    logging.getLogger("theirs").warning("half %d%%", 50)
    ours, theirs = lines(stream)
    assert set(ours) == {"logger", "invoice", "event", "level", "timestamp"}
    assert (ours["event"], ours["level"], ours["logger"], ours["invoice"]) == ("charging", "info", "mine", 7)
    assert set(theirs) == {"logger", "event", "level", "timestamp"}
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("half 50%", "warning", "theirs")


def test_an_exception_is_one_field_of_its_line() -> None:
    """The traceback stays in the line, without the values of variables."""
    stream = io.StringIO()
    logs.configure(stream=stream)

    def fail() -> None:
        local_variable = "a value"
        assert local_variable == "another", "failed"

    try:
        fail()
    except AssertionError as error:
        logs.get_logger("mine").error("broke", exc_info=error)
        logging.getLogger("theirs").exception("broke too")
    for line in lines(stream):
        assert line["exception"].startswith("Traceback (most recent call last):")
        assert "AssertionError: failed" in line["exception"]


def test_in_a_terminal_lines_are_for_people() -> None:
    """Coloured text, the event first, tracebacks as Python writes them."""
    stream = Terminal()
    logs.configure(stream=stream)
    logs.get_logger("mine").info("charging", invoice=7)
    try:
        int("no")
    except ValueError:
        logging.getLogger("theirs").exception("broke")
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "charging" in text
    assert "invoice" in text
    assert "Traceback (most recent call last):" in text
    assert "ValueError: invalid literal" in text
    assert not text.startswith("{")


@pytest.mark.parametrize(("stream", "json_lines"), [(Terminal(), True), (io.StringIO(), False)])
def test_the_form_may_be_chosen(stream: io.StringIO, json_lines: bool) -> None:  # noqa: FBT001  - a column
    """Whatever the stream is; text without a terminal has no colours."""
    logs.configure(stream=stream, json_lines=json_lines)
    logs.get_logger("mine").info("hello")
    text = stream.getvalue()
    assert text.startswith("{") is json_lines
    assert "\x1b[" not in text


def test_in_knative_lines_are_json_and_say_which_revision_speaks(environment: pytest.MonkeyPatch) -> None:
    """K_SERVICE and K_REVISION are in every line, the standard library's too."""
    environment.setenv("K_SERVICE", "send-email")
    environment.setenv("K_REVISION", "send-email-00007")
    stream = Terminal()
    logs.configure(stream=stream)
    logs.get_logger("mine").info("a")
    logging.getLogger("theirs").info("b")
    for line in lines(stream):
        assert (line["service"], line["revision"]) == ("send-email", "send-email-00007")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["ours d", "theirs d", "uvicorn i", "ours i", "theirs i", "ours w", "theirs w", "ours e"]),
        ("INFO", ["ours i", "theirs i", "ours w", "theirs w", "ours e"]),
        ("warning", ["ours w", "theirs w", "ours e"]),
        ("error", ["ours e"]),
        ("critical", []),
    ],
)
@pytest.mark.parametrize("by_variable", [True, False])
def test_the_level_goes_for_everybody(
    level: str,
    shown: list[str],
    by_variable: bool,  # noqa: FBT001  - a column
    environment: pytest.MonkeyPatch,
) -> None:
    """LOG_LEVEL or the argument; servers' own talk is for who debugs."""
    stream = io.StringIO()
    if by_variable:
        environment.setenv("LOG_LEVEL", level)
        logs.configure(stream=stream)
    else:
        environment.setenv("LOG_LEVEL", "info")
        logs.configure(stream=stream, level=level)
    ours, theirs = logs.get_logger("mine"), logging.getLogger("theirs")
    ours.debug("ours d")
    theirs.debug("theirs d")
    logging.getLogger("uvicorn.error").info("uvicorn i")
    ours.info("ours i")
    theirs.info("theirs i")
    ours.warning("ours w")
    theirs.warning("theirs w")
    ours.error("ours e")
    assert [line["event"] for line in lines(stream)] == shown


def test_a_level_that_is_none(environment: pytest.MonkeyPatch) -> None:
    """The variable and the choices are named."""
    environment.setenv("LOG_LEVEL", "loud")
    with pytest.raises(ConfigurationError, match="LOG_LEVEL='loud': choose one of debug, info, warning"):
        logs.configure(stream=io.StringIO())


def test_configured_twice_a_line_is_written_once() -> None:
    """The last configuration counts."""
    first, second = io.StringIO(), io.StringIO()
    logs.configure(stream=first)
    logs.configure(stream=second)
    logs.get_logger("mine").info("a")
    logging.getLogger("theirs").info("b")
    assert first.getvalue() == ""
    assert [line["event"] for line in lines(second)] == ["a", "b"]


def test_the_job_that_is_worked_on_is_in_every_line() -> None:
    """As long as it is; what a line says of itself goes before."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    context = JobContext("charge", job_id=7, attempt=2)
    token = logs.job_ids.set(context.ids)
    logging.getLogger("library").info("within")
    logs.get_logger("mine").info("own", job=8)
    logs.job_ids.reset(token)
    logging.getLogger("library").info("after")
    within, own, after = lines(stream)
    assert (within["task"], within["job"], within["attempt"]) == ("charge", 7, 2)
    assert own["job"] == 8
    assert "job" not in after


def test_what_json_cannot_hold_is_shown_by_its_repr() -> None:
    """No line is lost because of a value."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get_logger("mine").info("odd", value={1}, text="\ud800")
    assert lines(stream)[0]["event"] == "odd"
