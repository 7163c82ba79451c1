"""Servers that are fuzzed: real processes, whose output and memory are checked at the end.

The short form, in ``make test``, always sends the same requests. ``FUZZ=long`` (``make fuzz``) sends 25 times as many,
with a seed that it prints.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fuzz import CANARY, FuzzTarget, ReportSink, ServerProcess, lines_with
from support.network import LOOPBACK, free_port
from support.processes import environment
from support.secrets import CALLBACK_SECRET, OLD_CALLBACK_SECRET

#: Secrets of the signed callback server: the first signs, both are accepted.
MAX_MEMORY_GROWTH_BYTES = 24 * 1024 * 1024


@pytest.fixture(scope="session")
def sink() -> Iterator[ReportSink]:
    """Receive the function's reports, and check that none was sent twice."""
    sink = ReportSink()
    yield sink
    sink.close()
    assert not {path: count for path, count in sink.reports.items() if count > 1}


@pytest.fixture(scope="session")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzTarget]:
    """Run a function app."""
    port = free_port()
    command = [sys.executable, "-m", "jobfn.function", str(Path(__file__).with_name("functions.py"))]
    env = {
        "PORT": str(port),
        "LOG_LEVEL": "debug",
        "JOBFN_CALLBACK_ALLOWED_HOSTS": LOOPBACK,  # generated callback URLs must not reach other hosts
        "JOBFN_MAX_BODY_BYTES": str(256 * 1024),
        "JOBFN_REPORT_TIMEOUT_SECONDS": "1",
        "JOBFN_REPORT_WAIT_SECONDS": "1",
    }
    yield from _run_target("function", command, env, tmp_path_factory, port=port)


def _run_target(
    name: str, command: list[str], env: dict[str, str], folders: pytest.TempPathFactory, *, port: int
) -> Iterator[FuzzTarget]:
    folder = folders.mktemp(name)
    process = ServerProcess(command, env=environment(env), port=port, log=folder / "log", cwd=folder)
    try:
        process.wait_until_listening()
        target = FuzzTarget(process, port)
        yield target
        growth = target.memory_growth_bytes
        print(f"\n{name}: {target.requests} requests, {growth / 1e6:+.1f} MB since the warm-up")  # noqa: T201
        assert process.is_running, process.output[-5_000:]
    finally:
        code = process.stop()
    assert code == 0
    assert growth < MAX_MEMORY_GROWTH_BYTES
    # a handler's own error message is logged; nothing else that was sent may be
    assert not [
        line
        for line in lines_with(CANARY, process.output)
        if not re.search(r'"event":"job (permanently )?failed"', line)
    ]
    unexpected = [line for line in lines_with("Traceback", process.output) if "deliberate" not in line]
    assert not unexpected, unexpected[0]


@pytest.fixture(scope="session")
def callbacks_dsn(server: Any, template: str) -> Iterator[str]:
    """Create the database of the callback servers."""
    name = server.create(template)
    yield server.dsn(name)
    server.drop(name)


@pytest.fixture(scope="session")
def callbacks(callbacks_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzTarget]:
    """Run a callback server without JOBS_CALLBACK_SECRET."""
    yield from _run_callback_server("callbacks", callbacks_dsn, tmp_path_factory)


@pytest.fixture(scope="session")
def signed_callbacks(callbacks_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzTarget]:
    """Run a callback server that requires tokens."""
    yield from _run_callback_server(
        "signed-callbacks",
        callbacks_dsn,
        tmp_path_factory,
        JOBS_CALLBACK_SECRET=f"{CALLBACK_SECRET},{OLD_CALLBACK_SECRET}",
    )


def _run_callback_server(
    name: str, dsn: str, folders: pytest.TempPathFactory, **variables: str
) -> Iterator[FuzzTarget]:
    port = free_port()
    env = {
        "DATABASE_URL": dsn,
        "INTERNAL_JOBS_CALLBACK_PORT": str(port),
        "LOG_LEVEL": "debug",
        "JOBS_SUPPORT_ANY": "false",
        "JOBS_POLL_INTERVAL_SECONDS": "3600",
    }
    command = [sys.executable, "-m", "jobfn.service", "--only", "callbacks"]
    yield from _run_target(name, command, env | variables, folders, port=port)
