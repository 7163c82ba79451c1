"""Limits, and a role that chooses the values that they count by."""

import asyncio
import json
from datetime import timedelta

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from support.commands import Command
from support.dashboard import OpenSite
from support.jobs import Jobs
from support.limits import assert_consistent, claim, held, set_limit
from support.roles import login_role

#: Jobs with keys of two each: one of the two is held.
ADD_PAIRS = """
    select app_jobs.add_jobs('sync', array(
        select json_build_object('customer', n / 2) from generate_series(0, 2 * $1::int - 1) n
    ))
"""
WAKEUPS = "select count(*) from app_jobs.limit_wakeups"
#: Payloads, and the keys that a limit per payload.customer counts them by.
ODD_VALUES = [
    ("{}", ""),
    ("[1, 2]", ""),
    ('"text"', ""),
    ("null", ""),
    ('{"customer": null}', ""),
    ('{"customer": ""}', ""),
    ('{"customer": "\\u0000"}', ""),
    ('{"customer": "\\ud800"}', ""),
    ('{"customer": {"id": 7}}', '{"id": 7}'),
    ('{"customer": [1, {"a": 2}]}', '[1, {"a": 2}]'),
    ('{"customer": 1e400}', "1e400"),
    ('{"customer": -0}', "-0"),
    ('{"customer": true}', "true"),
    ('{"customer": "\\u001b[2J\\r\\n\'; drop table app_jobs.jobs; --"}', "\x1b[2J\r\n'; drop table app_jobs.jobs; --"),
    ('{"customer": "a", "customer": "b"}', "b"),
    ('{"customer": "' + "x" * 201 + '"}', "md5:3ea01af1716230e4a1484e78b3199f61"),
]


