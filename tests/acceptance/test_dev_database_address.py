"""The address of the embedded database for clients that need TCP."""

import json
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from jobfn.devserver.loopback import Access
from jobfn.devserver.postgres import EmbeddedPostgres, folder_for
from support.commands import Command, Spawn

FUNCTIONS = """
from jobfn import task

@task("mail")
def mail() -> None: ...
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    yield tmp_path
    shutil.rmtree(folder_for(tmp_path), ignore_errors=True)  # for root it is outside of tmp_path


async def test_dev_prints_an_address_with_port_and_password(project: Path, spawn: Spawn, command: Command) -> None:
    before = await command("jobfn", "db", "url")
    assert (before.code, "start `jobfn dev functions.py` in this folder" in before.output) == (2, True)

    dev = await spawn("jobfn", "dev", "functions.py", "--port", "0", XDG_STATE_HOME=str(project / "state"))
    await dev.until("jobfn db url")
    printed = await command("jobfn", "db", "url")
    url = urlsplit(printed.output)
    assert (printed.code, url.hostname, url.username, url.path) == (0, "127.0.0.1", "postgres", "/postgres")
    assert len(url.password or "") == 32
    assert (project / ".jobfn" / "dev.json").stat().st_mode & 0o777 == 0o600
    connection = await asyncpg.connect(printed.output)
    try:
        assert await connection.fetchval("select count(*) from app_jobs.jobs") == 0
    finally:
        await connection.close()
    dev.send(signal.SIGINT)
    assert await dev.wait() == 0


async def test_port_needs_the_password_and_stays(project: Path) -> None:
    data = folder_for(project)
    postgres = EmbeddedPostgres(data, on_loopback=True)
    postgres.start()
    try:
        first = await postgres.loopback_dsn()
        assert first is not None
        assert (data / "jobfn-access.json").stat().st_mode & 0o777 == 0o600
        password = urlsplit(first).password or ""
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(first.replace(password, "wrong"))
        server = psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))
        listening = {each.laddr.ip for each in server.net_connections("inet") if each.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        owner = await asyncpg.connect(postgres.dsn())
        try:
            rules = await owner.fetch("select type, address, auth_method from pg_hba_file_rules order by type desc")
            assert [tuple(rule) for rule in rules] == [
                ("local", None, "trust"),
                ("host", "127.0.0.1", "scram-sha-256"),
            ]
            assert str(await owner.fetchval("select rolpassword from pg_authid where rolname = 'postgres'")).startswith(
                "SCRAM-SHA-256$"
            )
        finally:
            await owner.close()
    finally:
        postgres.stop()

    postgres = EmbeddedPostgres(data, on_loopback=True)
    postgres.start()
    try:
        assert await postgres.loopback_dsn() == first
    finally:
        postgres.stop()

    with socket.create_server(("127.0.0.1", Access.of(data).port)):
        postgres = EmbeddedPostgres(data, on_loopback=True)
        postgres.start()
        try:
            moved = await postgres.loopback_dsn()
        finally:
            postgres.stop()
    assert moved is not None
    assert (urlsplit(moved).password, urlsplit(moved).port != urlsplit(first).port) == (password, True)


async def test_server_without_a_port_has_no_address(project: Path) -> None:
    """One that runs already is joined as it is. It stops with the last process, also if another one was killed."""
    data = folder_for(project)
    first, second = EmbeddedPostgres(data), EmbeddedPostgres(data, on_loopback=True)
    first.start()
    processes = data / ".handle_pids.json"
    processes.write_text(json.dumps([99_999_999, *json.loads(processes.read_text())]))  # the first one was killed
    try:
        second.start()
        assert await second.loopback_dsn() is None
    finally:
        second.stop()
        first.stop()
    assert not (data / "postmaster.pid").exists()
