"""``jobfn db shell``: psql, or a prompt of jobfn."""

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

from jobfn.cli.db_shell import _cell
from support.commands import Command
from support.jobs import Jobs
from support.processes import JOBFN, environment


async def shell(database: str, text: str, path: Path) -> tuple[int | None, list[str]]:
    """Send a text to the prompt of jobfn: the path has no psql. Return the exit code and the lines."""
    process = await asyncio.create_subprocess_exec(
        JOBFN,
        "db",
        "shell",
        env=environment({"DATABASE_URL": database, "PATH": str(path)}),
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
    )
    output, _ = await process.communicate(text.encode())
    return process.returncode, output.decode().splitlines()


async def test_prompt_runs_statements_and_goes_on_after_an_error(database: str, jobs: Jobs, tmp_path: Path) -> None:
    job = await jobs.add("mail")
    text = (
        "select id, task_identifier, locked_at\nfrom app_jobs.jobs;\n\nselect nothing;\n"
        "update app_jobs.jobs set priority = 7;\nselect 1 where false"
    )
    code, lines = await shell(database, text, tmp_path)
    assert code == 0
    assert lines[0].split() == ["id", "task_identifier", "locked_at"]
    assert lines[1].split() == [str(job), "mail"]
    assert lines[2] == "(1 row)"
    assert lines[3].startswith('error: column "nothing" does not exist')
    assert lines[4] == "UPDATE 1"
    assert lines[-1] == "(0 rows)"
    assert (await jobs.row(job))["priority"] == 7


async def test_prompt_shows_a_hundred_rows_and_ends_at_quit(database: str, tmp_path: Path) -> None:
    text = "\\d+ jobs\nselect * from generate_series(1, 150);\n\\q\nselect 'not run';\n"
    code, (first, *lines) = await shell(database, text, tmp_path)
    assert first == "error: \\d+ is a command of psql, which is not installed: write SQL"
    assert (code, len(lines), lines[-1]) == (0, 102, "(150 rows)")


async def test_psql_is_used_if_it_is_installed(database: str, tmp_path: Path, command: Command) -> None:
    psql = tmp_path / "psql"
    psql.write_text('#!/bin/sh\necho "psql $@"\n')
    psql.chmod(0o755)
    result = await command("jobfn", "db", "shell", DATABASE_URL=database, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (result.code, result.output) == (0, f"psql {database}")


def test_cells_are_one_line() -> None:
    assert [_cell(value) for value in (None, {"a": [1]}, "two\nlines", 1.5)] == ["", '{"a": [1]}', "two lines", "1.5"]