async def test_any_value_of_a_payload_is_a_key(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", per="payload.customer", concurrency=1)
    for payload, _ in ODD_VALUES:
        await jobs.connection.execute("select app_jobs.add_job('sync', $1::json)", payload)
    missing = [number for number, (_, key) in enumerate(ODD_VALUES, 1) if key == ""]
    running = await claim(jobs.connection, 100)
    assert running == [number for number in range(1, len(ODD_VALUES) + 1) if number not in missing[1:]]
    assert await held(jobs.connection) == missing[1:]
    rows = await jobs.connection.fetch("select job_id, key from app_jobs.limit_slots order by job_id")
    assert [tuple(row) for row in rows] == [(job, ODD_VALUES[job - 1][1]) for job in running]
    for job in running:
        await jobs.complete(job)
    assert await claim(jobs.connection, 100) == missing[1:2]
    await assert_consistent(jobs.connection)


@pytest.mark.parametrize("depth", [3, 60])
async def test_path_into_a_value_that_is_not_an_object_is_a_missing_value(jobs: Jobs, depth: int) -> None:
    await set_limit(jobs.connection, "sync", per="payload" + ".a" * depth, concurrency=1)
    nested: object = 1
    for _ in range(depth - 1):
        nested = {"a": nested}
    for payload in (nested, {"a": "text"}, {"a": []}):
        await jobs.connection.execute("select app_jobs.add_job('sync', $1::json)", json.dumps(payload))
    assert (len(await claim(jobs.connection, 10)), len(await held(jobs.connection))) == (1, 2)


async def test_odd_keys_do_not_steer_the_terminal_or_the_browser(
    jobs: Jobs, database: str, invoke: Command, open_site: OpenSite
) -> None:
    hostile = "a\x1b]0;title\x07\x9b31m\u202eb\r</td><script>x</script>"
    await set_limit(jobs.connection, "sync", per="payload.customer", concurrency=1)
    for _ in range(2):
        await jobs.add("sync", {"customer": hostile})
    await claim(jobs.connection, 1)
    listed = await invoke("jobfn", "limits", "list", "--keys", DATABASE_URL=database)
    assert not set(listed.output) & set("\x1b\x07\x9b\u202e\r")
    assert r"a\x1b]0;title\x07\x9b31m\u202eb\r</td>" in listed.output
    page = (await (await open_site()).get("/limits")).text
    assert ("<script>x" in page, "&lt;script&gt;x" in page) == (False, True)


async def test_many_keys_delay_no_claim_and_no_sweep(jobs: Jobs) -> None:
    """Each looks at 500 keys at a time, and those of a flood are a few thousand here."""
    connection = jobs.connection
    await set_limit(connection, "sync", task_identifier="sync", per="payload.customer", concurrency=1)
    await connection.execute(ADD_PAIRS, 3000)
    assert await connection.fetchval(WAKEUPS) == 3000
    honest = await jobs.add("honest", priority=-1)
    assert await claim(connection, 1) == [honest]
    left = await connection.fetchval(WAKEUPS)
    assert 3000 - left <= 2 * 500
    await connection.execute("select app_jobs.sweep_limits()")
    assert left - 500 <= await connection.fetchval(WAKEUPS) <= left + 500


async def test_times_at_which_many_keys_wake_are_handled_in_parts(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(
        connection,
        "sync",
        task_identifier="sync",
        per="payload.customer",
        rate_count=1,
        rate_interval=timedelta(hours=1),
    )
    await connection.execute(ADD_PAIRS, 1200)
    await connection.execute("delete from app_jobs.limit_wakeups")
    due = "insert into app_jobs.limit_keys select limit_name, key, null, now() from app_jobs.held_jobs"
    await connection.execute(due)
    honest = await jobs.add("honest", priority=-1)
    assert await claim(connection, 1) == [honest]
    assert await connection.fetchval("select count(*) from app_jobs.limit_keys where wake_at <= now()") >= 200


async def test_sweeps_reach_every_key_one_after_the_other(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", per="payload.customer", concurrency=1)
    await connection.execute(ADD_PAIRS, 1200)
    await connection.execute(
        "delete from app_jobs.jobs j where j.run_at <> 'infinity'; delete from app_jobs.limit_wakeups"
    )
    released = []
    for _ in range(3):
        await connection.execute("update app_jobs.limit_sweeps set swept_at = '-infinity'")
        await connection.execute("select app_jobs.sweep_limits()")
        released.append(await connection.fetchval("select count(*) from app_jobs.jobs where run_at <= now()"))
    assert released == [500, 1000, 1200]
    await assert_consistent(connection)


#: Statements about limits that a role with --grant-enqueue has no right to.
FORBIDDEN = (
    "select app_jobs.set_limit('mine', concurrency := 1)",
    "select app_jobs.remove_limit('sync')",
    "select app_jobs.pause_limit_key('sync', 'a', 'infinity')",
    "select app_jobs.pause_limits_of_job('worker', 1, 1, '1 hour')",
    "select app_jobs.pause_limits_of_jobs('{1}', 'infinity')",
    "select app_jobs.sweep_limits()",
    "select app_jobs.wake_limit_keys(1000)",
    "select app_jobs.limit_usage()",
    "select app_jobs.lock_limits()",
    "insert into app_jobs.limit_wakeups values ('sync', 'a')",
    "update app_jobs.limits set concurrency = 1000",
    "delete from app_jobs.limit_slots",
    "delete from app_jobs.limit_starts",
    "delete from app_jobs.held_jobs",
    "select * from app_jobs.limit_keys",
)


async def test_role_that_enqueues_changes_and_reads_no_limit(connection: asyncpg.Connection, database: str) -> None:
    await set_limit(connection, "sync", concurrency=1)
    async with login_role(connection, database) as role:
        await migrate(connection, "app_jobs", grants=Grants(enqueue=(role.name,)))
        other = await asyncpg.connect(role.dsn)
        try:
            await other.execute("select app_jobs.add_job('sync')")
            for statement in FORBIDDEN:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await other.execute(statement)
        finally:
            await other.close()


async def test_idle_workers_go_on_with_the_keys_that_are_left(jobs: Jobs, database: str) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", per="payload.customer", concurrency=1)
    await jobs.connection.execute(ADD_PAIRS, 1200)
    await jobs.connection.execute(
        "delete from app_jobs.limit_wakeups; insert into app_jobs.limit_wakeups "
        "select 'sync', 'no job of this key is held' from generate_series(1, 1200)"
    )
    listener = await asyncpg.connect(database)
    notified = asyncio.Event()
    await listener.add_listener("jobs:insert", lambda *_: notified.set())
    await claim(jobs.connection, 1, tasks=["another"])
    assert await jobs.connection.fetchval(WAKEUPS) == 200
    async with asyncio.timeout(30):
        await notified.wait()
    await listener.close()
