"""Every verb: what it is for in --help, what it does, and one clear line for every wrong use."""

import json
from pathlib import Path

import pytest

from support.commands import Command, Spawn
from support.jobs import TENANT, Jobs


@pytest.mark.parametrize(
    "verb", ["dev", "serve", "service", "enqueue", "db migrate", "db status"], ids=lambda verb: verb.replace(" ", "-")
)
async def test_every_verb_has_help_with_an_example(verb: str, command: Command) -> None:
    """--help exits with 0 and shows a line to copy."""
    shown = await command("jobfn", *verb.split(), "--help")
    assert shown.code == 0
    assert "example: " in shown.output
    assert f"jobfn {verb}" in shown.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no-such-verb", "No such command 'no-such-verb'"),
        ("db no-such-verb", "No such command 'no-such-verb'"),
        ("serve", "Missing argument 'FILE_OR_MODULE[:app]'"),
        ("serve nowhere.py", "no file nowhere.py"),
        ("serve no_such_module_here", "no module 'no_such_module_here'"),
        ("serve broken.py", "broken.py:1: SyntaxError"),
        ("serve empty.py", "empty.py holds no task"),
        ("serve raises.py", "raises.py:1: ZeroDivisionError: division by zero"),
        ("serve good.py:nothing", "good.py has no app 'nothing'"),
        ("serve good.py --port 70000", "Invalid value for '--port'"),
        ("dev nowhere.py", "no file nowhere.py"),
        ("dev", "Missing argument"),
        ("service --concurrency 0", "Invalid value for '--concurrency'"),
        (
            "service --only odd",
            "jobfn: Invalid value for '--only': 'odd' is not one of 'worker', 'callbacks', 'scheduler' (see: jobfn",
        ),
        ("enqueue", "Missing argument"),
        ("enqueue t", "no database"),
        ("enqueue t {", "the payload is no JSON"),
        ("enqueue t NaN", "the payload holds NaN, which JSON has no number for: send null or a text instead"),
        ("enqueue t [1,-Infinity]", "the payload holds -Infinity"),
        ("enqueue t {} --run-at soon", "--run-at 'soon' is no ISO 8601 time"),
        ("enqueue t {} --database-id 7", "Invalid value for '--database-id'"),
        ("enqueue t {} --max-attempts 0", "Invalid value for '--max-attempts'"),
        ("enqueue t {} --database-url nonsense", "is no database address"),
        ("db status", "no database"),
        ("db migrate --database-url http://x/y", "is no database address"),
    ],
)
async def test_wrong_use_is_one_clear_line(line: str, message: str, command: Command, tmp_path: Path) -> None:
    """Exit code 2, one line on standard error that says what is wrong, no traceback."""
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "good.py").write_text('from jobfn import task\n@task("t")\ndef t(payload: dict) -> None: ...\n')
    ended = await command("jobfn", *line.split(" "))
    assert message in ended.output
    assert ended.output.startswith("jobfn: ")
    assert ended.output.count("\n") == 0
    assert ended.code == 2


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        pytest.param("[" * 100_000, "jobfn: the payload is nested too deeply: nothing could read it", id="deep"),
        pytest.param(b'"\xff"'.decode("utf-8", "surrogateescape"), "jobfn: the payload is not in UTF-8", id="latin-1"),
    ],
)
async def test_a_payload_that_nothing_could_read_is_refused(payload: str, message: str, command: Command) -> None:
    """As every other wrong payload: one line, exit code 2."""
    ended = await command("jobfn", "enqueue", "t", payload)
    assert ended.output.startswith(message)
    assert (ended.output.count("\n"), ended.code) == (0, 2)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"JOBS_SUPPORT_ANY": "perhaps"}, "JOBS_SUPPORT_ANY='perhaps'"),
        ({"INTERNAL_JOBS_CALLBACK_PORT": "99999"}, "INTERNAL_JOBS_CALLBACK_PORT='99999'"),
        ({"INTERNAL_GATEWAY_DEVELOPMENT_MAP": "{"}, "INTERNAL_GATEWAY_DEVELOPMENT_MAP='{'"),
        ({"KNATIVE_SERVICE_URL": "gateway:8080"}, "KNATIVE_SERVICE_URL='gateway:8080'"),
        ({"HOSTNAME": "w"}, "HOSTNAME='w'"),
        ({"JOBS_CONCURRENCY": "many"}, "JOBS_CONCURRENCY='many'"),
        ({"JOBS_HISTORY_DAYS": "-1"}, "JOBS_HISTORY_DAYS='-1'"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud'"),
    ],
)
async def test_a_malformed_variable_is_named(variables: dict[str, str], message: str, command: Command) -> None:
    """The service says which variable is wrong and exits with 2."""
    ended = await command("jobfn", "service", **variables)
    assert (ended.code, ended.output.startswith(f"jobfn: {message}")) == (2, True), ended.output


