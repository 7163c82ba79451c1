"""``jobfn register``: rows of function definitions."""

import json
from pathlib import Path
from typing import Any

import asyncpg

from support.commands import Command, CommandResult
from support.definitions import WITH_CATEGORIES, WITH_URLS

FUNCTIONS = """
from jobfn import Requirement, task
from pydantic import BaseModel, Field

class Mail(BaseModel):
    to: str = Field(description="The address.")
    count: int = 1
    headers: dict[str, str] = {}

@task("email:send", timeout=2.5, secrets=["SMTP_PASSWORD"], configs=[Requirement("SMTP_HOST", required=False)])
async def send(payload: Mail) -> None:
    '''Send a mail.'''

@task("cleanup")
async def cleanup(payload: None) -> None: ...
"""
PORTS = [
    {"name": "to", "type": "string", "description": "The address."},
    {"name": "count", "type": "number", "optional": True},
    {"name": "headers", "type": "json", "optional": True},
]
TENANT = "5b720132-17d5-424d-9bcb-ee7b17c13d43"


class Register:
    """Runs ``jobfn register functions.py``."""

    def __init__(self, command: Command, database: str, folder: Path) -> None:
        self._command = command
        self._database = database
        self.file = folder / "functions.py"
        self.file.write_text(FUNCTIONS)

    async def __call__(self, *arguments: str) -> CommandResult:
        result = await self._command("jobfn", "register", str(self.file), *arguments, DATABASE_URL=self._database)
        assert "Traceback" not in result.output
        return result


async def rows(connection: "asyncpg.Connection[Any]", table: str) -> dict[str, dict[str, Any]]:
    fetched = await connection.fetch(f"select to_jsonb(d)::text from compute_public.{table} d")
    return {row["task_identifier"]: row for row in (json.loads(row[0]) for row in fetched)}


async def test_rows_are_planned_then_written_then_kept(
    connection: "asyncpg.Connection[Any]", command: Command, database: str, tmp_path: Path
) -> None:
    await connection.execute(WITH_URLS)
    register = Register(command, database, tmp_path)
    options = ("--service-url", "http://mail.jobs", "--column", "is_invocable=true")
    planned = await register(*options)
    assert (planned.code, planned.output.splitlines()[-1]) == (3, "2 to create")
    assert '    + service_url  "http://mail.jobs/email:send"' in planned.output
    assert await rows(connection, "platform_function_definitions") == {}

    applied = await register(*options, "--apply")
    assert (applied.code, applied.output.splitlines()[-1]) == (0, "2 created")
    written = await rows(connection, "platform_function_definitions")
    assert {name: value for name, value in written["email:send"].items() if name != "id"} == {
        "task_identifier": "email:send",
        "scope": "email",
        "name": "send",
        "service_url": "http://mail.jobs/email:send",
        "description": "Send a mail.",
        "queue_name": "default",
        "max_attempts": 25,
        "is_invocable": True,
        "required_secrets": [{"name": "SMTP_PASSWORD", "required": True}],
        "inputs": PORTS,
    }
    assert [written["cleanup"][name] for name in ("scope", "name", "inputs")] == ["custom", "cleanup", []]

    await connection.execute("update compute_public.platform_function_definitions set queue_name = 'mails'")
    kept = await register(*options)
    assert kept.output.splitlines() == ["= keep    email:send", "= keep    cleanup", "2 unchanged"]
    register.file.write_text(FUNCTIONS.replace("Send a mail.", "Send one mail."))
    changed = await register("--apply")
    assert changed.output.splitlines() == [
        "~ change  email:send",
        '    - description  "Send a mail."',
        '    + description  "Send one mail."',
        "= keep    cleanup",
        "1 changed, 1 unchanged",
    ]
    row = (await rows(connection, "platform_function_definitions"))["email:send"]
    assert [row[name] for name in ("description", "queue_name", "service_url")] == [
        "Send one mail.",
        "mails",
        "http://mail.jobs/email:send",
    ]


async def test_newest_table_computes_the_identifier(
    connection: "asyncpg.Connection[Any]", command: Command, database: str, tmp_path: Path
) -> None:
    await connection.execute(WITH_CATEGORIES)
    register = Register(command, database, tmp_path)
    refused = await register("--apply")
    assert (refused.code, "for example to custom:cleanup" in refused.output) == (2, True)
    register.file.write_text(FUNCTIONS.replace('"cleanup"', '"files:cleanup"'))
    refused = await register("--apply")
    assert (refused.code, "--column NAME=VALUE" in refused.output) == (1, True)
    assert await rows(connection, "function_definitions") == {}
    assert (await register("--apply", "--column", f"database_id={TENANT}", "--json")).code == 0
    written = await rows(connection, "function_definitions")
    assert {task: (row["category"], row["timeout_seconds"]) for task, row in written.items()} == {
        "email:send": ("email", 3),
        "files:cleanup": ("files", None),
    }
    assert written["email:send"]["required_configs"] == [{"name": "SMTP_HOST", "required": False, "provider": None}]
    assert (await register()).output.splitlines()[-1] == "2 unchanged"
    refused = await register("--service-url", "http://mail.jobs")
    assert (refused.code, "has no column service_url" in refused.output) == (2, True)
    await connection.execute(
        "insert into compute_public.function_definitions (database_id, category, name)"
        " values (gen_random_uuid(), 'email', 'send')"
    )
    assert "has several rows of the task 'email:send'" in (await register()).output


async def test_wrong_usage_is_one_line(command: Command, database: str, tmp_path: Path) -> None:
    register = Register(command, database, tmp_path)
    cases: list[tuple[tuple[str, ...], str]] = [
        ((), "name one with --table"),
        (("--service-url", "mail.jobs"), "must begin with http:// or https://"),
        (("--column", "is_invocable"), "must have the form NAME=VALUE"),
    ]
    for arguments, message in cases:
        result = await register(*arguments)
        assert (result.code, len(result.output.splitlines()), message in result.output) == (2, 1, True)
