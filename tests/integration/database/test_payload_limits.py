"""Payloads have a maximum size, and a claim returns a limited amount of large ones."""

import json

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from support.commands import Command
from support.jobs import Jobs, StoreHarness

KIB = 1024
#: Calls that add a job with a payload of ``$1`` bytes.
ADD = {
    "add_job": "select app_jobs.add_job('x', {payload})",
    "add_job with key": "select app_jobs.add_job('x', {payload}, 'k')",
    "add_job for tenant": "select app_jobs.add_job('5b720132-17d5-424d-9bcb-ee7b17c13d43'::uuid, 'x', {payload})",
    "add_job with a literal": "select app_jobs.add_job('x', ({payload})::text)",
    "add_jobs": "select app_jobs.add_jobs('x', array['{{}}', {payload}]::json[])",
    "add_jobs with keys": "select app_jobs.add_jobs('x', array['{{}}', {payload}]::json[], array[null, 'k'])",
    "add_scheduled_job": "select app_jobs.add_scheduled_job('x', '0 9 * * *', {payload})",
    "trigger": "insert into pages values (repeat('secret', ($1 - 11) / 6))",
}
PAYLOAD = "to_json(repeat('secret', ($1::int - 2) / 6))"


def size(payload_bytes: int) -> str:
    """Return an expression for a payload of this size."""
    return f"to_json(repeat('x', {payload_bytes} - 2))"


@pytest.fixture
async def page_trigger(connection: asyncpg.Connection) -> None:
    """A table whose rows become jobs."""
    await connection.execute(
        """
        create table pages (text text);
        create trigger enqueue after insert on pages for each row execute function app_jobs.tg_add_job_with_row('x');
        """
    )


@pytest.mark.usefixtures("page_trigger")
@pytest.mark.parametrize("call", ADD)
async def test_payload_over_the_maximum_is_refused(connection: asyncpg.Connection, call: str) -> None:
    await migrate(connection, "app_jobs", max_payload_bytes=60_000)
    statement = ADD[call].format(payload=PAYLOAD)
    await connection.execute(statement, 59_996)
    with pytest.raises(asyncpg.ProgramLimitExceededError) as caught:
        await connection.execute(statement, 60_008)
    error = str(caught.value)
    assert error.startswith("the payload of a job of task 'x' has 600")
    assert "bytes, more than the maximum of 60000" in error
    assert "HINT:  Store the data elsewhere and put its address into the payload." in error
    assert "secret" not in error.partition("\n")[0] + caught.value.hint


async def test_default_maximum_is_10_mib(jobs: Jobs) -> None:
    await jobs.connection.execute(f"select app_jobs.add_job('x', {size(10 * KIB * KIB)})")
    with pytest.raises(
        asyncpg.ProgramLimitExceededError, match="has 10485761 bytes, more than the maximum of 10485760"
    ):
        await jobs.connection.execute(f"select app_jobs.add_job('x', {size(10 * KIB * KIB + 1)})")


@pytest.mark.parametrize("call", ["app_jobs.add_job('x', {0})", "app_jobs.add_jobs('x', array[{0}])"])
async def test_only_sizes_of_large_payloads_are_stored(jobs: Jobs, call: str) -> None:
    for payload_bytes in (16_384, 16_385):
        await jobs.connection.execute("select " + call.format(size(payload_bytes)))
    rows = await jobs.connection.fetch("select payload_bytes from app_jobs.jobs order by id")
    assert [row["payload_bytes"] for row in rows] == [None, 16_385]


@pytest.mark.parametrize("form", ["add_job('x', {0}, 'k')", "add_jobs('x', array[{0}], array['k'])"])
async def test_size_follows_the_payload_of_a_key(jobs: Jobs, form: str) -> None:
    for payload_bytes, expected in ((20_000, 20_000), (30_000, 30_000), (10, None)):
        await jobs.connection.execute("select app_jobs." + form.format(size(payload_bytes)))
        assert await jobs.connection.fetchval("select payload_bytes from app_jobs.jobs") == expected


@pytest.mark.parametrize("function", ["claim_jobs('worker'", "claim_jobs_of_queues('worker', array['', 'q']"])
async def test_claim_returns_large_payloads_up_to_a_total_size(jobs: Jobs, function: str) -> None:
    async def claim(max_bytes: int | None) -> list[int]:
        rows = await jobs.connection.fetch(
            f"select id from app_jobs.{function}, null, '4 hours', 10, max_payload_bytes := $1)", max_bytes
        )
        return [row["id"] for row in rows]

    for payload_bytes, queue in ((30_000, "null"), (10, "null"), (30_000, "'q'"), (40_000, "null"), (10, "'q2'")):
        await jobs.connection.execute(f"select app_jobs.add_job('x', {size(payload_bytes)}, queue_name := {queue})")
    small = [2, 5] if "queues" not in function else [2]
    assert await claim(65_000) == [*small, 1, 3]
    assert await claim(0) == []
    assert await claim(1) == [4]  # the first may exceed it
    assert await claim(None) == []
    row = await jobs.row(4)
    assert (row["attempts"], row["locked_by"]) == (1, "worker")


async def test_most_urgent_large_payloads_are_claimed_first(jobs: Jobs) -> None:
    for priority in (3, 1, 2):
        await jobs.connection.execute(f"select app_jobs.add_job('x', {size(30_000)}, priority := {priority})")
    claimed = await jobs.connection.fetch(
        "select priority from app_jobs.claim_jobs('worker', null, '4 hours', 10, max_payload_bytes := 60000)"
    )
    assert [row["priority"] for row in claimed] == [1, 2]
    unclaimed = await jobs.row(1)
    assert (unclaimed["attempts"], unclaimed["locked_at"]) == (0, None)


async def test_every_store_limits_the_large_payloads_of_a_claim(harness: StoreHarness) -> None:
    for number in range(4):
        await harness.add(payload=json.dumps({"text": "x" * 30_000, "number": number}))
    sizes = []
    for _ in range(2):
        claimed = await harness.store.claim("worker", tasks=None, limit=10, max_payload_bytes=61_000)
        sizes.append(len(claimed))
    assert sizes in ([2, 2], [3, 1])  # the platform's get_job returns the job that exceeds it


async def test_owner_sets_the_maximum_and_the_command_line_says_what_to_do(
    connection: asyncpg.Connection, database: str, invoke: Command
) -> None:
    refused = await invoke("jobfn", "db", "migrate", "--max-payload-bytes", "16383", DATABASE_URL=database)
    assert (refused.code, "16384" in refused.output) == (2, True), refused.output
    with pytest.raises(asyncpg.CheckViolationError, match="at_least_16_kib"):
        await connection.execute("select app_jobs.set_max_payload_bytes(16383)")
    migrated = await invoke("jobfn", "db", "migrate", "--max-payload-bytes", "16384", DATABASE_URL=database)
    assert "payloads of new jobs have at most 16384 bytes" in migrated.output
    added = await invoke("jobfn", "enqueue", "x", json.dumps("secret" * 3000), DATABASE_URL=database)
    assert added.code == 1
    assert "the payload of a job of task 'x' has 18002 bytes, more than the maximum of 16384" in added.output
    assert "Traceback" not in added.output
    assert "secretsecret" not in added.output
    assert await connection.fetchval("select count(*) from app_jobs.jobs") == 0