async def test_a_database_that_is_not_there_is_named_without_its_password(command: Command) -> None:
    """Exit code 1; the address is shown, the password is not."""
    ended = await command("jobfn", "db", "status", DATABASE_URL="postgresql://me:secret@127.0.0.1:1/shop")
    assert ended.code == 1
    assert "me:***@127.0.0.1:1/shop cannot be reached" in ended.output
    assert "secret" not in ended.output


async def test_the_schema_is_installed_and_shown(command: Command, empty_database: str) -> None:
    """status says what is missing (exit code 3), migrate installs it, twice changes nothing, status is content."""
    env = {"DATABASE_URL": empty_database}
    before = await command("jobfn", "db", "status", **env)
    assert before.code == 3
    assert "not installed" in before.output
    first = await command("jobfn", "db", "migrate", **env)
    assert (first.code, "applied 0001 tables" in first.output) == (0, True)
    second = await command("jobfn", "db", "migrate", **env)
    assert (second.code, second.output) == (0, "schema app_jobs is up to date")
    after = await command("jobfn", "db", "status", "--json", **env)
    shown = json.loads(after.output)
    assert (after.code, shown["kind"]) == (0, "jobfn")
    assert all(step["applied"] for step in shown["migrations"])


async def test_a_job_is_added_with_every_option(command: Command, database: str, jobs: Jobs) -> None:
    """enqueue prints the id; each option lands in its column."""
    ended = await command(
        *("jobfn", "enqueue", "email:send", '{"id": 7}', "--key", "k", "--queue", "q", "--priority", "-3"),
        *("--max-attempts", "2", "--run-at", "2040-01-31T09:00+01:00", "--database-id", TENANT),
        DATABASE_URL=database,
    )
    assert ended.code == 0, ended.output
    row = await jobs.row(int(ended.output))
    assert row is not None
    assert json.loads(row["payload"]) == {"id": 7}
    assert (row["task_identifier"], row["key"], row["queue_name"]) == ("email:send", "k", "q")
    assert (row["priority"], row["max_attempts"], str(row["database_id"])) == (-3, 2, TENANT)
    assert row["run_at"].isoformat() == "2040-01-31T08:00:00+00:00"


async def test_an_identifier_that_is_too_long_is_refused(command: Command, database: str, jobs: Jobs) -> None:
    """Exit code 1, PostgreSQL's reason, no job."""
    ended = await command("jobfn", "enqueue", "x" * 127, DATABASE_URL=database)
    assert ended.code == 1
    assert ended.output.startswith("jobfn: the job was not added")
    assert await jobs.count() == 0


async def test_version(command: Command) -> None:
    """--version prints the package's version."""
    assert (await command("jobfn", "--version")).output == "0.1.0"


async def test_a_port_that_is_taken_is_named(spawn: Spawn, command: Command, tmp_path: Path) -> None:
    """serve says that the port is taken, and exits with 2."""
    (tmp_path / "good.py").write_text('from jobfn import task\n@task("t")\ndef t(payload: dict) -> None: ...\n')
    first = await spawn("jobfn", "serve", "good.py", "--port", "0", "--host", "127.0.0.1")
    port = json.loads(await first.until("serving"))["port"]
    ended = await command("jobfn", "serve", "good.py", "--port", str(port), "--host", "127.0.0.1")
    assert (ended.code, f"cannot listen on 127.0.0.1:{port}" in ended.output) == (2, True)
