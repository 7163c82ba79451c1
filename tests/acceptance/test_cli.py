"""Usage errors, migrations and ``jobfn enqueue``."""

import json
from pathlib import Path

import pytest

from support.commands import Command, Spawn
from support.jobs import TENANT, Jobs


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no-such-verb", "No such command 'no-such-verb'"),
        ("serve nowhere.py", "no file nowhere.py"),
        ("serve no_such_module_here", "no module 'no_such_module_here'"),
        ("serve broken.py", "broken.py:1: SyntaxError"),
        ("serve empty.py", "empty.py has no task"),
        ("serve raises.py", "raises.py:1: ZeroDivisionError: division by zero"),
        ("serve good.py:nothing", "good.py has no app 'nothing'"),
        ("serve good.py --port 70000", "Invalid value for '--port'"),
        ("dev nowhere.py", "no file nowhere.py"),
        ("service --concurrency 0", "Invalid value for '--concurrency'"),
        (
            "service --only odd",
            "jobfn: Invalid value for '--only': 'odd' is not one of 'worker', 'callbacks', 'scheduler' (see: jobfn",
        ),
        ("enqueue t", "no database is set"),
        ("enqueue t {", "the payload is not valid JSON"),
        ("enqueue t NaN", "NaN is not valid JSON: send null or a string instead"),
        ("enqueue t {} --run-at soon", "--run-at 'soon' is not an ISO 8601 time"),
        ("enqueue t {} --expires-at soon", "--expires-at 'soon' is not an ISO 8601 time"),
        ("enqueue t {} --database-id 7", "Invalid value for '--database-id'"),
        ("enqueue t {} --max-attempts 0", "Invalid value for '--max-attempts'"),
        ("enqueue t {} --database-url nonsense", "is not a database address"),
        ("db status", "no database is set"),
        ("db migrate --database-url http://x/y", "is not a database address"),
    ],
)
async def test_wrong_usage_is_one_line(line: str, message: str, invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "good.py").write_text('from jobfn import task\n@task("t")\ndef t(payload: dict) -> None: ...\n')
    result = await invoke("jobfn", *line.split(" "))
    assert message in result.output
    assert result.output.startswith("jobfn: ")
    assert result.output.count("\n") == 0
    assert result.code == 2


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        pytest.param("[" * 100_000, "jobfn: the payload is nested too deeply: flatten it", id="deep"),
        pytest.param(
            b'"\xff"'.decode("utf-8", "surrogateescape"), "jobfn: the payload is not valid UTF-8", id="latin-1"
        ),
    ],
)
async def test_unreadable_payload_is_rejected(payload: str, message: str, invoke: Command) -> None:
    result = await invoke("jobfn", "enqueue", "t", payload)
    assert result.output.startswith(message)
    assert (result.output.count("\n"), result.code) == (0, 2)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"INTERNAL_JOBS_CALLBACK_PORT": "99999"}, "INTERNAL_JOBS_CALLBACK_PORT='99999'"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud'"),
    ],
)
async def test_invalid_environment_variable_is_named(variables: dict[str, str], message: str, invoke: Command) -> None:
    result = await invoke("jobfn", "service", **variables)
    assert (result.code, result.output.startswith(f"jobfn: {message}")) == (2, True), result.output


@pytest.mark.parametrize("variable", ["JOBFN_INVOKE_SECRET", "JOBFN_INVOKE_KEY", "JOBS_CALLBACK_SECRET"])
async def test_short_secret_is_refused_in_one_line(variable: str, invoke: Command) -> None:
    result = await invoke("jobfn", "service", **{variable: "hunter2"})
    assert (result.code, result.output) == (
        2,
        f"jobfn: {variable}: a secret must have at least 32 characters: make one with `openssl rand -hex 32` [J101]",
    )


@pytest.mark.parametrize("line", ["http://orders.jobs:80/x", "orders"])
async def test_invoke_secret_of_a_function_is_printed(line: str, invoke: Command) -> None:
    result = await invoke(
        *("jobfn", "invoke-secret", line), JOBFN_INVOKE_KEY="k" * 32, KNATIVE_SERVICE_URL="http://{task}.jobs"
    )
    assert (result.code, result.output) == (0, "e6d2db24e5507b6f9672f38d2cd4cf3b5a0438635a7c009953f23b27e5fc8032")


