"""Spinner, progress bar, confirmation and the age options."""

import asyncio
import io

import pytest

from jobfn.cli.job_filters import parse_filter
from jobfn.cli.session import ProgressBar, confirm, with_spinner
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


@pytest.mark.parametrize(("stream", "shows"), [(Terminal(), True), (io.StringIO(), False)])
async def test_spinner_appears_in_a_terminal_only(stream: io.StringIO, shows: bool) -> None:  # noqa: FBT001  - a parameter
    gate = asyncio.Event()

    async def work() -> int:
        await gate.wait()
        return 7

    waiting = asyncio.create_task(with_spinner(work(), "counting", stream=stream, delay_seconds=0.0))
    if shows:
        async with asyncio.timeout(10):
            while "counting" not in stream.getvalue():  # noqa: ASYNC110  - a stream has no event
                await asyncio.sleep(0.01)
    gate.set()
    assert await waiting == 7
    assert ("counting" in stream.getvalue()) is shows


async def test_spinner_is_hidden_for_quick_work() -> None:
    terminal = Terminal()

    async def work() -> int:
        return 7

    assert await with_spinner(work(), "counting", stream=terminal) == 7
    assert terminal.getvalue() == ""


def test_confirmation_without_a_terminal_requires_yes() -> None:
    confirm("remove 3 jobs?", yes=True)
    with pytest.raises(ConfigurationError, match=r"remove 3 jobs\? Confirm with --yes"):
        confirm("remove 3 jobs?", yes=False)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("7D", 604_800), (" 1w ", 604_800)]
)
def test_age_is_parsed_to_seconds(text: str, seconds: float) -> None:
    assert parse_filter(older_than=text, newer_than=text).older_than_seconds == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1m", "1y", "h", "1h30m", "9" * 400])
def test_invalid_age_is_rejected(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--newer-than .* is not an age: write 30s"):
        parse_filter(newer_than=text)
