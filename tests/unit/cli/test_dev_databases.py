"""``jobfn dev --list`` and ``--remove``, and the first line of ``jobfn dev``."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from jobfn.devserver.databases import DevDatabases
from jobfn.devserver.postgres import folder_for
from jobfn.devserver.state import DevState
from support.commands import Command


@pytest.fixture
def databases(tmp_path: Path) -> DevDatabases:
    return DevDatabases({"XDG_STATE_HOME": str(tmp_path / "state")})


def make(databases: DevDatabases, project: Path, size: int) -> Path:
    """Make the data of a folder, as ``jobfn dev`` leaves it."""
    project.mkdir()
    folder = folder_for(project)
    (folder / "base").mkdir(parents=True)
    (folder / "base" / "1").write_bytes(bytes(size))
    databases.add(project)
    return folder


async def test_databases_are_listed_by_size_and_removed(
    databases: DevDatabases, tmp_path: Path, invoke: Command
) -> None:
    state = str(tmp_path / "state")
    assert (await invoke("jobfn", "dev", "--list", XDG_STATE_HOME=state)).output == "no development databases"
    small, large = tmp_path / "small", tmp_path / "large"
    folders = [make(databases, small, 2_000_000), make(databases, large, 40_000_000)]
    try:
        (folders[1] / "postmaster.pid").write_text(f"{os.getpid()}\n")
        both = await invoke("jobfn", "dev", "--list", "--remove", str(small), "--yes", XDG_STATE_HOME=state)
        assert (both.code, "--list and --remove exclude each other" in both.output) == (2, True)
        listed = await invoke("jobfn", "dev", "--list", XDG_STATE_HOME=state)
        assert [line.split() for line in listed.output.splitlines()] == [
            ["SIZE", "STATE", "FOLDER"],
            ["40", "MB", "running", str(large)],
            ["2", "MB", "stopped", str(small)],
        ]
        removed = await invoke("jobfn", "dev", "--remove", str(small), "--yes", XDG_STATE_HOME=state)
        assert (removed.code, removed.output, folders[0].exists()) == (0, "removed 2 MB", False)
        refused = await invoke("jobfn", "dev", "--remove", str(large), "--yes", XDG_STATE_HOME=state)
        assert (refused.code, "is running: stop jobfn dev there first" in refused.output) == (2, True)
        assert [each.project for each in databases.all()] == [large]
    finally:
        for folder in folders:
            for file in sorted(folder.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            if folder.exists():
                folder.rmdir()


async def test_folder_without_a_database_is_named(tmp_path: Path, invoke: Command) -> None:
    result = await invoke("jobfn", "dev", "--remove", str(tmp_path), XDG_STATE_HOME=str(tmp_path))
    assert (result.code, "has no development database: `jobfn dev --list`" in result.output) == (2, True)


async def test_removal_is_confirmed(databases: DevDatabases, tmp_path: Path, invoke: Command) -> None:
    folder = make(databases, tmp_path / "project", 1000)
    result = await invoke("jobfn", "dev", "--remove", str(tmp_path / "project"), XDG_STATE_HOME=str(tmp_path / "state"))
    assert (result.code, "Confirm with --yes" in result.output, folder.exists()) == (2, True, True)
    databases.remove(databases.find(tmp_path / "project"))
    assert (folder.exists(), databases.all()) == (False, ())


async def test_database_of_a_deleted_folder_is_removed(databases: DevDatabases, tmp_path: Path) -> None:
    folder = make(databases, tmp_path / "project", 1000)
    (tmp_path / "project").rename(tmp_path / "moved")
    if folder.exists():  # of root, outside of the project
        databases.remove(databases.find(tmp_path / "project"))
    assert (folder.exists(), databases.all()) == (False, ())


async def test_file_is_necessary(invoke: Command) -> None:
    result = await invoke("jobfn", "dev")
    assert (result.code, "the file with your tasks is missing: jobfn dev functions.py" in result.output) == (2, True)


async def test_first_line_comes_before_the_imports(command: Command) -> None:
    """Importing the libraries takes most of the second before anything else can be printed."""
    code = """
import sys
sys.argv = ["jobfn", "dev", "nowhere.py"]
from jobfn.cli import main
class Stream:
    def write(self, text):
        heavy = {"typer", "pydantic", "asyncpg", "starlette"} & set(sys.modules)
        print(repr(text), sorted(heavy))
    def flush(self): pass
    def isatty(self): return False
sys.stderr = Stream()
sys.exit(main())
"""
    result = await command("python", "-c", code)
    assert result.output.splitlines()[0] == "'starting jobfn dev\\n' []"
    assert result.code == 2


async def test_taken_port_names_the_other_folder(databases: DevDatabases, tmp_path: Path, command: Command) -> None:
    other = tmp_path / "other"
    folder = make(databases, other, 1)
    (tmp_path / "functions.py").write_text("")
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            state = DevState(
                pid=os.getpid(), database_url=None, function_url=f"http://127.0.0.1:{port}/", callback_url="http://x/"
            )
            with state.published(other):
                result = await command(
                    "jobfn", "dev", "functions.py", "--port", str(port), XDG_STATE_HOME=str(tmp_path / "state")
                )
    finally:
        shutil.rmtree(folder)
    assert result.code == 2
    assert f"port {port} is used by the jobfn dev of {other}: stop it, or choose another port" in result.output