@pytest.mark.parametrize(
    ("url", "variables", "message"),
    [
        ("http://h", {}, "JOBFN_INVOKE_KEY is not set: set it to the worker's value"),
        ("http://h:x", {"JOBFN_INVOKE_KEY": "k" * 32}, "'http://h:x' is not a URL"),
    ],
)
async def test_invoke_secret_needs_the_key_and_a_url(
    url: str, variables: dict[str, str], message: str, invoke: Command
) -> None:
    result = await invoke("jobfn", "invoke-secret", url, **variables)
    assert (result.code, message in result.output, result.output.count("\n")) == (2, True, 0)


async def test_unreachable_database_is_named_without_password(invoke: Command) -> None:
    result = await invoke("jobfn", "db", "status", DATABASE_URL="postgresql://me:secret@127.0.0.1:1/shop")
    assert result.code == 1
    assert "me:***@127.0.0.1:1/shop cannot be reached" in result.output
    assert "secret" not in result.output


async def test_migrate_installs_the_schema_and_status_shows_it(command: Command, empty_database: str) -> None:
    env = {"DATABASE_URL": empty_database}
    before = await command("jobfn", "db", "status", **env)
    assert before.code == 3
    assert "not installed" in before.output
    assert len({line.index("missing") for line in before.output.splitlines() if line.endswith("missing")}) == 1
    first = await command("jobfn", "db", "migrate", **env)
    assert (first.code, "applied 0001 tables" in first.output) == (0, True)
    second = await command("jobfn", "db", "migrate", **env)
    assert (second.code, second.output) == (0, "schema app_jobs is up to date")
    after = await command("jobfn", "db", "status", "--json", **env)
    status = json.loads(after.output)
    assert (after.code, status["kind"]) == (0, "jobfn")
    assert all(step["applied"] for step in status["migrations"])


async def test_enqueue_stores_every_option(command: Command, database: str, jobs: Jobs) -> None:
    result = await command(
        *("jobfn", "enqueue", "email:send", '{"id": 7}', "--key", "k", "--queue", "q", "--priority", "-3"),
        *("--max-attempts", "2", "--run-at", "2040-01-31T09:00+01:00", "--database-id", TENANT),
        *("--expires-at", "2040-02-01T00:00Z"),
        DATABASE_URL=database,
    )
    assert result.code == 0, result.output
    row = await jobs.row(int(result.output))
    assert json.loads(row["payload"]) == {"id": 7}
    assert (row["task_identifier"], row["key"], row["queue_name"]) == ("email:send", "k", "q")
    assert (row["priority"], row["max_attempts"], str(row["database_id"])) == (-3, 2, TENANT)
    assert row["run_at"].isoformat() == "2040-01-31T08:00:00+00:00"
    assert row["expires_at"].isoformat() == "2040-02-01T00:00:00+00:00"
    assert row["entity_type"] is None


async def test_enqueue_stores_the_entity(command: Command, database: str, jobs: Jobs) -> None:
    options = ("--entity-id", TENANT, "--organization-id", TENANT, "--entity-type", "org")
    result = await command("jobfn", "enqueue", "x", *options, DATABASE_URL=database)
    assert result.code == 0, result.output
    entity, organization, kind = await jobs.values(int(result.output), "entity_id", "organization_id", "entity_type")
    assert (str(entity), str(organization), kind) == (TENANT, TENANT, "org")


async def test_task_identifier_that_is_too_long_is_rejected(command: Command, database: str, jobs: Jobs) -> None:
    result = await command("jobfn", "enqueue", "x" * 127, DATABASE_URL=database)
    assert result.code == 1
    assert result.output.startswith("jobfn: the job was not added")
    assert await jobs.count() == 0


async def test_version(command: Command) -> None:
    assert (await command("jobfn", "--version")).output == "0.1.0"
    run_module = "import runpy; runpy.run_module('jobfn', run_name='__main__')"  # as python -m jobfn
    assert (await command("python", "-c", run_module, "--version")).output == "0.1.0"


async def test_taken_port_is_named(spawn: Spawn, command: Command, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text('from jobfn import task\n@task("t")\ndef t(payload: dict) -> None: ...\n')
    first = await spawn("jobfn", "serve", "good.py", "--port", "0", "--host", "127.0.0.1")
    port = json.loads(await first.until("serving"))["port"]
    result = await command("jobfn", "serve", "good.py", "--port", str(port), "--host", "127.0.0.1")
    assert (result.code, f"cannot listen on 127.0.0.1:{port}" in result.output) == (2, True)
