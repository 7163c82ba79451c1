"""How commands show that they go on: in a terminal, after a second."""

import asyncio
import io

import pytest

from jobfn.cli.job_filters import filter_of
from jobfn.cli.session import Bar, confirm, with_spinner
from jobfn.errors import ConfigurationError


class Terminal(io.StringIO):
    """A stream that says that somebody watches."""

    def isatty(self) -> bool:
        return True


class HandClock:
    """Seconds that pass when the test says so."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bar_comes_after_a_second() -> None:
    """Not for what is quick; then with how far it is, and never past the end."""
    clock, terminal = HandClock(), Terminal()
    with Bar("retry jobs", 1000, clock, stream=terminal) as bar:
        bar.advance(500)
        assert terminal.getvalue() == ""
        clock.seconds = 1.1
        bar.advance(500)
        bar.advance(500)
    assert "retry jobs" in terminal.getvalue()
    assert "1000/1000" in terminal.getvalue()


def test_no_bar_where_nobody_watches() -> None:
    """A log is no place for it."""
    clock, stream = HandClock(), io.StringIO()
    with Bar("retry jobs", 10, clock, stream=stream) as bar:
        clock.seconds = 60
        bar.advance(10)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("stream", "shows"), [(Terminal(), True), (io.StringIO(), False)])
async def test_what_takes_long_says_so(stream: io.StringIO, shows: bool) -> None:  # noqa: FBT001  - of a table
    """Where somebody watches."""
    gate = asyncio.Event()

    async def work() -> int:
        await gate.wait()
        return 7

    waiting = asyncio.create_task(with_spinner(work(), "counting", stream=stream, after_seconds=0.0))
    if shows:
        async with asyncio.timeout(10):
            while "counting" not in stream.getvalue():  # noqa: ASYNC110  - a stream announces nothing
                await asyncio.sleep(0.01)
    gate.set()
    assert await waiting == 7
    assert ("counting" in stream.getvalue()) is shows


async def test_what_is_quick_says_nothing() -> None:
    """Nor does what fails at once."""
    terminal = Terminal()

    async def work() -> int:
        return 7

    assert await with_spinner(work(), "counting", stream=terminal) == 7
    assert terminal.getvalue() == ""


def test_yes_is_not_asked_for_twice() -> None:
    """--yes goes on; where nobody can be asked, it is needed."""
    confirm("remove 3 jobs?", yes=True)
    with pytest.raises(ConfigurationError, match=r"remove 3 jobs\? Say --yes"):
        confirm("remove 3 jobs?", yes=False)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("7D", 604_800), (" 1w ", 604_800)]
)
def test_ages(text: str, seconds: float) -> None:
    """With a unit or in seconds."""
    assert filter_of(older_than=text, newer_than=text).older_than_seconds == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1m", "1y", "h", "1h30m", "9" * 400])
def test_ages_that_are_none(text: str) -> None:
    """Says which option and how to write it."""
    with pytest.raises(ConfigurationError, match=r"--newer-than .* is no age: write 30s"):
        filter_of(newer_than=text)
