"""How long to fuzz, and the servers that are fuzzed: real processes, whose output and memory are looked at at the end.

The short form, in ``make test``, takes the same requests every time; ``FUZZ=long`` (``make fuzz``) takes ten times as
many, others each time, and prints the seed to repeat them with.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from support.fuzz import CANARY, ReportSink, ServerProcess, Watched, lines_with
from support.network import LOOPBACK, free_port
from support.processes import environment

#: Of the signed callback server: the first signs, both are accepted.
CALLBACK_SECRETS = ("new-secret", "old-secret")
#: How much more memory a server may hold after the run than once it was warm.
MAX_GROWTH_BYTES = 24 * 1024 * 1024


class Server(Protocol):
    """The fixture ``server``: where databases are made."""

    def create(self, template: str | None = None) -> str: ...

    def dsn(self, database: str) -> str: ...

    def drop(self, name: str) -> None: ...


@pytest.fixture(scope="session")
def sink() -> Iterator[ReportSink]:
    """Where the function's reports go. None came twice."""
    opened = ReportSink()
    yield opened
    opened.close()
    twice = {path: count for path, count in opened.reports.items() if count > 1}
    assert not twice


@pytest.fixture(scope="session")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A function app in a process."""
    port = free_port()
    command = [sys.executable, "-m", "jobfn.function", str(Path(__file__).with_name("functions.py"))]
    env = {
        "PORT": str(port),
        "LOG_LEVEL": "debug",
        "JOBFN_CALLBACK_ALLOWED_HOSTS": LOOPBACK,  # whatever is made up here as a URL, nobody else hears of it
        "JOBFN_MAX_BODY_BYTES": str(256 * 1024),
        "JOBFN_REPORT_TIMEOUT_SECONDS": "1",
        "JOBFN_REPORT_WAIT_SECONDS": "1",
    }
    yield from _watched("function", command, env, tmp_path_factory, said="serving", port=port)


def _watched(
    name: str, command: list[str], env: dict[str, str], folders: pytest.TempPathFactory, *, said: str, port: int
) -> Iterator[Watched]:
    folder = folders.mktemp(name)
    server = ServerProcess(command, env=environment(env), log=folder / "log", cwd=folder)
    try:
        server.until_said(said)
        watch = Watched(server, port)
        yield watch
        grown = watch.grown_bytes
        print(f"\n{name}: {watch.requests} requests, {grown / 1e6:+.1f} MB since it was warm")  # noqa: T201  - the figures of a run
        assert server.is_running, server.output[-5_000:]
    finally:
        code = server.stop()
    assert code == 0
    assert grown < MAX_GROWTH_BYTES
    # what a function says of its failure is told; nothing else of what it was sent, or sent itself
    assert not [line for line in lines_with(CANARY, server.output) if '"event": "job failed"' not in line]
    broken = [line for line in lines_with("Traceback", server.output) if "deliberate" not in line]
    assert not broken, broken[0]


@pytest.fixture(scope="session")
def callbacks_database(server: Server, template: str) -> Iterator[str]:
    """The DSN of the database behind the callback servers."""
    name = server.create(template)
    yield server.dsn(name)
    server.drop(name)


@pytest.fixture(scope="session")
def callbacks(callbacks_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A callback server whose URLs are not signed, in a process. Its worker takes no job."""
    yield from _callback_server("callbacks", callbacks_database, tmp_path_factory)


@pytest.fixture(scope="session")
def signed_callbacks(callbacks_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A callback server that wants tokens."""
    yield from _callback_server(
        "signed callbacks", callbacks_database, tmp_path_factory, JOBS_CALLBACK_SECRET=",".join(CALLBACK_SECRETS)
    )


def _callback_server(name: str, dsn: str, folders: pytest.TempPathFactory, **more: str) -> Iterator[Watched]:
    port = free_port()
    env = {
        "DATABASE_URL": dsn,
        "INTERNAL_JOBS_CALLBACK_PORT": str(port),
        "LOG_LEVEL": "debug",
        "JOBS_SUPPORT_ANY": "false",
        "JOBS_POLL_INTERVAL_SECONDS": "3600",
    }
    command = [sys.executable, "-m", "jobfn.service", "--only", "callbacks"]
    yield from _watched(name.replace(" ", "-"), command, env | more, folders, said="callback server started", port=port)
