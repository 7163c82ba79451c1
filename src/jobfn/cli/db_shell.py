"""``jobfn db shell``: psql on the command's database, or a prompt of jobfn where psql is not installed."""

import asyncio
import json
import os
import shutil
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobfn.cli.database import resolve_database_url, run_async
from jobfn.cli.options import DatabaseUrl
from jobfn.cli.output import echo
from jobfn.cli.render_times import columns
from jobfn.database.connection import DATABASE_ERRORS, connect
from jobfn.errors import error_text

if TYPE_CHECKING:
    import asyncpg

#: Maximum number of rows that the prompt shows.
MAX_ROWS = 100
_PROMPT, _CONTINUED = "jobfn> ", "   ... "


def shell_command(database_url: DatabaseUrl = None) -> None:
    """Open a SQL prompt: psql, or one of jobfn without it."""
    dsn = resolve_database_url(database_url)
    if shutil.which("psql") is not None:
        os.execvp("psql", ["psql", *([dsn] if dsn is not None else [])])  # noqa: S606, S607  - the user's own psql
    run_async(_run_prompt(dsn))


async def _run_prompt(dsn: str | None) -> None:
    connection = await connect(dsn, application_name="jobfn-shell")
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        echo("psql is not installed: this is jobfn's own prompt. End statements with a semicolon; Ctrl-D quits.")
    try:
        text = ""
        while (line := await _read_line((_CONTINUED if text else _PROMPT) if is_terminal else "")) is not None:
            if not text and line.strip() in {"\\q", "quit", "exit"}:
                return
            if not text and line.startswith("\\"):
                echo(f"error: {line.split()[0]} is a command of psql, which is not installed: write SQL")
                continue
            text += line
            if text.rstrip().endswith(";"):
                await _execute(connection, text)
                text = ""
            elif not text.strip():
                text = ""
        if text.strip():
            await _execute(connection, text)
    finally:
        await connection.close()


async def _read_line(prompt: str) -> str | None:
    """Return the next line; None at the end of the input."""
    if prompt:
        sys.stdout.write(prompt)
        sys.stdout.flush()
    return await asyncio.to_thread(sys.stdin.readline) or None


async def _execute(connection: "asyncpg.Connection[Any]", text: str) -> None:
    """Run a statement, and print its rows, its status or its error."""
    try:
        statement = await connection.prepare(text)
        rows = await statement.fetch()
    except DATABASE_ERRORS as error:
        echo(f"error: {error_text(error)}")
        return
    if names := tuple(attribute.name for attribute in statement.get_attributes()):
        shown = [tuple(_cell(value) for value in row) for row in rows[:MAX_ROWS]]
        echo("\n".join(columns([names, *shown])))
        echo(f"({len(rows):,} row{'' if len(rows) == 1 else 's'})")
    else:
        echo(statement.get_statusmsg())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return " ".join(text.split())
