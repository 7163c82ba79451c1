"""Spinner, progress bar, confirmation and the age options."""

import io

import pytest

from jobfn.cli.job_filters import parse_filter
from jobfn.cli.session import ProgressBar
from jobfn.errors import ConfigurationError
from support.clock import ManualClock


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_bar_appears_after_a_second() -> None:
    clock, terminal = ManualClock(), Terminal()
    with ProgressBar("retry jobs", 1000, clock, stream=terminal) as bar:
        bar.advance(500)
        assert terminal.getvalue() == ""
        clock.seconds = 1.1
        bar.advance(500)
        bar.advance(500)
    assert "retry jobs" in terminal.getvalue()
    assert "1000/1000" in terminal.getvalue()


def test_progress_bar_is_hidden_outside_of_a_terminal() -> None:
    clock, stream = ManualClock(), io.StringIO()
    with ProgressBar("retry jobs", 10, clock, stream=stream) as bar:
        clock.seconds = 60
        bar.advance(10)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("7D", 604_800), (" 1w ", 604_800)]
)
def test_age_is_parsed_to_seconds(text: str, seconds: float) -> None:
    assert parse_filter(older_than=text, newer_than=text).older_than_seconds == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1m", "1y", "h", "1h30m"])
def test_invalid_age_is_rejected(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--newer-than .* is not an age: write 30s"):
        parse_filter(newer_than=text)


@pytest.mark.parametrize("text", ["36501d", "9" * 400])
def test_age_of_more_than_a_century_is_rejected(text: str) -> None:
    assert parse_filter(newer_than="36500d").newer_than_seconds == 36_500 * 86_400
    with pytest.raises(ConfigurationError, match=r"--newer-than .* is too long: give at most 36500d"):
        parse_filter(newer_than=text)
