"""The table of faults at the end of a session, and the fixtures of network namespaces."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chaos import table
from chaos.cluster import migrated_data
from chaos.namespace import Namespace, open_namespace
from chaos.silence import DEFAULTS, SHORT, Timing


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    """Show the table."""
    if table.rows:
        terminalreporter.section("faults")
        for line in table.lines():
            terminalreporter.write_line(line)


@pytest.fixture
async def namespace() -> AsyncIterator[Namespace]:
    """A network namespace."""
    async with open_namespace() as opened:
        yield opened


@pytest.fixture(scope="session")
def data() -> Iterator[Path]:
    """The data of a server with the jobs schema."""
    with migrated_data() as folder:
        yield folder


@pytest.fixture(params=["short", pytest.param("long", marks=pytest.mark.long)])
def timing(request: pytest.FixtureRequest) -> Timing:
    """Short timeouts; in the long form, the defaults."""
    return SHORT if request.param == "short" else DEFAULTS
